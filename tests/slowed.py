"""Runs that are slowed, to be ended before they are done; and how far they had come."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from astropy.io import fits

from support import program

EVERY_BAND = """
from masterframe.journal import bands
bands.SECONDS = bands.SHARE = 0
from masterframe.cli import program
program()
"""
"""The command line with a claim a band, where that is not waited for."""

CCDS = 22
TALL = 4, 96, 64
"""Frames, rows and columns of each image of the mosaics."""
SLOW = {"FAULT": "slow=100", "FAULT_PATH": "/mosaic_"}
"""Reads of bands that take so long that two workers need ten seconds."""
NO_SAMPLES = ["--set", "quality.frames.action=off"]
"""Options with which nothing of the mosaics but bands is read."""
SMALLEST = 1000
"""Bytes from which on a read is slowed, and counts as one for a band."""
MOSAIC = "night/master_bias_bin1x1.fits"


def compile_faults(folder):
    """Compile the library that slows, fails and kills; return its path."""
    target = folder / "faulty_io.so"
    source = Path(__file__).with_name("faulty_io.c")
    command = [program("gcc"), "-shared", "-fPIC", "-O1", "-o", target, source, "-ldl"]
    subprocess.run(command, check=True, capture_output=True)
    return str(target)


def start(night, out, *options, **environment):
    """Start a run, with what the library is asked for."""
    kept = {k: v for k, v in os.environ.items() if k in ("PATH", "HOME", "MASTERFRAME_CACHE")}
    words = ["run", night, "-o", out, "--set", "report=false", "--json", *options]
    return subprocess.Popen(
        [sys.executable, "-c", EVERY_BAND, *map(str, words)],
        env=kept | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process):
    """Wait for a run; return its exit code."""
    process.told, process.errors = process.communicate(timeout=240)
    assert "Traceback" not in process.errors, process.errors
    return process.returncode


def bytes_read(process):
    """Return the bytes that a run has read for its only product."""
    (product,) = json.loads(process.told)["products"]
    return product["bytes_read"]


def write_mosaics(folder):
    """Write a night of frames with several images, which have many bands together."""
    folder.mkdir()
    rng = np.random.default_rng(8)
    for number in range(TALL[0]):
        hdus = [fits.PrimaryHDU(), *(fits.ImageHDU(name=f"CCD{n}") for n in range(CCDS))]
        cards = {"IMAGETYP": "bias", "EXPTIME": 0.0, "DATE-OBS": f"2026-01-02T03:04:0{number}"}
        hdus[0].header.update({"INSTRUME": "TinyCam", **cards})
        for hdu in hdus[1:]:
            hdu.data = rng.integers(90, 110, TALL[1:]).astype(np.uint16)
        fits.HDUList(hdus).writeto(folder / f"mosaic_{number}.fits")
    return folder


def wait_until(condition, seconds=120.0):
    """Wait until a condition holds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def claim_of(out, master=MOSAIC):
    """Return how far a product has come: whole images, and rows of the next."""
    path = out / ".masterframe/parts" / f"{master}.journal"
    try:
        body = path.read_text().partition(" ")[2]
    except FileNotFoundError:
        return (0, 0)
    progress = json.loads(body)["progress"]
    return len(progress["finished"]), progress["row"]


def claimed_bytes(claim):
    """Return the bytes of the mosaics that need not be read again."""
    return TALL[0] * TALL[2] * 2 * (claim[0] * TALL[1] + claim[1])


ALL_BYTES = claimed_bytes((CCDS, 0))
"""Bytes of pixels of the mosaics."""


def rows_read(log, since=0):
    """Return how often each row of the mosaics was read for a band: (frame, image, row).

    Parameters
    ----------
    log : path
        What the library noted as READ_LOG; rows that are sampled one by one do not count.
    since : int
        Lines of it that are passed over.
    """
    read = np.zeros((TALL[0], CCDS, TALL[1]), int)
    row_bytes = 2 * TALL[2]
    places: dict[str, list[int]] = {}
    for line in log.read_text().splitlines()[since:]:
        path, offset, size = line.rsplit(" ", 2)
        if int(size) < SMALLEST:
            continue
        if path not in places:
            with fits.open(path) as hdus:
                places[path] = [hdu.fileinfo()["datLoc"] for hdu in hdus[1:]]
        image = np.searchsorted(places[path], int(offset), side="right") - 1
        first = (int(offset) - places[path][image]) // row_bytes
        frame = int(Path(path).stem.rpartition("_")[2])
        read[frame, image, first : first + int(size) // row_bytes] += 1
    return read


def of_claimed(read, claim):
    """Return those of rows that a product has not to do again; images are finished in order."""
    finished, row = claim
    return np.concatenate(
        [read[:, :finished].ravel(), read[:, finished : finished + 1, :row].ravel()]
    )


def bands_came(out, since, process):
    """Wait until a run has come further than it was."""
    wait_until(lambda: claim_of(out) > since or process.poll() is not None)
    assert process.poll() is None, process.communicate()
