"""Raw element bytes to the JSON model of PS3.18 Annex F. The result is always valid UTF-8 JSON.

Values that break their VR stay as text, numbers that are not finite become null; nothing here raises for what a file
holds.
"""

from __future__ import annotations

import base64
import math
import struct
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from fastdcm.errors import SourceError
from fastdcm.model import Json
from fastdcm.scan import elements, rules
from fastdcm.scan.allow import DATE_TIMES, TECHNICAL
from fastdcm.scan.pydicom_once import load_pydicom

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

Policy = Literal["technical", "full"]
Value = tuple[str, bytes]
"""VR as the file says it (empty: implicit) and the raw bytes, little endian."""

BINARY_BYTES_MAX, PALETTE_BYTES_MAX = 2**12, 2**17
"""Longer binary values stay out; a palette may have all 65 536 entries: it is the image's colours."""
PALETTES = frozenset({0x00281201, 0x00281202, 0x00281203, 0x00281221, 0x00281222, 0x00281223})
"""Palette Color Lookup Table Data, plain and segmented (PS3.3 C.7.6.3.1.6)."""
BINARY = frozenset({"OB", "OD", "OF", "OL", "OV", "OW", "UN"})
_ONE_VALUE = frozenset({"LT", "ST", "UT", "UR"})
_DEPTH_MAX = 16
BROKEN = (EOFError, struct.error, ValueError, KeyError, TypeError, AttributeError, NotImplementedError, RecursionError)
"""What pydicom raises for sequences that are none."""


class Context(NamedTuple):
    """What the meaning of an element's bytes depends on."""

    policy: Policy
    charsets: tuple[str, ...] = ()
    signed: bool = False
    depth: int = 0


def resolve_vr(tag: int, vr: str, signed: bool) -> str:
    """Return the VR of an element: the file's, or the dictionary's where it has none or UN."""
    if vr not in ("", "UN"):
        return vr
    known = TECHNICAL[tag][0] if tag in TECHNICAL else _dictionary_vr(tag)
    if known == "US or SS":
        return "SS" if signed else "US"
    return known.split(" or ")[-1]


def _dictionary_vr(tag: int) -> str:
    if tag >> 16 & 1:
        return "LO" if 0x10 <= tag & 0xFFFF <= 0xFF else "UN"
    load_pydicom()
    from pydicom.datadict import dictionary_VR

    try:
        return dictionary_VR(tag)
    except KeyError:
        return "UN"


def binary_bytes_max(tag: int) -> int:
    """Return how long a binary value may be to become JSON."""
    return PALETTE_BYTES_MAX if tag in PALETTES else BINARY_BYTES_MAX


def element_json(tag: int, value: Value, context: Context) -> Json | None:
    """Return ``{"vr": ..., "Value": [...]}`` of an element, None where nothing of it may or can be shown."""
    vr = resolve_vr(tag, value[0], context.signed)
    raw = value[1]
    if vr == "SQ":
        items = _items(value, context)
        return None if items is None else {"vr": vr, "Value": items} if items else {"vr": vr}
    if vr in BINARY:
        if len(raw) > binary_bytes_max(tag):
            return None
        return {"vr": vr, "InlineBinary": base64.b64encode(raw).decode("ascii")} if raw else {"vr": vr}
    values = _values(vr, raw, context)
    return {"vr": vr, "Value": values} if any(part is not None for part in values) else {"vr": vr}


def _values(vr: str, raw: bytes, context: Context) -> list[object]:
    """Return the values of an element that is neither binary nor a sequence."""
    if vr == "AT":
        pairs = struct.unpack(f"<{len(raw) // 4 * 2}H", raw[: len(raw) // 4 * 4])
        return [f"{group:04X}{number:04X}" for group, number in zip(pairs[::2], pairs[1::2], strict=True)]
    if vr in rules.BINARY_VRS:
        return [_plain(number, vr) for number in rules.parse_binary(raw, vr, True, len(raw)) if number is not None]
    text = rules.clean_text(raw, context.charsets) or ""
    if vr in _ONE_VALUE:
        return [text or None]
    parts = [part.strip() for part in text.split("\\")]
    if vr in ("DS", "IS"):
        return [_decimal(part, vr) for part in parts]
    if vr == "PN":
        return [_name(part) for part in parts]
    return [part or None for part in parts]


def _plain(number: float, vr: str) -> int | float | None:
    if not math.isfinite(number):
        return None
    return number if vr in ("FL", "FD") else int(number)


def _decimal(text: str, vr: str) -> int | float | str | None:
    number = rules.parse_number(text)
    if number is None or math.isnan(number):
        return text or None
    return int(number) if vr == "IS" and number.is_integer() else number


def _name(text: str) -> Json | None:
    groups = zip(("Alphabetic", "Ideographic", "Phonetic"), text.split("="), strict=False)
    return {group: part for group, part in groups if part} or None


# ---------------------------------------------------------------------------- sequences


def _items(value: Value, context: Context) -> list[Json] | None:
    """Return the items of a sequence after the policy; None where it cannot be read."""
    if context.depth >= _DEPTH_MAX:
        return None
    vr, raw = value
    try:
        found = elements.read_items(raw, vr != "SQ", True)  # no VR, or UN: implicit (CP-246)
        return [_item(item, context) for item in found]
    except (*BROKEN, SourceError):
        return None


def _item(item: Dataset, context: Context) -> Json:
    load_pydicom()
    from pydicom.dataelem import DataElement

    inner = context._replace(charsets=tuple(elements.charsets_of(item)) or context.charsets, depth=context.depth + 1)
    shown: Json = {}
    for tag in map(int, sorted(item.keys())):
        if excluded(tag) or (context.policy == "technical" and tag not in TECHNICAL and tag not in DATE_TIMES):
            continue
        element: Any = item.get_item(tag)
        if isinstance(element, DataElement):  # a sequence of undefined length is read already
            made: Json | None = _nested(element.value, inner) if element.VR == "SQ" else None
        else:
            made = _shown(tag, (element.VR or "", element.value or b""), inner)
        if made is not None:
            key = DATE_TIMES.get(tag, tag) if context.policy == "technical" else tag
            shown.setdefault(f"{key:08X}", made)
    return shown


def _nested(items: Sequence[Dataset], context: Context) -> Json | None:
    if context.depth >= _DEPTH_MAX:
        return None
    made = [_item(item, context) for item in items]
    return {"vr": "SQ", "Value": made} if made else {"vr": "SQ"}


def _shown(tag: int, value: Value, context: Context) -> Json | None:
    """Return an item's element after the policy; of a date and time the time alone."""
    if context.policy == "technical" and tag in DATE_TIMES:
        return time_of(value)
    return element_json(tag, value, context)


def time_of(value: Value) -> Json | None:
    """Return the time of a DT value as a TM element, None where it has none (PS3.5 6.2)."""
    text = rules.raw_text(value[1]) or ""
    if rules.parse_date_time(text) is None:
        return None
    return {"vr": "TM", "Value": [text[8:].partition("+")[0].partition("-")[0]]}


def excluded(tag: int) -> bool:
    """Whether an element is never shown: group lengths, pixels, LUTs but palettes, icons, character set, padding."""
    group, number = tag >> 16, tag & 0xFFFF
    return (
        number == 0
        or group in (0x0002, 0x7FE0, 0xFFFC, 0xFFFA)
        or tag in (0x00080005, 0x00880200, 0x00283006, 0x00283010)
        or (group == 0x0028 and 0x1200 <= number <= 0x1230 and tag not in PALETTES)
    )
