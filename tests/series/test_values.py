"""The type and the transform of a volume, from headers alone."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastdcm.errors import Code
from fastdcm.model import Options, ValueRule
from fastdcm.series import values as values_module
from fastdcm.series.values import (
    INTEGER_TYPES,
    Range,
    declared_range,
    integer_type,
    slice_transforms,
    value_rule,
)
from tests.series.made import make_series, make_volume

STORED = Options(values="stored")
SEG = "1.2.840.10008.5.1.4.1.1.66.4"


def rule_of(n: int = 3, options: Options | None = None, **columns: Any) -> tuple[ValueRule, list[Code]]:
    _, frames = make_series(n, **columns)
    rule, reasons = value_rule(frames, make_volume(np.arange(n)), options or Options())
    return rule, [reason.code for reason in reasons]


@pytest.mark.parametrize(
    ("columns", "dtype", "fallback"),
    [
        ({}, "int16", None),
        ({"bits_stored": 16}, "int16", "int32"),  # GE CT: the declared range ends at 64511
        ({"bits_stored": 16, "intercept": 0.0}, "uint16", None),
        ({"bits_stored": 16, "pixel_representation": 1}, "int16", "int32"),
        ({"bits_stored": 16, "pixel_representation": 1, "intercept": 0.0}, "int16", None),
        ({"bits_stored": 8, "bits_allocated": 8, "slope": None, "intercept": None}, "uint8", None),
        ({"bits_stored": 8, "bits_allocated": 8, "pixel_representation": 1, "intercept": None}, "int8", None),
        ({"bits_stored": 32, "bits_allocated": 32, "intercept": 0.0}, "uint32", None),
        ({"bits_stored": 32, "bits_allocated": 32}, "float64", None),
        ({"bits_stored": 31, "bits_allocated": 32, "intercept": 0.0}, "int32", None),
        ({"slope": 0.5}, "float32", None),
        ({"intercept": -0.5}, "float32", None),
        ({"slope": -1.0, "intercept": 0.0}, "int16", None),
        ({"slope": [1.0, 2.0, 3.0], "intercept": 0.0}, "uint16", None),  # whole per slice stays whole
        ({"slope": [1.0, 2.0, 2.5], "intercept": 0.0}, "float32", None),
        ({"bits_stored": 1, "bits_allocated": 1, "intercept": None, "slope": None}, "uint8", None),
        ({"bits_stored": 40, "intercept": 0.0}, "uint16", None),  # nonsense: the allocated bits stand
        ({"bits_stored": None, "intercept": 0.0}, "uint16", None),
        ({"pixel_keyword": "FloatPixelData", "bits_allocated": 32, "intercept": 0.0}, "float32", None),
        ({"pixel_keyword": "DoubleFloatPixelData", "bits_allocated": 64, "intercept": 0.0}, "float64", None),
    ],
)
def test_type_is_the_first_that_holds_the_declared_range(
    columns: dict[str, Any], dtype: str, fallback: str | None
) -> None:
    rule, _ = rule_of(**columns)
    assert (rule.dtype, rule.dtype_fallback) == (dtype, fallback)


def test_signedness_that_differs_within_the_volume_is_held() -> None:
    rule, _ = rule_of(pixel_representation=[0, 0, 1], intercept=0.0)
    assert rule.dtype == "int16"
    rule, _ = rule_of(pixel_representation=[0, 0, 1], intercept=0.0, bits_stored=16)
    assert (rule.dtype, rule.dtype_fallback) == ("int16", "int32")


def test_only_frames_of_the_volume_decide() -> None:
    _, frames = make_series(3, slope=[1.0, 1.0, 0.5])
    rule, _ = value_rule(frames, make_volume([0, 1]), Options())
    assert rule.dtype == "int16"
    assert not rule.rescale_per_slice


@given(
    st.floats(-(2.0**33), 2.0**33).map(np.floor),
    st.floats(0, 2.0**33).map(np.floor),
)
def test_integer_type_holds_both_ends_and_no_earlier_type_does(low: float, length: float) -> None:
    name = integer_type(Range(low, low + length))
    earlier = INTEGER_TYPES[: INTEGER_TYPES.index(name)] if name != "float64" else INTEGER_TYPES
    for other in earlier:
        assert not (np.iinfo(other).min <= low and low + length <= np.iinfo(other).max)
    if name != "float64":
        assert np.iinfo(name).min <= low
        assert low + length <= np.iinfo(name).max


def test_bad_rescale_keeps_stored_values_and_says_so() -> None:
    rule, codes = rule_of(slope=0.0)
    assert rule.dtype == "uint16"
    assert Code.BAD_RESCALE in codes
    _, frames = make_series(2, slope=[float("nan"), 2.0], intercept=-3.0)
    transform = slice_transforms(frames, "modality")
    assert transform.slopes.tolist() == [1.0, 2.0]
    assert transform.intercepts.tolist() == [0.0, -3.0]


def test_absent_slope_and_intercept_are_one_and_zero() -> None:
    _, frames = make_series(2, slope=[None, 2.0], intercept=[-5.0, None])
    transform = slice_transforms(frames, "modality")
    assert transform.slopes.tolist() == [1.0, 2.0]
    assert transform.intercepts.tolist() == [-5.0, 0.0]
    assert rule_of(2, slope=None, intercept=None)[1] == []


def lut(first: int, *entries: int) -> bytes:
    return struct.pack("<i", first) + np.array(entries, "<u2").tobytes()


def test_modality_lut_is_applied_and_its_entries_decide_the_type() -> None:
    rule, codes = rule_of(modality_lut=lut(0, 3, 250, 7), modality="CR", padding=1)
    assert (rule.dtype, rule.padding_value) == ("uint8", 250.0)
    assert codes == [Code.MODALITY_LUT]
    rule, _ = rule_of(modality_lut=lut(0, 3, 65535), modality="CR")
    assert rule.dtype == "uint16"
    _, frames = make_series(2, modality_lut=lut(0, 3, 250, 7), modality="CR")
    transform = slice_transforms(frames, "modality")
    assert list(transform.luts) == [lut(0, 3, 250, 7)] * 2
    assert transform.intercepts.tolist() == [0.0, 0.0]


@pytest.mark.parametrize("modality", ["XA", "RF"])
def test_lut_that_linearises_is_not_applied_and_it_is_said(modality: str) -> None:
    rule, codes = rule_of(modality_lut=lut(0, 3, 250, 7), modality=modality)
    assert (rule.dtype, codes) == ("uint16", [Code.LUT_NOT_APPLIED])


def test_stored_values() -> None:
    rule, _ = rule_of(options=STORED, slope=0.5, bits_stored=16, pixel_representation=[0, 1, 0])
    assert (rule.dtype, rule.dtype_fallback, rule.values) == ("int16", "int32", "stored")
    assert not rule.rescale_per_slice
    assert rule_of(options=STORED, modality="CR", modality_lut=lut(0, 1, 2))[0].dtype == "uint16"


def test_padding_is_rescaled_and_fills_if_it_fits() -> None:
    rule, _ = rule_of(pixel_representation=1, bits_stored=16, padding=-2000, padding_limit=-1900)
    assert (rule.padding_stored, rule.padding_limit_stored, rule.padding_value) == (-2000, -1900, -3024.0)
    assert rule.fill_value == -3024.0
    rule, _ = rule_of(padding=63536)
    assert (rule.padding_value, rule.fill_value) == (62512.0, -32768.0)
    rule, _ = rule_of(padding=[1, 2, 3])
    assert (rule.padding_stored, rule.padding_value, rule.fill_value) == (None, None, -32768.0)
    rule, _ = rule_of(slope=0.25, padding=0)
    assert rule.padding_value == -1024.0
    assert np.isnan(rule.fill_value)
    rule, _ = rule_of(slope=[1.0, 2.0, 3.0], padding=4)
    assert (rule.padding_stored, rule.padding_value) == (4, None)


def test_absent_frames_of_a_segmentation_are_zero() -> None:
    rule, _ = rule_of(sop_class_uid=SEG, bits_stored=1, bits_allocated=1, slope=None, intercept=None)
    assert (rule.dtype, rule.fill_value, rule.channels) == ("uint8", 0.0, 1)
    palette = rule_of(sop_class_uid=SEG, photometric="PALETTE COLOR", bits_stored=8, bits_allocated=8, intercept=None)
    assert (palette[0].dtype, palette[0].channels, palette[0].photometric) == ("uint8", 1, "PALETTE COLOR")


@pytest.mark.parametrize(
    ("columns", "dtype", "channels", "photometric"),
    [
        ({"samples": 3, "photometric": "YBR_FULL_422", "bits_allocated": 8, "bits_stored": 8}, "uint8", 3, "RGB"),
        ({"samples": 3, "photometric": "RGB", "bits_stored": 16}, "uint16", 3, "RGB"),
        ({"samples": 4, "photometric": "CMYK", "bits_allocated": 8, "bits_stored": 8}, "uint8", 4, "CMYK"),
        ({"photometric": "PALETTE COLOR", "palette_bits": 16, "bits_allocated": 8}, "uint16", 3, "RGB"),
        ({"photometric": "PALETTE COLOR", "palette_bits": 8}, "uint8", 3, "RGB"),
        ({"photometric": "MONOCHROME1"}, "int16", 1, "MONOCHROME1"),
        ({"photometric": None}, "int16", 1, "MONOCHROME2"),
    ],
)
def test_colour(columns: dict[str, Any], dtype: str, channels: int, photometric: str) -> None:
    rule, _ = rule_of(**columns)
    assert (rule.dtype, rule.channels, rule.photometric) == (dtype, channels, photometric)
    assert rule.source_photometric == (columns["photometric"] or "")


def test_palette_of_unknown_depth_may_fall_back() -> None:
    rule, _ = rule_of(photometric="PALETTE COLOR")
    assert (rule.dtype, rule.dtype_fallback) == ("uint8", "uint16")


def test_inverting_is_asked_for_and_only_for_monochrome1() -> None:
    invert = Options(invert_monochrome1=True)
    rule, _ = rule_of(options=invert, photometric="MONOCHROME1")
    assert (rule.invert, rule.photometric, rule.source_photometric) == (True, "MONOCHROME2", "MONOCHROME1")
    assert not rule_of(options=invert)[0].invert
    rule, _ = rule_of(options=invert, photometric="MONOCHROME1", intercept=0.0, padding=5)
    assert (rule.dtype, rule.padding_value, rule.fill_value) == ("uint16", 4090.0, 4090.0)
    assert not rule_of(photometric="MONOCHROME1")[0].invert


def test_lossy_by_header_or_by_syntax() -> None:
    assert rule_of(lossy="01")[1] == [Code.LOSSY]
    assert rule_of(transfer_syntax="1.2.840.10008.1.2.4.51")[0].lossy
    assert not rule_of(lossy="00", transfer_syntax="1.2.840.10008.1.2.4.70")[0].lossy
    assert rule_of(transfer_syntax="1.2.840.10008.1.2.4.81")[0].lossy
    assert not rule_of(lossy="00", transfer_syntax="1.2.840.10008.1.2.4.91")[0].lossy


@given(st.integers(1, 16), st.booleans(), st.integers(-5, 5), st.integers(-3000, 3000))
def test_declared_range_is_what_the_corner_values_become(bits: int, signed: bool, slope: int, intercept: int) -> None:
    slope = slope or 1
    _, frames = make_series(1, bits_stored=bits, pixel_representation=int(signed), slope=slope, intercept=intercept)
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    ends = sorted([low * slope + intercept, high * slope + intercept])
    found = declared_range(frames, slice_transforms(frames, "modality"))
    assert found is not None
    assert [found.low, found.high] == ends


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("values", ["modality", "stored"])
@pytest.mark.parametrize("invert", [False, True])
@pytest.mark.parametrize(
    "header",
    [
        {},
        {"photometric": "MONOCHROME1", "padding": 63},
        {"pixel_representation": 1, "padding": -2000, "bits_stored": 16},
        {"slope": 0.5, "intercept": None},
        {"slope": float("nan")},
        {"photometric": "PALETTE COLOR", "palette_bits": 16},
        {"photometric": "RGB", "samples": 3, "bits_allocated": 8, "transfer_syntax": "1.2.840.10008.1.2.4.50"},
        {"pixel_keyword": "FloatPixelData", "modality": None},
    ],
)
def test_frames_that_agree_in_their_header_get_the_rule_that_any_frames_get(
    header: dict[str, Any], count: int, values: Any, invert: bool
) -> None:
    _, frames = make_series(count, **header)
    volume = make_volume(np.arange(count))
    options = Options(values=values, invert_monochrome1=invert)
    expected = values_module._decide(frames, values, invert_monochrome1=invert)
    assert repr(value_rule(frames, volume, options)) == repr(expected)  # NaN is not equal to itself
    assert repr(value_rule(frames, volume, options)) == repr(expected)  # once decided, decided
