"""Images that their headers show to be bad: they take part in grouping, so that what lacks them is known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from fastdcm.errors import Code, Outcome
from fastdcm.model import Index
from fastdcm.run.records import FrameNote

if TYPE_CHECKING:
    import pyarrow as pa

BAD_BY_HEADER = (Code.TRUNCATED, Code.UNSUPPORTED_SYNTAX)
"""Failures of the scan that leave a hole where the image belongs: it takes part in grouping, as a bad frame."""
CUT_IN_HEADER = (Code.TRUNCATED, Code.NO_PIXELS, Code.BAD_HEADER)
"""Failures of files that may end inside their header: beside images of their series they are bad frames too."""


def with_bad_images(index: Index) -> tuple[Index, Mapping[int, FrameNote]]:
    """Return the index with the images that failed by their header as images, and what is wrong with each."""
    import pyarrow.compute as pc

    failed = np.flatnonzero(pc.equal(index.instances["outcome"], str(Outcome.FAILED)).fill_null(False).to_numpy())
    names = ("code", "message", "sop_instance_uid", "pixel_keyword", "series_uid", "n_frames")
    found = index.instances.select(names).take(failed).to_pylist() if len(failed) else []
    told = dict(zip(failed.tolist(), found, strict=True))
    cut = [row for row, one in told.items() if one["code"] in CUT_IN_HEADER and (one["n_frames"] or 1) == 1]
    cut = [row for row in cut if told[row]["pixel_keyword"] is None or told[row]["code"] == Code.BAD_HEADER]
    beside = _beside_images(index, [row for row in cut if told[row]["series_uid"]])
    faults = {
        row: FrameNote(one["sop_instance_uid"], 0, -1, one["code"], one["message"] or "")
        for row, one in told.items()
        if row in beside or (one["code"] in BAD_BY_HEADER and one["pixel_keyword"] is not None)
    }
    if not faults:
        return index, faults
    instances = _with_value(index.instances, "outcome", list(faults), None)
    instances = _with_value(instances, "pixel_keyword", sorted(beside), "PixelData")
    return replace(index, instances=instances), faults


def keep_slide_labels(index: Index) -> Index:
    """Return the index with labels and overviews of slides as images: ``--metadata full`` lets names into the store."""
    import pyarrow.compute as pc

    labels = pc.and_(
        pc.equal(index.instances["code"], str(Code.WSI_LABEL)), index.instances["pixel_keyword"].is_valid()
    )
    rows = np.flatnonzero(labels.fill_null(False).to_numpy()).tolist()
    instances = index.instances
    for name in ("outcome", "code", "message") if rows else ():
        instances = _with_value(instances, name, rows, None)
    return replace(index, instances=instances)


def _beside_images(index: Index, rows: Sequence[int]) -> frozenset[int]:
    """Return those of some files whose series has images."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if not rows:
        return frozenset()
    names = ["patient_id", "study_uid", "series_uid"]
    series = index.instances["series_uid"]
    own = pa.array(sorted(set(series.take(pa.array(rows)).to_pylist())), pa.string())
    near = pc.and_(index.instances["outcome"].is_null(), index.instances["pixel_keyword"].is_valid())
    near = pc.and_(near, pc.is_in(series, own).fill_null(False))
    images = {tuple(one.values()) for one in index.instances.select(names).filter(near).to_pylist()}
    keys = index.instances.select(names).take(pa.array(rows)).to_pylist()
    return frozenset(row for row, one in zip(rows, keys, strict=True) if tuple(one.values()) in images)


def _with_value(table: pa.Table, name: str, rows: Sequence[int], value: str | None) -> pa.Table:
    """Return a table with another value in some rows of a text column; None is null."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if not rows:
        return table

    place = table.schema.get_field_index(name)
    if not pa.types.is_dictionary(table.schema.field(place).type):
        changed = np.zeros(table.num_rows, bool)
        changed[list(rows)] = True
        column = pc.if_else(pa.array(changed), pa.scalar(value, pa.string()), table[name])
        return table.set_column(place, table.schema.field(place), column)
    column = table.select([name]).combine_chunks()[name].chunk(0)
    absent = column.is_null().to_numpy(zero_copy_only=False).copy()
    absent[list(rows)] = value is None
    texts = column.dictionary if value is None else pa.array([*column.dictionary.to_pylist(), value], pa.string())
    codes = column.indices.fill_null(0).to_numpy().copy()
    codes[list(rows)] = 0 if value is None else len(texts) - 1
    indices = pa.array(codes, column.indices.type, mask=absent)
    column = pa.DictionaryArray.from_arrays(indices, texts.cast(column.dictionary.type))
    return table.set_column(place, table.schema.field(place), column)
