"""Every fault that is planted in a converted store is found, with its sources and, where that can be, without them."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zarr
from pydicom import dcmread

import fastdcm
from fastdcm.look.summary import verify_lines
from fastdcm.run.verify import VerifyReport
from tests import dicomgen

OLD_NS = 10**18


class Planted(NamedTuple):
    """A converted export of which copies are spoiled."""

    root: Path
    uids: dict[str, str]
    """Folder of the series below the store, by name."""

    @property
    def store(self) -> Path:
        """The store."""
        return self.root / "out.zarr"

    @property
    def source(self) -> Path:
        """The export."""
        return self.root / "export"

    def volume(self, name: str = "ct") -> Path:
        """One volume."""
        return self.store / self.uids[name] / "0.ome.zarr"

    def image(self, name: str = "ct") -> Path:
        """Its array."""
        return self.volume(name) / "0" / "image"

    def shard(self, name: str = "ct") -> Path:
        """Its first shard."""
        return min(path for path in (self.image(name) / "c").rglob("*") if path.is_file())


def make_export(folder: Path) -> dict[str, str]:
    made = {
        "ct": dicomgen.make_series(folder / "ct", n=6, series="ct"),
        "tilt": dicomgen.gantry_tilt(folder / "tilt"),
        "gap": dicomgen.missing_slice(folder / "gap", series="gap"),
        "pet": dicomgen.pet_slopes(folder / "pet", series="pet"),
        "4d": dicomgen.two_phases(folder / "4d", series="4d"),
        "rgb": dicomgen.make_palette(folder / "rgb"),
        "enhanced": dicomgen.make_enhanced(folder / "enhanced"),
    }
    (folder / "notes.txt").write_text("not DICOM")
    for path in folder.rglob("*"):
        os.utime(path, ns=(OLD_NS, OLD_NS))
    return {name: f"{one.study_uid}/{one.series_uid}" for name, one in made.items()}


@pytest.fixture(scope="module")
def right(tmp_path_factory: pytest.TempPathFactory) -> Planted:
    root = tmp_path_factory.mktemp("right")
    uids = make_export(root / "export")
    assert fastdcm.convert(root / "export", root / "out.zarr", workers=1).exit_code == 0
    return Planted(root, uids)


@pytest.fixture
def planted(right: Planted, tmp_path: Path) -> Iterator[Planted]:
    """A copy that may be spoiled."""
    for name in ("export", "out.zarr", "out.zarr.work"):
        shutil.copytree(right.root / name, tmp_path / name)
    (tmp_path / "out.zarr.work" / "sources.json").write_text(json.dumps([str(tmp_path / "export")]))
    yield Planted(tmp_path, right.uids)
    shutil.rmtree(tmp_path)


def check(planted: Planted, **more: Any) -> VerifyReport:
    return fastdcm.verify(planted.store, workers=1, **more)


def check_alone(planted: Planted) -> VerifyReport:
    """Verify without sources and without the working folder: what is left of a store that was given away."""
    shutil.rmtree(planted.root / "out.zarr.work", ignore_errors=True)
    return check(planted)


def checks(report: VerifyReport) -> set[str]:
    return {mismatch.check for mismatch in report.mismatches}


def test_a_right_store_passes(planted: Planted) -> None:
    for report in (check(planted), check(planted, sources=[planted.source]), check(planted, sample=7)):
        assert report.mismatches == ()
    full = check(planted)
    assert full.findings.decoded == full.findings.hashed == full.slices > 30
    assert check_alone(planted).mismatches == ()


# ---------------------------------------------------------------------------- what is planted


def flip(path: Path, place: int, bit: int = 1) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= bit
    path.write_bytes(bytes(data))


def flip_in_a_chunk(planted: Planted) -> None:
    path = planted.shard()
    flip(path, path.stat().st_size // 3)


def flip_in_the_index(planted: Planted) -> None:
    flip(planted.shard(), -12)


def flip_in_a_coordinate(planted: Planted) -> None:
    flip(planted.volume() / "0" / "z" / "c.0", 0)


def change_voxels(planted: Planted, name: str, change: Callable[[np.ndarray[Any, Any]], None]) -> None:
    array = zarr.open_array(planted.image(name), mode="r+")
    values = np.asarray(array[...])
    change(values)
    array[...] = values


def swap_pixels(planted: Planted) -> None:
    def swap(values: np.ndarray[Any, Any]) -> None:
        values[[1, 2]] = values[[2, 1]]

    change_voxels(planted, "ct", swap)


def swap_phases(planted: Planted) -> None:
    def swap(values: np.ndarray[Any, Any]) -> None:
        values[[0, 1]] = values[[1, 0]]

    change_voxels(planted, "4d", swap)


def one_voxel(planted: Planted) -> None:
    def change(values: np.ndarray[Any, Any]) -> None:
        values[..., 3, 4] += 1

    change_voxels(planted, "rgb", change)


def lost_chunk(planted: Planted) -> None:
    def erase(values: np.ndarray[Any, Any]) -> None:
        values[3] = 0

    change_voxels(planted, "ct", erase)


def chunk_marked_absent(planted: Planted) -> None:
    """An index that says that its first chunk is absent, with a right checksum: it reads back as fill."""
    from google_crc32c import value as crc32c

    path = planted.shard()
    document = json.loads((planted.image() / "zarr.json").read_text())
    outer = np.array(document["chunk_grid"]["configuration"]["chunk_shape"])
    chunks = int(np.prod(outer // np.array(document["codecs"][0]["configuration"]["chunk_shape"])))
    data = path.read_bytes()
    index = bytearray(data[-16 * chunks - 4 : -4])
    index[:16] = b"\xff" * 16
    path.write_bytes(data[: -16 * chunks - 4] + bytes(index) + crc32c(bytes(index)).to_bytes(4, "little"))


def lost_shard(planted: Planted) -> None:
    planted.shard().unlink()


def cut_shard(planted: Planted) -> None:
    path = planted.shard()
    path.write_bytes(path.read_bytes()[:-7])


def lost_volume(planted: Planted) -> None:
    shutil.rmtree(planted.volume())


def extra_volume(planted: Planted) -> None:
    shutil.copytree(planted.volume(), planted.volume().with_name("7.ome.zarr"))


def two_volumes_exchanged(planted: Planted) -> None:
    first, second, aside = planted.volume("ct"), planted.volume("tilt"), planted.root / "aside"
    first.rename(aside)
    second.rename(first)
    aside.rename(second)


def edit(planted: Planted, change: Callable[[dict[str, Any]], None], name: str = "ct") -> None:
    path = planted.volume(name) / "zarr.json"
    document = json.loads(path.read_text())
    change(document["attributes"])
    path.write_text(json.dumps(document))


def geometry(planted: Planted, change: Callable[[dict[str, Any]], None], name: str = "ct") -> None:
    """Change the geometry alike wherever it stands and seal it anew: a writer that was wrong from the start."""
    edit(planted, lambda attributes: change(attributes["fastdcm"]["geometry"]), name)
    reseal(planted, name)


def reseal(planted: Planted, name: str = "ct") -> None:
    edit(planted, lambda attributes: attributes["fastdcm"].pop("hash"), name)


def wrong_affine(planted: Planted) -> None:
    def stretch(values: dict[str, Any]) -> None:
        affine = np.array(values["affine"])
        affine[:3, 2] *= 1.25
        values["affine"], values["spacing"][2] = affine.tolist(), values["spacing"][2] * 1.25

    geometry(planted, stretch)


def wrong_shear(planted: Planted) -> None:
    def straighten(values: dict[str, Any]) -> None:
        affine = np.array(values["affine"])
        normal = np.cross(affine[:3, 0], affine[:3, 1])
        affine[:3, 2] = normal / np.linalg.norm(normal) * np.linalg.norm(affine[:3, 2])
        values["affine"] = affine.tolist()

    geometry(planted, straighten, "tilt")


def wrong_origin(planted: Planted) -> None:
    def move(values: dict[str, Any]) -> None:
        values["origin"][0] += 5
        values["affine"][0][3] += 5

    geometry(planted, move)


def origin_alone(planted: Planted) -> None:
    geometry(planted, lambda values: values.update(origin=[1.0, 2.0, 3.0]))


def spacing_alone(planted: Planted) -> None:
    geometry(planted, lambda values: values.update(spacing=values["spacing"][::-1]))


def swapped_spacing(planted: Planted) -> None:
    """The columns of the affine are as long as each other's: rows and columns mistaken."""

    def swap(values: dict[str, Any]) -> None:
        affine = np.array(values["affine"])
        lengths = np.linalg.norm(affine[:3, :2], axis=0)
        affine[:3, :2] *= lengths[::-1] / lengths
        values["affine"], values["spacing"][:2] = affine.tolist(), lengths[::-1].tolist()

    geometry(planted, swap)


def wrong_direction(planted: Planted) -> None:
    def mirror(values: dict[str, Any]) -> None:
        affine, direction = np.array(values["affine"]), np.array(values["direction"])
        affine[:3, 0] *= -1
        direction[:, 0] *= -1
        values["affine"], values["direction"] = affine.tolist(), direction.tolist()

    geometry(planted, mirror)


def direction_alone(planted: Planted) -> None:
    geometry(planted, lambda values: values.update(direction=np.eye(3)[::-1].tolist()))


def ome_scale(planted: Planted) -> None:
    def change(attributes: dict[str, Any]) -> None:
        attributes["ome"]["multiscales"][0]["datasets"][0]["coordinateTransformations"][0]["scale"][0] = 9.0

    edit(planted, change)
    reseal(planted)


def position_of_a_slice(planted: Planted) -> None:
    edit(planted, lambda attributes: attributes["fastdcm"]["slices"]["position"][2].__setitem__(2, 77.0))
    reseal(planted)


def position_of_an_uneven_slice(planted: Planted) -> None:
    edit(planted, lambda attributes: attributes["fastdcm"]["slices"]["position"][2].__setitem__(2, 77.0), "gap")
    reseal(planted, "gap")


def hidden_residual(planted: Planted) -> None:
    geometry(planted, lambda values: values.update(max_residual_mm=3.0))


def wrong_slope(planted: Planted) -> None:
    edit(planted, lambda attributes: attributes["fastdcm"]["intensity"].update(rescale_slope=2.0))
    reseal(planted)


def wrong_slope_of_a_slice(planted: Planted) -> None:
    edit(planted, lambda attributes: attributes["fastdcm"]["slices"]["rescale_slope"].__setitem__(1, 99.0), "pet")
    reseal(planted, "pet")


def wrong_values_from_the_start(planted: Planted) -> None:
    """A decoder that is wrong writes hashes that agree with it: only the source tells."""
    import xxhash

    def change(values: np.ndarray[Any, Any]) -> None:
        values[1] += 1

    change_voxels(planted, "ct", change)
    values = np.asarray(zarr.open_array(planted.image(), mode="r")[...])
    hashes = [xxhash.xxh3_128_hexdigest(np.ascontiguousarray(plane).tobytes()) for plane in values]
    edit(planted, lambda attributes: attributes["fastdcm"]["source"].update(pixel_hash=hashes))
    reseal(planted)


def edited_attribute(planted: Planted) -> None:
    edit(planted, lambda attributes: attributes["fastdcm"]["intensity"].update(rescale_type="US"))


def edited_tag(planted: Planted) -> None:
    edit(planted, lambda attributes: attributes["fastdcm"]["dicom"].pop(min(attributes["fastdcm"]["dicom"])))


def edited_window(planted: Planted) -> None:
    def change(attributes: dict[str, Any]) -> None:
        attributes["ome"]["omero"]["channels"][0]["window"]["start"] = -5

    edit(planted, change)


def other_series(planted: Planted) -> None:
    edit(planted, lambda attributes: attributes["fastdcm"]["identity"].update(series_uid="1.2.3"))
    reseal(planted)


def metadata_of_the_array(planted: Planted, **values: Any) -> None:
    path = planted.image() / "zarr.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def wrong_dtype(planted: Planted) -> None:
    metadata_of_the_array(planted, data_type="int32")
    reseal(planted)


def wrong_shape(planted: Planted) -> None:
    shape = json.loads((planted.image() / "zarr.json").read_text())["shape"]
    metadata_of_the_array(planted, shape=[shape[0] - 1, *shape[1:]])
    reseal(planted)


def wrong_fill(planted: Planted) -> None:
    metadata_of_the_array(planted, fill_value=7)


def table(planted: Planted, name: str, change: Callable[[pa.Table], pa.Table], *, known: bool = False) -> None:
    """Change a table and keep its generation; ``known``: the report's hash too, so that only what it says tells."""
    path = planted.store / f"{name}.parquet"
    before = pq.read_table(path)
    pq.write_table(change(before).replace_schema_metadata(before.schema.metadata), path)
    report = planted.store / "report.json"
    document = json.loads(report.read_text())
    if known:
        del document["hashes"]
        report.write_text(json.dumps(document))


def with_value(table: pa.Table, column: str, row: int, value: Any) -> pa.Table:
    values = table[column].to_pylist()
    values[row] = value
    place = table.schema.get_field_index(column)
    return table.set_column(place, table.schema.field(place), pa.array(values, table.schema.field(place).type))


def row_of(planted: Planted, name: str, column: str, value: Any) -> int:
    found: int = pq.read_table(planted.store / f"{name}.parquet")[column].to_pylist().index(value)
    return found


def edited_catalogue(planted: Planted) -> None:
    table(planted, "catalog", lambda rows: with_value(rows, "kernel", 0, "SHARP"))


def edited_kind(planted: Planted) -> None:
    table(planted, "catalog", lambda rows: with_value(rows, "kind", 0, "localizer"), known=True)


def lost_row_of_the_catalogue(planted: Planted) -> None:
    table(planted, "catalog", lambda rows: rows.slice(1), known=True)


def lost_row_of_files(planted: Planted) -> None:
    table(planted, "files", lambda rows: pa.concat_tables([rows.slice(0, 3), rows.slice(4)]), known=True)


def lost_last_row_of_files(planted: Planted) -> None:
    """Of a file that no frame comes from: only the totals tell."""
    last = row_of(planted, "files", "path", "notes.txt")
    table(planted, "files", lambda rows: pa.concat_tables([rows.slice(0, last), rows.slice(last + 1)]), known=True)


def other_outcome(planted: Planted) -> None:
    table(planted, "files", lambda rows: with_value(rows, "outcome", 2, "duplicate"), known=True)


def other_outcome_of_no_image(planted: Planted) -> None:
    row = row_of(planted, "files", "path", "notes.txt")
    table(planted, "files", lambda rows: with_value(rows, "outcome", row, "filtered"), known=True)


def other_message(planted: Planted) -> None:
    table(planted, "files", lambda rows: with_value(rows, "message", 0, "all is well"))


def swapped_files_of_slices(planted: Planted) -> None:
    def swap(rows: pa.Table) -> pa.Table:
        first = rows["volume"].to_pylist().index(f"{planted.uids['ct']}/0.ome.zarr")
        files = rows["file"].to_pylist()
        files[first], files[first + 1] = files[first + 1], files[first]
        return rows.set_column(rows.schema.get_field_index("file"), "file", pa.array(files, pa.int64()))

    table(planted, "frames", swap, known=True)


def swapped_slices_of_frames(planted: Planted) -> None:
    def swap(rows: pa.Table) -> pa.Table:
        first = rows["volume"].to_pylist().index(f"{planted.uids['ct']}/0.ome.zarr")
        changed = with_value(rows, "z", first, 1)
        return with_value(changed, "z", first + 1, 0)

    table(planted, "frames", swap, known=True)


def swapped_frames_of_a_file(planted: Planted) -> None:
    def swap(rows: pa.Table) -> pa.Table:
        first = rows["volume"].to_pylist().index(f"{planted.uids['enhanced']}/0.ome.zarr")
        frames = rows["frame"].to_pylist()
        return with_value(with_value(rows, "frame", first, frames[first + 1]), "frame", first + 1, frames[first])

    table(planted, "frames", swap, known=True)


def lost_row_of_frames(planted: Planted) -> None:
    table(planted, "frames", lambda rows: rows.slice(1), known=True)


def two_generations(planted: Planted) -> None:
    path = planted.store / "frames.parquet"
    pq.write_table(pq.read_table(path).replace_schema_metadata({"generation": "older"}), path)


def flip_in_a_table(planted: Planted) -> None:
    flip(planted.store / "frames.parquet", 40)


def report_of_another_run(planted: Planted) -> None:
    path = planted.store / "report.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"generation": "older"}))


def source_file(planted: Planted) -> Path:
    return min((planted.source / "ct").rglob("*.dcm"))


def source_pixels_changed(planted: Planted) -> None:
    path = source_file(planted)
    flip(path, -5)
    os.utime(path, ns=(OLD_NS, OLD_NS))


def source_position_changed(planted: Planted) -> None:
    path = source_file(planted)
    dataset = dcmread(path)
    x, y, z = dataset.ImagePositionPatient
    dataset.ImagePositionPatient = [x, y, z + 1]
    dataset.save_as(path)


def source_touched(planted: Planted) -> None:
    os.utime(source_file(planted), ns=(OLD_NS, OLD_NS + 10**9))


def source_grown(planted: Planted) -> None:
    path = source_file(planted)
    with path.open("ab") as file:
        file.write(b"\0\0")
    os.utime(path, ns=(OLD_NS, OLD_NS))


def source_of_another_image(planted: Planted) -> None:
    first, second = sorted((planted.source / "ct").rglob("*.dcm"))[:2]
    aside = first.rename(first.with_name("aside"))
    second.rename(first)
    aside.rename(second)


def an_older_volume_put_back(planted: Planted) -> None:
    """The sources were changed and converted again, and then the first volume was restored from a backup."""
    backup = shutil.copytree(planted.volume(), planted.root / "backup")
    path = source_file(planted)
    dataset = dcmread(path)
    dataset.WindowCenter = 77
    dataset.save_as(path)
    assert fastdcm.convert(planted.source, planted.store, workers=1).volumes["written"] == 1
    shutil.rmtree(planted.volume())
    backup.rename(planted.volume())


EVERYWHERE: tuple[tuple[Callable[[Planted], None], str], ...] = (
    (flip_in_a_chunk, "read|hash"),
    (flip_in_the_index, "read"),
    (flip_in_a_coordinate, "attributes"),
    (swap_pixels, "hash"),
    (swap_phases, "hash"),
    (one_voxel, "hash"),
    (lost_chunk, "hash"),
    (chunk_marked_absent, "hash"),
    (lost_shard, "shard"),
    (cut_shard, "read"),
    (lost_volume, "tables"),
    (extra_volume, "tables"),
    (two_volumes_exchanged, "shape|tables"),
    (wrong_affine, "attributes"),
    (wrong_shear, "attributes"),
    (wrong_origin, "attributes"),
    (origin_alone, "attributes"),
    (spacing_alone, "attributes"),
    (direction_alone, "attributes"),
    (swapped_spacing, "attributes"),
    (ome_scale, "attributes"),
    (position_of_a_slice, "attributes"),
    (edited_attribute, "attributes"),
    (edited_tag, "attributes"),
    (edited_window, "attributes"),
    (wrong_dtype, "shape"),
    (wrong_shape, "shape"),
    (wrong_fill, "attributes"),
    (edited_catalogue, "tables"),
    (edited_kind, "shape"),
    (lost_row_of_the_catalogue, "tables"),
    (lost_row_of_files, "tables"),
    (lost_last_row_of_files, "tables"),
    (other_outcome, "tables"),
    (other_outcome_of_no_image, "tables"),
    (other_message, "tables"),
    (lost_row_of_frames, "frames"),
    (two_generations, "tables"),
    (flip_in_a_table, "tables"),
    (report_of_another_run, "tables"),
    (an_older_volume_put_back, "tables"),
)
"""Found with or without sources, by a check of this name."""

BY_THE_SOURCE: tuple[tuple[Callable[[Planted], None], str], ...] = (
    (wrong_direction, "direction"),
    (wrong_affine, "position"),
    (wrong_shear, "position"),
    (wrong_origin, "position"),
    (swapped_spacing, "spacing"),
    (position_of_a_slice, "position"),
    (position_of_an_uneven_slice, "position"),
    (hidden_residual, "position"),
    (wrong_slope, "rescale"),
    (wrong_slope_of_a_slice, "rescale"),
    (wrong_values_from_the_start, "pixels"),
    (swap_pixels, "pixels"),
    (lost_chunk, "pixels"),
    (other_series, "source"),
    (swapped_files_of_slices, "source"),
    (swapped_slices_of_frames, "position"),
    (swapped_frames_of_a_file, "pixels"),
    (source_pixels_changed, "pixels"),
    (source_position_changed, "position"),
    (source_touched, "stale"),
    (source_grown, "stale"),
    (source_of_another_image, "source"),
    (an_older_volume_put_back, "stale"),
)
"""Found by comparing with the sources, or with what the last run left."""


@pytest.mark.parametrize(("plant", "found"), EVERYWHERE, ids=lambda value: getattr(value, "__name__", ""))
def test_planted_faults_are_found_without_sources(planted: Planted, plant: Any, found: str) -> None:
    plant(planted)
    report = check_alone(planted)
    assert report.exit_code == 4
    assert checks(report) & set(found.split("|")), report.mismatches


@pytest.mark.parametrize(("plant", "found"), BY_THE_SOURCE, ids=lambda value: getattr(value, "__name__", ""))
def test_planted_faults_are_found_by_the_sources(planted: Planted, plant: Any, found: str) -> None:
    plant(planted)
    report = check(planted)
    assert report.exit_code == 4
    assert found in checks(report), report.mismatches


def test_every_table_of_faults_names_each_once() -> None:
    for rows in (EVERYWHERE, BY_THE_SOURCE):
        assert len({plant for plant, _ in rows}) == len(rows)


def test_a_copy_of_the_sources_may_have_other_dates(planted: Planted) -> None:
    source_touched(planted)
    report = check(planted, sources=[planted.source])
    assert (report.mismatches, report.findings.touched) == ((), 1)
    source_grown(planted)
    assert checks(check(planted, sources=[planted.source])) == {"stale"}


def test_a_sample_says_what_it_covers(planted: Planted) -> None:
    report = check(planted, sample=7)
    assert (report.sample, report.findings.hashed, report.findings.decoded) == (7, 7, 7)
    assert report.slices == check(planted).findings.hashed
    text = " ".join(" ".join(verify_lines(report, 200)).split())
    assert f"a sample of 7 of {report.slices} slices" in text
    assert "sample" not in " ".join(verify_lines(check(planted), 200))
    for plant in (other_outcome, lost_volume):  # the tables are checked in full
        plant(planted)
        assert check(planted, sample=1).exit_code == 4


def test_an_older_volume_is_named_by_the_journal(planted: Planted) -> None:
    an_older_volume_put_back(planted)
    stale = [one for one in check(planted).mismatches if one.check == "stale"]
    assert {one.volume for one in stale} == {f"{planted.uids['ct']}/0.ome.zarr"}
    assert any("last run published" in one.message for one in stale)


def test_a_store_without_hashes_is_checked_by_the_rest(planted: Planted) -> None:
    """As versions before wrote it."""
    for name in planted.uids:
        reseal(planted, name)
    report = planted.store / "report.json"
    document = json.loads(report.read_text())
    del document["hashes"]
    report.write_text(json.dumps(document))
    assert check(planted).mismatches == ()
