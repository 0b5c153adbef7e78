"""Measure what a map costs: grouping and planning of synthetic instance indexes, in time and in memory of the driver.

Each line is a process of its own: an index of so many rows is loaded, then grouped and planned as ``scan`` does it.
``index`` is the memory of the index, ``map`` what the map holds beside it, ``peak`` the most that the process ever had
beyond its imports; all are bytes a row. Processor seconds are given beside those of the clock, for busy machines.

    python -m benchmarks.map_scale --rows 10000 100000 1000000 --series-length 256 1
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROWS = (10_000, 100_000, 1_000_000, 10_000_000)


def measure(folder: str) -> dict[str, Any]:
    """Group and plan the index in a folder, in this process."""
    import resource

    from fastdcm.model import Options, Resources
    from fastdcm.run.execute import start_engine
    from fastdcm.run.survey import map_index
    from fastdcm.scan.index import load_index
    from fastdcm.series import frames, group, plan  # noqa: F401 - imports are no part of the measure

    start = _memory()
    index = load_index(folder)
    rows, loaded, clock, processor = index.instances.num_rows, _memory(), time.perf_counter(), time.process_time()
    with start_engine(Resources(workers=1)) as engine:
        found = map_index(engine, index, Options())
    clock, processor = time.perf_counter() - clock, time.process_time() - processor
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {
        "rows": rows,
        "series": len(found.series),
        "volumes": len(found.plans),
        "seconds": round(clock, 2),
        "processor_seconds": round(processor, 2),
        "microseconds_a_row": round(processor / rows * 1e6, 2),
        "microseconds_a_series": round(processor / len(found.series) * 1e6, 1),
        "index_bytes_a_row": round((loaded - start) / rows),
        "map_bytes_a_row": round((_memory() - loaded) / rows),
        "peak_bytes_a_row": round((peak - start) / rows),
        "peak_gigabytes": round(peak / 1e9, 2),
    }


def _memory() -> int:
    """Return the resident bytes of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def main() -> int:
    """Make the indexes, measure each in a process of its own, and print a line each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=ROWS)
    parser.add_argument("--series-length", type=int, nargs="+", default=[256], help="images a series")
    parser.add_argument("--work", type=Path, help="where indexes are kept (default: a temporary folder)")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(options.measure)))
        return 0
    with tempfile.TemporaryDirectory() as scratch:
        for length in options.series_length:
            for rows in options.rows:
                folder = (options.work or Path(scratch)) / f"index-{rows}-{length}"
                if not folder.exists():
                    made = ["headers-1m", str(folder), "--scale", repr(rows / 1e6), "--series-length", str(length)]
                    subprocess.run(
                        [sys.executable, "-m", "scripts.make_export", *made], check=True, capture_output=True
                    )
                command = [sys.executable, "-m", "benchmarks.map_scale", "--measure", str(folder)]
                told = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
                print(json.dumps({"series_length": length, **told}), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
