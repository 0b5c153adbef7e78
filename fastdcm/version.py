"""The version of fastdcm: the one place, installed or not; pyproject.toml reads it from here. Imports little."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

__version__ = "0.1.0"


def installed_versions(names: Sequence[str]) -> dict[str, str]:
    """Return the versions of installed packages, by the names of the folders that hold their metadata.

    ``importlib.metadata`` reads the metadata itself, a mail header with the licence in it: 20 ms; it is asked where no
    folder tells. Packages that are not installed are left out.
    """
    found: dict[str, str] = {}
    for folder in sys.path:
        for entry in _entries(folder):
            name, _, version = entry.removesuffix(".dist-info").partition("-")
            if entry.endswith(".dist-info") and name in names:
                found.setdefault(name, version)
    told = {name: found.get(name) or _told_version(name) for name in names}
    return {name: version for name, version in told.items() if version}


def _entries(folder: str) -> list[str]:
    try:
        return os.listdir(folder or os.curdir)
    except OSError:  # not there, or an archive
        return []


def _told_version(name: str) -> str | None:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(name)
    except PackageNotFoundError:
        return None
