"""Small stores written by zarr-python after docs/store.md: what the readers are tested on without the writer."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import xxhash
import zarr

from fastdcm.model import CATALOG_COLUMNS
from tests.dicomgen import Series

Array = npt.NDArray[Any]
ARROW = {"int": pa.int32(), "long": pa.int64(), "float": pa.float64(), "bool": pa.bool_(), "string": pa.string()}
GENERATION = "1234"


@dataclass(frozen=True, eq=False)
class Small:
    """One volume to be written."""

    values: Array
    axes: str = "zyx"
    affine: Array | None = None
    """(4, 4) LPS; None: none."""
    positions: Array | None = None
    """(z, 3)."""
    path: str = "1.2/1.2.3/0.ome.zarr"
    modality: str = "CT"
    kind: str = "volume"
    geometry: Mapping[str, Any] = field(default_factory=dict)
    intensity: Mapping[str, Any] = field(default_factory=dict)
    dims: Mapping[str, Any] = field(default_factory=dict)
    description: str | None = "chest"
    files: tuple[Path, ...] = ()
    """One single-frame file a (t, c, z) cell."""
    chunks: tuple[int, ...] | None = None


def of_series(series: Series, **more: Any) -> Small:
    """Return the volume that a generated series must become."""
    axes = {3: "zyx", 4: "tzyx"}[series.values.ndim]
    values = series.values.astype(np.int32) if series.values.dtype == np.int64 else series.values
    path = f"{series.study_uid}/{series.series_uid}/0.ome.zarr"
    return Small(values, axes, series.affine, series.positions, path, files=series.paths, **more)


def write_volume(folder: Path, small: Small) -> Path:
    """Write one volume group."""
    n_z = small.values.shape[small.axes.index("z")]
    affine = small.affine
    spacing = [1.0, 1.0, 1.0] if affine is None else np.linalg.norm(affine[:3, :3], axis=0).tolist()
    origin = None if affine is None else affine[:3, 3].tolist()
    direction = None if affine is None else (affine[:3, :3] / np.array(spacing)).tolist()
    geometry = {
        "space": "LPS",
        "affine": None if affine is None else affine.tolist(),
        "origin": origin,
        "spacing": spacing,
        "direction": direction,
        "uniform": affine is not None,
        "sheared": False,
        "has_position": origin is not None,
        **small.geometry,
    }
    slices = {} if small.positions is None else {"position": small.positions.tolist()}
    start = origin or [0.0, 0.0, 0.0]
    extra = len(small.axes) - 3
    fastdcm = {
        "version": "1",
        "geometry": {name: value for name, value in geometry.items() if value is not None},
        "intensity": {"values": "modality", "photometric_interpretation": "MONOCHROME2", **small.intensity},
        "dims": dict(small.dims),
        "slices": slices,
        "identity": {"modality": small.modality, "kind": small.kind},
        "source": {"pixel_hash": slice_hashes(small.values, small.axes, small.intensity)},
    }
    multiscale = {
        "name": "image",
        "axes": [{"name": axis, "type": {"t": "time", "c": "channel"}.get(axis, "space")} for axis in small.axes],
        "datasets": [
            {
                "path": "0/image",
                "coordinateTransformations": [
                    {"type": "scale", "scale": [1.0] * extra + spacing[::-1]},
                    {"type": "translation", "translation": [0.0] * extra + start[::-1]},
                ],
            }
        ],
    }
    root = zarr.create_group(
        store=folder, attributes={"ome": {"version": "0.5", "multiscales": [multiscale]}, "fastdcm": fastdcm}
    )
    level = root.create_group("0")
    level.create_array(
        "image",
        data=small.values,
        chunks=small.chunks or (1,) * (len(small.axes) - 2) + small.values.shape[-2:],
        shards=None if small.chunks else (1,) * extra + small.values.shape[-3:],
        dimension_names=tuple(small.axes),
    )
    for axis, n, step, first in zip("zyx", small.values.shape[-3:], spacing[::-1], start[::-1], strict=True):
        level.create_array(axis, data=first + np.arange(n) * step, dimension_names=(axis,))
    assert n_z == small.values.shape[-3]
    return folder


def slice_hashes(values: Array, axes: str, intensity: Mapping[str, Any]) -> list[str]:
    """Return xxh3-128 of each slice in little-endian C order; colour belongs to the slice."""
    colour = intensity.get("photometric_interpretation") == "RGB"
    little = values.astype(values.dtype.newbyteorder("<"))
    if colour:
        little = np.moveaxis(little, axes.index("c"), -3)
    each = little.reshape(-1, *little.shape[-3 if colour else -2 :])
    return [xxhash.xxh3_128_hexdigest(np.ascontiguousarray(plane).tobytes()) for plane in each]


def catalog_row(small: Small) -> dict[str, Any]:
    """Return the catalogue's row; what nobody asks for is null."""
    study, series, name = small.path.split("/")
    spacing = None if small.affine is None else np.linalg.norm(small.affine[:3, :3], axis=0)
    known = {
        "index": int(name.split(".")[0]),
        "patient": "PAAAAAAAAAA",
        "study": study,
        "series": series,
        "volume": small.path,
        "modality": small.modality,
        "kind": small.kind,
        "description": small.description,
        "slices": small.values.shape[-3],
        "rows": small.values.shape[-2],
        "columns": small.values.shape[-1],
        "channels": dict(zip(small.axes, small.values.shape, strict=True)).get("c", 1),
        "timepoints": dict(zip(small.axes, small.values.shape, strict=True)).get("t", 1),
        "uniform": small.geometry.get("uniform", small.affine is not None),
        "dtype": str(small.values.dtype),
        "shape": "x".join(map(str, small.values.shape)),
        "files": len(small.files),
        "frames": len(small.files),
        "bytes": small.values.nbytes,
    }
    if spacing is not None:
        known |= {"spacing_x": spacing[0], "spacing_y": spacing[1], "spacing_z": spacing[2]}
    return {name: known.get(name) for name, _ in CATALOG_COLUMNS}


def catalogue(smalls: Sequence[Small]) -> pa.Table:
    """Return the catalogue."""
    rows = [catalog_row(small) for small in smalls]
    columns = {}
    for name, kind in CATALOG_COLUMNS:
        dtype = pa.dictionary(pa.int32(), pa.string()) if kind == "text" else ARROW[kind]
        plain = pa.string() if kind == "text" else dtype
        columns[name] = pa.array([row[name] for row in rows], plain).cast(dtype)
    return pa.table(columns)


def write_store(root: Path, *smalls: Small, source: Path | None = None) -> Path:
    """Write a whole store; ``source`` is the folder that the volumes' files lie in."""
    for small in smalls:
        for parent in (root, *(root / part for part in Path(small.path).parents if part.parts)):
            _write_group(parent, {})
        write_volume(root / small.path, small)
    _write_table(catalogue(smalls), root / "catalog.parquet")
    if source is not None:
        _write_manifest(root, smalls, source)
    _write_group(root, {"fastdcm": {"version": "1", "catalog": "catalog.parquet", "generation": GENERATION}})
    (root / "report.json").write_text(json.dumps({"generation": GENERATION}))
    return root


def _write_group(folder: Path, attributes: dict[str, Any]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    document = {"zarr_format": 3, "node_type": "group", "attributes": attributes}
    (folder / "zarr.json").write_text(json.dumps(document))


def _write_table(table: pa.Table, path: Path) -> None:
    pq.write_table(table.replace_schema_metadata({"generation": GENERATION}), path)


def write_table_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write a table of a store from rows."""
    _write_table(pa.Table.from_pylist([dict(row) for row in rows]), path)


def _write_manifest(root: Path, smalls: Sequence[Small], source: Path) -> None:
    files: list[dict[str, Any]] = []
    frames: list[dict[str, Any]] = []
    for small in smalls:
        shape = dict(zip(small.axes, small.values.shape, strict=True))
        channels = 1 if small.dims.get("c", {}).get("role") == "colour" else shape.get("c", 1)
        cells = np.ndindex(shape.get("t", 1), channels, shape["z"])
        for (t, c, z), path in zip(cells, small.files, strict=True):
            frames.append({"volume": small.path, "t": t, "c": c, "z": z, "file": len(files), "frame": 0, "tile": None})
            files.append(
                {
                    "file": len(files),
                    "source": 0,
                    "path": path.relative_to(source).as_posix(),
                    "size": path.stat().st_size,
                    "outcome": "converted",
                }
            )
    _write_table(pa.Table.from_pylist(files), root / "files.parquet")
    _write_table(pa.Table.from_pylist(frames), root / "frames.parquet")
