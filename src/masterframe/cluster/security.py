"""Who may listen where: loopback, or TLS, or what the user insists on; and certificates for it."""

from __future__ import annotations

import ipaddress
import os
import tempfile
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from masterframe.errors import ClusterLostError, UsageError
from masterframe.model import Certificates, ClusterSpec

LOOPBACK = "127.0.0.1"
ANY_FREE_PORT = f"{LOOPBACK}:0"
"""For the dashboards, which know neither users nor encryption."""


def is_loopback(host: str) -> bool:
    """Return whether a host is this machine, seen from this machine alone."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def interface_of(spec: ClusterSpec) -> str:
    """Return the network interface that a cluster's jobs listen on; that of loopback by default."""
    return str(spec.options.get("interface") or loopback_interface())


def loopback_interface() -> str:
    """Return the name of the loopback interface: ``lo`` on Linux, ``lo0`` on macOS."""
    import psutil

    for name, addresses in psutil.net_if_addrs().items():
        if any(each.address == LOOPBACK for each in addresses):
            return str(name)
    return "lo"


def check_exposure(spec: ClusterSpec, insecure: bool) -> None:
    """Refuse a cluster whose ports others could reach in plain text.

    Raises
    ------
    UsageError
        With what is reachable, and the ways out.
    """
    if insecure:
        return
    if spec.tls == "off" and not all(map(is_loopback, _hosts(spec))):
        raise UsageError(
            f"{spec.source or spec.address}: everybody who reaches {' or '.join(_hosts(spec))} "
            "could run code as you: set tls: made (or name certificates), or insist with --insecure"
        )
    board = _scheduler_options(spec).get("dashboard_address")
    if board and not is_loopback(str(board).rpartition(":")[0] or "0.0.0.0"):  # noqa: S104
        raise UsageError(
            f"{spec.source}: the dashboard at {board} would be open to everybody: leave "
            f"dashboard_address out, or write {ANY_FREE_PORT}, or insist with --insecure"
        )


def _hosts(spec: ClusterSpec) -> list[str]:
    """Return the hosts or addresses that scheduler and workers are reached at."""
    from distributed.utils import get_ip_interface

    if spec.address:
        return [urlsplit(spec.address).hostname or spec.address]
    options = _scheduler_options(spec)
    names = {options.get("interface"), interface_of(spec)} - {None}
    try:
        hosts = [str(get_ip_interface(name)) for name in sorted(map(str, names))]
    except ValueError as error:
        raise UsageError(f"{spec.source}: {error}") from None
    return [*hosts, *([str(options["host"])] if options.get("host") else [])]


def _scheduler_options(spec: ClusterSpec) -> dict[str, Any]:
    return dict(spec.options.get("scheduler_options") or {})


def security_of(spec: ClusterSpec, made: Path) -> Any:
    """Return the `distributed.Security` of a cluster, None for plain text.

    Parameters
    ----------
    spec : ClusterSpec
        The cluster.
    made : Path
        File for the certificate and key that are made where the cluster asks for them: readable by
        its owner alone, and by the jobs, wherever they run.

    Raises
    ------
    UsageError
        If a certificate that is given cannot be read.
    """
    if spec.tls == "off":
        return None
    if isinstance(spec.tls, Certificates):
        for path in (spec.tls.ca, spec.tls.cert, spec.tls.key):
            if not os.access(path, os.R_OK):
                raise UsageError(f"{spec.source}: the certificate {path} cannot be read")
        return _security(spec.tls)
    if not made.exists():
        _make_certificate(made)
    return _security(Certificates(str(made), str(made), str(made)))


def await_security(spec: ClusterSpec, made: Path) -> Any:
    """Return the security of a cluster whose certificate another process makes."""
    end = time.monotonic() + spec.wait
    while spec.tls == "made" and not made.exists():
        if time.monotonic() > end:
            raise ClusterLostError(f"no certificate came to {made} within {spec.wait:g} s")
        time.sleep(0.1)
    return security_of(spec, made)


def _security(files: Certificates) -> Any:
    from distributed import Security

    roles = {
        f"tls_{role}_{part}": getattr(files, part)
        for role in ("client", "scheduler", "worker")
        for part in ("cert", "key")
    }
    return Security(tls_ca_file=files.ca, require_encryption=True, **roles)


def _make_certificate(path: Path) -> None:
    """Write a certificate that is its own authority, and its key, into one file."""
    try:
        from distributed import Security

        made = Security.temporary()
    except ImportError:
        raise UsageError(
            "certificates are made by the package cryptography: pip install 'masterframe[slurm]'"
        ) from None
    with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False) as stream:  # mode 0600
        stream.write(made.tls_scheduler_key + made.tls_ca_file)
    Path(stream.name).replace(path)
