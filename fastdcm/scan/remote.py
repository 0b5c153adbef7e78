"""Sources that are URLs: an object as a reader of ranges, and the files below a URL."""

from __future__ import annotations

import errno
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from typing import NamedTuple
from urllib.parse import urlsplit

from fastdcm import objects
from fastdcm.errors import Code, SourceError
from fastdcm.scan.reading import Reader

REQUESTS = 32
"""At once, of one task: a request takes as long as the line is, however little it asks for."""
BLOCK_BYTES = 2**16
"""Reads are of whole blocks: a header is one or two requests, and so are many members of an archive."""
BLOCKS_KEPT = 64
BLOCKS_AHEAD = 32
"""Who reads on where the last request ended gets so many more with the next one, at most: first one, then twice as
many each time."""
STATUS_S = 30.0
"""So long an archive is believed to be the one that was listed; every range is checked by its ETag all the same."""


class Found(NamedTuple):
    """A file below a URL."""

    key: str
    """Relative to the URL, as the URL spells it."""
    size: int = -1
    mtime_ns: int = -1


class RemoteFile(Reader):
    """An object, read by ranges, each once; for any number of threads. Opening it is one request for its first bytes.

    Parameters
    ----------
    url : str
        Of the object.
    first_bytes : int
        How many of its first bytes will be wanted; they are kept until it is closed.

    Raises
    ------
    OSError
        There is no such object.
    SourceError
        The server cannot be asked; in reading also CHANGED where the object is another one than when it was opened.
    """

    def __init__(self, url: str, first_bytes: int = BLOCK_BYTES) -> None:
        found = objects.read_start(url, max(-(-first_bytes // BLOCK_BYTES), 1) * BLOCK_BYTES)
        if found is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        status, self._start = found
        super().__init__(status.size, status.mtime_ns)
        self.url, self._etag = url, status.etag
        self._lock = threading.Lock()
        self._blocks: OrderedDict[int, Future[bytes]] = OrderedDict()
        self._reached, self._ahead = len(self._start), 0

    def read_at(self, offset: int, count: int) -> bytes:
        """Return the bytes there are from an offset."""
        end, there = min(offset + count, self.size), len(self._start)
        if end <= max(offset, there):
            return self._start[offset:end]
        if offset < there:
            return self._start[offset:] + self.read_at(there, end - there)
        if end - offset > BLOCKS_AHEAD * BLOCK_BYTES:
            return self._range(offset, end)
        first = offset // BLOCK_BYTES
        blocks = self._claimed(first, -(-end // BLOCK_BYTES))
        return b"".join([block.result() for block in blocks])[offset - first * BLOCK_BYTES : end - first * BLOCK_BYTES]

    def _claimed(self, first: int, stop: int) -> list[Future[bytes]]:
        """Return blocks that are there, or that come: those that nobody asked for yet are one request, made here."""
        with self._lock:
            missing = [number for number in range(first, stop) if number not in self._blocks]
            if missing:
                missing = list(range(missing[0], self._last(missing[0], stop)))
                new = {number: Future[bytes]() for number in missing if number not in self._blocks}
                self._blocks |= new
            blocks = [self._blocks[number] for number in range(first, stop)]
            while len(self._blocks) > BLOCKS_KEPT:
                self._blocks.popitem(last=False)
        if missing:
            self._fetch(missing[0], missing[-1] + 1, new)
        return blocks

    def _last(self, first: int, stop: int) -> int:
        """Return where a request from a block on ends: the further, the longer somebody reads on and on."""
        goes_on = first * BLOCK_BYTES <= self._reached <= stop * BLOCK_BYTES
        self._ahead = min(max(2 * self._ahead, 1), BLOCKS_AHEAD) if goes_on else 0
        stop = min(stop + self._ahead, -(-self.size // BLOCK_BYTES))
        self._reached = min(stop * BLOCK_BYTES, self.size)
        return stop

    def _fetch(self, first: int, stop: int, new: Mapping[int, Future[bytes]]) -> None:
        try:
            data = self._range(first * BLOCK_BYTES, min(stop * BLOCK_BYTES, self.size))
        except BaseException as error:  # whatever it is, who waits for these blocks must hear of it
            with self._lock:
                for number, block in new.items():
                    self._blocks.pop(number, None)
                    block.set_exception(error)
            raise
        for number, block in new.items():
            block.set_result(data[(number - first) * BLOCK_BYTES : (number - first + 1) * BLOCK_BYTES])

    def _range(self, start: int, end: int) -> bytes:
        data = objects.read_range(self.url, start, end - start, etag=self._etag)
        if len(data) != end - start:
            raise SourceError(Code.UNREADABLE, f"the server gave {len(data)} bytes where {end - start} were asked for")
        return data


class Started(Reader):
    """Another reader with its first bytes, which were read before they are asked for; closed with it."""

    def __init__(self, rest: Reader, first_bytes: int) -> None:
        super().__init__(rest.size, rest.mtime_ns)
        self._rest, self._start = rest, rest.read_at(0, first_bytes)

    def read_at(self, offset: int, count: int) -> bytes:
        """Return the bytes there are from an offset."""
        if offset + count <= len(self._start):
            return self._start[offset : offset + count]
        return self._rest.read_at(offset, count)

    def close(self) -> None:
        """Close the reader."""
        self._rest.close()


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
        status = status_at(url)
        if len(_statuses) > 1000:
            _statuses.clear()
        _statuses[url] = time.monotonic(), status
    return status


def status_at(url: str) -> objects.ObjectStatus:
    """Return what a server says of an object.

    Raises
    ------
    OSError, SourceError
        There is no such object; the server cannot be asked.
    """
    status = objects.stat(url)
    if status is None:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
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
