"""A finished job that is asked for again: where nothing changed, the report of the last run is the report of this one.

A run that ended well writes ``finished.json`` into the working folder, last of all: what was asked, its report, and a
digest of the sizes and dates of all files that the report stands on. Any difference, and the run is done in full.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from fastdcm.errors import Code, Outcome
from fastdcm.model import FORMAT_VERSION, Json
from fastdcm.places import Url, is_marker, table_file
from fastdcm.run.account import Run, State, root_of, versions
from fastdcm.run.ledger import Outcomes
from fastdcm.run.records import JOURNAL, SOURCES
from fastdcm.run.report import Failure, Report
from fastdcm.run.target import Target

if TYPE_CHECKING:
    from fastdcm.run.headers import Scanned

FINISHED = "finished.json"
LASTING = frozenset(
    {
        Code.SAME_PIXELS,
        Code.LOSSY_COPY,
        Code.PIXELS_DIFFER,
        Code.OLDER_COPY,
        Code.SIBLING_CONFLICT,
        Code.BAD_HEADER,
        Code.NO_PIXELS,
        Code.TRUNCATED,
        Code.BAD_SIZE,
        Code.DECODE,
        Code.DECODER_CRASH,
        Code.UNSUPPORTED_SYNTAX,
        Code.UNSUPPORTED_PIXELS,
        Code.UNSUPPORTED_WSI,
        Code.SIBLING_FAILED,
        Code.GAP,
    }
)
"""Why a file is not in the store that hold as long as the file is the same: the next run need not try again."""

_WORK_FILES = (JOURNAL, SOURCES, "index/instances.parquet", "index/frames.parquet")
_STORE_FILES = ("catalog.parquet", "files.parquet", "frames.parquet", "references.parquet", "report.json", "zarr.json")


def finished_report(run: Run, scanned: Scanned) -> Report | None:
    """Return the report of a job that is finished already; None where there is something to do, or there may be.

    Parameters
    ----------
    run : Run
        What is asked.
    scanned : Scanned
        The sources as they are now.
    """
    if run.rebuild or not scanned.kept:
        return None
    try:
        known = json.loads((run.target.work / FINISHED).read_bytes())
        if known["asked"] != _asked(run, scanned.sources) or not scanned.is_unchanged():
            return None
        if known["state"] != _state(run.target):
            return None
        told, warnings = known["report"], tuple(known["report"].pop("warnings"))
        lost = told["outcomes"][Outcome.FAILED] or told["outcomes"][Outcome.CONFLICT]
        failures = tuple(_failures(run.target, scanned.sources)) if lost else ()
        return Report(**told, warnings=warnings, failures=failures)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def is_untouched(target: Target) -> bool:
    """Tell whether store, tables and journal are as the last run left them, and that run ended well."""
    try:
        return bool(json.loads((target.work / FINISHED).read_bytes())["state"] == _state(target))
    except (OSError, ValueError, KeyError, TypeError):
        return False


def forget_finished(target: Target) -> None:
    """Let no later run rely on the last one: this run changes the store."""
    (target.work / FINISHED).unlink(missing_ok=True)


def keep_finished(run: Run, state: State, outcomes: Outcomes, report: Report) -> None:
    """Note that the job is finished, unless something is left that the next run may do better."""
    from fastdcm.store.commit import sync_path, writing

    if report.checks_failed or _may_do_better(state, outcomes):
        return
    try:
        digest = _state(run.target)
    except OSError:  # no index was kept that a walk could be compared with
        return
    known = {
        "asked": _asked(run, state.map.index.sources),
        "state": digest,
        "report": {
            "files": report.files,
            "outcomes": dict(report.outcomes),
            "codes": dict(report.codes),
            "volumes": _as_unchanged(report.volumes),
            "objects": dict(report.objects),
            "warnings": list(report.warnings),
        },
    }
    partial = run.target.work / f"{FINISHED}.partial"
    with writing("the working folder"):
        partial.write_text(json.dumps(known), encoding="ascii")
        sync_path(partial)
        partial.replace(run.target.work / FINISHED)


def _may_do_better(state: State, outcomes: Outcomes) -> bool:
    """Tell whether a file was lost for a reason that may have passed; what the scan saw is seen again by the walk."""
    import pyarrow.compute as pc

    bad = (note for number in state.map.odd | state.changed for note in state.book[number].bad.values())
    if any(note.code not in LASTING for note in bad):
        return True
    rows = outcomes.rows(Outcome.FAILED)
    decided_here = pc.is_null(state.map.index.instances["outcome"].take(rows)) if rows else []
    codes = outcomes.code.take(rows).to_pylist() if rows else []
    return any(here.as_py() and code not in LASTING for here, code in zip(decided_here, codes, strict=True))


def _as_unchanged(volumes: Mapping[str, int]) -> dict[str, int]:
    """Return the counts as a run has them that finds everything done."""
    return {**volumes, "written": 0, "unchanged": volumes["written"] + volumes["unchanged"]}


def _asked(run: Run, sources: tuple[str, ...]) -> Json:
    """Return what decides the store: sources, options and versions."""
    asked = {"sources": sources, "options": asdict(run.options), "versions": versions(), "format": FORMAT_VERSION}
    found: Json = json.loads(json.dumps(asked))
    return found


def _state(target: Target) -> str:
    """Return a digest of the sizes and dates of what the report stands on.

    Raises
    ------
    OSError
        Some of it is gone.
    """
    digest = hashlib.sha256()
    for path, size, mtime_ns in _files(target):
        digest.update(f"{path}\0{size}\0{mtime_ns}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def _files(target: Target) -> Iterator[tuple[str, int, int]]:
    """Yield path, size and date of files of the working folder, of the tables and of the volumes' markers."""
    paths = [f"{target.work}/{name}" for name in _WORK_FILES]
    if isinstance(target.dest, Url):
        found = (item for item in target.dest.listed() if item.key in _STORE_FILES or is_marker(item.key))
        yield from ((item.key, item.size, item.mtime_ns) for item in found)
    else:
        paths += [f"{target.dest}/{name}" for name in _STORE_FILES]
        paths += [f"{target.dest}/{volume}/zarr.json" for volume in _volumes(target.dest)]
    for path in paths:
        status = os.stat(path)
        yield path, status.st_size, status.st_mtime_ns


def _volumes(dest: Path) -> Iterator[str]:
    import pyarrow.parquet

    with pyarrow.parquet.ParquetFile(dest / "catalog.parquet") as catalog:
        for batch in catalog.iter_batches(columns=["volume"]):
            yield from batch.column(0).to_pylist()


def _failures(target: Target, sources: tuple[str, ...]) -> Iterator[Failure]:
    """Yield what the report says of files, from the store's table."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet

    wanted = [pa.scalar(str(outcome)) for outcome in (Outcome.FAILED, Outcome.CONFLICT)]
    with pyarrow.parquet.ParquetFile(table_file(target.dest / "files.parquet")) as files:
        for batch in files.iter_batches(columns=["source", "path", "outcome", "code", "message"]):
            lost = pc.or_(*(pc.equal(batch.column("outcome"), outcome) for outcome in wanted))
            for row in batch.filter(lost).to_pylist():
                path = os.path.join(root_of(sources[row["source"]]), row["path"])
                code = Code(row["code"]) if row["code"] else Code.INTERNAL
                yield Failure(path, Outcome(row["outcome"]), code, row["message"] or "")
