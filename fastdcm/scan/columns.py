"""Raw values of a batch to index columns: every distinct value is converted once, the rows of all columns by numpy.

``rules`` says what a value means. Texts, decimal texts and times that are plain (nearly all) are read by a compiled
parser where there is one: it takes a subset of what the rules take, and gives the same; no value becomes an object.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fastdcm.model import COLUMN, COLUMNS, Column, Floats
from fastdcm.scan import component, diffusion, rules
from fastdcm.scan.arrow import number_array
from fastdcm.scan.csa import names_b_value
from fastdcm.scan.diffusion import ELEMENTS, read_diffusion
from fastdcm.scan.index import index_schema
from fastdcm.scan.private import BLOCKS
from fastdcm.scan.rules import Getter, Raw
from fastdcm.scan.walk import Values, Walked, parse_decimals, parse_times, plain_texts

Codes = npt.NDArray[np.integer[Any]]
Bools = npt.NDArray[np.bool_]

CHARSET, SIGN, MODALITY = 0x00080005, 0x00280103, 0x00080060
B_VALUE, B_DIRECTION = 0x00189087, 0x00189089
MEDIA_CLASS, MEDIA_INSTANCE = 0x00020002, 0x00020003
SPACING_TAGS = (0x00280030, 0x00181164, 0x00182010, 0x00280A02, 0x30020011, MODALITY)

DIFFUSION_TAGS = (MODALITY, B_VALUE, B_DIRECTION, *ELEMENTS)
CSA_TAGS = tuple(0x00290010 | block << 8 for block in BLOCKS)
_LATER = frozenset({*CSA_TAGS, diffusion.SEQUENCE_NAME})
"""What may tell a b-value where nothing else does."""

WANTED = tuple(
    sorted(
        {
            CHARSET,
            MEDIA_CLASS,
            MEDIA_INSTANCE,
            *SPACING_TAGS,
            *DIFFUSION_TAGS,
            *CSA_TAGS,
            *component.ELEMENTS,
            diffusion.SEQUENCE_NAME,
        }
        | {0x00290000 | block for block in BLOCKS}
        | {column.tag for column in COLUMNS if column.tag}
    )
)
"""The elements that the walk fetches."""

SCHEMA = index_schema()
TYPES: Mapping[str, pa.DataType] = {field.name: field.type for field in SCHEMA}
"""Arrow types of the columns, in the order of the index."""
_TIMES = frozenset({"acquisition_time", "content_time"})
_PADDINGS = frozenset({"padding", "padding_limit"})
_MAY_BE_NAN = frozenset({"slope", "intercept"})
_COMPONENTS = {column.tag: column.part + 1 for column in COLUMNS}  # the last component of a tag comes last


class Numbers(NamedTuple):
    """The parsed distinct values of one element."""

    values: Floats
    """(d, components), NaN where unreadable or not there."""
    there: Bools
    """(d, components)."""


class Table(NamedTuple):
    """What the d distinct values of an element mean in a column of n rows."""

    codes: Codes
    """(n,) the value of each row; -1 is none."""
    values: npt.NDArray[np.int32] | Floats
    """(d,) numbers, or places in ``dictionary``."""
    valid: Bools
    """(d,) False is null."""
    dictionary: pa.Array | None = None


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

    def tagged(self, tag: int) -> Values:
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
    if columns and count:
        codes = np.stack(columns)
        low, high = codes.min(axis=1), codes.max(axis=1)
        for row in np.flatnonzero(low < high).tolist():  # most columns of a batch hold one value
            key = _renumber(key * (int(high[row]) + 1 - int(low[row])) + (codes[row] - low[row]))
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
    places, dictionary = _encode(values, kind.value_type)
    moved = np.append(places, np.int32(-1))[codes]
    return pa.DictionaryArray.from_arrays(_masked(moved), dictionary, safe=False)


def _encode(values: Sequence[Any], kind: pa.DataType) -> tuple[npt.NDArray[np.int32], pa.Array]:
    """Return ((d,) place of each value in a dictionary, -1 for None; the dictionary)."""
    places: dict[Any, int] = {}  # different bytes may mean the same text
    indices = [-1 if value is None else places.setdefault(value, len(places)) for value in values]
    return np.array(indices, np.int32), pa.array(list(places), kind)


def _masked(codes: Codes) -> pa.Array:
    """Return codes as int32 indices, null for -1."""
    return number_array(codes.astype(np.int32, copy=False), codes < 0)


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
    tables: dict[str, Table] = {}
    numbers: dict[int, Numbers] = {}
    nulls = {kind: pa.nulls(fields.count, kind) for kind in set(TYPES.values())}
    for column in COLUMNS:
        if not column.tag or not fields.tagged(column.tag):
            columns[column.name] = nulls[TYPES[column.name]]
        elif column.kind in ("text", "string"):
            text = _text_column(fields, column)
            (tables if isinstance(text, Table) else columns)[column.name] = text
        elif column.name in _PADDINGS:
            columns[column.name] = _padding_column(fields, column)
        else:
            if column.tag not in numbers:
                numbers[column.tag] = _parse_numbers(fields, column, _COMPONENTS[column.tag])
            tables[column.name] = _number_table(fields.codes(column.tag), numbers[column.tag], column)
    columns |= _fill_rows(tables)
    columns |= _media_columns(fields, columns)
    columns |= per_combination(fields, SPACING_TAGS, ("spacing_y", "spacing_x", "spacing_kind"), _spacing)
    if any(raw.value.strip() == b"MR" for raw in fields.raws(MODALITY)):
        columns |= per_combination(fields, DIFFUSION_TAGS, diffusion.COLUMNS, _diffusion)
        columns |= _component_column(fields, columns)
    return columns


def _fill_rows(tables: Mapping[str, Table]) -> dict[str, pa.Array]:
    """Return ``values[code]`` of every row for many columns, null for code -1 and where not valid; a type at a time."""
    columns: dict[str, pa.Array] = {}
    for kind in (np.int32, np.float64):
        alike = {name: table for name, table in tables.items() if table.values.dtype == kind}
        if not alike:
            continue
        none = np.zeros(1, kind)  # of every column the first place is that of rows without the element
        flat = np.concatenate([part for table in alike.values() for part in (none, table.values)])
        flat_valid = np.concatenate([part for table in alike.values() for part in (none != 0, table.valid)])
        sizes = np.array([1 + len(table.values) for table in alike.values()])
        places = np.stack([table.codes for table in alike.values()]) + (np.cumsum(sizes) - sizes + 1)[:, None]
        values, valid = flat[places], flat_valid[places]
        bits, whole = np.packbits(valid, axis=1, bitorder="little"), valid.all(axis=1).tolist()
        for row, (name, table) in enumerate(alike.items()):
            buffers = [None if whole[row] else pa.py_buffer(bits[row]), pa.py_buffer(values[row])]
            columns[name] = _from_buffers(TYPES[name], len(table.codes), buffers, table.dictionary)
    return columns


def _from_buffers(kind: pa.DataType, count: int, buffers: list[Any], dictionary: pa.Array | None) -> pa.Array:
    if dictionary is None:
        return pa.Array.from_buffers(kind, count, buffers)
    return pa.DictionaryArray.from_buffers(kind, count, buffers, dictionary)


def _text_column(fields: Fields, column: Column) -> Table | pa.Array:
    codes, values = fields.codes(column.tag), fields.tagged(column.tag)
    plain = plain_texts(values)
    if plain:
        texts = pa.Array.from_buffers(pa.string(), len(values), [None, *map(pa.py_buffer, plain)])
        return _text_table(codes, texts) if column.kind == "text" else _take_texts(texts, codes)
    raws = fields.raws(column.tag)
    if all(raw.value.isascii() and b"\x1b" not in raw.value for raw in raws):
        meant = [rules.column_value(column, raw.vr, raw.value) for raw in raws]
        return take_values(meant, codes, TYPES[column.name])

    def convert(get: Getter) -> tuple[object]:
        raw, charset = get(column.tag), get(CHARSET)
        charsets = charset.value.decode("latin-1").split("\\") if charset else ()
        return (rules.column_value(column, raw.vr, raw.value, charsets=charsets) if raw else None,)

    return per_combination(fields, (column.tag, CHARSET), (column.name,), convert)[column.name]


def _text_table(codes: Codes, texts: pa.Array) -> Table:
    """Encode texts that may be the same: their bytes differ, perhaps in padding alone."""
    if len(texts) == 1:
        return Table(codes, np.zeros(1, np.int32), np.ones(1, np.bool_), texts)
    encoded = texts.dictionary_encode()
    return Table(codes, encoded.indices.to_numpy(), np.ones(len(texts), np.bool_), encoded.dictionary)


def _take_texts(texts: pa.Array, codes: Codes) -> pa.Array:
    each_its_own = len(texts) == len(codes) and bool((codes == np.arange(len(codes))).all())
    return texts if each_its_own else texts.take(_masked(codes))


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
    row = {name: element_value(get, COLUMN[name]) for name in ("modality", "b_value", "b_x", "b_y", "b_z")}
    row |= {"b_frame": None} | dict(read_diffusion(lambda tag: None if tag in _LATER else get(tag), row))
    return [row[name] for name in diffusion.COLUMNS]


def _component_column(fields: Fields, columns: Mapping[str, pa.Array]) -> dict[str, pa.Array]:
    """Where the data set has no Complex Image Component, GE's element may tell."""
    if not any(fields.tagged(tag) for tag in component.RAW_DATA_TYPES):
        return {}
    name = "complex_component"
    found = per_combination(fields, component.ELEMENTS, (name,), lambda get: (component.read_component(get),))[name]
    both = columns[name].cast(pa.string()).fill_null(found.cast(pa.string()))
    return {name: both.dictionary_encode() if pa.types.is_dictionary(TYPES[name]) else both}


def csa_alone(fields: Fields, columns: Mapping[str, pa.Array]) -> Bools:
    """Return (n,) which MR images have their b-value in Siemens' CSA header alone: pydicom reads them."""
    found = np.zeros(fields.count, np.bool_)
    if not any(raw.value.strip() == b"MR" for raw in fields.raws(MODALITY)):
        return found
    for tag in CSA_TAGS:
        named = [names_b_value(value[2:]) for value in fields.tagged(tag)]
        if any(named):
            found |= np.array([*named, False])[fields.codes(tag)]
    alone: Bools = found & np.asarray(columns["b_value"].is_null())
    return alone


def named_b_values(fields: Fields, columns: Mapping[str, pa.Array]) -> dict[str, pa.Array]:
    """Return the b-values, from Siemens' Sequence Name too; ``csa_alone`` comes before, its header has directions."""
    tags = (MODALITY, diffusion.SEQUENCE_NAME)
    if not fields.tagged(diffusion.SEQUENCE_NAME):
        return {}

    def convert(get: Getter) -> tuple[object]:
        is_mr = element_value(get, COLUMN["modality"]) == "MR"
        return (diffusion.read_name(get) if is_mr else None,)

    found = per_combination(fields, tags, ("b_value",), convert)["b_value"]
    return {"b_value": columns["b_value"].fill_null(found)}


def _parse_numbers(fields: Fields, column: Column, components: int) -> Numbers:
    """Read the distinct values: the plain ones in one go, the rest one by one."""
    tagged = fields.tagged(column.tag)
    if column.tag in rules.COLUMN_VR:  # binary: an implicit 12594 would look like the text "21"
        values, there = np.empty((len(tagged), components)), np.zeros((len(tagged), components), np.bool_)
    else:
        values, plain = (parse_times if column.name in _TIMES else parse_decimals)(tagged, components)
        there = np.repeat(plain[:, None], components, axis=1)
    for row in np.flatnonzero(~there[:, 0]).tolist():
        read = _read_numbers(column, _untag(tagged[row]), components)
        values[row] = [math.nan if value is None else value for value in read]
        there[row] = [value is not None for value in read]
    return Numbers(values, there)


def _read_numbers(column: Column, raw: Raw, components: int) -> Sequence[float | None]:
    if column.name in _TIMES:
        return [rules.parse_time(raw.value.decode("latin-1"))]
    vr = raw.vr if raw.vr in rules.NUMBER_VRS else rules.COLUMN_VR.get(column.tag, "DS")
    return rules.parse_values(raw.value, vr, True, components)


def _number_table(codes: Codes, numbers: Numbers, column: Column) -> Table:
    """Do for all distinct values what ``rules.column_value`` does with a parsed number."""
    values, valid = numbers.values[:, column.part], numbers.there[:, column.part]
    if column.name not in _MAY_BE_NAN:
        valid = valid & np.isfinite(values)
    if column.kind == "float":
        return Table(codes, values, valid)
    with np.errstate(invalid="ignore"):
        whole = values.astype(np.int32)
    return Table(codes, whole, valid & (whole == values) & (whole > -(2**31)))
