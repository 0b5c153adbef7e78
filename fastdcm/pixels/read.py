"""Many frames into one block of the array, each file opened once: the declared boundary to broken input.

Called from several threads at once; nothing here is shared between calls.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fastdcm.errors import PAUSES_S, Code, SourceError, may_pass
from fastdcm.model import FrameFault, FrameSource, PixelFormat, ValueRule
from fastdcm.pixels import native, values
from fastdcm.pixels.ahead import Ahead
from fastdcm.pixels.batch import read_plain
from fastdcm.pixels.compressed import read_compressed, read_frames
from fastdcm.pixels.file import SourceFile, open_source
from fastdcm.pixels.frame import (
    UNDEFINED_LENGTHS,
    Layout,
    check_native_range,
    cut_tile,
    encapsulated_bytes,
    is_direct,
    layout_of,
    native_range,
    read_frame,
)

Array = npt.NDArray[Any]
Rows = tuple[int, int]


class CellsRead(NamedTuple):
    """What reading a block told."""

    faults: tuple[FrameFault, ...]
    """Cells that could not be read; what ``out`` holds there is undefined."""
    notes: tuple[tuple[int, Code, str], ...]
    """(cell, code, message): REPAIRED_SYNTAX, LONG_PIXEL_DATA; at the first cell of a file that it is true of."""
    overflow: bool
    """A value did not fit the type of ``out``, which is undefined then."""
    bytes_read: int
    headers: list[bytes | None]
    """Of each cell: the bytes of its file before the pixel value (one object for all cells of a file), after
    inflating where the data set is deflated; None for an absent cell and where the file could not be read."""


@dataclass(slots=True)
class _Findings:
    faults: list[FrameFault] = field(default_factory=list)
    notes: list[tuple[int, Code, str]] = field(default_factory=list)
    overflow: bool = False
    bytes_read: int = 0

    def join(self, other: _Findings) -> None:
        self.faults += other.faults
        self.notes += other.notes
        self.overflow |= other.overflow
        self.bytes_read += other.bytes_read


def _pass(_: int) -> None:
    """Tell nobody which frame is next."""


def read_cells(
    sources: Sequence[FrameSource | None],
    rule: ValueRule,
    rows: Rows,
    out: Array,
    begin: Callable[[int], None] = _pass,
    ahead: Ahead | None = None,
) -> CellsRead:
    """Read one frame (or tile of a mosaic) into each cell of ``out``, as the rule wants its values.

    Parameters
    ----------
    sources
        One a cell; None is filled with ``rule.fill_value``.
    rows
        (start, stop) of the rows wanted, of a tile where the frame is a mosaic.
    out : shape (cells, y, x) or (cells, channels, y, x)
        Little endian, C order. Native pixels of one type are read straight into it.
    begin
        Told the first cell of each frame that is not plain, before it is read.
    ahead
        Opens files of these and of later cells; without it those of these cells alone.

    Returns
    -------
    CellsRead
        Nothing is raised for a broken file: OSError becomes a fault UNREADABLE or PERMISSION, a file that is not
        what it was CHANGED, a short one TRUNCATED, anything that a decoder raises DECODE. Where the system failed in a
        way that may pass, the file is read again first.
    """
    if ahead is None:
        with Ahead(sources) as ahead:
            return read_cells(sources, rule, rows, out, begin, ahead)
    findings = _Findings()
    headers = read_plain(sources, rule, rows, out)
    read = [len(header) + out[cell].nbytes for cell, header in enumerate(headers) if header is not None]
    left = [source if header is None else None for source, header in zip(sources, headers, strict=True)]
    for cell, frame in read_compressed(left, rule, rows, out, begin).items():
        headers[cell] = frame.header
        read.append(frame.bytes_read)
    findings.bytes_read = sum(read)
    files: dict[str, list[int]] = {}
    for cell, (source, header) in enumerate(zip(sources, headers, strict=True)):
        if source is None:
            out[cell] = rule.fill_value
        elif header is None:
            files.setdefault(source.path, []).append(cell)
    patience, wanted = list(PAUSES_S), _Wanted(rule, rows, out, begin, bytearray(), ahead)
    for cells in files.values():
        with_source = [(cell, source) for cell in cells if (source := sources[cell]) is not None]
        header = _read_patiently(with_source, wanted, findings, patience)
        for cell in cells:
            headers[cell] = header
    return CellsRead(tuple(findings.faults), tuple(findings.notes), findings.overflow, findings.bytes_read, headers)


def fault_of(error: Exception) -> tuple[Code, str]:
    """Return code and message of whatever reading a frame raised; without a path, which an OSError would tell."""
    if isinstance(error, SourceError):
        return error.code, error.message
    if isinstance(error, PermissionError):
        return Code.PERMISSION, error.strerror or "permission denied"
    if isinstance(error, OSError):
        return Code.UNREADABLE, error.strerror or type(error).__name__
    return Code.DECODE, f"{type(error).__name__}: {str(error)[:200]}"


class _Wanted(NamedTuple):
    """What is to be read of a file, and where to."""

    rule: ValueRule
    rows: Rows
    out: Array
    begin: Callable[[int], None]
    memory: bytearray
    """For the encapsulated bytes of one frame after the other."""
    ahead: Ahead


def _read_patiently(
    cells: list[tuple[int, FrameSource]], wanted: _Wanted, findings: _Findings, patience: list[float]
) -> bytes | None:
    """Read every wanted frame of one file, again after a pause where the system failed; return its header.

    Where that was in vain ``patience`` is empty: a dead disk does not cost its pauses for every file.
    """
    for pause_s in tuple(patience):
        found = _Findings()
        try:
            header = _read_file(cells, wanted, found, last=False)
        except OSError:
            time.sleep(pause_s)
            continue
        findings.join(found)
        return header
    before = len(findings.faults)
    header = _read_file(cells, wanted, findings, last=True)
    if len(findings.faults) > before:
        patience.clear()
    return header


def _read_file(
    cells: list[tuple[int, FrameSource]], wanted: _Wanted, findings: _Findings, *, last: bool
) -> bytes | None:
    """Read every wanted frame of one file; return its header.

    Raises
    ------
    OSError
        The system failed in a way that may pass, and this is not the last try.
    """
    header = None
    try:
        wanted.begin(cells[0][0])
        with open_source(cells[0][1], wanted.ahead) as file:
            layout = layout_of(file, cells[0][1], expand_palette=wanted.rule.channels == 3)
            findings.notes += [(cells[0][0], code, message) for code, message in layout.notes]
            header = file.header()
            done = read_frames(file, layout, cells, wanted.rule, wanted.rows, wanted.out, wanted.begin)
            for frame, group in _by_frame([cell for cell in cells if cell[0] not in done]).items():
                _read_group(file, layout, frame, group, wanted, findings, last=last)
            findings.bytes_read += file.bytes_read
    except Exception as error:
        if not last and may_pass(error):
            raise
        code, message = fault_of(error)
        findings.faults += [FrameFault(cell, code, message) for cell, _ in cells]
    return header


def _by_frame(cells: list[tuple[int, FrameSource]]) -> dict[int, list[tuple[int, FrameSource]]]:
    frames: dict[int, list[tuple[int, FrameSource]]] = {}
    for cell, source in cells:
        frames.setdefault(source.frame, []).append((cell, source))
    return frames


def _read_group(
    file: SourceFile,
    layout: Layout,
    frame: int,
    group: list[tuple[int, FrameSource]],
    wanted: _Wanted,
    findings: _Findings,
    *,
    last: bool,
) -> None:
    """Read one frame into the cells that want it: more than one where it is a mosaic."""
    rule, rows, out, begin, memory, _ = wanted
    try:
        cell, source = group[0]
        begin(cell)
        if len(group) == 1 and source.tile < 0 and is_direct(layout, out[cell], rows):
            findings.overflow |= _read_direct(file, layout, source, rule, rows, out[cell])
            return
        whole = (0, layout.pixels.rows) if source.tile >= 0 else rows
        stored, repaired = read_frame(file, layout, frame, whole, out[cell] if len(group) == 1 else None, memory)
        if repaired is not None:
            findings.notes.append((cell, Code.REPAIRED_SYNTAX, repaired))
        for cell, source in group:
            cut = cut_tile(stored, source.tile, source.tiles)[..., slice(*rows), :] if source.tile >= 0 else stored
            findings.overflow |= _place(cut, source, rule, out[cell])
    except Exception as error:
        if not last and may_pass(error):
            raise
        code, message = fault_of(error)
        findings.faults += [FrameFault(cell, code, message) for cell, _ in group]


# ---------------------------------------------------------------------------- into the block


def _read_direct(
    file: SourceFile, layout: Layout, source: FrameSource, rule: ValueRule, rows: Rows, out: Array
) -> bool:
    offset, length, _ = native_range(layout, source.frame, rows)
    check_native_range(file, offset, length)
    stored = out.view(native.stored_dtype(layout.pixels))
    file.read_into(file.pixel_offset + offset, stored.data.cast("B"))
    native.clear_unused_bits(stored, source.format.bits_stored, source.format.high_bit)
    return values.apply(stored, *values.transform_of(source, rule), out)


def _place(stored: Array, source: FrameSource, rule: ValueRule, out: Array) -> bool:
    if stored.shape != out.shape:
        raise SourceError(Code.DECODE, f"the frame has shape {stored.shape}, the volume wants {out.shape}")
    transform = values.transform_of(source, rule)
    if source.format.photometric.startswith("PALETTE") and stored.ndim == 3:
        transform = (1.0, 0.0, None)
    return values.apply(stored, *transform, out)


# ---------------------------------------------------------------------------- equality


def same_pixels(first: FrameSource, second: FrameSource) -> bool:
    """Tell whether two frames hold the same stored values, of the same shape and sign.

    By their raw bytes where both are encoded alike and these are equal, else decoded. False also where either
    cannot be read: then nothing shows that they are the same.
    """
    if first.format.signed != second.format.signed:
        return False
    try:
        with open_source(first) as file, open_source(second) as other:
            layouts = [
                layout_of(opened, source, expand_palette=False) for opened, source in ((file, first), (other, second))
            ]
            if _encoding(first, layouts[0]) == _encoding(second, layouts[1]) and _raw(
                file, layouts[0], first.frame
            ) == _raw(other, layouts[1], second.frame):
                return True
            return _equal(_tile(file, layouts[0], first), _tile(other, layouts[1], second))
    except Exception:  # noqa: BLE001 - a bad input becomes a value here: not shown to be the same
        return False


def find_fault(source: FrameSource) -> tuple[Code, str] | None:
    """Return code and message of why a frame cannot be read or decoded, None where it can."""
    try:
        with open_source(source) as file:
            _tile(file, layout_of(file, source, expand_palette=False), source)
    except Exception as error:  # noqa: BLE001 - a bad input becomes a value here
        return fault_of(error)
    return None


def needs_decoder(source: FrameSource) -> bool:
    """Tell whether a frame may be one for a library that decodes: its bytes are not its values, or do not say so."""
    return source.format.transfer_syntax not in native.NATIVE_SYNTAXES or source.pixel_length in UNDEFINED_LENGTHS


def _encoding(source: FrameSource, layout: Layout) -> tuple[PixelFormat, bool, bool, int, int]:
    return layout.pixels._replace(n_frames=1), layout.ranges is None, layout.swapped, source.tile, source.tiles


def _raw(file: SourceFile, layout: Layout, frame: int) -> bytes:
    """Return a frame's bytes in the file, without the padding after a codestream."""
    if layout.ranges is not None:
        return bytes(encapsulated_bytes(file, layout, frame)).rstrip(b"\0")
    offset, length, first_bit = native_range(layout, frame, (0, layout.pixels.rows))
    check_native_range(file, offset, length)
    if layout.swapped:  # the last byte of an odd number is in the word's other half
        length += (offset + length) % 2
    return bytes([first_bit]) + bytes(file.read(file.pixel_offset + offset, length))


def _tile(file: SourceFile, layout: Layout, source: FrameSource) -> Array:
    stored, _ = read_frame(file, layout, source.frame, (0, layout.pixels.rows))
    return cut_tile(stored, source.tile, source.tiles) if source.tile >= 0 else stored


def _equal(first: Array, second: Array) -> bool:
    return first.shape == second.shape and bool(np.array_equal(first, second))


def hash_cell(array: Array) -> str:
    """Return the xxh3-128 hex digest of output values, little endian in C order.

    Parameters
    ----------
    array : any shape
        One cell: (y, x) or (channels, y, x).
    """
    from xxhash import xxh3_128_hexdigest

    little = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
    return xxh3_128_hexdigest(little.data.cast("B"))
