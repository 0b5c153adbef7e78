"""One archive, listed once: its members by name, and each of them as a reader.

Stored members are windows, compressed ones are unpacked as far as they are asked for. A compressed tar has no
beginning but its first byte: what may be DICOM in it is put into a spool while it is listed.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from fastdcm.errors import Code, SourceError
from fastdcm.scan.location import encode_path
from fastdcm.scan.reading import Reader, Spool, Unpacked, Window, blocks_of, unpack
from fastdcm.scan.sniff import HEAD_BYTES, NO_DICOM, not_dicom
from fastdcm.scan.tar_list import BLOCK, Forward, is_tar_header, list_tar
from fastdcm.scan.zip_list import NEVER_READ, Entry, Kind, data_start, list_zip

_SUFFIXES = (".zip", ".tar", ".tgz", ".tar.gz", ".tbz", ".tbz2", ".tar.bz2", ".txz", ".tar.xz")
_COMPRESSED = ((b"\x1f\x8b", "gzip"), (b"BZh", "bz2"), (b"\xfd7zXZ\0", "xz"))
_METHODS = {Kind.DEFLATE: "deflate", Kind.BZ2: "bz2"}


def has_archive_name(name: str) -> bool:
    """Whether a file is called like an archive; whether it is one, its first bytes say."""
    return name[-1:] in "pPrRzZ2" and name.lower().endswith(_SUFFIXES)


@dataclass(slots=True, eq=False)
class Archive:
    """The members of one archive, sorted by name."""

    reader: Reader
    """What offsets count in: the archive, or the spool of a compressed one."""
    is_zip: bool
    names: list[str]
    """(n,) encoded as paths, ascending, each once."""
    facts: npt.NDArray[np.int64]
    """(n, 5): kind, offset, packed, size, crc (-1: unknown)."""
    problem: tuple[Code, str] | None
    """What is wrong with the archive as a whole; the members are those that were found all the same."""
    holds_images: bool | None = None
    """Whether a member may be DICOM; None until it was asked for (``opened.holds_images``)."""

    def row(self, name: str) -> int:
        """Return the row of a member, -1 where there is none of this name."""
        row = bisect_left(self.names, name)
        return row if row < len(self.names) and self.names[row] == name else -1

    def open(self, row: int) -> Reader:
        """Return a reader of one member.

        Raises
        ------
        SourceError
            ENCRYPTED, or BAD_ARCHIVE, where it cannot be read.
        """
        number, offset, packed, size, crc = self.facts[row].tolist()
        kind = Kind(number)
        if kind in NEVER_READ:
            raise SourceError(*fault_of(kind))
        if self.is_zip:
            offset = data_start(self.reader, offset)
        if kind == Kind.STORED:
            if packed != size:
                raise SourceError(Code.BAD_ARCHIVE, f"the archive says {packed} bytes, and {size} of the same member")
            return Window(self.reader, offset, size)
        return Unpacked(self.reader, offset, packed, size, _METHODS[kind], None if crc < 0 else crc)


def fault_of(kind: Kind) -> tuple[Code, str]:
    """Return code and message of members that cannot be read."""
    match kind:
        case Kind.ENCRYPTED:
            return Code.ENCRYPTED, "the member is encrypted; unpack the archive with its password"
        case Kind.CUT:
            return Code.BAD_ARCHIVE, "the archive ends inside this member: it was cut short"
        case Kind.UNREADABLE:
            return Code.BAD_ARCHIVE, "the member is packed by a method that is not read; unpack the archive"
        case Kind.REPLACED:
            return Code.REPLACED, "a later member of the archive has the same name, and replaces it"
        case _:
            return Code.NO_DICOM, NO_DICOM


def read_archive(reader: Reader, *, nested: bool) -> Archive | None:
    """List an archive; None where the bytes are none.

    Parameters
    ----------
    reader : Reader
        Of its bytes; kept open by what is returned.
    nested : bool
        Whether archives in it may be opened.

    Raises
    ------
    OSError
        It cannot be read, or there is no room for what a compressed tar unpacks to.
    """
    head = reader.read_at(0, BLOCK)
    if head[128:132] == b"DICM":
        return None
    if head[:4] in (b"PK\3\4", b"PK\5\6"):
        return _archive(reader, list_zip(reader), is_zip=True)
    if is_tar_header(head):
        return _archive(reader, list_tar(reader))
    for magic, method in _COMPRESSED:
        if head.startswith(magic):
            return _unpacked_tar(reader, method, nested=nested)
    return None


def _archive(reader: Reader, entries: Iterable[Entry], *, is_zip: bool = False) -> Archive:
    """Collect members; what is wrong on the way is kept beside those before it."""
    problem = None
    names, numbers = [], []
    try:
        for entry in entries:
            names.append(_encoded(entry.name))
            numbers.append(entry[1:])
    except SourceError as error:
        problem = error.code, error.message
    facts = np.array(numbers, np.int64).reshape(len(names), 5)
    order = sorted(range(len(names)), key=names.__getitem__)  # stable: of one name the last is the one
    _name_replaced(names, facts, order)
    return Archive(reader, is_zip, [names[row] for row in order], facts[order], problem)


def _encoded(raw: bytes) -> str:
    """Return a member's name as path text; what is no UTF-8 stays readable as ``%XX``."""
    while raw.startswith(b"./"):
        raw = raw[2:].lstrip(b"/")
    return encode_path(raw).replace("\0", "%00")


def _name_replaced(names: list[str], facts: npt.NDArray[np.int64], order: list[int]) -> None:
    """Give members that a later one replaces names of their own, and sort again where there are any."""
    replaced = [a for a, b in pairwise(order) if names[a] == names[b]]
    if not replaced:
        return
    taken = set(names)
    for number, row in enumerate(replaced, 1):
        name = f"{names[row]} ({number})"
        while name in taken:
            name += "'"
        taken.add(name)
        names[row] = name
        facts[row, 0] = Kind.REPLACED
    order.sort(key=names.__getitem__)


def _unpacked_tar(reader: Reader, method: str, *, nested: bool) -> Archive | None:
    """List a compressed tar, and keep what may be DICOM in it."""
    forward = Forward(unpack(blocks_of(reader, 0, reader.size), method, reader.size))
    try:
        if not is_tar_header(forward.read_at(0, BLOCK)):
            return None
    except SourceError:
        return None  # nothing shows that there is a tar in it
    spool = Spool(reader.mtime_ns)
    return _archive(spool, _kept(forward, spool, nested=nested))


def _kept(forward: Forward, spool: Spool, *, nested: bool) -> Iterator[Entry]:
    """Yield the members with their places in the spool."""
    places: dict[int, Entry] = {}
    for entry in list_tar(forward):
        if entry.kind != Kind.STORED:
            yield entry
            continue
        known = places.get(entry.offset)
        if known is None:
            known = places[entry.offset] = _keep(forward, spool, entry, nested=nested)
        yield known._replace(name=entry.name)


def _keep(forward: Forward, spool: Spool, entry: Entry, *, nested: bool) -> Entry:
    name = encode_path(entry.name).rpartition("/")[2]
    head = forward.read_at(entry.offset, min(entry.size, HEAD_BYTES))
    if not_dicom(head, entry.size, name) and not (nested and has_archive_name(name)):
        return entry._replace(kind=Kind.NO_DICOM if entry.size else Kind.STORED)
    place = spool.size
    for block in blocks_of(forward, entry.offset, entry.size):
        spool.add(block)
    if spool.size - place < entry.size:
        return entry._replace(kind=Kind.CUT)
    return entry._replace(offset=place)
