"""Walk sources: every file once a source, in one order, whatever the names and links are.

Nothing is opened here but directories. What cannot be listed becomes a row with a reason.
"""

from __future__ import annotations

import os
import re
import stat
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

from fastdcm.errors import PAUSES_S, Code, Outcome, may_pass

_AHEAD = 8
"""Directories listed ahead of the reader: hides the latency of network file systems, bounds the memory."""

_AMBIGUOUS = re.compile(r"%(?=[0-9A-Fa-f]{2})")
_ESCAPED = re.compile(rb"%([0-9A-Fa-f]{2})")


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


def encode_path(os_path: str | bytes) -> str:
    """Turn the name of a file into text that can be stored: valid UTF-8, and reversible.

    Parameters
    ----------
    os_path : str or bytes
        A path as the os module gives it (undecodable bytes as surrogates).

    Returns
    -------
    str
        Bytes that are no UTF-8 become ``%XX``; ``%`` becomes ``%25`` only where two hexadecimal digits follow.
    """
    text = os.fsdecode(os_path)
    if text.isascii():
        return _AMBIGUOUS.sub("%25", text) if "%" in text else text
    readable = os.fsencode(text).decode("utf-8", "surrogateescape")
    escaped = _AMBIGUOUS.sub("%25", readable)
    return "".join(f"%{ord(c) - 0xDC00:02X}" if 0xDC80 <= ord(c) <= 0xDCFF else c for c in escaped)


def path_bytes(text: str) -> bytes:
    """Invert ``encode_path``: the path's bytes, as the system has them."""
    raw = text.encode()
    return _ESCAPED.sub(lambda match: bytes([int(match[1], 16)]), raw) if b"%" in raw else raw


def decode_path(text: str) -> str:
    """Invert ``encode_path``: the path for the os module, undecodable bytes as surrogates."""
    return os.fsdecode(path_bytes(text))


def source_root(source: str) -> str:
    """Return the folder that the paths of a source are relative to: itself, or where the single file lies."""
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
        Files or folders.
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
    try:
        status = os.stat(source)
    except OSError as error:
        yield FoundFile(number, encode_path(os.path.basename(source)), 0, 0, os_fault(error))
        return
    if not stat.S_ISDIR(status.st_mode):
        name = os.path.basename(source)
        yield FoundFile(number, encode_path(name), status.st_size, status.st_mtime_ns, _fault_of(name, status.st_mode))
        return
    pending: list[FoundFile | _Folder] = [_Folder(source, "", (status.st_dev, status.st_ino))]
    listings: dict[_Folder, Future[list[FoundFile | _Folder]]] = {}
    walked: set[tuple[int, int]] = set()
    while pending:
        item = pending.pop()
        if isinstance(item, FoundFile):
            yield item
            continue
        listing = listings.pop(item, None)
        if item.identity in walked:
            continue
        walked.add(item.identity)
        pending += reversed(listing.result() if listing else list_folder(number, item, sizes=sizes))
        for folder in _upcoming_folders(pending, walked):
            if folder not in listings:
                listings[folder] = pool.submit(list_folder, number, folder, sizes=sizes)


def _upcoming_folders(pending: list[FoundFile | _Folder], walked: set[tuple[int, int]]) -> list[_Folder]:
    """Return the next few folders that will be walked."""
    nearest = pending[: -4 * _AHEAD - 1 : -1]
    folders = [item for item in nearest if isinstance(item, _Folder) and item.identity not in walked]
    return folders[:_AHEAD]


def list_folder(number: int, folder: _Folder, *, sizes: bool = False) -> list[FoundFile | _Folder]:
    """Return the files and folders of one folder, sorted; a plain file costs no system call unless for ``sizes``.

    A folder that the system fails to list in a way that may pass is listed again, after a pause.
    """
    for pause_s in PAUSES_S:
        try:
            return _list_folder(number, folder, sizes, last=False)
        except OSError:
            time.sleep(pause_s)
    return _list_folder(number, folder, sizes, last=True)


def _list_folder(number: int, folder: _Folder, sizes: bool, *, last: bool) -> list[FoundFile | _Folder]:
    prefix = f"{folder.relative}/" if folder.relative else ""
    plain: list[str] = []
    others: dict[str, FoundFile | _Folder] = {}
    try:
        with os.scandir(folder.path) as entries:
            for entry in entries:
                name = entry.name
                path = prefix + encode_path(name)
                if entry.is_file(follow_symlinks=False) and not sizes and not name.startswith("._"):
                    plain.append(path)
                    continue
                item = _inspect(number, entry, path)
                others[f"{path}/" if isinstance(item, _Folder) else path] = item
    except OSError as error:
        if not last and may_pass(error):
            raise
        others[prefix] = FoundFile(number, folder.relative or ".", 0, 0, os_fault(error, "folder"))
    if not others:
        plain.sort()
        return [FoundFile(number, path) for path in plain]
    return [others.get(key) or FoundFile(number, key) for key in sorted([*plain, *others])]


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
    if not stat.S_ISREG(mode):
        return Fault(Outcome.NOT_DICOM, Code.NO_DICOM, "a special file (pipe, socket or device); it was not opened")
    if name.startswith("._"):
        return Fault(Outcome.NOT_DICOM, Code.APPLE_DOUBLE, "an AppleDouble file of a Mac, which holds no image")
    return None


def with_status(found: FoundFile, path: str | bytes) -> FoundFile:
    """Return a file with its size and time, asked for where they are not known; 0 where nobody can tell."""
    if found.size >= 0:
        return found
    try:
        status = os.stat(path)
    except OSError:
        return found._replace(size=0, mtime_ns=0)
    return found._replace(size=status.st_size, mtime_ns=status.st_mtime_ns)


def os_fault(error: OSError, what: str = "file") -> Fault:
    """Return the outcome of a file or folder that the system did not let us read; names no path."""
    code = Code.PERMISSION if isinstance(error, PermissionError) else Code.UNREADABLE
    reason = error.strerror or "unknown error"
    return Fault(Outcome.FAILED, code, f"the {what} could not be read: {reason}; make it readable and run again")
