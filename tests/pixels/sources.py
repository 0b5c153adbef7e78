"""Tiny files around given pixel bytes, and where in them a frame is: nothing here comes from fastdcm.pixels."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pytest
from pydicom import Dataset, dcmread
from pydicom.datadict import tag_for_keyword

from fastdcm.model import FrameSource, PixelFormat, ValueRule
from fastdcm.pixels import finish, rle
from fastdcm.pixels.read import CellsRead, read_cells

Array = npt.NDArray[Any]

IMPLICIT = "1.2.840.10008.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"
DEFLATED = "1.2.840.10008.1.2.1.99"
BIG_ENDIAN = "1.2.840.10008.1.2.2"
GE_PRIVATE = "1.2.840.113619.5.2"
RLE = "1.2.840.10008.1.2.5"
DEFLATED_FRAMES = "1.2.840.10008.1.2.8.1"
JPEG = "1.2.840.10008.1.2.4."

LONG_VRS = (b"OB", b"OW", b"OF", b"OD", b"OV", b"SQ", b"UN")


def pixel_format(array: Array, syntax: str = EXPLICIT, **changes: Any) -> PixelFormat:
    """Return the format of an array (rows, columns) or (samples, rows, columns)."""
    samples = 1 if array.ndim == 2 else array.shape[0]
    bits = 8 * array.dtype.itemsize
    return PixelFormat(
        transfer_syntax=syntax,
        rows=array.shape[-2],
        columns=array.shape[-1],
        samples=samples,
        planar=0,
        photometric="RGB" if samples == 3 else "MONOCHROME2",
        bits_allocated=bits,
        bits_stored=changes.get("bits_stored", bits),
        high_bit=changes.get("bits_stored", bits) - 1,
        signed=array.dtype.kind == "i",
        n_frames=1,
        keyword="PixelData",
    )._replace(**changes)


def element(tag: int, vr: str, value: bytes, syntax: str = EXPLICIT, length: int | None = None) -> bytes:
    """Encode one data element."""
    order = ">" if syntax == BIG_ENDIAN else "<"
    length = len(value) if length is None else length
    head = struct.pack(f"{order}HH", tag >> 16, tag & 0xFFFF)
    if syntax in (IMPLICIT, GE_PRIVATE):
        return head + struct.pack("<I", length) + value
    if vr.encode() in LONG_VRS:
        return head + vr.encode() + struct.pack(f"{order}HI", 0, length) + value
    return head + vr.encode() + struct.pack(f"{order}H", length) + value


def items(*fragments: bytes, table: bytes = b"", delimiter: bool = True) -> bytes:
    """Encapsulate fragments (PS3.5 A.4)."""
    even = [fragment + b"\0" * (len(fragment) % 2) for fragment in fragments]
    parts = [b"\xfe\xff\x00\xe0" + struct.pack("<I", len(item)) + item for item in (table, *even)]
    return b"".join(parts) + (b"\xfe\xff\xdd\xe0\0\0\0\0" if delimiter else b"")


def basic_table(*frames: Sequence[bytes]) -> bytes:
    """Return the Basic Offset Table of frames of fragments."""
    offsets = np.cumsum([0] + [sum(8 + len(f) + len(f) % 2 for f in frame) for frame in frames[:-1]])
    return offsets.astype("<u4").tobytes()


def write(
    path: Path,
    pixels: PixelFormat,
    value: bytes,
    *,
    undefined: bool | None = None,
    vr: str = "OW",
    before: bytes = b"",
) -> FrameSource:
    """Write a file with the pixel value given, and say where its first frame is."""
    syntax = pixels.transfer_syntax
    native = syntax in (IMPLICIT, EXPLICIT, DEFLATED, BIG_ENDIAN, GE_PRIVATE)
    undefined = not native if undefined is None else undefined
    uid = syntax.encode() + b"\0" * (len(syntax) % 2)
    meta = element(0x00020010, "UI", uid)
    start = b"\0" * 128 + b"DICM" + element(0x00020000, "UL", struct.pack("<I", len(meta))) + meta
    value += b"\0" * (len(value) % 2)
    head = before + element(tag_for_keyword(pixels.keyword) or 0, vr, b"", syntax, len(value))
    if undefined:
        head = head[:-4] + b"\xff\xff\xff\xff"
    body = head + value
    if syntax == DEFLATED:
        import zlib

        deflater = zlib.compressobj(9, zlib.DEFLATED, -15)
        body = deflater.compress(body) + deflater.flush()
    path.write_bytes(start + body)
    status = os.stat(path)
    return FrameSource(
        path=str(path),
        size=status.st_size,
        mtime_ns=status.st_mtime_ns,
        pixel_offset=-1 if syntax == DEFLATED else len(start) + len(head),
        pixel_length=-1 if undefined else len(value),
        table_offset=-1,
        table_length=0,
        frame=0,
        tile=-1,
        tiles=0,
        format=pixels,
        slope=1.0,
        intercept=0.0,
        lut=None,
    )


def value_rule(
    dtype: str,
    channels: int = 1,
    *,
    values: Literal["modality", "stored"] = "modality",
    fill_value: float = 0.0,
    invert: bool = False,
) -> ValueRule:
    """Return a rule that says no more than these tests need."""
    colour = "RGB" if channels == 3 else "MONOCHROME2"
    return ValueRule(values, dtype, None, channels, colour, colour, False, None, None, None, fill_value, invert, False)


def read_all(sources: Sequence[FrameSource | None], rule: ValueRule, shape: tuple[int, int]) -> tuple[Array, CellsRead]:
    """Read whole frames into a new block of (cells, [channels,] y, x)."""
    channels = (rule.channels,) if rule.channels > 1 else ()
    out = np.empty((len(sources), *channels, *shape), np.dtype(rule.dtype).newbyteorder("<"))
    return out, read_cells(sources, rule, (0, shape[0]), out)


def read_good(source: FrameSource, dtype: str, channels: int = 1, **rule: Any) -> Array:
    """Read the one frame of a source that must be readable: (rows, columns) or (channels, rows, columns)."""
    out, read = read_all([source], value_rule(dtype, channels, **rule), (source.format.rows, source.format.columns))
    assert (read.faults, read.overflow) == ((), False)
    frame: Array = out[0]
    return frame


@contextmanager
def without_compiled() -> Iterator[None]:
    """Let everything be read and decoded as where no compiled module could be built."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(finish, "FRAMES", None)
        patch.setattr(rle, "_RLE", None)
        yield


def both_ways(
    sources: Sequence[FrameSource | None], rule: ValueRule, shape: tuple[int, int], rows: tuple[int, int] | None = None
) -> tuple[CellsRead, Array]:
    """Read with and without compiled modules, find the same, and return it."""
    rows = (0, shape[0]) if rows is None else rows
    channels = (rule.channels,) if rule.channels > 1 else ()
    dtype = np.dtype(rule.dtype).newbyteorder("<")
    out = np.full((len(sources), *channels, rows[1] - rows[0], shape[1]), 77, dtype)
    plain = out.copy()
    found = read_cells(sources, rule, rows, out)
    with without_compiled():
        expected = read_cells(sources, rule, rows, plain)
    bad = {fault.cell for fault in found.faults}
    assert found.bytes_read >= expected.bytes_read  # a frame may have been read twice
    assert found._replace(bytes_read=0) == expected._replace(bytes_read=0)
    good = [cell for cell in range(len(sources)) if cell not in bad and not found.overflow]
    np.testing.assert_array_equal(out[good], plain[good])
    return found, out


# ---------------------------------------------------------------------------- files of others


def source_of(path: Path) -> tuple[Dataset, FrameSource] | None:
    """Return what pydicom reads of a file and where its first frame is, None where it has no pixels."""
    dataset = dcmread(path, force=True)
    keyword = next((k for k in ("PixelData", "FloatPixelData", "DoubleFloatPixelData") if k in dataset), None)
    if keyword is None or "Rows" not in dataset or "BitsAllocated" not in dataset:
        return None
    raw: Any = dataset.get_item(tag_for_keyword(keyword) or 0)
    table: Any = dataset.get_item("ExtendedOffsetTable")
    status = path.stat()
    syntax = str(dataset.file_meta.get("TransferSyntaxUID", IMPLICIT))
    bits = int(dataset.BitsAllocated)
    stored = int(dataset.get("BitsStored") or bits)
    pixels = PixelFormat(
        transfer_syntax=syntax,
        rows=int(dataset.Rows),
        columns=int(dataset.Columns),
        samples=int(dataset.get("SamplesPerPixel") or 1),
        planar=int(dataset.get("PlanarConfiguration") or 0),
        photometric=str(dataset.get("PhotometricInterpretation") or "MONOCHROME2"),
        bits_allocated=bits,
        bits_stored=stored,
        high_bit=int(dataset.get("HighBit") or stored - 1),
        signed=dataset.get("PixelRepresentation") == 1,
        n_frames=int(dataset.get("NumberOfFrames") or 1),
        keyword=keyword,
    )
    return dataset, FrameSource(
        path=str(path),
        size=status.st_size,
        mtime_ns=status.st_mtime_ns,
        pixel_offset=-1 if syntax == DEFLATED else raw.value_tell,
        pixel_length=-1 if raw.length == 0xFFFFFFFF else raw.length,
        table_offset=-1 if table is None else table.value_tell,
        table_length=0 if table is None else table.length,
        frame=0,
        tile=-1,
        tiles=0,
        format=pixels,
        slope=1.0,
        intercept=0.0,
        lut=None,
    )
