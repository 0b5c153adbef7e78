"""A volume is complete or absent."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import numpy as np
import pytest

from fastdcm.errors import CheckError, TargetError
from fastdcm.model import Options
from fastdcm.series.layout import iter_shards
from fastdcm.store import commit
from fastdcm.store.commit import check_complete, publish, replace, write_documents, writing
from fastdcm.store.shard import ABSENT, index_bytes, shard_key
from tests.series.made import make_plan
from tests.store.written import write_volume


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    """A volume of four shards, two of them bands of one plane."""
    plan, index = make_plan(2, Options(shard_bytes=700, chunks=(1, 8, 8)))
    write_volume(tmp_path / "work" / "v", plan, index)
    return tmp_path / "work" / "v"


ARRAY = make_plan(2, Options(shard_bytes=700, chunks=(1, 8, 8)))[0].array


def shards(volume: Path) -> list[Path]:
    return [volume / "0/image" / shard_key(ARRAY, [a for a, _ in region]) for region in iter_shards(ARRAY)]


def test_whole_volume_passes(volume: Path) -> None:
    assert len(shards(volume)) == 6
    check_complete(volume / "0/image", ARRAY)


@pytest.mark.parametrize("which", range(6))
def test_lost_shard_is_found(volume: Path, which: int) -> None:
    shards(volume)[which].unlink()
    with pytest.raises(CheckError, match="cannot be read"):
        check_complete(volume / "0/image", ARRAY)


@pytest.mark.parametrize("size", [0, 3, 40, -1])
def test_shard_cut_short_is_found(volume: Path, size: int) -> None:
    shard = shards(volume)[1]
    shard.write_bytes(shard.read_bytes()[:size])
    with pytest.raises(CheckError, match="shard c/0/1/0"):
        check_complete(volume / "0/image", ARRAY)


def test_bytes_lost_before_the_index_are_found(volume: Path) -> None:
    shard = shards(volume)[1]
    shard.write_bytes(shard.read_bytes()[7:])
    with pytest.raises(CheckError, match="does not hold its 3 chunks"):
        check_complete(volume / "0/image", ARRAY)


def test_chunk_that_the_index_calls_absent_is_found(volume: Path) -> None:
    shard = shards(volume)[0]
    data = shard.read_bytes()
    index = np.frombuffer(data[-(16 * 3 + 4) : -4], "<u8").reshape(3, 2).copy()
    index[2] = ABSENT
    shard.write_bytes(data[: -(16 * 3 + 4)] + index_bytes(index))
    with pytest.raises(CheckError, match="does not hold its 3 chunks"):
        check_complete(volume / "0/image", ARRAY)


def test_flipped_bit_of_the_index_is_found(volume: Path) -> None:
    shard = shards(volume)[0]
    data = bytearray(shard.read_bytes())
    data[-10] ^= 1
    shard.write_bytes(data)
    with pytest.raises(CheckError, match="checksum"):
        check_complete(volume / "0/image", ARRAY)


def final_of(tmp_path: Path, n: int = 0) -> Path:
    return tmp_path / "out.zarr" / "1.2" / "1.2.3" / f"{n}.ome.zarr"


@pytest.mark.parametrize("has_syncfs", [True, False])
def test_published_volumes_are_in_groups(
    tmp_path: Path, volume: Path, has_syncfs: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not has_syncfs:
        monkeypatch.setattr(commit, "_syncfs", lambda _: False)
    final = final_of(tmp_path)
    publish([(volume, final)])
    assert not volume.exists()
    check_complete(final / "0/image", ARRAY)
    for folder in (final.parent, final.parent.parent):
        document = json.loads((folder / "zarr.json").read_text())
        assert document == {"zarr_format": 3, "node_type": "group", "attributes": {}}
        assert not list(folder.glob("*.partial"))
    assert not (tmp_path / "out.zarr" / "zarr.json").exists()
    publish([])


def test_every_file_is_synced_before_the_rename(tmp_path: Path, volume: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[str] = []
    rename, fsync = os.rename, os.fsync
    monkeypatch.setattr(commit, "_syncfs", lambda _: False)

    def noted_fsync(descriptor: int) -> None:
        events.append(os.readlink(f"/proc/self/fd/{descriptor}") if os.path.exists("/proc/self/fd") else "fsync")
        fsync(descriptor)

    def noted_rename(source: str, target: str) -> None:
        events.append(f"rename {target}")
        rename(source, target)

    files = [path for path in volume.rglob("*") if path.is_file()]
    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(os, "rename", noted_rename)
    final = final_of(tmp_path)
    publish([(volume, final)])
    moved = events.index(f"rename {final}")
    assert len([event for event in events[:moved] if not event.startswith("rename")]) >= len(files)
    assert len(events) > moved + 1  # the folders' names come after


def test_a_volume_is_never_put_over_another(tmp_path: Path, volume: Path) -> None:
    final = final_of(tmp_path)
    final.mkdir(parents=True)
    with pytest.raises(TargetError, match="something is there already"):
        publish([(volume, final)])
    assert volume.exists()


def test_replacing_keeps_the_old_one_in_the_trash(tmp_path: Path, volume: Path) -> None:
    final, trash = final_of(tmp_path), tmp_path / "work" / "trash"
    final.mkdir(parents=True)
    (final / "zarr.json").write_text("old")
    replace(volume, final, trash)
    check_complete(final / "0/image", ARRAY)
    assert [path.read_text() for path in trash.glob("*/zarr.json")] == ["old"]
    other = tmp_path / "work" / "w"
    write_documents(other, {"zarr.json": b"{}"})
    replace(other, final_of(tmp_path, 1), trash)  # nothing there (a crash between the renames): published
    assert (final_of(tmp_path, 1) / "zarr.json").read_bytes() == b"{}"


def test_documents_end_with_the_commit_marker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = []
    plain_open = os.open

    def noted_open(path: str, flags: int, mode: int = 0o777) -> int:
        descriptor = plain_open(path, flags, mode)
        written.append(os.path.relpath(path, tmp_path))
        return descriptor

    monkeypatch.setattr(os, "open", noted_open)
    size = write_documents(tmp_path, {"zarr.json": b"{}", "0/zarr.json": b"{} ", "0/z/c.0": b"12345678"})
    assert written[-1] == "zarr.json"
    assert sorted(written) == ["0/z/c.0", "0/zarr.json", "zarr.json"]
    assert size == 13


@pytest.mark.parametrize(
    ("code", "advice"), [(errno.EACCES, "right to write"), (errno.EROFS, "read-only"), (errno.EIO, "check")]
)
def test_what_the_target_says_is_passed_on(code: int, advice: str) -> None:
    with pytest.raises(TargetError, match=advice) as caught, writing("a shard"):
        raise OSError(code, os.strerror(code), "/secret/path")
    assert "/secret" not in str(caught.value)


def test_documents_that_are_written_again_are_never_empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A task may run twice, and its first result be published meanwhile."""
    write_documents(tmp_path, {"zarr.json": b"x" * 300})
    sizes = []
    real = os.write

    def seen(descriptor: int, data: bytes) -> int:
        sizes.append(os.fstat(descriptor).st_size)
        return real(descriptor, data)

    monkeypatch.setattr(os, "write", seen)
    write_documents(tmp_path, {"zarr.json": b"x" * 300})
    write_documents(tmp_path, {"zarr.json": b"y" * 200})
    assert sizes == [300, 300]
    assert (tmp_path / "zarr.json").read_bytes() == b"y" * 200
