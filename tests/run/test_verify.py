"""The witness finds planted faults, each by the check that must find it, and none where there is none."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import zarr
from pydicom import dcmread
from pydicom import uid as uids

from fastdcm.errors import UsageError
from fastdcm.run.progress import Progress
from fastdcm.run.verify import VerifyReport, verify
from tests import dicomgen, ministore
from tests.ministore import Small, of_series, slice_hashes, write_store


def two_volumes(folder: Path) -> list[Small]:
    ct = of_series(dicomgen.make_series(folder / "src", n=6, series="ct"))
    t4 = of_series(dicomgen.two_phases(folder / "src"), modality="MR")
    return [ct, t4]


def check(root: Path, **more: object) -> VerifyReport:
    return verify(root, [root.parent / "src"], workers=1, **more)  # type: ignore[arg-type]


def checks(report: VerifyReport) -> set[str]:
    return {mismatch.check for mismatch in report.mismatches}


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return write_store(tmp_path / "s.zarr", *two_volumes(tmp_path), source=tmp_path / "src")


def test_a_right_store_passes(store: Path) -> None:
    report = check(store)
    assert report.mismatches == ()
    assert report.exit_code == 0
    assert report.findings[:5] == (14, 14, 14, 0, 0)
    assert report.volumes == 2
    assert json.loads(json.dumps(report.as_json()))["decoded"] == 14


def test_without_sources_hashes_are_checked(store: Path) -> None:
    for report in (verify(store, workers=1), check(store, sample=None)):
        assert report.exit_code == 0
    report = verify(store, workers=1)
    assert (report.sources, report.findings.hashed, report.findings.decoded) == (False, 14, 0)


def test_sources_are_known_to_the_working_folder(store: Path) -> None:
    work = store.with_name("s.zarr.work")
    work.mkdir()
    (work / "sources.json").write_text(json.dumps([str(store.parent / "src")]))
    assert verify(store, workers=1).findings.decoded == 14
    elsewhere = store.with_name("elsewhere")
    work.rename(elsewhere)
    assert verify(store, workers=1).findings.decoded == 0
    assert verify(store, work=elsewhere, workers=1).findings.decoded == 14


def test_shared_without_its_manifest(store: Path) -> None:
    (store / "files.parquet").unlink()
    report = check(store)
    assert (report.exit_code, report.findings.hashed, report.sources) == (0, 14, False)


def test_a_sample_is_spread_and_stable(store: Path) -> None:
    first, second = check(store, sample=5), check(store, sample=5)
    assert first.findings == second.findings
    assert first.findings.hashed == first.findings.decoded == 5
    assert check(store, sample=1000).findings.hashed == 14


def image_of(store: Path, n: int = 0) -> Path:
    return sorted(store.glob("*/*/0.ome.zarr/0/image"))[n]


def flip_a_bit(store: Path) -> None:
    shard = next(path for path in image_of(store).rglob("*") if path.is_file() and path.name != "zarr.json")
    data = bytearray(shard.read_bytes())
    data[len(data) // 3] ^= 1
    shard.write_bytes(bytes(data))


def swap_slices(store: Path) -> None:
    array = zarr.open_array(image_of(store), mode="r+")
    values = np.asarray(array[...])
    values[..., [1, 2], :, :] = values[..., [2, 1], :, :]
    array[...] = values


def lose_a_shard(store: Path) -> None:
    shutil.rmtree(image_of(store) / "c")


def lose_a_chunk(store: Path) -> None:
    array = zarr.open_array(image_of(store), mode="r+")
    values = np.asarray(array[...])
    values[..., 3, :, :] = 0
    array[...] = values


def edit_volume(store: Path, change: Callable[[dict[str, Any]], None]) -> None:
    for document in store.glob("*/*/0.ome.zarr/zarr.json"):
        loaded = json.loads(document.read_text())
        change(loaded["attributes"]["fastdcm"])
        document.write_text(json.dumps(loaded))


def wrong_affine(store: Path) -> None:
    def shift(fastdcm: dict[str, Any]) -> None:
        affine = np.array(fastdcm["geometry"]["affine"])
        affine[:3, 2] *= 1.25
        fastdcm["geometry"]["affine"] = affine.tolist()

    edit_volume(store, shift)


def swapped_in_plane_spacing(store: Path) -> None:
    def swap(fastdcm: dict[str, Any]) -> None:
        dx, dy, dz = fastdcm["geometry"]["spacing"]
        fastdcm["geometry"]["spacing"] = [dy, dx, dz]

    edit_volume(store, swap)


def turned_axes(store: Path) -> None:
    def turn(fastdcm: dict[str, Any]) -> None:
        affine = np.array(fastdcm["geometry"]["affine"])
        affine[:3, [0, 1]] = affine[:3, [1, 0]]
        fastdcm["geometry"]["affine"] = affine.tolist()

    edit_volume(store, turn)


def hidden_residual(store: Path) -> None:
    edit_volume(store, lambda fastdcm: fastdcm["geometry"].update(max_residual_mm=3.0))


def lose_a_volume(store: Path) -> None:
    shutil.rmtree(image_of(store).parents[1])


def unknown_volume(store: Path) -> None:
    volume = image_of(store).parents[1]
    shutil.copytree(volume, volume.with_name("1.ome.zarr"))


def other_generation(store: Path) -> None:
    table = pq.read_table(store / "frames.parquet")
    pq.write_table(table.replace_schema_metadata({"generation": "older"}), store / "frames.parquet")


def lose_a_hash(store: Path) -> None:
    edit_volume(store, lambda fastdcm: fastdcm["source"].update(pixel_hash=[]))


def garbage_document(store: Path) -> None:
    (image_of(store) / "zarr.json").write_text("{")


def other_row(store: Path) -> None:
    table = pq.read_table(store / "catalog.parquet")
    place = table.schema.get_field_index("rows")
    wrong = table.set_column(place, "rows", [[99] * table.num_rows])
    wrong = wrong.replace_schema_metadata({"generation": ministore.GENERATION})
    pq.write_table(wrong, store / "catalog.parquet")


@pytest.mark.parametrize(
    ("plant", "found"),
    [
        (flip_a_bit, {"read"}),
        (swap_slices, {"hash", "pixels"}),
        (lose_a_shard, {"shard", "hash", "pixels"}),
        (lose_a_chunk, {"hash", "pixels"}),
        (wrong_affine, {"position", "attributes"}),
        (swapped_in_plane_spacing, {"spacing", "shape", "attributes"}),
        (turned_axes, {"direction", "attributes"}),
        (hidden_residual, {"position"}),
        (lose_a_volume, {"tables"}),
        (unknown_volume, {"tables"}),
        (other_generation, {"tables"}),
        (lose_a_hash, {"hash"}),
        (garbage_document, {"read"}),
        (other_row, {"shape"}),
    ],
)
def test_planted_faults_are_found(store: Path, plant: Callable[[Path], None], found: set[str]) -> None:
    plant(store)
    report = check(store)
    assert report.exit_code == 4
    assert checks(report) == found


def test_wrong_values_with_right_hashes_are_found_by_the_source(tmp_path: Path) -> None:
    """A decoder that was wrong from the start writes a hash that agrees with it: only the source tells."""
    ct = two_volumes(tmp_path)[0]
    values = ct.values.copy()
    values[2, 3, 4] += 1
    root = write_store(tmp_path / "s.zarr", replace(ct, values=values), source=tmp_path / "src")
    assert verify(root, workers=1).exit_code == 0
    report = check(root)
    assert checks(report) == {"pixels"}
    (mismatch,) = report.mismatches
    assert mismatch.cell == (0, 0, 2)
    assert "1 voxels differ" in mismatch.message
    assert "(3, 4)" in mismatch.message


def test_a_changed_source_is_found(store: Path) -> None:
    path = next((store.parent / "src").glob("ct-002*"))
    dataset = dcmread(path)
    dataset.PixelData = bytes(len(dataset.PixelData))
    dataset.save_as(path)
    assert checks(check(store)) == {"pixels"}


def test_lost_sources_are_counted(store: Path) -> None:
    next((store.parent / "src").glob("ct-002*")).unlink()
    report = check(store)
    assert (report.exit_code, report.findings.absent, report.findings.decoded) == (0, 1, 13)


def test_wrong_sources_are_refused(store: Path) -> None:
    with pytest.raises(UsageError, match="none of the store's files"):
        verify(store, sources=[store.parent / "nowhere"], workers=1)


def test_a_volume_is_no_store(store: Path) -> None:
    with pytest.raises(UsageError, match="takes a store"):
        verify(image_of(store).parents[1], workers=1)


def test_progress_reaches_the_end(store: Path) -> None:
    seen: list[Progress] = []
    check(store, progress=seen.append)
    assert [(one.volumes, one.volumes_total) for one in seen] == [(1, 2), (2, 2)]


# ---------------------------------------------------------------------------- kinds of values


def passes(tmp_path: Path, small: Small) -> VerifyReport:
    root = write_store(tmp_path / "s.zarr", small, source=tmp_path / "src")
    report = check(root)
    assert report.mismatches == ()
    return report


def test_pet_slopes(tmp_path: Path) -> None:
    report = passes(tmp_path, of_series(dicomgen.pet_slopes(tmp_path / "src"), modality="PT"))
    assert report.findings.decoded == 5


@pytest.mark.parametrize(
    "syntax", [uids.RLELossless, uids.JPEG2000Lossless, uids.JPEGLosslessSV1, uids.ImplicitVRLittleEndian]
)
def test_transfer_syntaxes(tmp_path: Path, syntax: str) -> None:
    series = dicomgen.make_series(tmp_path / "src", n=3, transfer_syntax=syntax)
    assert passes(tmp_path, of_series(series)).findings.decoded == 3


def test_uneven_stack_by_its_positions(tmp_path: Path) -> None:
    small = of_series(dicomgen.missing_slice(tmp_path / "src"), geometry={"affine": None, "uniform": False})
    assert passes(tmp_path, small).findings.placed == 5
    moved = replace(small, positions=np.asarray(small.positions) + np.array([0, 0, 0.5]))
    assert checks(check(write_store(tmp_path / "t.zarr", moved, source=tmp_path / "src"))) == {"position"}


def test_enhanced_multi_frame(tmp_path: Path) -> None:
    series = dicomgen.make_enhanced(tmp_path / "src")
    small = of_series(series, modality="MR")
    root = write_store(tmp_path / "s.zarr", replace(small, files=()), source=None)
    dataset = dcmread(series.paths[0])
    z = [
        float(item.PlanePositionSequence[0].ImagePositionPatient[2])
        for item in dataset.PerFrameFunctionalGroupsSequence
    ]
    frames = [
        {"volume": small.path, "t": 0, "c": 0, "z": k, "file": 0, "frame": int(frame), "tile": None}
        for k, frame in enumerate(np.argsort(z))
    ]
    ministore.write_table_rows(root / "frames.parquet", frames)
    ministore.write_table_rows(root / "files.parquet", [{"file": 0, "source": 0, "path": series.paths[0].name}])
    report = check(root)
    assert report.mismatches == ()
    assert report.findings.decoded == report.findings.placed == len(frames)


def test_monochrome1_and_its_inverse(tmp_path: Path) -> None:
    small = of_series(dicomgen.monochrome1(tmp_path / "src"), modality="DX")
    passes(tmp_path, small)
    inverted = replace(small, values=4095 - small.values, intensity={"inverted": True})
    assert check(write_store(tmp_path / "t.zarr", inverted, source=tmp_path / "src")).exit_code == 0


def test_colour_is_inside_a_slice(tmp_path: Path) -> None:
    series = dicomgen.make_palette(tmp_path / "src")
    dims = {"c": {"role": "colour", "values": ["R", "G", "B"]}}
    path = f"{series.study_uid}/{series.series_uid}/0.ome.zarr"
    rgb = {"photometric_interpretation": "RGB"}
    small = Small(series.values, "czyx", path=path, files=series.paths, intensity=rgb, dims=dims, modality="OT")
    assert passes(tmp_path, small).findings.decoded == 1


def test_absent_slices_hold_fill(tmp_path: Path) -> None:
    series = dicomgen.make_series(tmp_path / "src", n=4)
    small = of_series(series)
    values = small.values.copy()
    values[1] = 0
    hashes = [None if k == 1 else text for k, text in enumerate(slice_hashes(values, "zyx", {}))]
    root = write_store(tmp_path / "s.zarr", replace(small, values=values, files=()))
    edit_volume(root, lambda fastdcm: fastdcm["source"].update(pixel_hash=hashes))
    assert verify(root, workers=1).exit_code == 0
    array = zarr.open_array(image_of(root), mode="r+")
    array[1, 0, 0] = 7
    assert checks(verify(root, workers=1)) == {"fill"}
