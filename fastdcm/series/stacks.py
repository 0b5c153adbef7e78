"""Slices with geometry to volumes: table jumps, repeats, missing slices, and segmentations on their base grid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from fastdcm.errors import Code
from fastdcm.model import Axis, Floats, Frames, Geometry, Ints, Options, Reason, Tolerances
from fastdcm.series.arrange import arrange
from fastdcm.series.geometry import Plane, base_grid, grid_slots, position_labels, separate_lines, stack_geometry
from fastdcm.series.partition import Part, Planes
from fastdcm.series.repeats import CHANNEL_TAGS, TIME_TAGS, tag_codes, tag_values

KEPT_IRREGULAR = "Kept as irregular; --on-gap fill gives a regular grid."


class Draft(NamedTuple):
    """A volume that has no kind and no number yet."""

    cells: Ints
    """(t, c, z) rows, -1 where there is no frame."""
    axes: tuple[Axis, ...]
    geometry: Geometry
    reasons: tuple[Reason, ...]


def plane_of(frames: Frames, part: Part, planes: Planes) -> Plane:
    """Return what the frames of a part share, by its first frame."""
    row = int(part.rows[0])
    numbers = frames.numbers
    spacing = (float(numbers["spacing_x"][row]), float(numbers["spacing_y"][row]))
    known = all(0 < value < 1e6 for value in spacing)
    kind = frames.texts["spacing_kind"][row] or "patient"
    own = any(reason.code == Code.FRAME_OF_REFERENCE_PER_INSTANCE for reason in part.reasons)
    return Plane(
        axes=planes.axes[row] if planes.oriented[row] else None,
        spacing=spacing if known else None,
        spacing_kind=kind if known else "none",
        thickness=float(numbers["thickness"][row]),
        spacing_between=float(numbers["spacing_between"][row]),
        frame_of_reference_uid=None if own else frames.texts["frame_of_reference_uid"][row],
    )


def spacing_reasons(frames: Frames, row: int, needed: bool) -> tuple[Reason, ...]:
    """Flag Pixel Spacing that is there and unusable, or that the affine needs and lacks."""
    values = (frames.numbers["spacing_y"][row], frames.numbers["spacing_x"][row])
    if all(0 < value < 1e6 for value in values) or (not needed and all(value != value for value in values)):
        return ()
    return (Reason(Code.BAD_SPACING, "Pixel Spacing (0028,0030) is absent or not positive: there is no affine."),)


def slice_stacks(frames: Frames, part: Part, planes: Planes, options: Options) -> list[Draft]:
    """Return the volumes of slices with one orientation: table jumps, then shifted stacks, repeats, gaps."""
    tolerances = options.tolerances
    plane = plane_of(frames, part, planes)
    if len(part.rows) == 1:
        return _stack(frames, part.rows[:, None, None], (), part.reasons, plane, planes, options)
    normal = planes.axes[int(part.rows[0]), :, 2]
    run, jump_mm = separate_lines(planes.positions[part.rows], normal, tolerances)
    drafts = []
    for label in range(int(run.max()) + 1):
        rows = part.rows[run == label]
        reasons = part.reasons if jump_mm == 0 else (*part.reasons, _jump_reason(len(rows), jump_mm, tolerances))
        for members, more in _shifted_stacks(frames, rows, planes.positions[rows] @ normal, tolerances):
            position = position_labels(planes.positions[members] @ normal, tolerances.position_mm)
            for cells, axes, told in arrange(frames.take(members), position):
                drafts += _stack(frames, members[cells], axes, (*reasons, *more, *told), plane, planes, options)
    return drafts


def _shifted_stacks(
    frames: Frames, rows: Ints, distance: Floats, tolerances: Tolerances
) -> list[tuple[Ints, tuple[Reason, ...]]]:
    """Tell apart stacks that interleave at nearly equal positions, where one tag makes each of them uniform.

    Two acquisitions shifted by a fraction of the step are no repeats, as their positions differ, and together no grid.
    Stacks that the file itself numbers (PS3.3 C.7.6.16.2.2.4) need not interleave.
    """
    distinct = _heights(distance, tolerances)
    slots = grid_slots(distinct, tolerances, designed=False)
    if slots is None or slots[-1] >= len(slots):
        named = _named_stacks(frames, rows, distance, tolerances)
        if named:
            return named
    if len(distinct) < 4 or (slots is not None and slots[-1] < 4 / 3 * len(slots)):  # a grid, with some holes at most
        return [(rows, ())]
    part = frames.take(rows)
    for tag in (*CHANNEL_TAGS, *TIME_TAGS):
        code = tag_codes(part, tag)
        if not 0 < code.max() < len(rows) // 2:
            continue
        stacks = [np.flatnonzero(code == label) for label in range(int(code.max()) + 1)]
        if not _interleave([np.sort(distance[stack]) for stack in stacks], tolerances):
            continue
        values = tag_values(part, tag)
        return [
            (rows[stack], (_shift_reason(tag.name, values[int(stack[0])], values[int(other[0])]),))
            for stack, other in zip(stacks, [*stacks[1:], stacks[0]], strict=True)
        ]
    return [(rows, ())]


def _heights(distance: Floats, tolerances: Tolerances) -> Floats:
    """Return the distinct positions along the normal, ascending."""
    heights = np.sort(distance)
    distinct: Floats = heights[np.diff(heights, prepend=-np.inf) > tolerances.position_mm]
    return distinct


def _named_stacks(
    frames: Frames, rows: Ints, distance: Floats, tolerances: Tolerances
) -> list[tuple[Ints, tuple[Reason, ...]]]:
    """Tell apart the stacks of Stack ID where each is a grid without holes, of two slices or more."""
    names, label = np.unique([text or "" for text in frames.texts["stack_id"][rows].tolist()], return_inverse=True)
    if not 1 < len(names) <= len(rows) // 2:
        return []
    stacks = [np.flatnonzero(label == number) for number in range(len(names))]
    for stack in stacks:
        heights = _heights(distance[stack], tolerances)
        slots = grid_slots(heights, tolerances, designed=False)
        if len(heights) < 2 or slots is None or slots[-1] >= len(slots):
            return []
    return [
        (rows[stack], (_shift_reason("Stack ID (0020,9056)", here, there),))
        for stack, here, there in zip(stacks, names, np.roll(names, -1), strict=True)
    ]


def _interleave(stacks: Sequence[Floats], tolerances: Tolerances) -> bool:
    """Tell whether stacks, (z,) ascending heights each, are uniform each and overlap one another."""
    for stack in stacks:
        steps = np.diff(stack)
        if len(steps) < 1 or steps.min() <= tolerances.position_mm:
            return False
        if np.ptp(steps) > max(tolerances.uniform_mm, tolerances.uniform_relative * float(steps.mean())):
            return False
    ordered = sorted(stacks, key=lambda stack: float(stack[0]))
    return all(lower[-1] > upper[0] for lower, upper in pairwise(ordered))


def _shift_reason(name: str, here: object, there: object) -> Reason:
    message = f"{name} is {here} here and {there} in other images of the series: each is a uniform stack of its own."
    return Reason(Code.SPLIT_AXIS, message)


def _jump_reason(slices: int, jump_mm: float, tolerances: Tolerances) -> Reason:
    return Reason(
        Code.SPLIT_TABLE_JUMP,
        f"slices leave the line of the others by {jump_mm:.1f} mm (limit {tolerances.table_jump_mm:g} mm): "
        f"the table moved, these {slices} images are a volume of their own.",
    )


def _stack(
    frames: Frames,
    cells: Ints,
    axes: tuple[Axis, ...],
    reasons: tuple[Reason, ...],
    plane: Plane,
    planes: Planes,
    options: Options,
) -> list[Draft]:
    """Return one arrangement as one volume, or as several where gaps split it."""
    tolerances = options.tolerances
    first = cells[0, 0]
    plane = plane._replace(axes=planes.axes[int(first[0])])
    positions, thickness = planes.positions[first], frames.numbers["thickness"][first]
    designed = all(reason.code != Code.RAGGED for reason in reasons)
    geometry = stack_geometry(positions, plane, tolerances, thickness=thickness, designed=designed)
    reasons = (*reasons, *spacing_reasons(frames, int(first[0]), True))
    if not geometry.missing_slices:
        return [Draft(cells, axes, geometry, (*reasons, *shape_reasons(geometry)))]
    slots = _slots_of(geometry.missing_slices, len(first))
    message = _gap_message(positions, slots)
    if options.on_gap == "split":
        reasons = (*reasons, Reason(Code.SPLIT_GAP, f"{message} --on-gap split makes each run of slices a volume."))
        return _split_at_gaps(Draft(cells, axes, geometry, reasons), positions, slots, plane, tolerances)
    full = stack_geometry(positions, plane, tolerances, slots)
    if options.on_gap == "fill" and full.uniform:
        note = Reason(Code.GAP_FILLED, f"{message} --on-gap fill: the absent slices hold the fill value.")
        return [_filled(Draft(cells, axes, full, (*reasons, note, *shape_reasons(full))), slots)]
    note = Reason(Code.MISSING_SLICES, f"{message} {KEPT_IRREGULAR}")
    return [Draft(cells, axes, geometry, (*reasons, note, *shape_reasons(geometry)))]


def _slots_of(missing: Sequence[int], slices: int) -> Ints:
    """Return the place on the full grid of each slice that is there."""
    return np.delete(np.arange(slices + len(missing)), np.asarray(missing, dtype=np.int64))


def _split_at_gaps(draft: Draft, positions: Floats, slots: Ints, plane: Plane, tolerances: Tolerances) -> list[Draft]:
    """Return each contiguous run of slices as a volume."""
    runs = np.split(np.arange(len(slots)), np.flatnonzero(np.diff(slots) > 1) + 1)
    split = []
    for run in runs:
        geometry = stack_geometry(positions[run], plane, tolerances)
        axes = tuple(_axis_at(axis, run) for axis in draft.axes)
        split.append(Draft(draft.cells[:, :, run], axes, geometry, (*draft.reasons, *shape_reasons(geometry))))
    return split


def _filled(draft: Draft, slots: Ints) -> Draft:
    """Return a volume on the full grid, -1 where there is no slice."""
    index = np.full(int(slots[-1]) + 1, -1, dtype=np.int64)
    index[slots] = np.arange(len(slots))
    cells = np.where(index < 0, -1, draft.cells[:, :, index])
    return draft._replace(cells=cells, axes=tuple(_axis_at(axis, index) for axis in draft.axes))


def _axis_at(axis: Axis, index: Ints) -> Axis:
    """Return an axis for other slices: the values that differ between positions follow them, None where absent."""
    if not axis.per_slice:
        return axis
    table = tuple(tuple(None if k < 0 else step[k] for k in index.tolist()) for step in axis.values)
    return replace(axis, values=table)


def _gap_message(positions: Floats, slots: Ints) -> str:
    """Return what is missing, with the numbers."""
    steps = np.linalg.norm(np.diff(positions, axis=0), axis=1)
    multiples = np.diff(slots)
    gap = int(np.argmax(multiples))
    base = float(steps[multiples == 1].mean()) if (multiples == 1).any() else float(steps[gap] / multiples[gap])
    missing = int(slots[-1]) + 1 - len(slots)
    probably = "one slice is probably missing" if missing == 1 else f"{missing} slices are probably missing"
    return (
        f"slice at z={positions[gap + 1, 2]:.1f} is {steps[gap]:.1f} mm after its neighbour, "
        f"the others are {base:.1f} mm apart; {probably}."
    )


def shape_reasons(geometry: Geometry) -> tuple[Reason, ...]:
    """Return the flags of a stack that is not a plain grid."""
    reasons: list[Reason] = []
    if geometry.spacing_z_nominal and not geometry.missing_slices:
        steps = np.diff(geometry.z_mm)
        message = f"slices are {steps.min():.3f} to {steps.max():.3f} mm apart: no affine, the true positions are kept."
        reasons.append(Reason(Code.IRREGULAR, message))
    if geometry.sheared and geometry.direction is not None:
        normal = np.cross(geometry.direction[:, 0], geometry.direction[:, 1])
        angle = np.rad2deg(np.arccos(min(1.0, float(normal @ geometry.direction[:, 2]))))
        tilt = f"slices follow each other {angle:.1f} degrees off their normal"
        exact = " (tilted gantry): the affine is sheared." if geometry.uniform else ", as with a tilted gantry."
        reasons.append(Reason(Code.SHEARED, tilt + exact))
    return tuple(reasons)


# ---------------------------------------------------------------------------- segmentations


def segment_stack(frames: Frames, part: Part, planes: Planes, tolerances: Tolerances) -> Draft:
    """Return a segmentation: c is the segment, z the union of the positions on the base grid, absent is not missing."""
    rows = part.rows
    plane = plane_of(frames, part, planes)
    distance = planes.positions[rows] @ planes.axes[int(rows[0]), :, 2]
    label = position_labels(distance, tolerances.position_mm)
    first = np.unique(label, return_index=True)[1]
    slots = np.arange(len(first))
    if len(first) > 1:
        found = base_grid(np.sort(distance[first]), frames.numbers["spacing_between"][rows], tolerances)
        slots = slots if found is None else found
    position = slots[label]
    cells, axes = _segment_cells(frames, rows, position)
    positions = planes.positions[rows[first]]
    geometry = replace(stack_geometry(positions, plane, tolerances, slots), missing_slices=())
    reasons = [*part.reasons, *spacing_reasons(frames, int(rows[0]), True)]
    if not geometry.uniform and len(slots) < int(slots[-1]) + 1:
        cells = cells[:, :, slots]
    return Draft(cells, axes, geometry, (*reasons, *shape_reasons(geometry)))


def _segment_cells(frames: Frames, rows: Ints, position: Ints) -> tuple[Ints, tuple[Axis, ...]]:
    """Return (t, c, z) cells of a segmentation's frames; t only where a segment has several frames at a position."""
    number = frames.numbers["segment"][rows]
    segments, channel = np.unique(np.nan_to_num(number), return_inverse=True)
    size = int(position.max()) + 1
    place = channel.reshape(-1) * size + position
    order = np.lexsort((rows, place))
    counts = np.bincount(place)
    rank = np.empty(len(rows), dtype=np.int64)
    rank[order] = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
    cells = np.full((int(rank.max()) + 1, len(segments), size), -1, dtype=np.int64)
    cells[rank, channel.reshape(-1), position] = rows
    axes = []
    if cells.shape[0] > 1:
        axes.append(Axis("t", "repeat", None, tuple(range(cells.shape[0])), inferred=True))
    if not np.isnan(number).all():
        axes.append(Axis("c", "segment", None, tuple(int(segment) for segment in segments)))
    return cells, tuple(axes)
