"""What one source file says of one slice, read by pydicom alone: its values and its place. For ``run/verify.py``."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fastdcm.scan.opened import open_location
from fastdcm.scan.pydicom_once import load_pydicom

if TYPE_CHECKING:
    from pydicom import Dataset

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]

LOSSY = {
    "1.2.840.10008.1.2.4.50",  # JPEG baseline
    "1.2.840.10008.1.2.4.51",  # JPEG extended
    "1.2.840.10008.1.2.4.81",  # JPEG-LS near lossless
    "1.2.840.10008.1.2.4.91",  # JPEG 2000
    "1.2.840.10008.1.2.4.203",  # HTJ2K
}
BIG_ENDIAN = "1.2.840.10008.1.2.2"
NATIVE = {"1.2.840.10008.1.2", "1.2.840.10008.1.2.1", BIG_ENDIAN, "1.2.840.10008.1.2.1.99"}
PLUGINS = ("pydicom", "pillow", "pyjpegls", "pylibjpeg")
"""pydicom's decoders, in this order. GDCM is not among them: it may end the process on a source that was damaged."""
COLOUR_STEPS, GREY_STEPS, GREY_12_BIT_JPEG_STEPS = 2, 1, 2
"""Stored steps by which two right decoders of lossy pixels may differ (behaviour.md, Equality with peers)."""


class Slice(NamedTuple):
    """One stored slice and where it comes from."""

    cell: tuple[int, int, int]
    """(t, c, z)."""
    path: str
    """Empty: unknown."""
    frame: int
    tile: int
    """-1: the whole frame."""
    sop_instance_uid: str | None = None
    """As the store has it."""
    size: int | None = None
    """Bytes of the file when it was converted."""
    mtime_ns: int | None = None


class Identity(NamedTuple):
    """What a header says of its image beside its pixels and its place; None where it does not say."""

    sop_instance_uid: str | None
    series_uid: str | None
    study_uid: str | None
    modality: str | None
    instance_number: int | None


class Place(NamedTuple):
    """Where a header puts a slice: mm, LPS (PS3.3 C.7.6.2.1.1)."""

    position: Floats
    """(3,) centre of the first voxel."""
    axes: Floats | None
    """(3, 2) unit directions of x (along a row) and y (along a column)."""
    spacing: Floats | None
    """(dx, dy)."""


class Expected(NamedTuple):
    """The values that a slice must have, and by how much a lossy one may differ."""

    candidates: tuple[Array, ...]
    """One a decoder of pydicom: all but lossy colour agree."""
    tolerance: float

    def difference(self, values: Array) -> str | None:
        """Say how the values differ from all candidates, None where they agree with one."""
        texts = [_difference(candidate, values, self.tolerance) for candidate in self.candidates]
        return None if None in texts else texts[0]


@dataclass(frozen=True, eq=False)
class SourceFile:
    """A DICOM file as pydicom reads it."""

    dataset: Dataset
    size: int
    mtime_ns: int

    def identity(self) -> Identity:
        """Return the UIDs, the modality and the instance number."""
        names = ("SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID", "Modality")
        uid, series, study, modality = (str(self.dataset.get(name) or "").strip() or None for name in names)
        try:
            number = int(self.dataset.get("InstanceNumber"))
        except (TypeError, ValueError):
            number = None
        return Identity(uid, series, study, modality, number)

    def rescale(self, frame: int) -> tuple[float, float] | None:
        """Return slope and intercept of a frame; None where a Modality LUT stands in for them, or none is there."""
        item = self._item("PixelValueTransformationSequence", frame)
        declared = any(name in item for name in ("RescaleSlope", "RescaleIntercept"))
        if self.dataset.get("ModalityLUTSequence") or "DoseGridScaling" in self.dataset or not declared:
            return None
        return self._transform(frame)

    def place(self, one: Slice) -> Place | None:
        """Return where the header puts a frame; None for mosaics and where it does not say."""
        if one.tile >= 0:
            return None
        orientation = _numbers(self._item("PlaneOrientationSequence", one.frame).get("ImageOrientationPatient"), 6)
        position = self._position(one.frame, orientation)
        if position is None:
            return None
        axes = None
        if orientation is not None:
            columns = orientation.reshape(2, 3).T
            axes = columns / np.linalg.norm(columns, axis=0)
        spacing = _numbers(self._item("PixelMeasuresSequence", one.frame).get("PixelSpacing"), 2)
        return Place(position, axes, None if spacing is None else spacing[::-1])

    def values(self, one: Slice, shape: tuple[int, ...], intensity: Mapping[str, Any]) -> Expected | None:
        """Return the values that a slice must have; None where no plugin here decodes them.

        Parameters
        ----------
        one : Slice
            The frame and its tile.
        shape : tuple of int
            (y, x), or (samples, y, x).
        intensity : mapping
            Of the volume: modality or stored values, and whether MONOCHROME1 is turned over.
        """
        candidates = []
        for stored in self._decoded(one, shape, rgb=intensity.get("photometric_interpretation") == "RGB"):
            values = stored.astype(np.float64)
            if intensity.get("values") != "stored" and len(shape) == 2:
                values = self._modality(stored, one.frame)
            if intensity.get("inverted"):
                values = self._largest(one.frame) - values
            candidates.append(values)
            if not self._lossy:
                break  # lossless plugins agree: one is enough
        return Expected(tuple(candidates), self._tolerance(one.frame, len(shape))) if candidates else None

    # ------------------------------------------------------------------------ headers

    def _item(self, sequence: str, frame: int) -> Dataset:
        """Return the functional group of a frame (its own, then the shared one); a classic header is its own."""
        dataset = self.dataset
        per_frame = dataset.get("PerFrameFunctionalGroupsSequence") or ()
        shared = dataset.get("SharedFunctionalGroupsSequence") or ()
        for group in (*per_frame[frame : frame + 1], *shared[:1]):
            if group.get(sequence):
                item: Dataset = group[sequence][0]
                return item
        return dataset

    def _position(self, frame: int, orientation: Floats | None) -> Floats | None:
        dataset = self.dataset
        position = _numbers(self._item("PlanePositionSequence", frame).get("ImagePositionPatient"), 3)
        if dataset.get("PerFrameFunctionalGroupsSequence") or int(dataset.get("NumberOfFrames") or 1) == 1:
            return position
        offsets = _numbers(dataset.get("GridFrameOffsetVector"))
        if position is None or orientation is None or offsets is None or frame >= len(offsets):
            return None
        normal = np.cross(orientation[:3], orientation[3:])
        moved: Floats = position + normal / np.linalg.norm(normal) * (offsets[frame] - offsets[0])
        return moved

    # ------------------------------------------------------------------------ pixels

    @property
    def _syntax(self) -> str:
        return str(self.dataset.file_meta.get("TransferSyntaxUID", ""))

    @property
    def _lossy(self) -> bool:
        return self._syntax in LOSSY

    def _decoded(self, one: Slice, shape: tuple[int, ...], *, rgb: bool) -> Iterator[Array]:
        """Yield the stored values by each plugin that can decode them."""
        load_pydicom()
        from pydicom.pixels.decoders.base import get_decoder

        try:
            decoder = get_decoder(self._syntax)
            available = decoder.available_plugins
            plugins = ("",) if self._syntax in NATIVE else tuple(name for name in PLUGINS if name in available)
        except NotImplementedError:
            return
        for plugin in plugins:
            try:
                array, properties = decoder.as_array(self.dataset, index=one.frame, decoding_plugin=plugin)
                stored = self._arranged(array, str(properties["photometric_interpretation"]), one.tile, shape, rgb=rgb)
            except Exception:  # noqa: BLE001 - a plugin may raise anything for what it cannot decode
                continue
            yield stored

    def _arranged(self, array: Array, photometric: str, tile: int, shape: tuple[int, ...], *, rgb: bool) -> Array:
        load_pydicom()
        from pydicom.pixels.processing import apply_color_lut

        dataset = self.dataset
        shift = int(dataset.get("HighBit", 0)) + 1 - int(dataset.get("BitsStored", 0))
        if shift > 0 and self._syntax in NATIVE and array.dtype.kind in "iu":
            raise ValueError("pydicom takes the low bits, whatever HighBit says")
        if self._syntax == BIG_ENDIAN and array.dtype.itemsize > 2 and "PixelData" in dataset:
            raise ValueError("pydicom takes whole cells, most writers swap the bytes of 16-bit words (PS3.5 7.3)")
        if rgb and photometric == "PALETTE COLOR":
            array = apply_color_lut(array, dataset)
        elif rgb and photometric != "RGB":
            raise ValueError(f"pydicom leaves {photometric} as it is")
        if tile >= 0:
            across = array.shape[1] // shape[-1]
            row, column = divmod(tile, across)
            array = array[row * shape[-2] :, column * shape[-1] :][: shape[-2], : shape[-1]]
        return np.moveaxis(array, -1, 0) if array.ndim == 3 else array

    def _modality(self, stored: Array, frame: int) -> Floats:
        """Return modality values: a Modality LUT (but XA and RF), else slope and intercept (PS3.3 C.11.1)."""
        tables = self.dataset.get("ModalityLUTSequence")
        if tables and str(self.dataset.get("Modality")) not in ("XA", "RF"):
            return _looked_up(stored, tables[0])
        slope, intercept = self._transform(frame)
        values: Floats = stored.astype(np.float64) * slope + intercept
        return values

    def _transform(self, frame: int) -> tuple[float, float]:
        item = self._item("PixelValueTransformationSequence", frame)
        scaling = self.dataset.get("DoseGridScaling")
        slope = _number(scaling if scaling is not None else item.get("RescaleSlope"), 1.0)
        intercept = _number(item.get("RescaleIntercept"), 0.0)
        return (1.0, 0.0) if not (math.isfinite(slope) and slope and math.isfinite(intercept)) else (slope, intercept)

    def _largest(self, frame: int) -> float:
        """Return the largest modality value that the header declares."""
        bits, signed = int(self.dataset.BitsStored), int(self.dataset.PixelRepresentation)
        low, high = (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if signed else (0, (1 << bits) - 1)
        slope, intercept = self._transform(frame)
        return max(low * slope + intercept, high * slope + intercept)

    def _tolerance(self, frame: int, axes: int) -> float:
        if not self._lossy:
            return 0.0
        if axes > 2:
            return COLOUR_STEPS
        wide = self._syntax.endswith(".4.51") and int(self.dataset.get("BitsStored", 8)) > 8
        return (GREY_12_BIT_JPEG_STEPS if wide else GREY_STEPS) * abs(self._transform(frame)[0])


FIRST_BYTES = 2**20
"""Of a file at a URL: most are read by one request, others go on from there."""


def open_source(path: str) -> SourceFile | None:
    """Read a file by pydicom; None where it is not there or is no DICOM any more."""
    if not path:
        return None
    load_pydicom()
    from pydicom import dcmread

    try:
        with open_location(path, FIRST_BYTES) as reader:
            dataset = dcmread(reader.file(), force=True)
            size, mtime_ns = reader.size, reader.mtime_ns
    except Exception:  # noqa: BLE001 - a damaged file makes pydicom raise anything; then it cannot bear witness
        return None
    return SourceFile(dataset, size, mtime_ns) if "Rows" in dataset else None


def _difference(expected: Array, values: Array, tolerance: float) -> str | None:
    if expected.shape != values.shape:
        return f"has the shape {values.shape}, in the file {expected.shape}"
    wanted = expected.astype(np.float32).astype(np.float64) if values.dtype == np.float32 else expected
    found = values.astype(np.float64)
    slack = tolerance * (1 + 1e-6)  # the product of a slope is rounded
    wrong = ~((np.abs(found - wanted) <= slack) | (np.isnan(found) & np.isnan(wanted)) | (found == wanted))
    if not wrong.any():
        return None
    place = tuple(int(index) for index in np.argwhere(wrong)[0])
    return (
        f"{int(wrong.sum())} voxels differ from the file, the first at {place}: {found[place]:g} for {wanted[place]:g}"
    )


def _looked_up(stored: Array, table: Dataset) -> Floats:
    """Return the values of a Modality LUT (PS3.3 C.11.1.1); what is outside takes the first or last entry."""
    n, first, bits = (int(value) for value in table.LUTDescriptor)
    data = table.LUTData
    entries = np.frombuffer(data, "<u2") if isinstance(data, bytes) else np.array(data, dtype=np.int64) & 0xFFFF
    if bits <= 8 and len(entries) < (n or 65536):
        entries = entries.astype("<u2").view(np.uint8)
    if stored.dtype.kind == "i" and first > 0x7FFF:
        first -= 0x10000
    index = np.clip(stored.astype(np.int64) - first, 0, (n or 65536) - 1)
    values: Floats = entries[index].astype(np.float64)
    return values


def _numbers(value: Any, length: int | None = None) -> Floats | None:
    """Return the numbers of an element; None where one is absent or unreadable, or there are too few."""
    try:
        numbers = np.array([float(part) for part in value], dtype=np.float64)
    except (TypeError, ValueError):
        return None
    return numbers if np.isfinite(numbers).all() and (length is None or len(numbers) == length) else None


def _number(value: Any, absent: float) -> float:
    if value is None or value == "":
        return absent
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan
