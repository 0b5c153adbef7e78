"""Where the frames of encapsulated pixel data are: byte ranges of their fragments (PS3.5 A.4)."""

from __future__ import annotations

import os
import struct
from itertools import pairwise
from typing import NamedTuple

from fastdcm.errors import Code, SourceError
from fastdcm.model import FrameSource

ITEM = 0xE000FFFE  # (FFFE,E000), as a little endian number
DELIMITER = 0xE0DDFFFE  # (FFFE,E0DD)
ITEMS_MAX = 2**22
TABLE_BYTES_MAX = 2**28
STARTS = (b"\xff\xd8\xff", b"\xff\x4f\xff\x51", b"\x00\x00\x00\x0cjP  ", b"\xff\x0a", b"\x00\x00\x00\x0cJXL ")
"""First bytes of a JPEG, JPEG-LS, JPEG 2000, JP2 or JPEG XL stream."""

Fragment = tuple[int, int]
"""Offset in the file and length, of the bytes after the item's own 8."""


class _Value(NamedTuple):
    """The encapsulated value: the file it is in and where it may reach to."""

    descriptor: int
    start: int
    end: int

    def read(self, offset: int, length: int) -> bytes:
        data = os.pread(self.descriptor, length, offset) if offset + length <= self.end else b""
        if len(data) < length:
            raise SourceError(
                Code.TRUNCATED, f"{length} bytes are expected at byte {offset}, but the data end at byte {self.end}"
            )
        return data


def frame_ranges(descriptor: int, source: FrameSource) -> list[tuple[Fragment, ...]]:
    """Return the fragments of every frame, in the order of the frames.

    By the Extended Offset Table (PS3.3 C.7.6.3.1.8), else the Basic Offset Table, else one fragment a frame, else
    a frame begins at each fragment that begins like a codestream, else it ends with each that ends with EOI; one
    frame is all fragments. A table that does not point at items is ignored. Reads 8 bytes an item.

    Raises
    ------
    SourceError
        TRUNCATED if the file ends inside the items or has fewer frames than declared; DECODE if they are damaged.
    """
    file_end = os.fstat(descriptor).st_size
    end = file_end if source.pixel_length < 0 else min(source.pixel_offset + source.pixel_length, file_end)
    value = _Value(descriptor, source.pixel_offset, end)
    table, first = _basic_table(value)
    if source.table_offset >= 0 and source.table_length > 0:
        table = _extended_table(value._replace(end=file_end), source) or table
    fragments = _fragments(value, first)
    n_frames = source.format.n_frames
    if not fragments:
        raise SourceError(Code.TRUNCATED, f"no fragment for {n_frames} frames")
    if n_frames <= 1:
        return [tuple(fragments)]
    frames = _by_table(fragments, [first + 8 + offset for offset in table], n_frames)
    if frames is None and len(fragments) == n_frames:
        frames = [(fragment,) for fragment in fragments]
    if frames is None and len(fragments) > n_frames:
        frames = _by_codestream(value, fragments, n_frames)
    if frames is None:
        raise SourceError(Code.TRUNCATED, f"{len(fragments)} fragments do not make {n_frames} frames")
    return frames


def _basic_table(value: _Value) -> tuple[tuple[int, ...], int]:
    """Return the offsets of the Basic Offset Table and where the first fragment's item begins."""
    tag, length = struct.unpack("<II", value.read(value.start, 8))
    if tag != ITEM or length % 4 or length > TABLE_BYTES_MAX:
        raise SourceError(Code.DECODE, "the pixel data do not begin with a Basic Offset Table")
    return struct.unpack(f"<{length // 4}I", value.read(value.start + 8, length)), value.start + 8 + length


def _extended_table(value: _Value, source: FrameSource) -> tuple[int, ...]:
    """Return the 64-bit offsets of the Extended Offset Table, empty if it cannot be one."""
    length = source.table_length
    if length % 8 or length > TABLE_BYTES_MAX or source.table_offset + length > value.end:
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


def _by_table(fragments: list[Fragment], starts: list[int], n_frames: int) -> list[tuple[Fragment, ...]] | None:
    """Group fragments by the data offsets of each frame's first one; None if the table is not theirs."""
    index = {offset: number for number, (offset, _) in enumerate(fragments)}
    firsts = [index.get(start, -1) for start in starts]
    if len(firsts) < n_frames or firsts[0] != 0 or any(b <= a for a, b in pairwise(firsts)):
        return None
    return [tuple(fragments[a:b]) for a, b in pairwise([*firsts, len(fragments)])]


def _by_codestream(value: _Value, fragments: list[Fragment], n_frames: int) -> list[tuple[Fragment, ...]] | None:
    """Group fragments by how codestreams begin, else by how they end."""
    begins = [
        number
        for number, (offset, length) in enumerate(fragments)
        if value.read(offset, min(length, 8)).startswith(STARTS)
    ]
    if len(begins) != n_frames or begins[0] != 0:
        tails = [(offset + max(length - 10, 0), min(length, 10)) for offset, length in fragments]
        ends = [number + 1 for number, tail in enumerate(tails) if b"\xff\xd9" in value.read(*tail)]
        begins = [0, *ends][:n_frames]
        if len(ends) < n_frames:
            return None
    return [tuple(fragments[a:b]) for a, b in pairwise([*begins, len(fragments)])]
