"""Repeats (4-D): which tag tells apart the images at one position, and the t and c axes that follow.

A tag separates the repeats if at every position it takes the same number of distinct values; the axis is the rank of
the value within its position, so trigger times may differ from slice to slice. The tags are tried in one order, those
that make channels first. Where none works, the order of Instance Number does, and the axis says that it is inferred.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from fastdcm.errors import Code
from fastdcm.model import Axis, Frames, Ints, Reason


class Tag(NamedTuple):
    """A candidate for an axis."""

    role: str
    axis: Literal["t", "c"]
    unit: str | None
    name: str
    """As the standard writes it."""
    columns: tuple[str, ...]
    decimals: int = 6
    """Values that agree to so many decimals are the same."""


CHANNEL_TAGS = (
    Tag("image_type", "c", None, "Image Type (0008,0008), values 3 onwards", ("image_type",)),
    Tag("complex_component", "c", None, "Complex Image Component (0008,9208)", ("complex_component",)),
    Tag("echo_time", "c", "ms", "Echo Time (0018,0081)", ("echo_time",), 3),
    Tag("b_value", "c", "s mm-2", "the b-value (0018,9087)", ("b_value",), 1),
    Tag("b_vector", "c", "s mm-2", "the b-value and its direction (0018,9089)", ("b_value", "b_x", "b_y", "b_z"), 4),
    Tag("kvp", "c", "kV", "KVP (0018,0060)", ("kvp",), 3),
    Tag("energy_window", "c", None, "Energy Window Vector (0054,0010)", ("energy_window",)),
    Tag("segment", "c", None, "Referenced Segment Number (0062,000B)", ("segment",)),
)
TIME_TAGS = (
    Tag("temporal_position", "t", None, "Temporal Position (0020,0100)", ("temporal_position",)),
    Tag("trigger_time", "t", "ms", "Trigger Time (0018,1060)", ("trigger_time",)),
    Tag("cardiac_phase", "t", "%", "the cardiac phase (0020,9241)", ("cardiac_phase",)),
    Tag("frame_reference_time", "t", "ms", "Frame Reference Time (0054,1300)", ("frame_reference_time",)),
    Tag("acquisition_number", "t", None, "Acquisition Number (0020,0012)", ("acquisition_number",)),
    Tag("acquisition_time", "t", "s", "Acquisition Time (0008,0032)", ("acquisition_time",)),
    Tag("content_time", "t", "s", "Content Time (0008,0033)", ("content_time",)),
    Tag("detector", "t", None, "Detector Vector (0054,0020)", ("detector",)),
)


class Arrangement(NamedTuple):
    """Frames that fill a grid of (t, c, position)."""

    cells: Ints
    """(t, c, z) rows of the frames that were arranged."""
    axes: tuple[Axis, ...]
    reasons: tuple[Reason, ...]


class Factor(NamedTuple):
    """One tag that separates."""

    tag: Tag
    size: int
    rank: Ints
    """(n,) place of each frame along the axis."""
    cell: Ints
    """(n,) finer cells: those before, divided by this factor."""


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
        return _complete(frames, position)
    return _ragged(frames, position)


# ---------------------------------------------------------------------------- values of a tag


def tag_values(frames: Frames, tag: Tag) -> list[Any]:
    """Return the value of a tag for each frame: a number, a text, a tuple, or None."""
    if tag.role == "image_type":
        return [_from_third(text) for text in frames.texts["image_type"]]
    if tag.columns[0] in frames.texts:
        return list(frames.texts[tag.columns[0]])
    columns = [[_number(v) for v in frames.numbers[name].tolist()] for name in tag.columns]
    return columns[0] if len(columns) == 1 else list(zip(*columns, strict=True))


def _from_third(text: str | None) -> str | None:
    """Return Image Type without its first two values."""
    parts = (text or "").split("\\")
    return "\\".join(part.strip() for part in parts[2:]) or None


def _number(value: float) -> float | int | None:
    """Return a number as JSON would have it: None for NaN, an integer where it is whole."""
    if value != value:
        return None
    return int(value) if value == int(value) and abs(value) < 2**53 else value


def tag_codes(frames: Frames, tag: Tag) -> Ints:
    """Return the rank of each frame's value among all of them, (n,); an absent value is the lowest."""
    if tag.role == "image_type" or tag.columns[0] in frames.texts:
        texts = tag_values(frames, tag)
        ranks = {text: i for i, text in enumerate(sorted({text or "" for text in texts}))}
        return np.asarray([ranks[text or ""] for text in texts], dtype=np.int64)
    table = frames.vectors(*tag.columns)
    if (table == table[0]).all() or np.isnan(table).all():
        return np.zeros(len(frames), dtype=np.int64)
    rounded = np.round(np.where(np.isnan(table), -np.inf, table), tag.decimals) + 0.0
    codes: Ints = np.unique(rounded, axis=0, return_inverse=True)[1].reshape(-1).astype(np.int64)
    return codes


# ---------------------------------------------------------------------------- complete repeats


def separate(cell: Ints, code: Ints) -> tuple[int, Ints, Ints] | None:
    """Divide cells by a code if it takes equally many values in each, each value equally often.

    Parameters
    ----------
    cell, code : ndarray
        (n,) labels; every cell has equally many members.

    Returns
    -------
    tuple or None
        How many values; (n,) rank of each member's value within its cell; (n,) the finer cells.
    """
    width = int(code.max()) + 1
    if width == 1:
        return None
    pairs, finer, members = np.unique(cell * width + code, return_inverse=True, return_counts=True)
    owner = pairs // width
    first, values = np.unique(owner, return_index=True)[1], np.unique(owner, return_counts=True)[1]
    if members.min() != members.max() or values[0] == 1:
        return None
    rank_of_pair = np.arange(len(pairs)) - np.repeat(first, values)
    finer = finer.reshape(-1)
    return int(values[0]), rank_of_pair[finer], finer


def _try(frames: Frames, tag: Tag, cell: Ints) -> Factor | None:
    found = separate(cell, tag_codes(frames, tag))
    return Factor(tag, *found) if found else None


def _channels(frames: Frames, cell: Ints, repeats: int) -> list[Factor]:
    """Return the channel-like factors, outermost first; their counts divide the repeats."""
    factors: list[Factor] = []
    for tag in CHANNEL_TAGS:
        if tag.role == "b_vector" and any(f.tag.role == "b_value" for f in factors):
            continue
        factor = _try(frames, tag, cell)
        if factor and tag.role == "b_value" and factor.size < repeats:
            factor = _finer_diffusion(frames, cell, factor)
        if factor:
            factors.append(factor)
            cell, repeats = factor.cell, repeats // factor.size
    return factors


def _finer_diffusion(frames: Frames, cell: Ints, by_value: Factor) -> Factor:
    """Return b-value with direction where that tells more images apart than the b-value alone."""
    vector = next(tag for tag in CHANNEL_TAGS if tag.role == "b_vector")
    by_vector = _try(frames, vector, cell)
    return by_vector if by_vector and by_vector.size > by_value.size else by_value


def _times(frames: Frames, cell: Ints, repeats: int) -> list[Factor]:
    """Return the time-like factors: one tag, else two nested, else the order of Instance Number."""
    factors = [f for f in (_try(frames, tag, cell) for tag in TIME_TAGS) if f]
    for factor in factors:
        if factor.size == repeats:
            return [factor]
    for outer in factors:
        for tag in TIME_TAGS:
            inner = _try(frames, tag, outer.cell)
            if inner and inner.size * outer.size == repeats:
                return [outer, inner]
    rank = _instance_rank(frames, cell)
    tag = Tag("repeat", "t", None, "the order of Instance Number (0020,0013)", ("instance_number",))
    return [Factor(tag, repeats, rank, cell * repeats + rank)]


def _instance_rank(frames: Frames, cell: Ints) -> Ints:
    """Return the place of each frame in its cell by Instance Number, then frame number, then row."""
    order = np.lexsort((np.arange(len(frames)), frames.frame, frames.numbers["instance_number"], cell))
    rank = np.empty(len(frames), dtype=np.int64)
    counts = np.bincount(cell)
    rank[order] = np.arange(len(frames)) - np.repeat(np.cumsum(counts) - counts, counts)
    return rank


def _complete(frames: Frames, position: Ints) -> tuple[Arrangement, ...]:
    """Arrange positions with equally many images each."""
    rows = np.arange(len(frames))
    repeats = len(frames) // (int(position.max()) + 1)
    channels = _channels(frames, position, repeats)
    cell = channels[-1].cell if channels else position
    left = repeats // int(np.prod([f.size for f in channels], initial=1))
    times = _times(frames, cell, left) if left > 1 else []
    kept = [*channels[-1:], *times[-1:]]
    outer = [*channels[:-1], *times[:-1]]
    if not outer:
        return (_fill(frames, position, rows, kept),)
    groups = np.unique(np.stack([f.rank for f in outer], axis=1), axis=0, return_inverse=True)[1].reshape(-1)
    arranged = []
    for group in range(int(groups.max()) + 1):
        members = np.flatnonzero(groups == group)
        inside = [Factor(f.tag, f.size, f.rank[members], f.cell[members]) for f in kept]
        reason = Reason(Code.SPLIT_AXIS, _outer_message(frames, outer, members, kept))
        found = _fill(frames.take(members), position[members], members, inside)
        arranged.append(found._replace(reasons=(reason, *found.reasons)))
    return tuple(arranged)


def _outer_message(frames: Frames, outer: Sequence[Factor], members: Ints, kept: Sequence[Factor]) -> str:
    parts = []
    for factor in outer:
        values = tag_values(frames, factor.tag)
        parts.append(f"{factor.tag.name} ({factor.size} values; here {values[int(members[0])]})")
    axes = " and ".join(factor.tag.name for factor in kept)
    return f"the images at each position differ by {' and '.join(parts)} as well as by {axes}: one volume a value."


def _fill(frames: Frames, position: Ints, rows: Ints, factors: Sequence[Factor]) -> Arrangement:
    """Put rows into (t, c, z) cells by the ranks of at most one t and one c factor."""
    by_axis = {factor.tag.axis: factor for factor in factors}
    t, c = by_axis.get("t"), by_axis.get("c")
    shape = (t.size if t else 1, c.size if c else 1, int(position.max()) + 1)
    inside = np.full(shape, -1, dtype=np.int64)
    zero = np.zeros(len(rows), dtype=np.int64)
    inside[t.rank if t else zero, c.rank if c else zero, position] = np.arange(len(rows))
    axes = tuple(_axis(frames, factor, inside) for factor in (t, c) if factor)
    reasons = tuple(_inferred_reason(axis) for axis in axes if axis.inferred)
    return Arrangement(rows[inside], axes, reasons)


def _axis(frames: Frames, factor: Factor, cells: Ints) -> Axis:
    """Return the axis with its values: one a step, or one a step and position where they differ."""
    tag = factor.tag
    if tag.role == "repeat":
        return Axis("t", "repeat", None, tuple(range(factor.size)), inferred=True)
    values = tag_values(frames, tag)
    steps = cells[:, 0, :] if tag.axis == "t" else cells[0, :, :]
    table = [[values[row] for row in step] for step in steps.tolist()]
    if all(value == step[0] for step in table for value in step):
        return Axis(tag.axis, tag.role, tag.unit, tuple(step[0] for step in table))
    return Axis(tag.axis, tag.role, tag.unit, tuple(tuple(step) for step in table), per_slice=True)


def _inferred_reason(axis: Axis) -> Reason:
    return Reason(
        Code.AXIS_INFERRED,
        f"{len(axis.values)} images at every position and no tag that separates them: "
        f"axis {axis.name} is the order of Instance Number (0020,0013).",
    )


# ---------------------------------------------------------------------------- ragged repeats


def _ragged(frames: Frames, position: Ints) -> tuple[Arrangement, ...]:
    """Arrange positions with unequally many images: steps that have the same positions form a volume."""
    sets = _step_sets(position, _ragged_steps(frames, position))
    if len(sets) == 1:  # the tag explains nothing; the order of the images always does
        sets = _step_sets(position, _instance_rank(frames, position))
    arranged: list[Arrangement] = []
    for members in sets:
        labels = np.unique(position[members], return_inverse=True)[1].reshape(-1)
        for found in arrange(frames.take(members), labels):
            whole = found._replace(cells=members[found.cells])
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


def _ragged_steps(frames: Frames, position: Ints) -> Ints:
    """Return the step (repeat) of each frame where positions have unequally many.

    First a tag that never has the same value twice at a position and has as many values as the fullest position has
    images; then such a tag within the channels; then the regular scheme of Instance Number; then the rank in time.
    """
    most = int(np.bincount(position).max())
    tags = (*CHANNEL_TAGS, *TIME_TAGS)
    for tag in tags:
        code = tag_codes(frames, tag)
        if code.max() + 1 == most and _distinct(position, code):
            return code
    for channel in CHANNEL_TAGS:
        code = tag_codes(frames, channel)
        width = int(code.max()) + 1
        cell = position * width + code
        if width == 1 or len(np.unique(cell)) != width * len(np.unique(position)):
            continue
        for tag in TIME_TAGS:
            steps = tag_codes(frames, tag)
            if steps.max() + 1 == np.bincount(cell).max() and _distinct(cell, steps):
                return steps
    numbered = _numbered_steps(frames, position, most)
    return _ranked_steps(frames, position) if numbered is None else numbered


def _distinct(cell: Ints, code: Ints) -> bool:
    """Tell whether no code occurs twice in a cell."""
    return len(np.unique(cell * (int(code.max()) + 1) + code)) == len(cell)


def _numbered_steps(frames: Frames, position: Ints, most: int) -> Ints | None:
    """Return the steps that Instance Numbers count: position by position within a step, or the other way round."""
    number = frames.numbers["instance_number"]
    if np.isnan(number).any():
        return None
    offset = (number - number.min()).astype(np.int64)
    positions = int(position.max()) + 1
    schemes: tuple[Ints, Ints] = (offset // positions, offset % most)
    for step in schemes:
        whole = step.max() < most and bool((np.bincount(step) == positions).any())
        if whole and _distinct(position, step):
            return step
    return None


def _ranked_steps(frames: Frames, position: Ints) -> Ints:
    """Return the rank of each frame within its position by time, else by Instance Number."""
    for tag in TIME_TAGS:
        code = tag_codes(frames, tag)
        if code.max() and _distinct(position, code):
            pairs, inverse = np.unique(position * (int(code.max()) + 1) + code, return_inverse=True)
            first = np.searchsorted(pairs // (int(code.max()) + 1), position)
            rank: Ints = inverse.reshape(-1) - first
            return rank
    return _instance_rank(frames, position)
