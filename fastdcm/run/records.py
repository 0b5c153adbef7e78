"""What earlier runs left: one journal line a volume, and which run may work on a store.

A record is written before its volume is published and counts only where the published volume has its digest, so a
crash between the two is harmless. Where the journal is lost, the store's own tables stand in for it.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from fastdcm.errors import TargetError, UsageError
from fastdcm.model import Json
from fastdcm.places import Place, Url, published_volumes, table_file

if TYPE_CHECKING:
    import pyarrow as pa

JOURNAL = "journal.jsonl"
LOCK = "lock"
SOURCES = "sources.json"
_DOCUMENT_LIMIT_BYTES = 1 << 30
_LAST = "last"


class StoredFrame(NamedTuple):
    """One frame of a volume, by what does not change when files move."""

    t: int
    c: int | None
    """None for colour."""
    z: int
    sop_instance_uid: str | None
    frame: int
    tile: int | None


class FrameNote(NamedTuple):
    """Something about one frame: why it cannot be used, or what was odd or repaired."""

    sop_instance_uid: str | None
    frame: int
    tile: int
    code: str
    message: str


class StoredColumns(NamedTuple):
    """The frames of a volume in the order of t, c and z, by column: ``StoredFrame``, (n,) each."""

    t: Sequence[int]
    c: Sequence[int | None]
    z: Sequence[int]
    sop_instance_uid: Sequence[str | None]
    frame: Sequence[int]
    tile: Sequence[int | None]


class Record:
    """One published volume: path, digest, and whether frames were odd or repaired.

    The rest is its line of the journal, read when it is asked for: a long journal costs little memory.
    """

    __slots__ = ("_line", "_place", "digest", "noted", "path")

    def __init__(
        self, path: str, digest: str, noted: bool, line: bytes | None, place: tuple[Path, int, int] | None = None
    ) -> None:
        self.path, self.digest = path, digest
        self.noted = noted
        self._line, self._place = line, place

    @classmethod
    def of(cls, path: str, digest: str, row: Json, frames: StoredColumns, notes: Sequence[FrameNote] = ()) -> Record:
        """Return a new record.

        Parameters
        ----------
        path, digest : str
            Of the volume.
        row : dict
            Its catalogue row as the store shows it.
        frames : StoredColumns
            Its frames.
        notes : sequence of FrameNote
            What was odd or repaired in its frames while they were decoded.
        """
        line = {"path": path, "digest": digest, "row": row, "frames": frames._asdict(), "notes": notes}
        return cls(path, digest, bool(notes), _dump(line).encode())

    def line(self) -> bytes:
        """Return the journal's line."""
        if self._line is not None:
            return self._line
        journal, start, size = self._place or (Path(JOURNAL), 0, 0)
        descriptor = os.open(journal, os.O_RDONLY | os.O_CLOEXEC)  # a third of what a file object costs
        try:
            return os.pread(descriptor, size, start)
        finally:
            os.close(descriptor)

    def leave(self, journal: Path, start: int) -> None:
        """Note that the line is in the journal now, and hold it no longer."""
        self._place, self._line = (journal, start, len(self.line())), None

    def read(self) -> tuple[Json, StoredColumns, tuple[FrameNote, ...]]:
        """Return row, frames and notes."""
        line = json.loads(self.line())
        frames = StoredColumns(*(line["frames"][name] for name in StoredColumns._fields))
        return line["row"], frames, tuple(FrameNote(*note) for note in line["notes"])

    @property
    def frames(self) -> tuple[StoredFrame, ...]:
        """Return the frames one by one."""
        return tuple(StoredFrame(*values) for values in zip(*self.read()[1], strict=True))


@dataclass(frozen=True, slots=True)
class Journal:
    """What is known of a store when a run starts."""

    volumes: Mapping[str, Record]
    """By path; each is published with this digest."""
    bad: Mapping[str, tuple[FrameNote, ...]]
    """Frames that could not be decoded, by the digest of the plan that asked for them."""
    patients: Mapping[str, str]
    """Patient keys given at first publication, by the name of the study's folder."""
    owners: Mapping[str, str | None]
    """``catalog.patient_mark`` of each published study's patient, by its folder; None where it is not known."""


@contextmanager
def lock_work(work: Path) -> Iterator[None]:
    """Hold the store for this run.

    Raises
    ------
    UsageError
        Another run works on it.
    TargetError
        The file system has no locks.
    """
    with open(work / LOCK, "a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError("another conversion works on this store; wait for it, or stop it") from None
        except OSError as error:
            raise TargetError(
                f"the working folder cannot be locked: {error.strerror}; without locks two runs could not be kept "
                "apart. Mount it with locks (NFS: its lock daemon), or convert to another file system"
            ) from None
        yield


def load_journal(dest: Place, work: Path, *, alone: bool = True, untouched: bool = False) -> Journal:
    """Read the journal, or what the store's tables say where it is lost; lines cut short by a crash are left out.

    Parameters
    ----------
    dest : Path or Url
        The store.
    work : Path
        The working folder.
    alone : bool
        No run of another working folder changed the store since: its journal tells all. It may have where the store is
        in a bucket.
    untouched : bool
        Store and journal are as a run left them that ended well: every volume of the journal is published as it says.
    """
    published = _published(dest, alone) if not untouched else lambda _: _LAST
    volumes: dict[str, Record] = {}
    bad: dict[str, tuple[FrameNote, ...]] = {}
    patients: dict[str, str] = {}
    owners: dict[str, str] = {}
    lines = 0
    journal = work / JOURNAL
    for line, start, size in _lines(journal):
        lines += 1
        if "bad" in line:
            bad[line["digest"]] = tuple(FrameNote(*item) for item in line["bad"])
        elif "patients" in line:
            patients |= line["patients"]
            owners |= line["owners"]
        elif published(line["path"]) in (line["digest"], _LAST):
            volumes[line["path"]] = Record(
                line["path"], line["digest"], bool(line["notes"]), None, (journal, start, size)
            )
    if not lines or not alone:
        stored, named = _from_tables(dest)
        volumes, patients = {**stored, **volumes}, {**named, **patients}
    studies = sorted({path.split("/")[0] for path in volumes})  # what was named and never published is free again
    return Journal(
        volumes,
        bad,
        {study: patients[study] for study in studies if study in patients},
        {study: owners.get(study) for study in studies},
    )


def write_journal(work: Path, journal: Journal) -> None:
    """Replace the journal by one that holds only what counts."""
    partial = work / f"{JOURNAL}.partial"
    with open(partial, "wb") as file:
        for line in _journal_lines(journal):
            file.write(line)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(work / JOURNAL)


def append_records(work: Path, records: Iterable[Record]) -> None:
    """Add records, and return once they are on the disk."""
    records = list(records)
    places = _append(work, (record.line() for record in records))
    for record, start in zip(records, places, strict=True):
        record.leave(work / JOURNAL, start)


def append_bad(work: Path, digest: str, bad: Sequence[FrameNote]) -> None:
    """Add what a plan's frames turned out to be, so that the next run need not decode them again."""
    _append(work, [_dump({"digest": digest, "bad": bad}).encode()])


def append_patients(work: Path, patients: Mapping[str, str], owners: Mapping[str, str | None]) -> None:
    """Add keys and marks of patients by the name of the study's folder: what is published under them stays theirs."""
    if patients:
        _append(work, [_dump({"patients": dict(patients), "owners": dict(owners)}).encode()])


def write_sources(work: Path, sources: Sequence[str]) -> None:
    """Keep the absolute paths of the sources, in their order, for ``verify``: private, and no part of the store."""
    partial = work / f"{SOURCES}.partial"
    partial.unlink(missing_ok=True)
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(descriptor, "w", encoding="ascii") as file:
        json.dump(list(sources), file)
    partial.replace(work / SOURCES)


def _published(dest: Place, alone: bool) -> Callable[[str], str | None]:
    """Return what tells the digest of a published volume; ``_LAST`` where it is that of its last line for certain.

    In a bucket, where the documents are not all read: a marker is put after its line is in the journal, and taken away
    before the next.
    """
    if not isinstance(dest, Url):
        return lambda path: published_digest(dest / path)
    try:
        there = list(published_volumes(dest))
    except OSError as error:
        raise TargetError(f"{dest}: {error}") from None
    if alone:
        return dict.fromkeys(there, _LAST).get
    with ThreadPoolExecutor(16) as pool:
        digests = dict(zip(there, pool.map(lambda path: published_digest(dest / path), there), strict=True))
    return digests.get


def published_digest(volume: Place) -> str | None:
    """Return the digest in a published volume's attributes; None where there is no such volume."""
    marker = volume / "zarr.json"
    try:
        if isinstance(marker, Path) and marker.stat().st_size > _DOCUMENT_LIMIT_BYTES:
            return None
        document = json.loads(marker.read_bytes())
        return str(document["attributes"]["fastdcm"]["source"]["digest"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _append(work: Path, lines: Iterable[bytes]) -> list[int]:
    """Add lines, and return where each begins."""
    from fastdcm.store.commit import writing

    starts = []
    with writing("the journal"), open(work / JOURNAL, "a+b") as file:
        if file.tell() and not _ends_with_newline(file.fileno()):
            file.write(b"\n")  # after a crash in the middle of a line
        for line in lines:
            starts.append(file.tell())
            file.write(line)
        file.flush()
        os.fsync(file.fileno())
    return starts


def _ends_with_newline(descriptor: int) -> bool:
    size = os.fstat(descriptor).st_size
    return os.pread(descriptor, 1, size - 1) == b"\n"


def _lines(path: Path) -> Iterator[tuple[Json, int, int]]:
    """Yield each line that is whole, where it begins, and its bytes."""
    if not path.is_file():
        return
    start = 0
    with open(path, "rb") as file:
        for raw in file:
            start += len(raw)
            try:
                line = json.loads(raw)
            except ValueError:
                continue
            if isinstance(line, dict):
                yield line, start - len(raw), len(raw)


def _dump(line: Json) -> str:
    return json.dumps(line, ensure_ascii=True, separators=(",", ":")) + "\n"


def _journal_lines(journal: Journal) -> Iterator[bytes]:
    if journal.patients:
        owners = {folder: owner for folder, owner in sorted(journal.owners.items()) if owner is not None}
        yield _dump({"patients": dict(sorted(journal.patients.items())), "owners": owners}).encode()
    for digest, bad in sorted(journal.bad.items()):
        yield _dump({"digest": digest, "bad": bad}).encode()
    for _, record in sorted(journal.volumes.items()):
        yield record.line().rstrip(b"\n") + b"\n"  # the last line of an interrupted run may lack its end


def _from_tables(dest: Place) -> tuple[dict[str, Record], dict[str, str]]:
    """Return the records that catalog.parquet and frames.parquet hold."""
    if not (dest / "catalog.parquet").is_file() or not (dest / "frames.parquet").is_file():
        return {}, {}
    import pyarrow.parquet

    catalog = pyarrow.parquet.read_table(table_file(dest / "catalog.parquet"), memory_map=False).to_pylist()
    frames = pyarrow.parquet.read_table(table_file(dest / "frames.parquet"), memory_map=False)
    places = _runs(frames["volume"])
    volumes = {}
    for row in catalog:
        path = row["volume"]
        digest = published_digest(dest / path)
        if digest is not None:
            part = frames.slice(*places.get(path, (0, 0)))
            columns = StoredColumns(*(part[name].to_pylist() for name in StoredColumns._fields))
            volumes[path] = Record.of(path, digest, row, columns)
    return volumes, {row["volume"].split("/")[0]: row["patient"] for row in catalog if row["patient"]}


def _runs(volumes: pa.ChunkedArray) -> dict[str, tuple[int, int]]:
    """Return where the rows of each volume begin, and how many they are; equal ones stand together."""
    import pyarrow.compute as pc

    found: dict[str, tuple[int, int]] = {}
    start = 0
    for run in pc.run_end_encode(volumes).iterchunks():
        first = start
        for path, end in zip(run.values.to_pylist(), run.run_ends.to_pylist(), strict=True):
            begin, size = found.get(path, (start, 0))
            found[path] = (begin, size + first + end - start)
            start = first + end
    return found
