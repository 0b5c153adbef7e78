"""Stored values to output values: Modality LUT, rescale, type (PS3.3 C.11.1)."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from fastdcm.model import FrameSource, PixelFormat, ValueRule
from fastdcm.pixels import finish, native

Array = npt.NDArray[Any]

BLOCK = 2**16
"""Values that go through float64 at once: half a MiB, which stays in the cache."""


def transform_of(source: FrameSource, rule: ValueRule) -> tuple[float, float, bytes | None]:
    """Return slope, intercept and Modality LUT that make a frame's output values of its stored ones.

    Inversion is part of them: the largest value of the declared range minus the value (floats declare none).
    """
    slope, intercept, lut = source.slope, source.intercept, source.lut
    if rule.values == "stored":
        slope, intercept, lut = 1.0, 0.0, None
    if not rule.invert or source.format.keyword in native.FLOATS:
        return slope, intercept, lut
    if lut is not None:
        table = np.frombuffer(lut, "<u2", offset=4)
        return slope, intercept, lut[:4] + (table.max() - table).astype("<u2").tobytes()
    top = max(end * slope + intercept for end in _declared_range(source.format))
    return -slope, top - intercept, None


def _declared_range(pixels: PixelFormat) -> tuple[int, int]:
    """Return what the bits stored allow, or all allocated ones where their number cannot be right."""
    bits = pixels.bits_stored if 0 < pixels.bits_stored <= pixels.bits_allocated else pixels.bits_allocated
    if pixels.signed:
        return -(1 << (bits - 1)), (1 << (bits - 1)) - 1
    return 0, (1 << bits) - 1


def apply(stored: Array, slope: float, intercept: float, lut: bytes | None, out: Array) -> bool:
    """Write ``stored x slope + intercept``, or what the Modality LUT says, into ``out``.

    Integers stay integers (slope and intercept must be whole then); floats are computed in float64 and rounded once
    into ``out``. Nothing is wrapped or clipped.

    Parameters
    ----------
    stored : integers or floats, any shape
        May be the very memory of ``out``, in another type of the same size.
    lut
        int32 LE first value mapped, then uint16 LE entries; values outside take the first or last entry, and slope
        and intercept are not used (PS3.3 C.11.1: one excludes the other).
    out : same shape
        Type of the array in the store.

    Returns
    -------
    bool
        True if a value does not fit the type of ``out``; ``out`` is then undefined.

    Raises
    ------
    ValueError
        If ``out`` has integers, but the values would be fractional.
    """
    if lut is not None:
        return _apply_lut(stored, lut, out)
    if out.dtype.kind == "f":
        _apply_floats(stored, slope, intercept, out)
        return False
    if stored.dtype.kind == "f" or not (float(slope).is_integer() and float(intercept).is_integer()):
        raise ValueError(f"slope {slope} and intercept {intercept} of {stored.dtype} do not make {out.dtype}")
    return _apply_integers(stored, int(slope), int(intercept), out)


def _apply_integers(stored: Array, slope: int, intercept: int, out: Array) -> bool:
    if finish.FRAMES is not None and _lie_alike(stored, out):
        whole = finish.rescale_of(stored.dtype, slope, intercept, out.dtype)
        if whole is not None:
            return whole.width > 0 and not finish.FRAMES.finish_values(out, *whole)
    if _overflows(stored, slope, intercept, out.dtype):
        return True
    # Modulo the size of the type these are exact, because the results fit.
    source = out
    if stored.dtype.itemsize == out.dtype.itemsize:
        source = stored.view(out.dtype)
    else:
        np.copyto(out, stored, casting="unsafe")
    if slope != 1:
        source = np.multiply(source, _wrapped(slope, out.dtype), out=out)
    if intercept != 0:
        source = np.add(source, _wrapped(intercept, out.dtype), out=out)
    if source is not out and not _same_memory(stored, out):
        np.copyto(out, source)
    return False


def _same_memory(stored: Array, out: Array) -> bool:
    """Tell whether both are the same bytes (then integers of one size need no copy: their bits are equal)."""
    return stored.dtype.itemsize == out.dtype.itemsize and np.may_share_memory(stored, out)


def _lie_alike(stored: Array, out: Array) -> bool:
    """Tell whether both are the very same elements in one piece of memory."""
    return (
        stored.dtype.itemsize == out.dtype.itemsize
        and stored.ctypes.data == out.ctypes.data
        and stored.shape == out.shape
        and stored.flags.c_contiguous
        and out.flags.c_contiguous
    )


def _wrapped(value: int, dtype: np.dtype[Any]) -> Any:
    bits = 8 * dtype.itemsize
    return np.asarray(value % (1 << bits), f"u{dtype.itemsize}").astype(dtype)


def _overflows(stored: Array, slope: int, intercept: int, dtype: np.dtype[Any]) -> bool:
    """Look at the values only where the type alone cannot tell, and only for the end that it leaves open."""
    target, source = _limits(dtype), _limits(stored.dtype)

    def fits(value: int) -> bool:
        return target.min <= value * slope + intercept <= target.max

    if stored.size == 0:
        return False
    return not ((fits(source.min) or fits(int(stored.min()))) and (fits(source.max) or fits(int(stored.max()))))


_limits = lru_cache(np.iinfo)


def _apply_floats(stored: Array, slope: float, intercept: float, out: Array) -> None:
    if (slope == 1 and intercept == 0) or stored.size == 0:
        if not (_same_memory(stored, out) and stored.dtype == out.dtype):
            with np.errstate(over="ignore"):
                np.copyto(out, stored, casting="unsafe")
        return
    columns = out.shape[-1]
    step = max(1, BLOCK // max(columns, 1))
    work = np.empty((step, columns), np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        for index in np.ndindex(*out.shape[:-2]):
            for row in range(0, out.shape[-2], step):
                part = stored[(*index, slice(row, row + step))]
                block = work[: part.shape[0]]
                np.multiply(part, slope, out=block)
                block += intercept
                out[(*index, slice(row, row + step))] = block


def _apply_lut(stored: Array, lut: bytes, out: Array) -> bool:
    """Look every value up; integers only (PS3.3 C.11.1.1)."""
    first = int.from_bytes(lut[:4], "little", signed=True)
    table = np.frombuffer(lut, "<u2", offset=4)
    index = stored.astype(np.int64)
    index -= first
    np.clip(index, 0, len(table) - 1, out=index)
    values = np.take(table, index)
    if out.dtype.kind != "f" and _overflows(values, 1, 0, out.dtype):
        return True
    out[...] = values
    return False
