"""Bytes at offsets, wherever they are: a local file, a part of another reader, what a part of one inflates to.

All reads are bounded by what there is; nothing is allocated from a declared size. A reader may be used by several
threads at once only where it says so.
"""

from __future__ import annotations

import io
import os
import stat
import zlib
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, BinaryIO

from fastdcm.errors import Code, SourceError

INFLATED_BYTES_FREE = 2**28
"""So much may come from however few bytes: an empty segmentation nearly vanishes."""
INFLATED_BYTES_PER_BYTE = 128
SPOOL_MEMORY_BYTES = 64 * 2**20
"""What inflates to more is put into a temporary file."""
_STEP_BYTES = 2**16
_FIRST_STEP_BYTES = 2**13
"""Unpacked at first: of most members a scan wants no more than the header."""


class Reader:
    """Something of a known size that gives bytes at offsets."""

    def __init__(self, size: int, mtime_ns: int) -> None:
        self.size, self.mtime_ns = size, mtime_ns
        """Bytes; when it last changed."""

    def read_at(self, offset: int, count: int) -> bytes:
        """Return the bytes there are from an offset, at most ``count``.

        Raises
        ------
        OSError
            The system cannot read them.
        SourceError
            The archive that they are in is damaged or beyond the bounds.
        """
        raise NotImplementedError

    def read_into(self, offset: int, *buffers: memoryview) -> int:
        """Fill the buffers (of bytes) one after the other as far as there are bytes; return how many."""
        total = 0
        for buffer in buffers:
            data = self.read_at(offset + total, buffer.nbytes)
            buffer[: len(data)] = data
            total += len(data)
            if len(data) < buffer.nbytes:
                break
        return total

    def file(self) -> BinaryIO:
        """Return a buffered file over all bytes; closing it leaves the reader open."""
        return io.BufferedReader(_File(self))

    def close(self) -> None:
        """Give back what the reader holds; reading is over."""

    def __enter__(self) -> Reader:
        """Return the reader."""
        return self

    def __exit__(self, *error: object) -> None:
        """Close it."""
        self.close()


class _File(io.RawIOBase):
    """A reader as a raw file, for pydicom."""

    name = ""
    """pydicom asks for it."""

    def __init__(self, reader: Reader) -> None:
        self._reader, self._at = reader, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._reader.size}[whence]
        if start + offset < 0:
            raise OSError(22, "a place before the beginning")
        self._at = start + offset
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        count = min(len(view), max(self._reader.size - self._at, 0))
        got = self._reader.read_into(self._at, view[:count]) if count else 0
        self._at += got
        return got


class LocalFile(Reader):
    """A regular file of this machine, held open; for any number of threads.

    Raises
    ------
    OSError
        It cannot be opened.
    SourceError
        UNREADABLE where it is no regular file: a pipe or device is refused, not waited for.
    """

    def __init__(self, path: str | bytes) -> None:
        self._descriptor = -1
        self._descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        about = os.fstat(self._descriptor)
        if not stat.S_ISREG(about.st_mode):
            self.close()
            raise SourceError(Code.UNREADABLE, "not a regular file")
        super().__init__(about.st_size, about.st_mtime_ns)

    def read_at(self, offset: int, count: int) -> bytes:
        """Return the bytes there are from an offset."""
        return os.pread(self._descriptor, min(count, max(self.size - offset, 0)), offset)

    def read_into(self, offset: int, *buffers: memoryview) -> int:
        """Fill the buffers, by as few calls as the system needs."""
        waiting, total = [buffer for buffer in buffers if buffer.nbytes], 0
        while waiting and (count := os.preadv(self._descriptor, waiting, offset + total)):
            total += count
            while waiting and count >= waiting[0].nbytes:
                count -= waiting.pop(0).nbytes
            if count:
                waiting[0] = waiting[0][count:]
        return total

    def close(self) -> None:
        """Close the file."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def __del__(self) -> None:
        """Close the file of an archive that nobody needs any more."""
        with suppress(OSError):
            self.close()


class Window(Reader):
    """A part of another reader, which stays open; nothing is copied."""

    def __init__(self, whole: Reader, start: int, size: int) -> None:
        super().__init__(size, whole.mtime_ns)
        self._whole, self._start = whole, start

    def read_at(self, offset: int, count: int) -> bytes:
        """Return the bytes there are from an offset."""
        return self._whole.read_at(self._start + offset, min(count, max(self.size - offset, 0)))

    def read_into(self, offset: int, *buffers: memoryview) -> int:
        """Fill the buffers as far as the part goes."""
        if sum(buffer.nbytes for buffer in buffers) > self.size - offset:
            return super().read_into(offset, *buffers)
        return self._whole.read_into(self._start + offset, *buffers)


class Spool(Reader):
    """Bytes that are added at the end and read anywhere: in memory, beyond a bound in a file without a name.

    For one thread while it grows, then for any number.
    """

    def __init__(self, mtime_ns: int = 0) -> None:
        super().__init__(0, mtime_ns)
        self._memory = bytearray()
        self._file: Any = None

    def add(self, data: bytes) -> None:
        """Add bytes.

        Raises
        ------
        OSError
            The temporary folder (TMPDIR) is full.
        """
        if self._file is None and self.size + len(data) > SPOOL_MEMORY_BYTES:
            import tempfile

            self._file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - closed with the spool
            self._write(memoryview(self._memory))
            self._memory = bytearray()
        if self._file is None:
            self._memory += data
        else:
            self._write(memoryview(data))
        self.size += len(data)

    def _write(self, data: memoryview) -> None:
        while data:
            data = data[self._file.write(data) :]

    def read_at(self, offset: int, count: int) -> bytes:
        """Return the bytes there are from an offset."""
        if self._file is None:
            return bytes(self._memory[offset : offset + count])
        return os.pread(self._file.fileno(), min(count, max(self.size - offset, 0)), offset)

    def close(self) -> None:
        """Forget the bytes."""
        self._memory = bytearray()
        if self._file is not None:
            self._file.close()

    def __del__(self) -> None:
        """Give the disk back."""
        self.close()


def most_inflated(packed_bytes: int) -> int:
    """Return what so many compressed bytes may inflate to at most."""
    return max(INFLATED_BYTES_FREE, INFLATED_BYTES_PER_BYTE * packed_bytes)


def unpack(packed: Iterator[bytes], method: str, packed_bytes: int) -> Iterator[bytes]:
    """Yield what compressed bytes unpack to, a step at a time, under the bounds.

    Parameters
    ----------
    packed : iterator of bytes
        The compressed bytes.
    method : str
        deflate (one raw stream), gzip, bz2 or xz (one stream after the other, zeros behind the last).
    packed_bytes : int
        How many they are in all.

    Raises
    ------
    SourceError
        BAD_ARCHIVE where they are damaged or end too early, ARCHIVE_BOUND beyond the bounds.
    """
    one, most, total, step_bytes = _unpacker(method), most_inflated(packed_bytes), 0, _FIRST_STEP_BYTES
    for block in packed:
        while True:
            if one.eof:
                if method == "deflate" or not block.strip(b"\0"):
                    break
                one = _unpacker(method)
            part = _step(one, block, step_bytes)
            is_full, step_bytes = len(part) == step_bytes, min(2 * step_bytes, _STEP_BYTES)
            total += len(part)
            if total > most:
                message = f"{packed_bytes} compressed bytes unpack to more than {most}, the bound"
                raise SourceError(Code.ARCHIVE_BOUND, message)
            if part:
                yield part
            block = one.unused_data if one.eof else getattr(one, "unconsumed_tail", b"")
            if not one.eof and not block and not is_full:
                break
    if not one.eof:
        raise SourceError(Code.BAD_ARCHIVE, f"the compressed bytes end too early, after {total} unpacked bytes")


def _step(one: Any, block: bytes, most: int) -> bytes:
    from lzma import LZMAError

    try:
        part: bytes = one.decompress(block, most)
    except (zlib.error, OSError, EOFError, ValueError, LZMAError) as error:
        raise SourceError(Code.BAD_ARCHIVE, f"the compressed bytes are damaged: {error}") from None
    return part


def _unpacker(method: str) -> Any:
    if method in ("deflate", "gzip"):
        return zlib.decompressobj(-zlib.MAX_WBITS if method == "deflate" else 16 + zlib.MAX_WBITS)
    if method == "bz2":
        from bz2 import BZ2Decompressor

        return BZ2Decompressor()
    from lzma import LZMADecompressor

    return LZMADecompressor(memlimit=2**28)


def blocks_of(reader: Reader, start: int, count: int) -> Iterator[bytes]:
    """Yield a part of a reader, a step at a time; less where it ends earlier."""
    end = start + count
    while start < end and (block := reader.read_at(start, min(_STEP_BYTES, end - start))):
        start += len(block)
        yield block


class Unpacked(Reader):
    """A compressed part of a reader, unpacked as far as it is asked for and kept; for one thread."""

    def __init__(self, whole: Reader, start: int, packed: int, size: int, method: str, crc: int | None) -> None:
        super().__init__(size, whole.mtime_ns)
        self._parts = unpack(blocks_of(whole, start, packed), method, packed)
        self._spool = Spool()
        self._crc, self._expected = 0, crc

    def read_at(self, offset: int, count: int) -> bytes:
        """Return the bytes there are from an offset; all before them are unpacked.

        Raises
        ------
        SourceError
            BAD_ARCHIVE where they are not what the archive says of them.
        """
        end = min(offset + count, self.size)
        while self._spool.size < end:
            self._add(next(self._parts, b""))
        return self._spool.read_at(offset, max(end - offset, 0))

    def _add(self, part: bytes) -> None:
        if not part or self._spool.size + len(part) > self.size:
            found = f"{self._spool.size + len(part)} bytes"
            raise SourceError(Code.BAD_ARCHIVE, f"unpacks to {found}, where the archive says {self.size}")
        self._spool.add(part)
        self._crc = zlib.crc32(part, self._crc)
        if self._spool.size == self.size and self._expected not in (None, self._crc):
            raise SourceError(Code.BAD_ARCHIVE, "the bytes are not those that were packed: their checksum differs")

    def close(self) -> None:
        """Forget what was unpacked."""
        self._spool.close()
