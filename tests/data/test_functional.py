"""Frame rows of real multi-frame, mosaic and diffusion files against highdicom and the NIfTI references."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import highdicom
import nibabel
import numpy as np
import pytest
from pydicom import dcmread

from fastdcm.scan.find import FoundFile
from fastdcm.scan.reference import read_instance

DATA = Path(os.environ["FASTDCM_DATA"])
Row = dict[str, Any]
_LPS_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


def read(path: Path) -> tuple[Row, list[Row]]:
    row, frames = read_instance(str(path), FoundFile(0, path.name, path.stat().st_size, 0))
    assert row["outcome"] is None, row["message"]
    return row, frames


def vectors(frames: list[Row], *names: str) -> np.ndarray[Any, Any]:
    return np.array([[frame[name] for name in names] for frame in frames], float)


POSITION = ("position_x", "position_y", "position_z")
PHILIPS = DATA / "icometrix__dicom2nifti/tests/data/philips_enhanced"


@pytest.mark.parametrize("name", ["dti", "fmri"])
def test_philips_enhanced_equals_its_nifti_in_space(name: str) -> None:
    """Every frame's position lies on a slice of the reference, and each slice of it is there."""
    path = next((PHILIPS / name / "001").glob("*.dcm"))
    _, frames = read(path)
    image: Any = nibabel.load(PHILIPS / name / "001_ground_truth.nii.gz")
    indices = nibabel.affines.apply_affine(np.linalg.inv(_LPS_RAS @ image.affine), vectors(frames, *POSITION))
    slices = np.round(indices)
    np.testing.assert_allclose(indices, slices, atol=2e-2)
    assert len(np.unique(slices, axis=0)) == image.shape[2]
    assert len(frames) == image.shape[2] * image.shape[3]
    zooms = image.header.get_zooms()
    np.testing.assert_allclose(vectors(frames, "spacing_x", "spacing_y"), [zooms[:2]] * len(frames), rtol=1e-4)


def test_philips_diffusion_equals_the_bval_and_bvec_of_the_reference() -> None:
    _, frames = read(next((PHILIPS / "dti" / "001").glob("*.dcm")))
    b_values = np.loadtxt(PHILIPS / "dti" / "001_ground_truth.bval")
    b_vectors = np.loadtxt(PHILIPS / "dti" / "001_ground_truth.bvec").T
    groups = {(f["b_value"], f["b_x"], f["b_y"], f["b_z"]) for f in frames}
    assert sorted(group[0] for group in groups) == sorted(b_values.tolist())
    assert len(frames) == len(b_values) * len({f["position_z"] for f in frames})
    rows = np.array([frames[0][name] for name in ("row_x", "row_y", "row_z")])
    columns = np.array([frames[0][name] for name in ("column_x", "column_y", "column_z")])
    axes = np.stack([rows, columns, np.cross(rows, columns)])
    ours = [np.abs(axes @ np.array(g[1:], float)) for g in groups if g[0] and g[1] is not None]
    theirs = [np.abs(vector) for value, vector in zip(b_values, b_vectors, strict=True) if value and vector.any()]
    for vector in ours:
        assert min(np.abs(vector - other).max() for other in theirs) < 2e-2


FRAMES = [
    "QIICR__dcmqi/data/segmentations/23x38x3/multiframe/mf.dcm",
    "QIICR__dcmqi/data/segmentations/24x38x3/multiframe/mf.dcm",
    "QIICR__dcmqi/data/segmentations/liver.dcm",
    "ImagingDataCommons__highdicom/data/test_files/seg_image_ct_binary.dcm",
    "ImagingDataCommons__highdicom/data/test_files/seg_image_ct_true_fractional.dcm",
]
NOT_A_GRID_FOR_HIGHDICOM = [
    "ImagingDataCommons__highdicom/data/test_files/seg_image_ct_binary_overlap.dcm",
    "icometrix__dicom2nifti/tests/data/hyperfine/anatomical/001/001.dcm",
]


@pytest.mark.parametrize("name", FRAMES)
def test_positions_equal_highdicoms_geometry(name: str) -> None:
    _, frames = read(DATA / name)
    image = highdicom.imread(DATA / name)
    geometry = image.get_volume_geometry()
    assert geometry is not None
    affine = geometry.affine  # (slice, row, column) to LPS
    expected = affine[:3, 3] + np.arange(geometry.spatial_shape[0])[:, None] * affine[:3, 0]
    found = np.unique(vectors(frames, *POSITION), axis=0)
    for place in found:
        assert np.linalg.norm(expected - place, axis=1).min() < 1e-3
    np.testing.assert_allclose(
        affine[:3, 2], vectors(frames, "row_x", "row_y", "row_z")[0] * frames[0]["spacing_x"], atol=1e-5
    )
    np.testing.assert_allclose(
        affine[:3, 1], vectors(frames, "column_x", "column_y", "column_z")[0] * frames[0]["spacing_y"], atol=1e-5
    )


def test_siemens_mosaic_has_the_tiles_and_the_normal_of_its_nifti() -> None:
    image: Any = nibabel.load(DATA / "neurolabusc__dcm_qa_nih/Ref/EPI_PE=AP_3.nii")
    found = sorted((DATA / "neurolabusc__dcm_qa_nih/In/20180918Si/mr_0003").rglob("*.dcm"))
    assert found
    for path in found:
        row, frames = read(path)
        assert (row["mosaic_tiles"], frames) == (image.shape[2], [])
        step = (_LPS_RAS @ image.affine)[:3, 2]
        normal = np.array([row["normal_x"], row["normal_y"], row["normal_z"]])
        np.testing.assert_allclose(np.abs(normal @ step) / np.linalg.norm(step), 1.0, atol=1e-5)


def test_every_real_frame_agrees_with_pydicom() -> None:
    """The columns of frames that pydicom's own converted values give, macro by macro."""
    seen = 0
    for name in FRAMES + NOT_A_GRID_FOR_HIGHDICOM:
        dataset = dcmread(DATA / name, stop_before_pixels=True)
        _, frames = read(DATA / name)
        for group, frame in zip(dataset.PerFrameFunctionalGroupsSequence, frames, strict=True):
            place = group.PlanePositionSequence[0].ImagePositionPatient
            assert tuple(map(float, place)) == tuple(frame[column] for column in POSITION)
            if "SegmentIdentificationSequence" in group:
                assert group.SegmentIdentificationSequence[0].ReferencedSegmentNumber == frame["segment"]
            seen += 1
    assert seen >= 20
