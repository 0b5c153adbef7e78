"""Sources at URLs give what the same folder gives."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pyarrow.parquet as pq
import pytest

import fastdcm
from fastdcm.errors import UsageError
from fastdcm.load.volume import Store
from fastdcm.scan.remote import BLOCK_BYTES, REQUESTS
from tests import dicomgen
from tests.archives import files_of, tar_bytes, zip_bytes
from tests.httpserver import http_server
from tests.s3server import s3_server


@pytest.fixture
def export(tmp_path: Path) -> Path:
    """Return a folder with two series, a text, and one more series in archives."""
    folder = tmp_path / "export"
    dicomgen.make_series(folder / "ct scan", n=4, series="ct")
    dicomgen.make_series(folder / "mr", n=3, modality="MR", series="mr")
    (folder / "notes.txt").write_bytes(b"no DICOM")
    dicomgen.make_series(tmp_path / "more", n=3, series="more")
    (folder / "more.zip").write_bytes(zip_bytes(files_of(tmp_path / "more")))
    dicomgen.make_series(tmp_path / "last", n=2, series="last")
    (folder / "mr" / "last.tar.gz").write_bytes(tar_bytes(files_of(tmp_path / "last"), "w:gz"))
    return folder


def volumes_of(store: Path) -> dict[str, bytes]:
    opened = fastdcm.open(store)
    assert isinstance(opened, Store)
    return {volume.path.relative_to(store).as_posix(): volume.numpy().tobytes() for volume in opened.volumes}


def check(source: str, export: Path, tmp_path: Path) -> list[str]:
    """Convert the folder and the URL, compare, verify; return the paths that the URL's store names."""
    fastdcm.convert(export, tmp_path / "local.zarr")
    report = fastdcm.convert(source, tmp_path / "remote.zarr")
    local, remote = (
        pq.read_table(tmp_path / name / "files.parquet").to_pylist() for name in ("local.zarr", "remote.zarr")
    )
    assert [row["outcome"] for row in remote] == [row["outcome"] for row in local]
    assert report.outcomes["converted"] == 12
    assert volumes_of(tmp_path / "remote.zarr") == volumes_of(tmp_path / "local.zarr")
    verified = fastdcm.verify(tmp_path / "remote.zarr", source)
    assert (verified.mismatches, verified.findings.decoded, verified.findings.absent) == ((), 12, 0)
    again = fastdcm.convert(source, tmp_path / "remote.zarr")
    assert again.volumes["written"] == 0
    return [row["path"] for row in remote]


def test_a_bucket_is_a_folder(export: Path, tmp_path: Path) -> None:
    with s3_server() as boto:
        for name, data in files_of(export).items():
            boto.put_object(Bucket="bucket", Key=f"in/{name}", Body=data)
        paths = check("s3://bucket/in", export, tmp_path)
        found = fastdcm.scan("s3://bucket/in/more.zip")
        assert found.table["slices"].to_pylist() == [3]
    assert paths[0].startswith("ct scan/")
    assert any(path.startswith("more.zip!/") for path in paths)


def test_index_pages_are_a_folder(export: Path, tmp_path: Path) -> None:
    with http_server(tmp_path) as (url, _):
        paths = check(f"{url}/export/", export, tmp_path)
        found = fastdcm.scan([f"{url}/export/more.zip", f"{url}/export/mr/last.tar.gz"])
        assert sorted(found.table["slices"].to_pylist()) == [2, 3]
    assert len(paths) == 13


def test_what_cannot_be_reached_is_said(tmp_path: Path) -> None:
    with http_server(tmp_path) as (url, _):
        pass
    with pytest.raises(UsageError, match="no connection"):
        fastdcm.scan(f"{url}/one.dcm", workers=1)


def test_requests_are_few_and_at_once(tmp_path: Path) -> None:
    """One for a header, one for a frame, and as many under way as may be: a long line costs its latency once."""
    folder = tmp_path / "export"
    for number in range(5):
        dicomgen.make_series(folder / str(number), n=20, series=f"s{number}", rows=200, columns=190)
    with http_server(tmp_path, wait_s=0.1) as (url, seen):
        for run in (fastdcm.scan, partial(fastdcm.convert, dest=tmp_path / "remote.zarr")):
            seen.requests.clear()
            seen.most_at_once = 0
            run(f"{url}/export/", workers=1)
            asked = [item for item in seen.requests if item[1].endswith(".dcm")]
            assert len(asked) == (100 if run is fastdcm.scan else 200)
            assert {method for method, _, _ in asked} == {"GET"}
            assert REQUESTS // 4 <= seen.most_at_once <= REQUESTS
    fastdcm.convert(folder, tmp_path / "local.zarr")
    assert volumes_of(tmp_path / "remote.zarr") == volumes_of(tmp_path / "local.zarr")


def test_an_archive_far_away_is_asked_for_each_block_once(tmp_path: Path) -> None:
    for number in range(3):
        dicomgen.make_series(tmp_path / "export" / str(number), n=16, series=f"s{number}", rows=200, columns=190)
    data = zip_bytes(files_of(tmp_path / "export"))
    (tmp_path / "far.zip").write_bytes(data)
    with http_server(tmp_path, wait_s=0.1) as (url, seen):
        fastdcm.scan(f"{url}/far.zip", workers=1)
        asked = [wanted.removeprefix("bytes=").split("-") for _, _, wanted in seen.requests if wanted]
        assert sum(int(end) + 1 - int(start) for start, end in asked) <= len(data) + 4 * BLOCK_BYTES
        assert REQUESTS // 4 <= seen.most_at_once <= REQUESTS
        fastdcm.convert(f"{url}/far.zip", tmp_path / "remote.zarr", workers=1)
    fastdcm.convert(tmp_path / "far.zip", tmp_path / "local.zarr")
    assert volumes_of(tmp_path / "remote.zarr") == volumes_of(tmp_path / "local.zarr")
