"""Every file of a volume but its shards, as bytes: the Zarr v3 documents and the small arrays.

Written directly, because a library call a document would cost more than the pixels of a one-image series. Absent means
unknown: nothing is invented, NaN is never written, and all text is valid UTF-8. docs/store.md describes the attributes.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from fastdcm.model import FORMAT_VERSION, ArraySpec, Floats, Json, VolumePlan
from fastdcm.series.values import Transform, slice_transforms
from fastdcm.store.attributes import VolumeFacts, fastdcm_attributes
from fastdcm.store.ome import axis_transforms, ome_attributes
from fastdcm.store.shard import inner_codecs
from fastdcm.version import __version__

INLINE_TAGS_BYTES = 64 * 1024
"""Larger varying tags go into the array ``dicom``, so that every reader of the attributes stays fast."""

_REMEMBERED = 1024
"""Documents that are kept: those of images and coordinates of one size are the same in every volume."""

_FLAT_KEYS = {"name": "default", "configuration": {"separator": "."}}
"""Of arrays with one chunk: its file needs no folder of its own."""

__all__ = ["VolumeFacts", "array_metadata", "group_document", "root_document", "volume_documents"]


def volume_documents(plan: VolumePlan, facts: VolumeFacts) -> dict[str, bytes]:
    """Return every file of a volume but the shards of its image.

    Parameters
    ----------
    plan : VolumePlan
        The volume.
    facts : VolumeFacts
        What its tasks found.

    Returns
    -------
    dict
        Bytes by path below the volume's folder: ``zarr.json`` (the commit marker), ``0/zarr.json``,
        ``0/image/zarr.json``, two each for the coordinates ``0/z``, ``0/y``, ``0/x``, and two of ``dicom`` where the
        varying tags are large.
    """
    modality = slice_transforms(plan.frames, "modality")
    documents = {"0/zarr.json": group_document(), "0/image/zarr.json": image_document(plan, modality)}
    scale, translation = axis_transforms(plan)
    for axis in "zyx":
        place = plan.array.axes.index(axis)
        documents |= _coordinate(axis, plan, scale[place], translation[place])
    attributes: Json = {
        "ome": ome_attributes(plan, __version__, modality, facts.segments),
        "fastdcm": fastdcm_attributes(plan, facts, modality),
    }
    if facts.slice_tags:
        tags = _json(facts.slice_tags)
        if len(tags) > INLINE_TAGS_BYTES:
            documents |= _bytes_array("dicom", tags)
        else:
            attributes["fastdcm"]["dicom_per_slice"] = facts.slice_tags
    return documents | {"zarr.json": _sealed(documents, attributes)}


def _sealed(documents: Mapping[str, bytes], attributes: Json) -> bytes:
    """Return the root of a volume with the hash of all its documents: xxh3-128 of their bytes and of the attributes.

    The hash is the last key of the ``fastdcm`` attributes, and of what stands before it.
    """
    from xxhash import xxh3_128

    digest = xxh3_128()
    for path in sorted(documents):
        digest.update(path.encode() + b"\0" + documents[path])
    text = _json(attributes)
    digest.update(text)
    start = b'{"zarr_format":3,"node_type":"group","attributes":'
    return start + text.removesuffix(b"}}") + b',"hash":"' + digest.hexdigest().encode() + b'"}}}'


def group_document(attributes: Json | None = None) -> bytes:
    """Return the ``zarr.json`` of a group."""
    if not attributes:
        return _PLAIN_GROUP
    return _json({"zarr_format": 3, "node_type": "group", "attributes": attributes})


def root_document(generation: str, metadata: str, **more: Any) -> bytes:
    """Return the ``zarr.json`` of a store.

    Parameters
    ----------
    generation : str
        Common to the root and its tables; a reader that sees two says so.
    metadata : {"technical", "full", "none"}
        The policy that the store was made by.
    **more
        Further attributes, JSON values.
    """
    privacy = {
        "full": "all tags are kept: names, ids, dates and free text of patients are in this store",
        "technical": "names, ids, dates and free text are left out; UIDs stay: this is no PS3.15 de-identification",
        "none": "no tags are kept; UIDs stay: this is no PS3.15 de-identification",
    }[metadata]
    tables = {"catalog": "catalog.parquet", "files": "files.parquet", "frames": "frames.parquet"}
    ours = {
        "version": FORMAT_VERSION,
        "converter": f"fastdcm {__version__}",
        "generation": generation,
        **tables,
    }
    ours |= {"report": "report.json", "metadata": metadata, "privacy": privacy}
    return group_document({"fastdcm": ours | more})


def image_document(plan: VolumePlan, modality: Transform) -> bytes:
    """Return the ``zarr.json`` of the image; ``modality`` is how its stored values become modality values."""
    if plan.rule.values == "stored" and plan.rule.channels == 1:
        pairs = {*zip(modality.slopes.tolist(), modality.intercepts.tolist(), strict=True)}
        if len(pairs) == 1 and pairs != {(1.0, 0.0)}:
            return _image_document(plan.array, pairs.pop())
    return _image_document(plan.array, None)


@lru_cache(_REMEMBERED)
def _image_document(array: ArraySpec, rescale: tuple[float, float] | None) -> bytes:
    attributes = {} if rescale is None else {"scale_factor": rescale[0], "add_offset": rescale[1]}
    return _json(array_metadata(array) | {"attributes": attributes})


def array_metadata(array: ArraySpec) -> Json:
    """Return the Zarr v3 metadata of a sharded array, without attributes."""
    index_codecs = [{"name": "bytes", "configuration": {"endian": "little"}}, {"name": "crc32c"}]
    sharding = {
        "chunk_shape": list(array.chunks),
        "codecs": inner_codecs(array),
        "index_codecs": index_codecs,
        "index_location": "end",
    }
    fill: float | int | str = array.fill_value
    if np.dtype(array.dtype).kind != "f":
        fill = int(array.fill_value)
    elif math.isnan(array.fill_value):
        fill = "NaN"
    codecs = [{"name": "sharding_indexed", "configuration": sharding}]
    return _array(array.shape, array.dtype, array.shards, fill, codecs, list(array.axes))


def _array(
    shape: Sequence[int], dtype: str, chunks: Sequence[int], fill: Any, codecs: list[Json], names: list[str]
) -> Json:
    return {
        "zarr_format": 3,
        "node_type": "array",
        "shape": list(shape),
        "data_type": dtype,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": list(chunks)}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": fill,
        "codecs": codecs,
        "attributes": {},
        "dimension_names": names,
    }


def coordinates(plan: VolumePlan, axis: str, scale: float, translation: float) -> Floats:
    """Return the (n,) coordinate of z, y or x, mm along the own axis: translation + i x scale, an uneven z as it is."""
    geometry = plan.volume.geometry
    if axis == "z" and not geometry.uniform:
        return np.asarray(geometry.z_mm, dtype=np.float64)
    return _even(plan.array.shape[plan.array.axes.index(axis)], scale, translation)


@lru_cache(_REMEMBERED)
def _even(count: int, scale: float, translation: float) -> Floats:
    """Return evenly spaced coordinates; they are shared, and never changed."""
    return translation + np.arange(count, dtype=np.float64) * scale


def _coordinate(axis: str, plan: VolumePlan, scale: float, translation: float) -> dict[str, bytes]:
    values = coordinates(plan, axis, scale, translation)
    return {
        f"0/{axis}/zarr.json": _coordinate_document(axis, len(values)),
        f"0/{axis}/c.0": values.astype("<f8", copy=False).tobytes(),
    }


@lru_cache(_REMEMBERED)
def _coordinate_document(axis: str, length: int) -> bytes:
    codecs: list[Json] = [{"name": "bytes", "configuration": {"endian": "little"}}]
    document = _array((length,), "float64", (length,), 0.0, codecs, [axis])
    return _json(document | {"attributes": {"units": "mm"}, "chunk_key_encoding": _FLAT_KEYS})


def _bytes_array(path: str, data: bytes) -> dict[str, bytes]:
    document = _array([len(data)], "uint8", [len(data)], 0, [{"name": "bytes"}], ["byte"])
    document["chunk_key_encoding"] = _FLAT_KEYS
    return {f"{path}/zarr.json": _json(document), f"{path}/c.0": data}


_ENCODER = json.JSONEncoder(
    allow_nan=False, check_circular=False, ensure_ascii=False, separators=(",", ":"), default=np.generic.item
)


def _json(value: object) -> bytes:
    """Return strict, compact JSON: no NaN (a ValueError), always valid UTF-8."""
    return _ENCODER.encode(value).encode("utf-8", "replace")


_PLAIN_GROUP = _json({"zarr_format": 3, "node_type": "group", "attributes": {}})
