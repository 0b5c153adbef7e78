"""What BIDS keeps beside a NIfTI file: a JSON sidecar, and b-values and directions of diffusion images.

Names and units are those of the BIDS standard, else those that dcm2niix gave to the same tag. The values come from the
technical tags and columns of the store; whatever metadata the store keeps, no names, ids, dates, descriptions,
institutions or serial numbers are written. Absent means unknown.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from fastdcm.errors import UsageError
from fastdcm.load.bids_fields import FIELDS, MS, Field
from fastdcm.load.kept_tags import kept_tags
from fastdcm.load.resample import Cell, Grid
from fastdcm.model import Floats, Json
from fastdcm.version import __version__

if TYPE_CHECKING:
    from fastdcm.load.volume import Volume


NESTED = ("52009229", "00540016")
"""Sequences that hold for the whole volume: shared functional groups, the radiopharmaceutical."""
ENHANCED_MR = ("1.2.840.10008.5.1.4.1.1.4.1", "1.2.840.10008.5.1.4.1.1.4.3", "1.2.840.10008.5.1.4.1.1.4.4")
EVEN_S = 5e-3
"""Slice times that agree to so many seconds from volume to volume are one pattern."""


def sidecar(volume: Volume, grid: Grid, index: Cell) -> dict[str, bytes]:
    """Return the files beside a NIfTI file by their ending.

    ``.json`` has what is equal for all slices that are exported (echo time and flip angle also one a volume), times in
    seconds. PhaseEncodingAxis is ``i`` or ``j`` of the file without a polarity, which no public tag tells. SliceTiming
    is there where acquisition times of the slices repeat from volume to volume within the repetition time.

    ``.bval`` and ``.bvec`` are written where every volume has a b-value and one is not 0. Directions are in the axes
    of the file as FSL wants them: x negated where the affine's determinant is positive. ``.bvec`` is left out where a
    direction is unknown, or not known in the patient's frame (``b_vector_frame``, ``scan.diffusion``).

    Parameters
    ----------
    volume : Volume
    grid : Grid
        What is exported.
    index : tuple
        Chosen index of each axis before z, y, x.

    Returns
    -------
    dict
        UTF-8 or ASCII bytes; ``.json`` always.

    Raises
    ------
    UsageError
        A diffusion series has an axis t as well as c: FSL and BIDS know four dimensions.
    """
    cells = _Cells.of(volume, index)
    files = {".json": _json(_fields(volume, grid, cells))}
    return files | _diffusion(volume, grid, cells)


# ---------------------------------------------------------------------------- cells and tags


@dataclass(frozen=True, eq=False)
class _Cells:
    """Which of the (t, c, z) cells of the store are exported."""

    shape: tuple[int, int, int]
    chosen: npt.NDArray[np.int64]
    """(volumes, z) numbers of cells, volumes in the order of the file."""
    repeats: tuple[int, int]
    """Volumes along t and c."""

    @classmethod
    def of(cls, volume: Volume, index: Cell) -> _Cells:
        lengths = dict(zip(volume.axes, volume.shape, strict=True))
        channels = 1 if volume.colour else lengths.get("c", 1)
        shape = (lengths.get("t", 1), channels, lengths["z"])
        at = {axis: one for axis, one in zip(volume.axes, index, strict=False) if isinstance(one, int)}
        numbers = np.arange(math.prod(shape)).reshape(shape)
        for place, axis in enumerate("tc"):
            if axis in at:
                numbers = np.take(numbers, [at[axis]], axis=place)
        file_order = numbers.transpose(1, 0, 2).reshape(-1, shape[2])  # c is the slower axis of a NIfTI file
        return cls(shape, file_order, (numbers.shape[0], numbers.shape[1]))

    def column(self, values: Any) -> list[list[Any]]:
        """Return a column of the store (one value for all, or one a cell) as one list a volume, one value a slice."""
        if not isinstance(values, list) or len(values) != math.prod(self.shape):
            return [[values] * self.shape[2] for _ in self.chosen]
        return [[values[cell] for cell in row] for row in self.chosen.tolist()]

    def by_volume(self, values: Any) -> list[Any] | None:
        """Return one value a volume, None where the slices of one differ; absent slices do not count."""
        found = []
        for row in self.column(values):
            known = [value for value in row if value is not None]
            if not known or any(value != known[0] for value in known):
                return None
            found.append(known[0])
        return found

    def single(self, values: Any) -> Any:
        """Return the value that all share, else None."""
        found = self.by_volume(values)
        return found[0] if found and all(value == found[0] for value in found) else None


def _nested(item: Mapping[str, Any], tag: str) -> Any:
    """Return the values of a tag in an item or, first found, in the items of its sequences."""
    if tag in item:
        return item[tag].get("Value")
    for element in item.values():
        for inner in (element.get("Value") or ()) if element.get("vr") == "SQ" else ():
            found = _nested(inner, tag) if isinstance(inner, dict) else None
            if found is not None:
                return found
    return None


def _constant(tags: Json, tag: str) -> Any:
    found = (tags.get(tag) or {}).get("Value")
    nested = ({name: tags[name]} for name in NESTED if name in tags) if found is None else ()
    return next((value for item in nested if (value := _nested(item, tag)) is not None), found)


# ---------------------------------------------------------------------------- the sidecar


def _fields(volume: Volume, grid: Grid, cells: _Cells) -> Json:
    tags, varying, _ = kept_tags(volume)
    fields: Json = {}
    for field in FIELDS:
        if field.modalities and volume.modality not in field.modalities:
            continue
        values = _constant(tags, field.tag)
        if values is None and field.tag in varying:
            values = cells.single(varying[field.tag].get("Value"))
        fields[field.name] = _value(field, values)
    fields["Modality"] = fields["Modality"] or volume.modality or None
    fields["SliceThickness"] = _number(volume.slices.get("thickness_mm"))
    fields |= _axes(volume, grid, fields["InPlanePhaseEncodingDirectionDICOM"] if volume.modality == "MR" else None)
    if volume.modality == "MR":
        fields |= _by_volume(volume, cells, varying)
        fields["SliceTiming"] = _slice_timing(volume, grid, cells, fields["RepetitionTime"])
    if volume.modality == "PT":
        fields |= _pet(fields)
    fields["AcquisitionTime"] = _acquisition_time(volume, cells)
    fields |= {"ConversionSoftware": "fastdcm", "ConversionSoftwareVersion": __version__}
    return {name: value for name, value in fields.items() if value is not None}


def _value(field: Field, values: Any) -> Any:
    if not isinstance(values, list) or not values:
        return None
    if field.kind in ("text", "texts"):
        texts = [str(value) for value in values if value is not None]
        return texts if field.kind == "texts" else "\\".join(texts) or None
    numbers = [_number(value, field.scale) for value in values]
    if None in numbers:
        return None
    return numbers if field.kind == "numbers" else numbers[0]


def _number(value: Any, scale: float = 1.0, digits: int = 12) -> float | int | None:
    """Return a finite number, scaled, without the digits that scaling adds; whole ones as integers."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    scaled = float(f"{value * scale:.{digits}g}")
    return int(scaled) if scaled.is_integer() and abs(scaled) < 2**53 else scaled


def _axes(volume: Volume, grid: Grid, phase: str | None) -> Json:
    """Return what depends on the axes of the file."""
    several = volume.shape[-3] > 1 and not grid.nominal
    found: Json = {"PhaseEncodingAxis": {"ROW": "i", "COL": "j", "COLUMN": "j"}.get(phase or "")}
    spacing = np.linalg.norm(grid.affine[:3, 2]) if several else volume.slices.get("spacing_between_slices_mm")
    found["SpacingBetweenSlices"] = _number(spacing, digits=7)
    return found


def _by_volume(volume: Volume, cells: _Cells, varying: Json) -> Json:
    """Return echo time, s, and flip angle, degrees: one for all, or one a volume."""
    echoes = cells.by_volume(volume.slices.get("echo_time"))
    found: Json = {"EchoTime": _one_or_all([_number(echo, MS) for echo in echoes or ()])}
    if "00181314" in varying:
        angles = cells.by_volume([(value or [None])[0] for value in varying["00181314"].get("Value") or ()])
        found["FlipAngle"] = _one_or_all([_number(angle) for angle in angles or ()])
    return found


def _one_or_all(values: Sequence[Any]) -> Any:
    if not values or None in values:
        return None
    return values[0] if len(set(values)) == 1 else list(values)


def _slice_timing(volume: Volume, grid: Grid, cells: _Cells, repetition_s: float | None) -> list[float] | None:
    """Return when each slice was taken, s after the first one of its volume; None where that is not certain.

    Mosaics and grids tell it themselves; else acquisition times that repeat from volume to volume do.
    """
    told = cells.column(volume.slices.get("slice_time_ms"))
    if grid.shape[0] == cells.shape[2] and all(isinstance(time, int | float) for row in told for time in row):
        first = [round((time - min(told[0])) / 1000.0, 6) for time in told[0]]
        return first if max(first) > 0 and all(row == told[0] for row in told) else None
    if repetition_s is None or cells.repeats[0] < 2 or cells.repeats[1] > 1 or grid.shape[0] != cells.shape[2]:
        return None
    column = cells.column(volume.slices.get("acquisition_time"))
    if any(not isinstance(value, int | float) for row in column for value in row):
        return None
    times = np.array(column, dtype=np.float64)  # (t, z)
    within = times - times.min(axis=1, keepdims=True)
    step = np.diff(times.min(axis=1))
    even = bool(np.all(np.abs(within - within[0]) <= EVEN_S) and np.all(np.abs(step - repetition_s) <= EVEN_S))
    if not even or not 0 < within[0].max() < repetition_s:
        return None
    return [round(float(value), 6) for value in within[0]]


def _pet(fields: Json) -> Json:
    correction = fields["DecayCorrection"]
    return {
        "Units": {"BQML": "Bq/mL"}.get(fields["Units"], fields["Units"]),
        "InjectedRadioactivityUnits": "MBq" if fields["InjectedRadioactivity"] is not None else None,
        "ImageDecayCorrected": None if correction is None else correction != "NONE",
    }


def _acquisition_time(volume: Volume, cells: _Cells) -> str | None:
    """Return when the first slice was taken, HH:MM:SS.ffffff."""
    column = cells.column(volume.slices.get("acquisition_time"))
    known = [value for row in column for value in row if isinstance(value, int | float)]
    if not known:
        return None
    second = min(known)
    hours, minutes = divmod(int(second) // 60, 60)
    return f"{hours:02}:{minutes:02}:{second % 60:09.6f}"


def _json(fields: Json) -> bytes:
    return (json.dumps(fields, indent="\t", ensure_ascii=False, allow_nan=False) + "\n").encode("utf-8", "replace")


# ---------------------------------------------------------------------------- diffusion


def _diffusion(volume: Volume, grid: Grid, cells: _Cells) -> dict[str, bytes]:
    values = cells.by_volume(volume.slices.get("b_value")) if volume.modality == "MR" else None
    if not values or not any(value > 0 for value in values):
        return {}
    if min(cells.repeats) > 1:
        raise UsageError(
            f"the diffusion series has {cells.repeats[0]} steps along t and {cells.repeats[1]} along c: choose one "
            "with --t or --c (t=, c=), a BIDS file has four dimensions"
        )
    files = {".bval": (" ".join(f"{value:g}" for value in values) + "\n").encode()}
    vectors = _vectors(volume, cells, values)
    if vectors is not None:
        rows = directions_for_fsl(vectors, grid.affine).T + 0.0
        files[".bvec"] = "".join(" ".join(f"{value:.9g}" for value in row) + "\n" for row in rows).encode()
    return files


def directions_for_fsl(vectors: Floats, affine: Floats) -> Floats:
    """Return gradient directions in the axes of an image, as FSL's ``bvecs``.

    Parameters
    ----------
    vectors : ndarray
        (n, 3) in the patient's frame, LPS.
    affine : ndarray
        (4, 4), voxel-centre index (x, y, z) to mm LPS; a shear does not count.

    Returns
    -------
    ndarray
        (n, 3) of unit length (zeros stay), x negated where the determinant is positive.

    Examples
    --------
    >>> import numpy as np
    >>> from fastdcm.load.bids import directions_for_fsl
    >>> directions_for_fsl(np.array([[3.0, 0.0, 4.0]]), np.eye(4)).tolist()
    [[-0.6, 0.0, 0.8]]
    """
    row: Floats = affine[:3, 0] / np.linalg.norm(affine[:3, 0])
    column = affine[:3, 1] / np.linalg.norm(affine[:3, 1])
    handed = float(np.sign(np.linalg.det(affine[:3, :3])))
    axes = np.column_stack([row, column, np.cross(row, column) * handed])
    turned: Floats = vectors @ axes
    length = np.linalg.norm(turned, axis=1, keepdims=True)
    turned = np.divide(turned, length, out=np.zeros_like(turned), where=length > 0)
    turned[:, 0] *= -handed
    return turned


def _vectors(volume: Volume, cells: _Cells, values: Sequence[float]) -> Floats | None:
    """Return (n, 3) directions in the patient's frame, LPS, 0 where the b-value is 0; None where one is unknown."""
    if not _knows_frame(volume):
        return None
    found = []
    for value, row in zip(values, cells.column(volume.slices.get("b_vector")), strict=True):
        known = [vector for vector in row if isinstance(vector, list)]
        if value == 0:
            known = [[0.0, 0.0, 0.0]]
        if not known or any(vector != known[0] for vector in known):
            return None
        found.append(known[0])
    vectors: Floats = np.array(found, dtype=np.float64)
    return vectors if np.all((np.linalg.norm(vectors, axis=1) > 0) | (np.array(values) == 0)) else None


def _knows_frame(volume: Volume) -> bool:
    """Whether the stored directions are in the patient's frame; stores that do not say so held GE's as they came."""
    ours = volume.attributes["fastdcm"]
    if ours["geometry"].get("direction") is None:
        return False
    said = volume.slices.get("b_vector_frame")
    if said is not None:
        return bool(said == "patient")
    tags, varying, _ = kept_tags(volume)
    if (ours.get("identity") or {}).get("sop_class_uid") in ENHANCED_MR or "00189089" in {**tags, **varying}:
        return True
    maker = "".join(str(value) for value in _constant(tags, "00080070") or ()).upper()
    return bool(maker) and not maker.startswith("GE")
