"""The main job: survey, plan, write, publish, account for every file."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from fastdcm.model import Index, Options, Resources, Tolerances
from fastdcm.run.account import (
    Planned,
    Run,
    State,
    make_report,
    named_patients,
    refusals_of,
    settle,
)
from fastdcm.run.execute import Engine, start_engine
from fastdcm.run.finished import finished_report, forget_finished, is_untouched
from fastdcm.run.headers import Scanned, scan_headers
from fastdcm.run.kept_map import EarlierMap, keep_map, open_map
from fastdcm.run.options import Source, check_options, source_list
from fastdcm.run.progress import Callback, silent
from fastdcm.run.records import (
    Journal,
    append_patients,
    load_journal,
)
from fastdcm.run.report import Report
from fastdcm.run.rounds import Build, withhold_bad, write_store
from fastdcm.run.spool import Spool
from fastdcm.run.survey import map_index
from fastdcm.run.target import check_target, hold_target
from fastdcm.run.write import Writer
from fastdcm.series.layout import parse_codec
from fastdcm.store.commit import writing


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
    cluster: Literal["slurm"] | None = None,
    task_timeout: float | None = None,
    on_gap: Literal["irregular", "fill", "split", "fail"] = "irregular",
    on_bad_frame: Literal["fail", "drop", "fill"] = "fail",
    on_conflict: Literal["quarantine", "newest"] = "quarantine",
    metadata: Literal["technical", "full", "none"] = "technical",
    invert_monochrome1: bool = False,
    overwrite: bool = False,
    no_resume: bool = False,
    dry_run: bool = False,
    work: Source | None = None,
    single_writer: bool = False,
    tolerances: Tolerances | None = None,
    progress: Callback | None = None,
) -> Report:
    """Convert DICOM files into a store of volumes.

    Parameters
    ----------
    sources : path or sequence of path
        Files and folders; folders are walked.
    dest : path
        Of the store: absent, empty, or a store of an earlier run, which is brought up to date. ``s3://``, ``gs://`` and
        ``az://`` too.
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
    cluster : {"slurm"}, optional
        The workers are jobs of this batch system, ``workers`` of them, by the settings of dask-jobqueue.
    task_timeout : float, optional
        Seconds that one compressed frame may take before its decoder counts as hung; by default 120, and 2 for each
        MiB that it decodes to.
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
        Working folder, on the file system of ``dest``; ``DEST.work`` by default, of a URL in the current folder.
    single_writer : bool
        ``dest`` is on a server without exclusive create: no other run may work on it, and nothing guards that.
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
    resources = Resources(
        workers=workers,
        threads=threads,
        memory_bytes=memory,
        scheduler=scheduler,
        cluster=cluster,
        task_timeout_s=task_timeout,
    )
    check_options(options, resources)
    parse_codec(options.codec, 1, 1)  # a wrong one is told now, and not when the headers of all files are read
    found = source_list(sources)
    target = check_target(dest, work, single_writer=single_writer)
    run = Run(target, options, progress or silent, rebuild=overwrite or no_resume, forget=no_resume)
    with start_engine(resources, progress or silent) as engine:
        return dry(run, engine, found) if dry_run else run_conversion(run, engine, found)


# ---------------------------------------------------------------------------- one run


def dry(run: Run, engine: Engine, sources: Sequence[str]) -> Report:
    """Plan without writing anything."""
    from fastdcm.series.plan import plan_document

    started = time.monotonic()
    journal = known_journal(run)
    scanned = scan_sources(run, engine, sources)
    index, earlier = _merged(run, scanned)
    found = map_index(engine, index, run.options, ask=True, journal=journal, earlier=earlier, progress=run.progress)
    state = State(found, dict(journal.volumes), {})
    withhold_bad(state, run.options)

    def is_planned(volume: Planned) -> bool:
        return volume.path not in found.left_out and volume.path not in state.faults

    outcomes = settle(state, is_planned)
    report = make_report(run, state, outcomes, started, found.warnings)
    plans = (state.plan_of(volume) for volume in state.volumes() if is_planned(volume))
    return replace(report, plan=plan_document(plans, refusals_of(state, outcomes)))


def run_conversion(run: Run, engine: Engine, sources: Sequence[str]) -> Report:
    """Convert: the pipeline from files to a report."""
    started = time.monotonic()
    with hold_target(run.target), Spool(run.target.work) as spool:
        scanned = scan_sources(run, engine, sources)
        finished = finished_report(run, scanned)
        if finished is not None:
            return replace(finished, seconds=time.monotonic() - started)
        journal, (index, earlier) = known_journal(run), _merged(run, scanned)
        found = map_index(
            engine,
            index,
            run.options,
            ask=True,
            journal=journal,
            earlier=earlier,
            spool=spool,
            progress=run.progress,
        )
        forget_finished(run.target)
        keep_index(run.target.index, index, scanned.started_ns)
        with writing("the map"):
            keep_map(run.target.index, found, scanned.started_ns)
        append_patients(run.target.work, *named_patients(found))
        state = State(found, dict(journal.volumes), dict(journal.bad))

        def written(engine: Engine) -> Build:
            return Writer(engine, found.index, run.options, run.target.partials).write

        return write_store(run, engine, state, started, written)


def scan_sources(run: Run, engine: Engine, sources: Sequence[str], ours: Sequence[Path] = ()) -> Scanned:
    """Read the headers that the index of the last run does not have; what is ours, or the run's, is no input."""
    folders: tuple[str | Path, ...] = (str(run.target.dest), run.target.work, *ours)
    earlier = None if run.rebuild else str(run.target.index)
    return scan_headers(engine, sources, folders, run.progress, earlier=earlier)


def _merged(run: Run, scanned: Scanned) -> tuple[Index, EarlierMap | None]:
    """Return the index of all files, and the map of the last run where it holds."""
    index, origins = scanned.merged()
    return index, open_map(run.target.index, run.options, scanned, origins)


def keep_index(folder: Path, index: Index, started_ns: int) -> None:
    """Keep the instance index as Parquet in the working folder: private, it names sources and patients."""
    from fastdcm.scan.index import save_index
    from fastdcm.scan.kept import reader_version

    with writing("the index"):
        save_index(index, str(folder), reader=reader_version(), started_ns=started_ns)


def known_journal(run: Run) -> Journal:
    """Return what earlier runs left, but not the frames that could not be read for a reason that may have passed."""
    untouched = is_untouched(run.target)
    journal = load_journal(run.target.dest, run.target.work, alone=run.target.alone, untouched=untouched)
    return replace(journal, bad={}) if run.forget else journal
