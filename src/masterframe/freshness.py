"""Whether a product is up to date, and if not, why.

What an earlier run knew of a product (`masterframe.journal.Ledger`) is believed while its file is
untouched and what it is made of is the same, and no file is opened then. Else the product is
opened, and compared with what would be made.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from masterframe import fits, journal, scaling
from masterframe.errors import FrameError
from masterframe.fits import masters, stamps, tables
from masterframe.fits.stamps import Stamp
from masterframe.model import Config, Frame, Product, ProductRecipe


@dataclass(frozen=True, slots=True)
class Freshness:
    """What a second run will do with a product."""

    current: bool
    """True if the file that is there holds what would be made."""
    reason: str
    """Why it will be made, or kept, in words."""
    in_the_way: bool = False
    """True if the file that is there must neither be replaced nor used."""
    opened: bool = True
    """False if the file was known by its stamp, and not looked into."""


def check(
    product: Product,
    config: Config,
    out: Path,
    remade: Collection[str],
    ledger: journal.Ledger,
    *,
    force: bool = False,
    thoroughly: bool = False,
) -> Freshness:
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
    ledger : journal.Ledger
        What is known of products; what is found out is noted there.
    force : bool
        It will be made anyway, in the place of whatever is there.
    thoroughly : bool
        Add up all bytes of the file where it is opened; else the sums in its headers are compared.

    Raises
    ------
    FrameError
        If an input or a bad-pixel file cannot be read.
    """
    stale = [use.product for use in product.uses if use.product in remade]
    known = ledger.find(product.output)
    if known and not (force or stale) and known.made_of == _made_of(product, config, out, ledger):
        return Freshness(True, "up to date", opened=False)
    path = out / product.output
    began, stamp = stamps.now(), stamps.look_at(path, follow=False)
    obstacle = in_the_way(path, force=force, thoroughly=thoroughly)
    if obstacle:
        return Freshness(False, obstacle, in_the_way=True)
    if force:
        return Freshness(False, "it is made in any case")
    if not path.exists():
        return Freshness(False, "it is not there")
    if stale:
        return Freshness(False, f"{', '.join(stale)} is made anew")
    found = _compare(product, config, out, ledger)
    if found.current and stamp and stamp.is_settled(began):
        note(product, _made_of(product, config, out, ledger), stamp, out, ledger)
    return found


def _compare(product: Product, config: Config, out: Path, ledger: journal.Ledger) -> Freshness:
    """Compare a product with what is in its file."""
    path = out / product.output
    try:
        recorded = {(row.path, row.extension): row for row in tables.read_inputs(path)}
        token = str(fits.scan_file(path).hdus[0].header.get("MFTOKEN") or "")
        above = master_tokens(product, out, ledger)
    except FrameError as error:
        return Freshness(False, f"it cannot be read ({error.reason})")
    sums = [
        (name, _datasum(frame, recorded.get((frame.path, name))))
        for name, frame in input_frames(product)
    ]
    if token == product_token(product, config, above, sums):
        return Freshness(True, "up to date")
    return Freshness(False, _difference(product, recorded, sums))


def _made_of(product: Product, config: Config, out: Path, ledger: journal.Ledger) -> str | None:
    """Return `made_of`; None where a master cannot be read."""
    try:
        return made_of(product, config, master_tokens(product, out, ledger))
    except FrameError:
        return None


def made_of(product: Product, config: Config, masters: Mapping[str, str]) -> str:
    """Return a name for all that goes into a product, which is known before a file is opened.

    As `product_token`, with the path, size and time of each input in the place of its DATASUM:
    where these are equal the DATASUM is trusted to be, and so are the tokens.
    """
    frames = [
        (name, f"{frame.hdu} {frame.plane} {frame.size} {frame.mtime_ns} {frame.path}")
        for name, frame in input_frames(product)
    ]
    return product_token(product, config, masters, frames)


def note(
    product: Product, made_of: str | None, stamp: Stamp, out: Path, ledger: journal.Ledger
) -> None:
    """Note that the file with a stamp is what would be made.

    Parameters
    ----------
    product : Product
        The product.
    made_of : str
        What `made_of` told before the file was made or looked into; of None nothing is noted.
    stamp : Stamp
        The file as it was then.
    out : Path
        Output folder.
    ledger : journal.Ledger
        Where it is noted.
    """
    if made_of is None:
        return
    token = ""
    if product.kind != "science":
        path = out / product.output
        token = _token_in(path)
        if stamps.look_at(path, follow=False) != stamp:  # it is another one by now
            return
    ledger.note(product.output, journal.Record(stamp, made_of, token))


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
    datasums: Collection[tuple[str, int | str]],
) -> str:
    """Return the token of a product: of its recipe, its detectors, its masters and its inputs."""
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
        "recipe": _deciding(product.recipe),
        "detectors": str(detectors),
        "uses": [
            (use.role, use.ratio, use.holds_bias, *([str(use.parts)] if use.parts else ()))
            for use in product.uses
        ],
        "bad_pixels": bad,
        "cards": cards if any(cards) else None,
        "frames": asdict(limits) if judged else None,
    }
    if product.recipe.normalize and product.exposures[0].cell > 1:
        record["cell"] = product.exposures[0].cell
    return journal.product_token(record, masters, list(datasums))


@lru_cache(maxsize=64)
def _deciding(recipe: ProductRecipe) -> dict[str, Any]:
    """Return what a recipe decides; a night has thousands of products of one recipe."""
    found = asdict(recipe)
    for key in ("name", "select", "group_by", "require"):  # they choose, and decide no pixel
        del found[key]
    return found


def _sum_of_images(path: str) -> int | list[tuple[str, int]]:
    """Return what tells a file of images from another one."""
    return _sums(path, stamps.look_at(path))


@lru_cache(maxsize=64)
def _sums(path: str, stamp: Stamp | None) -> int | list[tuple[str, int]]:
    sums = [(name, fits.datasum(image.data)) for name, image in masters.open_master(path).items()]
    return sums[0][1] if len(sums) == 1 else sums


def master_tokens(
    product: Product, out: Path, ledger: journal.Ledger | None = None
) -> dict[str, str]:
    """Return the token of each master that a product takes, by its role.

    Parameters
    ----------
    product : Product
        The product.
    out : Path
        Output folder.
    ledger : journal.Ledger, optional
        Masters that are known are not opened.

    Raises
    ------
    FrameError
        If one cannot be read.
    """
    found: dict[str, str] = {}
    for use in product.uses:
        known = ledger.find(use.library or f"{use.product}.fits") if ledger else None
        found[use.role] = known.token if known else _token_in(use.file(out))
        if ledger and use.library and not known:
            _note_library(use.library, found[use.role], ledger)
    return found


def _note_library(path: str, token: str, ledger: journal.Ledger) -> None:
    """Note the token of a master of a library, if nobody has touched it for a while."""
    stamp = stamps.look_at(path, follow=False)
    if stamp and stamp.is_settled(stamps.now()):
        ledger.note(path, journal.Record(stamp, "", token))


def _token_in(path: Path) -> str:
    """Return what tells a master from another one: its token, or its sums where it has none."""
    found = str(masters.scan_master(path).hdus[0].header.get("MFTOKEN") or "")
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
