"""The real files that pydicom and pydicom-data install; nothing is ever downloaded."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import data_store  # of pydicom-data
import pydicom.data


@cache
def local_folders() -> tuple[str, ...]:
    """Folders with about 240 files of all kinds, most of them DICOM."""
    return (str(Path(pydicom.data.__file__).parent / "test_files"), data_store.__path__[0])
