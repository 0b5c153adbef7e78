"""Reading under bounds for pydicom, and inflating under bounds: no file may cost time or memory that it did not bring.

pydicom reads an element of every eight bytes it is given, zeros too, and an item costs it some thirty microseconds and
a kilobyte. So what it reads from counts the heads (tag and length: eight bytes at once), and gives up where there are
more than an image has, or where nothing but empty ones follow each other.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any, BinaryIO

from fastdcm.errors import Code, SourceError
from fastdcm.scan.reading import most_inflated
from fastdcm.scan.walk_python import LONG_VR, MAX_ELEMENTS, end_of_sequence

HEADS_MAX = MAX_ELEMENTS
"""An enhanced MR of ten thousand frames may have a million of them."""
EMPTY_HEADS_MAX = 1000
"""Elements and items without a value one directly after the other."""
VALUE_BYTES_MAX = 2**26
"""A longer value is not taken into memory."""
INFLATED_BYTES_MAX = 2**30
"""The most that one deflated file may inflate to."""
NO_ELEMENTS = "the header is no list of DICOM elements"
TOO_DEEP = "sequences are nested too deep"
_BLOCK_BYTES = 2**20


class BoundedFile:
    """A file that never gives, and so never makes Python allocate, more than it has; and not endless heads."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file, self._size = file, size
        self._heads = self._empty = 0
        self._half_head = False
        self.cut = False
        """Whether the file ended inside the head of an element (zeros there are padding)."""
        self.endless = False
        """Whether reading was given up; pydicom makes an OSError of some of the errors that it meets."""
        self.seek, self.tell = file.seek, file.tell

    def read(self, count: int = -1) -> bytes:
        """Return up to ``count`` bytes.

        Raises
        ------
        SourceError
            BAD_HEADER where there are too many heads.
        """
        left = max(self._size - self._file.tell(), 0)
        data = self._file.read(left if count < 0 else min(count, left))
        if count == 8:
            self._count(data)
        elif count == 4 and self._half_head and len(data) < 4:
            self.cut = True
            raise EOFError
        self._half_head = count == 8 and data[4:6] in LONG_VR
        return data

    def is_too_deep(self, found: dict[Any, Any], elements: Iterable[Any]) -> bool:
        """Add pydicom's elements by tag; tell whether it gave up inside a nest that is too deep for it.

        It makes an OSError of any error inside an item.
        """
        try:
            for element in elements:
                found[element.tag] = element
        except EOFError:
            self.cut = True
        except RecursionError:
            return True
        except OSError as error:
            if error.errno is not None:
                raise
            if self.endless:
                raise SourceError(Code.BAD_HEADER, NO_ELEMENTS) from None
            if isinstance(error.__context__, RecursionError):
                return True
            self.cut = True  # no item where one must be
        return False

    def leave_sequence(self, value: int, *, explicit: bool, little: bool) -> None:
        """Go behind a sequence of undefined length, whose value begins at an offset, without recursion.

        Raises
        ------
        SourceError
            BAD_HEADER where it is none of little endian.
        """
        self._file.seek(value)
        try:
            if not little:
                raise ValueError
            end = end_of_sequence(self._file, self._size, explicit)
        except ValueError:
            raise SourceError(Code.BAD_HEADER, TOO_DEEP) from None
        self.cut = end is None
        self._file.seek(self._size if end is None else end)

    def _count(self, head: bytes) -> None:
        self.cut = self.cut or (0 < len(head) < 8 and any(head))
        self._heads += 1
        empty = head[6:] == b"\0\0" and (head[4:6] == b"\0\0" or head[4:6].isalpha())
        self._empty = self._empty + 1 if empty else 0
        if self._empty > EMPTY_HEADS_MAX or self._heads > HEADS_MAX:
            self.endless = True
            raise SourceError(Code.BAD_HEADER, NO_ELEMENTS)


def inflate(read: Callable[[int], bytes], deflated_bytes: int) -> Iterator[bytes]:
    """Yield what a raw deflate stream (PS3.5 A.5) inflates to, in blocks.

    Parameters
    ----------
    read : callable
        Gives up to so many of the next bytes, none at the end.
    deflated_bytes : int
        Size of the stream.

    Raises
    ------
    SourceError
        UNSUPPORTED_PIXELS beyond the bounds; DECODE where the stream is damaged; TRUNCATED where it has no end.
    """
    most = min(INFLATED_BYTES_MAX, most_inflated(deflated_bytes))
    inflater, total = zlib.decompressobj(-zlib.MAX_WBITS), 0
    while not inflater.eof and (block := inflater.unconsumed_tail or read(2**16)):
        try:
            part = inflater.decompress(block, _BLOCK_BYTES)
        except zlib.error as error:
            raise SourceError(Code.DECODE, f"the deflated data set is damaged: {error}") from None
        total += len(part)
        if total > most:
            raise SourceError(
                Code.UNSUPPORTED_PIXELS, f"{deflated_bytes} deflated bytes inflate to more than {most}, the bound"
            )
        yield part
    if not inflater.eof:
        yield inflater.flush()
        raise SourceError(Code.TRUNCATED, f"the deflated data set ends after {total} inflated bytes")
