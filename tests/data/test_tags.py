"""Tags of the shared real series equal SimpleITK's."""

from __future__ import annotations

import os
from collections.abc import Iterator

import SimpleITK as sitk

import fastdcm
from fastdcm.errors import UsageError
from tests.look.itk_tags import disagreements


def series() -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield folder and files of what SimpleITK takes for a series of three and more."""
    for root, _, names in os.walk(os.environ["FASTDCM_DATA"]):
        try:
            uids = sitk.ImageSeriesReader.GetGDCMSeriesIDs(root) if len(names) > 2 else ()
        except RuntimeError:  # a file there that it cannot bear
            continue
        for uid in uids:
            paths = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(root, uid)
            if len(paths) > 2:
                yield os.path.basename(root), paths


def test_series_of_real_scanners_equal_simpleitk() -> None:
    wrong: list[str] = []
    several: list[str] = []
    checked = 0
    for folder, paths in series():
        try:
            found = fastdcm.tags(list(paths), private=True)
        except UsageError as error:
            several.append(str(error))  # one Series Instance UID in several studies
            continue
        checked += 1
        wrong += [f"{folder} {text}" for text in disagreements(found, paths)]
    assert all(text.startswith("there are ") for text in several)
    assert checked > 3
    assert wrong == []
