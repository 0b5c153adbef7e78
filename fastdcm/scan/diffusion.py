"""b-value and gradient direction of an MR image, from the standard or from a vendor's private elements.

A private element counts only where its block is reserved by the vendor's creator (PS3.5 7.8.1).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

from fastdcm.scan import rules
from fastdcm.scan.rules import Getter, Row

Numbers = list[float | None]

BLOCKS = range(0x10, 0x18)
"""Private blocks that are looked into."""


def find_block(get: Getter, group: int, creator: str) -> int | None:
    """Return the tag of the first element of a creator's private block, None where it reserved none of ``BLOCKS``."""
    for block in BLOCKS:
        element = get(group << 16 | block)
        if element is not None and rules.raw_text(element.value) == creator:
            return group << 16 | block << 8
    return None


def read_diffusion(get: Getter, row: Row) -> Mapping[str, float | None]:
    """Return b_value (s/mm2) and b_x, b_y, b_z for the row of an MR image; nothing where there are none.

    Directions are as the vendor gives them: Siemens, Philips, UIH and the standard in the patient's frame, GE in the
    image's (frequency, phase, slice). They tell volumes apart; nothing is computed from them.
    """
    if row["modality"] != "MR" or row["b_value"] is not None:
        return {}
    for vendor in _VENDORS:
        b_value = _private(get, vendor.group, vendor.creator, vendor.b_value, vendor.b_vr, 1)
        if b_value is None or b_value[0] is None or not math.isfinite(b_value[0]):
            continue
        value = vendor.correct(b_value[0])
        direction = vendor.direction(get) if value > 0 else None
        x, y, z = direction if direction and all(rules.finite(d) is not None for d in direction) else [None] * 3
        return {"b_value": value, "b_x": x, "b_y": y, "b_z": z}
    return {}


def _private(get: Getter, group: int, creator: str, element: int, vr: str, count: int) -> Numbers | None:
    block = find_block(get, group, creator)
    found = get(block | element) if block is not None else None
    if found is None:
        return None
    known = found.vr if found.vr in rules.NUMBER_VRS else vr
    return rules.parse_values(found.value, known, found.little_endian, count)


def _one(get: Getter, group: int, creator: str, element: int, vr: str) -> Numbers | None:
    return _private(get, group, creator, element, vr, 3)


def _three(get: Getter, group: int, creator: str, tags: tuple[int, int, int], vr: str) -> Numbers | None:
    parts = [_private(get, group, creator, element, vr, 1) for element in tags]
    return [part[0] if part else None for part in parts]


def _same(value: float) -> float:
    return value


def _ge(value: float) -> float:
    """GE adds 1e9 to b-values of some protocols."""
    return value - 1e9 if value >= 1e9 else value


class _Vendor(NamedTuple):
    group: int
    creator: str
    b_value: int
    b_vr: str
    direction: Callable[[Getter], Numbers | None]
    correct: Callable[[float], float] = _same


_VENDORS = (
    _Vendor(0x0019, "SIEMENS MR HEADER", 0x0C, "IS", lambda get: _one(get, 0x0019, "SIEMENS MR HEADER", 0x0E, "FD")),
    _Vendor(
        0x0043,
        "GEMS_PARM_01",
        0x39,
        "IS",
        lambda get: _three(get, 0x0019, "GEMS_ACQU_01", (0xBB, 0xBC, 0xBD), "DS"),
        _ge,
    ),
    _Vendor(
        0x2001,
        "Philips Imaging DD 001",
        0x03,
        "FL",
        lambda get: _three(get, 0x2005, "Philips MR Imaging DD 001", (0xB0, 0xB1, 0xB2), "FL"),
    ),
    _Vendor(
        0x0065, "Image Private Header", 0x09, "FD", lambda get: _one(get, 0x0065, "Image Private Header", 0x37, "FD")
    ),
)
