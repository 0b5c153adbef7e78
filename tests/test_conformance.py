"""Every DICOM file that pydicom and pydicom-data install, in one conversion, against pydicom and SimpleITK."""

from __future__ import annotations

from pathlib import Path

import data_store
import pydicom
import pytest

import fastdcm
from scripts import conformance

SOURCES = [Path(pydicom.__file__).parent / "data", Path(data_store.__file__).parent]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("installed") / "out.zarr"
    report = fastdcm.convert([str(source) for source in SOURCES], str(target))
    assert report.exit_code == 1  # broken files are among them, on purpose
    return target


def test_every_frame_equals_pydicoms(store: Path) -> None:
    tally = conformance.check_frames(store, SOURCES)
    assert tally.counts["different"] == 0, tally.disagreements
    assert tally.counts["equal"] > 90


def test_volumes_that_simpleitk_reads_rightly_equal_its(store: Path) -> None:
    tally = conformance.check_simpleitk(store, SOURCES)
    assert tally.counts["different"] == 0, tally.disagreements


def test_only_conflicts_are_withheld_of_what_pydicom_decodes(store: Path) -> None:
    tally = conformance.check_left_out(store, SOURCES)
    assert [line for line in tally.disagreements if "conflict/" not in line] == []
