"""Index rows to ``Frames``: one patient + study + series at a time, multi-frame instances and mosaics expanded.

The index is sorted once, by integers; a batch of whole series is turned from Arrow into numpy in one go when one of
them is asked for, and each series is a view of the batch. So many thousands of one-image series cost little each, and
memory follows the batch, not the index.
"""

from __future__ import annotations

import itertools
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from fastdcm.model import COLUMNS, FRAME_COLUMNS, Columns, Floats, Frames, Index, Ints, Texts
from fastdcm.scan.arrow import number_array
from fastdcm.scan.compact import plain

BATCH_FRAMES = 1 << 14
"""Frames that are turned into numpy at a time (whole series, so it may be more)."""
RECENT_BATCHES = 2
"""Batches that are kept: who goes through the series in order finds its neighbours there."""
MAX_TILES = 4096
"""Tiles of one mosaic frame; scanners write at most a few hundred, more is a broken header."""
INFLATE_LIMIT = 1032
"""Deflate cannot expand further than this, so a file bounds the frames it can hold."""

_NUMBERS = tuple(c.name for c in COLUMNS if c.kind in ("int", "long", "float"))
_TEXTS = tuple(c.name for c in COLUMNS if c.kind in ("text", "string", "bytes") and c.name not in ("path", "message"))
_FRAME_NUMBERS = tuple(c.name for c in FRAME_COLUMNS if c.name in _NUMBERS)
_FRAME_TEXTS = tuple(c.name for c in FRAME_COLUMNS if c.name in _TEXTS)


def iter_series(index: Index) -> Iterator[Frames]:
    """Yield the frames of each patient + study + series that has images to be decided: all of ``SeriesFrames``.

    Parameters
    ----------
    index : Index
        The instance index; its tables may have any number of chunks and dictionaries.

    Yields
    ------
    Frames
        In the order of (patient, study, series); rows in the order of (SOP Instance UID, instance row, frame, tile).
    """
    yield from SeriesFrames(index)


class SeriesFrames:
    """The series of an index in the order of (patient, study, series), each expanded when it is asked for.

    Rows of ``index.instances`` with an outcome are left out. Identifiers are compared raw; an absent one is the empty
    text, so images without a Series Instance UID are one series of their study. Held are one number an image and the
    batches that were asked for last, so series are best asked for in their order.
    """

    def __init__(self, index: Index) -> None:
        self._table = _filled_columns(index.instances).unify_dictionaries().combine_chunks()
        self._lookup = _FrameLookup.of(index)
        self._rows, self._starts = _series_rows(self._table)
        self._batches = _cut_batches(self._table, self._rows, self._starts)
        self._recent: dict[int, list[Frames]] = {}

    def __len__(self) -> int:
        """Return the number of series."""
        return len(self._starts) - 1

    def __iter__(self) -> Iterator[Frames]:
        """Yield every series, in order."""
        for number in range(len(self)):
            yield self[number]

    def __getitem__(self, number: int) -> Frames:
        """Return the frames of one series."""
        if not 0 <= number < len(self):
            raise IndexError(f"series {number} of {len(self)}")
        place = bisect_right(self._batches, number) - 1
        if place not in self._recent:
            while len(self._recent) >= RECENT_BATCHES:
                del self._recent[next(iter(self._recent))]
            self._recent[place] = list(self._expand(self._batches[place], self._batches[place + 1]))
        return self._recent[place][number - self._batches[place]]

    def batches(self) -> Iterator[range]:
        """Yield the numbers of the series that are expanded together, in order."""
        yield from (range(*pair) for pair in itertools.pairwise(self._batches))

    def series_of_rows(self) -> tuple[Ints, Ints]:
        """Return the rows of ``index.instances`` that are images, and the number of the series of each, both (n,)."""
        counts = np.diff(self._starts)
        return self._rows.astype(np.int64), np.repeat(np.arange(len(counts)), counts)

    def identity(self, number: int) -> tuple[str | None, str | None, str | None]:
        """Return patient, study and series UID of a series, as its headers have them."""
        row = int(self._rows[self._starts[number]])
        patient, study, series = (self._table[name][row].as_py() for name in ("patient_id", "study_uid", "series_uid"))
        return patient, study, series

    def _expand(self, first: int, last: int) -> Iterator[Frames]:
        """Yield the series from ``first`` up to ``last``, sorted within themselves."""
        rows = self._rows[self._starts[first] : self._starts[last]].astype(np.int64)
        series = np.repeat(np.arange(first, last), np.diff(self._starts[first : last + 1]))
        instance = _ranks(self._table["sop_instance_uid"].take(number_array(rows)))
        order = np.lexsort((rows, instance, series))
        rows = rows[order]
        yield from _batch(self._table.take(number_array(rows)), rows, series, self._lookup)


_ALWAYS = frozenset(
    {
        "outcome",
        "pixel_keyword",
        "patient_id",
        "study_uid",
        "series_uid",
        "sop_instance_uid",
        "n_frames",
        "mosaic_tiles",
    }
)


def _filled_columns(table: pa.Table) -> pa.Table:
    """Return the columns that hold anything: most are null in most exports, and need not be moved about."""
    names = [name for name in (*_NUMBERS, *_TEXTS) if name in _ALWAYS or table[name].null_count < len(table)]
    return table.select(names)


def _cut_batches(table: pa.Table, rows: npt.NDArray[np.integer[Any]], starts: Ints) -> list[int]:
    """Return the first series of each batch of about ``BATCH_FRAMES`` frames, and the number of series."""
    frames_before = np.append(0, np.cumsum(_weights(table)[rows]))[starts]
    batches, series = [0], len(starts) - 1
    while batches[-1] < series:
        first = batches[-1]
        within = int(np.searchsorted(frames_before, frames_before[first] + BATCH_FRAMES, side="right")) - 1
        batches.append(max(first + 1, min(within, series)))
    return batches


def _weights(table: pa.Table) -> Ints:
    """Return how many frames and tiles each instance row becomes, about."""
    counts = np.ones(len(table), dtype=np.int64)
    several = pc.or_(pc.greater(table["n_frames"], 1).fill_null(False), table["mosaic_tiles"].is_valid())
    rows = np.flatnonzero(several.to_numpy())
    if len(rows):
        part = table.take(number_array(rows))
        needed = ("n_frames", "size", "rows", "columns", "samples", "bits_allocated", "pixel_length", "pixel_offset")
        tiles = np.clip(np.nan_to_num(_numbers(part, "mosaic_tiles"), nan=1.0), 1, MAX_TILES)
        counts[rows] = (_frame_counts({name: _numbers(part, name) for name in needed}) * tiles).astype(np.int64)
    return counts


def _series_rows(table: pa.Table) -> tuple[npt.NDArray[np.int32], Ints]:
    """Return the image rows sorted by (series, row), and the place where each series begins and the last one ends.

    A file that ends before its pixel element may lack anything that an image has: it is in no series.
    """
    images = pc.and_(table["outcome"].is_null(), table["pixel_keyword"].is_valid())
    rows = np.flatnonzero(images.to_numpy()).astype(np.int32)
    keys = [_ranks(table[name]).astype(np.int32)[rows] for name in ("series_uid", "study_uid", "patient_id")]
    order = np.lexsort(keys)
    begins = np.zeros(len(order), dtype=bool)
    begins[:1] = True
    for key in keys:
        begins[1:] |= np.diff(key[order]) != 0
    return rows[order], np.append(np.flatnonzero(begins), len(order))


def _ranks(column: pa.ChunkedArray) -> Ints:
    """Return the rank of each text in byte order; null is the empty text."""
    array = _one_chunk(column)
    if pa.types.is_dictionary(array.type):
        texts = array.dictionary.cast(pa.large_binary()).fill_null(b"")
        ranks = pc.rank(texts, tiebreaker="dense").to_numpy() if len(texts) else np.zeros(0)
        empty = int(len(texts) > 0 and ranks.min() == 1 and texts[int(np.argmin(ranks))].as_py() == b"")
        codes = array.indices.fill_null(len(texts)).to_numpy(zero_copy_only=False)
        found: Ints = np.append(ranks.astype(np.int64), empty)[codes]
        return found
    texts = array.cast(pa.large_binary()).fill_null(b"")
    return np.asarray(pc.rank(texts, tiebreaker="dense").to_numpy(), dtype=np.int64)


def _one_chunk(column: pa.ChunkedArray | pa.Array) -> pa.Array:
    """Return a column as one array."""
    if isinstance(column, pa.Array):
        return column
    combined = column.combine_chunks()
    return combined if isinstance(combined, pa.Array) else pa.concat_arrays(combined.chunks)


def _numbers(table: pa.Table, name: str) -> Floats:
    """Return a number column as float64, NaN for null; a column without values is one NaN, repeated by a view."""
    if name not in table.column_names or table[name].null_count == len(table):
        return np.broadcast_to(np.float64(np.nan), (len(table),))
    column = _one_chunk(table[name])
    if pa.types.is_dictionary(column.type):
        values = np.append(column.dictionary.to_numpy().astype(np.float64), np.nan)
        found: Floats = values[column.indices.fill_null(len(values) - 1).to_numpy(zero_copy_only=False)]
        return found
    return np.asarray(column.to_numpy(zero_copy_only=False), dtype=np.float64)


def _texts(table: pa.Table, name: str) -> Texts:
    """Return a text column as objects, None for null; the values of a dictionary are shared."""
    if name not in table.column_names or table[name].null_count == len(table):
        nothing: Texts = np.broadcast_to(np.asarray(None, dtype=object), (len(table),))
        return nothing
    array = _one_chunk(table[name])
    if pa.types.is_dictionary(array.type):
        values = np.append(np.asarray(array.dictionary.to_pylist(), dtype=object), [None])
        decoded: Texts = values[array.indices.fill_null(len(values) - 1).to_numpy(zero_copy_only=False)]
        return decoded
    return np.asarray(array.to_numpy(zero_copy_only=False), dtype=object)


def _unreadable(table: pa.Table) -> npt.NDArray[np.bool_]:
    """Return where slope or intercept is there and unreadable (NaN, which is not null)."""
    bad = np.zeros(len(table), dtype=bool)
    for name in ("slope", "intercept"):
        if name in table.column_names and table[name].null_count < len(table):
            bad |= pc.fill_null(pc.is_nan(plain(table[name])), False).to_numpy()
    return bad


@dataclass(frozen=True, slots=True, eq=False)
class _FrameLookup:
    """Finds rows of the frames table by (instance, frame)."""

    table: pa.Table
    keys: Ints
    """Sorted: instance << 32 | frame."""

    @classmethod
    def of(cls, index: Index) -> _FrameLookup:
        """Return the lookup of an index."""
        table = index.frames.unify_dictionaries().combine_chunks()
        instance = np.asarray(table["instance"].to_numpy(), dtype=np.int64)
        return cls(table, instance << 32 | np.asarray(table["frame"].to_numpy(), dtype=np.int64))

    def find(self, instance: Ints, frame: Ints) -> Ints:
        """Return the row of each frame in the table, -1 where it has none."""
        if not len(self.keys):
            return np.full(len(instance), -1, dtype=np.int64)
        keys = instance << 32 | frame
        rows = np.minimum(np.searchsorted(self.keys, keys), len(self.keys) - 1)
        return np.where(self.keys[rows] == keys, rows, -1)


def _batch(table: pa.Table, rows: Ints, series: Ints, lookup: _FrameLookup) -> Iterator[Frames]:
    """Expand a batch of instance rows and yield it series by series."""
    numbers = {name: _numbers(table, name) for name in _NUMBERS}
    texts = {name: _texts(table, name) for name in _TEXTS}
    zeros = np.zeros(len(rows), dtype=np.int64)
    frames = Frames(rows, zeros, zeros - 1, numbers, texts, ~_unreadable(table))
    frames, series = _expand_frames(frames, series, lookup)
    frames, series = _expand_mosaics(frames, series)
    with np.errstate(invalid="ignore"):
        rescaled = frames.rescaled & (frames.numbers["slope"] != 0)
    bounds = [*np.flatnonzero(np.diff(series, prepend=-1)).tolist(), len(series)]
    for start, stop in itertools.pairwise(bounds):
        part = slice(start, stop)
        yield Frames(
            frames.instance[part],
            frames.frame[part],
            frames.tile[part],
            Columns(frames.numbers, part),
            Columns(frames.texts, part),
            rescaled[part],
        )


def _expand_frames(frames: Frames, series: Ints, lookup: _FrameLookup) -> tuple[Frames, Ints]:
    """One row a frame; frame columns come from the frames table, and from the instance where that says nothing."""
    counts = _frame_counts(frames.numbers)
    many = int(counts.sum()) > len(counts)
    if many:
        source = np.repeat(np.arange(len(counts)), counts)
        number = np.arange(len(source)) - np.repeat(np.cumsum(counts) - counts, counts)
        frames, series = _at(frames, source, number), series[source]
    found = lookup.find(frames.instance, frames.frame)
    here = np.flatnonzero(found >= 0)
    if not len(here):
        return frames, series
    table = lookup.table.take(pa.array(found[here]))
    numbers, texts = dict(frames.numbers), dict(frames.texts)
    for name in _FRAME_NUMBERS:
        numbers[name] = _overlaid(numbers[name], here, table[name], _numbers(table, name))
    for name in _FRAME_TEXTS:
        texts[name] = _overlaid(texts[name], here, table[name], _texts(table, name))
    rescaled = frames.rescaled.copy()
    rescaled[here] &= ~_unreadable(table)
    return Frames(frames.instance, frames.frame, frames.tile, numbers, texts, rescaled), series


def _overlaid(values: npt.NDArray[Any], here: Ints, column: pa.ChunkedArray, new: npt.NDArray[Any]) -> Any:
    """Return ``values`` with the non-null ``new`` ones at the places ``here``."""
    if column.null_count == len(column):
        return values
    there = np.asarray(column.is_valid().to_numpy())
    merged = np.array(values)
    merged[here[there]] = new[there]
    return merged


def _frame_counts(numbers: Mapping[str, Floats]) -> Ints:
    """Return the frames of each instance row, never more than its file can hold."""
    counts = np.nan_to_num(numbers["n_frames"], nan=1.0)
    if counts.max(initial=1) <= 1:
        return np.ones(len(counts), dtype=np.int64)
    size = np.nan_to_num(numbers["size"], nan=0.0)
    bits = np.fmax(numbers["rows"] * numbers["columns"] * numbers["samples"] * numbers["bits_allocated"], 1.0)
    encapsulated = numbers["pixel_length"] == -1
    inflated = np.where(numbers["pixel_offset"] == -1, size * INFLATE_LIMIT, size)
    most = np.where(encapsulated, inflated / 8, 8 * inflated / np.nan_to_num(bits, nan=1.0))
    return np.maximum(np.minimum(counts, np.floor(most)), 1).astype(np.int64)


def _at(frames: Frames, source: Ints, number: Ints) -> Frames:
    """Repeat instance rows, one a frame."""
    repeated = frames.take(source)
    return Frames(repeated.instance, number, repeated.tile, repeated.numbers, repeated.texts, repeated.rescaled)


def _expand_mosaics(frames: Frames, series: Ints) -> tuple[Frames, Ints]:
    """One row a tile of each Siemens mosaic frame, at its own position; unknown ones keep ``mosaic_tiles`` 0."""
    tiles = frames.numbers["mosaic_tiles"]
    if np.isnan(tiles).all():
        return frames, series
    tiles = _known_tiles(frames.numbers)
    counts = np.where(tiles > 0, tiles, 1).astype(np.int64)
    source = np.repeat(np.arange(len(counts)), counts)
    number = np.arange(len(source)) - np.repeat(np.cumsum(counts) - counts, counts)
    mosaic = tiles[source] > 0
    frames = frames.take(source)
    numbers = {**frames.numbers, "mosaic_tiles": tiles[source]}
    for name, values in _tile_geometry(frames, tiles[source], number).items():
        numbers[name] = np.where(mosaic, values, numbers[name])
    numbers["slice_time_ms"] = _tile_times(frames.texts["mosaic_times"].tolist(), number.tolist())
    tile = np.where(mosaic, number, -1)
    return Frames(frames.instance, frames.frame, tile, numbers, frames.texts, frames.rescaled), series[source]


def _known_tiles(numbers: Mapping[str, Floats]) -> Floats:
    """Return the tiles of each frame; 0 where they do not divide the frame into a square grid of whole tiles."""
    tiles = numbers["mosaic_tiles"]
    side = np.ceil(np.sqrt(np.fmax(tiles, 1)))
    whole = (np.mod(numbers["rows"], side) == 0) & (np.mod(numbers["columns"], side) == 0)
    return np.where(np.isnan(tiles) | (whole & (tiles <= MAX_TILES)), tiles, 0.0)


def _tile_times(texts: Sequence[str | None], tiles: Sequence[int]) -> Floats:
    """Return the time of each tile, ms; NaN where its mosaic has none."""
    parsed = {text: [float(part) for part in text.split("\\")] for text in set(texts) if text}
    times = [parsed[text][tile] if text else np.nan for text, tile in zip(texts, tiles, strict=True)]
    return np.array(times, dtype=np.float64)


def _tile_geometry(frames: Frames, tiles: Floats, number: Ints) -> dict[str, Floats]:
    """Return rows, columns and position of each tile.

    The position of a mosaic frame is that of a slice as large as the whole mosaic around the same centre, so the
    corner of a tile lies half the difference further in. The slices follow each other along the normal that the
    CSA header gives; without one, along row x column.
    """
    numbers = frames.numbers
    side = np.ceil(np.sqrt(np.fmax(tiles, 1)))
    rows, columns = numbers["rows"] / side, numbers["columns"] / side
    row, column = frames.vectors("row_x", "row_y", "row_z"), frames.vectors("column_x", "column_y", "column_z")
    normal = frames.vectors("normal_x", "normal_y", "normal_z")
    normal = np.where(np.isnan(normal).any(axis=1, keepdims=True), np.cross(row, column), normal)
    step = numbers["spacing_between"]
    step = np.where(np.nan_to_num(step) > 0, step, numbers["thickness"])
    right = numbers["spacing_x"] * (numbers["columns"] - columns) / 2
    down = numbers["spacing_y"] * (numbers["rows"] - rows) / 2
    position = frames.vectors("position_x", "position_y", "position_z")
    position = position + row * right[:, None] + column * down[:, None] + normal * (number * step)[:, None]
    return {
        "rows": rows,
        "columns": columns,
        "position_x": position[:, 0],
        "position_y": position[:, 1],
        "position_z": position[:, 2],
    }
