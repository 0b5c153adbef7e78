"""The patient > study > series > volume tree as a table that fits the terminal; ``scan`` and ``ls`` print it.

A row is a volume, a row of the catalogue (``model.CATALOG_COLUMNS``). What does not fit is shortened with an ellipsis,
and the columns that matter least go first; the reasons then stand under their row. ``--out`` and ``--json`` keep all.
"""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any, NamedTuple

from rich.cells import cell_len, set_cell_size
from rich.text import Text

from fastdcm.errors import UsageError
from fastdcm.look.terminal import clean, count_text, mm_text, size_text
from fastdcm.model import CATALOG_COLUMNS, Index

if TYPE_CHECKING:
    import pyarrow as pa

Row = Mapping[str, Any]
GAP = 1
HEADINGS = {"patient": "bold", "study": "cyan", "series": "dim"}
PLURALS = {"study": "studies", "series": "series"}
LEAST_UID = 12
NOISE_MM = 5e-3
"""Smaller gaps come from thicknesses that were rounded."""


class Column(NamedTuple):
    """One column of the printed table."""

    title: str
    text: Callable[[Row], str]
    least: int
    """Narrowest width that still tells something."""
    usual: int
    """Wider only where there is room left."""
    most: int
    rank: int
    """The largest goes first where the terminal is narrow; 0 always stays, 1 wherever it fits at its least width."""
    right: bool = False


def _plain(name: str) -> Callable[[Row], str]:
    return lambda row: "" if row[name] is None else clean(row[name])


def _count(row: Row) -> str:
    parts = [n for n in (row["timepoints"], row["channels"]) if n and n > 1]
    return "x".join(map(str, [*parts, row["slices"] or 0]))


def _matrix(row: Row) -> str:
    return f"{row['columns']}x{row['rows']}"


def _spacing(row: Row) -> str:
    values = [row[f"spacing_{axis}"] for axis in "xyz"]
    return "" if all(value is None for value in values) else "x".join(map(mm_text, values))


def _length(name: str) -> Callable[[Row], str]:
    return lambda row: "" if row[name] is None else mm_text(row[name])


def _gap(row: Row) -> str:
    """Return what is between slices with its sign: + is not imaged, - overlaps."""
    gap = row["gap"]
    if gap is None or abs(gap) < NOISE_MM:
        return "" if gap is None else "0"
    return f"{'+' if gap > 0 else '-'}{mm_text(abs(gap))}"


def clock_text(time: str | None) -> str:
    """Return a DICOM time (TM, PS3.5 6.2) to the second.

    >>> clock_text("162606.123000")
    '16:26:06'
    """
    digits = (time or "").partition(".")[0]
    if not (digits.isascii() and digits.isdigit() and len(digits) in (2, 4, 6)):
        return clean(time or "")
    return ":".join(digits[place : place + 2] for place in range(0, len(digits), 2))


def _clock(name: str) -> Callable[[Row], str]:
    return lambda row: clock_text(row[name])


def _reasons(row: Row) -> str:
    return clean(row["reasons"] or "").replace(";", ", ")


COLUMNS: Mapping[str, Column] = {
    "modality": Column("mod", _plain("modality"), 3, 3, 4, 0),
    "kind": Column("kind", _plain("kind"), 9, 12, 12, 0),
    "description": Column("description", _plain("description"), 7, 20, 40, 0),
    "slices": Column("slices", _count, 6, 8, 11, 0, right=True),
    "matrix": Column("matrix", _matrix, 7, 11, 11, 0, right=True),
    "spacing": Column("spacing mm", _spacing, 17, 22, 22, 0),
    "thickness": Column("thick", _length("thickness"), 5, 6, 6, 2, right=True),
    "gap": Column("gap", _gap, 4, 6, 6, 1, right=True),
    "kernel": Column("kernel", _plain("kernel"), 6, 10, 14, 0),
    "creation_time": Column("created", _clock("creation_time"), 8, 8, 15, 5),
    "content_time": Column("content", _clock("content_time"), 8, 8, 15, 6),
    "dtype": Column("type", _plain("dtype"), 5, 8, 8, 3),
    "bytes": Column("size", lambda row: size_text(row["bytes"] or 0), 5, 8, 8, 7, right=True),
    "reasons": Column("flags", _reasons, 16, 24, 48, 4),
}
CLOCKS = ("creation_time", "content_time")
SHOWN_BY = {"rows": "matrix", "columns": "matrix", "timepoints": "slices", "channels": "slices"} | {
    f"spacing_{axis}": "spacing" for axis in "xyz"
}


def series_lines(table: pa.Table, width: int, *, sort: str | None = None, group: str | None = None) -> Iterator[Text]:
    """Yield the printed lines of a catalogue.

    Parameters
    ----------
    table : pyarrow.Table
        Columns ``model.CATALOG_COLUMNS``.
    width : int
        Columns of the terminal.
    sort : str, optional
        Print one flat table in the order of this catalogue column, nulls last.
    group : str, optional
        Print one block a distinct value of this catalogue column.

    Raises
    ------
    UsageError
        ``sort`` or ``group`` is no column of the catalogue.
    """
    _check_columns(sort, group)
    rows: list[Row] = (sorted_table(table, sort) if sort else table).to_pylist()
    names = _columns_for(sort, group)
    flat = bool(sort or group)
    label = _short_name if flat else lambda row: str(row["index"])
    depth = 2 if flat else 3
    layout = _fit(rows, names, width - depth - _widest(label, rows) - GAP)
    if not rows:
        return
    indent = " " * depth
    title = "series" if flat else "n"
    lines = [Text(indent + _cells([(title, _widest(label, rows), False)], layout, None), "bold")]
    for item in _grouped(rows, group) if flat else _tree(rows, width):
        lines += (
            [item] if isinstance(item, Text) else _row_lines(item, label(item), _widest(label, rows), layout, indent)
        )
    for line in lines:
        line.truncate(width, overflow="ellipsis")
        yield line


def sorted_table(table: pa.Table, sort: str) -> pa.Table:
    """Return a catalogue in the order of one of its columns, nulls last.

    Raises
    ------
    UsageError
        It is no column of the catalogue.
    """
    _check_columns(sort)
    values = table[sort].to_pylist()
    return table.take(sorted(range(table.num_rows), key=lambda row: _sort_key(values[row]))) if values else table


def total_lines(
    table: pa.Table, width: int, outcomes: Mapping[str, int] | None = None, objects: Mapping[str, int] | None = None
) -> Iterator[Text]:
    """Yield what is under the table: how many of everything, and what is no image.

    Parameters
    ----------
    table : pyarrow.Table
        Columns ``model.CATALOG_COLUMNS``.
    width : int
        Columns of the terminal.
    outcomes : mapping of str to int, optional
        Files by ``outcome`` or ``outcome/code``, ``image`` for those that are one.
    objects : mapping of str to int, optional
        Files that are no image by the name of their class.
    """
    rows: list[Row] = table.select(["patient", "study", "series", "kind", "modality", "bytes", "frames"]).to_pylist()
    counts = [
        count_text(len(rows), "volume"),
        count_text(len({(row["patient"], row["study"], row["series"]) for row in rows}), "series", "series"),
        count_text(len({(row["patient"], row["study"]) for row in rows}), "study", "studies"),
        count_text(len({row["patient"] for row in rows}), "patient"),
    ]
    frames, n_bytes = (sum(row[name] or 0 for row in rows) for name in ("frames", "bytes"))
    yield from _wrapped(
        f"{', '.join(counts)}; {count_text(frames, 'frame')}, {size_text(n_bytes)} in files", width, "bold"
    )
    for name in ("modality", "kind"):
        tally = Counter(clean(row[name] or "?") for row in rows)
        if tally:
            yield from _wrapped(f"{name}: {_counts_text(tally)}", width)
    if outcomes:
        yield from _wrapped(f"{count_text(sum(outcomes.values()), 'file')}: {_counts_text(Counter(outcomes))}", width)
    if objects:
        yield from _wrapped(f"{sum(objects.values())} not-image: {_counts_text(Counter(objects))}", width)


def _counts_text(tally: Counter[str]) -> str:
    return ", ".join(f"{count} {value}" for value, count in tally.most_common())


def _wrapped(text: str, width: int, style: str = "") -> Iterator[Text]:
    for line in textwrap.wrap(text, max(width, 20), subsequent_indent="  ", break_on_hyphens=False):
        yield Text(line, style)


def file_counts(index: Index) -> dict[str, int]:
    """Return the scanned files by ``outcome/code``; those that are still to be decided are ``image``."""
    columns = index.instances.select(["outcome", "code"]).to_pydict()
    pairs = Counter(zip(columns["outcome"], columns["code"], strict=True))
    return {"/".join(filter(None, pair)) or "image": count for pair, count in pairs.most_common()}


def _check_columns(*names: str | None) -> None:
    for name in names:
        if name is not None and name not in dict(CATALOG_COLUMNS):
            raise UsageError(f"no column {name!r}; there are {', '.join(dict(CATALOG_COLUMNS))}")


def _columns_for(sort: str | None, group: str | None) -> dict[str, Column]:
    """Return the columns to print: those of the table, and the one that is asked about."""
    names = dict(COLUMNS)
    for name in (sort, group):
        shown = SHOWN_BY.get(name or "", name)
        if shown in CLOCKS:  # the order of reconstruction: both clocks beside spacing and kernel
            names |= {clock: names[clock]._replace(rank=0) for clock in CLOCKS}
            ranks = {"kind": 2, "matrix": 8, "modality": 9}
            names |= {less: names[less]._replace(rank=rank) for less, rank in ranks.items()}
        elif shown in names:
            names[shown] = names[shown]._replace(rank=0)
        elif shown is not None and shown not in ("series", "index"):
            names[shown] = Column(shown, _plain(shown), 6, 16, 24, 0)
    return names


def _fit(rows: Sequence[Row], columns: Mapping[str, Column], room: int) -> dict[str, tuple[Column, int]]:
    """Choose columns and their widths: drop by rank, then shorten the widest until all fit."""
    natural = {
        name: min(max(len(column.title), *(cell_len(column.text(row)) for row in rows)), column.most)
        for name, column in columns.items()
        if any(column.text(row) for row in rows)
    }
    kept = dict(natural)
    while kept:
        droppable = max(kept, key=lambda name: columns[name].rank)
        rank = columns[droppable].rank
        needed = sum(
            min(natural[name], columns[name].usual if rank > 1 else columns[name].least) for name in kept
        ) + GAP * (len(kept) - 1)
        if needed <= room or rank == 0:
            break
        del kept[droppable]
    usual = {name: column.usual for name, column in columns.items()}
    least = {name: column.least for name, column in columns.items()}
    widths = _shorten(_shorten(kept, usual, room), least, room)
    return {name: (columns[name], n) for name, n in widths.items()}


def _shorten(widths: Mapping[str, int], floor: Mapping[str, int], room: int) -> dict[str, int]:
    """Take columns of width from the one that is furthest above its floor until all fit."""
    widths = dict(widths)
    while sum(widths.values()) + GAP * (len(widths) - 1) > room:
        name = max(widths, key=lambda name: widths[name] - floor[name])
        if widths[name] <= floor[name]:
            break
        widths[name] -= 1
    return widths


def _cells(first: list[tuple[str, int, bool]], layout: Mapping[str, tuple[Column, int]], row: Row | None) -> str:
    cells = first + [
        (column.title if row is None else column.text(row), width, column.right) for column, width in layout.values()
    ]
    return (" " * GAP).join(_cell(*cell) for cell in cells).rstrip()


def _cell(text: str, width: int, right: bool) -> str:
    if cell_len(text) > width:
        return set_cell_size(text, max(width - 1, 0)) + "…"
    padding = " " * (width - cell_len(text))
    return padding + text if right else text + padding


def _row_lines(
    row: Row, label: str, label_width: int, layout: Mapping[str, tuple[Column, int]], indent: str
) -> Iterator[Text]:
    yield Text(indent + _cells([(label, label_width, False)], layout, row))
    if "reasons" not in layout and row["reasons"]:
        under = " " * (len(indent) + label_width + GAP)
        yield Text(under + _reasons(row), "yellow")


def _tree(rows: Iterable[Row], width: int) -> Iterator[Text | Row]:
    """Yield rows under the headings of their patient, study and series, each with what it holds."""
    ordered = sorted(rows, key=lambda row: [str(row[name]) for name in HEADINGS] + [f"{row['index']:09d}"])
    yield from _branches(ordered, tuple(HEADINGS), 0, width)


def _branches(rows: Sequence[Row], levels: Sequence[str], depth: int, width: int) -> Iterator[Text | Row]:
    if not levels:
        yield from rows
        return
    name, *below = levels
    for value, members in groupby(rows, key=lambda row: row[name]):
        own = list(members)
        held = [count_text(len({row[below[0]] for row in own}), below[0], PLURALS[below[0]])] if below else []
        holds = ", ".join([*held, _file_count(own)])
        date = f"{clean(own[0]['study_date'])} " if name == "study" and own[0]["study_date"] else ""
        yield Text(_heading(f"{' ' * depth}{name} {date}", clean(value), holds, width), HEADINGS[name])
        yield from _branches(own, below, depth + 1, width)


def _file_count(rows: Sequence[Row]) -> str:
    """Return the number of files; of frames where one file may be in several volumes."""
    files, frames = (sum(row[name] or 0 for row in rows) for name in ("files", "frames"))
    series = {(row["patient"], row["study"], row["series"]) for row in rows}
    return count_text(files, "file") if files == frames or len(series) == len(rows) else count_text(frames, "frame")


def _heading(before: str, uid: str, holds: str, width: int) -> str:
    """Return a heading that fits: a UID loses its beginning, as its end is what commands take for the whole."""
    room = width - cell_len(before) - cell_len(holds) - 2 * GAP
    shown = uid if cell_len(uid) <= room or room < LEAST_UID else f"…{uid[len(uid) - room + 1 :]}"
    return f"{before}{shown}{' ' * 2 * GAP}{holds}"


def _grouped(rows: Sequence[Row], group: str | None) -> Iterator[Text | Row]:
    if group is None:
        yield from rows
        return
    for value, members in groupby(sorted(rows, key=lambda row: _sort_key(row[group])), key=lambda row: row[group]):
        block = list(members)
        said = "-" if value is None else clock_text(value) if group in CLOCKS else clean(value)
        yield Text(f"{group} {said}: {count_text(len(block), 'volume')}, {_file_count(block)}", "bold cyan")
        yield from block


def _sort_key(value: Any) -> tuple[bool, Any]:
    return (True, 0) if value is None or value != value else (False, value)


def _short_name(row: Row) -> str:
    """Return the end of the series UID, where UIDs differ, and the number of the volume."""
    series = clean(row["series"])
    return f"{'…' + series[-7:] if len(series) > 8 else series}/{row['index']}"


def _widest(label: Callable[[Row], str], rows: Sequence[Row]) -> int:
    return max((cell_len(label(row)) for row in rows), default=0)
