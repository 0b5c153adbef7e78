r"""How the place of a file is written: as text that can be stored, and as a location that can be opened.

The text (column ``path``) is valid UTF-8. A member of an archive is ``a.zip!/name``, one of an archive in an archive
``a.zip!/b.tar!/name``; the text of no other file has ``!/`` in it. In a location the first of these marks is a NUL,
which no name of the operating system has: ``/export/a.zip\0b.tar!/name``. What follows the NUL is looked up in the
archive's own list and never becomes a path.
"""

from __future__ import annotations

import os
import re
from typing import NamedTuple

MARK = "!/"
_NUL, _NUL_BYTE = "\0", b"\0"
_AMBIGUOUS = re.compile(r"%(?=[0-9A-Fa-f]{2})")
_ESCAPED = re.compile(rb"%([0-9A-Fa-f]{2})")
_ENDS_IN_MARK = re.compile(r"!(?=/|\Z)")


def encode_path(os_path: str | bytes) -> str:
    """Turn the name of a file into text that can be stored: valid UTF-8, and reversible.

    Parameters
    ----------
    os_path : str or bytes
        A path as the os module gives it (undecodable bytes as surrogates).

    Returns
    -------
    str
        Bytes that are no UTF-8 become ``%XX``; ``%`` becomes ``%25`` only where two hexadecimal digits follow, and
        ``!`` at the end of a name ``%21``.
    """
    text = os_path if isinstance(os_path, str) else os.fsdecode(os_path)
    if text.isascii() and "%" not in text and "!" not in text:
        return text
    readable = os.fsencode(text).decode("utf-8", "surrogateescape")
    escaped = _ENDS_IN_MARK.sub("%21", _AMBIGUOUS.sub("%25", readable))
    return "".join(f"%{ord(c) - 0xDC00:02X}" if 0xDC80 <= ord(c) <= 0xDCFF else c for c in escaped)


def path_bytes(text: str) -> bytes:
    """Invert ``encode_path``: the path's bytes, as the system has them; of a member its location."""
    if MARK in text:
        archive, _, member = text.partition(MARK)
        return path_bytes(archive) + _NUL_BYTE + member.encode()
    raw = text.encode()
    return _ESCAPED.sub(lambda match: bytes([int(match[1], 16)]), raw) if b"%" in raw else raw


def decode_path(text: str) -> str:
    """Invert ``encode_path``: the path for the os module, undecodable bytes as surrogates; of a member its location."""
    if MARK in text:
        archive, _, member = text.partition(MARK)
        return decode_path(archive) + _NUL + member
    return os.fsdecode(path_bytes(text))


class Parts(NamedTuple):
    """The parts of a location."""

    path: str
    """Of the file that the system has."""
    members: tuple[str, ...]
    """Names, the outermost first; none: the file itself."""


def parts_of(location: str | bytes) -> Parts:
    """Take a location apart."""
    path, mark, members = _as_text(location).partition(_NUL)
    return Parts(path, tuple(members.split(MARK)) if mark else ())


def member_location(archive: str, name: str) -> str:
    """Return the location of a member of an archive, which may be a member itself."""
    return f"{archive}{MARK if _NUL in archive else _NUL}{name}"


def base_name(location: str) -> str:
    """Return the last part of the name of a file, or of the innermost member."""
    path, members = parts_of(location)
    return (members[-1] if members else path).rpartition("/")[2]


def is_member(location: str | bytes) -> bool:
    """Whether a location is inside an archive."""
    return (_NUL_BYTE if isinstance(location, bytes) else _NUL) in location  # type: ignore[operator]  # of one type


def _as_text(location: str | bytes) -> str:
    """Return a location as str: the system's part by its rules, members as the UTF-8 that they are."""
    if isinstance(location, str):
        return location
    path, mark, members = location.partition(_NUL_BYTE)
    return os.fsdecode(path) + (_NUL + members.decode() if mark else "")


def location_of(path: str) -> str:
    """Return the location of what a person wrote: a path, or ``a.zip!/name`` where there is no such path."""
    if MARK not in path or os.path.lexists(path):
        return path
    for place in re.finditer(MARK, path):
        if os.path.isfile(path[: place.start()]):
            return path[: place.start()] + _NUL + path[place.end() :]
    return path


def shown(location: str) -> str:
    """Return a location as a person writes it."""
    return location.replace(_NUL, MARK)
