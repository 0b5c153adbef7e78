"""A store reads equally through every reader of Zarr and OME-Zarr that the tests can install."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import zarr

import fastdcm
from fastdcm.load.volume import Store, Volume
from tests import dicomgen
from tests.converted import convert


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    folder = tmp_path_factory.mktemp("readers") / "export"
    dicomgen.make_series(folder, n=37, rows=40, columns=36, series="ct")
    dicomgen.make_series(folder, n=5, series="oblique", modality="MR", orientation=dicomgen.OBLIQUE)
    dicomgen.two_phases(folder / "mr", series="mr")
    dicomgen.pet_slopes(folder / "pet", series="pet")
    dicomgen.missing_slice(folder / "gap", series="gap")
    dicomgen.make_cine(folder)
    dicomgen.monochrome1(folder / "film", series="film")
    return convert(folder).store


KINDS = ("ct", "oblique", "mr", "pet", "gap", "cine", "film")


@pytest.fixture(params=range(len(KINDS)), ids=[f"volume {k}" for k in range(len(KINDS))])
def volume(store: Store, request: pytest.FixtureRequest) -> Volume:
    assert len(store) == len(KINDS)
    chosen: Volume = store.volumes[request.param]
    return chosen


def test_ngff_zarr_validates_strictly_and_reads_the_same(volume: Volume) -> None:
    import ngff_zarr

    multiscales = ngff_zarr.from_ngff_zarr(str(volume.path), validate=True)
    image = multiscales.images[0]
    np.testing.assert_array_equal(np.asarray(image.data), volume.numpy())
    assert "".join(image.dims) == volume.axes
    assert [image.scale[axis] for axis in "xyz"] == pytest.approx(volume.spacing)


def test_ome_zarr_models_accepts_it(volume: Volume) -> None:
    from ome_zarr_models import open_ome_zarr
    from ome_zarr_models.v05 import Image

    assert isinstance(open_ome_zarr(zarr.open_group(volume.path, mode="r"), version="0.5"), Image)


def test_zarr_python_reads_volume_and_root(store: Store, volume: Volume) -> None:
    root = zarr.open_group(store.path, mode="r")
    array = root[str((volume.path / "0" / "image").relative_to(store.path))]
    assert isinstance(array, zarr.Array)
    np.testing.assert_array_equal(np.asarray(array[...]), volume.numpy())
    assert array.metadata.to_dict()["dimension_names"] == tuple(volume.axes)


def test_zarrs_reads_the_same(volume: Volume) -> None:
    import zarrs  # noqa: F401  (registers its codec pipeline)

    with zarr.config.set({"codec_pipeline.path": "zarrs.ZarrsCodecPipeline"}):
        array = zarr.open_array(volume.path / "0" / "image", mode="r")
        values = np.asarray(array[...])
    np.testing.assert_array_equal(values, volume.numpy())


def test_tensorstore_reads_the_same(volume: Volume) -> None:
    import tensorstore

    spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": str(volume.path / "0" / "image")}}
    array = tensorstore.open(spec, read=True).result()
    np.testing.assert_array_equal(array.read().result(), volume.numpy())
    assert "".join(array.domain.labels) == volume.axes


def test_xarray_opens_the_level_as_a_dataset(volume: Volume) -> None:
    import xarray

    dataset = xarray.open_zarr(volume.path, group="0", consolidated=False)
    np.testing.assert_array_equal(dataset["image"].to_numpy(), volume.numpy())
    assert dataset["image"].dtype == volume.dtype
    transforms = volume.attributes["ome"]["multiscales"][0]["datasets"][0]["coordinateTransformations"]
    uniform = volume.attributes["fastdcm"]["geometry"]["uniform"]
    for axis in "zyx" if uniform else "yx":
        k = volume.axes.index(axis)
        scale, shift = transforms[0]["scale"][k], transforms[1]["translation"][k]
        np.testing.assert_array_equal(dataset[axis].to_numpy(), shift + np.arange(volume.shape[k]) * scale)


def test_every_document_is_plain_json(store: Store) -> None:
    documents = [*store.path.rglob("zarr.json"), store.path / "report.json"]
    assert len(documents) > 20
    for path in documents:
        json.loads(path.read_bytes().decode("utf-8"), parse_constant=_refuse)


def _refuse(constant: str) -> None:
    raise AssertionError(f"{constant} is no JSON")


def test_few_files_a_volume(store: Store) -> None:
    for volume in store.volumes:
        assert sum(path.is_file() for path in volume.path.rglob("*")) <= 12


def test_a_volume_is_usable_alone(volume: Volume) -> None:
    alone = fastdcm.open(volume.path)
    assert isinstance(alone, Volume)
    np.testing.assert_array_equal(alone.numpy(), volume.numpy())


def test_the_names_are_safe(store: Store) -> None:
    for path in store.path.rglob("*"):
        relative = Path(path).relative_to(store.path)
        assert all(part.isascii() and part.isprintable() and ".." not in part for part in relative.parts)
