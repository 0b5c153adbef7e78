"""The tables of a store are replaced together, or not at all."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fastdcm.run.tables import generation_of, write_tables


def test_a_full_disk_leaves_the_tables_as_they_were(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_tables(tmp_path, {"catalog": pa.table({"n": [1]})}, {"run": 1}, b"root 1", "g1")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert set(before) == {"catalog.parquet", "report.json", "zarr.json"}

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_tables(tmp_path, {"catalog": pa.table({"n": [2]})}, {"run": 2}, b"root 2", "g2")
    assert {name: (tmp_path / name).read_bytes() for name in before} == before
    monkeypatch.undo()
    write_tables(tmp_path, {"catalog": pa.table({"n": [2]})}, {"run": 2}, b"root 2", "g2")
    assert pq.read_table(tmp_path / "catalog.parquet")["n"].to_pylist() == [2]
    assert set(os.listdir(tmp_path)) == set(before)


def test_equal_tables_have_one_generation_whatever_lies_under_their_nulls_and_however_they_are_cut() -> None:
    def column(under_null: int) -> pa.Array:
        values = pa.array([1, under_null, 3], pa.int32()).buffers()[1]
        return pa.Array.from_buffers(pa.int32(), 3, [pa.py_buffer(b"\x05"), values])

    tables = [pa.table({"n": column(0)}), pa.table({"n": column(9)})]
    tables.append(pa.concat_tables([tables[1].slice(0, 1), tables[0].slice(1)]))
    assert tables[0].equals(tables[1])
    assert len({generation_of({"files": table}) for table in tables}) == 1
    assert generation_of({"files": tables[0]}) != generation_of({"files": tables[0].slice(1)})
