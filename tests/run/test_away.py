"""Temporary folders of units whose target is a bucket."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import socket
import tempfile
from pathlib import Path

import pytest

from fastdcm.run import away

HOST = socket.gethostname()


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    away._remove_orphans.cache_clear()
    return tmp_path


def orphan(folder: Path, name: str) -> Path:
    """Leave what a killed worker leaves: a folder, and the file beside it that nobody holds."""
    made = folder / f"fastdcm-{name}"
    made.mkdir()
    (made / "shard").write_bytes(b"1")
    lock = made.with_name(f"{made.name}.lock")
    lock.touch()
    return lock


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_folders_of_killed_workers_are_removed_and_nothing_else(temporary: Path) -> None:
    for name in (f"other.{HOST}-x", f"{HOST}.other-x"):
        orphan(temporary, name)
    (temporary / "other").mkdir()
    (temporary / "other" / "shard").touch()
    (temporary / f"fastdcm-{HOST}-folder.lock").mkdir()
    os.mkfifo(temporary / f"fastdcm-{HOST}-pipe.lock")
    kept = names(temporary)
    with away._folder() as living:
        kept |= {Path(living).name, f"{Path(living).name}.lock"}
        orphan(temporary, f"{HOST}-x")
        (temporary / f"fastdcm-{HOST}-link").symlink_to(temporary / "other")
        (temporary / f"fastdcm-{HOST}-link.lock").touch()
        away._remove_orphans.cache_clear()
        with away._folder() as folder:
            assert names(temporary) - {Path(folder).name, f"{Path(folder).name}.lock"} == {
                *kept,
                f"fastdcm-{HOST}-link",
            }
        assert not Path(folder).exists()
    assert not Path(living).exists()
    assert (temporary / "other" / "shard").is_file()


def test_a_folder_that_another_run_removes_meanwhile_is_no_error(
    temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    locks = [orphan(temporary, f"{HOST}-{name}") for name in "ab"]

    def listed_too_early(_: Path) -> list[Path]:
        locks[0].unlink()
        shutil.rmtree(locks[0].with_suffix(""))
        return locks

    monkeypatch.setattr(Path, "iterdir", listed_too_early)
    with away._folder() as mine:
        assert set(os.listdir(temporary)) == {Path(mine).name, f"{Path(mine).name}.lock"}
    assert os.listdir(temporary) == []


def test_without_locks_no_folder_is_taken_for_an_orphan(temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    left = orphan(temporary, f"{HOST}-x")

    def no_locks(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", no_locks)
    with away._folder() as folder:
        assert names(temporary) == {left.name, left.stem, Path(folder).name}
    assert names(temporary) == {left.name, left.stem}


def test_a_folder_that_may_not_be_listed_is_no_error(temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(_: Path) -> list[Path]:
        raise PermissionError

    monkeypatch.setattr(Path, "iterdir", refused)
    with away._folder() as folder:
        assert Path(folder).is_dir()
