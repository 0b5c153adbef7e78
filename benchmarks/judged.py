"""A store with the files that it was made of, as the references need it, and what a reference finds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote_to_bytes

import pyarrow.parquet as pq
from pydicom.uid import UID

Row = dict[str, Any]


class Finding(NamedTuple):
    """What one reference says of one frame or one volume."""

    reference: str
    kind: str
    syntax: str
    """Name of the transfer syntax of the frame or the volume."""
    verdict: str
    """``equal``, ``differs``, ``refused`` (the reference has no answer) or ``left out`` (fastdcm has none)."""
    file: str
    """Path of the file, or of the volume's first one, below its source."""
    text: str
    volume: str = ""
    """Where the volume is: what is said of its frames and of the whole belongs together."""
    cell: tuple[int, int, int] | None = None
    """(t, c, z) of a frame; None for what is said of the volume."""


@dataclass(frozen=True, eq=False)
class Judged:
    """A store and its sources."""

    store: Path
    sources: Sequence[Path]
    root: Path
    """Folder below which files are named."""

    @cached_property
    def files(self) -> dict[int, Row]:
        """Rows of ``files.parquet`` by number."""
        return {row["file"]: row for row in pq.read_table(self.store / "files.parquet").to_pylist()}

    @cached_property
    def frames(self) -> list[Row]:
        """Rows of ``frames.parquet``."""
        rows: list[Row] = pq.read_table(self.store / "frames.parquet").to_pylist()
        return rows

    @cached_property
    def catalog(self) -> dict[str, Row]:
        """Rows of ``catalog.parquet`` by volume."""
        return {row["volume"]: row for row in pq.read_table(self.store / "catalog.parquet").to_pylist()}

    def path(self, file: int) -> Path:
        """Return where a file is."""
        row = self.files[file]
        root = self.sources[row["source"]]
        return root if root.is_file() else root / unquote_to_bytes(row["path"]).decode("utf-8", "surrogateescape")

    def name(self, file: int) -> str:
        """Return the path of a file below the root."""
        return str(self.path(file).relative_to(self.root))

    @cached_property
    def members(self) -> dict[str, list[Row]]:
        """Rows of ``frames.parquet`` by volume, in the order of the slices."""
        found: dict[str, list[Row]] = {}
        for row in self.frames:
            found.setdefault(row["volume"], []).append(row)
        for rows in found.values():
            rows.sort(key=lambda row: (row["t"] or 0, row["c"] or 0, row["z"]))
        return found

    def kind(self, volume: str) -> str:
        """Return the kind of a volume."""
        return str(self.catalog[volume]["kind"])

    def syntax(self, volume: str) -> str:
        """Return the transfer syntax of a volume, ``several`` where its files have more than one."""
        found = str(self.catalog[volume]["transfer_syntax"]).split(";")
        return syntax_name(found[0]) if len(found) == 1 else "several"


def syntax_name(uid: str) -> str:
    """Return a short name of a transfer syntax.

    Examples
    --------
    >>> syntax_name("1.2.840.10008.1.2.4.90")
    'JPEG 2000 Lossless'
    """
    return SHORT.get(uid) or (UID(uid).name if uid.strip() else "none declared")


SHORT = {
    "1.2.840.10008.1.2": "Implicit LE",
    "1.2.840.10008.1.2.1": "Explicit LE",
    "1.2.840.10008.1.2.1.99": "Deflated",
    "1.2.840.10008.1.2.2": "Explicit BE",
    "1.2.840.10008.1.2.5": "RLE",
    "1.2.840.10008.1.2.4.50": "JPEG Baseline",
    "1.2.840.10008.1.2.4.51": "JPEG Extended",
    "1.2.840.10008.1.2.4.57": "JPEG Lossless",
    "1.2.840.10008.1.2.4.70": "JPEG Lossless SV1",
    "1.2.840.10008.1.2.4.80": "JPEG-LS",
    "1.2.840.10008.1.2.4.81": "JPEG-LS near-lossless",
    "1.2.840.10008.1.2.4.90": "JPEG 2000 Lossless",
    "1.2.840.10008.1.2.4.91": "JPEG 2000",
}
