"""Text for a terminal: nothing from a header acts on it, and numbers are short and right."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastdcm.look.terminal import clean, count_text, mm_text, size_text, time_text


@given(st.text())
def test_clean_text_is_one_printable_line(text: str) -> None:
    assert clean(text).isprintable()


def test_clean_keeps_what_people_read_and_escapes_what_terminals_obey() -> None:
    assert clean("胸部 5.0 Ü") == "胸部 5.0 Ü"
    assert clean("a\x1b[31mred\r\nb\u202ec\x9b\udc80\xa0d") == r"a\x1b[31mred\r\nb\u202ec\x9b\udc80 d"


@pytest.mark.parametrize(
    ("n_bytes", "text"), [(0, "0 B"), (999, "999 B"), (338_000_000, "338 MB"), (1520, "1.52 kB"), (2.5e15, "2500 TB")]
)
def test_sizes(n_bytes: float, text: str) -> None:
    assert size_text(n_bytes) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(4.13, "4.1 s"), (125, "2 min 05 s"), (3599.7, "1 h 00 min"), (12000, "3 h 20 min")]
)
def test_times(seconds: float, text: str) -> None:
    assert time_text(seconds) == text


def test_counts_and_lengths() -> None:
    assert [count_text(1, "study", "studies"), count_text(2, "study", "studies"), count_text(0, "file")] == [
        "1 study",
        "2 studies",
        "0 files",
    ]
    assert [mm_text(None), mm_text(5.0), mm_text(0.703125), mm_text(0.0)] == ["-", "5", "0.703", "0"]
    assert [mm_text(0.000499), mm_text(0.0123)] == ["0.0005", "0.012"]
