"""Which volumes are wanted: the named selections and ``--where``, decided on catalogue rows before any decoding."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from fastdcm.errors import Code
from fastdcm.model import Options, Reason

if TYPE_CHECKING:
    import pyarrow as pa


def select(table: pa.Table, options: Options) -> Mapping[int, Reason]:
    """Return the rows that are left out, each with the first rule that left it out.

    Parameters
    ----------
    table : pyarrow.Table
        One row a volume, columns ``CATALOG_COLUMNS``.
    options : Options
        ``localizers``, ``derived``, ``image_type`` and ``where`` are looked at, in this order.

    Returns
    -------
    mapping of int to Reason
        Row number to the rule.

    Raises
    ------
    UsageError
        ``where`` is not one usable expression.
    """
    out: dict[int, Reason] = {}
    for rows, reason in _rules(table, options):
        for row in rows:
            out.setdefault(row, reason)
    return out


def _rules(table: pa.Table, options: Options) -> Iterator[tuple[Iterable[int], Reason]]:
    """Yield the rows that each rule leaves out."""
    types = [image_type_components(text) for text in table["image_type"].to_pylist()]
    if not options.localizers:
        found = [row for row, kind in enumerate(table["kind"].to_pylist()) if kind == "localizer"]
        yield found, Reason(Code.LOCALIZER, "left out by --no-localizers")
    if not options.derived:
        found = [row for row, parts in enumerate(types) if parts[:1] == ["DERIVED"]]
        yield found, Reason(Code.DERIVED, "left out by --no-derived")
    if options.image_type is not None:
        wanted = image_type_components(options.image_type)
        found = [row for row, parts in enumerate(types) if parts[: len(wanted)] != wanted]
        yield found, Reason(Code.IMAGE_TYPE, f"left out by --image-type {'/'.join(wanted)}")
    if options.where is not None:
        from fastdcm.load.query import filter_rows

        kept = set(filter_rows(table, options.where))
        yield (row for row in range(table.num_rows) if row not in kept), Reason(Code.WHERE, "left out by --where")


def image_type_components(text: str | None) -> list[str]:
    r"""Return the components of an Image Type (PS3.3 C.7.6.1.1.2), written with ``\`` or ``/``, in capitals."""
    return [part.strip().upper() for part in re.split(r"[\\/]", text)] if text and text.strip() else []
