"""What the tests share: where real data and outside programs are, or why a test is skipped."""

import os
import shutil
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
REQUIRE_ALL = os.environ.get("MASTERFRAME_REQUIRE") == "all"


def unavailable(what: str) -> None:
    """Skip the test, or fail it where nothing may be skipped."""
    if REQUIRE_ALL:
        pytest.fail(f"{what} is missing, and MASTERFRAME_REQUIRE=all")
    pytest.skip(f"{what} is missing")


def shared(path: str) -> Path:
    """Return a file or folder of the real data that lie beside the checkout."""
    found = ROOT.parent / "shared" / path
    if not found.exists():
        unavailable(f"../shared/{path}")
    return found


def program(name: str) -> str:
    """Return the path of an outside program."""
    found = shutil.which(name)
    if found is None:
        unavailable(f"the program {name}")
    return str(found)
