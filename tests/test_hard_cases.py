"""The thirteen hard cases of real exports, end to end, each with unequal in-plane spacing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fastdcm.errors import GeometryError
from tests import dicomgen
from tests.converted import check_series, convert, part

FILL = np.iinfo(np.int16).min  # of a CT without declared padding


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return tmp_path / "export"


def test_gantry_tilt_is_one_sheared_volume_with_the_exact_affine(source: Path) -> None:
    tilted = dicomgen.gantry_tilt(source)
    (volume,) = convert(source).store.volumes
    check_series(volume, tilted)
    assert part(volume, "geometry")["sheared"] is True
    np.testing.assert_allclose(volume.affine("LPS")[:3, 2], (0.0, 0.0, 5.0), atol=1e-9)
    np.testing.assert_allclose(volume.spacing, (0.5, 0.75, 5.0))


def test_missing_slice_keeps_the_data_as_found(source: Path) -> None:
    gapped = dicomgen.missing_slice(source)
    converted = convert(source)
    (volume,) = converted.store.volumes
    check_series(volume, gapped, uniform=False)
    assert part(volume, "geometry")["missing_slices"] == [3]
    np.testing.assert_allclose(part(volume, "slices")["position"], gapped.positions)
    z = volume.to_xarray().coords["z"].to_numpy()
    np.testing.assert_allclose(np.diff(z), [1, 1, 2, 1])
    assert volume.spacing[2] == 1.0
    with pytest.raises(GeometryError):
        volume.affine("LPS")
    assert converted.report.exit_code == 0


def test_missing_slice_filled_gives_the_full_grid(source: Path) -> None:
    gapped = dicomgen.missing_slice(source)
    (volume,) = convert(source, on_gap="fill").store.volumes
    values = volume.numpy()
    assert values.shape == (6, 22, 18)
    np.testing.assert_array_equal(values[[0, 1, 2, 4, 5]], gapped.values)
    assert (values[3] == FILL).all()
    assert [bool(here) for here in part(volume, "slices")["present"]] == [True, True, True, False, True, True]
    np.testing.assert_allclose(volume.affine("LPS")[:3, 2], (0, 0, 1))


def test_missing_slice_can_split_or_fail(source: Path) -> None:
    gapped = dicomgen.missing_slice(source)
    first, second = convert(source, name="split.zarr", on_gap="split").store.volumes
    np.testing.assert_array_equal(first.numpy(), gapped.values[:3])
    np.testing.assert_array_equal(second.numpy(), gapped.values[3:])
    failed = convert(source, name="fail.zarr", on_gap="fail")
    assert not failed.store.volumes
    assert failed.report.exit_code == 1
    assert {outcome for outcome, _ in failed.files().values()} == {"failed"}
    assert "gap" in {code for _, code in failed.files().values()}


def test_two_slices_at_one_position(source: Path) -> None:
    series, duplicate, other = dicomgen.two_at_one_position(source)
    converted = convert(source)
    files = converted.files()
    assert sorted([files[duplicate][0], files[series.paths[2]][0]]) == ["converted", "duplicate"]
    assert ("duplicate", "same-pixels") in files.values()
    assert files[other][0] == "converted"
    whole, rest = converted.of_series(series.series_uid)
    check_series(whole, series)
    assert rest.shape == (1, 22, 18)
    np.testing.assert_allclose(rest.origin, series.positions[3])
    assert converted.report.exit_code == 0


def test_slope_of_every_slice_counts(source: Path) -> None:
    pet = dicomgen.pet_slopes(source)
    (volume,) = convert(source).store.volumes
    check_series(volume, pet)
    assert volume.dtype == np.float32
    assert part(volume, "intensity")["rescale_per_slice"] is True
    assert part(volume, "slices")["rescale_slope"] == [0.5, 0.75, 1.0, 1.25, 1.5]


def test_axial_and_sagittal_under_one_uid_are_two_volumes(source: Path) -> None:
    axial, sagittal = dicomgen.two_orientations(source)
    first, second = convert(source).of_series(axial.series_uid)
    check_series(first, axial)
    check_series(second, sagittal)


def test_two_phases_are_one_volume_with_a_named_axis(source: Path) -> None:
    phases = dicomgen.two_phases(source)
    (volume,) = convert(source).store.volumes
    assert volume.axes == "tzyx"
    assert volume.kind == "4d"
    check_series(volume, phases)
    assert volume.dims["t"]["role"] == "temporal_position"
    assert volume.dims["t"]["values"] == [1, 2]


def test_monochrome1_keeps_its_values(source: Path) -> None:
    film = dicomgen.monochrome1(source)
    (volume,) = convert(source).store.volumes
    np.testing.assert_array_equal(volume.numpy(), film.values)
    assert part(volume, "intensity")["photometric_interpretation"] == "MONOCHROME1"
    assert volume.kind == "2d"
    assert part(volume, "geometry")["spacing_kind"] == "detector"
    np.testing.assert_allclose(volume.spacing[:2], (0.5, 0.75))
    with pytest.raises(GeometryError):
        volume.affine()


def test_monochrome1_is_turned_over_on_request(source: Path) -> None:
    film = dicomgen.monochrome1(source)
    (volume,) = convert(source, invert_monochrome1=True).store.volumes
    np.testing.assert_array_equal(volume.numpy(), 4095 - film.values)
    assert part(volume, "intensity")["photometric_interpretation"] == "MONOCHROME2"
    assert part(volume, "intensity")["source_photometric_interpretation"] == "MONOCHROME1"


def test_other_rows_are_another_volume(source: Path) -> None:
    most, one = dicomgen.rows_differ(source)
    first, second = convert(source).of_series(most.series_uid)
    check_series(first, most)
    check_series(second, one)


def test_other_pixel_spacing_is_another_volume(source: Path) -> None:
    most, one = dicomgen.spacing_differs(source)
    first, second = convert(source).of_series(most.series_uid)
    check_series(first, most)
    check_series(second, one)
    np.testing.assert_allclose(second.spacing[:2], (0.55, 0.8))


def test_signed_and_unsigned_slices_are_one_volume_that_holds_both(source: Path) -> None:
    both = dicomgen.signedness_differs(source)
    (volume,) = convert(source).store.volumes
    check_series(volume, both)
    assert volume.dtype == np.int32
    values = volume.numpy()
    assert values[5, 0, 0] == -5
    assert values.max() > np.iinfo(np.int16).max


def test_a_file_cut_short_fails_its_volume_and_no_other(source: Path) -> None:
    broken, path, whole = dicomgen.cut_short(source)
    converted = convert(source)
    files = converted.files()
    assert files[path] == ("failed", "truncated")
    assert {files[other] for other in broken.paths if other != path} == {("failed", "sibling-failed")}
    (volume,) = converted.store.volumes
    check_series(volume, whole)
    assert converted.report.exit_code == 1
    assert any(path.name in failure.path for failure in converted.report.failures)


def test_a_file_cut_short_can_be_dropped_or_filled(source: Path) -> None:
    broken, path, _ = dicomgen.cut_short(source)
    here = [0, 1, 3, 4]
    dropped = convert(source, name="drop.zarr", on_bad_frame="drop")
    assert dropped.files()[path] == ("failed", "truncated")
    (volume,) = dropped.of_series(broken.series_uid)
    np.testing.assert_array_equal(volume.numpy(), broken.values[here])
    assert part(volume, "geometry")["uniform"] is False
    assert part(volume, "geometry")["missing_slices"] == [2]
    filled = convert(source, name="fill.zarr", on_bad_frame="fill")
    (volume,) = filled.of_series(broken.series_uid)
    values = volume.numpy()
    np.testing.assert_array_equal(values[here], broken.values[here])
    assert (values[2] == FILL).all()
    assert broken.affine is not None
    np.testing.assert_allclose(volume.affine(), broken.affine, atol=1e-6)


def test_without_positions_there_is_a_stack_and_no_affine(source: Path) -> None:
    lost = dicomgen.no_position(source)
    (volume,) = convert(source).store.volumes
    np.testing.assert_array_equal(volume.numpy(), lost.values)
    assert part(volume, "geometry")["has_position"] is False
    assert part(volume, "geometry").get("affine") is None
    with pytest.raises(GeometryError):
        volume.affine()
    with pytest.raises(GeometryError):
        volume.to_sitk()


def test_a_table_that_jumps_makes_two_volumes(source: Path) -> None:
    before, after = dicomgen.table_jump(source)
    volumes = convert(source).of_series(before.series_uid)
    first, second = sorted(volumes, key=lambda volume: volume.origin[2])
    check_series(first, before)
    check_series(second, after)
