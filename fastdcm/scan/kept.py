"""An index that an earlier scan kept: which of its rows still hold, so that no header is read twice.

A row holds where source, path, size and modification time are those of the walk. Found files and rows come in one
order, so they are merged as two streams; a file out of order is only read again.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from fastdcm.errors import Code, Outcome
from fastdcm.model import Index
from fastdcm.scan.compact import plain
from fastdcm.scan.find import FoundFile
from fastdcm.scan.index import FRAMES, INSTANCES, READER, SOURCES, STARTED, load_index
from fastdcm.version import installed_versions

RACY_NS = 10 * 10**9
"""A file changed so shortly before its header was read may change again under the same time: 2 s on some file systems,
and the clock of a server is not quite ours."""

_MAY_PASS = frozenset({Code.PERMISSION, Code.UNREADABLE, Code.CHANGED, Code.INTERNAL})
"""Why a header could not be read, where the next attempt may succeed though the file is the same."""
_KEYS = ("source", "path", "size", "mtime_ns", "outcome", "code", "message")
_ROWS_AT_A_TIME = 1 << 16

Bools = npt.NDArray[np.bool_]


class _Row(NamedTuple):
    """What a walk can compare of a row."""

    source: int
    path: str
    size: int
    mtime_ns: int
    outcome: str | None
    code: str | None
    message: str | None


@dataclass(frozen=True, slots=True)
class KeptIndex:
    """An index in a folder, of these sources and this version of the reader."""

    folder: str
    started_ns: int
    """When the scan began that read its headers; of rows that are older still, any scan before it."""
    rows: int

    def load(self, rows: Bools | None = None) -> Index:
        """Return the index, or some of its rows: (n,) bool."""
        index = load_index(self.folder)
        return index if rows is None or rows.all() else _some_rows(index, rows)

    def read_rows(self) -> Iterator[_Row]:
        """Yield what a walk compares, in the order of the index, a bounded number in memory."""
        with pq.ParquetFile(os.path.join(self.folder, INSTANCES)) as file:
            for batch in file.iter_batches(_ROWS_AT_A_TIME, columns=list(_KEYS)):
                columns = (batch.column(name).to_pylist() for name in _KEYS)
                yield from map(_Row._make, zip(*columns, strict=True))


@lru_cache(maxsize=1)
def reader_version() -> str:
    """Return what names this reader of headers: a digest of its code, and the version of pydicom."""
    digest = hashlib.sha256(installed_versions(["pydicom"])["pydicom"].encode())
    here = Path(__file__).parent
    for path in sorted([*here.glob("*.py"), *here.glob("*.c"), *here.parent.glob("*.py")]):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:32]


def open_kept(folder: str, sources: Sequence[str]) -> KeptIndex | None:
    """Return the index in a folder; None where there is none that can be relied on.

    Parameters
    ----------
    folder : str
        What ``save_index`` wrote.
    sources : sequence of str
        Of the scan to come; an index of other sources is of no use.
    """
    try:
        told = [pq.read_schema(os.path.join(folder, name)).metadata or {} for name in (INSTANCES, FRAMES)]
        rows = pq.read_metadata(os.path.join(folder, INSTANCES)).num_rows
        if told[0] != told[1] or told[0][READER].decode() != reader_version():  # a crash may leave one old file
            return None
        if json.loads(told[0][SOURCES]) != list(sources):
            return None
        return KeptIndex(folder, int(told[0][STARTED]), rows)
    except (OSError, ValueError, KeyError):
        return None


def new_or_changed(found: Iterable[FoundFile], kept: KeptIndex, held: Bools) -> Iterator[FoundFile]:
    """Yield the files that must be read; note in ``held`` which rows of the kept index need not be.

    Parameters
    ----------
    found : iterable of FoundFile
        The walk with sizes, in its order.
    kept : KeptIndex
        The earlier index.
    held : (kept.rows,) bool
        All false at first.
    """
    rows = enumerate(kept.read_rows())
    place, row = next(rows, (-1, None))
    newest_ns = kept.started_ns - RACY_NS
    for file in found:
        while row is not None and (row.source, row.path) < (file.source, file.path):
            place, row = next(rows, (-1, None))
        if row is not None and _holds(row, file, newest_ns):
            held[place] = True
        else:
            yield file


def _holds(row: _Row, file: FoundFile, newest_ns: int) -> bool:
    if row[:4] != file[:4] or row.mtime_ns >= newest_ns:
        return False
    if file.error is not None:
        return row[4:] == tuple(map(str, file.error))
    return row.outcome != Outcome.FAILED or row.code not in _MAY_PASS


def same_rows(first: Index, second: Index) -> bool:
    """Tell whether two indices say the same: NaN equals NaN, and how texts are encoded is no matter."""
    pairs = ((first.instances, second.instances), (first.frames, second.frames))
    return all(
        one.num_rows == other.num_rows
        and all(_plain(one[name]).equals(_plain(other[name])) for name in one.schema.names)
        for one, other in pairs
    )


def _plain(column: pa.ChunkedArray) -> pa.Array:
    """Return a column as values that are equal where they say the same."""
    array = plain(pa.concat_arrays(column.chunks) if column.num_chunks == 1 else column.combine_chunks())
    return array.view(pa.int64()) if pa.types.is_floating(array.type) else array


def _some_rows(index: Index, rows: Bools) -> Index:
    """Return some rows of an index, column by column so that none is there twice for long."""
    columns = dict(zip(index.instances.schema.names, index.instances.columns, strict=True))
    mask = pa.array(rows)
    instance = index.frames["instance"].to_numpy()
    frames = index.frames.filter(pa.array(rows[instance]))
    moved = (np.cumsum(rows) - 1)[frames["instance"].to_numpy()]
    frames = frames.set_column(0, "instance", pa.array(moved, pa.int64()))
    sources = index.sources
    del index
    kept = {name: _used(columns.pop(name).filter(mask)) for name in list(columns)}
    return Index(sources, pa.table(kept), frames)


def _used(column: pa.ChunkedArray) -> pa.Array:
    """Return a column in one piece, its dictionary without texts that no row has any more."""
    array = column.combine_chunks()
    if not pa.types.is_dictionary(array.type):
        return array
    codes = pc.dictionary_encode(array.indices)
    return pa.DictionaryArray.from_arrays(codes.indices, array.dictionary.take(codes.dictionary))
