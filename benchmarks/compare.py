"""Whole programs side by side on the same files: a table of ratios, and whether the results are the same.

::

    scripts/bench                                     # ct-four, five alternating runs
    scripts/bench ct-four mr-small --studies 8 --runs 7 --codec lz4 --json bench.json

Every program runs as a process of its own with the page cache warm, one ``sync`` included in its time. The ratio is
the median time of the peer over that of fastdcm: above 1 fastdcm is faster; that of the roofline (``roofline.py``) is
the share of it that fastdcm reaches. Processor seconds (user and system) do not depend on who else uses the machine.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import fastdcm
from benchmarks.process import as_installed
from fastdcm.load.volume import Store, Volume

ROOT = Path(__file__).parent.parent
LIBRARIES = ("fastdcm", "numpy", "zarr", "numcodecs", "imagecodecs", "dask", "SimpleITK", "dcm2niix", "dicom2nifti")


class Program(NamedTuple):
    """One program of the comparison: its command for a source and a target."""

    name: str
    command: tuple[str, ...]
    fails_with: tuple[int, ...] = (0,)
    """Exit codes that count as done."""


def programs(workers: int, codec: str, chosen: Sequence[str] | None = None) -> list[Program]:
    """Return the programs to run (default all), fastdcm first."""
    python = sys.executable
    peer = (python, "-m", "benchmarks.peers")
    itk = (*peer, "simpleitk", "SRC", "OUT", "--codec", codec)
    roofline = (python, "-m", "benchmarks.roofline", "SRC", "OUT", "--codec", codec, "--workers", str(workers))
    ours = (python, "-m", "fastdcm", "convert", "SRC", "OUT", "--codec", codec, "--workers")
    dcm2niix = str(Path(python).parent / "dcm2niix")
    everything = [
        Program("fastdcm", (*ours, str(workers)), (0, 1)),
        Program("fastdcm, 1 worker", (*ours, "1"), (0, 1)),
        Program("roofline", roofline),
        Program("simpleitk", itk),
        Program("simpleitk, pool", (*itk, "--workers", str(workers))),
        Program("dcm2niix -z n", (dcm2niix, "-z", "n", "-o", "OUT", "SRC"), (0, 1, 8)),
        Program("dicom2nifti", (*peer, "dicom2nifti", "SRC", "OUT")),
        Program("cp -r", ("cp", "-r", "SRC", "OUT")),
    ]  # fmt: skip
    return [program for program in everything if chosen is None or program.name in ("fastdcm", *chosen)]


class Time(NamedTuple):
    """What one run took."""

    seconds: float
    processor_seconds: float


def run_once(program: Program, source: Path, out: Path) -> Time:
    """Run a program once, with one ``sync``."""
    shutil.rmtree(out, ignore_errors=True)
    shutil.rmtree(Path(f"{out}.work"), ignore_errors=True)
    if program.name.startswith("dcm2niix"):
        out.mkdir()
    command = [{"SRC": str(source), "OUT": str(out)}.get(word, word) for word in program.command]
    os.sync()
    start, used = time.perf_counter(), _children_seconds()
    done = subprocess.run(command, cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    os.sync()
    seconds = time.perf_counter() - start
    if done.returncode not in program.fails_with:
        raise SystemExit(f"{program.name} ended with {done.returncode}:\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
    return Time(seconds, _children_seconds() - used)


def _children_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def warm(source: Path) -> tuple[int, int]:
    """Read every file once; return how many files and bytes there are."""
    sizes = [len(path.read_bytes()) for path in source.rglob("*") if path.is_file()]
    return len(sizes), sum(sizes)


# ---------------------------------------------------------------------------- are the results the same?


def volumes_of(store: Path) -> Sequence[Volume]:
    """Return the volumes of a store."""
    opened = fastdcm.open(store)
    assert isinstance(opened, Store)
    return opened.volumes


def check_simpleitk(store: Path, out: Path) -> list[str]:
    """Compare fastdcm's volumes with the arrays that the SimpleITK program wrote; return every difference."""
    import zarr

    found = []
    for volume in volumes_of(store):
        uid = volume.attributes["fastdcm"]["identity"]["series_uid"]
        path = out / f"{uid}.zarr"
        if not path.exists():
            found.append(f"{uid}: SimpleITK wrote nothing")
            continue
        array = zarr.open_array(path, mode="r")
        theirs, ours = np.asarray(array[...]), volume.numpy()
        if theirs.shape != ours.shape:
            found.append(f"{uid}: shape {ours.shape} against SimpleITK's {theirs.shape}")
            continue
        if not np.array_equal(theirs, ours):
            found.append(f"{uid}: {np.count_nonzero(theirs != ours)} voxels differ")
        geometry, theirs_of = volume.attributes["fastdcm"]["geometry"], dict[str, Any](array.attrs)
        for name in ("spacing", "origin", "direction"):
            value = geometry.get(name)
            if value is None:
                found.append(f"{uid}: no {name} is known, SimpleITK says {theirs_of[name]}")
            elif not np.allclose(np.ravel(value), theirs_of[name], atol=1e-4):
                why = " (one slice: from its thickness, which SimpleITK does not use)" if len(ours) == 1 else ""
                found.append(f"{uid}: {name} {np.ravel(value)} against SimpleITK's {theirs_of[name]}{why}")
    return found


def check_nifti(store: Path, out: Path) -> list[str]:
    """Look for each volume of more than one slice among the NIfTI files: equal voxels at equal physical points."""
    import nibabel

    images = [nibabel.Nifti1Image.from_filename(path) for path in sorted(out.rglob("*.nii"))]
    found = []
    for volume in volumes_of(store):
        if volume.shape[-3] == 1 or not volume.attributes["fastdcm"]["geometry"].get("affine"):
            continue
        if len(volume.shape) > 3:
            continue  # which repeat is which has no common name among the programs
        ours = nibabel.as_closest_canonical(volume.to_nibabel())
        verdicts = [_differ(ours, nibabel.as_closest_canonical(image)) for image in images]
        if None not in verdicts:
            why = "; ".join(sorted({verdict for verdict in verdicts if verdict})) or "no file"
            found.append(f"{volume.attributes['fastdcm']['identity']['series_uid']}: {why}")
    return found


def _differ(ours: Any, theirs: Any) -> str | None:
    """Return why two images in canonical orientation are not the same, or None."""
    if ours.shape != theirs.shape:
        return "another shape"
    if not np.allclose(ours.affine, theirs.affine, atol=1e-2):
        return "another place"
    count = np.count_nonzero(np.asarray(ours.dataobj) != np.asarray(theirs.dataobj))
    return f"{count} voxels differ" if count else None


CHECKS: Mapping[str, Any] = {
    "simpleitk": check_simpleitk,
    "simpleitk, pool": check_simpleitk,
    "dcm2niix -z n": check_nifti,
    "dicom2nifti": check_nifti,
}


# ---------------------------------------------------------------------------- the table


def measure(source: Path, work: Path, chosen: Sequence[Program], runs: int) -> dict[str, Any]:
    """Run the programs alternately on one export; return times, medians, ratios and differences."""
    files, size = warm(source)
    times: dict[str, list[Time]] = {program.name: [] for program in chosen}
    outs = {program.name: work / f"out-{k}" for k, program in enumerate(chosen)}
    for run in range(runs):
        for program in chosen:
            times[program.name].append(run_once(program, source, outs[program.name]))
            print(f"run {run + 1}: {program.name} {times[program.name][-1].seconds:.2f} s", file=sys.stderr)
    medians = {name: statistics.median(time.seconds for time in found) for name, found in times.items()}
    used = {name: statistics.median(time.processor_seconds for time in found) for name, found in times.items()}
    differences = {
        name: CHECKS[name](outs["fastdcm"], outs[name]) for name in times if name in CHECKS
    }  # fmt: skip
    return {
        "files": files,
        "bytes": size,
        "seconds": {name: [time.seconds for time in found] for name, found in times.items()},
        "processor_seconds": {name: [time.processor_seconds for time in found] for name, found in times.items()},
        "median": medians,
        "median_processor": used,
        "processor_ratio": {name: median / used["fastdcm"] for name, median in used.items()},
        "ratio": {name: median / medians["fastdcm"] for name, median in medians.items()},
        "differences": differences,
    }


def print_table(workload: str, result: Mapping[str, Any]) -> None:
    """Print one workload as a table."""
    print(f"\n{workload}: {result['files']} files, {result['bytes'] / 1e6:.0f} MB")
    heads = f"{'program':<20}{'median s':>10}{'MB/s':>8}{'ratio':>8}{'processor s':>13}{'ratio':>8}"
    print(f"{heads}  same values and geometry")
    for name, median in result["median"].items():
        found = result["differences"].get(name)
        verdict = "" if found is None else "yes" if not found else f"NO: {len(found)} differences"
        rate = result["bytes"] / 1e6 / median
        print(
            f"{name:<20}{median:>10.2f}{rate:>8.0f}{result['ratio'][name]:>8.2f}"
            f"{result['median_processor'][name]:>13.2f}{result['processor_ratio'][name]:>8.2f}  {verdict}"
        )
    for name, found in result["differences"].items():
        for text in found:
            print(f"  {name}: {text}")


def machine() -> dict[str, Any]:
    """Return what the figures depend on."""
    versions = {}
    for library in LIBRARIES:
        try:
            versions[library] = version(library)
        except PackageNotFoundError:
            versions[library] = "not installed"
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    model = next(
        (line.split(":")[1].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")), ""
    )  # fmt: skip
    return {
        "python": platform.python_version(),
        "system": platform.platform(),
        "processor": model,
        "cores": cores,
        "versions": versions,
    }


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines() if Path(path).exists() else []


def main() -> int:
    """Parse the command line, run, print."""
    peers = [program.name for program in programs(1, "zstd") if program.name != "fastdcm"]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workloads", nargs="*", default=["ct-four"], help="of scripts/make_export.py (default ct-four)")
    parser.add_argument("--source", type=Path, help="measure on this folder instead")
    parser.add_argument("--peer", action="append", choices=peers, help="only these (default all)")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--codec", default="zstd", choices=("zstd", "lz4", "none"))
    parser.add_argument("--scale", default="1")
    parser.add_argument("--studies", default="1")
    parser.add_argument("--json", type=Path, help="write everything measured to this file")
    parser.add_argument("--work", type=Path, help="where exports and results go (default: a temporary folder)")
    options = parser.parse_args()
    as_installed()
    chosen = programs(options.workers, options.codec, options.peer)
    document: dict[str, Any] = {"machine": machine(), "arguments": sys.argv[1:], "workloads": {}}
    with tempfile.TemporaryDirectory(dir=options.work) as folder:
        for workload in ["source"] if options.source else options.workloads:
            source = options.source or Path(folder) / workload
            if not options.source:
                make = [sys.executable, "scripts/make_export.py", workload, str(source)]
                make += ["--scale", options.scale, "--studies", options.studies]
                subprocess.run(make, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
            result = measure(source, Path(folder), chosen, options.runs)
            print_table(workload, result)
            document["workloads"][workload] = result
    if options.json:
        options.json.write_text(json.dumps(document, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
