"""The reference NIfTI files that other converters ship: the same voxels at the same physical points."""

from __future__ import annotations

import os
from pathlib import Path

import nibabel
import pytest

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
    (f"{ICO}/philips_enhanced/dti/001_ground_truth.nii.gz", f"{ICO}/philips_enhanced/dti/001"),
    (f"{ICO}/philips_enhanced/fmri/001_ground_truth.nii.gz", f"{ICO}/philips_enhanced/fmri/001"),
    ("neurolabusc__dcm_qa_nih/Ref/DCM2NIIX_regression_test_4.nii", "neurolabusc__dcm_qa_nih/In/20180918GE/mr_0004"),
    ("neurolabusc__dcm_qa_nih/Ref/EPI_PE=AP_3.nii", "neurolabusc__dcm_qa_nih/In/20180918Si/mr_0003"),
    (
        "theibsi__data_sets/ibsi_2_digital_phantom/nifti/orientation/image/orientation.nii.gz",
        "theibsi__data_sets/ibsi_2_digital_phantom/dicom/orientation",
    ),
    (f"{IBSI}/nifti/STS_019/CT_image.nii.gz", f"{IBSI}/dicom/STS_019/CT/image"),
    (f"{IBSI}/nifti/STS_019/MR_T1_image.nii.gz", f"{IBSI}/dicom/STS_019/MR_T1/image"),
    (f"{IBSI}/nifti/STS_019/PET_image.nii.gz", f"{IBSI}/dicom/STS_019/PET/image"),
]


@pytest.mark.parametrize("files", REFERENCES, ids=[files[0] for files in REFERENCES])
def test_same_voxels_at_the_same_points(files: tuple[str, ...], tmp_path: Path) -> None:
    reference, *sources = files
    report = fastdcm.convert([str(DATA / source) for source in sources], str(tmp_path / "out.zarr"))
    assert report.exit_code == 0
    store = fastdcm.open(tmp_path / "out.zarr")
    assert isinstance(store, fastdcm.Store)
    (volume,) = store.volumes
    assert same_in_space(volume, nibabel.load(DATA / reference)) is None
