"""Chunks, shards, tasks, digest and the document of a plan."""

from __future__ import annotations

import json
import math
import pickle
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastdcm.errors import Code, UsageError
from fastdcm.model import ArraySpec, Axis, Options
from fastdcm.series.layout import choose_chunks, iter_shards, parse_codec, shard_count, task_regions
from fastdcm.series.names import safe_uid, volume_path
from fastdcm.series.plan import in_fallback, plan_document, plan_volume, shard_tasks
from tests.series.made import make_index, make_plan, make_series, make_volume, row

MIB = 2**20


@pytest.mark.parametrize(
    ("axes", "shape", "itemsize", "channels", "chunks", "shards"),
    [
        ("zyx", (1, 944, 972), 2, 1, (1, 512, 512), (1, 1024, 1024)),
        ("zyx", (1, 100, 80), 2, 1, (1, 100, 80), (1, 100, 80)),
        ("zyx", (7, 512, 512), 2, 1, (1, 512, 512), (7, 512, 512)),
        ("zyx", (8, 512, 512), 2, 1, (8, 128, 128), (8, 512, 512)),
        ("zyx", (65, 512, 512), 2, 1, (22, 128, 128), (66, 512, 512)),  # 3 x 22, not 96
        ("zyx", (257, 512, 512), 2, 1, (29, 128, 128), (116, 512, 512)),  # 9 x 29, not 288
        ("zyx", (40, 500, 300), 2, 1, (20, 128, 128), (40, 512, 384)),
        ("tzyx", (200, 36, 64, 64), 2, 1, (1, 18, 64, 64), (200, 36, 64, 64)),  # an EPI is few shards
        ("tzyx", (2000, 36, 64, 64), 2, 1, (1, 18, 64, 64), (227, 36, 64, 64)),
        ("tczyx", (3, 2, 60, 512, 512), 2, 1, (1, 1, 30, 128, 128), (1, 2, 60, 512, 512)),
        ("tczyx", (50, 3, 1, 480, 640), 1, 3, (1, 3, 1, 480, 512), (50, 3, 1, 480, 1024)),
        ("czyx", (4, 1, 64, 64), 1, 4, (1, 1, 64, 64), (4, 1, 64, 64)),
        ("zyx", (60, 4096, 4096), 2, 1, (1, 128, 128), (2, 4096, 4096)),  # two whole planes fit
        ("zyx", (20, 9000, 9000), 2, 1, (1, 128, 128), (1, 3712, 9088)),  # bands of rows
        ("zyx", (1, 9000, 9000), 2, 1, (1, 512, 512), (1, 3584, 9216)),
    ],
)
def test_chunks_and_shards_of_the_store_format(
    axes: str, shape: tuple[int, ...], itemsize: int, channels: int, chunks: tuple[int, ...], shards: tuple[int, ...]
) -> None:
    assert choose_chunks(shape, axes, itemsize, Options(), channels=channels) == (chunks, shards)


@st.composite
def arrays(draw: st.DrawFn) -> tuple[ArraySpec, int, Options]:
    axes = draw(st.sampled_from(["zyx", "tzyx", "czyx", "tczyx"]))
    channels = draw(st.sampled_from([1, 3, 4])) if "c" in axes else 1
    edge = st.sampled_from([1, 2, 7, 8, 33, 65, 100, 257, 512, 700, 3000, 12000])
    size = {"t": draw(st.integers(1, 300)), "z": draw(edge), "y": draw(edge), "x": draw(edge)}
    size["c"] = channels if channels > 1 else draw(st.integers(1, 5))
    wanted = st.none() | st.tuples(*[st.integers(1, 300)] * 3)
    options = Options(chunks=draw(wanted), shard_bytes=draw(st.sampled_from([MIB, 64 * MIB])))
    dtype = draw(st.sampled_from(["uint8", "int16", "float32", "float64"]))
    shape = tuple(size[axis] for axis in axes)
    chunks, shards = choose_chunks(shape, axes, np.dtype(dtype).itemsize, options, channels=channels)
    return ArraySpec(axes, shape, dtype, chunks, shards, "zstd", 0.0), channels, options


@given(arrays())
def test_shards_are_whole_chunks_of_about_the_wanted_size(case: tuple[ArraySpec, int, Options]) -> None:
    array, channels, options = case
    itemsize = np.dtype(array.dtype).itemsize
    for shard, chunk, n in zip(array.shards, array.chunks, array.shape, strict=True):
        assert shard % chunk == 0
        assert 1 <= chunk <= n
        assert shard - chunk < n  # never a chunk that holds nothing, on any axis
    size = dict(zip(array.axes, array.shards, strict=True))
    of_chunk = dict(zip(array.axes, array.chunks, strict=True))
    real = itemsize * math.prod(min(shard, n) for shard, n in zip(array.shards, array.shape, strict=True))
    least = itemsize * channels * of_chunk["z"] * of_chunk["y"] * dict(zip(array.axes, array.shape, strict=True))["x"]
    assert real <= max(options.shard_bytes, least)
    if channels > 1:
        assert size["c"] == channels


@given(arrays())
def test_shards_and_tasks_partition_the_array(case: tuple[ArraySpec, int, Options]) -> None:
    array, _, _ = case
    if shard_count(array) > 2000:
        return
    shards, tasks = list(iter_shards(array)), list(task_regions(array))
    assert len(shards) == shard_count(array)
    for regions in (shards, tasks):
        assert sum(math.prod(b - a for a, b in region) for region in regions) == math.prod(array.shape)
        assert len({tuple(a for a, _ in region) for region in regions}) == len(regions)
    for region in tasks:
        assert region[-2] == (0, array.shape[-2])
        assert all(a % step == 0 for (a, _), step in zip(region, array.shards, strict=True))


@pytest.mark.parametrize(
    "text", ["", "zstd:", "zstd:10", "zstd:-1", "zstd:x", "pcodec", "none:1", "ZSTD", "zstd:1:2", "lz4: 1"]
)
def test_codec_that_is_none_is_a_usage_error(text: str) -> None:
    if text == "zstd:":
        assert parse_codec(text, 2, 100) == parse_codec("zstd", 2, 100)
        return
    with pytest.raises(UsageError, match="is none of"):
        parse_codec(text, 2, 100)
    with pytest.raises(UsageError):
        make_plan(options=Options(codec=text))


def test_codecs_by_name() -> None:
    assert parse_codec("none", 1, 10) == [{"name": "bytes"}]
    assert parse_codec("zstd:5", 4, 10)[1]["configuration"]["clevel"] == 5
    assert [parse_codec(name, 2, 10)[1]["name"] for name in ("zstd", "lz4", "blosclz", "gzip:3")] == [
        "blosc", "blosc", "blosc", "gzip",
    ]  # fmt: skip


def test_plan_holds_its_own_frames_only() -> None:
    index, frames = make_series(6)
    plan = plan_volume(frames, make_volume([4, 1, 5]), "a/b/0.ome.zarr", "P", Options(), index)
    assert len(plan.frames) == 3
    assert plan.frames.texts["sop_instance_uid"][plan.volume.cells[0, 0]].tolist() == [
        frames.texts["sop_instance_uid"][k] for k in (4, 1, 5)
    ]
    assert pickle.loads(pickle.dumps(plan)).digest == plan.digest


def test_tasks_cover_each_cell_once_with_its_source() -> None:
    cells = np.array([[[0, 1, -1]], [[3, 2, 4]]])
    axis = Axis("t", "temporal_position", None, (1, 2))
    index, frames = make_series(5, slope=[1.0, 0.5, 2.0, 4.0, 8.0])
    plan = plan_volume(frames, make_volume(cells, (axis,)), "a/b/0.ome.zarr", "P", Options(), index)
    assert (plan.array.axes, plan.array.shape, plan.array.dtype) == ("tzyx", (2, 3, 20, 24), "float32")
    (task,) = shard_tasks(plan, index, "/out.work/partial/7")
    assert task.target == "/out.work/partial/7/0/image"
    assert [source and source.pixel_offset for source in task.sources] == [2000, 2001, None, 2003, 2002, 2004]
    assert [source and source.slope for source in task.sources] == [1.0, 0.5, None, 4.0, 2.0, 8.0]
    source = task.sources[0]
    assert source is not None
    assert source.path.endswith("name of someone 0")
    assert (source.size, source.mtime_ns, source.table_offset) == (70_000, 1_700_000_000_123_456_789, -1)
    assert source.format.bits_stored == 12
    assert not source.format.signed
    assert len({id(source.format) for source in task.sources if source}) == 1


def test_stored_values_have_no_transform() -> None:
    plan, index = make_plan(3, Options(values="stored"))
    (task,) = shard_tasks(plan, index, "p")
    assert {(source.slope, source.intercept, source.lut) for source in task.sources if source} == {(1.0, 0.0, None)}


def test_bands_of_one_plane_are_one_task() -> None:
    plan, index = make_plan(2, Options(shard_bytes=600, chunks=(1, 8, 8)))
    assert plan.array.shards == (1, 8, 24)
    tasks = list(shard_tasks(plan, index, "p"))
    assert [task.region for task in tasks] == [((0, 1), (0, 20), (0, 24)), ((1, 2), (0, 20), (0, 24))]
    assert [len(task.sources) for task in tasks] == [1, 1]


def test_colour_has_one_source_a_cell() -> None:
    index, frames = make_series(4, samples=3, photometric="RGB", bits_allocated=8, bits_stored=8, slope=None)
    volume = make_volume(np.arange(4).reshape(4, 1, 1), (Axis("t", "frame", None, (0, 1, 2, 3)),), "cine")
    plan = plan_volume(frames, volume, "a/b/0.ome.zarr", "P", Options(), index)
    assert (plan.array.axes, plan.array.shape, plan.array.chunks) == ("tczyx", (4, 3, 1, 20, 24), (1, 3, 1, 20, 24))
    (task,) = shard_tasks(plan, index, "p")
    assert len(task.sources) == 4


@pytest.mark.parametrize("n_t", [1, 2])
def test_colour_takes_c_so_repeats_go_along_t(n_t: int) -> None:
    axes = (Axis("t", "temporal_position", None, (1, 2)), Axis("c", "echo_time", "ms", (2.0, 4.0)))[-n_t:]
    index, frames = make_series(4 * n_t, samples=3, photometric="RGB", bits_allocated=8, bits_stored=8, slope=None)
    volume = make_volume(np.arange(4 * n_t).reshape(n_t, 2, 2), axes)
    plan = plan_volume(frames, volume, "a/b/0.ome.zarr", "P", Options(), index)
    assert (plan.array.axes, plan.array.shape) == ("tczyx", (2 * n_t, 3, 2, 20, 24))
    assert [axis.role for axis in plan.volume.axes] == ["echo_time" if n_t == 1 else "repeat"]
    (task,) = shard_tasks(plan, index, "p")
    assert [source and source.pixel_offset for source in task.sources] == [2000 + k for k in range(4 * n_t)]


def test_multi_frame_sources_share_their_file() -> None:
    index = make_index([row(0, n_frames=3, pixel_length=3 * 960, table_offset=77, table_length=24)])
    from fastdcm.series.frames import iter_series

    (frames,) = iter_series(index)
    plan = plan_volume(frames, make_volume(np.arange(3)), "a/b/0.ome.zarr", "P", Options(), index)
    (task,) = shard_tasks(plan, index, "p")
    assert [(source.frame, source.tile, source.table_offset) for source in task.sources if source] == [
        (0, -1, 77), (1, -1, 77), (2, -1, 77),
    ]  # fmt: skip


def digest_of(changes: dict[str, Any] | None = None, **options: Any) -> str:
    return make_plan(3, Options(**options), **(changes or {}))[0].digest


def test_digest_is_of_sources_in_their_places_and_of_options_that_matter() -> None:
    first = digest_of()
    assert digest_of() == first
    assert digest_of({"path": ["x", "y", "z"]}) == first
    assert digest_of(where="slices > 3", derived=False, localizers=False, image_type="ORIGINAL") == first
    assert digest_of({"size": [1, 2, 3]}) != first
    assert digest_of({"mtime_ns": 1_700_000_000_123_456_790}) != digest_of({"mtime_ns": 1_700_000_000_123_456_791})
    assert digest_of(codec="lz4") != first
    assert digest_of(values="stored") != first
    assert digest_of(metadata="full") != first
    index, frames = make_series(3)
    turned = plan_volume(frames, make_volume([2, 1, 0]), "a/b/0.ome.zarr", "P", Options(), index)
    assert turned.digest != first


def test_fallback_is_the_same_volume_in_the_wider_type() -> None:
    plan, _ = make_plan(3, bits_stored=16)
    wide = in_fallback(plan, Options())
    assert (wide.array.dtype, wide.rule.dtype, wide.rule.dtype_fallback) == ("int32", "int32", None)
    assert wide.array.fill_value == -(2.0**31)
    assert (wide.digest, wide.path, wide.array.shape) == (plan.digest, plan.path, plan.array.shape)
    assert Code.DTYPE_FALLBACK in [reason.code for reason in wide.reasons]
    with pytest.raises(ValueError, match="no fallback"):
        in_fallback(wide, Options())


def test_plan_says_what_the_scan_found_odd() -> None:
    plan, _ = make_plan(3, repaired=["repaired-syntax", None, "repaired-syntax;long-pixel-data"], burned_in="YES")
    assert [reason.code for reason in plan.reasons] == [
        Code.REPAIRED_SYNTAX, Code.LONG_PIXEL_DATA, Code.BURNED_IN_RISK,
    ]  # fmt: skip
    assert "2 of 3" in plan.reasons[0].message


def test_plan_says_that_a_lut_was_not_applied() -> None:
    plan, _ = make_plan(1, repaired="repaired-syntax;lut-not-applied", modality="XA")
    assert [reason.code for reason in plan.reasons] == [Code.REPAIRED_SYNTAX, Code.LUT_NOT_APPLIED]


def test_document_is_plain_json_and_names_no_source() -> None:
    plan, _ = make_plan(5, bits_stored=16)
    other = replace(plan, path="1.2.840.1/1.2.840.1.8/0.ome.zarr")
    document = plan_document([plan, other], [{"series": "1.2", "code": "gap", "message": "a slice is missing"}])
    text = json.dumps(document, allow_nan=False)
    assert "someone" not in text
    assert "/data/in" not in text
    volume = document["volumes"][0]
    assert (volume["dtype"], volume["shape"], volume["bytes"]) == ("int16 (int32 if needed)", [5, 20, 24], 4800)
    assert volume["output_files"] == 10
    assert document["totals"] == {
        "volumes": 2, "frames": 10, "bytes": 9600, "output_files": 2 * 10 + 1 + 2 + 5, "refusals": 1,
    }  # fmt: skip


@pytest.mark.parametrize(
    "text",
    [None, "", ".", "..", "../x", "/etc", "1..2", ".1", "1.", "1.2/3", "1.2\x00", "1.2\n", "CON", "1" * 65,
     "9" * 10_000, "1.2 3", "\u0661.2", "\udcff", "x-0123456789abcdef", "~", "1.2\\3"],
)  # fmt: skip
def test_what_is_no_uid_becomes_a_hash(text: str | None) -> None:
    name = safe_uid(text)
    assert name.startswith("x-")
    assert len(name) == 18
    assert set(name[2:]) <= set("0123456789abcdef")


def test_legal_uids_stay() -> None:
    for uid in ("1.2.840.10008", "2.25.1", "0", "1" * 64, "1.02.3"):
        assert safe_uid(uid) == uid
    assert volume_path("1.2-2", "1.2.3", 4) == "1.2-2/1.2.3/4.ome.zarr"


@given(st.text())
def test_names_never_leave_their_folder(text: str) -> None:
    name = safe_uid(text)
    assert "/" not in name
    assert name.strip(".") == name != ""
