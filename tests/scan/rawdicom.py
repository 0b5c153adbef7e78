"""DICOM bytes by hand: whatever is wrong with them is meant."""

from __future__ import annotations

import struct

LONG = frozenset(["OB", "OD", "OF", "OL", "OV", "OW", "SQ", "SV", "UC", "UN", "UR", "UT", "UV"])
EXPLICIT, IMPLICIT = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2"
CT_CLASS = "1.2.840.10008.5.1.4.1.1.2"
UNDEFINED = 0xFFFFFFFF
SEQUENCE_END = struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
ITEM_END = struct.pack("<HHI", 0xFFFE, 0xE00D, 0)


def explicit(tag: int, vr: str, value: bytes | str, length: int | None = None) -> bytes:
    """One element; ``length`` lies where it is given."""
    raw = value.encode("latin-1") if isinstance(value, str) else value
    raw += (b"\0" if vr in ("UI", "OB", "UN") else b" ") * (len(raw) % 2)
    size = len(raw) if length is None else length
    head = struct.pack("<HH2s", tag >> 16, tag & 0xFFFF, vr.encode())
    return head + (struct.pack("<HI", 0, size) if vr in LONG else struct.pack("<H", size)) + raw


def implicit(tag: int, value: bytes | str, length: int | None = None) -> bytes:
    raw = value.encode("latin-1") if isinstance(value, str) else value
    raw += b" " * (len(raw) % 2)
    return struct.pack("<HHI", tag >> 16, tag & 0xFFFF, len(raw) if length is None else length) + raw


def item(content: bytes, undefined: bool = False) -> bytes:
    head = struct.pack("<HHI", 0xFFFE, 0xE000, UNDEFINED if undefined else len(content))
    return head + content + (ITEM_END if undefined else b"")


def us(*numbers: int) -> bytes:
    return struct.pack(f"<{len(numbers)}H", *numbers)


def meta(syntax: str | None, sop_class: str = CT_CLASS) -> bytes:
    elements = explicit(0x00020002, "UI", sop_class)
    if syntax is not None:
        elements += explicit(0x00020010, "UI", syntax)
    return explicit(0x00020000, "UL", struct.pack("<I", len(elements))) + elements


def part10(data_set: bytes, syntax: str | None = EXPLICIT, sop_class: str = CT_CLASS) -> bytes:
    """A whole file: preamble, File Meta Information, data set."""
    return bytes(128) + b"DICM" + meta(syntax, sop_class) + data_set


def image(
    before_pixels: bytes = b"", rows: int = 4, columns: int = 6, pixels: bytes | None = None, sop_class: str = CT_CLASS
) -> bytes:
    """An explicit data set of a small 16-bit image; ``before_pixels`` goes behind group 0028."""
    pixels = bytes(2 * rows * columns) if pixels is None else pixels
    return b"".join(
        (
            explicit(0x00080008, "CS", "ORIGINAL\\PRIMARY\\AXIAL"),
            explicit(0x00080016, "UI", sop_class),
            explicit(0x00080018, "UI", "1.2.3.4"),
            explicit(0x00080060, "CS", "CT"),
            explicit(0x0020000D, "UI", "1.2.3"),
            explicit(0x0020000E, "UI", "1.2.3.1"),
            explicit(0x00200013, "IS", "17"),
            explicit(0x00200032, "DS", "-1.5\\2.25\\1e2"),
            explicit(0x00280002, "US", us(1)),
            explicit(0x00280004, "CS", "MONOCHROME2"),
            explicit(0x00280010, "US", us(rows)),
            explicit(0x00280011, "US", us(columns)),
            explicit(0x00280030, "DS", "0.5\\0.75"),
            explicit(0x00280100, "US", us(16)),
            explicit(0x00280101, "US", us(12)),
            explicit(0x00280102, "US", us(11)),
            explicit(0x00280103, "US", us(0)),
            before_pixels,
            explicit(0x7FE00010, "OW", pixels),
        )
    )


def icon() -> bytes:
    """An icon with pixel data of its own, as a sequence of undefined length."""
    content = explicit(0x00280010, "US", us(2)) + explicit(0x7FE00010, "OW", b"icon")
    return explicit(0x00880200, "SQ", item(content, undefined=True) + SEQUENCE_END, UNDEFINED)


ODD_ENDS = (
    explicit(0x00311010, "UN", item(implicit(0x7FE00010, "not the image's"), undefined=True) + SEQUENCE_END, UNDEFINED)
    + explicit(0x00311011, "OB", b"long form")
    + explicit(0x00541001, "CS", "BQML")
    + icon()
)
"""A private block of undefined length, a wanted value and an icon, as they stand between group 0028 and the pixels."""


def straddling(piece: bytes, position: int, before: bytes = b"") -> bytes:
    """A whole file in which a piece, and then the pixels, start at a position; odd lengths are as they come."""
    filler = struct.pack("<HH2sHI", 0x0031, 0x1001, b"OB", 0, 0)
    start = len(part10(image(before + filler, pixels=b""))) - len(explicit(0x7FE00010, "OW", b""))
    length = position - start
    filler = struct.pack("<HH2sHI", 0x0031, 0x1001, b"OB", 0, length) + bytes(length)
    return part10(image(before + filler + piece, pixels=b"real" * 12))


def straddling_all() -> list[bytes]:
    """Files with each byte of ``ODD_ENDS`` and of the pixels' head at the end of the first and of the second read."""
    places = range(-2, len(ODD_ENDS) + 14)
    skipped = (
        explicit(0x00310010, "LO", "A") + explicit(0x00310011, "OB", bytes(8192)) + explicit(0x00310012, "LO", "B")
    )
    second = len(part10(image(skipped, pixels=b""))) - len(explicit(0x7FE00010, "OW", b"")) - 10 + 65536
    return [straddling(ODD_ENDS, 8192 - place) for place in places] + [
        straddling(ODD_ENDS, second - place, skipped) for place in places
    ]


def nested(depth: int) -> bytes:
    """Sequences of undefined length inside one another."""
    head = explicit(0x00081140, "SQ", b"", UNDEFINED) + struct.pack("<HHI", 0xFFFE, 0xE000, UNDEFINED)
    return head * depth + (ITEM_END + SEQUENCE_END) * depth
