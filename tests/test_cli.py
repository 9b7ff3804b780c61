"""The command line as a user meets it, judged by what it prints and returns."""

import json
import os
import signal
import subprocess
import sys
import threading

import pytest

import nights
from masterframe import journal
from masterframe.simulate import DEFECTS, Camera, NightSpec, simulate_night

COMMANDS = (
    "combine",
    "scan",
    "plan",
    "run",
    "init",
    "simulate",
    "demo",
    "doctor",
    "explain",
    "verify",
    "report",
    "status",
)


def environment():
    """The environment of a user: Python may keep its bytecode."""
    return {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}


def start(*arguments, **options):
    command = [sys.executable, "-m", "masterframe", *map(str, arguments)]
    return subprocess.Popen(
        command,
        env=environment(),
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=nights.listen_to_interrupts,
        **options,
    )


def masterframe(*arguments, code=0, **options):
    """Run a command to its end; return what it printed and what it complained of."""
    process = start(*arguments, **options)
    out, err = process.communicate(timeout=240)
    assert process.returncode == code, err
    assert "Traceback" not in out + err
    return out, err


@pytest.fixture
def command(capsys, monkeypatch, tmp_path_factory):
    """Run a command in this process, which is faster; return its code, output and complaints."""
    monkeypatch.chdir(tmp_path_factory.mktemp("here"))
    return lambda *arguments: nights.call(capsys, monkeypatch, *arguments)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A tiny night and its products."""
    folder = tmp_path_factory.mktemp("user")
    nights.night(folder / "night")
    masterframe("run", folder / "night", "-o", folder / "out")
    return folder


# --- start ----------------------------------------------------------------------------------------


def test_a_run_tells_what_it_begins_with_before_it_reads(folder):
    with start("run", folder / "night", "-o", folder / "out") as process:
        assert str(folder / "night") in process.stdout.readline()
        process.communicate(timeout=240)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself(name, command):
    code, out, err = command(name, "-h")
    assert code == 0
    assert f" {name} [OPTIONS]" in out.splitlines()[0]
    assert "list[" not in out.partition("Options:")[2]
    assert not err


def test_help_names_every_command_in_a_whole_line(command):
    _, out, _ = command("--help")
    listed = [line.split()[0] for line in out.partition("Commands:")[2].splitlines() if line]
    assert listed == list(COMMANDS)
    assert "..." not in out.partition("Commands:")[2]


# --- exit codes and errors ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["run", "nowhere"], 2, "nowhere does not exist"),
        (["run", "{night}", "--set", "recipes.bias.lo=4"], 2, "did you mean low?"),
        (["run", "{night}", "--memory", "much"], 2, "--memory: 'much' is no size"),
        (["run", "{night}", "-o", "{out}", "--scheduler", "thread"], 2, "threads, processes"),
        (["combine", "{night}/bias_0.fits", "-o", "{new}", "--reject", "sgma"], 2, "mean sigma?"),
        (["combine", "{night}/bias_*.fits", "-o", "{made}"], 3, "exists"),
        (["combine", "{night}/nothing_*.fits", "-o", "{new}"], 2, "nothing_*.fits"),
        (["init", "{night}", "-o", "{made}"], 3, "--overwrite"),
        (["simulate", "{new}", "--defect", "trunc"], 2, "choose from truncated"),
        (["simulate", "{new}", "--flat", "V"], 2, "--flat V: write --flat KEY=N"),
        (["demo", "{night}"], 3, "no demo made"),
    ],
)
def test_an_error_is_one_line_and_a_code(arguments, code, said, folder, tmp_path, command):
    names = {
        "night": folder / "night",
        "out": folder / "out",
        "made": folder / "out" / "night" / "master_bias_bin1x1.fits",
        "new": tmp_path / "new",
    }
    assert names["made"].exists()
    given, out, err = command(*(text.format(**names) for text in arguments))
    assert given == code
    *progress, line = err.splitlines()
    assert all(text.endswith("to read") for text in progress)
    assert line.startswith("masterframe: ")
    assert said in line
    assert len(out.splitlines()) == 1
    assert not names["new"].exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [(["run", "--memry", "2GB", "x"], "--memory"), (["rnu"], "run"), (["scan"], "PATHS")],
)
def test_a_call_that_cannot_be_understood_names_what_may_be_meant(arguments, said, command):
    code, out, err = command(*arguments)
    assert code == 2
    assert said.lower() in err.splitlines()[-1].lower()
    assert not out


def test_a_blocked_product_gives_exit_code_1(tmp_path, command):
    night = nights.night(tmp_path / "night", flat=0, science=2)
    wanted = ("--set", "recipes.science.require=[flat]")
    code, out, err = command("run", night, "-o", tmp_path / "out", *wanted)
    assert code == 1
    assert "1 made, 2 blocked" in out.splitlines()[-1]
    assert "science_0: blocked" in err


def test_an_output_folder_in_use_is_named(folder, tmp_path, command):
    out = tmp_path / "out"
    with journal.lock(out):
        code, _, err = command("run", folder / "night", "-o", out)
    assert code == 4
    assert f"process {os.getpid()}" in err


# --- documents ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "keys"),
    [
        (["scan", "{night}"], {"frames", "problems"}),
        (["scan", "--explain", "{night}/bias_0.fits"], {"files", "problems"}),
        (["plan", "{night}", "-o", "{out}"], {"products", "left_out", "problems", "notes"}),
        (["run", "{night}", "-o", "{out}"], {"products", "seconds", "exit_code"}),
        (["doctor"], {"ok", "checks", "version"}),
        (["combine", "{night}/bias_*.fits", "-o", "{new}"], {"path", "n_frames", "numbers"}),
    ],
)
def test_json_is_all_that_is_printed(arguments, keys, folder, tmp_path, command):
    names = {"night": folder / "night", "out": folder / "out", "new": tmp_path / "new.fits"}
    code, out, _ = command(*(text.format(**names) for text in arguments), "--json")
    assert code == 0
    assert keys <= json.loads(out).keys()


def test_a_second_run_is_up_to_date_and_a_table_says_so(folder, command):
    _, out, _ = command("run", folder / "night", "-o", folder / "out")
    assert "3 up to date" in out.splitlines()[-1]
    log = (folder / "out" / ".masterframe" / "run.log").read_text().splitlines()
    assert any("INFO night/master_bias_bin1x1: made" in line for line in log)
    assert any("INFO night/master_bias_bin1x1: up to date" in line for line in log)


# --- interruptions --------------------------------------------------------------------------------


def test_ctrl_c_ends_a_run_and_the_next_one_goes_on(tmp_path):
    # Frames large enough that the bias master is still being made when it is interrupted.
    spec = NightSpec(
        Camera(shape=(1500, 2000)), bias=9, darks={60.0: 3}, flats={"V": 4}, science={"V": 2}
    )
    truth = simulate_night(tmp_path, spec)
    out = tmp_path / "out"
    process = start("run", truth.night, "-o", out, "--workers", 1)
    errors = []
    begun = threading.Event()

    def listen():
        for line in process.stderr:
            errors.append(line)
            begun.set()

    listener = threading.Thread(target=listen)
    listener.start()
    assert begun.wait(120)  # the first master has begun
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 130
    listener.join()
    process.stdout.close()
    process.stderr.close()
    assert errors[-1].startswith("masterframe: interrupted")
    assert "Traceback" not in "".join(errors)
    assert not [path for path in out.rglob("*") if ".part" in path.name]
    first = set(nights.files_in(out))
    masterframe("run", truth.night, "-o", out)
    assert first < set(nights.files_in(out))
    assert len(nights.files_in(out)) == 5
    assert "ERROR the run ends early" in (out / ".masterframe" / "run.log").read_text()


ENDING = """
import atexit, sys, time
from masterframe.cli import program

def end():
    print("ending", flush=True)
    time.sleep(1)
    print("ended", flush=True)

atexit.register(end)
sys.argv[1:] = ["doctor", "--help"]
program()
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_what_is_cleaned_up_at_the_end_is_not_disturbed(number):
    process = subprocess.Popen(
        [sys.executable, "-c", ENDING], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    while process.stdout.readline() != "ending\n":
        assert process.poll() is None
    process.send_signal(number)
    told, errors = process.communicate(timeout=60)
    assert (told, errors, process.returncode) == ("ended\n", "", 0)


@pytest.mark.skipif(os.name != "posix", reason="a shell with pipes")
def test_a_reader_that_has_enough_leaves_no_noise(folder):
    command = f"{sys.executable} -m masterframe scan {folder / 'night'} | head -n 1"
    done = subprocess.run(
        command, shell=True, capture_output=True, text=True, env=environment(), check=True
    )
    assert done.stdout.count("\n") == 1
    assert not done.stderr


# --- commands that make their input ---------------------------------------------------------------


def test_simulate_makes_the_night_that_was_asked_for(tmp_path, command):
    shape = ("--rows", 24, "--columns", 40, "--overscan", 8)
    counts = ("--bias", 2, "--dark", "60=1", "--dark", "9=3", "--flat", "V=4", "--science", "0")
    folder = tmp_path / "made"
    command("simulate", folder, *shape, *counts, "--defect", "not_fits", "--seed", 7)
    names = [path.name for path in (folder / "night").iterdir()]
    assert len(names) == 2 + 1 + 3 + 4 + 1
    document = json.loads(command("scan", folder / "night", "--json")[1])
    assert {tuple(frame["shape"]) for frame in document["frames"]} == {(24, 48)}
    assert len(document["problems"]) == 1


def test_simulate_knows_every_defect_as_all(tmp_path, command):
    command("simulate", tmp_path, "--rows", 20, "--columns", 28, "--defect", "all")
    names = {path.name for path in (tmp_path / "night").iterdir()}
    assert len(names) == 10 + 10 + 10 + 5 + len(DEFECTS)


def test_init_writes_what_plan_reads(folder, tmp_path, command):
    _, out, _ = command("init", folder / "night", "-o", tmp_path / "night.yaml")
    assert "next: masterframe plan" in out
    asked = ("plan", folder / "night", "-o", folder / "out", "--json")
    _, plain, _ = command(*asked)
    _, written, _ = command(*asked, "-c", tmp_path / "night.yaml")
    assert json.loads(written) == json.loads(plain)
