"""From a block of values to shard files, written directly: one file a shard, no lock, no read-modify-write.

A shard is its coded chunks one after the other, then the index: offset and length of every chunk in C order as uint64,
little endian, and a CRC-32C (Zarr v3, ``sharding_indexed`` with the index at the end). Every chunk that holds a voxel
is written, also an empty one, so that a lost chunk is found by counting. Bytes follow from the values alone, and a file
is overwritten in place, so that a task may run twice, even while the first result is being published.
"""

from __future__ import annotations

import math
import os
import struct
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from functools import lru_cache
from itertools import product
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from fastdcm.model import ArraySpec, Json
from fastdcm.series.layout import Region, parse_codec
from fastdcm.store.blosc import compress
from fastdcm.store.commit import writing
from fastdcm.store.cut import cut

Array = npt.NDArray[Any]
Encoder = Callable[[Array], bytes | memoryview]

ABSENT = 2**64 - 1
"""Offset and length of a chunk that holds no voxel."""
PIECES_MAX = 1024
"""Of one system call (IOV_MAX)."""

_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC
_SHUFFLES = {"noshuffle": 0, "shuffle": 1, "bitshuffle": 2}


def write_region(target: str, array: ArraySpec, region: Region, block: Array) -> int:
    """Write the shards of a region whose values are all there, as ``write_layers`` does.

    Parameters
    ----------
    target, array, region
        As for ``write_layers``.
    block : ndarray
        Values of the region, of its shape and of type ``array.dtype``.
    """
    return write_layers(target, array, region, [(region, block)])


def write_layers(target: str, array: ArraySpec, region: Region, layers: Iterable[tuple[Region, Array]]) -> int:
    """Write the shards of a region, layer by layer: only one layer is in memory.

    Parameters
    ----------
    target : str
        Folder of the array; made where it is missing.
    array : ArraySpec
        Shape, type, chunks, shards and codec.
    region : tuple of (start, stop)
        By axis; starts at a shard's edge, and ends at one or at the array's end.
    layers : iterable of (part of the region, ndarray)
        Values of type ``array.dtype`` and where they are: whole chunks, and whole y and x of the region. The next layer
        may be in the same memory. A region whose layers do not all come is left unfinished: no reader takes it.

    Returns
    -------
    int
        Bytes written.

    Raises
    ------
    TargetError
        The target cannot be written.
    """
    encode = encoder(array)
    with ExitStack() as stack:
        shards: dict[str, _Shard] = {}
        for place, block in layers:
            shape = tuple(stop - start for start, stop in place)
            if block.shape != shape or block.dtype != np.dtype(array.dtype):
                raise ValueError(f"block {block.shape} {block.dtype} is not the region {shape} {array.dtype}")
            for corner, part in _parts(array, place, block):
                key = shard_key(array, corner)
                if key not in shards:
                    shards[key] = stack.enter_context(_Shard(os.path.join(target, key), array, region, corner))
                _encode_part(array, part, shards[key], corner, encode)
        return sum(shard.size for shard in shards.values())


def shard_key(array: ArraySpec, corner: Sequence[int]) -> str:
    """Return the file of the shard that holds the voxel at ``corner``: ``c/0/0/0``."""
    return "/".join(["c", *(str(low // step) for low, step in zip(corner, array.shards, strict=True))])


def _parts(array: ArraySpec, place: Region, block: Array) -> Iterator[tuple[list[int], Array]]:
    """Yield what of a layer belongs to one shard, and its corner in the array."""
    shape = block.shape
    for low in product(*[range(0, n, step) for n, step in zip(shape, array.shards, strict=True)]):
        corner = [start + first for (start, _), first in zip(place, low, strict=True)]
        yield corner, block[tuple(slice(first, first + step) for first, step in zip(low, array.shards, strict=True))]


def _encode_part(array: ArraySpec, part: Array, shard: _Shard, corner: Sequence[int], encode: Encoder) -> None:
    """Encode chunks, a row of them along x at a time, and add them to their shard."""
    first = [low % step // chunk for low, step, chunk in zip(corner, array.shards, array.chunks, strict=True)]
    for place, chunks in _rows_of_chunks(array, part):
        where = [start + number for start, number in zip(first, place, strict=True)]
        shard.add(where, [encode(chunk) for chunk in chunks])


def _rows_of_chunks(array: ArraySpec, part: Array) -> Iterator[tuple[tuple[int, ...], Array]]:
    """Yield contiguous chunks, (n, *chunk), which follow each other along x, and the place of the first in the grid.

    They are valid until the next are asked for.
    """
    chunk = array.chunks
    little = np.dtype(array.dtype).newbyteorder("<")
    part = part.astype(little, copy=False)
    used = [-(-n // step) for n, step in zip(part.shape, chunk, strict=True)]
    row = np.empty(0, little)
    for place in np.ndindex(*used[:-1]):
        low = [number * step for number, step in zip(place, chunk, strict=False)]
        values = part[tuple(slice(start, start + step) for start, step in zip(low, chunk, strict=False))]
        if values.shape == chunk and values.flags.c_contiguous:
            yield (*place, 0), values[np.newaxis]
            continue
        if not row.size:
            row = np.empty((used[-1], *chunk), little)
            row[-1] = array.fill_value  # what lies beyond x is never written to
        if values.shape[:-1] != chunk[:-1]:
            row.fill(array.fill_value)
        for lead in np.ndindex(*values.shape[:-3]):
            cut(values[lead], row[(slice(None), *lead)])
        yield (*place, 0), row


class _Shard:
    """One shard file in work. What is there already is overwritten by the same bytes, never emptied first."""

    def __init__(self, path: str, array: ArraySpec, region: Region, corner: Sequence[int]) -> None:
        grid = [step // chunk for step, chunk in zip(array.shards, array.chunks, strict=True)]
        sizes = [
            min(step, stop - low // step * step)
            for (_, stop), low, step in zip(region, corner, array.shards, strict=True)
        ]
        self._waiting = math.prod(-(-n // chunk) for n, chunk in zip(sizes, array.chunks, strict=True))
        self._index = np.full((*grid, 2), ABSENT, dtype="<u8")
        self._path = path
        self.size = 0
        """Bytes written."""

    def __enter__(self) -> Self:
        with writing("a shard"):
            try:
                self._file = os.open(self._path, _FLAGS, 0o666)
            except FileNotFoundError:
                os.makedirs(os.path.dirname(self._path), exist_ok=True)
                self._file = os.open(self._path, _FLAGS, 0o666)
        return self

    def __exit__(self, *_: object) -> None:
        if self._waiting:
            os.close(self._file)

    def add(self, place: Sequence[int], pieces: list[bytes | memoryview]) -> None:
        """Write chunks that follow each other along x from ``place`` in the grid on; after the last ones the index."""
        offset = self.size
        for number, piece in enumerate(pieces, place[-1]):
            self._index[(*place[:-1], number)] = offset, len(piece)
            offset += len(piece)
        done = len(pieces) == self._waiting
        with writing("a shard"):
            self.size += _write_all(self._file, [*pieces, index_bytes(self._index)] if done else pieces)
            if done:
                self._finish()
        self._waiting -= len(pieces)

    def _finish(self) -> None:
        if os.fstat(self._file).st_size > self.size:
            os.ftruncate(self._file, self.size)
        os.close(self._file)


def _write_all(file: int, pieces: list[bytes | memoryview]) -> int:
    total = sum(len(piece) for piece in pieces)
    written = os.writev(file, pieces) if len(pieces) <= PIECES_MAX else 0
    for piece in pieces:  # what a short write left over
        done = min(written, len(piece))
        written -= done
        while done < len(piece):
            done += os.write(file, memoryview(piece)[done:])
    return total


def index_bytes(index: npt.NDArray[np.uint64]) -> bytes:
    """Return the coded index of a shard."""
    from google_crc32c import value as crc32c

    raw = index.tobytes()
    return raw + struct.pack("<I", crc32c(raw))


@lru_cache(256)
def encoder(array: ArraySpec) -> Encoder:
    """Return what turns a contiguous chunk into bytes, by the array's codec; safe in threads, and without the GIL."""
    return _encoder(inner_codecs(array)[-1])


def inner_codecs(array: ArraySpec) -> list[Json]:
    """Return the Zarr v3 codecs of the chunks inside a shard."""
    itemsize = np.dtype(array.dtype).itemsize
    return parse_codec(array.codec, itemsize, itemsize * int(np.prod(array.chunks)))


def _encoder(codec: Json) -> Encoder:
    settings = codec.get("configuration", {})
    if codec["name"] == "bytes":
        return _raw
    if codec["name"] == "gzip":
        return lambda chunk: _gzip(chunk, settings["level"])
    name, level = settings["cname"].encode(), settings["clevel"]
    shuffle, block_bytes = _SHUFFLES[settings["shuffle"]], settings["blocksize"]
    return lambda chunk: compress(chunk, name, level, shuffle, block_bytes)


def _raw(chunk: Array) -> memoryview:
    return chunk.reshape(-1).view(np.uint8).data


def _gzip(chunk: Array, level: int) -> bytes:
    packer = zlib.compressobj(level, zlib.DEFLATED, 16 + zlib.MAX_WBITS)  # a gzip member without a time stamp
    return packer.compress(_raw(chunk)) + packer.flush()
