"""Tags for the store: no name leaks, nothing technical is lost, columns are right, and it is always valid JSON."""

from __future__ import annotations

import base64
import json
import pickle
import struct
from collections.abc import Sequence
from importlib import import_module
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import dcmread
from pydicom import uid as uids
from pydicom._dicom_dict import DicomDictionary, RepeatersDictionary
from pydicom.datadict import dictionary_keyword, dictionary_VR
from pydicom.dataset import Dataset
from pydicom.uid import UID

from fastdcm.model import FrameSource, PixelFormat
from fastdcm.scan.allow import DATE_TIMES, PHILIPS, TECHNICAL
from fastdcm.scan.tags import Policy, SliceTags, TagTable, merge, slice_tags, table_of, tag_table, to_json
from tests import dicomgen

MARKER = "Zebra"
TEXT_VRS = {"AE", "LO", "LT", "PN", "SH", "ST", "UC", "UR", "UT", "CS", "AS", "DA", "DT"}
PIXELS = np.arange(60, dtype=np.uint16).reshape(1, 6, 10)
FORMAT = PixelFormat(uids.ExplicitVRLittleEndian, 6, 10, 1, 0, "MONOCHROME2", 16, 12, 11, False, 1, "PixelData")
SOURCE = FrameSource("", 0, 0, 0, 0, -1, 0, 0, -1, 0, FORMAT, 1.0, 0.0, None)


def make(**elements: Any) -> Dataset:
    values = {"Modality": "CT", "PatientID": "P1", **dicomgen.pixel_module(PIXELS, bits_stored=12), **elements}
    dataset = dicomgen.new_dataset(uids.CTImageStorage, "1.2.3", **values)
    dicomgen.set_pixels(dataset, PIXELS, uids.ExplicitVRLittleEndian)
    return dataset


def header_of(dataset: Dataset, syntax: str = uids.ExplicitVRLittleEndian) -> bytes:
    """Return what the store's tasks hand over: the file up to the pixel value."""
    dataset.file_meta.TransferSyntaxUID = UID(syntax)
    buffer = BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    data = buffer.getvalue()
    return data[: len(data) - PIXELS.nbytes]


def document(dataset: Dataset, policy: Policy, syntax: str = uids.ExplicitVRLittleEndian) -> dict[str, Any]:
    constant, varying = to_json(tag_table([slice_tags(header_of(dataset, syntax), syntax, policy)], policy))
    assert varying == {}
    json.dumps(constant, allow_nan=False, ensure_ascii=False).encode()
    return constant


# ---------------------------------------------------------------------------- the allow-list


def marked_text(vr: str) -> str:
    return {"AS": "042Y", "DA": "19770707", "DT": "19770707101112"}.get(vr, MARKER.upper() if vr == "CS" else MARKER)


def fill(dataset: Dataset) -> int:
    """Write a marker into every text attribute of the dictionary that is not allowed; return how many."""
    count = 0
    for tag, (vr, *_) in DicomDictionary.items():
        if tag in TECHNICAL or tag in DATE_TIMES or vr not in TEXT_VRS or tag >> 16 in (0, 2, 4) or tag == 0x00080005:
            continue
        dataset.add_new(tag, vr, marked_text(vr))
        count += 1
    return count


def test_no_text_leaks_whatever_attribute_it_is_in() -> None:
    dataset = make()
    assert fill(dataset) > 1500
    nested = Dataset()
    fill(nested)
    deeper = Dataset()
    fill(deeper)
    deeper.RadionuclideTotalDose = 3.7e8
    nested.RadionuclideCodeSequence = [deeper]
    nested.RadiopharmaceuticalStartDateTime = "19770707101112.5+0100"
    small = Dataset()
    small.PersonName, small.CodeMeaning, small.TextValue = MARKER, MARKER, MARKER
    for tag, (vr, *_) in DicomDictionary.items():
        if vr == "SQ":
            dataset.add_new(tag, "SQ", [small])
    dataset.RadiopharmaceuticalInformationSequence = [nested]
    dataset.SegmentSequence = [nested]
    dataset.private_block(0x0009, "GEMS_IDEN_01", create=True).add_new(0x01, "LO", MARKER)
    dataset.private_block(0x7053, MARKER, create=True).add_new(0x00, "DS", "1.5")
    for mask, (vr, *_) in RepeatersDictionary.items():
        group = int(mask[:2] + "02", 16)
        if mask.startswith("60") and vr in TEXT_VRS:
            dataset.add_new(group << 16 | int(mask[4:], 16), vr, marked_text(vr))
    for syntax in (uids.ExplicitVRLittleEndian, uids.ImplicitVRLittleEndian, uids.ExplicitVRBigEndian):
        found = document(dataset, "technical", syntax)
        text = json.dumps(found).upper()
        for secret in (MARKER.upper(), "19770707", "042Y", "DOE", "JANE", "20240102", "P1"):
            assert secret not in text, (syntax, text[max(text.find(secret) - 200, 0) :][:300])
        item = found["00540016"]["Value"][0]
        assert item["00181072"] == {"vr": "TM", "Value": ["101112.5"]}
        assert item["00540300"]["Value"][0] == {"00181074": {"vr": "DS", "Value": [3.7e8]}}
    full = json.dumps(document(dataset, "full"))
    assert full.count(MARKER) > 1000


def test_the_table_is_the_dictionarys_and_has_no_dates_names_or_free_text() -> None:
    for tag, (vr, keyword) in TECHNICAL.items():
        assert (dictionary_VR(tag), dictionary_keyword(tag)) == (vr, keyword)
        assert vr not in {"DA", "DT", "PN", "AE", "AS", "LT", "ST", "UT", "UC", "UR", "OB", "UN"}
        assert vr != "OW" or keyword.endswith("PaletteColorLookupTableData")
        assert not any(
            word in keyword
            for word in ("Name", "Description", "Comment", "Protocol", "Operator", "Institution", "Serial", "Station")
            if keyword not in {"ManufacturerModelName", "SequenceName", "ReceiveCoilName", "TransmitCoilName",
                               "CollimatorGridName"}
            and not keyword.startswith("Series") and "Instance" not in keyword and keyword != "ContrastBolusStartTime"
        ), keyword  # fmt: skip


def test_what_all_frames_share_and_real_world_values_stay_without_free_text() -> None:
    timing, units, mapping, shared = Dataset(), Dataset(), Dataset(), Dataset()
    timing.RepetitionTime = 2000.0
    units.CodeValue, units.CodeMeaning = "g/ml", MARKER
    mapping.RealWorldValueSlope, mapping.LUTExplanation = 0.25, MARKER
    mapping.MeasurementUnitsCodeSequence = [units]
    shared.MRTimingAndRelatedParametersSequence, shared.RealWorldValueMappingSequence = [timing], [mapping]
    found = document(make(Modality="MR", SharedFunctionalGroupsSequence=[shared]), "technical")
    item = found["52009229"]["Value"][0]
    assert item["00189112"]["Value"][0]["00180080"]["Value"] == [2000.0]
    assert item["00409096"]["Value"][0]["00409225"]["Value"] == [0.25]
    assert item["00409096"]["Value"][0]["004008EA"]["Value"] == [{"00080100": {"vr": "SH", "Value": ["g/ml"]}}]
    assert MARKER not in json.dumps(found)


def test_what_suv_needs_stays() -> None:
    drug = Dataset()
    drug.RadionuclideTotalDose, drug.RadionuclideHalfLife = 3.7e8, 6586.2
    drug.RadiopharmaceuticalStartTime, drug.Radiopharmaceutical = "101112.00", "FDG for Jane"
    dataset = make(
        Modality="PT",
        PatientSize=1.7,
        PatientWeight=70.5,
        PatientSex="F",
        SeriesTime="101112",
        AcquisitionTime="101530.25",
        DecayCorrection="START",
        RadiopharmaceuticalInformationSequence=[drug],
    )
    block = dataset.private_block(0x7053, "Philips PET Private Group", create=True)
    block.add_new(0x00, "DS", "0.000551")
    block.add_new(0x09, "DS", "2.5")
    block.add_new(0x03, "LO", MARKER)
    for syntax in (uids.ExplicitVRLittleEndian, uids.ImplicitVRLittleEndian):
        found = document(dataset, "technical", syntax)
        assert found["00101020"] == {"vr": "DS", "Value": [1.7]}
        assert found["00101030"] == {"vr": "DS", "Value": [70.5]}
        assert found["00100040"] == {"vr": "CS", "Value": ["F"]}
        assert found["00541102"] == {"vr": "CS", "Value": ["START"]}
        assert found["00080031"]["Value"] == ["101112"]
        assert found["00080032"]["Value"] == ["101530.25"]
        assert found["00540016"]["Value"] == [
            {
                "00181072": {"vr": "TM", "Value": ["101112.00"]},
                "00181074": {"vr": "DS", "Value": [3.7e8]},
                "00181075": {"vr": "DS", "Value": [6586.2]},
            }
        ]
        assert found["70531000"]["Value"] == [0.000551]
        assert found["70531009"]["Value"] == [2.5]
        assert "70531003" not in found
        assert set(map(int, PHILIPS)) >= {int(key, 16) for key in found if key.startswith("7053")}


@pytest.mark.parametrize("syntax", [uids.ExplicitVRLittleEndian, uids.ImplicitVRLittleEndian])
def test_the_mr_scale_of_philips_stays_if_it_is_a_number_of_philips(syntax: str) -> None:
    def found(creator: str, vr: str, value: Any) -> dict[str, Any]:
        dataset = make(Modality="MR")
        block = dataset.private_block(0x2005, creator, create=True)
        block.add_new(0x0E, vr, value)
        block.add_new(0x0F, "LO", MARKER)
        return {tag: made for tag, made in document(dataset, "technical", syntax).items() if tag.startswith("2005")}

    kept = found("Philips MR Imaging DD 001", "FL", 0.0125)
    assert set(kept) == {"20050010", "2005100E"}
    assert kept["2005100E"] == {"vr": "FL", "Value": [pytest.approx(0.0125)]}
    assert found("Somebody else", "FL", 0.0125) == {}
    if syntax == uids.ExplicitVRLittleEndian:
        assert found("Philips MR Imaging DD 001", "LO", MARKER) == {}


# ---------------------------------------------------------------------------- values


def test_full_equals_pydicoms_json() -> None:
    inner = Dataset()
    inner.ReferencedSOPInstanceUID = "1.2.3"
    inner.ReferencedFrameNumber = [1, 2]
    dataset = make(
        PatientName="Doe^Jane=日本",
        SpecificCharacterSet="ISO_IR 192",
        ImageType=["ORIGINAL", "PRIMARY", "", "X"],
        ImagePositionPatient=["-12.5", "7.25", "1e1"],
        InstanceNumber=7,
        FrameIncrementPointer=[0x00181063, 0x00540080],
        ImageComments="a\\b",
        SliceThickness="",
        DiffusionBValue=0.5,
        ReferencedImageSequence=[inner],
        PixelPaddingValue=-3,
        PixelRepresentation=1,
    )
    dataset.add_new(0x00181000, "LO", "Süß")
    dataset.private_block(0x0009, "ME", create=True).add_new(0x01, "OB", b"abcd")
    theirs = json.loads(dataset.to_json())
    for tag in ("00080005", "7FE00010"):
        theirs.pop(tag)
    theirs["00080008"]["Value"][2] = None  # PS3.18 F.2.5; pydicom writes an empty text
    theirs["00280120"]["vr"] = "SS"  # pydicom decides when it writes
    for syntax in (uids.ExplicitVRLittleEndian, uids.ExplicitVRBigEndian):
        assert document(dataset, "full", syntax) == theirs


def test_values_that_break_their_vr_stay_text_and_are_never_invalid_json() -> None:
    data = header_of(make(SliceThickness="1.25", DiffusionBValue=1.0, KVP="120.5", Manufacturer="ABCDEF"))
    for old, new in ((b"1.25", b"thin"), (struct.pack("<d", 1.0), struct.pack("<d", float("nan")))):
        assert data.count(old) == 1
        data = data.replace(old, new)
    data = data.replace(b"120.5 ", b"120,5 ").replace(b"ABCDEF", b"\xff\xfe\x00\x1b$B")
    constant, _ = to_json(tag_table([slice_tags(data, "", "technical")], "technical"))
    json.dumps(constant, allow_nan=False, ensure_ascii=False).encode()
    assert constant["00180050"] == {"vr": "DS", "Value": ["thin"]}
    assert constant["00189087"] == {"vr": "FD"}
    assert constant["00180060"] == {"vr": "DS", "Value": [120.5]}


def test_large_binary_is_left_out_and_small_binary_is_kept_in_full() -> None:
    dataset = make()
    block = dataset.private_block(0x0009, "ME", create=True)
    block.add_new(0x01, "OB", b"\1" * 4096)
    block.add_new(0x02, "OB", b"\1" * 4098)
    block.add_new(0x03, "UN", b"\1" * 4098)
    dataset.add_new(0x60003000, "OW", b"\1" * 10)
    full, technical = document(dataset, "full"), document(dataset, "technical")
    assert {"00091001", "60003000"} <= set(full)
    assert not {"00091002", "00091003", "7FE00010"} & set(full)
    assert not {"00091001", "60003000"} & set(technical)
    assert document(make(), "none") == {}


# ---------------------------------------------------------------------------- many slices


def headers(count: int) -> list[bytes]:
    places = [-9.5 + k for k in range(count)]
    return [
        header_of(
            make(
                InstanceNumber=k + 1,
                ImagePositionPatient=[0, 0, places[k]],
                ImageComments="x",
                **({"TriggerTime": 5} if k == 2 else {}),
            )
        )
        for k in range(count)
    ]


def test_constant_and_varying_with_absent_slices() -> None:
    made = headers(4)
    cells: Sequence[bytes | None] = [made[0], None, *made[1:]]
    table = table_of(cells, [SOURCE if cell else None for cell in cells], "technical")
    constant, varying = to_json(pickle.loads(pickle.dumps(table)))
    assert constant["00080060"] == {"vr": "CS", "Value": ["CT"]}
    assert varying["00200013"] == {"vr": "IS", "Value": [[1], None, [2], [3], [4]]}
    assert varying["00200032"]["Value"] == [[0.0, 0.0, -9.5], None, *([0.0, 0.0, k - 9.5] for k in range(1, 4))]
    assert varying["00181060"] == {"vr": "DS", "Value": [None, None, None, [5.0], None]}
    assert not set(constant) & set(varying)


@pytest.mark.parametrize("policy", ["technical", "full"])
def test_layouts_walks_and_merged_parts_are_all_the_same(policy: Policy) -> None:
    made = headers(14)  # texts of two lengths: two layouts, and one of its own
    sources = [SOURCE] * len(made)
    whole = table_of(made, sources, policy)
    plain = tag_table([slice_tags(header, "", policy) for header in made], policy)
    parts = [table_of(made[a:b], sources[a:b], policy) for a, b in ((0, 1), (1, 5), (5, 5), (5, 14))]
    for table in (plain, merge(parts), merge([merge(parts[:2]), merge(parts[2:])])):
        assert to_json(table) == to_json(whole)
        assert (table.constant, table.varying, table.present) == (whole.constant, whole.varying, whole.present)


def test_headers_of_one_length_and_several_layouts(monkeypatch: pytest.MonkeyPatch) -> None:
    """The element that is longer takes turns, so that blocks are cut and compared in the midst of both kinds."""
    texts = (("AB", "CDEF"), ("ABCD", "EF"), ("XY", "CDGH"))
    made = []
    for k in range(12):
        comments, name = texts[k % 3]
        made.append(header_of(make(InstanceNumber=10 + k, ImageComments=comments, SequenceName=name)))
    assert len({len(header) for header in made}) == 1
    want = tag_table([slice_tags(header, "", "full") for header in made], "full")
    for bytes_at_a_time in (1, 3 * len(made[0]), 1 << 20):
        monkeypatch.setattr(import_module("fastdcm.scan.tags"), "_COMPARED_BYTES", bytes_at_a_time)
        table = table_of(made, [SOURCE] * len(made), "full")
        assert (table.constant, table.varying) == (want.constant, want.varying)
    assert to_json(want)[1]["00180024"]["Value"] == [[texts[k % 3][1]] for k in range(12)]


def test_remembered_elements_depend_on_character_set_and_sign() -> None:
    raw = "Müller".encode("latin-1")
    found = []
    for charset in (b"ISO_IR 100", b"ISO_IR 144"):
        table = tag_table([{0x00080005: ("CS", charset), 0x00081090: ("LO", raw)}], "full")
        found.append(to_json(table)[0]["00081090"]["Value"])
    assert found == [["Müller"], [raw.decode("iso8859_5")]]
    for sign, value in ((b"\0\0", 65535), (b"\1\0", -1)):
        table = tag_table([{0x00280103: ("US", sign), 0x00280106: ("", b"\xff\xff")}], "technical")
        assert to_json(table)[0]["00280106"]["Value"] == [value]


def test_undefined_length_sequences_are_not_taken_by_layout() -> None:
    """Two headers of one length, whose sequences end at different places."""
    made = []
    for inner, outer in (("AB", "CDEF"), ("ABCD", "EF")):
        item = Dataset()
        item.CodeValue = inner
        dataset = make(ViewCodeSequence=[item], PositionReferenceIndicator=outer)
        dataset["ViewCodeSequence"].is_undefined_length = True
        item.is_undefined_length_sequence_item = True
        made.append(header_of(dataset))
    assert len(made[0]) == len(made[1])
    table = table_of(made, [SOURCE] * 2, "full")
    assert to_json(table)[1]["00201040"]["Value"] == [["CDEF"], ["EF"]]
    values = to_json(table)[1]["00540220"]["Value"]
    assert [value[0]["00080100"]["Value"] for value in values] == [["AB"], ["ABCD"]]


_VALUES = st.tuples(st.sampled_from(["DS", "CS"]), st.sampled_from([b"1", b"2", b""]))
_SLICES = st.lists(st.none() | st.dictionaries(st.sampled_from([0x00180050, 0x00180081, 0x00080060]), _VALUES))


@given(_SLICES, st.integers(0, 8))
def test_splitting_never_changes_a_table(slices: list[SliceTags | None], at: int) -> None:
    whole = tag_table(slices, "technical")
    joined = merge([tag_table(slices[:at], "technical"), tag_table(slices[at:], "technical")])
    assert (joined.constant, joined.varying, joined.present) == (whole.constant, whole.varying, whole.present)
    for cell, tags in enumerate(slices):
        if tags is not None:
            assert {tag: value for tag, value in rebuilt(joined, cell).items() if value is not None} == tags


def rebuilt(table: TagTable, cell: int) -> dict[int, Any]:
    return {**table.constant, **{tag: column[cell] for tag, column in table.varying.items()}}


@given(st.data())
def test_mutated_headers_make_json_or_nothing(data: st.DataObject) -> None:
    content = bytearray(_SEED)
    for _ in range(data.draw(st.integers(1, 10))):
        content[data.draw(st.integers(132, len(content) - 1))] = data.draw(st.integers(0, 255))
    header = bytes(content[: data.draw(st.integers(0, len(content)))])
    policies: tuple[Policy, ...] = ("technical", "full")
    for policy in policies:
        table = table_of([bytes(_SEED), header], [SOURCE] * 2, policy)
        for part in to_json(table):
            json.dumps(part, allow_nan=False, ensure_ascii=False).encode()


def _seed() -> bytes:
    inner = Dataset()
    inner.CodeValue = "T-1"
    inner.ViewModifierCodeSequence = [Dataset()]
    dataset = make(ViewCodeSequence=[inner, inner], PatientWeight=70, SpecificCharacterSet="ISO_IR 100")
    dataset["ViewCodeSequence"].is_undefined_length = True
    return header_of(dataset)


_SEED = _seed()


def test_headers_of_files_as_the_reader_finds_them(tmp_path: Path) -> None:
    path = dicomgen.make_enhanced(tmp_path).paths[0]
    dataset = dcmread(path)
    data = path.read_bytes()
    constant, _ = to_json(tag_table([slice_tags(data[: data.rindex(dataset.PixelData)], "", "full")], "full"))
    theirs = json.loads(dataset.to_json())
    theirs.pop("7FE00010")
    assert constant == theirs


@pytest.mark.parametrize("policy", ["technical", "full"])
@pytest.mark.parametrize("entries", [16, 65536])
def test_palettes_are_kept_whole(tmp_path: Path, policy: Policy, entries: int) -> None:
    palette = np.arange(entries, dtype="<u2").tobytes()
    edited: dict[str, Any] = {"PixelPresentation": "COLOR"}
    for colour in ("Red", "Green", "Blue"):
        edited[f"{colour}PaletteColorLookupTableDescriptor"] = [entries % 65536, 200, 16]
        edited[f"{colour}PaletteColorLookupTableData"] = palette
    made = dicomgen.make_series(tmp_path, n=1, **edited)
    header = made.paths[0].read_bytes()
    header = header[: header.index(b"\xe0\x7f\x10\x00")]
    constant, _ = to_json(tag_table([slice_tags(header, "1.2.840.10008.1.2.1", policy)], policy))
    assert constant["00281101"]["Value"] == [entries % 65536, 200, 16]
    for tag in ("00281201", "00281202", "00281203"):
        assert base64.b64decode(constant[tag]["InlineBinary"]) == palette
    applied = header.replace(b"MONOCHROME2 ", b"PALETTE COLO").replace(b"MONOCHROME2", b"PALETTE COL")
    constant, _ = to_json(tag_table([slice_tags(applied, "1.2.840.10008.1.2.1", policy)], policy))
    assert "00281101" in constant
    assert "00281201" not in constant
