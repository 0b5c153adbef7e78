"""The voxels of a planned volume block by block, decoded from its DICOM files without writing a store.

A block is what one task of a conversion would write, but cut as the caller wants it, and handed back instead.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from fastdcm.errors import SourceError
from fastdcm.model import ArraySpec, Index, ShardTask, VolumePlan


def block_tasks(plan: VolumePlan, index: Index, lengths: Sequence[int]) -> Iterator[ShardTask]:
    """Cut a planned volume into blocks.

    Parameters
    ----------
    plan : VolumePlan
        What is to be read.
    index : Index
        That the plan was made from.
    lengths : sequence of int
        Of a block along each axis of ``plan.array``; rows and columns, and the samples of colour, are never cut.

    Yields
    ------
    ShardTask
        For ``read_block``, in C order of their regions.
    """
    from fastdcm.series.plan import shard_tasks

    yield from shard_tasks(replace(plan, array=cut_array(plan.array, lengths)), index, "")


def cut_array(array: ArraySpec, lengths: Sequence[int]) -> ArraySpec:
    """Return an array whose shards are blocks of these lengths, with whole planes."""
    block = (*lengths[:-2], *array.shape[-2:])
    return replace(array, chunks=block, shards=block)


def read_block(task: ShardTask) -> npt.NDArray[Any] | None:
    """Decode one block.

    Parameters
    ----------
    task : ShardTask
        From ``block_tasks``.

    Returns
    -------
    ndarray or None
        The values that a store would hold, in the shape of the region, of type ``task.array.dtype``; None where a value
        does not fit that type: the plan ``series.plan.in_fallback`` has a wider one.

    Raises
    ------
    SourceError
        A file cannot be read or decoded; the message says which slice.
    """
    from fastdcm.pixels.read import read_cells

    shape = [stop - start for start, stop in task.region]
    cells = np.empty(_cells_shape(task, shape), np.dtype(task.array.dtype).newbyteorder("<"))
    read = read_cells(task.sources, task.rule, task.region[-2], cells)
    if read.faults:
        fault = read.faults[0]
        more = f" (and {len(read.faults) - 1} more of its block)" if len(read.faults) > 1 else ""
        raise SourceError(fault.code, f"slice {_place(task, fault.cell)}{more}: {fault.code}: {fault.message}")
    if read.overflow:
        return None
    if task.rule.channels == 1:
        return cells.reshape(shape)
    by_time = cells.reshape(-1, shape[task.array.axes.index("z")], *cells.shape[1:])
    return np.moveaxis(by_time, 2, 1).reshape(shape)


def _cells_shape(task: ShardTask, shape: Sequence[int]) -> tuple[int, ...]:
    channels = () if task.rule.channels == 1 else (task.rule.channels,)
    return (len(task.sources), *channels, *shape[-2:])


def _place(task: ShardTask, cell: int) -> str:
    """Name a cell of a task's region as a place in the volume: ``t=0 z=12``."""
    cut = [
        (axis, (0, 1) if axis == "c" and task.rule.channels > 1 else bounds)
        for axis, bounds in zip(task.array.axes[:-2], task.region, strict=False)
    ]
    place = np.unravel_index(cell, [stop - start for _, (start, stop) in cut])
    named = [(axis, start + int(at)) for (axis, (start, _)), at in zip(cut, place, strict=True)]
    return " ".join(f"{axis}={at}" for axis, at in named if axis != "c" or task.rule.channels == 1)
