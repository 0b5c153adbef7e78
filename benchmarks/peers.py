"""The peers as programs: each converts a folder tree, as its fair best use.

::

    python -m benchmarks.peers simpleitk SRC OUT --codec zstd --workers 1

SimpleITK lists each folder once (one ``ReadImageInformation`` a file; ``GetGDCMSeriesIDs`` and one
``GetGDCMSeriesFileNames`` a series read every file once more for each series of the folder), reads each series, and
writes it with zarr-python in the chunks and codec that fastdcm uses. ``--workers`` above 1 is a process pool over
folders, then over series.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt


class Job(NamedTuple):
    """One series to be read by SimpleITK, and where it goes."""

    uid: str
    paths: tuple[str, ...]
    out: str
    codec: str


def list_folder(folder: str) -> dict[str, list[str]]:
    """Return the files of each series of one folder, sorted by position along the slice normal."""
    import SimpleITK as sitk

    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    found: dict[str, list[tuple[float, str]]] = {}
    for path in sorted(Path(folder).iterdir()):
        if not path.is_file():
            continue
        reader = sitk.ImageFileReader()
        reader.SetFileName(str(path))
        try:
            reader.ReadImageInformation()
        except RuntimeError:
            continue
        direction = np.array(reader.GetDirection()).reshape(reader.GetDimension(), -1)
        place = float(np.dot(reader.GetOrigin()[:3], direction[:3, 2]))
        uid = reader.GetMetaData("0020|000e").strip() if reader.HasMetaDataKey("0020|000e") else ""
        found.setdefault(uid, []).append((place, str(path)))
    return {uid: [path for _, path in sorted(files)] for uid, files in found.items()}


def convert_series(job: Job) -> None:
    """Read one series and write it as a sharded Zarr v3 array with its geometry as attributes."""
    import SimpleITK as sitk
    import zarr
    from zarr.codecs import BloscCodec, BloscShuffle

    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    image = sitk.ReadImage(job.paths)
    values = smallest_type(sitk.GetArrayViewFromImage(image))
    chunks, shards = layout(values)
    settings: dict[str, Any] = {
        "clevel": 1,
        "shuffle": BloscShuffle.shuffle,
        "blocksize": math.prod(chunks) * values.itemsize,
    }
    codecs = {"none": None, "lz4": BloscCodec(cname="lz4", **settings), "zstd": BloscCodec(cname="zstd", **settings)}
    array = zarr.create_array(
        Path(job.out) / f"{job.uid}.zarr",
        shape=values.shape,
        dtype=values.dtype,
        chunks=chunks,
        shards=shards,
        compressors=codecs[job.codec],
        attributes={
            "spacing": image.GetSpacing(),
            "origin": image.GetOrigin(),
            "direction": image.GetDirection(),
        },
    )
    array[...] = values


def smallest_type(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return int32 values as int16 where they fit: SimpleITK reads GE CT as int32, twice the bytes."""
    if values.dtype == np.int32 and values.min() >= -32768 and values.max() <= 32767:
        return values.astype(np.int16)
    return values


def layout(values: npt.NDArray[Any]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return chunks and shards of store-format.md for (z, y, x[, samples]) values."""
    z, y, x = values.shape[:3]
    rest = values.shape[3:]
    depth = math.ceil(z / math.ceil(z / 32))
    chunk = (z, min(y, 512), min(x, 512)) if z < 8 else (depth, min(y, 128), min(x, 128))
    chunk = (1, *chunk[1:]) if z < 8 else chunk
    plane_bytes = math.ceil(y / chunk[1]) * chunk[1] * math.ceil(x / chunk[2]) * chunk[2] * values.dtype.itemsize
    deep = max(1, min(math.ceil(z / chunk[0]), 2**26 // (plane_bytes * chunk[0]))) * chunk[0]
    whole = (deep, math.ceil(y / chunk[1]) * chunk[1], math.ceil(x / chunk[2]) * chunk[2])
    return (*chunk, *rest), (*whole, *rest)


def simpleitk(source: Path, out: Path, codec: str, workers: int) -> int:
    """Convert every series below ``source``; return how many there were."""
    folders = [str(source), *(str(path) for path in source.rglob("*") if path.is_dir())]
    with _mapper(workers) as run:
        series: dict[str, list[str]] = {}
        for listing in run(list_folder, folders):
            for uid, paths in listing.items():
                series.setdefault(uid, []).extend(paths)
        jobs = [Job(uid, tuple(paths), str(out), codec) for uid, paths in series.items()]
        jobs.sort(key=lambda job: -len(job.paths))
        for _ in run(convert_series, jobs):
            pass
    return len(series)


@contextmanager
def _mapper(workers: int) -> Iterator[Any]:
    if workers == 1:
        yield lambda function, items: _map_here(function, items)
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        yield pool.map


def _map_here(function: Any, items: Iterable[Any]) -> Iterator[Any]:
    return map(function, items)


def dicom2nifti(source: Path, out: Path) -> int:
    """Convert folder by folder, uncompressed, in the orientation of the files."""
    from dicom2nifti import convert_directory

    out.mkdir(parents=True, exist_ok=True)
    folders = [source, *(path for path in source.rglob("*") if path.is_dir())]
    for folder in folders:
        convert_directory(str(folder), str(out), compression=False, reorient=False)
    return len(folders)


def main() -> int:
    """Run one peer."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("peer", choices=("simpleitk", "dicom2nifti"))
    parser.add_argument("source", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--codec", default="zstd", choices=("zstd", "lz4", "none"))
    parser.add_argument("--workers", type=int, default=1)
    options = parser.parse_args()
    if options.peer == "simpleitk":
        simpleitk(options.source, options.out, options.codec, options.workers)
    else:
        dicom2nifti(options.source, options.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
