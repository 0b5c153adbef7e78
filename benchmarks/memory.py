"""Memory does not grow with a series: a synthetic one of 10 GB, converted under watch.

::

    python -m benchmarks.memory                  # 2 500 slices of 1 024 x 2 048, a file each; then others
    python -m benchmarks.memory --slices 250 --codec none

Headers are real, pixels are holes of sparse files: they take no disk, and read as zeros. Printed is the most resident
memory of the process tree, and what of it is beyond a run on three slices, in shards (64 MiB).
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import struct
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.process import watch
from fastdcm.model import Options
from scripts.make_export import EXPLICIT, Element, Plan, Slot, build_template, make_uid, series_elements

ROWS, COLUMNS, SLICES = 1024, 2048, 2500
XA = "1.2.840.10008.5.1.4.1.1.12.1"
CT = "1.2.840.10008.5.1.4.1.1.2"


def write_sparse(folder: Path, slices: int, *, one_file: bool = False) -> int:
    """Write a series whose pixels are holes.

    Parameters
    ----------
    folder : path
        Made where it is missing.
    slices : int
        Images of 1 024 x 2 048 int16.
    one_file : bool
        One multi-frame file (X-ray angiography, PS3.3 A.14) instead of CT slices.

    Returns
    -------
    int
        Bytes of the pixels.
    """
    folder.mkdir(parents=True, exist_ok=True)
    axial = "1.000000\\0.000000\\0.000000\\0.000000\\1.000000\\0.000000"
    plan = Plan("CT", "P1", "SPARSE", "Sparse", 1, "STANDARD", "1.000000", "ORIGINAL\\PRIMARY\\AXIAL", ROWS, COLUMNS,
                axial, "0.500000\\0.250000", EXPLICIT, False)  # fmt: skip
    elements = list(series_elements(plan))
    frames = slices if one_file else 1
    if one_file:
        elements = [element for element in elements if element.tag != 0x00080016]
        elements += [Element(0x00080016, "UI", XA), Element(0x00280008, "IS", str(frames))]
    template = build_template(elements, EXPLICIT, XA if one_file else CT)
    pixel_bytes = frames * ROWS * COLUMNS * 2
    start = struct.pack("<HH2sHI", 0x7FE0, 0x0010, b"OW", 0, pixel_bytes & 0xFFFFFFFF)
    for k in range(slices // frames):
        values = {slot.name: "0" for slot in _slots(elements)} | {
            "uid": make_uid("sparse", one_file, k), "time": "162500", "acquired": "162503.000000 ",
            "number": str(k + 1), "position": f"0.000\\0.000\\{k:.3f}", "location": f"{k:.3f}",
        }  # fmt: skip
        with open(folder / f"{k:06d}.dcm", "wb") as file:
            file.write(template.fill(values) + start)
            file.truncate(file.tell() + pixel_bytes)
    return slices * ROWS * COLUMNS * 2


def _slots(elements: list[Element]) -> list[Slot]:
    return [element.value for element in elements if isinstance(element.value, Slot)]


def measure(work: Path, slices: int, codec: str, workers: int, *, one_file: bool = False) -> dict[str, Any]:
    """Convert a sparse series of so many slices, and one of three, each in a process of its own."""
    found: dict[str, Any] = {"slices": slices, "codec": codec, "workers": workers, "one_file": one_file}
    shard_bytes = Options().shard_bytes
    for name, count in (("base", 3), ("series", slices)):
        folder = Path(tempfile.mkdtemp(dir=work))
        size = write_sparse(folder / "in", count, one_file=one_file)
        command = [sys.executable, "-m", "fastdcm", "convert", str(folder / "in"), str(folder / "out.zarr"), "--codec",
                   codec, "--workers", str(workers)]  # fmt: skip
        done = watch(command)
        on_disk = sum(path.stat().st_blocks for path in (folder / "in").iterdir()) * 512
        shutil.rmtree(folder)
        found[name] = {"pixel_bytes": size, "input_bytes_on_disk": on_disk, "seconds": done.seconds,
                       "processor_seconds": done.processor_seconds, "peak_bytes": done.tree_peak_bytes}  # fmt: skip
    beyond = found["series"]["peak_bytes"] - found["base"]["peak_bytes"]
    return found | {"shard_bytes": shard_bytes, "shards_a_worker": beyond / shard_bytes / workers}


def run(work: Path, slices: int, workers: int) -> list[dict[str, Any]]:
    """Measure a series of files with the default codec; a tenth of it uncompressed, and as one file."""
    return [
        measure(work, slices, "zstd", workers),
        measure(work, max(slices // 10, 3), "none", workers),
        measure(work, min(slices // 10, 1000), "zstd", workers, one_file=True),
    ]


def main() -> int:
    """Parse the command line, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slices", type=int, default=SLICES)
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--codec", help="only this codec, a file a slice")
    parser.add_argument("--work", type=Path, help="a folder on a file system with sparse files")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.work) as work:
        if options.codec:
            found = [measure(Path(work), options.slices, options.codec, options.workers)]
        else:
            found = run(Path(work), options.slices, options.workers)
    for one in found:
        print(json.dumps(one))
    return 0


if __name__ == "__main__":
    sys.exit(main())
