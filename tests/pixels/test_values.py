"""Stored values to output values, against exact fractions in plain Python."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastdcm.pixels.values import apply

INTEGERS = ["uint8", "int8", "uint16", "int16", "int32", "uint32"]


@st.composite
def stored_arrays(draw: st.DrawFn) -> Any:
    dtype = draw(st.sampled_from([*INTEGERS, "int64", "uint64"]))
    info = np.iinfo(dtype)
    edges = st.sampled_from([info.min, info.max, 0, info.max // 2])
    values = draw(st.lists(st.one_of(st.integers(info.min, info.max), edges), min_size=1, max_size=8))
    return np.asarray(values, dtype).reshape(1, -1)


@given(
    stored_arrays(),
    st.sampled_from(INTEGERS),
    st.sampled_from([1, -1, 2, 3, 100, 70000]),
    st.sampled_from([0, -1024, 1, -32768, 255, 2**31]),
)
def test_whole_numbers_stay_whole_or_overflow(stored: Any, dtype: str, slope: int, intercept: int) -> None:
    out = np.empty(stored.shape, dtype)
    overflow = apply(stored, float(slope), float(intercept), None, out)
    expected = [int(value) * slope + intercept for value in stored.ravel()]
    info = np.iinfo(dtype)
    assert overflow == (not all(info.min <= value <= info.max for value in expected))
    if not overflow:
        assert out.ravel().tolist() == expected


@given(stored_arrays(), st.floats(-1e6, 1e6), st.floats(-1e6, 1e6))
def test_fractions_are_rounded_once(stored: Any, slope: float, intercept: float) -> None:
    out = np.empty(stored.shape, "float32")
    assert apply(stored, slope, intercept, None, out) is False
    for value, got in zip(stored.ravel().tolist(), out.ravel().tolist(), strict=True):
        assert got == float(np.float32(float(value) * slope + intercept))


def test_float64_arithmetic_is_what_is_rounded() -> None:
    stored = np.asarray([[16777217, 33554433]], "int32")
    out = np.empty(stored.shape, "float32")
    apply(stored, 0.1, 0.3, None, out)
    exact = [Fraction(int(v)) * Fraction(0.1) + Fraction(0.3) for v in stored[0]]
    assert out[0].tolist() == [float(np.float32(float(value))) for value in exact]


def test_a_plane_of_many_blocks_in_place_and_with_channels() -> None:
    rng = np.random.default_rng(1)
    stored = rng.integers(0, 4096, (3, 700, 301)).astype("u2")
    out = np.empty(stored.shape, "f4")
    apply(stored, 2.5, -1024.5, None, out)
    assert np.array_equal(out, (stored.astype("f8") * 2.5 - 1024.5).astype("f4"))
    block = stored[0].copy()
    assert apply(block, 1.0, -1024.0, None, block.view("i2")) is False
    assert np.array_equal(block.view("i2"), stored[0].astype("i4") - 1024)


def test_identity_does_not_touch_its_own_memory() -> None:
    out = np.arange(12, dtype="i2").reshape(3, 4)
    out.flags.writeable = False
    assert apply(out, 1.0, 0.0, None, out) is False


def lut(first: int, entries: list[int]) -> bytes:
    return first.to_bytes(4, "little", signed=True) + np.asarray(entries, "<u2").tobytes()


@pytest.mark.parametrize("dtype", ["uint16", "int32", "float32", "float64"])
def test_a_modality_lut_maps_what_is_outside_to_its_ends(dtype: str) -> None:
    stored = np.asarray([[-5, -2, -1, 0, 1, 99]], "i2")
    out = np.empty(stored.shape, dtype)
    assert apply(stored, 3.0, 7.0, lut(-2, [500, 10, 20, 65535]), out) is False
    assert out[0].tolist() == [500, 500, 10, 20, 65535, 65535]


def test_a_modality_lut_overflows_too() -> None:
    stored = np.asarray([[0, 1]], "u1")
    assert apply(stored, 1.0, 0.0, lut(0, [1, 40000]), np.empty((1, 2), "i2")) is True
    assert apply(np.asarray([[0, 0]], "u1"), 1.0, 0.0, lut(0, [1, 40000]), np.empty((1, 2), "i2")) is False


def test_fractions_never_become_integers() -> None:
    with pytest.raises(ValueError, match="do not make int16"):
        apply(np.zeros((1, 1), "i2"), 0.5, 0.0, None, np.empty((1, 1), "i2"))
    with pytest.raises(ValueError, match="do not make int16"):
        apply(np.zeros((1, 1), "f4"), 1.0, 0.0, None, np.empty((1, 1), "i2"))
