"""The sidecar: BIDS names and units, nothing personal, and gradients where dcm2niix says that they are."""

from __future__ import annotations

import importlib
import json
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as Items
from pydicom.uid import UID

from fastdcm.errors import UsageError
from fastdcm.load.bids import directions_for_fsl
from fastdcm.load.export import export
from fastdcm.load.volume import Volume
from tests import converted, dicomgen
from tests.ministore import Small, write_volume

nibabel: Any = importlib.import_module("nibabel")
dcm2niix: Any = importlib.import_module("dcm2niix")
RNG = np.random.default_rng(11)
AFFINE = dicomgen.affine_of((1.0, 2.0, 3.0), dicomgen.AXIAL, (0.75, 0.5), (0, 0, 2.5))
OBLIQUE_AXIAL = (0.96, 0.28, 0.0, -0.2688, 0.9216, 0.28)
DIRECTIONS = RNG.normal(size=(5, 3))
DIRECTIONS /= np.linalg.norm(DIRECTIONS, axis=1, keepdims=True)
MR: dict[str, Any] = {
    "Manufacturer": "Maker Medical",
    "ManufacturerModelName": "Model 1",
    "MagneticFieldStrength": 3.0,
    "RepetitionTime": 2500.0,
    "EchoTime": 81.7,
    "FlipAngle": 76.0,
    "InPlanePhaseEncodingDirection": "COL",
    "PatientPosition": "HFS",
    "ScanningSequence": ["EP", "SE"],
    "SequenceVariant": "SK",
    "MRAcquisitionType": "2D",
    "SpacingBetweenSlices": 2.5,
    "PixelBandwidth": 1500.0,
    "BodyPartExamined": "BRAIN",
    "SeriesNumber": 4,
    "AcquisitionNumber": 1,
    "PatientID": "SECRET-ID",
    "InstitutionName": "SECRET-HOSPITAL",
    "StationName": "SECRET-STATION",
    "SeriesDescription": "SECRET-TEXT",
    "ProtocolName": "SECRET-PROTOCOL",
    "DeviceSerialNumber": "SECRET-SERIAL",
    "AcquisitionDate": "20240102",
}
Edit = Callable[[int, int, Dataset], None]


def write_mr(
    folder: Path, repeats: int, edit: Edit, *, n: int = 3, orientation: Sequence[float] = dicomgen.AXIAL
) -> None:
    """Write a series of ``repeats`` images at each of n positions; ``edit(repeat, slice, dataset)``."""
    for t in range(repeats):

        def one(k: int, dataset: Dataset, t: int = t) -> None:
            for keyword, value in MR.items():
                setattr(dataset, keyword, value)
            dataset.InstanceNumber = t * n + k + 1
            dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = UID(dicomgen.uid("mr", t, k))
            edit(t, k, dataset)

        dicomgen.make_series(
            folder, n=n, rows=24, columns=20, orientation=orientation, modality="MR", intercept=None, slope=None,
            kernel=None, edit=one, seed=t, name=f"{t:02d}-{{k:03d}}.dcm",
        )  # fmt: skip


def exported(folder: Path, **choice: Any) -> tuple[dict[str, Any], tuple[Path, ...]]:
    (volume,) = converted.convert(folder / "in", metadata=choice.pop("metadata", "technical")).store
    files = export(volume, folder / "a.nii", bids=True, **choice)
    return json.loads(files[1].read_text("utf-8")), files


def by_dcm2niix(folder: Path) -> dict[str, Path]:
    out = folder / "theirs"
    out.mkdir()
    subprocess.run([dcm2niix.bin, "-z", "n", "-o", out, folder / "in"], check=True, capture_output=True, timeout=60)
    return {path.suffix: path for path in out.iterdir()}


def patient_directions(bvec: Path, image: Path) -> Any:
    """Return (n, 3) LPS directions of an FSL file, by the affine of its image."""
    affine = nibabel.load(image).affine[:3, :3]
    axes = affine / np.linalg.norm(affine, axis=0)
    vectors = np.loadtxt(bvec)
    if np.linalg.det(axes) > 0:
        vectors[0] *= -1
    return (axes @ vectors).T * [-1, -1, 1]


# ---------------------------------------------------------------------------- the sidecar


@pytest.mark.parametrize("metadata", ["technical", "full"])
def test_the_usual_fields_equal_those_of_dcm2niix(tmp_path: Path, metadata: str) -> None:
    write_mr(tmp_path / "in", 1, lambda t, k, dataset: None)
    fields, files = exported(tmp_path, metadata=metadata)
    assert [path.name for path in files] == ["a.nii", "a.json"]
    theirs = json.loads(by_dcm2niix(tmp_path)[".json"].read_text())
    for name in (
        "Modality", "MagneticFieldStrength", "ManufacturersModelName", "RepetitionTime", "EchoTime", "FlipAngle",
        "PatientPosition", "ScanningSequence", "SequenceVariant", "MRAcquisitionType", "SliceThickness", "BodyPart",
        "SpacingBetweenSlices", "PixelBandwidth", "SeriesNumber", "AcquisitionNumber",
        "InPlanePhaseEncodingDirectionDICOM", "PhaseEncodingAxis", "ImageOrientationPatientDICOM",
    ):  # fmt: skip
        assert fields[name] == theirs[name], name
    assert (fields["RepetitionTime"], fields["EchoTime"], fields["FlipAngle"]) == (2.5, 0.0817, 76)
    assert fields["Manufacturer"] == "Maker Medical"
    assert fields["ImageType"] == ["ORIGINAL", "PRIMARY", "AXIAL"]


def test_nothing_personal_is_written_whatever_the_store_keeps(tmp_path: Path) -> None:
    write_mr(tmp_path / "in", 1, lambda t, k, dataset: None)
    _, (image, beside) = exported(tmp_path, metadata="full")
    for path in (image, beside):
        data = path.read_bytes()
        for secret in (b"SECRET", b"Doe", b"20240102", b"1.2.826"):
            assert secret not in data


def test_without_tags_only_geometry_is_left(tmp_path: Path) -> None:
    write_mr(tmp_path / "in", 1, lambda t, k, dataset: None)
    fields, _ = exported(tmp_path, metadata="none")
    assert fields["Modality"] == "MR"
    assert fields["SpacingBetweenSlices"] == 2.5
    assert "RepetitionTime" not in fields


def test_ct(tmp_path: Path) -> None:
    dicomgen.make_series(
        tmp_path / "in", kernel="LUNG", thickness=5.0, KVP=120.0, XRayTubeCurrent=90, ExposureTime=870, Exposure=15
    )
    fields, _ = exported(tmp_path)
    expected = {
        "Modality": "CT", "ConvolutionKernel": "LUNG", "KVP": 120, "XRayTubeCurrent": 90, "ExposureTime": 0.87,
        "XRayExposure": 15, "SliceThickness": 5, "SpacingBetweenSlices": 2.5,
    }  # fmt: skip
    assert expected.items() <= fields.items()
    assert "RepetitionTime" not in fields


def test_pet_in_a_sequence(tmp_path: Path) -> None:
    item = Dataset()
    item.RadionuclideTotalDose, item.RadionuclideHalfLife = 616276220.0, 6588.0
    dicomgen.make_series(
        tmp_path / "in", modality="PT", intercept=0.0, kernel=None, Units="BQML", DecayCorrection="START",
        RadiopharmaceuticalInformationSequence=Items([item]),
    )  # fmt: skip
    fields, _ = exported(tmp_path)
    assert fields["InjectedRadioactivity"] == 616.27622
    assert (fields["RadionuclideHalfLife"], fields["InjectedRadioactivityUnits"]) == (6588, "MBq")
    assert (fields["Units"], fields["ImageDecayCorrected"]) == ("Bq/mL", True)


def test_an_enhanced_image_has_its_shared_groups(tmp_path: Path) -> None:
    dicomgen.make_enhanced(tmp_path / "in")
    fields, _ = exported(tmp_path)
    assert fields["Modality"] == "MR"
    assert fields["ConversionSoftware"] == "fastdcm"


def test_echo_times_of_a_multi_echo_series(tmp_path: Path) -> None:
    write_mr(tmp_path / "in", 2, lambda t, k, dataset: setattr(dataset, "EchoTime", (10.5, 21.0)[t]))
    fields, _ = exported(tmp_path)
    assert fields["EchoTime"] == [0.0105, 0.021]


def test_one_echo_of_several(tmp_path: Path) -> None:
    write_mr(tmp_path / "in", 2, lambda t, k, dataset: setattr(dataset, "EchoTime", (10.5, 21.0)[t]))
    fields, (image, _) = exported(tmp_path, c=1)
    assert fields["EchoTime"] == 0.021
    assert nibabel.load(image).shape == (20, 24, 3)


@pytest.mark.parametrize(("jitter", "step", "found"), [(0.0, 2.5, True), (0.3, 2.5, False), (0.0, 4.0, False)])
def test_slice_timing_where_the_times_repeat(tmp_path: Path, jitter: float, step: float, found: bool) -> None:
    within = [0.0, 1.25, 0.625]

    def edit(t: int, k: int, dataset: Dataset) -> None:
        second = t * step + within[k] + jitter * t * k
        dataset.AcquisitionTime = f"1011{second:09.6f}"
        dataset.TemporalPositionIdentifier = t + 1

    write_mr(tmp_path / "in", 4, edit)
    fields, _ = exported(tmp_path)
    assert fields.get("SliceTiming") == (within if found else None)
    assert fields["AcquisitionTime"] == "10:11:00.000000"


def test_slice_timing_of_mosaics_is_the_scanners_own(tmp_path: Path) -> None:
    made = dicomgen.make_mosaic(tmp_path / "in", times=2)
    times = [0.0, 1000.0, 250.0, 1250.0, 500.0, 1500.0, 750.0]
    header = {"NumberOfImagesInMosaic": [7.0], "SliceNormalVector": [0.0, 0.0, 1.0], "MosaicRefAcqTimes": times}
    for path, dataset in zip(made.paths, made.datasets, strict=True):
        dataset[0x00291010].value = dicomgen.csa_header(header)
        dicomgen.save(dataset, path)
    fields, _ = exported(tmp_path)
    assert fields["SliceTiming"] == [0.0, 1.0, 0.25, 1.25, 0.5, 1.5, 0.75]


# ---------------------------------------------------------------------------- diffusion


@pytest.mark.parametrize("orientation", [dicomgen.AXIAL, dicomgen.OBLIQUE, dicomgen.SAGITTAL])
def test_standard_directions_stay_in_the_patients_frame(tmp_path: Path, orientation: Sequence[float]) -> None:
    def edit(t: int, k: int, dataset: Dataset) -> None:
        dataset.Manufacturer = "UIH"
        dataset.DiffusionBValue = 1000.0 if t else 0.0
        dataset.DiffusionGradientOrientation = DIRECTIONS[t - 1].tolist() if t else [0.0, 0.0, 0.0]

    write_mr(tmp_path / "in", 4, edit, orientation=orientation)
    _, files = exported(tmp_path)
    bval = np.loadtxt(files[2])
    assert bval.tolist() == [0, 1000, 1000, 1000]
    found = patient_directions(files[3], files[0])
    expected = [[0, 0, 0], *sorted(DIRECTIONS[:3].tolist())]
    np.testing.assert_allclose(sorted(found[1:].tolist()), expected[1:], atol=1e-5)
    assert not found[0].any()


@pytest.mark.parametrize("phase", ["ROW", "COL"])
@pytest.mark.parametrize("orientation", [dicomgen.AXIAL, OBLIQUE_AXIAL])
def test_directions_of_ge_are_where_dcm2niix_says(tmp_path: Path, orientation: Sequence[float], phase: str) -> None:
    write_mr(tmp_path / "in", 5, ge_edit(phase), orientation=orientation)
    _, files = exported(tmp_path)
    theirs = by_dcm2niix(tmp_path)
    mine, other = patient_directions(files[3], files[0]), patient_directions(theirs[".bvec"], theirs[".nii"])
    for vector in mine[1:]:  # dcm2niix keeps the order of acquisition, the axis that of the directions
        assert np.abs(np.abs(other @ vector).max() - 1) < 1e-5
    assert len({int(np.abs(other @ vector).argmax()) for vector in mine[1:]}) == 4


def ge_edit(phase: str, position: str = "HFS") -> Edit:
    def edit(t: int, k: int, dataset: Dataset) -> None:
        dataset.Manufacturer = "GE MEDICAL SYSTEMS"
        dataset.InPlanePhaseEncodingDirection = phase
        dataset.PatientPosition = position
        block = dataset.private_block(0x0019, "GEMS_ACQU_01", create=True)
        for element, value in zip((0xBB, 0xBC, 0xBD), DIRECTIONS[t - 1] if t else (0, 0, 0), strict=True):
            block.add_new(element, "DS", f"{value:.6f}")
        block = dataset.private_block(0x0043, "GEMS_PARM_01", create=True)
        block.add_new(0x39, "IS", [1000 if t else 0, 0, 0, 0])

    return edit


@pytest.mark.parametrize(("orientation", "position"), [(dicomgen.SAGITTAL, "HFS"), (dicomgen.AXIAL, "FFS")])
def test_directions_of_unknown_frame_are_not_written(
    tmp_path: Path, orientation: Sequence[float], position: str
) -> None:
    write_mr(tmp_path / "in", 3, ge_edit("COL", position), orientation=orientation)
    _, files = exported(tmp_path)
    assert [path.suffix for path in files] == [".nii", ".json", ".bval"]


def test_repeated_b0_along_time(tmp_path: Path) -> None:
    """Two images at b=0 and two directions: no tag separates them, the columns of the slices know the b-values."""
    values = RNG.integers(0, 99, (4, 2, 6, 5)).astype(np.int16)
    vectors = [None, None, [0.0, 1.0, 0.0], [0.6, 0.0, 0.8]]
    volume = dwi(tmp_path, values, "tzyx", [0.0, 0.0, 700.0, 700.0], vectors)
    files = export(volume, tmp_path / "a.nii.gz", bids=True)
    assert [path.name for path in files] == ["a.nii.gz", "a.json", "a.bval", "a.bvec"]
    assert files[2].read_text() == "0 0 700 700\n"
    assert np.loadtxt(files[3]).tolist() == [[0, 0, 0, -0.6], [0, 0, 1, 0], [0, 0, 0, 0.8]]
    one = export(volume, tmp_path / "b.nii", bids=True, t=3)
    assert one[2].read_text() == "700\n"
    assert len(export(volume, tmp_path / "c.nii", bids=True, t=0)) == 2  # no diffusion in what is exported


def dwi(folder: Path, values: Any, axes: str, b_values: list[Any], b_vectors: list[Any]) -> Volume:
    """Write a store's volume with b-values by volume, in the order of the store."""
    path = write_volume(folder / "0.ome.zarr", Small(values, axes, AFFINE, modality="MR"))
    document = json.loads((path / "zarr.json").read_text())
    ours = document["attributes"]["fastdcm"]
    n = values.shape[-3]
    ours["slices"] |= {
        "b_value": [value for value in b_values for _ in range(n)],
        "b_vector": [vector for vector in b_vectors for _ in range(n)],
    }
    ours["dicom"] = {"00080070": {"vr": "LO", "Value": ["SIEMENS"]}}
    (path / "zarr.json").write_text(json.dumps(document))
    return Volume(path)


def test_a_missing_direction_leaves_the_b_values(tmp_path: Path) -> None:
    values = RNG.integers(0, 99, (2, 2, 6, 5)).astype(np.int16)
    volume = dwi(tmp_path, values, "czyx", [0.0, 700.0], [None, None])
    assert [p.suffix for p in export(volume, tmp_path / "a.nii", bids=True)] == [".nii", ".json", ".bval"]


def test_diffusion_with_time_asks_for_one(tmp_path: Path) -> None:
    values = RNG.integers(0, 99, (2, 2, 2, 6, 5)).astype(np.int16)
    vectors = [None, [0.0, 0.0, 1.0]] * 2
    volume = dwi(tmp_path, values, "tczyx", [0.0, 700.0] * 2, vectors)
    with pytest.raises(UsageError, match=r"2 steps along t and 2 along c"):
        export(volume, tmp_path / "a.nii", bids=True)
    assert len(export(volume, tmp_path / "a.nii", bids=True, t=1)) == 4


def test_what_a_replaced_image_had_beside_it_goes(tmp_path: Path) -> None:
    values = RNG.integers(0, 99, (2, 2, 6, 5)).astype(np.int16)
    volume = dwi(tmp_path, values, "czyx", [0.0, 700.0], [None, [0.0, 0.0, 1.0]])
    export(volume, tmp_path / "a.nii", bids=True)
    export(volume, tmp_path / "a.nii", bids=True, c=0, overwrite=True)
    assert sorted(path.name for path in tmp_path.glob("a.*")) == ["a.json", "a.nii"]


def test_fsl_wants_x_turned_where_the_determinant_is_positive() -> None:
    vectors = np.array([[0.0, 0.0, 0.0], [2.0, 0.0, 0.0], [0.6, 0.0, 0.8]])
    assert directions_for_fsl(vectors, AFFINE).tolist() == [[0, 0, 0], [-1, 0, 0], [-0.6, 0, 0.8]]
    flipped = AFFINE @ np.diag([1, -1, 1, 1])
    assert directions_for_fsl(vectors, flipped).tolist() == [[0, 0, 0], [1, 0, 0], [0.6, 0, 0.8]]
