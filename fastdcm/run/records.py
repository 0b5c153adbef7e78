"""What earlier runs left: one journal line a volume, and which run may work on a store.

A record is written before its volume is published and counts only where the published volume has its digest, so a
crash between the two is harmless. Where the journal is lost, the store's own tables stand in for it.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from fastdcm.errors import UsageError
from fastdcm.model import Json

if TYPE_CHECKING:
    import pyarrow as pa

JOURNAL = "journal.jsonl"
LOCK = "lock"
SOURCES = "sources.json"
_DOCUMENT_LIMIT_BYTES = 1 << 30


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


@dataclass(frozen=True, slots=True)
class Record:
    """One published volume."""

    path: str
    digest: str
    row: Json
    """Its catalogue row as the store shows it."""
    frames: tuple[StoredFrame, ...]
    notes: tuple[FrameNote, ...] = ()
    """What was odd or repaired in its frames while they were decoded."""


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
    """
    with open(work / LOCK, "a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise UsageError("another conversion works on this store; wait for it, or stop it") from None
        yield


def load_journal(dest: Path, work: Path) -> Journal:
    """Read the journal, or what the store's tables say where it is lost; lines cut short by a crash are left out."""
    volumes: dict[str, Record] = {}
    bad: dict[str, tuple[FrameNote, ...]] = {}
    patients: dict[str, str] = {}
    owners: dict[str, str] = {}
    lines = list(_lines(work / JOURNAL))
    for line in lines:
        if "bad" in line:
            bad[line["digest"]] = tuple(FrameNote(*item) for item in line["bad"])
        elif "patients" in line:
            patients |= line["patients"]
            owners |= line["owners"]
        else:
            record = _record(line)
            if published_digest(dest / record.path) == record.digest:
                volumes[record.path] = record
    if not lines:
        volumes, patients = _from_tables(dest)
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
    with open(partial, "w", encoding="utf-8") as file:
        for line in _journal_lines(journal):
            file.write(line)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(work / JOURNAL)


def append_records(work: Path, records: Iterable[Record]) -> None:
    """Add records, and return once they are on the disk."""
    _append(work, (_dump(_line(record)) for record in records))


def append_bad(work: Path, digest: str, bad: Sequence[FrameNote]) -> None:
    """Add what a plan's frames turned out to be, so that the next run need not decode them again."""
    _append(work, [_dump({"digest": digest, "bad": bad})])


def append_patients(work: Path, patients: Mapping[str, str], owners: Mapping[str, str | None]) -> None:
    """Add keys and marks of patients by the name of the study's folder: what is published under them stays theirs."""
    if patients:
        _append(work, [_dump({"patients": dict(patients), "owners": dict(owners)})])


def write_sources(work: Path, sources: Sequence[str]) -> None:
    """Keep the absolute paths of the sources, in their order, for ``verify``: private, and no part of the store."""
    partial = work / f"{SOURCES}.partial"
    partial.unlink(missing_ok=True)
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(descriptor, "w", encoding="ascii") as file:
        json.dump(list(sources), file)
    partial.replace(work / SOURCES)


def published_digest(volume: Path) -> str | None:
    """Return the digest in a published volume's attributes; None where there is no such volume."""
    try:
        if (volume / "zarr.json").stat().st_size > _DOCUMENT_LIMIT_BYTES:
            return None
        document = json.loads((volume / "zarr.json").read_bytes())
        return str(document["attributes"]["fastdcm"]["source"]["digest"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _append(work: Path, lines: Iterable[str]) -> None:
    with open(work / JOURNAL, "a+b") as file:
        if file.tell() and not _ends_with_newline(file.fileno()):
            file.write(b"\n")  # after a crash in the middle of a line
        for line in lines:
            file.write(line.encode())
        file.flush()
        os.fsync(file.fileno())


def _ends_with_newline(descriptor: int) -> bool:
    size = os.fstat(descriptor).st_size
    return os.pread(descriptor, 1, size - 1) == b"\n"


def _lines(path: Path) -> Iterator[Json]:
    if not path.is_file():
        return
    with open(path, "rb") as file:
        for raw in file:
            try:
                line = json.loads(raw)
            except ValueError:
                continue
            if isinstance(line, dict):
                yield line


def _dump(line: Json) -> str:
    return json.dumps(line, ensure_ascii=True, separators=(",", ":")) + "\n"


def _journal_lines(journal: Journal) -> Iterator[str]:
    if journal.patients:
        owners = {folder: owner for folder, owner in sorted(journal.owners.items()) if owner is not None}
        yield _dump({"patients": dict(sorted(journal.patients.items())), "owners": owners})
    for digest, bad in sorted(journal.bad.items()):
        yield _dump({"digest": digest, "bad": bad})
    for _, record in sorted(journal.volumes.items()):
        yield _dump(_line(record))


def _line(record: Record) -> Json:
    columns = list(zip(*record.frames, strict=True)) or [()] * len(StoredFrame._fields)
    return {
        "path": record.path,
        "digest": record.digest,
        "row": record.row,
        "frames": dict(zip(StoredFrame._fields, columns, strict=True)),
        "notes": record.notes,
    }


def _record(line: Json) -> Record:
    columns = [line["frames"][name] for name in StoredFrame._fields]
    frames = tuple(StoredFrame(*values) for values in zip(*columns, strict=True))
    notes = tuple(FrameNote(*note) for note in line["notes"])
    return Record(line["path"], line["digest"], line["row"], frames, notes)


def _from_tables(dest: Path) -> tuple[dict[str, Record], dict[str, str]]:
    """Return the records that catalog.parquet and frames.parquet hold."""
    if not (dest / "catalog.parquet").is_file() or not (dest / "frames.parquet").is_file():
        return {}, {}
    import pyarrow.parquet

    catalog = pyarrow.parquet.read_table(dest / "catalog.parquet", memory_map=False).to_pylist()
    frames = _frames_by_volume(pyarrow.parquet.read_table(dest / "frames.parquet", memory_map=False))
    volumes = {}
    for row in catalog:
        path = row["volume"]
        digest = published_digest(dest / path)
        if digest is not None:
            volumes[path] = Record(path, digest, row, tuple(frames.get(path, ())))
    return volumes, {row["volume"].split("/")[0]: row["patient"] for row in catalog if row["patient"]}


def _frames_by_volume(table: pa.Table) -> dict[str, list[StoredFrame]]:
    found: dict[str, list[StoredFrame]] = {}
    columns = [table[name].to_pylist() for name in StoredFrame._fields]
    for path, values in zip(table["volume"].to_pylist(), zip(*columns, strict=True), strict=True):
        found.setdefault(path, []).append(StoredFrame(*values))
    return found
