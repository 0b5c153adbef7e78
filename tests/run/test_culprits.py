"""A decoder that ends or holds its process on one file: the file is found, the rest goes on."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from pydicom import uid

from fastdcm.errors import Code, Outcome
from fastdcm.run import culprits, isolate
from fastdcm.run.isolate import Lost
from tests import dicomgen
from tests.converted import Converted, check_series, convert
from tests.planted import CRASH, HANG, plant_decoder, spoil

ROOT = Path(__file__).resolve().parents[2]
LIMIT_S = 3.0
"""A frame that is well must keep it on a busy machine, while its child still loads the decoders."""


@pytest.fixture(autouse=True)
def planted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = plant_decoder(tmp_path / "planted")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(folder), str(ROOT)]))


@pytest.fixture
def made(tmp_path: Path) -> tuple[Path, dicomgen.Series, dicomgen.Series]:
    """Two series of JPEG 2000, and a native one."""
    export = tmp_path / "export"
    syntax = uid.JPEG2000Lossless
    first = dicomgen.make_series(export / "a", series="a", n=5, transfer_syntax=syntax)
    second = dicomgen.make_series(export / "b", series="b", n=5, seed=1, transfer_syntax=syntax)
    dicomgen.make_series(export / "c", series="c", n=4, seed=2)
    return export, first, second


def outcomes(converted: Converted) -> dict[str, tuple[str, str | None]]:
    return {path.name: found for path, found in converted.files().items() if found[0] == Outcome.FAILED}


def intact(converted: Converted, series: dicomgen.Series) -> None:
    (volume,) = converted.of_series(series.series_uid)
    check_series(volume, series)


@pytest.mark.parametrize(("scheduler", "workers"), [("local", 1), ("local", 2), ("processes", 1)])
def test_a_crash_costs_its_own_volume_alone(made: Any, scheduler: str, workers: int) -> None:
    export, first, second = made
    spoil(first.paths[2], CRASH)
    converted = convert(export, scheduler=scheduler, workers=workers)
    assert converted.report.exit_code == 1
    assert converted.report.codes == {"failed/decoder-crash": 1, "failed/sibling-failed": 4}
    (failure,) = [one for one in converted.report.failures if one.code == Code.DECODER_CRASH]
    assert failure.path == str(first.paths[2])
    assert failure.message == "its decoder ends the process"
    intact(converted, second)
    assert isolate._IDLE == []


@pytest.mark.parametrize("policy", ["drop", "fill"])
def test_a_hang_ends_at_its_limit_and_goes_the_way_of_bad_frames(made: Any, policy: str) -> None:
    export, first, second = made
    spoil(first.paths[2], HANG)
    converted = convert(export, task_timeout=LIMIT_S, on_bad_frame=policy)
    assert converted.report.codes == {"failed/decoder-timeout": 1}
    assert converted.report.outcomes[Outcome.CONVERTED] == 13
    intact(converted, second)
    again = convert(export, task_timeout=LIMIT_S, on_bad_frame=policy)  # it is known now
    assert again.report.volumes["written"] == 0


def test_many_bad_frames_are_all_found(made: Any) -> None:
    export, first, second = made
    for path in (first.paths[0], first.paths[4], second.paths[3]):
        spoil(path, CRASH)
    converted = convert(export, on_bad_frame="drop")
    assert converted.report.codes == {"failed/decoder-crash": 3}
    assert converted.report.outcomes[Outcome.CONVERTED] == 11


def test_shards_of_a_large_volume_too(made: Any) -> None:
    export, first, second = made
    spoil(first.paths[3], CRASH)
    converted = convert(export, chunks=(1, 32, 32), shard=1)
    assert converted.report.codes == {"failed/decoder-crash": 1, "failed/sibling-failed": 4}
    intact(converted, second)


def test_copies_that_crash_are_compared_without_them(made: Any) -> None:
    export, _, second = made
    copy = export / "copy.dcm"
    copy.write_bytes(second.paths[1].read_bytes())
    spoil(copy, CRASH)
    converted = convert(export, on_bad_frame="drop")
    assert converted.report.codes == {"failed/decoder-crash": 1}
    intact(converted, second)


def test_a_child_that_was_killed_costs_nothing(made: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    export, first, second = made
    real, lost = isolate.call, iter([(0, 1), (1, 3), None])

    def unlucky(function: Any, argument: Any, limit_s: float) -> Any:
        result = real(function, argument, limit_s)
        if function is culprits._run_watched:
            for place in lost:
                raise Lost(Code.DECODER_CRASH, "killed", place)
        return result

    monkeypatch.setattr(culprits, "call", unlucky)
    monkeypatch.setattr(culprits, "TRIES", 4)
    converted = convert(export)
    assert converted.report.exit_code == 0
    intact(converted, first)
    intact(converted, second)


def test_native_pixels_start_no_child(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(isolate, "_Child")
    dicomgen.make_series(tmp_path / "export", n=4)
    assert convert(tmp_path / "export").report.exit_code == 0


def test_who_is_lost_every_time_and_nowhere_is_a_fault_of_fastdcm(made: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(function: Any, argument: Any, limit_s: float) -> Any:
        raise Lost(Code.DECODER_CRASH, "killed", None)

    monkeypatch.setattr(culprits, "call", never)
    converted = convert(made[0])
    assert converted.report.codes == {"failed/internal": 10}
    assert converted.report.outcomes[Outcome.CONVERTED] == 4
