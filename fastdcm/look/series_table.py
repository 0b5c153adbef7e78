"""The patient > study > series > volume tree as a table that fits the terminal; ``scan`` and ``ls`` print it.

A row is a volume, a row of the catalogue (``model.CATALOG_COLUMNS``). What does not fit is shortened with an ellipsis,
and the columns that matter least go first; the reasons then stand under their row. ``--out`` and ``--json`` keep all.
"""

from __future__ import annotations

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


class Column(NamedTuple):
    """One column of the printed table."""

    title: str
    text: Callable[[Row], str]
    least: int
    """Narrowest width that still tells something."""
    most: int
    rank: int
    """The largest goes first where the terminal is narrow; 0 always stays."""
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


def _reasons(row: Row) -> str:
    return clean(row["reasons"] or "").replace(";", ", ")


COLUMNS: Mapping[str, Column] = {
    "modality": Column("mod", _plain("modality"), 2, 4, 0),
    "kind": Column("kind", _plain("kind"), 9, 12, 0),
    "description": Column("description", _plain("description"), 8, 40, 0),
    "slices": Column("slices", _count, 3, 11, 0, right=True),
    "matrix": Column("matrix", _matrix, 7, 11, 0, right=True),
    "spacing": Column("spacing mm", _spacing, 16, 22, 0),
    "kernel": Column("kernel", _plain("kernel"), 6, 14, 0),
    "dtype": Column("type", _plain("dtype"), 5, 8, 1),
    "thickness": Column("thick", _length("thickness"), 3, 6, 5, right=True),
    "gap": Column("gap", _length("gap"), 3, 6, 6, right=True),
    "creation_time": Column("created", _plain("creation_time"), 6, 15, 7),
    "content_time": Column("content", _plain("content_time"), 6, 15, 7),
    "bytes": Column("size", lambda row: size_text(row["bytes"] or 0), 5, 8, 4, right=True),
    "reasons": Column("flags", _reasons, 16, 48, 2),
}
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
    for name in (sort, group):
        if name is not None and name not in dict(CATALOG_COLUMNS):
            raise UsageError(f"no column {name!r}; there are {', '.join(dict(CATALOG_COLUMNS))}")
    rows: list[Row] = table.to_pylist()
    if sort:
        rows.sort(key=lambda row: _sort_key(row[sort]))
    names = _columns_for(sort, group)
    flat = bool(sort or group)
    label = _short_name if flat else lambda row: str(row["index"])
    depth = 2 if flat else 4
    layout = _fit(rows, names, width - depth - _widest(label, rows) - GAP)
    if not rows:
        return
    indent = " " * depth
    title = "series" if flat else "n"
    lines = [Text(indent + _cells([(title, _widest(label, rows), False)], layout, None), "bold")]
    for item in _grouped(rows, group) if flat else _tree(rows):
        lines += (
            [item] if isinstance(item, Text) else _row_lines(item, label(item), _widest(label, rows), layout, indent)
        )
    for line in lines:
        line.truncate(width, overflow="ellipsis")
        yield line


def total_lines(table: pa.Table, outcomes: Mapping[str, int] | None = None) -> Iterator[Text]:
    """Yield what is under the table: how many of everything, and what is no image.

    Parameters
    ----------
    table : pyarrow.Table
        Columns ``model.CATALOG_COLUMNS``.
    outcomes : mapping of str to int, optional
        Files by ``outcome`` or ``outcome/code``, ``image`` for those that are one.
    """
    rows: list[Row] = table.select(["patient", "study", "series", "kind", "modality", "bytes", "frames"]).to_pylist()
    counts = [
        count_text(len(rows), "volume"),
        count_text(len({(row["patient"], row["study"], row["series"]) for row in rows}), "series", "series"),
        count_text(len({(row["patient"], row["study"]) for row in rows}), "study", "studies"),
        count_text(len({row["patient"] for row in rows}), "patient"),
    ]
    yield Text(
        f"{', '.join(counts)}; {count_text(sum(row['frames'] or 0 for row in rows), 'frame')}, "
        f"{size_text(sum(row['bytes'] or 0 for row in rows))} of voxels",
        "bold",
    )
    for name in ("modality", "kind"):
        tally = Counter(clean(row[name] or "?") for row in rows)
        if tally:
            yield Text(f"{name}: " + ", ".join(f"{count} {value}" for value, count in tally.most_common()))
    if outcomes:
        files = ", ".join(f"{count} {name}" for name, count in sorted(outcomes.items(), key=lambda item: -item[1]))
        yield Text(f"{count_text(sum(outcomes.values()), 'file')}: {files}")


def file_counts(index: Index) -> dict[str, int]:
    """Return the scanned files by ``outcome/code``; those that are still to be decided are ``image``."""
    columns = index.instances.select(["outcome", "code"]).to_pydict()
    pairs = Counter(zip(columns["outcome"], columns["code"], strict=True))
    return {"/".join(filter(None, pair)) or "image": count for pair, count in pairs.most_common()}


def _columns_for(sort: str | None, group: str | None) -> dict[str, Column]:
    """Return the columns to print: those of the table, and the one that is asked about."""
    names = dict(COLUMNS)
    for name in (sort, group):
        shown = SHOWN_BY.get(name or "", name)
        if shown in names:
            names[shown] = names[shown]._replace(rank=0)
        elif shown is not None and shown not in ("series", "index"):
            names[shown] = Column(shown, _plain(shown), 6, 24, 0)
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
        least = {name: min(columns[name].least, natural[name]) for name in kept}
        droppable = max(kept, key=lambda name: columns[name].rank)
        spare = (
            room - GAP * (len(kept) - 1) - (sum(kept.values()) if columns[droppable].rank > 1 else sum(least.values()))
        )
        if spare >= 0 or columns[droppable].rank == 0:
            break
        del kept[droppable]
    return {name: (columns[name], n) for name, n in _shorten(kept, columns, room).items()}


def _shorten(widths: dict[str, int], columns: Mapping[str, Column], room: int) -> dict[str, int]:
    """Take columns of width from the one that is furthest above its least width until all fit."""
    widths = dict(widths)
    while sum(widths.values()) + GAP * (len(widths) - 1) > room:
        name = max(widths, key=lambda name: widths[name] - columns[name].least)
        if widths[name] <= columns[name].least:
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


def _tree(rows: Iterable[Row]) -> Iterator[Text | Row]:
    """Yield rows under the headings of their patient, study and series."""
    ordered = sorted(rows, key=lambda row: [str(row[name]) for name in HEADINGS] + [f"{row['index']:09d}"])
    last: dict[str, Any] = {}
    for row in ordered:
        new = False
        for depth, (name, style) in enumerate(HEADINGS.items()):
            new = new or name not in last or last[name] != row[name]
            if new:
                date = f"{clean(row['study_date'])} " if name == "study" and row["study_date"] else ""
                yield Text(" " * depth + f"{name} {date}{clean(row[name])}", style)
            last[name] = row[name]
        yield row


def _grouped(rows: Sequence[Row], group: str | None) -> Iterator[Text | Row]:
    if group is None:
        yield from rows
        return
    for value, members in groupby(sorted(rows, key=lambda row: _sort_key(row[group])), key=lambda row: row[group]):
        block = list(members)
        yield Text(f"{group} {'-' if value is None else clean(value)}: {count_text(len(block), 'volume')}", "bold cyan")
        yield from block


def _sort_key(value: Any) -> tuple[bool, Any]:
    return (True, 0) if value is None or value != value else (False, value)


def _short_name(row: Row) -> str:
    """Return the end of the series UID, where UIDs differ, and the number of the volume."""
    series = clean(row["series"])
    return f"{'…' + series[-7:] if len(series) > 8 else series}/{row['index']}"


def _widest(label: Callable[[Row], str], rows: Sequence[Row]) -> int:
    return max((cell_len(label(row)) for row in rows), default=0)
