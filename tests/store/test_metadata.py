"""The documents of a volume: exact attributes, strict JSON, and readers that know nothing of fastdcm."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
import zarrs  # noqa: F401  (registers its codec pipeline)

from fastdcm.model import Axis, Options, VolumePlan
from fastdcm.series.plan import plan_volume
from fastdcm.store.metadata import VolumeFacts, group_document, root_document, volume_documents
from fastdcm.store.ome import orientation_labels
from tests.series.made import ORIGIN, SPACING, make_plan, make_series, make_volume
from tests.store.written import Array, write_volume

NAN = float("nan")
TAGS = {"00080060": {"vr": "CS", "Value": ["CT"]}}
SLICE_TAGS = {"00200013": {"vr": "IS", "Value": [[k] for k in range(5)]}}


def attributes_of(plan: VolumePlan, facts: VolumeFacts | None = None) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(volume_documents(plan, facts or VolumeFacts())["zarr.json"])["attributes"]
    return found


def ours(plan: VolumePlan, facts: VolumeFacts | None = None) -> dict[str, Any]:
    found: dict[str, Any] = attributes_of(plan, facts)["fastdcm"]
    return found


def cine() -> VolumePlan:
    index, frames = make_series(
        4, samples=3, photometric="YBR_FULL", bits_allocated=8, bits_stored=8, modality="US",
        **dict.fromkeys(["position_x", "position_y", "position_z", "slope", "intercept", "thickness"]),
    )  # fmt: skip
    volume = make_volume(
        np.arange(4).reshape(4, 1, 1), (Axis("t", "frame", "ms", (0.0, 40.0, 80.0, 120.0)),), "cine",
        spacing=(1.0, 1.0, 1.0), spacing_kind="none", spacing_z_source="none", origin=None, direction=None,
        affine=None, uniform=False, has_position=False, frame_of_reference_uid=None, z_mm=np.zeros(1),
    )  # fmt: skip
    return plan_volume(frames, volume, "1.2/1.3/0.ome.zarr", "PABCDEFGHIJ", Options(), index)


def uneven() -> VolumePlan:
    volume = make_volume(
        [0, 1, 2, 3], affine=None, uniform=False, spacing_z_nominal=True, max_residual_mm=1.5,
        z_mm=np.array([31.25, 33.25, 35.25, 40.25]), missing_slices=(3,),
    )  # fmt: skip
    return make_plan(4, volume=volume)[0]


def test_a_ct_says_what_the_store_format_says() -> None:
    plan, _ = make_plan(5)
    found = attributes_of(plan, VolumeFacts(["ab"] * 5, TAGS, SLICE_TAGS))
    (multiscale,) = found["ome"]["multiscales"]
    assert found["ome"]["version"] == "0.5"
    assert multiscale["axes"] == [
        {"name": name, "type": "space", "unit": "millimeter", "orientation": {"type": "anatomical", "value": value}}
        for name, value in (
            ("z", "inferior-to-superior"), ("y", "anterior-to-posterior"), ("x", "right-to-left"),
        )
    ]  # fmt: skip
    assert multiscale["datasets"] == [
        {
            "path": "0/image",
            "coordinateTransformations": [
                {"type": "scale", "scale": list(SPACING[::-1])},
                {"type": "translation", "translation": list(ORIGIN[::-1])},
            ],
        }
    ]
    (channel,) = found["ome"]["omero"]["channels"]
    assert channel["window"] == {"min": -1024, "max": 3071, "start": -160, "end": 240}
    assert (channel["label"], channel["color"], channel["active"]) == ("CT", "FFFFFF", True)
    fastdcm = found["fastdcm"]
    assert fastdcm["geometry"] == {
        "space": "LPS", "unit": "mm", "index_order": "xyz", "spacing": list(SPACING), "spacing_kind": "patient",
        "spacing_z_source": "positions", "uniform": True, "sheared": False, "max_residual_mm": 0, "missing_slices": [],
        "has_position": True, "origin": list(ORIGIN), "direction": np.eye(3).tolist(),
        "affine": [[0.5, 0, 0, -120], [0, 0.75, 0, -80.5], [0, 0, 2, 31.25], [0, 0, 0, 1]],
        "frame_of_reference_uid": "1.2.840.1.9",
    }  # fmt: skip
    assert fastdcm["intensity"] == {
        "values": "modality", "rescale_per_slice": False, "lossy": False, "inverted": False, "rescale_slope": 1.0,
        "rescale_intercept": -1024.0, "rescale_type": "HU", "bits_stored": 12, "pixel_representation": 0,
        "photometric_interpretation": "MONOCHROME2", "source_photometric_interpretation": "MONOCHROME2",
        "window_center": [40.0], "window_width": [400.0],
    }  # fmt: skip
    slices = fastdcm["slices"]
    assert slices["position"] == [[ORIGIN[0], ORIGIN[1], ORIGIN[2] + 2 * k] for k in range(5)]
    assert slices["instance_number"] == [1, 2, 3, 4, 5]
    assert slices["acquisition_time"] == [100.0 + k for k in range(5)]
    assert (slices["thickness_mm"], slices["gap_mm"]) == (1.5, 0.5)
    assert "present" not in slices
    assert fastdcm["identity"]["image_type"] == ["ORIGINAL", "PRIMARY", "AXIAL"]
    assert fastdcm["source"]["n_instances"] == fastdcm["source"]["n_frames"] == 5
    assert fastdcm["source"]["transfer_syntax_uids"] == ["1.2.840.10008.1.2.1"]
    assert fastdcm["source"]["pixel_hash"] == ["ab"] * 5
    assert fastdcm["source"]["digest"] == plan.digest
    assert (fastdcm["dicom"], fastdcm["dicom_per_slice"]) == (TAGS, SLICE_TAGS)
    assert fastdcm["dims"] == {}


def test_free_text_needs_full_metadata() -> None:
    for policy in ("technical", "none"):
        text = b"".join(volume_documents(make_plan(3, Options(metadata=policy))[0], VolumeFacts()).values())
        assert b"someone" not in text
        assert b"20200131" not in text
    full = ours(make_plan(3, Options(metadata="full"))[0])
    assert full["identity"]["series_description"] == "chest of someone"
    assert "acquisition_time" not in ours(make_plan(3, Options(metadata="none"))[0])["slices"]


def test_what_is_unknown_is_absent() -> None:
    found = attributes_of(cine())
    geometry = found["fastdcm"]["geometry"]
    assert not {"affine", "origin", "direction", "frame_of_reference_uid"} & set(geometry)
    assert (geometry["spacing_kind"], geometry["has_position"]) == ("none", False)
    assert not {"position", "thickness_mm", "gap_mm"} & set(found["fastdcm"]["slices"])
    assert not {"rescale_slope", "rescale_intercept", "padding_stored"} & set(found["fastdcm"]["intensity"])
    axes = found["ome"]["multiscales"][0]["axes"]
    assert not any("orientation" in axis for axis in axes)
    assert {axis["name"]: axis.get("unit") for axis in axes} == {
        "t": "millisecond", "c": None, "z": None, "y": None, "x": None,
    }  # fmt: skip
    scale, translation = found["ome"]["multiscales"][0]["datasets"][0]["coordinateTransformations"]
    assert scale["scale"] == [40.0, 1.0, 1.0, 1.0, 1.0]
    assert translation["translation"] == [0.0] * 5


def test_colour_is_three_channels() -> None:
    found = attributes_of(cine())
    assert found["fastdcm"]["dims"]["c"] == {"role": "colour", "values": ["R", "G", "B"]}
    assert found["fastdcm"]["dims"]["t"]["role"] == "frame"
    assert found["fastdcm"]["intensity"]["photometric_interpretation"] == "RGB"
    assert found["fastdcm"]["intensity"]["source_photometric_interpretation"] == "YBR_FULL"
    assert [(one["color"], one["window"]["max"]) for one in found["ome"]["omero"]["channels"]] == [
        ("FF0000", 255), ("00FF00", 255), ("0000FF", 255),
    ]  # fmt: skip


def test_uneven_stack_keeps_its_positions(tmp_path: Path) -> None:
    plan = uneven()
    geometry = ours(plan)["geometry"]
    assert "affine" not in geometry
    assert geometry["spacing_z_nominal"] is True
    assert geometry["missing_slices"] == [3]
    documents = volume_documents(plan, VolumeFacts())
    assert np.frombuffer(documents["0/z/c.0"], "<f8").tolist() == [31.25, 33.25, 35.25, 40.25]


def test_filled_slices_are_said() -> None:
    volume = make_volume([[[0, -1, 1]], [[2, 3, -1]]], (Axis("t", "temporal_position", None, (1, 2)),))
    plan, _ = make_plan(4, volume=volume)
    slices = ours(plan)["slices"]
    assert slices["present"] == [True, False, True, True, True, False]
    assert slices["instance_number"] == [1, None, 2, 3, 4, None]
    assert slices["position"][1] is None
    assert slices["thickness_mm"] == 1.5


def test_slope_per_slice_is_kept() -> None:
    plan, _ = make_plan(3, slope=[0.5, 0.75, 1.0], intercept=0.0, modality="PT", units="BQML")
    found = ours(plan)
    assert (found["intensity"]["rescale_per_slice"], found["intensity"]["units"]) == (True, "BQML")
    assert "rescale_slope" not in found["intensity"]
    assert found["slices"]["rescale_slope"] == [0.5, 0.75, 1.0]
    assert found["intensity"]["rescale_intercept"] == 0.0


def test_an_intercept_alone_is_recorded() -> None:
    found = ours(make_plan(2, slope=None, intercept=-100.0)[0])["intensity"]
    assert (found["rescale_slope"], found["rescale_intercept"]) == (1.0, -100.0)


def test_what_was_applied_is_recorded_where_one_slice_is_unreadable() -> None:
    found = ours(make_plan(3, slope=[2.0, NAN, 2.0], intercept=-100.0)[0])
    assert found["slices"]["rescale_slope"] == [2.0, 1.0, 2.0]
    assert found["slices"]["rescale_intercept"] == [-100.0, 0.0, -100.0]
    found = ours(make_plan(3, slope=[1.0, NAN, 1.0], intercept=-100.0)[0])
    assert found["intensity"]["rescale_slope"] == 1.0
    assert found["slices"]["rescale_intercept"] == [-100.0, 0.0, -100.0]


def test_columns_that_differ_and_numbers_from_private_tags() -> None:
    plan, _ = make_plan(
        3, b_value=1000.0, echo_time=[2.0, 4.0, None], window_center=["40", "50\\60", None], bits_stored=[12, 12, 16],
        padding=-7, padding_limit=-3, pixel_representation=1,
    )  # fmt: skip
    found = ours(plan)
    assert found["slices"]["b_value"] == 1000.0
    assert found["slices"]["echo_time"] == [2.0, 4.0, None]
    assert found["slices"]["window_center"] == [[40.0], [50.0, 60.0], None]
    assert "window_width" not in found["slices"]
    assert found["slices"]["bits_stored"] == [12, 12, 16]
    assert "bits_stored" not in found["intensity"]
    assert found["intensity"]["padding_range_stored"] == [-7, -3]
    assert found["intensity"]["padding_value"] == -1031


def test_tables_of_an_axis_and_its_channels() -> None:
    axis = Axis("c", "b_value", "s mm-2", (0, 1000))
    plan, _ = make_plan(4, volume=make_volume([[[0, 1], [2, 3]]], (axis,)))
    found = attributes_of(plan)
    assert found["fastdcm"]["dims"]["c"] == {"role": "b_value", "unit": "s mm-2", "values": [0, 1000]}
    assert [channel["label"] for channel in found["ome"]["omero"]["channels"]] == ["b_value 0", "b_value 1000"]
    axis = Axis("t", "trigger_time", "ms", ((0.0, 1.0), (30.0, 31.5)), inferred=True, per_slice=True)
    plan, _ = make_plan(4, volume=make_volume([[[0, 1]], [[2, 3]]], (axis,)))
    found = attributes_of(plan)
    assert found["fastdcm"]["dims"]["t"]["values"] == [[0.0, 1.0], [30.0, 31.5]]
    assert (found["fastdcm"]["dims"]["t"]["inferred"], found["fastdcm"]["dims"]["t"]["per_slice"]) == (True, True)
    scale = found["ome"]["multiscales"][0]["datasets"][0]["coordinateTransformations"][0]
    assert scale["scale"] == [1.0, *SPACING[::-1]]


def test_json_is_strict_and_utf8_whatever_the_headers_hold() -> None:
    plan, _ = make_plan(
        2, Options(metadata="full"), description="caf\u00e9 \u4e2d", window_center="nan", thickness=None
    )
    geometry = replace(plan.volume.geometry, max_residual_mm=NAN)
    plan = replace(plan, volume=replace(plan.volume, geometry=geometry))
    facts = VolumeFacts(tags={"00081030": {"vr": "LO", "Value": ["broken \udcff"]}}, notes=[(1, "decode", "odd")])
    text = volume_documents(plan, facts)["zarr.json"].decode("utf-8")

    def refuse(name: str) -> None:
        raise AssertionError(name)

    found = json.loads(text, parse_constant=refuse)["attributes"]["fastdcm"]
    assert found["identity"]["series_description"] == "caf\u00e9 \u4e2d"
    assert found["geometry"]["max_residual_mm"] is None
    assert found["reasons"] == [{"code": "decode", "message": "odd", "slices": [1]}]
    with pytest.raises(ValueError, match="JSON"):
        volume_documents(plan, VolumeFacts(tags={"0": {"Value": [NAN]}}))


def test_illegal_uids_are_hashed_in_the_attributes_too() -> None:
    plan, _ = make_plan(2, study_uid="../../etc/passwd", series_uid="x" * 10_000)
    identity = ours(plan)["identity"]
    assert identity["study_uid"].startswith("x-")
    assert len(identity["series_uid"]) == 18


def test_large_varying_tags_have_their_own_array(tmp_path: Path) -> None:
    plan, index = make_plan(5)
    values = ["caf\u00e9 " * 3000 + str(k) for k in range(5)]
    tags = {"00204000": {"vr": "LT", "Value": [[value] for value in values]}}
    write_volume(tmp_path, plan, index, VolumeFacts(slice_tags=tags))
    group = zarr.open_group(tmp_path, mode="r")
    assert "dicom_per_slice" not in group.attrs["fastdcm"]  # type: ignore[operator]
    array = group["dicom"]
    assert isinstance(array, zarr.Array)
    assert json.loads(np.asarray(array[...]).tobytes()) == tags


def test_one_image_is_at_most_twelve_files_and_two_milliseconds(tmp_path: Path) -> None:
    plan, index = make_plan(1)
    write_volume(tmp_path / "0", plan, index, VolumeFacts(["0" * 32], TAGS))
    assert len([path for path in tmp_path.rglob("*") if path.is_file()]) == 10
    best = min(_time(lambda k=k: write_volume(tmp_path / str(k), plan, index)) for k in range(1, 30))
    assert best < 0.05  # a guard against a hundredfold loss, no benchmark


def _time(work: Any) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


# ---------------------------------------------------------------------------- readers

PLANS = {
    "ct": lambda: make_plan(11, columns=30),
    "one image": lambda: make_plan(1),
    "stored": lambda: make_plan(3, Options(values="stored"), slope=2.0),
    "float": lambda: make_plan(3, slope=0.25),
    "4-D": lambda: make_plan(
        6, volume=make_volume(np.arange(6).reshape(2, 1, 3), (Axis("t", "trigger_time", "ms", (5.0, 35.0)),), "4d")
    ),
    "5-D": lambda: make_plan(
        12,
        Options(codec="lz4", chunks=(2, 8, 8)),
        volume=make_volume(
            np.arange(12).reshape(2, 2, 3),
            (Axis("t", "temporal_position", None, (1, 2)), Axis("c", "echo_time", "ms", (2.5, 5.0))),
            "4d",
        ),
    ),
    "cine": lambda: (cine(), make_series(4)[0]),
    "uneven": lambda: (uneven(), make_series(4)[0]),
    "monochrome1": lambda: make_plan(1, photometric="MONOCHROME1", modality="DX"),
}


@pytest.fixture(scope="module", params=PLANS)
def written(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, VolumePlan, Array]:
    folder = tmp_path_factory.mktemp("volume") / "0.ome.zarr"
    plan, index = PLANS[request.param]()
    return folder, plan, write_volume(folder, plan, index)


def test_zarr_python(written: tuple[Path, VolumePlan, Array]) -> None:
    folder, plan, values = written
    group = zarr.open_group(folder, mode="r")
    assert set(group.group_keys()) == {"0"}
    array = group["0/image"]
    assert isinstance(array, zarr.Array)
    assert (array.dtype, array.shards, array.chunks) == (values.dtype, plan.array.shards, plan.array.chunks)
    assert array.metadata.dimension_names == tuple(plan.array.axes)  # type: ignore[union-attr]
    np.testing.assert_array_equal(array.fill_value, np.array(plan.array.fill_value, array.dtype))
    np.testing.assert_array_equal(array[...], values)


def test_zarrs(written: tuple[Path, VolumePlan, Array]) -> None:
    folder, _, values = written
    with zarr.config.set({"codec_pipeline.path": "zarrs.ZarrsCodecPipeline"}):
        np.testing.assert_array_equal(zarr.open_array(folder / "0/image", mode="r")[...], values)


def test_tensorstore(written: tuple[Path, VolumePlan, Array]) -> None:
    import tensorstore

    folder, plan, values = written
    spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": str(folder / "0/image")}}
    array = tensorstore.open(spec, read=True).result()
    np.testing.assert_array_equal(array.read().result(), values)
    assert array.domain.labels == tuple(plan.array.axes)


def test_xarray(written: tuple[Path, VolumePlan, Array]) -> None:
    import xarray

    folder, plan, values = written
    dataset = xarray.open_zarr(folder, group="0", consolidated=False)
    scale = 2.0 if plan.rule.values == "stored" else 1.0
    offset = -1024.0 if plan.rule.values == "stored" else 0.0
    np.testing.assert_array_equal(dataset["image"].to_numpy(), values * scale + offset if scale != 1 else values)
    assert dataset["image"].dims == tuple(plan.array.axes)
    geometry = plan.volume.geometry
    origin = geometry.origin or (0.0, 0.0, 0.0)
    for name, start, step in zip("xyz", origin, geometry.spacing, strict=True):
        n = plan.array.shape[plan.array.axes.index(name)]
        expected = start + np.arange(n) * step if name != "z" or geometry.uniform else geometry.z_mm
        np.testing.assert_array_equal(dataset[name].to_numpy(), expected)
        assert dataset[name].attrs["units"] == "mm"


def test_ngff_zarr_strict(written: tuple[Path, VolumePlan, Array]) -> None:
    import ngff_zarr
    from ngff_zarr.validate import validate

    folder, plan, values = written
    validate(json.loads((folder / "zarr.json").read_text())["attributes"], version="0.5", strict=True)
    image = ngff_zarr.from_ngff_zarr(str(folder), validate=True).images[0]
    np.testing.assert_array_equal(np.asarray(image.data), values)
    assert [image.scale[axis] for axis in "xyz"] == list(plan.volume.geometry.spacing)


def test_ome_zarr_models(written: tuple[Path, VolumePlan, Array]) -> None:
    from ome_zarr_models.v05 import Image

    folder, _, _ = written
    assert Image.from_zarr(zarr.open_group(folder, mode="r")).ome_attributes.version == "0.5"


# ---------------------------------------------------------------------------- small ones


def rotation(axis: int, degrees: float) -> Array:
    a, b = [k for k in range(3) if k != axis]
    turned = np.eye(3)
    turned[a, a] = turned[b, b] = np.cos(np.deg2rad(degrees))
    turned[a, b], turned[b, a] = -np.sin(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    return turned


def test_orientation_labels() -> None:
    assert orientation_labels(np.eye(3)) == ("right-to-left", "anterior-to-posterior", "inferior-to-superior")
    sagittal = np.array([[0, 0, 1], [1, 0, 0], [0, -1, 0]], dtype=np.float64)
    assert orientation_labels(sagittal) == ("anterior-to-posterior", "superior-to-inferior", "right-to-left")
    assert orientation_labels(-np.eye(3)) == ("left-to-right", "posterior-to-anterior", "superior-to-inferior")
    assert orientation_labels(rotation(0, 36)) is not None
    assert orientation_labels(rotation(0, 38)) is None  # cosine under 0.8
    assert orientation_labels(rotation(2, 45)) is None
    assert orientation_labels(np.full((3, 3), NAN)) is None
    # Largest sum wins over the largest single cosine: each anatomical axis is used once.
    sheared = np.eye(3)
    sheared[:, 2] = (0, -np.sin(np.deg2rad(30)), np.cos(np.deg2rad(30)))
    assert orientation_labels(sheared) == ("right-to-left", "anterior-to-posterior", "inferior-to-superior")


def test_quadrupeds_have_no_labels() -> None:
    axes = attributes_of(make_plan(2, quadruped="QUADRUPED")[0])["ome"]["multiscales"][0]["axes"]
    assert not any("orientation" in axis for axis in axes)


def test_monochrome1_is_said_to_be_inverted_and_turned_over_on_request() -> None:
    plan, _ = make_plan(1, photometric="MONOCHROME1")
    assert attributes_of(plan)["ome"]["omero"]["channels"][0]["inverted"] is True
    plan, _ = make_plan(1, Options(invert_monochrome1=True), photometric="MONOCHROME1")
    (channel,) = attributes_of(plan)["ome"]["omero"]["channels"]
    assert "inverted" not in channel
    assert channel["window"] == {"min": 0, "max": 4095, "start": 2831, "end": 3231}


def test_range_ends_with_the_type() -> None:
    plan, _ = make_plan(1, bits_stored=16, window_center=None)
    (channel,) = attributes_of(plan)["ome"]["omero"]["channels"]
    assert channel["window"] == {"min": -1024, "max": 32767, "start": -1024, "end": 32767}


def test_float_pixels_without_a_window_have_no_omero() -> None:
    plan, _ = make_plan(1, pixel_keyword="FloatPixelData", bits_allocated=32, window_center=None)
    assert "omero" not in attributes_of(plan)["ome"]
    plan, _ = make_plan(1, pixel_keyword="FloatPixelData", bits_allocated=32)
    assert attributes_of(plan)["ome"]["omero"]["channels"][0]["window"]["min"] == -160


def test_root_names_its_tables_and_says_what_it_is_not() -> None:
    found = json.loads(root_document("abcd", "technical", files=3))["attributes"]["fastdcm"]
    assert (found["version"], found["catalog"], found["generation"]) == ("1", "catalog.parquet", "abcd")
    assert "no PS3.15" in found["privacy"]
    assert "names" in json.loads(root_document("abcd", "full"))["attributes"]["fastdcm"]["privacy"]
    assert json.loads(group_document()) == {"zarr_format": 3, "node_type": "group", "attributes": {}}
