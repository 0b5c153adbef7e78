"""Counts of two blocks are those of Python's own integers, of float64, and of SimpleITK."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import SimpleITK as sitk
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fastdcm.look import tally
from fastdcm.look.tally import Masks, Overlap, Tally, merge, tally_block

Array = npt.NDArray[Any]
INTEGERS = ["uint8", "int8", "uint16", "int16", "int32", "uint32", "int64", "uint64"]
NOWHERE = (0, 0, 0)


def integers(dtype: str, shape: tuple[int, ...]) -> st.SearchStrategy[Array]:
    info = np.iinfo(dtype)
    ends = [info.min, info.max, info.min + 1, info.max - 1, 0, 1]
    values = st.one_of(st.sampled_from(ends), st.integers(int(info.min), int(info.max)))
    return hnp.arrays(dtype, shape, elements=values)


@st.composite
def integer_pairs(draw: st.DrawFn) -> tuple[Array, Array]:
    shape = (2, draw(st.integers(1, 3)), draw(st.integers(1, 4)))
    first, second = (draw(integers(draw(st.sampled_from(INTEGERS)), shape)) for _ in range(2))
    return first, second


def overlaps(a: Array, b: Array) -> sitk.LabelOverlapMeasuresImageFilter:
    """Return SimpleITK's filter after it saw two label images."""
    found = sitk.LabelOverlapMeasuresImageFilter()
    found.Execute(sitk.GetImageFromArray(a), sitk.GetImageFromArray(b))
    return found


@given(integer_pairs())
def test_integers_of_any_types_are_those_of_python(pair: tuple[Array, Array]) -> None:
    a, b = pair
    found = tally_block(a, b, (4, 5, 6), Masks())
    far = [abs(x - y) for x, y in zip(a.ravel().tolist(), b.ravel().tolist(), strict=True)]
    assert found.n_voxels == len(far)
    assert found.n_differing == sum(one > 0 for one in far)
    assert found.largest == max(far)
    assert found.distances == sum(far)
    assert found.squares == sum(one * one for one in far)
    assert all(isinstance(value, int) for value in (found.largest, found.distances, found.squares))
    place = None
    if max(far):
        first = np.unravel_index(far.index(max(far)), a.shape)
        place = tuple(int(at) + low for at, low in zip(first, (4, 5, 6), strict=True))
    assert found.largest_at == place


@given(integer_pairs(), st.one_of(st.integers(-(2**65), 2**65).map(float), st.floats(-300, 300)))
def test_masks_above_a_threshold_are_those_of_python(pair: tuple[Array, Array], threshold: float) -> None:
    inside = [[value > threshold for value in side.ravel().tolist()] for side in pair]
    found = tally_block(*pair, NOWHERE, Masks(threshold))
    both = sum(x and y for x, y in zip(*inside, strict=True))
    assert found.mask == (sum(inside[0]), sum(inside[1]), both)


@pytest.mark.parametrize(("low", "high"), [("int16", "int16"), ("int32", "uint32"), ("int64", "uint64")])
def test_a_block_of_the_widest_differences_does_not_overflow(low: str, high: str) -> None:
    n = tally.PIECE + 17
    a, b = np.full(n, np.iinfo(low).min, low), np.full(n, np.iinfo(high).max, high)
    far = int(np.iinfo(high).max) - int(np.iinfo(low).min)
    found = tally_block(a, b, (0,), Masks())
    assert (found.largest, found.distances, found.squares) == (far, n * far, n * far * far)
    assert found.largest_at == (0,)
    if low == "int16":  # what the notebook did
        with np.errstate(over="ignore"):
            assert int(np.abs(a - b).max()) != far


def test_a_float_beside_an_integer_is_compared_by_value() -> None:
    a = np.array([2**24 + 1, -3, 7], np.int32)  # float32 does not hold the first
    b = np.array([2**24, -3, 7.5], np.float32)
    found = tally_block(a, b, (0,), Masks())
    assert (found.n_differing, found.largest, found.distances, found.squares) == (2, 1.0, 1.5, 1.25)
    assert found.largest_at == (0,)


@pytest.mark.parametrize("threshold", [0.1, -0.1, 2.5])
def test_a_threshold_is_compared_in_float64(threshold: float) -> None:
    values = np.array([0.1, -0.1, 2.5, np.nextafter(np.float32(2.5), np.float32(3))], np.float32)
    expected = sum(float(value) > threshold for value in values)
    assert tally_block(values, values, (0,), Masks(threshold)).mask == (expected,) * 3


def test_nan_is_equal_to_nan_and_left_out_of_the_sums() -> None:
    a = np.array([np.nan, np.nan, 1.0, 4.0, np.inf, -np.inf])
    b = np.array([np.nan, 2.0, np.nan, 1.0, np.inf, -np.inf])
    found = tally_block(a, b, (0,), Masks())
    assert (found.n_nan_both, found.n_nan_one, found.n_differing) == (1, 2, 3)
    assert (found.largest, found.largest_at, found.distances, found.squares) == (3.0, (3,), 3.0, 9.0)
    assert found.mask == (4, 4, 3)  # NaN is in no mask
    assert found.same_value == (4, 4, 2)


def test_infinities_and_squares_beyond_float64_are_infinite() -> None:
    opposite = tally_block(np.array([np.inf]), np.array([-np.inf]), (0,), Masks())
    assert opposite.largest == opposite.distances == opposite.squares == math.inf
    large = tally_block(np.full(2, 1.5e308), np.zeros(2), (0,), Masks())
    assert (large.largest, large.squares, large.distances) == (1.5e308, math.inf, math.inf)
    assert merge([tally_block(np.full(1, 1.5e308), np.zeros(1), (n,), Masks()) for n in (1, 0)]) == large


@given(st.permutations(range(5)), st.integers(0, 2**32))
def test_blocks_add_up_to_the_same_in_any_order(order: list[int], seed: int) -> None:
    draw = np.random.default_rng(seed)
    blocks = [(draw.normal(size=(1, 2, 3)), draw.normal(size=(1, 2, 3)) * 1e9) for _ in order]
    tallies = [tally_block(a, b, (z, 0, 0), Masks()) for z, (a, b) in enumerate(blocks)]
    assert merge(tallies[n] for n in order) == merge(tallies)
    far = [np.abs(a - b) for a, b in blocks]
    assert merge(tallies).distances == pytest.approx(math.fsum(np.concatenate(far).ravel()), rel=1e-14)


def test_of_equal_differences_the_first_place_is_told() -> None:
    a, b = np.zeros((4, 3), np.int16), np.zeros((4, 3), np.int16)
    b[1, 2] = b[3, 0] = -9
    tallies = [tally_block(a[rows], b[rows], (rows.start, 0), Masks()) for rows in (slice(2, 4), slice(0, 2))]
    assert merge(tallies).largest_at == (1, 2)


def test_pieces_do_not_change_what_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    draw = np.random.default_rng(4)
    a, b = (draw.integers(-5, 6, (3, 7, 5)).astype(np.int16) for _ in range(2))
    masks = Masks(by_value=True)
    whole = tally_block(a, b, NOWHERE, masks)
    monkeypatch.setattr(tally, "PIECE", 8)
    assert tally_block(a, b, NOWHERE, masks) == whole


def test_nothing_adds_up_to_nothing() -> None:
    assert merge([]) == Tally()


def test_blocks_of_different_shape_are_a_fault_of_the_caller() -> None:
    with pytest.raises(ValueError, match=r"\(2,\) and \(3,\)"):
        tally_block(np.zeros(2), np.zeros(3), (0,), Masks())


# ---------------------------------------------------------------------------- overlaps, against SimpleITK


def check_overlap(found: Overlap, measured: sitk.LabelOverlapMeasuresImageFilter, *label: int) -> None:
    assert found.dice == pytest.approx(measured.GetDiceCoefficient(*label), rel=1e-14)
    assert found.jaccard == pytest.approx(measured.GetJaccardCoefficient(*label), rel=1e-14)
    assert found.jaccard == pytest.approx(measured.GetUnionOverlap(*label), rel=1e-14)
    assert found.mean_overlap == pytest.approx(measured.GetMeanOverlap(*label), rel=1e-14)
    assert found.volume_similarity == pytest.approx(measured.GetVolumeSimilarity(*label), rel=1e-14)
    assert found.false_negative == pytest.approx(measured.GetFalseNegativeError(*label), rel=1e-14)
    assert found.false_discovery == pytest.approx(measured.GetFalseDiscoveryRate(*label), rel=1e-14)


@pytest.mark.parametrize("seed", range(4))
def test_masks_overlap_as_in_simpleitk(seed: int) -> None:
    draw = np.random.default_rng(seed)
    a, b = (draw.integers(-1, 3, (4, 9, 11)).astype(np.int16) for _ in range(2))
    for masks, inside in ((Masks(), [a != 0, b != 0]), (Masks(0.5), [a > 0.5, b > 0.5])):
        found = Overlap(*tally_block(a, b, NOWHERE, masks).mask, a.size)
        measured = overlaps(*(one.astype(np.uint8) for one in inside))
        check_overlap(found, measured)
        assert found.false_positive == pytest.approx(measured.GetFalsePositiveError(1), rel=1e-14)


@pytest.mark.parametrize("seed", range(4))
def test_values_as_labels_overlap_as_in_simpleitk(seed: int) -> None:
    draw = np.random.default_rng(seed)
    a, b = (draw.integers(0, top, (4, 9, 11)).astype(np.uint8) for top in (4, 3))
    found = tally_block(a, b, NOWHERE, Masks(by_value=True))
    measured = overlaps(a, b)
    check_overlap(Overlap(*found.same_value, a.size), measured)
    assert list(found.labels) == [1, 2, 3]
    for label in (1, 2):  # SimpleITK has no ratios for a label that one side lacks
        overlap = Overlap(*found.labels[label], a.size)
        check_overlap(overlap, measured, label)
        assert overlap.false_positive == pytest.approx(measured.GetFalsePositiveError(label), rel=1e-14)
    assert found.labels[3] == (int((a == 3).sum()), 0, 0)


def test_segments_along_an_axis_are_counted_each() -> None:
    draw = np.random.default_rng(0)
    a, b = (draw.integers(0, 2, (2, 3, 4, 5)).astype(np.uint8) for _ in range(2))
    parts = [tally_block(a[c : c + 1], b[c : c + 1], (c, 0, 0, 0), Masks(label_axis=0, labels=(7, 9))) for c in (1, 0)]
    found = merge(parts)
    assert found == tally_block(a, b, (0, 0, 0, 0), Masks(label_axis=0, labels=(7, 9)))
    assert found.labels == {
        label: (int(a[c].sum()), int(b[c].sum()), int((a[c] & b[c]).sum())) for c, label in enumerate((7, 9))
    }


def test_ratios_of_empty_masks_are_undefined_where_simpleitk_says_infinity() -> None:
    nothing, one = np.zeros((2, 3, 4), np.uint8), np.zeros((2, 3, 4), np.uint8)
    one[0, 1, 2] = 1
    both = Overlap(*tally_block(nothing, nothing, NOWHERE, Masks()).mask, 24)
    assert [both.dice, both.jaccard, both.mean_overlap, both.volume_similarity, both.false_negative] == [None] * 5
    assert both.false_positive == 0.0
    assert overlaps(nothing, nothing).GetDiceCoefficient() > 1e300
    left, right = (Overlap(*tally_block(*pair, NOWHERE, Masks()).mask, 24) for pair in ((one, nothing), (nothing, one)))
    assert (left.dice, left.jaccard, left.volume_similarity, left.false_negative) == (0.0, 0.0, 2.0, None)
    assert (right.dice, right.volume_similarity, right.false_negative) == (0.0, -2.0, 1.0)
    assert overlaps(one, nothing).GetVolumeSimilarity() == 2.0
    assert overlaps(nothing, one).GetVolumeSimilarity() == -2.0
