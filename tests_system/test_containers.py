"""Processes that share a folder and do not see each other: two PID namespaces, as of two containers. Needs root."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests import dicomgen
from tests_system.test_faults import ENVIRONMENT, PATIENCE_S, contents

pytestmark = pytest.mark.timeout(1800)
APART = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc")

HOLD = """
import os, sys, time
from fastdcm.run import away
with away._folder() as folder:
    open(os.path.join(folder, "shard"), "wb").close()
    print(os.getpid(), folder, flush=True)
    sys.stdin.read()
"""
PASS_BY = """
import os
from fastdcm.run import away
with away._folder():
    print(os.getpid())
"""


@contextmanager
def apart(*words: object, **more: object) -> Iterator[subprocess.Popen[str]]:
    """Run a command in a PID namespace of its own while the block lasts."""
    process = subprocess.Popen([*APART, *map(str, words)], text=True, stdout=subprocess.PIPE, **more)  # type: ignore[call-overload]
    try:
        yield process
    finally:
        process.kill()  # and with it all of its namespace
        process.wait(timeout=20)
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()


def run_apart(code: str, environment: dict[str, str]) -> int:
    """Run Python code in a PID namespace; return what it takes its number for."""
    command = [*APART, sys.executable, "-c", code]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=PATIENCE_S, check=True)
    return int(done.stdout)


def test_the_temporary_folder_of_a_worker_in_another_container_stays(tmp_path: Path) -> None:
    environment = ENVIRONMENT | {"TMPDIR": str(tmp_path)}
    late = ("sh", "-c", 'for i in $(seq 200); do /bin/true; done; "$@"; true', "sh", sys.executable, "-c", HOLD)
    with apart(*late, env=environment, stdin=subprocess.PIPE) as one:
        number, folder = one.stdout.readline().split()
        assert run_apart(PASS_BY, environment) == 1 < 200 < int(number)  # which nobody has here
        assert (Path(folder) / "shard").exists()
        one.kill()
        one.wait(timeout=20)
        run_apart(PASS_BY, environment)
        assert list(tmp_path.iterdir()) == []


def test_a_store_that_another_container_writes_is_refused(tmp_path: Path) -> None:
    source = tmp_path / "export"
    for k in range(3):
        dicomgen.make_series(source / str(k), series=f"s{k}", n=8, rows=320, columns=256, seed=k)
    words = ["fastdcm", "convert", source, tmp_path / "s.zarr", "--codec", "zstd:9", "--shard", "400000"]
    with apart(sys.executable, "-m", *words, env=ENVIRONMENT) as one:
        until = time.monotonic() + PATIENCE_S
        while not any((tmp_path / "s.zarr.work" / "partial").glob("*/*")):
            assert one.poll() is None
            assert time.monotonic() < until
            time.sleep(0.02)
        os.kill(one.pid, signal.SIGSTOP)
        inner = int((Path("/proc") / str(one.pid) / "task" / str(one.pid) / "children").read_text())
        os.kill(inner, signal.SIGSTOP)
        command = [*APART, sys.executable, "-m", *map(str, words)]
        again = subprocess.run(
            command, env=ENVIRONMENT, capture_output=True, text=True, timeout=PATIENCE_S, check=False
        )
        assert again.returncode == 2
        assert "another conversion works on this store" in again.stderr
        for pid in (inner, one.pid):
            os.kill(pid, signal.SIGCONT)
        assert one.wait(PATIENCE_S) == 0
    local = [sys.executable, "-m", *map(str, [*words[:3], tmp_path / "local.zarr", *words[4:]])]
    subprocess.run(local, env=ENVIRONMENT, check=True, timeout=PATIENCE_S, capture_output=True)
    assert contents(tmp_path / "s.zarr") == contents(tmp_path / "local.zarr")
