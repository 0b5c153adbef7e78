"""Order, spacing, affine and gaps of a stack of slices: numpy on positions, no headers.

Lengths are mm, the frame is LPS (PS3.3 C.7.6.2.1.1), voxel indices are (i, j, k) = (column, row, slice). Slices ascend
along the normal, row x column. ``docs/geometry.md`` says how the tolerances were chosen.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from fastdcm.model import Floats, Geometry, Ints, Tolerances

SHEAR = 2e-3
"""Sine of the angle between step and normal from which a stack is sheared. Directions written with three decimals
are wrong by up to 1e-3; the smallest tilt of a gantry, half a degree, is 9e-3."""
MAX_GRID = 65536
"""Slices of a full grid; a stack that would need more has a wild position, not missing slices."""
RUN_OF_WIDE_STEPS = 3
"""So many equal wide steps in a row are another spacing (a head CT of 2.5, then 5 mm), not lost slices."""


class Plane(NamedTuple):
    """What the slices of one stack share."""

    axes: Floats | None
    """(3, 3) columns: unit directions of i, j and the normal; None where unknown."""
    spacing: tuple[float, float] | None
    """(dx, dy) mm, None where unknown."""
    spacing_kind: str
    thickness: float
    """SliceThickness mm, NaN where unknown."""
    spacing_between: float
    """SpacingBetweenSlices mm (may be negative), NaN where unknown; never used where positions are."""
    frame_of_reference_uid: str | None


def slice_axes(orientation: Floats, tolerance: float) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """Return the unit axes of Image Orientation (Patient) (PS3.3 C.7.6.2).

    Parameters
    ----------
    orientation : ndarray
        (n, 6): direction along a row, then along a column; need not be of unit length.
    tolerance : float
        Largest |row . column| of the unit vectors.

    Returns
    -------
    axes : ndarray
        (n, 3, 3), columns are row, column and row x column, normalised.
    good : ndarray
        (n,) False where a vector is absent, zero, or the two are not orthogonal.
    """
    if len(orientation) != 1 and not (len(orientation) and (orientation == orientation[0]).all()):
        return _axes_of(orientation, tolerance)
    axes, good = _axes_once(orientation[0].tobytes(), tolerance)  # slices mostly share one, and so do series
    if len(orientation) == 1:
        return axes, good
    return np.broadcast_to(axes, (len(orientation), 3, 3)), np.broadcast_to(good, (len(orientation),))


@lru_cache(maxsize=1024)
def _axes_once(orientation: bytes, tolerance: float) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """Return the axes of one orientation; they are shared, and cannot be changed."""
    axes, good = _axes_of(np.frombuffer(orientation).reshape(1, 6), tolerance)
    axes.flags.writeable = good.flags.writeable = False
    return axes, good


def _axes_of(orientation: Floats, tolerance: float) -> tuple[Floats, npt.NDArray[np.bool_]]:
    row, column = orientation[:, :3], orientation[:, 3:]
    lengths = np.stack([np.linalg.norm(row, axis=1), np.linalg.norm(column, axis=1)], axis=1)
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        row, column = row / lengths[:, :1], column / lengths[:, 1:]
        normal = np.cross(row, column)
        good = np.isfinite(lengths).all(axis=1) & (lengths > 1e-6).all(axis=1)
        good &= np.abs(np.einsum("ij,ij->i", row, column)) <= tolerance
        normal = normal / np.linalg.norm(normal, axis=1, keepdims=True)
    return np.stack([row, column, normal], axis=2), good


def position_labels(distance: Floats, tolerance: float) -> Ints:
    """Label the distinct positions along a line, ascending: (n,) distances to (n,) labels 0..z-1."""
    order = np.argsort(distance, kind="stable")
    label = np.empty(len(distance), dtype=np.int64)
    label[order] = np.cumsum(np.diff(distance[order], prepend=distance[order[:1]]) > tolerance)
    return label


def cluster(vectors: Floats, near: Callable[[Floats, Floats], Any]) -> Ints:
    """Label groups of vectors that are near a leader; leaders are the most frequent vectors, then the smallest.

    Parameters
    ----------
    vectors : ndarray
        (n, k), finite.
    near : callable
        ``near(leader, vectors)`` tells (m,) which vectors belong to a leader.

    Returns
    -------
    ndarray
        (n,) labels; they do not depend on the order of rows.
    """
    unique, inverse, counts = np.unique(vectors, axis=0, return_inverse=True, return_counts=True)
    label = np.full(len(unique), -1, dtype=np.int64)
    groups = 0
    for leader in np.argsort(-counts, kind="stable").tolist():
        if label[leader] < 0:
            free = np.flatnonzero(label < 0)
            label[free[near(unique[leader], unique[free])]] = groups
            groups += 1
    return label[inverse.reshape(-1)]


def separate_lines(positions: Floats, normal: Floats, tolerances: Tolerances) -> tuple[Ints, float]:
    """Tell apart slices that do not follow each other on one line (a moved table).

    A step that leaves the line of the other steps by more than ``table_jump_mm`` begins a new run. The line is what
    most steps do: the median displacement in the plane per mm of the normal, so a tilted gantry is one run. Stacks
    beside each other at the same height are told apart by where they lie in the plane.

    Parameters
    ----------
    positions : ndarray
        (n, 3), in any order, LPS mm.
    normal : ndarray
        (3,) unit normal.
    tolerances : Tolerances

    Returns
    -------
    labels : ndarray
        (n,) run of each slice.
    jump_mm : float
        How far the runs are apart in the plane, 0 where there is one.
    """
    distance = positions @ normal
    label = position_labels(distance, tolerances.position_mm)
    first = np.unique(label, return_index=True)[1]
    stack = positions[first]
    sideways = positions - distance[:, None] * normal
    beside = np.linalg.norm(sideways - sideways[first][label], axis=1)
    lines = _lines(stack, normal)
    if beside.max(initial=0.0) > tolerances.position_mm:
        limit = min(tolerances.table_jump_mm, 0.45 * float(beside[beside > tolerances.position_mm].min()))
        groups = [_beside(sideways - distance[:, None] * line, limit) for line in lines]
        return min(groups, key=lambda found: int(found.max())), float(beside.max())
    steps = np.diff(stack, axis=0)
    advance = steps @ normal
    flat = steps - advance[:, None] * normal
    leaves = [np.linalg.norm(flat - advance[:, None] * line, axis=1) for line in lines]
    fewest = min(leaves, key=lambda found: int(np.count_nonzero(found > tolerances.table_jump_mm)))
    jumps = fewest > tolerances.table_jump_mm
    if len(steps) < 2 or not jumps.any():
        return np.zeros(len(positions), dtype=np.int64), 0.0
    return np.append(0, np.cumsum(jumps))[label], float(fewest.max())


def _lines(stack: Floats, normal: Floats) -> list[Floats]:
    """Return displacements in the plane per mm of the normal that a stack may follow: none, and the medians."""
    steps = np.diff(stack, axis=0)
    if not len(steps):
        return [np.zeros(3)]
    advance = (steps @ normal)[:, None]
    slopes = (steps - advance * normal) / advance
    ordered = np.sort(slopes, axis=0)
    return [np.zeros(3), ordered[(len(ordered) - 1) // 2], ordered[len(ordered) // 2]]


def _beside(sideways: Floats, limit_mm: float) -> Ints:
    """Label places in the plane that are further apart than a limit."""
    return cluster(np.round(sideways, 6), lambda leader, others: np.linalg.norm(others - leader, axis=1) <= limit_mm)


def grid_slots(
    distance: Floats, tolerances: Tolerances, thickness: Floats | None = None, designed: bool = True
) -> Ints | None:
    """Return the place of each slice on the full grid, or None where the stack is no grid with holes.

    A hole is a step within ``gap_relative`` of a whole multiple, 2 or more, of the most frequent step. It is not a
    hole where the headers show another spacing instead: slices thick enough to fill the step, or several equal wide
    steps in a row.

    Parameters
    ----------
    distance : ndarray
        (z,) ascending mm along the step.
    tolerances : Tolerances
    thickness : ndarray, optional
        (z,) SliceThickness, NaN where unknown.
    designed : bool, optional
        Whether wide steps may be another spacing.

    Returns
    -------
    ndarray or None
        (z,) integers that begin with 0 and ascend; ``arange(z)`` where there is no hole.
    """
    steps = np.diff(distance)
    if len(steps) < 2:
        return np.arange(len(distance))
    base = frequent_step(steps, tolerances) if designed else float(steps.min())
    multiples = np.rint(steps / base)
    off = np.abs(steps - multiples * base)
    near = np.where(multiples < 2, tolerances.gap_relative * base, np.minimum(0.05 * multiples, 0.25) * base)
    near = np.maximum(near, _jitter_mm(base, tolerances))
    if (multiples < 1).any() or (off > near).any() or multiples.sum() >= MAX_GRID:
        return None
    if designed and _changes_spacing(steps, multiples, base, thickness):
        return None
    return np.append(0, np.cumsum(multiples).astype(np.int64))


def base_grid(distance: Floats, spacing_between: Floats, tolerances: Tolerances) -> Ints | None:
    """Return the place of each position of a sparse stack (a segmentation) on its base grid, or None.

    Parameters
    ----------
    distance : ndarray
        (z,) ascending mm along the normal.
    spacing_between : ndarray
        SpacingBetweenSlices of the frames, NaN where unknown.
    tolerances : Tolerances
    """
    steps = np.diff(distance)
    declared = np.abs(spacing_between[np.isfinite(spacing_between)])[:1].tolist()
    for base in (*declared, float(steps.min()), frequent_step(steps, tolerances)):
        if base <= tolerances.position_mm:
            continue
        multiples = np.rint(steps / base)
        near = max(tolerances.gap_relative * base, _jitter_mm(base, tolerances))
        if (multiples >= 1).all() and (np.abs(steps - multiples * base) <= near).all() and multiples.sum() < MAX_GRID:
            return np.append(0, np.cumsum(multiples).astype(np.int64))
    return None


def _changes_spacing(steps: Floats, multiples: Floats, base: float, thickness: Floats | None) -> bool:
    """Tell a change of spacing by design from lost slices."""
    wide = multiples > 1
    same = np.flatnonzero(np.diff(np.where(wide, multiples, -np.arange(len(steps)) - 1.0), prepend=0, append=0))
    if len(same) and any(wide[a] and b - a >= RUN_OF_WIDE_STEPS for a, b in itertools.pairwise(same)):
        return True
    if thickness is None:
        return False
    with np.errstate(invalid="ignore"):
        filled = np.fmin(thickness[:-1], thickness[1:]) >= 0.9 * steps
        thin = np.nanmin(thickness, initial=np.inf) < 1.5 * base
    return bool(thin and (wide & filled).any())


def frequent_step(steps: Floats, tolerances: Tolerances) -> float:
    """Return the most frequent step (the mean of the steps near it); of equally frequent ones the smallest."""
    ordered = np.sort(steps)
    near = np.maximum(tolerances.uniform_mm, tolerances.uniform_relative * ordered)
    first = np.searchsorted(ordered, ordered - near)
    last = np.searchsorted(ordered, ordered + near, side="right")
    best = int(np.argmax(last - first))
    return float(ordered[first[best] : last[best]].mean())


def _jitter_mm(step: float, tolerances: Tolerances) -> float:
    """Return how far an encoder may be off in a uniform stack of this step."""
    return min(tolerances.jitter_mm, tolerances.jitter_relative * step)


def is_uniform(residuals: Floats, steps: Floats, step: float, tolerances: Tolerances) -> bool:
    """Tell whether slices stand on a uniform grid.

    Parameters
    ----------
    residuals : ndarray
        (z,) distance of each slice from its place on the grid.
    steps : ndarray
        (z - 1,) steps along the grid's line, per slot.
    step : float
        The grid's step.
    tolerances : Tolerances
    """
    worst = residuals.max(initial=0.0)
    if worst <= max(tolerances.uniform_mm, tolerances.uniform_relative * step):
        return True
    jitter = _jitter_mm(step, tolerances)
    return bool(worst <= jitter and np.abs(steps - step).max(initial=0.0) <= jitter)


def stack_geometry(
    positions: Floats,
    plane: Plane,
    tolerances: Tolerances,
    slots: Ints | None = None,
    thickness: Floats | None = None,
    designed: bool = True,
) -> Geometry:
    """Return the geometry of slices in order along the normal.

    Column 3 of the affine is (last - first) / (n - 1); its norm is dz, its direction the third direction column. So
    ``affine(k)`` is each slice's position within the tolerances, also where a gantry is tilted; where that cannot
    hold there is no affine.

    Parameters
    ----------
    positions : ndarray
        (z, 3) ascending along the normal, LPS mm.
    plane : Plane
        ``axes`` must be known.
    tolerances : Tolerances
    slots : ndarray, optional
        (z,) place of each position on the grid, where absent slices are to be filled; the geometry is that of the
        full grid.
    thickness : ndarray, optional
        (z,) SliceThickness of each slice, to tell a change of spacing from lost slices.
    designed : bool, optional
        Whether uneven steps may be meant; not so for what an aborted run left of a known grid.
    """
    if plane.axes is None:
        raise ValueError("a stack without orientation has no geometry")
    if len(positions) == 1:
        return _single(positions[0], plane)
    normal = plane.axes[:, 2]
    place = np.arange(len(positions)) if slots is None else slots
    span = positions[-1] - positions[0]
    step = span / place[-1]
    dz = float(np.linalg.norm(step))
    along = step / dz
    sideways = span - (span @ normal) * normal
    residuals = np.linalg.norm(positions - (positions[0] + place[:, None] * step), axis=1)
    distance = (positions - positions[0]) @ along
    uniform = is_uniform(residuals, np.diff(distance) / np.diff(place), dz, tolerances)
    found = grid_slots(distance, tolerances, thickness, designed) if slots is None and not uniform else place
    if not uniform:
        dz = frequent_step(np.diff(distance), tolerances)
    origin = positions[0]
    size = int(place[-1]) + 1
    direction = np.column_stack([plane.axes[:, :2], along])
    spacing = (*(plane.spacing or (1.0, 1.0)), dz)
    exact = uniform and plane.spacing is not None
    return Geometry(
        spacing=spacing,
        spacing_kind=plane.spacing_kind,
        spacing_z_source="positions",
        spacing_z_nominal=not uniform,
        origin=_triple(origin),
        direction=direction,
        affine=affine_of(origin, direction, spacing) if exact else None,
        uniform=exact,
        sheared=bool(np.linalg.norm(sideways) > SHEAR * np.linalg.norm(span)),
        max_residual_mm=float(residuals.max()),
        missing_slices=() if found is None else _holes(found),
        has_position=True,
        frame_of_reference_uid=plane.frame_of_reference_uid,
        z_mm=origin[2] + np.arange(size) * dz if uniform else origin[2] + distance,
    )


def _holes(slots: Ints) -> tuple[int, ...]:
    """Return the indices of the full grid that no slice has."""
    absent = np.ones(int(slots[-1]) + 1, dtype=bool)
    absent[slots] = False
    return tuple(np.flatnonzero(absent).tolist())


def _triple(vector: Floats) -> tuple[float, float, float]:
    """Return a 3-vector as plain floats."""
    x, y, z = vector.tolist()
    return x, y, z


def affine_of(origin: Floats, direction: Floats, spacing: tuple[float, float, float]) -> Floats:
    """Return the (4, 4) matrix from voxel-centre index (i, j, k, 1) to mm."""
    affine = np.eye(4)
    affine[:3, :3] = direction * np.asarray(spacing)
    affine[:3, 3] = origin
    return affine


def _single(position: Floats, plane: Plane) -> Geometry:
    """Return the geometry of one slice: its third axis is the normal, its thickness the step."""
    flat = flat_geometry(1, plane)
    if plane.axes is None:
        return flat
    exact = plane.spacing is not None
    return Geometry(
        spacing=flat.spacing,
        spacing_kind=flat.spacing_kind,
        spacing_z_source=flat.spacing_z_source,
        spacing_z_nominal=False,
        origin=_triple(position),
        direction=plane.axes,
        affine=affine_of(position, plane.axes, flat.spacing) if exact else None,
        uniform=exact,
        sheared=False,
        max_residual_mm=0.0,
        missing_slices=(),
        has_position=True,
        frame_of_reference_uid=plane.frame_of_reference_uid,
        z_mm=position[2:3].copy(),
    )


def flat_geometry(slices: int, plane: Plane) -> Geometry:
    """Return the geometry of slices without positions: spacing as far as it is known, no origin and no affine.

    Parameters
    ----------
    slices : int
    plane : Plane
        ``axes`` may be None.
    """
    dz, source = step_without_positions(slices, plane)
    return Geometry(
        spacing=(*(plane.spacing or (1.0, 1.0)), dz),
        spacing_kind=plane.spacing_kind,
        spacing_z_source=source,
        spacing_z_nominal=False,
        origin=None,
        direction=plane.axes,
        affine=None,
        uniform=False,
        sheared=False,
        max_residual_mm=0.0,
        missing_slices=(),
        has_position=False,
        frame_of_reference_uid=plane.frame_of_reference_uid,
        z_mm=np.arange(slices, dtype=np.float64) * dz,
    )


def step_without_positions(slices: int, plane: Plane) -> tuple[float, Literal["tag", "thickness", "none"]]:
    """Return dz and where it comes from: SpacingBetweenSlices (of several slices only), SliceThickness, or nothing."""
    between = abs(plane.spacing_between)
    if slices > 1 and 0 < between < np.inf:
        return between, "tag"
    if 0 < plane.thickness < np.inf:
        return plane.thickness, "thickness"
    return 1.0, "none"
