"""What only all series together show: UIDs used twice, and series that an anonymiser took apart."""

from __future__ import annotations

from array import array
from collections import defaultdict
from collections.abc import Container, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from fastdcm.errors import Code
from fastdcm.model import Floats, Index, Ints, Reason, Volume
from fastdcm.run.series import SeriesEntry

if TYPE_CHECKING:
    import pyarrow as pa

    from fastdcm.series.frames import SeriesFrames

ONE_SLICE_SERIES = 3
"""Single-slice series that look like one are reported from this many on (behaviour.md, trap 20)."""


def reused_uids(index: Index, frames: SeriesFrames) -> frozenset[str]:
    """Return the SOP Instance UIDs that images of two series have.

    Hashes tell which may be; only these few are compared as texts.
    """
    rows, series = frames.series_of_rows()
    hashes = _hashes(index.instances.select(["sop_instance_uid"]))[rows]
    order = np.lexsort((series, hashes))
    hashes, series = hashes[order], series[order]
    found = set(hashes[1:][(hashes[1:] == hashes[:-1]) & (series[1:] != series[:-1])].tolist())
    if not found:
        return frozenset()
    places = np.flatnonzero(np.isin(hashes, np.fromiter(found, np.int64)))
    uids = index.instances["sop_instance_uid"].take(rows[order[places]]).to_pylist()
    having: dict[str, set[int]] = defaultdict(set)
    for uid, number in zip(uids, series[places].tolist(), strict=True):
        if uid:
            having[uid].add(number)
    return frozenset(uid for uid, numbers in having.items() if len(numbers) > 1)


def _hashes(table: pa.Table) -> Ints:
    """Return a 64-bit hash of each text of a table's only column."""
    found = np.empty(table.num_rows, np.int64)
    start = 0
    for batch in table.to_batches(max_chunksize=1 << 14):
        found[start : start + batch.num_rows] = list(map(hash, batch.column(0).to_pylist()))
        start += batch.num_rows
    return found


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


def flag_entry(entry: SeriesEntry, reason: Reason | None) -> SeriesEntry:
    """Add a reason to every volume and plan of a series."""
    if reason is None:
        return entry
    volumes = tuple(replace(v, reasons=(*v.reasons, reason)) for v in entry.grouping.volumes)
    plans = tuple(
        replace(p, reasons=(*p.reasons, reason), volume=replace(p.volume, reasons=(*p.volume.reasons, reason)))
        for p in entry.plans
    )
    return replace(entry, grouping=replace(entry.grouping, volumes=volumes), plans=plans)


class _Alike(NamedTuple):
    """Single-slice series that look like one."""

    numbers: array[int]
    places: set[tuple[float, ...]]
    """Where their slices are, mm; no more than are needed."""


class OneSliceSeries:
    """Finds single-slice series that look like one series that an anonymiser took apart; nothing is merged."""

    def __init__(self) -> None:
        self._alike: dict[tuple[object, ...], _Alike] = {}

    def add(self, number: int, entry: SeriesEntry) -> None:
        """Look at a series."""
        look = _single_slice_look(entry)
        if look is None:
            return
        alike = self._alike.setdefault(look, _Alike(array("l"), set()))
        alike.numbers.append(number)
        if len(alike.places) < ONE_SLICE_SERIES:
            alike.places.add(tuple(np.round(_position(entry), 2).tolist()))

    def reasons(self) -> dict[int, Reason]:
        """Return what to report of which series."""
        found: dict[int, Reason] = {}
        for numbers, places in self._alike.values():
            if len(places) >= ONE_SLICE_SERIES:
                text = f"{len(numbers)} single-slice series of this study look like one; they are not merged"
                found |= dict.fromkeys(numbers, Reason(Code.ONE_SLICE_SERIES, text))
        return found


def _single_slice_look(entry: SeriesEntry) -> tuple[object, ...] | None:
    """Return what makes single-slice series look alike; None where the series is no single slice with a place."""
    frames = entry.frames
    if len(frames) != 1 or not entry.plans or not entry.plans[0].volume.geometry.has_position:
        return None
    if entry.plans[0].volume.kind == "localizer":
        return None
    texts = (frames.texts[name][0] for name in ("patient_id", "study_uid", "modality", "description", "image_type"))
    names = ("row_x", "row_y", "row_z", "column_x", "column_y", "column_z")
    directions = np.array([frames.numbers[name][0] for name in names])
    matrix = (float(frames.numbers[name][0]) for name in ("rows", "columns"))
    return (*texts, *np.round(directions, 3).tolist(), *matrix)


def _position(entry: SeriesEntry) -> Floats:
    position: Floats = entry.frames.vectors("position_x", "position_y", "position_z")[0]
    return position


def uid_warnings(table: pa.Table, left_out: Container[str]) -> Iterator[str]:
    """Say once, with counts, what the reasons of the volumes say about the UIDs of the whole."""
    single, reused, studies = 0, 0, set()
    for batch in table.select(["volume", "reasons"]).to_batches(max_chunksize=1 << 14):
        for path, text in zip(*(column.to_pylist() for column in batch.columns), strict=True):
            codes = text.split(";") if text else ()
            if codes and path not in left_out:
                reused += Code.UID_REUSED in codes
                if Code.ONE_SLICE_SERIES in codes:
                    single += 1
                    studies.add(path.partition("/")[0])
    if single:
        yield (
            f"{single} single-slice series of {len(studies)} {'study' if len(studies) == 1 else 'studies'} look like "
            f"one series that was taken apart; they are not merged ({Code.ONE_SLICE_SERIES})"
        )
    if reused:
        yield (
            f"{reused} {'volume holds' if reused == 1 else 'volumes hold'} images whose SOP Instance UID another "
            f"series has too; every series is converted on its own ({Code.UID_REUSED})"
        )
