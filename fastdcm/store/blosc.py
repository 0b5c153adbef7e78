"""Blosc as numcodecs brings it, without its package: that one loads thirty codecs and looks through what is installed.

The C library is inside of ``numcodecs.blosc`` and shows its functions on Linux and macOS; elsewhere the package itself
is called. Both give the same bytes, each call in its own context and thread, without the GIL.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

OVERHEAD_BYTES = 16
"""What Blosc may need beyond the values (``BLOSC_MAX_OVERHEAD``)."""

Compress = Callable[..., int]


def compress(chunk: npt.NDArray[Any], name: bytes, level: int, shuffle: int, block_bytes: int) -> bytes | memoryview:
    """Return a chunk as one Blosc buffer.

    Parameters
    ----------
    chunk : ndarray
        Values, contiguous; their item size is that of the shuffle.
    name : bytes
        Codec inside: ``zstd``, ``lz4``, ``lz4hc``, ``blosclz``, ``zlib``.
    level : int
        0 to 9.
    shuffle : int
        0 none, 1 bytes, 2 bits.
    block_bytes : int
        Of a block; 0: chosen by Blosc.

    Raises
    ------
    RuntimeError
        Blosc does not know the codec or the level.
    """
    function = library()
    if function is None:
        from numcodecs import blosc

        blosc.use_threads = False  # one call, one thread, its own context: workers are the parallelism
        return blosc.compress(chunk, name, level, shuffle, block_bytes)  # type: ignore[no-any-return]
    packed = np.empty(chunk.nbytes + OVERHEAD_BYTES, np.uint8)
    places = chunk.ctypes.data, packed.ctypes.data
    size = function(level, shuffle, chunk.itemsize, chunk.nbytes, *places, packed.nbytes, name, block_bytes, 1)
    if size <= 0:
        raise RuntimeError(f"blosc gave {size} for {chunk.nbytes} bytes with {name.decode()}:{level}")
    return packed[:size].data


@cache
def library() -> Compress | None:
    """Return ``blosc_compress_ctx``; None where the installed numcodecs does not show it."""
    from importlib.machinery import PathFinder

    package = PathFinder.find_spec("numcodecs")
    places = package.submodule_search_locations if package else None
    module = PathFinder.find_spec("blosc", list(places)) if places else None
    try:
        function = ctypes.CDLL(str(module.origin)).blosc_compress_ctx if module else None
    except (OSError, AttributeError):
        return None
    if function is not None:
        size, address = ctypes.c_size_t, ctypes.c_void_p
        whole, text = ctypes.c_int, ctypes.c_char_p
        function.argtypes = [whole, whole, size, size, address, address, size, text, size, whole]
        function.restype = whole
    return function
