"""Whatever way a column is held in, its values are the same."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastdcm.model import Index
from fastdcm.scan.compact import compact, numbers_of, plain, slim
from fastdcm.scan.index import build_index, index_schema, join_batches, no_frames
from fastdcm.series.frames import iter_series

KINDS = {pa.int32(): st.integers(-(2**31), 2**31 - 1), pa.int64(): st.integers(-(2**63), 2**63 - 1),
         pa.float64(): st.floats(), pa.dictionary(pa.int32(), pa.string()): st.text(max_size=3)}  # fmt: skip


def _bits(column: pa.Array) -> list[Any]:
    """Values that tell 0.0 from -0.0, and one NaN from another."""
    values = plain(column)
    if pa.types.is_floating(values.type):
        return [None if value is None else struct.pack("<d", value) for value in values.to_pylist()]
    return list(values.to_pylist())


@given(st.data())
def test_values_are_the_same(data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from(list(KINDS)))
    few = data.draw(st.lists(st.none() | KINDS[kind], min_size=1, max_size=5))
    column = pa.array(data.draw(st.lists(st.sampled_from(few), max_size=60)), kind)
    held = compact(column)
    assert _bits(held) == _bits(column)
    assert held.nbytes <= column.nbytes
    if pa.types.is_integer(kind):
        rows = np.arange(len(column))[::-1]
        assert numbers_of(pa.chunked_array([held]), rows) == column.to_pylist()[::-1]


@pytest.mark.parametrize(("distinct", "width"), [(1, 8), (127, 8), (128, 16), (32_767, 16), (32_768, 32)])
def test_codes_are_as_narrow_as_their_number_and_null_allow(distinct: int, width: int) -> None:
    texts = pa.array([str(number) for number in range(distinct)], pa.string())
    held = compact(pa.DictionaryArray.from_arrays(pa.array([*range(distinct), None], pa.int32()), texts))
    assert held.type.index_type.bit_width == width
    assert held.indices.fill_null(distinct)[-1].as_py() == distinct  # a code of its own


def test_what_does_not_repeat_stays_as_it_is() -> None:
    for values in (np.arange(9_000, dtype=np.int64), np.linspace(0, 1, 9_000)):
        assert compact(pa.array(values)).type == pa.array(values).type
    assert compact(pa.array(["a", "a"])).type == pa.string()


def test_numbers_that_repeat_take_a_third() -> None:
    rows, slices = 20_000, 100
    row = {"source": 0, "size": 526_336, "rows": 512, "columns": 512, "slope": 1.0, "intercept": -1024.0,
           "n_frames": 1, "spacing_x": 0.7, "spacing_y": 0.8, "bits_stored": 12, "series_uid": "1.2",
           "pixel_keyword": "PixelData"}  # fmt: skip
    table = pa.Table.from_pylist([row | {"position_z": float(n % slices)} for n in range(rows)], index_schema())
    held, _ = join_batches([(slim(table.slice(start, 3_000)), no_frames()) for start in range(0, rows, 3_000)])
    before, after = (sum(one[name].nbytes for name in [*row, "position_z"]) for one in (table, held))
    assert after < before / 3
    assert held.to_pylist() == table.to_pylist()


def test_batches_of_different_codes_become_one_index() -> None:
    """Few values in one batch, many in the next: codes of 8 bits, of 16, and none."""
    spread = [np.zeros(50), np.arange(2_000) % 300, np.arange(700) * 1.5, np.full(3, np.nan)]
    batches, expected = [], []
    for number, values in enumerate(spread):
        rows = [{"source": 0, "path": f"{number}/{place:05}", "sop_instance_uid": f"1.{number}.{place}", "n_frames": 1,
                 "series_uid": f"1.{number}", "pixel_keyword": "PixelData", "position_z": float(value),
                 "slope": None if place % 2 else 1.0, "echo_number": place % 3}
                for place, value in enumerate(values)]  # fmt: skip
        table = slim(pa.Table.from_pylist(rows, index_schema()))
        halves = (table.slice(0, len(table) // 2), table.slice(len(table) // 2))
        batches.append(join_batches([(half, no_frames()) for half in halves]))
        expected += rows
    index = build_index(["x"], reversed(batches))
    got = index.instances.select(list(expected[0])).to_pylist()
    assert str(got) == str(expected)
    frames = list(iter_series(index))
    plain_frames = list(iter_series(Index(("x",), index.instances.cast(index_schema()), index.frames)))
    for one, other in zip(frames, plain_frames, strict=True):
        assert one.texts["sop_instance_uid"].tolist() == other.texts["sop_instance_uid"].tolist()
        assert str(one.texts["pixel_keyword"].tolist()) == str(other.texts["pixel_keyword"].tolist())
        for name in ("position_z", "slope", "echo_number", "echo_time"):
            np.testing.assert_array_equal(one.numbers[name], other.numbers[name])
        assert one.rescaled.tolist() == other.rescaled.tolist()
