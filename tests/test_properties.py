"""What must hold for any export: order, folders and encoding do not matter, positions give the geometry."""

from __future__ import annotations

import struct
import tempfile
from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import uid as uids
from pydicom.dataset import Dataset

import fastdcm
from tests import dicomgen
from tests.converted import check_series, part

NATIVE = (
    uids.ExplicitVRLittleEndian,
    uids.ImplicitVRLittleEndian,
    uids.ExplicitVRBigEndian,
    uids.DeflatedExplicitVRLittleEndian,
)
LOSSLESS = (
    *NATIVE,
    uids.RLELossless,
    uids.JPEGLosslessSV1,
    uids.JPEGLSLossless,
    uids.JPEG2000Lossless,
    uids.HTJ2KLossless,
)


FILES = 8  # of the export


class Image(NamedTuple):
    """One image of the export, to be written in some encoding."""

    dataset: Dataset
    stored: npt.NDArray[Any]
    """(1, rows, columns)."""


class Encoding(NamedTuple):
    """How one file is written: all of these are legal, or common and harmless."""

    syntax: str
    preamble: bool
    group_lengths: bool
    undefined_lengths: bool
    offset_table: str

    @property
    def is_part_10(self) -> bool:
        """A deflated file without preamble is none that anything can read: it keeps its own."""
        return self.preamble or self.syntax == uids.DeflatedExplicitVRLittleEndian


ENCODINGS = st.builds(
    Encoding,
    syntax=st.sampled_from(LOSSLESS),
    preamble=st.booleans(),
    group_lengths=st.booleans(),
    undefined_lengths=st.booleans(),
    offset_table=st.sampled_from(["basic", "empty", "extended"]),
)


@pytest.fixture(scope="module")
def export(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Image], dict[str, Any]]:
    """The files of a CT, a phased MR and an enhanced MR, and the store that they become in plain encoding."""
    folder = tmp_path_factory.mktemp("plain") / "in"
    made = [
        dicomgen.make_series(folder, n=3, series="ct"),
        dicomgen.two_phases(folder, series="phases", n=2),
        dicomgen.make_enhanced(folder, n=3),
    ]
    images = []
    for dataset in (dataset for series in made for dataset in series.datasets):
        frames = int(dataset.get("NumberOfFrames", 1))
        stored = np.frombuffer(dataset.PixelData, np.uint16).reshape(frames, dataset.Rows, dataset.Columns)
        images.append(Image(dataset, stored))
    assert len(images) == FILES
    return images, contents(folder)


def write(image: Image, path: Path, encoding: Encoding) -> None:
    """Write an image anew."""
    dataset = deepcopy(image.dataset)
    dataset.file_meta = type(image.dataset.file_meta)()
    dicomgen.set_pixels(dataset, image.stored, encoding.syntax, offset_table=encoding.offset_table)
    if encoding.undefined_lengths:
        for element in dataset:
            if element.VR == "SQ":
                element.is_undefined_length = True
    dicomgen.save(dataset, path)
    data = path.read_bytes()
    if encoding.group_lengths and encoding.syntax == uids.ExplicitVRLittleEndian:
        data = with_group_length(data)
    if not encoding.is_part_10:
        data = data[132:]
    path.write_bytes(data)


def with_group_length(data: bytes) -> bytes:
    """Put a (retired) group length element before group 0008 (PS3.5 7.2); the file is explicit little endian."""
    start = data.index(b"\x08\x00\x05\x00") if b"\x08\x00\x05\x00" in data[:400] else data.index(b"\x08\x00\x08\x00CS")
    end = data.index(b"\x10\x00\x10\x00PN")
    return data[:start] + struct.pack("<HH2sHI", 8, 0, b"UL", 4, end - start) + data[start:]


def contents(*sources: Path) -> dict[str, Any]:
    """Return what a conversion of the folders gives, by volume: everything that users rely on."""
    with tempfile.TemporaryDirectory() as folder:
        report = fastdcm.convert([str(path) for path in sources if path.is_dir()], f"{folder}/out.zarr", workers=1)
        assert report.exit_code == 0, report.failures
        store = fastdcm.open(f"{folder}/out.zarr")
        assert isinstance(store, fastdcm.Store)
        return {
            str(volume.path.relative_to(folder)): {
                "axes": volume.axes,
                "shape": volume.shape,
                "dtype": volume.dtype,
                "kind": volume.kind,
                "geometry": part(volume, "geometry"),
                "dims": volume.dims,
                "slices": volume.slices,
                "intensity": part(volume, "intensity"),
                "hash": part(volume, "source")["pixel_hash"],
                "digest": part(volume, "source")["digest"],
                "reasons": part(volume, "reasons"),
                "values": volume.numpy().tobytes(),
            }
            for volume in store.volumes
        }


def without(found: dict[str, Any], *names: str) -> dict[str, Any]:
    """Return the contents less some names."""
    return {path: {name: one for name, one in of.items() if name not in names} for path, of in found.items()}


PLAIN = Encoding(uids.ExplicitVRLittleEndian, True, False, False, "basic")
Export = tuple[list[Image], dict[str, Any]]


@settings(max_examples=15)
@given(
    places=st.permutations(range(FILES)),
    folders=st.lists(st.sampled_from(["a", "a/b", "a/b/c", "z", "m n"]), min_size=FILES, max_size=FILES),
    roots=st.integers(1, 3),
)
def test_any_order_of_files_and_any_folders_give_the_same_store(
    export: Export, places: list[int], folders: list[str], roots: int
) -> None:
    """Names decide the order in which files are found; up to three sources, nested folders."""
    images, plain = export
    with tempfile.TemporaryDirectory() as work:
        sources = [Path(work, f"source {k}") for k in range(roots)]
        for image, place, folder in zip(images, places, folders, strict=True):
            write(image, sources[place % roots] / folder / f"{place:02d}", PLAIN)
        assert without(contents(*sources), "digest") == without(plain, "digest")


@settings(max_examples=25)
@given(encodings=st.lists(ENCODINGS, min_size=FILES, max_size=FILES))
def test_any_encoding_of_the_files_gives_the_same_store(export: Export, encodings: list[Encoding]) -> None:
    """Files of one series may have different encodings; a missing preamble makes no difference either."""
    images, plain = export
    with tempfile.TemporaryDirectory() as work:
        for k, (image, encoding) in enumerate(zip(images, encodings, strict=True)):
            write(image, Path(work, f"{k:02d}.dcm"), encoding)
        found = contents(Path(work))
        assert without(found, "digest") == without(plain, "digest")


def test_the_same_files_give_the_same_digest(export: Export, tmp_path: Path) -> None:
    images, plain = export
    for k, image in enumerate(images):
        write(image, tmp_path / f"other-name-{len(images) - k}", PLAIN)
    again = contents(tmp_path)
    assert again == contents(tmp_path)
    assert without(again, "digest") == without(plain, "digest")


# ------------------------------------------------------------------------------------ geometry


def rotation(angles: Sequence[float]) -> npt.NDArray[np.float64]:
    """Return a rotation matrix, (3, 3), of three angles in radians about x, y and z."""
    (cx, cy, cz), (sx, sy, sz) = np.cos(angles), np.sin(angles)
    about_x = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_z = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    found: npt.NDArray[np.float64] = about_z @ about_y @ about_x
    return found


ANGLES = st.tuples(*[st.floats(-np.pi, np.pi)] * 3)
ORIGINS = st.tuples(*[st.floats(-500, 500)] * 3)
SPACINGS = st.tuples(st.floats(0.1, 5), st.floats(0.1, 5))


@settings(max_examples=40)
@given(
    angles=ANGLES,
    origin=ORIGINS,
    spacing=SPACINGS,
    step_mm=st.floats(0.3, 12),
    shear=st.tuples(st.floats(-0.5, 0.5), st.floats(-0.5, 0.5)),
    n=st.integers(2, 9),
    seed=st.integers(0, 2**32 - 1),
)
def test_a_known_affine_is_recovered_from_positions(
    angles: tuple[float, ...], origin: tuple[float, ...], spacing: tuple[float, float], step_mm: float,
    shear: tuple[float, float], n: int, seed: int,
) -> None:  # fmt: skip
    """Any rotation, unequal spacings, sheared or not, files in any order, instance numbers that say nothing."""
    axes = rotation(angles)
    row, column, normal = axes.T
    step = step_mm * normal + step_mm * (shear[0] * row + shear[1] * column)
    positions = np.asarray(origin) + np.arange(n)[:, None] * step
    order = np.random.default_rng(seed).permutation(n)

    def short_spacing(_: int, dataset: Dataset) -> None:  # DS has 16 characters
        dataset.PixelSpacing = [f"{one:.8g}" for one in spacing]

    with tempfile.TemporaryDirectory() as work:
        series = dicomgen.make_series(
            Path(work, "in"), n=n, rows=5, columns=3, positions=positions[order], orientation=(*row, *column),
            spacing=spacing, thickness=1.0, edit=short_spacing,
        )  # fmt: skip
        fastdcm.convert(f"{work}/in", f"{work}/out.zarr", workers=1)
        store = fastdcm.open(f"{work}/out.zarr")
        assert isinstance(store, fastdcm.Store)
        (volume,) = store.volumes
        np.testing.assert_array_equal(volume.numpy(), series.values)
        expected = dicomgen.affine_of(origin, (*row, *column), spacing, step)
        np.testing.assert_allclose(volume.affine("LPS"), expected, atol=1e-5)
        np.testing.assert_allclose(volume.affine("RAS"), np.diag([-1.0, -1, 1, 1]) @ expected, atol=1e-5)
        assert part(volume, "geometry")["sheared"] is bool(np.hypot(*shear) > 2e-3 * np.hypot(1, np.hypot(*shear)))
        points = volume.affine("LPS") @ np.array([np.zeros(n), np.zeros(n), np.arange(n), np.ones(n)])
        np.testing.assert_allclose(points[:3].T, positions, atol=1e-5)


@settings(max_examples=20)
@given(angles=ANGLES, origin=ORIGINS, spacing=SPACINGS, step_mm=st.floats(0.3, 12), data=st.data())
def test_a_known_affine_is_recovered_from_frames(
    angles: tuple[float, ...], origin: tuple[float, ...], spacing: tuple[float, float], step_mm: float,
    data: st.DataObject,
) -> None:  # fmt: skip
    """The frames of an enhanced object may be in any order."""
    axes = rotation(angles)
    n = data.draw(st.integers(2, 6))
    order = data.draw(st.permutations(range(n)))
    with tempfile.TemporaryDirectory() as work:
        series = dicomgen.make_enhanced(
            Path(work, "in"), n=n, rows=5, columns=3, order=order, orientation=(*axes[:, 0], *axes[:, 1]),
            spacing=(round(spacing[0], 6), round(spacing[1], 6)), step=round(step_mm, 6), origin=origin,
        )  # fmt: skip
        fastdcm.convert(f"{work}/in", f"{work}/out.zarr", workers=1)
        store = fastdcm.open(f"{work}/out.zarr")
        assert isinstance(store, fastdcm.Store)
        (volume,) = store.volumes
        check_series(volume, series)
