"""What only all series together show: UIDs used twice, and series that an anonymiser took apart."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Container, Iterator, Sequence
from dataclasses import replace

import numpy as np

from fastdcm.errors import Code
from fastdcm.model import Floats, Index, Reason, Volume, VolumePlan
from fastdcm.run.series import SeriesEntry

ONE_SLICE_SERIES = 3
"""Single-slice series that look like one are reported from this many on (behaviour.md, trap 20)."""


def reused_uids(index: Index) -> frozenset[str]:
    """Return the SOP Instance UIDs that images of two series have."""
    import pyarrow.compute as pc

    images = index.instances.filter(pc.is_null(index.instances["outcome"]))
    names = ["sop_instance_uid", "patient_id", "study_uid", "series_uid"]
    table = images.select(names)
    for place, name in enumerate(names):
        table = table.set_column(place, name, table[name].cast("string"))
    series = table.group_by(names).aggregate([]).group_by("sop_instance_uid").aggregate([([], "count_all")])
    twice = series.filter(pc.greater(series["count_all"], 1))["sop_instance_uid"].to_pylist()
    return frozenset(uid for uid in twice if uid)


def flag_reused(entry: SeriesEntry, reused: frozenset[str]) -> SeriesEntry:
    """Flag the volumes that hold an image whose UID another series has too."""
    if not reused:
        return entry
    uids = entry.frames.texts["sop_instance_uid"]

    def reason_of(volume: Volume) -> tuple[Reason, ...]:
        count = len({uids[row] for row in volume.cells[volume.cells >= 0].tolist()} & reused)
        text = f"{count} of its SOP Instance UIDs stand in another series too; both are converted"
        return (Reason(Code.UID_REUSED, text),) if count else ()

    volumes = tuple(replace(v, reasons=(*v.reasons, *reason_of(v))) for v in entry.grouping.volumes)
    return replace(entry, grouping=replace(entry.grouping, volumes=volumes))


def _flag(entry: SeriesEntry, reasons: tuple[Reason, ...]) -> SeriesEntry:
    """Add reasons to every volume and plan of a series."""
    if not reasons:
        return entry
    volumes = tuple(replace(v, reasons=(*v.reasons, *reasons)) for v in entry.grouping.volumes)
    plans = tuple(
        replace(p, reasons=(*p.reasons, *reasons), volume=replace(p.volume, reasons=(*p.volume.reasons, *reasons)))
        for p in entry.plans
    )
    return replace(entry, grouping=replace(entry.grouping, volumes=volumes), plans=plans)


def flag_one_slice_series(entries: list[SeriesEntry]) -> list[SeriesEntry]:
    """Report single-slice series that look like one series that an anonymiser took apart; nothing is merged."""
    alike: dict[tuple[object, ...], list[int]] = defaultdict(list)
    for number, entry in enumerate(entries):
        look = _single_slice_look(entry)
        if look is not None:
            alike[look].append(number)
    for numbers in alike.values():
        places = {tuple(np.round(_position(entries[number]), 2).tolist()) for number in numbers}
        if len(places) >= ONE_SLICE_SERIES:
            text = f"{len(numbers)} single-slice series of this study look like one; they are not merged"
            for number in numbers:
                entries[number] = _flag(entries[number], (Reason(Code.ONE_SLICE_SERIES, text),))
    return entries


def _single_slice_look(entry: SeriesEntry) -> tuple[object, ...] | None:
    """Return what makes single-slice series look alike; None where the series is no single slice with a place."""
    frames = entry.frames
    if len(frames) != 1 or not entry.plans or not entry.plans[0].volume.geometry.has_position:
        return None
    if entry.plans[0].volume.kind == "localizer":
        return None
    texts = (frames.texts[name][0] for name in ("patient_id", "study_uid", "modality", "description", "image_type"))
    directions = frames.vectors("row_x", "row_y", "row_z", "column_x", "column_y", "column_z")[0]
    matrix = frames.vectors("rows", "columns")[0]
    return (*texts, *np.round(directions, 3).tolist(), *matrix.tolist())


def _position(entry: SeriesEntry) -> Floats:
    position: Floats = entry.frames.vectors("position_x", "position_y", "position_z")[0]
    return position


def uid_warnings(plans: Sequence[VolumePlan], left_out: Container[str]) -> Iterator[str]:
    """Say once, with counts, what the reasons of the volumes say about the UIDs of the whole."""
    chosen = [(plan, {reason.code for reason in plan.reasons}) for plan in plans if plan.path not in left_out]
    single = [plan.path for plan, codes in chosen if Code.ONE_SLICE_SERIES in codes]
    if single:
        studies = len({path.partition("/")[0] for path in single})
        yield (
            f"{len(single)} single-slice series of {studies} {'study' if studies == 1 else 'studies'} look like one "
            f"series that was taken apart; they are not merged ({Code.ONE_SLICE_SERIES})"
        )
    reused = sum(Code.UID_REUSED in codes for _, codes in chosen)
    if reused:
        yield (
            f"{reused} {'volume holds' if reused == 1 else 'volumes hold'} images whose SOP Instance UID another "
            f"series has too; every series is converted on its own ({Code.UID_REUSED})"
        )
