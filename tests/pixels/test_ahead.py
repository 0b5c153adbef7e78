"""Files opened ahead: in any order, few bytes at once, local ones never."""

from __future__ import annotations

import random
import threading
from concurrent.futures import Future
from pathlib import Path

import pytest

from fastdcm.model import FrameSource
from fastdcm.pixels import ahead
from fastdcm.pixels.ahead import Ahead
from fastdcm.scan.reading import Reader
from fastdcm.scan.remote import REQUESTS
from tests import dicomgen
from tests.pixels.sources import source_of


class Line:
    """Opens nothing, and counts the bytes that are under way or there, and were not taken."""

    def __init__(self) -> None:
        self.opened: list[str] = []
        self.lock = threading.Lock()

    def open_frames(self, source: FrameSource) -> Reader:
        with self.lock:
            self.opened.append(source.path)
        if source.path.endswith("/lost"):
            raise FileNotFoundError(source.path)
        return Reader(source.size, 0)


@pytest.fixture
def line(monkeypatch: pytest.MonkeyPatch) -> Line:
    line = Line()
    monkeypatch.setattr(ahead, "open_frames", line.open_frames)
    return line


@pytest.fixture
def source(tmp_path: Path) -> FrameSource:
    found = source_of(dicomgen.make_series(tmp_path, n=1).paths[0])
    assert found is not None
    return found[1]


def test_bounded_by_bytes_and_number(line: Line, source: FrameSource, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ahead, "AHEAD_BYTES", 100_000)
    rng = random.Random(3)
    sources = [source._replace(path=f"s3://b/{n}", size=rng.choice((1, 3000, 40_000, 300_000))) for n in range(300)]
    with Ahead(sources) as opened:
        for number, one in enumerate(sources):
            assert opened.open(one).size == one.size
            waiting = opened._coming.values()
            assert len(waiting) <= REQUESTS
            assert len(waiting) == 1 or sum(count for _, count in waiting) <= 100_000
            assert number == 299 or waiting
    assert sorted(line.opened) == sorted(one.path for one in sources)


def test_what_is_skipped_or_asked_for_again(line: Line, source: FrameSource) -> None:
    sources = [source._replace(path=f"s3://b/{n}") for n in range(100)]
    with Ahead(sources) as opened:
        for one in [*sources[50:], *sources[:5], *sources[50:52]]:
            assert opened.open(one).size == source.size
    assert set(line.opened) >= {one.path for one in sources[50:]}


def test_what_is_not_there_is_told_when_it_is_its_turn(line: Line, source: FrameSource) -> None:
    lost = source._replace(path="s3://b/lost")
    with Ahead([source._replace(path="s3://b/1"), lost]) as opened:
        opened.open(source._replace(path="s3://b/1"))
        with pytest.raises(FileNotFoundError):
            opened.open(lost)


def test_local_files_are_opened_when_they_are_read(line: Line, source: FrameSource) -> None:
    with Ahead([source, None, source]) as opened:
        assert not line.opened
        assert opened.open(source).size == source.size
    assert line.opened == [source.path]
    assert not isinstance(opened._coming.get(source.path), Future)
