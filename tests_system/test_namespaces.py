"""A cluster of two network namespaces whose link goes down in the middle of a conversion. Needs root."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests import dicomgen
from tests_system.test_faults import ENVIRONMENT, contents

pytestmark = pytest.mark.timeout(900)
A, B = f"fastdcm-a-{os.getpid()}", f"fastdcm-b-{os.getpid()}"
HERE, THERE, PORT = "10.77.31.1", "10.77.31.2", 18787
PATIENCE_S = 600.0
DASK = {"COMM__TIMEOUTS__TCP": "12s", "COMM__TIMEOUTS__CONNECT": "5s", "SCHEDULER__WORKER_TTL": "8s"}
"""Seconds until a silent worker counts as lost; the defaults are minutes."""


def ip(*words: object) -> None:
    subprocess.run(["ip", *map(str, words)], check=True, timeout=20, stdin=subprocess.DEVNULL)


@contextmanager
def linked_namespaces() -> Iterator[None]:
    """Two namespaces with a cable between them, an address at each end."""
    for name in (A, B):
        ip("netns", "add", name)
    try:
        ip("link", "add", "cable", "netns", A, "type", "veth", "peer", "name", "cable", "netns", B)
        for name, address in ((A, HERE), (B, THERE)):
            ip("-n", name, "addr", "add", f"{address}/24", "dev", "cable")
            for device in ("lo", "cable"):
                ip("-n", name, "link", "set", device, "up")
        yield
    finally:
        for name in (A, B):
            ip("netns", "del", name)


@contextmanager
def running(namespace: str, log: Path, *words: object) -> Iterator[subprocess.Popen[bytes]]:
    """Run a Python module in a namespace while the block lasts."""
    settings = {f"DASK_DISTRIBUTED__{name}": value for name, value in DASK.items()}
    command = ["ip", "netns", "exec", namespace, sys.executable, "-m", *map(str, words)]
    with open(log, "wb") as out:
        process = subprocess.Popen(
            command, env=ENVIRONMENT | settings, stdin=subprocess.DEVNULL, stdout=out, stderr=out
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait(timeout=20)


def wait_for(log: Path, text: str, process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + PATIENCE_S
    while text not in log.read_text():
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < until, log.read_text()
        time.sleep(0.1)


@contextmanager
def cluster(logs: Path) -> Iterator[str]:
    """Run a scheduler and worker a in one namespace, worker b in the other; give the address."""
    address = f"tcp://{HERE}:{PORT}"
    scheduler = ["distributed.cli.dask_scheduler", "--host", HERE, "--port", PORT, "--no-dashboard"]
    worker = ["distributed.cli.dask_worker", address, "--nthreads", "1", "--no-nanny", "--no-dashboard", "--host"]
    with ExitStack() as stack:
        stack.enter_context(linked_namespaces())
        started = stack.enter_context(running(A, logs / "scheduler", *scheduler))
        wait_for(logs / "scheduler", "Scheduler at:", started)
        workers = {
            logs / "a": stack.enter_context(running(A, logs / "a", *worker, HERE)),
            logs / "b": stack.enter_context(running(B, logs / "b", *worker, THERE)),
        }
        for log, process in workers.items():
            wait_for(log, "Registered to:", process)
        yield address


def test_the_link_to_a_worker_goes_down(tmp_path: Path, record_property: Callable[[str, object], None]) -> None:
    source, store = tmp_path / "export", tmp_path / "s.zarr"
    for k in range(8):
        dicomgen.make_series(source / str(k), series=f"s{k}", n=8, rows=320, columns=256, seed=k)
    words = ["fastdcm", "convert", source, "--codec", "zstd:9", "--shard", "400000"]
    with cluster(tmp_path) as address, running(A, tmp_path / "said", *words, store, "--scheduler", address) as run:
        until = time.monotonic() + PATIENCE_S
        while len(list((tmp_path / "s.zarr.work" / "partial").glob("*/*"))) < 3:
            assert run.poll() is None, (tmp_path / "said").read_text()
            assert time.monotonic() < until
            time.sleep(0.02)
        ip("-n", B, "link", "set", "cable", "down")
        began = time.monotonic()
        assert run.poll() is None
        assert run.wait(PATIENCE_S) == 0, (tmp_path / "said").read_text()
        record_property("seconds without the link", round(time.monotonic() - began, 1))
        log = (tmp_path / "scheduler").read_text()
    assert f"tcp://{THERE}" in "".join(line for line in log.splitlines() if "Remove worker" in line or "ttl" in line)
    local = [sys.executable, "-m", *map(str, words), str(tmp_path / "local.zarr")]
    subprocess.run(local, env=ENVIRONMENT, check=True, timeout=PATIENCE_S, capture_output=True)
    assert contents(store) == contents(tmp_path / "local.zarr")
