"""Blocks of cells: what goes where, which files are opened how often, and what a bad file becomes."""

from __future__ import annotations

import errno
import hashlib
import os
import struct
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path
from typing import Any

import imagecodecs as ic
import numpy as np
import numpy.typing as npt
import pytest
import xxhash
from pydicom import dcmread

from fastdcm.errors import Code, SourceError
from fastdcm.model import FrameSource
from fastdcm.pixels import finish
from fastdcm.pixels.file import open_source
from fastdcm.pixels.read import hash_cell, read_cells, same_pixels
from fastdcm.scan import bounded
from tests.pixels.sources import (
    BIG_ENDIAN,
    DEFLATED,
    EXPLICIT,
    JPEG,
    element,
    items,
    pixel_format,
    read_all,
    read_good,
    value_rule,
    write,
)

Array = npt.NDArray[Any]
RNG = np.random.default_rng(13)
VALUES = RNG.integers(-1000, 3000, (5, 9, 7)).astype("i2")


def native(folder: Path, frames: Array = VALUES, **changes: Any) -> FrameSource:
    pixels = pixel_format(frames[0], n_frames=len(frames), **changes)
    return write(folder / f"{len(list(folder.iterdir()))}.dcm", pixels, frames.tobytes())


def jpegls(folder: Path, frames: Array, **changes: Any) -> FrameSource:
    pixels = pixel_format(frames[0], JPEG + "80", n_frames=len(frames), **changes)
    streams = [bytes(ic.jpegls_encode(frame.view(f"u{frame.itemsize}"))) for frame in frames]
    return write(folder / f"{len(list(folder.iterdir()))}.dcm", pixels, items(*streams))


def test_frames_of_any_length_lie_in_one_memory_after_another(tmp_path: Path) -> None:
    """Long, short, long again, in several fragments, and cells that are no codestream: each is its own values."""
    noise, flat = RNG.integers(-1000, 3000, (64, 48)).astype("i2"), np.full((64, 48), 7, "i2")
    expected = [noise, flat, noise[::-1].copy(), flat + 1, noise + 2]
    sources = [jpegls(tmp_path, frame[None]) for frame in expected[:3]]
    stream = bytes(ic.jpegls_encode(expected[3].view("u2")))
    pixels = pixel_format(flat, JPEG + "80", n_frames=1)
    sources.append(write(tmp_path / "parts.dcm", pixels, items(stream[:10], stream[10:30], stream[30:])))
    pixels = pixel_format(flat, "1.2.840.10008.1.2.1.98", n_frames=1)
    sources.append(write(tmp_path / "cells.dcm", pixels, items(expected[4].tobytes())))
    order = [0, 1, 3, 4, 2, 4, 1, 0, 3]
    out, read = read_all([sources[number] for number in order], value_rule("int16"), (64, 48))
    assert read.faults == ()
    assert np.array_equal(out, [expected[number] for number in order])


def test_memory_becomes_as_long_as_what_is_read(tmp_path: Path) -> None:
    source = native(tmp_path)
    content = Path(source.path).read_bytes()
    memory = bytearray()
    with open_source(source) as file:
        for parts in ([(0, 300)], [(130, 2)], [(9, 1), (0, 4), (100, 200)], []):
            data = file.read_parts(parts, memory)
            assert data is memory
            assert data == b"".join(content[offset : offset + length] for offset, length in parts)
        with memoryview(memory):  # in use: not touched
            data = file.read_parts([(0, 10)], memory)
        assert data == content[:10]
        assert not memory
        with pytest.raises(SourceError):
            file.read_parts([(0, 10), (len(content), 1)], memory)


def test_cells_of_several_files_in_any_order_and_absent_ones(tmp_path: Path) -> None:
    first, second = native(tmp_path), jpegls(tmp_path, VALUES + 1)
    wanted = [(first, 3), (second, 0), None, (first, 0), (second, 4)]
    sources = [cell and cell[0]._replace(frame=cell[1]) for cell in wanted]
    out, read = read_all(sources, value_rule("int16", fill_value=-77), (9, 7))
    assert (read.faults, read.notes, read.overflow) == ((), (), False)
    expected = [VALUES[3], VALUES[0] + 1, np.full((9, 7), -77), VALUES[0], VALUES[4] + 1]
    assert np.array_equal(out, expected)
    fill, _ = read_all([None], value_rule("float32", fill_value=float("nan")), (9, 7))
    assert np.isnan(fill).all()


def test_each_file_is_opened_once_and_its_header_handed_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = native(tmp_path), jpegls(tmp_path, VALUES)
    opened: list[Any] = []
    real_open = os.open

    def counting_open(path: Any, *args: Any) -> int:
        opened.append(path)
        return real_open(path, *args)

    monkeypatch.setattr(os, "open", counting_open)
    sources = [first, second, first._replace(frame=2), None, second._replace(frame=1)]
    _, read = read_all(sources, value_rule("int16"), (9, 7))
    assert sorted(opened) == sorted([first.path, second.path])
    contents = [Path(source.path).read_bytes()[: source.pixel_offset] for source in (first, second)]
    assert read.headers == [contents[0], contents[1], contents[0], None, contents[1]]
    assert read.headers[0] is read.headers[2]
    assert read.bytes_read >= 2 * VALUES[0].nbytes + sum(map(len, contents))


def test_a_band_of_rows(tmp_path: Path) -> None:
    for source in (native(tmp_path), jpegls(tmp_path, VALUES)):
        out = np.empty((2, 4, 7), "f4")
        read = read_cells([source, source._replace(frame=4)], value_rule("float32"), (2, 6), out)
        assert read.faults == ()
        assert np.array_equal(out, VALUES[[0, 4], 2:6])


def test_bands_of_native_pixels_read_no_more_than_themselves(tmp_path: Path) -> None:
    source = native(tmp_path)
    read = read_cells([source], value_rule("int16"), (2, 4), np.empty((1, 2, 7), "i2"))
    assert read.bytes_read == source.pixel_offset + 2 * 7 * 2


@pytest.mark.parametrize("dtype", ["int16", "int32", "float32", "float64"])
def test_modality_values(tmp_path: Path, dtype: str) -> None:
    for source in (native(tmp_path), jpegls(tmp_path, VALUES)):
        scaled = source._replace(slope=2.0, intercept=-100.0)
        assert np.array_equal(read_good(scaled, dtype), VALUES[0].astype("i4") * 2 - 100)
        assert np.array_equal(read_good(scaled, dtype, values="stored"), VALUES[0])
    fractional = native(tmp_path)._replace(slope=0.37, intercept=1.5)
    expected = (VALUES[0].astype("f8") * 0.37 + 1.5).astype("f4")
    assert np.array_equal(read_good(fractional, "float32"), expected)


def test_sixteen_unsigned_bits_in_a_signed_block(tmp_path: Path) -> None:
    frames = np.asarray([[[0, 1024], [30000, 33791]], [[0, 1], [2, 33792]]], "u2")
    source = native(tmp_path, frames)._replace(intercept=-1024.0)
    out, read = read_all([source], value_rule("int16"), (2, 2))
    assert read.overflow is False
    assert out[0].tolist() == [[-1024, 0], [28976, 32767]]
    assert read_all([source._replace(frame=1)], value_rule("int16"), (2, 2))[1].overflow is True


def test_monochrome1_is_turned_over_from_the_top_of_its_range(tmp_path: Path) -> None:
    frames = RNG.integers(0, 4096, (1, 6, 5)).astype("u2")
    source = native(tmp_path, frames, bits_stored=12, photometric="MONOCHROME1")
    assert np.array_equal(read_good(source, "uint16", invert=True), 4095 - frames[0])
    scaled = source._replace(slope=2.0, intercept=-10.0)
    assert np.array_equal(read_good(scaled, "int32", invert=True), 2 * 4095 - 10 - (2 * frames[0].astype("i4") - 10))
    assert np.array_equal(read_good(scaled, "uint16", invert=True, values="stored"), 4095 - frames[0])
    table = struct.pack("<i4H", 0, 9, 7, 100, 5)
    inverted = read_good(source._replace(lut=table), "uint16", invert=True)
    assert np.array_equal(inverted, 100 - np.take([9, 7, 100, 5], frames[0], mode="clip"))


@pytest.mark.parametrize("tiles", [3, 4, 5, 9])
def test_a_mosaic_is_cut_and_decoded_once(tmp_path: Path, tiles: int, monkeypatch: pytest.MonkeyPatch) -> None:
    side = int(np.ceil(tiles**0.5))
    slices = RNG.integers(0, 4096, (side * side, 6, 5)).astype("u2")
    frame = slices.reshape(side, side, 6, 5).transpose(0, 2, 1, 3).reshape(1, side * 6, side * 5)
    decoded: list[int] = []
    real = ic.jpegls_decode

    def counting_decode(data: Any, out: Any = None) -> Array:
        decoded.append(1)
        return real(data, out=out)

    monkeypatch.setattr(ic, "jpegls_decode", counting_decode)
    for source in (native(tmp_path, frame), jpegls(tmp_path, frame)):
        cells = [source._replace(tile=tile, tiles=tiles) for tile in range(tiles)]
        out, read = read_all(cells, value_rule("int32"), (6, 5))
        assert read.faults == ()
        assert np.array_equal(out, slices[:tiles])
        band = np.empty((1, 2, 5), "u2")
        assert read_cells(cells[-1:], value_rule("uint16"), (3, 5), band).faults == ()
        assert np.array_equal(band[0], slices[tiles - 1, 3:5])
    assert len(decoded) == 2


# ---------------------------------------------------------------------------- what is bad


def rewritten(source: FrameSource, content: bytes) -> FrameSource:
    """Change a file so that the scan would have seen it so."""
    Path(source.path).write_bytes(content)
    status = os.stat(source.path)
    return source._replace(size=status.st_size, mtime_ns=status.st_mtime_ns)


def test_bad_files_are_faults_of_their_cells_and_of_no_others(tmp_path: Path) -> None:
    good, changed, gone, short = (native(tmp_path) for _ in range(4))
    broken = jpegls(tmp_path, VALUES)
    os.utime(changed.path, ns=(1, 1))
    os.unlink(gone.path)
    short = rewritten(short, Path(short.path).read_bytes()[:-10])
    broken = rewritten(broken, Path(broken.path).read_bytes().replace(b"\xff\xd8\xff", b"abc", 1))
    sources = [good, changed, gone, short._replace(frame=4), short, broken, broken._replace(frame=1), good]
    out, read = read_all(sources, value_rule("int16"), (9, 7))
    assert [(fault.cell, fault.code) for fault in read.faults] == [
        (1, Code.CHANGED),
        (2, Code.UNREADABLE),
        (3, Code.TRUNCATED),
        (5, Code.DECODE),
    ]
    assert all(str(tmp_path) not in fault.message for fault in read.faults)
    for cell in (0, 4, 6, 7):
        assert np.array_equal(out[cell], VALUES[sources[cell].frame]), cell


def test_a_file_that_is_a_folder_by_now_is_unreadable(tmp_path: Path) -> None:
    source = native(tmp_path)._replace(path=str(tmp_path), size=tmp_path.stat().st_size)
    _, read = read_all([source._replace(mtime_ns=tmp_path.stat().st_mtime_ns)], value_rule("int16"), (9, 7))
    assert len(read.faults) == 1


def test_more_frames_than_there_are(tmp_path: Path) -> None:
    source = native(tmp_path)
    many = source._replace(format=source.format._replace(n_frames=50), frame=40)
    _, read = read_all([many], value_rule("int16"), (9, 7))
    assert [fault.code for fault in read.faults] == [Code.TRUNCATED]


def test_a_frame_of_another_shape_than_the_volume(tmp_path: Path) -> None:
    _, read = read_all([native(tmp_path)], value_rule("float32"), (9, 8))
    assert [fault.code for fault in read.faults] == [Code.DECODE]
    _, read = read_all([native(tmp_path)], value_rule("int16", 3), (9, 7))
    assert [fault.code for fault in read.faults] == [Code.DECODE]


def test_long_pixel_data_are_noted_once_a_file(tmp_path: Path) -> None:
    pixels = pixel_format(VALUES[0], n_frames=5)
    source = write(tmp_path / "a.dcm", pixels, VALUES.tobytes() + bytes(40))
    _, read = read_all([source, source._replace(frame=1)], value_rule("int16"), (9, 7))
    assert [(cell, code) for cell, code, _ in read.notes] == [(0, Code.LONG_PIXEL_DATA)]


# ---------------------------------------------------------------------------- deflated files


def test_a_deflated_file_is_inflated_once_and_gives_its_inflated_header(tmp_path: Path) -> None:
    before = element(0x00080060, "CS", b"CT") + element(0x00100010, "PN", b"A^B ")
    source = write(tmp_path / "a", pixel_format(VALUES[0], DEFLATED, n_frames=5), VALUES.tobytes(), before=before)
    out, read = read_all([source._replace(frame=n) for n in (4, 0)], value_rule("int16"), (9, 7))
    assert np.array_equal(out, VALUES[[4, 0]])
    header = read.headers[0]
    assert header is not None
    assert before in header
    assert dcmread(source.path).PatientName == "A^B"
    assert read.bytes_read < source.size * 2


def test_a_deflated_file_without_a_group_length(tmp_path: Path) -> None:
    source = write(tmp_path / "a", pixel_format(VALUES[0], DEFLATED, n_frames=5), VALUES.tobytes())
    content = Path(source.path).read_bytes()
    shorter = rewritten(source, content[:132] + content[144:])
    assert np.array_equal(read_good(shorter, "int16"), VALUES[0])


def test_a_deflated_bomb_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounded, "INFLATED_BYTES_MAX", 2**20)
    zeros = np.zeros((1, 1500, 1500), "u2")
    source = write(tmp_path / "a", pixel_format(zeros[0], DEFLATED), zeros.tobytes())
    assert source.size < 20000
    _, read = read_all([source], value_rule("uint16"), (1500, 1500))
    assert [fault.code for fault in read.faults] == [Code.UNSUPPORTED_PIXELS]


@pytest.mark.parametrize("size", [100, 140, 160, 190, -5])
def test_a_deflated_file_cut_short(tmp_path: Path, size: int) -> None:
    noise = RNG.integers(0, 65536, (1, 30, 30)).astype("u2")
    source = write(tmp_path / "a", pixel_format(noise[0], DEFLATED), noise.tobytes())
    length = size if size > 0 else source.size + size
    source = rewritten(source, Path(source.path).read_bytes()[:length])
    _, read = read_all([source], value_rule("uint16"), (30, 30))
    assert len(read.faults) == 1


def test_a_pipe_in_the_place_of_a_file_is_not_waited_for(tmp_path: Path) -> None:
    source = native(tmp_path)
    Path(source.path).unlink()
    os.mkfifo(source.path)
    _, read = read_all([source], value_rule("int16"), (9, 7))
    assert [fault.code for fault in read.faults] == [Code.CHANGED]


# ---------------------------------------------------------------------------- equality


def test_a_last_pixel_in_a_word_that_was_cut_is_not_the_same(tmp_path: Path) -> None:
    pixels = np.arange(27, dtype="u1").reshape(3, 9)
    swapped = np.append(pixels, np.uint8(0)).reshape(-1, 2)[:, ::-1].tobytes()
    whole = write(tmp_path / "a", pixel_format(pixels, BIG_ENDIAN), swapped)
    same = write(tmp_path / "b", pixel_format(pixels, BIG_ENDIAN), swapped)
    assert same_pixels(whole, same)
    assert not same_pixels(whole, rewritten(same, Path(same.path).read_bytes()[:-1]))


def test_same_pixels_whatever_the_encoding(tmp_path: Path) -> None:
    plain, coded = native(tmp_path), jpegls(tmp_path, VALUES)
    big = write(tmp_path / "big", pixel_format(VALUES[0], BIG_ENDIAN, n_frames=5), VALUES.astype(">i2").tobytes())
    for first in (plain, coded, big):
        for second in (native(tmp_path), jpegls(tmp_path, VALUES), big):
            assert same_pixels(first._replace(frame=2), second._replace(frame=2))
            assert not same_pixels(first._replace(frame=2), second._replace(frame=3))


def test_one_value_shape_or_sign_makes_other_pixels(tmp_path: Path) -> None:
    source = native(tmp_path)
    other = VALUES.copy()
    other[0, 3, 3] += 1
    assert not same_pixels(source, native(tmp_path, other))
    assert not same_pixels(source, native(tmp_path, VALUES.view("u2")))
    assert not same_pixels(source, native(tmp_path, VALUES.reshape(5, 7, 9)))


def test_garbage_in_unused_bits_does_not_make_other_pixels(tmp_path: Path) -> None:
    frames = RNG.integers(0, 4096, (1, 6, 5)).astype("u2")
    assert same_pixels(native(tmp_path, frames, bits_stored=12), native(tmp_path, frames | 0x8000, bits_stored=12))


def test_what_cannot_be_read_is_not_shown_to_be_the_same(tmp_path: Path) -> None:
    source, gone = native(tmp_path), native(tmp_path)
    os.unlink(gone.path)
    assert not same_pixels(source, gone)


def test_the_hash_is_of_little_endian_values_in_c_order() -> None:
    values = RNG.integers(0, 4096, (3, 6, 5)).astype("u2")
    expected = xxhash.xxh3_128(values.tobytes()).hexdigest()
    assert hash_cell(values) == expected
    assert hash_cell(values.astype(">u2")) == expected
    assert hash_cell(np.asfortranarray(values)) == expected
    assert hash_cell(values[:, ::2]) == xxhash.xxh3_128(values[:, ::2].tobytes()).hexdigest()


def test_threads_do_not_disturb_each_other(tmp_path: Path) -> None:
    frames = RNG.integers(0, 4096, (6, 64, 48)).astype("u2")
    sources = [jpegls(tmp_path, frames), native(tmp_path, frames)]

    def digest(number: int) -> str:
        cells: list[FrameSource | None] = [sources[number % 2]._replace(frame=n) for n in range(6)]
        out, read = read_all(cells, value_rule("float32"), (64, 48))
        assert read.faults == ()
        return hashlib.sha256(out.tobytes()).hexdigest()

    with ThreadPoolExecutor(4) as pool:
        assert len(set(pool.map(digest, range(24)))) == 1


def test_the_syntax_of_the_header_decides_nothing_that_the_bytes_do_not(tmp_path: Path) -> None:
    stream = bytes(ic.jpegls_encode(VALUES[0].view("u2")))
    source = write(tmp_path / "a", pixel_format(VALUES[0], EXPLICIT), items(stream), undefined=True)
    assert np.array_equal(read_good(source, "int16"), VALUES[0])


# ---------------------------------------------------------------------------- what fails for a moment


def failing(monkeypatch: pytest.MonkeyPatch, number: int, times: int) -> list[float]:
    """Let opening a file fail some times (-1: always); return the pauses that follow.

    Without compiled modules: they leave what fails to what is tested here.
    """
    monkeypatch.setattr(finish, "FRAMES", None)
    real, calls, pauses = os.open, count(), list[float]()

    def open_file(*arguments: Any, **more: Any) -> int:
        if not 0 <= times <= next(calls):
            raise OSError(number, os.strerror(number))
        return real(*arguments, **more)

    monkeypatch.setattr(os, "open", open_file)
    monkeypatch.setattr(time, "sleep", pauses.append)
    return pauses


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.EAGAIN, errno.ETIMEDOUT])
@pytest.mark.parametrize("times", [1, 2])
def test_what_fails_for_a_moment_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, times: int
) -> None:
    sources = [jpegls(tmp_path, VALUES[:1]), jpegls(tmp_path, VALUES[1:2])]
    pauses = failing(monkeypatch, number, times)
    out, read = read_all(sources, value_rule("int16"), (9, 7))
    assert read.faults == ()
    assert np.array_equal(out, VALUES[:2])
    assert pauses == [0.1, 1.0][:times]


def test_a_dead_disk_is_waited_for_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sources = [jpegls(tmp_path, VALUES[k : k + 1]) for k in range(4)]
    pauses = failing(monkeypatch, errno.EIO, -1)
    _, read = read_all(sources, value_rule("int16"), (9, 7))
    assert [(fault.cell, fault.code) for fault in read.faults] == [(k, Code.UNREADABLE) for k in range(4)]
    assert pauses == [0.1, 1.0]


@pytest.mark.parametrize("number", [errno.EACCES, errno.ENOENT])
def test_what_will_not_pass_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    sources = [jpegls(tmp_path, VALUES[:1])]
    pauses = failing(monkeypatch, number, -1)
    _, read = read_all(sources, value_rule("int16"), (9, 7))
    assert len(read.faults) == 1
    assert pauses == []
