"""From a scheduler setting to something that runs tasks; nothing else knows schedulers."""

from masterframe.cluster.clients import active_runner
from masterframe.cluster.machine import (
    PROCESS_BYTES,
    available_cores,
    available_memory,
    default_memory,
    peak_bytes,
    resident_bytes,
)
from masterframe.cluster.opening import join, open_runner
from masterframe.cluster.tasks import Call, Footprint, Runner, Sample, Shared, Task

__all__ = [
    "PROCESS_BYTES",
    "Call",
    "Footprint",
    "Runner",
    "Sample",
    "Shared",
    "Task",
    "active_runner",
    "available_cores",
    "available_memory",
    "default_memory",
    "join",
    "open_runner",
    "peak_bytes",
    "resident_bytes",
]
