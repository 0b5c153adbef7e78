"""A scheduler that is lost in the middle of a run: it comes back, or it does not."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from fastdcm.errors import TargetError
from fastdcm.model import Resources
from fastdcm.run import execute, futures
from fastdcm.run.execute import map_tasks, start_engine
from fastdcm.run.progress import Progress

ROOT = Path(__file__).resolve().parents[2]


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@contextmanager
def running(*words: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a Python module while the block lasts; what it says goes nowhere."""
    none = subprocess.DEVNULL
    command = [sys.executable, "-m", *words, "--no-dashboard"]
    process = subprocess.Popen(
        command, env=os.environ | {"PYTHONPATH": str(ROOT)}, stdin=none, stdout=none, stderr=none
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait(timeout=20)


Cluster = Callable[[], subprocess.Popen[bytes]]


@pytest.fixture
def cluster() -> Iterator[tuple[str, Cluster]]:
    """Give an address, and what starts a scheduler there and a worker of it."""
    address = f"tcp://127.0.0.1:{free_port()}"
    with ExitStack() as stack:

        def begin() -> subprocess.Popen[bytes]:
            host, port = address.removeprefix("tcp://").split(":")
            scheduler = ["distributed.cli.dask_scheduler", "--host", host, "--port", port]
            worker = ["distributed.cli.dask_worker", address, "--nthreads", "1", "--no-nanny"]
            started = stack.enter_context(running(*scheduler))
            stack.enter_context(running(*worker))
            return started

        yield address, begin


def double(number: int) -> int:
    time.sleep(0.05)
    return 2 * number


def test_a_scheduler_that_comes_back_is_given_what_was_in_flight(cluster: tuple[str, Cluster]) -> None:
    address, begin = cluster
    scheduler = begin()
    notes: list[Progress] = []
    found = []
    with start_engine(Resources(scheduler=address), notes.append) as engine:
        for number, result in map_tasks(double, range(30), engine, window=4):
            found.append((number, result))
            if len(found) == 10:
                scheduler.kill()
                scheduler.wait(timeout=20)
                begin()
    assert sorted(found) == [(number, 2 * number) for number in range(30)]
    assert [one.note for one in notes if one.note] == [
        "the Dask scheduler was lost; waiting for it and its workers",
        "the Dask scheduler is back; 4 tasks are done again",
    ]


@pytest.mark.parametrize("back", [False, True], ids=["it stays away", "its workers stay away"])
def test_a_scheduler_that_does_not_come_back_ends_the_run(
    cluster: tuple[str, Cluster], back: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    address, begin = cluster
    scheduler = begin()
    for module in (execute, futures):
        monkeypatch.setattr(module, "AWAY_S", 60.0 if back else 3.0)
    monkeypatch.setattr(futures, "WORKERS_S", 1.0)
    with ExitStack() as stack:
        engine = stack.enter_context(start_engine(Resources(scheduler=address)))
        results = map_tasks(double, range(30), engine, window=4)
        next(results)
        scheduler.kill()
        scheduler.wait(timeout=20)
        if back:
            host, port = address.removeprefix("tcp://").split(":")
            stack.enter_context(running("distributed.cli.dask_scheduler", "--host", host, "--port", port))
        with pytest.raises(TargetError, match="without workers" if back else "not back within 3 s"):
            list(results)
