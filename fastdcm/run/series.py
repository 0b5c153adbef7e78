"""One series on its way to volumes: grouped, numbered, planned.

A volume keeps its number wherever its frames go: across runs, and across what happens within one.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from fastdcm.model import Answer, Frames, Grouping, Index, Options, Volume, VolumePlan
from fastdcm.run.records import FrameNote, Journal, Record, StoredFrame

FrameKey = tuple[str | None, int, int]
"""(SOP Instance UID, frame, tile): a frame wherever its file lies."""

Bad = Mapping[int, FrameNote]
"""Rows of a series' frames that cannot be used."""


@dataclass(frozen=True, slots=True, eq=False)
class SeriesEntry:
    """One patient + study + series: its frames, what they became, and the plans of its volumes."""

    frames: Frames
    grouping: Grouping
    answers: tuple[Answer, ...]
    bad: Bad
    """By row of ``frames``."""
    plans: tuple[VolumePlan, ...] = ()
    """One a volume of the grouping, in its order."""


class Names(NamedTuple):
    """Names that depend on all series together, or on what is published."""

    studies: Mapping[tuple[str | None, str | None], str]
    patients: Mapping[str | None, str]
    published: Mapping[str, Sequence[Record]]
    """By ``<study>/<series>``: volumes whose numbers were given before."""
    keys: Mapping[str, str] = {}
    """Patient keys that were given before, by the folder of the study."""
    owners: Mapping[str, str | None] = {}
    """``catalog.patient_mark`` of the patient of each published study, by its folder."""


def group_series(frames: Frames, options: Options, answers: tuple[Answer, ...], bad: Bad) -> SeriesEntry:
    """Group a series for the first time, with its bad frames in their places: the policy about them comes later."""
    from fastdcm.series.cut import place_cut_files
    from fastdcm.series.group import group

    frames = place_cut_files(frames, bad) if bad else frames
    grouping = group(frames, options, answers, spare_rows(frames, bad) | _lost(frames, bad))
    return SeriesEntry(frames, _flagged(grouping, frames, bad) if bad else grouping, answers, bad)


def _lost(frames: Frames, bad: Bad) -> frozenset[int]:
    from fastdcm.series.cut import lost_rows

    return lost_rows(frames, bad) if bad else frozenset()


def _flagged(grouping: Grouping, frames: Frames, bad: Bad) -> Grouping:
    """Flag volumes that may lack a file whose place is unknown."""
    from fastdcm.series.cut import flag_lost

    lost = len(_lost(frames, bad) - spare_rows(frames, bad))
    return replace(grouping, volumes=tuple(flag_lost(volume, frames, lost) for volume in grouping.volumes))


def spare_rows(frames: Frames, bad: Bad) -> frozenset[int]:
    """Return the bad rows that have a good copy: their file is lost, the image is not."""
    if not bad:
        return frozenset()
    keys = frame_keys(frames, range(len(frames)))
    good = {key for row, key in enumerate(keys) if row not in bad}
    return frozenset(row for row in bad if keys[row] in good)


def gap_policy(options: Options, bad: Bad) -> Options:
    """``fill`` treats a bad frame as a missing slice that is filled, in the series that has one."""
    return replace(options, on_gap="fill") if bad and options.on_bad_frame == "fill" else options


def name_series(index: Index, journal: Journal | None) -> Names:
    """Return the names of studies and patients, and the numbers that volumes have."""
    from fastdcm.series.catalog import patient_keys, study_names

    volumes = journal.volumes if journal else {}
    owners = _with_owners(index, volumes, journal.owners) if journal else {}
    keys = journal.patients if journal else {}
    names = study_names(index, owners)
    return Names(names, patient_keys(names, keys), published_by_series(volumes), keys, owners)


def _with_owners(
    index: Index, volumes: Mapping[str, Record], owners: Mapping[str, str | None]
) -> Mapping[str, str | None]:
    """Find by their images whose the published studies are, where the working folder was lost."""
    from fastdcm.series.catalog import patient_mark

    if None not in owners.values():
        return owners
    folders: dict[str | None, set[str]] = defaultdict(set)
    for path, record in volumes.items():
        for frame in record.frames:
            folders[frame.sop_instance_uid].add(path.split("/")[0])
    candidates: dict[str, set[tuple[str | None, str | None]]] = defaultdict(set)
    names = ["patient_id", "study_uid", "sop_instance_uid"]
    for batch in index.instances.select(names).to_batches(max_chunksize=1 << 14):
        for patient, study, uid in zip(*(column.to_pylist() for column in batch.columns), strict=True):
            for folder in folders.get(uid, ()) if uid is not None else ():
                candidates[folder].add((patient, study))
    found = dict(owners)
    used: set[tuple[str | None, str | None]] = set()
    for folder in sorted(candidates):  # patients with the same images were numbered in the order of their ids
        free = candidates[folder] - used
        if found[folder] is None and free:
            one = min(free, key=lambda pair: (pair[0] or "", pair[1] or ""))
            used.add(one)
            found[folder] = patient_mark(one[0])
    return found


def published_by_series(records: Mapping[str, Record]) -> dict[str, Sequence[Record]]:
    """Return records by ``<study>/<series>``."""
    published: dict[str, list[Record]] = defaultdict(list)
    for path, record in records.items():
        published[path.rpartition("/")[0]].append(record)
    return dict(published)


def volume_number(path: str) -> int:
    """Return n of ``<study>/<series>/<n>.ome.zarr``."""
    return int(path.rpartition("/")[2].partition(".")[0])


def numbers_known(names: Names, series: str) -> dict[int, frozenset[FrameKey]]:
    """Return the numbers that volumes of ``<study>/<series>`` have in the store, with the frames that have them."""
    return {
        volume_number(record.path): frozenset(map(_stored_key, record.frames))
        for record in names.published.get(series, ())
    }


def _stored_key(frame: StoredFrame) -> FrameKey:
    return frame.sop_instance_uid, frame.frame, -1 if frame.tile is None else frame.tile


def frame_keys(frames: Frames, rows: Iterable[int]) -> list[FrameKey]:
    """Return what names each of the given rows wherever its file lies."""
    uids = frames.texts["sop_instance_uid"]
    return [(uids[row], int(frames.frame[row]), int(frames.tile[row])) for row in rows]


def plan_series(
    entry: SeriesEntry,
    options: Options,
    names: Names,
    index: Index,
    given: Mapping[int, frozenset[FrameKey]] | None = None,
) -> SeriesEntry:
    """Plan the volumes of a series under the numbers that they have or get; ``given`` are those of this run."""
    from fastdcm.series.names import safe_uid, volume_path
    from fastdcm.series.plan import plan_volume

    if not entry.grouping.volumes:
        return replace(entry, plans=())
    texts = entry.frames.texts
    patient, study, series = (texts[name][0] for name in ("patient_id", "study_uid", "series_uid"))
    folder = names.studies[patient, study]
    known = {**numbers_known(names, f"{folder}/{safe_uid(series)}"), **(given or {})}
    volumes = entry.grouping.volumes
    numbers: Sequence[int] = range(len(volumes))
    if known:
        numbers = assign_numbers([volume_keys(entry.frames, volume) for volume in volumes], list(known.items()))
    options = gap_policy(options, entry.bad)
    plans = tuple(
        plan_volume(entry.frames, volume, volume_path(folder, series, n), names.patients[patient], options, index)
        for volume, n in zip(volumes, numbers, strict=True)
    )
    return replace(entry, plans=plans)


def volume_keys(frames: Frames, volume: Volume) -> frozenset[FrameKey]:
    """Return what names each frame of a volume."""
    return frozenset(frame_keys(frames, volume.cells[volume.cells >= 0].tolist()))


def assign_numbers(
    volumes: Sequence[frozenset[FrameKey]], known: Sequence[tuple[int, frozenset[FrameKey]]]
) -> list[int]:
    """Give each volume its number: that of the known one it shares most frames with, else the next free one.

    Parameters
    ----------
    volumes : sequence of frozenset
        Frames of each volume, in the order in which new numbers are given.
    known : sequence of (number, frozenset)
        Numbers that were given before; none is given to another volume.

    Returns
    -------
    list of int
        One a volume, all different.
    """
    shared = sorted(
        (-len(frames & held), number, place)
        for place, frames in enumerate(volumes)
        for number, held in known
        if frames & held
    )
    given: dict[int, int] = {}
    for _, number, place in shared:
        if place not in given and number not in given.values():
            given[place] = number
    taken = {number for number, _ in known}
    free = (number for number in range(len(volumes) + len(taken)) if number not in taken)
    return [given[place] if place in given else next(free) for place in range(len(volumes))]


def with_published(names: Names, records: Mapping[str, Record]) -> Names:
    """Return the names with the numbers that are published now."""
    return names._replace(published=published_by_series(records))
