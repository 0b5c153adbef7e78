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

ALWAYS_LOSSY = frozenset(f"1.2.840.10008.1.2.4.{number}" for number in (50, 51, 53, 55))
"""Transfer syntaxes that cannot be lossless, whatever (0028,2110) says."""
MAYBE_LOSSY = frozenset(f"1.2.840.10008.1.2.4.{number}" for number in (81, 91, 93, 112, 203))
"""Transfer syntaxes that are lossy unless (0028,2110) says 00."""

Copies = list[list[int]]
"""Rows (tiles) of one frame in each instance that has it, the preferred instance first."""


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
    """Decide which of the frames with one SOP Instance UID and frame number stays.

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
        dropped |= {row for tiles in instances for row in tiles} - set(found.kept.tolist())
    kept = rows[~np.isin(rows, np.fromiter(dropped, dtype=np.int64))]
    return Resolved(kept, tuple(decided), tuple(questions), frozenset(undecided), frozenset(conflicting))


def _copies(frames: Frames, rows: Ints) -> list[Copies]:
    """Return the frames that are in more than one instance."""
    if len(rows) < 2:
        return []
    uids, instances = frames.texts["sop_instance_uid"][rows], frames.instance[rows]
    if len(set(uids.tolist())) == len(np.unique(instances)):
        return []
    found: dict[tuple[str, int], dict[int, list[int]]] = {}
    for row, uid, frame, instance in zip(
        rows.tolist(), uids.tolist(), frames.frame[rows].tolist(), instances.tolist(), strict=True
    ):
        if uid is not None:
            found.setdefault((uid, frame), {}).setdefault(instance, []).append(row)
    return [
        sorted(by_instance.values(), key=lambda tiles: _preference(frames, tiles[0]))
        for by_instance in found.values()
        if len(by_instance) > 1
    ]


def is_lossy(frames: Frames, row: int) -> bool:
    """Tell whether a frame was compressed with loss."""
    syntax, flag = frames.texts["transfer_syntax"][row], (frames.texts["lossy"][row] or "").strip()
    return flag == "01" or syntax in ALWAYS_LOSSY or (syntax in MAYBE_LOSSY and flag != "00")


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


def _decide(frames: Frames, instances: Copies, told: Mapping[frozenset[int], bool], options: Options) -> Resolved:
    """Decide about the copies of one frame."""
    best, *others = instances
    decided: list[Decided] = []
    questions: list[Question] = []
    differing: Copies = []
    for other in others:
        same = told.get(frozenset((best[0], other[0])))
        if same is None:
            questions.append(Question(best[0], other[0]))
        elif same:
            decided += _all(other, Outcome.DUPLICATE, Code.SAME_PIXELS, "another file has this UID and these pixels")
        elif is_lossy(frames, other[0]) and not is_lossy(frames, best[0]):
            decided += _all(other, Outcome.DUPLICATE, Code.LOSSY_COPY, "another file has this image without loss")
        else:
            differing.append(other)
    winner = best
    conflicting: set[int] = set()
    if differing and options.on_conflict == "newest":
        winner = max([best, *differing], key=lambda tiles: _age(frames, tiles[0]))
        older = "another file has this UID, other pixels and a later date (--on-conflict newest)"
        for copy in [best, *differing]:
            decided += _all(copy, Outcome.DUPLICATE, Code.OLDER_COPY, older) if copy is not winner else []
    elif differing:
        conflicting = set(best)
        for copy in differing:
            decided += _all(copy, Outcome.CONFLICT, Code.PIXELS_DIFFER, CONFLICT_MESSAGE)
    undecided = frozenset(winner) if questions else frozenset()
    kept = np.asarray(winner, dtype=np.int64)
    return Resolved(kept, tuple(decided), tuple(questions), undecided, frozenset(conflicting))


CONFLICT_MESSAGE = (
    "another file has the same SOP Instance UID and other pixels; its volume is withheld, "
    "--on-conflict newest takes the later one"
)


def _all(rows: Sequence[int], outcome: Outcome, code: Code, message: str) -> list[Decided]:
    return [Decided(row, outcome, code, message) for row in rows]
