"""The tables of docs/scaling.md: costs, how well they predict, and what a cluster would take."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from benchmarks.scaling_model import (
    SCAN_BATCH,
    Cluster,
    Costs,
    Forecast,
    busiest,
    ceilings,
    checks,
    costs_of,
    export_of,
    forecast,
    loads,
)

Figures = Mapping[str, Any]
CORES = (2, 4, 8, 16, 32)
FILES = (1_000_000, 10_000_000, 100_000_000)
DRIVERS = (1, 4, 16, 64)
LARGEST = FILES[-1]
MEANING = {
    "read_headers": "worker: read headers",
    "take_headers": "driver: find files, take tables",
    "map": "driver: group and plan",
    "write": "one process: plan, read, encode, write, publish",
    "direct": "of that, driver: plan again, send, journal, publish",
    "tables": "driver: outcomes and tables",
}


def _costs(document: Figures) -> Costs:
    return costs_of(document["suites"])


def _table(columns: tuple[str, ...], rows: Iterator[tuple[str, ...]]) -> list[str]:
    return [f"| {' | '.join(columns)} |", "|" + "---|" * len(columns), *(f"| {' | '.join(row)} |" for row in rows)]


def costs_block(document: Figures) -> list[str]:
    """Return the costs of each stage."""
    costs = _costs(document)

    def rows() -> Iterator[tuple[str, ...]]:
        for name, meaning in MEANING.items():
            stage = getattr(costs, name)
            yield (meaning, *(f"{value:.1f}" if value else "" for value in stage[:3]),
                   f"{1e3 / stage.byte_ns:.0f}" if stage.byte_ns else "")  # fmt: skip

    columns = ("stage", "us a file", "us a volume", "us a task", "MB/s of values, a core")
    return [
        *_table(columns, rows()),
        "",
        f"A file is {costs.index_bytes:.0f} B of the driver's memory and {costs.journal_bytes:.0f} B of the journal; a "
        f"volume of one shard is {costs.entries:.0f} files and folders.",
    ]


def check_block(document: Figures) -> list[str]:
    """Return predictions beside measurements."""
    found = checks(document["suites"], _costs(document))
    rows = (
        (one.source, str(one.workers), f"{one.predicted_s:.2f}", f"{one.wall_s:.2f}",
         f"{one.predicted_s / one.wall_s:.2f}", f"{one.predicted_processor_s:.2f}", f"{one.processor_s:.2f}",
         f"{one.predicted_processor_s / one.processor_s:.2f}")
        for one in found
    )  # fmt: skip
    columns = ("export", "workers", "predicted s", "measured s", "ratio", "predicted processor s", "measured", "ratio")
    return _table(columns, rows)


def cluster_block(_: Figures) -> list[str]:
    """Return what is assumed of a cluster."""
    one = Cluster()
    return [
        f"- metadata server: {one.metadata_operations:.0f} operations a second, {1000 * one.latency_s:g} ms for each",
        f"- file system: {one.bandwidth_bytes / 1e9:.0f} GB/s, read and written together",
        f"- {one.nodes} nodes; a core of a node is as fast as one of the machine that was measured; a worker a core",
        "- series of 256 slices of 512 x 512 int16 (524 kB a file); 100 million files are 52 TB",
    ]


def ceilings_block(document: Figures) -> list[str]:
    """Return what each resource alone would let through, and how many cores need as much."""
    costs, work, cluster = _costs(document), export_of(LARGEST), Cluster()
    headers, writing = loads(costs, work)

    def rows() -> Iterator[tuple[str, ...]]:
        for name, load, files in (
            ("read headers", headers, float(SCAN_BATCH)), ("write volumes", writing, work.files / work.tasks),
        ):  # fmt: skip
            found = ceilings(load, files, cluster)
            for resource, rate in found.items():
                yield name, resource, f"{rate:.0f}", f"{rate / found['one core']:.0f}"
        for name, seconds in (("map", costs.map.seconds(work)), ("tables", costs.tables.seconds(work))):
            yield name, "driver", f"{work.files / seconds:.0f}", "1"

    return _table(("stage", "resource", "files a second", "cores that use it up"), rows())


def cores_block(document: Figures) -> list[str]:
    """Return one driver with growing nodes, for the largest export."""
    costs = _costs(document)
    rows = (_row(f"64 x {cores}", forecast(costs, export_of(LARGEST), Cluster(cores=cores))) for cores in CORES)
    return _table(_COLUMNS, rows)


def files_block(document: Figures) -> list[str]:
    """Return one driver on 64 x 16 cores with growing exports."""
    costs = _costs(document)
    rows = (_row(f"{files / 1e6:g} million files", forecast(costs, export_of(files), Cluster())) for files in FILES)
    return _table(_COLUMNS, rows)


def drivers_block(document: Figures) -> list[str]:
    """Return runs side by side on 64 x 16 cores."""
    costs = _costs(document)
    rows = (_row(f"{runs} runs", forecast(costs, export_of(LARGEST), Cluster(drivers=runs))) for runs in DRIVERS)
    return _table(_COLUMNS, rows)


_COLUMNS = ("", "headers h", "busiest", "map h", "write h", "busiest", "tables h", "whole h", "TB/h",
            "driver GB", "journal GB")  # fmt: skip


def _row(name: str, one: Forecast) -> tuple[str, ...]:
    hours = [seconds / 3600 for seconds in (one.headers.seconds, one.map_s, one.write.seconds, one.tables_s)]
    terabytes = one.array_bytes / 1e12
    headers, write = (f"{name} {busy:.0%}" for name, busy in map(busiest, (one.headers, one.write)))
    return (name, f"{hours[0]:.2f}", headers, f"{hours[1]:.2f}", f"{hours[2]:.2f}", write, f"{hours[3]:.2f}",
            f"{sum(hours):.2f}", f"{terabytes / sum(hours):.1f}", f"{one.driver_memory_bytes / 1e9:.1f}",
            f"{one.journal_bytes / 1e9:.1f}")  # fmt: skip


SCALING_BLOCKS: Mapping[str, Callable[[Figures], list[str]]] = {
    "costs": costs_block,
    "check": check_block,
    "cluster": cluster_block,
    "ceilings": ceilings_block,
    "cores": cores_block,
    "files": files_block,
    "drivers": drivers_block,
}
