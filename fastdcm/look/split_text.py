"""Why a series is several volumes: the elements of the grouping key in which each differs from its siblings.

Nothing is guessed: the key values of the volumes' own frames are compared. What the key does not tell apart was split
by positions or repeats, and the reasons that grouping recorded say so with their numbers.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from fastdcm.errors import Code
from fastdcm.look.terminal import clean, count_text
from fastdcm.model import Floats, Frames, Ints, Reason, Tolerances, Volume
from fastdcm.series.partition import KEYS, Planes, cluster_orientation, cluster_spacing, is_planar, planes_of

OTHERS_LISTED = 3
"""Values of other volumes that are written out before the rest is counted."""
VOLUMES_LISTED = 4
UID_SHOWN = 12
NEAR_PLANE = 0.9
"""Cosine between a normal and an axis of the patient from which a plane has that axis' name."""
BY_POSITION = (Code.SPLIT_TABLE_JUMP, Code.SPLIT_GAP, Code.SPLIT_AXIS, Code.RAGGED)
"""Splits of volumes that have one key."""


class Difference(NamedTuple):
    """Something that keeps one volume apart from others."""

    code: Code
    text: str
    change: str = ""
    """The option that changes it, where the values say more than the code."""


class _Element(NamedTuple):
    """One element of the key, its value in every volume."""

    code: Code
    name: str
    labels: Sequence[Hashable]
    """Equal for volumes that share the value."""
    texts: Sequence[str]
    places: Mapping[Hashable, Sequence[int]] = {}
    """The volumes of slices that have each value, those with most slices first."""


def split_differences(
    frames: Frames, volumes: Sequence[Volume], numbers: Sequence[int], tolerances: Tolerances
) -> list[tuple[Difference, ...]]:
    """Say of every volume of a series what keeps it apart from the others.

    Parameters
    ----------
    frames : Frames
        The series.
    volumes : sequence of Volume
        What it became.
    numbers : sequence of int
        How the volumes are called.
    tolerances : Tolerances
        When two values are equal.

    Returns
    -------
    list of tuple of Difference
        One a volume; empty where there is one volume only.
    """
    if len(volumes) < 2:
        return [()] * len(volumes)
    series = _Siblings(frames, volumes, numbers, tolerances)
    return [_of_volume(series, place) for place in range(len(volumes))]


class _Siblings:
    """The volumes of a series side by side."""

    def __init__(
        self, frames: Frames, volumes: Sequence[Volume], numbers: Sequence[int], tolerances: Tolerances
    ) -> None:
        self.frames, self.volumes, self.numbers = frames, volumes, numbers
        self.planes = planes_of(frames, tolerances)
        used = [volume.cells[volume.cells >= 0] for volume in volumes]
        self.counts = [len(rows) for rows in used]
        self.first = np.asarray([int(rows[0]) for rows in used])
        flat = is_planar(frames, np.concatenate(used), self.planes, tolerances)
        self.planar = flat[np.cumsum([0, *self.counts[:-1]])].tolist()
        self.stacked = [place for place, flat in enumerate(self.planar) if not flat]
        elements = (_placed(self, element) for element in _elements(self, tolerances))
        self.elements = [element for element in elements if len(element.places) > 1]
        self.alike: dict[tuple[Hashable, ...], list[int]] = {}
        for place in self.stacked:
            self.alike.setdefault(self.key(place), []).append(place)

    def key(self, place: int) -> tuple[Hashable, ...]:
        """Return what a volume shares with those that only positions tell from it."""
        return tuple(element.labels[place] for element in self.elements)


def _of_volume(series: _Siblings, place: int) -> tuple[Difference, ...]:
    if series.planar[place]:
        return (_planar(series, place),)
    differences = [_differing(series, element, place) for element in series.elements]
    if len(series.stacked) < len(series.volumes):
        flat = len(series.volumes) - len(series.stacked)
        text = f"These are slices; {count_text(flat, 'other volume')} of the series {'is' if flat == 1 else 'are'} 2-D."
        differences.append(Difference(Code.SPLIT_INSTANCE, text))
    differences += _by_position(series, place)
    told = {difference.code for difference in differences}
    for reason in _splits(series.volumes[place]):  # what grouping knows and the first frames do not show
        if reason.code not in told:
            differences.append(_of_reason(reason))
    return tuple(differences)


# ---------------------------------------------------------------------------- the key


def _elements(series: _Siblings, tolerances: Tolerances) -> list[_Element]:
    """Return the elements of the key."""
    first = series.frames.take(series.first)
    elements = [] if _ignored_frame_of_reference(series.volumes) else [_frame_of_reference(first)]
    for code, name, texts_of, _ in KEYS:
        texts = texts_of(first)
        if code == Code.SPLIT_INSTANCE:
            elements.append(_Element(code, name, texts, _uid_ends(first.texts["sop_instance_uid"].tolist())))
        else:
            elements.append(_Element(code, name, texts, [clean(text) for text in texts]))
    elements.append(_spacing(first, tolerances))
    return [*elements, *_placing(series.planes, series.first, tolerances)]


def _placed(series: _Siblings, element: _Element) -> _Element:
    """Return an element with the volumes of each value."""
    places: dict[Hashable, list[int]] = {}
    for place in series.stacked:
        places.setdefault(element.labels[place], []).append(place)
    ordered = sorted(places.items(), key=lambda item: -sum(series.counts[place] for place in item[1]))
    return element._replace(places=dict(ordered))


def _ignored_frame_of_reference(volumes: Sequence[Volume]) -> bool:
    return any(reason.code == Code.FRAME_OF_REFERENCE_PER_INSTANCE for v in volumes for reason in v.reasons)


def _frame_of_reference(first: Frames) -> _Element:
    uids = [uid or "" for uid in first.texts["frame_of_reference_uid"].tolist()]
    return _Element(Code.SPLIT_FRAME_OF_REFERENCE, "Frame of Reference UID (0020,0052)", uids, _uid_ends(uids))


def _uid_ends(uids: Sequence[str | None]) -> list[str]:
    """Return UIDs by their ends, whole where that does not tell them apart."""
    whole = [clean(uid) if uid else "absent" for uid in uids]
    ends = [f"…{uid[-UID_SHOWN:]}" if len(uid) > UID_SHOWN else uid for uid in whole]
    return ends if len(set(ends)) == len(set(whole)) else whole


def _spacing(first: Frames, tolerances: Tolerances) -> _Element:
    spacing = first.vectors("spacing_y", "spacing_x")
    labels = cluster_spacing(spacing, tolerances.spacing_relative).tolist()
    texts = ["absent" if np.isnan(row).any() else rf"{row[0]:.7g}\{row[1]:.7g} mm" for row in spacing]
    return _Element(Code.SPLIT_SPACING, "Pixel Spacing (0028,0030)", labels, texts)


def _placing(planes: Planes, first: Ints, tolerances: Tolerances) -> list[_Element]:
    """Return orientation and position: whether they are usable, and which orientation it is."""
    oriented = planes.oriented[first]
    positioned = [bool(np.isfinite(position).all()) for position in planes.positions[first]]
    labels = np.full(len(first), -1, dtype=np.int64)
    cosines = planes.axes[first[oriented]]
    if len(cosines):
        labels[oriented] = cluster_orientation(cosines, tolerances.orientation)
    texts = np.full(len(first), "not usable", dtype=object)
    texts[oriented] = _cosine_texts(cosines)
    usable = ["usable" if known else "absent or unreadable" for known in positioned]
    name = "Image Orientation (0020,0037)"
    return [
        _Element(Code.NO_POSITION, "Image Position (0020,0032)", positioned, usable),
        _Element(Code.SPLIT_ORIENTATION, name, labels.tolist(), texts.tolist()),
    ]


def _cosine_texts(axes: Floats) -> list[str]:
    """Return direction cosines with as many digits as tell them apart."""
    cosines = axes[:, :, :2].transpose(0, 2, 1).reshape(-1, 6)
    distinct = len(np.unique(np.round(cosines, 6), axis=0))
    digits = next((n for n in (3, 4) if len(np.unique(np.round(cosines, n), axis=0)) == distinct), 5)
    texts = ["\\".join(f"{value + 0.0:g}" for value in np.round(row, digits).tolist()) for row in cosines]
    return [f"{text} ({_plane_name(axes[:, 2])})" for text, axes in zip(texts, axes, strict=True)]


def _plane_name(normal: Floats) -> str:
    """Return the plane of slices with this normal in the patient; one between planes is oblique."""
    largest = int(np.argmax(np.abs(normal)))
    return ("sagittal", "coronal", "axial")[largest] if abs(normal[largest]) >= NEAR_PLANE else "oblique"


def _differing(series: _Siblings, element: _Element, place: int) -> Difference:
    """Compare one element of one volume with that of the others."""
    own = element.labels[place]
    others = [label for label in element.places if label != own]
    listed = [
        f"{element.texts[element.places[label][0]]} in {_names(series, element.places[label])} "
        f"({_slices(series, element.places[label])})"
        for label in others[:OTHERS_LISTED]
    ]
    if len(others) > OTHERS_LISTED:
        listed.append(count_text(len(others) - OTHERS_LISTED, "more value"))
    here = f"{element.name} is {element.texts[place]} here ({_slices(series, element.places[own])})"
    choice = _choice(element, int(series.first[place]), series.frames)
    return Difference(element.code, f"{here}, {', '.join(listed)}.", choice)


def _choice(element: _Element, row: int, frames: Frames) -> str:
    """Return the selection of exactly this value."""
    if element.code == Code.SPLIT_MATRIX:
        matrix = (f"{name} == {frames.numbers[name][row]:g}" for name in ("rows", "columns"))
        return f'`--where "{" and ".join(matrix)}"` takes this one.'
    kernel = frames.texts["kernel"][row] or ""
    if element.code == Code.SPLIT_KERNEL and re.fullmatch(r"[\w .+-]+", kernel):
        return f"`--where \"kernel == '{kernel}'\"` takes this one."
    return ""


def _slices(series: _Siblings, places: Sequence[int]) -> str:
    return count_text(sum(series.counts[place] for place in places), "slice")


def _names(series: _Siblings, places: Sequence[int]) -> str:
    if len(places) == 1:
        return f"volume {series.numbers[places[0]]}"
    shown = ", ".join(str(series.numbers[place]) for place in places[:VOLUMES_LISTED])
    return f"volumes {shown}{' ...' if len(places) > VOLUMES_LISTED else ''}"


# ---------------------------------------------------------------------------- what the key does not tell apart


def _splits(volume: Volume) -> list[Reason]:
    return [reason for reason in volume.reasons if reason.code in BY_POSITION or reason.code.startswith("split-")]


def _of_reason(reason: Reason) -> Difference:
    return Difference(reason.code, reason.message[:1].upper() + reason.message[1:])


def _by_position(series: _Siblings, place: int) -> list[Difference]:
    """Return what keeps a volume apart from those that have the same key."""
    alike = [other for other in series.alike[series.key(place)] if other != place]
    if not alike:
        return []
    own = [reason for reason in series.volumes[place].reasons if reason.code in BY_POSITION]
    found = [
        Difference(reason.code, f"{_of_reason(reason).text}{_jump(series, place, alike, reason)}") for reason in own
    ]
    if found:
        return found
    for other in alike:  # the part that stayed: its siblings say why they left
        for reason in series.volumes[other].reasons:
            if reason.code in BY_POSITION:
                text = f"Volume {series.numbers[other]} was taken out: {reason.message}"
                return [Difference(reason.code, text)]
    return []


def _jump(series: _Siblings, place: int, alike: Sequence[int], reason: Reason) -> str:
    """Say from where to where the table went."""
    if reason.code != Code.SPLIT_TABLE_JUMP:
        return ""
    ends = {p: series.planes.positions[series.volumes[p].cells[0, 0, [0, -1]]] for p in (place, *alike)}
    gaps = [
        (float(np.linalg.norm(mine - theirs)), other, mine, theirs)
        for other in alike
        for mine in ends[place]
        for theirs in ends[other]
    ]
    _, other, mine, theirs = min(gaps, key=lambda gap: gap[:2])
    return f" Its slice at ({_mm(mine)}) is next to ({_mm(theirs)}) of volume {series.numbers[other]}."


def _mm(position: Floats) -> str:
    return ", ".join(f"{value:.1f}" for value in (position + 0.0).tolist())


def _planar(series: _Siblings, place: int) -> Difference:
    """Say why a 2-D image is a volume of its own."""
    flat = [p for p, planar in enumerate(series.planar) if planar]
    modality = clean(series.frames.texts["modality"][int(series.first[place])] or "without a modality").strip()
    rest = len(series.volumes) - len(flat)
    more = f"; {count_text(rest, 'volume')} of slices {'is' if rest == 1 else 'are'} beside them" if rest else ""
    own = "is a volume of its own" if len(flat) == 1 else "are volumes of their own"
    text = (
        f"2-D images ({modality}, without positions of slices) are never stacked across files: "
        f"{count_text(len(flat), 'instance')} of the series {own}{more}."
    )
    return Difference(Code.SPLIT_INSTANCE, text)
