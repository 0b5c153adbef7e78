"""Codecs and chunks on real images: ratio, speed of encoding and decoding, random patches and slices.

::

    python -m benchmarks.codecs FOLDER ...            # DICOM folders; prints Markdown

The folders are converted without compression; then every volume is cut into chunks in memory and coded by each codec,
in one thread and as a shard would hold it. MB/s are of uncompressed values, in processor seconds: the best of several
runs. A patch is 96 x 96 x 96 voxels and a slice a whole z plane, at random places, with the decoding of every chunk
that it touches: milliseconds each. Volumes of fewer than 8 slices have flat chunks whatever the chunks of the row.
"""

from __future__ import annotations

import argparse
import math
import tempfile
import time
from collections.abc import Iterable, Sequence
from itertools import product
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from numcodecs import blosc

import fastdcm
from benchmarks.process import best
from fastdcm.load.volume import Store
from fastdcm.model import Options
from fastdcm.series.layout import choose_chunks

Array = npt.NDArray[Any]
Shape = tuple[int, ...]

BYTES_A_MODALITY = 80 * 2**20
RUNS = 3
PATCH = 96
READS = 12
LEAST_BYTES = 100_000
SHUFFLES = ("none", "shuffle", "bitshuffle")


class Codec(NamedTuple):
    """Blosc with these parameters; ``name`` none: the bytes as they are."""

    name: str
    level: int = 1
    shuffle: str = "bitshuffle"
    whole: bool = True
    """The chunk is one block."""

    def __str__(self) -> str:
        if self.name == "none":
            return "none"
        return f"{self.name}:{self.level} {self.shuffle}, {'one block' if self.whole else 'automatic blocks'}"

    def encode(self, chunk: Array) -> bytes:
        """Return the coded chunk."""
        if self.name == "none":
            return chunk.tobytes()
        size = chunk.nbytes if self.whole else 0
        coded: bytes = blosc.compress(chunk, self.name.encode(), self.level, SHUFFLES.index(self.shuffle), size)
        return coded

    def decode(self, data: bytes, out: Array) -> None:
        """Decode into a chunk."""
        if self.name == "none":
            out[...] = np.frombuffer(data, out.dtype).reshape(out.shape)
        else:
            blosc.decompress(data, out)


CODECS = [
    Codec("zstd"),
    Codec("zstd", whole=False),
    Codec("zstd", shuffle="shuffle"),
    Codec("zstd", shuffle="shuffle", whole=False),
    Codec("zstd", shuffle="none"),
    Codec("zstd", 2),
    Codec("zstd", 3),
    Codec("zstd", 5),
    Codec("lz4"),
    Codec("lz4", 5),
    Codec("lz4", shuffle="shuffle"),
    Codec("lz4hc", 5),
    Codec("none"),
]
CHUNKS = [(32, 128, 128), (16, 128, 128), (32, 64, 64), (64, 64, 64), (64, 128, 128), (16, 256, 256), (1, 512, 512)]


class Figures(NamedTuple):
    """One row of the table."""

    ratio: float
    encode: float
    decode: float
    patch_ms: float
    slice_ms: float


def volumes_of(folders: Sequence[str]) -> dict[str, list[Array]]:
    """Return (z, y, x) arrays by modality, at most ``BYTES_A_MODALITY`` of each, the largest first."""
    found: dict[str, list[Array]] = {}
    with tempfile.TemporaryDirectory() as folder:
        fastdcm.convert(folders, f"{folder}/store", codec="none")
        opened = fastdcm.open(f"{folder}/store")
        assert isinstance(opened, Store)
        for volume in opened.volumes:
            values = volume.numpy()
            modality = volume.attributes["fastdcm"]["identity"].get("modality", "?")
            if values.nbytes >= LEAST_BYTES and volume.attributes["fastdcm"]["identity"]["kind"] != "segmentation":
                lead = [range(n) for n in values.shape[:-3]]
                found.setdefault(modality, []).extend(values[place] for place in product(*lead))
    return {name: _largest(arrays) for name, arrays in sorted(found.items())}


def _largest(arrays: list[Array]) -> list[Array]:
    chosen: list[Array] = []
    for array in sorted(arrays, key=lambda array: -array.nbytes):
        if sum(one.nbytes for one in chosen) + array.nbytes <= BYTES_A_MODALITY:
            chosen.append(array)
    return chosen


def cut(values: Array, chunks: Shape) -> tuple[Shape, list[Array]]:
    """Return the grid and the contiguous chunks of a volume, padded at its end."""
    grid = tuple(math.ceil(n / step) for n, step in zip(values.shape, chunks, strict=True))
    found = []
    for place in np.ndindex(*grid):
        chunk = np.zeros(chunks, values.dtype)
        inside = values[tuple(slice(k * step, (k + 1) * step) for k, step in zip(place, chunks, strict=True))]
        chunk[tuple(slice(n) for n in inside.shape)] = inside
        found.append(chunk)
    return grid, found


def measure(volumes: Sequence[Array], codec: Codec, chunks: Shape | None) -> Figures:
    """Code every volume in these chunks (None: those of a store)."""
    rng = np.random.default_rng(1)
    raw = coded_bytes = 0
    encode = decode = 0.0
    patches: list[float] = []
    slices: list[float] = []
    for values in volumes:
        sizes = choose_chunks(values.shape, "zyx", values.itemsize, Options())[0]
        if chunks is not None and values.shape[0] >= 8:
            sizes = tuple(min(n, step) for n, step in zip(values.shape, chunks, strict=True))
        grid, parts = cut(values, sizes)
        coded = [codec.encode(part) for part in parts]
        out = np.empty_like(parts[0])
        raw += values.nbytes
        coded_bytes += sum(map(len, coded))
        encode += best(RUNS, lambda parts=parts: [codec.encode(part) for part in parts])  # type: ignore[misc]
        decode += best(RUNS, lambda coded=coded, out=out: [codec.decode(data, out) for data in coded])  # type: ignore[misc]
        if values.shape[0] >= 8:
            for wanted, times in (((PATCH,) * 3, patches), ((1, *values.shape[1:]), slices)):
                times += [read(values.shape, sizes, grid, coded, codec, wanted, out, rng) for _ in range(READS)]
    return Figures(raw / coded_bytes, raw / encode / 1e6, raw / decode / 1e6, _mean_ms(patches), _mean_ms(slices))


def _mean_ms(seconds: Iterable[float]) -> float:
    every = list(seconds)
    return 1000 * float(np.mean(every)) if every else math.nan


def read(
    shape: Shape, chunks: Shape, grid: Shape, coded: list[bytes], codec: Codec, wanted: Shape, out: Array,
    rng: np.random.Generator,
) -> float:  # fmt: skip
    """Read a box at a random place from coded chunks; return processor seconds."""
    size = [min(a, b) for a, b in zip(wanted, shape, strict=True)]
    low = [int(rng.integers(0, n - step + 1)) for n, step in zip(shape, size, strict=True)]
    box = np.empty(size, out.dtype)
    start = time.thread_time()
    touched = [range(a // step, -(-(a + n) // step)) for a, n, step in zip(low, size, chunks, strict=True)]
    for place in product(*touched):
        codec.decode(coded[int(np.ravel_multi_index(place, grid))], out)
        first = [k * step for k, step in zip(place, chunks, strict=True)]
        ends = list(zip(first, low, size, chunks, strict=True))
        into = tuple(slice(max(f - a, 0), min(f + step - a, n)) for f, a, n, step in ends)
        box[into] = out[tuple(slice(max(a - f, 0), min(a + n - f, step)) for f, a, n, step in ends)]
    return time.thread_time() - start


def print_rows(title: str, rows: Iterable[tuple[str, Figures]]) -> None:
    """Print one table."""
    print(f"\n### {title}\n")
    print("| | ratio | encode MB/s | decode MB/s | patch ms | slice ms |\n|---|---|---|---|---|---|")
    for name, found in rows:
        reads = " | ".join("" if math.isnan(ms) else f"{ms:.1f}" for ms in (found.patch_ms, found.slice_ms))
        print(f"| {name} | {found.ratio:.2f} | {found.encode:.0f} | {found.decode:.0f} | {reads} |", flush=True)


def main() -> int:
    """Parse the command line, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+")
    parser.add_argument("--modality", action="append", help="only these")
    options = parser.parse_args()
    blosc.use_threads = False
    for modality, volumes in volumes_of(options.folders).items():
        if options.modality and modality not in options.modality:
            continue
        size = sum(values.nbytes for values in volumes) / 1e6
        title = f"{modality}: {len(volumes)} volumes, {size:.0f} MB"
        print_rows(f"{title}, chunks of a store", ((str(codec), measure(volumes, codec, None)) for codec in CODECS))
        if any(values.shape[0] >= 8 for values in volumes):
            rows = ((" x ".join(map(str, shape)), measure(volumes, CODECS[0], shape)) for shape in CHUNKS)
            print_rows(f"{title}, {CODECS[0]}", rows)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
