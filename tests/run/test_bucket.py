"""Targets in a bucket: the same store as on disk, complete or absent, one run at a time, nothing left behind."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import fastdcm
from fastdcm import objects
from fastdcm.errors import TargetError, UsageError
from fastdcm.places import Url
from fastdcm.run import lease
from fastdcm.store import upload
from tests.dicomgen import make_series, mixed_folder
from tests.s3server import keys, s3_server

DEST = "s3://bucket/deep/out.zarr"


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bucket") / "in"
    mixed_folder(folder)
    make_series(folder / "more", n=9, rows=40, columns=34, series="more", seed=5)
    return folder


@pytest.fixture(scope="module")
def server() -> Iterator[Any]:
    with s3_server() as boto:
        yield boto


@pytest.fixture
def boto(server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(lease, "RENEW_S", 0.2)
    monkeypatch.setattr(lease, "ALIVE_S", 1.6)
    yield server
    for key in keys(server):
        server.delete_object(Bucket="bucket", Key=key)


def store(boto: Any) -> dict[str, bytes]:
    return {key.removeprefix("deep/out.zarr/"): data for key, data in keys(boto, prefix="deep/out.zarr/").items()}


def on_disk(source: Path, path: Path, **options: Any) -> dict[str, bytes]:
    fastdcm.convert(source, path, work=path.with_name("local.work"), **options)
    return {file.relative_to(path).as_posix(): file.read_bytes() for file in path.rglob("*") if file.is_file()}


def without_report(files: dict[str, bytes]) -> dict[str, bytes]:
    return {name: data for name, data in files.items() if name != "report.json"}


def test_the_same_store_as_on_disk(boto: Any, source: Path, tmp_path: Path) -> None:
    report = fastdcm.convert(source, DEST)
    expected = on_disk(source, tmp_path / "disk.zarr")
    found = store(boto)
    assert found.keys() == expected.keys()
    assert without_report(found) == without_report(expected)
    assert report.volumes["written"] == len(published(boto)) > 2
    assert not boto.list_multipart_uploads(Bucket="bucket").get("Uploads")
    left = keys(boto, prefix="deep/out.zarr.work/")
    assert list(left) == ["deep/out.zarr.work/lease-00000001"]
    assert json.loads(left["deep/out.zarr.work/lease-00000001"])["state"] == "ended"
    assert (tmp_path / "out.zarr.work" / "journal.jsonl").is_file()
    assert not any(name.startswith(("index", "journal", "sources")) for name in found)
    assert fastdcm.verify(DEST).exit_code == 0


def test_large_volumes_travel_shard_by_shard(boto: Any, source: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"shard": 2048, "chunks": (1, 16, 16)}
    fastdcm.convert(source, DEST, **options)
    expected = on_disk(source, tmp_path / "disk.zarr", **options)
    assert without_report(store(boto)) == without_report(expected)
    assert len(expected) > 60


def test_a_second_run_writes_nothing_and_a_late_slice_replaces_its_volume(boto: Any, tmp_path: Path) -> None:
    whole = make_series(tmp_path / "in", n=6, series="late")
    make_series(tmp_path / "in", n=3, series="other", seed=2)
    late = whole.paths[-1].read_bytes()
    whole.paths[-1].unlink()
    fastdcm.convert(tmp_path / "in", DEST)
    before = store(boto)
    again = fastdcm.convert(tmp_path / "in", DEST)
    assert again.volumes["unchanged"] == 2
    assert store(boto) == before
    whole.paths[-1].write_bytes(late)
    report = fastdcm.convert(tmp_path / "in", DEST)
    assert (report.volumes["written"], report.volumes["unchanged"]) == (1, 1)
    assert without_report(store(boto)) == without_report(on_disk(tmp_path / "in", tmp_path / "disk.zarr"))


def test_without_its_working_folder_the_tables_stand_in(boto: Any, source: Path, tmp_path: Path) -> None:
    fastdcm.convert(source, DEST, work=tmp_path / "a.work")
    before = store(boto)
    report = fastdcm.convert(source, DEST, work=tmp_path / "b.work")
    assert (report.volumes["written"], report.volumes["unchanged"]) == (0, len(published(boto)))
    assert without_report(store(boto)) == without_report(before)


def test_a_working_folder_that_missed_a_run_does_not_lose_its_volumes(boto: Any, tmp_path: Path) -> None:
    make_series(tmp_path / "in", n=3, series="one")
    fastdcm.convert(tmp_path / "in", DEST, work=tmp_path / "a.work")
    make_series(tmp_path / "in", n=4, series="two", seed=1)
    fastdcm.convert(tmp_path / "in", DEST, work=tmp_path / "b.work")
    report = fastdcm.convert(tmp_path / "in", DEST, work=tmp_path / "a.work")
    assert (report.volumes["written"], report.volumes["unchanged"]) == (0, 2)
    assert fastdcm.verify(DEST).exit_code == 0


class Stop(BaseException):
    """As sudden as a kill: nothing after it runs but ``finally``."""


@pytest.mark.parametrize("moment", [2, 9, 17, 26, 35])
def test_a_run_that_dies_at_any_request_is_finished_by_the_next(
    boto: Any, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: int
) -> None:
    counted = 0

    def dies(function: Any) -> Any:
        def call(*arguments: Any, **named: Any) -> Any:
            nonlocal counted
            counted += 1
            if counted > moment:
                raise TargetError("the server is gone")
            return function(*arguments, **named)

        return call

    with monkeypatch.context() as patch:
        for name in ("put", "put_file", "delete"):
            patch.setattr(upload, name, dies(getattr(objects, name)))
        with contextlib.suppress(TargetError):
            fastdcm.convert(source, DEST)
    for volume in published(boto):
        opened = fastdcm.open(f"{DEST}/{volume}")
        assert isinstance(opened, fastdcm.Volume)
        assert opened.numpy().shape == opened.shape
    fastdcm.convert(source, DEST)
    expected = on_disk(source, tmp_path / "disk.zarr")
    assert without_report(store(boto)) == without_report(expected)


def published(boto: Any) -> list[str]:
    return [name.removesuffix("/zarr.json") for name in store(boto) if name.endswith(".ome.zarr/zarr.json")]


def test_a_shard_that_the_server_loses_is_not_published(
    boto: Any, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lose(url: str, path: str) -> int:
        return 0 if "/c/" in url else objects.put_file(url, path)

    monkeypatch.setattr(upload, "put_file", lose)
    with pytest.raises(TargetError, match="not there after they were written"):
        fastdcm.convert(source, DEST)
    assert published(boto) == []


# ---------------------------------------------------------------------------- whose it is


@pytest.mark.parametrize("url", ["http://127.0.0.1/out.zarr", "https://example.org/x"])
def test_http_is_read_only(source: Path, url: str) -> None:
    with pytest.raises(UsageError, match="cannot be written"):
        fastdcm.convert(source, url)


def test_a_bucket_with_other_things_is_not_ours(boto: Any, source: Path) -> None:
    boto.put_object(Bucket="bucket", Key="deep/out.zarr/letter.txt", Body=b"mine")
    with pytest.raises(UsageError, match="neither empty nor"):
        fastdcm.convert(source, DEST)
    assert store(boto) == {"letter.txt": b"mine"}


def test_no_bucket(boto: Any, source: Path) -> None:
    with pytest.raises(TargetError, match="no such bucket"):
        fastdcm.convert(source, "s3://nobucket/out.zarr")


def test_a_live_run_keeps_others_out_and_a_dead_one_is_taken_over(boto: Any, tmp_path: Path) -> None:
    mine, other = tmp_path / "a.work", tmp_path / "b.work"
    mine.mkdir()
    other.mkdir()
    folder = "s3://bucket/w.work"
    with lease.hold_lease(folder, mine) as held:
        with pytest.raises(UsageError, match="another conversion works"), lease.hold_lease(folder, other):
            pass
        held.check()
        held.end()  # as if it were killed: nobody renews it now
        with lease.hold_lease(folder, other) as taken:
            assert (taken.number, taken.alone) == (held.number + 1, False)
            with pytest.raises(TargetError, match="took this store over"):
                held.check()
    with lease.hold_lease(folder, other) as again:
        assert again.alone
    assert list(keys(boto, prefix="w.work/")) == [f"w.work/lease-{again.number:08d}"]


def test_the_same_working_folder_takes_over_at_once(boto: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "ALIVE_S", 1000.0)
    (tmp_path / "holder").write_text("me")
    boto.put_object(Bucket="bucket", Key="w.work/lease-00000007", Body=b'{"holder": "me", "state": "live"}')
    with lease.hold_lease("s3://bucket/w.work", tmp_path) as held:
        assert (held.number, held.alone) == (8, True)


def test_what_is_left_of_a_probe_goes_with_the_next_run(
    boto: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as killed:
        killed.setattr(objects, "delete", lambda _: None)
        with lease.hold_lease("s3://bucket/a.work", tmp_path):
            pass
    assert len([key for key in keys(boto, prefix="a.work/") if "probe" in key]) == 2
    with lease.hold_lease("s3://bucket/a.work", tmp_path):
        pass
    assert list(keys(boto, prefix="a.work/")) == ["a.work/lease-00000002"]


def test_a_lease_that_cannot_be_renewed_is_lost(boto: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with lease.hold_lease("s3://bucket/w.work", tmp_path) as held:
        held.end()
        monkeypatch.setattr(lease, "ALIVE_S", -1.0)
        with pytest.raises(TargetError, match="could not be renewed"):
            held.check()


# ---------------------------------------------------------------------------- servers that lie


def test_a_server_without_exclusive_create_is_refused(boto: Any, source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put = objects.put
    monkeypatch.setattr(objects, "put", lambda url, data, *, create=False: put(url, data))
    with pytest.raises(UsageError, match=r"no exclusive create.*--single-writer"):
        fastdcm.convert(source, DEST)
    assert keys(boto) == {}
    assert fastdcm.convert(source, DEST, single_writer=True).volumes["written"] == len(published(boto))


@pytest.mark.parametrize("name", ["read_end", "read_range"])
def test_a_server_with_wrong_ranges_is_refused(
    boto: Any, source: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(objects, name, lambda url, *_, **__: (objects.read(url, 10**6) or b"")[:7])
    with pytest.raises(UsageError, match="cannot hold a store"):
        fastdcm.convert(source, DEST, single_writer=True)
    assert keys(boto) == {}


def test_places_of_urls() -> None:
    place = Url("s3://bucket/a/b.zarr")
    assert str(place / "x" / "y") == "s3://bucket/a/b.zarr/x/y"
    assert (place.name, str(place.parent), str(place.joinpath("0", "c"))) == (
        "b.zarr",
        "s3://bucket/a",
        "s3://bucket/a/b.zarr/0/c",
    )
