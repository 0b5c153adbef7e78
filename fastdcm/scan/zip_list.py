"""The members of a zip archive, from its central directory (APPNOTE 4.3.12), zip64 too; nothing is unpacked."""

from __future__ import annotations

import stat
import struct
from collections.abc import Iterator
from enum import IntEnum
from typing import NamedTuple

from fastdcm.errors import Code, SourceError
from fastdcm.scan.reading import Reader

MEMBERS_MAX = 2**22
DIRECTORY_BYTES_MAX = 2**30
_END = struct.Struct("<4s4H2IH")
_END_64 = struct.Struct("<4sQ2H2I4Q")
_LOCATOR_64 = struct.Struct("<4sIQI")
_CENTRAL = struct.Struct("<4s6H3I5H2I")
_LOCAL = struct.Struct("<4s5H3I2H")
_FULL = 0xFFFFFFFF
_ENCRYPTED = 0x2041
"""Bits 0, 6 and 13: encrypted, strongly so, with a masked directory."""
_UNIX = 3


class Kind(IntEnum):
    """How a member of an archive is kept, or why it is not read."""

    STORED = 0
    DEFLATE = 1
    BZ2 = 2
    SPECIAL = 3
    """A link or device."""
    ENCRYPTED = 4
    UNREADABLE = 5
    """A method of compression, or a sparse file, that is not read."""
    REPLACED = 6
    """A later member has the same name: unpacking would leave that one."""
    NO_DICOM = 7
    """Seen when a compressed tar was listed, and not kept."""
    CUT = 8
    """The archive ends inside it."""


NEVER_READ = (Kind.SPECIAL, Kind.ENCRYPTED, Kind.UNREADABLE, Kind.REPLACED, Kind.NO_DICOM, Kind.CUT)


class Entry(NamedTuple):
    """One member as the archive lists it."""

    name: bytes
    kind: Kind
    offset: int
    """Of its first byte; in a zip archive of its local header."""
    packed: int
    """Bytes in the archive."""
    size: int
    """Bytes unpacked."""
    crc: int
    """-1: unknown."""


_METHODS = {0: Kind.STORED, 8: Kind.DEFLATE, 12: Kind.BZ2}


def list_zip(reader: Reader) -> Iterator[Entry]:
    """Yield the members of a zip archive, folders not.

    Raises
    ------
    SourceError
        BAD_ARCHIVE where there is no directory, or it is damaged; ARCHIVE_BOUND where there are too many members, or
        they overlap.
    """
    start, length, count, shift = _directory(reader)
    data = reader.read_at(start, length)
    at = listed = packed_bytes = 0
    while at + _CENTRAL.size <= len(data) and data[at : at + 4] == b"PK\1\2":
        _, made, _, flags, method, _, _, crc, packed, size, *lengths, disk, _, attributes, offset = (
            _CENTRAL.unpack_from(data, at)
        )
        name_end = at + _CENTRAL.size + lengths[0]
        name = data[at + _CENTRAL.size : name_end]
        if _FULL in (packed, size, offset):
            size, packed, offset = _wide(data[name_end : name_end + lengths[1]], size, packed, offset)
        at = name_end + lengths[1] + lengths[2]
        listed += 1
        packed_bytes += packed
        if packed_bytes > reader.size:
            raise SourceError(Code.ARCHIVE_BOUND, "its members overlap: they are more than the archive has bytes")
        if name.endswith(b"/") and not size:
            continue
        kind = _METHODS.get(method, Kind.UNREADABLE)
        if made >> 8 == _UNIX and stat.S_IFMT(attributes >> 16) not in (0, stat.S_IFREG):
            kind = Kind.SPECIAL
        elif flags & _ENCRYPTED:
            kind = Kind.ENCRYPTED
        elif disk or not 0 <= offset + shift <= reader.size - packed:
            kind = Kind.CUT
        yield Entry(name, kind, offset + shift, packed, size, crc)
    if listed != count & 0xFFFF and listed != count:
        raise SourceError(Code.BAD_ARCHIVE, f"its directory is damaged: {listed} of {count} members are readable")


def _wide(extra: bytes, size: int, packed: int, offset: int) -> tuple[int, int, int]:
    """Take numbers that do not fit 32 bits from the zip64 field; what is missing stays as it is."""
    at = 0
    while at + 4 <= len(extra):
        kind, length = struct.unpack_from("<2H", extra, at)
        if kind == 1:
            words = [word for (word,) in struct.iter_unpack("<Q", extra[at + 4 : at + 4 + length // 8 * 8])]
            found = [words.pop(0) if number == _FULL and words else number for number in (size, packed, offset)]
            return found[0], found[1], found[2]
        at += 4 + length
    return size, packed, offset


def _directory(reader: Reader) -> tuple[int, int, int, int]:
    """Return where the central directory starts, its bytes, its members, and how far all offsets are shifted."""
    tail_start = max(reader.size - 2**16 - _END.size - _LOCATOR_64.size, 0)
    tail = reader.read_at(tail_start, reader.size - tail_start)
    at = tail.rfind(b"PK\5\6")
    if at < 0 or at + _END.size > len(tail):
        raise SourceError(Code.BAD_ARCHIVE, "it has no directory at its end: it was cut short, or is still written to")
    _, disk, _, _, count, length, start, _ = _END.unpack_from(tail, at)
    end = tail_start + at
    if at >= _LOCATOR_64.size and tail[at - _LOCATOR_64.size : at - _LOCATOR_64.size + 4] == b"PK\6\7":
        place = _LOCATOR_64.unpack_from(tail, at - _LOCATOR_64.size)[2]
        wide = _end_64(reader, (place, end - _LOCATOR_64.size - _END_64.size))
        end, disk, count, length, start = wide
    if disk not in (0, 0xFFFF):
        raise SourceError(Code.BAD_ARCHIVE, "it is spread over several files; join them first")
    shift = end - length - start  # something stands before the archive
    if length > min(end, DIRECTORY_BYTES_MAX) or count > MEMBERS_MAX or shift < 0:
        if count > MEMBERS_MAX or length > DIRECTORY_BYTES_MAX:
            raise SourceError(Code.ARCHIVE_BOUND, f"it has {count} members, {MEMBERS_MAX} is the bound")
        raise SourceError(Code.BAD_ARCHIVE, "its directory is not where its end says: it was cut short or damaged")
    return start + shift, length, count, shift


def _end_64(reader: Reader, places: tuple[int, int]) -> tuple[int, int, int, int, int]:
    """Return (its own place, disk, members, bytes, start) of the zip64 end record."""
    for place in places:
        data = reader.read_at(place, _END_64.size) if 0 <= place < reader.size else b""
        if len(data) == _END_64.size and data.startswith(b"PK\6\6"):
            _, _, _, _, disk, _, _, count, length, start = _END_64.unpack(data)
            return place, disk, count, length, start
    raise SourceError(Code.BAD_ARCHIVE, "its zip64 end record is missing: it was cut short or damaged")


def data_start(reader: Reader, offset: int) -> int:
    """Return where the bytes of a member start, from its local header.

    Raises
    ------
    SourceError
        BAD_ARCHIVE where there is none.
    """
    head = reader.read_at(offset, _LOCAL.size)
    if len(head) < _LOCAL.size or not head.startswith(b"PK\3\4"):
        raise SourceError(Code.BAD_ARCHIVE, "the member is not where the archive's directory says")
    fields = _LOCAL.unpack(head)
    return offset + _LOCAL.size + int(fields[-2]) + int(fields[-1])
