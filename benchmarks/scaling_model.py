"""A model of a run: what the driver and the workers pay for files, volumes, tasks and bytes; and a cluster made of it.

::

    python -m benchmarks.scaling_model docs/benchmarks/results.json

The costs come from the small exports of the suite ``stages`` (non-negative least squares over three of them); they are
held against larger exports that took no part in them; then a discrete-event simulation carries them to 64 nodes. It is
deterministic: every task of a stage is the same, queues are first come first served, and the resources are the driver,
the workers, the metadata server and the bandwidth of the file system. Long stages are simulated on their first tasks
and carried on at that rate. What the cluster is like is assumed, not measured: ``Cluster``.
"""

from __future__ import annotations

import heapq
import json
import sys
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

Figures = Mapping[str, Any]

FIT = ("ct-four", "cr-2500", "tiny-10000")
"""Exports that the costs come from."""
SIMULATED_TASKS = 20_000
SCAN_BATCH = 4096
SHARD_BYTES = 64 * 2**20
RATIO = 2.4
"""Of CT with the default codec: 2.43 on real images, docs/decisions.md."""


class Work(NamedTuple):
    """What a run has to do."""

    files: int
    volumes: int
    tasks: int
    array_bytes: int


class Stage(NamedTuple):
    """Costs of one stage, in microseconds of a processor, and in nanoseconds a byte."""

    file_us: float = 0.0
    volume_us: float = 0.0
    task_us: float = 0.0
    byte_ns: float = 0.0

    def seconds(self, work: Work) -> float:
        """Return the processor seconds of this work."""
        return (
            1e-6 * (self.file_us * work.files + self.volume_us * work.volumes + self.task_us * work.tasks)
            + 1e-9 * self.byte_ns * work.array_bytes
        )


class Costs(NamedTuple):
    """Everything that was measured."""

    read_headers: Stage
    """On the workers."""
    take_headers: Stage
    """On the driver: finding files, sending batches, putting tables together."""
    map: Stage
    """On the driver: grouping, planning."""
    write: Stage
    """One process that does all of it: its driver's part too, so a worker of a cluster is taken a little too slow."""
    direct: Stage
    """On the driver while volumes are written: planning again, sending, results, journal, renames."""
    tables: Stage
    """On the driver."""
    index_bytes: float
    """Of the driver's memory, a file."""
    journal_bytes: float
    """A file."""
    entries: float
    """Files and folders that a volume becomes."""


class Cluster(NamedTuple):
    """What is assumed."""

    nodes: int = 64
    cores: int = 16
    drivers: int = 1
    """Runs side by side, each of its part of the folders, on the same workers and file system."""
    metadata_operations: float = 50_000.0
    """A second, of the file system."""
    latency_s: float = 0.0005
    """Of one such operation, beside waiting its turn."""
    bandwidth_bytes: float = 40e9
    """A second, of the file system."""

    @property
    def workers(self) -> int:
        """Return the tasks at the same time."""
        return self.nodes * self.cores


# ---------------------------------------------------------------------------- from measurements to costs


def fit(rows: Sequence[Sequence[float]], seconds: Sequence[float]) -> list[float]:
    """Return the costs x >= 0 for which rows @ x is nearest to the seconds, each relative to its size.

    Tries every choice of costs that are not zero: there are at most three.
    """
    scale = 1 / np.maximum(np.asarray(seconds, float), 1e-6)
    matrix, wanted = np.asarray(rows, float) * scale[:, None], np.asarray(seconds, float) * scale
    best, least = np.zeros(matrix.shape[1]), float(np.sum(wanted**2))
    for count in range(1, matrix.shape[1] + 1):
        for chosen in combinations(range(matrix.shape[1]), count):
            found = np.linalg.lstsq(matrix[:, chosen], wanted, rcond=None)[0]
            error = float(np.sum((matrix[:, chosen] @ found - wanted) ** 2))
            if (found >= 0).all() and error < least * (1 - 1e-9):
                best, least = np.zeros(matrix.shape[1]), error
                best[list(chosen)] = found
    return [float(cost) for cost in best]


def work_of(run: Figures) -> Work:
    """Return what one run of the suite ``stages`` had to do."""
    return Work(run["files"], run["volumes"], run["tasks"], run["array_bytes"])


def costs_of(suites: Mapping[str, Figures]) -> Costs:
    """Return the costs that the suites ``stages`` and ``map_scale`` measured."""
    stages = suites["stages"]["figures"]
    alone = {run["source"]: run for run in stages["runs"] if run["scheduler"] == "local" and run["workers"] == 1}
    apart = {run["source"]: run for run in stages["runs"] if run["scheduler"] == "processes"}
    works = [work_of(alone[name]) for name in FIT]
    per_file = [[work.files] for work in works]
    per_volume = [[work.files, work.volumes] for work in works]
    per_byte = [[work.files, work.volumes, work.array_bytes] for work in works]

    def used(runs: Mapping[str, Figures], *path: str) -> list[float]:
        return [_at(runs[name], path) for name in FIT]

    both = np.subtract(used(alone, "convert", "map and write", "driver_s"), used(alone, "map", "driver_s"))
    driver = np.subtract(used(apart, "convert", "map and write", "driver_s"), used(apart, "map", "driver_s"))
    tasks = [1e-6 * stages["task_us"] * work.tasks for work in works]
    direct = fit(per_volume, np.maximum(driver - tasks, 0).tolist())
    write = fit(per_byte, both.tolist())
    found = {
        "read_headers": fit(per_file, used(alone, "index", "driver_s")),
        "take_headers": fit(per_file, used(apart, "index", "driver_s")),
        "map": fit(per_volume, used(alone, "map", "driver_s")),
        "tables": fit(per_volume, used(alone, "convert", "tables", "driver_s")),
    }
    us = {name: Stage(*(1e6 * cost for cost in costs)) for name, costs in found.items()}
    lines = [one for one in suites["map_scale"]["figures"] if one["series_length"] > 1]
    store = stages["store"]["tiny-10000"]
    return Costs(
        **us,
        write=Stage(1e6 * write[0], 1e6 * write[1], 0.0, 1e9 * write[2]),
        direct=Stage(1e6 * direct[0], 1e6 * direct[1], stages["task_us"]),
        index_bytes=lines[-1]["index_bytes_a_row"] + lines[-1]["map_bytes_a_row"],
        journal_bytes=store["journal_bytes_a_file"],
        entries=store["entries_a_volume"],
    )


def _at(run: Figures, path: Sequence[str]) -> float:
    found: Any = run
    for name in path:
        found = found[name]
    return float(found)


# ---------------------------------------------------------------------------- one machine, for the check


class Check(NamedTuple):
    """A prediction and what was measured."""

    source: str
    workers: int
    predicted_s: float
    wall_s: float
    predicted_processor_s: float
    processor_s: float


def predict(costs: Costs, work: Work, workers: int) -> tuple[float, float]:
    """Return the seconds of a conversion in threads of one machine, and those of its processors.

    The driver is one of the threads: beside one worker nothing overlaps, beside more it takes its share of the cores.
    Where two workers wait for one interpreter the clock shows more.
    """
    index, mapped, tables = (stage.seconds(work) for stage in (costs.read_headers, costs.map, costs.tables))
    write = costs.write.seconds(work)
    return index / workers + mapped + write / workers + tables, index + mapped + write + tables


def checks(suites: Mapping[str, Figures], costs: Costs) -> Iterator[Check]:
    """Yield the runs with threads; those of ``FIT`` with one worker are what the costs were made of."""
    runs = [*suites["stages"]["figures"]["runs"]]
    if "flat" in suites:
        runs += [one["threads"] for one in suites["flat"]["figures"] if one["files"] >= 100_000]
    for run in runs:
        if run["scheduler"] != "local" or (run["source"] in FIT and run["workers"] == 1):
            continue
        whole = run["convert"]["whole"]
        wall, used = predict(costs, work_of(run), run["workers"])
        yield Check(run["source"], run["workers"], wall, whole["wall_s"], used, whole["driver_s"])


# ---------------------------------------------------------------------------- a cluster


class Load(NamedTuple):
    """One of the equal tasks of a stage."""

    driver_s: float
    worker_s: float
    operations: float
    """Of metadata."""
    bytes: float
    """Read and written."""


class Outcome(NamedTuple):
    """What a stage took, and how busy each resource was (0 to 1)."""

    seconds: float
    busy: Mapping[str, float]


def simulate(tasks: int, load: Load, cluster: Cluster) -> Outcome:
    """Run equal tasks through driver, workers, metadata server and bandwidth; first come, first served.

    ``map_tasks`` keeps two tasks a worker in flight: a worker always finds one, unless the driver is late.
    """
    count = min(tasks, max(SIMULATED_TASKS, 8 * cluster.workers))
    drivers = [0.0] * cluster.drivers
    metadata_s, transfer_s = load.operations / cluster.metadata_operations, load.bytes / cluster.bandwidth_bytes
    metadata_free = transfer_free = end = 0.0
    sent = min(count, 2 * cluster.workers)
    events: list[tuple[float, int, str]] = [(0.0, number, "send") for number in range(sent)]
    waiting: deque[int] = deque()
    idle = cluster.workers
    while events:
        now, number, what = heapq.heappop(events)
        end = max(end, now)
        if what == "send":  # the driver takes a result, if there is one, and sends the next task
            ready = max(now, heapq.heappop(drivers)) + load.driver_s
            heapq.heappush(drivers, ready)
            heapq.heappush(events, (ready, number, "queue"))
        elif what == "queue":
            waiting.append(number)
        elif what == "ask":
            metadata_free = max(now, metadata_free) + metadata_s
            later = metadata_free + load.operations * cluster.latency_s
            heapq.heappush(events, (later, number, "move"))
        elif what == "move":
            transfer_free = max(now, transfer_free) + transfer_s
            heapq.heappush(events, (transfer_free + load.worker_s, number, "done"))
        else:
            idle += 1
            if sent < count:
                heapq.heappush(events, (now, sent, "send"))
                sent += 1
        while idle and waiting:
            idle -= 1
            heapq.heappush(events, (now, waiting.popleft(), "ask"))
    held_s = load.worker_s + load.operations * cluster.latency_s
    busy = {
        "driver": count * load.driver_s / cluster.drivers / end,
        "workers": count * held_s / cluster.workers / end,
        "metadata": count * metadata_s / end,
        "bandwidth": count * transfer_s / end,
    }
    return Outcome(end * tasks / count, busy)


class Forecast(NamedTuple):
    """What a run would take."""

    array_bytes: int
    headers: Outcome
    map_s: float
    write: Outcome
    tables_s: float
    driver_memory_bytes: float
    """Of each driver."""
    journal_bytes: float

    @property
    def seconds(self) -> float:
        """Return the whole run's."""
        return self.headers.seconds + self.map_s + self.write.seconds + self.tables_s


def export_of(files: int, *, slices: int = 256, image_bytes: int = 2 * 512 * 512) -> Work:
    """Return the work of CT series, each of several shards; one more task a volume makes its documents."""
    volumes = files // slices
    shards = -(-slices * image_bytes // SHARD_BYTES)
    return Work(files, volumes, volumes * (shards + (shards > 1)), files * image_bytes)


def loads(costs: Costs, work: Work) -> tuple[Load, Load]:
    """Return one task of reading headers, and one of writing."""
    batch = work._replace(files=SCAN_BATCH, volumes=0, tasks=1, array_bytes=0)
    headers = Load(
        driver_s=costs.take_headers.seconds(batch) + 1e-6 * costs.direct.task_us,
        worker_s=costs.read_headers.seconds(batch),
        operations=2.0 * SCAN_BATCH,  # open and close; what one folder lists comes for many files together
        bytes=8192.0 * SCAN_BATCH,
    )
    writing = Load(
        driver_s=costs.direct.seconds(work) / work.tasks,
        worker_s=costs.write.seconds(work) / work.tasks,
        operations=(2.0 * work.files + (costs.entries + 1) * work.volumes) / work.tasks,
        bytes=work.array_bytes * (1 + 1 / RATIO) / work.tasks,
    )
    return headers, writing


def ceilings(load: Load, files: float, cluster: Cluster) -> dict[str, float]:
    """Return the files a second that each resource alone would let through; ``files`` are those of one task."""
    held_s = load.worker_s + load.operations * cluster.latency_s
    return {
        "one core": files / held_s,
        "driver": files * cluster.drivers / load.driver_s,
        "metadata": files * cluster.metadata_operations / load.operations,
        "bandwidth": files * cluster.bandwidth_bytes / load.bytes,
    }


def forecast(costs: Costs, work: Work, cluster: Cluster) -> Forecast:
    """Simulate the stages of a run one after the other: each waits for the one before."""
    headers, writing = loads(costs, work)
    return Forecast(
        work.array_bytes,
        simulate(-(-work.files // SCAN_BATCH), headers, cluster),
        costs.map.seconds(work) / cluster.drivers,
        simulate(work.tasks, writing, cluster),
        costs.tables.seconds(work) / cluster.drivers,
        costs.index_bytes * work.files / cluster.drivers,
        costs.journal_bytes * work.files,
    )


def busiest(outcome: Outcome) -> tuple[str, float]:
    """Return the resource that a stage waits for, and how busy it is."""
    name = max(outcome.busy, key=lambda one: outcome.busy[one])
    return name, outcome.busy[name]


def main() -> int:
    """Print the model of a results file."""
    suites = json.loads(Path(sys.argv[1]).read_text())["suites"]
    costs = costs_of(suites)
    for name, value in costs._asdict().items():
        print(name, value)
    for check in checks(suites, costs):
        print(check)
    for drivers in (1, 16):
        for cores in (2, 8, 32):
            print(forecast(costs, export_of(100_000_000), Cluster(cores=cores, drivers=drivers)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
