"""What differs between two series, files and volumes, against SimpleITK and against what the test wrote."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

import pytest
import SimpleITK as sitk
from pydicom.dataset import Dataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)
from rich.cells import cell_len

import fastdcm
from fastdcm.errors import UsageError
from fastdcm.load.volume import Store
from fastdcm.look.diff import Diff, DiffRow, DiffSide, diff_lines
from tests.dicomgen import make_enhanced, make_series, make_sr
from tests.look.itk_tags import itk_values


def rows_of(found: Diff) -> dict[str, DiffRow]:
    return {row.keyword or row.tag: row for row in found.rows}


def request(k: int, dataset: Dataset, *steps: str) -> None:
    dataset.RequestAttributesSequence = []
    for step in steps:
        item = Dataset()
        item.ScheduledProcedureStepID = step
        item.RequestedProcedureID = "R1"
        dataset.RequestAttributesSequence.append(item)


def stnd(k: int, dataset: Dataset) -> None:
    request(k, dataset, "S1", "S2")
    dataset.SliceLocation = f"{-441 + 5 * k}.000"
    dataset.ProtocolName = "ab"[k % 2]
    dataset.InstanceCreationTime = f"16252{k % 2}"
    dataset.private_block(0x0019, "GEMS_ACQU_01", create=True).add_new(0x02, "SL", 1)
    dataset.StationName = "ct99"


def lung(k: int, dataset: Dataset) -> None:
    stnd(k, dataset)
    request(k, dataset, "S1", "S3")
    dataset.ProtocolName = "ba"[k % 2]
    dataset.private_block(0x0019, "GEMS_ACQU_01", create=True)[0x02].value = 2
    dataset.WindowCenter = "-700"
    del dataset.StationName


@pytest.fixture(scope="module")
def export(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two reconstructions of five slices, and one of three, in one folder."""
    folder = tmp_path_factory.mktemp("diff") / "export"
    make_series(folder / "stnd", n=5, series="stnd", kernel="STANDARD", edit=stnd)
    make_series(folder / "lung", n=5, series="lung", kernel="LUNG", edit=lung)
    make_series(folder / "thick", n=3, series="thick", kernel="STANDARD", step=5.0, edit=stnd)
    return folder


@pytest.fixture(scope="module")
def store(export: Path) -> Store:
    path = export.parent / "out.zarr"
    fastdcm.convert(str(export), str(path))
    opened = fastdcm.open(path)
    assert isinstance(opened, Store)
    return opened


def test_the_differing_tags_are_those_of_simpleitk(export: Path) -> None:
    found = fastdcm.diff(export / "stnd", export / "lung", private=True)
    values = []
    for name in ("stnd", "lung"):
        paths = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(export / name))
        values.append(itk_values(paths))
    theirs = {key for key in values[0].keys() | values[1].keys() if values[0].get(key) != values[1].get(key)}
    ours = {row.tag for row in found.rows if row.vr != "SQ" and "[" not in row.tag}
    assert ours == theirs
    assert {row.keyword for row in found.rows} >= {"SeriesInstanceUID", "ConvolutionKernel", "WindowCenter"}


def test_both_values_side_by_side(export: Path) -> None:
    found = fastdcm.diff(export / "stnd", export / "lung")
    rows = rows_of(found)
    kernel = rows["ConvolutionKernel"]
    assert (kernel.tag, kernel.name, kernel.vr, kernel.a, kernel.b) == (
        "0018|1210",
        "Convolution Kernel",
        "SH",
        "STANDARD",
        "LUNG",
    )
    assert (kernel.n_distinct, kernel.n_missing, kernel.slices_differ) == ((1, 1), (0, 0), 5)
    assert (rows["WindowCenter"].a, rows["WindowCenter"].b) == (None, "-700")
    assert (rows["StationName"].a, rows["StationName"].b) == ("ct99", None)
    assert "SliceLocation" not in rows  # the same slice by slice
    protocol = rows["ProtocolName"]  # the same two values, in the other slices
    assert (protocol.a, protocol.b, protocol.slices_differ) == ("2 values: a, b", "2 values: b, a", 5)
    assert not any(int(row.tag[:4], 16) & 1 for row in found.rows)
    assert not found.same


def test_series_of_other_lengths_compare_by_their_values(export: Path) -> None:
    rows = rows_of(fastdcm.diff(export / "stnd", export / "thick"))
    assert (rows["SliceLocation"].a, rows["SliceLocation"].b) == ("5 values, -441 .. -421", "3 values, -441 .. -431")
    assert rows["SliceLocation"].slices_differ is None
    assert "InstanceCreationTime" not in rows  # the same two values
    assert "ProtocolName" not in rows


def test_what_differs_inside_of_sequences(export: Path) -> None:
    rows = rows_of(fastdcm.diff(export / "stnd", export / "lung"))
    inside = rows["RequestAttributesSequence[1].ScheduledProcedureStepID"]
    assert (inside.tag, inside.a, inside.b) == ("0040|0275[1].0040|0009", "S2", "S3")
    assert "RequestAttributesSequence" not in rows
    assert not [name for name in rows if name.startswith("RequestAttributesSequence[0]")]


def test_sequences_with_another_number_of_items(tmp_path: Path) -> None:
    make_series(tmp_path / "a", n=2, edit=lambda k, dataset: request(k, dataset, "S1"))
    make_series(tmp_path / "b", n=2, edit=lambda k, dataset: request(k, dataset, "S1", "S2"))
    rows = rows_of(fastdcm.diff(tmp_path / "a", tmp_path / "b"))
    assert {name: (row.a, row.b) for name, row in rows.items()} == {"RequestAttributesSequence": ("1 item", "2 items")}


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian])
def test_how_a_file_is_encoded_is_no_difference(tmp_path: Path, syntax: str) -> None:
    def edit(k: int, dataset: Dataset) -> None:
        stnd(k, dataset)
        dataset.add_new(0x00189087, "FD", 700.5)
        dataset.add_new(0x00720026, "AT", [0x00180050, 0x00200013])
        dataset.PatientComments = "two\nlines"

    make_series(tmp_path / "a", n=3, edit=edit)
    make_series(tmp_path / "b", n=3, edit=edit, transfer_syntax=syntax)
    found = fastdcm.diff(tmp_path / "a", tmp_path / "b", private=True)
    assert (found.rows, found.same) == ((), True)
    assert found.n_compared > 25


def test_files_and_addresses(export: Path) -> None:
    one, other = sorted((export / "stnd").iterdir())[:2]
    found = fastdcm.diff(one, other)
    assert {row.keyword for row in found.rows} == {
        "InstanceCreationTime",
        "SOPInstanceUID",
        "ProtocolName",
        "InstanceNumber",
        "ImagePositionPatient",
        "SliceLocation",
    }
    assert fastdcm.diff(one, one).same
    by_expression = fastdcm.diff(f"{export}#kernel == 'LUNG'", f"{export}#kernel == 'STANDARD' and slices = 5")
    by_folder = fastdcm.diff(export / "lung", export / "stnd")
    assert by_expression.rows == by_folder.rows
    by_uid = fastdcm.diff(f"{export}#{by_folder.a.series}", f"{export}#{by_folder.b.series[-9:]}")
    assert by_uid.rows == by_folder.rows


def test_private_elements_on_request(export: Path) -> None:
    found = fastdcm.diff(export / "stnd", export / "lung", private=True)
    (row,) = [row for row in found.rows if row.tag == "0019|1002"]
    assert (row.name, row.a, row.b) == ("Detector Channel", "1", "2")


def test_group_lengths_are_left_out(tmp_path: Path) -> None:
    made = make_series(tmp_path / "in", n=2)
    raw = made.paths[0].read_bytes()
    at = raw.index(b"\x08\0\x08\0CS")
    for name, length in (("a.dcm", 100), ("b.dcm", 200)):
        head = b"\x08\0\0\0UL\4\0" + length.to_bytes(4, "little")
        (tmp_path / name).write_bytes(raw[:at] + head + raw[at:])
    assert fastdcm.diff(tmp_path / "a.dcm", tmp_path / "b.dcm").same


def test_a_volume_and_its_files(export: Path, store: Store) -> None:
    """What a store keeps of a series is what the files have."""
    volume = next(v for v in store.volumes if v.attributes["fastdcm"]["slices"].get("thickness_mm") and len(v.shape))
    uid = volume.attributes["fastdcm"]["identity"]["series_uid"]
    found = fastdcm.diff(volume.path, f"{export}#{uid}")
    assert (found.rows, found.a.kept, found.b.kept) == ((), True, False)
    assert found.n_compared > 15
    lines = [line.plain for line in diff_lines(found, 80)]
    assert lines[2] == f"the tags that the store keeps: {found.n_compared} tags compared, all equal"


def test_two_volumes_of_a_store(export: Path, store: Store) -> None:
    found = fastdcm.diff(f"{store.path}#kernel == 'LUNG'", f"{store.path}#kernel == 'STANDARD' and slices = 5")
    rows = rows_of(found)
    assert (rows["ConvolutionKernel"].a, rows["ConvolutionKernel"].b) == ("LUNG", "STANDARD")
    assert "SliceLocation" not in rows
    longer = fastdcm.diff(f"{store.path}#kernel == 'LUNG'", f"{store.path}#slices = 3")
    assert rows_of(longer)["SliceLocation"].a == "5 values, -441 .. -421"


def test_a_volume_of_another_series_differs_from_files(export: Path, store: Store) -> None:
    found = fastdcm.diff(export / "stnd", f"{store.path}#kernel == 'LUNG'")
    rows = rows_of(found)
    assert (rows["ConvolutionKernel"].a, rows["ConvolutionKernel"].b) == ("STANDARD", "LUNG")
    assert (rows["WindowCenter"].a, rows["WindowCenter"].b) == (None, "-700")


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian])
@pytest.mark.parametrize("metadata", ["full", "technical"])
def test_stores_keep_every_tag_right(tmp_path: Path, metadata: Literal["full", "technical"], syntax: str) -> None:
    """Also many tags by slice, which are in an array of their own."""

    def edit(k: int, dataset: Dataset) -> None:
        lung(k, dataset)
        dataset.Exposure = str(k)
        dataset.ImageComments = f"{k}" * 9000
        dataset.add_new(0x00189087, "FD", 0.1 * k)
        dataset.add_new(0x00720026, "AT", [0x00180050, 0x00200013])
        philips = dataset.private_block(0x2005, "Philips MR Imaging DD 001", create=True)
        philips.add_new(0x0E, "FL", 0.25 + k)
        dataset.private_block(0x0011, "ACME", create=True).add_new(0x01, "LO", f"text {k}")

    make_series(tmp_path / "in", n=9, edit=edit, transfer_syntax=syntax)
    fastdcm.convert(str(tmp_path / "in"), str(tmp_path / "out.zarr"), metadata=metadata)
    found = fastdcm.diff(tmp_path / "in", tmp_path / "out.zarr", private=True)
    assert found.rows == ()
    assert found.n_compared > 15
    volume = next((tmp_path / "out.zarr").rglob("*.ome.zarr"))
    assert (volume / "dicom").is_dir() == (metadata == "full")
    with pytest.raises(UsageError, match="nothing can follow the #"):
        fastdcm.diff(f"{volume}#1.2", volume)


def test_frames_and_reports(tmp_path: Path) -> None:
    one, other = make_enhanced(tmp_path / "a"), make_enhanced(tmp_path / "b")
    assert fastdcm.diff(one.paths[0], other.paths[0]).same
    report = make_sr(tmp_path / "report.dcm")
    rows = rows_of(fastdcm.diff(one.paths[0], report))
    assert rows["Modality"].b == "SR"
    assert rows["PerFrameFunctionalGroupsSequence"].b is None
    assert not [name for name in rows if "[*]" in name]


def test_frames_that_differ(tmp_path: Path) -> None:
    one, other = make_enhanced(tmp_path / "a"), make_enhanced(tmp_path / "b", origin=(-12.0, 7.5, -100.0))
    n = len(one.positions)
    row = rows_of(fastdcm.diff(one.paths[0], other.paths[0]))[
        "PerFrameFunctionalGroupsSequence[*].PlanePositionSequence[0].ImagePositionPatient"
    ]
    assert (row.n_distinct, row.slices_differ) == ((n, n), n)


@pytest.mark.parametrize("width", [60, 80, 81, 100, 120, 160, 240])
def test_every_line_fits_and_is_printable(export: Path, width: int) -> None:
    evil = DiffRow("0008|103e", "", "\x1b[2J" * 9, "LO", "\x07胸" * 90, None, (1, 0), (0, 5), None)
    side = DiffSide("a\nb", "1.2", 5, 1, kept=False)
    founds = [fastdcm.diff(export / "stnd", export / name, private=True) for name in ("lung", "thick", "stnd")]
    for found in (*founds, Diff(side, side, (evil,), 3)):
        lines = [line.plain for line in diff_lines(found, width)]
        assert max(map(cell_len, lines)) <= width
        assert all(line.isprintable() for line in lines)
        assert json.loads(json.dumps(found.as_json()))["same"] is found.same


def test_the_lines_at_80_columns(export: Path) -> None:
    lines = [line.plain for line in diff_lines(fastdcm.diff(export / "stnd", export / "lung"), 80)]
    assert lines[0].startswith("A 5 files  ")
    assert lines[2].endswith(" tags compared, 8 differ")
    assert lines[3].split() == ["tag", "name", "A", "B", "slices"]
    (kernel,) = [line for line in lines if "0018|1210" in line]
    assert kernel.split() == ["0018|1210", "ConvolutionKernel", "STANDARD", "LUNG"]
    (protocol,) = [line for line in lines if "0018|1030" in line]
    assert protocol.endswith("5/5")


def test_texts_that_begin_alike_are_cut_where_they_differ() -> None:
    side = DiffSide("x", "1.2", 1, 0, kept=False)
    uid = "1.2.840.113619.2.340.3.2831197716.701.1581465146.240."
    row = DiffRow("0020|000e", "SeriesInstanceUID", "", "UI", f"{uid}4", f"{uid}5", (1, 1), (0, 0), 1)
    line = list(diff_lines(Diff(side, side, (row,), 1), 80))[-1].plain
    assert line.split()[-2].endswith("240.4")
    assert line.split()[-1].endswith("240.5")


def test_what_is_not_there_or_not_one(export: Path) -> None:
    with pytest.raises(UsageError, match="there are 3 series"):
        fastdcm.diff(export, export)
    with pytest.raises(UsageError, match="no such file or folder"):
        fastdcm.diff(export / "nosuch", export)
