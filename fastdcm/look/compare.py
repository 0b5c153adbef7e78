"""Two volumes voxel by voxel: how far apart their values are, and how their masks overlap.

Exact: integers are never wrapped, floats are float64 (``look.tally``). Streamed: a few blocks are in memory at a time.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import closing
from typing import NamedTuple

from fastdcm.errors import UsageError
from fastdcm.look.comparison import Comparison as Comparison
from fastdcm.look.comparison import comparison_lines as comparison_lines
from fastdcm.look.place import Difference, geometry_differences, is_nowhere, place_mm
from fastdcm.look.tally import Masks, Overlap, Tally, merge, tally_block
from fastdcm.look.voxels import BlockTask, Target, Voxels, cut_blocks, find_voxels, read, widened
from fastdcm.model import Options, Resources
from fastdcm.run.execute import SHARDS_A_WORKER, Engine, fit_memory, map_tasks, start_engine
from fastdcm.run.options import check_options
from fastdcm.run.progress import Callback, Progress, silent

BLOCK_BYTES = 32 * 2**20
"""Of A and B together, where chunks and planes are not larger: enough to hide what reading a block costs."""
Sides = tuple[Voxels, Voxels]


def compare(
    a: Target,
    b: Target,
    *,
    threshold: float | None = None,
    ignore_geometry: bool = False,
    workers: int | None = None,
    memory: int | None = None,
    progress: Callback | None = None,
) -> Comparison:
    """Compare the voxels of two volumes, of stores or straight from DICOM.

    Parameters
    ----------
    a, b : path or Volume
        ``STORE/volume-path``, ``STORE#WHICH``, ``FOLDER#WHICH``, a DICOM file, or a folder with one volume. WHICH is a
        Series Instance UID or the end of one, ``UID/n``, or an SQL expression over the columns of ``scan``. DICOM files
        give the values that a store of them would hold.
    threshold : float, optional
        The masks are where values are above it (not at it); the default is where they are not 0. NaN is in no mask.
    ignore_geometry : bool
        Compare also where the volumes lie in different places, or one of them nobody knows where. Where that is
        unknown of both, they are compared index by index, and a note says so.
    workers : int, optional
        Blocks at the same time; the default is one a core.
    memory : int, optional
        Bytes that may be used for voxels; the default is 60 % of the machine. One layer of chunks is always held.
    progress : callable, optional
        Called with ``Progress`` while headers are read (scan), and for each block (compare).

    Returns
    -------
    Comparison
        Differences are exact for integers of any type, and float64 where either side has floats; overlaps are those
        of SimpleITK's ``LabelOverlapMeasuresImageFilter(A, B)``.

    Raises
    ------
    UsageError
        A or B is not exactly one volume; the shapes differ; the geometry differs beyond ``Tolerances`` (cosines of
        the direction 0.001, spacing 0.01 %, positions 0.01 mm, another frame of reference), or only one has any.
    SourceError
        A DICOM file cannot be read or decoded.
    CheckError
        A store has lost a part of the volume.

    Examples
    --------
    >>> found = compare("export#kernel == 'STANDARD' and spacing_z < 2", "export#kernel == 'LUNG' and spacing_z < 2")
    >>> found.equal
    False
    >>> found.n_differing <= found.n_voxels and found.mae > 0
    True
    >>> lung = "kernel == 'LUNG' and spacing_z < 2"
    >>> compare(f"export#{lung}", f"out.zarr#{lung}").equal  # the files against the store that was made of them
    True
    """
    resources = Resources(workers=workers, memory_bytes=memory)
    check_options(Options(), resources)
    if threshold is not None and not math.isfinite(threshold):
        raise UsageError(f"the threshold is {threshold}, and must be a finite number")
    with start_engine(resources) as engine:
        show = progress or silent
        first, second = find_voxels(engine, (a, b), show)
        differences = _check_grids(first, second, ignore_geometry)
        masks, notes = _masks(first, second, threshold)
        tally, sides = _tally(engine, (first, second), masks, show)
    return _comparison(tally, sides, masks, differences, notes)


# ---------------------------------------------------------------------------- may they be compared?


def _check_grids(a: Voxels, b: Voxels, ignore_geometry: bool) -> tuple[Difference, ...]:
    """Refuse what cannot be compared voxel by voxel; return the differences that were allowed."""
    if (a.axes, a.shape) != (b.axes, b.shape):
        shapes = (f"{side.axes} {'x'.join(map(str, side.shape))}" for side in (a, b))
        raise UsageError(f"the shapes differ: {' against '.join(shapes)}; only volumes of one shape can be compared")
    differences = tuple(geometry_differences(a, b))
    if differences and not ignore_geometry:
        listed = "\n".join(f"  {one}" for one in differences)
        raise UsageError(
            f"the volumes are not known to lie in the same place:\n{listed}\n"
            "to compare them voxel by voxel all the same: --ignore-geometry"
        )
    return differences


def _masks(a: Voxels, b: Voxels, threshold: float | None) -> tuple[Masks, tuple[str, ...]]:
    """Return what counts as inside, and what a reader of the result must know."""
    notes = ["neither A nor B says where in the patient it is; compared index by index"] if is_nowhere(a, b) else []
    if a.meaning != b.meaning:
        notes.append(f"A holds {a.meaning} values, B {b.meaning} values")
    masks = Masks(threshold)
    if a.kind == b.kind == "segmentation":
        if a.segments != b.segments:
            notes.append("the segments of A and B have different numbers, so there are no overlaps by segment")
        elif a.segments:
            masks = Masks(threshold, a.axes.index("c"), a.segments)
        elif all(side.dtype.kind in "iu" and side.dtype.itemsize <= 2 for side in (a, b)):
            masks = Masks(threshold, by_value=True)
    return masks, tuple(notes)


# ---------------------------------------------------------------------------- all blocks


class _Pair(NamedTuple):
    """One block of both volumes."""

    blocks: tuple[BlockTask, BlockTask]
    masks: Masks


class _TooNarrowError(Exception):
    """A value of a side (0 or 1) does not fit its planned type."""

    def __init__(self, side: int) -> None:
        super().__init__(side)
        self.side = side


def _tally(engine: Engine, sides: Sides, masks: Masks, show: Callback) -> tuple[Tally, Sides]:
    """Compare all blocks; begin again in the wider type where a value does not fit the planned one."""
    try:
        return merge(_shown(_tallies(engine, sides, masks), sides, show)), sides
    except _TooNarrowError as error:
        narrow = error.side
    first, second = (widened(side) if number == narrow else side for number, side in enumerate(sides))
    return _tally(engine, (first, second), masks, show)


def _shown(tallies: Iterator[Tally], sides: Sides, show: Callback) -> Iterator[Tally]:
    """Pass tallies on, and tell how many bytes of voxels of A and B they are."""
    voxel_bytes = sum(side.dtype.itemsize for side in sides)
    total, done = voxel_bytes * math.prod(sides[0].shape), 0
    show(Progress("compare", bytes_total=total))
    for tally in tallies:
        yield tally
        done += voxel_bytes * tally.n_voxels
        show(Progress("compare", bytes=done, bytes_total=total))


def _tallies(engine: Engine, sides: Sides, masks: Masks) -> Iterator[Tally]:
    lengths, block_bytes = _block_lengths(sides, min(BLOCK_BYTES, engine.memory_bytes // SHARDS_A_WORKER))
    fitting, _ = fit_memory(engine, block_bytes)
    blocks = zip(*(cut_blocks(side, lengths) for side in sides), strict=True)
    pairs = (_Pair(pair, masks) for pair in blocks)
    with closing(map_tasks(_tally_pair, pairs, fitting)) as results:  # type: ignore[type-var]
        for _, result in results:
            if isinstance(result, Exception):
                raise result
            yield result


def _tally_pair(pair: _Pair) -> Tally:
    a, b = (read(block) for block in pair.blocks)
    if a is None or b is None:
        raise _TooNarrowError(0 if a is None else 1)
    return tally_block(a, b, [start for start, _ in pair.blocks[0].region], pair.masks)


def _block_lengths(sides: Sides, limit: int) -> tuple[tuple[int, ...], int]:
    """Return the lengths of a block along each axis, and its bytes in A and B together.

    Whole planes, as many as fit below the limit, in multiples of the slices that a store keeps in one chunk: fewer
    would save nothing, because reading one of them decodes them all.
    """
    from fastdcm.series.layout import choose_chunks

    axes, shape = sides[0].axes, sides[0].shape
    samples = max(side.samples for side in sides)
    itemsize = sum(side.dtype.itemsize for side in sides)
    options = Options(chunks=(max(side.depth for side in sides), *shape[-2:]), shard_bytes=limit)
    _, lengths = choose_chunks(shape, axes, itemsize, options, channels=samples)
    return lengths, itemsize * math.prod(map(min, lengths, shape))


# ---------------------------------------------------------------------------- the result


def _comparison(
    tally: Tally, sides: Sides, masks: Masks, differences: tuple[Difference, ...], notes: tuple[str, ...]
) -> Comparison:
    a, b = sides
    numbers = tally.n_voxels - tally.n_nan_both - tally.n_nan_one
    label_voxels = tally.n_voxels // max(len(masks.labels), 1)
    return Comparison(
        axes=a.axes,
        shape=a.shape,
        dtypes=(str(a.dtype), str(b.dtype)),
        n_voxels=tally.n_voxels,
        n_differing=tally.n_differing,
        n_nan_both=tally.n_nan_both,
        n_nan_one=tally.n_nan_one,
        max_abs_difference=tally.largest if numbers else None,
        max_index=tally.largest_at,
        max_mm=None if tally.largest_at is None else place_mm(a, tally.largest_at),
        mae=tally.distances / numbers if numbers else None,
        mse=tally.squares / numbers if numbers else None,
        threshold=masks.threshold,
        mask=Overlap(*tally.mask, tally.n_voxels),
        same_value=Overlap(*tally.same_value, tally.n_voxels),
        labels={label: Overlap(*counts, label_voxels) for label, counts in tally.labels.items()},
        geometry_differences=differences,
        notes=notes,
    )
