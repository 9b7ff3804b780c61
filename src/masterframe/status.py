"""What the last run in an output folder is doing, or has come to, as seen from outside."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from masterframe import events, journal
from masterframe.console import clean
from masterframe.errors import UsageError
from masterframe.tiling import format_bytes

DEAD = 1
"""Exit code for a run that ended without a word."""


@dataclass(frozen=True, slots=True)
class Working:
    """A product that is being made, or was when its run died."""

    product: str
    """Its name in the plan."""
    bands: int
    """Bands that are to be done."""
    bands_done: int
    """Bands that were done when that was last noted."""
    bytes: int
    """Bytes of pixels that are to be read."""
    bytes_done: int
    """Bytes of them that were read."""
    rate: float | None = None
    """Bytes a second since it began; None before anything is known."""
    seconds_left: float | None = None
    """Time that the rest takes at this rate (s)."""


@dataclass(frozen=True, slots=True)
class WorkerStatus:
    """A worker as it was when workers were last sampled; of threads, the process that has them."""

    worker: str
    """Its name."""
    memory: int
    """Resident memory (bytes)."""
    rate: float | None
    """Bytes a second that it read since the sample before; None where that is not known."""


@dataclass(frozen=True, slots=True)
class RunStatus:
    """The last run in an output folder."""

    state: Literal["running", "finished", "ended early", "dead"]
    """What it is doing; dead: it neither works nor said that it ended."""
    owner: str
    """Host, process and start."""
    started: str
    """When it started (UTC)."""
    last: str
    """When it was last heard of (UTC)."""
    products: dict[str, int]
    """Number of products by what became of them: made, up to date, failed, blocked, to be made."""
    working: tuple[Working, ...]
    """Products that are being made."""
    failed: tuple[str, ...]
    """Products that failed or are blocked, with the reason."""
    left_out: tuple[str, ...]
    """Frames that were found unfit, with the reason."""
    memory: int | None
    """Resident memory of the process when it was last noted (bytes)."""
    workers: tuple[WorkerStatus, ...]
    """Workers as they were last sampled."""
    dashboard: str
    """Address of Dask's dashboard, '' without one."""
    exit_code: int | None
    """What it ended with."""
    reason: str
    """Why it ended early."""

    def as_dict(self) -> dict[str, Any]:
        """Return it in the types of JSON."""
        return asdict(self)


def read_status(out: Path) -> RunStatus:
    """Say what the last run in an output folder is doing; it is not disturbed.

    Raises
    ------
    UsageError
        If there was no run.
    """
    found = events.read_last_run(out)
    if not found or found[0]["event"] != events.RUN_STARTED:
        raise UsageError(f"{out}: no run of masterframe has worked in this folder")
    first, last = found[0], found[-1]
    ended = last if last["event"] == events.RUN_ENDED else None
    working = _working(found)
    done = [item for item in found if item["event"] == events.PRODUCT_ENDED and "state" in item]
    states = Counter(str(item["state"]) for item in done)
    states["to be made"] = first["products"] - states.total()
    return RunStatus(
        state=_state(out, ended),
        owner=first["owner"],
        started=first["time"],
        last=last["time"],
        products={name: count for name, count in states.items() if count},
        working=working,
        failed=tuple(
            f"{item['product']}: {item['state']}, {item['reason']}"
            for item in done
            if item["state"] in ("failed", "blocked")
        ),
        left_out=tuple(
            f"{item['path']}: {item['reason']}"
            for item in found
            if item["event"] == events.FRAME_LEFT_OUT
        ),
        memory=next((item["memory"] for item in reversed(found) if "memory" in item), None),
        workers=_workers(found),
        dashboard=first["dashboard"],
        exit_code=ended["exit_code"] if ended else None,
        reason=ended.get("reason", "") if ended else "",
    )


def _state(
    out: Path, ended: dict[str, Any] | None
) -> Literal["running", "finished", "ended early", "dead"]:
    if ended:
        return "ended early" if "reason" in ended else "finished"
    return "running" if journal.is_locked(out) else "dead"


def _working(found: Sequence[dict[str, Any]]) -> tuple[Working, ...]:
    """Return the products that have begun and not ended."""
    begun: dict[str, dict[str, Any]] = {}
    latest: dict[str, dict[str, Any]] = {}
    for item in found:
        if item["event"] == events.PRODUCT_STARTED:
            begun[item["product"]] = latest[item["product"]] = item
        elif item["event"] == events.BANDS_DONE:
            latest[item["product"]] = item
        elif item["event"] == events.PRODUCT_ENDED:
            begun.pop(item["product"], None)
    return tuple(_progress(item, latest[name]) for name, item in begun.items())


def _workers(found: Sequence[dict[str, Any]]) -> tuple[WorkerStatus, ...]:
    """Return the workers of the last sample."""
    samples = (item for item in reversed(found) if item["event"] == events.WORKERS_SAMPLED)
    last = next(samples, {"workers": ()})
    return tuple(WorkerStatus(**worker) for worker in last["workers"])


def _progress(begun: dict[str, Any], latest: dict[str, Any]) -> Working:
    done = latest if latest is not begun else {"bands": 0, "bytes": 0}
    rate = left = None
    seconds = (_moment(latest["time"]) - _moment(begun["time"])).total_seconds()
    if done["bytes"] and seconds > 0:
        rate = done["bytes"] / seconds
        left = (begun["bytes"] - done["bytes"]) / rate
    return Working(
        product=begun["product"],
        bands=begun["bands"],
        bands_done=done["bands"],
        bytes=begun["bytes"],
        bytes_done=done["bytes"],
        rate=rate,
        seconds_left=left,
    )


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


def as_text(status: RunStatus) -> str:
    """Return it for people."""
    counts = ", ".join(f"{count} {name}" for name, count in status.products.items())
    lines = [f"{status.state}: {_what(status)}", f"products: {counts or 'none'}"]
    lines += [_line(item) for item in status.working]
    lines += [*status.failed, *(f"left out {line}" for line in status.left_out)]
    if status.state == "running":
        lines += [f"memory: {format_bytes(status.memory)}"] if status.memory else []
        lines += [_line_of_workers(status.workers)] if status.workers else []
        lines += [f"dashboard: {status.dashboard}"] if status.dashboard else []
    elif status.state != "finished":
        lines.append("run the same command again: it goes on with what is not done")
    return "\n".join(map(clean, lines))


def _line_of_workers(workers: Sequence[WorkerStatus]) -> str:
    most = max(item.memory for item in workers)
    text = f"workers: {len(workers)}, up to {format_bytes(most)} of memory each"
    rates = [item.rate for item in workers if item.rate is not None]
    return f"{text}, {format_bytes(sum(rates))}/s read" if rates else text


def _what(status: RunStatus) -> str:
    if status.state == "running":
        return status.owner
    if status.state == "finished":
        return f"at {_clock(status.last)} with exit code {status.exit_code}; {status.owner}"
    why = f": {status.reason}" if status.reason else ""
    return f"last heard of at {_clock(status.last)}{why}; {status.owner}"


def _clock(text: str) -> str:
    """Return a moment to the second, as the owner of a lock tells it."""
    return _moment(text).isoformat(timespec="seconds")


def _line(item: Working) -> str:
    text = (
        f"{item.product}: {item.bands_done} of {item.bands} bands, "
        f"{format_bytes(item.bytes_done)} of {format_bytes(item.bytes)}"
    )
    if item.rate is None or item.seconds_left is None:
        return text
    return f"{text}, {format_bytes(item.rate)}/s, {item.seconds_left:.0f} s left"


def exit_code(status: RunStatus) -> int:
    """Return 0 for a run that works or ended well, its exit code, or 1 for a dead one."""
    if status.state == "running":
        return 0
    return DEAD if status.exit_code is None else status.exit_code
