"""Dimension indices (PS3.3 C.7.6.17): which attribute tells frames apart that no column of the index has."""

from __future__ import annotations

import re
import struct
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from fastdcm.scan import elements, rules
from fastdcm.scan.pydicom_once import load_pydicom

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

Row = dict[str, object]

_MOST_DIMENSIONS = 32
_SEQUENCE, _POINTER, _GROUP, _VALUES, _CONTENT = 0x00209222, 0x00209165, 0x00209167, 0x00209157, 0x00209111
_KNOWN = frozenset(
    {
        0x00200032,  # Image Position (Patient)
        0x00200037,
        0x00209301,  # Image Position (Volume)
        0x00209302,
        0x00209056,  # Stack ID
        0x00209057,
        0x00209128,  # Temporal Position Index
        0x0020930D,
        0x00209153,  # trigger delays, cardiac phase
        0x00209252,
        0x00209241,
        0x00189074,  # Frame Acquisition and Reference DateTime
        0x00189151,
        0x00209156,  # Frame Acquisition Number
        0x00189082,  # Effective Echo Time
        0x00189087,  # b-value, directions
        0x00189089,
        0x00189075,
        0x00189076,
        0x00089007,  # Frame Type
        0x00089208,
        0x00189257,  # ASL Context
        0x00180060,  # KVP
        0x0062000B,  # Referenced Segment Number
    }
)
"""Pointers to what columns of the index have."""


class Dimension(NamedTuple):
    """One dimension of the Multi-frame Dimension module."""

    place: int
    """Of its index among the Dimension Index Values of a frame."""
    pointer: int
    group: int | None
    """The functional group that holds what it points to."""


def name_frames(dataset: Dataset, shared: Dataset | None, per_frame: Sequence[Dataset], rows: Sequence[Row]) -> None:
    """Fill ``dimension_name`` and ``dimension_value`` of the frames by the first public dimension that is no column's.

    The value is the attribute's own where every frame has one number, else the Dimension Index Value.
    """
    if len(per_frame) < len(rows) or len(rows) < 2:
        return
    indices = [_index_values(item) for item in per_frame[: len(rows)]]
    for dimension in _dimensions(dataset):
        index = [values[dimension.place] if dimension.place < len(values) else None for values in indices]
        name = _name(dimension.pointer)
        if name is None or None in index or len(set(index)) == 1:
            continue
        values = [_value(dimension, item, shared) for item in per_frame[: len(rows)]]
        for row, number, value in zip(rows, index, values, strict=True):
            row["dimension_name"] = name
            row["dimension_value"] = float(number or 0) if None in values else value
        return


def _dimensions(dataset: Dataset) -> list[Dimension]:
    found = []
    for place, item in enumerate(elements.items(dataset, _SEQUENCE, _MOST_DIMENSIONS)):
        pointer = _tag(item, _POINTER)
        if pointer is not None and pointer not in _KNOWN:
            found.append(Dimension(place, pointer, _tag(item, _GROUP)))
    return found


def _tag(item: Dataset, tag: int) -> int | None:
    """Return the value of an element of VR AT."""
    element = elements.raw_element(item, tag)
    if element is None or len(element.value) < 4:
        return None
    group, number = struct.unpack_from("<2H" if element.little_endian else ">2H", element.value)
    return int(group) << 16 | int(number)


def _index_values(item: Dataset) -> list[int | None]:
    content = elements.first_item(item, _CONTENT)
    element = elements.raw_element(content, _VALUES) if content is not None else None
    if element is None:
        return []
    count = min(len(element.value) // 4, _MOST_DIMENSIONS)
    return [rules.to_int(value) for value in rules.parse_binary(element.value, "UL", element.little_endian, count)]


def _name(pointer: int) -> str | None:
    """Return the keyword of a public attribute in snake case: flip_angle; None for private and unknown ones."""
    load_pydicom()
    from pydicom.datadict import keyword_for_tag

    keyword = keyword_for_tag(pointer)
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", keyword).lower() or None


def _value(dimension: Dimension, item: Dataset, shared: Dataset | None) -> float | None:
    """Return the number that a dimension points to in a frame, None where it is no number."""
    load_pydicom()
    from pydicom.datadict import dictionary_VR

    vr = dictionary_VR(dimension.pointer)
    if dimension.group is None or vr not in rules.NUMBER_VRS:
        return None
    for groups in (item, shared):
        macro = elements.first_item(groups, dimension.group)
        if macro is not None:
            return elements.number(macro, dimension.pointer, vr)
    return None
