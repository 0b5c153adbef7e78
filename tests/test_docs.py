"""The pages and docstrings for users are true: every Python snippet gives what it says, every command line runs."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import fastdcm
from fastdcm.cli import run
from fastdcm.cli.entry import commands

ROOT = Path(__file__).parent.parent
PAGES = ("docs/from-simpleitk.md", "docs/tutorial.md")
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)


@pytest.fixture
def names(chest_export: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The current folder is one with ``dicom`` and ``one.dcm``; the names that the pages presuppose."""
    (tmp_path / "dicom").symlink_to(chest_export)
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


@pytest.mark.usefixtures("chest_store")
def test_what_the_command_line_page_shows_is_what_commands_print(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    shown = [text for language, text in blocks("docs/cli.md") if language == "console"]
    capsys.readouterr()
    for text in shown:
        command, expected = text.removeprefix("$ ").split("\n", 1)
        assert run(shlex.split(command)[1:]) in (0, 1), command
        printed = capsys.readouterr().out
        if command.startswith("fastdcm run"):
            assert run([*shlex.split(command)[1:-1], "2/2"]) == 0  # the page shows one part of two
            capsys.readouterr()
        flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE  # where lines break depends on the folder of the test
        assert doctest.OutputChecker().check_output(expected, printed, flags), f"{command}\n{printed}"
    named = {text.split()[2] for text in shown}
    assert named == set(commands.commands) - {"convert", "ls"}


PUBLIC = (
    fastdcm.compare,
    fastdcm.convert,
    fastdcm.diff,
    fastdcm.explain,
    fastdcm.export,
    fastdcm.finish,
    fastdcm.header,
    fastdcm.open,
    fastdcm.plan,
    fastdcm.run,
    fastdcm.scan,
    fastdcm.tags,
    fastdcm.verify,
    fastdcm.Store.query,
    fastdcm.Volume.affine,
    fastdcm.Volume.numpy,
)


@pytest.fixture
def chest_store(chest_export: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The current folder is one with ``export`` and ``out.zarr``, as the examples of docstrings presuppose."""
    (tmp_path / "export").symlink_to(chest_export)
    monkeypatch.chdir(tmp_path)
    assert fastdcm.convert("export", "out.zarr").exit_code == 0


@pytest.mark.usefixtures("chest_store")
def test_every_public_function_has_examples_that_run() -> None:
    runner = doctest.DocTestRunner(optionflags=FLAGS)
    for function in PUBLIC:
        found = [
            test for test in doctest.DocTestFinder(recurse=False).find(function, function.__name__) if test.examples
        ]
        assert found, f"{function.__qualname__} has no example"
        said: list[str] = []
        for test in found:
            assert not any(doctest.SKIP in example.options for example in test.examples), function.__qualname__
            runner.run(test, out=said.append)
        assert not runner.failures, "".join(said)


@pytest.mark.usefixtures("chest_store")
def test_the_examples_of_inner_functions_run() -> None:
    names = [module.name for module in pkgutil.walk_packages(fastdcm.__path__, "fastdcm.")]
    found = [
        test
        for name in names
        if name != "fastdcm.__main__"
        for test in doctest.DocTestFinder().find(importlib.import_module(name))
    ]
    said: list[str] = []
    runner = doctest.DocTestRunner(optionflags=FLAGS)
    for test in found:
        runner.run(test, out=said.append)
    assert len([test for test in found if test.examples]) > 10
    assert not runner.failures, "".join(said)


def test_a_wrong_result_is_seen() -> None:
    test = doctest.DocTestParser().get_doctest(">>> 1 + 1\n3\n", {}, "planted", None, 0)
    assert doctest.DocTestRunner(optionflags=FLAGS).run(test, out=lambda _: None).failed == 1
