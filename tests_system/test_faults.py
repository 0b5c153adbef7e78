"""What goes wrong around a conversion, for real: a full disk, a lost worker, a lost scheduler, Ctrl-C. Needs root."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from pydicom import uid as uids

from tests import dicomgen

pytestmark = pytest.mark.timeout(3600)
"""Each wait has its own limit; on a machine with other work seconds become minutes."""

ROOT = Path(__file__).resolve().parents[1]
ENVIRONMENT = os.environ | {"PYTHONPATH": str(ROOT)}


PATIENCE_S = 900.0
"""A conversion takes seconds, and on two cores that ten jobs share four minutes."""


def fastdcm(*words: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "fastdcm", *map(str, words), "--codec", "zstd:9"]  # slow, so that there is time
    return subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(process: subprocess.Popen[str]) -> tuple[int, str]:
    try:
        _, errors = process.communicate(timeout=PATIENCE_S)
    finally:
        process.kill()  # one that hangs would keep the disk of its test mounted
        process.wait()
    assert "fastdcm/cli/" not in errors  # no traceback of ours
    return process.returncode, errors


def contents(store: Path) -> dict[str, str]:
    """Return a hash of every file that must not depend on how a run was made."""
    files = [path for path in store.rglob("*") if path.is_file() and path.name != "report.json"]
    return {str(path.relative_to(store)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Slow to convert: half of the series are JPEG 2000, and all are coded with effort."""
    folder = tmp_path_factory.mktemp("faults") / "export"
    for k in range(8):
        syntax = uids.JPEG2000Lossless if k % 2 else uids.ExplicitVRLittleEndian
        dicomgen.make_series(
            folder / str(k), series=f"s{k}", n=10, rows=320, columns=300, seed=k, transfer_syntax=syntax
        )
    return folder


@pytest.fixture(scope="module")
def expected(source: Path) -> dict[str, str]:
    dest = source.parent / "expected.zarr"
    assert finish(fastdcm("convert", source, dest))[0] == 0
    return contents(dest)


@contextmanager
def small_disk(place: Path, size: str) -> Iterator[None]:
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", place], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", place], check=True)


@pytest.mark.parametrize("share", [0.02, 0.5, 0.99])
def test_a_full_disk_exits_3_and_a_rerun_finishes(
    source: Path, expected: dict[str, str], tmp_path: Path, share: float
) -> None:
    whole = sum(path.stat().st_size for path in (source.parent / "expected.zarr").rglob("*") if path.is_file())
    disk = tmp_path / "disk"
    with small_disk(disk, f"{int(whole * share) // 4096 * 4096}"):
        code, errors = finish(fastdcm("convert", source, disk / "s.zarr"))
        assert code == 3
        assert "No space left on device" in errors
        subprocess.run(["mount", "-o", f"remount,size={whole * 4}", disk], check=True)
        assert finish(fastdcm("convert", source, disk / "s.zarr"))[0] == 0
        assert contents(disk / "s.zarr") == expected


def wait_until_writing(work: Path, process: subprocess.Popen[str]) -> None:
    until = time.monotonic() + PATIENCE_S
    while not any((work / "partial").glob("*/*")):
        assert process.poll() is None
        assert time.monotonic() < until
        time.sleep(0.05)


def workers_of(process: subprocess.Popen[str]) -> list[int]:
    listing = subprocess.run(["ps", "-ww", "-eo", "pid,ppid,args"], capture_output=True, text=True, check=True).stdout
    rows = [line.split(None, 2) for line in listing.splitlines()[1:]]
    return [int(pid) for pid, parent, words in rows if int(parent) == process.pid and "spawn_main" in words]


def test_a_killed_worker_is_replaced(source: Path, expected: dict[str, str], tmp_path: Path) -> None:
    run = fastdcm("convert", source, tmp_path / "s.zarr", "--scheduler", "processes", "--workers", 2)
    wait_until_writing(tmp_path / "s.zarr.work", run)
    os.kill(workers_of(run)[-1], signal.SIGKILL)
    assert finish(run)[0] == 0
    assert contents(tmp_path / "s.zarr") == expected


@pytest.mark.parametrize("scheduler", ["local", "processes"])
def test_ctrl_c_exits_130_and_a_rerun_finishes(
    source: Path, expected: dict[str, str], tmp_path: Path, scheduler: str
) -> None:
    run = fastdcm("convert", source, tmp_path / "s.zarr", "--scheduler", scheduler, "--workers", 2)
    wait_until_writing(tmp_path / "s.zarr.work", run)
    run.send_signal(signal.SIGINT)
    assert finish(run)[0] == 130
    assert finish(fastdcm("convert", source, tmp_path / "s.zarr"))[0] == 0
    assert contents(tmp_path / "s.zarr") == expected


@contextmanager
def cluster() -> Iterator[tuple[str, list[subprocess.Popen[bytes]]]]:
    """Give the address of a real scheduler, and its process and those of its two workers."""
    quiet = {"env": ENVIRONMENT, "stdout": subprocess.DEVNULL}
    command = [sys.executable, "-m", "distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", "0"]
    scheduler = subprocess.Popen([*command, "--no-dashboard"], stderr=subprocess.PIPE, **quiet)  # type: ignore[call-overload]
    address = next(line.decode().rpartition(" ")[2].strip() for line in scheduler.stderr if b"Scheduler at:" in line)
    worker = [sys.executable, "-m", "distributed.cli.dask_worker", address, "--nthreads", "1", "--no-dashboard"]
    workers = [
        subprocess.Popen([*worker, "--no-nanny"], stderr=subprocess.DEVNULL, **quiet)  # type: ignore[call-overload]
        for _ in range(2)
    ]
    try:
        yield address, [scheduler, *workers]
    finally:
        for process in (*workers, scheduler):
            process.kill()
            process.wait(timeout=20)
        scheduler.stderr.close()


def test_a_lost_worker_of_a_running_cluster(source: Path, expected: dict[str, str], tmp_path: Path) -> None:
    with cluster() as (address, processes):
        run = fastdcm("convert", source, tmp_path / "s.zarr", "--scheduler", address)
        wait_until_writing(tmp_path / "s.zarr.work", run)
        processes[1].kill()
        assert finish(run)[0] == 0
    assert contents(tmp_path / "s.zarr") == expected


def test_a_lost_scheduler_exits_3_and_a_rerun_finishes(source: Path, expected: dict[str, str], tmp_path: Path) -> None:
    with cluster() as (address, processes):
        run = fastdcm("convert", source, tmp_path / "s.zarr", "--scheduler", address)
        wait_until_writing(tmp_path / "s.zarr.work", run)
        processes[0].kill()
        code, errors = finish(run)
    assert code == 3
    assert "scheduler was lost" in errors
    assert "Traceback" not in errors  # Dask would log one of its own
    assert finish(fastdcm("convert", source, tmp_path / "s.zarr"))[0] == 0
    assert contents(tmp_path / "s.zarr") == expected
