"""The reference NIfTI files that other converters ship: the same voxels at the same physical points."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import SimpleITK

import fastdcm
from scripts.conformance import same_in_space

DATA = Path(os.environ["FASTDCM_DATA"])
ICO = "icometrix__dicom2nifti/tests/data"
STACK = "moloney__dcmstack/test/data/dcmstack/2D_16Echo_qT2"
IBSI = "theibsi__data_sets/ibsi_validation"

# (reference, DICOM sources that are one volume)
REFERENCES = [
    *((f"neurolabusc__dcm_qa_ts/Ref/{n}.nii", f"neurolabusc__dcm_qa_ts/In/{n}.dcm") for n in range(1, 10)),
    (f"{STACK}/single_slice.nii.gz", f"{STACK}/TE_20_SlcPos_-33.707626341697.dcm"),
    (
        f"{STACK}/single_vol.nii.gz",
        f"{STACK}/TE_20_SlcPos_-33.707626341697.dcm",
        f"{STACK}/TE_20_SlcPos_-23.207628249046.dcm",
    ),
    (f"{ICO}/failing/slicecount/001_ground_truth.nii.gz", f"{ICO}/failing/slicecount/001"),
    (f"{ICO}/ge/dti/001_ground_truth.nii.gz", f"{ICO}/ge/dti/001"),
    (f"{ICO}/ge/fmri/001_implicit_ground_truth.nii.gz", f"{ICO}/ge/fmri/001_implicit"),
    (f"{ICO}/generic/anatomical/002_non_isotropic_ground_truth.nii.gz", f"{ICO}/generic/anatomical/002_non_isotropic"),
    (f"{ICO}/generic/compressed/001_ground_truth.nii.gz", f"{ICO}/generic/compressed/001"),
    (f"{ICO}/generic/compressed_j2k/001_ground_truth.nii.gz", f"{ICO}/generic/compressed_j2k/001"),
    (f"{ICO}/generic/compressed_jpeg/001_ground_truth.nii.gz", f"{ICO}/generic/compressed_jpeg/001"),
    (f"{ICO}/generic/compressed_jpegls/001_ground_truth.nii.gz", f"{ICO}/generic/compressed_jpegls/001"),
    (f"{ICO}/generic/compressed_rle/001_ground_truth.nii.gz", f"{ICO}/generic/compressed_rle/001"),
    (f"{ICO}/generic/rgb/001_ground_truth.nii.gz", f"{ICO}/generic/rgb/001"),
    (f"{ICO}/hitachi/anatomical/001_ground_truth.nii.gz", f"{ICO}/hitachi/anatomical/001"),
    (f"{ICO}/hyperfine/anatomical/001_ground_truth.nii.gz", f"{ICO}/hyperfine/anatomical/001"),
    (f"{ICO}/philips/dti/001_ground_truth.nii.gz", f"{ICO}/philips/dti/001"),
    (f"{ICO}/philips/fmri/001_ground_truth.nii.gz", f"{ICO}/philips/fmri/001"),
    (f"{ICO}/philips_enhanced/fmri/001_ground_truth.nii.gz", f"{ICO}/philips_enhanced/fmri/001"),
    ("neurolabusc__dcm_qa_nih/Ref/DCM2NIIX_regression_test_4.nii", "neurolabusc__dcm_qa_nih/In/20180918GE/mr_0004"),
    ("neurolabusc__dcm_qa_nih/Ref/EPI_PE=AP_3.nii", "neurolabusc__dcm_qa_nih/In/20180918Si/mr_0003"),
    (f"{IBSI}/nifti/STS_019/CT_image.nii.gz", f"{IBSI}/dicom/STS_019/CT/image"),
    (f"{IBSI}/nifti/STS_019/MR_T1_image.nii.gz", f"{IBSI}/dicom/STS_019/MR_T1/image"),
    (f"{IBSI}/nifti/STS_019/PET_image.nii.gz", f"{IBSI}/dicom/STS_019/PET/image"),
]


def convert(target: Path, *sources: str) -> fastdcm.Volume:
    """Return the one volume that sources below the data become."""
    report = fastdcm.convert([str(DATA / source) for source in sources], str(target))
    assert report.exit_code == 0
    store = fastdcm.open(target)
    assert isinstance(store, fastdcm.Store)
    (volume,) = store.volumes
    return volume


@pytest.mark.parametrize("files", REFERENCES, ids=[files[0] for files in REFERENCES])
def test_same_voxels_at_the_same_points(files: tuple[str, ...], tmp_path: Path) -> None:
    reference, *sources = files
    volume = convert(tmp_path / "out.zarr", *sources)
    assert same_in_space(volume, nibabel.load(DATA / reference)) is None


def test_a_reference_that_holds_one_of_four_repeats(tmp_path: Path) -> None:
    """The file has b=0 and three directions; its reference holds one direction and three empty repeats."""
    volume = convert(tmp_path / "out.zarr", f"{ICO}/philips_enhanced/dti/001")
    reference: Any = nibabel.load(DATA / ICO / "philips_enhanced/dti/001_ground_truth.nii.gz")
    theirs = np.asarray(reference.dataobj).T
    assert np.allclose(volume.affine("RAS"), reference.affine, atol=1e-3)
    assert not theirs[1:].any()
    np.testing.assert_allclose(volume.numpy()[1], theirs[0], rtol=1e-5)


def test_a_reference_that_lies_elsewhere_than_its_dicom_files(tmp_path: Path) -> None:
    """The phantom's NIfTI has its slices from z = 0 upwards, its DICOM files have them from -126 to 0, turned over."""
    folder = "theibsi__data_sets/ibsi_2_digital_phantom"
    volume = convert(tmp_path / "out.zarr", f"{folder}/dicom/orientation")
    reader = SimpleITK.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(DATA / folder / "dicom/orientation")))
    image = reader.Execute()
    assert volume.origin == pytest.approx(image.GetOrigin()) == (0.0, 0.0, -126.0)
    np.testing.assert_array_equal(volume.numpy(), SimpleITK.GetArrayFromImage(image))
    reference: Any = nibabel.load(DATA / folder / "nifti/orientation/image/orientation.nii.gz")
    assert (volume.numpy()[:, 0, 0] == 63 - np.asarray(reference.dataobj)[0, 0]).all()
