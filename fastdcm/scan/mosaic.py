"""Siemens mosaics: how many slices one frame holds, and their normal, from the CSA header (a bounded parser).

A CSA header is a list of named elements in a private binary element. The newer form starts with ``SV10``; the older one
has no signature and counts lengths from the first item's (described by nibabel's documentation of the format).
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping

from fastdcm.scan import rules
from fastdcm.scan.diffusion import find_block
from fastdcm.scan.rules import Getter, Row

_MOST_ELEMENTS = 1000
_MOST_ITEMS = 1000
_ELEMENT = struct.Struct("<64si4s3i")
_ITEM = struct.Struct("<4i")


def read_csa(data: bytes) -> Mapping[str, list[str]]:
    """Return the elements of a CSA header as their non-empty texts; what there is where it is broken."""
    newer = data[:4] == b"SV10"
    at = 8 if newer else 0
    if len(data) < at + 8:
        return {}
    (count,) = struct.unpack_from("<I", data, at)
    if count > _MOST_ELEMENTS:
        return {}
    at += 8
    found: dict[str, list[str]] = {}
    base: int | None = 0 if newer else None
    for _ in range(count):
        if at + _ELEMENT.size > len(data):
            break
        name, _vm, _vr, _, items, _ = _ELEMENT.unpack_from(data, at)
        at += _ELEMENT.size
        if not 0 <= items <= _MOST_ITEMS:
            break
        base = items if base is None else base
        texts, end = _items(data, at, items, base, newer)
        found[_string(name)] = texts
        if end is None:
            break
        at = end
    return found


def _items(data: bytes, at: int, count: int, base: int, newer: bool) -> tuple[list[str], int | None]:
    """Return the texts of one element's items, and where they end (None: beyond the data)."""
    texts: list[str] = []
    for _ in range(count):
        if at + _ITEM.size > len(data):
            return texts, None
        lengths = _ITEM.unpack_from(data, at)
        length = lengths[1] if newer else lengths[0] - base
        at += _ITEM.size
        if length < 0 or at + length > len(data):
            return (texts, None) if newer or length >= 0 else (texts, at)
        if length:
            texts.append(_string(data[at : at + length]))
        at += length + -length % 4
    return texts, at


def _string(raw: bytes) -> str:
    return raw.split(b"\0", 1)[0].decode("latin-1").strip()


def read_mosaic(get: Getter, row: Row) -> Mapping[str, float | int | None]:
    """Return ``mosaic_tiles`` and ``normal_x/y/z`` of a mosaic's row; nothing for any other image.

    A mosaic is an image with MOSAIC among its Image Type values. ``mosaic_tiles`` is 0 where neither the CSA header
    nor (0019,100A) tells a number of slices whose square grid divides Rows and Columns.
    """
    kinds = str(row["image_type"] or "").upper().split("\\")
    if "MOSAIC" not in [kind.strip() for kind in kinds]:
        return {}
    csa = _image_header(get)
    count = _first(csa.get("NumberOfImagesInMosaic", [])) or _private_count(get)
    values: dict[str, float | int | None] = {"mosaic_tiles": _valid_tiles(count, row["rows"], row["columns"])}
    normal = [rules.parse_number(part) for part in csa.get("SliceNormalVector", [])[:3]]
    parts = [n for n in normal if n is not None and math.isfinite(n)]
    if len(parts) == 3 and any(parts):
        values.update(zip(("normal_x", "normal_y", "normal_z"), parts, strict=True))
    return values


def _image_header(get: Getter) -> Mapping[str, list[str]]:
    block = find_block(get, 0x0029, "SIEMENS CSA HEADER")
    element = get(block | 0x10) if block is not None else None
    return read_csa(element.value) if element else {}


def _first(texts: list[str]) -> float | None:
    return rules.finite(rules.parse_number(texts[0])) if texts else None


def _private_count(get: Getter) -> float | None:
    block = find_block(get, 0x0019, "SIEMENS MR HEADER")
    element = get(block | 0x0A) if block is not None else None
    if element is None:
        return None
    vr = element.vr if element.vr in rules.NUMBER_VRS else "US"
    return rules.parse_values(element.value, vr, element.little_endian, 1)[0]


def _valid_tiles(count: float | None, rows: object, columns: object) -> int:
    """Return the number of tiles if a square grid of them fits the matrix, else 0."""
    tiles = rules.to_int(count)
    if not tiles or tiles < 1 or not isinstance(rows, int) or not isinstance(columns, int):
        return 0
    side = math.isqrt(tiles - 1) + 1
    return tiles if side <= rows and side <= columns and rows % side == 0 and columns % side == 0 else 0
