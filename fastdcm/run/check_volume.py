"""One volume against itself: its documents, the catalogue, its shards and the hashes that were recorded."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fastdcm.load.volume import Volume
from fastdcm.load.zarrays import lost_shards
from fastdcm.model import Json
from fastdcm.places import Place
from fastdcm.run.findings import Cell, Findings, Mismatch

Array = npt.NDArray[Any]

POSITION_MM = 1e-3
"""Headers hold decimal strings: a position is the same within this, beside the residual that the volume states."""
EXACT = 1e-6
"""Two statements of one number within the attributes."""
_SMALL_FILES = (
    "0/zarr.json",
    "0/image/zarr.json",
    *(f"0/{axis}/{name}" for axis in "zyx" for name in ("zarr.json", "c.0")),
)
_TAG_FILES = ("dicom/zarr.json", "dicom/c.0")


class Layout(NamedTuple):
    """How the array's axes are the cells (t, c, z): samples and colour are inside a cell."""

    shape: Cell
    has_t: bool
    has_c: bool
    samples: bool

    def number(self, cell: Cell) -> int:
        """Return the place of a cell in lists by slice."""
        return int(np.ravel_multi_index(cell, self.shape))


def layout_of(volume: Volume) -> Layout:
    """Return the cells of a volume."""
    size = dict(zip(volume.axes, volume.shape, strict=True))
    samples = (volume.dims.get("c") or {}).get("role") in ("colour", "sample")
    shape = (size.get("t", 1), 1 if samples else size.get("c", 1), size["z"])
    return Layout(shape, "t" in size, "c" in size, samples)


def check_volume(
    volume: Volume, name: str, row: Json, frames: Sequence[Json] | None, digest: str | None
) -> Iterator[Mismatch]:
    """Yield what is wrong with a volume before any pixel is read.

    Parameters
    ----------
    volume : Volume
        To be checked.
    name : str
        Its path in the store.
    row : dict
        Its row of the catalogue.
    frames : sequence of dict, optional
        Its rows of ``frames.parquet``; None: not known.
    digest : str, optional
        What the last run published; None: not known.
    """
    layout = layout_of(volume)
    ours = volume.attributes["fastdcm"]
    source = ours.get("source") or {}
    if digest is not None and source.get("digest") != digest:
        text = "is not the volume that the last run published: another one was put in its place"
        yield Mismatch(name, "stale", None, text)
    yield from (Mismatch(name, "attributes", None, text) for text in _check_seal(volume))
    yield from (Mismatch(name, "attributes", None, text) for text in _check_geometry(volume, layout))
    yield from (Mismatch(name, "shape", None, text) for text in _check_row(volume, layout, row))
    yield from (Mismatch(name, "shard", None, f"the shard {place} is lost") for place in lost_shards(volume))
    if frames is not None:
        yield from _check_frames(name, layout, source.get("pixel_hash") or (), frames)


def _check_seal(volume: Volume) -> Iterator[str]:
    """Check that the documents are as they were written: their hash stands at the end of the attributes."""
    from xxhash import xxh3_128

    attributes = dict(volume.attributes)
    ours = dict(attributes["fastdcm"])
    stated = ours.pop("hash", None)
    if stated is None:
        return  # a store of an earlier version
    attributes["fastdcm"] = ours
    digest = xxh3_128()
    for path, data in _small_files(volume.place):
        digest.update(path.encode() + b"\0" + data)
    digest.update(json.dumps(attributes, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace"))
    if digest.hexdigest() != stated:
        yield "its metadata or coordinates were changed after they were written: their hash is not the one recorded"


def _small_files(place: Place) -> Iterator[tuple[str, bytes]]:
    for path in sorted((*_SMALL_FILES, *_TAG_FILES)):
        try:
            yield path, (place / path).read_bytes()
        except FileNotFoundError:
            continue


def _check_geometry(volume: Volume, layout: Layout) -> Iterator[str]:
    """Spacing, origin, direction, affine, the OME transform, the coordinates and the positions say one thing."""
    geometry = volume.attributes["fastdcm"].get("geometry") or {}
    spacing, origin = np.array(volume.spacing), geometry.get("origin")
    affine, direction = geometry.get("affine"), geometry.get("direction")
    if affine is not None:
        matrix = np.array(affine, np.float64)
        if origin is not None and not np.allclose(matrix[:3, 3], origin, atol=EXACT):
            yield f"its origin is {origin}, by its affine {matrix[:3, 3].tolist()}"
        if not np.allclose(np.linalg.norm(matrix[:3, :3], axis=0), spacing, atol=EXACT):
            yield f"its spacing is {spacing.tolist()}, by its affine {np.linalg.norm(matrix[:3, :3], axis=0).tolist()}"
        elif direction is not None and not np.allclose(matrix[:3, :3] / spacing, direction, atol=EXACT):
            yield f"its direction is {direction}, by its affine {(matrix[:3, :3] / spacing).tolist()}"
        yield from _check_positions(volume, layout, matrix, float(geometry.get("max_residual_mm") or 0.0))
    yield from _check_transforms(volume, spacing, origin)
    for axis, start, step in zip("xyz", origin or (0.0, 0.0, 0.0), spacing.tolist(), strict=True):
        values = _coordinate(volume, axis)
        if values is None or (axis == "z" and not geometry.get("uniform", True)):
            continue
        if not np.allclose(values, start + np.arange(len(values)) * step, atol=POSITION_MM):
            yield f"its coordinate {axis} does not begin at {start} mm in steps of {step} mm"


def _check_positions(volume: Volume, layout: Layout, matrix: Array, residual_mm: float) -> Iterator[str]:
    """Law 2 within the attributes: affine(k) is the position of slice k."""
    positions = volume.slices.get("position") or []
    for number, position in enumerate(positions):
        k = number % layout.shape[2]
        if position is not None:
            distance = float(np.linalg.norm((matrix @ [0, 0, k, 1])[:3] - position))
            if not distance <= residual_mm + POSITION_MM:
                yield f"slice {number} is at {position}, {distance:.3f} mm from where its affine puts it"


def _check_transforms(volume: Volume, spacing: Array, origin: Sequence[float] | None) -> Iterator[str]:
    (multiscale, *_) = volume.attributes["ome"]["multiscales"]
    for step in multiscale["datasets"][0]["coordinateTransformations"]:
        values = dict(zip(volume.axes, step.get(step["type"]) or (), strict=True))
        here = [values[axis] for axis in "xyz"]
        stated = spacing.tolist() if step["type"] == "scale" else list(origin or (0.0, 0.0, 0.0))
        if not np.allclose(here, stated, atol=EXACT):
            yield f"the OME {step['type']} is {here} in x, y, z, in the geometry {stated}"


def _coordinate(volume: Volume, axis: str) -> Array | None:
    """Return the coordinate of an axis as its file holds it: float64, little-endian."""
    try:
        return np.frombuffer((volume.place / "0" / axis / "c.0").read_bytes(), "<f8")
    except (OSError, ValueError):
        return None


def _check_row(volume: Volume, layout: Layout, row: Json) -> Iterator[str]:
    """Check that the catalogue's row says what the volume says."""
    size = dict(zip(volume.axes, volume.shape, strict=True))
    ours = volume.attributes["fastdcm"]
    identity, geometry = ours.get("identity") or {}, ours.get("geometry") or {}
    z_is_known = geometry.get("spacing_z_source") != "none"
    pairs = {
        "dtype": str(volume.dtype),
        "shape": "x".join(map(str, volume.shape)),
        "slices": size["z"],
        "rows": size["y"],
        "columns": size["x"],
        "timepoints": size.get("t", 1),
        "channels": size.get("c", 1),
        "spacing_x": volume.spacing[0],
        "spacing_y": volume.spacing[1],
        "spacing_z": volume.spacing[2] if z_is_known else None,
        "uniform": geometry.get("uniform"),
        "sheared": geometry.get("sheared"),
        "modality": identity.get("modality"),
        "kind": identity.get("kind"),
        "patient": identity.get("patient"),
        "files": (ours.get("source") or {}).get("n_instances"),
    }
    for name, value in pairs.items():
        stated = row.get(name)
        if stated is not None and value is not None and stated != value:
            yield f"its {name} is {value}, in the catalogue {stated}"
    if len(volume.axes) != len(volume.shape):
        yield f"has the axes {volume.axes} and the shape {pairs['shape']}"
    hashes = (ours.get("source") or {}).get("pixel_hash")
    if hashes is not None and hashes and len(hashes) != math.prod(layout.shape):
        yield f"has {math.prod(layout.shape)} slices and the hashes of {len(hashes)}"


def _check_frames(
    name: str, layout: Layout, hashes: Sequence[str | None], frames: Sequence[Json]
) -> Iterator[Mismatch]:
    """Every slice that is there has one row of ``frames.parquet``, and an absent one none."""
    from fastdcm.run.manifest import cell_of

    counts = Counter(map(cell_of, frames))
    for cell in np.ndindex(layout.shape):
        number = layout.number(cell)
        wanted = int(number >= len(hashes) or hashes[number] is not None)
        if (found := counts.pop(cell, 0)) != wanted:
            yield Mismatch(name, "frames", cell, f"has {found} rows in frames.parquet instead of {wanted}")
    yield from (Mismatch(name, "frames", cell, "is in frames.parquet and not in the volume") for cell in counts)


def check_hash(volume: Volume, name: str, layout: Layout, cell: Cell, values: Array) -> Findings:
    """Compare the values of a slice with the hash that was recorded when it was written."""
    import xxhash

    recorded = (volume.attributes["fastdcm"].get("source") or {}).get("pixel_hash") or ()
    number = layout.number(cell)
    if number >= len(recorded):
        return Findings(mismatches=(Mismatch(name, "hash", cell, "no hash is recorded for it"),))
    if recorded[number] is None:  # an absent slice
        fill = np.asarray(volume.array.fill_value).astype(values.dtype)
        if np.array_equal(values, np.broadcast_to(fill, values.shape), equal_nan=values.dtype.kind == "f"):
            return Findings()
        return Findings(mismatches=(Mismatch(name, "fill", cell, f"is absent and does not hold {fill}"),))
    found = xxhash.xxh3_128_hexdigest(values.astype(values.dtype.newbyteorder("<"), copy=False).data)
    if found == recorded[number]:
        return Findings(hashed=1)
    text = f"its values have the hash {found}, written was {recorded[number]}"
    return Findings(hashed=1, mismatches=(Mismatch(name, "hash", cell, text),))
