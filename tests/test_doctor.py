"""The doctor names what is there and what is missing, and never falls ill over it."""

import json
import os
import re
import subprocess
import sys

import pytest

from masterframe import doctor
from support import ROOT


@pytest.fixture(scope="module")
def checks():
    return doctor.examine()


def test_a_working_machine_is_ready(checks):
    by_name = {check.name: check for check in checks}
    assert {"Python", "numba", "cores", "memory", "open files", "kernel cache"} <= by_name.keys()
    assert by_name["kernel"].ok, by_name["kernel"]
    assert "agrees with numpy" in by_name["kernel"].text
    assert doctor.exit_code(checks) == 0
    assert doctor.as_text(checks).endswith("ready to combine")
    assert all(check.hint for check in checks if not check.ok)


def test_the_document_is_json(checks):
    document = json.loads(json.dumps(doctor.as_document(checks)))
    assert document["ok"] is True
    assert len(document["checks"]) == len(checks)


def test_only_what_is_needed_decides():
    good = doctor.Check("a", True, "there")
    lacking = doctor.Check("b", False, "not there", "fetch it", needed=False)
    broken = doctor.Check("c", False, "broken\x1b[2J", "mend it")
    assert doctor.exit_code([good, lacking]) == 0
    assert doctor.exit_code([good, broken]) == 1
    text = doctor.as_text([good, lacking, broken])
    assert "-> fetch it" in text
    assert "\x1b" not in text
    assert text.endswith("1 problem")


@pytest.mark.slow
def test_it_tells_how_much_is_compiled_and_when_it_compiles(tmp_path):
    code = "from masterframe import doctor\n"
    code += "told = []; checks = doctor.examine(told.append)\n"
    code += "print(next(item.text for item in checks if item.name == 'kernel cache')); print(told)"
    home = tmp_path / "cache"
    first = look(code, MASTERFRAME_CACHE=str(home))[1]
    second = look(code, MASTERFRAME_CACHE=str(home))[1]
    assert first[-2].endswith("empty: the first run fills it, by compiling")
    assert "compiling" in first[-1]
    assert re.search(r"\d+ compiled functions$", second[-2])
    assert second[-1] == "[]"


def look(code, *path, **environment):
    """Run a piece of Python in a process of its own; return its exit code and output."""
    found = os.pathsep.join([*map(str, path), str(ROOT / "src")])
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": found, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Traceback" not in done.stdout + done.stderr
    return done.returncode, done.stdout.splitlines()


@pytest.mark.parametrize("package", ["numba", "numpy"])
def test_a_missing_package_is_named_without_a_traceback(package, tmp_path):
    (tmp_path / f"{package}.py").write_text("raise ImportError('hidden by the test')")
    command = "import sys; from masterframe.cli import main; sys.argv[1:] = ['doctor']; main()"
    code, lines = look(command, tmp_path)
    assert code == 1
    assert any(line.startswith(f"BAD  {package} ") for line in lines)
    assert lines[-1].endswith(" problems")


def test_a_cache_that_cannot_be_kept_is_a_note(tmp_path):
    (tmp_path / "file").write_text("in the way")
    command = "from masterframe import doctor; print(doctor.as_text([doctor._cache()]))"
    code, lines = look(command, MASTERFRAME_CACHE=str(tmp_path / "file"))
    assert code == 0
    assert lines[0].startswith("note kernel cache")
    assert "-> Set MASTERFRAME_CACHE" in lines[1]
