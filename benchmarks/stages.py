"""What each stage of a run costs, and how much of it the driver pays: for ``flat`` and for the model of a run.

::

    python -m benchmarks.stages SRC OUT --scheduler processes --workers 2     # prints one JSON object

The stages are called as ``convert`` calls them, in a process that has done a small run before, so that imports are not
counted: ``index`` (walk, headers, one table), ``map`` (group and plan), then a whole conversion, of which ``map and
write`` is what lies between the index and the tables. Seconds of the clock and of the driver's processor; with
``--scheduler processes`` the work itself is done by other processes, and what is left is the driver, Dask's scheduler
included.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

PROCESSES = "processes"


class Clock:
    """Seconds of the clock and of this process, from one mark to the next."""

    def __init__(self) -> None:
        self._last = (time.perf_counter(), time.process_time())

    def lap(self) -> dict[str, float]:
        """Return what passed since the last lap."""
        now = (time.perf_counter(), time.process_time())
        wall, used = (b - a for a, b in zip(self._last, now, strict=True))
        self._last = now
        return {"wall_s": wall, "driver_s": used}


def measure(source: str, out: str | None, scheduler: str, workers: int, codec: str) -> dict[str, Any]:
    """Measure the stages on one folder; without ``out`` nothing is converted."""
    from fastdcm.model import Options, Resources
    from fastdcm.run.execute import map_tasks, start_engine
    from fastdcm.run.headers import read_index
    from fastdcm.run.survey import map_index

    resources = Resources(workers=workers, scheduler=scheduler)
    found: dict[str, Any] = {"source": Path(source).name, "scheduler": scheduler, "workers": workers, "codec": codec}
    with start_engine(resources) as engine:
        warm_up()
        list(map_tasks(len, ("", "", ""), engine))  # now Dask is loaded
        if engine.client is not None:
            engine.client.run(warm_up)
        clock = Clock()
        index = read_index(engine, [source])
        found["index"] = clock.lap()
        mapped = map_index(engine, index, Options(codec=codec))
        found["map"] = clock.lap()
        table, facts = mapped.table, mapped.facts
        found |= {"files": index.instances.num_rows, "series": len(mapped.book), "volumes": table.num_rows}
        found["array_bytes"] = int(facts.array_bytes.sum())
        found["tasks"] = _task_count(facts.array_bytes.tolist(), facts.task_bytes.tolist())
        del index, mapped, table, facts
        if out is not None:
            found["convert"] = _convert(source, out, engine, codec)
    return found


def _convert(source: str, out: str, engine: Any, codec: str) -> dict[str, Any]:
    """Run a whole conversion; its stages by what it tells of its progress."""
    from fastdcm.model import Options
    from fastdcm.run.account import Run
    from fastdcm.run.convert import run_conversion
    from fastdcm.run.target import check_target

    laps: dict[str, dict[str, float]] = {}
    clock, whole = Clock(), Clock()

    def tell(progress: Any) -> None:
        if progress.stage == "group":
            laps["index"] = clock.lap()
        elif progress.stage == "tables":
            laps["map and write"] = clock.lap()

    report = run_conversion(Run(check_target(out, None), Options(codec=codec), tell), engine, [source])
    laps["tables"] = clock.lap()
    laps["whole"] = whole.lap()
    if report.exit_code:
        raise SystemExit(f"{source}: not all of it was converted: {report.codes}")
    return {**laps, "bytes_read": report.bytes_read, "bytes_written": report.bytes_written}


def _task_count(array_bytes: list[int], task_bytes: list[int]) -> int:
    """Return the units of work of a conversion: small volumes share one, as in ``run/write.py``."""
    from fastdcm.run.write import UNIT_BYTES, UNIT_VOLUMES

    tasks = volumes = size = 0
    for whole, part in zip(array_bytes, task_bytes, strict=True):
        if whole > part:
            tasks += -(-whole // part) + 1
            continue
        if volumes and (size + whole > UNIT_BYTES or volumes == UNIT_VOLUMES):
            tasks, volumes, size = tasks + 1, 0, 0
        volumes, size = volumes + 1, size + whole
    return tasks + (volumes > 0)


def warm_up() -> None:
    """Convert one small series in this process, so that everything is imported."""
    import fastdcm
    from scripts.make_export import write_tiny

    with tempfile.TemporaryDirectory() as folder:
        write_tiny(Path(folder, "in"), 0, 1, 1)
        fastdcm.convert(f"{folder}/in", f"{folder}/out", workers=1)


def main() -> int:
    """Parse the command line, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source")
    parser.add_argument("out", nargs="?")
    parser.add_argument("--scheduler", default="local")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--codec", default="zstd")
    options = parser.parse_args()
    print(json.dumps(measure(options.source, options.out, options.scheduler, options.workers, options.codec)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
