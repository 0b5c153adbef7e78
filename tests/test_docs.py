"""The pages for users are true: every Python snippet gives what it says, every command line runs."""

from __future__ import annotations

import doctest
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import fastdcm
from fastdcm.cli import run

ROOT = Path(__file__).parent.parent
PAGES = ("docs/from-simpleitk.md", "docs/tutorial.md")
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def export(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``dicom``: a tenth of the chest export."""
    folder = tmp_path_factory.mktemp("docs")
    command = [sys.executable, str(ROOT / "scripts" / "make_export.py"), "ct-four", str(folder / "dicom")]
    subprocess.run([*command, "--scale", "0.1"], check=True, capture_output=True, timeout=120)
    return folder


@pytest.fixture
def names(export: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The current folder is one with ``dicom`` and ``one.dcm``; the names that the pages presuppose."""
    (tmp_path / "dicom").symlink_to(export / "dicom")
    monkeypatch.chdir(tmp_path)
    table = fastdcm.scan("dicom").table
    uids = dict(zip(table["description"].to_pylist(), table["series"].to_pylist(), strict=True))
    one_file = next(path for path in sorted(Path("dicom").iterdir()) if is_last_of(path, uids["1.25mm Lung"]))
    shutil.copy(one_file, "one.dcm")
    return {"one_file": str(one_file), "lung_uid": uids["1.25mm Lung"], "stnd_uid": uids["1.25mm Stnd"]}


def is_last_of(path: Path, series: str) -> bool:
    header = path.read_bytes()[:12000]
    return series.encode() in header and b"-121.000" in header


def blocks(page: str) -> Iterator[tuple[str, str]]:
    for match in BLOCK.finditer((ROOT / page).read_text()):
        yield match[1], match[2]


@pytest.mark.parametrize("page", PAGES)
def test_every_snippet_and_command_of_a_page(
    page: str, names: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    parser, runner = doctest.DocTestParser(), doctest.DocTestRunner(optionflags=FLAGS)
    globs = dict(names)
    seen = 0
    for number, (language, text) in enumerate(blocks(page)):
        if language == "sh":
            for line in text.splitlines():
                seen += 1
                assert run(shlex.split(line, comments=True)[1:]) in (0, 1), f"{page}: {line}\n{capsys.readouterr()}"
            continue
        assert language == "pycon", f"{page} has a block of {language}, which no test runs"
        test = parser.get_doctest(text, globs, f"{page} block {number}", page, 0)
        said: list[str] = []
        runner.run(test, out=said.append, clear_globs=False)
        globs = test.globs
        seen += len(test.examples)
        assert not runner.failures, "".join(said)
    assert seen > 10


def test_a_wrong_result_is_seen() -> None:
    test = doctest.DocTestParser().get_doctest(">>> 1 + 1\n3\n", {}, "planted", None, 0)
    assert doctest.DocTestRunner(optionflags=FLAGS).run(test, out=lambda _: None).failed == 1
