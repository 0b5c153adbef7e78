"""Conversions on a real SLURM: workers as its jobs, one of them lost; array jobs, and finish after them."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import dicomgen
from tests_system.slurm import jobs, running_slurm, slurm
from tests_system.test_faults import ROOT, contents

SETTINGS = {
    "DASK_JOBQUEUE__SLURM__QUEUE": "main",
    "DASK_JOBQUEUE__SLURM__INTERFACE": "lo",
    "DASK_JOBQUEUE__SLURM__WALLTIME": "00:20:00",
    "PYTHONPATH": str(ROOT),
}
PATIENCE_S = 600.0
CODING = ("--codec", "zstd:9", "--shard", "400000")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    folder = tmp_path_factory.mktemp("slurm")
    logs = {"DASK_JOBQUEUE__SLURM__LOG_DIRECTORY": str(folder / "log")}
    with running_slurm(folder) as environment:
        yield environment | SETTINGS | logs


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("source") / "export"
    for k in range(12):
        dicomgen.make_series(folder / str(k), series=f"s{k}", n=8, rows=320, columns=256, seed=k)
    dicomgen.cut_short(folder / "cut")
    return folder


@pytest.fixture(scope="module")
def expected(source: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    out = tmp_path_factory.mktemp("expected") / "s.zarr"
    command = [sys.executable, "-m", "fastdcm", "convert", str(source), str(out), *CODING]
    done = subprocess.run(command, env=os.environ | SETTINGS, check=False, timeout=PATIENCE_S, capture_output=True)
    assert done.returncode == 1
    return contents(out)


def test_workers_are_jobs_and_a_lost_one_is_replaced(
    cluster: dict[str, str], source: Path, expected: dict[str, str], tmp_path: Path
) -> None:
    words = ["convert", source, tmp_path / "s.zarr", *CODING, "--cluster", "slurm", "--workers", 2]
    command = [sys.executable, "-m", "fastdcm", *map(str, words), "--memory", "2GB"]
    with open(tmp_path / "said", "w+") as said:
        run = subprocess.Popen(command, env=cluster, stdin=subprocess.DEVNULL, stdout=said, stderr=said)
        try:
            deadline = time.monotonic() + PATIENCE_S
            while not any((tmp_path / "s.zarr.work" / "partial").glob("*/*")):
                assert run.poll() is None, (tmp_path / "said").read_text()
                assert time.monotonic() < deadline
                time.sleep(0.05)
            first = jobs(cluster)
            slurm(cluster, "scancel", first[0])
            seen = set(first)
            while run.poll() is None and time.monotonic() < deadline:
                seen |= set(jobs(cluster))
                time.sleep(0.2)
            assert run.wait(timeout=PATIENCE_S) == 1
        finally:
            run.kill()
            run.wait()
    text = (tmp_path / "said").read_text()
    assert "dashboard: http://127.0.0.1:" in text
    assert "Traceback" not in text
    assert len(seen) >= 2
    assert contents(tmp_path / "s.zarr") == expected
    deadline = time.monotonic() + 60
    while jobs(cluster):  # the jobs are given back
        assert time.monotonic() < deadline
        time.sleep(0.5)


SCRIPT = """#!/bin/bash
#SBATCH --array=1-4
#SBATCH --mem=800
#SBATCH --output={logs}/part-%a.txt
exec {python} -m fastdcm run {plan} --part $SLURM_ARRAY_TASK_ID/4 --workers 1
"""


def test_array_jobs_and_finish_after_them(
    cluster: dict[str, str], source: Path, expected: dict[str, str], tmp_path: Path
) -> None:
    plan, script = tmp_path / "plan", tmp_path / "parts.sh"
    base = [sys.executable, "-m", "fastdcm"]
    words = [*base, "plan", str(source), "--out", str(plan), *CODING]
    subprocess.run(words, env=cluster, check=True, timeout=PATIENCE_S)
    script.write_text(SCRIPT.format(python=sys.executable, plan=plan, logs=tmp_path))
    first = slurm(cluster, "sbatch", "--parsable", script).strip()
    finish = f"{sys.executable} -m fastdcm finish {plan}"
    after = ["--mem=800", f"--output={tmp_path}/finish.txt", "-d", f"afterok:{first}", f"--wrap={finish}"]
    done = subprocess.run(["sbatch", "--wait", *after], env=cluster, check=False, timeout=PATIENCE_S)
    assert done.returncode == 1, (tmp_path / "finish.txt").read_text()  # one file is broken, as in any conversion
    assert contents(tmp_path / "plan.zarr") == expected
    assert all("volumes written" in (tmp_path / f"part-{k}.txt").read_text() for k in range(1, 5))


def test_a_lost_array_task_is_named_and_made_good(
    cluster: dict[str, str], source: Path, expected: dict[str, str], tmp_path: Path
) -> None:
    plan = tmp_path / "plan"
    base = [sys.executable, "-m", "fastdcm"]
    words = [*base, "plan", str(source), "--out", str(plan), *CODING]
    subprocess.run(words, env=cluster, check=True, timeout=PATIENCE_S)
    script = tmp_path / "parts.sh"
    script.write_text(SCRIPT.format(python=sys.executable, plan=plan, logs=tmp_path))
    number = slurm(cluster, "sbatch", "--parsable", script).strip()
    deadline = time.monotonic() + PATIENCE_S
    while not list((plan / "parts").glob("2-of-4")):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    slurm(cluster, "scancel", "--signal=KILL", "--full", f"{number}_2")
    slurm(cluster, "scancel", f"{number}_2")
    while slurm(cluster, "squeue", "-h", "-o", "%A").split():
        assert time.monotonic() < deadline
        time.sleep(0.5)
    done = subprocess.run([*base, "finish", str(plan)], env=cluster, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "nothing was published" in done.stderr
    again = done.stderr.strip().splitlines()[-1].split()
    assert again == ["fastdcm", "run", str(plan), "--part", "2/4"]
    subprocess.run([sys.executable, "-m", *again], env=cluster, check=True, timeout=PATIENCE_S)
    finished = subprocess.run([*base, "finish", str(plan)], env=cluster, check=False, timeout=PATIENCE_S)
    assert finished.returncode == 1
    assert contents(tmp_path / "plan.zarr") == expected
