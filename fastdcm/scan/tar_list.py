"""The members of a tar archive (POSIX ustar and pax, GNU, version 7), front to back; compressed ones too."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from fastdcm.errors import Code, SourceError
from fastdcm.scan.reading import Reader
from fastdcm.scan.zip_list import MEMBERS_MAX, Entry, Kind

BLOCK = 512
EXTENDED_BYTES_MAX = 2**20
"""A longer pax header or name is none."""
ENDLESS = 2**62
"""Size of a reader whose end is not known."""
_REGULAR, _SKIPPED = b"0\0007", b"5gVDN"
"""Types of members: files; folders and what only describes."""


class _Extended(NamedTuple):
    """What headers before a member say of it."""

    name: bytes | None = None
    link: bytes | None = None
    size: int | None = None
    sparse: bool = False


def is_tar_header(block: bytes) -> bool:
    """Whether a block of 512 bytes is a member's header: its checksum is right."""
    if len(block) < BLOCK or not block[0]:
        return False
    said = _number(block[148:156])
    plain = sum(block) - sum(block[148:156]) + 8 * 32
    if said == plain:
        return True
    signed = plain - 256 * sum(byte > 127 for byte in block[:148] + block[156:])
    return said == signed  # as old Sun tars counted


def list_tar(reader: Reader) -> Iterator[Entry]:
    """Yield the members of a tar archive, folders not.

    Of a reader that goes only forward the bytes of a member can be read until the next one is asked for.

    Raises
    ------
    SourceError
        BAD_ARCHIVE where it is damaged or cut, after the members before that; ARCHIVE_BOUND for too many members.
    """
    places: dict[bytes, Entry] = {}
    at = count = 0
    told = _Extended()
    while block := reader.read_at(at, BLOCK):
        if not any(block):
            return
        if not is_tar_header(block):
            raise SourceError(Code.BAD_ARCHIVE, f"damaged at byte {at}: {count} members before that are readable")
        count += 1
        if count > MEMBERS_MAX:
            raise SourceError(Code.ARCHIVE_BOUND, f"it has more than {MEMBERS_MAX} members, the bound")
        kind, size, start = block[156:157], max(_number(block[124:136]), 0), at + BLOCK
        if kind in b"xLK":
            told = _extended(told, kind, reader.read_at(start, min(size, EXTENDED_BYTES_MAX)))
            at = start + -(-size // BLOCK) * BLOCK
            continue
        size = told.size if told.size is not None else size
        at = start + (-(-size // BLOCK) * BLOCK if kind not in b"123456" else 0)
        entry = _entry(block, told, start, size, places)
        told = _Extended() if kind != b"g" else told
        if entry is None:
            continue
        if entry.kind == Kind.STORED and start + entry.size > reader.size and kind != b"1":
            yield entry._replace(kind=Kind.CUT)
            raise SourceError(Code.BAD_ARCHIVE, f"cut short: it ends inside its member {count}")
        places[entry.name] = entry
        yield entry


def _entry(block: bytes, told: _Extended, start: int, size: int, places: dict[bytes, Entry]) -> Entry | None:
    """Return the member of a header; None for folders and what is no member."""
    kind = block[156:157]
    name = told.name or _full_name(block)
    if kind in _SKIPPED or (kind in _REGULAR and name.endswith(b"/")):
        return None
    if kind == b"1":  # another name of a member
        target = told.link or _text(block[157:257])
        known = places.get(target)
        return Entry(name, Kind.SPECIAL, 0, 0, 0, -1) if known is None else known._replace(name=name)
    if kind in b"2346":
        return Entry(name, Kind.SPECIAL, 0, 0, 0, -1)
    if told.sparse or kind in b"SM":
        return Entry(name, Kind.UNREADABLE, start, size, size, -1)
    return Entry(name, Kind.STORED, start, size, size, -1)


def _full_name(block: bytes) -> bytes:
    name, prefix = _text(block[:100]), _text(block[345:500])
    return prefix + b"/" + name if prefix and block[257:263] == b"ustar\0" else name


def _extended(told: _Extended, kind: bytes, data: bytes) -> _Extended:
    """Read a pax header, or GNU's long name or link."""
    if kind == b"L":
        return told._replace(name=_text(data))
    if kind == b"K":
        return told._replace(link=_text(data))
    while data:
        digits, _, _ = data.partition(b" ")
        length = int(digits) if digits.isdigit() and len(digits) < 8 else 0
        keyword, mark, value = data[len(digits) + 1 : max(length - 1, 0)].partition(b"=")
        if length < 5 or not mark:
            break
        data = data[length:]
        if keyword == b"path":
            told = told._replace(name=value)
        elif keyword == b"linkpath":
            told = told._replace(link=value)
        elif keyword == b"size" and value.isdigit() and len(value) < 20:
            told = told._replace(size=int(value))
        elif keyword.startswith(b"GNU.sparse"):
            told = told._replace(sparse=True)
    return told


def _text(field: bytes) -> bytes:
    return field.partition(b"\0")[0]


def _number(field: bytes) -> int:
    """Read an octal number, or a binary one of GNU's; -1 for neither."""
    if field[0] & 0x80:
        return int.from_bytes(field[1:], "big") | (field[0] & 0x7F) << 8 * (len(field) - 1)
    digits = field.strip(b" \0")
    if not digits:
        return 0
    return int(digits, 8) if digits.strip(b"01234567") == b"" else -1


class Forward(Reader):
    """Blocks that come one after the other, as a reader whose offsets only grow."""

    def __init__(self, blocks: Iterator[bytes]) -> None:
        super().__init__(ENDLESS, 0)
        self._blocks, self._start, self._held = blocks, 0, b""

    def read_at(self, offset: int, count: int) -> bytes:
        """Return the bytes there are from an offset, which is at least that of the call before."""
        while self._start + len(self._held) < offset + count:
            self._forget(offset)
            block = next(self._blocks, b"")
            if not block:
                break
            self._held += block
        self._forget(offset)
        return self._held[:count] if self._start == offset else b""

    def _forget(self, offset: int) -> None:
        gone = min(offset - self._start, len(self._held))
        self._held, self._start = self._held[gone:], self._start + gone
