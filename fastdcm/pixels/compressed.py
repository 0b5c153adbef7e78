"""Compressed frames decoded straight into the block, some at a time: a short way of ``read.read_cells``.

What goes it: frames of one fragment that are alone in a file of this machine, and frames of an open file with several,
as their transfer syntax says. A few at a time are read, then looked at, then decoded, then finished: after a decoder
has worked for milliseconds nothing else is in the processor's caches, and every other step took five times as long as
it does where it follows itself. Whatever is not so, and whatever goes wrong, is left to ``read.py``, which starts again
and tells what is wrong.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fastdcm.errors import SourceError
from fastdcm.model import FrameSource, ValueRule
from fastdcm.pixels import finish, native, values
from fastdcm.pixels.file import HEADER_BYTES_MAX, SourceFile
from fastdcm.pixels.finish import NOTHING, rescale_of
from fastdcm.pixels.frame import UNDEFINED_LENGTHS, Layout
from fastdcm.pixels.straight import Straight, may_be_straight, new_memory, straight_into
from fastdcm.scan.opened import is_plain

Array = npt.NDArray[Any]

FRAMES_AT_A_TIME = 8
BYTES_AT_A_TIME = 2**23
"""Of files: a larger one is read alone."""
PREFIX_BYTES = 20
"""Behind a header there are more: an offset table with one entry or none, and a fragment's item."""


class Read(NamedTuple):
    """A frame that is in its cell."""

    header: bytes
    """Of its file."""
    bytes_read: int


class _Ready(NamedTuple):
    """A frame that needs no more than to be decoded and finished."""

    cell: int
    straight: Straight
    transform: tuple[float, float, bytes | None]
    """See ``values.transform_of``."""


def read_compressed(
    sources: Sequence[FrameSource | None],
    rule: ValueRule,
    rows: tuple[int, int],
    out: Array,
    begin: Callable[[int], None],
) -> dict[int, Read]:
    """Read those of the cells that go the short way into ``out``, as ``read_cells`` does.

    Parameters
    ----------
    sources, rule, rows, out, begin
        As for ``read_cells``. ``begin`` is told of a cell before it is read, and before it is decoded.

    Returns
    -------
    dict of cell to Read
        Others are still to be read.
    """
    files = Counter(source.path for source in sources if source is not None)
    cells = [
        (cell, source)
        for cell, source in enumerate(sources)
        if source is not None and files[source.path] == 1 and _is_alone(source)
    ]

    def read(source: FrameSource, memory: bytearray) -> bytes | None:
        assert finish.FRAMES is not None
        about = (source.path, source.size, source.mtime_ns, source.pixel_offset)
        header: bytes | None = finish.FRAMES.read_fragment(*about, memory)
        return header

    return _read_some(cells, read, rule, rows, out, begin)


def read_frames(
    file: SourceFile,
    layout: Layout,
    cells: Sequence[tuple[int, FrameSource]],
    rule: ValueRule,
    rows: tuple[int, int],
    out: Array,
    begin: Callable[[int], None],
) -> dict[int, Read]:
    """Read those frames of an open file that go the short way into ``out``; the file counts what is read of it."""
    ranges = layout.ranges
    if ranges is None or len(cells) < 2:  # one frame alone gains nothing, or was tried already
        return {}
    wanted = Counter(source.frame for _, source in cells)
    short = [(cell, source) for cell, source in cells if wanted[source.frame] == 1 and source.frame < len(ranges)]

    def read(source: FrameSource, memory: bytearray) -> bytes | None:
        return b"" if file.read_parts(ranges[source.frame], memory) is memory else None

    return _read_some(short, read, rule, rows, out, begin)


def _read_some(
    cells: Sequence[tuple[int, FrameSource]],
    read: Callable[[FrameSource, bytearray], bytes | None],
    rule: ValueRule,
    rows: tuple[int, int],
    out: Array,
    begin: Callable[[int], None],
) -> dict[int, Read]:
    """Read, look at, decode and finish frames, some at a time; ``read`` puts their bytes into memory."""
    done: dict[int, Read] = {}
    if finish.FRAMES is None or rows[0] != 0:
        return done
    memories = [new_memory() for _ in range(min(FRAMES_AT_A_TIME, len(cells)))]
    alike = lru_cache(may_be_straight)
    for batch in _batches([(cell, source) for cell, source in cells if source.tile < 0 and alike(source.format)]):
        found: dict[int, Read] = {}
        ready: list[_Ready] = []
        for (cell, source), memory in zip(batch, memories, strict=False):
            begin(cell)
            try:
                header = read(source, memory.data)
                frame = None if header is None else straight_into(out[cell], memory, source.format)
            except (OSError, SourceError, BufferError, MemoryError, ValueError):  # memory in use; no such path can be
                continue
            if frame is not None and header is not None:
                ready.append(_Ready(cell, frame, values.transform_of(source, rule)))
                found[cell] = Read(header, len(header) + len(memory.data))
        for decoded in [one for one in ready if _decode(one, begin)]:
            if _finish(decoded, out[decoded.cell]):
                done[decoded.cell] = found[decoded.cell]
    return done


def _batches(cells: Sequence[tuple[int, FrameSource]]) -> Iterator[list[tuple[int, FrameSource]]]:
    """Yield the cells a few at a time."""
    batch: list[tuple[int, FrameSource]] = []
    room = BYTES_AT_A_TIME
    for cell, source in cells:
        size = source.size // max(source.format.n_frames, 1)
        if batch and (len(batch) == FRAMES_AT_A_TIME or size > room):
            yield batch
            batch, room = [], BYTES_AT_A_TIME
        batch.append((cell, source))
        room -= size
    if batch:
        yield batch


def _is_alone(source: FrameSource) -> bool:
    """Tell whether a file may have one fragment and nothing else of its kind."""
    return (
        source.pixel_length in UNDEFINED_LENGTHS
        and source.format.n_frames <= 1
        and source.frame == 0
        and 0 <= source.pixel_offset <= min(source.size - PREFIX_BYTES, HEADER_BYTES_MAX)
        and is_plain(source.path)
    )


def _decode(frame: _Ready, begin: Callable[[int], None]) -> bool:
    begin(frame.cell)
    try:
        frame.straight.decode()
    except Exception:  # noqa: BLE001 - each decoder has its own; the other way tells what is wrong
        return False
    return True


def _finish(frame: _Ready, out: Array) -> bool:
    """Make output values of what was decoded; False where one does not fit."""
    _, stored, bits, high_bit, in_place = frame.straight
    slope, intercept, lut = frame.transform
    unused = native.unused_bits(stored.dtype, bits, high_bit)
    whole = rescale_of(stored.dtype, slope, intercept, out.dtype, unused) if lut is None else None
    assert finish.FRAMES is not None
    if whole is not None and in_place:
        return whole.width == 0 or bool(finish.FRAMES.finish_values(out, *whole))
    if whole is NOTHING and stored.ndim == 3 and stored.itemsize == 1 and out.flags.c_contiguous:
        finish.FRAMES.split_samples(stored, out)
        return True
    stored = native.clear_unused_bits(stored, bits, high_bit)
    try:
        return not values.apply(stored if stored.ndim == 2 else np.moveaxis(stored, -1, 0), *frame.transform, out)
    except ValueError:  # fractional values of an array of integers
        return False
