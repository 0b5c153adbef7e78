"""The tags of a series against SimpleITK's MetaDataDictionaryArray, and against what the test wrote."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import SimpleITK as sitk
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRBigEndian, ImplicitVRLittleEndian
from rich.cells import cell_len

import fastdcm
from fastdcm.errors import UsageError
from fastdcm.look.tags import TagRow, Tags, tags_lines
from fastdcm.run import series_tags
from scripts.make_export import main as make_export
from tests.dicomgen import make_enhanced, make_series, make_sr, mixed_folder, two_phases
from tests.look.itk_tags import disagreements


def rows_of(tags: Tags) -> dict[str, TagRow]:
    return {row.keyword or row.tag: row for row in tags.rows}


def no_pixel_needed(_: int, dataset: Dataset) -> None:
    dataset.OperatorsName = "Größe^Jürgen"
    dataset.SpecificCharacterSet = "ISO_IR 100"


def vary(k: int, dataset: Dataset) -> None:
    """Give a slice tags of many kinds that vary in different ways."""
    dataset.XRayTubeCurrent = str(300 + k % 3)
    dataset.ContentTime = f"10150{k}"
    dataset.ProtocolName = ("b", "a", "c", "b", "d")[k]
    dataset.AcquisitionTime = "noon" if k == 3 else f"10150{k}"
    dataset.TriggerTime = "12.50 " if k % 2 else "12.50"
    if k != 2:
        dataset.AcquisitionNumber = 7
    if k < 2:
        dataset.ImageComments = f"seen by {k}"
    item = Dataset()
    item.ScheduledProcedureStepID = f"S{k // 3}"
    item.RequestedProcedureID = "R1"
    dataset.RequestAttributesSequence = [item]
    block = dataset.private_block(0x0019, "GEMS_ACQU_01", create=True)
    block.add_new(0x02, "SL", 912 + k)
    block.add_new(0x0F, "DS", "1.5")
    block.add_new(0x99, "UN", bytes([k, 1, 2, 3]))
    dataset.add_new(0x00189074 + 0, "DT", "20240102101112")
    dataset.add_new(0x00189087, "FD", 0.1 * k)
    dataset.add_new(0x00720026, "AT", [0x00180050, 0x00200013])


@pytest.fixture(scope="module")
def export(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("four") / "export"
    make_export(["ct-four", str(folder), "--scale", "0.1"])
    return folder


def test_every_series_of_a_ct_equals_simpleitk(export: Path) -> None:
    folders = {path.parent for path in export.rglob("*") if path.is_file()}
    checked = 0
    for folder in folders:
        for uid in sitk.ImageSeriesReader.GetGDCMSeriesIDs(str(folder)):
            paths = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder), uid)
            found = fastdcm.tags(export, series=uid, private=True)
            assert found.n_files == len(paths)
            assert disagreements(found, paths) == []
            assert any(not row.constant for row in found.rows) == (len(paths) > 1)
            checked += len(paths)
    assert checked >= 60


@pytest.mark.parametrize("syntax", [None, ImplicitVRLittleEndian, ExplicitVRBigEndian])
def test_made_series_equal_simpleitk(tmp_path: Path, syntax: str | None) -> None:
    how = {} if syntax is None else {"transfer_syntax": syntax}
    made = make_series(tmp_path / "in", n=5, edit=vary, **how)  # type: ignore[arg-type]
    found = fastdcm.tags(tmp_path / "in", private=True)
    names = [str(path) for path in made.paths]
    assert disagreements(found, names) == []


def test_constant_and_varying(tmp_path: Path) -> None:
    make_series(tmp_path / "in", n=5, edit=vary)
    found = fastdcm.tags(tmp_path / "in")
    rows = rows_of(found)
    assert found.n_files == 5
    assert not any(int(row.tag[:4], 16) & 1 for row in found.rows)
    current = rows["XRayTubeCurrent"]
    assert (current.tag, current.name, current.vr) == ("0018|1151", "X-Ray Tube Current", "IS")
    assert (current.constant, current.value, current.n_distinct, current.n_missing) == (False, None, 3, 0)
    assert current.examples == ("300", "302")
    assert current.text == "3 values, 300 .. 302"
    kernel = rows["ConvolutionKernel"]
    assert (kernel.constant, kernel.value, kernel.n_distinct, kernel.text) == (True, "STANDARD", 1, "STANDARD")
    assert rows["TriggerTime"].constant  # padded in two ways
    protocol = rows["ProtocolName"]
    assert (protocol.n_distinct, protocol.examples) == (4, ("b", "a", "c", "d"))  # by slice
    partly = rows["AcquisitionNumber"]
    assert (partly.constant, partly.n_distinct, partly.n_missing) == (False, 1, 1)
    assert partly.text == "7, absent in 1 file"
    times = ("101500", "101501", "101502", "noon", "101504")  # one cannot be ordered
    assert rows["AcquisitionTime"].examples == times
    assert rows["ImageComments"].text == "2 values, absent in 3 files: seen by 0, seen by 1"
    assert rows["ImagePositionPatient"].text == r"5 values, …\-431 .. …\-421"


def test_sequences_count_as_a_whole_and_by_what_varies_in_them(tmp_path: Path) -> None:
    make_series(tmp_path / "in", n=5, edit=vary)
    rows = rows_of(fastdcm.tags(tmp_path / "in"))
    whole = rows["RequestAttributesSequence"]
    assert (whole.vr, whole.constant, whole.n_distinct, whole.examples[0]) == ("SQ", False, 2, "1 item")
    inside = rows["RequestAttributesSequence[0].ScheduledProcedureStepID"]
    assert (inside.tag, inside.n_distinct) == ("0040|0275[0].0040|0009", 2)
    assert "RequestAttributesSequence[0].RequestedProcedureID" not in rows


def test_private_elements_have_the_names_of_their_creators(tmp_path: Path) -> None:
    make_series(tmp_path / "in", n=5, edit=vary)
    rows = {row.tag: row for row in fastdcm.tags(tmp_path / "in", private=True).rows}
    assert rows["0019|0010"].name == "Private Creator"
    assert rows["0019|1002"].name == "Detector Channel"
    assert rows["0019|1002"].text == "5 values, 912 .. 916"
    assert rows["0019|1099"].n_distinct == 5


def test_implicit_private_elements_have_the_vr_of_their_creators(tmp_path: Path) -> None:
    make_series(tmp_path / "in", n=3, edit=vary, transfer_syntax=ImplicitVRLittleEndian)
    rows = {row.tag: row for row in fastdcm.tags(tmp_path / "in", private=True).rows}
    assert (rows["0019|1002"].vr, rows["0019|1002"].text) == ("SL", "3 values, 912 .. 914")


def test_padding_is_no_difference_but_different_numbers_are(tmp_path: Path) -> None:
    """SimpleITK keeps blanks at the end, and prints floating point numbers with few digits: limits of its counts."""

    def edit(k: int, dataset: Dataset) -> None:
        dataset.StationName = "ST1"
        dataset.add_new(0x00189087, "FD", 1000 + 1e-9 * k)

    made = make_series(tmp_path / "in", n=2, edit=edit)
    raw = made.paths[1].read_bytes()
    assert raw.count(b"SH\4\0ST1 ") == 1
    made.paths[1].write_bytes(raw.replace(b"SH\4\0ST1 ", b"SH\4\0 ST1"))
    rows = rows_of(fastdcm.tags(tmp_path / "in"))
    assert rows["StationName"].value == "ST1"
    assert rows["DiffusionBValue"].n_distinct == 2
    found = fastdcm.tags(tmp_path / "in", private=True)
    wrong = disagreements(found, [str(path) for path in made.paths])
    assert {text.split()[0] for text in wrong} == {"0008|1010", "0018|9087"}


def test_text_is_decoded(tmp_path: Path) -> None:
    make_series(tmp_path / "in", n=2, edit=no_pixel_needed)
    assert rows_of(fastdcm.tags(tmp_path / "in"))["OperatorsName"].value == "Größe^Jürgen"


def test_one_value_of_an_extra_slice_is_counted_over_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_series(tmp_path / "in", n=5, edit=vary)
    whole = fastdcm.tags(tmp_path / "in", private=True)
    for size in (1, 2, 3):
        monkeypatch.setattr(series_tags, "BATCH_FILES", size)
        assert fastdcm.tags(tmp_path / "in", private=True) == whole


def test_frames_of_multi_frame_files_vary_over_frames(tmp_path: Path) -> None:
    made = make_enhanced(tmp_path / "in")
    found = fastdcm.tags(tmp_path / "in")
    n_frames = len(made.positions)
    assert (found.n_files, found.n_frames) == (1, n_frames)
    rows = rows_of(found)
    position = rows["PerFrameFunctionalGroupsSequence[*].PlanePositionSequence[0].ImagePositionPatient"]
    assert (position.over, position.n_distinct, position.constant) == ("frames", n_frames, False)
    assert rows["PerFrameFunctionalGroupsSequence"].value == f"{n_frames} items"
    line = next(line.plain for line in tags_lines(found, 160) if "ImagePositionPatient" in line.plain)
    assert line.startswith("           …")


def test_series_of_other_objects_have_tags(tmp_path: Path) -> None:
    make_series(tmp_path / "in", n=3)
    report = make_sr(tmp_path / "in" / "report.dcm")
    assert fastdcm.tags(tmp_path / "in").n_files == 3  # the one series of images
    alone = rows_of(fastdcm.tags(report))
    assert alone["Modality"].value == "SR"
    uid = alone["SeriesInstanceUID"].value
    assert fastdcm.tags(tmp_path / "in", series=uid).series == uid


def said(path: Path) -> bool:
    """Whether the tags of a file are said; else the reason why not is."""
    try:
        found = fastdcm.tags(path, private=True)
    except UsageError:
        return False
    return bool(json.loads(json.dumps(found.as_json()))["n_files"] == 1)


def test_every_kind_of_file(tmp_path: Path) -> None:
    mixed_folder(tmp_path / "in")
    told = [said(path) for path in sorted((tmp_path / "in").rglob("*")) if path.is_file()]
    assert (told.count(True) > 10, told.count(False) > 1) == (True, True)


def test_a_file_that_goes_away_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = make_series(tmp_path / "in", n=4)
    order = series_tags.slice_order

    def and_lose_one(*args: Any) -> list[int]:
        made.paths[2].unlink()
        return order(*args)

    monkeypatch.setattr("fastdcm.look.tags.slice_order", and_lose_one)
    found = fastdcm.tags(tmp_path / "in")
    assert (found.n_files, found.n_unread) == (3, 1)
    assert rows_of(found)["SOPInstanceUID"].n_distinct == 3
    assert "1 header cannot be read" in next(itertools.islice(tags_lines(found, 80), 1, None)).plain


def test_slices_come_in_their_order(tmp_path: Path) -> None:
    made = make_series(tmp_path / "in", n=5, instance_numbers=[3, 1, 5, 2, 4], edit=vary)
    assert len(made.paths) == 5
    assert rows_of(fastdcm.tags(tmp_path / "in"))["ProtocolName"].examples == ("b", "a", "c", "d")
    reverse = make_series(tmp_path / "back", n=5, step=-2.5, edit=vary)
    assert len(reverse.paths) == 5
    assert rows_of(fastdcm.tags(tmp_path / "back"))["ProtocolName"].examples == ("d", "b", "c", "a")


def test_both_phases_are_one_series(tmp_path: Path) -> None:
    made = two_phases(tmp_path / "in")
    assert fastdcm.tags(tmp_path / "in").n_files == len(made.paths)


def hostile() -> Tags:
    rows = [
        TagRow("0008|103e", "SeriesDescription", "", "LO", True, "\x1b[2J胸" * 50, 1, 0, (), "files", "\x1b[2J胸" * 50),
        TagRow("0019|1001", "", "", "UN", False, None, 3, 1, ("a",), "files", "3 values"),
    ]
    return Tags("1.2.3", 5, 0, 2, tuple(rows))


@pytest.mark.parametrize("width", [40, 60, 80, 81, 120, 160, 240])
def test_every_line_fits_and_is_printable(width: int, tmp_path: Path) -> None:
    make_series(tmp_path / "in", n=5, edit=vary)
    make_enhanced(tmp_path / "frames")
    found = [fastdcm.tags(tmp_path / name, private=True) for name in ("in", "frames")]
    for tags in (*found, hostile()):
        lines = [line.plain for line in tags_lines(tags, width)]
        assert max(map(cell_len, lines)) <= width
        assert all(line.isprintable() for line in lines)


def test_the_lines_at_80_columns(tmp_path: Path) -> None:
    make_series(tmp_path / "in", n=5, edit=vary)
    found = fastdcm.tags(tmp_path / "in")
    lines = [line.plain for line in tags_lines(found, 80)]
    assert lines[0] == f"series {found.series}: 5 files"
    at = next(n for n, line in enumerate(lines) if line.startswith("varying: "))
    assert lines[1] == f"the same in all files: {at - 2} tags"
    assert " 0018|1151 XRayTubeCurrent         IS 3 values, 300 .. 302" in lines[at:]
    assert " 0018|1210 ConvolutionKernel       SH STANDARD" in lines[:at]


@pytest.mark.parametrize("sources", [["nosuch"], "nosuch"])
def test_no_such_source(sources: str | Sequence[str]) -> None:
    with pytest.raises(UsageError, match="no such file or folder"):
        fastdcm.tags(sources)
