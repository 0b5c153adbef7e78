"""Planes to chunks: the one copy of pixels between the block that they were read into and the codec.

``_cut.c`` does it without the GIL, where it could be built; ``cut_numpy`` is its equal, and its fallback.
"""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


def cut_numpy(planes: Array, chunks: Array) -> None:
    """Do what ``cut`` does."""
    depth, rows, columns = planes.shape
    step = chunks.shape[-1]
    for number, chunk in enumerate(chunks):
        low = number * step
        chunk[:depth, :rows, : columns - low] = planes[:, :, low : low + step]


def _compiled() -> ModuleType | None:
    try:
        return importlib.import_module("fastdcm.store._cut")
    except ImportError:
        return None


_CUT = _compiled()
COMPILED = _CUT is not None


def cut(planes: Array, chunks: Array) -> None:
    """Cut planes along x into chunks that follow each other.

    All chunks are filled at once, so that the planes are read in the order in which they lie in memory: chunk by chunk,
    128 columns of 512 at a time, took three times as long. What a chunk has beyond the planes stays as it is.

    Parameters
    ----------
    planes : shape (z, y, x)
    chunks : shape (n, at least z, at least y, columns of a chunk), of the same type, x contiguous
        n is the number of chunks that x takes, the last one maybe in part.
    """
    if _CUT is None:
        cut_numpy(planes, chunks)
    else:
        _CUT.cut(planes if planes.strides[-1] == planes.itemsize else np.ascontiguousarray(planes), chunks)
