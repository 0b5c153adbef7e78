"""A SLURM of one node on loopback, as long as a block runs. Needs root and Debian's packages, which it installs."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PACKAGES = ("slurmctld", "slurmd", "slurm-client", "munge")
MUNGE_PID = Path("/run/munge/munged.pid")
CONFIGURATION = """ClusterName=test
SlurmctldHost=localhost
SlurmUser=root
SlurmdUser=root
SlurmctldPort=26817
SlurmdPort=26818
AuthType=auth/munge
CredType=cred/munge
StateSaveLocation={folder}/ctl
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/log/slurmctld.log
SlurmdLogFile={folder}/log/slurmd.log
SwitchType=switch/none
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
PropagateResourceLimits=NONE
ReturnToService=2
SlurmdParameters=config_overrides
KillWait=5
NodeName=localhost NodeAddr=127.0.0.1 CPUs=4 RealMemory=8000 State=UNKNOWN
PartitionName=main Nodes=localhost Default=YES MaxTime=INFINITE State=UP DefMemPerCPU=500
"""


@contextmanager
def running_slurm(folder: Path) -> Iterator[dict[str, str]]:
    """Start the daemons; yield the environment in which its commands reach it."""
    if shutil.which("slurmctld") is None or shutil.which("munged", path="/usr/sbin") is None:
        subprocess.run(["apt-get", "install", "-y", "--no-install-recommends", *PACKAGES], check=True, timeout=300)
    for name in ("ctl", "spool", "log"):
        (folder / name).mkdir(parents=True)
    configuration = folder / "slurm.conf"
    configuration.write_text(CONFIGURATION.format(folder=folder))
    environment = os.environ | {"SLURM_CONF": str(configuration)}
    own_munge = _start_munge()
    try:
        _quietly("slurmctld", "-f", configuration)
        _quietly("slurmd", "-f", configuration, "-N", "localhost")
        deadline = time.monotonic() + 60
        while "idle" not in slurm(environment, "sinfo", "-h", "-o", "%T"):
            assert time.monotonic() < deadline, (folder / "log" / "slurmctld.log").read_text()
            time.sleep(0.25)
        yield environment
    finally:
        _end_jobs(environment)
        for place in (folder / "slurmd.pid", folder / "slurmctld.pid", *([MUNGE_PID] if own_munge else [])):
            _end(place)


def slurm(environment: dict[str, str], *words: object) -> str:
    """Run a command of SLURM and return what it prints."""
    done = subprocess.run([*map(str, words)], env=environment, capture_output=True, text=True, check=False, timeout=60)
    return done.stdout


def jobs(environment: dict[str, str]) -> list[str]:
    """Return the numbers of the jobs that run."""
    return slurm(environment, "squeue", "-h", "-t", "RUNNING", "-o", "%A").split()


def _start_munge() -> bool:
    if subprocess.run(["munge", "-n"], capture_output=True, check=False, timeout=20).returncode == 0:
        return False
    _quietly("install", "-d", "-o", "munge", "-g", "munge", "-m", "755", MUNGE_PID.parent)
    _quietly("runuser", "-u", "munge", "--", "/usr/sbin/munged", "--pid-file", MUNGE_PID)
    return True


def _quietly(*words: object) -> None:
    """Start a daemon, which leaves: it must not hold our output."""
    nothing = subprocess.DEVNULL
    subprocess.run([*map(str, words)], stdin=nothing, stdout=nothing, stderr=nothing, check=True, timeout=60)


def _end_jobs(environment: dict[str, str]) -> None:
    for job in slurm(environment, "squeue", "-h", "-o", "%A").split():
        slurm(environment, "scancel", job)
    deadline = time.monotonic() + 20
    while slurm(environment, "squeue", "-h", "-o", "%A") and time.monotonic() < deadline:
        time.sleep(0.5)


def _end(place: Path) -> None:
    if not place.is_file():
        return
    pid = int(place.read_text())
    os.kill(pid, 15)
    deadline = time.monotonic() + 20
    while Path(f"/proc/{pid}").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
