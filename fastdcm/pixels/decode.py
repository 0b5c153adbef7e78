"""One frame's bytes to stored values, whatever the codec."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fastdcm.errors import Code, SourceError
from fastdcm.model import PixelFormat
from fastdcm.pixels import native
from fastdcm.pixels.codestream import Codec, Codestream, Data, read_codestream
from fastdcm.pixels.colour import ybr_to_rgb
from fastdcm.pixels.rle import is_rle, unpack_rle
from fastdcm.scan.pydicom_once import load_pydicom
from fastdcm.scan.rules import DECODED_BYTES_FREE, DECODED_BYTES_PER_BYTE

Array = npt.NDArray[Any]

CODECS: dict[str, Codec] = {
    "1.2.840.10008.1.2.1.98": "native",
    **{f"1.2.840.10008.1.2.4.{number}": "jpeg" for number in (50, 51, 52, 53, 54, 55, 56, 57, 70)},
    "1.2.840.10008.1.2.4.80": "jpegls",
    "1.2.840.10008.1.2.4.81": "jpegls",
    "1.2.840.10008.1.2.4.90": "jpeg2000",
    "1.2.840.10008.1.2.4.91": "jpeg2000",
    "1.2.840.10008.1.2.4.92": "jpeg2000",
    "1.2.840.10008.1.2.4.93": "jpeg2000",
    "1.2.840.10008.1.2.4.110": "jpegxl",
    "1.2.840.10008.1.2.4.111": "jpegxl",
    "1.2.840.10008.1.2.4.112": "jpegxl",
    "1.2.840.10008.1.2.4.201": "htj2k",
    "1.2.840.10008.1.2.4.202": "htj2k",
    "1.2.840.10008.1.2.4.203": "htj2k",
    "1.2.840.10008.1.2.5": "rle",
    "1.2.840.10008.1.2.8.1": "deflate",
}
"""The codec that each encapsulated transfer syntax promises (PS3.5 section 10 and Annex A.4)."""


class Found(NamedTuple):
    """What a frame's bytes are."""

    codec: Codec | None
    """What they begin with, else what the transfer syntax says; None if neither tells."""
    stream: Codestream | None
    damage: str | None
    """Of the header of the codestream that they begin with."""


def find_codec(data: Data, pixels: PixelFormat) -> Found:
    """Look at the first of a frame's bytes, all fragments joined, and say what they are."""
    promised = CODECS.get(pixels.transfer_syntax)
    if promised == "native" and len(data) >= _cells_bytes(pixels, len(data)):
        return Found(promised, None, None)
    stream, damage = None, None
    if promised not in ("rle", "deflate"):
        try:
            stream = read_codestream(data)
        except ValueError as error:
            damage = str(error)
        if stream is not None:
            return Found(stream.codec, stream, None)
    if promised not in ("deflate", "native") and is_rle(data, pixels):
        return Found("rle", None, None)
    return Found(promised, None, damage)


def is_repaired(found: Codec, pixels: PixelFormat) -> bool:
    """Tell whether the codec is not the one that the transfer syntax promises."""
    promised = CODECS.get(pixels.transfer_syntax)
    both = {found, promised}
    return found != promised and both != {"jpeg2000", "htj2k"}


def decode_frame(data: Data, pixels: PixelFormat, out: Array | None = None, found: Found | None = None) -> Array:
    """Decode one encapsulated frame.

    The codestream decides the bits, the header their meaning: precision comes from the codestream, sign from
    PixelRepresentation. Colour becomes RGB; the codestream's own statement (JFIF, Adobe, component names, MCT) wins
    over the header's. A palette's indices stay indices.

    Parameters
    ----------
    data
        All fragments of the frame, joined.
    out
        Memory that may be decoded into: if it is (rows, columns) in C order, and an element of it as wide as a sample
        of what the codec gives. What it holds where anything is raised is undefined.
    found
        What ``find_codec`` says of them, where it was asked already.

    Returns
    -------
    array, shape (rows, columns), or (samples, rows, columns) for more than one sample
        Smallest integers that the codec gives, signed as the header says; a view (also of ``out``) or an array of its
        own.

    Raises
    ------
    SourceError
        DECODE, TRUNCATED or UNSUPPORTED_PIXELS.
    Exception
        Whatever a decoder of another library raises on damaged data: ``read_cells`` turns it into DECODE.
    """
    codec, stream, damage = find_codec(data, pixels) if found is None else found
    if codec == "native":
        return _from_cells(data, pixels)
    if codec == "deflate":
        return _from_cells(_inflate(data, pixels), pixels)
    if codec == "rle":
        return _finish_header_bits(_decode_rle(data, pixels, out), pixels)
    if codec is None:
        raise SourceError(Code.DECODE, "the frame begins like no codestream that is known")
    if stream is None:
        raise SourceError(Code.DECODE, damage or f"the frame does not begin like a {codec} codestream")
    check_stream(stream, pixels, len(data))
    array = _decode_stream(data, stream, pixels, out)
    if codec == "jpeg":
        return _finish_header_bits(array, pixels)
    return array


# ---------------------------------------------------------------------------- checks before anything is allocated


def check_stream(stream: Codestream, pixels: PixelFormat, length: int) -> None:
    """Raise DECODE where a codestream is not one of such a frame, or says that it is larger than it can be."""
    if (stream.rows, stream.columns) != (pixels.rows, pixels.columns):
        raise SourceError(
            Code.DECODE,
            f"the codestream has {stream.rows} x {stream.columns} pixels, the header {pixels.rows} x {pixels.columns}",
        )
    if stream.samples and stream.samples != pixels.samples:
        raise SourceError(
            Code.DECODE, f"the codestream has {stream.samples} samples a pixel, the header {pixels.samples}"
        )
    _check_size(pixels, -(-stream.bits // 8) or 2, length, DECODED_BYTES_PER_BYTE, DECODED_BYTES_FREE)


def _check_size(pixels: PixelFormat, sample_bytes: int, length: int, ratio: int, free: int) -> None:
    size = pixels.rows * pixels.columns * pixels.samples * sample_bytes
    if size > max(free, ratio * length):
        raise SourceError(Code.DECODE, f"{length} bytes cannot hold a frame of {size} bytes")


# ---------------------------------------------------------------------------- RLE and deflate


def check_rle_size(data: Data, pixels: PixelFormat) -> None:
    """Raise DECODE where an RLE frame cannot have so few bytes: two of them give at most 128."""
    _check_size(pixels, native.stored_dtype(pixels).itemsize, len(data), 64, 0)


def _decode_rle(data: Data, pixels: PixelFormat, into: Array | None) -> Array:
    """Decode the byte planes, into memory that is given where it can be that of the values."""
    check_rle_size(data, pixels)
    dtype = native.stored_dtype(pixels)
    size = -(-pixels.rows * pixels.columns * pixels.samples * native.cell_bits(pixels) // 8)
    given = memory_for(into, dtype, pixels) if native.cell_bits(pixels) == 8 * dtype.itemsize else None
    out = np.empty(size, np.uint8) if given is None else given.reshape(-1).view(np.uint8)
    unpack_rle(data, pixels, out)
    little = pixels._replace(transfer_syntax=native.EXPLICIT_LITTLE_ENDIAN, planar=1)
    return _as_rgb(native.unpack(out.data, little, pixels.rows), None, pixels)


def _cells_bytes(pixels: PixelFormat, there: int) -> int:
    """Return what one native frame must have; ``there`` tells whether chroma is halved."""
    halved = native.is_halved(pixels._replace(n_frames=1), there)
    return -(-native.frame_bits(pixels, halved) // 8)


def _from_cells(data: Data, pixels: PixelFormat) -> Array:
    """Unpack a frame of native cells; each begins at a byte (PS3.5 A.4.11)."""
    size = _cells_bytes(pixels, len(data))
    if len(data) < size:
        raise SourceError(Code.TRUNCATED, f"the frame has {len(data)} bytes, {size} are expected")
    halved = native.is_halved(pixels._replace(n_frames=1), len(data))
    return finish_native(native.unpack(data, pixels, pixels.rows, halved=halved), pixels)


def _inflate(data: Data, pixels: PixelFormat) -> bytes:
    """Inflate one frame (PS3.5 A.4.13), and no more than it may have."""
    size = -(-native.frame_bits(pixels, False) // 8)
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        return inflater.decompress(data, size + 1)
    except zlib.error as error:
        raise SourceError(Code.DECODE, f"the deflated frame is damaged: {error}") from None


# ---------------------------------------------------------------------------- JPEG families

START_OF_SCAN = b"\xff\xda"
END = b"\xff\xd9"
FILLERS = (b"\x55" * 64, b"\xaa" * 64)


def _decode_stream(data: Data, stream: Codestream, pixels: PixelFormat, out: Array | None) -> Array:
    """Decode by imagecodecs, or where it fails by a plugin of pydicom; colour as RGB, samples first."""
    converts = converts_ybr(stream, pixels)
    data = _with_end(data, stream)
    try:
        array = decoder_of(stream, converts)(data, out=memory_for(out, decoded_type(stream), pixels))
    except Exception as error:  # noqa: BLE001 - each decoder has its own; what pydicom's plugins say counts then
        array = _by_pydicom(bytes(data), stream, pixels, error)
        converts = False
    expected = (pixels.rows, pixels.columns) + ((pixels.samples,) if pixels.samples > 1 else ())
    if array.shape != expected:
        raise SourceError(Code.DECODE, f"the decoder gives shape {array.shape}, {expected} is expected")
    array = array if pixels.samples == 1 else np.moveaxis(array, -1, 0)
    array = _with_sign(array, stream, pixels.signed)
    return array if converts else _as_rgb(array, stream, pixels)


def _with_end(data: Data, stream: Codestream) -> Data:
    """Return the codestream with the end marker that some writers leave out.

    The decoders of JPEG-LS and JPEG 2000 find out themselves if more is missing. libjpeg makes pixels up instead: so
    two different fillers must give the same image.

    Raises
    ------
    SourceError
        TRUNCATED if a JPEG stream ends before its image does.
    """
    if stream.codec == "jpegxl" or END in data[-32:] or data.rfind(END) > data.rfind(START_OF_SCAN):
        return data
    if stream.codec == "jpeg":
        first, second = (decoder_of(stream, False)(data + filler + END) for filler in FILLERS)
        if not np.array_equal(first, second):
            raise SourceError(Code.TRUNCATED, f"the JPEG stream of {len(data)} bytes ends before its image does")
    return data + END


def decoded_type(stream: Codestream) -> np.dtype[Any]:
    """Return the type that imagecodecs decodes to: the smallest that holds the bits; none that is known for JPEG XL."""
    if stream.codec == "jpegxl" or not 0 < stream.bits <= 16:
        return np.dtype("V1")
    return np.dtype(f"{'i' if stream.signed else 'u'}{-(-stream.bits // 8)}")


def memory_for(out: Array | None, dtype: np.dtype[Any], pixels: PixelFormat) -> Array | None:
    """Return ``out`` as memory of a decoder's type; None if it cannot be that."""
    if out is None or pixels.samples != 1 or dtype.kind not in "iu" or native.cell_bits(pixels) == 1:
        return None
    fits = out.shape == (pixels.rows, pixels.columns) and out.itemsize == dtype.itemsize and out.flags.c_contiguous
    return out.view(dtype) if fits else None


def decoder_of(stream: Codestream, converts: bool) -> Callable[..., Array]:
    """Return what makes (rows, columns) or (rows, columns, samples) of a codestream: ``decode(data, out=memory)``.

    Of JPEG without a colour conversion unless ``converts``.
    """
    import imagecodecs

    if stream.codec == "jpeg" and stream.samples == 3:
        source = "YCBCR" if converts else "RGB"
        return partial(imagecodecs.jpeg8_decode, colorspace=source, outcolorspace="RGB")
    if stream.codec == "jpeg":
        return imagecodecs.jpeg8_decode
    if stream.codec == "jpegls":
        return imagecodecs.jpegls_decode
    if stream.codec == "jpegxl":
        return partial(imagecodecs.jpegxl_decode, numthreads=1)
    # OpenJPEG for HTJ2K too: OpenJPH is faster, but here it gives arbitrary pixels for damaged data, and no error.
    return partial(imagecodecs.jpeg2k_decode, numthreads=1)


FALLBACK_SYNTAX: dict[Codec, str] = {
    "jpeg": "1.2.840.10008.1.2.4.50",
    "jpegls": "1.2.840.10008.1.2.4.80",
    "jpeg2000": "1.2.840.10008.1.2.4.90",
    "htj2k": "1.2.840.10008.1.2.4.201",
}
FALLBACK_PLUGINS = {
    "jpeg": ("pillow",),
    "jpegls": ("pyjpegls",),
    "jpeg2000": ("pylibjpeg", "pillow"),
    "htj2k": ("pylibjpeg",),
}
"""Those that can be trusted with damaged data: for some of it GDCM ends the process, and pylibjpeg's libjpeg gives
arbitrary pixels, and no error, for a stream that was cut short."""


def _by_pydicom(data: bytes, stream: Codestream, pixels: PixelFormat, error: Exception) -> Array:
    """Return what the first of the plugins gives that can decode the frame, else raise ``error``."""
    load_pydicom()
    from pydicom.encaps import encapsulate
    from pydicom.pixels.decoders.base import get_decoder

    if stream.codec not in FALLBACK_SYNTAX:
        raise error
    lossless = "1.2.840.10008.1.2.4.70" if stream.lossless else None
    extended = "1.2.840.10008.1.2.4.51" if stream.codec == "jpeg" and stream.bits > 8 else None
    decoder = get_decoder(lossless or extended or FALLBACK_SYNTAX[stream.codec])
    colour = "YBR_FULL" if is_ybr(stream, pixels) else "RGB"
    options: dict[str, Any] = {
        "rows": pixels.rows,
        "columns": pixels.columns,
        "number_of_frames": 1,
        "samples_per_pixel": pixels.samples,
        "photometric_interpretation": colour if pixels.samples == 3 else "MONOCHROME2",
        "bits_allocated": 8 * -(-stream.bits // 8),
        "bits_stored": stream.bits,
        "pixel_representation": int(stream.signed),
        "planar_configuration": 0,
    }
    for plugin in FALLBACK_PLUGINS[stream.codec]:
        if plugin not in decoder.available_plugins:
            continue
        try:
            array: Array = decoder.as_array(encapsulate([data]), index=0, raw=True, decoding_plugin=plugin, **options)[
                0
            ]
        except Exception:  # noqa: BLE001 - the next one may; else the first decoder's error tells
            continue
        return array
    raise error


def _with_sign(array: Array, stream: Codestream, signed: bool) -> Array:
    """Return the codestream's bits with the header's sign, extended from the codestream's precision.

    JPEG (not JPEG-LS) is left to ``_finish_header_bits``: lossless JPEG writers often declare 16 bits for 12.
    """
    if array.dtype.kind == "f" or stream.codec == "jpeg" or stream.signed == signed:
        return array
    bits = stream.bits or 8 * array.dtype.itemsize
    return native.clear_unused_bits(np.ascontiguousarray(array).view(sign_changed(array.dtype)), bits, bits - 1)


def sign_changed(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return the integers of the same size with a sign, or without."""
    return np.dtype(f"{'u' if dtype.kind == 'i' else 'i'}{dtype.itemsize}")


# ---------------------------------------------------------------------------- what the header adds


def _finish_header_bits(array: Array, pixels: PixelFormat) -> Array:
    """Return only the bits stored with the header's sign (RLE and JPEG do not carry a sign)."""
    if array.dtype.kind == "f":
        return array
    if pixels.signed and array.dtype.kind == "u" and pixels.bits_allocated > 1:
        fits = pixels.bits_stored <= 8 * array.dtype.itemsize
        array = array.view(f"<i{array.dtype.itemsize}") if fits else array.astype(f"<i{2 * array.dtype.itemsize}")
    high_bit = pixels.high_bit if CODECS.get(pixels.transfer_syntax) == "rle" else pixels.bits_stored - 1
    return native.clear_unused_bits(array, pixels.bits_stored, high_bit)


def finish_native(array: Array, pixels: PixelFormat) -> Array:
    """Return the values of native pixels: only the bits stored, colour as RGB."""
    cell = native.cell_bits(pixels)
    if cell > 1:
        bits = pixels.bits_stored if 0 < pixels.bits_stored <= cell else cell
        array = native.clear_unused_bits(array, bits, pixels.high_bit if bits == pixels.bits_stored else bits - 1)
    return _as_rgb(array, None, pixels)


def is_ybr(stream: Codestream | None, pixels: PixelFormat) -> bool:
    """Tell whether decoded samples are luminance and chroma: the codestream's word counts before the header's."""
    if pixels.samples != 3:
        return False
    if stream is not None and stream.colour is not None:
        return stream.colour == "YBR"
    return pixels.photometric.startswith(("YBR_FULL", "YBR_PARTIAL"))


def converts_ybr(stream: Codestream, pixels: PixelFormat) -> bool:
    """Tell whether the decoder itself makes RGB of luminance and chroma."""
    return stream.codec == "jpeg" and not stream.lossless and stream.samples == 3 and is_ybr(stream, pixels)


def _as_rgb(array: Array, stream: Codestream | None, pixels: PixelFormat) -> Array:
    if not is_ybr(stream, pixels) or array.dtype.kind != "u":
        return array
    bits = stream.bits if stream is not None and stream.bits else pixels.bits_stored
    return ybr_to_rgb(array, min(bits, 8 * array.dtype.itemsize), pixels.photometric.startswith("YBR_PARTIAL"))
