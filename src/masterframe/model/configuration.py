"""Checked configurations of nights and clusters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from masterframe.model.frames import Verify
from masterframe.model.instruments import Detector, Instrument, Selection, TypeRule
from masterframe.model.limits import Quality, Tolerances
from masterframe.model.recipes import ProductRecipe


@dataclass(frozen=True, slots=True)
class Certificates:
    """Files (PEM) with which the two ends of a connection prove who they are."""

    ca: str
    """Certificate of the authority that signed the others."""
    cert: str
    """Certificate of this end."""
    key: str
    """Its private key."""


@dataclass(frozen=True, slots=True)
class ClusterSpec:
    """Where tasks run, as a cluster's YAML file describes it."""

    cluster: str = ""
    """Class of dask-jobqueue, or ``SLURMRunner`` inside an allocation; '' for an address."""
    address: str = ""
    """A scheduler that runs already; '' where a cluster is started."""
    jobs: int = 1
    """Jobs that are kept running."""
    wait: float = 3600.0
    """Seconds that the first worker may take to come: jobs may wait in a queue."""
    wait_again: float | None = None
    """The same where all workers have gone; None is left to the program."""
    tls: Certificates | Literal["off", "made"] = "off"
    """Encrypted connections: none, with certificates made for the run, or with those given."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """What the class is called with."""
    source: str = ""
    """The file that was read."""


@dataclass(frozen=True, slots=True)
class Config:
    """A checked configuration: how the files of a night are read, sorted and made into products."""

    instruments: tuple[Instrument, ...]
    """Cameras that a file may be from; the first that matches its header holds."""
    recipes: Mapping[str, ProductRecipe]
    """Stanzas by name; an exposure goes to the first of its kind that selects it."""
    types: tuple[TypeRule, ...] = ()
    """Rules that go before those of the instrument."""
    select: tuple[Selection, ...] = ()
    """Only exposures that fit any of these are used; empty uses all."""
    exclude: tuple[Selection, ...] = ()
    """Exposures that fit any of these are not used."""
    detector: Detector = field(default_factory=Detector)
    """Numbers and sections that go before those of the header."""
    bad_pixels: str = ""
    """FITS file whose non-zero pixels are left out; '' for none."""
    verify_checksums: Verify = "auto"
    """Which check sums of the frames are verified."""
    tolerances: Tolerances = field(default_factory=Tolerances)
    """How far two exposures may differ and still belong together."""
    quality: Quality = field(default_factory=Quality)
    """What is asked of frames and masters."""
    nights: Literal["apart", "pooled"] = "apart"
    """Whether exposures of different nights go into one product."""
    report: bool = True
    """Whether a run ends with a report."""
    library: str = ""
    """Folder of masters that are taken where a night has none; '' for none."""
    output: str = ""
    """Folder that the products go to; '' where it is not given here."""
    memory: int | None = None
    """Memory (bytes) that a run may take; None is left to the program."""
    workers: int | None = None
    """Workers of a local scheduler; None for one a core."""
    scheduler: str = "threads"
    """threads, processes, an address, or a cluster's YAML file."""
    source: str = ""
    """The file that was read; '' for the defaults."""
