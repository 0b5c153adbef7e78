"""Compressed frames that are alone in their files, decoded straight into the block: a short way of ``read_cells``.

What goes it: a grey frame in one fragment of a file of this machine, as its transfer syntax says, whose values are as
wide as those of the block. A few at a time are read, then looked at, then decoded, then finished: after a decoder has
worked for milliseconds nothing else is in the processor's caches, and every other step took five times as long as it
does where it follows itself. Whatever is not so, and whatever goes wrong, is left to ``read.py``, which starts again
and tells what is wrong.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy.typing as npt

from fastdcm.errors import SourceError
from fastdcm.model import FrameSource, ValueRule
from fastdcm.pixels import finish, native, values
from fastdcm.pixels.file import HEADER_BYTES_MAX
from fastdcm.pixels.finish import Finish, rescale_of
from fastdcm.pixels.frame import UNDEFINED_LENGTHS
from fastdcm.pixels.straight import straight_into
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
    read: Read
    decode: Callable[[], object]
    finish: Finish


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
    done: dict[int, Read] = {}
    if finish.FRAMES is None or out.ndim != 3 or rows[0] != 0:
        return done
    memories = [bytearray() for _ in range(FRAMES_AT_A_TIME)]
    for batch in _batches(sources):
        prepared = [
            _prepare(cell, source, rule, out[cell], memory, begin)
            for (cell, source), memory in zip(batch, memories, strict=False)
        ]
        for frame in [frame for frame in prepared if frame is not None and _decode(frame, begin)]:
            if frame.finish.width == 0 or finish.FRAMES.finish_values(out[frame.cell], *frame.finish):
                done[frame.cell] = frame.read
    return done


def _batches(sources: Sequence[FrameSource | None]) -> Iterator[list[tuple[int, FrameSource]]]:
    """Yield the cells whose source may be such a frame, a few at a time."""
    files = Counter(source.path for source in sources if source is not None)
    batch: list[tuple[int, FrameSource]] = []
    room = BYTES_AT_A_TIME
    for cell, source in enumerate(sources):
        if source is None or files[source.path] > 1 or not _may_be_short(source):
            continue
        if batch and (len(batch) == FRAMES_AT_A_TIME or source.size > room):
            yield batch
            batch, room = [], BYTES_AT_A_TIME
        batch.append((cell, source))
        room -= source.size
    if batch:
        yield batch


def _may_be_short(source: FrameSource) -> bool:
    pixels = source.format
    return (
        source.pixel_length in UNDEFINED_LENGTHS
        and pixels.n_frames <= 1
        and pixels.samples == 1
        and source.frame == 0
        and source.tile < 0
        and source.lut is None
        and pixels.transfer_syntax not in native.NATIVE_SYNTAXES
        and not pixels.photometric.startswith("PALETTE")
        and 0 <= source.pixel_offset <= min(source.size - PREFIX_BYTES, HEADER_BYTES_MAX)
        and is_plain(source.path)
    )


def _prepare(
    cell: int, source: FrameSource, rule: ValueRule, out: Array, memory: bytearray, begin: Callable[[int], None]
) -> _Ready | None:
    """Read a frame's bytes and say how they are decoded into ``out``; None where that is not so simple."""
    begin(cell)
    header = _read_fragment(source, memory)
    if header is None:
        return None
    try:
        frame = straight_into(out, memory, source.format)
    except SourceError:
        return None
    if frame is None:
        return None
    whole = rescale_of(frame.stored, *values.transform_of(source, rule)[:2], out.dtype, frame.unused)
    return None if whole is None else _Ready(cell, Read(header, len(header) + len(memory)), frame.decode, whole)


def _read_fragment(source: FrameSource, memory: bytearray) -> bytes | None:
    """Read the only fragment of a file into ``memory``, which becomes as long as it is; return the file's header."""
    assert finish.FRAMES is not None
    about = (source.path, source.size, source.mtime_ns, source.pixel_offset)
    try:
        header: bytes | None = finish.FRAMES.read_fragment(*about, memory)
    except (BufferError, MemoryError, ValueError):  # the memory is in use; no such path can be
        return None
    return header


def _decode(frame: _Ready, begin: Callable[[int], None]) -> bool:
    begin(frame.cell)
    try:
        frame.decode()
    except Exception:  # noqa: BLE001 - each decoder has its own; the other way tells what is wrong
        return False
    return True
