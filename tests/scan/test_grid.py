"""UIH grids: made from mosaics by the private elements that dcm2niix reads; no real file of this form was at hand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.dataset import Dataset

from fastdcm.scan.find import FoundFile
from fastdcm.scan.reference import read_instance
from tests import converted, dicomgen
from tests.scan.compare import all_files, differences

TILES = 7


def make_grid(
    folder: Path, edit: Callable[[Dataset], None] = lambda dataset: None, *, reverse: bool = False, **choice: Any
) -> dicomgen.Series:
    """Write mosaics without CSA header, with an item for each tile that has the position of its own corner."""
    made = dicomgen.make_mosaic(folder, csa=False, reversed_normal=reverse, tiles=TILES, **choice)
    places = made.positions[::-1] if reverse else made.positions
    for path, dataset in zip(made.paths, made.datasets, strict=True):
        dataset.ImageType = ["ORIGINAL", "PRIMARY", "M", "VFRAME"]
        dataset.Manufacturer = "UIH"
        dataset.ImagePositionPatient = [f"{value:.8g}" for value in places[0]]
        del dataset.SpacingBetweenSlices
        block = dataset.private_block(0x0065, "Image Private Header", create=True)
        block.add_new(0x50, "DS", str(TILES))
        items = []
        for k, place in enumerate(places):
            item = Dataset()
            item.ImagePositionPatient = [f"{value:.8g}" for value in place]
            item.AcquisitionTime = f"1011{12 + 0.25 * (k * 3 % TILES):09.6f}"
            items.append(item)
        block.add_new(0x51, "SQ", items)
        edit(dataset)
        dicomgen.save(dataset, path)
    return made


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("orientation", [dicomgen.AXIAL, dicomgen.SAGITTAL, dicomgen.OBLIQUE])
@pytest.mark.parametrize("times", [1, 2])
def test_tiles_become_slices_where_their_items_say(
    tmp_path: Path, times: int, orientation: Sequence[float], reverse: bool
) -> None:
    made = make_grid(tmp_path / "in", times=times, orientation=orientation, reverse=reverse)
    assert differences([str(tmp_path / "in")], all_files([str(tmp_path / "in")])) == []
    (volume,) = converted.convert(tmp_path / "in").store
    np.testing.assert_array_equal(volume.numpy(), made.values)
    assert made.affine is not None
    np.testing.assert_allclose(volume.affine("LPS"), made.affine, atol=1e-5)
    within = np.array([250.0 * (k * 3 % TILES) for k in range(TILES)])
    expected = (within[::-1] if reverse else within).tolist() * times
    assert volume.slices["slice_time_ms"] == pytest.approx(expected)


def uneven(dataset: Dataset) -> None:
    dataset[0x00651051].value[3].ImagePositionPatient = [1.0, 2.0, 3.0]


def one_item_less(dataset: Dataset) -> None:
    del dataset[0x00651051].value[-1]


def no_position(dataset: Dataset) -> None:
    del dataset[0x00651051].value[2].ImagePositionPatient


def one_place(dataset: Dataset) -> None:
    for item in dataset[0x00651051].value:
        item.ImagePositionPatient = [1.0, 2.0, 3.0]


def no_spacing(dataset: Dataset) -> None:
    del dataset.PixelSpacing


def does_not_fit(dataset: Dataset) -> None:
    dataset[0x00651050].value = "17"


@pytest.mark.parametrize("edit", [uneven, one_item_less, no_position, one_place, no_spacing, does_not_fit])
def test_what_is_no_even_grid_is_kept_as_one_image(tmp_path: Path, edit: Callable[[Dataset], None]) -> None:
    make_grid(tmp_path / "in", edit, times=1)
    (volume,) = converted.convert(tmp_path / "in").store
    assert volume.shape == (1, 30, 42)
    assert "mosaic-unknown" in [reason["code"] for reason in volume.attributes["fastdcm"]["reasons"]]


def test_one_slice_is_no_grid(tmp_path: Path) -> None:
    def edit(dataset: Dataset) -> None:
        dataset[0x00651050].value = "1"

    (path,) = make_grid(tmp_path, edit, times=1).paths
    row, _ = read_instance(str(path), FoundFile(0, path.name, path.stat().st_size, 0))
    assert row["mosaic_tiles"] is None
