"""Grouping: the thirteen hard cases, every split, duplicates and conflicts, gap policies, special objects."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastdcm.errors import Code, Outcome
from fastdcm.model import Answer, Grouping, Options, Volume
from fastdcm.series.group import group
from tests.series.build import CORONAL, SAGITTAL, cells_of, check_law_two, frames_of, image, stack, vector

ZS = [0.0, 5.0, 10.0, 15.0, 20.0]
SEG = "1.2.840.10008.5.1.4.1.1.66.4"


def grouped(images: list[dict[str, Any]], excluded: frozenset[int] = frozenset(), **options: Any) -> Grouping:
    """Group, and check what must hold of every grouping: law 2, and each row once."""
    frames = frames_of(images)
    found = group(frames, Options(**options), excluded=excluded)
    seen = [row for volume in found.volumes for row in cells_of(volume)]
    seen += [one.row for one in found.decided]
    seen += sorted({question.second for question in found.questions})
    assert sorted(seen) == sorted(set(range(len(images))) - excluded)
    for volume in found.volumes:
        check_law_two(frames, volume)
        assert len(volume.geometry.z_mm) == volume.cells.shape[2]
    sizes = [(volume.cells >= 0).sum() for volume in found.volumes]
    assert sizes == sorted(sizes, reverse=True)
    return found


def codes(volume: Volume) -> list[Code]:
    return [reason.code for reason in volume.reasons]


def shapes(found: Grouping) -> list[tuple[int, ...]]:
    return [volume.cells.shape for volume in found.volumes]


# ---------------------------------------------------------------------------- the thirteen hard cases


def test_1_gantry_tilt_is_one_sheared_volume_with_the_exact_affine() -> None:
    k = np.arange(8)
    tilt = np.deg2rad(20)
    orientation = (1, 0, 0, 0, np.cos(tilt), np.sin(tilt))
    found = grouped([image((3.0, -7.0, 5.0 * i), orientation) for i in k])
    (volume,) = found.volumes
    assert volume.geometry.sheared
    assert volume.geometry.uniform
    assert volume.geometry.affine is not None
    np.testing.assert_allclose(volume.geometry.affine[:3, 2], [0, 0, 5], atol=1e-12)
    assert volume.geometry.spacing == pytest.approx((0.4, 0.7, 5.0))
    assert codes(volume) == [Code.SHEARED]
    assert "20.0 degrees" in volume.reasons[0].message


def test_2_a_missing_slice_is_listed_and_nothing_is_stretched() -> None:
    found = grouped(stack([0, 5, 10, 20, 25]))
    (volume,) = found.volumes
    assert volume.geometry.missing_slices == (3,)
    assert volume.geometry.z_mm.tolist() == [0, 5, 10, 20, 25]
    assert volume.geometry.spacing[2] == 5
    assert codes(volume) == [Code.MISSING_SLICES]
    assert "z=20.0 is 10.0 mm after its neighbour, the others are 5.0 mm apart" in volume.reasons[0].message
    assert "--on-gap fill" in volume.reasons[0].message


def test_2_on_gap_fill_gives_the_full_grid() -> None:
    (volume,) = grouped(stack([0, 5, 10, 20, 25]), on_gap="fill").volumes
    assert volume.cells.tolist() == [[[0, 1, 2, -1, 3, 4]]]
    assert volume.geometry.uniform
    assert volume.geometry.missing_slices == (3,)
    assert codes(volume) == [Code.GAP_FILLED]


def test_2_on_gap_split_gives_contiguous_runs() -> None:
    found = grouped(stack([0, 5, 10, 20, 25]), on_gap="split")
    assert [volume.cells.tolist() for volume in found.volumes] == [[[[0, 1, 2]]], [[[3, 4]]]]
    assert all(codes(volume) == [Code.SPLIT_GAP] for volume in found.volumes)


def test_2_on_gap_fail_refuses_with_the_numbers() -> None:
    found = grouped([*stack([0, 5, 10, 20, 25]), *stack(ZS, kernel="LUNG")], on_gap="fail")
    assert shapes(found) == [(1, 1, 5)]
    assert {(d.outcome, d.code) for d in found.decided} == {(Outcome.FAILED, Code.GAP)}
    assert [d.row for d in found.decided] == [0, 1, 2, 3, 4]
    assert "10.0 mm after its neighbour" in found.decided[0].message


def test_2_a_four_dimensional_stack_is_filled_with_its_table_of_values() -> None:
    images = [
        image((0, 0, z), trigger_time=20.0 * t + z, temporal_position=None)
        for t in range(3)
        for z in (0, 5, 10, 20, 25)
    ]
    (volume,) = grouped(images, on_gap="fill").volumes
    assert volume.cells.shape == (3, 1, 6)
    assert volume.axes[0].values[1] == (20, 25, 30, None, 40, 45)


def test_3_two_slices_at_one_position_are_a_duplicate_only_with_one_uid() -> None:
    images = stack(ZS)
    images[3] |= {"sop_instance_uid": "1.2.000002", "position_z": 10.0}
    frames = frames_of(images)
    asked = group(frames, Options())
    assert [tuple(q) for q in asked.questions] == [(2, 3)]
    assert Code.UNDECIDED in codes(asked.volumes[0])
    found = group(frames, Options(), [Answer(2, 3, True)])
    assert [(d.row, d.outcome, d.code) for d in found.decided] == [(3, Outcome.DUPLICATE, Code.SAME_PIXELS)]
    assert found.questions == ()
    assert [volume.cells.shape[2] for volume in found.volumes] == [4]
    assert Code.UNDECIDED not in codes(found.volumes[0])
    other = grouped([*stack(ZS), image((-12.5, 20.25, 10.0))])
    assert shapes(other) == [(1, 1, 5), (1, 1, 1)]
    assert other.decided == ()


def test_4_slopes_do_not_split() -> None:
    assert shapes(grouped(stack(ZS, slope=[1.0, 1.5, 2.5, 0.3, 7.0]))) == [(1, 1, 5)]


def test_5_axial_and_sagittal_images_are_two_volumes() -> None:
    found = grouped([*stack(ZS), *[image((i * 3.0, 0, 0), SAGITTAL) for i in range(4)]])
    assert shapes(found) == [(1, 1, 5), (1, 1, 4)]
    assert all(codes(volume) == [Code.SPLIT_ORIENTATION] for volume in found.volumes)
    assert "1\\0\\0\\0\\1\\0 here and 0\\1\\0\\0\\0\\-1" in found.volumes[0].reasons[0].message


def test_6_two_phases_at_the_same_positions_are_one_4d_volume() -> None:
    (volume,) = grouped(stack(ZS, temporal_position=1) + stack(ZS, temporal_position=2)).volumes
    assert volume.cells.tolist() == [[[0, 1, 2, 3, 4]], [[5, 6, 7, 8, 9]]]
    assert volume.axes[0].role == "temporal_position"
    assert volume.geometry.spacing[2] == 5


def test_7_monochrome1_does_not_split_or_change_the_kind() -> None:
    (volume,) = grouped([image((0, 0, 0), modality="CR", photometric="MONOCHROME1")]).volumes
    assert volume.kind == "2d"


@pytest.mark.parametrize(
    ("changes", "code", "told"),
    [
        ({"rows": 9.0}, Code.SPLIT_MATRIX, "7 x 5 here and 9 x 5"),
        ({"columns": 9.0}, Code.SPLIT_MATRIX, "7 x 5 here and 7 x 9"),
        ({"spacing_y": 0.71}, Code.SPLIT_SPACING, "0.7 x 0.4 mm here and 0.71 x 0.4 mm"),
        ({"spacing_x": None}, Code.SPLIT_SPACING, "0.7 x 0.4 mm here and 0.7 x nan mm"),
        ({"samples": 3.0}, Code.SPLIT_SAMPLES, "1 here and 3"),
        ({"photometric": "PALETTE COLOR"}, Code.SPLIT_SAMPLES, "PALETTE"),
        ({"photometric": "MONOCHROME1"}, Code.SPLIT_SAMPLES, "1 here and 1 (MONOCHROME1)"),
        ({"pixel_keyword": "FloatPixelData"}, Code.SPLIT_NUMBER_TYPE, "integer here and float"),
        ({"image_type": "DERIVED\\SECONDARY\\AXIAL"}, Code.SPLIT_IMAGE_TYPE, "ORIGINAL\\PRIMARY here and DERIVED"),
        ({"image_type": "ORIGINAL\\PRIMARY\\LOCALIZER"}, Code.SPLIT_IMAGE_TYPE, "LOCALIZER"),
        ({"image_type": "ORIGINAL\\PRIMARY\\CSA MPR"}, Code.SPLIT_IMAGE_TYPE, "MPR"),
        ({"kernel": "LUNG"}, Code.SPLIT_KERNEL, "absent here and LUNG"),
        ({"frame_of_reference_uid": "1.10"}, Code.SPLIT_FRAME_OF_REFERENCE, "Frame of Reference"),
        (vector("row", (0.999, 0.04, 0)) | vector("column", (-0.04, 0.999, 0)), Code.SPLIT_ORIENTATION, "-0.04"),
        ({"position_x": None}, Code.NO_POSITION, ""),
    ],
)
def test_8_9_what_may_not_differ_splits_with_the_tag_and_both_values(
    changes: dict[str, Any], code: Code, told: str
) -> None:
    images = stack(ZS)
    images[2] |= changes
    found = grouped(images)
    assert shapes(found) == [(1, 1, 4), (1, 1, 1)]
    assert code in codes(found.volumes[1])
    message = " ".join(reason.message for volume in found.volumes for reason in volume.reasons)
    assert told in message
    assert "1.10" not in message


def test_10_signedness_and_stored_bits_do_not_split() -> None:
    images = stack(ZS, pixel_representation=[0, 1, 0, 0, 0], bits_stored=[12, 16, 12, 10, 12])
    assert shapes(grouped(images)) == [(1, 1, 5)]


def test_11_an_excluded_frame_is_a_missing_slice() -> None:
    found = grouped(stack(ZS), frozenset({2}))
    assert found.volumes[0].geometry.missing_slices == (2,)
    assert found.volumes[0].cells.tolist() == [[[0, 1, 3, 4]]]
    (filled,) = grouped(stack(ZS), frozenset({2}), on_gap="fill").volumes
    assert filled.cells.tolist() == [[[0, 1, -1, 3, 4]]]


def test_11_everything_excluded_is_nothing() -> None:
    assert grouped(stack(ZS), frozenset(range(5))).volumes == ()


@pytest.mark.parametrize("modality", ["CT", "MR", "PT"])
def test_12_slices_without_position_are_stacked_by_instance_number(modality: str) -> None:
    images = [image(None, modality=modality, instance_number=n, spacing_between=-4.0) for n in (3, 1, 2)]
    (volume,) = grouped(images).volumes
    assert volume.cells.tolist() == [[[1, 2, 0]]]
    geometry = volume.geometry
    assert (geometry.has_position, geometry.affine, geometry.origin, geometry.uniform) == (False, None, None, False)
    assert geometry.spacing == (0.4, 0.7, 4.0)
    assert geometry.spacing_z_source == "tag"
    assert codes(volume) == [Code.NO_POSITION]


@pytest.mark.parametrize("modality", ["CR", "DX", "MG", "IO", "XA", "RF", "US", "OT", "OP", "NM"])
def test_12_other_images_without_position_are_never_stacked(modality: str) -> None:
    images = [image(None, None, modality=modality, sop_class_uid="1.2.840.10008.5.1.4.1.1.7") for _ in range(3)]
    found = grouped(images)
    assert shapes(found) == [(1, 1, 1)] * 3
    assert all(codes(volume) == [Code.SPLIT_INSTANCE] for volume in found.volumes)
    assert [volume.cells.item() for volume in found.volumes] == [0, 1, 2]
    assert shapes(grouped(images[:1])) == [(1, 1, 1)]
    assert grouped(images[:1]).volumes[0].reasons == ()


def test_12_a_screenshot_in_a_ct_series_is_no_slice() -> None:
    sc = [image(None, None, sop_class_uid="1.2.840.10008.5.1.4.1.1.7") for _ in range(2)]
    assert shapes(grouped(stack(ZS) + sc)) == [(1, 1, 5), (1, 1, 1), (1, 1, 1)]


def test_13_a_moved_table_gives_two_volumes() -> None:
    found = grouped([image((0.0 if z < 25 else 12.0, 1.0, z)) for z in range(0, 50, 5)])
    assert shapes(found) == [(1, 1, 5), (1, 1, 5)]
    assert all(codes(volume) == [Code.SPLIT_TABLE_JUMP] for volume in found.volumes)
    assert "12.0 mm" in found.volumes[0].reasons[0].message


# ---------------------------------------------------------------------------- tolerances and order


@pytest.mark.parametrize("shift", [0.3, 0.5, 1.2])
def test_acquisitions_that_interleave_at_nearly_equal_positions_are_apart(shift: float) -> None:
    first, second = [0, 5.0, 10, 15, 20], [z + shift for z in (0, 5, 10, 15)]
    found = grouped(stack(first, acquisition_number=1) + stack(second, acquisition_number=2))
    assert shapes(found) == [(1, 1, 5), (1, 1, 4)]
    assert all(volume.geometry.uniform for volume in found.volumes)
    assert "Acquisition Number (0020,0012) is 1 here and 2" in found.volumes[0].reasons[0].message


@pytest.mark.parametrize("images_a_position", [1, 2])
def test_stacks_that_the_file_numbers_are_apart(images_a_position: int) -> None:
    zs = [0.0, 2.0, 4.0, 100.0, 102.0, 104.0]
    images = [
        image for t in range(images_a_position) for image in stack(zs, stack_id=list("111222"), temporal_position=t)
    ]
    found = grouped(images)
    assert shapes(found) == [(images_a_position, 1, 3)] * 2
    assert all(volume.geometry.uniform for volume in found.volumes)
    assert codes(found.volumes[0]) == [Code.SPLIT_AXIS]
    assert "Stack ID (0020,9056) is 1 here and 2" in found.volumes[0].reasons[0].message


def test_stack_ids_do_not_part_what_is_one_grid() -> None:
    assert shapes(grouped(stack([0.0, 2.0, 4.0, 6.0], stack_id=list("1122")))) == [(1, 1, 4)]
    (holes,) = grouped(stack([0.0, 2.0, 4.0, 8.0, 10.0], stack_id=list("12345"))).volumes
    assert holes.geometry.missing_slices == (3,)


def test_an_uneven_tilted_stack_promises_no_affine() -> None:
    (volume,) = grouped([image((0.9 * (z > 3), 0.0, float(z))) for z in range(8)]).volumes
    assert not volume.geometry.uniform
    assert not any("the affine is" in reason.message for reason in volume.reasons)


def test_interleaved_passes_of_one_stack_stay_together() -> None:
    images = stack([0, 5, 10, 15, 20, 30], acquisition_number=[1, 2, 1, 2, 1, 1])
    (volume,) = grouped(images).volumes
    assert volume.geometry.missing_slices == (5,)


def test_acquisitions_after_each_other_are_one_uneven_volume() -> None:
    images = stack([0, 2.5, 5, 7.5], acquisition_number=1) + stack([12.0, 17, 22, 27], acquisition_number=2)
    (volume,) = grouped(images).volumes
    assert codes(volume) == [Code.IRREGULAR]


def test_noise_within_the_tolerances_does_not_split() -> None:
    images = [
        image((0, 0, 5.0 * i), (1, 4e-4 * (i % 2), 0, -4e-4 * (i % 2), 1, 0), spacing_y=0.7 * (1 + 4e-5 * (i % 2)))
        for i in range(6)
    ]
    assert shapes(grouped(images)) == [(1, 1, 6)]


def test_descending_files_ascend_along_the_normal() -> None:
    (volume,) = grouped(stack([20.0, 15, 10, 5, 0])).volumes
    assert volume.cells.tolist() == [[[4, 3, 2, 1, 0]]]
    assert volume.geometry.origin == (-12.5, 20.25, 0.0)
    (coronal,) = grouped([image((0, 3.0 * y, 0), CORONAL) for y in range(4)]).volumes
    assert coronal.cells.tolist() == [[[0, 1, 2, 3]]]


def test_bad_orientation_is_stacked_without_geometry_and_says_why() -> None:
    (volume,) = grouped([image((0, 0, z), (1, 0, 0, 0.1, 1, 0)) for z in ZS]).volumes
    assert codes(volume) == [Code.BAD_ORIENTATION]
    assert volume.geometry.affine is None
    assert not volume.geometry.has_position


def test_bad_spacing_is_told() -> None:
    (volume,) = grouped(stack(ZS, spacing_y=-1.0)).volumes
    assert codes(volume) == [Code.BAD_SPACING]
    assert volume.geometry.spacing == (1.0, 1.0, 5.0)
    assert volume.geometry.spacing_kind == "none"


def test_a_frame_of_reference_of_each_image_its_own_is_ignored_and_flagged() -> None:
    (volume,) = grouped(stack(ZS, frame_of_reference_uid=[f"1.{i}" for i in range(5)])).volumes
    assert codes(volume) == [Code.FRAME_OF_REFERENCE_PER_INSTANCE]
    assert volume.geometry.frame_of_reference_uid is None


def test_volumes_are_numbered_by_frames_then_by_the_smallest_uid() -> None:
    images = [*stack([0, 5], kernel="A"), *stack([0, 5, 10], kernel="B"), *stack([0, 5], kernel="C")]
    for i, name in ((0, "1.2.8"), (1, "1.2.9"), (5, "1.2.1")):
        images[i]["sop_instance_uid"] = name
    found = grouped(images)
    assert [volume.cells[0, 0, 0] for volume in found.volumes] == [2, 5, 0]


@settings(deadline=None, max_examples=40)
@given(st.permutations(range(21)), st.sampled_from(["irregular", "fill", "split"]))
def test_any_order_of_rows_gives_the_same_volumes(order: list[int], on_gap: Any) -> None:
    images = [
        *stack([0, 5, 10, 20, 25], kernel="A", temporal_position=1),
        *stack([0, 5, 10, 20, 25], kernel="A", temporal_position=2),
        *stack([0, 5.0, 11.0], kernel="B"),
        *[image((3.0 * i, 0, 0), SAGITTAL) for i in range(4)],
        *[image((0.0, 0.0, 2.0 * i), rows=9.0) for i in range(2)],
        *[image(None, None, modality="US") for _ in range(2)],
    ]

    def places(frames: Any) -> list[Any]:
        found = group(frames, Options(on_gap=on_gap)).volumes
        uids = np.append(frames.texts["sop_instance_uid"], ["-"])
        return [(v.kind, uids[v.cells].tolist(), v.axes, v.geometry.z_mm.tolist(), set(v.reasons)) for v in found]

    assert places(frames_of(images, order)) == places(frames_of(images))


# ---------------------------------------------------------------------------- same UID twice


def copies(**other: Any) -> list[dict[str, Any]]:
    """Return a stack whose second slice is there twice, the other with changes."""
    images = stack(ZS)
    return [*images, {**images[1], "sop_instance_uid": "1.2.000001", "instance_number": 2, **other}]


def outcomes(found: Grouping) -> dict[int, Code]:
    return {one.row: one.code for one in found.decided}


def answered(images: list[dict[str, Any]], same: bool, **options: Any) -> Grouping:
    frames = frames_of(images)
    asked = group(frames, Options(**options)).questions
    found = group(frames, Options(**options), [Answer(q.first, q.second, same) for q in asked])
    assert found.questions == ()
    return found


def test_other_pixels_under_one_uid_withhold_only_their_volume() -> None:
    found = answered([*copies(), *stack(ZS, kernel="LUNG")], same=False)
    assert outcomes(found) == {
        0: Code.SIBLING_CONFLICT,
        1: Code.PIXELS_DIFFER,
        2: Code.SIBLING_CONFLICT,
        3: Code.SIBLING_CONFLICT,
        4: Code.SIBLING_CONFLICT,
        5: Code.PIXELS_DIFFER,
    }
    assert {one.outcome for one in found.decided} == {Outcome.CONFLICT}
    assert shapes(found) == [(1, 1, 5)]


def test_the_lossless_copy_wins_over_the_lossy_one() -> None:
    images = copies(transfer_syntax="1.2.840.10008.1.2.4.50", lossy="01", instance_date="19990101")
    assert outcomes(answered(images, same=False)) == {5: Code.LOSSY_COPY}
    images = copies()
    images[1] |= {"transfer_syntax": "1.2.840.10008.1.2.4.91"}
    assert outcomes(answered(images, same=False)) == {1: Code.LOSSY_COPY}


def test_newest_takes_the_later_one() -> None:
    images = copies(instance_date="20200101", creation_time="101500")
    images[1] |= {"instance_date": "20191231", "creation_time": "230000"}
    found = answered(images, same=False, on_conflict="newest")
    assert outcomes(found) == {1: Code.OLDER_COPY}
    assert found.volumes[0].cells.tolist() == [[[0, 5, 2, 3, 4]]]
    images[1]["instance_date"] = "20200102"
    assert outcomes(answered(images, same=False, on_conflict="newest")) == {5: Code.OLDER_COPY}


def test_a_copy_takes_the_place_of_one_that_cannot_be_decoded() -> None:
    found = group(frames_of(copies()), Options(), excluded=frozenset({1}))
    assert found.volumes[0].cells.tolist() == [[[0, 5, 2, 3, 4]]]
    assert found.questions == ()


def test_multi_frame_copies_are_asked_frame_by_frame_and_mosaics_once() -> None:
    cine = [
        image(None, None, modality="US", instance=i, frame=f, sop_instance_uid="1.5") for i in (0, 1) for f in (0, 1)
    ]
    assert [tuple(q) for q in group(frames_of(cine), Options()).questions] == [(0, 2), (1, 3)]
    tiles = [
        image((0, 0, 3.0 * k), modality="MR", instance=i, tile=k, mosaic_tiles=3, sop_instance_uid="1.6")
        for i in (0, 1)
        for k in range(3)
    ]
    frames = frames_of(tiles)
    assert [tuple(q) for q in group(frames, Options()).questions] == [(0, 3)]
    found = group(frames, Options(), [Answer(0, 3, True)])
    assert sorted(one.row for one in found.decided) == [3, 4, 5]


def test_an_instance_with_more_frames_is_no_copy_and_leaves_no_remainder() -> None:
    cine = [
        image(None, None, modality="US", instance=i, frame=f, n_frames=n, sop_instance_uid="1.5")
        for i, n in ((0, 2), (1, 3))
        for f in range(n)
    ]
    found = group(frames_of(cine), Options())
    assert found.volumes == ()
    assert found.questions == ()
    assert set(outcomes(found).values()) == {Code.PIXELS_DIFFER}
    assert len(found.decided) == 5


def test_images_without_a_uid_are_no_copies() -> None:
    assert grouped([{**row, "sop_instance_uid": None} for row in stack(ZS)]).questions == ()


# ---------------------------------------------------------------------------- special objects


def test_a_cine_has_its_frames_along_t_with_times() -> None:
    us = {"modality": "US", "sop_class_uid": "1.2.840.10008.5.1.4.1.1.3.1"}
    images = [
        image(None, None, **us, instance=i, frame=f, sop_instance_uid=f"1.{i}", n_frames=3, frame_time_ms=33.5)
        for i in (0, 1)
        for f in (2, 0, 1)
    ]
    found = grouped(images)
    assert [volume.cells.reshape(-1).tolist() for volume in found.volumes] == [[1, 2, 0], [4, 5, 3]]
    (axis,) = found.volumes[0].axes
    assert (axis.name, axis.role, axis.unit, axis.values) == ("t", "frame", "ms", (0.0, 33.5, 67.0))
    assert found.volumes[0].kind == "cine"


def test_a_cine_in_one_place_keeps_its_affine() -> None:
    images = [
        image((1, 2, 3), modality="XA", instance=0, frame=f, sop_instance_uid="1.1", n_frames=4) for f in range(4)
    ]
    (volume,) = grouped(images).volumes
    assert volume.cells.shape == (4, 1, 1)
    assert volume.geometry.affine is not None
    assert volume.geometry.origin == (1, 2, 3)


def test_frames_of_a_dose_are_ordered_by_position() -> None:
    dose: dict[str, Any] = {"modality": "RTDOSE", "sop_class_uid": "1.2.840.10008.5.1.4.1.1.481.2"}
    images = [
        image((0, 0, -2.5 * f), **dose, instance=0, frame=f, sop_instance_uid="1.1", n_frames=4) for f in range(4)
    ]
    (volume,) = grouped(images).volumes
    assert volume.cells.tolist() == [[[3, 2, 1, 0]]]
    assert volume.kind == "dose"


def test_nuclear_medicine_vectors_become_axes() -> None:
    images = [
        image(None, None, modality="NM", instance=0, frame=f, sop_instance_uid="1.1", energy_window=w, detector=d)
        for f, (w, d) in enumerate([(1, 1), (1, 2), (2, 1), (2, 2), (3, 1), (3, 2)])
    ]
    (volume,) = grouped(images).volumes
    assert volume.cells[:, :, 0].tolist() == [[0, 2, 4], [1, 3, 5]]
    assert [(axis.role, axis.values) for axis in volume.axes] == [("detector", (1, 2)), ("energy_window", (1, 2, 3))]


@pytest.mark.parametrize(("frame_time", "role"), [(None, "temporal_position"), (40.0, "frame")])
def test_frames_of_a_dynamic_are_named_by_their_vector_where_no_times_are_known(
    frame_time: float | None, role: str
) -> None:
    images = [
        image(None, None, modality="NM", instance=0, frame=f, sop_instance_uid="1.1", temporal_position=f + 1,
              frame_time_ms=frame_time, n_frames=3.0)
        for f in range(3)
    ]  # fmt: skip
    (volume,) = grouped(images).volumes
    assert [axis.role for axis in volume.axes] == [role]


def test_segments_are_channels_on_the_union_of_their_positions() -> None:
    seg: dict[str, Any] = {"modality": "SEG", "sop_class_uid": SEG, "instance": 0, "sop_instance_uid": "1.1"}
    places = [(1, 0.0), (1, 2.5), (2, 2.5), (2, 10.0)]
    images = [image((0, 0, z), **seg, frame=f, segment=s) for f, (s, z) in enumerate(places)]
    (volume,) = grouped(images).volumes
    assert volume.cells.tolist() == [[[0, 1, -1, -1, -1], [-1, 2, -1, -1, 3]]]
    assert volume.geometry.missing_slices == ()
    assert volume.geometry.uniform
    assert volume.geometry.spacing[2] == 2.5
    assert [(axis.name, axis.role, axis.values) for axis in volume.axes] == [("c", "segment", (1, 2))]
    assert volume.kind == "segmentation"
    second = [{**row, "instance": 1, "sop_instance_uid": "1.2"} for row in images]
    assert shapes(grouped(images + second)) == [(1, 2, 5), (1, 2, 5)]


def test_a_label_map_has_no_segment_axis() -> None:
    seg: dict[str, Any] = {"sop_class_uid": "1.2.840.10008.5.1.4.1.1.66.7", "instance": 0, "sop_instance_uid": "1.1"}
    (volume,) = grouped([image((0, 0, 3.0 * f), **seg, frame=f) for f in range(3)]).volumes
    assert (volume.cells.shape, volume.axes) == ((1, 1, 3), ())


def test_a_radial_series_is_one_volume_along_t() -> None:
    angles = np.deg2rad(np.arange(0, 180, 3))
    images = [image((0, 0, 0), (np.cos(a), np.sin(a), 0, 0, 0, -1), modality="MR") for a in angles]
    (volume,) = grouped(images).volumes
    assert volume.cells.shape == (60, 1, 1)
    (axis,) = volume.axes
    assert (axis.name, axis.role, axis.unit) == ("t", "rotation", "degree")
    np.testing.assert_allclose(axis.values, np.arange(0, 180, 3), atol=1e-5)
    assert volume.geometry.affine is None


def test_a_full_turn_ends_where_it_began() -> None:
    angles = np.arange(0, 361, 10)
    turned = [(float(np.cos(a)), float(np.sin(a)), 0.0, 0.0, 0.0, -1.0) for a in np.deg2rad(angles)]
    (volume,) = grouped([image((3.0, 0, 0), orientation, modality="MR") for orientation in turned]).volumes
    assert volume.cells.shape == (37, 1, 1)
    np.testing.assert_allclose(volume.axes[0].values, angles, atol=1e-5)


def test_stacks_of_many_orientations_stay_apart() -> None:
    angles = np.deg2rad(np.arange(0, 180, 20))
    turned = [(float(np.cos(a)), float(np.sin(a)), 0.0, 0.0, 0.0, -1.0) for a in angles]
    images = [
        image((np.cross(o[:3], o[3:]) * k).tolist(), o, modality="MR")  # three slices along the normal of each
        for o in turned
        for k in range(3)
    ]
    assert shapes(grouped(images)) == [(1, 1, 3)] * 9


def test_few_orientations_stay_apart() -> None:
    images = [image((0, 0, 0), (np.cos(a), np.sin(a), 0, 0, 0, -1)) for a in (0, 0.3, 0.6, 0.9)]
    assert shapes(grouped(images)) == [(1, 1, 1)] * 4


def test_unknown_mosaics_stay_2d_with_a_reason() -> None:
    found = grouped([image((0, 0, 0), modality="MR", mosaic_tiles=0) for _ in range(2)])
    assert shapes(found) == [(1, 1, 1)] * 2
    assert all(Code.MOSAIC_UNKNOWN in codes(volume) for volume in found.volumes)
    assert found.volumes[0].geometry.affine is None
    assert found.volumes[0].geometry.spacing[:2] == (0.4, 0.7)


def test_other_modalities_with_geometry_are_stacked() -> None:
    assert shapes(grouped(stack(ZS, modality="OT", sop_class_uid="1.2.840.10008.5.1.4.1.1.7"))) == [(1, 1, 5)]
    assert shapes(grouped(stack(ZS, modality="NM"))) == [(1, 1, 5)]


def test_an_empty_series_is_nothing() -> None:
    frames = frames_of(stack(ZS)).take(np.zeros(0, dtype=np.int64))
    assert group(frames, Options()).volumes == ()
