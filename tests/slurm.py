"""A Slurm of our own: a controller and virtual nodes on this machine, all on loopback.

It reads and writes nothing outside its folder. Debian's packages munge, slurmctld, slurmd and
slurm-client bring the programs. Slurm's Unix sockets want a short path, so the folder lies in /tmp.
"""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from support import program

SECONDS = 60
NODES = ("n1", "n2")

CONFIGURATION = """
ClusterName=masterframe
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={folder}/munge.socket
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=1,sched_min_interval=100000,bf_interval=1,batch_sched_delay=0
SlurmdParameters=config_overrides
ReturnToService=2
KillWait=2
MessageTimeout=10
DefMemPerCPU=512
PartitionName=main Nodes={nodes} Default=YES MaxTime=INFINITE State=UP
"""
NODE = "NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs=4 RealMemory=8192\n"


@contextmanager
def private_slurm() -> Iterator[dict[str, str]]:
    """Start Slurm with two nodes of four processors; yield the environment that commands it."""
    folder = Path(tempfile.mkdtemp(prefix="mf-slurm-", dir="/tmp"))
    folder.chmod(0o755)
    daemons: list[subprocess.Popen[bytes]] = []
    environment = {**os.environ, "SLURM_CONF": str(folder / "slurm.conf")}
    environment["PATH"] += ":/usr/sbin:/sbin"

    def start(*command: str) -> None:
        log = (folder / f"{Path(command[0]).name}-{len(daemons)}.out").open("wb")
        with log:
            daemons.append(
                subprocess.Popen(
                    command, env=environment, cwd=folder, stdout=log, stderr=log,
                    stdin=subprocess.DEVNULL, start_new_session=True,
                )
            )  # fmt: skip

    try:
        _configure(folder)
        start(
            _daemon("munged"), "--foreground", f"--key-file={folder}/munge.key",
            f"--socket={folder}/munge.socket", f"--pid-file={folder}/munged.pid",
            f"--log-file={folder}/munged.log", f"--seed-file={folder}/munged.seed", "--force",
        )  # fmt: skip
        _wait("munged", (folder / "munge.socket").exists, folder)
        start(_daemon("slurmctld"), "-D", "-i", "-f", str(folder / "slurm.conf"))
        for name in NODES:
            start(_daemon("slurmd"), "-D", "-N", name, "-f", str(folder / "slurm.conf"))

        def idle() -> bool:
            states = ask(environment, "sinfo", "-h", "-N", "-o", "%T").split()
            return states == ["idle"] * len(NODES)

        _wait("nodes", idle, folder)
        yield environment
    finally:
        if len(daemons) > 1:
            _cancel_all(environment)
        for daemon in reversed(daemons):
            daemon.terminate()
        for daemon in daemons:
            try:
                daemon.wait(20)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()
        shutil.rmtree(folder, ignore_errors=True)


def ask(environment: dict[str, str], *command: str) -> str:
    """Return what a command of Slurm prints; '' where it fails."""
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=30, check=False
    )
    return done.stdout if done.returncode == 0 else ""


def jobs(environment: dict[str, str]) -> list[str]:
    """Return the numbers of the jobs that wait or run."""
    return ask(environment, "squeue", "-h", "-o", "%A", "-t", "PD,R,CF,CG").split()


def await_no_jobs(environment: dict[str, str], seconds: float = SECONDS) -> bool:
    """Return whether all jobs have gone by then."""
    end = time.monotonic() + seconds
    while jobs(environment):
        if time.monotonic() > end:
            return False
        time.sleep(0.2)
    return True


def _cancel_all(environment: dict[str, str]) -> None:
    """End what still runs, so that nothing outlives its node."""
    if found := jobs(environment):
        ask(environment, "scancel", *found)
        await_no_jobs(environment)


def _daemon(name: str) -> str:
    return shutil.which(name, path="/usr/sbin:/sbin") or program(name)


def _configure(folder: Path) -> None:
    for command in ("sbatch", "srun", "scancel"):
        program(command)
    key = folder / "munge.key"
    key.write_bytes(secrets.token_bytes(1024))
    key.chmod(0o600)
    (folder / "state").mkdir()
    host = socket.gethostname().split(".")[0]
    ports = _free_ports(1 + len(NODES))
    words = CONFIGURATION.format(
        host=host, ports=ports, folder=folder, nodes=",".join(NODES), user=_user()
    )
    for name, port in zip(NODES, ports[1:], strict=True):
        (folder / f"spool-{name}").mkdir()
        words = NODE.format(name=name, host=host, port=port) + words
    (folder / "slurm.conf").write_text(words)


def _user() -> str:
    import pwd

    return pwd.getpwuid(os.getuid()).pw_name


def _free_ports(count: int) -> list[int]:
    held = [socket.socket() for _ in range(count)]
    try:
        for each in held:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in held]
    finally:
        for each in held:
            each.close()


def _wait(what: str, ready: object, folder: Path) -> None:
    end = time.monotonic() + SECONDS
    while not ready():  # type: ignore[operator]
        if time.monotonic() > end:
            logs = "\n".join(
                f"--- {path.name}\n{path.read_text(errors='replace')[-800:]}"
                for path in sorted(folder.glob("*.log"))
            )
            raise RuntimeError(f"Slurm's {what} did not come up\n{logs}")
        time.sleep(0.1)
