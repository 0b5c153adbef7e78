"""The compiled walk equals the Python walk, the Python walk equals pydicom, and neither believes what a file says."""

from __future__ import annotations

import errno
import importlib
import itertools
import math
import os
import re
import struct
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pydicom
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from fastdcm.errors import SourceError
from fastdcm.model import COLUMN
from fastdcm.scan import rules, walk
from fastdcm.scan.columns import WANTED
from fastdcm.scan.find import find_files, full_path
from fastdcm.scan.header import STOPS
from fastdcm.scan.location import member_location
from fastdcm.scan.reading import LocalFile
from fastdcm.scan.walk import Fact, Status, Syntax, Values, Walked
from tests.scan import rawdicom as raw
from tests.scan.localfiles import local_folders
from tests.scan.rawdicom import explicit, implicit, item

Found = Mapping[int, bytes]


def local_paths() -> list[bytes]:
    sources = local_folders()
    return [os.fsencode(full_path(sources, file.source, file.path)) for file in find_files(sources)]


def values_of(walked: Walked, file: int) -> Found:
    """Return the wanted values of one file by tag."""
    codes = walked.codes[:, file]
    return {tag: walked.values[n][codes[n]] for n, tag in enumerate(WANTED) if codes[n] >= 0}


def walk_both(paths: Sequence[bytes]) -> Walked:
    """Walk compiled, by what Python fetches, and in Python; hold them equal."""
    plain = walk.walk_files_python(paths, WANTED, STOPS)
    for walk_compiled in (walk.walk_fetched, walk.walk_files):
        compiled = walk_compiled(paths, WANTED, STOPS)
        np.testing.assert_array_equal(compiled.facts, plain.facts)
        for file in range(len(paths)):
            assert values_of(compiled, file) == values_of(plain, file)
    return compiled


def walk_data(folder: Path, data: bytes) -> tuple[list[int], Found]:
    path = folder / "file"
    path.write_bytes(data)
    walked = walk_both([os.fsencode(path)])
    return walked.facts[0].tolist(), values_of(walked, 0)


def elements_compiled(data: bytes, is_explicit: bool) -> tuple[int, list[walk.Element]]:
    compiled: Any = importlib.import_module("fastdcm.scan._walk")
    status, elements = compiled.walk_elements(data, is_explicit)
    return status, [walk.Element(*element) for element in elements]


def test_it_is_compiled() -> None:
    assert walk.COMPILED, "build it: python setup.py build_ext --inplace"


def test_both_walks_are_equal_on_real_files() -> None:
    paths = local_paths()
    walked = walk_both(paths)
    assert (walked.facts[:, Fact.STATUS] == Status.OK).sum() > 150
    for path, facts in zip(paths, walked.facts.tolist(), strict=True):
        if facts[Fact.SYNTAX] != Syntax.UNKNOWN:
            data, is_explicit = Path(os.fsdecode(path)).read_bytes()[facts[Fact.START] :], facts[Fact.SYNTAX] == 2
            assert elements_compiled(data, is_explicit) == walk.walk_elements_python(data, is_explicit)


@pytest.mark.parametrize(
    "name", ["CT_small.dcm", "MR_small_implicit.dcm", "rtplan.dcm", "reportsi.dcm", "JPEG2000.dcm"]
)
def test_elements_are_where_pydicom_finds_them(name: str) -> None:
    path = Path(local_folders()[0]) / name
    walked = walk_both([os.fsencode(path)])
    start, is_explicit = walked.facts[0, Fact.START], walked.facts[0, Fact.SYNTAX] == Syntax.EXPLICIT
    found = walk.walk_elements(path.read_bytes()[start:], bool(is_explicit))
    with path.open("rb") as file:
        data_set = pydicom.dcmread(file, stop_before_pixels=True)
        expected: list[Any] = [data_set.get_item(tag) for tag in sorted(data_set.keys())]
    assert [element.tag for element in found] == [int(element.tag) for element in expected]
    for element, other in zip(found, expected, strict=True):
        if isinstance(other, pydicom.dataelem.RawDataElement):
            assert (element.offset + start, element.length) == (other.value_tell, other.length)
            assert element.vr == (other.VR or "" if is_explicit else "")


def test_a_plain_image(tmp_path: Path) -> None:
    data = raw.part10(raw.image())
    facts, values = walk_data(tmp_path, data)
    assert facts[Fact.STATUS] == Status.OK
    assert data[facts[Fact.PIXEL_OFFSET] :] == bytes(48)
    assert facts[Fact.PIXEL_LENGTH] == 48
    assert (facts[Fact.SIZE], facts[Fact.REPAIRED]) == (len(data), 0)
    assert values[0x00280030] == b"DS0.5\\0.75"
    assert values[0x00280010] == b"US\4\0"


def test_pixels_of_an_icon_are_not_the_images(tmp_path: Path) -> None:
    data = raw.part10(raw.image(raw.icon(), pixels=b"real" * 12))
    facts, values = walk_data(tmp_path, data)
    assert data[facts[Fact.PIXEL_OFFSET] :][:4] == b"real"
    assert values[0x00280010] == b"US\4\0"


def test_encapsulated_pixels_and_their_table(tmp_path: Path) -> None:
    table = struct.pack("<2Q", 0, 100)
    pixels = explicit(0x7FE00001, "OV", table) + explicit(0x7FE00010, "OB", item(b""), raw.UNDEFINED)
    data_set = raw.image()[: -len(explicit(0x7FE00010, "OW", bytes(48)))] + pixels
    data = raw.part10(data_set, "1.2.840.10008.1.2.4.90")
    facts, _ = walk_data(tmp_path, data)
    assert (facts[Fact.STATUS], facts[Fact.PIXEL_LENGTH]) == (Status.OK, -1)
    assert data[facts[Fact.TABLE_OFFSET] :][: facts[Fact.TABLE_LENGTH]] == table
    assert data[facts[Fact.PIXEL_OFFSET] :] == item(b"")


@pytest.mark.parametrize("tag", [0x7FE00008, 0x7FE00009])
def test_float_pixels(tmp_path: Path, tag: int) -> None:
    data_set = raw.image()[: -len(explicit(0x7FE00010, "OW", bytes(48)))] + explicit(tag, "OD", bytes(192))
    facts, _ = walk_data(tmp_path, raw.part10(data_set))
    assert (facts[Fact.STATUS], facts[Fact.PIXEL_TAG], facts[Fact.PIXEL_LENGTH]) == (Status.OK, tag, 192)


def test_unknown_of_undefined_length_is_implicit_inside(tmp_path: Path) -> None:
    content = implicit(0x00091001, "text") + implicit(0x7FE00010, "no pixels of the image")
    unknown = explicit(0x00290010, "UN", item(content, undefined=True) + raw.SEQUENCE_END, raw.UNDEFINED)
    data = raw.part10(raw.image(unknown, pixels=b"real" * 12))
    facts, _ = walk_data(tmp_path, data)
    assert facts[Fact.STATUS] == Status.OK
    assert data[facts[Fact.PIXEL_OFFSET] :][:4] == b"real"


@pytest.mark.parametrize("length", [*range(7700, 8200, 7), 60_000, 66_000, 1_000_000])
def test_long_headers(tmp_path: Path, length: int) -> None:
    """Values before, across and behind the end of the first read."""
    padding = explicit(0x00091001, "OB", bytes(length - length % 2))
    data = raw.part10(padding + raw.image())
    facts, values = walk_data(tmp_path, data)
    assert facts[Fact.STATUS] == Status.OK
    assert data[facts[Fact.PIXEL_OFFSET] :] == bytes(48)
    assert values[0x00200032].strip() == b"DS-1.5\\2.25\\1e2"


def test_no_end_of_a_read_changes_anything(tmp_path: Path) -> None:
    """Private blocks, values, icons and the pixels' head across the ends of the reads, byte by byte."""
    files = raw.straddling_all()
    paths = [tmp_path / str(number) for number in range(len(files))]
    for path, data in zip(paths, files, strict=True):
        path.write_bytes(data)
    walked = walk_both([os.fsencode(path) for path in paths])
    assert (walked.facts[:, Fact.STATUS] == Status.OK).all()
    expected = values_of(walked, 0)
    assert expected[0x00541001] == b"CSBQML"
    for number, data in enumerate(files):
        assert walked.facts[number, Fact.PIXEL_OFFSET] == len(data) - 48
        assert values_of(walked, number) == expected


@pytest.mark.parametrize(
    ("declared", "is_explicit", "repaired"),
    [
        (raw.EXPLICIT, True, 0),
        (raw.EXPLICIT, False, 1),
        (raw.IMPLICIT, True, 1),
        (raw.IMPLICIT, False, 0),
        (None, True, 1),
        (None, False, 1),
    ],
)
def test_a_transfer_syntax_may_lie(tmp_path: Path, declared: str | None, is_explicit: bool, repaired: int) -> None:
    explicit_set = raw.image()
    implicit_set = b"".join(
        implicit(element.tag, explicit_set[element.offset :][: element.length])
        for element in walk.walk_elements(explicit_set, True)
    )
    implicit_set += implicit(0x7FE00010, bytes(48))
    facts, values = walk_data(tmp_path, raw.part10(explicit_set if is_explicit else implicit_set, declared))
    assert facts[Fact.STATUS] == Status.OK
    assert facts[Fact.SYNTAX] == (Syntax.EXPLICIT if is_explicit else Syntax.IMPLICIT)
    assert facts[Fact.REPAIRED] == repaired
    assert values[0x00280030][2:] == b"0.5\\0.75"
    assert facts[Fact.PIXEL_LENGTH] == 48


@pytest.mark.parametrize("with_meta", [False, True])
def test_without_preamble(tmp_path: Path, with_meta: bool) -> None:
    data = (raw.meta(raw.EXPLICIT) if with_meta else b"") + raw.image()
    facts, _ = walk_data(tmp_path, data)
    assert (facts[Fact.STATUS], facts[Fact.REPAIRED]) == (Status.OK, int(not with_meta))


NOT_DICOM = {
    "jpeg": b"\xff\xd8\xff\xe0\0\x10JFIF" + bytes(300),
    "exe": b"MZ\x90\0" + bytes(400),
    "text": b"\x08\0" + b"a list of files that is no DICOM at all" * 20,
    "zeros": bytes(4000),
    "random": bytes(np.random.default_rng(3).integers(0, 256, 5000, np.uint8)),
    "random, group 8": b"\x08\0\5\0" + bytes(np.random.default_rng(4).integers(0, 256, 5000, np.uint8)),
    "short": b"\x08\0",
}


@pytest.mark.parametrize("name", NOT_DICOM)
def test_what_is_not_dicom(tmp_path: Path, name: str) -> None:
    facts, values = walk_data(tmp_path, NOT_DICOM[name])
    assert facts[Fact.STATUS] == Status.NOT_DICOM
    assert not values


def test_what_cannot_be_walked(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "empty").touch()
    names = ("pipe", "empty", "missing", ".")
    walked = walk_both([os.fsencode(tmp_path / name) for name in names])
    assert walked.facts[:, Fact.STATUS].tolist() == [
        Status.NOT_DICOM,
        Status.EMPTY,
        Status.UNREADABLE,
        Status.NOT_DICOM,
    ]
    assert walked.facts[2, Fact.ERRNO] == 2


def test_lengths_are_not_believed(tmp_path: Path) -> None:
    data = raw.part10(explicit(0x00080016, "UI", raw.CT_CLASS) + explicit(0x00091001, "OB", b"ab", 3_000_000_000))
    facts, _ = walk_data(tmp_path, data)
    assert facts[Fact.STATUS] == Status.CUT
    assert (facts[Fact.NEEDED], facts[Fact.THERE], facts[Fact.CUT_TAG]) == (3_000_000_000, 2, 0x00091001)


def test_no_nesting_is_too_deep_but_elements_are_bounded(tmp_path: Path) -> None:
    assert walk_data(tmp_path, raw.part10(raw.image(raw.nested(0))))[0][Fact.STATUS] == Status.OK
    deep = explicit(0x00080016, "UI", raw.CT_CLASS)
    assert walk_data(tmp_path, raw.part10(deep + raw.nested(128)))[0][Fact.STATUS] == Status.OK
    assert walk_data(tmp_path, raw.part10(deep + raw.nested(100_000)))[0][Fact.STATUS] == Status.OK
    assert walk_data(tmp_path, raw.part10(deep + raw.nested(100_000)[:-8]))[0][Fact.STATUS] == Status.CUT
    assert walk_data(tmp_path, raw.part10(deep + raw.nested(600_000)))[0][Fact.STATUS] == Status.BAD
    behind, _ = walk_data(tmp_path, raw.part10(raw.image(raw.nested(500_000))))
    assert (behind[Fact.STATUS], behind[Fact.PIXEL_TAG]) == (Status.OK, 0x7FE00010)


def test_a_big_endian_data_set_is_seen_whatever_was_declared(tmp_path: Path) -> None:
    data_set = struct.pack(">HH2sH", 0x0008, 0x0016, b"UI", 26) + b"1.2.840.10008.5.1.4.1.1.2\0"
    assert walk_data(tmp_path, raw.part10(data_set, raw.EXPLICIT))[0][Fact.STATUS] == Status.REFERENCE


@pytest.mark.parametrize(("inside", "status"), [(b"", Status.OK), (raw.nested(1)[:20], Status.BAD)])
def test_three_gigabytes_of_zeros_are_left_at_once(tmp_path: Path, inside: bytes, status: Status) -> None:
    path = tmp_path / "sparse"
    path.write_bytes(raw.part10(explicit(0x00080016, "UI", raw.CT_CLASS) + inside))
    os.truncate(path, 3_000_000_000)
    facts = walk_both([os.fsencode(path)]).facts[0]
    assert (facts[Fact.STATUS], facts[Fact.PIXEL_TAG]) == (status, 0)


def test_elements_out_of_order_are_borne(tmp_path: Path) -> None:
    late = explicit(0x00080060, "CS", "MR") + explicit(0x00180050, "DS", "2.5")
    facts, values = walk_data(tmp_path, raw.part10(raw.image(late)))
    assert facts[Fact.STATUS] == Status.OK
    assert values[0x00080060] == b"CSMR"  # the last one counts
    assert values[0x00180050] == b"DS2.5 "


# ---------------------------------------------------------------------------- mutations


def _bases() -> list[bytes]:
    explicit_set = raw.image(raw.icon() + raw.nested(3))
    deep = explicit(0x00081140, "SQ", item(explicit(0x00081150, "UI", "1.2")) + item(b"", True))
    small = [Path(local_folders()[0]) / name for name in ("CT_small.dcm", "MR_small_implicit.dcm", "JPEG2000.dcm")]
    return [
        raw.part10(explicit_set),
        raw.part10(explicit_set, None),
        explicit_set,
        raw.part10(deep + explicit_set),
        raw.part10(
            implicit(0x00081140, item(implicit(0x00081150, "1.2"), True) + raw.SEQUENCE_END, raw.UNDEFINED)
            + implicit(0x00080016, raw.CT_CLASS)
            + implicit(0x7FE00010, bytes(8)),
            raw.IMPLICIT,
        ),
        *(path.read_bytes()[:9000] for path in small),
    ]


BASES = _bases()
LENGTHS = st.sampled_from([0, 1, 2, 8, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFE, raw.UNDEFINED]).map(
    lambda n: struct.pack("<I", n)
)
MARKS = st.sampled_from([raw.SEQUENCE_END, raw.ITEM_END, item(b""), b"\xe0\x7f\x10\0", b"SQ\0\0", b"UN\0\0", bytes(8)])
EDITS = st.lists(st.tuples(st.floats(0, 1), st.one_of(st.binary(min_size=1, max_size=2), LENGTHS, MARKS)), max_size=6)


def mutate(data: bytes, edits: Sequence[tuple[float, bytes]], keep: float) -> bytes:
    """Overwrite pieces of the bytes, then cut them."""
    changed = bytearray(data)
    for where, piece in edits:
        at = int(where * len(changed))
        changed[at : at + len(piece)] = piece
    return bytes(changed[: int(keep * len(changed)) + 1])


@settings(max_examples=600, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, len(BASES) - 1), EDITS, st.one_of(st.just(1.0), st.floats(0, 1)))
def test_both_walks_are_equal_on_broken_files(
    tmp_path: Path, base: int, edits: Sequence[tuple[float, bytes]], keep: float
) -> None:
    data = mutate(BASES[base], edits, keep)
    walk_data(tmp_path, data)
    for is_explicit in (True, False):
        assert elements_compiled(data[300:], is_explicit) == walk.walk_elements_python(data[300:], is_explicit)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.tuples(st.integers(0, len(BASES) - 1), EDITS, st.just(1.0) | st.floats(0, 1)), min_size=2, max_size=6)
)
def test_what_the_walk_learnt_from_other_files_changes_nothing(
    tmp_path: Path, made: Sequence[tuple[int, Sequence[tuple[float, bytes]], float]]
) -> None:
    paths = []
    for number, (base, edits, keep) in enumerate(made):
        paths += [tmp_path / f"{number} whole", tmp_path / f"{number} broken"]
        paths[-2].write_bytes(BASES[base])
        paths[-1].write_bytes(mutate(BASES[base], edits, keep))
    walk_both([os.fsencode(path) for path in paths])


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_members_of_archives(tmp_path: Path, method: int) -> None:
    """Whole, longer than a read, cut, empty, damaged, of another method, not there: all walks say the same."""
    archive = tmp_path / "a.zip"
    noise = np.random.default_rng(1).bytes(20000)
    contents = {name: BASES[number] for number, name in enumerate("abcdefgh")}
    contents |= {
        "long": raw.part10(explicit(0x00091001, "OB", noise) + raw.image()),
        "cut": BASES[0][:300],
        "empty": b"",
    }
    with zipfile.ZipFile(archive, "w", method) as file:
        for name, content in contents.items():
            file.writestr(name, content)
        file.writestr("other", BASES[0], zipfile.ZIP_LZMA)
        file.writestr("damaged", BASES[0])
        at = file.getinfo("damaged").header_offset
    damaged = bytearray(archive.read_bytes())
    damaged[at : at + 60] = bytes(60)
    archive.write_bytes(damaged)
    names = [*contents, "other", "damaged", "gone"]
    paths = [os.fsencode(member_location(str(archive), name)) for name in names]
    paths.insert(3, os.fsencode(tmp_path / "a.zip"))
    paths.insert(5, os.fsencode(tmp_path / "no such file"))
    walked = walk_both(paths)
    statuses = walked.facts[:, Fact.STATUS].tolist()
    assert statuses[0] == Status.OK
    assert statuses[-6:] == [Status.OK, Status.CUT, Status.EMPTY, *[Status.REFERENCE] * 3]
    assert walked.facts[5, Fact.ERRNO] == errno.ENOENT


def test_what_no_reader_raises_ends_the_walk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_bytes(BASES[0])

    def interrupt(*_: object) -> bytes:
        raise KeyboardInterrupt

    monkeypatch.setattr(LocalFile, "read_at", interrupt)
    with pytest.raises(KeyboardInterrupt):
        walk.walk_fetched([os.fsencode(tmp_path / "file")], WANTED, STOPS)
    compiled: Any = importlib.import_module("fastdcm.scan._walk")
    for answers in ([None], [(300, 0), None], [(300, 0), b"\2\0"]):
        facts = np.frombuffer(compiled.walk_fetched(Mock(side_effect=answers), 1, b"", b"")[0], np.int64)
        assert facts[Fact.STATUS] == (Status.CUT if answers[-1] else Status.UNREADABLE)
    for odd in ([(1, 2, 3)], [(300, 0), "text"]):
        with pytest.raises(TypeError):
            compiled.walk_fetched(Mock(side_effect=odd), 1, b"", b"")


def test_lengths_and_sequences_of_known_tags(tmp_path: Path) -> None:
    """A tag that was plain in one file is none in the next: a sequence, of undefined length, in more than 4 GB."""
    contents = [
        raw.image(explicit(0x00541001, "SQ", item(b"")) + explicit(0x00880200, "SQ", item(b""))),
        raw.image(explicit(0x00541001, "SQ", item(b"")) + raw.icon()),
        raw.image(explicit(0x00541001, "CS", "BQML") + raw.icon()),
    ]
    paths = [tmp_path / str(number) for number in range(3)]
    for path, content in zip(paths, contents, strict=True):
        path.write_bytes(raw.part10(content))
        os.truncate(path, 5 * 2**30)
    walked = walk_both([os.fsencode(path) for path in paths])
    assert (walked.facts[:, Fact.PIXEL_LENGTH] == 48).all()
    assert [values_of(walked, number).get(0x00541001) for number in range(3)] == [None, None, b"CSBQML"]


def test_elements_of_garbage() -> None:
    with pytest.raises(SourceError, match="not a list of elements"):
        walk.walk_elements(struct.pack("<HHI", 0xFFFE, 0xE00D, 0) + bytes(100), True)


# ---------------------------------------------------------------------------- numbers

NUMBER_TEXT = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.decimals(-10000, 10000, places=6).map(str),
    st.text("0123456789+-.eE \\,\0", max_size=24),
)


@given(st.lists(NUMBER_TEXT, max_size=3).map("\\".join), st.sampled_from(["DS", "IS", "\0\0", "UN"]))
def test_plain_decimals_are_the_rules_numbers(text: str, vr: str) -> None:
    value = text.encode()
    numbers, plain = walk.parse_decimals(Values.of([vr.encode() + value]), 3)
    if plain[0]:
        assert numbers[0].tolist() == rules.parse_numbers(value, 3)
    else:
        assert np.isnan(numbers).all()


@given(st.from_regex(r"[ \0]?\d{4,7}(\.\d{0,8})?[ \0]?", fullmatch=True))
def test_plain_times_are_the_rules_times(text: str) -> None:
    numbers, plain = walk.parse_times(Values.of([b"TM" + text.encode()]))
    if plain[0]:
        assert numbers[0, 0] == rules.parse_time(text)


def test_most_numbers_are_plain() -> None:
    texts = [b"DS-125.5\\-0.48828125\\1e2", b"DS 1 \\2\0\\+3.0"]
    numbers, plain = walk.parse_decimals(Values.of(texts), 3)
    assert plain.all()
    assert numbers.tolist() == [[-125.5, -0.48828125, 100.0], [1.0, 2.0, 3.0]]
    times, plain_times = walk.parse_times(Values.of([b"TM101112.125 ", b"TM235960"]))
    assert plain_times.all()
    assert times[:, 0].tolist() == [36672.125, 86400.0]
    for binary in (b"US12", b"FD12345678"):
        assert not walk.parse_decimals(Values.of([binary]), 1)[1][0]
    assert math.isnan(walk.parse_decimals(Values.of([b"DS1,5"]), 1)[0][0, 0])


PADDED = st.lists(st.sampled_from(["A", "B1", " ", "\\", "~"]), max_size=7).map("".join) | st.text(
    "A \0\té\x1b", max_size=3
)


@example(["A \\B"], "description")
@example(["A\\ B"], "description")
@example(["A\\"], "description")
@settings(max_examples=300)
@given(st.lists(PADDED, min_size=1, max_size=2), st.sampled_from(["patient_id", "description"]))
def test_plain_texts_are_the_rules_texts(texts: list[str], name: str) -> None:
    raws = [text.encode("latin-1") for text in texts]
    plain = walk.plain_texts(Values.of([b"LO" + text for text in raws]))
    meant = [rules.column_value(COLUMN[name], "LO", text) for text in raws]
    if plain is not None:
        offsets = np.frombuffer(plain[0], np.int32)
        assert [plain[1][low:high].decode() for low, high in itertools.pairwise(offsets)] == meant
    else:
        odd = re.compile(rb"\\ | \\|^\\|\\$|[^ -~]")
        assert any(text is None or odd.search(raw.strip(b" \0")) for text, raw in zip(meant, raws, strict=True))


def test_values_that_are_not_inside_the_bytes() -> None:
    for place in ((0, 9), (5, 4), (-1, 2), (0, -1), (2**62, 2**62)):
        values = Values(b"DS123456", struct.pack("=qq", *place))
        for parse in (lambda values: walk.parse_decimals(values, 1), walk.parse_times, walk.plain_texts):
            with pytest.raises(ValueError, match="not inside"):
                parse(values)


def test_values_are_a_sequence() -> None:
    values = Values.of(b"DS1 UN\0 DS".split())
    assert (list(values), len(values), values[-1]) == ([b"DS1", b"UN\0", b"DS"], 3, b"DS")
    with pytest.raises(IndexError):
        values[3]
    assert list(Values.of([])) == []
