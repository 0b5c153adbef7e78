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
from benchmarks.reference_nifti import ICO, REFERENCES, convert_one
from benchmarks.reference_volumes import same_in_space

DATA = Path(os.environ["FASTDCM_DATA"])


def convert(target: Path, *sources: str) -> fastdcm.Volume:
    """Return the one volume that sources below the data become."""
    return convert_one(DATA, target, *sources)


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
