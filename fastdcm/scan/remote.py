"""Sources that are URLs: an object as a reader of ranges, and the files below a URL."""

from __future__ import annotations

import errno
import os
import time
from collections import OrderedDict
from collections.abc import Iterator
from typing import NamedTuple
from urllib.parse import urlsplit

from fastdcm import objects
from fastdcm.errors import Code, SourceError
from fastdcm.scan.reading import Reader

BLOCK_BYTES = 2**16
"""Of short reads whole blocks are asked for: a header is one or two requests, and so are many members of an archive."""
BLOCKS_KEPT = 16
STATUS_S = 30.0
"""So long an archive is believed to be the one that was listed; every range is checked by its ETag all the same."""


class Found(NamedTuple):
    """A file below a URL."""

    key: str
    """Relative to the URL, as the URL spells it."""
    size: int = -1
    mtime_ns: int = -1


class RemoteFile(Reader):
    """An object, read by ranges; for any number of threads.

    Raises
    ------
    OSError
        There is no such object.
    SourceError
        The server cannot be asked; in reading also CHANGED where the object is another one than when it was opened.
    """

    def __init__(self, url: str) -> None:
        status = objects.stat(url)
        if status is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        super().__init__(status.size, status.mtime_ns)
        self.url, self._etag = url, status.etag
        self._blocks: OrderedDict[int, bytes] = OrderedDict()

    def read_at(self, offset: int, count: int) -> bytes:
        """Return the bytes there are from an offset."""
        end = min(offset + count, self.size)
        if end <= offset:
            return b""
        first, last = offset // BLOCK_BYTES, (end - 1) // BLOCK_BYTES
        if last > first + 1:
            return self._range(offset, end)
        data = b"".join([self._block(number) for number in range(first, last + 1)])
        return data[offset - first * BLOCK_BYTES : end - first * BLOCK_BYTES]

    def _block(self, number: int) -> bytes:
        data = self._blocks.get(number)
        if data is None:
            start = number * BLOCK_BYTES
            data = self._blocks[number] = self._range(start, min(start + BLOCK_BYTES, self.size))
            while len(self._blocks) > BLOCKS_KEPT:
                self._blocks.popitem(last=False)
        return data

    def _range(self, start: int, end: int) -> bytes:
        data = objects.read_range(self.url, start, end - start, etag=self._etag)
        if len(data) != end - start:
            raise SourceError(Code.UNREADABLE, f"the server gave {len(data)} bytes where {end - start} were asked for")
        return data


_statuses: dict[str, tuple[float, object]] = {}


def status_of(url: str) -> object:
    """Return what stays the same while an object does, asked for at most every ``STATUS_S``.

    Raises
    ------
    OSError, SourceError
        There is no such object; the server cannot be asked.
    """
    asked, status = _statuses.get(url, (-STATUS_S, None))
    if time.monotonic() - asked >= STATUS_S:
        status = objects.stat(url)
        if status is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        if len(_statuses) > 1000:
            _statuses.clear()
        _statuses[url] = time.monotonic(), status
    return status


def absolute_url(url: str) -> str:
    """Return a source with a slash at its end where it is a folder: what is no object itself.

    Raises
    ------
    UsageError
        It is no URL that can be read.
    SourceError
        The server cannot be asked.
    """
    objects.locate(url)
    if url.endswith("/") or urlsplit(url).path in ("", "/") or objects.stat(url) is None:
        return url.rstrip("/") + "/"
    return url


def files_below(url: str) -> Iterator[Found]:
    """Yield the files below a URL that ends with a slash: what the store lists, of http the links of its index pages.

    Raises
    ------
    SourceError
        The server cannot be asked.
    """
    if url.startswith("http"):
        from fastdcm.scan.index_pages import linked_files

        for key in linked_files(url):
            yield Found(key)
        return
    for found in objects.list_objects(url):
        yield Found(found.key, found.size, found.mtime_ns)
