"""Frame rows against hand-made objects; positions and values are computed here by the formulas of PS3.3."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import uid as uids
from pydicom.dataset import Dataset

from fastdcm.model import FRAME_COLUMNS
from fastdcm.scan.find import FoundFile
from fastdcm.scan.reference import read_instance
from tests import converted, dicomgen
from tests.scan.compare import all_files, differences

Row = dict[str, Any]
ROWS, COLUMNS = 4, 6
OBLIQUE_AXIAL = (0.96, 0.28, 0.0, -0.2688, 0.9216, 0.28)
SAGITTAL = dicomgen.SAGITTAL


def read(path: Path) -> tuple[Row, list[Row]]:
    row, frames = read_instance(str(path), FoundFile(0, path.name, path.stat().st_size, 0))
    assert row["outcome"] is None, row["message"]
    assert all(set(frame) == {"frame", *(column.name for column in FRAME_COLUMNS)} for frame in frames)
    assert [frame["frame"] for frame in frames] == list(range(len(frames)))
    return row, frames


def item(**elements: Any) -> Dataset:
    made = Dataset()
    for keyword, value in elements.items():
        setattr(made, keyword, value)
    return made


def make(path: Path, n: int, sop_class: str, *, syntax: str = uids.ExplicitVRLittleEndian, **elements: Any) -> Path:
    frames = np.arange(n * ROWS * COLUMNS, dtype=np.uint16).reshape(n, ROWS, COLUMNS)
    values = {"NumberOfFrames": n, **dicomgen.pixel_module(frames, bits_stored=12), **elements}
    dataset = dicomgen.new_dataset(sop_class, "1.2.3", **values)
    dicomgen.set_pixels(dataset, frames, syntax)
    return dicomgen.save(dataset, path)


def points(frames: Sequence[Row]) -> list[tuple[Any, ...]]:
    return [(frame["position_x"], frame["position_y"], frame["position_z"]) for frame in frames]


# ---------------------------------------------------------------------------- functional groups


@pytest.mark.parametrize("syntax", [uids.ExplicitVRLittleEndian, uids.ImplicitVRLittleEndian])
@pytest.mark.parametrize("shared", [True, False])
def test_per_frame_beats_shared(tmp_path: Path, shared: bool, syntax: str) -> None:
    order, slopes = [2, 0, 3, 1], [1.5, 2.5, 3.5, 4.5]
    made = dicomgen.make_enhanced(
        tmp_path, n=4, order=order, slopes=slopes, shared_geometry=shared, transfer_syntax=syntax
    )
    row, frames = read(made.paths[0])
    assert row["n_frames"] == len(frames) == 4
    np.testing.assert_allclose(np.array(points(frames)), made.positions[order], atol=1e-8)
    directions = [
        [frame[name] for name in ("row_x", "row_y", "row_z", "column_x", "column_y", "column_z")] for frame in frames
    ]
    np.testing.assert_allclose(directions, [dicomgen.OBLIQUE] * 4)
    assert [(f["spacing_y"], f["spacing_x"], f["spacing_kind"]) for f in frames] == [(0.75, 0.5, "patient")] * 4
    assert [frame["slope"] for frame in frames] == [slopes[k] for k in order]
    assert [frame["in_stack_position"] for frame in frames] == [k + 1 for k in order]
    assert {frame["stack_id"] for frame in frames} == {"1"}
    assert {frame["image_type"] for frame in frames} == {"ORIGINAL\\PRIMARY\\VOLUME\\NONE"}
    assert {(frame["thickness"], frame["spacing_between"]) for frame in frames} == {(3.0, 3.0)}


def diffusion_frame(k: int) -> Dataset:
    diffusion = item(DiffusionBValue=500.0 * k, DiffusionDirectionality="DIRECTIONAL" if k else "NONE")
    if k:
        diffusion.DiffusionGradientDirectionSequence = [item(DiffusionGradientOrientation=[0.6, -0.8, 0.1 * k])]
    return item(
        FrameContentSequence=[
            item(
                StackID="S",
                InStackPositionNumber=k + 1,
                TemporalPositionIndex=k + 3,
                FrameAcquisitionNumber=9,
                FrameAcquisitionDateTime=f"20240102101530.{k}00",
            )
        ],
        PlanePositionSequence=[item(ImagePositionPatient=[1.5, 2.5, 10.0 * k])],
        MREchoSequence=[item(EffectiveEchoTime=4.5 + k)],
        MRDiffusionSequence=[diffusion],
        CardiacSynchronizationSequence=[
            item(NominalCardiacTriggerDelayTime=25.0 * k, NominalPercentageOfCardiacPhase=10.0 * k)
        ],
        MRImageFrameTypeSequence=[
            item(FrameType=["ORIGINAL", "PRIMARY", "DIFFUSION", "NONE"], ComplexImageComponent="PHASE")
        ],
    )


def test_every_macro_reaches_its_column(tmp_path: Path) -> None:
    shared = item(
        PlaneOrientationSequence=[item(ImageOrientationPatient=list(dicomgen.CORONAL))],
        PixelMeasuresSequence=[item(PixelSpacing=[0.75, 0.5], SliceThickness=3.0, SpacingBetweenSlices=-4.0)],
        PixelValueTransformationSequence=[item(RescaleSlope=2, RescaleIntercept=-5, RescaleType="US")],
        FrameVOILUTSequence=[item(WindowCenter=[40.0, 50.0], WindowWidth=[400.0, 500.0])],
    )
    path = make(
        tmp_path / "a.dcm",
        3,
        uids.EnhancedMRImageStorage,
        Modality="MR",
        SharedFunctionalGroupsSequence=[shared],
        PerFrameFunctionalGroupsSequence=[diffusion_frame(k) for k in range(3)],
    )
    row, frames = read(path)
    for k, frame in enumerate(frames):
        expected = {
            "position_z": 10.0 * k,
            "row_x": 1.0,
            "column_z": -1.0,
            "spacing_y": 0.75,
            "spacing_x": 0.5,
            "thickness": 3.0,
            "spacing_between": -4.0,
            "slope": 2.0,
            "intercept": -5.0,
            "rescale_type": "US",
            "stack_id": "S",
            "in_stack_position": k + 1,
            "temporal_position": k + 3,
            "acquisition_number": 9,
            "acquisition_time": pytest.approx(10 * 3600 + 15 * 60 + 30 + k / 10),
            "echo_time": 4.5 + k,
            "b_value": 500.0 * k,
            "b_x": 0.6 if k else None,
            "b_z": pytest.approx(0.1 * k) if k else None,
            "trigger_time": 25.0 * k,
            "cardiac_phase": 10.0 * k,
            "image_type": "ORIGINAL\\PRIMARY\\DIFFUSION\\NONE",
            "complex_component": "PHASE",
        }
        assert {name: frame[name] for name in expected} == expected
    assert (row["window_center"], row["window_width"]) == ("40\\50", "400\\500") or (
        row["window_center"],
        row["window_width"],
    ) == ("40.0\\50.0", "400.0\\500.0")


def test_ct_and_segment_macros(tmp_path: Path) -> None:
    groups = [
        item(
            CTReconstructionSequence=[item(ConvolutionKernel=["B30f", "X"])],
            CTXRayDetailsSequence=[item(KVP=120)],
            CTImageFrameTypeSequence=[item(FrameType=["DERIVED", "SECONDARY", "MPR", "NONE"])],
            SegmentIdentificationSequence=[item(ReferencedSegmentNumber=k + 1)],
        )
        for k in range(2)
    ]
    path = make(
        tmp_path / "a.dcm",
        2,
        uids.EnhancedCTImageStorage,
        Modality="CT",
        ImageType=["ORIGINAL", "PRIMARY"],
        PerFrameFunctionalGroupsSequence=groups,
    )
    row, frames = read(path)
    assert [(f["kernel"], f["kvp"], f["segment"]) for f in frames] == [("B30f\\X", 120.0, 1), ("B30f\\X", 120.0, 2)]
    assert [f["image_type"] for f in frames] == ["DERIVED\\SECONDARY\\MPR\\NONE"] * 2
    assert row["image_type"] == "ORIGINAL\\PRIMARY"


@pytest.mark.parametrize("syntax", [uids.ExplicitVRLittleEndian, uids.ImplicitVRLittleEndian, uids.ExplicitVRBigEndian])
def test_what_makes_values_physical_is_recorded_by_frame(tmp_path: Path, syntax: str) -> None:
    groups = []
    for k in range(3):
        unit = item(CodeValue="Bq/ml", CodingSchemeDesignator="UCUM", CodeMeaning="secret")
        mapping = item(RealWorldValueSlope=3.0 + k, RealWorldValueIntercept=-1.0, MeasurementUnitsCodeSequence=[unit])
        group, inner = item(RealWorldValueMappingSequence=[mapping, item(RealWorldValueSlope=99.0)]), Dataset()
        inner.private_block(0x2005, "Philips MR Imaging DD 002", create=True).add_new(0x0E, "FL", 77.0)
        inner.private_block(0x2005, "Philips MR Imaging DD 001", create=True).add_new(0x0E, "FL", 0.375 + k)
        group.private_block(0x2005, "Philips MR Imaging DD 005", create=True).add_new(0x0F, "SQ", [inner])
        groups.append(group)
    path = make(
        tmp_path / "a.dcm",
        3,
        uids.EnhancedMRImageStorage,
        syntax=syntax,
        Modality="MR",
        PerFrameFunctionalGroupsSequence=groups,
    )
    names = ("real_world_slope", "real_world_intercept", "real_world_unit", "philips_scale_slope")
    found = [tuple(frame[name] for name in names) for frame in read(path)[1]]
    assert found == [(3.0 + k, -1.0, "Bq/ml", 0.375 + k) for k in range(3)]


@pytest.mark.parametrize("syntax", [uids.ExplicitVRLittleEndian, uids.ImplicitVRLittleEndian])
def test_an_ultrasound_volume_has_a_frame_of_its_own(tmp_path: Path, syntax: str) -> None:
    """Image Position and Orientation (Volume), PS3.3 C.7.6.16.2.21: a stack in mm, but not in the patient."""
    normal = dicomgen.normal_of(OBLIQUE_AXIAL)
    places = [np.array([1.0, 2.0, 3.0]) + 1.5 * k * normal for k in range(4)]
    shared = item(
        PixelMeasuresSequence=[item(PixelSpacing=[0.75, 0.5], SliceThickness=1.5)],
        PlaneOrientationVolumeSequence=[item(ImageOrientationVolume=list(OBLIQUE_AXIAL))],
    )
    make(
        tmp_path / "in" / "a.dcm",
        4,
        uids.EnhancedUSVolumeStorage,
        syntax=syntax,
        Modality="US",
        ImageType=["ORIGINAL", "PRIMARY", "VOLUME", "NONE"],
        VolumeFrameOfReferenceUID="1.2.99",
        StudyInstanceUID="1.2.4",
        SeriesInstanceUID="1.2.5",
        SharedFunctionalGroupsSequence=[shared],
        PerFrameFunctionalGroupsSequence=[
            item(PlanePositionVolumeSequence=[item(ImagePositionVolume=place.tolist())]) for place in places
        ],
    )
    row, frames = read(tmp_path / "in" / "a.dcm")
    np.testing.assert_allclose(np.array(points(frames), float), places, atol=1e-12)
    assert (row["frame_of_reference_uid"], {frame["space"] for frame in frames}) == ("1.2.99", {"volume"})
    (volume,) = converted.convert(tmp_path / "in").store
    geometry = volume.attributes["fastdcm"]["geometry"]
    assert (volume.shape, geometry["space"], geometry["frame_of_reference_uid"]) == ((4, 4, 6), "volume", "1.2.99")
    expected = dicomgen.affine_of(places[0], OBLIQUE_AXIAL, (0.75, 0.5), 1.5 * normal)
    np.testing.assert_allclose(geometry["affine"], expected, atol=1e-9)
    with pytest.warns(UserWarning, match="not the patient's"):
        np.testing.assert_allclose(volume.affine(), expected, atol=1e-9)
    assert all("orientation" not in axis for axis in volume.attributes["ome"]["multiscales"][0]["axes"])


def dimension(pointer: int, group: int | None = None) -> Dataset:
    made = item(DimensionIndexPointer=pointer)
    if group is not None:
        made.FunctionalGroupPointer = group
    return made


STACK = dimension(0x00209057, 0x00209111)


@pytest.mark.parametrize(
    ("dimensions", "expected"),
    [
        ([STACK, dimension(0x00189079, 0x00189115)], ("inversion_times", [100.0, 100.0, 900.0, 900.0])),
        ([dimension(0x00181314, 0x00189112)], ("flip_angle", [5.0, 5.0, 30.0, 30.0])),
        ([dimension(0x00181314)], ("flip_angle", [1.0, 1.0, 2.0, 2.0])),  # no group: the index stands for the value
        ([dimension(0x00189079, 0x00189112)], ("inversion_times", [1.0, 1.0, 2.0, 2.0])),  # not in that group
        (
            [dimension(0x20051413, 0x00189112), dimension(0x00181314, 0x00189112)],
            ("flip_angle", [5.0, 5.0, 30.0, 30.0]),
        ),
        ([STACK, dimension(0x00209128, 0x00209111)], (None, [None] * 4)),  # columns have these
        ([], (None, [None] * 4)),
    ],
)
def test_dimensions_name_what_no_column_has(
    tmp_path: Path, dimensions: list[Dataset], expected: tuple[str | None, list[float | None]]
) -> None:
    groups = []
    for k in range(4):
        index = [k % 2 + 1 if made is STACK else k // 2 + 1 for made in dimensions]
        groups.append(
            item(
                FrameContentSequence=[item(DimensionIndexValues=index or None, InStackPositionNumber=k % 2 + 1)],
                MRModifierSequence=[item(InversionTimes=[100.0, 900.0][k // 2])],
                MRTimingAndRelatedParametersSequence=[item(FlipAngle=[5.0, 30.0][k // 2])],
                MRArterialSpinLabelingSequence=[item(ASLContext=["CONTROL", "LABEL"][k // 2])],
            )
        )
    path = make(
        tmp_path / "a.dcm",
        4,
        uids.EnhancedMRImageStorage,
        Modality="MR",
        DimensionIndexSequence=dimensions or None,
        PerFrameFunctionalGroupsSequence=groups,
    )
    _, frames = read(path)
    assert {frame["dimension_name"] for frame in frames} == {expected[0]}
    assert [frame["dimension_value"] for frame in frames] == expected[1]
    assert [frame["asl_context"] for frame in frames] == ["CONTROL", "CONTROL", "LABEL", "LABEL"]


@pytest.mark.parametrize("items", [0, 1, 5])
def test_a_wrong_number_of_items_keeps_what_is_shared(tmp_path: Path, items: int) -> None:
    shared = item(
        PlanePositionSequence=[item(ImagePositionPatient=[0.0, 0.0, -1.0])],
        PixelMeasuresSequence=[item(PixelSpacing=[0.75, 0.5])],
    )
    groups = [item(PlanePositionSequence=[item(ImagePositionPatient=[1.0, 2.0, float(k)])]) for k in range(items)]
    path = make(
        tmp_path / "a.dcm",
        3,
        uids.EnhancedCTImageStorage,
        SharedFunctionalGroupsSequence=[shared],
        PerFrameFunctionalGroupsSequence=groups,
        EchoTime=7,
    )
    _, frames = read(path)
    expected = [(1.0, 2.0, float(k)) if k < items else (0.0, 0.0, -1.0) for k in range(3)]
    assert points(frames) == expected
    assert {frame["spacing_y"] for frame in frames} == {0.75}
    assert {frame["echo_time"] for frame in frames} == {7.0}  # the top level is the last fallback


def test_legacy_converted_attributes(tmp_path: Path) -> None:
    shared = item(
        UnassignedSharedConvertedAttributesSequence=[item(EchoTime=3, KVP=120, ConvolutionKernel="SOFT")],
        PixelMeasuresSequence=[item(PixelSpacing=[0.75, 0.5])],
    )
    groups = [
        item(
            UnassignedPerFrameConvertedAttributesSequence=[
                item(TriggerTime=10 * k, AcquisitionNumber=k, AcquisitionTime="101530", RescaleSlope=9)
            ],
            PixelValueTransformationSequence=[item(RescaleSlope=2, RescaleIntercept=0)],
        )
        for k in range(2)
    ]
    path = make(
        tmp_path / "a.dcm",
        2,
        uids.LegacyConvertedEnhancedCTImageStorage,
        SharedFunctionalGroupsSequence=[shared],
        PerFrameFunctionalGroupsSequence=groups,
    )
    _, frames = read(path)
    assert [(f["trigger_time"], f["acquisition_number"]) for f in frames] == [(0.0, 0), (10.0, 1)]
    assert {(f["echo_time"], f["kvp"], f["kernel"], f["slope"]) for f in frames} == {(3.0, 120.0, "SOFT", 2.0)}
    assert {f["acquisition_time"] for f in frames} == {36930.0}


def test_one_frame_with_groups_has_a_row_and_a_cine_has_one_each(tmp_path: Path) -> None:
    shared = item(PixelMeasuresSequence=[item(PixelSpacing=[0.75, 0.5])])
    _, frames = read(make(tmp_path / "a", 1, uids.EnhancedCTImageStorage, SharedFunctionalGroupsSequence=[shared]))
    assert [(f["spacing_y"], f["spacing_x"]) for f in frames] == [(0.75, 0.5)]
    row, frames = read(make(tmp_path / "b", 3, uids.XRayAngiographicImageStorage, Modality="XA", FrameTime=33))
    assert len(frames) == 3
    assert all({**frame, "frame": 0} == frames[0] for frame in frames)
    assert row["frame_time_ms"] == 33.0
    _, frames = read(make(tmp_path / "c", 1, uids.CTImageStorage))
    assert frames == []


# ---------------------------------------------------------------------------- RT Dose


@pytest.mark.parametrize("offsets", [[0, 2.5, 5.0, 9.0], [-30, -27.5, -25.0, -21.0], [0, -2.0, -4.0, -6.0]])
def test_dose_offsets_in_both_conventions(tmp_path: Path, offsets: list[float]) -> None:
    origin, normal = np.array([-10.0, 4.0, -30.0]), dicomgen.normal_of(dicomgen.OBLIQUE)
    path = make(
        tmp_path / "a.dcm",
        4,
        uids.RTDoseStorage,
        Modality="RTDOSE",
        ImagePositionPatient=origin.tolist(),
        ImageOrientationPatient=list(dicomgen.OBLIQUE),
        PixelSpacing=[3.0, 2.0],
        GridFrameOffsetVector=offsets,
        DoseGridScaling="2.5e-4",
        DoseUnits="GY",
        FrameIncrementPointer=0x3004000C,
    )
    row, frames = read(path)
    expected = [origin + normal * (offset - offsets[0]) for offset in offsets]
    np.testing.assert_allclose(np.array(points(frames), float), expected, atol=1e-9)
    assert (row["slope"], row["rescale_type"]) == (2.5e-4, "GY")
    assert {(f["slope"], f["rescale_type"], f["spacing_y"]) for f in frames} == {(2.5e-4, "GY", 3.0)}


# ---------------------------------------------------------------------------- nuclear medicine


def make_nuclear(path: Path, kind: str, n: int, pointer: list[int], **elements: Any) -> Path:
    return make(
        path,
        n,
        uids.NuclearMedicineImageStorage,
        Modality="NM",
        ImageType=["ORIGINAL", "PRIMARY", kind, "EMISSION"],
        FrameIncrementPointer=pointer,
        PixelSpacing=[3.0, 2.0],
        DetectorInformationSequence=[
            item(ImagePositionPatient=[-10.0, 4.0, 30.0], ImageOrientationPatient=list(dicomgen.OBLIQUE))
        ],
        **elements,
    )


def test_reconstructed_tomo_steps_along_the_signed_normal(tmp_path: Path) -> None:
    path = make_nuclear(
        tmp_path / "a", "RECON TOMO", 4, [0x00540080], SliceVector=[1, 2, 3, 4], SpacingBetweenSlices=-4.5
    )
    row, frames = read(path)
    normal = dicomgen.normal_of(dicomgen.OBLIQUE)
    expected = [np.array([-10.0, 4.0, 30.0]) - 4.5 * k * normal for k in range(4)]
    np.testing.assert_allclose(np.array(points(frames), float), expected, atol=1e-9)
    assert [frame["in_stack_position"] for frame in frames] == [1, 2, 3, 4]
    assert (row["position_x"], row["row_x"]) == (-10.0, 0.8)


def test_gated_reconstruction_has_slices_and_time_slots(tmp_path: Path) -> None:
    path = make_nuclear(
        tmp_path / "a",
        "RECON GATED TOMO",
        4,
        [0x00540070, 0x00540080],
        TimeSlotVector=[1, 1, 2, 2],
        SliceVector=[1, 2, 1, 2],
        SpacingBetweenSlices=2,
    )
    _, frames = read(path)
    assert [frame["temporal_position"] for frame in frames] == [1, 1, 2, 2]
    assert points(frames)[0] == points(frames)[2] != points(frames)[1]


def test_whole_body_and_dynamic_have_no_position(tmp_path: Path) -> None:
    path = make_nuclear(
        tmp_path / "a",
        "WHOLE BODY",
        4,
        [0x00540010, 0x00540020],
        EnergyWindowVector=[1, 1, 2, 2],
        DetectorVector=[1, 2, 1, 2],
        ImagePositionPatient=[1, 2, 3],
    )
    row, frames = read(path)
    assert points(frames) == [(None, None, None)] * 4
    assert row["position_x"] is None
    assert [(f["energy_window"], f["detector"]) for f in frames] == [(1, 1), (1, 2), (2, 1), (2, 2)]
    path = make_nuclear(
        tmp_path / "b",
        "DYNAMIC",
        4,
        [0x00540030, 0x00540100],
        PhaseVector=[1, 1, 2, 2],
        TimeSliceVector=[1, 2, 1, 2],
    )
    _, frames = read(path)
    assert [frame["temporal_position"] for frame in frames] == [1, 2, 3, 4]


def test_a_reconstruction_without_a_step_has_its_thickness_as_step(tmp_path: Path) -> None:
    path = make_nuclear(tmp_path / "a", "RECON TOMO", 3, [0x00540080], SliceVector=[1, 2, 3], SliceThickness=4)
    normal = dicomgen.normal_of(dicomgen.OBLIQUE)
    expected = [np.array([-10.0, 4.0, 30.0]) + 4 * k * normal for k in range(3)]
    np.testing.assert_allclose(np.array(points(read(path)[1]), float), expected, atol=1e-9)


@pytest.mark.parametrize("whole", [True, False])
def test_dynamic_times_follow_from_the_phases(tmp_path: Path, whole: bool) -> None:
    """Two frames of 2 s with pauses of 100 ms; then, 500 ms later, three of 5 s (PS3.3 C.8.4.14)."""
    phases = [
        item(PhaseDelay=0, ActualFrameDuration=2000, PauseBetweenFrames=100, NumberOfFramesInPhase=2),
        item(PhaseDelay=500, ActualFrameDuration=5000, PauseBetweenFrames=0, NumberOfFramesInPhase=3),
    ]
    vectors = {"PhaseVector": [1, 1, 2, 2, 2], "TimeSliceVector": [1, 2, 1, 2, 3]}
    phases = phases if whole else phases[:1]
    _, frames = read(
        make_nuclear(tmp_path / "a", "DYNAMIC", 5, [0x00540030, 0x00540100], PhaseInformationSequence=phases, **vectors)
    )
    expected = [0, 2100, 4100 + 500, 9600, 14600] if whole else [None] * 5
    assert [frame["frame_offset_ms"] for frame in frames] == expected


def test_projections_keep_their_view(tmp_path: Path) -> None:
    vectors = {"DetectorVector": [1, 1, 2, 2], "AngularViewVector": [1, 2, 1, 2]}
    _, frames = read(make_nuclear(tmp_path / "a", "TOMO", 4, [0x00540020, 0x00540090], **vectors))
    assert [(frame["detector"], frame["angular_view"]) for frame in frames] == [(1, 1), (1, 2), (2, 1), (2, 2)]


@pytest.mark.parametrize(
    ("elements", "expected"),
    [
        ({"FrameTimeVector": [0, 100, 50, 200]}, [0, 100, 150, 350]),
        ({"FrameTimeVector": [7, 100, 50, 200]}, [0, 100, 150, 350]),  # the first is 0 by definition
        ({"FrameTimeVector": [0, 100, 50, 200], "FrameTime": 40}, [None] * 4),
        ({"FrameTimeVector": [0, 1, 2, 3], "FrameTime": 40, "FrameIncrementPointer": 0x00181065}, [0, 1, 3, 6]),
        ({"FrameTimeVector": [0, 100]}, [None] * 4),
        ({"FrameTimeVector": [0, 100, -50, 200]}, [None] * 4),
        ({"CineRate": 25, "RecommendedDisplayFrameRate": 10}, [0, 40, 80, 120]),
        ({"RecommendedDisplayFrameRate": 10}, [0, 100, 200, 300]),
        ({"CineRate": 25, "FrameTime": 33}, [None] * 4),
        ({"CineRate": 0}, [None] * 4),
    ],
)
def test_frame_times(tmp_path: Path, elements: dict[str, Any], expected: list[float | None]) -> None:
    path = make(tmp_path / "a", 4, uids.XRayAngiographicImageStorage, Modality="XA", **elements)
    assert [frame["frame_offset_ms"] for frame in read(path)[1]] == expected


def test_a_vector_of_the_wrong_length_is_ignored(tmp_path: Path) -> None:
    path = make_nuclear(tmp_path / "a", "STATIC", 4, [0x00540020], DetectorVector=[1, 2])
    _, frames = read(path)
    assert [frame["detector"] for frame in frames] == [None] * 4


# ---------------------------------------------------------------------------- ultrasound, LUT


def region(**changes: Any) -> Dataset:
    values: dict[str, Any] = {
        "RegionSpatialFormat": 1,
        "RegionLocationMinX0": 0,
        "RegionLocationMinY0": 0,
        "RegionLocationMaxX1": COLUMNS - 1,
        "RegionLocationMaxY1": ROWS - 1,
        "PhysicalUnitsXDirection": 3,
        "PhysicalUnitsYDirection": 3,
        "PhysicalDeltaX": 0.02,
        "PhysicalDeltaY": -0.03,
    }
    return item(**{**values, **changes})


@pytest.mark.parametrize(
    ("regions", "expected"),
    [
        ([region()], (0.3, 0.2, "region")),
        ([region(), region(RegionSpatialFormat=3)], (0.3, 0.2, "region")),
        ([region(), region()], (None, None, None)),
        ([region(PhysicalUnitsXDirection=4)], (None, None, None)),
        ([region(RegionLocationMinX0=2)], (None, None, None)),
        ([region(PhysicalDeltaX=0.0)], (None, None, None)),
        ([], (None, None, None)),
    ],
)
def test_ultrasound_regions(tmp_path: Path, regions: list[Dataset], expected: tuple[Any, ...]) -> None:
    path = make(
        tmp_path / "a", 1, uids.UltrasoundImageStorage, Modality="US", SequenceOfUltrasoundRegions=regions or None
    )
    row, _ = read(path)
    found = (row["spacing_y"], row["spacing_x"], row["spacing_kind"])
    assert found == (pytest.approx(expected[0]), pytest.approx(expected[1]), expected[2])


def lut_item(first: int, entries: Sequence[int], vr: str) -> Dataset:
    made = Dataset()
    made.add_new(0x00283002, vr, [len(entries) % 65536, first, 16])
    made.ModalityLUTType = "OD"
    made.add_new(0x00283006, "OW", struct.pack(f"<{len(entries)}H", *entries))
    return made


@pytest.mark.parametrize("syntax", [uids.ExplicitVRLittleEndian, uids.ImplicitVRLittleEndian])
@pytest.mark.parametrize(("first", "vr", "sign"), [(100, "US", 0), (-100, "SS", 1)])
def test_modality_lut_is_packed(tmp_path: Path, syntax: str, first: int, vr: str, sign: int) -> None:
    entries = [5, 50000, 7, 8]
    path = make(
        tmp_path / "a",
        1,
        uids.CTImageStorage,
        syntax=syntax,
        Modality="CT",
        PixelRepresentation=sign,
        ModalityLUTSequence=[lut_item(first, entries, vr)],
    )
    row, _ = read(path)
    assert row["modality_lut"] == struct.pack("<i4H", first, *entries)
    assert row["rescale_type"] == "OD"


def test_modality_lut_of_65536_entries_and_of_xa(tmp_path: Path) -> None:
    entries = list(range(65535, -1, -1))
    path = make(tmp_path / "a", 1, uids.CTImageStorage, ModalityLUTSequence=[lut_item(0, entries, "US")])
    assert read(path)[0]["modality_lut"] == struct.pack("<i65536H", 0, *entries)
    path = make(
        tmp_path / "b",
        1,
        uids.XRayAngiographicImageStorage,
        Modality="XA",
        ModalityLUTSequence=[lut_item(0, [1, 2], "US")],
    )
    row, _ = read(path)
    assert (row["modality_lut"], row["repaired"]) == (None, "lut-not-applied")
    path.write_bytes(path.read_bytes()[132:])  # the preamble is lost as well
    assert read(path)[0]["repaired"] == "lut-not-applied"
    data = path.read_bytes()
    path.write_bytes(data[12 + int.from_bytes(data[8:12], "little") :])  # and group 2
    assert read(path)[0]["repaired"] == "repaired-syntax;lut-not-applied"


# ---------------------------------------------------------------------------- spacing


@pytest.mark.parametrize(
    ("modality", "elements", "expected"),
    [
        ("DX", {"ImagerPixelSpacing": [0.15, 0.14]}, (0.15, 0.14, "detector")),
        ("DX", {"ImagerPixelSpacing": [0.15, 0.14], "PixelSpacing": [0.15, 0.14]}, (0.15, 0.14, "detector")),
        ("DX", {"ImagerPixelSpacing": [0.15, 0.14], "PixelSpacing": [0.12, 0.11]}, (0.12, 0.11, "calibrated")),
        ("CR", {"PixelSpacing": [0.12, 0.11], "PixelSpacingCalibrationType": "FIDUCIAL"}, (0.12, 0.11, "calibrated")),
        ("CT", {"PixelSpacing": [0.12, 0.11]}, (0.12, 0.11, "patient")),
        ("CT", {"PixelSpacing": [0.12, 0]}, (None, None, None)),
        ("OT", {"NominalScannedPixelSpacing": [0.3, 0.2]}, (0.3, 0.2, "detector")),
        ("RTIMAGE", {"ImagePlanePixelSpacing": [0.25, 0.2]}, (0.25, 0.2, "detector")),
        ("RTIMAGE", {"ImagePlanePixelSpacing": [0.25, 0]}, (None, None, None)),
        ("OT", {}, (None, None, None)),
    ],
)
def test_what_a_spacing_measures(
    tmp_path: Path, modality: str, elements: dict[str, Any], expected: tuple[Any, ...]
) -> None:
    row, _ = read(make(tmp_path / "a", 1, uids.SecondaryCaptureImageStorage, Modality=modality, **elements))
    assert (row["spacing_y"], row["spacing_x"], row["spacing_kind"]) == expected


# ---------------------------------------------------------------------------- vendors' b-values


def siemens(dataset: Dataset) -> None:
    block = dataset.private_block(0x0019, "SIEMENS MR HEADER", create=True)
    block.add_new(0x0C, "IS", "1000")
    block.add_new(0x0E, "FD", [0.6, -0.8, 0.0])


def ge(dataset: Dataset) -> None:
    dataset.private_block(0x0043, "GEMS_PARM_01", create=True).add_new(0x39, "IS", ["1000001000", "8", "0", "0"])
    block = dataset.private_block(0x0019, "GEMS_ACQU_01", create=True)
    for element, value in zip((0xBB, 0xBC, 0xBD), ("0.6", "-0.8", "0.0"), strict=True):
        block.add_new(element, "DS", value)


def philips(dataset: Dataset) -> None:
    dataset.private_block(0x2001, "Philips Imaging DD 001", create=True).add_new(0x03, "FL", 1000.0)
    block = dataset.private_block(0x2005, "Philips MR Imaging DD 001", create=True)
    for element, value in zip((0xB0, 0xB1, 0xB2), (0.6, -0.8, 0.0), strict=True):
        block.add_new(element, "FL", value)


def uih(dataset: Dataset) -> None:
    block = dataset.private_block(0x0065, "Image Private Header", create=True)
    block.add_new(0x09, "FD", 1000.0)
    block.add_new(0x37, "FD", [0.6, -0.8, 0.0])


def standard(dataset: Dataset) -> None:
    siemens(dataset)
    dataset.DiffusionBValue = 1000.0
    dataset.DiffusionGradientOrientation = [0.6, -0.8, 0.0]
    dataset[0x0019100C].value = "7"


def shifted(dataset: Dataset) -> None:
    dataset.private_block(0x0019, "SOMEBODY ELSE", create=True).add_new(0x0C, "IS", "55")
    siemens(dataset)


def reserved_by_another(dataset: Dataset) -> None:
    dataset.private_block(0x0019, "SOMEBODY ELSE", create=True).add_new(0x0C, "IS", "55")


def csa(dataset: Dataset) -> None:
    """All that is left of Siemens where group 0019 was taken out; as long as those of scanners."""
    header = dicomgen.csa_header(
        {"Long": [1.25] * 500, "B_value": [1000], "DiffusionGradientDirection": [0.6, -0.8, 0.0]}
    )
    assert 4096 < len(header) < 65536
    dataset.private_block(0x0029, "SIEMENS CSA HEADER", create=True).add_new(0x10, "OB", header)


def canon(dataset: Dataset) -> None:
    dataset.DiffusionBValue = 1000.0
    dataset.ImageComments = "b=1000(0.600,-0.800,0.000)"


def canon_comment_alone(dataset: Dataset) -> None:
    dataset.ImageComments = "b=1000(0.600,-0.800,0.000)"


def siemens_and_csa(dataset: Dataset) -> None:
    csa(dataset)
    siemens(dataset)


VENDORS = [
    siemens, csa, siemens_and_csa, ge, philips, uih, canon, canon_comment_alone, standard, shifted
]  # fmt: skip


@pytest.mark.parametrize("syntax", [uids.ExplicitVRLittleEndian, uids.ImplicitVRLittleEndian])
@pytest.mark.parametrize("vendor", VENDORS)
def test_b_values(tmp_path: Path, vendor: Callable[[Dataset], None], syntax: str) -> None:
    frames = np.zeros((1, ROWS, COLUMNS), np.uint16)
    dataset = dicomgen.new_dataset(
        uids.MRImageStorage, "1.2", Modality="MR", **dicomgen.pixel_module(frames, bits_stored=12)
    )
    vendor(dataset)
    dicomgen.set_pixels(dataset, frames, syntax)
    row, _ = read(dicomgen.save(dataset, tmp_path / "a.dcm"))
    assert row["b_value"] == 1000.0
    assert (row["b_x"], row["b_y"], row["b_z"]) == (pytest.approx(0.6), pytest.approx(-0.8), 0.0)
    assert row["b_frame"] == ("image" if vendor in (ge, canon, canon_comment_alone) else None)
    assert differences([str(tmp_path)], all_files([str(tmp_path)])) == []


def ge_component(dataset: Dataset, number: int, creator: str = "GEMS_PARM_01") -> None:
    dataset.private_block(0x0043, creator, create=True).add_new(0x2F, "SS", number)


@pytest.mark.parametrize("syntax", [uids.ExplicitVRLittleEndian, uids.ImplicitVRLittleEndian])
def test_ge_says_which_part_of_a_complex_image_it_is(tmp_path: Path, syntax: str) -> None:
    """Magnitude, phase, real and imaginary of GE differ in Raw Data Type alone; the standard's element wins."""
    frames = np.zeros((1, ROWS, COLUMNS), np.uint16)
    cases: list[tuple[int, dict[str, str], str | None]] = [
        (0, {}, "MAGNITUDE"),
        (1, {}, "PHASE"),
        (2, {}, "REAL"),
        (3, {}, "IMAGINARY"),
        (4, {}, None),
        (-1, {}, None),
        (1, {"ComplexImageComponent": "MIXED"}, "MIXED"),
        (1, {"Modality": "CT"}, None),
        (1, {"creator": "SOMEBODY ELSE"}, None),
    ]
    for k, (number, elements, _) in enumerate(cases):
        more = {"Modality": "MR", **dicomgen.pixel_module(frames, bits_stored=12), **elements}
        creator = more.pop("creator", "GEMS_PARM_01")
        dataset = dicomgen.new_dataset(uids.MRImageStorage, f"1.2.{k}", **more)
        ge_component(dataset, number, creator)
        dicomgen.set_pixels(dataset, frames, syntax)
        row, _ = read(dicomgen.save(dataset, tmp_path / f"{k}.dcm"))
        assert row["complex_component"] == cases[k][2]
    assert differences([str(tmp_path)], all_files([str(tmp_path)])) == []


@pytest.mark.parametrize("phase", ["COL", "ROW"])
@pytest.mark.parametrize(
    ("orientation", "position"), [(OBLIQUE_AXIAL, "HFS"), (SAGITTAL, "HFS"), (OBLIQUE_AXIAL, "FFS")]
)
def test_directions_of_ge(tmp_path: Path, phase: str, orientation: Sequence[float], position: str) -> None:
    """In axial planes frequency is -row and phase -column (COL), or column and -row (ROW); elsewhere nobody knows."""

    def edit(_: int, dataset: Dataset) -> None:
        ge(dataset)
        dataset.InPlanePhaseEncodingDirection, dataset.PatientPosition = phase, position

    dicomgen.make_series(tmp_path, n=1, modality="MR", orientation=orientation, edit=edit)
    row, _ = read(next(tmp_path.iterdir()))
    along_row, along_column = np.array(orientation[:3]), np.array(orientation[3:])
    frequency, phases = (-along_row, -along_column) if phase == "COL" else (along_column, -along_row)
    known = position == "HFS" and orientation is OBLIQUE_AXIAL
    expected = 0.6 * frequency - 0.8 * phases if known else np.array([0.6, -0.8, 0.0])
    np.testing.assert_allclose([row["b_x"], row["b_y"], row["b_z"]], expected, atol=1e-9)
    assert row["b_frame"] == (None if known else "image")
    assert differences([str(tmp_path)], all_files([str(tmp_path)])) == []


@pytest.mark.parametrize("text", ["b=1000 of Jane Doe", "b=", "b=1000(1,2)", "nothing", "b=1000(a,b,c)"])
def test_a_comment_of_another_form_is_no_b_value(tmp_path: Path, text: str) -> None:
    def edit(_: int, dataset: Dataset) -> None:
        dataset.ImageComments = text

    dicomgen.make_series(tmp_path, n=1, modality="MR", edit=edit)
    assert read(next(tmp_path.iterdir()))[0]["b_value"] is None
    assert differences([str(tmp_path)], all_files([str(tmp_path)])) == []


def test_csa_headers_of_a_series_are_read_one_by_one(tmp_path: Path) -> None:
    def edit(k: int, dataset: Dataset) -> None:
        header = dicomgen.csa_header({"B_value": [[0], [500], []][k], "DiffusionGradientDirection": [0.0, 0.6, 0.8]})
        dataset.private_block(0x0029, "SIEMENS CSA HEADER", create=True).add_new(0x10, "OB", header)

    made = dicomgen.make_series(tmp_path, n=3, modality="MR", edit=edit)
    rows = [read(path)[0] for path in made.paths]
    assert [(row["b_value"], row["b_z"]) for row in rows] == [(0.0, None), (500.0, 0.8), (None, None)]
    assert differences([str(tmp_path)], all_files([str(tmp_path)])) == []


@pytest.mark.parametrize("length", [60_000, 70_000])
def test_a_csa_header_of_any_length(tmp_path: Path, length: int) -> None:
    """Beyond 64 KiB it is not read, by neither reader; a file with one is read at full speed."""

    def edit(_: int, dataset: Dataset) -> None:
        header = dicomgen.csa_header({"B_value": [700], "NumberOfImagesInMosaic": []})
        header += bytes(length - len(header))
        dataset.private_block(0x0029, "SIEMENS CSA HEADER", create=True).add_new(0x10, "OB", header)

    dicomgen.make_series(tmp_path, n=1, modality="MR", edit=edit)
    assert read(next(tmp_path.iterdir()))[0]["b_value"] == (700.0 if length < 65536 else None)
    assert differences([str(tmp_path)], all_files([str(tmp_path)])) == []


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("*ep_b1000#5", 1000.0),
        ("*ep_b0", 0.0),
        ("ep_b50t", 50.0),
        ("*re_b800t", 800.0),
        ("*ez2_b400#12", 400.0),
        ("*ep_b0_1000", None),  # a map made of several
        ("*tfl3d1_16ns", None),
        ("ep_b", None),
        ("*ep_b100000", None),
    ],
)
def test_the_sequence_name_of_siemens_where_nothing_else_is_left(
    tmp_path: Path, name: str, expected: float | None
) -> None:
    def edit(_: int, dataset: Dataset) -> None:
        dataset.SequenceName = name

    dicomgen.make_series(tmp_path, n=1, modality="MR", edit=edit)
    row, _ = read(next(tmp_path.iterdir()))
    assert (row["b_value"], row["b_x"], row["b_frame"]) == (expected, None, None)
    assert differences([str(tmp_path)], all_files([str(tmp_path)])) == []


def csa_beside_anothers_element(dataset: Dataset) -> None:
    reserved_by_another(dataset)
    csa(dataset)


@pytest.mark.parametrize("vendor", [siemens, csa, siemens_and_csa, csa_beside_anothers_element])
def test_what_siemens_says_elsewhere_wins_over_the_sequence_name(
    tmp_path: Path, vendor: Callable[[Dataset], None]
) -> None:
    def edit(_: int, dataset: Dataset) -> None:
        dataset.SequenceName = "*ep_b700#5"
        vendor(dataset)

    dicomgen.make_series(tmp_path, n=2, modality="MR", edit=edit)
    row, _ = read(min(tmp_path.iterdir()))
    assert (row["b_value"], row["b_x"], row["b_y"]) == (1000.0, 0.6, -0.8)
    assert differences([str(tmp_path)], all_files([str(tmp_path)])) == []


def test_another_vendors_element_is_no_b_value(tmp_path: Path) -> None:
    frames = np.zeros((1, ROWS, COLUMNS), np.uint16)
    for modality, vendor in (("MR", reserved_by_another), ("CT", siemens)):
        dataset = dicomgen.new_dataset(
            uids.MRImageStorage, "1.2", Modality=modality, **dicomgen.pixel_module(frames, bits_stored=12)
        )
        vendor(dataset)
        dicomgen.set_pixels(dataset, frames, uids.ExplicitVRLittleEndian)
        row, _ = read(dicomgen.save(dataset, tmp_path / "a.dcm"))
        assert row["b_value"] is None
