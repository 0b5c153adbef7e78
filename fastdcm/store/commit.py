"""Complete or absent: a volume is built aside, counted, made durable, and only then renamed into the store.

Volumes are published in groups: one ``syncfs`` for all their files, the renames, one more for the renames. A failing
target is a ``TargetError``; what was published before stays.
"""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np

from fastdcm.errors import CheckError, TargetError
from fastdcm.model import ArraySpec

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
    except OSError as error:
        reason = error.strerror or str(error)
        advice = _ADVICE.get(error.errno or 0, "check the target")
        raise TargetError(f"cannot write {what}: {reason}; {advice}") from error


# ---------------------------------------------------------------------------- write


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
        os.makedirs(root, exist_ok=True)
        for parent in sorted({os.path.dirname(name) for name in documents}):  # parents before children
            if parent:
                _make_folder(os.path.join(root, parent))
        for name in sorted(documents, key=lambda name: name == ROOT):
            _write(os.path.join(root, name), documents[name])
    return sum(len(data) for data in documents.values())


def _make_folder(path: str) -> None:
    try:
        os.mkdir(path)
    except FileExistsError:
        return


def _write(path: str, data: bytes) -> None:
    with open(path, "wb", buffering=0) as file:  # a buffer costs more than these few bytes
        rest = memoryview(data)
        while rest:
            rest = rest[file.write(rest) :]


# ---------------------------------------------------------------------------- check


def check_complete(folder: str | os.PathLike[str], array: ArraySpec) -> None:
    """Count the shards and chunks of an array before it is published: a lost one would read back as fill.

    Parameters
    ----------
    folder : path
        Of the array.
    array : ArraySpec
        What it must hold.

    Raises
    ------
    CheckError
        A shard is missing, cut short or has a bad index, or a chunk is missing.
    """
    from fastdcm.series.layout import iter_shards
    from fastdcm.store.shard import shard_key

    for region in iter_shards(array):
        key = shard_key(array, [start for start, _ in region])
        _check_shard(os.path.join(os.fspath(folder), key), key, array, [stop - start for start, stop in region])


def _check_shard(path: str, key: str, array: ArraySpec, shape: Sequence[int]) -> None:
    from fastdcm.store.shard import ABSENT, index_bytes

    grid = [step // chunk for step, chunk in zip(array.shards, array.chunks, strict=True)]
    index_size = 16 * int(np.prod(grid)) + 4
    try:
        with open(path, "rb", buffering=0) as file:
            size = os.fstat(file.fileno()).st_size
            file.seek(max(0, size - index_size))
            raw = file.read(index_size)
    except OSError as error:
        raise CheckError(f"shard {key} cannot be read: {error.strerror}") from error
    if len(raw) < index_size:
        raise CheckError(f"shard {key} has {size} bytes, its index alone {index_size}")
    index = np.frombuffer(raw, "<u8", count=index_size // 8).reshape(*grid, 2)
    if index_bytes(index) != raw:
        raise CheckError(f"shard {key} has a bad index: the checksum differs")
    used = index[tuple(slice(-(-n // chunk)) for n, chunk in zip(shape, array.chunks, strict=True))].reshape(-1, 2)
    ends = used.sum(axis=1)
    if np.any(used == ABSENT) or int(used[:, 1].sum()) != size - index_size or ends.max() != size - index_size:
        raise CheckError(f"shard {key} does not hold its {len(used)} chunks")


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
            os.rename(target, os.path.join(os.fspath(trash), secrets.token_hex(8)))
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
    folders = list(dict.fromkeys([*series, *(os.path.dirname(one) for one in series)]))
    for folder in folders:
        os.makedirs(folder, exist_ok=True)
        document = os.path.join(folder, ROOT)
        if not os.path.exists(document):
            aside = f"{document}.{secrets.token_hex(4)}.partial"
            with open(aside, "wb", buffering=0) as file:
                file.write(group_document())
            os.rename(aside, document)
    return folders


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
