"""Arrays of a store, opened by zarr-python from a folder or from an object store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from fastdcm.places import Place, Url

if TYPE_CHECKING:
    import zarr

    from fastdcm.load.volume import Volume


def open_array(place: Place) -> zarr.Array[Any]:
    """Return an array to read."""
    import zarr

    if not isinstance(place, Url):
        return zarr.open_array(place, mode="r")
    from zarr.storage import ObjectStore

    from fastdcm.objects import locate

    store, key = locate(place.text)
    return zarr.open_array(ObjectStore(store, read_only=True), path=key, mode="r")


def lost_shards(volume: Volume) -> list[str]:
    """Return the places ``0/0/0`` of shards that are not there: they would be read as fill, without an error.

    Raises
    ------
    OSError
        The object store cannot be asked.
    """
    array, folder = volume.array, volume.place / "0" / "image" / "c"
    shards = array.shards or array.chunks
    grid = np.ndindex(*(-(-n // m) for n, m in zip(array.shape, shards, strict=True)))
    wanted = ("/".join(map(str, place)) for place in grid)
    if isinstance(folder, Url):
        there = set(folder.keys())
        return [place for place in wanted if place not in there]
    return [place for place in wanted if not (folder / place).is_file()]
