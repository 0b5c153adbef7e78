"""How a long run shows where it stands: a bar on a terminal, a plain line every few seconds anywhere else."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TextIO

from fastdcm.look.terminal import console, size_text, time_text
from fastdcm.run.progress import Callback, Progress

LINE_EVERY_S = 5.0
STAGES = {
    "scan": "reading headers",
    "group": "sorting into volumes",
    "convert": "converting",
    "verify": "verifying",
    "compare": "comparing",
    "tables": "writing tables",
}


@contextmanager
def shown_progress(*, plain: bool = False) -> Iterator[Callback]:
    """Show progress on standard output while the block runs.

    Parameters
    ----------
    plain : bool
        Never draw a bar, also on a terminal (the last line of standard output is to be a document).

    Yields
    ------
    callable
        Takes each ``Progress``.
    """
    if plain or not sys.stdout.isatty():
        yield plain_lines(sys.stdout, time.monotonic)
        return
    with _bar() as callback:
        yield callback


def plain_lines(stream: TextIO, clock: Callable[[], float], every_s: float = LINE_EVERY_S) -> Callback:
    """Return a callback that writes a line at most every few seconds; a run shorter than that writes none."""
    meter = _Meter(clock)
    last = clock()

    def show(progress: Progress) -> None:
        nonlocal last
        if progress.stage == "start":
            print(_start_text(progress), file=stream, flush=True)
            return
        meter.enter(progress)
        if clock() - last >= every_s:
            last = clock()
            print(f"{STAGES[progress.stage]}: {meter.text(progress)}", file=stream, flush=True)

    return show


def _start_text(progress: Progress) -> str:
    return progress.note or f"dashboard: {progress.dashboard}"


class _Meter:
    """Speed and time left of the stage that runs."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._stage = ""
        self._start = self._last = clock()

    def enter(self, progress: Progress) -> None:
        """Start to measure anew where a stage begins: at the end of the one before, not at its own first word."""
        if progress.stage != self._stage:
            self._stage, self._start = progress.stage, self._last
        self._last = self._clock()

    def text(self, progress: Progress) -> str:
        """Return counts, speed and time left in one line."""
        seconds = max(self._clock() - self._start, 1e-3)
        if progress.stage in ("scan", "group", "tables"):
            speed = f", {progress.files / seconds:.0f} files/s" if progress.stage == "scan" else ""
            return f"{progress.files} files{speed}"
        parts = [f"{progress.volumes} of {progress.volumes_total} volumes"] if progress.volumes_total else []
        if progress.files:
            parts.append(f"{progress.files} files")
        if progress.bytes_total:
            parts += [
                f"{size_text(progress.bytes)} of {size_text(progress.bytes_total)}",
                f"{progress.bytes / seconds / 1e6:.0f} MB/s",
            ]
        left = self._left_s(progress, seconds)
        return ", ".join(parts if left is None else [*parts, f"{time_text(left)} left"])

    @staticmethod
    def _left_s(progress: Progress, seconds: float) -> float | None:
        done = fraction(progress)
        return seconds * (1 - done) / done if done and done < 1 else None


def fraction(progress: Progress) -> float | None:
    """Return the share that is done, None where nobody knows how much there is."""
    if progress.bytes_total:
        return min(progress.bytes / progress.bytes_total, 1.0)
    if progress.volumes_total:
        return min(progress.volumes / progress.volumes_total, 1.0)
    return None


@contextmanager
def _bar() -> Iterator[Callback]:
    from rich.progress import BarColumn, SpinnerColumn, TextColumn
    from rich.progress import Progress as Bar

    bar = Bar(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        TextColumn("{task.fields[counts]}"),
        console=console(),
        transient=True,
    )
    meter = _Meter(time.monotonic)
    with bar:
        task: Any = bar.add_task("", total=None, counts="")

        def show(progress: Progress) -> None:
            if progress.stage == "start":
                bar.console.print(_start_text(progress), highlight=False)
                return
            meter.enter(progress)
            done = fraction(progress)
            bar.update(
                task,
                description=STAGES[progress.stage],
                total=None if done is None else 1.0,
                completed=done or 0.0,
                counts=meter.text(progress),
            )

        yield show
