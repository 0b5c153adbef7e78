"""Where frames are: each way to find them, and what a damaged or hostile value does."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastdcm.errors import Code, SourceError
from fastdcm.model import FrameSource
from fastdcm.pixels.locate import frame_ranges
from fastdcm.scan.reading import LocalFile
from tests.pixels.sources import JPEG, basic_table, element, items, pixel_format, write

PIXELS = pixel_format(np.zeros((4, 4), "u1"), JPEG + "90")
START, END = b"\xff\xd8\xff\xe0", b"\xff\xd9"
FRAMES = [[START + b"a" * 10, b"b" * 6 + END], [START + b"c" * 4 + END], [START + b"d" * 2, b"e" * 8, b"f" * 4 + END]]
FLAT = [fragment for frame in FRAMES for fragment in frame]


def located(source: FrameSource) -> list[list[bytes]]:
    """Return the fragments of each frame."""
    with LocalFile(source.path) as file:
        return [[file.read_at(*fragment) for fragment in frame] for frame in frame_ranges(file, source)]


def source_with(path: Path, value: bytes, n_frames: int) -> FrameSource:
    return write(path, PIXELS._replace(n_frames=n_frames), value)


def with_extended_table(path: Path, value: bytes, frames: Sequence[Sequence[bytes]], shift: int = 0) -> FrameSource:
    offsets = np.cumsum([0, *(sum(8 + len(f) for f in frame) for frame in frames[:-1])]) + shift
    table = element(0x7FE00001, "OV", offsets.astype("<u8").tobytes())
    source = write(path, PIXELS._replace(n_frames=len(frames)), value, before=table)
    end = source.pixel_offset - 12
    return source._replace(table_offset=end - 8 * len(frames), table_length=8 * len(frames))


def test_by_the_basic_offset_table(tmp_path: Path) -> None:
    source = source_with(tmp_path / "a", items(*FLAT, table=basic_table(*FRAMES)), 3)
    assert located(source) == FRAMES


def test_by_the_extended_offset_table(tmp_path: Path) -> None:
    assert located(with_extended_table(tmp_path / "a", items(*FLAT), FRAMES)) == FRAMES


def test_a_table_that_points_nowhere_is_ignored(tmp_path: Path) -> None:
    late = struct.pack("<3I", *(sum(8 + len(fragment) for fragment in FLAT[:n]) for n in (1, 2, 4)))
    assert located(source_with(tmp_path / "late", items(*FLAT, table=late), 3)) == FRAMES
    assert located(with_extended_table(tmp_path / "a", items(*FLAT), FRAMES, shift=2)) == FRAMES
    assert located(source_with(tmp_path / "b", items(*FLAT, table=struct.pack("<3I", 0, 8, 7)), 3)) == FRAMES


@pytest.mark.parametrize("n_frames", [1, 3, 6])
def test_without_a_table(tmp_path: Path, n_frames: int) -> None:
    begins = [fragment for fragment in FLAT[1:] if fragment.startswith(b"\xff\xd8\xff")]
    expected = {1: [FLAT, *([fragment] for fragment in begins)], 3: FRAMES, 6: [[fragment] for fragment in FLAT]}
    assert located(source_with(tmp_path / "a", items(*FLAT), n_frames)) == expected[n_frames]


def test_by_the_end_marker_where_no_frame_begins_as_one(tmp_path: Path) -> None:
    frames = [[b"abcd", b"ef" + END], [b"gh" + END + b"\0\0"], [b"ij", b"kl" + END]]
    flat = [fragment for frame in frames for fragment in frame]
    assert located(source_with(tmp_path / "a", items(*flat), 3)) == frames


def test_a_missing_delimiter_at_the_end_is_no_fault(tmp_path: Path) -> None:
    assert located(source_with(tmp_path / "a", items(*FLAT, delimiter=False), 3)) == FRAMES


@pytest.mark.parametrize(
    ("value", "n_frames", "code"),
    [
        (items(*FLAT)[:-30], 3, Code.TRUNCATED),
        (items(*FLAT), 9, Code.TRUNCATED),
        (items(*FLAT), 5, Code.TRUNCATED),
        (items(), 1, Code.TRUNCATED),
        (b"\xfe\xff\x00\xe0\xff\xff\xff\x7f", 1, Code.DECODE),
        (b"\xfe\xff\x00\xe0\xf0\xff\xff\x0f", 1, Code.TRUNCATED),
        (b"not an item at all", 1, Code.DECODE),
        (items()[:8] + b"\xfe\xff\x00\xe0\xff\xff\xff\xff", 1, Code.DECODE),
        (items()[:8] + b"\xfe\xff\x00\xe0\xf0\xff\xff\xff", 1, Code.TRUNCATED),
        (items()[:8] + b"garbage!garbage!", 1, Code.DECODE),
        (b"", 1, Code.TRUNCATED),
    ],
)
def test_damage_is_refused(tmp_path: Path, value: bytes, n_frames: int, code: Code) -> None:
    with pytest.raises(SourceError) as caught:
        located(source_with(tmp_path / "a", value, n_frames))
    assert caught.value.code == code


@given(st.binary(max_size=80), st.integers(1, 4), st.integers(-1, 200), st.integers(0, 2**40))
def test_any_bytes_give_ranges_inside_the_file_or_a_reason(
    tmp_path_factory: pytest.TempPathFactory, noise: bytes, n_frames: int, table: int, length: int
) -> None:
    whole = items(*FLAT, table=noise[: len(noise) // 4 * 4])
    source = source_with(tmp_path_factory.mktemp("l") / "a", whole[: len(whole) - len(noise)] + noise, n_frames)
    with LocalFile(source.path) as file:
        try:
            ranges = frame_ranges(file, source._replace(table_offset=table, table_length=length))
        except SourceError:
            return
    assert len(ranges) >= n_frames
    assert all(offset >= 0 and offset + size <= source.size for frame in ranges for offset, size in frame)
