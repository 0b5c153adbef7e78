"""The place that is written to: whether it may be, who holds it, and how finished volumes get there."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from fastdcm.errors import TargetError, UsageError
from fastdcm.objects import is_url
from fastdcm.places import Place, Url, place_of, work_folder
from fastdcm.run.records import JOURNAL, LOCK, Record, append_records, lock_work

if TYPE_CHECKING:
    from fastdcm.run.lease import Lease
    from fastdcm.run.write import Built

GROUP_VOLUMES = 256
GROUP_BYTES = 1 << 30
GROUP_SECONDS = 10.0
"""A group of finished volumes is published when one of these is reached: one sync for all of them."""


@dataclass(frozen=True, slots=True)
class Target:
    """A store and its working folder beside it."""

    dest: Place
    work: Path
    """A folder of this machine, also where the store is in a bucket: index and journal are private."""
    single_writer: bool = False
    lease: list[Lease] = field(default_factory=list)
    """Of a store in a bucket, while it is held."""
    published: set[str] = field(default_factory=set)
    """Paths of the volumes that were in a bucket when it was taken, and that nobody took away since."""
    _run: str = field(default_factory=lambda: secrets.token_hex(4))

    @property
    def partials(self) -> str:
        """Where volumes are built: aside, but where nothing can be renamed at their places.

        Each run has a folder of its own: workers of a cluster may still be at the last task of a run that was killed.
        """
        return str(self.dest) if isinstance(self.dest, Url) else str(self.unfinished / self._run)

    @property
    def unfinished(self) -> Path:
        """Where all runs build volumes."""
        return self.work / "partial"

    @property
    def folder(self) -> Path:
        """The store's folder, where parts of a run work on different machines. Raises UsageError for a bucket."""
        if isinstance(self.dest, Url):
            raise UsageError(f"array jobs write to a folder that all of them see; convert writes to {self.dest}")
        return self.dest

    @property
    def alone(self) -> bool:
        """Whether the journal in the working folder knows of all runs on the store."""
        return not isinstance(self.dest, Url) or any(lease.alone for lease in self.lease)

    def check(self) -> None:
        """Raise TargetError where another run took the store over."""
        for lease in self.lease:
            lease.check()

    @property
    def index(self) -> Path:
        """Where the headers of the last run's files are."""
        return self.work / "index"

    @property
    def trash(self) -> Path:
        """Where replaced volumes go until the run ends."""
        return self.work / "trash"


def check_target(
    dest: str | os.PathLike[str], work: str | os.PathLike[str] | None, *, single_writer: bool = False
) -> Target:
    """Return the target, if it is ours or free; touches nothing.

    Raises
    ------
    UsageError
        DEST is a file, or a folder that is neither empty nor a fastdcm store; or the working folder is on another file
        system.
    """
    if isinstance(dest, str) and is_url(dest):
        return _check_bucket(place_of(dest), work, single_writer)
    place = Path(os.path.abspath(dest))
    beside = work_folder(place, work)
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


def _is_store(folder: Place) -> bool:
    try:
        attributes = json.loads((folder / "zarr.json").read_bytes())["attributes"]
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return isinstance(attributes, dict) and isinstance(attributes.get("fastdcm"), dict)


def _check_bucket(place: Place, work: str | os.PathLike[str] | None, single_writer: bool) -> Target:
    if not isinstance(place, Url) or place.text.startswith("http"):
        raise UsageError(f"{place} cannot be written: a store goes to a folder, s3://, gs:// or az://")
    target = Target(place, work_folder(place, work), single_writer)
    try:
        if not _is_store(place) and not (target.work / JOURNAL).is_file() and any(True for _ in place.listed()):
            raise UsageError(f"{place} is neither empty nor a fastdcm store; give another DEST")
    except OSError as error:
        raise TargetError(f"{place}: {error}") from None
    return target


@contextmanager
def hold_target(target: Target, tell: Callable[[str], None] = lambda _: None) -> Iterator[None]:
    """Make the folders, hold the lock, and leave no unfinished volume behind.

    Raises
    ------
    UsageError
        Another run holds the store.
    TargetError
        The folders cannot be made.
    """
    from fastdcm.store.commit import writing

    if isinstance(target.dest, Url):
        with _hold_bucket(target, target.dest, tell):
            yield
        return
    fresh = not target.dest.exists() and not target.work.exists()
    with writing(str(target.dest)):
        target.dest.mkdir(parents=True, exist_ok=True)
        target.work.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = lock_work(target.work)
    with lock, writing(str(target.dest)):  # whatever of the system fails in a run is the target's: sources are rows
        try:
            shutil.rmtree(target.unfinished, ignore_errors=True)
            yield
        finally:
            _clear(target, fresh)


@contextmanager
def _hold_bucket(target: Target, dest: Url, tell: Callable[[str], None]) -> Iterator[None]:
    """Hold a store in a bucket: the lock of the local working folder, then the lease; remove unfinished volumes."""
    from fastdcm.run.lease import hold_lease
    from fastdcm.store.commit import writing
    from fastdcm.store.upload import remove_unfinished

    with writing(str(target.work)):
        target.work.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = lock_work(target.work)
    leases = f"{dest}.work"
    with lock, hold_lease(leases, target.work, single_writer=target.single_writer, tell=tell) as lease:
        target.lease.append(lease)
        try:
            target.published.update(remove_unfinished(str(dest)))
            yield
        finally:
            target.lease.clear()
            target.published.clear()


def _clear(target: Target, fresh: bool) -> None:
    """Remove unfinished and replaced volumes; of a first run that made nothing, everything."""
    assert isinstance(target.dest, Path)
    for folder in (target.unfinished, target.trash):
        shutil.rmtree(folder, ignore_errors=True)
    if fresh and _is_empty(target.dest) and not (target.work / JOURNAL).is_file():
        target.dest.rmdir()
        (target.work / LOCK).unlink()
        target.work.rmdir()


class Publisher:
    """Finished volumes on their way into the store, a group at a time; the record always goes first."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._group: list[tuple[Record, Built]] = []
        self._bytes = 0
        self._since = time.monotonic()

    def add(self, record: Record, built: Built) -> None:
        """Take a complete volume; it is in the store after the next ``flush`` at the latest."""
        self._group.append((record, built))
        self._bytes += built.result.bytes_written
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

        dest, group, self._group, self._bytes, self._since = (
            self._target.dest,
            self._group,
            [],
            0,
            time.monotonic(),
        )
        if not group:
            return
        self._target.check()
        with writing("the journal"):
            append_records(self._target.work, (record for record, _ in group))
        if isinstance(dest, Url):
            from fastdcm.store.upload import Finished, publish_volumes

            done = [
                Finished(record.path, built.plan.array, built.result.bytes_written, built.result.marker)
                for record, built in group
            ]
            publish_volumes(dest.text, done)
            self._target.published.update(volume.path for volume in done)
            return
        new: list[tuple[Path, Path]] = []
        old: list[tuple[Path, Path]] = []
        for record, built in group:
            final = dest / record.path
            (old if os.path.lexists(final) else new).append((Path(built.partial), final))
        publish(new)
        for partial, final in old:
            replace(partial, final, self._target.trash)

    def make_room(self, path: str) -> bool:
        """Take a published volume away before another is written in its place; tell whether that was needed.

        Only where volumes are built at their places: elsewhere the old one stays until the new one is complete.
        """
        if path not in self._target.published:
            return False
        from fastdcm.store.upload import remove_volume

        self._target.check()
        remove_volume(str(self._target.dest / path))
        self._target.published.remove(path)
        return True

    def remove(self, path: str) -> None:
        """Take a volume out of the store: its frames are in others now."""
        from fastdcm.store.commit import writing

        if isinstance(self._target.dest, Url):
            self.make_room(path)
            return
        with writing("a volume"):
            self._target.trash.mkdir(exist_ok=True)
            final = self._target.dest / path
            if os.path.lexists(final):
                os.rename(final, self._target.trash / f"removed-{time.monotonic_ns()}")
