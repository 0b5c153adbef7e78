"""A series map as a document: written once, read whole by who publishes, and by shares by who writes volumes.

What depends on all series together - names, numbers, flags, what is left out - stands in it, so a share works out its
own series alone. Parquet and JSON; a share reads the row groups that hold its rows.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fastdcm.errors import Code
from fastdcm.model import Answer, Index, Ints, Options, Reason
from fastdcm.run.bad_images import keep_slide_labels, with_bad_images
from fastdcm.run.book import SeriesBook, VolumeFacts, texts_of
from fastdcm.run.execute import Engine
from fastdcm.run.records import FrameNote, Journal, Record
from fastdcm.run.regroup import Context, leave_out_bad
from fastdcm.run.series import Bad, Names, published_by_series
from fastdcm.run.survey import SeriesMap

if TYPE_CHECKING:
    import pyarrow as pa

GROUP_ROWS = 1 << 14
VOLUME_COST_BYTES = 1 << 20
"""What a volume costs beside its voxels: shares of many small volumes and of few large ones take equally long."""
_BAD = "bad.jsonl"


class VolumeRow(NamedTuple):
    """One volume that is to be written."""

    path: str
    digest: str
    series: int
    """In the map; in a share, in its book."""
    place: int
    """Among the plans of its series."""
    key: str
    """Names the work: path, digest and files."""
    task_bytes: int
    array_bytes: int


@dataclass(frozen=True, slots=True, eq=False)
class Share:
    """Some of the volumes to be written, and all that is needed to plan them."""

    volumes: tuple[VolumeRow, ...]
    book: SeriesBook


def key_of(path: str, digest: str, files: npt.NDArray[np.int32]) -> str:
    """Return what tells one volume's work from another's: a copy of the same size and date gives the same digest."""
    import hashlib

    return hashlib.sha256(b"\0".join([path.encode(), digest.encode(), files.astype("<i4").tobytes()])).hexdigest()[:32]


# ---------------------------------------------------------------------------- write


def save_map(folder: Path, found: SeriesMap, journal: Journal, wanted: npt.NDArray[np.bool_]) -> None:
    """Write a map as files beside its index, which stands in ``index`` as it was scanned.

    Parameters
    ----------
    folder : path
        Where to write.
    found : SeriesMap
        With the answers to all questions.
    journal : Journal
        What was published when the map was made.
    wanted : (volumes,) bool
        Which volumes are to be written.

    Raises
    ------
    OSError
        The folder cannot be written.
    """
    import pyarrow.parquet as pq

    series = set(found.facts.series[wanted].tolist())
    tables = {
        "catalog": found.table,
        "volumes": _volumes_table(found, wanted),
        "series": _series_table(found.book, found.odd),
        "names": _names_table(found.names),
        "published": _published_table(found, journal, series),
        "reused": _column("uid", sorted(found.book.reused)),
    }
    for name, table in tables.items():
        pq.write_table(table, folder / f"{name}.parquet", compression="zstd", row_group_size=GROUP_ROWS)
    with open(folder / _BAD, "w", encoding="ascii") as file:
        for digest, notes in journal.bad.items():
            file.write(json.dumps([digest, notes]) + "\n")


def _column(name: str, texts: Sequence[str]) -> pa.Table:
    import pyarrow as pa

    return pa.table({name: pa.array(texts, pa.string())})


def _volumes_table(found: SeriesMap, wanted: npt.NDArray[np.bool_]) -> pa.Table:
    import pyarrow as pa

    facts = found.facts
    paths = list(texts_of(found.table, "volume"))
    bounds = facts.starts.tolist()
    files = (facts.files[bounds[row] : bounds[row + 1]] for row in range(len(paths)))
    digests = [facts.digest(row) for row in range(len(paths))]
    left_out = [found.left_out.get(path) for path in paths]
    return pa.table(
        {
            "volume": pa.array(paths, pa.string()),
            "series": facts.series,
            "place": pa.array([facts.place(row) for row in range(len(paths))], pa.int32()),
            "digest": pa.array(digests, pa.string()),
            "key": pa.array(map(key_of, paths, digests, files), pa.string()),
            "array_bytes": facts.array_bytes,
            "task_bytes": facts.task_bytes,
            "wanted": wanted,
            "left_out": pa.array([_reason_text(reason) for reason in left_out], pa.string()),
            "files": pa.ListArray.from_arrays(pa.array(facts.starts, pa.int32()), pa.array(facts.files)),
        }
    )


def _reason_text(reason: Reason | None) -> str | None:
    return None if reason is None else json.dumps([str(reason.code), reason.message])


def _reason_of(text: str) -> Reason:
    code, message = json.loads(text)
    return Reason(Code(code), message)


def _series_table(book: SeriesBook, odd: frozenset[int]) -> pa.Table:
    import pyarrow as pa

    rows, series = book.frames.series_of_rows()
    starts = np.searchsorted(series, np.arange(len(book) + 1))
    return pa.table(
        {
            "rows": pa.ListArray.from_arrays(pa.array(starts, pa.int32()), pa.array(rows.astype(np.int32))),
            "odd": pa.array([number in odd for number in range(len(book))], pa.bool_()),
            "flag": pa.array([_reason_text(book.flags.get(number)) for number in range(len(book))], pa.string()),
            "told": pa.array([_told_text(book.told.get(number)) for number in range(len(book))], pa.string()),
        }
    )


def _told_text(told: tuple[tuple[Answer, ...], Bad] | None) -> str | None:
    if told is None:
        return None
    answers, bad = told
    return json.dumps({"answers": answers, "bad": [(row, note) for row, note in bad.items()]})


def _told_of(text: str) -> tuple[tuple[Answer, ...], Bad]:
    told = json.loads(text)
    bad = {row: FrameNote(*note) for row, note in told["bad"]}
    return tuple(Answer(*answer) for answer in told["answers"]), bad


def _names_table(names: Names) -> pa.Table:
    """Return the names of all studies, by patient and study: also of those that lost their volumes to bad frames."""
    import pyarrow as pa

    rows = [(*study, folder, names.patients[study[0]]) for study, folder in names.studies.items()]
    columns = zip(*rows, strict=True) if rows else ((), (), (), ())
    kinds = ("patient_id", "study_uid", "folder", "key")
    return pa.table({kind: pa.array(column, pa.string()) for kind, column in zip(kinds, columns, strict=True)})


def _published_table(found: SeriesMap, journal: Journal, series: set[int]) -> pa.Table:
    """Return what is published now; with the frames, by which numbers are kept, for series that are written."""
    import pyarrow as pa

    folders: dict[str, int] = {}
    for path, number in zip(texts_of(found.table, "volume"), found.facts.series.tolist(), strict=True):
        if number in series:
            folders[path.rpartition("/")[0]] = number
    records = list(journal.volumes.values())
    numbers = [folders.get(record.path.rpartition("/")[0]) for record in records]
    lines = [None if n is None else record.line() for n, record in zip(numbers, records, strict=True)]
    return pa.table(
        {
            "volume": pa.array([record.path for record in records], pa.string()),
            "digest": pa.array([record.digest for record in records], pa.string()),
            "series": pa.array(numbers, pa.int32()),
            "line": pa.array(lines, pa.binary()),
        }
    )


# ---------------------------------------------------------------------------- read


def load_map(folder: Path, options: Options, engine: Engine, journal: Journal, warnings: Sequence[str]) -> SeriesMap:
    """Return the map that ``save_map`` wrote; names go on from what is published now.

    Raises
    ------
    OSError
        The folder cannot be read.
    """
    from fastdcm.scan.index import load_index
    from fastdcm.series.catalog import catalog_table

    index = _labelled(load_index(str(folder / "index")), options)
    volumes = _table(folder, "volumes")
    catalog = _table(folder, "catalog").cast(catalog_table([]).schema)
    series = _table(folder, "series", ["odd", "flag", "told"]).to_pylist()
    names = _names(folder, None)
    held = published_by_series(journal.volumes) | _published(folder, None)
    names = names._replace(published=held, keys=journal.patients, owners=journal.owners)
    book = _book(folder, index, options, names, engine, series)
    texts = zip(texts_of(catalog, "volume"), volumes["left_out"].to_pylist(), strict=True)
    return SeriesMap(
        index,
        book,
        _facts(volumes),
        catalog,
        {path: _reason_of(text) for path, text in texts if text is not None},
        frozenset(number for number, one in enumerate(series) if one["odd"]),
        tuple(warnings),
    )


def _facts(volumes: pa.Table) -> VolumeFacts:
    files = volumes["files"].combine_chunks()
    return VolumeFacts(
        series=volumes["series"].to_numpy().astype(np.int32),
        digests=np.frombuffer(bytes.fromhex("".join(volumes["digest"].to_pylist())), np.uint8).reshape(-1, 32),
        array_bytes=volumes["array_bytes"].to_numpy(),
        task_bytes=volumes["task_bytes"].to_numpy(),
        starts=np.append(0, np.cumsum(files.value_lengths().to_numpy())).astype(np.int64),
        files=files.flatten().to_numpy().astype(np.int32),
    )


def published_before(folder: Path) -> dict[str, str]:
    """Return the digests of the volumes that were published when the map was made, by path."""
    table = _table(folder, "published", ["volume", "digest"])
    return dict(zip(table["volume"].to_pylist(), table["digest"].to_pylist(), strict=True))


def wanted_volumes(folder: Path) -> Iterator[VolumeRow]:
    """Yield all volumes that are to be written."""
    yield from _volume_rows(folder, np.flatnonzero(_table(folder, "volumes", ["wanted"])["wanted"].to_numpy()))


def load_share(folder: Path, options: Options, engine: Engine, part: int, parts: int) -> Share:
    """Return the volumes of one of ``parts`` shares, 1-based; each costs about as much as another.

    Raises
    ------
    OSError
        The folder cannot be read.
    """
    from fastdcm.scan.index import load_rows

    volumes = tuple(_volume_rows(folder, _share_rows(folder, part, parts)))
    numbers = sorted({volume.series for volume in volumes})
    series = _rows_of(folder, "series", numbers).to_pylist()
    rows = np.sort(np.fromiter((row for one in series for row in one["rows"]), np.int64))
    local = {number: place for place, number in enumerate(numbers)}
    names = _names(folder, {volume.path.partition("/")[0] for volume in volumes})
    names = names._replace(published=_published(folder, set(numbers)))
    index = _labelled(load_rows(str(folder / "index"), rows), options)
    book = _book(folder, index, options, names, engine, series)
    return Share(tuple(volume._replace(series=local[volume.series]) for volume in volumes), book)


def share_owners(folder: Path, parts: int) -> Ints:
    """Return the share, from 1, of each volume to be written: neighbours together, so a series is seldom in two."""
    table = _table(folder, "volumes", ["wanted", "array_bytes"])
    own = table["array_bytes"].to_numpy()[table["wanted"].to_numpy()].astype(np.float64) + VOLUME_COST_BYTES
    ends = np.cumsum(own)
    owners: Ints = ((ends - own / 2) * parts / ends[-1:]).astype(np.int64) + 1
    return owners


def _share_rows(folder: Path, part: int, parts: int) -> Ints:
    wanted: Ints = np.flatnonzero(_table(folder, "volumes", ["wanted"])["wanted"].to_numpy())
    found: Ints = wanted[share_owners(folder, parts) == part]
    return found


def _volume_rows(folder: Path, rows: Ints) -> Iterator[VolumeRow]:
    names = ["volume", "digest", "series", "place", "key", "task_bytes", "array_bytes"]
    table = _rows_of(folder, "volumes", rows.tolist(), names)
    yield from (VolumeRow(*values) for values in zip(*(table[name].to_pylist() for name in names), strict=True))


def _book(
    folder: Path,
    index: Index,
    options: Options,
    names: Names,
    engine: Engine,
    series: Sequence[Mapping[str, Any]],
) -> SeriesBook:
    """Return the entries of some series, as the survey had them: ``series`` are their rows, in their order."""
    from fastdcm.series.frames import SeriesFrames

    usable, faults = with_bad_images(index)
    reused = frozenset(_table(folder, "reused")["uid"].to_pylist())
    told = {number: _told_of(one["told"]) for number, one in enumerate(series) if one["told"] is not None}
    book = SeriesBook(SeriesFrames(usable), faults, options, names, reused, index, told)
    context, known = Context(options, names, index, engine), _bad(folder)
    for number, one in enumerate(series):
        if one["odd"] and options.on_bad_frame != "fail":
            planned = book.plan(book.group(number))
            found = leave_out_bad(planned, context, known)
            if found is not planned:
                book[number] = found
    book.flag({number: _reason_of(one["flag"]) for number, one in enumerate(series) if one["flag"] is not None})
    return book


def _labelled(index: Index, options: Options) -> Index:
    return keep_slide_labels(index) if options.metadata == "full" else index


def _bad(folder: Path) -> dict[str, tuple[FrameNote, ...]]:
    with open(folder / _BAD, encoding="ascii") as file:
        return {digest: tuple(FrameNote(*note) for note in notes) for digest, notes in map(json.loads, file)}


def _names(folder: Path, folders: set[str] | None) -> Names:
    import pyarrow as pa
    import pyarrow.compute as pc

    table = _table(folder, "names")
    if folders is not None:
        table = table.filter(pc.is_in(table["folder"], pa.array(sorted(folders), pa.string())))
    rows = table.to_pylist()
    studies = {(row["patient_id"], row["study_uid"]): row["folder"] for row in rows}
    return Names(studies, {row["patient_id"]: row["key"] for row in rows}, {})


def _published(folder: Path, series: set[int] | None) -> dict[str, Sequence[Record]]:
    """Return the volumes that gave their numbers to some series, None for all that are written, as they were then."""
    records: list[Record] = []
    table = _table(folder, "published", ["series", "line"])
    for number, line in zip(table["series"].to_pylist(), table["line"].to_pylist(), strict=True):
        if number is not None and (series is None or number in series):
            told = json.loads(line)
            records.append(Record(told["path"], told["digest"], bool(told["notes"]), line))
    return published_by_series({record.path: record for record in records})


def _table(folder: Path, name: str, columns: Sequence[str] | None = None) -> pa.Table:
    import pyarrow.parquet as pq

    return pq.read_table(folder / f"{name}.parquet", columns=columns, partitioning=None)


def _rows_of(folder: Path, name: str, rows: Sequence[int], columns: Sequence[str] | None = None) -> pa.Table:
    """Return some rows of a table, ascending, from the row groups that hold them."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from fastdcm.scan.index import row_groups

    wanted = np.asarray(rows, np.int64)
    with pq.ParquetFile(folder / f"{name}.parquet") as file:
        pieces = [file.schema_arrow.empty_table().select(columns or file.schema_arrow.names)]
        for group, first, last in row_groups(file):
            own = wanted[np.searchsorted(wanted, first) : np.searchsorted(wanted, last)]
            if len(own):
                pieces.append(file.read_row_group(group, columns=columns).take(pa.array(own - first)))
    return pa.concat_tables(pieces)
