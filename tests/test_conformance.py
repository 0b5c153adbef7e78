"""Every DICOM file that pydicom and pydicom-data install, against pydicom, GDCM, SimpleITK, dcm2niix and highdicom.

Each source is converted whole: files in conflict are judged by ``python -m scripts.conformance`` alone.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from benchmarks.child import Child
from benchmarks.explanations import EXPLANATIONS
from benchmarks.judged import Finding
from benchmarks.reference_frames import check_left_out
from scripts import conformance


@pytest.mark.parametrize("name", conformance.installed())
def test_nothing_differs_that_the_standard_does_not_explain(name: str, tmp_path: Path) -> None:
    source = conformance.installed()[name]
    judged = conformance.convert([source], tmp_path / "out.zarr", source)
    with Child() as child:
        found = list(conformance.compare(judged, child))
    found += [finding for finding in check_left_out(judged) if "conflict" not in finding.text]
    _, unexplained = conformance.explain(found)
    assert unexplained == []
    equal = Counter(finding.reference for finding in found if finding.verdict == "equal")
    assert equal["pydicom"] > 20
    assert equal["GDCM"] > 20
    assert equal["SimpleITK"] > 10


def test_a_difference_without_explanation_is_told() -> None:
    known = Finding("SimpleITK", "2d", "Explicit LE", "differs", "data/RG1_UNCR.dcm", "values up to 31019 apart")
    other = known._replace(file="data/CT_small.dcm")
    explained, unexplained = conformance.explain([known, other, other._replace(verdict="equal")])
    assert list(explained.values()) == [[known]]
    assert unexplained == [other]


def test_the_page_names_every_source_and_every_explanation() -> None:
    page = conformance.PAGE.read_text()
    for name in (*conformance.installed(), "shared data", "Other encoders"):
        assert f"## {name}\n" in page
    for known in EXPLANATIONS:
        assert known.why in page, known
