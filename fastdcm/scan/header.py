"""A batch of found files to index rows: walk, convert, judge, and let pydicom read what the walk does not."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fastdcm.errors import MAY_PASS, PAUSES_S, Code, Outcome
from fastdcm.model import COLUMN
from fastdcm.objects import is_url
from fastdcm.scan import grid, reference, rules
from fastdcm.scan.arrow import number_array
from fastdcm.scan.bounded import NO_ELEMENTS
from fastdcm.scan.columns import (
    MEDIA_CLASS,
    SCHEMA,
    TYPES,
    WANTED,
    Codes,
    Fields,
    combinations,
    csa_alone,
    element_columns,
    element_value,
    media_class,
    named_b_values,
    take_values,
)
from fastdcm.scan.find import Fault, FoundFile, os_fault, path_bytes, source_root, with_status
from fastdcm.scan.index import frames_schema, join_tables, no_frames, tables_of
from fastdcm.scan.remote import REQUESTS
from fastdcm.scan.walk import Fact, Status, Syntax, Walked, walk_files

Bools = npt.NDArray[np.bool_]
Facts = npt.NDArray[np.int64]
Verdict = rules.Verdict | Fault

STOPS = (
    0x00186011,  # ultrasound regions: spacing
    0x00283000,  # Modality LUT
    *grid.STOPS,
    0x30040002,  # dose units and scaling
    0x3004000E,
    0x52009229,  # functional groups
    0x52009230,
)
"""Elements that mean more than the flat columns say: files with one are read by pydicom."""

_JUDGED = tuple(
    COLUMN[name]
    for name in (
        "transfer_syntax",
        "sop_class_uid",
        "modality",
        "image_type",
        "rows",
        "columns",
        "samples",
        "planar",
        "photometric",
        "bits_allocated",
        "bits_stored",
        "pixel_representation",
        "n_frames",
    )
)
"""What decides, apart from sizes, who reads a file and what becomes of it."""
_KEYWORDS = tuple(rules.PIXEL_KEYWORDS.values())


class _Kind(NamedTuple):
    """What files with the same values of ``_JUDGED`` and the same encoding have in common."""

    transfer_syntax: str | None
    n_frames: int | None
    slow: bool
    """Whether pydicom must read them."""
    verdict: rules.Verdict | None
    """Their outcome, where it does not depend on sizes."""
    needed_bytes: int
    """What their pixel data must have at least."""


def read_headers(sources: Sequence[str], files: Sequence[FoundFile]) -> tuple[pa.Table, pa.Table]:
    """Read the headers of a batch of files, pixels never; hostile files become rows with an outcome.

    Files at URLs are read in ``REQUESTS`` parts at once, as each request takes its time on the line.

    Parameters
    ----------
    sources : sequence of str
        The sources that the files were found in.
    files : sequence of FoundFile
        About a thousand is a good batch.

    Returns
    -------
    instances : pa.Table
        ``index_schema()``, one row a file, in the order given.
    frames : pa.Table
        ``frames_schema()``; ``instance`` is the row in this ``instances``.
    """
    size = max(-(-len(files) // REQUESTS), 1)
    if size == len(files) or not any(is_url(sources[number]) for number in {file.source for file in files}):
        return _read_part(sources, files)
    parts = [files[first : first + size] for first in range(0, len(files), size)]
    with ThreadPoolExecutor(REQUESTS) as pool:
        instances, frames = tables_of(pool.map(partial(_read_part, sources), parts))
    return join_tables(instances, SCHEMA).combine_chunks(), join_tables(frames, frames_schema())


def _read_part(sources: Sequence[str], files: Sequence[FoundFile]) -> tuple[pa.Table, pa.Table]:
    """Read some headers, one after the other."""
    paths = _full_paths(sources, files)
    walked = _walk_found(paths, files)
    table, slow = _walked_table(walked, files)
    slow |= _may_pass(walked.facts)
    rows, frame_rows = [], []
    for number, (row, frames) in _read_slowly(paths, files, np.flatnonzero(slow).tolist()).items():
        rows.append(row)
        frame_rows += [{**frame, "instance": number} for frame in frames]
    frames_table = pa.Table.from_pylist(frame_rows, frames_schema()) if frame_rows else no_frames()
    return _replace_rows(table, slow, rows), frames_table


def _may_pass(facts: Facts) -> Bools:
    """Tell which files the system failed to read in a way that may pass."""
    found: Bools = (facts[:, Fact.STATUS] == Status.UNREADABLE) & np.isin(facts[:, Fact.ERRNO], list(MAY_PASS))
    return found


def _read_slowly(
    paths: Sequence[bytes], files: Sequence[FoundFile], numbers: Sequence[int]
) -> dict[int, tuple[reference.Row, list[reference.Row]]]:
    """Read some files by pydicom; those that the system did not let it read again, after a pause for all of them."""
    found: dict[int, tuple[reference.Row, list[reference.Row]]] = {}
    for pause_s in (0.0, *PAUSES_S):
        left = [number for number in numbers if number not in found or found[number][0].get("code") == Code.UNREADABLE]
        if left:
            time.sleep(pause_s)
        for number in left:
            found[number] = reference.read_instance(os.fsdecode(paths[number]), files[number])
    return found


def _full_paths(sources: Sequence[str], files: Sequence[FoundFile]) -> list[bytes]:
    used = {file.source for file in files}
    roots = {number: os.fsencode(os.path.join(source_root(sources[number]), "")) for number in used}
    return [roots[file.source] + path_bytes(file.path) for file in files]


def _walk_found(paths: Sequence[bytes], files: Sequence[FoundFile]) -> Walked:
    """Walk the files that may be opened; the others have no facts and no values."""
    openable = np.array([file.error is None for file in files], np.bool_)
    if openable.all():
        return _with_unopened(walk_files(paths, WANTED, STOPS), paths, files)
    walked = walk_files([path for path, file in zip(paths, files, strict=True) if file.error is None], WANTED, STOPS)
    facts = np.zeros((len(files), len(Fact)), np.int64)
    facts[:, Fact.STATUS] = Status.NOT_DICOM
    codes = np.full((len(WANTED), len(files)), -1, np.int32)
    facts[openable], codes[:, openable] = walked.facts, walked.codes
    return _with_unopened(Walked(facts, codes, walked.values), paths, files)


def _with_unopened(walked: Walked, paths: Sequence[bytes], files: Sequence[FoundFile]) -> Walked:
    """Give sizes and times to the files that were not opened, or could not be."""
    facts = walked.facts
    unknown = np.flatnonzero((facts[:, Fact.MTIME_NS] == 0) & (facts[:, Fact.SIZE] == 0)).tolist()
    if unknown:
        facts = facts.copy()
        for number in unknown:
            found = with_status(files[number], paths[number])
            facts[number, [Fact.SIZE, Fact.MTIME_NS]] = found.size, found.mtime_ns
    return Walked(facts, walked.codes, walked.values)


def _walked_table(walked: Walked, files: Sequence[FoundFile]) -> tuple[pa.Table, Bools]:
    """Return the rows by the walk, and which of them pydicom must read instead."""
    facts, fields = walked.facts, Fields(walked)
    keywords = np.select([facts[:, Fact.PIXEL_TAG] == tag for tag in rules.PIXEL_KEYWORDS], range(len(_KEYWORDS)), -1)
    codes, kinds = _kinds(fields, facts, keywords)
    sizes = facts[:, Fact.SIZE]
    slow = np.array([kind.slow for kind in kinds], np.bool_)[codes]
    columns = element_columns(fields) | _fact_columns(facts, keywords)
    slow |= csa_alone(fields, columns)
    columns |= named_b_values(fields, columns)
    columns["transfer_syntax"] = take_values([kind.transfer_syntax for kind in kinds], codes, TYPES["transfer_syntax"])
    columns["n_frames"] = take_values([kind.n_frames for kind in kinds], codes, TYPES["n_frames"])
    columns["source"] = pa.array([file.source for file in files], TYPES["source"])
    columns["path"] = pa.array([file.path for file in files], TYPES["path"])
    columns["size"], columns["mtime_ns"] = number_array(sizes), number_array(facts[:, Fact.MTIME_NS])
    verdicts: dict[int, Verdict] = {number: file.error for number, file in enumerate(files) if file.error}
    for number, kind in _to_decide(facts, sizes, codes, kinds):
        if number not in verdicts:
            verdicts[number] = kind.verdict or _file_verdict(facts[number].tolist(), columns, number)
    for part, name in enumerate(("outcome", "code", "message")):
        columns[name] = _verdict_array(verdicts, part, len(files), TYPES[name])
    return pa.table([columns[name] for name in TYPES], SCHEMA), slow


def _kinds(fields: Fields, facts: Facts, keywords: Codes) -> tuple[Codes, list[_Kind]]:
    """Sort the files by kind: ((n,) number of each file's kind, the kinds)."""
    tags = [*(column.tag for column in _JUDGED), MEDIA_CLASS]
    known = [facts[:, fact] for fact in (Fact.STATUS, Fact.SYNTAX)]
    undefined = (facts[:, Fact.PIXEL_LENGTH] < 0).astype(np.int64)
    codes, first = combinations([*(fields.codes(tag) for tag in tags), *known, keywords, undefined], fields.count)
    kinds = []
    for number in first.tolist():
        get = fields.getter(number)
        row = {column.name: element_value(get, column) for column in _JUDGED}
        row["sop_class_uid"] = row["sop_class_uid"] or media_class(get)
        row["pixel_keyword"] = None if keywords[number] < 0 else _KEYWORDS[keywords[number]]
        row |= {"size": None, "pixel_offset": 0, "pixel_length": -1}
        status, syntax = (int(values[number]) for values in known)
        kinds.append(_kind(row, status, syntax, bool(undefined[number])))
    return codes, kinds


def _kind(row: dict[str, object], status: int, syntax: int, undefined: bool) -> _Kind:
    is_dicom = status in (Status.OK, Status.CUT, Status.BAD)
    row["transfer_syntax"] = _effective_syntax(row["transfer_syntax"], syntax)
    row["n_frames"] = row["n_frames"] or 1
    return _Kind(
        str(row["transfer_syntax"]) if row["transfer_syntax"] else None,
        row["n_frames"] if is_dicom and isinstance(row["n_frames"], int) else None,
        status == Status.REFERENCE or (is_dicom and _needs_reference(row, undefined)),
        rules.decide_outcome(row) if status == Status.OK or _is_cut_non_image(row, status) else None,
        rules.least_pixel_bytes(row),
    )


def _effective_syntax(declared: object, syntax: int) -> object:
    """Return the declared syntax, but where it is none, or a native one that lies, the one that the bytes have."""
    if syntax == Syntax.UNKNOWN or declared not in (None, rules.IMPLICIT_LITTLE, rules.EXPLICIT_LITTLE):
        return declared
    return rules.IMPLICIT_LITTLE if syntax == Syntax.IMPLICIT else rules.EXPLICIT_LITTLE


def _needs_reference(row: Mapping[str, object], undefined: bool) -> bool:
    """Whether a file holds more than the flat columns can say, or its pixels are not what they are said to be."""
    if row["modality"] in ("NM", "RTDOSE"):  # positions by vectors, detectors, offsets
        return True
    if row["pixel_keyword"] is None:
        return False
    syntax = rules.TRANSFER_SYNTAXES.get(str(row["transfer_syntax"]))
    mistaken = syntax is not None and {"native": undefined, "encapsulated": not undefined}.get(syntax.pixels, False)
    return mistaken or row["n_frames"] != 1 or "MOSAIC" in str(row["image_type"]).upper()


def _is_cut_non_image(row: Mapping[str, object], status: int) -> bool:
    """Whether a header ends too early that has no pixels anyway."""
    sop_class = row["sop_class_uid"]
    return status == Status.CUT and isinstance(sop_class, str) and not rules.is_image_class(sop_class)


def _verdict_array(verdicts: Mapping[int, Verdict], part: int, count: int, kind: pa.DataType) -> pa.Array:
    """Return one part of the verdicts, null for the rows without one."""
    codes = np.full(count, -1)
    codes[list(verdicts)] = np.arange(len(verdicts))
    return take_values([str(verdict[part]) for verdict in verdicts.values()], codes, kind)


def _fact_columns(facts: Facts, keywords: Codes) -> dict[str, pa.Array]:
    """Return the columns that say where the pixels are."""
    no_pixels = keywords < 0
    no_table = no_pixels | (facts[:, Fact.TABLE_OFFSET] < 0)
    return {
        "repaired": take_values([str(Code.REPAIRED_SYNTAX)], facts[:, Fact.REPAIRED] - 1, TYPES["repaired"]),
        "pixel_keyword": take_values(_KEYWORDS, keywords, TYPES["pixel_keyword"]),
        "pixel_offset": number_array(facts[:, Fact.PIXEL_OFFSET], no_pixels),
        "pixel_length": number_array(facts[:, Fact.PIXEL_LENGTH], no_pixels),
        "table_offset": number_array(facts[:, Fact.TABLE_OFFSET], no_table),
        "table_length": number_array(facts[:, Fact.TABLE_LENGTH], no_table),
    }


# ---------------------------------------------------------------------------- outcomes


def _to_decide(facts: Facts, sizes: Codes, codes: Codes, kinds: Sequence[_Kind]) -> Iterator[tuple[int, _Kind]]:
    """Yield the files (row, kind) that have an outcome, or whose pixel data is short; not the slow ones."""
    length, left = facts[:, Fact.PIXEL_LENGTH], sizes - facts[:, Fact.PIXEL_OFFSET]
    needed = np.array([kind.needed_bytes for kind in kinds], np.float64)[codes]
    short = np.where(length < 0, left, np.minimum(left, length)) < needed
    decided = np.array([kind.verdict is not None for kind in kinds], np.bool_)[codes]
    slow = np.array([kind.slow for kind in kinds], np.bool_)[codes]
    for number in np.flatnonzero((decided | short | (facts[:, Fact.STATUS] != Status.OK)) & ~slow).tolist():
        yield number, kinds[codes[number]]


def _file_verdict(facts: Sequence[int], columns: Mapping[str, pa.Array], number: int) -> Verdict:
    """Return the outcome of one file whose walk did not reach its pixels, or whose pixel data is short."""
    if facts[Fact.STATUS] != Status.OK:
        return _walk_verdict(facts)
    names = (*(column.name for column in _JUDGED), "pixel_keyword", "size", "pixel_offset", "pixel_length")
    verdict = rules.decide_outcome({name: columns[name][number].as_py() for name in names})
    if verdict is None:
        raise AssertionError("short pixel data without an outcome")
    return verdict


def _walk_verdict(facts: Sequence[int]) -> Verdict:
    """Say why the walk of a file ended before its pixels."""
    match Status(facts[Fact.STATUS]):
        case Status.EMPTY:
            return Outcome.NOT_DICOM, Code.EMPTY, "the file is empty"
        case Status.UNREADABLE:
            return os_fault(_os_error(facts[Fact.ERRNO]))
        case Status.CUT:
            return Outcome.FAILED, Code.TRUNCATED, f"the header ends too early: {_cut_message(facts)}"
        case Status.BAD:
            return Outcome.FAILED, Code.BAD_HEADER, NO_ELEMENTS
        case _:
            return Outcome.NOT_DICOM, Code.NO_DICOM, "no DICOM prefix, and it does not start with a DICOM element"


def _os_error(number: int) -> OSError:
    number = number or errno.EIO
    return OSError(number, os.strerror(number))  # becomes a PermissionError by itself


def _cut_message(facts: Sequence[int]) -> str:
    tag = facts[Fact.CUT_TAG]
    if not tag:
        return "an element or a sequence has no end"
    named = f"({tag >> 16:04X},{tag & 0xFFFF:04X})"
    return f"{named} has {facts[Fact.NEEDED]} bytes, {facts[Fact.THERE]} are there"


# ---------------------------------------------------------------------------- both readers' rows


def _replace_rows(table: pa.Table, slow: Bools, rows: Sequence[dict[str, object]]) -> pa.Table:
    """Put pydicom's rows where they belong."""
    if not rows:
        return table
    read = pa.Table.from_pylist(list(rows), SCHEMA)
    joined = join_tables([table.filter(pa.array(~slow)), read], SCHEMA).combine_chunks()
    order = np.empty(len(slow), np.int64)
    order[np.concatenate([np.flatnonzero(~slow), np.flatnonzero(slow)])] = np.arange(len(slow))
    return joined.take(pa.array(order))
