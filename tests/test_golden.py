"""A store that version 1 of the format wrote stays readable: values and geometry as they were, literally."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import fastdcm
from fastdcm.errors import GeometryError

GOLDEN = Path(__file__).parent / "golden" / "v1.zarr"
STEPS = np.arange(24).reshape(2, 3, 4) * 37


@pytest.fixture(scope="module")
def store() -> fastdcm.Store:
    opened = fastdcm.open(GOLDEN)
    assert isinstance(opened, fastdcm.Store)
    return opened


def test_a_sheared_ct(store: fastdcm.Store) -> None:
    (volume,) = store.query("modality = 'CT'")
    np.testing.assert_array_equal(volume.numpy(), STEPS - 1024)
    assert volume.array.dtype == np.int16
    sheared = [[0.5, 0.0, 0.25, -12.0], [0.0, 0.75, 0.5, 7.5], [0.0, 0.0, 2.0, -431.0], [0.0, 0.0, 0.0, 1.0]]
    assert np.allclose(volume.affine("LPS"), sheared, rtol=0, atol=1e-12)


def test_a_pet_with_a_slope_a_slice(store: fastdcm.Store) -> None:
    (volume,) = store.query("modality = 'PT'")
    np.testing.assert_array_equal(volume.numpy(), STEPS[:, ::-1] * np.array([0.5, 0.25]).reshape(2, 1, 1))
    assert volume.array.dtype == np.float32
    assert volume.spacing == (0.5, 0.75, 2.5)


def test_a_colour_cine(store: fastdcm.Store) -> None:
    (volume,) = store.query("modality = 'US'")
    assert (volume.axes, volume.shape) == ("tczyx", (2, 3, 1, 3, 4))
    assert volume.numpy()[1, :, 0, 2, 3].tolist() == [221, 34, 110]
    with pytest.raises(GeometryError):
        volume.affine("LPS")


def test_its_hashes_hold() -> None:
    report = fastdcm.verify(GOLDEN)
    assert report.mismatches == ()
