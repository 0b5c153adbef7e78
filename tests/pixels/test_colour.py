"""YBR and palettes, against the formulas of PS3.3 and pydicom."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from pydicom.pixels.processing import convert_color_space

from fastdcm.errors import Code, SourceError
from fastdcm.pixels.colour import _segmented_table, ybr_to_rgb
from tests.pixels.sources import (
    BIG_ENDIAN,
    EXPLICIT,
    IMPLICIT,
    RLE,
    element,
    items,
    pixel_format,
    read_all,
    read_good,
    value_rule,
    write,
)

Array = npt.NDArray[Any]
RNG = np.random.default_rng(11)
YBR = RNG.integers(0, 256, (3, 20, 16), np.uint8)


def test_every_full_range_colour_is_what_pydicom_makes_of_it() -> None:
    steps = np.arange(0, 256, 5, dtype=np.uint8)
    ybr = np.stack(np.meshgrid(steps, np.arange(256, dtype=np.uint8), steps, indexing="ij"))
    ybr = ybr.reshape(3, len(steps), -1)
    expected = convert_color_space(np.moveaxis(ybr, 0, -1).copy(), "YBR_FULL", "RGB")
    assert np.array_equal(ybr_to_rgb(ybr, 8, partial=False), np.moveaxis(expected, -1, 0))


def rgb_to_partial(rgb: Array) -> Array:
    """Return YBR_PARTIAL by the forward equations of PS3.3 C.7.6.3.1.2."""
    r, g, b = rgb.astype(float)
    y = 0.2568 * r + 0.5041 * g + 0.0979 * b + 16
    cb = -0.1482 * r - 0.2910 * g + 0.4392 * b + 128
    cr = 0.4392 * r - 0.3678 * g - 0.0714 * b + 128
    return np.stack([y, cb, cr]).round().astype("u1")


def test_partial_range_turns_back(tmp_path: Path) -> None:
    rgb = RNG.integers(0, 256, (3, 20, 16), np.uint8)
    ybr = rgb_to_partial(rgb)
    pixels = pixel_format(ybr, photometric="YBR_PARTIAL_420")
    read = read_good(write(tmp_path / "a", pixels, np.moveaxis(ybr, 0, -1).tobytes()), "uint8", 3)
    assert np.abs(read.astype(int) - rgb).max() <= 2


def test_sixteen_bits_have_their_own_centre() -> None:
    grey = np.full((3, 2, 2), 1 << 15, "u2")
    grey[0] = [[0, 65535], [1000, 40000]]
    assert np.array_equal(ybr_to_rgb(grey, 16, partial=False), np.repeat(grey[:1], 3, axis=0))


@pytest.mark.parametrize("photometric", ["YBR_FULL_422", "YBR_PARTIAL_422"])
def test_halved_chroma_belongs_to_both_pixels(tmp_path: Path, photometric: str) -> None:
    ybr = YBR.copy()
    ybr[1:, :, 1::2] = ybr[1:, :, ::2]
    groups = np.stack([ybr[0, :, ::2], ybr[0, :, 1::2], ybr[1, :, ::2], ybr[2, :, ::2]], axis=-1)
    pixels = pixel_format(ybr, photometric=photometric, n_frames=2)
    source = write(tmp_path / "a", pixels, bytes(groups.size) + groups.tobytes())
    read = read_good(source._replace(frame=1), "uint8", 3)
    assert np.array_equal(read, ybr_to_rgb(ybr, 8, partial="PARTIAL" in photometric))


def test_chroma_that_is_whole_although_the_header_says_halved(tmp_path: Path) -> None:
    pixels = pixel_format(YBR, photometric="YBR_FULL_422")
    read = read_good(write(tmp_path / "a", pixels, np.moveaxis(YBR, 0, -1).tobytes()), "uint8", 3)
    assert np.array_equal(read, ybr_to_rgb(YBR, 8, partial=False))


# ---------------------------------------------------------------------------- palettes

INDEX = RNG.integers(0, 256, (12, 10), np.uint8)
TABLES = RNG.integers(0, 65536, (3, 200)).astype("u2")


def palette_elements(
    tables: list[bytes], entries: int, first: int, bits: int, syntax: str, *, segmented: bool = False
) -> bytes:
    order = ">" if syntax == BIG_ENDIAN else "<"
    descriptor = struct.pack(f"{order}HHH", entries, first % 65536, bits)
    parts = [element(0x00281101 + n, "US", descriptor, syntax) for n in range(3)]
    base = 0x00281221 if segmented else 0x00281201
    parts += [element(base + n, "OW", table + b"\0" * (len(table) % 2), syntax) for n, table in enumerate(tables)]
    return b"".join(parts)


def looked_up(index: Array, tables: Array, first: int) -> Array:
    """Return the entries, one pixel at a time."""
    out = np.empty((3, *index.shape), tables.dtype)
    for y, x in np.ndindex(*index.shape):
        out[:, y, x] = tables[:, min(max(int(index[y, x]) - first, 0), tables.shape[1] - 1)]
    return out


@pytest.mark.parametrize("syntax", [IMPLICIT, EXPLICIT, BIG_ENDIAN])
@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("first", [0, 30])
def test_a_palette_of_either_width_in_either_order(tmp_path: Path, syntax: str, bits: int, first: int) -> None:
    tables = TABLES if bits == 16 else (TABLES >> 8).astype("u1")
    order = ">" if syntax == BIG_ENDIAN else "<"
    data = [table.astype(table.dtype.newbyteorder(order)).tobytes() for table in tables]
    if bits == 8 and order == ">":
        data = [np.frombuffer(table, "<u2").byteswap().tobytes() for table in data]
    before = palette_elements(data, 200, first, bits, syntax)
    pixels = pixel_format(INDEX, syntax, photometric="PALETTE COLOR")
    source = write(tmp_path / "a", pixels, INDEX.tobytes(), before=before, vr="OB")
    dtype = f"uint{bits}"
    assert np.array_equal(read_good(source, dtype, 3), looked_up(INDEX, tables, first))
    rescaled = read_good(source._replace(slope=2.0, intercept=-5.0), dtype, 3)
    assert np.array_equal(rescaled, looked_up(INDEX, tables, first))  # colour has no modality value


def test_signed_and_sixteen_bit_indices_and_rle(tmp_path: Path) -> None:
    index = RNG.integers(-50, 300, (6, 5)).astype("i2")
    before = palette_elements([t.tobytes() for t in TABLES], 200, -20, 16, EXPLICIT)
    before = element(0x00280103, "US", b"\1\0") + before
    pixels = pixel_format(index, photometric="PALETTE COLOR")
    source = write(tmp_path / "a", pixels, index.tobytes(), before=before)
    assert np.array_equal(read_good(source, "uint16", 3), looked_up(index, TABLES, -20))
    assert np.array_equal(read_good(source, "int16"), index)  # where the plan does not expand it
    plane = bytes([257 - 60, 7])  # a run of 60
    rle = struct.pack("<16I", 1, 64, *[0] * 14) + plane
    flat = pixel_format(np.zeros((6, 10), "u1"), RLE, photometric="PALETTE COLOR")
    packed = write(
        tmp_path / "b", flat, items(rle), before=palette_elements([t.tobytes() for t in TABLES], 200, 0, 16, EXPLICIT)
    )
    assert set(read_good(packed, "uint16", 3)[1].ravel().tolist()) == {int(TABLES[1, 7])}


@pytest.mark.parametrize("bits", [8, 16])
def test_segmented_palettes(tmp_path: Path, bits: int) -> None:
    word = "B" if bits == 8 else "H"
    offset = struct.pack("<4B", 0, 0, 0, 0) if bits == 8 else struct.pack("<2H", 0, 0)
    discrete = struct.pack(f"<5{word}", 0, 3, 10, 20, 30)
    linear = struct.pack(f"<3{word}", 1, 5, 80)
    indirect = struct.pack(f"<2{word}", 2, 2) + offset
    table = discrete + linear + indirect
    entries = [10, 20, 30, 40, 50, 60, 70, 80, 10, 20, 30, 40, 50, 60, 70, 80]
    before = palette_elements([table] * 3, len(entries), 0, bits, EXPLICIT, segmented=True)
    index = np.arange(20, dtype="u1").reshape(4, 5)
    source = write(tmp_path / "a", pixel_format(index, photometric="PALETTE COLOR"), index.tobytes(), before=before)
    assert read_good(source, f"uint{bits}", 3)[2].ravel().tolist() == entries + [80] * 4


@pytest.mark.parametrize("table", [b"", b"\2\1\0\0\0\0", b"\1\2\3\4", b"\7\1\2\3\4\5"])
def test_a_palette_that_cannot_be_is_a_fault(tmp_path: Path, table: bytes) -> None:
    before = palette_elements([table] * 3, 16, 0, 8, EXPLICIT, segmented=True)
    index = np.zeros((4, 5), "u1")
    source = write(tmp_path / "a", pixel_format(index, photometric="PALETTE COLOR"), index.tobytes(), before=before)
    _, read = read_all([source], value_rule("uint8", 3), (4, 5))
    assert [fault.code for fault in read.faults] == [Code.UNSUPPORTED_PIXELS]


@pytest.mark.parametrize("table", ["<u2", "u1"])
def test_a_segmented_palette_of_nothing_takes_no_time(table: str) -> None:
    """An indirect segment that runs through many empty ones, again and again."""
    width = 2 if table == "u1" else 1
    empty = [0, 0] * 70000
    again = ([2, 255, *[0] * (2 * width)] if table == "u1" else [2, 65535, 0, 0]) * 30000
    words = np.asarray(empty + again + [0, 1, 7], table)
    with pytest.raises(SourceError, match="more segments"):
        _segmented_table(words.tobytes(), 8 * words.itemsize, "<")
