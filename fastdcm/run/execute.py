"""Parallel work, all of it: one iterator over Dask, whichever scheduler was asked for. The only module that knows Dask.

A task that raises gives its exception as a value. Tasks are taken from their iterator as room appears, so the driver
holds a bounded number of them, and results come in the order in which they finish.
"""

from __future__ import annotations

import logging
import queue
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, TypeVar

from fastdcm.errors import UsageError
from fastdcm.model import Resources
from fastdcm.run.cluster import JOB_WAIT_S, start_jobs
from fastdcm.run.futures import AWAY_S, attempt, map_futures
from fastdcm.run.isolate import end_children
from fastdcm.run.machine import memory_limit, worker_count
from fastdcm.run.progress import Callback, Progress, silent

Task = TypeVar("Task")
Result = TypeVar("Result")

SHARDS_A_WORKER = 3
"""Input, output and encoded bytes of the shard at hand."""
SMALLEST_WORKER_BYTES = 1 << 29
ANSWER_S = 20.0
"""A scheduler that does not answer for so long when a run begins is not there."""


@dataclass(frozen=True, slots=True, eq=False)
class Engine:
    """What ``map_tasks`` runs on; made by ``start_engine``, changes the time of a run and never its bytes."""

    scheduler: str
    workers: int
    """Tasks that run at the same time."""
    memory_bytes: int
    client: Any = None
    """``distributed.Client``, or None for threads of this process."""
    task_timeout_s: float | None = None
    """Seconds that one compressed frame may take; None: by its size."""
    thread_bytes: int | None = None
    """Memory of one thread of the smallest worker, where its cluster bounds it."""
    progress: Callback = silent
    """Told when the scheduler is lost, and when it is back."""


@contextmanager
def start_engine(resources: Resources, progress: Callback = silent) -> Iterator[Engine]:
    """Start (or connect to) the workers, and leave them when the block ends.

    Parameters
    ----------
    resources : Resources
        ``local``: threads of this process; ``processes``: a ``LocalCluster``, spawned; ``tcp://HOST:PORT``: a
        scheduler that runs already, whose workers can import fastdcm and see the same paths. With ``cluster`` the
        workers are jobs of a batch system.
    progress : callable
        Told the address of the dashboard, where there is one, and when the scheduler is lost and comes back.

    Raises
    ------
    UsageError
        The scheduler's name is unknown, nothing answers there, or ``distributed`` is not installed.
    """
    workers, memory = worker_count(resources), memory_limit(resources)
    if resources.scheduler == "local" and resources.cluster is None:
        try:
            yield Engine("local", workers * max(resources.threads, 1), memory, None, resources.task_timeout_s)
        finally:
            end_children()
        return
    named = resources.cluster is not None or resources.scheduler == "processes"
    if not named and not resources.scheduler.startswith(("tcp://", "tls://", "inproc://")):
        raise UsageError(f"scheduler {resources.scheduler!r} is none of local, processes, tcp://HOST:PORT")
    with _client(resources, workers) as client:
        if client.dashboard_link:
            progress(Progress("start", dashboard=client.dashboard_link))
        threads = sum(client.nthreads().values())
        if resources.cluster is not None:  # of the jobs, some may still be in the queue
            threads = workers * max(resources.threads, 1)
        name = resources.cluster or resources.scheduler
        timeout_s, thread_bytes = resources.task_timeout_s, _thread_bytes(client)
        yield Engine(name, max(threads, 1), memory, client, timeout_s, thread_bytes, progress)


@contextmanager
def _client(resources: Resources, workers: int) -> Iterator[Any]:
    try:
        import distributed
    except ImportError as error:
        option = f"--cluster {resources.cluster}" if resources.cluster else f"--scheduler {resources.scheduler}"
        raise UsageError(f"{option} wants the package distributed: pip install 'fastdcm[cluster]'") from error
    dask: Any = distributed  # a library without types
    if resources.cluster is not None:
        with start_jobs(resources) as jobs, dask.Client(jobs) as client:
            try:
                client.wait_for_workers(1, timeout=JOB_WAIT_S)
            except TimeoutError:
                text = f"no job of {resources.cluster} began within {JOB_WAIT_S} s: look at its queue and settings"
                raise UsageError(text) from None
            yield client
        return
    if resources.scheduler == "processes":
        with _local_cluster(dask, resources, workers) as cluster, dask.Client(cluster) as client:
            yield client
        return
    logging.getLogger("distributed.client").setLevel(logging.CRITICAL)  # a lost scheduler is told in a sentence
    try:
        dask.Client(resources.scheduler, timeout=ANSWER_S, set_as_default=False).close()
        connection = dask.Client(resources.scheduler, timeout=AWAY_S)  # for so long it also looks for one it lost
    except (OSError, ValueError) as error:
        raise UsageError(f"no Dask scheduler answers at {resources.scheduler}") from error
    with connection as client:
        yield client


def _thread_bytes(client: Any) -> int | None:
    """Return the memory of one thread of the smallest worker; None where none is bounded."""
    workers = client.scheduler_info(n_workers=-1)["workers"].values()
    return min((one["memory_limit"] // one["nthreads"] for one in workers if one["memory_limit"]), default=None)


def _local_cluster(dask: Any, resources: Resources, workers: int) -> Any:
    """Start workers of this machine, again where one is lost while it starts.

    Their memory is bounded by their tasks; that of ``--memory`` is a hard limit besides, never below what Python,
    its libraries and a shard need: a worker that passes it is started anew, and its task runs again.
    """
    asked = resources.memory_bytes
    limit = 0 if asked is None else max(asked // workers, SMALLEST_WORKER_BYTES)
    for tries_left in (2, 1, 0):
        try:
            with _deaf():
                return dask.LocalCluster(
                    n_workers=workers,
                    threads_per_worker=max(resources.threads, 1),
                    memory_limit=limit,
                    dashboard_address="127.0.0.1:0",  # None would claim port 8787
                    silence_logs=logging.CRITICAL,  # what a task raises comes back; lost workers are replaced or told
                )
        except RuntimeError as error:
            if not tries_left:
                raise UsageError(f"{workers} worker processes cannot be started: {error.__cause__ or error}") from None
    raise AssertionError


@contextmanager
def _deaf() -> Iterator[None]:
    """Keep Ctrl-C from what is started meanwhile, and from what that starts: it is for the driver, which ends them."""
    from multiprocessing.resource_tracker import ensure_running

    ensure_running()  # else who starts it meanwhile hears SIGINT again, and so does all that he starts
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def map_tasks(
    function: Callable[[Task], Result], tasks: Iterable[Task], engine: Engine, *, window: int | None = None
) -> Iterator[tuple[Task, Result | Exception]]:
    """Run a function over tasks and yield each with its result as it completes, in no set order.

    Parameters
    ----------
    function : callable
        Of one task; importable by name (it travels by pickle), idempotent (a task may run twice when a worker is lost).
    tasks : iterable
        Taken in the calling thread, a window at a time. Each should be worth 0.1 s or more.
    engine : Engine
        Where to run.
    window : int, optional
        Tasks in flight; the default is 4 a worker.

    Yields
    ------
    (task, result or exception)
        An exception is that of the task, or ``WorkerLost`` where its workers ended repeatedly.

    Raises
    ------
    TargetError
        The scheduler was lost, and did not come back within ``futures.AWAY_S``.
    """
    stream = iter(tasks)
    first = list(islice(stream, 2))
    if engine.client is not None:
        given = _chain(first, stream)
        yield from map_futures(function, given, engine.client, window or 2 * engine.workers, engine.progress)
    elif len(first) < 2 or engine.workers == 1:  # nothing to schedule: without the import of Dask
        for task in _chain(first, stream):
            yield task, attempt(function, task)
    else:
        yield from _map_threads(function, _chain(first, stream), engine.workers, window or 4 * engine.workers)


def _chain(first: list[Task], rest: Iterator[Task]) -> Iterator[Task]:
    while first:
        yield first.pop(0)
    yield from rest


def _map_threads(
    function: Callable[[Task], Result], tasks: Iterator[Task], workers: int, window: int
) -> Iterator[tuple[Task, Result | Exception]]:
    """Two overlapping windows on Dask's threaded scheduler: while one ends, the next one fills the free threads."""
    from dask.threaded import get

    half = max(window // 2, workers)
    done: queue.SimpleQueue[tuple[int, Task, Result | Exception]] = queue.SimpleQueue()
    stop = threading.Event()
    waiting: dict[int, Task] = {}

    def run(number: int, key: int) -> None:
        task = waiting.pop(key)
        if not stop.is_set():
            done.put((number, task, attempt(function, task)))

    def start(number: int) -> int:
        batch = list(islice(tasks, half))
        keys = {("task", number, i): i for i in range(len(batch))}
        waiting.update({number * half + i: task for i, task in enumerate(batch)})
        graph = {key: (run, number, number * half + i) for key, i in keys.items()}
        if graph:
            feeders.submit(get, graph, list(graph), pool=pool)
        return len(batch)

    pool, feeders = ThreadPoolExecutor(workers), ThreadPoolExecutor(2)
    try:
        open_windows: dict[int, int] = {}
        number = 0
        while True:
            while len(open_windows) < 2 and (size := start(number)):
                open_windows[number] = size
                number += 1
            if not open_windows:
                return
            of, task, result = done.get()
            open_windows[of] -= 1
            if not open_windows[of]:
                del open_windows[of]
            yield task, result
    except BaseException:  # Ctrl-C, or nobody wants more results
        stop.set()
        end_children(busy=True)
        raise
    finally:
        stop.set()
        feeders.shutdown()
        pool.shutdown()


# ---------------------------------------------------------------------------- resources


def fit_memory(engine: Engine, shard_bytes: int) -> tuple[Engine, str | None]:
    """Lower the tasks at the same time until each has room for three of the largest shards.

    Parameters
    ----------
    engine : Engine
        With ``memory_bytes`` for all its workers.
    shard_bytes : int
        Uncompressed bytes of the largest shard of the run.

    Returns
    -------
    (Engine, note)
        The note is a sentence for the user, or None when nothing had to change.
    """
    if engine.scheduler not in ("local", "processes"):  # other machines: who starts workers decides how many
        return engine, _short_of_memory(engine, shard_bytes)
    room = max(int(engine.memory_bytes // max(SHARDS_A_WORKER * shard_bytes, 1)), 1)
    if room >= engine.workers:
        return engine, None
    note = (
        f"{room} instead of {engine.workers} workers: the largest shard has {shard_bytes / 2**20:.0f} MiB, a worker "
        f"wants {SHARDS_A_WORKER} of them, and {engine.memory_bytes / 2**20:.0f} MiB may be used (--memory)"
    )
    return replace(engine, workers=room), note


def _short_of_memory(engine: Engine, shard_bytes: int) -> str | None:
    if engine.thread_bytes is None or engine.thread_bytes >= SHARDS_A_WORKER * shard_bytes:
        return None
    return (
        f"a thread of a worker has {engine.thread_bytes / 2**20:.0f} MiB, and wants {SHARDS_A_WORKER} of the largest "
        f"shard's {shard_bytes / 2**20:.0f} MiB: give the workers more memory or fewer threads, or lower --shard"
    )
