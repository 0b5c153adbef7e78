"""Siemens' CSA header: a list of named elements in the private binary element (0029,xx10) (a bounded parser).

The format is not published. The newer form starts with ``SV10``; the older one has no signature and counts lengths
from the first item's (described by nibabel's documentation of the format).
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence

from fastdcm.scan import rules
from fastdcm.scan.private import find_block
from fastdcm.scan.rules import Getter

MOST_BYTES = 65536
"""A longer header is not read: those of images have some 12 kB."""
_MOST_ELEMENTS = 1000
_MOST_ITEMS = 1000
_ELEMENT = struct.Struct("<64si4s3i")
_ITEM = struct.Struct("<4i")
_B_VALUE = b"B_value\0"


def image_header(get: Getter) -> bytes:
    """Return the CSA image header of top-level elements, empty where there is none."""
    block = find_block(get, 0x0029, "SIEMENS CSA HEADER")
    element = get(block | 0x10) if block is not None else None
    return element.value if element and len(element.value) <= MOST_BYTES else b""


def names_b_value(data: bytes) -> bool:
    """Whether the element ``B_value`` of a CSA header has a value: that of a diffusion image; reads nothing else."""
    at = data.find(_B_VALUE)
    newer = data[:4] == b"SV10"
    first = 16 if newer else 8
    if at < first or at + _ELEMENT.size > len(data):
        return False
    base, items = (_ELEMENT.unpack_from(data, element)[4] for element in (first, at))
    if not 0 < items <= _MOST_ITEMS:
        return False
    return bool(_items(data, at + _ELEMENT.size, items, 0 if newer else base, newer)[0])


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


def csa_numbers(csa: Mapping[str, Sequence[str]], name: str, count: int) -> list[float] | None:
    """Return the first ``count`` numbers of an element, None where one is absent or not finite."""
    parts = [rules.finite(rules.parse_number(text)) for text in csa.get(name, ())[:count]]
    known = [part for part in parts if part is not None]
    return known if len(known) == count else None


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
