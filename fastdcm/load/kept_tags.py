"""The DICOM tags that a volume of a store keeps (docs/store.md)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from fastdcm.errors import UsageError
from fastdcm.load.zarrays import open_array
from fastdcm.model import Json

if TYPE_CHECKING:
    from fastdcm.load.volume import Volume


class KeptTags(NamedTuple):
    """PS3.18 JSON of a volume's tags, after the metadata policy."""

    constant: Json
    """What all slices share, by ``GGGGEEEE``."""
    per_slice: Json
    """The others by column: ``{tag: {"vr": ..., "Value": [one a slice]}}``, slices in C order of (t, c, z)."""
    present: tuple[bool, ...]
    """Which of the slices there are."""


def kept_tags(volume: Volume) -> KeptTags:
    """Return the tags of a volume; the varying ones are in an array of their own where they are large.

    Raises
    ------
    UsageError
        They cannot be read.
    """
    ours = volume.attributes["fastdcm"]
    planes = int(np.prod(volume.shape[:-2], dtype=np.int64)) // (3 if volume.colour else 1)
    present = (ours.get("slices") or {}).get("present") or [True] * planes
    per_slice = ours.get("dicom_per_slice")
    if per_slice is None:
        per_slice = _large(volume)
    return KeptTags(ours.get("dicom") or {}, per_slice, tuple(map(bool, present)))


def _large(volume: Volume) -> Json:
    folder = volume.place / "dicom"
    if not (folder / "zarr.json").is_file():
        return {}
    try:
        loaded = json.loads(np.asarray(open_array(folder)[:]).tobytes())
    except (OSError, ValueError) as error:
        raise UsageError(f"{folder} cannot be read: {error}") from None
    return loaded if isinstance(loaded, dict) else {}
