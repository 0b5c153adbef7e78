"""The account of a run: the outcome of every file, the report, the tables, and the journal for the next run."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from fastdcm.errors import Code, Outcome
from fastdcm.model import Frames, Index, Json, Options, Reason, VolumePlan
from fastdcm.run.book import SeriesBook, stored_files, texts_of
from fastdcm.run.execute import Engine
from fastdcm.run.ledger import Ledger, Outcomes, count_outcomes
from fastdcm.run.progress import Callback
from fastdcm.run.records import FrameNote, Journal, Record, StoredColumns, write_journal, write_sources
from fastdcm.run.references import holders_in, references_table
from fastdcm.run.report import Failure, Report
from fastdcm.run.series import SeriesEntry
from fastdcm.run.survey import SeriesMap
from fastdcm.run.tables import (
    VolumeFrames,
    catalog_of,
    files_table,
    frames_table,
    generation_of,
    is_written,
    volumes_hash,
    write_tables,
)
from fastdcm.run.target import Target
from fastdcm.scan.references import count_objects
from fastdcm.store.commit import writing
from fastdcm.version import __version__, installed_versions

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True, slots=True, eq=False)
class Run:
    """What a run was asked to do."""

    target: Target
    options: Options
    progress: Callback
    rebuild: bool = False
    forget: bool = False


class Planned(NamedTuple):
    """A volume as it is planned now: what a run must know of it before and after it is written."""

    path: str
    digest: str
    series: int
    """Number in ``State.book``."""
    place: int
    """Among the plans of the series."""
    files: npt.NDArray[np.int32]
    """(n,) the file of each stored frame, in the order of t, c and z."""
    array_bytes: int
    task_bytes: int


@dataclass(slots=True, eq=False)
class State:
    """What a run knows while it works: the series as they are planned now, and what is published."""

    map: SeriesMap
    records: dict[str, Record]
    """Published volumes by path, of earlier runs and of this one."""
    bad: dict[str, tuple[FrameNote, ...]]
    faults: dict[str, dict[int, FrameNote]] = field(default_factory=dict)
    """Volumes that cannot be published: by path, the files to blame."""
    changed: set[int] = field(default_factory=set)
    """Series that were planned anew after the map was made."""
    written: set[str] = field(default_factory=set)
    bytes_read: int = 0
    bytes_written: int = 0
    checks_failed: int = 0

    @property
    def book(self) -> SeriesBook:
        """The series."""
        return self.map.book

    def change(self, number: int, entry: SeriesEntry) -> None:
        """Take a series as it is planned anew."""
        self.book[number] = entry
        self.changed.add(number)

    def volumes(self) -> Iterator[Planned]:
        """Yield the volumes of all series as they are now."""
        facts = self.map.facts
        bounds, series, place = facts.starts.tolist(), facts.series.tolist(), 0
        sizes = zip(facts.array_bytes.tolist(), facts.task_bytes.tolist(), strict=True)
        for row, (path, size) in enumerate(zip(texts_of(self.map.table, "volume"), sizes, strict=True)):
            place = place + 1 if row and series[row] == series[row - 1] else 0
            if series[row] not in self.changed:
                files = facts.files[bounds[row] : bounds[row + 1]]
                yield Planned(path, facts.digest(row), series[row], place, files, *size)
        for number in sorted(self.changed):
            yield from self.volumes_of(number)

    def volumes_of(self, number: int) -> Iterator[Planned]:
        """Yield the volumes of one series."""
        from fastdcm.series.plan import array_bytes, task_bytes

        for place, plan in enumerate(self.book[number].plans):
            sizes = array_bytes(plan.array), task_bytes(plan.array)
            yield Planned(plan.path, plan.digest, number, place, stored_files(plan).astype(np.int32), *sizes)

    def plan_of(self, volume: Planned) -> VolumePlan:
        """Return the plan of a volume."""
        return self.book[volume.series].plans[volume.place]

    def is_published(self, volume: Planned | VolumePlan) -> bool:
        """Tell whether the store holds just this volume."""
        record = self.records.get(volume.path)
        return record is not None and record.digest == volume.digest


def stored_columns(plan: VolumePlan) -> StoredColumns:
    """Return the frames of a volume with their places."""
    frames, cells = plan.frames, plan.volume.cells
    t, c, z = np.nonzero(cells >= 0)
    rows = cells[t, c, z]
    return StoredColumns(
        t=t.tolist(),
        c=[None] * len(rows) if plan.rule.channels > 1 else c.tolist(),
        z=z.tolist(),
        sop_instance_uid=frames.texts["sop_instance_uid"][rows].tolist(),
        frame=frames.frame[rows].tolist(),
        tile=[None if tile < 0 else tile for tile in frames.tile[rows].tolist()],
    )


# ---------------------------------------------------------------------------- outcomes


def settle(state: State, converted: Callable[[Planned], bool]) -> Outcomes:
    """Give every file its one outcome; ``converted`` tells which volumes are (or would be) in the store."""
    ledger = Ledger(state.map.index.instances.num_rows)
    for number in sorted(state.map.odd | state.changed):
        entry = state.book[number]
        _claim_frames(ledger, entry, _left_out_files(state, entry))
    for volume in state.volumes():
        _claim_volume(ledger, state, volume, converted(volume))
    return ledger.settle(state.map.index)


def _left_out_files(state: State, entry: SeriesEntry) -> dict[int, Reason]:
    """Return the files of a series that nobody asked for: whether they can be read is then no matter."""
    reasons = state.map.left_out
    found = {
        file: reasons[plan.path]
        for plan in entry.plans
        if plan.path in reasons
        for file in np.unique(plan.frames.instance).tolist()
    }
    if entry.plans and all(plan.path in reasons for plan in entry.plans):  # then also what no volume has: bad frames
        rest = {int(entry.frames.instance[row]) for row in entry.bad}
        return dict.fromkeys(rest, reasons[entry.plans[0].path]) | found
    return found


def _claim_frames(ledger: Ledger, entry: SeriesEntry, left_out: Mapping[int, Reason]) -> None:
    """Claim what grouping decided, and what cannot be read."""
    frames = entry.frames
    for decided in entry.grouping.decided:
        ledger.claim([int(frames.instance[decided.row])], decided.outcome, decided.code, decided.message)
    for row, note in entry.bad.items():
        file = int(frames.instance[row])
        if file in left_out:
            ledger.claim([file], Outcome.FILTERED, left_out[file].code, left_out[file].message)
        else:
            ledger.claim([file], Outcome.FAILED, Code(note.code), _frame_text(frames, row, note))


def _frame_text(frames: Frames, row: int, note: FrameNote) -> str:
    many = frames.numbers["n_frames"][row] > 1
    return f"frame {note.frame}: {note.message}" if many and note.code != Code.TRUNCATED else note.message


def _claim_volume(ledger: Ledger, state: State, volume: Planned, converted: bool) -> None:
    if converted:
        ledger.converted(volume.files)
        if volume.path in state.records:
            _remark(ledger, state, volume)
    elif volume.path in state.map.left_out:
        reason = state.map.left_out[volume.path]
        ledger.claim(volume.files, Outcome.FILTERED, reason.code, reason.message)
    else:
        culprits = state.faults.get(volume.path, {})
        for file, note in culprits.items():
            ledger.claim([file], Outcome.FAILED, Code(note.code), note.message)
        files = set(volume.files.tolist())
        text = (
            f"{len(culprits)} of {len(files)} files of its volume cannot be used; --on-bad-frame drop leaves them out"
        )
        ledger.claim(sorted(files - culprits.keys()), Outcome.FAILED, Code.SIBLING_FAILED, text)


def _remark(ledger: Ledger, state: State, volume: Planned) -> None:
    record = state.records[volume.path]
    notes = record.read()[2] if record.noted else ()
    if notes:
        frames = state.plan_of(volume).frames
        files = dict(zip(frames.texts["sop_instance_uid"].tolist(), frames.instance.tolist(), strict=True))
        for note in notes:
            if note.sop_instance_uid in files:
                ledger.remark(files[note.sop_instance_uid], note.code, note.message)


def refusals_of(state: State, outcomes: Outcomes) -> list[Json]:
    """Return what a run would not convert, by series and code, without any path."""
    rows = outcomes.rows(Outcome.FAILED, Outcome.CONFLICT)
    series = state.map.index.instances.select(["series_uid"]).take(rows)["series_uid"].to_pylist() if rows else []
    found: dict[tuple[str, str], Json] = {}
    for uid, (_, code, message) in zip(series, _told(outcomes, rows), strict=True):
        row = found.setdefault(
            (uid or "", str(code)), {"series": uid, "code": str(code), "message": message, "files": 0}
        )
        row["files"] += 1
    return [found[key] for key in sorted(found)]


def _told(outcomes: Outcomes, rows: Sequence[int]) -> Iterator[tuple[str, str | None, str | None]]:
    """Yield outcome, code and message of some files."""
    import pyarrow as pa

    places = pa.array(rows, pa.int64())
    yield from zip(*(column.take(places).to_pylist() for column in outcomes), strict=True)


def make_report(run: Run, state: State, outcomes: Outcomes, started: float, warnings: Sequence[str]) -> Report:
    """Return the summary of the run."""
    totals, codes = count_outcomes(outcomes)
    kept = dict.fromkeys(state.records)
    counts = dict.fromkeys(("unchanged", "failed", "filtered"), 0)
    for volume in state.volumes():
        kept.pop(volume.path, None)
        if state.is_published(volume):
            counts["unchanged"] += volume.path not in state.written
        elif volume.path in state.faults:
            counts["failed"] += 1
        elif volume.path in state.map.left_out:
            counts["filtered"] += 1
    return Report(
        files=len(outcomes.outcome),
        outcomes=totals,
        codes=codes,
        objects=count_objects(state.map.index),
        volumes={"written": len(state.written & state.records.keys()), **counts, "kept": len(kept)},
        bytes_read=state.bytes_read,
        bytes_written=state.bytes_written,
        seconds=time.monotonic() - started,
        warnings=tuple(warnings),
        failures=tuple(_failures(state.map.index, outcomes)),
        checks_failed=state.checks_failed,
    )


def _failures(index: Index, outcomes: Outcomes) -> Iterator[Failure]:
    rows = outcomes.rows(Outcome.FAILED, Outcome.CONFLICT)
    files = index.instances.select(["source", "path"]).take(rows).to_pylist() if rows else []
    for file, (outcome, code, message) in zip(files, _told(outcomes, rows), strict=True):
        path = os.path.join(root_of(index.sources[file["source"]]), file["path"])
        yield Failure(path, Outcome(outcome), Code(code) if code else Code.INTERNAL, message or "")


def root_of(source: str) -> str:
    """Return the folder that the paths of a source are relative to."""
    from fastdcm.scan.find import source_root

    return source_root(source)


# ---------------------------------------------------------------------------- tables


def write_account(run: Run, engine: Engine, state: State, outcomes: Outcomes, report: Report) -> None:
    """Write the tables and the report, unless the store holds just these."""
    from fastdcm.store.metadata import root_document

    files = {volume.path: volume.files for volume in state.volumes() if state.is_published(volume)}
    frames = frames_table([VolumeFrames(record, files.get(path)) for path, record in state.records.items()])
    tables: Mapping[str, pa.Table] = {
        "catalog": catalog_of([state.records[path] for path in sorted(state.records, key=_natural)]),
        "files": files_table(state.map.index, outcomes),
        "frames": frames,
        "references": references_table(state.map.index, holders_in(frames), engine),
    }
    volumes = volumes_hash(state.records.values())
    generation = generation_of(tables, volumes)
    root = root_document(generation, run.options.metadata, references="references.parquet")
    if is_written(run.target.dest, tables, root):
        return
    document = _report_document(run, engine, report, generation) | {"hashes": {"volumes": volumes}}
    run.target.check()
    with writing("the tables"):
        write_tables(run.target.dest, tables, document, root, generation)


def _natural(path: str) -> tuple[str, int]:
    series, _, name = path.rpartition("/")
    return series, int(name.partition(".")[0])


def _report_document(run: Run, engine: Engine, report: Report, generation: str) -> Json:
    """Return report.json: no source is named. ``compiled`` tells whether the compiled header walk was used."""
    from fastdcm.scan.walk import COMPILED

    options = asdict(run.options)
    return {
        "generation": generation,
        "totals": {"files": report.files, "outcomes": report.outcomes, "codes": report.codes},
        "objects": report.objects,
        "volumes": report.volumes,
        "bytes": {"read": report.bytes_read, "written": report.bytes_written},
        "options": {name: value for name, value in options.items() if name != "tolerances"},
        "tolerances": options["tolerances"],
        "versions": versions(),
        "compiled": COMPILED,
        "timings": {"seconds": round(report.seconds, 3)},
        "resources": {"scheduler": engine.scheduler.partition(":")[0], "workers": engine.workers},
        "warnings": report.warnings,
    }


def versions() -> dict[str, str]:
    """Return the versions of what decides values and bytes."""
    import platform

    ours = {"python": platform.python_version(), "fastdcm": __version__}
    return ours | installed_versions(("numpy", "pyarrow", "pydicom", "imagecodecs", "numcodecs"))


def keep_journal(run: Run, state: State) -> None:
    """Write the journal anew, only what counts, and where the sources are."""
    patients, owners = named_patients(state.map)
    known = state.map.names
    journal = Journal(state.records, state.bad, {**known.keys, **patients}, {**known.owners, **owners})
    with writing("the journal"):
        write_journal(run.target.work, journal)
        write_sources(run.target.work, state.map.index.sources)


def named_patients(found: SeriesMap) -> tuple[dict[str, str], dict[str, str | None]]:
    """Return the key and the mark of the patient of each study that has a volume, by the study's folder."""
    from fastdcm.series.catalog import patient_mark

    folders = {path.partition("/")[0] for path in texts_of(found.table, "volume")}
    owners = {folder: patient for (patient, _), folder in found.names.studies.items() if folder in folders}
    keys = {folder: found.names.patients[patient] for folder, patient in owners.items()}
    return keys, {folder: patient_mark(patient) for folder, patient in owners.items()}
