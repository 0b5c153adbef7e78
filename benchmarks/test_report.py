"""The model of a run against arithmetic, and the documents against the figures that they are made from."""

from __future__ import annotations

import json

import pytest

from benchmarks.compare import ROOT
from benchmarks.render import fill
from benchmarks.report import RESULTS
from benchmarks.scaling_model import Cluster, Load, export_of, fit, simulate
from benchmarks.suites import read_tables

FREE = Cluster(nodes=4, cores=4, metadata_operations=1e12, latency_s=0.0, bandwidth_bytes=1e18)


def test_costs_are_found_again() -> None:
    rows = [[645.0, 5.0, 3.4e8], [2500.0, 2500.0, 1e8], [10000.0, 200.0, 2e7]]
    costs = [2e-5, 1e-3, 4e-9]
    seconds = [sum(a * b for a, b in zip(row, costs, strict=True)) for row in rows]
    assert fit(rows, seconds) == pytest.approx(costs)


def test_no_cost_is_negative() -> None:
    assert fit([[1.0, 1.0], [1.0, 2.0]], [2.0, 1.0])[1] == 0.0


@pytest.mark.parametrize(
    ("load", "cluster", "busiest", "seconds"),
    [
        (Load(0.001, 1.0, 0, 0), FREE, "workers", 4000 * 1.0 / 16),
        (Load(0.1, 1.0, 0, 0), FREE, "driver", 4000 * 0.1),
        (Load(0.1, 1.0, 0, 0), FREE._replace(drivers=8), "workers", 4000 * 1.0 / 16),
        (Load(0.001, 1.0, 500, 0), FREE._replace(metadata_operations=1000.0), "metadata", 4000 * 0.5),
        (Load(0.001, 1.0, 0, 1e9), FREE._replace(bandwidth_bytes=4e9), "bandwidth", 4000 * 0.25),
        (Load(0.001, 1.0, 100, 0), FREE._replace(latency_s=0.01), "workers", 4000 * 2.0 / 16),
    ],
)
def test_the_slowest_resource_decides(load: Load, cluster: Cluster, busiest: str, seconds: float) -> None:
    outcome = simulate(4000, load, cluster)
    assert max(outcome.busy, key=lambda name: outcome.busy[name]) == busiest
    assert outcome.seconds == pytest.approx(seconds, rel=0.02)


def test_long_stages_go_on_as_they_begin() -> None:
    load = Load(0.01, 1.0, 100, 1e8)
    few, many = (simulate(tasks, load, Cluster()).seconds for tasks in (20_000, 2_000_000))
    assert many == pytest.approx(100 * few)


def test_an_export_is_cut_as_a_store_is() -> None:
    assert export_of(2560)._asdict() == {"files": 2560, "volumes": 10, "tasks": 30, "array_bytes": 2560 * 524288}


def test_tables_are_read_back() -> None:
    text = "### one\n\n| a | b |\n|---|---|\n| 1 | x |\n\n### two\n\n| c |\n|---|\n| 2 |\n| 3 |\n"
    assert read_tables(text) == [
        {"title": "one", "columns": ["a", "b"], "rows": [["1", "x"]]},
        {"title": "two", "columns": ["c"], "rows": [["2"], ["3"]]},
    ]


@pytest.mark.parametrize("name", ["benchmarks.md", "scaling.md"])
def test_documents_say_what_was_measured(name: str) -> None:
    text = (ROOT / "docs" / name).read_text()
    assert fill(text, json.loads(RESULTS.read_text())) == text
