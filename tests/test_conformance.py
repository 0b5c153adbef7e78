"""Every DICOM file that pydicom and pydicom-data install, against pydicom, GDCM, SimpleITK, dcm2niix and highdicom.

Files in conflict and the longest cine are judged by ``python -m scripts.conformance`` alone.
"""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import zarr

from benchmarks import encoders
from benchmarks.child import Child
from benchmarks.explanations import EXPLANATIONS, Explanation
from benchmarks.judged import Finding
from benchmarks.reference_frames import check_left_out
from scripts import conformance
from tests import dicomgen

LONG = ("color3d_jpeg_baseline.dcm",)


@pytest.mark.parametrize("name", conformance.installed())
def test_nothing_differs_that_the_standard_does_not_explain(name: str, tmp_path: Path) -> None:
    source = conformance.installed()[name]
    sources = [path for path in sorted(source.rglob("*")) if path.is_file() and path.name not in LONG]
    judged = conformance.convert(sources, tmp_path / "out.zarr", source)
    with Child() as child:
        found = list(conformance.compare(judged, child))
    found += [finding for finding in check_left_out(judged) if "conflict" not in finding.text]
    assert conformance.faults_of(found) == []
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


KNOWN = Finding("SimpleITK", "2d", "Explicit LE", "differs", "data/RG1_UNCR.dcm", "values up to 31019 apart", "v")


def _frame(reference: str, verdict: str, z: int = 0) -> Finding:
    text = "differs by up to 7" if verdict == "differs" else ""
    return KNOWN._replace(reference=reference, verdict=verdict, text=text, cell=(0, 0, z))


@pytest.mark.parametrize(
    ("others", "borne_out"),
    [
        ([_frame("pydicom", "equal")], True),
        ([_frame("GDCM", "equal")], False),  # SimpleITK reads by GDCM: the same witness twice
        ([_frame("pydicom", "equal"), _frame("pydicom", "refused", z=1)], False),
        ([_frame("pydicom", "equal")._replace(volume="another")], False),
        ([_frame("pydicom", "refused"), KNOWN._replace(reference="dcm2niix", verdict="equal")], True),
        ([], False),
    ],
)
def test_a_pattern_hides_nothing_that_no_other_reference_bears_out(others: list[Finding], borne_out: bool) -> None:
    found = [KNOWN, *others]
    assert conformance.explain(found)[1] == []
    assert bool(conformance.faults_of(found)) is not borne_out


def test_of_places_the_frames_say_nothing() -> None:
    grids = KNOWN._replace(reference="dcm2niix", file="data/jpeg2000-multiframe-multifragments.dcm")
    grids = grids._replace(text="reaches outside by 2 voxels: shape (1, 1, 3) against (1, 1, 1)")
    assert conformance.explain([grids])[1] == []
    assert conformance.faults_of([grids, _frame("pydicom", "equal")])
    assert not conformance.faults_of([grids, KNOWN._replace(reference="highdicom", verdict="equal")])


def test_exact_numbers_are_of_one_difference_alone() -> None:
    one = KNOWN._replace(file="a/gantrytilting/001/a.dcm", text="slices up to 3.63 mm apart")
    assert conformance.faults_of([one]) == []
    for text in ("slices up to 3.64 mm apart", "slices up to 3.63 mm apart; values up to 2 apart"):
        (line,) = conformance.faults_of([one._replace(text=text)])
        assert line.startswith("not explained: SimpleITK differs")


def test_a_planted_wrong_value_under_a_broad_pattern_makes_the_script_fail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A MONOCHROME1 image, which SimpleITK turns over, and one value of the store that is changed."""
    dicomgen.monochrome1(tmp_path / "in")
    judged = conformance.convert([tmp_path / "in"], tmp_path / "out.zarr", tmp_path)
    broad = tuple(Explanation(name, ("*",), "*", "as broad as can be") for name in conformance.REFERENCES)
    monkeypatch.setattr(conformance, "EXPLANATIONS", broad)
    monkeypatch.setattr(conformance, "installed", dict)
    monkeypatch.setattr(conformance, "PAGE", tmp_path / "page.md")
    monkeypatch.setattr(conformance, "check_references", lambda _: [])
    monkeypatch.setattr(conformance, "judge", lambda *given: (list(conformance.compare(judged, given[2])), Counter()))
    monkeypatch.setattr(encoders, "encoders_section", lambda _: ("", []))
    monkeypatch.setenv("FASTDCM_DATA", str(tmp_path))
    monkeypatch.setattr(sys, "argv", ["conformance"])
    assert conformance.main() == 0
    assert "as broad as can be" in conformance.PAGE.read_text()
    (volume,) = judged.catalog
    array: Any = zarr.open_array(judged.store / volume / "0" / "image", mode="r+")
    array[..., 0, 0] = array[..., 0, 0] + 1
    assert conformance.main() == 1
    assert "nothing bears it out: pydicom differs" in capsys.readouterr().err


def test_the_page_names_every_source_and_every_explanation() -> None:
    page = conformance.PAGE.read_text()
    for name in (*conformance.installed(), "shared data", "Other encoders"):
        assert f"## {name}\n" in page
    for known in EXPLANATIONS:
        assert known.why in page, known
