"""No header takes more time or memory than it brought, and both readers say the same of it."""

from __future__ import annotations

import os
import struct
import time
import zlib
from collections.abc import Iterable
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from fastdcm.errors import Code, SourceError
from fastdcm.scan import bounded, elements, walk
from fastdcm.scan.bounded import BoundedFile, inflate
from fastdcm.scan.header import read_headers
from fastdcm.scan.reference import read_instance
from tests.scan import rawdicom as raw
from tests.scan.compare import all_files, differences
from tests.scan.rawdicom import UNDEFINED, explicit, item

UNKNOWN_VR = b"\x08\x00\x07\x00ZZ\x00\x00"
EMPTY = struct.pack("<HHI", 1, 1, 0)


def scanned(folder: Path, data: bytes) -> dict[str, Any]:
    """Scan one file, hold both readers equal and the time small."""
    (folder / "a.dcm").write_bytes(data)
    begin = time.perf_counter()
    sources = [str(folder)]
    files = all_files(sources)
    assert differences(sources, files) == []
    assert time.perf_counter() - begin < 5
    (row,) = read_headers(sources, files)[0].to_pylist()
    return dict(row)


def outcome(row: dict[str, Any]) -> tuple[str, str]:
    return row["outcome"], row["code"]


@pytest.mark.parametrize("compiled", [True, False])
def test_zeros_behind_an_unknown_vr_cost_nothing(
    tmp_path: Path, compiled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not compiled:
        monkeypatch.setattr(walk, "_compiled", None)
    assert outcome(scanned(tmp_path, raw.part10(UNKNOWN_VR + bytes(30 * 2**20)))) == ("failed", "no-pixels")


def test_empty_items_without_end_are_no_header(tmp_path: Path) -> None:
    row = scanned(tmp_path, raw.part10(explicit(0x52009229, "SQ", b"", UNDEFINED) + EMPTY * 2**20))
    assert outcome(row) == ("failed", "bad-header")


def test_empty_elements_without_end_are_no_header(tmp_path: Path) -> None:
    (tmp_path / "a.dcm").write_bytes(raw.part10(EMPTY * 2**20))
    (file,) = all_files([str(tmp_path)])
    begin = time.perf_counter()
    for row in (read_instance(str(tmp_path / "a.dcm"), file)[0], *read_headers([str(tmp_path)], [file])[0].to_pylist()):
        assert outcome(row) == ("failed", "bad-header")
    assert time.perf_counter() - begin < 2


def test_a_sequence_of_empty_items_is_no_functional_group(tmp_path: Path) -> None:
    groups = explicit(0x52009230, "SQ", item(b"") * 2**20)
    data = raw.image(explicit(0x00280008, "IS", "1") + groups, sop_class="1.2.840.10008.5.1.4.1.1.2.1")
    begin = time.perf_counter()
    scanned(tmp_path, raw.part10(data))  # one frame reads one item
    assert time.perf_counter() - begin < 1


@pytest.mark.parametrize("left", range(1, 12))
@pytest.mark.parametrize("vr", ["UN", "LO"])
def test_a_file_that_ends_inside_a_head_is_truncated(tmp_path: Path, left: int, vr: str) -> None:
    whole = raw.image()
    start = whole[: whole.index(b"\xe0\x7f\x10\x00")]
    head = explicit(0x00290010, vr, "VENDOR")[:left]
    row = scanned(tmp_path, raw.part10(start + head))
    assert outcome(row) == ("failed", "truncated" if vr == "UN" or left < 8 else row["code"])


@pytest.mark.parametrize("left", range(1, 8))
def test_zeros_inside_a_head_are_padding(tmp_path: Path, left: int) -> None:
    whole = raw.image()
    start = whole[: whole.index(b"\xe0\x7f\x10\x00")]
    assert outcome(scanned(tmp_path, raw.part10(start + bytes(left)))) == ("failed", "no-pixels")


def test_a_sequence_cut_short_is_truncated_for_pydicom_too(tmp_path: Path) -> None:
    groups = explicit(0x52009229, "SQ", item(explicit(0x00080060, "CS", "CT"), undefined=True), UNDEFINED)
    start = raw.image()
    row = scanned(tmp_path, raw.part10(start[: start.index(b"\xe0\x7f\x10\x00")] + groups))
    assert outcome(row) == ("failed", "truncated")


@pytest.mark.parametrize("block", [0x10, 0x17, 0x18, 0xFF])
def test_both_readers_look_into_the_same_private_blocks(tmp_path: Path, block: int) -> None:
    private = explicit(0x00190000 | block, "LO", "SIEMENS MR HEADER")
    private += explicit(0x00190000 | block << 8 | 0x0C, "IS", "1000")
    data = raw.image().replace(b"CS\x02\x00CT", b"CS\x02\x00MR")
    at = data.index(b"\x20\x00\x0d\x00")
    row = scanned(tmp_path, raw.part10(data[:at] + private + data[at:]))
    assert row["b_value"] == (1000.0 if block < 0x18 else None)


def test_more_frames_than_bytes_allow_are_no_image(tmp_path: Path) -> None:
    frames = explicit(0x00280008, "IS", "200000")
    data = raw.image(frames, rows=1, columns=1, pixels=bytes(400_000))
    row = scanned(tmp_path, raw.part10(data))
    assert outcome(row) == ("failed", "bad-size")
    assert "200000 frames" in row["message"]


@pytest.mark.parametrize(("rows", "code"), [(4000, None), (65535, "bad-size")])
@pytest.mark.parametrize("frames", [1, 3])
def test_a_thousand_bytes_hold_no_frame_of_gigabytes(tmp_path: Path, rows: int, code: str | None, frames: int) -> None:
    data_set = raw.image(explicit(0x00280008, "IS", str(frames)), rows=rows, columns=rows, pixels=b"")
    value = item(b"") + item(b"\xff\x4f\xff\x51" + bytes(996)) * frames
    data_set = data_set[:-12] + explicit(0x7FE00010, "OB", value, UNDEFINED)
    row = scanned(tmp_path, raw.part10(data_set, "1.2.840.10008.1.2.4.90"))
    assert row["code"] == code


# ---------------------------------------------------------------------------- the bounds by themselves


def test_a_bounded_file_gives_what_is_there() -> None:
    file = BoundedFile(BytesIO(b"0123456789"), 6)
    assert (file.read(2), file.read(), file.read(5)) == (b"01", b"2345", b"")
    assert not file.cut


def test_the_second_half_of_a_head_must_be_there() -> None:
    file = BoundedFile(BytesIO(b"\x08\0\x18\0UN\0\0012"), 11)
    assert len(file.read(8)) == 8
    with pytest.raises(EOFError):
        file.read(4)
    assert file.cut


def test_heads_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounded, "HEADS_MAX", 5)
    file = BoundedFile(BytesIO(b"12345678" * 6), 48)
    for _ in range(5):
        file.read(8)
    with pytest.raises(SourceError, match="no list"):
        file.read(8)


def test_values_between_empty_heads_start_the_count_again() -> None:
    heads = EMPTY * 999 + explicit(0x00080060, "CS", "CT")[:8]
    file = BoundedFile(BytesIO(heads * 3), 3 * len(heads))
    assert sum(len(file.read(8)) for _ in range(3000)) == 3 * len(heads)


def test_items_are_read_as_many_as_asked_for() -> None:
    value = item(explicit(0x00080060, "CS", "CT")) * 5
    assert [len(elements.read_items(value, False, True, most)) for most in (0, 1, 5, 9, None)] == [0, 1, 5, 5, 5]
    with pytest.raises(SourceError, match="damaged"):
        elements.read_items(value[:-1] + b"xyz", False, True)


def deflated(parts: Iterable[bytes]) -> bytes:
    squeezer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return b"".join(map(squeezer.compress, parts)) + squeezer.flush()


def test_inflating_gives_all_or_says_why() -> None:
    content = os.urandom(3 * 2**20) + bytes(2**20)
    squeezed = deflated([content])
    assert b"".join(inflate(BytesIO(squeezed).read, len(squeezed))) == content
    for damaged, code in ((squeezed[:-9], Code.TRUNCATED), (b"\xff" * 99, Code.DECODE)):
        with pytest.raises(SourceError) as caught:
            list(inflate(BytesIO(damaged).read, len(damaged)))
        assert caught.value.code == code


def test_a_bomb_is_known_by_its_ratio() -> None:
    squeezed = deflated(bytes(2**22) for _ in range(80))
    assert len(squeezed) < 2**19
    with pytest.raises(SourceError) as caught:
        sum(map(len, inflate(BytesIO(squeezed).read, len(squeezed))))
    assert caught.value.code == Code.UNSUPPORTED_PIXELS
