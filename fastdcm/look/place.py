"""Where two volumes lie, against each other: what differs, with both values; and where one voxel is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from fastdcm.look.voxels import Voxels
from fastdcm.model import Floats, Tolerances


class Difference(NamedTuple):
    """Something about the places of A and B that is not the same."""

    what: str
    """spacing, origin, direction, frame of reference, position, position of slice N."""
    a: Any
    b: Any
    unit: str = ""

    def __str__(self) -> str:
        """Say what differs, with both values."""
        return f"{self.what}: {value_text(self.a)} against {value_text(self.b)}{self.unit and ' ' + self.unit}"


def geometry_differences(a: Voxels, b: Voxels, tolerances: Tolerances | None = None) -> Iterator[Difference]:
    """Yield what differs between the places of two volumes of one shape.

    Directions differ by more than ``orientation`` in a cosine, spacings by more than ``spacing_relative``, origins and
    the positions of uneven slices by more than ``position_mm``; frames of reference where both are known and not the
    same UID. What is unknown on one side alone is a difference, but for the frame of reference.
    """
    within = tolerances or Tolerances()
    placed = [_is_placed(side) for side in (a, b)]
    if any(placed) and not all(placed):
        yield Difference("position in the patient", *map(_known, placed))
    spaced = [side.geometry.get("spacing_kind") != "none" for side in (a, b)]
    if any(spaced) and not all(spaced):
        yield Difference("pixel spacing", *map(_known, spaced))
    elif all(spaced):
        first, second = (side.geometry.get("spacing") or (1.0, 1.0, 1.0) for side in (a, b))
        if _apart(first, second, within.spacing_relative * np.abs(_array(first))):
            yield Difference("spacing (x, y, z)", first, second, "mm")
    if all(placed):
        yield from _position_differences(a, b, within)
    first, second = (side.geometry.get("frame_of_reference_uid") for side in (a, b))
    if first and second and first != second:
        yield Difference("frame of reference", first, second)


def is_nowhere(a: Voxels, b: Voxels) -> bool:
    """Whether neither volume says where in the patient it is: then only their indices can be compared."""
    return not (_is_placed(a) or _is_placed(b))


def _is_placed(side: Voxels) -> bool:
    return side.geometry.get("origin") is not None and side.geometry.get("direction") is not None


def _position_differences(a: Voxels, b: Voxels, within: Tolerances) -> Iterator[Difference]:
    """Yield what differs in origin and direction, and the first slice that lies elsewhere if either is uneven."""
    for name, limit, unit in (("origin", within.position_mm, "mm"), ("direction", within.orientation, "")):
        first, second = a.geometry[name], b.geometry[name]
        if _apart(first, second, limit):
            yield Difference(name, first, second, unit)
    if a.geometry.get("uniform") and b.geometry.get("uniform"):
        return
    for k in range(a.shape[a.axes.index("z")]):
        places = slice_position(a, k), slice_position(b, k)
        if places[0] is not None and places[1] is not None and _apart(*places, within.position_mm):
            yield Difference(f"position of slice {k}", *places, "mm")
            return


def slice_position(side: Voxels, k: int) -> list[float] | None:
    """Return the centre of the first voxel of slice ``k``, mm LPS, None where it is unknown."""
    affine = side.geometry.get("affine")
    if affine is not None:
        return [float(value) for value in (_array(affine) @ (0, 0, k, 1))[:3]]
    place = side.positions[k] if side.positions else None
    return None if place is None else [float(value) for value in place]


def place_mm(side: Voxels, index: Sequence[int]) -> tuple[float, float, float] | None:
    """Return the centre of a voxel, mm LPS (PS3.3 C.7.6.2.1.1), None where it is unknown.

    Parameters
    ----------
    side : Voxels
        The volume.
    index : sequence of int
        One an axis of the volume, so (z, y, x) at its end.
    """
    k, j, i = index[-3:]
    origin, direction = slice_position(side, k), side.geometry.get("direction")
    if origin is None or direction is None:
        return None
    in_plane = _array(direction)[:, :2] * _array(side.geometry["spacing"])[:2]
    x, y, z = (_array(origin) + in_plane @ (i, j)).tolist()
    return x, y, z


def value_text(value: Any) -> str:
    """Return a number or (nested) numbers as text of nine digits at most."""
    if isinstance(value, list | tuple):
        return f"({', '.join(map(value_text, value))})"
    return f"{round(value, 6) + 0.0:.9g}" if isinstance(value, float) else str(value)


def _known(known: bool) -> str:
    return "known" if known else "unknown"


def _array(values: Any) -> Floats:
    return np.asarray(values, dtype=np.float64)


def _apart(a: Any, b: Any, limit: Any) -> bool:
    return bool(np.any(np.abs(_array(a) - _array(b)) > limit))
