"""Where a store is: a folder, or a URL of an object store that is read as a folder is."""

from __future__ import annotations

import io
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from fastdcm import objects
from fastdcm.errors import SourceError, UsageError

LIMIT_BYTES = 1 << 32
"""Of an object that is read whole: tables and documents, never pixels."""

_MARKER = re.compile(r"[^/]+/[^/]+/[^/]+\.ome\.zarr/zarr\.json")


@dataclass(frozen=True, slots=True)
class Url:
    """A place in an object store: the few methods of ``pathlib.Path`` that reading a store takes."""

    text: str

    def __str__(self) -> str:
        """Return the URL."""
        return self.text

    def __truediv__(self, key: object) -> Url:
        """Return the place of a relative key."""
        return Url(objects.join(self.text, str(key)))

    def joinpath(self, *keys: str) -> Url:
        """Return the place of several parts of a key."""
        return self / "/".join(keys)

    @property
    def name(self) -> str:
        """Its last part."""
        return self.text.rpartition("/")[2]

    @property
    def parent(self) -> Url:
        """The place above."""
        return Url(self.text.rpartition("/")[0])

    def absolute(self) -> Url:
        """Return itself: no URL is relative."""
        return self

    def is_file(self) -> bool:
        """Tell whether there is such an object."""
        with _as_oserror():
            return objects.stat(self.text) is not None

    exists = is_file

    def keys(self) -> Iterator[str]:
        """Yield the keys of all objects below, relative to this place, in their order. Raises OSError."""
        yield from (found.key for found in self.listed())

    def listed(self) -> Iterator[objects.ListedObject]:
        """Yield all objects below with their sizes and times, in the order of their keys. Raises OSError."""
        with _as_oserror():
            yield from objects.list_objects(self.text)

    def read_bytes(self) -> bytes:
        """Return the object. Raises OSError, FileNotFoundError where there is none."""
        with _as_oserror():
            data = objects.read(self.text, LIMIT_BYTES)
        if data is None:
            raise FileNotFoundError(f"{self.text} does not exist")
        return data


Place = Path | Url


@contextmanager
def _as_oserror() -> Iterator[None]:
    """Let reading from a server fail as reading from a disk does."""
    try:
        yield
    except SourceError as error:
        raise OSError(error.message) from None


def place_of(path: str | os.PathLike[str] | Url) -> Place:
    """Return the place that a user names: a path, or a URL (``objects.is_url``)."""
    if isinstance(path, Url):
        return path
    if isinstance(path, str) and objects.is_url(path):
        objects.locate(path)  # says what is wrong with it
        return Url(path.rstrip("/"))
    return Path(path)


def work_folder(place: Place, work: str | os.PathLike[str] | None) -> Path:
    """Return the working folder of a store: beside it; of a store at a URL in the current folder, as it is private."""
    if work is not None:
        return Path(os.path.abspath(work))
    beside = place if isinstance(place, Path) else Path(place.name)
    return Path(os.path.abspath(beside.with_name(f"{beside.name}.work")))


def folder_of(place: Place) -> Path:
    """Return a place that is a folder. Raises UsageError for a URL."""
    if isinstance(place, Url):
        raise UsageError(f"{place} is no folder: .place has the URL")
    return place


def table_file(place: Place) -> Path | BinaryIO:
    """Return what Parquet is read from: the path of a file, or the bytes of an object."""
    return place if isinstance(place, Path) else io.BytesIO(place.read_bytes())


def is_marker(key: str) -> bool:
    """Tell whether a key below a store is the marker of a volume: it is written last, and says that all is there."""
    return _MARKER.fullmatch(key) is not None


def published_volumes(store: Place) -> Iterator[str]:
    """Yield the paths ``<study>/<series>/<n>.ome.zarr`` of volumes that are there: those that have their marker.

    Raises
    ------
    OSError
        The object store cannot be asked.
    """
    marker = "/zarr.json"
    if isinstance(store, Url):
        yield from (key[: -len(marker)] for key in store.keys() if is_marker(key))  # noqa: SIM118 - no mapping
    else:
        yield from (path.parent.relative_to(store).as_posix() for path in store.glob(f"*/*/*.ome.zarr{marker}"))
