"""Series planned again without the frames that turned out bad; what their copies then ask is answered at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

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
_NOT_BY_GROUPING = (Code.UID_REUSED, Code.ONE_SLICE_SERIES)


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
    grouping = group(entry.frames, gap_policy(context.options, all_bad), entry.answers, frozenset(all_bad))
    volumes = tuple(_inherit(volume, entry, all_bad, context.options) for volume in grouping.volumes)
    after = SeriesEntry(entry.frames, replace(grouping, volumes=volumes), entry.answers, all_bad)
    if not entry.plans:
        return after
    return plan_series(after, context.options, context.names, context.index, _numbers_of(entry))


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
