"""numpy's memory as Arrow arrays, without the ways around that ``pyarrow.array`` takes.

It asks numpy whether values are masked, and so loads ``numpy.ma``: 15 ms of a start, for a kind of array that nobody
here has.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa


def number_array(values: npt.NDArray[Any], absent: npt.NDArray[np.bool_] | None = None) -> pa.Array:
    """Return numbers as an Arrow array of their type, on the same memory where they are contiguous.

    Parameters
    ----------
    values : ndarray
        (n,) integers or floats, in the machine's byte order.
    absent : ndarray of bool, optional
        (n,) where the array is null.
    """
    given = None
    if absent is not None and absent.any():
        given = pa.py_buffer(np.packbits(~absent, bitorder="little"))
    kind = pa.from_numpy_dtype(values.dtype)
    return pa.Array.from_buffers(kind, len(values), [given, pa.py_buffer(np.ascontiguousarray(values))])
