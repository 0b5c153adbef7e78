"""Files opened in their order, those at URLs some ahead of the reader: on a long line requests take their time once."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor

from fastdcm.model import FrameSource
from fastdcm.scan.opened import is_far, open_location
from fastdcm.scan.reading import Reader
from fastdcm.scan.remote import REQUESTS

AHEAD_BYTES = 16 * 2**20
"""Of files that wait for the reader, besides the one that is always there."""
WHOLE_BYTES = 4 * 2**20
"""A file of one frame is fetched with one request up to this; of others the first bytes are, and then each frame."""

FIRST_BYTES = 2**16


class Ahead:
    """Opens the files of frames, for one thread; a context, which ends what nobody waits for any more.

    Parameters
    ----------
    sources : iterable of FrameSource or None
        In the order in which they will be opened, as far as that is known.
    """

    def __init__(self, sources: Iterable[FrameSource | None]) -> None:
        wanted = {source.path: source for source in sources if source is not None and is_far(source.path)}
        self._waiting = deque(wanted.values())
        self._coming: dict[str, tuple[Future[Reader], int]] = {}
        self._pool = ThreadPoolExecutor(REQUESTS) if wanted else None

    def open(self, source: FrameSource) -> Reader:
        """Return a reader of the file of a frame; errors as of ``open_location``."""
        self._ask()
        coming = self._coming.pop(source.path, None)
        self._ask()
        return open_frames(source) if coming is None else coming[0].result()

    def _ask(self) -> None:
        """Have as many files on their way as may be."""
        size = sum(count for _, count in self._coming.values())
        while self._pool and self._waiting and len(self._coming) < REQUESTS:
            source, count = self._waiting[0], first_bytes(self._waiting[0])
            size += count
            if self._coming and size > AHEAD_BYTES:
                return
            self._coming[source.path] = self._pool.submit(open_frames, source), count
            self._waiting.popleft()

    def __enter__(self) -> Ahead:
        """Return itself."""
        return self

    def __exit__(self, *error: object) -> None:
        """Forget what was not asked for."""
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
        self._waiting.clear()
        self._coming.clear()


def open_frames(source: FrameSource) -> Reader:
    """Return a reader of the file of a frame; errors as of ``open_location``."""
    return open_location(source.path, first_bytes(source))


def first_bytes(source: FrameSource) -> int:
    """Return how many bytes of a file are wanted at once: of one frame that is not large all of it."""
    whole = source.format.n_frames == 1 and source.size <= WHOLE_BYTES
    return source.size if whole else FIRST_BYTES
