"""What turns values into physical ones beside the Modality LUT, frame by frame: recorded, never applied."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from fastdcm.errors import SourceError
from fastdcm.scan import elements, rules
from fastdcm.scan.private import find_block, private_numbers
from fastdcm.scan.rules import Getter, Raw
from fastdcm.scan.walk import walk_elements

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

MAPPING = 0x00409096
_PHILIPS, _FRAME_BLOCK, _SCALE_BLOCK = 0x2005, "Philips MR Imaging DD 005", "Philips MR Imaging DD 001"
_FRAME_SEQUENCE, _SCALE_SLOPE = 0x0F, 0x0E
_ITEM = b"\xfe\xff\x00\xe0"


def read_mapping(item: Dataset, charsets: Sequence[str]) -> Mapping[str, object]:
    """Return slope, intercept and the unit's code of the first Real World Value Mapping (PS3.3 C.7.6.16.2.11)."""
    unit = elements.first_item(item, 0x004008EA)
    return {
        "real_world_slope": elements.number(item, 0x00409225, "FD"),
        "real_world_intercept": elements.number(item, 0x00409224, "FD"),
        "real_world_unit": elements.text(unit, 0x00080100, charsets) if unit is not None else None,
    }


def philips_sequence(item: Dataset) -> int | None:
    """Return the tag of Philips' private sequence in a frame's functional groups, None where there is none."""
    block = find_block(partial(elements.raw_element, item), _PHILIPS, _FRAME_BLOCK)
    if block is None or block | _FRAME_SEQUENCE not in item:
        return None
    return block | _FRAME_SEQUENCE


def philips_scale_slope(item: Dataset, tag: int) -> float | None:
    """Return Scale Slope (2005,100E) of Philips' private sequence, None where it is absent or unreadable."""
    try:
        get = _inner_elements(item, tag)
    except SourceError:  # what is private and damaged costs no image
        return None
    found = private_numbers(get, _PHILIPS, _SCALE_BLOCK, _SCALE_SLOPE, "FL", 1) if get else None
    return rules.finite(found[0]) if found else None


def _inner_elements(item: Dataset, tag: int) -> Getter | None:
    """Return what gives the elements of a sequence's first item.

    Philips' sequence holds a hundred elements for each frame: of raw bytes only their heads are read.
    """
    stored = elements.stored_value(item, tag)
    if isinstance(stored, tuple) and isinstance(stored[1], bytes) and stored[1][:4] == _ITEM:
        vr, raw, implicit, _ = stored
        content = raw[8:]
        walked = walk_elements(content, not implicit and vr != "UN")  # CP-246
        return {e.tag: Raw(e.vr, content[e.offset : e.offset + e.length]) for e in walked}.get
    inner = elements.first_item(item, tag)
    return None if inner is None else partial(elements.raw_element, inner)
