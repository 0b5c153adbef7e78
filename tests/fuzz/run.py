"""Convert hostile folders in a process of its own, under a limit of memory and time, and judge how that ended.

By hand: ``python -m tests.fuzz.run COUNT SEED [OPTION...]`` for as long as you like.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import subprocess
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq

from tests.fuzz.mutate import awkward_files, good_files, installed_files, monsters, mutated

MEMORY_BYTES = 3 * 2**30
PR_CAPBSET_DROP, CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH = 24, 1, 2


@dataclass(frozen=True, slots=True)
class Ended:
    """How a run of the command line ended."""

    code: int
    stderr: str
    outcomes: dict[str, tuple[str, str | None]]
    """Of each path."""


def convert(source: Path, out: Path, *options: str, seconds: float = 300, memory_bytes: int = MEMORY_BYTES) -> Ended:
    """Run ``fastdcm convert`` with bounded address space; the time is an error of its own (TimeoutExpired)."""

    def limit() -> None:
        _obey_modes()
        resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))

    command = [sys.executable, "-m", "fastdcm", "convert", str(source), str(out), "--workers", "2", *options]
    done = subprocess.run(
        command, capture_output=True, timeout=seconds, preexec_fn=limit, check=False, stdin=subprocess.DEVNULL
    )
    table = out / "files.parquet"
    rows = pq.read_table(table).to_pylist() if table.exists() else []
    outcomes = {row["path"]: (row["outcome"], row["code"]) for row in rows}
    stderr = done.stderr.decode("utf-8", "replace")
    if len(outcomes) != len(rows):
        stderr += f"\n{len(rows)} rows for {len(outcomes)} paths"
    return Ended(done.returncode, stderr, outcomes)


def _obey_modes() -> None:
    """Let permissions hold for root too: what is executed next may not override them (capabilities(7))."""
    if sys.platform == "linux" and os.geteuid() == 0:
        prctl = ctypes.CDLL(None).prctl
        for capability in (CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH):
            prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)


def problems(ended: Ended, expected: int) -> list[str]:
    """Return what is wrong with how a run ended; ``expected`` is the number of files."""
    found = []
    if ended.code not in (0, 1):
        found.append(f"exit code {ended.code}")
    if "Traceback" in ended.stderr:
        found.append("a traceback")
    if len(ended.outcomes) != expected:
        found.append(f"{len(ended.outcomes)} outcomes for {expected} files")
    internal = [path for path, (_, code) in ended.outcomes.items() if code == "internal"]
    if internal:
        found.append(f"internal errors: {internal[:5]}")
    return found


def count_files(folder: Path) -> int:
    """Count what must have an outcome: all that is no folder (or a link to one), and folders that nobody may list."""
    total = 0
    for root, folders, files in os.walk(folder):
        locked = [name for name in folders if os.stat(os.path.join(root, name)).st_mode & 0o777 == 0]
        total += len(files) + len(locked)
        folders[:] = [name for name in folders if name not in locked]
    return total


def main(count: int, seed: int, *options: str) -> int:
    """Convert ``count`` mutated files and the monsters; say what was found, return the number of problems."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        seeds = good_files(folder / "good") + installed_files()
        source = folder / "in"
        source.mkdir()
        kinds: Counter[str] = Counter()
        for number, (kind, data) in enumerate(mutated(seeds, count, seed)):
            kinds[kind] += 1
            (source / f"{number:06d}-{kind}").write_bytes(data)
        for name, data in monsters(seeds[1]).items():
            (source / f"monster-{name}").write_bytes(data)
        awkward_files(source / "awkward", seeds[1])
        ended = convert(source, folder / "out.zarr", *options, seconds=1800)
        wrong = problems(ended, count_files(source))
        tally = Counter(f"{outcome}/{code}" for outcome, code in ended.outcomes.values())
        sys.stdout.write(
            json.dumps({"mutations": kinds, "outcomes": dict(tally.most_common()), "problems": wrong}, indent=1) + "\n"
        )
        sys.stdout.write(ended.stderr[-3000:])
    return len(wrong)


if __name__ == "__main__":
    sys.exit(bool(main(int(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:])))
