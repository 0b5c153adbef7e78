"""``header``: SimpleITK's tags and geometry on files of every kind, hostile ones survived, no pixel read."""

from __future__ import annotations

import doctest
import json
import os
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import uid as uids
from pydicom.data import get_charset_files, get_testdata_file
from pydicom.dataset import Dataset
from rich.cells import cell_len

import fastdcm.look.header
from fastdcm.errors import UsageError
from fastdcm.look import element_text
from fastdcm.look.header import Header, Image, header, header_lines
from fastdcm.scan import listing, reference
from fastdcm.scan.listing import ITEM, list_elements
from fastdcm.scan.reading import LocalFile
from tests import dicomgen
from tests.look.sitk_header import allowed, has_prefix, image_differences, read, tag_differences
from tests.scan import rawdicom
from tests.scan.localfiles import local_folders

CT_SMALL = str(get_testdata_file("CT_small.dcm", download=False))
FRAME = np.arange(40, dtype=np.uint16).reshape(1, 5, 8)


def made(path: Path, sop_class: str = uids.CTImageStorage, frames: Any = FRAME, **elements: Any) -> Path:
    """Write an image with the given elements and little else."""
    module = dicomgen.pixel_module(frames, bits_stored=12)
    dataset = dicomgen.new_dataset(sop_class, "1.2.3.4", **{"Modality": "OT", **module, **elements})
    if len(frames) > 1:
        dataset.NumberOfFrames = len(frames)
    dicomgen.set_pixels(dataset, frames, uids.ExplicitVRLittleEndian)
    return dicomgen.save(dataset, path)


def image_of(path: Path) -> Image:
    image = header(path).image
    assert image is not None
    return image


def value_of(found: Header, keyword: str) -> str:
    return next(element.value for element in found.elements if element.keyword == keyword)


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


# ---------------------------------------------------------------------------- as SimpleITK


def test_every_local_file_as_simpleitk() -> None:
    compared = 0
    for folder in local_folders():
        for path in sorted(Path(folder).rglob("*")):
            if not path.is_file() or not has_prefix(path) or read(path, private=False) is None:
                continue
            assert tag_differences(path, private=compared % 2 == 0) == []
            differs = image_differences(path)
            assert not differs or allowed(path, image_of(path), differs), (path, differs)
            compared += 1
    assert compared > 100


SPACINGS: dict[str, Any] = {
    "PixelSpacing": ["0.3", "0.4"],
    "ImagerPixelSpacing": ["0.5", "0.6"],
    "NominalScannedPixelSpacing": ["0.7", "0.8"],
    "ImagePlanePixelSpacing": ["1.1", "1.2"],
    "SpacingBetweenSlices": "9",
    "FrameTime": "40",
    "FrameIncrementPointer": 0x00181063,
}
PLACES: dict[str, Any] = {
    "ImagePositionPatient": ["1", "2", "3"],
    "ImageOrientationPatient": ["0.8", "0.6", "0", "0", "0", "1"],
    "RescaleSlope": "2",
    "RescaleIntercept": "-5",
}
SUBSETS: Sequence[dict[str, Any]] = (
    {},
    {**SPACINGS, **PLACES},
    {"PixelSpacing": ["0.3", "0.4"], "SpacingBetweenSlices": "9", **PLACES},
    {name: SPACINGS[name] for name in ("ImagerPixelSpacing", "NominalScannedPixelSpacing")},
    {name: SPACINGS[name] for name in ("FrameTime", "FrameIncrementPointer")},
)
CLASSES = (
    *(
        "1",
        "1.1",
        "1.2",
        "1.3",
        "12.1",
        "12.1.1",
        "12.2",
        "2",
        "2.1",
        "4",
        "4.1",
        "128",
        "130",
        "20",
        "7",
        "7.2",
        "7.4",
    ),
    *("6.1", "3.1", "6.2", "481.1", "481.2", "66.4", "77.1.1", "77.1.1.1", "77.1.2", "77.1.4", "77.1.5.1", "77.1.5.4"),
    *("77.1.6", "13.1.1", "13.1.3", "14.1"),
)


@pytest.mark.parametrize("ending", CLASSES)
def test_each_class_believes_the_elements_that_simpleitk_believes(ending: str, tmp_path: Path) -> None:
    for number, subset in enumerate(SUBSETS):
        frames = np.repeat(FRAME, 1 + number % 2 * (ending not in ("7", "2", "4")), axis=0)
        path = made(tmp_path / f"{number}.dcm", f"1.2.840.10008.5.1.4.1.1.{ending}", frames, **subset)
        assert image_differences(path) == {}, subset


def grouped(positions: Sequence[float], **shared: Any) -> dict[str, Any]:
    """Functional groups of axial frames at these z."""

    def item(**elements: Any) -> Dataset:
        dataset = Dataset()
        for keyword, value in elements.items():
            setattr(dataset, keyword, value)
        return dataset

    measures = item(PixelSpacing=["0.3", "0.4"], SliceThickness="2", **shared)
    orientation = item(ImageOrientationPatient=["1", "0", "0", "0", "1", "0"])
    frames = [item(PlanePositionSequence=[item(ImagePositionPatient=["1", "2", str(z)])]) for z in positions]
    return {
        "SharedFunctionalGroupsSequence": [
            item(PixelMeasuresSequence=[measures], PlaneOrientationSequence=[orientation])
        ],
        "PerFrameFunctionalGroupsSequence": frames,
    }


@pytest.mark.parametrize("positions", [[5, 7.5, 10], [10, 7.5, 5], [5, 5, 7.5, 7.5], [5]])
def test_functional_groups_as_simpleitk(positions: list[float], tmp_path: Path) -> None:
    frames = np.repeat(FRAME, len(positions), axis=0)
    path = made(tmp_path / "x.dcm", uids.EnhancedMRImageStorage, frames, **grouped(positions))
    assert image_differences(path) == {}
    assert image_of(path).spacing[:2] == (0.4, 0.3)


def test_frames_in_one_place_are_not_0_mm_apart(tmp_path: Path) -> None:
    frames = np.repeat(FRAME, 3, axis=0)
    path = made(tmp_path / "x.dcm", uids.EnhancedMRImageStorage, frames, **grouped([5, 5, 5]))
    assert image_differences(path) == {"spacing": ((0.4, 0.3, 1.0), (0.4, 0.3, 0.0))}
    assert image_of(path).assumed == ("spacing_z",)


def test_uneven_frames_keep_the_spacing_of_their_plane(tmp_path: Path) -> None:
    frames = np.repeat(FRAME, 3, axis=0)
    path = made(tmp_path / "x.dcm", uids.EnhancedMRImageStorage, frames, **grouped([5, 7.5, 11]))
    assert image_differences(path) == {"spacing": ((0.4, 0.3, 1.0), (1.0, 1.0, 1.0))}
    assert image_of(path).assumed == ("spacing_z",)


@pytest.mark.parametrize("bits", [8, 12, 16])
@pytest.mark.parametrize("signed", [0, 1])
@pytest.mark.parametrize(("slope", "intercept"), [("1", "0"), ("1", "-1024"), ("2", "5"), ("0.5", "0"), ("-1", "10")])
def test_types_as_simpleitk(bits: int, signed: int, slope: str, intercept: str, tmp_path: Path) -> None:
    changed: dict[str, Any] = {"BitsStored": bits, "HighBit": bits - 1, "PixelRepresentation": signed}
    path = made(tmp_path / "x.dcm", **changed, RescaleSlope=slope, RescaleIntercept=intercept)
    assert image_differences(path) == {}
    assert image_of(path).stored_type == ("int16" if signed else "uint16")


def test_a_store_takes_a_narrower_type_where_it_can(tmp_path: Path) -> None:
    changed: dict[str, Any] = {"BitsStored": 16, "HighBit": 15, "PixelRepresentation": 1, "RescaleIntercept": "-1024"}
    image = image_of(made(tmp_path / "x.dcm", **changed, RescaleSlope="1"))
    assert (image.output_type, image.store_type, image.store_fallback) == ("int32", "int16", "int32")


def test_what_the_file_does_not_say_is_named(tmp_path: Path) -> None:
    bare = image_of(made(tmp_path / "bare.dcm"))
    assert bare.assumed == ("spacing_xy", "spacing_z", "origin", "direction")
    full = image_of(made(tmp_path / "full.dcm", **SPACINGS, **PLACES))
    assert full.assumed == ()
    assert full.spacing == (0.4, 0.3, 9.0)
    assert full.origin == (1.0, 2.0, 3.0)


def test_dose_frames_are_apart_by_their_offsets(tmp_path: Path) -> None:
    frames = np.repeat(FRAME, 3, axis=0)
    path = made(tmp_path / "x.dcm", uids.RTDoseStorage, frames, GridFrameOffsetVector=["0", "2.5", "5"], **PLACES)
    assert image_differences(path) == {}
    assert image_of(path).spacing[2] == 2.5


# ---------------------------------------------------------------------------- elements


def test_private_elements_on_request_alone() -> None:
    public, everything = header(CT_SMALL), header(CT_SMALL, private=True)
    assert not any(element.private for element in public.elements)
    assert public.private_elements == sum(e.private and e.depth == 0 for e in everything.elements) == 179
    assert {e.tag for e in public.elements} < {e.tag for e in everything.elements}


def test_private_sequences_go_with_their_content(tmp_path: Path) -> None:
    inner = rawdicom.explicit(0x00100020, "LO", "hidden")
    data = rawdicom.explicit(0x00090010, "LO", "ACME") + rawdicom.explicit(0x00091001, "SQ", rawdicom.item(inner))
    path = write(tmp_path / "x", rawdicom.part10(rawdicom.image(data)))
    assert "hidden" not in [element.value for element in header(path).elements]
    shown = [element for element in header(path, private=True).elements if element.value == "hidden"]
    assert [(element.depth, element.private) for element in shown] == [(1, True)]


def test_sequences_are_indented_and_counted() -> None:
    found = header(CT_SMALL)
    place = next(n for n, element in enumerate(found.elements) if element.keyword == "OtherPatientIDsSequence")
    shown = [(e.depth, e.keyword, e.vm, e.value) for e in found.elements[place : place + 7]]
    assert shown[0] == (0, "OtherPatientIDsSequence", 2, "2 items")
    assert [depth for depth, *_ in shown[1:]] == [1] * 6
    assert (shown[2][1], shown[2][3], shown[5][3]) == ("PatientID", "ABCD1234", "1234ABCD")


def test_values_of_every_kind(tmp_path: Path) -> None:
    data = b"".join(
        (
            rawdicom.explicit(0x00280009, "AT", struct.pack("<4H", 0x18, 0x1063, 0x54, 0x10)),
            rawdicom.explicit(0x00287771, "FL", struct.pack("<2f", 0.1, 5e7)),
            rawdicom.explicit(0x00287772, "FD", struct.pack("<d", 0.1)),
            rawdicom.explicit(0x00287773, "SS", struct.pack("<2h", -1, 7)),
            rawdicom.explicit(0x00287774, "OB", b"\0\1\2\3"),
            rawdicom.explicit(0x00287775, "DS", "1.50 \\-2 "),
            rawdicom.explicit(0x00287776, "LT", "a\\b "),
            rawdicom.explicit(0x00287777, "LO", ""),
        )
    )
    found = header(write(tmp_path / "x", rawdicom.part10(rawdicom.image(data))))
    values = {element.tag[5:]: (element.vm, element.value) for element in found.elements if element.tag[:4] == "0028"}
    assert values["0009"] == (2, "(0018,1063)\\(0054,0010)")
    assert values["7771"] == (2, "0.1\\5e+07")
    assert values["7772"] == (1, "0.1")
    assert values["7773"] == (2, "-1\\7")
    assert values["7774"] == (1, "AAECAw==")
    assert values["7775"] == (2, "1.50 \\-2")
    assert values["7776"] == (1, "a\\b")
    assert values["7777"] == (0, "")


@pytest.mark.parametrize(
    ("charset", "raw", "text"),
    [
        ("ISO_IR 192", "Müller".encode(), "Müller"),
        ("ISO_IR 100", "Müller".encode("latin-1"), "Müller"),
        ("GB18030", "胸部\r\n平扫".encode("gb18030"), "胸部\r\n平扫"),
        ("\\ISO 2022 IR 87", b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B", "Yamada^Tarou=山田^太郎"),
        ("KLINGON", b"M\xfcller", "M\ufffdller"),
    ],
)
def test_texts_are_decoded(charset: str, raw: bytes, text: str, tmp_path: Path) -> None:
    data = rawdicom.explicit(0x00080005, "CS", charset) + rawdicom.image(rawdicom.explicit(0x00287777, "LT", raw))
    found = header(write(tmp_path / "x", rawdicom.part10(data)))
    assert next(element.value for element in found.elements if element.tag == "0028|7777") == text


@given(st.binary(max_size=60), st.sampled_from(["", "ISO_IR 100", "ISO_IR 192", "\\ISO 2022 IR 87", "GB18030"]))
def test_any_bytes_decode_to_text_that_utf8_can_hold(raw: bytes, charset: str) -> None:
    element_text.decode(raw, charset.split("\\")).encode("utf-8")


def test_big_endian_and_deflated_and_implicit_say_the_same(tmp_path: Path) -> None:
    syntaxes = (
        uids.ExplicitVRLittleEndian,
        uids.ImplicitVRLittleEndian,
        uids.ExplicitVRBigEndian,
        uids.DeflatedExplicitVRLittleEndian,
    )
    shown = []
    for number, syntax in enumerate(syntaxes):
        dataset = dicomgen.new_dataset(uids.CTImageStorage, "1.2.3", Modality="CT", **grouped([5, 7.5]), **PLACES)
        for keyword, value in dicomgen.pixel_module(FRAME, bits_stored=12).items():
            setattr(dataset, keyword, value)
        dataset.RedPaletteColorLookupTableData = struct.pack(f"{'>' if number == 2 else '<'}2H", 1, 2)
        dicomgen.set_pixels(dataset, FRAME, syntax)
        found = header(dicomgen.save(dataset, tmp_path / f"{number}.dcm"))
        assert found.transfer_syntax == syntax
        assert found.problem is None
        shown.append(
            [(e.depth, e.tag, e.vr, e.vm, e.value) for e in found.elements if e.tag[:4] not in ("0002", "7fe0")]
        )
        assert found.image == image_of(tmp_path / "0.dcm")
    assert shown[0] == shown[1] == shown[2] == shown[3]


def test_it_is_json() -> None:
    document = header(CT_SMALL, private=True).as_json()
    again = json.loads(json.dumps(document, allow_nan=False))
    assert again["image"]["pixel_type"] == "32-bit signed integer"
    assert {"tag": "0008|0060", "keyword": "Modality"}.items() <= next(
        element for element in again["elements"] if element["keyword"] == "Modality"
    ).items()


# ---------------------------------------------------------------------------- what is no image, and what is broken


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"%PDF-1.7 and so on", "is a PDF, not DICOM"),
        (b"PK\3\4" + bytes(300), "is a ZIP archive, not DICOM"),
        (bytes(344) + b"n+1\0" + bytes(40), "is a NIfTI image, not DICOM"),
        (b"", "the file is empty"),
        (b"plain words " * 40, "cannot be read as DICOM"),
    ],
)
def test_other_files_are_named(data: bytes, words: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=words):
        header(write(tmp_path / "x", data))


def test_no_file_and_a_folder(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No such file"):
        header(tmp_path / "none")
    with pytest.raises(UsageError, match="is a folder"):
        header(tmp_path)


def test_reports_and_directories_have_no_image(tmp_path: Path) -> None:
    report, directory = (
        header(dicomgen.make_sr(tmp_path / "sr.dcm")),
        header(dicomgen.make_dicomdir(tmp_path / "DICOMDIR")),
    )
    assert report.image is None
    assert directory.image is None
    assert "no pixel data" in str(report.verdict)
    assert "DICOMDIR" in str(directory.verdict)
    assert value_of(report, "Modality") == "SR"


def test_without_preamble(tmp_path: Path) -> None:
    found = header(write(tmp_path / "x", rawdicom.image()))
    assert value_of(found, "Modality") == "CT"
    assert found.image is not None
    assert found.image.size == (6, 4, 1)


def test_cut_files_show_what_is_there(tmp_path: Path) -> None:
    data = rawdicom.part10(rawdicom.image())
    for length in range(140, len(data), 7):
        found = header(write(tmp_path / "x", data[:length]))
        list(header_lines(found, 80))
    assert "are there" in str(found.problem)
    assert "cut short" in str(found.verdict)


def test_endless_depth(tmp_path: Path) -> None:
    found = header(write(tmp_path / "x", rawdicom.part10(rawdicom.image(rawdicom.nested(10_000)))))
    assert max(element.depth for element in found.elements) == listing.DEPTH_MAX
    assert "deeper than 32" in str(found.problem)
    assert found.image is not None


def test_garbage_ends_the_list(tmp_path: Path) -> None:
    data = rawdicom.part10(rawdicom.image(rawdicom.explicit(0x00289999, "SQ", b"garbage!" * 4)))
    assert "something else than items" in str(header(write(tmp_path / "x", data)).problem)
    falling = rawdicom.part10(rawdicom.explicit(0x00080060, "CS", "CT") * 1000)
    found = header(write(tmp_path / "y", falling))
    assert len(found.elements) < 200


@given(st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), max_size=12), st.integers(140, 2000))
def test_damaged_headers_never_raise(tmp_path_factory: pytest.TempPathFactory, damage: Any, length: int) -> None:
    content = rawdicom.icon() + rawdicom.nested(3) + rawdicom.explicit(0x00287777, "LO", "x")
    data = bytearray(rawdicom.part10(rawdicom.image(content))[:length])
    for place, value in damage:
        data[place % len(data)] = value
    path = tmp_path_factory.getbasetemp() / "damaged"
    path.write_bytes(data)
    try:
        found = header(path, private=True)
    except UsageError:
        return
    json.dumps(found.as_json(), allow_nan=False)
    assert all(line.plain.isprintable() for line in header_lines(found, 80))


# ---------------------------------------------------------------------------- what is read


class Counted(LocalFile):
    """A file that counts what is read of it."""

    count = 0

    def read_at(self, offset: int, count: int) -> bytes:
        data = super().read_at(offset, count)
        Counted.count += len(data)
        return data

    def read_into(self, offset: int, *buffers: memoryview) -> int:
        count = super().read_into(offset, *buffers)
        Counted.count += count
        return count


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> type[Counted]:
    monkeypatch.setattr(listing, "open_location", Counted)
    monkeypatch.setattr(reference, "open_location", Counted)
    Counted.count = 0
    return Counted


def test_pixels_are_not_read(tmp_path: Path, counted: type[Counted]) -> None:
    data = rawdicom.part10(rawdicom.image())
    pixels = 3 * 2**30
    path = write(tmp_path / "x", data[:-52] + struct.pack("<I", pixels))
    os.truncate(path, path.stat().st_size + pixels)
    with path.open("ab") as file:
        file.write(rawdicom.explicit(0xFFFCFFFC, "OB", b"\0\0"))
    found = header(path)
    assert found.elements[-1].tag == "fffc|fffc"
    assert value_of(found, "PixelData") == "(3.22 GB, not read)"
    assert counted.count < 64 * 1024


def test_small_pixels_are_not_read_either() -> None:
    assert value_of(header(CT_SMALL), "PixelData") == "(32.8 kB, not read)"
    inner = [element for element in list_elements(CT_SMALL).elements if element.tag == 0x7FE00010]
    assert [element.value for element in inner] == [None]


def test_fragments_are_stepped_over(tmp_path: Path, counted: type[Counted]) -> None:
    fragment = struct.pack("<HHI", 0xFFFE, 0xE000, 100_000) + bytes(100_000)
    pixels = struct.pack("<HHI", 0xFFFE, 0xE000, 0) + fragment * 50 + rawdicom.SEQUENCE_END
    data = rawdicom.part10(rawdicom.image())[:-48]  # up to the length of the pixels
    path = write(tmp_path / "x", data[:-4] + b"\xff" * 4 + pixels + rawdicom.explicit(0xFFFCFFFC, "OB", b"\0\0"))
    assert header(path).elements[-1].tag == "fffc|fffc"
    assert counted.count < 64 * 1024


def test_long_values_are_only_measured(tmp_path: Path) -> None:
    data = rawdicom.explicit(0x00287777, "UT", b"x" * (listing.VALUE_BYTES_MAX + 2))
    path = write(tmp_path / "x", rawdicom.part10(rawdicom.image(data)))
    assert [e.value for e in list_elements(str(path)).elements if e.tag == 0x00287777] == [None]
    element = next(element for element in header(path).elements if element.tag == "0028|7777")
    assert (element.value, element.n_bytes) == ("(262 kB, not read)", listing.VALUE_BYTES_MAX + 2)


def test_all_values_together_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "ALL_BYTES_MAX", 600)
    data = b"".join(rawdicom.explicit(0x00287000 + n, "LT", b"x" * 100) for n in range(1, 20))
    elements = list_elements(str(write(tmp_path / "x", rawdicom.part10(rawdicom.image(data))))).elements
    assert sum(len(element.value or b"") for element in elements if element.tag != ITEM) <= 600 + 200


# ---------------------------------------------------------------------------- lines


@pytest.mark.parametrize("width", [40, 80, 160])
@pytest.mark.parametrize("name", ["CT_small.dcm", "liver_1frame.dcm", "reportsi.dcm", "chrKoreanMulti.dcm"])
def test_lines_fit(width: int, name: str) -> None:
    path = str(get_testdata_file(name, download=False) or get_charset_files(name)[0])
    lines = [line.plain for line in header_lines(header(path, private=True), width)]
    assert max(map(cell_len, lines)) <= width
    assert all(line.isprintable() for line in lines)


def test_nothing_acts_on_the_terminal(tmp_path: Path) -> None:
    evil = b"\x1b[31mred\x07\r\n\x9b2J"
    data = rawdicom.explicit(0x00080008, "CS", evil) + rawdicom.image(rawdicom.explicit(0x00287777, "LO", evil))
    lines = [line.plain for line in header_lines(header(write(tmp_path / "x", rawdicom.part10(data))), 80)]
    assert all(line.isprintable() for line in lines)
    assert sum("[31mred" in line for line in lines) >= 2


def lines_of(path: Path, width: int = 160) -> dict[str, str]:
    """Return the labelled lines below the table."""
    lines = [line.plain for line in header_lines(header(path), width)]
    below = lines[len(lines) - lines[::-1].index("") :]
    return {line[:14].strip(): line[14:] for line in below}


def test_the_image_in_words(tmp_path: Path) -> None:
    path = made(
        tmp_path / "x.dcm",
        **{**SPACINGS, "SpacingBetweenSlices": "7"},
        **PLACES,
        SliceThickness="5",
        ImageType=["DERIVED", "SECONDARY", "MPR"],
        PhotometricInterpretation="MONOCHROME1",
    )
    said = lines_of(path)
    assert said["size"] == "8 x 5 x 1 (columns, rows, frames), 1 component"
    assert said["spacing"] == "0.4 x 0.3 x 7 mm (x, y, z)"
    assert said["origin"] == "(1, 2, 3) mm LPS"
    assert said["direction"] == "x (0.8, 0.6, 0), y (0, 0, 1), z (0.6, -0.8, 0)"
    assert said["photometric"].startswith("MONOCHROME1, 1 sample: grey, larger values are darker")
    assert said["image type"].startswith("DERIVED\\SECONDARY\\MPR: computed from other images, not for measuring")
    assert said["thickness"] == "5 mm, spacing between slices 7 mm: gap of 2 mm"


def test_what_is_made_up_is_said(tmp_path: Path) -> None:
    said = lines_of(made(tmp_path / "x.dcm", ImageType="SECONDARY CAPTURE"))
    assert said["spacing"] == "1 x 1 x 1 mm (x, y, z) (x and y and z: not in the file, SimpleITK's default)"
    assert said["origin"] == "(0, 0, 0) mm LPS (not in the file, SimpleITK's default)"
    assert said["image type"].endswith("malformed, pixel origin or role in the examination is not said")


def test_the_example_runs() -> None:
    done = doctest.testmod(fastdcm.look.header)
    assert done.attempted >= 4
    assert done.failed == 0


@pytest.mark.timeout(20)
def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UsageError, match="cannot be read: not a regular file"):
        header(tmp_path / "pipe")


def test_the_number_of_elements_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of its items costs eight bytes of the file, and a hundred times that in memory."""
    monkeypatch.setattr(listing, "ELEMENTS_MAX", 1000)
    good = dicomgen.make_series(tmp_path, n=1).paths[0].read_bytes()
    items = b"\xfe\xff\0\xe0\0\0\0\0" * 2000
    path = tmp_path / "items.dcm"
    pixels = good.rindex(b"\xe0\x7f\x10\0")
    path.write_bytes(good[:pixels] + b"\0\x52\x30\x92SQ\0\0" + struct.pack("<I", len(items)) + items + good[pixels:])
    found = header(path)
    assert len(found.elements) == 1000
    assert found.problem == "only the first 1000 elements are listed"
    assert found.image is not None
    assert found.image.size == (18, 22, 1)
