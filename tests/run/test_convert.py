from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from pydicom import uid as uids
from pydicom.dataset import Dataset

import fastdcm
from fastdcm.errors import TargetError, UsageError
from fastdcm.model import Options, Resources, VolumePlan
from fastdcm.run import target, write
from fastdcm.run.series import assign_numbers
from fastdcm.scan.index import load_index
from tests import dicomgen
from tests.converted import convert, part
from tests.dicomgen import Series

ROOT = Path(__file__).resolve().parents[2]
WORKING_FILES = ["finished.json", "index", "journal.jsonl", "lock", "sources.json"]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return tmp_path / "export"


def state_of(store: Path) -> dict[str, tuple[int, bytes]]:
    """Return inode and bytes of every file of a store."""
    return {
        str(path.relative_to(store)): (path.stat().st_ino, path.read_bytes())
        for path in store.rglob("*")
        if path.is_file()
    }


def contents(store: Path) -> dict[str, bytes]:
    """Return the bytes of every file that must not depend on when and how a run was made."""
    return {name: data for name, (_, data) in state_of(store).items() if name != "report.json"}


def break_jpeg(path: Path) -> None:
    """Spoil the codestream of an encapsulated file: the header stays right."""
    data = bytearray(path.read_bytes())
    start = data.rindex(b"\xff\xd8\xff")
    data[start + 20 : start + 60] = bytes(40)
    path.write_bytes(data)


def jpeg_series(folder: Path, **more: Any) -> Series:
    return dicomgen.make_series(folder, transfer_syntax=uids.JPEGLosslessSV1, **more)


# ---------------------------------------------------------------------------- accounting and tables


def test_every_file_has_one_row_and_the_totals_balance(source: Path) -> None:
    mixed = dicomgen.mixed_folder(source)
    mixed.forbidden.chmod(0o644)
    converted = convert(source)
    assert converted.report.exit_code == 1
    expected = {path: (row.outcome, row.code) for path, row in mixed.files.items() if path != mixed.forbidden}
    expected[mixed.forbidden] = ("converted", None)
    found = converted.files()
    copies = {mixed.good[0].paths[1], source / "copies" / "again.dcm"}
    assert {found[path] for path in copies} == {("converted", None), ("duplicate", "same-pixels")}
    assert {path: row for path, row in found.items() if path not in copies} == {
        path: row for path, row in expected.items() if path not in copies
    }
    report = json.loads((converted.path / "report.json").read_text())
    assert sum(report["totals"]["outcomes"].values()) == report["totals"]["files"] == len(expected)
    assert {failure.path for failure in converted.report.failures} == {
        str(path) for path, (outcome, _) in found.items() if outcome in ("failed", "conflict")
    }


def test_tables_have_the_columns_and_the_generation_of_the_format(source: Path) -> None:
    dicomgen.make_series(source)
    path = convert(source).path
    tables = {name: pq.read_table(path / f"{name}.parquet") for name in ("catalog", "files", "frames")}
    assert tables["files"].column_names == [
        "file", "source", "path", "size", "mtime", "outcome", "code", "message", "sop_class_uid", "sop_instance_uid",
        "series_uid",
    ]  # fmt: skip
    assert tables["frames"].column_names == ["volume", "t", "c", "z", "file", "frame", "tile", "sop_instance_uid"]
    root = json.loads((path / "zarr.json").read_text())["attributes"]["fastdcm"]
    generations = {table.schema.metadata[b"generation"].decode() for table in tables.values()}
    assert generations == {root["generation"]} == {json.loads((path / "report.json").read_text())["generation"]}


def test_a_store_by_the_technical_policy_holds_no_text_and_no_path(source: Path) -> None:
    dicomgen.make_series(source / "Mustermann", series="secret words", name="{k}.dcm", ProtocolName="secret protocol")
    store = convert(source).path
    texts = b"".join(path.read_bytes() for path in store.rglob("*.json"))
    assert b"Mustermann" not in texts
    assert b"secret" not in texts
    assert f'"converter":"fastdcm {fastdcm.__version__}"'.encode() in texts
    row = pq.read_table(store / "catalog.parquet").to_pylist()[0]
    assert [row[name] for name in ("description", "protocol", "study_date")] == [None] * 3
    full = convert(source, name="full.zarr", metadata="full").path
    assert pq.read_table(full / "catalog.parquet")["description"].to_pylist() == ["secret words"]
    assert fastdcm.scan(source).table["description"].to_pylist() == ["secret words"]


# ---------------------------------------------------------------------------- again


def test_a_second_run_writes_nothing(source: Path) -> None:
    dicomgen.mixed_folder(source)
    first = convert(source)
    before = state_of(first.path)
    second = convert(source)
    assert state_of(second.path) == before
    assert second.report.volumes["written"] == 0
    assert second.report.volumes["unchanged"] == first.report.volumes["written"]
    assert second.report.exit_code == 1
    assert sorted(path.name for path in (source.parent / "out.zarr.work").iterdir()) == WORKING_FILES


def test_a_lost_working_folder_costs_no_conversion(source: Path) -> None:
    dicomgen.make_series(source)
    before = state_of(convert(source).path)
    shutil.rmtree(source.parent / "out.zarr.work")
    assert state_of(convert(source).path) == before


def test_overwrite_makes_the_same_bytes_anew(source: Path) -> None:
    dicomgen.make_series(source)
    first = state_of(convert(source).path)
    second = convert(source, overwrite=True)
    assert second.report.volumes["written"] == 1
    after = state_of(second.path)
    volumes = {name: data for name, (_, data) in after.items() if ".ome.zarr" in name}
    assert volumes == {name: data for name, (_, data) in first.items() if ".ome.zarr" in name}
    assert {name: inode for name, (inode, _) in after.items()} != {name: inode for name, (inode, _) in first.items()}


def test_a_late_slice_replaces_its_volume_under_its_number(source: Path) -> None:
    made = dicomgen.make_series(source, n=6)
    other = dicomgen.make_series(source, n=2, rows=30, name="other-{k}.dcm", first=20)
    late = made.paths[5]
    late.rename(source.parent / "late")
    first = convert(source)
    assert [v.numpy().shape for v in first.of_series(made.series_uid)] == [(5, 22, 18), (2, 30, 18)]
    untouched = {name: row for name, row in state_of(first.path).items() if "/1.ome.zarr/" in name}
    (source.parent / "late").rename(late)
    second = convert(source)
    assert second.report.volumes == {"written": 1, "unchanged": 1, "failed": 0, "filtered": 0, "kept": 0}
    volumes = second.of_series(made.series_uid)
    np.testing.assert_array_equal(volumes[0].numpy(), made.values)
    np.testing.assert_array_equal(volumes[1].numpy(), other.values)
    assert {name: row for name, row in state_of(second.path).items() if "/1.ome.zarr/" in name} == untouched


def test_a_published_number_stays_when_a_larger_volume_comes(source: Path) -> None:
    small = dicomgen.make_series(source, n=3, name="small-{k}.dcm")
    convert(source)
    large = dicomgen.make_series(source, n=7, rows=30, name="large-{k}.dcm", first=20)
    volumes = convert(source).of_series(small.series_uid)
    np.testing.assert_array_equal(volumes[0].numpy(), small.values)
    np.testing.assert_array_equal(volumes[1].numpy(), large.values)


def test_volumes_that_become_one_leave_no_second(source: Path) -> None:
    made = dicomgen.make_series(source, n=9)
    for path in made.paths[4:6]:
        path.rename(source.parent / path.name)
    assert len(convert(source, on_gap="split").store.volumes) == 2
    for path in made.paths[4:6]:
        (source.parent / path.name).rename(path)
    converted = convert(source, on_gap="split")
    (volume,) = converted.store.volumes
    np.testing.assert_array_equal(volume.numpy(), made.values)
    assert [path.name for path in volume.path.parent.glob("*.ome.zarr")] == [volume.path.name]


def test_volumes_whose_sources_are_gone_stay(source: Path) -> None:
    gone = dicomgen.make_series(source / "a", series="a")
    dicomgen.make_series(source / "b", series="b")
    convert(source)
    shutil.rmtree(source / "a")
    converted = convert(source)
    assert converted.report.volumes["kept"] == 1
    (volume,) = converted.of_series(gone.series_uid)
    np.testing.assert_array_equal(volume.numpy(), gone.values)
    frames = pq.read_table(converted.path / "frames.parquet").to_pylist()
    assert sum(row["file"] is None for row in frames) == len(gone.paths)


def test_the_patient_keeps_its_key(source: Path) -> None:
    dicomgen.make_series(source / "b", study="later", series="b")
    (first,) = pq.read_table(convert(source).path / "catalog.parquet")["patient"].to_pylist()
    for k in range(8):  # some of these studies have a smaller UID
        dicomgen.make_series(source / str(k), study=f"s{k}", series=f"s{k}", n=1)
    keys = pq.read_table(convert(source).path / "catalog.parquet")["patient"].to_pylist()
    assert set(keys) == {first}


def study_of(store: Path, patient_marker: str) -> str:
    """Return the folder of the study whose volumes have this protocol."""
    rows = pq.read_table(store / "catalog.parquet").to_pylist()
    (study,) = {row["volume"].split("/")[0] for row in rows if row["protocol"] == patient_marker}
    return str(study)


@pytest.mark.parametrize("lost", [False, True])
def test_a_published_study_stays_with_its_patient(source: Path, lost: bool) -> None:
    """A patient who sorts earlier under the same study UID gets the next suffix, and nobody is moved."""
    for patient in ("m", "s"):
        dicomgen.make_series(source / patient, study="one", series=patient, patient=patient, ProtocolName=patient)
    first = convert(source, metadata="full")
    before = {patient: study_of(first.path, patient) for patient in "ms"}
    assert before["s"] == f"{before['m']}-2"
    kept = {path: state for path, state in state_of(first.path).items() if ".ome.zarr" in path}
    if lost:
        shutil.rmtree(source.parent / "out.zarr.work")
    dicomgen.make_series(source / "a", study="one", series="a", patient="a", ProtocolName="a")
    again = convert(source, metadata="full")
    assert {patient: study_of(again.path, patient) for patient in "ams"} == before | {"a": f"{before['m']}-3"}
    assert {path: state for path, state in state_of(again.path).items() if path in kept} == kept
    keys = {row["protocol"]: row["patient"] for row in pq.read_table(again.path / "catalog.parquet").to_pylist()}
    assert len(set(keys.values())) == 3
    shutil.rmtree(source / "m")
    dicomgen.make_series(source / "m2", study="one", series="m2", patient="m", ProtocolName="m2")
    last = convert(source, metadata="full")
    assert study_of(last.path, "m2") == before["m"]


def test_the_index_is_kept_as_parquet(source: Path) -> None:
    made = dicomgen.make_series(source)
    (source / "notes.txt").write_text("not DICOM")
    convert(source)
    index = load_index(str(source.parent / "out.zarr.work" / "index"))
    assert index.sources == (str(source),)
    assert index.instances["path"].to_pylist() == sorted([*(path.name for path in made.paths), "notes.txt"])
    assert index.instances["outcome"].drop_null().to_pylist() == ["not-dicom"]


def test_verify_finds_the_sources_by_itself(source: Path) -> None:
    made = dicomgen.make_series(source)
    converted = convert(source)
    kept = source.parent / "out.zarr.work" / "sources.json"
    assert json.loads(kept.read_text()) == [str(source)]
    assert kept.stat().st_mode & 0o777 == 0o600
    report = fastdcm.verify(converted.path)
    assert report.sources
    assert report.findings.decoded == len(made.paths)
    moved = source.rename(source.with_name("moved"))
    assert fastdcm.convert(moved, converted.path).volumes["written"] == 0
    assert fastdcm.verify(converted.path).findings.decoded == len(made.paths)


KILLED = """
import os, signal, sys
from fastdcm.store import commit
publish = commit.publish
def publish_and_die(pairs):
    {body}
    os.kill(os.getpid(), signal.SIGKILL)
commit.publish = publish_and_die
import fastdcm
fastdcm.convert(sys.argv[1], sys.argv[2], workers=1)
"""


@pytest.mark.parametrize(
    "body", ["pass", "publish(pairs[:1])", "publish(pairs)"], ids=["before", "between", "before the tables"]
)
def test_killed_at_the_worst_moment_the_same_command_finishes(body: str, source: Path) -> None:
    for k in range(3):
        dicomgen.make_series(source, n=3, series=f"s{k}", seed=k)
    out = source.parent / "out.zarr"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", KILLED.format(body=body), str(source), str(out)]
    assert subprocess.run(command, env=environment, check=False).returncode == -signal.SIGKILL
    assert not (out / "catalog.parquet").exists()
    found = contents(convert(source).path)
    assert found == contents(convert(source, name="fresh.zarr").path)
    assert not (source.parent / "out.zarr.work" / "partial").exists()


def test_a_journal_line_cut_short_is_left_out(source: Path) -> None:
    dicomgen.make_series(source / "a", series="a")
    before = contents(convert(source).path)
    journal = source.parent / "out.zarr.work" / "journal.jsonl"
    journal.write_bytes(journal.read_bytes()[:-40])
    assert contents(convert(source).path) == before


def test_an_interrupt_leaves_what_is_complete(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for k in range(4):
        dicomgen.make_series(source, n=3, series=f"s{k}", seed=k)
    monkeypatch.setattr(write, "UNIT_VOLUMES", 1)

    def interrupt(progress: Any) -> None:
        if progress.stage == "convert" and progress.volumes == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fastdcm.convert(source, source.parent / "out.zarr", workers=1, progress=interrupt)
    published = len(list((source.parent / "out.zarr").glob("*/*/*.ome.zarr")))
    assert published == 2
    assert convert(source).report.volumes["unchanged"] == 2


def test_one_run_at_a_time(source: Path) -> None:
    dicomgen.make_series(source)

    def again(progress: Any) -> None:
        if progress.stage == "scan":
            with pytest.raises(UsageError, match="another conversion"):
                fastdcm.convert(source, source.parent / "out.zarr")
            raise LookupError

    with pytest.raises(LookupError):
        fastdcm.convert(source, source.parent / "out.zarr", progress=again)


# ---------------------------------------------------------------------------- policies


def test_a_bad_frame_fails_its_volume_and_names_the_culprit(source: Path) -> None:
    made = jpeg_series(source, n=5)
    break_jpeg(made.paths[2])
    converted = convert(source)
    assert converted.report.exit_code == 1
    outcomes = converted.files()
    assert outcomes.pop(made.paths[2]) == ("failed", "decode")
    assert set(outcomes.values()) == {("failed", "sibling-failed")}
    assert len(converted.store.volumes) == 0


def test_a_bad_frame_can_be_dropped_and_is_not_decoded_again(source: Path) -> None:
    made = jpeg_series(source, n=6)
    break_jpeg(made.paths[2])
    converted = convert(source, on_bad_frame="drop")
    (volume,) = converted.store.volumes
    np.testing.assert_array_equal(volume.numpy(), np.delete(made.values, 2, axis=0))
    assert part(volume, "geometry")["missing_slices"] == [2]
    assert "frames-dropped" in {reason["code"] for reason in volume.attributes["fastdcm"]["reasons"]}
    assert converted.files()[made.paths[2]] == ("failed", "decode")
    assert list(converted.files().values()).count(("converted", None)) == 5
    before = state_of(converted.path)
    again = convert(source, on_bad_frame="drop")
    assert again.report.bytes_read == 0
    assert state_of(again.path) == before


def test_a_bad_frame_can_be_filled(source: Path) -> None:
    made = jpeg_series(source, n=6)
    whole = jpeg_series(source, n=4, series="whole", step=[1.0, 1.0, 2.0])  # irregular: no bad frame, so not filled
    break_jpeg(made.paths[2])
    converted = convert(source, on_bad_frame="fill")
    (volume,) = converted.of_series(made.series_uid)
    expected = made.values.copy()
    expected[2] = np.iinfo(volume.numpy().dtype).min
    np.testing.assert_array_equal(volume.numpy(), expected)
    assert part(volume, "slices")["present"] == [True, True, False, True, True, True]
    assert part(volume, "source")["pixel_hash"][2] is None
    (other,) = converted.of_series(whole.series_uid)
    assert other.numpy().shape[0] == 4


def test_dropped_frames_of_a_file_stand_in_its_message(source: Path) -> None:
    made = dicomgen.make_enhanced(source, transfer_syntax=uids.JPEGLosslessSV1)
    break_jpeg(made.paths[0])
    converted = convert(source, on_bad_frame="drop")
    (volume,) = converted.store.volumes
    assert volume.numpy().shape[0] == len(made.values) - 1
    (row,) = pq.read_table(converted.path / "files.parquet").to_pylist()
    assert (row["outcome"], row["code"]) == ("converted", "frames-dropped")
    assert f"frame {len(made.values) - 1}" in row["message"]
    assert converted.report.exit_code == 0


@pytest.mark.parametrize("on_bad_frame", ["drop", "fill"])
def test_copies_of_a_bad_frame_are_all_decided(source: Path, on_bad_frame: str) -> None:
    made = jpeg_series(source, n=5)
    break_jpeg(made.paths[2])
    copies = [source / f"copy-{k}.dcm" for k in range(3)]
    for copy in copies:  # of one size and date: no digest tells one from another
        shutil.copy2(made.paths[2], copy)
    converted = convert(source, on_bad_frame=on_bad_frame)
    outcomes = converted.files()
    assert outcomes.pop(made.paths[2]) == ("failed", "decode")
    assert {outcomes.pop(copy) for copy in copies} == {("failed", "decode")}
    assert set(outcomes.values()) == {("converted", None)}
    (volume,) = converted.store.volumes
    assert part(volume, "geometry")["missing_slices"] == [2]
    before = state_of(converted.path)
    again = convert(source, on_bad_frame=on_bad_frame)
    assert state_of(again.path) == before
    assert again.report.volumes["unchanged"] == 1


def test_copies_that_a_bad_frame_leaves_are_compared_with_each_other(
    source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = jpeg_series(source, n=4)
    copies = [source / "z-1.dcm", source / "z-2.dcm"]  # the first by name is preferred
    for copy in copies:
        shutil.copy(made.paths[1], copy)
    _fail_once_converting(monkeypatch, lambda: break_jpeg(made.paths[1]))
    converted = convert(source, on_bad_frame="drop")
    outcomes = converted.files()
    assert outcomes.pop(made.paths[1])[0] == "failed"
    assert sorted(outcomes.pop(copy)[0] for copy in copies) == ["converted", "duplicate"]
    assert set(outcomes.values()) == {("converted", None)}
    (volume,) = converted.store.volumes
    np.testing.assert_array_equal(volume.numpy(), made.values)
    assert "frames-dropped" not in {reason["code"] for reason in volume.attributes["fastdcm"]["reasons"]}


def _fail_once_converting(monkeypatch: pytest.MonkeyPatch, spoil: Callable[[], None]) -> None:
    """Spoil a source after the questions were answered and before its frames are decoded."""
    from fastdcm.run import execute, rounds

    fit = execute.fit_memory

    def spoil_first(*args: Any) -> Any:
        spoil()
        return fit(*args)

    monkeypatch.setattr(rounds, "fit_memory", spoil_first)


def test_volumes_that_will_not_be_written_cost_no_worker(source: Path) -> None:
    dicomgen.make_series(source / "good", series="good")
    huge = dicomgen.make_series(source / "huge", n=1, series="huge")
    dataset = huge.datasets[0]
    dataset.Rows = dataset.Columns = 40000  # 3 GiB declared, some hundred bytes there
    dicomgen.save(dataset, huge.paths[0])
    wide = dicomgen.make_series(source / "wide", series="wide", rows=512, columns=512)
    converted = convert(source, workers=4, memory=4 * 2**20, where="rows < 512")
    outcomes = converted.files()
    assert outcomes[huge.paths[0]][0] in ("failed", "filtered")
    assert {outcomes[path][0] for path in wide.paths} == {"filtered"}
    assert converted.report.warnings == ()
    noted = convert(source, name="all.zarr", workers=4, memory=4 * 2**20, codec="none")
    assert noted.files()[huge.paths[0]] == ("failed", "truncated")
    (warning,) = noted.report.warnings
    assert "the largest shard has 2 MiB" in warning


def test_a_file_that_ends_before_its_pixels_takes_no_part_where_its_series_has_no_image(source: Path) -> None:
    made = dicomgen.make_series(source, n=4)
    other = dicomgen.make_series(source, n=1, series="other", patient="P2")
    data = other.paths[0].read_bytes()
    other.paths[0].write_bytes(data[: data.rindex(b"\xe0\x7f\x10\x00")])
    plain = made.datasets[1].copy()
    del plain.PixelData
    plain.SOPInstanceUID = plain.file_meta.MediaStorageSOPInstanceUID = uids.UID("1.2.3")
    plain.SeriesInstanceUID = uids.UID("1.2.5")
    dicomgen.save(plain, source / "plain.dcm")
    twin = made.datasets[2].copy()  # has the UID of an image of another series, which does not make it used twice
    twin.SeriesInstanceUID = uids.UID("1.2.4")
    dicomgen.save(twin, source / "twin.dcm")
    data = (source / "twin.dcm").read_bytes()
    (source / "twin.dcm").write_bytes(data[: data.rindex(b"\xe0\x7f\x10\x00") - 1])
    converted = convert(source)
    outcomes = converted.files()
    cut = [outcomes.pop(path) for path in (other.paths[0], source / "plain.dcm", source / "twin.dcm")]
    assert {outcome for outcome, _ in cut} == {"failed"}
    assert {code for _, code in cut} <= {"truncated", "no-pixels"}
    assert set(outcomes.values()) == {("converted", None)}
    (volume,) = converted.store.volumes
    assert volume.attributes["fastdcm"]["reasons"] == []
    assert volume.path.parts[-3] == made.study_uid  # the other patient, who has no image, takes no name


def test_a_conflict_can_be_settled_by_the_newest(source: Path) -> None:
    made = dicomgen.make_series(source, n=3)
    newer = made.datasets[1]
    values = dicomgen.make_pixels(1, 22, 18, seed=9)
    dicomgen.set_pixels(newer, values, uids.ExplicitVRLittleEndian)
    newer.InstanceCreationDate, newer.InstanceCreationTime = "20260102", "120000"
    dicomgen.save(newer, source / "newer.dcm")
    quarantined = convert(source)
    assert quarantined.report.outcomes["conflict"] == 4
    assert len(quarantined.store.volumes) == 0
    settled = convert(source, name="newest.zarr", on_conflict="newest")
    (volume,) = settled.store.volumes
    np.testing.assert_array_equal(volume.numpy()[1], values[0].astype(np.int64) - 1024)


def test_a_broken_copy_contradicts_nothing(source: Path) -> None:
    made = jpeg_series(source, n=3)
    shutil.copy(made.paths[1], source / "copy.dcm")
    break_jpeg(source / "copy.dcm")
    converted = convert(source)
    (volume,) = converted.store.volumes
    np.testing.assert_array_equal(volume.numpy(), made.values)
    assert converted.files()[source / "copy.dcm"] == ("failed", "decode")


def test_one_uid_under_two_series_converts_both(source: Path) -> None:
    first = dicomgen.make_series(source / "a", series="a")

    def same_uid(k: int, dataset: Dataset) -> None:
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = first.datasets[k].SOPInstanceUID

    dicomgen.make_series(source / "b", series="b", edit=same_uid)
    converted = convert(source)
    assert len(converted.store.volumes) == 2
    for volume in converted.store.volumes:
        assert "uid-reused" in {reason["code"] for reason in volume.attributes["fastdcm"]["reasons"]}
    (warning,) = converted.report.warnings
    assert warning.startswith("2 volumes hold images whose SOP Instance UID another series has too")


def test_single_slice_series_that_look_like_one_are_reported_and_not_merged(source: Path) -> None:
    def one_text(_: int, dataset: Dataset) -> None:
        dataset.SeriesDescription = "thorax"

    for k in range(4):
        dicomgen.make_series(source, n=1, series=f"s{k}", origin=(0.0, 0.0, 5.0 * k), edit=one_text)
    dicomgen.make_series(source, n=1, series="other", origin=(0.0, 0.0, 99.0), rows=40, edit=one_text)
    found = fastdcm.scan(source)
    table = found.table
    flagged = ["one-slice-series" in reasons for reasons in table["reasons"].to_pylist()]
    listed = fastdcm.explain(str(source)).listed
    assert sum("one-slice-series" in series.flags for series in listed) == 4
    assert table.num_rows == 5
    assert sum(flagged) == 4
    converted = convert(source)
    (warning,) = converted.report.warnings
    assert warning.startswith("4 single-slice series of 1 study look like one series")
    assert found.warnings == (warning,)
    assert json.loads((converted.path / "report.json").read_text())["warnings"] == [warning]
    assert convert(source, name="none.zarr", where="rows > 30").report.warnings == ()


def test_values_that_do_not_fit_are_written_in_the_fallback_type(source: Path) -> None:
    pixels = dicomgen.make_pixels(3, 22, 18, bits=12).astype(np.uint16)
    pixels[1, 4, 5] = 60000
    over = dicomgen.make_series(source, n=3, pixels=pixels, bits_stored=16, series="over")
    fits = dicomgen.make_series(source, n=3, bits_stored=16, series="fits", pixels=pixels // 2)
    assert fastdcm.convert(source, source.parent / "x", dry_run=True).plan is not None
    converted = convert(source, shard=2 * 22 * 18 * 2)  # more than one task a volume
    (volume,) = converted.of_series(over.series_uid)
    assert volume.numpy().dtype == np.int32
    np.testing.assert_array_equal(volume.numpy(), over.values)
    assert "dtype-fallback" in {reason["code"] for reason in volume.attributes["fastdcm"]["reasons"]}
    (volume,) = converted.of_series(fits.series_uid)
    assert volume.numpy().dtype == np.int16
    assert convert(source, shard=2 * 22 * 18 * 2).report.volumes["unchanged"] == 2


def test_large_volumes_are_written_shard_by_shard(source: Path) -> None:
    made = dicomgen.make_series(source, n=24)
    (whole,) = convert(source).store.volumes
    (cut,) = convert(source, name="cut.zarr", shard=8 * 22 * 18 * 2, workers=2).store.volumes
    np.testing.assert_array_equal(cut.numpy(), made.values)
    assert part(cut, "source")["pixel_hash"] == part(whole, "source")["pixel_hash"]
    assert cut.attributes["fastdcm"]["dicom_per_slice"] == whole.attributes["fastdcm"]["dicom_per_slice"]
    assert len(list(cut.path.glob("0/image/c/*/*/*"))) > len(list(whole.path.glob("0/image/c/*/*/*")))


# ---------------------------------------------------------------------------- what is left out


def test_selections_leave_files_filtered_with_their_rule(source: Path) -> None:
    lung = dicomgen.make_series(source / "lung", series="lung", kernel="LUNG")
    soft = dicomgen.make_series(source / "soft", series="soft")
    derived = dicomgen.make_series(source / "mpr", series="mpr", image_type=("DERIVED", "SECONDARY", "MPR"))
    scout = dicomgen.make_series(source / "scout", series="scout", n=1, image_type=("ORIGINAL", "PRIMARY", "LOCALIZER"))
    converted = convert(source, where="kernel == 'LUNG' or kind = 'localizer'", no_localizers=True, no_derived=True)
    codes = {made.series_uid: {converted.files()[path] for path in made.paths} for made in (lung, soft, derived, scout)}
    assert codes == {
        lung.series_uid: {("converted", None)},
        soft.series_uid: {("filtered", "where")},
        derived.series_uid: {("filtered", "derived")},
        scout.series_uid: {("filtered", "localizer")},
    }
    assert converted.report.exit_code == 0
    by_type = convert(source, name="type.zarr", image_type="original/primary/axial")
    assert by_type.report.codes == {"filtered/image-type": len(derived.paths) + 1}


@pytest.mark.parametrize("on_bad_frame", ["fail", "drop"])
def test_broken_files_that_nobody_asked_for_are_filtered(source: Path, on_bad_frame: str) -> None:
    good, broken, _ = dicomgen.cut_short(source / "cut")
    dicomgen.make_series(source / "mr", series="mr", modality="MR")
    assert convert(source, name="all.zarr", on_bad_frame=on_bad_frame).report.exit_code == 1
    chosen = convert(source, where="modality == 'MR'", on_bad_frame=on_bad_frame)
    assert chosen.report.exit_code == 0
    assert chosen.files()[broken] == chosen.files()[good.paths[0]] == ("filtered", "where")
    assert chosen.report.volumes["failed"] == 0


def test_a_filter_that_matches_nothing_warns(source: Path) -> None:
    dicomgen.make_series(source)
    report = convert(source, where="modality == 'US'").report
    assert report.exit_code == 0
    assert "leaves out the only volume" in report.warnings[0]


@pytest.mark.parametrize(
    "where",
    [
        "1=1); SELECT 42; --",
        "modality == 'CT'; COPY catalog TO '/tmp/x'",
        "EXISTS(SELECT 1 FROM read_csv('/etc/passwd'))",
        "nonsense > 3",
        "modality ==",
        "",
    ],
)
def test_filters_that_are_no_plain_expression_are_refused(where: str, source: Path) -> None:
    dicomgen.make_series(source, n=1)
    with pytest.raises(UsageError, match="spacing_z"):
        fastdcm.convert(source, source.parent / "out.zarr", where=where)
    assert not (source.parent / "out.zarr").exists()
    assert not (source.parent / "out.zarr.work").exists()


def test_the_same_volumes_stay_converted_when_another_selection_is_added(source: Path) -> None:
    first = dicomgen.make_series(source / "a", series="a", kernel="LUNG")
    dicomgen.make_series(source / "b", series="b")
    convert(source, where="kernel == 'LUNG'")
    converted = convert(source, where="kernel == 'STANDARD'")
    assert len(converted.store.volumes) == 2
    assert converted.files()[first.paths[0]] == ("converted", None)


# ---------------------------------------------------------------------------- dry run and usage


def test_a_dry_run_writes_nothing_and_names_refusals(source: Path) -> None:
    dicomgen.mixed_folder(source)
    report = fastdcm.convert(source, source.parent / "out.zarr", dry_run=True)
    assert sorted(path.name for path in source.parent.iterdir()) == ["export"]
    assert report.exit_code == 1
    assert report.plan is not None
    assert {refusal["code"] for refusal in report.plan["refusals"]} >= {"truncated", "pixels-differ", "sibling-failed"}
    assert str(source) not in json.dumps(report.plan)
    assert report.outcomes == fastdcm.convert(source, source.parent / "out.zarr").outcomes


@pytest.mark.parametrize(
    "options",
    [
        {"codec": "nonsense"},
        {"values": "hounsfield"},
        {"on_gap": "ignore"},
        {"chunks": (1, 2)},
        {"workers": 0},
        {"scheduler": "slurm"},
        {"image_type": "/"},
    ],
)
def test_wrong_options_are_wrong_usage_before_a_header_is_read(options: dict[str, Any], source: Path) -> None:
    dicomgen.make_series(source, n=1)
    seen: list[Any] = []
    with pytest.raises(UsageError):
        fastdcm.convert(source, source.parent / "out.zarr", progress=seen.append, **options)
    assert seen == []


def test_sources_and_targets_must_make_sense(source: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such file"):
        fastdcm.convert(source, tmp_path / "out.zarr")
    with pytest.raises(UsageError, match="no such file"):
        fastdcm.convert("", tmp_path / "out.zarr")
    source.mkdir()
    with pytest.raises(UsageError, match="no file at all"):
        fastdcm.convert(source, tmp_path / "out.zarr")
    assert [path.name for path in tmp_path.iterdir()] == ["export"]
    made = dicomgen.make_series(source, n=1)
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "thesis.doc").write_text("mine")
    with pytest.raises(UsageError, match="neither empty nor"):
        fastdcm.convert(source, foreign)
    with pytest.raises(UsageError, match="not a folder"):
        fastdcm.convert(source, made.paths[0])
    (tmp_path / "empty").mkdir()
    assert fastdcm.convert(source, tmp_path / "empty").exit_code == 0


def test_a_working_folder_on_another_file_system_is_refused_at_once(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dicomgen.make_series(source)
    monkeypatch.setattr(target, "device_of", lambda path: path.name == "elsewhere")
    with pytest.raises(UsageError, match="another file system"):
        fastdcm.convert(source, tmp_path / "s.zarr", work=tmp_path / "elsewhere")
    assert not (tmp_path / "s.zarr").exists()


def test_a_store_inside_its_own_export_is_no_input(source: Path) -> None:
    made = dicomgen.make_series(source, n=2)
    for _ in range(2):
        report = fastdcm.convert(source, source / "out.zarr")
        assert report.files == len(made.paths)


def test_a_target_that_fails_is_said(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dicomgen.make_series(source, n=2)
    (source.parent / "blocked").write_text("a file")
    with pytest.raises((TargetError, UsageError)):
        fastdcm.convert(source, source.parent / "out.zarr", work=source.parent / "blocked" / "work")


def test_importing_the_package_loads_nothing_heavy() -> None:
    code = "import sys, fastdcm; print([m for m in ('dask','zarr','pydicom','pyarrow','numpy') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_scan_is_a_function_whatever_was_imported_before() -> None:
    code = (
        "import fastdcm, fastdcm.scan.find; from fastdcm.scan.index import index_schema; print(callable(fastdcm.scan))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "True"


# ---------------------------------------------------------------------------- numbers


def test_numbers_follow_the_frames() -> None:
    a, b, c = (frozenset((name, k, -1) for k in range(n)) for name, n in (("a", 3), ("b", 2), ("c", 1)))
    assert assign_numbers([a, b, c], []) == [0, 1, 2]
    assert assign_numbers([a, b, c], [(0, b)]) == [1, 0, 2]
    assert assign_numbers([a | c, b], [(0, b), (1, c), (4, a)]) == [4, 0]
    assert assign_numbers([c], [(0, a), (1, b)]) == [2]


def test_a_fault_of_ours_costs_one_volume(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from fastdcm.store import metadata

    good = dicomgen.make_series(source, series="good")
    cursed = dicomgen.make_series(source, series="cursed", rows=31)
    documents = metadata.volume_documents

    def crash(plan: VolumePlan, facts: metadata.VolumeFacts) -> dict[str, bytes]:
        if plan.array.shape[-2] == 31:
            raise ZeroDivisionError
        return documents(plan, facts)

    monkeypatch.setattr(metadata, "volume_documents", crash)
    converted = convert(source)
    assert {converted.files()[path] for path in good.paths} == {("converted", None)}
    assert {converted.files()[path] for path in cursed.paths} == {("failed", "internal")}


def test_scan_says_undecided_and_asks_nothing(source: Path) -> None:
    made = jpeg_series(source, n=2)
    shutil.copy(made.paths[0], source / "copy.dcm")
    (reasons,) = fastdcm.scan(source).table["reasons"].to_pylist()
    assert "undecided" in reasons
    assert isinstance(Options().tolerances, fastdcm.Tolerances)
    assert Resources().scheduler == "local"
