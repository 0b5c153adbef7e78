"""Tiny valid DICOM of every kind that the tests need, with the values and the affine it must become.

Expected affines are computed here from the formula of PS3.3 C.7.6.2.1.1, expected values from C.11.1, and neither from
fastdcm. Slices are asymmetric, distinct, and their sides are no multiple of a block; in-plane spacings are unequal.
Everything is deterministic: names and UIDs follow from the arguments.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import imagecodecs
import numpy as np
import numpy.typing as npt
from pydicom import uid as uids
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate, encapsulate_extended
from pydicom.pixels.encoders.native import _encode_frame as rle_encode  # the one encoder pydicom itself has
from pydicom.uid import UID, generate_uid

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]
Edit = Callable[[int, Dataset], None]

AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
SAGITTAL = (0.0, 1.0, 0.0, 0.0, 0.0, -1.0)
CORONAL = (1.0, 0.0, 0.0, 0.0, 0.0, -1.0)
OBLIQUE = (0.8, 0.6, 0.0, -0.36, 0.48, 0.8)
"""Orthogonal, of unit length, parallel to no axis."""

JPEG_XL_LOSSLESS = UID("1.2.840.10008.1.2.4.110")

SOP_CLASSES: Mapping[str, UID] = {
    "CT": uids.CTImageStorage,
    "MR": uids.MRImageStorage,
    "PT": uids.PositronEmissionTomographyImageStorage,
    "CR": uids.ComputedRadiographyImageStorage,
    "DX": uids.DigitalXRayImageStorageForPresentation,
    "MG": uids.DigitalMammographyXRayImageStorageForPresentation,
    "US": uids.UltrasoundImageStorage,
    "XA": uids.XRayAngiographicImageStorage,
    "OT": uids.SecondaryCaptureImageStorage,
}


@dataclass(frozen=True, slots=True, eq=False)
class Series:
    """What was written, and what it must become."""

    paths: tuple[Path, ...]
    """Files in the order in which they were made."""
    values: Array
    """Expected modality values, [t, c,] z, y, x, slices ascending along row x column."""
    affine: Floats | None
    """(4, 4) expected affine: voxel centre (i=x, j=y, k=z) to LPS mm; None where there must be none."""
    positions: Floats
    """(z, 3) ImagePositionPatient in the order of ``values``."""
    study_uid: str
    series_uid: str
    datasets: tuple[Dataset, ...] = field(repr=False, default=())


def uid(*names: object) -> str:
    """Return a UID that follows from the names alone."""
    return str(generate_uid(entropy_srcs=[repr(name) for name in ("fastdcm-tests", *names)]))


# ---------------------------------------------------------------------------- what is expected


def normal_of(orientation: Sequence[float]) -> Floats:
    """Return row x column, (3,)."""
    normal: Floats = np.cross(np.asarray(orientation[:3], np.float64), np.asarray(orientation[3:], np.float64))
    return normal


def affine_of(
    origin: npt.ArrayLike, orientation: Sequence[float], spacing: Sequence[float], step: npt.ArrayLike
) -> Floats:
    """Return the (4, 4) matrix of PS3.3 C.7.6.2.1.1 with the slice step as third column; ``spacing`` is (dy, dx)."""
    affine = np.eye(4)
    affine[:3, 0] = np.asarray(orientation[:3]) * spacing[1]
    affine[:3, 1] = np.asarray(orientation[3:]) * spacing[0]
    affine[:3, 2] = step
    affine[:3, 3] = origin
    return affine


def modality_values(stored: Array, slopes: Sequence[float], intercepts: Sequence[float]) -> Array:
    """Return stored x slope + intercept, one pair a slice (first axis): int64 where all are whole, else float32."""
    slope = np.asarray(slopes, np.float64).reshape(-1, *[1] * (stored.ndim - 1))
    intercept = np.asarray(intercepts, np.float64).reshape(slope.shape)
    values = stored.astype(np.float64) * slope + intercept
    whole = bool(np.all(slope == np.round(slope)) and np.all(intercept == np.round(intercept)))
    return values.astype(np.int64) if whole else values.astype(np.float32)


def make_pixels(n: int, rows: int, columns: int, *, bits: int = 12, signed: bool = False, seed: int = 0) -> Array:
    """Return (n, rows, columns) stored values: smooth, asymmetric, different in every slice, noise on top.

    The type is the smallest of 8, 16 and 32 bits that holds ``bits``.
    """
    random = np.random.default_rng(seed)
    z, y, x = np.mgrid[0:n, 0:rows, 0:columns].astype(np.float64)
    wave = np.sin((x + 3 * z) / 5 + seed) + np.cos((y * 1.3 - z) / 4) + x / columns + 2 * y / rows + z / max(n, 1)
    wave = (wave - wave.min()) / (np.ptp(wave) or 1.0)
    top = 2.0 ** min(bits, 30)
    values = wave * top * 0.8 + random.uniform(0, top * 0.1, wave.shape)
    if signed:
        values -= top / 2
    size = 8 if bits <= 8 else 16 if bits <= 16 else 32
    typed: Array = values.astype(np.dtype(f"{'int' if signed else 'uint'}{size}"))
    return typed


# ---------------------------------------------------------------------------- encoding


def encode_frame(frame: Array, syntax: str, bits_stored: int) -> bytes:
    """Return one frame, (rows, columns) or (rows, columns, 3), as a codestream of the transfer syntax."""
    unsigned = frame.view(frame.dtype.str.replace("i", "u"))
    if syntax == uids.RLELossless:
        return _encode_rle(frame, bits_stored)
    if syntax == uids.JPEGBaseline8Bit:
        return bytes(imagecodecs.jpeg8_encode(frame, level=95))
    if syntax == uids.JPEGExtended12Bit:
        return bytes(imagecodecs.jpeg8_encode(unsigned, level=98, bitspersample=12))
    if syntax in (uids.JPEGLossless, uids.JPEGLosslessSV1):
        predictor = 1 if syntax == uids.JPEGLosslessSV1 else 7
        return bytes(imagecodecs.jpeg8_encode(unsigned, lossless=True, predictor=predictor, bitspersample=bits_stored))
    if syntax in (uids.JPEGLSLossless, uids.JPEGLSNearLossless):
        return bytes(imagecodecs.jpegls_encode(unsigned, level=0 if syntax == uids.JPEGLSLossless else 1))
    if syntax == uids.JPEG2000Lossless:
        return bytes(imagecodecs.jpeg2k_encode(frame, level=0, codecformat="j2k", reversible=True))
    if syntax == uids.JPEG2000:
        return bytes(imagecodecs.jpeg2k_encode(frame, level=80, codecformat="j2k"))
    if syntax in (uids.HTJ2KLossless, uids.HTJ2KLosslessRPCL):
        return bytes(imagecodecs.htj2k_encode(frame))
    if syntax == uids.HTJ2K:
        return bytes(imagecodecs.htj2k_encode(frame, level=0.0005))
    if syntax == JPEG_XL_LOSSLESS:
        return bytes(imagecodecs.jpegxl_encode(unsigned, lossless=True, usecontainer=False))
    raise ValueError(f"no encoder for {syntax}")


def _encode_rle(frame: Array, bits_stored: int) -> bytes:
    from pydicom.pixels.encoders.base import EncodeRunner

    runner = EncodeRunner(uids.RLELossless)
    options = {
        "rows": frame.shape[0],
        "columns": frame.shape[1],
        "number_of_frames": 1,
        "samples_per_pixel": 1 if frame.ndim == 2 else frame.shape[2],
        "bits_allocated": frame.dtype.itemsize * 8,
        "bits_stored": bits_stored,
        "pixel_representation": int(frame.dtype.kind == "i"),
        "photometric_interpretation": "MONOCHROME2" if frame.ndim == 2 else "RGB",
        "byteorder": "<",
    }
    if frame.ndim == 3:
        options["planar_configuration"] = 0
    runner.set_options(**options)
    return bytes(rle_encode(np.ascontiguousarray(frame).tobytes(), runner))


def set_pixels(
    dataset: Dataset, frames: Array, syntax: str, *, offset_table: str = "basic", fragments: int = 1
) -> None:
    """Put (n, rows, columns[, samples]) stored values into the dataset, encoded as the syntax asks.

    ``offset_table`` of encapsulated data is basic, empty or extended; ``fragments`` is the number for each frame.
    """
    dataset.file_meta.TransferSyntaxUID = UID(syntax)
    if UID(syntax).is_encapsulated if syntax != JPEG_XL_LOSSLESS else True:
        streams = [encode_frame(frame, syntax, dataset.BitsStored) for frame in frames]
        if offset_table == "extended":
            data, offsets, lengths = encapsulate_extended(streams)
            dataset.ExtendedOffsetTable, dataset.ExtendedOffsetTableLengths = offsets, lengths
        else:
            data = encapsulate(streams, fragments_per_frame=fragments, has_bot=offset_table == "basic")
        dataset.PixelData = data
        dataset["PixelData"].VR = "OB"
        dataset["PixelData"].is_undefined_length = True
        return
    big_endian = syntax == uids.ExplicitVRBigEndian
    data = np.ascontiguousarray(frames, frames.dtype.newbyteorder(">" if big_endian else "<")).tobytes()
    dataset.PixelData = data + b"\0" * (len(data) % 2)
    dataset["PixelData"].VR = "OW" if dataset.BitsAllocated > 8 else "OB"


def new_dataset(sop_class: str, sop_uid: str, **elements: Any) -> Dataset:
    """Return a dataset with its file meta, a patient, and the given elements by keyword."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = uids.ExplicitVRLittleEndian
    dataset.SOPClassUID = sop_class
    dataset.SOPInstanceUID = sop_uid
    dataset.PatientName = "Doe^Jane"
    dataset.StudyDate = "20240102"
    dataset.StudyTime = "101112"
    for keyword, value in elements.items():
        if value is not None:
            setattr(dataset, keyword, value)
    return dataset


def save(dataset: Dataset, path: Path) -> Path:
    """Write the dataset as a Part 10 file, folders made as needed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if dataset.file_meta.TransferSyntaxUID == JPEG_XL_LOSSLESS:  # pydicom 3.0 writes no syntax that it does not know
        dataset.file_meta.TransferSyntaxUID = uids.HTJ2KLossless
        dataset.save_as(path, enforce_file_format=True)
        path.write_bytes(path.read_bytes().replace(b"1.2.840.10008.1.2.4.201\0", b"1.2.840.10008.1.2.4.110\0"))
        return path
    dataset.save_as(path, enforce_file_format=True)
    return path


def pixel_module(frames: Array, *, bits_stored: int, photometric: str = "MONOCHROME2") -> dict[str, Any]:
    """Return the Image Pixel elements (PS3.3 C.7.6.3) for (n, rows, columns[, samples]) stored values."""
    bits = frames.dtype.itemsize * 8
    module: dict[str, Any] = {
        "SamplesPerPixel": 1 if frames.ndim == 3 else frames.shape[3],
        "PhotometricInterpretation": photometric,
        "Rows": frames.shape[1],
        "Columns": frames.shape[2],
        "BitsAllocated": bits,
        "BitsStored": bits_stored,
        "HighBit": bits_stored - 1,
        "PixelRepresentation": int(frames.dtype.kind == "i"),
    }
    if frames.ndim == 4:
        module["PlanarConfiguration"] = 0
    return module


# ---------------------------------------------------------------------------- classic series


def _per_slice(value: float | Sequence[float], n: int) -> list[float]:
    return [float(value)] * n if isinstance(value, int | float) else [float(one) for one in value]


def make_series(
    folder: Path,
    *,
    n: int = 5,
    rows: int = 22,
    columns: int = 18,
    spacing: tuple[float, float] = (0.75, 0.5),
    step: float | Sequence[float] = 2.5,
    positions: Sequence[Sequence[float]] | None = None,
    orientation: Sequence[float] = AXIAL,
    origin: Sequence[float] = (-12.0, 7.5, -431.0),
    modality: str = "CT",
    sop_class: str | None = None,
    bits_stored: int = 12,
    signed: bool = False,
    slope: float | Sequence[float] | None = 1.0,
    intercept: float | Sequence[float] | None = -1024.0,
    pixels: Array | None = None,
    patient: str = "P1",
    study: str = "study",
    series: str = "series",
    frame_of_reference: str | None = "frame",
    kernel: str | None = "STANDARD",
    thickness: float | None = 2.5,
    image_type: Sequence[str] | None = ("ORIGINAL", "PRIMARY", "AXIAL"),
    photometric: str = "MONOCHROME2",
    transfer_syntax: str = uids.ExplicitVRLittleEndian,
    instance_numbers: Sequence[int] | None = None,
    name: str = "{series}-{k:03d}.dcm",
    edit: Edit | None = None,
    seed: int = 0,
    first: int = 0,
    **elements: Any,
) -> Series:
    """Write one file a slice, and return what they must become.

    Parameters
    ----------
    spacing
        PixelSpacing, (dy, dx) mm.
    step
        From slice to slice: mm along row x column, or a vector (x, y, z) mm.
    positions
        (n, 3) ImagePositionPatient instead of ``origin`` and ``step``; then ``affine`` is from first to last.
    slope, intercept
        One for all or one a slice; None leaves the element out.
    pixels
        (n, rows, columns[, 3]) stored values instead of ``make_pixels``.
    study, series, frame_of_reference, patient
        Names that UIDs are made of (``uid("study", study)`` ...).
    edit
        ``edit(k, dataset)`` changes slice k just before it is written.
    first
        Number of the first slice in SOP Instance UIDs, file names and InstanceNumber, to add to a series.
    elements
        More elements by keyword.
    """
    stored = make_pixels(n, rows, columns, bits=bits_stored, signed=signed, seed=seed) if pixels is None else pixels
    normal = normal_of(orientation)
    vector = normal * float(step) if isinstance(step, int | float) else np.asarray(step, np.float64)
    places = np.asarray(origin, np.float64) + np.arange(n)[:, None] * vector
    if positions is not None:
        places = np.asarray(positions, np.float64)
    numbers = instance_numbers or [first + k + 1 for k in range(n)]
    slopes, intercepts = _per_slice(1.0 if slope is None else slope, n), _per_slice(intercept or 0.0, n)
    study_uid, series_uid = uid("study", study), uid("series", study, series)
    paths: list[Path] = []
    datasets: list[Dataset] = []
    for k in range(n):
        dataset = new_dataset(
            sop_class or SOP_CLASSES[modality],
            uid("instance", study, series, first + k),
            ImageType=list(image_type) if image_type else None,
            Modality=modality,
            Manufacturer="ACME",
            SeriesDescription=series,
            PatientID=patient,
            SliceThickness=thickness,
            ConvolutionKernel=kernel if modality == "CT" else None,
            StudyInstanceUID=study_uid,
            SeriesInstanceUID=series_uid,
            SeriesNumber=1,
            InstanceNumber=numbers[k],
            ImagePositionPatient=[f"{value:.10g}" for value in places[k]],
            ImageOrientationPatient=[f"{value:.10g}" for value in orientation],
            FrameOfReferenceUID=uid("frame", study, frame_of_reference) if frame_of_reference else None,
            PixelSpacing=list(spacing),
            RescaleIntercept=None if intercept is None else f"{intercepts[k]:.10g}",
            RescaleSlope=None if slope is None else f"{slopes[k]:.10g}",
            **pixel_module(stored, bits_stored=bits_stored, photometric=photometric),
            **elements,
        )
        set_pixels(dataset, stored[k : k + 1], transfer_syntax)
        if edit:
            edit(k, dataset)
        datasets.append(dataset)
        paths.append(save(dataset, folder / name.format(series=series, k=first + k)))
    order = np.argsort(places @ normal, kind="stable")
    places = places[order]
    mean_step = (places[-1] - places[0]) / (n - 1) if n > 1 else normal * (thickness or 1.0)
    return Series(
        paths=tuple(paths),
        values=modality_values(stored, slopes, intercepts)[order],
        affine=affine_of(places[0], orientation, spacing, mean_step),
        positions=places,
        study_uid=study_uid,
        series_uid=series_uid,
        datasets=tuple(datasets),
    )


# ---------------------------------------------------------------------------- the thirteen hard cases (behaviour.md)


def gantry_tilt(folder: Path) -> Series:
    """Slices tilted by 20 degrees about x while the table moves along z: one sheared volume."""
    tilt = np.deg2rad(20.0)
    orientation = (1.0, 0.0, 0.0, 0.0, float(np.cos(tilt)), float(np.sin(tilt)))
    return make_series(folder, n=6, orientation=orientation, step=(0.0, 0.0, 5.0), GantryDetectorTilt=20.0)


def missing_slice(folder: Path, *, series: str = "series") -> Series:
    """z = 0, 1, 2, 4, 5: the slice at index 3 of the full grid of six is missing."""
    positions = [(-12.0, 7.5, z) for z in (0.0, 1.0, 2.0, 4.0, 5.0)]
    return make_series(folder, n=5, positions=positions, series=series)


def two_at_one_position(folder: Path) -> tuple[Series, Path, Path]:
    """A series, a file that repeats slice 2 (same UID, same pixels), and another UID at the place of slice 3."""
    series = make_series(folder, n=5)
    duplicate = save(series.datasets[2], folder / "again.dcm")
    other = series.datasets[3].copy()
    other.file_meta = FileMetaDataset()
    other.file_meta.TransferSyntaxUID = uids.ExplicitVRLittleEndian
    other.SOPInstanceUID = uid("instance", "other", 3)
    other.InstanceNumber = 40
    set_pixels(other, make_pixels(5, 22, 18, seed=9)[3:4], uids.ExplicitVRLittleEndian)
    return series, duplicate, save(other, folder / "other.dcm")


def pet_slopes(folder: Path, *, n: int = 5, slope: float = 0.5, series: str = "series") -> Series:
    """PET whose slope differs from slice to slice, from ``slope`` upwards: float32."""
    return make_series(
        folder, n=n, modality="PT", bits_stored=16, slope=[slope + 0.25 * k for k in range(n)], intercept=0.0,
        thickness=3.27, step=3.27, Units="BQML", image_type=("ORIGINAL", "PRIMARY"), series=series,
    )  # fmt: skip


def two_orientations(folder: Path) -> tuple[Series, Series]:
    """Four axial and two sagittal slices under one series UID."""
    return (
        make_series(folder, n=4),
        make_series(folder, n=2, first=4, orientation=SAGITTAL, origin=(3.0, -9.0, 40.0), step=4.0, seed=3),
    )


def two_phases(folder: Path, *, phases: int = 2, n: int = 4, series: str = "series") -> Series:
    """The same positions in each phase, told apart by TemporalPositionIdentifier: one volume (t, z, y, x)."""
    parts = [
        make_series(
            folder, n=n, modality="MR", slope=None, intercept=None, first=phase * n, seed=phase,
            image_type=("ORIGINAL", "PRIMARY", "M"), TemporalPositionIdentifier=phase + 1, series=series,
        )
        for phase in range(phases)
    ]  # fmt: skip
    return _joined(parts, np.stack([part.values for part in parts]))


def monochrome1(folder: Path, *, series: str = "series") -> Series:
    """One DX image whose low values are white: kept as they are."""
    return make_series(
        folder, n=1, modality="DX", photometric="MONOCHROME1", slope=None, intercept=None, thickness=None,
        image_type=("ORIGINAL", "PRIMARY"), edit=_detector_spacing, series=series,
    )  # fmt: skip


def _detector_spacing(_: int, dataset: Dataset) -> None:
    dataset.ImagerPixelSpacing = dataset.PixelSpacing
    for keyword in ("PixelSpacing", "ImagePositionPatient", "ImageOrientationPatient"):
        delattr(dataset, keyword)


def rows_differ(folder: Path) -> tuple[Series, Series]:
    """Five slices of 22 rows and one of 26 at the next position."""
    return (
        make_series(folder, n=5),
        make_series(folder, n=1, first=5, rows=26, origin=(-12.0, 7.5, -431.0 + 12.5), seed=4),
    )


def spacing_differs(folder: Path) -> tuple[Series, Series]:
    """Five slices and one with a larger PixelSpacing at the next position."""
    return (
        make_series(folder, n=5),
        make_series(folder, n=1, first=5, spacing=(0.8, 0.55), origin=(-12.0, 7.5, -431.0 + 12.5), seed=4),
    )


def signedness_differs(folder: Path) -> Series:
    """A signed slice with negative values among unsigned ones that reach 60000: one volume that holds both."""
    unsigned = make_pixels(5, 22, 18, bits=16)
    signed = make_pixels(1, 22, 18, bits=16, signed=True, seed=2)
    signed[0, 0, 0] = -5
    common: dict[str, Any] = {"slope": 1.0, "intercept": 0.0, "bits_stored": 16}
    parts = [
        make_series(folder, n=5, pixels=unsigned, **common),
        make_series(folder, n=1, first=5, pixels=signed, origin=(-12.0, 7.5, -431.0 + 12.5), **common),
    ]
    return _stacked(parts)


def cut_short(folder: Path) -> tuple[Series, Path, Series]:
    """A series of which one file lacks its last 50 bytes, that file, and a second series that is whole."""
    broken = make_series(folder, n=5, series="broken")
    path = broken.paths[2]
    path.write_bytes(path.read_bytes()[:-50])
    return broken, path, make_series(folder, n=3, series="whole", seed=5)


def no_position(folder: Path) -> Series:
    """CT without ImagePositionPatient: stacked by InstanceNumber, no affine."""

    def strip(_: int, dataset: Dataset) -> None:
        del dataset.ImagePositionPatient

    made = make_series(folder, n=4, instance_numbers=[3, 1, 4, 2], edit=strip)
    return _without_affine(made, made.values[[1, 3, 0, 2]])


def table_jump(folder: Path) -> tuple[Series, Series]:
    """Half way the table jumps 12 mm sideways: two volumes of one series."""
    return (
        make_series(folder, n=4, step=1.0),
        make_series(folder, n=4, step=1.0, first=4, origin=(0.0, 7.5, -427.0), seed=6),
    )


def _without_affine(made: Series, values: Array) -> Series:
    return Series(made.paths, values, None, made.positions, made.study_uid, made.series_uid, made.datasets)


def _joined(parts: Sequence[Series], values: Array) -> Series:
    first = parts[0]
    return Series(
        tuple(path for part in parts for path in part.paths), values, first.affine, first.positions, first.study_uid,
        first.series_uid, tuple(dataset for part in parts for dataset in part.datasets),
    )  # fmt: skip


def _stacked(parts: Sequence[Series]) -> Series:
    """Join parts that continue each other along z (the step of the first one)."""
    whole = _joined(parts, np.concatenate([part.values for part in parts]))
    positions = np.concatenate([part.positions for part in parts])
    return Series(whole.paths, whole.values, whole.affine, positions, whole.study_uid, whole.series_uid, whole.datasets)


# ---------------------------------------------------------------------------- multi-frame objects


def _sequence(**elements: Any) -> list[Dataset]:
    item = Dataset()
    for keyword, value in elements.items():
        setattr(item, keyword, value)
    return [item]


def _of_one(path: Path, values: Array, dataset: Dataset) -> Series:
    nowhere = np.zeros((0, 3))
    return Series((path,), values, None, nowhere, dataset.StudyInstanceUID, dataset.SeriesInstanceUID, (dataset,))


def make_enhanced(
    folder: Path,
    *,
    n: int = 6,
    rows: int = 14,
    columns: int = 18,
    spacing: tuple[float, float] = (0.75, 0.5),
    step: float = 3.0,
    orientation: Sequence[float] = OBLIQUE,
    origin: Sequence[float] = (-12.0, 7.5, 30.0),
    order: Sequence[int] | None = None,
    slopes: Sequence[float] | None = None,
    shared_geometry: bool = True,
    transfer_syntax: str = uids.ExplicitVRLittleEndian,
    offset_table: str = "basic",
    study: str = "study",
    series: str = "enhanced",
    seed: int = 0,
) -> Series:
    """Write one Enhanced MR instance (PS3.3 C.7.6.16).

    ``order[f]`` is the slice that frame f holds (default: a fixed scramble). Orientation and spacing are in the
    shared groups, or per frame with contradicting shared ones (per frame wins). ``slopes`` are one a slice.
    """
    order = list(np.random.default_rng(seed + 1).permutation(n)) if order is None else list(order)
    stored = make_pixels(n, rows, columns, seed=seed)
    vector = normal_of(orientation) * step
    places = np.asarray(origin) + np.arange(n)[:, None] * vector
    measures: dict[str, Any] = {"PixelSpacing": list(spacing), "SliceThickness": step, "SpacingBetweenSlices": step}
    plane = {"ImageOrientationPatient": [f"{value:.10g}" for value in orientation]}
    shared = Dataset()
    shared.PixelMeasuresSequence = _sequence(**measures if shared_geometry else {"PixelSpacing": [9.0, 8.0]})
    shared.PlaneOrientationSequence = _sequence(
        **plane if shared_geometry else {"ImageOrientationPatient": list(AXIAL)}
    )
    groups = []
    for frame, k in enumerate(order):
        group = Dataset()
        group.FrameContentSequence = _sequence(
            StackID="1",
            InStackPositionNumber=int(k) + 1,
            DimensionIndexValues=[1, int(k) + 1],
            FrameAcquisitionNumber=1,
        )
        group.PlanePositionSequence = _sequence(ImagePositionPatient=[f"{value:.10g}" for value in places[k]])
        group.PixelValueTransformationSequence = _sequence(
            RescaleIntercept=0, RescaleSlope=slopes[k] if slopes else 1, RescaleType="US"
        )
        if not shared_geometry:
            group.PixelMeasuresSequence = _sequence(**measures)
            group.PlaneOrientationSequence = _sequence(**plane)
        group.MRImageFrameTypeSequence = _sequence(FrameType=["ORIGINAL", "PRIMARY", "VOLUME", "NONE"])
        group.FrameContentSequence[0].FrameReferenceDateTime = f"20240102101112.{frame:06d}"
        groups.append(group)
    dataset = new_dataset(
        uids.EnhancedMRImageStorage,
        uid("instance", study, series),
        ImageType=["ORIGINAL", "PRIMARY", "VOLUME", "NONE"],
        Modality="MR",
        PatientID="P1",
        StudyInstanceUID=uid("study", study),
        SeriesInstanceUID=uid("series", study, series),
        FrameOfReferenceUID=uid("frame", study, series),
        SeriesNumber=2,
        InstanceNumber=1,
        NumberOfFrames=n,
        DimensionOrganizationSequence=_sequence(DimensionOrganizationUID=uid("dimensions", study, series)),
        DimensionIndexSequence=[
            _sequence(
                DimensionIndexPointer=pointer,
                FunctionalGroupPointer=0x00209111,  # Frame Content Sequence
                DimensionOrganizationUID=uid("dimensions", study, series),
            )[0]
            for pointer in (0x00209056, 0x00209057)  # Stack ID, In-Stack Position Number
        ],
        SharedFunctionalGroupsSequence=[shared],
        PerFrameFunctionalGroupsSequence=groups,
        **pixel_module(stored, bits_stored=12),
    )
    set_pixels(dataset, stored[order], transfer_syntax, offset_table=offset_table)
    path = save(dataset, folder / f"{series}.dcm")
    values = modality_values(stored, list(slopes or [1.0] * n), [0.0] * n)
    affine = affine_of(places[0], orientation, spacing, vector)
    return Series((path,), values, affine, places, dataset.StudyInstanceUID, dataset.SeriesInstanceUID, (dataset,))


def make_cine(
    folder: Path,
    *,
    n: int = 4,
    rows: int = 14,
    columns: int = 18,
    transfer_syntax: str = uids.ExplicitVRLittleEndian,
    planar: int = 0,
    offset_table: str = "basic",
    series: str = "cine",
) -> Series:
    """Write a colour ultrasound cine of n frames; values are (t, 3, 1, y, x), no affine."""
    grey = make_pixels(n, rows, columns, bits=8)
    stored = np.stack([grey, 255 - grey, grey // 2], axis=-1)
    dataset = new_dataset(
        uids.UltrasoundMultiFrameImageStorage,
        uid("instance", series),
        ImageType=["ORIGINAL", "PRIMARY"],
        Modality="US",
        PatientID="P1",
        StudyInstanceUID=uid("study", series),
        SeriesInstanceUID=uid("series", series),
        InstanceNumber=1,
        NumberOfFrames=n,
        FrameTime=33.3,
        FrameIncrementPointer=0x00181063,
        **pixel_module(stored, bits_stored=8, photometric="RGB"),
    )
    set_pixels(dataset, stored, transfer_syntax, offset_table=offset_table)
    if planar:
        dataset.PlanarConfiguration = 1
        dataset.PixelData = np.ascontiguousarray(stored.transpose(0, 3, 1, 2)).tobytes()
    path = save(dataset, folder / f"{series}.dcm")
    values = stored.transpose(0, 3, 1, 2)[:, :, None]
    return _of_one(path, values, dataset)


def make_palette(folder: Path, *, bits: int = 8, series: str = "palette") -> Series:
    """Write one PALETTE COLOR image with LUT entries of 8 or 16 bits; values are RGB, (3, 1, y, x)."""
    stored = make_pixels(1, 14, 18, bits=8)
    ramp = np.arange(256, dtype=np.uint16) * (257 if bits == 16 else 1)
    tables = [ramp, ramp[::-1].copy(), np.roll(ramp, 85)]
    elements: dict[str, Any] = {}
    for colour, table in zip(("Red", "Green", "Blue"), tables, strict=True):
        elements[f"{colour}PaletteColorLookupTableDescriptor"] = [256, 0, bits]
        elements[f"{colour}PaletteColorLookupTableData"] = table.astype("<u2" if bits == 16 else "u1").tobytes()
    dataset = new_dataset(
        uids.SecondaryCaptureImageStorage,
        uid("instance", series),
        Modality="OT",
        PatientID="P1",
        StudyInstanceUID=uid("study", series),
        SeriesInstanceUID=uid("series", series),
        InstanceNumber=1,
        **pixel_module(stored, bits_stored=8, photometric="PALETTE COLOR"),
        **elements,
    )
    set_pixels(dataset, stored, uids.ExplicitVRLittleEndian)
    path = save(dataset, folder / f"{series}.dcm")
    values = np.stack([table[stored[0]] for table in tables])[:, None].astype(np.uint16 if bits == 16 else np.uint8)
    return _of_one(path, values, dataset)


# ---------------------------------------------------------------------------- Siemens mosaic


def csa_header(elements: Mapping[str, Sequence[float]]) -> bytes:
    """Return a Siemens CSA2 header (SV10) with the given numeric elements."""
    out = bytearray(b"SV10\4\3\2\1" + struct.pack("<II", len(elements), 77))
    for name, values in elements.items():
        out += name.encode().ljust(64, b"\0")
        out += struct.pack("<i4siii", len(values), b"FD\0\0", 3, len(values), 77)
        for value in values:
            text = f"{value:.8f}".encode() + b"\0"
            out += struct.pack("<4i", len(text), len(text), 77, len(text)) + text.ljust(-(-len(text) // 4) * 4, b"\0")
    return bytes(out)


def make_mosaic(
    folder: Path,
    *,
    times: int = 2,
    tiles: int = 7,
    rows: int = 10,
    columns: int = 14,
    spacing: tuple[float, float] = (3.0, 2.5),
    step: float = 4.0,
    orientation: Sequence[float] = AXIAL,
    origin: Sequence[float] = (-12.0, 7.5, 30.0),
    reversed_normal: bool = False,
    csa: bool = True,
    series: str = "mosaic",
) -> Series:
    """Write one Siemens mosaic a time point; values are (t, z, y, x), or (z, y, x) where ``times`` is 1.

    ``origin`` is the true position of the lowest slice along row x column. With ``reversed_normal`` the CSA normal
    opposes row x column and the first tile is the highest slice. Without ``csa`` nothing says how many tiles there are.
    """
    side = int(np.ceil(np.sqrt(tiles)))
    normal = normal_of(orientation)
    places = np.asarray(origin) + np.arange(tiles)[:, None] * normal * step
    tile_order = list(range(tiles))[::-1] if reversed_normal else list(range(tiles))
    first = places[tile_order[0]]
    across, down = np.asarray(orientation[:3]), np.asarray(orientation[3:])
    corner = first - across * spacing[1] * (side - 1) * columns / 2 - down * spacing[0] * (side - 1) * rows / 2
    stored = np.stack([make_pixels(tiles, rows, columns, seed=time) for time in range(times)])
    paths, datasets = [], []
    for time in range(times):
        mosaic = np.zeros((1, side * rows, side * columns), np.uint16)
        for place, k in enumerate(tile_order):
            y, x = divmod(place, side)
            mosaic[0, y * rows : (y + 1) * rows, x * columns : (x + 1) * columns] = stored[time, k]
        dataset = new_dataset(
            uids.MRImageStorage,
            uid("instance", series, time),
            ImageType=["ORIGINAL", "PRIMARY", "M", "ND", "MOSAIC"],
            Modality="MR",
            Manufacturer="SIEMENS",
            PatientID="P1",
            StudyInstanceUID=uid("study", series),
            SeriesInstanceUID=uid("series", series),
            FrameOfReferenceUID=uid("frame", series),
            InstanceNumber=time + 1,
            AcquisitionNumber=time + 1,
            AcquisitionTime=f"1011{12 + 2 * time:02d}.000000",
            SliceThickness=step,
            SpacingBetweenSlices=step,
            ImagePositionPatient=[f"{value:.10g}" for value in corner],
            ImageOrientationPatient=[f"{value:.10g}" for value in orientation],
            PixelSpacing=list(spacing),
            **pixel_module(mosaic, bits_stored=12),
        )
        if csa:
            dataset.private_block(0x0019, "SIEMENS MR HEADER", create=True).add_new(0x0A, "US", tiles)
            sign = -1.0 if reversed_normal else 1.0
            header = csa_header({"NumberOfImagesInMosaic": [tiles], "SliceNormalVector": list(normal * sign)})
            dataset.private_block(0x0029, "SIEMENS CSA HEADER", create=True).add_new(0x10, "OB", header)
        set_pixels(dataset, mosaic, uids.ExplicitVRLittleEndian)
        datasets.append(dataset)
        paths.append(save(dataset, folder / f"{series}-{time:03d}.dcm"))
    values = stored if times > 1 else stored[0]
    affine = affine_of(places[0], orientation, spacing, normal * step)
    return Series(tuple(paths), values, affine, places, uid("study", series), uid("series", series), tuple(datasets))


# ---------------------------------------------------------------------------- a mixed export


class Expected(NamedTuple):
    """The outcome and code that a file must get; code None: any."""

    outcome: str
    code: str | None


@dataclass(frozen=True, slots=True, eq=False)
class Mixed:
    """A mixed folder: what must become of each file."""

    files: Mapping[Path, Expected]
    good: tuple[Series, ...]
    """Series that must convert whole."""
    forbidden: Path
    """The file of mode 000: ``failed / permission`` for all users but root."""


def make_sr(path: Path, *, sop_class: str = uids.BasicTextSRStorage) -> Path:
    """Write an object without pixels."""
    return save(
        new_dataset(
            sop_class, uid("sr", path.name), Modality="SR", PatientID="P1", StudyInstanceUID=uid("study", "sr"),
            SeriesInstanceUID=uid("series", "sr"), InstanceNumber=1,
        ),
        path,
    )  # fmt: skip


def make_dicomdir(path: Path) -> Path:
    """Write an empty DICOMDIR."""
    dataset = new_dataset(uids.MediaStorageDirectoryStorage, uid("dicomdir"))
    dataset.FileSetID = "EXPORT"
    dataset.DirectoryRecordSequence = []
    return save(dataset, path)


def mixed_folder(folder: Path) -> Mixed:
    """Write the folder of the first issue: good series, and one of everything that goes wrong."""
    good = make_series(folder, n=5, series="good")
    nested = make_series(folder / "deep" / "er", n=3, series="nested", seed=1, kernel="LUNG")
    files = {path: Expected("converted", None) for path in (*good.paths, *nested.paths)}
    (folder / "notes.txt").write_text("not DICOM\n" * 40)
    files[folder / "notes.txt"] = Expected("not-dicom", "no-dicom")
    (folder / "report.pdf").write_bytes(b"%PDF-1.7\n" + bytes(range(256)) * 4)
    files[folder / "report.pdf"] = Expected("not-dicom", "no-dicom")
    files[make_dicomdir(folder / "DICOMDIR")] = Expected("not-image", "dicomdir")
    files[make_sr(folder / "sr.dcm")] = Expected("not-image", "sop-class")
    files[save(good.datasets[1], folder / "copies" / "again.dcm")] = Expected("duplicate", "same-pixels")
    short = make_series(folder, n=3, series="short", seed=2)
    short.paths[1].write_bytes(short.paths[1].read_bytes()[:-50])
    files |= {path: Expected("failed", "sibling-failed") for path in short.paths}
    files[short.paths[1]] = Expected("failed", "truncated")
    torn = make_series(folder, n=3, series="torn", seed=3)
    files |= {path: Expected("conflict", "sibling-conflict") for path in torn.paths}
    changed = torn.datasets[0]
    set_pixels(changed, make_pixels(1, 22, 18, seed=8), uids.ExplicitVRLittleEndian)
    files[save(changed, folder / "copies" / "changed.dcm")] = Expected("conflict", "pixels-differ")
    files[torn.paths[0]] = Expected("conflict", "pixels-differ")
    forbidden = make_series(folder / "locked", n=1, series="locked", seed=4).paths[0]
    forbidden.chmod(0)
    files[forbidden] = Expected("failed", "permission")
    return Mixed(files, (good, nested), forbidden)
