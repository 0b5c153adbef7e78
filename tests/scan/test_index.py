"""The index does not depend on the batches, and comes back from Parquet."""

from __future__ import annotations

import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fastdcm.model import COLUMNS, FRAME_COLUMNS, Index
from fastdcm.scan.find import find_files
from fastdcm.scan.header import read_headers
from fastdcm.scan.index import build_index, frames_schema, index_schema, load_index, save_index
from tests.scan.localfiles import local_folders


@pytest.fixture(scope="module")
def index() -> Index:
    return _index(200, None)


def _index(batch: int, seed: int | None) -> Index:
    """The index of pydicom's files, its batches and their files in any order."""
    sources = [local_folders()[0]]
    files = list(find_files(sources))
    if seed is not None:
        random.Random(seed).shuffle(files)
    return build_index(sources, (read_headers(sources, files[n : n + batch]) for n in range(0, len(files), batch)))


def test_schemas_are_the_models() -> None:
    assert index_schema().names == [column.name for column in COLUMNS]
    assert frames_schema().names == ["instance", "frame", *(column.name for column in FRAME_COLUMNS)]
    assert index_schema().field("patient_id").type == pa.dictionary(pa.int32(), pa.string())
    assert index_schema().field("modality_lut").type == pa.dictionary(pa.int32(), pa.binary())
    assert (index_schema().field("rows").type, index_schema().field("size").type) == (pa.int32(), pa.int64())


def test_rows_are_sorted_and_frames_belong_to_them(index: Index) -> None:
    paths = index.instances["path"].to_pylist()
    assert paths == sorted(paths, key=str.encode)
    assert index.instances.cast(index_schema()).schema.names == index.instances.schema.names == index_schema().names
    assert index.frames.schema == frames_schema()
    counts = index.frames.group_by("instance").aggregate([("frame", "count")]).to_pylist()
    assert len(counts) > 5
    n_frames = index.instances["n_frames"].to_pylist()
    assert all(n_frames[row["instance"]] == row["frame_count"] for row in counts)
    places = list(zip(index.frames["instance"].to_pylist(), index.frames["frame"].to_pylist(), strict=True))
    assert places == sorted(places)


@pytest.mark.parametrize(("batch", "seed"), [(7, None), (31, 1), (1000, 2)])
def test_batches_and_their_order_do_not_matter(index: Index, batch: int, seed: int | None) -> None:
    other = _index(batch, seed)
    assert str(other.instances.to_pylist()) == str(index.instances.to_pylist())  # NaN equals NaN as text
    assert str(other.frames.to_pylist()) == str(index.frames.to_pylist())


def test_sources_come_first(tmp_path: Path) -> None:
    for name in ("b/z", "a/y"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_bytes(b"text")
    sources = [str(tmp_path / "b"), str(tmp_path / "a")]
    files = list(find_files(sources))
    index = build_index(sources, [read_headers(sources, [file]) for file in reversed(files)])
    assert list(zip(index.instances["source"].to_pylist(), index.instances["path"].to_pylist(), strict=True)) == [
        (0, "z"),
        (1, "y"),
    ]


def test_it_comes_back_from_parquet(index: Index, tmp_path: Path) -> None:
    named = Index(("plain", "f\udcff"), index.instances, index.frames)
    save_index(named, str(tmp_path / "index"))
    save_index(named, str(tmp_path / "index"))  # replaces
    back = load_index(str(tmp_path / "index"))
    assert back.sources == named.sources
    assert back.instances.schema.names == index_schema().names
    assert back.frames.schema == frames_schema()
    with pq.ParquetFile(tmp_path / "index" / "instances.parquet") as file:
        assert file.read().cast(index_schema()).equals(index.instances.cast(index_schema()))
    assert str(back.instances.to_pylist()) == str(index.instances.to_pylist())
    assert str(back.frames.to_pylist()) == str(index.frames.to_pylist())
    assert sorted(path.name for path in (tmp_path / "index").iterdir()) == ["frames.parquet", "instances.parquet"]


def test_an_empty_index(tmp_path: Path) -> None:
    index = build_index([], [])
    save_index(index, str(tmp_path / "index"))
    back = load_index(str(tmp_path / "index"))
    assert back.instances.num_rows == back.frames.num_rows == 0
    assert back.instances.schema.names == index_schema().names


def test_no_index_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"instances\.parquet"):
        load_index(str(tmp_path))
