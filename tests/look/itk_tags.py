"""The tags of a series as SimpleITK's MetaDataDictionaryArray has them, and where fastdcm's differ."""

from __future__ import annotations

from collections.abc import Sequence

import SimpleITK as sitk

from fastdcm.look.tags import Tags

PIXELS = "7fe0|0008"


def itk_values(paths: Sequence[str]) -> dict[str, list[str | None]]:
    """Return each slice's value of each key, None where a slice lacks it."""
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(list(paths))
    reader.MetaDataDictionaryArrayUpdateOn()
    reader.LoadPrivateTagsOn()
    reader.Execute()
    numbers = range(len(paths))
    keys = sorted({key for n in numbers for key in reader.GetMetaDataKeys(n)})
    return {
        key: [reader.GetMetaData(n, key) if reader.HasMetaDataKey(n, key) else None for n in numbers]
        for key in keys
        if "|" in key and key < PIXELS
    }


def disagreements(found: Tags, paths: Sequence[str]) -> list[str]:
    """Return what differs, one text a key; sequences are not in SimpleITK's dictionaries."""
    theirs = itk_values(paths)
    ours = {row.tag: row for row in found.rows if row.vr != "SQ" and "[" not in row.tag}
    wrong = [f"{key} only in one of them" for key in sorted(ours.keys() ^ theirs.keys())]
    for key in sorted(ours.keys() & theirs.keys()):
        row, values = ours[key], theirs[key]
        there = [value for value in values if value is not None]
        counts = (len(set(there)), len(values) - len(there))
        if counts != (row.n_distinct, row.n_missing):
            wrong.append(
                f"{key} {row.vr} {(row.n_distinct, row.n_missing)} {counts} {row.examples} {sorted(there)[:5]}"
            )
        if row.value is not None and not _alike(row.value, there[0], row.vr):
            wrong.append(f"{key} {row.vr} {row.value!r} {there[0]!r}")
    return wrong


def _alike(ours: str, theirs: str, vr: str) -> bool:
    if vr in ("FL", "FD"):
        pairs = zip(ours.split("\\"), theirs.split("\\"), strict=True)
        return all(abs(float(a) - float(b)) <= 1e-5 * abs(float(a)) for a, b in pairs)
    if ours.endswith("…"):  # very long ones are cut
        return ours[:80_000] == theirs[:80_000]
    return [part.strip() for part in ours.split("\\")] == [part.strip(" \0") for part in theirs.split("\\")]
