"""A command run to its end while its memory is watched: the process, and every process that it starts."""

from __future__ import annotations

import compileall
import os
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent
PAUSE_SECONDS = 0.02


class Watched(NamedTuple):
    """What one command took."""

    output: str
    """Its standard output."""
    seconds: float
    processor_seconds: float
    """User and system, with all of its children."""
    peak_bytes: int
    """Most resident bytes of the process itself, as the kernel kept it."""
    child_peak_bytes: int
    """The same of the largest of its children; 0 where it has none."""
    tree_peak_bytes: int
    """Largest sum over all of them at one moment, looked at every 20 ms; shared pages count once for each."""


def as_installed() -> None:
    """Compile the modules, as installing does, whatever this environment says of writing bytecode.

    Where ``PYTHONDONTWRITEBYTECODE`` is set every process would compile them anew, which no user's does: 0.36 s of the
    processor in each run of ``convert``.
    """
    for folder in ("fastdcm", "benchmarks"):
        compileall.compile_dir(ROOT / folder, quiet=1)


def watch(command: Sequence[str], exit_codes: Sequence[int] = (0,)) -> Watched:
    """Run a command in the project's folder.

    Raises
    ------
    SystemExit
        It ended with another code than those expected.
    """
    before, start = os.times(), time.perf_counter()
    process = subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    peaks: dict[int, int] = {}
    tree_peak = 0
    output: str | None = None
    while output is None:
        resident = {pid: _memory(pid) for pid in _family(process.pid)}
        tree_peak = max(tree_peak, sum(now for now, _ in resident.values()))
        peaks |= {pid: max(peak, peaks.get(pid, 0)) for pid, (_, peak) in resident.items()}
        try:
            output, error = process.communicate(timeout=PAUSE_SECONDS)
        except subprocess.TimeoutExpired:
            continue  # nothing that it said is lost
    seconds, after = time.perf_counter() - start, os.times()
    if process.returncode not in exit_codes:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}:\n{output[-2000:]}\n{error[-2000:]}")
    used = after.children_user + after.children_system - before.children_user - before.children_system
    own = peaks.pop(process.pid, 0)
    return Watched(output, seconds, used, own, max(peaks.values(), default=0), tree_peak)


def _family(pid: int) -> list[int]:
    """Return a process and all that descend from it."""
    found = [pid]
    for parent in found:
        for task in _names(f"/proc/{parent}/task"):
            found += [int(child) for child in _text(f"/proc/{parent}/task/{task}/children").split()]
    return found


def _names(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:  # it ended meanwhile
        return []


def _text(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""


def _memory(pid: int) -> tuple[int, int]:
    """Return resident bytes now and at most."""
    found = {"VmRSS": 0, "VmHWM": 0}
    for line in _text(f"/proc/{pid}/status").splitlines():
        name, _, value = line.partition(":")
        if name in found:
            found[name] = int(value.split()[0]) * 1024
    return found["VmRSS"], found["VmHWM"]


def best(runs: int, function: Callable[[], object]) -> float:
    """Return the processor seconds that this thread took in the fastest of several runs."""
    seconds = []
    for _ in range(runs):
        start = time.thread_time()
        function()
        seconds.append(time.thread_time() - start)
    return min(seconds)
