"""Which one call decodes a compressed frame straight into the memory of its values, and what these are then.

``decode.decode_frame`` is the whole of decoding; what it does with grey frames that are as they should be is here taken
apart into what comes before the decoder, the decoder, and what comes after it, so that each can be done for many.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fastdcm.model import PixelFormat
from fastdcm.pixels import native
from fastdcm.pixels.codestream import Codestream, Data
from fastdcm.pixels.decode import (
    END,
    check_rle_size,
    check_stream,
    decoded_type,
    decoder_of,
    find_codec,
    is_repaired,
    memory_for,
    sign_changed,
)
from fastdcm.pixels.rle import unpack_rle

Array = npt.NDArray[Any]


class Straight(NamedTuple):
    """A frame that is ready to be decoded."""

    decode: Callable[[], object]
    """Raises what ``decode_frame`` does, and what decoders of other libraries do."""
    stored: np.dtype[Any]
    """How the memory is to be looked at then."""
    unused: tuple[int, int]
    """Bits that are to be cleared, as shifts to the left and then to the right."""


def straight_into(out: Array, data: Data, pixels: PixelFormat) -> Straight | None:
    """Say how a frame is decoded straight into ``out``; None where ``decode_frame`` has more to do.

    Parameters
    ----------
    out : shape (rows, columns)
    data
        All fragments of the frame, joined; to stay as they are until it is decoded.

    Raises
    ------
    SourceError
        As ``decode_frame``.
    """
    found = find_codec(data, pixels)
    if found.codec is None or is_repaired(found.codec, pixels):
        return None
    if found.codec == "rle":
        return _rle(out, data, pixels)
    if found.stream is None or END not in data[-32:]:
        return None
    check_stream(found.stream, pixels, len(data))
    memory = memory_for(out, decoded_type(found.stream), pixels)
    if memory is None:
        return None
    stored, bits = _stored(found.stream, pixels, memory.dtype)
    if bits > 8 * memory.itemsize:
        return None
    decode = partial(decoder_of(found.stream, False), data, out=memory)
    return Straight(decode, stored, native.unused_bits(stored, bits, bits - 1))


def _stored(stream: Codestream, pixels: PixelFormat, decoded: np.dtype[Any]) -> tuple[np.dtype[Any], int]:
    """Return the type of the values and how many of its bits they have, 0: all; see ``decode_frame``."""
    stored = sign_changed(decoded) if stream.signed != pixels.signed else decoded
    if stream.codec == "jpeg":
        return stored, pixels.bits_stored
    return stored, 0 if stored == decoded else stream.bits


def _rle(out: Array, data: Data, pixels: PixelFormat) -> Straight | None:
    check_rle_size(data, pixels)
    stored = native.stored_dtype(pixels)
    memory = memory_for(out, stored, pixels)
    if memory is None or native.cell_bits(pixels) != 8 * stored.itemsize:
        return None
    decode = partial(unpack_rle, data, pixels, memory.reshape(-1).view(np.uint8))
    return Straight(decode, stored, native.unused_bits(stored, pixels.bits_stored, pixels.high_bit))
