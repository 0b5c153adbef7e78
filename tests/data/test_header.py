"""``header`` gives what SimpleITK's reader gives on every shared real file that it can read."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fastdcm.look.header import header
from tests.look.sitk_header import allowed, has_prefix, image_differences, read, tag_differences

DATA = Path(os.environ["FASTDCM_DATA"])
FOLDERS = sorted(path for path in DATA.iterdir() if path.is_dir() and not path.name.startswith("_"))
SAMPLED = 15
"""Files of one folder: most of a series differ in little."""


def readable(folder: Path) -> list[Path]:
    """Return files that SimpleITK reads as DICOM, spread over the folder."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    found = [path for path in files[:: max(len(files) // SAMPLED, 1)] if read(path, private=False) is not None]
    return [path for path in found if has_prefix(path)]


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_tags_and_image_are_simpleitks(folder: Path) -> None:
    for path in readable(folder):
        assert tag_differences(path, private=False) == []
        assert tag_differences(path, private=True) == []
        image = header(path).image
        assert image is not None
        differs = image_differences(path)
        assert not differs or allowed(path, image, differs), (path, differs)
