"""Numbers as Arrow arrays are what ``pyarrow.array`` makes of them."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastdcm.scan.arrow import number_array


@given(st.lists(st.tuples(st.integers(-(2**31), 2**31 - 1), st.booleans())), st.sampled_from(["i4", "i8", "f8"]))
def test_values_and_nulls_are_kept(rows: list[tuple[int, bool]], dtype: str) -> None:
    values = np.array([value for value, _ in rows], dtype)
    absent = np.array([gone for _, gone in rows], np.bool_)
    made = number_array(values, absent)
    made.validate(full=True)
    assert made.equals(pa.array(values, mask=absent))
    assert number_array(values).equals(pa.array(values))


@pytest.mark.parametrize("count", [0, 1, 7])
def test_a_column_of_a_block_is_no_copy_of_its_neighbours(count: int) -> None:
    block = np.arange(2 * count).reshape(count, 2)
    assert number_array(block[:, 1]).to_pylist() == block[:, 1].tolist()
