"""What two documents do by hand with SimpleITK on one chest export, each row from the command line's functions.

The export is a small copy of theirs: two reconstructions of 5 mm, two of 1.25 mm, a localizer, one flat folder. What is
compared with is SimpleITK on the same files, or arithmetic done here.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import nibabel
import numpy as np
import numpy.typing as npt
import pydicom
import pytest
import SimpleITK as sitk

import fastdcm
from fastdcm.cli import run
from tests import dicomgen

SERIES = ("5mm Stnd", "5mm Lung", "1.25mm Stnd", "1.25mm Lung")


class Chest(NamedTuple):
    """The export, the store made of it, and what SimpleITK reads."""

    folder: Path
    store: Path
    table: list[dict[str, Any]]
    uids: dict[str, str]
    """Series Instance UID by description."""

    def names(self, description: str) -> tuple[str, ...]:
        """Return the files of a series as SimpleITK sorts them."""
        return tuple(sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(self.folder), self.uids[description]))

    def read(self, description: str) -> sitk.ImageSeriesReader:
        """Return SimpleITK's reader after it has read a series with its tags."""
        reader = sitk.ImageSeriesReader()
        reader.SetFileNames(self.names(description))
        reader.MetaDataDictionaryArrayUpdateOn()
        reader.LoadPrivateTagsOn()
        reader.Execute()
        return reader

    def address(self, description: str) -> str:
        """Return what points at a series of the export."""
        return f"{self.folder}#{self.uids[description]}"


@pytest.fixture(scope="module")
def chest(chest_export: Path, tmp_path_factory: pytest.TempPathFactory) -> Chest:
    store = tmp_path_factory.mktemp("chest-store") / "s.zarr"
    assert fastdcm.convert(chest_export, store).exit_code == 0
    table = fastdcm.scan(chest_export).table.to_pylist()
    return Chest(chest_export, store, table, {row["description"]: row["series"] for row in table})


def array_of(image: sitk.Image) -> npt.NDArray[np.int64]:
    array: npt.NDArray[np.int64] = sitk.GetArrayFromImage(image).astype(np.int64)
    return array


def test_s1_the_map_shows_patient_study_series_and_instances(chest: Chest, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["scan", str(chest.folder)]) == 0
    lines = capsys.readouterr().out.splitlines()
    depth = {word: len(line) - len(line.lstrip()) for line in lines for word in [*line.split(), ""][:1]}
    assert depth["patient"] < depth["study"] < depth["series"]
    assert sum(row["files"] for row in chest.table) == len(list(chest.folder.iterdir()))
    assert {row["volume"].split("/")[1] for row in chest.table} == set(chest.uids.values())


@pytest.mark.parametrize(("thickness", "gap"), [(5.0, 2.0), (7.0, 0.0), (8.0, -1.0)])
def test_s2_thickness_is_not_spacing(
    tmp_path: Path, thickness: float, gap: float, capsys: pytest.CaptureFixture[str]
) -> None:
    dicomgen.make_series(tmp_path, n=4, step=7.0, thickness=thickness, SpacingBetweenSlices=3.0)
    (row,) = fastdcm.scan(tmp_path).table.to_pylist()
    assert (row["spacing_z"], row["thickness"], row["gap"]) == (7.0, thickness, gap)
    assert run(["explain", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert {-1.0: "overlap", 0.0: "", 2.0: "gap"}[gap] in said


@pytest.mark.parametrize(
    ("image_type", "origin", "role"),
    [
        (("ORIGINAL", "PRIMARY", "AXIAL"), "ORIGINAL", "PRIMARY"),
        (("DERIVED", "SECONDARY", "REFORMATTED", "AVERAGE"), "DERIVED", "SECONDARY"),
        (("SECONDARY CAPTURE",), None, None),
    ],
)
def test_s3_image_type_by_component(
    tmp_path: Path, image_type: tuple[str, ...], origin: str | None, role: str | None
) -> None:
    dicomgen.make_series(tmp_path, n=3, image_type=image_type)
    (row,) = fastdcm.scan(tmp_path).table.to_pylist()
    assert (row["pixel_origin"], row["exam_role"] or None) == (origin, role)
    assert row["image_type"] == "\\".join(image_type)
    chosen = fastdcm.scan(tmp_path, image_type="ORIGINAL/PRIMARY")
    assert bool(chosen.left_out) == (image_type[:2] != ("ORIGINAL", "PRIMARY"))
    assert bool(fastdcm.scan(tmp_path, no_derived=True).left_out) == (origin == "DERIVED")


def test_s4_samples_and_photometric_interpretation(tmp_path: Path) -> None:
    colour = np.stack([dicomgen.make_pixels(1, 22, 18, bits=8, seed=k) for k in range(3)], axis=-1)
    made = {
        "grey": dicomgen.make_series(tmp_path / "src", n=1, series="grey", study="grey"),
        "palette": dicomgen.make_palette(tmp_path / "src"),
        "rgb": dicomgen.make_series(
            tmp_path / "src", n=1, series="rgb", study="rgb", modality="OT", pixels=colour, bits_stored=8,
            photometric="RGB", slope=None, intercept=None,
        ),
    }  # fmt: skip
    fastdcm.convert(tmp_path / "src", tmp_path / "s.zarr")
    store = fastdcm.open(tmp_path / "s.zarr")
    assert isinstance(store, fastdcm.Store)
    volumes = {volume.path.parent.name: volume for volume in store}
    for name, channels, photometric in (("grey", 1, "MONOCHROME2"), ("palette", 3, "RGB"), ("rgb", 3, "RGB")):
        volume = volumes[made[name].series_uid]
        assert volume.attributes["fastdcm"]["intensity"]["photometric_interpretation"] == photometric
        assert dict(zip(volume.axes, volume.shape, strict=True)).get("c", 1) == channels
    np.testing.assert_array_equal(volumes[made["rgb"].series_uid].numpy()[:, 0], np.moveaxis(colour[0], -1, 0))
    np.testing.assert_array_equal(volumes[made["palette"].series_uid].numpy(), made["palette"].values)


@pytest.mark.parametrize("private", [False, True])
def test_s5_the_tags_of_a_file(chest: Chest, private: bool) -> None:
    path = chest.names("1.25mm Lung")[0]
    reader = sitk.ImageFileReader()
    reader.SetFileName(path)
    reader.SetLoadPrivateTags(private)
    reader.ReadImageInformation()
    found = fastdcm.header(path, private=private)
    ours = {element.tag: element.value for element in found.elements if not element.depth and element.vr != "SQ"}
    theirs = {key: reader.GetMetaData(key) for key in reader.GetMetaDataKeys() if "|" in key}
    assert theirs.keys() <= ours.keys()
    assert {key for key in ours.keys() - theirs.keys() if not key.startswith("0002|")} == {"7fe0|0010"}
    dataset = pydicom.dcmread(path, stop_before_pixels=True)
    texts = [element for element in dataset if element.VR in ("CS", "LO", "UI", "TM", "SH", "IS", "DS")]
    assert len(texts) > 60
    for element in texts:
        key = f"{element.tag.group:04x}|{element.tag.element:04x}"
        if key in theirs:
            assert ours[key] == theirs[key].strip(" \0"), key


def test_s6_the_geometry_of_a_file(chest: Chest) -> None:
    for name in SERIES:
        path = chest.names(name)[0]
        reader = sitk.ImageFileReader()
        reader.SetFileName(path)
        reader.ReadImageInformation()
        image = fastdcm.header(path).image
        assert image is not None
        assert (image.size, image.dimension, image.components) == (
            reader.GetSize(),
            reader.GetDimension(),
            reader.GetNumberOfComponents(),
        )
        np.testing.assert_allclose(image.spacing, reader.GetSpacing())
        np.testing.assert_allclose(image.origin, reader.GetOrigin())
        np.testing.assert_allclose(np.ravel(image.direction), reader.GetDirection())


def test_s6_the_geometry_of_a_series_without_its_pixels(chest: Chest) -> None:
    rows = {row["description"]: row for row in chest.table}
    for name in SERIES:
        image = sitk.ReadImage(chest.names(name))
        row = rows[name]
        assert (row["columns"], row["rows"], row["slices"]) == image.GetSize()
        assert np.allclose([row[f"spacing_{axis}"] for axis in "xyz"], image.GetSpacing())


@pytest.mark.parametrize("name", SERIES)
def test_s7_a_series_as_a_volume(chest: Chest, name: str) -> None:
    theirs = sitk.ReadImage(chest.names(name))
    (volume,) = by_uid(chest, name)
    ours = volume.to_sitk()
    np.testing.assert_array_equal(sitk.GetArrayViewFromImage(ours), sitk.GetArrayViewFromImage(theirs))
    assert ours.GetSize() == theirs.GetSize()
    for one in ("GetSpacing", "GetOrigin", "GetDirection"):
        np.testing.assert_allclose(getattr(ours, one)(), getattr(theirs, one)(), atol=1e-6)


def by_uid(chest: Chest, name: str) -> tuple[fastdcm.Volume, ...]:
    store = fastdcm.open(chest.store)
    assert isinstance(store, fastdcm.Store)
    return tuple(volume for volume in store if volume.path.parent.name == chest.uids[name])


def test_s8_constant_and_varying_tags(chest: Chest) -> None:
    reader = chest.read("1.25mm Stnd")
    n = len(chest.names("1.25mm Stnd"))
    theirs = {key: {reader.GetMetaData(k, key) for k in range(n)} for key in reader.GetMetaDataKeys(0) if "|" in key}
    found = fastdcm.tags(chest.folder, series=chest.uids["1.25mm Stnd"], private=True)
    ours = {row.tag: row for row in found.rows}
    assert theirs.keys() <= ours.keys()
    for key, values in theirs.items():
        assert ours[key].n_distinct == len(values), key
        assert ours[key].constant == (len(values) == 1), key
    assert Counter(ours[key].constant for key in theirs)[False] >= 7
    (volume,) = by_uid(chest, "1.25mm Stnd")
    assert "InstanceCreationTime" in json.dumps(volume.slices) or "instance_number" in volume.slices


def test_s9_nifti_keeps_the_space(chest: Chest, tmp_path: Path) -> None:
    (volume,) = by_uid(chest, "5mm Lung")
    (path,) = fastdcm.export(volume, tmp_path / "lung.nii")
    theirs = sitk.ReadImage(chest.names("5mm Lung"))
    back = sitk.ReadImage(str(path))
    assert back.GetSize() == theirs.GetSize()
    for index in ((0, 0, 0), (511, 3, 1), (100, 400, theirs.GetDepth() - 1)):
        np.testing.assert_allclose(
            back.TransformIndexToPhysicalPoint(index), theirs.TransformIndexToPhysicalPoint(index), atol=1e-3
        )
        assert back[index] == theirs[index]
    image = nibabel.Nifti1Image.from_filename(path)
    assert image.header.get_xyzt_units()[0] == "mm"
    np.testing.assert_allclose(np.asarray(image.affine), volume.affine("RAS"), atol=1e-4)


def test_s10_all_series_of_a_folder(chest: Chest) -> None:
    listed = sitk.ImageSeriesReader.GetGDCMSeriesIDs(str(chest.folder))
    assert {row["series"] for row in chest.table} == {uid.split(".512.")[0] for uid in listed} | set(
        chest.uids.values()
    )
    files = {name: len(chest.names(name)) for name in SERIES}
    assert {row["description"]: row["files"] for row in chest.table if row["description"] in files} == files


def test_s11_the_localizer(chest: Chest, tmp_path: Path) -> None:
    (row,) = [row for row in chest.table if row["kind"] == "localizer"]
    assert (row["description"], row["columns"], row["rows"], row["files"]) == ("Scout", 972, 944, 1)
    report = fastdcm.convert(chest.folder, tmp_path / "s.zarr", no_localizers=True, codec="none")
    assert report.outcomes["filtered"] == 1
    assert "localizer" not in fastdcm.open(tmp_path / "s.zarr").table["kind"].to_pylist()  # type: ignore[union-attr]


@pytest.mark.parametrize("source", ["files", "store"])
def test_s12_two_kernels_compared(chest: Chest, source: str) -> None:
    images = [sitk.ReadImage(chest.names(name)) for name in ("1.25mm Stnd", "1.25mm Lung")]
    a, b = map(array_of, images)
    where = "slices > 20 and kernel == '{}'"
    place = chest.folder if source == "files" else chest.store
    found = fastdcm.compare(f"{place}#{where.format('STANDARD')}", f"{place}#{where.format('LUNG')}")
    assert not found.equal
    assert found.max_abs_difference == np.abs(a - b).max()
    assert found.n_differing == np.count_nonzero(a != b)
    assert found.share_differing == pytest.approx(np.mean(a != b))
    assert found.mae == pytest.approx(np.abs(a - b).mean())
    assert found.mse == pytest.approx(np.square(a - b).mean())
    overlap = sitk.LabelOverlapMeasuresImageFilter()
    overlap.Execute(*(image != 0 for image in images))
    theirs = (
        overlap.GetDiceCoefficient(),
        overlap.GetJaccardCoefficient(),
        overlap.GetMeanOverlap(),
        overlap.GetVolumeSimilarity(),
    )
    assert (found.dice, found.jaccard, found.mean_overlap, found.volume_similarity) == pytest.approx(theirs)
    assert fastdcm.compare(chest.address("5mm Lung"), chest.address("5mm Lung")).equal


def test_s13_another_resolution_is_told_by_headers(chest: Chest) -> None:
    thin = fastdcm.scan(chest.folder, where="spacing_z <= 1.25 and slices > 20")
    kept = [row for row in thin.table.to_pylist() if row["volume"] not in thin.left_out]
    assert {row["description"] for row in kept} == {"1.25mm Stnd", "1.25mm Lung"}
    assert {row["slices"] for row in kept} == {len(chest.names("1.25mm Lung"))}


def test_s14_only_the_tags_that_differ(chest: Chest) -> None:
    readers = [chest.read(name) for name in ("1.25mm Stnd", "1.25mm Lung")]
    differing = {
        key
        for key in readers[0].GetMetaDataKeys(0)
        if "|" in key and readers[0].GetMetaData(0, key) != readers[1].GetMetaData(0, key)
    }
    found = fastdcm.diff(chest.address("1.25mm Stnd"), chest.address("1.25mm Lung"), private=True)
    assert differing <= {row.tag for row in found.rows}
    files = [chest.names(name)[0] for name in ("1.25mm Stnd", "1.25mm Lung")]
    assert {row.tag for row in fastdcm.diff(*files, private=True).rows if not row.tag.startswith("0002|")} == differing
    assert run(["diff", *files]) == 1
    assert run(["diff", files[0], files[0]]) == 0


def test_s15_the_order_of_reconstruction(
    chest: Chest, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    theirs = {}
    for name in SERIES:
        reader = chest.read(name)
        theirs[name] = min(reader.GetMetaData(k, "0008|0013").strip() for k in range(len(chest.names(name))))
    order = sorted(SERIES, key=theirs.__getitem__)
    assert run(["scan", str(chest.folder), "--sort", "creation_time"]) == 0
    out = capsys.readouterr().out
    assert sorted(SERIES, key=out.index) == order
    columns = ("spacing_z", "kernel", "creation_time", "content_time")
    rows = {row["description"]: tuple(row[column] for column in columns) for row in chest.table}
    for name in SERIES:
        image = sitk.ReadImage(chest.names(name))
        assert rows[name][0] == pytest.approx(image.GetSpacing()[2])
        assert str(rows[name][2]).replace(":", "").startswith(theirs[name])
