"""Sources to the headers of all files: walk, and read what no earlier index has.

A first scan reads every header. A later one that is given the index of the first reads what is new or changed, and
comes to the same index as if it had read everything.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from fastdcm.errors import Code, Outcome, SourceError, UsageError
from fastdcm.model import Index
from fastdcm.objects import is_url
from fastdcm.run.execute import Engine, map_tasks
from fastdcm.run.futures import WorkerLost
from fastdcm.run.progress import Callback, Progress, silent

if TYPE_CHECKING:
    import pyarrow as pa

    from fastdcm.scan.find import FoundFile
    from fastdcm.scan.kept import KeptIndex

    Headers = tuple[pa.Table, pa.Table]

SMALLEST_BATCH, LARGEST_BATCH = 1024, 4096
"""Files of one header task; a task costs some ms whatever it holds, so they grow with what was found before."""
JOINED_BATCHES = 16
"""Header tables that become one, whose columns take less memory, while others are still being read."""


@dataclass(frozen=True, slots=True, eq=False)
class Scanned:
    """What a walk found: headers that were read now, and which rows of an earlier index still hold."""

    sources: tuple[str, ...]
    started_ns: int
    """When the walk began."""
    files: int
    """That were found."""
    read: list[Headers]
    """Of the files that were read now; ``index`` takes them."""
    kept: KeptIndex | None
    held: npt.NDArray[np.bool_]
    """(rows of ``kept``,): no header had to be read again."""

    def is_unchanged(self) -> bool:
        """Tell whether the earlier index holds just these files, as they are now."""
        from fastdcm.scan.index import build_index
        from fastdcm.scan.kept import same_rows

        if self.kept is None or self.files != self.kept.rows:
            return False
        return not self.read or same_rows(build_index(self.sources, self.read), self.kept.load(~self.held))

    def index(self) -> Index:
        """Return the index of all files, and hold the headers no longer."""
        return self.merged()[0]

    def merged(self) -> tuple[Index, npt.NDArray[np.int32]]:
        """Return also the row that each file has in the earlier index, (n,), -1 where its header was read now."""
        from fastdcm.scan.index import ordered_index

        index, order = ordered_index(self.sources, self._handed_over())
        rows = np.full(len(order), -1, np.int32)
        earlier = np.flatnonzero(self.held)
        rows[: len(earlier)] = earlier  # the first batch
        return index, rows[order]

    def _handed_over(self) -> Iterator[Headers]:
        if self.held.any() and self.kept is not None:
            index = self.kept.load(self.held)
            yield index.instances, index.frames
            del index
        self.read.reverse()
        while self.read:
            yield self.read.pop()


def read_index(
    engine: Engine,
    sources: Sequence[str],
    ignore: Sequence[str | os.PathLike[str]] = (),
    progress: Callback = silent,
) -> Index:
    """Walk the sources and read every header.

    Raises
    ------
    UsageError
        No source, a source that is not there, or no file in any.
    """
    return scan_headers(engine, sources, ignore, progress).index()


def scan_headers(
    engine: Engine,
    sources: Sequence[str],
    ignore: Sequence[str | os.PathLike[str]] = (),
    progress: Callback = silent,
    *,
    earlier: str | None = None,
) -> Scanned:
    """Walk the sources and read the headers that the index in the folder ``earlier`` does not have.

    Parameters
    ----------
    engine : Engine
        Where to read.
    sources : sequence of str
        Files and folders.
    ignore : sequence of path
        Folders that are no input.
    progress : callable
        Called with ``Progress``.
    earlier : str, optional
        Of ``save_index``; where there is no index that can be relied on, every header is read.

    Raises
    ------
    UsageError
        No source, a source that is not there, or no file in any.
    """
    from fastdcm.scan.compact import slim
    from fastdcm.scan.find import find_files
    from fastdcm.scan.kept import new_or_changed, open_kept

    roots = _roots_of(sources)
    started_ns, walked, asked, done = time.time_ns(), 0, 0, 0
    kept = open_kept(earlier, roots) if earlier is not None else None
    held = np.zeros(0 if kept is None else kept.rows, np.bool_)

    def tell() -> None:
        progress(Progress("scan", files=walked - asked + done))

    def walk() -> Iterator[FoundFile]:
        nonlocal walked
        for file in _without(find_files(roots, sizes=True), roots, ignore):
            walked += 1
            yield file
            if not walked % LARGEST_BATCH:
                tell()

    def batches() -> Iterator[tuple[tuple[str, ...], list[FoundFile]]]:
        nonlocal asked, walked
        files = _without(find_files(roots), roots, ignore) if kept is None else new_or_changed(walk(), kept, held)
        for batch in _batches(files, engine.workers):
            asked += len(batch)
            walked = asked if kept is None else walked
            yield roots, batch

    crashed: list[FoundFile] = []

    def read() -> Iterator[Headers]:
        nonlocal done
        for (_, batch), result in map_tasks(_read_batch, batches(), engine):
            if isinstance(result, Exception):
                crashed.extend(batch)
            else:
                yield slim(result[0]), result[1]
            done += len(batch)
            tell()

    tables = list(_joined(read()))
    if not walked:
        raise UsageError("the sources hold no file at all")
    tables += _read_singly(engine, roots, crashed)
    return Scanned(roots, started_ns, walked, tables, kept, held)


def _roots_of(sources: Sequence[str]) -> tuple[str, ...]:
    """Return the sources as they are walked. Raises UsageError as ``scan_headers`` does."""
    from fastdcm.scan.find import absolute_source

    missing = [repr(source) for source in sources if not (is_url(source) or os.path.lexists(source))]
    if missing or not sources:
        raise UsageError(f"no such file or folder: {', '.join(missing)}" if missing else "no source given")
    try:
        return tuple(absolute_source(source) for source in sources)
    except SourceError as error:
        raise UsageError(f"a source cannot be read: {error.message}") from None


def _joined(batches: Iterable[Headers]) -> Iterator[Headers]:
    from fastdcm.scan.index import join_batches

    stream = iter(batches)
    while latest := list(islice(stream, JOINED_BATCHES)):
        yield join_batches(latest)


def _read_singly(engine: Engine, roots: tuple[str, ...], files: Sequence[FoundFile]) -> Iterator[Headers]:
    """Read again the files of a batch that crashed: only the one to blame is lost, and it has a row that says so."""
    from fastdcm.scan.find import Fault
    from fastdcm.scan.header import read_headers

    for (_, (file,)), result in map_tasks(_read_batch, ((roots, [file]) for file in files), engine):
        if isinstance(result, Exception):
            message = f"{type(result).__name__} while its header was read: please report this fault of fastdcm"
            fault = Fault(Outcome.FAILED, Code.INTERNAL, message)
            if isinstance(result, WorkerLost):
                fault = Fault(Outcome.FAILED, Code.WORKER_LOST, str(result))
            yield read_headers(roots, [file._replace(error=fault)])
        else:
            yield result


def _read_batch(task: tuple[tuple[str, ...], list[FoundFile]]) -> Headers:
    from fastdcm.scan.header import read_headers

    return read_headers(*task)


def _without(
    files: Iterable[FoundFile], roots: Sequence[str], ignore: Sequence[str | os.PathLike[str]]
) -> Iterator[FoundFile]:
    """Leave out folders below the sources that are ours: a store inside its own export is no input."""
    from fastdcm.scan.find import encode_path

    inside = [
        (number, encode_path(os.path.relpath(os.path.abspath(folder), root)))
        for number, root in enumerate(roots)
        for folder in ignore
        if not (is_url(root) or is_url(folder)) and os.path.commonpath([root, os.path.abspath(folder)]) == root
    ]
    if not inside:
        yield from files
        return
    for file in files:
        if not any(file.source == number and f"{file.path}/".startswith(f"{path}/") for number, path in inside):
            yield file


def _batches(files: Iterable[FoundFile], workers: int) -> Iterator[list[FoundFile]]:
    """Cut into batches none of which is a large part of the whole, so that all workers are busy until the end."""
    stream, found = iter(files), 0
    smallest = SMALLEST_BATCH if workers > 1 else LARGEST_BATCH
    while batch := list(islice(stream, min(max(found // (2 * workers), smallest), LARGEST_BATCH))):
        yield batch
        found += len(batch)
