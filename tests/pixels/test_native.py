"""Native pixel cells of every layout, against an unpacking bit by bit in plain Python."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.uid import SecondaryCaptureImageStorage

from fastdcm.errors import Code
from fastdcm.model import PixelFormat
from fastdcm.pixels import native
from tests.dicomgen import new_dataset, pixel_module, save, uid
from tests.pixels.sources import (
    BIG_ENDIAN,
    DEFLATED,
    EXPLICIT,
    GE_PRIVATE,
    IMPLICIT,
    pixel_format,
    read_all,
    read_good,
    value_rule,
    write,
)

RNG = np.random.default_rng(5)


def unpack_in_python(data: bytes, pixels: PixelFormat, frame: int) -> list[int]:
    """Return the values of one frame: cells one after the other from the lowest bit on (PS3.5 8.1.1)."""
    stream = int.from_bytes(data, "little")
    size = pixels.bits_allocated
    count = pixels.rows * pixels.columns * pixels.samples
    low = pixels.high_bit + 1 - pixels.bits_stored
    values = []
    for number in range(frame * count, (frame + 1) * count):
        cell = stream >> number * size & (1 << size) - 1
        value = cell >> low & (1 << pixels.bits_stored) - 1
        if pixels.signed and size > 1 and value >> pixels.bits_stored - 1:
            value -= 1 << pixels.bits_stored
        values.append(value)
    return values


@st.composite
def layouts(draw: st.DrawFn) -> tuple[PixelFormat, bytes, int]:
    """Any allocated, stored and high bit, sign and shape, random bytes in all bits, and a frame to look at."""
    allocated = draw(st.integers(1, 64))
    stored = draw(st.integers(1, allocated))
    pixels = PixelFormat(
        transfer_syntax=EXPLICIT,
        rows=draw(st.integers(1, 5)),
        columns=draw(st.integers(1, 7)),
        samples=1,
        planar=0,
        photometric="MONOCHROME2",
        bits_allocated=allocated,
        bits_stored=stored,
        high_bit=draw(st.integers(stored - 1, allocated - 1)),
        signed=draw(st.booleans()),
        n_frames=draw(st.integers(1, 3)),
        keyword="PixelData",
    )
    length = -(-pixels.rows * pixels.columns * allocated * pixels.n_frames // 8)
    return pixels, draw(st.binary(min_size=length, max_size=length)), draw(st.integers(0, pixels.n_frames - 1))


@given(layouts())
def test_any_layout_is_unpacked_bit_by_bit(tmp_path_factory: pytest.TempPathFactory, case: Any) -> None:
    pixels, data, frame = case
    dtype = native.stored_dtype(pixels)
    source = write(tmp_path_factory.mktemp("native") / "a.dcm", pixels, data)._replace(frame=frame)
    read = read_good(source, dtype.name)
    assert read.ravel().tolist() == unpack_in_python(data, pixels, frame)


@pytest.mark.parametrize("syntax", [IMPLICIT, EXPLICIT, DEFLATED, BIG_ENDIAN, GE_PRIVATE])
@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "f4", "f8"])
def test_every_native_syntax_and_type(tmp_path: Path, syntax: str, dtype: str) -> None:
    values = RNG.integers(0, 256, (2, 6, 5 * np.dtype(dtype).itemsize), np.uint8).view(dtype)
    values = np.nan_to_num(values) if values.dtype.kind == "f" else values >> (values.dtype.itemsize * 4)
    keyword = {"f4": "FloatPixelData", "f8": "DoubleFloatPixelData"}.get(dtype, "PixelData")
    swapped = syntax in (BIG_ENDIAN, GE_PRIVATE)
    pixels = pixel_format(values[0], syntax, n_frames=2, keyword=keyword)
    data = values.astype(values.dtype.newbyteorder(">" if swapped else "<")).tobytes()
    source = write(tmp_path / "a.dcm", pixels, data, vr="OB" if dtype in ("u1", "i1") else "OW")
    for frame in range(2):
        assert np.array_equal(read_good(source._replace(frame=frame), np.dtype(dtype).name), values[frame])


@pytest.mark.parametrize("planar", [0, 1])
@pytest.mark.parametrize("samples", [3, 4, 6])
@pytest.mark.parametrize("dtype", ["u1", "u2"])
def test_samples_come_first_whatever_the_planar_configuration(
    tmp_path: Path, planar: int, samples: int, dtype: str
) -> None:
    values = RNG.integers(0, 200, (2, samples, 6, 5)).astype(dtype)
    data = values if planar else np.moveaxis(values, 1, -1)
    pixels = pixel_format(values[0], planar=planar, n_frames=2)
    source = write(tmp_path / "a.dcm", pixels, data.tobytes())._replace(frame=1)
    assert np.array_equal(read_good(source, np.dtype(dtype).name, samples), values[1])


@pytest.mark.parametrize("vr", ["OB", "OW"])
def test_bytes_in_big_endian_words_are_swapped_only_where_they_are_words(tmp_path: Path, vr: str) -> None:
    values = RNG.integers(0, 256, (3, 3, 5), np.uint8)  # 15 bytes a frame: the second begins inside a word
    data = values.tobytes() + b"\0"
    data = np.frombuffer(data, "<u2").byteswap().tobytes() if vr == "OW" else data
    source = write(tmp_path / "a.dcm", pixel_format(values[0], BIG_ENDIAN, n_frames=3), data, vr=vr)
    for frame in range(3):
        assert np.array_equal(read_good(source._replace(frame=frame), "uint8"), values[frame])


@pytest.mark.parametrize("bits", [24, 32, 40, 48, 64])
@pytest.mark.parametrize("signed", [False, True])
def test_cells_of_several_big_endian_words(tmp_path: Path, bits: int, signed: bool) -> None:
    """OW is words of 16 bits, each with its bytes swapped (PS3.5 6.2, 7.3), whatever cells lie in them."""
    low, high = (-(1 << bits - 2), 1 << bits - 2) if signed else (0, 1 << bits - 1)
    values = RNG.integers(low, high, (3, 4, 6)).astype("i8" if signed else "u8")
    cells = values.astype("<i8" if signed else "<u8").view(np.uint8).reshape(-1, 8)[:, : bits // 8]
    pixels = pixel_format(values[0], BIG_ENDIAN, n_frames=3, bits_allocated=bits, bits_stored=bits)
    data = np.frombuffer(cells.tobytes(), "<u2").byteswap().tobytes()
    source = write(tmp_path / "a.dcm", pixels, data)
    for frame in range(3):
        read = read_good(source._replace(frame=frame), native.stored_dtype(pixels).name)
        assert read.tolist() == values[frame].tolist()


@pytest.mark.parametrize("bits", [32, 64])
def test_big_endian_cells_that_are_whole_are_told_by_their_values(tmp_path: Path, bits: int) -> None:
    """pydicom writes them so; noise in the low word, a slope in the high one."""
    y, x = np.mgrid[0:16, 0:20]
    values = ((x + 3 * y) << (bits - 16)) + RNG.integers(0, 2**16, (16, 20))
    for name, data in {
        "whole": values.astype(f">u{bits // 8}").tobytes(),
        "words": np.frombuffer(values.astype(f"<u{bits // 8}").tobytes(), "<u2").byteswap().tobytes(),
    }.items():
        pixels = pixel_format(values, BIG_ENDIAN, bits_allocated=bits, bits_stored=bits, signed=False)
        source = write(tmp_path / name, pixels, data)
        assert read_good(source, f"uint{bits}").tolist() == values.tolist()


def test_overlay_bits_above_the_pixel_vanish(tmp_path: Path) -> None:
    values = RNG.integers(-2048, 2048, (6, 5)).astype("i2")
    cells = (values.view("u2") & 0x0FFF) | 0xA000
    source = write(tmp_path / "a.dcm", pixel_format(values, bits_stored=12), cells.tobytes())
    assert np.array_equal(read_good(source, "int16"), values)
    assert np.array_equal(read_good(source, "float32"), values)


def test_a_band_of_rows_is_the_same_rows(tmp_path: Path) -> None:
    values = RNG.integers(0, 4096, (3, 9, 5)).astype("u2")
    for planar in (0, 1):
        data = values if planar else np.moveaxis(values, 0, -1)
        source = write(tmp_path / f"{planar}.dcm", pixel_format(values, planar=planar), data.tobytes())
        out = np.empty((1, 3, 4, 5), "u2")
        from fastdcm.pixels.read import read_cells

        assert read_cells([source], value_rule("uint16", 3), (3, 7), out).faults == ()
        assert np.array_equal(out[0], values[:, 3:7])


def test_unknown_bits_allocated_are_a_fault(tmp_path: Path) -> None:
    values = np.zeros((4, 4), "u2")
    source = write(tmp_path / "a.dcm", pixel_format(values, bits_allocated=72, bits_stored=72), bytes(144))
    _, read = read_all([source], value_rule("int32"), (4, 4))
    assert [fault.code for fault in read.faults] == [Code.UNSUPPORTED_PIXELS]


def test_packed_cells_of_twelve_bits_are_gdcms(tmp_path: Path) -> None:
    """GDCM, by SimpleITK, is the one other reader of a Python package that takes packed cells: unsigned, of 12 bits."""
    import SimpleITK as sitk

    values = RNG.integers(0, 4096, (6, 8))
    stream = sum(int(value) << 12 * number for number, value in enumerate(values.ravel()))
    cells = values.astype("u2")
    pixels = pixel_format(cells)._replace(bits_allocated=12, bits_stored=12, high_bit=11)
    source = write(tmp_path / "a.dcm", pixels, stream.to_bytes(72, "little"))
    assert np.array_equal(read_good(source, cells.dtype.name), values)
    module = pixel_module(cells[None], bits_stored=12) | {"BitsAllocated": 12, "Modality": "OT"}
    made = new_dataset(SecondaryCaptureImageStorage, uid("packed"), PixelData=stream.to_bytes(72, "little"), **module)
    made["PixelData"].VR = "OW"
    theirs = sitk.GetArrayFromImage(sitk.ReadImage(str(save(made, tmp_path / "packed.dcm"))))
    assert np.array_equal(theirs.reshape(values.shape), values)
