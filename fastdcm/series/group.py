"""One series' frames to volumes: duplicates, key, table jumps, repeats, gaps, numbers. Pure, one step after another.

Nothing here depends on the order of rows beyond ties that no header breaks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from fastdcm.errors import Code, Outcome
from fastdcm.model import Answer, Decided, Floats, Frames, Geometry, Grouping, Ints, Options, Reason, Tolerances, Volume
from fastdcm.series import kinds
from fastdcm.series.duplicates import CONFLICT_MESSAGE, resolve_copies
from fastdcm.series.geometry import flat_geometry, stack_geometry
from fastdcm.series.partition import SEGMENTATIONS, Part, Planes, partition, planes_of
from fastdcm.series.planar import frame_axes, rotation
from fastdcm.series.stacks import KEPT_IRREGULAR, Draft, plane_of, segment_stack, slice_stacks, spacing_reasons


def group(
    frames: Frames,
    options: Options,
    answers: Sequence[Answer] = (),
    excluded: frozenset[int] = frozenset(),
) -> Grouping:
    """Group the frames of one series into volumes.

    Parameters
    ----------
    frames : Frames
        One patient + study + series.
    options : Options
        ``tolerances``, ``on_gap`` and ``on_conflict``.
    answers : sequence of Answer
        What comparing pixels found for the questions of an earlier call.
    excluded : frozenset of int
        Rows whose pixels cannot be had: treated as if they were absent.

    Returns
    -------
    Grouping
        Every row that is not excluded is in exactly one volume, or decided, or the second of a question.
    """
    rows = np.arange(len(frames))
    if excluded:
        rows = rows[~np.isin(rows, np.fromiter(excluded, dtype=np.int64))]
    copies = resolve_copies(frames, rows, options, answers)
    planes = planes_of(frames, options.tolerances)
    drafts = [
        draft
        for part in partition(frames, copies.kept, planes, options.tolerances)
        for draft in _drafts(frames, part, planes, options)
    ]
    if len(drafts) > 1:
        drafts.sort(key=lambda draft: _number_key(frames, draft.cells))
    decided = list(copies.decided)
    published = []
    for draft in drafts:
        refused = _refused(draft, copies.conflicting, options)
        decided += refused
        if not refused:
            published.append(_undecided(draft, copies.undecided))
    return Grouping(_volumes(frames, published), tuple(decided), copies.questions)


def _number_key(frames: Frames, cells: Ints) -> tuple[int, str, int]:
    """Return the key of a volume's number: more frames first, then the smallest SOP Instance UID."""
    rows = cells[cells >= 0]
    uids = frames.texts["sop_instance_uid"][rows]
    return -len(rows), min(uid or "" for uid in uids), int(rows.min())


def _refused(draft: Draft, conflicting: frozenset[int], options: Options) -> list[Decided]:
    """Return the outcomes of a volume that is withheld."""
    rows = draft.cells[draft.cells >= 0].tolist()
    if conflicting and not conflicting.isdisjoint(rows):
        sibling = "a file of its volume is in conflict with another that has the same SOP Instance UID"
        return [
            Decided(row, Outcome.CONFLICT, Code.PIXELS_DIFFER, CONFLICT_MESSAGE)
            if row in conflicting
            else Decided(row, Outcome.CONFLICT, Code.SIBLING_CONFLICT, sibling)
            for row in rows
        ]
    gap = next((reason for reason in draft.reasons if reason.code == Code.MISSING_SLICES), None)
    if options.on_gap == "fail" and gap:
        message = (
            gap.message.removesuffix(KEPT_IRREGULAR) + "Not converted, as --on-gap fail asks; the default keeps it."
        )
        return [Decided(row, Outcome.FAILED, Code.GAP, message) for row in rows]
    return []


def _undecided(draft: Draft, undecided: frozenset[int]) -> Draft:
    """Flag a volume that holds frames with an open question."""
    count = len(undecided.intersection(draft.cells.reshape(-1).tolist())) if undecided else 0
    if not count:
        return draft
    frames = "1 frame has" if count == 1 else f"{count} frames have"
    message = f"{frames} another file with the same SOP Instance UID: their pixels must be compared."
    return draft._replace(reasons=(*draft.reasons, Reason(Code.UNDECIDED, message)))


def _volumes(frames: Frames, drafts: Sequence[Draft]) -> tuple[Volume, ...]:
    """Return the drafts with their kinds."""
    if not drafts:
        return ()
    slices = [draft.cells.shape[2] for draft in drafts]
    scouts = [False] * len(drafts)
    if len(drafts) > 1 and (frames.texts["modality"][0] or "") in ("CT", "MR"):
        normals = [_normal(draft.geometry) for draft in drafts]
        scouts = kinds.scout_geometry(slices, normals)
    named = any(scouts) and kinds.says_scout(frames)
    volumes = []
    for draft, scout in zip(drafts, scouts, strict=True):
        tagged = kinds.says_localizer(frames, draft.cells)
        suspect = (kinds.suspect_reason(),) if scout and not named and not tagged else ()
        kind = kinds.kind_of(frames, draft.cells, draft.axes, tagged or (scout and named))
        volumes.append(Volume(kind, draft.cells, draft.axes, draft.geometry, (*draft.reasons, *suspect)))
    return tuple(volumes)


def _normal(geometry: Geometry) -> Floats | None:
    return None if geometry.direction is None else np.cross(geometry.direction[:, 0], geometry.direction[:, 1])


# ---------------------------------------------------------------------------- the forms of a part


def _drafts(frames: Frames, part: Part, planes: Planes, options: Options) -> list[Draft]:
    """Return the volumes of frames that share a grouping key."""
    if part.form == "planar":
        return [_planar(frames, part, planes, options.tolerances)]
    if part.form == "unplaced":
        return [_unplaced(frames, part, planes)]
    if part.form == "rotation":
        cells, axis = rotation(frames, part.rows, planes)
        geometry = replace(flat_geometry(1, plane_of(frames, part, planes)), direction=None)
        return [Draft(cells, (axis,), geometry, part.reasons)]
    if frames.texts["sop_class_uid"][int(part.rows[0])] in SEGMENTATIONS:
        return [segment_stack(frames, part, planes, options.tolerances)]
    return slice_stacks(frames, part, planes, options)


def _planar(frames: Frames, part: Part, planes: Planes, tolerances: Tolerances) -> Draft:
    """Return one 2-D instance, its frames along t."""
    cells, axes = frame_axes(frames, part.rows)
    rows = cells.reshape(-1)
    plane = plane_of(frames, part._replace(rows=rows), planes)
    still = planes.oriented[rows].all() and bool((np.ptp(planes.axes[rows], axis=0) <= tolerances.orientation).all())
    if not still:
        plane = plane._replace(axes=None)
    reasons = [
        *part.reasons,
        *spacing_reasons(frames, int(rows[0]), False),
        *_planar_flags(frames, int(rows[0]), planes),
    ]
    if planes.placed[rows].all() and still:
        return Draft(cells, axes, stack_geometry(planes.positions[rows[:1]], plane, tolerances), tuple(reasons))
    return Draft(cells, axes, flat_geometry(1, plane), tuple(reasons))


def _planar_flags(frames: Frames, row: int, planes: Planes) -> list[Reason]:
    if frames.numbers["mosaic_tiles"][row] == 0 and frames.tile[row] < 0:
        message = "a mosaic whose slices are not told (Siemens: CSA header, (0019,100A); UIH: (0065,xx51)): one image."
        return [Reason(Code.MOSAIC_UNKNOWN, message)]
    orientation = frames.numbers["row_x"][row]
    if orientation == orientation and not planes.oriented[row]:
        return [Reason(Code.BAD_ORIENTATION, "Image Orientation (0020,0037) is not two orthogonal directions.")]
    return []


def _unplaced(frames: Frames, part: Part, planes: Planes) -> Draft:
    """Return slices without positions, by Instance Number."""
    rows = part.rows
    order = np.lexsort((rows, frames.tile[rows], frames.frame[rows], frames.numbers["instance_number"][rows]))
    cells = rows[order][None, None, :]
    plane = plane_of(frames, part._replace(rows=rows[order]), planes)
    reasons = (*part.reasons, *spacing_reasons(frames, int(cells[0, 0, 0]), False))
    return Draft(cells, (), flat_geometry(len(rows), plane), reasons)
