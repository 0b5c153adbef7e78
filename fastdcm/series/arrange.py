"""Images at repeated positions to volumes: complete repeats as they are, interrupted runs by their complete steps."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from fastdcm.errors import Code
from fastdcm.model import Frames, Ints, Reason
from fastdcm.series.repeats import (
    CHANNEL_TAGS,
    TIME_TAGS,
    Arrangement,
    arrange_complete,
    instance_rank,
    tag_codes,
)
from fastdcm.series.runs import Steps, by_bands, by_scheme, by_sequence, by_value

CLOCKS = ("acquisition_time", "content_time", "frame_reference_time")
"""What counts on from run to run."""
RELATIVE = ("trigger_time", "cardiac_phase")
"""What begins anew at every slice."""


def arrange(frames: Frames, position: Ints) -> tuple[Arrangement, ...]:
    """Arrange frames of distinct positions into volumes with as many axes as repeats need.

    Parameters
    ----------
    frames : Frames
        (n,) frames that share a grid.
    position : ndarray
        (n,) labels 0..z-1 of their positions in slice order.

    Returns
    -------
    tuple of Arrangement
        Every frame is in exactly one. The first holds the most complete steps; steps that lack positions (an aborted
        run) follow with the reason ``ragged``.
    """
    counts = np.bincount(position)
    if counts.max() == 1:
        return (Arrangement(np.argsort(position)[None, None, :], (), ()),)
    if counts.min() == counts.max():
        return arrange_complete(frames, position)
    return _ragged(frames, position)


def _ragged(frames: Frames, position: Ints) -> tuple[Arrangement, ...]:
    """Arrange positions with unequally many images: steps that have the same positions form a volume."""
    step, doubtful = find_steps(frames, position)
    sets = _step_sets(position, step)
    if len(sets) == 1:  # the tag explains nothing; the order of the images always does
        sets, doubtful = _step_sets(position, instance_rank(frames, position)), True
    arranged: list[Arrangement] = []
    for members in sets:
        labels = np.unique(position[members], return_inverse=True)[1].reshape(-1)
        for found in arrange(frames.take(members), labels):
            whole = found._replace(cells=members[found.cells])
            if doubtful:
                whole = _doubted(whole, position)
            arranged.append(_noted(whole, position) if arranged else whole)
    return tuple(arranged)


def _step_sets(position: Ints, step: Ints) -> list[Ints]:
    """Return the rows of the steps that have images at the same positions, the largest set first."""
    groups: dict[bytes, list[Ints]] = {}
    for number in np.unique(step):
        members = np.flatnonzero(step == number)
        groups.setdefault(np.sort(position[members]).tobytes(), []).append(members)
    sets = [np.sort(np.concatenate(members)) for members in groups.values()]
    return sorted(sets, key=lambda members: -len(members))


def _noted(found: Arrangement, position: Ints) -> Arrangement:
    """Add the reason ``ragged``, once."""
    if any(reason.code == Code.RAGGED for reason in found.reasons):
        return found
    counts = np.bincount(position)
    these = "this image" if found.cells.size == 1 else f"these {found.cells.size} images"
    message = (
        f"positions do not have equally many images ({counts.min()} to {counts.max()}); {these} at "
        f"{found.cells.shape[2]} of {len(counts)} positions {'is' if found.cells.size == 1 else 'are'} none of the "
        f"steps that the largest volume holds."
    )
    return found._replace(reasons=(Reason(Code.RAGGED, message), *found.reasons))


def _doubted(found: Arrangement, position: Ints) -> Arrangement:
    """Flag steps that no header tells apart: a step may hold images of two runs."""
    if any(reason.code == Code.AXIS_INFERRED for reason in found.reasons):
        return found
    counts = np.bincount(position)
    message = (
        f"positions do not have equally many images ({counts.min()} to {counts.max()}) and no tag says which belong "
        f"together: they were taken in their order, a step may hold images of two runs."
    )
    axes = tuple(replace(axis, inferred=True) if axis.name == "t" else axis for axis in found.axes)
    return found._replace(axes=axes, reasons=(*found.reasons, Reason(Code.AXIS_INFERRED, message)))


# ---------------------------------------------------------------------------- the steps of an interrupted run


def find_steps(frames: Frames, position: Ints) -> Steps:
    """Return the step (repeat) of each frame where positions have unequally many.

    First a tag whose values agree over the positions, then such a tag within the channels; then the scheme of Instance
    Number, the order of the clocks, the bands of trigger times, the order of Instance Number. Whatever is clear comes
    before what is doubtful; last the rank within each position, which always is.

    Parameters
    ----------
    frames : Frames
        (n,) frames that share a grid.
    position : ndarray
        (n,) labels of their positions from 0.
    """
    doubtful: Steps | None = None
    for found in _proposals(frames, position):
        if found and not found.doubtful:
            return found
        doubtful = doubtful or found
    return doubtful or Steps(_ranked(frames, position), doubtful=True)


def _proposals(frames: Frames, position: Ints) -> Iterator[Steps | None]:
    """Yield what each way of telling steps apart finds, the best first."""
    for tag in (*CHANNEL_TAGS, *TIME_TAGS):
        yield by_value(position, tag_codes(frames, tag))
    slot = _slots(frames, position)
    finer = not np.array_equal(slot, position)
    for tag in TIME_TAGS if finer else ():
        yield by_value(slot, tag_codes(frames, tag))
    number = frames.numbers["instance_number"]
    for label in (slot, position) if finer else (position,):
        if label.max() + 1 == len(label):
            continue
        yield by_scheme(label, number)
        for name in CLOCKS:
            yield by_sequence(label, frames.numbers[name])
        for name in RELATIVE:
            yield by_bands(label, frames.numbers[name])
        yield by_sequence(label, number)


def _slots(frames: Frames, position: Ints) -> Ints:
    """Return position and channel of each frame: by the channel tags all of whose values are at every position."""
    positions = int(position.max()) + 1
    slot, channel = position, np.zeros(len(position), dtype=np.int64)
    for tag in CHANNEL_TAGS:
        code = tag_codes(frames, tag)
        finer = np.unique(channel * (int(code.max()) + 1) + code, return_inverse=True)[1].reshape(-1)
        width = int(finer.max()) + 1
        cells, label = np.unique(position * width + finer, return_inverse=True)
        if len(cells) == positions * width:
            slot, channel = label.reshape(-1), finer
    return slot


def _ranked(frames: Frames, position: Ints) -> Ints:
    """Return the rank of each frame within its position by time, else by Instance Number."""
    for tag in TIME_TAGS:
        code = tag_codes(frames, tag)
        width = int(code.max()) + 1
        pairs, inverse = np.unique(position * width + code, return_inverse=True)
        if width > 1 and len(pairs) == len(position):
            rank: Ints = inverse.reshape(-1) - np.searchsorted(pairs // width, position)
            return rank
    return instance_rank(frames, position)
