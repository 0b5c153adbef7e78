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
    batch = _Batch()
    for found in read_elements(paths):
        if found is None:
            batch.n_unread += 1
        else:
            batch.add(
                [one for one in found if private or not one.tag >> 16 & 1],
                context_of(found, private=private, as_json=as_json),
            )
    return batch.finish()


@dataclass(slots=True)
class _Batch:
    """Columns while their files are read; a value that is not that of the file before becomes a leaf, once."""

    growing: dict[Path, _Growing] = field(default_factory=dict)
    n_files: int = 0
    n_frames: int = 0
    n_unread: int = 0
    context: Context | None = None
    before: dict[int, tuple[Element, list[Placed]]] = field(default_factory=dict)

    def add(self, found: Sequence[Element], context: Context) -> None:
        """Add the elements of the next file."""
        if context != self.context:
            self.context, self.before = context, {}
        frames = 0
        for element in found:
            leaves = self.leaves(element, context)
            for path, frame, leaf in leaves:
                if path in self.growing or len(path) == 1 or len(self.growing) < NESTED_MAX:
                    cell = self.n_files if frame < 0 else self.n_frames + frame
                    self.column(path, leaf).put(cell, leaf)
            if element.tag == PER_FRAME:
                frames = 1 + max((frame for _, frame, _ in leaves), default=-1)
        self.n_files += 1
        self.n_frames += frames

    def leaves(self, element: Element, context: Context) -> list[Placed]:
        """Return an element's leaves: those of the file before, where the bytes are the same."""
        known = self.before.get(element.tag)
        if known is None or known[0] != element or element.items is not None:
            known = self.before[element.tag] = element, list(leaves_of(element, context))
        return known[1]

    def column(self, path: Path, leaf: Leaf) -> _Growing:
        """Return the column of a path, a new one where there is none."""
        column = self.growing.get(path)
        if column is None:
            column = self.growing[path] = _Growing(leaf.vr)
        return column

    def finish(self) -> SeriesTags:
        """Return what was read."""
        lengths = {False: self.n_files, True: self.n_frames}
        columns = {path: self.growing[path].finish(lengths[FRAMES in path]) for path in sorted(self.growing)}
        return SeriesTags(self.n_files, self.n_frames, self.n_unread, columns)


@dataclass(slots=True)
class _Growing:
    """A column while its files are read one after the other."""

    vr: str
    hashes: list[int] = field(default_factory=list)
    examples: dict[int, Leaf] = field(default_factory=dict)
    ends: tuple[Leaf, Leaf] | None = None
    orders: tuple[Any, Any] = (None, None)
    ordered: bool = True

    def put(self, cell: int, leaf: Leaf) -> None:
        """Take the value of a file; the files between this and the last one lack it, of two values the first counts."""
        hashes = self.hashes
        if len(hashes) > cell:
            return
        known = bool(hashes) and hashes[-1] == leaf.key
        hashes.extend([0] * (cell - len(hashes)))
        hashes.append(leaf.key)
        if known:
            return
        if len(self.examples) < EXAMPLES:
            self.examples.setdefault(leaf.key, leaf)
        if self.ordered:
            self.order(leaf)

    def order(self, leaf: Leaf) -> None:
        """Take a value for the smallest or the largest."""
        order = leaf_order(leaf)
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
        """Return the column; one value takes the place of one."""
        self.hashes.extend([0] * (length - len(self.hashes)))
        hashes = _compact(np.array(self.hashes, np.uint64))
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
        for leaf in column.examples if column is not None else ():
            if len(grown.examples) < EXAMPLES:
                grown.examples.setdefault(leaf.key, leaf)
        if column is not None and not column.ordered:
            grown.ordered, grown.ends = False, None
        for leaf in (column.ends or ()) if column is not None and grown.ordered else ():
            grown.order(leaf)
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
                column.put(cell, leaf)

    for tag, made in constant.items():
        if private or not int(tag, 16) >> 16 & 1:
            put(tag, made, range(n_slices))
    for tag, made in per_slice.items():
        name = "InlineBinary" if "InlineBinary" in made else "Value"
        for slice_, value in enumerate(made.get(name) or ()):
            if value is not None and (private or not int(tag, 16) >> 16 & 1):
                put(tag, {"vr": made["vr"], name: value}, [int(cells[slice_])])
    return SeriesTags(n_slices, 0, 0, {path: growing[path].finish(n_slices) for path in sorted(growing)})
