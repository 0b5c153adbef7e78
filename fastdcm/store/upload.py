"""The commit rule where nothing can be renamed: all objects of a volume at their final keys, its marker last.

A volume without its marker, the group's ``zarr.json``, is not there for any reader. It is taken away in the same order:
marker first.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, TypeVar

from fastdcm.errors import SourceError, TargetError
from fastdcm.model import ArraySpec
from fastdcm.objects import delete, join, list_objects, put, put_file
from fastdcm.places import Url, published_volumes
from fastdcm.store.commit import ROOT, expected_shards
from fastdcm.store.metadata import group_document

Item = TypeVar("Item")

_VOLUME = re.compile(r"([^/]+/[^/]+/[^/]+\.ome\.zarr)/")

REQUESTS = 16
"""At once, of one worker: small objects take their time on the way, not in the store."""


def upload(folders: Mapping[str, str]) -> None:
    """Send every file below some folders to the URLs of the folders, but for the volumes' markers.

    Raises
    ------
    TargetError
        One cannot be written; what is sent by then stays without its marker.
    """
    pairs = [
        (join(url, os.path.relpath(os.path.join(parent, name), top)), os.path.join(parent, name))
        for top, url in folders.items()
        for parent, _, names in os.walk(top)
        for name in sorted(names)
        if parent != top or name != ROOT
    ]
    in_parallel(lambda pair: put_file(*pair), pairs)


def upload_documents(url: str, documents: Mapping[str, bytes]) -> None:
    """Send the small files of a volume, but for its marker. Raises TargetError."""
    in_parallel(lambda name: put(join(url, name), documents[name]), [name for name in documents if name != ROOT])


def in_parallel(function: Callable[[Item], object], items: Sequence[Item]) -> None:
    """Call a function with each item, some at once; raises what the first call raises that does."""
    if len(items) < 2:
        for item in items:
            function(item)
        return
    with ThreadPoolExecutor(min(REQUESTS, len(items))) as pool:
        for _ in pool.map(function, items):
            pass


def count_objects(url: str, array: ArraySpec, size: int) -> None:
    """Count what is there of a volume before its marker is put: a lost shard would be read as fill.

    Parameters
    ----------
    url : str
        Of the volume.
    array : ArraySpec
        Its image: every shard must be there.
    size : int
        Bytes that all its objects have together.

    Raises
    ------
    TargetError
        The store does not hold what it took.
    """
    try:
        found = {item.key: item.size for item in list_objects(url)}
    except SourceError as error:
        raise TargetError(f"{url} cannot be counted: {error}") from None
    lost = [key for key in expected_shards(array) if f"0/image/{key}" not in found]
    if lost:
        raise TargetError(f"{url}: {len(lost)} shards are not there after they were written, first {lost[0]}")
    if sum(found.values()) != size:
        raise TargetError(f"{url} has {sum(found.values())} bytes after {size} were written; run it again")


class Finished(NamedTuple):
    """A volume of which only the marker is missing."""

    path: str
    """Below the store: <study>/<series>/<n>.ome.zarr."""
    array: ArraySpec
    size: int
    """Bytes of all its objects, the marker's too."""
    marker: bytes


def publish_volumes(store: str, group: Sequence[Finished]) -> None:
    """Count finished volumes, and put the groups above them and their markers.

    Raises
    ------
    TargetError
        One is not all there, or the store failed; volumes that got their marker are published.
    """
    above = {volume.path.rpartition("/")[0] for volume in group}
    groups = sorted({part for path in above for part in (path.partition("/")[0], path)})
    in_parallel(lambda path: put(join(store, f"{path}/{ROOT}"), group_document()), groups)

    def publish_one(volume: Finished) -> None:
        url = join(store, volume.path)
        count_objects(url, volume.array, volume.size - len(volume.marker))
        put(join(url, ROOT), volume.marker)

    in_parallel(publish_one, group)


def remove_unfinished(store: str) -> set[str]:
    """Remove what there is of volumes without a marker; return the paths of the others. Raises TargetError."""
    try:
        found = [match[1] for item in list_objects(store) if (match := _VOLUME.match(item.key))]
        whole = set(published_volumes(Url(store)))
    except (SourceError, OSError) as error:
        raise TargetError(f"{store} cannot be listed: {error}") from None
    for path in sorted(set(found) - whole):
        remove_volume(join(store, path))
    return whole


def remove_volume(url: str) -> None:
    """Take a volume, or what there is of it, out of the store: its marker first. Raises TargetError."""
    marker = join(url, ROOT)
    delete([marker])
    try:
        rest = [join(url, item.key) for item in list_objects(url)]
    except SourceError as error:
        raise TargetError(f"{url} cannot be listed: {error}") from None
    in_parallel(lambda one: delete([one]), rest)
