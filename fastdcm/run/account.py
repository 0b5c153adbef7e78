"""The account of a run: the outcome of every file, the report, the tables, and the journal for the next run."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from fastdcm.errors import Code, Outcome
from fastdcm.model import Frames, Index, Ints, Json, Options, Reason, VolumePlan
from fastdcm.run.execute import Engine
from fastdcm.run.ledger import Claim, Ledger, count_outcomes
from fastdcm.run.progress import Callback
from fastdcm.run.records import FrameNote, Journal, Record, StoredFrame, write_journal, write_sources
from fastdcm.run.report import Failure, Report
from fastdcm.run.series import SeriesEntry
from fastdcm.run.survey import SeriesMap
from fastdcm.run.tables import VolumeFrames, files_table, frames_table, generation_of, is_written, write_tables
from fastdcm.run.target import Target
from fastdcm.store.commit import writing
from fastdcm.version import __version__

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


@dataclass(slots=True, eq=False)
class State:
    """What a run knows while it works: the series as they are planned now, and what is published."""

    map: SeriesMap
    entries: list[SeriesEntry]
    records: dict[str, Record]
    """Published volumes by path, of earlier runs and of this one."""
    bad: dict[str, tuple[FrameNote, ...]]
    faults: dict[str, dict[int, FrameNote]] = field(default_factory=dict)
    """Volumes that cannot be published: by path, the files to blame."""
    written: set[str] = field(default_factory=set)
    bytes_read: int = 0
    bytes_written: int = 0
    checks_failed: int = 0

    def plans(self) -> list[VolumePlan]:
        """Return the plans of all series as they are now."""
        return [plan for entry in self.entries for plan in entry.plans]

    def is_published(self, plan: VolumePlan) -> bool:
        """Tell whether the store holds just this volume."""
        record = self.records.get(plan.path)
        return record is not None and record.digest == plan.digest


def stored_frames(plan: VolumePlan) -> tuple[StoredFrame, ...]:
    """Return the frames of a volume with their places, in the order of t, c and z."""
    frames, cells = plan.frames, plan.volume.cells
    uids = frames.texts["sop_instance_uid"]
    found = []
    for t, c, z in np.argwhere(cells >= 0).tolist():
        row = int(cells[t, c, z])
        tile = int(frames.tile[row])
        channel = None if plan.rule.channels > 1 else c
        found.append(StoredFrame(t, channel, z, uids[row], int(frames.frame[row]), None if tile < 0 else tile))
    return tuple(found)


def _stored_files(plan: VolumePlan) -> Ints:
    """Return the file number of each stored frame, in the order of ``stored_frames``."""
    cells = plan.volume.cells
    return plan.frames.instance[cells[cells >= 0]]


# ---------------------------------------------------------------------------- outcomes


def settle(state: State, converted: set[str]) -> list[Claim]:
    """Give every file its one outcome; ``converted`` are the paths of volumes that are (or would be) in the store."""
    ledger = Ledger(state.map.index.instances.num_rows)
    for entry in state.entries:
        _claim_frames(ledger, entry, _left_out_files(state, entry))
        for plan in entry.plans:
            _claim_volume(ledger, state, plan, plan.path in converted)
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


def _claim_volume(ledger: Ledger, state: State, plan: VolumePlan, converted: bool) -> None:
    files = np.unique(plan.frames.instance)
    if converted:
        ledger.converted(files)
        _remark(ledger, state, plan)
    elif plan.path in state.map.left_out:
        reason = state.map.left_out[plan.path]
        ledger.claim(files, Outcome.FILTERED, reason.code, reason.message)
    else:
        culprits = state.faults.get(plan.path, {})
        for file, note in culprits.items():
            ledger.claim([file], Outcome.FAILED, Code(note.code), note.message)
        siblings = [file for file in files.tolist() if file not in culprits]
        text = (
            f"{len(culprits)} of {len(files)} files of its volume cannot be used; --on-bad-frame drop leaves them out"
        )
        ledger.claim(siblings, Outcome.FAILED, Code.SIBLING_FAILED, text)


def _remark(ledger: Ledger, state: State, plan: VolumePlan) -> None:
    record = state.records.get(plan.path)
    if record is None or not record.notes:
        return
    uids = plan.frames.texts["sop_instance_uid"].tolist()
    files = dict(zip(uids, plan.frames.instance.tolist(), strict=True))
    for note in record.notes:
        if note.sop_instance_uid in files:
            ledger.remark(files[note.sop_instance_uid], note.code, note.message)


def refusals_of(state: State, claims: Sequence[Claim]) -> list[Json]:
    """Return what a run would not convert, by series and code, without any path."""
    series = state.map.index.instances["series_uid"].to_pylist()
    found: dict[tuple[str, str], Json] = {}
    for uid, claim in zip(series, claims, strict=True):
        if claim.outcome in (Outcome.FAILED, Outcome.CONFLICT):
            key = (uid or "", str(claim.code))
            row = found.setdefault(key, {"series": uid, "code": str(claim.code), "message": claim.message, "files": 0})
            row["files"] += 1
    return [found[key] for key in sorted(found)]


def make_report(run: Run, state: State, claims: Sequence[Claim], started: float, warnings: Sequence[str]) -> Report:
    """Return the summary of the run."""
    outcomes, codes = count_outcomes(claims)
    plans = state.plans()
    planned = {plan.path for plan in plans}
    published = [plan.path for plan in plans if state.is_published(plan)]
    unpublished = [plan.path for plan in plans if not state.is_published(plan)]
    volumes = {
        "written": len(state.written & set(state.records)),
        "unchanged": sum(path not in state.written for path in published),
        "failed": sum(path in state.faults for path in unpublished),
        "filtered": sum(path in state.map.left_out and path not in state.faults for path in unpublished),
        "kept": sum(path not in planned for path in state.records),
    }
    return Report(
        files=len(claims),
        outcomes=outcomes,
        codes=codes,
        volumes=volumes,
        bytes_read=state.bytes_read,
        bytes_written=state.bytes_written,
        seconds=time.monotonic() - started,
        warnings=tuple(warnings),
        failures=tuple(_failures(state.map.index, claims)),
        checks_failed=state.checks_failed,
    )


def _failures(index: Index, claims: Sequence[Claim]) -> list[Failure]:
    rows = [row for row, claim in enumerate(claims) if claim.outcome in (Outcome.FAILED, Outcome.CONFLICT)]
    files = index.instances.select(["source", "path"]).take(rows).to_pylist() if rows else []
    return [
        Failure(
            os.path.join(_root(index.sources[file["source"]]), file["path"]),
            claims[row].outcome,
            claims[row].code or Code.INTERNAL,
            claims[row].message or "",
        )
        for row, file in zip(rows, files, strict=True)
    ]


def _root(source: str) -> str:
    from fastdcm.scan.find import source_root

    return source_root(source)


# ---------------------------------------------------------------------------- tables


def write_account(run: Run, engine: Engine, state: State, claims: Sequence[Claim], report: Report) -> None:
    """Write the tables and the report, unless the store holds just these."""
    from fastdcm.series.catalog import catalog_table
    from fastdcm.store.metadata import root_document

    plans = {plan.path: plan for plan in state.plans() if state.is_published(plan)}
    records = [state.records[path] for path in sorted(state.records, key=_natural)]
    frames = [
        VolumeFrames(r.path, r.frames, _stored_files(plans[r.path]) if r.path in plans else None) for r in records
    ]
    tables: Mapping[str, pa.Table] = {
        "catalog": catalog_table([record.row for record in records]),
        "files": files_table(state.map.index, claims),
        "frames": frames_table(frames),
    }
    generation = generation_of(tables)
    root = root_document(generation, run.options.metadata)
    if is_written(run.target.dest, tables, root):
        return
    document = _report_document(run, engine, report, generation)
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
    from importlib.metadata import PackageNotFoundError, version

    found = {"python": platform.python_version(), "fastdcm": __version__}
    for name in ("numpy", "pyarrow", "pydicom", "imagecodecs", "numcodecs"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


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

    entries = [(entry, entry.plans[0]) for entry in found.series if entry.plans]
    folders = [plan.path.split("/")[0] for _, plan in entries]
    keys = {folder: plan.patient for folder, (_, plan) in zip(folders, entries, strict=True)}
    ids = [entry.frames.texts["patient_id"][0] for entry, _ in entries]
    return keys, {folder: patient_mark(one) for folder, one in zip(folders, ids, strict=True)}
