"""Whatever the files hold: one outcome each, exit code 0 or 1, no traceback, in three gigabytes."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from pydicom import uid as uids

import fastdcm
from fastdcm.run.progress import Progress
from tests import dicomgen
from tests.fuzz.mutate import awkward_files, good_files, installed_files, monsters, mutated
from tests.fuzz.run import convert, count_files, problems


@pytest.fixture(scope="module")
def seeds(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    return good_files(tmp_path_factory.mktemp("good")) + installed_files(50_000)


def test_mutated_files_end_in_an_outcome_each(tmp_path: Path, seeds: list[bytes]) -> None:
    source = tmp_path / "in"
    source.mkdir()
    for number, (kind, data) in enumerate(mutated(seeds, 270, 0)):
        (source / f"{number:04d}-{kind}").write_bytes(data)
    ended = convert(source, tmp_path / "out.zarr")
    assert problems(ended, 270) == []
    assert ended.code == 1
    assert len({outcome for outcome, _ in ended.outcomes.values()}) >= 4


def test_monsters_and_awkward_files_take_neither_time_nor_memory(tmp_path: Path) -> None:
    good = dicomgen.make_series(tmp_path / "good", n=1).paths[0].read_bytes()
    source = tmp_path / "in"
    awkward_files(source, good)
    made = monsters(good)
    for name, data in made.items():
        (source / name).write_bytes(data)
    ended = convert(source, tmp_path / "out.zarr", seconds=60)
    assert problems(ended, count_files(source)) == []
    assert ended.outcomes["pipe"] == ended.outcomes["device"] == ("not-dicom", "no-dicom")
    assert ended.outcomes["loop-a"] == ended.outcomes["dangling"] == ("failed", "unreadable")
    assert ended.outcomes["secret"] == ended.outcomes["locked"] == ("failed", "permission")
    assert ended.outcomes["empty"] == ("not-dicom", "empty")
    assert ended.outcomes["bomb"] == ("failed", "unsupported-pixels")
    assert {ended.outcomes[name][0] for name in made} <= {"failed", "not-dicom", "not-image"}


def _grow(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"more")


def _shrink(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-200])


def _become_a_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _become_a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (Path.unlink, "unreadable"),
        (_grow, "changed"),
        (_shrink, "changed"),
        (_become_a_pipe, "changed"),
        (_become_a_folder, "changed"),
    ],
)
@pytest.mark.parametrize("syntax", [uids.ExplicitVRLittleEndian, uids.RLELossless, uids.DeflatedExplicitVRLittleEndian])
def test_what_changes_between_scan_and_decoding_fails_alone(
    tmp_path: Path, syntax: str, change: Callable[[Path], None], code: str
) -> None:
    source = tmp_path / "in"
    victim = dicomgen.make_series(source, n=3, series="changing", transfer_syntax=syntax).paths[1]
    dicomgen.make_series(source, n=3, series="calm", seed=1)

    def meddle(progress: Progress) -> None:
        if progress.stage == "group":
            change(victim)

    report = fastdcm.convert(str(source), str(tmp_path / "out.zarr"), progress=meddle)
    rows = pq.read_table(tmp_path / "out.zarr" / "files.parquet").to_pylist()
    outcomes = {row["path"]: (row["outcome"], row["code"]) for row in rows}
    assert outcomes.pop(victim.name) == ("failed", code)
    assert sorted(outcomes.values(), key=str) == [("converted", None)] * 3 + [("failed", "sibling-failed")] * 2
    assert report.exit_code == 1
