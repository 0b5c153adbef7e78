"""The roofline: a loop that only reads the bytes, encodes them, and writes them, in as many threads.

::

    python -m benchmarks.roofline SRC OUT --codec zstd --workers 2

It parses nothing: every file is read whole into a buffer, the buffer is cut where it lies into pieces of the size of a
chunk, each is encoded as a store encodes a chunk, and each full buffer becomes one file. What fastdcm adds to this
(headers, geometry, cutting chunks out of slices, values, hashes, tags, documents, publishing) is what it costs.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from fastdcm.model import ArraySpec
from fastdcm.store.shard import encoder

BUFFER_BYTES = 2**26
CHUNK_BYTES = 2**20


def batches(source: Path) -> Iterator[list[tuple[str, int]]]:
    """Yield files and their sizes, as many as fit in a buffer."""
    batch: list[tuple[str, int]] = []
    total = 0
    for path in sorted(path for path in source.rglob("*") if path.is_file()):
        size = path.stat().st_size
        if batch and total + size > BUFFER_BYTES:
            yield batch
            batch, total = [], 0
        batch.append((str(path), size))
        total += size
    if batch:
        yield batch


def copy(batch: Sequence[tuple[str, int]], out: Path, codec: str) -> int:
    """Read files into one buffer, encode it piece by piece, write one file; return the bytes written."""
    buffer = np.empty(sum(size for _, size in batch), np.uint8)
    start = 0
    for path, size in batch:
        descriptor = os.open(path, os.O_RDONLY)
        os.preadv(descriptor, [buffer[start : start + size].data], 0)
        os.close(descriptor)
        start += size
    values = buffer[: len(buffer) // 2 * 2].view("<i2")
    spec = ArraySpec("x", values.shape, "int16", (CHUNK_BYTES // 2,), (BUFFER_BYTES // 2,), codec, 0)
    encode = encoder(spec)
    written = 0
    with out.open("wb", buffering=0) as file:
        for low in range(0, len(values), CHUNK_BYTES // 2):
            written += file.write(encode(values[low : low + CHUNK_BYTES // 2]))
    return written


def main() -> int:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--codec", default="zstd")
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)))
    options = parser.parse_args()
    options.out.mkdir(parents=True)
    with ThreadPoolExecutor(options.workers) as pool:
        done = [
            pool.submit(copy, batch, options.out / str(number), options.codec)
            for number, batch in enumerate(batches(options.source))
        ]
        total = sum(future.result() for future in done)
    print(f"{total} bytes written")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
