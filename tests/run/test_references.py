"""Every object is linked to the series and volumes that it is about, in a scan and in a store."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from pydicom import uid as uids

import fastdcm
from fastdcm.cli import run
from fastdcm.load.catalog import references_schema
from tests import dicomgen, referring
from tests.converted import Converted, convert


@pytest.fixture(scope="module")
def linked(tmp_path_factory: pytest.TempPathFactory) -> tuple[Converted, list[referring.Object], dicomgen.Series]:
    source = tmp_path_factory.mktemp("linked") / "src"
    series = dicomgen.make_series(source / "ct", n=3)
    dicomgen.make_series(source / "other", n=2, series="other", study="other", frame_of_reference="other")
    objects = referring.make_objects(source, series)
    referring.make_segmentation(source, series)
    return convert(source, workers=1), objects, series


def test_every_object_has_its_volume(
    linked: tuple[Converted, list[referring.Object], dicomgen.Series],
) -> None:
    converted, objects, series = linked
    (volume,) = converted.of_series(series.series_uid)
    place = volume.path.relative_to(converted.path).as_posix()
    files = pq.read_table(converted.path / "files.parquet").to_pylist()
    rows = {converted.source / files[row["file"]]["path"]: row for row in converted.store.references.to_pylist()}
    assert len(rows) == converted.store.references.num_rows == len(objects) + 1
    for made in objects:
        row = rows[made.path]
        assert (row["class"], row["relation"]) == (made.name, made.relation)
        assert row["sop_instance_uid"] == files[row["file"]]["sop_instance_uid"]
        if made.relation is None:
            assert (row["referenced_series_uid"], row["volume"], row["referenced_instances"]) == (None, None, None)
        else:
            assert (row["referenced_series_uid"], row["volume"]) == (series.series_uid, place)
            assert (row["referenced_study_uid"], row["referenced_instances"]) == (series.study_uid, made.instances)
    assert rows[converted.source / "seg.dcm"]["volume"] == place
    assert volume.references.num_rows == len(objects)  # but for the waveform, and with the segmentation
    (other,) = (v for v in converted.store.volumes if "other" not in str(v.path) and v.shape[0] == 2)
    assert other.references.num_rows == 0


def test_a_scan_says_the_same(linked: tuple[Converted, list[referring.Object], dicomgen.Series]) -> None:
    converted, objects, _ = linked
    found = fastdcm.scan(converted.source, workers=1)
    assert found.references.schema.equals(references_schema())
    assert found.references.equals(converted.store.references)
    assert found.objects == dict.fromkeys(sorted(made.name for made in objects), 1)


def test_the_report_counts_by_class(linked: tuple[Converted, list[referring.Object], dicomgen.Series]) -> None:
    converted, objects, _ = linked
    expected = dict.fromkeys([*(made.name for made in objects), "Segmentation"], 1)
    assert converted.report.objects == expected
    assert json.loads((converted.path / "report.json").read_text())["objects"] == expected
    assert converted.report.as_json()["objects"] == expected


def test_a_rerun_writes_nothing(linked: tuple[Converted, list[referring.Object], dicomgen.Series]) -> None:
    converted, _, _ = linked
    path = converted.path / "references.parquet"
    before = path.stat().st_mtime_ns
    convert(converted.source, workers=1)
    assert path.stat().st_mtime_ns == before
    assert fastdcm.verify(converted.path, workers=1).exit_code == 0


def test_no_path_is_in_the_table(linked: tuple[Converted, list[referring.Object], dicomgen.Series]) -> None:
    converted, objects, _ = linked
    texts = json.dumps(converted.store.references.to_pylist())
    assert not any(made.path.name in texts for made in objects)
    assert str(converted.source) not in texts


def test_what_is_not_in_the_store_stands_without_a_volume(tmp_path: Path) -> None:
    series = dicomgen.make_series(tmp_path / "src", n=2)
    gone = dicomgen.make_series(tmp_path / "gone", n=2, series="gone")
    for name, about in (("here", series), ("away", gone)):
        referring.write(
            tmp_path / "src", name, uids.BasicTextSRStorage, "SR", about, uids.ExplicitVRLittleEndian,
            CurrentRequestedProcedureEvidenceSequence=referring.in_study(about, 2),
        )  # fmt: skip
    left_out = convert(tmp_path / "src", where="modality == 'US'", workers=1).store.references.to_pylist()
    seen = {(row["referenced_series_uid"], row["referenced_instances"], row["volume"]) for row in left_out}
    assert seen == {(series.series_uid, 2, None), (gone.series_uid, 2, None)}


def test_several_volumes_of_a_series_are_told_apart(tmp_path: Path) -> None:
    one = dicomgen.make_series(tmp_path / "src" / "a", n=3)
    dicomgen.make_series(tmp_path / "src" / "b", n=2, first=3, orientation=dicomgen.SAGITTAL)
    referring.write(
        tmp_path / "src", "pr", uids.GrayscaleSoftcopyPresentationStateStorage, "PR", one, uids.ExplicitVRLittleEndian,
        ReferencedSeriesSequence=referring.in_series(one, 3, "ReferencedImageSequence"),
    )  # fmt: skip
    referring.write(
        tmp_path / "src", "raw", uids.RawDataStorage, "CT", one, uids.ExplicitVRLittleEndian,
        ReferencedSeriesSequence=referring.sequence(SeriesInstanceUID=one.series_uid),
    )  # fmt: skip
    store = convert(tmp_path / "src", workers=1).store
    found = {(row["class"], row["referenced_instances"], row["volume"]) for row in store.references.to_pylist()}
    names = store.table["volume"].to_pylist()
    state = "Grayscale Softcopy Presentation State"
    assert found == {(state, 3, names[0]), ("Raw Data", 3, names[0]), ("Raw Data", 2, names[1])}


def test_a_space_links_only_the_same_patient(tmp_path: Path) -> None:
    mine = dicomgen.make_series(tmp_path / "src" / "a", n=2, frame_of_reference="F")
    dicomgen.make_series(
        tmp_path / "src" / "b",
        n=2,
        frame_of_reference="F",
        series="b",
        study="b",
        edit=lambda k, d: setattr(d, "PatientID", "P2"),
    )
    referring.write(
        tmp_path / "src", "fid", uids.SpatialFiducialsStorage, "FID", mine, uids.ExplicitVRLittleEndian,
        FrameOfReferenceUID=mine.datasets[0].FrameOfReferenceUID,
    )  # fmt: skip
    rows = fastdcm.scan(tmp_path / "src", workers=1).references.to_pylist()
    assert [row["referenced_series_uid"] for row in rows] == [mine.series_uid]


def test_a_store_without_the_table_has_no_references(tmp_path: Path) -> None:
    dicomgen.make_series(tmp_path / "src", n=2)
    converted = convert(tmp_path / "src", workers=1)
    (converted.path / "references.parquet").unlink()
    store = fastdcm.open(converted.path)
    assert store.references.equals(references_schema().empty_table())
    assert fastdcm.verify(converted.path, workers=1).exit_code == 0
    convert(tmp_path / "src", workers=1)
    assert (converted.path / "references.parquet").is_file()


def test_commands_tell_of_objects(
    linked: tuple[Converted, list[referring.Object], dicomgen.Series],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    converted, objects, series = linked
    monkeypatch.setenv("COLUMNS", "80")
    assert run(["scan", str(converted.source), "--workers", "1", "--json"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert json.loads(lines[-1])["objects"] == dict.fromkeys(sorted(made.name for made in objects), 1)
    assert run(["scan", str(converted.source), "--workers", "1"]) == 0
    out = capsys.readouterr().out
    assert f"{len(objects)} not-image: 1 12-lead ECG Waveform, 1 Basic Text SR, " in out
    assert run(["convert", str(converted.source), str(tmp_path / "s.zarr"), "--workers", "1"]) == 0
    out = capsys.readouterr().out
    assert "objects  1 12-lead ECG Waveform, " in out
    assert "1 Segmentation" in out
    assert run(["info", f"{tmp_path / 's.zarr'}#{series.series_uid}"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "referred by 1 Basic Text SR, 1 Encapsulated PDF" in out
    assert "ECG" not in out
    assert run(["info", str(tmp_path / "s.zarr")]) == 0
    assert "objects 1 12-lead ECG Waveform" in " ".join(capsys.readouterr().out.split())
