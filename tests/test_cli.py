"""The command line: exit codes, what goes to which stream, and that help is fast."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy as np
import pyarrow.parquet as pq
import pytest

import fastdcm
from fastdcm.cli import run
from fastdcm.cli.entry import commands
from fastdcm.cli.options import Bytes, Chunks
from fastdcm.errors import CheckError, FastdcmError, GeometryError, TargetError, UsageError
from fastdcm.load.volume import Store
from fastdcm.model import Tolerances
from tests import dicomgen
from tests.ministore import Small, write_store

AFFINE = np.diag([0.5, 0.75, 2.5, 1.0])
HEAVY = ("numpy", "pyarrow", "pydicom", "zarr", "dask", "duckdb", "imagecodecs", "numcodecs", "rich")


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a store ``s.zarr`` made of ``src``: two CT series and a 4-D MR."""
    folder = tmp_path_factory.mktemp("cli")
    dicomgen.make_series(folder / "src", n=5, series="thin", step=1.25, kernel="LUNG")
    dicomgen.make_series(folder / "src", n=3, series="thick", step=5.0)
    dicomgen.two_phases(folder / "src")
    assert run(["convert", str(folder / "src"), str(folder / "s.zarr"), "--workers", "1"]) == 0
    return folder


def last_json(text: str) -> dict[str, Any]:
    loaded = json.loads(text.splitlines()[-1])
    assert isinstance(loaded, dict)
    return loaded


# ---------------------------------------------------------------------------- convert


def test_convert_says_what_it_did(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dicomgen.make_series(tmp_path / "src", n=4)
    assert run(["convert", str(tmp_path / "src"), str(tmp_path / "s.zarr")]) == 0
    out, err = capsys.readouterr()
    assert "1 volume written" in out
    assert "files    4: 4 converted" in out
    assert err == ""


def test_failures_are_named_and_exit_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "400")  # the path and its reason on one line
    _, broken, _ = dicomgen.cut_short(tmp_path / "src")
    assert run(["convert", str(tmp_path / "src"), str(tmp_path / "s.zarr"), "--json"]) == 1
    out = capsys.readouterr().out
    assert f"{broken}: failed/truncated" in out
    document = last_json(out)
    assert document["exit_code"] == 1
    assert document["outcomes"]["failed"] == 5
    assert sum(document["outcomes"].values()) == document["files"]


def test_many_failures_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    broken = dicomgen.make_series(tmp_path / "src", n=25)
    broken.paths[0].write_bytes(broken.paths[0].read_bytes()[:-9])
    assert run(["convert", str(tmp_path / "src"), str(tmp_path / "s.zarr")]) == 1
    out = capsys.readouterr().out
    assert out.count("sibling-failed: ") <= 20
    assert "and 5 more; all are in" in out


def test_dry_run_prints_the_plan_and_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dicomgen.make_series(tmp_path / "src", n=4, bits_stored=16)
    assert run(["convert", str(tmp_path / "src"), str(tmp_path / "s.zarr"), "--dry-run", "--json"]) == 0
    out = capsys.readouterr().out
    assert "zyx 4x22x18" in out
    assert "int16 (int32 if needed)" in out
    plan = last_json(out)["plan"]
    assert plan["totals"]["volumes"] == 1
    assert [path.name for path in tmp_path.iterdir()] == ["src"]


def test_a_dry_run_with_refusals_exits_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dicomgen.cut_short(tmp_path / "src")
    assert run(["convert", str(tmp_path / "src"), str(tmp_path / "s.zarr"), "--dry-run"]) == 1
    assert "refused" in capsys.readouterr().out
    assert not (tmp_path / "s.zarr").exists()


def test_every_option_reaches_python_under_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Same names and defaults in the command line and in Python."""
    import inspect

    from fastdcm.run import convert as module

    seen: dict[str, Any] = {}

    def fake(sources: tuple[str, ...], dest: str, **options: Any) -> None:
        seen.update(options)
        raise UsageError("enough")

    signature = inspect.signature(module.convert)
    monkeypatch.setattr(fastdcm, "convert", fake)
    assert run(["convert", "a", "b", "c"]) == 2
    given = {name: value for name, value in seen.items() if name != "progress"}
    known = {name: p.default for name, p in signature.parameters.items() if p.kind is p.KEYWORD_ONLY}
    assert given == {name: known[name] for name in given}
    assert set(known) - set(given) == {"progress"}
    flags = ["--where", "slices > 3", "--image-type", "ORIGINAL/PRIMARY", "--no-localizers", "--no-derived"]
    flags += ["--values", "stored", "--codec", "lz4", "--chunks", "8,64,64", "--shard", "1MiB", "--workers", "3"]
    flags += ["--threads", "2", "--memory", "4GB", "--scheduler", "processes", "--on-gap", "fill", "--on-bad-frame"]
    flags += ["drop", "--on-conflict", "newest", "--metadata", "full", "--overwrite", "--no-resume", "--dry-run"]
    flags += ["--work", "w", "--invert-monochrome1", "--tolerance", "position_mm=0.05", "--tolerance", "gap_relative=0"]
    flags += ["--task-timeout", "7.5", "--single-writer", "--cluster", "slurm"]
    assert run(["convert", "a", "b", *flags]) == 2
    assert all(seen[name] != known[name] for name in given)
    assert (seen["chunks"], seen["shard"], seen["memory"]) == ((8, 64, 64), 2**20, 4 * 10**9)
    assert seen["tolerances"] == Tolerances(position_mm=0.05, gap_relative=0.0)


JOBS = ["--cluster", "slurm"]
TIMEOUT = ["--task-timeout", "3"]
RESOURCES = ["--workers", "3", "--threads", "2", "--memory", "4GB", "--scheduler", "processes"]
POLICIES = ["--on-gap", "fill", "--on-bad-frame", "drop"]
TOLERANCE = ["--tolerance", "jitter_mm=0"]
STORAGE = ["--values", "stored", "--codec", "lz4", "--chunks", "8,64,64", "--shard", "1MiB", "--metadata", "full"]
STORAGE += ["--invert-monochrome1", "--overwrite", "--no-resume", "--work", "w", "--on-conflict", "newest"]
SELECTION = ["--where", "1", "--image-type", "ORIGINAL", "--no-localizers", "--no-derived"]


@pytest.mark.parametrize(
    ("words", "own", "flags"),
    [
        (["scan", "a"], set(), [*SELECTION, *POLICIES, *RESOURCES, *JOBS, *TOLERANCE]),
        (
            ["plan", "a", "--out", "p"],
            {"out"},
            ["--dest", "d", *SELECTION, *POLICIES, *RESOURCES, *JOBS, *TIMEOUT, *TOLERANCE, *STORAGE],
        ),
        (["run", "a"], set(), ["--part", "2/3", *RESOURCES, *JOBS, *TIMEOUT]),
        (["finish", "a"], set(), [*RESOURCES, *TIMEOUT]),
        (["verify", "a"], set(), ["--sample", "3", "--work", "w", *RESOURCES]),
        (["header", "a"], set(), ["--private"]),
        (["tags", "a"], set(), ["--series", "1.2", "--private", "--workers", "3"]),
        (["diff", "a", "b"], set(), ["--private", "--workers", "3"]),
        (
            ["compare", "a", "b"],
            set(),
            ["--threshold", "0.5", "--ignore-geometry", "--workers", "3", "--memory", "4GB"],
        ),
        (["explain", "a"], set(), ["--series", "1.2", *POLICIES, "--workers", "3", *TOLERANCE]),
        (
            ["export", "s.zarr#index == 0", "b.nii"],
            set(),
            ["--t", "1", "--c", "2", "--bids", "--nominal", "--resample", "--overwrite"],
        ),
    ],
    ids=lambda value: value[0] if isinstance(value, list) and not value[0].startswith("-") else "",
)
def test_every_command_has_the_options_of_python(
    words: list[str], own: set[str], flags: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Same names and defaults in the command line and in Python, and each reaches Python as it was given."""
    import inspect

    from fastdcm.run import array_run, survey

    seen: dict[str, Any] = {}

    def fake(*_: Any, **options: Any) -> None:
        seen.update(options)
        raise UsageError("enough")

    monkeypatch.chdir(tmp_path)
    write_store(tmp_path / "s.zarr", Small(np.ones((2, 3, 4), np.int16), affine=AFFINE))
    behind: dict[str, Any] = {"scan": survey.scan, "run": array_run.run}
    function: Any = behind.get(words[0]) or getattr(fastdcm, words[0])
    monkeypatch.setattr("fastdcm.cli.array.read_target", lambda _: "d")
    known = {n: p.default for n, p in inspect.signature(function).parameters.items() if p.kind is p.KEYWORD_ONLY}
    monkeypatch.setattr(fastdcm, words[0], fake)
    assert run(words) == 2
    assert {name: value for name, value in seen.items() if name not in {"progress", *own}} == {
        name: value for name, value in known.items() if name not in {"progress", *own}
    }
    assert run([*words, *flags]) == 2
    assert all(seen[name] != known[name] for name in seen)


# ---------------------------------------------------------------------------- scan, ls, info, verify


def test_scan_prints_the_tree(converted: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["scan", str(converted / "src")]) == 0
    out = capsys.readouterr().out
    assert "patient P" in out
    assert "LUNG" in out
    assert "2x4" in out
    assert "16 files: 16 image" in out


def test_scan_keeps_the_map(converted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "map.parquet"
    arguments = ["scan", str(converted / "src"), "--out", str(out), "--json", "--where", "modality == 'CT'"]
    assert run(arguments) == 0
    table = pq.read_table(out)
    assert sorted(table["kernel"].to_pylist()) == ["LUNG", "STANDARD"]
    assert [row["slices"] for row in last_json(capsys.readouterr().out)["volumes"]] == table["slices"].to_pylist()
    assert run(["scan", str(converted / "src"), "--out", str(tmp_path / "no" / "map.parquet")]) == 3


def test_ls(converted: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["ls", str(converted / "s.zarr"), "--where", "spacing_z < 2", "--json"]) == 0
    (volume,) = last_json(capsys.readouterr().out)["volumes"]
    assert (volume["kernel"], volume["slices"]) == ("LUNG", 5)
    assert run(["ls", str(converted / "s.zarr"), "--sort", "slices"]) == 0
    assert "3 volumes" in capsys.readouterr().out


@pytest.mark.parametrize("command", [["scan", "src"], ["ls", "s.zarr"]])
def test_sorting_holds_for_json_and_parquet_too(
    command: list[str], converted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [command[0], str(converted / command[1]), "--json", "--sort"]
    for column, values in (("slices", [3, 4, 5]), ("kernel", ["LUNG", "STANDARD", None])):
        out = ["--out", str(tmp_path / "map.parquet")] if command[0] == "scan" else []
        assert run([*words, column, *out]) == 0
        assert [row[column] for row in last_json(capsys.readouterr().out)["volumes"]] == values
        assert not out or pq.read_table(tmp_path / "map.parquet")[column].to_pylist() == values
    assert run([*words, "nosuch"]) == 2
    assert "spacing_z" in capsys.readouterr().err


@pytest.mark.parametrize("width", [50, 80, 120])
def test_lines_fit_the_terminal(
    width: int, converted: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Only a UID or a path may be wider: it is never broken, to be copied."""
    monkeypatch.setenv("COLUMNS", str(width))
    source, store = str(converted / "src"), str(converted / "s.zarr")
    volume = next(iter(fastdcm.open(store)))  # type: ignore[arg-type]
    for words in (["scan", source], ["ls", store], ["info", store], ["info", str(volume.path)], ["explain", source]):
        assert run(words) == 0
        out = capsys.readouterr().out
        wide = [line for line in out.splitlines() if len(line) > width and max(map(len, line.split())) <= width - 14]
        assert wide == [], words


def test_info_of_store_and_volume(converted: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["info", str(converted / "s.zarr")]) == 0
    assert "volumes       3" in capsys.readouterr().out
    (volume,) = fastdcm.open(converted / "s.zarr").query("kernel == 'LUNG'")  # type: ignore[union-attr]
    assert run(["info", str(volume.path)]) == 0
    out = capsys.readouterr().out
    assert "spacing       0.5 x 0.75 mm (x, y; patient), 1.25 mm (z; positions)" in out
    assert "overlap 1.25 mm" in out
    assert "(stored x 1 - 1024)" in out
    assert run(["info", str(volume.path), "--json"]) == 0
    assert last_json(capsys.readouterr().out)["shape"] == [5, 22, 18]


def test_export_of_a_store_takes_its_one_volume_or_lists_them(
    converted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = write_store(tmp_path / "a #1.zarr", Small(np.ones((2, 3, 4), np.int16), affine=AFFINE))
    assert run(["export", str(root), str(tmp_path / "x#1.nrrd"), "--json"]) == 0
    assert last_json(capsys.readouterr().out) == {"written": [str(tmp_path / "x#1.nrrd")]}
    assert run(["export", str(converted / "s.zarr"), str(tmp_path / "y.nrrd")]) == 2
    err = capsys.readouterr().err
    assert "there are 3 volumes; choose one" in err
    assert "5 slices of 1.25 mm" in err
    assert not (tmp_path / "y.nrrd").exists()


def test_verify(converted: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["verify", str(converted / "s.zarr"), str(converted / "src"), "--json", "--workers", "1"]) == 0
    document = last_json(capsys.readouterr().out)
    assert (document["hashed"], document["decoded"], document["placed"], document["mismatches"]) == (16, 16, 16, [])


def test_verify_exits_4_on_a_difference(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = write_store(tmp_path / "s.zarr", Small(np.ones((2, 3, 4), np.int16), affine=AFFINE))
    next(path for path in root.glob("*/*/*/0/image/c/**/*") if path.is_file()).unlink()
    assert run(["verify", str(root), "--workers", "1"]) == 4
    assert "shard: 1.2/1.2.3/0.ome.zarr" in capsys.readouterr().out


# ---------------------------------------------------------------------------- exit codes and streams


@pytest.mark.parametrize(
    "arguments",
    [
        ["convert"],
        ["convert", "only-one"],
        ["nosuch"],
        ["convert", "a", "b", "--codec"],
        ["convert", "a", "b", "--on-gap", "guess"],
        ["convert", "a", "b", "--memory", "much"],
        ["convert", "a", "b", "--chunks", "8,8"],
        ["convert", "a", "b", "--workers", "0"],
        ["convert", "/no/such/folder", "b"],
        ["scan", "/no/such/folder"],
        ["ls", "/no/such/store"],
        ["info", "/no/such/store"],
        ["verify", "/no/such/store"],
    ],
)
def test_wrong_usage_exits_2(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(arguments) == 2
    out, err = capsys.readouterr()
    assert err
    assert "Traceback" not in out + err
    assert list(tmp_path.iterdir()) == []


def test_a_bad_filter_exits_2_with_the_columns(converted: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for command in (["scan", str(converted / "src")], ["ls", str(converted / "s.zarr")]):
        assert run([*command, "--where", "nosuch > 1"]) == 2
        assert "spacing_z" in capsys.readouterr().err


def test_an_empty_export_exits_2(tmp_path: Path) -> None:
    (tmp_path / "src").mkdir()
    assert run(["convert", str(tmp_path / "src"), str(tmp_path / "s.zarr")]) == 2


def test_a_foreign_target_exits_2(tmp_path: Path) -> None:
    dicomgen.make_series(tmp_path / "src", n=1)
    (tmp_path / "s.zarr").mkdir()
    (tmp_path / "s.zarr" / "thesis.txt").write_text("dear")
    assert run(["convert", str(tmp_path / "src"), str(tmp_path / "s.zarr")]) == 2
    assert (tmp_path / "s.zarr" / "thesis.txt").read_text() == "dear"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UsageError("x"), 2),
        (TargetError("disk full"), 3),
        (CheckError("x"), 4),
        (GeometryError("x"), 2),
        (KeyboardInterrupt(), 130),
        (click.Abort(), 130),
    ],
)
def test_errors_become_exit_codes(
    error: BaseException, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(fastdcm, "convert", fail)
    assert run(["convert", "a", "b"]) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert len(err.strip().splitlines()) == 1
    assert not isinstance(error, FastdcmError) or str(error) in err


def test_help_is_light() -> None:
    code = (
        "import sys; from fastdcm.cli import run; code = run(['--help']); "
        f"print([name for name in {HEAVY} if name in sys.modules], code)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.splitlines()[-1] == "[] 0"


def test_console_and_module_are_the_same(converted: Path) -> None:
    command = [sys.executable, "-m", "fastdcm", "ls", str(converted / "s.zarr")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "\x1b" not in done.stdout


def test_a_closed_pipe_is_no_error(converted: Path) -> None:
    command = f"{sys.executable} -m fastdcm ls {converted / 's.zarr'} --json | head -c 1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("command", list(commands.commands))
def test_every_command_has_an_example_that_runs(
    command: str,
    chest_export: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The example stands in one line, to be copied; its folder, store and UIDs are replaced by some that are there."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "60")
    assert run([command, "--help"]) == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "Example: " in line]
    (tmp_path / "export").symlink_to(chest_export)
    table = fastdcm.scan("export").table
    by_name = dict(zip(table["description"].to_pylist(), table["series"].to_pylist(), strict=True))
    if command in ("run", "finish"):
        assert fastdcm.plan("export", out="plan").volumes == 5
    if command == "finish":
        assert fastdcm.run("plan").volumes["written"] == 5
    if command in ("ls", "info", "export", "verify"):
        assert fastdcm.convert("export", "out.zarr", no_localizers=True).exit_code == 0
    for old, new in (
        ("IM0001.dcm", sorted(chest_export.iterdir())[0].name),
        ("240.4", by_name["5mm Stnd"]),
        ("240.5", by_name["5mm Lung"]),
        ("1.2.3/1.2.4/0.ome.zarr", next(path for path in table["volume"].to_pylist() if by_name["5mm Lung"] in path)),
        ("slices > 100", "slices > 20"),
        ("slices > 30", "slices > 20"),  # it is a tenth of a chest
    ):
        line = line.replace(old, new)
    words = shlex.split(line.split("Example: fastdcm ")[1])
    assert words[0] == command
    assert run(words) == (1 if command in ("compare", "diff") else 0), capsys.readouterr().err


# ---------------------------------------------------------------------------- tolerances


def test_help_lists_the_tolerances_with_their_defaults(capsys: pytest.CaptureFixture[str]) -> None:
    from dataclasses import asdict

    from fastdcm.cli.options import TOLERANCES

    assert asdict(Tolerances()) == TOLERANCES
    for command in ("convert", "scan", "explain"):
        assert run([command, "--help"]) == 0
        text = " ".join(capsys.readouterr().out.split())
        assert all(f"{name}={value:g}" in text for name, value in TOLERANCES.items())


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("nosuch=1", "there is no tolerance 'nosuch'; there are orientation, "),
        ("position_mm", "write for example position_mm=0.05"),
        ("position_mm=much", "write for example position_mm=0.05"),
        ("position_mm=-1", "the tolerance position_mm is -1.0, and must be a length in mm of 0 or more"),
        ("position_mm=nan", "the tolerance position_mm is nan"),
        ("uniform_mm=inf", "the tolerance uniform_mm is inf"),
        ("gap_relative=1", "the tolerance gap_relative is 1.0, and must be a number from 0 to below 1"),
    ],
)
def test_odd_tolerances_are_refused(given: str, said: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert run(["convert", str(tmp_path), str(tmp_path / "s.zarr"), "--tolerance", given]) == 2
    assert said in capsys.readouterr().err


def test_odd_tolerances_are_refused_in_python_too(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"orientation is 2\.0, and must be a number from 0 to below 1"):
        fastdcm.scan(tmp_path, tolerances=Tolerances(orientation=2.0))


def test_a_tolerance_decides_and_is_recorded(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Steps of 3.0 and 3.4 mm in turn: no slice is more than 0.2 mm off the even grid."""
    z = [0.0, 3.0, 6.4, 9.4, 12.8, 15.8, 19.2]
    dicomgen.make_series(tmp_path / "src", n=7, positions=[(1.0, 2.0, one) for one in z])
    source, loose = str(tmp_path / "src"), ["--tolerance", "jitter_mm=0.3", "--tolerance", "jitter_relative=0.1"]
    for extra, uniform in (([], False), (loose, True)):
        assert run(["scan", source, "--json", *extra]) == 0
        assert last_json(capsys.readouterr().out)["volumes"][0]["uniform"] is uniform
    assert run(["explain", source, *loose]) == 0
    assert run(["convert", source, str(tmp_path / "s.zarr"), *loose]) == 0
    report = json.loads((tmp_path / "s.zarr" / "report.json").read_text())
    assert (report["tolerances"]["jitter_mm"], report["tolerances"]["position_mm"]) == (0.3, 0.01)
    store = fastdcm.open(tmp_path / "s.zarr")
    assert isinstance(store, Store)
    assert store[0].affine()[2, 2] == pytest.approx(19.2 / 6)


@pytest.mark.parametrize("name", ["jitter_mm", "position_mm", "orientation", "spacing_relative", "table_jump_mm"])
def test_a_tolerance_of_nothing_holds_for_exact_numbers(name: str, tmp_path: Path) -> None:
    dicomgen.make_series(tmp_path / "src", n=4)
    found = fastdcm.scan(tmp_path / "src", tolerances=Tolerances(**{name: 0.0}), workers=1)
    assert found.table["slices"].to_pylist() == [4]


# ---------------------------------------------------------------------------- width


def test_summaries_fit_80_columns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.chdir(tmp_path)
    dicomgen.cut_short(Path("src"))
    dicomgen.make_series(Path("src/good"), n=3, series="good")
    for command in (["convert", "src", "s.zarr", "--dry-run"], ["convert", "src", "s.zarr"], ["verify", "s.zarr"]):
        run(command)
        lines = capsys.readouterr().out.splitlines()
        assert any(len(line) > 60 for line in lines)
        assert [line for line in lines if len(line) > 80 and " " in line.strip()] == []
    Path("s.zarr/frames.parquet").unlink()
    run(["verify", "s.zarr"])
    assert all(len(line) <= 80 for line in capsys.readouterr().out.splitlines())


# ---------------------------------------------------------------------------- amounts


@pytest.mark.parametrize(
    ("text", "n_bytes"),
    [("4GB", 4 * 10**9), ("512MiB", 2**29), ("1.5 kB", 1500), ("1000000", 10**6), ("2T", 2 * 10**12), ("7b", 7)],
)
def test_bytes(text: str, n_bytes: int) -> None:
    assert Bytes().convert(text, None, None) == n_bytes


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (Bytes, "0"),
        (Bytes, "4 XB"),
        (Bytes, "-1"),
        (Bytes, "ib"),
        (Chunks, "1,2"),
        (Chunks, "1,0,2"),
        (Chunks, "a,b,c"),
    ],
)
def test_bad_amounts(kind: Callable[[], Any], text: str) -> None:
    with pytest.raises(click.BadParameter):
        kind().convert(text, None, None)


def test_version_tells_which_walk_is_used(capsys: pytest.CaptureFixture[str], converted: Path) -> None:
    from fastdcm.scan.walk import COMPILED

    assert run(["--version"]) == 0
    walk = "compiled" if COMPILED else "plain Python"
    assert capsys.readouterr().out == f"fastdcm {fastdcm.__version__} ({walk} header walk)\n"
    assert json.loads((converted / "s.zarr" / "report.json").read_text())["compiled"] is COMPILED


def test_a_small_conversion_imports_only_what_it_needs(converted: Path, tmp_path: Path) -> None:
    words = ["convert", str(converted / "src"), str(tmp_path / "s.zarr"), "--workers", "1"]
    command = [sys.executable, "-X", "importtime", "-m", "fastdcm", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "pyarrow" in imported
    assert imported & {"pandas.core", "dask", "distributed", "duckdb", "zarr", "imagecodecs"} == set()


@pytest.mark.parametrize("flags", [[], ["--json"], ["--sort", "slices"]])
def test_scan_of_no_image(tmp_path: Path, flags: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "note.txt").write_text("no image")
    assert run(["scan", str(tmp_path), *flags]) == 0
    assert "not-dicom" in capsys.readouterr().out
