"""Files that end inside their header: given the place that the rest of it names, or counted as lost."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from fastdcm.errors import Code
from fastdcm.model import COLUMN, Frames, Ints, Reason, Volume
from fastdcm.series.repeats import CHANNEL_TAGS, TIME_TAGS

_OWN = ("position_x", "position_y", "position_z", "instance_number", "pixel_offset", "pixel_length")
_REPEATS = tuple(sorted({name for tag in (*CHANNEL_TAGS, *TIME_TAGS) for name in tag.columns}))
_FORMAT = ("rows", "columns", "bits_allocated")


def cut_rows(frames: Frames, bad: Iterable[int]) -> list[int]:
    """Return the bad rows whose file has no usable header up to its pixels."""
    numbers = frames.numbers
    return [
        row
        for row in sorted(bad)
        if np.isnan(numbers["pixel_offset"][row]) or not all(numbers[name][row] >= 1 for name in _FORMAT)
    ]


def lost_rows(frames: Frames, bad: Iterable[int]) -> frozenset[int]:
    """Return the cut files whose place is unknown: without position, or without what separates the repeats.

    They are in no volume, but every volume of several files in their series may lack them.
    """
    cut, bad = cut_rows(frames, bad), frozenset(bad)
    good = np.asarray([row for row in range(len(frames)) if row not in bad], dtype=np.int64)
    known = [name for name in _REPEATS if name in _OWN or _any_known(frames, name, good)] if cut else []
    positions = ("position_x", "position_y", "position_z")
    return frozenset(row for row in cut if not all(_is_known(frames, name, row) for name in (*positions, *known)))


def _any_known(frames: Frames, name: str, rows: Ints) -> bool:
    return any(_is_known(frames, name, row) for row in rows.tolist())


def _is_known(frames: Frames, name: str, row: int) -> bool:
    if name in frames.numbers:
        return bool(np.isfinite(frames.numbers[name][row]))
    return frames.texts[name][row] is not None


def place_cut_files(frames: Frames, bad: Iterable[int]) -> Frames:
    """Give cut files what their header lost, by the image of the series that they are most like.

    So the file is grouped where its image belongs, and what lacks it is withheld or flagged (PS3.3 C.7.6.3 has no image
    without its matrix).

    Parameters
    ----------
    frames : Frames
        One series.
    bad : iterable of int
        Rows that cannot be used.

    Returns
    -------
    Frames
        The same, where no file is cut.
    """
    bad = frozenset(bad)
    cut = cut_rows(frames, bad)
    good = np.asarray([row for row in range(len(frames)) if row not in bad], dtype=np.int64)
    if not cut or not len(good):
        return frames
    whole = frames.copy()
    numbers, texts = dict(whole.numbers), dict(whole.texts)
    shared = {name for name, column in COLUMN.items() if column.level != "file"} - {*_OWN, *_REPEATS} | {"image_type"}
    for row in cut:
        like = _most_like(frames, row, good)
        for name in shared & numbers.keys():
            if np.isnan(numbers[name][row]) or (name in _FORMAT and numbers[name][row] < 1):
                numbers[name][row] = numbers[name][like]
        for name in shared & texts.keys():
            if texts[name][row] is None:
                texts[name][row] = texts[name][like]
    return replace(whole, numbers=numbers, texts=texts)


def _most_like(frames: Frames, row: int, good: Ints) -> int:
    """Return the image that is most like a cut one in what tells volumes apart; of equals the nearest by number."""
    cosines = frames.vectors("row_x", "row_y", "row_z", "column_x", "column_y", "column_z")
    texts = frames.texts
    turned = np.abs(cosines[good] - cosines[row]).max(axis=1) > 1e-2
    types = np.asarray([texts["image_type"][one] != texts["image_type"][row] for one in good.tolist()])
    kernels = np.asarray([texts["kernel"][one] != texts["kernel"][row] for one in good.tolist()])
    number = frames.numbers["instance_number"]
    order = np.lexsort((good, np.abs(number[good] - number[row]), kernels, types, turned))
    return int(good[order[0]])


def flag_lost(volume: Volume, frames: Frames, lost: int) -> Volume:
    """Flag a volume of several files whose series has files without a known place."""
    if not lost or len(np.unique(frames.instance[volume.cells[volume.cells >= 0]])) < 2:
        return volume
    files = "1 file of the series ends" if lost == 1 else f"{lost} files of the series end"
    message = f"{files} inside the header, before what says where the image lies: an image may be missing here."
    return replace(volume, reasons=(*volume.reasons, Reason(Code.FILES_LOST, message)))
