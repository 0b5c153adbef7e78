"""Every measurement by one command, and the document that is made of them.

::

    scripts/bench-all                                # measure what results.json lacks, then write
    scripts/bench-all --again --only scan --only start
    scripts/bench-all --render                        # write docs/benchmarks.md from the stored figures alone

Results go to ``docs/benchmarks/results.json`` after every suite, so that a run that was stopped goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.compare import ROOT, machine
from benchmarks.process import as_installed
from benchmarks.suites import SUITES, Lab

RESULTS = ROOT / "docs" / "benchmarks" / "results.json"
MORE_LIBRARIES = ("pydicom", "highdicom", "pyarrow", "distributed", "nibabel")


def measure(results: Path, names: Sequence[str], lab: Lab) -> None:
    """Run suites, and keep each one's figures as soon as they are there."""
    document: dict[str, Any] = json.loads(results.read_text()) if results.exists() else {"suites": {}}
    document["machine"] = machine()
    document["machine"]["versions"] |= {name: version(name) for name in MORE_LIBRARIES}
    document["machine"]["memory_bytes"] = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for name in names:
        print(f"{name} ...", file=sys.stderr, flush=True)
        begin, load = time.perf_counter(), os.getloadavg()[0]
        figures = SUITES[name](lab)
        lab.tidy()
        seconds = time.perf_counter() - begin
        document["suites"][name] = {"seconds": round(seconds, 1), "load_before": round(load, 1), "figures": figures}
        results.parent.mkdir(parents=True, exist_ok=True)
        partial = results.with_suffix(".partial")
        partial.write_text(json.dumps(_rounded(document), indent=1) + "\n")
        partial.replace(results)
        print(f"{name}: {seconds:.0f} s", file=sys.stderr, flush=True)


def _rounded(value: Any) -> Any:
    """Return the same with floats of six digits: more are noise."""
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, dict):
        return {name: _rounded(part) for name, part in value.items()}
    return [_rounded(part) for part in value] if isinstance(value, list | tuple) else value


def main() -> int:
    """Parse the command line, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", nargs="?", type=Path, default=RESULTS)
    parser.add_argument("--only", action="append", choices=list(SUITES), help="only this suite; may be repeated")
    parser.add_argument("--again", action="store_true", help="also what has results already")
    parser.add_argument("--render", action="store_true", help="only write the document")
    parser.add_argument("--docs", type=Path, default=ROOT / "docs", help="where benchmarks.md and scaling.md go")
    parser.add_argument(
        "--work",
        type=Path,
        help="where 15 GB of exports and results go: best in memory, /dev/shm/bench (default: a temporary folder)",
    )
    parser.add_argument("--data", type=Path, help="real DICOM images for the codecs")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--slow-runs", type=int, default=2, help="of programs that take very much longer")
    parser.add_argument("--studies", type=int, default=8, help="of ct-four, 338 MB each")
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--million", action="store_true", help="flat: also 1 000 000 files")
    options = parser.parse_args()
    done = json.loads(options.results.read_text())["suites"] if options.results.exists() else {}
    names = [name for name in options.only or SUITES if options.again or name not in done]
    if not options.render:
        as_installed()
        with tempfile.TemporaryDirectory() as scratch:
            lab = Lab(options.work or Path(scratch), options.data, options.runs, options.slow_runs, options.workers,
                      options.studies, options.million)  # fmt: skip
            lab.work.mkdir(parents=True, exist_ok=True)
            measure(options.results, names, lab)
    from benchmarks.render import write_documents

    write_documents(json.loads(options.results.read_text()), options.docs)
    return 0


if __name__ == "__main__":
    sys.exit(main())
