"""From a volume to its plan, and from the plan to tasks: everything that decides the bytes of the store.

A plan is self-contained and plain: it holds the frames of its own volume and nothing of its neighbours, so it can be
printed, kept, compared and sent to a worker. Paths of sources enter with the tasks.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache

import numpy as np

from fastdcm.errors import Code
from fastdcm.model import (
    FORMAT_VERSION,
    ArraySpec,
    Axis,
    Frames,
    Index,
    Json,
    Options,
    Reason,
    ShardTask,
    ValueRule,
    Volume,
    VolumePlan,
)
from fastdcm.series.catalog import burned_in_risk
from fastdcm.series.layout import Region, choose_chunks, parse_codec, shard_count, task_regions
from fastdcm.series.sources import SourceFacts, frame_sources, source_facts
from fastdcm.series.values import channel_count, fill_value_of, is_segmentation, used_rows, value_rule

VOLUME_DOCUMENTS = 9
"""Files of a volume besides its shards: three groups and arrays' zarr.json, and two for each of z, y and x."""

STORE_DOCUMENTS = 5
"""Files at the root of a store: zarr.json, three tables, the report."""


def plan_volume(frames: Frames, volume: Volume, path: str, patient: str, options: Options, index: Index) -> VolumePlan:
    """Plan one volume.

    Parameters
    ----------
    frames : Frames
        The series' frames.
    volume : Volume
        One volume of it.
    path : str
        Of the volume below the store, from ``names.volume_path``.
    patient : str
        Key of the patient, from ``catalog.patient_keys``.
    options : Options
        What was asked for.
    index : Index
        Where sizes and times of the sources stand, which the digest holds.

    Returns
    -------
    VolumePlan
        With only the frames that the volume uses.

    Raises
    ------
    UsageError
        ``options.codec`` names no codec.
    """
    frames, volume = narrow(frames, volume)
    if channel_count(frames) > 1:
        volume = _free_c(volume)
    rule, reasons = value_rule(frames, volume, options)
    flags = (*volume.reasons, *reasons, *_scan_reasons(frames))
    return VolumePlan(
        path=path,
        patient=patient,
        volume=volume,
        frames=frames,
        rule=rule,
        array=_array_spec(frames, volume, rule, options),
        reasons=flags,
        digest=_digest(frames, volume, rule, options, index),
        metadata=options.metadata,
    )


def in_fallback(plan: VolumePlan, options: Options) -> VolumePlan:
    """Return the plan in its fallback type, to be written anew after a value did not fit the planned type."""
    dtype = plan.rule.dtype_fallback
    if dtype is None:
        raise ValueError("the plan has no fallback type")
    fill = fill_value_of(dtype, plan.rule.padding_value, segmentation=is_segmentation(plan.frames))
    rule = replace(plan.rule, dtype=dtype, dtype_fallback=None, fill_value=fill)
    array = _array_spec(plan.frames, plan.volume, rule, options)
    reason = Reason(Code.DTYPE_FALLBACK, f"A value did not fit {plan.rule.dtype}; the volume is {dtype}")
    return replace(plan, rule=rule, array=array, reasons=(*plan.reasons, reason))


def narrow(frames: Frames, volume: Volume) -> tuple[Frames, Volume]:
    """Return only the frames that the volume uses, and the volume with its cells pointing into them."""
    used = used_rows(volume)
    if len(used) == len(frames) and (len(used) == 1 or (np.bincount(used) == 1).all()):
        return frames, volume
    rows, positions = np.unique(used, return_inverse=True)
    cells = volume.cells.copy()
    cells[volume.cells >= 0] = positions
    return frames.take(rows), replace(volume, cells=cells)


def _free_c(volume: Volume) -> Volume:
    """Return a volume of colour, which takes c, with all that repeats along t."""
    n_t, n_c, n_z = volume.cells.shape
    channel = next((axis for axis in volume.axes if axis.name == "c"), None)
    if channel is None:
        return volume
    both = Axis("t", "repeat", None, tuple(range(n_t * n_c)), inferred=True)
    axis = replace(channel, name="t") if n_t == 1 else both
    return replace(volume, cells=volume.cells.reshape(n_t * n_c, 1, n_z), axes=(axis,))


def _array_spec(frames: Frames, volume: Volume, rule: ValueRule, options: Options) -> ArraySpec:
    """Return shape, type, chunks and shards of the image."""
    matrix = int(frames.numbers["rows"][0]), int(frames.numbers["columns"][0])
    return _spec_of(volume.cells.shape, "".join(axis.name for axis in volume.axes), matrix, rule, options)


@lru_cache(maxsize=1024)
def _spec_of(
    cells: tuple[int, int, int], repeats: str, matrix: tuple[int, int], rule: ValueRule, options: Options
) -> ArraySpec:
    """Return the array of (t, c, z) cells, of which ``repeats`` are axes, with ``matrix`` rows and columns."""
    n_t, n_c, n_z = cells
    names = {*repeats, *("c" if rule.channels > 1 else "")}
    size = {"t": n_t, "c": n_c * rule.channels, "z": n_z, "y": matrix[0], "x": matrix[1]}
    axes = "".join(axis for axis in "tc" if axis in names or size[axis] > 1) + "zyx"
    shape = tuple(size[axis] for axis in axes)
    itemsize = np.dtype(rule.dtype).itemsize
    chunks, shards = choose_chunks(shape, axes, itemsize, options, channels=rule.channels)
    parse_codec(options.codec, itemsize, itemsize * math.prod(chunks))  # a wrong name must fail before any work
    return ArraySpec(axes, shape, rule.dtype, chunks, shards, options.codec, rule.fill_value)


def _scan_reasons(frames: Frames) -> list[Reason]:
    """Return what the scan found odd in the volume's files, and the risk of names in the pixels."""
    messages = {
        Code.REPAIRED_SYNTAX: "The transfer syntax of {} of {} frames was detected from the bytes; the header lies",
        Code.LONG_PIXEL_DATA: "The pixel data of {} of {} frames is longer than rows, columns and frames need",
        Code.LUT_NOT_APPLIED: "The Modality LUT of {} of {} frames was not applied, stored values kept: that of XA and "
        "RF linearises the detector, or it cannot be read",
    }
    found = []
    noted = [set(re.split(r"[^a-z-]+", text)) for text in frames.texts["repaired"].tolist() if text]
    for code, message in messages.items() if noted else ():
        count = sum(code.value in notes for notes in noted)
        if count:
            found.append(Reason(code, message.format(count, len(frames))))
    if burned_in_risk(frames):
        found.append(
            Reason(Code.BURNED_IN_RISK, "Names may stand in the pixels: by the header, or by the kind of image")
        )
    return found


def _digest(frames: Frames, volume: Volume, rule: ValueRule, options: Options, index: Index) -> str:
    """Return a SHA-256 of the sources in their places, without their paths, and of what is done with them."""
    from fastdcm.scan.compact import numbers_of

    sizes, times = (numbers_of(index.instances.column(name), frames.instance) for name in ("size", "mtime_ns"))
    columns = (frames.texts["sop_instance_uid"].tolist(), frames.frame.tolist(), frames.tile.tolist(), sizes, times)
    lines = [f"{uid} {frame} {tile} {size} {time}" for uid, frame, tile, size, time in zip(*columns, strict=True)]
    lines.append("-")  # of the cells without a frame, -1
    digest = hashlib.sha256(f"({_made_by(rule, options)}, {volume.axes!r}, {volume.cells.shape!r})".encode())
    digest.update("\n".join([lines[row] for row in volume.cells.ravel().tolist()]).encode("utf-8", "replace"))
    return digest.hexdigest()


@lru_cache(maxsize=64)
def _made_by(rule: ValueRule, options: Options) -> str:
    """Return what besides its images decides a volume's bytes; which series are converted is no matter of them."""
    made_by = replace(options, where=None, image_type=None, localizers=True, derived=True)
    return f"{FORMAT_VERSION!r}, {made_by!r}, {rule!r}"


# ---------------------------------------------------------------------------- tasks


def shard_tasks(
    plan: VolumePlan, index: Index, partial: str, files: Mapping[int, SourceFacts] | None = None
) -> Iterator[ShardTask]:
    """Yield the tasks that write the volume's image; no two share a shard, and each decodes its frames once.

    Parameters
    ----------
    plan : VolumePlan
        The volume.
    index : Index
        That the plan was made from.
    partial : str
        Folder in which the volume is built.
    files : mapping, optional
        From ``source_facts``, where those of more volumes were looked up together.

    Yields
    ------
    ShardTask
        One shard, or all bands of rows of the planes that are too large for one.
    """
    if files is None:
        files = source_facts(index, np.unique(plan.frames.instance))
    sources = frame_sources(plan.frames, plan.rule, files)
    for region in task_regions(plan.array):
        rows = plan.volume.cells[cell_slices(plan, region)].ravel().tolist()
        yield ShardTask(
            volume=plan.path,
            target=f"{partial}/0/image",
            array=plan.array,
            rule=plan.rule,
            region=region,
            sources=tuple(sources[row] if row >= 0 else None for row in rows),
            metadata=plan.metadata,
        )


def cell_slices(plan: VolumePlan, region: Region) -> tuple[slice, slice, slice]:
    """Return the part of ``plan.volume.cells`` that a region of the array covers."""
    place = {axis: slice(*bounds) for axis, bounds in zip(plan.array.axes, region, strict=True)}
    every = slice(None)
    return place.get("t", every), every if plan.rule.channels > 1 else place.get("c", every), place["z"]


# ---------------------------------------------------------------------------- the document


def array_bytes(array: ArraySpec) -> int:
    """Return the bytes of an array, uncompressed."""
    return math.prod(array.shape) * np.dtype(array.dtype).itemsize


@lru_cache(maxsize=1024)
def task_bytes(array: ArraySpec) -> int:
    """Return the uncompressed bytes of the largest task of an array."""
    region = next(iter(task_regions(array)), ())
    return math.prod(stop - start for start, stop in region) * np.dtype(array.dtype).itemsize


def dtype_text(rule: ValueRule) -> str:
    """Return the type as the dry run prints it: ``int16 (int32 if needed)``."""
    return f"{rule.dtype} ({rule.dtype_fallback} if needed)" if rule.dtype_fallback else rule.dtype


def plan_document(plans: Iterable[VolumePlan], refusals: Sequence[Json] = ()) -> Json:
    """Return the plan of a whole run as a document, without any path of a source.

    Parameters
    ----------
    plans : iterable of VolumePlan
        The volumes to be written.
    refusals : sequence of dict
        What cannot be converted, for example ``{"series": ..., "code": "gap", "message": ..., "files": 5}``.

    Returns
    -------
    dict
        ``format``, ``volumes``, ``refusals`` and ``totals``; bytes are uncompressed, ``output_files`` is exact but for
        the two files of a volume whose varying tags are large.
    """
    volumes = [_volume_document(plan) for plan in plans]
    studies = {volume["path"].split("/")[0] for volume in volumes}
    series = {volume["path"].rpartition("/")[0] for volume in volumes}
    files = sum(volume["output_files"] for volume in volumes) + len(studies) + len(series) + STORE_DOCUMENTS
    totals = {
        "volumes": len(volumes),
        "frames": sum(volume["frames"] for volume in volumes),
        "bytes": sum(volume["bytes"] for volume in volumes),
        "output_files": files,
        "refusals": len(refusals),
    }
    return {"format": FORMAT_VERSION, "volumes": volumes, "refusals": list(refusals), "totals": totals}


def _volume_document(plan: VolumePlan) -> Json:
    modality = plan.frames.texts["modality"][0]
    return {
        "path": plan.path,
        "kind": plan.volume.kind,
        "modality": modality,
        "axes": plan.array.axes,
        "shape": list(plan.array.shape),
        "dtype": dtype_text(plan.rule),
        "values": plan.rule.values,
        "uniform": plan.volume.geometry.uniform,
        "chunks": list(plan.array.chunks),
        "shards": list(plan.array.shards),
        "codec": plan.array.codec,
        "bytes": array_bytes(plan.array),
        "output_files": VOLUME_DOCUMENTS + shard_count(plan.array),
        "files": len(np.unique(plan.frames.instance)),
        "frames": len(plan.frames),
        "reasons": [{"code": reason.code.value, "message": reason.message} for reason in plan.reasons],
        "digest": plan.digest,
    }
