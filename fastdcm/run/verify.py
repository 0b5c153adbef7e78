"""The independent witness: what a store holds against the files that it was made from, slice by slice.

Nothing of the planning, decoding or writing is imported. Pixels are decoded by pydicom's own plugins, modality values
are computed in float64 (PS3.3 C.11.1.1.2), positions come from the source headers by pydicom, and zarr-python reads
the store. ``frames.parquet`` and ``files.parquet`` are used only to find the file of a slice.
"""

from __future__ import annotations

import math
import random
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fastdcm.errors import CheckError, UsageError
from fastdcm.load.catalog import inside
from fastdcm.load.volume import Store, Volume
from fastdcm.load.volume import open as open_path
from fastdcm.model import Json, Options, Resources
from fastdcm.objects import is_url
from fastdcm.places import Place, place_of
from fastdcm.run.check_slices import SliceWitness
from fastdcm.run.check_tables import check_tables, is_changed
from fastdcm.run.check_volume import Layout, check_hash, check_volume, layout_of
from fastdcm.run.execute import map_tasks, start_engine
from fastdcm.run.findings import Cell, Findings, Mismatch, VerifyReport
from fastdcm.run.manifest import FileRows, journal_digests, slice_of, source_roots, stored_frames
from fastdcm.run.options import Source, check_options, source_list
from fastdcm.run.progress import Callback, Progress, silent
from fastdcm.run.witness import Slice

__all__ = ["Findings", "Mismatch", "VerifyReport", "verify"]

Array = npt.NDArray[Any]
BLOCK_BYTES = 64 * 2**20


class Task(NamedTuple):
    """One volume to be checked; picklable."""

    root: str
    volume: str
    row: Json
    """Its row of the catalogue."""
    frames: list[Json] | None
    """Its rows of ``frames.parquet``; None: not known."""
    slices: tuple[Slice, ...]
    """The same with the file of each; empty: hashes only."""
    wanted: frozenset[Cell] | None
    """Cells to check; None: all."""
    digest: str | None
    """What the last run published; None: not known."""
    own_sources: bool
    """The sources are those of the conversion, not a copy of them."""


def verify(  # noqa: PLR0913 - one keyword an option of the command line
    store: str | Path,
    sources: Source | Sequence[Source] | None = None,
    *,
    sample: int | None = None,
    work: str | Path | None = None,
    workers: int | None = None,
    threads: int = 1,
    memory: int | None = None,
    scheduler: str = "local",
    progress: Callback | None = None,
) -> VerifyReport:
    """Compare a store with its sources, and with the hashes that were recorded when it was written.

    Parameters
    ----------
    store : path
        Root of the store.
    sources : path or sequence of path, optional
        The sources in the order that ``convert`` got them; ``sources.json`` in the working folder stands in for them.
        Without either only the recorded hashes are checked. Of sources that are named a file may have another date
        than when it was converted: they may be a copy.
    sample : int, optional
        Check about this many slices only, spread evenly over the store (the same ones each time), and the documents
        of their volumes; the tables are checked in full.
    work : path, optional
        Working folder of the conversion, ``STORE.work`` by default.
    workers, threads, memory, scheduler, progress
        As in ``fastdcm.convert``.

    Returns
    -------
    VerifyReport
        ``mismatches`` is empty and ``exit_code`` 0 where all is right.

    Raises
    ------
    UsageError
        ``store`` is no store, or none of the files is below the sources that were given.

    Examples
    --------
    >>> import fastdcm
    >>> found = fastdcm.verify("out.zarr", "export")
    >>> found.volumes, found.mismatches, found.exit_code
    (5, (), 0)
    """
    started = time.monotonic()
    opened = open_path(store)
    if not isinstance(opened, Store):
        raise UsageError(f"{store} is a volume; verify takes a store")
    resources = Resources(workers=workers, threads=threads, memory_bytes=memory, scheduler=scheduler)
    check_options(Options(), resources)
    given = None if sources is None else source_list(sources)
    roots = source_roots(opened.place, given, work)
    files = _files(opened.place) if roots else None
    if given and files is not None and not _any_is_there(opened.place, files, roots):
        raise UsageError("none of the store's files is below the given sources; give those of convert, in its order")
    counts = _slice_counts(opened)
    chosen = _sampled(opened, counts, sample)
    changed = chosen is None and is_changed(opened)
    digests = journal_digests(opened.place, work) if changed else {}
    findings = Findings(mismatches=tuple(check_tables(opened, changed=changed and not digests)))
    total = len(opened) if chosen is None else len(chosen)
    tasks = _tasks(opened, files, roots, chosen, digests, own_sources=given is None)
    show = progress or silent
    with start_engine(resources, progress or silent) as engine:
        for number, (task, result) in enumerate(map_tasks(_check_volume, tasks, engine), start=1):
            if isinstance(result, Exception):
                raise CheckError(f"volume {task.volume} could not be checked: {result!r}") from result
            findings |= result
            show(Progress("verify", volumes=number, volumes_total=total))
    ordered = tuple(sorted(findings.mismatches, key=lambda one: (one.volume, one.cell or (-1, -1, -1), one.check)))
    seconds = time.monotonic() - started
    asked = None if chosen is None else sample
    stored = int(np.nansum(opened.table["frames"].to_numpy().astype(np.float64)))
    return VerifyReport(len(opened), findings._replace(mismatches=ordered), seconds, files is not None, stored, asked)


# ---------------------------------------------------------------------------- what there is to check


def _files(store: Place) -> FileRows | None:
    """Return ``files.parquet``; None where it or ``frames.parquet`` was left out."""
    try:
        return FileRows(store) if (store / "frames.parquet").exists() else None
    except (OSError, ValueError):
        return None


def _any_is_there(store: Place, files: FileRows, roots: tuple[str, ...]) -> bool:
    from fastdcm.scan.location import parts_of

    slices = (slice_of(frame, files, roots) for _, frames in stored_frames(store) for frame in frames)
    paths = (parts_of(one.path).path for one in slices if one.path)
    return any(is_url(path) or Path(path).is_file() for path in paths)


def _slice_counts(store: Store) -> npt.NDArray[np.int64]:
    """Return the slices of each volume as the catalogue has them."""
    columns = (store.table[name].fill_null(1).to_numpy() for name in ("timepoints", "channels", "slices"))
    counts: npt.NDArray[np.int64] = np.maximum(np.prod(np.stack([*columns]).astype(np.int64), axis=0), 1)
    return counts


def _sampled(store: Store, counts: npt.NDArray[np.int64], sample: int | None) -> dict[str, frozenset[Cell]] | None:
    """Choose slices evenly over the whole store; the same ones for the same store."""
    total = int(counts.sum())
    if sample is None or sample >= total:
        return None
    chosen: dict[str, set[Cell]] = defaultdict(set)
    ends = np.cumsum(counts)
    for number in sorted(random.Random(0).sample(range(total), sample)):
        place = int(np.searchsorted(ends, number, side="right"))
        (row,) = store.table.slice(place, 1).select(["volume", "timepoints", "channels", "slices"]).to_pylist()
        shape = tuple(max(row[name] or 1, 1) for name in ("timepoints", "channels", "slices"))
        t, c, z = np.unravel_index(number - int(ends[place] - counts[place]), shape)
        chosen[row["volume"]].add((int(t), int(c), int(z)))
    return {name: frozenset(cells) for name, cells in chosen.items()}


def _tasks(
    store: Store,
    files: FileRows | None,
    roots: tuple[str, ...],
    chosen: Mapping[str, frozenset[Cell]] | None,
    digests: Mapping[str, str],
    *,
    own_sources: bool,
) -> Iterator[Task]:
    """Yield the volumes by path; the frames come in the same order, so that both are streams."""
    import pyarrow.compute as pc

    frames = _FramesOf(store.place)
    for place in pc.sort_indices(store.table["volume"]).to_pylist():
        (row,) = store.table.slice(place, 1).to_pylist()
        name = row["volume"]
        if chosen is not None and name not in chosen:
            continue
        own = frames.of(name)
        slices = tuple(slice_of(frame, files, roots) for frame in own) if files is not None and own else ()
        wanted = None if chosen is None else chosen[name]
        yield Task(str(store.place), name, row, own, slices, wanted, digests.get(name), own_sources)


class _FramesOf:
    """Rows of ``frames.parquet`` by volume, asked for in their order."""

    def __init__(self, store: Place) -> None:
        self._stream = stored_frames(store)
        self._next: tuple[str, list[Json]] | None = ("", [])
        self._known = (store / "frames.parquet").exists()

    def of(self, volume: str) -> list[Json] | None:
        """Return the rows of a volume; None where the table is not there, or cannot be read."""
        try:
            while self._known and self._next is not None and self._next[0] < volume:
                self._next = next(self._stream, None)
        except (OSError, ValueError, KeyError):
            self._known = False
        if not self._known:
            return None
        return self._next[1] if self._next is not None and self._next[0] == volume else []


# ---------------------------------------------------------------------------- one volume


def _check_volume(task: Task) -> Findings:
    """Check one volume; anything that reading it throws is a finding."""
    folder = place_of(task.root) / inside(task.volume)
    if not (folder / "zarr.json").exists():
        return Findings()  # said by the tables already
    volume = Volume(folder)
    try:
        layout = layout_of(volume)
        faults = tuple(check_volume(volume, task.volume, task.row, task.frames, task.digest))
    except Exception as error:  # noqa: BLE001 - whatever a broken document makes a reader raise is what we look for
        return Findings(mismatches=(Mismatch(task.volume, "read", None, f"cannot be opened: {error!r}"),))
    cells = frozenset(np.ndindex(layout.shape))
    if task.wanted is not None:  # the catalogue counts colour as channels, cells do not
        cells &= {(t, min(c, layout.shape[1] - 1), z) for t, c, z in task.wanted}
    found = Findings(mismatches=faults)
    sources = {one.cell: one for one in task.slices}
    witness = SliceWitness(volume, task.volume, layout, own_sources=task.own_sources)
    for block in _blocks(volume, layout, cells):
        found |= _check_block(volume, task.volume, layout, block, sources, witness)
    return found


def _blocks(volume: Volume, layout: Layout, cells: frozenset[Cell]) -> Iterator[list[Cell]]:
    """Yield cells that are read together: of one (t, c) and of whole z-chunks, as many as fit a block."""
    depth = volume.array.chunks[volume.axes.index("z")]
    cell_bytes = max(volume.array.nbytes // max(math.prod(layout.shape), 1), 1)
    run = depth * max(BLOCK_BYTES // (depth * cell_bytes), 1)
    groups: dict[Cell, list[Cell]] = defaultdict(list)
    for t, c, z in sorted(cells):
        groups[t, c, z // run].append((t, c, z))
    yield from groups.values()


def _check_block(
    volume: Volume,
    name: str,
    layout: Layout,
    cells: Sequence[Cell],
    sources: Mapping[Cell, Slice],
    witness: SliceWitness,
) -> Findings:
    first, last = cells[0][2], cells[-1][2] + 1
    t, c, _ = cells[0]
    index: list[slice | int] = [t] if layout.has_t else []
    if layout.has_c:
        index.append(slice(None) if layout.samples else c)
    try:
        block = np.asarray(volume.array[(*index, slice(first, last))])
    except Exception as error:  # noqa: BLE001 - a codec may raise anything for damaged bytes
        return Findings(mismatches=(Mismatch(name, "read", cells[0], f"cannot be read: {error!r}"),))
    stack = np.moveaxis(block, 1, 0) if layout.samples else block  # z first, then samples, y, x
    found = Findings()
    for cell in cells:
        values = np.ascontiguousarray(stack[cell[2] - first])
        found |= check_hash(volume, name, layout, cell, values)
        if cell in sources:
            found |= witness.check(sources[cell], values)
    return found
