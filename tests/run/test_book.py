"""Entries, records and outcomes that are worked out or read when asked for say what they would if they were kept."""

from __future__ import annotations

import shutil
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset

import fastdcm
from fastdcm.errors import Code, Outcome
from fastdcm.model import Index
from fastdcm.run import book, tables
from fastdcm.run import records as records_module
from fastdcm.run.across import reused_uids
from fastdcm.run.ledger import Claim, Ledger, count_outcomes
from fastdcm.run.records import FrameNote, Record, StoredColumns, append_records, load_journal
from fastdcm.run.tables import VolumeFrames, frames_table, generation_of
from fastdcm.series import frames as frames_module
from fastdcm.series.frames import SeriesFrames
from tests import dicomgen
from tests.converted import convert
from tests.series.made import make_index, row


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return tmp_path / "export"


def make_export(folder: Path) -> None:
    """Write whatever makes a series other than plain: copies, a cut file, shared UIDs, frames, lone slices."""
    first = dicomgen.make_series(folder / "a", series="a")

    def same_uid(k: int, dataset: Dataset) -> None:
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = first.datasets[k].SOPInstanceUID

    dicomgen.make_series(folder / "b", series="b", edit=same_uid)
    copied = dicomgen.make_series(folder / "c", series="c")
    shutil.copy(copied.paths[0], folder / "copy.dcm")
    dicomgen.cut_short(folder / "d")
    dicomgen.make_enhanced(folder / "e")
    dicomgen.two_orientations(folder / "f")

    def one_text(_: int, dataset: Dataset) -> None:
        dataset.SeriesDescription = "thorax"

    for k in range(4):
        dicomgen.make_series(folder / "s", n=1, series=f"s{k}", origin=(0.0, 0.0, 5.0 * k), edit=one_text)


def contents(store: Path) -> dict[str, bytes]:
    """Return the bytes of every file that must not depend on how a run was made."""
    files = (path for path in store.rglob("*") if path.is_file() and path.name != "report.json")
    return {str(path.relative_to(store)): path.read_bytes() for path in files}


@pytest.mark.parametrize("on_bad_frame", ["fail", "drop", "fill"])
def test_a_map_that_keeps_nothing_says_and_writes_the_same(
    source: Path, monkeypatch: pytest.MonkeyPatch, on_bad_frame: Any
) -> None:
    make_export(source)
    kept = fastdcm.scan(source, on_bad_frame=on_bad_frame)
    store = convert(source, name="kept.zarr", on_bad_frame=on_bad_frame)
    monkeypatch.setattr(book, "RECENT_IMAGES", 0)
    monkeypatch.setattr(frames_module, "BATCH_FRAMES", 1)
    monkeypatch.setattr(frames_module, "RECENT_BATCHES", 1)
    lost = fastdcm.scan(source, on_bad_frame=on_bad_frame)
    assert lost.table.equals(kept.table)
    assert len(lost.series) == len(kept.series) > 8
    for one, other in zip(reversed(lost.plans), reversed(kept.plans), strict=True):  # in any order
        assert (one.path, one.digest, one.reasons, one.array) == (other.path, other.digest, other.reasons, other.array)
        assert one.volume.cells.tolist() == other.volume.cells.tolist()
        assert one.frames.texts["sop_instance_uid"].tolist() == other.frames.texts["sop_instance_uid"].tolist()
        assert lost.row_of(one) == kept.row_of(other) is not None
    again = convert(source, name="lost.zarr", on_bad_frame=on_bad_frame)
    assert contents(again.path) == contents(store.path)
    assert again.report.outcomes == store.report.outcomes


def test_the_catalogue_and_the_plans_are_in_one_order(source: Path) -> None:
    make_export(source)
    found = fastdcm.scan(source)
    assert [plan.path for plan in found.plans] == found.table["volume"].to_pylist()
    assert [plan.path for entry in found.series for plan in entry.plans] == found.table["volume"].to_pylist()
    assert found.plans[-1].path == found.plans[len(found.plans) - 1].path
    with pytest.raises(IndexError):
        found.plans[len(found.plans)]


def test_entries_that_are_held_are_bounded(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_export(source)
    monkeypatch.setattr(book, "RECENT_IMAGES", 20)
    found = fastdcm.scan(source)
    entries = list(found.series)
    held = found.book._recent
    assert 1 <= len(held) < len(entries)
    assert sum(len(entry.frames) + book.ENTRY_IMAGES for entry in held.values()) <= 20 or len(held) == 1


# ---------------------------------------------------------------------------- what only all series show


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["1", "2"]), st.sampled_from(["x", "y", "", None]))))
def test_reused_uids_are_those_of_two_series(images: list[tuple[str, str, str | None]]) -> None:
    index = make_index(
        [row(k, patient_id=patient, series_uid=series, sop_instance_uid=uid)
         for k, (patient, series, uid) in enumerate(images)]
    )  # fmt: skip
    having: dict[str, set[tuple[str, str]]] = defaultdict(set)
    for patient, series, uid in images:
        if uid:
            having[uid].add((patient, series))
    expected = {uid for uid, series in having.items() if len(series) > 1}
    assert reused_uids(index, SeriesFrames(index)) == expected


# ---------------------------------------------------------------------------- outcomes

FILES = 7
CLAIMS = [
    (Outcome.FAILED, Code.DECODE, "bad"),
    (Outcome.FAILED, Code.DECODE, "also bad"),
    (Outcome.FAILED, Code.SIBLING_FAILED, "a sibling is bad"),
    (Outcome.CONFLICT, Code.PIXELS_DIFFER, "differs"),
    (Outcome.DUPLICATE, Code.SAME_PIXELS, "same"),
    (Outcome.FILTERED, Code.WHERE, "left out"),
]
RANKS = {"decode": 0, "pixels-differ": 1, "sibling-failed": 2, "same-pixels": 3, "where": 4}


def _index() -> Index:
    scanned = [{}, {}, {}, {}, {}, {"outcome": "not-image", "code": "no-pixels"},
               {"outcome": "failed", "code": "truncated", "message": "bad"}]  # fmt: skip
    return make_index([row(k, **columns) for k, columns in enumerate(scanned)])


@given(
    st.lists(st.tuples(st.sampled_from(CLAIMS), st.lists(st.integers(0, FILES - 1), max_size=4))),
    st.sets(st.integers(0, FILES - 1)),
)
def test_each_file_has_the_most_important_outcome(claims: list[Any], converted: set[int]) -> None:
    ledger = Ledger(FILES)
    for claim, files in claims:
        ledger.claim(files, *claim)
    ledger.converted(list(converted))  # type: ignore[arg-type]
    outcomes = ledger.settle(_index())
    told = list(zip(*(column.to_pylist() for column in outcomes), strict=True))
    for file in range(FILES):
        own = sorted((RANKS[str(c[1])], str(c[1]), c[2], str(c[0])) for c, files in claims if file in files)
        if file in converted:
            failed = [claim for claim in own[:1] if claim[3] == "failed"]
            expected: Any = ("converted", "frames-dropped", failed[0][2]) if failed else ("converted", None, None)
        elif own:
            expected = (own[0][3], own[0][1], own[0][2])
        elif file >= 5:
            expected = [("not-image", "no-pixels", None), ("failed", "truncated", "bad")][file - 5]
        else:
            expected = ("failed", "internal", told[file][2])
        assert told[file] == expected
    totals, codes = count_outcomes(outcomes)
    assert sum(totals.values()) == FILES
    assert list(totals) == [str(outcome) for outcome in Outcome]
    assert codes == {
        f"{outcome}/{code}": sum(one[:2] == (outcome, code) for one in told) for outcome, code, _ in told if code
    }
    assert outcomes.rows(Outcome.FAILED) == [file for file in range(FILES) if told[file][0] == "failed"]


def test_remarks_stand_with_converted_files() -> None:
    ledger = Ledger(FILES)
    ledger.converted([0, 1])  # type: ignore[arg-type]
    ledger.remark(0, Code.LONG_PIXEL_DATA, "b")
    ledger.remark(0, Code.LONG_PIXEL_DATA, "a")
    ledger.remark(2, Code.LONG_PIXEL_DATA, "of no matter")
    told = list(zip(*(column.to_pylist() for column in ledger.settle(_index())), strict=True))
    assert told[:2] == [("converted", "long-pixel-data", "a; b"), ("converted", None, None)]
    assert told[2][:2] == ("failed", "internal")
    assert Claim(Outcome.CONVERTED, None, None) == told[1]


# ---------------------------------------------------------------------------- records


def _record(path: str, frames: int, **more: Any) -> Record:
    uids = [f"{path}.{k}" if k % 3 else None for k in range(frames)]
    columns = StoredColumns([0] * frames, [None] * frames, list(range(frames)), uids, [0] * frames, [None] * frames)
    return Record.of(path, f"digest of {path}", {"volume": path}, columns, **more)


def test_a_record_is_the_same_before_and_after_it_is_in_the_journal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    notes = (FrameNote("1.2", 0, -1, "long-pixel-data", "é"),)
    records = [_record("1/2/0.ome.zarr", 4), _record("1/2/1.ome.zarr", 0), _record("3/4/0.ome.zarr", 2, notes=notes)]
    before = [(record.read(), record.frames) for record in records]
    append_records(tmp_path, records[:1])
    with open(tmp_path / "journal.jsonl", "ab") as journal:
        journal.write(b'{"path": "cut sh')
    append_records(tmp_path, iter(records[1:]))
    assert all(record._line is None for record in records)
    assert [(record.read(), record.frames) for record in records] == before
    monkeypatch.setattr(records_module, "published_digest", lambda path: f"digest of {path.relative_to(tmp_path)}")
    known = load_journal(tmp_path, tmp_path).volumes
    assert {path: (record.read(), record.frames) for path, record in known.items()} == {
        record.path: told for record, told in zip(records, before, strict=True)
    }
    assert [known[record.path].noted for record in records] == [False, False, True]


def test_tables_do_not_depend_on_how_many_rows_are_handled_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    import numpy as np

    sizes = {f"1/2/{n}.ome.zarr": n % 4 for n in (11, 2, 3, 0, 5, 7, 9)}
    volumes = [
        VolumeFrames(_record(path, n), None if n == 2 else np.arange(n, dtype=np.int32)) for path, n in sizes.items()
    ]
    whole = frames_table(volumes)
    expected = [(path, z, None if n == 2 else z) for path, n in sorted(sizes.items()) for z in range(n)]
    rows = whole.to_pylist()
    assert [(one["volume"], one["z"], one["file"]) for one in rows] == expected
    generation = generation_of({"frames": whole})
    monkeypatch.setattr(tables, "RECORDS_AT_A_TIME", 2)
    assert frames_table(volumes).to_pylist() == rows
    assert generation_of({"frames": frames_table(volumes)}) == generation
