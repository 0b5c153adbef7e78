"""The thirteen hard cases of real exports, end to end, each with unequal in-plane spacing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pydicom import uid as uids

from fastdcm.errors import GeometryError
from fastdcm.load.volume import Volume
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


def cut_header(path: Path, tag: bytes) -> None:
    """Let a file end before an element (little endian group, element and VR)."""
    whole = path.read_bytes()
    assert whole.count(tag) == 1
    path.write_bytes(whole[: whole.index(tag)])


ROWS, POSITION, SERIES = b"\x28\x00\x10\x00US", b"\x20\x00\x32\x00DS", b"\x20\x00\x0e\x00UI"


@pytest.mark.parametrize("k", [2, 4])
def test_a_file_cut_inside_its_header_withholds_its_volume(source: Path, k: int) -> None:
    series = dicomgen.make_series(source / "a")
    whole = dicomgen.make_series(source / "b", series="other", rows=9, seed=3)
    cut_header(series.paths[k], ROWS)
    converted = convert(source)
    files = converted.files()
    assert files[series.paths[k]] == ("failed", "no-pixels")
    assert {files[path] for i, path in enumerate(series.paths) if i != k} == {("failed", "sibling-failed")}
    (volume,) = converted.store.volumes
    check_series(volume, whole)
    here = [i for i in range(5) if i != k]
    (dropped,) = convert(source, name="drop.zarr", on_bad_frame="drop").of_series(series.series_uid)
    np.testing.assert_array_equal(dropped.numpy(), series.values[here])
    assert "frames-dropped" in reasons(dropped)


def test_a_file_cut_inside_its_header_can_be_filled(source: Path) -> None:
    series = dicomgen.make_series(source)
    cut_header(series.paths[2], ROWS)
    (volume,) = convert(source, on_bad_frame="fill").store.volumes
    np.testing.assert_array_equal(volume.numpy()[[0, 1, 3, 4]], series.values[[0, 1, 3, 4]])
    assert (volume.numpy()[2] == FILL).all()
    assert series.affine is not None
    np.testing.assert_allclose(volume.affine(), series.affine, atol=1e-6)


def test_a_file_cut_before_its_position_flags_the_stacks_of_its_series(source: Path) -> None:
    series = dicomgen.make_series(source)
    single = dicomgen.make_series(source, n=1, orientation=dicomgen.SAGITTAL, first=9, seed=3)
    other = dicomgen.make_series(source, series="other", seed=4)
    cut_header(series.paths[4], POSITION)
    converted = convert(source)
    assert converted.files()[series.paths[4]] == ("failed", "no-pixels")
    stack, alone = converted.of_series(series.series_uid)
    np.testing.assert_array_equal(stack.numpy(), series.values[:4])
    assert reasons(stack)[-1] == "files-lost"
    np.testing.assert_array_equal(alone.numpy(), single.values)
    assert "files-lost" not in reasons(alone)
    assert reasons(converted.of_series(other.series_uid)[0]) == []


def test_a_file_cut_before_its_series_is_in_no_series(source: Path) -> None:
    series = dicomgen.make_series(source)
    cut_header(series.paths[4], SERIES)
    converted = convert(source)
    assert converted.files()[series.paths[4]][0] == "failed"
    (volume,) = converted.store.volumes
    np.testing.assert_array_equal(volume.numpy(), series.values[:4])
    assert reasons(volume) == []


@pytest.mark.parametrize(("step", "k"), [(0, 0), (1, 2), (2, 3)])
def test_a_bad_frame_of_a_4d_volume_is_one_filled_cell(source: Path, step: int, k: int) -> None:
    steps = [dicomgen.make_series(source, n=4, first=4 * t, seed=t, TemporalPositionIdentifier=t + 1) for t in range(3)]
    path = steps[step].paths[k]
    path.write_bytes(path.read_bytes()[:-100])
    (volume,) = convert(source, on_bad_frame="fill").store.volumes
    expected = np.stack([one.values for one in steps])
    expected[step, k] = FILL
    np.testing.assert_array_equal(volume.numpy(), expected)
    assert part(volume, "dims")["t"]["values"] == [1, 2, 3]
    present = np.ones((3, 4), bool)
    present[step, k] = False
    assert part(volume, "slices")["present"] == present.ravel().tolist()
    assert reasons(volume) == ["frames-filled"]
    assert steps[0].affine is not None
    np.testing.assert_allclose(volume.affine(), steps[0].affine, atol=1e-6)
    complete, ragged = convert(source, name="drop.zarr", on_bad_frame="drop").store.volumes
    assert complete.numpy().shape[0] == 2
    assert ragged.numpy().shape[0] == 3


def test_a_position_that_is_bad_in_every_step_is_a_missing_slice(source: Path) -> None:
    steps = [dicomgen.make_series(source, n=5, first=5 * t, seed=t, TemporalPositionIdentifier=t + 1) for t in range(2)]
    for one in steps:
        one.paths[2].write_bytes(one.paths[2].read_bytes()[:-100])
    (volume,) = convert(source, on_bad_frame="fill").store.volumes
    expected = np.stack([one.values for one in steps])
    expected[:, 2] = FILL
    np.testing.assert_array_equal(volume.numpy(), expected)


def test_the_label_of_a_slide_is_an_image_with_full_metadata_alone(source: Path) -> None:
    pixels = np.arange(8 * 6 * 3, dtype=np.uint8).reshape(1, 8, 6, 3)
    dataset = dicomgen.new_dataset(
        uids.VLWholeSlideMicroscopyImageStorage, dicomgen.uid("label"), Modality="SM", PatientID="P",
        StudyInstanceUID="1.2.3", SeriesInstanceUID="1.2.4", ImageType=["ORIGINAL", "PRIMARY", "LABEL", "NONE"],
        **dicomgen.pixel_module(pixels, bits_stored=8, photometric="RGB"),
    )  # fmt: skip
    dicomgen.set_pixels(dataset, pixels, uids.ExplicitVRLittleEndian)
    dicomgen.save(dataset, source / "label.dcm")
    shown = convert(source)
    assert shown.files() == {source / "label.dcm": ("filtered", "wsi-label")}
    full = convert(source, name="full.zarr", metadata="full")
    assert full.files() == {source / "label.dcm": ("converted", None)}
    (volume,) = full.store.volumes
    np.testing.assert_array_equal(volume.numpy()[:, 0], np.moveaxis(pixels[0], -1, 0))


def reasons(volume: Volume) -> list[str]:
    """Return the codes of a volume."""
    return [reason["code"] for reason in volume.attributes["fastdcm"]["reasons"]]


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
