"""Index rows to frames: series, order, multi-frame instances, mosaics, and what a hostile header may ask for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastdcm.model import COLUMN, COLUMNS, Frames, Index, Options
from fastdcm.scan.index import frames_schema, index_schema
from fastdcm.series import frames as module
from fastdcm.series.frames import iter_series
from fastdcm.series.group import group
from tests.series.build import image, vector

Rows = Sequence[Mapping[str, Any]]


def index_of(rows: Rows, frames: Rows = ()) -> Index:
    """Return an index of instance rows and frames rows."""
    made = []
    for i, row in enumerate(rows):
        made.append({"source": 0, "path": f"f{i}", "sop_instance_uid": f"1.2.{i:06d}", "instance_number": i + 1, **row})
    return Index(("x",), _table(made, index_schema()), _table(frames, frames_schema()))


def _table(rows: Rows, schema: pa.Schema) -> pa.Table:
    columns = []
    for field in schema:
        values = [_exact(row.get(field.name), field.name) for row in rows]
        plain = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
        columns.append(pa.array(values, plain, from_pandas=False).cast(field.type))
    return pa.Table.from_arrays(columns, schema=schema)


def _exact(value: Any, name: str) -> Any:
    whole = name in ("instance", "frame") or COLUMN[name].kind in ("int", "long")
    return int(value) if whole and value is not None else value


def one(rows: Rows, frames: Rows = ()) -> Frames:
    (found,) = iter_series(index_of(rows, frames))
    return found


def test_series_are_patient_study_and_series_in_order_and_absent_ones_are_empty() -> None:
    keys = [
        ("b", "1", "1"),
        ("a", "2", "1"),
        ("a", "1", "2"),
        ("a", "1", "1"),
        ("a", "1", None),
        (None, "1", "1"),
        ("", "1", "1"),
    ]
    rows = [image(patient_id=p, study_uid=s, series_uid=u) for p, s, u in keys]
    found = [f.instance.tolist() for f in iter_series(index_of(rows))]
    assert found == [[5, 6], [4], [3], [2], [1], [0]]


def test_rows_with_an_outcome_are_left_out_and_an_empty_index_has_no_series() -> None:
    rows = [image(outcome="failed"), image(), image(outcome="not-image")]
    assert one(rows).instance.tolist() == [1]
    assert list(iter_series(index_of(rows[:1]))) == []
    assert list(iter_series(index_of([]))) == []


def test_rows_are_in_the_order_of_their_uids_not_of_their_names() -> None:
    uids = ["1.2.9", "1.2.10", "1.2.3", None, "1.2.3"]
    assert one([image(sop_instance_uid=uid) for uid in uids]).instance.tolist() == [3, 1, 2, 4, 0]


def test_columns_are_there_with_nan_and_none_for_null() -> None:
    found = one([image(slope=2.0, kernel=None), image(slope=None, kernel="B30f", modality_lut=b"\0\1")])
    assert set(found.numbers) == {c.name for c in COLUMNS if c.kind in ("int", "long", "float")}
    assert set(found.texts) == {c.name for c in COLUMNS if c.kind in ("text", "string", "bytes")} - {"path", "message"}
    assert found.numbers["slope"].dtype == np.float64
    np.testing.assert_array_equal(found.numbers["slope"], [2.0, np.nan])
    assert found.texts["kernel"].tolist() == [None, "B30f"]
    assert found.texts["modality_lut"].tolist() == [None, b"\0\1"]
    assert np.isnan(found.numbers["echo_time"]).all()
    assert found.texts["rescale_type"].tolist() == [None, None]
    assert found.numbers["rows"].tolist() == [7.0, 7.0]


def test_unreadable_rescale_is_told_from_an_absent_one() -> None:
    slopes = [1.5, None, 0.0, float("nan"), 1.0]
    intercepts = [0.0, None, 0.0, 0.0, float("nan")]
    rows = [image(slope=s, intercept=i) for s, i in zip(slopes, intercepts, strict=True)]
    assert one(rows).rescaled.tolist() == [True, True, False, False, False]


def test_frames_take_their_own_columns_and_inherit_the_rest() -> None:
    rows = [image(n_frames=3, kernel="K", thickness=4.0, slope=1.0), image()]
    frames = [
        {"instance": 0, "frame": f, **vector("position", (0, 0, -f)), "thickness": t, "slope": s, "image_type": "A\\B"}
        for f, (t, s) in enumerate([(5.0, 2.0), (None, float("nan")), (7.0, None)])
    ]
    found = one(rows, frames)
    assert found.instance.tolist() == [0, 0, 0, 1]
    assert found.frame.tolist() == [0, 1, 2, 0]
    assert found.tile.tolist() == [-1] * 4
    assert found.numbers["position_z"].tolist() == [0, -1, -2, 0]
    assert found.numbers["thickness"][:3].tolist() == [5, 4, 7]
    assert found.texts["kernel"].tolist() == ["K", "K", "K", None]
    assert found.texts["image_type"].tolist() == ["A\\B"] * 3 + ["ORIGINAL\\PRIMARY\\AXIAL"]
    assert found.rescaled.tolist() == [True, False, True, True]


def test_one_frame_of_a_functional_group_counts_too() -> None:
    found = one([image(None)], [{"instance": 0, "frame": 0, **vector("position", (1, 2, 3))}])
    assert found.vectors("position_x", "position_y", "position_z").tolist() == [[1, 2, 3]]


@pytest.mark.parametrize(
    ("length", "offset", "most"),
    [(-1, 100, 1000 // 8), (4000, 100, 1000 * 8 // (7 * 5 * 16)), (-1, -1, 1032 * 1000 // 8)],
)
def test_a_file_cannot_hold_more_frames_than_its_bytes_allow(length: int, offset: int, most: int) -> None:
    found = one([image(n_frames=2**31 - 1, pixel_length=length, pixel_offset=offset, size=1000)])
    assert len(found) == most


def mosaic(**columns: Any) -> dict[str, Any]:
    """Return a 3 x 3 mosaic of seven tiles of 6 rows and 4 columns."""
    grid = {"rows": 18.0, "columns": 12.0, "mosaic_tiles": 7, "spacing_between": 3.3, **vector("normal", (0, 0, 1))}
    return image((-10.0, -20.0, 30.0), modality="MR", **{**grid, **columns})


def test_tiles_of_a_mosaic_become_slices_at_the_corrected_position() -> None:
    found = one([mosaic()])
    assert found.tile.tolist() == list(range(7))
    assert found.numbers["rows"].tolist() == [6.0] * 7
    assert found.numbers["columns"].tolist() == [4.0] * 7
    positions = found.vectors("position_x", "position_y", "position_z")
    # the centre of the whole mosaic is the centre of each tile
    first = np.array([-10 + 0.4 * (12 - 4) / 2, -20 + 0.7 * (18 - 6) / 2, 30])
    np.testing.assert_allclose(positions, first + np.arange(7)[:, None] * [0, 0, 3.3])
    (volume,) = group(found, Options()).volumes
    assert volume.cells.tolist() == [[list(range(7))]]
    assert volume.geometry.spacing == pytest.approx((0.4, 0.7, 3.3))


def test_a_normal_against_row_x_column_turns_the_slices_round() -> None:
    found = one([mosaic(**vector("normal", (0, 0, -1)))])
    (volume,) = group(found, Options()).volumes
    assert volume.cells.tolist() == [[list(range(6, -1, -1))]]
    assert volume.geometry.origin == pytest.approx((-8.4, -15.8, 30 - 6 * 3.3))


@pytest.mark.parametrize(
    "columns", [{"mosaic_tiles": 0}, {"rows": 19.0}, {"mosaic_tiles": 2**31 - 1}, {"mosaic_tiles": 5000}]
)
def test_a_mosaic_of_unknown_tiles_stays_2d(columns: dict[str, Any]) -> None:
    found = one([mosaic(**columns)])
    assert found.tile.tolist() == [-1]
    assert found.numbers["mosaic_tiles"].tolist() == [0]
    assert found.numbers["columns"].tolist() == [12]


def test_mosaics_and_other_images_in_one_series() -> None:
    found = one([image(modality="MR"), mosaic(), image(modality="MR")])
    assert found.instance.tolist() == [0] + [1] * 7 + [2]
    assert found.tile.tolist() == [-1, *range(7), -1]
    assert found.numbers["rows"].tolist() == [7] + [6] * 7 + [7]


@settings(deadline=None, max_examples=30)
@given(st.permutations(range(9)), st.sampled_from([1, 2, 5, 1 << 16]), st.integers(1, 4))
def test_neither_the_order_of_files_nor_batches_nor_chunks_matter(order: list[int], batch: int, chunk: int) -> None:
    rows = [
        image(
            (0, 0, float(i)),
            series_uid=f"1.{i % 3}",
            sop_instance_uid=f"1.2.{i}",
            kernel=f"K{i % 2}",
            n_frames=1 + i % 2,
            size=10**6,
        )
        for i in range(9)
    ]

    def seen(index: Index) -> list[Any]:
        return [
            (
                f.texts["series_uid"].tolist(),
                f.texts["sop_instance_uid"].tolist(),
                f.frame.tolist(),
                f.texts["kernel"].tolist(),
            )
            for f in iter_series(index)
        ]

    straight = index_of(rows)
    shuffled = index_of([rows[i] for i in order])
    pieces = [index_of([rows[i] for i in order[at : at + chunk]]).instances for at in range(0, 9, chunk)]
    chunked = Index(("x",), pa.concat_tables(pieces), straight.frames)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "BATCH_FRAMES", batch)
        assert seen(shuffled) == seen(straight) == seen(chunked)
    assert len(seen(straight)) == 3
