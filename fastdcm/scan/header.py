"""A batch of found files to index rows: walk, convert, judge, and let pydicom read what the walk does not."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from fastdcm.errors import Code, Outcome
from fastdcm.scan import reference, rules
from fastdcm.scan.columns import WANTED, Fields, combinations, element_columns, take_values
from fastdcm.scan.find import Fault, FoundFile, os_fault, path_bytes, source_root
from fastdcm.scan.index import frames_schema, index_schema, join_tables
from fastdcm.scan.walk import Fact, Status, Syntax, Walked, walk_files

Bools = npt.NDArray[np.bool_]
Verdict = rules.Verdict | Fault

STOPS = (
    0x00186011,  # ultrasound regions: spacing
    0x00283000,  # Modality LUT
    0x30040002,  # dose units and scaling
    0x3004000E,
    0x52009229,  # functional groups
    0x52009230,
)
"""Elements that mean more than the flat columns say: files with one are read by pydicom."""

_FORMAT = (
    "transfer_syntax",
    "sop_class_uid",
    "pixel_keyword",
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
"""What the outcome depends on, apart from sizes."""


def read_headers(sources: Sequence[str], files: Sequence[FoundFile]) -> tuple[pa.Table, pa.Table]:
    """Read the headers of a batch of files, pixels never; hostile files become rows with an outcome.

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
    paths = _full_paths(sources, files)
    walked = _walk_found(paths, files)
    table, slow = _walked_table(walked, files)
    rows, frame_rows = [], []
    for number in np.flatnonzero(slow).tolist():
        row, frames = reference.read_instance(os.fsdecode(paths[number]), files[number])
        rows.append(row)
        frame_rows += [{**frame, "instance": number} for frame in frames]
    frames_table = pa.Table.from_pylist(frame_rows, frames_schema())
    return _replace_rows(table, slow, rows), frames_table


def _full_paths(sources: Sequence[str], files: Sequence[FoundFile]) -> list[bytes]:
    used = {file.source for file in files}
    roots = {number: os.fsencode(os.path.join(source_root(sources[number]), "")) for number in used}
    return [roots[file.source] + path_bytes(file.path) for file in files]


def _walk_found(paths: Sequence[bytes], files: Sequence[FoundFile]) -> Walked:
    """Walk the files that may be opened; the others have no facts and no values."""
    openable = np.array([file.error is None for file in files], np.bool_)
    walked = walk_files([path for path, file in zip(paths, files, strict=True) if file.error is None], WANTED, STOPS)
    if openable.all():
        return walked
    facts = np.zeros((len(files), walked.facts.shape[1]), np.int64)
    codes = np.full((len(WANTED), len(files)), -1, np.int32)
    facts[openable], codes[:, openable] = walked.facts, walked.codes
    return Walked(facts, codes, walked.values)


def _walked_table(walked: Walked, files: Sequence[FoundFile]) -> tuple[pa.Table, Bools]:
    """Return the rows by the walk, and which of them pydicom must read instead."""
    facts = walked.facts
    columns = element_columns(Fields(walked))
    columns |= _fact_columns(facts, columns["transfer_syntax"])
    source, path, size, mtime_ns, errors = zip(*files, strict=True) if files else ((),) * 5
    opened = np.array([error is None for error in errors], np.bool_)
    columns["n_frames"] = pc.if_else(pa.array(_is_dicom(facts) & opened), columns["n_frames"].fill_null(1), None)
    columns["source"], columns["path"] = pa.array(source, pa.int32()), pa.array(path, pa.string())
    found_size = np.array(size, np.int64)
    columns["size"] = pa.array(np.where(opened & (facts[:, Fact.SIZE] > 0), facts[:, Fact.SIZE], found_size))
    columns["mtime_ns"] = pa.array(mtime_ns, pa.int64())
    slow = opened & _needs_reference(facts, columns)
    verdicts = _verdicts(facts, columns, errors, slow)
    schema = index_schema()
    for part, name in enumerate(("outcome", "code", "message")):
        columns[name] = _verdict_array(verdicts, part, len(files), schema.field(name).type)
    return pa.table([columns[name] for name in schema.names], schema), slow


def _is_dicom(facts: npt.NDArray[np.int64]) -> Bools:
    return np.isin(facts[:, Fact.STATUS], (Status.OK, Status.CUT, Status.BAD))


def _verdict_array(verdicts: Mapping[int, Verdict], part: int, count: int, kind: pa.DataType) -> pa.Array:
    """Return one part of the verdicts, null for the rows without one."""
    codes = np.full(count, -1)
    codes[list(verdicts)] = np.arange(len(verdicts))
    return take_values([str(verdict[part]) for verdict in verdicts.values()], codes, kind)


def _fact_columns(facts: npt.NDArray[np.int64], declared: pa.Array) -> dict[str, pa.Array]:
    """Return the columns that say where the pixels are and how the file is encoded."""
    tags = facts[:, Fact.PIXEL_TAG]
    kind = index_schema().field("pixel_keyword").type
    known = list(rules.PIXEL_KEYWORDS)
    codes = np.select([tags == tag for tag in known], range(len(known)), -1)
    no_pixels, no_table = codes < 0, facts[:, Fact.TABLE_OFFSET] < 0
    no_table |= no_pixels
    return {
        "transfer_syntax": _effective_syntax(facts, declared),
        "repaired": take_values([str(Code.REPAIRED_SYNTAX)], facts[:, Fact.REPAIRED] - 1, kind),
        "pixel_keyword": take_values(list(rules.PIXEL_KEYWORDS.values()), codes, kind),
        "pixel_offset": pa.array(facts[:, Fact.PIXEL_OFFSET], mask=no_pixels),
        "pixel_length": pa.array(facts[:, Fact.PIXEL_LENGTH], mask=no_pixels),
        "table_offset": pa.array(facts[:, Fact.TABLE_OFFSET], mask=no_table),
        "table_length": pa.array(facts[:, Fact.TABLE_LENGTH], mask=no_table),
    }


def _effective_syntax(facts: npt.NDArray[np.int64], declared: pa.Array) -> pa.Array:
    """Return the declared syntax, but where it is none, or a native one that lies, the one that the bytes have."""
    seen = facts[:, Fact.SYNTAX]
    native = [rules.IMPLICIT_LITTLE, rules.EXPLICIT_LITTLE]
    wrong = np.zeros(len(seen), np.bool_)
    for number, uid in ((Syntax.IMPLICIT, native[0]), (Syntax.EXPLICIT, native[1])):
        says = pc.equal(declared, uid).fill_null(False).to_numpy(zero_copy_only=False)
        wrong |= (seen != number) & says
    wrong |= declared.is_null().to_numpy(zero_copy_only=False)
    wrong &= seen != Syntax.UNKNOWN
    if not wrong.any():
        return declared
    actual = take_values(native, np.where(wrong, seen - 1, -1), pa.string())
    return pc.if_else(pa.array(wrong), actual, declared.cast(pa.string())).dictionary_encode()


def _needs_reference(facts: npt.NDArray[np.int64], columns: dict[str, pa.Array]) -> Bools:
    """Return which files hold more than the flat columns can say, or are not what they say."""
    slow: Bools = facts[:, Fact.STATUS] == Status.REFERENCE
    has_pixels = facts[:, Fact.PIXEL_TAG] != 0
    slow |= has_pixels & (columns["n_frames"].fill_null(1).to_numpy() > 1)
    slow |= has_pixels & _contains(columns["image_type"], "MOSAIC")
    slow |= _contains_any(columns["modality"], ("NM", "RTDOSE"))  # positions by vectors, detectors, offsets
    native = _contains_any(columns["transfer_syntax"], [uid for uid, s in _SYNTAXES if s.pixels == "native"])
    packed = _contains_any(columns["transfer_syntax"], [uid for uid, s in _SYNTAXES if s.pixels == "encapsulated"])
    undefined = facts[:, Fact.PIXEL_LENGTH] < 0
    slow |= has_pixels & ((native & undefined) | (packed & ~undefined))
    return slow


_SYNTAXES = tuple(rules.TRANSFER_SYNTAXES.items())


def _contains(texts: pa.Array, part: str) -> Bools:
    return _per_text(texts, lambda text: part in text.upper())


def _contains_any(texts: pa.Array, wanted: Sequence[str]) -> Bools:
    members = frozenset(wanted)
    return _per_text(texts, members.__contains__)


def _per_text(texts: pa.Array, test: Callable[[str], bool]) -> Bools:
    """Return (n,) what a test says, False for null; each distinct text is looked at once."""
    if not pa.types.is_dictionary(texts.type):
        texts = texts.dictionary_encode()
    answers = np.array([*map(test, texts.dictionary.to_pylist()), False], np.bool_)
    found: Bools = answers[texts.indices.fill_null(len(answers) - 1).to_numpy()]
    return found


# ---------------------------------------------------------------------------- outcomes


def _verdicts(
    facts: npt.NDArray[np.int64], columns: dict[str, pa.Array], errors: Sequence[Fault | None], slow: Bools
) -> dict[int, Verdict]:
    """Return the outcome of every file that is no image to be grouped, without the slow ones."""
    verdicts: dict[int, Verdict] = {number: error for number, error in enumerate(errors) if error}
    status = facts[:, Fact.STATUS]
    walked = status == Status.OK
    walked |= (status == Status.CUT) & _per_text(columns["sop_class_uid"], lambda uid: not rules.is_image_class(uid))
    judged = walked & ~slow
    judged[list(verdicts)] = False
    for number in np.flatnonzero(~walked & ~slow).tolist():
        verdicts.setdefault(number, _walk_verdict(facts[number].tolist()))
    return verdicts | _judge(columns, facts, judged)


def _judge(columns: dict[str, pa.Array], facts: npt.NDArray[np.int64], judged: Bools) -> dict[int, Verdict]:
    """Judge each distinct pixel format once, and each file whose pixel data may be short."""
    encoded = [_encoded(columns[name]) for name in _FORMAT]
    kinds, first = combinations([*encoded, judged.astype(np.int64)], len(judged))
    verdicts: list[rules.Verdict | None] = []
    needed = np.zeros(len(first))
    for kind, number in enumerate(first.tolist()):
        row = _row(columns, number) | {"size": None, "pixel_offset": 0, "pixel_length": -1}
        verdicts.append(rules.decide_outcome(row) if judged[number] else None)
        needed[kind] = rules.expected_pixel_bytes(row) or 1
    decided = np.array([verdict is not None for verdict in verdicts], np.bool_)[kinds]
    length = facts[:, Fact.PIXEL_LENGTH]
    left = columns["size"].to_numpy() - facts[:, Fact.PIXEL_OFFSET]
    short = np.where(length < 0, left, np.minimum(left, length)) < needed[kinds]
    found = {int(number): verdicts[kinds[number]] for number in np.flatnonzero(decided)}
    found |= {
        int(number): rules.decide_outcome(_row(columns, int(number)))
        for number in np.flatnonzero(short & ~decided & judged)
    }
    return {number: verdict for number, verdict in found.items() if verdict is not None}


def _encoded(column: pa.Array) -> npt.NDArray[np.int64]:
    """Return codes of the values of a column, -1 for null."""
    encoded = column if pa.types.is_dictionary(column.type) else column.dictionary_encode()
    codes: npt.NDArray[np.int64] = encoded.indices.fill_null(-1).to_numpy().astype(np.int64)
    return codes


def _row(columns: dict[str, pa.Array], number: int) -> dict[str, object]:
    names = (*_FORMAT, "size", "pixel_offset", "pixel_length")
    return {name: columns[name][number].as_py() for name in names}


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
            return Outcome.FAILED, Code.BAD_HEADER, "the header is no list of DICOM elements"
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
    read = pa.Table.from_pylist(list(rows), index_schema())
    joined = join_tables([table.filter(pa.array(~slow)), read], index_schema()).combine_chunks()
    order = np.empty(len(slow), np.int64)
    order[np.concatenate([np.flatnonzero(~slow), np.flatnonzero(slow)])] = np.arange(len(slow))
    return joined.take(pa.array(order))
