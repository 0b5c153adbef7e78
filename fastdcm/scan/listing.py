"""Every element of one file, nested ones too and what follows the pixels, but never the pixels: what ``header`` shows.

A walk with a stack of its own, so that no depth of nesting exhausts Python's. Long values are not read, only measured.
What cannot be read ends the list and is told in ``Listing.problem``.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from fastdcm.errors import SourceError
from fastdcm.scan import rules
from fastdcm.scan.bounded import NO_ELEMENTS, inflate
from fastdcm.scan.location import base_name
from fastdcm.scan.opened import open_location
from fastdcm.scan.reading import Reader
from fastdcm.scan.sniff import HEAD_BYTES, not_dicom
from fastdcm.scan.tag_json import resolve_vr
from fastdcm.scan.walk_python import LONG_VR, MAX_DESCENTS, MAX_ELEMENTS

VALUE_BYTES_MAX = 2**18
"""A longer value is not read, only measured."""
ALL_BYTES_MAX = 2**26
"""So much of all values together is read; what comes then is only measured."""
ELEMENTS_MAX = 2**18
"""Elements and items that are listed: those of 5 000 frames with 50 each; a hostile file of 16 MB has 2 million."""
DEPTH_MAX = 32
"""Deeper items are walked over, not listed."""
INFLATED_BYTES_MAX = 2**26
ITEM, ITEM_END, SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_UNDEFINED = 0xFFFFFFFF
_BLOCK_BYTES = 8192


class Listed(NamedTuple):
    """One element, or the head of an item (tag ``ITEM``), whose elements follow it at the same depth."""

    depth: int
    tag: int
    vr: str
    """As the file says; empty where it does not (implicit, items); SQ for every sequence."""
    length: int
    """Bytes of the value as declared; -1 undefined."""
    value: bytes | None
    """None where it was not read: sequences, items, pixels, what is longer than ``VALUE_BYTES_MAX`` or not there."""
    little_endian: bool


@dataclass(slots=True)
class Listing:
    """What one file holds, in its order."""

    elements: list[Listed] = field(default_factory=list)
    syntax: str | None = None
    """Transfer syntax as group 2 declares it."""
    problem: str | None = None
    """Why the list ends early, or is not whole."""


class _Level(NamedTuple):
    """What is being walked: a data set or the items of a sequence."""

    is_sequence: bool
    end: int
    undefined: bool
    explicit: bool
    little: bool
    depth: int


class _Bytes:
    """Bytes of a source, a block at a time: reading ahead is at most ``_BLOCK_BYTES``."""

    def __init__(self, file: Reader | io.BytesIO, size: int) -> None:
        self._file, self.size = file, size
        self._start, self._block = 0, b""

    def read(self, offset: int, count: int) -> bytes:
        """Return up to ``count`` bytes."""
        at = offset - self._start
        if not 0 <= at <= len(self._block) - count:
            self._start, self._block = offset, self.exact(offset, max(count, _BLOCK_BYTES))
            at = 0
        return self._block[at : at + count]

    def exact(self, offset: int, count: int) -> bytes:
        """Return up to ``count`` bytes, and read no more than these."""
        count = min(count, max(self.size - offset, 0))
        if isinstance(self._file, Reader):
            return self._file.read_at(offset, count)
        self._file.seek(offset)
        return self._file.read(count)


class Wanted(NamedTuple):
    """Which top-level elements of a data set are listed; others are stepped over."""

    tags: frozenset[int]
    is_end: Callable[[int], bool]
    """Whether the list may end before a top-level tag."""
    heads_max: int
    """Elements and items, listed or not, after which it ends."""


def list_elements(path: str, wanted: Wanted | None = None) -> Listing:
    """List all elements of a file.

    Parameters
    ----------
    path : str
        Location of a file.
    wanted : Wanted, optional
        List only these of the data set, and what is in them.

    Returns
    -------
    Listing
        Group 2, then the data set.

    Raises
    ------
    SourceError
        Not DICOM (``no-dicom``, ``empty``, ``apple-double``), a deflated file that does not inflate.
    OSError
        It cannot be opened or read.
    """
    with open_location(path) as reader:
        size = reader.size
        source = _Bytes(reader, size)
        head = source.read(0, HEAD_BYTES)
        verdict = not_dicom(head, size, base_name(path))
        if verdict:
            raise SourceError(verdict[1], verdict[2])
        listing = Listing()
        position = _Walk(source, listing, meta=True).run(132 if head[128:132] == b"DICM" else 0)
        listing.syntax = _declared(listing.elements)
        if listing.syntax in rules.DEFLATED_SYNTAXES and source.read(position + 4, 2) not in rules.VRS:
            source, position = _inflated(source, position), 0
        if listing.problem is None:
            _Walk(source, listing, wanted=wanted).run(position)
    return listing


def _declared(elements: list[Listed]) -> str | None:
    found = [element.value for element in elements if element.tag == 0x00020010]
    return rules.raw_text(found[0]) if found and found[0] else None


def _inflated(source: _Bytes, position: int) -> _Bytes:
    """Inflate what follows ``position`` (PS3.5 A.5) as far as a header may go."""
    file = io.BytesIO(source.exact(position, source.size - position))
    kept = bytearray()
    try:
        for part in inflate(file.read, source.size - position):
            kept += part
            if len(kept) > INFLATED_BYTES_MAX:
                break
    except SourceError:
        if not kept:
            raise
    return _Bytes(io.BytesIO(bytes(kept)), len(kept))


class _Walk:
    """The walk of group 2 (``meta``) or of a data set."""

    def __init__(self, source: _Bytes, listing: Listing, *, meta: bool = False, wanted: Wanted | None = None) -> None:
        self.source, self.listing, self.meta, self.wanted = source, listing, meta, wanted
        self.listed = True
        self.heads = self.descents = self.last = self.kept_bytes = 0

    def run(self, position: int) -> int:
        """Walk from ``position``; return where it ended."""
        peek = self.source.read(position, 8)
        implicit, little = rules.encoding_of(peek)
        if self.meta:
            implicit, little = peek[4:6] not in rules.VRS, True
        stack = [_Level(False, self.source.size, False, not implicit, little, 0)]
        try:
            while stack:
                level = stack[-1]
                if position >= level.end:
                    if level.undefined and position >= self.source.size:
                        self.listing.problem = "the file ends inside a sequence"
                    stack.pop()
                    continue
                step = self.item if level.is_sequence else self.element
                position = step(position, level, stack)
        except _Ended as ended:
            self.listing.problem = ended.problem or self.listing.problem
            return ended.position
        return position

    def head(self, position: int, explicit: bool, little: bool) -> tuple[int, str, int, int]:
        """Read one head: (tag, VR, offset of the value, length)."""
        self.heads += 1
        if self.heads > (MAX_ELEMENTS if self.wanted is None else self.wanted.heads_max):
            raise _Ended(position, NO_ELEMENTS)
        head = self.source.read(position, 12)
        order: Literal["little", "big"] = "little" if little else "big"
        tag = int.from_bytes(head[:2], order) << 16 | int.from_bytes(head[2:4], order)
        length = int.from_bytes(head[4:8], order)
        if self.meta and tag >> 16 != 0x0002:
            raise _Ended(position, None)
        if len(head) < 8 or tag == length == 0:  # padding up to a block of the medium
            raise _Ended(position, "the file ends inside an element" if any(head) else None)
        vr = head[4:6]
        if not explicit or tag >> 16 == 0xFFFE or not (vr.isalpha() and vr.isupper()):
            return tag, "", position + 8, length
        if vr not in LONG_VR:
            return tag, vr.decode("ascii"), position + 8, int.from_bytes(head[6:8], order)
        return tag, vr.decode("ascii"), position + 12, int.from_bytes(head[8:12], order)

    def item(self, position: int, level: _Level, stack: list[_Level]) -> int:
        """Enter the next item of a sequence, or leave the sequence."""
        tag, _, start, length = self.head(position, False, level.little)
        if tag == SEQUENCE_END:
            stack.pop()
            return start
        if tag != ITEM:
            raise _Ended(position, "a sequence holds something else than items")
        explicit = level.explicit
        if explicit or level.undefined:  # what UN hides should be implicit (PS3.5 6.2.2), and is not always
            explicit = self.source.read(start + 4, 2) in rules.VRS
        self.add(Listed(level.depth, ITEM, "", -1 if length == _UNDEFINED else length, None, level.little))
        end = level.end if length == _UNDEFINED else min(start + length, level.end)
        stack.append(level._replace(is_sequence=False, end=end, undefined=length == _UNDEFINED, explicit=explicit))
        return start

    def element(self, position: int, level: _Level, stack: list[_Level]) -> int:
        """List the next element of a data set, enter it where it is a sequence; return what comes next."""
        tag, vr, start, length = self.head(position, level.explicit, level.little)
        if tag == ITEM_END and len(stack) > 1:
            stack.pop()
            return start
        if tag == SEQUENCE_END and length == 0:  # a stray delimiter is borne, or closes a level too many
            del stack[max(len(stack) - 2, 1) :]
            return start
        if tag >> 16 == 0xFFFE:
            raise _Ended(position, "something else than an element is in its place")
        if level.depth == 0:
            self.keep_order(tag, position)
            self.listed = self.wanted is None or tag in self.wanted.tags
            if self.wanted is not None and self.wanted.is_end(tag):
                raise _Ended(position, None)
        undefined = length == _UNDEFINED
        pixels = tag in rules.PIXEL_KEYWORDS or (undefined and vr in ("OB", "OW"))
        if not pixels and (undefined or resolve_vr(tag, vr, False) == "SQ"):
            self.add(Listed(level.depth, tag, "SQ", -1 if undefined else length, None, level.little))
            end = level.end if undefined else min(start + length, level.end)
            hidden = vr == "UN"
            little, explicit = level.little or hidden, level.explicit and not hidden
            stack.append(_Level(True, end, undefined, explicit, little, level.depth + 1))
            return start
        return self.value(Listed(level.depth, tag, vr, -1 if undefined else length, None, level.little), start, pixels)

    def keep_order(self, tag: int, position: int) -> None:
        """Give up where top-level tags fall again and again: that is no list of elements."""
        self.descents += tag <= self.last
        self.last = tag
        if self.descents > MAX_DESCENTS:
            raise _Ended(position, NO_ELEMENTS)

    def value(self, element: Listed, start: int, pixels: bool) -> int:
        """List an element that is no sequence; return where it ends."""
        if element.length < 0:
            self.add(element)
            return self.fragments(start)
        there = self.source.size - start
        if (
            self.listed
            and not pixels
            and element.length <= min(there, VALUE_BYTES_MAX, ALL_BYTES_MAX - self.kept_bytes)
        ):
            self.kept_bytes += element.length
            element = element._replace(value=self.source.read(start, element.length))
        self.add(element)
        if element.length > there:
            name = f"({element.tag >> 16:04X},{element.tag & 0xFFFF:04X})"
            raise _Ended(start, f"{name} has {element.length} bytes, {there} are there")
        return start + element.length

    def fragments(self, position: int) -> int:
        """Step over encapsulated pixels (PS3.5 A.4) by the heads of their fragments."""
        for _ in range(MAX_ELEMENTS):
            head = self.source.exact(position, 8)
            if head[:4] != b"\xfe\xff\x00\xe0":
                break
            position += 8 + int.from_bytes(head[4:], "little")
        if head[:4] == b"\xfe\xff\xdd\xe0":
            return position + 8
        raise _Ended(position, "the encapsulated pixels have no end")

    def add(self, element: Listed) -> None:
        """List an element unless nobody wants it, or it is too deep, or one too many."""
        if not self.listed:
            return
        if len(self.listing.elements) >= ELEMENTS_MAX:
            raise _Ended(0, f"only the first {ELEMENTS_MAX} elements are listed")
        if element.depth <= DEPTH_MAX:
            self.listing.elements.append(element)
        else:
            self.listing.problem = f"what is nested deeper than {DEPTH_MAX} sequences is not shown"


class _Ended(Exception):
    """The walk is over."""

    def __init__(self, position: int, problem: str | None) -> None:
        super().__init__(problem)
        self.position, self.problem = position, problem


# ---------------------------------------------------------------------------- finding in the list


def top_level(elements: list[Listed]) -> dict[int, int]:
    """Return where each top-level tag is in the list; the first counts."""
    found: dict[int, int] = {}
    for place, element in enumerate(elements):
        if element.depth == 0:
            found.setdefault(element.tag, place)
    return found


def items_of(elements: list[Listed], place: int) -> Iterator[dict[int, int]]:
    """Yield, for each item of the sequence at ``place``, where its elements are in the list."""
    depth = elements[place].depth + 1
    found: dict[int, int] | None = None
    for number in range(place + 1, len(elements)):
        element = elements[number]
        if element.depth < depth:
            break
        if element.depth == depth and element.tag == ITEM:
            if found is not None:
                yield found
            found = {}
        elif element.depth == depth and found is not None:
            found.setdefault(element.tag, number)
    if found is not None:
        yield found
