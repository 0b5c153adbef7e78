"""Codestreams of syntaxes that few encoders write: JPEG XL of a JPEG, progressive JPEG, RLE of odd numbers of bytes."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
from PIL import Image

from tests.pixels.sources import JPEG, RLE, items, pixel_format, read_all, read_good, value_rule, write

Y, X = np.mgrid[0:40, 0:56]
GREY = (127 + 60 * np.sin(X / 9) + 60 * np.cos(Y / 7)).astype("u1")


def test_a_recompressed_jpeg_is_what_the_jpeg_is(tmp_path: Path) -> None:
    """JPEG XL JPEG Recompression (.111): the decoder may differ from a JPEG decoder by its own rounding."""
    jpeg = imagecodecs.jpeg8_encode(GREY, level=90)
    stream = bytes(imagecodecs.jpegxl_encode_jpeg(jpeg))
    source = write(tmp_path / "a", pixel_format(GREY, JPEG + "111"), items(stream))
    read = read_good(source, "uint8").astype(int)
    assert np.abs(read - imagecodecs.jpeg8_decode(jpeg)).max() <= 2


def test_lossy_jpeg_xl_is_near_the_image(tmp_path: Path) -> None:
    stream = bytes(imagecodecs.jpegxl_encode(GREY, level=95))
    source = write(tmp_path / "a", pixel_format(GREY, JPEG + "112"), items(stream))
    read = read_good(source, "uint8").astype(int)
    assert (read == imagecodecs.jpegxl_decode(stream)).all()
    assert np.abs(read - GREY).max() <= 8


@pytest.mark.parametrize("number", ["53", "55"])
def test_progressive_jpeg_of_retired_syntaxes(number: str, tmp_path: Path) -> None:
    """Spectral Selection and Full Progression (retired) need what any progressive JPEG decoder can."""
    out = BytesIO()
    Image.fromarray(GREY).save(out, "JPEG", quality=92, progressive=True)
    source = write(tmp_path / "a", pixel_format(GREY, JPEG + number), items(out.getvalue()))
    _, read = read_all([source], value_rule("uint8"), GREY.shape)
    assert (read.faults, read.notes) == ((), ())
    expected = np.asarray(Image.open(out)).astype(int)
    assert np.abs(read_good(source, "uint8") - expected).max() <= 1


@pytest.mark.parametrize("bits", [24, 40])
@pytest.mark.parametrize("signed", [False, True])
def test_rle_of_three_and_five_bytes(bits: int, signed: bool, tmp_path: Path) -> None:
    """A segment for each byte of a cell, the most significant first (PS3.5 G.2)."""
    low = -(1 << bits - 1) if signed else 0
    values = np.random.default_rng(bits).integers(low, low + (1 << bits), (9, 7)).astype("<i8")
    planes = values.view("u1").reshape(-1, 8)[:, : bits // 8].T[::-1]
    segments = [bytes(imagecodecs.packbits_encode(np.ascontiguousarray(plane))) for plane in planes]
    segments = [segment + b"\0" * (len(segment) % 2) for segment in segments]
    offsets = 64 + np.cumsum([0, *(len(segment) for segment in segments[:-1])])
    header = np.array([len(segments), *offsets], "<u4").tobytes().ljust(64, b"\0")
    pixels = pixel_format(values, RLE, bits_allocated=bits, bits_stored=bits, signed=signed)
    source = write(tmp_path / "a", pixels, items(header + b"".join(segments)))
    dtype = f"{'' if signed else 'u'}int{32 if bits == 24 else 64}"
    assert read_good(source, dtype).tolist() == values.tolist()
