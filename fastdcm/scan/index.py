"""The instance index as Arrow tables: schema, putting batches together, keeping it as Parquet."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from fastdcm.model import COLUMNS, FRAME_COLUMNS, Column, Index

_TYPES = {
    "text": pa.dictionary(pa.int32(), pa.string()),
    "string": pa.string(),
    "bytes": pa.dictionary(pa.int32(), pa.binary()),
    "int": pa.int32(),
    "long": pa.int64(),
    "float": pa.float64(),
}
_SOURCES = b"fastdcm.sources"
_INSTANCES, _FRAMES = "instances.parquet", "frames.parquet"


def _fields(columns: Sequence[Column]) -> list[pa.Field]:
    return [pa.field(column.name, _TYPES[column.kind]) for column in columns]


def index_schema() -> pa.Schema:
    """Return the schema of ``Index.instances``: ``COLUMNS``, all nullable."""
    return pa.schema(_fields(COLUMNS))


def frames_schema() -> pa.Schema:
    """Return the schema of ``Index.frames``: ``instance`` (int64), ``frame`` (int32), ``FRAME_COLUMNS``."""
    keys = [pa.field("instance", pa.int64()), pa.field("frame", pa.int32())]
    return pa.schema(keys + _fields(FRAME_COLUMNS))


def build_index(sources: Sequence[str], batches: Iterable[tuple[pa.Table, pa.Table]]) -> Index:
    """Put the tables of all batches together, in one order whatever theirs is.

    Parameters
    ----------
    sources : sequence of str
        The source arguments.
    batches : iterable of (instances, frames)
        What ``read_headers`` returned; ``frames.instance`` counts the rows of its own batch.

    Returns
    -------
    Index
        Sorted by (source, UTF-8 bytes of the path); frames by (row of the instance, frame).
    """
    instances, frames, first_row = [], [], 0
    for instance_table, frame_table in batches:
        instances.append(instance_table)
        if frame_table.num_rows:
            shifted = pc.add(frame_table["instance"], first_row)
            frames.append(frame_table.set_column(0, "instance", shifted))
        first_row += instance_table.num_rows
    all_instances = join_tables(instances, index_schema())
    all_frames = join_tables(frames, frames_schema())
    order = pc.sort_indices(all_instances, [("source", "ascending"), ("path", "ascending")]).to_numpy()
    rows = np.empty(len(order), np.int64)
    rows[order] = np.arange(len(order))
    moved = pa.array(rows[all_frames["instance"].to_numpy()])
    all_frames = all_frames.set_column(0, "instance", moved)
    frame_order = pc.sort_indices(all_frames, [("instance", "ascending"), ("frame", "ascending")])
    return Index(tuple(sources), _take(all_instances, order), _take(all_frames, frame_order.to_numpy()))


def join_tables(tables: Sequence[pa.Table], schema: pa.Schema) -> pa.Table:
    """Return tables one after the other, with one dictionary a column."""
    if not tables:
        return schema.empty_table()
    return tables[0] if len(tables) == 1 else pa.concat_tables(tables).unify_dictionaries()


def _take(table: pa.Table, order: np.ndarray) -> pa.Table:
    """Return the rows in the given order; a table in order already is not copied."""
    in_order = bool((order == np.arange(len(order))).all())
    return table if in_order else table.take(pa.array(order))


def save_index(index: Index, path: str) -> None:
    """Write the index as a folder of two Parquet files; what was there is replaced file by file.

    Raises
    ------
    OSError
        The folder cannot be written.
    """
    os.makedirs(path, exist_ok=True)
    told = {_SOURCES: json.dumps(index.sources).encode()}  # surrogates become escapes, so any name survives
    for name, table in ((_INSTANCES, index.instances), (_FRAMES, index.frames)):
        partial = os.path.join(path, f".{name}.partial")
        pq.write_table(table.replace_schema_metadata(told), partial, compression="zstd")
        os.replace(partial, os.path.join(path, name))


def load_index(path: str) -> Index:
    """Read what ``save_index`` wrote.

    Raises
    ------
    OSError
        There is no index at this path, or it cannot be read.
    """
    instances = pq.read_table(os.path.join(path, _INSTANCES), partitioning=None)
    frames = pq.read_table(os.path.join(path, _FRAMES), partitioning=None)
    sources = tuple(json.loads(instances.schema.metadata[_SOURCES]))
    return Index(sources, instances.cast(index_schema()), frames.cast(frames_schema()))
