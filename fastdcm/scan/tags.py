"""DICOM tags for the store: which elements are the same in all slices, and the columns of those that are not.

Elements are compared as raw bytes; only the first slice's and the varying ones are ever turned into JSON. A table is
made of one task's slices and merged with those of the other tasks of a volume.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from io import BytesIO
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from fastdcm.errors import SourceError
from fastdcm.model import FrameSource, Json
from fastdcm.scan import rules, tag_json
from fastdcm.scan.allow import DATE_TIMES, PHILIPS, PHILIPS_BLOCKS, TECHNICAL
from fastdcm.scan.bounded import BoundedFile
from fastdcm.scan.pydicom_once import load_pydicom
from fastdcm.scan.tag_json import Context, Value
from fastdcm.scan.walk import Element, walk_elements

Policy = Literal["technical", "full", "none"]
SliceTags = dict[int, Value]
"""The elements of one header that the policy lets through: tag to (VR, raw little endian bytes)."""

CHARSET, SIGN, PHOTOMETRIC = 0x00080005, 0x00280103, 0x00280004
_KEPT = frozenset(TECHNICAL) | {CHARSET} | frozenset(DATE_TIMES) | frozenset(PHILIPS)

_PRIVATE = frozenset(PHILIPS)

_COMPARED_BYTES = 256 * 1024
"""Of headers that are compared at a time: they and the result stay in the cache."""
_REMEMBERED = 8192
_REMEMBERED_BYTES = 64
"""Short elements are turned into JSON once: most are the same in thousands of files of one scanner."""


@dataclass(frozen=True, slots=True, eq=False)
class TagTable:
    """The tags of a row of cells (slices in the order t, c, z)."""

    policy: Policy
    cells: int
    present: bytes
    """(cells,) 1 where there is a slice: an absent slice makes no tag vary."""
    constant: SliceTags
    varying: dict[int, tuple[Value | None, ...]]
    """(cells,) values of each tag that is not the same in all slices there are."""


# ---------------------------------------------------------------------------- one header


def slice_tags(header: bytes, transfer_syntax: str, policy: Policy) -> SliceTags:
    """Take the elements of one file's header that the policy allows.

    Parameters
    ----------
    header : bytes
        The file from its first byte to its pixel value; of a deflated file the file meta group and what inflates
        after it.
    transfer_syntax : str
        Of the file. The bytes decide how the header is encoded; this only names big endian.
    policy : str
        ``technical`` (the allow-list), ``full`` (all but pixels and large binary) or ``none``.

    Returns
    -------
    dict
        Empty where the header cannot be read.
    """
    if policy == "none":
        return {}
    layout = _walk(header, transfer_syntax, policy)
    if layout is None:
        return {}
    return _checked(dict(layout.tags)) if policy == "technical" else dict(layout.tags)


@dataclass(frozen=True, eq=False)
class _Layout:
    """Where the elements of a header are; headers of one series often share it, so they need no walk of their own."""

    header: bytes
    start: int
    """Of the data set."""
    walked: Sequence[Element]
    """All elements; offsets count from ``start``."""
    kept: Sequence[Element]
    tags: SliceTags
    """Those of ``kept``."""

    @cached_property
    def raw(self) -> npt.NDArray[np.uint8]:
        """(bytes,) the header."""
        return np.frombuffer(self.header, np.uint8)

    @cached_property
    def structure(self) -> npt.NDArray[np.bool_]:
        """(bytes,) False where a value of defined length is, and in the preamble: what may differ."""
        structure = np.ones(len(self.header), np.bool_)
        for begin, end in _file_meta_values(self.header) if self.start else ():
            structure[begin:end] = False
        for element in self.walked:
            begin = self.start + element.offset
            if self.header[begin - 4 : begin] != b"\xff\xff\xff\xff":
                structure[begin : begin + element.length] = False
        return structure

    @cached_property
    def offsets(self) -> npt.NDArray[np.int64]:
        """(n,) of the values in ``tags``, ascending."""
        return np.array([self.start + element.offset for element in self.kept], np.int64)


def _walk(header: bytes, transfer_syntax: str, policy: Policy) -> _Layout | None:
    """Walk a header; None where it cannot be read."""
    start = _data_set_start(header)
    implicit, little = rules.encoding_of(header[start : start + 8])
    if not little or transfer_syntax == rules.EXPLICIT_BIG:
        header, start, implicit = _little_endian(header[start:]), 0, False
    data = header[start:]
    try:
        walked = walk_elements(data, not implicit)
    except SourceError:
        return None
    if policy == "full":
        kept = [e for e in walked if _in_full(e.tag, e.vr, e.length)]
    else:
        known = [e for e in walked if e.tag in _KEPT]
        kept = [e for e in known if e.length <= tag_json.BINARY_BYTES_MAX or not _too_long(e.tag, e.vr, e.length)]
    tags = {tag: (vr, data[offset : offset + length]) for tag, vr, offset, length in kept}
    return _Layout(header, start, walked, kept, tags if len(tags) == len(kept) else {})


def _by_layout(layout: _Layout, headers: Sequence[bytes]) -> list[SliceTags | None]:
    """Take the elements of headers from another's layout: right where only bytes of values differ; else None.

    The headers are as long as the layout's. They are compared as one block, so that most elements, which are the same
    in all of them, are never looked at.
    """
    if not layout.tags:
        return [None] * len(headers)
    block = np.frombuffer(b"".join(headers), np.uint8).reshape(len(headers), -1) != layout.raw
    alike = np.ones(len(headers), np.bool_)
    differs = block.any(axis=0)
    if len(elsewhere := np.flatnonzero(differs & layout.structure)):
        alike = ~block[:, elsewhere].any(axis=1)
        differs = block[alike].any(axis=0)
    names = list(layout.tags)
    numbers = np.searchsorted(layout.offsets, np.flatnonzero(differs), "right") - 1
    changed = []
    for number in numbers[np.diff(numbers, prepend=-1) > 0].tolist():  # they ascend: each once, none before the first
        vr, value = layout.tags[names[number]]
        offset = int(layout.offsets[number])
        changed.append((names[number], vr, offset, offset + len(value)))
    return [
        layout.tags | {tag: (vr, header[start:stop]) for tag, vr, start, stop in changed} if fits else None
        for header, fits in zip(headers, alike.tolist(), strict=True)
    ]


def table_of(headers: Sequence[bytes | None], sources: Sequence[FrameSource | None], policy: Policy) -> TagTable:
    """Make the table of one task's cells.

    Parameters
    ----------
    headers : sequence of bytes or None
        By cell, as ``slice_tags`` takes them; the same object for frames of the same file. None: no header.
    sources : sequence of FrameSource or None
        By cell.
    policy : str
        As in ``slice_tags``.
    """
    if policy == "none":
        return tag_table([None if header is None else {} for header in headers], policy)
    distinct: dict[int, tuple[bytes, str]] = {}
    for header, source in zip(headers, sources, strict=True):
        if header is not None and source is not None:
            distinct[id(header)] = header, source.format.transfer_syntax
    made = dict(zip(distinct, _tags_of(list(distinct.values()), policy), strict=True))
    return tag_table([None if header is None else made.get(id(header)) for header in headers], policy)


def _tags_of(headers: Sequence[tuple[bytes, str]], policy: Policy) -> list[SliceTags]:
    """Return the tags of headers with their transfer syntaxes: walked, or taken from the layout of one as long."""
    found: list[SliceTags | None] = [None] * len(headers)
    layouts: dict[int, _Layout] = {}
    waiting: dict[int, list[int]] = {}

    def compare(length: int) -> None:
        rows = waiting.pop(length, [])
        for row, tags in zip(rows, _by_layout(layouts[length], [headers[row][0] for row in rows]), strict=True):
            found[row] = tags if tags is not None else walk(row)

    def walk(row: int) -> SliceTags:
        header, syntax = headers[row]
        layout = _walk(header, syntax, policy)
        if layout is not None and len(layout.header) == len(header):
            layouts[len(header)] = layout
        return dict(layout.tags) if layout else {}

    for row, (header, _) in enumerate(headers):
        if len(header) not in layouts:
            found[row] = walk(row)
            continue
        rows = waiting.setdefault(len(header), [])
        rows.append(row)
        if len(rows) * len(header) >= _COMPARED_BYTES:
            compare(len(header))
    for length in list(waiting):
        compare(length)
    return [_checked(tags or {}) if policy == "technical" else tags or {} for tags in found]


def _in_full(tag: int, vr: str, length: int) -> bool:
    return not _too_long(tag, vr, length) and (tag == CHARSET or not tag_json.excluded(tag))


def _too_long(tag: int, vr: str, length: int) -> bool:
    """Tell whether an element is binary and longer than what belongs into a document."""
    return length > tag_json.binary_bytes_max(tag) and tag_json.resolve_vr(tag, vr, False) in tag_json.BINARY


def _checked(kept: SliceTags) -> SliceTags:
    """Drop the private numbers unless they are numbers, and their block is exactly the vendor's (PS3.5 7.8.1)."""
    if kept.keys().isdisjoint(_PRIVATE):
        return kept
    for creator_tag, (name, numbers) in PHILIPS_BLOCKS.items():
        creator = kept.get(creator_tag)
        reserved = creator is not None and rules.raw_text(creator[1]) == name
        for tag, vr in numbers.items():
            if tag in kept and not (reserved and kept[tag][0] in ("", "UN", vr)):
                del kept[tag]
        if creator is not None and not any(tag in kept for tag in numbers):
            del kept[creator_tag]
    return kept


def _data_set_start(header: bytes) -> int:
    """Return where the data set starts: after the prefix and the file meta group."""
    return _file_meta_values(header)[-1][1]


def _file_meta_values(header: bytes) -> list[tuple[int, int]]:
    """Return where the values of the file meta group begin and end, the preamble first."""
    found = [(0, 128), (132, 132)] if header[128:132] == b"DICM" else [(0, 0)]
    start = found[-1][1]
    while header[start : start + 2] == b"\x02\x00" and start + 8 <= len(header):
        vr = header[start + 4 : start + 6]
        if vr not in rules.VRS:
            begin, length = start + 8, header[start + 4 : start + 8]
        elif vr in (b"OB", b"UN", b"UT"):
            begin, length = start + 12, header[start + 8 : start + 12]
        else:
            begin, length = start + 8, header[start + 6 : start + 8]
        start = begin + int.from_bytes(length, "little")
        found.append((begin, start))
    return found


def _little_endian(data: bytes) -> bytes:
    """Rewrite a big endian data set as explicit little endian, without what cannot be written."""
    load_pydicom()
    from pydicom.charset import convert_encodings
    from pydicom.filebase import DicomBytesIO
    from pydicom.filereader import read_dataset
    from pydicom.filewriter import write_data_element

    try:
        file: Any = BoundedFile(BytesIO(data), len(data))
        dataset = read_dataset(file, False, False, stop_when=lambda tag, vr, length: tag >> 16 >= 0x7FE0)
    except (*tag_json.BROKEN, SourceError, OSError):
        return b""
    encodings = convert_encodings(dataset.get("SpecificCharacterSet") or "ISO_IR 100")  # as they were decoded
    written: list[bytes] = []
    for tag in sorted(dataset.keys()):
        out = DicomBytesIO()
        out.is_little_endian, out.is_implicit_VR = True, False
        try:
            write_data_element(out, dataset[tag], encodings)
        except tag_json.BROKEN:
            continue
        written.append(out.getvalue())
    return b"".join(written)


# ---------------------------------------------------------------------------- many


def tag_table(slices: Sequence[SliceTags | None], policy: Policy) -> TagTable:
    """Compare the tags of slices (None: an absent slice), in cell order."""
    there = [tags for tags in slices if tags is not None]
    first = there[0] if there else {}
    cells = [{} if tags is None else tags for tags in slices]
    order, values = list(first), list(first.values())
    varying: set[int] = set()
    for tags in there[1:]:
        if tags is first:
            continue
        if list(tags) == order:  # as in nearly all series; values that one layout gave are the same objects
            pairs = zip(order, values, tags.values(), strict=True)
            varying.update([tag for tag, one, other in pairs if one is not other and one != other])
            continue
        varying.update(tag for tag, value in tags.items() if first.get(tag) != value)
        varying.update(first.keys() - tags.keys())
    return TagTable(
        policy,
        len(slices),
        bytes(tags is not None for tags in slices),
        {tag: value for tag, value in first.items() if tag not in varying},
        {tag: tuple([tags.get(tag) for tags in cells]) for tag in varying},
    )


def merge(tables: Iterable[TagTable]) -> TagTable:
    """Join tables whose cells follow each other into one."""
    parts = list(tables)
    if len(parts) == 1:
        return parts[0]
    there = [part for part in parts if any(part.present)]
    first = there[0].constant if there else {}
    tags = {tag for part in parts for tag in (*part.constant, *part.varying)}
    constant = {tag: value for tag, value in first.items() if all(part.constant.get(tag) == value for part in there)}
    return TagTable(
        parts[0].policy if parts else "none",
        sum(part.cells for part in parts),
        b"".join(part.present for part in parts),
        constant,
        {tag: tuple(v for part in parts for v in _column(part, tag)) for tag in sorted(tags - constant.keys())},
    )


def _column(table: TagTable, tag: int) -> Sequence[Value | None]:
    """Return a tag's value in each cell of a table."""
    if tag in table.varying:
        return table.varying[tag]
    value = table.constant.get(tag)
    return [value if there else None for there in table.present]


# ---------------------------------------------------------------------------- JSON


def to_json(table: TagTable) -> tuple[Json, Json]:
    """Return the tags as documents of PS3.18 Annex F.

    Returns
    -------
    (constant, per_slice)
        ``{"00080060": {"vr": "CS", "Value": ["CT"]}}`` and ``{"00200013": {"vr": "IS", "Value": [[1], null, ...]}}``
        with one list of values or null a cell (``InlineBinary`` in place of ``Value`` for small binary). Strings are
        valid UTF-8, numbers that are not finite are null. Palettes are there where they are not applied to the pixels.
    """
    if table.policy == "none":
        return {}, {}
    contexts = _contexts(table)
    context = next((c for c, there in zip(contexts, table.present, strict=True) if there), Context(_shown(table)))
    constant: Json = {}
    expanded = tag_json.PALETTES if b"PALETTE" in table.constant.get(PHOTOMETRIC, ("", b""))[1] else frozenset()
    for tag in sorted(table.constant.keys() - expanded):
        if made := _json_of(tag, table.constant[tag], context):
            constant.setdefault(*made)
    per_slice: Json = {}
    for tag in sorted(table.varying.keys() - expanded):
        made_each = [
            _json_of(tag, value, context) if value is not None else None
            for value, context in zip(table.varying[tag], contexts, strict=True)
        ]
        if any(made_each):
            key, column = _joined(made_each)
            per_slice.setdefault(key, column)
    return constant, per_slice


def _shown(table: TagTable) -> tag_json.Policy:
    return "full" if table.policy == "full" else "technical"


def _contexts(table: TagTable) -> list[Context]:
    """Return what each cell's bytes depend on."""
    policy = _shown(table)

    def context(charset: Value | None, sign: Value | None) -> Context:
        names = tuple(charset[1].decode("latin-1").split("\\")) if charset else ()
        return Context(policy, names, sign is not None and sign[1][:1] == b"\1")

    return [context(*pair) for pair in zip(_column(table, CHARSET), _column(table, SIGN), strict=True)]


def _json_of(tag: int, value: Value, context: Context) -> tuple[str, Json] | None:
    """Return the key and the element, made or remembered: it is shared, and never changed."""
    return (_json if len(value[1]) > _REMEMBERED_BYTES else _remembered_json)(tag, value, context)


def _json(tag: int, value: Value, context: Context) -> tuple[str, Json] | None:
    """Return the key and the element; of a date and time, in technical, the time under its own key."""
    if context.policy == "technical" and tag in DATE_TIMES:
        time = tag_json.time_of(value)
        return (f"{DATE_TIMES[tag]:08X}", time) if time else None
    if tag_json.excluded(tag):
        return None
    vr = (PHILIPS.get(tag, value[0]) if value[0] in ("", "UN") else value[0], value[1])
    made = tag_json.element_json(tag, vr, context)
    return (f"{tag:08X}", made) if made else None


_remembered_json = lru_cache(_REMEMBERED)(_json)


def _joined(made: Sequence[tuple[str, Json] | None]) -> tuple[str, Json]:
    """Put the elements of the slices side by side under the first one's VR."""
    key, first = next(pair for pair in made if pair is not None)
    name = "InlineBinary" if first["vr"] in tag_json.BINARY else "Value"
    return key, {"vr": first["vr"], name: [pair[1].get(name) if pair is not None else None for pair in made]}
