"""Stores and volumes: the right voxels, geometry or a refusal, and no path that leads out."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from fastdcm.errors import GeometryError, UsageError
from fastdcm.load.volume import Store, Volume
from fastdcm.load.volume import open as open_store
from tests import dicomgen, ministore
from tests.ministore import Small, write_store, write_volume

AFFINE = np.array([[0.5, 0, 0, -12.0], [0, 0.75, 0, 7.5], [0, 0, 2.5, -431.0], [0, 0, 0, 1]])
GREY = np.arange(4 * 6 * 5, dtype=np.int16).reshape(4, 6, 5)


def opened(path: Path) -> Volume:
    volume = open_store(path)
    assert isinstance(volume, Volume)
    return volume


def test_store_is_a_catalogue_of_volumes(tmp_path: Path) -> None:
    ct = Small(GREY, affine=AFFINE, path="1.2/1.3/0.ome.zarr")
    mr = Small(GREY[:2], affine=AFFINE, path="1.2/1.4/0.ome.zarr", modality="MR")
    store = open_store(write_store(tmp_path / "s.zarr", ct, mr))
    assert isinstance(store, Store)
    assert len(store) == len(store.volumes) == len(list(store)) == 2
    assert [volume.modality for volume in store] == ["CT", "MR"]
    assert store["1.2/1.4/0.ome.zarr"] is store[1] is store[-1]
    assert store.table.column("slices").to_pylist() == [4, 2]
    assert repr(store).startswith("<Store of 2 volumes (1 CT, 1 MR)")
    with pytest.raises(KeyError):
        store["1.2/1.5/0.ome.zarr"]


def test_query_narrows_the_store(tmp_path: Path) -> None:
    ct = Small(GREY, affine=AFFINE, path="1.2/1.3/0.ome.zarr")
    mr = Small(GREY[:2], affine=AFFINE, path="1.2/1.4/0.ome.zarr", modality="MR")
    store = open_store(write_store(tmp_path / "s.zarr", ct, mr))
    assert isinstance(store, Store)
    found = store.query("modality == 'MR' and spacing_z < 3")
    assert [volume.modality for volume in found.volumes] == ["MR"]
    np.testing.assert_array_equal(found[0].numpy(), GREY[:2])
    assert len(found.query("slices > 2")) == 0
    with pytest.raises(UsageError, match="spacing_z"):
        store.query("nosuch > 1")


def test_volume_has_voxels_and_place(tmp_path: Path) -> None:
    volume = opened(write_volume(tmp_path / "0.ome.zarr", Small(GREY, affine=AFFINE)))
    np.testing.assert_array_equal(volume.numpy(), GREY)
    np.testing.assert_array_equal(volume.array[1], GREY[1])
    assert (volume.axes, volume.shape, volume.dtype) == ("zyx", (4, 6, 5), np.dtype("int16"))
    assert (volume.kind, volume.modality, volume.colour) == ("volume", "CT", False)
    assert volume.spacing == (0.5, 0.75, 2.5)
    assert volume.origin == (-12.0, 7.5, -431.0)
    np.testing.assert_array_equal(volume.direction, np.eye(3))
    np.testing.assert_array_equal(volume.affine(), AFFINE)
    np.testing.assert_array_equal(volume.affine("RAS") @ [1, 2, 3, 1], [11.5, -9.0, -423.5, 1])
    assert repr(volume) == "<Volume CT volume zyx 4x6x5 int16, 0.5 x 0.75 x 2.5 mm>"


def test_dask_is_lazy_and_by_shard(tmp_path: Path) -> None:
    volume = opened(write_volume(tmp_path / "0.ome.zarr", Small(GREY, affine=AFFINE)))
    lazy = volume.dask()
    assert lazy.chunks == ((4,), (6,), (5,))
    assert volume.dask(chunks=(2, 6, 5)).chunks == ((2, 2), (6,), (5,))
    np.testing.assert_array_equal(np.asarray(lazy), GREY)


@pytest.mark.parametrize(
    ("roi", "expected"),
    [
        (None, GREY),
        ((), GREY),
        (((1, 3), (0, 2), (2, 5)), GREY[1:3, 0:2, 2:5]),
        (((2, 5),), GREY[..., 2:5]),
        ((slice(None), slice(1, None, 2)), GREY[:, :, 1::2]),
        ((slice(-2, None), (0, 6), (0, 5)), GREY[-2:]),
    ],
)
def test_roi_is_of_the_last_axes(tmp_path: Path, roi: tuple[slice | tuple[int, int], ...], expected: object) -> None:
    volume = opened(write_volume(tmp_path / "0.ome.zarr", Small(GREY, affine=AFFINE)))
    np.testing.assert_array_equal(volume.numpy(roi), expected)


@pytest.mark.parametrize("roi", [((0, 7),), ((-1, 3),), ((3, 3),), ((4, 2),), ((0, 1),) * 4])
def test_roi_must_be_inside(tmp_path: Path, roi: tuple[tuple[int, int], ...]) -> None:
    volume = opened(write_volume(tmp_path / "0.ome.zarr", Small(GREY, affine=AFFINE)))
    with pytest.raises(UsageError, match="roi"):
        volume.numpy(roi)


def test_uneven_stack_has_no_affine_unless_nominal(tmp_path: Path) -> None:
    geometry = {"affine": None, "uniform": False, "missing_slices": [3], "max_residual_mm": 0.4}
    positions = np.array([[-12.0, 7.5, z] for z in (0.0, 1.0, 2.0, 4.0)])
    small = Small(GREY, affine=AFFINE, positions=positions, geometry=geometry)
    volume = opened(write_volume(tmp_path / "0.ome.zarr", small))
    with pytest.raises(GeometryError, match=r"uneven.*1 missing"):
        volume.affine()
    np.testing.assert_array_equal(volume.affine(nominal=True), AFFINE)
    assert volume.slices["position"][3] == [-12.0, 7.5, 4.0]
    assert "no affine" in repr(volume)


def test_no_position_is_not_made_up(tmp_path: Path) -> None:
    volume = opened(write_volume(tmp_path / "0.ome.zarr", Small(GREY, geometry={"spacing": [0.5, 0.75, 1.0]})))
    for ask in (lambda: volume.origin, lambda: volume.direction, lambda: volume.affine("RAS")):
        with pytest.raises(GeometryError, match="ImagePositionPatient"):
            ask()
    assert volume.spacing == (0.5, 0.75, 1.0)
    np.testing.assert_array_equal(volume.affine(nominal=True), np.diag([0.5, 0.75, 1.0, 1.0]))


def test_affine_is_the_law_for_a_generated_series(tmp_path: Path) -> None:
    series = dicomgen.gantry_tilt(tmp_path / "dicom")
    volume = opened(write_volume(tmp_path / "0.ome.zarr", ministore.of_series(series)))
    for k, position in enumerate(series.positions):
        np.testing.assert_allclose((volume.affine() @ [0, 0, k, 1])[:3], position, atol=1e-6)


def test_wrong_space(tmp_path: Path) -> None:
    volume = opened(write_volume(tmp_path / "0.ome.zarr", Small(GREY, affine=AFFINE)))
    with pytest.raises(UsageError, match="LPS or RAS"):
        volume.affine("XYZ")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "content",
    [None, b"", b"{", b"[]", b'{"attributes": 3}', b'{"attributes": {}}', b'{"attributes": {"fastdcm": {}}}', b"\xff"],
)
def test_what_is_no_store_is_refused(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "zarr.json").write_bytes(content)
    with pytest.raises(UsageError):
        open_store(tmp_path)


def test_a_file_is_no_store(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"")
    with pytest.raises(UsageError):
        open_store(tmp_path / "x")


def test_broken_catalogue_is_said(tmp_path: Path) -> None:
    root = write_store(tmp_path / "s.zarr", Small(GREY, affine=AFFINE))
    (root / "catalog.parquet").write_bytes(b"PAR1")
    with pytest.raises(UsageError, match="running the conversion again"):
        open_store(root)
    (root / "catalog.parquet").unlink()
    with pytest.raises(UsageError, match="cannot be read"):
        open_store(root)


@pytest.mark.parametrize("name", ["../catalog.parquet", "/etc/passwd", ""])
def test_catalogue_outside_the_store_is_refused(tmp_path: Path, name: str) -> None:
    document = {"zarr_format": 3, "node_type": "group", "attributes": {"fastdcm": {"catalog": name}}}
    (tmp_path / "zarr.json").write_text(json.dumps(document))
    with pytest.raises(UsageError, match="not inside"):
        open_store(tmp_path)


def test_volume_outside_the_store_is_refused(tmp_path: Path) -> None:
    root = write_store(tmp_path / "s.zarr", Small(GREY, affine=AFFINE))
    table = pq.read_table(root / "catalog.parquet")
    column = table.schema.get_field_index("volume")
    pq.write_table(table.set_column(column, "volume", [["../../0.ome.zarr"]]), root / "catalog.parquet")
    store = open_store(root)
    with pytest.raises(UsageError, match="not inside"):
        _ = store.volumes  # type: ignore[union-attr]


def test_two_generations_are_said(tmp_path: Path) -> None:
    root = write_store(tmp_path / "s.zarr", Small(GREY, affine=AFFINE))
    document = json.loads((root / "zarr.json").read_text())
    document["attributes"]["fastdcm"]["generation"] = "newer"
    (root / "zarr.json").write_text(json.dumps(document))
    with pytest.warns(UserWarning, match=r"generation 1234.*newer"):
        open_store(root)
