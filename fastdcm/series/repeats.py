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
from fastdcm.series.runs import same_parts


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
    Tag("asl_context", "c", None, "ASL Context (0018,9257)", ("asl_context",)),
    Tag("echo_time", "c", "ms", "Echo Time (0018,0081)", ("echo_time",), 3),
    Tag("echo_number", "c", None, "Echo Numbers (0018,0086)", ("echo_number",)),
    Tag("b_value", "c", "s mm-2", "the b-value (0018,9087)", ("b_value",), 1),
    Tag("b_vector", "c", "s mm-2", "the b-value and its direction (0018,9089)", ("b_value", "b_x", "b_y", "b_z"), 4),
    Tag("kvp", "c", "kV", "KVP (0018,0060)", ("kvp",), 3),
    Tag("energy_window", "c", None, "Energy Window Vector (0054,0010)", ("energy_window",)),
    Tag("segment", "c", None, "Referenced Segment Number (0062,000B)", ("segment",)),
    Tag("dimension", "c", None, "a dimension (0020,9222)", ("dimension_value",)),
)
DIMENSION_UNITS = {"inversion_times": "ms", "flip_angle": "degree", "repetition_time": "ms"}
"""``dimension`` stands for what ``dimension_name`` says; some of these have units."""
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
    if tag.role == "echo_number" and np.isfinite(frames.numbers["echo_time"]).any():  # it stands in for Echo Time only
        return np.zeros(len(frames), dtype=np.int64)
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
    whole = [factor for factor in factors if factor.size == repeats]
    if whole:
        return [_most_plausible(frames, whole)]
    for outer in factors:
        for tag in TIME_TAGS:
            inner = _try(frames, tag, outer.cell)
            if inner and inner.size * outer.size == repeats:
                return [outer, inner]
    rank = instance_rank(frames, cell)
    tag = Tag("repeat", "t", None, "the order of Instance Number (0020,0013)", ("instance_number",))
    return [Factor(tag, repeats, rank, cell * repeats + rank)]


def _most_plausible(frames: Frames, factors: Sequence[Factor]) -> Factor:
    """Return the first tag, unless its steps overlap and mix the steps of a later one that do not.

    Trigger times that differ from slice to slice are ranked; where all times of one step lie before all of the next, or
    no other tag says otherwise, the rank is right. Nonsense in that tag is shown by another that is in order at every
    position, such as an Acquisition Number that is the same everywhere.
    """
    first = factors[0]
    if not _overlap(frames, first):
        return first
    in_order = (factor for factor in factors[1:] if not _overlap(frames, factor))
    return next((factor for factor in in_order if not same_parts(factor.rank, first.rank)), first)


def _overlap(frames: Frames, factor: Factor) -> bool:
    """Tell whether a value of one step is a value of the next or beyond it, at whatever positions."""
    code = tag_codes(frames, factor.tag)
    order = np.lexsort((code, factor.rank))
    next_step = np.diff(factor.rank[order]) > 0
    return bool((np.diff(code[order])[next_step] <= 0).any())


def instance_rank(frames: Frames, cell: Ints) -> Ints:
    """Return the place of each frame in its cell by Instance Number, then frame number, then row."""
    order = np.lexsort((np.arange(len(frames)), frames.frame, frames.numbers["instance_number"], cell))
    rank = np.empty(len(frames), dtype=np.int64)
    counts = np.bincount(cell)
    rank[order] = np.arange(len(frames)) - np.repeat(np.cumsum(counts) - counts, counts)
    return rank


def arrange_complete(frames: Frames, position: Ints) -> tuple[Arrangement, ...]:
    """Arrange positions with equally many images each into volumes with at most one t and one c axis.

    Parameters
    ----------
    frames : Frames
        (n,) frames that share a grid.
    position : ndarray
        (n,) labels 0..z-1 of their positions in slice order, equally often each.

    Returns
    -------
    tuple of Arrangement
        Every frame is in exactly one; several where further channel-like tags separate.
    """
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
    values, role, unit = tag_values(frames, tag), tag.role, tag.unit
    if role == "dimension":
        role = next(name for name in frames.texts["dimension_name"].tolist() if name)
        unit = DIMENSION_UNITS.get(role)
    steps = cells[:, 0, :] if tag.axis == "t" else cells[0, :, :]
    table = [[values[row] for row in step] for step in steps.tolist()]
    if all(value == step[0] for step in table for value in step):
        return Axis(tag.axis, role, unit, tuple(step[0] for step in table))
    return Axis(tag.axis, role, unit, tuple(tuple(step) for step in table), per_slice=True)


def _inferred_reason(axis: Axis) -> Reason:
    return Reason(
        Code.AXIS_INFERRED,
        f"{len(axis.values)} images at every position and no tag that separates them: "
        f"axis {axis.name} is the order of Instance Number (0020,0013).",
    )
