"""Decoding: one 512 x 512 CT frame of each transfer syntax."""

from __future__ import annotations

import numpy as np
import pytest
from pydicom import uid as uids
from pytest_benchmark.fixture import BenchmarkFixture

from fastdcm.model import PixelFormat
from fastdcm.pixels.decode import decode_frame
from scripts.make_export import Noise, ct_slice
from tests.dicomgen import encode_frame

LOSSLESS = {
    "RLE": uids.RLELossless,
    "JPEG lossless": uids.JPEGLosslessSV1,
    "JPEG-LS": uids.JPEGLSLossless,
    "JPEG 2000": uids.JPEG2000Lossless,
    "HTJ2K": uids.HTJ2KLossless,
}


@pytest.mark.parametrize("name", LOSSLESS)
def test_decode(name: str, benchmark: BenchmarkFixture) -> None:
    pixels = ct_slice(Noise(1), 0.5, 20.0)
    data = encode_frame(pixels, LOSSLESS[name], 16)
    kind = PixelFormat(
        transfer_syntax=str(LOSSLESS[name]),
        rows=512,
        columns=512,
        samples=1,
        planar=0,
        photometric="MONOCHROME2",
        bits_allocated=16,
        bits_stored=16,
        high_bit=15,
        signed=True,
        n_frames=1,
        keyword="PixelData",
    )
    np.testing.assert_array_equal(benchmark(decode_frame, data, kind), pixels)
