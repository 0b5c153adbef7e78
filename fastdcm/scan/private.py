"""Private blocks: an element counts only where its block is reserved by the vendor's creator (PS3.5 7.8.1)."""

from __future__ import annotations

from fastdcm.scan import rules
from fastdcm.scan.rules import Getter

BLOCKS = range(0x10, 0x18)
"""Private blocks that are looked into."""


def find_block(get: Getter, group: int, creator: str) -> int | None:
    """Return the tag of the first element of a creator's private block, None where it reserved none of ``BLOCKS``."""
    for block in BLOCKS:
        element = get(group << 16 | block)
        if element is not None and rules.raw_text(element.value) == creator:
            return group << 16 | block << 8
    return None


def private_numbers(
    get: Getter, group: int, creator: str, element: int, vr: str, count: int
) -> list[float | None] | None:
    """Return ``count`` numbers of a private element, ``vr`` where the file names none; None where it is absent."""
    block = find_block(get, group, creator)
    found = get(block | element) if block is not None else None
    if found is None:
        return None
    known = found.vr if found.vr in rules.NUMBER_VRS else vr
    return rules.parse_values(found.value, known, found.little_endian, count)
