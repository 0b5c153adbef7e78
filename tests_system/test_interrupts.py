"""Ctrl-C at random moments, as a terminal sends it: to all processes of a run; each time the same command goes on."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest
from pydicom import uid as uids

from scripts.soak_runs import ROOT, Round, Running, cluster, finish, is_too_early, launch
from scripts.soak_store import differences, visible_problems
from tests import dicomgen

pytestmark = pytest.mark.timeout(3600)
MOMENTS = {"local": 20, "processes": 40, "tcp": 20, "array": 20}
STOPPED = 130


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("interrupts") / "export"
    for k in range(4):
        syntax = uids.JPEG2000Lossless if k % 2 else uids.ExplicitVRLittleEndian
        dicomgen.make_series(
            folder / str(k), series=f"s{k}", n=8, rows=300, columns=200, seed=k, transfer_syntax=syntax
        )
    return folder


def interrupted(one: Round, begin: Callable[[], Running], usual_s: float) -> int | None:
    """Run and send Ctrl-C at a random moment; return the exit code, None where Python itself had not begun."""
    run = begin()
    try:
        run.process.wait(one.rng.uniform(0, usual_s))
    except subprocess.TimeoutExpired:
        os.killpg(run.process.pid, signal.SIGINT)
    code = finish(one, run, {0, STOPPED, 1, -signal.SIGINT})
    said = run.log.read_bytes()
    if is_too_early(code, said):
        return None
    assert code in (0, STOPPED), said.decode()
    assert (b"fastdcm: stopped; what is complete stays" in said) == (code == STOPPED and b"fastdcm: " in said)
    return code


@pytest.mark.parametrize("way", MOMENTS)
def test_ctrl_c_at_random_moments(source: Path, tmp_path: Path, way: str) -> None:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    one = Round(
        tmp_path, source, tmp_path / "s.zarr", ("--codec", "zstd:9"), random.Random(way), environment, None, 3.0
    )
    plan, expected = tmp_path / "plan", tmp_path / "expected.zarr"
    with ExitStack() as stack:
        more = {"local": [], "array": [], "processes": ["--scheduler", "processes"]}.get(way)
        if more is None:
            more = ["--scheduler", stack.enter_context(cluster(one))[0]]

        def convert(dest: Path = one.dest) -> Running:
            return launch(one, "convert", str(source), str(dest), *one.options, *more, "--workers", "2")

        def part() -> Running:
            if not plan.exists():
                words = (str(source), "--out", str(plan), "--dest", str(one.dest))
                finish(one, launch(one, "plan", *words, *one.options), {0})
            return launch(one, "run", str(plan))

        begin = part if way == "array" else convert
        started = time.monotonic()
        finish(one, convert(expected), {0})
        usual_s = time.monotonic() - started
        stopped = 0
        while stopped < MOMENTS[way]:
            code = interrupted(one, begin, usual_s)
            assert one.problems == []
            assert visible_problems(one.dest) == []
            stopped += code == STOPPED
            if code == STOPPED and stopped % 5 == 0:
                code = finish(one, begin(), {0})
            if code == 0:
                if way == "array":
                    finish(one, launch(one, "finish", str(plan)), {0})
                assert one.problems == []
                assert differences(expected, one.dest) == []
                for folder in (one.dest, one.dest.with_name("s.zarr.work"), plan):
                    shutil.rmtree(folder, ignore_errors=True)
