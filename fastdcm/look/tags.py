"""Which tags all files of a series share, and which vary, in how many values. Headers alone are read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from fastdcm.errors import UsageError
from fastdcm.look.address import find_series, parse_address
from fastdcm.look.tag_text import (
    cell,
    keyword_text,
    label_of,
    leaf_text,
    name_text,
    shown_paths,
    tag_text,
    values_text,
)
from fastdcm.look.terminal import clean, count_text
from fastdcm.model import Json, Resources
from fastdcm.run.options import Source, source_list
from fastdcm.run.progress import Callback
from fastdcm.run.series_tags import SeriesTags, read_series_tags, slice_order
from fastdcm.scan.leaves import FRAMES, Path

if TYPE_CHECKING:
    from rich.text import Text

TAG_WIDTH, LEAST_LABEL, MOST_LABEL = 9, 20, 44


@dataclass(frozen=True, slots=True)
class TagRow:
    """One element over the files of a series."""

    tag: str
    """``0008|103e``; of an element in a sequence the path to it: ``0040|0275[0].0040|0009``, ``[*]`` for all frames."""
    keyword: str
    """``SeriesDescription``; a path as that of the tags. Empty where the dictionary has none."""
    name: str
    """``Series Description``; of private elements as far as their creators are known."""
    vr: str
    constant: bool
    """Whether all files have the element, with one value."""
    value: str | None
    """The value of all files; None where it varies. A sequence is compared whole and shown as ``2 items``; a value of
    more than 64 KiB is cut, and ends with an ellipsis."""
    n_distinct: int
    """Different values, by the bytes without padding (PS3.5 6.2)."""
    n_missing: int
    """Files that lack the element."""
    examples: tuple[str, ...]
    """The smallest and the largest of numbers, dates and times, else the first few values, by slice."""
    over: str
    """``files``, or ``frames`` for what stands in the Per-Frame Functional Groups."""
    text: str
    """Value or values on one line."""


@dataclass(frozen=True, slots=True)
class Tags:
    """The tags of one series."""

    series: str
    """Series Instance UID."""
    n_files: int
    n_frames: int
    """Frames of the files with Per-Frame Functional Groups."""
    n_unread: int
    """Files of the series whose header cannot be read; nothing is said about them."""
    rows: tuple[TagRow, ...]
    """In the order of the tags: every top-level element, and the nested ones that vary."""

    def as_json(self) -> Json:
        """Return everything as plain values."""
        return asdict(self)


def tags(
    sources: Source | Sequence[Source],
    *,
    series: str | None = None,
    private: bool = False,
    workers: int | None = None,
    progress: Callback | None = None,
) -> Tags:
    """Tell which tags the files of a series share, and which vary.

    Values are compared as they are stored, without the padding around them (PS3.5 6.2). SimpleITK's
    ``MetaDataDictionaryArray`` has the same constants and counts, where it does not print different floating point
    numbers alike, and one value is not padded in two ways. Elements behind the pixels are not read.

    Parameters
    ----------
    sources : path or sequence of path
        Files and folders; one may have the form ``FOLDER#WHICH``.
    series : str, optional
        Series Instance UID, the end of one, or an SQL expression over the columns of ``scan``. May be left out where
        there is only one series of images. Series of other objects have tags too.
    private : bool
        Private elements (odd groups) too.
    workers : int, optional
        Workers; the default is one a core.
    progress : callable, optional
        Called with ``Progress``.

    Returns
    -------
    Tags

    Raises
    ------
    UsageError
        There is no file, none or several series fit, or none of its headers can be read.

    Examples
    --------
    >>> import fastdcm
    >>> found = fastdcm.tags("export", series="spacing_z < 2 and kernel == 'LUNG'")
    >>> [(row.keyword, row.n_distinct) for row in found.rows if not row.constant][:2]
    [('InstanceCreationTime', 6), ('SOPInstanceUID', 26)]
    """
    from fastdcm.run.execute import start_engine

    paths = source_list(sources)
    if len(paths) == 1 and series is None:
        path, series = parse_address(paths[0])
        paths = [path]
    with start_engine(Resources(workers=workers)) as engine:
        found = find_series(engine, paths, series, progress)
        rows = slice_order(found.index, found.rows)
        read = read_series_tags(engine, found.index, rows, private=private, progress=progress)
    if not read.n_files:
        raise UsageError(f"none of the {count_text(read.n_unread, 'header')} of the series can be read")
    return Tags(
        found.uid, read.n_files, read.n_frames, read.n_unread, tuple(_row(read, path) for path in shown_paths(read))
    )


def _row(read: SeriesTags, path: Path) -> TagRow:
    column = read.columns[path]
    examples = column.ends if column.ends is not None else column.examples
    over = "frames" if FRAMES in path else "files"
    return TagRow(
        tag=tag_text(path),
        keyword=keyword_text(path),
        name=name_text(path, read.columns),
        vr=column.vr,
        constant=column.constant,
        value=leaf_text(column.examples[0]) if column.constant else None,
        n_distinct=column.n_distinct,
        n_missing=column.n_missing,
        examples=tuple(map(leaf_text, examples)),
        over=over,
        text=values_text(column, over[:-1]),
    )


def tags_lines(tags: Tags, width: int) -> Iterator[Text]:
    """Yield the printed lines: the tags that all files share, then those that vary.

    Parameters
    ----------
    tags : Tags
        Of a series.
    width : int
        Columns of the terminal.
    """
    from rich.text import Text

    constant = [row for row in tags.rows if row.constant]
    varying = [row for row in tags.rows if not row.constant]
    labels = max((len(label_of(row.keyword, row.name)) for row in tags.rows), default=0)
    label = min(max(width * 2 // 5 - TAG_WIDTH, LEAST_LABEL), MOST_LABEL, labels)
    frames = f", {count_text(tags.n_frames, 'frame')}" if tags.n_frames else ""
    head = f"series {clean(tags.series or '(no UID)')}: {count_text(tags.n_files, 'file')}{frames}"
    lines = [Text(head, "bold")]
    if tags.n_unread:
        lines.append(Text(f"{count_text(tags.n_unread, 'header')} cannot be read and is left out", "yellow"))
    for title, rows in (("the same in all files", constant), ("varying", varying)):
        if rows:
            lines.append(Text(f"{title}: {count_text(len(rows), 'tag')}", "bold cyan"))
        lines += [Text(_line(row, label, width)) for row in rows]
    for line in lines:
        line.truncate(width, overflow="ellipsis")
        yield line


def _line(row: TagRow, label: int, width: int) -> str:
    nested = "[" in row.tag
    tag = cell("", TAG_WIDTH) if nested else cell(row.tag, TAG_WIDTH)
    name = cell(label_of(row.keyword, row.name), label, end=nested)
    return f" {tag} {name} {row.vr:2} {clean(row.text[:width])}".rstrip()
