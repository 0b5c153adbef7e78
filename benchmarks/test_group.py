"""Grouping: index rows to frames to volumes, on series of 256 slices as a large export has them."""

from __future__ import annotations

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from fastdcm.model import Index, Options
from fastdcm.scan.index import load_index
from fastdcm.series.frames import iter_series
from fastdcm.series.group import group
from scripts.make_export import write_index


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Index:
    folder = tmp_path_factory.mktemp("index")
    write_index(folder, 8 * 256)
    return load_index(str(folder))


def test_series_of_an_index(benchmark: BenchmarkFixture, index: Index) -> None:
    assert benchmark(lambda: sum(len(frames) for frames in iter_series(index))) == 8 * 256


def test_group_a_series(benchmark: BenchmarkFixture, index: Index) -> None:
    frames = next(iter_series(index))
    grouping = benchmark(group, frames, Options())
    assert [volume.cells.shape for volume in grouping.volumes] == [(1, 1, 256)]
