"""Why a series became its volumes: what split it, what was dropped or flagged, and the option that changes it.

``explain`` reads headers only. It compares the volumes' own key values (``split_text``), describes each volume
(``volume_text``), and counts the files that are in none, so that every file of the series is accounted for.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from fastdcm.errors import Code
from fastdcm.look.address import choose_series
from fastdcm.look.explain_lines import explanation_lines as explanation_lines
from fastdcm.look.left_out import (
    DecidedByScan,
    LeftOut,
    SeriesKey,
    beside_images,
    decided_by_scan,
    gone_files,
    key_of,
    tally,
    without_images,
)
from fastdcm.look.referrers import ClassCounts, referrers_of
from fastdcm.look.split_text import split_differences
from fastdcm.look.terminal import count_text
from fastdcm.look.volume_text import Sentence, sentence_of, volume_sentences, volume_title
from fastdcm.model import Json, Tolerances, VolumePlan

if TYPE_CHECKING:
    from fastdcm.run.progress import Callback
    from fastdcm.run.series import SeriesEntry
    from fastdcm.run.survey import SeriesMap

Source = str | os.PathLike[str]


@dataclass(frozen=True, slots=True)
class ExplainedVolume:
    """One volume and why it is what it is."""

    index: int
    """Its number within the series."""
    path: str
    """Below a store."""
    kind: str
    title: str
    files: int
    sentences: tuple[Sentence, ...]

    @property
    def splits(self) -> tuple[Sentence, ...]:
        """What keeps it apart from the other volumes of the series."""
        return tuple(sentence for sentence in self.sentences if sentence.topic == "split")


@dataclass(frozen=True, slots=True)
class ListedSeries:
    """One series of several."""

    series: str
    modality: str
    description: str
    files: int
    volumes: int
    flags: tuple[str, ...]
    """Reason codes of its volumes; for a series without an image what it is."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a series became its volumes, or which series there are."""

    series: str | None
    """Series Instance UID; None where there are several to choose from."""
    modality: str
    description: str
    files: int
    frames: int
    volumes: tuple[ExplainedVolume, ...]
    left_out: tuple[LeftOut, ...]
    listed: tuple[ListedSeries, ...] = ()
    """All series, where none was chosen."""
    referred_by: ClassCounts = ()
    """What is about the series: reports, structure sets, segmentations ... by class."""

    def as_json(self) -> Json:
        """Return everything as plain values."""
        document = asdict(self)
        for volume, own in zip(document["volumes"], self.volumes, strict=True):
            volume["sentences"] = [sentence._asdict() for sentence in own.sentences]
        return document


def explain(
    sources: Source | Sequence[Source],
    *,
    series: str | None = None,
    on_gap: Literal["irregular", "fill", "split", "fail"] = "irregular",
    on_bad_frame: Literal["fail", "drop", "fill"] = "fail",
    tolerances: Tolerances | None = None,
    workers: int | None = None,
    progress: Callback | None = None,
) -> Explanation:
    """Say why a series became its volumes; reads headers only.

    Parameters
    ----------
    sources : path or sequence of path
        Files and folders; folders are walked.
    series : str, optional
        A Series Instance UID, the end of one, or an SQL expression over the columns of ``scan``. Without it the only
        series is explained; where there are several, they are listed.
    on_gap, on_bad_frame, tolerances, workers, progress
        As in ``fastdcm.convert``.

    Returns
    -------
    Explanation
        ``volumes`` with their sentences, and ``left_out``: every other file of the series. Lengths are mm.

    Raises
    ------
    UsageError
        There is no file at all, or ``series`` fits none or several.

    Examples
    --------
    >>> import fastdcm
    >>> found = fastdcm.explain("export", series="kernel == 'LUNG' and spacing_z < 2")
    >>> for volume in found.volumes:
    ...     print(volume.title)
    CT volume: 26 slices of 512 x 512, 0.75 x 0.781 x 1.25 mm
    """
    from fastdcm.run.survey import scan

    found = scan(
        sources,
        on_gap=on_gap,
        on_bad_frame=on_bad_frame,
        tolerances=tolerances,
        workers=workers,
        progress=progress,
    )
    decided = decided_by_scan(found.index)
    imageless = without_images(found, decided)
    if series is None and len(found.series) + len(imageless) != 1:
        return _list_series(found, decided, imageless)
    chosen = _imageless_series(imageless, series, found)
    if chosen is not None:
        return _explain_imageless(chosen, imageless[chosen])
    entry = choose_series(found, series)
    explained = explain_series(entry, decided, on_bad_frame, tolerances or Tolerances())
    return replace(explained, referred_by=referrers_of(found.index, key_of(entry.frames)[2]))


# ---------------------------------------------------------------------------- one series


def explain_series(
    entry: SeriesEntry, decided: Sequence[DecidedByScan], on_bad_frame: str, tolerances: Tolerances
) -> Explanation:
    """Explain one series of a map.

    Parameters
    ----------
    entry : SeriesEntry
        The series, planned.
    decided : sequence of DecidedByScan
        What the scan decided of all files.
    on_bad_frame : {"fail", "drop", "fill"}
        With ``fail`` a volume with a frame that cannot be used is withheld.
    tolerances : Tolerances
        When two values are equal.
    """
    frames = entry.frames
    files = len(np.unique(frames.instance))
    withheld = _withheld(entry) if on_bad_frame == "fail" else {}
    others = [one.gone for one in beside_images(decided, [entry])]
    volumes = _volumes(entry, withheld, tolerances)
    return Explanation(
        series=key_of(frames)[2],
        modality=frames.texts["modality"][0] or "",
        description=frames.texts["description"][0] or "",
        files=files + len(others),
        frames=len(frames),
        volumes=tuple(sorted(volumes, key=lambda volume: volume.index)),
        left_out=tally([*gone_files(entry, set(withheld)), *others]),
    )


def _volumes(
    entry: SeriesEntry, withheld: Mapping[int, Sequence[Sentence]], tolerances: Tolerances
) -> Iterator[ExplainedVolume]:
    from fastdcm.series.catalog import catalog_row

    numbers = [_number(plan) for plan in entry.plans]
    splits = split_differences(entry.frames, entry.grouping.volumes, numbers, tolerances)
    for place, plan in enumerate(entry.plans):
        row = catalog_row(plan)
        kind, *described = volume_sentences(plan, row)
        split = [sentence_of("split", *difference) for difference in splits[place]]
        yield ExplainedVolume(
            index=numbers[place],
            path=plan.path,
            kind=plan.volume.kind,
            title=volume_title(plan, row),
            files=row["files"],
            sentences=(*withheld.get(place, ()), kind, *split, *described),
        )


def _number(plan: VolumePlan) -> int:
    return int(plan.path.rpartition("/")[2].partition(".")[0])


def _withheld(entry: SeriesEntry) -> dict[int, tuple[Sentence, ...]]:
    """Return the volumes that hold a frame that cannot be used, by place: none of these is converted."""
    found: dict[int, tuple[Sentence, ...]] = {}
    for place, volume in enumerate(entry.grouping.volumes):
        rows = [row for row in volume.cells[volume.cells >= 0].tolist() if row in entry.bad]
        if rows:
            files = len({int(entry.frames.instance[row]) for row in rows})
            note = entry.bad[rows[0]]
            text = (
                f"It is not converted: {count_text(files, 'file')} of it cannot be used ({note.code}: {note.message})."
            )
            found[place] = (sentence_of("withheld", Code(note.code), text),)
    return found


# ---------------------------------------------------------------------------- series without images, and lists


def _imageless_series(
    imageless: Mapping[SeriesKey, Sequence[DecidedByScan]], which: str | None, found: SeriesMap
) -> SeriesKey | None:
    """Return the series without images that is meant: the only one there is, or the one whose UID ends so."""
    if which is None:
        return next(iter(imageless), None)
    if not re.fullmatch(r"[0-9.]+", which) or any(key_of(entry.frames)[2].endswith(which) for entry in found.series):
        return None
    keys = [key for key in imageless if key[2] == which] or [key for key in imageless if key[2].endswith(which)]
    return keys[0] if len(keys) == 1 else None


def _explain_imageless(key: SeriesKey, members: Sequence[DecidedByScan]) -> Explanation:
    return Explanation(
        series=key[2],
        modality=members[0].modality,
        description=members[0].description,
        files=len(members),
        frames=0,
        volumes=(),
        left_out=tally(one.gone for one in members),
    )


def _list_series(
    found: SeriesMap, decided: Sequence[DecidedByScan], imageless: Mapping[SeriesKey, Sequence[DecidedByScan]]
) -> Explanation:
    beside = Counter(one.key for one in beside_images(decided, found.series))
    listed = [_listed_entry(entry, beside[key_of(entry.frames)]) for entry in found.series]
    for (_, _, uid), members in imageless.items():
        what = tuple(dict.fromkeys(one.gone.message or one.gone.outcome for one in members))
        listed.append(ListedSeries(uid, members[0].modality, members[0].description, len(members), 0, what))
    return Explanation(
        series=None,
        modality="",
        description="",
        files=found.index.instances.num_rows,
        frames=sum(len(entry.frames) for entry in found.series),
        volumes=(),
        left_out=tally(one.gone for one in decided if not one.key[2]),
        listed=tuple(listed),
    )


def _listed_entry(entry: SeriesEntry, beside: int) -> ListedSeries:
    texts = entry.frames.texts
    codes = dict.fromkeys(reason.code.value for plan in entry.plans for reason in plan.reasons)
    modality, description, uid = (texts[name][0] or "" for name in ("modality", "description", "series_uid"))
    files = len(np.unique(entry.frames.instance)) + beside
    return ListedSeries(uid, modality, description, files, len(entry.plans), tuple(codes))
