"""Sources to a series map: find, read headers, group, answer the questions, plan, select. No pixel is decoded.

Pixels are compared only where one SOP Instance UID occurs twice, and only if that was asked for.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal

import numpy as np

from fastdcm.model import (
    Index,
    Json,
    Options,
    Reason,
    Resources,
    Tolerances,
    VolumePlan,
)
from fastdcm.run.across import OneSliceSeries, reused_uids, uid_warnings
from fastdcm.run.answers import answer_questions
from fastdcm.run.bad_images import keep_slide_labels, with_bad_images
from fastdcm.run.book import Collector, Lazy, SeriesBook, VolumeFacts
from fastdcm.run.execute import Engine, start_engine
from fastdcm.run.headers import read_index
from fastdcm.run.kept_map import EarlierMap, find_unchanged, put_together
from fastdcm.run.options import Source, check_options, source_list
from fastdcm.run.progress import Callback, Progress, silent
from fastdcm.run.records import Journal
from fastdcm.run.references import planned_holders, references_table
from fastdcm.run.regroup import Context, leave_out_bad
from fastdcm.run.select import select
from fastdcm.run.series import Names, SeriesEntry, name_series
from fastdcm.run.spool import Spool
from fastdcm.scan.references import count_objects

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True, eq=False)
class SeriesMap:
    """Everything that the headers say about the sources."""

    index: Index
    """As scanned."""
    book: SeriesBook
    facts: VolumeFacts
    table: pa.Table
    """The catalogue: one row a volume, columns ``CATALOG_COLUMNS``, in the order of ``plans``."""
    left_out: Mapping[str, Reason]
    """Volumes that the selections leave out, by path."""
    odd: frozenset[int]
    """Series with images that cannot be used, or that grouping decided about."""
    warnings: tuple[str, ...] = ()

    @property
    def names(self) -> Names:
        """Names that depend on all series together."""
        return self.book.names

    @property
    def series(self) -> Sequence[SeriesEntry]:
        """All series; each is worked out when it is asked for."""
        return Lazy(len(self.book), self.book.__getitem__)

    @property
    def plans(self) -> Sequence[VolumePlan]:
        """All volumes, selected or not; each is worked out when it is asked for."""
        return Lazy(len(self.facts.series), self._plan)

    @cached_property
    def objects(self) -> dict[str, int]:
        """Files that are no image, by the name of their class, the most frequent first."""
        return count_objects(self.index, images=False)

    @cached_property
    def references(self) -> pa.Table:
        """What reports, structure sets, segmentations and the like are about: read when it is first asked for.

        One row for each object, series that it refers to, and volume of that series; docs/store.md has the columns.
        """
        facts = self.facts
        holders = planned_holders(self.index, self.table["volume"], facts.starts, facts.files)
        return references_table(self.index, holders)

    def _plan(self, row: int) -> VolumePlan:
        return self.book[int(self.facts.series[row])].plans[self.facts.place(row)]

    def row_of(self, plan: VolumePlan) -> Json | None:
        """Return the row of one of ``plans``; None for a plan that was made later."""
        import pyarrow.compute as pc

        row = pc.index(self.table["volume"], plan.path).as_py()
        if row < 0 or self.facts.digest(row) != plan.digest or self.table["dtype"][row].as_py() != plan.array.dtype:
            return None
        found: Json = self.table.slice(row, 1).to_pylist()[0]
        return found


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
    cluster: Literal["slurm"] | None = None,
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
    on_gap, on_bad_frame, workers, threads, memory, scheduler, cluster, tolerances, progress
        As in ``fastdcm.convert``.

    Returns
    -------
    SeriesMap
        ``table`` is an Arrow table with one row a volume.

    Raises
    ------
    UsageError
        There is no file at all, or ``where`` is not usable.

    Examples
    --------
    >>> found = scan("export")
    >>> sorted(zip(found.table["description"].to_pylist(), found.table["slices"].to_pylist()))[:2]
    [('1.25mm Lung', 26), ('1.25mm Stnd', 26)]
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
    resources = Resources(workers=workers, threads=threads, memory_bytes=memory, scheduler=scheduler, cluster=cluster)
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
    with start_engine(resources, progress or silent) as engine:
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
    index = read_index(engine, sources, ignore, progress)
    return map_index(engine, index, options, ask=ask, journal=journal, progress=progress)


def map_index(
    engine: Engine,
    index: Index,
    options: Options,
    *,
    ask: bool = False,
    journal: Journal | None = None,
    earlier: EarlierMap | None = None,
    spool: Spool | None = None,
    progress: Callback = silent,
) -> SeriesMap:
    """Group and plan what is in an index, a batch of series after the other; the rest as in ``survey_on``.

    Series that did not change since the ``earlier`` map are not grouped again: it says what they are. Series that are
    held no longer go to the ``spool``, if there is one, until they are asked for.
    """
    from fastdcm.series.frames import SeriesFrames

    if options.metadata == "full":
        index = keep_slide_labels(index)
    usable, faults = with_bad_images(index)
    progress(Progress("group", files=index.instances.num_rows))
    frames = SeriesFrames(usable)
    names, reused = name_series(usable, journal), reused_uids(usable, frames)
    book = SeriesBook(frames, faults, options, names, reused, index, spool=spool)
    context = Context(options, book.names, index, engine if ask else None)
    known = journal.bad if journal else {}
    unchanged = find_unchanged(earlier, book, known)
    volumes, alike, odd = Collector(), OneSliceSeries(), set()
    for batch in frames.batches():
        numbers = [number for number in batch if unchanged is None or number not in unchanged.series]
        grouped = [book.group(number) for number in numbers]
        if ask:
            grouped = _answered(engine, book, numbers, grouped)
        for number, entry in zip(numbers, grouped, strict=True):
            planned = book.plan(entry)
            found = leave_out_bad(planned, context, known)
            if found is planned:
                book.remember(number, found)
            else:
                book[number] = found
            volumes.add(number, found.plans)
            alike.add(number, found)
            if found.bad or found.grouping.decided:
                odd.add(number)
        volumes.settle()
    flags = alike.reasons()
    book.flag(flags)
    table, facts = put_together(unchanged, volumes.table(), volumes.facts())
    table = _with_reasons(table, facts, flags)
    left_out = {table["volume"][row].as_py(): reason for row, reason in select(table, options).items()}
    warnings = (*_selection_warnings(table.num_rows, left_out, options), *uid_warnings(table, left_out))
    return SeriesMap(index, book, facts, table, left_out, frozenset(odd), warnings)


def _answered(
    engine: Engine, book: SeriesBook, numbers: Sequence[int], grouped: list[SeriesEntry]
) -> list[SeriesEntry]:
    """Compare the pixels that grouping asks about, and note what was found."""
    if not any(entry.grouping.questions for entry in grouped):
        return grouped
    answered = answer_questions(engine, grouped, book.options, book.index)
    for number, before, after in zip(numbers, grouped, answered, strict=True):
        if after is not before:
            book.tell(number, after)
    return answered


def _with_reasons(table: pa.Table, facts: VolumeFacts, flags: Mapping[int, Reason]) -> pa.Table:
    """Add to the catalogue what only all series together showed."""
    import pyarrow as pa

    if not flags:
        return table
    texts = table["reasons"].to_pylist()
    for row in np.flatnonzero(np.isin(facts.series, list(flags))).tolist():
        code = flags[int(facts.series[row])].code.value
        texts[row] = f"{texts[row]};{code}" if texts[row] else code
    place = table.schema.get_field_index("reasons")
    return table.set_column(place, table.schema.field(place), pa.array(texts, pa.string()))


def _selection_warnings(volumes: int, left_out: Mapping[str, Reason], options: Options) -> Iterator[str]:
    chosen = options.where is not None or options.image_type is not None
    if chosen and volumes and len(left_out) == volumes:
        yield f"the selection leaves out {'the only volume' if volumes == 1 else f'all {volumes} volumes'}"
