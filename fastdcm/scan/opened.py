"""The one way to open a source: a location to a reader of its bytes, whatever it is.

A location (``scan/location.py``) is plain text, so every process opens it by itself. What was listed of an archive is
kept in the process, bounded, as long as the archive is the same file of the same size and time.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from typing import NamedTuple

from fastdcm.errors import Code, SourceError
from fastdcm.objects import is_url
from fastdcm.scan.archive import Archive, has_archive_name, read_archive
from fastdcm.scan.location import Parts, is_member, member_location, parts_of
from fastdcm.scan.reading import LocalFile, Reader, Spool, Unpacked, blocks_of
from fastdcm.scan.remote import RemoteFile, Started, status_at, status_of
from fastdcm.scan.sniff import HEAD_BYTES, not_dicom
from fastdcm.scan.zip_list import NEVER_READ, Kind

LEVELS_MAX = 2
"""An archive in an archive is opened; one in that is not."""
ARCHIVES_KEPT = 64
MEMBERS_KEPT = 2**21
"""Of all archives that are kept: a million members take some 200 MB."""


def is_plain(location: str | bytes) -> bool:
    """Whether a location is a path that the operating system opens."""
    text = location if isinstance(location, str) else os.fsdecode(location)
    return "\0" not in text and ("://" not in text or not is_url(text))


def is_far(location: str | bytes) -> bool:
    """Whether a location is at a URL, or in an archive that is: each request takes its time on the line."""
    return not is_plain(location) and is_url(parts_of(location).path)


def open_location(location: str | bytes, first_bytes: int = 0) -> Reader:
    """Open a file, an object, or a member of an archive.

    Parameters
    ----------
    location : str or bytes
        Where it is.
    first_bytes : int
        How many of its first bytes will be wanted: what is far gives them with the request that opens it, and they
        are held until it is closed.

    Raises
    ------
    OSError
        The file, or the archive, cannot be opened or read.
    SourceError
        It is no regular file (``unreadable``); the archive is broken or has no such member any more.
    """
    if is_member(location):
        member = _member_at(parts_of(location))
        return Started(member, first_bytes) if first_bytes and is_far(location) else member
    return LocalFile(location) if is_plain(location) else RemoteFile(os.fsdecode(location), first_bytes)


def stat_location(location: str | bytes) -> tuple[int, int]:
    """Return size and modification time (ns); of a member the time is that of its archive.

    Raises
    ------
    OSError, SourceError
        As ``open_location``.
    """
    if is_plain(location):
        about = os.stat(location)
        return about.st_size, about.st_mtime_ns
    if not is_member(location):
        status = status_at(os.fsdecode(location))
        return status.size, status.mtime_ns
    with open_location(location) as reader:
        return reader.size, reader.mtime_ns


def archive_of(location: str) -> Archive | None:
    """Return the members of an archive; None where a file is none.

    Raises
    ------
    OSError, SourceError
        It cannot be read.
    """
    return _archive_at(parts_of(location))


def is_too_deep(location: str) -> bool:
    """Whether an archive lies inside too many others to be opened."""
    return len(parts_of(location).members) >= LEVELS_MAX


def holds_images(archive: Archive, location: str) -> bool:
    """Whether a member of an archive may be DICOM, or cannot be told; stops at the first.

    Raises
    ------
    OSError
        It cannot be read.
    """
    if archive.holds_images is None:
        order = archive.facts[:, 1].argsort(kind="stable").tolist()
        archive.holds_images = any(_may_be_image(archive, row, location) for row in order)
    return archive.holds_images


def _may_be_image(archive: Archive, row: int, location: str) -> bool:
    kind, _, _, size, _ = archive.facts[row].tolist()
    name = archive.names[row]
    if kind in NEVER_READ or not size:
        return kind in (Kind.ENCRYPTED, Kind.UNREADABLE, Kind.CUT)
    if has_archive_name(name):
        inner = member_location(location, name)
        inside = None if is_too_deep(inner) else archive_of(inner)
        if inside is None:
            return is_too_deep(inner)
        return inside.problem is not None or holds_images(inside, inner)
    try:
        with archive.open(row) as reader:
            head = reader.read_at(0, HEAD_BYTES)
    except SourceError:
        return True
    return not_dicom(head, size, name.rpartition("/")[2]) is None


# ---------------------------------------------------------------------------- what is kept


class _Kept(NamedTuple):
    identity: object
    archive: Archive | None


_lock = threading.Lock()
_kept: OrderedDict[Parts, _Kept] = OrderedDict()
_busy: dict[Parts, threading.Lock] = {}
"""While an archive is listed, others wait for it in place of listing it too."""


def _archive_at(place: Parts) -> Archive | None:
    with _lock:
        turn = _busy.setdefault(place, threading.Lock())
    with turn:
        identity = _identity(place)
        with _lock:
            kept = _kept.get(place)
            if kept is not None and kept.identity == identity:
                _kept.move_to_end(place)
                return kept.archive
        archive = read_archive(_reader(place), nested=len(place.members) + 1 < LEVELS_MAX)
        with _lock:
            _kept[place] = _Kept(identity, archive)
            _kept.move_to_end(place)
            _forget_oldest()
        return archive


def _identity(place: Parts) -> object:
    """Return what stays the same while an archive does: of a nested one what was listed of the one around it."""
    if place.members:
        return _archive_at(Parts(place.path, place.members[:-1]))
    if not is_plain(place.path):
        return status_of(place.path)
    about = os.stat(place.path)
    return about.st_dev, about.st_ino, about.st_size, about.st_mtime_ns


def _member_at(place: Parts) -> Reader:
    archive = _archive_at(Parts(place.path, place.members[:-1]))
    row = -1 if archive is None else archive.row(place.members[-1])
    if archive is None or row < 0:
        raise SourceError(Code.CHANGED, "the archive changed after the scan: it has no such member now; run it again")
    return archive.open(row)


def _reader(place: Parts) -> Reader:
    """Return a reader of an archive, for any place in it and any thread."""
    if not place.members:
        return open_location(place.path)
    inner = _member_at(place)
    if not isinstance(inner, Unpacked):
        return inner
    spool = Spool(inner.mtime_ns)
    for block in blocks_of(inner, 0, inner.size):
        spool.add(block)
    return spool


def _forget_oldest() -> None:
    """Drop what was not used for longest; whoever reads from it still holds it."""
    while len(_kept) > 1 and (len(_kept) > ARCHIVES_KEPT or _members_kept() > MEMBERS_KEPT):
        place, _ = _kept.popitem(last=False)
        _busy.pop(place, None)


def _members_kept() -> int:
    return sum(len(kept.archive.names) for kept in _kept.values() if kept.archive is not None)
