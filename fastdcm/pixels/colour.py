"""YBR and palettes to RGB (PS3.3 C.7.6.3.1.2, C.7.6.3.1.5, C.7.9.2)."""

from __future__ import annotations

import struct
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from fastdcm.errors import Code, SourceError
from fastdcm.scan import elements
from fastdcm.scan.rules import Raw

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

Array = npt.NDArray[Any]

FULL = np.asarray(
    [[1.0, 1.0, 1.0], [0.0, -0.114 * 1.772 / 0.587, 1.772], [1.402, -0.299 * 1.402 / 0.587, 0.0]], np.float32
)
"""Rows Y, CB, CR; columns R, G, B."""
PARTIAL = np.asarray([[1.1644, 1.1644, 1.1644], [0.0, -0.3917, 2.0173], [1.5960, -0.8129, 0.0]], np.float32)
"""CCIR 601-2 with Y of 16 to 235 and chroma of 16 to 240 of 8 bits."""
ROWS_AT_ONCE_BYTES = 2**22
PALETTE_ENTRIES_MAX = 2**16
PALETTE_WORDS_MAX = 2**20
"""A segmented table is there to be shorter than a plain one of 65536."""
COLOURS = ("red", "green", "blue")
DESCRIPTOR, PLAIN_TABLE, SEGMENTED_TABLE = 0x00281101, 0x00281201, 0x00281221
"""Tags of the red ones; green and blue follow (PS3.3 C.7.6.3.1.5, C.7.9.2)."""
PIXEL_REPRESENTATION = 0x00280103


def ybr_to_rgb(ybr: Array, bits: int, partial: bool) -> Array:
    """Return RGB of a YBR frame, rounded half up and clipped.

    Parameters
    ----------
    ybr : unsigned integers, shape (3, rows, columns)
    bits
        Bits stored of a sample: chroma is centred at half their range.
    partial
        True for YBR_PARTIAL_*: black is at 1/16 of the range.

    Returns
    -------
    array of the same type and shape
    """
    half, top = float(1 << (bits - 1)), float((1 << bits) - 1)
    black = np.asarray([half / 8 if partial else 0.0, half, half], np.float32)
    rgb = np.empty(ybr.shape, ybr.dtype)
    step = max(1, ROWS_AT_ONCE_BYTES // (12 * ybr.shape[2]))
    for row in range(0, ybr.shape[1], step):
        block = np.moveaxis(ybr[:, row : row + step], 0, -1).astype(np.float32, order="C")
        block -= black
        block = np.matmul(block, PARTIAL if partial else FULL)
        block += np.float32(0.5)
        np.floor(block, out=block)
        np.clip(block, 0, top, out=block)
        rgb[:, row : row + step] = np.moveaxis(block, -1, 0)
    return rgb


# ---------------------------------------------------------------------------- palettes


def read_palette(header: bytes) -> tuple[Array, int]:
    """Return the palette of a file's header: (3, entries) of uint8 or uint16, and the first value mapped.

    Raises
    ------
    SourceError
        UNSUPPORTED_PIXELS if there is none, or its parts do not fit together.
    """
    from fastdcm.scan.reference import read_header

    header_set = read_header(BytesIO(header), len(header)).dataset
    tables = [_one_table(header_set, number) for number in range(len(COLOURS))]
    size = min(len(table) for table in tables)
    if size == 0:
        raise SourceError(Code.UNSUPPORTED_PIXELS, "the palette has no entries")
    first = _descriptor(header_set, 0)[1]
    if elements.number(header_set, PIXEL_REPRESENTATION, "US") == 1 and first >= 2**15:
        first -= 2**16
    return np.stack([table[:size] for table in tables]), first


def apply_palette(index: Array, palette: Array, first: int) -> Array:
    """Return (3, rows, columns) RGB of palette indices (rows, columns); indices outside take the nearest entry."""
    info = np.iinfo(index.dtype)
    if info.bits <= 16:
        every = np.arange(info.min, info.max + 1)
        wide = palette[:, np.clip(every - first, 0, palette.shape[1] - 1)]
        return np.take(wide, index.astype(np.intp) - info.min, axis=1)
    return np.take(palette, np.clip(index.astype(np.int64) - first, 0, palette.shape[1] - 1), axis=1)


def _descriptor(header: Dataset, number: int) -> tuple[int, int, int]:
    """Return entries, first value mapped (as unsigned) and bits of one colour's table."""
    descriptor = elements.raw_element(header, DESCRIPTOR + number)
    if descriptor is None or len(descriptor.value) != 6:
        raise SourceError(Code.UNSUPPORTED_PIXELS, f"the {COLOURS[number]} palette has no descriptor of three numbers")
    entries, first, bits = struct.unpack(f"{_order(descriptor)}3H", descriptor.value)
    return entries or PALETTE_ENTRIES_MAX, first, bits


def _order(element: Raw) -> str:
    return "<" if element.little_endian else ">"


def _one_table(header: Dataset, number: int) -> Array:
    entries, _, bits = _descriptor(header, number)
    plain = elements.raw_element(header, PLAIN_TABLE + number)
    if plain is not None:
        return _plain_table(plain.value, entries, _order(plain))
    segmented = elements.raw_element(header, SEGMENTED_TABLE + number)
    if segmented is None or bits not in (8, 16):
        raise SourceError(Code.UNSUPPORTED_PIXELS, f"the {COLOURS[number]} palette has no data")
    return _segmented_table(segmented.value, bits, _order(segmented))[:entries]


def _plain_table(data: bytes, entries: int, order: str) -> Array:
    """Return the entries; their width is what the data have room for, whatever the descriptor says."""
    if len(data) >= 2 * entries:
        return np.frombuffer(data, f"{order}u2", entries).astype("<u2")
    if order == ">" and len(data) % 2 == 0:
        data = np.frombuffer(data, "<u2").byteswap().tobytes()
    return np.frombuffer(data, np.uint8, min(entries, len(data)))


def _segmented_table(data: bytes, bits: int, order: str) -> Array:
    """Expand discrete, linear and indirect segments (PS3.3 C.7.9.2), never beyond 65536 entries."""
    count = min(len(data) // (bits // 8), PALETTE_WORDS_MAX)
    words = np.frombuffer(data, np.uint8 if bits == 8 else f"{order}u2", count).tolist()
    table: list[int] = []
    _expand(_Segments(words, bits, order), 0, None, table)
    return np.asarray(table[:PALETTE_ENTRIES_MAX], f"<u{bits // 8}")


class _Segments:
    """The words of a segmented table, and how many more segments may be read from them (empty ones add nothing)."""

    def __init__(self, words: list[int], bits: int, order: str) -> None:
        self.words, self.bits, self.order, self.left = words, bits, order, PALETTE_ENTRIES_MAX * 2


def _expand(coded: _Segments, at: int, segments: int | None, table: list[int]) -> None:
    """Append the entries of the segments from ``at`` on; ``segments`` counts those of an indirect one."""
    words, bits = coded.words, coded.bits
    while at + 1 < len(words) and segments != 0 and len(table) < PALETTE_ENTRIES_MAX:
        kind, length = words[at], words[at + 1]
        coded.left -= 1
        if coded.left < 0:
            raise SourceError(Code.UNSUPPORTED_PIXELS, "the palette has more segments than entries")
        if kind == 0:
            table.extend(words[at + 2 : at + 2 + length])
            at += 2 + length
        elif kind == 1 and table and at + 2 < len(words):
            table.extend(np.around(np.linspace(table[-1], words[at + 2], length + 1)[1:]).astype(int).tolist())
            at += 3
        elif kind == 2 and segments is None and at + 6 - bits // 4 < len(words) + 1:
            offset, width = _offset(words, at + 2, bits, coded.order)
            _expand(coded, offset // (bits // 8) if bits == 8 else offset, length, table)
            at += 2 + width
        elif not any(words[at:]):  # padding
            return
        else:
            raise SourceError(Code.UNSUPPORTED_PIXELS, f"segment type {kind} of the palette is not possible there")
        segments = None if segments is None else segments - 1


def _offset(words: list[int], at: int, bits: int, order: str) -> tuple[int, int]:
    """Return an indirect segment's offset and how many words it takes: the low 16 bits come first."""
    if bits == 16:
        return words[at] | words[at + 1] << 16, 2
    low, high = (words[at : at + 2], words[at + 2 : at + 4])
    if order == ">":
        low, high = low[::-1], high[::-1]
    return low[0] | low[1] << 8 | high[0] << 16 | high[1] << 24, 4
