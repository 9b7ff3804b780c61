"""Compressed frames: the same bits as plain ones, each byte unpacked once, nothing left behind."""

import bz2
import gzip
import lzma
import os
import shutil
import subprocess
import sys
import textwrap
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

import nights
from masterframe import direct, forecast, listing, open_stack, scratchfolder, store
from masterframe.errors import FrameError, StorageError
from masterframe.fits import counter, read_rows, scan_file, scratch, tables
from masterframe.request import read_options
from support import shared

PACKERS = {"gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress}
N, SHAPE = 6, (96, 131)


def frames_of(folder: Path, dtype="uint16") -> list[Path]:
    """Write noisy frames, with outliers that the rule rejects."""
    rng = np.random.default_rng(5)
    paths = []
    for n in range(N):
        image = rng.normal(1000, 10, SHAPE)
        image[rng.integers(0, SHAPE[0], 40), rng.integers(0, SHAPE[1], 40)] += 3000
        hdu = fits.PrimaryHDU(image.astype(dtype))
        hdu.header["DATE-OBS"] = f"2026-11-27T22:0{n}:00"
        hdu.header["EXPTIME"] = 10.0 + n
        paths.append(folder / f"f{n}.fits")
        hdu.writeto(paths[-1], checksum=True)
    return paths


def tiled(path: Path, target: Path, method: str, **options) -> Path:
    with fits.open(path) as hdus:
        hdu = fits.CompImageHDU(hdus[0].data, hdus[0].header, compression_type=method, **options)
        fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(target, checksum=True)
    return target


def combined(paths, output: Path, **options) -> Path:
    resources = {key: options.pop(key) for key in ("workers", "memory") if key in options}
    request = read_options({"files": [str(path) for path in paths], "output": output, **options})
    with store.open_resources(**{"workers": 2, **resources}) as opened:
        direct.combine_files(request, opened)
    return output


def contents(path: Path) -> dict[str, bytes]:
    """Return the bytes of every plane, and the rows of the tables but for what differs by files."""
    with fits.open(path) as hdus:
        planes = {hdu.name: hdu.data.tobytes() for hdu in hdus if hdu.is_image}
    rows = tables.read_inputs(path)
    own = {"path": "", "size": 0, "mtime_ns": 0, "hdu": 0, "datasum": 0}
    planes["INPUTS"] = repr([replace(row, **own) for row in rows]).encode()
    planes["QUALITY"] = repr(tables.read_quality(path)).encode()
    return planes


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    folder = tmp_path_factory.mktemp("plain")
    paths = frames_of(folder)
    return paths, contents(combined(paths, folder / "out.fits"))


@pytest.mark.parametrize("suffix", PACKERS)
def test_packed_copies_give_the_same_bits(tmp_path, plain, suffix):
    paths, expected = plain
    packed = [tmp_path / f"{path.name}.{suffix}" for path in paths]
    for path, target in zip(paths, packed, strict=True):
        target.write_bytes(PACKERS[suffix](path.read_bytes()))
    before = counter.bytes
    found = combined(packed, tmp_path / "out.fits")
    assert contents(found) == expected
    sampled = N * 16 * SHAPE[1] * 2  # for the quantisation step
    assert counter.bytes - before <= N * SHAPE[0] * SHAPE[1] * 2 + sampled
    rows = tables.read_inputs(found)
    assert [row.path for row in rows] == [str(path) for path in packed]
    assert [row.size for row in rows] == [path.stat().st_size for path in packed]
    assert [row.datasum for row in rows] == [scan_file(p).hdus[0].frame.datasum for p in paths]
    assert sorted(tmp_path.iterdir()) == sorted([*packed, tmp_path / "out.fits"])


@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("RICE_1", {}),
        ("RICE_1", {"tile_shape": (7, 131)}),
        ("RICE_1", {"tile_shape": (10, 50)}),
        ("GZIP_1", {"tile_shape": (4, 131)}),
        ("GZIP_2", {}),
        ("HCOMPRESS_1", {"tile_shape": (16, 131)}),
        ("RICE_1", {"tile_shape": SHAPE}),
    ],
)
def test_tiled_copies_give_the_same_bits(tmp_path, plain, method, options):
    paths, expected = plain
    for path in paths:
        tiled(path, tmp_path / f"{path.name}.fz", method, **options)
    found = combined(sorted(tmp_path.glob("*.fz")), tmp_path / "out.fits")
    assert contents(found) == expected
    for row in tables.read_inputs(found):
        assert row.datasum == scan_file(row.path).hdus[1].frame.datasum


@pytest.mark.parametrize("tile", [1, 5, 16])
def test_each_tile_is_unpacked_once(tmp_path, plain, tile):
    """Bands end where tiles do, so that none is unpacked for two of them."""
    paths, _ = plain
    packed = [
        tiled(path, tmp_path / f"{path.name}.fz", "RICE_1", tile_shape=(tile, SHAPE[1]))
        for path in paths
    ]
    frames = [scan_file(path).hdus[1].frame for path in packed]
    steps = N * -(-SHAPE[0] // 6) * tile * SHAPE[1] * 2  # what the quantisation step may unpack
    before = counter.bytes
    combined(packed, tmp_path / "out.fits")
    whole = N * SHAPE[0] * SHAPE[1] * 2
    assert whole <= counter.bytes - before <= whole + steps
    for rows in range(tile, SHAPE[0], tile):
        before = counter.bytes
        for y in range(0, SHAPE[0], rows):
            read_rows(frames[0], y, min(y + rows, SHAPE[0]))
        assert counter.bytes - before == whole // N


def packed_night(folder: Path) -> Path:
    """Write a night whose frames are compressed in all three ways, two under a plain name."""
    nights.night(folder, bias=4, flat=3, science=2)
    names = iter([".gz", ".bz2", ".xz", ""] * 3)
    for path, suffix in zip(sorted(folder.iterdir()), names, strict=False):
        pack = PACKERS.get(suffix.strip("."), gzip.compress)
        target = path.with_name(path.name + suffix)
        target.write_bytes(pack(path.read_bytes()))
        if suffix:
            path.unlink()
    return folder


def test_a_packed_night_gives_the_bits_of_a_plain_one(tmp_path):
    plain, packed = tmp_path / "plain", packed_night(tmp_path / "packed")
    config, plan = nights.make_plan(packed)
    costs = forecast.foresee(plan, config, tmp_path / "out", workers=1, memory=4 << 30)
    sizes = sorted(item.scratch_bytes for item in costs.values())
    assert sizes == [5760, 5760, 3 * 5760, 4 * 5760]  # a header and the pixels, each a block
    assert "of scratch for compressed files" in listing.plan_text(plan, costs)
    nights.night(plain, bias=4, flat=3, science=2)
    for folder in (plain, packed):
        outcomes = nights.reduce_night(folder, tmp_path / f"out_{folder.name}")
        assert {item.state for item in outcomes.values()} == {"made"}
    first, second = (sorted((tmp_path / f"out_{x}").rglob("*.fits")) for x in ("plain", "packed"))
    assert len(first) == len(second) == 4
    for one, other in zip(first, second, strict=True):
        with fits.open(one) as a, fits.open(other) as b:
            assert [hdu.name for hdu in a] == [hdu.name for hdu in b]
            for left, right in zip(a, b, strict=True):
                if left.is_image:
                    assert left.data.tobytes() == right.data.tobytes()
    assert not list((tmp_path / "out_packed").rglob(f"{scratchfolder.PREFIX}*"))
    again = nights.reduce_night(packed, tmp_path / "out_packed")
    assert {item.state for item in again.values()} == {"up to date"}


def packed_frame(folder: Path, shape=(300, 200)):
    path = folder / "a.fits.gz"
    image = np.random.default_rng(1).integers(0, 60_000, shape).astype(np.uint16)
    fits.PrimaryHDU(image).writeto(path)
    return scan_file(path).hdus[0].frame, image


def test_threads_share_one_copy(tmp_path):
    frame, image = packed_frame(tmp_path)
    with scratchfolder.open_folder(tmp_path / "scratch") as folder:
        frame = scratch.in_folder(frame, folder)
        with ThreadPoolExecutor(8) as pool:
            made = set(pool.map(lambda _: os.stat(scratch.make_copy(frame)).st_ino, range(40)))  # noqa: PTH116
        assert len(made) == 1
        assert Path(frame.packing.copy).read_bytes() == gzip.decompress(
            Path(frame.path).read_bytes()
        )
        assert np.array_equal(read_rows(frame, 7, 250, 9), image[7:250:9])
        assert not list(folder.glob("*.part"))
    assert not list((tmp_path / "scratch").iterdir())


@pytest.mark.parametrize("change", ["damaged", "longer", "shorter"])
def test_a_packed_file_that_is_not_what_was_scanned_leaves_no_copy(tmp_path, change):
    frame, _ = packed_frame(tmp_path)
    path = Path(frame.path)
    data = bytearray(path.read_bytes())
    if change == "damaged":
        data[len(data) // 2] ^= 1
    elif change == "longer":
        data = bytearray(gzip.compress(gzip.decompress(data) + b"\0" * 2880))
    else:
        data = data[:-4000]
    path.write_bytes(data)
    os.utime(path, ns=(frame.mtime_ns, frame.mtime_ns))
    with scratchfolder.open_folder(tmp_path / "scratch") as folder:
        placed = scratch.in_folder(replace(frame, size=path.stat().st_size), folder)
        with pytest.raises(FrameError, match=r"a\.fits\.gz: (its gzip data|changed|truncated)"):
            read_rows(placed, 0, 10)
        assert {item.suffix for item in folder.iterdir()} <= {"", ".lock"}
        assert not Path(placed.packing.copy).exists()


def test_no_room_for_the_copies_is_said_with_the_numbers(tmp_path, monkeypatch):
    """The bytes that are free are those of the real disk; the frame claims to need more."""
    frame, _ = packed_frame(tmp_path)
    free = shutil.disk_usage(tmp_path).free
    with scratchfolder.open_folder(tmp_path / "scratch") as folder:
        huge = replace(frame, packing=replace(frame.packing, size=2 * free))
        placed = scratch.in_folder(huge, folder)
        for refuse in (lambda: scratch.check_room([placed]), lambda: scratch.make_copy(placed)):
            with pytest.raises(
                StorageError, match=f"unpacks? to {2 * free:,} bytes, .*has room for"
            ):
                refuse()
        assert scratch.lacking([placed, placed]) == [placed]


def test_a_full_disk_leaves_no_copy(tmp_path):
    frame, _ = packed_frame(tmp_path)
    code = """
        import resource, signal, sys
        from pathlib import Path
        from masterframe import scratchfolder
        from masterframe.fits import scan_file, scratch
        from masterframe.errors import StorageError
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
        frame = scan_file(sys.argv[1]).hdus[0].frame
        with scratchfolder.open_folder(Path(sys.argv[2])) as folder:
            try:
                scratch.make_copy(scratch.in_folder(frame, folder))
            except StorageError as error:
                print(error, sorted(item.suffix for item in folder.iterdir()))
    """
    found = python(code, frame.path, tmp_path / "scratch")
    assert "the scratch folder cannot be written (File too large) ['', '.lock']" in found
    assert not list((tmp_path / "scratch").iterdir())


def python(code: str, *arguments) -> str:
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)],
        check=True,
        capture_output=True,
        text=True,
    )
    return run.stdout


def test_what_a_killed_process_left_is_removed_by_the_next(tmp_path):
    frame, _ = packed_frame(tmp_path)
    code = """
        import os, signal, sys
        from pathlib import Path
        from masterframe import scratchfolder
        from masterframe.fits import scan_file, scratch
        frame = scan_file(sys.argv[1]).hdus[0].frame
        with scratchfolder.open_folder(Path(sys.argv[2])) as folder:
            scratch.make_copy(scratch.in_folder(frame, folder))
            print(folder, flush=True)
            {}
    """
    base = tmp_path / "scratch"
    command = [
        sys.executable,
        "-c",
        textwrap.dedent(code.format("signal.pause()")),
        frame.path,
        base,
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as alive:
        folder = Path(alive.stdout.readline().strip())
        size = frame.packing.size
        assert [
            p.stat().st_size for p in folder.iterdir() if not p.suffix and p.name != "lock"
        ] == [size]
        with scratchfolder.open_folder(base):
            assert folder.exists()  # its process lives
        alive.kill()
    assert folder.exists()
    with scratchfolder.open_folder(base) as own:
        assert list(base.iterdir()) == [own]


def test_ctrl_c_leaves_no_copy(tmp_path):
    """Interrupted while a slow file, bzip2, is unpacked."""
    path = tmp_path / "a.fits.bz2"
    image = np.random.default_rng(1).integers(0, 60_000, (1500, 1500)).astype(np.uint16)
    fits.PrimaryHDU(image).writeto(path)
    command = [
        sys.executable,
        "-m",
        "masterframe",
        "combine",
        path,
        path,
        "-o",
        tmp_path / "m.fits",
    ]
    with subprocess.Popen(
        command,
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        preexec_fn=nights.listen_to_interrupts,
    ) as process:
        deadline = time.monotonic() + 60
        while not list(tmp_path.glob(f"{scratchfolder.PREFIX}*/*.part")):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.005)
        process.send_signal(2)
        process.communicate(timeout=60)
    assert process.returncode == 130
    assert [item.name for item in tmp_path.iterdir()] == ["a.fits.bz2"]


def test_a_lazy_stack_unpacks_once_into_a_folder_that_goes_with_the_process(tmp_path):
    frame, image = packed_frame(tmp_path)
    code = """
        import sys
        import numpy as np
        import masterframe as mf
        from masterframe.fits import counter
        stack = mf.open_stack([sys.argv[1]] * 2, scratch=sys.argv[2], rows=10)
        from pathlib import Path
        (folder,) = Path(sys.argv[2]).iterdir()
        print(len(list(folder.iterdir())))
        total = int(stack.astype(np.int64).sum())
        copies = {path.stat().st_ino for path in folder.iterdir() if not path.suffix}
        again = int(stack[0].astype(np.int64).sum())
        print(total, again, len(copies), len(list(folder.iterdir())))
    """
    found = python(code, frame.path, tmp_path / "scratch").split()
    total = int(image.astype(np.int64).sum())
    assert found == ["1", str(2 * total), str(total), "2", "3"]
    assert not list((tmp_path / "scratch").iterdir())


def test_workers_in_other_processes_share_the_copies(tmp_path):
    frame, image = packed_frame(tmp_path)
    from distributed import Client, LocalCluster

    stack = open_stack([frame.path] * 3, scratch=tmp_path / "scratch", rows=20)
    options = {"dashboard_address": None, "host": "127.0.0.1"}
    with LocalCluster(n_workers=2, threads_per_worker=1, **options) as cluster, Client(cluster):
        total = int(stack.astype(np.int64).sum().compute())
    assert total == 3 * int(image.astype(np.int64).sum())
    (folder,) = (tmp_path / "scratch").iterdir()
    assert len([path for path in folder.iterdir() if path.suffix == ""]) == 2  # copy and lock


def test_without_isal_zlib_gives_the_same_and_finds_damage(tmp_path):
    frame, image = packed_frame(tmp_path)
    tiled = tmp_path / "a.fz"
    fits.CompImageHDU(image, compression_type="GZIP_2").writeto(tiled)
    broken = tmp_path / "b.fits.gz"
    data = bytearray(Path(frame.path).read_bytes())
    data[-6] ^= 1  # in the check sum
    broken.write_bytes(data)
    code = """
        import sys
        {}
        from masterframe.errors import FrameError
        from masterframe.fits import inflate, read_rows, scan_file
        print(inflate._zlib.__name__)
        for path in sys.argv[1:]:
            try:
                (frame,) = [hdu.frame for hdu in scan_file(path).hdus if hdu.frame]
                print(read_rows(frame, 0, 300).astype(int).sum())
            except FrameError as error:
                print("cannot be unpacked" in error.reason)
    """
    total = str(image.astype(int).sum())
    for name, first in (("isal.isal_zlib", ""), ("zlib", "sys.modules['isal'] = None")):
        found = python(code.format(first), frame.path, tiled, broken).split()
        assert found == [name, total, total, "True"]


def test_real_compressed_frames_are_combined_or_refused_with_the_true_reason(tmp_path):
    arcs = sorted(shared("data/sprat").glob("v_e_20180810_12_*.gz"))
    made = combined(arcs, tmp_path / "sprat.fits")
    with fits.open(made) as hdus:
        expected = np.stack([fits.getdata(path) for path in arcs])
        assert hdus[0].shape == expected.shape[1:]
        assert np.median(np.abs(hdus[0].data - np.median(expected, axis=0))) < expected.std()
    floyds = sorted(shared("data/floyds").glob("*w00.fits.fz"))
    with fits.open(combined(floyds, tmp_path / "floyds.fits", reject="none")) as hdus:
        expected = np.stack([fits.getdata(path) for path in floyds])
        assert np.array_equal(hdus[0].data, expected.mean(axis=0, dtype=np.float64).astype("f4"))
    reasons = {
        "asi178/Dark_ASIImg_1sec_frame0001.fit": "truncated: ",
        "asi178/Flat_ASIImg_frame0007.fit": "truncated: ",
        "st7/junk": "AppleDouble",
    }
    for name, reason in reasons.items():
        path = shared(f"data/{name}")
        path = path if path.is_file() else next(path.iterdir())
        with pytest.raises(FrameError, match=reason):
            combined([path], tmp_path / "no.fits")
    assert not (tmp_path / "no.fits").exists()
    for path in sorted(shared("data/lsst_mef").iterdir()):
        frames = [hdu.frame for hdu in scan_file(path).hdus if hdu.frame]
        with scratchfolder.open_folder(tmp_path / "scratch") as folder:
            placed = [scratch.in_folder(frame, folder) for frame in frames]
            with fits.open(path) as hdus:
                for frame in placed[:3] + placed[-2:]:
                    assert np.array_equal(
                        read_rows(frame, 0, frame.shape[0]), hdus[frame.hdu].data, equal_nan=True
                    )
