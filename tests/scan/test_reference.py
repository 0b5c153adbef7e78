"""The reference reader against files written by pydicom: every encoding, every outcome, hostile input."""

from __future__ import annotations

import os
import struct
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import uid as uids
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import UID

from fastdcm.errors import Code, Outcome
from fastdcm.model import COLUMN, FRAME_COLUMNS
from fastdcm.scan import bounded
from fastdcm.scan.find import Fault, FoundFile
from fastdcm.scan.reference import read_instance
from tests import dicomgen

ROWS, COLUMNS = 6, 10
PIXELS = np.arange(ROWS * COLUMNS, dtype=np.uint16).reshape(1, ROWS, COLUMNS)
Row = dict[str, Any]


def make(sop_class: str = uids.CTImageStorage, frames: Any = PIXELS, **elements: Any) -> Dataset:
    base: dict[str, Any] = {
        "Modality": "CT",
        "PatientID": "P1 ",
        "StudyInstanceUID": "1.2.3",
        "SeriesInstanceUID": "1.2.3.4",
        "ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"],
        "ImagePositionPatient": ["-12.5", "7.25", "-431.0"],
        "ImageOrientationPatient": ["0.8", "0.6", "0", "-0.6", "0.8", "0"],
        "PixelSpacing": ["0.75", "0.5"],
        "SliceThickness": "2.5",
        "RescaleSlope": "1",
        "RescaleIntercept": "-1024",
        "InstanceNumber": 7,
        "AcquisitionTime": "101530.25",
        **dicomgen.pixel_module(PIXELS, bits_stored=12),
    }
    dataset = dicomgen.new_dataset(sop_class, "1.2.3.4.5", **{**base, **elements})
    if frames is not None:
        dicomgen.set_pixels(dataset, frames, uids.ExplicitVRLittleEndian)
    return dataset


def read(path: Path) -> tuple[Row, list[Row]]:
    stat = path.stat()
    return read_instance(str(path), FoundFile(0, path.name, stat.st_size, stat.st_mtime_ns))


def write(dataset: Dataset, path: Path, syntax: str = uids.ExplicitVRLittleEndian) -> Path:
    dataset.file_meta.TransferSyntaxUID = UID(syntax)
    return dicomgen.save(dataset, path)


def outcome(row: Row) -> tuple[str, str] | None:
    return None if row["outcome"] is None else (row["outcome"], row["code"])


def assert_the_image(row: Row, syntax: str) -> None:
    assert row["outcome"] is None, row["message"]
    assert row["transfer_syntax"] == syntax
    assert (row["rows"], row["columns"], row["bits_stored"], row["n_frames"]) == (ROWS, COLUMNS, 12, 1)
    assert (row["position_x"], row["position_y"], row["position_z"]) == (-12.5, 7.25, -431.0)
    assert (row["row_x"], row["row_y"], row["column_x"], row["column_y"]) == (0.8, 0.6, -0.6, 0.8)
    assert (row["spacing_y"], row["spacing_x"], row["spacing_kind"]) == (0.75, 0.5, "patient")
    assert (row["slope"], row["intercept"]) == (1.0, -1024.0)
    assert row["acquisition_time"] == 10 * 3600 + 15 * 60 + 30.25
    assert (row["patient_id"], row["series_uid"], row["instance_number"]) == ("P1", "1.2.3.4", 7)
    assert row["image_type"] == "ORIGINAL\\PRIMARY\\AXIAL"


@pytest.mark.parametrize("syntax", [uids.ExplicitVRLittleEndian, uids.ImplicitVRLittleEndian, uids.ExplicitVRBigEndian])
def test_all_native_encodings_give_the_same_row(tmp_path: Path, syntax: str) -> None:
    dataset = make()
    if syntax == uids.ExplicitVRBigEndian:
        dataset.PixelData = PIXELS.astype(">u2").tobytes()
    path = write(dataset, tmp_path / "a.dcm", syntax)
    row, frames = read(path)
    assert set(row) == set(COLUMN)
    assert frames == []
    assert_the_image(row, syntax)
    kind = ">u2" if syntax == uids.ExplicitVRBigEndian else "<u2"
    start, length = row["pixel_offset"], row["pixel_length"]
    assert np.array_equal(np.frombuffer(path.read_bytes()[start : start + length], kind), PIXELS.ravel())
    assert row["repaired"] is None


def test_deflated_has_no_offset(tmp_path: Path) -> None:
    row, _ = read(write(make(), tmp_path / "a.dcm", uids.DeflatedExplicitVRLittleEndian))
    assert_the_image(row, uids.DeflatedExplicitVRLittleEndian)
    assert (row["pixel_offset"], row["pixel_length"]) == (-1, PIXELS.nbytes)


def test_deflated_and_cut_is_truncated(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 4096, (1, 64, 80)).astype(np.uint16)
    dataset = make(frames=pixels, Rows=64, Columns=80)
    path = write(dataset, tmp_path / "a.dcm", uids.DeflatedExplicitVRLittleEndian)
    path.write_bytes(path.read_bytes()[:-3000])
    row, _ = read(path)
    assert outcome(row) == ("failed", "truncated")
    assert "10240 bytes needed" in row["message"]


def test_deflate_bomb_is_refused_in_little_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounded, "INFLATED_BYTES_MAX", 2**22)
    path = write(make(), tmp_path / "a.dcm", uids.DeflatedExplicitVRLittleEndian)
    data = path.read_bytes()
    start = 144 + int.from_bytes(data[140:144], "little")
    squeezer = zlib.compressobj(9, zlib.DEFLATED, -15)
    path.write_bytes(data[:start] + squeezer.compress(b"\x08\0\x05\0UN\0\0" + b"\0" * 2**24) + squeezer.flush())
    row, _ = read(path)
    assert outcome(row) == ("failed", "unsupported-pixels")
    assert "the bound" in row["message"]


@pytest.mark.parametrize("syntax", [uids.ExplicitVRLittleEndian, uids.ImplicitVRLittleEndian, uids.ExplicitVRBigEndian])
def test_no_preamble_and_no_group_2(tmp_path: Path, syntax: str) -> None:
    path = write(make(), tmp_path / "a.dcm", syntax)
    data = path.read_bytes()
    path.write_bytes(data[144 + int.from_bytes(data[140:144], "little") :])
    row, _ = read(path)
    assert_the_image(row, syntax)
    assert row["repaired"] == "repaired-syntax"


@pytest.mark.parametrize(
    ("true", "said"),
    [
        (uids.ExplicitVRLittleEndian, uids.ImplicitVRLittleEndian),
        (uids.ImplicitVRLittleEndian, uids.ExplicitVRLittleEndian),
        (uids.ExplicitVRLittleEndian, uids.ExplicitVRBigEndian),
        (uids.ExplicitVRBigEndian, uids.ImplicitVRLittleEndian),
        (uids.ExplicitVRLittleEndian, uids.JPEGBaseline8Bit),
        (uids.ExplicitVRLittleEndian, uids.DeflatedExplicitVRLittleEndian),
    ],
)
def test_a_transfer_syntax_that_lies_is_repaired(tmp_path: Path, true: str, said: str) -> None:
    path = write(make(), tmp_path / "a.dcm", true)
    data = path.read_bytes()
    start = 144 + int.from_bytes(data[140:144], "little")
    uid = said.encode() + b"\0" * (len(said) % 2)
    meta = b"\x02\0\x10\0UI" + struct.pack("<H", len(uid)) + uid
    path.write_bytes(b"\0" * 128 + b"DICM\x02\0\0\0UL\x04\0" + struct.pack("<I", len(meta)) + meta + data[start:])
    row, _ = read(path)
    assert_the_image(row, true)
    assert row["repaired"] == "repaired-syntax"


@pytest.mark.parametrize(
    ("codestream", "syntax"),
    [
        (b"\xff\xd8\xff\xe0\x00\x04ab\xff\xc0\x00\x0b", "1.2.840.10008.1.2.4.50"),
        (b"\xff\xd8\xff\xc3\x00\x0b\x08", "1.2.840.10008.1.2.4.57"),
        (b"\xff\xd8\xff\xf7\x00\x0b\x08", "1.2.840.10008.1.2.4.81"),
        (b"\xff\x4f\xff\x51\x00\x2f", "1.2.840.10008.1.2.4.91"),
        (struct.pack("<2I", 2, 64) + b"\0" * 56, "1.2.840.10008.1.2.5"),
    ],
)
def test_compressed_pixels_under_a_native_syntax(tmp_path: Path, codestream: bytes, syntax: str) -> None:
    dataset = make(frames=None)
    dataset.PixelData = encapsulate([codestream])
    dataset["PixelData"].is_undefined_length = True
    path = write(dataset, tmp_path / "a.dcm", uids.RLELossless)
    path.write_bytes(path.read_bytes().replace(b"1.2.840.10008.1.2.5\0", b"1.2.840.10008.1.2.1\0", 1))
    row, _ = read(path)
    assert (row["transfer_syntax"], row["repaired"]) == (syntax, "repaired-syntax")


def test_extended_offset_table_and_undefined_length(tmp_path: Path) -> None:
    dataset = make(frames=None)
    dataset.ExtendedOffsetTable = struct.pack("<Q", 0)
    dataset.ExtendedOffsetTableLengths = struct.pack("<Q", 8)
    dataset.PixelData = encapsulate([b"\xff\xd8abcdef"], has_bot=False)
    dataset["PixelData"].is_undefined_length = True
    path = write(dataset, tmp_path / "a.dcm", uids.JPEGBaseline8Bit)
    row, _ = read(path)
    data = path.read_bytes()
    assert row["pixel_length"] == -1
    assert data[row["pixel_offset"] :].startswith(b"\xfe\xff\x00\xe0\0\0\0\0")
    assert row["table_length"] == 8
    assert data[row["table_offset"] - 12 : row["table_offset"] - 6] == b"\xe0\x7f\x01\x00OV"


def test_the_icon_is_not_the_image(tmp_path: Path) -> None:
    icon = Dataset()
    icon.Rows, icon.Columns, icon.PixelData = 2, 2, b"\1\2\3\4"
    icon["PixelData"].VR = "OB"
    row, _ = read(write(make(IconImageSequence=[icon]), tmp_path / "a.dcm"))
    assert_the_image(row, uids.ExplicitVRLittleEndian)
    assert row["pixel_length"] == PIXELS.nbytes


def test_garbage_numbers(tmp_path: Path) -> None:
    path = write(make(), tmp_path / "a.dcm")
    data = path.read_bytes()
    for old, new in (
        (b"0.75\\0.5", b"0,75\\.50"),
        (b"-1024 ", b"nan\0\0\0"),
        (b"-12.5\\7.25\\-431.0", b"-12.5\\\\-431.000000"[:17]),
    ):
        assert data.count(old) == 1
        data = data.replace(old, new.ljust(len(old)))
    path.write_bytes(data)
    row, _ = read(path)
    assert (row["spacing_y"], row["spacing_x"]) == (0.75, 0.5)
    assert np.isnan(row["intercept"])
    assert (row["position_x"], row["position_y"], row["position_z"]) == (-12.5, None, -431.0)


@pytest.mark.parametrize(("representation", "expected"), [(0, 63536), (1, -2000)])
@pytest.mark.parametrize("vr", ["US", "SS"])
def test_padding_follows_pixel_representation(tmp_path: Path, representation: int, expected: int, vr: str) -> None:
    dataset = make(PixelRepresentation=representation)
    dataset.add_new(0x00280120, vr, 63536 if vr == "US" else -2000)
    row, _ = read(write(dataset, tmp_path / "a.dcm"))
    assert row["padding"] == expected


def test_ge_private_syntax_is_known(tmp_path: Path) -> None:
    path = write(make(), tmp_path / "a.dcm", uids.ImplicitVRLittleEndian)
    data = path.read_bytes()
    start = 144 + int.from_bytes(data[140:144], "little")
    uid = b"1.2.840.113619.5.2"
    meta = b"\x02\0\x10\0UI" + struct.pack("<H", len(uid)) + uid
    path.write_bytes(b"\0" * 128 + b"DICM\x02\0\0\0UL\x04\0" + struct.pack("<I", len(meta)) + meta + data[start:])
    row, _ = read(path)
    assert_the_image(row, uid.decode())


# ---------------------------------------------------------------------------- outcomes

OUTCOMES: list[tuple[str, Callable[[], Dataset], tuple[str, str], str]] = [
    ("no-rows", lambda: make(Rows=None), ("failed", "bad-header"), "Rows is missing"),
    ("zero-columns", lambda: make(Columns=0), ("failed", "bad-header"), "Columns is 0"),
    ("no-pixels", lambda: make(frames=None), ("failed", "no-pixels"), "no pixel data"),
    ("sr", lambda: make(uids.BasicTextSRStorage, None, Rows=None), ("not-image", "sop-class"), "Basic Text"),
    ("dose-histogram", lambda: make(uids.RTDoseStorage, None, Rows=None), ("not-image", "sop-class"), "RT Dose"),
    ("slide", lambda: make(uids.VLWholeSlideMicroscopyImageStorage), ("failed", "unsupported-wsi"), "slide"),
    (
        "slide-label",
        lambda: make(uids.VLWholeSlideMicroscopyImageStorage, ImageType=["ORIGINAL", "PRIMARY", "LABEL", "NONE"]),
        ("filtered", "wsi-label"),
        "label",
    ),
    ("too-short", lambda: make(Rows=ROWS + 1), ("failed", "truncated"), "140 bytes needed, 120 there"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "build", "expected", "part"), OUTCOMES, ids=[case[0] for case in OUTCOMES])
def test_outcomes(
    tmp_path: Path, name: str, build: Callable[[], Dataset], expected: tuple[str, str], part: str
) -> None:
    row, frames = read(write(build(), tmp_path / name))
    assert outcome(row) == expected
    assert part in row["message"]
    assert frames == []


@pytest.mark.parametrize(
    ("uid", "expected"),
    [
        (uids.MPEG2MPML, ("not-image", "video")),
        (uids.HEVCMP51, ("not-image", "video")),
        ("1.2.840.10008.1.2.4.95", ("failed", "unsupported-syntax")),
        ("1.3.46.670589.33.1.4.1", ("failed", "unsupported-syntax")),
    ],
)
def test_video_and_unknown_syntaxes(tmp_path: Path, uid: str, expected: tuple[str, str]) -> None:
    dataset = make(frames=None)
    dataset.PixelData = encapsulate([b"abcdefgh"])
    dataset["PixelData"].is_undefined_length = True
    path = write(dataset, tmp_path / "a.dcm", uids.RLELossless)
    data = path.read_bytes()
    start = 144 + int.from_bytes(data[140:144], "little")
    raw = uid.encode() + b"\0" * (len(uid) % 2)
    meta = b"\x02\0\x10\0UI" + struct.pack("<H", len(raw)) + raw
    path.write_bytes(b"\0" * 128 + b"DICM\x02\0\0\0UL\x04\0" + struct.pack("<I", len(meta)) + meta + data[start:])
    row, _ = read(path)
    assert outcome(row) == expected
    assert expected[0] != "failed" or uid in row["message"]


def test_dicomdir(tmp_path: Path) -> None:
    row, _ = read(dicomgen.make_dicomdir(tmp_path / "DICOMDIR"))
    assert outcome(row) == ("not-image", "dicomdir")


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a", b"", ("not-dicom", "empty")),
        ("a.txt", b"hello, this is a text " * 20, ("not-dicom", "no-dicom")),
        ("a.jpg", b"\xff\xd8\xff\xe0" + b"\0" * 400, ("not-dicom", "no-dicom")),
        ("a.zero", b"\0" * 1000, ("not-dicom", "no-dicom")),
        ("._a.dcm", b"\0\x05\x16\x07" + b"\0" * 400, ("not-dicom", "apple-double")),
        ("b", b"\x08\0\x05\0\x01", ("not-dicom", "no-dicom")),
        ("c", b"\x08\0\x05\0CS\x02\0ab" + b"\1" * 300, ("not-dicom", "no-dicom")),
    ],
)
def test_what_is_not_dicom(tmp_path: Path, name: str, content: bytes, expected: tuple[str, str]) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    row, frames = read(path)
    assert outcome(row) == expected
    assert (row["size"], frames) == (len(content), [])


def test_found_faults_are_passed_on_and_the_file_is_not_opened() -> None:
    fault = Fault(Outcome.FAILED, Code.PERMISSION, "no permission to list the folder")
    row, _ = read_instance("/nowhere", FoundFile(2, "x", 5, 6, fault))
    assert (row["source"], row["path"], row["outcome"], row["code"]) == (2, "x", "failed", "permission")


def test_what_cannot_be_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    row, _ = read_instance(str(tmp_path / "gone"), FoundFile(0, "gone", 1, 0))
    assert outcome(row) == ("failed", "unreadable")
    assert str(tmp_path) not in str(row["message"])
    os.mkfifo(tmp_path / "pipe")
    row, _ = read_instance(str(tmp_path / "pipe"), FoundFile(0, "pipe", 1, 0))
    assert outcome(row) == ("failed", "unreadable")

    def refuse(*_: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)
    row, _ = read_instance("x", FoundFile(0, "x", 1, 0))
    assert outcome(row) == ("failed", "permission")


# ---------------------------------------------------------------------------- hostile


def test_header_that_ends_too_early_names_the_element(tmp_path: Path) -> None:
    path = write(make(), tmp_path / "a.dcm")
    data = path.read_bytes()
    at = data.index(b"\x20\x00\x32\x00DS")
    path.write_bytes(data[: at + 12])
    row, _ = read(path)
    assert outcome(row) == ("failed", "truncated")
    assert "(0020,0032)" in row["message"]


@pytest.mark.parametrize("depth", [200, 20_000])
def test_deep_nesting(tmp_path: Path, depth: int) -> None:
    path = write(make(), tmp_path / "a.dcm")
    data = path.read_bytes()
    nest = b"\x08\0\x40\x11SQ\0\0\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff" * depth
    close = b"\xfe\xff\x0d\xe0\0\0\0\0\xfe\xff\xdd\xe0\0\0\0\0" * depth
    at = data.index(b"\x10\x00\x10\x00PN")
    path.write_bytes(data[:at] + nest + close + data[at:])
    row, _ = read(path)
    assert outcome(row) in (None, ("failed", "bad-header"))


def test_declared_lengths_and_frames_allocate_nothing(tmp_path: Path) -> None:
    path = write(make(NumberOfFrames=2_000_000_000), tmp_path / "a.dcm")
    started = time.perf_counter()
    row, frames = read(path)
    assert outcome(row) == ("failed", "truncated")
    assert frames == []
    dataset = make(frames=None, NumberOfFrames=2_000_000_000)
    dataset.PixelData = encapsulate([b"abcdefgh"])
    dataset["PixelData"].is_undefined_length = True
    row, frames = read(write(dataset, tmp_path / "b.dcm", uids.RLELossless))
    assert outcome(row) == ("failed", "truncated")
    assert time.perf_counter() - started < 5


_SEED_DATA: dict[str, bytes] = {}


def _seed(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    if not _SEED_DATA:
        made = dicomgen.make_enhanced(tmp_path_factory.mktemp("seed"))
        _SEED_DATA["enhanced"] = made.paths[0].read_bytes()
    return _SEED_DATA["enhanced"]


@given(st.data())
def test_mutated_files_end_in_an_outcome(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    content = bytearray(_seed(tmp_path_factory))
    for _ in range(data.draw(st.integers(1, 12))):
        content[data.draw(st.integers(128, 3000))] = data.draw(st.integers(0, 255))
    end = data.draw(st.integers(100, len(content)))
    path = tmp_path_factory.getbasetemp() / "mutant"
    path.write_bytes(bytes(content[:end]))
    row, frames = read(path)
    assert set(row) == set(COLUMN)
    assert (row["outcome"] is None) == (row["code"] is None)
    assert all(set(frame) == {"frame", *(column.name for column in FRAME_COLUMNS)} for frame in frames)
