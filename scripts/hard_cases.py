"""Run the thirteen hard cases through five tools and write docs/hard-cases.md.

    python -m scripts.hard_cases

Each case is made by tests/dicomgen.py, which computes the right answer from the formulas of the standard. Each
tool runs in a
process of its own with a time limit. What it makes is compared plane by plane: values, place of the first voxel,
steps along rows
and columns (whatever its flips), and which planes stand together in one image.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from benchmarks.hard_case_tools import TOOLS, Made, load
from tests import dicomgen
from tests.dicomgen import Series

PAGE = Path(__file__).parent.parent / "docs" / "hard-cases.md"
LIMIT_SECONDS = 60
Array = npt.NDArray[Any]


class Case(NamedTuple):
    """A hard case."""

    make: Callable[[Path], list[Made]]
    """Writes the files, returns the volumes that they must become."""
    refused: str = ""
    """What a tool must say, besides, to be right."""


def expected(
    series: Series, orientation: tuple[float, ...] = dicomgen.AXIAL, spacing: tuple[float, float] = (0.75, 0.5)
) -> Made:
    """Return the planes that a series must become."""
    planes = series.values.reshape(-1, *series.values.shape[-2:])
    repeats = len(planes) // len(series.positions)
    across = dicomgen.affine_of((0, 0, 0), orientation, spacing, (0, 0, 0))[:3, :2]
    if series.affine is not None:
        across = series.affine[:3, :2]
    return Made(planes, np.tile(series.positions, (repeats, 1)), across)


def _two_at_one_position(folder: Path) -> list[Made]:
    series, _, _ = dicomgen.two_at_one_position(folder)
    whole = expected(series)
    other = dicomgen.make_pixels(5, 22, 18, seed=9)[3:4].astype(np.int64) - 1024
    assert whole.positions is not None
    return [whole, Made(other, whole.positions[3:4], whole.across)]


def _cut_short(folder: Path) -> list[Made]:
    _, _, whole = dicomgen.cut_short(folder)
    return [expected(whole)]


def _no_position(folder: Path) -> list[Made]:
    return [expected(dicomgen.no_position(folder))._replace(positions=None)]


def _film(folder: Path) -> list[Made]:
    return [expected(dicomgen.monochrome1(folder))._replace(positions=None)]


CASES: Mapping[str, Case] = {
    "gantry tilt": Case(lambda folder: [expected(dicomgen.gantry_tilt(folder))]),
    "one slice missing": Case(lambda folder: [expected(dicomgen.missing_slice(folder))]),
    "two slices at one position": Case(_two_at_one_position),
    "slope differs per slice (PET)": Case(lambda folder: [expected(dicomgen.pet_slopes(folder, slope=1.0))]),
    "axial and sagittal under one series UID": Case(lambda folder: [*map(expected, dicomgen.two_orientations(folder))]),
    "two phases at the same positions": Case(lambda folder: [expected(dicomgen.two_phases(folder))]),
    "MONOCHROME1": Case(_film),
    "Rows differ in one slice": Case(lambda folder: [*map(expected, dicomgen.rows_differ(folder))]),
    "PixelSpacing differs in one slice": Case(lambda folder: [*map(expected, dicomgen.spacing_differs(folder))]),
    "PixelRepresentation differs": Case(lambda folder: [expected(dicomgen.signedness_differs(folder))]),
    "a file cut short": Case(_cut_short, refused="cut short"),
    "no ImagePositionPatient": Case(_no_position),
    "table jumps 12 mm half way": Case(lambda folder: [*map(expected, dicomgen.table_jump(folder))]),
}
"""The thirteen, in the order of the documents."""


# ------------------------------------------------------------------------------------ comparing


def upright(made: Made, like: Made) -> Made | None:
    """Return an image with its rows and columns running as those of another one, or None where flips cannot do it."""
    values, positions, across = made.values, made.positions, made.across.copy()
    for column, axis in ((0, 2), (1, 1)):
        if np.allclose(across[:, column], -like.across[:, column], atol=1e-3):
            far = across[:, column] * (values.shape[axis] - 1)
            positions = None if positions is None else positions + far
            values = np.flip(values, axis)
            across[:, column] *= -1
    return Made(values, positions, across) if np.allclose(across, like.across, atol=1e-3) else None


def planes_wrong(made: Made, right: Made) -> str | None:
    """Return in words how an image differs from the planes that it should hold, None where it does not."""
    if made.values.shape != right.values.shape:
        if made.values.shape[1:] != right.values.shape[1:]:
            return f"{made.values.shape[2]} x {made.values.shape[1]} voxels a slice, not those of the file"
        return f"{len(made.values)} slices in place of {len(right.values)}"
    turned = upright(made, right)
    if turned is None:
        if right.positions is None:  # no place to compare: the steps' lengths count
            turned = made._replace(positions=made.positions)
            steps = np.linalg.norm(made.across, axis=0)
            if not np.allclose(steps, np.linalg.norm(right.across, axis=0), atol=1e-3):
                return f"spacing {steps[0]:.3g} x {steps[1]:.3g} mm"
        else:
            return "other in-plane steps"
    if right.positions is None:
        return _values_wrong(turned.values, right.values) or (
            "a place is made up" if turned.positions is not None else None
        )
    if turned.positions is None:
        return "no place"
    order = _paired(turned.positions, right.positions)
    off = float(np.linalg.norm(turned.positions[order] - right.positions, axis=1).max())
    if off > 0.02:
        return f"slices up to {off:.3g} mm off"
    return _values_wrong(turned.values[order], right.values)


def _paired(found: Array, wanted: Array) -> Array:
    """Return the order of planes along the stack that is nearest to the wanted one; repeats keep theirs."""
    n = len(np.unique(np.round(wanted, 6), axis=0))
    blocks = found.reshape(-1, n, 3) if len(found) % n == 0 else found[None]
    reverse = np.linalg.norm(blocks[0][0] - wanted[0]) > np.linalg.norm(blocks[0][-1] - wanted[0])
    one = np.arange(n)[::-1] if reverse else np.arange(n)
    return np.concatenate([one + n * k for k in range(len(blocks))])


def _values_wrong(found: Array, right: Array) -> str | None:
    if np.allclose(found, right, rtol=1e-6, atol=1e-4):
        return None
    for other, name in ((found[::-1], "in reversed order"),):
        if np.allclose(other, right, rtol=1e-6, atol=1e-4):
            return f"slices {name}"
    k, y, x = np.unravel_index(np.argmax(np.abs(found.astype(np.float64) - right)), right.shape)
    return f"values wrong: {found[k, y, x]:g} for {right[k, y, x]:g}"


def compare(found: list[Made], wanted: list[Made]) -> str | None:
    """Return None where the images are, in any order, the volumes that they must be, else the first difference."""
    left = list(found)
    first = None
    for right in wanted:
        said = [planes_wrong(made, right) for made in left]
        if None in said:
            left.pop(said.index(None))
        elif first is None:
            first = min((text for text in said if text), key=len, default=None) if said else None
            first = first or "a volume is missing"
    if len(found) != len(wanted):
        volumes = "1 volume" if len(wanted) == 1 else f"{len(wanted)} volumes"
        shapes = " + ".join(str(len(made.values)) for made in found)
        return f"{len(found)} image{'s' * (len(found) != 1)} ({shapes or 'no'} slices) for {volumes}"
    return first


# ------------------------------------------------------------------------------------ running


def run(tool: str, case: Case) -> str:
    """Return the verdict on one tool and one case, in a few words."""
    with tempfile.TemporaryDirectory() as folder:
        source, out = Path(folder, "in"), Path(folder, "out.npz")
        wanted = case.make(source)
        command = [sys.executable, "-m", "benchmarks.hard_case_tools", tool, str(source), str(out)]
        try:
            done = subprocess.run(
                command, cwd=PAGE.parent.parent, capture_output=True, text=True, timeout=LIMIT_SECONDS, check=False
            )
        except subprocess.TimeoutExpired:
            return f"no end within {LIMIT_SECONDS} s"
        said = f"{done.stdout}\n{done.stderr}"
        if done.returncode:
            return f"refuses: {reason(said, folder)}"
        found = load(out)
        wrong = compare(found, wanted)
        if not found:
            return f"no image{': ' if said.strip() else ', silently'}{reason(said, folder)}"
        if case.refused and not wrong and case.refused not in said:
            wrong = "the damaged series is left out"
        if wrong is None:
            return "right"
        warned = re.search(r"warning|error", said, re.IGNORECASE)
        return f"**wrong**, {'warns' if warned else 'silently'}: {wrong}"


def reason(said: str, folder: str) -> str:
    """Return the line with the error of a tool, without paths."""
    lines = [line.strip() for line in said.replace(folder, "").splitlines() if line.strip()]
    errors = [line for line in lines if re.search(r"error|unable|not |exception", line, re.IGNORECASE)] or lines or [""]
    text = re.sub(r"(?<!\w)/\S+", "...", re.sub(r"0x[0-9a-f]+", "...", errors[-1]))
    return text if len(text) <= 90 else f"{text[:87]}..."


def rows(tools: tuple[str, ...] = tuple(TOOLS)) -> Iterator[tuple[str, ...]]:
    """Yield the name of each case and the verdict on each tool."""
    for name, case in CASES.items():
        yield (name, *(run(tool, case) for tool in tools))


def main() -> int:
    """Run all and write the page; 1 where fastdcm is wrong."""
    packages = {"fastdcm": None}
    heads = [tool if tool in packages else f"{tool} {version(tool)}" for tool in TOOLS]
    table = [("case", *heads), ("---",) * (len(heads) + 1), *rows()]
    lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in table]
    PAGE.write_text(INTRODUCTION + "\n".join(lines) + "\n")
    return int(any(row[-1] != "right" for row in table[2:]))


INTRODUCTION = """# Thirteen hard cases

What five tools make of thirteen exports that real hospitals produce. Made by `python -m scripts.hard_cases`; no line
is written by hand. The files are tiny, made by `tests/dicomgen.py`, with the right answer from PS3.3 C.7.6.2.1.1 (place
of a voxel) and C.11.1 (modality values). Each tool is used as its documentation says, with its defaults; images that
dcm2niix resamples in addition are left aside.

**Right** means that the images hold exactly the expected slices, each at its place and with its values, and that
slices which are no volume do not stand in one. Of a file that is cut short, right is: its series is refused with a
message, and the other series is there. Why each answer is the right one: [geometry.md](geometry.md).

"""


if __name__ == "__main__":
    sys.exit(main())
