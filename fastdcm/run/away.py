"""Units whose target is a URL: built in a temporary folder of the worker, checked, and sent; all but the marker.

The marker of a volume goes back to the driver, who puts it when the volume is in the journal and counted.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from fastdcm.model import ShardResult, ShardTask
from fastdcm.objects import is_url
from fastdcm.run.culprits import run_safely
from fastdcm.run.task import Unit, UnitResult, VolumeResult, WholeVolume, WrittenVolume, joined_documents
from fastdcm.store.commit import ROOT, check_complete, writing
from fastdcm.store.upload import upload, upload_documents

_LOCK = ".lock"


def run_anywhere(unit: Unit, timeout_s: float | None = None) -> UnitResult:
    """Do a unit of work, wherever its target is; arguments and errors as of ``culprits.run_safely``.

    Raises
    ------
    TargetError
        The temporary folder or the object store cannot be written.
    CheckError
        A shard is not what was written.
    """
    first = unit[0] if isinstance(unit, tuple) else unit
    if not is_url(first.target if isinstance(first, ShardTask) else first.partial):
        return run_safely(unit, timeout_s)
    if isinstance(unit, WrittenVolume):
        return (_send_documents(unit),)
    with _folder() as folder:
        if isinstance(unit, ShardTask):
            return _send_shards(unit, folder, timeout_s)
        return _send_volumes(unit, folder, timeout_s)


def _send_shards(task: ShardTask, folder: str, timeout_s: float | None) -> ShardResult:
    result = run_safely(replace(task, target=folder), timeout_s)
    assert isinstance(result, ShardResult)
    if not (result.faults or result.overflow):
        check_complete(folder, task.array, task.region)
        upload({folder: task.target})
    return result


def _send_volumes(unit: Sequence[WholeVolume], folder: str, timeout_s: float | None) -> tuple[VolumeResult, ...]:
    """Build small volumes completely, and send the good ones together."""
    places = [f"{folder}/{number}" for number in range(len(unit))]
    results = run_safely(tuple(_moved(whole, place) for whole, place in zip(unit, places, strict=True)), timeout_s)
    assert isinstance(results, tuple)
    upload({place: whole.partial for place, whole, done in zip(places, unit, results, strict=True) if done.ready})
    return tuple(
        replace(done, marker=Path(place, ROOT).read_bytes()) if done.ready else done
        for place, done in zip(places, results, strict=True)
    )


def _moved(whole: WholeVolume, place: str) -> WholeVolume:
    tasks = tuple(replace(task, target=place + task.target.removeprefix(whole.partial)) for task in whole.tasks)
    return replace(whole, partial=place, tasks=tasks)


def _send_documents(written: WrittenVolume) -> VolumeResult:
    found, documents = joined_documents(written)
    if not found.ready:
        return found
    upload_documents(written.partial, documents)
    size = sum(map(len, documents.values()))
    return replace(found, bytes_written=found.bytes_written + size, marker=documents[ROOT])


# ---------------------------------------------------------------------------- temporary folders


@contextmanager
def _folder() -> Iterator[str]:
    """Give a temporary folder (``TMPDIR``) that also a killed worker does not leave behind for long.

    The file beside it is locked while the folder is in use. Numbers of processes would not tell: ``TMPDIR`` may be
    shared by containers, each of which counts its own.
    """
    import tempfile

    _remove_orphans()
    with writing("a temporary folder (TMPDIR)"):
        descriptor, lock = tempfile.mkstemp(prefix=_prefix(), suffix=_LOCK)
    try:
        with writing("a temporary folder (TMPDIR)"):
            _hold(descriptor, lock)
            os.mkdir(lock.removesuffix(_LOCK), 0o700)
        yield lock.removesuffix(_LOCK)
    finally:
        _remove(lock)
        os.close(descriptor)


def _prefix() -> str:
    import socket

    return f"fastdcm-{socket.gethostname()}-"  # of this host: some file systems keep locks from other hosts


def _hold(descriptor: int, lock: str) -> None:
    """Lock a file; where there are no locks, take it away: without it nobody takes the folder for an orphan."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    except OSError:
        os.unlink(lock)


def _remove(lock: str) -> None:
    shutil.rmtree(lock.removesuffix(_LOCK), ignore_errors=True)
    with suppress(OSError):
        os.unlink(lock)


@lru_cache(maxsize=1)
def _remove_orphans() -> None:
    """Remove the folders of processes that are gone, once a process; what it may not see stays."""
    import tempfile

    with suppress(OSError):
        for path in sorted(Path(tempfile.gettempdir()).iterdir()):
            if path.name.startswith(_prefix()) and path.name.endswith(_LOCK):
                with suppress(OSError):  # held, without locks, or another run was faster
                    _remove_orphan(path)


def _remove_orphan(lock: Path) -> None:
    """Remove a folder of this user whose lock nobody holds. Raises BlockingIOError where somebody does."""
    found = lock.lstat()
    if not stat.S_ISREG(found.st_mode) or found.st_uid != os.getuid():
        return
    with open(lock, "r+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        _remove(str(lock))
