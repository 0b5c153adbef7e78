"""Sources to a series map: find, read headers, group, answer the questions, plan, select. No pixel is decoded.

Pixels are compared only where one SOP Instance UID occurs twice, and only if that was asked for.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

from fastdcm.errors import Code, Outcome, UsageError
from fastdcm.model import (
    Answer,
    Floats,
    Frames,
    FrameSource,
    Grouping,
    Index,
    Options,
    Question,
    Reason,
    Resources,
    Tolerances,
    ValueRule,
    Volume,
    VolumePlan,
)
from fastdcm.run.execute import Engine, map_tasks, start_engine
from fastdcm.run.progress import Callback, Progress, silent
from fastdcm.run.records import FrameNote, Journal, Record, StoredFrame
from fastdcm.run.select import select

if TYPE_CHECKING:
    import pyarrow as pa

    from fastdcm.scan.find import FoundFile

    Headers = tuple[pa.Table, pa.Table]

FIRST_BATCH = 64
LARGEST_BATCH = 1024
"""Files of one header task: small at first, so that small exports keep all workers busy."""
ONE_SLICE_SERIES = 3
"""Single-slice series that look like one are reported from this many on (behaviour.md, trap 20)."""
BAD_BY_HEADER = (Code.TRUNCATED, Code.UNSUPPORTED_SYNTAX)
"""Failures of the scan that leave a hole where the image belongs: it takes part in grouping, as a bad frame."""

Bad = Mapping[int, FrameNote]
"""Rows of a series' frames that cannot be used."""


@dataclass(frozen=True, slots=True, eq=False)
class SeriesEntry:
    """One patient + study + series: its frames, what they became, and the plans of its volumes."""

    frames: Frames
    grouping: Grouping
    answers: tuple[Answer, ...]
    bad: Bad
    """By row of ``frames``."""
    plans: tuple[VolumePlan, ...] = ()
    """One a volume of the grouping, in its order."""


class Names(NamedTuple):
    """Names that depend on all series together, or on what is published."""

    studies: Mapping[tuple[str | None, str | None], str]
    patients: Mapping[str | None, str]
    published: Mapping[str, Sequence[tuple[int, frozenset[FrameKey]]]]
    """By ``<study>/<series>``: numbers given before, with the frames that have them."""


FrameKey = tuple[str | None, int, int]
"""(SOP Instance UID, frame, tile): a frame wherever its file lies."""


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
    warnings: tuple[str, ...] = ()

    @property
    def plans(self) -> tuple[VolumePlan, ...]:
        """All volumes, selected or not."""
        return tuple(plan for entry in self.series for plan in entry.plans)


def scan(  # noqa: PLR0913 - one keyword an option of the command line
    sources: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    *,
    where: str | None = None,
    on_gap: Literal["irregular", "fill", "split", "fail"] = "irregular",
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
    on_gap, workers, threads, memory, scheduler, tolerances, progress
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
    roots = [sources] if isinstance(sources, str | os.PathLike) else list(sources)
    options = Options(where=where, on_gap=on_gap, tolerances=tolerances or Tolerances())
    resources = Resources(workers=workers, threads=threads, memory_bytes=memory, scheduler=scheduler)
    return survey([os.fspath(root) for root in roots], options, resources, progress)


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
    entries = [_group(frames, options, (), _bad_rows(frames, faults)) for frames in iter_series(usable)]
    if ask:
        entries = answer_questions(engine, entries, options, index)
    names = _names(usable, journal)
    reused = _reused_uids(usable)
    entries = [_plan(_flag_reused(entry, reused), options, names, index) for entry in entries]
    entries = _leave_out_bad(entries, options, names, index, journal)
    entries = _flag_one_slice_series(entries)
    table = catalog_table([catalog_row(plan, index) for entry in entries for plan in entry.plans])
    paths = [plan.path for entry in entries for plan in entry.plans]
    left_out = {paths[row]: reason for row, reason in select(table, options).items()}
    return SeriesMap(index, tuple(entries), table, left_out, names, tuple(_warnings(paths, left_out, options)))


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
    batches = _batches(_without(find_files(roots), roots, ignore))
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
    from fastdcm.scan.reference import quiet_pydicom

    quiet_pydicom()  # loads it whole: a part of it that two threads load at once fails in one of them
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


def _batches(files: Iterable[FoundFile]) -> Iterator[list[FoundFile]]:
    stream, size = iter(files), FIRST_BATCH
    while batch := list(islice(stream, size)):
        yield batch
        size = min(2 * size, LARGEST_BATCH)


# ---------------------------------------------------------------------------- bad images, answers


def _with_bad_images(index: Index) -> tuple[Index, Mapping[int, FrameNote]]:
    """Return the index with the images that failed by their header as images, and what is wrong with each."""
    import pyarrow as pa

    columns = {name: index.instances[name].to_pylist() for name in ("outcome", "code", "message", "sop_instance_uid")}
    faults = {}
    outcomes: list[str | None] = columns["outcome"]
    for row, (outcome, code, message, uid) in enumerate(zip(*columns.values(), strict=True)):
        if outcome == Outcome.FAILED and code in BAD_BY_HEADER:
            faults[row] = FrameNote(uid, 0, -1, code, message or "")
            outcomes[row] = None
    if not faults:
        return index, faults
    place = index.instances.schema.get_field_index("outcome")
    kind = index.instances.schema.field("outcome").type
    column = pa.array(outcomes, pa.string()).cast(kind)
    return replace(index, instances=index.instances.set_column(place, "outcome", column)), faults


def _bad_rows(frames: Frames, faults: Mapping[int, FrameNote]) -> Bad:
    if not faults:
        return {}
    return {row: faults[file] for row, file in enumerate(frames.instance.tolist()) if file in faults}


def _group(frames: Frames, options: Options, answers: tuple[Answer, ...], bad: Bad) -> SeriesEntry:
    from fastdcm.series.group import group

    return SeriesEntry(frames, group(frames, options, answers, _spare(frames, bad)), answers, bad)


def _spare(frames: Frames, bad: Bad) -> frozenset[int]:
    """Return the bad rows that have a good copy: their file is lost, the image is not."""
    if not bad:
        return frozenset()
    keys = frame_keys(frames, range(len(frames)))
    good = {key for row, key in enumerate(keys) if row not in bad}
    return frozenset(row for row in bad if keys[row] in good)


def _gap_policy(options: Options, bad: Bad) -> Options:
    """``fill`` treats a bad frame as a missing slice that is filled, in the series that has one."""
    return replace(options, on_gap="fill") if bad and options.on_bad_frame == "fill" else options


class _Pair(NamedTuple):
    entry: int
    question: Question
    sources: tuple[FrameSource, FrameSource]


def answer_questions(
    engine: Engine, entries: Sequence[SeriesEntry], options: Options, index: Index
) -> list[SeriesEntry]:
    """Compare the pixels that grouping asks about, and group again with the answers, until nothing is asked."""
    found = list(entries)
    while pairs := list(_pairs(found, index)):
        answers: dict[int, set[Answer]] = defaultdict(set)
        faults: dict[int, dict[int, FrameNote]] = defaultdict(dict)
        for pair, result in map_tasks(_compare, pairs, engine):
            comparison = _Comparison(False, (None, None)) if isinstance(result, Exception) else result
            answers[pair.entry].add(Answer(*pair.question, same_pixels=comparison.same))
            for row, fault in zip(pair.question, comparison.faults, strict=True):
                if fault is not None:
                    (key,) = frame_keys(found[pair.entry].frames, [row])
                    faults[pair.entry][row] = FrameNote(*key, *map(str, fault))
        for number, new in answers.items():
            entry = found[number]
            known = tuple(sorted({*entry.answers, *new}))
            found[number] = _group(entry.frames, options, known, {**entry.bad, **faults[number]})
            if set(found[number].grouping.questions) & {Question(*answer[:2]) for answer in known}:
                raise RuntimeError("grouping asks again what was answered")
    return found


def _pairs(entries: Sequence[SeriesEntry], index: Index) -> Iterator[_Pair]:
    from fastdcm.series.plan import frame_sources

    for number, entry in enumerate(entries):
        for question in entry.grouping.questions:
            rows = entry.frames.take(np.array([question.first, question.second]))
            first, second = frame_sources(rows, _PLAIN, index)
            yield _Pair(number, question, (first, second))


class _Comparison(NamedTuple):
    same: bool
    faults: tuple[tuple[Code, str] | None, tuple[Code, str] | None]
    """Of each frame, why it cannot be decoded: a copy that is broken contradicts nothing."""


def _compare(pair: _Pair) -> _Comparison:
    from fastdcm.pixels.read import find_fault, same_pixels
    from fastdcm.scan.reference import quiet_pydicom

    quiet_pydicom()
    if same_pixels(*pair.sources):
        return _Comparison(True, (None, None))
    first, second = pair.sources
    return _Comparison(False, (find_fault(first), find_fault(second)))


_PLAIN = ValueRule("stored", "float64", None, 1, "", "", False, None, None, None, 0.0, False, False)
"""Comparing needs to know where frames are, not what their values mean."""


# ---------------------------------------------------------------------------- plans


def _names(index: Index, journal: Journal | None) -> Names:
    from fastdcm.series.catalog import patient_keys, study_names

    patients = patient_keys(index, journal.patients if journal else None)
    return Names(study_names(index), patients, _published(journal.volumes if journal else {}))


def _published(records: Mapping[str, Record]) -> dict[str, Sequence[tuple[int, frozenset[FrameKey]]]]:
    published: dict[str, list[tuple[int, frozenset[FrameKey]]]] = defaultdict(list)
    for path, record in records.items():
        series, _, name = path.rpartition("/")
        published[series].append((int(name.partition(".")[0]), frozenset(map(_stored_key, record.frames))))
    return dict(published)


def _stored_key(frame: StoredFrame) -> FrameKey:
    return frame.sop_instance_uid, frame.frame, -1 if frame.tile is None else frame.tile


def frame_keys(frames: Frames, rows: Iterable[int]) -> list[FrameKey]:
    """Return what names each of the given rows wherever its file lies."""
    uids = frames.texts["sop_instance_uid"]
    return [(uids[row], int(frames.frame[row]), int(frames.tile[row])) for row in rows]


def _plan(entry: SeriesEntry, options: Options, names: Names, index: Index) -> SeriesEntry:
    """Plan the volumes of a series under the numbers that they have or get."""
    from fastdcm.series.names import safe_uid, volume_path
    from fastdcm.series.plan import plan_volume

    if not entry.grouping.volumes:
        return replace(entry, plans=())
    texts = entry.frames.texts
    patient, study, series = (texts[name][0] for name in ("patient_id", "study_uid", "series_uid"))
    folder = names.studies[patient, study]
    published = names.published.get(f"{folder}/{safe_uid(series)}", ())
    numbers = assign_numbers([_keys_of(entry.frames, volume) for volume in entry.grouping.volumes], published)
    options = _gap_policy(options, entry.bad)
    plans = tuple(
        plan_volume(entry.frames, volume, volume_path(folder, series, n), names.patients[patient], options, index)
        for volume, n in zip(entry.grouping.volumes, numbers, strict=True)
    )
    return replace(entry, plans=plans)


def _keys_of(frames: Frames, volume: Volume) -> frozenset[FrameKey]:
    return frozenset(frame_keys(frames, volume.cells[volume.cells >= 0].tolist()))


def assign_numbers(
    volumes: Sequence[frozenset[FrameKey]], known: Sequence[tuple[int, frozenset[FrameKey]]]
) -> list[int]:
    """Give each volume its number: that of the known one it shares most frames with, else the next free one.

    Parameters
    ----------
    volumes : sequence of frozenset
        Frames of each volume, in the order in which new numbers are given.
    known : sequence of (number, frozenset)
        Numbers that were given before; none is given to another volume.

    Returns
    -------
    list of int
        One a volume, all different.
    """
    shared = sorted(
        (-len(frames & held), number, place)
        for place, frames in enumerate(volumes)
        for number, held in known
        if frames & held
    )
    given: dict[int, int] = {}
    for _, number, place in shared:
        if place not in given and number not in given.values():
            given[place] = number
    taken = {number for number, _ in known}
    free = (number for number in range(len(volumes) + len(taken)) if number not in taken)
    return [given[place] if place in given else next(free) for place in range(len(volumes))]


def regroup(
    entry: SeriesEntry, bad: Bad, options: Options, series_map: SeriesMap, records: Mapping[str, Record]
) -> SeriesEntry:
    """Group and plan a series again without frames that cannot be used; volumes keep the numbers they had.

    Parameters
    ----------
    entry : SeriesEntry
        As it was planned.
    bad : mapping of int to FrameNote
        Further rows of its frames to leave out.
    options : Options
        With ``on_bad_frame`` drop or fill.
    series_map : SeriesMap
        That the series is of.
    records : mapping of str to Record
        What is published now.

    Returns
    -------
    SeriesEntry
        Volumes that lost frames are flagged.
    """
    names = series_map.names._replace(published=_published(records))
    return _regroup(entry, bad, options, names, series_map.index)


def _regroup(entry: SeriesEntry, bad: Bad, options: Options, names: Names, index: Index) -> SeriesEntry:
    from fastdcm.series.group import group

    all_bad = {**entry.bad, **bad}
    grouping = group(entry.frames, _gap_policy(options, all_bad), entry.answers, frozenset(all_bad))
    volumes = tuple(_inherit(volume, entry, all_bad, options) for volume in grouping.volumes)
    after = SeriesEntry(entry.frames, replace(grouping, volumes=volumes), entry.answers, all_bad)
    if not entry.plans:
        return after
    series = entry.plans[0].path.rpartition("/")[0]
    numbers = {**dict(names.published.get(series, ())), **dict(_numbers_of(entry))}
    return _plan(after, options, names._replace(published={**names.published, series: tuple(numbers.items())}), index)


def _inherit(volume: Volume, entry: SeriesEntry, bad: Bad, options: Options) -> Volume:
    """Keep the reasons that grouping alone does not find, and flag what lost frames."""
    rows = set(volume.cells[volume.cells >= 0].tolist())
    kept: dict[Reason, None] = {}
    lost = False
    for before in entry.grouping.volumes:
        held = set(before.cells[before.cells >= 0].tolist())
        if rows & held:
            kept |= dict.fromkeys(reason for reason in before.reasons if reason.code in _NOT_BY_GROUPING)
            lost |= bool(held & bad.keys()) or any(reason.code in _LOST for reason in before.reasons)
    if lost:
        code = Code.FRAMES_FILLED if options.on_bad_frame == "fill" else Code.FRAMES_DROPPED
        kept[Reason(code, f"{len(bad)} frames of the series cannot be read; they count as missing slices")] = None
    return replace(volume, reasons=(*volume.reasons, *kept))


def _numbers_of(entry: SeriesEntry) -> list[tuple[int, frozenset[FrameKey]]]:
    numbers = [int(plan.path.rpartition("/")[2].partition(".")[0]) for plan in entry.plans]
    return [(n, _keys_of(entry.frames, volume)) for n, volume in zip(numbers, entry.grouping.volumes, strict=True)]


def _leave_out_bad(
    entries: list[SeriesEntry], options: Options, names: Names, index: Index, journal: Journal | None
) -> list[SeriesEntry]:
    """Leave out what the headers show to be bad, and what an earlier run found when it decoded the same frames."""
    if options.on_bad_frame == "fail":
        return entries
    known = journal.bad if journal else {}
    return [_without_bad(entry, options, names, index, known) for entry in entries]


def _without_bad(
    entry: SeriesEntry, options: Options, names: Names, index: Index, known: Mapping[str, Sequence[FrameNote]]
) -> SeriesEntry:
    if entry.bad:
        entry = _regroup(entry, {}, options, names, index)
    while notes := {tuple(note[:3]): note for plan in entry.plans for note in known.get(plan.digest, ())}:
        keys = frame_keys(entry.frames, range(len(entry.frames)))
        bad = {row: notes[key] for row, key in enumerate(keys) if key in notes and row not in entry.bad}
        if not bad:
            break
        entry = _regroup(entry, bad, options, names, index)
    return entry


# ---------------------------------------------------------------------------- what only all series together show

_LOST = (Code.FRAMES_DROPPED, Code.FRAMES_FILLED)
_NOT_BY_GROUPING = (Code.UID_REUSED, Code.ONE_SLICE_SERIES)


def _reused_uids(index: Index) -> frozenset[str]:
    """Return the SOP Instance UIDs that images of two series have."""
    import pyarrow.compute as pc

    images = index.instances.filter(pc.is_null(index.instances["outcome"]))
    names = ["sop_instance_uid", "patient_id", "study_uid", "series_uid"]
    table = images.select(names)
    for place, name in enumerate(names):
        table = table.set_column(place, name, table[name].cast("string"))
    series = table.group_by(names).aggregate([]).group_by("sop_instance_uid").aggregate([([], "count_all")])
    twice = series.filter(pc.greater(series["count_all"], 1))["sop_instance_uid"].to_pylist()
    return frozenset(uid for uid in twice if uid)


def _flag_reused(entry: SeriesEntry, reused: frozenset[str]) -> SeriesEntry:
    if not reused:
        return entry
    uids = entry.frames.texts["sop_instance_uid"]

    def reason_of(volume: Volume) -> tuple[Reason, ...]:
        count = len({uids[row] for row in volume.cells[volume.cells >= 0].tolist()} & reused)
        text = f"{count} of its SOP Instance UIDs stand in another series too; both are converted"
        return (Reason(Code.UID_REUSED, text),) if count else ()

    volumes = tuple(replace(v, reasons=(*v.reasons, *reason_of(v))) for v in entry.grouping.volumes)
    return replace(entry, grouping=replace(entry.grouping, volumes=volumes))


def _flag(entry: SeriesEntry, reasons: tuple[Reason, ...]) -> SeriesEntry:
    """Add reasons to every volume and plan of a series."""
    if not reasons:
        return entry
    volumes = tuple(replace(v, reasons=(*v.reasons, *reasons)) for v in entry.grouping.volumes)
    plans = tuple(
        replace(p, reasons=(*p.reasons, *reasons), volume=replace(p.volume, reasons=(*p.volume.reasons, *reasons)))
        for p in entry.plans
    )
    return replace(entry, grouping=replace(entry.grouping, volumes=volumes), plans=plans)


def _flag_one_slice_series(entries: list[SeriesEntry]) -> list[SeriesEntry]:
    """Report single-slice series that look like one series that an anonymiser took apart; nothing is merged."""
    alike: dict[tuple[object, ...], list[int]] = defaultdict(list)
    for number, entry in enumerate(entries):
        look = _single_slice_look(entry)
        if look is not None:
            alike[look].append(number)
    for numbers in alike.values():
        places = {tuple(np.round(_position(entries[number]), 2).tolist()) for number in numbers}
        if len(places) >= ONE_SLICE_SERIES:
            text = f"{len(numbers)} single-slice series of this study look like one; they are not merged"
            for number in numbers:
                entries[number] = _flag(entries[number], (Reason(Code.ONE_SLICE_SERIES, text),))
    return entries


def _single_slice_look(entry: SeriesEntry) -> tuple[object, ...] | None:
    """Return what makes single-slice series look alike; None where the series is no single slice with a place."""
    frames = entry.frames
    if len(frames) != 1 or not entry.plans or not entry.plans[0].volume.geometry.has_position:
        return None
    if entry.plans[0].volume.kind == "localizer":
        return None
    texts = (frames.texts[name][0] for name in ("patient_id", "study_uid", "modality", "description", "image_type"))
    directions = frames.vectors("row_x", "row_y", "row_z", "column_x", "column_y", "column_z")[0]
    matrix = frames.vectors("rows", "columns")[0]
    return (*texts, *np.round(directions, 3).tolist(), *matrix.tolist())


def _position(entry: SeriesEntry) -> Floats:
    position: Floats = entry.frames.vectors("position_x", "position_y", "position_z")[0]
    return position


def _warnings(paths: Sequence[str], left_out: Mapping[str, Reason], options: Options) -> Iterator[str]:
    chosen = options.where is not None or options.image_type is not None
    if chosen and paths and len(left_out) == len(paths):
        yield f"the selection leaves out all {len(paths)} volumes"
