"""Resampling: a linear ramp in space stays the same linear ramp; what is outside says so."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastdcm.errors import GeometryError
from fastdcm.load.resample import Grid, own_grid, regular_grid
from fastdcm.load.volume import Volume
from tests import dicomgen
from tests.ministore import Small, write_volume

SPACING = (0.75, 0.5)  # y, x
GRADIENT = np.array([3.0, -5.0, 7.0])
SHAPE = (9, 7)  # y, x


def points_of(affine: Any, shape: tuple[int, int, int]) -> Any:
    """Return the (z, y, x, 3) points of a grid."""
    z, y, x = np.meshgrid(*(np.arange(n) for n in shape), indexing="ij")
    index = np.stack([x, y, z, np.ones_like(x)], axis=-1)
    return (index @ affine.T)[..., :3]


def uneven(folder: Path, positions: Any, dz: float, orientation: Any = dicomgen.AXIAL, **more: Any) -> Volume:
    """Write a ramp on slices at the given positions; direction 3 is from the first to the last."""
    positions = np.asarray(positions, np.float64)
    planes = [dicomgen.affine_of(position, orientation, SPACING, (0, 0, 1)) for position in positions]
    points = np.concatenate([points_of(plane, (1, *SHAPE)) for plane in planes])
    values = points @ GRADIENT
    along = (positions[-1] - positions[0]) / np.linalg.norm(positions[-1] - positions[0])
    affine = dicomgen.affine_of(positions[0], orientation, SPACING, along * dz)
    geometry = {"affine": None, "uniform": False, "spacing_kind": "patient", **more.pop("geometry", {})}
    values = more.pop("values", values)
    small = Small(values, more.pop("axes", "zyx"), affine, positions, geometry=geometry, **more)
    return Volume(write_volume(folder / "0.ome.zarr", small))


def whole(grid: Grid, cell: tuple[int | slice, ...] = ()) -> Any:
    return grid.read(cell, 0, grid.shape[0])


def check_ramp(grid: Grid) -> float:
    """Assert that every known voxel is the ramp at its point; return the share of known ones."""
    values = whole(grid)
    assert values.shape == grid.shape
    expected = points_of(grid.affine, grid.shape) @ GRADIENT
    known = np.isfinite(values)
    np.testing.assert_allclose(values[known], expected[known], atol=0.02)  # SNAP: a thousandth of a voxel or step
    axes = grid.affine[:3, :3] / np.linalg.norm(grid.affine[:3, :3], axis=0)
    np.testing.assert_allclose(axes.T @ axes, np.eye(3), atol=1e-9)
    return float(known.mean())


@pytest.mark.parametrize("orientation", [dicomgen.AXIAL, dicomgen.OBLIQUE, dicomgen.SAGITTAL])
def test_uneven_steps_become_even(tmp_path: Path, orientation: Any) -> None:
    heights = np.array([0, 2.5, 5.0, 7.5, 12.5, 17.5])
    positions = np.array([-3.0, 8.0, 1.0]) + heights[:, None] * dicomgen.normal_of(orientation)
    grid = regular_grid(uneven(tmp_path, positions, 2.5, orientation))
    assert grid.shape == (8, *SHAPE)
    assert not grid.nominal
    assert check_ramp(grid) == 1.0
    np.testing.assert_allclose(grid.affine[:3, 3], positions[0])
    np.testing.assert_allclose(np.linalg.norm(grid.affine[:3, :3], axis=0), [0.5, 0.75, 2.5])


@settings(max_examples=15)
@given(
    st.lists(st.floats(0.3, 6.0), min_size=2, max_size=7),
    st.floats(-0.8, 0.8),
    st.floats(-0.8, 0.8),
    st.sampled_from([dicomgen.AXIAL, dicomgen.OBLIQUE, dicomgen.SAGITTAL]),
)
def test_any_uneven_or_sheared_ramp_stays_a_ramp(
    steps: list[float], along_x: float, along_y: float, orientation: Any
) -> None:
    heights = np.concatenate([[0.0], np.cumsum(steps)])
    row, column = np.array(orientation[:3]), np.array(orientation[3:])
    step = dicomgen.normal_of(orientation) + along_x * row + along_y * column
    positions = np.array([-3.0, 8.0, 1.0]) + heights[:, None] * step
    dz = float(np.median(steps) * np.linalg.norm(step))
    with tempfile.TemporaryDirectory() as folder:
        volume = uneven(Path(folder), positions, dz, orientation)
        grid = regular_grid(volume)
        check_ramp(grid)
        reach = (grid.shape[0] - 1) * np.linalg.norm(grid.affine[:3, 2])
        assert reach <= heights[-1] + 0.011 * np.linalg.norm(grid.affine[:3, 2])
        assert reach > heights[-1] - np.linalg.norm(grid.affine[:3, 2])


def test_a_shear_makes_the_plane_larger_and_is_undone(tmp_path: Path) -> None:
    affine = dicomgen.affine_of((1.0, 2.0, 3.0), dicomgen.AXIAL, (0.75, 0.5), (0.0, 0.75 * 1.25, 2.5))
    shape = (5, *SHAPE)
    values = points_of(affine, shape) @ GRADIENT
    small = Small(values, affine=affine, geometry={"sheared": True})
    grid = regular_grid(Volume(write_volume(tmp_path / "0.ome.zarr", small)))
    assert grid.shape == (5, 9 + 5, 7)
    assert check_ramp(grid) == pytest.approx((9 + 4 * 8.5) / (5 * 14), abs=0.05)
    np.testing.assert_allclose(grid.affine[:3, 2], [0, 0, 2.5])
    np.testing.assert_array_equal(whole(grid)[0, :9], values[0])  # the first slice does not move


def test_slabs_are_parts_of_the_whole(tmp_path: Path) -> None:
    positions = [[0, 0.3 * z, z] for z in (0, 1, 2, 5, 6, 7.5)]
    grid = regular_grid(uneven(tmp_path, positions, 1.0))
    parts = [grid.read((), start, min(start + 3, grid.shape[0])) for start in range(0, grid.shape[0], 3)]
    np.testing.assert_array_equal(np.concatenate(parts), whole(grid))


def test_time_and_channels(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 99, (2, 3, 4, *SHAPE)).astype(np.int16)
    positions = np.array([[0, 0, z] for z in (0.0, 1, 2, 4)])
    volume = uneven(tmp_path, positions, 1.0, values=values, axes="tczyx")
    found = whole(regular_grid(volume), (1, 2))
    np.testing.assert_array_equal(found[[0, 1, 2, 4]], values[1, 2])
    np.testing.assert_array_equal(found[3], np.rint((values[1, 2, 2] + values[1, 2, 3].astype(float)) / 2))


@pytest.mark.parametrize(("kind", "expected"), [("volume", 5), ("segmentation", 4)])
def test_labels_take_the_nearest(tmp_path: Path, kind: str, expected: int) -> None:
    values = np.array([4, 4, 8], np.uint8)[:, None, None] * np.ones((3, *SHAPE), np.uint8)
    volume = uneven(tmp_path, [[0, 0, 0], [0, 0, 1], [0, 0, 4.6]], 1.0, values=values, kind=kind)
    found = whole(regular_grid(volume))
    assert found.dtype == np.uint8
    assert found[:, 0, 0].tolist()[:3] == [4, 4, expected]  # 4 + 4 / 3.6
    assert found[-1, 0, 0] == (8 if kind == "segmentation" else 7)


def test_a_missing_frame_of_a_segmentation_is_empty(tmp_path: Path) -> None:
    values = np.full((3, *SHAPE), 1, np.uint8)
    positions, missing = [[0, 0, 0], [0, 0, 1], [0, 0, 4]], {"missing_slices": [2, 3]}
    volume = uneven(tmp_path, positions, 1.0, values=values, kind="segmentation", geometry=missing)
    grid = regular_grid(volume)
    assert whole(grid)[:, 0, 0].tolist() == [1, 1, 0, 0, 1]
    assert grid.read((), 2, 4).max() == 0


@pytest.mark.parametrize(
    ("dtype", "intensity", "kind", "expected"),
    [
        (np.int16, {"padding_value": -2000}, "volume", -2000),
        (np.int16, {}, "volume", -32768),
        (np.float32, {}, "volume", np.nan),
        (np.float32, {"padding_value": -5.0}, "volume", -5.0),
        (np.uint8, {}, "segmentation", 0),
        (np.int16, {}, "segmentation", 0),
    ],
)
def test_outside_is_padding(tmp_path: Path, dtype: Any, intensity: Any, kind: str, expected: float) -> None:
    values = np.full((3, *SHAPE), 7, dtype)
    affine = dicomgen.affine_of((0, 0, 0), dicomgen.AXIAL, (0.75, 0.5), (0.0, 0.75, 2.5))
    small = Small(values, affine=affine, geometry={"sheared": True}, intensity=intensity, kind=kind)
    found = whole(regular_grid(Volume(write_volume(tmp_path / "0.ome.zarr", small))))
    assert found.dtype == dtype
    np.testing.assert_array_equal(found[2, :2], np.full((2, 7), expected, dtype))
    np.testing.assert_array_equal(found[2, 2:], values[2])


def test_padding_does_not_mix_with_values(tmp_path: Path) -> None:
    values = np.full((3, *SHAPE), 100, np.int16)
    values[1, 4, 3] = -2000
    positions = [[0, 0, 0], [0, 0, 1], [0, 0, 3]]
    found = whole(regular_grid(uneven(tmp_path, positions, 1.0, values=values, intensity={"padding_value": -2000})))
    assert set(np.unique(found)) == {-2000, 100}
    assert np.argwhere(found == -2000).tolist() == [[1, 4, 3], [2, 4, 3]]


def test_extreme_integers_neither_wrap_nor_clip(tmp_path: Path) -> None:
    values = np.zeros((3, *SHAPE), np.uint32)
    values[1:] = 2**32 - 1
    found = whole(regular_grid(uneven(tmp_path, [[0, 0, 0], [0, 0, 1], [0, 0, 3]], 1.0, values=values)))
    assert found[:, 0, 0].tolist() == [0, 2**32 - 1, 2**32 - 1, 2**32 - 1]


def test_what_cannot_be_resampled_is_refused(tmp_path: Path) -> None:
    far = uneven(tmp_path / "far", [[0, 0, 0], [0, 0, 1], [0, 0, 2], [0, 0, 5e5]], 1.0)
    with pytest.raises(GeometryError, match="16 times"):
        regular_grid(far)
    flat = uneven(tmp_path / "flat", [[0, 0, 0], [0, 0, 1], [0, 0, 3]], 1.0, geometry={"spacing_kind": "none"})
    for grid in (regular_grid, own_grid):
        with pytest.raises(GeometryError, match="PixelSpacing"):
            grid(flat)
    back = uneven(tmp_path / "back", [[0, 0, 0], [0, 0, 4], [0, 0, 3]], 1.0)
    with pytest.raises(GeometryError, match="ascend"):
        regular_grid(back)


def test_the_own_grid_is_the_volumes(tmp_path: Path) -> None:
    volume = uneven(tmp_path, [[0, 0, 0], [0, 0, 1], [0, 0, 3]], 1.0)
    with pytest.raises(GeometryError, match=r"--resample.*--nominal"):
        own_grid(volume)
    grid = own_grid(volume, nominal=True)
    assert grid.nominal
    np.testing.assert_array_equal(whole(grid), volume.numpy())
    np.testing.assert_array_equal(grid.affine, volume.affine(nominal=True))
