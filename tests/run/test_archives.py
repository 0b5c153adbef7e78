"""Sources inside archives give what the same files in a folder give; only their paths differ."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from pydicom import uid as uids

import fastdcm
from fastdcm.errors import UsageError
from fastdcm.load.volume import Store
from tests import dicomgen
from tests.archives import ARCHIVES, files_of, tar_bytes, zip_bytes


@pytest.fixture(scope="module")
def export(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of many kinds: plain, compressed, deflated, multi-frame, no image, no DICOM, cut."""
    folder = tmp_path_factory.mktemp("in") / "export"
    dicomgen.make_series(folder / "ct", n=4, series="ct")
    dicomgen.make_series(folder / "mr", n=3, modality="MR", series="mr", transfer_syntax=uids.ImplicitVRLittleEndian)
    dicomgen.make_series(folder / "jpeg", n=3, series="jpeg", transfer_syntax=uids.JPEGLSLossless)
    dicomgen.make_series(folder / "flat", n=2, series="flat", transfer_syntax=uids.DeflatedExplicitVRLittleEndian)
    dicomgen.make_series(folder / "big", n=2, series="big", transfer_syntax=uids.ExplicitVRBigEndian)
    dicomgen.make_enhanced(folder / "enhanced.dcm")
    dicomgen.make_sr(folder / "report.dcm")
    dicomgen.cut_short(folder / "cut")
    (folder / "notes.txt").write_bytes(b"no DICOM at all")
    (folder / "empty").write_bytes(b"")
    (folder / "._ct").write_bytes(b"\0\5\x16\x07")
    return folder


def told(store: Path, prefix: str) -> tuple[Any, ...]:
    """Return all that a store says, without its paths, times and sources."""
    opened = fastdcm.open(store)
    assert isinstance(opened, Store)
    volumes = {}
    for volume in opened.volumes:
        attributes = {name: value for name, value in volume.attributes["fastdcm"].items() if name != "hash"}
        attributes["source"] = {name: value for name, value in attributes["source"].items() if name != "digest"}
        volumes[volume.path.relative_to(store).as_posix()] = attributes, volume.numpy().tobytes()
    rows = pq.read_table(store / "files.parquet").to_pylist()
    files = {
        row["path"].removeprefix(prefix): (row["outcome"], row["code"], row["message"], row["size"])
        for row in rows
        if row["path"].startswith(prefix)
    }
    frames = pq.read_table(store / "frames.parquet")
    keys = [name for name in ("volume", "t", "c", "z", "frame", "hash") if name in frames.column_names]
    return volumes, files, sorted(map(repr, frames.select(keys).to_pylist()))


@pytest.fixture(scope="module")
def expected(export: Path) -> tuple[Any, ...]:
    fastdcm.convert(export, export.parent / "folder.zarr")
    return told(export.parent / "folder.zarr", "")


PREFIXES = {"nested.zip": "inside/all.tar.gz!/", "nested.tar": "a.zip!/", "nested.tgz": "a.zip!/"}


@pytest.mark.parametrize("name", ARCHIVES)
@pytest.mark.parametrize("direct", [True, False])
def test_an_archive_gives_what_its_folder_gives(
    export: Path, expected: tuple[Any, ...], tmp_path: Path, name: str, direct: bool
) -> None:
    source = tmp_path / "in"
    source.mkdir()
    (source / name).write_bytes(ARCHIVES[name](files_of(export)))
    report = fastdcm.convert(source / name if direct else source, tmp_path / "out.zarr")
    found = told(tmp_path / "out.zarr", f"{name}!/{PREFIXES.get(name, '')}")
    for volume, (attributes, pixels) in expected[0].items():
        assert found[0][volume] == (attributes, pixels), volume
    assert found[0].keys() == expected[0].keys()
    assert found[1] == expected[1]
    assert found[2] == expected[2]
    extra = {"nested.zip": 1, "nested.tgz": 1}.get(name, 0)
    assert report.files == len(expected[1]) + extra
    assert np.sum(list(report.outcomes.values())) == report.files
    verified = fastdcm.verify(tmp_path / "out.zarr", source / name if direct else source)
    assert (verified.mismatches, verified.exit_code) == ((), 0)
    assert verified.sources
    assert verified.findings.decoded > 10


def test_an_archive_without_dicom_is_one_file(tmp_path: Path) -> None:
    dicomgen.make_series(tmp_path / "in", n=2)
    office = {f"word/{number}.xml": b"<w:document/>" * 50 for number in range(20)}
    (tmp_path / "in" / "texts.zip").write_bytes(zip_bytes(office))
    (tmp_path / "in" / "texts.tar.gz").write_bytes(tar_bytes(office, "w:gz"))
    (tmp_path / "in" / "letter.docx").write_bytes(zip_bytes(office))
    (tmp_path / "in" / "not.zip").write_bytes(b"no archive")
    (tmp_path / "in" / "empty.zip").write_bytes(zip_bytes({}))
    (tmp_path / "in" / "zips.zip").write_bytes(zip_bytes({"a.zip": zip_bytes(office), "b.zip": zip_bytes({})}))
    report = fastdcm.convert(tmp_path / "in", tmp_path / "out.zarr")
    rows = {row["path"]: row for row in pq.read_table(tmp_path / "out.zarr" / "files.parquet").to_pylist()}
    assert report.files == len(rows) == 8
    for name in ("texts.zip", "texts.tar.gz", "letter.docx", "not.zip", "empty.zip", "zips.zip"):
        assert (rows[name]["outcome"], rows[name]["code"]) == ("not-dicom", "no-dicom")
        assert rows[name]["size"] == (tmp_path / "in" / name).stat().st_size
    assert report.exit_code == 0
    assert rows["texts.zip"]["message"] == "an archive without DICOM in its 20 members"


def test_a_changed_archive_is_noticed(tmp_path: Path) -> None:
    made = dicomgen.make_series(tmp_path / "in", n=3)
    archive = tmp_path / "a.zip"
    archive.write_bytes(zip_bytes(files_of(tmp_path / "in")))
    report = fastdcm.convert(archive, tmp_path / "out.zarr")
    assert report.outcomes["converted"] == 3
    files = files_of(tmp_path / "in")
    again = fastdcm.convert(archive, tmp_path / "out.zarr")
    assert again.volumes["written"] == 0
    dicomgen.make_series(tmp_path / "more", n=1, series="other")
    archive.write_bytes(zip_bytes({**files, "more.dcm": files_of(tmp_path / "more").popitem()[1]}))
    more = fastdcm.convert(archive, tmp_path / "out.zarr")
    assert more.outcomes["converted"] == 4
    assert len(made.paths) == 3


def test_header_reads_a_member(tmp_path: Path) -> None:
    made = dicomgen.make_series(tmp_path / "in", n=1)
    (tmp_path / "a.zip").write_bytes(zip_bytes({"x/y.dcm": made.paths[0].read_bytes(), "t.pdf": b"%PDF-1.7"}))
    found = fastdcm.header(f"{tmp_path}/a.zip!/x/y.dcm")
    assert found == fastdcm.header(made.paths[0])
    for name, words in (("nowhere", "no such member"), ("t.pdf", "is a PDF")):
        with pytest.raises(UsageError, match=words):
            fastdcm.header(f"{tmp_path}/a.zip!/{name}")
    with pytest.raises(UsageError, match="is a ZIP archive"):
        fastdcm.header(tmp_path / "a.zip")


def test_every_slice_of_a_series_is_read_for_tags_and_references(tmp_path: Path) -> None:
    dicomgen.make_series(tmp_path / "in", n=3)
    (tmp_path / "a.tar").write_bytes(tar_bytes(files_of(tmp_path / "in")))
    series = fastdcm.scan(tmp_path / "in").table["series"][0].as_py()
    inside, outside = (fastdcm.tags(source, series=series) for source in (tmp_path / "a.tar", tmp_path / "in"))
    assert inside.rows == outside.rows
