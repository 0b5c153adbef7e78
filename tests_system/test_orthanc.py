"""What a real PACS exports: Orthanc's study archive (zip) and DICOMDIR medium. Needs root, orthanc, iproute2, curl."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from pydicom import uid as uids

import fastdcm
from fastdcm.load.volume import Store
from tests import dicomgen

URL = "http://127.0.0.1:18042"
PATIENCE_S = 120.0


def curl(namespace: str, *words: str) -> bytes:
    command = ["ip", "netns", "exec", namespace, "curl", "-sSf", "-m", "100", *words]
    return subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, check=True, timeout=120).stdout


@contextmanager
def orthanc(folder: Path) -> Iterator[str]:
    """Run Orthanc in a network of its own (1.10 listens on all addresses, whatever it is told)."""
    namespace = f"fastdcm{os.getpid()}"
    settings = {
        "Name": "test",
        "StorageDirectory": str(folder / "db"),
        "IndexDirectory": str(folder / "db"),
        "HttpPort": 18042,
        "DicomServerEnabled": False,
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
    }
    folder.mkdir()
    (folder / "orthanc.json").write_text(json.dumps(settings), encoding="ascii")
    subprocess.run(["ip", "netns", "add", namespace], check=True, timeout=30)
    try:
        subprocess.run(["ip", "-n", namespace, "link", "set", "lo", "up"], check=True, timeout=30)
        with (folder / "log").open("wb") as log:
            command = ["ip", "netns", "exec", namespace, "Orthanc", str(folder / "orthanc.json")]
            server = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            started = time.monotonic()
            while True:
                try:
                    curl(namespace, f"{URL}/system")
                    break
                except subprocess.CalledProcessError:
                    assert server.poll() is None, (folder / "log").read_text()
                    assert time.monotonic() - started < PATIENCE_S
                    time.sleep(0.2)
            yield namespace
        finally:
            server.send_signal(signal.SIGTERM)
            try:
                server.wait(30)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()
    finally:
        subprocess.run(["ip", "netns", "del", namespace], check=True, timeout=30)


def volumes_of(store: Path) -> dict[str, bytes]:
    opened = fastdcm.open(store)
    assert isinstance(opened, Store)
    return {volume.path.relative_to(store).as_posix(): volume.numpy().tobytes() for volume in opened.volumes}


@pytest.fixture(scope="module")
def exports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return a folder, and what Orthanc makes of it: its archive and its medium of the study."""
    base = tmp_path_factory.mktemp("orthanc")
    source = base / "in"
    dicomgen.make_series(source / "ct", n=5, series="ct")
    dicomgen.make_series(source / "jpeg", n=4, series="jpeg", transfer_syntax=uids.JPEGLSLossless)
    dicomgen.make_series(source / "mr", n=3, modality="MR", series="mr")
    with orthanc(base / "server") as namespace:
        for path in sorted(source.rglob("*")):
            if path.is_file():
                curl(namespace, "--data-binary", f"@{path}", f"{URL}/instances")
        studies = json.loads(curl(namespace, f"{URL}/studies"))
        for kind in ("archive", "media"):
            (base / kind).mkdir()
            for number, study in enumerate(studies):
                target = base / kind / f"{number}.zip"
                curl(namespace, "-o", str(target), f"{URL}/studies/{study}/{kind}")
    fastdcm.convert(source, base / "folder.zarr")
    return {"folder": base / "folder.zarr", "archive": base / "archive", "media": base / "media"}


@pytest.mark.parametrize("kind", ["archive", "media"])
def test_an_export_of_orthanc_gives_what_the_folder_gives(exports: dict[str, Path], tmp_path: Path, kind: str) -> None:
    report = fastdcm.convert(exports[kind], tmp_path / "out.zarr")
    assert report.exit_code == 0
    assert report.outcomes["converted"] == 12
    assert volumes_of(tmp_path / "out.zarr") == volumes_of(exports["folder"])
    rows = pq.read_table(tmp_path / "out.zarr" / "files.parquet").to_pylist()
    assert all(".zip!/" in row["path"] for row in rows)
    directories = [row for row in rows if row["code"] == "dicomdir"]
    assert len(directories) == (len(list(exports[kind].iterdir())) if kind == "media" else 0)
    assert len(rows) == 12 + len(directories)
    verified = fastdcm.verify(tmp_path / "out.zarr", exports[kind])
    assert (verified.mismatches, verified.findings.decoded) == ((), 12)
