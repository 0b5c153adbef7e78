"""Interrupted runs: pure rules on labels and values, and no step of any 4-D volume that mixes runs without a flag."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastdcm.errors import Code
from fastdcm.model import Grouping, Options
from fastdcm.series.group import group
from fastdcm.series.runs import Steps, by_bands, by_scheme, by_sequence, by_value
from tests.series.build import frames_of, image

RNG = np.random.default_rng(11)


def images_of(runs: list[list[int]]) -> tuple[Any, Any]:
    """Return (slot, run) of the images of runs that go through the given slots, one after another."""
    slots = [slot for run in runs for slot in run]
    return np.asarray(slots), np.repeat(np.arange(len(runs)), [len(run) for run in runs])


def steps_of(found: Steps | None) -> list[int]:
    assert found is not None
    assert not found.doubtful
    return [int(step) for step in found.step]


WHOLE = [0, 2, 1, 3]
INTERRUPTED = {
    "last images lost": [WHOLE, [0, 2], WHOLE, WHOLE],
    "first images lost": [WHOLE, [1, 3], WHOLE, WHOLE],
    "middle lost": [WHOLE, [0, 3], WHOLE, WHOLE],
    "first run": [[3], WHOLE, WHOLE],
    "last run": [WHOLE, WHOLE, [0]],
    "first and last": [[1, 3], WHOLE, WHOLE, [0, 2]],
    "one after another": [WHOLE, [0, 2], [1, 3], WHOLE, WHOLE, [0]],
}


@pytest.mark.parametrize("runs", INTERRUPTED.values(), ids=INTERRUPTED)
def test_a_clock_with_a_pause_between_runs_tells_every_run(runs: list[list[int]]) -> None:
    slot, run = images_of(runs)
    clock = 100.0 * run + 10.0 * np.argsort(WHOLE)[slot]  # 10 s a slice, 70 s to the next run
    shuffled = RNG.permutation(len(slot))
    found = steps_of(by_sequence(slot[shuffled], clock[shuffled].astype(np.float64)))
    assert found == run[shuffled].tolist()


@pytest.mark.parametrize("name", ["last images lost", "first images lost", "middle lost"])
def test_without_a_pause_the_runs_are_those_with_the_most_complete_ones(name: str) -> None:
    slot, run = images_of(INTERRUPTED[name])
    clock = 40.0 * run + 10.0 * np.argsort(WHOLE)[slot]
    assert steps_of(by_sequence(slot, clock)) == run.tolist()


def test_where_nothing_says_with_which_slot_a_run_begins_it_is_doubtful() -> None:
    slot, _ = images_of([[3], WHOLE, WHOLE])
    found = by_sequence(slot, np.arange(0.0, 10.0 * len(slot), 10.0))
    assert found is not None
    assert found.doubtful


@pytest.mark.parametrize("runs", [runs for name, runs in INTERRUPTED.items() if name != "first and last"])
def test_instance_numbers_with_holes_count_slices_within_runs(runs: list[list[int]]) -> None:
    slot, run = images_of(runs)
    assert steps_of(by_scheme(slot, 1.0 + 4 * run + np.argsort(WHOLE)[slot])) == run.tolist()


def test_instance_numbers_count_runs_within_slices() -> None:
    slot, run = images_of([[0, 1, 2], [0, 2], [0, 1, 2], [0, 1]])
    assert steps_of(by_scheme(slot, 1.0 + 4 * slot + run)) == run.tolist()
    assert by_sequence(slot, 1.0 + 4 * slot + run) is None


def test_numbers_that_follow_no_scheme_are_no_steps() -> None:
    slot, run = images_of([WHOLE, [0, 2], WHOLE])
    number = np.arange(1.0, len(slot) + 1)  # without holes
    assert by_scheme(slot, number) is None
    assert by_scheme(slot, number + 500) is None
    assert by_scheme(slot, np.where(run == 1, np.nan, number)) is None


def test_trigger_times_that_differ_from_slice_to_slice_lie_in_bands() -> None:
    slot, run = images_of([[0, 1, 2, 3], [0, 2, 3], [0, 1, 2, 3], [1, 2, 3]])
    value = 40.0 * run + 2.5 * slot
    assert steps_of(by_bands(slot, value)) == run.tolist()
    assert by_bands(slot, 3.0 * run + 2.5 * slot) is None  # bands overlap
    assert by_bands(slot, np.where((slot == 1) & (run == 0), 20.0, value)) is None  # between two bands


def test_a_value_that_several_positions_share_is_a_step() -> None:
    slot, run = images_of([[0, 1, 2], [0], [0, 1, 2], [1, 2]])
    assert steps_of(by_value(slot, run)) == run.tolist()
    assert by_value(slot, np.zeros_like(run)) is None
    assert by_value(slot, np.arange(len(slot))) is None


# ---------------------------------------------------------------------------- whole series


@st.composite
def interrupted_series(draw: st.DrawFn) -> tuple[list[dict[str, Any]], list[int]]:
    """Draw images of runs, some of which lack images, with any set of tags; and the run of each image."""
    runs, slices = draw(st.integers(3, 6)), draw(st.integers(2, 6))
    order = draw(st.permutations(range(slices)))
    tags = draw(st.sets(st.sampled_from(["clock", "content", "shared", "acquisition", "temporal", "trigger"])))
    numbers = draw(st.sampled_from(["holes", "hundreds", "counted", "none", "by slice"]))
    pause = draw(st.sampled_from([0.0, 0.5, 300.0]))
    broken = draw(st.sets(st.integers(0, runs - 1), min_size=1, max_size=max(1, (runs - 1) // 2)))
    lost: set[tuple[int, int]] = set()
    for run in broken:  # an aborted run may be numbered without a hole, a lost file leaves one
        kind = "end" if numbers == "counted" else draw(st.sampled_from(["end", "start", "one"]))
        cut = draw(st.integers(1, slices - 1))
        places = {"end": range(cut, slices), "start": range(cut), "one": [cut]}[kind]
        lost |= {(run, place) for place in places}
    images: list[dict[str, Any]] = []
    run_of: list[int] = []
    for run in range(runs):
        for place, z in enumerate(order):
            if (run, place) in lost:
                continue
            clock = (10.0 * slices + pause) * run + 10.0 * place
            number = {
                "holes": 1 + run * slices + place,
                "hundreds": 100 * run + place,
                "counted": len(images) + 1,
                "none": None,
                "by slice": 1 + z * runs + run,
            }[numbers]
            columns: dict[str, Any] = {"instance_number": number}
            columns |= {"acquisition_time": clock} if "clock" in tags else {}
            columns |= {"content_time": clock + 2.0} if "content" in tags else {}
            columns |= {"frame_reference_time": 1000.0 * run} if "shared" in tags else {}
            columns |= {"acquisition_number": run + 1} if "acquisition" in tags else {}
            columns |= {"temporal_position": run + 1} if "temporal" in tags else {}
            columns |= {"trigger_time": 50.0 * run + z} if "trigger" in tags else {}
            images.append(image((1.5, -2.25, 3.0 * z), **columns))
            run_of.append(run)
    return images, run_of


def grouped(images: list[dict[str, Any]], seed: int) -> tuple[Grouping, list[Any]]:
    """Group images in a random order; return their places by cell."""
    order = np.random.default_rng(seed).permutation(len(images))
    found = group(frames_of(images, order.tolist()), Options())
    return found, [order[volume.cells] for volume in found.volumes]


@settings(deadline=None, max_examples=200)
@given(interrupted_series(), st.integers(0, 2**32 - 1))
def test_no_step_mixes_runs_unless_it_says_so(series: tuple[list[dict[str, Any]], list[int]], seed: int) -> None:
    images, run_of = series
    found, cells = grouped(images, seed)
    counts = np.bincount([round(row["position_z"] / 3) for row in images])
    if counts.min() == counts.max():  # runs that complement each other cannot be told from whole ones
        return
    for volume, places in zip(found.volumes, cells, strict=True):
        runs = np.asarray(run_of)[places]
        mixed = bool((runs != runs[:, :, :1]).any())
        flagged = Code.AXIS_INFERRED in [reason.code for reason in volume.reasons]
        assert not mixed or flagged
    assert sorted(place for places in cells for place in places.ravel().tolist()) == list(range(len(images)))


@settings(deadline=None, max_examples=100)
@given(interrupted_series().filter(lambda drawn: len(drawn[0]) > 1), st.integers(0, 2**32 - 1))
def test_any_tag_that_names_the_run_gives_all_its_complete_steps(
    series: tuple[list[dict[str, Any]], list[int]], seed: int
) -> None:
    images, run_of = series
    for row, run in zip(images, run_of, strict=True):
        row["temporal_position"] = run + 1
    slices = len({row["position_z"] for row in images})
    complete = [run for run in sorted(set(run_of)) if run_of.count(run) == slices]
    found, cells = grouped(images, seed)
    runs = np.asarray(run_of)[cells[0]]
    counts = np.bincount([round(row["position_z"] / 3) for row in images])
    if counts.min() < counts.max() and complete:
        assert runs[:, 0, 0].tolist() == complete
        assert (runs == runs[:, :, :1]).all()
        assert not any(axis.inferred for axis in found.volumes[0].axes)
