"""What a volume is: localizer, segmentation, dose, slide, cine, 4d, volume or 2d, the first that fits."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from fastdcm.errors import Code
from fastdcm.model import Axis, Floats, Frames, Ints, Reason

SEGMENTATION_CLASSES = frozenset({"1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7"})
DOSE_CLASS = "1.2.840.10008.5.1.4.1.1.481.2"
SLIDE_CLASS = "1.2.840.10008.5.1.4.1.1.77.1.6"
LOCALIZER_WORDS = re.compile(r"locali[sz]er|scout|survey|topogram|scanogram|plane[ _-]*loc|\bloc\b", re.IGNORECASE)
MAX_SCOUT_SLICES = 3
NEARLY_ORTHOGONAL = 0.26
"""Cosine between the normals of two scouts: 75 degrees or more."""


def kind_of(frames: Frames, cells: Ints, axes: Sequence[Axis], localizer: bool) -> str:
    """Return the kind of a volume.

    Parameters
    ----------
    frames : Frames
        The series.
    cells : ndarray
        (t, c, z) rows, -1 where absent.
    axes : sequence of Axis
        Its t and c axes.
    localizer : bool
        What ``is_localizer`` says.
    """
    sop_class = frames.texts["sop_class_uid"][int(cells[cells >= 0][0])]
    of_class = {SLIDE_CLASS: "slide", DOSE_CLASS: "dose", **dict.fromkeys(SEGMENTATION_CLASSES, "segmentation")}
    if localizer:
        return "localizer"
    if sop_class in of_class:
        return of_class[sop_class]
    if cells.shape[2] == 1 and any(axis.name == "t" for axis in axes):
        return "cine"
    if axes:
        return "4d"
    return "volume" if cells.shape[2] > 1 else "2d"


def says_localizer(frames: Frames, cells: Ints) -> bool:
    """Tell whether any component of any Image Type (0008,0008) of the volume is LOCALIZER or SCOUT."""
    types = set(frames.texts["image_type"][cells[cells >= 0]].tolist())
    parts = {part.strip().upper() for text in types if text for part in text.split("\\")}
    return bool(parts & {"LOCALIZER", "SCOUT"})


def scout_geometry(slices: Sequence[int], normals: Sequence[Floats | None]) -> list[bool]:
    """Tell which volumes of a series look like scouts: few slices, and orthogonal orientations in the series.

    Parameters
    ----------
    slices : sequence of int
        Slices of each volume.
    normals : sequence of ndarray
        (3,) unit normal of each volume, None where unknown.
    """
    found = {i: normal for i, normal in enumerate(normals) if normal is not None}
    known = list(found)
    if len(known) < 2:
        return [False] * len(slices)
    units = np.stack(list(found.values()))
    cosines = np.abs(units @ units.T)
    counts = (cosines > 1 - 1e-3) @ np.asarray([slices[i] for i in known])  # slices of the same orientation
    orthogonal = bool((cosines < NEARLY_ORTHOGONAL).any())
    scouts = dict(zip(known, (orthogonal & (counts <= MAX_SCOUT_SLICES)).tolist(), strict=True))
    return [scouts.get(i, False) for i in range(len(slices))]


def says_scout(frames: Frames) -> bool:
    """Tell whether the description or protocol of the series is one of a localizer."""
    texts = {frames.texts[name][0] for name in ("description", "protocol")}
    return any(LOCALIZER_WORDS.search(text) for text in texts if text)


def suspect_reason() -> Reason:
    """Return the flag of a volume that only its geometry makes a localizer."""
    return Reason(
        Code.LOCALIZER_SUSPECT,
        "at most 3 slices and orthogonal orientations in the series, as in a localizer; "
        "neither Image Type nor the description says so, so --no-localizers keeps it.",
    )
