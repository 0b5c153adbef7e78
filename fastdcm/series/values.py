"""What number type a volume gets, and how stored values become the array's values.

Decided from the headers of all slices, before anything is allocated: the range that BitsStored and PixelRepresentation
allow (PS3.3 C.7.6.3.1), taken through the Modality LUT (PS3.3 C.11.1), and then the first type that holds it exactly.
VOI and presentation LUTs are never applied.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from fastdcm.errors import Code
from fastdcm.model import Floats, Frames, Options, Reason, Texts, ValueRule, Volume

INTEGER_TYPES = ("uint8", "int8", "uint16", "int16", "int32", "uint32")
"""Tried in this order; float64 is the last resort."""

LINEARISING = frozenset({"XA", "RF"})
"""Modalities whose Modality LUT undoes the detector's logarithm (PS3.3 C.8.7.1.1.2) and is no unit of measure."""

SEGMENTATION_CLASSES = frozenset({"1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7"})

ALWAYS_LOSSY = frozenset(f"1.2.840.10008.1.2.4.{number}" for number in (50, 51, 53, 55))
"""Transfer syntaxes that cannot be lossless, whatever (0028,2110) says."""
MAYBE_LOSSY = frozenset(f"1.2.840.10008.1.2.4.{number}" for number in (81, 91, 93, 112, 203))
"""Transfer syntaxes that are lossy unless (0028,2110) says 00."""


class Transform(NamedTuple):
    """How the stored values of each frame become modality values; all (n,)."""

    slopes: Floats
    intercepts: Floats
    luts: Texts
    """``modality_lut`` bytes of ``model.COLUMNS``, or None; where there is one, slope is 1 and intercept 0."""


class Range(NamedTuple):
    """Smallest and largest value that the headers allow."""

    low: float
    high: float


def is_lossy_compression(syntax: str | None, flag: str | None) -> bool:
    """Tell whether pixels went through a lossy compression, by transfer syntax and (0028,2110)."""
    flag = (flag or "").strip()
    return flag == "01" or syntax in ALWAYS_LOSSY or (syntax in MAYBE_LOSSY and flag != "00")


def used_rows(volume: Volume) -> npt.NDArray[np.int64]:
    """Return the rows of the series' frames that the volume uses, in cell order, absent cells left out."""
    return volume.cells[volume.cells >= 0]


def is_segmentation(frames: Frames) -> bool:
    """Tell whether the frames are of a segmentation object (PS3.3 A.51)."""
    return len(frames) > 0 and frames.texts["sop_class_uid"][0] in SEGMENTATION_CLASSES


def channel_count(frames: Frames) -> int:
    """Return the length of the sample axis: 3 for colour and for palettes that are expanded, 1 for grey."""
    if _has_palette(frames):
        return 3
    samples = frames.numbers["samples"][0]
    return int(samples) if samples > 1 else 1


def slice_transforms(frames: Frames, values: str) -> Transform:
    """Return slope, intercept and LUT of every frame, as they are to be applied.

    Absent is 1 and 0, and so are an unreadable rescale, colour, a LUT of XA and RF, and ``values="stored"``.

    Parameters
    ----------
    frames : Frames
        Frames of one volume, at least one.
    values : {"modality", "stored"}
        What the array is to hold.
    """
    count = len(frames)
    luts: Texts = np.empty(count, dtype=object)  # None everywhere
    if values == "stored" or channel_count(frames) > 1:
        return Transform(np.ones(count), np.zeros(count), luts)
    usable, has_lut = frames.rescaled, has_modality_lut(frames)
    if has_lut.any():
        applied = has_lut & ~_linearising(frames)
        luts[applied] = frames.texts["modality_lut"][applied]
        usable = usable & ~has_lut
    slopes, intercepts = frames.numbers["slope"], frames.numbers["intercept"]
    return Transform(
        np.where(np.isfinite(slopes) & usable, slopes, 1.0),
        np.where(np.isfinite(intercepts) & usable, intercepts, 0.0),
        luts,
    )


def has_modality_lut(frames: Frames) -> npt.NDArray[np.bool_]:
    """Return (n,) True where a frame has a Modality LUT Sequence with entries."""
    luts = frames.texts["modality_lut"].tolist()
    return np.array([lut is not None and len(lut) > 4 for lut in luts], dtype=np.bool_)


def lut_entries(lut: bytes) -> tuple[int, npt.NDArray[np.uint16]]:
    """Return the first stored value mapped and the entries of a ``modality_lut`` value (PS3.3 C.11.1.1.1)."""
    return int.from_bytes(lut[:4], "little", signed=True), np.frombuffer(lut, "<u2", offset=4)


def declared_range(frames: Frames, transform: Transform) -> Range | None:
    """Return the range of output values that the headers allow; None for float pixel data, which has none.

    Parameters
    ----------
    frames : Frames
        Frames of one volume, at least one.
    transform : Transform
        Of these frames, from ``slice_transforms``.
    """
    if frames.texts["pixel_keyword"][0] in ("FloatPixelData", "DoubleFloatPixelData"):
        return None
    if _has_palette(frames):
        bits = np.nanmax(np.append(frames.numbers["palette_bits"], 8))
        return Range(0.0, 65535.0 if bits > 8 else 255.0)
    numbers = frames.numbers
    columns = (numbers["bits_allocated"], numbers["bits_stored"], numbers["pixel_representation"], *transform)
    ends: list[float] = []
    for allocated, stored, sign, slope, intercept, lut in set(zip(*(one.tolist() for one in columns), strict=True)):
        if lut is not None:
            entries = lut_entries(lut)[1]
            ends += float(entries.min()), float(entries.max())
        else:
            ends += (end * slope + intercept for end in _stored_range(allocated, stored, signed=sign == 1))
    return Range(min(ends), max(ends))


def integer_type(limits: Range) -> str:
    """Return the first type that holds every whole number of the range exactly."""
    for name in INTEGER_TYPES:
        info = np.iinfo(name)
        if info.min <= limits.low and limits.high <= info.max:
            return name
    return "float64"


def fill_value_of(dtype: str, padding_value: float | None, *, segmentation: bool) -> float:
    """Return what absent slices hold: 0 for a segmentation, NaN, the padding if it fits, else the type's minimum."""
    if segmentation:
        return 0.0
    if np.dtype(dtype).kind == "f":
        return math.nan
    info = np.iinfo(dtype)
    if padding_value is not None and padding_value.is_integer() and info.min <= padding_value <= info.max:
        return padding_value
    return float(info.min)


def value_rule(frames: Frames, volume: Volume, options: Options) -> tuple[ValueRule, tuple[Reason, ...]]:
    """Decide the type and the transform of a volume.

    Parameters
    ----------
    frames : Frames
        The series' frames.
    volume : Volume
        One volume of it.
    options : Options
        ``values`` and ``invert_monochrome1`` are used.

    Returns
    -------
    rule : ValueRule
        With ``dtype_fallback`` where 16-bit data may not fit int16.
    reasons : tuple of Reason
        What the volume is to be flagged with.
    """
    rows = used_rows(volume)
    used = frames if len(rows) == len(frames) else frames.take(rows)
    header = _common_header(used)
    if header is None:
        return _decide(used, options.values, invert_monochrome1=options.invert_monochrome1)
    return _decide_once(header, options.values, options.invert_monochrome1)


_NUMBERS = (
    "slope", "intercept", "samples", "palette_bits", "bits_allocated", "bits_stored", "pixel_representation", "padding",
    "padding_limit",
)  # fmt: skip
_TEXTS = ("photometric", "sop_class_uid", "pixel_keyword", "transfer_syntax", "lossy", "modality", "modality_lut")
"""All columns that the rule of a volume is made from."""


def _common_header(frames: Frames) -> tuple[Any, ...] | None:
    """Return what the rule is made from where all frames agree in it, as they mostly do; else None."""
    if frames.texts["modality_lut"][0] is not None or not frames.rescaled.all():
        return None
    found: list[Any] = []
    for name in _NUMBERS:
        column = frames.numbers[name]
        first = float(column[0])
        known = first == first
        if len(column) > 1 and not (column == first if known else np.isnan(column)).all():
            return None
        found.append(first if known else None)
    for name in _TEXTS:
        texts = frames.texts[name].tolist()
        if texts.count(texts[0]) != len(texts):
            return None
        found.append(texts[0])
    return tuple(found)


@lru_cache(maxsize=1024)
def _decide_once(
    header: tuple[Any, ...], values: Literal["modality", "stored"], invert_monochrome1: bool
) -> tuple[ValueRule, tuple[Reason, ...]]:
    """Decide for frames that agree in their header: one of them tells all."""
    none = np.zeros(1, dtype=np.int64)
    told = dict(zip((*_NUMBERS, *_TEXTS), header, strict=True))
    numbers = {name: np.array([np.nan if told[name] is None else told[name]]) for name in _NUMBERS}
    texts = {name: np.array([told[name]], dtype=object) for name in _TEXTS}
    one = Frames(none, none, none - 1, numbers, texts, np.ones(1, dtype=np.bool_))
    return _decide(one, values, invert_monochrome1=invert_monochrome1)


def _decide(
    used: Frames, values: Literal["modality", "stored"], *, invert_monochrome1: bool
) -> tuple[ValueRule, tuple[Reason, ...]]:
    """Decide for the frames of one volume."""
    transform = slice_transforms(used, values)
    photometric = used.texts["photometric"][0]
    invert = invert_monochrome1 and photometric == "MONOCHROME1"
    limits = declared_range(used, transform)
    dtype, fallback = _types(used, transform, limits, invert=invert)
    padding, padding_value = _padding(used, transform)
    if invert and padding_value is not None and limits is not None:
        padding_value = limits.high - padding_value
    channels = channel_count(used)
    rule = ValueRule(
        values=values,
        dtype=dtype,
        dtype_fallback=fallback,
        channels=channels,
        photometric=_array_photometric(photometric, channels, invert=invert),
        source_photometric=photometric or "",
        rescale_per_slice=not (_same(transform.slopes) and _same(transform.intercepts)),
        padding_stored=padding,
        padding_limit_stored=_only_whole(used.numbers["padding_limit"]) if padding is not None else None,
        padding_value=padding_value,
        fill_value=fill_value_of(dtype, padding_value, segmentation=is_segmentation(used)),
        invert=invert,
        lossy=_is_lossy(used),
    )
    return rule, tuple(_reasons(used, transform, lossy=rule.lossy))


def _types(frames: Frames, transform: Transform, limits: Range | None, *, invert: bool) -> tuple[str, str | None]:
    """Return the planned type and the one to fall back to."""
    if limits is None:
        return ("float64" if frames.texts["pixel_keyword"][0] == "DoubleFloatPixelData" else "float32"), None
    whole = np.concatenate([transform.slopes, transform.intercepts])
    if np.any(whole != np.floor(whole)):
        return "float32", None
    if invert:
        limits = Range(min(limits.low, 0.0), max(limits.high, limits.high - limits.low))
    dtype = integer_type(limits)
    if _has_palette(frames):
        unknown = np.any(np.isnan(frames.numbers["palette_bits"]))
        return dtype, "uint16" if unknown and dtype == "uint8" else None
    # The headers of 16-bit CT allow far more than scanners write: int16 holds it, and writing checks that it did.
    if np.all(frames.numbers["bits_allocated"] == 16) and np.dtype(dtype).itemsize > 2:
        return "int16", dtype
    return dtype, None


def _stored_range(allocated: float, stored: float, *, signed: bool) -> tuple[float, float]:
    """Return smallest and largest stored value (PS3.3 C.7.6.3.1.3); NaN: absent."""
    allocated = 16.0 if math.isnan(allocated) else allocated
    bits = stored if 1 <= stored <= allocated else allocated
    values = math.inf if bits > 1023 else 2.0**bits  # as many as no type holds
    return (-values / 2, values / 2 - 1.0) if signed else (0.0, values - 1.0)


def _padding(frames: Frames, transform: Transform) -> tuple[int | None, float | None]:
    """Return PixelPaddingValue as stored and as modality value, each None where absent or not one for all slices."""
    padding = _only_whole(frames.numbers["padding"])
    if padding is None or channel_count(frames) > 1:
        return None, None
    lut = transform.luts[0]
    if any(other != lut for other in transform.luts) or not (_same(transform.slopes) and _same(transform.intercepts)):
        return padding, None
    if lut is not None:
        first, entries = lut_entries(lut)
        return padding, float(entries[min(max(padding - first, 0), len(entries) - 1)])
    value = padding * float(transform.slopes[0]) + float(transform.intercepts[0])
    return padding, value if value.is_integer() else float(np.float32(value))


def _array_photometric(source: str | None, channels: int, *, invert: bool) -> str:
    """Return the photometric interpretation of the array."""
    if channels == 3:
        return "RGB"
    if invert or (not source and channels == 1):
        return "MONOCHROME2"
    return source or ""


def _reasons(frames: Frames, transform: Transform, *, lossy: bool) -> list[Reason]:
    """Return what the value rule flags."""
    found = []
    bad = int(np.count_nonzero(~frames.rescaled))
    if bad and channel_count(frames) == 1:
        message = f"RescaleSlope or RescaleIntercept of {bad} of {len(frames)} frames is 0 or unreadable; stored values"
        found.append(Reason(Code.BAD_RESCALE, f"{message} kept there"))
    if any(lut is not None for lut in transform.luts):
        found.append(Reason(Code.MODALITY_LUT, "A Modality LUT Sequence was applied instead of slope and intercept"))
    if np.any(has_modality_lut(frames) & _linearising(frames)):
        message = "The Modality LUT of XA and RF linearises the detector; it was not applied, stored values kept"
        found.append(Reason(Code.LUT_NOT_APPLIED, message))
    if lossy:
        found.append(Reason(Code.LOSSY, "The pixels went through a lossy compression"))
    return found


def _has_palette(frames: Frames) -> bool:
    """Tell whether a palette turns the stored values into colour; that of a segmentation only suggests colours."""
    return frames.texts["photometric"][0] == "PALETTE COLOR" and not is_segmentation(frames)


def _linearising(frames: Frames) -> npt.NDArray[np.bool_]:
    return np.array([modality in LINEARISING for modality in frames.texts["modality"]], dtype=np.bool_)


def _is_lossy(frames: Frames) -> bool:
    pairs = zip(frames.texts["transfer_syntax"].tolist(), frames.texts["lossy"].tolist(), strict=True)
    return any(is_lossy_compression(syntax, flag) for syntax, flag in set(pairs))


def _same(column: Floats) -> bool:
    return bool(np.all(column == column[0]))


def _only_whole(column: Floats) -> int | None:
    """Return the whole number that a column holds in every row, None where there is none or several."""
    value = float(column[0])
    return int(value) if np.all(column == value) and value.is_integer() else None
