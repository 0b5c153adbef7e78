"""Columns are what pydicom's rows say, and every file gets one row with the right outcome."""

from __future__ import annotations

import math
import os
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.uid import ExplicitVRBigEndian

from fastdcm.errors import Code, Outcome
from fastdcm.scan import reference, walk
from fastdcm.scan.find import FoundFile, find_files
from fastdcm.scan.header import read_headers
from fastdcm.scan.index import frames_schema, index_schema
from tests import dicomgen
from tests.scan import rawdicom as raw
from tests.scan.compare import all_files, differences
from tests.scan.localfiles import local_folders
from tests.scan.rawdicom import explicit, implicit, item, us
from tests.scan.test_walk import BASES, EDITS, mutate

Row = Mapping[str, Any]
REPORT = "1.2.840.10008.5.1.4.1.1.88.11"


def read(folder: Path, **contents: bytes) -> dict[str, Row]:
    """Write files, scan them in one batch, hold the rows equal to pydicom's; return them by name."""
    for name, data in contents.items():
        (folder / name).write_bytes(data)
    sources = [str(folder)]
    files = all_files(sources)
    assert differences(sources, files) == []
    instances, _ = read_headers(sources, files)
    return {row["path"]: row for row in instances.to_pylist()}


def outcome(row: Row) -> tuple[str | None, str | None]:
    return row["outcome"], row["code"]


@pytest.mark.parametrize("compiled", [True, False])
def test_equal_to_the_reference_on_real_files(compiled: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not compiled:
        monkeypatch.setattr(walk, "_compiled", None)
    sources = local_folders()
    files = all_files(sources)
    assert len(files) > 200
    assert differences(sources, files) == []


def test_private_blocks_and_icons_across_the_ends_of_reads_are_as_pydicom_reads_them(tmp_path: Path) -> None:
    rows = read(tmp_path, **{str(number): data for number, data in enumerate(raw.straddling_all()[::2])})
    assert {(row["units"], row["outcome"], row["pixel_length"]) for row in rows.values()} == {("BQML", None, 48)}


def test_most_real_files_need_no_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    slow: list[str] = []

    def count(path: str, file: FoundFile) -> tuple[dict[str, object], list[dict[str, object]]]:
        slow.append(path)
        return {"source": file.source, "path": file.path}, []

    monkeypatch.setattr(reference, "read_instance", count)
    files = [file for file in all_files(local_folders()) if "CT" in file.path or "MR" in file.path]
    read_headers(local_folders(), files)
    assert len(files) > 30
    assert len(slow) < len(files) / 2


def test_no_nest_is_too_deep(tmp_path: Path) -> None:
    """pydicom gives up at some 250 sequences inside one another; what is behind them is read all the same."""
    deep = raw.explicit(0x00080016, "UI", raw.CT_CLASS)
    nests = {depth: raw.part10(raw.image(raw.nested(depth))) for depth in (100, 1000, 20_000)}
    nests[50_000] = raw.part10(deep + raw.nested(50_000))
    rows = read(tmp_path, **{str(depth): data for depth, data in nests.items()})
    assert [outcome(rows[name]) for name in ("100", "1000", "20000")] == [(None, None)] * 3
    assert [rows[name]["pixel_length"] for name in ("100", "1000", "20000")] == [48] * 3
    assert outcome(rows["50000"]) == (Outcome.FAILED, Code.NO_PIXELS)


@pytest.mark.parametrize("cut", [0, 8, 16000])
def test_deep_nests_of_files_for_pydicom(tmp_path: Path, cut: int) -> None:
    """A frame group makes it a file for pydicom; behind the nest, or with a nest that has no end."""
    groups = raw.explicit(0x52009229, "SQ", raw.item(b"") + raw.SEQUENCE_END, raw.UNDEFINED)
    nest = raw.nested(1000)
    pixels = b"" if cut else groups + raw.explicit(0x7FE00010, "OW", bytes(48))
    head = raw.image(nest[: len(nest) - cut])
    (row,) = read(tmp_path, a=raw.part10(head[: len(head) - 60] + pixels)).values()
    assert outcome(row) == ((Outcome.FAILED, Code.TRUNCATED) if cut else (None, None))


def test_big_endian_behind_the_syntax_of_little_endian(tmp_path: Path) -> None:
    made = dicomgen.make_series(tmp_path / "made", n=1, transfer_syntax=ExplicitVRBigEndian)
    data = made.paths[0].read_bytes()
    declared = b"1.2.840.10008.1.2.2\0"
    assert data.count(declared) == 1
    (row,) = read(tmp_path / "made", **{"series-000.dcm": data.replace(declared, b"1.2.840.10008.1.2.1\0")}).values()
    assert (row["transfer_syntax"], row["repaired"]) == (ExplicitVRBigEndian, "repaired-syntax")
    assert (row["rows"], row["position_z"]) == (22, -431.0)


def test_a_row_of_a_plain_image(tmp_path: Path) -> None:
    (row,) = read(tmp_path, ct=raw.part10(raw.image())).values()
    assert outcome(row) == (None, None)
    assert row["transfer_syntax"] == raw.EXPLICIT
    assert (row["spacing_y"], row["spacing_x"], row["spacing_kind"]) == (0.5, 0.75, "patient")
    assert (row["position_x"], row["position_y"], row["position_z"]) == (-1.5, 2.25, 100.0)
    assert (row["rows"], row["columns"], row["bits_stored"], row["n_frames"]) == (4, 6, 12, 1)
    assert (row["instance_number"], row["image_type"]) == (17, "ORIGINAL\\PRIMARY\\AXIAL")
    assert (row["pixel_keyword"], row["pixel_length"]) == ("PixelData", 48)
    assert row["slope"] is None
    assert row["table_offset"] is None


@pytest.mark.parametrize(
    ("text", "slope"), [("2.5", 2.5), ("1,5", 1.5), ("nan", math.nan), ("", None), ("1.00000000000000000001", 1.0)]
)
def test_slopes_as_hospitals_write_them(tmp_path: Path, text: str, slope: float | None) -> None:
    (row,) = read(tmp_path, ct=raw.part10(raw.image(explicit(0x00281053, "DS", text)))).values()
    assert row["slope"] == slope or (slope is not None and math.isnan(slope) and math.isnan(row["slope"]))


@pytest.mark.parametrize(
    "position", ["1,5\\2\\3", "1\\2", "\\\\", "a\\b\\c", "1\\2\\nan", "1.12345678901234567\\2\0\\ 3 \0", "1e400\\1\\1"]
)
def test_positions_as_hospitals_write_them(tmp_path: Path, position: str) -> None:
    """Held equal to the tolerant reader by ``read``; unreadable components are null, never NaN."""
    (row,) = read(tmp_path, ct=raw.part10(raw.image(explicit(0x00200032, "DS", position)))).values()
    for name in ("position_x", "position_y", "position_z"):
        assert row[name] is None or math.isfinite(row[name])


def test_a_binary_number_that_looks_like_text(tmp_path: Path) -> None:
    """12594 rows are the bytes of the text "21"."""
    data_set = implicit(0x00080016, raw.CT_CLASS) + implicit(0x00280010, us(0x3132)) + implicit(0x00280011, us(2))
    (row,) = read(tmp_path, ct=raw.part10(data_set + implicit(0x7FE00010, bytes(8)), raw.IMPLICIT)).values()
    assert row["rows"] == 0x3132


@pytest.mark.parametrize(("sign", "padding"), [(0, 63536), (1, -2000)])
def test_padding_has_the_sign_of_the_pixels(tmp_path: Path, sign: int, padding: int) -> None:
    more = explicit(0x00280103, "US", us(sign)) + explicit(0x00280120, "US", us(63536))
    (row,) = read(tmp_path, ct=raw.part10(raw.image(more))).values()
    assert row["padding"] == padding


def test_text_in_several_character_sets_in_one_batch(tmp_path: Path) -> None:
    def described(charset: str, text: bytes) -> bytes:
        before = explicit(0x00080005, "CS", charset) + explicit(0x0008103E, "LO", text)
        return raw.part10(before + raw.image())

    rows = read(
        tmp_path,
        latin=described("ISO_IR 100", "Schädel".encode("latin-1")),
        utf8=described("ISO_IR 192", "Schädel".encode()),
        wrong=described("ISO_IR 192", "Schädel".encode("latin-1")),
        ascii=described("", b"Head  "),
    )
    assert rows["latin"]["description"] == rows["utf8"]["description"] == "Schädel"
    assert rows["wrong"]["description"] == "Sch\ufffddel"
    assert rows["ascii"]["description"] == "Head"


def test_diffusion_of_a_private_block_anywhere(tmp_path: Path) -> None:
    """The creator's block counts, not the element's number alone."""

    def siemens(block: int, creator: str) -> bytes:
        base = 0x00190000 | block << 8
        private = explicit(0x00190000 | block, "LO", creator) + explicit(base | 0x0C, "IS", "1000")
        private += explicit(base | 0x0E, "FD", struct.pack("<3d", 0.6, 0.8, 0.0))
        return raw.part10(raw.image().replace(b"CS\2\0CT", b"CS\2\0MR") + b"").replace(
            explicit(0x0020000D, "UI", "1.2.3"), private + explicit(0x0020000D, "UI", "1.2.3")
        )

    rows = read(
        tmp_path,
        ten=siemens(0x10, "SIEMENS MR HEADER"),
        twelve=siemens(0x12, "SIEMENS MR HEADER"),
        other=siemens(0x10, "SOMEBODY ELSE"),
    )
    for name in ("ten", "twelve"):
        assert [rows[name][key] for key in ("b_value", "b_x", "b_y", "b_z")] == [1000.0, 0.6, 0.8, 0.0]
    assert rows["other"]["b_value"] is None


# ---------------------------------------------------------------------------- outcomes


def _without(data_set: bytes, tag: int) -> bytes:
    """Drop one element."""
    for element in walk.walk_elements(data_set, True):
        if element.tag == tag:
            head = 12 if element.vr in raw.LONG else 8
            return data_set[: element.offset - head] + data_set[element.offset + element.length :]
    raise KeyError(tag)


def test_outcomes_of_one_batch(tmp_path: Path) -> None:
    plain = raw.image()
    pixels = len(explicit(0x7FE00010, "OW", bytes(48)))
    slide = "1.2.840.10008.5.1.4.1.1.77.1.6"
    fragments = explicit(0x7FE00010, "OB", item(b"") + item(b"\0" * 40) + raw.SEQUENCE_END, raw.UNDEFINED)
    encapsulated = plain[:-pixels] + fragments
    cases = {
        "good": (raw.part10(plain), (None, None)),
        "empty": (b"", (Outcome.NOT_DICOM, Code.EMPTY)),
        "jpeg": (b"\xff\xd8\xff\xe0\0\x10JFIF" + bytes(300), (Outcome.NOT_DICOM, Code.NO_DICOM)),
        "._good": (raw.part10(plain), (Outcome.NOT_DICOM, Code.APPLE_DOUBLE)),
        "report": (
            raw.part10(explicit(0x00080016, "UI", REPORT) + explicit(0x00080060, "CS", "SR"), sop_class=REPORT),
            (Outcome.NOT_IMAGE, Code.SOP_CLASS),
        ),
        "short": (raw.part10(raw.image(pixels=bytes(40))), (Outcome.FAILED, Code.TRUNCATED)),
        "cut in its pixels": (raw.part10(plain)[:-9], (Outcome.FAILED, Code.TRUNCATED)),
        "cut in its header": (raw.part10(plain)[:-91], (Outcome.FAILED, Code.TRUNCATED)),
        "long": (raw.part10(raw.image(pixels=bytes(60))), (None, None)),
        "no rows": (raw.part10(_without(plain, 0x00280010)), (Outcome.FAILED, Code.BAD_HEADER)),
        "zero rows": (raw.part10(raw.image(rows=0)), (Outcome.FAILED, Code.BAD_HEADER)),
        "no pixels": (raw.part10(plain[:-pixels]), (Outcome.FAILED, Code.NO_PIXELS)),
        "video": (raw.part10(encapsulated, "1.2.840.10008.1.2.4.102"), (Outcome.NOT_IMAGE, Code.VIDEO)),
        "unknown syntax": (raw.part10(encapsulated, "1.2.3.4"), (Outcome.FAILED, Code.UNSUPPORTED_SYNTAX)),
        "jpeg2000": (raw.part10(encapsulated, "1.2.840.10008.1.2.4.90"), (None, None)),
        "slide": (raw.part10(raw.image(sop_class=slide)), (Outcome.FAILED, Code.UNSUPPORTED_WSI)),
        "label": (
            raw.part10(raw.image(sop_class=slide).replace(b"PRIMARY\\AXIAL", b"PRIMARY\\LABEL")),
            (Outcome.FILTERED, Code.WSI_LABEL),
        ),
        "directory": (
            raw.part10(explicit(0x00041130, "CS", "SET"), sop_class="1.2.840.10008.1.3.10"),
            (Outcome.NOT_IMAGE, Code.DICOMDIR),
        ),
        "ge": (raw.part10(implicit(0x00080016, raw.CT_CLASS), "1.2.840.113619.5.2"), None),
    }
    rows = read(tmp_path, **{name: data for name, (data, _) in cases.items()})
    assert len(rows) == len(cases)
    for name, (_, expected) in cases.items():
        if expected is not None:
            assert outcome(rows[name]) == expected, name
        assert rows[name]["message"] is None or str(tmp_path) not in rows[name]["message"]
    assert "48 bytes needed, 40 there" in rows["short"]["message"]
    assert "1.2.3.4" in rows["unknown syntax"]["message"]


def test_a_file_that_went_away_or_may_not_be_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    refused = FoundFile(0, "refused", 7, 1)
    files = [FoundFile(0, "gone", 7, 1), *find_files([str(tmp_path)]), refused]
    (tmp_path / "refused").symlink_to("refused")
    instances, frames = read_headers([str(tmp_path)], files)
    rows = instances.to_pylist()
    assert [outcome(row) for row in rows] == [
        (Outcome.FAILED, Code.UNREADABLE),
        (Outcome.NOT_DICOM, Code.NO_DICOM),
        (Outcome.FAILED, Code.UNREADABLE),
    ]
    assert "No such file" in rows[0]["message"]
    assert rows[0]["size"] == 7
    assert frames.num_rows == 0


def test_rows_keep_the_order_of_the_files(tmp_path: Path) -> None:
    """Rows of both readers, and of neither, are where their files are."""
    enhanced = raw.part10(raw.image(explicit(0x00280008, "IS", "2"), pixels=bytes(96)))
    contents = {"a": raw.part10(raw.image()), "b": enhanced, "c": b"no", "d": enhanced, "e": raw.part10(raw.image())}
    rows = read(tmp_path, **contents)
    assert list(rows) == list("abcde")
    assert [row["n_frames"] for row in rows.values()] == [1, 2, None, 2, 1]
    _, frames = read_headers([str(tmp_path)], all_files([str(tmp_path)]))
    assert list(zip(frames["instance"].to_pylist(), frames["frame"].to_pylist(), strict=True)) == [
        (1, 0),
        (1, 1),
        (3, 0),
        (3, 1),
    ]


def test_an_empty_batch_has_the_schema() -> None:
    instances, frames = read_headers(["/nowhere"], [])
    assert (instances.schema, frames.schema) == (index_schema(), frames_schema())
    assert instances.num_rows == frames.num_rows == 0


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(0, len(BASES) - 1), EDITS, st.floats(0, 1)), min_size=1, max_size=4))
def test_broken_files_are_rows(tmp_path: Path, made: Sequence[tuple[int, Any, float]]) -> None:
    for number, (base, edits, keep) in enumerate(made):
        (tmp_path / str(number)).write_bytes(mutate(BASES[base], edits, max(keep, 0.3)))
    files = [FoundFile(0, str(number), 0, 0) for number in range(len(made))]
    instances, _ = read_headers([str(tmp_path)], files)
    assert instances.schema == index_schema()
    assert instances["path"].to_pylist() == [file.path for file in files]
    instances.validate(full=True)
    for row in instances.to_pylist():
        assert row["outcome"] is not None or (row["rows"] > 0 and row["pixel_keyword"] is not None)
        assert (row["outcome"] is None) == (row["code"] is None) == (row["message"] is None)


def test_batches_do_not_change_rows() -> None:
    sources = local_folders()
    files = all_files(sources)
    whole = read_headers(sources, files)[0].to_pylist()
    parts = [row for start in range(0, len(files), 37) for row in _rows(sources, files[start : start + 37])]
    assert np.all([str(one) == str(other) for one, other in zip(whole, parts, strict=True)])


def _rows(sources: Sequence[str], files: Sequence[FoundFile]) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = read_headers(sources, files)[0].to_pylist()
    return rows
