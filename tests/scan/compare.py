"""Hold the fast path equal to the reference reader, column by column."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from fastdcm.model import COLUMN, FRAME_COLUMNS
from fastdcm.scan.find import FoundFile, find_files, full_path
from fastdcm.scan.header import read_headers
from fastdcm.scan.reference import read_instance


def same(one: object, other: object) -> bool:
    both_nan = isinstance(one, float) and isinstance(other, float) and math.isnan(one) and math.isnan(other)
    return both_nan or (type(one) is type(other) and one == other)


def differences(sources: Sequence[str], files: Sequence[FoundFile]) -> list[str]:
    """Return where ``read_headers`` and ``read_instance`` disagree; empty is right."""
    instances, frames = read_headers(sources, files)
    frame_numbers, found = frames["instance"].to_numpy(), []
    frame_rows = frames.to_pylist()
    for number, (file, row) in enumerate(zip(files, instances.to_pylist(), strict=True)):
        expected, expected_frames = read_instance(full_path(sources, file.source, file.path), file)
        found += [
            f"{file.path} {name}: {row[name]!r} instead of {expected[name]!r}"
            for name in COLUMN
            if not same(row[name], expected[name])
        ]
        got = [frame_rows[n] for n in np.flatnonzero(frame_numbers == number)]
        if len(got) != len(expected_frames):
            found.append(f"{file.path}: {len(got)} frames instead of {len(expected_frames)}")
        found += [
            f"{file.path} frame {one['frame']} {column.name}"
            for one, other in zip(got, expected_frames, strict=False)
            for column in FRAME_COLUMNS
            if not same(one[column.name], other[column.name])
        ]
    return found


def all_files(sources: Sequence[str]) -> list[FoundFile]:
    return list(find_files(sources))
