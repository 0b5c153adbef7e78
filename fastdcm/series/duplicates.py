"""Same SOP Instance UID twice in a series: which copy is kept, what must be asked, what is in conflict.

Grouping never reads pixels. It asks whether two frames have the same pixels, and is run again with the answers.
Images with different UIDs are never duplicates, whatever their pixels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from fastdcm.errors import Code, Outcome
from fastdcm.model import Answer, Decided, Frames, Ints, Options, Question
from fastdcm.series.values import is_lossy_compression

Copy = dict[int, list[int]]
"""Rows (one, or a mosaic's tiles) of each frame number of one instance."""
Copies = list[Copy]
"""The instances that have one SOP Instance UID, the preferred one first."""


class Resolved(NamedTuple):
    """What became of frames that are there more than once."""

    kept: Ints
    """Rows that go on to grouping."""
    decided: tuple[Decided, ...]
    questions: tuple[Question, ...]
    undecided: frozenset[int]
    """Kept rows with an open question."""
    conflicting: frozenset[int]
    """Kept rows whose copy has other pixels: their volume is withheld."""


def resolve_copies(frames: Frames, rows: Ints, options: Options, answers: Sequence[Answer]) -> Resolved:
    """Decide which of the instances with one SOP Instance UID stays.

    A UID names an instance, so an instance is a copy of another as a whole: the same frames, each with the same pixels.

    Parameters
    ----------
    frames : Frames
        All frames of the series.
    rows : ndarray
        Those that take part.
    options : Options
        ``on_conflict``.
    answers : sequence of Answer
        What earlier questions found.
    """
    copies = _copies(frames, rows)
    if not copies:
        return Resolved(rows, (), (), frozenset(), frozenset())
    told = {frozenset((a.first, a.second)): a.same_pixels for a in answers}
    decided: list[Decided] = []
    questions: list[Question] = []
    undecided: set[int] = set()
    conflicting: set[int] = set()
    dropped: set[int] = set()
    for instances in copies:
        found = _decide(frames, instances, told, options)
        decided += found.decided
        questions += found.questions
        undecided |= found.undecided
        conflicting |= found.conflicting
        dropped |= {row for copy in instances for row in _rows(copy)} - set(found.kept.tolist())
    kept = rows[~np.isin(rows, np.fromiter(dropped, dtype=np.int64))]
    return Resolved(kept, tuple(decided), tuple(questions), frozenset(undecided), frozenset(conflicting))


def _copies(frames: Frames, rows: Ints) -> list[Copies]:
    """Return the UIDs that more than one instance has."""
    if len(rows) < 2:
        return []
    uids, instances = frames.texts["sop_instance_uid"][rows], frames.instance[rows]
    if len(set(uids.tolist())) == len(set(instances.tolist())):
        return []
    found: dict[str, dict[int, Copy]] = {}
    for row, uid, frame, instance in zip(
        rows.tolist(), uids.tolist(), frames.frame[rows].tolist(), instances.tolist(), strict=True
    ):
        if uid is not None:
            found.setdefault(uid, {}).setdefault(instance, {}).setdefault(frame, []).append(row)
    return [
        sorted(by_instance.values(), key=lambda copy: _preference(frames, _rows(copy)[0]))
        for by_instance in found.values()
        if len(by_instance) > 1
    ]


def _rows(copy: Copy) -> list[int]:
    return [row for tiles in copy.values() for row in tiles]


def is_lossy(frames: Frames, row: int) -> bool:
    """Tell whether a frame was compressed with loss."""
    return is_lossy_compression(frames.texts["transfer_syntax"][row], frames.texts["lossy"][row])


def _preference(frames: Frames, row: int) -> tuple[bool, str, str, float, int]:
    """Return the key by which copies are preferred: lossless, then the oldest; file order only as a last resort."""
    texts = frames.texts
    date, time = texts["instance_date"][row] or "", texts["creation_time"][row] or ""
    return is_lossy(frames, row), date, time, frames.numbers["size"][row], int(frames.instance[row])


def _age(frames: Frames, row: int) -> tuple[str, str, str, float]:
    """Return the key by which one copy is newer than another."""
    texts, content_time = frames.texts, frames.numbers["content_time"][row]
    date, time = texts["instance_date"][row] or "", texts["creation_time"][row] or ""
    return date, time, texts["content_date"][row] or "", content_time if content_time == content_time else -1.0


def _compared(
    frames: Frames, one: Copy, other: Copy, told: Mapping[frozenset[int], bool]
) -> tuple[bool, list[Question]]:
    """Tell whether two instances may still be the same, and which frames must be compared to know.

    An instance with more frames has other pixels. Frames that take no part (they cannot be decoded) are not compared.
    """
    first, second = _rows(one)[0], _rows(other)[0]
    if frames.numbers["n_frames"][first] != frames.numbers["n_frames"][second]:
        return False, []
    pairs = [(one[number][0], other[number][0]) for number in one.keys() & other.keys()]
    answers = {pair: told.get(frozenset(pair)) for pair in sorted(pairs)}
    return False not in answers.values(), [Question(*pair) for pair, same in answers.items() if same is None]


def _decide(frames: Frames, instances: Copies, told: Mapping[frozenset[int], bool], options: Options) -> Resolved:
    """Decide about the instances of one UID."""
    best, *others = instances
    decided: list[Decided] = []
    questions: list[Question] = []
    differing: Copies = []
    for other in others:
        same, open_questions = _compared(frames, best, other, told)
        if same and open_questions:
            questions += open_questions
        elif same:
            decided += _all(other, Outcome.DUPLICATE, Code.SAME_PIXELS, "another file has this UID and these pixels")
        elif is_lossy(frames, _rows(other)[0]) and not is_lossy(frames, _rows(best)[0]):
            decided += _all(other, Outcome.DUPLICATE, Code.LOSSY_COPY, "another file has this image without loss")
        else:
            differing.append(other)
    winner = best
    conflicting: set[int] = set()
    if differing and options.on_conflict == "newest":
        winner = max([best, *differing], key=lambda copy: _age(frames, _rows(copy)[0]))
        older = "another file has this UID, other pixels and a later date (--on-conflict newest)"
        for copy in [best, *differing]:
            decided += _all(copy, Outcome.DUPLICATE, Code.OLDER_COPY, older) if copy is not winner else []
    elif differing:
        conflicting = set(_rows(best))
        for copy in differing:
            decided += _all(copy, Outcome.CONFLICT, Code.PIXELS_DIFFER, CONFLICT_MESSAGE)
    kept = np.asarray(_rows(winner), dtype=np.int64)
    undecided = frozenset(_rows(winner)) if questions else frozenset()
    return Resolved(kept, tuple(decided), tuple(questions), undecided, frozenset(conflicting))


CONFLICT_MESSAGE = (
    "another file has the same SOP Instance UID and other pixels; its volume is withheld, "
    "--on-conflict newest takes the later one"
)


def _all(copy: Copy, outcome: Outcome, code: Code, message: str) -> list[Decided]:
    return [Decided(row, outcome, code, message) for row in _rows(copy)]
