"""Temporary folders of units whose target is a bucket."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
from pathlib import Path

import pytest

from fastdcm.run import away

HOST = socket.gethostname()
GONE = 999_999_999
"""More than Linux ever gives a process."""


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    away._remove_orphans.cache_clear()
    return tmp_path


def test_folders_of_killed_workers_are_removed_and_nothing_else(temporary: Path) -> None:
    kept = {f"fastdcm-{HOST}-{os.getpid()}-x", f"fastdcm-other.{HOST}-{GONE}-x", f"fastdcm-{HOST}-{10**30}-x", "other"}
    for name in {f"fastdcm-{HOST}-{GONE}-x", *kept}:
        (temporary / name).mkdir()
        (temporary / name / "shard").write_bytes(b"1")
    (temporary / f"fastdcm-{HOST}-{GONE}-link").symlink_to(temporary / "other")
    with away._folder() as folder:
        assert {path.name for path in temporary.iterdir()} == {*kept, f"fastdcm-{HOST}-{GONE}-link", Path(folder).name}
    assert not Path(folder).exists()
    assert (temporary / "other" / "shard").is_file()


def test_a_folder_that_another_run_removes_meanwhile_is_no_error(
    temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = [temporary / f"fastdcm-{HOST}-{GONE}-{name}" for name in "ab"]
    for folder in folders:
        folder.mkdir()

    def listed_too_early(_: Path) -> list[Path]:
        shutil.rmtree(folders[0])
        return folders

    monkeypatch.setattr(Path, "iterdir", listed_too_early)
    with away._folder() as mine:
        assert os.listdir(temporary) == [Path(mine).name]


def test_a_folder_that_may_not_be_listed_is_no_error(temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(_: Path) -> list[Path]:
        raise PermissionError

    monkeypatch.setattr(Path, "iterdir", refused)
    with away._folder() as folder:
        assert Path(folder).is_dir()
