"""Where one file's image is and what its values are, from its header alone, as SimpleITK (GDCM) would say it.

SimpleITK chooses by SOP Class which elements it believes. The same is done here, so that the numbers are the same; what
it makes up where the file says nothing is named in ``Geometry.assumed``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np

from fastdcm.scan import rules
from fastdcm.scan.listing import Listed, items_of, top_level
from fastdcm.scan.tag_json import resolve_vr

_STORAGE = "1.2.840.10008.5.1.4.1.1."


def _classes(*ends: str) -> frozenset[str]:
    return frozenset(_STORAGE + end for end in ends)


_CT, _MR, _NM, _PT, _CAPTURE, _DOSE, _RT_IMAGE = (
    _STORAGE + end for end in ("2", "4", "20", "128", "7", "481.2", "481.1")
)
_GROUPS_WITH_RESCALE = _classes(
    "2.1", "2.2", "4.1", "4.4", "128.1", "130", "13.1.1", "13.1.2", "13.1.3", "13.1.4", "13.1.5", "66.4"
)
_GROUPS = _GROUPS_WITH_RESCALE | _classes("4.3", "7.1", "7.2", "7.3", "7.4", "14.1", "14.2", "77.1.5.4")
"""SOP Classes whose geometry is looked for in functional groups (orientation also at the top)."""
_PLANAR = _classes("3", "3.1", "6", "6.1", "77.1.1.1") | {"1.2.840.10008.5.1.1.29"}
"""Pixel Spacing, if there is any, and never a third spacing: ultrasound and film."""
_DETECTOR = _classes("1", "1.1", "1.1.1", "1.2", "1.2.1", "1.3", "1.3.1", "12.1", "12.2", "12.3")
"""Imager Pixel Spacing, not Pixel Spacing: projections."""
_UNSPACED = _classes(
    "12.1.1", "77.1.1", "77.1.2.1", "77.1.4.1", "77.1.5.1", "77.1.5.2", "77.1.6", "481.7", "66.1", "66.2", "5"
)
_UNSTEPPED = _UNSPACED | _classes("77.1.2", "77.1.4") | {"1.2.840.10008.5.1.1.30"}
_PIXEL, _IMAGER, _NOMINAL = 0x00280030, 0x00181164, 0x00182010
_SPACING_TAGS: Mapping[str, tuple[int, ...]] = {
    **dict.fromkeys(_DETECTOR, (_IMAGER,)),
    **dict.fromkeys(_UNSPACED, ()),
    _CAPTURE: (_PIXEL, _NOMINAL),
    "1.2.840.10008.5.1.1.30": (_NOMINAL,),
    _RT_IMAGE: (0x30020011,),
}
"""Which element gives the spacing in the plane; the first that is there counts. Pixel Spacing for all others."""
_BY_MODALITY = {"CT": _CT, "MR": _MR, "NM": _NM, "PT": _PT, "CR": _STORAGE + "1", "US": _STORAGE + "6.1"}

_POSITION, _ORIENTATION, _FRAME_POINTER, _FRAME_TIME = 0x00200032, 0x00200037, 0x00280009, 0x00181063
_SHARED, _PER_FRAME = 0x52009229, 0x52009230
_PLANE_POSITION, _PLANE_ORIENTATION, _MEASURES, _TRANSFORMATION = 0x00209113, 0x00209116, 0x00289110, 0x00289145
_DETECTORS = 0x00540022
_AXES = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
_STEP_TOLERANCE_MM = 1e-3

Place = dict[int, int]
"""Where the elements of one data set are in the list, by tag."""


class Geometry(NamedTuple):
    """Size and place, x, y, z order, mm in the patient frame (LPS)."""

    size: tuple[int, int, int]
    spacing: tuple[float, float, float]
    origin: tuple[float, float, float]
    direction: tuple[float, ...]
    """Nine numbers, row by row: the columns are the directions of x, y and z."""
    assumed: tuple[str, ...]
    """Which of spacing_xy, spacing_z, origin, direction the file does not say (where SimpleITK looks)."""


class Tags:
    """The elements of one file, to look values up in."""

    def __init__(self, elements: list[Listed]) -> None:
        self.elements = elements
        self.top: Place = top_level(elements)

    def raw(self, tag: int, place: Place | None = None) -> rules.Raw | None:
        """Return a value's bytes, None where it is absent, empty or was not read."""
        number = (self.top if place is None else place).get(tag)
        if number is None or not self.elements[number].value:
            return None
        element = self.elements[number]
        return rules.Raw(resolve_vr(tag, element.vr, False), element.value or b"", element.little_endian)

    def text(self, tag: int, place: Place | None = None) -> str | None:
        """Return a text without padding."""
        found = self.raw(tag, place)
        return rules.clean_text(found.value) if found else None

    def numbers(self, tag: int, count: int, place: Place | None = None) -> list[float] | None:
        """Return ``count`` finite numbers, or None."""
        found = self.raw(tag, place)
        if found is None:
            return None
        values = rules.parse_values(found.value, found.vr, found.little_endian, count)
        known = [value for value in values if value is not None and math.isfinite(value)]
        return known if len(known) == count else None

    def number(self, tag: int, place: Place | None = None) -> float | None:
        """Return one finite number, or None."""
        found = self.numbers(tag, 1, place)
        return found[0] if found else None

    def whole(self, tag: int) -> int | None:
        """Return a top-level whole number, or None."""
        return rules.to_int(self.number(tag))

    def items(self, tag: int, place: Place | None = None) -> list[Place]:
        """Return the items of a sequence."""
        number = (self.top if place is None else place).get(tag)
        return [] if number is None else list(items_of(self.elements, number))

    def grouped(self, group: int, macro: int) -> Place | None:
        """Return the first item of a macro in the first item of Shared or Per-frame Functional Groups."""
        for item in self.items(group)[:1]:
            for inner in self.items(macro, item)[:1]:
                return inner
        return None

    def sop_class(self) -> str:
        """Return the SOP Class that decides; where there is none, that of the modality."""
        return self.said_class() or _BY_MODALITY.get(self.text(0x00080060) or "", "")

    def said_class(self) -> str | None:
        """Return the SOP Class that the file says, of group 2 first."""
        found = [rules.raw_text(element.value) for tag in (0x00020002, 0x00080016) if (element := self.raw(tag))]
        return next(filter(None, found), None)


def geometry_of(tags: Tags) -> Geometry | None:
    """Return size and place of a file's image, None where it has no rows or columns."""
    columns, rows = tags.whole(0x00280011), tags.whole(0x00280010)
    if not columns or not rows:
        return None
    size = (columns, rows, _frame_count(tags))
    spacing, invented = _spacing(tags, size[2])
    origin, directions = _plane(tags)
    missing = [name for name, value in (("origin", origin), ("direction", directions)) if value is None]
    x, y, z = origin or (0.0, 0.0, 0.0)
    return Geometry(size, spacing, (x, y, z), _direction(directions or _AXES), (*invented, *missing))


def _frame_count(tags: Tags) -> int:
    """Return Number of Frames, or ACR-NEMA's Planes of a three-dimensional image."""
    if tags.whole(0x00280005) == 3 and (planes := tags.whole(0x00280012)):
        return planes
    return max(tags.whole(0x00280008) or 1, 1)


def _direction(pair: Sequence[float]) -> tuple[float, ...]:
    """Return the nine numbers of a row and a column direction, made orthogonal: the column and the normal lead."""
    row, column = np.array(pair[:3]), np.array(pair[3:])
    normal = np.cross(row, column)
    if not np.linalg.norm(normal):
        return 1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0
    normal /= np.linalg.norm(normal)
    row = np.cross(column, normal)
    row /= np.linalg.norm(row)
    matrix = np.stack([row, np.cross(normal, row), normal], axis=1)
    return tuple(float(value) for value in matrix.ravel())


def _plane(tags: Tags) -> tuple[list[float] | None, list[float] | None]:
    """Return position and orientation of the first frame, each None where the file does not say."""
    sop_class = tags.sop_class()
    if sop_class in _GROUPS:
        position = _in_groups(tags, _PLANE_POSITION, _POSITION, 3)
        directions = _in_groups(tags, _PLANE_ORIENTATION, _ORIENTATION, 6)
        return position, _unit(directions) or _unit(tags.numbers(_ORIENTATION, 6))
    if sop_class == _NM:
        for detector in tags.items(_DETECTORS)[:1]:
            return tags.numbers(_POSITION, 3, detector), _unit(tags.numbers(_ORIENTATION, 6, detector))
        return None, _unit(tags.numbers(_ORIENTATION, 6))
    return tags.numbers(_POSITION, 3), _unit(tags.numbers(_ORIENTATION, 6))


def _in_groups(tags: Tags, macro: int, tag: int, count: int) -> list[float] | None:
    for group in (_SHARED, _PER_FRAME):
        place = tags.grouped(group, macro)
        if place is not None and (found := tags.numbers(tag, count, place)):
            return found
    return None


def _unit(pair: list[float] | None) -> list[float] | None:
    """Return two directions with length 1, None where they have no length or are not orthogonal."""
    if pair is None:
        return None
    row, column = np.array(pair[:3]), np.array(pair[3:])
    lengths = np.linalg.norm(row), np.linalg.norm(column)
    if not all(lengths) or abs(float(row @ column)) / float(lengths[0] * lengths[1]) > 1e-3:
        return None
    return [*(row / lengths[0]).tolist(), *(column / lengths[1]).tolist()]


# ---------------------------------------------------------------------------- spacing


def _spacing(tags: Tags, n_frames: int) -> tuple[tuple[float, float, float], tuple[str, ...]]:
    """Return the spacing, and which parts of it are made up."""
    sop_class = tags.sop_class()
    if sop_class in _GROUPS:
        return _group_spacing(tags)
    pairs = (_pair(tags, tag) for tag in _SPACING_TAGS.get(sop_class, (_PIXEL,)))
    pair = next((found for found in pairs if found), None)
    return _completed(pair, None if sop_class in _PLANAR else _step(tags, sop_class, n_frames))


def _completed(
    pair: tuple[float, float] | None, step: float | None
) -> tuple[tuple[float, float, float], tuple[str, ...]]:
    x, y = pair or (1.0, 1.0)
    invented = [name for name, value in (("spacing_xy", pair), ("spacing_z", step)) if value is None]
    return (x, y, 1.0 if step is None else step), tuple(invented)


def _pair(tags: Tags, tag: int, place: Place | None = None) -> tuple[float, float] | None:
    """Return (x, y) of an element that says (y, x); one value alone is both, and none is 0."""
    found = tags.numbers(tag, 2, place)
    if found is None:
        one = tags.number(tag, place)
        found = [one, one] if one is not None else None
    return (found[1] or 1.0, found[0] or 1.0) if found else None


def _step(tags: Tags, sop_class: str, n_frames: int) -> float | None:
    """Return the third spacing of classes without functional groups; of a clip it is the time of a frame in ms."""
    if sop_class == _DOSE and (offsets := tags.numbers(0x3004000C, 2)):
        return offsets[1] - offsets[0]
    if 0x00180088 in tags.top and sop_class not in _UNSTEPPED | {_DOSE}:
        return tags.number(0x00180088)
    pointed = tags.raw(_FRAME_POINTER)
    if pointed is None or len(pointed.value) != 4 or n_frames < 2:
        return None
    order: Literal["little", "big"] = "little" if pointed.little_endian else "big"
    group, number = int.from_bytes(pointed.value[:2], order), int.from_bytes(pointed.value[2:], order)
    return tags.number(_FRAME_TIME) if group << 16 | number == _FRAME_TIME else None


def _group_spacing(tags: Tags) -> tuple[tuple[float, float, float], tuple[str, ...]]:
    """Return the spacing that functional groups give.

    Where the frames are not evenly spaced SimpleITK gives 1, 1, 1; what the file says of the plane is right even then.
    """
    for group in (_SHARED, _PER_FRAME):
        place = tags.grouped(group, _MEASURES)
        pair = None if place is None else _pair(tags, _PIXEL, place)
        if pair is not None and place is not None:
            return _completed(pair, _group_step(tags, place))
    return _completed(None, None)


def _group_step(tags: Tags, measures: Place) -> float | None:
    """Return the step along the normal from frame to frame, in their order: negative where they go against it.

    Frames that repeat the position before them (times, echoes) are no step.
    """
    frames = tags.items(_PER_FRAME)
    if len(frames) < 2:
        return tags.number(0x00180088, measures)
    directions = _in_groups(tags, _PLANE_ORIENTATION, _ORIENTATION, 6) or tags.numbers(_ORIENTATION, 6) or _AXES
    planes = [tags.items(_PLANE_POSITION, frame)[:1] for frame in frames]
    positions = [tags.numbers(_POSITION, 3, plane[0]) if plane else None for plane in planes]
    if any(position is None for position in positions):
        return None
    distances = np.array(positions, dtype=np.float64) @ np.cross(directions[:3], directions[3:])
    steps = np.diff(distances)
    steps = steps[steps != 0]
    even = len(steps) > 0 and bool(np.all(np.abs(steps - steps.mean()) <= _STEP_TOLERANCE_MM))
    return float(steps.mean()) if even else tags.number(0x00180088, measures)


def slice_measure(tags: Tags, tag: int) -> float | None:
    """Return Slice Thickness or Spacing Between Slices, of the file or of its first frame."""
    places = (None, tags.grouped(_SHARED, _MEASURES), tags.grouped(_PER_FRAME, _MEASURES))
    found = (tags.number(tag, place) for n, place in enumerate(places) if n == 0 or place is not None)
    return next((value for value in found if value is not None), None)


# ---------------------------------------------------------------------------- values


def rescale_of(tags: Tags) -> tuple[float, float]:
    """Return (slope, intercept) of the first frame as SimpleITK applies them; a slope of 0 is 1."""
    sop_class = tags.sop_class()
    if sop_class in _GROUPS_WITH_RESCALE:
        for group in (_SHARED, _PER_FRAME):
            place = tags.grouped(group, _TRANSFORMATION)
            if place is not None:
                slope, intercept = tags.number(0x00281053, place), tags.number(0x00281052, place)
                if slope is not None and intercept is not None:
                    return slope, intercept
    slope, intercept = tags.number(0x00281053), tags.number(0x00281052)
    return slope or 1.0, intercept or 0.0


def stored_type(tags: Tags) -> str | None:
    """Return the type of a stored value, None where Bits Allocated is none that is known."""
    if 0x7FE00009 in tags.top:
        return "float64"
    if 0x7FE00008 in tags.top:
        return "float32"
    bits = {1: 8, 8: 8, 12: 16, 16: 16, 32: 32, 64: 64}.get(tags.whole(0x00280100) or 0)
    if bits is None:
        return None
    return f"{'int' if tags.whole(0x00280103) == 1 and tags.whole(0x00280100) != 1 else 'uint'}{bits}"


def output_type(tags: Tags) -> str | None:
    """Return the type that SimpleITK gives the values: the least that holds what the header allows after rescaling."""
    stored = stored_type(tags)
    if stored is None or stored.startswith("float"):
        return stored
    slope, intercept = rescale_of(tags)
    if (slope, intercept) == (1.0, 0.0):
        return stored
    if slope != int(slope) or intercept != int(intercept):
        return "float64"
    allocated = tags.whole(0x00280100) or 16
    bits = tags.whole(0x00280101) or allocated
    bits = min(bits, allocated)
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if stored.startswith("int") else (0, 2**bits - 1)
    ends = sorted((slope * low + intercept, slope * high + intercept))
    kind = "uint" if ends[0] >= 0 else "int"
    for size in (8, 16, 32, 64):
        limits = np.iinfo(f"{kind}{size}")
        if limits.min <= ends[0] and ends[1] <= limits.max:
            return f"{kind}{size}"
    return "float64"


def component_count(tags: Tags) -> int:
    """Return the number of components that SimpleITK gives: a palette becomes RGB."""
    samples = tags.whole(0x00280002) or 1
    return 3 if samples == 1 and tags.text(0x00280004) == "PALETTE COLOR" else samples
