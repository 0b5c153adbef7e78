"""Compressed frames that go the short way are what the plain way makes of them, with the same findings and headers."""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import Any

import imagecodecs as ic
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fastdcm.errors import Code
from fastdcm.model import FrameSource, ValueRule
from fastdcm.pixels import compressed, finish, straight
from fastdcm.pixels.compressed import read_compressed
from tests.pixels.sources import (
    EXPLICIT,
    JPEG,
    RLE,
    Array,
    both_ways,
    element,
    items,
    pixel_format,
    read_all,
    value_rule,
    write,
)
from tests.pixels.test_decode import GREY, LOSSLESS, RGB8

SHAPE = GREY["s16"][0].shape
VALUES, _ = GREY["s16"]
DELIMITER = b"\xfe\xff\xdd\xe0\0\0\0\0"

SHORT = ("rle", "jpeg-lossless", "jpeg-lossless-sv1", "jpeg-ls", "jpeg-2000", "htj2k", "htj2k-rpcl")


def short(sources: list[FrameSource | None], rule: ValueRule, shape: tuple[int, int] = SHAPE) -> list[int]:
    """Return the cells that go the short way."""
    out = np.zeros((len(sources), *shape), np.dtype(rule.dtype).newbyteorder("<"))
    return list(read_compressed(sources, rule, (0, shape[0]), out, lambda _: None))


def encoded(
    folder: Path, values: Array = VALUES, bits: int = 16, codec: str = "jpeg-ls", **changes: Any
) -> FrameSource:
    """Write a file with one frame in one fragment."""
    case = LOSSLESS[codec]
    pixels = pixel_format(values, case.syntax, bits_stored=bits)
    return write(folder / str(len(list(folder.iterdir()))), pixels, items(case.encode(values, bits)))


@pytest.mark.parametrize("depth", GREY)
@pytest.mark.parametrize("codec", LOSSLESS)
def test_every_codec_and_precision(tmp_path: Path, codec: str, depth: str) -> None:
    values, bits = GREY[depth]
    sources: list[FrameSource | None] = [encoded(tmp_path, values, bits, codec) for _ in range(3)]
    rule = value_rule(values.dtype.name)
    found, out = both_ways([*sources, None], rule, SHAPE)
    assert (found.faults, found.overflow) == ((), False)
    np.testing.assert_array_equal(out, [values, values, values, np.zeros_like(values)])
    assert short([*sources, None], rule) == ([0, 1, 2] if codec in SHORT else [])


@pytest.mark.parametrize("codec", SHORT)
@pytest.mark.parametrize("depth", ["u8", "s8", "u12", "s16"])
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("bits_stored", [-1, 7, 12, 17])
def test_headers_that_disagree_with_the_codestream(
    tmp_path: Path, codec: str, depth: str, signed: bool, bits_stored: int
) -> None:
    values, bits = GREY[depth]
    case = LOSSLESS[codec]
    stream = items(case.encode(values, bits))
    for high_bit in (bits_stored - 1, bits_stored + 2):
        changes = {"signed": signed, "bits_stored": bits_stored, "high_bit": high_bit}
        source = write(tmp_path / f"{high_bit}", pixel_format(values, case.syntax, **changes), stream)
        for dtype in ("int16", "uint16", "int8", "uint8"):
            both_ways([source], value_rule(dtype), SHAPE)


@pytest.mark.parametrize("slope", [1.0, -1.0, 3.0, 0.5, 0.0])
@pytest.mark.parametrize("intercept", [0.0, -1024.0, 32768.0])
@pytest.mark.parametrize("dtype", ["int16", "uint16", "int32", "float32"])
@pytest.mark.parametrize("depth", ["u12", "s16"])
def test_rescaled_values_and_those_that_do_not_fit(
    tmp_path: Path, slope: float, intercept: float, dtype: str, depth: str
) -> None:
    values, bits = GREY[depth]
    source = encoded(tmp_path, values, bits)._replace(slope=slope, intercept=intercept)
    for invert in (False, True):
        found, out = both_ways([source, source], value_rule(dtype, invert=invert), SHAPE)
        exact = values * slope + intercept
        limits = np.iinfo(dtype) if dtype.startswith(("i", "u")) else np.finfo(dtype)
        if not invert and not found.faults:
            assert found.overflow == (exact.min() < limits.min or exact.max() > limits.max)
        if not invert and not found.faults and not found.overflow:
            np.testing.assert_array_equal(out[0], exact)


STREAM = LOSSLESS["jpeg-ls"].encode(VALUES, 16)
EVEN = STREAM + b"\0" * (len(STREAM) % 2)


def item(content: bytes, tag: bytes = b"\xfe\xff\x00\xe0", length: int | None = None) -> bytes:
    return tag + struct.pack("<I", len(content) if length is None else length) + content


@pytest.mark.parametrize(
    ("value", "goes", "fault"),
    [
        (items(STREAM), True, None),
        (items(STREAM, table=b"\0\0\0\0"), True, None),
        (items(STREAM, table=b"\7\0\0\0"), True, None),  # what a table of one frame says is of no use
        (items(STREAM, table=b"\0" * 8), False, None),
        (items(STREAM, delimiter=False), True, None),
        (items(STREAM) + b"\xfc\xff\xfc\xff\0\0\0\0", True, None),  # what follows is not looked at
        (items(STREAM, delimiter=False) + b"\0" * 6, True, None),
        (items(STREAM, delimiter=False) + DELIMITER[:6], True, None),
        (items(STREAM[:100], STREAM[100:]), False, None),
        (items(STREAM, b""), False, None),
        (items(b"", STREAM), False, None),
        (items(STREAM, STREAM), False, None),
        (items(STREAM, delimiter=False) + b"\0" * 8, False, Code.DECODE),
        (items(STREAM)[:-10], False, Code.TRUNCATED),
        (items(STREAM[:-200]), False, Code.DECODE),
        (items(), False, Code.TRUNCATED),
        (b"", False, Code.TRUNCATED),
        (items(STREAM)[:10], False, Code.TRUNCATED),
        (item(b"") + item(EVEN, length=2**32 - 1), False, Code.DECODE),
        (item(b"") + item(EVEN, length=2**31), False, Code.TRUNCATED),
        (item(b"") + item(EVEN, length=len(EVEN) + 9), False, Code.TRUNCATED),
        (item(b"") + item(EVEN, b"\xfe\xff\x01\xe0"), False, Code.DECODE),
        (item(b"", b"\xfe\xff\x01\xe0") + item(EVEN), False, Code.DECODE),
        (item(b"", length=2**32 - 1) + item(EVEN), False, Code.DECODE),
        (item(b"", length=len(EVEN) // 4 * 4 + 16) + item(EVEN), False, Code.TRUNCATED),
    ],
)
def test_what_surrounds_a_fragment(tmp_path: Path, value: bytes, goes: bool, fault: Code | None) -> None:
    source = write(tmp_path / "a", pixel_format(VALUES, JPEG + "80"), value)
    found, out = both_ways([source], value_rule("int16"), SHAPE)
    assert [one.code for one in found.faults] == ([] if fault is None else [fault])
    assert short([source], value_rule("int16")) == ([0] if goes else [])
    if fault is None:
        np.testing.assert_array_equal(out[0], VALUES)


@pytest.mark.parametrize(
    ("changes", "goes"),
    [
        ({}, True),
        ({"rows": 39}, False),
        ({"columns": 57}, False),
        ({"rows": 65535, "columns": 65535}, False),
        ({"samples": 3}, False),
        ({"n_frames": 2}, False),
        ({"transfer_syntax": JPEG + "90"}, False),  # repaired, and noted
        ({"transfer_syntax": RLE}, False),
        ({"transfer_syntax": "1.2.3"}, False),
        ({"transfer_syntax": EXPLICIT}, False),
        ({"photometric": "PALETTE COLOR"}, False),
        ({"photometric": "YBR_FULL"}, True),
        ({"bits_allocated": 1}, False),
        ({"bits_allocated": 8}, True),  # what the codestream says counts
        ({"keyword": "FloatPixelData"}, True),
    ],
)
def test_headers(tmp_path: Path, changes: dict[str, Any], goes: bool) -> None:
    source = write(tmp_path / "a", pixel_format(VALUES, JPEG + "80"), items(STREAM))
    source = source._replace(format=source.format._replace(**changes))
    both_ways([source], value_rule("int16"), SHAPE)
    assert short([source], value_rule("int16")) == ([0] if goes else [])


def test_blocks_that_are_not_decoded_into(tmp_path: Path) -> None:
    source = encoded(tmp_path)
    for rows in ((0, 39), (1, 40), (3, 7)):
        found, out = both_ways([source], value_rule("int16"), SHAPE, rows)
        assert found.faults == ()
        np.testing.assert_array_equal(out[0], VALUES[slice(*rows)])
    tiled = source._replace(tile=1, tiles=4)
    _, out = both_ways([tiled], value_rule("int16"), (20, 28), (0, 20))
    np.testing.assert_array_equal(out[0], VALUES[:20, 28:])
    twice, _ = both_ways([source, source], value_rule("int16"), SHAPE)
    assert twice.headers[0] is twice.headers[1]
    lut = source._replace(lut=b"\0\0\0\0\7\0\5\0")
    assert short([tiled, lut, source._replace(frame=1)], value_rule("int16")) == []
    both_ways([lut], value_rule("uint16"), SHAPE)
    out = np.zeros((2, *SHAPE[::-1]), "<i2").transpose(0, 2, 1)
    assert list(read_compressed([source], value_rule("int16"), (0, 40), out[:, :40, :56], lambda _: None)) == [0]
    np.testing.assert_array_equal(out[0], VALUES)


COLOUR_SHORT = ("jpeg-lossless", "jpeg-lossless-sv1", "jpeg-ls", "jpeg-2000", "htj2k", "htj2k-rpcl")


def short_colour(source: FrameSource, dtype: str = "uint8") -> list[int]:
    out = np.zeros((1, 3, *SHAPE), dtype)
    return list(read_compressed([source], value_rule(dtype, 3), (0, SHAPE[0]), out, lambda _: None))


@pytest.mark.parametrize("codec", LOSSLESS)
@pytest.mark.parametrize("photometric", ["RGB", "YBR_FULL", "YBR_RCT", "YBR_FULL_422"])
def test_bytes_of_colour(tmp_path: Path, codec: str, photometric: str) -> None:
    source = encoded(tmp_path, RGB8, 8, codec)
    source = source._replace(format=source.format._replace(photometric=photometric))
    found, out = both_ways([source, None, source], value_rule("uint8", 3), SHAPE)
    assert found.faults == ()
    if photometric == "RGB" or (photometric == "YBR_RCT" and codec == "jpeg-2000"):
        np.testing.assert_array_equal(out[0], RGB8)
    needs_more = photometric.startswith("YBR_FULL") and codec == "jpeg-ls"  # others say themselves that they are RGB
    assert short_colour(source) == ([0] if codec in COLOUR_SHORT and not needs_more else [])
    assert short_colour(source, "uint16") == short_colour(source)
    both_ways([source._replace(intercept=1.0)], value_rule("uint8", 3), SHAPE)
    both_ways([source], value_rule("uint8", 3, invert=True), SHAPE)
    both_ways([source], value_rule("uint8", 3), SHAPE, (1, 17))


@pytest.mark.parametrize("subsampling", ["444", "422", "420"])
@pytest.mark.parametrize("photometric", ["RGB", "YBR_FULL", "YBR_FULL_422"])
@pytest.mark.parametrize("bits_stored", [8, 7])
@pytest.mark.parametrize("signed", [False, True])
def test_jpeg_of_colour(tmp_path: Path, subsampling: str, photometric: str, bits_stored: int, signed: bool) -> None:
    stream = bytes(ic.jpeg8_encode(np.ascontiguousarray(np.moveaxis(RGB8, 0, -1)), level=90, subsampling=subsampling))
    for cut in (stream, stream.replace(b"JFIF", b"XXXX")):
        changes = {"photometric": photometric, "bits_stored": bits_stored, "signed": signed}
        source = write(
            tmp_path / f"{len(list(tmp_path.iterdir()))}", pixel_format(RGB8, JPEG + "50", **changes), items(cut)
        )
        both_ways([source], value_rule("uint8", 3), SHAPE)
        both_ways([source], value_rule("int8", 3), SHAPE)
        assert short_colour(source) == ([0] if not signed else [])


def test_a_large_frame_of_colour_goes_the_plain_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = encoded(tmp_path, RGB8, 8, "jpeg-ls")
    monkeypatch.setattr(straight, "ASIDE_BYTES_MAX", RGB8.nbytes)
    assert short_colour(source) == [0]
    monkeypatch.setattr(straight, "ASIDE_BYTES_MAX", RGB8.nbytes - 1)
    assert short_colour(source) == []


@pytest.mark.parametrize("codec", [*SHORT, "deflated-frames", "jpeg-xl"])
def test_many_frames_of_one_file(tmp_path: Path, codec: str, monkeypatch: pytest.MonkeyPatch) -> None:
    case = LOSSLESS[codec]
    frames = np.stack([np.roll(VALUES, 3 * n, 1) for n in range(11)])
    streams = [case.encode(frame, 16) for frame in frames]
    source = write(tmp_path / "a", pixel_format(VALUES, case.syntax, n_frames=11), items(*streams))
    order = [3, 0, 10, 7, 1, 2, 9, 4, 5, 8, 6]
    cells: list[FrameSource | None] = [source._replace(frame=frame) for frame in order]
    found, out = both_ways(cells, value_rule("int16"), SHAPE)
    assert (found.faults, found.notes) == ((), ())
    np.testing.assert_array_equal(out, frames[order])
    found, out = both_ways([*cells, None, cells[0], source._replace(frame=11)], value_rule("int16"), SHAPE)
    assert [(fault.cell, fault.code) for fault in found.faults] == [(13, Code.TRUNCATED)]
    np.testing.assert_array_equal(out[12], frames[3])
    scaled: list[FrameSource | None] = [source._replace(frame=n, intercept=float(n)) for n in range(11)]
    both_ways(scaled, value_rule("int32"), SHAPE)
    assert both_ways(scaled, value_rule("int16"), SHAPE)[0].overflow  # the largest value is in every frame
    plain: list[int] = []
    monkeypatch.setattr("fastdcm.pixels.read.read_frame", lambda *a: plain.append(a[2]))
    read_all(cells, value_rule("int16"), SHAPE)
    assert plain == ([] if codec in SHORT else order)


def test_a_bad_frame_of_many_spoils_no_other(tmp_path: Path) -> None:
    frames = [np.roll(VALUES, 3 * n, 1) for n in range(9)]
    streams = [LOSSLESS["jpeg-ls"].encode(frame, 16) for frame in frames]
    streams[2] = streams[2][:60] + b"\xff" * 300
    streams[5] = LOSSLESS["jpeg-ls"].encode(VALUES[:9], 16)
    streams[7] = LOSSLESS["jpeg-2000"].encode(frames[7], 16)
    source = write(tmp_path / "a", pixel_format(VALUES, JPEG + "80", n_frames=9), items(*streams))
    cells: list[FrameSource | None] = [source._replace(frame=frame) for frame in range(9)]
    found, out = both_ways(cells, value_rule("int16"), SHAPE)
    assert [(fault.cell, fault.code) for fault in found.faults] == [(2, Code.DECODE), (5, Code.DECODE)]
    assert [(cell, code) for cell, code, _ in found.notes] == [(7, Code.REPAIRED_SYNTAX)]
    for good in (0, 1, 3, 4, 6, 7, 8):
        np.testing.assert_array_equal(out[good], frames[good])


def test_a_palette_is_applied(tmp_path: Path) -> None:
    grey, bits = GREY["u8"]
    tables = b"".join(element(0x00281101 + n, "US", struct.pack("<HHH", 256, 0, 8)) for n in range(3)) + b"".join(
        element(0x00281201 + n, "OW", bytes(range(256)[:: 1 - 2 * (n == 1)])) for n in range(3)
    )
    pixels = pixel_format(grey, JPEG + "80", photometric="PALETTE COLOR", n_frames=2)
    stream = LOSSLESS["jpeg-ls"].encode(grey, bits)
    source = write(tmp_path / "a", pixels, items(stream, stream), before=tables)
    cells: list[FrameSource | None] = [source, source._replace(frame=1)]
    found, out = both_ways(cells, value_rule("uint8", 3), SHAPE)
    assert found.faults == ()
    np.testing.assert_array_equal(out[1], [grey, 255 - grey, grey])


def test_what_is_wrong_is_told_as_ever_and_spoils_no_other_cell(tmp_path: Path) -> None:
    good = [encoded(tmp_path) for _ in range(20)]
    sources: list[FrameSource | None] = list(good)
    codes: dict[int, Code] = {}
    os.unlink(good[0].path)
    codes[0] = Code.UNREADABLE
    os.utime(good[3].path, ns=(1, 1))
    codes[3] = Code.CHANGED
    os.truncate(good[5].path, good[5].size - 1)
    os.utime(good[5].path, ns=(good[5].mtime_ns, good[5].mtime_ns))
    codes[5] = Code.CHANGED
    os.unlink(good[6].path)
    os.mkfifo(good[6].path)
    codes[6] = Code.CHANGED
    sources[7] = good[7]._replace(path=good[7].path + "\0")
    codes[7] = Code.CHANGED
    sources[9] = good[9]._replace(path=good[9].path + "\ud800")
    codes[9] = Code.DECODE
    sources[11] = good[11]._replace(pixel_offset=good[11].size + 1)
    codes[11] = Code.TRUNCATED
    sources[12] = good[12]._replace(size=2**50, pixel_offset=2**49)
    codes[12] = Code.CHANGED
    content = bytearray(Path(good[14].path).read_bytes())
    content[good[14].pixel_offset + 60 :] = b"\xff" * (good[14].size - good[14].pixel_offset - 60)
    Path(good[14].path).write_bytes(content)
    sources[14] = good[14]._replace(mtime_ns=os.stat(good[14].path).st_mtime_ns)
    codes[14] = Code.DECODE
    sources[17] = None
    found, out = both_ways(sources, value_rule("int16"), SHAPE)
    assert {fault.cell: fault.code for fault in found.faults} == codes
    assert short(sources, value_rule("int16")) == [n for n in range(20) if n not in codes and n != 17]
    for cell in set(range(20)) - set(codes) - {17}:
        np.testing.assert_array_equal(out[cell], VALUES)


@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), codec=st.sampled_from(SHORT), depth=st.sampled_from(["u8", "s12", "u16", "s16"]))
def test_any_damage_is_the_same_both_ways(tmp_path: Path, data: st.DataObject, codec: str, depth: str) -> None:
    values, bits = GREY[depth]
    values = np.ascontiguousarray(values[:9, :7])
    case = LOSSLESS[codec]
    value = bytearray(items(case.encode(values, bits)))
    for _ in range(data.draw(st.integers(0, 3))):
        at = data.draw(st.one_of(st.integers(0, 40), st.integers(0, len(value) - 1)))
        value[at] = data.draw(st.integers(0, 255))
    if data.draw(st.booleans()):
        del value[data.draw(st.integers(0, len(value))) :]
    pixels = pixel_format(values, case.syntax, bits_stored=bits)
    for old in tmp_path.iterdir():
        old.unlink()
    source = write(tmp_path / "a", pixels, bytes(value))._replace(intercept=data.draw(st.sampled_from([0.0, -3.0])))
    both_ways([source], value_rule(values.dtype.name), values.shape)


def test_every_frame_is_told_before_it_is_read_and_before_it_is_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compressed, "FRAMES_AT_A_TIME", 2)
    sources: list[FrameSource | None] = [encoded(tmp_path) for _ in range(3)]
    told: list[int] = []
    out = np.zeros((3, *SHAPE), "<i2")
    assert len(read_compressed(sources, value_rule("int16"), (0, 40), out, told.append)) == 3
    assert told == [0, 1, 0, 1, 2, 2]
    monkeypatch.setattr(compressed, "BYTES_AT_A_TIME", 10)
    told.clear()
    assert len(read_compressed(sources, value_rule("int16"), (0, 40), out, told.append)) == 3
    assert told == [0, 0, 1, 1, 2, 2]


def test_a_short_way_uses_the_decoder_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    real = ic.jpegls_decode

    def decode(data: bytearray, out: Array) -> Array:
        calls.append(len(data))
        decoded: Array = real(data, out=out)
        return decoded

    monkeypatch.setattr(ic, "jpegls_decode", decode)
    out = np.zeros((1, *SHAPE), "<i2")
    assert read_compressed([encoded(tmp_path)], value_rule("int16"), (0, 40), out, lambda _: None)[0].bytes_read > 0
    assert calls == [len(EVEN)]


def test_what_makes_no_sense_is_refused(tmp_path: Path) -> None:
    assert finish.FRAMES is not None
    source = encoded(tmp_path)
    read = finish.FRAMES.read_fragment
    about = (source.path, source.size, source.mtime_ns, source.pixel_offset)
    memory = bytearray()
    assert len(read(*about, memory)) == source.pixel_offset
    assert memory == EVEN
    assert read(source.path, source.size, source.mtime_ns + 1, source.pixel_offset, memory) is None
    assert read(source.path, source.size, source.mtime_ns, source.pixel_offset - 1, memory) is None
    for offset in (-1, source.size, source.size - 19, 2**62):
        with pytest.raises(ValueError, match="shorter than its file"):
            read(source.path, source.size, source.mtime_ns, offset, memory)
    with pytest.raises(ValueError, match="memory"):
        read(*about, b"x")
    held = memoryview(memory)
    with pytest.raises(BufferError):
        read(*_longer(tmp_path), memory)
    held.release()


def _longer(folder: Path) -> tuple[str, int, int, int]:
    source = write(folder / "longer", pixel_format(VALUES, JPEG + "80"), items(STREAM + b"more"))
    return source.path, source.size, source.mtime_ns, source.pixel_offset


def test_values_that_cannot_be_finished_so() -> None:
    assert finish.FRAMES is not None
    values = np.arange(6, dtype="<i2")
    assert finish.FRAMES.finish_values(values, 2, 0, 0, 0, 0, 5, 3, 1)
    assert values.tolist() == [1, 4, 7, 10, 13, 16]
    assert not finish.FRAMES.finish_values(values, 2, 0, 0, 0, 0, 15, 1, 0)
    for row in ((3, 0, 0, 0, 0, 5, 3, 1), (2, 16, 0, 0, 0, 5, 3, 1), (8, 0, 0, 0, 0, 5, 1, 0)):
        with pytest.raises(ValueError, match="finished"):
            finish.FRAMES.finish_values(values, *row)
    with pytest.raises(ValueError, match="finished"):
        finish.FRAMES.finish_values(bytearray(5), 2, 0, 0, 0, 0, 5, 3, 1)
    with pytest.raises(ValueError, match="samples"):
        finish.FRAMES.split_samples(bytes(9), bytearray(12))
    with pytest.raises(ValueError, match="samples"):
        finish.FRAMES.split_samples(bytes(8), bytearray(8))
    for count in (0, 1, 5, 15, 16, 17, 33, 100):
        pixels = np.random.default_rng(count).integers(0, 256, (count, 3)).astype("u1")
        planes = np.zeros((3, count), "u1")
        finish.FRAMES.split_samples(pixels, planes)
        np.testing.assert_array_equal(planes, pixels.T)
    with pytest.raises((BufferError, TypeError)):
        finish.FRAMES.finish_values(np.zeros((4, 4), "<i2")[:, ::2], 2, 0, 0, 0, 0, 5, 3, 1)
