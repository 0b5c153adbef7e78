"""The plan of array jobs: a folder that decides every byte of the store, for parts and ``finish`` to go by."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from fastdcm.errors import UsageError
from fastdcm.model import FORMAT_VERSION, Json, Options, Resources, Tolerances
from fastdcm.run.account import Run, State
from fastdcm.run.convert import keep_index, known_journal, scan_sources
from fastdcm.run.execute import Engine, start_engine
from fastdcm.run.map_document import save_map
from fastdcm.run.options import Source, check_options, source_list
from fastdcm.run.progress import Callback, silent
from fastdcm.run.report import ArrayPlan
from fastdcm.run.rounds import is_wanted, withhold_bad
from fastdcm.run.survey import map_index
from fastdcm.run.target import Target, check_target, device_of
from fastdcm.series.layout import parse_codec
from fastdcm.store.commit import writing
from fastdcm.version import __version__

PLAN = "plan.json"


@dataclass(frozen=True, slots=True)
class Document:
    """A plan as it was read: what was asked for, and where."""

    folder: Path
    target: Target
    options: Options
    rebuild: bool
    forget: bool
    warnings: tuple[str, ...]


def plan(  # noqa: PLR0913 - one keyword an option of the command line
    sources: Source | Sequence[Source],
    *,
    out: Source,
    dest: Source | None = None,
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
    work: Source | None = None,
    tolerances: Tolerances | None = None,
    progress: Callback | None = None,
) -> ArrayPlan:
    """Plan a conversion whose volumes are written by array jobs: read every header, and decide everything.

    Parameters
    ----------
    sources : path or sequence of path
        Files and folders; every host that runs a part must see them at the same paths.
    out : path
        Folder of the plan: absent or empty, on the file system of ``dest``. It names sources and patients.
    dest : path, optional
        Of the store; ``out`` with ``.zarr`` behind its name by default.
    where, image_type, no_localizers, no_derived, values, codec, chunks, shard, on_gap, on_bad_frame, on_conflict
        As in ``fastdcm.convert``.
    metadata, invert_monochrome1, overwrite, no_resume, work, tolerances
        As in ``fastdcm.convert``; parts have none of these.
    workers, threads, memory, scheduler, cluster, task_timeout, progress
        As in ``fastdcm.convert``: for the planning itself.

    Returns
    -------
    ArrayPlan
        What is to be written.

    Raises
    ------
    UsageError
        The call cannot work: options, sources, ``out`` or ``dest``.
    TargetError
        The plan cannot be written.

    Examples
    --------
    >>> import fastdcm
    >>> planned = fastdcm.plan("export", out="planned", where="kernel == 'LUNG'")
    >>> planned.dest.name, planned.volumes
    ('planned.zarr', 2)
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
    folder = Path(os.path.abspath(out))
    target = check_target(folder.with_name(f"{folder.name}.zarr") if dest is None else dest, work)
    _check_folder(folder, target)
    run = Run(target, options, progress or silent, rebuild=overwrite or no_resume, forget=no_resume)
    with start_engine(resources, progress or silent) as engine:
        return _plan_on(engine, run, found, folder)


def _check_folder(folder: Path, target: Target) -> None:
    if folder in (target.dest, target.work) or {target.dest, target.work} & set(folder.parents):
        raise UsageError(f"{folder} lies inside the store or its working folder; give another --out")
    if os.path.lexists(folder) and not (folder.is_dir() and not any(folder.iterdir())):
        raise UsageError(f"{folder} is there already; remove it, or give another --out")
    if device_of(folder) != device_of(target.folder):
        raise UsageError(f"{folder} is on another file system than {target.dest}: volumes are published by rename")


def _plan_on(engine: Engine, run: Run, sources: Sequence[str], folder: Path) -> ArrayPlan:
    """Survey, and write the plan aside; it is there when it is complete."""
    started = time.monotonic()
    aside = folder.with_name(f"{folder.name}.partial")
    journal = known_journal(run)
    scanned = scan_sources(run, engine, sources, (folder, aside))
    index = scanned.index()
    found = map_index(engine, index, run.options, ask=True, journal=journal, progress=run.progress)
    state = State(found, dict(journal.volumes), {})
    withhold_bad(state, run.options)
    volumes = list(state.volumes())
    wanted = np.fromiter((is_wanted(run, state, volume) for volume in volumes), np.bool_, len(volumes))
    with writing("the plan"):
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(parents=True, mode=0o700)
        keep_index(aside / "index", index, scanned.started_ns)
        save_map(aside, found, journal, wanted)
        (aside / PLAN).write_text(json.dumps(_told(run, found.warnings), indent=1), encoding="ascii")
        for name in ("built", "partial", "parts"):
            (aside / name).mkdir()
        _move(aside, folder)
    return ArrayPlan(
        path=folder,
        dest=run.target.folder,
        files=found.index.instances.num_rows,
        volumes=int(wanted.sum()),
        unchanged=sum(map(state.is_published, volumes)),
        bytes=int(found.facts.array_bytes[wanted].sum()),
        seconds=time.monotonic() - started,
        warnings=found.warnings,
    )


def _move(aside: Path, folder: Path) -> None:
    from fastdcm.store.commit import sync, sync_path

    sync([str(aside)])
    os.rename(aside, folder)  # an empty folder gives way
    sync_path(folder.parent)


def _told(run: Run, warnings: Sequence[str]) -> Json:
    return {
        "format": FORMAT_VERSION,
        "fastdcm": __version__,
        "dest": os.fspath(run.target.folder),
        "work": os.fspath(run.target.work),
        "rebuild": run.rebuild,
        "forget": run.forget,
        "options": asdict(run.options),
        "warnings": list(warnings),
    }


def read_plan(path: Source) -> Document:
    """Return a plan that ``plan`` wrote.

    Raises
    ------
    UsageError
        There is no plan, or one of another version of fastdcm.
    """
    folder = Path(os.path.abspath(path))
    try:
        told = json.loads((folder / PLAN).read_bytes())
        options = told["options"]
        chunks = None if options["chunks"] is None else tuple(options["chunks"])
        asked = Options(**{**options, "chunks": chunks, "tolerances": Tolerances(**options["tolerances"])})
        target = Target(Path(told["dest"]), Path(told["work"]))
        found = Document(folder, target, asked, told["rebuild"], told["forget"], tuple(told["warnings"]))
    except OSError as error:
        raise UsageError(f"{path} is no plan: {error.strerror}; fastdcm plan makes one") from error
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{path} is no plan: its {PLAN} cannot be read; fastdcm plan makes one") from error
    if (told["format"], told["fastdcm"]) != (FORMAT_VERSION, __version__):
        text = f"the plan is of fastdcm {told['fastdcm']}, this is {__version__}; make it again"
        raise UsageError(text)
    return found
