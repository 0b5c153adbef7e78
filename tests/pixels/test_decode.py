"""Every codec, precision, sign and colour that an encoder can make, against what went in and pydicom's plugins."""

from __future__ import annotations

import contextlib
import struct
import time
import zlib
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import imagecodecs as ic
import jpeg_ls  # type: ignore[import-untyped]
import numpy as np
import numpy.typing as npt
import pytest
from pydicom.encaps import encapsulate
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.encoders.base import get_encoder

from fastdcm.errors import Code, SourceError
from fastdcm.model import PixelFormat
from fastdcm.pixels.codestream import read_codestream
from fastdcm.pixels.decode import decode_frame
from tests.pixels.sources import (
    DEFLATED_FRAMES,
    EXPLICIT,
    JPEG,
    RLE,
    basic_table,
    items,
    pixel_format,
    read_all,
    read_good,
    value_rule,
    write,
)

Array = npt.NDArray[Any]
Encode = Callable[[Array], bytes]

RNG = np.random.default_rng(7)
Y, X = np.mgrid[0:40, 0:56]


def picture(dtype: str, bits: int) -> Array:
    """Return waves with noise that use the whole range of so many bits."""
    wave = (np.sin(X / 9) + np.cos(Y / 7) + 2) / 4 + RNG.uniform(-0.05, 0.05, X.shape)
    top = (1 << bits) - 1
    values = np.clip(wave * top, 0, top)
    values.flat[:2] = 0, top
    values = (values - (1 << (bits - 1)) * (dtype[0] == "i")).round()
    return np.asarray(values, dtype)


GREY = {
    "u8": (picture("u1", 8), 8),
    "s8": (picture("i1", 8), 8),
    "u10": (picture("u2", 10), 10),
    "u12": (picture("u2", 12), 12),
    "s12": (picture("i2", 12), 12),
    "u16": (picture("u2", 16), 16),
    "s16": (picture("i2", 16), 16),
}
RGB8 = np.stack([picture("u1", 8), 255 - picture("u1", 8), picture("u1", 7)])
RGB16 = np.stack([picture("u2", 16), 65535 - picture("u2", 16), picture("u2", 12)])


def unsigned(values: Array, bits: int) -> Array:
    """Return the bits of the values as the codecs see them that know no sign."""
    plain: Array = values.astype(f"u{values.itemsize}") & np.asarray((1 << bits) - 1, f"u{values.itemsize}")
    return plain


def last(values: Array) -> Array:
    """Return samples last, in C order: what encoders take."""
    return np.ascontiguousarray(values if values.ndim == 2 else np.moveaxis(values, 0, -1))


def rle(values: Array, bits: int) -> bytes:
    samples = 1 if values.ndim == 2 else 3
    options: dict[str, Any] = {
        "rows": values.shape[-2],
        "columns": values.shape[-1],
        "samples_per_pixel": samples,
        "bits_allocated": 8 * values.itemsize,
        "bits_stored": bits,
        "pixel_representation": int(values.dtype.kind == "i"),
        "photometric_interpretation": "RGB" if samples == 3 else "MONOCHROME2",
        "planar_configuration": 0,
        "number_of_frames": 1,
    }
    return get_encoder(RLE).encode(last(values), encoding_plugin="pydicom", **options)


def deflate(values: Array, bits: int) -> bytes:
    deflater = zlib.compressobj(9, zlib.DEFLATED, -15)
    return deflater.compress(last(values).tobytes()) + deflater.flush()


def jpeg_lossless(predictor: int) -> Callable[[Array, int], bytes]:
    def encode(values: Array, bits: int) -> bytes:
        options: dict[str, Any] = {"colorspace": "RGB", "outcolorspace": "RGB"} if values.ndim == 3 else {}
        plain = last(unsigned(values, bits))
        return bytes(ic.jpeg8_encode(plain, lossless=True, predictor=predictor, bitspersample=bits, **options))

    return encode


def jpegls(values: Array, bits: int) -> bytes:
    mode = 2 if values.ndim == 3 else None
    return bytes(jpeg_ls.encode_array(last(unsigned(values, bits)), interleave_mode=mode))


def jpeg2000(values: Array, bits: int) -> bytes:
    options: dict[str, Any] = {"level": 0, "codecformat": "j2k", "reversible": True, "mct": values.ndim == 3}
    return bytes(ic.jpeg2k_encode(last(values), bitspersample=bits, **options))


def htj2k(values: Array, bits: int) -> bytes:
    return bytes(ic.htj2k_encode(last(values)))


def jpegxl(values: Array, bits: int) -> bytes:
    plain = last(unsigned(values, bits))
    return bytes(ic.jpegxl_encode(plain, lossless=True, usecontainer=bits == 8, bitspersample=bits))


class Lossless(NamedTuple):
    syntax: str
    encode: Callable[[Array, int], bytes]


LOSSLESS = {
    "rle": Lossless(RLE, rle),
    "deflated-frames": Lossless(DEFLATED_FRAMES, deflate),
    "jpeg-lossless": Lossless(JPEG + "57", jpeg_lossless(6)),
    "jpeg-lossless-sv1": Lossless(JPEG + "70", jpeg_lossless(1)),
    "jpeg-ls": Lossless(JPEG + "80", jpegls),
    "jpeg-2000": Lossless(JPEG + "90", jpeg2000),
    "htj2k": Lossless(JPEG + "201", htj2k),
    "htj2k-rpcl": Lossless(JPEG + "202", htj2k),
    "jpeg-xl": Lossless(JPEG + "110", jpegxl),
}


@pytest.mark.parametrize("depth", GREY)
@pytest.mark.parametrize("codec", LOSSLESS)
def test_lossless_grey_is_bit_equal(tmp_path: Path, codec: str, depth: str) -> None:
    values, bits = GREY[depth]
    case = LOSSLESS[codec]
    pixels = pixel_format(values, case.syntax, bits_stored=bits)
    source = write(tmp_path / "a.dcm", pixels, items(case.encode(values, bits)))
    assert np.array_equal(read_good(source, values.dtype.name), values)


@pytest.mark.parametrize("values", [RGB8, RGB16], ids=["8", "16"])
@pytest.mark.parametrize("codec", LOSSLESS)
def test_lossless_colour_is_bit_equal(tmp_path: Path, codec: str, values: Array) -> None:
    case = LOSSLESS[codec]
    pixels = pixel_format(values, case.syntax)
    if codec == "jpeg-2000":
        pixels = pixels._replace(photometric="YBR_RCT")
    source = write(tmp_path / "a.dcm", pixels, items(case.encode(values, 8 * values.itemsize)))
    assert np.array_equal(read_good(source, values.dtype.name, 3), values)


@pytest.mark.parametrize(
    ("syntax", "encode", "depth", "tolerance"),
    [
        (JPEG + "50", lambda a: ic.jpeg8_encode(a, level=90), "u8", 1),
        (JPEG + "51", lambda a: ic.jpeg8_encode(a, level=90, bitspersample=12), "u12", 2),
        (JPEG + "81", lambda a: ic.jpegls_encode(a, level=3), "u12", 0),
        (JPEG + "91", lambda a: ic.jpeg2k_encode(a, level=50, codecformat="j2k"), "u16", 1),
        (JPEG + "91", lambda a: ic.jpeg2k_encode(a, level=50, codecformat="j2k"), "s16", 1),
        (JPEG + "203", lambda a: ic.htj2k_encode(a, level=0.001), "u16", 0),
    ],
)
def test_lossy_grey_is_what_every_plugin_of_pydicom_decodes(
    tmp_path: Path, syntax: str, encode: Encode, depth: str, tolerance: int
) -> None:
    values, bits = GREY[depth]
    stream = encode(values)
    pixels = pixel_format(values, syntax, bits_stored=bits)
    read = read_good(write(tmp_path / "a.dcm", pixels, items(stream)), values.dtype.name).astype(int)
    decoder = get_decoder(syntax)
    plugins = [name for name in decoder.available_plugins if (name, syntax) not in CANNOT]
    assert plugins
    for plugin in plugins:
        assert np.abs(read - by_pydicom(stream, pixels, plugin)).max() <= tolerance, plugin
    assert np.abs(read - values.astype(int)).max() < 1 << (bits - 3)


CANNOT = {("gdcm", JPEG + "51"), ("pillow", JPEG + "51")}
"""Neither decodes 12 bits."""


def by_pydicom(stream: bytes | bytearray, pixels: PixelFormat, plugin: str) -> Array:
    options: dict[str, Any] = {
        "rows": pixels.rows,
        "columns": pixels.columns,
        "number_of_frames": 1,
        "samples_per_pixel": pixels.samples,
        "photometric_interpretation": pixels.photometric,
        "bits_allocated": pixels.bits_allocated,
        "bits_stored": pixels.bits_stored,
        "pixel_representation": int(pixels.signed),
        "planar_configuration": 0,
    }
    decoder = get_decoder(pixels.transfer_syntax)
    return decoder.as_array(encapsulate([bytes(stream)]), index=0, decoding_plugin=plugin, **options)[0].astype(int)


# ---------------------------------------------------------------------------- bits and signs that disagree


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("coded", ["u12", "s12", "u16", "s16"])
@pytest.mark.parametrize("syntax", [JPEG + "90", JPEG + "201"])
def test_the_codestream_decides_the_bits_and_the_header_the_sign(syntax: str, coded: str, signed: bool) -> None:
    values, bits = GREY[coded]
    stream = jpeg2000(values, bits) if syntax == JPEG + "90" else htj2k(values, 16)
    bits = bits if syntax == JPEG + "90" else 16
    pixels = pixel_format(values, syntax, signed=signed)  # which says 16 bits stored
    plain = unsigned(values, bits).astype(int)
    expected = np.where(signed & (plain >= 1 << (bits - 1)), plain - (1 << bits), plain)
    decoded = decode_frame(stream, pixels)
    assert np.array_equal(decoded, expected)
    assert np.array_equal(decoded, by_pydicom(stream, pixels, "pylibjpeg"))


def test_jpeg_ls_takes_its_sign_from_the_header_and_its_bits_from_the_codestream() -> None:
    values, _ = GREY["s12"]
    stream = jpegls(values, 12)
    header = read_codestream(stream)
    assert header is not None
    assert header.bits == 12
    pixels = pixel_format(values, JPEG + "80")  # which says 16 bits stored
    for plugin in get_decoder(JPEG + "80").available_plugins:
        assert np.array_equal(decode_frame(stream, pixels), by_pydicom(stream, pixels, plugin)), plugin


def test_overlay_bits_in_lossless_jpeg_vanish() -> None:
    values, _ = GREY["u12"]
    stream = jpeg_lossless(1)(values | 0x5000, 16)
    decoded = decode_frame(stream, pixel_format(values, JPEG + "70", bits_stored=12))
    assert np.array_equal(decoded, values)
    assert np.array_equal(decoded, by_pydicom(stream, pixel_format(values, JPEG + "70", bits_stored=12), "gdcm"))


def test_eight_bits_coded_for_a_signed_header_of_more_stay_positive() -> None:
    values, _ = GREY["u8"]
    pixels = pixel_format(values.astype("i2"), JPEG + "70", bits_stored=12)
    assert np.array_equal(decode_frame(jpeg_lossless(1)(values, 8), pixels), values)


# ---------------------------------------------------------------------------- into given memory


@pytest.mark.parametrize("memory", ["i1", "u1", "i2", "u2", "i4", "f4"])
@pytest.mark.parametrize("depth", ["u8", "u12", "s12", "u16", "s16"])
@pytest.mark.parametrize("codec", LOSSLESS)
def test_memory_of_the_right_width_is_decoded_into(codec: str, depth: str, memory: str) -> None:
    values, bits = GREY[depth]
    pixels = pixel_format(values, LOSSLESS[codec].syntax, bits_stored=bits)
    stream = LOSSLESS[codec].encode(values, bits)
    out = np.zeros((3, *values.shape), memory)
    decoded = decode_frame(stream, pixels, out[1])
    assert np.array_equal(decoded, decode_frame(stream, pixels))
    assert np.may_share_memory(decoded, out) == (out.itemsize == values.itemsize and codec not in OWN_MEMORY)
    assert not out[::2].any()


OWN_MEMORY = {"jpeg-xl", "deflated-frames"}


def test_memory_of_another_shape_or_order_is_left_alone() -> None:
    values, bits = GREY["u16"]
    pixels, stream = pixel_format(values, JPEG + "80"), jpegls(values, bits)
    for out in (np.zeros((40, 57), "u2")[:, :56], np.zeros((56, 40), "u2"), np.zeros((40, 56), "u2", order="F")):
        assert np.array_equal(decode_frame(stream, pixels, out), values)
        assert not out.any()


# ---------------------------------------------------------------------------- colour


def jpeg_colour(marked: str) -> bytes:
    """Return a baseline JPEG of RGB8, in YCbCr or not, which says so by a marker or not at all."""
    spaces = {"jfif": "YCbCr", "adobe-rgb": "RGB", "silent-ybr": "YCbCr", "silent-rgb": "RGB"}
    stream = ic.jpeg8_encode(last(RGB8), level=98, colorspace="RGB", outcolorspace=spaces[marked], subsampling="444")
    if marked.startswith("silent"):
        length = int.from_bytes(stream[4:6], "big")
        assert stream[3] in (0xE0, 0xEE)
        stream = bytearray(stream[:2] + stream[4 + length :])
        start = stream.index(b"\xff\xc0") + 10
        stream[start : start + 9 : 3] = bytes([1, 2, 3])
        scan = stream.index(b"\xff\xda") + 5
        stream[scan : scan + 6 : 2] = bytes([1, 2, 3])
    return bytes(stream)


@pytest.mark.parametrize(
    ("marked", "photometric", "is_right"),
    [
        ("jfif", "YBR_FULL_422", True),
        ("jfif", "RGB", True),  # the codestream wins
        ("adobe-rgb", "RGB", True),
        ("adobe-rgb", "YBR_FULL_422", True),  # the codestream wins
        ("silent-ybr", "YBR_FULL_422", True),
        ("silent-rgb", "RGB", True),
        ("silent-rgb", "YBR_FULL", False),  # nobody can know
    ],
)
def test_the_colour_transform_of_jpeg(marked: str, photometric: str, is_right: bool) -> None:
    pixels = pixel_format(RGB8, JPEG + "50", photometric=photometric)
    decoded = decode_frame(jpeg_colour(marked), pixels)
    assert decoded.shape == RGB8.shape
    assert (np.abs(decoded.astype(int) - RGB8).max() <= 8) == is_right


@pytest.mark.parametrize("subsampling", ["444", "422", "420"])
def test_lossy_colour_is_within_two_of_pillow(subsampling: str) -> None:
    stream = ic.jpeg8_encode(last(RGB8), level=90, colorspace="RGB", outcolorspace="YCbCr", subsampling=subsampling)
    pixels = pixel_format(RGB8, JPEG + "50", photometric="YBR_FULL_422")
    reference = np.moveaxis(by_pydicom(stream, pixels, "pillow"), -1, 0)
    assert np.abs(decode_frame(stream, pixels).astype(int) - reference).max() <= 2


def test_jpeg_2000_with_its_component_transform_is_rgb_whatever_the_header_says() -> None:
    stream = jpeg2000(RGB8, 8)
    for photometric in ("YBR_RCT", "RGB", "YBR_FULL"):
        assert np.array_equal(decode_frame(stream, pixel_format(RGB8, JPEG + "90", photometric=photometric)), RGB8)


def test_jpeg_2000_without_its_component_transform_is_what_the_header_says() -> None:
    stream = ic.jpeg2k_encode(last(RGB8), level=0, codecformat="j2k", reversible=True, mct=False)
    assert np.array_equal(decode_frame(stream, pixel_format(RGB8, JPEG + "90")), RGB8)
    converted = decode_frame(stream, pixel_format(RGB8, JPEG + "90", photometric="YBR_FULL"))
    expected = by_pydicom(stream, pixel_format(RGB8, JPEG + "90", photometric="YBR_FULL"), "pylibjpeg")
    assert np.array_equal(converted, np.moveaxis(expected, -1, 0))


def test_a_jp2_container_is_opened(tmp_path: Path) -> None:
    values, _ = GREY["u16"]
    stream = ic.jpeg2k_encode(values, level=0, codecformat="jp2", reversible=True)
    assert np.array_equal(decode_frame(stream, pixel_format(values, JPEG + "90")), values)


# ---------------------------------------------------------------------------- pydicom's plugins as the fallback


def refuse(*args: Any, **options: Any) -> None:
    raise RuntimeError("imagecodecs cannot")


@pytest.mark.parametrize(
    ("codec", "depth"),
    [(c, d) for c in ("jpeg-ls", "jpeg-2000", "htj2k") for d in ("u8", "u12", "s12", "u16", "s16")],
)
def test_what_imagecodecs_cannot_decode_a_plugin_does(codec: str, depth: str, monkeypatch: pytest.MonkeyPatch) -> None:
    values, bits = GREY[depth]
    case = LOSSLESS[codec]
    stream = case.encode(values, bits)
    monkeypatch.setattr(ic, "jpegls_decode", refuse)
    monkeypatch.setattr(ic, "jpeg2k_decode", refuse)
    decoded = decode_frame(stream, pixel_format(values, case.syntax, bits_stored=bits))
    assert np.array_equal(decoded, values)


@pytest.mark.parametrize("marked", ["jfif", "adobe-rgb"])
def test_colour_by_a_plugin_is_within_two(marked: str, monkeypatch: pytest.MonkeyPatch) -> None:
    stream, pixels = jpeg_colour(marked), pixel_format(RGB8, JPEG + "50", photometric="YBR_FULL")
    expected = decode_frame(stream, pixels).astype(int)
    monkeypatch.setattr(ic, "jpeg8_decode", refuse)
    assert np.abs(decode_frame(stream, pixels) - expected).max() <= 2


def test_the_first_decoder_says_why_where_no_plugin_can(monkeypatch: pytest.MonkeyPatch) -> None:
    values, bits = GREY["u16"]
    stream = jpeg_lossless(1)(values, bits)
    monkeypatch.setattr(ic, "jpeg8_decode", refuse)
    with pytest.raises(RuntimeError, match="imagecodecs cannot"):
        decode_frame(stream, pixel_format(values, JPEG + "70"))


# ---------------------------------------------------------------------------- syntaxes that lie


@pytest.mark.parametrize("codec", ["jpeg-lossless", "jpeg-ls", "jpeg-2000", "htj2k", "jpeg-xl", "rle"])
@pytest.mark.parametrize("says", [EXPLICIT, JPEG + "70", JPEG + "90"])
def test_bytes_that_do_not_match_the_syntax_are_decoded_and_noted(tmp_path: Path, codec: str, says: str) -> None:
    values, bits = GREY["u16"]
    case = LOSSLESS[codec]
    pixels = pixel_format(values, says)
    source = write(tmp_path / "a.dcm", pixels, items(case.encode(values, bits)), undefined=True)
    out, read = read_all([source], value_rule("uint16"), values.shape)
    assert read.faults == ()
    assert np.array_equal(out[0], values)
    families = {"jpeg-lossless": JPEG + "70", "jpeg-2000": JPEG + "90", "htj2k": JPEG + "90"}
    expected = [] if families.get(codec) == says else [Code.REPAIRED_SYNTAX]
    assert [code for _, code, _ in read.notes] == expected


def test_native_pixels_under_a_compressed_syntax_are_read_and_noted(tmp_path: Path) -> None:
    values, _ = GREY["s16"]
    source = write(tmp_path / "a.dcm", pixel_format(values, JPEG + "70"), values.tobytes(), undefined=False)
    out, read = read_all([source], value_rule("int16"), values.shape)
    assert np.array_equal(out[0], values)
    assert [code for _, code, _ in read.notes] == [Code.REPAIRED_SYNTAX]


# ---------------------------------------------------------------------------- what cannot be


@pytest.mark.parametrize("codec", ["jpeg-lossless", "jpeg-ls", "jpeg-2000", "htj2k", "jpeg-xl"])
def test_another_size_than_the_header_says_is_refused_before_decoding(
    codec: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    values, bits = GREY["u16"]
    stream = LOSSLESS[codec].encode(values, bits)
    for name in ("jpeg8_decode", "jpegls_decode", "jpeg2k_decode", "htj2k_decode", "jpegxl_decode"):
        monkeypatch.setattr(ic, name, lambda *args, **options: pytest.fail("was decoded"))
    pixels = pixel_format(values, LOSSLESS[codec].syntax, rows=39)
    with pytest.raises(SourceError, match="40 x 56 pixels, the header 39 x 56") as caught:
        decode_frame(stream, pixels)
    assert caught.value.code == Code.DECODE


def huge(codec: str) -> bytes:
    """Return a small codestream that says it is 65535 x 65535."""
    values, bits = GREY["u16"]
    stream = bytearray(LOSSLESS[codec].encode(values, bits))
    if codec == "jpeg-2000" or codec == "htj2k":
        stream[8:16] = b"\0\0\xff\xff\0\0\xff\xff"
        return bytes(stream)
    start = max(stream.find(b"\xff\xc3"), stream.find(b"\xff\xf7"))
    stream[start + 5 : start + 9] = b"\xff\xff\xff\xff"
    return bytes(stream)


@pytest.mark.parametrize("codec", ["jpeg-lossless", "jpeg-ls", "jpeg-2000", "htj2k"])
def test_a_huge_size_that_the_header_repeats_is_refused_before_decoding(
    codec: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("jpeg8_decode", "jpegls_decode", "jpeg2k_decode", "htj2k_decode"):
        monkeypatch.setattr(ic, name, lambda *args, **options: pytest.fail("was decoded"))
    pixels = pixel_format(GREY["u16"][0], LOSSLESS[codec].syntax, rows=65535, columns=65535)
    with pytest.raises(SourceError, match="cannot hold a frame of"):
        decode_frame(huge(codec), pixels)


@pytest.mark.parametrize("codec", ["rle", "deflated-frames"])
def test_a_huge_frame_of_few_bytes_is_refused(codec: str) -> None:
    values, bits = GREY["u16"]
    pixels = pixel_format(values, LOSSLESS[codec].syntax, rows=65535, columns=65535)
    with pytest.raises(SourceError):
        decode_frame(LOSSLESS[codec].encode(values, bits), pixels)


@pytest.mark.parametrize("codec", LOSSLESS)
@pytest.mark.parametrize("share", [0.3, 0.7, 0.95])
def test_a_stream_cut_short_is_a_fault_and_never_made_up(tmp_path: Path, codec: str, share: float) -> None:
    values, bits = GREY["u12"]
    stream = LOSSLESS[codec].encode(values, bits)
    source = write(
        tmp_path / "a.dcm", pixel_format(values, LOSSLESS[codec].syntax), items(stream[: int(len(stream) * share)])
    )
    _, read = read_all([source], value_rule("int32"), values.shape)
    assert len(read.faults) == 1


@pytest.mark.parametrize("codec", ["jpeg-lossless", "jpeg-ls", "jpeg-2000", "htj2k"])
def test_a_missing_end_marker_alone_is_no_fault(codec: str) -> None:
    values, bits = GREY["u12"]
    stream = LOSSLESS[codec].encode(values, bits)
    end = stream.rindex(b"\xff\xd9")
    assert np.array_equal(decode_frame(stream[:end], pixel_format(values, LOSSLESS[codec].syntax)), values)


@pytest.mark.parametrize("codec", LOSSLESS)
def test_damage_gives_a_fault_or_values_but_never_an_exception(tmp_path: Path, codec: str) -> None:
    values, bits = GREY["u12"]
    case = LOSSLESS[codec]
    stream = case.encode(values, bits)
    rng = np.random.default_rng(3)
    sources = []
    for number in range(30):
        damaged = bytearray(stream[: rng.integers(1, len(stream))] if number % 3 == 0 else stream)
        for place in rng.integers(0, len(damaged), 4):
            damaged[place] = rng.integers(0, 256)
        sources.append(write(tmp_path / f"{number}.dcm", pixel_format(values, case.syntax), items(bytes(damaged))))
    _, read = read_all(sources, value_rule("int32"), values.shape)
    assert {fault.code for fault in read.faults} <= {Code.DECODE, Code.TRUNCATED, Code.UNSUPPORTED_PIXELS}
    assert all(fault.message and str(tmp_path) not in fault.message for fault in read.faults)


@pytest.mark.parametrize("values", [GREY["u16"][0], RGB16], ids=["grey", "colour"])
def test_rle_segments_with_too_much_padding(values: Array) -> None:
    stream = rle(values, 16)
    offsets = [*np.frombuffer(stream, "<u4", stream[0], 4).tolist(), len(stream)]
    padded = [stream[a:b] + bytes(6) for a, b in pairwise(offsets)]
    starts = np.cumsum([64, *map(len, padded)])[:-1]
    header = np.zeros(16, "<u4")
    header[: len(starts) + 1] = [len(starts), *starts]
    decoded = decode_frame(header.tobytes() + b"".join(padded), pixel_format(values, RLE))
    assert np.array_equal(decoded, values)


def test_several_fragments_and_frames(tmp_path: Path) -> None:
    frames = [RNG.integers(0, 4096, (16, 24)).astype("u2") for _ in range(3)]
    streams = [jpegls(frame, 12) for frame in frames]
    pieces = [[stream[:40], stream[40:100], stream[100:]] for stream in streams]
    value = items(*[piece for frame in pieces for piece in frame], table=basic_table(*pieces))
    source = write(tmp_path / "a.dcm", pixel_format(frames[0], JPEG + "80", n_frames=3), value)
    for number, frame in enumerate(frames):
        assert np.array_equal(read_good(source._replace(frame=number), "uint16"), frame)


@pytest.mark.parametrize(
    "data",
    [
        b"\xff\xd8" + b"\xff" * 2**24,
        b"\xff\xd8" + b"\xff\xe0\0\2" * 2**22,
        b"\xff\xd8\xff\x01" * 2**22,
        b"\0\0\0\x0cjP  \r\n\x87\n" + b"\0\0\0\x08free" * 2**21,
        b"\xff\x4f\xff\x51\0\x29" + struct.pack(">HIIIIIIIIHBBB", 0, *[1] * 8, 1, 7, 1, 1) + b"\xff\x64\0\2" * 2**22,
    ],
    ids=["fill", "segments", "markers", "boxes", "comments"],
)
def test_an_endless_codestream_header_is_given_up(data: bytes) -> None:
    """A frame may have as many bytes as the file; the header of its codestream may not."""
    begin = time.perf_counter()
    with contextlib.suppress(ValueError):
        read_codestream(data)
    assert time.perf_counter() - begin < 1


@pytest.mark.parametrize("offset", [0, 63, 2**16, 2**31, 2**32 - 60])
def test_rle_segments_must_be_inside_the_frame(offset: int) -> None:
    """imagecodecs reads where the header points, which may end the process."""
    values = np.arange(30 * 40, dtype=np.uint16).reshape(30, 40)
    stream = bytearray(rle(values, 16))
    stream[8:12] = struct.pack("<I", offset)
    with pytest.raises(SourceError) as caught:
        decode_frame(stream, pixel_format(values, RLE))
    assert caught.value.code == Code.DECODE
    assert "in no order" in caught.value.message
