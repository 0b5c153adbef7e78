"""What runs on a worker: decode, encode, write. A unit is fat, plain and picklable, and may run twice.

Small volumes travel whole, many in a unit, and are finished where they are written; a large one travels shard by shard,
and its last unit makes the documents.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from itertools import accumulate, count
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fastdcm.errors import CheckError, Code
from fastdcm.model import ArraySpec, FrameFault, ShardResult, ShardTask, VolumePlan
from fastdcm.objects import is_url
from fastdcm.series.layout import Region

if TYPE_CHECKING:
    from fastdcm.pixels.ahead import Ahead


@dataclass(frozen=True, slots=True, eq=False)
class WholeVolume:
    """A volume with all of its tasks."""

    plan: VolumePlan
    partial: str
    """Folder in which it is built."""
    tasks: tuple[ShardTask, ...]


@dataclass(frozen=True, slots=True, eq=False)
class WrittenVolume:
    """A volume whose shards are written, by other units, and whose documents are not."""

    plan: VolumePlan
    partial: str
    results: tuple[ShardResult, ...]
    """In the order of their regions."""


@dataclass(frozen=True, slots=True, eq=False)
class VolumeResult:
    """What became of a volume: ready to be published if there are no faults, no overflow and no failed check."""

    path: str
    bytes_read: int
    bytes_written: int
    faults: tuple[FrameFault, ...]
    """``cell`` is the place in ``plan.volume.cells.ravel()``."""
    notes: tuple[tuple[int, Code, str], ...]
    overflow: bool
    failed_check: str | None = None
    marker: bytes = b""
    """The group's ``zarr.json``, where the driver has to put it: into an object store."""

    @property
    def ready(self) -> bool:
        """Whether the volume may be published."""
        return not (self.faults or self.overflow or self.failed_check)


Unit = tuple[WholeVolume, ...] | ShardTask | WrittenVolume
UnitResult = tuple[VolumeResult, ...] | ShardResult


class Watch(NamedTuple):
    """Who is told how a task goes on, and what it must not touch."""

    begin: Callable[[int], None]
    """Told the first cell of a frame before it is read, -1 after the last of a layer."""
    bad: Mapping[int, tuple[Code, str]]
    """Cells that are not read, and why: their frames ended a decoder's process."""


def _pass(_: int) -> None:
    """Tell nobody."""


def unwatched(_: int) -> Watch:
    """Return the watch of a task in a thread."""
    return Watch(_pass, {})


def run_unit(unit: Unit, watch: Callable[[int], Watch] = unwatched) -> UnitResult:
    """Do one unit of work.

    Parameters
    ----------
    unit : tuple of WholeVolume, ShardTask or WrittenVolume
        What to write.
    watch : callable
        Gives the watch of a task by its number in ``tasks_of(unit)``.

    Returns
    -------
    tuple of VolumeResult, or ShardResult
        Faults of the input are values in it.

    Raises
    ------
    TargetError
        The target cannot be written.
    """
    from fastdcm.pixels.ahead import Ahead

    if isinstance(unit, WrittenVolume):
        return finish_volumes([unit])
    with Ahead(source for task in tasks_of(unit) for source in task.sources) as ahead:
        if isinstance(unit, ShardTask):
            return write_shard(unit, watch(0), ahead)
        volumes = _write_shards(unit, watch, ahead)
    return finish_volumes(volumes)


def tasks_of(unit: Unit) -> list[ShardTask]:
    """Return the tasks of a unit, in the order in which they are done."""
    if isinstance(unit, WrittenVolume):
        return []
    return [unit] if isinstance(unit, ShardTask) else [task for whole in unit for task in whole.tasks]


def _write_shards(unit: Sequence[WholeVolume], watch: Callable[[int], Watch], ahead: Ahead) -> list[WrittenVolume]:
    """Write the shards of small volumes, step by step: the code of a step stays in the processor's cache."""
    from fastdcm.store.commit import make_folders

    for whole in unit:
        make_folders(whole.partial, whole.plan.array)
    numbers = count()
    return [
        WrittenVolume(
            whole.plan,
            whole.partial,
            tuple(write_shard(task, watch(next(numbers)), ahead) for task in whole.tasks),
        )
        for whole in unit
    ]


def write_shard(task: ShardTask, watch: Watch | None = None, ahead: Ahead | None = None) -> ShardResult:
    """Decode the frames of a region and write its shards, layer by layer; with a bad frame they stay unfinished."""
    from fastdcm.scan.tags import table_of
    from fastdcm.store.shard import write_layers

    found = _Found()
    layers = _read_layers(task, watch or unwatched(0), found, ahead)
    written = write_layers(task.target, task.array, task.region, layers)
    faults, notes = tuple(found.faults), tuple(found.notes)
    if found.faults or found.overflow:
        return ShardResult(task.volume, task.region, 0, found.bytes_read, (), faults, found.overflow, notes, None)
    tags, hashes = table_of(found.headers, task.sources, task.metadata), tuple(found.hashes)
    return ShardResult(task.volume, task.region, written, found.bytes_read, hashes, (), False, notes, tags)


@dataclass(slots=True)
class _Found:
    """What the layers of a region told; cells are counted from the region's first."""

    faults: list[FrameFault] = field(default_factory=list)
    notes: list[tuple[int, Code, str]] = field(default_factory=list)
    overflow: bool = False
    bytes_read: int = 0
    headers: list[bytes | None] = field(default_factory=list)
    hashes: list[str] = field(default_factory=list)


def _read_layers(
    task: ShardTask, watch: Watch, found: _Found, ahead: Ahead | None
) -> Iterator[tuple[Region, npt.NDArray[Any]]]:
    """Yield a region's layers, all in the same memory; after a bad frame only look for the other bad ones."""
    from fastdcm.pixels.read import hash_cell, read_cells

    cells: npt.NDArray[Any] = np.empty(0)
    block = cells
    for region in _layers(task.array, task.region, task.rule.channels):
        shape = tuple(stop - start for start, stop in region)
        if block.shape != shape:
            cells, block = _allocate(task, shape)
        first = len(found.headers)
        places = range(first, first + len(cells))
        sources = [None if place in watch.bad else task.sources[place] for place in places]
        read = read_cells(sources, task.rule, region[-2], cells, partial(_begin_from, watch, first), ahead)
        watch.begin(-1)
        found.faults += [fault._replace(cell=first + fault.cell) for fault in read.faults]
        found.faults += [FrameFault(place, *watch.bad[place]) for place in places if place in watch.bad]
        found.notes += [(first + cell, code, message) for cell, code, message in read.notes]
        found.overflow |= read.overflow
        found.bytes_read += read.bytes_read
        found.headers += read.headers
        if found.faults or found.overflow:
            continue
        found.hashes += ["" if source is None else hash_cell(cell) for source, cell in zip(sources, cells, strict=True)]
        yield region, block


def _begin_from(watch: Watch, first: int, cell: int) -> None:
    """Tell the watch of a cell that is counted from the first of its layer."""
    watch.begin(first + cell)


@lru_cache(maxsize=256)
def _layers(array: ArraySpec, region: Region, channels: int) -> tuple[Region, ...]:
    """Return ``layer_regions``, once for the many volumes of one shape."""
    from fastdcm.series.layout import layer_regions

    return tuple(layer_regions(array, region, channels))


def _allocate(task: ShardTask, shape: Sequence[int]) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Return one block of memory twice: by cell, (cells, [channels,] y, x), and in the shape of a layer."""
    plane, channels = shape[-2:], task.rule.channels
    dtype = np.dtype(task.array.dtype).newbyteorder("<")
    if channels == 1:
        block = np.empty(shape, dtype)
        return block.reshape(-1, *plane), block
    length = dict(zip(task.array.axes, shape, strict=True))
    cells = np.empty((length.get("t", 1), length["z"], channels, *plane), dtype)
    return cells.reshape(-1, channels, *plane), np.moveaxis(cells, 2, 1).reshape(shape)


def try_cell(task: ShardTask, cell: int) -> None:
    """Read one cell of a task and forget it: what is of interest is whether the process survives."""
    from fastdcm.pixels.read import read_cells

    shape = [1] * (len(task.array.shape) - 2) + [stop - start for start, stop in task.region[-2:]]
    if task.rule.channels > 1:
        shape[task.array.axes.index("c")] = task.rule.channels
    read_cells([task.sources[cell]], task.rule, task.region[-2], _allocate(task, shape)[0])


def finish_volumes(volumes: Sequence[WrittenVolume]) -> tuple[VolumeResult, ...]:
    """Put the results of each volume's tasks together; if all is well write its documents and check it."""
    joined = [_joined(written) for written in volumes]
    documents = [_documents(written, found) for written, found in zip(volumes, joined, strict=True)]
    return tuple(map(_complete, volumes, joined, documents))


def joined_documents(written: WrittenVolume) -> tuple[VolumeResult, dict[str, bytes]]:
    """Put the results of a volume's tasks together, and return its small files; none where it is not good."""
    found = _joined(written)
    return found, _documents(written, found)


def _joined(written: WrittenVolume) -> VolumeResult:
    """Put the results of a volume's tasks, one or more, together."""
    starts = list(accumulate((_cell_count(written.plan, result) for result in written.results[:-1]), initial=0))
    parts = list(zip(starts, written.results, strict=True))
    return VolumeResult(
        path=written.plan.path,
        bytes_read=sum(result.bytes_read for result in written.results),
        bytes_written=sum(result.bytes_written for result in written.results),
        faults=tuple(
            FrameFault(start + fault.cell, fault.code, fault.message)
            for start, result in parts
            for fault in result.faults
        ),
        notes=tuple((start + cell, code, text) for start, result in parts for cell, code, text in result.notes),
        overflow=any(result.overflow for result in written.results),
    )


def _cell_count(plan: VolumePlan, result: ShardResult) -> int:
    from fastdcm.series.plan import cell_slices

    shape = plan.volume.cells.shape
    slices = cell_slices(plan, result.region)
    return math.prod(len(range(*part.indices(n))) for part, n in zip(slices, shape, strict=True))


def _documents(written: WrittenVolume, found: VolumeResult) -> dict[str, bytes]:
    """Return the small files of a volume; none where it is not to be published."""
    from fastdcm.scan.segments import segments_of
    from fastdcm.scan.tags import merge, to_json
    from fastdcm.store.attributes import VolumeFacts
    from fastdcm.store.metadata import volume_documents

    if not found.ready:
        return {}
    tags, varying = to_json(merge(result.tags for result in written.results))
    facts = VolumeFacts(
        hashes=[text or None for result in written.results for text in result.hashes],
        tags=tags,
        slice_tags=varying,
        segments=segments_of(tags),
        notes=[(cell, str(code), message) for cell, code, message in found.notes],
    )
    return volume_documents(written.plan, facts)


def _complete(written: WrittenVolume, found: VolumeResult, documents: dict[str, bytes]) -> VolumeResult:
    """Write the small files of a volume, and check that all is there."""
    from fastdcm.store.commit import check_complete, write_documents

    if not found.ready:
        return found
    size = write_documents(written.partial, documents)
    try:
        check_complete(f"{written.partial}/0/image", written.plan.array)
    except CheckError as error:
        return replace(found, failed_check=str(error))
    return replace(found, bytes_written=found.bytes_written + size)


def remove_partial(folder: str) -> None:
    """Remove what is left of an unfinished volume."""
    if is_url(folder):
        from fastdcm.store.upload import remove_volume

        remove_volume(folder)
    shutil.rmtree(folder, ignore_errors=True)
