"""Series that did not change are not grouped again, and the map and the store are those of grouping everything."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastdcm
from fastdcm.model import Options
from fastdcm.run import convert as convert_module
from fastdcm.run import kept_map
from fastdcm.run.book import SeriesBook
from fastdcm.run.kept_map import MAP
from fastdcm.run.survey import SeriesMap, map_index
from tests import dicomgen
from tests.run.test_book import contents, make_export
from tests.run.test_finished import make_old


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "export"
    make_export(folder)
    dicomgen.make_series(folder / "plain", series="plain", n=4)
    make_old(folder)
    return folder


@pytest.fixture
def grouped(monkeypatch: pytest.MonkeyPatch) -> list[set[str | None]]:
    """The series that each run grouped for its map, which is held equal to the map of all series grouped."""
    seen: list[set[str | None]] = []
    group = SeriesBook.group

    def noted(book: SeriesBook, number: int) -> Any:
        seen[-1].add(book.frames.identity(number)[2])
        return group(book, number)

    def both(*arguments: Any, earlier: Any, **more: Any) -> SeriesMap:
        whole = map_index(*arguments, **more)
        seen.append(set())
        with monkeypatch.context() as patch:
            patch.setattr(SeriesBook, "group", noted)
            found = map_index(*arguments, earlier=earlier, **more)
        assert_same(found, whole)
        return found

    monkeypatch.setattr(convert_module, "map_index", both)
    return seen


def assert_same(found: SeriesMap, whole: SeriesMap) -> None:
    assert found.table.equals(whole.table)
    for one, other in zip(map(np.asarray, found.facts), map(np.asarray, whole.facts), strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)
    assert (found.left_out, found.odd, found.warnings) == (whole.left_out, whole.odd, whole.warnings)
    for number in range(len(whole.book)):
        plans = [(plan.path, plan.digest, plan.reasons) for plan in found.book[number].plans]
        assert plans == [(plan.path, plan.digest, plan.reasons) for plan in whole.book[number].plans]


def run(source: Path, dest: Path, **options: Any) -> Any:
    return fastdcm.convert(source, dest, workers=1, **options)


def add_slice(source: Path) -> None:
    """A late slice, the first of all files: every row of the index has another number."""
    made = dicomgen.make_series(source.parent / "made", series="plain", n=5)
    shutil.copy(made.paths[4], source / "0-late.dcm")


def remove_slice(source: Path) -> None:
    sorted((source / "plain").iterdir())[-1].unlink()


def rename_slice(source: Path) -> None:
    sorted((source / "plain").iterdir())[0].rename(source / "zzz.dcm")


def copy_uid(source: Path) -> None:
    """Another series gets the UIDs of one that does not change."""

    def same_uid(k: int, dataset: Any) -> None:
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = first[k].SOPInstanceUID

    first = dicomgen.make_series(source.parent / "made", series="plain", n=4).datasets
    dicomgen.make_series(source / "again", series="again", n=3, edit=same_uid)


def add_lone_slice(source: Path) -> None:
    dicomgen.make_series(source / "lone", n=1, series="s9", origin=(0.0, 0.0, 50.0))


def change_nothing(_: Path) -> None:
    pass


EDITS: tuple[Callable[[Path], None], ...] = (
    change_nothing,
    add_slice,
    remove_slice,
    rename_slice,
    copy_uid,
    add_lone_slice,
)


@pytest.mark.parametrize("on_bad_frame", ["fail", "drop"])
@pytest.mark.parametrize("edit", EDITS)
def test_map_and_store_are_those_of_grouping_everything(
    source: Path, grouped: list[set[str | None]], edit: Callable[[Path], None], on_bad_frame: str
) -> None:
    first, second = source.parent / "first.zarr", source.parent / "second.zarr"
    run(source, first, on_bad_frame=on_bad_frame)
    shutil.copytree(first, second)
    shutil.copytree(f"{first}.work", f"{second}.work")
    (source.parent / "second.zarr.work" / "index" / MAP).unlink()
    edit(source)
    make_old(source)
    (source / "note.txt").write_text("so that the job is not done at once")
    reports = [run(source, store, on_bad_frame=on_bad_frame) for store in (first, second)]
    assert reports[0].outcomes == reports[1].outcomes
    assert reports[0].volumes == reports[1].volumes
    assert contents(first) == contents(second)
    _, some, again = grouped
    assert some == again if edit is copy_uid else len(again - some) >= 2  # whose UIDs are shared is a matter of all


def test_a_late_slice_has_its_own_series_grouped_again(source: Path, grouped: list[set[str | None]]) -> None:
    store = source.parent / "out.zarr"
    for path in source.iterdir():
        if path.name not in ("f", "plain"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    run(source, store)
    add_slice(source)
    make_old(source)
    report = run(source, store)
    assert (report.volumes["written"], report.volumes["unchanged"]) == (1, 2)
    assert [len(numbers) for numbers in grouped] == [2, 1]
    run(source, store, overwrite=True)
    assert len(grouped[-1]) == 2


def test_what_is_not_published_as_planned_is_planned_again(source: Path, grouped: list[set[str | None]]) -> None:
    """A volume that somebody took away, frames that could not be decoded: names and numbers may be others."""
    store = source.parent / "out.zarr"
    run(source, store)
    volume = next(path for path in store.glob("*/*/1.ome.zarr"))
    shutil.rmtree(volume)
    report = run(source, store)
    assert report.volumes["written"] == 1
    assert volume.parent.name in grouped[-1]
    assert len(grouped[-1]) < len(grouped[0])


@pytest.mark.parametrize("options", [{"on_gap": "fill"}, {"metadata": "full"}, {"codec": "lz4"}])
def test_a_map_of_other_options_is_of_no_use(
    source: Path, grouped: list[set[str | None]], options: dict[str, Any]
) -> None:
    store = source.parent / "out.zarr"
    run(source, store)
    run(source, store, **options)
    assert grouped[0] == grouped[1]


def test_a_map_of_another_index_or_broken_is_of_no_use(source: Path, grouped: list[set[str | None]]) -> None:
    store = source.parent / "out.zarr"
    place = source.parent / "out.zarr.work" / "index" / MAP
    run(source, store)
    older = place.read_bytes()
    add_slice(source)
    make_old(source)
    run(source, store)
    for content in (older, older[: len(older) // 2], b""):
        place.write_bytes(content)
        (source / "note.txt").write_text("x" * len(content))
        run(source, store)
        assert grouped[-1] == grouped[0]


def test_other_code_makes_another_map(monkeypatch: pytest.MonkeyPatch) -> None:
    before = kept_map._made_by(Options(), 1)
    assert before != kept_map._made_by(replace(Options(), codec="none"), 1)
    assert before != kept_map._made_by(Options(), 2)
    monkeypatch.setattr(kept_map, "_code_version", lambda: "other")
    assert before != kept_map._made_by(Options(), 1)
