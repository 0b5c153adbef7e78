"""What keeps volumes apart, for any mixture of headers: never empty, and the numbers add up."""

from __future__ import annotations

import re
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from fastdcm.look.split_text import split_differences
from fastdcm.model import Options, Tolerances
from fastdcm.series.group import group
from tests.series.build import AXIAL, CORONAL, SAGITTAL, frames_of, image

choices = st.fixed_dictionaries(
    {
        "z": st.integers(0, 6),
        "x": st.sampled_from([0.0, 0.0, 0.0, 12.0]),
        "orientation": st.sampled_from([AXIAL, AXIAL, SAGITTAL, CORONAL, (1.0, 0.0, 0.0, 0.0, 0.94, 0.34), None]),
        "rows": st.sampled_from([7.0, 7.0, 9.0]),
        "spacing_y": st.sampled_from([0.7, 0.7, 0.70001, 0.8, None]),
        "kernel": st.sampled_from(["STANDARD", "LUNG", None]),
        "frame_of_reference_uid": st.sampled_from(["1.9", "1.9", "1.10", None]),
        "image_type": st.sampled_from(["ORIGINAL\\PRIMARY\\AXIAL", "DERIVED\\SECONDARY\\MIP", None]),
        "modality": st.sampled_from(["CT", "CT", "CT", "DX"]),
        "echo_time": st.sampled_from([None, 10.0, 20.0]),
    }
)


def frame(one: dict[str, Any], constant: set[str], first: dict[str, Any]) -> dict[str, Any]:
    chosen = {name: first[name] if name in constant else value for name, value in one.items()}
    z, x, orientation = chosen.pop("z"), chosen.pop("x"), chosen.pop("orientation")
    return image((x, 20.25, 2.5 * z), orientation, **chosen)


@settings(max_examples=60)
@given(st.lists(choices, min_size=2, max_size=14), st.sets(st.sampled_from(sorted(["x", "orientation", "rows"]))))
def test_every_volume_of_several_says_why(images: list[dict[str, Any]], constant: set[str]) -> None:
    frames = frames_of([frame(one, constant, images[0]) | {"modality": "CT"} for one in images])
    volumes = group(frames, Options()).volumes
    told = split_differences(frames, volumes, range(len(volumes)), Tolerances())
    assert len(told) == len(volumes)
    for volume, differences in zip(volumes, told, strict=True):
        assert bool(differences) == (len(volumes) > 1), volume.reasons
        codes = {difference.code for difference in differences}
        assert {reason.code for reason in volume.reasons if reason.code.startswith("split-")} <= codes
        assert len(codes) == len(differences)
        for difference in differences:
            counts = re.findall(r"\((\d+) slices?\)", difference.text)
            assert "more value" in difference.text or not counts or sum(map(int, counts)) == len(frames)


@settings(max_examples=60)
@given(st.lists(choices, min_size=1, max_size=8))
def test_modalities_may_mix(images: list[dict[str, Any]]) -> None:
    frames = frames_of([frame(one, set(), images[0]) for one in images])
    volumes = group(frames, Options()).volumes
    for differences in split_differences(frames, volumes, range(len(volumes)), Tolerances()):
        assert bool(differences) == (len(volumes) > 1)
