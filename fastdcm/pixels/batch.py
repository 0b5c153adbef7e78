"""Plain frames of many files into one block, by one compiled call: the short way of ``read.read_cells``.

What is plain: one native frame of a file of this machine, right behind its header, whose values are as wide as those of
the block. A batch is opened, checked, read and rescaled without the GIL, each frame while it is in the cache. Whatever
is not plain, and whatever goes wrong, for whatever reason, is left to ``read.py``, which starts again and tells what is
wrong: so there is one account of faults, and where ``_frames.c`` could not be built everything goes that way.
"""

from __future__ import annotations

import importlib
from collections import Counter
from collections.abc import Sequence
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fastdcm.errors import SourceError
from fastdcm.model import FrameSource, PixelFormat, ValueRule
from fastdcm.pixels import native, values
from fastdcm.pixels.frame import is_direct, plain_layout
from fastdcm.scan.opened import is_plain

Array = npt.NDArray[Any]

HEADERS_BYTES_MAX = 64 * 2**20
"""Of one call: what the scan said of the headers' length is not believed beyond it."""


def _compiled() -> ModuleType | None:
    try:
        return importlib.import_module("fastdcm.pixels._frames")
    except ImportError:  # there was no compiler where fastdcm was installed
        return None


_FRAMES = _compiled()
COMPILED = _FRAMES is not None


class Finish(NamedTuple):
    """How stored integers become output values where they are, modulo the size of their type."""

    width: int
    """Bytes of a value; 0: nothing is to be done."""
    low_bit: int
    mask: int
    """Of the bits stored; 0: all are."""
    sign: int
    """The highest bit stored, moved with them; 0: there is no sign."""
    least: int
    span: int
    """Stored values from the least to that many above it have output values that fit the block's type."""
    slope: int
    intercept: int


NOTHING = Finish(0, 0, 0, 0, 0, 0, 1, 0)


def read_plain(
    sources: Sequence[FrameSource | None], rule: ValueRule, rows: tuple[int, int], out: Array
) -> list[bytes | None]:
    """Read the plain frames among the cells into ``out``, as ``read_cells`` does.

    Parameters
    ----------
    sources, rule, rows, out
        As for ``read_cells``.

    Returns
    -------
    list of bytes or None
        By cell: the header of its file; None where the cell is still to be read.
    """
    headers: list[bytes | None] = [None] * len(sources)
    if _FRAMES is None or out.ndim != 3 or rows[0] != 0 or not out.flags.c_contiguous:
        return headers
    found = _plan(sources, rule, rows, out)
    if found:
        cells = list(found)
        paths = [source.path for cell in cells if (source := sources[cell]) is not None]
        plan = np.array(list(found.values()), np.int64)
        for cell, header in zip(cells, _FRAMES.read_frames(paths, plan, out, out[0].nbytes), strict=True):
            headers[cell] = header
    return headers


def _plan(
    sources: Sequence[FrameSource | None], rule: ValueRule, rows: tuple[int, int], out: Array
) -> dict[int, tuple[int, ...]]:
    """Return what ``_frames.c`` must know of each plain cell: the columns of its ``Frame``."""
    files = Counter(source.path for source in sources if source is not None)
    known: dict[tuple[object, ...], Finish | None] = {}
    found: dict[int, tuple[int, ...]] = {}
    frame_bytes, room = out[0].nbytes if len(out) else 0, HEADERS_BYTES_MAX
    for cell, source in enumerate(sources):
        if source is None or files[source.path] > 1 or source.frame != 0 or source.tile >= 0:
            continue
        if not 0 <= source.pixel_offset <= min(source.size - frame_bytes, room) or not is_plain(source.path):
            continue
        alike = (source.format, source.pixel_length, source.slope, source.intercept, source.lut)
        if alike not in known:
            known[alike] = _finish_of(source, rule, rows, out[cell])
        finish = known[alike]
        if finish is not None:
            room -= source.pixel_offset
            found[cell] = (source.size, source.mtime_ns, source.pixel_offset, cell * frame_bytes, *finish)
    return found


def _finish_of(source: FrameSource, rule: ValueRule, rows: tuple[int, int], out: Array) -> Finish | None:
    """Return how the frames of a file like this are finished; None where they are not plain."""
    try:
        layout = plain_layout(source.format, source.pixel_length)
        if layout is None or layout.notes or source.lut is not None:
            return None
        if not is_direct(layout, out, rows) or out.nbytes > source.pixel_length:
            return None
        return finish_of(source.format, *values.transform_of(source, rule)[:2], out.dtype)
    except SourceError:
        return None


def finish_of(pixels: PixelFormat, slope: float, intercept: float, dtype: np.dtype[Any]) -> Finish | None:
    """Return slope, intercept and unused bits as arithmetic on integers of one size; None where they are not.

    Parameters
    ----------
    pixels
        Of stored values that are as wide as those of ``dtype``.
    slope, intercept
        See ``values.transform_of``.
    dtype
        Of the output values.
    """
    stored = native.stored_dtype(pixels)
    if stored.kind == "f":
        return NOTHING if (slope, intercept) == (1, 0) and stored == dtype else None
    if slope == 0 or not (float(slope).is_integer() and float(intercept).is_integer()):
        return None
    low, high = _fitting(int(slope), int(intercept), stored, dtype)
    if low > high or dtype.itemsize > 4:
        return None
    left, right = native.unused_bits(stored, pixels.bits_stored, pixels.high_bit)
    bits, signed = 8 * dtype.itemsize, stored.kind == "i"
    used = bits - right
    finish = Finish(
        width=dtype.itemsize,
        low_bit=right - left,
        mask=(1 << used) - 1 if right else 0,
        sign=1 << (used - 1) if right and signed else 0,
        least=low,
        span=high - low,
        slope=int(slope) % (1 << bits),
        intercept=int(intercept) % (1 << bits),
    )
    return NOTHING if (right, slope, intercept) == (0, 1, 0) and stored == dtype else finish


def _fitting(slope: int, intercept: int, stored: np.dtype[Any], dtype: np.dtype[Any]) -> tuple[int, int]:
    """Return the least and the largest stored value of those whose output values fit."""
    limits, of = np.iinfo(dtype), np.iinfo(stored)
    ends = int(limits.min) - intercept, int(limits.max) - intercept
    first, last = ends if slope > 0 else ends[::-1]
    return max(-(-first // slope), int(of.min)), min(last // slope, int(of.max))
