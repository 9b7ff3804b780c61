"""Whether a product is up to date, and if not, why."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from masterframe import fits, journal, scaling
from masterframe.errors import FrameError
from masterframe.fits import masters, tables
from masterframe.model import Config, Frame, Product


@dataclass(frozen=True, slots=True)
class Freshness:
    """What a second run will do with a product."""

    current: bool
    """True if the file that is there holds what would be made."""
    reason: str
    """Why it will be made, or kept, in words."""


def check(product: Product, config: Config, out: Path, remade: Collection[str]) -> Freshness:
    """Compare a product with the file that an earlier run left.

    Inputs whose path, size and time are those recorded are trusted; of others the DATASUM is
    computed, which reads them once.

    Parameters
    ----------
    product : Product
        What would be made.
    config : Config
        The configuration.
    out : Path
        Output folder.
    remade : collection of str
        Names of the products that this run makes anew.
    """
    path = out / product.output
    if not path.exists():
        return Freshness(False, "it is not there")
    stale = [use.product for use in product.uses if use.product in remade]
    if stale:
        return Freshness(False, f"{', '.join(stale)} is made anew")
    try:
        recorded = {(row.path, row.extension): row for row in tables.read_inputs(path)}
        token = str(fits.scan_file(path).hdus[0].header.get("MFTOKEN") or "")
        above = master_tokens(product, out)
    except FrameError as error:
        return Freshness(False, f"it cannot be read ({error.reason})")
    sums = [
        (name, _datasum(frame, recorded.get((frame.path, name))))
        for name, frame in input_frames(product)
    ]
    if token == product_token(product, config, above, sums):
        return Freshness(True, "up to date")
    return Freshness(False, _difference(product, recorded, sums))


def in_the_way(path: Path, *, force: bool, thoroughly: bool) -> str:
    """Return why a product's file must neither be replaced nor used; '' where there is no reason.

    Parameters
    ----------
    path : Path
        The file, which need not be there.
    force : bool
        Whoever asks wants it replaced, whoever wrote it; special files are kept nevertheless.
    thoroughly : bool
        Add up all of its bytes; else only the sums in its headers are compared.
    """
    if not os.path.lexists(path):
        return ""
    if path.is_symlink() or not path.is_file():
        return f"{path} is not a regular file: move it away"
    if force:
        return ""
    try:
        reason = masters.why_not_ours(path, thoroughly=thoroughly)
    except FrameError as error:
        reason = error.reason
    return reason and f"{path} is kept ({reason}): move it away, or --force to replace it"


def input_frames(product: Product) -> list[tuple[str, Frame]]:
    """Return every image that goes into a product, with its name in the output."""
    single = len(product.exposures[0].images) == 1
    return [
        ("" if single else image.frame.name, image.frame)
        for exposure in product.exposures
        for image in exposure.images
    ]


def product_token(
    product: Product,
    config: Config,
    masters: Mapping[str, str],
    datasums: Collection[tuple[str, int]],
) -> str:
    """Return the token of a product: of its recipe, its detectors, its masters and its inputs."""
    recipe: dict[str, Any] = asdict(product.recipe)
    for key in ("name", "select", "group_by", "require"):  # they choose, and decide no pixel
        del recipe[key]
    detectors = [
        (
            *(image.overscan, image.trim, image.gain, image.read_noise, image.saturation),
            *image.amplifiers,
            *image.bad,
        )
        for image in product.exposures[0].images
    ]
    cards = [
        scaling.cards_of(
            product.recipe.adjust, scaling.FrameFacts(item.path, image.header, item.exptime)
        )
        for item in product.exposures
        for image in item.images
    ]
    limits = config.quality.frames
    judged = product.kind != "science" and limits.action == "leave-out"
    bad = _sum_of_images(config.bad_pixels) if config.bad_pixels else None
    record: dict[str, Any] = {
        "recipe": recipe,
        "detectors": str(detectors),
        "uses": [
            (use.role, use.ratio, use.holds_bias, *([str(use.part)] if use.part else ()))
            for use in product.uses
        ],
        "bad_pixels": bad,
        "cards": cards if any(cards) else None,
        "frames": asdict(limits) if judged else None,
    }
    if product.recipe.normalize and product.exposures[0].cell > 1:
        record["cell"] = product.exposures[0].cell
    return journal.product_token(record, masters, list(datasums))


def _sum_of_images(path: str) -> int | list[tuple[str, int]]:
    """Return what tells a file of images from another one."""
    sums = [(name, fits.datasum(image.data)) for name, image in masters.open_master(path).items()]
    return sums[0][1] if len(sums) == 1 else sums


def master_tokens(product: Product, out: Path) -> dict[str, str]:
    """Return the token of each master that a product takes, by its role."""
    found: dict[str, str] = {}
    for use in product.uses:
        path = use.file(out)
        try:
            about = path.stat()
        except OSError as error:
            raise FrameError(str(path), f"cannot be read ({error.strerror})") from None
        found[use.role] = _token(path, about.st_size, about.st_mtime_ns, about.st_ino)
    return found


@lru_cache(maxsize=1024)
def _token(path: Path, *_: int) -> str:
    """Return what tells a master from another one: its token, or its sums where it has none.

    Size, time and inode tell whether it is the file that was looked at before.
    """
    found = str(fits.scan_file(path).hdus[0].header.get("MFTOKEN") or "")
    return found or str(_sum_of_images(str(path)))


def _datasum(frame: Frame, row: tables.InputRow | None) -> int:
    stamp = (frame.size, frame.mtime_ns)
    if row and row.datasum is not None and (row.size, row.mtime_ns) == stamp:
        return row.datasum
    return fits.datasum(frame)


def _difference(
    product: Product,
    recorded: Mapping[tuple[str, str], tables.InputRow],
    sums: list[tuple[str, int]],
) -> str:
    before = sorted((row.extension, row.datasum or 0) for row in recorded.values())
    if sorted(sums) == before:
        return "its recipe, its masters or the program has changed"
    known = {row.path for row in recorded.values()}
    now = {exposure.path for exposure in product.exposures}
    if now != known and len(now) != len(known):
        return f"its inputs have changed: {len(known)} frames then, {len(now)} now"
    return "the pixels of its inputs have changed"
