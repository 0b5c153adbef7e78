"""The questions of grouping: two files have one SOP Instance UID, and do they have the same pixels."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np

from fastdcm.errors import Code
from fastdcm.model import Answer, FrameSource, Index, Options, Question, ValueRule
from fastdcm.run.execute import Engine, map_tasks
from fastdcm.run.isolate import Lost, Mark, call
from fastdcm.run.records import FrameNote
from fastdcm.run.series import SeriesEntry, frame_keys, group_series


class _Pair(NamedTuple):
    entry: int
    question: Question
    sources: tuple[FrameSource, FrameSource]


class Found(NamedTuple):
    """What comparing pixels found about one series."""

    answers: tuple[Answer, ...]
    """All that is known, also from before."""
    faults: dict[int, FrameNote]
    """Rows that cannot be decoded."""


def answer_questions(
    engine: Engine, entries: Sequence[SeriesEntry], options: Options, index: Index
) -> list[SeriesEntry]:
    """Compare the pixels that grouping asks about, and group again with the answers, until nothing is asked."""
    entries = list(entries)
    while found := compare_pixels(engine, entries, index):
        for number, (answers, faults) in found.items():
            frames, bad = entries[number].frames, entries[number].bad
            entries[number] = group_series(frames, options, answers, {**bad, **faults})
    return entries


def compare_pixels(engine: Engine, entries: Sequence[SeriesEntry], index: Index) -> dict[int, Found]:
    """Answer the open questions of series; return what was found by the place of each series that asked."""
    answers: dict[int, set[Answer]] = defaultdict(set)
    faults: dict[int, dict[int, FrameNote]] = defaultdict(dict)
    compare = partial(_compare, timeout_s=engine.task_timeout_s)
    for pair, result in map_tasks(compare, _pairs(entries, index), engine):
        comparison = _Comparison(False, (None, None)) if isinstance(result, Exception) else result
        answers[pair.entry].add(Answer(*pair.question, same_pixels=comparison.same))
        for row, fault in zip(pair.question, comparison.faults, strict=True):
            if fault is not None:
                (key,) = frame_keys(entries[pair.entry].frames, [row])
                faults[pair.entry][row] = FrameNote(*key, *map(str, fault))
    return {
        number: Found(tuple(sorted({*entries[number].answers, *new})), faults[number])
        for number, new in answers.items()
    }


def _pairs(entries: Sequence[SeriesEntry], index: Index) -> Iterator[_Pair]:
    from fastdcm.series.sources import frame_sources, source_facts

    for number, entry in enumerate(entries):
        if set(entry.grouping.questions) & {Question(*answer[:2]) for answer in entry.answers}:
            raise RuntimeError("grouping asks again what was answered")
        for question in entry.grouping.questions:
            rows = entry.frames.take(np.array([question.first, question.second]))
            first, second = frame_sources(rows, _PLAIN, source_facts(index, np.unique(rows.instance)))
            yield _Pair(number, question, (first, second))


class _Comparison(NamedTuple):
    same: bool
    faults: tuple[tuple[Code, str] | None, tuple[Code, str] | None]
    """Of each frame, why it cannot be decoded: a copy that is broken contradicts nothing."""


def _compare(pair: _Pair, timeout_s: float | None) -> _Comparison:
    """Compare in this process where nothing is to be decoded, else so that no frame can end it."""
    from fastdcm.pixels.read import needs_decoder
    from fastdcm.run.culprits import frame_limit_s

    if not any(map(needs_decoder, pair.sources)):
        return _compare_here(pair.sources)
    limit_s = timeout_s or max(frame_limit_s(source.format) for source in pair.sources)
    try:
        return call(_compare_marked, pair.sources, limit_s)
    except Lost:
        first, second = (_fault_of(source, limit_s) for source in pair.sources)
        return _Comparison(False, (first, second))


def _fault_of(source: FrameSource, limit_s: float) -> tuple[Code, str] | None:
    from fastdcm.run.culprits import reason_of, try_often

    found: list[tuple[Code, str] | None] = []
    lost = try_often(lambda: found.append(call(_find_fault_marked, source, limit_s)))
    return found[0] if lost is None else reason_of(lost)


def _compare_here(sources: tuple[FrameSource, FrameSource]) -> _Comparison:
    from fastdcm.pixels.read import find_fault, same_pixels

    if same_pixels(*sources):
        return _Comparison(True, (None, None))
    return _Comparison(False, (find_fault(sources[0]), find_fault(sources[1])))


def _compare_marked(sources: tuple[FrameSource, FrameSource], mark: Mark) -> _Comparison:
    mark(0, 0)
    return _compare_here(sources)


def _find_fault_marked(source: FrameSource, mark: Mark) -> tuple[Code, str] | None:
    from fastdcm.pixels.read import find_fault

    mark(0, 0)
    return find_fault(source)


_PLAIN = ValueRule("stored", "float64", None, 1, "", "", False, None, None, None, 0.0, False, False)
"""Comparing needs to know where frames are, not what their values mean."""
