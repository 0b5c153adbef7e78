"""The same folder in every archive that is read in place."""

from __future__ import annotations

import io
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

Pack = Callable[[Mapping[str, bytes], Path], None]


def files_of(folder: Path) -> dict[str, bytes]:
    """Return the files below a folder, by relative path."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()
    }


def zip_bytes(files: Mapping[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """Return a zip archive of some files."""
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", method) as archive:
        for name, data in files.items():
            archive.writestr(zipfile.ZipInfo(name), data, method)
    return target.getvalue()


def tar_bytes(files: Mapping[str, bytes], mode: str = "w", kind: int = tarfile.PAX_FORMAT) -> bytes:
    """Return a tar archive of some files."""
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode=mode, format=kind) as archive:  # type: ignore[call-overload]
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return target.getvalue()


ARCHIVES: Mapping[str, Callable[[Mapping[str, bytes]], bytes]] = {
    "stored.zip": lambda files: zip_bytes(files, zipfile.ZIP_STORED),
    "deflated.zip": zip_bytes,
    "bzip2.zip": lambda files: zip_bytes(files, zipfile.ZIP_BZIP2),
    "plain.tar": tar_bytes,
    "gnu.tar": lambda files: tar_bytes(files, kind=tarfile.GNU_FORMAT),
    "gzip.tar.gz": lambda files: tar_bytes(files, "w:gz"),
    "bzip2.tbz2": lambda files: tar_bytes(files, "w:bz2"),
    "xz.tar.xz": lambda files: tar_bytes(files, "w:xz"),
    "nested.zip": lambda files: zip_bytes({"inside/all.tar.gz": tar_bytes(files, "w:gz"), "readme.txt": b"hello"}),
    "nested.tar": lambda files: tar_bytes({"a.zip": zip_bytes(files)}),
    "nested.tgz": lambda files: tar_bytes({"a.zip": zip_bytes(files), "b.txt": b"hello"}, "w:gz"),
}
