"""Raw values of a batch to index columns: every distinct value is converted once, the rows by numpy.

``rules`` says what a value means. Decimal texts and times that are plain (nearly all) are read by a compiled parser
where there is one: it takes a subset of what the rules take, and gives the same numbers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fastdcm.model import COLUMN, COLUMNS, Column, Floats
from fastdcm.scan import rules
from fastdcm.scan.diffusion import BLOCKS, read_diffusion
from fastdcm.scan.index import index_schema
from fastdcm.scan.rules import Getter, Raw
from fastdcm.scan.walk import Walked, parse_decimals, parse_times

Codes = npt.NDArray[np.integer[Any]]
Bools = npt.NDArray[np.bool_]

CHARSET, SIGN, MODALITY = 0x00080005, 0x00280103, 0x00080060
B_VALUE, B_DIRECTION = 0x00189087, 0x00189089
MEDIA_CLASS, MEDIA_INSTANCE = 0x00020002, 0x00020003
SPACING_TAGS = (0x00280030, 0x00181164, 0x00182010, 0x00280A02, MODALITY)

# b-values and directions of Siemens, GE, Philips and UIH (scan/diffusion.py), with the creators of their blocks
_PRIVATE = {0x0019: (0x0C, 0x0E, 0xBB, 0xBC, 0xBD), 0x0043: (0x39,), 0x2001: (0x03,), 0x0065: (0x09, 0x37)}
_PRIVATE[0x2005] = (0xB0, 0xB1, 0xB2)
DIFFUSION_TAGS = (
    MODALITY,
    B_VALUE,
    B_DIRECTION,
    *(group << 16 | block for group in _PRIVATE for block in BLOCKS),
    *(group << 16 | block << 8 | n for group, numbers in _PRIVATE.items() for block in BLOCKS for n in numbers),
)

WANTED = tuple(
    sorted(
        {CHARSET, MEDIA_CLASS, MEDIA_INSTANCE, *SPACING_TAGS, *DIFFUSION_TAGS}
        | {column.tag for column in COLUMNS if column.tag}
    )
)
"""The elements that the walk fetches."""

TYPES: Mapping[str, pa.DataType] = {field.name: field.type for field in index_schema()}
"""Arrow types of the columns, in the order of the index."""
_TIMES = frozenset({"acquisition_time", "content_time"})
_PADDINGS = frozenset({"padding", "padding_limit"})
_MAY_BE_NAN = frozenset({"slope", "intercept"})


class Numbers(NamedTuple):
    """The parsed distinct values of one element."""

    values: Floats
    """(d + 1, components), NaN where unreadable or not there; the last row is for files without the element."""
    there: Bools
    """(d + 1, components)."""


class Fields:
    """The wanted elements of a batch of n files, by tag."""

    def __init__(self, walked: Walked) -> None:
        self.count = len(walked.facts)
        self._walked = walked
        self._number = {tag: number for number, tag in enumerate(WANTED)}

    def codes(self, tag: int) -> npt.NDArray[np.int32]:
        """Return (n,) which distinct value each file has; -1 is none."""
        codes: npt.NDArray[np.int32] = self._walked.codes[self._number[tag]]
        return codes

    def tagged(self, tag: int) -> list[bytes]:
        """Return the distinct values, each behind its two bytes of VR."""
        return self._walked.values[self._number[tag]]

    def raws(self, tag: int) -> list[Raw]:
        """Return the distinct values."""
        return [_untag(value) for value in self.tagged(tag)]

    def getter(self, file: int) -> Getter:
        """Return what gives the elements of one file; None for those that were not wanted."""

        def get(tag: int) -> Raw | None:
            number = self._number.get(tag)
            code = -1 if number is None else self._walked.codes[number, file]
            return None if number is None or code < 0 else _untag(self._walked.values[number][code])

        return get


def _untag(tagged: bytes) -> Raw:
    return Raw(tagged[:2].decode("ascii").strip("\0"), tagged[2:])


def combinations(columns: Sequence[Codes], count: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return the distinct rows of code columns: ((n,) number of each row, the first row of each number)."""
    key = np.zeros(count, np.int64)
    for codes in columns:
        low, high = int(codes.min(initial=0)), int(codes.max(initial=0))
        if low < high:
            key = _renumber(key * (high + 1 - low) + (codes - low))
    first = np.empty(int(key.max(initial=-1)) + 1, np.int64)
    first[key[::-1]] = np.arange(count)[::-1]
    return key, first


def _renumber(key: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Replace keys by numbers from 0 without gaps, in their order."""
    most = int(key.max())
    if most > 64 * len(key):
        return np.unique(key, return_inverse=True)[1]
    used = np.zeros(most + 1, np.bool_)  # much faster than sorting
    used[key] = True
    renumbered: npt.NDArray[np.int64] = (np.cumsum(used) - 1)[key]
    return renumbered


def take_values(values: Sequence[Any], codes: Codes, kind: pa.DataType) -> pa.Array:
    """Return ``values[code]`` for every row as an Arrow array, null for code -1."""
    if not isinstance(kind, pa.DictionaryType):
        return pa.array(values, kind).take(_masked(codes))
    places: dict[Any, int] = {}  # different bytes may mean the same text
    indices = [-1 if value is None else places.setdefault(value, len(places)) for value in values]
    moved = np.array([*indices, -1], np.int32)[codes]
    return pa.DictionaryArray.from_arrays(_masked(moved), pa.array(list(places), kind.value_type), safe=False)


def _masked(codes: Codes) -> pa.Array:
    """Return codes as int32 indices, null for -1."""
    absent = codes < 0
    return pa.array(codes.astype(np.int32, copy=False), mask=absent if absent.any() else None)


def per_combination(
    fields: Fields, tags: Sequence[int], names: Sequence[str], convert: Callable[[Getter], Sequence[object]]
) -> dict[str, pa.Array]:
    """Return columns that follow from several elements; ``convert`` gives a value a name, once a combination."""
    present = [fields.codes(tag) for tag in tags if fields.tagged(tag)]
    inverse, first = combinations(present, fields.count)
    converted = [convert(fields.getter(file)) for file in first.tolist()]
    return {
        name: take_values([values[part] for values in converted], inverse, TYPES[name])
        for part, name in enumerate(names)
    }


def element_value(get: Getter, column: Column) -> object:
    """Return what one file's element means in its column; not for paddings and text beyond ASCII."""
    raw = get(column.tag)
    return rules.column_value(column, raw.vr, raw.value) if raw else None


def media_class(get: Getter) -> str | None:
    """Return the Media Storage SOP Class UID of the File Meta Information."""
    raw = get(MEDIA_CLASS)
    return rules.raw_text(raw.value) if raw else None


def element_columns(fields: Fields) -> dict[str, pa.Array]:
    """Return every column that follows from elements alone, (n,) each; the others are null."""
    columns: dict[str, pa.Array] = {}
    numbers: dict[int, Numbers] = {}
    components = {column.tag: column.part + 1 for column in COLUMNS}  # the last component of a tag comes last
    for column in COLUMNS:
        if not column.tag or not fields.tagged(column.tag):
            columns[column.name] = pa.nulls(fields.count, TYPES[column.name])
        elif column.kind in ("text", "string"):
            columns[column.name] = _text_column(fields, column)
        elif column.name in _PADDINGS:
            columns[column.name] = _padding_column(fields, column)
        else:
            if column.tag not in numbers:
                numbers[column.tag] = _parse_numbers(fields, column, components[column.tag])
            columns[column.name] = _number_column(fields.codes(column.tag), numbers[column.tag], column)
    columns |= _media_columns(fields, columns)
    columns |= per_combination(fields, SPACING_TAGS, ("spacing_y", "spacing_x", "spacing_kind"), _spacing)
    if any(raw.value.strip() == b"MR" for raw in fields.raws(MODALITY)):
        columns |= per_combination(fields, DIFFUSION_TAGS, ("b_value", "b_x", "b_y", "b_z"), _diffusion)
    return columns


def _text_column(fields: Fields, column: Column) -> pa.Array:
    raws = fields.raws(column.tag)
    if all(raw.value.isascii() and b"\x1b" not in raw.value for raw in raws):
        texts = [rules.column_value(column, raw.vr, raw.value) for raw in raws]
        return take_values(texts, fields.codes(column.tag), TYPES[column.name])

    def convert(get: Getter) -> tuple[object]:
        raw, charset = get(column.tag), get(CHARSET)
        charsets = charset.value.decode("latin-1").split("\\") if charset else ()
        return (rules.column_value(column, raw.vr, raw.value, charsets=charsets) if raw else None,)

    return per_combination(fields, (column.tag, CHARSET), (column.name,), convert)[column.name]


def _padding_column(fields: Fields, column: Column) -> pa.Array:
    """Pixel Representation decides the sign (US or SS, PS3.6)."""

    def convert(get: Getter) -> tuple[object]:
        raw, sign = get(column.tag), get(SIGN)
        signed = sign is not None and rules.column_value(COLUMN["pixel_representation"], sign.vr, sign.value) == 1
        return (rules.column_value(column, raw.vr, raw.value, signed=signed) if raw else None,)

    return per_combination(fields, (column.tag, SIGN), (column.name,), convert)[column.name]


def _media_columns(fields: Fields, columns: Mapping[str, pa.Array]) -> dict[str, pa.Array]:
    """Where the data set has no SOP Class or Instance, the File Meta Information has (a DICOMDIR)."""
    filled = {}
    for name, tag in (("sop_class_uid", MEDIA_CLASS), ("sop_instance_uid", MEDIA_INSTANCE)):
        if columns[name].null_count and fields.tagged(tag):
            media = take_values([rules.raw_text(raw.value) for raw in fields.raws(tag)], fields.codes(tag), pa.string())
            both = columns[name].cast(pa.string()).fill_null(media)
            filled[name] = both.dictionary_encode() if pa.types.is_dictionary(TYPES[name]) else both
    return filled


def _spacing(get: Getter) -> Sequence[object]:
    return rules.spacing_from(get, {"modality": element_value(get, COLUMN["modality"])})


def _diffusion(get: Getter) -> Sequence[object]:
    names = ("b_value", "b_x", "b_y", "b_z")
    row = {name: element_value(get, COLUMN[name]) for name in ("modality", *names)}
    row |= read_diffusion(get, row)
    return [row[name] for name in names]


def _parse_numbers(fields: Fields, column: Column, components: int) -> Numbers:
    """Read the distinct values: the plain ones in one go, the rest one by one."""
    tagged = fields.tagged(column.tag)
    values = np.full((len(tagged) + 1, components), math.nan)
    there = np.zeros(values.shape, np.bool_)
    if column.tag not in rules.COLUMN_VR:  # binary: an implicit 12594 would look like the text "21"
        values[:-1], plain = (parse_times if column.name in _TIMES else parse_decimals)(tagged, components)
        there[:-1] = plain[:, None]
    for row in np.flatnonzero(~there[:-1, 0]).tolist():
        read = _read_numbers(column, _untag(tagged[row]), components)
        values[row] = [math.nan if value is None else value for value in read]
        there[row] = [value is not None for value in read]
    return Numbers(values, there)


def _read_numbers(column: Column, raw: Raw, components: int) -> Sequence[float | None]:
    if column.name in _TIMES:
        return [rules.parse_time(raw.value.decode("latin-1"))]
    vr = raw.vr if raw.vr in rules.NUMBER_VRS else rules.COLUMN_VR.get(column.tag, "DS")
    return rules.parse_values(raw.value, vr, True, components)


def _number_column(codes: Codes, numbers: Numbers, column: Column) -> pa.Array:
    """Do for all rows what ``rules.column_value`` does with a parsed number."""
    values = numbers.values[:, column.part][codes]
    valid = numbers.there[:, column.part][codes]
    if column.name not in _MAY_BE_NAN:
        valid &= np.isfinite(values)
    if column.kind == "float":
        return pa.array(values, mask=None if valid.all() else ~valid)
    with np.errstate(invalid="ignore"):
        whole = values.astype(np.int32)
    valid &= whole == values
    valid &= whole > -(2**31)
    return pa.array(whole, mask=None if valid.all() else ~valid)
