"""Where codestreams end, for frames that fragments do not tell apart: several in one, or one across two.

A codestream is walked by its own structure and nothing in it is decoded: marker segments by their lengths, tile-parts
by theirs, and inside entropy-coded data, where no marker can occur, to the next marker.
JPEG: ISO/IEC 10918-1 B.1.1; JPEG-LS: ISO/IEC 14495-1 C.1; JPEG 2000 and HTJ2K: ISO/IEC 15444-1 A.2, A.4 and I.4.
A JPEG XL codestream does not say where it ends, and neither does an RLE frame.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable

STARTS = (b"\xff\xd8\xff", b"\xff\x4f\xff\x51", b"\x00\x00\x00\x0cjP  ", b"\xff\x0a", b"\x00\x00\x00\x0cJXL ")
"""First bytes of a JPEG, JPEG-LS, JPEG 2000, JP2 or JPEG XL stream."""
BLOCK_BYTES = 2**20

_MARKER = re.compile(rb"\xff[\xc0-\xcf\xd8-\xfe]")
"""In entropy-coded data FF is followed by 0 (JPEG), a bit of 0 (JPEG-LS), a restart marker or a fill byte."""
_END = re.compile(rb"\xff\xd9")
_NOT_PADDING = re.compile(rb"[^\0]", re.DOTALL)

Read = Callable[[int, int], bytes]
"""(offset, length) to the bytes there, fewer at the end."""


def find_codestreams(read: Read, most: int) -> list[tuple[int, int]]:
    """Return where codestreams that lie one after the other begin and end; zeros may be between them.

    Parameters
    ----------
    read
        Gives the bytes that hold them.
    most
        No more are looked for.

    Returns
    -------
    list of (start, end)
        Those before the first bytes that are no whole codestream with an end of its own.
    """
    found: list[tuple[int, int]] = []
    start = 0
    while len(found) < most:
        try:
            end = _end_of(read, start)
            found.append((start, end))
            start = _search(read, end, _NOT_PADDING)
            if read(start - 3, 12).startswith(STARTS[2]):  # its first three bytes are zeros
                start -= 3
        except (struct.error, ValueError):
            break
    return found


def _end_of(read: Read, start: int) -> int:
    head = read(start, 8)
    if head.startswith(STARTS[0]):
        return _end_of_jpeg(read, start + 2)
    if head.startswith(STARTS[1]):
        return _end_of_jpeg2000(read, start + 2)
    if head.startswith(STARTS[2]):
        return _end_of_jp2(read, start)
    raise ValueError("no codestream that has an end of its own")


def _search(read: Read, offset: int, pattern: re.Pattern[bytes]) -> int:
    """Return where one or two bytes of a pattern are, from ``offset`` on."""
    while len(block := read(offset, BLOCK_BYTES)) > 0:
        if match := pattern.search(block):
            return offset + match.start()
        offset += max(len(block) - 1, 1)  # the first of two bytes may be the last one here
    raise ValueError("the codestream has no end")


def _end_of_jpeg(read: Read, offset: int) -> int:
    """Walk marker segments, and from the header of each scan on to the next marker."""
    while True:
        first, marker = struct.unpack(">BB", read(offset, 2))
        if first != 0xFF:
            raise ValueError("no JPEG marker where one must be")
        if marker == 0xFF:  # a fill byte
            offset += 1
        elif marker == 0xD9:
            return offset + 2
        else:
            (length,) = struct.unpack(">H", read(offset + 2, 2))
            offset += 2 + length
            if marker == 0xDA:
                offset = _search(read, offset, _MARKER)


def _end_of_jpeg2000(read: Read, offset: int) -> int:
    """Walk the main header and the tile-parts; one of length 0 reaches to the end, whose marker no packet has in it."""
    while True:
        marker, length = struct.unpack(">HH", (read(offset, 4) + b"\0\0")[:4])
        if marker == 0xFFD9:
            return offset + 2
        if marker != 0xFF90:
            if marker < 0xFF4F or length < 2:
                raise ValueError("no JPEG 2000 marker segment where one must be")
            offset += 2 + length
            continue
        (tile_part_bytes,) = struct.unpack(">I", read(offset + 6, 4))
        if tile_part_bytes == 0:
            return _search(read, offset + 12, _END) + 2
        if tile_part_bytes < 14:
            raise ValueError("a JPEG 2000 tile-part is shorter than its header")
        offset += tile_part_bytes


def _end_of_jp2(read: Read, offset: int) -> int:
    """Walk the boxes of a JP2 file up to its codestream, and on to the next file's signature or the padding."""
    seen = False
    while True:
        head = read(offset, 16)
        length, kind = struct.unpack(">I4s", head[:8]) if len(head) >= 8 else (0, b"")
        if seen and (kind == b"jP  " or not head.strip(b"\0") or not kind.rstrip(b" ").isalnum()):
            return offset
        if length == 1:
            (length,) = struct.unpack(">Q", head[8:16])
        if kind == b"jp2c":
            seen = True
            end = _end_of_jpeg2000(read, offset + (16 if head[:4] == b"\0\0\0\1" else 8) + 2)
            offset = end if length == 0 else offset + length
        elif length < 8:
            raise ValueError("a JP2 box is shorter than its header")
        else:
            offset += length
