"""Uncompressed pixel cells to stored values (PS3.5 8.1.1, PS3.3 C.7.6.3.1)."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from fastdcm.errors import Code, SourceError
from fastdcm.model import PixelFormat

Array = npt.NDArray[Any]
Data = bytes | bytearray | memoryview

EXPLICIT_LITTLE_ENDIAN = "1.2.840.10008.1.2.1"
EXPLICIT_BIG_ENDIAN = "1.2.840.10008.1.2.2"
GE_PRIVATE_BIG_ENDIAN_PIXELS = "1.2.840.113619.5.2"
NATIVE_SYNTAXES = frozenset(
    {
        "1.2.840.10008.1.2",
        EXPLICIT_LITTLE_ENDIAN,
        "1.2.840.10008.1.2.1.99",
        EXPLICIT_BIG_ENDIAN,
        GE_PRIVATE_BIG_ENDIAN_PIXELS,
    }
)
FLOATS = {"FloatPixelData": 32, "DoubleFloatPixelData": 64}
STORED_TYPES: dict[tuple[str, int], np.dtype[Any]] = {
    **{("f", bits): np.dtype(f"<f{bits // 8}") for bits in (32, 64)},
    **{
        (kind, bits): np.dtype(f"<{kind if bits > 1 else 'u'}{next(size for size in (1, 2, 4, 8) if bits <= 8 * size)}")
        for kind in "iu"
        for bits in range(1, 65)
    },
}
"""By kind and allocated bits: the smallest that holds them; a bit has no sign."""


def is_big_endian(pixels: PixelFormat) -> bool:
    """Tell whether the most significant byte of a pixel comes first."""
    return pixels.transfer_syntax in (EXPLICIT_BIG_ENDIAN, GE_PRIVATE_BIG_ENDIAN_PIXELS)


def stored_dtype(pixels: PixelFormat) -> np.dtype[Any]:
    """Return the little endian type of one stored value once it is unpacked.

    Raises
    ------
    SourceError
        UNSUPPORTED_PIXELS for a number of allocated bits that no decoder knows.
    """
    if pixels.keyword in FLOATS:
        return STORED_TYPES["f", FLOATS[pixels.keyword]]
    dtype = STORED_TYPES.get(("i" if pixels.signed else "u", pixels.bits_allocated))
    if dtype is None:
        raise SourceError(Code.UNSUPPORTED_PIXELS, f"{pixels.bits_allocated} bits allocated are not supported")
    return dtype


def cell_bits(pixels: PixelFormat) -> int:
    """Return the bits that one sample takes in the file."""
    return FLOATS.get(pixels.keyword, pixels.bits_allocated)


def is_halved(pixels: PixelFormat, pixel_length: int) -> bool:
    """Tell whether chroma is there for every second column only (Y Y Cb Cr, PS3.3 C.7.6.3.1.2).

    Some writers say YBR_FULL_422 and store all three samples: then the length tells.
    """
    full = pixels.rows * pixels.columns * 3 * pixels.n_frames * cell_bits(pixels) // 8
    return (
        pixels.photometric in ("YBR_FULL_422", "YBR_PARTIAL_422")
        and pixels.samples == 3
        and pixels.columns % 2 == 0
        and pixel_length < full
    )


def frame_bits(pixels: PixelFormat, halved: bool) -> int:
    """Return the bits of one frame; frames follow each other without padding."""
    samples = 2 if halved else pixels.samples
    return pixels.rows * pixels.columns * samples * cell_bits(pixels)


def unpack(data: Data, pixels: PixelFormat, rows: int, *, first_bit: int = 0, halved: bool = False) -> Array:
    """Return the stored values of ``rows`` rows of one frame.

    Parameters
    ----------
    data
        The bytes that hold the rows, all samples of them; 16-bit words already in little endian order where the
        samples are smaller than 16 bits.
    first_bit
        Where the first pixel begins in the first byte (frames of 1 or 12 bits need not begin at a byte).
    halved
        See ``is_halved``.

    Returns
    -------
    array of ``stored_dtype``, shape (rows, columns), or (samples, rows, columns) for more than one sample
        Little endian; may be a view of ``data``. Unused bits are still in it.
    """
    samples = 2 if halved else pixels.samples
    count = rows * pixels.columns * samples
    dtype = stored_dtype(pixels)
    if cell_bits(pixels) == 1:
        flat = np.unpackbits(np.frombuffer(data, np.uint8), bitorder="little")[first_bit : first_bit + count]
    elif cell_bits(pixels) == 12:
        flat = _unpack_12_bits(np.frombuffer(data, np.uint8), first_bit, count).view(dtype)
    elif cell_bits(pixels) % 8:
        flat = _unpack_bits(np.frombuffer(data, np.uint8), cell_bits(pixels), first_bit, count, dtype)
    elif cell_bits(pixels) != 8 * dtype.itemsize:
        cells = np.frombuffer(data, np.uint8, count * cell_bits(pixels) // 8).reshape(count, -1)
        flat = _widen(cells[:, ::-1] if is_big_endian(pixels) else cells, dtype)
    else:
        flat = np.frombuffer(data, dtype.newbyteorder(">") if is_big_endian(pixels) else dtype, count)
        flat = flat.astype(dtype, copy=False)
    if halved:
        return _double_chroma(flat, rows, pixels.columns)
    if samples == 1:
        return flat.reshape(rows, pixels.columns)
    if pixels.planar == 1:
        return flat.reshape(samples, rows, pixels.columns)
    return np.moveaxis(flat.reshape(rows, pixels.columns, samples), -1, 0)


def _unpack_12_bits(data: Array, first_bit: int, count: int) -> Array:
    """Return little endian 12-bit cells as uint16; a cell is three nibbles, the lowest first."""
    nibbles = np.empty(2 * len(data), np.uint8)
    np.bitwise_and(data, 15, out=nibbles[0::2])
    np.right_shift(data, 4, out=nibbles[1::2])
    first = first_bit // 4
    low, middle, high = nibbles[first : first + 3 * count].reshape(count, 3).T
    values = high.astype("<u2")
    values <<= 4
    values |= middle
    values <<= 4
    values |= low
    return values


def _unpack_bits(data: Array, bits: int, first_bit: int, count: int, dtype: np.dtype[Any]) -> Array:
    """Return cells of any number of bits, one directly after the other, the least significant bit first.

    DICOM has but 1 and multiples of 8 (PS3.5 8.1.1); others are ACR-NEMA's, which filled its words so.
    """
    each = np.unpackbits(data, bitorder="little")[first_bit : first_bit + bits * count].reshape(count, bits)
    return _widen(np.packbits(each, axis=1, bitorder="little"), dtype)


def _widen(cells: Array, dtype: np.dtype[Any]) -> Array:
    """Return (count, bytes) cells, least significant byte first, as numbers of a wider type; without their sign."""
    wide = np.zeros((len(cells), dtype.itemsize), np.uint8)
    wide[:, : cells.shape[1]] = cells
    return wide.view(dtype)[:, 0]


def _double_chroma(flat: Array, rows: int, columns: int) -> Array:
    """Return (3, rows, columns) of Y1 Y2 Cb Cr groups; both pixels of a pair take the pair's chroma."""
    groups = flat.reshape(rows, columns // 2, 4)
    out = np.empty((3, rows, columns), flat.dtype)
    out[0] = groups[:, :, :2].reshape(rows, columns)
    out[1] = np.repeat(groups[:, :, 2], 2, axis=1)
    out[2] = np.repeat(groups[:, :, 3], 2, axis=1)
    return out


def are_whole_cells(data: Data, bits: int) -> bool:
    """Tell whether big endian cells of 32 or 64 bits have their most significant word first, against PS3.5 7.3.

    The words that change less from cell to cell are the most significant ones. Where neither does clearly, the
    standard holds: bytes are swapped within words of 16 bits, and the least significant word stays first.
    """
    words = np.frombuffer(data, ">u2").reshape(-1, bits // 16).astype("<u2")
    first, last = (np.abs(np.diff(words[:, place]).view("<i2").astype(np.int64)).sum() for place in (0, -1))
    return bool(2 * first < last)


def swap_words(data: Data) -> bytearray:
    """Return 16-bit words with their bytes swapped: how OW holds other cells in big endian (PS3.5 6.2 and 7.3)."""
    return bytearray(np.frombuffer(data, "<u2").byteswap().data.cast("B"))


def clear_unused_bits(values: Array, bits_stored: int, high_bit: int) -> Array:
    """Return integers of only the bits stored, shifted to bit 0 and sign-extended; in place where writable.

    Overlays and garbage in the other bits vanish (PS3.5 8.1.1). A high bit that cannot be one is ignored.
    """
    left, right = unused_bits(values.dtype, bits_stored, high_bit)
    if right == 0:
        return values
    if not values.flags.writeable:
        values = values.copy()
    if values.dtype.kind == "u" and left == right:
        values &= values.dtype.type((1 << bits_stored) - 1)
        return values
    values <<= left
    values >>= right
    return values


def unused_bits(dtype: np.dtype[Any], bits_stored: int, high_bit: int) -> tuple[int, int]:
    """Return the shifts, to the left and then to the right, that leave only the bits stored; (0, 0) if all are used."""
    container = 8 * dtype.itemsize
    if dtype.kind == "f" or not 0 < bits_stored < container:
        return 0, 0
    low = high_bit + 1 - bits_stored
    low = low if 0 < low <= container - bits_stored else 0
    return container - bits_stored - low, container - bits_stored
