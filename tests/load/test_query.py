"""The filter: right rows, and nothing but the table's rows."""

from __future__ import annotations

import time
from pathlib import Path

import pyarrow as pa
import pytest

from fastdcm.errors import UsageError
from fastdcm.load.query import filter_rows
from fastdcm.model import CATALOG_COLUMNS

ARROW = {"int": pa.int32(), "long": pa.int64(), "float": pa.float64(), "bool": pa.bool_(), "string": pa.string()}


def catalogue() -> pa.Table:
    """Three rows with every column of the catalogue; texts dictionary encoded as in the store."""
    rows = {
        "modality": ["CT", "CT", "MR"],
        "slices": [65, 257, 20],
        "spacing_z": [5.0, 1.25, None],
        "kernel": ["STANDARD", "LUNG", None],
        "uniform": [True, False, True],
    }
    columns = {}
    for name, kind in CATALOG_COLUMNS:
        dtype = pa.dictionary(pa.int32(), pa.string()) if kind == "text" else ARROW[kind]
        columns[name] = pa.array(rows.get(name, [None] * 3)).cast(dtype)
    return pa.table(columns)


@pytest.mark.parametrize(
    ("where", "rows"),
    [
        ("modality == 'CT' and slices > 30 and spacing_z <= 1.25 and kernel == 'LUNG'", [1]),
        ("slices > 30", [0, 1]),
        ("spacing_z < 2", [1]),
        ("spacing_z is null", [2]),
        ("MODALITY in ('MR', 'PT') or not uniform", [1, 2]),
        ("kernel ilike 'lu%'", [1]),
        ("modality == 'US'", []),
        ("slices > 30 -- a comment", [0, 1]),
        ("true", [0, 1, 2]),
    ],
)
def test_finds_rows(where: str, rows: list[int]) -> None:
    assert filter_rows(catalogue(), where) == rows


def test_every_column_needs_no_quotes() -> None:
    where = " and ".join(f"({name} is null or {name} is not null)" for name, _ in CATALOG_COLUMNS)
    assert filter_rows(catalogue(), where) == [0, 1, 2]


def test_no_rows_at_all() -> None:
    assert filter_rows(catalogue().slice(0, 0), "slices > 3") == []


@pytest.mark.parametrize(
    "where",
    [
        "",
        "   ",
        "nosuch = 1",
        'modality = "CT"',
        "slices >",
        "slices > 30; select 42",
        "1=1); select 42; --",
        "1=1); copy t to 'leak.csv'; --",
        "exists(select * from read_csv('/etc/passwd'))",
        "exists(select * from '/etc/passwd')",
        "exists(select * from read_text('/etc/passwd'))",
        "exists(select * from glob('/etc/*'))",
        "exists(select * from secret)",
        "(" * 500 + "true" + ")" * 400,
        "slices > 30" + " " * 20_000,
        "slices > 3 \0",
    ],
)
def test_refuses(where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    secret = pa.table({"slices": [1]})
    assert secret.num_rows == 1
    with pytest.raises(UsageError):
        filter_rows(catalogue(), where)
    assert list(tmp_path.iterdir()) == []


def test_names_the_columns() -> None:
    with pytest.raises(UsageError, match=r"nosuch.*spacing_z.*single quotes"):
        filter_rows(catalogue(), "nosuch == 1")


def test_endless_expression_ends() -> None:
    start = time.monotonic()
    with pytest.raises(UsageError, match="did not end"):
        filter_rows(catalogue(), "(select count(*) from range(100000000000)) > slices", timeout_s=0.5)
    assert time.monotonic() - start < 10
