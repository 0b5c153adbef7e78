"""Every frame of a file, by fastdcm, with and without its compiled modules, and by pydicom."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from pydicom import Dataset
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.processing import apply_color_lut

from fastdcm.model import FrameFault, PixelFormat
from tests.pixels.sources import JPEG, read_all, source_of, value_rule, without_compiled

Array = npt.NDArray[Any]

LOSSY = {JPEG + "50": 1, JPEG + "51": 2, JPEG + "81": 1, JPEG + "91": 1, JPEG + "203": 1}
"""How far lossy grey may be from pydicom; colour may be off by 2, by another rounding and upsampling of chroma."""


class Both(NamedTuple):
    """What the two made of one file."""

    pixels: PixelFormat
    read: Array | None
    """(frames, [channels,] rows, columns) by fastdcm; None where it has a fault."""
    faults: tuple[FrameFault, ...]
    reference: Array | None
    """The same by pydicom; None where it raises."""
    tolerance: int


def both(path: Path) -> Both | None:
    """Read every frame twice; None for a file without pixels."""
    found = source_of(path)
    if found is None:
        return None
    dataset, source = found
    pixels = source.format
    reference = by_pydicom(dataset, pixels)
    palette = pixels.photometric.startswith("PALETTE")
    channels = 3 if palette else pixels.samples
    dtype = "int32" if reference is None else reference.dtype.name
    cells = [source._replace(frame=frame) for frame in range(pixels.n_frames)]
    rule = value_rule(dtype, channels, values="stored")
    out, read = read_all(cells, rule, (pixels.rows, pixels.columns))
    with without_compiled():
        plain, expected = read_all(cells, rule, (pixels.rows, pixels.columns))
    assert read._replace(bytes_read=0) == expected._replace(bytes_read=0)
    assert read.faults or read.overflow or np.array_equal(out, plain, equal_nan=out.dtype.kind == "f")
    grey = LOSSY.get(pixels.transfer_syntax, 0)
    tolerance = 2 if grey and pixels.samples == 3 else grey
    return Both(pixels, None if read.faults else out, read.faults, reference, tolerance)


def by_pydicom(dataset: Dataset, pixels: PixelFormat) -> Array | None:
    """Return what pydicom's first plugin gives, colour as RGB, samples first."""
    try:
        decoder = get_decoder(pixels.transfer_syntax)
        options: dict[str, Any] = {"allow_excess_frames": False}
        values: Array = decoder.as_array(dataset, **options)[0]
    except Exception:  # noqa: BLE001 - pydicom's plugins raise what they like
        return None
    if pixels.photometric.startswith("PALETTE"):
        values = apply_color_lut(values, dataset)[..., :3]
    values = values.reshape(pixels.n_frames, pixels.rows, pixels.columns, -1)
    return values[..., 0] if values.shape[-1] == 1 else np.moveaxis(values, -1, 1)


def difference(case: Both) -> float:
    """Return the largest difference between the two."""
    assert case.read is not None
    assert case.reference is not None
    assert case.read.shape == case.reference.shape
    wide = "f8" if case.read.dtype.itemsize > 1 else "i2"
    pairs = zip(case.read, case.reference, strict=True)
    return max(float(np.abs(ours.astype(wide) - theirs.astype(wide)).max()) for ours, theirs in pairs)
