"""Series planned again without the frames that turned out bad; what their copies then ask is answered at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from fastdcm.errors import Code
from fastdcm.model import Index, Options, Reason, Volume
from fastdcm.run.answers import compare_pixels
from fastdcm.run.execute import Engine
from fastdcm.run.records import FrameNote
from fastdcm.run.series import (
    Bad,
    FrameKey,
    Names,
    SeriesEntry,
    frame_keys,
    gap_policy,
    plan_series,
    spare_rows,
    volume_keys,
    volume_number,
)

_LOST = (Code.FRAMES_DROPPED, Code.FRAMES_FILLED)
_NOT_BY_GROUPING = (Code.UID_REUSED, Code.ONE_SLICE_SERIES, Code.FILES_LOST)


@dataclass(frozen=True, slots=True, eq=False)
class Context:
    """What planning a series again needs, besides the series."""

    options: Options
    """With ``on_bad_frame`` drop or fill."""
    names: Names
    """With what is published."""
    index: Index
    """That the frames are of."""
    engine: Engine | None
    """Compares pixels; None leaves questions open."""


def regroup(entry: SeriesEntry, bad: Bad, context: Context) -> SeriesEntry:
    """Group and plan a series again without frames that cannot be used; volumes keep the numbers they had.

    A bad frame may have been the copy that others were compared with: these are compared with each other then.

    Parameters
    ----------
    entry : SeriesEntry
        As it was planned.
    bad : mapping of int to FrameNote
        Further rows of its frames to leave out.
    context : Context
        How to plan.

    Returns
    -------
    SeriesEntry
        Volumes that lost frames are flagged; no question is open, if there is an engine.
    """
    entry = _without(replace(entry, frames=entry.frames.copy()), bad, context)  # it is kept; its batch need not be
    while context.engine and (found := compare_pixels(context.engine, [entry], context.index)):
        entry = _without(replace(entry, answers=found[0].answers), found[0].faults, context)
    return entry


def _without(entry: SeriesEntry, bad: Bad, context: Context) -> SeriesEntry:
    """Group and plan a series without its bad rows, by the answers that it has."""
    from fastdcm.series.group import group

    all_bad = {**entry.bad, **bad}
    held = _held_open(entry, all_bad, context.options) if context.options.on_bad_frame == "fill" else frozenset()
    options, gone = gap_policy(context.options, all_bad), frozenset(all_bad) - held
    grouping = group(entry.frames, options, entry.answers, gone)
    emptied = (_emptied(volume, held) for volume in grouping.volumes)
    volumes = tuple(_inherit(volume, entry, all_bad, context.options) for volume in emptied)
    after = SeriesEntry(entry.frames, replace(grouping, volumes=volumes), entry.answers, all_bad)
    if not entry.plans:
        return after
    return plan_series(after, context.options, context.names, context.index, _numbers_of(entry))


def _held_open(entry: SeriesEntry, bad: Bad, options: Options) -> frozenset[int]:
    """Return the bad rows whose cell of a 4-D volume is filled: another step has an image at their position.

    Left out, they would break up the step that they are in.
    """
    from fastdcm.series.cut import lost_rows
    from fastdcm.series.group import group

    unplaced = lost_rows(entry.frames, bad) | spare_rows(entry.frames, bad)
    held: set[int] = set()
    for volume in group(entry.frames, gap_policy(options, bad), entry.answers, unplaced).volumes:
        usable = (volume.cells >= 0) & ~np.isin(volume.cells, list(bad))
        if volume.cells[:, :, 0].size > 1 and usable.any(axis=(0, 1)).all():
            held |= bad.keys() & set(volume.cells.ravel().tolist())
    return frozenset(held)


def _emptied(volume: Volume, held: frozenset[int]) -> Volume:
    """Return a volume whose bad cells hold no frame."""
    if held.isdisjoint(volume.cells.ravel().tolist()):
        return volume
    return replace(volume, cells=np.where(np.isin(volume.cells, list(held)), -1, volume.cells))


def _inherit(volume: Volume, entry: SeriesEntry, bad: Bad, options: Options) -> Volume:
    """Keep the reasons that grouping alone does not find, and flag what lost frames: those with no good copy."""
    rows = set(volume.cells[volume.cells >= 0].tolist())
    gone = bad.keys() - spare_rows(entry.frames, bad)
    kept: dict[Reason, None] = {}
    lost = False
    for before in entry.grouping.volumes:
        held = set(before.cells[before.cells >= 0].tolist())
        if rows & held:
            kept |= dict.fromkeys(reason for reason in before.reasons if reason.code in _NOT_BY_GROUPING)
            lost |= bool(held & gone) or any(reason.code in _LOST for reason in before.reasons)
    if lost:
        code = Code.FRAMES_FILLED if options.on_bad_frame == "fill" else Code.FRAMES_DROPPED
        kept[Reason(code, f"{len(gone)} frames of the series cannot be read; they count as missing slices")] = None
    return replace(volume, reasons=(*volume.reasons, *kept))


def _numbers_of(entry: SeriesEntry) -> dict[int, frozenset[FrameKey]]:
    volumes = zip(entry.plans, entry.grouping.volumes, strict=True)
    return {volume_number(plan.path): volume_keys(entry.frames, volume) for plan, volume in volumes}


def leave_out_bad(entry: SeriesEntry, context: Context, known: Mapping[str, Sequence[FrameNote]]) -> SeriesEntry:
    """Leave out what the headers show to be bad, and what an earlier run found when it decoded the same frames.

    ``known`` are these frames by the digest of the plan that asked for them. Where nothing is left out, the entry is
    returned as it is.
    """
    if context.options.on_bad_frame == "fail":
        return entry
    if entry.bad:
        entry = regroup(entry, {}, context)
    while bad := _known_bad(entry, known):
        entry = regroup(entry, bad, context)
    return entry


def _known_bad(entry: SeriesEntry, known: Mapping[str, Sequence[FrameNote]]) -> Bad:
    """Return the rows of the planned volumes that an earlier run could not decode; their copies are not meant."""
    bad: dict[int, FrameNote] = {}
    for plan, volume in zip(entry.plans, entry.grouping.volumes, strict=True):
        if plan.digest in known:
            notes = {tuple(note[:3]): note for note in known[plan.digest]}
            rows = volume.cells[volume.cells >= 0].tolist()
            keys = frame_keys(entry.frames, rows)
            bad |= {row: notes[key] for row, key in zip(rows, keys, strict=True) if key in notes}
    return bad
