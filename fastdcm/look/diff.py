"""The tags that differ between two series, files, or volumes of a store, side by side. Headers alone are read."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import takewhile
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from rich.cells import cell_len

from fastdcm.errors import UsageError
from fastdcm.look.address import Address, choose_volume, find_series, parse_address
from fastdcm.look.tag_text import cell, keyword_text, label_of, name_text, tag_text, values_text
from fastdcm.look.terminal import clean, count_text
from fastdcm.model import Json, Resources
from fastdcm.places import place_of
from fastdcm.run.progress import Callback
from fastdcm.run.series_tags import SeriesTags, TagColumn, json_tags, read_series_tags, slice_order
from fastdcm.scan.leaves import FRAMES, Path

if TYPE_CHECKING:
    from rich.text import Text

    from fastdcm.run.execute import Engine

TAG_WIDTH, LEAST_LABEL, MOST_LABEL = 9, 16, 40
SHOWN = 4096
"""Characters of a value in which the table looks for the first difference."""
KEPT = "the tags that the store keeps"


@dataclass(frozen=True, slots=True)
class DiffSide:
    """What one side of a comparison is."""

    path: str
    series: str
    """Series Instance UID, or the path of the volume in its store."""
    n_files: int
    """Files whose header was read; slices of a volume."""
    n_unread: int
    kept: bool
    """Whether it is a volume of a store: of that only the tags that it keeps are compared."""


@dataclass(frozen=True, slots=True)
class DiffRow:
    """One element that differs."""

    tag: str
    """``0008|103e``; of an element in a sequence the path to it, as in ``TagRow``."""
    keyword: str
    name: str
    vr: str
    a: str | None
    """The value on side A: ``STANDARD``, or ``65 values, -441 .. -121``; None where no file has the element."""
    b: str | None
    n_distinct: tuple[int, int]
    """Different values on each side."""
    n_missing: tuple[int, int]
    """Files (or frames) of each side that lack the element."""
    slices_differ: int | None
    """How many slices differ, where both sides have as many; None where they have not."""


@dataclass(frozen=True, slots=True)
class Diff:
    """The tags that differ between A and B."""

    a: DiffSide
    b: DiffSide
    rows: tuple[DiffRow, ...]
    """In the order of the tags."""
    n_compared: int
    """Top-level elements that were compared."""

    @property
    def same(self) -> bool:
        """Whether no tag differs."""
        return not self.rows

    def as_json(self) -> Json:
        """Return everything as plain values."""
        return {"same": self.same, **asdict(self)}


def diff(
    a: str | os.PathLike[str],
    b: str | os.PathLike[str],
    *,
    private: bool = False,
    workers: int | None = None,
    progress: Callback | None = None,
) -> Diff:
    """Find the tags that differ between two series or files.

    Of each tag the sets of values are compared, and between series of equal length the values slice by slice, in the
    order of the slices. Group lengths, which say only how a file is written, are left out.

    Parameters
    ----------
    a, b : str or Path
        A file; a folder with one series; ``FOLDER#WHICH`` with a Series Instance UID, the end of one, or an SQL
        expression over the columns of ``scan``; a volume of a store or ``STORE#WHICH``. Of a volume the tags that it
        keeps are compared, as the store keeps them: numbers by value.
    private : bool
        Private elements (odd groups) too.
    workers : int, optional
        Workers; the default is one a core.
    progress : callable, optional
        Called with ``Progress``.

    Returns
    -------
    Diff

    Raises
    ------
    UsageError
        There is no such file or folder, or none or several series fit.

    Examples
    --------
    >>> import fastdcm
    >>> thin = "export#spacing_z < 2 and kernel =="
    >>> found = fastdcm.diff(f"{thin} 'STANDARD'", f"{thin} 'LUNG'")
    >>> [(row.keyword, row.a, row.b) for row in found.rows if row.keyword == "ConvolutionKernel"]
    [('ConvolutionKernel', 'STANDARD', 'LUNG')]
    """
    from fastdcm.run.execute import start_engine

    addresses = parse_address(a), parse_address(b)
    kept = [_is_store(address) for address in addresses]
    with start_engine(Resources(workers=workers)) as engine:
        reading = _Reading(engine, private, any(kept), progress)
        first, second = (
            _volume(address, private) if stored else _series(reading, address)
            for address, stored in zip(addresses, kept, strict=True)
        )
    columns = _comparable(first, second)
    rows = tuple(_row(path, *columns) for path in _differing(*columns))
    return Diff(first.side, second.side, rows, len({path[0] for side in columns for path in side}))


class _Side(NamedTuple):
    side: DiffSide
    tags: SeriesTags


class _Reading(NamedTuple):
    """How the files of a side are read."""

    engine: Engine
    private: bool
    as_json: bool
    progress: Callback | None


def _is_store(address: Address) -> bool:
    return (place_of(address.path) / "zarr.json").is_file()


def _series(reading: _Reading, address: Address) -> _Side:
    engine, private, as_json, progress = reading
    found = find_series(engine, [address.path], address.which, progress)
    rows = slice_order(found.index, found.rows)
    read = read_series_tags(engine, found.index, rows, private=private, as_json=as_json, progress=progress)
    if not read.n_files:
        raise UsageError(f"{address.path}: no header of the series can be read")
    return _Side(DiffSide(address.path, found.uid, read.n_files, read.n_unread, kept=False), read)


def _volume(address: Address, private: bool) -> _Side:
    from fastdcm.load.kept_tags import kept_tags
    from fastdcm.load.volume import Store
    from fastdcm.load.volume import open as open_path

    opened = open_path(address.path)
    if isinstance(opened, Store):
        volume = opened[choose_volume(opened.table, address.which)]
    elif address.which is None:
        volume = opened
    else:
        raise UsageError(f"{address.path} is a volume already: nothing can follow the #")
    kept = kept_tags(volume)
    tags = json_tags(kept.constant, kept.per_slice, kept.present, private=private)
    place = volume.home[1]
    return _Side(DiffSide(address.path, place, tags.n_files, 0, kept=True), tags)


# ---------------------------------------------------------------------------- comparing

Columns = Mapping[Path, TagColumn]


def _comparable(a: _Side, b: _Side) -> tuple[Columns, Columns]:
    """Return the columns of both sides that can be compared."""
    sides = [{path: column for path, column in side.tags.columns.items() if path[-1] & 0xFFFF} for side in (a, b)]
    if a.side.kept == b.side.kept:
        return sides[0], sides[1]
    stored = sides[0] if a.side.kept else sides[1]
    read = sides[1] if a.side.kept else sides[0]
    paths = {path for path in stored if path in read or not _was_made(path, read)}
    return {p: c for p, c in sides[0].items() if p in paths}, {p: c for p, c in sides[1].items() if p in paths}


def _was_made(path: Path, read: Columns) -> bool:
    """Whether a store keeps, in place of a date and time of the files, the time under this tag."""
    from fastdcm.scan.allow import DATE_TIMES

    return any((*path[:-1], source) in read for source, made in DATE_TIMES.items() if made == path[-1])


def _differing(a: Columns, b: Columns) -> Iterator[Path]:
    """Yield the paths that differ: what is nested where both sides have its item, else the sequence itself."""
    items = {path[:-1] for path in a} & {path[:-1] for path in b}
    paths = [path for path in sorted({*a, *b}) if path[:-1] in items and not _equal(a.get(path), b.get(path))]
    explained = {path[:end] for path in paths for end in range(1, len(path), 2)}
    for path in paths:
        if path not in explained or values_text(a.get(path)) != values_text(b.get(path)):
            yield path


def _equal(a: TagColumn | None, b: TagColumn | None) -> bool:
    """Whether two columns have the same values: slice by slice where they have as many, else as a set."""
    if a is None or b is None:
        return a is b
    if len(a.hashes) == len(b.hashes):
        return bool(np.array_equal(a.hashes, b.hashes))
    return bool(np.array_equal(a.distinct(), b.distinct())) and (a.n_missing > 0) == (b.n_missing > 0)


def _row(path: Path, a: Columns, b: Columns) -> DiffRow:
    one, other = a.get(path), b.get(path)
    known = one or other
    counts = [(side.n_distinct, side.n_missing) if side is not None else (0, 0) for side in (one, other)]
    differ = None
    if one is not None and other is not None and len(one.hashes) == len(other.hashes):
        differ = int(np.count_nonzero(one.hashes != other.hashes))
    noun = "frame" if FRAMES in path else "file"
    return DiffRow(
        tag=tag_text(path),
        keyword=keyword_text(path),
        name=name_text(path, a if one is not None else b),
        vr=known.vr if known is not None else "",
        a=values_text(one, noun) if one is not None else None,
        b=values_text(other, noun) if other is not None else None,
        n_distinct=(counts[0][0], counts[1][0]),
        n_missing=(counts[0][1], counts[1][1]),
        slices_differ=differ,
    )


# ---------------------------------------------------------------------------- printing


def diff_lines(diff: Diff, width: int) -> Iterator[Text]:
    """Yield the printed lines: what A and B are, and a table of what differs.

    Parameters
    ----------
    diff : Diff
        To print.
    width : int
        Columns of the terminal.
    """
    from rich.text import Text

    lines = [Text(f"{name} {_side_text(side)}", "bold") for name, side in (("A", diff.a), ("B", diff.b))]
    lines.append(Text(_total(diff), "green" if diff.same else "bold cyan"))
    lines += map(Text, _table(diff, width))
    for line in lines:
        line.truncate(width, overflow="ellipsis")
        yield line


def _side_text(side: DiffSide) -> str:
    count = count_text(side.n_files, "slice" if side.kept else "file")
    unread = f", {count_text(side.n_unread, 'header')} cannot be read" if side.n_unread else ""
    return f"{count}{unread}  {clean(side.series)}  {clean(side.path)}"


def _total(diff: Diff) -> str:
    what = f"{KEPT}: " if diff.a.kept or diff.b.kept else ""
    compared = f"{count_text(diff.n_compared, 'tag')} compared"
    return f"{what}{compared}, {'all equal' if diff.same else f'{len(diff.rows)} differ'}"


def _table(diff: Diff, width: int) -> Iterator[str]:
    if diff.same:
        return
    slices = {row.tag: _slices(row, diff) for row in diff.rows}
    last = max(map(len, [*slices.values(), ""]))
    last = max(last, len("slices")) if last else 0
    labels = max(cell_len(label_of(row.keyword, row.name)) for row in diff.rows)
    label = min(max(width // 4 - 2, LEAST_LABEL), MOST_LABEL, labels)
    room = width - TAG_WIDTH - label - (last + 1 if last else 0) - 4
    sides = [cell_len(_shown(text)) for row in diff.rows for text in (row.a, row.b)]
    value = max(min(room // 2, max(sides)), 1)
    titles = ("tag", "name", "A", "B")
    widths = (TAG_WIDTH, label, value, value)
    heads = " ".join(cell(title, n) for title, n in zip(titles, widths, strict=True))
    yield f" {heads} {'slices'.rjust(last) if last else ''}".rstrip()
    for row in diff.rows:
        nested = "[" in row.tag
        tag = cell("" if nested else row.tag, TAG_WIDTH)
        name = cell(label_of(row.keyword, row.name), label, end=nested)
        a, b = _shown(row.a), _shown(row.b)
        a, b = _side_by_side(a, b, value) if max(row.n_distinct) < 2 else (cell(a, value), cell(b, value))
        yield f" {tag} {name} {a} {b} {slices[row.tag].rjust(last)}".rstrip()


def _shown(text: str | None) -> str:
    return "-" if text is None else clean(text[:SHOWN])


def _slices(row: DiffRow, diff: Diff) -> str:
    """Return how many slices differ, where that is not all that the values say already."""
    if row.slices_differ is None or max(row.n_distinct) < 2:
        return ""
    return f"{row.slices_differ}/{diff.a.n_files}" if "[*]" not in row.tag else f"{row.slices_differ}"


def _side_by_side(a: str, b: str, width: int) -> tuple[str, str]:
    """Cut two texts to a width; where they begin alike, from where they differ."""
    if max(cell_len(a), cell_len(b)) <= width:
        return cell(a, width), cell(b, width)
    alike = len(list(takewhile(lambda pair: pair[0] == pair[1], zip(a, b, strict=False))))
    if alike < width // 2:
        return cell(a, width), cell(b, width)
    start = max(alike - width // 4, 0)
    return cell(f"…{a[start:]}", width), cell(f"…{b[start:]}", width)
