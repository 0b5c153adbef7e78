"""Objects with rules of their own: RT Dose, nuclear medicine, ultrasound regions, Modality LUTs.

``complete_instance`` fills what the instance row needs beyond plain elements, ``vary_by_frame`` what differs between
the frames of an object without functional groups.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from itertools import accumulate
from typing import TYPE_CHECKING

import numpy as np

from fastdcm.errors import Code
from fastdcm.scan import elements, rules
from fastdcm.scan.grid import read_grid

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

Row = dict[str, object]

_POSITION = ("position_x", "position_y", "position_z")
_ORIENTATION = ("row_x", "row_y", "row_z", "column_x", "column_y", "column_z")
_CENTIMETRES = 3
_TWO_D = 1


def complete_instance(dataset: Dataset, row: Row) -> None:
    """Fill slope and unit of a dose, position of a reconstructed NM, spacing of an ultrasound, a grid, the LUT."""
    modality = row["modality"]
    if is_dose(row):
        slope = elements.numbers(dataset, 0x3004000E, 1)
        row["slope"] = slope[0] if slope else row["slope"]
        row["rescale_type"] = elements.text(dataset, 0x30040002) or row["rescale_type"]
    elif modality == "NM":
        _fill_nuclear_plane(dataset, row)
    elif modality == "US" and row["spacing_kind"] is None:
        row.update(_region_spacing(dataset, row))
    elif modality == "MR":
        row.update(read_grid(dataset, row))
    _fill_modality_lut(dataset, row)


def vary_by_frame(dataset: Dataset, row: Row, rows: list[Row]) -> None:
    """Fill what RT Dose offsets, NM vectors and frame times say of each frame."""
    for frame, offset in zip(rows, _frame_offsets(dataset, row, rows) or (), strict=False):
        frame["frame_offset_ms"] = offset
    if is_dose(row):
        _place(row, rows, _relative(elements.numbers(dataset, 0x3004000C, len(rows))))
    elif row["modality"] == "NM":
        _fill_nuclear_vectors(dataset, row, rows)


def is_dose(row: Row) -> bool:
    """Whether a row is of an RT Dose."""
    return row["sop_class_uid"] == rules.RT_DOSE_CLASS or row["modality"] == "RTDOSE"


# ---------------------------------------------------------------------------- planes along the normal


def _place(row: Row, rows: list[Row], offsets: Sequence[float | None]) -> None:
    """Set each frame's position to IPP + (row x column) x offset_k (mm); None where the offset is None."""
    origin, directions = _numbers(row, _POSITION), _numbers(row, _ORIENTATION)
    if origin is None or directions is None:
        return
    normal = np.cross(directions[:3], directions[3:])
    for frame, offset in zip(rows, offsets, strict=True):
        point = (None, None, None) if offset is None else (origin + normal * offset).tolist()
        frame.update(zip(_POSITION, point, strict=True))


def _numbers(row: Row, names: Sequence[str]) -> np.ndarray | None:
    values = [row[name] for name in names]
    return np.array(values, dtype=np.float64) if all(value is not None for value in values) else None


def _relative(offsets: Sequence[float | None] | None) -> list[float | None]:
    """Offsets from the first: Grid Frame Offset Vector (PS3.3 C.8.8.3.2) in both of its conventions."""
    if not offsets:
        return []
    known = [rules.finite(offset) for offset in offsets]
    first = known[0]
    return [None if offset is None or first is None else offset - first for offset in known]


# ---------------------------------------------------------------------------- frame times (PS3.3 C.7.6.5)

_FRAME_TIME_VECTOR = 0x00181065
_FRAME_RATES = (0x00180040, 0x00082144)
"""Cine Rate and Recommended Display Frame Rate, frames per second: all that some scanners say of time."""


def _frame_offsets(dataset: Dataset, row: Row, rows: Sequence[Row]) -> Sequence[float] | None:
    """Return when each frame was taken, ms after the first; None where Frame Time or a clock tells, or nothing does."""
    steps = elements.numbers(dataset, _FRAME_TIME_VECTOR, len(rows))
    if steps and (row["frame_time_ms"] is None or _FRAME_TIME_VECTOR in _pointed(dataset)):
        known = [step for step in steps[1:] if step is not None and 0 <= step < math.inf]  # the first is 0
        if len(known) == len(rows) - 1:
            return list(accumulate(known, initial=0.0))
    clocks = {frame["acquisition_time"] for frame in rows}
    if row["frame_time_ms"] is not None or len(clocks) > 1 or len(rows) < 2:
        return None
    rates = [elements.number(dataset, tag) for tag in _FRAME_RATES]
    rate = next((rate for rate in rates if rate and rate > 0), None)
    return None if rate is None else [frame * 1000.0 / rate for frame in range(len(rows))]


# ---------------------------------------------------------------------------- nuclear medicine (PS3.3 C.8.4.8)

_DETECTOR, _ENERGY, _SLICE, _VIEW = 0x00540020, 0x00540010, 0x00540080, 0x00540090
_PHASE, _TIME_SLICE = 0x00540030, 0x00540100
_TEMPORAL = (
    _PHASE,
    0x00540050,  # rotation
    0x00540060,  # R-R interval
    0x00540070,  # time slot
    _VIEW,
    _TIME_SLICE,
)


def _is_reconstruction(row: Row) -> bool:
    kinds = [kind.strip().upper() for kind in str(row["image_type"] or "").split("\\")]
    return any(kind.startswith("RECON") for kind in kinds)


def _fill_nuclear_plane(dataset: Dataset, row: Row) -> None:
    """Position and orientation of a reconstruction come from its first detector; other NM images have no position."""
    if not _is_reconstruction(row):
        row.update(dict.fromkeys(_POSITION))
        return
    detector = elements.first_item(dataset, 0x00540022)
    if detector is None:
        return
    for tag, names in ((0x00200032, _POSITION), (0x00200037, _ORIENTATION)):
        values = elements.numbers(detector, tag, len(names))
        if values is not None:
            row.update(zip(names, map(rules.finite, values), strict=True))


def _fill_nuclear_vectors(dataset: Dataset, row: Row, rows: list[Row]) -> None:
    """Fill the columns of the vectors that Frame Increment Pointer (0028,0009) names."""
    vectors = {tag: vector for tag in _pointed(dataset) if (vector := _vector(dataset, tag, len(rows)))}
    times = [vectors[tag] for tag in _TEMPORAL if tag in vectors]
    columns = {
        "detector": vectors.get(_DETECTOR),
        "energy_window": vectors.get(_ENERGY),
        "in_stack_position": vectors.get(_SLICE),
        "temporal_position": _joint_rank(times) if times else None,
        "angular_view": vectors.get(_VIEW),
        "frame_offset_ms": _phase_offsets(dataset, vectors.get(_PHASE), vectors.get(_TIME_SLICE)),
    }
    for name, values in columns.items():
        for frame, value in zip(rows, values or (), strict=False):  # an absent vector leaves what there is
            frame[name] = value
    slices = vectors.get(_SLICE)
    if not _is_reconstruction(row):
        return
    step = row["thickness"] if row["spacing_between"] is None else row["spacing_between"]
    if isinstance(step, float) and step and slices:
        _place(row, rows, [step * (number - 1) for number in slices])
    elif len(rows) > 1:
        for frame in rows:
            frame.update(dict.fromkeys(_POSITION))


def _phase_offsets(dataset: Dataset, phases: Sequence[int] | None, slices: Sequence[int] | None) -> list[float] | None:
    """Return ms after the first frame of a dynamic acquisition from its Phase Information (PS3.3 C.8.4.14)."""
    items = elements.items(dataset, 0x00540032, len(phases) if phases else 0)
    if not phases or not slices or min(phases) < 1 or max(phases) > len(items):
        return None
    starts, steps = [], []
    end = 0.0
    for item in items:
        pause, delay = (elements.number(item, tag) or 0.0 for tag in (0x00540038, 0x00540036))
        duration, count = elements.number(item, 0x00181242), elements.number(item, 0x00540033, "US")
        if duration is None or duration <= 0 or count is None or count < 1:
            return None
        starts.append(end + delay)
        steps.append(duration + pause)
        end = starts[-1] + count * duration + (count - 1) * pause
    offsets = [starts[p - 1] + (s - 1) * steps[p - 1] for p, s in zip(phases, slices, strict=True)]
    return [offset - offsets[0] for offset in offsets]


def _pointed(dataset: Dataset) -> list[int]:
    """Return the tags of Frame Increment Pointer."""
    element = elements.raw_element(dataset, 0x00280009)
    if element is None:
        return []
    parts = struct.unpack(
        f"{'<' if element.little_endian else '>'}{len(element.value) // 4 * 2}H",
        element.value[: len(element.value) // 4 * 4],
    )
    return [group << 16 | number for group, number in zip(parts[::2], parts[1::2], strict=True)]


def _vector(dataset: Dataset, tag: int, n_frames: int) -> list[int] | None:
    """Return one number a frame, None where the vector is shorter than that or unreadable."""
    values = [rules.to_int(value) for value in elements.numbers(dataset, tag, n_frames, "US") or ()]
    known = [value for value in values if value is not None]
    return known if known and len(known) == n_frames else None


def _joint_rank(vectors: Sequence[Sequence[int]]) -> list[int]:
    """Rank the combinations of several time-like vectors, from 1; one vector alone stays as it is."""
    if len(vectors) == 1:
        return list(vectors[0])
    combined = list(zip(*vectors, strict=True))
    rank = {value: number for number, value in enumerate(sorted(set(combined)), 1)}
    return [rank[value] for value in combined]


# ---------------------------------------------------------------------------- ultrasound (PS3.3 C.8.5.5)


def _region_spacing(dataset: Dataset, row: Row) -> Row:
    """Spacing of the one 2-D region, if it is in centimetres and covers the image (within a pixel)."""
    regions = [
        item for item in elements.items(dataset, 0x00186011) if elements.number(item, 0x00186012, "US") == _TWO_D
    ]
    rows, columns = row["rows"], row["columns"]
    if len(regions) != 1 or not isinstance(rows, int) or not isinstance(columns, int):
        return {}
    region = regions[0]
    units = [elements.number(region, tag, "US") for tag in (0x00186024, 0x00186026)]
    corners = [elements.number(region, tag, "UL") for tag in (0x00186018, 0x0018601A, 0x0018601C, 0x0018601E)]
    x0, y0, x1, y1 = (-1.0 if corner is None else corner for corner in corners)
    covered = 0 <= x0 <= 1 and 0 <= y0 <= 1 and x1 >= columns - 2 and y1 >= rows - 2
    deltas = [elements.number(region, tag, "FD") for tag in (0x0018602E, 0x0018602C)]
    if units != [_CENTIMETRES, _CENTIMETRES] or not covered or None in deltas or 0 in deltas:
        return {}
    dy, dx = (abs(delta) * 10.0 for delta in deltas if delta is not None)
    return {"spacing_y": dy, "spacing_x": dx, "spacing_kind": "region"}


# ---------------------------------------------------------------------------- Modality LUT (PS3.3 C.11.1)


def _fill_modality_lut(dataset: Dataset, row: Row) -> None:
    """Keep the LUT's entries and its type; XA and RF use it to undo a linearisation: theirs is only noted."""
    item = elements.first_item(dataset, 0x00283000)
    if item is None:
        return
    lut = modality_lut(item, row["pixel_representation"] == 1)
    if lut is None or row["modality"] in ("XA", "RF"):
        row["repaired"] = ";".join(str(note) for note in (row["repaired"], Code.LUT_NOT_APPLIED) if note)
        return
    row["modality_lut"] = lut
    row["rescale_type"] = row["rescale_type"] or elements.text(item, 0x00283004)


def modality_lut(item: Dataset, signed: bool) -> bytes | None:
    """Pack a LUT item: int32 first stored value mapped, then uint16 entries, little endian; None if unreadable."""
    descriptor, data = elements.raw_element(item, 0x00283002), elements.raw_element(item, 0x00283006)
    if descriptor is None or data is None or len(descriptor.value) < 6:
        return None
    order = "<" if descriptor.little_endian else ">"
    count, _, bits = struct.unpack(f"{order}3H", descriptor.value[:6])
    (first,) = struct.unpack(f"{order}{'h' if signed else 'H'}", descriptor.value[2:4])
    count = count or 65536
    if len(data.value) >= 2 * count:
        entries = np.frombuffer(data.value, f"{order}u2", count)
    elif bits <= 8 and len(data.value) >= count:
        entries = np.frombuffer(data.value, "u1", count)
    else:
        return None
    return struct.pack("<i", first) + entries.astype("<u2").tobytes()
