"""Whole conversions: equal to SimpleITK, accounted for, and the same bytes however they are run."""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import SimpleITK as sitk
import zarr
from pydicom import uid as uids

from tests import dicomgen
from tests.converted import check_series, convert, part
from tests.dicomgen import Series

ROOT = Path(__file__).parent.parent


# ---------------------------------------------------------------------------- equal to SimpleITK

CLASSIC: dict[str, Callable[[Path], Series]] = {
    "CT, axial": lambda folder: dicomgen.make_series(folder, n=7),
    "CT, feet first": lambda folder: dicomgen.make_series(folder, n=5, step=-2.5),
    "CT, signed, 16 bits": lambda folder: dicomgen.make_series(folder, n=3, bits_stored=16, signed=True, intercept=0.0),
    "MR, oblique, no rescale": lambda folder: dicomgen.make_series(
        folder, modality="MR", orientation=dicomgen.OBLIQUE, slope=None, intercept=None, step=3.3, thickness=3.0
    ),
    "MR, sagittal": lambda folder: dicomgen.make_series(folder, modality="MR", orientation=dicomgen.SAGITTAL),
    "CT, coronal, overlap": lambda folder: dicomgen.make_series(folder, orientation=dicomgen.CORONAL, step=1.25),
    "CT, implicit": lambda folder: dicomgen.make_series(folder, transfer_syntax=uids.ImplicitVRLittleEndian),
    "CT, big endian": lambda folder: dicomgen.make_series(folder, transfer_syntax=uids.ExplicitVRBigEndian),
    "CT, deflated": lambda folder: dicomgen.make_series(folder, transfer_syntax=uids.DeflatedExplicitVRLittleEndian),
    "CT, RLE": lambda folder: dicomgen.make_series(folder, transfer_syntax=uids.RLELossless),
    "CT, JPEG lossless": lambda folder: dicomgen.make_series(folder, transfer_syntax=uids.JPEGLosslessSV1),
    "CT, JPEG-LS": lambda folder: dicomgen.make_series(folder, transfer_syntax=uids.JPEGLSLossless),
    "CT, JPEG 2000": lambda folder: dicomgen.make_series(folder, transfer_syntax=uids.JPEG2000Lossless),
}


@pytest.mark.parametrize("name", CLASSIC)
def test_classic_volumes_equal_simpleitk(name: str, tmp_path: Path) -> None:
    series = CLASSIC[name](tmp_path / "export")
    (volume,) = convert(tmp_path / "export").store.volumes
    check_series(volume, series)
    image = sitk.ReadImage(sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(tmp_path / "export")))
    np.testing.assert_array_equal(volume.numpy(), sitk.GetArrayFromImage(image))
    np.testing.assert_allclose(volume.spacing, image.GetSpacing(), rtol=1e-6)
    np.testing.assert_allclose(volume.origin, image.GetOrigin(), atol=1e-6)
    np.testing.assert_allclose(volume.direction.ravel(), image.GetDirection(), atol=1e-6)
    ours = volume.to_sitk()
    np.testing.assert_allclose(ours.GetDirection(), image.GetDirection(), atol=1e-6)
    np.testing.assert_array_equal(sitk.GetArrayViewFromImage(ours), sitk.GetArrayViewFromImage(image))


# ---------------------------------------------------------------------------- other kinds of object


@pytest.mark.parametrize("shared", [True, False], ids=["shared groups", "per frame over shared"])
def test_enhanced_frames_are_ordered_by_geometry(shared: bool, tmp_path: Path) -> None:
    made = dicomgen.make_enhanced(tmp_path / "export", shared_geometry=shared, slopes=None if shared else [1, 2, 3] * 2)
    (volume,) = convert(tmp_path / "export").store.volumes
    check_series(volume, made)


@pytest.mark.parametrize("reversed_normal", [False, True])
def test_mosaic_is_unpacked(reversed_normal: bool, tmp_path: Path) -> None:
    made = dicomgen.make_mosaic(tmp_path / "export", reversed_normal=reversed_normal, orientation=dicomgen.OBLIQUE)
    (volume,) = convert(tmp_path / "export").store.volumes
    check_series(volume, made)


def test_colour_cine_and_palette_become_rgb(tmp_path: Path) -> None:
    cine = dicomgen.make_cine(tmp_path / "export")
    planar = dicomgen.make_cine(tmp_path / "export", planar=1, series="planar")
    palette = dicomgen.make_palette(tmp_path / "export", bits=16)
    converted = convert(tmp_path / "export")
    for made in (cine, planar, palette):
        (volume,) = converted.of_series(made.series_uid)
        np.testing.assert_array_equal(volume.numpy(), made.values)
        assert part(volume, "intensity")["photometric_interpretation"] == "RGB"
    assert converted.of_series(cine.series_uid)[0].axes == "tczyx"


# ---------------------------------------------------------------------------- everything is accounted for


def obey_permissions() -> None:
    """Take from root what lets it read files of mode 000 (capabilities 1 and 2 of Linux)."""
    libc = ctypes.CDLL(None, use_errno=True)
    for capability in (1, 2):
        if libc.prctl(24, capability, 0, 0, 0):  # PR_CAPBSET_DROP
            raise OSError(ctypes.get_errno(), "a capability could not be dropped")


def test_mixed_folder_converts_what_can_be_and_names_the_rest(tmp_path: Path) -> None:
    mixed = dicomgen.mixed_folder(tmp_path / "export")
    command = [sys.executable, "-m", "fastdcm", "convert", str(tmp_path / "export"), str(tmp_path / "out.zarr")]
    done = subprocess.run(
        [*command, "--json"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        preexec_fn=obey_permissions if os.getuid() == 0 else None,
    )
    assert done.returncode == 1, done.stderr
    summary = json.loads(done.stdout.splitlines()[-1])
    rows = pq.read_table(tmp_path / "out.zarr" / "files.parquet").to_pylist()
    found = {tmp_path / "export" / row["path"]: row for row in rows}
    assert set(found) == set(mixed.files)
    original = mixed.good[0].paths[1]
    for path, expected in mixed.files.items():
        row = found[path]
        if path == original or path.name == "again.dcm":
            continue  # either of the two copies may be the one that is kept
        assert row["outcome"] == expected.outcome, (path.name, row)
        assert expected.code in (None, row["code"]), (path.name, row)
        if row["outcome"] in ("failed", "conflict"):
            assert path.name in done.stdout
            assert row["message"]
    pair = [found[original], found[tmp_path / "export" / "copies" / "again.dcm"]]
    assert sorted(row["outcome"] for row in pair) == ["converted", "duplicate"]
    assert sum(summary["outcomes"].values()) == len(mixed.files) == summary["files"]


def test_files_named_in_frames_are_the_way_back(tmp_path: Path) -> None:
    series = dicomgen.make_series(tmp_path / "export")
    converted = convert(tmp_path / "export")
    frames = pq.read_table(converted.path / "frames.parquet").sort_by("z").to_pylist()
    assert [row["sop_instance_uid"] for row in frames] == [one.SOPInstanceUID for one in series.datasets]
    names = {row["file"]: row["path"] for row in pq.read_table(converted.path / "files.parquet").to_pylist()}
    assert [names[row["file"]] for row in frames] == [path.name for path in series.paths]


# ---------------------------------------------------------------------------- the same bytes


@pytest.fixture(scope="module")
def export(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("same") / "export"
    dicomgen.make_series(folder / "ct", n=9, series="ct")
    dicomgen.two_phases(folder / "mr", series="mr")
    dicomgen.pet_slopes(folder / "pet", series="pet")
    dicomgen.make_enhanced(folder, transfer_syntax=uids.RLELossless)
    dicomgen.make_cine(folder, transfer_syntax=uids.JPEGBaseline8Bit)
    dicomgen.cut_short(folder / "short")
    return folder


def content(store: Path) -> dict[str, bytes]:
    """Return every file of the volumes, byte for byte."""
    return {
        str(path.relative_to(store)): path.read_bytes()
        for path in sorted(store.rglob("*"))
        if path.is_file() and ".ome.zarr" in str(path)
    }


@pytest.fixture(scope="module")
def plain(export: Path) -> dict[str, bytes]:
    return content(convert(export, name="plain.zarr", workers=1).path)


@pytest.mark.parametrize(
    "resources", [{"workers": 3}, {"workers": 2, "threads": 2, "scheduler": "processes"}], ids=["threads", "processes"]
)
def test_workers_change_the_time_and_never_the_bytes(
    resources: dict[str, Any], export: Path, plain: dict[str, bytes]
) -> None:
    assert len(plain) > 10
    assert content(convert(export, name=f"{len(resources)}.zarr", **resources).path) == plain


def test_a_running_scheduler_changes_nothing(export: Path, plain: dict[str, bytes]) -> None:
    from distributed import LocalCluster

    with LocalCluster(  # type: ignore[no-untyped-call]
        n_workers=1, threads_per_worker=2, processes=False, dashboard_address=None, protocol="tcp://", host="127.0.0.1"
    ) as cluster:
        assert cluster.scheduler_address.startswith("tcp://")
        converted = convert(export, name="tcp.zarr", scheduler=cluster.scheduler_address)
    assert content(converted.path) == plain


def test_names_and_order_of_the_input_change_no_pixel(export: Path, tmp_path: Path) -> None:
    renamed = tmp_path / "renamed"
    renamed.mkdir()
    paths = sorted((path for path in export.rglob("*") if path.is_file()), key=lambda path: path.name[::-1])
    for k, path in enumerate(paths):
        shutil.copy2(path, renamed / f"IM{k:04d}")
    first, second = convert(export, name="first.zarr"), convert(renamed)
    assert {str(volume.path.relative_to(first.path)) for volume in first.store.volumes} == {
        str(volume.path.relative_to(second.path)) for volume in second.store.volumes
    }
    for one in first.store.volumes:
        other = second.path / one.path.relative_to(first.path)
        np.testing.assert_array_equal(one.numpy(), np.asarray(zarr.open_array(other / "0" / "image", mode="r")[...]))
