"""YBR and palettes to RGB (PS3.3 C.7.6.3.1.2, C.7.6.3.1.5, C.7.9.2)."""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from fastdcm.errors import Code, SourceError

if TYPE_CHECKING:
    from pydicom import Dataset

Array = npt.NDArray[Any]

FULL = np.asarray(
    [[1.0, 1.0, 1.0], [0.0, -0.114 * 1.772 / 0.587, 1.772], [1.402, -0.299 * 1.402 / 0.587, 0.0]], np.float32
)
"""Rows Y, CB, CR; columns R, G, B."""
PARTIAL = np.asarray([[1.1644, 1.1644, 1.1644], [0.0, -0.3917, 2.0173], [1.5960, -0.8129, 0.0]], np.float32)
"""CCIR 601-2 with Y of 16 to 235 and chroma of 16 to 240 of 8 bits."""
ROWS_AT_ONCE_BYTES = 2**22
PALETTE_ENTRIES_MAX = 2**16
COLOURS = ("Red", "Green", "Blue")


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
    from pydicom import dcmread

    header_set = dcmread(BytesIO(header), force=True, stop_before_pixels=True)
    if "RedPaletteColorLookupTableDescriptor" not in header_set:
        raise SourceError(Code.UNSUPPORTED_PIXELS, "PALETTE COLOR without a palette in the header")
    order = "<" if header_set.original_encoding[1] in (True, None) else ">"
    tables = [_one_table(header_set, colour, order) for colour in COLOURS]
    size = min(len(table) for table in tables)
    if size == 0:
        raise SourceError(Code.UNSUPPORTED_PIXELS, "the palette has no entries")
    first = int(header_set.RedPaletteColorLookupTableDescriptor[1])
    if header_set.get("PixelRepresentation") == 1 and first >= 2**15:
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


def _one_table(header: Dataset, colour: str, order: str) -> Array:
    descriptor = header.get(f"{colour}PaletteColorLookupTableDescriptor")
    if descriptor is None or len(descriptor) != 3:
        raise SourceError(Code.UNSUPPORTED_PIXELS, f"the {colour.lower()} palette has no descriptor of three numbers")
    entries, bits = int(descriptor[0]) or PALETTE_ENTRIES_MAX, int(descriptor[2])
    data = header.get(f"{colour}PaletteColorLookupTableData")
    if data:
        return _plain_table(bytes(data), entries, order)
    data = header.get(f"Segmented{colour}PaletteColorLookupTableData")
    if not data or bits not in (8, 16):
        raise SourceError(Code.UNSUPPORTED_PIXELS, f"the {colour.lower()} palette has no data")
    return _segmented_table(bytes(data), bits, order)[:entries]


def _plain_table(data: bytes, entries: int, order: str) -> Array:
    """Return the entries; their width is what the data have room for, whatever the descriptor says."""
    if len(data) >= 2 * entries:
        return np.frombuffer(data, f"{order}u2", entries).astype("<u2")
    if order == ">" and len(data) % 2 == 0:
        data = np.frombuffer(data, "<u2").byteswap().tobytes()
    return np.frombuffer(data, np.uint8, min(entries, len(data)))


def _segmented_table(data: bytes, bits: int, order: str) -> Array:
    """Expand discrete, linear and indirect segments (PS3.3 C.7.9.2), never beyond 65536 entries."""
    words = np.frombuffer(data, np.uint8 if bits == 8 else f"{order}u2", len(data) // (bits // 8)).tolist()
    table: list[int] = []
    _expand(words, 0, None, table, bits, order)
    return np.asarray(table[:PALETTE_ENTRIES_MAX], f"<u{bits // 8}")


def _expand(words: list[int], at: int, segments: int | None, table: list[int], bits: int, order: str) -> None:
    """Append the entries of the segments from ``at`` on; ``segments`` counts those of an indirect one."""
    while at + 1 < len(words) and segments != 0 and len(table) < PALETTE_ENTRIES_MAX:
        kind, length = words[at], words[at + 1]
        if kind == 0:
            table.extend(words[at + 2 : at + 2 + length])
            at += 2 + length
        elif kind == 1 and table and at + 2 < len(words):
            table.extend(np.around(np.linspace(table[-1], words[at + 2], length + 1)[1:]).astype(int).tolist())
            at += 3
        elif kind == 2 and segments is None and at + 6 - bits // 4 < len(words) + 1:
            offset, width = _offset(words, at + 2, bits, order)
            _expand(words, offset // (bits // 8) if bits == 8 else offset, length, table, bits, order)
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
