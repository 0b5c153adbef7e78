"""The published table of the thirteen hard cases: fastdcm's column is right, and is what the page says."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.hard_case_tools import TOOLS, Made, by_fastdcm
from scripts.hard_cases import CASES, PAGE, compare


def published() -> dict[str, list[str]]:
    """Return the verdicts of the page by case."""
    lines = [line for line in PAGE.read_text().splitlines() if line.startswith("| ")]
    head, _, *rows = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]
    assert [name.split()[0] for name in head[1:]] == list(TOOLS)
    return {name: verdicts for name, *verdicts in rows}


def test_the_page_has_the_thirteen_cases_and_fastdcm_is_right_in_each() -> None:
    rows = published()
    assert list(rows) == list(CASES)
    assert len(rows) == 13
    assert {verdicts[-1] for verdicts in rows.values()} == {"right"}
    assert sum(verdicts[0] == "right" for verdicts in rows.values()) < 13


@pytest.mark.parametrize("name", CASES)
def test_fastdcm_gives_the_expected_planes(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wanted = CASES[name].make(tmp_path / "in")
    assert compare(by_fastdcm(tmp_path / "in"), wanted) is None
    assert CASES[name].refused in capsys.readouterr().out


@pytest.mark.parametrize("name", CASES)
def test_what_is_wrong_is_found(name: str, tmp_path: Path) -> None:
    """Values, places, steps and numbers of images: a change of any of them is seen."""
    wanted = CASES[name].make(tmp_path / "in")
    first, *others = wanted
    changed = first.values.copy()
    changed[-1, 0, 0] += 1
    assert compare([first._replace(values=changed), *others], wanted)
    assert compare([first._replace(values=first.values[:, :, :-1]), *others], wanted)
    assert compare([*wanted, first], wanted)
    assert compare(others, wanted)
    if first.positions is None:
        assert compare([first._replace(positions=first.values[:, 0, :3].astype(float)), *others], wanted)
        return
    moved = first.positions.copy()
    moved[-1] += (0, 0, 0.5)
    assert compare([first._replace(positions=moved), *others], wanted)
    assert compare([Made(first.values, first.positions, first.across[:, ::-1]), *others], wanted)
