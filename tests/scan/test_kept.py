"""A scan that is given an earlier index comes to the index that reads everything, and reads only what it must."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom import dcmread

from fastdcm.errors import Code, Outcome
from fastdcm.model import Resources
from fastdcm.run import headers
from fastdcm.run.execute import Engine, start_engine
from fastdcm.run.headers import Scanned, read_index, scan_headers
from fastdcm.scan import kept
from fastdcm.scan.find import Fault, FoundFile
from fastdcm.scan.index import save_index
from fastdcm.scan.kept import new_or_changed, open_kept, reader_version, same_rows
from tests import dicomgen

OLD_NS = 10**18
"""A date long before any scan: 2001."""


@pytest.fixture
def engine() -> Iterator[Engine]:
    with start_engine(Resources(workers=1)) as started:
        yield started


def make_old(folder: Path, step: int = 0) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            os.utime(path, ns=(OLD_NS, OLD_NS + step))


def scan(engine: Engine, source: Path) -> Scanned:
    """Scan with the index of the scan before."""
    folder = str(source.with_name("index"))
    return scan_headers(engine, [str(source)], earlier=folder)


def keep(scanned: Scanned, source: Path) -> None:
    folder = str(source.with_name("index"))
    save_index(scanned.index(), folder, reader=reader_version(), started_ns=scanned.started_ns)


def read_files(scanned: Scanned) -> list[str]:
    return sorted(path for table, _ in scanned.read for path in table["path"].to_pylist())


@pytest.fixture
def source(tmp_path: Path, engine: Engine) -> Path:
    folder = tmp_path / "export"
    dicomgen.mixed_folder(folder)
    dicomgen.make_enhanced(folder)
    make_old(folder)
    keep(scan(engine, folder), folder)
    return folder


def test_nothing_is_read_where_nothing_changed(source: Path, engine: Engine) -> None:
    scanned = scan(engine, source)
    assert scanned.held.all()
    assert scanned.read == []
    assert scanned.is_unchanged()
    assert same_rows(scanned.index(), read_index(engine, [str(source)]))


def test_only_what_is_new_or_changed_is_read(source: Path, engine: Engine) -> None:
    files = sorted(path for path in source.rglob("*.dcm") if path.is_file())
    gone, moved, touched, changed, longer, *_ = files
    shutil.copy2(files[5], source / "a new one")
    gone.unlink()
    moved.rename(source / "moved")
    os.utime(touched, ns=(OLD_NS, OLD_NS + 1))
    data = bytearray(changed.read_bytes())
    data[-1] ^= 1
    changed.write_bytes(data)
    with longer.open("ab") as file:
        file.write(b"\0\0")
    os.utime(longer, ns=(OLD_NS, OLD_NS))
    scanned = scan(engine, source)
    expected = ["a new one", "moved", *(str(path.relative_to(source)) for path in (touched, changed, longer))]
    assert read_files(scanned) == sorted(expected)
    assert not scanned.is_unchanged()
    assert same_rows(scanned.index(), read_index(engine, [str(source)]))


def test_a_file_that_was_read_as_it_was_made_is_read_again(tmp_path: Path, engine: Engine) -> None:
    """Within the resolution of the clock a file may change again under the same time."""
    source = tmp_path / "export"
    made = dicomgen.make_series(source, n=3)
    make_old(source)
    now = time.time_ns()
    os.utime(made.paths[1], ns=(now, now))
    keep(scan(engine, source), source)
    dataset = dcmread(made.paths[1])
    dataset.SeriesDescription = "tsehc"[::-1] if dataset.get("SeriesDescription") != "chest" else "brain"
    dataset.save_as(made.paths[1])
    os.utime(made.paths[1], ns=(now, now))
    scanned = scan(engine, source)
    assert read_files(scanned) == [made.paths[1].name]
    assert same_rows(scanned.index(), read_index(engine, [str(source)]))


def test_what_is_read_again_and_is_the_same_is_no_change(tmp_path: Path, engine: Engine) -> None:
    source = tmp_path / "export"
    dicomgen.make_series(source, n=3)
    dicomgen.make_enhanced(source)
    keep(scan(engine, source), source)
    scanned = scan(engine, source)
    assert len(read_files(scanned)) == 4
    assert scanned.is_unchanged()


@pytest.mark.parametrize("code", [Code.PERMISSION, Code.UNREADABLE, Code.CHANGED, Code.INTERNAL, Code.TRUNCATED])
def test_rows_that_failed_for_a_reason_that_may_pass_are_read_again(
    code: Code, tmp_path: Path, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "export"
    dicomgen.make_series(source, n=2)
    make_old(source)
    read = headers._read_batch

    def failing(task: tuple[tuple[str, ...], list[FoundFile]]) -> headers.Headers:
        tables, frames = read(task)
        row = {**tables.to_pylist()[0], "outcome": "failed", "code": str(code), "message": "it did not work"}
        changed = [row, *tables.to_pylist()[1:]]
        return tables.from_pylist(changed, tables.schema), frames

    with monkeypatch.context() as patch:
        patch.setattr(headers, "_read_batch", failing)
        keep(scan(engine, source), source)
    assert len(read_files(scan(engine, source))) == (0 if code is Code.TRUNCATED else 1)


def test_an_index_of_another_reader_or_of_other_sources_is_not_used(
    source: Path, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = str(source.with_name("index"))
    assert open_kept(folder, [str(source)]) is not None
    assert open_kept(folder, [str(source), str(source)]) is None
    assert open_kept(str(source), [str(source)]) is None
    monkeypatch.setattr(kept, "reader_version", lambda: "another")
    assert open_kept(folder, [str(source)]) is None
    assert len(read_files(scan(engine, source))) == len(read_index(engine, [str(source)]).instances)


def test_tables_of_two_scans_are_no_index(source: Path, engine: Engine) -> None:
    """A crash between the two renames leaves the frames of the scan before."""
    folder = source.with_name("index")
    old = (folder / "frames.parquet").read_bytes()
    keep(scan_headers(engine, [str(source)]), source)
    assert open_kept(str(folder), [str(source)]) is not None
    (folder / "frames.parquet").write_bytes(old)
    assert open_kept(str(folder), [str(source)]) is None


@pytest.mark.parametrize("cut", [0, 100, -1])
def test_an_index_cut_short_is_not_used(cut: int, source: Path) -> None:
    table = source.with_name("index") / "instances.parquet"
    table.write_bytes(table.read_bytes()[:cut])
    assert open_kept(str(table.parent), [str(source)]) is None


def test_texts_that_no_file_has_any_more_are_dropped(source: Path, engine: Engine) -> None:
    for path in list(source.rglob("*.dcm"))[3:]:
        path.unlink()
    scanned = scan(engine, source)
    assert scanned.read == []
    uids = scanned.index().instances["series_uid"].combine_chunks()
    assert set(uids.dictionary.to_pylist()) == set(uids.drop_null().to_pylist())


def test_files_out_of_order_are_read_and_never_mistaken(source: Path) -> None:
    index = open_kept(str(source.with_name("index")), [str(source)])
    assert index is not None
    files = [FoundFile(*row[:4], None) for row in index.read_rows() if row.outcome != Outcome.NOT_DICOM]
    held = np.zeros(index.rows, np.bool_)
    last_first = [files[-1], *files[:-1]]
    assert list(new_or_changed(last_first, index, held)) == files[:-1]
    assert held.sum() == 1


def test_another_fault_of_the_walk_is_a_change(source: Path, engine: Engine) -> None:
    (source / "._mac").write_bytes(b"x")
    os.utime(source / "._mac", ns=(OLD_NS, OLD_NS))
    keep(scan(engine, source), source)
    assert read_files(scan(engine, source)) == []
    index = open_kept(str(source.with_name("index")), [str(source)])
    assert index is not None
    fault = Fault(Outcome.NOT_DICOM, Code.NO_DICOM, "a special file")
    rows = [FoundFile(*row[:4], fault if row.path == "._mac" else None) for row in index.read_rows()]
    assert "._mac" in {file.path for file in new_or_changed(rows, index, np.zeros(index.rows, np.bool_))}


NAMES = st.sampled_from(["a", "b", "a/c", "a.d", "z/y/x", "Ä", "a-b", "100%41"])
EDITS = st.lists(
    st.tuples(st.sampled_from(["add", "change", "grow", "delete", "rename", "touch", "spoil"]), NAMES, NAMES),
    min_size=1,
    max_size=6,
)


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rounds=st.lists(EDITS, min_size=1, max_size=3))
def test_any_edits_give_the_index_of_a_full_scan(
    rounds: list[list[tuple[str, str, str]]], tmp_path_factory: pytest.TempPathFactory, engine: Engine
) -> None:
    folder = tmp_path_factory.mktemp("edits")
    source, spare = folder / "export", folder / "spare"
    spares = [*dicomgen.make_series(spare, n=5).paths, *dicomgen.make_enhanced(spare).paths]
    source.mkdir()
    shutil.copy(spares[0], source / "first")
    make_old(source)
    keep(scan(engine, source), source)
    for number, edits in enumerate(rounds, start=1):
        for step, (what, name, other) in enumerate(edits):
            edit(source, what, name, other, spares[(number + step) % len(spares)], OLD_NS + 1000 * number + step)
        scanned = scan(engine, source)
        full = read_index(engine, [str(source)])
        assert scanned.is_unchanged() == (not scanned.read and bool(scanned.held.all()))
        keep(scanned, source)
        again = scan(engine, source)
        assert again.is_unchanged()
        assert again.read == []
        assert same_rows(again.index(), full)


def edit(source: Path, what: str, name: str, other: str, spare: Path, now_ns: int) -> None:
    """Do one thing to an export; what cannot be done is left."""
    path, second = source / name, source / other
    if what == "add" and not path.exists() and all(not one.is_file() for one in path.parents):
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(spare, path)
        os.utime(path, ns=(now_ns, now_ns))
    if not path.is_file():
        return
    if what in ("change", "grow", "spoil"):
        data = path.read_bytes()
        end = {"change": data[-1:] + b"", "grow": data[-1:] + b"\0\0", "spoil": b""}[what]
        path.write_bytes((b"\0" * 200 if what == "spoil" else data[:-1]) + end)
        os.utime(path, ns=(now_ns, now_ns))
    elif what == "delete":
        path.unlink()
    elif what == "touch":
        os.utime(path, ns=(now_ns, now_ns))
    elif what == "rename" and not second.exists() and all(not one.is_file() for one in second.parents):
        second.parent.mkdir(parents=True, exist_ok=True)
        path.rename(second)


def test_the_index_says_what_it_is(source: Path) -> None:
    metadata = pq.read_schema(source.with_name("index") / "instances.parquet").metadata
    assert metadata[b"fastdcm.reader"].decode() == reader_version()
    assert abs(int(metadata[b"fastdcm.started_ns"]) - time.time_ns()) < 600 * 10**9
