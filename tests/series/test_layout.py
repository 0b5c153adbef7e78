"""Layers of what a task writes: whole chunks that follow each other in the order of the cells."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastdcm.model import ArraySpec, Options
from fastdcm.series import layout
from fastdcm.series.layout import choose_chunks, layer_regions, task_regions


@given(
    st.tuples(st.integers(1, 30), st.integers(1, 5), st.integers(1, 300), st.integers(1, 400), st.integers(1, 500)),
    st.sampled_from([1, 3, 4]),
    st.sampled_from([2**16, 2**21, 2**26]),
)
def test_layers_tile_a_task_in_the_order_of_its_cells(
    shape: tuple[int, int, int, int, int], samples: int, shard_bytes: int
) -> None:
    if samples > 1:
        shape = (shape[0], samples, *shape[2:])
    chunks, shards = choose_chunks(shape, "tczyx", 2, Options(shard_bytes=shard_bytes), channels=samples)
    array = ArraySpec("tczyx", shape, "int16", chunks, shards, "zstd", 0.0)
    for region in (next(task_regions(array)), list(task_regions(array))[-1]):
        cells = np.arange(math.prod(stop - start for start, stop in region[:3])).reshape(
            [stop - start for start, stop in region[:3]]
        )
        seen = []
        for layer in layer_regions(array, region, samples):
            assert layer[3:] == region[3:]
            for axis in range(3):
                start, stop = layer[axis]
                assert (start - region[axis][0]) % chunks[axis] == 0
                assert stop == region[axis][1] or (stop - region[axis][0]) % chunks[axis] == 0
            inside = tuple(
                slice(a - first, b - first) for (a, b), (first, _) in zip(layer[:3], region[:3], strict=True)
            )
            part = cells[inside] if samples == 1 else cells[inside][:, 0]
            seen += part.ravel().tolist()
            size = 2 * math.prod(stop - start for start, stop in layer)
            one_chunk = 2 * chunks[2] * samples * math.prod(stop - start for start, stop in layer[3:])
            assert size <= max(layout.LAYER_BYTES, one_chunk)
        assert seen == (cells if samples == 1 else cells[:, 0]).ravel().tolist()


@pytest.mark.parametrize(
    ("shape", "axes", "channels", "expected"),
    [
        ((257, 512, 512), "zyx", 1, 4),  # chunks of 29 slices: one is a layer, four are a shard
        ((20, 40, 64, 64), "tzyx", 1, 1),  # all of it is small
        ((100, 36, 64, 64), "tzyx", 1, 2),  # whole steps of t
        ((1, 944, 972), "zyx", 1, 1),
    ],
)
def test_as_many_chunks_as_fit(shape: tuple[int, ...], axes: str, channels: int, expected: int) -> None:
    chunks, shards = choose_chunks(shape, axes, 2, Options(), channels=channels)
    array = ArraySpec(axes, shape, "int16", chunks, shards, "zstd", 0.0)
    assert len(list(layer_regions(array, next(task_regions(array)), channels))) == expected
