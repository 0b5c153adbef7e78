"""Planes cut into chunks: the compiled loop is the numpy one, and refuses what it would write beside."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastdcm.store import cut
from tests.store.written import Array

sides = st.integers(1, 9)


def test_the_module_is_compiled() -> None:
    assert cut.COMPILED  # every machine that runs these tests has a compiler: without it they would compare nothing


@settings(max_examples=200, deadline=None)
@given(
    st.tuples(sides, sides, st.integers(1, 40)),
    st.tuples(sides, sides, st.integers(1, 12)),
    st.sampled_from(["u1", "<i2", "<f4", "<f8"]),
    st.booleans(),
    st.booleans(),
)
def test_compiled_is_numpy(
    planes_shape: tuple[int, int, int], room: tuple[int, int, int], dtype: str, strided: bool, interleaved: bool
) -> None:
    rng = np.random.default_rng(1)
    depth, rows, columns = planes_shape
    whole = rng.integers(0, 200, (depth, 2 * rows, columns + 3)).astype(dtype)
    planes = whole[:, ::2, 1 : columns + 1] if not strided else np.ascontiguousarray(whole[:, :rows, :columns]).copy()
    step = room[2]
    shape = (-(-columns // step), depth + room[0] - 1, rows + room[1] - 1, step)
    found = chunks_of(shape, dtype, interleaved)
    expected = found.copy()
    cut.cut(planes, found)
    cut.cut_numpy(planes, expected)
    np.testing.assert_array_equal(found, expected)
    # And both are what slicing says, chunk by chunk, with the rest untouched.
    for number in range(shape[0]):
        part = planes[:, :, number * step : (number + 1) * step]
        np.testing.assert_array_equal(expected[number, :depth, :rows, : part.shape[2]], part)
    assert np.count_nonzero(found == 250) == found.size - planes.size


def chunks_of(shape: tuple[int, ...], dtype: str, interleaved: bool) -> Array:
    """Chunks filled with a value that no plane has; interleaved: colour lies between chunk and plane."""
    if not interleaved:
        return np.full(shape, 250, dtype)
    return np.full((shape[0], 3, *shape[1:]), 250, dtype)[:, 1]


def test_columns_that_are_not_contiguous_are_cut_too() -> None:
    planes = np.arange(2 * 3 * 10, dtype="<i2").reshape(2, 3, 10)[:, :, ::2]
    chunks = np.zeros((2, 2, 3, 4), "<i2")
    cut.cut(planes, chunks)
    np.testing.assert_array_equal(chunks[0], planes[:, :, :4])
    np.testing.assert_array_equal(chunks[1, :, :, :1], planes[:, :, 4:])


@pytest.mark.parametrize(
    ("planes", "chunks", "dtype"),
    [
        ((3, 4, 8), (2, 2, 4, 4), "i2"),  # too many planes
        ((2, 5, 8), (2, 2, 4, 4), "i2"),  # too many rows
        ((2, 4, 9), (2, 2, 4, 4), "i2"),  # too many columns
        ((2, 4, 4), (2, 2, 4, 4), "i2"),  # a chunk too many
        ((2, 4, 8), (2, 2, 4, 4), "i4"),  # another type
        ((4, 8), (2, 2, 4, 4), "i2"),
        ((2, 4, 8), (2, 4, 4), "i2"),
    ],
)
def test_what_does_not_fit_is_refused(planes: tuple[int, ...], chunks: tuple[int, ...], dtype: str) -> None:
    with pytest.raises(ValueError, match="cannot be cut"):
        compiled()(np.zeros(planes, dtype), np.zeros(chunks, "i2"))


def test_read_only_chunks_are_refused() -> None:
    chunks = np.zeros((2, 2, 4, 4), "i2")
    chunks.flags.writeable = False
    with pytest.raises((BufferError, ValueError)):
        compiled()(np.zeros((2, 4, 8), "i2"), chunks)


def compiled() -> Any:
    """The compiled function itself, which ``cut`` asks only for what fits."""
    assert cut._CUT is not None
    return cut._CUT.cut
