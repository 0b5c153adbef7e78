"""Complete or absent: a volume is built aside, counted, made durable, and only then renamed into the store.

Volumes are published in groups: one ``syncfs`` for all their files, the renames, one more for the renames. A failing
target is a ``TargetError``; what was published before stays.
"""

from __future__ import annotations

import errno
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from fastdcm.errors import CheckError, TargetError
from fastdcm.model import ArraySpec
from fastdcm.series.layout import Region

ROOT = "zarr.json"

_ADVICE = {
    errno.ENOSPC: "make room and run the same command again",
    errno.EDQUOT: "the quota is used up; make room and run the same command again",
    errno.EACCES: "give this user the right to write there",
    errno.EPERM: "give this user the right to write there",
    errno.EROFS: "it is mounted read-only",
    errno.EXDEV: "the work folder (--work) must lie on the file system of the store",
    errno.ENOTEMPTY: "something is there already",
    errno.EEXIST: "something is there already",
}


@contextmanager
def writing(what: str) -> Iterator[None]:
    """Turn an ``OSError`` of the body into a ``TargetError`` that says what could not be written, and what to do."""
    try:
        yield
    except BrokenPipeError:  # whoever read what we print is gone
        raise
    except OSError as error:
        reason = error.strerror or str(error)
        advice = _ADVICE.get(error.errno or 0, "check the target")
        raise TargetError(f"cannot write {what}: {reason}; {advice}") from error


# ---------------------------------------------------------------------------- write


def make_folders(folder: str | os.PathLike[str], array: ArraySpec) -> None:
    """Make all folders of a volume of one shard, parents first: one call each, and nobody has to look for them."""
    root = os.fspath(folder)
    with writing("a volume"):
        for name in _folders(array):
            try:
                os.mkdir(root + name)
            except FileExistsError:  # of the same task, which runs again
                continue


@lru_cache(maxsize=256)
def _folders(array: ArraySpec) -> tuple[str, ...]:
    """Return the folders of a volume of one shard, parents first."""
    from fastdcm.store.shard import shard_key

    key = shard_key(array, [0] * len(array.shape)).split("/")[:-1]
    nested = ["/".join(key[: depth + 1]) for depth in range(len(key))]
    return ("", "/0", "/0/image", *(f"/0/image/{part}" for part in nested), "/0/z", "/0/y", "/0/x")


def write_documents(folder: str | os.PathLike[str], documents: Mapping[str, bytes]) -> int:
    """Write the small files of a volume, its ``zarr.json`` last.

    Parameters
    ----------
    folder : path
        Of the volume that is being built; made where it is missing.
    documents : mapping
        From ``metadata.volume_documents``: bytes by path below the folder.

    Returns
    -------
    int
        Bytes written.
    """
    root = os.fspath(folder)
    with writing("the metadata of a volume"):
        for name in sorted(documents, key=lambda name: name == ROOT):
            path = f"{root}/{name}"
            try:
                _write(path, documents[name])
            except FileNotFoundError:
                os.makedirs(os.path.dirname(path), exist_ok=True)
                _write(path, documents[name])
    return sum(map(len, documents.values()))


def _write(path: str, data: bytes) -> None:
    """Write a small file: a file object would cost more than these few bytes.

    What is there is overwritten, never emptied first: a task may run twice, even while its first result is published.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        written = os.write(descriptor, data)
        while written < len(data):
            written += os.write(descriptor, data[written:])
        if os.fstat(descriptor).st_size > len(data):
            os.ftruncate(descriptor, len(data))
    finally:
        os.close(descriptor)


# ---------------------------------------------------------------------------- check


def check_complete(folder: str | os.PathLike[str], array: ArraySpec, region: Region | None = None) -> None:
    """Count the shards and chunks of an array before it is published: a lost one would read back as fill.

    Parameters
    ----------
    folder : path
        Of the array.
    array : ArraySpec
        What it must hold.
    region : tuple of (start, stop), optional
        Only the shards that begin in this part of the array.

    Raises
    ------
    CheckError
        A shard is missing, cut short or has a bad index, or a chunk is missing.
    """
    for key, corner, grid, used in _shards(array):
        if region is None or all(start <= n < stop for n, (start, stop) in zip(corner, region, strict=True)):
            _check_shard(f"{os.fspath(folder)}/{key}", key, grid, used)


def expected_shards(array: ArraySpec) -> Iterator[str]:
    """Yield the keys of all shards of an array, ``c/0/0/0``."""
    return (shard.key for shard in _shards(array))


class _Shard(NamedTuple):
    """Its key, its first voxel, its grid of chunks, and which of these hold a voxel."""

    key: str
    corner: tuple[int, ...]
    grid: tuple[int, ...]
    used: tuple[slice, ...]


def _shards(array: ArraySpec) -> Iterable[_Shard]:
    """Return the shards of an array; of small ones they are remembered, as many volumes have one shape."""
    return _few_shards(array) if math.prod(array.shape) <= math.prod(array.shards) else _all_shards(array)


def _all_shards(array: ArraySpec) -> Iterator[_Shard]:
    from fastdcm.series.layout import iter_shards
    from fastdcm.store.shard import shard_key

    grid = tuple(step // chunk for step, chunk in zip(array.shards, array.chunks, strict=True))
    for region in iter_shards(array):
        sizes = zip(region, array.chunks, strict=True)
        used = tuple(slice(-(-(stop - start) // chunk)) for (start, stop), chunk in sizes)
        corner = tuple(start for start, _ in region)
        yield _Shard(shard_key(array, corner), corner, grid, used)


@lru_cache(maxsize=256)
def _few_shards(array: ArraySpec) -> tuple[_Shard, ...]:
    return tuple(_all_shards(array))


def _check_shard(path: str, key: str, grid: tuple[int, ...], used: tuple[slice, ...]) -> None:
    from google_crc32c import value as crc32c

    from fastdcm.store.shard import ABSENT

    index_size = 16 * math.prod(grid) + 4
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            size = os.fstat(descriptor).st_size
            raw = os.pread(descriptor, index_size, max(0, size - index_size))
        finally:
            os.close(descriptor)
    except OSError as error:
        raise CheckError(f"shard {key} cannot be read: {error.strerror}") from error
    if len(raw) < index_size:
        raise CheckError(f"shard {key} has {size} bytes, its index alone {index_size}")
    if crc32c(raw[:-4]).to_bytes(4, "little") != raw[-4:]:
        raise CheckError(f"shard {key} has a bad index: the checksum differs")
    index = np.frombuffer(raw, "<u8", count=index_size // 8).reshape(*grid, 2)
    offsets, lengths = index[used].reshape(-1, 2).T
    chunks_bytes = size - index_size
    if (
        (offsets == ABSENT).any()
        or (lengths == ABSENT).any()
        or int(lengths.sum()) != chunks_bytes
        or (offsets + lengths).max() != chunks_bytes
    ):
        raise CheckError(f"shard {key} does not hold its {len(offsets)} chunks")


# ---------------------------------------------------------------------------- publish


def publish(pairs: Sequence[tuple[str | os.PathLike[str], str | os.PathLike[str]]]) -> None:
    """Make finished volumes part of the store, a group at a time.

    Parameters
    ----------
    pairs : sequence of (partial, final)
        Folder of the complete volume aside, and its place ``DEST/<study>/<series>/<n>.ome.zarr``; both on one file
        system. The study's and the series' folder become Zarr groups.

    Raises
    ------
    TargetError
        The target failed, or something is at the final place already. Volumes renamed before that are published.
    """
    places = [(os.fspath(partial), os.fspath(final)) for partial, final in pairs]
    if not places:
        return
    with writing("a volume"):
        parents = _make_groups([final for _, final in places])
        sync([partial for partial, _ in places] + parents)
        for partial, final in places:
            _move(partial, final)
        _sync_names(parents)


def replace(partial: str | os.PathLike[str], final: str | os.PathLike[str], trash: str | os.PathLike[str]) -> None:
    """Put a finished volume in the place of a published one, which moves into the folder ``trash``.

    A crash between the two renames leaves the place empty; the next run publishes again.
    """
    source, target = os.fspath(partial), os.fspath(final)
    with writing("a volume"):
        os.makedirs(trash, exist_ok=True)
        parents = _make_groups([target])
        sync([source, *parents])
        if os.path.lexists(target):
            os.rename(target, os.path.join(os.fspath(trash), os.urandom(8).hex()))
        _move(source, target)
        _sync_names(parents)


def _move(partial: str, final: str) -> None:
    if os.path.lexists(final):  # a rename would silently take the place of an empty folder
        raise FileExistsError(errno.EEXIST, "the volume exists", final)
    os.rename(partial, final)


def _make_groups(finals: Sequence[str]) -> list[str]:
    """Make the series' and study folders of volumes, each with its group document; return them."""
    from fastdcm.store.metadata import group_document

    series = dict.fromkeys(os.path.dirname(final) for final in finals)
    folders = list(dict.fromkeys([*(os.path.dirname(one) for one in series), *series]))
    for folder in folders:
        document = f"{folder}/{ROOT}"
        if _make_folder(folder) or not os.path.exists(document):
            _write(f"{document}.partial", group_document())
            os.rename(f"{document}.partial", document)
    return folders


def _make_folder(path: str) -> bool:
    """Make a folder; tell whether it is new."""
    try:
        os.mkdir(path)
    except FileExistsError:
        return False
    except FileNotFoundError:
        os.makedirs(path)
    return True


# ---------------------------------------------------------------------------- durable


def sync(folders: Sequence[str]) -> None:
    """Bring everything below the folders to the disk: one ``syncfs`` a file system, else every file by itself."""
    if _syncfs(folders):
        return
    for top in folders:
        for folder, _, files in os.walk(top):
            for name in files:
                sync_path(os.path.join(folder, name))
            sync_path(folder)


def _sync_names(folders: Sequence[str]) -> None:
    """Bring the names in folders, and the folders' own names, to the disk."""
    if not _syncfs(folders):
        for folder in dict.fromkeys([*folders, *(os.path.dirname(one) for one in folders)]):
            sync_path(folder)


def sync_path(path: str | os.PathLike[str]) -> None:
    """Bring a file, or the names in a folder, to the disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _syncfs(folders: Sequence[str]) -> bool:
    """Call ``syncfs`` (Linux) once for each file system; False where there is none."""
    import ctypes

    function = getattr(ctypes.CDLL(None, use_errno=True), "syncfs", None)
    if function is None:
        return False
    devices = {os.stat(folder).st_dev: folder for folder in folders}
    for folder in devices.values():
        descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
        try:
            if function(descriptor) != 0:
                code = ctypes.get_errno()
                if code == errno.ENOSYS:
                    return False
                raise OSError(code, os.strerror(code))
        finally:
            os.close(descriptor)
    return True
