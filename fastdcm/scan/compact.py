"""Columns that take little memory: empty ones share it, and where values repeat there are codes instead.

An index has a hundred columns, and of most exports nearly all are empty, or have few distinct values. Any column of a
table that went through here may be dictionary encoded, whatever its kind; ``plain`` gives the values.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fastdcm.scan.arrow import number_array

SAMPLE_ROWS = 1 << 12
"""Rows, evenly spaced, that tell whether it is worth counting the distinct values of a number column."""
_CODES = (pa.int8(), pa.int16(), pa.int32())


def zeros_for(rows: int) -> pa.Buffer:
    """Return zeros enough for the validity, the offsets or the values of so many rows; no memory until written to."""
    return pa.py_buffer(np.zeros(8 * (rows + 1), np.uint8))


def empty_column(kind: pa.DataType, rows: int, zeros: pa.Buffer) -> pa.Array:
    """Return a column of nulls that takes no memory of its own; ``zeros`` are shared by all of them."""
    if pa.types.is_dictionary(kind):
        codes = pa.Array.from_buffers(kind.index_type, rows, [zeros, zeros], rows)
        return pa.DictionaryArray.from_arrays(codes, pa.array([], kind.value_type))
    values = [zeros, pa.py_buffer(b"")] if pa.types.is_string(kind) else [zeros]
    return pa.Array.from_buffers(kind, rows, [zeros, *values], rows)


def slim(table: pa.Table) -> pa.Table:
    """Return a table whose empty columns share one piece of memory: a batch of headers while others are being read."""
    zeros = zeros_for(table.num_rows)
    columns = [
        empty_column(column.type, len(column), zeros) if column.null_count == len(column) else column
        for column in table.columns
    ]
    return pa.Table.from_arrays(columns, schema=table.schema)


def compact(column: pa.Array) -> pa.Array:
    """Return the same values as codes of the distinct ones, where that is smaller.

    Codes are of the narrowest type that holds their number, which stands for null when numpy takes them over. Texts
    that are not encoded are those of which no two are alike, so they stay as they are.
    """
    if pa.types.is_string(column.type) or not (pa.types.is_dictionary(column.type) or _repeats(column)):
        return column
    codes = column if pa.types.is_dictionary(column.type) else column.dictionary_encode()
    count = len(codes.dictionary)
    kind = next(kind for kind in _CODES if count < 1 << kind.bit_width - 1)
    codes = pa.DictionaryArray.from_arrays(codes.indices.cast(kind), codes.dictionary)
    return codes if codes.nbytes < column.nbytes else column


def _repeats(column: pa.Array) -> bool:
    """Tell whether a number column has so few distinct values that codes of them are smaller, by a sample."""
    sample = column.take(number_array(np.arange(0, len(column), max(len(column) // SAMPLE_ROWS, 1))))
    return 4 * len(pc.unique(sample)) < len(sample)


def plain(column: pa.Array | pa.ChunkedArray) -> pa.Array | pa.ChunkedArray:
    """Return a column with its values in place of codes."""
    return column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column


def numbers_of(column: pa.ChunkedArray, rows: np.ndarray) -> list[int | None]:
    """Return some rows of a whole-number column as Python integers: they are exact, which float64 would not be."""
    if column.num_chunks == 1 and not column.null_count:
        array = column.chunk(0)
        if pa.types.is_dictionary(array.type):
            array, rows = array.dictionary, array.indices.to_numpy()[rows]
        found: list[int | None] = array.to_numpy()[rows].tolist()
        return found
    taken: list[int | None] = column.take(number_array(rows)).to_pylist()
    return taken
