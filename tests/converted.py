"""Convert a folder and look at what came out: the part that the end-to-end tests share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

import fastdcm
from fastdcm.errors import Outcome
from fastdcm.load.volume import Store, Volume
from fastdcm.run.report import Report
from tests.dicomgen import Series


@dataclass(frozen=True, slots=True, eq=False)
class Converted:
    """A finished conversion."""

    report: Report
    store: Store
    source: Path
    path: Path

    def of_series(self, series_uid: str) -> list[Volume]:
        """Return the volumes of one series, by number."""
        found = [volume for volume in self.store.volumes if part(volume, "identity")["series_uid"] == series_uid]
        return sorted(found, key=lambda volume: volume.path.name)

    def files(self) -> dict[Path, tuple[str, str | None]]:
        """Return outcome and code of every input file."""
        rows = pq.read_table(self.path / "files.parquet").to_pylist()
        return {self.source / row["path"]: (row["outcome"], row["code"]) for row in rows}


def convert(source: Path, *, name: str = "out.zarr", **options: Any) -> Converted:
    """Convert ``source`` into a store beside it, check that the totals balance, and open it."""
    path = source.parent / name
    report = fastdcm.convert(str(source), str(path), **options)
    store = fastdcm.open(path)
    assert isinstance(store, Store)
    converted = Converted(report, store, source, path)
    check_balance(converted)
    return converted


def check_balance(converted: Converted) -> None:
    """Law 1: every input file has one row with one outcome, and the totals equal the files that are there."""
    files = converted.files()
    there = {path for path in converted.source.rglob("*") if path.is_file()}
    assert set(files) == there
    assert {outcome for outcome, _ in files.values()} <= {str(outcome) for outcome in Outcome}
    counted = {str(outcome): 0 for outcome in Outcome}
    for outcome, _ in files.values():
        counted[outcome] += 1
    assert {str(outcome): n for outcome, n in converted.report.outcomes.items()} == counted
    assert converted.report.files == len(there)


def part(volume: Volume, name: str) -> dict[str, Any]:
    """Return one part of the ``fastdcm`` attributes."""
    found: dict[str, Any] = volume.attributes["fastdcm"][name]
    return found


def check_series(volume: Volume, expected: Series, *, uniform: bool = True) -> None:
    """Assert that a volume holds exactly the expected values at the expected places (law 2)."""
    np.testing.assert_array_equal(volume.numpy(), expected.values)
    geometry = part(volume, "geometry")
    assert geometry["uniform"] is uniform
    if expected.affine is None or not uniform:
        assert geometry.get("affine") is None
        return
    affine = volume.affine("LPS")
    np.testing.assert_allclose(affine, expected.affine, atol=1e-6)
    indices = np.arange(len(expected.positions))[:, None] * [0, 0, 1]
    np.testing.assert_allclose(indices @ affine[:3, :3].T + affine[:3, 3], expected.positions, atol=0.02)
    assert geometry["max_residual_mm"] <= 0.02
    np.testing.assert_allclose(volume.origin, expected.positions[0], atol=1e-6)
    np.testing.assert_allclose(volume.spacing, np.linalg.norm(expected.affine[:3, :3], axis=0), atol=1e-6)
