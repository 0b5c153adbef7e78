"""Every fault of the soak once, for certain; sick disks and file servers; kills at a hundred random moments."""

from __future__ import annotations

import errno
import os
import random
import shutil
import signal
import time
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from pydicom import uid as uids

from scripts.soak_export import EDITED, copy_export
from scripts.soak_faults import PLAIN, ROOT_ONLY, build_library
from scripts.soak_runs import DONE, ROOT, Round, Running, finish, marked, send, start, wait_some
from scripts.soak_store import differences, visible_problems
from scripts.soaking import soak_round
from tests import dicomgen
from tests.planted import CRASH, plant_decoder, spoil

pytestmark = pytest.mark.timeout(3600)
"""Each wait has its own limit; on a machine with other work seconds become minutes."""

KILLS = 100
"""Of drivers, and of what works for them; half of them with threads, half with processes."""
SERIES, SLICES = 4, 8
CRASHING = ("kill-driver", "kill-child", "interrupt")
"""Faults that are tried while decoders crash as well."""


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An export of a second or two with one file that is cut short, and beside it what takes longer.

    That is a series with a file that crashes its decoder; besides the decoder, and the library of failing calls.
    """
    folder = tmp_path_factory.mktemp("disturbed")
    for number in range(SERIES):
        syntax = uids.JPEG2000Lossless if number % 2 else uids.ExplicitVRLittleEndian
        name = f"{EDITED}-{number}"
        dicomgen.make_series(
            folder / "base" / EDITED / name,
            series=name,
            n=SLICES,
            rows=300,
            columns=200,
            seed=number,
            transfer_syntax=syntax,
        )
    short = dicomgen.make_series(
        folder / "base" / "short", series="short", n=3, transfer_syntax=uids.ExplicitVRLittleEndian
    )
    os.truncate(short.paths[1], short.paths[1].stat().st_size - 100)
    crashing = dicomgen.make_series(folder / "c", series="c", n=3, transfer_syntax=uids.JPEG2000Lossless)
    spoil(crashing.paths[1], CRASH)
    plant_decoder(folder / "planted")
    assert build_library(folder) is not None
    return folder


def new_round(workshop: Path, place: Path, seed: int) -> Round:
    export = copy_export(workshop / "base", place / "export")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(workshop / "planted"), str(ROOT)])}
    library = workshop / "failing.so"
    return Round(place, export, place / "s.zarr", ("--codec", "zstd:9"), random.Random(seed), environment, library, 3.0)


@pytest.mark.parametrize("name", [*PLAIN, *ROOT_ONLY])
def test_a_disturbed_run_and_another_give_the_undisturbed_store(workshop: Path, tmp_path: Path, name: str) -> None:
    one = new_round(workshop, tmp_path, seed=5)
    if name in CRASHING:
        shutil.copytree(workshop / "c", one.export / "c")
    soak_round(one, {name: {**PLAIN, **ROOT_ONLY}[name]}, Counter())
    assert one.problems == []


@pytest.mark.parametrize("scheduler", ["local", "processes"])
def test_kills_at_random_moments(workshop: Path, tmp_path: Path, scheduler: str) -> None:
    """A killed driver leaves nothing wrong to see, and the next run goes on; without a child a run comes to its end."""
    one = new_round(workshop, tmp_path, seed=7)
    shutil.rmtree(one.export / "short")
    expected = tmp_path / "expected.zarr"
    began = time.monotonic()
    finish(one, start(one, "--scheduler", scheduler, dest=expected), {0})
    one.usual_s = time.monotonic() - began
    kills = Counter[str]()
    while kills.total() < KILLS // 2:
        began = time.monotonic()
        run = start(one, "--scheduler", scheduler, "--workers", one.rng.choice("12"))
        whom = kill_one(one, run) if wait_some(one, run, 1.0) else ""
        code = finish(one, run, {0, -signal.SIGKILL} if whom == "driver" else {0})
        if whom:
            kills[whom] += 1
        else:
            one.usual_s = time.monotonic() - began  # it had ended: the machine has less to do than before
        assert one.problems == []
        assert visible_problems(one.dest) == []
        if code != 0 and kills.total() % 10 == 0:
            code = finish(one, start(one), {0})
        if code == 0:
            assert one.problems == []
            assert differences(expected, one.dest) == []
            shutil.rmtree(one.dest)
            if one.rng.random() < 0.5:
                shutil.rmtree(one.dest.with_name("s.zarr.work"))
        (tmp_path / "kills.txt").write_text(f"{dict(kills)} in {one.runs} runs\n")


def kill_one(one: Round, run: Running) -> str:
    """Kill the driver, or what works for it; return which, and nothing where it had just ended."""
    children = [pid for pid in marked(run.mark) if pid != run.process.pid]
    if children and one.rng.random() < 0.5:
        return "child" if send(one.rng.choice(children), signal.SIGKILL) else ""
    return "driver" if run.process.poll() is None and send(run.process.pid, signal.SIGKILL) else ""


def outcomes_of(one: Round) -> Counter[str]:
    return Counter(row["code"] or row["outcome"] for row in pq.read_table(one.dest / "files.parquet").to_pylist())


GOOD = Counter({"converted": SERIES * SLICES, "truncated": 1, "sibling-failed": 2})


def lost(code: str) -> Counter[str]:
    """Nobody knows what a file is that cannot be opened: the volume is made without it, and says that it has a gap."""
    return GOOD - Counter({"converted": 1}) + Counter({code: 1})


@pytest.mark.parametrize("series", [2, 3], ids=["native", "compressed"])
@pytest.mark.parametrize("call", ["open", "read"])
@pytest.mark.parametrize(
    ("code", "times", "expected"),
    [
        (errno.EIO, "1", GOOD),
        (errno.ESTALE, "1", GOOD),
        (errno.EAGAIN, "2", GOOD),
        (errno.EIO, "-1", lost("unreadable")),
        (errno.EACCES, "-1", lost("permission")),
    ],
)
def test_a_sick_disk(
    workshop: Path, tmp_path: Path, series: int, call: str, code: int, times: str, expected: Counter[str]
) -> None:
    one = new_round(workshop, tmp_path, seed=1)
    sick = {"FAIL_MATCH": f"{EDITED}-{series}-005", "FAIL_CALL": call, "FAIL_ERRNO": str(code), "FAIL_TIMES": times}
    finish(one, start(one, env={**sick, "LD_PRELOAD": str(one.library)}), {DONE})
    assert outcomes_of(one) == expected
    catalog = pq.read_table(one.dest / "catalog.parquet").to_pylist()
    assert sum(not row["uniform"] for row in catalog) == (expected != GOOD)
    finish(one, start(one), {DONE})
    assert outcomes_of(one) == GOOD
    assert one.problems == []


def test_a_file_system_without_locks(workshop: Path, tmp_path: Path) -> None:
    one = new_round(workshop, tmp_path, seed=1)
    sick = {"FAIL_MATCH": "s.zarr.work", "FAIL_CALL": "lock", "FAIL_ERRNO": str(errno.ENOLCK)}
    run = start(one, env={**sick, "LD_PRELOAD": str(one.library)})
    assert finish(one, run, {3}) == 3
    assert "cannot be locked: No locks available" in run.log.read_text()
    assert one.problems == []


def test_a_lock_of_a_dead_run_is_no_obstacle(workshop: Path, tmp_path: Path) -> None:
    one = new_round(workshop, tmp_path, seed=1)
    run = start(one)
    while not (tmp_path / "s.zarr.work" / "lock").exists():
        time.sleep(0.01)
    send(run.process.pid, signal.SIGKILL)
    finish(one, run, {-signal.SIGKILL})
    finish(one, start(one), {DONE})
    assert one.problems == []
    assert outcomes_of(one) == GOOD
