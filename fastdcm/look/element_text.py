"""Elements of a file as people read them: tag, name, keyword, VR, number of values, value.

Values are written as SimpleITK writes them: decimal text as it is in the file, binary numbers in decimal with a
backslash between them, other binary in base64; without the padding at the end. Unlike SimpleITK's, texts are decoded by
the file's character set, and floating point numbers have all their digits.
"""

from __future__ import annotations

import base64
import re
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from fastdcm.look.terminal import size_text
from fastdcm.scan import rules
from fastdcm.scan.dictionary import creator_tag, is_creator, keyword_of, name_of, private_vr
from fastdcm.scan.listing import ITEM, Listed, Listing
from fastdcm.scan.tag_json import BINARY, resolve_vr

_CHARSET, _SIGN = 0x00080005, 0x00280103
_DECODED = frozenset({"LO", "LT", "PN", "SH", "ST", "UC", "UT"})
_ONE_VALUE = frozenset({"LT", "ST", "UR", "UT"})
_BREAKS = re.compile(rb"([\x00-\x1a\x1c-\x1f]+)")
_CODES = {"US": "H", "SS": "h", "UL": "I", "SL": "i", "UV": "Q", "SV": "q"}
_FLOATS = {"FL": "f", "FD": "d"}
_WORD_BYTES = {"OW": 2, "OF": 4, "OL": 4, "OD": 8, "OV": 8}


@dataclass(frozen=True, slots=True)
class Element:
    """One element of a file, or the head of an item of a sequence (tag ``fffe|e000``)."""

    tag: str
    """Group and element number as SimpleITK writes them: ``0008|103e``."""
    depth: int
    """0 at the top; an item and its elements are one deeper than their sequence."""
    name: str
    """Of the dictionary: ``Series Description``; empty where it knows none."""
    keyword: str
    """Of the dictionary: ``SeriesDescription``; private elements have none."""
    vr: str
    """As the file says; the dictionary's where the file says nothing or UN. Empty for items."""
    vm: int
    """Number of values; of a sequence that of its items."""
    value: str
    """Text; it may hold control characters, so ``look.terminal.clean`` it before it reaches a terminal."""
    private: bool
    """Of an odd group, or inside such a sequence."""
    n_bytes: int | None
    """Length of the value in the file; None where it is not defined."""


def element_texts(listing: Listing, *, private: bool) -> Iterator[Element]:
    """Yield the elements of a listing, in its order.

    Parameters
    ----------
    listing : Listing
        Of one file.
    private : bool
        Whether private ones come too.
    """
    contexts = [_Context()]
    hidden: int | None = None  # depth of the private sequence that is being left out
    counts = _item_counts(listing.elements)
    for place, element in enumerate(listing.elements):
        del contexts[element.depth + 1 :]
        if hidden is not None and element.depth > hidden:
            continue
        hidden = None
        if element.tag == ITEM:
            contexts = [*contexts[: element.depth], contexts[element.depth - 1].inner()]
        context = contexts[-1]
        context.note(element)
        if (context.private or element.tag >> 16 & 1) and not private:
            hidden = element.depth
            continue
        yield _described(element, context, counts.get(place, 0))


class _Context:
    """What the meaning of an element depends on: what came before it in its data set, and around it."""

    def __init__(self, charsets: Sequence[str] = (), signed: bool = False, private: bool = False) -> None:
        self.charsets, self.signed, self.private = charsets, signed, private
        self.creators: dict[int, str] = {}
        self.items = 0
        self.in_private = private

    def inner(self) -> _Context:
        """Return what an item inherits."""
        return _Context(self.charsets, self.signed, self.in_private)

    def note(self, element: Listed) -> None:
        """Take notice of an element that others depend on."""
        raw = element.value or b""
        self.in_private = self.private or bool(element.tag >> 16 & 1)
        if element.tag == _CHARSET:
            self.charsets = raw.decode("latin-1").split("\\")
        elif element.tag == _SIGN:
            self.signed = raw[:2] in (b"\1\0", b"\0\1")
        elif is_creator(element.tag):
            self.creators[element.tag] = rules.raw_text(raw) or ""

    def creator(self, tag: int) -> str:
        """Return who reserved the block of a private element (PS3.5 7.8.1)."""
        return self.creators.get(creator_tag(tag) or 0, "")


def _item_counts(elements: Sequence[Listed]) -> dict[int, int]:
    """Return the number of items of each sequence, by its place."""
    counts: dict[int, int] = {}
    open_at: list[int] = []
    for place, element in enumerate(elements):
        del open_at[element.depth :]
        if element.tag == ITEM:
            counts[open_at[-1]] += 1
        elif element.vr == "SQ":
            open_at.append(place)
            counts[place] = 0
    return counts


def _described(element: Listed, context: _Context, items: int) -> Element:
    group, number = element.tag >> 16, element.tag & 0xFFFF
    name, keyword, vr = _dictionary(element, context)
    if element.tag == ITEM:
        vm, value = 1, ""
    elif element.vr == "SQ":
        vm, value = items, f"{items} item{'' if items == 1 else 's'}"
    else:
        vm, value = value_text(element, vr, context.charsets)
    n_bytes = None if element.length < 0 else element.length
    tag = f"{group:04x}|{number:04x}"
    return Element(tag, element.depth, name, keyword, vr, vm, value, context.in_private, n_bytes)


def _dictionary(element: Listed, context: _Context) -> tuple[str, str, str]:
    """Return name, keyword and VR."""
    tag, said = element.tag, element.vr if element.vr != "UN" else ""
    if tag == ITEM:
        return "Item", "", ""
    name = name_of(tag, context.creator(tag))
    if tag & 0xFFFF == 0:
        return name, "", said or "UL"
    if tag >> 16 & 1:
        return name, "", said or ("LO" if is_creator(tag) else private_vr(tag, context.creator(tag)))
    return name, keyword_of(tag), resolve_vr(tag, element.vr, context.signed)


# ---------------------------------------------------------------------------- values


def value_text(element: Listed, vr: str, charsets: Sequence[str] = ()) -> tuple[int, str]:
    """Return the number of values and their text.

    Parameters
    ----------
    element : Listed
        No sequence.
    vr : str
        Of the element.
    charsets : sequence of str
        Values of Specific Character Set (0008,0005) that hold there.
    """
    raw = element.value
    if raw is None:
        said = "length not defined" if element.length < 0 else size_text(element.length)
        return 1, f"({said}, not read)"
    if not raw:
        return 0, ""
    if vr in _CODES or vr in _FLOATS or vr == "AT":
        parts = list(_numbers(raw, vr, element.little_endian))
        return len(parts), "\\".join(parts)
    if vr in BINARY:
        return 1, base64.b64encode(raw if element.little_endian else _swapped(raw, vr)).decode("ascii")
    text = decode(raw, charsets if vr in _DECODED else ()).rstrip(" \0")
    return 1 if vr in _ONE_VALUE else text.count("\\") + 1, text


def _swapped(raw: bytes, vr: str) -> bytes:
    """Return big endian words as little endian ones (as PS3.18 F.2.7 wants them)."""
    size = _WORD_BYTES.get(vr, 1)
    if size == 1 or len(raw) % size:
        return raw
    return b"".join(raw[at : at + size][::-1] for at in range(0, len(raw), size))


def _numbers(raw: bytes, vr: str, little_endian: bool) -> Iterator[str]:
    order = "<" if little_endian else ">"
    if vr == "AT":
        for group, number in struct.iter_unpack(f"{order}HH", raw[: len(raw) // 4 * 4]):
            yield f"({group:04x},{number:04x})"
        return
    code = order + (_CODES.get(vr) or _FLOATS[vr])
    whole = len(raw) // struct.calcsize(code) * struct.calcsize(code)
    values: Iterator[tuple[Any]] = struct.iter_unpack(code, raw[:whole])
    for (value,) in values:
        yield _float_text(value, vr) if vr in _FLOATS else str(value)


def _float_text(value: float, vr: str) -> str:
    """Return the fewest digits that give the same number again."""
    if vr == "FD":
        return repr(value).removesuffix(".0")
    for digits in range(6, 9):
        text = f"{value:.{digits}g}"
        if struct.pack("<f", float(text)) == struct.pack("<f", value):
            return text
    return f"{value:.9g}"


def decode(raw: bytes, charsets: Sequence[str] = ()) -> str:
    """Decode a text by its character sets (``rules.clean_text``), and keep its line breaks.

    Bytes below 32 are no part of a character in any of DICOM's sets, and end code extensions (PS3.5 6.1.2.5.3).
    """
    if raw.isascii() and b"\x1b" not in raw:
        return raw.decode("ascii")
    parts = _BREAKS.split(raw)
    return "".join(
        part.decode("ascii") if place % 2 else rules.clean_text(part, charsets) or ""
        for place, part in enumerate(parts)
    )
