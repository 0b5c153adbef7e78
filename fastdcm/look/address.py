"""What a user points at: a file, a folder, one series of a folder, one volume of a store.

Written ``PATH`` or ``PATH#WHICH``. WHICH is a Series Instance UID or the end of one, with ``/n`` for the n-th volume of
the series, or an SQL expression over the columns of ``scan``: ``export#kernel == 'LUNG' and slices > 100``.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from fastdcm.errors import Outcome, UsageError
from fastdcm.look.terminal import clean, count_text, mm_text
from fastdcm.model import Index
from fastdcm.objects import is_url
from fastdcm.run.progress import Callback, silent
from fastdcm.series.names import safe_uid

if TYPE_CHECKING:
    import pyarrow as pa

    from fastdcm.run.execute import Engine
    from fastdcm.run.series import SeriesEntry
    from fastdcm.run.survey import SeriesMap

LISTED = 20
"""Series or volumes that a message lists before it counts the rest."""
_UID_END = re.compile(r"([0-9.]+|x-[0-9a-f]{16})(?:/(\d+))?")
"""The end of a UID, or the name that ``safe_uid`` gives to what is no UID, as ``scan`` and ``ls`` print it."""


class Address(NamedTuple):
    """A place on disk, and what of it."""

    path: str
    which: str | None
    """A UID or the end of one, or an expression; None is all that is there."""


@dataclass(frozen=True, slots=True, eq=False)
class SeriesFiles:
    """The files of one series: of images, or of anything else that has a Series Instance UID."""

    index: Index
    """Of all files that were scanned."""
    rows: tuple[int, ...]
    """Rows of ``index.instances``."""
    uid: str
    """Series Instance UID, empty where there is none."""


def parse_address(text: str | os.PathLike[str]) -> Address:
    """Split ``PATH#WHICH``; a ``#`` within an existing path belongs to the path.

    Raises
    ------
    UsageError
        There is no such file or folder.
    """
    whole = os.fspath(text)
    if is_url(whole):
        url, _, which = whole.partition("#")
        return Address(url, which.strip() or None)
    places = [len(whole), *(match.start() for match in re.finditer("#", whole))]
    for place in places:
        if os.path.lexists(whole[:place]):
            return Address(whole[:place], whole[place + 1 :].strip() or None)
    raise UsageError(f"no such file or folder: {whole.partition('#')[0]!r}")


def choose_series(found: SeriesMap, which: str | None) -> SeriesEntry:
    """Return the one series of a map that is meant.

    Parameters
    ----------
    found : SeriesMap
        What a scan found.
    which : str or None
        A Series Instance UID, the end of one, or an SQL expression over the columns of ``scan``; None where there is
        only one series.

    Raises
    ------
    UsageError
        None or several fit; the message lists what there is.
    """
    entries = list(found.series)
    uids = [safe_uid(entry.frames.texts["series_uid"][0]) for entry in entries]
    uid = None if which is None else _UID_END.fullmatch(which)
    if which is None:
        chosen = list(range(len(entries)))
    elif uid is not None:
        chosen = _ending(uids, uid[1])
    else:
        paths = {found.table["volume"][row].as_py() for row in _fitting(found.table, which)}
        chosen = [n for n, entry in enumerate(entries) if any(plan.path in paths for plan in entry.plans)]
    if len(chosen) == 1:
        return entries[chosen[0]]
    listed = [entries[n] for n in chosen or range(len(entries))]
    owners = {
        "study": [safe_uid(entry.frames.texts["study_uid"][0]) for entry in listed],
        "patient": _patients(found.table, listed),
    }
    names = [uids[n] for n in chosen or range(len(uids))]
    lines, such = _with_owners([_series_line(entry) for entry in listed], names, owners)
    raise UsageError(_not_one("series", "series", which, len(chosen), lines, f"--series UID, {such}"))


def find_series(
    engine: Engine, sources: Sequence[str], which: str | None, progress: Callback | None = None
) -> SeriesFiles:
    """Find the files of the one series that is meant; only headers are read.

    Parameters
    ----------
    engine : Engine
        Where to read.
    sources : sequence of str
        Files and folders.
    which : str or None
        As for ``choose_series``. None takes the one series of images there is, and else the one of other objects.
    progress : callable, optional
        Called with ``Progress``.

    Raises
    ------
    UsageError
        There is no file, or none or several series fit; the message lists what there is.
    """
    from fastdcm.model import Options
    from fastdcm.run.headers import read_index
    from fastdcm.run.survey import survey_on

    progress = progress or silent
    if which is None or _UID_END.fullmatch(which):
        index = read_index(engine, sources, (), progress)
        series = _series_in(index)
        if not series:
            raise UsageError(no_series(index))
        return SeriesFiles(index, *_one_series(series, which))
    found = survey_on(engine, sources, Options(), progress=progress)
    texts = choose_series(found, which).frames.texts
    key = tuple(texts[name][0] or "" for name in _IDENTITY)
    return SeriesFiles(found.index, tuple(_series_in(found.index)[key].rows), key[-1])


class _Series(NamedTuple):
    """One series of an index, images or not."""

    line: str
    rows: list[int]
    images: list[bool]


_IDENTITY = ("patient_id", "study_uid", "series_uid")


def _series_in(index: Index) -> dict[tuple[str, ...], _Series]:
    """Return the files of an index by patient, study and series; what is no DICOM, or a directory of it, is in none."""
    names = (*_IDENTITY, "outcome", "pixel_keyword", "modality", "description")
    columns = [index.instances[name].to_pylist() for name in names]
    series: dict[tuple[str, ...], _Series] = {}
    for row, (patient, study, uid, outcome, pixels, *described) in enumerate(zip(*columns, strict=True)):
        image = outcome is None and pixels is not None
        if outcome == Outcome.NOT_DICOM or (uid is None and not image and len(index.instances) > 1):
            continue
        key = (patient or "", study or "", uid or "")
        if key not in series:
            words = [_uid_text(uid), *(clean(text) for text in described if text)]
            series[key] = _Series("  ".join(words), [], [])
        series[key].rows.append(row)
        series[key].images.append(image)
    return series


def no_series(index: Index, noun: str = "series") -> str:
    """Say that there is no series, or no volume, and why; of a single file what it is instead."""
    n = len(index.instances)
    if n != 1:
        return f"there is no {noun} in the {count_text(n, 'file')}"
    path, message = (index.instances[name][0].as_py() for name in ("path", "message"))
    return f"{clean(path)} is in no {noun}: {clean(message or 'it has no Series Instance UID')}"


def _one_series(series: Mapping[tuple[str, ...], _Series], which: str | None) -> tuple[tuple[int, ...], str]:
    """Return rows and UID of the series that is meant."""
    keys = list(series)
    uid = None if which is None else _UID_END.fullmatch(which)
    chosen = list(range(len(keys))) if uid is None else _ending([safe_uid(key[-1]) for key in keys], uid[1])
    if which is None and len(chosen) > 1:
        chosen = [n for n in chosen if any(series[keys[n]].images)] or chosen
    if len(chosen) == 1:
        key = keys[chosen[0]]
        return tuple(series[key].rows), key[-1]
    listed = [keys[n] for n in chosen or range(len(keys))]
    lines = [f"{series[key].line}  {count_text(len(series[key].rows), 'file')}" for key in listed]
    lines, such = _with_owners(lines, [key[-1] for key in listed], {"study": [safe_uid(key[-2]) for key in listed]})
    raise UsageError(_not_one("series", "series", which, len(chosen), lines, f"--series UID, PATH#UID, {such}"))


def choose_volume(table: pa.Table, which: str | None) -> int:
    """Return the row of the one volume of a catalogue that is meant.

    Parameters
    ----------
    table : pyarrow.Table
        Columns ``model.CATALOG_COLUMNS``.
    which : str or None
        As for ``choose_series``, and ``UID/n`` for the n-th volume of a series.

    Raises
    ------
    UsageError
        None or several fit; the message lists what there is.
    """
    uid = None if which is None else _UID_END.fullmatch(which)
    if which is None:
        chosen = list(range(table.num_rows))
    elif uid is not None:
        chosen = _ending([text or "" for text in table["series"].to_pylist()], uid[1])
        numbers = table["index"].to_pylist()
        chosen = [row for row in chosen if uid[2] is None or numbers[row] == int(uid[2])]
    else:
        chosen = _fitting(table, which)
    if len(chosen) == 1:
        return chosen[0]
    rows = (table.take(chosen) if chosen else table).to_pylist()
    names = [f"{row['series']}/{row['index']}" for row in rows]
    owners = {name: [row[name] for row in rows] for name in ("study", "patient")}
    lines, such = _with_owners([_volume_line(row) for row in rows], names, owners)
    raise UsageError(_not_one("volume", "volumes", which, len(chosen), lines, f"PATH#UID/n, {such}"))


def _fitting(table: pa.Table, where: str) -> list[int]:
    from fastdcm.load.query import filter_rows

    return filter_rows(table, where)


def _ending(uids: Sequence[str], end: str) -> list[int]:
    """Return the places of a UID, or else of those that end so."""
    return [n for n, uid in enumerate(uids) if uid == end] or [n for n, uid in enumerate(uids) if uid.endswith(end)]


def _not_one(noun: str, plural: str, which: str | None, n: int, lines: Sequence[str], how: str) -> str:
    there = f"{count_text(n, noun, plural)}" if n else f"no {noun}"
    fits = f"{there} fit {which!r}" if which is not None else f"there is {there}" if n < 2 else f"there are {there}"
    more = [f"  ... and {len(lines) - LISTED} more"] if len(lines) > LISTED else []
    choose = f"; choose one ({how}):" if lines else ""
    return "\n".join([fits + choose, *(f"  {line}" for line in lines[:LISTED]), *more])


def _with_owners(
    lines: Sequence[str], names: Sequence[str], owners: Mapping[str, Sequence[str]]
) -> tuple[list[str], str]:
    """Name the study or patient too where one name is there several times; return the lines, and what tells them."""
    if len(set(names)) == len(names):
        return list(lines), "or an expression such as \"kernel == 'LUNG'\""
    column = next((name for name, values in owners.items() if len(set(values)) > 1), None)
    if column is None:
        return list(lines), "or fewer files: they are of several patients"
    told = [f"{line}  {column} {clean(value)}" for line, value in zip(lines, owners[column], strict=True)]
    return told, f"or an expression such as \"{column} == '{clean(owners[column][0])}'\""


def _patients(table: pa.Table, entries: Sequence[SeriesEntry]) -> list[str]:
    """Return the patient key of each series as ``scan`` lists it, empty where the series has no volume there."""
    keys = dict(zip(table["volume"].to_pylist(), table["patient"].to_pylist(), strict=True))
    return [next((keys[plan.path] for plan in entry.plans if plan.path in keys), "") for entry in entries]


def _uid_text(uid: str | None) -> str:
    """Return what a user can copy: a UID, or the name of what is none, and what that is."""
    name = safe_uid(uid)
    return name if name == uid else f"{name} ({clean(uid) if uid else 'no UID'})"


def _series_line(entry: SeriesEntry) -> str:
    texts = entry.frames.texts
    described = (clean(texts[name][0] or "") for name in ("modality", "description"))
    files = len(set(entry.frames.instance.tolist()))
    words = [_uid_text(texts["series_uid"][0]), *filter(None, described), count_text(files, "file")]
    return "  ".join(words)


def _volume_line(row: dict[str, object]) -> str:
    words = [f"{row['series']}/{row['index']}"]
    words += [clean(row[name]) for name in ("modality", "kind", "description", "kernel") if row[name]]
    spacing_z = row["spacing_z"]
    apart = f" of {mm_text(spacing_z)} mm" if isinstance(spacing_z, float) else ""
    return "  ".join([*words, count_text(int(str(row["slices"] or 0)), "slice") + apart])
