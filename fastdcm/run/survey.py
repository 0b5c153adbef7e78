"""Sources to a series map: find, read headers, group, answer the questions, plan, select. No pixel is decoded.

Pixels are compared only where one SOP Instance UID occurs twice, and only if that was asked for.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING, Literal

import numpy as np

from fastdcm.errors import Code, Outcome, UsageError
from fastdcm.model import (
    Frames,
    Index,
    Json,
    Options,
    Reason,
    Resources,
    Tolerances,
    VolumePlan,
)
from fastdcm.run.across import flag_one_slice_series, flag_reused, reused_uids, uid_warnings
from fastdcm.run.answers import answer_questions
from fastdcm.run.execute import Engine, map_tasks, start_engine
from fastdcm.run.options import Source, check_options, source_list
from fastdcm.run.progress import Callback, Progress, silent
from fastdcm.run.records import FrameNote, Journal
from fastdcm.run.regroup import Context, leave_out_bad
from fastdcm.run.select import select
from fastdcm.run.series import Bad, Names, SeriesEntry, group_series, name_series, plan_series

if TYPE_CHECKING:
    import pyarrow as pa

    from fastdcm.scan.find import FoundFile

    Headers = tuple[pa.Table, pa.Table]

SMALLEST_BATCH, LARGEST_BATCH = 256, 4096
"""Files of one header task; a task costs some ms whatever it holds, so they grow with what was found before."""
BAD_BY_HEADER = (Code.TRUNCATED, Code.UNSUPPORTED_SYNTAX)
"""Failures of the scan that leave a hole where the image belongs: it takes part in grouping, as a bad frame.
A file that ends before its pixel element is no image: its outcome is final."""


@dataclass(frozen=True, slots=True, eq=False)
class SeriesMap:
    """Everything that the headers say about the sources."""

    index: Index
    """As scanned."""
    series: tuple[SeriesEntry, ...]
    table: pa.Table
    """The catalogue: one row a volume, columns ``CATALOG_COLUMNS``, in the order of ``plans``."""
    left_out: Mapping[str, Reason]
    """Volumes that the selections leave out, by path."""
    names: Names
    places: Mapping[str, tuple[VolumePlan, int]]
    """Each volume's plan and row, by path."""
    warnings: tuple[str, ...] = ()

    @property
    def plans(self) -> tuple[VolumePlan, ...]:
        """All volumes, selected or not."""
        return tuple(plan for entry in self.series for plan in entry.plans)

    def row_of(self, plan: VolumePlan) -> Json | None:
        """Return the row of one of ``plans``; None for a plan that was made later."""
        place = self.places.get(plan.path)
        if place is None or place[0] is not plan:
            return None
        return {name: self.table[name][place[1]].as_py() for name in self.table.column_names}


def scan(  # noqa: PLR0913 - one keyword an option of the command line
    sources: Source | Sequence[Source],
    *,
    where: str | None = None,
    image_type: str | None = None,
    no_localizers: bool = False,
    no_derived: bool = False,
    on_gap: Literal["irregular", "fill", "split", "fail"] = "irregular",
    on_bad_frame: Literal["fail", "drop", "fill"] = "fail",
    workers: int | None = None,
    threads: int = 1,
    memory: int | None = None,
    scheduler: str = "local",
    tolerances: Tolerances | None = None,
    progress: Callback | None = None,
) -> SeriesMap:
    """Read the headers of DICOM files, and tell what volumes they are; no pixel is read.

    Parameters
    ----------
    sources : path or sequence of path
        Files and folders; folders are walked.
    where : str, optional
        SQL expression over the columns of the table; ``SeriesMap.left_out`` names the volumes for which it is not true.
    image_type, no_localizers, no_derived
        Further selections, as in ``fastdcm.convert``.
    on_gap, on_bad_frame, workers, threads, memory, scheduler, tolerances, progress
        As in ``fastdcm.convert``.

    Returns
    -------
    SeriesMap
        ``table`` is an Arrow table with one row a volume.

    Raises
    ------
    UsageError
        There is no file at all, or ``where`` is not usable.
    """
    options = Options(
        where=where,
        image_type=image_type,
        localizers=not no_localizers,
        derived=not no_derived,
        on_gap=on_gap,
        on_bad_frame=on_bad_frame,
        tolerances=tolerances or Tolerances(),
    )
    resources = Resources(workers=workers, threads=threads, memory_bytes=memory, scheduler=scheduler)
    check_options(options, resources)
    return survey(source_list(sources), options, resources, progress)


def survey(
    sources: Sequence[str], options: Options, resources: Resources, progress: Callback | None = None
) -> SeriesMap:
    """Read the headers of all files below the sources, and plan their volumes.

    Parameters
    ----------
    sources : sequence of str
        Files or folders.
    options : Options
        Everything that decides the volumes.
    resources : Resources
        What may be used.
    progress : callable, optional
        Called with ``Progress``.

    Returns
    -------
    SeriesMap
        Frames whose pixels would have to be compared stand as ``undecided``.

    Raises
    ------
    UsageError
        There is no file at all, or ``options.where`` is not usable.
    """
    with start_engine(resources) as engine:
        return survey_on(engine, sources, options, progress=progress or silent)


def survey_on(
    engine: Engine,
    sources: Sequence[str],
    options: Options,
    *,
    ask: bool = False,
    journal: Journal | None = None,
    ignore: Sequence[str | os.PathLike[str]] = (),
    progress: Callback = silent,
) -> SeriesMap:
    """Do what ``survey`` does on a running engine.

    ``ask`` compares pixels, ``journal`` keeps published numbers and names, ``ignore`` are folders that are no input.
    """
    from fastdcm.series.catalog import catalog_row, catalog_table
    from fastdcm.series.frames import iter_series

    index = read_index(engine, sources, ignore, progress)
    usable, faults = _with_bad_images(index)
    progress(Progress("group", files=index.instances.num_rows))
    entries = [group_series(frames, options, (), _bad_rows(frames, faults)) for frames in iter_series(usable)]
    if ask:
        entries = answer_questions(engine, entries, options, index)
    names = name_series(usable, journal)
    reused = reused_uids(usable)
    entries = [plan_series(flag_reused(entry, reused), options, names, index) for entry in entries]
    entries = leave_out_bad(entries, Context(options, names, index, engine if ask else None), journal)
    entries = flag_one_slice_series(entries)
    plans = [plan for entry in entries for plan in entry.plans]
    table = catalog_table([catalog_row(plan) for plan in plans])
    paths = [plan.path for plan in plans]
    places = {plan.path: (plan, row) for row, plan in enumerate(plans)}
    left_out = {paths[row]: reason for row, reason in select(table, options).items()}
    warnings = (*_selection_warnings(paths, left_out, options), *uid_warnings(plans, left_out))
    return SeriesMap(index, tuple(entries), table, left_out, names, places, warnings)


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
    from fastdcm.scan.find import find_files
    from fastdcm.scan.index import build_index

    roots = tuple(os.path.abspath(os.fspath(source)) for source in sources)
    missing = [repr(os.fspath(source)) for source in sources if not os.path.lexists(source)]
    if missing or not roots:
        raise UsageError(f"no such file or folder: {', '.join(missing)}" if missing else "no source given")
    tables, crashed, done = [], [], 0
    batches = _batches(_without(find_files(roots), roots, ignore), engine.workers)
    for (_, batch), result in map_tasks(_read_batch, ((roots, batch) for batch in batches), engine):
        if isinstance(result, Exception):
            crashed += batch
        else:
            tables.append(result)
        done += len(batch)
        progress(Progress("scan", files=done))
    if not done:
        raise UsageError("the sources hold no file at all")
    return build_index(roots, [*tables, *_read_singly(engine, roots, crashed)])


def _read_singly(engine: Engine, roots: tuple[str, ...], files: Sequence[FoundFile]) -> Iterator[Headers]:
    """Read again the files of a batch that crashed: only the one to blame is lost, and it has a row that says so."""
    from fastdcm.scan.find import Fault
    from fastdcm.scan.header import read_headers

    for (_, (file,)), result in map_tasks(_read_batch, ((roots, [file]) for file in files), engine):
        if isinstance(result, Exception):
            message = f"{type(result).__name__} while its header was read: please report this fault of fastdcm"
            yield read_headers(roots, [file._replace(error=Fault(Outcome.FAILED, Code.INTERNAL, message))])
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
        if os.path.commonpath([root, os.path.abspath(folder)]) == root
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
    while batch := list(islice(stream, min(max(found // (2 * workers), SMALLEST_BATCH), LARGEST_BATCH))):
        yield batch
        found += len(batch)


def _with_bad_images(index: Index) -> tuple[Index, Mapping[int, FrameNote]]:
    """Return the index with the images that failed by their header as images, and what is wrong with each."""
    import pyarrow as pa
    import pyarrow.compute as pc

    failed = np.flatnonzero(pc.equal(index.instances["outcome"], str(Outcome.FAILED)).fill_null(False).to_numpy())
    names = ("code", "message", "sop_instance_uid", "pixel_keyword")
    found = index.instances.select(names).take(failed).to_pylist() if len(failed) else []
    faults = {
        row: FrameNote(one["sop_instance_uid"], 0, -1, one["code"], one["message"] or "")
        for row, one in zip(failed.tolist(), found, strict=True)
        if one["code"] in BAD_BY_HEADER and one["pixel_keyword"] is not None
    }
    if not faults:
        return index, faults
    outcomes: list[str | None] = index.instances["outcome"].to_pylist()
    for row in faults:
        outcomes[row] = None
    place = index.instances.schema.get_field_index("outcome")
    kind = index.instances.schema.field("outcome").type
    column = pa.array(outcomes, pa.string()).cast(kind)
    return replace(index, instances=index.instances.set_column(place, "outcome", column)), faults


def _bad_rows(frames: Frames, faults: Mapping[int, FrameNote]) -> Bad:
    if not faults:
        return {}
    return {row: faults[file] for row, file in enumerate(frames.instance.tolist()) if file in faults}


def _selection_warnings(paths: Sequence[str], left_out: Mapping[str, Reason], options: Options) -> Iterator[str]:
    chosen = options.where is not None or options.image_type is not None
    if chosen and paths and len(left_out) == len(paths):
        yield f"the selection leaves out all {len(paths)} volumes"
