"""Every file once, in one order, whatever its name."""

import os
import socket
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastdcm.errors import Code, Outcome
from fastdcm.scan.find import decode_path, encode_path, find_files, full_path, with_status

NAME_PARTS = [b"%", b"2", b"5", b"F", b"a", b"\xff", b"\xc3", b"\xa9", b"/", b"."]
NAME_BYTES = st.lists(st.sampled_from(NAME_PARTS)).map(b"".join)


@given(st.one_of(st.binary(), NAME_BYTES).map(lambda raw: raw.replace(b"\0", b"")))
def test_a_path_comes_back_from_its_text(raw: bytes) -> None:
    text = encode_path(raw)
    text.encode()  # storable
    assert os.fsencode(decode_path(text)) == raw


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (b"plain.dcm", "plain.dcm"),
        ("für.dcm".encode(), "für.dcm"),
        (b"f\xfcr", "f%FCr"),
        (b"100%", "100%"),
        (b"50%ab", "50%25ab"),
        (b"50%zz", "50%zz"),
        ("50%abü".encode(), "50%25abü"),
    ],
)
def test_only_what_is_ambiguous_is_escaped(raw: bytes, text: str) -> None:
    assert encode_path(raw) == text


def test_order_is_that_of_whole_paths(tmp_path: Path) -> None:
    for name in ("b/1", "a/2", "a.b", "a", "ab", "a-b/3", "a/c/0", "z"):
        target = tmp_path / ("x" if name == "a" else name)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(b"0")
    paths = [found.path for found in find_files([str(tmp_path)])]
    assert paths == sorted(paths)
    assert paths == ["a-b/3", "a.b", "a/2", "a/c/0", "ab", "b/1", "x", "z"]


def test_links_are_followed_and_loops_cut(tmp_path: Path) -> None:
    (tmp_path / "d" / "e").mkdir(parents=True)
    (tmp_path / "d" / "file").write_bytes(b"123")
    (tmp_path / "d" / "e" / "up").symlink_to(tmp_path / "d")
    (tmp_path / "d" / "self").symlink_to(tmp_path / "d" / "self")
    (tmp_path / "again").symlink_to(tmp_path / "d")
    (tmp_path / "link").symlink_to(tmp_path / "d" / "file")
    (tmp_path / "nowhere").symlink_to(tmp_path / "missing")
    found = {item.path: item for item in find_files([str(tmp_path)])}
    assert set(found) == {"again/file", "again/self", "link", "nowhere"}
    assert found["link"].size == 3
    assert found["again/file"].size == -1
    assert found["link"].error is None
    for broken in ("again/self", "nowhere"):
        fault = found[broken].error
        assert fault is not None
        assert (fault.outcome, fault.code) == (Outcome.FAILED, Code.UNREADABLE)


def test_special_and_appledouble_files_are_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket"))
        (tmp_path / "._IM1").write_bytes(b"\0\5\x16\x07")
        found = {item.path: item.error for item in find_files([str(tmp_path)])}
    codes = {path: (fault.outcome, fault.code) for path, fault in found.items() if fault}
    assert codes == {
        "pipe": (Outcome.NOT_DICOM, Code.NO_DICOM),
        "socket": (Outcome.NOT_DICOM, Code.NO_DICOM),
        "._IM1": (Outcome.NOT_DICOM, Code.APPLE_DOUBLE),
    }


def test_an_unreadable_folder_is_a_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("closed", "open"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "f").write_bytes(b"")
    scandir = os.scandir

    def refuse(path: str) -> object:  # root may read everything: permissions cannot be used here
        if path.endswith("closed"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    closed, other = find_files([str(tmp_path)])
    assert (closed.path, other.path) == ("closed", "open/f")
    assert closed.error is not None
    assert (closed.error.outcome, closed.error.code) == (Outcome.FAILED, Code.PERMISSION)
    assert str(tmp_path) not in closed.error.message


def test_overlapping_sources_and_single_files(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "f\udcff").write_bytes(b"77")
    sources = [str(tmp_path), str(tmp_path / "sub"), str(tmp_path / "sub" / "f\udcff"), str(tmp_path / "absent")]
    found = list(find_files(sources))
    assert [(item.source, item.path) for item in found] == [(0, "sub/f%FF"), (1, "f%FF"), (2, "f%FF"), (3, "absent")]
    for item in found[:3]:
        assert Path(full_path(sources, item.source, item.path)).read_bytes() == b"77"
        assert with_status(item, full_path(sources, item.source, item.path)).size == 2
    assert found[3].error is not None
