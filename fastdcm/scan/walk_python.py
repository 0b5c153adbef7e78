"""The element walk in plain Python: ``_walk.c`` has the same functions under the same names (see ``walk.py``)."""

from __future__ import annotations

import struct
from collections.abc import Collection, Iterable, Iterator, Sequence
from enum import IntEnum
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import numpy.typing as npt

from fastdcm.errors import SourceError
from fastdcm.scan.opened import is_plain, open_location
from fastdcm.scan.reading import Reader

FIRST_READ_BYTES = 8192
NEXT_READ_BYTES = 65536
MAX_VALUE_BYTES = 4096
"""A wanted value longer than this is none that the index expects: the file goes to pydicom."""
MAX_CSA_BYTES = 65536
"""A value of group 0029, Siemens' CSA header, may be so long; a longer one counts as absent."""
MAX_ELEMENTS = 2**21
"""Elements and items of one header; pydicom is allowed as many."""
MAX_NEST_BYTES = 2**26
"""A sequence that is too deep for pydicom is followed so far."""
MAX_LISTED = 2**16
"""Top-level elements that ``walk_elements`` lists: an image has some hundred."""
MAX_DESCENTS = 64
"""Elements out of order that are borne in one file."""

UNDEFINED = 0xFFFFFFFF
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_TRANSFER_SYNTAX, _OFFSET_TABLE = 0x00020010, 0x7FE00001
_PIXELS = frozenset({0x7FE00008, 0x7FE00009, 0x7FE00010})
_CSA_GROUP = 0x0029
_IDENTITY = frozenset({0x00080016, 0x00080018, 0x00080060})
"""Without a preamble a file is DICOM only if it has one of these: SOP Class, SOP Instance, Modality."""

SHORT_VR = frozenset(b"AE AS AT CS DA DS DT FD FL IS LO LT PN SH SL SS ST TM UI UL US".split())
LONG_VR = frozenset(b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())
_MAY_BE_UNDEFINED = frozenset({b"SQ", b"UN", b"OB", b"OW", b"\0\0"})

_MOST_UID_BYTES = 64
_IMPLICIT_UID = b"1.2.840.10008.1.2"
_EXPLICIT_UIDS = (b"1.2.840.10008.1.2.1", b"1.2.840.10008.1.2.1.98", b"1.2.840.10008.1.2.5")
_EXPLICIT_FAMILIES = (b"1.2.840.10008.1.2.4.", b"1.2.840.10008.1.2.7.")
_DEFLATED_UIDS = (b"1.2.840.10008.1.2.4.95", b"1.2.840.10008.1.2.4.205")

_EXPLICIT_HEAD = struct.Struct("<HH2sH")
_IMPLICIT_HEAD = struct.Struct("<HHI")
_LONG = struct.Struct("<I")
_PLACE = struct.Struct("=qq")


class Status(IntEnum):
    """How the walk of a file ended."""

    OK = 0
    EMPTY = 1
    NOT_DICOM = 2
    UNREADABLE = 3
    CUT = 4
    """The file ends inside its header."""
    BAD = 5
    """Garbage where elements should be."""
    REFERENCE = 6
    """Not for this walk: pydicom must read it."""


class Syntax(IntEnum):
    """How the data set is encoded."""

    UNKNOWN = 0
    IMPLICIT = 1
    EXPLICIT = 2


class Fact(IntEnum):
    """Columns of ``Walked.facts``."""

    STATUS = 0
    ERRNO = 1
    SIZE = 2
    MTIME_NS = 3
    SYNTAX = 4
    REPAIRED = 5
    """1 where the bytes are not in the declared syntax, or none is declared, or there is no preamble."""
    START = 6
    """Where the data set starts: after the File Meta Information."""
    PIXEL_TAG = 7
    PIXEL_OFFSET = 8
    PIXEL_LENGTH = 9
    """-1 for undefined length (encapsulated)."""
    TABLE_OFFSET = 10
    """-1 where there is no Extended Offset Table (7FE0,0001)."""
    TABLE_LENGTH = 11
    NEEDED = 12
    """Bytes that the element at which the file is cut declares."""
    THERE = 13
    CUT_TAG = 14
    """That element; the item tag where it is an item of a sequence; 0 where the file ends inside an element's head."""


class Values(Sequence[bytes]):
    """The distinct values of one element: two bytes of VR (NULs where implicit), then the raw value."""

    __slots__ = ("data", "places")

    def __init__(self, data: bytes, places: bytes) -> None:
        self.data = data
        """All bytes, perhaps of other elements too."""
        self.places = places
        """(d, 2) int64: first byte and length of each value in ``data``."""

    @classmethod
    def of(cls, values: Iterable[bytes]) -> Values:
        """Return values that are there one by one."""
        values = list(values)
        lengths = np.array([len(value) for value in values], np.int64)
        return cls(b"".join(values), np.stack([np.cumsum(lengths) - lengths, lengths], axis=1).tobytes())

    def __len__(self) -> int:
        """Return how many values there are."""
        return len(self.places) // _PLACE.size

    def __getitem__(self, number: Any) -> Any:
        """Return one value."""
        start, length = _PLACE.unpack_from(self.places, range(len(self))[number] * _PLACE.size)
        return self.data[start : start + length]

    def __iter__(self) -> Iterator[bytes]:
        """Iterate over the values."""
        data = self.data
        return (data[start : start + length] for start, length in _PLACE.iter_unpack(self.places))


class Walked(NamedTuple):
    """What a batch of n files holds of w wanted elements."""

    facts: npt.NDArray[np.int64]
    """(n, len(Fact))."""
    codes: npt.NDArray[np.int32]
    """(w, n): number of the file's value in ``values[w]``; -1 where the element is absent."""
    values: list[Values]
    """Distinct values of each wanted element; empty elements and sequences count as absent."""


class Element(NamedTuple):
    """One top-level element of a data set."""

    tag: int
    vr: str
    """Empty where implicit."""
    offset: int
    """Of the value's first byte."""
    length: int
    """Of the value; with its delimiter where it was undefined."""


def walk_files_python(paths: Sequence[bytes], wanted: Sequence[int], stops: Sequence[int]) -> Walked:
    """Do what ``walk_files`` does, in Python."""
    facts = np.zeros((len(paths), len(Fact)), np.int64)
    codes = np.full((len(wanted), len(paths)), -1, np.int32)
    numbers: list[dict[bytes, int]] = [{} for _ in wanted]
    row = {tag: number for number, tag in enumerate(wanted)}
    for file, path in enumerate(paths):
        walk = _FileWalk(row.keys(), frozenset(stops))
        walk.run(path)
        facts[file] = walk.facts
        for tag, value in walk.found.items():
            seen = numbers[row[tag]]
            codes[row[tag], file] = seen.setdefault(value, len(seen))
    return Walked(facts, codes, [Values.of(seen) for seen in numbers])


def walk_elements_python(header: bytes, explicit: bool) -> tuple[int, list[Element]]:
    """Do what ``walk_elements`` does, in Python: (status, elements)."""
    walk = _FileWalk((), frozenset())
    walk.bytes = _Bytes(None, len(header), header)
    walk.listed = []
    try:
        walk.data_set(0, explicit)
    except _Stop as stop:
        return stop.status, walk.listed
    return Status.OK, walk.listed


def failure_of(path: bytes, error: OSError | SourceError) -> tuple[Status, int]:
    """Return status and errno of a file that cannot be opened or read."""
    if isinstance(error, OSError):
        return Status.UNREADABLE, error.errno or 0
    return (Status.NOT_DICOM if is_plain(path) else Status.REFERENCE), 0  # pydicom's reader says what an archive has


class Fetch:
    """Opens and reads files for the walk in C, one after the other; what fails is kept, and is None there."""

    def __init__(self, paths: Sequence[bytes]) -> None:
        self._paths = paths
        self._reader: Reader | None = None
        self.failures: dict[int, tuple[Status, int]] = {}
        """By file: status and errno."""

    def __call__(self, file: int, position: int, count: int) -> bytes | tuple[int, int] | None:
        """Return bytes of the file; at position -1 open it, and return its size and time in nanoseconds."""
        try:
            if position < 0:
                self.close()
                self._reader = open_location(self._paths[file])
                return self._reader.size, self._reader.mtime_ns
            return self._reader.read_at(position, count) if self._reader else None
        except (OSError, SourceError) as error:
            self.failures[file] = failure_of(self._paths[file], error)
            return None

    def close(self) -> None:
        """Close what is open."""
        if self._reader is not None:
            self._reader.close()
        self._reader = None

    def __enter__(self) -> Fetch:
        """Return itself."""
        return self

    def __exit__(self, *error: object) -> None:
        """Close what is open."""
        self.close()


class _Stop(Exception):
    def __init__(self, status: Status) -> None:
        super().__init__(status)
        self.status = status


class _Bytes:
    """A window on a file: what is asked for is read, the rest is not."""

    def __init__(self, reader: Reader | None, size: int, data: bytes = b"") -> None:
        self.reader, self.size, self.start, self.data = reader, size, 0, data

    def at(self, position: int, count: int) -> int:
        """Return where in ``data`` the bytes of the file from ``position`` are; they must be inside its size."""
        if position < self.start or position + count > self.start + len(self.data):
            early = position < FIRST_READ_BYTES // 2 and count <= FIRST_READ_BYTES
            amount = FIRST_READ_BYTES if early else NEXT_READ_BYTES
            amount = min(amount, self.size - position)
            self.start, self.data = position, self.reader.read_at(position, amount) if self.reader else b""
            if len(self.data) < count:
                raise _Stop(Status.CUT)
        return position - self.start

    def take(self, position: int, count: int) -> bytes:
        at = self.at(position, count)
        return self.data[at : at + count]


class _FileWalk:
    """The walk of one file. ``_walk.c`` has the same functions under the same names."""

    def __init__(self, wanted: Collection[int], stops: frozenset[int]) -> None:
        self.wanted, self.stops = wanted, stops
        self.facts = [0] * len(Fact)
        self.facts[Fact.TABLE_OFFSET] = self.facts[Fact.PIXEL_OFFSET] = -1
        self.found: dict[int, bytes] = {}
        self.listed: list[Element] | None = None
        self.declared = b""
        self.identified = False
        self.elements = 0
        self.bytes = _Bytes(None, 0)

    def run(self, path: bytes) -> None:
        """Open, walk, close; the end is told by the facts."""
        try:
            with open_location(path) as reader:
                self.facts[Fact.STATUS] = self.file(reader)
        except (OSError, SourceError) as error:
            self.facts[Fact.STATUS], self.facts[Fact.ERRNO] = failure_of(path, error)

    def file(self, reader: Reader) -> Status:
        self.facts[Fact.SIZE], self.facts[Fact.MTIME_NS] = reader.size, reader.mtime_ns
        self.bytes = _Bytes(reader, reader.size)
        if reader.size == 0:
            return Status.EMPTY
        preamble = reader.size >= 132 and self.bytes.take(0, 132)[128:] == b"DICM"
        try:
            if not preamble and not self.plausible_start():
                return Status.NOT_DICOM
            self.parts(132 if preamble else 0)
            status = Status.OK
        except _Stop as stop:
            status = stop.status
        if preamble or self.identified:
            return status
        self.found.clear()
        return Status.NOT_DICOM

    def plausible_start(self) -> bool:
        """Whether a file without preamble may start with an element of group 0002 or 0008."""
        if self.bytes.size < 8:
            return False
        head = self.bytes.take(0, 8)
        if head[:3] in (b"\0\2\0", b"\0\x08\0") and head[4:6] in SHORT_VR | LONG_VR:  # big endian
            self.identified = True
            raise _Stop(Status.REFERENCE)
        return head[:2] in (b"\2\0", b"\x08\0")

    def parts(self, position: int) -> None:
        """Walk the File Meta Information (PS3.10 7.1) and the data set."""
        position = self.meta(position)
        self.facts[Fact.START] = position
        if self.bytes.size - position < 8:
            raise _Stop(Status.CUT)
        declared = declared_syntax(self.declared)
        if declared is None:
            raise _Stop(Status.REFERENCE)
        if self.looks_big_endian(position):
            raise _Stop(Status.REFERENCE)
        actual = Syntax.EXPLICIT if self.looks_explicit(position) else Syntax.IMPLICIT
        self.facts[Fact.SYNTAX], self.facts[Fact.REPAIRED] = actual, int(actual != declared)
        self.data_set(position, actual == Syntax.EXPLICIT)

    def meta(self, position: int) -> int:
        while self.bytes.size - position >= 8 and self.bytes.take(position, 2) == b"\2\0":
            tag, vr, value, length = self.element(position, True)
            if length > self.bytes.size - value:
                self.cut(tag, length, value)
            self.keep(tag, vr, value, length)
            if tag == _TRANSFER_SYNTAX:
                self.identified, self.declared = True, self.bytes.take(value, min(length, _MOST_UID_BYTES))
            position = value + length
        return position

    def looks_explicit(self, position: int) -> bool:
        """Whether the element at ``position`` has two capital letters where a VR would be."""
        vr = self.bytes.take(position + 4, 2)
        return 65 <= vr[0] <= 90 and 65 <= vr[1] <= 90

    def looks_big_endian(self, position: int) -> bool:
        """Whether the element at ``position`` is explicit big endian, whatever was declared: groups start low."""
        head = self.bytes.take(position, 8)
        return head[4:6] in SHORT_VR | LONG_VR and head[1] > head[0]

    def element(self, position: int, explicit: bool) -> tuple[int, bytes, int, int]:
        """Read one element's head: (tag, VR, offset of the value, length)."""
        self.elements += 1
        if self.elements > MAX_ELEMENTS:
            raise _Stop(Status.BAD)
        at = self.bytes.at(position, 8)
        group, number, length = _IMPLICIT_HEAD.unpack_from(self.bytes.data, at)
        tag = group << 16 | number
        if tag == length == 0:
            raise _Stop(Status.BAD)
        if not explicit or group == 0xFFFE:
            return tag, b"\0\0", position + 8, length
        _, _, vr, length = _EXPLICIT_HEAD.unpack_from(self.bytes.data, at)
        if vr in SHORT_VR:
            return tag, vr, position + 8, length
        if vr not in LONG_VR:
            raise _Stop(Status.REFERENCE)
        if self.bytes.size - position < 12:
            raise _Stop(Status.CUT)
        return tag, vr, position + 12, _LONG.unpack(self.bytes.take(position + 8, 4))[0]

    def data_set(self, position: int, explicit: bool) -> None:
        """Walk the top-level elements up to the pixel data or the end."""
        last, descents = 0, 0
        while self.bytes.size - position >= 8:
            if self.bytes.take(position, 8) == bytes(8):  # padding up to a block of the medium
                return
            tag, vr, value, length = self.element(position, explicit)
            if tag <= last:
                descents += 1
                if descents > MAX_DESCENTS:
                    raise _Stop(Status.BAD)
            if tag >> 16 == 0xFFFE and (tag != _SEQUENCE_END or length):  # a stray delimiter is borne
                raise _Stop(Status.BAD)
            if tag in self.stops:
                raise _Stop(Status.REFERENCE)
            if tag in _PIXELS:
                self.pixels(tag, value, length)
                return
            position = self.top_level(tag, vr, value, length, explicit, tag > last)
            last = tag
        if self.bytes.size > position and any(self.bytes.take(position, self.bytes.size - position)):
            raise _Stop(Status.CUT)

    def top_level(self, tag: int, vr: bytes, value: int, length: int, explicit: bool, ordered: bool) -> int:
        """Keep or skip one element; return where the next one is."""
        if length == UNDEFINED:
            if vr not in _MAY_BE_UNDEFINED:
                raise _Stop(Status.REFERENCE)
            end = self.items(value, explicit)
            self.keep(tag, vr, value, 0)
        else:
            if length > self.bytes.size - value:
                if not ordered:
                    raise _Stop(Status.BAD)
                self.cut(tag, length, value)
            end = value + length
            self.keep(tag, vr, value, 0 if vr == b"SQ" else length)
        if tag == _OFFSET_TABLE:
            self.facts[Fact.TABLE_OFFSET], self.facts[Fact.TABLE_LENGTH] = value, end - value
        if self.listed is not None:
            if len(self.listed) == MAX_LISTED:
                raise _Stop(Status.BAD)
            self.listed.append(Element(tag, vr.decode("ascii").strip("\0"), value, end - value))
        return end

    def keep(self, tag: int, vr: bytes, value: int, length: int) -> None:
        self.identified |= tag in _IDENTITY
        if tag not in self.wanted:
            return
        if length > MAX_VALUE_BYTES and tag >> 16 != _CSA_GROUP:
            raise _Stop(Status.REFERENCE)
        if 0 < length <= MAX_CSA_BYTES:
            self.found[tag] = vr + self.bytes.take(value, length)
        else:
            self.found.pop(tag, None)  # of an element that is there twice the last counts, for pydicom too

    def pixels(self, tag: int, value: int, length: int) -> None:
        self.facts[Fact.PIXEL_TAG], self.facts[Fact.PIXEL_OFFSET] = tag, value
        self.facts[Fact.PIXEL_LENGTH] = -1 if length == UNDEFINED else length

    def cut(self, tag: int, length: int, value: int) -> None:
        self.facts[Fact.CUT_TAG] = tag
        self.facts[Fact.NEEDED], self.facts[Fact.THERE] = length, self.bytes.size - value
        raise _Stop(Status.CUT)

    def enter_item(self, position: int, explicit: bool) -> bool:
        """Tell whether an item has VRs. It may be implicit in an explicit file (CP-246)."""
        if self.bytes.size - position >= 8 and explicit and self.bytes.take(position, 2) != b"\xfe\xff":
            return self.looks_explicit(position)
        return explicit

    def items(self, position: int, explicit: bool) -> int:
        """Skip a sequence (or the fragments of encapsulated bytes) of undefined length, and all sequences in it.

        No depth is too deep: each level costs the file bytes, and elements are bounded.
        """
        nest = [explicit]  # of the items that the position is in: whether they have VRs
        inside = False  # an item, else between items
        while True:
            if self.bytes.size - position < 8:
                raise _Stop(Status.CUT)
            tag, vr, position, length = self.element(position, inside and nest[-1])
            if inside and tag == _ITEM_END:
                nest.pop()
                inside = False
            elif not inside and tag == _SEQUENCE_END:
                if len(nest) == 1:
                    return position
                inside = True
            elif (length == UNDEFINED and vr not in _MAY_BE_UNDEFINED) if inside else tag != _ITEM:
                raise _Stop(Status.REFERENCE)
            elif length == UNDEFINED:
                inside = not inside
                if inside:
                    nest.append(self.enter_item(position, nest[-1]))
            elif length > self.bytes.size - position:
                self.cut(tag, length, position)
            else:
                position += length


def end_of_sequence(file: BinaryIO, size: int, explicit: bool) -> int | None:
    """Return where the sequence of undefined length ends whose value a file stands at; None where the file does.

    Raises
    ------
    ValueError
        It is no sequence, or longer than ``MAX_NEST_BYTES``.
    """
    start = file.tell()
    walk = _FileWalk((), frozenset())
    data = file.read(min(size - start, MAX_NEST_BYTES))
    walk.bytes = _Bytes(None, len(data), data)
    try:
        return start + walk.items(0, explicit)
    except _Stop as stop:
        if stop.status == Status.CUT and len(data) == size - start:
            return None
        raise ValueError("no sequence of undefined length") from None


def declared_syntax(raw: bytes) -> Syntax | None:
    """Return what a Transfer Syntax UID says; None for big endian, deflated and unknown ones."""
    uid = raw.strip(b" \0")
    if not uid:
        return Syntax.UNKNOWN
    if uid == _IMPLICIT_UID:
        return Syntax.IMPLICIT
    if uid in _DEFLATED_UIDS:
        return None
    return Syntax.EXPLICIT if uid in _EXPLICIT_UIDS or uid.startswith(_EXPLICIT_FAMILIES) else None
