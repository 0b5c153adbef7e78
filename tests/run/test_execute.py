from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fastdcm.errors import UsageError
from fastdcm.model import Resources
from fastdcm.run import machine
from fastdcm.run.execute import Engine, fit_memory, map_tasks, start_engine
from fastdcm.run.machine import memory_limit, worker_count

ROOT = Path(__file__).resolve().parents[2]


def square_or_fail(number: int) -> int:
    if number % 7 == 3:
        raise ValueError(f"task {number}")
    return number * number


def threads_of(resources: Resources) -> list[tuple[int, int | str]]:
    with start_engine(resources) as engine:
        found = list(map_tasks(square_or_fail, range(60), engine))
    return sorted((task, str(result) if isinstance(result, Exception) else result) for task, result in found)


EXPECTED = [(n, f"task {n}" if n % 7 == 3 else n * n) for n in range(60)]


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_local_gives_every_task_once_with_its_result_or_exception(workers: int) -> None:
    assert threads_of(Resources(workers=workers)) == EXPECTED


DEAF_WORKERS = """
import signal
from fastdcm.model import Resources
from fastdcm.run.execute import start_engine

def ignored():
    return signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, ())

if __name__ == "__main__":
    with start_engine(Resources(scheduler="processes", workers=2)) as engine:
        print(sorted(engine.client.run(ignored).values()), ignored())
"""


def test_workers_of_this_machine_leave_ctrl_c_to_the_driver(tmp_path: Path) -> None:
    """In a process of its own: what a process has started before says which signals its threads let through."""
    script = tmp_path / "deaf_workers.py"
    script.write_text(DEAF_WORKERS)
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    ended = subprocess.run([sys.executable, script], env=environment, capture_output=True, text=True, timeout=300)
    assert ended.stdout == "[True, True] False\n", ended.stderr


@pytest.fixture(scope="module")
def scheduler() -> Iterator[str]:
    """A real scheduler with two workers over TCP."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", "0"]
    out = subprocess.DEVNULL
    scheduler = subprocess.Popen([*command, "--no-dashboard"], env=environment, stdout=out, stderr=subprocess.PIPE)
    assert scheduler.stderr is not None
    address = next(line.decode().rpartition(" ")[2].strip() for line in scheduler.stderr if b"Scheduler at:" in line)
    worker = [sys.executable, "-m", "distributed.cli.dask_worker", address, "--nthreads", "1", "--no-dashboard"]
    workers = [subprocess.Popen([*worker, "--no-nanny"], env=environment, stdout=out, stderr=out) for _ in range(2)]
    try:
        yield address
    finally:
        for process in (*workers, scheduler):
            process.kill()  # a worker whose scheduler goes first may wait for it longer than a test may
        for process in (*workers, scheduler):
            process.wait(timeout=20)
        scheduler.stderr.close()


def test_a_running_scheduler_gives_the_same(scheduler: str) -> None:
    assert threads_of(Resources(scheduler=scheduler)) == EXPECTED


def test_tasks_are_taken_as_room_appears() -> None:
    taken = 0
    before = set(threading.enumerate())

    def endless() -> Iterator[int]:
        nonlocal taken
        while True:
            taken += 1
            yield taken

    with start_engine(Resources(workers=2)) as engine:
        results: Any = map_tasks(square_or_fail, endless(), engine, window=8)
        for _ in range(20):
            next(results)
        assert taken <= 20 + 8 + 2
        results.close()
    assert not [thread for thread in set(threading.enumerate()) - before if "ThreadPool" in thread.name]


def test_a_slow_task_does_not_stop_the_others() -> None:
    """No barrier between windows: 2 workers, one sleeps through what the other does in the meantime."""
    order = []
    with start_engine(Resources(workers=2)) as engine:
        for task, _ in map_tasks(time.sleep, [0.5] + [0.01] * 20, engine, window=16):
            order.append(task)
    assert order.index(0.5) >= 12


def test_what_is_not_started_is_not_run_after_an_interrupt() -> None:
    ran = []

    def work(number: int) -> None:
        ran.append(number)
        time.sleep(0.02)

    with start_engine(Resources(workers=2)) as engine:
        results: Any = map_tasks(work, range(1000), engine)
        next(results)
        with pytest.raises(KeyboardInterrupt):
            results.throw(KeyboardInterrupt)
    assert len(ran) < 20


def test_unknown_schedulers_are_wrong_usage() -> None:
    with pytest.raises(UsageError, match="local, processes, tcp"), start_engine(Resources(scheduler="slurm")):
        pass


def test_workers_are_lowered_until_three_shards_fit() -> None:
    engine = Engine("local", 8, 1000 * 2**20)
    assert fit_memory(engine, 10 * 2**20) == (engine, None)
    lowered, note = fit_memory(engine, 100 * 2**20)
    assert lowered.workers == 3
    assert note is not None
    assert "3 instead of 8" in note
    assert fit_memory(engine, 2**40)[0].workers == 1


def test_workers_follow_affinity_and_quota(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert worker_count(Resources(workers=5)) == 5
    assert 1 <= worker_count(Resources()) <= len(os.sched_getaffinity(0))
    (tmp_path / "cpu.max").write_text("150000 100000\n")
    (tmp_path / "memory.max").write_text(f"{2**30}\n")
    monkeypatch.setattr(machine, "_cgroup_files", lambda unified, legacy: [tmp_path / unified])
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(16)))
    assert worker_count(Resources()) == 1
    assert memory_limit(Resources()) == int(0.6 * 2**30)
    (tmp_path / "cpu.max").write_text("max 100000\n")
    assert worker_count(Resources()) == 16
