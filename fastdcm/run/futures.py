"""Tasks on a ``distributed`` cluster: futures in flight, and what was lost with its worker or scheduler done again.

Lost workers are Dask's own retries. A scheduler that is lost takes all futures with it, also finished ones; its client
looks for it at the same address, and the tasks, which may run twice, are submitted to it anew.
"""

from __future__ import annotations

import pickle
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from itertools import islice
from typing import Any, TypeVar

from fastdcm.errors import TargetError
from fastdcm.run.progress import Callback, Progress

Task = TypeVar("Task")
Result = TypeVar("Result")

AWAY_S = 60.0
"""So long a scheduler may be away in the middle of a run."""
WORKERS_S = 300.0
"""So long a scheduler that came back may be without workers: those of ``dask worker`` end with it, who started them
starts them anew."""
FETCH_S = 20.0
"""A result that cannot be fetched is lost with the scheduler if the client knows of that by then."""
_WHY_LOST = "it needs more memory than a worker has (--memory, --workers), or they were killed"
_LOST = "the Dask scheduler was lost"
_AGAIN = "what is complete stays, run the same command again"


class WorkerLost(Exception):
    """A task whose worker processes end, each time, also when it is the only one."""


def attempt(function: Callable[[Task], Result], task: Task) -> Result | Exception:
    """Return the result or the exception: the one boundary where any error of a task becomes a value."""
    try:
        return function(task)
    except Exception as error:  # noqa: BLE001
        return error


def map_futures(
    function: Callable[[Task], Result], tasks: Iterator[Task], client: Any, window: int, progress: Callback
) -> Iterator[tuple[Task, Result | Exception]]:
    """Run a function over tasks as ``execute.map_tasks`` does, with ``window`` futures in flight.

    Parameters
    ----------
    function, tasks
        As there.
    client : distributed.Client
        Of the cluster. With the timeout ``AWAY_S`` it looks for a lost scheduler for so long.
    window : int
        Futures in flight.
    progress : callable
        Told when the scheduler is lost, and when it is back.

    Raises
    ------
    TargetError
        The scheduler was lost, and did not come back.
    """
    import distributed

    running: dict[str, tuple[Any, Task]] = {}
    dask: Any = distributed  # a library without types
    completed = dask.as_completed()
    suspects: list[Task] = []
    alone = False

    def submit(task: Task) -> None:
        _await_scheduler(client)
        future = client.submit(_attempt_packed, _packed((function, task)), pure=False, retries=0)
        running[future.key] = (future, task)
        completed.add(future)

    try:
        for task in islice(tasks, window):
            submit(task)
        while running:
            future = next(completed)
            _, task = running.pop(future.key)
            try:
                outcome = _outcome(future)
            except CancelledError:  # nobody here cancels what it still waits for: all is lost with the scheduler
                again = [task, *(task for _, task in running.values())]
                running.clear()
                completed = dask.as_completed()
                progress(Progress("start", note=f"{_LOST}; waiting for it and its workers"))
                _await_workers(client)
                progress(Progress("start", note=f"the Dask scheduler is back; {len(again)} tasks are done again"))
                for task in again:
                    submit(task)
                continue
            future.release()
            for following in islice(tasks, 1):
                submit(following)
            if isinstance(outcome, WorkerLost) and not alone:
                suspects.append(task)
            else:
                yield task, outcome
            if not running and suspects:  # of tasks that were on one worker, one may be to blame for the end of all
                alone = True
                submit(suspects.pop())
    finally:
        if running and client.status == "running":
            client.cancel([future for future, _ in running.values()])


def _await_scheduler(client: Any) -> None:
    """Wait for a scheduler that was lost: its client looks for it at the same address, and gives up after ``AWAY_S``.

    Raises
    ------
    TargetError
        It did not come back.
    """
    while client.status == "connecting":
        time.sleep(0.1)
    if client.status != "running":
        raise TargetError(f"{_LOST}, and not back within {AWAY_S:.0f} s; {_AGAIN}")


def _await_workers(client: Any) -> None:
    """Wait for a scheduler that was lost, and for one worker of it.

    Raises
    ------
    TargetError
        They did not come back.
    """
    until = time.monotonic() + AWAY_S + WORKERS_S
    while True:
        _await_scheduler(client)
        try:
            client.wait_for_workers(1, timeout=WORKERS_S)
            return
        except OSError as error:  # no worker, or it was lost again
            if time.monotonic() > until or isinstance(error, TimeoutError):
                raise TargetError(f"{_LOST}; it is back, but without workers; {_AGAIN}") from None


def _outcome(future: Any) -> Any:
    """Return what became of a task. Raises CancelledError where that was lost with the scheduler."""
    try:
        error = future.exception()
        return pickle.loads(future.result()) if error is None else _as_exception(error)  # noqa: S301 - our own
    except OSError as error:  # it went while the result was fetched; soon the client knows
        until = time.monotonic() + FETCH_S
        while time.monotonic() < until:
            if future.cancelled():
                raise CancelledError from None
            time.sleep(0.1)
        raise TargetError(f"a result cannot be fetched: {error}; {_AGAIN}") from error


def _packed(what: object) -> bytes:
    """Return one run of bytes: Dask would send every small array of a task by itself, and look at each on the way."""
    return pickle.dumps(what, protocol=5)


def _attempt_packed(data: bytes) -> bytes:
    """Do what ``attempt`` does, on a worker."""
    function, task = pickle.loads(data)  # noqa: S301 - from our own driver
    return _packed(attempt(function, task))


def _as_exception(error: BaseException) -> Exception:
    from distributed.scheduler import KilledWorker

    if isinstance(error, KilledWorker):
        return WorkerLost(f"{error.allowed_failures + 1} worker processes ended while they did it: {_WHY_LOST}")
    return error if isinstance(error, Exception) else RuntimeError(type(error).__name__)
