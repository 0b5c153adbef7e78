"""What all tests share: which folders are collected, how hypothesis behaves, and one realistic export."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import settings

# Real data is an extra run: without it its tests are not even collected.
collect_ignore = [] if os.environ.get("FASTDCM_DATA") else ["data"]

# The same examples in every run, and no clock: the machine that runs the tests may be busy with other work.
settings.register_profile("fastdcm", derandomize=True, deadline=None)
settings.load_profile("fastdcm")


@pytest.fixture(scope="session")
def chest_export(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tenth of the chest export: two series of 6 slices, two of 26, a localizer; one flat folder, to be read only."""
    folder = tmp_path_factory.mktemp("chest") / "dicom"
    script = Path(__file__).parent.parent / "scripts" / "make_export.py"
    command = [sys.executable, str(script), "ct-four", str(folder), "--scale", "0.1"]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    return folder
