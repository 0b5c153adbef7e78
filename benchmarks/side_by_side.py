"""Whole programs on one export, in turns: the fast ones more often than the slow ones, each compared with fastdcm once.

Runs and checks are those of ``benchmarks.compare``. What a program wrote is measured and removed as soon as it is
compared, so that a comparison of 2.7 GB needs little room.
"""

from __future__ import annotations

import shutil
import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.compare import CHECKS, Program, Time, check_simpleitk, programs, run_once, warm

PYTHON_PEERS = ("pydicom", "highdicom")
GZIP = "dcm2niix -z y"
OURS = "fastdcm"


def all_programs(workers: int, codec: str) -> dict[str, Program]:
    """Return every program by its name, fastdcm first."""
    found = {program.name: program for program in programs(workers, codec)}
    plain = found["dcm2niix -z n"]
    found[GZIP] = Program(GZIP, tuple("y" if word == "n" else word for word in plain.command), plain.fails_with)
    for name in PYTHON_PEERS:
        command = (sys.executable, "-m", "benchmarks.python_peers", name, "SRC", "OUT", "--codec", codec)
        found[name] = Program(name, command)
    return found


def compare(source: Path, work: Path, chosen: Mapping[str, int], workers: int, codec: str,
            unchecked: Sequence[str] = ()) -> dict[str, Any]:  # fmt: skip
    """Run programs in turns.

    Parameters
    ----------
    source : path
        The export; read once before, so that it is in the page cache.
    work : path
        Where results go; every run gets a fresh place.
    chosen : mapping
        How often each program runs; fastdcm is one of them.
    workers, codec
        Of fastdcm, the roofline and SimpleITK's pool.
    unchecked : sequence of str
        Programs whose results are not compared: they are elsewhere, on fewer files.

    Returns
    -------
    dict
        By program: seconds and processor seconds of every run, bytes written, and differences (None: not compared).
    """
    files, size = warm(source)
    every = all_programs(workers, codec)
    ordered = [OURS, *(name for name in chosen if name != OURS)]
    times: dict[str, list[Time]] = {name: [] for name in ordered}
    written: dict[str, int] = {}
    differences: dict[str, list[str] | None] = dict.fromkeys(ordered)
    for turn in range(max(chosen.values())):
        with tempfile.TemporaryDirectory(dir=work) as folder:
            for name in ordered:
                if turn >= chosen[name]:
                    continue
                out = Path(folder, f"out-{ordered.index(name)}")
                times[name].append(run_once(every[name], source, out))
                print(f"  {source.name} {codec} {turn + 1}: {name} {times[name][-1].seconds:.2f} s", file=sys.stderr)
                if turn == 0:
                    written[name] = tree_bytes(out)
                    differences[name] = None if name in unchecked else _check(name, Path(folder, "out-0"), out)
                if name != OURS:
                    shutil.rmtree(out)
    return {
        "workload": source.name, "codec": codec, "workers": workers, "files": files, "bytes": size,
        "programs": {name: _figures(times[name], times[OURS], written[name], differences[name]) for name in ordered},
    }  # fmt: skip


def _figures(times: Sequence[Time], ours: Sequence[Time], written: int, found: list[str] | None) -> dict[str, Any]:
    seconds = [time.seconds for time in times]
    used = [time.processor_seconds for time in times]
    least = [statistics.median(getattr(time, name) for time in ours) for name in Time._fields]
    return {
        "runs": len(times), "seconds": seconds, "processor_seconds": used, "median_s": statistics.median(seconds),
        "median_processor_s": statistics.median(used), "ratio": statistics.median(seconds) / least[0],
        "processor_ratio": statistics.median(used) / least[1], "bytes_written": written, "differences": found,
    }  # fmt: skip


def _check(name: str, ours: Path, theirs: Path) -> list[str] | None:
    if name in PYTHON_PEERS:
        return [text.replace("SimpleITK", name) for text in check_simpleitk(ours, theirs)]
    check = CHECKS.get(name)
    found: list[str] | None = check(ours, theirs) if check else None
    return found


def tree_bytes(folder: Path) -> int:
    """Return the bytes of all files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
