"""Hand-made volumes, written as a run would write them but without any decoding."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fastdcm.model import ArraySpec, Index, VolumePlan
from fastdcm.series.layout import task_regions
from fastdcm.series.plan import shard_tasks
from fastdcm.store.commit import write_documents
from fastdcm.store.metadata import VolumeFacts, volume_documents
from fastdcm.store.shard import write_region

Array = npt.NDArray[Any]


def make_values(array: ArraySpec, seed: int = 0) -> Array:
    """Return values of the array's type: noise that compresses somewhat, all bits of it used."""
    rng = np.random.default_rng(seed)
    if np.dtype(array.dtype).kind == "f":
        return rng.normal(0, 100, array.shape).astype(array.dtype)
    info = np.iinfo(array.dtype)
    values = rng.integers(max(info.min, -1024), min(info.max, 3000), array.shape, dtype=np.int64).astype(array.dtype)
    values.flat[0], values.flat[-1] = info.min, info.max
    return values


def write_array(folder: Path, array: ArraySpec, values: Array) -> int:
    """Write all regions of an array; return the bytes."""
    written = 0
    for region in task_regions(array):
        block = np.ascontiguousarray(values[tuple(slice(*bounds) for bounds in region)])
        written += write_region(str(folder), array, region, block)
    return written


def write_volume(folder: Path, plan: VolumePlan, index: Index, facts: VolumeFacts | None = None) -> Array:
    """Write a whole volume into the folder; return its values."""
    values = make_values(plan.array)
    for task in shard_tasks(plan, index, str(folder)):
        block = values[tuple(slice(*bounds) for bounds in task.region)]
        write_region(task.target, task.array, task.region, block)
    n = plan.volume.cells.size
    write_documents(folder, volume_documents(plan, facts or VolumeFacts([f"{k:032x}" for k in range(n)])))
    return values
