"""The loops that people write, as programs: pydicom and a stack of slices, and highdicom's volume of a series.

::

    python -m benchmarks.python_peers {pydicom,highdicom} SRC OUT --codec zstd

Each reads every file below SRC once, puts series together by UID, sorts and stacks them, and writes what the program
``simpleitk`` of ``benchmarks.peers`` writes: one sharded Zarr array a series, with spacing, origin and direction. A
series that highdicom refuses is named on standard error.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pydicom

from benchmarks.peers import layout, smallest_type

Array = npt.NDArray[Any]


class Stack(NamedTuple):
    """Values (z, y, x), and where they are: axes in the order x, y, z, LPS, mm."""

    values: Array
    spacing: tuple[float, ...]
    origin: tuple[float, ...]
    direction: Array
    """(3, 3), one axis a column."""


def by_pydicom(datasets: Sequence[pydicom.Dataset]) -> Stack:
    """Sort by the position along the normal (PS3.3 C.7.6.2.1.1), decode, rescale, stack."""
    row, column = np.array(datasets[0].ImageOrientationPatient, float).reshape(2, 3)
    normal = np.cross(row, column)
    placed = sorted((float(np.dot(one.ImagePositionPatient, normal)), k) for k, one in enumerate(datasets))
    slices = [datasets[k] for _, k in placed]
    values = np.stack([one.pixel_array * one.RescaleSlope + one.RescaleIntercept for one in slices])
    down, right = map(float, slices[0].PixelSpacing)
    step = float(np.mean(np.diff([place for place, _ in placed]))) if len(slices) > 1 else 1.0
    origin = tuple(map(float, slices[0].ImagePositionPatient))
    return Stack(values.astype(np.int16), (right, down, step), origin, np.stack([row, column, normal], axis=1))


def by_highdicom(datasets: Sequence[pydicom.Dataset]) -> Stack:
    """Ask highdicom for the volume, with its axes (slice, row, column) turned to (x, y, z), right-handed."""
    import highdicom

    volume = highdicom.get_volume_from_series(list(datasets), apply_voi_transform=False, apply_presentation_lut=False)
    array, axes, origin = volume.array, volume.affine[:3, [2, 1, 0]], volume.affine[:3, 3]
    if np.linalg.det(axes) < 0:
        array, origin = array[::-1], origin + axes[:, 2] * (len(array) - 1)
        axes = axes * [1, 1, -1]
    spacing = np.linalg.norm(axes, axis=0)
    values = smallest_type(np.rint(array).astype(np.int32))
    return Stack(values, tuple(spacing.tolist()), tuple(origin.tolist()), axes / spacing)


PEERS: dict[str, Callable[[Sequence[pydicom.Dataset]], Stack]] = {"pydicom": by_pydicom, "highdicom": by_highdicom}


def write(stack: Stack, path: Path, codec: str) -> None:
    """Write one sharded Zarr v3 array."""
    import zarr
    from zarr.codecs import BloscCodec, BloscShuffle

    values = stack.values
    chunks, shards = layout(values)
    blosc = BloscCodec(
        cname="lz4" if codec == "lz4" else "zstd",
        clevel=1,
        shuffle=BloscShuffle.shuffle,
        blocksize=math.prod(chunks) * values.itemsize,
    )
    where: dict[str, Any] = {
        "spacing": stack.spacing,
        "origin": stack.origin,
        "direction": stack.direction.ravel().tolist(),
    }
    array = zarr.create_array(
        path,
        shape=values.shape,
        dtype=values.dtype,
        chunks=chunks,
        shards=shards,
        compressors=None if codec == "none" else blosc,
        attributes=where,
    )
    array[...] = values


def main() -> int:
    """Run one peer."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("peer", choices=sorted(PEERS))
    parser.add_argument("source", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--codec", default="zstd", choices=("zstd", "lz4", "none"))
    options = parser.parse_args()
    series: dict[str, list[pydicom.Dataset]] = {}
    for path in sorted(path for path in options.source.rglob("*") if path.is_file()):
        dataset = pydicom.dcmread(path)
        series.setdefault(str(dataset.SeriesInstanceUID), []).append(dataset)
    for uid in list(series):
        try:
            stack = PEERS[options.peer](series.pop(uid))
        except (ValueError, RuntimeError, AttributeError) as error:
            print(f"{uid}: {error}", file=sys.stderr)
            continue
        write(stack, options.out / f"{uid}.zarr", options.codec)
    return 0


if __name__ == "__main__":
    sys.exit(main())
