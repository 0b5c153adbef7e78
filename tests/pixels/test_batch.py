"""Plain frames read by one compiled call are what the plain path reads, with the same findings and headers."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fastdcm.errors import Code
from fastdcm.model import FrameSource, PixelFormat, ValueRule
from fastdcm.pixels import batch, finish
from fastdcm.pixels.read import CellsRead, read_cells
from tests.pixels.sources import (
    BIG_ENDIAN,
    EXPLICIT,
    GE_PRIVATE,
    IMPLICIT,
    Array,
    pixel_format,
    value_rule,
    without_compiled,
    write,
)

RNG = np.random.default_rng(3)
SHAPE = (6, 5)


def both(
    sources: list[FrameSource | None], rule: ValueRule, rows: tuple[int, int], columns: int = SHAPE[1]
) -> tuple[CellsRead, Array, list[bool]]:
    """Read by both paths, find the same, and tell which cells went the short way."""
    dtype = np.dtype(rule.dtype).newbyteorder("<")
    short = np.full((len(sources), rows[1] - rows[0], columns), 77, dtype)
    plain = short.copy()
    done = [header is not None for header in batch.read_plain(sources, rule, rows, short.copy())]
    found = read_cells(sources, rule, rows, short)
    with without_compiled():
        expected = read_cells(sources, rule, rows, plain)
    assert found._replace(bytes_read=0) == expected._replace(bytes_read=0)
    bad = {fault.cell for fault in found.faults}
    if not found.overflow:
        good = [cell for cell in range(len(sources)) if cell not in bad]
        np.testing.assert_array_equal(short[good], plain[good])
        if not bad:
            assert found.bytes_read == expected.bytes_read
    return found, short, done


def files(folder: Path, frames: Array, **changes: Any) -> list[FrameSource]:
    start = len(list(folder.iterdir()))
    return [
        write(folder / str(start + n), pixel_format(frame, **changes), frame.tobytes())
        for n, frame in enumerate(frames)
    ]


def test_the_module_is_compiled() -> None:
    assert finish.COMPILED  # every machine that runs these tests has a compiler: without it they would compare nothing


@pytest.mark.parametrize("stored", ["<i2", "<u2", "|i1", "|u1", "<i4", "<u4"])
def test_what_is_plain_goes_the_short_way(tmp_path: Path, stored: str) -> None:
    frames = RNG.integers(0, 100, (4, *SHAPE)).astype(stored)
    sources: list[FrameSource | None] = [source._replace(intercept=-3.0) for source in files(tmp_path, frames)]
    kind = np.dtype(stored).name.replace("uint", "int")
    _, out, done = both([*sources, None], value_rule(kind, fill_value=9), (0, SHAPE[0]))
    assert done == [True] * 4 + [False]
    np.testing.assert_array_equal(out[:4], frames.astype("i8") - 3)
    np.testing.assert_array_equal(out[4], 9)


whole_numbers = st.integers(-70000, 70000).map(float)


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    data=st.data(),
    stored=st.sampled_from(["<i2", "<u2", "|i1", "|u1", "<i4", "<u4", "<i8", "<u8", "<f4"]),
    dtype=st.sampled_from(["int16", "uint16", "int8", "uint8", "int32", "uint32", "int64", "float32", "float64"]),
    slope=st.sampled_from([1.0, 1.0, 1.0, -1.0, 2.0, -3.0, 0.0, 0.5, 1e300, float("nan")]),
    intercept=st.one_of(st.sampled_from([0.0, -1024.0, 0.25, 1e300, -32768.0, 32768.0]), whole_numbers),
    bits=st.one_of(st.none(), st.tuples(st.integers(-1, 33), st.integers(-1, 33))),
    invert=st.booleans(),
)
def test_any_values_are_those_of_the_plain_path(
    tmp_path: Path,
    data: st.DataObject,
    stored: str,
    dtype: str,
    slope: float,
    intercept: float,
    bits: tuple[int, int] | None,
    invert: bool,
) -> None:
    kind = np.dtype(stored)
    if kind.kind == "f":
        values = st.floats(width=32)
        changes: dict[str, Any] = {"keyword": "FloatPixelData", "signed": False, "bits_allocated": 32}
    else:
        limits = np.iinfo(kind)
        ends = [limits.min, limits.min + 1, limits.max - 1, limits.max, 0, 1]
        values = st.one_of(st.integers(0, 100), st.sampled_from(ends), st.integers(limits.min, limits.max))
        changes = {}
    if bits is not None:
        changes |= {"bits_stored": bits[0], "high_bit": bits[1]}
    frame = np.array(data.draw(st.lists(values, min_size=4, max_size=4)), kind).reshape(2, 2)
    for old in tmp_path.iterdir():
        old.unlink()
    source = write(tmp_path / "a", pixel_format(frame, **changes), frame.tobytes())
    cells: list[FrameSource | None] = [source._replace(slope=slope, intercept=intercept)]
    with np.errstate(all="ignore"):
        both(cells, value_rule(dtype, invert=invert), (0, 2), 2)


@pytest.mark.parametrize("stored", ["<i2", "<u2", "|i1", "|u1", "<i4", "<u4"])
@pytest.mark.parametrize("target", ["int", "uint"])
@pytest.mark.parametrize("slope", [1, -1, 2, -3])
def test_the_last_value_that_fits_and_the_first_that_does_not(
    tmp_path: Path, stored: str, target: str, slope: int
) -> None:
    kind = np.dtype(stored)
    dtype = np.dtype(f"{target}{8 * kind.itemsize}")
    limits, of = np.iinfo(dtype), np.iinfo(kind)
    for value in (int(of.min), int(of.max), 0, 5):
        for end in (int(limits.min), int(limits.max)):
            for beside in (-1, 0, 1):
                intercept = end + beside - value * slope
                for n, others in enumerate((np.full(SHAPE, value), np.where(np.eye(*SHAPE), value, 3))):
                    frame = others.astype(kind)
                    source = write(tmp_path / f"{n}", pixel_format(frame), frame.tobytes())
                    scaled: list[FrameSource | None] = [source._replace(slope=float(slope), intercept=float(intercept))]
                    read, out, done = both(scaled, value_rule(dtype.name), (0, SHAPE[0]))
                    exact = frame.astype(object) * slope + intercept
                    fits = limits.min <= exact.min() and exact.max() <= limits.max
                    assert (read.overflow, done) == (not fits, [fits])
                    if fits:
                        assert out[0].tolist() == exact.tolist()


@pytest.mark.parametrize("bits_stored", [1, 7, 12, 15, 16])
@pytest.mark.parametrize("shift", [0, 1, 4])
@pytest.mark.parametrize("stored", ["<i2", "<u2"])
def test_unused_bits_are_cleared(tmp_path: Path, bits_stored: int, shift: int, stored: str) -> None:
    rng = np.random.default_rng(5)
    frames = rng.integers(0, 65536, (2, 70, 90)).astype("<u2").view(stored)  # more than are finished at a time
    sources: list[FrameSource | None] = list(
        files(tmp_path, frames, bits_stored=bits_stored, high_bit=bits_stored - 1 + shift)
    )
    _, out, done = both(sources, value_rule("int16" if stored == "<i2" else "uint16"), (0, 70), 90)
    assert done == [True, True]
    low = shift if bits_stored + shift <= 16 else 0
    kept = (frames.view("<u2").astype("i8") >> low) % (1 << bits_stored)
    if stored == "<i2":
        kept = np.where(kept >= 1 << (bits_stored - 1), kept - (1 << bits_stored), kept)
    np.testing.assert_array_equal(out, kept)


@pytest.mark.parametrize(
    ("changes", "rows", "short"),
    [
        ({}, (0, 6), True),
        ({}, (0, 4), True),
        ({}, (2, 6), False),
        ({"syntax": IMPLICIT}, (0, 6), True),
        ({"syntax": BIG_ENDIAN}, (0, 6), False),
        ({"syntax": GE_PRIVATE}, (0, 6), False),
        ({"syntax": "1.2.840.10008.1.2.4.50"}, (0, 6), False),
        ({"photometric": "PALETTE COLOR"}, (0, 6), False),
        ({"bits_allocated": 12}, (0, 6), False),
        ({"bits_allocated": 13}, (0, 6), False),
        ({"rows": 5}, (0, 6), False),  # too much pixel data for that
        ({"rows": 7}, (0, 6), True),
        ({"columns": 4}, (0, 6), False),
        ({"columns": 6}, (0, 6), False),
        ({"n_frames": 2}, (0, 6), True),
        ({"samples": 3}, (0, 6), False),
    ],
)
def test_formats(tmp_path: Path, changes: dict[str, Any], rows: tuple[int, int], short: bool) -> None:
    frame = RNG.integers(-900, 900, SHAPE).astype("<i2")
    changes = {"syntax": EXPLICIT} | changes
    sources = files(tmp_path, frame[np.newaxis], **changes)
    _, _, done = both([sources[0]], value_rule("int16"), rows)
    assert done == [short]


def test_one_byte_cells_have_no_order(tmp_path: Path) -> None:
    frame = RNG.integers(0, 200, SHAPE).astype("u1")
    sources = files(tmp_path, frame[np.newaxis], syntax=GE_PRIVATE)
    _, out, done = both([sources[0]], value_rule("uint8"), (0, 6))
    assert done == [True]
    np.testing.assert_array_equal(out[0], frame)


def changed(source: FrameSource, content: bytes) -> FrameSource:
    """Rewrite a file so that the scan would have seen it so."""
    Path(source.path).write_bytes(content)
    status = os.stat(source.path)
    return source._replace(size=status.st_size, mtime_ns=status.st_mtime_ns)


def test_what_is_wrong_is_told_as_ever_and_spoils_no_other_cell(tmp_path: Path) -> None:
    frames = RNG.integers(-900, 900, (14, *SHAPE)).astype("<i2")
    good = files(tmp_path, frames)
    sources: list[FrameSource | None] = list(good)
    codes: dict[int, Code] = {}
    os.unlink(good[0].path)
    codes[0] = Code.UNREADABLE
    os.utime(good[1].path, ns=(1, 1))
    codes[1] = Code.CHANGED
    os.truncate(good[2].path, good[2].size - 1)
    os.utime(good[2].path, ns=(good[2].mtime_ns, good[2].mtime_ns))
    codes[2] = Code.CHANGED
    sources[3] = changed(good[3], Path(good[3].path).read_bytes()[:-1])
    codes[3] = Code.TRUNCATED
    sources[4] = good[4]._replace(pixel_length=good[4].pixel_length - 1)
    codes[4] = Code.TRUNCATED
    os.unlink(good[5].path)
    os.mkfifo(good[5].path)
    codes[5] = Code.CHANGED
    os.unlink(good[6].path)
    os.mkdir(good[6].path)
    codes[6] = Code.CHANGED
    sources[7] = good[7]._replace(path=good[7].path + "\0")
    codes[7] = Code.CHANGED  # a member of an archive that is none
    sources[8] = good[8]._replace(path=good[8].path + "\ud800")
    codes[8] = Code.DECODE
    sources[9] = good[9]._replace(pixel_offset=good[9].size + 1)
    codes[9] = Code.TRUNCATED
    sources[10] = good[10]._replace(mtime_ns=good[10].mtime_ns + 10**9)
    codes[10] = Code.CHANGED
    read, out, done = both(sources, value_rule("int16"), (0, 6))
    assert {fault.cell: fault.code for fault in read.faults} == codes
    assert done == [False] * 11 + [True] * 3
    np.testing.assert_array_equal(out[11:], frames[11:])


def test_a_file_that_grew_is_changed_though_its_time_is_the_same(tmp_path: Path) -> None:
    source = files(tmp_path, RNG.integers(0, 9, (1, *SHAPE)).astype("<i2"))[0]
    with Path(source.path).open("ab") as file:
        file.write(b"more")
    os.utime(source.path, ns=(source.mtime_ns, source.mtime_ns))
    read, _, done = both([source], value_rule("int16"), (0, 6))
    assert ([fault.code for fault in read.faults], done) == ([Code.CHANGED], [False])


@pytest.mark.parametrize("missing", [1, 60, 61, 100])
def test_a_file_that_ends_while_it_is_read_is_not_done(tmp_path: Path, missing: int) -> None:
    source = files(tmp_path, np.ones((1, *SHAPE), "<i2"))[0]
    row = [source.size, source.mtime_ns, source.pixel_offset + missing, 0, *finish.NOTHING]
    assert finish.FRAMES is not None
    assert finish.FRAMES.read_frames([source.path], np.array([row]), np.zeros((1, *SHAPE), "<i2"), 60) == [None]


def test_a_file_that_shrinks_behind_the_scan_or_says_too_much_allocates_nothing(tmp_path: Path) -> None:
    source = files(tmp_path, RNG.integers(0, 9, (1, *SHAPE)).astype("<i2"))[0]
    boasting = source._replace(size=2**50, pixel_offset=2**49, pixel_length=60)
    read, _, done = both([boasting], value_rule("int16"), (0, 6))
    assert ([fault.code for fault in read.faults], done) == ([Code.CHANGED], [False])


def test_headers_beyond_the_bound_are_left_to_the_plain_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sources: list[FrameSource | None] = list(files(tmp_path, RNG.integers(0, 9, (3, *SHAPE)).astype("<i2")))
    assert sources[0] is not None
    monkeypatch.setattr(batch, "HEADERS_BYTES_MAX", 2 * sources[0].pixel_offset + 1)
    _, _, done = both(sources, value_rule("int16"), (0, 6))
    assert done == [True, True, False]


def test_several_frames_of_one_file_and_tiles_are_left_to_the_plain_path(tmp_path: Path) -> None:
    frames = RNG.integers(-900, 900, (3, *SHAPE)).astype("<i2")
    source = write(tmp_path / "a", pixel_format(frames[0], n_frames=3), frames.tobytes())
    read, out, done = both([source, source._replace(frame=2)], value_rule("int16"), (0, 6))
    assert done == [False, False]
    np.testing.assert_array_equal(out, frames[[0, 2]])
    assert read.headers[0] is read.headers[1]
    assert both([source._replace(frame=1)], value_rule("int16"), (0, 6))[2] == [False]
    tiled = source._replace(tile=0, tiles=4)
    assert both([tiled], value_rule("int16"), (0, 3), 2)[2] == [False]


def test_a_block_that_does_not_lie_in_one_piece(tmp_path: Path) -> None:
    frames = RNG.integers(-900, 900, (2, *SHAPE)).astype("<i2")
    sources: list[FrameSource | None] = list(files(tmp_path, frames))
    out = np.zeros((4, *SHAPE), "<i2")[::2]
    assert read_cells(sources, value_rule("int16"), (0, 6), out).faults == ()
    np.testing.assert_array_equal(out, frames)


def test_modality_luts_are_left_to_the_plain_path(tmp_path: Path) -> None:
    source = files(tmp_path, np.arange(30, dtype="<u2").reshape(1, *SHAPE))[0]
    for lut in (b"\0\0\0\0\7\0\5\0", b"", b"\0\0\0\0\7"):
        for invert in (False, True):
            _, _, done = both([source._replace(lut=lut)], value_rule("uint16", invert=invert), (0, 6))
            assert done == [False]


@pytest.mark.parametrize(
    "change",
    [
        {3: -2},  # before the block
        {3: 62},  # beyond it
        {3: 1},  # between two values
        {2: -1},  # a header of less than nothing
        {4: 3},  # no such type
        {5: 16},  # no such bit
    ],
)
def test_what_does_not_fit_is_refused(tmp_path: Path, change: dict[int, int]) -> None:
    source = files(tmp_path, np.ones((1, *SHAPE), "<i2"))[0]
    row = [source.size, source.mtime_ns, source.pixel_offset, 0, 2, 0, 0, 0, 0, 65535, 1, 0]
    out = np.zeros((2, *SHAPE), "<i2")
    assert finish.FRAMES is not None
    read = finish.FRAMES.read_frames
    assert read([source.path], np.array([row]), out, 60)[0] is not None
    for number, value in change.items():
        row[number] = value
    with pytest.raises(ValueError, match="fit"):
        read([source.path], np.array([row]), out, 60)
    with pytest.raises(ValueError, match="list of paths"):
        read([source.path] * 2, np.array([row]), out, 60)
    with pytest.raises((BufferError, ValueError)):
        read([source.path], np.array([row]), out[:, ::2], 60)


def test_formats_that_no_decoder_knows_are_not_plain() -> None:
    pixels: PixelFormat = pixel_format(np.zeros(SHAPE, "<i2"), bits_allocated=13)
    source = FrameSource("x", 99, 1, 9, 60, -1, 0, 0, -1, 0, pixels, 1.0, 0.0, None)
    assert batch.read_plain([source], value_rule("int16"), (0, 6), np.zeros((1, *SHAPE), "<i2")) == [None]
