"""The end of array jobs: publish what the parts made, by the steps of ``convert``, or say what is missing."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np

from fastdcm.errors import UsageError
from fastdcm.model import Resources, VolumePlan
from fastdcm.run.account import Run, State, named_patients
from fastdcm.run.array_plan import Document, read_plan
from fastdcm.run.book import stored_files
from fastdcm.run.convert import known_journal
from fastdcm.run.execute import Engine, start_engine
from fastdcm.run.finished import forget_finished
from fastdcm.run.map_document import VolumeRow, key_of, load_map, published_before, share_owners, wanted_volumes
from fastdcm.run.options import Source, check_options
from fastdcm.run.progress import Callback, silent
from fastdcm.run.records import Journal, append_patients, published_digest
from fastdcm.run.report import Report
from fastdcm.run.results import find_result, is_there
from fastdcm.run.rounds import Build, write_store
from fastdcm.run.target import Target, check_target, device_of, hold_target
from fastdcm.run.write import Built, Writer
from fastdcm.store.commit import writing

FINISHING = "finishing.jsonl"
NAMED = 10
"""Missing volumes and parts that a message names."""


def finish(
    plan: Source,
    *,
    workers: int | None = None,
    threads: int = 1,
    memory: int | None = None,
    scheduler: str = "local",
    task_timeout: float | None = None,
    progress: Callback | None = None,
) -> Report:
    """Publish what the parts of a plan made, if it is complete, and account for every file.

    The store is that of ``convert`` with the options of the plan. Where ``on_bad_frame`` is ``drop`` or ``fill``,
    series with frames that turned out bad are planned anew and written here.

    Parameters
    ----------
    plan : path
        Folder of the plan. Nothing in it is needed any more when this returns.
    workers, threads, memory, scheduler, task_timeout, progress
        As in ``fastdcm.convert``.

    Returns
    -------
    Report
        As ``convert`` gives it.

    Raises
    ------
    UsageError
        There is no such plan, volumes of it are missing, or the store was changed since; nothing was published.
    TargetError
        The target failed; what was published before stays, and the same call goes on.

    Examples
    --------
    >>> import fastdcm
    >>> planned = fastdcm.plan("export", out="complete", where="kernel == 'LUNG'")
    >>> parts = [fastdcm.run("complete", part=f"{i}/2") for i in (1, 2)]
    >>> fastdcm.finish("complete").volumes["written"]
    2
    """
    started = time.monotonic()
    resources = Resources(
        workers=workers, threads=threads, memory_bytes=memory, scheduler=scheduler, task_timeout_s=task_timeout
    )
    document = read_plan(plan)
    check_options(document.options, resources)
    target = check_target(document.target.folder, document.target.work)
    if device_of(document.folder) != device_of(target.folder):
        raise UsageError(f"{document.folder} is on another file system than {target.dest}: volumes are renamed")
    run = Run(target, document.options, progress or silent, document.rebuild, document.forget)
    with start_engine(resources, progress or silent) as engine, hold_target(target):
        journal = known_journal(run)
        _check_store(document, journal)
        _check_complete(document)
        _note_published(document, ())
        found = load_map(document.folder, run.options, engine, journal, document.warnings)
        forget_finished(target)
        _keep_index(document, target)
        append_patients(target.work, *named_patients(found))
        state = State(found, dict(journal.volumes), dict(journal.bad))

        def made(engine: Engine) -> Build:
            return _made_by_parts(document, Writer(engine, found.index, run.options, target.partials))

        return write_store(run, engine, state, started, made)


def _keep_index(document: Document, target: Target) -> None:
    """Keep the index of the plan as ``convert`` keeps its own: a later scan reads what is new or changed since."""
    from fastdcm.store.commit import sync_path

    with writing("the index"):
        target.index.mkdir(exist_ok=True)
        for path in (document.folder / "index").iterdir():
            partial = target.index / f".{path.name}.partial"
            shutil.copyfile(path, partial)
            sync_path(partial)
            partial.replace(target.index / path.name)


def _check_store(document: Document, journal: Journal) -> None:
    """See that the store is that of the plan, and what an earlier ``finish`` of it published."""
    before = published_before(document.folder)
    begun = _published_here(document)
    ours = {(volume.path, volume.digest) for volume in wanted_volumes(document.folder)} | (begun or set())
    now = {path: record.digest for path, record in journal.volumes.items()}
    strange = [path for path, digest in now.items() if before.get(path) != digest and (path, digest) not in ours]
    replaced = {path for path, _ in ours}
    gone = [path for path in before if path not in now and path not in replaced] if begun is None else []
    if strange or gone:
        count = len(strange) + len(gone)
        raise UsageError(
            f"the store was changed after the plan was made ({count} of its volumes, {sorted(strange + gone)[0]} is "
            "one); nothing was published; make the plan again"
        )


def _check_complete(document: Document) -> None:
    """Refuse to publish a set that is not complete, and say what makes it so."""
    volumes = list(wanted_volumes(document.folder))
    missing = {row: volume for row, volume in enumerate(volumes) if not _has_result(document, volume)}
    if not missing:
        return
    named = [f"  {volume.path}" for volume in list(missing.values())[:NAMED]]
    if len(missing) > NAMED:
        named.append(f"  and {len(missing) - NAMED} more")
    commands = [f"  fastdcm run {document.folder} --part {part}" for part in _parts_of(document, missing)]
    raise UsageError(
        "\n".join(
            [
                f"{len(missing)} of the {len(volumes)} volumes of the plan are missing, nothing was published:",
                *named,
                "what makes them:",
                *commands,
            ]
        )
    )


def _has_result(document: Document, volume: VolumeRow) -> bool:
    """Tell whether a part did this volume, well or not."""
    made = find_result(document.folder, volume.key)
    if made is None or not made.result.ready:
        return made is not None
    return is_there(made) or published_digest(document.target.dest / volume.path) == volume.digest


def _parts_of(document: Document, missing: Iterable[int]) -> Iterator[str]:
    """Yield the parts that hold what is missing, of as many as were run; all in one where that is shorter."""
    marks = [mark.name.partition("-of-") for mark in (document.folder / "parts").iterdir()]
    counts = sorted((sum(last == n for _, _, last in marks), int(n)) for n in {last for _, _, last in marks} if n)
    parts = counts[-1][1] if counts else 1
    owners = share_owners(document.folder, parts)
    wanted = sorted({int(owners[row]) for row in missing})
    yield from (f"{number}/{parts}" for number in wanted) if len(wanted) <= NAMED else ["1/1"]


def _made_by_parts(document: Document, writer: Writer) -> Build:
    """Return what takes finished volumes from the plan, and writes those that are planned only now."""
    from fastdcm.series.plan import array_bytes, in_fallback

    def build(plans: Iterable[VolumePlan], tell: Callable[[int], None]) -> Iterator[Built]:
        anew: list[VolumePlan] = []
        for planned in plans:
            files = stored_files(planned).astype(np.int32)
            made = find_result(document.folder, key_of(planned.path, planned.digest, files))
            if made is None:
                anew.append(planned)
            elif is_there(made) or not made.result.ready:
                as_written = planned if made.dtype == planned.array.dtype else in_fallback(planned, document.options)
                tell(array_bytes(planned.array))
                yield Built(as_written, str(made.volume), made.result)
        _note_published(document, anew)
        yield from writer.write(anew, tell)

    return build


def _published_here(document: Document) -> set[tuple[str, str]] | None:
    """Return the volumes that ``finish`` planned anew; None where it never began to publish."""
    try:
        lines = (document.folder / FINISHING).read_text(encoding="ascii").splitlines()
    except FileNotFoundError:
        return None
    return {(path, digest) for path, digest in map(json.loads, lines)}


def _note_published(document: Document, plans: Sequence[VolumePlan]) -> None:
    """Note what the store will hold besides what was planned, before it does: a ``finish`` that died goes on."""
    with writing("the plan"), open(document.folder / FINISHING, "a", encoding="ascii") as file:
        for planned in plans:
            file.write(json.dumps([planned.path, planned.digest]) + "\n")
        file.flush()
        os.fsync(file.fileno())
