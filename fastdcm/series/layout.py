"""How an array is cut and coded: chunks, shards and the codec's name.

The rules are those of docs/store.md. Sizes are bytes, shapes have the axes (t, c, z, y, x) that the array has.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import product

import numpy as np

from fastdcm.errors import UsageError
from fastdcm.model import ArraySpec, Json, Options

FEW_SLICES = 8
FLAT_CHUNK = 512
"""Edge of a one-slice chunk, where there are few slices."""
DEEP_CHUNK = 128
DEEP_SLICES = 32
"""A chunk of a stack is about 32 x 128 x 128."""
LAYER_BYTES = 2**24

BLOSC_NAMES = ("zstd", "lz4", "lz4hc", "blosclz", "zlib")
DEFAULT_LEVEL = {"zstd": 1, "lz4": 1, "lz4hc": 5, "blosclz": 5, "zlib": 1, "gzip": 1}

Region = tuple[tuple[int, int], ...]


def choose_chunks(
    shape: Sequence[int], axes: str, itemsize: int, options: Options, *, channels: int = 1
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Cut an array into chunks, and put chunks together to shards.

    Parameters
    ----------
    shape : sequence of int
        Length of each axis.
    axes : str
        Their names, of tczyx in this order.
    itemsize : int
        Bytes of a value.
    options : Options
        ``chunks`` (z, y, x) and ``shard_bytes``.
    channels : int
        Length of the colour or sample axis; 1 where c is none.

    Returns
    -------
    chunks : tuple of int
        Clamped to the shape.
    shards : tuple of int
        A whole multiple of the chunks on every axis. A shard holds whole planes, or a band of rows of one plane.
    """
    size = dict(zip(axes, shape, strict=True))
    plane_bytes = size["y"] * size["x"] * itemsize * channels
    chunk = {"t": 1, "c": 3 if channels == 3 else 1} | _plane_chunks(size, plane_bytes, options)
    chunk = {axis: min(chunk[axis], size[axis]) for axis in axes}
    shard = dict(chunk)
    shard["x"] = _whole(size["x"], chunk["x"])
    if "c" in axes and channels > 1:
        shard["c"] = channels
    if plane_bytes * chunk["z"] > options.shard_bytes:
        band_bytes = size["x"] * itemsize * channels * chunk["y"] * chunk["z"]
        bands = max(1, options.shard_bytes // band_bytes)
        shard["y"] = min(bands * chunk["y"], _whole(size["y"], chunk["y"]))
    else:
        shard["y"] = _whole(size["y"], chunk["y"])
        _grow(shard, chunk, size, plane_bytes, options.shard_bytes, channels)
    return tuple(chunk[axis] for axis in axes), tuple(shard[axis] for axis in axes)


def _plane_chunks(size: dict[str, int], plane_bytes: int, options: Options) -> dict[str, int]:
    """Return the chunk lengths of z, y and x before they are clamped."""
    if options.chunks is not None:
        return dict(zip("zyx", options.chunks, strict=True))
    if size["z"] < FEW_SLICES:
        return {"z": 1, "y": FLAT_CHUNK, "x": FLAT_CHUNK}
    depth = math.ceil(size["z"] / math.ceil(size["z"] / DEEP_SLICES))
    while depth > 1 and depth * plane_bytes > options.shard_bytes:
        depth //= 2
    return {"z": depth, "y": DEEP_CHUNK, "x": DEEP_CHUNK}


def _grow(
    shard: dict[str, int], chunk: dict[str, int], size: dict[str, int], plane_bytes: int, limit: int, channels: int
) -> None:
    """Put as many chunks of z, then whole steps of c and of t, into the shard as fit."""
    step_bytes = plane_bytes * chunk["z"]
    for axis in ("z", "c", "t"):
        if axis not in size or (axis == "c" and channels > 1):
            continue
        count = max(1, limit // step_bytes)
        shard[axis] = min(count * chunk[axis], _whole(size[axis], chunk[axis]))
        if shard[axis] < size[axis]:
            return
        step_bytes *= math.ceil(size[axis] / chunk[axis])


def _whole(length: int, step: int) -> int:
    """Return the length rounded up to whole steps."""
    return math.ceil(length / step) * step


def iter_shards(array: ArraySpec) -> Iterator[Region]:
    """Yield (start, stop) by axis of every shard, clipped to the array, in C order."""
    yield from product(*[_steps(0, n, step) for n, step in zip(array.shape, array.shards, strict=True)])


def task_regions(array: ArraySpec) -> Iterator[Region]:
    """Yield what one task writes: one shard, or all bands of rows of one plane, so that no frame is decoded twice."""
    y = len(array.shape) - 2
    steps = [n if axis == y else step for axis, (n, step) in enumerate(zip(array.shape, array.shards, strict=True))]
    yield from product(*[_steps(0, n, step) for n, step in zip(array.shape, steps, strict=True)])


def layer_regions(array: ArraySpec, region: Region, channels: int) -> Iterator[Region]:
    """Cut what one task writes into layers, which are read and encoded one after the other.

    A layer is whole y and x and as many chunks of z, then steps of c and t, as fit in ``LAYER_BYTES``, at least one
    chunk: a worker holds a part of a shard, which stays in the cache between reading and encoding. In the order of
    the layers the cells of a region follow each other.
    """
    size = {axis: stop - start for axis, (start, stop) in zip(array.axes, region, strict=True)}
    chunk = dict(zip(array.axes, array.chunks, strict=True))
    step = size | {axis: chunk[axis] for axis in size.keys() & set("tcz")}
    if "c" in size and channels > 1:
        step["c"] = channels
    plane_bytes = size["y"] * size["x"] * np.dtype(array.dtype).itemsize * channels
    _grow(step, chunk, size, plane_bytes, LAYER_BYTES, channels)
    yield from product(
        *[_steps(start, stop, step[axis]) for axis, (start, stop) in zip(array.axes, region, strict=True)]
    )


def _steps(start: int, stop: int, step: int) -> list[tuple[int, int]]:
    return [(low, min(low + step, stop)) for low in range(start, stop, step)]


def shard_count(array: ArraySpec) -> int:
    """Return the number of shard files of an array."""
    return math.prod(math.ceil(n / step) for n, step in zip(array.shape, array.shards, strict=True))


def parse_codec(text: str, itemsize: int, chunk_bytes: int) -> list[Json]:
    """Return the Zarr v3 codecs of an inner chunk.

    Parameters
    ----------
    text : str
        ``none``; ``zstd``, ``lz4``, ``lz4hc``, ``blosclz`` or ``zlib`` (within Blosc, with byte shuffle); ``gzip``;
        each with a level if wanted, ``zstd:5``.
    itemsize : int
        Bytes of a value.
    chunk_bytes : int
        Bytes of a chunk. Blosc takes the whole chunk as one block: measured on CT-like data it codes zstd half as fast
        again and 4 % smaller than with blocks of its own choice, and readers decode whole chunks anyway.

    Returns
    -------
    list of dict
        ``bytes``, then ``blosc`` or ``gzip``: codecs of the Zarr v3 core set.

    Raises
    ------
    UsageError
        The text names no codec.
    """
    name, _, level_text = text.partition(":")
    stored: Json = {"name": "bytes"} if itemsize == 1 else {"name": "bytes", "configuration": {"endian": "little"}}
    if text == "none":
        return [stored]
    if name not in DEFAULT_LEVEL or (level_text and level_text not in [str(n) for n in range(10)]):
        names = ", ".join(["none", *DEFAULT_LEVEL])
        raise UsageError(f"codec {text!r} is none of {names}, with an optional level of 0 to 9 as in zstd:5")
    level = int(level_text) if level_text else DEFAULT_LEVEL[name]
    if name == "gzip":
        return [stored, {"name": "gzip", "configuration": {"level": level}}]
    block = {"cname": name, "clevel": level, "shuffle": "shuffle", "typesize": itemsize, "blocksize": chunk_bytes}
    return [stored, {"name": "blosc", "configuration": block}]
