"""What comparing two volumes found, for programs, machines and terminals."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from fastdcm.look.place import Difference, value_text
from fastdcm.look.tally import Number, Overlap
from fastdcm.look.terminal import clean, count_text
from fastdcm.model import Json

LABEL = 21
LISTED = 20
"""Labels that are printed before the rest is counted; ``as_json`` has them all."""
RATIOS = ("dice", "jaccard", "mean_overlap", "volume_similarity", "false_negative", "false_positive", "false_discovery")
COUNTS = ("n_a", "n_b", "n_both")


@dataclass(frozen=True, slots=True)
class Comparison:
    """What comparing two volumes found. A number that there is none of (0 / 0, no voxel) is None."""

    axes: str
    shape: tuple[int, ...]
    dtypes: tuple[str, str]
    """Of A and of B; values are compared, not types."""
    n_voxels: int
    n_differing: int
    n_nan_both: int
    """Voxels that are NaN in A and in B: they count as equal."""
    n_nan_one: int
    """Voxels that are NaN in one of them: they differ. Neither kind has a part in the next five."""
    max_abs_difference: Number | None
    """int for integer types, else float."""
    max_index: tuple[int, ...] | None
    """The first voxel, in C order, that differs so much, one index an axis; None where no two numbers differ."""
    max_mm: tuple[float, float, float] | None
    """Its centre, mm LPS, by the geometry of A; None where that is unknown."""
    mae: float | None
    """Mean absolute difference."""
    mse: float | None
    """Mean squared difference."""
    threshold: float | None
    """The masks are where values are above it; None: where they are not 0."""
    mask: Overlap
    same_value: Overlap
    """Each value but 0 as a label of its own: SimpleITK's totals over all labels of images that are no masks."""
    labels: Mapping[int, Overlap] = field(default_factory=dict)
    """By segment number, or value of a label map, where both are segmentations."""
    geometry_differences: tuple[Difference, ...] = ()
    """Not empty only with ``ignore_geometry``."""
    notes: tuple[str, ...] = ()
    """What else to know, in plain sentences."""

    @property
    def equal(self) -> bool:
        """Whether every voxel has the same value in A and B."""
        return not self.n_differing

    @property
    def share_differing(self) -> float:
        """Share of the voxels that differ, 0 to 1."""
        return self.n_differing / self.n_voxels

    @property
    def n_a(self) -> int:
        """Voxels in the mask of A."""
        return self.mask.n_a

    @property
    def n_b(self) -> int:
        """Voxels in the mask of B."""
        return self.mask.n_b

    @property
    def dice(self) -> float | None:
        """2 |A and B| / (|A| + |B|)."""
        return self.mask.dice

    @property
    def jaccard(self) -> float | None:
        """|A and B| / |A or B|."""
        return self.mask.jaccard

    @property
    def mean_overlap(self) -> float | None:
        """Dice, under SimpleITK's second name."""
        return self.mask.mean_overlap

    @property
    def volume_similarity(self) -> float | None:
        """2 (|A| - |B|) / (|A| + |B|)."""
        return self.mask.volume_similarity

    @property
    def false_negative(self) -> float | None:
        """Share of B's mask that A's misses."""
        return self.mask.false_negative

    @property
    def false_positive(self) -> float | None:
        """Share of what is outside B's mask that A's holds."""
        return self.mask.false_positive

    def as_json(self) -> Json:
        """Return everything for machines; an infinite number is the text ``inf``, and what is undefined None."""
        document: Json = {
            "equal": self.equal,
            "axes": self.axes,
            "shape": list(self.shape),
            "dtypes": list(self.dtypes),
            "n_voxels": self.n_voxels,
            "n_differing": self.n_differing,
            "share_differing": self.share_differing,
            "n_nan_both": self.n_nan_both,
            "n_nan_one": self.n_nan_one,
            "max_abs_difference": self.max_abs_difference,
            "max_index": None if self.max_index is None else list(self.max_index),
            "max_mm": None if self.max_mm is None else list(self.max_mm),
            "mae": self.mae,
            "mse": self.mse,
            "threshold": self.threshold,
            **_overlap_json(self.mask),
            "same_value": {
                name: value for name, value in _overlap_json(self.same_value).items() if name[:5] != "false"
            },
            "labels": {str(label): _overlap_json(overlap) for label, overlap in self.labels.items()},
            "geometry_differences": [{"what": one.what, "a": one.a, "b": one.b} for one in self.geometry_differences],
            "notes": list(self.notes),
        }
        return {
            name: "inf" if isinstance(value, float) and math.isinf(value) else value for name, value in document.items()
        }


def _overlap_json(overlap: Overlap, ratios: Sequence[str] = RATIOS) -> Json:
    return {name: getattr(overlap, name) for name in (*COUNTS, *ratios)}


# ---------------------------------------------------------------------------- for a terminal


def comparison_lines(comparison: Comparison, width: int = 80) -> Iterator[str]:
    """Yield a comparison as text, no line wider than ``width``."""
    for label, text in _rows(comparison):
        yield from textwrap.wrap(
            f"{label:<{LABEL}}{text}" if label else text,
            max(width, 40),
            subsequent_indent=" " * LABEL if label else "  ",
            break_on_hyphens=False,
        )


def _rows(found: Comparison) -> Iterator[tuple[str, str]]:
    shape = "x".join(map(str, found.shape))
    types = found.dtypes[0] if len(set(found.dtypes)) == 1 else " against ".join(found.dtypes)
    yield "voxels", f"{found.n_voxels} ({found.axes} {shape}, {types})"
    yield "equal", "yes" if found.equal else "no"
    yield "differing", f"{found.n_differing} ({100 * found.share_differing:.4g} %)"
    yield "largest difference", _number(found.max_abs_difference) + _where(found)
    yield "mean abs. difference", f"{_number(found.mae)} (MAE)"
    yield "mean sq. difference", f"{_number(found.mse)} (MSE)"
    if found.n_nan_both or found.n_nan_one:
        yield (
            "not a number",
            f"{found.n_nan_both} in both (equal), {found.n_nan_one} in one (differing); not in the means",
        )
    yield from _overlap_rows(found)
    for difference in found.geometry_differences:
        yield "geometry differs", clean(difference)
    for note in found.notes:
        yield "note", clean(note)


def _overlap_rows(found: Comparison) -> Iterator[tuple[str, str]]:
    meaning = "values other than 0" if found.threshold is None else f"values above {found.threshold:g}"
    mask = found.mask
    yield "mask", f"{meaning}: {mask.n_a} in A, {mask.n_b} in B, {mask.n_both} in both"
    yield "  Dice, Jaccard", f"{_number(mask.dice)}, {_number(mask.jaccard)} (mean overlap is Dice)"
    yield "  volume similarity", _number(mask.volume_similarity)
    errors = f"{_number(mask.false_negative)} of B missed, {_number(mask.false_positive)} of the rest taken"
    yield "  false neg., pos.", errors
    for label, overlap in list(found.labels.items())[:LISTED]:
        counts = f"{overlap.n_a} in A, {overlap.n_b} in B, {overlap.n_both} in both"
        yield f"label {label}", f"Dice {_number(overlap.dice)}, Jaccard {_number(overlap.jaccard)}: {counts}"
    if len(found.labels) > LISTED:
        yield "", f"and {count_text(len(found.labels) - LISTED, 'label')} more; --json has them all"
    if not found.labels and found.same_value != found.mask:
        same = found.same_value
        ratios = f"Dice {_number(same.dice)}, Jaccard {_number(same.jaccard)}"
        yield "values as labels", f"{ratios}: {same.n_both} of one value, not 0, in both"


def _where(found: Comparison) -> str:
    if found.max_index is None:
        return ""
    place = f" at {found.axes}[{', '.join(map(str, found.max_index))}]"
    return place if found.max_mm is None else f"{place} = {value_text(found.max_mm)} mm LPS (x, y, z)"


def _number(value: Number | None) -> str:
    if value is None:
        return "undefined"
    return str(value) if isinstance(value, int) else f"{value:.6g}"
