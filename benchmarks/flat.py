"""What a file costs, from a thousand to a million of them: distinct UIDs, 32 x 32 pixels, series of 50.

::

    python -m benchmarks.flat                                  # 1 000, 10 000 and 100 000 files
    python -m benchmarks.flat --million --work /big --json flat.json

``scan`` makes the index and the volumes; ``convert`` is a whole conversion beside it, with threads of one process. The
last two columns come from another run, by processes: the most memory that the driver and the largest worker ever had.
Microseconds of the clock and of the processor, imports and the start of processes not counted; each export is read once
before, so that it is in the page cache.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.process import ROOT, watch

SIZES = (1_000, 10_000, 100_000)
FILES_OF_SCALE_ONE = 10_000
COLUMNS = ("files", "scan us", "scan CPU us", "x first", "convert us", "convert CPU us", "x first", "driver MB",
           "worker MB")  # fmt: skip


def make_tiny(folder: Path, files: int) -> Path:
    """Make the export of so many files, unless it is there."""
    source = folder / f"tiny-{files}"
    if not source.exists():
        made = ["scripts/make_export.py", "tiny", str(source), "--scale", repr(files / FILES_OF_SCALE_ONE)]
        subprocess.run([sys.executable, *made], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    return source


def stages(source: Path, out: Path | None, *options: str) -> dict[str, Any]:
    """Run ``benchmarks.stages`` in a process of its own, and add the memory that it and its workers had."""
    command = [sys.executable, "-m", "benchmarks.stages", str(source), *([str(out)] if out else []), *options]
    done = watch(command)
    found: dict[str, Any] = json.loads(done.output)
    return found | {"driver_peak_bytes": done.peak_bytes, "worker_peak_bytes": done.child_peak_bytes}


def measure(files: int, work: Path, workers: int) -> dict[str, Any]:
    """Measure one size."""
    source = make_tiny(work, files)
    with tempfile.TemporaryDirectory(dir=work) as out:
        threads = stages(source, Path(out, "threads"), "--workers", str(workers))
        apart = stages(source, Path(out, "processes"), "--workers", str(workers), "--scheduler", "processes")
    return {"files": threads["files"], "workers": workers, "threads": threads, "processes": apart}


def row_of(found: Mapping[str, Any], first: Mapping[str, Any]) -> list[str]:
    """Return one row of the table; ``first`` is the smallest size."""
    scan, convert = _costs(found), _costs(first)
    (scan_us, scan_cpu), (run_us, run_cpu) = scan
    (_, first_scan), (_, first_run) = convert
    memory = [found["processes"][f"{who}_peak_bytes"] / 1e6 for who in ("driver", "worker")]
    return [
        f"{found['files']:,}".replace(",", " "),
        f"{scan_us:.1f}", f"{scan_cpu:.1f}", f"{scan_cpu / first_scan:.2f}",
        f"{run_us:.1f}", f"{run_cpu:.1f}", f"{run_cpu / first_run:.2f}",
        *(f"{size:.0f}" for size in memory),
    ]  # fmt: skip


def _costs(found: Mapping[str, Any]) -> tuple[tuple[float, float], tuple[float, float]]:
    """Return microseconds a file, of the clock and of the processor: to scan, to convert."""
    threads, us = found["threads"], 1e6 / found["files"]
    scan = [(threads["index"][name] + threads["map"][name]) * us for name in ("wall_s", "driver_s")]
    whole = [threads["convert"]["whole"][name] * us for name in ("wall_s", "driver_s")]
    return (scan[0], scan[1]), (whole[0], whole[1])


def run(sizes: Sequence[int], work: Path, workers: int) -> list[dict[str, Any]]:
    """Measure all sizes, the smallest first."""
    return [measure(files, work, workers) for files in sorted(sizes)]


def main() -> int:
    """Parse the command line, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, nargs="+", default=list(SIZES))
    parser.add_argument("--million", action="store_true", help="also 1 000 000 files: 8 GB of disk, 20 minutes")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--work", type=Path, help="where exports are kept (default: a temporary folder)")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        sizes = [*options.files, *([1_000_000] if options.million else [])]
        found = run(sizes, options.work or Path(scratch), options.workers)
    print("| " + " | ".join(COLUMNS) + " |\n|" + "---|" * len(COLUMNS))
    for one in found:
        print("| " + " | ".join(row_of(one, found[0])) + " |")
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
