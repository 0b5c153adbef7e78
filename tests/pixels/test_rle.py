"""RLE frames are decoded by the compiled module as imagecodecs decodes them, whatever their bytes are."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastdcm.errors import Code, SourceError
from fastdcm.model import PixelFormat
from fastdcm.pixels import rle
from tests.pixels.sources import RLE, Array, pixel_format, without_compiled

COLUMNS = 5


def test_the_module_is_compiled() -> None:
    assert rle.COMPILED


def frame(*segments: bytes, starts: list[int] | None = None, count: int | None = None) -> bytes:
    """Return an RLE frame of segments as they are (PS3.5 G.5)."""
    if starts is None:
        starts = [64 + sum(map(len, segments[:number])) for number in range(len(segments))]
    offsets = (starts + [0] * 15)[:15]
    return struct.pack("<16I", len(segments) if count is None else count, *offsets) + b"".join(segments)


def planes_of(values: Array) -> list[Array]:
    """Return the byte planes of samples, most significant first."""
    samples = values[np.newaxis] if values.ndim == 2 else values
    return [
        plane for sample in samples for plane in sample.reshape(-1, 1).view(np.uint8).reshape(sample.size, -1).T[::-1]
    ]


def unpack(data: bytes, pixels: PixelFormat, size: int) -> bytes | tuple[str, str]:
    out = np.zeros(size, np.uint8)
    try:
        rle.unpack_rle(data, pixels, out)
    except SourceError as error:
        return error.code, error.message
    except Exception as error:  # noqa: BLE001 - whatever imagecodecs raises
        return type(error).__name__, str(error)
    return out.tobytes()


def both(data: bytes, pixels: PixelFormat, size: int) -> bytes | tuple[str, str]:
    found = unpack(data, pixels, size)
    with without_compiled():
        assert unpack(data, pixels, size) == found
    return found


@st.composite
def packed(draw: st.DrawFn, plane: bytes) -> bytes:
    """Encode a plane by any runs, with codes that mean nothing between them."""
    out, at = b"", 0
    while at < len(plane):
        if draw(st.integers(0, 9)) == 0:
            out += b"\x80"
        n = min(draw(st.one_of(st.integers(1, 4), st.integers(1, 128))), len(plane) - at)
        same = next((k for k in range(n) if plane[at + k] != plane[at]), n)
        if same > 1 and draw(st.booleans()):
            out, at = out + bytes([257 - same, plane[at]]), at + same
        else:
            out, at = out + bytes([n - 1]) + plane[at : at + n], at + n
    return out + b"\0" * (len(out) % 2)


@settings(max_examples=60, deadline=None)
@given(
    data=st.data(),
    dtype=st.sampled_from(["u1", "<i2", "<u2", "<u4", "<u8"]),
    samples=st.sampled_from([1, 3]),
    rows=st.integers(1, 30),
)
def test_any_runs_give_the_values(data: st.DataObject, dtype: str, samples: int, rows: int) -> None:
    if samples * np.dtype(dtype).itemsize > 15:
        samples = 1
    shape = (rows, COLUMNS) if samples == 1 else (samples, rows, COLUMNS)
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    values = rng.integers(0, data.draw(st.sampled_from([2, 100])), shape).astype(dtype)
    segments = [data.draw(packed(plane.tobytes())) for plane in planes_of(values)]
    pixels = pixel_format(values, RLE)
    assert both(frame(*segments), pixels, values.nbytes) == values.tobytes()


def test_more_values_than_are_put_together_at_a_time_and_runs_across_that_border() -> None:
    rng = np.random.default_rng(1)
    repeated = np.repeat(rng.integers(0, 65536, 700), rng.integers(1, 90, 700)).astype("<u2")
    values = repeated[: len(repeated) // 7 * 7].reshape(7, -1)
    segments = []
    for plane in planes_of(values):
        packed = b""
        for at in range(0, plane.size, 97):
            some = plane[at : at + 97]
            packed += (
                bytes([257 - len(some), some[0]])
                if (some == some[0]).all() and len(some) > 1
                else (bytes([len(some) - 1]) + some.tobytes())
            )
        segments.append(packed + b"\0" * (len(packed) % 2))
    assert both(frame(*segments), pixel_format(values, RLE), values.nbytes) == values.tobytes()


VALUES = np.arange(300, dtype="<u2").reshape(60, COLUMNS)
HIGH, LOW = (b"".join(bytes([len(p) - 1]) + p for p in (plane.tobytes()[k : k + 100] for k in (0, 100, 200)))
             for plane in planes_of(VALUES))  # fmt: skip


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (frame(HIGH, LOW), None),
        (frame(HIGH + b"\0", LOW + b"\0"), None),  # the padding of an odd length
        (frame(HIGH + b"\0\0", LOW + b"\0\0"), None),  # more of it
        (frame(HIGH + b"\x81\x05", LOW), None),  # too much
        (frame(HIGH, LOW + b"\x05" * 9), "ImcdError"),  # too much, and damaged
        (frame(HIGH, LOW[:-1]), "ImcdError"),
        (frame(HIGH[:-101], LOW), Code.TRUNCATED),
        (frame(HIGH, b""), None),
        (frame(HIGH, LOW[:-101] + b"\x81"), "ImcdError"),  # a run without its value
        (frame(HIGH, LOW, starts=[64, 4000]), Code.DECODE),
        (frame(HIGH, LOW, starts=[64, 2**32 - 1]), Code.DECODE),
        (frame(HIGH, LOW, starts=[64, 63]), Code.DECODE),
        (frame(HIGH, LOW, starts=[65, 64 + len(HIGH)]), Code.DECODE),
        (frame(HIGH, LOW, count=3), Code.DECODE),
        (frame(HIGH, LOW, count=0), Code.DECODE),
        (frame(HIGH, LOW, count=2**32 - 1), Code.DECODE),
        (frame(HIGH, LOW)[:64], None),
        (frame(HIGH, LOW)[:63], None),
        (frame(HIGH, LOW)[:12], None),
        (b"", Code.DECODE),
    ],
)
def test_frames_that_are_not_as_they_should_be(data: bytes, code: str | None) -> None:
    found = both(data, pixel_format(VALUES, RLE), VALUES.nbytes)
    if code is not None:
        assert found[0] == code
    elif len(data) > len(frame(HIGH)):
        assert found == VALUES.tobytes()
    else:
        assert isinstance(found, tuple)


@settings(max_examples=400, deadline=None)
@given(data=st.data())
def test_any_damage_is_the_same_to_both(data: st.DataObject) -> None:
    damaged = bytearray(frame(HIGH, LOW) + b"\0" * data.draw(st.integers(0, 2)))
    for _ in range(data.draw(st.integers(1, 4))):
        near = st.sampled_from([4, 8, 9, 64, 165, 266, 64 + len(HIGH), len(damaged) - 1])
        damaged[data.draw(st.one_of(near, st.integers(0, len(damaged) - 1)))] = data.draw(st.integers(0, 255))
    both(bytes(damaged[: data.draw(st.one_of(st.just(len(damaged)), st.integers(0, len(damaged))))]),
         pixel_format(VALUES, RLE), VALUES.nbytes)  # fmt: skip


@pytest.mark.parametrize("bits", [24, 40])
def test_cells_of_odd_bytes(bits: int) -> None:
    width = bits // 8
    cells = np.random.default_rng(0).integers(0, 256, (60, width)).astype("u1")
    segments = [bytes([59]) + cells[:, number].tobytes() + b"\0" for number in range(width)[::-1]]
    pixels = pixel_format(VALUES, RLE, rows=12, bits_allocated=bits, bits_stored=bits)
    assert both(frame(*segments), pixels, cells.size) == cells.tobytes()


def test_what_makes_no_sense_is_refused() -> None:
    decode = rle._RLE.decode_rle if rle._RLE is not None else None
    assert decode is not None
    for width in (0, -1, 9):
        with pytest.raises(ValueError, match="1 to 8 bytes"):
            decode(frame(HIGH, LOW), width, bytearray(600))
    assert decode(frame(HIGH, LOW), 2, bytearray(600))
    assert not decode(frame(HIGH, LOW), 2, bytearray(602))
    assert not decode(frame(HIGH, LOW), 2, bytearray(601))
    assert not decode(frame(HIGH, LOW), 8, bytearray(600))
    with pytest.raises((BufferError, TypeError)):
        decode(frame(HIGH, LOW), 2, bytes(600))
