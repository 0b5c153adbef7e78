"""Compressed input: what reading a frame costs beside the fastest decoder alone.

::

    python -m benchmarks.decoders SRC                 # an export by scripts/make_export.py compressed

For each transfer syntax, processor milliseconds a frame, the best of several runs in one thread: the decoder on bytes
in memory; ``read_cells`` (open, read, find the frame, check, decode, values, into the block); and a whole task (also
cut, hash, encode, write, tags), with the share of each that is the decoder.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import imagecodecs
import numpy as np

from benchmarks.process import best
from fastdcm.model import Options, Resources, ShardTask
from fastdcm.pixels.file import open_source
from fastdcm.pixels.frame import encapsulated_bytes, layout_of
from fastdcm.pixels.read import read_cells
from fastdcm.run.execute import start_engine
from fastdcm.run.survey import survey_on
from fastdcm.run.task import write_shard
from fastdcm.series.plan import shard_tasks

RUNS = 5
DECODERS: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "1.2.840.10008.1.2.4.57": ("JPEG lossless", imagecodecs.jpeg8_decode),
    "1.2.840.10008.1.2.4.70": ("JPEG lossless", imagecodecs.jpeg8_decode),
    "1.2.840.10008.1.2.4.80": ("JPEG-LS", imagecodecs.jpegls_decode),
    "1.2.840.10008.1.2.4.90": ("JPEG 2000", lambda data: imagecodecs.jpeg2k_decode(data, numthreads=1)),
    "1.2.840.10008.1.2.5": ("RLE", lambda data: imagecodecs.dicomrle_decode(data, "<i2")),
}


def tasks_of(source: str, target: str) -> list[ShardTask]:
    """Return what a conversion of the folder would do."""
    with start_engine(Resources(workers=1)) as engine:
        found = survey_on(engine, [source], Options())
    plans = [plan for series in found.series for plan in series.plans]
    return [task for number, plan in enumerate(plans) for task in shard_tasks(plan, found.index, f"{target}/{number}")]


def main() -> int:
    """Parse the command line, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source")
    parser.add_argument("--codec", default="zstd")
    options = parser.parse_args()
    seconds: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for task in tasks_of(options.source, folder):
            sources = [source for source in task.sources if source is not None]
            if not sources or sources[0].format.transfer_syntax not in DECODERS:
                continue
            name, decode = DECODERS[sources[0].format.transfer_syntax]
            data = []
            for source in sources:
                with open_source(source) as file:
                    data.append(encapsulated_bytes(file, layout_of(file, source, expand_palette=False), source.frame))
            out = np.empty((len(sources), *task.array.shape[-2:]), task.array.dtype)
            task = replace(task, array=replace(task.array, codec=options.codec))
            total = seconds.setdefault(name, [0.0, 0.0, 0.0, 0.0])
            total[0] += len(data)
            total[1] += best(RUNS, lambda decode=decode, data=data: [decode(one) for one in data])  # type: ignore[misc]
            total[2] += best(RUNS, lambda task=task, sources=sources, out=out: read_cells(  # type: ignore[misc]
                sources, task.rule, task.region[-2], out))  # fmt: skip
            total[3] += best(RUNS, lambda task=task: write_shard(task))  # type: ignore[misc]
    print("| syntax | decoder ms | read_cells ms | decoder's share | task ms | decoder's share |")
    print("|---|---|---|---|---|---|")
    for name, (frames, decoder, cells, whole) in seconds.items():
        ms = [1000 * value / frames for value in (decoder, cells, whole)]
        print(f"| {name} | {ms[0]:.3f} | {ms[1]:.3f} | {ms[0] / ms[1]:.0%} | {ms[2]:.3f} | {ms[0] / ms[2]:.0%} |")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
