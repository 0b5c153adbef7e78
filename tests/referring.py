"""Objects that refer to a series: reports, structure sets and the like, one of each, as their modules say (PS3.3)."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from pydicom import uid as uids
from pydicom.dataset import Dataset

from tests.dicomgen import Series, new_dataset, pixel_module, save, uid


class Object(NamedTuple):
    """One object, and what it must be found to refer to."""

    path: Path
    name: str
    relation: str | None
    instances: int
    """0: it names no image."""


def sequence(*items: Dataset, **elements: Any) -> list[Dataset]:
    """Return the items, or one item of these elements."""
    if items:
        return list(items)
    item = Dataset()
    for keyword, value in elements.items():
        setattr(item, keyword, value)
    return [item]


def images(series: Series, n: int) -> list[Dataset]:
    """Return a reference to each of the first ``n`` images (PS3.3 10.8)."""
    return [
        sequence(ReferencedSOPClassUID=one.SOPClassUID, ReferencedSOPInstanceUID=one.SOPInstanceUID)[0]
        for one in series.datasets[:n]
    ]


def in_series(series: Series, n: int, keyword: str = "ReferencedSOPSequence") -> list[Dataset]:
    return sequence(**{keyword: images(series, n), "SeriesInstanceUID": series.series_uid})


def in_study(series: Series, n: int) -> list[Dataset]:
    return sequence(ReferencedSeriesSequence=in_series(series, n), StudyInstanceUID=series.study_uid)


def write(folder: Path, name: str, sop_class: str, modality: str, series: Series, syntax: str, **elements: Any) -> Path:
    dataset = new_dataset(
        sop_class,
        uid("object", name),
        Modality=modality,
        PatientID="P1",
        StudyInstanceUID=series.study_uid,
        SeriesInstanceUID=uid("objects", name),
        **elements,
    )
    dataset.file_meta.TransferSyntaxUID = uids.UID(syntax)
    return save(dataset, folder / f"{name}.dcm")


def make_objects(folder: Path, series: Series, syntax: str = uids.ExplicitVRLittleEndian) -> list[Object]:
    """Write one object of each kind without an image, about ``series`` (at least three images)."""
    space = series.datasets[0].FrameOfReferenceUID
    rt_series = sequence(ContourImageSequence=images(series, 3), SeriesInstanceUID=series.series_uid)
    rt_study = sequence(
        RTReferencedSeriesSequence=rt_series,
        ReferencedSOPClassUID="1.2.840.10008.3.1.2.3.1",
        ReferencedSOPInstanceUID=series.study_uid,
    )
    contours = sequence(ContourSequence=sequence(ContourImageSequence=images(series, 1)), ReferencedROINumber=1)
    text = sequence(ReferencedSOPSequence=images(series, 1), RelationshipType="CONTAINS", ValueType="IMAGE")
    moved = sequence(ReferencedImageSequence=images(series, 2), FrameOfReferenceUID=space)
    kinds: list[tuple[str, str, str, str, str | None, int, dict[str, Any]]] = [
        ("rtss", uids.RTStructureSetStorage, "RTSTRUCT", "RT Structure Set", "ReferencedFrameOfReferenceSequence", 3,
         {"ReferencedFrameOfReferenceSequence": sequence(RTReferencedStudySequence=rt_study, FrameOfReferenceUID=space),
          "ROIContourSequence": contours}),
        ("sr", uids.BasicTextSRStorage, "SR", "Basic Text SR", "CurrentRequestedProcedureEvidenceSequence", 2,
         {"CurrentRequestedProcedureEvidenceSequence": in_study(series, 2), "ContentSequence": text}),
        ("ko", uids.KeyObjectSelectionDocumentStorage, "KO", "Key Object Selection Document",
         "CurrentRequestedProcedureEvidenceSequence", 1,
         {"CurrentRequestedProcedureEvidenceSequence": in_study(series, 1)}),
        ("pr", uids.GrayscaleSoftcopyPresentationStateStorage, "PR", "Grayscale Softcopy Presentation State",
         "ReferencedSeriesSequence", 3,
         {"ReferencedSeriesSequence": in_series(series, 3, "ReferencedImageSequence")}),
        ("pdf", uids.EncapsulatedPDFStorage, "DOC", "Encapsulated PDF", "SourceInstanceSequence", 1,
         {"SourceInstanceSequence": images(series, 1), "EncapsulatedDocument": b"%PDF"}),
        ("spectrum", uids.MRSpectroscopyStorage, "MR", "MR Spectroscopy", "ReferencedImageEvidenceSequence", 2,
         {"ReferencedImageEvidenceSequence": in_study(series, 2), "SpectroscopyData": b"\0" * 8}),
        ("raw", uids.RawDataStorage, "MR", "Raw Data", "ReferencedInstanceSequence", 1,
         {"ReferencedInstanceSequence": images(series, 1)}),
        ("ecg", uids.TwelveLeadECGWaveformStorage, "ECG", "12-lead ECG Waveform", None, 0, {}),
        ("reg", uids.SpatialRegistrationStorage, "REG", "Spatial Registration", "RegistrationSequence", 2,
         {"RegistrationSequence": moved}),
        ("fiducials", uids.SpatialFiducialsStorage, "FID", "Spatial Fiducials", "FrameOfReferenceUID", 3,
         {"FrameOfReferenceUID": space}),
    ]  # fmt: skip
    return [
        Object(write(folder, name, sop_class, modality, series, syntax, **elements), title, relation, n)
        for name, sop_class, modality, title, relation, n, elements in kinds
    ]


def make_segmentation(folder: Path, series: Series) -> Path:
    """Write a segmentation of the first image, as an image that refers to a series."""
    pixels = pixel_module(np.zeros((1, 8, 8), np.uint8), bits_stored=8)
    dataset = new_dataset(
        uids.SegmentationStorage,
        uid("object", "seg"),
        Modality="SEG",
        PatientID="P1",
        StudyInstanceUID=series.study_uid,
        SeriesInstanceUID=uid("objects", "seg"),
        ReferencedSeriesSequence=in_series(series, 1, "ReferencedInstanceSequence"),
        **pixels,
    )
    dataset.PixelData = bytes(64)
    return save(dataset, folder / "seg.dcm")
