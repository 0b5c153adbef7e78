"""A map that an earlier run kept: a series of which no file changed is not grouped again.

A series becomes volumes by its own headers, the options, and little else: its names, its published numbers, UIDs that
other series have too. Where all of these are what they were, so are its volumes, and catalogue and facts are taken
over; whoever asks for the plan gets it from the book, as ever. Series that pixels or bad images had a say in, and lone
images, of which all together decide, are always grouped.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fastdcm.model import Json, Options
from fastdcm.run.book import SeriesBook, VolumeFacts
from fastdcm.run.headers import Scanned
from fastdcm.run.records import FrameNote
from fastdcm.run.series import volume_number

if TYPE_CHECKING:
    import pyarrow as pa

    from fastdcm.run.survey import SeriesMap

MAP = "map.parquet"
_MADE_BY, _REUSED = b"fastdcm.made_by", b"fastdcm.reused"
_FACTS = ("of_series", "digest", "array_bytes", "task_bytes", "file_rows")


class EarlierMap(NamedTuple):
    """A kept map, and where the files of its index are now."""

    table: pa.Table
    """One row a volume, by series: the catalogue's columns, then ``_FACTS``; ``file_rows`` are of the earlier index."""
    reused: str
    """Digest of the UIDs that two series had."""
    rows: int
    """Of the earlier index."""
    origins: npt.NDArray[np.int32]
    """(files,) the row that each file had in the earlier index; -1 where its header was read anew."""


class Unchanged(NamedTuple):
    """What is taken over of an earlier map."""

    series: frozenset[int]
    """By the numbers that they have now."""
    table: pa.Table
    """Their part of the catalogue."""
    facts: VolumeFacts


@lru_cache(maxsize=1)
def _code_version() -> str:
    """Return what names the code that plans: nobody has to remember to change a number."""
    from fastdcm.scan.kept import reader_version

    digest = hashlib.sha256(reader_version().encode())
    here = Path(__file__).parent
    for path in sorted([*here.glob("*.py"), *here.parent.glob("series/*.py")]):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:32]


def _made_by(options: Options, started_ns: int) -> bytes:
    """Return what a map must have been made by: an index, told by the time of its scan, options, code."""
    made: Json = {"index": started_ns, "options": asdict(options), "code": _code_version(), "numpy": np.__version__}
    return json.dumps(made, sort_keys=True).encode()


def _digest_of(uids: frozenset[str]) -> str:
    return hashlib.sha256("\0".join(sorted(uids)).encode("utf-8", "surrogatepass")).hexdigest()


# ---------------------------------------------------------------------------- keep


def keep_map(folder: Path, found: SeriesMap, started_ns: int) -> None:
    """Write the volumes of series that their headers alone decide beside the index that they are of.

    Parameters
    ----------
    folder : path
        Where ``save_index`` wrote the index.
    found : SeriesMap
        As it was made of this index.
    started_ns : int
        When the scan of this index began: it tells one index from another.

    Raises
    ------
    OSError
        The folder cannot be written.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    from fastdcm.scan.arrow import number_array

    facts = found.facts
    lists = pa.ListArray.from_arrays(number_array(facts.starts.astype(np.int32)), number_array(facts.files))
    digests = pa.array(map(bytes, facts.digests), pa.binary())
    sizes = map(number_array, (facts.array_bytes, facts.task_bytes))
    table = found.table
    for name, column in zip(_FACTS, (number_array(facts.series), digests, *sizes, lists), strict=True):
        table = table.append_column(name, column)
    told = {_MADE_BY: _made_by(found.book.options, started_ns), _REUSED: _digest_of(found.book.reused).encode()}
    rows = np.flatnonzero(_by_headers_alone(found)[facts.series])
    table = table.take(number_array(rows)).replace_schema_metadata(told)
    partial = folder / f".{MAP}.partial"
    pq.write_table(table, partial, compression="zstd")
    partial.replace(folder / MAP)


def _by_headers_alone(found: SeriesMap) -> npt.NDArray[np.bool_]:
    """Tell which series, (series,), have more than one frame, all of them in volumes, and nothing odd."""
    facts, size = found.facts, len(found.book)
    series = np.repeat(facts.series, np.diff(facts.starts))
    frames = np.bincount(series, minlength=size)
    owner = np.full(found.index.instances.num_rows, -1, np.int64)
    owner[facts.files] = series
    images = np.bincount(found.book.frames.series_of_rows()[1], minlength=size)
    alone: npt.NDArray[np.bool_] = (frames > 1) & (np.bincount(owner[owner >= 0], minlength=size) == images)
    alone[list(found.odd)] = False
    return alone


# ---------------------------------------------------------------------------- take over


def open_map(folder: Path, options: Options, scanned: Scanned, origins: npt.NDArray[np.int32]) -> EarlierMap | None:
    """Return the map that stands beside the earlier index of a scan; None where none can be relied on.

    Parameters
    ----------
    folder : path
        Of the index.
    options : Options
        Of this run.
    scanned : Scanned
        The scan that the earlier index was given to.
    origins : (files,) int32
        Of ``Scanned.merged``.
    """
    import pyarrow.parquet as pq

    if scanned.kept is None:
        return None
    try:
        with pq.ParquetFile(folder / MAP) as file:
            told = file.schema_arrow.metadata or {}
            if told.get(_MADE_BY) != _made_by(options, scanned.kept.started_ns):
                return None
            return EarlierMap(file.read(), told[_REUSED].decode(), scanned.kept.rows, origins)
    except (OSError, ValueError, KeyError):
        return None


def find_unchanged(
    earlier: EarlierMap | None, book: SeriesBook, known: Mapping[str, tuple[FrameNote, ...]]
) -> Unchanged | None:
    """Return what is taken over of an earlier map; None for nothing.

    Parameters
    ----------
    earlier : EarlierMap, optional
        The map.
    book : SeriesBook
        All series as they are now.
    known : mapping
        Frames that could not be decoded, by the digests of the plans that asked for them.
    """
    import pyarrow as pa

    from fastdcm.series.catalog import catalog_schema

    if earlier is None or not earlier.table.num_rows or earlier.reused != _digest_of(book.reused):
        return None
    same = {
        old: new for old, new, volumes in _same_files(earlier, book) if _same_names(volumes, new, book, known.keys())
    }
    taken = earlier.table.filter(pa.array(np.isin(earlier.table["of_series"].to_numpy(), list(same))))
    lists = taken["file_rows"].combine_chunks()
    rows_now = np.full(earlier.rows, -1, np.int32)
    here = np.flatnonzero(earlier.origins >= 0)
    rows_now[earlier.origins[here]] = here
    facts = VolumeFacts(
        series=np.array([same[old] for old in taken["of_series"].to_pylist()], np.int32),
        digests=np.frombuffer(b"".join(taken["digest"].to_pylist()), np.uint8).reshape(-1, 32),
        array_bytes=taken["array_bytes"].to_numpy(),
        task_bytes=taken["task_bytes"].to_numpy(),
        starts=np.append(0, np.cumsum(lists.value_lengths().to_numpy())),
        files=rows_now[lists.flatten().to_numpy()],
    )
    return Unchanged(frozenset(same.values()), taken.drop_columns(_FACTS).cast(catalog_schema()), facts)


def _same_files(earlier: EarlierMap, book: SeriesBook) -> Iterator[tuple[int, int, list[Json]]]:
    """Yield each series that has the files that it had, and no other: its earlier number, that of now, its volumes."""
    volumes = earlier.table.select(["of_series", "volume", "patient", "digest"]).to_pylist()
    lists = earlier.table["file_rows"].combine_chunks()
    owner = np.full(earlier.rows + 1, -1, np.int64)  # the last for files that were not there: row -1
    owner[lists.flatten().to_numpy()] = np.repeat(
        earlier.table["of_series"].to_numpy(), lists.value_lengths().to_numpy()
    )
    rows, series = book.frames.series_of_rows()
    if not len(rows):
        return
    owners = owner[earlier.origins[rows]]
    starts = np.searchsorted(series, np.arange(len(book) + 1))
    first, last = (pick.reduceat(owners, starts[:-1]) for pick in (np.minimum, np.maximum))
    sizes = np.bincount(owner[owner >= 0])
    same = (first >= 0) & (first == last)
    same[same] = sizes[first[same]] == np.diff(starts)[same]
    by_series: dict[int, list[Json]] = {}
    for volume in volumes:
        by_series.setdefault(volume["of_series"], []).append(volume)
    for new in np.flatnonzero(same).tolist():
        yield int(first[new]), new, by_series[int(first[new])]


def _same_names(volumes: Sequence[Json], number: int, book: SeriesBook, known: Container[str]) -> bool:
    """Tell whether the volumes of a series would be planned under the same names and numbers, and with all frames."""
    patient, folder = book.place_of(number)
    paths = [volume["volume"] for volume in volumes]
    digests = [volume["digest"].hex() for volume in volumes]
    if any(path.rpartition("/")[0] != folder for path in paths) or any(v["patient"] != patient for v in volumes):
        return False
    if any(digest in known for digest in digests):
        return False
    published = {record.path: record.digest for record in book.names.published.get(folder, ())}
    if not published:
        return [volume_number(path) for path in paths] == list(range(len(paths)))
    return published == dict(zip(paths, digests, strict=True))


def put_together(unchanged: Unchanged | None, table: pa.Table, facts: VolumeFacts) -> tuple[pa.Table, VolumeFacts]:
    """Return the catalogue and the facts of all series, of what was taken over and what was grouped now."""
    import pyarrow as pa

    if unchanged is None:
        return table, facts
    parts = (unchanged.facts, facts)
    order = np.argsort(np.concatenate([part.series for part in parts]), kind="stable")
    lists = [pa.ListArray.from_arrays(pa.array(part.starts, pa.int32()), pa.array(part.files)) for part in parts]
    files = pa.concat_arrays(lists).take(pa.array(order))

    def joined(name: str) -> npt.NDArray[Any]:
        found: npt.NDArray[Any] = np.concatenate([getattr(part, name) for part in parts])[order]
        return found

    merged = VolumeFacts(
        series=joined("series"),
        digests=joined("digests"),
        array_bytes=joined("array_bytes"),
        task_bytes=joined("task_bytes"),
        starts=np.append(0, np.cumsum(files.value_lengths().to_numpy())).astype(np.int64),
        files=files.flatten().to_numpy(),
    )
    return pa.concat_tables([unchanged.table, table]).combine_chunks().take(pa.array(order)), merged
