"""Children that do what may end a process: real crashes, real hangs, real kills."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from fastdcm.errors import Code
from fastdcm.run import isolate
from fastdcm.run.isolate import Lost, Mark, Stopped, call, end_children

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def no_children() -> Iterator[None]:
    yield
    end_children(busy=True)


def doubled(number: int, mark: Mark) -> tuple[int, int]:
    if number < 0:
        raise ValueError(f"{number} is negative")
    return 2 * number, os.getpid()


def crash(cell: int, mark: Mark) -> None:
    mark(3, cell)
    ctypes.string_at(0)


def abort(cell: int, mark: Mark) -> None:
    os.abort()


def hang(cell: int, mark: Mark) -> None:
    """Stand still as C code does that holds the interpreter: no signal handler, no other thread."""
    mark(0, cell)
    ctypes.PyDLL(None).pause()


def slow_steps(count: int, mark: Mark) -> int:
    for step in range(count):
        mark(0, step)
        time.sleep(0.4)
    mark(-1, -1)
    time.sleep(2.0)
    return count


def test_a_child_is_another_process_and_is_used_again() -> None:
    first, second = call(doubled, 4, 5.0), call(doubled, 5, 5.0)
    assert (first[0], second[0]) == (8, 10)
    assert first[1] == second[1] != os.getpid()


def test_what_the_work_raises_is_raised_here_and_costs_no_child() -> None:
    _, before = call(doubled, 1, 5.0)
    with pytest.raises(ValueError, match="-1 is negative"):
        call(doubled, -1, 5.0)
    assert call(doubled, 1, 5.0)[1] == before


def test_a_crash_says_where_and_by_what() -> None:
    with pytest.raises(Lost, match="SIGSEGV") as caught:
        call(crash, 17, 5.0)
    assert (caught.value.code, caught.value.place) == (Code.DECODER_CRASH, (3, 17))
    with pytest.raises(Lost, match="SIGABRT") as caught:
        call(abort, 17, 5.0)
    assert caught.value.place is None
    assert call(doubled, 1, 5.0)[0] == 2


def test_a_hang_ends_at_its_limit() -> None:
    started = time.monotonic()
    with pytest.raises(Lost, match=r"more than 0\.6 s") as caught:
        call(hang, 5, 0.6)
    assert (caught.value.code, caught.value.place) == (Code.DECODER_TIMEOUT, (0, 5))
    assert time.monotonic() - started < 10


def test_the_limit_is_of_one_step_and_not_of_what_is_no_step() -> None:
    assert call(slow_steps, 6, 1.5) == 6


def test_threads_have_children_of_their_own() -> None:
    with ThreadPoolExecutor(3) as pool:
        assert list(pool.map(lambda n: call(slow_steps, n, 60.0), [1, 1, 1])) == [1, 1, 1]
    assert len(isolate._IDLE) == 3


def test_stopping_ends_a_child_at_work() -> None:
    threading.Timer(1.0, end_children, kwargs={"busy": True}).start()
    with pytest.raises(Stopped):
        call(hang, 0, 600.0)


def test_a_child_that_ended_while_idle_is_replaced() -> None:
    _, before = call(doubled, 1, 5.0)
    os.kill(before, signal.SIGKILL)
    with pytest.raises(Lost):
        call(doubled, 1, 5.0)
    assert call(doubled, 1, 5.0)[1] != before


def test_children_end_with_a_killed_parent_also_while_they_hang() -> None:
    code = "from tests.run.test_isolate import hang_and_tell; hang_and_tell()"
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    parent = subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    with parent.stdout:
        children = [int(word) for word in parent.stdout.readline().split()]
    time.sleep(1.0)
    assert all(map(is_running, children))
    parent.kill()
    parent.wait()
    until = time.monotonic() + 20
    while any(map(is_running, children)) and time.monotonic() < until:
        time.sleep(0.05)
    assert len(children) == 2
    assert not any(map(is_running, children))


def hang_and_tell() -> None:
    """Start an idle child and one that hangs, and tell their numbers."""
    for _ in range(2):
        isolate._IDLE.append(isolate._Child())
    os.write(1, " ".join(str(child._process.pid) for child in isolate._IDLE).encode() + b"\n")
    call(hang, 0, 600.0)


def is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"
