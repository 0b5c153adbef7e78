"""The reference reader: index rows of any file at all, by pydicom. The fast path is held equal to it.

Top-level elements are walked with pydicom's own generator, so that odd values stay raw bytes (``rules`` turns them into
columns) and the pixel element is never read. The encoding is taken from the bytes; where the Transfer Syntax UID says
something else, or is missing, the file is read all the same and ``repaired`` says so.
"""

from __future__ import annotations

import io
import os
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, BinaryIO

from fastdcm.errors import Code, Outcome, SourceError
from fastdcm.model import COLUMN, COLUMNS
from fastdcm.scan import elements, functional, rules, special
from fastdcm.scan.bounded import TOO_DEEP, VALUE_BYTES_MAX, BoundedFile, inflate
from fastdcm.scan.component import read_component
from fastdcm.scan.diffusion import read_diffusion
from fastdcm.scan.find import with_status
from fastdcm.scan.location import base_name
from fastdcm.scan.mosaic import read_mosaic
from fastdcm.scan.opened import open_location
from fastdcm.scan.pydicom_once import load_pydicom
from fastdcm.scan.sniff import HEAD_BYTES, not_dicom

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

    from fastdcm.scan.find import FoundFile

Row = dict[str, object]

_EXTENDED_TABLE = 0x7FE00001
_EXTENDED_LENGTHS = 0x7FE00002
_UNDEFINED = 0xFFFFFFFF
_INFLATED_KEPT = 64 * 2**20
_ITEM = b"\xfe\xff\x00\xe0"


@dataclass(slots=True)
class Header:
    """What stands before the pixels of one file."""

    dataset: Dataset
    syntax: str
    """The transfer syntax that the bytes have, for the pixels as well as for the header."""
    repaired: bool
    pixel_tag: int | None = None
    pixel_offset: int = -1
    """-1 also where the file is deflated."""
    pixel_length: int = -1
    table: tuple[int, int] | None = None
    """Offset and length of the Extended Offset Table's value."""
    prefix: bool = True
    """Whether the file has the DICM prefix."""
    media_class: str | None = None
    """Media Storage SOP Class and Instance UID of group 2: all that a DICOMDIR has."""
    media_instance: str | None = None
    cut: str | None = None
    """Where the header ends too early."""


def read_instance(path: str, found: FoundFile) -> tuple[Row, list[Row]]:
    """Read the index rows of one file, whatever it is.

    Parameters
    ----------
    path : str
        Its location.
    found : FoundFile
        What ``find_files`` said of it.

    Returns
    -------
    (row, frame_rows)
        The instance row with every name of ``COLUMNS`` (None is null) and its outcome where the header decides it;
        and a row with ``frame`` and every name of ``FRAME_COLUMNS`` for each frame of an image that has several
        frames or functional groups (no rows for what has a final outcome). Never raises for what a file holds.
    """
    row: Row = dict.fromkeys(COLUMN)
    found = with_status(found, path)
    row.update(source=found.source, path=found.path, size=found.size, mtime_ns=found.mtime_ns)
    if found.error is not None:
        return _decided(row, (found.error.outcome, found.error.code, found.error.message)), []
    try:
        return _read(path, row)
    except SourceError as error:
        return _decided(row, (Outcome.FAILED, error.code, error.message)), []
    except PermissionError:
        return _decided(row, (Outcome.FAILED, Code.PERMISSION, "no permission to read the file")), []
    except OSError as error:
        return _decided(row, (Outcome.FAILED, Code.UNREADABLE, os.strerror(error.errno or 5))), []
    except RecursionError:
        return _decided(row, (Outcome.FAILED, Code.BAD_HEADER, TOO_DEEP)), []
    except Exception as error:  # noqa: BLE001  the boundary: whatever pydicom trips over is this file's outcome
        return _decided(row, (Outcome.FAILED, Code.BAD_HEADER, f"header cannot be read: {type(error).__name__}")), []


def _decided(row: Row, verdict: rules.Verdict) -> Row:
    row["outcome"], row["code"], row["message"] = str(verdict[0]), str(verdict[1]), verdict[2]
    return row


def _read(path: str, row: Row) -> tuple[Row, list[Row]]:
    with open_location(path) as reader, reader.file() as file:
        row["size"], row["mtime_ns"] = size, _ = reader.size, reader.mtime_ns
        verdict = not_dicom(file.read(HEAD_BYTES), size, base_name(path))
        if verdict:
            return _decided(row, verdict), []
        header = read_header(file, size)
        _fill(row, header)
        _repair_pixels(file, header, row)
    verdict = _no_dicom_after_all(row, header) or _cut(header, row) or rules.decide_outcome(row)
    if verdict:
        return _decided(row, verdict), []
    return row, functional.frame_rows(header.dataset, row)


def _no_dicom_after_all(row: Row, header: Header) -> rules.Verdict | None:
    """Return the outcome of a file that only started like DICOM: it does not say what it is."""
    if header.prefix or row["sop_class_uid"] or row["sop_instance_uid"] or row["modality"]:
        return None
    return Outcome.NOT_DICOM, Code.NO_DICOM, "starts like DICOM, but neither a SOP Class nor a Modality was found"


# ---------------------------------------------------------------------------- the header


def read_header(file: BinaryIO, size: int) -> Header:
    """Read all top-level elements before the pixels.

    Parameters
    ----------
    file
        The file, anywhere.
    size
        Its bytes.

    Raises
    ------
    SourceError
        A deflated file that is broken or inflates beyond bounds (``decode``, ``truncated``, ``unsupported-pixels``);
        a header of more elements than bounds allow (``bad-header``).
    """
    file.seek(0)
    prefix = file.read(132)[128:] == b"DICM"
    start, declared, media = _file_meta(file, size, 132 if prefix else 0)
    file.seek(start)
    peek = file.read(8)
    deflated = declared in rules.DEFLATED_SYNTAXES and not _starts_plainly(peek)
    if deflated:
        file.seek(start)
        file, size = _inflate(file, size - start)
        start, peek = 0, file.read(8)
    implicit, little = rules.encoding_of(peek)
    syntax, lied = _effective(declared, implicit, little, deflated)
    header = _walk(file, size, start, implicit, little)
    header.syntax, header.repaired, header.prefix = syntax, lied, prefix
    header.media_class, header.media_instance = media
    if deflated:
        header.pixel_length = min(header.pixel_length, max(size - header.pixel_offset, 0))
        header.pixel_offset, header.table = -1, None
    return header


def _file_meta(file: BinaryIO, size: int, start: int) -> tuple[int, str | None, list[str | None]]:
    """Skip group 2; return where the data set starts, the Transfer Syntax UID, and the media storage UIDs."""
    file.seek(start)
    peek = file.read(8)
    if peek[:2] != b"\x02\x00":
        return start, None, [None, None]
    meta = _walk(file, size, start, peek[4:6] not in rules.VRS, True, stop_group=2)
    found = [elements.raw_element(meta.dataset, tag) for tag in (0x00020010, 0x00020002, 0x00020003)]
    syntax, *media = [rules.raw_text(element.value) if element else None for element in found]
    return file.tell(), syntax, media


def _walk(file: BinaryIO, size: int, start: int, implicit: bool, little: bool, stop_group: int = 0x7FE0) -> Header:
    """Read elements from ``start`` up to the pixels, or to the end of a group."""
    load_pydicom()
    from pydicom.dataset import Dataset
    from pydicom.filereader import data_element_generator

    header = Header(Dataset(), "", False)
    value = start

    def stop(tag: int, vr: str | None, length: int) -> bool:
        nonlocal value
        value = offset = file.tell()
        if tag == length == 0:  # padding up to a block of the medium
            return True
        if tag in rules.PIXEL_KEYWORDS:
            header.pixel_tag, header.pixel_offset = int(tag), offset
            header.pixel_length = -1 if length == _UNDEFINED else length
        elif tag == _EXTENDED_TABLE:
            header.table = offset, length
        elif length not in (0, _UNDEFINED) and length > size - offset:
            header.cut = f"({tag >> 16:04X},{tag & 0xFFFF:04X}) has {length} bytes, {size - offset} are there"
            return True
        return tag >> 16 > stop_group or header.pixel_tag is not None

    file.seek(start)
    bounded = BoundedFile(file, size)
    found: dict[Any, Any] = {}
    options: Any = bounded, implicit, little, stop, VALUE_BYTES_MAX
    while bounded.is_too_deep(found, data_element_generator(*options)):
        bounded.leave_sequence(value, explicit=not implicit, little=little)
    if bounded.cut and header.cut is None:
        header.cut = "an element or a sequence has no end"
    header.dataset = Dataset(found)
    return header


def find_pixels(data_set: BinaryIO, size: int) -> tuple[int, int]:
    """Return offset and length of the top-level pixel value in a data set of ``size`` bytes without file meta group.

    Raises
    ------
    SourceError
        TRUNCATED if there is none; BAD_HEADER as in ``read_header``.
    """
    data_set.seek(0)
    implicit, little = rules.encoding_of(data_set.read(8))
    header = _walk(data_set, size, 0, implicit, little)
    if header.pixel_tag is None:
        raise SourceError(Code.TRUNCATED, "the data set ends before its pixel data")
    return header.pixel_offset, header.pixel_length


def _starts_plainly(peek: bytes) -> bool:
    return peek[4:6] in rules.VRS and peek[:2] in (b"\x08\x00", b"\x00\x08")


def _effective(declared: str | None, implicit: bool, little: bool, deflated: bool) -> tuple[str, bool]:
    """Return the transfer syntax that holds, and whether it is not the declared one."""
    seen = rules.IMPLICIT_LITTLE if implicit else rules.EXPLICIT_LITTLE if little else rules.EXPLICIT_BIG
    if declared is None:
        return seen, True
    syntax = rules.TRANSFER_SYNTAXES.get(declared)
    if syntax is None:
        return declared, False
    lied = syntax.implicit != implicit or syntax.big_endian == little or syntax.deflated != deflated
    return (seen, True) if lied and syntax.pixels == "native" else (declared, lied)


def _inflate(file: BinaryIO, deflated_bytes: int) -> tuple[BinaryIO, int]:
    """Inflate the rest of a file (PS3.5 A.5) under the bounds; keep its start, count the whole."""
    kept, total = bytearray(), 0
    try:
        for part in inflate(file.read, deflated_bytes):
            total += len(part)
            kept += part[: max(_INFLATED_KEPT - len(kept), 0)]
    except SourceError as error:
        if error.code == Code.UNSUPPORTED_PIXELS or not kept:
            raise
    return io.BytesIO(bytes(kept)), total


# ---------------------------------------------------------------------------- columns


def _fill(row: Row, header: Header) -> None:
    """Fill the instance row from the top-level elements."""
    dataset = header.dataset
    charsets = elements.charsets_of(dataset)
    sign = elements.number(dataset, 0x00280103, "US")
    for column in COLUMNS:
        element = elements.raw_element(dataset, column.tag) if column.tag else None
        if element is not None:
            row[column.name] = rules.column_value(
                column, element.vr, element.value, element.little_endian, charsets, sign == 1
            )
    row["n_frames"] = row["n_frames"] or 1
    row["sop_class_uid"] = row["sop_class_uid"] or header.media_class
    row["sop_instance_uid"] = row["sop_instance_uid"] or header.media_instance
    row["transfer_syntax"] = header.syntax
    row["repaired"] = str(Code.REPAIRED_SYNTAX) if header.repaired else None
    if header.pixel_tag is not None:
        row["pixel_keyword"] = rules.PIXEL_KEYWORDS[header.pixel_tag]
        row["pixel_offset"], row["pixel_length"] = header.pixel_offset, header.pixel_length
        if header.table:
            row["table_offset"], row["table_length"] = header.table
    get = partial(elements.raw_element, dataset)
    row["spacing_y"], row["spacing_x"], row["spacing_kind"] = rules.spacing_from(get, row)
    row.update(read_diffusion(get, row))
    row["complex_component"] = row["complex_component"] or read_component(get)
    row.update(read_mosaic(get, row))
    special.complete_instance(dataset, row)


def _cut(header: Header, row: Row) -> rules.Verdict | None:
    sop_class = row["sop_class_uid"]
    if header.cut is None or header.pixel_tag is not None:
        return None
    if isinstance(sop_class, str) and not rules.is_image_class(sop_class):
        return None
    return Outcome.FAILED, Code.TRUNCATED, f"the header ends too early: {header.cut}"


# ---------------------------------------------------------------------------- pixels that are not what they are said


def _repair_pixels(file: BinaryIO, header: Header, row: Row) -> None:
    """Correct a transfer syntax that the pixel element shows to be wrong (PS3.5 A.4)."""
    syntax = rules.TRANSFER_SYNTAXES.get(header.syntax)
    if syntax is None or header.pixel_tag is None or header.pixel_offset < 0 or syntax.pixels == "video":
        return
    file.seek(header.pixel_offset)
    seen: str | None = None
    if syntax.pixels == "native" and header.pixel_length < 0:
        seen = sniff_codestream(file)
    elif syntax.pixels == "encapsulated" and header.pixel_length > 0 and file.read(4) != _ITEM:
        native = rules.expected_pixel_bytes({**row, "transfer_syntax": rules.EXPLICIT_LITTLE})
        if native is not None and native <= header.pixel_length <= native + native % 2 + 1:
            seen = rules.EXPLICIT_LITTLE
    if seen is not None:
        row["transfer_syntax"], row["repaired"] = seen, str(Code.REPAIRED_SYNTAX)


def sniff_codestream(file: BinaryIO) -> str | None:
    """Tell the transfer syntax of encapsulated pixels from the first bytes of their first frame, or None.

    The file stands at the Basic Offset Table's item.
    """
    item = file.read(8)
    if item[:4] != _ITEM:
        return None
    file.seek(int.from_bytes(item[4:], "little"), os.SEEK_CUR)
    item, data = file.read(8), file.read(4096)
    if item[:4] != _ITEM:
        return None
    if data.startswith(b"\xff\x4f\xff\x51"):
        return "1.2.840.10008.1.2.4.203" if b"\xff\x50" in data[:128] else "1.2.840.10008.1.2.4.91"
    if data.startswith(b"\xff\xd8"):
        return _jpeg_syntax(data)
    if 1 <= int.from_bytes(data[:4], "little") <= 15 and data[4:8] == b"\x40\0\0\0":
        return "1.2.840.10008.1.2.5"
    return None


def _jpeg_syntax(data: bytes) -> str | None:
    """Tell which JPEG process a stream uses from its start-of-frame marker (ISO 10918-1, 14495-1)."""
    frames = {0xC0: "50", 0xC1: "51", 0xC2: "55", 0xC3: "57", 0xF7: "81"}
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF:
        if data[at + 1] in frames:
            return "1.2.840.10008.1.2.4." + frames[data[at + 1]]
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return None
