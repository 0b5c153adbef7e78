"""The grouping key: which frames of a series may share a volume at all, and why others may not.

Frames differ "never" within a volume in frame of reference, matrix, samples, number type, Image Type (values 1 and 2
and the markers), kernel, pixel spacing and orientation. Each split carries a reason with the tag and both values.
Everything is decided by values, never by the order of rows.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Sequence
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from fastdcm.errors import Code
from fastdcm.model import Floats, Frames, Ints, Reason, Tolerances
from fastdcm.series.geometry import cluster, slice_axes

STACKED = frozenset({"CT", "MR", "PT"})
"""Modalities whose images are slices also where positions are absent."""
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
SEGMENTATIONS = frozenset({"1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7"})
MARKERS = frozenset({"LOCALIZER", "MIP", "MPR"})
MIN_ROTATION = 7
"""Single slices of so many orientations about one axis are a rotation (radial MIP), not so many volumes."""


class Planes(NamedTuple):
    """Where each frame of a series lies, as far as it is known; all (n, ...)."""

    positions: Floats
    """(n, 3), NaN where unknown."""
    axes: Floats
    """(n, 3, 3)."""
    oriented: npt.NDArray[np.bool_]
    """(n,) orientation is usable."""
    placed: npt.NDArray[np.bool_]
    """(n,) orientation and position are usable."""


class Part(NamedTuple):
    """Frames that share a grouping key."""

    rows: Ints
    form: Literal["placed", "unplaced", "planar", "rotation"]
    """placed: slices with geometry; unplaced: slices without; planar: one 2-D instance; rotation: about one axis."""
    reasons: tuple[Reason, ...]


def planes_of(frames: Frames, tolerances: Tolerances) -> Planes:
    """Return position and axes of every frame."""
    positions = frames.vectors("position_x", "position_y", "position_z")
    orientation = frames.vectors("row_x", "row_y", "row_z", "column_x", "column_y", "column_z")
    axes, oriented = slice_axes(orientation, tolerances.orientation)
    sized = (np.abs(positions) < 1e9).all(axis=1)  # nor infinite, nor absent
    unknown_mosaic = (frames.numbers["mosaic_tiles"] == 0) & (frames.tile < 0)
    return Planes(positions, axes, oriented, oriented & sized & ~unknown_mosaic)


def partition(frames: Frames, rows: Ints, planes: Planes, tolerances: Tolerances) -> list[Part]:
    """Split rows of a series by the grouping key.

    Parameters
    ----------
    frames : Frames
        All frames of the series.
    rows : ndarray
        Those that take part.
    planes : Planes
        Of all frames.
    tolerances : Tolerances
    """
    if not len(rows):
        return []
    planar = is_planar(frames, rows, planes, tolerances)
    parts = _instances(frames, rows[planar])
    if not planar.all():
        slices = rows[~planar]
        parts += _by_key(frames, slices, planes, tolerances)
    if len(parts) > 1 and planar.any():
        reason = Reason(
            Code.SPLIT_INSTANCE,
            f"2-D images without positions are never stacked: {int(planar.sum())} frames are "
            f"{len(_instances(frames, rows[planar]))} volumes, one an instance.",
        )
        parts = [p._replace(reasons=(reason, *p.reasons)) if p.form == "planar" else p for p in parts]
    return parts


def is_stacked(frames: Frames, rows: Ints) -> npt.NDArray[np.bool_]:
    """Tell which frames are slices by their kind: CT, MR and PT that are not screenshots."""
    modality, sop_class = frames.texts["modality"][rows].tolist(), frames.texts["sop_class_uid"][rows].tolist()
    pairs = list(zip(modality, sop_class, strict=True))
    known = {
        (m, s): (m or "").strip() in STACKED and not f"{s}.".startswith(f"{SECONDARY_CAPTURE}.") for m, s in set(pairs)
    }
    return np.fromiter((known[pair] for pair in pairs), dtype=bool, count=len(rows))


def is_planar(frames: Frames, rows: Ints, planes: Planes, tolerances: Tolerances) -> npt.NDArray[np.bool_]:
    """Tell which frames belong to instances that are volumes of their own, frames along t."""
    planar: npt.NDArray[np.bool_] = (frames.numbers["mosaic_tiles"][rows] == 0) & (frames.tile[rows] < 0)
    flat = ~is_stacked(frames, rows)
    if flat.any():
        planar = planar | (flat & (~planes.placed[rows] | _stands_still(frames, rows, planes, tolerances)))
    return planar


def _stands_still(frames: Frames, rows: Ints, planes: Planes, tolerances: Tolerances) -> npt.NDArray[np.bool_]:
    """Tell which frames are of a multi-frame instance whose frames all lie in one place."""
    if len(rows) == 1:
        return np.zeros(1, dtype=bool)
    _, owner, counts = np.unique(frames.instance[rows], return_inverse=True, return_counts=True)
    if counts.max() == 1:
        return np.zeros(len(rows), dtype=bool)
    where = np.concatenate([planes.positions[rows], planes.axes[rows, :, 0], planes.axes[rows, :, 1]], axis=1)
    limits = np.append(np.full(3, tolerances.position_mm), np.full(6, tolerances.orientation))
    first = np.full(len(counts), len(rows), dtype=np.int64)
    np.minimum.at(first, owner, np.arange(len(rows)))
    with np.errstate(invalid="ignore"):
        moved = ~(np.abs(where - where[first[owner]]) <= limits).all(axis=1)
    still = np.bincount(owner, weights=moved, minlength=len(counts)) == 0
    result: npt.NDArray[np.bool_] = (still & (counts > 1))[owner]
    return result


def _instances(frames: Frames, rows: Ints) -> list[Part]:
    """Return one part an instance, or a concatenation of instances."""
    whole: dict[Hashable, list[int]] = {}
    names = frames.texts["concatenation_uid"][rows].tolist()
    for row, name, instance in zip(rows.tolist(), names, frames.instance[rows].tolist(), strict=True):
        whole.setdefault(name or instance, []).append(row)
    return [Part(np.asarray(members, dtype=np.int64), "planar", ()) for members in whole.values()]


def _by_key(frames: Frames, rows: Ints, planes: Planes, tolerances: Tolerances) -> list[Part]:
    """Split slices by everything that a volume has one of."""
    parts = [Part(rows, "placed", ())]
    if len(rows) > 1:
        reference, flags = _frame_of_reference(frames, rows)
        parts = [Part(rows, "placed", flags)]
        parts = _split(parts, reference, Code.SPLIT_FRAME_OF_REFERENCE, "Frame of Reference UID (0020,0052)")
        for code, name, texts, columns in KEYS:
            if not all(_is_constant(frames, column) for column in columns):
                parts = _split(parts, texts(frames), code, name)
        spacing = frames.vectors("spacing_y", "spacing_x")
        labels = cluster_spacing(spacing, tolerances.spacing_relative)
        sizes = [f"{spacing[leader][0]:g} x {spacing[leader][1]:g} mm" for leader in _leaders(labels)]
        parts = _split(parts, [sizes[i] for i in labels], Code.SPLIT_SPACING, "Pixel Spacing (0028,0030)", labels)
    parts = [new for part in parts for new in _split_placed(part, planes)]
    return [new for part in parts for new in _split_orientation(part, planes, tolerances)]


def _is_constant(frames: Frames, column: str) -> bool:
    """Tell whether a column has one value, without making texts of it."""
    if column in frames.numbers:
        return bool((frames.numbers[column] == frames.numbers[column][0]).all())
    return len(set(frames.texts[column].tolist())) == 1


def _matrix(frames: Frames) -> list[str]:
    rows, columns = frames.numbers["rows"].tolist(), frames.numbers["columns"].tolist()
    return [f"{r:g} x {c:g}" for r, c in zip(rows, columns, strict=True)]


def _colour(frames: Frames) -> list[str]:
    """Return samples, and what one sample means: a palette's index is no grey, MONOCHROME1 is the other way round."""
    photometric, samples = frames.texts["photometric"].tolist(), frames.numbers["samples"].tolist()
    special = ("PALETTE COLOR", "MONOCHROME1")
    return [f"{s:g} ({p})" if p in special else f"{s:g}" for s, p in zip(samples, photometric, strict=True)]


def _number_type(frames: Frames) -> list[str]:
    names = {"FloatPixelData": "float", "DoubleFloatPixelData": "double"}
    return [names.get(keyword, "integer") for keyword in frames.texts["pixel_keyword"].tolist()]


def _image_type(frames: Frames) -> list[str]:
    texts = frames.texts["image_type"].tolist()
    keys = {text: image_type_key(text) for text in set(texts)}
    return [keys[text] for text in texts]


def image_type_key(text: str | None) -> str:
    """Return what of Image Type keeps volumes apart: values 1 and 2, and any LOCALIZER, MIP or MPR marker."""
    parts = [part.strip().upper() for part in (text or "").split("\\")]
    tokens = {token for part in parts for token in re.split(r"[ _]", part)}
    return "\\".join([*parts[:2], *sorted(MARKERS & tokens)]) or "absent"


def _kernel(frames: Frames) -> list[str]:
    return [text or "absent" for text in frames.texts["kernel"].tolist()]


def _segmentation(frames: Frames) -> list[str]:
    """Tell segmentation objects apart: each numbers its own segments."""
    classes, names = frames.texts["sop_class_uid"].tolist(), frames.texts["concatenation_uid"].tolist()
    return [
        (name or f"instance {instance}") if sop_class in SEGMENTATIONS else "none"
        for sop_class, name, instance in zip(classes, names, frames.instance.tolist(), strict=True)
    ]


KEYS: tuple[tuple[Code, str, Callable[[Frames], list[str]], tuple[str, ...]], ...] = (
    (Code.SPLIT_MATRIX, "Rows x Columns (0028,0010 and 0028,0011)", _matrix, ("rows", "columns")),
    (Code.SPLIT_SAMPLES, "Samples per Pixel (0028,0002)", _colour, ("samples", "photometric")),
    (Code.SPLIT_NUMBER_TYPE, "the number type of the pixels", _number_type, ("pixel_keyword",)),
    (Code.SPLIT_IMAGE_TYPE, "Image Type (0008,0008)", _image_type, ("image_type",)),
    (Code.SPLIT_KERNEL, "Convolution Kernel (0018,1210)", _kernel, ("kernel",)),
    (Code.SPLIT_INSTANCE, "the segmentation object", _segmentation, ("sop_instance_uid",)),
)
"""Code and name of a split, the text of each frame, and the columns that it comes from."""
_UNNAMED = frozenset({Code.SPLIT_FRAME_OF_REFERENCE, Code.SPLIT_INSTANCE})
"""Splits whose values are identifiers, which messages do not show."""


def _split(
    parts: Sequence[Part], texts: Sequence[str], code: Code, name: str, labels: Ints | None = None
) -> list[Part]:
    """Split every part by a text a frame (all of the series'), or by labels that the texts describe."""
    key: Sequence[Hashable] = texts if labels is None else labels.tolist()
    if key.count(key[0]) == len(key):
        return list(parts)
    new: list[Part] = []
    for part in parts:
        groups: dict[Hashable, list[int]] = {}
        for row in part.rows.tolist():
            groups.setdefault(key[row], []).append(row)
        if len(groups) == 1:
            new.append(part)
            continue
        for members in groups.values():
            others = {k: rows for k, rows in groups.items() if rows is not members}
            largest = max(others.values(), key=lambda rows: (len(rows), -rows[0]))
            here, there = texts[members[0]], texts[largest[0]]
            reason = Reason(code, _split_message(code, name, here, there, len(others)))
            new.append(Part(np.asarray(members, dtype=np.int64), part.form, (*part.reasons, reason)))
    return new


def _split_message(code: Code, name: str, here: str, there: str, others: int) -> str:
    if code in _UNNAMED:
        return f"{name} is another one than that of {others} other group(s) of images in the series."
    more = f" (and {others - 1} more values)" if others > 1 else ""
    return f"{name} is {here} here and {there} in other images of the series{more}."


def _frame_of_reference(frames: Frames, rows: Ints) -> tuple[list[str], tuple[Reason, ...]]:
    """Return the frame of reference of each frame, none where every instance has its own (an anonymiser's work)."""
    texts = [text or "" for text in frames.texts["frame_of_reference_uid"].tolist()]
    used = {texts[row] for row in rows.tolist()}
    if len(used) < 2 or "" in used:
        return texts, ()
    instances = len(set(frames.instance[rows].tolist()))
    if len(used) == instances:
        single = (frames.numbers["n_frames"][rows] <= 1) | (frames.tile[rows] >= 0)
        if single.all():
            message = f"all {instances} images have a Frame of Reference UID of their own; it was ignored."
            return [""] * len(texts), (Reason(Code.FRAME_OF_REFERENCE_PER_INSTANCE, message),)
    return texts, ()


# ---------------------------------------------------------------------------- numbers within tolerances


def cluster_spacing(spacing: Floats, relative: float) -> Ints:
    """Label equal pixel spacings, (n, 2) to (n,); unknown ones (NaN) are equal to each other."""
    known = np.nan_to_num(spacing, nan=-1.0, posinf=-1.0, neginf=-1.0)
    if (known == known[0]).all():
        return np.zeros(len(known), dtype=np.int64)
    return cluster(known, lambda leader, others: np.all(np.abs(others - leader) <= relative * np.abs(leader), axis=1))


def cluster_orientation(axes: Floats, tolerance: float) -> Ints:
    """Label equal orientations, (n, 3, 3) to (n,): every direction cosine within the tolerance."""
    cosines = axes[:, :, :2].reshape(len(axes), 6)
    if (np.ptp(cosines, axis=0) <= tolerance).all():
        return np.zeros(len(axes), dtype=np.int64)
    return cluster(cosines, lambda leader, others: np.all(np.abs(others - leader) <= tolerance, axis=1))


def _leaders(labels: Ints) -> list[int]:
    """Return the first row of each label."""
    first: list[int] = np.unique(labels, return_index=True)[1].tolist()
    return first


def _split_placed(part: Part, planes: Planes) -> list[Part]:
    """Separate slices whose position or orientation is unusable."""
    placed = planes.placed[part.rows]
    if placed.all():
        return [part]
    parts = [part._replace(rows=part.rows[placed])] if placed.any() else []
    rest = part.rows[~placed]
    sized = np.isfinite(planes.positions[rest]).all(axis=1)
    for rows, code, what in (
        (rest[sized], Code.BAD_ORIENTATION, "Image Orientation (0020,0037) is not two orthogonal directions"),
        (rest[~sized], Code.NO_POSITION, "Image Position (0020,0032) is absent or unreadable"),
    ):
        if len(rows):
            reason = Reason(code, f"{what} in {len(rows)} images: stacked by Instance Number, there is no affine.")
            parts.append(Part(rows, "unplaced", (*part.reasons, reason)))
    return parts


def _split_orientation(part: Part, planes: Planes, tolerances: Tolerances) -> list[Part]:
    """Separate orientations; many single slices that rotate about one axis stay together."""
    oriented = planes.oriented[part.rows]
    if len(part.rows) == 1 or not oriented.all():
        return [part]
    axes = planes.axes[part.rows]
    labels = cluster_orientation(axes, tolerances.orientation)
    groups = int(labels.max()) + 1
    if groups == 1:
        return [part]
    again = len(labels) - groups  # a full turn ends where it began
    turns = groups >= MIN_ROTATION and again <= max(1, len(labels) // 10)
    if part.form == "placed" and turns and rotation_axis(axes) is not None:
        return [part._replace(form="rotation")]
    split = []
    for label in range(groups):
        rows = part.rows[labels == label]
        other = int(part.rows[np.argmax(labels != label)])
        here, there = _cosines(planes.axes[int(rows[0])]), _cosines(planes.axes[other])
        name = "Image Orientation (0020,0037)"
        reason = Reason(Code.SPLIT_ORIENTATION, _split_message(Code.SPLIT_ORIENTATION, name, here, there, groups - 1))
        split.append(part._replace(rows=rows, reasons=(*part.reasons, reason)))
    return split


def _cosines(axes: Floats) -> str:
    return "\\".join(f"{value + 0.0:.4g}" for value in axes[:, :2].T.reshape(-1).tolist())


def rotation_axis(axes: Floats) -> Floats | None:
    """Return the in-plane direction, (3,), that all slices share and rotate about, or None."""
    for column in (0, 1):
        shared = axes[:, :, column]
        if (np.ptp(shared, axis=0) <= 0.02).all():
            mean: Floats = shared.mean(axis=0)
            return mean / np.linalg.norm(mean)
    return None
