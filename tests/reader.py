"""What a reader of the documentation has: a copy of the project, an environment, and a shell.

Nothing is imitated: commands run as they stand. Two things spare minutes and harm nothing. What
`pip` would download is there already, as links to the packages of this environment, and variables
of pytest's and make's own let `make test` run one file of the tests.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from support import ROOT

NOT_COPIED = shutil.ignore_patterns(
    ".git", ".venv", ".*_cache", ".hypothesis", "__pycache__", "build", "dist", "site", "demo"
)
SERVERS = ("jupyter lab",)
"""Commands that end when their reader ends them."""
SECONDS = 60


def call(*command: Any, **options: Any) -> str:
    """Run a command that must succeed; return what it prints."""
    done = subprocess.run(
        [str(word) for word in command], capture_output=True, text=True, check=False, **options
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return done.stdout


def dependencies(folder: Path) -> Path:
    """Fill a folder with links to the packages of this environment, masterframe left out."""
    folder.mkdir()
    for entry in Path(sysconfig.get_path("purelib")).iterdir():
        if "masterframe" not in entry.name:  # the editable install, which would find the checkout
            (folder / entry.name).symlink_to(entry)
    (folder / "bin").symlink_to(sysconfig.get_path("scripts"))  # where packages look for programs
    return folder


def environment(home: Path, packages: Path) -> Path:
    """Make an environment that has the packages of a folder and no other; return its programs."""
    call(sys.executable, "-m", "venv", home)
    ask = "import sysconfig; print(sysconfig.get_path('purelib'))"
    place = Path(call(home / "bin" / "python", "-c", ask).strip())
    (place / "dependencies.pth").write_text(f"{packages}\n")
    return home / "bin"


@dataclass(frozen=True)
class Reader:
    """Someone with a copy of the project and an environment of their own."""

    project: Path
    """The copy, in which commands run."""
    variables: dict[str, str]
    """The environment of commands."""

    @classmethod
    def at(cls, folder: Path) -> Reader:
        """Settle in a folder."""
        project = folder / "project"
        shutil.copytree(ROOT, project, ignore=NOT_COPIED)
        packages = dependencies(folder / "packages")
        programs = environment(folder / "environment", packages)
        jupyter = folder / "jupyter"
        jupyter.mkdir()
        quiet = {"open_browser": False, "allow_root": True, "port": 0}
        (jupyter / "jupyter_server_config.json").write_text(json.dumps({"ServerApp": quiet}))
        return cls(
            project,
            os.environ
            | {
                "PATH": f"{programs}:{packages / 'bin'}:/usr/local/bin:/usr/bin:/bin:/usr/sbin",
                "PYTHONPATH": str(packages),  # seen by the environment that make makes, too
                "PYTEST_ADDOPTS": "tests/test_tiling.py",
                "JOBS": "1",
                "MYPY_CACHE_DIR": str(ROOT / ".mypy_cache"),
                "JUPYTER_CONFIG_DIR": str(jupyter),
                "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            },
        )

    def run(self, line: str, **more: str) -> str:
        """Run a line of a shell; return what it prints."""
        if line.startswith(SERVERS):
            return self._serve(line)
        return call("bash", "-c", line, cwd=self.project, env=self.variables | more)

    def _serve(self, line: str) -> str:
        """Start a server, open the page that it names, and end it."""
        with self._started(line) as (process, log):
            end = time.monotonic() + SECONDS
            while not (found := re.search(r"http://localhost:\S+", log.read_text())):
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < end, log.read_text()
                time.sleep(0.1)
            with urllib.request.urlopen(found[0], timeout=SECONDS) as page:
                return str(page.read().decode())

    @contextlib.contextmanager
    def _started(self, line: str) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
        log = self.project / "server.log"
        with log.open("wb") as file:
            process = subprocess.Popen(
                ["bash", "-c", f"exec {line}"], cwd=self.project, env=self.variables,
                stdout=file, stderr=file, start_new_session=True,
            )  # fmt: skip
        try:
            yield process, log
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait(SECONDS)
