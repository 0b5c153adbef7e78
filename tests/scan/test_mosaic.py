"""Mosaics: the CSA parser against nibabel's and against damage, the columns against made files."""

from __future__ import annotations

import importlib
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastdcm.scan.csa import read_csa
from fastdcm.scan.find import FoundFile
from fastdcm.scan.reference import read_instance
from tests import converted, dicomgen

VALUES = {"NumberOfImagesInMosaic": [7.0], "SliceNormalVector": [0.1, -0.2, 0.97], "Empty": []}


def older_header(elements: dict[str, list[float]]) -> bytes:
    """Make a header of the older form: no signature; the first length counts from the first element's items."""
    base = len(next(iter(elements.values())))
    out = bytearray(struct.pack("<II", len(elements), 77))
    for name, values in elements.items():
        out += name.encode().ljust(64, b"\0") + struct.pack("<i4siii", len(values), b"FD\0\0", 3, len(values), 77)
        for value in values:
            text = f"{value:.8f}".encode() + b"\0"
            out += struct.pack("<4i", len(text) + base, 0, 77, 0) + text.ljust(-(-len(text) // 4) * 4, b"\0")
    return bytes(out)


@pytest.mark.parametrize("build", [dicomgen.csa_header, older_header])
def test_both_forms_are_read(build: Any) -> None:
    found = read_csa(build(VALUES))
    assert {name: [float(text) for text in texts] for name, texts in found.items()} == VALUES


@pytest.mark.filterwarnings("ignore:The DICOM readers are highly experimental:UserWarning")  # nibabel's, on import
def test_the_newer_form_equals_nibabel() -> None:
    csareader: Any = importlib.import_module("nibabel.nicom.csareader")
    data = dicomgen.csa_header(VALUES)
    theirs = csareader.read(data)["tags"]
    assert {name: [float(text) for text in texts] for name, texts in read_csa(data).items()} == {
        name: theirs[name]["items"] for name in VALUES
    }


@given(st.data())
def test_damage_is_borne(data: st.DataObject) -> None:
    content = bytearray(dicomgen.csa_header(VALUES))
    for _ in range(data.draw(st.integers(0, 8))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    for texts in read_csa(bytes(content[: data.draw(st.integers(0, len(content)))])).values():
        assert sum(map(len, texts)) <= len(content)


def read(path: Path) -> dict[str, Any]:
    row, frames = read_instance(str(path), FoundFile(0, path.name, path.stat().st_size, 0))
    assert (row["outcome"], frames) == (None, [])
    return row


@pytest.mark.parametrize("reverse", [False, True])
def test_tiles_and_normal(tmp_path: Path, reverse: bool) -> None:
    made = dicomgen.make_mosaic(tmp_path, times=1, orientation=dicomgen.OBLIQUE, reversed_normal=reverse)
    row = read(made.paths[0])
    normal = np.cross(dicomgen.OBLIQUE[:3], dicomgen.OBLIQUE[3:]) * (-1 if reverse else 1)
    assert row["mosaic_tiles"] == 7
    np.testing.assert_allclose([row["normal_x"], row["normal_y"], row["normal_z"]], normal, atol=1e-7)


def test_an_unknown_number_of_tiles_is_0_and_other_images_have_none(tmp_path: Path) -> None:
    made = dicomgen.make_mosaic(tmp_path, times=1, csa=False)
    row = read(made.paths[0])
    assert (row["mosaic_tiles"], row["normal_x"]) == (0, None)
    dataset = made.datasets[0]
    dataset.private_block(0x0019, "SIEMENS MR HEADER", create=True).add_new(0x0A, "US", 7)
    row = read(dicomgen.save(dataset, tmp_path / "b.dcm"))
    assert (row["mosaic_tiles"], row["normal_x"]) == (7, None)
    dataset[0x0019100A].value = 17  # 5 x 5 tiles do not divide the matrix
    assert read(dicomgen.save(dataset, tmp_path / "c.dcm"))["mosaic_tiles"] == 0
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "M"]
    assert read(dicomgen.save(dataset, tmp_path / "d.dcm"))["mosaic_tiles"] is None


@pytest.mark.parametrize("where", ["csa", "private", "short"])
def test_slice_times_follow_the_slices(tmp_path: Path, where: str) -> None:
    """MosaicRefAcqTimes of the CSA header, else (0019,1029); the first tile is the highest slice here."""
    made = dicomgen.make_mosaic(tmp_path / "in", times=1, reversed_normal=True)
    times = [0.0, 1000.0, 250.0, 1250.0, 500.0, 1500.0, 750.0]
    (dataset,) = made.datasets
    if where == "private":
        dataset.private_block(0x0019, "SIEMENS MR HEADER", create=True).add_new(0x29, "FD", times)
    else:
        normal = [0.0, 0.0, -1.0]
        given = {"NumberOfImagesInMosaic": [7.0], "SliceNormalVector": normal, "MosaicRefAcqTimes": times}
        given["MosaicRefAcqTimes"] = times if where == "csa" else times[:6]
        dataset[0x00291010].value = dicomgen.csa_header(given)
    dicomgen.save(dataset, made.paths[0])
    (volume,) = converted.convert(tmp_path / "in").store
    assert volume.slices.get("slice_time_ms") == (None if where == "short" else times[::-1])
    np.testing.assert_array_equal(volume.numpy(), made.values)
