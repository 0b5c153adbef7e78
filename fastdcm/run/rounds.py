"""The writing part of a run, in rounds: write what is wanted, publish it, plan anew what turned out bad, go on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import chain

import numpy as np

from fastdcm.errors import Code
from fastdcm.model import Options, VolumePlan
from fastdcm.run.account import (
    Planned,
    Run,
    State,
    keep_journal,
    make_report,
    settle,
    stored_columns,
    write_account,
)
from fastdcm.run.execute import Engine, fit_memory
from fastdcm.run.finished import keep_finished
from fastdcm.run.progress import Progress
from fastdcm.run.records import FrameNote, Record, append_bad
from fastdcm.run.regroup import Context, regroup
from fastdcm.run.report import Report
from fastdcm.run.series import Bad, SeriesEntry, with_published
from fastdcm.run.target import Publisher
from fastdcm.run.write import Built

Build = Callable[[Iterable[VolumePlan], Callable[[int], None]], Iterator[Built]]
"""What makes volumes of plans: ``Writer.write``, or what has them from elsewhere."""


def withhold_bad(state: State, options: Options) -> None:
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


def write_store(run: Run, engine: Engine, state: State, started: float, make: Callable[[Engine], Build]) -> Report:
    """Write what the map wants, publish it, and account for every file.

    Parameters
    ----------
    run : Run
        What was asked for; the caller holds its target.
    engine : Engine
        Where to run; its workers are lowered where the largest piece of work would not fit the memory.
    state : State
        The map, and what earlier runs left.
    started : float
        ``time.monotonic()`` at the start of the run.
    make : callable
        Gives what makes volumes of plans on an engine: ``written`` by ``Writer``, or taken from elsewhere.

    Returns
    -------
    Report
        As it stands in the store.
    """
    withhold_bad(state, run.options)
    wanted = (volume.task_bytes for volume in state.volumes() if is_wanted(run, state, volume))
    engine, note = fit_memory(engine, max(wanted, default=1))
    _write_all(run, engine, state, make(engine))
    _remove_superseded(run, state)
    run.progress(Progress("tables", state.map.index.instances.num_rows))
    outcomes = settle(state, state.is_published)
    warnings = (*state.map.warnings, *([note] if note else []))
    report = make_report(run, state, outcomes, started, warnings)
    write_account(run, engine, state, outcomes, report)
    keep_journal(run, state)
    keep_finished(run, state, outcomes, replace(report, warnings=state.map.warnings))
    return report


def _write_all(run: Run, engine: Engine, state: State, build: Build) -> None:
    """Write what is new or changed; with ``drop`` or ``fill`` plan series with bad frames anew until all is well."""
    publisher = Publisher(run.target)
    anew: Sequence[int] | None = None  # at first all series
    done: set[tuple[str, bytes]] = set()

    def wanted() -> Iterator[Planned]:
        volumes = state.volumes() if anew is None else chain.from_iterable(map(state.volumes_of, anew))
        return (volume for volume in volumes if is_wanted(run, state, volume) and _work_of(volume) not in done)

    while any(True for _ in wanted()):
        again = _write_round(run, state, wanted, publisher, build)
        names = with_published(state.map.names, state.records)
        context = Context(run.options, names, state.map.index, engine)
        for number, bad in again.items():
            done |= {_work_of(volume) for volume in state.volumes_of(number)}
            state.change(number, regroup(state.book[number], bad, context))
        anew = sorted(again)


def _work_of(volume: Planned) -> tuple[str, bytes]:
    """Return what tells one piece of work from another: a copy of the same size and date gives the same digest."""
    return volume.digest, volume.files.tobytes()


def is_wanted(run: Run, state: State, volume: Planned) -> bool:
    """Tell whether a volume is to be written: not what is withheld, left out, or there already."""
    if volume.path in state.faults or volume.path in state.map.left_out:
        return False
    return run.rebuild or not state.is_published(volume)


def _write_round(
    run: Run, state: State, todo: Callable[[], Iterator[Planned]], publisher: Publisher, build: Build
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
            if publisher.make_room(volume.path):
                state.records.pop(volume.path, None)
            yield state.plan_of(volume)

    try:
        for built in build(plans(), tell):
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
    publisher.add(record, built)
    state.records[record.path] = record
    state.written.add(record.path)


def _note(plan: VolumePlan, row: int, code: Code, message: str) -> FrameNote:
    frames = plan.frames
    uid = frames.texts["sop_instance_uid"][row]
    return FrameNote(uid, int(frames.frame[row]), int(frames.tile[row]), str(code), message)


OF_THE_MOMENT = (Code.UNREADABLE, Code.PERMISSION, Code.CHANGED)
"""Faults of the system and not of the file: the next run tries again."""


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
    if lasting := tuple(note for note in notes.values() if note.code not in OF_THE_MOMENT):
        append_bad(run.target.work, plan.digest, lasting)
        state.bad[plan.digest] = lasting
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
