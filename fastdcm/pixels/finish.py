"""Stored integers to output values where they lie, in one compiled pass: unused bits, rescale, and whether all fit.

``values.apply`` and ``native.clear_unused_bits`` say what is meant, and do it where ``_frames.c`` could not be built.
"""

from __future__ import annotations

import importlib
from functools import lru_cache
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from fastdcm.model import PixelFormat
from fastdcm.pixels import native


def _compiled() -> ModuleType | None:
    try:
        return importlib.import_module("fastdcm.pixels._frames")
    except ImportError:  # there was no compiler where fastdcm was installed
        return None


FRAMES = _compiled()
COMPILED = FRAMES is not None


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
    return rescale_of(stored, slope, intercept, dtype, native.unused_bits(stored, pixels.bits_stored, pixels.high_bit))


@lru_cache(256)
def rescale_of(
    stored: np.dtype[Any], slope: float, intercept: float, dtype: np.dtype[Any], unused: tuple[int, int] = (0, 0)
) -> Finish | None:
    """Return what ``finish_of`` does, of integers of a type whose unused bits are gone, or as ``native`` tells them."""
    if stored.itemsize != dtype.itemsize or slope == 0:
        return None
    if not (float(slope).is_integer() and float(intercept).is_integer()):
        return None
    low, high = _fitting(int(slope), int(intercept), stored, dtype)
    if low > high or dtype.itemsize > 4:
        return None
    left, right = unused
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
