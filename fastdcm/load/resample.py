"""The grid that a volume is exported on: its own, or a regular and orthogonal one that it is resampled to.

Uneven slices have no affine and sheared stacks no orthogonal one. Resampling keeps the rows, columns and voxels in
plane, puts the slices at an even step along row x column, and interpolates linearly: between the two neighbouring
slices, and within each of them where a shear moves it by a part of a voxel.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fastdcm.errors import GeometryError
from fastdcm.load.bridges import is_nominal
from fastdcm.model import Floats, Ints, Json

if TYPE_CHECKING:
    from fastdcm.load.volume import Volume

Array = npt.NDArray[Any]
Cell = tuple[int | slice, ...]
"""Index of the axes before z, y, x."""

SNAP = 1e-3
"""Parts of a voxel or a step that count as none: positions are written with a few decimals."""
GROWTH, SMALL_VOXELS = 16, 1 << 24
"""A resampled grid of more than so many times the voxels, and not small, is refused: few slices far apart."""


@dataclass(frozen=True, eq=False)
class Grid:
    """Voxels and where they are."""

    affine: Floats
    """(4, 4) voxel-centre index (x, y, z) to mm LPS."""
    shape: tuple[int, int, int]
    """z, y, x."""
    nominal: bool
    """The affine is not the truth, but the nearest even grid."""
    read: Callable[[Cell, int, int], Array]
    """``read(cell, start, stop)``: slices start to stop of one cell, ([3,] z, y, x)."""


def own_grid(volume: Volume, *, nominal: bool = False) -> Grid:
    """Return the grid that a volume has.

    Raises
    ------
    GeometryError
        It has none, and ``nominal`` is False.
    """
    if is_nominal(volume) and not nominal:
        raise GeometryError(why_no_grid(volume))

    def read(cell: Cell, start: int, stop: int) -> Array:
        return np.asarray(volume.array[(*cell, slice(start, stop))])

    return Grid(volume.affine("LPS", nominal=nominal), _sizes(volume), is_nominal(volume), read)


def regular_grid(volume: Volume) -> Grid:
    """Return an orthogonal grid of even steps that a volume is resampled to; its own, where that is one already.

    The step is the even one, else the most frequent one, measured along row x column; slices go from the first
    position as far as the last one reaches, and none is extrapolated. A shear makes the plane as large as all slices
    together need. Segmentations take the nearest voxel, and 0 in a slice that is missing, because an absent frame is
    empty (PS3.3 C.8.20.2); other integers are rounded (halves to even). Voxels that need a padding value or lie
    outside of a slice hold the padding value, else NaN, else the type's minimum (0 for segmentations and colour).

    Raises
    ------
    GeometryError
        Positions, orientation or pixel spacing are unknown, or the slices lie too far apart for an even grid.
    """
    geometry: Json = volume.attributes["fastdcm"]["geometry"]
    if not is_nominal(volume) and not geometry.get("sheared"):
        return own_grid(volume)
    positions = _positions(volume)
    placed = _place_slices(volume, positions)
    grid = placed.shape
    if math.prod(grid) > max(GROWTH * math.prod(_sizes(volume)), SMALL_VOXELS):
        raise GeometryError(
            f"an even grid would have {grid[0]} slices of {grid[1]} x {grid[2]} for {len(positions)} slices of "
            f"{volume.shape[-2]} x {volume.shape[-1]}, more than {GROWTH} times the voxels; it is not resampled"
        )
    return Grid(placed.affine, grid, False, _sampler(volume, placed).read)


def why_no_grid(volume: Volume) -> str:
    """Say why a volume has no affine, and which option exports it nevertheless."""
    geometry: Json = volume.attributes["fastdcm"]["geometry"]
    nominal = "--nominal (nominal=True) writes it"
    if geometry.get("origin") is None or not geometry.get("has_position", True) or geometry.get("direction") is None:
        return (
            "the volume has no position: its images have no usable ImagePositionPatient and ImageOrientationPatient. "
            f"{nominal} at origin 0 along the unit matrix; there is nothing to resample"
        )
    if geometry.get("spacing_kind") == "none":
        return f"the volume has no usable PixelSpacing. {nominal} with 1 mm in plane; there is nothing to resample"
    return (
        f"the slices are uneven: up to {geometry.get('max_residual_mm', 0.0):.3f} mm off the best even grid, "
        f"{len(geometry.get('missing_slices') or ())} missing, so no file with one affine is right. --resample "
        f"(resample=True) interpolates an even grid; {nominal} as if all steps were {volume.spacing[2]:g} mm"
    )


# ---------------------------------------------------------------------------- where the slices lie


class _Placed(NamedTuple):
    """The output grid, and where the slices are on it."""

    affine: Floats
    shape: tuple[int, int, int]
    height: Floats
    """(z,) of each slice on the output grid, in steps."""
    shift: Floats
    """(z, 2) of each slice's first voxel on the output plane: (y, x), in voxels."""


def _sizes(volume: Volume) -> tuple[int, int, int]:
    z, y, x = volume.shape[-3:]
    return z, y, x


def _positions(volume: Volume) -> Floats:
    """Return (z, 3) mm LPS."""
    geometry: Json = volume.attributes["fastdcm"]["geometry"]
    n = volume.shape[-3]
    if not is_nominal(volume):
        affine = volume.affine()
        even: Floats = affine[:3, 3] + np.arange(n)[:, None] * affine[:3, 2]
        return even
    columns = volume.slices.get("position")
    known = geometry.get("direction") is not None and geometry.get("spacing_kind") != "none"
    if not columns or not known or len(columns) % n:
        raise GeometryError(why_no_grid(volume))
    found = [next((row for row in columns[k::n] if row is not None), None) for k in range(n)]
    if any(row is None for row in found):
        raise GeometryError("a slice has no position: the volume cannot be resampled")
    positions = np.array(found, dtype=np.float64).reshape(n, 3)
    if n < 2 or not np.isfinite(positions).all():
        raise GeometryError(why_no_grid(volume))
    return positions


def _place_slices(volume: Volume, positions: Floats) -> _Placed:
    dx, dy, dz = volume.spacing
    row, column, along = volume.direction.T
    normal = np.cross(row, column)
    normal /= np.linalg.norm(normal)
    relative = positions - positions[0]
    height_mm = relative @ normal
    even = not is_nominal(volume)
    step_mm = float(height_mm[-1]) / (len(positions) - 1) if even else dz * abs(float(along @ normal))
    if step_mm <= 0 or (np.diff(height_mm) <= 0).any():
        raise GeometryError("the slices do not ascend along row x column: the volume cannot be resampled")
    shift = np.column_stack([relative @ column / dy, relative @ row / dx])
    first = np.floor(shift.min(axis=0) + 0.05)  # a drift of a twentieth of a voxel makes no plane larger
    last = np.ceil(shift.max(axis=0) - 0.05)
    ny, nx = (int(n) for n in np.array(volume.shape[-2:]) + last - first)
    nz = math.floor(float(height_mm[-1]) / step_mm + 0.01) + 1
    affine = np.eye(4)
    affine[:3, :3] = np.column_stack([row * dx, column * dy, normal * step_mm])
    affine[:3, 3] = positions[0] + first[0] * dy * column + first[1] * dx * row
    return _Placed(affine, (nz, ny, nx), height_mm / step_mm, shift - first)


# ---------------------------------------------------------------------------- values


@dataclass(frozen=True, eq=False)
class _Sampler:
    """Slices of the output grid out of slices of the volume, read when they are needed."""

    volume: Volume
    placed: _Placed
    nearest: bool
    padding: float | None
    outside: float
    below: Ints
    """(z,) for each output slice the input slice at or below it."""
    share: Floats
    """(z,) of the input slice above that."""
    empty: frozenset[int]
    """Output slices that hold nothing."""

    def read(self, cell: Cell, start: int, stop: int) -> Array:
        """Return slices start to stop of the output grid for one cell."""
        below, share = self.below[start:stop], self.share[start:stop]
        first, last = int(below[0]), int((below + (share > 0)).max())
        source = np.asarray(self.volume.array[(*cell, slice(first, last + 1))])
        out = np.empty((*source.shape[:-3], stop - start, *self.placed.shape[1:]), dtype=source.dtype)
        planes: dict[int, Floats] = {}
        for n, (k, part) in enumerate(zip(below.tolist(), share.tolist(), strict=True)):
            if start + n in self.empty:
                out[..., n, :, :] = self.outside
                continue
            planes = {m: plane for m, plane in planes.items() if m >= k}
            for m in (k, k + 1) if part > 0 else (k,):
                if m not in planes:
                    planes[m] = self._moved(source[..., m - first, :, :], m)
            mixed = planes[k] if part == 0 else planes[k] * (1 - part) + planes[k + 1] * part
            out[..., n, :, :] = self._typed(mixed, source.dtype)
        return out

    def _moved(self, plane: Array, k: int) -> Floats:
        """Return slice k on the output plane: float64, NaN where there is no value."""
        values = plane.astype(np.float64)
        if self.padding is not None:
            values[plane == self.padding] = np.nan
        shift_y, shift_x = self.placed.shift[k].tolist()
        values = _shifted(values, shift_y, self.placed.shape[1], axis=-2, nearest=self.nearest)
        return _shifted(values, shift_x, self.placed.shape[2], axis=-1, nearest=self.nearest)

    def _typed(self, values: Floats, dtype: np.dtype[Any]) -> Array:
        whole = np.rint(values) if dtype.kind in "iu" else values
        return np.where(np.isnan(values), self.outside, whole).astype(dtype)


def _sampler(volume: Volume, placed: _Placed) -> _Sampler:
    intensity: Json = volume.attributes["fastdcm"].get("intensity") or {}
    nearest = volume.kind == "segmentation"
    padding = None if nearest or volume.colour else intensity.get("padding_value")
    below, share = _neighbours(placed, nearest=nearest)
    missing = volume.attributes["fastdcm"]["geometry"].get("missing_slices") or () if nearest else ()
    return _Sampler(volume, placed, nearest, padding, _outside(volume, padding), below, share, frozenset(missing))


def _outside(volume: Volume, padding: float | None) -> float:
    if padding is not None:
        return float(padding)
    if volume.kind == "segmentation" or volume.colour:
        return 0.0
    return math.nan if volume.dtype.kind == "f" else float(np.iinfo(volume.dtype).min)


def _neighbours(placed: _Placed, *, nearest: bool) -> tuple[Ints, Floats]:
    """Return for each output slice the input slice below it, and the share of the next one."""
    wanted = np.arange(placed.shape[0], dtype=np.float64)
    top = len(placed.height) - 1
    below = np.clip(np.searchsorted(placed.height, wanted, side="right") - 1, 0, top - 1)
    share = (wanted - placed.height[below]) / (placed.height[below + 1] - placed.height[below])
    share = np.clip(np.rint(share) if nearest else _snap(share), 0.0, 1.0)
    return below + (share == 1), np.where(share == 1, 0.0, share)


def _snap(value: Floats) -> Floats:
    whole = np.rint(value)
    return np.where(np.abs(value - whole) < SNAP, whole, value)


def _shifted(values: Floats, shift: float, size: int, *, axis: int, nearest: bool) -> Floats:
    """Move values by a part of a voxel along an axis of the given new size; NaN where they do not reach."""
    moved = round(shift) if nearest else float(_snap(np.array(shift)))
    if moved == 0 and size == values.shape[axis]:
        return values
    start = math.floor(-moved)
    share = -moved - start
    out = _taken(values, start, size, axis)
    return out if share == 0 else out * (1 - share) + _taken(values, start + 1, size, axis) * share


def _taken(values: Floats, start: int, size: int, axis: int) -> Floats:
    """Return ``size`` values from index ``start`` on, which may lie before or behind them: NaN there."""
    places = np.arange(start, start + size)
    outside = (places < 0) | (places >= values.shape[axis])
    taken = np.take(values, places.clip(0, values.shape[axis] - 1), axis=axis)
    taken[(..., outside) if axis == -1 else (..., outside, slice(None))] = np.nan
    return taken
