"""A store and a source in a container of Azurite, Azure's own emulator, with Azure's own library as the witness.

Needs npm and the PyPI package azure-storage-blob; no root.
"""

from __future__ import annotations

import random
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import fastdcm
from fastdcm import objects
from fastdcm.errors import UsageError
from fastdcm.objects import forget_stores
from fastdcm.run.lease import probe
from tests import dicomgen
from tests_system.servers import free_port, server
from tests_system.test_buckets import killed, start

pytestmark = pytest.mark.timeout(1200)
ACCOUNT = "devstoreaccount1"
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
"""Of every Azurite, as its documentation says."""


@pytest.fixture(scope="module")
def azurite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("npm")
    install = ["npm", "install", "--silent", "--prefix", folder, "azurite@3.37.0"]
    subprocess.run(list(map(str, install)), check=True, timeout=300, stdin=subprocess.DEVNULL)
    return folder / "node_modules" / ".bin" / "azurite-blob"


@pytest.fixture
def container(azurite: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Serve an empty container ``box``."""
    from azure.storage.blob import BlobServiceClient

    port = free_port()
    url = f"http://127.0.0.1:{port}"
    monkeypatch.setenv("AZURE_STORAGE_USE_EMULATOR", "true")
    monkeypatch.setenv("AZURITE_BLOB_STORAGE_URL", url)
    forget_stores()
    flags = [
        "--blobHost",
        "127.0.0.1",
        "--blobPort",
        port,
        "-l",
        tmp_path / "data",
        "--silent",
        "--skipApiVersionCheck",
    ]
    with server(tmp_path / "azurite", port, "node", azurite, *flags):
        settings = f"AccountName={ACCOUNT};AccountKey={KEY};BlobEndpoint={url}/{ACCOUNT}"
        service = BlobServiceClient.from_connection_string(f"DefaultEndpointsProtocol=http;{settings}")
        yield service.create_container("box")
        service.close()
    forget_stores()


def stored(container: Any, name: str) -> dict[str, bytes]:
    names = [blob.name for blob in container.list_blobs(name_starts_with=f"{name}/")]
    found = {key.removeprefix(f"{name}/"): container.download_blob(key).readall() for key in names}
    return {key: data for key, data in found.items() if key != "report.json"}


def listed(container: Any, name: str) -> set[tuple[str, str]]:
    return {(blob.name, str(blob.etag)) for blob in container.list_blobs(name_starts_with=f"{name}/")}


def test_convert_kill_and_rerun(container: Any, tmp_path: Path) -> None:
    source, disk = tmp_path / "export", tmp_path / "disk.zarr"
    for k in range(3):
        dicomgen.make_series(source / str(k), series=f"s{k}", n=12, rows=256, columns=192, seed=k)
    assert start(source, disk, tmp_path).wait(300) == 0
    files = [path for path in disk.rglob("*") if path.is_file() and path.name != "report.json"]
    expected = {path.relative_to(disk).as_posix(): path.read_bytes() for path in files}
    for changes in (2, 12):
        assert killed(start(source, "az://box/out.zarr", tmp_path), partial(listed, container, "out.zarr"), changes)
        found = stored(container, "out.zarr")
        for volume in (key.removesuffix("zarr.json") for key in found if key.endswith(".ome.zarr/zarr.json")):
            of_both = [{k: v for k, v in files.items() if k.startswith(volume)} for files in (found, expected)]
            assert of_both[0] == of_both[1]
    assert start(source, "az://box/out.zarr", tmp_path).wait(300) == 0, (tmp_path / "convert.log").read_text()
    assert stored(container, "out.zarr") == expected
    store = fastdcm.open("az://box/out.zarr")
    assert isinstance(store, fastdcm.Store)
    assert [volume.numpy().shape for volume in store.volumes] == [(12, 256, 192)] * 3
    leases = [blob.name for blob in container.list_blobs(name_starts_with="out.zarr.work/")]
    assert [name.rpartition("/")[2][:6] for name in leases] == ["lease-"]


def test_a_source(container: Any, tmp_path: Path) -> None:
    for k in range(2):
        dicomgen.make_series(tmp_path / "export" / f"a {k}", series=f"s{k}", n=20, rows=200, columns=192, seed=k)
    for path in (tmp_path / "export").rglob("*.dcm"):
        container.upload_blob(f"in/{path.relative_to(tmp_path / 'export').as_posix()}", path.read_bytes())
    fastdcm.convert("az://box/in", tmp_path / "remote.zarr")
    fastdcm.convert(tmp_path / "export", tmp_path / "local.zarr")
    here, there = (
        {
            path.relative_to(tmp_path / name).as_posix(): path.read_bytes()
            for path in (tmp_path / name).rglob("0/image/c/**/*")
            if path.is_file()
        }
        for name in ("local.zarr", "remote.zarr")
    )
    assert here
    assert here == there
    assert fastdcm.verify(tmp_path / "remote.zarr", "az://box/in").mismatches == ()


def test_creates_are_exclusive_and_parts_make_a_whole(
    container: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    probe("az://box/x.work", "me", exclusive=True)
    assert not stored(container, "x.work")
    data = random.Random(0).randbytes(20_000_000)
    (tmp_path / "file").write_bytes(data)
    monkeypatch.setattr(objects, "SINGLE_PUT_BYTES", 1 << 20)
    monkeypatch.setattr(objects, "PART_BYTES", 6 << 20)
    objects.put_file("az://box/parts", tmp_path / "file")
    assert container.download_blob("parts").readall() == data
    with pytest.raises(UsageError, match="no user and no password"):
        objects.stat("az://key@box/parts")


def test_no_such_container(container: Any, tmp_path: Path) -> None:
    dicomgen.make_series(tmp_path / "export", n=2)
    assert start(tmp_path / "export", "az://other/out.zarr", tmp_path).wait(300) == 3
    assert "no such container" in (tmp_path / "convert.log").read_text()
