"""Repeats: every candidate tag, nested pairs, ragged runs, and the inferred order."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastdcm.errors import Code
from fastdcm.model import Grouping, Options
from fastdcm.series.group import group
from tests.series.build import cells_of, check_law_two, frames_of, image, stack

ZS = [0.0, 2.5, 5.0, 7.5]
SLICES = len(ZS)


def series(n: int, slices: Any = SLICES, **columns: Any) -> list[dict[str, Any]]:
    """Return n repeats of a stack, step by step; columns are functions of (step, slice)."""
    return [
        image((-12.5, 20.25, 2.5 * z), **{name: value(t, z) for name, value in columns.items()})
        for t in range(n)
        for z in range(slices)
    ]


def grouped(images: list[dict[str, Any]], seed: int = 1) -> tuple[Grouping, list[Any]]:
    """Group the images in a random order of rows; return the cells as places in ``images``."""
    order = np.random.default_rng(seed).permutation(len(images))
    frames = frames_of(images, order.tolist())
    found = group(frames, Options())
    for volume in found.volumes:
        check_law_two(frames, volume)
    return found, [np.where(v.cells < 0, -1, order[v.cells]).tolist() for v in found.volumes]


def expected(n: int, slices: int = SLICES) -> list[list[list[int]]]:
    return np.arange(n * slices).reshape(n, 1, slices).tolist()


@pytest.mark.parametrize(
    ("column", "role", "unit"),
    [
        ("temporal_position", "temporal_position", None),
        ("cardiac_phase", "cardiac_phase", "%"),
        ("frame_reference_time", "frame_reference_time", "ms"),
        ("acquisition_number", "acquisition_number", None),
        ("acquisition_time", "acquisition_time", "s"),
        ("content_time", "content_time", "s"),
    ],
)
def test_each_time_tag_separates(column: str, role: str, unit: str | None) -> None:
    found, cells = grouped(series(3, **{column: lambda t, z: 5.0 + 2 * t}))
    assert cells == [expected(3)]
    (axis,) = found.volumes[0].axes
    assert (axis.name, axis.role, axis.unit, axis.values, axis.inferred) == ("t", role, unit, (5, 7, 9), False)
    assert found.volumes[0].kind == "4d"


@pytest.mark.parametrize(
    ("columns", "role", "values"),
    [
        ({"image_type": lambda t, z: "ORIGINAL\\PRIMARY\\" + "MPR"[t]}, "image_type", ("M", "P", "R")),
        ({"complex_component": lambda t, z: ("IMAGINARY", "MAGNITUDE", "REAL")[t]}, "complex_component", None),
        ({"echo_time": lambda t, z: 2.3 * (t + 1)}, "echo_time", (2.3, 4.6, pytest.approx(6.9))),
        ({"echo_number": lambda t, z: t + 1}, "echo_number", (1, 2, 3)),
        ({"b_value": lambda t, z: (0, 500, 1000)[t]}, "b_value", (0, 500, 1000)),
        ({"kvp": lambda t, z: (80, 100, 140)[t]}, "kvp", (80, 100, 140)),
        ({"asl_context": lambda t, z: ("CONTROL", "LABEL", "M_ZERO_SCAN")[t]}, "asl_context", None),
        (
            {"dimension_name": lambda t, z: "flip_angle", "dimension_value": lambda t, z: (2, 10, 30)[t]},
            "flip_angle",
            (2, 10, 30),
        ),
    ],
)
def test_each_channel_tag_separates(columns: dict[str, Any], role: str, values: tuple[Any, ...] | None) -> None:
    found, cells = grouped(series(3, **columns))
    assert cells == [np.arange(12).reshape(1, 3, 4).tolist()]
    (axis,) = found.volumes[0].axes
    assert (axis.name, axis.role) == ("c", role)
    assert values is None or axis.values == values


def test_trigger_times_that_differ_from_slice_to_slice_are_ranked_and_kept_as_a_table() -> None:
    found, cells = grouped(series(5, trigger_time=lambda t, z: 20 * t + 3 * z))
    assert cells == [expected(5)]
    (axis,) = found.volumes[0].axes
    assert axis.role == "trigger_time"
    assert axis.per_slice
    assert axis.values == tuple(tuple(20 * t + 3 * z for z in range(4)) for t in range(5))


def test_a_nonsense_trigger_time_does_not_shatter_a_series() -> None:
    found, cells = grouped(series(3, trigger_time=lambda t, z: (t * 7 + z) % 2, acquisition_time=lambda t, z: 10.0 * t))
    assert cells == [expected(3)]
    assert found.volumes[0].axes[0].role == "acquisition_time"
    single, _ = grouped(series(1, slices=6, trigger_time=lambda t, z: 17.0 * z))
    assert [v.kind for v in single.volumes] == ["volume"]


def test_without_any_tag_the_order_of_instance_numbers_decides_and_says_so() -> None:
    found, cells = grouped(series(4))
    assert cells == [expected(4)]
    (axis,) = found.volumes[0].axes
    assert (axis.role, axis.inferred, axis.values) == ("repeat", True, (0, 1, 2, 3))
    assert Code.AXIS_INFERRED in [reason.code for reason in found.volumes[0].reasons]


def test_slice_by_slice_numbering_is_followed_too() -> None:
    _, cells = grouped(series(3, instance_number=lambda t, z: 3 * z + t + 1))
    assert cells == [expected(3)]


def test_echoes_and_time_nest() -> None:
    # each image has a time of its own, so time alone would separate all of them
    images = series(
        6, echo_time=lambda t, z: (12.0, 30.0)[t % 2], acquisition_time=lambda t, z: 100.0 * (t // 2) + t % 2
    )
    found, cells = grouped(images)
    assert cells == [np.arange(24).reshape(3, 2, 4).tolist()]
    t, c = found.volumes[0].axes
    assert (t.name, t.role, c.name, c.role, c.values) == ("t", "acquisition_time", "c", "echo_time", (12, 30))


def test_phase_contrast_is_magnitude_and_phase_by_trigger_time() -> None:
    images = series(
        8,
        image_type=lambda t, z: f"ORIGINAL\\PRIMARY\\{'MP'[t // 4]}\\ND",
        trigger_time=lambda t, z: 40.0 * (t % 4) + z,
    )
    found, cells = grouped(images)
    assert cells == [np.arange(32).reshape(2, 4, 4).transpose(1, 0, 2).tolist()]
    assert [axis.role for axis in found.volumes[0].axes] == ["trigger_time", "image_type"]


def test_directions_separate_where_b_values_alone_do_not() -> None:
    vectors = [(None, None, None), (1, 0, 0), (0, 1, 0), (0, 0, 1)]
    images = series(
        4,
        b_value=lambda t, z: 0 if t == 0 else 1000,
        b_x=lambda t, z: vectors[t][0],
        b_y=lambda t, z: vectors[t][1],
        b_z=lambda t, z: vectors[t][2],
    )
    found, cells = grouped(images)
    (axis,) = found.volumes[0].axes
    assert (axis.name, axis.role) == ("c", "b_vector")
    assert axis.values == ((0, None, None, None), (1000, 0, 0, 1), (1000, 0, 1, 0), (1000, 1, 0, 0))
    assert cells[0][0][0] == [0, 1, 2, 3]


def test_b_values_with_the_same_directions_are_one_axis_not_several_volumes() -> None:
    images = series(
        4,
        b_value=lambda t, z: (500, 1000)[t // 2],
        b_x=lambda t, z: t % 2,
        b_y=lambda t, z: 1 - t % 2,
        b_z=lambda t, z: 0,
    )
    found, _ = grouped(images)
    assert [v.cells.shape for v in found.volumes] == [(1, 4, 4)]
    assert found.volumes[0].axes[0].role == "b_vector"


def test_a_second_channel_splits_into_volumes_outermost_first() -> None:
    images = series(
        12,
        image_type=lambda t, z: f"ORIGINAL\\PRIMARY\\{'MP'[t // 6]}",
        echo_time=lambda t, z: (5.0, 9.0)[t // 3 % 2],
        temporal_position=lambda t, z: t % 3 + 1,
    )
    found, cells = grouped(images)
    assert [v.cells.shape for v in found.volumes] == [(3, 2, 4), (3, 2, 4)]
    assert cells[0] == np.arange(24).reshape(2, 3, 4).transpose(1, 0, 2).tolist()
    for volume in found.volumes:
        assert [axis.role for axis in volume.axes] == ["temporal_position", "echo_time"]
        assert volume.reasons[0].code == Code.SPLIT_AXIS
        assert "Image Type" in volume.reasons[0].message


def test_an_aborted_run_keeps_its_complete_steps_and_the_rest_apart() -> None:
    images = series(5, temporal_position=lambda t, z: t + 1)[:-1]
    found, cells = grouped(images)
    assert cells == [expected(4), [[[16, 17, 18]]]]
    assert [reason.code for reason in found.volumes[1].reasons] == [Code.RAGGED]
    assert found.volumes[0].axes[0].values == (1, 2, 3, 4)


def test_a_run_without_tags_that_lacks_one_image_in_the_middle() -> None:
    images = series(5)
    for i, row in enumerate(images):
        row |= {"instance_number": i + 1, "sop_instance_uid": f"1.{i:04d}", "instance": i}
    del images[9]  # step 2, slice 1
    found, cells = grouped(images)
    complete = [[[i for i, row in enumerate(images) if (row["instance_number"] - 1) // 4 == t]] for t in (0, 1, 3, 4)]
    assert cells[0] == complete
    assert cells[1] == [[[8, 9, 10]]]
    assert found.volumes[1].geometry.missing_slices == (1,)


def test_aborted_multi_echo_run_keeps_whole_steps() -> None:
    images = series(6, echo_time=lambda t, z: (12.0, 30.0)[t % 2], temporal_position=lambda t, z: t // 2)[:-2]
    found, cells = grouped(images)
    assert cells[0] == np.arange(16).reshape(2, 2, 4).tolist()
    assert sum((v.cells >= 0).sum() for v in found.volumes) == 22
    assert all(v.reasons[0].code == Code.RAGGED for v in found.volumes[1:])


def test_b_values_of_different_extent_are_two_volumes() -> None:
    images = stack([0, 2, 4, 6, 8], b_value=0) + stack([4, 6, 8, 10], b_value=1000)
    found, _ = grouped(images)
    assert [v.cells.shape for v in found.volumes] == [(1, 1, 5), (1, 1, 4)]


def test_one_image_more_at_one_position_is_a_volume_of_its_own() -> None:
    images = [*stack(ZS), image((-12.5, 20.25, 5.0))]
    found, cells = grouped(images)
    assert cells == [[[[0, 1, 2, 3]]], [[[4]]]]
    assert found.volumes[1].reasons[0].code == Code.RAGGED


def test_image_types_that_name_single_slices_separate_nothing() -> None:
    images = series(2, image_type=lambda t, z: f"ORIGINAL\\PRIMARY\\S{z}", temporal_position=lambda t, z: t)
    found, _ = grouped(images)
    assert [axis.role for axis in found.volumes[0].axes] == ["temporal_position"]


TAGS = ["temporal_position", "trigger_time", "frame_reference_time", "acquisition_number", "acquisition_time"]


@settings(deadline=None, max_examples=60)
@given(
    st.integers(1, 6),
    st.integers(1, 3),
    st.integers(2, 6),
    st.sampled_from(TAGS),
    st.integers(0, 2**32 - 1),
    st.integers(0, 5),
)
def test_any_order_of_rows_gives_the_same_grid(
    steps: int, echoes: int, slices: int, tag: str, seed: int, lost: int
) -> None:
    images = [
        image((1.5, -2.25, 3.0 * z), echo_time=5.0 + 3 * e) | {tag: 7.0 * t}
        for t in range(steps)
        for e in range(echoes)
        for z in range(slices)
    ]
    for i, row in enumerate(images):
        row |= {"sop_instance_uid": f"1.{i:05d}", "instance_number": i + 1, "instance": i}
    images = images[: max(1, len(images) - lost)]
    straight, cells = grouped(images, 0)
    _, shuffled = grouped(images, seed)
    assert shuffled == cells
    rows = [row for volume in straight.volumes for row in cells_of(volume)]
    assert sorted(rows) == list(range(len(images)))
    if not lost:
        assert cells == [np.arange(steps * echoes * slices).reshape(steps, echoes, slices).tolist()]


def test_a_nonsense_trigger_time_does_not_mix_two_acquisitions() -> None:
    nonsense = [[6, 1, 5, 8], [7, 0, 4, 9]]
    images = series(2, trigger_time=lambda t, z: nonsense[t][z], acquisition_number=lambda t, z: t + 1)
    found, cells = grouped(images)
    assert cells == [expected(2)]
    assert found.volumes[0].axes[0].role == "acquisition_number"


def test_clocks_in_order_at_every_slice_outweigh_a_nonsense_trigger_time() -> None:
    nonsense = [[6, 1, 5, 8], [7, 0, 4, 9]]
    images = series(2, trigger_time=lambda t, z: nonsense[t][z], acquisition_time=lambda t, z: 100.0 * t + 3.5 * z)
    found, cells = grouped(images)
    assert cells == [expected(2)]
    assert found.volumes[0].axes[0].role == "acquisition_time"


@pytest.mark.parametrize(
    "others",
    [
        {"acquisition_time": lambda t, z: 60.0 * z + t},  # slice by slice: no order from step to step
        {"acquisition_number": lambda t, z: 9 - t},  # the same steps the other way round
        {"acquisition_number": lambda t, z: z + 1},  # separates nothing
        {"cardiac_phase": lambda t, z: 10 * t},
    ],
)
def test_trigger_times_that_overlap_from_slice_to_slice_keep_their_rank(others: dict[str, Any]) -> None:
    # heartbeats of 400 to 1000 ms: the last phases of one slice are later than those of another
    found, cells = grouped(series(5, trigger_time=lambda t, z: (80.0 + 40 * z) * t, **others))
    assert cells == [expected(5)]
    assert found.volumes[0].axes[0].role == "trigger_time"


def test_the_first_candidate_decides_where_two_tags_are_in_order_and_disagree() -> None:
    images = series(3, temporal_position=lambda t, z: t + 1, acquisition_number=lambda t, z: (t + z) % 3)
    found, cells = grouped(images)
    assert cells == [expected(3)]
    assert found.volumes[0].axes[0].role == "temporal_position"


def test_echo_numbers_count_only_where_there_is_no_echo_time() -> None:
    images = series(3, echo_number=lambda t, z: t + 1, echo_time=lambda t, z: 4.5, temporal_position=lambda t, z: t + 1)
    found, cells = grouped(images)
    assert cells == [expected(3)]
    assert [axis.role for axis in found.volumes[0].axes] == ["temporal_position"]
