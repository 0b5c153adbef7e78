"""Kinds: the first that fits, and what makes a localizer."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fastdcm.errors import Code
from fastdcm.model import Options
from fastdcm.series.group import group
from fastdcm.series.kinds import scout_geometry
from tests.series.build import CORONAL, SAGITTAL, frames_of, image, stack


def kinds(images: list[dict[str, Any]]) -> list[str]:
    return [volume.kind for volume in group(frames_of(images), Options()).volumes]


def scouts(n: int = 2, **columns: Any) -> list[dict[str, Any]]:
    """Return n slices in each of three orthogonal orientations."""
    columns = {"modality": "MR", "image_type": "ORIGINAL\\PRIMARY\\M", **columns}
    places: list[Any] = [((0, 0, 9.0 * i), (1, 0, 0, 0, 1, 0)) for i in range(n)]
    places += [((9.0 * i, 0, 0), SAGITTAL) for i in range(n)] + [((0, 9.0 * i, 0), CORONAL) for i in range(n)]
    return [image(position, orientation, **columns) for position, orientation in places]


def flagged(images: list[dict[str, Any]]) -> list[bool]:
    volumes = group(frames_of(images), Options()).volumes
    return [Code.LOCALIZER_SUSPECT in [reason.code for reason in volume.reasons] for volume in volumes]


@pytest.mark.parametrize("word", ["LOCALIZER", "SCOUT", "localizer "])
def test_image_type_makes_a_localizer(word: str) -> None:
    assert kinds(stack([0, 5, 10], image_type=f"ORIGINAL\\PRIMARY\\AXIAL\\{word}")) == ["localizer"]


@pytest.mark.parametrize("text", ["3-plane LOCALIZER", "survey", "Scout", "topogram 0.6", "Localiser", "3PL LOC"])
def test_geometry_with_a_word_makes_a_localizer(text: str) -> None:
    assert kinds(scouts(description=text)) == ["localizer"] * 3
    assert kinds(scouts(protocol=text)) == ["localizer"] * 3
    assert flagged(scouts(description=text)) == [False] * 3


def test_geometry_alone_is_a_suspicion() -> None:
    assert kinds(scouts(description="Location of the block")) == ["volume"] * 3
    assert flagged(scouts()) == [True] * 3


def test_a_word_alone_is_nothing() -> None:
    assert kinds(stack([0, 5, 10, 15], description="survey")) == ["volume"]
    assert flagged(stack([0, 5, 10, 15], description="survey")) == [False]


def test_many_slices_or_other_modalities_are_no_scouts() -> None:
    assert flagged(scouts(4)) == [False] * 3
    assert flagged(scouts(2, modality="PT")) == [False] * 3


def test_scouts_beside_a_stack_are_told_from_it() -> None:
    normals = [np.array([0, 0, 1.0]), np.array([1.0, 0, 0]), None]
    assert scout_geometry([60, 2, 1], normals) == [False, True, False]
    assert scout_geometry([2, 2], [normals[0], normals[0]]) == [False, False]


def test_the_first_kind_that_fits() -> None:
    assert kinds(stack([0])) == ["2d"]
    assert kinds(stack([0, 5])) == ["volume"]
    assert kinds(stack([0, 5] * 3, temporal_position=[1, 1, 2, 2, 3, 3])) == ["4d"]
    assert kinds(stack([0] * 3, temporal_position=[1, 2, 3])) == ["cine"]
    assert kinds(stack([0] * 3, echo_time=[1, 2, 3])) == ["4d"]
    assert kinds(stack([0, 5], sop_class_uid="1.2.840.10008.5.1.4.1.1.481.2")) == ["dose"]
    assert kinds(stack([0, 5], instance=0, sop_class_uid="1.2.840.10008.5.1.4.1.1.66.4")) == ["segmentation"]
    assert kinds(stack([0], sop_class_uid="1.2.840.10008.5.1.4.1.1.77.1.6")) == ["slide"]
    dose = stack([0, 5], sop_class_uid="1.2.840.10008.5.1.4.1.1.481.2", image_type="DERIVED\\PRIMARY\\SCOUT")
    assert kinds(dose) == ["localizer"]
