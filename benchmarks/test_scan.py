"""Headers: a batch of files to index columns, beside the floor of opening, reading 8 kB and closing."""

from __future__ import annotations

from pathlib import Path

from pytest_benchmark.fixture import BenchmarkFixture

from fastdcm.scan.find import find_files
from fastdcm.scan.header import read_headers


def test_floor_open_read_close(benchmark: BenchmarkFixture, export: Path) -> None:
    paths = sorted(export.iterdir())

    def read() -> int:
        total = 0
        for path in paths:
            with path.open("rb", buffering=0) as file:
                total += len(file.read(8192))
        return total

    assert benchmark(read) == 8192 * len(paths)


def test_read_headers(benchmark: BenchmarkFixture, export: Path) -> None:
    sources = [str(export)]
    files = list(find_files(sources))
    instances, frames = benchmark(read_headers, sources, files)
    assert instances.num_rows == len(files)
    assert frames.num_rows == 0
