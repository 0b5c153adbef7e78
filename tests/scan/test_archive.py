"""Archives, right and hostile: every member is found and read, or has a row that says why not."""

from __future__ import annotations

import io
import struct
import tarfile
import time
import tracemalloc
import warnings
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastdcm.errors import Code, Outcome, SourceError
from fastdcm.scan import reading, tar_list
from fastdcm.scan.archive import has_archive_name, read_archive
from fastdcm.scan.find import FoundFile, find_files, full_path
from fastdcm.scan.header import read_headers
from fastdcm.scan.location import MARK, decode_path, encode_path, member_location, parts_of
from fastdcm.scan.opened import archive_of, open_location
from fastdcm.scan.reading import Spool, Unpacked, Window, unpack
from tests.archives import ARCHIVES, tar_bytes, zip_bytes
from tests.scan import rawdicom

IMAGE = rawdicom.part10(rawdicom.image())
TEXT = b"no DICOM " * 40
Told = dict[str, tuple[str, str] | None]


def spooled(data: bytes) -> Spool:
    spool = Spool(7)
    spool.add(data)
    return spool


def rows(folder: Path, data: bytes, name: str = "a.zip") -> Told:
    """Return what the walk says of a folder with one archive."""
    (folder / name).write_bytes(data)
    found = list(find_files([str(folder)]))
    paths = [one.path for one in found]
    assert paths == sorted(paths)
    assert len(set(paths)) == len(paths)
    table, _ = read_headers([str(folder)], found)
    outcomes = zip(table["outcome"].to_pylist(), table["code"].to_pylist(), strict=True)
    return {path: told if told[0] else None for path, told in zip(paths, outcomes, strict=True)}


def read_all(location: str) -> bytes:
    with open_location(location) as reader:
        return reader.read_at(0, reader.size + 1)


@pytest.mark.parametrize("name", ARCHIVES)
def test_members_are_read_anywhere(tmp_path: Path, name: str) -> None:
    files = {"d/one.dcm": IMAGE, "two": IMAGE + bytes(200_000), "three.txt": TEXT}
    (tmp_path / name).write_bytes(ARCHIVES[name](files))
    for found in find_files([str(tmp_path)]):
        key = found.path.rpartition(MARK)[2]
        if key not in files or found.error:
            continue
        location = full_path([str(tmp_path)], 0, found.path)
        with open_location(location) as reader:
            assert reader.size == found.size == len(files[key])
            assert reader.mtime_ns == found.mtime_ns == (tmp_path / name).stat().st_mtime_ns
            for offset, count in ((150, 20), (len(files[key]) - 9, 100), (0, 5), (len(files[key]) + 5, 5)):
                assert reader.read_at(offset, count) == files[key][offset : offset + count]
            with reader.file() as file:
                file.seek(-10, 2)
                assert file.read() == files[key][-10:]
                file.seek(0)
                assert file.read() == files[key]


NAMES = st.lists(
    st.text(st.sampled_from(list("ab/.!%2F1\\\n\u00fc ~")), min_size=1, max_size=12)
    .filter(lambda name: not name.endswith("/"))
    .filter(lambda name: not name.rpartition("/")[2].startswith("._")),
    min_size=1,
    max_size=8,
)


@settings(max_examples=60, deadline=None)
@given(NAMES, st.sampled_from(["stored.zip", "gnu.tar", "plain.tar"]))
def test_any_name_is_a_row_of_its_own(
    tmp_path_factory: pytest.TempPathFactory, names: Sequence[str], kind: str
) -> None:
    folder = tmp_path_factory.mktemp("n")
    files = {name: IMAGE + bytes([number]) * 40 for number, name in enumerate(dict.fromkeys(names))}
    (folder / kind).write_bytes(ARCHIVES[kind](files))
    found = list(find_files([str(folder)]))
    assert [one.path for one in found] == sorted({one.path for one in found})
    read = [read_all(full_path([str(folder)], 0, one.path)) for one in found if one.error is None]
    assert len(found) == len(files)
    assert len(read) + sum(one.error is not None for one in found) == len(files)
    assert len(read) == len(set(read))
    assert set(read) <= set(files.values())


@given(st.lists(st.binary(min_size=1, max_size=8).map(lambda raw: raw.replace(b"\0", b"a")), min_size=1, max_size=4))
def test_a_location_comes_apart_as_it_was_put_together(parts: list[bytes]) -> None:
    first, *members = [encode_path(part) for part in parts]
    text = MARK.join([first, *members])
    assert parts_of(decode_path(text)).members == tuple(members)
    location = decode_path(first)
    for member in members:
        location = member_location(location, member)
    assert location == decode_path(text)


def test_a_folder_called_like_a_member_is_told_apart(tmp_path: Path) -> None:
    (tmp_path / "a.zip!").mkdir()
    (tmp_path / "a.zip!" / "x").write_bytes(IMAGE + b"\0\0")
    (tmp_path / "a.zip").write_bytes(zip_bytes({"x": IMAGE}))
    found = {one.path: read_all(full_path([str(tmp_path)], 0, one.path)) for one in find_files([str(tmp_path)])}
    assert found == {"a.zip!/x": IMAGE, "a.zip%21/x": IMAGE + b"\0\0"}


def test_names_never_become_paths(tmp_path: Path) -> None:
    names = ["../../etc/passwd", "/etc/passwd", "C:\\x", "..", "a\x1b[31m", "x" * 10_000]
    told = rows(tmp_path, zip_bytes(dict.fromkeys(names, IMAGE)))
    assert set(told) == {f"a.zip!/{name}" for name in names}
    assert set(told.values()) == {None}
    assert [path.name for path in tmp_path.iterdir()] == ["a.zip"]


def test_of_one_name_the_last_member_counts(tmp_path: Path) -> None:
    target = io.BytesIO()
    with warnings.catch_warnings(action="ignore"), zipfile.ZipFile(target, "w") as archive:
        for number in range(3):
            archive.writestr("x", IMAGE + bytes([number, 0]))
    told = rows(tmp_path, target.getvalue())
    assert told == {
        "a.zip!/x": None,
        "a.zip!/x (1)": ("duplicate", "replaced"),
        "a.zip!/x (2)": ("duplicate", "replaced"),
    }
    assert read_all(f"{tmp_path}/a.zip\0x") == IMAGE + b"\2\0"


def test_links_and_devices_are_not_opened_and_a_second_name_is(tmp_path: Path) -> None:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as archive:
        one = tarfile.TarInfo("./one")
        one.size = len(IMAGE)
        archive.addfile(one, io.BytesIO(IMAGE))
        for name, kind, link in (
            ("soft", tarfile.SYMTYPE, "/etc/passwd"),
            ("hard", tarfile.LNKTYPE, "./one"),
            ("lost", tarfile.LNKTYPE, "nowhere"),
            ("pipe", tarfile.FIFOTYPE, ""),
            ("disk", tarfile.BLKTYPE, ""),
            ("folder", tarfile.DIRTYPE, ""),
        ):
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = kind, link
            archive.addfile(entry)
    special = ("not-dicom", "no-dicom")
    told = rows(tmp_path, target.getvalue(), "a.tar")
    assert told == {
        "a.tar!/disk": special,
        "a.tar!/hard": None,
        "a.tar!/lost": special,
        "a.tar!/one": None,
        "a.tar!/pipe": special,
        "a.tar!/soft": special,
    }


def central(data: bytes, number: int = 0) -> int:
    """Return where an entry of the central directory starts."""
    at = -1
    for _ in range(number + 1):
        at = data.index(b"PK\1\2", at + 1)
    return at


def patched(data: bytes, at: int, value: bytes) -> bytes:
    return data[:at] + value + data[at + len(value) :]


def test_encrypted_members_say_so(tmp_path: Path) -> None:
    data = zip_bytes({"x": IMAGE, "y": IMAGE})
    told = rows(tmp_path, patched(data, central(data) + 8, b"\1\0"))
    assert told == {"a.zip!/x": ("failed", "encrypted"), "a.zip!/y": None}
    secret = zip_bytes({"notes": TEXT})
    assert rows(tmp_path, patched(secret, central(secret) + 8, b"\1\0")) == {"a.zip!/notes": ("failed", "encrypted")}


@pytest.mark.parametrize("kind", ["stored.zip", "deflated.zip"])
def test_a_cut_zip_is_one_failure(tmp_path: Path, kind: str) -> None:
    data = ARCHIVES[kind]({"x": IMAGE, "y": IMAGE})
    for end in (len(data) - 1, len(data) - 30, len(data) // 2, 40):
        assert rows(tmp_path, data[:end]) == {"a.zip": ("failed", "bad-archive")}


def test_a_cut_tar_gives_what_is_whole(tmp_path: Path) -> None:
    data = tar_bytes({"x": IMAGE, "y": IMAGE})
    second = data.index(IMAGE, data.index(IMAGE) + 1)
    told = rows(tmp_path, data[: second + 100], "a.tar")
    assert told == {
        "a.tar": ("failed", "bad-archive"),
        "a.tar!/x": None,
        "a.tar!/y": ("failed", "bad-archive"),
    }
    packed = tar_bytes({"x": IMAGE * 300, "y": IMAGE}, "w:gz")
    (tmp_path / "a.tar").unlink()
    told = rows(tmp_path, packed[:-20], "a.tgz")
    assert told["a.tgz"] == ("failed", "bad-archive")
    assert told["a.tgz!/x"] is None


def test_a_damaged_member_spoils_no_other(tmp_path: Path) -> None:
    big = IMAGE + bytes(range(256)) * 40
    data = zip_bytes({"x": big, "y": IMAGE})
    start = 30 + 1 + 20
    told = rows(tmp_path, patched(data, start, bytes(byte ^ 0xFF for byte in data[start : start + 20])))
    assert told["a.zip!/y"] is None
    assert told["a.zip!/x"] == ("failed", "bad-archive")
    wrong_sum = patched(data, central(data) + 16, b"\1\2\3\4")
    (tmp_path / "a.zip").write_bytes(wrong_sum)
    with pytest.raises(SourceError, match="checksum"):
        read_all(f"{tmp_path}/a.zip\0x")


@pytest.mark.parametrize("said", [len(IMAGE) - 20, len(IMAGE) + 20, 0xFFFFFFFE])
def test_sizes_that_lie_are_noticed(tmp_path: Path, said: int) -> None:
    data = zip_bytes({"x": IMAGE})
    (tmp_path / "a.zip").write_bytes(patched(data, central(data) + 24, struct.pack("<I", said)))
    tracemalloc.start()
    with pytest.raises(SourceError) as raised:
        read_all(f"{tmp_path}/a.zip\0x")
    assert tracemalloc.get_traced_memory()[1] < 2**22
    tracemalloc.stop()
    assert raised.value.code == Code.BAD_ARCHIVE


def test_overlapping_members_are_a_bomb(tmp_path: Path) -> None:
    data = zip_bytes({"x": IMAGE, "y": IMAGE * 2}, zipfile.ZIP_STORED)
    huge = struct.pack("<II", len(data) - 100, len(data) - 100)
    data = patched(patched(data, central(data) + 20, huge), central(data, 1) + 20, huge)
    assert rows(tmp_path, data)["a.zip"] == ("failed", "archive-bound")


def test_bombs_cost_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "INFLATED_BYTES_FREE", 2**20)
    zeros = bytes(2**25)
    inner = zip_bytes({"0": zeros})
    for _ in range(3):
        inner = zip_bytes({f"{number}.zip": inner for number in range(4)})
    started = time.monotonic()
    told = rows(tmp_path, inner)
    assert all(outcome == ("failed", "archive-bound") for outcome in told.values())
    assert len(told) == 16
    (tmp_path / "a.zip").unlink()
    assert rows(tmp_path, tar_bytes({"0": zeros, "x": IMAGE}, "w:gz"), "a.tgz") == {
        "a.tgz": ("failed", "archive-bound")
    }
    (tmp_path / "a.tgz").unlink()
    packed = zlib.compress(zeros, 9)[2:-4]
    with pytest.raises(SourceError) as raised:
        for _ in unpack(iter([packed]), "deflate", len(packed)):
            pass
    assert raised.value.code == Code.ARCHIVE_BOUND
    assert time.monotonic() - started < 20


def test_too_many_members_are_not_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tar_list, "MEMBERS_MAX", 3)
    archive = read_archive(spooled(tar_bytes({str(n): b"x" for n in range(5)})), nested=True)
    assert archive is not None
    assert archive.names == ["0", "1", "2"]
    assert archive.problem is not None
    assert archive.problem[0] == Code.ARCHIVE_BOUND


def test_zip64_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zipfile, "ZIP64_LIMIT", 10)
    monkeypatch.setattr(zipfile, "ZIP_FILECOUNT_LIMIT", 1)
    data = zip_bytes({"x": IMAGE, "y": TEXT})
    assert b"PK\6\6" in data
    assert rows(tmp_path, data) == {"a.zip!/x": None, "a.zip!/y": ("not-dicom", "no-dicom")}


def test_what_stands_before_an_archive_is_stepped_over(tmp_path: Path) -> None:
    (tmp_path / "setup.zip").write_bytes(zip_bytes({"x": IMAGE}))
    data = b"PK\3\4" + b"program" * 100 + zip_bytes({"x": IMAGE})
    assert rows(tmp_path, data, "a.zip")["a.zip!/x"] is None


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(sorted(ARCHIVES)), st.data())
def test_mutated_archives_fail_with_a_reason(
    tmp_path_factory: pytest.TempPathFactory, kind: str, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("m")
    whole = bytearray(ARCHIVES[kind]({"x": IMAGE, "d/y": IMAGE, "t": TEXT}))
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    told = rows(folder, bytes(whole[: data.draw(st.integers(1, len(whole)))]), kind)
    assert told
    assert all(one is None or one[0] in set(Outcome) for one in told.values())


def test_archive_names() -> None:
    names = ["a.zip", "A.ZIP", "a.tar", "a.tar.gz", "a.tgz", "a.tar.bz2", "a.TXZ", "a.tar.xz"]
    assert all(map(has_archive_name, names))
    assert not any(map(has_archive_name, ["a.docx", "a.jar", "a.gz", "zip", "a.nii.gz", "IM_0001", ""]))


def test_an_archive_is_listed_once_and_again_when_it_changed(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    path.write_bytes(zip_bytes({"x": IMAGE}))
    first = archive_of(str(path))
    assert archive_of(str(path)) is first
    path.write_bytes(zip_bytes({"x": IMAGE, "y": IMAGE}))
    second = archive_of(str(path))
    assert second is not None
    assert second.names == ["x", "y"]


def test_many_tiny_members_are_listed_fast(tmp_path: Path) -> None:
    small = IMAGE[:400]
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        entry = tarfile.TarInfo("x")
        entry.size = len(small)
        for number in range(20_000):
            entry.name = f"{number % 100}/{number}"
            archive.addfile(entry, io.BytesIO(small))
    (tmp_path / "a.tar").write_bytes(target.getvalue())
    started = time.process_time()
    found = list(find_files([str(tmp_path)]))
    assert len(found) == 20_000
    assert time.process_time() - started < 5
    assert found[0] == FoundFile(0, "a.tar!/0/0", len(small), (tmp_path / "a.tar").stat().st_mtime_ns)


def test_windows_stay_inside() -> None:
    window = Window(spooled(b"0123456789"), 2, 5)
    assert window.read_at(0, 99) == b"23456"
    assert window.read_at(3, 99) == b"56"
    buffers = bytearray(3), bytearray(9)
    assert window.read_into(0, memoryview(buffers[0]), memoryview(buffers[1])) == 5
    assert b"".join(buffers) == b"23456" + bytes(7)


def test_a_spool_goes_to_disk_and_reads_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "SPOOL_MEMORY_BYTES", 100)
    data = bytes(range(256)) * 4
    packed = zlib.compress(data)[2:-4]
    with Unpacked(spooled(b"__" + packed), 2, len(packed), len(data), "deflate", zlib.crc32(data)) as reader:
        assert reader.read_at(10, 50) == data[10:60]
        assert reader.read_at(500, 999) == data[500:]
        assert reader.read_at(0, 8) == data[:8]
