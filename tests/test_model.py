"""Columns that are cut when they are asked for, and how they travel to a worker."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest

from fastdcm.model import Columns

NUMBERS = {"a": np.arange(8.0), "b": np.array([np.nan, 1, 2, np.nan, 4, 5, 6, 7])}
TEXTS = {"t": np.array(["x", None, "yy", b"\\0z", None, "", "u", "v"], object), "none": np.full(8, None)}


@pytest.mark.parametrize("whole", [NUMBERS, TEXTS], ids=["numbers", "texts"])
@pytest.mark.parametrize("rows", [slice(2, 5), slice(3, 3), slice(0, 8), np.array([7, 1, 1])], ids=str)
def test_columns_travel_as_their_rows_alone(whole: dict[str, Any], rows: Any) -> None:
    arrived = pickle.loads(pickle.dumps(Columns(whole, rows), protocol=5))
    assert list(arrived) == list(whole)
    for name, values in whole.items():
        assert arrived[name].dtype == values.dtype
        np.testing.assert_array_equal(arrived[name], values[rows])


def test_a_lone_row_of_a_large_table_is_small() -> None:
    whole = {f"column {k}": np.arange(100_000.0) for k in range(60)}
    assert len(pickle.dumps(Columns(whole, slice(5, 6)), protocol=5)) < 3000
