"""The voxels of one volume that a user points at, block by block: out of a store, or straight from its DICOM files.

Both give the same values, types and places. Nothing is held but the blocks that are being read.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import starmap
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fastdcm.errors import CheckError, Code, SourceError, UsageError
from fastdcm.load.volume import Store, Volume
from fastdcm.load.zarrays import lost_shards
from fastdcm.look.address import choose_volume, no_series, parse_address
from fastdcm.model import ArraySpec, Index, Json, Options, ShardTask, VolumePlan
from fastdcm.places import place_of
from fastdcm.run.execute import Engine
from fastdcm.run.progress import Callback
from fastdcm.run.stream import block_tasks, cut_array, read_block

if TYPE_CHECKING:
    from fastdcm.run.survey import SeriesMap
    from fastdcm.series.layout import Region

Target = str | os.PathLike[str] | Volume
"""A volume of a store, or an address of one: ``STORE/volume``, ``STORE#WHICH``, ``FOLDER#WHICH``, a file or folder."""

_OPTIONS = Options()


class Planned(NamedTuple):
    """A volume that is still DICOM files."""

    plan: VolumePlan
    headers: Index


class _StoreBlock(NamedTuple):
    volume: Volume
    region: Region


BlockTask = _StoreBlock | ShardTask


@dataclass(frozen=True, slots=True, eq=False)
class Voxels:
    """One volume: what must be known before its voxels are read, and where they are."""

    source: Volume | Planned
    axes: str
    """Of tczyx in this order."""
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    depth: int
    """Slices that are read together at little more than the cost of one."""
    kind: str
    """Localizer, segmentation, dose, cine, 4d, volume or 2d."""
    meaning: str
    """Modality or stored: what the values are."""
    geometry: Json
    """Where the voxels are, mm LPS, as a store has it (docs/store.md)."""
    dims: Json
    """What runs along t and c, as a store has it."""
    positions: tuple[tuple[float, ...] | None, ...]
    """Of each slice (z) the position of the first image there, mm LPS; empty where the slices are even."""

    @property
    def samples(self) -> int:
        """Length of c where it is colour, or samples of another kind; else 1."""
        role = (self.dims.get("c") or {}).get("role")
        return self.shape[self.axes.index("c")] if role in ("colour", "sample") else 1

    @property
    def segments(self) -> tuple[int, ...]:
        """Segment numbers along c, empty where c is something else."""
        dim = self.dims.get("c") or {}
        return tuple(dim.get("values") or ()) if dim.get("role") == "segment" else ()


def find_voxels(engine: Engine, targets: Sequence[Target], progress: Callback) -> tuple[Voxels, ...]:
    """Return what each target means; a folder of DICOM files that is named twice is scanned once.

    Raises
    ------
    UsageError
        There is no such place, or not exactly one volume.
    CheckError
        A store has lost a part of the volume.
    """
    maps: dict[str, SeriesMap] = {}
    return tuple(_find(engine, target, maps, progress) for target in targets)


def _find(engine: Engine, target: Target, maps: dict[str, SeriesMap], progress: Callback) -> Voxels:
    if isinstance(target, Volume):
        return _of_store(target)
    address = parse_address(target)
    if (place_of(address.path) / "zarr.json").is_file():
        return _of_store(_open_volume(address.path, address.which))
    place = os.path.realpath(address.path)
    if place not in maps:
        from fastdcm.run.survey import survey_on

        maps[place] = survey_on(engine, [address.path], _OPTIONS, ask=True, progress=progress)
    found = maps[place]
    if not found.plans:
        raise UsageError(no_series(found.index, "volume"))
    return _of_plan(found.plans[choose_volume(found.table, address.which)], found.index)


def _open_volume(path: str, which: str | None) -> Volume:
    from fastdcm.load.volume import open as open_path

    opened = open_path(path)
    if isinstance(opened, Store):
        return opened[int(choose_volume(opened.table, which))]
    if which is not None:
        raise UsageError(f"{path} is a volume already: nothing can follow the #")
    return opened


def _of_store(volume: Volume) -> Voxels:
    from fastdcm.store.commit import check_complete

    array = volume.array
    if array.shards is not None:  # a lost shard would be read as fill
        spec = ArraySpec(volume.axes, volume.shape, str(volume.dtype), array.chunks, array.shards, "", 0.0)
        if isinstance(volume.place, Path):
            check_complete(volume.place / "0" / "image", spec)
        elif lost := lost_shards(volume):
            raise CheckError(f"shard c/{lost[0]} is lost")
    parts = {name: volume.attributes["fastdcm"].get(name) or {} for name in ("geometry", "intensity", "slices")}
    n_z = volume.shape[volume.axes.index("z")]
    found = () if parts["geometry"].get("uniform") else parts["slices"].get("position") or ()
    return Voxels(
        source=volume,
        axes=volume.axes,
        shape=volume.shape,
        dtype=volume.dtype,
        depth=array.chunks[volume.axes.index("z")],
        kind=volume.kind,
        meaning=str(parts["intensity"].get("values", "modality")),
        geometry=parts["geometry"],
        dims=volume.dims,
        positions=tuple(_first_place(found[z::n_z]) for z in range(n_z)) if found else (),
    )


def _of_plan(plan: VolumePlan, headers: Index) -> Voxels:
    from fastdcm.store.attributes import dims_attributes, geometry_attributes

    array = plan.array
    return Voxels(
        source=Planned(plan, headers),
        axes=array.axes,
        shape=array.shape,
        dtype=np.dtype(array.dtype),
        depth=1,
        kind=plan.volume.kind,
        meaning=plan.rule.values,
        geometry=geometry_attributes(plan),
        dims=dims_attributes(plan),
        positions=() if plan.volume.geometry.uniform else tuple(_planned_places(plan)),
    )


def _planned_places(plan: VolumePlan) -> Iterator[tuple[float, ...] | None]:
    if not plan.volume.geometry.has_position:
        return
    places = plan.frames.vectors("position_x", "position_y", "position_z").tolist()
    for rows in np.moveaxis(plan.volume.cells, -1, 0).reshape(plan.volume.cells.shape[-1], -1).tolist():
        yield _first_place([places[row] for row in rows if row >= 0])


def _first_place(places: Sequence[Sequence[float] | None]) -> tuple[float, ...] | None:
    """Return the first position that is known."""
    return next((tuple(place) for place in places if place), None)


# ---------------------------------------------------------------------------- blocks


def cut_blocks(voxels: Voxels, lengths: Sequence[int]) -> Iterator[BlockTask]:
    """Yield a volume's blocks in C order; rows and columns are never cut (``run.stream.block_tasks``)."""
    if isinstance(voxels.source, Planned):
        return block_tasks(*voxels.source, lengths)
    from fastdcm.series.layout import task_regions

    whole = ArraySpec(voxels.axes, voxels.shape, str(voxels.dtype), voxels.shape, voxels.shape, "", 0.0)
    return starmap(_StoreBlock, ((voxels.source, region) for region in task_regions(cut_array(whole, lengths))))


def read(block: BlockTask) -> npt.NDArray[Any] | None:
    """Read one block; None where a value does not fit the planned type: see ``widened``.

    Raises
    ------
    SourceError
        A DICOM file cannot be read or decoded.
    CheckError
        A part of the store cannot.
    """
    if isinstance(block, ShardTask):
        return read_block(block)
    try:
        return np.asarray(block.volume.array[tuple(slice(*bounds) for bounds in block.region)])
    except (OSError, ValueError, RuntimeError) as error:  # RuntimeError is Blosc's
        text = f"the voxels {block.region} of {block.volume.place} cannot be read: {error}; fastdcm verify tells more"
        raise CheckError(text) from error


def widened(voxels: Voxels) -> Voxels:
    """Return a planned volume in the type that it has because a value did not fit the planned one."""
    from fastdcm.series.plan import in_fallback

    assert isinstance(voxels.source, Planned)  # only their values can turn out too large
    plan, headers = voxels.source
    if plan.rule.dtype_fallback is None:
        raise SourceError(Code.INTERNAL, f"a value does not fit {plan.rule.dtype}, and no other type was planned")
    plan = in_fallback(plan, _OPTIONS)
    return replace(voxels, source=Planned(plan, headers), dtype=np.dtype(plan.array.dtype))
