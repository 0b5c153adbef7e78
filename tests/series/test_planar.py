"""The t axis of 2-D instances: real time where the header tells, else the vector that names the frames."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fastdcm.model import Axis
from fastdcm.series.planar import frame_axes
from tests.series.build import frames_of, image

NAN = float("nan")


def axes_of(**columns: list[Any]) -> tuple[list[int], tuple[Axis, ...]]:
    """Arrange one instance with a frame for each value of the columns; (frame numbers along t, axes)."""
    n = len(next(iter(columns.values())))
    images = [
        image(None, None, modality="XA", instance=0, frame=i, sop_instance_uid="1.2", n_frames=n)
        | {name: values[i] for name, values in columns.items()}
        for i in range(n)
    ]
    frames = frames_of(images)
    cells, axes = frame_axes(frames, np.arange(n))
    return frames.frame[cells[:, 0, 0]].tolist(), axes


def test_offsets_of_the_frames_are_times() -> None:
    found, axes = axes_of(frame_offset_ms=[0.0, 100.0, 150.0, 350.0], frame_time_ms=[40.0] * 4)
    assert (found, axes) == ([0, 1, 2, 3], (Axis("t", "frame", "ms", (0, 100, 150, 350)),))


def test_clocks_of_the_frames_are_times_also_over_midnight() -> None:
    _, (axis,) = axes_of(acquisition_time=[86399.5, 0.25, 2.0])
    assert (axis.role, axis.unit, axis.values) == ("frame", "ms", (0.0, 750.0, 2500.0))


@pytest.mark.parametrize("clocks", [[10.0, 10.0, 11.0], [10.0, 9.0, 11.0], [10.0, NAN, 11.0], [NAN] * 3])
def test_what_does_not_ascend_is_no_time(clocks: list[float]) -> None:
    _, (axis,) = axes_of(acquisition_time=clocks, frame_offset_ms=[0.0, 40.0, 40.0])
    assert axis == Axis("t", "frame", None, (0, 1, 2))


def test_projections_are_named_by_detector_and_view() -> None:
    _, (axis,) = axes_of(detector=[1, 1, 2, 2], angular_view=[1, 2, 1, 2], temporal_position=[1, 2, 1, 2])
    assert axis == Axis("t", "detector_view", None, ((1, 1), (1, 2), (2, 1), (2, 2)))
    _, (axis,) = axes_of(detector=[1, 1, 1], angular_view=[1, 2, 3], temporal_position=[1, 2, 3])
    assert axis == Axis("t", "angular_view", None, (1, 2, 3))


def test_parts_of_a_concatenation_follow_their_number_where_they_have_no_offset() -> None:
    parts = [(number, frame) for number in (2, 1) for frame in (0, 1)]
    images = [
        image(None, None, modality="US", instance=i // 2, frame=frame, n_frames=2, concatenation_number=number)
        for i, (number, frame) in enumerate(parts)
    ]
    cells, _ = frame_axes(frames_of(images), np.arange(4))
    assert cells[:, 0, 0].tolist() == [2, 3, 0, 1]
