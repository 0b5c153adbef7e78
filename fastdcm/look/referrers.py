"""What is about a series, or an image or a store: objects by their class, counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING

from fastdcm.look.terminal import clean

if TYPE_CHECKING:
    from fastdcm.model import Index

ClassCounts = tuple[tuple[str, int], ...]
"""Class and number of objects, the most first."""


def count_classes(rows: Iterable[tuple[int, str]]) -> ClassCounts:
    """Count objects by class, each once however often it stands there.

    Parameters
    ----------
    rows : iterable of (file, class)
        Rows of ``references.parquet``.
    """
    counts = Counter(name for _, name in dict.fromkeys(rows))
    return tuple(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def referrers_of(index: Index, series_uid: str) -> ClassCounts:
    """Return the objects of an export that are about a series; reads their headers."""
    from fastdcm.run.references import references_table
    from fastdcm.series.names import safe_uid

    found = references_table(index, lambda _: {})
    columns = (found[name].to_pylist() for name in ("file", "class", "referenced_series_uid"))
    wanted = safe_uid(series_uid)
    return count_classes((file, name) for file, name, uid in zip(*columns, strict=True) if uid == wanted)


def class_text(counts: ClassCounts) -> str:
    """Return ``2 RT Structure Set, 1 Basic Text SR``."""
    return ", ".join(f"{n} {clean(name)}" for name, n in counts)
