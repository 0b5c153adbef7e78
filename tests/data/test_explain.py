"""``explain`` on all shared data: every volume of several says what keeps it apart, and every file is told."""

from __future__ import annotations

import json
import os

import pytest
from rich.cells import cell_len

import fastdcm
from fastdcm.look.explain import Explanation, explain, explain_series, explanation_lines
from fastdcm.look.left_out import decided_by_scan

SOURCE = os.environ["FASTDCM_DATA"]


@pytest.fixture(scope="module")
def explanations() -> list[Explanation]:
    found = fastdcm.scan(SOURCE, workers=2)
    decided = decided_by_scan(found.index)
    return [explain_series(entry, decided, "fail", fastdcm.Tolerances()) for entry in found.series]


def test_every_volume_of_several_says_why(explanations: list[Explanation]) -> None:
    several = [found for found in explanations if len(found.volumes) > 1]
    assert several
    for found in several:
        for volume in found.volumes:
            assert volume.splits, (found.series, volume.title)
            assert all(len(sentence.text) > 20 for sentence in volume.splits)


def test_every_file_of_a_series_is_told(explanations: list[Explanation]) -> None:
    for found in explanations:
        files = sum(volume.files for volume in found.volumes) + sum(one.files for one in found.left_out)
        assert files >= found.files  # a multi-frame file may be in several volumes
        assert all(volume.sentences for volume in found.volumes)


@pytest.mark.parametrize("width", [80, 160])
def test_lines_fit(width: int, explanations: list[Explanation]) -> None:
    for found in explanations:
        lines = [line.plain for line in explanation_lines(found, width)]
        assert max(map(cell_len, lines)) <= width
        assert all(line.isprintable() for line in lines)
        json.dumps(found.as_json(), allow_nan=False)


def test_all_series_are_listed() -> None:
    listed = explain(SOURCE, workers=2)
    assert listed.series is None
    assert sum(one.files for one in listed.listed) + sum(one.files for one in listed.left_out) == listed.files
    assert max(cell_len(line.plain) for line in explanation_lines(listed, 80)) <= 80
