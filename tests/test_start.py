"""What a start costs: no command loads what it does not use. Modules are counted: seconds depend on the day."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.dicomgen import make_series

NOT_FOR_HELP = (
    "concurrent.futures", "dask", "distributed", "duckdb", "email", "fastdcm.model", "fastdcm.run.convert",
    "imagecodecs", "logging", "numcodecs", "numpy", "pandas", "pyarrow", "pydicom", "rich", "xxhash", "zarr",
)  # fmt: skip
NOT_FOR_A_PLAIN_CONVERT = (
    "dask", "distributed", "duckdb", "fastdcm.load.volume", "fastdcm.run.verify", "imagecodecs",
    "multiprocessing.connection", "numcodecs", "numpy.ma", "pandas", "pydicom", "rich", "subprocess", "zarr",
)  # fmt: skip


def loaded_by(*arguments: str) -> set[str]:
    """Return every module that a fresh process has loaded when the command is done."""
    code = (
        "import sys\nfrom fastdcm.cli import main\n"
        "try:\n    main()\nexcept SystemExit as error:\n    assert not error.code\nprint(*sys.modules, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
    return set(done.stderr.split())


def test_help_loads_nothing_that_computes() -> None:
    loaded = loaded_by("--help")
    assert "click" in loaded
    assert sorted(loaded & set(NOT_FOR_HELP)) == []


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_plain_convert_loads_only_what_it_uses(tmp_path: Path, workers: str) -> None:
    make_series(tmp_path / "in", n=10)
    loaded = loaded_by("convert", str(tmp_path / "in"), str(tmp_path / "out.zarr"), "--workers", workers)
    assert {"numpy", "pyarrow", "fastdcm.store.blosc"} <= loaded
    assert sorted(loaded & set(NOT_FOR_A_PLAIN_CONVERT)) == []
