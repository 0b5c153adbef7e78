"""Units whose target is a URL: built in a temporary folder of the worker, checked, and sent; all but the marker.

The marker of a volume goes back to the driver, who puts it when the volume is in the journal and counted.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import stat
import tempfile
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
    """Give a temporary folder (``TMPDIR``) that also a killed worker does not leave behind for long."""
    _remove_orphans()
    with writing("a temporary folder (TMPDIR)"):
        made = tempfile.TemporaryDirectory(prefix=f"fastdcm-{socket.gethostname()}-{os.getpid()}-")
    with made as folder:
        yield folder


@lru_cache(maxsize=1)
def _remove_orphans() -> None:
    """Remove the folders of processes that are gone, once a process; what it may not see stays."""
    name = re.compile(rf"fastdcm-{re.escape(socket.gethostname())}-(\d{{1,9}})-.*")
    with suppress(OSError):
        for path in sorted(Path(tempfile.gettempdir()).iterdir()):
            match = name.fullmatch(path.name)
            if match and not _is_alive(int(match[1])) and _is_own_folder(path):
                shutil.rmtree(path, ignore_errors=True)


def _is_own_folder(path: Path) -> bool:
    try:
        found = path.lstat()
    except OSError:  # another run was faster
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid()


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
