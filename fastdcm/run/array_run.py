"""One part of planned array jobs: it writes its share of the volumes below the plan, and nothing anywhere else."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import Literal

from fastdcm.errors import UsageError
from fastdcm.model import Resources, VolumePlan
from fastdcm.run.array_plan import Document, read_plan
from fastdcm.run.execute import Engine, fit_memory, start_engine
from fastdcm.run.finished import LASTING
from fastdcm.run.map_document import Share, VolumeRow, load_share
from fastdcm.run.options import Source, check_options
from fastdcm.run.progress import Callback, Progress, silent
from fastdcm.run.records import published_digest
from fastdcm.run.report import PartReport
from fastdcm.run.results import Keeper, find_result, is_there
from fastdcm.run.write import Writer
from fastdcm.store.commit import writing


def run(  # noqa: PLR0913 - one keyword an option of the command line
    plan: Source,
    *,
    part: str = "1/1",
    workers: int | None = None,
    threads: int = 1,
    memory: int | None = None,
    scheduler: str = "local",
    cluster: Literal["slurm"] | None = None,
    task_timeout: float | None = None,
    progress: Callback | None = None,
) -> PartReport:
    """Write the volumes of one part of a plan below its folder; those that are there already are left alone.

    Parameters
    ----------
    plan : path
        Folder of the plan.
    part : str
        ``I/N``: the I-th of N equal parts, from 1. Parts may run twice, at the same time, and of different N.
    workers, threads, memory, scheduler, cluster, task_timeout, progress
        As in ``fastdcm.convert``.

    Returns
    -------
    PartReport
        ``exit_code`` is 0 also where volumes cannot be converted: ``finish`` tells of their files.

    Raises
    ------
    UsageError
        There is no such plan or part.
    TargetError
        The plan's folder cannot be written.

    Examples
    --------
    >>> import fastdcm
    >>> planned = fastdcm.plan("export", out="shared", where="kernel == 'LUNG'")
    >>> fastdcm.run("shared", part="1/2").volumes["written"]
    1
    >>> fastdcm.run("shared").volumes  # all that is missing
    {'written': 1, 'ready': 1, 'failed': 0}
    """
    number, parts = _part_of(part)
    resources = Resources(
        workers=workers,
        threads=threads,
        memory_bytes=memory,
        scheduler=scheduler,
        cluster=cluster,
        task_timeout_s=task_timeout,
    )
    document = read_plan(plan)
    check_options(document.options, resources)
    with start_engine(resources, progress or silent) as engine, writing("the plan"):
        (document.folder / "parts" / f"{number}-of-{parts}").touch()
        return _run_part(engine, document, number, parts, progress or silent)


def _part_of(text: str) -> tuple[int, int]:
    first, _, last = text.partition("/")
    if not all(word.isascii() and word.isdigit() and len(word) < 10 for word in (first, last)):
        raise UsageError(f"the part is {text!r}, and must be I/N, for example 3/8")
    if not 1 <= int(first) <= int(last):
        raise UsageError(f"there is no part {text}: parts are 1/{last} to {last}/{last}")
    return int(first), int(last)


def _run_part(engine: Engine, document: Document, number: int, parts: int, progress: Callback) -> PartReport:
    started = time.monotonic()
    share = load_share(document.folder, document.options, engine, number, parts)
    todo = [volume for volume in share.volumes if not _is_done(document, volume)]
    engine, note = fit_memory(engine, max((volume.task_bytes for volume in todo), default=1))
    counts = {"written": 0, "ready": len(share.volumes) - len(todo), "failed": 0}
    bytes_read = bytes_written = finished = checks_failed = 0
    total = sum(volume.array_bytes for volume in todo)

    def tell(size: int = 0) -> None:
        nonlocal finished
        finished += size
        progress(Progress("convert", 0, counts["written"] + counts["failed"], len(todo), finished, total))

    keys = {volume.path: volume.key for volume in todo}
    keeper = Keeper(document.folder)
    try:
        writer = Writer(engine, share.book.index, document.options, str(keeper.partials))
        for built in writer.write(_plans(share, todo), tell):
            bytes_read += built.result.bytes_read
            bytes_written += built.result.bytes_written if built.result.ready else 0
            counts["written" if built.result.ready else "failed"] += 1
            if built.result.failed_check is None:
                keeper.keep(keys[built.plan.path], built)
            else:
                checks_failed += 1  # nothing is kept: the volume is missing, and the part can be run again
            tell()
    finally:
        keeper.flush()
        keeper.close()
    seconds = time.monotonic() - started
    warnings = (note,) if note else ()
    return PartReport(number, parts, counts, bytes_read, bytes_written, seconds, warnings, checks_failed)


def _plans(share: Share, volumes: Iterable[VolumeRow]) -> Iterator[VolumePlan]:
    for volume in volumes:
        found = share.book[volume.series].plans[volume.place]
        if (found.path, found.digest) != (volume.path, volume.digest):
            raise UsageError(f"{volume.path} is planned otherwise here than in the plan: make the plan again")
        yield found


def _is_done(document: Document, volume: VolumeRow) -> bool:
    """Tell whether nothing is left to do: what failed for a reason that may have passed is tried again."""
    made = find_result(document.folder, volume.key)
    if made is None:
        return False
    if not made.result.ready:
        return all(fault.code in LASTING for fault in made.result.faults)
    return is_there(made) or published_digest(document.target.dest / volume.path) == volume.digest
