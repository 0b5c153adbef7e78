"""Units whose frames are compressed, done in a child: a frame that ends its decoder three times is a bad frame.

Native pixels are never sent to another process. Where a child is lost, the frame that it was at is tried alone; a unit
that was only unlucky (a kill, no memory) is done again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import NamedTuple

from fastdcm.errors import Code
from fastdcm.model import FrameSource, PixelFormat, ShardTask
from fastdcm.run.isolate import Lost, Mark, call
from fastdcm.run.task import Unit, UnitResult, Watch, run_unit, tasks_of, try_cell

TRIES = 3
"""So often a frame may end its process, or stand still, before it is left alone."""
FRAME_S = 120.0
MIB_S = 2.0
"""The time of a frame, and for each MiB that it decodes to: a hundred times what the slowest codec takes."""

Place = tuple[int, int]
"""Number of a task in its unit, cell of the task."""
Reason = tuple[Code, str]
_Key = tuple[str, int]
"""File, frame."""


class _Watched(NamedTuple):
    unit: Unit
    bad: Mapping[Place, Reason]


def run_safely(unit: Unit, timeout_s: float | None = None) -> UnitResult:
    """Do what ``run_unit`` does, so that no frame can end this process.

    Parameters
    ----------
    unit : Unit
        What to write.
    timeout_s : float, optional
        Seconds that a frame may take; by default 120, and two for each MiB that it decodes to.

    Returns
    -------
    UnitResult
        Frames that ended their decoder, or stood still, three times are faults DECODER_CRASH and DECODER_TIMEOUT.

    Raises
    ------
    TargetError
        The target cannot be written.
    Lost
        The child was lost three times where nothing was decoded.
    """
    from fastdcm.pixels.read import needs_decoder

    tasks = tasks_of(unit)
    formats = {
        source.format for task in tasks for source in task.sources if source is not None and needs_decoder(source)
    }
    if not formats:
        return run_unit(unit)
    limit_s = timeout_s or max(map(frame_limit_s, formats))
    bad: dict[Place, Reason] = {}
    unlucky = 0
    while True:
        try:
            return call(_run_watched, _Watched(unit, bad), limit_s)
        except Lost as lost:
            found = _culprits(tasks, lost, limit_s)
            unlucky += not found
            if unlucky == TRIES and lost.place is None:
                raise
            if unlucky == TRIES and lost.place is not None:
                task, cell = lost.place
                found = dict.fromkeys(_frames_of(tasks)[_key(tasks[task].sources[cell])], reason_of(lost))
            bad |= found


def reason_of(lost: Lost) -> Reason:
    """Return what the store says of a frame: the same whatever ended its decoder the last time, and when."""
    if lost.code is Code.DECODER_TIMEOUT:
        return lost.code, "its decoder does not come to an end"
    return lost.code, "its decoder ends the process"


def frame_limit_s(pixels: PixelFormat) -> float:
    """Return the seconds that a frame may take by default."""
    bits = pixels.rows * pixels.columns * pixels.samples * pixels.bits_allocated
    return FRAME_S + MIB_S * bits / 8 / 2**20


def try_often(attempt: Callable[[], object], lost: Lost | None = None) -> Lost | None:
    """Return how a child was lost, where that happens every time; ``lost`` is the first time."""
    for _ in range(TRIES if lost is None else TRIES - 1):
        try:
            attempt()
        except Lost as again:
            lost = again
        else:
            return None
    return lost


def _run_watched(watched: _Watched, mark: Mark) -> UnitResult:
    def watch(number: int) -> Watch:
        bad = {cell: reason for (task, cell), reason in watched.bad.items() if task == number}
        return Watch(lambda cell: mark(number if cell >= 0 else -1, cell), bad)

    return run_unit(watched.unit, watch)


def _culprits(tasks: Sequence[ShardTask], lost: Lost, limit_s: float) -> dict[Place, Reason]:
    """Return the frame at which a child was lost, if it is to blame, and then those after it that are too."""
    if lost.place is None:
        return {}
    frames = _frames_of(tasks)
    keys = list(frames)
    task, cell = lost.place
    bad: dict[Place, Reason] = {}
    for key in keys[keys.index(_key(tasks[task].sources[cell])) :]:
        number, cell = frames[key][0]
        found = try_often(partial(call, _try, (tasks[number], cell), limit_s), None if bad else lost)
        if found is not None:
            bad |= dict.fromkeys(frames[key], reason_of(found))
        elif not bad:  # it was an accident
            return {}
    return bad


def _frames_of(tasks: Sequence[ShardTask]) -> dict[_Key, list[Place]]:
    """Return the cells of each frame, in the order in which they are read."""
    frames: dict[_Key, list[Place]] = {}
    for number, task in enumerate(tasks):
        for cell, source in enumerate(task.sources):
            if source is not None:
                frames.setdefault(_key(source), []).append((number, cell))
    return frames


def _key(source: FrameSource | None) -> _Key:
    return ("", 0) if source is None else (source.path, source.frame)


def _try(place: tuple[ShardTask, int], mark: Mark) -> None:
    task, cell = place
    mark(0, cell)
    try_cell(task, cell)
