"""Every frame of the shared real files is what pydicom makes of it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.pixels.reference import both, difference

DATA = Path(os.environ["FASTDCM_DATA"])
FOLDERS = sorted(path for path in DATA.iterdir() if path.is_dir() and not path.name.startswith("_"))


def is_dicom(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM"


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_every_frame_is_what_pydicom_decodes(folder: Path) -> None:
    compared = 0
    for path in sorted(folder.rglob("*")):
        case = both(path) if path.is_file() and is_dicom(path) else None
        if case is None or case.reference is None:
            continue
        assert case.faults == (), path
        assert difference(case) <= case.tolerance, path
        compared += 1
    assert compared or not any(is_dicom(path) for path in folder.rglob("*.dcm") if path.stat().st_size > 132)
