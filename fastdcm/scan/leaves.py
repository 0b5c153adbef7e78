"""One file's header as leaves: every element before the pixels, those nested in sequences under the path to them.

A leaf is what two files are compared by: a hash of the stored bytes without their padding (PS3.5 6.2), and the bytes
to show. Sequences are compared by what they hold, so how they are encoded makes no difference.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt
import xxhash

from fastdcm.errors import Code, SourceError
from fastdcm.scan import elements, rules, tag_json
from fastdcm.scan.allow import PHILIPS
from fastdcm.scan.dictionary import creator_tag, is_creator, private_vr
from fastdcm.scan.opened import open_location
from fastdcm.scan.pydicom_once import load_pydicom
from fastdcm.scan.reference import read_header
from fastdcm.scan.walk import Fact, Status, Syntax, walk_elements, walk_files

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

Path = tuple[int, ...]
"""Tag, item, tag, item ... tag: ``(0x00400275, 0, 0x00400009)``; a tag alone at the top. Items count from 0."""

FRAMES = -1
"""Stands for the item in paths below the Per-Frame Functional Groups: their items are the frames."""
PER_FRAME = 0x52009230
HEADER_BYTES_MAX = 2**26
"""A longer header is read element by element, without the values beyond ``bounded.VALUE_BYTES_MAX``."""
SHOWN_BYTES, SHOWN_NESTED_BYTES = 2**16, 2**12
"""More of a value, and of a nested one, is not kept; it is compared whole."""
_CHARSET, _SIGN, _TAIL = 0x00080005, 0x00280103, 0xFFFCFFFC
_DEPTH_MAX = 16
_ITEM = b"\xfe\xff\x00\xe0"
_PADDING = b" \0"
_TYPES = {"US": "u2", "SS": "i2", "UL": "u4", "SL": "i4", "FL": "f4", "FD": "f8", "UV": "u8", "SV": "i8"}
_WORDS = {"AT": 2, "OW": 2, "OL": 4, "OF": 4, "OD": 8, "OV": 8} | {vr: int(kind[1]) for vr, kind in _TYPES.items()}
"""Bytes of what a byte order turns round."""
BROKEN = (*tag_json.BROKEN, SourceError, OSError)
"""What a header that cannot be read raises."""


class Element(NamedTuple):
    """An element as a file has it."""

    tag: int
    vr: str
    """Empty: implicit."""
    raw: bytes
    implicit: bool = False
    """How the items of a sequence are encoded."""
    little_endian: bool = True
    items: Sequence[Dataset] | None = None
    """Of a sequence that pydicom has read already."""


Elements = dict[int, Element]
"""The elements of one data set, by tag."""


class Context(NamedTuple):
    """What the meaning of an element's bytes depends on."""

    charsets: tuple[str, ...] = ()
    signed: bool = False
    creators: tuple[tuple[int, bytes], ...] = ()
    """Private Creators (PS3.5 7.8.1) by tag."""
    private: bool = True
    as_json: bool = False
    """Compare what a store keeps of the value (``tag_json``), in place of the bytes."""
    depth: int = 0


class Leaf(NamedTuple):
    """One value of one element."""

    vr: str
    key: int
    """Hash of the value, never 0."""
    raw: bytes
    """At most ``SHOWN_BYTES`` of the value, little endian, without padding; of a sequence how many items."""
    length: int
    charsets: tuple[str, ...] = ()
    as_text: bool = False
    """Whether ``raw`` is text whatever the VR."""


# ---------------------------------------------------------------------------- one file


def read_elements(paths: Sequence[bytes]) -> Iterator[Elements | None]:
    """Yield the top-level elements of each file up to its pixels, without group 2; None where they cannot be read.

    Parameters
    ----------
    paths : sequence of bytes
        Their locations. Of files without pixels everything is read.

    Yields
    ------
    dict of int to Element, or None
        By tag; of a tag that is there twice the first. What did not change between files is often the same object.
    """
    facts = walk_files(paths, (), ()).facts
    layouts: dict[tuple[int, bool], _Layout] = {}
    for path, fact in zip(paths, facts.tolist(), strict=True):
        try:
            yield _read(path, fact, layouts)
        except BROKEN:
            yield None


class _Layout(NamedTuple):
    """Where the elements of a header are; headers of one series often share it, so they need no walk of their own."""

    data: npt.NDArray[np.uint8]
    elements: Elements
    tags: list[int]
    starts: npt.NDArray[np.int64]
    """(n,) of the values, ascending."""
    ends: npt.NDArray[np.int64]
    """(n,) of the values; where a length is not defined the start: nothing there may differ."""


def _read(path: bytes, fact: Sequence[int], layouts: dict[tuple[int, bool], _Layout]) -> Elements:
    """Read one file, by the walk where it can."""
    with open_location(path) as reader:
        if fact[Fact.STATUS] in (Status.EMPTY, Status.NOT_DICOM):
            raise SourceError(Code.NO_DICOM, "the file is no DICOM file any more")
        size = fact[Fact.PIXEL_OFFSET] if fact[Fact.PIXEL_TAG] else reader.size
        if fact[Fact.STATUS] == Status.REFERENCE or fact[Fact.SYNTAX] == Syntax.UNKNOWN or size > HEADER_BYTES_MAX:
            with reader.file() as file:
                dataset = read_header(file, reader.size).dataset
            return {element.tag: element for element in elements_of(dataset)}
        data = reader.read_at(0, size)[fact[Fact.START] :]
    kind = len(data), fact[Fact.SYNTAX] == Syntax.EXPLICIT
    found = _by_layout(layouts[kind], data) if kind in layouts else None
    if found is None:
        found, layouts[kind] = _walk(data, kind[1])
    return found


def _walk(data: bytes, explicit: bool) -> tuple[Elements, _Layout]:
    walked = [one for one in walk_elements(data, explicit) if not (one.tag in rules.PIXEL_KEYWORDS or one.tag == _TAIL)]
    found: Elements = {}
    for one in walked:
        found.setdefault(one.tag, Element(one.tag, one.vr, data[one.offset : one.offset + one.length], one.vr != "SQ"))
    starts = np.array([one.offset for one in walked], np.int64)
    fixed = [len(found) < len(walked) or data[one.offset - 4 : one.offset] == b"\xff\xff\xff\xff" for one in walked]
    ends = starts + np.where(fixed, 0, np.array([one.length for one in walked], np.int64))
    return found, _Layout(np.frombuffer(data, np.uint8), found, [one.tag for one in walked], starts, ends)


def _by_layout(layout: _Layout, data: bytes) -> Elements | None:
    """Take a header's elements from another's of the same length: right if only bytes of values differ; else None."""
    differs = np.flatnonzero(layout.data != np.frombuffer(data, np.uint8))
    places = np.searchsorted(layout.starts, differs, "right") - 1
    if len(differs) and (places[0] < 0 or (differs >= layout.ends[places]).any()):
        return None
    found = dict(layout.elements)
    for place in np.unique(places).tolist():
        tag, start, end = layout.tags[place], int(layout.starts[place]), int(layout.ends[place])
        found[tag] = found[tag]._replace(raw=data[start:end])
    return found


def elements_of(dataset: Dataset) -> Iterator[Element]:
    """Yield the elements of a pydicom dataset as they were stored."""
    load_pydicom()
    from pydicom.dataelem import RawDataElement

    for tag in sorted(dataset.keys()):
        found: Any = dataset.get_item(tag)
        if not isinstance(found, RawDataElement):  # read already: a sequence of undefined length
            if found.VR == "SQ":
                yield Element(int(tag), "SQ", b"", items=found.value)
            elif (raw := elements.raw_element(dataset, tag)) is not None:
                yield Element(int(tag), found.VR, raw.value)
            continue
        value = found.value if isinstance(found.value, bytes) else b""
        yield Element(int(tag), found.VR or "", value, found.is_implicit_VR, found.is_little_endian)


def context_of(found: Elements, *, private: bool, as_json: bool = False) -> Context:
    """Return what the meaning of a file's elements depends on."""
    return _context_in(found, Context(private=private, as_json=as_json))


def is_context(tag: int) -> bool:
    """Whether the meaning of other elements depends on this one."""
    return tag in (_CHARSET, _SIGN) or is_creator(tag)


def _context_in(found: Elements, around: Context) -> Context:
    """Return what the meaning of a data set's elements depends on, inside of another one or at the top."""
    names = found[_CHARSET].raw.strip(_PADDING).decode("latin-1") if _CHARSET in found else ""
    return around._replace(
        charsets=tuple(names.split("\\")) if names else around.charsets,
        signed=any(found[_SIGN].raw[:2]) if _SIGN in found else around.signed,  # 1 in either byte order
        creators=tuple((tag, element.raw) for tag, element in found.items() if is_creator(tag)),
    )


# ---------------------------------------------------------------------------- leaves


def leaves_of(element: Element, context: Context) -> Iterator[tuple[Path, int, Leaf]]:
    """Yield an element, and what is nested in it, as (path, frame, leaf).

    ``frame`` is -1 but for what stands in the Per-Frame Functional Groups: there it is the number of the item, and the
    path has ``FRAMES`` in its place. A sequence comes after its contents; items that cannot be read are one value.
    As JSON there are no empty values, and of sequences only the contents.
    """
    vr = _vr_of(element, context)
    if vr != "SQ" and element.items is None and not (vr == "UN" and element.raw.startswith(_ITEM)):
        leaf = _leaf(element, vr, context)
        if leaf.length or not context.as_json:
            yield (element.tag,), -1, leaf
        return
    nested: list[tuple[Path, int, Leaf]] = []
    try:
        items = _items(element, context)
        for number, item in enumerate(items):
            nested += _item_leaves(element.tag, number, item, context)
    except BROKEN:
        if not context.as_json:
            yield (element.tag,), -1, _leaf(element, "UN", context)
        return
    yield from nested
    if context.as_json:
        return
    digest = xxhash.xxh3_64(b"%d" % len(items))
    for path, frame, leaf in nested:
        digest.update(b"%d %x %s" % (frame, leaf.key, repr(path).encode()))
    count = b"%d" % len(items)
    yield (element.tag,), -1, Leaf("SQ", digest.intdigest() or 1, count, len(count))


def _vr_of(element: Element, context: Context) -> str:
    """Return the VR: the file's, or where it has none or UN the dictionary's, for private elements by their creator."""
    tag = element.tag
    if not tag & 0xFFFF:
        return "UL"  # of a group's length
    if tag >> 16 & 1 and element.vr in ("", "UN") and (where := creator_tag(tag)):
        creator = dict(context.creators).get(where, b"")
        return private_vr(tag, rules.raw_text(creator) or "") if creator else "UN"
    return tag_json.resolve_vr(tag, element.vr, context.signed)


def _items(element: Element, context: Context) -> Sequence[Dataset]:
    if context.depth >= _DEPTH_MAX:
        raise SourceError(Code.BAD_HEADER, f"sequences are nested more than {_DEPTH_MAX} deep")
    if element.items is not None:
        return element.items
    return elements.read_items(element.raw, element.implicit, element.little_endian)


def _item_leaves(tag: int, number: int, item: Dataset, context: Context) -> Iterator[tuple[Path, int, Leaf]]:
    found = {element.tag: element for element in elements_of(item)}
    inner = _context_in(found, context)._replace(depth=context.depth + 1)
    over_frames = tag == PER_FRAME and context.depth == 0
    place = FRAMES if over_frames else number
    for element in found.values():
        if context.private or not element.tag >> 16 & 1:
            for path, frame, leaf in leaves_of(element, inner):
                yield (tag, place, *path), number if over_frames else frame, leaf


def _leaf(element: Element, vr: str, context: Context) -> Leaf:
    """Return an element that is no sequence: its hash is that of its bytes without padding."""
    raw = element.raw if element.little_endian else _turned(element.raw, vr)
    shown = SHOWN_NESTED_BYTES if context.depth else SHOWN_BYTES
    if context.as_json:
        policy = tag_json.Context("full", context.charsets, context.signed)
        as_kept = PHILIPS.get(element.tag, element.vr) if element.vr in ("", "UN") else element.vr
        return json_leaf(tag_json.element_json(element.tag, (as_kept, raw), policy) or {"vr": vr})
    if vr in _WORDS or vr in tag_json.BINARY:
        mark = vr.encode() if vr in _TYPES else b""
        return Leaf(vr, xxhash.xxh3_64_intdigest(mark + raw) or 1, raw[:shown], len(raw))
    text = without_padding(raw, vr)
    charsets = () if text.isascii() and b"\x1b" not in text else context.charsets
    key = xxhash.xxh3_64_intdigest(text + "\\".join(charsets).encode()) or 1
    return Leaf(vr, key, text[:shown], len(text), charsets)


def without_padding(raw: bytes, vr: str) -> bytes:
    r"""Return a text value without what is no part of it: blanks and NULs around each value (PS3.5 6.2).

    Examples
    --------
    >>> without_padding(b" 340 ", "IS"), without_padding(b"CT\\MR ", "CS"), without_padding(b"  indented ", "LT")
    (b'340', b'CT\\MR', b'  indented')
    """
    if vr in ("ST", "LT", "UT", "UR"):
        return raw.rstrip(_PADDING)
    return b"\\".join([part.strip(_PADDING) for part in raw.split(b"\\")]) if b"\\" in raw else raw.strip(_PADDING)


def _turned(raw: bytes, vr: str) -> bytes:
    """Return a big endian value as little endian."""
    size = _WORDS.get(vr, 1)
    whole = raw[: len(raw) // size * size]
    return np.frombuffer(whole, f">u{size}").astype(f"<u{size}").tobytes() if size > 1 else raw


def json_leaves(tag: int, made: Mapping[str, Any]) -> Iterator[tuple[Path, Leaf]]:
    """Yield an element of PS3.18 JSON, and what is nested in it; a value that is empty is none."""
    if made["vr"] != "SQ":
        leaf = json_leaf(made)
        if leaf.length:
            yield (tag,), leaf
        return
    for number, item in enumerate(made.get("Value") or ()):
        for inner, element in item.items():
            for path, leaf in json_leaves(int(inner, 16), element):
                yield (tag, number, *path), leaf


def json_leaf(made: Mapping[str, Any]) -> Leaf:
    """Return the leaf of an element of PS3.18 JSON that is no sequence."""
    values = [made["InlineBinary"]] if "InlineBinary" in made else made.get("Value") or ()
    raw = "\\".join(map(_json_text, values)).encode("utf-8", "replace")
    key = xxhash.xxh3_64_intdigest(raw) or 1
    return Leaf(made["vr"], key, raw[:SHOWN_BYTES], len(raw), ("ISO_IR 192",), as_text=True)


def _json_text(value: object) -> str:
    if isinstance(value, dict):
        return "=".join(str(part) for part in value.values())
    return "" if value is None else str(value).removesuffix(".0") if isinstance(value, float) else str(value)


# ---------------------------------------------------------------------------- order


def _numbers(leaf: Leaf) -> np.ndarray[Any, np.dtype[Any]]:
    kind = np.dtype(f"<{_TYPES[leaf.vr]}")
    return np.frombuffer(leaf.raw[: len(leaf.raw) // kind.itemsize * kind.itemsize], kind)


def leaf_order(leaf: Leaf) -> tuple[Any, ...] | None:
    """Return what orders values that have a smallest and a largest: numbers, dates, times; None for all others.

    An empty value gives an empty tuple.
    """
    if not leaf.raw:
        return ()
    if leaf.vr in _TYPES and not leaf.as_text:
        numbers = tuple(_numbers(leaf).tolist())
        return numbers if all(number == number for number in numbers) else None
    if leaf.vr in rules.NUMBER_VRS:
        parts = [rules.parse_number(part) for part in leaf.raw.decode("latin-1").split("\\")]
        return tuple(parts) if all(part is not None and part == part for part in parts) else None
    if leaf.vr in ("DA", "TM", "DT"):
        text = leaf.raw.decode("latin-1")
        return (text,) if text[:1].isdigit() else None
    return None
