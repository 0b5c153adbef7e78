"""The ``ome`` attributes of a volume: OME-Zarr 0.5 multiscales and omero, with the anatomical axes of RFC-4."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from itertools import permutations
from typing import Any

import numpy as np

from fastdcm.model import Axis, Floats, Json, VolumePlan
from fastdcm.series.values import Range, Transform, declared_range, slice_transforms

TIME_UNITS = {"ms": "millisecond", "s": "second", "millisecond": "millisecond", "second": "second"}
"""Our units of t to those of OME-Zarr."""

ALONG = (
    ("right-to-left", "left-to-right"),
    ("anterior-to-posterior", "posterior-to-anterior"),
    ("inferior-to-superior", "superior-to-inferior"),
)
"""What increasing and decreasing x, y and z of LPS (PS3.3 C.7.6.2.1.1) are called."""

NEAR_AXIS = 0.8
"""Smallest |cosine| at which an axis of the image still has an anatomical name."""

_RGB = (("red", "FF0000"), ("green", "00FF00"), ("blue", "0000FF"))


def ome_attributes(plan: VolumePlan, version: str, modality: Transform, segments: Sequence[Json] = ()) -> Json:
    """Return the ``ome`` attributes.

    Parameters
    ----------
    plan : VolumePlan
        The volume.
    version : str
        Of fastdcm.
    modality : Transform
        How the stored values of the plan's frames become modality values.
    segments : sequence of dict
        What is known of a segmentation's segments: they name and colour the channels.
    """
    scale, translation = axis_transforms(plan)
    label = plan.frames.texts["modality"][0]
    multiscale = {
        "name": " ".join(part for part in (label, plan.volume.kind) if part),
        "type": "none",
        "metadata": {"method": "fastdcm", "version": version},
        "axes": _axes(plan),
        "datasets": [
            {
                "path": "0/image",
                "coordinateTransformations": [
                    {"type": "scale", "scale": scale},
                    {"type": "translation", "translation": translation},
                ],
            }
        ],
    }
    ome: Json = {"version": "0.5", "multiscales": [multiscale]}
    channels = _channels(plan, modality, segments)
    return ome | {"omero": {"channels": channels}} if channels else ome


def axis_transforms(plan: VolumePlan) -> tuple[list[float], list[float]]:
    """Return scale and translation of each axis of the array: mm, or the unit of t; 1 and 0 where nothing is known.

    Where it is known, the translation of x, y and z are the components of the LPS origin, as in ITK.
    """
    geometry = plan.volume.geometry
    origin = geometry.origin or (0.0, 0.0, 0.0)
    by_axis = {name: (geometry.spacing[i], origin[i]) for i, name in enumerate("xyz")} | {"c": (1.0, 0.0)}
    by_axis["t"] = _time_step(plan)
    pairs = [by_axis[axis] for axis in plan.array.axes]
    return [float(scale) for scale, _ in pairs], [float(start) for _, start in pairs]


def orientation_labels(direction: Floats) -> tuple[str, str, str] | None:
    """Name the axes i, j, k: the one-to-one assignment with the largest sum of |cosines|.

    Parameters
    ----------
    direction : ndarray
        (3, 3), columns are the unit directions of i, j, k in LPS.

    Returns
    -------
    tuple of str or None
        Such as ``right-to-left``; None where an assigned |cosine| is under 0.8.
    """
    best = max(permutations(range(3)), key=lambda order: sum(abs(direction[order[i], i]) for i in range(3)))
    cosines = [float(direction[best[i], i]) for i in range(3)]
    if not min(abs(cosine) for cosine in cosines) >= NEAR_AXIS:
        return None
    x, y, z = (ALONG[part][int(cosine < 0)] for part, cosine in zip(best, cosines, strict=True))
    return x, y, z


def axis_of(plan: VolumePlan, name: str) -> Axis | None:
    """Return what runs along t or c; None for colour and where there is no such axis."""
    return next((axis for axis in plan.volume.axes if axis.name == name), None)


def _time_step(plan: VolumePlan) -> tuple[float, float]:
    """Return step and first value of t where its values are times at even steps, else (1, 0)."""
    axis = axis_of(plan, "t")
    if axis is None or axis.unit not in TIME_UNITS or len(axis.values) < 2:
        return 1.0, 0.0
    if not all(isinstance(value, int | float) for value in axis.values):
        return 1.0, 0.0
    values = np.asarray(axis.values, dtype=np.float64)
    step = float(values[-1] - values[0]) / (len(values) - 1)
    even = step > 0 and np.allclose(values, values[0] + step * np.arange(len(values)), rtol=0, atol=1e-3 * step)
    return (step, float(values[0])) if even else (1.0, 0.0)


def _axes(plan: VolumePlan) -> list[Json]:
    geometry = plan.volume.geometry
    quadruped = plan.frames.texts["quadruped"][0] == "QUADRUPED"
    nowhere = geometry.direction is None or quadruped or "volume" in plan.frames.texts["space"].tolist()
    labels = None if nowhere or geometry.direction is None else orientation_labels(geometry.direction)
    named = dict(zip("xyz", labels, strict=True)) if labels else {}
    known = {"x": geometry.spacing_kind != "none", "y": geometry.spacing_kind != "none"}
    known["z"] = geometry.spacing_z_source != "none"
    axes = []
    for name in plan.array.axes:
        axis: Json = {"name": name, "type": {"t": "time", "c": "channel"}.get(name, "space")}
        unit = _time_unit(plan) if name == "t" else "millimeter" if known.get(name) else None
        if unit:
            axis["unit"] = unit
        if name in named:
            axis["orientation"] = {"type": "anatomical", "value": named[name]}
        axes.append(axis)
    return axes


def _time_unit(plan: VolumePlan) -> str | None:
    axis = axis_of(plan, "t")
    return TIME_UNITS.get(axis.unit) if axis and axis.unit else None


def _channels(plan: VolumePlan, modality: Transform, segments: Sequence[Json]) -> list[Json]:
    """Return one entry a channel; none where neither the headers nor a window tell what the values may be."""
    window = _window(plan, modality)
    if window is None:
        return []
    inverted = {"inverted": True} if plan.rule.photometric == "MONOCHROME1" else {}
    common = {"active": True, "window": window} | inverted
    if plan.rule.photometric == "RGB":
        return [{"label": label, "color": color} | common for label, color in _RGB]
    axis = axis_of(plan, "c")
    known = along(axis, segments) if axis else []
    if known:
        return [{"label": _segment_label(one), "color": one.get("color", "FFFFFF")} | common for one in known]
    return [{"label": label, "color": "FFFFFF"} | common for label in _labels(plan)]


def along(axis: Axis, segments: Sequence[Json]) -> list[Json]:
    """Return the segment at each step of an axis, by its number; none for another axis or where nothing is known."""
    if axis.role != "segment" or not segments:
        return []
    numbered = {segment["number"]: segment for segment in segments}
    return [numbered.get(number, {"number": number}) for number in axis.values]


def _segment_label(segment: Json) -> str:
    label = segment.get("label")
    return f"{label} ({segment['number']})" if label else f"segment {segment['number']}"


def _labels(plan: VolumePlan) -> list[str]:
    """Return the names of the channels along c; the modality where there is no c."""
    modality = plan.frames.texts["modality"][0] or "image"
    axis = axis_of(plan, "c")
    if axis is None:
        return [modality if plan.rule.channels == 1 else f"sample {n}" for n in range(plan.rule.channels)]
    return [
        f"{axis.role} {n}" if isinstance(value, tuple) or value is None else f"{axis.role} {_plain(value)}"
        for n, value in enumerate(axis.values)
    ]


def _plain(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _window(plan: VolumePlan, modality: Transform) -> Json | None:
    """Return range and display window of the values."""
    frames = plan.frames
    stored = plan.rule.values == "stored"
    limits = declared_range(frames, slice_transforms(frames, "stored") if stored else modality)
    center, width = (_first_number(frames.texts[name][0]) for name in ("window_center", "window_width"))
    shown = None
    if center is not None and width is not None and width > 0 and plan.rule.values == "modality":
        shown = (center - width / 2, center + width / 2)
    if plan.rule.invert and limits is not None:
        shown = shown and (limits.high - shown[1], limits.high - shown[0])
        limits = Range(0.0, limits.high - limits.low)
    low, high = _within_type(limits, plan.array.dtype) or shown or (math.nan, math.nan)
    start, end = shown or (low, high)
    if not all(math.isfinite(value) for value in (low, high, start, end)):
        return None
    return {"min": _short(low), "max": _short(high), "start": _short(start), "end": _short(end)}


def _within_type(limits: Range | None, dtype: str) -> Range | None:
    """Return the range as far as the array's type goes: int16 may have been planned for more than it holds."""
    held = _type_range(dtype)
    if limits is None or held is None:
        return limits
    return Range(max(limits.low, held.low), min(limits.high, held.high))


@cache
def _type_range(dtype: str) -> Range | None:
    """Return the range of an integer type, None of another."""
    if np.dtype(dtype).kind == "f":
        return None
    info = np.iinfo(dtype)
    return Range(info.min, info.max)


def _first_number(text: str | None) -> float | None:
    """Return the first of the numbers of a text column; None where it is none."""
    numbers = numbers_of(text)
    return numbers[0] if numbers else None


def numbers_of(text: str | None) -> list[float]:
    r"""Return the numbers of a multi-valued text, ``40\60``; empty where one is unreadable."""
    try:
        numbers = [float(part) for part in (text or "").split("\\") if part.strip()]
    except ValueError:
        return []
    return numbers if all(math.isfinite(number) for number in numbers) else []


def _short(value: float) -> float | int:
    return int(value) if float(value).is_integer() and abs(value) < 2**53 else float(value)
