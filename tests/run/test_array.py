"""Array jobs: plan, parts in any order, any number and twice, finish. The store is that of convert, byte for byte."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import uid as uids
from pydicom.dataset import Dataset

import fastdcm
from fastdcm.errors import TargetError, UsageError
from fastdcm.model import Options
from fastdcm.run import array_run, execute, isolate, map_document, results
from fastdcm.run.execute import Engine
from fastdcm.run.map_document import VOLUME_COST_BYTES, load_share, share_owners
from tests import dicomgen

ROOT = Path(__file__).resolve().parents[2]
LATE = "late"


@pytest.fixture(autouse=True)
def kept_children(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """One set of decoding processes for all runs of a test: each would start its own, 0.4 s of a processor a child."""
    monkeypatch.setattr(
        execute, "end_children", lambda *, busy=False: isolate.end_children(busy=True) if busy else None
    )
    yield
    isolate.end_children()


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return tmp_path / "export"


@pytest.fixture
def plan(tmp_path: Path) -> Path:
    return tmp_path / "plan"


def contents(store: Path) -> dict[str, bytes]:
    """Return the bytes of every file that must not depend on how a run was made."""
    files = (path for path in store.rglob("*") if path.is_file() and path.name != "report.json")
    return {str(path.relative_to(store)): path.read_bytes() for path in files}


def break_jpeg(path: Path) -> None:
    """Spoil the codestream of an encapsulated file: the header stays right, so only a decoder finds out."""
    data = bytearray(path.read_bytes())
    start = data.rindex(b"\xff\xd8\xff")
    data[start + 20 : start + 60] = bytes(40)
    path.write_bytes(data)


def mixed_export(folder: Path) -> None:
    """Write what makes a series other than plain: broken, cut, copied and conflicting files, 4-D, two types, tilt."""
    plain = dicomgen.make_series(folder / "a", series="a")

    def same_uid(k: int, dataset: Dataset) -> None:
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = plain.datasets[k].SOPInstanceUID

    dicomgen.make_series(folder / "b", series="b", edit=same_uid)
    copied = dicomgen.make_series(folder / "c", series="c")
    shutil.copy(copied.paths[0], folder / "copy.dcm")
    other = dicomgen.make_series(folder / "conflict", series="c", seed=9)
    dataset = other.datasets[1]
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = copied.datasets[1].SOPInstanceUID
    dicomgen.save(dataset, folder / "other.dcm")
    shutil.rmtree(folder / "conflict")
    dicomgen.cut_short(folder / "d")
    dicomgen.make_enhanced(folder / "e")
    dicomgen.two_orientations(folder / "f")
    for k, name in enumerate(("g", "h")):
        broken = dicomgen.make_series(folder / name, series=name, n=5, transfer_syntax=uids.JPEGLosslessSV1, seed=k)
        break_jpeg(broken.paths[2])
        shutil.copy(broken.paths[3], folder / f"{name}-again.dcm")
    pixels = dicomgen.make_pixels(3, 22, 18, bits=12).astype(np.uint16)
    pixels[1, 4, 5] = 60000
    dicomgen.make_series(folder / "over", n=3, pixels=pixels, bits_stored=16, series="over")
    dicomgen.two_phases(folder / "p", series="p")
    for k in range(4):
        dicomgen.make_series(folder / "s", n=1, series=f"s{k}", origin=(0.0, 0.0, 5.0 * k), edit=_one_text)
    dicomgen.make_sr(folder / "report.dcm")
    (folder / "note.txt").write_text("no DICOM")


def _one_text(_: int, dataset: Dataset) -> None:
    dataset.SeriesDescription = "thorax"


def run_all(plan: Path, parts: int = 3) -> None:
    for number in range(parts, 0, -1):
        assert fastdcm.run(plan, part=f"{number}/{parts}").exit_code == 0


# ---------------------------------------------------------------------------- the same store


OPTIONS: list[dict[str, Any]] = [
    {},
    {"on_bad_frame": "drop"},
    {"on_bad_frame": "fill", "on_conflict": "newest"},
    {"where": "slices > 2", "no_derived": True, "values": "stored", "codec": "lz4", "metadata": "full"},
    {"shard": 2 * 22 * 18 * 2, "chunks": (2, 16, 16), "metadata": "none", "on_gap": "fill"},
]


@pytest.mark.parametrize("options", OPTIONS, ids=lambda options: "-".join(map(str, options.values())) or "default")
def test_the_store_is_that_of_convert(options: dict[str, Any], source: Path, plan: Path) -> None:
    mixed_export(source)
    expected = fastdcm.convert(source, source.parent / "out.zarr", **options)
    planned = fastdcm.plan(source, out=plan, **options)
    assert planned.dest == source.parent / "plan.zarr"
    assert not planned.dest.exists()
    assert planned.volumes > 5
    run_all(plan)
    report = fastdcm.finish(plan)
    assert contents(planned.dest) == contents(source.parent / "out.zarr")
    told, wanted = report.as_json(), expected.as_json()
    assert {name: told[name] for name in told if name != "seconds"} == {
        name: wanted[name] for name in wanted if name != "seconds"
    }
    assert report.failures == expected.failures
    again = fastdcm.finish(plan)
    assert again.volumes["written"] == 0
    assert contents(planned.dest) == contents(source.parent / "out.zarr")
    journals = [set((source.parent / f"{name}.zarr.work" / "journal.jsonl").read_bytes().splitlines())
                for name in ("out", "plan")]  # fmt: skip
    assert journals[0] == journals[1]


def test_it_rests_on_what_it_should(source: Path, plan: Path) -> None:
    """The export of these tests has what they are about."""
    mixed_export(source)
    found = fastdcm.convert(source, source.parent / "out.zarr")
    codes = set(found.codes)
    assert {"failed/decode", "failed/truncated", "duplicate/same-pixels", "conflict/pixels-differ"} <= codes
    reasons = pq.read_table(source.parent / "out.zarr" / "catalog.parquet")["reasons"].to_pylist()
    flags = {code for text in reasons if text for code in text.split(";")}
    assert {"dtype-fallback", "uid-reused", "one-slice-series"} <= flags


@pytest.mark.parametrize("on_bad_frame", ["fail", "drop"])
def test_a_later_delivery_joins_the_store(on_bad_frame: Any, source: Path, plan: Path) -> None:
    """A late slice replaces its volume, published numbers and patients stay, what is there is not written again."""
    mixed_export(source)
    late = source.parent / LATE
    late.mkdir()
    for name in ("a", "p", "h"):
        slices = sorted((source / name).iterdir())
        shutil.move(slices[-1], late / f"{name}-late.dcm")
    kept = source.parent / "kept"
    shutil.copytree(source, kept)
    for store in ("out.zarr", "plan.zarr"):
        fastdcm.convert(source, source.parent / store, on_bad_frame=on_bad_frame)
    for path in late.iterdir():
        shutil.copy2(path, source)
    dicomgen.make_series(source / "new", series="new")
    expected = fastdcm.convert(source, source.parent / "out.zarr", on_bad_frame=on_bad_frame)
    planned = fastdcm.plan(source, out=plan, on_bad_frame=on_bad_frame)
    assert planned.unchanged > 3
    run_all(plan, 2)
    report = fastdcm.finish(plan)
    assert contents(planned.dest) == contents(source.parent / "out.zarr")
    assert report.volumes == expected.volumes
    assert report.volumes["written"] < report.volumes["unchanged"]


def test_volumes_that_become_one_leave_no_second(source: Path, plan: Path) -> None:
    made = dicomgen.make_series(source, n=8)
    aside = source.parent / "aside"
    aside.mkdir()
    for path in made.paths[3:5]:
        shutil.move(path, aside)
    for store in ("out.zarr", "plan.zarr"):
        assert fastdcm.convert(source, source.parent / store, on_gap="split").volumes["written"] == 2
    for path in aside.iterdir():
        shutil.copy2(path, source)
    fastdcm.convert(source, source.parent / "out.zarr", on_gap="split")
    fastdcm.plan(source, out=plan, on_gap="split")
    run_all(plan, 1)
    assert fastdcm.finish(plan).volumes["written"] == 1
    assert contents(source.parent / "plan.zarr") == contents(source.parent / "out.zarr")


def test_overwrite_makes_all_anew(source: Path, plan: Path) -> None:
    mixed_export(source)
    before = fastdcm.convert(source, source.parent / "plan.zarr")
    expected = contents(source.parent / "plan.zarr")
    planned = fastdcm.plan(source, out=plan, overwrite=True)
    assert planned.volumes >= before.volumes["written"]
    run_all(plan, 1)
    assert fastdcm.finish(plan).volumes["written"] == before.volumes["written"]
    assert contents(source.parent / "plan.zarr") == expected


# ---------------------------------------------------------------------------- parts


def test_parts_run_twice_at_once_and_of_different_numbers(source: Path, plan: Path) -> None:
    mixed_export(source)
    fastdcm.convert(source, source.parent / "out.zarr")
    fastdcm.plan(source, out=plan)
    jobs = ["1/2", "2/2", "2/3", "1/3", "3/3", "1/1", "1/2", "7/9"]
    with ThreadPoolExecutor(4) as pool:
        reports = list(pool.map(lambda part: fastdcm.run(plan, part=part, workers=1), jobs))
    assert all(report.exit_code == 0 for report in reports)
    assert list((plan / "partial").iterdir()) == []
    again = fastdcm.run(plan)
    assert again.volumes["written"] == 0
    assert fastdcm.finish(plan).exit_code == 1
    assert contents(source.parent / "plan.zarr") == contents(source.parent / "out.zarr")


def test_a_part_that_is_killed_is_run_again(source: Path, plan: Path) -> None:
    """Killed between making a result durable and putting it in its place, and in the middle of a volume."""
    mixed_export(source)
    fastdcm.convert(source, source.parent / "out.zarr")
    fastdcm.plan(source, out=plan)
    for function in ("results.Keeper._put", "results.Keeper.keep", "write.Writer._volume_done"):
        module, rest = function.split(".", 1)
        code = (
            f"import os, signal, sys, fastdcm\nfrom fastdcm.run import {module}\nleft = [3]\nreal = {module}.{rest}\n"
            "def die(*a):\n    left[0] -= 1\n    left[0] or os.kill(os.getpid(), signal.SIGKILL)\n    return real(*a)\n"
            f"{module}.{rest} = die\nfastdcm.run(sys.argv[1], part='1/1', workers=1)\n"
        )
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        done = subprocess.run([sys.executable, "-c", code, str(plan)], env=environment, check=False)
        assert done.returncode == -signal.SIGKILL
    assert fastdcm.run(plan).exit_code == 0
    fastdcm.finish(plan)
    assert contents(source.parent / "plan.zarr") == contents(source.parent / "out.zarr")


def test_a_part_reads_no_more_than_its_share(source: Path, plan: Path) -> None:
    mixed_export(source)
    planned = fastdcm.plan(source, out=plan)
    shares = [load_share(plan, Options(), Engine("local", 1, 1 << 30), number, 4) for number in range(1, 5)]
    assert sum(len(share.volumes) for share in shares) == planned.volumes
    assert len({volume.path for share in shares for volume in share.volumes}) == planned.volumes
    assert all(len(share.book) == len({volume.series for volume in share.volumes}) for share in shares)
    assert max(share.book.index.instances.num_rows for share in shares) < planned.files / 2
    assert load_share(plan, Options(), Engine("local", 1, 1 << 30), 1, 1000).volumes == ()


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(1, 1 << 32), min_size=1, max_size=40), st.integers(1, 60))
def test_shares_are_balanced_and_every_volume_has_one(sizes: list[int], parts: int) -> None:
    import pyarrow as pa

    def table(*_: Any) -> pa.Table:
        return pa.table({"wanted": [True] * len(sizes), "array_bytes": sizes})

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(map_document, "_table", table)
        owners = share_owners(Path(), parts)
    assert len(owners) == len(sizes)
    assert (np.diff(owners) >= 0).all()
    assert owners.min() >= 1
    assert owners.max() <= parts
    cost = np.array(sizes, np.float64) + VOLUME_COST_BYTES
    heaviest = max(cost[owners == number].sum() for number in set(owners.tolist()))
    assert heaviest <= cost.sum() / parts + cost.max() + 1


def test_a_source_that_changed_since_the_plan_is_told(source: Path, plan: Path) -> None:
    made = dicomgen.make_series(source / "a", series="a")
    dicomgen.make_series(source / "b", series="b")
    fastdcm.plan(source, out=plan)
    made.paths[1].write_bytes(made.paths[1].read_bytes() + b"\0\0")
    report = fastdcm.run(plan)
    assert report.volumes == {"written": 1, "ready": 0, "failed": 1}
    assert report.exit_code == 0
    finished = fastdcm.finish(plan)
    assert finished.exit_code == 1
    assert finished.codes == {"failed/changed": 1, "failed/sibling-failed": len(made.paths) - 1}


def test_what_failed_is_tried_again(source: Path, plan: Path) -> None:
    made = dicomgen.make_series(source / "a", series="a")
    fastdcm.plan(source, out=plan)
    aside = made.paths[1].rename(source.parent / "aside")
    assert fastdcm.run(plan).volumes["failed"] == 1
    aside.rename(made.paths[1])
    assert fastdcm.run(plan).volumes["written"] == 1
    assert fastdcm.finish(plan).exit_code == 0


def test_a_part_that_fails_a_check_leaves_its_volume_missing(
    source: Path, plan: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fastdcm.errors import CheckError
    from fastdcm.store import commit

    def fail(*_: Any) -> None:
        raise CheckError("a shard is missing")

    dicomgen.make_series(source / "a", series="a")
    fastdcm.plan(source, out=plan)
    with monkeypatch.context() as patch:
        patch.setattr(commit, "check_complete", fail)
        assert fastdcm.run(plan, workers=1).exit_code == 4
    with pytest.raises(UsageError, match="1 of the 1 volumes"):
        fastdcm.finish(plan)
    assert fastdcm.run(plan).exit_code == 0
    assert fastdcm.finish(plan).exit_code == 0


# ---------------------------------------------------------------------------- finish


def test_an_incomplete_set_is_not_published(source: Path, plan: Path) -> None:
    mixed_export(source)
    planned = fastdcm.plan(source, out=plan)
    for part in ("1/4", "4/4"):
        fastdcm.run(plan, part=part)
    with pytest.raises(UsageError) as caught:
        fastdcm.finish(plan)
    text = str(caught.value)
    assert f"of the {planned.volumes} volumes of the plan are missing, nothing was published" in text
    commands = [line.split() for line in text.splitlines() if line.startswith("  fastdcm run")]
    assert [words[-1] for words in commands] == ["2/4", "3/4"]
    assert not planned.dest.exists()
    assert not Path(f"{planned.dest}.work").exists()
    for words in commands:
        fastdcm.run(words[2], part=words[-1])
    assert fastdcm.finish(plan).volumes["written"] > 5


def test_a_lost_result_is_missed(source: Path, plan: Path) -> None:
    dicomgen.make_series(source / "a", series="a")
    dicomgen.make_series(source / "b", series="b")
    fastdcm.plan(source, out=plan)
    run_all(plan, 2)
    lost = next(plan.glob("built/*/*/volume"))
    shutil.rmtree(lost)
    with pytest.raises(UsageError, match="1 of the 2 volumes"):
        fastdcm.finish(plan)
    fastdcm.run(plan)
    assert fastdcm.finish(plan).volumes["written"] == 2


FINISH = """
import os, signal, sys
from fastdcm.store import commit
publish = commit.publish
def publish_and_die(pairs):
    publish(pairs[:3])
    os.kill(os.getpid(), signal.SIGKILL)
commit.publish = publish_and_die
import fastdcm
fastdcm.finish(sys.argv[1], workers=1)
"""


@pytest.mark.parametrize("on_bad_frame", ["fail", "drop"])
def test_a_finish_that_is_killed_goes_on(on_bad_frame: Any, source: Path, plan: Path) -> None:
    mixed_export(source)
    fastdcm.convert(source, source.parent / "out.zarr", on_bad_frame=on_bad_frame)
    fastdcm.plan(source, out=plan, on_bad_frame=on_bad_frame, overwrite=True)
    run_all(plan, 2)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", FINISH, str(plan)], env=environment, check=False)
    assert done.returncode == -signal.SIGKILL
    assert fastdcm.run(plan).volumes["written"] == 0
    fastdcm.finish(plan)
    assert contents(source.parent / "plan.zarr") == contents(source.parent / "out.zarr")


def test_a_finish_that_dies_after_planning_anew_goes_on(
    source: Path, plan: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fastdcm.run import rounds

    mixed_export(source)
    fastdcm.convert(source, source.parent / "out.zarr", on_bad_frame="drop")
    fastdcm.plan(source, out=plan, on_bad_frame="drop")
    run_all(plan, 1)

    def fail(*_: Any) -> None:
        raise TargetError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(rounds, "write_account", fail)
        with pytest.raises(TargetError):
            fastdcm.finish(plan)
    fastdcm.finish(plan)
    assert contents(source.parent / "plan.zarr") == contents(source.parent / "out.zarr")


def test_a_store_that_changed_meanwhile_is_left_alone(source: Path, plan: Path) -> None:
    dicomgen.make_series(source / "a", series="a")
    fastdcm.plan(source, out=plan)
    run_all(plan, 1)
    other = source.parent / "other"
    dicomgen.make_series(other, series="other")
    fastdcm.convert(other, source.parent / "plan.zarr")
    before = contents(source.parent / "plan.zarr")
    with pytest.raises(UsageError, match="changed after the plan was made"):
        fastdcm.finish(plan)
    assert contents(source.parent / "plan.zarr") == before


def test_finish_holds_the_store(source: Path, plan: Path) -> None:
    from fastdcm.run.records import lock_work

    dicomgen.make_series(source)
    fastdcm.plan(source, out=plan)
    run_all(plan, 1)
    work = source.parent / "plan.zarr.work"
    work.mkdir()
    with lock_work(work), pytest.raises(UsageError, match="another conversion"):
        fastdcm.finish(plan)


# ---------------------------------------------------------------------------- usage


def test_the_plan_is_one_document_without_code(source: Path, plan: Path) -> None:
    dicomgen.make_series(source)
    fastdcm.plan(f"{source}/", out=f"{plan}/")
    kinds = {path.suffix for path in plan.rglob("*") if path.is_file()}
    assert kinds == {".json", ".jsonl", ".parquet"}
    assert plan.stat().st_mode & 0o077 == 0
    assert not plan.with_name("plan.partial").exists()


@pytest.mark.parametrize("part", ["0/3", "4/3", "3", "a/b", "1/0", "-1/3", "", "1/2/3", "¹/2", "1/99999999999"])
def test_parts_are_numbered_from_one(part: str, source: Path, plan: Path) -> None:
    dicomgen.make_series(source, n=2)
    fastdcm.plan(source, out=plan)
    with pytest.raises(UsageError, match="part"):
        fastdcm.run(plan, part=part)


def test_what_is_no_plan_is_refused(source: Path, plan: Path) -> None:
    dicomgen.make_series(source, n=2)
    for call in (fastdcm.run, fastdcm.finish):
        with pytest.raises(UsageError, match="is no plan"):
            call(source)
    fastdcm.plan(source, out=plan)
    document = json.loads((plan / "plan.json").read_text())
    for change, said in (({"fastdcm": "0.0.1"}, "is of fastdcm 0.0.1"), ({"options": {}}, "cannot be read")):
        (plan / "plan.json").write_text(json.dumps(document | change))
        with pytest.raises(UsageError, match=said):
            fastdcm.run(plan)


def test_a_plan_is_not_written_over_what_is_there(source: Path, plan: Path) -> None:
    dicomgen.make_series(source, n=2)
    plan.mkdir()
    (plan / "x").touch()
    with pytest.raises(UsageError, match="is there already"):
        fastdcm.plan(source, out=plan)
    with pytest.raises(UsageError, match="inside the store"):
        fastdcm.plan(source, out=plan.parent / "s.zarr" / "plan", dest=plan.parent / "s.zarr")
    (plan / "x").unlink()
    fastdcm.plan(source, out=plan)  # an empty folder will do


def test_a_plan_on_another_file_system_is_refused(source: Path, plan: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from fastdcm.run import array_plan

    dicomgen.make_series(source, n=2)
    monkeypatch.setattr(array_plan, "device_of", lambda path: path.name)
    with pytest.raises(UsageError, match="another file system"):
        fastdcm.plan(source, out=plan)


def test_a_plan_inside_its_own_export_is_no_input(source: Path) -> None:
    made = dicomgen.make_series(source)
    planned = fastdcm.plan(source, out=source / "plan")
    run_all(source / "plan", 1)
    assert planned.files == len(made.paths)
    assert fastdcm.finish(source / "plan").files == len(made.paths)


def test_run_is_a_function_whatever_was_imported_before() -> None:
    code = "import fastdcm.run.convert, fastdcm; assert callable(fastdcm.run); from fastdcm.run import survey"
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert callable(fastdcm.run)
    assert array_run.run is not fastdcm.run
    assert results.find_result(Path("nowhere"), "key") is None


def test_a_store_in_a_bucket_is_refused(tmp_path: Path) -> None:
    dicomgen.make_series(tmp_path / "in", n=2)
    with pytest.raises(UsageError, match="array jobs write to a folder"):
        fastdcm.plan(tmp_path / "in", out=tmp_path / "plan", dest="memory://bucket/out.zarr")
