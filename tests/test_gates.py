"""Every gate of ``scripts/check`` bites: one planted violation each must make it fail."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
BIN = Path(sys.executable).parent


def run(*command: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run([*map(str, command)], cwd=cwd, capture_output=True, text=True, check=False, env=environment)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of the package and its settings, to plant in."""
    shutil.copytree(ROOT / "fastdcm", tmp_path / "fastdcm", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


# ---------------------------------------------------------------------------- ruff and mypy

CLEAN = '"""A module."""\n\n\ndef half(value: int) -> float:\n    """Return half of it."""\n    return value / 2\n'
LINT = {
    "an unused import": '"""A module."""\n\nimport os\n',
    "a bare except": '"""A module."""\n\ntry:\n    print\nexcept Exception:\n    raise ValueError from None\n',
    "eval": '"""A module."""\n\nprint(eval("1"))\n',
    "no docstring": '"""A module."""\n\n\ndef half(value: int) -> float:\n    return value / 2\n',
    "no annotation": '"""A module."""\n\n\ndef half(value):\n    """Return half of it."""\n    return value / 2\n',
    "print in the library": '"""A module."""\n\nprint("x")\n',
}


def test_clean_code_passes_lint_format_and_types(tree: Path) -> None:
    (tree / "fastdcm" / "planted.py").write_text(CLEAN)
    assert run(BIN / "ruff", "check", "fastdcm/planted.py", cwd=tree).returncode == 0
    assert run(BIN / "ruff", "format", "--check", "fastdcm/planted.py", cwd=tree).returncode == 0
    assert run(BIN / "mypy", "fastdcm/planted.py", cwd=tree).returncode == 0


@pytest.mark.parametrize("name", LINT)
def test_lint_fails_on(name: str, tree: Path) -> None:
    (tree / "fastdcm" / "planted.py").write_text(LINT[name])
    done = run(BIN / "ruff", "check", "fastdcm/planted.py", cwd=tree)
    assert done.returncode == 1, done.stdout + done.stderr


def test_format_fails_on_other_quotes(tree: Path) -> None:
    (tree / "fastdcm" / "planted.py").write_text(CLEAN.replace('"""A module."""', '"""A module."""\n\nNAME = \'x\''))
    assert run(BIN / "ruff", "format", "--check", "fastdcm/planted.py", cwd=tree).returncode == 1


def test_types_fail_on_a_wrong_return(tree: Path) -> None:
    (tree / "fastdcm" / "planted.py").write_text(CLEAN.replace("-> float", "-> str"))
    done = run(BIN / "mypy", "fastdcm/planted.py", cwd=tree)
    assert done.returncode == 1
    assert "[return-value]" in done.stdout


# ---------------------------------------------------------------------------- import rules

IMPORTS = {  # what is planted: where, the line, and a word of the contract that must break
    "model imports scan": ("model.py", "import fastdcm.scan", "one way"),
    "scan imports series": ("scan/planted.py", "from fastdcm.series import plan", "one way"),
    "pixels imports store": ("pixels/planted.py", "from fastdcm.store import shard", "one way"),
    "series imports run": ("series/planted.py", "import fastdcm.run.report", "one way"),
    "dask outside of run.execute": ("run/planted.py", "import dask", "dask"),
    "distributed in store": ("store/planted.py", "import distributed", "dask"),
    "pydicom in series": ("series/planted.py", "import pydicom", "pydicom"),
    "pydicom in run": ("run/planted.py", "import pydicom", "pydicom"),
    "zarr in store": ("store/planted.py", "import zarr", "zarr"),
    "pyarrow in pixels": ("pixels/planted.py", "import pyarrow", "Arrow"),
    "duckdb in run": ("run/planted.py", "import duckdb", "--where"),
    "imagecodecs in store": ("store/planted.py", "import imagecodecs", "decoders"),
    "verify decodes with what it judges": ("run/witness.py", "import fastdcm.pixels.decode", "witness"),
    "numcodecs in pixels": ("pixels/planted.py", "import numcodecs", "blosc"),
}


def lint_imports(tree: Path) -> subprocess.CompletedProcess[str]:
    return run(BIN / "lint-imports", "--no-cache", cwd=tree)


def test_import_rules_hold(tree: Path) -> None:
    done = lint_imports(tree)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("name", IMPORTS)
def test_import_rules_fail_on(name: str, tree: Path) -> None:
    file, line, contract = IMPORTS[name]
    with (tree / "fastdcm" / file).open("a") as planted:
        planted.write(f"\n{line}\n")
    done = lint_imports(tree)
    assert done.returncode == 1, done.stdout
    broken = [text for text in done.stdout.splitlines() if text.endswith("BROKEN")]
    assert any(contract in text for text in broken), done.stdout


def test_a_module_that_no_layer_names_fails(tree: Path) -> None:
    (tree / "fastdcm" / "planted.py").write_text(CLEAN)
    done = lint_imports(tree)
    assert done.returncode == 1
    assert "planted" in done.stdout


# ---------------------------------------------------------------------------- start

HEAVY = ("dask", "distributed", "duckdb", "imagecodecs", "numcodecs", "pyarrow", "pydicom", "zarr")


def loaded_by(statement: str) -> set[str]:
    """Return which heavy libraries a fresh interpreter has loaded after the statement."""
    code = f"import sys\ntry:\n    {statement}\nexcept SystemExit:\n    pass\nprint(*sys.modules, file=sys.stderr)"
    done = run(sys.executable, "-c", code, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return set(HEAVY) & set(done.stderr.split())


def test_importing_fastdcm_loads_nothing_heavy() -> None:
    assert not loaded_by("import fastdcm")


def test_help_loads_nothing_heavy() -> None:
    assert not loaded_by("sys.argv = ['fastdcm', '--help']; import runpy; runpy.run_module('fastdcm')")


def test_loading_is_seen() -> None:
    assert loaded_by("import pydicom") == {"pydicom"}
