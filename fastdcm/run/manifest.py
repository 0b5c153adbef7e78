"""The way back from every slice to its file, as the tables of a store have it, read a piece at a time."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fastdcm.load.catalog import inside
from fastdcm.model import Json
from fastdcm.objects import is_url
from fastdcm.places import Place, table_file, work_folder
from fastdcm.run.witness import Slice

if TYPE_CHECKING:
    import pyarrow as pa

ROWS_AT_A_TIME = 1 << 16
_FILES_COLUMNS = ("file", "source", "path", "size", "mtime")
_FRAMES_COLUMNS = ("volume", "t", "c", "z", "file", "frame", "tile", "sop_instance_uid")


class FileRow(NamedTuple):
    """What ``files.parquet`` says of a file: where it is, and what it was when it was converted."""

    source: int
    path: str
    size: int | None
    mtime_ns: int | None


class FileRows:
    """``files.parquet`` by number; two of its row groups are held at most."""

    def __init__(self, place: Place) -> None:
        import pyarrow.parquet

        self._file = pyarrow.parquet.ParquetFile(table_file(place / "files.parquet"))
        sizes = [self._file.metadata.row_group(group).num_rows for group in range(self._file.num_row_groups)]
        self._ends = np.cumsum(sizes) if sizes else np.zeros(0, np.int64)
        self._names = [name for name in _FILES_COLUMNS if name in self._file.schema_arrow.names]
        self._group = lru_cache(maxsize=2)(self._read_group)

    def find(self, number: int | None) -> FileRow | None:
        """Return the row of a file; None where there is none where its number says."""
        if number is None or number < 0 or not len(self._ends) or number >= self._ends[-1]:
            return None
        group = int(np.searchsorted(self._ends, number, side="right"))
        row = number - (int(self._ends[group - 1]) if group else 0)
        table = self._group(group)
        if table["file"][row].as_py() != number:
            return None  # said by the tables already
        size, mtime = (table[name][row] if name in self._names else None for name in ("size", "mtime"))
        return FileRow(
            table["source"][row].as_py(),
            table["path"][row].as_py(),
            None if size is None else size.as_py(),
            None if mtime is None else mtime.value,
        )

    def _read_group(self, group: int) -> pa.Table:
        return self._file.read_row_group(group, columns=self._names)


def source_roots(store: Place, sources: Sequence[str] | None, work: str | Path | None) -> tuple[str, ...]:
    """Return the folders that paths in files.parquet are relative to, by number of the source."""
    if sources is None:
        try:
            sources = json.loads((work_folder(store.absolute(), work) / "sources.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return ()
    return tuple(map(_source_root, sources or ()))


def journal_digests(store: Place, work: str | Path | None) -> dict[str, str]:
    """Return the digest of each volume as the last run published it; empty where the journal is not there."""
    found: dict[str, str] = {}
    try:
        with open(work_folder(store.absolute(), work) / "journal.jsonl", "rb") as file:
            for raw in file:
                try:
                    line = json.loads(raw)
                except ValueError:
                    continue
                if isinstance(line, dict) and isinstance(line.get("path"), str):
                    found[line["path"]] = str(line.get("digest"))
    except OSError:
        return {}
    return found


def stored_frames(store: Place) -> Iterator[tuple[str, list[Json]]]:
    """Yield each volume with its rows of ``frames.parquet``, as they stand there: by path of the volume.

    Raises
    ------
    OSError
        The table is not there, or cannot be read.
    """
    import pyarrow.parquet

    def rows() -> Iterator[Json]:
        with pyarrow.parquet.ParquetFile(table_file(store / "frames.parquet")) as file:
            names = [name for name in _FRAMES_COLUMNS if name in file.schema_arrow.names]
            for batch in file.iter_batches(ROWS_AT_A_TIME, columns=names):
                yield from batch.to_pylist()

    for name, frames in groupby(rows(), lambda row: str(row["volume"])):
        yield name, list(frames)


def slice_of(frame: Json, files: FileRows, roots: tuple[str, ...]) -> Slice:
    """Say where the bytes of a stored frame are; an empty path where nobody knows."""
    file = files.find(frame["file"])
    known = file is not None and 0 <= file.source < len(roots)
    path = _location(roots[file.source], file.path) if file is not None and known else ""
    size, mtime_ns = (file.size, file.mtime_ns) if file is not None else (None, None)
    tile = -1 if frame["tile"] is None else frame["tile"]
    uid: Any = frame.get("sop_instance_uid")
    return Slice(cell_of(frame), path, frame["frame"] or 0, tile, uid, size, mtime_ns)


def _source_root(source: str) -> str:
    from fastdcm.scan.find import absolute_source, source_root

    if is_url(source):
        return source_root(absolute_source(source))
    return str(source if Path(source).is_dir() else Path(source).parent)


def _location(root: str, path: str) -> str:
    """Return where a file is; what is inside an archive is looked up there, and is no path."""
    from fastdcm.scan.location import decode_path

    file, mark, member = decode_path(path).partition("\0")
    return (f"{root}{inside(file)}" if is_url(root) else str(Path(root) / inside(file))) + mark + member


def cell_of(frame: Json) -> tuple[int, int, int]:
    """Return the cell of a row of ``frames.parquet``."""
    return frame["t"] or 0, frame["c"] or 0, frame["z"] or 0
