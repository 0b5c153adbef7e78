"""The files of a series that are in no volume, by reason: so that every file of it is accounted for."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from fastdcm.errors import Code, Outcome
from fastdcm.look.reason_text import REASONS
from fastdcm.look.volume_text import sentence_of
from fastdcm.model import Frames, Index

if TYPE_CHECKING:
    from fastdcm.run.series import SeriesEntry
    from fastdcm.run.survey import SeriesMap

UIDS_NAMED = 3
"""SOP Instance UIDs of files left out that are named before the rest is counted."""
UNDECIDED = "undecided"
"""The outcome of files whose pixels were not compared yet."""
_SIBLING = (Code.SIBLING_FAILED, Code.SIBLING_CONFLICT)


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Files that are in no volume, for one reason."""

    outcome: str
    """``errors.Outcome``, or ``undecided``."""
    code: str | None
    files: int
    reason: str
    change: str
    """The option that changes it, or what to do."""
    sop_instance_uids: tuple[str, ...]
    """Of the first few."""


SeriesKey = tuple[str, str, str]
"""(patient_id, study_uid, series_uid), the empty text for what is absent."""


class Gone(NamedTuple):
    """A file that is in no volume."""

    file: int
    """Row of ``Index.instances``."""
    uid: str | None
    outcome: str
    code: str | None
    message: str


class DecidedByScan(NamedTuple):
    """A file that the scan alone decided: it is no image, or none that can be used."""

    key: SeriesKey
    gone: Gone
    modality: str
    description: str


def decided_by_scan(index: Index) -> list[DecidedByScan]:
    """Return the files that are not to be grouped; most of an export are, and are not looked at."""
    rows = np.flatnonzero(index.instances["outcome"].is_valid().to_numpy())
    names = ["patient_id", "study_uid", "series_uid", "outcome", "code", "message", "sop_instance_uid", "modality"]
    found = index.instances.select([*names, "description"]).take(rows).to_pylist() if len(rows) else []
    return [
        DecidedByScan(
            (one["patient_id"] or "", one["study_uid"] or "", one["series_uid"] or ""),
            Gone(row, one["sop_instance_uid"], one["outcome"], one["code"], one["message"] or ""),
            one["modality"] or "",
            one["description"] or "",
        )
        for row, one in zip(rows.tolist(), found, strict=True)
    ]


def key_of(frames: Frames) -> SeriesKey:
    """Return what tells a series from all others."""
    patient, study, series = (frames.texts[name][0] or "" for name in ("patient_id", "study_uid", "series_uid"))
    return patient, study, series


def without_images(found: SeriesMap, decided: Iterable[DecidedByScan]) -> Mapping[SeriesKey, list[DecidedByScan]]:
    """Return the series that have no image, with their files."""
    with_images = {key_of(entry.frames) for entry in found.series}
    series: dict[SeriesKey, list[DecidedByScan]] = defaultdict(list)
    for one in decided:
        if one.key[2] and one.key not in with_images:
            series[one.key].append(one)
    return series


def beside_images(decided: Iterable[DecidedByScan], entries: Sequence[SeriesEntry]) -> list[DecidedByScan]:
    """Return the files of series with images that are none themselves; what takes part as a bad frame is one."""
    grouped = {key_of(entry.frames): set(entry.frames.instance.tolist()) if entry.bad else set() for entry in entries}
    return [one for one in decided if one.key in grouped and one.gone.file not in grouped[one.key]]


def tally(gone: Iterable[Gone]) -> tuple[LeftOut, ...]:
    """Count files by outcome, code and message, the most frequent first."""
    groups: dict[tuple[str, str, str], list[str | None]] = defaultdict(list)
    for one in gone:
        groups[str(one.outcome), str(one.code or ""), one.message].append(one.uid)
    ordered = sorted(groups.items(), key=lambda item: (item[0][1] in _SIBLING, -len(item[1]), item[0]))
    return tuple(_left_out(*key, uids) for key, uids in ordered)


def _left_out(outcome: str, code: str, message: str, uids: Sequence[str | None]) -> LeftOut:
    named = tuple(uid for uid in dict.fromkeys(uids) if uid)[:UIDS_NAMED]
    if not code:
        return LeftOut(outcome, None, len(uids), message, "", named)
    said = sentence_of("withheld", Code(code), message or REASONS[Code(code)].meaning)
    return LeftOut(outcome, code, len(uids), said.text, said.change, named)


def gone_files(entry: SeriesEntry, withheld: Collection[int]) -> list[Gone]:
    """Return the files of a series that are in no volume that can be converted.

    Parameters
    ----------
    entry : SeriesEntry
        The series.
    withheld : collection of int
        Places of the volumes that hold a frame that cannot be used.
    """
    frames, grouping = entry.frames, entry.grouping
    rows = [volume.cells[volume.cells >= 0].tolist() for volume in grouping.volumes]
    inside = {int(frames.instance[row]) for place, own in enumerate(rows) if place not in withheld for row in own}
    gone: dict[int, Gone] = {}

    def note(row: int, outcome: str, code: str, message: str) -> None:
        file = int(frames.instance[row])
        if file not in inside:
            gone.setdefault(file, Gone(file, frames.texts["sop_instance_uid"][row], outcome, code, message))

    for row, bad in entry.bad.items():
        note(row, Outcome.FAILED, bad.code, bad.message)
    for decided in grouping.decided:
        note(decided.row, decided.outcome, decided.code, decided.message)
    for place in withheld:
        for row in rows[place]:
            note(row, Outcome.FAILED, Code.SIBLING_FAILED, "another file withholds its volume")
    for row in range(len(frames)):  # what is left is the second of a question
        note(
            row, UNDECIDED, Code.UNDECIDED, "another file has the same SOP Instance UID; their pixels were not compared"
        )
    return list(gone.values())
