"""Objects by URL against moto, with boto3 as the witness."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fastdcm import objects
from fastdcm.errors import Code, SourceError, TargetError, UsageError
from tests.s3server import keys, s3_server


@pytest.fixture(scope="module")
def boto() -> Iterator[Any]:
    with s3_server() as client:
        yield client


@pytest.mark.parametrize("url", ["s3://b/k", "gs://b", "az://b/k", "http://h/k", "https://h/k", "memory://x/y"])
def test_urls(url: str) -> None:
    assert objects.is_url(url)


@pytest.mark.parametrize("path", ["/a/b", "a:b", "C:\\x", "file:///x", "s3:/b/k", "./s3://b", "", Path("s3://b/k")])
def test_paths(path: str | Path) -> None:
    assert not objects.is_url(path)


@pytest.mark.parametrize("url", ["s3://", "s3:///key", "ftp://x/y", "s3://key:secret@bucket/x", "http://h/x?sig=1"])
def test_unusable_urls(url: str) -> None:
    with pytest.raises(UsageError):
        objects.stat(url)


def test_ranges(boto: Any) -> None:
    data = bytes(range(256)) * 4
    boto.put_object(Bucket="bucket", Key="r/x y%20ü#?.dcm", Body=data)
    url = "s3://bucket/r/x y%20ü#?.dcm"
    found = objects.stat(url)
    assert found is not None
    assert found.size == 1024
    assert (
        found.mtime_ns
        == int(boto.head_object(Bucket="bucket", Key="r/x y%20ü#?.dcm")["LastModified"].timestamp()) * 10**9
    )
    assert objects.read_range(url, 3, 5, etag=found.etag) == data[3:8]
    assert objects.read_range(url, 1000, 100) == data[1000:]
    assert objects.read_range(url, 0, 0) == b""
    assert objects.read_end(url, 7) == data[-7:]
    assert objects.read(url, 1024) == data
    assert objects.stat("s3://bucket/r/none") is None
    assert objects.read("s3://bucket/r/none", 10) is None
    with pytest.raises(SourceError, match="1024 bytes; 1023"):
        objects.read(url, 1023)
    with pytest.raises(SourceError) as caught:
        objects.read_range("s3://bucket/r/none", 0, 1)
    assert caught.value.code == Code.UNREADABLE


def test_another_object_than_before(boto: Any) -> None:
    boto.put_object(Bucket="bucket", Key="c", Body=b"one")
    found = objects.stat("s3://bucket/c")
    assert found is not None
    boto.put_object(Bucket="bucket", Key="c", Body=b"two")
    with pytest.raises(SourceError) as caught:
        objects.read_range("s3://bucket/c", 0, 3, etag=found.etag)
    assert caught.value.code == Code.CHANGED


def test_list_is_sorted_and_whole(boto: Any) -> None:
    names = [f"l/{i % 7}/{i}" for i in range(1050)]
    for name in names:
        assert objects.put(f"s3://bucket/{name}", b"x" * (len(name) % 3))
    boto.put_object(Bucket="bucket", Key="lx/other", Body=b"")
    found = list(objects.list_objects("s3://bucket/l"))
    assert [item.key for item in found] == sorted(name[2:] for name in names)
    assert {item.key: item.size for item in found} == {name[2:]: len(name) % 3 for name in names}
    assert [item.key for item in objects.list_objects("s3://bucket/l/3/")][:2] == ["10", "1004"]
    assert list(objects.list_objects("s3://bucket/none")) == []


def test_put_create_and_delete(boto: Any) -> None:
    assert objects.put("s3://bucket/p/a", b"1", create=True)
    assert not objects.put("s3://bucket/p/a", b"2", create=True)
    assert objects.put("s3://bucket/p/b", b"3")
    assert keys(boto, prefix="p/") == {"p/a": b"1", "p/b": b"3"}
    objects.delete(["s3://bucket/p/a", "s3://bucket/p/none"])
    assert keys(boto, prefix="p/") == {"p/b": b"3"}


@pytest.mark.parametrize("size", [0, 1, 9 << 20])
@pytest.mark.parametrize("single", [1 << 30, 1 << 20])
def test_files(boto: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int, single: int) -> None:
    monkeypatch.setattr(objects, "SINGLE_PUT_BYTES", single)
    monkeypatch.setattr(objects, "PART_BYTES", 5 << 20)
    (tmp_path / "f").write_bytes(os.urandom(size))
    assert objects.put_file("s3://bucket/f/file", tmp_path / "f") == size
    assert keys(boto, prefix="f/") == {"f/file": (tmp_path / "f").read_bytes()}
    assert not boto.list_multipart_uploads(Bucket="bucket").get("Uploads")


def test_missing_bucket(boto: Any) -> None:
    with pytest.raises(TargetError, match="no such bucket"):
        objects.put("s3://nobucket/x", b"1")
    with pytest.raises(SourceError, match="no such bucket"):
        list(objects.list_objects("s3://nobucket/x"))
    with pytest.raises(SourceError, match="no such bucket"):
        objects.read("s3://nobucket/x", 10)


def test_no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(objects, "RETRY_S", 0)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "k")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "veryprivate")
    objects.forget_stores()
    try:
        monkeypatch.setenv("AWS_ALLOW_HTTP", "false")
        with pytest.raises(SourceError, match="AWS_ALLOW_HTTP"):
            objects.stat("s3://bucket/x")
        monkeypatch.setenv("AWS_ALLOW_HTTP", "true")
        objects.forget_stores()
        with pytest.raises(TargetError, match="no connection to the server") as caught:
            objects.put("s3://bucket/x", b"1")
        assert "veryprivate" not in str(caught.value)
    finally:
        objects.forget_stores()


def test_http(boto: Any) -> None:
    boto.put_object(Bucket="bucket", Key="h/a b", Body=b"hello", ACL="public-read")
    base = os.environ["AWS_ENDPOINT_URL"] + "/bucket/h"
    assert objects.read_range(objects.join(base, "a b"), 1, 3) == b"ell"
    found = objects.stat(objects.join(base, "a b"))
    assert found is not None
    assert found.size == 5
    with pytest.raises(SourceError, match="name each file"):
        list(objects.list_objects(base))


def test_memory() -> None:
    assert objects.put("memory://m/a/b", b"1", create=True)
    assert not objects.put("memory://m/a/b", b"1", create=True)
    assert [item.key for item in objects.list_objects("memory://m/a")] == ["b"]
    assert list(objects.list_objects("memory://other")) == []


def test_a_refused_list_is_access_denied() -> None:
    from obstore.exceptions import GenericError

    error = GenericError(
        "Server returned non-2xx status code: 403 Forbidden: <Code>SignatureDoesNotMatch</Code> SECRET"
    )
    with pytest.raises(SourceError, match=r"access denied .*403 SignatureDoesNotMatch") as caught, objects._reading():
        raise error
    assert caught.value.code == Code.PERMISSION
    assert "SECRET" not in str(caught.value)
