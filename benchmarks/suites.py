"""The suites of ``benchmarks.report``: each returns plain figures for the results file, and can be run alone.

What a figure means stands where it is measured: in ``compare``, ``roofline``, ``scan``, ``codecs``, ``decoders``,
``map_scale``, ``flat``, ``memory`` and ``stages``.
"""

from __future__ import annotations

import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks import flat, memory
from benchmarks.compare import programs, run_once, warm
from benchmarks.process import ROOT, watch
from benchmarks.side_by_side import compare

Json = Any
PLACE = "place-"
READS = 40
MODALITIES = ("CT", "MR", "PT", "CR")


class Lab(NamedTuple):
    """Where and how much is measured."""

    work: Path
    """Exports are kept here from suite to suite."""
    data: Path | None
    """Folder of real DICOM images, for the codecs."""
    runs: int
    slow_runs: int
    """Of programs that take more than ten times as long as fastdcm."""
    workers: int
    studies: int
    """Of the large ``ct-four``."""
    million: bool

    def export(self, name: str, workload: str, *options: str) -> Path:
        """Return an export, made where it is missing."""
        folder = self.work / "exports" / name
        if not folder.exists():
            folder.parent.mkdir(parents=True, exist_ok=True)
            partial = folder.with_name(f"{name}.partial")
            command = [sys.executable, "scripts/make_export.py", workload, str(partial), *options]
            subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
            partial.rename(folder)
        return folder

    def one_study(self) -> Path:
        """Return ``ct-four``."""
        return self.export("ct-four", "ct-four")

    def large(self) -> Path:
        """Return ``ct-four`` for several patients."""
        return self.export(f"ct-four-x{self.studies}", "ct-four", "--studies", str(self.studies))

    def place(self) -> Path:
        """Return a fresh folder; it goes when the suite is done."""
        return Path(tempfile.mkdtemp(dir=self.work, prefix=PLACE))

    def tidy(self) -> None:
        """Remove what a suite left; exports stay for the next one."""
        for place in self.work.glob(f"{PLACE}*"):
            shutil.rmtree(place)


def python(*words: str) -> str:
    """Run a module of this interpreter in the project's folder, and return what it printed."""
    command = [sys.executable, "-m", *words]
    return subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout


# ---------------------------------------------------------------------------- whole programs


def convert(lab: Lab, codec: str) -> Json:
    """Return ``ct-four`` of several patients, with one codec."""
    often, seldom = lab.runs, lab.slow_runs
    chosen = {
        "fastdcm": often, "fastdcm, 1 worker": often, "roofline": often, "cp -r": often, "dcm2niix -z n": often,
        "simpleitk": seldom, "simpleitk, pool": seldom,
    }  # fmt: skip
    if codec == "lz4":  # neither depends on the codec
        del chosen["cp -r"], chosen["dcm2niix -z n"]
    return compare(lab.large(), lab.place(), chosen, lab.workers, codec, unchecked=("dcm2niix -z n",))


def peers(lab: Lab) -> Json:
    """Return ``ct-four``, one patient, with every program there is, and what each wrote."""
    names = ("fastdcm", "dcm2niix -z n", "dcm2niix -z y", "simpleitk", "simpleitk, pool", "dicom2nifti", "pydicom",
             "highdicom")  # fmt: skip
    chosen = {name: lab.runs if name in ("fastdcm", "dcm2niix -z n") else lab.slow_runs for name in names}
    return compare(lab.one_study(), lab.place(), chosen, lab.workers, "zstd", unchecked=("dcm2niix -z y",))


def small(lab: Lab) -> Json:
    """Return one-image series and small 4-D images, beside the roofline; and what one more image costs."""
    some = {"fastdcm": lab.runs, "fastdcm, 1 worker": lab.runs, "roofline": lab.runs}
    found = {}
    for name, workload, scale in (("cr-500", "cr-singles", "0.25"), ("cr-2500", "cr-singles", "1.25"),
                                  ("mr-small", "mr-small", "4")):  # fmt: skip
        source = lab.export(name, workload, "--scale", scale)
        found[name] = compare(source, lab.place(), some, lab.workers, "zstd")
    few, many = found["cr-500"], found["cr-2500"]
    images = many["files"] - few["files"]
    found["ms_an_image"] = {
        name: 1000 * (many["programs"][name]["median_s"] - few["programs"][name]["median_s"]) / images for name in some
    }
    return found


# ---------------------------------------------------------------------------- single stages


def scan(lab: Lab) -> Json:
    """Return the scan beside its floor and SimpleITK's listing."""
    out = lab.place() / "scan.json"
    folders = [lab.one_study(), lab.large()]
    python("benchmarks.scan", *map(str, folders), "--json", str(out))
    figures: Mapping[str, Json] = json.loads(out.read_text())["us_a_file"]
    return {Path(folder).name: found for folder, found in figures.items()}


def map_scale(_: Lab) -> Json:
    """Return grouping and planning of synthetic indexes."""
    long = python("benchmarks.map_scale", "--rows", "10000", "100000", "1000000", "--series-length", "256")
    lone = python("benchmarks.map_scale", "--rows", "10000", "--series-length", "1")
    return [json.loads(line) for line in (long + lone).splitlines()]


def decoders(lab: Lab) -> Json:
    """Return what reading a compressed frame costs beside the decoder alone: 20 frames of each syntax."""
    return read_tables(python("benchmarks.decoders", str(lab.export("compressed-20", "compressed", "--scale", "0.3"))))


def codecs(lab: Lab) -> Json:
    """Return codecs on real images; without a folder of them, on the synthetic CT."""
    source = lab.data or lab.export("ct-small", "ct-four", "--scale", "0.2")
    only = [word for name in MODALITIES for word in ("--modality", name)]
    return {"source": "real images" if lab.data else "ct-four",
            "tables": read_tables(python("benchmarks.codecs", str(source), *only))}  # fmt: skip


def read_tables(text: str) -> list[dict[str, Json]]:
    """Return the Markdown tables of a text: title (``### ...``), columns, rows."""
    found: list[dict[str, Json]] = []
    title = ""
    for line in text.splitlines():
        if line.startswith("### "):
            title = line[4:]
        elif line.startswith("|"):
            cells = [cell.strip() for cell in line.strip("|").split("|")]
            if not found or found[-1]["title"] != title:
                found.append({"title": title, "columns": cells, "rows": []})
            elif set(line) - set("|-"):
                found[-1]["rows"].append(cells)
    return found


def flat_cost(lab: Lab) -> Json:
    """Return what a file costs at 1 000 to 100 000 (or 1 000 000) of them."""
    sizes = [*flat.SIZES, *([1_000_000] if lab.million else [])]
    folder = lab.work / "exports"
    folder.mkdir(parents=True, exist_ok=True)
    return flat.run(sizes, folder, lab.workers)


def memory_bound(lab: Lab) -> Json:
    """Return the memory of converting 10 GB."""
    return memory.run(lab.place(), memory.SLICES, lab.workers)


def start(lab: Lab) -> Json:
    """Return seconds until ``--help`` has answered, and to convert ten slices, beside two imports."""
    source = lab.export("ten", "ct-four", "--scale", "0.04")
    for path in sorted(source.iterdir())[10:]:
        path.unlink()
    place = lab.place()
    commands: dict[str, list[str]] = {
        "import numpy, pyarrow": ["-c", "import numpy, pyarrow"],
        "fastdcm --help": ["-m", "fastdcm", "--help"],
        "fastdcm convert, 10 slices": ["-m", "fastdcm", "convert", str(source), "OUT"],
    }
    times: dict[str, list[float]] = {name: [] for name in commands}
    for turn in range(2 * lab.runs + 1):
        for name, words in commands.items():
            command = [sys.executable, *(str(place / str(turn)) if word == "OUT" else word for word in words)]
            times[name].append(watch(command).seconds)
    return {name: {"median_s": statistics.median(found), "least_s": min(found), "runs": len(found)}
            for name, found in times.items()}  # fmt: skip


def reading(lab: Lab) -> Json:
    """Return random 96-cubed patches and slices of a store, beside plain zarr-python and SimpleITK on the series."""
    import zarr

    import fastdcm

    source, out = lab.one_study(), lab.place() / "out.zarr"
    run_once(programs(lab.workers, "zstd", [])[0], source, out)
    found = fastdcm.open(out)
    assert isinstance(found, fastdcm.Store)
    volume = max(found.volumes, key=lambda one: one.shape)
    plain: Any = zarr.open_array(volume.path / "0" / "image", mode="r")
    rng = np.random.default_rng(1)
    times: dict[str, list[float]] = {}
    for _ in range(READS):
        for name, size in (("patch", (96, 96, 96)), ("slice", (1, *volume.shape[1:]))):
            low = [int(rng.integers(0, n - length + 1)) for n, length in zip(volume.shape, size, strict=True)]
            box = tuple(slice(start, start + length) for start, length in zip(low, size, strict=True))
            ours = _time(f"{name}, fastdcm", times, volume.numpy, box)
            np.testing.assert_array_equal(ours, _time(f"{name}, zarr-python", times, plain.__getitem__, box))
    paths = _paths_of(source, volume.attributes["fastdcm"]["identity"]["series_uid"])
    for _ in range(3):
        values = _time("the series, SimpleITK", times, _read_by_simpleitk, paths)
    np.testing.assert_array_equal(values, volume.numpy())
    return {"shape": volume.shape, "median_ms": {name: 1000 * statistics.median(one) for name, one in times.items()}}


def _time(name: str, times: dict[str, list[float]], work: Callable[[Any], Any], argument: Any) -> Any:
    begin = time.perf_counter()
    found = work(argument)
    times.setdefault(name, []).append(time.perf_counter() - begin)
    return found


def _paths_of(source: Path, series_uid: str) -> Sequence[str]:
    from benchmarks.peers import list_folder

    return list_folder(str(source))[series_uid]


def _read_by_simpleitk(paths: Sequence[str]) -> object:
    import SimpleITK as sitk

    return sitk.GetArrayFromImage(sitk.ReadImage(paths))


# ---------------------------------------------------------------------------- for the model of a run


def stages(lab: Lab) -> Json:
    """Return the stages of conversions, with threads and with processes; and what one task costs Dask's driver."""
    one, large = lab.one_study(), lab.large()
    cr = lab.export("cr-2500", "cr-singles", "--scale", "1.25")
    tiny = flat.make_tiny(lab.work / "exports", 10_000)
    big = flat.make_tiny(lab.work / "exports", 100_000)
    found = []
    for source in (one, large, cr, tiny, big):
        warm(source)
        ways = [("--workers", "1"), ("--workers", "2"), ("--workers", "2", "--scheduler", "processes")]
        wanted = ways[:1] if source is big else ways  # the others of that one are in ``flat``
        found += [flat.stages(source, lab.place() / "out", *way) for way in wanted]
    return {"runs": found, "store": _entries(lab, tiny, cr), "task_us": task_cost()}


def _entries(lab: Lab, *sources: Path) -> Json:
    """Return how many files and folders a volume becomes, and the bytes of the journal a file."""
    import fastdcm

    found = {}
    for source in sources:
        out = lab.place() / "out.zarr"
        report = fastdcm.convert(source, out)
        found[source.name] = {
            "entries_a_volume": sum(1 for _ in out.rglob("*")) / report.volumes["written"],
            "journal_bytes_a_file": Path(f"{out}.work", "journal.jsonl").stat().st_size / report.files,
        }
    return found


def task_cost(tasks: int = 2000) -> float:
    """Return processor microseconds of the driver, Dask's scheduler included, for a task that does nothing."""
    from fastdcm.model import Resources
    from fastdcm.run.execute import map_tasks, start_engine

    with start_engine(Resources(workers=1, scheduler="processes")) as engine:
        list(map_tasks(len, [""] * 100, engine))
        before = time.process_time()
        list(map_tasks(len, [""] * tasks, engine, window=256))  # as many as a cluster has in flight
        return (time.process_time() - before) / tasks * 1e6


SUITES: Mapping[str, Callable[[Lab], Json]] = {
    "start": start,
    "scan": scan,
    "peers": peers,
    "convert-zstd": lambda lab: convert(lab, "zstd"),
    "convert-lz4": lambda lab: convert(lab, "lz4"),
    "convert-none": lambda lab: convert(lab, "none"),
    "small": small,
    "decoders": decoders,
    "codecs": codecs,
    "reading": reading,
    "map_scale": map_scale,
    "flat": flat_cost,
    "memory": memory_bound,
    "stages": stages,
}
