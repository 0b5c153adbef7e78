"""Geometry: order, affine, uniformity, gaps and table jumps, against positions that a known affine made."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from fastdcm.model import Floats, Tolerances
from fastdcm.series.geometry import (
    Plane,
    base_grid,
    flat_geometry,
    frequent_step,
    grid_slots,
    position_labels,
    separate_lines,
    slice_axes,
    stack_geometry,
)

T = Tolerances()


def plane(axes: Floats | None, **changes: Any) -> Plane:
    known: dict[str, Any] = {
        "axes": axes,
        "spacing": (0.4, 0.7),
        "spacing_kind": "patient",
        "thickness": 2.5,
        "spacing_between": float("nan"),
        "frame_of_reference_uid": "1.9",
    }
    return Plane(**{**known, **changes})


def axes_from(quaternion: tuple[float, float, float, float]) -> Floats:
    """Return a right-handed (3, 3) rotation, columns row, column, normal."""
    w, x, y, z = np.asarray(quaternion) / np.linalg.norm(quaternion)
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )


component = st.floats(-1, 1)
quaternions = st.tuples(component, component, component, component).filter(lambda q: np.linalg.norm(q) > 0.1)
origins = st.tuples(*[st.floats(-900, 900)] * 3)
AXIAL = np.eye(3)


@settings(deadline=None, max_examples=150)
@given(quaternions, origins, st.floats(0.3, 12), st.floats(-0.6, 0.6), st.floats(-0.6, 0.6), st.integers(2, 60))
def test_any_affine_is_recovered_from_the_text_of_its_positions(
    q: tuple[float, float, float, float],
    origin: tuple[float, float, float],
    dz: float,
    shear_row: float,
    shear_column: float,
    slices: int,
) -> None:
    axes = axes_from(q)
    step = (axes[:, 2] + shear_row * axes[:, 0] + shear_column * axes[:, 1]) * dz
    exact = np.asarray(origin) + np.arange(slices)[:, None] * step
    written = np.asarray([[float(f"{v:.6f}") for v in position] for position in exact])  # as DS
    found = stack_geometry(written, plane(axes), T)
    assert found.uniform
    assert found.affine is not None
    np.testing.assert_allclose(found.affine[:3, 2], step, atol=3e-6)
    np.testing.assert_allclose(found.affine[:3, 0], axes[:, 0] * 0.4, atol=1e-12)
    np.testing.assert_allclose(found.affine[:3, 1], axes[:, 1] * 0.7, atol=1e-12)
    k = np.arange(slices)[:, None]
    residual = np.linalg.norm(found.affine[:3, 3] + k * found.affine[:3, 2] - written, axis=1).max()
    assert residual == pytest.approx(found.max_residual_mm, abs=1e-9)
    assert residual < 1e-5
    sine = np.hypot(shear_row, shear_column) / np.sqrt(1 + shear_row**2 + shear_column**2)
    assume(abs(sine - 2e-3) > 1e-4)
    assert found.sheared == (sine > 2e-3)
    assert found.spacing[2] == pytest.approx(np.linalg.norm(step), abs=3e-6)
    assert found.z_mm.tolist() == (written[0, 2] + np.arange(slices) * found.spacing[2]).tolist()


@settings(deadline=None, max_examples=100)
@given(quaternions, origins, st.floats(0.5, 8), st.integers(6, 40), st.data())
def test_missing_slices_are_found_and_the_filled_grid_is_the_affine(
    q: tuple[float, float, float, float],
    origin: tuple[float, float, float],
    dz: float,
    slices: int,
    data: st.DataObject,
) -> None:
    axes = axes_from(q)
    positions = np.asarray(origin) + np.arange(slices)[:, None] * axes[:, 2] * dz
    missing = data.draw(st.sampled_from(range(2, slices - 2)))
    kept = np.delete(np.arange(slices), missing)
    found = stack_geometry(positions[kept], plane(axes), T)
    assert not found.uniform
    assert found.affine is None
    assert found.missing_slices == (missing,)
    assert found.spacing[2] == pytest.approx(dz)
    assert found.spacing_z_nominal
    np.testing.assert_allclose(found.z_mm - found.z_mm[0], kept * dz, atol=1e-6)
    filled = stack_geometry(positions[kept], plane(axes), T, kept)
    assert filled.uniform
    assert filled.missing_slices == (missing,)
    assert len(filled.z_mm) == slices
    assert filled.affine is not None
    np.testing.assert_allclose(filled.affine[:3, 2], axes[:, 2] * dz, atol=1e-6)


def test_the_raw_pet_whose_steps_jitter_is_one_uniform_volume() -> None:
    steps = np.tile([3.27, 3.29, 3.27, 3.19, 3.29, 3.27, 3.25], 40)
    z = np.append(0, np.cumsum(steps))
    drift = z - np.arange(len(z)) * z[-1] / (len(z) - 1)
    assert 0.03 < np.abs(drift).max() < 0.1
    found = stack_geometry(np.column_stack([z * 0, z * 0, z]), plane(AXIAL), T)
    assert found.uniform
    assert found.spacing[2] == pytest.approx(z[-1] / (len(z) - 1))
    assert 0.03 < found.max_residual_mm < 0.1


@pytest.mark.parametrize(
    "steps", [[2.5] * 6 + [5.0] * 6, [5.0] * 4 + [2.5] * 9, [5, 5, 5.2, 5, 5], [1, 1, 1.08, 1, 1], [2.0, 2.0, 2.3, 2.0]]
)
def test_uneven_by_design_is_irregular_and_nothing_is_missing(steps: list[float]) -> None:
    z = np.append(-31.0, -31.0 + np.cumsum(steps))
    found = stack_geometry(np.column_stack([z * 0, z * 0, z]), plane(AXIAL), T)
    assert not found.uniform
    assert found.affine is None
    assert found.missing_slices == ()
    np.testing.assert_allclose(found.z_mm, z)


def test_thick_slices_fill_a_wide_step_and_thin_ones_do_not() -> None:
    z = np.array([0, 2.5, 5.0, 7.5, 12.5, 17.5])
    thickness = np.array([2.5, 2.5, 2.5, 5.0, 5.0, 5.0])
    assert grid_slots(z, T, thickness) is None
    slots = grid_slots(z, T, np.full(6, 2.5))
    assert slots is not None
    assert slots.tolist() == [0, 1, 2, 3, 5, 7]


def test_an_aborted_interleaved_run_lacks_slices() -> None:
    z = np.array([0, 1, 2, 3, 5, 7, 9, 11.0])
    assert grid_slots(z, T) is None
    slots = grid_slots(z, T, designed=False)
    assert slots is not None
    assert slots.tolist() == z.tolist()


def test_a_wild_position_is_no_gap_and_costs_no_memory() -> None:
    positions = np.column_stack([np.zeros(4), np.zeros(4), [0, 1, 2, 1e8]])
    found = stack_geometry(positions, plane(AXIAL), T)
    assert found.missing_slices == ()
    assert not found.uniform


@pytest.mark.parametrize("gap", [10.0, 9.6, 10.4, 15.0, 14.4])
def test_a_step_near_a_whole_multiple_is_a_gap(gap: float) -> None:
    z = np.append(0, np.cumsum([5, 5, 5, gap, 5, 5]))
    slots = grid_slots(z, T)
    assert slots is not None
    assert int(slots[-1]) == 5 + round(gap / 5)


@pytest.mark.parametrize("gap", [7.5, 8.5, 9.0, 11.3, 12.5])
def test_a_step_between_multiples_is_no_gap(gap: float) -> None:
    assert grid_slots(np.append(0, np.cumsum([5, 5, 5, gap, 5, 5])), T) is None


def test_geometry_equals_simpleitk_for_a_clean_stack() -> None:
    axes = axes_from((0.9, 0.1, -0.3, 0.2))
    positions = np.array([4.0, -7.5, 31.25]) + np.arange(9)[:, None] * axes[:, 2] * 1.75
    found = stack_geometry(positions, plane(axes), T)
    assert found.origin is not None
    assert found.direction is not None
    volume = sitk.Image(4, 5, 9, sitk.sitkInt16)
    volume.SetOrigin(found.origin)
    volume.SetSpacing(found.spacing)
    volume.SetDirection(found.direction.reshape(-1).tolist())
    for k, position in enumerate(positions):
        np.testing.assert_allclose(volume.TransformIndexToPhysicalPoint((0, 0, k)), position, atol=1e-9)
    expected = positions[2] + axes[:, 0] * 0.4 * 3 + axes[:, 1] * 0.7 * 4
    np.testing.assert_allclose(volume.TransformIndexToPhysicalPoint((3, 4, 2)), expected, atol=1e-9)
    assert found.affine is not None
    np.testing.assert_allclose((found.affine @ [3, 4, 2, 1])[:3], expected, atol=1e-9)


def test_one_slice_takes_the_normal_and_its_thickness() -> None:
    one = np.array([[1.0, 2.0, 3.0]])
    found = stack_geometry(one, plane(AXIAL), T)
    assert found.spacing == (0.4, 0.7, 2.5)
    assert found.spacing_z_source == "thickness"
    assert found.uniform
    assert found.z_mm.tolist() == [3.0]
    unknown = stack_geometry(one, plane(AXIAL, thickness=float("nan"), spacing_between=3.0), T)
    assert unknown.spacing[2] == 1.0
    assert unknown.spacing_z_source == "none"


def test_without_pixel_spacing_there_is_no_affine() -> None:
    found = stack_geometry(np.array([[0, 0, 0], [0, 0, 2.0]]), plane(AXIAL, spacing=None, spacing_kind="none"), T)
    assert found.affine is None
    assert not found.uniform
    assert found.spacing == (1.0, 1.0, 2.0)
    assert not found.spacing_z_nominal


def test_without_positions_the_step_comes_from_the_tags() -> None:
    assert flat_geometry(3, plane(None, spacing_between=-3.5)).spacing[2] == 3.5
    assert flat_geometry(3, plane(None, spacing_between=-3.5)).spacing_z_source == "tag"
    found = flat_geometry(3, plane(AXIAL))
    assert (found.spacing_z_source, found.affine, found.origin, found.has_position) == ("thickness", None, None, False)
    assert found.z_mm.tolist() == [0, 2.5, 5]
    assert flat_geometry(3, plane(None, thickness=0.0)).spacing_z_source == "none"


def test_bad_orientations_are_told_and_long_ones_are_normalised() -> None:
    rows = np.array(
        [
            [1, 0, 0, 0, 1, 0],
            [2, 0, 0, 0, 0.5, 0],
            [1, 0, 0, 0.01, 1, 0],
            [0, 0, 0, 0, 1, 0],
            [np.nan, 0, 0, 0, 1, 0],
            [np.inf, 0, 0, 0, 1, 0],
            [1, 0, 0, 1, 0, 0],
        ]
    )
    axes, good = slice_axes(rows, T.orientation)
    assert good.tolist() == [True, True, False, False, False, False, False]
    np.testing.assert_allclose(axes[1], np.eye(3))


def test_a_table_jump_separates_and_a_tilt_does_not() -> None:
    k = np.arange(12.0)
    jump = np.column_stack([np.where(k < 5, 0.0, 12.0), k * 0, k * 5])
    labels, size = separate_lines(jump, np.array([0, 0, 1.0]), T)
    assert labels.tolist() == [0] * 5 + [1] * 7
    assert size == pytest.approx(12)
    tilt = np.column_stack([k * 0, k * 2.2, k * 5])
    assert separate_lines(tilt, np.array([0, 0, 1.0]), T)[0].tolist() == [0] * 12
    both = tilt + np.where(k < 6, 0.0, 3.0)[:, None] * [1, 0, 0]
    assert separate_lines(both, np.array([0, 0, 1.0]), T)[0].tolist() == [0] * 6 + [1] * 6


def test_three_slices_of_which_one_jumped() -> None:
    positions = np.array([[0, 0, 0], [0, 0, 5], [12, 0, 10.0]])
    assert separate_lines(positions, np.array([0, 0, 1.0]), T)[0].tolist() == [0, 0, 1]


def test_stacks_beside_each_other_at_the_same_height_are_separate() -> None:
    z = np.repeat(np.arange(6.0) * 3, 2)
    positions = np.column_stack([np.tile([0, 40.0], 6), z * 0, z])
    labels, _ = separate_lines(positions, np.array([0, 0, 1.0]), T)
    assert labels.tolist() == [0, 1] * 6


def test_positions_within_a_hundredth_of_a_millimetre_are_one() -> None:
    assert position_labels(np.array([5.0, 0.0, 5.009, 10.0, 0.004]), 0.01).tolist() == [1, 0, 1, 2, 0]


def test_the_most_frequent_step() -> None:
    assert frequent_step(np.array([5, 5, 2.5, 2.5, 5.0]), T) == pytest.approx(5)
    assert frequent_step(np.array([2.0, 5.0]), T) == pytest.approx(2)


def test_sparse_positions_find_their_base_grid() -> None:
    nothing = np.array([np.nan])
    found = base_grid(np.array([0, 2.5, 12.5, 15.0]), nothing, T)
    assert found is not None
    assert found.tolist() == [0, 1, 5, 6]
    declared = base_grid(np.array([0, 10.0, 40.0]), np.array([np.nan, 5.0]), T)
    assert declared is not None
    assert declared.tolist() == [0, 2, 8]
    assert base_grid(np.array([0, 1.0, 2.37, 1e9]), nothing, T) is None


def test_one_shared_orientation_gives_the_axes_that_each_row_would_get() -> None:
    turned = np.array([[0.6, 0.8, 0.0, -0.8, 0.6, 1e-4], [1.0, 0.0, 0.0, 0.0, 0.9999, 0.01]])
    bad = np.array([[1.0, 0.0, 0.0, 1.0, 0.0, 0.0], [np.nan] * 6, [0.0] * 6])
    rows = np.concatenate([turned, bad])
    each, good = slice_axes(rows, 1e-3)
    assert good.tolist() == [True, True, False, False, False]
    for row, axes, fine in zip(rows, each, good, strict=True):
        for count in (1, 4):
            same, same_good = slice_axes(np.tile(row, (count, 1)), 1e-3)
            np.testing.assert_array_equal(same, np.tile(axes, (count, 1, 1)))
            assert same_good.tolist() == [fine] * count
