"""Blocks decoded straight from DICOM hold what the files say, however the volume is cut."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pydicom import uid as uids

import fastdcm
from fastdcm.errors import Code, SourceError
from fastdcm.model import Index, Options, VolumePlan
from fastdcm.run.stream import block_tasks, read_block
from fastdcm.series.plan import in_fallback
from tests import dicomgen
from tests.dicomgen import Array, Series


def planned(folder: Path) -> tuple[VolumePlan, Index]:
    found = fastdcm.scan(folder)
    (plan,) = found.plans
    return plan, found.index


def whole(plan: VolumePlan, index: Index, lengths: tuple[int, ...]) -> Array:
    """Return all blocks in their places."""
    values = np.full(plan.array.shape, 77, plan.array.dtype)
    for task in block_tasks(plan, index, lengths):
        block = read_block(task)
        assert block is not None
        assert block.dtype == plan.array.dtype
        values[tuple(slice(*bounds) for bounds in task.region)] = block
    return values


def compressed(folder: Path) -> Series:
    return dicomgen.make_series(folder, transfer_syntax=uids.JPEG2000Lossless)


def colour_stack(folder: Path) -> Series:
    """Three colour slices with positions; values are (3, z, y, x)."""
    pixels = np.stack([dicomgen.make_pixels(3, 22, 18, bits=8, seed=seed) for seed in range(3)], axis=-1)
    made = dicomgen.make_series(
        folder, n=3, pixels=pixels, bits_stored=8, photometric="RGB", slope=None, intercept=None
    )
    return replace(made, values=np.moveaxis(pixels, -1, 0))


@pytest.mark.parametrize(
    ("make", "lengths"),
    [
        (dicomgen.make_series, (2, 22, 18)),
        (dicomgen.make_series, (1, 22, 18)),
        (dicomgen.make_series, (8, 4, 3)),  # rows and columns are never cut
        (compressed, (3, 22, 18)),
        (dicomgen.gantry_tilt, (4, 22, 18)),
        (dicomgen.pet_slopes, (2, 22, 18)),
        (dicomgen.two_phases, (1, 3, 22, 18)),
        (dicomgen.two_phases, (2, 3, 22, 18)),
        (dicomgen.make_cine, (1, 3, 1, 14, 18)),
        (dicomgen.make_cine, (3, 3, 1, 14, 18)),
        (colour_stack, (3, 2, 22, 18)),
        (dicomgen.make_palette, (3, 1, 14, 18)),
        (dicomgen.make_enhanced, (4, 14, 18)),
        (dicomgen.make_mosaic, (1, 4, 10, 14)),
    ],
)
def test_blocks_are_the_expected_values(
    make: Callable[[Path], Series], lengths: tuple[int, ...], tmp_path: Path
) -> None:
    expected = make(tmp_path)
    np.testing.assert_array_equal(whole(*planned(tmp_path), lengths), expected.values)


def test_absent_slices_hold_the_fill_value(tmp_path: Path) -> None:
    gapped = dicomgen.missing_slice(tmp_path)
    found = fastdcm.scan(tmp_path, on_gap="fill")
    values = whole(found.plans[0], found.index, (2, 22, 18))
    np.testing.assert_array_equal(values[[0, 1, 2, 4, 5]], gapped.values)
    assert (values[3] == np.iinfo(np.int16).min).all()


def test_a_value_that_does_not_fit_gives_none_and_fits_the_fallback(tmp_path: Path) -> None:
    pixels = dicomgen.make_pixels(3, 22, 18)
    pixels[1, 5, 7] = 60_000
    expected = dicomgen.make_series(tmp_path, n=3, bits_stored=16, pixels=pixels.astype(np.uint16))
    plan, index = planned(tmp_path)
    assert [read_block(task) is None for task in block_tasks(plan, index, (1, 22, 18))] == [False, True, False]
    values = whole(in_fallback(plan, Options()), index, (2, 22, 18))
    assert values.dtype == np.int32
    np.testing.assert_array_equal(values, expected.values)


@pytest.mark.parametrize(("make", "named"), [(dicomgen.two_phases, "t=1 z=1"), (dicomgen.make_series, "z=3")])
def test_a_broken_file_is_named_by_its_slice_and_never_by_its_path(
    make: Callable[[Path], Series], named: str, tmp_path: Path
) -> None:
    series = make(tmp_path)
    plan, index = planned(tmp_path)
    n = 5 if make is dicomgen.two_phases else 3  # files in the order of the slices
    series.paths[n].unlink()
    for lengths in (plan.array.shape, (1,) * (len(plan.array.shape) - 2) + (22, 18)):
        tasks = list(block_tasks(plan, index, lengths))
        with pytest.raises(SourceError, match=f"^slice {named}: ") as error:
            read_block(tasks[n if len(tasks) > 1 else 0])
        assert error.value.code in (Code.UNREADABLE, Code.CHANGED)
        assert str(tmp_path) not in str(error.value)
        assert series.paths[n].name not in str(error.value)
