"""Images of other libraries: the same voxels at the same place. SimpleITK and dcm2niix read the files themselves."""

from __future__ import annotations

import importlib
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastdcm
from fastdcm.errors import GeometryError, UsageError
from fastdcm.load import bridges
from fastdcm.load.bridges import MissingPackageError
from fastdcm.load.volume import Store, Volume
from fastdcm.series import geometry
from tests import dicomgen, ministore
from tests.ministore import Small, write_volume

AFFINE = np.array([[0.5, 0, 0, -12.0], [0, 0.75, 0, 7.5], [0, 0, 2.5, -431.0], [0, 0, 0, 1]])
sitk: Any = importlib.import_module("SimpleITK")  # no types to check: their values are what is tested
nibabel: Any = importlib.import_module("nibabel")
dcm2niix: Any = importlib.import_module("dcm2niix")
RNG = np.random.default_rng(1)


def made(folder: Path, small: Small) -> Volume:
    return Volume(write_volume(folder / "0.ome.zarr", small))


def image_of(volume: Volume, **choice: Any) -> Any:
    return volume.to_sitk(**choice)


def nifti_of(volume: Volume, **choice: Any) -> Any:
    return volume.to_nibabel(**choice)


def by_sitk(folder: Path) -> Any:
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    return reader.Execute()


def by_dcm2niix(folder: Path, out: Path) -> Any:
    out.mkdir()
    command = [dcm2niix.bin, "-z", "n", "-b", "n", "-o", str(out), str(folder)]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    (path,) = out.glob("*.nii")
    return nibabel.load(path)


def axial(folder: Path) -> dicomgen.Series:
    return dicomgen.make_series(folder, signed=False)


def oblique(folder: Path) -> dicomgen.Series:
    return dicomgen.make_series(folder, orientation=dicomgen.OBLIQUE, modality="MR", intercept=None, slope=None)


def sagittal(folder: Path) -> dicomgen.Series:
    return dicomgen.make_series(folder, orientation=dicomgen.SAGITTAL, step=1.25)


SERIES = pytest.mark.parametrize("make", [axial, oblique, sagittal])


@SERIES
def test_sitk_equals_its_own_reading(tmp_path: Path, make: Callable[[Path], dicomgen.Series]) -> None:
    series = make(tmp_path / "dicom")
    ours = image_of(made(tmp_path, ministore.of_series(series)))
    theirs = by_sitk(tmp_path / "dicom")
    np.testing.assert_array_equal(sitk.GetArrayFromImage(ours), sitk.GetArrayFromImage(theirs))
    np.testing.assert_allclose(ours.GetSpacing(), theirs.GetSpacing(), atol=1e-9)
    np.testing.assert_allclose(ours.GetOrigin(), theirs.GetOrigin(), atol=1e-9)
    np.testing.assert_allclose(ours.GetDirection(), theirs.GetDirection(), atol=1e-9)


@SERIES
def test_nibabel_is_where_dcm2niix_says(tmp_path: Path, make: Callable[[Path], dicomgen.Series]) -> None:
    series = make(tmp_path / "dicom")
    ours = nifti_of(made(tmp_path, ministore.of_series(series)))
    theirs = nibabel.as_closest_canonical(by_dcm2niix(tmp_path / "dicom", tmp_path / "nii"))
    canonical = nibabel.as_closest_canonical(ours)
    np.testing.assert_allclose(canonical.affine, theirs.affine, atol=1e-3)
    np.testing.assert_array_equal(np.asarray(canonical.dataobj), np.asarray(theirs.dataobj))
    np.testing.assert_allclose(ours.header.get_zooms(), (0.5, 0.75, 1.25 if make is sagittal else 2.5), rtol=1e-6)
    assert ours.header.get_xyzt_units() == ("mm", "sec")
    assert ours.get_qform(coded=True)[1] == ours.get_sform(coded=True)[1] == 1
    np.testing.assert_allclose(ours.get_qform(), ours.affine, atol=1e-4)


@SERIES
def test_a_converted_series_equals_sitk_and_dcm2niix(tmp_path: Path, make: Callable[[Path], dicomgen.Series]) -> None:
    make(tmp_path / "dicom")
    fastdcm.convert(tmp_path / "dicom", tmp_path / "s.zarr", workers=1)
    store = fastdcm.open(tmp_path / "s.zarr")
    assert isinstance(store, Store)
    (volume,) = store
    ours, theirs = image_of(volume), by_sitk(tmp_path / "dicom")
    np.testing.assert_array_equal(sitk.GetArrayFromImage(ours), sitk.GetArrayFromImage(theirs))
    for name in ("GetSpacing", "GetOrigin", "GetDirection"):
        np.testing.assert_allclose(getattr(ours, name)(), getattr(theirs, name)(), atol=1e-9)
    nifti = nibabel.as_closest_canonical(nifti_of(volume))
    reference = nibabel.as_closest_canonical(by_dcm2niix(tmp_path / "dicom", tmp_path / "nii"))
    np.testing.assert_allclose(nifti.affine, reference.affine, atol=1e-3)
    np.testing.assert_array_equal(np.asarray(nifti.dataobj), np.asarray(reference.dataobj))
    labelled = volume.to_xarray()
    assert labelled.dims == ("z", "y", "x")
    np.testing.assert_array_equal(labelled.values, sitk.GetArrayFromImage(theirs))


def test_shear_is_carried_by_direction_and_sform(tmp_path: Path) -> None:
    series = dicomgen.gantry_tilt(tmp_path / "dicom")
    volume = made(tmp_path, ministore.of_series(series))
    image, nifti = image_of(volume), nifti_of(volume)
    for k, position in enumerate(series.positions):
        np.testing.assert_allclose(image.TransformIndexToPhysicalPoint((0, 0, k)), position, atol=1e-6)
        np.testing.assert_allclose((nifti.affine @ [0, 0, k, 1])[:3] * [-1, -1, 1], position, atol=1e-6)
    assert int(nifti.header["sform_code"]) == 1
    assert int(nifti.header["qform_code"]) == 0
    again = nibabel.Nifti1Image.from_bytes(nifti.to_bytes())
    np.testing.assert_allclose(again.affine, nifti.affine, atol=1e-4)


def test_what_is_no_shear_has_a_qform_too(tmp_path: Path) -> None:
    """A step that leaves the normal by a thousandth: the sform is exact, ITK takes the rotation of the qform."""
    assert bridges.SHEAR == geometry.SHEAR
    affine = AFFINE.copy()
    affine[1, 2] = 0.0025
    nifti = nifti_of(made(tmp_path, Small(np.zeros((3, 5, 4), np.int16), affine=affine)))
    assert int(nifti.header["qform_code"]) == int(nifti.header["sform_code"]) == 1
    np.testing.assert_allclose(nifti.get_sform(), np.diag([-1, -1, 1, 1]) @ affine, rtol=1e-6)
    np.testing.assert_allclose(nifti.get_qform(), nifti.get_sform(), atol=2e-3)


def test_no_affine_is_refused_unless_nominal(tmp_path: Path) -> None:
    values = RNG.integers(0, 99, (3, 5, 4)).astype(np.int16)
    volume = made(tmp_path, Small(values, affine=AFFINE, geometry={"affine": None, "uniform": False}))
    for convert in (image_of, nifti_of):
        with pytest.raises(GeometryError):
            convert(volume)
    assert image_of(volume, nominal=True).GetSpacing() == (0.5, 0.75, 2.5)
    nifti = nifti_of(volume, nominal=True)
    assert int(nifti.header["sform_code"]) == 2
    np.testing.assert_array_equal(nifti.affine, np.diag([-1, -1, 1, 1]) @ AFFINE)


def test_time_is_the_fourth_dimension(tmp_path: Path) -> None:
    values = RNG.integers(-9, 99, (3, 4, 6, 5)).astype(np.int16)
    dims = {"t": {"role": "trigger_time", "unit": "ms", "values": [0, 500, 1000]}}
    volume = made(tmp_path, Small(values, "tzyx", AFFINE, dims=dims))
    image = image_of(volume)
    assert (image.GetSize(), image.GetSpacing()) == ((5, 6, 4, 3), (0.5, 0.75, 2.5, 0.5))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image), values)
    assert image_of(volume, t=-1).GetDimension() == 3
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image_of(volume, t=1)), values[1])
    nifti = nifti_of(volume)
    np.testing.assert_array_equal(np.asarray(nifti.dataobj), values.transpose(3, 2, 1, 0))
    np.testing.assert_allclose(nifti.header.get_zooms(), (0.5, 0.75, 2.5, 0.5))


@pytest.mark.parametrize("values_of_t", [[0, 500, 1700], [None, 1, 2], [[0, 1], [2, 3], [4, 5]], ["a", "b", "c"]])
def test_an_uneven_or_unknown_time_has_no_step(tmp_path: Path, values_of_t: list[Any]) -> None:
    values = RNG.integers(-9, 99, (3, 2, 6, 5)).astype(np.int16)
    dims = {"t": {"role": "trigger_time", "unit": "ms", "values": values_of_t}}
    volume = made(tmp_path, Small(values, "tzyx", AFFINE, dims=dims))
    assert image_of(volume).GetSpacing()[3] == 1.0
    assert nifti_of(volume).header.get_zooms()[3] == 0.0


def test_channels_without_time_and_with_it(tmp_path: Path) -> None:
    values = RNG.integers(-9, 99, (3, 2, 4, 6, 5)).astype(np.int16)
    both = made(tmp_path / "both", Small(values, "tczyx", AFFINE))
    with pytest.raises(UsageError, match="t= or c="):
        image_of(both)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image_of(both, c=1)), values[:, 1])
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image_of(both, t=2, c=0)), values[2, 0])
    np.testing.assert_array_equal(np.asarray(nifti_of(both).dataobj), values.transpose(4, 3, 2, 0, 1))
    echoes = made(tmp_path / "echoes", Small(values[0], "czyx", AFFINE))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image_of(echoes)), values[0])
    for wrong in ({"t": 0}, {"c": 2}, {"c": -3}):
        with pytest.raises(UsageError):
            image_of(echoes, **wrong)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_colour_is_a_vector(tmp_path: Path, dtype: Any) -> None:
    values = RNG.integers(0, 255, (3, 2, 6, 5)).astype(dtype)
    rgb = {"photometric_interpretation": "RGB"}
    volume = made(tmp_path, Small(values, "czyx", AFFINE, intensity=rgb))
    assert volume.colour
    image = image_of(volume)
    assert (image.GetNumberOfComponentsPerPixel(), image.GetSize()) == (3, (5, 6, 2))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image), np.moveaxis(values, 0, -1))
    nifti = nifti_of(volume)
    if dtype is np.uint8:
        assert nifti.shape == (5, 6, 2)
        np.testing.assert_array_equal(np.asarray(nifti.dataobj)["G"], values[1].transpose(2, 1, 0))
    else:
        assert nifti.shape == (5, 6, 2, 1, 3)
        np.testing.assert_array_equal(np.asarray(nifti.dataobj)[..., 0, 1], values[1].transpose(2, 1, 0))
    with pytest.raises(UsageError, match="colour"):
        image_of(volume, c=0)


def test_colour_cine(tmp_path: Path) -> None:
    series = dicomgen.make_cine(tmp_path)
    values, rgb = series.values, {"photometric_interpretation": "RGB"}
    volume = made(tmp_path, Small(values, "tczyx", None, intensity=rgb, modality="US", kind="cine"))
    image = image_of(volume, nominal=True)
    assert (image.GetDimension(), image.GetNumberOfComponentsPerPixel()) == (4, 3)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image), np.moveaxis(values, 1, -1))
    assert nifti_of(volume, nominal=True).shape == (18, 14, 1, 4)


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.uint16, np.int16, np.int32, np.uint32, np.float32, np.float64])
def test_every_type_goes_through_unchanged(tmp_path: Path, dtype: Any) -> None:
    values = RNG.integers(0, 99, (2, 3, 4)).astype(dtype)
    volume = made(tmp_path, Small(values, affine=AFFINE))
    image = sitk.GetArrayFromImage(image_of(volume))
    nifti = np.asarray(nibabel.Nifti1Image.from_bytes(nifti_of(volume).to_bytes()).dataobj)
    assert image.dtype == nifti.dtype == dtype
    np.testing.assert_array_equal(image, values)
    np.testing.assert_array_equal(nifti.T, values)


def test_xarray_has_the_coordinates_of_the_store(tmp_path: Path) -> None:
    values = RNG.integers(-9, 99, (3, 2, 4, 6, 5)).astype(np.int16)
    dims = {
        "t": {"role": "repeat", "values": [[1, 2, 3, 4]] * 3},
        "c": {"role": "b_value", "unit": "s mm-2", "values": [0, 500]},
    }
    labelled = made(tmp_path, Small(values, "tczyx", AFFINE, dims=dims)).to_xarray()
    assert labelled.dims == ("t", "c", "z", "y", "x")
    np.testing.assert_array_equal(labelled.z, -431.0 + 2.5 * np.arange(4))
    np.testing.assert_array_equal(labelled.y, 7.5 + 0.75 * np.arange(6))
    np.testing.assert_array_equal(labelled.c, [0, 500])
    assert "t" not in labelled.coords
    assert labelled.c.attrs == {"role": "b_value", "units": "s mm-2"}
    assert labelled.attrs["spacing"] == [0.5, 0.75, 2.5]
    assert labelled.chunks is not None
    np.testing.assert_array_equal(labelled.sel(c=500).values, values[:, 1])


@pytest.mark.parametrize("name", ["SimpleITK", "nibabel", "xarray"])
def test_a_missing_package_is_named(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    volume = made(tmp_path, Small(np.zeros((1, 2, 3), np.int16), affine=AFFINE))
    monkeypatch.setitem(sys.modules, name, None)
    convert: Any = {
        "SimpleITK": volume.to_sitk,
        "nibabel": volume.to_nibabel,
        "xarray": volume.to_xarray,
    }[name]
    with pytest.raises(MissingPackageError, match=rf"{name}.*pip install fastdcm\[peers\]"):
        convert()
