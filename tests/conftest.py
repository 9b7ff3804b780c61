"""What holds for every test: its environment, hypothesis profiles, and that nothing is skipped."""

import os
import subprocess
import sys

import pytest
from hypothesis import settings

from support import REQUIRE_ALL, ROOT

# Compiled kernels are kept between runs, apart from those of the user; programs started by tests
# inherit the folder.
os.environ.setdefault("MASTERFRAME_CACHE", str(ROOT / ".pytest_cache" / "masterframe"))
os.environ["MPLBACKEND"] = "Agg"

# No deadline: the first example of a kernel may compile it. Derandomized, so that a change is
# judged by the same examples everywhere; `--hypothesis-profile=explore` looks for new ones.
settings.register_profile("quick", max_examples=25, deadline=None, derandomize=True)
settings.register_profile("thorough", max_examples=200, deadline=None, derandomize=True)
settings.register_profile("explore", max_examples=2000, deadline=None, print_blob=True)
settings.load_profile("quick")


def refuse_skip(report):
    """Turn a skip into a failure where nothing may be skipped."""
    if REQUIRE_ALL and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped, and MASTERFRAME_REQUIRE=all: {report.longrepr}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport():
    return refuse_skip((yield))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report():
    return refuse_skip((yield))


HOLD = """
import sys, time
from pathlib import Path
from masterframe import journal
with journal.lock(Path(sys.argv[1])):
    print("locked", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def holder(tmp_path):
    """Return a process that holds the output folder until it is killed."""

    command = [sys.executable, "-c", HOLD, str(tmp_path / "out")]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"locked\n"
        yield process
        process.kill()
