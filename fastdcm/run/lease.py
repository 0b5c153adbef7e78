"""One run at a time on a store in a bucket: numbered lease objects, each made by an exclusive create, none in place.

The highest number holds. It is taken from a run that is gone by creating the next one, never by deleting, so that two
who try at once cannot both have it. A holder renews its own object and looks, before it changes the store, that there
is no higher one. Whether a lease is alive is seen by watching it change: no clock is compared. Whether creates are
exclusive, and ranges right, is tried on the server once a run and never believed.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from fastdcm import objects
from fastdcm.errors import SourceError, TargetError, UsageError
from fastdcm.model import Json

RENEW_S = 20.0
ALIVE_S = 120.0
"""A lease that does not change for so long is nobody's; a holder that could not renew for so long has lost it."""
HOLDER = "holder"
"""File of the working folder: what its runs are called in leases."""

_NAME = re.compile(r"lease-(\d{8})")


class _Found(NamedTuple):
    """The lease with the highest number."""

    number: int
    content: Json

    @property
    def ended(self) -> bool:
        return self.number == 0 or self.content.get("state") == "ended"


class Lease:
    """The right of this run to change a store; made by ``hold_lease``."""

    def __init__(self, folder: str, number: int, holder: str, *, alone: bool) -> None:
        self._folder, self.number, self._holder = folder, number, holder
        self.alone = alone
        """The last run was of the same working folder: its journal is whole."""
        self._renewed = time.monotonic()
        self._count = 0
        self._end = threading.Event()

    def check(self) -> None:
        """Raise TargetError where another run took over, or this one could not renew in time."""
        highest = _highest(self._folder)
        if highest.number != self.number:
            raise TargetError(
                f"another conversion took this store over (lease {highest.number}, this run has {self.number})"
            )
        silent_s = time.monotonic() - self._renewed
        if silent_s > ALIVE_S:
            raise TargetError(f"the lease could not be renewed for {silent_s:.0f} s: run the same command again")

    def renew(self) -> None:
        """Renew until the end; a server that is away for a while is asked again."""
        while not self._end.wait(RENEW_S):
            try:
                self.write("live")
            except TargetError:
                continue

    def write(self, state: str) -> None:
        """Write the lease: a change is what others watch for."""
        began = time.monotonic()
        self._count += 1
        objects.put(_url(self._folder, self.number), _content(self._holder, state, self._count))
        self._renewed = began

    def end(self) -> None:
        """Stop renewing."""
        self._end.set()


@contextmanager
def hold_lease(
    folder: str, work: Path, *, single_writer: bool = False, tell: Callable[[str], None] = lambda _: None
) -> Iterator[Lease]:
    """Hold a store in a bucket.

    Parameters
    ----------
    folder : str
        URL of the leases, ``<DEST>.work``.
    work : Path
        Local working folder, whose lock is held: an earlier run of the same folder is gone for certain.
    single_writer : bool
        The server has no exclusive create: the user vouches that no other run works on the store.
    tell : callable
        Told why there is something to wait for.

    Raises
    ------
    UsageError
        Another run holds the store, or the server cannot be trusted with it.
    TargetError
        The server cannot be asked.
    """
    holder = _holder(work)
    probe(folder, holder, exclusive=not single_writer)
    before = _highest(folder)
    while not before.ended and before.content.get("holder") != holder:
        before = _watch(folder, before, tell)
    lease = Lease(folder, before.number + 1, holder, alone=before.content.get("holder") == holder)
    _create(lease, exclusive=not single_writer)
    objects.delete(_url(folder, item) for item in _numbers(folder) if item < lease.number)
    keeper = threading.Thread(target=lease.renew, name="fastdcm-lease", daemon=True)
    keeper.start()
    try:
        yield lease
    finally:
        lease.end()
        keeper.join()
        with suppress(TargetError):  # then it ends by itself, as it changes no more
            if _highest(folder).number == lease.number:
                lease.write("ended")


def _watch(folder: str, before: _Found, tell: Callable[[str], None]) -> _Found:
    """Return what to take over from; UsageError where the holder of a lease lives."""
    tell(f"a lease of another run is there: waiting up to {ALIVE_S:.0f} s to see whether it lives")
    until = time.monotonic() + ALIVE_S
    while time.monotonic() < until:
        time.sleep(min(RENEW_S / 4, ALIVE_S / 8))
        now = _highest(folder)
        if now.ended:
            return now
        if now != before:
            raise UsageError("another conversion works on this store; wait for it, or stop it")
    return _Found(before.number, {**before.content, "state": "ended"})


def _create(lease: Lease, *, exclusive: bool) -> None:
    """Create the lease, or see that another run was faster."""
    mine = _content(lease._holder, "live", 0)
    url = _url(lease._folder, lease.number)
    created = objects.put(url, mine, create=exclusive)
    if (not created and _read(url) != json.loads(mine)) or _highest(lease._folder).number != lease.number:
        raise UsageError("another conversion has just begun on this store; wait for it, or stop it")


def _content(holder: str, state: str, count: int) -> bytes:
    return json.dumps({"holder": holder, "state": state, "count": count, "process": os.getpid()}).encode()


def _url(folder: str, number: int) -> str:
    return objects.join(folder, f"lease-{number:08d}")


def _numbers(folder: str) -> list[int]:
    try:
        names = [item.key for item in objects.list_objects(folder)]
    except SourceError as error:
        raise TargetError(f"{folder}: {error}") from None
    return sorted(int(match[1]) for match in map(_NAME.fullmatch, names) if match)


def _highest(folder: str) -> _Found:
    numbers = _numbers(folder)
    return _Found(numbers[-1], _read(_url(folder, numbers[-1]))) if numbers else _Found(0, {})


def _read(url: str) -> Json:
    try:
        content = json.loads(objects.read(url, 10_000) or b"{}")
    except SourceError as error:
        raise TargetError(f"{url}: {error}") from None
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}


def _holder(work: Path) -> str:
    """Return the name of a working folder, made once."""
    file = work / HOLDER
    if not file.is_file():
        file.write_text(secrets.token_hex(16), encoding="ascii")
    return file.read_text(encoding="ascii")


# ---------------------------------------------------------------------------- what the server can do


def probe(folder: str, holder: str, *, exclusive: bool) -> None:
    """Try on the server what a store needs: ranges that are right and, if asked for, creates that are exclusive.

    Its two objects have the holder's name, so that what a killed run leaves of them goes with the next one.

    Raises
    ------
    UsageError
        The server does it wrong; the message says what.
    TargetError
        It cannot be asked: no server, no such bucket, access denied.
    """
    url = objects.join(folder, f"probe-{holder}")
    data = bytes(range(256)) * 4
    try:
        objects.put(url, data)  # says what is wrong with server, bucket and keys
        _probe_ranges(url, data)
        if exclusive:
            _probe_creates(f"{url}-create")
    finally:
        with suppress(TargetError):  # the first error tells more
            objects.delete([url, f"{url}-create"])


def _probe_ranges(url: str, data: bytes) -> None:
    tries: tuple[tuple[str, Callable[[], bytes], bytes], ...] = (
        ("a whole object", lambda: objects.read(url, len(data)) or b"", data),
        ("a range in the middle", lambda: objects.read_range(url, 100, 300), data[100:400]),
        ("a range at the end (bytes=-7)", lambda: objects.read_end(url, 7), data[-7:]),
    )
    for what, read, expected in tries:
        try:
            wrong = "answers with other bytes" if read() != expected else ""
        except SourceError as error:
            wrong = f"fails: {error}"
        if wrong:
            raise UsageError(
                f"this server cannot hold a store: asked for {what} of an object it {wrong}; use another server"
            )


def _probe_creates(url: str) -> None:
    try:
        objects.delete([url])
        first, second = objects.put(url, b"first", create=True), objects.put(url, b"second", create=True)
        kept = objects.read(url, 100)
    except (TargetError, SourceError) as error:
        first, second, kept = False, False, str(error).encode()
    if not first or second or kept != b"first":
        raise UsageError(
            "this server has no exclusive create (two with If-None-Match: * of one object did not conflict), so two "
            "conversions at once could not be told from one; --single-writer goes on if you see to it yourself"
        )
