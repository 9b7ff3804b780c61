"""Options and arguments that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Memory = Annotated[
    str | None,
    typer.Option(
        metavar="SIZE",
        help="Memory that the run may take, as 2GB; half of what is free by default.",
    ),
]
Workers = Annotated[
    int | None, typer.Option(min=1, metavar="N", help="Workers; one a processor by default.")
]
Scheduler = Annotated[
    str | None,
    typer.Option(
        metavar="WHERE",
        help="threads (default), processes, the address of a scheduler, or a cluster's YAML file.",
    ),
]
Insecure = Annotated[
    bool, typer.Option("--insecure", help="Also where others can reach the ports in plain text.")
]
Dashboard = Annotated[bool, typer.Option("--dashboard", help="Serve Dask's dashboard on loopback.")]
Performance = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Write Dask's performance report (HTML); not with threads."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document, and nothing else.")]
Config = Annotated[
    Path | None, typer.Option("-c", "--config", metavar="FILE", help="Configuration (YAML).")
]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="A.B=C", help="Override one setting, as recipes.bias.low=4."),
]
Exclude = Annotated[
    list[str] | None,
    typer.Option(metavar="PATTERN", help="Leave out files whose name or path fits."),
]
Library = Annotated[
    Path | None,
    typer.Option("--library", metavar="FOLDER", help="Masters for what the night has none for."),
]
Output = Annotated[
    Path | None, typer.Option("-o", "--output", metavar="FOLDER", help="Folder for the products.")
]
Nights = Annotated[
    list[Path], typer.Argument(metavar="NIGHT", help="Folders of raw frames, one a night.")
]
Folder = Annotated[Path, typer.Argument(metavar="OUT", help="Output folder of a run.")]
