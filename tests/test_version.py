"""Versions of installed packages, told by the names of folders."""

from __future__ import annotations

import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from fastdcm.version import installed_versions


def test_versions_are_those_of_the_metadata() -> None:
    names = ("numpy", "pyarrow", "pydicom", "imagecodecs", "numcodecs")
    assert installed_versions(names) == {name: version(name) for name in names}


def test_the_first_of_two_counts_and_what_is_absent_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder, number in (("a", "1.0"), ("b", "2.0")):
        (tmp_path / folder / f"phantom-{number}.dist-info").mkdir(parents=True)
    monkeypatch.setattr(sys, "path", [str(tmp_path / "gone"), str(tmp_path / "a"), str(tmp_path / "b")])
    assert installed_versions(["phantom", "ghost"]) == {"phantom": "1.0"}
