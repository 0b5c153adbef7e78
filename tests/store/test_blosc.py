"""The Blosc library without its package gives what the package gives."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numcodecs import blosc

from fastdcm.store.blosc import compress, library

NAMES = (b"zstd", b"lz4", b"lz4hc", b"blosclz", b"zlib")


@given(
    st.sampled_from(NAMES),
    st.integers(0, 9),
    st.integers(0, 2),
    st.sampled_from([0, 64, 1 << 12]),
    st.sampled_from(["u1", "<i2", "<f4", "<f8"]),
    st.integers(2, 5000),
    st.randoms(use_true_random=False),
)
def test_the_bytes_are_those_of_the_package(
    name: bytes, level: int, shuffle: int, block_bytes: int, dtype: str, count: int, random: Any
) -> None:
    values = np.frombuffer(random.randbytes(count // 2), np.uint8).cumsum().astype(dtype)
    blosc.use_threads = False
    packed = compress(values, name, level, shuffle, block_bytes)
    assert bytes(packed) == blosc.compress(values, name, level, shuffle, block_bytes)
    assert blosc.decompress(bytes(packed)) == values.tobytes()


def test_a_package_that_does_not_show_the_library_is_called(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.arange(5000, dtype="<i2")
    direct = bytes(compress(values, b"zstd", 1, 1, 0))
    assert library() is not None, "the installed numcodecs does not show blosc_compress_ctx"
    monkeypatch.setattr("fastdcm.store.blosc.library", lambda: None)
    assert bytes(compress(values, b"zstd", 1, 1, 0)) == direct


def test_an_unknown_codec_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="snappy:1"):
        compress(np.zeros(9, "<i2"), b"snappy", 1, 1, 0)
