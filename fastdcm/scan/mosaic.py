"""Siemens mosaics: how many slices one frame holds, and their normal, from the CSA header."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from fastdcm.scan import rules
from fastdcm.scan.csa import csa_numbers, image_header, read_csa
from fastdcm.scan.private import private_numbers
from fastdcm.scan.rules import Getter, Row


def read_mosaic(get: Getter, row: Row) -> Mapping[str, float | int | str | None]:
    """Return ``mosaic_tiles``, ``mosaic_times`` and ``normal_x/y/z`` of a mosaic's row; nothing for any other image.

    A mosaic is an image with MOSAIC among its Image Type values. ``mosaic_tiles`` is 0 where neither the CSA header
    nor (0019,100A) tells a number of slices whose square grid divides Rows and Columns.
    """
    kinds = str(row["image_type"] or "").upper().split("\\")
    if "MOSAIC" not in [kind.strip() for kind in kinds]:
        return {}
    csa = read_csa(image_header(get))
    count = csa_numbers(csa, "NumberOfImagesInMosaic", 1) or private_numbers(
        get, 0x0019, "SIEMENS MR HEADER", 0x0A, "US", 1
    )
    tiles = valid_tiles(count[0] if count else None, row["rows"], row["columns"])
    values: dict[str, float | int | str | None] = {"mosaic_tiles": tiles}
    times = csa_numbers(csa, "MosaicRefAcqTimes", tiles) or private_numbers(
        get, 0x0019, "SIEMENS MR HEADER", 0x29, "FD", tiles
    )
    if tiles and times:
        values["mosaic_times"] = join_times(times)
    normal = csa_numbers(csa, "SliceNormalVector", 3)
    if normal and any(normal):
        values.update(zip(("normal_x", "normal_y", "normal_z"), normal, strict=True))
    return values


def valid_tiles(count: float | None, rows: object, columns: object) -> int:
    """Return the number of tiles if a square grid of them fits the matrix, else 0."""
    tiles = rules.to_int(count)
    if not tiles or tiles < 1 or not isinstance(rows, int) or not isinstance(columns, int):
        return 0
    side = grid_side(tiles)
    return tiles if side <= rows and side <= columns and rows % side == 0 and columns % side == 0 else 0


def grid_side(tiles: int) -> int:
    """Return rows and columns of the smallest square grid that holds so many tiles."""
    return math.isqrt(tiles - 1) + 1


def join_times(times_ms: Sequence[float | None]) -> str | None:
    """Return times in one text, None where one is unknown."""
    known = [time for time in times_ms if time is not None and math.isfinite(time)]
    return "\\".join(f"{time:.10g}" for time in known) if len(known) == len(times_ms) else None
