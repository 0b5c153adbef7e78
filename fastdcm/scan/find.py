"""Walk sources: every file once a source, in one order, whatever the names and links are.

Nothing is opened here but folders and archives. What cannot be listed becomes a row with a reason. An archive that
holds DICOM is its members, each a file; any other archive is one file.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

from fastdcm.errors import PAUSES_S, Code, Outcome, SourceError, may_pass
from fastdcm.objects import is_url
from fastdcm.scan.archive import Archive, fault_of, has_archive_name
from fastdcm.scan.location import MARK, decode_path, encode_path, member_location, path_bytes
from fastdcm.scan.opened import archive_of, holds_images, is_too_deep, stat_location
from fastdcm.scan.remote import absolute_url, files_below
from fastdcm.scan.zip_list import NEVER_READ, Kind

__all__ = [
    "Fault",
    "FoundFile",
    "absolute_source",
    "decode_path",
    "encode_path",
    "find_files",
    "full_path",
    "os_fault",
    "path_bytes",
    "source_root",
    "with_status",
]

_AHEAD = 8
"""Directories listed ahead of the reader: hides the latency of network file systems, bounds the memory."""


class Fault(NamedTuple):
    """A final outcome with its reason."""

    outcome: Outcome
    code: Code
    message: str


class FoundFile(NamedTuple):
    """One input file, or a folder that could not be listed (then ``error`` says why)."""

    source: int
    """Number of the source, from 0."""
    path: str
    """Relative to its source, encoded by ``encode_path``; the base name where the source is a file itself."""
    size: int = -1
    """Bytes; -1: not asked for, whoever opens the file learns it."""
    mtime_ns: int = -1
    """-1 as with ``size``."""
    error: Fault | None = None
    """The final outcome of what must not be opened."""


class _Folder(NamedTuple):
    path: str
    relative: str
    identity: tuple[int, int]


class _Archive(NamedTuple):
    """A file that is called like an archive, at one of its two places in the order: its own, and its members'."""

    path: str
    """Location."""
    relative: str
    own: bool


def source_root(source: str) -> str:
    """Return the folder that the paths of a source are relative to: itself, or where the single file lies."""
    if is_url(source):
        return source[: source.rindex("/") + 1]
    return source if os.path.isdir(source) else os.path.dirname(source)


def full_path(sources: Sequence[str], source: int, path: str) -> str:
    """Return the path of a found file for the os module.

    Parameters
    ----------
    sources : sequence of str
        The sources as they were given to ``find_files``.
    source : int
        Which of them.
    path : str
        ``FoundFile.path``.
    """
    return os.path.join(source_root(sources[source]), decode_path(path))


def find_files(sources: Sequence[str], *, sizes: bool = False) -> Iterator[FoundFile]:
    """Yield every file below the sources, in the order (source, UTF-8 bytes of the path).

    Links to files and folders are followed; a folder that was walked already in the same source (a link loop, a
    second link) is not walked again. Overlapping sources each list their files. Special files and AppleDouble
    files (``._*``) come with their outcome; so do folders and files that cannot be read.

    Parameters
    ----------
    sources : sequence of str
        Files, folders and URLs, as ``absolute_source`` gives them.
    sizes : bool
        Ask for the size and time of every file, one system call each.

    Yields
    ------
    FoundFile
        One a file.
    """
    with ThreadPoolExecutor(_AHEAD) as pool:
        for number, source in enumerate(sources):
            yield from _find_source(number, os.fspath(source), pool, sizes)


def _find_source(number: int, source: str, pool: ThreadPoolExecutor, sizes: bool) -> Iterator[FoundFile]:
    """Depth first; a folder sorts as its name and a slash, which makes the order that of whole paths."""
    if is_url(source):
        yield from _find_remote(number, source, sizes)
        return
    try:
        status = os.stat(source)
    except OSError as error:
        yield FoundFile(number, encode_path(os.path.basename(source)), 0, 0, os_fault(error))
        return
    if not stat.S_ISDIR(status.st_mode):
        name = os.path.basename(source)
        fault = _fault_of(name, status.st_mode)
        if fault is None:
            yield from _find_archive(number, source, encode_path(name))
        else:
            yield FoundFile(number, encode_path(name), status.st_size, status.st_mtime_ns, fault)
        return
    pending: list[FoundFile | _Folder | _Archive] = [_Folder(source, "", (status.st_dev, status.st_ino))]
    listings: dict[_Folder, Future[list[FoundFile | _Folder | _Archive]]] = {}
    walked: set[tuple[int, int]] = set()
    while pending:
        item = pending.pop()
        if isinstance(item, FoundFile):
            yield item
            continue
        if isinstance(item, _Archive):
            yield from _own_row(number, item.path, item.relative) if item.own else _member_rows(number, item)
            continue
        listing = listings.pop(item, None)
        if item.identity in walked:
            continue
        walked.add(item.identity)
        pending += reversed(listing.result() if listing else list_folder(number, item, sizes=sizes))
        for folder in _upcoming_folders(pending, walked):
            if folder not in listings:
                listings[folder] = pool.submit(list_folder, number, folder, sizes=sizes)


def _upcoming_folders(pending: list[FoundFile | _Folder | _Archive], walked: set[tuple[int, int]]) -> list[_Folder]:
    """Return the next few folders that will be walked."""
    nearest = pending[: -4 * _AHEAD - 1 : -1]
    folders = [item for item in nearest if isinstance(item, _Folder) and item.identity not in walked]
    return folders[:_AHEAD]


def list_folder(number: int, folder: _Folder, *, sizes: bool = False) -> list[FoundFile | _Folder | _Archive]:
    """Return the files and folders of one folder, sorted; a plain file costs no system call unless for ``sizes``.

    A folder that the system fails to list in a way that may pass is listed again, after a pause.
    """
    for pause_s in PAUSES_S:
        try:
            return _list_folder(number, folder, sizes, last=False)
        except OSError:
            time.sleep(pause_s)
    return _list_folder(number, folder, sizes, last=True)


def _list_folder(number: int, folder: _Folder, sizes: bool, *, last: bool) -> list[FoundFile | _Folder | _Archive]:
    prefix = f"{folder.relative}/" if folder.relative else ""
    plain: list[str] = []
    others: dict[str, FoundFile | _Folder | _Archive] = {}
    try:
        with os.scandir(folder.path) as entries:
            for entry in entries:
                name = entry.name
                path = prefix + encode_path(name)
                odd = sizes or name.startswith("._") or has_archive_name(name)
                if not odd and entry.is_file(follow_symlinks=False):
                    plain.append(path)
                    continue
                item = _inspect(number, entry, path)
                if isinstance(item, FoundFile) and item.error is None and has_archive_name(name):
                    others |= _both(entry.path, path)
                else:
                    others[f"{path}/" if isinstance(item, _Folder) else path] = item
    except OSError as error:
        if not last and may_pass(error):
            raise
        others[prefix] = FoundFile(number, folder.relative or ".", 0, 0, os_fault(error, "folder"))
    if not others:
        plain.sort()
        return [FoundFile(number, path) for path in plain]
    return [others.get(key) or FoundFile(number, key) for key in sorted([*plain, *others])]


# ---------------------------------------------------------------------------- URLs


def absolute_source(source: str) -> str:
    """Return a source that means the same everywhere: an absolute path; a URL, with a slash at its end if a folder.

    Raises
    ------
    UsageError, SourceError
        It is no URL that can be read; the server cannot be asked.
    """
    return absolute_url(source) if is_url(source) else os.path.abspath(source)


def _find_remote(number: int, url: str, sizes: bool) -> Iterator[FoundFile]:
    """Yield the objects below a URL that ends with a slash; another one is an object itself."""
    if not url.endswith("/"):
        yield from _find_archive(number, url, encode_path(url.rpartition("/")[2]))
        return
    items: dict[str, FoundFile | _Archive] = {}
    try:
        for key, size, mtime_ns in files_below(url):
            text, name = encode_path(key), key.rpartition("/")[2]
            error = _apple_double(name)
            if error is None and has_archive_name(name):
                items |= _both(url + key, text)
            else:
                items[text] = FoundFile(number, text, size, mtime_ns, error)
    except SourceError as unread:
        items[""] = FoundFile(number, ".", 0, 0, Fault(Outcome.FAILED, unread.code, unread.message))
    for text in sorted(items):
        item = items.pop(text)
        if isinstance(item, FoundFile):
            yield with_status(item, url + decode_path(item.path)) if sizes and not item.error else item
        else:
            yield from _own_row(number, item.path, item.relative) if item.own else _member_rows(number, item)


# ---------------------------------------------------------------------------- archives


def _both(location: str, text: str) -> dict[str, _Archive]:
    """Return an archive at its two places in the order."""
    return {text: _Archive(location, text, True), text + MARK: _Archive(location, text, False)}


def _find_archive(number: int, location: str, text: str) -> Iterator[FoundFile]:
    """Yield a single file, or what is in it where it is an archive."""
    yield from _own_row(number, location, text)
    yield from _member_rows(number, _Archive(location, text, False))


def _own_row(number: int, location: str, text: str) -> Iterator[FoundFile]:
    """Yield the row of a file that may be an archive: none where its members are all that is to be said of it."""
    try:
        archive = archive_of(location)
        if archive is None:
            yield with_status(FoundFile(number, text), location)
            return
        error = _fault_of_archive(archive, holds_images(archive, location))
    except OSError as unread:
        error = os_fault(unread)
    except SourceError as unread:
        error = Fault(Outcome.FAILED, unread.code, unread.message)
    if error is not None:
        yield with_status(FoundFile(number, text), location)._replace(error=error)


def _fault_of_archive(archive: Archive, has_images: bool) -> Fault | None:
    if archive.problem is not None:
        return Fault(Outcome.FAILED, archive.problem[0], f"the archive: {archive.problem[1]}")
    if not has_images:
        count = f"{len(archive.names)} member{'s' if len(archive.names) != 1 else ''}"
        return Fault(Outcome.NOT_DICOM, Code.NO_DICOM, f"an archive without DICOM in its {count}")
    return None


def _member_rows(number: int, item: _Archive) -> Iterator[FoundFile]:
    """Yield the members of an archive that holds images, in the order of their paths."""
    try:
        archive = archive_of(item.path)
        if archive is None or not holds_images(archive, item.path):
            return
    except (OSError, SourceError):
        return  # its own row says so
    mtime_ns = archive.reader.mtime_ns
    for row, name, own in _in_order(archive):
        text = f"{item.relative}{MARK}{name}"
        kind, _, _, size, _ = archive.facts[row].tolist()
        error = _fault_of_member(Kind(kind), name)
        if error is None and has_archive_name(name):
            inner = _Archive(member_location(item.path, name), text, own)
            if is_too_deep(inner.path):
                error = Fault(Outcome.FAILED, Code.ARCHIVE_BOUND, "an archive in archives is not opened; unpack it")
        if error is None and has_archive_name(name):
            yield from _own_row(number, inner.path, text) if own else _member_rows(number, inner)
        elif own:
            yield FoundFile(number, text, size, mtime_ns, error)


def _in_order(archive: Archive) -> Iterator[tuple[int, str, bool]]:
    """Yield (row, name, whether it is the member's own place): archives come twice, as in a folder."""
    inner = sorted(f"{name}{MARK}" for name in archive.names if has_archive_name(name))
    waiting = iter([*inner, None])
    mark = next(waiting)
    for row, name in enumerate(archive.names):
        while mark is not None and mark < name:
            yield archive.row(mark[: -len(MARK)]), mark[: -len(MARK)], False
            mark = next(waiting)
        yield row, name, True
    while mark is not None:
        yield archive.row(mark[: -len(MARK)]), mark[: -len(MARK)], False
        mark = next(waiting)


def _fault_of_member(kind: Kind, name: str) -> Fault | None:
    """Return the outcome of a member that must not be opened."""
    base = name.rpartition("/")[2]
    if kind == Kind.SPECIAL:
        return _special("link, pipe or device")
    if kind in NEVER_READ and not base.startswith("._"):
        outcome = {Kind.REPLACED: Outcome.DUPLICATE, Kind.NO_DICOM: Outcome.NOT_DICOM}.get(kind, Outcome.FAILED)
        return Fault(outcome, *fault_of(kind))
    return _apple_double(base)


# ---------------------------------------------------------------------------- single files


def _inspect(number: int, entry: os.DirEntry[str], path: str) -> FoundFile | _Folder:
    try:
        status = entry.stat()
    except OSError as error:
        return FoundFile(number, path, 0, 0, os_fault(error))
    if stat.S_ISDIR(status.st_mode):
        return _Folder(entry.path, path, (status.st_dev, status.st_ino))
    return FoundFile(number, path, status.st_size, status.st_mtime_ns, _fault_of(entry.name, status.st_mode))


def _fault_of(name: str, mode: int) -> Fault | None:
    """Return the outcome of a file that must not be opened."""
    return _apple_double(name) if stat.S_ISREG(mode) else _special("pipe, socket or device")


def _special(what: str) -> Fault:
    return Fault(Outcome.NOT_DICOM, Code.NO_DICOM, f"a special file ({what}); it was not opened")


def _apple_double(name: str) -> Fault | None:
    if name.startswith("._"):
        return Fault(Outcome.NOT_DICOM, Code.APPLE_DOUBLE, "an AppleDouble file of a Mac, which holds no image")
    return None


def with_status(found: FoundFile, path: str | bytes) -> FoundFile:
    """Return a file with its size and time, asked for where they are not known; 0 where nobody can tell."""
    if found.size >= 0:
        return found
    try:
        size, mtime_ns = stat_location(path)
    except (OSError, SourceError):
        return found._replace(size=0, mtime_ns=0)
    return found._replace(size=size, mtime_ns=mtime_ns)


def os_fault(error: OSError, what: str = "file") -> Fault:
    """Return the outcome of a file or folder that the system did not let us read; names no path."""
    code = Code.PERMISSION if isinstance(error, PermissionError) else Code.UNREADABLE
    reason = error.strerror or "unknown error"
    return Fault(Outcome.FAILED, code, f"the {what} could not be read: {reason}; make it readable and run again")
