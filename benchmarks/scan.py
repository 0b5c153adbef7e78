"""The scan beside its floor and SimpleITK's listing: microseconds a file, in interleaved rounds of one run.

::

    python -m benchmarks.scan FOLDER [FOLDER ...] [--rounds 7] [--listed 64] [--json OUT]

* floor: open, read 8 kB and close, a file after the other, their paths known beforehand.
* index: what becomes rows: folders walked, headers read, one sorted index; with 1 and 2 workers (threads).
* scan: the same, and volumes grouped and planned, with 1 worker; nothing is printed.
* SimpleITK: ``GetGDCMSeriesIDs`` and ``GetGDCMSeriesFileNames`` of every series, of ``--listed`` of the files.

Wall time tells what a user waits, CPU time (user and system) what it costs; only the latter means anything while the
machine is shared. Ratios are between the medians of CPU seconds.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import platform
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from fastdcm.cli.entry import YOUNG_OBJECTS
from fastdcm.model import Options, Resources
from fastdcm.run.execute import start_engine
from fastdcm.run.headers import read_index
from fastdcm.run.survey import survey
from fastdcm.scan.find import find_files, full_path

FIRST_BYTES = 8192


class Cost(NamedTuple):
    """Seconds of one round."""

    wall_s: float
    cpu_s: float


class Figure(NamedTuple):
    """What one way of reading costs a file, over all rounds."""

    name: str
    files: int
    wall_us: float
    wall_least_us: float
    cpu_us: float
    cpu_least_us: float


def touch(paths: Sequence[str]) -> None:
    """Open, read and close: what no scan can do without."""
    for path in paths:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        os.read(descriptor, FIRST_BYTES)
        os.close(descriptor)


def index_files(folder: str, workers: int) -> int:
    """Make the index of a folder; return its rows."""
    with start_engine(Resources(workers=workers)) as engine:
        rows: int = read_index(engine, [folder]).instances.num_rows
    return rows


def list_series(folder: str) -> int:
    """List the series of one folder as SimpleITK does; return the files."""
    import SimpleITK as sitk

    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    reader = sitk.ImageSeriesReader
    return sum(len(reader.GetGDCMSeriesFileNames(folder, uid)) for uid in reader.GetGDCMSeriesIDs(folder))


def cost_of(work: Callable[[], object]) -> Cost:
    """Return what one call costs this process, all threads."""
    gc.collect()
    before, start = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    work()
    wall_s, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF)
    return Cost(wall_s, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)


def measure(folder: str, rounds: int, listed: int) -> list[Figure]:
    """Measure every way on one folder, in turn.

    Parameters
    ----------
    folder : str
        Any tree of files.
    rounds : int
        How often each is measured, but for SimpleITK (once, after one round to warm up): it is slow and steady.
    listed : int
        Files that SimpleITK lists.
    """
    gc.set_threshold(YOUNG_OBJECTS)  # as the command line does
    paths = [full_path([folder], file.source, file.path) for file in find_files([folder])]
    with tempfile.TemporaryDirectory() as some:
        for number, path in enumerate(paths[:listed]):
            Path(some, str(number)).symlink_to(os.path.abspath(path))
        ways: dict[str, Callable[[], object]] = {
            "floor": lambda: touch(paths),
            "index, 1 worker": lambda: index_files(folder, 1),
            "index, 2 workers": lambda: index_files(folder, 2),
            "scan, 1 worker": lambda: survey([folder], Options(), Resources(workers=1)),
        }
        for work in ways.values():
            work()
        costs: dict[str, list[Cost]] = {name: [] for name in ways}
        for _ in range(rounds):
            for name, work in ways.items():
                costs[name].append(cost_of(work))
        figures = [_figure(name, len(paths), found) for name, found in costs.items()]
        if listed:
            list_series(some)
            count = min(listed, len(paths))
            figures.append(_figure("SimpleITK listing", count, [cost_of(lambda: list_series(some)) for _ in range(3)]))
    return figures


def _figure(name: str, files: int, costs: Sequence[Cost]) -> Figure:
    wall, cpu = ([1e6 * seconds / files for seconds in part] for part in zip(*costs, strict=True))
    return Figure(name, files, statistics.median(wall), min(wall), statistics.median(cpu), min(cpu))


def table_lines(folder: str, figures: Sequence[Figure]) -> list[str]:
    """Return the figures of one folder as text."""
    floor = figures[0].cpu_us
    index = next(figure.cpu_us for figure in figures if figure.name == "index, 1 worker")
    lines = [
        f"{folder}: {figures[0].files} files",
        f"{'':20}{'wall us':>10}{'(least)':>10}{'CPU us':>10}{'(least)':>10}{'x floor':>9}{'x index':>9}",
    ]
    for one in figures:
        times = f"{one.wall_us:10.1f}{one.wall_least_us:10.1f}{one.cpu_us:10.1f}{one.cpu_least_us:10.1f}"
        lines.append(f"{one.name:20}{times}{one.cpu_us / floor:9.2f}{one.cpu_us / index:9.2f}")
    return lines


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure folders, print their tables, and keep the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", nargs="+")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--listed", type=int, default=64, help="files that SimpleITK lists; 0: none")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args(arguments)
    found = {}
    for folder in given.folders:
        figures = measure(folder, given.rounds, given.listed)
        print("\n".join(table_lines(folder, figures)), flush=True)
        found[folder] = [figure._asdict() for figure in figures]
    if given.json:
        machine = {"machine": platform.processor() or platform.machine(), "cores": os.cpu_count()}
        given.json.write_text(
            json.dumps({**machine, "python": platform.python_version(), "us_a_file": found}, indent=1)
        )


if __name__ == "__main__":
    main()
