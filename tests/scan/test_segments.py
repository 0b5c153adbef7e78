"""Segments of a segmentation: labels, codes and colours, from tags alone and end to end by highdicom."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset

from fastdcm.scan.segments import segments_of
from tests import dicomgen
from tests.converted import convert


def code(value: str, scheme: str, meaning: str | None = None) -> list[Dataset]:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator = value, scheme
    if meaning:
        item.CodeMeaning = meaning
    return [item]


def segment(number: int | None, **elements: Any) -> Dataset:
    item = Dataset()
    if number is not None:
        item.SegmentNumber = number
    for name, value in elements.items():
        setattr(item, name, value)
    return item


def tags_of(*segments: Dataset) -> dict[str, Any]:
    dataset = Dataset()
    dataset.SegmentSequence = list(segments)
    tags: dict[str, Any] = dataset.to_json_dict()
    return tags


def test_labels_codes_and_numbers() -> None:
    liver = segment(
        2,
        SegmentLabel="my liver",
        SegmentedPropertyCategoryCodeSequence=code("123037004", "SCT", "Anatomical Structure"),
        SegmentedPropertyTypeCodeSequence=code("10200004", "SCT", "Liver"),
        SegmentAlgorithmType="MANUAL",
    )
    assert segments_of(tags_of(liver, segment(1))) == [
        {"number": 1},
        {
            "number": 2,
            "label": "my liver",
            "category": {"value": "123037004", "scheme": "SCT", "meaning": "Anatomical Structure"},
            "type": {"value": "10200004", "scheme": "SCT", "meaning": "Liver"},
            "algorithm_type": "MANUAL",
        },
    ]


@pytest.mark.parametrize(
    ("value", "scheme", "label"),
    [
        ("10200004", "SCT", "Liver"),
        ("T-62000", "SRT", "Liver"),
        ("78961009", "SCT", "Spleen"),
        ("nonsense", "99X", None),
    ],
)
def test_without_texts_the_vocabulary_names_the_type(value: str, scheme: str, label: str | None) -> None:
    (found,) = segments_of(tags_of(segment(1, SegmentedPropertyTypeCodeSequence=code(value, scheme))))
    assert found.get("label") == label


def lab(lightness: float, a: float, b: float) -> list[int]:
    """Return CIELab as DICOM stores it (PS3.3 C.10.7.1.1)."""
    return [round(lightness / 100 * 65535), round((a + 128) / 255 * 65535), round((b + 128) / 255 * 65535)]


@pytest.mark.parametrize(
    ("stored", "rgb"),
    [  # the primaries of sRGB in CIELab with white point D50, as colour profiles have them
        (lab(100, 0, 0), (255, 255, 255)),
        (lab(0, 0, 0), (0, 0, 0)),
        (lab(54.29, 80.81, 69.89), (255, 0, 0)),
        (lab(87.82, -79.29, 80.99), (0, 255, 0)),
        (lab(29.57, 68.30, -112.03), (0, 0, 255)),
        (lab(53.59, 0, 0), (128, 128, 128)),
    ],
)
def test_recommended_colours(stored: list[int], rgb: tuple[int, int, int]) -> None:
    (found,) = segments_of(tags_of(segment(1, RecommendedDisplayCIELabValue=stored)))
    shown = [int(found["color"][i : i + 2], 16) for i in (0, 2, 4)]
    np.testing.assert_allclose(shown, rgb, atol=2)


@pytest.mark.parametrize(
    "tags",
    [
        {},
        {"00620002": {"vr": "SQ"}},
        {"00620002": {"vr": "SQ", "Value": [None, {}, {"00620004": {"vr": "US"}}]}},
        {"00620002": {"vr": "SQ", "Value": [{"00620004": {"vr": "US", "Value": ["x"]}}]}},
    ],
)
def test_what_is_unreadable_is_no_segment(tags: dict[str, Any]) -> None:
    assert segments_of(tags) == []


@pytest.mark.parametrize("kind", ["BINARY", "FRACTIONAL", "LABELMAP"])
def test_a_segmentation_has_named_and_coloured_channels(tmp_path: Path, kind: str) -> None:
    import highdicom
    from pydicom.sr.codedict import codes

    source = tmp_path / "export"
    made = dicomgen.make_series(source, n=4)
    images = [pydicom.dcmread(path) for path in made.paths]
    for image in images:
        for name in ("PatientBirthDate", "PatientSex", "AccessionNumber", "ReferringPhysicianName", "StudyID"):
            setattr(image, name, "")
        image.PositionReferenceIndicator = ""
    masks = np.zeros((4, 22, 18, 2), np.uint8)
    masks[1:3, 3:9, 4:8, 0] = 1
    masks[2, 10:15, 2:7, 1] = 1
    described = [
        highdicom.seg.SegmentDescription(
            number, f"typed by {label}", codes.SCT.Organ, type_code, highdicom.seg.SegmentAlgorithmTypeValues.MANUAL,
            display_color=highdicom.color.CIELabColor(54.29, 80.81, 69.89),
        )
        for number, label, type_code in ((1, "A", codes.SCT.Liver), (2, "B", codes.SCT.Spleen))
    ]  # fmt: skip
    more: dict[str, Any] = (
        {"fractional_type": "PROBABILITY", "max_fractional_value": 200} if kind == "FRACTIONAL" else {}
    )
    array = {"FRACTIONAL": masks * 0.5, "LABELMAP": masks[..., 0] + 2 * masks[..., 1]}.get(kind, masks)
    highdicom.seg.Segmentation(
        source_images=images, pixel_array=array, segmentation_type=kind, segment_descriptions=described,
        series_instance_uid="1.2.3.9", series_number=9, sop_instance_uid="1.2.3.9.1", instance_number=1,
        manufacturer="A", manufacturer_model_name="B", software_versions="1", device_serial_number="1", **more,
    ).save_as(source / "seg.dcm")  # fmt: skip
    for metadata, labels in (("technical", ["Liver", "Spleen"]), ("full", ["typed by A", "typed by B"])):
        (volume,) = convert(source, name=f"{metadata}.zarr", metadata=metadata).of_series("1.2.3.9")
        ours, ome = volume.attributes["fastdcm"], volume.attributes["ome"]
        found = {one["number"]: one for one in ours["segments"] if one["number"]}
        assert [found[number]["label"] for number in (1, 2)] == labels
        assert found[1]["type"]["value"] == codes.SCT.Liver.value
        assert ("typed by" in str(volume.attributes)) == (metadata == "full")
        if kind == "LABELMAP":
            continue
        assert ours["dims"]["c"] == {"role": "segment", "values": [1, 2], "labels": labels}
        channels = ome["omero"]["channels"]
        assert [channel["label"] for channel in channels] == [f"{labels[0]} (1)", f"{labels[1]} (2)"]
        assert channels[0]["color"].startswith("FF")
