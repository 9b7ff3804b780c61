"""The benchmarks work: commands take turns, ratios and memory are right, failures are told."""

import json
import shlex
import subprocess
import sys

import numpy as np
import pytest
from astropy.io import fits

from support import ROOT, program

COMPARE = ROOT / "benchmarks" / "compare.py"
SUITE = ROOT / "benchmarks" / "suite.py"
MB = 1_000_000


def compare(*arguments):
    return subprocess.run(
        [sys.executable, COMPARE, *map(str, arguments)],
        check=False,
        capture_output=True,
        text=True,
    )


def python(code):
    return shlex.join([sys.executable, "-S", "-c", code])


def test_ratio_and_turns(tmp_path):
    log = tmp_path / "log"
    result = compare(
        "--json",
        "--rounds=3",
        f"short=sh -c 'echo short >>{log}; sleep 0.05'",
        f"long=sh -c 'echo long >>{log}; sleep 0.25'",
    )
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout)
    assert found["short"]["ratios"] == [1, 1, 1]
    assert len(found["long"]["runs"]) == 3
    assert all(run["wall"] > 0.25 for run in found["long"]["runs"])
    assert sorted(found["long"]["ratios"])[1] > 1.5
    turns = log.read_text().split()
    assert turns == ["long", "short", "short", "long", "long", "short", "short", "long"]


def test_memory_of_one_process_and_of_the_tree():
    hold = "import time; held = b'x' * {}; time.sleep(0.3)"
    alone = python(hold.format(90 * MB))
    child = python(hold.format(60 * MB))
    pair = f"sh -c {shlex.quote(f'{child} & {child} & wait')}"
    result = compare("--json", "--rounds=1", f"alone={alone}", f"pair={pair}")
    assert result.returncode == 0, result.stderr
    alone_run, pair_run = (json.loads(result.stdout)[name]["runs"][0] for name in ("alone", "pair"))
    assert 90 * MB < alone_run["largest"] < 130 * MB
    assert alone_run["tree"] >= alone_run["largest"]
    assert pair_run["largest"] < alone_run["largest"]
    assert pair_run["tree"] > 120 * MB


def test_scratch_is_fresh_and_goes_away(tmp_path):
    log = tmp_path / "log"
    script = f'test -z "$(ls {{scratch}})" && touch {{scratch}}/out && echo {{scratch}} >>{log}'
    write = f"sh -c '{script}'"
    result = compare("--rounds=1", f"one={write}", f"two={write}")
    assert result.returncode == 0, result.stderr
    folders = log.read_text().split()
    assert len(set(folders)) == len(folders) == 4
    assert not any((tmp_path / folder).exists() for folder in folders)


def test_table_names_each_command(tmp_path):
    data = tmp_path / "data"
    data.write_bytes(b"x" * 5000)
    for cold in ([], ["--cold"]):
        result = compare("a=true", "second=true", "--rounds=1", *cold, "--data", data)
        assert result.returncode == 0, result.stderr
        header, first, second = result.stdout.splitlines()
        assert "ratio" in header
        assert first.split()[0] == "a"
        assert second.split()[0] == "second"


def test_failures_are_told():
    failed = compare("good=true", "bad=sh -c 'echo reason >&2; exit 3'", "--rounds=1")
    assert (failed.returncode, failed.stderr.strip()) == (1, "bad ended with 3: reason")
    absent = compare("good=true", "bad=no-such-program-here", "--rounds=1")
    assert absent.returncode == 1
    assert "no-such-program-here" in absent.stderr
    slow = compare("good=true", "slow=sh -c 'sleep 60'", "--timeout=0.2", "--rounds=1")
    assert (slow.returncode, slow.stderr.strip()) == (1, "slow took longer than 0.2 s")


def test_usage_is_checked():
    for arguments in (["one=true"], ["same=true", "same=true"], ["a=true", "b"]):
        assert compare(*arguments).returncode == 2


def test_peers_agree_with_brute_force(tmp_path):
    random = np.random.default_rng(5)
    values = random.normal(300, 4, (9, 13, 17)).round()
    values[3, 5, 7] = 4000
    inputs = [tmp_path / f"{index}.fits" for index in range(len(values))]
    for path, pixels in zip(inputs, values, strict=True):
        fits.writeto(path, pixels.astype(np.uint16))
    median = np.median(values, axis=0)
    distance = np.abs(values - median)
    kept = distance <= 5 * np.median(distance, axis=0) / 0.6744897501960817
    expected = np.mean(values, axis=0, where=kept)
    assert not kept[3, 5, 7]
    peers = sorted((ROOT / "benchmarks" / "peers").glob("*.py"))
    assert peers
    for peer in peers:
        output = tmp_path / f"{peer.stem}.out.fits"
        subprocess.run([sys.executable, peer, output, *inputs], check=True, capture_output=True)
        np.testing.assert_allclose(fits.getdata(output), expected, rtol=2e-6)


@pytest.mark.slow
@pytest.mark.system
def test_the_suite_runs(tmp_path):
    """Every program combines the same frames, plain and compressed; a table, a plot, a document."""
    for name in ("irafcl", "siril-cli", "astarithmetic"):
        program(name)
    command = [sys.executable, SUITE, "base", "form", "--shrink=64", "--rounds=1"]
    result = subprocess.run(
        [*command, f"--output={tmp_path}"], check=False, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    runs = json.loads((tmp_path / "runs.json").read_text())
    every = ["masterframe", "Siril", "IRAF", "gnuastro", "ccdproc", "astropy", "cat"]
    assert [item["program"] for item in runs if item["case"] == "60 x 4k uint16"] == every
    assert {item["case"] for item in runs} == {"60 x 4k uint16", "gz", "fz"}
    assert (tmp_path / "table.md").read_text() == result.stdout
    assert "<svg" in (tmp_path / "throughput.svg").read_text()


@pytest.mark.slow
@pytest.mark.system
def test_the_benchmark_of_formats_runs():
    program("funpack")
    command = [sys.executable, ROOT / "benchmarks" / "formats.py", "2", "64"]
    result = subprocess.run(command, check=False, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    rows = [line.split(", ")[0] for line in result.stdout.splitlines()[2:]]
    assert rows[:4] == ["RICE_1", "RICE_1 of 16 rows", "GZIP_1", "GZIP_2"]
    assert "gzip" in rows


@pytest.mark.slow
@pytest.mark.system
def test_the_benchmark_of_rules_runs():
    program("irafcl")
    program("siril-cli")
    sizes = ["--frames=5", "--rows=20", "--columns=30", "--rounds=1"]
    result = subprocess.run(
        [sys.executable, SUITE.parent / "rules.py", *sizes, "iraf-minmax", "siril-percentile"],
        check=False,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    names = [line.split()[0] for line in result.stdout.splitlines()[2:]]
    assert names == ["iraf-minmax", "siril-percentile"]


@pytest.mark.slow
def test_the_benchmark_of_workers_runs():
    sizes = ["--frames=5", "--size=64", "--rounds=1"]
    command = [sys.executable, ROOT / "benchmarks" / "workers.py", *sizes]
    result = subprocess.run(command, check=False, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    rows = [line[:24].strip() for line in result.stdout.splitlines()[2:]]
    assert rows == ["threads, 1 over 2", "processes, 1 over 2", "processes over threads"]
    for line in result.stdout.splitlines()[2:]:
        first, second, ratio = map(float, line[24:].split()[:3])  # of wall time
        assert min(first, second) >= 0
        assert ratio > 0


@pytest.mark.slow
def test_the_benchmark_of_tasks_runs():
    command = [sys.executable, ROOT / "benchmarks" / "tasks.py", "--workers=1", "--tasks", "9"]
    result = subprocess.run(command, check=False, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    rows = [line[:34].strip() for line in result.stdout.splitlines()[1:]]
    tasks, masters = rows[:2], rows[2:]
    assert tasks == ["tasks that give 0.00 MB", "tasks that give 0.85 MB"]
    how = ("one a task", "together")
    assert masters == [f"bands of {n} frames, {each}" for each in how for n in (5, 1000)]


def test_the_benchmark_of_quality_runs():
    command = [sys.executable, ROOT / "benchmarks" / "quality.py", "--json"]
    small = ["--frames=5", "--size=200", "--rounds=1"]
    result = subprocess.run([*command, *small], check=False, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout)
    for clock in (0, 1):
        parts = [found[name][clock] for name in ("frames", "masters")]
        assert min(parts) > 0
        assert found["together"][clock] == pytest.approx(sum(parts))


@pytest.mark.slow
def test_the_benchmark_of_growth_runs():
    lines = printed("growth.py", "--shrink=64", "--rounds=1")
    cases = [tuple(map(int, line.split()[:2])) for line in lines[2:]]
    assert cases == [*((n, 64) for n in (10, 60, 300, 1000)), (60, 16), (60, 32), (60, 128)]
    for line in lines[2:]:
        whole, bands, wall, _ = map(float, line.split()[2:])
        assert 0 < bands < whole
        assert wall > 0


def printed(name, *options):
    """Run a benchmark on something small; return the lines that it prints."""
    command = [sys.executable, ROOT / "benchmarks" / name, *options]
    result = subprocess.run(command, check=False, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return result.stdout.splitlines()


@pytest.mark.slow
def test_the_benchmark_of_the_kernel_runs():
    (row,) = printed("kernel.py", "5")[1:]
    frames, mean, *found = row.replace("x", "").split()
    assert frames == "5"
    assert len(found) == 6
    assert min(map(float, (mean, *found))) > 0


@pytest.mark.slow
def test_the_benchmark_of_starting_runs():
    lines = printed("startup.py", "--frames=3", "--size=64", "--rounds=1")
    phases = lines[lines.index("    wall     processors (s)") + 1 : -1]
    times = [float(line.split()[0]) for line in phases]
    assert times == sorted(times)
    assert [line[17:].strip() for line in phases] == [
        *("modules", "headers", "kernels", "first bands asked for", "all bands written"),
        *("measured", "checksums, tables, on the disk", "end"),
    ]
    assert lines[-1].startswith("whole process ")


@pytest.mark.slow
def test_the_benchmark_of_nights_runs():
    lines = printed("nights.py", "--nights=1")[2:]
    steps = ("scan", "plan", "first run", "plan with nothing to do", "run with nothing to do")
    assert all(line.startswith(step) for line, step in zip(lines, steps, strict=True))


@pytest.mark.slow
def test_the_benchmark_of_products_runs():
    lines = printed("products.py", "--frames=5", "--size=128", "--rounds=1")[2:]
    products = ["bias as it is", "master_bias", "master_dark", "master_flat"]
    assert [line[: len(name)] for line, name in zip(lines, products, strict=True)] == products
    assert all(float(line[32:].split()[0]) > 0 for line in lines)


@pytest.mark.slow
def test_the_benchmark_of_mosaics_runs():
    _, _, *rows = printed("mosaic.py", "--size=64", "--frames=3", "--rounds=1")
    assert [row[:12].strip() for row in rows] == ["wall (s)", "processors"]
    for row in rows:
        mosaic, single, ratio = map(float, row[12:].split()[:3])
        assert mosaic / single == pytest.approx(ratio, rel=0.02)


@pytest.mark.slow
def test_the_benchmark_of_memory_runs():
    (row,) = printed("memory.py", "--rounds=1", "--only=4")[1:]
    frames, size, limit, _, _, peak, *_ = row.split()
    assert (frames, size, limit) == ("10", "1024", "400MB")
    assert 0 < float(peak) < 400
