"""A worker holds a few layers of a shard, however long the series: processes of their own, on sparse files."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.memory import COLUMNS, ROWS, write_sparse
from fastdcm.model import Options
from fastdcm.run.execute import SHARDS_A_WORKER

SHARD_BYTES = Options().shard_bytes
MEMORY_BYTES = (SHARDS_A_WORKER + 1) * SHARD_BYTES
"""Room for one worker, not for two."""
PROGRAM = """
import resource, sys, fastdcm
report = fastdcm.convert(sys.argv[1], sys.argv[2], memory=int(sys.argv[3]), codec=sys.argv[4], workers=2)
assert report.exit_code == 0, report
print(report.bytes_read, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
"""


def convert_apart(source: Path, codec: str) -> tuple[int, int]:
    """Return the bytes that were read, and the most memory that the process had."""
    command = [sys.executable, "-c", PROGRAM, str(source), f"{source}.zarr", str(MEMORY_BYTES), codec]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    read, peak = map(int, done.stdout.split())
    return read, peak


@pytest.mark.parametrize(
    ("slices", "codec", "one_file"),
    [(256, "zstd", False), (96, "none", False), (96, "zstd", True)],
    ids=["1 GB in files", "as large written as read", "one file"],
)
def test_a_worker_holds_three_shards_whatever_the_length_of_a_series(
    tmp_path: Path, slices: int, codec: str, one_file: bool
) -> None:
    assert write_sparse(tmp_path / "few", 3, one_file=one_file) == 3 * ROWS * COLUMNS * 2
    pixel_bytes = write_sparse(tmp_path / "many", slices, one_file=one_file)
    _, base = convert_apart(tmp_path / "few", codec)
    read, peak = convert_apart(tmp_path / "many", codec)
    assert read > pixel_bytes > 5 * SHARD_BYTES
    assert peak < base + SHARDS_A_WORKER * SHARD_BYTES
