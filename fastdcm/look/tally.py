"""Two blocks of voxels against each other, counted exactly; counts of blocks add up to those of the volume.

Integers are subtracted in int64 (64-bit ones as Python integers) and added up as Python integers, so nothing overflows
whatever the types. With a float on either side both are float64, and the sums of blocks are added without rounding in
between (``math.fsum``), so the result does not depend on the order in which blocks finish.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Number = int | float

PIECE = 1 << 16
"""Voxels that are worked on at a time: they stay in the cache, and their squares below 2**44 add up within int64."""
_SPLIT = 17
"""Larger differences, of 32-bit integers, have less than 2 x 17 bits, and are squared in halves."""


class Overlap(NamedTuple):
    """Two masks against each other. Ratios of nothing (0 / 0) are None; SimpleITK gives inf or 1.8e308 there."""

    n_a: int
    """Voxels in the mask of A."""
    n_b: int
    n_both: int
    n_voxels: int
    """In all: only false positives need it."""

    @property
    def dice(self) -> float | None:
        """2 |A and B| / (|A| + |B|)."""
        return _ratio(2 * self.n_both, self.n_a + self.n_b)

    @property
    def jaccard(self) -> float | None:
        """|A and B| / |A or B|; SimpleITK's union overlap too."""
        return _ratio(self.n_both, self.n_a + self.n_b - self.n_both)

    @property
    def mean_overlap(self) -> float | None:
        """The same as Dice, under SimpleITK's second name."""
        return self.dice

    @property
    def volume_similarity(self) -> float | None:
        """2 (|A| - |B|) / (|A| + |B|): positive where A is larger."""
        return _ratio(2 * (self.n_a - self.n_b), self.n_a + self.n_b)

    @property
    def false_negative(self) -> float | None:
        """Share of B that A misses."""
        return _ratio(self.n_b - self.n_both, self.n_b)

    @property
    def false_positive(self) -> float | None:
        """Share of what is outside B that A holds."""
        return _ratio(self.n_a - self.n_both, self.n_voxels - self.n_b)

    @property
    def false_discovery(self) -> float | None:
        """Share of A that is outside B."""
        return _ratio(self.n_a - self.n_both, self.n_a)


class Tally(NamedTuple):
    """What comparing voxels found."""

    n_voxels: int = 0
    n_differing: int = 0
    """Voxels whose values differ; a NaN against a number is one, NaN against NaN is not."""
    n_nan_both: int = 0
    n_nan_one: int = 0
    largest: Number = 0
    """Largest absolute difference of two numbers."""
    largest_at: tuple[int, ...] | None = None
    """The first place in C order that has it; None where nothing differs."""
    distances: Number = 0
    """Sum of absolute differences of two numbers."""
    squares: Number = 0
    mask: tuple[int, int, int] = (0, 0, 0)
    """Voxels in the mask of A, of B, of both."""
    same_value: tuple[int, int, int] = (0, 0, 0)
    """Voxels other than 0 in A, in B, and of one value in both: each value as a label."""
    labels: Mapping[int, tuple[int, int, int]] = {}
    """As ``mask``, by label."""


class Masks(NamedTuple):
    """What counts as inside."""

    threshold: float | None = None
    """Values above it; None: values other than 0. NaN is never inside."""
    label_axis: int | None = None
    """Axis along which the masks of labels lie."""
    labels: tuple[int, ...] = ()
    """Of each index along it."""
    by_value: bool = False
    """Each value but 0 is a label of its own."""


def tally_block(a: Array, b: Array, corner: Sequence[int], masks: Masks) -> Tally:
    """Compare two blocks.

    Parameters
    ----------
    a, b : ndarray
        Of one shape, of any real types.
    corner : sequence of int
        Where the block begins in the volume.
    masks : Masks
        Which voxels are inside.

    Returns
    -------
    Tally
        With ``largest_at`` in indices of the volume.
    """
    if a.shape != b.shape:
        raise ValueError(f"blocks of shape {a.shape} and {b.shape}")
    if masks.label_axis is None:
        return merge(_tally_pieces(a, b, corner, masks, None))
    axis = masks.label_axis
    parts: list[Tally] = []
    for at in range(a.shape[axis]):
        cut = (slice(None),) * axis + (slice(at, at + 1),)
        begin = [*corner[:axis], corner[axis] + at, *corner[axis + 1 :]]
        parts += _tally_pieces(a[cut], b[cut], begin, masks, masks.labels[corner[axis] + at])
    return merge(parts)


def merge(tallies: Iterable[Tally]) -> Tally:
    """Add up: the same result for the same tallies in any order."""
    parts = list(tallies)
    largest = max((part.largest for part in parts), default=0)
    places = [part.largest_at for part in parts if part.largest_at is not None and part.largest == largest]
    labels: dict[int, tuple[int, int, int]] = {}
    for part in parts:
        for label, found in part.labels.items():
            labels[label] = _add([labels.get(label, (0, 0, 0)), found])
    return Tally(
        n_voxels=sum(part.n_voxels for part in parts),
        n_differing=sum(part.n_differing for part in parts),
        n_nan_both=sum(part.n_nan_both for part in parts),
        n_nan_one=sum(part.n_nan_one for part in parts),
        largest=largest,
        largest_at=min(places, default=None),
        distances=_total([part.distances for part in parts]),
        squares=_total([part.squares for part in parts]),
        mask=_add([part.mask for part in parts]),
        same_value=_add([part.same_value for part in parts]),
        labels=dict(sorted(labels.items())),
    )


def _tally_pieces(a: Array, b: Array, corner: Sequence[int], masks: Masks, label: int | None) -> Iterator[Tally]:
    flat_a, flat_b = a.reshape(-1), b.reshape(-1)
    for start in range(0, flat_a.size, PIECE):
        found = _tally_piece(flat_a[start : start + PIECE], flat_b[start : start + PIECE], masks, label)
        if found.largest_at is not None:
            place = np.unravel_index(start + found.largest_at[0], a.shape)
            found = found._replace(largest_at=tuple(low + int(at) for low, at in zip(corner, place, strict=True)))
        yield found


def _tally_piece(a: Array, b: Array, masks: Masks, label: int | None) -> Tally:
    """Compare two runs of voxels; ``largest_at`` counts within them."""
    same = np.asarray(a == b)  # by value: NumPy takes float64 where float32 would round, int64 and uint64 as they are
    inside = (_inside(a, masks.threshold), _inside(b, masks.threshold))
    filled = inside if masks.threshold is None else (_inside(a, None), _inside(b, None))
    mask = _overlap(*inside, inside[0] & inside[1])
    labels: dict[int, tuple[int, int, int]] = {} if label is None else {label: mask}
    if masks.by_value:
        labels = _by_value(a, b, same)
    nan_a, nan_b = _is_nan(a), _is_nan(b)
    n_nan_both = 0 if nan_a is None or nan_b is None else int(np.count_nonzero(nan_a & nan_b))
    n_nan_one = sum(int(np.count_nonzero(nan)) for nan in (nan_a, nan_b) if nan is not None) - 2 * n_nan_both
    found = Tally(
        n_voxels=a.size,
        n_differing=a.size - int(np.count_nonzero(same)) - n_nan_both,
        n_nan_both=n_nan_both,
        n_nan_one=n_nan_one,
        mask=mask,
        same_value=_overlap(*filled, filled[0] & same),
        labels=labels,
    )
    return _with_distances(found, a, b) if found.n_differing else found


def _with_distances(found: Tally, a: Array, b: Array) -> Tally:
    if a.dtype.kind == "f" or b.dtype.kind == "f":
        far = _float_distance(a, b)
        with np.errstate(over="ignore"):
            distances, squares = float(far.sum()), float(np.square(far).sum())
    else:
        far = _integer_distance(a, b)
        distances, squares = int(far.sum()), _square_sum(far)
    at = int(far.argmax())
    largest: Number = far[at].item() if isinstance(far[at], np.generic) else far[at]
    return found._replace(largest=largest, largest_at=(at,) if largest else None, distances=distances, squares=squares)


def _float_distance(a: Array, b: Array) -> Array:
    """Return |a - b| in float64; 0 where both are the same infinity, and where either is NaN."""
    with np.errstate(invalid="ignore", over="ignore"):
        far: Array = np.abs(a.astype(np.float64) - b.astype(np.float64))
    far[np.isnan(far)] = 0
    return far


def _integer_distance(a: Array, b: Array) -> Array:
    """Return |a - b|, as Python integers where either has 64 bits."""
    wide = np.dtype(object) if max(a.dtype.itemsize, b.dtype.itemsize) > 4 else np.dtype(np.int64)
    far: Array = np.abs(a.astype(wide) - b.astype(wide))
    return far


def _square_sum(far: Array) -> int:
    """Return the exact sum of squares of at most ``PIECE`` differences of at least 0."""
    if far.dtype != object and int(far.max()) >> 22:
        high, low = far >> _SPLIT, far & ((1 << _SPLIT) - 1)
        parts = [int(np.dot(*pair)) for pair in ((high, high), (high, low), (low, low))]
        return (parts[0] << 2 * _SPLIT) + (parts[1] << _SPLIT + 1) + parts[2]
    return int(np.dot(far, far))


def _inside(values: Array, threshold: float | None) -> Array:
    if threshold is None:
        nan = _is_nan(values)
        filled = values != 0
        return np.asarray(filled if nan is None else filled & ~nan)
    if values.dtype.kind == "f":
        return np.asarray(values > np.float64(threshold))
    return np.asarray(values > math.floor(threshold))


def _is_nan(values: Array) -> Array | None:
    """Return where values are NaN, None where no value is."""
    if values.dtype.kind != "f":
        return None
    nan: Array = np.isnan(values)
    return nan if nan.any() else None


def _by_value(a: Array, b: Array, same: Array) -> dict[int, tuple[int, int, int]]:
    columns = []
    for values in (a, b, a[same]):
        labels, counts = np.unique(values[values != 0], return_counts=True)
        columns.append(dict(zip(labels.tolist(), counts.tolist(), strict=True)))
    every = sorted({label for column in columns for label in column})
    return {int(label): _triple([column.get(label, 0) for column in columns]) for label in every}


def _overlap(a: Array, b: Array, both: Array) -> tuple[int, int, int]:
    return _triple([int(np.count_nonzero(one)) for one in (a, b, both)])


def _add(triples: Sequence[tuple[int, int, int]]) -> tuple[int, int, int]:
    return _triple([sum(column) for column in zip(*triples, strict=True)] or [0, 0, 0])


def _triple(values: Sequence[int]) -> tuple[int, int, int]:
    first, second, third = values
    return first, second, third


def _total(parts: Sequence[Number]) -> Number:
    """Add up exactly: integers as they are, floats rounded once."""
    if all(isinstance(part, int) for part in parts):
        return sum(parts)
    try:
        return math.fsum(parts)
    except OverflowError:
        return math.inf


def _ratio(part: int, whole: int) -> float | None:
    return part / whole if whole else None
