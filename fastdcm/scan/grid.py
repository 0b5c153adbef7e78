"""Grids of United Imaging (UIH): the slices of a volume as tiles of one frame, each with a position of its own.

The private elements are not published; they are read as dcm2niix does: Image Private Header (0065,xx50) has the number
of tiles, (0065,xx51) an item for each, in the order of the tiles: row by row in the smallest square grid.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from fastdcm.model import Floats
from fastdcm.scan import elements, rules
from fastdcm.scan.mosaic import grid_side, join_times, valid_tiles
from fastdcm.scan.private import BLOCKS, find_block, private_numbers
from fastdcm.scan.rules import Row

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

_GROUP, _CREATOR, _COUNT, _ITEMS = 0x0065, "Image Private Header", 0x50, 0x51
STOPS = tuple(_GROUP << 16 | block << 8 | _ITEMS for block in BLOCKS)
"""Elements that only grids have: pydicom reads such files."""
LINE_MM = 0.01
"""Positions that leave the even line from the first to the last by more are no grid that the index can describe."""


def read_grid(dataset: Dataset, row: Row) -> Mapping[str, float | int | str | None]:
    """Return what a mosaic's row has for a grid: tiles, normal, step and the position of a mosaic; else nothing.

    ``mosaic_tiles`` is 0 where the tiles do not fit the matrix, or their positions are unknown or uneven.
    """
    get = partial(elements.raw_element, dataset)
    block = find_block(get, _GROUP, _CREATOR)
    count = private_numbers(get, _GROUP, _CREATOR, _COUNT, "DS", 1)
    if block is None or not count or (rules.to_int(count[0]) or 0) < 2 or row["n_frames"] != 1:
        return {}
    tiles = valid_tiles(count[0], row["rows"], row["columns"])
    items = elements.items(dataset, block | _ITEMS, tiles)
    found = [elements.numbers(item, 0x00200032, 3) for item in items]
    places = np.array([[np.nan] * 3 if place is None else place for place in found], np.float64).reshape(-1, 3)
    corner = _half_difference(row, tiles) if tiles else None
    if tiles < 2 or len(places) != tiles or corner is None or not _on_a_line(places):
        return {"mosaic_tiles": 0}
    step = (places[-1] - places[0]) / (tiles - 1)
    length = float(np.linalg.norm(step))
    names = ("position_x", "position_y", "position_z", "normal_x", "normal_y", "normal_z")
    values = [*(places[0] - corner).tolist(), *(step / length).tolist()]
    times = [rules.parse_time(elements.text(item, 0x00080032)) for item in items]
    return {
        **dict(zip(names, values, strict=True)),
        "spacing_between": length,
        "mosaic_tiles": tiles,
        "mosaic_times": _since_first(times),
    }


def _on_a_line(places: Floats) -> bool:
    """Whether (n, 3) positions are even steps from the first to the last; False for NaN."""
    even = np.linspace(places[0], places[-1], len(places))
    return bool(np.abs(places - even).max() <= LINE_MM) and bool((places[0] != places[-1]).any())


def _half_difference(row: Row, tiles: int) -> Floats | None:
    """Return the way from the position of a mosaic to that of its tile (see ``series.frames``), mm; None: unknown."""
    names = ("row_x", "row_y", "row_z", "column_x", "column_y", "column_z", "spacing_x", "spacing_y", "columns", "rows")
    known = [value for name in names if isinstance(value := row[name], int | float)]
    if len(known) != len(names):
        return None
    across, down = np.array(known[:3]), np.array(known[3:6])
    dx, dy, columns, rows = known[6:]
    side = grid_side(tiles)
    offset: Floats = across * dx * (columns - columns / side) / 2 + down * dy * (rows - rows / side) / 2
    return offset


def _since_first(times: Sequence[float | None]) -> str | None:
    """Return ms after the earliest slice, joined."""
    known = [time for time in times if time is not None]
    if not known or len(known) != len(times):
        return None
    return join_times([(time - min(known)) * 1000.0 for time in known])
