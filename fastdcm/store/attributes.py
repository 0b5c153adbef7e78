"""The ``fastdcm`` attributes of a volume: geometry, intensity, axes, columns by slice, identity, source.

Absent means unknown: nothing is invented, and NaN is never written. docs/store.md describes each key.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fastdcm.model import COLUMN, FORMAT_VERSION, Floats, Json, Texts, VolumePlan
from fastdcm.series.catalog import slice_gap
from fastdcm.series.names import safe_uid
from fastdcm.series.values import Transform
from fastdcm.store.ome import along, axis_of, numbers_of
from fastdcm.version import __version__

SLICE_NUMBERS = (
    "acquisition_number", "temporal_position", "in_stack_position", "echo_time", "echo_number", "b_value",
    "trigger_time", "cardiac_phase", "frame_reference_time", "kvp", "segment", "detector", "energy_window",
    "angular_view", "slice_time_ms", "frame_offset_ms", "real_world_slope", "real_world_intercept",
    "philips_scale_slope", "dimension_value",
)  # fmt: skip
SLICE_TIMES = ("acquisition_time", "content_time")
"""Seconds since midnight."""
SLICE_TEXTS = ("stack_id", "complex_component", "asl_context", "image_type", "photometric")


@dataclass(frozen=True, slots=True, eq=False)
class VolumeFacts:
    """What only the writing of a volume tells; everything else stands in its plan."""

    hashes: Sequence[str | None] = ()
    """xxh3-128 hex of each cell's values, C order of (t, c, z); None for an absent slice."""
    tags: Mapping[str, Any] = field(default_factory=dict)
    """PS3.18 JSON of the tags that all slices share, by ``GGGGEEEE``; after the metadata policy."""
    slice_tags: Mapping[str, Any] = field(default_factory=dict)
    """The varying ones by column: ``{tag: {"vr": ..., "Value": [one a cell]}}``."""
    notes: Sequence[tuple[int, str, str]] = ()
    """(cell, code, message) of what was repaired or is odd, but right."""
    segments: Sequence[Json] = ()
    """Of a segmentation: number, label, codes and colour of each (``scan.segments``)."""


def fastdcm_attributes(plan: VolumePlan, facts: VolumeFacts, modality: Transform) -> Json:
    """Return the ``fastdcm`` attributes of a volume but ``dicom_per_slice``.

    Parameters
    ----------
    plan : VolumePlan
        The volume.
    facts : VolumeFacts
        What its tasks found.
    modality : Transform
        How the stored values of the plan's frames become modality values, from ``slice_transforms``.
    """
    attributes: Json = {
        "version": FORMAT_VERSION,
        "geometry": geometry_attributes(plan),
        "intensity": intensity_attributes(plan, modality),
        "dims": dims_attributes(plan, facts.segments),
        "slices": slices_attributes(plan, modality),
        "identity": identity_attributes(plan),
        "source": source_attributes(plan, facts),
        "reasons": [{"code": reason.code.value, "message": reason.message} for reason in plan.reasons]
        + _notes(facts.notes),
    }
    attributes |= {"segments": list(facts.segments)} if facts.segments else {}
    return attributes | {"dicom": dict(facts.tags)} if facts.tags else attributes


def geometry_attributes(plan: VolumePlan) -> Json:
    """Return where the voxels are: mm, LPS, index order x, y, z; keys of what is unknown are absent.

    ``space`` is ``volume`` where the frame of reference is that of an ultrasound volume, not the patient's.
    """
    geometry = plan.volume.geometry
    known = {
        "affine": None if geometry.affine is None or not geometry.uniform else geometry.affine.tolist(),
        "origin": None if geometry.origin is None else [float(value) for value in geometry.origin],
        "direction": None if geometry.direction is None else geometry.direction.tolist(),
        "frame_of_reference_uid": _uid(geometry.frame_of_reference_uid),
        "spacing_z_nominal": True if geometry.spacing_z_nominal else None,
    }
    return {
        "space": "volume" if "volume" in plan.frames.texts["space"].tolist() else "LPS",
        "unit": "mm",
        "index_order": "xyz",
        "spacing": [float(value) for value in geometry.spacing],
        "spacing_kind": geometry.spacing_kind,
        "spacing_z_source": geometry.spacing_z_source,
        "uniform": bool(geometry.uniform),
        "sheared": bool(geometry.sheared),
        "max_residual_mm": _number(geometry.max_residual_mm),
        "missing_slices": [int(index) for index in geometry.missing_slices],
        "has_position": bool(geometry.has_position),
        **_present(known),
    }


def intensity_attributes(plan: VolumePlan, modality: Transform) -> Json:
    """Return what the values mean, and what they were in the files."""
    frames, rule = plan.frames, plan.rule
    numbers, texts = frames.numbers, frames.texts
    declared = np.isfinite(numbers["slope"]) | np.isfinite(numbers["intercept"])
    rescaled = rule.channels == 1 and bool((declared & frames.rescaled).any())
    rescaled = rescaled and all(lut is None for lut in modality.luts.tolist())
    has_range = rule.padding_stored is not None and rule.padding_limit_stored is not None
    known = {
        "rescale_slope": _same_number(modality.slopes) if rescaled else None,
        "rescale_intercept": _same_number(modality.intercepts) if rescaled else None,
        "rescale_type": _same_text(texts["rescale_type"]),
        "units": _same_text(texts["units"]),
        "bits_stored": _same_whole(numbers["bits_stored"]),
        "pixel_representation": _same_whole(numbers["pixel_representation"]),
        "photometric_interpretation": rule.photometric or None,
        "source_photometric_interpretation": rule.source_photometric or None,
        "padding_stored": rule.padding_stored,
        "padding_value": None if rule.padding_value is None else _number(rule.padding_value),
        "padding_range_stored": [rule.padding_stored, rule.padding_limit_stored] if has_range else None,
        "window_center": numbers_of(_same_text(texts["window_center"])) or None,
        "window_width": numbers_of(_same_text(texts["window_width"])) or None,
    }
    fixed = {"values": rule.values, "rescale_per_slice": rule.rescale_per_slice, "lossy": rule.lossy}
    return fixed | {"inverted": rule.invert} | _present(known)


def dims_attributes(plan: VolumePlan, segments: Sequence[Json] = ()) -> Json:
    """Return what runs along t and c: role (the tag), unit and values; labels of segments where they have any."""
    dims: Json = {}
    for axis in plan.volume.axes:
        dims[axis.name] = {"role": axis.role, "values": axis.values}
        labels = [segment.get("label") for segment in along(axis, segments)]
        dims[axis.name] |= {"labels": labels} if any(labels) else {}
        if axis.unit:
            dims[axis.name]["unit"] = axis.unit
        dims[axis.name] |= {name: True for name in ("inferred", "per_slice") if getattr(axis, name)}
    if plan.rule.channels > 1 and "c" in plan.array.axes and axis_of(plan, "c") is None:
        colour = plan.rule.photometric == "RGB"
        values = ["R", "G", "B"] if colour else list(range(plan.rule.channels))
        dims["c"] = {"role": "colour" if colour else "sample", "values": values}
    return dims


def slices_attributes(plan: VolumePlan, modality: Transform) -> Json:
    """Return the columns by slice: one value where all slices share it, else one a cell, C order of (t, c, z)."""
    frames, cells = plan.frames, plan.volume.cells.ravel()
    numbers = frames.numbers
    places = cells.tolist()

    def by_cell(values: Sequence[Any]) -> list[Any]:
        return [values[row] if row >= 0 else None for row in places]

    def column(values: Sequence[Any]) -> Any:
        if len(values) == 1:
            return values[0]
        distinct = {tuple(value) if isinstance(value, list) else value for value in values}
        return values[0] if len(distinct) == 1 else by_cell(values)

    def number_columns(names: Sequence[str]) -> Json:
        """Do what ``column`` does for many, most of which hold one value or none."""
        block = frames.vectors(*names)
        alike = ((block == block[0]) | np.isnan(block) & np.isnan(block[0])).all(axis=0).tolist()
        found = {}
        for name, first, same in zip(names, block[0].tolist(), alike, strict=True):
            whole = COLUMN[name].kind != "float"
            found[name] = _value(first, whole) if same else column(_values(numbers[name], whole=whole))
        return found

    slices: Json = {} if min(places) >= 0 else {"present": [row >= 0 for row in places]}
    thickness = column(_values(numbers["thickness"]))
    slices["thickness_mm"] = thickness
    slices["spacing_between_slices_mm"] = column(_values(numbers["spacing_between"]))
    slices["gap_mm"] = slice_gap(plan, thickness if isinstance(thickness, float) else None)
    if plan.volume.geometry.has_position:
        slices["position"] = by_cell(_rows(frames.vectors("position_x", "position_y", "position_z")))
    slices["instance_number"] = by_cell(_values(numbers["instance_number"], whole=True))
    times = () if plan.metadata == "none" else SLICE_TIMES
    slices |= number_columns((*SLICE_NUMBERS, *times))
    slices["real_world_unit"] = column(_texts(frames.texts["real_world_unit"]))
    slices["dimension_name"] = column(_texts(frames.texts["dimension_name"]))
    slices["b_vector"] = vectors = column(_rows(frames.vectors("b_x", "b_y", "b_z")))
    if vectors is not None:
        slices["b_vector_frame"] = "image" if "image" in frames.texts["b_frame"].tolist() else "patient"
    if len(frames) > 1:  # in one slice nothing varies
        for name in SLICE_TEXTS:
            slices[name] = _varying(column(_texts(frames.texts[name])))
        slices |= _varying_values(plan, modality, column)
    return _present(slices)


def _varying_values(plan: VolumePlan, modality: Transform, column: Callable[[Sequence[Any]], Any]) -> Json:
    """Return the columns of ``intensity`` that differ from slice to slice."""
    numbers, texts = plan.frames.numbers, plan.frames.texts
    found = {
        "rescale_slope": modality.slopes.tolist(),
        "rescale_intercept": modality.intercepts.tolist(),
        "bits_stored": _values(numbers["bits_stored"], whole=True),
        "pixel_representation": _values(numbers["pixel_representation"], whole=True),
        "padding_stored": _values(numbers["padding"], whole=True),
        "window_center": [numbers_of(text) or None for text in texts["window_center"]],
        "window_width": [numbers_of(text) or None for text in texts["window_width"]],
    }
    return {name: _varying(column(values), pairs=name.startswith("window")) for name, values in found.items()}


def identity_attributes(plan: VolumePlan) -> Json:
    """Return what the volume is; free text only with full metadata."""
    texts = plan.frames.texts
    image_type = _same_text(texts["image_type"])
    full = plan.metadata == "full"
    known = {
        "modality": _same_text(texts["modality"]),
        "sop_class_uid": _uid(texts["sop_class_uid"][0]),
        "study_uid": safe_uid(texts["study_uid"][0]),
        "series_uid": safe_uid(texts["series_uid"][0]),
        "kind": plan.volume.kind,
        "image_type": image_type.split("\\") if image_type else None,
        "series_description": _same_text(texts["description"]) if full else None,
        "protocol_name": _same_text(texts["protocol"]) if full else None,
        "patient": plan.patient,
    }
    return _present(known)


def source_attributes(plan: VolumePlan, facts: VolumeFacts) -> Json:
    """Return where the volume comes from, without paths: what resume and verify compare."""
    return {
        "transfer_syntax_uids": sorted({safe_uid(text) for text in plan.frames.texts["transfer_syntax"] if text}),
        "n_instances": len(set(plan.frames.instance.tolist())),
        "n_frames": len(plan.frames),
        "digest": plan.digest,
        "pixel_hash": list(facts.hashes),
        "converter": f"fastdcm {__version__}",
    }


def _notes(notes: Sequence[tuple[int, str, str]]) -> list[Json]:
    """Return one entry a kind of note, with the cells that it is about."""
    grouped: dict[tuple[str, str], list[int]] = {}
    for cell, code, message in sorted(notes):
        grouped.setdefault((str(code), message), []).append(cell)
    return [{"code": code, "message": message, "slices": cells} for (code, message), cells in grouped.items()]


# ---------------------------------------------------------------------------- plain values


def _number(value: float) -> float | int | None:
    return None if not math.isfinite(value) else int(value) if float(value).is_integer() else float(value)


def _value(value: float, whole: bool) -> float | int | None:
    return (int(value) if whole else value) if math.isfinite(value) else None


def _values(column: Floats, *, whole: bool = False) -> list[Any]:
    """Return a column as JSON numbers, None where there is none."""
    return [_value(value, whole) for value in column.tolist()]


def _rows(vectors: Floats) -> list[list[float] | None]:
    return [row if all(math.isfinite(value) for value in row) else None for row in vectors.tolist()]


def _texts(column: Texts) -> list[str | None]:
    return [str(text) if text else None for text in column]


def _varying(value: Any, *, pairs: bool = False) -> Any:
    """Return a column only where it varies: what all slices share stands elsewhere."""
    varies = isinstance(value, list) and (not pairs or any(item is None or isinstance(item, list) for item in value))
    return value if varies else None


def _same_number(column: Floats) -> float | None:
    first = float(column[0])
    return first if len(column) == 1 or (column == first).all() else None


def _same_whole(column: Floats) -> int | None:
    value = _same_number(column)
    return int(value) if value is not None and math.isfinite(value) else None


def _same_text(column: Texts) -> str | None:
    texts = column.tolist()
    return str(texts[0]) if texts[0] and texts.count(texts[0]) == len(texts) else None


def _uid(text: str | None) -> str | None:
    return safe_uid(text) if text else None


def _present(items: Mapping[str, Any]) -> Json:
    return {name: value for name, value in items.items() if value is not None}
