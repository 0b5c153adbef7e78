"""The questions of grouping: two files have one SOP Instance UID, and do they have the same pixels."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from fastdcm.errors import Code
from fastdcm.model import Answer, FrameSource, Index, Options, Question, ValueRule
from fastdcm.run.execute import Engine, map_tasks
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
    for pair, result in map_tasks(_compare, _pairs(entries, index), engine):
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


def _compare(pair: _Pair) -> _Comparison:
    from fastdcm.pixels.read import find_fault, same_pixels

    if same_pixels(*pair.sources):
        return _Comparison(True, (None, None))
    first, second = pair.sources
    return _Comparison(False, (find_fault(first), find_fault(second)))


_PLAIN = ValueRule("stored", "float64", None, 1, "", "", False, None, None, None, 0.0, False, False)
"""Comparing needs to know where frames are, not what their values mean."""
