"""A finished job that is run again writes nothing, and says what a run in full would say."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import uid as uids

import fastdcm
from fastdcm.model import Index
from fastdcm.run import convert as convert_module
from fastdcm.run import finished as finished_module
from fastdcm.run import headers, records, rounds, survey
from fastdcm.run.report import Report
from tests import dicomgen

OLD_NS = 10**18


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "export"
    dicomgen.make_series(folder, n=3, series="a")
    cut = dicomgen.make_series(folder, n=2, series="b").paths[0]
    cut.write_bytes(cut.read_bytes()[:-10])
    (folder / "notes.txt").write_text("not DICOM")
    make_old(folder)
    return folder


def make_old(folder: Path) -> None:
    """Give files a date long before any scan: their headers need not be read again."""
    for path in folder.rglob("*"):
        os.utime(path, ns=(OLD_NS, OLD_NS))


@pytest.fixture
def grouped(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of files of each index that was grouped: a run that is not done at once."""
    seen: list[int] = []
    group = survey.map_index

    def counted(engine: Any, index: Index, *arguments: Any, **more: Any) -> Any:
        seen.append(index.instances.num_rows)
        return group(engine, index, *arguments, **more)

    monkeypatch.setattr(convert_module, "map_index", counted)
    return seen


def run(source: Path, **options: Any) -> Report:
    return fastdcm.convert(source, source.parent / "out.zarr", workers=1, **options)


def everything(source: Path) -> dict[str, tuple[int, int, int]]:
    """Return inode, size and date of every file and folder of the store and its working folder."""
    found = {}
    for name in ("out.zarr", "out.zarr.work"):
        top = source.parent / name
        for path in (top, *top.rglob("*")):
            status = path.stat()
            found[str(path)] = (status.st_ino, status.st_size, status.st_mtime_ns)
    return found


def said(report: Report) -> Report:
    return replace(report, seconds=0.0)


def test_a_rerun_touches_nothing_and_groups_nothing(source: Path, grouped: list[int]) -> None:
    first = run(source)
    before = everything(source)
    second = run(source)
    assert everything(source) == before
    assert len(grouped) == 1
    assert second.volumes["written"] == 0
    assert second.volumes["unchanged"] == first.volumes["written"] > 0
    assert second.bytes_read == second.bytes_written == 0
    assert (second.outcomes, second.codes, second.objects) == (first.outcomes, first.codes, first.objects)
    assert second.exit_code == first.exit_code == 1
    assert second.failures == first.failures != ()


@pytest.mark.parametrize("options", [{}, {"where": "modality == 'XX'"}, {"no_localizers": True, "metadata": "full"}])
def test_it_says_what_a_run_in_full_says(source: Path, grouped: list[int], options: dict[str, Any]) -> None:
    dicomgen.mixed_folder(source)
    make_old(source)
    run(source, **options)
    short = run(source, **options)
    (source.parent / "out.zarr.work" / "finished.json").unlink()
    full = run(source, **options)
    assert len(grouped) == 2
    assert said(short) == said(full)
    assert list(short.outcomes) == list(full.outcomes)
    assert said(run(source, **options)) == said(full)
    assert len(grouped) == 2


def test_files_that_are_read_again_and_are_the_same_change_nothing(tmp_path: Path, grouped: list[int]) -> None:
    source = tmp_path / "export"
    dicomgen.make_series(source)  # now: so young that they are read again
    run(source)
    before = everything(source)
    run(source)
    assert (everything(source), len(grouped)) == (before, 1)


def new_file(source: Path) -> None:
    dicomgen.make_series(source / "new", series="new")


def lost_file(source: Path) -> None:
    next(iter(sorted(source.rglob("*.dcm")))).unlink()


def changed_file(source: Path) -> None:
    os.utime(next(iter(sorted(source.rglob("*.dcm")))), ns=(OLD_NS, OLD_NS + 1))


def lost_volume(source: Path) -> None:
    shutil.rmtree(next((source.parent / "out.zarr").glob("*/*/*.ome.zarr")))


def other_volume(source: Path) -> None:
    document = next((source.parent / "out.zarr").glob("*/*/*.ome.zarr")) / "zarr.json"
    document.write_bytes(document.read_bytes() + b"\n")


def lost_table(source: Path) -> None:
    (source.parent / "out.zarr" / "frames.parquet").unlink()


def other_table(source: Path) -> None:
    root = source.parent / "out.zarr" / "zarr.json"
    root.write_bytes(root.read_bytes() + b"\n")


def lost_journal(source: Path) -> None:
    (source.parent / "out.zarr.work" / "journal.jsonl").unlink()


def lost_index(source: Path) -> None:
    shutil.rmtree(source.parent / "out.zarr.work" / "index")


def garbage(source: Path) -> None:
    (source.parent / "out.zarr.work" / "finished.json").write_text("[]")


@pytest.mark.parametrize(
    "change",
    [
        new_file,
        lost_file,
        changed_file,
        lost_volume,
        other_volume,
        lost_table,
        other_table,
        lost_journal,
        lost_index,
        garbage,
    ],
)
def test_anything_that_changed_is_seen(source: Path, change: Callable[[Path], None], grouped: list[int]) -> None:
    run(source)
    change(source)
    run(source)
    assert len(grouped) == 2
    run(source)
    assert len(grouped) == 2
    fresh = fastdcm.convert(source, source.parent / "fresh.zarr", workers=1)
    assert run(source).outcomes == fresh.outcomes


@pytest.mark.parametrize(
    ("first", "second"),
    [({}, {"values": "stored"}), ({}, {"overwrite": True}), ({}, {"no_resume": True}), ({"codec": "lz4"}, {})],
)
def test_another_call_is_done(source: Path, first: dict[str, Any], second: dict[str, Any], grouped: list[int]) -> None:
    run(source, **first)
    run(source, **second)
    assert len(grouped) == 2


def test_resources_are_no_other_call(source: Path, grouped: list[int]) -> None:
    run(source)
    fastdcm.convert([source], source.parent / "out.zarr", workers=2, threads=2, memory=1 << 30)
    assert len(grouped) == 1


def test_another_version_is_another_call(source: Path, grouped: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    run(source)
    monkeypatch.setattr(finished_module, "versions", lambda: {"fastdcm": "later"})
    run(source)
    assert len(grouped) == 2


def test_a_run_that_dies_in_between_is_not_finished(
    source: Path, grouped: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    run(source)

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(rounds, "write_account", die)
        with pytest.raises(KeyboardInterrupt):
            run(source, values="stored")
    assert not (source.parent / "out.zarr.work" / "finished.json").exists()
    run(source)
    assert len(grouped) == 3


def test_a_wrong_selection_costs_nothing(source: Path, grouped: list[int]) -> None:
    run(source)
    with pytest.raises(fastdcm.errors.UsageError):
        run(source, where="nonsense > 3")
    run(source)
    assert len(grouped) == 2


@pytest.mark.parametrize("on_bad_frame", ["fail", "drop"])
def test_what_cannot_be_decoded_is_not_tried_again(source: Path, on_bad_frame: str, grouped: list[int]) -> None:
    made = dicomgen.make_series(source / "jpeg", series="jpeg", transfer_syntax=uids.JPEGLosslessSV1)
    data = bytearray(made.paths[1].read_bytes())
    start = data.rindex(b"\xff\xd8\xff")
    data[start + 20 : start + 60] = bytes(40)
    made.paths[1].write_bytes(data)
    first = run(source, on_bad_frame=on_bad_frame)
    second = run(source, on_bad_frame=on_bad_frame)
    assert len(grouped) == 1
    assert second.failures == first.failures
    assert "failed/decode" in second.codes


@pytest.mark.parametrize("on_bad_frame", ["fail", "drop"])
def test_what_could_not_be_read_is_tried_again(
    source: Path, on_bad_frame: str, grouped: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = dicomgen.make_series(source / "disk", series="disk", n=4)
    text = os.fsencode(made.paths[1])
    opened = os.open

    def failing(path: Any, *arguments: Any, **more: Any) -> int:
        if len(grouped) == 1 and os.fsencode(path) == text:
            raise OSError(5, "Input/output error")
        return opened(path, *arguments, **more)

    with monkeypatch.context() as patch:
        patch.setattr("fastdcm.pixels.finish.FRAMES", None)
        patch.setattr(os, "open", failing)
        first = run(source, on_bad_frame=on_bad_frame)
    assert first.codes.get("failed/unreadable") == 1
    assert not (source.parent / "out.zarr.work" / "finished.json").exists()
    second = run(source, on_bad_frame=on_bad_frame)
    assert len(grouped) == 2
    assert "failed/unreadable" not in second.codes
    assert second.outcomes["failed"] < first.outcomes["failed"]
    (volume,) = (source.parent / "out.zarr" / made.study_uid / made.series_uid).glob("*.ome.zarr")
    np.testing.assert_array_equal(fastdcm.open(volume).numpy(), made.values)  # type: ignore[union-attr]
    run(source, on_bad_frame=on_bad_frame)
    assert len(grouped) == 2


# ---------------------------------------------------------------------------- a late slice


def test_a_late_slice_costs_its_own_series(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "export"
    for k in range(5):
        made = dicomgen.make_series(source / f"s{k}", n=4, series=f"s{k}", seed=k)
    late = made.paths[3]
    aside = late.rename(tmp_path / "late")
    make_old(source)
    run(source)
    before = everything(source)
    read: list[str] = []
    batch = headers._read_batch

    def counted(task: tuple[tuple[str, ...], list[Any]]) -> Any:
        read.extend(file.path for file in task[1])
        return batch(task)

    monkeypatch.setattr(headers, "_read_batch", counted)
    aside.rename(late)
    report = run(source)
    assert read == ["s4/" + late.name]
    assert report.volumes == {"written": 1, "unchanged": 4, "failed": 0, "filtered": 0, "kept": 0}
    assert report.bytes_read == sum(path.stat().st_size for path in made.paths)
    after = everything(source)
    place = str(source.parent / "out.zarr" / made.study_uid / made.series_uid)
    changed = {name for name in before if before[name] != after.get(name) and ".ome.zarr" in name}
    assert changed == {name for name in before if name.startswith(f"{place}/0.ome.zarr")}
    assert fastdcm.verify(source.parent / "out.zarr").exit_code == 0


def test_the_finished_job_is_private(source: Path) -> None:
    run(source)
    known = json.loads((source.parent / "out.zarr.work" / "finished.json").read_text())
    assert known["asked"]["sources"] == [str(source)]
    assert not (source.parent / "out.zarr" / "finished.json").exists()


@pytest.mark.parametrize("edit", [None, lost_volume, other_volume, lost_table])
def test_markers_of_a_store_that_nobody_touched_are_not_read(
    source: Path, monkeypatch: pytest.MonkeyPatch, edit: Callable[[Path], None] | None
) -> None:
    read: list[Path] = []
    published_digest = records.published_digest

    def noted(volume: Path) -> str | None:
        read.append(volume)
        return published_digest(volume)

    monkeypatch.setattr(records, "published_digest", noted)
    run(source)
    new_file(source)
    if edit is not None:
        edit(source)
    read.clear()
    report = run(source)
    assert bool(read) == (edit is not None)
    assert report.volumes["written"] == (2 if edit is lost_volume else 1)
    assert report.volumes["unchanged"] == (0 if edit is lost_volume else 1)
