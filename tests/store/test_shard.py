"""Shard files written directly are what zarr-python, zarrs and tensorstore read."""

from __future__ import annotations

import json
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorstore
import zarr
import zarrs  # noqa: F401  (registers its codec pipeline)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fastdcm.errors import TargetError
from fastdcm.model import ArraySpec, Options
from fastdcm.series.layout import choose_chunks, iter_shards
from fastdcm.store.commit import check_complete
from fastdcm.store.metadata import array_metadata
from fastdcm.store.shard import shard_key, write_region
from tests.store.written import Array, make_values, write_array

CODECS = ["zstd", "lz4", "none", "zstd:5", "lz4:0", "lz4hc:3", "blosclz", "zlib:2", "gzip"]


def read_all(folder: Path) -> dict[str, Array]:
    """Read an array by every reader."""
    found = {"zarr": np.asarray(zarr.open_array(folder, mode="r")[...])}
    with zarr.config.set({"codec_pipeline.path": "zarrs.ZarrsCodecPipeline"}):
        found["zarrs"] = np.asarray(zarr.open_array(folder, mode="r")[...])
    spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": str(folder)}}
    found["tensorstore"] = tensorstore.open(spec, read=True).result().read().result()
    return found


def write(folder: Path, array: ArraySpec) -> Array:
    values = make_values(array)
    write_array(folder, array, values)
    (folder / "zarr.json").write_text(json.dumps(array_metadata(array)))
    return values


def spec_of(shape: tuple[int, ...], axes: str, dtype: str, codec: str, **options: Any) -> ArraySpec:
    chunks, shards = choose_chunks(shape, axes, np.dtype(dtype).itemsize, Options(**options))
    return ArraySpec(axes, shape, dtype, chunks, shards, codec, 0.0)


@pytest.mark.parametrize("codec", CODECS)
def test_every_codec_is_read_by_every_reader(tmp_path: Path, codec: str) -> None:
    array = spec_of((11, 45, 70), "zyx", "int16", codec, chunks=(4, 16, 32))
    values = write(tmp_path, array)
    for reader, found in read_all(tmp_path).items():
        np.testing.assert_array_equal(found, values, err_msg=reader)
    check_complete(tmp_path, array)


@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "int16", "int32", "uint32", "float32", "float64"])
def test_every_type_is_read_by_every_reader(tmp_path: Path, dtype: str) -> None:
    array = spec_of((3, 20, 30), "zyx", dtype, "zstd", chunks=(2, 16, 16))
    values = write(tmp_path, array)
    for reader, found in read_all(tmp_path).items():
        assert found.dtype == np.dtype(dtype)
        np.testing.assert_array_equal(found, values, err_msg=reader)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from(["zyx", "tzyx", "tczyx"]),
    st.lists(st.integers(1, 21), min_size=5, max_size=5),
    st.tuples(*[st.integers(1, 12)] * 3),
    st.sampled_from([200, 3000, 2**20]),
    st.sampled_from(["uint8", "int16", "float32"]),
    st.sampled_from(["zstd", "none", "gzip"]),
)
def test_any_shape_round_trips(
    tmp_path_factory: pytest.TempPathFactory,
    axes: str,
    sizes: list[int],
    chunks: tuple[int, int, int],
    shard_bytes: int,
    dtype: str,
    codec: str,
) -> None:
    folder = tmp_path_factory.mktemp("array")
    shape = tuple(min(n, 4) if axis in "tc" else n for axis, n in zip(axes, sizes[-len(axes) :], strict=True))
    array = spec_of(shape, axes, dtype, codec, chunks=chunks, shard_bytes=shard_bytes)
    values = write(folder, array)
    check_complete(folder, array)
    for reader, found in read_all(folder).items():
        np.testing.assert_array_equal(found, values, err_msg=reader)


def test_colour_and_padding_of_the_edge(tmp_path: Path) -> None:
    chunks, shards = choose_chunks((2, 3, 1, 600, 530), "tczyx", 1, Options(), channels=3)
    array = ArraySpec("tczyx", (2, 3, 1, 600, 530), "uint8", chunks, shards, "zstd", 7.0)
    values = write(tmp_path, array)
    for found in read_all(tmp_path).values():
        np.testing.assert_array_equal(found, values)
    # A reader that is told of a larger array sees the fill value beyond the edge.
    document = json.loads((tmp_path / "zarr.json").read_text())
    document["shape"][-1] = 1024
    (tmp_path / "zarr.json").write_text(json.dumps(document))
    wider = np.asarray(zarr.open_array(tmp_path, mode="r")[...])
    assert (wider[..., 530:] == 7).all()


def test_absent_slices_of_a_float_array_are_nan(tmp_path: Path) -> None:
    array = replace(spec_of((2, 9, 9), "zyx", "float32", "zstd", chunks=(1, 8, 8)), fill_value=float("nan"))
    write(tmp_path, array)
    assert np.isnan(zarr.open_array(tmp_path, mode="r").fill_value)


def test_all_fill_chunks_are_written(tmp_path: Path) -> None:
    array = spec_of((8, 32, 32), "zyx", "int16", "zstd", chunks=(4, 16, 16))
    write_array(tmp_path, array, np.zeros(array.shape, np.int16))
    check_complete(tmp_path, array)


def test_blocks_may_be_views_and_bytes_do_not_depend_on_it(tmp_path: Path) -> None:
    array = spec_of((10, 30, 31), "zyx", "int16", "zstd", chunks=(4, 16, 16))
    values = make_values(array)
    write_array(tmp_path / "a", array, values)
    strided = np.empty((10, 60, 62), np.int16)[:, ::2, ::2]
    strided[...] = values
    write_region(str(tmp_path / "b"), array, tuple((0, n) for n in array.shape), strided)
    for region in iter_shards(array):
        key = shard_key(array, [start for start, _ in region])
        assert (tmp_path / "a" / key).read_bytes() == (tmp_path / "b" / key).read_bytes()


def test_written_twice_is_the_same_even_over_something_longer(tmp_path: Path) -> None:
    array = spec_of((10, 30, 31), "zyx", "int16", "zstd", chunks=(4, 16, 16))
    values = make_values(array)
    size = write_array(tmp_path, array, values)
    (shard,) = [path for path in (tmp_path / "c").rglob("*") if path.is_file()]
    first = shard.read_bytes()
    assert len(first) == size
    shard.write_bytes(first + b"rest of a run with other options")
    write_array(tmp_path, array, values)
    assert shard.read_bytes() == first


def test_threads_write_the_same_bytes(tmp_path: Path) -> None:
    array = spec_of((32, 128, 130), "zyx", "int16", "zstd", chunks=(4, 64, 64), shard_bytes=300_000)
    values = make_values(array)
    write_array(tmp_path / "one", array, values)
    threads = [threading.Thread(target=write_array, args=(tmp_path / "many", array, values)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    files = [path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*") if path.is_file()]
    assert len(files) > 3
    for name in files:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "many" / name).read_bytes()


def test_block_of_another_shape_or_type_is_refused(tmp_path: Path) -> None:
    array = spec_of((2, 8, 8), "zyx", "int16", "zstd")
    region = ((0, 2), (0, 8), (0, 8))
    with pytest.raises(ValueError, match="is not the region"):
        write_region(str(tmp_path), array, region, np.zeros((2, 8, 7), np.int16))
    with pytest.raises(ValueError, match="is not the region"):
        write_region(str(tmp_path), array, region, np.zeros((2, 8, 8), np.int32))


def test_target_that_cannot_be_written_is_a_target_error(tmp_path: Path) -> None:
    array = spec_of((2, 8, 8), "zyx", "int16", "zstd")
    (tmp_path / "c").write_text("a file in the way")
    with pytest.raises(TargetError, match="cannot write a shard"):
        write_array(tmp_path, array, make_values(array))
