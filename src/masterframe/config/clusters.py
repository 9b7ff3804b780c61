"""What may stand in the YAML of a cluster: names, types, defaults. One class a mapping."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, PositiveFloat, PositiveInt

from masterframe.config.mappings import Model


class CertificatesModel(Model):
    """PEM files, relative to the folder of the file that names them."""

    ca: str = Field(description="certificate of the authority")
    cert: str = Field(description="certificate of scheduler, workers and client")
    key: str = Field(description="its private key")


class ClusterModel(Model):
    """Where tasks run: a cluster of batch jobs, or a scheduler that runs already."""

    cluster: str = Field(
        default="",
        description="class of dask-jobqueue, as SLURMCluster; or SLURMRunner inside an allocation",
    )
    address: str = Field(default="", description="of a scheduler that runs already")
    jobs: PositiveInt = Field(default=1, description="jobs that are kept running")
    wait: PositiveFloat = Field(
        default=3600.0,
        description="seconds that the first worker may take to come: jobs may wait in a queue",
    )
    wait_again: PositiveFloat | None = Field(
        default=None,
        description="the same where all workers have gone; as wait where it is not given",
    )
    tls: CertificatesModel | Literal["off", "made"] = Field(
        default="off", description="off, made (certificates for this run), or files"
    )
    options: dict[str, Any] = Field(default={}, description="what the class is called with")
