"""A store in a bucket of Ceph's S3 gateway, which answers 412 also to an If-Match that holds."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

import fastdcm
from fastdcm.objects import forget_stores
from tests import dicomgen
from tests.s3server import KEY, SECRET, client, environment
from tests_system.ceph import running_ceph
from tests_system.servers import answers, free_port
from tests_system.test_buckets import listed, start, stored

pytestmark = pytest.mark.timeout(1200)


def test_convert_kill_rerun_and_add(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, port = tmp_path / "export", free_port()
    for k in range(3):
        dicomgen.make_series(source / str(k), series=f"s{k}", n=12, rows=256, columns=192, seed=k)
    for name, value in environment(f"http://127.0.0.1:{port}").items():
        monkeypatch.setenv(name, value)
    forget_stores()
    disk = tmp_path / "disk.zarr"
    assert start(source, disk, tmp_path).wait(300) == 0
    files = [path for path in disk.rglob("*") if path.is_file() and path.name != "report.json"]
    expected = {path.relative_to(disk).as_posix(): path.read_bytes() for path in files}
    with running_ceph(tmp_path / "ceph", port, KEY, SECRET):
        until = time.monotonic() + 60
        while not answers(port):
            assert time.monotonic() < until
            time.sleep(0.2)
        boto = client()
        boto.create_bucket(Bucket="bucket")
        tag = boto.put_object(Bucket="bucket", Key="k", Body=b"1")["ETag"]
        with pytest.raises(ClientError, match="PreconditionFailed"):  # the quirk: this one holds
            boto.put_object(Bucket="bucket", Key="k", Body=b"2", IfMatch=tag)
        run = start(source, "s3://bucket/out.zarr", tmp_path)
        while len(listed(boto, "out.zarr/")) < 10:
            assert run.poll() is None, (tmp_path / "convert.log").read_text()
        run.kill()
        run.wait()
        assert start(source, "s3://bucket/out.zarr", tmp_path).wait(300) == 0
        assert stored(boto, "out.zarr") == expected
        written = listed(boto, "out.zarr/")
        assert start(source, "s3://bucket/out.zarr", tmp_path).wait(300) == 0
        again = {key for key, _ in listed(boto, "out.zarr/") ^ written}
        assert all(key.endswith("report.json") for key in again)
        assert stored(boto, "out.zarr") == expected
        store = fastdcm.open("s3://bucket/out.zarr")
        assert isinstance(store, fastdcm.Store)
        assert [volume.numpy().shape for volume in store.volumes] == [(12, 256, 192)] * 3
    forget_stores()
