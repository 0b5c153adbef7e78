"""Every storage SOP class of PS3.4 B.5 that holds images: it converts, as a decided kind, with the values of its file.

Once as plain frames; and those with functional groups with positions too, whose affine follows from PS3.3 C.7.6.2.1.1.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
import pytest
from pydicom import uid as uids
from pydicom._uid_dict import UID_dictionary
from pydicom.dataset import Dataset

from fastdcm.load.volume import Volume
from fastdcm.scan.rules import is_image_class
from tests import dicomgen
from tests.converted import Converted, convert

SLIDE = uids.VLWholeSlideMicroscopyImageStorage
CLASSES = {
    entry[4]: number
    for number, entry in UID_dictionary.items()
    if (entry[1] == "SOP Class" and entry[4].endswith("Storage")) or "StorageFor" in entry[4]
}
"""By keyword: images and others, current and retired."""
IMAGES = sorted(
    name
    for name in CLASSES
    if any(
        part in name
        for part in ("ImageStorage", "Segmentation", "ParametricMap", "RTDose", "MapStorage", "USVolume", "BscanVolume")
    )
    and not name.startswith(("SurfaceSegmentation", "VLWholeSlide"))
)
OTHERS = sorted(set(CLASSES) - set(IMAGES) - {"VLWholeSlideMicroscopyImageStorage", "MediaStorageDirectoryStorage"})
SPACING, STEP = (0.75, 0.5), 2.5
ORIGIN = np.array([-12.0, 7.5, 30.0])
NORMAL = dicomgen.normal_of(dicomgen.OBLIQUE)


def dataset(name: str, frames: npt.NDArray[Any], **elements: Any) -> Dataset:
    made = dicomgen.new_dataset(
        CLASSES[name], dicomgen.uid(name, len(frames)), Modality="OT", PatientID="P1",
        StudyInstanceUID=dicomgen.uid("study"), SeriesInstanceUID=dicomgen.uid("series", name, len(frames)),
        InstanceNumber=1, NumberOfFrames=len(frames) if len(frames) > 1 else None,
        **dicomgen.pixel_module(frames, bits_stored=12), **elements,
    )  # fmt: skip
    dicomgen.set_pixels(made, frames, uids.ExplicitVRLittleEndian)
    return made


def kind_of(volume: Volume) -> str:
    return str(volume.attributes["fastdcm"]["identity"]["kind"])


# ---------------------------------------------------------------------------- plain frames


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Converted:
    folder = tmp_path_factory.mktemp("classes") / "in"
    for name in IMAGES:
        for count in (1, 3):
            frames = dicomgen.make_pixels(count, 6, 5, seed=len(name))
            dicomgen.save(dataset(name, frames), folder / f"{name}-{count}.dcm")
    for name in OTHERS:
        made = dicomgen.new_dataset(
            CLASSES[name], dicomgen.uid(name), Modality="OT", PatientID="P1",
            StudyInstanceUID=dicomgen.uid("study"), SeriesInstanceUID=dicomgen.uid("series", name),
        )  # fmt: skip
        dicomgen.save(made, folder / f"{name}.dcm")
    return convert(folder)


def test_the_list_has_the_classes_that_hospitals_hold() -> None:
    assert len(IMAGES) > 65
    assert {"CTImageStorage", "OphthalmicThicknessMapStorage", "RTDoseStorage", "RTImageStorage"} <= set(IMAGES)
    assert {"RTBeamsTreatmentRecordStorage", "RTStructureSetStorage", "EncapsulatedPDFStorage"} <= set(OTHERS)


@pytest.mark.parametrize("name", IMAGES)
def test_each_class_of_images_converts(name: str, plain: Converted) -> None:
    for count in (1, 3):
        (volume,) = plain.of_series(dicomgen.uid("series", name, count))
        expected = dicomgen.make_pixels(count, 6, 5, seed=len(name))
        assert np.array_equal(volume.numpy().reshape(expected.shape), expected)
        assert kind_of(volume) in {"2d", "cine", "volume", "dose", "segmentation"}
        assert (kind_of(volume) == "dose") == (name == "RTDoseStorage")
        assert (kind_of(volume) == "segmentation") == ("Segmentation" in name)
        assert "affine" not in volume.attributes["fastdcm"]["geometry"]


def test_each_class_without_pixels_is_named(plain: Converted) -> None:
    rows = {row["path"]: row for row in pq.read_table(plain.path / "files.parquet").to_pylist()}
    for name in OTHERS:
        row = rows[f"{name}.dcm"]
        assert (row["outcome"], row["code"]) == ("not-image", "sop-class")
        assert UID_dictionary[CLASSES[name]][0] in row["message"]


@pytest.mark.parametrize("name", sorted(set(IMAGES) - {"RTDoseStorage"}))
def test_an_image_class_without_pixels_is_no_other_object(name: str) -> None:
    """A dose may be histograms alone (PS3.3 C.8.8.4)."""
    assert is_image_class(CLASSES[name])
    assert not any(is_image_class(CLASSES[other]) for other in OTHERS)


# ---------------------------------------------------------------------------- functional groups


def item(**elements: Any) -> Dataset:
    made = Dataset()
    for keyword, value in elements.items():
        setattr(made, keyword, value)
    return made


def with_groups(name: str, frames: npt.NDArray[Any], **elements: Any) -> Dataset:
    """Frames in a scrambled order, positions of their own, spacing and orientation in the shared group."""
    order = [2, 0, 3, 1]
    shared = item(
        PixelMeasuresSequence=[item(PixelSpacing=list(SPACING), SliceThickness=STEP)],
        PlaneOrientationSequence=[item(ImageOrientationPatient=[f"{v:.10g}" for v in dicomgen.OBLIQUE])],
    )
    groups = [
        item(
            PlanePositionSequence=[item(ImagePositionPatient=[f"{v:.10g}" for v in ORIGIN + k * STEP * NORMAL])],
            FrameContentSequence=[item(StackID="1", InStackPositionNumber=k + 1, DimensionIndexValues=[1, k + 1])],
        )
        for k in order
    ]
    return dataset(
        name, frames[order], SharedFunctionalGroupsSequence=[shared], PerFrameFunctionalGroupsSequence=groups,
        FrameOfReferenceUID=dicomgen.uid("frame"), **elements,
    )  # fmt: skip


PLACED: Mapping[str, str] = {
    "EnhancedCTImageStorage": "CT",
    "EnhancedMRImageStorage": "MR",
    "EnhancedPETImageStorage": "PT",
    "LegacyConvertedEnhancedCTImageStorage": "CT",
    "LegacyConvertedEnhancedMRImageStorage": "MR",
    "LegacyConvertedEnhancedPETImageStorage": "PT",
    "BreastTomosynthesisImageStorage": "MG",
    "XRay3DAngiographicImageStorage": "XA",
    "XRay3DCraniofacialImageStorage": "DX",
    "OphthalmicTomographyImageStorage": "OPT",
    "IntravascularOpticalCoherenceTomographyImageStorageForPresentation": "IVOCT",
    "IntravascularOpticalCoherenceTomographyImageStorageForProcessing": "IVOCT",
    "EnhancedMRColorImageStorage": "MR",
    "ParametricMapStorage": "OT",
}


@pytest.mark.parametrize("name", PLACED)
def test_frames_with_positions_are_a_volume(name: str, tmp_path: Path) -> None:
    frames = dicomgen.make_pixels(4, 6, 5)
    if "Color" in name:
        frames = np.stack([frames, frames + 7, frames + 90], -1).astype(np.uint8)
    made = with_groups(name, frames)
    made.Modality = PLACED[name]
    if "Color" in name:
        made.PhotometricInterpretation = "RGB"
        made.BitsStored, made.HighBit = 8, 7
    dicomgen.save(made, tmp_path / "in" / "a.dcm")
    (volume,) = convert(tmp_path / "in").store
    expected = np.moveaxis(frames, -1, 0) if "Color" in name else frames
    assert np.array_equal(volume.numpy(), expected)
    assert kind_of(volume) == "volume"
    affine = dicomgen.affine_of(ORIGIN, dicomgen.OBLIQUE, SPACING, STEP * NORMAL)
    np.testing.assert_allclose(volume.affine(), affine, atol=1e-6)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_parametric_maps_of_floats(dtype: type, tmp_path: Path) -> None:
    """Float and Double Float Pixel Data (PS3.3 C.7.6.24, C.7.6.25)."""
    frames: npt.NDArray[Any] = np.random.default_rng(2).normal(size=(4, 6, 5)).astype(dtype)
    made = with_groups("ParametricMapStorage", dicomgen.make_pixels(4, 6, 5))
    for keyword in ("PixelData", "BitsStored", "HighBit", "PixelRepresentation"):
        delattr(made, keyword)
    made.BitsAllocated = 8 * frames.dtype.itemsize
    data = frames[[2, 0, 3, 1]].tobytes()
    setattr(made, "FloatPixelData" if dtype is np.float32 else "DoubleFloatPixelData", data)
    dicomgen.save(made, tmp_path / "in" / "a.dcm")
    (volume,) = convert(tmp_path / "in").store
    assert (volume.numpy() == frames).all()
    assert volume.numpy().dtype == dtype
    affine = dicomgen.affine_of(ORIGIN, dicomgen.OBLIQUE, SPACING, STEP * NORMAL)
    np.testing.assert_allclose(volume.affine(), affine, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "modality"),
    [("BreastProjectionXRayImageStorageForPresentation", "MG"), ("EnhancedXAImageStorage", "XA"),
     ("EnhancedXRFImageStorage", "RF"), ("OphthalmicPhotography8BitImageStorage", "OP"),
     ("VLEndoscopicImageStorage", "ES"), ("RTImageStorage", "RTIMAGE"), ("VLMicroscopicImageStorage", "SM")],
)  # fmt: skip
@pytest.mark.parametrize("colour", [False, True])
def test_projections_and_photographs_have_no_place(name: str, modality: str, colour: bool, tmp_path: Path) -> None:
    grey = dicomgen.make_pixels(3, 6, 5, bits=8)
    frames = np.stack([grey, 255 - grey, grey // 2], -1) if colour else grey
    made = dataset(name, frames)
    made.Modality, made.BitsStored, made.HighBit = modality, 8, 7
    made.PhotometricInterpretation = "RGB" if colour else "MONOCHROME2"
    dicomgen.save(made, tmp_path / "in" / "a.dcm")
    (volume,) = convert(tmp_path / "in").store
    expected: npt.NDArray[Any] = np.moveaxis(frames, -1, 1)[:, :, None] if colour else frames[:, None]
    assert np.array_equal(volume.numpy(), expected)
    assert kind_of(volume) == "cine"
    assert "affine" not in volume.attributes["fastdcm"]["geometry"]


# ---------------------------------------------------------------------------- tiled segmentations


@pytest.mark.parametrize("organization", ["TILED_FULL", "TILED_SPARSE"])
@pytest.mark.parametrize("name", ["SegmentationStorage", "ParametricMapStorage"])
def test_tiles_of_a_slide_are_no_slices(name: str, organization: str, tmp_path: Path) -> None:
    """Frames of a segmentation of a whole slide are tiles of one plane (PS3.3 C.7.6.17.3)."""
    frames = (dicomgen.make_pixels(4, 6, 5) % 2).astype(np.uint8)
    made = dataset(
        name, frames, DimensionOrganizationType=organization, TotalPixelMatrixRows=12, TotalPixelMatrixColumns=10,
        ImageOrientationSlide=[0, -1, 0, -1, 0, 0], FrameOfReferenceUID=dicomgen.uid("frame"),
        TotalPixelMatrixOriginSequence=[item(XOffsetInSlideCoordinateSystem=10.0, YOffsetInSlideCoordinateSystem=20.0)],
        SharedFunctionalGroupsSequence=[item(PixelMeasuresSequence=[item(PixelSpacing=[0.001, 0.002])])],
    )  # fmt: skip
    made.Modality, made.BitsStored, made.HighBit = "SEG", 8, 7
    if name == "SegmentationStorage":
        made.SegmentationType = "FRACTIONAL"
    if organization == "TILED_SPARSE":
        made.PerFrameFunctionalGroupsSequence = [
            item(
                PlanePositionSlideSequence=[
                    item(
                        ColumnPositionInTotalImagePixelMatrix=1 + 5 * (k % 2),
                        RowPositionInTotalImagePixelMatrix=1 + 6 * (k // 2),
                        XOffsetInSlideCoordinateSystem=10.0 + k, YOffsetInSlideCoordinateSystem=20.0,
                        ZOffsetInSlideCoordinateSystem=0.0,
                    )
                ],
                SegmentIdentificationSequence=[item(ReferencedSegmentNumber=1)],
            )
            for k in range(4)
        ]  # fmt: skip
    dicomgen.save(made, tmp_path / "in" / "a.dcm")
    (volume,) = convert(tmp_path / "in").store
    assert np.array_equal(volume.numpy().reshape(frames.shape), frames)
    geometry = volume.attributes["fastdcm"]["geometry"]
    assert "affine" not in geometry
    assert not geometry["has_position"]
    assert volume.attributes["fastdcm"]["dims"]["t"]["role"] == "frame"
