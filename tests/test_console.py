"""What a terminal shows while work goes on, and what it must never show."""

import io
import os
import pty
import re
import select
import subprocess
import sys

import nbformat
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nbclient import NotebookClient

from masterframe import console
from masterframe.progress import Silent


@given(st.text())
def test_cleaned_text_is_printable_and_as_long(text):
    cleaned = console.clean(text)
    assert len(cleaned) == len(text)
    assert cleaned.isprintable()
    assert all(new in (old, "?") for old, new in zip(text, cleaned, strict=True))


def test_plain_lines_tell_of_begin_and_notes():
    stream = io.StringIO()
    reporter = console.PlainReporter(stream)
    reporter.begin("bias", 3_000_000, 3)
    reporter.advance(1_000_000)
    reporter.note("a\x1b[31mb")
    reporter.close()
    assert stream.getvalue() == "bias: 3 MB to read\na?[31mb\n"


def test_plain_progress_has_rate_and_time_left(monkeypatch):
    clock = iter([100.0, 110.0, 140.0])
    monkeypatch.setattr(console.time, "monotonic", lambda: next(clock))
    stream = io.StringIO()
    reporter = console.PlainReporter(stream)
    reporter.begin("bias", 4000, 4)
    reporter.advance(500)  # too early for a line
    reporter.advance(500)
    assert stream.getvalue().splitlines()[1:] == ["bias: 25%, 25 B/s, 120 s left"]


def test_progress_of_nothing_divides_by_nothing():
    reporter = console.PlainReporter(io.StringIO())
    reporter.begin("empty", 0, 0)
    reporter.advance(0)


def test_a_table_is_aligned_and_drops_empty_columns():
    rows = [("a", "", "1"), ("longer", "", "22\n")]
    assert console.table(("name", "none", "n"), rows).splitlines() == [
        "name    n",
        "a       1",
        "longer  22?",
    ]
    assert console.table(("name", "n"), []) == "name  n"


SHOW = """
import time
from masterframe.console import open_reporter
with open_reporter() as reporter:
    reporter.begin("master_[bold]bias", 4_000_000, 4)
    for _ in range(4):
        reporter.advance(1_000_000)
        time.sleep(0.15)
    reporter.begin("master_dark", 5_000_000, 5)
    reporter.advance(2_000_000)
    reporter.note("a note")
"""


def show(**environment):
    """Draw a bar on a terminal of its own; return all that reached it."""
    leader, follower = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", SHOW],
        stderr=follower,
        env={**os.environ, "COLUMNS": "90", **environment},
    )
    os.close(follower)
    shown = b""
    while select.select([leader], [], [], 30)[0]:
        try:
            piece = os.read(leader, 4096)
        except OSError:  # Linux tells the end of a terminal so
            break
        if not piece:
            break
        shown += piece
    os.close(leader)
    assert process.wait() == 0
    return shown.decode()


@pytest.mark.skipif(os.name != "posix", reason="needs a terminal of POSIX")
def test_a_terminal_gets_a_bar_with_rate_and_a_line_for_what_is_done():
    shown = show(TERM="xterm")
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown)
    assert "MB/s" in text
    assert re.search(r"master_\[bold\]bias: 4 MB in \d+\.\d s, ", text)
    assert "a note" in text
    assert "master_dark: 5 MB in" not in text  # it was not done


@pytest.mark.skipif(os.name != "posix", reason="needs a terminal of POSIX")
def test_a_terminal_that_cannot_draw_gets_plain_lines():
    assert show(TERM="dumb").splitlines() == [
        "master_[bold]bias: 4 MB to read",
        "master_dark: 5 MB to read",
        "a note",
    ]


CELLS = """
import time
import numpy as np
from astropy.io import fits
import masterframe as mf
from masterframe import console, store
for number in range(3):
    fits.writeto(f"bias_{number}.fits", np.full((9, 8), number, np.uint16))
made = mf.write_master("short.fits", mf.open_stack("bias_*.fits"))
---
with store.use_resources() as resources:
    resources.reporter.begin("long.fits", 4_000_000, 4)
    resources.reporter.note("never shown")
    for _ in range(3):
        time.sleep(0.7)
        resources.reporter.advance(1_000_000)
    1 / 0
---
with console.open_cell_reporter() as reporter:
    reporter.begin("ends.fits", 4_000_000, 4)
    time.sleep(1.1)
    reporter.advance(1_000_000)
"""


@pytest.mark.slow
def test_a_notebook_shows_a_line_for_long_work_and_empties_it_at_the_end(tmp_path):
    notebook = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(cell) for cell in CELLS.split("---")]
    )
    shown = []

    class Client(NotebookClient):
        def process_message(self, msg, cell, cell_index):
            if msg["msg_type"] in ("display_data", "update_display_data"):
                shown.append((cell_index, msg["content"]["data"]["text/plain"]))
            return super().process_message(msg, cell, cell_index)

    where = {"metadata": {"path": str(tmp_path)}}
    Client(
        notebook, timeout=120, kernel_name="python3", allow_errors=True, resources=where
    ).execute()
    first, second, third = (cell["outputs"] for cell in notebook.cells)
    assert first == []
    assert [index for index, _ in shown] == [1, 1, 2, 2]
    assert re.fullmatch(r"long\.fits: 50%, 1\.\d+ MB/s, 1 s left", shown[0][1])
    assert [text for _, text in shown[1::2]] == ["", ""]
    assert [output["output_type"] for output in second] == ["display_data", "error"]
    assert second[1]["ename"] == "ZeroDivisionError"
    assert shown[2][1].startswith("ends.fits: 25%")
    assert [output["data"]["text/plain"] for output in third] == [""]


def test_a_program_that_is_no_notebook_shows_nothing(capfd):
    with console.open_cell_reporter() as reporter:
        reporter.begin("a.fits", 2, 1)
        reporter.advance(2)
    assert isinstance(reporter, Silent)
    assert capfd.readouterr() == ("", "")
