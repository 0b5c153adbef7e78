"""Objects as readers: every byte right, few requests, for any number of threads."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from fastdcm.errors import Code, SourceError
from fastdcm.scan.opened import open_location, stat_location
from fastdcm.scan.remote import BLOCK_BYTES, RemoteFile
from tests.httpserver import http_server

SIZE = 5_000_001


@pytest.fixture
def data(tmp_path: Path) -> bytes:
    content = random.Random(1).randbytes(SIZE)
    (tmp_path / "one").write_bytes(content)
    return content


@pytest.mark.parametrize("first_bytes", [0, 100_000, SIZE, 2 * SIZE])
def test_any_read_by_any_thread(data: bytes, tmp_path: Path, first_bytes: int) -> None:
    rng = random.Random(2)
    reads = [(rng.randrange(SIZE + 9), int(10 ** rng.uniform(0, 6.8))) for _ in range(60)]
    with http_server(tmp_path) as (url, _), RemoteFile(f"{url}/one", first_bytes) as reader:
        assert reader.size == SIZE
        assert (reader.size, reader.mtime_ns) == stat_location(f"{url}/one")
        with ThreadPoolExecutor(8) as pool:
            found = list(pool.map(lambda read: reader.read_at(*read), reads))
        buffer = memoryview(bytearray(70_000))
        assert reader.read_into(SIZE - 60_000, buffer) == 60_000
    assert found == [data[offset : offset + count] for offset, count in reads]
    assert buffer[:60_000] == data[-60_000:]


def test_who_reads_on_asks_ever_less_often(data: bytes, tmp_path: Path) -> None:
    with http_server(tmp_path) as (url, seen), RemoteFile(f"{url}/one") as reader:
        found = [reader.read_at(offset, 8192) for offset in range(0, SIZE, 8192)]
    assert b"".join(found) == data
    assert len(seen.requests) <= 10
    asked = sum(end - start for start, end in map(bounds, seen.requests))
    assert asked <= SIZE + BLOCK_BYTES


def test_who_jumps_asks_for_a_block(data: bytes, tmp_path: Path) -> None:
    with http_server(tmp_path) as (url, seen), RemoteFile(f"{url}/one") as reader:
        for offset in range(400_000, SIZE, 400_000):
            reader.read_at(offset, 100)
    assert max(end - start for start, end in map(bounds, seen.requests)) <= 2 * BLOCK_BYTES


def bounds(request: tuple[str, str, str]) -> tuple[int, int]:
    start, end = request[2].removeprefix("bytes=").split("-")
    return int(start), int(end) + 1


def test_all_is_one_request(data: bytes, tmp_path: Path) -> None:
    with http_server(tmp_path) as (url, seen), open_location(f"{url}/one", SIZE) as reader:
        assert reader.read_at(0, 3000) + reader.read_at(3000, SIZE) == data
    assert len(seen.requests) == 1


def test_an_empty_file_and_none(tmp_path: Path) -> None:
    (tmp_path / "empty").write_bytes(b"")
    with http_server(tmp_path) as (url, _):
        with RemoteFile(f"{url}/empty") as reader:
            assert (reader.size, reader.read_at(0, 10)) == (0, b"")
        with pytest.raises(FileNotFoundError):
            RemoteFile(f"{url}/none")


def test_an_object_that_changes_is_told_to_all_who_wait(data: bytes, tmp_path: Path) -> None:
    with http_server(tmp_path, wait_s=0.2) as (url, _), RemoteFile(f"{url}/one") as reader:
        (tmp_path / "one").write_bytes(data[::-1])
        with ThreadPoolExecutor(4) as pool:
            coming = [pool.submit(reader.read_at, 200_000, 10) for _ in range(4)]
            for one in coming:
                with pytest.raises(SourceError) as caught:
                    one.result()
                assert caught.value.code is Code.CHANGED
