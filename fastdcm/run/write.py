"""Plans to finished partials: cut into units, run them, bring their results together volume by volume."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import count
from typing import NamedTuple

import numpy as np

from fastdcm.errors import Code, TargetError
from fastdcm.model import FrameFault, Index, Options, ShardResult, ShardTask, VolumePlan
from fastdcm.objects import is_url
from fastdcm.run.away import run_anywhere
from fastdcm.run.execute import Engine, map_tasks
from fastdcm.run.futures import WorkerLost
from fastdcm.run.task import Unit, UnitResult, VolumeResult, WholeVolume, WrittenVolume, remove_partial

UNIT_BYTES = 32 * 2**20
UNIT_VOLUMES = 64
"""Small volumes of one unit: together about 0.1 s of work, and no more memory than a shard."""


class Built(NamedTuple):
    """A volume for which all work is done, well or not."""

    plan: VolumePlan
    """As written: in the fallback type where that was needed."""
    partial: str
    """Folder in which it was built; in an object store its place."""
    result: VolumeResult


@dataclass(slots=True)
class _Open:
    """A large volume of which some shards are still to come."""

    plan: VolumePlan
    waiting: int
    results: list[ShardResult] = field(default_factory=list)


class Writer:
    """The volumes in work. One object a run: it holds what is between a plan and its result, nothing else."""

    def __init__(self, engine: Engine, index: Index, options: Options, partials: str) -> None:
        self._engine, self._index, self._options, self._partials = engine, index, options, partials
        self._open: dict[str, _Open] = {}
        self._plans: dict[str, VolumePlan] = {}
        self._again: deque[VolumePlan] = deque()
        self._units: deque[Unit] = deque()
        self._places: dict[str, str] = {}
        self._numbers = count()

    def write(self, plans: Iterable[VolumePlan], done: Callable[[int], None]) -> Iterator[Built]:
        """Write volumes aside, and yield each when nothing more can be done for it.

        Parameters
        ----------
        plans : iterable of VolumePlan
            Taken as room appears.
        done : callable
            Told the uncompressed bytes of each finished piece.

        Yields
        ------
        Built
            In the order in which they finish.

        Raises
        ------
        TargetError
            The target cannot be written.
        """
        from fastdcm.store.commit import writing

        if not is_url(self._partials):
            with writing("the working folder"):
                os.makedirs(self._partials, exist_ok=True)  # a run that builds nothing leaves it untouched
        stream = self._cut(plans)
        while True:
            run = partial(run_anywhere, timeout_s=self._engine.task_timeout_s)
            for unit, result in map_tasks(run, self._following(stream), self._engine):
                done(unit_bytes(unit))
                yield from self._take(unit, result)
            if not self._units and not self._again:
                return
            stream = iter(())

    def _following(self, stream: Iterator[Unit]) -> Iterator[Unit]:
        """Follow-up work first, so that volumes that were begun are finished."""
        while True:
            if self._units:
                yield self._units.popleft()
            elif self._again:
                self._units.extend(self._cut([self._again.popleft()]))
            elif (unit := next(stream, None)) is not None:
                yield unit
            else:
                return

    # ------------------------------------------------------------------ plans to units

    def _cut(self, plans: Iterable[VolumePlan]) -> Iterator[Unit]:
        """Put small volumes together, and take large ones apart."""
        from fastdcm.series.plan import array_bytes, shard_tasks, task_bytes

        small: list[VolumePlan] = []
        size = 0
        for plan in plans:
            self._plans[plan.path] = plan
            own = array_bytes(plan.array)
            if task_bytes(plan.array) < own:
                tasks = tuple(shard_tasks(plan, self._index, self._partial(plan.path)))
                self._open[plan.path] = _Open(plan, len(tasks))
                yield from tasks
                continue
            if small and (size + own > UNIT_BYTES or len(small) == UNIT_VOLUMES):
                yield self._together(small)
                small, size = [], 0
            small.append(plan)
            size += own
        if small:
            yield self._together(small)

    def _together(self, plans: Sequence[VolumePlan]) -> tuple[WholeVolume, ...]:
        """Make one unit of small volumes; their files are looked up together."""
        from fastdcm.series.plan import shard_tasks
        from fastdcm.series.sources import source_facts

        instances = {row for plan in plans for row in plan.frames.instance.tolist()}
        files = source_facts(self._index, np.array(sorted(instances)))
        partials = [self._partial(plan.path) for plan in plans]
        return tuple(
            WholeVolume(plan, partial, tuple(shard_tasks(plan, self._index, partial, files)))
            for plan, partial in zip(plans, partials, strict=True)
        )

    def _partial(self, path: str) -> str:
        """Return where a volume is built: aside, but where nothing can be renamed at its place."""
        if path not in self._places:
            name = path if is_url(self._partials) else str(next(self._numbers))
            self._places[path] = f"{self._partials}/{name}"
        return self._places[path]

    # ------------------------------------------------------------------ results to volumes

    def _take(self, unit: Unit, result: UnitResult | Exception) -> Iterator[Built]:
        if isinstance(result, TargetError):
            raise result
        if isinstance(result, Exception):
            yield from self._crashed(unit, result)
        elif isinstance(result, ShardResult):
            self._shard_done(result)
        else:
            for one in result:
                yield from self._volume_done(one)

    def _shard_done(self, result: ShardResult) -> None:
        volume = self._open.get(result.volume)
        if volume is None:
            return  # a sibling crashed
        volume.results.append(result)
        volume.waiting -= 1
        if not volume.waiting:
            del self._open[result.volume]
            partial = self._partial(result.volume)
            results = tuple(sorted(volume.results, key=lambda result: result.region))
            self._units.append(WrittenVolume(volume.plan, partial, results))

    def _volume_done(self, result: VolumeResult) -> Iterator[Built]:
        plan = self._plans[result.path]
        if result.overflow and not result.faults and plan.rule.dtype_fallback is not None:
            self._write_in_fallback(plan)
            return
        if result.overflow and not result.faults:
            fault = FrameFault(
                0, Code.INTERNAL, f"a value does not fit {plan.rule.dtype}, and no other type was planned"
            )
            result = replace(result, faults=(fault,))
        if not result.ready:
            remove_partial(self._partial(result.path))
        yield Built(self._plans.pop(result.path), self._partial(result.path), result)
        self._places.pop(result.path)

    def _write_in_fallback(self, plan: VolumePlan) -> None:
        from fastdcm.series.plan import in_fallback

        remove_partial(self._partial(plan.path))
        del self._places[plan.path]  # a lost worker may still be writing the other type: build it elsewhere
        self._again.append(in_fallback(plan, self._options))

    def _crashed(self, unit: Unit, error: Exception) -> Iterator[Built]:
        """Run the volumes of a unit one by one, so that only the one to blame is lost."""
        if isinstance(unit, tuple) and len(unit) > 1:
            self._units.extend((whole,) for whole in unit)
            return
        path = unit.volume if isinstance(unit, ShardTask) else (unit[0] if isinstance(unit, tuple) else unit).plan.path
        self._open.pop(path, None)
        if path in self._plans:
            message = f"{type(error).__name__} in fastdcm itself, please report: {str(error)[:200]}"
            fault = FrameFault(0, Code.INTERNAL, message)
            if isinstance(error, WorkerLost):
                fault = FrameFault(0, Code.WORKER_LOST, str(error))
            yield Built(self._plans.pop(path), self._partial(path), VolumeResult(path, 0, 0, (fault,), (), False))


def unit_bytes(unit: Unit) -> int:
    """Return the uncompressed bytes that a unit writes."""
    from math import prod

    if isinstance(unit, WrittenVolume):
        return 0
    tasks = [unit] if isinstance(unit, ShardTask) else [task for whole in unit for task in whole.tasks]
    return sum(
        prod(stop - start for start, stop in task.region) * np.dtype(task.array.dtype).itemsize for task in tasks
    )
