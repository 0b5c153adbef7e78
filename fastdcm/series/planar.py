"""Volumes of one plane: frames of a 2-D instance along t, and slices that rotate about one axis."""

from __future__ import annotations

import numpy as np

from fastdcm.model import Axis, Floats, Frames, Ints
from fastdcm.series.partition import Planes, rotation_axis
from fastdcm.series.repeats import CHANNEL_TAGS, TIME_TAGS, Tag, separate, tag_codes, tag_values

DAY_S = 86400.0


def frame_axes(frames: Frames, rows: Ints) -> tuple[Ints, tuple[Axis, ...]]:
    """Arrange the frames of a 2-D instance: energy windows or segments along c, the rest along t.

    Parameters
    ----------
    frames : Frames
        The series.
    rows : ndarray
        (n,) rows of the instance (or of one concatenation).

    Returns
    -------
    cells : ndarray
        (t, c, 1) rows.
    axes : tuple of Axis
        None for a single frame. Frames without a vector that separates them have the role ``frame``, with ms after the
        first where they are known: by offsets of the frames, Frame Time (0018,1063), or the clock of each frame.
    """
    if len(rows) == 1 and np.isnan(frames.numbers["segment"][rows[0]]):
        return rows[:, None, None], ()
    offset = np.nan_to_num(frames.numbers["frame_offset_number"][rows])
    number = np.nan_to_num(frames.numbers["concatenation_number"][rows])
    rows = rows[np.lexsort((frames.frame[rows], number, offset))]
    part = frames.take(rows)
    cell = np.zeros(len(rows), dtype=np.int64)
    axes: list[Axis] = []
    channels = 1
    for tag in CHANNEL_TAGS:
        found = separate(cell, tag_codes(part, tag)) if tag.role in ("energy_window", "segment") else None
        if found and channels == 1:
            channels, _, cell = found
            axes = [Axis("c", tag.role, tag.unit, _values(part, tag, cell))]
    segment = frames.numbers["segment"][rows]
    if not axes and segment[0] == segment[0] and (segment == segment[0]).all():
        axes = [Axis("c", "segment", None, (int(segment[0]),))]
    order = np.lexsort((np.arange(len(rows)), cell))
    cells = rows[order].reshape(channels, -1).T[:, :, None]
    if cells.shape[0] > 1:
        axes.insert(0, _time_axis(frames.take(cells[:, 0, 0])))
    return cells, tuple(axes)


def _values(frames: Frames, tag: Tag, labels: Ints) -> tuple[object, ...]:
    """Return the value of a tag for each label."""
    values = tag_values(frames, tag)
    return tuple(values[row] for row in np.unique(labels, return_index=True)[1].tolist())


def _time_axis(frames: Frames) -> Axis:
    """Return the t axis of frames that all have one energy window or segment."""
    times = _times_ms(frames)
    for tag in _VECTORS:
        named = tag.role != "temporal_position" or times is None
        if named and len(np.unique(tag_codes(frames, tag))) == len(frames):
            return Axis("t", tag.role, None, tuple(tag_values(frames, tag)))
    if times is not None:
        return Axis("t", "frame", "ms", tuple(times.tolist()))
    return Axis("t", "frame", None, tuple(range(len(frames))))


_VECTORS = (
    *(tag for tag in TIME_TAGS if tag.role == "detector"),
    Tag("angular_view", "t", None, "Angular View Vector (0054,0090)", ("angular_view",)),
    Tag("detector_view", "t", None, "detector and angular view", ("detector", "angular_view")),
    *(tag for tag in TIME_TAGS if tag.role == "temporal_position"),
)
"""What may name the frames of a 2-D instance; ``detector_view`` has a pair for each projection of a tomography."""


def _times_ms(frames: Frames) -> Floats | None:
    """Return (n,) ms after the first frame, None where they are unknown or do not ascend."""
    offsets, step = frames.numbers["frame_offset_ms"], float(frames.numbers["frame_time_ms"][0])
    if (np.diff(offsets) > 0).all():
        since: Floats = offsets - offsets[0]
        return since
    if 0 < step < np.inf:
        return np.arange(len(frames), dtype=np.float64) * step
    steps = np.mod(np.diff(frames.numbers["acquisition_time"]), DAY_S)  # over midnight, too
    if (steps > 0).all() and steps.sum() < DAY_S / 2:
        times: Floats = np.round(np.append(0.0, np.cumsum(steps)) * 1000.0, 3)
        return times
    return None


def rotation(frames: Frames, rows: Ints, planes: Planes) -> tuple[Ints, Axis]:
    """Arrange single slices that rotate about one axis along t, in the order of Instance Number.

    Returns
    -------
    cells : ndarray
        (t, 1, 1) rows.
    axis : Axis
        Role ``rotation``: degrees from the first slice.
    """
    rows = rows[np.lexsort((rows, frames.frame[rows], frames.numbers["instance_number"][rows]))]
    axes = planes.axes[rows]
    shared = rotation_axis(axes)
    if shared is None:
        raise ValueError("the slices share no axis of rotation")
    normals = axes[:, :, 2]
    sine = np.cross(normals[0], normals) @ shared
    degrees = np.rad2deg(np.unwrap(np.arctan2(sine, normals @ normals[0])))
    degrees = degrees if degrees[-1] >= 0 else -degrees
    return rows[:, None, None], Axis("t", "rotation", "degree", tuple((np.round(degrees, 6) + 0.0).tolist()))
