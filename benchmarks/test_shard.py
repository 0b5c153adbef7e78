"""Encoding and writing shards, by codec."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from fastdcm.model import ArraySpec
from fastdcm.store.shard import write_region
from scripts.make_export import Noise, ct_slice


@pytest.mark.parametrize("codec", ["none", "lz4", "zstd"])
def test_write_a_shard(codec: str, benchmark: BenchmarkFixture, tmp_path: Path) -> None:
    noise = Noise(1)
    block = np.stack([ct_slice(noise, k / 16, 20.0) for k in range(16)])
    array = ArraySpec(
        axes="zyx",
        shape=block.shape,
        dtype="int16",
        chunks=(16, 128, 128),
        shards=block.shape,
        codec=codec,
        fill_value=0,
    )
    region = tuple((0, length) for length in block.shape)
    assert benchmark(write_region, str(tmp_path / "image"), array, region, block) > 0
