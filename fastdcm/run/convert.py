"""The main job: survey, plan, write, publish, account for every file."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Literal

import numpy as np

from fastdcm.errors import Code
from fastdcm.model import Index, Options, Resources, Tolerances, VolumePlan
from fastdcm.run.account import (
    Planned,
    Run,
    State,
    keep_journal,
    make_report,
    named_patients,
    refusals_of,
    settle,
    stored_columns,
    write_account,
)
from fastdcm.run.execute import Engine, fit_memory, start_engine
from fastdcm.run.options import Source, check_options, source_list
from fastdcm.run.progress import Callback, Progress, silent
from fastdcm.run.records import (
    FrameNote,
    Journal,
    Record,
    append_bad,
    append_patients,
    load_journal,
)
from fastdcm.run.regroup import Context, regroup
from fastdcm.run.report import Report
from fastdcm.run.series import Bad, SeriesEntry, with_published
from fastdcm.run.survey import survey_on
from fastdcm.run.target import Publisher, check_target, hold_target
from fastdcm.run.write import Built, Writer


def convert(  # noqa: PLR0913 - one keyword an option of the command line
    sources: Source | Sequence[Source],
    dest: Source,
    *,
    where: str | None = None,
    image_type: str | None = None,
    no_localizers: bool = False,
    no_derived: bool = False,
    values: Literal["modality", "stored"] = "modality",
    codec: str = "zstd",
    chunks: tuple[int, ...] | None = None,
    shard: int | None = None,
    workers: int | None = None,
    threads: int = 1,
    memory: int | None = None,
    scheduler: str = "local",
    on_gap: Literal["irregular", "fill", "split", "fail"] = "irregular",
    on_bad_frame: Literal["fail", "drop", "fill"] = "fail",
    on_conflict: Literal["quarantine", "newest"] = "quarantine",
    metadata: Literal["technical", "full", "none"] = "technical",
    invert_monochrome1: bool = False,
    overwrite: bool = False,
    no_resume: bool = False,
    dry_run: bool = False,
    work: Source | None = None,
    tolerances: Tolerances | None = None,
    progress: Callback | None = None,
) -> Report:
    """Convert DICOM files into a store of volumes.

    Parameters
    ----------
    sources : path or sequence of path
        Files and folders; folders are walked.
    dest : path
        Of the store: absent, empty, or a store of an earlier run, which is brought up to date.
    where : str, optional
        SQL expression over the columns of the catalogue; volumes for which it is not true are left out.
    image_type : str, optional
        First components that the Image Type must have, ``ORIGINAL/PRIMARY``.
    no_localizers, no_derived : bool
        Leave out localizers; leave out derived images.
    values : {"modality", "stored"}
        Modality values (PS3.3 C.11.1), or stored integers with the transform in the metadata.
    codec : str
        ``zstd``, ``lz4``, ``none`` and others, with a level as in ``zstd:5``.
    chunks : (z, y, x), optional
        Lengths of a chunk.
    shard : int, optional
        Bytes of a shard before compression, 64 MiB by default.
    workers, threads : int, optional
        Workers, one a core by default, and threads of each. Resources change the time, never the bytes.
    memory : int, optional
        Bytes that all workers may use; 60 % of the machine or cgroup by default.
    scheduler : str
        ``local``, ``processes`` or ``tcp://HOST:PORT``.
    on_gap : {"irregular", "fill", "split", "fail"}
        What a missing slice means.
    on_bad_frame : {"fail", "drop", "fill"}
        What a frame that cannot be read means: its volume fails, or it counts as a missing slice.
    on_conflict : {"quarantine", "newest"}
        What one SOP Instance UID with two different images means.
    metadata : {"technical", "full", "none"}
        Which tags enter the store.
    invert_monochrome1 : bool
        Turn MONOCHROME1 over.
    overwrite : bool
        Convert everything again, and replace what is published.
    no_resume : bool
        As ``overwrite``, and forget which frames could not be decoded.
    dry_run : bool
        Return the plan in ``Report.plan``; write nothing.
    work : path, optional
        Working folder, on the file system of ``dest``; ``DEST.work`` by default.
    tolerances : Tolerances, optional
        When two numbers of the headers mean the same.
    progress : callable, optional
        Called with ``Progress``.

    Returns
    -------
    Report
        What became of every file; ``exit_code`` as the command has it.

    Raises
    ------
    UsageError
        The call cannot work: options, sources or ``dest``.
    TargetError
        The target failed; what was published before stays.

    Examples
    --------
    >>> import fastdcm
    >>> report = fastdcm.convert("export", "lung.zarr", where="kernel == 'LUNG'", no_localizers=True)
    >>> report.exit_code, report.outcomes["converted"], report.outcomes["filtered"]
    (0, 32, 33)
    """
    options = Options(
        where=where,
        image_type=image_type,
        localizers=not no_localizers,
        derived=not no_derived,
        values=values,
        codec=codec,
        chunks=None if chunks is None else tuple(chunks),
        shard_bytes=Options().shard_bytes if shard is None else shard,
        on_gap=on_gap,
        on_bad_frame=on_bad_frame,
        on_conflict=on_conflict,
        metadata=metadata,
        invert_monochrome1=invert_monochrome1,
        tolerances=tolerances or Tolerances(),
    )
    resources = Resources(workers=workers, threads=threads, memory_bytes=memory, scheduler=scheduler)
    check_options(options, resources)
    found = source_list(sources)
    target = check_target(dest, work)
    run = Run(target, options, progress or silent, rebuild=overwrite or no_resume, forget=no_resume)
    with start_engine(resources) as engine:
        return dry(run, engine, found) if dry_run else run_conversion(run, engine, found)


# ---------------------------------------------------------------------------- one run


def dry(run: Run, engine: Engine, sources: Sequence[str]) -> Report:
    """Plan without writing anything."""
    from fastdcm.series.plan import plan_document

    started = time.monotonic()
    journal = _known(run)
    found = survey_on(
        engine, sources, run.options, ask=True, journal=journal, ignore=_own_folders(run), progress=run.progress
    )
    state = State(found, dict(journal.volumes), {})
    _withhold_bad(state, run.options)

    def is_planned(volume: Planned) -> bool:
        return volume.path not in found.left_out and volume.path not in state.faults

    outcomes = settle(state, is_planned)
    report = make_report(run, state, outcomes, started, found.warnings)
    plans = (state.plan_of(volume) for volume in state.volumes() if is_planned(volume))
    return replace(report, plan=plan_document(plans, refusals_of(state, outcomes)))


def run_conversion(run: Run, engine: Engine, sources: Sequence[str]) -> Report:
    """Convert: the pipeline from files to a report."""
    started = time.monotonic()
    with hold_target(run.target):
        journal = _known(run)
        found = survey_on(
            engine, sources, run.options, ask=True, journal=journal, ignore=_own_folders(run), progress=run.progress
        )
        _keep_index(run, found.index)
        append_patients(run.target.work, *named_patients(found))
        state = State(found, dict(journal.volumes), dict(journal.bad))
        _withhold_bad(state, run.options)
        engine, note = _fit(engine, (volume for volume in state.volumes() if _is_wanted(run, state, volume)))
        _write_all(run, engine, state)
        _remove_superseded(run, state)
        run.progress(Progress("tables", found.index.instances.num_rows))
        outcomes = settle(state, state.is_published)
        warnings = (*found.warnings, *([note] if note else []))
        report = make_report(run, state, outcomes, started, warnings)
        write_account(run, engine, state, outcomes, report)
        keep_journal(run, state)
    return report


def _keep_index(run: Run, index: Index) -> None:
    """Keep the instance index as Parquet in the working folder: private, it names sources and patients."""
    from fastdcm.scan.index import save_index
    from fastdcm.store.commit import writing

    with writing("the index"):
        save_index(index, str(run.target.work / "index"))


def _known(run: Run) -> Journal:
    journal = load_journal(run.target.dest, run.target.work)
    return replace(journal, bad={}) if run.forget else journal


def _own_folders(run: Run) -> tuple[Path, Path]:
    return run.target.dest, run.target.work


def _fit(engine: Engine, volumes: Iterable[Planned]) -> tuple[Engine, str | None]:
    """Lower the workers where the largest piece of work would not fit the memory."""
    return fit_memory(engine, max((volume.task_bytes for volume in volumes), default=1))


# ---------------------------------------------------------------------------- write


def _withhold_bad(state: State, options: Options) -> None:
    """Do not begin volumes that hold an image which the header shows to be unusable."""
    if options.on_bad_frame != "fail":
        return
    for number in sorted(state.map.odd):
        entry = state.book[number]
        blame = {int(entry.frames.instance[row]): note for row, note in entry.bad.items()}
        for plan in entry.plans if blame else ():
            culprits = {file: blame[file] for file in np.unique(plan.frames.instance).tolist() if file in blame}
            if culprits and plan.path not in state.map.left_out:
                state.faults[plan.path] = culprits


def _write_all(run: Run, engine: Engine, state: State) -> None:
    """Write what is new or changed; with ``drop`` or ``fill`` plan series with bad frames anew until all is well."""
    publisher = Publisher(run.target)
    anew: Sequence[int] | None = None  # at first all series
    done: set[tuple[str, bytes]] = set()

    def wanted() -> Iterator[Planned]:
        volumes = state.volumes() if anew is None else chain.from_iterable(map(state.volumes_of, anew))
        return (volume for volume in volumes if _is_wanted(run, state, volume) and _work_of(volume) not in done)

    while any(True for _ in wanted()):
        again = _write_round(run, engine, state, wanted, publisher)
        names = with_published(state.map.names, state.records)
        context = Context(run.options, names, state.map.index, engine)
        for number, bad in again.items():
            done |= {_work_of(volume) for volume in state.volumes_of(number)}
            state.change(number, regroup(state.book[number], bad, context))
        anew = sorted(again)


def _work_of(volume: Planned) -> tuple[str, bytes]:
    """Return what tells one piece of work from another: a copy of the same size and date gives the same digest."""
    return volume.digest, volume.files.tobytes()


def _is_wanted(run: Run, state: State, volume: Planned) -> bool:
    """Tell whether a volume is to be written: not what is withheld, left out, or there already."""
    if volume.path in state.faults or volume.path in state.map.left_out:
        return False
    return run.rebuild or not state.is_published(volume)


def _write_round(
    run: Run, engine: Engine, state: State, todo: Callable[[], Iterator[Planned]], publisher: Publisher
) -> dict[int, Bad]:
    """Write volumes; return the bad rows of each series that must be planned anew."""
    total = count = 0
    for volume in todo():
        total, count = total + volume.array_bytes, count + 1
    volumes = finished = 0
    again: dict[int, dict[int, FrameNote]] = {}
    series: dict[str, int] = {}

    def tell(size: int = 0) -> None:
        nonlocal finished
        finished += size
        run.progress(Progress("convert", 0, volumes, count, finished, total))

    def plans() -> Iterator[VolumePlan]:
        for volume in todo():
            series[volume.path] = volume.series
            yield state.plan_of(volume)

    try:
        for built in Writer(engine, state.map.index, run.options, run.target.partials).write(plans(), tell):
            volumes += 1
            number = series.pop(built.plan.path)
            state.bytes_read += built.result.bytes_read
            if built.result.ready:
                state.bytes_written += built.result.bytes_written
                _publish(run, state, built, publisher)
            else:
                again.setdefault(number, {}).update(_blame(run, state, built, state.book[number]))
            tell()
    finally:
        publisher.flush()  # also after Ctrl-C: what is complete stays
    return {number: bad for number, bad in again.items() if bad}


def _publish(run: Run, state: State, built: Built, publisher: Publisher) -> None:
    from fastdcm.series.catalog import catalog_row, redact

    row = redact(catalog_row(built.plan), run.options.metadata)
    cells = built.plan.volume.cells.ravel().tolist()
    notes = tuple(_note(built.plan, cells[cell], code, text) for cell, code, text in built.result.notes)
    record = Record.of(built.plan.path, built.plan.digest, row, stored_columns(built.plan), notes)
    publisher.add(record, built.partial, built.result.bytes_written)
    state.records[record.path] = record
    state.written.add(record.path)


def _note(plan: VolumePlan, row: int, code: Code, message: str) -> FrameNote:
    frames = plan.frames
    uid = frames.texts["sop_instance_uid"][row]
    return FrameNote(uid, int(frames.frame[row]), int(frames.tile[row]), str(code), message)


def _blame(run: Run, state: State, built: Built, entry: SeriesEntry) -> Bad:
    """Note who is to blame for a volume that failed; return the rows to leave out, where the policy is to go on."""
    plan, result = built.plan, built.result
    if result.failed_check is not None:
        state.checks_failed += 1
        note = FrameNote(None, 0, -1, Code.INCOMPLETE, result.failed_check)
        state.faults[plan.path] = dict.fromkeys(np.unique(plan.frames.instance).tolist(), note)
        return {}
    cells = plan.volume.cells.ravel().tolist()
    found = [(cells[fault.cell], fault) for fault in result.faults]
    if any(fault.code is Code.INTERNAL for _, fault in found):
        note = FrameNote(None, 0, -1, Code.INTERNAL, found[0][1].message)
        state.faults[plan.path] = dict.fromkeys(np.unique(plan.frames.instance).tolist(), note)
        return {}
    notes = {row: _note(plan, row, fault.code, fault.message) for row, fault in found}
    if run.options.on_bad_frame == "fail":
        state.faults[plan.path] = {int(plan.frames.instance[row]): note for row, note in sorted(notes.items())}
        return {}
    append_bad(run.target.work, plan.digest, list(notes.values()))
    state.bad[plan.digest] = tuple(notes.values())
    place = (entry.frames.instance.tolist(), entry.frames.frame.tolist(), entry.frames.tile.tolist())
    rows = {key: row for row, key in enumerate(zip(*place, strict=True))}
    mine = (plan.frames.instance.tolist(), plan.frames.frame.tolist(), plan.frames.tile.tolist())
    return {rows[mine[0][row], mine[1][row], mine[2][row]]: note for row, note in notes.items()}


def _remove_superseded(run: Run, state: State) -> None:
    """Take volumes out whose frames are in other volumes now: the series was divided otherwise before."""
    publisher = Publisher(run.target)
    gone = dict.fromkeys(state.records)
    for volume in state.volumes():
        gone.pop(volume.path, None)
    folders = {path.rpartition("/")[0] for path in gone}
    held: dict[str, set[tuple[str | None, int]]] = {}
    for volume in state.volumes() if gone else ():
        folder = volume.path.rpartition("/")[0]
        if folder in folders and state.is_published(volume):
            frames = stored_columns(state.plan_of(volume))
            held.setdefault(folder, set()).update(zip(frames.sop_instance_uid, frames.frame, strict=True))
    for path in gone:
        others = held.get(path.rpartition("/")[0])
        if others and any((frame.sop_instance_uid, frame.frame) in others for frame in state.records[path].frames):
            publisher.remove(path)
            del state.records[path]
