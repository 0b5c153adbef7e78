"""Real series as NIfTI, beside what dcm2niix makes of the same files: voxels, points, gradients and the sidecar."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import SimpleITK

import fastdcm
from benchmarks.reference_volumes import same_in_space

dcm2niix: Any = importlib.import_module("dcm2niix")
DATA = Path(os.environ["FASTDCM_DATA"])
ICO = "icometrix__dicom2nifti/tests/data"
SERIES = [
    f"{ICO}/ge/dti/001",
    f"{ICO}/generic/anatomical/002_non_isotropic",
    f"{ICO}/generic/compressed_jpegls/001",
    f"{ICO}/hitachi/anatomical/001",
    f"{ICO}/philips/dti/001",
    f"{ICO}/philips/fmri/001",
    "neurolabusc__dcm_qa_nih/In/20180918GE/mr_0004",
    "neurolabusc__dcm_qa_nih/In/20180918Si/mr_0003",
    "neurolabusc__dcm_qa_ts/In",
    "theibsi__data_sets/ibsi_validation/dicom/STS_019/CT/image",
    "theibsi__data_sets/ibsi_validation/dicom/STS_019/MR_T1/image",
]
EQUAL = (
    "Modality", "MagneticFieldStrength", "ImagingFrequency", "ManufacturersModelName", "BodyPart", "PatientPosition",
    "SoftwareVersions", "MRAcquisitionType", "ScanningSequence", "SequenceVariant", "ScanOptions", "SequenceName",
    "SeriesNumber", "AcquisitionNumber", "SliceThickness", "SpacingBetweenSlices", "SAR", "EchoTime", "RepetitionTime",
    "InversionTime", "FlipAngle", "ConvolutionKernel", "ExposureTime", "XRayTubeCurrent", "XRayExposure",
    "PercentPhaseFOV", "PercentSampling", "EchoTrainLength", "PhaseEncodingSteps", "PixelBandwidth",
    "ParallelReductionFactorInPlane", "ImageOrientationPatientDICOM", "InPlanePhaseEncodingDirectionDICOM",
)  # fmt: skip


def by_dcm2niix(source: Path, out: Path) -> dict[str, Path]:
    """Return what dcm2niix writes, by ending."""
    out.mkdir()
    command = [dcm2niix.bin, "-z", "n", "-f", "a", "-o", str(out), str(source)]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    (image,) = out.glob("*.nii")
    return {path.suffix: path for path in out.iterdir() if path.stem == image.stem}


def convert(source: str, target: Path) -> fastdcm.Volume:
    fastdcm.convert(str(DATA / source), str(target))
    store = fastdcm.open(target)
    assert isinstance(store, fastdcm.Store)
    (volume,) = store.volumes
    return volume


@pytest.mark.parametrize("source", [source for source in SERIES if "qa_ts" not in source])  # dcm2niix: nine files
def test_same_voxels_at_the_same_points_as_dcm2niix(source: str, tmp_path: Path) -> None:
    volume = convert(source, tmp_path / "s.zarr")
    image, beside, *_ = fastdcm.export(volume, tmp_path / "a.nii.gz", bids=True)
    theirs = by_dcm2niix(DATA / source, tmp_path / "theirs")
    assert same_in_space(volume, nibabel.load(theirs[".nii"])) is None
    assert same_in_space(volume, nibabel.load(image)) is None
    fields, reference = json.loads(beside.read_text()), json.loads(theirs[".json"].read_text())
    for name in set(EQUAL) & set(fields) & set(reference):
        same = fields[name] == reference[name]
        assert same or np.allclose(fields[name], reference[name], rtol=2e-5), (name, fields[name], reference[name])


@pytest.mark.parametrize("source", SERIES)
def test_every_format_is_read_back_as_the_volume(source: str, tmp_path: Path) -> None:
    volume = convert(source, tmp_path / "s.zarr")
    expected: Any = volume.to_sitk()
    for ending in ("nii", "nrrd", "mha"):
        (path,) = fastdcm.export(volume, tmp_path / f"a.{ending}")
        image: Any = SimpleITK.ReadImage(str(path))
        np.testing.assert_array_equal(SimpleITK.GetArrayFromImage(image), SimpleITK.GetArrayFromImage(expected))
        last = [n - 1 for n in expected.GetSize()]
        for corner in ([0] * len(last), last):
            np.testing.assert_allclose(
                image.TransformIndexToPhysicalPoint(corner)[:3],
                expected.TransformIndexToPhysicalPoint(corner)[:3],
                atol=1e-3,
            )


def directions(bvec: Path, image: Path) -> Any:
    """Return (n, 3) RAS directions of an FSL file, by the affine of its image."""
    affine: Any = nibabel.load(image)
    axes = affine.affine[:3, :3] / np.linalg.norm(affine.affine[:3, :3], axis=0)
    vectors = np.loadtxt(bvec)
    if np.linalg.det(axes) > 0:
        vectors[0] *= -1
    return (axes @ vectors).T


@pytest.mark.parametrize("source", [f"{ICO}/philips/dti/001", f"{ICO}/philips_enhanced/dti/001"])
def test_gradients_are_those_of_dcm2niix(source: str, tmp_path: Path) -> None:
    volume = convert(source, tmp_path / "s.zarr")
    image, _, bval, bvec = fastdcm.export(volume, tmp_path / "a.nii", bids=True)
    theirs = by_dcm2niix(DATA / source, tmp_path / "theirs")
    assert sorted(np.loadtxt(bval)) == sorted(np.loadtxt(theirs[".bval"]))
    mine, other = directions(bvec, image), directions(theirs[".bvec"], theirs[".nii"])
    pairs = np.abs(mine @ other.T)  # a gradient and its opposite are one; dcm2niix may have another order
    assert (mine.any(axis=1) == (np.loadtxt(bval) > 0)).all()
    np.testing.assert_allclose(pairs.max(axis=1), mine.any(axis=1), atol=1e-5)
    assert len(set(pairs.argmax(axis=1)[mine.any(axis=1)].tolist())) == mine.any(axis=1).sum()
