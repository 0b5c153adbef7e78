"""Where the bytes of frames are: what the index knows of their files, for as many volumes at once as there are.

Taking rows out of Arrow costs as much for one file as for hundreds, so the files of many small volumes are taken
together.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NamedTuple

from fastdcm.model import Frames, FrameSource, Index, Ints, PixelFormat, ValueRule
from fastdcm.series.values import slice_transforms

_PLACE_COLUMNS = (
    "source", "path", "size", "mtime_ns", "pixel_offset", "pixel_length", "table_offset", "table_length",
    "mosaic_tiles",
)  # fmt: skip
_FORMAT_COLUMNS = (
    "transfer_syntax", "rows", "columns", "samples", "planar", "photometric", "bits_allocated", "bits_stored",
    "high_bit", "pixel_representation", "n_frames", "pixel_keyword",
)  # fmt: skip


class SourceFacts(NamedTuple):
    """What ``FrameSource`` says of the file of a frame."""

    place: tuple[str, int, int, int, int, int, int]
    """path, size, mtime_ns, pixel_offset, pixel_length, table_offset, table_length."""
    tiles: int
    format: PixelFormat


def source_facts(index: Index, instances: Ints) -> dict[int, SourceFacts]:
    """Look up the files of some instances.

    Parameters
    ----------
    index : Index
        The instance index.
    instances : ndarray
        (n,) rows of ``index.instances``, in any order.

    Returns
    -------
    dict
        By row; equal formats are the same object, so that they are pickled once.
    """
    from fastdcm.scan.arrow import number_array
    from fastdcm.scan.compact import plain
    from fastdcm.scan.find import decode_path, source_root

    roots = [source_root(source) for source in index.sources]
    table = index.instances.select([*_PLACE_COLUMNS, *_FORMAT_COLUMNS]).take(number_array(instances))
    columns = [plain(column).to_pylist() for column in table.columns]  # not float64: whole numbers are exact
    found = {}
    for instance, *values in zip(instances.tolist(), *columns, strict=True):
        source, path, size, mtime_ns, offset, length, table_offset, table_length, tiles = values[: len(_PLACE_COLUMNS)]
        place = (
            os.path.join(roots[source], decode_path(path)),
            size,
            mtime_ns,
            _or(offset, -1),
            _or(length, -1),
            _or(table_offset, -1),
            _or(table_length, 0),
        )
        found[instance] = SourceFacts(place, _or(tiles, 0), _pixel_format(*values[len(_PLACE_COLUMNS) :]))
    return found


def frame_sources(frames: Frames, rule: ValueRule, files: Mapping[int, SourceFacts]) -> list[FrameSource]:
    """Return where each frame's bytes are and how its values are to be read, in the order of the frames.

    Parameters
    ----------
    frames : Frames
        Frames of one volume.
    rule : ValueRule
        Of the volume.
    files : mapping
        From ``source_facts``, at least of these frames.
    """
    transform = slice_transforms(frames, rule.values)
    columns = (frames.instance, frames.frame, frames.tile, transform.slopes, transform.intercepts, transform.luts)
    return [
        FrameSource(*(file := files[instance]).place, frame, tile, file.tiles, file.format, slope, intercept, lut)
        for instance, frame, tile, slope, intercept, lut in zip(*(column.tolist() for column in columns), strict=True)
    ]


@lru_cache(maxsize=1024)
def _pixel_format(  # noqa: PLR0913 - the columns of a format
    transfer_syntax: str | None,
    rows: int | None,
    columns: int | None,
    samples: int | None,
    planar: int | None,
    photometric: str | None,
    bits_allocated: int | None,
    bits_stored: int | None,
    high_bit: int | None,
    pixel_representation: int | None,
    n_frames: int | None,
    keyword: str | None,
) -> PixelFormat:
    """Return the format of an instance, with what PS3.3 C.7.6.3 has for what is absent."""
    allocated = _or(bits_allocated, 16)
    stored = _or(bits_stored, allocated)
    return PixelFormat(
        transfer_syntax=_or(transfer_syntax, ""),
        rows=_or(rows, 0),
        columns=_or(columns, 0),
        samples=_or(samples, 1),
        planar=_or(planar, 0),
        photometric=_or(photometric, ""),
        bits_allocated=allocated,
        bits_stored=stored,
        high_bit=_or(high_bit, stored - 1),
        signed=pixel_representation == 1,
        n_frames=_or(n_frames, 1),
        keyword=_or(keyword, "PixelData"),
    )


def _or(value: Any, default: Any) -> Any:
    return default if value is None else value
