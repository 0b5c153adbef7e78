"""The catalogue's rows, patients and studies."""

from __future__ import annotations

import hashlib
import re

import numpy as np
import pytest

from fastdcm.model import CATALOG_COLUMNS, Axis
from fastdcm.series.catalog import (
    catalog_row,
    catalog_table,
    earliest_time,
    image_role,
    patient_keys,
    redact,
    study_names,
)
from tests.series.made import SERIES, STUDY, make_index, make_plan, make_volume, row


def test_row_of_a_ct() -> None:
    plan, _ = make_plan(5)
    found = catalog_row(plan)
    assert list(found) != []
    assert set(found) == {name for name, _ in CATALOG_COLUMNS}
    expected = {
        "index": 0, "patient": "PABCDEFGHIJ", "study": STUDY, "series": SERIES,
        "volume": f"{STUDY}/{SERIES}/0.ome.zarr", "modality": "CT", "kind": "volume", "description": "chest of someone",
        "kernel": "LUNG", "image_type": "ORIGINAL\\PRIMARY\\AXIAL", "pixel_origin": "ORIGINAL", "exam_role": "PRIMARY",
        "photometric": "MONOCHROME2", "slices": 5, "rows": 20, "columns": 24, "channels": 1, "timepoints": 1,
        "spacing_x": 0.5, "spacing_y": 0.75, "spacing_z": 2.0, "thickness": 1.5, "gap": 0.5, "uniform": True,
        "sheared": False, "missing_slices": 0, "bits_stored": 12, "dtype": "int16", "shape": "5x20x24",
        "transfer_syntax": "1.2.840.10008.1.2.1", "study_date": "20200131", "content_time": "134501.250000",
        "burned_in_risk": False, "reasons": "", "files": 5, "frames": 5, "bytes": 5 * 70_000 + 10, "protocol": None,
    }  # fmt: skip
    assert {name: found[name] for name in expected} == expected


def test_unknown_spacing_is_null() -> None:
    plan, _ = make_plan(2, volume=make_volume([0, 1], spacing_kind="none", spacing_z_source="none"))
    found = catalog_row(plan)
    assert [found[name] for name in ("spacing_x", "spacing_y", "spacing_z", "gap")] == [None] * 4
    plan, _ = make_plan(2, volume=make_volume([0, 1], spacing_z_source="thickness"))
    assert catalog_row(plan)["gap"] is None


def test_row_of_a_colour_cine() -> None:
    volume = make_volume(np.arange(4).reshape(4, 1, 1), (Axis("t", "frame", None, (0, 1, 2, 3)),), "cine")
    plan, _ = make_plan(
        4, volume=volume, samples=3, photometric="YBR_FULL", bits_allocated=8, bits_stored=8, modality="US"
    )
    found = catalog_row(plan)
    assert (found["shape"], found["channels"], found["timepoints"], found["slices"]) == ("4x3x1x20x24", 3, 4, 1)
    assert (found["photometric"], found["burned_in_risk"]) == ("RGB", True)


def test_table_has_the_schema_whatever_the_rows_hold() -> None:
    plan, _ = make_plan(2)
    table = catalog_table([catalog_row(plan), dict.fromkeys(name for name, _ in CATALOG_COLUMNS)])
    assert table.column_names == [name for name, _ in CATALOG_COLUMNS]
    assert catalog_table([]).schema == table.schema
    assert table.column("spacing_z").to_pylist() == [2.0, None]


def test_store_holds_no_free_text_nor_dates() -> None:
    plan, _ = make_plan(2)
    full = catalog_row(plan)
    for policy in ("technical", "none"):
        assert "someone" not in str(redact(full, policy))
        assert redact(full, policy)["study_date"] is None
        assert (redact(full, policy)["content_time"] is None) == (policy == "none")
    assert redact(full, "full") == full


@pytest.mark.parametrize(
    ("text", "role"),
    [
        ("ORIGINAL\\PRIMARY\\AXIAL", ("ORIGINAL", "PRIMARY")),
        (" derived\\Secondary ", ("DERIVED", "SECONDARY")),
        ("SECONDARY CAPTURE", (None, None)),
        ("ORIGINAL", ("ORIGINAL", None)),
        ("", (None, None)),
        (None, (None, None)),
        ("\\PRIMARY", (None, "PRIMARY")),
        ("AXIAL\\ORIGINAL", (None, None)),
    ],
)
def test_image_role(text: str | None, role: tuple[str | None, str | None]) -> None:
    assert image_role(text) == role


def test_the_earliest_time_is_as_its_file_has_it() -> None:
    assert earliest_time(np.array(["134501.250000", None, "noon", "1346"], object)) == "134501.250000"
    assert earliest_time(np.array(["", None, "Jane Doe"], object)) is None


def test_patients_and_studies() -> None:
    index = make_index(
        [
            row(0, patient_id="b", study_uid="1.5"),
            row(1, patient_id="a", study_uid="1.5"),
            row(2, patient_id="a", study_uid="1.4"),
            row(3, patient_id="c", study_uid="../.."),
            row(4, patient_id=None, study_uid="1.6"),
            row(5, patient_id="a", study_uid="1.4"),
            {"source": 0, "path": "readme.txt", "outcome": "not-dicom"},
        ]
    )
    names = study_names(index)
    assert names["a", "1.5"] == "1.5"
    assert names["b", "1.5"] == "1.5-2"
    assert names["a", "1.4"] == "1.4"
    assert re.fullmatch("x-[0-9a-f]{16}", names["c", "../.."])
    assert len(names) == 5
    keys = patient_keys(names)
    assert set(keys) == {"a", "b", "c", None}
    assert len(set(keys.values())) == 4
    assert all(re.fullmatch("P[A-Z2-7]{10}", key) for key in keys.values())
    import base64

    assert keys["a"] == "P" + base64.b32encode(hashlib.sha256(b"1.4").digest()).decode()[:10]
    assert patient_keys(names, {"1.5": "PGIVENBEFORE"})["a"] == "PGIVENBEFORE"
