"""One frame of an open file to stored values: finds its bytes, native or encapsulated, and decodes them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fastdcm.errors import Code, SourceError
from fastdcm.model import FrameSource, PixelFormat
from fastdcm.pixels import native
from fastdcm.pixels.colour import apply_palette, read_palette
from fastdcm.pixels.decode import decode_frame, find_codec, finish_native, is_repaired
from fastdcm.pixels.file import SourceFile
from fastdcm.pixels.locate import frame_ranges

Array = npt.NDArray[Any]

ITEM_TAG = b"\xfe\xff\x00\xe0"
SAMPLE_BYTES = 2**18
"""Of pixels that are looked at to tell how they are encoded."""
UNDEFINED_LENGTHS = (-1, 0xFFFFFFFF)


@dataclass(frozen=True, slots=True, eq=False)
class Layout:
    """How the pixel value of one file is laid out; worked out once a file."""

    pixels: PixelFormat
    """As the bytes are, which is not always what the transfer syntax says."""
    ranges: list[tuple[tuple[int, int], ...]] | None
    """Fragments of each frame, None for native pixels."""
    halved: bool
    """Native YBR_*_422 with chroma for every second column."""
    swapped: bool
    """Cells in big endian words of 16 bits: once these are swapped, all is little endian, and ``pixels`` say so."""
    palette: tuple[Array, int] | None
    notes: tuple[tuple[Code, str], ...]


def layout_of(file: SourceFile, source: FrameSource, *, expand_palette: bool) -> Layout:
    """Look at the pixel value's first bytes and say how frames are read from it.

    Raises
    ------
    SourceError
        If frames cannot be located, or there is no palette where one is to be expanded.
    """
    pixels = source.format
    notes: list[tuple[Code, str]] = []
    palette = None
    if expand_palette and pixels.photometric.startswith("PALETTE"):
        header = file.header()
        if header is None:
            raise SourceError(Code.UNSUPPORTED_PIXELS, "the header is too long to look for a palette")
        palette = read_palette(header)
    if _is_encapsulated(file, pixels):
        located = source._replace(pixel_offset=file.pixel_offset, pixel_length=file.pixel_length)
        ranges = frame_ranges(file.reader, located)
        if len(ranges) > pixels.n_frames:
            notes.append((Code.LONG_PIXEL_DATA, f"{len(ranges)} frames of pixel data, {pixels.n_frames} are expected"))
        return Layout(pixels, ranges, False, False, palette, tuple(notes))
    if pixels.transfer_syntax not in native.NATIVE_SYNTAXES:
        notes.append((Code.REPAIRED_SYNTAX, f"native pixels under transfer syntax {pixels.transfer_syntax}"))
        pixels = pixels._replace(transfer_syntax=native.EXPLICIT_LITTLE_ENDIAN)
    return _native_layout(pixels, file.pixel_length, _is_swapped(file, pixels), palette, notes)


def plain_layout(pixels: PixelFormat, pixel_length: int) -> Layout | None:
    """Return what ``layout_of`` says where it need not look into the file: native pixels without a palette, else None.

    Raises
    ------
    SourceError
        UNSUPPORTED_PIXELS.
    """
    undefined = pixel_length in UNDEFINED_LENGTHS
    if undefined or pixels.transfer_syntax not in native.NATIVE_SYNTAXES or pixels.photometric.startswith("PALETTE"):
        return None
    if pixels.transfer_syntax == native.EXPLICIT_BIG_ENDIAN:
        return None
    return _native_layout(pixels, pixel_length, False, None, [])


def _native_layout(
    pixels: PixelFormat,
    pixel_length: int,
    swapped: bool,
    palette: tuple[Array, int] | None,
    notes: list[tuple[Code, str]],
) -> Layout:
    pixels = pixels._replace(transfer_syntax=native.EXPLICIT_LITTLE_ENDIAN) if swapped else pixels
    halved = native.is_halved(pixels, pixel_length)
    expected = -(-native.frame_bits(pixels, halved) * pixels.n_frames // 8)
    if pixel_length > expected + expected % 2:
        notes.append((Code.LONG_PIXEL_DATA, f"{pixel_length} bytes of pixel data, {expected} are expected"))
    return Layout(pixels, None, halved, swapped, palette, tuple(notes))


def _is_encapsulated(file: SourceFile, pixels: PixelFormat) -> bool:
    if file.pixel_length in UNDEFINED_LENGTHS:
        if file.inflated is not None:
            raise SourceError(Code.UNSUPPORTED_PIXELS, "encapsulated pixels in a deflated data set")
        return True
    if pixels.transfer_syntax in native.NATIVE_SYNTAXES or file.pixel_length < 8:
        return False
    return bytes(file.read(file.pixel_offset, 4)) == ITEM_TAG


def _is_swapped(file: SourceFile, pixels: PixelFormat) -> bool:
    """Tell whether cells of not 16 bits lie in big endian words: the element's VR is OW (PS3.5 6.2 and 7.3).

    So dcmtk and GDCM write cells of 32 bits; pydicom takes them for big endian as a whole, and files are found in both
    ways: there the values tell.
    """
    bits = native.cell_bits(pixels)
    if pixels.transfer_syntax != native.EXPLICIT_BIG_ENDIAN or pixels.keyword in native.FLOATS:
        return False
    if bits == 16 or file.pixel_offset < 8:
        return False
    if bytes(file.read(file.pixel_offset - 8, 2)) != b"OW":
        return False
    return bits not in (32, 64) or not native.are_whole_cells(_sample(file, bits // 8), bits)


def _sample(file: SourceFile, cell_bytes: int) -> bytearray:
    """Return cells from the middle of the pixel value."""
    length = min(file.pixel_length, SAMPLE_BYTES) // cell_bytes * cell_bytes
    middle = (file.pixel_length - length) // 2 // cell_bytes * cell_bytes
    return file.read(file.pixel_offset + middle, length)


def read_frame(
    file: SourceFile,
    layout: Layout,
    frame: int,
    rows: tuple[int, int],
    out: Array | None = None,
    memory: bytearray | None = None,
) -> tuple[Array, str | None]:
    """Return the stored values of some rows of a frame, and what was repaired.

    A compressed frame may be decoded into ``out``, as ``decode_frame`` says, and is a view of it then. Its bytes are
    read into ``memory``, of which the values may be a view too.

    Returns
    -------
    array, shape (rows, columns), or (samples, rows, columns) for more than one sample (a palette makes three)
    str or None
        Message of ``Code.REPAIRED_SYNTAX``.

    Raises
    ------
    SourceError
        If the bytes are not there or cannot be decoded.
    Exception
        Whatever a decoder of another library raises.
    """
    repaired = None
    if layout.ranges is None:
        stored = finish_native(_read_native(file, layout, frame, rows), layout.pixels)
    else:
        data = encapsulated_bytes(file, layout, frame, memory)
        found = find_codec(data, layout.pixels)
        if found.codec is not None and is_repaired(found.codec, layout.pixels):
            repaired = f"{found.codec} pixels under transfer syntax {layout.pixels.transfer_syntax}"
        stored = decode_frame(data, layout.pixels, out, found)[..., slice(*rows), :]
    if layout.palette is not None and stored.ndim == 2:
        stored = apply_palette(stored, *layout.palette)
    return stored, repaired


def encapsulated_bytes(file: SourceFile, layout: Layout, frame: int, memory: bytearray | None = None) -> bytearray:
    """Return a frame's fragments, joined; in ``memory``, as ``SourceFile.read_parts`` says."""
    ranges = layout.ranges or []
    if not 0 <= frame < len(ranges):
        raise SourceError(Code.TRUNCATED, f"frame {frame + 1} is wanted, there are {len(ranges)}")
    return file.read_parts(ranges[frame], memory)


def native_range(layout: Layout, frame: int, rows: tuple[int, int]) -> tuple[int, int, int]:
    """Return where rows of a native frame are in the pixel value: byte offset, length, first bit in the first byte.

    Whole frames are taken where rows are not whole bytes or samples are in planes.
    """
    bits = native.frame_bits(layout.pixels, layout.halved)
    first, last = frame * bits, (frame + 1) * bits
    if rows_are_apart(layout.pixels):
        row_bits = bits // layout.pixels.rows
        first, last = first + rows[0] * row_bits, first + rows[1] * row_bits
    offset = first // 8
    return offset, -(-last // 8) - offset, first % 8


def rows_are_apart(pixels: PixelFormat) -> bool:
    """Tell whether a band of rows is one range of whole bytes."""
    planes = pixels.samples > 1 and pixels.planar == 1
    return native.cell_bits(pixels) % 8 == 0 and not planes


def is_direct(layout: Layout, out: Array, rows: tuple[int, int]) -> bool:
    """Tell whether the file's bytes can be read into the block's own memory and finished there."""
    pixels = layout.pixels
    dtype = native.stored_dtype(pixels)
    return (
        layout.ranges is None
        and pixels.samples == 1
        and native.cell_bits(pixels) == 8 * dtype.itemsize
        and layout.palette is None
        and not layout.swapped
        and rows_are_apart(pixels)
        and (dtype.itemsize == 1 or not native.is_big_endian(pixels))
        and out.shape == (rows[1] - rows[0], pixels.columns)
        and out.flags.c_contiguous
        and (
            out.dtype == dtype or (out.dtype.itemsize == dtype.itemsize and {out.dtype.kind, dtype.kind} <= {"i", "u"})
        )
    )


def check_native_range(file: SourceFile, offset: int, length: int) -> None:
    """Raise TRUNCATED if a range is not inside the pixel value."""
    if offset + length > file.pixel_length:
        raise SourceError(
            Code.TRUNCATED, f"the pixel data have {file.pixel_length} bytes, {offset + length} are expected"
        )


def _read_native(file: SourceFile, layout: Layout, frame: int, rows: tuple[int, int]) -> Array:
    pixels = layout.pixels
    offset, length, first_bit = native_range(layout, frame, rows)
    check_native_range(file, offset, length)
    if layout.swapped:
        start, stop = offset - offset % 2, offset + length + (offset + length) % 2
        data = native.swap_words(file.read(file.pixel_offset + start, stop - start))
        data = data[offset - start : offset - start + length]
    else:
        data = file.read(file.pixel_offset + offset, length)
    if rows_are_apart(pixels):
        return native.unpack(data, pixels, rows[1] - rows[0], halved=layout.halved)
    whole = native.unpack(data, pixels, pixels.rows, first_bit=first_bit, halved=layout.halved)
    return whole[..., slice(*rows), :]


def cut_tile(frame: Array, tile: int, tiles: int) -> Array:
    """Return one tile of a mosaic: a square grid of tiles, row by row, wide enough for all of them.

    Parameters
    ----------
    frame : shape (rows, columns)
    tile, tiles
        Which, of how many.
    """
    side = int(np.ceil(np.sqrt(tiles)))
    rows, columns = frame.shape[-2] // side, frame.shape[-1] // side
    y, x = divmod(tile, side)
    return frame[..., y * rows : (y + 1) * rows, x * columns : (x + 1) * columns]
