"""One way to point at things: what is split, what is found, and what a message lists when it is not one."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydicom.dataset import Dataset

import fastdcm
from fastdcm.errors import UsageError
from fastdcm.look.address import LISTED, Address, choose_series, choose_volume, find_series, parse_address
from fastdcm.model import Resources
from fastdcm.run.execute import start_engine
from fastdcm.run.survey import SeriesMap
from tests.dicomgen import make_series, make_sr, two_orientations


@pytest.fixture(scope="module")
def export(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("address") / "export"
    make_series(folder / "stnd", n=4, series="stnd", kernel="STANDARD")
    make_series(folder / "lung", n=6, series="lung", kernel="LUNG")
    make_sr(folder / "report.dcm")
    (folder / "notes.txt").write_text("no DICOM")
    return folder


@pytest.fixture(scope="module")
def found(export: Path) -> SeriesMap:
    return fastdcm.scan(export)


def series(path: Path, which: str | None = None) -> tuple[str, int]:
    with start_engine(Resources(workers=1)) as engine:
        files = find_series(engine, [str(path)], which)
    return files.uid, len(files.rows)


def test_an_address_is_split_at_the_first_place_that_leaves_a_path(tmp_path: Path) -> None:
    (tmp_path / "a#b").mkdir()
    (tmp_path / "plain").mkdir()
    assert parse_address(tmp_path / "plain") == Address(str(tmp_path / "plain"), None)
    assert parse_address(f"{tmp_path}/plain#1.2.3") == Address(f"{tmp_path}/plain", "1.2.3")
    assert parse_address(f"{tmp_path}/plain#a == '#'") == Address(f"{tmp_path}/plain", "a == '#'")
    assert parse_address(f"{tmp_path}/plain#") == Address(f"{tmp_path}/plain", None)
    assert parse_address(f"{tmp_path}/a#b") == Address(f"{tmp_path}/a#b", None)
    assert parse_address(f"{tmp_path}/a#b#240.4") == Address(f"{tmp_path}/a#b", "240.4")
    with pytest.raises(UsageError, match=r"no such file or folder: '.*nosuch'"):
        parse_address(tmp_path / "nosuch#1.2")


def test_a_series_by_its_uid_its_end_or_an_expression(found: SeriesMap) -> None:
    uids = {plan.frames.texts["kernel"][0]: plan.frames.texts["series_uid"][0] for plan in found.plans}
    lung = uids["LUNG"]
    for which in (lung, lung[-12:], "kernel == 'LUNG'", "slices > 5"):
        assert choose_series(found, which).frames.texts["series_uid"][0] == lung


def test_none_or_several_series_are_listed(found: SeriesMap) -> None:
    with pytest.raises(UsageError, match="there are 2 series") as several:
        choose_series(found, None)
    assert str(several.value).count("\n") == 2
    assert "6 files" in str(several.value)
    with pytest.raises(UsageError, match=r"no series fit '9\.9\.9\.9'"):
        choose_series(found, "9.9.9.9")
    with pytest.raises(UsageError, match="2 series fit 'slices > 1'"):
        choose_series(found, "slices > 1")


def test_files_of_a_series_of_images_or_of_anything(export: Path, found: SeriesMap) -> None:
    lung = choose_series(found, "kernel == 'LUNG'").frames.texts["series_uid"][0]
    for which in (lung, lung[-12:], "kernel == 'LUNG'"):
        assert series(export, which) == (lung, 6)
    assert series(export / "stnd")[1] == 4
    uid, n = series(export / "report.dcm")
    assert (series(export, uid), n) == ((uid, 1), 1)
    with pytest.raises(UsageError, match="there are 2 series"):  # the report does not stand beside images
        series(export)
    with pytest.raises(UsageError, match=r"no series fit '9\.9\.9'") as none:
        series(export, "9.9.9")
    assert str(none.value).count("\n") == 3
    with pytest.raises(UsageError, match=r"notes.txt is in no series: no DICOM prefix"):
        series(export / "notes.txt")


def test_a_uid_wins_over_those_that_end_so(tmp_path: Path) -> None:
    make_series(tmp_path / "a", n=2, series="a", edit=lambda _, dataset: setattr(dataset, "SeriesInstanceUID", "1.2.7"))
    make_series(tmp_path / "b", n=3, series="b", edit=lambda _, dataset: setattr(dataset, "SeriesInstanceUID", "2.7"))
    assert series(tmp_path, "2.7") == ("2.7", 3)
    assert series(tmp_path, "1.2.7") == ("1.2.7", 2)
    with pytest.raises(UsageError, match=r"2 series fit '\.7'"):
        series(tmp_path, ".7")


def test_one_uid_of_two_patients_is_two_series(tmp_path: Path) -> None:
    def edit(_: int, dataset: Dataset) -> None:
        dataset.SeriesInstanceUID = "1.2.3"

    make_series(tmp_path / "a", n=2, patient="P1", edit=edit)
    make_series(tmp_path / "b", n=3, patient="P2", study="other", edit=edit)
    with pytest.raises(UsageError, match="there are 2 series") as several:
        series(tmp_path)
    studies = fastdcm.scan(tmp_path).table["study"].to_pylist()
    assert len(set(studies)) == 2
    assert all(study in str(several.value) for study in studies)  # the UID of the series does not tell them apart
    with pytest.raises(UsageError, match="there are 2 series") as several:
        choose_series(fastdcm.scan(tmp_path), None)
    assert all(study in str(several.value) for study in studies)
    assert series(tmp_path, f"study == '{studies[0]}'")[1] in (2, 3)


def test_one_series_and_study_of_two_patients_is_told_apart_by_the_patient(tmp_path: Path) -> None:
    """Anonymised again under another name, say: the study does not tell which is meant, the patient's key does."""

    def edit(_: int, dataset: Dataset) -> None:
        dataset.SeriesInstanceUID, dataset.StudyInstanceUID = "1.2.3", "1.2"

    make_series(tmp_path / "a", n=2, patient="P1", edit=edit)
    make_series(tmp_path / "b", n=3, patient="P2", edit=edit)
    found = fastdcm.scan(tmp_path)
    patients = found.table["patient"].to_pylist()
    with pytest.raises(UsageError, match="2 series fit") as several:
        choose_series(found, "1.2.3")
    assert f"patient == '{patients[0]}'" in str(several.value)
    assert all(f"patient {patient}" in str(several.value) for patient in patients)
    assert sorted(series(tmp_path, f"patient == '{patient}'")[1] for patient in patients) == [2, 3]
    with pytest.raises(UsageError, match="2 volumes fit") as several:
        choose_volume(found.table, "1.2.3")
    assert all(f"patient {patient}" in str(several.value) for patient in patients)
    with pytest.raises(UsageError, match="several patients"):
        series(tmp_path, "1.2.3")


def test_a_volume_by_its_series_and_number(tmp_path: Path) -> None:
    two_orientations(tmp_path / "in")
    table = fastdcm.scan(tmp_path / "in").table
    uid = table["series"][0].as_py()
    assert table.num_rows == 2
    for row, number in enumerate(table["index"].to_pylist()):
        assert choose_volume(table, f"{uid}/{number}") == row
        assert choose_volume(table, f"{uid[-8:]}/{number}") == row
        assert choose_volume(table, f'"index" = {number}') == row
    with pytest.raises(UsageError, match="2 volumes fit") as several:
        choose_volume(table, uid)
    assert f"{uid}/0  CT" in str(several.value)
    with pytest.raises(UsageError, match="no volume fit"):
        choose_volume(table, f"{uid}/7")
    with pytest.raises(UsageError):
        choose_volume(table, "nosuch > 1")


@pytest.mark.parametrize("said", ["", "SER/../1", "1.2." + "3" * 70])
def test_what_scan_prints_for_what_is_no_uid_points_at_it(tmp_path: Path, said: str) -> None:
    def edit(_: int, dataset: Dataset) -> None:
        dataset.SeriesInstanceUID = said

    make_series(tmp_path / "odd", n=2, series="odd", edit=edit)
    make_series(tmp_path / "good", n=3, series="good")
    found = fastdcm.scan(tmp_path)
    (name,) = (text for text in found.table["series"].to_pylist() if text.startswith("x-"))
    assert series(tmp_path, name) == (said, 2)
    assert choose_series(found, name).frames.texts["series_uid"][0] in (said, None)
    assert found.table["series"][choose_volume(found.table, f"{name}/0")].as_py() == name
    with pytest.raises(UsageError) as several:
        series(tmp_path)
    assert f"  {name} ({said or 'no UID'})  CT" in str(several.value)
    assert fastdcm.tags(tmp_path, series=name).n_files == 2


def test_one_name_in_two_studies_is_told_apart_by_an_expression_that_works(tmp_path: Path) -> None:
    def edit(_: int, dataset: Dataset) -> None:
        dataset.SeriesInstanceUID = "1.2.3"

    for name in "ab":
        make_series(tmp_path / name, n=1, study=name, edit=edit)
    table = fastdcm.scan(tmp_path).table
    for attempt in (lambda: choose_volume(table, "1.2.3/0"), lambda: series(tmp_path, "1.2.3")):
        with pytest.raises(UsageError, match=r"2 .* fit") as several:
            attempt()
        expression = str(several.value).split('such as "')[1].split('"')[0]
        assert table["study"][choose_volume(table, expression)].as_py() in expression
        assert series(tmp_path, expression) == ("1.2.3", 1)
        assert all(study in str(several.value) for study in table["study"].to_pylist())


def test_long_lists_are_cut(tmp_path: Path) -> None:
    for number in range(LISTED + 3):
        make_series(tmp_path / f"{number}", n=1, series=f"s{number}", rows=4, columns=4)
    with pytest.raises(UsageError, match="there are 23 series") as several:
        series(tmp_path)
    assert str(several.value).endswith("... and 3 more")
    with pytest.raises(UsageError, match="there are 23 volumes") as several:
        choose_volume(fastdcm.scan(tmp_path).table, None)
    assert str(several.value).endswith("... and 3 more")


def test_what_a_header_says_does_not_act_on_the_terminal(tmp_path: Path) -> None:
    def edit(_: int, dataset: Dataset) -> None:
        dataset.SeriesDescription = "\x1b[2Jcleared"

    for name in "ab":
        make_series(tmp_path / name, n=1, series=name, edit=edit)
    with pytest.raises(UsageError) as several:
        series(tmp_path)
    assert "\x1b" not in str(several.value)
