"""A Dask scheduler that goes away in the middle of a run and comes back at the same address, or does not."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests import dicomgen
from tests_system.test_faults import ENVIRONMENT, contents

pytestmark = pytest.mark.timeout(1800)
PATIENCE_S = 600.0


@contextmanager
def running(log: Path, *words: object) -> Iterator[subprocess.Popen[bytes]]:
    """Run a Python module while the block lasts."""
    with open(log, "ab") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", *map(str, words)], env=ENVIRONMENT, stdin=subprocess.DEVNULL, stdout=out, stderr=out
        )
    try:
        yield process
    finally:
        process.terminate()  # a nanny takes its worker along
        try:
            process.wait(timeout=30)
        finally:
            process.kill()
            process.wait(timeout=20)


def wait_until(what: Callable[[], bool], *logs: Path) -> None:
    until = time.monotonic() + PATIENCE_S
    while not what():
        assert time.monotonic() < until, "\n".join(log.read_text() for log in logs)
        time.sleep(0.05)


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("restart") / "export"
    for k in range(4):
        dicomgen.make_series(folder / str(k), series=f"s{k}", n=8, rows=320, columns=256, seed=k)
    return folder


SLOW = ("--codec", "zstd:9", "--shard", "400000")
"""Some dozens of tasks of some tenths of a second."""


@contextmanager
def disturbed(source: Path, folder: Path) -> Iterator[tuple[subprocess.Popen[bytes], Callable[[str], object]]]:
    """Give a run on a cluster of two workers whose scheduler has just been killed, and what starts either of these."""
    port = free_port()
    address = f"tcp://127.0.0.1:{port}"
    command = ["distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", port, "--no-dashboard"]
    worker = ["distributed.cli.dask_worker", address, "--nthreads", "1", "--no-dashboard"]
    with ExitStack() as stack:

        def begin(name: str) -> subprocess.Popen[bytes]:
            words = command if name.startswith("scheduler") else [*worker, "--local-directory", folder]
            return stack.enter_context(running(folder / name, *words))

        scheduler = begin("scheduler")
        for name in ("a", "b"):
            begin(name)
        wait_until(lambda: all("Registered to:" in (folder / name).read_text() for name in ("a", "b")), folder / "a")
        words = ["fastdcm", "convert", source, folder / "s.zarr", "--scheduler", address, *SLOW]
        run = stack.enter_context(running(folder / "said", *words))
        done = folder / "s.zarr.work" / "partial"
        wait_until(lambda: len(list(done.rglob("c/*/*/*"))) > 3 or run.poll() is not None, folder / "said")
        assert run.poll() is None, (folder / "said").read_text()
        scheduler.kill()
        scheduler.wait(timeout=20)
        yield run, begin


def test_a_scheduler_that_comes_back_is_given_the_rest(
    source: Path, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """Workers end with their scheduler; who started them starts them anew."""
    with disturbed(source, tmp_path) as (run, begin):
        time.sleep(3)
        assert run.poll() is None
        began = time.monotonic()
        for name in ("scheduler-again", "c", "d"):
            begin(name)
        assert run.wait(PATIENCE_S) == 0, (tmp_path / "said").read_text()
        record_property("seconds from its return to the end", round(time.monotonic() - began, 1))
    said = (tmp_path / "said").read_text()
    assert "the Dask scheduler was lost; " in said
    assert "the Dask scheduler is back" in said
    assert "Traceback" not in said
    local = [sys.executable, "-m", "fastdcm", "convert", source, tmp_path / "local.zarr", *SLOW]
    subprocess.run(local, env=ENVIRONMENT, check=True, timeout=PATIENCE_S, capture_output=True)
    assert contents(tmp_path / "s.zarr") == contents(tmp_path / "local.zarr")
    assert not (tmp_path / "s.zarr.work" / "partial").exists()


def test_ctrl_c_ends_the_waiting(source: Path, tmp_path: Path) -> None:
    with disturbed(source, tmp_path) as (run, _):
        wait_until(lambda: "waiting for it" in (tmp_path / "said").read_text(), tmp_path / "said")
        run.send_signal(signal.SIGINT)
        assert run.wait(45) == 130, (tmp_path / "said").read_text()  # it would wait for a minute
    said = (tmp_path / "said").read_text()
    assert said.splitlines()[-1] == "fastdcm: stopped; what is complete stays, and the same command does the rest"
    assert "Traceback" not in said
