"""Exported files: the same voxels at the same physical points, as SimpleITK and nibabel read them."""

from __future__ import annotations

import gzip
import importlib
import itertools
import os
import subprocess
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastdcm
from fastdcm.errors import GeometryError, TargetError, UsageError
from fastdcm.load.bridges import MissingPackageError
from fastdcm.load.export import export
from fastdcm.load.volume import Volume
from tests import converted, dicomgen, ministore
from tests.ministore import Small, write_volume

sitk: Any = importlib.import_module("SimpleITK")
nibabel: Any = importlib.import_module("nibabel")
RNG = np.random.default_rng(7)
FORMATS = ("nii", "nii.gz", "nrrd", "mha")
TO_RAS = np.array([-1.0, -1.0, 1.0])
AXIAL = dicomgen.affine_of((-12.0, 7.5, -431.0), dicomgen.AXIAL, (0.75, 0.5), (0, 0, 2.5))
GEOMETRIES = {
    "axial": AXIAL,
    "oblique": dicomgen.affine_of(
        (3.25, -80.0, 12.5), dicomgen.OBLIQUE, (0.75, 0.5), 2.5 * dicomgen.normal_of(dicomgen.OBLIQUE)
    ),
    "sagittal": dicomgen.affine_of((40.0, -99.0, 60.0), dicomgen.SAGITTAL, (1.25, 0.75), (-1.0, 0, 0)),
    "coronal": dicomgen.affine_of((-40.0, 99.0, 60.0), dicomgen.CORONAL, (1.25, 0.75), (0, 3.0, 0)),
}
SHEARED = dicomgen.affine_of((-12.0, 7.5, -431.0), dicomgen.AXIAL, (0.75, 0.5), (0.2, 0.9, 2.5))


def made(folder: Path, values: Any, axes: str = "zyx", affine: Any = AXIAL, **more: Any) -> Volume:
    return Volume(write_volume(folder / "0.ome.zarr", Small(values, axes, affine, **more)))


def numbers(*shape: int, dtype: Any = np.int16) -> Any:
    info: Any = np.iinfo(dtype) if np.dtype(dtype).kind in "iu" else np.finfo(np.float32)
    low, high = max(info.min, -(2**31)), min(info.max, 2**31)
    return RNG.uniform(low, high, shape).astype(dtype)


def by_sitk(path: Path) -> tuple[Any, Any]:
    image = sitk.ReadImage(str(path))
    return image, sitk.GetArrayFromImage(image)


def check_points(path: Path, values: Any, affine: Any) -> None:
    """Corners and random voxels: value and place by both readers, from index to point and back."""
    nz, ny, nx = values.shape
    corners = list(itertools.product((0, nx - 1), (0, ny - 1), (0, nz - 1)))
    random = zip(*(RNG.integers(0, n, 20).tolist() for n in (nx, ny, nz)), strict=True)
    image = sitk.ReadImage(str(path))
    nifti = nibabel.load(path) if ".nii" in path.name else None
    for i, j, k in [*corners, *random]:
        point = (affine @ [i, j, k, 1])[:3]
        np.testing.assert_allclose(image.TransformIndexToPhysicalPoint((i, j, k)), point, atol=2e-4)
        assert image.GetPixel(*image.TransformPhysicalPointToIndex(point.tolist())) == values[k, j, i]
        if nifti is not None:
            np.testing.assert_allclose((nifti.affine @ [i, j, k, 1])[:3] * TO_RAS, point, atol=2e-4)
            assert np.asarray(nifti.dataobj)[i, j, k] == values[k, j, i]


# ---------------------------------------------------------------------------- place


@pytest.mark.parametrize("ending", FORMATS)
@pytest.mark.parametrize("name", GEOMETRIES)
def test_voxels_are_at_their_points(tmp_path: Path, name: str, ending: str) -> None:
    values = numbers(4, 7, 5)
    volume = made(tmp_path, values, affine=GEOMETRIES[name])
    assert export(volume, tmp_path / f"a.{ending}") == (tmp_path / f"a.{ending}",)
    check_points(tmp_path / f"a.{ending}", values, GEOMETRIES[name])
    assert by_sitk(tmp_path / f"a.{ending}")[1].dtype == np.int16


@pytest.mark.parametrize("ending", FORMATS)
def test_one_slice(tmp_path: Path, ending: str) -> None:
    values = numbers(1, 7, 5)
    export(made(tmp_path, values, affine=GEOMETRIES["oblique"]), tmp_path / f"a.{ending}")
    check_points(tmp_path / f"a.{ending}", values, GEOMETRIES["oblique"])


@pytest.mark.parametrize("ending", FORMATS)
def test_the_file_equals_what_the_bridge_gives(tmp_path: Path, ending: str) -> None:
    volume = made(tmp_path, numbers(3, 7, 5), affine=GEOMETRIES["oblique"])
    export(volume, tmp_path / f"a.{ending}")
    image, expected = sitk.ReadImage(str(tmp_path / f"a.{ending}")), volume.to_sitk()
    for name in ("GetSize", "GetSpacing", "GetOrigin", "GetDirection"):
        np.testing.assert_allclose(getattr(image, name)(), getattr(expected, name)(), atol=1e-5)
    if ending == "nii":
        ours, theirs = nibabel.load(tmp_path / "a.nii").header, volume.to_nibabel().header
        for field in ("dim", "pixdim", "srow_x", "srow_z", "quatern_b", "qoffset_y", "qform_code", "xyzt_units"):
            np.testing.assert_array_equal(ours[field], theirs[field])


def test_codes_units_and_zooms_of_nifti(tmp_path: Path) -> None:
    export(made(tmp_path, numbers(4, 7, 5)), tmp_path / "a.nii")
    image = nibabel.load(tmp_path / "a.nii")
    assert image.header.get_zooms() == (0.5, 0.75, 2.5)
    assert image.header.get_xyzt_units() == ("mm", "sec")
    (qform, q_code), (sform, s_code) = image.get_qform(coded=True), image.get_sform(coded=True)
    assert (q_code, s_code) == (1, 1)
    np.testing.assert_allclose(qform, sform, atol=1e-5)
    assert (tmp_path / "a.nii").stat().st_size == 352 + 4 * 7 * 5 * 2


@pytest.mark.parametrize("ending", ["nrrd", "mha"])
def test_a_shear_is_kept(tmp_path: Path, ending: str) -> None:
    values = numbers(4, 7, 5)
    volume = made(tmp_path, values, affine=SHEARED, geometry={"sheared": True})
    export(volume, tmp_path / f"a.{ending}")
    check_points(tmp_path / f"a.{ending}", values, SHEARED)


def test_a_shear_is_kept_by_the_sform_alone(tmp_path: Path) -> None:
    values = numbers(4, 7, 5)
    export(made(tmp_path, values, affine=SHEARED, geometry={"sheared": True}), tmp_path / "a.nii.gz")
    image = nibabel.load(tmp_path / "a.nii.gz")
    np.testing.assert_allclose(np.diag([-1, -1, 1, 1]) @ image.affine, SHEARED, atol=1e-5)
    np.testing.assert_array_equal(np.asarray(image.dataobj).T, values)
    assert (int(image.header["sform_code"]), int(image.header["qform_code"])) == (1, 0)


@pytest.mark.parametrize("ending", FORMATS)
def test_less_than_a_shear_is_read_by_sitk_too(tmp_path: Path, ending: str) -> None:
    """A step that leaves the normal by a thousandth is no shear: the qform is the nearest rotation."""
    affine = dicomgen.affine_of((-12.0, 7.5, -431.0), dicomgen.AXIAL, (0.75, 0.5), (0, 0.0025, 2.5))
    export(made(tmp_path, numbers(4, 7, 5), affine=affine), tmp_path / f"a.{ending}")
    image = sitk.ReadImage(str(tmp_path / f"a.{ending}"))
    point = (affine @ [4, 6, 3, 1])[:3]
    np.testing.assert_allclose(image.TransformIndexToPhysicalPoint((4, 6, 3)), point, atol=5e-3)
    if "nii" in ending:
        np.testing.assert_allclose((nibabel.load(tmp_path / f"a.{ending}").affine @ [4, 6, 3, 1])[:3] * TO_RAS, point)


# ---------------------------------------------------------------------------- values


@pytest.mark.parametrize("ending", FORMATS)
@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i2", "u4", "i4", "f4", "f8", "i8", "u8"])
def test_every_type_is_kept(tmp_path: Path, dtype: str, ending: str) -> None:
    values = numbers(2, 3, 4, dtype=dtype)
    export(made(tmp_path, values), tmp_path / f"a.{ending}")
    read = by_sitk(tmp_path / f"a.{ending}")[1]
    assert read.dtype == values.dtype
    np.testing.assert_array_equal(read, values)
    if "nii" in ending:
        nifti = nibabel.load(tmp_path / f"a.{ending}")
        assert nifti.get_data_dtype() == values.dtype
        np.testing.assert_array_equal(np.asarray(nifti.dataobj).T, values)


@pytest.mark.parametrize("ending", FORMATS)
@pytest.mark.parametrize(
    ("role", "step"), [({"unit": "ms", "values": [0, 500, 1000]}, 0.5), ({"values": [0, 1, 9]}, 1)]
)
def test_time_is_the_fourth_dimension(tmp_path: Path, ending: str, role: dict[str, Any], step: float) -> None:
    values = numbers(3, 4, 6, 5)
    volume = made(tmp_path, values, "tzyx", dims={"t": {"role": "trigger_time", **role}})
    export(volume, tmp_path / f"a.{ending}")
    image, read = by_sitk(tmp_path / f"a.{ending}")
    np.testing.assert_array_equal(read, values)
    expected = 0.0 if "nii" in ending and "unit" not in role else step
    assert image.GetSpacing()[:3] == (0.5, 0.75, 2.5)
    if expected:
        assert image.GetSpacing()[3] == expected
    if "nii" in ending:
        nifti = nibabel.load(tmp_path / f"a.{ending}")
        np.testing.assert_array_equal(np.asarray(nifti.dataobj), values.transpose(3, 2, 1, 0))
        assert nifti.header.get_zooms()[3] == expected
    export(volume, tmp_path / f"one.{ending}", t=-2)
    check_points(tmp_path / f"one.{ending}", values[1], AXIAL)


@pytest.mark.parametrize("ending", FORMATS)
def test_channels_and_time(tmp_path: Path, ending: str) -> None:
    values = numbers(3, 2, 4, 6, 5)
    both = made(tmp_path / "both", values, "tczyx")
    export(both, tmp_path / f"one.{ending}", c=1)
    np.testing.assert_array_equal(by_sitk(tmp_path / f"one.{ending}")[1], values[:, 1])
    if "nii" in ending:
        export(both, tmp_path / f"both.{ending}")
        nifti = nibabel.load(tmp_path / f"both.{ending}")
        np.testing.assert_array_equal(np.asarray(nifti.dataobj), values.transpose(4, 3, 2, 0, 1))
    else:
        with pytest.raises(UsageError, match="t= or c="):
            export(both, tmp_path / f"both.{ending}")
        assert not (tmp_path / f"both.{ending}").exists()
    echoes = made(tmp_path / "echoes", values[0], "czyx")
    export(echoes, tmp_path / f"echoes.{ending}")
    np.testing.assert_array_equal(by_sitk(tmp_path / f"echoes.{ending}")[1], values[0])
    with pytest.raises(UsageError, match="no axis t"):
        export(echoes, tmp_path / f"x.{ending}", t=0)
    with pytest.raises(UsageError, match=r"0\.\.1"):
        export(echoes, tmp_path / f"x.{ending}", c=2)


@pytest.mark.parametrize("ending", FORMATS)
@pytest.mark.parametrize("dtype", ["u1", "u2"])
@pytest.mark.parametrize("axes", ["czyx", "tczyx"])
def test_colour_is_a_vector(tmp_path: Path, axes: str, dtype: str, ending: str) -> None:
    values = numbers(*((4,) if "t" in axes else ()), 3, 2, 6, 5, dtype=dtype)
    volume = made(tmp_path, values, axes, intensity={"photometric_interpretation": "RGB"})
    export(volume, tmp_path / f"a.{ending}")
    image, read = by_sitk(tmp_path / f"a.{ending}")
    assert image.GetNumberOfComponentsPerPixel() == 3
    np.testing.assert_array_equal(read, np.moveaxis(values, axes.index("c"), -1))
    np.testing.assert_array_equal(image.GetSpacing()[:3], (0.5, 0.75, 2.5))
    if "nii" in ending:
        data = np.asarray(nibabel.load(tmp_path / f"a.{ending}").dataobj)
        green = data["G"] if dtype == "u1" else data[..., 1]
        np.testing.assert_array_equal(green.squeeze().T, values.take(1, axis=axes.index("c")))
    with pytest.raises(UsageError, match="colour"):
        export(volume, tmp_path / f"x.{ending}", c=0)


def test_slabs_bound_the_memory_and_do_not_change_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = numbers(64, 128, 128)
    volume = made(tmp_path, values, chunks=(4, 64, 64))
    export(volume, tmp_path / "whole.nrrd")
    monkeypatch.setattr("fastdcm.load.export.SLAB_BYTES", 4 * 128 * 128 * 2)
    tracemalloc.start()
    export(volume, tmp_path / "slabs.nrrd")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (tmp_path / "whole.nrrd").read_bytes() == (tmp_path / "slabs.nrrd").read_bytes()
    assert peak < values.nbytes / 2


def test_the_same_export_has_the_same_bytes(tmp_path: Path) -> None:
    volume = made(tmp_path, numbers(3, 6, 5))
    export(volume, tmp_path / "a.nii.gz")
    export(volume, tmp_path / "b.nii.gz")
    assert (tmp_path / "a.nii.gz").read_bytes() == (tmp_path / "b.nii.gz").read_bytes()
    export(volume, tmp_path / "a.nii")
    assert gzip.decompress((tmp_path / "a.nii.gz").read_bytes()) == (tmp_path / "a.nii").read_bytes()


# ---------------------------------------------------------------------------- no exact affine


@pytest.mark.parametrize("ending", FORMATS)
def test_no_position_is_refused_unless_nominal(tmp_path: Path, ending: str) -> None:
    dicomgen.monochrome1(tmp_path / "in")
    (volume,) = converted.convert(tmp_path / "in").store
    with pytest.raises(GeometryError, match=r"no position.*--nominal"):
        export(volume, tmp_path / f"a.{ending}")
    with pytest.raises(GeometryError, match="nothing to resample"):
        export(volume, tmp_path / f"a.{ending}", resample=True)
    assert not list(tmp_path.glob("*a.*"))
    export(volume, tmp_path / f"a.{ending}", nominal=True)
    image, read = by_sitk(tmp_path / f"a.{ending}")
    np.testing.assert_array_equal(read, volume.numpy())
    np.testing.assert_allclose(image.GetSpacing(), volume.spacing, rtol=1e-6)
    assert volume.spacing[0] != volume.spacing[1]
    if "nii" in ending:
        header = nibabel.load(tmp_path / f"a.{ending}").header
        assert (int(header["sform_code"]), int(header["qform_code"])) == (2, 2)


def test_an_uneven_volume_is_refused_with_both_ways_out(tmp_path: Path) -> None:
    dicomgen.missing_slice(tmp_path / "in")
    (volume,) = converted.convert(tmp_path / "in").store
    with pytest.raises(GeometryError, match=r"uneven.*1 missing.*--resample.*--nominal.*2\.5 mm|uneven.*--resample"):
        export(volume, tmp_path / "a.nii")
    assert not (tmp_path / "a.nii").exists()
    export(volume, tmp_path / "n.mha", nominal=True)
    image, read = by_sitk(tmp_path / "n.mha")
    np.testing.assert_array_equal(read, volume.numpy())
    np.testing.assert_allclose(image.GetSpacing(), volume.spacing)
    with pytest.raises(UsageError, match="exclude"):
        export(volume, tmp_path / "b.nii", nominal=True, resample=True)


def test_a_missing_slice_is_interpolated(tmp_path: Path) -> None:
    series = dicomgen.missing_slice(tmp_path / "in")
    (volume,) = converted.convert(tmp_path / "in").store
    export(volume, tmp_path / "a.nii.gz", resample=True)
    image, read = by_sitk(tmp_path / "a.nii.gz")
    values = series.values.astype(np.float64)
    expected = np.concatenate([values[:3], (values[2:3] + values[3:4]) / 2, values[3:]])
    np.testing.assert_array_equal(read, np.rint(expected))
    for k, z in ((0, 0), (1, 1), (2, 2), (4, 3), (5, 4)):
        np.testing.assert_allclose(image.TransformIndexToPhysicalPoint((0, 0, k)), series.positions[z], atol=1e-4)


def test_a_gantry_tilt_is_resampled_for_sitk(tmp_path: Path) -> None:
    """The planes stay where they are and move within themselves: ITK's own interpolation gives the same."""
    series = dicomgen.gantry_tilt(tmp_path / "in")
    (volume,) = converted.convert(tmp_path / "in").store
    export(volume, tmp_path / "a.nrrd", resample=True)
    image, read = by_sitk(tmp_path / "a.nrrd")
    sheared = sitk.Cast(volume.to_sitk(), sitk.sitkFloat64)
    reference = sitk.Resample(sheared, image, sitk.Transform(), sitk.sitkLinear, -9999.0, sitk.sitkFloat64)
    theirs = sitk.GetArrayFromImage(reference)
    inside = (theirs != -9999.0) & (read != np.iinfo(np.int16).min)
    assert inside.mean() > 0.5
    assert np.abs(read[inside] - theirs[inside]).max() <= 0.5 + 1e-6
    direction = np.reshape(image.GetDirection(), (3, 3))
    np.testing.assert_allclose(direction.T @ direction, np.eye(3), atol=1e-6)
    assert series.affine is not None
    for k in range(len(series.positions)):  # every plane of the file is a plane of the source
        normal = np.cross(series.affine[:3, 0], series.affine[:3, 1])
        off = np.array(image.TransformIndexToPhysicalPoint((0, 0, k))) - series.positions[k]
        assert abs(off @ normal / np.linalg.norm(normal)) < 1e-3


def test_what_is_even_is_not_resampled(tmp_path: Path) -> None:
    volume = made(tmp_path, numbers(4, 7, 5))
    export(volume, tmp_path / "a.nii")
    export(volume, tmp_path / "b.nii", resample=True)
    assert (tmp_path / "a.nii").read_bytes() == (tmp_path / "b.nii").read_bytes()


# ---------------------------------------------------------------------------- calls and targets


def test_a_path_and_a_store(tmp_path: Path) -> None:
    small = Small(numbers(2, 3, 4), affine=AXIAL)
    root = ministore.write_store(tmp_path / "s.zarr", small)
    assert fastdcm.export(str(root / small.path), str(tmp_path / "a.mha")) == (tmp_path / "a.mha",)
    with pytest.raises(UsageError, match="1 volumes"):
        export(root, tmp_path / "b.mha")


@pytest.mark.parametrize("name", ["a", "a.nifti", ".nii", "a.gz", "a.hdr"])
def test_an_unknown_ending_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="ending"):
        export(made(tmp_path, numbers(2, 3, 4)), tmp_path / name)


def test_what_exists_stays_unless_told(tmp_path: Path) -> None:
    volume = made(tmp_path, numbers(2, 3, 4))
    target = tmp_path / "a.nii"
    target.write_text("mine")
    with pytest.raises(UsageError, match="--overwrite"):
        export(volume, target)
    assert target.read_text() == "mine"
    export(volume, target, overwrite=True)
    assert nibabel.load(target).shape == (4, 3, 2)
    (tmp_path / "b.json").write_text("mine")
    with pytest.raises(UsageError, match=r"b\.json exists"):
        export(volume, tmp_path / "b.nii", bids=True)
    (tmp_path / "d.nrrd").mkdir()
    with pytest.raises(UsageError, match="folder"):
        export(volume, tmp_path / "d.nrrd", overwrite=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0.ome.zarr", "a.nii", "b.json", "d.nrrd"]


def test_bids_is_for_nifti(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"\.nii"):
        export(made(tmp_path, numbers(2, 3, 4)), tmp_path / "a.nrrd", bids=True)


@pytest.mark.parametrize("ending", ["nii.gz", "mha"])
def test_a_failing_target_leaves_what_was_there(tmp_path: Path, ending: str) -> None:
    """A real limit of the file size, in a process of its own: half a file is never seen, the old one stays."""
    volume = made(tmp_path, RNG.integers(-9999, 9999, (20, 60, 50)).astype(np.int16))
    target = tmp_path / f"a.{ending}"
    target.write_text("mine")
    code = f"""
import resource, signal
from fastdcm.errors import TargetError
from fastdcm.load.export import export
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
try:
    export({str(volume.path)!r}, {str(target)!r}, overwrite=True)
except TargetError as error:
    print("TargetError", error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.startswith("TargetError cannot write a.")
    assert target.read_text() == "mine"
    assert len(list(tmp_path.iterdir())) == 2


def test_no_folder_and_no_space_are_target_errors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    volume = made(tmp_path, numbers(2, 3, 4))
    with pytest.raises(TargetError, match="No such file"):
        export(volume, tmp_path / "no" / "a.nii")

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(TargetError, match="make room"):
        export(volume, tmp_path / "a.nii", bids=True)
    assert [path.name for path in tmp_path.iterdir()] == ["0.ome.zarr"]


def test_a_long_axis_does_not_fit_nifti(tmp_path: Path) -> None:
    volume = made(tmp_path, np.zeros((1, 2, 32768), np.uint8))
    with pytest.raises(UsageError, match=r"32768 voxels.*32767"):
        export(volume, tmp_path / "a.nii")
    export(volume, tmp_path / "a.mha")
    assert by_sitk(tmp_path / "a.mha")[1].shape == (1, 2, 32768)


def test_a_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    volume = made(tmp_path, numbers(2, 3, 4))
    for name in ("nibabel", "SimpleITK"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingPackageError, match=r"nibabel.*fastdcm\[export\]"):
        export(volume, tmp_path / "a.nii")
    assert not (tmp_path / "a.nii").exists()
    export(volume, tmp_path / "a.nrrd")
    assert (tmp_path / "a.nrrd").exists()
