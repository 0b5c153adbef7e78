"""Where the frames of encapsulated pixel data are: byte ranges of their fragments (PS3.5 A.4)."""

from __future__ import annotations

import struct
from bisect import bisect_right
from itertools import accumulate, pairwise
from typing import NamedTuple

from fastdcm.errors import Code, SourceError
from fastdcm.model import FrameSource, PixelFormat
from fastdcm.pixels.boundaries import STARTS, find_codestreams
from fastdcm.pixels.native import frame_bits
from fastdcm.scan.reading import Reader

ITEM = 0xE000FFFE  # (FFFE,E000), as a little endian number
DELIMITER = 0xE0DDFFFE  # (FFFE,E0DD)
ITEMS_MAX = 2**22
TABLE_BYTES_MAX = 2**28
RLE = "1.2.840.10008.1.2.5"
UNCOMPRESSED = "1.2.840.10008.1.2.1.98"
ENDLESS = (RLE, "1.2.840.10008.1.2.8.1", *(f"1.2.840.10008.1.2.4.{number}" for number in (110, 111, 112)))
"""Their frames do not say where they end: which of them are missing, if any, cannot be told."""

Fragment = tuple[int, int]
"""Offset in the file and length, of the bytes after the item's own 8."""
Ranges = list[tuple[Fragment, ...]]
"""Fragments, or parts of them, of every frame."""


class _Value(NamedTuple):
    """The encapsulated value: the file it is in and where it may reach to."""

    reader: Reader
    start: int
    end: int

    def read(self, offset: int, length: int) -> bytes:
        data = self.reader.read_at(offset, length) if length and offset + length <= self.end else b""
        if len(data) < length:
            raise SourceError(
                Code.TRUNCATED, f"{length} bytes are expected at byte {offset}, but the data end at byte {self.end}"
            )
        return data


def frame_ranges(reader: Reader, source: FrameSource) -> Ranges:
    """Return the fragments of every frame, in the order of the frames.

    One frame is all fragments (PS3.5 A.4), and its pixels are those of the first codestream; fragments behind it that
    begin another one are told as further frames. As many fragments as frames are a frame each. Otherwise by what is
    found first: the Extended Offset Table (PS3.3 C.7.6.3.1.8), the Basic Offset Table (PS3.5 A.4), the fragments that
    begin like a codestream, those that end with EOI, the ends of the codestreams wherever they are. A table that does
    not point at items is ignored, and so is one against whose frames codestreams begin. Reads 8 bytes an item, and all
    of it only where fragments are not frames.

    Returns
    -------
    list of tuples of (offset, length)
        More than the frames that are declared where more of them are there.

    Raises
    ------
    SourceError
        TRUNCATED if the file ends inside the items or has fewer frames than declared; DECODE if they are damaged.
    """
    file_end = reader.size
    end = file_end if source.pixel_length < 0 else min(source.pixel_offset + source.pixel_length, file_end)
    value = _Value(reader, source.pixel_offset, end)
    table, first = _basic_table(value)
    fragments = _fragments(value, first)
    n_frames = source.format.n_frames
    if not fragments:
        raise SourceError(Code.TRUNCATED, f"no fragment for {n_frames} frames")
    if n_frames <= 1:
        further = _beginnings(value, fragments, source.format)[1:] if len(fragments) > 1 else []
        return [tuple(fragments), *((fragments[number],) for number in further)]
    for some in (fragments, [fragment for fragment in fragments if fragment[1]]):
        if len(some) == n_frames:
            return [(fragment,) for fragment in some]
    begins = _beginnings(value, fragments, source.format)
    for offsets in (_extended_table(value._replace(end=file_end), source), table):
        firsts = _by_table(fragments, [first + 8 + offset for offset in offsets], n_frames)
        if firsts and (not begins or set(firsts) <= set(begins)):
            return _grouped(fragments, firsts)
    if len(begins) == n_frames:
        return _grouped(fragments, begins)
    found = _by_last_bytes(value, fragments, n_frames) or _by_ends(value, fragments, source.format)
    if found is None:
        count = "1 fragment does" if len(fragments) == 1 else f"{len(fragments)} fragments do"
        code = Code.DECODE if source.format.transfer_syntax in ENDLESS else Code.TRUNCATED
        raise SourceError(code, f"{count} not make {n_frames} frames, and no table tells where these are")
    return found


def _basic_table(value: _Value) -> tuple[tuple[int, ...], int]:
    """Return the offsets of the Basic Offset Table and where the first fragment's item begins."""
    tag, length = struct.unpack("<II", value.read(value.start, 8))
    if tag != ITEM or length % 4 or length > TABLE_BYTES_MAX:
        raise SourceError(Code.DECODE, "the pixel data do not begin with a Basic Offset Table")
    return struct.unpack(f"<{length // 4}I", value.read(value.start + 8, length)), value.start + 8 + length


def _extended_table(value: _Value, source: FrameSource) -> tuple[int, ...]:
    """Return the 64-bit offsets of the Extended Offset Table, empty if it cannot be one."""
    length = source.table_length
    if source.table_offset < 0 or length % 8 or length > TABLE_BYTES_MAX or source.table_offset + length > value.end:
        return ()
    return struct.unpack(f"<{length // 8}Q", value.read(source.table_offset, length))


def _fragments(value: _Value, offset: int) -> list[Fragment]:
    """Walk the items from ``offset`` to the delimiter, or to the end of a value of defined length."""
    fragments: list[Fragment] = []
    while offset + 8 <= value.end:
        tag, length = struct.unpack("<II", value.read(offset, 8))
        if tag == DELIMITER:
            break
        if tag != ITEM or length == 0xFFFFFFFF or len(fragments) >= ITEMS_MAX:
            raise SourceError(Code.DECODE, f"no fragment of the pixel data begins at byte {offset}")
        if offset + 8 + length > value.end:
            raise SourceError(
                Code.TRUNCATED, f"a fragment of {length} bytes begins at byte {offset}, the data end at {value.end}"
            )
        fragments.append((offset + 8, length))
        offset += 8 + length
    return fragments


def _by_table(fragments: list[Fragment], starts: list[int], n_frames: int) -> list[int]:
    """Return the first fragment of each frame by the offsets of their data; none if the table is not theirs."""
    index = {offset: number for number, (offset, _) in enumerate(fragments)}
    firsts = [index.get(start, -1) for start in starts]
    if len(firsts) < n_frames or firsts[0] != 0 or any(b <= a for a, b in pairwise(firsts)):
        return []
    return firsts


def _grouped(fragments: list[Fragment], firsts: list[int]) -> Ranges:
    return [tuple(fragments[a:b]) for a, b in pairwise([*firsts, len(fragments)])]


def _beginnings(value: _Value, fragments: list[Fragment], pixels: PixelFormat) -> list[int]:
    """Return the fragments that begin a frame: like a codestream, and like the first of them; none if that does not."""
    heads = [value.read(offset, min(length, 12)) for offset, length in fragments]
    starts: tuple[bytes, ...] = STARTS
    if pixels.transfer_syntax == RLE:  # PS3.5 G.5: the number of segments and where the first one is
        starts = (struct.pack("<II", pixels.samples * -(-pixels.bits_allocated // 8), 64),)
    for start in starts:
        if heads[0].startswith(start):
            return [number for number, head in enumerate(heads) if head.startswith(start)]
    return []


def _by_last_bytes(value: _Value, fragments: list[Fragment], n_frames: int) -> Ranges | None:
    """Group fragments by those that end with EOI or EOC."""
    tails = [(offset + max(length - 10, 0), min(length, 10)) for offset, length in fragments]
    ends = [number + 1 for number, tail in enumerate(tails) if b"\xff\xd9" in value.read(*tail)]
    return _grouped(fragments, [0, *ends[:-1]]) if len(ends) == n_frames else None


def _by_ends(value: _Value, fragments: list[Fragment], pixels: PixelFormat) -> Ranges | None:
    """Cut the joined fragments where codestreams end, or native frames of one size."""
    joined = _Joined(value, fragments)
    streams = find_codestreams(joined.read, pixels.n_frames)
    if pixels.transfer_syntax == UNCOMPRESSED:
        each = -(-frame_bits(pixels, False) // 8)
        starts = range(0, each * pixels.n_frames, each)
        streams = [(start, start + each) for start in starts if start + each <= joined.size]
    return [joined.parts(*stream) for stream in streams] if len(streams) == pixels.n_frames else None


class _Joined:
    """Fragments as one run of bytes."""

    def __init__(self, value: _Value, fragments: list[Fragment]) -> None:
        self._value, self._fragments = value, fragments
        self._starts = [0, *accumulate(length for _, length in fragments)]
        self.size = self._starts[-1]

    def parts(self, start: int, end: int) -> tuple[Fragment, ...]:
        """Return what of the fragments is from ``start`` to ``end``, as far as they reach."""
        parts: list[Fragment] = []
        number = bisect_right(self._starts, start) - 1
        while number < len(self._fragments) and start < end:
            offset, length = self._fragments[number]
            inside = start - self._starts[number]
            count = min(length - inside, end - start)
            if count:
                parts.append((offset + inside, count))
            start += count
            number += 1
        return tuple(parts)

    def read(self, offset: int, length: int) -> bytes:
        """Return bytes, fewer at the end."""
        return b"".join(self._value.read(*part) for part in self.parts(offset, offset + length))
