"""Every stored frame of a store against pydicom's and GDCM's decoding of the same frame of the same instance.

Frames are found by ``frames.parquet`` and ``files.parquet``. Modality values (PS3.3 C.11.1), palettes
(C.7.6.3.1.5) and tiles
are worked out here from the source file.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pydicom
import pydicom.config
import zarr
from pydicom.dataset import Dataset
from pydicom.pixels.processing import apply_color_lut, apply_modality_lut, convert_color_space
from pydicom.pixels.utils import get_nr_frames, pixel_array

from benchmarks.child import Child, Refusal
from benchmarks.judged import Finding, Judged, Row, syntax_name

Array = npt.NDArray[Any]

LOSSY: Mapping[str, tuple[int, int]] = {
    "1.2.840.10008.1.2.4.50": (1, 2),
    "1.2.840.10008.1.2.4.51": (2, 2),
    "1.2.840.10008.1.2.4.81": (1, 2),
    "1.2.840.10008.1.2.4.91": (1, 2),
    "1.2.840.10008.1.2.4.93": (1, 2),
    "1.2.840.10008.1.2.4.203": (1, 2),
}
"""Transfer syntaxes whose decoders may differ, and by how much (grey, colour)."""

SEGMENTATIONS = ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7")  # numbers, not colours


class Decoded(NamedTuple):
    """Stored frames of a file."""

    frames: Array
    """(n, rows, columns[, samples])."""


def check_frames(judged: Judged, child: Child) -> Iterator[Finding]:
    """Compare every stored frame with pydicom and, in a child process, GDCM."""
    slices = _Slices(judged)
    rows_of: dict[int, list[Row]] = defaultdict(list)
    for row in judged.frames:
        rows_of[row["file"]].append(row)
    for number, rows in rows_of.items():
        path = judged.path(number)
        dataset = read(path)
        for reference, answer in (("pydicom", by_pydicom(dataset)), ("GDCM", child.call(by_gdcm, str(path)))):
            yield from _check_file(judged, reference, dataset, answer, rows, slices)


def check_left_out(judged: Judged) -> Iterator[Finding]:
    """Find the files that pydicom decodes and the store does not hold."""
    for number, row in judged.files.items():
        if row["outcome"] not in ("failed", "not-dicom", "not-image", "conflict"):
            continue
        try:
            dataset = read(judged.path(number))
        except Exception:  # noqa: BLE001  whatever pydicom raises on what is no DICOM: it agrees with fastdcm
            continue
        if isinstance(by_pydicom(dataset), Decoded):
            syntax = syntax_name(str(dataset.file_meta.TransferSyntaxUID))
            outcome = f"{row['outcome']} / {row['code']}"
            yield Finding("pydicom", "none", syntax, "left out", judged.name(number), outcome)


def read(path: Path) -> Dataset:
    """Return the dataset of any file that pydicom reads; one without file meta is taken as implicit little endian."""
    dataset = pydicom.dcmread(path, force=True)
    if dataset.file_meta.get("TransferSyntaxUID") is None:
        dataset.file_meta.TransferSyntaxUID = pydicom.uid.ImplicitVRLittleEndian
    return dataset


def by_pydicom(dataset: Dataset) -> Decoded | Refusal:
    """Return the frames as pydicom decodes them, YBR turned to RGB."""
    try:
        pixels = np.asarray(pixel_array(dataset))
    except Exception as error:  # noqa: BLE001  whatever pydicom's plugins raise: it has no answer then
        return Refusal(f"{type(error).__name__}: {error}")
    return Decoded(pixels[None] if get_nr_frames(dataset, warn=False) == 1 else pixels)


def by_gdcm(path: str) -> Decoded:
    """Return the frames as GDCM decodes them, YBR turned to RGB (PS3.3 C.7.6.3.1.2); to be called in a child."""
    import gdcm

    reader = gdcm.ImageReader()
    reader.SetFileName(path)
    if not reader.Read():
        raise ValueError("GDCM cannot read it")
    image = reader.GetImage()
    size = list(image.GetDimensions())
    format_ = image.GetPixelFormat()
    samples, bits = format_.GetSamplesPerPixel(), format_.GetBitsAllocated()
    raw = image.GetBuffer().encode("utf-8", "surrogateescape")  # its Python binding gives bytes as text
    columns, rows, n = [*size, 1][:3]
    if bits == 1:
        flat = np.unpackbits(np.frombuffer(raw, np.uint8), bitorder="little")[: n * rows * columns]
        return Decoded(flat.reshape(n, rows, columns))
    kind = "i" if format_.GetPixelRepresentation() else "u"
    text = format_.GetScalarTypeAsString()
    flat = np.frombuffer(raw, f"f{bits // 8}" if text.startswith("FLOAT") else f"{kind}{bits // 8}")
    if samples == 1:
        return Decoded(flat.reshape(n, rows, columns))
    planar = image.GetPlanarConfiguration() == 1
    shape = (n, samples, rows, columns) if planar else (n, rows, columns, samples)
    frames = flat.reshape(shape)
    frames = np.moveaxis(frames, 1, -1) if planar else frames
    photometric = str(image.GetPhotometricInterpretation().GetString()).strip()
    if photometric in ("YBR_FULL", "YBR_FULL_422") and bits == 8:
        frames = convert_color_space(frames, photometric, "RGB")
    return Decoded(frames)


def _check_file(
    judged: Judged, reference: str, dataset: Dataset, answer: Decoded | Refusal, rows: list[Row], slices: _Slices
) -> Iterator[Finding]:
    syntax = syntax_name(str(dataset.file_meta.TransferSyntaxUID))
    for row in rows:
        verdict, text = "refused", answer.text if isinstance(answer, Refusal) else ""
        if isinstance(answer, Decoded):
            try:
                text = _differs(dataset, answer.frames, row, slices.of(row)) or ""
            except (IndexError, ValueError, AttributeError) as error:  # other frames than the header says
                text = f"{type(error).__name__}: {error}"
            verdict = "differs" if text else "equal"
        volume, cell = str(judged.store / row["volume"]), (row["t"] or 0, row["c"] or 0, row["z"])
        file = judged.name(row["file"])
        yield Finding(reference, judged.kind(row["volume"]), syntax, verdict, file, text, volume, cell)


def _differs(dataset: Dataset, frames: Array, row: Row, found: Array) -> str | None:
    if str(dataset.get("SOPInstanceUID", "")) != (row["sop_instance_uid"] or ""):
        return "another SOP Instance UID"
    expected = expected_frame(dataset, frames, row, found.shape[-2:])
    return compare_values(found, expected, str(dataset.file_meta.TransferSyntaxUID))


def expected_frame(dataset: Dataset, frames: Array, row: Row, shape: tuple[int, ...]) -> Array:
    """Return what the slice of a stored frame should hold: (rows, columns) or (channels, rows, columns)."""
    frame = frames[row["frame"]]
    is_palette = dataset.PhotometricInterpretation == "PALETTE COLOR"
    if is_palette and dataset.SOPClassUID not in SEGMENTATIONS and dataset.get("RedPaletteColorLookupTableDescriptor"):
        return np.moveaxis(apply_color_lut(frame, with_little_endian_palette(dataset)), -1, 0)
    if dataset.SamplesPerPixel > 1:
        return np.moveaxis(frame, -1, 0)
    if row["tile"] is not None:
        side_y, side_x = shape
        y, x = divmod(row["tile"], frame.shape[1] // side_x)
        frame = frame[y * side_y : (y + 1) * side_y, x * side_x : (x + 1) * side_x]
    return modality_values(dataset, row["frame"], frame)


def with_little_endian_palette(dataset: Dataset) -> Dataset:
    """Return the dataset with a palette for pydicom's arithmetic, which takes the words of OW as little endian."""
    if dataset.file_meta.TransferSyntaxUID != pydicom.uid.ExplicitVRBigEndian:
        return dataset
    turned = Dataset()
    turned.file_meta = pydicom.dataset.FileMetaDataset()
    turned.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    for element in dataset.group_dataset(0x0028):
        turned.add_new(element.tag, element.VR, element.value)
        if element.keyword.endswith("PaletteColorLookupTableData") and element.VR == "OW":
            turned[element.tag].value = np.frombuffer(element.value, ">u2").astype("<u2").tobytes()
    return turned


def modality_values(dataset: Dataset, frame: int, stored: Array) -> Array:
    """Return float64 modality values of one frame, by pydicom's arithmetic or the functional group's numbers."""
    values = stored.astype(np.float64)
    group = macro_item(dataset, frame, "PixelValueTransformationSequence")
    if group is not None:
        return values * float(group.RescaleSlope) + float(group.RescaleIntercept)
    if dataset.get("DoseGridScaling") is not None:
        return values * float(dataset.DoseGridScaling)
    if not dataset.get("ModalityLUTSequence"):
        slope, intercept = dataset.get("RescaleSlope"), dataset.get("RescaleIntercept")
        if slope == 0:  # unreadable by the standard: stored values
            return values
        return values * float(1 if slope is None else slope) + float(intercept or 0)
    if dataset.Modality in ("XA", "RF"):  # it linearises there, and is not applied
        return values
    return np.asarray(apply_modality_lut(stored, dataset), np.float64)


def macro_item(dataset: Dataset, frame: int, keyword: str) -> Dataset | None:
    """Return the first item of a functional group macro of a frame, per frame over shared (PS3.3 C.7.6.16)."""
    per_frame = dataset.get("PerFrameFunctionalGroupsSequence")
    shared = dataset.get("SharedFunctionalGroupsSequence")
    for groups in ((per_frame[frame] if per_frame and frame < len(per_frame) else None), shared[0] if shared else None):
        if groups is not None and groups.get(keyword):
            found = groups[keyword].value[0]
            assert isinstance(found, Dataset)
            return found
    return None


class _Slices:
    """Slices of the store, one volume in memory."""

    def __init__(self, judged: Judged) -> None:
        self._judged = judged
        self._volume: str | None = None

    def of(self, row: Row) -> Array:
        """Return the slice that a row of ``frames.parquet`` names, colour first."""
        if row["volume"] != self._volume:
            array = zarr.open_array(self._judged.store / row["volume"] / "0" / "image", mode="r")
            self._names = "".join(str(name) for name in array.metadata.dimension_names or ())  # type: ignore[union-attr]
            self._data = np.asarray(array[...])
            self._volume = row["volume"]
        index = tuple(
            slice(None) if name in "yx" or (name == "c" and row["c"] is None) else (row[name] or 0)
            for name in self._names
        )
        return np.asarray(self._data[index])


def compare_values(found: Array, expected: Array, syntax: str) -> str | None:
    """Return None where equal, else the difference in words; floats are compared after the same rounding."""
    if found.shape != expected.shape:
        return f"shape {found.shape} is not {expected.shape}"
    if found.dtype == np.float32:
        expected = expected.astype(np.float32)
    same = (found == expected) | (np.isnan(found.astype(np.float64)) & np.isnan(expected.astype(np.float64)))
    if same.all():
        return None
    largest = float(np.abs(found.astype(np.float64) - expected.astype(np.float64)).max())
    bound = LOSSY.get(syntax, (0, 0))[found.ndim > 2]
    return None if largest <= bound else f"differs by up to {largest:g}"
