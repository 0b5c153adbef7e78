"""Plain progress: a line every few seconds, with speed and time left, and none for a short run."""

from __future__ import annotations

import io

from fastdcm.look.progress import fraction, plain_lines
from fastdcm.run.progress import Progress


class Clock:
    """A clock that is set by hand."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_short_run_is_silent() -> None:
    stream, clock = io.StringIO(), Clock()
    show = plain_lines(stream, clock)
    for n in range(100):
        clock.now += 0.04
        show(Progress("scan", files=n))
    assert stream.getvalue() == ""


def test_a_line_every_few_seconds() -> None:
    stream, clock = io.StringIO(), Clock()
    show = plain_lines(stream, clock)
    for _ in range(20):
        clock.now += 1.0
        show(Progress("scan", files=int(50 * (clock.now - 100))))
    for n in range(1, 11):
        clock.now += 1.0
        show(Progress("convert", volumes=n, volumes_total=20, bytes=n * 10**8, bytes_total=2 * 10**9))
    lines = stream.getvalue().splitlines()
    assert lines[0] == "reading headers: 250 files, 50 files/s"
    assert len(lines) == 6
    assert lines[-1] == "converting: 10 of 20 volumes, 1 GB of 2 GB, 100 MB/s, 10.0 s left"


def test_bytes_alone() -> None:
    stream, clock = io.StringIO(), Clock()
    show = plain_lines(stream, clock)
    for n in (0, 1):
        clock.now += 6.0
        show(Progress("compare", bytes=n * 10**9, bytes_total=2 * 10**9))
    assert stream.getvalue().splitlines()[-1] == "comparing: 1 GB of 2 GB, 83 MB/s, 12.0 s left"


def test_what_is_said_of_the_workers_is_shown_at_once() -> None:
    stream = io.StringIO()
    show = plain_lines(stream, Clock())
    show(Progress("start", dashboard="http://127.0.0.1:8787/status"))
    show(Progress("start", note="the Dask scheduler was lost; waiting for it and its workers"))
    assert stream.getvalue().splitlines() == [
        "dashboard: http://127.0.0.1:8787/status",
        "the Dask scheduler was lost; waiting for it and its workers",
    ]


def test_share_done() -> None:
    assert fraction(Progress("scan", files=3)) is None
    assert fraction(Progress("verify", volumes=1, volumes_total=4)) == 0.25
    assert fraction(Progress("convert", bytes=5, bytes_total=4)) == 1.0
