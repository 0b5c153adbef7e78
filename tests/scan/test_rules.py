"""What header values mean: pure functions, against the standard's texts and against Python's own parsers."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastdcm.model import COLUMN
from fastdcm.scan import rules

NAN = math.nan


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b"1.5\\-2 ", [1.5, -2.0, None]),
        (b"1,5\\ 2\\3\0", [1.5, 2.0, 3.0]),
        (b"0.123456789012345678901234\\1e-3\\+.5", [0.123456789012345678901234, 1e-3, 0.5]),
        (b"nan\\inf\\-Infinity", [NAN, NAN, NAN]),
        (b"1e999\\1_0\\0x10", [NAN, NAN, NAN]),
        (b"", [None, None, None]),
        (b"\\\\5\\6", [None, None, 5.0]),
        (b"1.2.3\\1,2,3\\\xb2", [NAN, NAN, NAN]),
    ],
)
def test_decimal_texts(raw: bytes, expected: list[float | None]) -> None:
    assert rules.parse_numbers(raw, 3) == pytest.approx(expected, nan_ok=True)


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=6))
def test_every_float_comes_back(values: list[float]) -> None:
    raw = "\\".join(map(repr, values)).encode()
    assert rules.parse_numbers(raw, len(values)) == values


@given(st.binary(max_size=40), st.integers(1, 6))
def test_any_bytes_give_as_many_values_as_asked(raw: bytes, count: int) -> None:
    for values in (rules.parse_numbers(raw, count), rules.parse_binary(raw, "FD", False, count)):
        assert len(values) == count
        assert all(value is None or math.isnan(value) or math.isfinite(value) for value in values)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("101530.25", 36930.25),
        ("1015 ", 36900.0),
        ("10", 36000.0),
        ("10:15:30", 36930.0),
        ("235960", 86400.0),
        ("240000", None),
        ("106000", None),
        ("10153", None),
        ("", None),
        (None, None),
        ("noon", None),
    ],
)
def test_times(text: str | None, seconds: float | None) -> None:
    assert rules.parse_time(text) == seconds


def test_date_times() -> None:
    assert rules.parse_date_time("20240102101530.5+0100") == 36930.5
    assert rules.parse_date_time("20240102") is None
    assert rules.parse_date_time("2024") is None


@pytest.mark.parametrize(
    ("raw", "charsets", "text"),
    [
        (b" CHEST \0", (), "CHEST"),
        ("Süß".encode(), (), "Süß"),
        ("Süß".encode("latin-1"), (), "Süß"),
        ("Süß".encode("latin-1"), ("ISO_IR 100",), "Süß"),
        ("Süß".encode("latin-1"), ("ISO_IR 192",), "S��"),
        ("Süß".encode("latin-1"), ("NONSENSE",), "S��"),
        (b"\x1b$B;3ED\x1b(B", ("", "ISO 2022 IR 87"), "山田"),
        (b"a\x00b\nc\x07", (), "a b c"),
        (b"B30f\\X", (), "B30f\\X"),
        (b"ORIGINAL \\PRIMARY\\ AXIAL ", (), "ORIGINAL\\PRIMARY\\AXIAL"),
        (b"  ", (), None),
    ],
)
def test_texts(raw: bytes, charsets: tuple[str, ...], text: str | None) -> None:
    assert rules.clean_text(raw, charsets) == text


@given(st.binary(max_size=60), st.sampled_from([(), ("ISO_IR 13",), ("", "ISO 2022 IR 149"), ("GB18030",), ("x",)]))
def test_any_text_is_valid_utf8(raw: bytes, charsets: tuple[str, ...]) -> None:
    json.dumps(rules.clean_text(raw, charsets), ensure_ascii=False).encode()


def row(**values: Any) -> dict[str, Any]:
    base = {"transfer_syntax": rules.EXPLICIT_LITTLE, "rows": 4, "columns": 6, "samples": 1, "bits_allocated": 16}
    return {**dict.fromkeys(COLUMN), "n_frames": 1, **base, **values}


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, 48),
        ({"n_frames": 3}, 144),
        ({"bits_allocated": 1, "n_frames": 3}, 9),
        ({"bits_allocated": 12}, 36),
        ({"samples": 3, "bits_allocated": 8, "photometric": "RGB"}, 72),
        ({"samples": 3, "bits_allocated": 8, "photometric": "YBR_FULL_422"}, 48),
        ({"samples": 3, "bits_allocated": 8, "photometric": "YBR_PARTIAL_420"}, 36),
        ({"transfer_syntax": "1.2.840.10008.1.2.5"}, None),
        ({"rows": None}, None),
    ],
)
def test_expected_bytes(values: dict[str, Any], expected: int | None) -> None:
    assert rules.expected_pixel_bytes(row(**values)) == expected


@pytest.mark.parametrize(("raw", "expected"), [(b"7 ", 7), (b"7.0", 7), (b"7.5", None), (b"9999999999", None)])
def test_whole_numbers(raw: bytes, expected: int | None) -> None:
    assert rules.column_value(COLUMN["instance_number"], "IS", raw) == expected


@pytest.mark.parametrize(("n_frames", "outcome"), [(1250, None), (800_000, "bad-size")])
def test_small_frames_are_images_and_millions_of_them_in_a_small_file_are_not(
    n_frames: int, outcome: str | None
) -> None:
    bits = {"bits_allocated": 1, "rows": 10, "columns": 10, "n_frames": n_frames}
    found = row(
        **bits, pixel_keyword="PixelData", pixel_offset=900, size=900 + 13 * n_frames, pixel_length=13 * n_frames
    )
    found |= {"sop_class_uid": "1.2.840.10008.5.1.4.1.1.66.4", "modality": "SEG"}
    verdict = rules.decide_outcome(found)
    assert (verdict and verdict[1]) == outcome
