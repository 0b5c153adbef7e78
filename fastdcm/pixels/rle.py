"""RLE frames to bytes of values (PS3.5 Annex G).

``_rle.c`` decodes what is as it should be, four times as fast as imagecodecs: planes are put together while they are in
the first cache. What is not, and everything where the module could not be built, imagecodecs decodes.
"""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from fastdcm.errors import Code, SourceError
from fastdcm.model import PixelFormat
from fastdcm.pixels import native
from fastdcm.pixels.codestream import Data

Array = npt.NDArray[Any]


def _compiled() -> ModuleType | None:
    try:
        return importlib.import_module("fastdcm.pixels._rle")
    except ImportError:
        return None


_RLE = _compiled()
COMPILED = _RLE is not None


def is_rle(data: Data, pixels: PixelFormat) -> bool:
    """Tell whether the data begin like an RLE header of this frame (PS3.5 G.5)."""
    segments = pixels.samples * -(-pixels.bits_allocated // 8)
    return bytes(data[:8]) == segments.to_bytes(4, "little") + (64).to_bytes(4, "little")


def unpack_rle(data: Data, pixels: PixelFormat, out: Array) -> None:
    """Decode the byte planes of one frame, most significant first, to little endian cells, sample by sample.

    Parameters
    ----------
    data
        An RLE header and its segments.
    out : uint8, shape (bytes,)
        Of all cells of the frame; C order.

    Raises
    ------
    SourceError
        TRUNCATED if segments give too little, DECODE if they are damaged; what they give too much is dropped.
    imagecodecs.PackbitsError
        If they are damaged in another way.
    """
    sample_bytes = native.cell_bits(pixels) // 8 or 1
    if pixels.bits_allocated % 8 and pixels.bits_allocated != 1:
        raise SourceError(Code.UNSUPPORTED_PIXELS, f"RLE of {pixels.bits_allocated} bits allocated is not defined")
    if not is_rle(data, pixels):
        raise SourceError(Code.DECODE, f"the RLE header is not one of {pixels.samples} samples")
    if _RLE is not None and _RLE.decode_rle(data, sample_bytes, out.data):
        return
    offsets = _segment_offsets(data)
    if offsets != sorted(offsets):  # some end dicomrle_decode, and the process
        raise SourceError(Code.DECODE, f"the RLE header has segments beyond its {len(data)} bytes, or in no order")
    decoded = _by_imagecodecs(data, native.stored_dtype(pixels), sample_bytes, out)
    if decoded < len(out):
        raise SourceError(Code.TRUNCATED, f"RLE gives {decoded} bytes, {len(out)} are expected")


def _by_imagecodecs(data: Data, dtype: np.dtype[Any], sample_bytes: int, out: Array) -> int:
    """Return the bytes that are right."""
    from imagecodecs import DicomrleError, dicomrle_decode

    if sample_bytes == dtype.itemsize:
        try:
            return len(dicomrle_decode(data, dtype.str, out=out.data))
        except DicomrleError:  # a segment gives more than it should, for example two bytes of padding
            pass
    return _by_segments(data, sample_bytes, out)


def _segment_offsets(data: Data) -> list[int]:
    """Return where the segments of an RLE frame begin, and where the last one ends (PS3.5 G.5)."""
    count = int.from_bytes(data[:4], "little")
    return [*np.frombuffer(data, "<u4", count, 4).tolist(), len(data)]


def _by_segments(data: Data, sample_bytes: int, out: Array) -> int:
    """Decode one segment after the other and drop what is too much; return the bytes that are right."""
    from imagecodecs import packbits_decode

    offsets = _segment_offsets(data)
    count = len(offsets) - 1
    planes = out.reshape(count // sample_bytes, -1, sample_bytes)
    filled = 0
    for number in range(count):
        segment = np.frombuffer(packbits_decode(data[offsets[number] : offsets[number + 1]]), np.uint8)
        plane = planes[number // sample_bytes, :, sample_bytes - 1 - number % sample_bytes]
        if len(segment) < len(plane):
            break
        plane[:] = segment[: len(plane)]
        filled += len(plane)
    return filled
