"""Processes of a soak: conversions in sessions of their own, Dask clusters, and what is left of them."""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PATIENCE_S = 600.0
"""A conversion of a soak takes seconds; on a machine that others use, minutes."""
LEAVE_S = 60.0
"""What a killed run leaves behind must be gone by then."""
MARK = "FASTDCM_SOAK_RUN"
DONE = 1
"""Exit code of a run that did all: the export has files that fail on purpose."""
_OF_PYTHON = re.compile(
    rb"Traceback [^\n]*\n  File [^\n]*/multiprocessing/resource_tracker.py[^\n]*\n[^\n]*\nKeyError: [^\n]*\n"
)
"""What Python's own tracker of semaphores prints where ``kill_child`` hits it: it starts anew, and the run goes on."""


@dataclass(slots=True)
class Round:
    """One export, one target, and the options that all runs of the round have."""

    folder: Path
    export: Path
    dest: Path
    options: tuple[str, ...]
    rng: random.Random
    environment: Mapping[str, str]
    library: Path | None
    """Of failing system calls, to be preloaded; None where there is no compiler."""
    usual_s: float
    """What an undisturbed run takes."""
    problems: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    runs: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class Running:
    """A conversion at work."""

    process: subprocess.Popen[bytes]
    log: Path
    mark: str


def start(one: Round, *more: str, dest: Path | str | None = None, env: Mapping[str, str] | None = None) -> Running:
    """Start a conversion of the round's export."""
    one.runs += 1
    return launch(one, "convert", str(one.export), str(dest or one.dest), *one.options, *more, env=env)


def launch(one: Round, *words: str, env: Mapping[str, str] | None = None) -> Running:
    """Start a command of fastdcm; what it prints goes to a file of the round."""
    log = one.folder / f"log-{len(list(one.folder.glob('log-*'))):03}.txt"
    mark = uuid.uuid4().hex
    with open(log, "wb") as out:
        out.write(f"$ fastdcm {' '.join(words)}\n".encode())
        out.flush()
        process = subprocess.Popen(
            [sys.executable, "-m", "fastdcm", *words],
            env={**one.environment, **(env or {}), MARK: mark},
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    return Running(process, log, mark)


def finish(one: Round, run: Running, allowed: set[int]) -> int:
    """Wait for a conversion; a wrong exit code, a traceback and a process left behind are problems of the round."""
    try:
        code = run.process.wait(PATIENCE_S)
    except subprocess.TimeoutExpired:
        one.problems.append(f"{run.log.name}: not finished after {PATIENCE_S:g} s")
        run.process.kill()
        code = run.process.wait()
    with open(run.log, "ab") as log:
        log.write(f"[exit code {code}]\n".encode())
    if code not in allowed:
        one.problems.append(f"{run.log.name}: exit code {code}, allowed are {sorted(allowed)}")
    text = _OF_PYTHON.sub(b"", run.log.read_bytes())
    if b"Traceback" in text and not is_too_early(code, text):
        one.problems.append(f"{run.log.name}: a traceback")
    _check_left(one, run)
    return code


def is_too_early(code: int, text: bytes) -> bool:
    """Tell whether Ctrl-C came before Python had begun with fastdcm, or while it loaded the package itself."""
    if code not in (1, -signal.SIGINT) or b"KeyboardInterrupt" not in text or b" written to " in text:
        return False
    files = re.findall(rb"/fastdcm/(\S+)\"", text)
    return all(name.endswith((b"__init__.py", b"__main__.py")) for name in files)


def _check_left(one: Round, run: Running) -> None:
    until = time.monotonic() + LEAVE_S
    while left := marked(run.mark):
        if time.monotonic() > until:
            one.problems.append(f"{run.log.name}: {len(left)} processes are left behind")
            for pid in left:
                send(pid, signal.SIGKILL)
            return
        time.sleep(0.05)


def marked(mark: str) -> list[int]:
    """Return the processes that a run started, itself included; no zombies."""
    wanted = f"{MARK}={mark}".encode()
    found = []
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            try:
                with open(f"/proc/{entry.name}/environ", "rb") as file:
                    if wanted in file.read().split(b"\0"):
                        found.append(int(entry.name))
            except OSError:  # it ended, or is not ours
                continue
    return found


def send(pid: int, number: signal.Signals) -> bool:
    """Send a signal to a process, if it is still there."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True


def wait_some(one: Round, run: Running, share: float = 1.2) -> bool:
    """Let a conversion work for a random time; tell whether it is still at it."""
    try:
        run.process.wait(one.rng.uniform(0, share * one.usual_s))
    except subprocess.TimeoutExpired:
        return True
    return False


def any_resources(one: Round) -> list[str]:
    """Return workers of this machine, threads or processes."""
    workers = str(one.rng.randint(1, 3))
    return ["--workers", workers, "--scheduler", one.rng.choice(("local", "local", "processes"))]


@contextmanager
def cluster(one: Round) -> Iterator[tuple[str, list[subprocess.Popen[bytes]]]]:
    """Give the address of a Dask scheduler, and its process and those of two workers."""
    log = one.folder / f"cluster-{one.runs}.txt"
    quiet = {"env": one.environment, "stdin": subprocess.DEVNULL, "start_new_session": True}
    with open(log, "wb") as out:
        command = [sys.executable, "-m", "distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", "0"]
        scheduler = subprocess.Popen([*command, "--no-dashboard"], stdout=out, stderr=out, **quiet)  # type: ignore[call-overload]
        processes = [scheduler]
        try:
            address = _address(log)
            command = [sys.executable, "-m", "distributed.cli.dask_worker", address, "--nthreads", "1"]
            processes += [
                subprocess.Popen([*command, "--no-dashboard", "--no-nanny"], stdout=out, stderr=out, **quiet)  # type: ignore[call-overload]
                for _ in range(2)
            ]
            yield address, processes
        finally:
            for process in reversed(processes):
                process.kill()
                process.wait()


def _address(log: Path) -> str:
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until:
        for line in log.read_text(errors="replace").splitlines():
            if "Scheduler at:" in line:
                return line.rpartition(" ")[2].strip()
        time.sleep(0.1)
    raise RuntimeError("the Dask scheduler does not start")
