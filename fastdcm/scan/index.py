"""The instance index as Arrow tables: schema, putting batches together, keeping it as Parquet."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from functools import cache

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from fastdcm.model import COLUMN, COLUMNS, FRAME_COLUMNS, Column, Index, Ints
from fastdcm.scan.compact import compact, empty_column, zeros_for

_TYPES = {
    "text": pa.dictionary(pa.int32(), pa.string()),
    "string": pa.string(),
    "bytes": pa.dictionary(pa.int32(), pa.binary()),
    "int": pa.int32(),
    "long": pa.int64(),
    "float": pa.float64(),
}
SOURCES, READER, STARTED = b"fastdcm.sources", b"fastdcm.reader", b"fastdcm.started_ns"
"""What the files of an index say of it."""
INSTANCES, FRAMES = "instances.parquet", "frames.parquet"
_KEYS = ("source", "path")
"""What the rows are sorted by."""
GROUP_ROWS = 1 << 16
"""Rows of a row group of a saved index: who wants few rows reads the groups that hold them."""


def _fields(columns: Sequence[Column]) -> list[pa.Field]:
    return [pa.field(column.name, _TYPES[column.kind]) for column in columns]


@cache
def index_schema() -> pa.Schema:
    """Return the schema of ``Index.instances``: ``COLUMNS``, all nullable."""
    return pa.schema(_fields(COLUMNS))


@cache
def frames_schema() -> pa.Schema:
    """Return the schema of ``Index.frames``: ``instance`` (int64), ``frame`` (int32), ``FRAME_COLUMNS``."""
    keys = [pa.field("instance", pa.int64()), pa.field("frame", pa.int32())]
    return pa.schema(keys + _fields(FRAME_COLUMNS))


def build_index(sources: Sequence[str], batches: Iterable[tuple[pa.Table, pa.Table]]) -> Index:
    """Put the tables of all batches together, in one order whatever theirs is: ``ordered_index`` alone.

    Returns
    -------
    Index
        Sorted by (source, UTF-8 bytes of the path); frames by (row of the instance, frame).
    """
    return ordered_index(sources, batches)[0]


def ordered_index(sources: Sequence[str], batches: Iterable[tuple[pa.Table, pa.Table]]) -> tuple[Index, Ints]:
    """Put the tables of all batches together, and tell where each row came from.

    Parameters
    ----------
    sources : sequence of str
        The source arguments.
    batches : iterable of (instances, frames)
        What ``read_headers`` returned; ``frames.instance`` counts the rows of its own batch.

    Returns
    -------
    index : Index
        Sorted by (source, UTF-8 bytes of the path); frames by (row of the instance, frame).
    order : (n,) int64
        The place of each row among the rows of all batches, one batch after the other.
    """
    instances, frames = tables_of(batches)
    keys = pa.table({name: _joined(_pieces(instances, name), _TYPES[COLUMN[name].kind]) for name in _KEYS})
    order = pc.sort_indices(keys, [(name, "ascending") for name in _KEYS]).to_numpy()
    in_order = bool((order == np.arange(len(order))).all())
    rows = _instances(instances, None if in_order else order)
    return Index(tuple(sources), rows, _frames(frames, order) if frames else no_frames()), order


def join_batches(batches: Iterable[tuple[pa.Table, pa.Table]]) -> tuple[pa.Table, pa.Table]:
    """Return batches as one, in their order: many small tables take more memory than one, and more time at the end."""
    instances, frames = tables_of(batches)
    return _instances(instances, None), join_tables(frames, frames_schema())


def tables_of(batches: Iterable[tuple[pa.Table, pa.Table]]) -> tuple[list[pa.Table], list[pa.Table]]:
    """Return the instance tables and the frame tables of batches, these numbered as if all rows were one batch."""
    instances, frames, first_row = [], [], 0
    for instance_table, frame_table in batches:
        instances.append(instance_table)
        if frame_table.num_rows:
            shifted = pc.add(frame_table["instance"], first_row)
            frames.append(frame_table.set_column(0, "instance", shifted))
        first_row += instance_table.num_rows
    return instances, frames


def _pieces(tables: Sequence[pa.Table], name: str) -> list[pa.Array]:
    return [chunk for table in tables for chunk in table[name].chunks]


def _joined(pieces: Sequence[pa.Array], kind: pa.DataType) -> pa.ChunkedArray:
    """Return pieces of a column one after the other; each may be encoded in its own way."""
    return pa.chunked_array([piece.cast(kind) for piece in pieces], kind)


def _instances(tables: list[pa.Table], order: np.ndarray | None) -> pa.Table:
    """Return the rows of all batches in the given order; the list is emptied."""
    if len(tables) == 1:  # as one batch is
        table = tables.pop()
        return table if order is None else table.take(pa.array(order))
    pieces = {name: _pieces(tables, name) for name in index_schema().names}
    tables.clear()  # column by column from here, so that none is there twice for long
    zeros = zeros_for(sum(map(len, pieces[_KEYS[0]])))
    columns = [_column(pieces.pop(field.name), field.type, order, zeros) for field in index_schema()]
    pa.default_memory_pool().release_unused()
    return pa.table(columns, index_schema().names)


def _frames(tables: Sequence[pa.Table], order: np.ndarray) -> pa.Table:
    """Return the rows of all frames, sorted; ``order`` is that of the instances."""
    frames = join_tables(tables, frames_schema())
    rows = np.empty(len(order), np.int64)
    rows[order] = np.arange(len(order))
    moved = pa.array(rows[frames["instance"].to_numpy()])
    frames = frames.set_column(0, "instance", moved)
    return frames.take(pc.sort_indices(frames, [("instance", "ascending"), ("frame", "ascending")]))


@cache
def no_frames() -> pa.Table:
    """Return ``Index.frames`` without a row."""
    return frames_schema().empty_table()


def _column(
    pieces: list[pa.Array], kind: pa.DataType, order: np.ndarray | None, zeros: pa.Buffer
) -> pa.ChunkedArray | pa.Array:
    """Return pieces of a column, each encoded in its own way, as one in the given order."""
    column = _joined(pieces, kind)
    pieces.clear()
    if column.null_count == len(column):
        return empty_column(kind, len(column), zeros)
    table = pa.table({"": column.unify_dictionaries()})
    del column
    (whole,) = (table if order is None else table.take(pa.array(order))).combine_chunks()[""].chunks
    del table
    return compact(whole)


def join_tables(tables: Sequence[pa.Table], schema: pa.Schema) -> pa.Table:
    """Return tables one after the other, with one dictionary a column."""
    if not tables:
        return schema.empty_table()
    return tables[0] if len(tables) == 1 else pa.concat_tables(tables).unify_dictionaries()


def save_index(index: Index, path: str, *, reader: str = "", started_ns: int = 0) -> None:
    """Write the index as a folder of two Parquet files; what was there is replaced file by file.

    Parameters
    ----------
    index : Index
        What a scan found.
    path : str
        The folder.
    reader : str
        Version of what read the headers.
    started_ns : int
        When the scan began.

    Raises
    ------
    OSError
        The folder cannot be written.
    """
    os.makedirs(path, exist_ok=True)
    sources = json.dumps(index.sources).encode()  # surrogates become escapes, so any name survives
    told = {SOURCES: sources, READER: reader.encode(), STARTED: str(started_ns).encode()}
    for name, table in ((INSTANCES, index.instances), (FRAMES, index.frames)):
        partial = os.path.join(path, f".{name}.partial")
        with open(partial, "wb") as file:
            schema = (index_schema() if name == INSTANCES else frames_schema()).with_metadata(told)
            with pq.ParquetWriter(file, schema, compression="zstd") as writer:
                for start in range(0, table.num_rows, GROUP_ROWS):
                    writer.write_table(table.slice(start, GROUP_ROWS).cast(schema))
            file.flush()
            os.fsync(file.fileno())  # a later scan relies on it
        os.replace(partial, os.path.join(path, name))


def load_index(path: str) -> Index:
    """Read what ``save_index`` wrote.

    Raises
    ------
    OSError
        There is no index at this path, or it cannot be read.
    """
    with pq.ParquetFile(os.path.join(path, INSTANCES)) as file:
        sources = tuple(json.loads(file.schema_arrow.metadata[SOURCES]))
        zeros = zeros_for(file.metadata.num_rows)
        columns = [
            _column(file.read([field.name])[field.name].cast(field.type).chunks, field.type, None, zeros)
            for field in index_schema()
        ]
    with pq.ParquetFile(os.path.join(path, FRAMES)) as file:  # read_table would import pandas
        frames = file.read()
    pa.default_memory_pool().release_unused()
    return Index(sources, pa.table(columns, index_schema().names), frames.cast(frames_schema()))


def load_rows(path: str, rows: Ints) -> Index:
    """Read some rows of what ``save_index`` wrote; memory follows them, not the index.

    Parameters
    ----------
    path : str
        The folder.
    rows : (n,) int64, ascending
        Rows of ``instances``; those of the returned index are numbered anew, from 0.

    Raises
    ------
    OSError
        There is no index at this path, or it cannot be read.
    """
    with pq.ParquetFile(os.path.join(path, INSTANCES)) as file:
        sources = tuple(json.loads(file.schema_arrow.metadata[SOURCES]))
        pieces: list[pa.Table] = []
        for group, first, last in row_groups(file):
            own = rows[np.searchsorted(rows, first) : np.searchsorted(rows, last)]
            if len(own):
                pieces.append(file.read_row_group(group).take(pa.array(own - first)).cast(index_schema()))
    zeros = zeros_for(len(rows))
    chunks = {name: _pieces(pieces, name) for name in index_schema().names}
    columns = [_column(chunks.pop(field.name), field.type, None, zeros) for field in index_schema()]
    frames = []
    with pq.ParquetFile(os.path.join(path, FRAMES)) as file:
        for group, _, _ in row_groups(file) if len(rows) else ():
            table = file.read_row_group(group, columns=["instance"])
            instance = table["instance"].to_numpy()
            places = np.searchsorted(rows, instance)
            mine = np.flatnonzero(rows[np.minimum(places, len(rows) - 1)] == instance)
            if len(mine):
                table = file.read_row_group(group).take(pa.array(mine)).cast(frames_schema())
                frames.append(table.set_column(0, "instance", pa.array(places[mine])))
    pa.default_memory_pool().release_unused()
    return Index(sources, pa.table(columns, index_schema().names), join_tables(frames, frames_schema()))


def row_groups(file: pq.ParquetFile) -> Iterator[tuple[int, int, int]]:
    """Yield each row group with its first row, and the one behind its last."""
    first = 0
    for group in range(file.metadata.num_row_groups):
        last = first + file.metadata.row_group(group).num_rows
        yield group, first, last
        first = last
