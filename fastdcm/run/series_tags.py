"""The tags of one series by column: of every element its value in each file (or frame), as hashes and a few examples.

Headers are read in batches on the engine; a column holds eight bytes a file, or one value where all files agree.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from fastdcm.model import Index, Ints, Options
from fastdcm.run.execute import Engine, map_tasks
from fastdcm.run.progress import Callback, Progress, silent
from fastdcm.scan.find import full_path
from fastdcm.scan.leaves import (
    FRAMES,
    PER_FRAME,
    Context,
    Element,
    Leaf,
    Path,
    context_of,
    is_context,
    json_leaves,
    leaf_order,
    leaves_of,
    read_elements,
)

Hashes = npt.NDArray[np.uint64]
Placed = tuple[Path, int, Leaf]
"""Path, frame (-1: none), leaf."""

BATCH_FILES = 128
EXAMPLES = 5
NESTED_MAX = 10_000
"""Elements inside of sequences that get a column; what is beyond still counts in the value of its sequence."""


@dataclass(frozen=True, slots=True, eq=False)
class TagColumn:
    """One element over the files of a series, or over their frames."""

    vr: str
    hashes: Hashes
    """(n,) hash of each file's value, 0 where the file lacks the element."""
    examples: tuple[Leaf, ...]
    """The first few distinct values, in the order of the files."""
    ends: tuple[Leaf, Leaf] | None
    """The smallest and the largest value; None where all are empty, or one of them cannot be ordered."""
    ordered: bool
    """False where one of the values cannot be ordered."""

    @property
    def n_distinct(self) -> int:
        """How many different values there are."""
        return len(self.distinct())

    @property
    def n_missing(self) -> int:
        """How many files lack the element."""
        return int(np.count_nonzero(self.hashes == 0))

    @property
    def constant(self) -> bool:
        """Whether all files have it, with one value."""
        return bool(np.all(self.hashes == self.hashes[0]) and self.hashes[0])

    def distinct(self) -> Hashes:
        """Return the different hashes, sorted."""
        found: Hashes = np.unique(self.hashes)
        return found[int(found[0] == 0) :] if len(found) else found


@dataclass(frozen=True, slots=True, eq=False)
class SeriesTags:
    """All elements of the files of one series."""

    n_files: int
    """Files that were read; the columns are over these, in the order of the slices."""
    n_frames: int
    """Items of the Per-Frame Functional Groups of all files; the columns below them are over these."""
    n_unread: int
    """Files whose header cannot be read."""
    columns: Mapping[Path, TagColumn]


# ---------------------------------------------------------------------------- which files, in which order


def slice_order(index: Index, rows: Sequence[int]) -> list[int]:
    """Return the files of one series in the order of the slices of its volumes; what is in none comes last.

    Parameters
    ----------
    index : Index
        The instance index.
    rows : sequence of int
        Rows of ``index.instances``: one patient + study + series.
    """
    from fastdcm.series.frames import iter_series
    from fastdcm.series.group import group

    ordered: list[int] = []
    for frames in iter_series(_part_of(index, np.array(rows, np.int64))):
        for volume in group(frames, Options()).volumes:
            cells = volume.cells.ravel()
            ordered += [rows[place] for place in frames.instance[cells[cells >= 0]].tolist()]
    names = ("instance_number", "sop_instance_uid")
    numbers, uids = (index.instances[name].take(list(rows)).to_pylist() for name in names)
    rest = sorted(zip(([n is None, n or 0] for n in numbers), (uid or "" for uid in uids), rows, strict=True))
    return list(dict.fromkeys([*ordered, *(row for _, _, row in rest)]))


def _part_of(index: Index, rows: Ints) -> Index:
    """Return the index of some of the files."""
    number = np.full(index.instances.num_rows, -1, np.int64)
    number[rows] = np.arange(len(rows))
    owners = number[index.frames["instance"].to_numpy()]
    frames = index.frames.take(np.flatnonzero(owners >= 0))
    place = frames.schema.get_field_index("instance")
    frames = frames.set_column(place, frames.schema.field(place), [owners[owners >= 0]])
    return replace(index, instances=index.instances.take(rows), frames=frames)


# ---------------------------------------------------------------------------- reading


def read_series_tags(
    engine: Engine,
    index: Index,
    rows: Sequence[int],
    *,
    private: bool = False,
    as_json: bool = False,
    progress: Callback | None = None,
) -> SeriesTags:
    """Read the headers of some files, in the given order.

    Parameters
    ----------
    engine : Engine
        Where to read.
    index : Index
        The instance index.
    rows : sequence of int
        Rows of ``index.instances``.
    private : bool
        Private elements (odd groups) too.
    as_json : bool
        Compare what a store keeps of a value, in place of its bytes.
    progress : callable, optional
        Called with ``Progress``.

    Returns
    -------
    SeriesTags
    """
    names = [index.instances[name].take(list(rows)).to_pylist() for name in ("source", "path")]
    paths = [os.fsencode(full_path(index.sources, *place)) for place in zip(*names, strict=True)]
    starts = range(0, len(paths), BATCH_FILES)
    tasks = [(start, paths[start : start + BATCH_FILES], private, as_json) for start in starts]
    parts: dict[int, SeriesTags] = {}
    for task, result in map_tasks(_read_batch, tasks, engine):
        if isinstance(result, Exception):
            raise result
        parts[task[0]] = result
        (progress or silent)(Progress("group", files=sum(part.n_files for part in parts.values())))
    return _joined([parts[start] for start in starts])


def _read_batch(task: tuple[int, list[bytes], bool, bool]) -> SeriesTags:
    """Read some files into columns."""
    _, paths, private, as_json = task
    batch = _Batch(private, as_json)
    for found in read_elements(paths):
        if found is None:
            batch.n_unread += 1
        else:
            batch.add(found)
    return batch.finish()


@dataclass(slots=True)
class _Batch:
    """Columns while their files are read: only what is not as in the file before is looked at."""

    private: bool
    as_json: bool
    growing: dict[Path, _Growing] = field(default_factory=dict)
    n_files: int = 0
    n_frames: int = 0
    n_unread: int = 0
    context: Context | None = None
    before: dict[int, Element] = field(default_factory=dict)
    leaves: dict[int, list[Placed]] = field(default_factory=dict)
    """Of each element of the file before."""

    def add(self, found: dict[int, Element]) -> None:
        """Add the elements of the next file."""
        before = self.before
        changed = [tag for tag, one in found.items() if (old := before.get(tag)) is not one and old != one]
        gone = before.keys() - found.keys()
        if self.context is None or any(map(is_context, (*changed, *gone))):
            context = context_of(found, private=self.private, as_json=self.as_json)
            if context != self.context:
                self.context, changed = context, list(found)
        for tag in gone:
            self.replace(tag, [])
        for tag in changed:
            if self.private or not tag >> 16 & 1:
                self.replace(tag, list(leaves_of(found[tag], self.context)))
        self.before = found
        self.n_files += 1
        self.add_frames()

    def replace(self, tag: int, leaves: list[Placed]) -> None:
        """Put the leaves of an element in place of those of the file before."""
        for path in {path for path, _, _ in self.leaves.get(tag, ())} - {path for path, _, _ in leaves}:
            if path in self.growing and FRAMES not in path:
                self.growing[path].end(self.n_files)
        for path, frame, leaf in leaves:
            if frame < 0 and (column := self.column(path, leaf)) is not None:
                column.put(self.n_files, leaf)
        self.leaves[tag] = leaves

    def add_frames(self) -> None:
        """Add what is in the Per-Frame Functional Groups of the file, changed or not: its frames follow the others."""
        frames = 0
        for path, frame, leaf in self.leaves.get(PER_FRAME, ()):
            if frame >= 0 and (column := self.column(path, leaf)) is not None:
                column.put_one(self.n_frames + frame, leaf)
            frames = max(frames, frame + 1)
        self.n_frames += frames

    def column(self, path: Path, leaf: Leaf) -> _Growing | None:
        """Return the column of a path, a new one where there is none; None where there are too many."""
        column = self.growing.get(path)
        if column is None and (len(path) == 1 or len(self.growing) < NESTED_MAX):
            column = self.growing[path] = _Growing(leaf.vr)
        return column

    def finish(self) -> SeriesTags:
        """Return what was read."""
        lengths = {False: self.n_files, True: self.n_frames}
        columns = {path: self.growing[path].finish(lengths[FRAMES in path]) for path in sorted(self.growing)}
        return SeriesTags(self.n_files, self.n_frames, self.n_unread, columns)


@dataclass(slots=True)
class _Growing:
    """A column while its files are read one after the other: runs of one value."""

    vr: str
    starts: list[int] = field(default_factory=lambda: [0])
    keys: list[int] = field(default_factory=lambda: [0])
    """Hash from each start on, 0: absent."""
    until: int | None = None
    """End of the last run of a column that ``put_one`` fills."""
    examples: dict[int, Leaf] = field(default_factory=dict)
    ends: tuple[Leaf, Leaf] | None = None
    orders: tuple[Any, Any] = (None, None)
    ordered: bool = True

    def put(self, cell: int, leaf: Leaf) -> None:
        """Take a value, that of this cell and of all that follow."""
        if self.keys[-1] != leaf.key:
            self.run(cell, leaf.key)
            self.note(leaf)

    def put_one(self, cell: int, leaf: Leaf) -> None:
        """Take the value of one cell alone, behind those before."""
        if self.until is not None and self.until < cell:
            self.end(self.until)
        self.put(cell, leaf)
        self.until = cell + 1

    def end(self, cell: int) -> None:
        """From this cell on there is no value."""
        if self.keys[-1]:
            self.run(cell, 0)

    def run(self, cell: int, key: int) -> None:
        """Start a run, in place of an empty one."""
        if self.starts[-1] == cell:
            self.keys[-1] = key
        else:
            self.starts.append(cell)
            self.keys.append(key)

    def note(self, leaf: Leaf) -> None:
        """Keep a value as an example, as the smallest or the largest."""
        if len(self.examples) < EXAMPLES:
            self.examples.setdefault(leaf.key, leaf)
        order = leaf_order(leaf) if self.ordered else ()
        if order is None:
            self.ordered, self.ends = False, None
        elif order and self.ends is None:
            self.ends, self.orders = (leaf, leaf), (order, order)
        elif order and self.ends is not None:
            if order < self.orders[0]:
                self.ends, self.orders = (leaf, self.ends[1]), (order, self.orders[1])
            elif order > self.orders[1]:
                self.ends, self.orders = (self.ends[0], leaf), (self.orders[0], order)

    def finish(self, length: int) -> TagColumn:
        """Return the column of so many cells."""
        if self.until is not None and self.until < length:
            self.end(self.until)
        keys, counts = np.array(self.keys, np.uint64), np.diff(self.starts, append=length)
        hashes = np.broadcast_to(keys, length) if len(keys) == 1 else np.repeat(keys, counts)
        return TagColumn(self.vr, hashes, tuple(self.examples.values()), self.ends, self.ordered)


def _compact(hashes: Hashes) -> Hashes:
    """Return an array of one repeated value without the memory of the others."""
    if len(hashes) > 1 and np.all(hashes == hashes[0]):
        return np.broadcast_to(hashes[:1].copy(), hashes.shape)
    return hashes


# ---------------------------------------------------------------------------- joining


def _joined(parts: Sequence[SeriesTags]) -> SeriesTags:
    """Put the columns of batches one after the other."""
    if len(parts) == 1:
        return parts[0]
    paths = sorted({path for part in parts for path in part.columns})
    columns = {path: _joined_column([part.columns.get(path) for part in parts], path, parts) for path in paths}
    return SeriesTags(
        sum(part.n_files for part in parts),
        sum(part.n_frames for part in parts),
        sum(part.n_unread for part in parts),
        columns,
    )


def _joined_column(columns: Sequence[TagColumn | None], path: Path, parts: Sequence[SeriesTags]) -> TagColumn:
    grown = _Growing(next(column.vr for column in columns if column is not None))
    for column in columns:
        if column is not None:
            for leaf in (*column.examples, *(column.ends or ())):
                grown.note(leaf)
            if not column.ordered:
                grown.ordered, grown.ends = False, None
    lengths = [part.n_frames if FRAMES in path else part.n_files for part in parts]
    hashes = [
        np.zeros(length, np.uint64) if column is None else column.hashes
        for column, length in zip(columns, lengths, strict=True)
    ]
    whole = _compact(np.concatenate(hashes))
    return TagColumn(grown.vr, whole, tuple(grown.examples.values()), grown.ends, grown.ordered)


def json_tags(
    constant: Mapping[str, Any], per_slice: Mapping[str, Any], present: Sequence[bool], *, private: bool = False
) -> SeriesTags:
    """Return the tags that a volume of a store keeps.

    Parameters
    ----------
    constant : mapping
        PS3.18 JSON of the tags that all slices share, by ``GGGGEEEE``.
    per_slice : mapping
        The others, ``{tag: {"vr": ..., "Value": [one a slice]}}``.
    present : sequence of bool
        Which slices there are.
    private : bool
        Private elements (odd groups) too.
    """
    growing: dict[Path, _Growing] = {}
    cells = np.cumsum(present) - 1
    n_slices = int(np.count_nonzero(present))

    def put(tag: str, made: Mapping[str, Any], where: Iterable[int]) -> None:
        for path, leaf in json_leaves(int(tag, 16), made):
            column = growing.setdefault(path, _Growing(leaf.vr))
            for cell in where:
                column.put_one(cell, leaf)

    for tag, made in constant.items():
        if private or not int(tag, 16) >> 16 & 1:
            put(tag, made, range(n_slices))
    for tag, made in per_slice.items():
        name = "InlineBinary" if "InlineBinary" in made else "Value"
        for slice_, value in enumerate(made.get(name) or ()):
            if value is not None and (private or not int(tag, 16) >> 16 & 1):
                put(tag, {"vr": made["vr"], name: value}, [int(cells[slice_])])
    return SeriesTags(n_slices, 0, 0, {path: growing[path].finish(n_slices) for path in sorted(growing)})
