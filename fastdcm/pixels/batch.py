"""Plain frames of many files into one block, by one compiled call: the short way of ``read.read_cells``.

What is plain: one native frame of a file of this machine, right behind its header, whose values are as wide as those of
the block. A batch is opened, checked, read and rescaled without the GIL, each frame while it is in the cache. Whatever
is not plain, and whatever goes wrong, for whatever reason, is left to ``read.py``, which starts again and tells what is
wrong: so there is one account of faults, and where ``_frames.c`` could not be built everything goes that way.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fastdcm.errors import SourceError
from fastdcm.model import FrameSource, ValueRule
from fastdcm.pixels import finish, values
from fastdcm.pixels.finish import Finish, finish_of
from fastdcm.pixels.frame import is_direct, plain_layout
from fastdcm.scan.opened import is_plain

Array = npt.NDArray[Any]

HEADERS_BYTES_MAX = 64 * 2**20
"""Of one call: what the scan said of the headers' length is not believed beyond it."""


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
    if finish.FRAMES is None or out.ndim != 3 or rows[0] != 0 or not out.flags.c_contiguous:
        return headers
    found = _plan(sources, rule, rows, out)
    if found:
        cells = list(found)
        paths = [source.path for cell in cells if (source := sources[cell]) is not None]
        plan = np.array(list(found.values()), np.int64)
        for cell, header in zip(cells, finish.FRAMES.read_frames(paths, plan, out, out[0].nbytes), strict=True):
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
        known_finish = known[alike]
        if known_finish is not None:
            room -= source.pixel_offset
            found[cell] = (source.size, source.mtime_ns, source.pixel_offset, cell * frame_bytes, *known_finish)
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
