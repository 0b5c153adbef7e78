"""One open DICOM file: bounded reads at offsets, and where its pixel value is.

The file is opened once for all that a task wants of it. A deflated file (PS3.5 A.5) has no offsets on disk: it is
inflated into memory once, under a bound, and read from there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from io import BytesIO

from fastdcm.errors import Code, SourceError
from fastdcm.model import FrameSource
from fastdcm.pixels.ahead import Ahead, open_frames
from fastdcm.scan.bounded import inflate
from fastdcm.scan.opened import is_plain
from fastdcm.scan.reading import Reader
from fastdcm.scan.reference import find_pixels

HEADER_BYTES = 2**16
"""Most headers are shorter."""
HEADER_BYTES_MAX = 64 * 2**20
"""A longer header is not handed out: no tags, no palette."""
FILE_META_BYTES_MAX = 2**20


@dataclass(slots=True)
class SourceFile:
    """A file that is open for reading, or what it inflated to."""

    reader: Reader
    size: int
    """Bytes there are to read: of the file, or of the inflated data set with its file meta before it."""
    pixel_offset: int
    pixel_length: int
    """-1: undefined length."""
    inflated: memoryview | None = None
    bytes_read: int = 0

    def read(self, offset: int, length: int) -> bytearray:
        """Return ``length`` bytes at ``offset``.

        Raises
        ------
        SourceError
            TRUNCATED, before anything is allocated, if the file ends earlier.
        """
        return self.read_parts([(offset, length)])

    def read_parts(self, parts: Sequence[tuple[int, int]], memory: bytearray | None = None) -> bytearray:
        """Return the bytes of some parts (offset, length), joined.

        Parameters
        ----------
        memory
            What to put them into, as long as nobody looks at what it holds: it becomes as long as they are. New memory
            costs as much as reading into it (mapped, cleared, given back), so frame after frame has the same.

        Raises
        ------
        SourceError
            TRUNCATED, before anything is allocated, if the file ends earlier.
        """
        for part in parts:
            self._check(*part)
        data = _as_long(memory, sum(length for _, length in parts))
        left = memoryview(data)
        for offset, length in parts:
            self.read_into(offset, left[:length])
            left = left[length:]
        return data

    def read_into(self, offset: int, *buffers: memoryview) -> None:
        """Fill the buffers (writable, contiguous, of bytes) one after the other from ``offset`` on.

        Raises
        ------
        SourceError
            TRUNCATED if the file ends earlier.
        """
        length = sum(buffer.nbytes for buffer in buffers)
        self._check(offset, length)
        if self.inflated is not None:
            for buffer in buffers:
                buffer[:] = self.inflated[offset : offset + buffer.nbytes]
                offset += buffer.nbytes
            return
        count = self.reader.read_into(offset, *buffers)
        self.bytes_read += count
        if count < length:
            raise SourceError(Code.TRUNCATED, f"the file ended at byte {offset + count} while it was read")

    def header(self) -> bytes | None:
        """Return the bytes before the pixel value (inflated where the file is deflated), None if absurdly many."""
        if self.pixel_offset > HEADER_BYTES_MAX:
            return None
        self._check(0, self.pixel_offset)
        if self.inflated is not None:
            return bytes(self.inflated[: self.pixel_offset])
        header = self.reader.read_at(0, self.pixel_offset)
        if len(header) < self.pixel_offset:
            raise SourceError(Code.TRUNCATED, f"the file ended at byte {len(header)} while it was read")
        self.bytes_read += len(header)
        return header

    def _check(self, offset: int, length: int) -> None:
        if offset < 0 or length < 0 or offset + length > self.size:
            raise SourceError(
                Code.TRUNCATED, f"{length} bytes are expected at byte {offset}, but there are {self.size} in all"
            )


def _as_long(memory: bytearray | None, length: int) -> bytearray:
    """Return memory of a length: what is there made longer or shorter, new where there is none or it is in use."""
    if memory is None:
        return bytearray(length)
    try:
        if len(memory) < length:
            memory += bytes(length - len(memory))
        del memory[length:]
    except BufferError:
        return bytearray(length)
    return memory


@contextmanager
def open_source(source: FrameSource, ahead: Ahead | None = None) -> Iterator[SourceFile]:
    """Open the file of a frame, the same file that the scan saw.

    Parameters
    ----------
    source : FrameSource
        Of the frame.
    ahead : Ahead, optional
        Who may have the file already.

    Raises
    ------
    OSError
        If it cannot be opened.
    SourceError
        CHANGED if it is no regular file any more, or size or modification time are not those of the scan; TRUNCATED,
        DECODE or UNSUPPORTED_PIXELS if a deflated file cannot be inflated under the bounds (``scan/bounded.py``).
    """
    try:
        reader = ahead.open(source) if ahead is not None else open_frames(source)
    except SourceError as error:
        if is_plain(source.path):
            raise SourceError(Code.CHANGED, "the file changed after the scan: it is no regular file now") from None
        raise error from None
    with reader:
        if (reader.size, reader.mtime_ns) != (source.size, source.mtime_ns):
            sizes = f"{source.size} bytes then, {reader.size} now"
            what = sizes if reader.size != source.size else "it was written to again, its size is the same"
            raise SourceError(Code.CHANGED, f"the file changed after the scan: {what}; run it again")
        file = SourceFile(reader, reader.size, source.pixel_offset, source.pixel_length)
        yield file if source.pixel_offset >= 0 else _inflate(file)


def _inflate(file: SourceFile) -> SourceFile:
    """Return the file with its data set inflated and its pixel element found (PS3.5 A.5)."""
    head = bytes(file.read(0, min(file.size, FILE_META_BYTES_MAX)))
    at = start = _file_meta_end(head)
    whole = bytearray(head[:start])

    def read(count: int) -> bytes:
        nonlocal at
        block = file.read(at, min(count, file.size - at))
        at += len(block)
        return bytes(block)

    for part in inflate(read, file.size - start):
        whole += part
    offset, length = _find_pixels(whole, start)
    return SourceFile(file.reader, len(whole), start + offset, length, memoryview(whole), file.bytes_read)


def _find_pixels(whole: bytearray, start: int) -> tuple[int, int]:
    """Find the pixel value among the first bytes of a data set, or else among as many as a header may have."""
    size = len(whole) - start
    with suppress(SourceError):
        return find_pixels(BytesIO(memoryview(whole)[start : start + HEADER_BYTES]), size)
    return find_pixels(BytesIO(memoryview(whole)[start : start + HEADER_BYTES_MAX]), size)


def _file_meta_end(head: bytes) -> int:
    """Walk the file meta group, which is always explicit little endian (PS3.10 7.1), and return where it ends."""
    offset = 132 if head[128:132] == b"DICM" else 0
    while head[offset : offset + 2] == b"\x02\x00":
        long = head[offset + 4 : offset + 6] in (b"OB", b"OW", b"UN", b"SQ", b"UT")
        length = head[offset + 8 : offset + 12] if long else head[offset + 6 : offset + 8]
        offset += (12 if long else 8) + int.from_bytes(length, "little")
    if not 0 < offset < len(head):
        raise SourceError(Code.BAD_HEADER, "a deflated file needs a file meta group before its data set")
    return offset
