"""All shared data in one conversion, against five independent readers; the page says the same."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import pytest

from benchmarks.child import Child
from scripts import conformance

DATA = Path(os.environ["FASTDCM_DATA"])


@pytest.mark.timeout(600)
def test_nothing_differs_that_the_standard_does_not_explain(tmp_path: Path) -> None:
    with Child() as child:
        found, outcomes = conformance.judge(DATA, tmp_path, child)
    assert conformance.faults_of(found) == []
    equal = Counter(finding.reference for finding in found if finding.verdict == "equal")
    assert equal["pydicom"] > 2500
    assert equal["SimpleITK"] > 45
    assert equal["dcm2niix"] > 50
    assert equal["highdicom"] > 35
    assert conformance.source_section("shared data", found, outcomes) in conformance.PAGE.read_text()
