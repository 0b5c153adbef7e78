"""All shared data in one conversion, against pydicom and SimpleITK."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import fastdcm
from scripts import conformance

SOURCES = [Path(os.environ["FASTDCM_DATA"])]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("shared") / "out.zarr"
    fastdcm.convert([str(source) for source in SOURCES], str(target))
    return target


def test_every_frame_equals_pydicoms(store: Path) -> None:
    tally = conformance.check_frames(store, SOURCES)
    assert tally.counts["different"] == 0, tally.disagreements
    assert tally.counts["equal"] > 2000


def test_volumes_that_simpleitk_reads_rightly_equal_its(store: Path) -> None:
    tally = conformance.check_simpleitk(store, SOURCES)
    assert tally.counts["different"] == 0, tally.disagreements
    assert tally.counts["equal"] > 15


def test_only_whole_slides_are_left_out_of_what_pydicom_decodes(store: Path) -> None:
    tally = conformance.check_left_out(store, SOURCES)
    assert [line for line in tally.disagreements if "unsupported-wsi" not in line] == []
