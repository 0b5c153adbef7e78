"""Hand-made index rows, frames, volumes and plans: CT slices with unequal in-plane spacings unless told otherwise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fastdcm.model import Axis, Frames, Geometry, Index, Options, Volume, VolumePlan
from fastdcm.scan.index import frames_schema, index_schema
from fastdcm.series.frames import iter_series
from fastdcm.series.plan import plan_volume

STUDY, SERIES = "1.2.840.1", "1.2.840.1.7"
SPACING = (0.5, 0.75, 2.0)
"""(dx, dy, dz) mm."""
ORIGIN = (-120.0, -80.5, 31.25)


def row(k: int, **columns: Any) -> dict[str, Any]:
    """Return the index row of CT slice ``k``."""
    return {
        "source": 0,
        "path": f"export/name of someone {k}",
        "size": 70_000 + k,
        "mtime_ns": 1_700_000_000_123_456_789 + k,
        "transfer_syntax": "1.2.840.10008.1.2.1",
        "sop_class_uid": "1.2.840.10008.5.1.4.1.1.2",
        "sop_instance_uid": f"{SERIES}.{k:04d}",
        "patient_id": "someone",
        "study_uid": STUDY,
        "series_uid": SERIES,
        "modality": "CT",
        "manufacturer": "ACME",
        "description": "chest of someone",
        "study_date": "20200131",
        "kernel": "LUNG",
        "image_type": "ORIGINAL\\PRIMARY\\AXIAL",
        "rows": 20,
        "columns": 24,
        "samples": 1,
        "photometric": "MONOCHROME2",
        "bits_allocated": 16,
        "bits_stored": 12,
        "high_bit": 11,
        "pixel_representation": 0,
        "n_frames": 1,
        "pixel_keyword": "PixelData",
        "pixel_offset": 2000 + k,
        "pixel_length": 960,
        "window_center": "40",
        "window_width": "400",
        "position_x": ORIGIN[0],
        "position_y": ORIGIN[1],
        "position_z": ORIGIN[2] + SPACING[2] * k,
        **dict(zip(("row_x", "row_y", "row_z", "column_x", "column_y", "column_z"), (1, 0, 0, 0, 1, 0), strict=True)),
        "spacing_x": SPACING[0],
        "spacing_y": SPACING[1],
        "spacing_kind": "patient",
        "thickness": 1.5,
        "slope": 1.0,
        "intercept": -1024.0,
        "rescale_type": "HU",
        "instance_number": k + 1,
        "acquisition_time": 100.0 + k,
        "content_time": 49_501.25 + k,
        "content_clock": f"{134501 + k}.250000",
        **columns,
    }


def make_index(rows: Sequence[Mapping[str, Any]], frame_rows: Sequence[Mapping[str, Any]] = ()) -> Index:
    """Return an index of the rows."""
    instances = pa.Table.from_pylist(list(rows), schema=index_schema())
    return Index(("/data/in",), instances, pa.Table.from_pylist(list(frame_rows), schema=frames_schema()))


def make_series(n: int, **columns: Any) -> tuple[Index, Frames]:
    """Return an index of one series, and its frames; a column may be a list with one value a slice."""
    rows = [
        row(k, **{name: value[k] if isinstance(value, list) else value for name, value in columns.items()})
        for k in range(n)
    ]
    index = make_index(rows)
    (frames,) = iter_series(index)
    return index, frames


def make_geometry(n_z: int, **changes: Any) -> Geometry:
    """Return the geometry of an axial stack."""
    affine = np.diag([*SPACING, 1.0])
    affine[:3, 3] = ORIGIN
    geometry = Geometry(
        spacing=SPACING,
        spacing_kind="patient",
        spacing_z_source="positions",
        spacing_z_nominal=False,
        origin=ORIGIN,
        direction=np.eye(3),
        affine=affine,
        uniform=True,
        sheared=False,
        max_residual_mm=0.0,
        missing_slices=(),
        has_position=True,
        frame_of_reference_uid="1.2.840.1.9",
        z_mm=ORIGIN[2] + SPACING[2] * np.arange(n_z, dtype=np.float64),
    )
    return replace(geometry, **changes)


def make_volume(cells: npt.ArrayLike, axes: tuple[Axis, ...] = (), kind: str = "volume", **geometry: Any) -> Volume:
    """Return a volume of the given cells: (z,) or (t, c, z) rows."""
    table = np.asarray(cells, dtype=np.int64)
    table = table.reshape((1,) * (3 - table.ndim) + table.shape)
    return Volume(kind, table, axes, make_geometry(table.shape[2], **geometry), ())


def make_plan(
    n: int = 5, options: Options | None = None, volume: Volume | None = None, **columns: Any
) -> tuple[VolumePlan, Index]:
    """Return the plan of one series of ``n`` slices, and its index."""
    index, frames = make_series(n, **columns)
    volume = volume or make_volume(np.arange(n))
    path = f"{STUDY}/{SERIES}/0.ome.zarr"
    return plan_volume(frames, volume, path, "PABCDEFGHIJ", options or Options(), index), index
