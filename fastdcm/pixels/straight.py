"""Which one call decodes a compressed frame straight into the memory of its values, and what these are then.

``decode.decode_frame`` is the whole of decoding; what it does with frames that are as they should be is here taken
apart into what comes before the decoder, the decoder, and what comes after it, so that each can be done for many.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fastdcm.model import PixelFormat
from fastdcm.pixels import native
from fastdcm.pixels.codestream import Codestream
from fastdcm.pixels.decode import (
    CODECS,
    END,
    check_rle_size,
    check_stream,
    converts_ybr,
    decoded_type,
    decoder_of,
    find_codec,
    is_repaired,
    is_ybr,
    memory_for,
    sign_changed,
)
from fastdcm.pixels.rle import unpack_rle

Array = npt.NDArray[Any]


ASIDE_BYTES_MAX = 2**22
"""Of a frame that cannot be decoded into the block; larger ones go the plain way."""
STRAIGHT = frozenset({"rle", "jpeg", "jpegls", "jpeg2000", "htj2k"})


@dataclass(slots=True)
class Memory:
    """What frame after frame is read and decoded into: new memory costs as much as filling it."""

    data: bytearray
    aside: Array

    def aside_of(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        """Return memory for decoded samples, in C order."""
        if (self.aside.shape, self.aside.dtype) != (shape, dtype):
            self.aside = np.empty(shape, dtype)
        return self.aside


def new_memory() -> Memory:
    """Return memory that holds nothing yet."""
    return Memory(bytearray(), np.empty(0, np.uint8))


class Straight(NamedTuple):
    """A frame that is ready to be decoded."""

    decode: Callable[[], object]
    """Raises what ``decode_frame`` does, and what decoders of other libraries do."""
    values: Array
    """(rows, columns) or (rows, columns, 3): the stored values then, but for bits that are to be cleared."""
    bits: int
    """How many of them are kept, 0: all."""
    high_bit: int
    in_place: bool
    """The values lie where the output values will."""


def may_be_straight(pixels: PixelFormat) -> bool:
    """Tell whether a frame whose transfer syntax and header are right may be decoded so."""
    codec = CODECS.get(pixels.transfer_syntax)
    if codec not in STRAIGHT or pixels.samples not in (1, 3) or pixels.photometric.startswith("PALETTE"):
        return False
    return codec != "rle" or (pixels.samples == 1 and pixels.bits_allocated in (8, 16, 32, 64))


def straight_into(out: Array, memory: Memory, pixels: PixelFormat) -> Straight | None:
    """Say how a frame is decoded straight into ``out``, or else aside; None where ``decode_frame`` has more to do.

    Parameters
    ----------
    out : shape (rows, columns) or (3, rows, columns)
    memory
        Its data: all fragments of the frame, joined; to stay as they are until it is decoded.

    Raises
    ------
    SourceError
        As ``decode_frame``.
    """
    found = find_codec(memory.data, pixels)
    if found.codec is None or is_repaired(found.codec, pixels):
        return None
    if found.codec == "rle":
        return _rle(out, memory, pixels)
    stream = found.stream
    if stream is None or END not in memory.data[-32:]:
        return None
    check_stream(stream, pixels, len(memory.data))
    converts = converts_ybr(stream, pixels)
    target = _target(out, decoded_type(stream), memory, pixels)
    if target is None or (is_ybr(stream, pixels) and not converts):
        return None
    stored, bits = _stored(stream, pixels, target.dtype)
    if bits > 8 * target.itemsize:
        return None
    decode = partial(decoder_of(stream, converts), memory.data, out=target)
    return Straight(decode, target.view(stored), bits, bits - 1, target is not memory.aside)


def _target(out: Array, decoded: np.dtype[Any], memory: Memory, pixels: PixelFormat) -> Array | None:
    """Return what is decoded into."""
    target = memory_for(out, decoded, pixels)
    if target is not None or decoded.kind not in "iu" or native.cell_bits(pixels) == 1:
        return target
    shape = (pixels.rows, pixels.columns) if pixels.samples == 1 else (pixels.rows, pixels.columns, 3)
    if out.shape != (*shape[2:], *shape[:2]) or out.size * decoded.itemsize > ASIDE_BYTES_MAX:
        return None
    return memory.aside_of(shape, decoded)


def _stored(stream: Codestream, pixels: PixelFormat, decoded: np.dtype[Any]) -> tuple[np.dtype[Any], int]:
    """Return the type of the values and how many of its bits they have, 0: all; see ``decode_frame``."""
    stored = sign_changed(decoded) if stream.signed != pixels.signed else decoded
    if stream.codec == "jpeg":
        return stored, pixels.bits_stored
    return stored, 0 if stored == decoded else stream.bits


def _rle(out: Array, memory: Memory, pixels: PixelFormat) -> Straight | None:
    check_rle_size(memory.data, pixels)
    target = _target(out, native.stored_dtype(pixels), memory, pixels)
    if target is None or not may_be_straight(pixels):
        return None
    decode = partial(unpack_rle, memory.data, pixels, target.reshape(-1).view(np.uint8))
    return Straight(decode, target, pixels.bits_stored, pixels.high_bit, target is not memory.aside)
