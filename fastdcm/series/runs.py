"""Interrupted runs: which images belong to one step where positions have unequally many. Pure, on arrays.

A *slot* is a position, or a position and its channel. A step holds at most one image of a slot, a complete one holds
all. No step is ever made by counting within a slot: behind a missing image the counts of other slots mean other runs.
"""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

import numpy as np

from fastdcm.model import Floats, Ints

SEAM = 1.5
"""The pause between runs is clear where it is so many times the longest between two images of a run."""
BAND_REACH = 0.25
"""A value belongs to the nearest band if it is nearer than this share of the space between bands."""


class Steps(NamedTuple):
    """A step for each image."""

    step: Ints
    """(n,) labels that ascend in the order of acquisition."""
    doubtful: bool = False
    """Other steps would fit as well, and nothing in the headers decides."""


def is_distinct(slot: Ints, step: Ints) -> bool:
    """Tell whether no step holds a slot twice."""
    return len(np.unique(slot * (int(step.max()) + 1) + step)) == len(slot)


def count_complete(slot: Ints, step: Ints) -> int:
    """Return how many steps hold every slot; no step holds one twice."""
    return int((np.bincount(step) == int(slot.max()) + 1).sum())


def _fits(slot: Ints, step: Ints) -> bool:
    """Tell whether a step holds no slot twice, and at least half of what the fullest slot has are complete steps."""
    return is_distinct(slot, step) and 2 * count_complete(slot, step) >= int(np.bincount(slot).max())


def by_value(slot: Ints, code: Ints) -> Steps | None:
    """Take each value of a tag as a step, where the values agree over the slots.

    They do if there are as many as the fullest slot has images, or if most of them are complete steps.

    Parameters
    ----------
    slot, code : ndarray
        (n,) labels from 0, and the rank of the tag's value.
    """
    all_there = int(code.max()) + 1 == int(np.bincount(slot).max()) and is_distinct(slot, code)
    return Steps(code) if all_there or _fits(slot, code) else None


def by_scheme(slot: Ints, number: Floats) -> Steps | None:
    """Take Instance Numbers that count slots within steps, or steps within slots: from 1, with holes for lost images.

    Parameters
    ----------
    slot : ndarray
        (n,) labels from 0.
    number : ndarray
        (n,) Instance Number (0020,0013).
    """
    slots, most = int(slot.max()) + 1, int(np.bincount(slot).max())
    if np.isnan(number).any() or number.min() > slots:
        return None
    first = min(1, int(number.min()))
    offset = (number - first).astype(np.int64)
    step, place = np.divmod(offset, slots)
    if same_parts(place, slot) and is_distinct(slot, step):
        shifted = (number - number.min()).astype(np.int64) // slots
        rivals = is_distinct(slot, shifted) and count_complete(slot, shifted) > count_complete(slot, step)
        return None if rivals else Steps(step)
    place, step = np.divmod(offset, most)
    return Steps(step) if same_parts(place, slot) and is_distinct(slot, step) else None


def same_parts(one: Ints, other: Ints) -> bool:
    """Tell whether two labellings part the images alike."""
    pairs = len(np.unique(np.stack([one, other], axis=1), axis=0))
    return pairs == len(np.unique(one)) == len(np.unique(other))


def by_sequence(slot: Ints, value: Floats) -> Steps | None:
    """Cut images in the order of a time or a number into runs.

    All runs go through the slots in one order, which complete ones show: a run ends where that order begins again, or
    where more than half a period is missing between two images. Where in the cycle a run begins is told by the pause
    between runs, else by the number of complete runs.

    Parameters
    ----------
    slot : ndarray
        (n,) labels from 0.
    value : ndarray
        (n,) time or number.

    Returns
    -------
    Steps or None
        None where there is no such order. Doubtful where runs could as well begin elsewhere.
    """
    if np.isnan(value).any():
        return None
    order = np.lexsort((slot, value))
    sequence, when = slot[order], value[order]
    windows = _complete_windows(sequence)
    if not len(windows):
        return None
    pauses = _pauses(sequence, when, windows[0])
    first, clear = _first_slot(sequence, windows, pauses)
    in_order = np.roll(windows[0], -int(np.flatnonzero(windows[0] == first)[0]))
    place, since_first = np.empty(len(pauses), dtype=np.int64), np.empty(len(pauses))
    place[in_order] = np.arange(len(place))
    since_first[in_order] = np.append(0.0, np.cumsum(pauses[in_order[1:]]))
    moved, expected = np.diff(place[sequence]), np.diff(since_first[sequence])
    ends = (moved <= 0) | (np.diff(when) - expected > pauses.sum() / 2)
    step = np.empty(len(slot), dtype=np.int64)
    step[order] = np.append(0, np.cumsum(ends))
    return Steps(step, not clear) if _fits(slot, step) else None


def _complete_windows(sequence: Ints) -> list[Ints]:
    """Return the runs of images that hold every slot once, of the cyclic order that most of them have."""
    slots = int(sequence.max()) + 1
    order = np.lexsort((np.arange(len(sequence)), sequence))
    previous = np.full(len(sequence), -1, dtype=np.int64)
    again = sequence[order][1:] == sequence[order][:-1]
    previous[order[1:][again]] = order[:-1][again]
    last = np.arange(len(sequence))
    ends = np.flatnonzero((np.maximum.accumulate(previous) <= last - slots) & (last >= slots - 1))
    windows = [sequence[end - slots + 1 : end + 1] for end in ends.tolist()]
    cycles = [hash(np.roll(window, -int(np.argmin(window))).tobytes()) for window in windows]
    if not cycles:
        return []
    (common, _), *_ = Counter(cycles).most_common(1)
    return [window for window, cycle in zip(windows, cycles, strict=True) if cycle == common]


def _pauses(sequence: Ints, when: Floats, cycle: Ints) -> Floats:
    """Return the median time before each slot since the one before it in the cycle, (slots,); NaN where unseen."""
    turn = np.empty(len(cycle), dtype=np.int64)
    turn[cycle] = np.arange(len(cycle))
    follows = (turn[sequence[1:]] - turn[sequence[:-1]]) % len(cycle) == 1 % len(cycle)
    after, waited = sequence[1:][follows], np.diff(when)[follows]
    order = np.lexsort((waited, after))
    after, waited = after[order], waited[order]
    present, start, count = np.unique(after, return_index=True, return_counts=True)
    pauses = np.full(len(cycle), np.nan)
    pauses[present] = waited[start + count // 2]
    return pauses


def _first_slot(sequence: Ints, windows: list[Ints], pauses: Floats) -> tuple[int, bool]:
    """Return the slot with which runs begin, and whether that is clear."""
    known = np.sort(pauses[~np.isnan(pauses)])
    if len(known) == len(pauses) and len(known) > 1 and known[-1] > SEAM * known[-2]:
        return int(np.nanargmax(pauses)), True
    counts = np.bincount([int(window[0]) for window in windows], minlength=len(pauses))
    best = np.flatnonzero(counts == counts.max()).tolist()
    start = int(sequence[0]) if int(sequence[0]) in best else int(best[0])
    return start, len(best) == 1 and int(counts.max()) > 1


def by_bands(slot: Ints, value: Floats) -> Steps | None:
    """Take bands of values that lie apart: what trigger times are that differ a little from slice to slice.

    The bands are those of the slots that have all images; every other value must lie clearly at one of them.

    Parameters
    ----------
    slot : ndarray
        (n,) labels from 0.
    value : ndarray
        (n,) time.
    """
    counts = np.bincount(slot)
    most = int(counts.max())
    if np.isnan(value).any() or most < 2:
        return None
    order = np.lexsort((value, slot))
    table = value[order][counts[slot[order]] == most].reshape(-1, most)
    low, high = table.min(axis=0), table.max(axis=0)
    between = low[1:] - high[:-1]
    if len(table) < 2 or between.min() <= max(0.0, float((high - low).max())):
        return None
    reach = BAND_REACH * float(between.min())
    step = np.maximum(np.searchsorted(low - reach, value, side="right") - 1, 0)
    inside = (value >= low[step] - reach) & (value <= high[step] + reach)
    return Steps(step) if inside.all() and is_distinct(slot, step) else None
