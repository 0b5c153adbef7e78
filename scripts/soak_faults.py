"""The faults of a soak: each disturbs one conversion for real, and says which exit codes are right then."""

from __future__ import annotations

import errno
import os
import resource
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from scripts.soak_export import any_slice, change_slice, spoilt
from scripts.soak_runs import (
    DONE,
    Round,
    Running,
    any_resources,
    cluster,
    finish,
    launch,
    marked,
    send,
    start,
    wait_some,
)
from scripts.soak_store import compare, look, visible_problems

STOPPED, TARGET, USAGE = 130, 3, 2

Fault = Callable[[Round], None]


def kill_driver(one: Round) -> None:
    """End the driver without a warning."""
    run = start(one, *any_resources(one))
    if wait_some(one, run):
        send(run.process.pid, signal.SIGKILL)
    finish(one, run, {DONE, -signal.SIGKILL})


def kill_child(one: Round) -> None:
    """End processes that work for the driver: decoders, workers."""
    run = start(one, *any_resources(one))
    for _ in range(one.rng.randint(1, 3)):
        if wait_some(one, run, 0.5) and (children := _children(run)):
            send(one.rng.choice(children), signal.SIGKILL)
    finish(one, run, {DONE})


def kill_worker(one: Round) -> None:
    """End one worker of a running cluster."""
    with cluster(one) as (address, processes):
        run = start(one, "--scheduler", address)
        wait_some(one, run)
        processes[one.rng.randint(1, 2)].kill()
        finish(one, run, {DONE})


def kill_scheduler(one: Round) -> None:
    """End the scheduler of a running cluster."""
    with cluster(one) as (address, processes):
        run = start(one, "--scheduler", address)
        wait_some(one, run)
        processes[0].kill()
        finish(one, run, {DONE, TARGET, USAGE})


def interrupt(one: Round) -> None:
    """Ctrl-C, as a terminal sends it: to all processes of the run."""
    run = start(one, *any_resources(one))
    if wait_some(one, run):
        _interrupt_group(run)
    finish(one, run, {DONE, STOPPED, -signal.SIGINT})  # the last: before Python was ready to be interrupted


def _interrupt_group(run: Running) -> None:
    try:
        os.killpg(run.process.pid, signal.SIGINT)
    except ProcessLookupError:
        return


def suspend(one: Round) -> None:
    """Stop the driver, or all of a run, for some seconds, as a laptop that sleeps."""
    run = start(one, *any_resources(one), "--task-timeout", "20")
    if wait_some(one, run, 0.8):
        pids = [run.process.pid] if one.rng.random() < 0.5 else marked(run.mark)
        for pid in pids:
            send(pid, signal.SIGSTOP)
        time.sleep(one.rng.uniform(0.5, 5.0))
        for pid in pids:
            send(pid, signal.SIGCONT)
    finish(one, run, {DONE})


def two_at_once(one: Round) -> None:
    """Start the same command twice: the second is refused."""
    runs = [start(one, *any_resources(one))]
    wait_some(one, runs[0], 0.5)
    runs.append(start(one, *any_resources(one)))
    codes = [finish(one, run, {DONE, USAGE}) for run in runs]
    if DONE not in codes:
        one.problems.append(f"{runs[0].log.name}: two runs at once, and both were refused")


def spoil_file(one: Round) -> None:
    """Let a file vanish, shrink, grow or become something else while it is converted; later it is as before."""
    run = start(one, *any_resources(one))
    wait_some(one, run, 0.8)
    with spoilt(one.export, one.rng) as what:
        one.faults.append(f"file-{what}")
        finish(one, run, {DONE})


def change_file(one: Round) -> None:
    """Put a file with other pixels in the place of one, for good, while it is converted."""
    run = start(one, *any_resources(one))
    wait_some(one, run)
    change_slice(one.export, one.rng)
    finish(one, run, {DONE})


def small_files(one: Round) -> None:
    """Refuse files above a size (a quota): EFBIG."""
    limit = one.rng.choice((20_000, 100_000, 1_000_000))
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    run = _limited(one, limit, old[1])
    finish(one, run, {DONE, TARGET})


def _limited(one: Round, limit: int, hard: int) -> Running:
    """Start a run whose files must be small; its log has a few lines."""
    run = start(one, *any_resources(one))
    resource.prlimit(run.process.pid, resource.RLIMIT_FSIZE, (limit, hard))
    return run


def full_disk(one: Round) -> None:
    """Work on a disk that is too small, which grows afterwards."""
    size = one.rng.randrange(200_000, 30_000_000)
    _on_small_disk(one, f"size={size // 4096 * 4096}")


def no_inodes(one: Round) -> None:
    """Work on a disk with too few inodes, which gets more afterwards."""
    _on_small_disk(one, f"size=1g,nr_inodes={one.rng.randrange(20, 900)}")


def _on_small_disk(one: Round, limits: str) -> None:
    """Convert to a target on a disk of its own, and again when it is large enough; compare it where it is."""
    disk = one.folder / "disk"
    disk.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", limits, "tmpfs", disk], check=True)
    try:
        dest = disk / "s.zarr"
        finish(one, start(one, *any_resources(one), dest=dest), {DONE, TARGET})
        look(one, dest)
        subprocess.run(["mount", "-o", "remount,size=1g,nr_inodes=100k", disk], check=True)
        finish(one, start(one, *any_resources(one), dest=dest), {DONE})
        compare(one, dest)
    finally:
        subprocess.run(["umount", "-l", disk], check=True)


def read_only(one: Round) -> None:
    """Make the disk of the target read-only while it is written."""
    disk = one.folder / "disk"
    disk.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1g", "tmpfs", disk], check=True)
    try:
        dest = disk / "s.zarr"
        run = start(one, *any_resources(one), dest=dest)
        wait_some(one, run)
        busy = subprocess.run(["mount", "-o", "remount,ro", disk], capture_output=True, check=False).returncode
        finish(one, run, {DONE} if busy else {DONE, TARGET})  # what is open for writing keeps it writable
        subprocess.run(["mount", "-o", "remount,rw", disk], check=True)
        finish(one, start(one, *any_resources(one), dest=dest), {DONE})
        compare(one, dest)
    finally:
        subprocess.run(["umount", "-l", disk], check=True)


def sick_source(one: Round) -> None:
    """Let reading one slice, or opening it, fail once, often or always."""
    call = one.rng.choice(("open", "read"))
    code = one.rng.choice((errno.EIO, errno.ESTALE, errno.EACCES, errno.EAGAIN, errno.ETIMEDOUT))
    name = any_slice(one.export, one.rng).name
    _sick(one, {"FAIL_MATCH": name, "FAIL_CALL": call, "FAIL_ERRNO": str(code)}, {DONE})


def slow_source(one: Round) -> None:
    """Let every read of one slice take long."""
    name = any_slice(one.export, one.rng).name
    more = {"FAIL_MATCH": name, "FAIL_CALL": "read", "FAIL_SLEEP_MS": "300"}
    _sick(one, more, {DONE})


def sick_target(one: Round) -> None:
    """Let calls on the target fail from some moment on."""
    call = one.rng.choice(("open", "write", "rename", "sync"))
    code = one.rng.choice((errno.EIO, errno.ENOSPC, errno.EDQUOT, errno.EROFS))
    after = one.rng.randrange(0, 400 if call in ("open", "write") else 60)
    more = {"FAIL_MATCH": f"{one.dest.name}", "FAIL_CALL": call, "FAIL_ERRNO": str(code), "FAIL_AFTER": str(after)}
    _sick(one, more, {DONE, TARGET})


def array_jobs(one: Round) -> None:
    """Plan, run parts of which some are killed, and finish: too early, which is refused, and when all is there."""
    plan, dest = one.folder / f"plan-{one.runs}", one.folder / f"array-{one.runs}.zarr"
    given = (str(one.export), "--out", str(plan), "--dest", str(dest))
    finish(one, launch(one, "plan", *given, *one.options), {0, DONE})
    parts = one.rng.randint(2, 4)
    numbers = [*range(1, parts + 1), one.rng.randint(1, parts)]
    one.rng.shuffle(numbers)
    for number in numbers:
        run = launch(one, "run", str(plan), "--part", f"{number}/{parts}")
        if one.rng.random() < 0.7 and wait_some(one, run, 0.8):
            send(run.process.pid, signal.SIGKILL)
        finish(one, run, {0, -signal.SIGKILL})
    if finish(one, launch(one, "finish", str(plan)), {DONE, USAGE}) == USAGE:
        if dest.exists() and visible_problems(dest):
            one.problems.append("finish published an incomplete set")
        finish(one, launch(one, "run", str(plan)), {0})
        finish(one, launch(one, "finish", str(plan)), {DONE})
    compare(one, dest)


def _sick(one: Round, settings: Mapping[str, str], allowed: set[int]) -> None:
    if one.library is None:
        return
    times = {} if "FAIL_AFTER" in settings else {"FAIL_TIMES": one.rng.choice(("1", "2", "5", "-1"))}
    environment = {**settings, **times, "LD_PRELOAD": str(one.library)}
    finish(one, start(one, *any_resources(one), env=environment), allowed)


def _children(run: Running) -> list[int]:
    return [pid for pid in marked(run.mark) if pid != run.process.pid]


PLAIN: Mapping[str, Fault] = {
    "kill-driver": kill_driver,
    "kill-child": kill_child,
    "kill-worker": kill_worker,
    "kill-scheduler": kill_scheduler,
    "interrupt": interrupt,
    "suspend": suspend,
    "two-at-once": two_at_once,
    "spoil-file": spoil_file,
    "change-file": change_file,
    "small-files": small_files,
    "sick-source": sick_source,
    "slow-source": slow_source,
    "sick-target": sick_target,
    "array-jobs": array_jobs,
}
ROOT_ONLY: Mapping[str, Fault] = {"full-disk": full_disk, "no-inodes": no_inodes, "read-only": read_only}
WEIGHTS: Mapping[str, int] = {"kill-driver": 6, "kill-child": 3, "interrupt": 2}
"""How much more often than once."""


def build_library(folder: Path) -> Path | None:
    """Compile what makes system calls fail; None without a compiler."""
    source = Path(__file__).resolve().parents[1] / "tests_system" / "failing.c"
    library = folder / "failing.so"
    try:
        subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return library
