"""One volume in plain sentences: what it is and why that kind, its axes, spacing and values, and every flag."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from fastdcm.errors import Code
from fastdcm.look.reason_text import REASONS
from fastdcm.look.terminal import clean, count_text, mm_text
from fastdcm.model import Axis, Floats, Frames, Json, VolumePlan
from fastdcm.series.kinds import says_localizer
from fastdcm.series.repeats import CHANNEL_TAGS, TIME_TAGS
from fastdcm.series.values import channel_count, declared_range, has_modality_lut, slice_transforms

VALUES_LISTED = 6
SMALL_MM = 5e-4
"""Lengths below are printed as nothing."""

_TAG_OF_ROLE = {tag.role: tag.name for tag in (*CHANNEL_TAGS, *TIME_TAGS)}
_OTHER_ROLES = {
    "repeat": "the order of Instance Number (0020,0013)",
    "frame": "the frames of one instance in their order",
    "rotation": "the angle by which the slices rotate about their common axis",
}


class Sentence(NamedTuple):
    """One statement about a volume."""

    topic: Literal["kind", "split", "axis", "spacing", "values", "flag", "withheld"]
    code: str | None
    """The reason code (``errors.Code``) that it explains."""
    text: str
    change: str = ""
    """The option that changes it, or what to do."""


def sentence_of(topic: Literal["split", "flag", "withheld"], code: Code, text: str, change: str = "") -> Sentence:
    """Return a sentence with the option that changes it, unless the text names it already."""
    text = text.strip()
    text = text[:1].upper() + text[1:] + ("" if text.endswith((".", ":", "!")) else ".")
    change = change or REASONS[code].change
    options = [word.strip("`") for word in change.split() if word.startswith("`--")]
    return Sentence(topic, code.value, text, "" if any(option in text for option in options) else change)


def volume_title(plan: VolumePlan, row: Json) -> str:
    """Return what a volume is: modality and kind, slices, matrix, spacing.

    Parameters
    ----------
    plan : VolumePlan
        The volume.
    row : dict
        Its row of the catalogue.
    """
    volume = plan.volume
    known = [row[f"spacing_{axis}"] for axis in "xyz" if row[f"spacing_{axis}"] is not None]
    words = ["one image" if volume.kind == "2d" and row["slices"] == 1 else count_text(row["slices"], "slice")]
    words[0] += f" of {row['columns']} x {row['rows']}"
    words += [
        f"{count_text(n, 'step')} along {axis}" for axis, n in zip("tc", volume.cells.shape, strict=False) if n > 1
    ]
    words += [f"{' x '.join(map(mm_text, known))} mm"] if known else []
    return f"{clean(row['modality'] or 'image')} {volume.kind}: {', '.join(words)}"


def volume_sentences(plan: VolumePlan, row: Json) -> Iterator[Sentence]:
    """Yield everything but why it is no other volume's; parameters as for ``volume_title``."""
    yield Sentence("kind", None, _kind(plan))
    for axis in plan.volume.axes:
        yield Sentence("axis", None, _axis(axis, plan))
    if plan.rule.channels > 1:
        samples = clean(plan.rule.source_photometric) or "no Photometric Interpretation"
        text = f"Axis c is the {plan.rule.channels} samples of a pixel"
        became = f": {samples} became RGB." if plan.rule.photometric == "RGB" and samples != "RGB" else f" ({samples})."
        yield Sentence("axis", None, text + became)
    for text in _spacing(plan, row):
        yield Sentence("spacing", None, text)
    yield from _values(plan)
    for reason in plan.reasons:
        if not reason.code.startswith("split-") and reason.code != Code.RAGGED:
            yield sentence_of("flag", reason.code, reason.message)


# ---------------------------------------------------------------------------- kind and axes


def _kind(plan: VolumePlan) -> str:
    """Say why a volume is of its kind (behaviour.md, Kinds: the first that fits)."""
    frames, volume = plan.frames, plan.volume
    kind = volume.kind
    if kind == "localizer" and says_localizer(frames, volume.cells):
        return f"It is a localizer: Image Type (0008,0008) is {_image_type(frames)}; `--no-localizers` leaves it out."
    if kind == "localizer":
        named = next((clean(t) for n in ("description", "protocol") if (t := frames.texts[n][0])), "")
        return (
            "It is a localizer by geometry: at most 3 slices of an orientation, orthogonal orientations in the series, "
            f"and it is called {named!r}; `--no-localizers` leaves it out."
        )
    slices = volume.cells.shape[2]
    by_class = {"segmentation": "a segmentation", "dose": "a dose grid", "slide": "a slide"}
    if kind in by_class:
        return f"It is {by_class[kind]} by its SOP Class UID (0008,0016)."
    if kind == "cine":
        return f"It is a cine: {volume.cells.shape[0]} frames at one place."
    if kind == "4d":
        repeats = int(np.prod(volume.cells.shape[:2]))
        return f"It is 4d: {repeats} images at each of {count_text(slices, 'position')}."
    if kind == "2d":
        return "It is 2d: one image."
    by = "by position along their normal" if volume.geometry.has_position else "by Instance Number (0020,0013)"
    return f"It is a volume: {slices} slices in order {by}."


def _image_type(frames: Frames) -> str:
    texts = sorted({text for text in frames.texts["image_type"].tolist() if text})
    return clean(" and ".join(texts[:2]))


def _axis(axis: Axis, plan: VolumePlan) -> str:
    """Say what runs along t or c, and by which tag."""
    name = _TAG_OF_ROLE.get(axis.role) or _OTHER_ROLES.get(axis.role) or axis.role.replace("_", " ")
    if axis.role == "frame" and axis.unit == "ms":
        name = "the frames of one instance, timed by Frame Time (0018,1063)"
    unit = "" if axis.unit is None else f" {axis.unit}"
    if axis.inferred:
        return f"Axis {axis.name} has {len(axis.values)} steps by {name}: inferred, as no tag separates them."
    if axis.per_slice:
        lists = [step[0] for step in axis.values]
        return (
            f"Axis {axis.name} is {name}, which separates the {len(axis.values)} images of each position; its values "
            f"differ between positions ({_listed(lists)}{unit} at the first), so the axis is their rank."
        )
    if axis.role in ("repeat", "frame"):
        return f"Axis {axis.name} is {name}: {len(axis.values)} steps."
    return f"Axis {axis.name} is {name}, with {count_text(len(axis.values), 'value')}: {_listed(axis.values)}{unit}."


def _listed(values: Sequence[Any]) -> str:
    shown = [_value(value) for value in values[:VALUES_LISTED]]
    return ", ".join(shown) + (f" ... {_value(values[-1])}" if len(values) > VALUES_LISTED else "")


def _value(value: Any) -> str:
    if value is None:
        return "absent"
    if isinstance(value, tuple | list):
        return "(" + ", ".join(map(_value, value)) + ")"
    return f"{value:g}" if isinstance(value, float) else clean(value)


# ---------------------------------------------------------------------------- spacing


def _spacing(plan: VolumePlan, row: Json) -> Iterator[str]:
    """Say where the step between slices comes from, and what it leaves between them (S2)."""
    geometry, thickness, gap = plan.volume.geometry, row["thickness"], row["gap"]
    apart = f"{mm_text(geometry.spacing[2])} mm"
    placed = geometry.spacing_z_source == "positions" and plan.volume.cells.shape[2] > 1
    if placed:
        usual = " as a rule" if geometry.spacing_z_nominal else ""
        by = f"Slices are {apart} apart{usual} by Image Position (0020,0032)"
        yield by + (
            "." if thickness is None or gap is None else f" and {mm_text(thickness)} mm thick: {gap_text(gap)}."
        )
    elif geometry.spacing_z_source == "tag":
        yield f"Slices are {apart} apart by Spacing Between Slices (0018,0088), as there are no positions."
    elif geometry.spacing_z_source == "thickness" and plan.volume.kind != "2d":
        why = "one slice has none of its own" if plan.volume.cells.shape[2] == 1 else "there are no positions"
        yield f"The step of {apart} is Slice Thickness (0018,0050): {why}."
    said = _usual(plan.frames.numbers["spacing_between"])
    if said is not None and placed and abs(abs(said) - geometry.spacing[2]) > max(0.01 * geometry.spacing[2], 0.01):
        yield f"Spacing Between Slices (0018,0088) says {mm_text(said)} mm, the positions say {apart}: they count."
    kinds = {
        "detector": "Spacing in the plane is that of the detector or image plane, Imager Pixel Spacing (0018,1164) or "
        "Image Plane Pixel Spacing (3002,0011), not in the patient.",
        "calibrated": "Pixel Spacing (0028,0030) is calibrated: other than Imager Pixel Spacing (0018,1164).",
        "region": "Spacing in the plane is that of the ultrasound region (0018,602C and 0018,602E).",
    }
    if geometry.spacing_kind in kinds:
        yield kinds[geometry.spacing_kind]


def gap_text(gap_mm: float) -> str:
    """Return what is between slices: their distance less their thickness.

    >>> gap_text(2.0)
    'a gap of 2 mm between slices is not imaged'
    >>> gap_text(-1.25)
    'they overlap by 1.25 mm'
    """
    if abs(gap_mm) < SMALL_MM:
        return "no gap and no overlap"
    return (
        f"a gap of {mm_text(gap_mm)} mm between slices is not imaged"
        if gap_mm > 0
        else f"they overlap by {mm_text(-gap_mm)} mm"
    )


def _usual(column: Floats) -> float | None:
    """Return the number of most frames; None where there is none."""
    values, counts = np.unique(column[np.isfinite(column)], return_counts=True)
    return float(values[np.argmax(counts)]) if len(values) else None


# ---------------------------------------------------------------------------- values


def _values(plan: VolumePlan) -> Iterator[Sentence]:
    """Say what the values are, and why of this type (behaviour.md, Values and Type)."""
    frames, rule = plan.frames, plan.rule
    signed = frames.numbers["pixel_representation"] == 1
    if 0 < signed.sum() < len(frames):
        counts = f"{count_text(int(signed.sum()), 'frame')} signed, {int((~signed).sum())} unsigned"
        wide = rule.dtype_fallback or rule.dtype
        text = f"Pixel Representation (0028,0103) differs ({counts}): {wide} holds both."
        yield Sentence("values", None, text)
    yield Sentence("values", None, f"{_transform(plan)}.")
    if rule.dtype_fallback is not None:
        allowed = _allowed(plan)
        text = (
            f"{rule.dtype} does not hold {allowed}, but scanners hardly use all of it: it is written as {rule.dtype}, "
            f"and again as {rule.dtype_fallback} if a value does not fit."
        )
        yield Sentence("values", Code.DTYPE_FALLBACK.value, text)
    if rule.source_photometric == "MONOCHROME1" and not rule.invert:
        text = "Photometric Interpretation (0028,0004) is MONOCHROME1, low is white: the values are kept."
        yield Sentence("values", None, text, "`convert --invert-monochrome1` turns them over.")
    if rule.padding_stored is not None:
        became = "" if rule.padding_value is None else f", {rule.padding_value:g} in the volume"
        yield Sentence(
            "values", None, f"Pixel Padding Value (0028,0120) is {rule.padding_stored} stored{became}: kept."
        )


def _transform(plan: VolumePlan) -> str:
    """Return how stored values become values, and the type that follows."""
    frames, rule = plan.frames, plan.rule
    if channel_count(frames) > 1 or frames.texts["pixel_keyword"][0] != "PixelData":
        what = "Colours" if rule.channels > 1 else "Float pixels"
        return f"{what} are {rule.dtype}"
    if has_modality_lut(frames).any() and any(reason.code == Code.MODALITY_LUT for reason in plan.reasons):
        return f"Values are those of the Modality LUT (0028,3000): {_allowed(plan)}, so {rule.dtype}"
    transform = slice_transforms(frames, rule.values)
    slopes, intercepts = np.unique(transform.slopes), np.unique(transform.intercepts)
    unit = next((clean(t) for n in ("units", "rescale_type") if (t := frames.texts[n][0])), "")
    unit = f" ({unit})" if unit else ""
    if len(slopes) > 1 or len(intercepts) > 1:
        name, values = (
            ("Rescale Slope (0028,1053)", slopes) if len(slopes) > 1 else ("Rescale Intercept (0028,1052)", intercepts)
        )
        return f"{name} differs by slice, from {values[0]:g} to {values[-1]:g}{unit}: values are {rule.dtype}"
    slope, intercept = float(slopes[0]), float(intercepts[0])
    bits = f"{_bits(frames)} allow {_allowed(plan)}"
    bits += "" if rule.dtype_fallback else f", so {rule.dtype}"
    if slope == 1 and intercept == 0:
        return f"Values are as stored{unit}: {bits}"
    formula = f"stored x {slope:g} {'+' if intercept >= 0 else '-'} {abs(intercept):g}{unit}"
    if rule.dtype == "float32":
        return f"Values are {formula}, which is no whole number: float32"
    return f"Values are {formula}: {bits}"


def _bits(frames: Frames) -> str:
    bits = _usual(frames.numbers["bits_stored"])
    return f"{bits:g} bits" if bits is not None else "the bits"


def _allowed(plan: VolumePlan) -> str:
    """Return the range of values that the headers allow."""
    limits = declared_range(plan.frames, slice_transforms(plan.frames, plan.rule.values))
    return "any value" if limits is None else f"{limits.low:.10g} to {limits.high:.10g}"
