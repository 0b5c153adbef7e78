"""How the tags of a series are named and written: one text an element, a value, or all values of a series."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from rich.cells import cell_len, set_cell_size

from fastdcm.look.element_text import decode, value_text
from fastdcm.look.terminal import clean
from fastdcm.run.series_tags import SeriesTags, TagColumn
from fastdcm.scan.dictionary import creator_tag, keyword_of, name_of
from fastdcm.scan.leaves import FRAMES, Leaf, Path
from fastdcm.scan.listing import Listed

_FRACTION = re.compile(r"\.\d+(?![\d.eE])")


def tag_text(path: Path) -> str:
    """Return the tags of a path as SimpleITK writes them.

    Examples
    --------
    >>> tag_text((0x0008103E,)), tag_text((0x00400275, 0, 0x00400009)), tag_text((0x52009230, -1, 0x00209056))
    ('0008|103e', '0040|0275[0].0040|0009', '5200|9230[*].0020|9056')
    """
    return "".join(_step(part, f"{part >> 16:04x}|{part & 0xFFFF:04x}", place) for place, part in enumerate(path))


def keyword_text(path: Path) -> str:
    """Return the keywords of a path, a tag for what has none; empty for a tag alone that has none.

    Examples
    --------
    >>> keyword_text((0x00400275, 0, 0x00400009))
    'RequestAttributesSequence[0].ScheduledProcedureStepID'
    """
    if len(path) == 1:
        return keyword_of(path[0])
    return "".join(_step(part, keyword_of(part) or tag_text((part,)), place) for place, part in enumerate(path))


def _step(part: int, text: str, place: int) -> str:
    """Return one part of a path: a tag, or the item of the sequence before it."""
    if place % 2:
        return "[*]" if part == FRAMES else f"[{part}]"
    return f".{text}" if place else text


def name_text(path: Path, columns: Mapping[Path, TagColumn]) -> str:
    """Return the name of the last element of a path; of a private one by the creator that stands beside it."""
    where = creator_tag(path[-1])
    creator = columns.get((*path[:-1], where)) if where is not None else None
    return name_of(path[-1], leaf_text(creator.examples[0]) if creator is not None and creator.examples else "")


def leaf_text(leaf: Leaf) -> str:
    r"""Return a value as ``header`` shows it; of a very long one the beginning.

    Examples
    --------
    >>> leaf_text(Leaf("US", 1, bytes([0, 2, 1, 0]), 4)), leaf_text(Leaf("SQ", 1, b"2", 1))
    ('512\\1', '2 items')
    """
    more = "…" if leaf.length > len(leaf.raw) else ""
    if leaf.vr == "SQ":
        return f"{leaf.raw.decode()} item{'' if leaf.raw == b'1' else 's'}"
    if leaf.as_text:
        return decode(leaf.raw, leaf.charsets) + more
    return value_text(Listed(0, 0, leaf.vr, len(leaf.raw), leaf.raw, True), leaf.vr, leaf.charsets)[1] + more


def values_text(column: TagColumn | None, noun: str = "file") -> str:
    """Return all values of a series in one text: the value, or how many there are and what they are.

    Examples
    --------
    ``STANDARD``, ``65 values, -441 .. -121``, ``3 values: A, B, C``, ``40, absent in 2 files``.
    """
    if column is None or not column.examples:
        return ""
    n_missing, n_distinct = column.n_missing, column.n_distinct
    absent = f", absent in {n_missing} {noun}{'' if n_missing == 1 else 's'}" if n_missing else ""
    if n_distinct == 1:
        return leaf_text(column.examples[0]) + absent
    return f"{n_distinct} values{absent}{_some(column, n_distinct)}"


def _some(column: TagColumn, n_distinct: int) -> str:
    """Return the ends of what can be ordered, else the first few values."""
    if column.ends is not None and n_distinct > 2:
        return ", {} .. {}".format(*_apart(*map(_short, column.ends)))
    shown = [leaf_text(leaf) or '""' for leaf in column.examples]
    if len(set(shown)) < len(shown):  # sequences: as many items each
        return ""
    return ": " + ", ".join(shown) + (", …" if n_distinct > len(shown) else "")


def _short(leaf: Leaf) -> str:
    """Return a number without the zeros at its end: how many there are says nothing about a range."""
    return _FRACTION.sub(lambda match: match[0].rstrip("0").rstrip("."), leaf_text(leaf))


def _apart(low: str, high: str) -> tuple[str, str]:
    """Leave out the numbers in front that both ends have: of positions what is left is where they differ."""
    lows, highs = low.split("\\"), high.split("\\")
    alike = next((n for n, pair in enumerate(zip(lows, highs, strict=False)) if pair[0] != pair[1]), 0)
    return tuple("\\".join(["…"] * (alike > 0) + parts[alike:]) for parts in (lows, highs))  # type: ignore[return-value]


def shown_paths(tags: SeriesTags) -> Iterator[Path]:
    """Yield the paths of every top-level element, and of the nested ones that vary."""
    least: dict[Path, int] = {}
    for path, column in tags.columns.items():
        item = path[:-1]
        least[item] = min(least.get(item, column.n_missing), column.n_missing)
    varies = {
        path
        for path, column in tags.columns.items()
        if len(path) > 1 and (column.n_distinct > 1 or column.n_missing > least[path[:-1]])
    }
    inside = {path[:end] for path in varies for end in range(1, len(path), 2)}
    yield from (path for path in tags.columns if len(path) == 1 or (path in varies and path not in inside))


# ---------------------------------------------------------------------------- cells of a table


def label_of(keyword: str, name: str) -> str:
    """Return what an element is called in a table."""
    return clean(keyword or name)


def cell(text: str, width: int, *, end: bool = False) -> str:
    """Cut or pad a text to a width; ``end`` keeps its end."""
    if cell_len(text) <= width:
        return text + " " * (width - cell_len(text))
    if end:
        while cell_len(text) > width - 1:
            text = text[max(1, cell_len(text) - 2 * width) :]
        return set_cell_size(f"…{text}", width)
    return set_cell_size(text, max(width - 1, 0)) + "…"
