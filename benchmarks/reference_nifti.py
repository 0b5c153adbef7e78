"""The NIfTI files that other converters ship with their DICOM files: the same voxels at the same physical points."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel
import numpy as np

import fastdcm
from benchmarks.judged import Finding
from benchmarks.reference_volumes import same_in_space

ICO = "icometrix__dicom2nifti/tests/data"
STACK = "moloney__dcmstack/test/data/dcmstack/2D_16Echo_qT2"
IBSI = "theibsi__data_sets/ibsi_validation"

REFERENCES: tuple[tuple[str, ...], ...] = (
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
)
"""(NIfTI, DICOM sources that are one volume), below the shared data."""

DISAGREE: tuple[tuple[str, ...], ...] = (
    (f"{ICO}/philips_enhanced/dti/001_ground_truth.nii.gz", f"{ICO}/philips_enhanced/dti/001"),
    (f"{ICO}/failing/sliceincrement/002_ground_truth.nii.gz", f"{ICO}/failing/sliceincrement/002"),
    (
        "theibsi__data_sets/ibsi_2_digital_phantom/nifti/orientation/image/orientation.nii.gz",
        "theibsi__data_sets/ibsi_2_digital_phantom/dicom/orientation",
    ),
)
"""References that do not hold what their DICOM files say."""


def convert_one(data: Path, target: Path, *sources: str) -> fastdcm.Volume:
    """Return the one volume that sources below the data become."""
    fastdcm.convert([str(data / source) for source in sources], str(target))
    store = fastdcm.open(target)
    assert isinstance(store, fastdcm.Store)
    (volume,) = store.volumes
    return volume


def check_references(data: Path) -> Iterator[Finding]:
    """Compare the volume of each reference with it."""
    for reference, *sources in (*REFERENCES, *DISAGREE):
        image: Any = nibabel.load(data / reference)
        with tempfile.TemporaryDirectory() as folder:
            volume = convert_one(data, Path(folder, "out.zarr"), *sources)
            has_affine = volume.attributes["fastdcm"]["geometry"].get("affine")
            wrong = same_in_space(volume, image) if has_affine else f"no affine: {_steps(volume)}"
            yield Finding("NIfTI", volume.kind, "", "differs" if wrong else "equal", reference, wrong or "")


def _steps(volume: fastdcm.Volume) -> str:
    positions = np.array(volume.attributes["fastdcm"]["slices"]["position"], np.float64)
    steps = np.linalg.norm(np.diff(positions, axis=0), axis=1)
    return f"steps of {steps.min():.3f} to {steps.max():.3f} mm"
