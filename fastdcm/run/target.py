"""The place that is written to: whether it may be, who holds it, and how finished volumes get there."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from fastdcm.errors import UsageError
from fastdcm.run.records import JOURNAL, LOCK, Record, append_records, lock_work

GROUP_VOLUMES = 256
GROUP_BYTES = 1 << 30
GROUP_SECONDS = 10.0
"""A group of finished volumes is published when one of these is reached: one sync for all of them."""


@dataclass(frozen=True, slots=True)
class Target:
    """A store and its working folder beside it."""

    dest: Path
    work: Path

    @property
    def partials(self) -> Path:
        """Where volumes are built."""
        return self.work / "partial"

    @property
    def index(self) -> Path:
        """Where the headers of the last run's files are."""
        return self.work / "index"

    @property
    def trash(self) -> Path:
        """Where replaced volumes go until the run ends."""
        return self.work / "trash"


def check_target(dest: str | os.PathLike[str], work: str | os.PathLike[str] | None) -> Target:
    """Return the target, if it is ours or free; touches nothing.

    Raises
    ------
    UsageError
        DEST is a file, or a folder that is neither empty nor a fastdcm store; or the working folder is on another file
        system.
    """
    place = Path(os.path.abspath(dest))
    beside = Path(os.path.abspath(work)) if work is not None else place.with_name(f"{place.name}.work")
    target = Target(place, beside)
    if device_of(place) != device_of(beside):
        raise UsageError(f"{beside} is on another file system than {place}: give a --work beside the store")
    if not os.path.lexists(place):
        return target
    if not place.is_dir():
        raise UsageError(f"{dest} is not a folder")
    if not _is_empty(place) and not _is_store(place) and not (beside / JOURNAL).is_file():
        raise UsageError(f"{dest} is neither empty nor a fastdcm store; give another DEST")
    return target


def device_of(path: Path) -> int:
    """Return the file system on which a path is, or will be made."""
    return next(place for place in (path, *path.parents) if os.path.exists(place)).stat().st_dev


def _is_empty(folder: Path) -> bool:
    with os.scandir(folder) as entries:
        return next(entries, None) is None


def _is_store(folder: Path) -> bool:
    try:
        attributes = json.loads((folder / "zarr.json").read_bytes())["attributes"]
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return isinstance(attributes, dict) and isinstance(attributes.get("fastdcm"), dict)


@contextmanager
def hold_target(target: Target) -> Iterator[None]:
    """Make the folders, hold the lock, and leave no unfinished volume behind.

    Raises
    ------
    UsageError
        Another run holds the store.
    TargetError
        The folders cannot be made.
    """
    from fastdcm.store.commit import writing

    fresh = not target.dest.exists() and not target.work.exists()
    with writing(str(target.dest)):
        target.dest.mkdir(parents=True, exist_ok=True)
        target.work.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = lock_work(target.work)
    with lock, writing(str(target.dest)):  # whatever of the system fails in a run is the target's: sources are rows
        try:
            shutil.rmtree(target.partials, ignore_errors=True)
            yield
        finally:
            _clear(target, fresh)


def _clear(target: Target, fresh: bool) -> None:
    """Remove unfinished and replaced volumes; of a first run that made nothing, everything."""
    for folder in (target.partials, target.trash):
        shutil.rmtree(folder, ignore_errors=True)
    if fresh and _is_empty(target.dest) and not (target.work / JOURNAL).is_file():
        target.dest.rmdir()
        (target.work / LOCK).unlink()
        target.work.rmdir()


class Publisher:
    """Finished volumes on their way into the store, a group at a time; the record always goes first."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._group: list[tuple[Record, Path]] = []
        self._bytes = 0
        self._since = time.monotonic()

    def add(self, record: Record, partial: Path, written_bytes: int) -> None:
        """Take a complete volume; it is in the store after the next ``flush`` at the latest."""
        self._group.append((record, partial))
        self._bytes += written_bytes
        late = time.monotonic() - self._since > GROUP_SECONDS
        if late or len(self._group) >= GROUP_VOLUMES or self._bytes >= GROUP_BYTES:
            self.flush()

    def flush(self) -> None:
        """Publish what is waiting.

        Raises
        ------
        TargetError
            The target failed.
        """
        from fastdcm.store.commit import publish, replace, writing

        group, self._group, self._bytes, self._since = self._group, [], 0, time.monotonic()
        if not group:
            return
        with writing("the journal"):
            append_records(self._target.work, (record for record, _ in group))
        new: list[tuple[Path, Path]] = []
        old: list[tuple[Path, Path]] = []
        for record, partial in group:
            final = self._target.dest / record.path
            (old if os.path.lexists(final) else new).append((partial, final))
        publish(new)
        for partial, final in old:
            replace(partial, final, self._target.trash)

    def remove(self, path: str) -> None:
        """Take a volume out of the store: its frames are in others now."""
        from fastdcm.store.commit import writing

        with writing("a volume"):
            self._target.trash.mkdir(exist_ok=True)
            final = self._target.dest / path
            if os.path.lexists(final):
                os.rename(final, self._target.trash / f"removed-{time.monotonic_ns()}")
