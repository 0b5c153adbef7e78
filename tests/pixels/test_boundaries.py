"""Frames that fragments do not tell apart: by the ends of codestreams of several encoders, whatever is inside them."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from io import BytesIO
from itertools import pairwise
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from pydicom.uid import UID, RLELossless

from fastdcm.errors import Code
from fastdcm.pixels.boundaries import Read, find_codestreams
from tests.dicomgen import encode_frame
from tests.pixels.sources import JPEG, RLE, basic_table, items, pixel_format, read_all, read_good, value_rule, write

Array = npt.NDArray[Any]

NOISE = np.random.default_rng(11).integers(0, 4096, (5, 40, 33)).astype("u2")
BYTES = (NOISE >> 4).astype("u1")


def with_thumbnail(frame: Array) -> bytes:
    """A JPEG with another whole JPEG inside an APP1 segment: its SOI and EOI are none of the frame's."""
    code = bytes(imagecodecs.jpeg8_encode(frame, level=90))
    inner = b"Exif\0\0" + bytes(imagecodecs.jpeg8_encode(frame[:8, :8], level=50))
    return code[:2] + b"\xff\xe1" + struct.pack(">H", len(inner) + 2) + inner + code[2:]


def tiled(frame: Array) -> bytes:
    """Six tiles of 16 x 16 pixels and less, each a tile-part."""
    out = BytesIO()
    Image.fromarray(frame).save(out, "JPEG2000", tile_size=(16, 16), irreversible=False, no_jp2=True)
    return out.getvalue()


def without_tile_length(frame: Array) -> bytes:
    """A JPEG 2000 codestream whose one tile-part has length 0: it reaches to EOC (ISO/IEC 15444-1 A.4.2)."""
    code = bytes(imagecodecs.jpeg2k_encode(frame, level=0, codecformat="j2k", reversible=True))
    place = code.index(b"\xff\x90\x00\x0a") + 6
    return code[:place] + bytes(4) + code[place + 4 :]


ENCODERS: dict[str, tuple[str, Array, Callable[[Array], bytes | bytearray]]] = {
    "lossless jpeg": (JPEG + "70", NOISE, lambda f: imagecodecs.jpeg8_encode(f, lossless=True, bitspersample=12)),
    "jpeg": (JPEG + "50", BYTES, lambda f: imagecodecs.jpeg8_encode(f, level=95)),
    "jpeg with a thumbnail": (JPEG + "50", BYTES, with_thumbnail),
    "jpeg-ls": (JPEG + "80", NOISE, imagecodecs.jpegls_encode),
    "jpeg 2000": (JPEG + "90", NOISE, lambda f: imagecodecs.jpeg2k_encode(f, level=0, codecformat="j2k")),
    "jpeg 2000 of tiles": (JPEG + "90", BYTES, tiled),
    "jpeg 2000 without a length": (JPEG + "90", NOISE, without_tile_length),
    "jp2": (JPEG + "90", NOISE, lambda f: imagecodecs.jpeg2k_encode(f, level=0, codecformat="jp2", reversible=True)),
    "htj2k": (JPEG + "201", NOISE, imagecodecs.htj2k_encode),
}


def reader(data: bytes) -> Read:
    return lambda offset, length: data[offset : offset + length]


@pytest.mark.parametrize("name", ENCODERS)
def test_each_codestream_is_found(name: str) -> None:
    _, frames, encode = ENCODERS[name]
    codes = [bytes(encode(frame)) for frame in frames]
    gaps = [b"", b"\0", b"\0\0\0", b"\0" * 8, b""]
    joined = b"".join(code + gap for code, gap in zip(codes, gaps, strict=True))
    found = find_codestreams(reader(joined), 9)
    assert [joined[start:end] for start, end in found] == codes
    assert find_codestreams(reader(joined), 2) == found[:2]


def read_frames(path: Path, syntax: str, frames: Array, value: bytes) -> Array:
    source = write(path, pixel_format(frames[0], syntax, n_frames=len(frames), bits_stored=12), value)
    if frames.dtype == np.uint8:
        source = write(path, pixel_format(frames[0], syntax, n_frames=len(frames)), value)
    return np.stack([read_good(source._replace(frame=k), frames.dtype.name) for k in range(len(frames))])


@pytest.mark.parametrize("name", ENCODERS)
@pytest.mark.parametrize("table", [b"", struct.pack("<2I", 0, 16), struct.pack("<5I", 8, 16, 24, 32, 40)])
def test_all_frames_in_one_fragment(name: str, table: bytes, tmp_path: Path) -> None:
    syntax, frames, encode = ENCODERS[name]
    codes = [bytes(encode(frame)) for frame in frames]
    each = read_frames(tmp_path / "each", syntax, frames, items(*codes))
    assert (each == frames).all() or name.startswith("jpeg")
    joined = b"".join(code + b"\0" * (len(code) % 2) for code in codes)
    assert (read_frames(tmp_path / "one", syntax, frames, items(joined, table=table)) == each).all()


@pytest.mark.parametrize("cuts", [(100,), (100, 400, 2000), tuple(range(64, 6000, 64))])
def test_fragments_that_are_cut_anywhere(cuts: Sequence[int], tmp_path: Path) -> None:
    """Fewer or more fragments than frames, none of them at the edge of a frame, and no table."""
    codes = [bytes(imagecodecs.jpegls_encode(frame)) for frame in NOISE]
    joined = b"".join(code + b"\0" * (len(code) % 2) for code in codes)
    parts = [joined[a:b] for a, b in zip((0, *cuts), (*cuts, len(joined)), strict=True)]
    assert (read_frames(tmp_path / "a", JPEG + "80", NOISE, items(*parts)) == NOISE).all()


def test_a_table_of_other_items_gives_way_to_the_codestreams(tmp_path: Path) -> None:
    """Its offsets point at items, but not at those where frames begin."""
    codes = [bytes(imagecodecs.jpegls_encode(frame)) for frame in NOISE]
    halves = [[code[:200], code[200:]] for code in codes]
    flat = [part for half in halves for part in half]
    wrong = basic_table(*[[part] for part in flat[:4]], flat[4:])
    assert (read_frames(tmp_path / "a", JPEG + "80", NOISE, items(*flat, table=wrong)) == NOISE).all()
    right = basic_table(*halves)
    assert (read_frames(tmp_path / "b", JPEG + "80", NOISE, items(*flat, table=right)) == NOISE).all()


def test_rle_frames_in_pieces_are_told_by_their_headers(tmp_path: Path) -> None:
    codes = [encode_frame(frame, RLELossless, 12) for frame in NOISE]
    pieces = [part for code in codes for part in (code[:300], code[300:])]
    assert (read_frames(tmp_path / "a", RLE, NOISE, items(*pieces)) == NOISE).all()


def test_rle_frames_in_one_fragment_are_refused(tmp_path: Path) -> None:
    """An RLE frame has no end (PS3.5 Annex G): the reason says how many there are of both."""
    codes = [encode_frame(frame, RLELossless, 12) for frame in NOISE]
    source = write(tmp_path / "a", pixel_format(NOISE[0], RLE, n_frames=5), items(b"".join(codes)))
    _, read = read_all([source], value_rule("uint16"), NOISE[0].shape)
    assert [fault.code for fault in read.faults] == [Code.DECODE]
    assert "1 fragment does" in read.faults[0].message
    assert "5 frames" in read.faults[0].message


def test_frames_beyond_those_declared_are_noted(tmp_path: Path) -> None:
    codes = [bytes(imagecodecs.jpegls_encode(frame)) for frame in NOISE]
    source = write(
        tmp_path / "a",
        pixel_format(NOISE[0], JPEG + "80", n_frames=3),
        items(*codes, table=basic_table(*[[code] for code in codes])),
    )
    out, read = read_all([source._replace(frame=2)], value_rule("uint16"), NOISE[0].shape)
    assert (out[0] == NOISE[2]).all()
    assert [note[1:] for note in read.notes] == [(Code.LONG_PIXEL_DATA, "5 frames of pixel data, 3 are expected")]


@pytest.mark.parametrize("syntax", [JPEG + "80", JPEG + "90"])
def test_of_several_codestreams_in_one_frame_the_first_counts_and_the_others_are_noted(
    syntax: str, tmp_path: Path
) -> None:
    """One frame is all fragments (PS3.5 A.4), and its pixels are those of one codestream."""
    codes = [encode_frame(frame, UID(syntax), 12) for frame in NOISE[:3]]
    in_pieces = [piece for code in codes for piece in (code[:40], code[40:])]
    for number, value in enumerate((items(*codes), items(*in_pieces))):
        source = write(tmp_path / str(number), pixel_format(NOISE[0], syntax), value)
        out, read = read_all([source], value_rule("uint16"), NOISE[0].shape)
        assert (out[0] == NOISE[0]).all()
        assert [note[1:] for note in read.notes] == [(Code.LONG_PIXEL_DATA, "3 frames of pixel data, 1 are expected")]
    source = write(tmp_path / "one", pixel_format(NOISE[0], syntax), items(*in_pieces[:2]))
    assert read_all([source], value_rule("uint16"), NOISE[0].shape)[1].notes == ()


@pytest.mark.parametrize("name", ENCODERS)
def test_a_codestream_that_is_cut_is_none(name: str) -> None:
    code = bytes(ENCODERS[name][2](ENCODERS[name][1][0]))
    for size in (*range(0, min(len(code), 200), 7), len(code) - 3):
        assert find_codestreams(reader(code[:size]), 3) == []


@given(st.binary(max_size=60), st.sampled_from([b"\xff\xd8\xff", b"\xff\x4f\xff\x51", b"\x00\x00\x00\x0cjP  ", b""]))
def test_any_bytes_end(noise: bytes, start: bytes) -> None:
    data = start + noise
    found = find_codestreams(reader(data), 100)
    assert all(0 <= a < b for a, b in found)
    assert all(b <= c for (_, b), (c, _) in pairwise(found))
