"""A small builder of ``Frames``: columns by name, one row an image, without files and without an index."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from fastdcm.model import COLUMNS, Floats, Frames, Ints, Volume

AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
SAGITTAL = (0.0, 1.0, 0.0, 0.0, 0.0, -1.0)
CORONAL = (1.0, 0.0, 0.0, 0.0, 0.0, -1.0)

_DEFAULTS: Mapping[str, Any] = {
    "size": 1000.0,
    "rows": 7.0,
    "columns": 5.0,
    "samples": 1.0,
    "bits_allocated": 16.0,
    "bits_stored": 12.0,
    "high_bit": 11.0,
    "pixel_representation": 0.0,
    "n_frames": 1.0,
    "spacing_y": 0.7,
    "spacing_x": 0.4,
    "spacing_kind": "patient",
    "modality": "CT",
    "sop_class_uid": "1.2.840.10008.5.1.4.1.1.2",
    "transfer_syntax": "1.2.840.10008.1.2.1",
    "patient_id": "p",
    "study_uid": "1.1",
    "series_uid": "1.1.1",
    "frame_of_reference_uid": "1.9",
    "photometric": "MONOCHROME2",
    "pixel_keyword": "PixelData",
    "image_type": "ORIGINAL\\PRIMARY\\AXIAL",
}


def vector(prefix: str, values: Sequence[float]) -> dict[str, float]:
    """Return the x, y, z columns of a vector."""
    return dict(zip((f"{prefix}_x", f"{prefix}_y", f"{prefix}_z"), map(float, values), strict=True))


def image(
    position: Sequence[float] | None = (0.0, 0.0, 0.0), orientation: Sequence[float] | None = AXIAL, **columns: Any
) -> dict[str, Any]:
    """Return one image as a dict of columns; ``instance``, ``frame`` and ``tile`` may be given too."""
    row = dict(_DEFAULTS)
    if position is not None:
        row |= vector("position", position)
    if orientation is not None:
        row |= vector("row", orientation[:3]) | vector("column", orientation[3:])
    return row | columns


def stack(zs: Sequence[float], **columns: Any) -> list[dict[str, Any]]:
    """Return axial images at (-12.5, 20.25, z); columns that are lists give one value an image."""
    varying = {name: value for name, value in columns.items() if isinstance(value, list)}
    fixed = {name: value for name, value in columns.items() if not isinstance(value, list)}
    return [
        image((-12.5, 20.25, z), **fixed, **{name: value[i] for name, value in varying.items()})
        for i, z in enumerate(zs)
    ]


def frames_of(images: Sequence[Mapping[str, Any]], order: Sequence[int] | None = None) -> Frames:
    """Return the images as ``Frames``, in the given order.

    SOP Instance UIDs and Instance Numbers follow the place in ``images`` where they are not given.
    """
    rows = []
    for i, row in enumerate(images):
        base = {"instance": i, "frame": 0, "tile": -1, "sop_instance_uid": f"1.2.{i:06d}", "instance_number": i + 1.0}
        rows.append({**base, **row})
    rows = [rows[i] for i in (range(len(rows)) if order is None else order)]
    numbers = {c.name: _numbers(rows, c.name) for c in COLUMNS if c.kind in ("int", "long", "float")}
    texts = {c.name: _texts(rows, c.name) for c in COLUMNS if c.kind in ("text", "string", "bytes")}
    instance, frame, tile = (
        np.asarray([row[name] for row in rows], np.int64) for name in ("instance", "frame", "tile")
    )
    return Frames(instance, frame, tile, numbers, texts, np.ones(len(rows), dtype=bool))


def _numbers(rows: Sequence[Mapping[str, Any]], name: str) -> Floats:
    return np.asarray([np.nan if row.get(name) is None else row[name] for row in rows], dtype=np.float64)


def _texts(rows: Sequence[Mapping[str, Any]], name: str) -> Any:
    values = np.empty(len(rows), dtype=object)
    values[:] = [row.get(name) for row in rows]
    return values


def positions_of(frames: Frames, rows: Ints) -> Floats:
    """Return ImagePositionPatient of rows, shape (..., 3)."""
    return np.stack([frames.numbers[f"position_{axis}"][rows] for axis in "xyz"], axis=-1)


def cells_of(volume: Volume) -> Iterator[int]:
    """Yield the rows of a volume, absent cells left out."""
    yield from volume.cells[volume.cells >= 0].tolist()


def check_law_two(frames: Frames, volume: Volume, tolerance_mm: float = 0.11) -> None:
    """Assert that affine(k) is the position of every frame of a volume that says that it is uniform."""
    if not volume.geometry.uniform:
        assert volume.geometry.affine is None
        return
    affine = volume.geometry.affine
    assert affine is not None
    there = volume.cells >= 0
    k = np.broadcast_to(np.arange(volume.cells.shape[2]), volume.cells.shape)[there]
    expected = affine[:3, 3] + k[:, None] * affine[:3, 2]
    np.testing.assert_allclose(positions_of(frames, volume.cells[there]), expected, atol=tolerance_mm)
