"""Worker processes of this machine: their memory is bounded, they have one thread, and their dashboard is told."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import dask
import distributed  # noqa: F401 - before dask.config.set: its own settings would go with those that are set here
import numpy as np
import pytest

from fastdcm.model import Resources
from fastdcm.run.execute import SMALLEST_WORKER_BYTES, Engine, map_tasks, start_engine
from fastdcm.run.futures import WorkerLost
from fastdcm.run.isolate import Mark, call
from fastdcm.run.progress import Progress
from tests import dicomgen

ROOT = Path(__file__).resolve().parents[2]
HUNGRY = 3

Started = tuple[Engine, list[Progress]]


@pytest.fixture(scope="module")
def started() -> Iterator[Started]:
    """Two workers that have the least memory; a task may lose two of them, as a run may lose four."""
    told: list[Progress] = []
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 1}),
        start_engine(Resources(workers=2, scheduler="processes", memory_bytes=1), told.append) as engine,
    ):
        yield engine, told


def eat(number: int) -> int:
    if number == HUNGRY:
        block = bytearray(SMALLEST_WORKER_BYTES)
        block[::4096] = bytes([1]) * len(block[::4096])
        time.sleep(30.0)
    return number


def test_a_task_over_the_memory_of_a_worker_is_an_error_and_the_others_are_done(started: Started) -> None:
    found = dict(map_tasks(eat, range(8), started[0]))
    lost = found.pop(HUNGRY)
    assert found == {number: number for number in range(8) if number != HUNGRY}
    assert isinstance(lost, WorkerLost)
    assert "2 worker processes ended" in str(lost)
    assert "--memory" in str(lost)


def test_the_dashboard_is_told_and_listens_on_loopback_alone(started: Started) -> None:
    (link,) = {progress.dashboard for progress in started[1] if progress.dashboard}
    place = urlsplit(link)
    assert place.hostname == "127.0.0.1"
    assert place.port is not None
    socket.create_connection(("127.0.0.1", place.port), timeout=5).close()


def test_the_command_prints_the_dashboard(tmp_path: Path) -> None:
    dicomgen.make_series(tmp_path / "in")
    command = [sys.executable, "-m", "fastdcm", "convert", str(tmp_path / "in"), str(tmp_path / "out.zarr")]
    done = subprocess.run(
        [*command, "--scheduler", "processes", "--workers", "1"],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
        timeout=100,
    )
    assert "dashboard: http://127.0.0.1:" in done.stdout


def test_decoders_and_blosc_have_one_thread_in_a_worker(started: Started) -> None:
    ((_, counts),) = map_tasks(code_in_a_child, [0], started[0])
    assert not isinstance(counts, Exception)
    most, before, numpy_threads = counts
    assert most == before
    assert numpy_threads == "1"


def code_in_a_child(_: int) -> tuple[int, int, str]:
    """Return the most threads that there were while a child of this worker coded, those before, those of OpenBLAS."""
    return call(_code, 0, 60.0)


def _code(_: int, mark: Mark) -> tuple[int, int, str]:
    import imagecodecs

    from fastdcm.model import PixelFormat
    from fastdcm.pixels.decode import decode_frame
    from fastdcm.series.layout import parse_codec
    from fastdcm.store.shard import _encoder

    image = np.random.default_rng(1).integers(0, 4096, (512, 600), np.uint16)
    coded = {
        "1.2.840.10008.1.2.4.80": imagecodecs.jpegls_encode(image),
        "1.2.840.10008.1.2.4.90": imagecodecs.jpeg2k_encode(image, reversible=True, codecformat="j2k"),
        "1.2.840.10008.1.2.4.110": imagecodecs.jpegxl_encode(image, lossless=True, effort=1),
    }
    counts: list[int] = []
    stop = threading.Event()

    def count() -> None:
        while not stop.wait(0.001):
            counts.append(len(os.listdir("/proc/self/task")))

    counter = threading.Thread(target=count)
    counter.start()
    before = len(os.listdir("/proc/self/task"))
    for syntax, data in coded.items():
        pixels = PixelFormat(syntax, 512, 600, 1, 0, "MONOCHROME2", 16, 12, 11, False, 1, "PixelData")
        assert np.array_equal(decode_frame(data, pixels), image)
    _encoder(parse_codec("zstd:9", 2, 1 << 16)[-1])(image)
    stop.set()
    counter.join()
    return max(counts), before, os.environ["OPENBLAS_NUM_THREADS"]
