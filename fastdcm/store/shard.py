"""From a block of values to shard files, written directly: one file a shard, no lock, no read-modify-write.

A shard is its coded chunks one after the other, then the index: offset and length of every chunk in C order as uint64,
little endian, and a CRC-32C (Zarr v3, ``sharding_indexed`` with the index at the end). Every chunk that holds a voxel
is written, also an empty one, so that a lost chunk is found by counting. Bytes follow from the values alone, and a file
is overwritten in place, so that a task may run twice, even while the first result is being published.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt

from fastdcm.model import ArraySpec, Json
from fastdcm.series.layout import Region, parse_codec
from fastdcm.store.commit import writing

Array = npt.NDArray[Any]
Encoder = Callable[[Array], bytes | memoryview]

ABSENT = 2**64 - 1
"""Offset and length of a chunk that holds no voxel."""

_SHUFFLES = {"noshuffle": 0, "shuffle": 1, "bitshuffle": 2}


def write_region(target: str, array: ArraySpec, region: Region, block: Array) -> int:
    """Write the shards of a region.

    Parameters
    ----------
    target : str
        Folder of the array; made where it is missing.
    array : ArraySpec
        Shape, type, chunks, shards and codec.
    region : tuple of (start, stop)
        By axis; starts at a shard's edge, and ends at one or at the array's end.
    block : ndarray
        Values of the region, of its shape and of type ``array.dtype``.

    Returns
    -------
    int
        Bytes written.

    Raises
    ------
    TargetError
        The target cannot be written.
    """
    shape = tuple(stop - start for start, stop in region)
    if block.shape != shape or block.dtype != np.dtype(array.dtype):
        raise ValueError(f"block {block.shape} {block.dtype} is not the region {shape} {array.dtype}")
    encode = encoder(array)
    written = 0
    for place in product(*[range(0, n, step) for n, step in zip(shape, array.shards, strict=True)]):
        part = block[tuple(slice(low, low + step) for low, step in zip(place, array.shards, strict=True))]
        corner = [start + low for (start, _), low in zip(region, place, strict=True)]
        path = os.path.join(target, shard_key(array, corner))
        written += _write_file(path, encode_shard(array, part, encode))
    return written


def shard_key(array: ArraySpec, corner: Sequence[int]) -> str:
    """Return the file of the shard that starts at ``corner``: ``c/0/0/0``."""
    return "/".join(["c", *(str(low // step) for low, step in zip(corner, array.shards, strict=True))])


def encode_shard(array: ArraySpec, part: Array, encode: Encoder) -> Iterator[bytes | memoryview]:
    """Yield the pieces of a shard file: its chunks in C order, then the index.

    Parameters
    ----------
    array : ArraySpec
        Chunks, shards and fill value.
    part : ndarray
        Values of the shard, clipped to the array's end.
    encode : callable
        From ``encoder``.
    """
    grid = [step // chunk for step, chunk in zip(array.shards, array.chunks, strict=True)]
    index = np.full((*grid, 2), ABSENT, dtype="<u8")
    scratch = np.empty(array.chunks, dtype=np.dtype(array.dtype).newbyteorder("<"))
    offset = 0
    used = [-(-n // chunk) for n, chunk in zip(part.shape, array.chunks, strict=True)]
    for place in np.ndindex(*used):
        low = [number * chunk for number, chunk in zip(place, array.chunks, strict=True)]
        values = part[tuple(slice(start, start + chunk) for start, chunk in zip(low, array.chunks, strict=True))]
        coded = encode(_whole_chunk(values, scratch, array.fill_value))
        index[place] = offset, len(coded)
        offset += len(coded)
        yield coded
    yield index_bytes(index)


def _whole_chunk(values: Array, scratch: Array, fill_value: float) -> Array:
    """Return the values as one contiguous chunk, copied at most once; the array's edge is padded."""
    if values.shape == scratch.shape and values.flags.c_contiguous:
        return values.astype(scratch.dtype, copy=False)
    if values.shape != scratch.shape:
        scratch.fill(fill_value)
    scratch[tuple(slice(n) for n in values.shape)] = values
    return scratch


def index_bytes(index: npt.NDArray[np.uint64]) -> bytes:
    """Return the coded index of a shard."""
    from google_crc32c import value as crc32c

    raw = index.tobytes()
    return raw + struct.pack("<I", crc32c(raw))


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
    from numcodecs import blosc

    blosc.use_threads = False  # one call, one thread, its own context: workers are the parallelism
    name, level = settings["cname"].encode(), settings["clevel"]
    shuffle, block_bytes = _SHUFFLES[settings["shuffle"]], settings["blocksize"]
    return lambda chunk: blosc.compress(chunk, name, level, shuffle, block_bytes)


def _raw(chunk: Array) -> memoryview:
    return chunk.reshape(-1).view(np.uint8).data


def _gzip(chunk: Array, level: int) -> bytes:
    packer = zlib.compressobj(level, zlib.DEFLATED, 16 + zlib.MAX_WBITS)  # a gzip member without a time stamp
    return packer.compress(_raw(chunk)) + packer.flush()


def _write_file(path: str, pieces: Iterator[bytes | memoryview]) -> int:
    """Write pieces to a file in place: what is there already is overwritten by the same bytes, never emptied first."""
    with writing("a shard"):
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o666), "wb", buffering=1 << 16) as file:
            for piece in pieces:
                file.write(piece)
            file.truncate()
            return file.tell()
