"""What header values mean, in one place: used by the fast path and by the reference reader alike.

Pure functions of raw element bytes and of index rows. No pydicom here, except to name a UID or to decode a text of
several character sets, and then imported on the spot.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, NamedTuple

from fastdcm.errors import Code, Outcome
from fastdcm.model import Column
from fastdcm.scan.pydicom_once import load_pydicom

Row = Mapping[str, object]
Pair = Sequence[float | None]
Verdict = tuple[Outcome, Code, str]


# ---------------------------------------------------------------------------- transfer syntaxes


class Syntax(NamedTuple):
    """How a file of one transfer syntax is encoded (PS3.5 Annex A)."""

    name: str
    pixels: Literal["native", "encapsulated", "video", "elsewhere", "unknown"] = "encapsulated"
    """``elsewhere``: on a server, the file has a URL; ``unknown``: retired, nothing is known that decodes it."""
    implicit: bool = False
    big_endian: bool = False
    deflated: bool = False


IMPLICIT_LITTLE = "1.2.840.10008.1.2"
EXPLICIT_LITTLE = "1.2.840.10008.1.2.1"
DEFLATED = "1.2.840.10008.1.2.1.99"
EXPLICIT_BIG = "1.2.840.10008.1.2.2"
GE_PRIVATE = "1.2.840.113619.5.2"
"""GE's implicit little endian header with big endian pixel data."""

_JPEG = "1.2.840.10008.1.2.4."

TRANSFER_SYNTAXES: Mapping[str, Syntax] = {
    IMPLICIT_LITTLE: Syntax("Implicit VR Little Endian", "native", implicit=True),
    EXPLICIT_LITTLE: Syntax("Explicit VR Little Endian", "native"),
    "1.2.840.10008.1.2.1.98": Syntax("Encapsulated Uncompressed Explicit VR Little Endian"),
    DEFLATED: Syntax("Deflated Explicit VR Little Endian", "native", deflated=True),
    EXPLICIT_BIG: Syntax("Explicit VR Big Endian", "native", big_endian=True),
    GE_PRIVATE: Syntax("GE Private Implicit VR with Big Endian Pixels", "native", implicit=True),
    "1.2.840.10008.1.2.5": Syntax("RLE Lossless"),
    "1.2.840.10008.1.2.8.1": Syntax("Deflated Image Frame Compression"),
    **{
        _JPEG + number: Syntax(name)
        for number, name in {
            "50": "JPEG Baseline",
            "51": "JPEG Extended",
            "52": "JPEG Extended, arithmetic",
            "53": "JPEG Spectral Selection",
            "54": "JPEG Spectral Selection, arithmetic",
            "55": "JPEG Full Progression",
            "56": "JPEG Full Progression, arithmetic",
            "57": "JPEG Lossless",
            "70": "JPEG Lossless SV1",
            "80": "JPEG-LS Lossless",
            "81": "JPEG-LS Near-lossless",
            "90": "JPEG 2000 Lossless",
            "91": "JPEG 2000",
            "92": "JPEG 2000 Multi-component Lossless",
            "93": "JPEG 2000 Multi-component",
            "110": "JPEG XL Lossless",
            "111": "JPEG XL JPEG Recompression",
            "112": "JPEG XL",
            "201": "HTJ2K Lossless",
            "202": "HTJ2K Lossless RPCL",
            "203": "HTJ2K",
        }.items()
    },
    **{
        _JPEG + number: Syntax(name, "video")
        for number, name in {
            "100": "MPEG2 Main Profile / Main Level",
            "100.1": "MPEG2 Main Profile / Main Level, fragmentable",
            "101": "MPEG2 Main Profile / High Level",
            "101.1": "MPEG2 Main Profile / High Level, fragmentable",
            "102": "MPEG-4 AVC/H.264 High Profile",
            "102.1": "MPEG-4 AVC/H.264 High Profile, fragmentable",
            "103": "MPEG-4 AVC/H.264 BD-compatible",
            "103.1": "MPEG-4 AVC/H.264 BD-compatible, fragmentable",
            "104": "MPEG-4 AVC/H.264 for 2D Video",
            "104.1": "MPEG-4 AVC/H.264 for 2D Video, fragmentable",
            "105": "MPEG-4 AVC/H.264 for 3D Video",
            "105.1": "MPEG-4 AVC/H.264 for 3D Video, fragmentable",
            "106": "MPEG-4 AVC/H.264 Stereo",
            "106.1": "MPEG-4 AVC/H.264 Stereo, fragmentable",
            "107": "HEVC/H.265 Main Profile",
            "108": "HEVC/H.265 Main 10 Profile",
        }.items()
    },
    **{f"1.2.840.10008.1.2.7.{n}": Syntax("SMPTE ST 2110", "video") for n in (1, 2, 3)},
    _JPEG + "94": Syntax("JPIP Referenced", "elsewhere"),
    _JPEG + "95": Syntax("JPIP Referenced Deflate", "elsewhere", deflated=True),
    _JPEG + "204": Syntax("JPIP HTJ2K Referenced", "elsewhere"),
    _JPEG + "205": Syntax("JPIP HTJ2K Referenced Deflate", "elsewhere", deflated=True),
    _JPEG + "58": Syntax("JPEG Lossless, arithmetic", "unknown"),
    **{_JPEG + str(n): Syntax("JPEG Hierarchical", "unknown") for n in range(59, 67)},
    "1.2.840.10008.1.2.6.1": Syntax("RFC 2557 MIME encapsulation", "unknown"),
    "1.2.840.10008.1.2.6.2": Syntax("XML Encoding", "unknown"),
    "1.2.840.10008.1.20": Syntax("Papyrus 3 Implicit VR Little Endian", "unknown", implicit=True),
}

DEFLATED_SYNTAXES = frozenset(uid for uid, syntax in TRANSFER_SYNTAXES.items() if syntax.deflated)
"""Those whose data sets are deflated as a whole (PS3.5 A.5)."""


VRS = frozenset(
    b"AE AS AT CS DA DS DT FD FL IS LO LT OB OD OF OL OV OW PN SH SL SQ SS ST SV TM UC UI UL UN UR US UT UV".split()
)


def encoding_of(peek: bytes) -> tuple[bool, bool]:
    """Return (implicit, little endian) from the first 8 bytes of a data set, whose groups start low."""
    if peek[4:6] not in VRS:
        return True, True
    little, big = int.from_bytes(peek[:2], "little"), int.from_bytes(peek[:2], "big")
    return False, little <= big


# ---------------------------------------------------------------------------- SOP classes

DICOMDIR_CLASS = "1.2.840.10008.1.3.10"
SLIDE_CLASS = "1.2.840.10008.5.1.4.1.1.77.1.6"
RT_DOSE_CLASS = "1.2.840.10008.5.1.4.1.1.481.2"
PIXEL_KEYWORDS: Mapping[int, str] = {
    0x7FE00008: "FloatPixelData",
    0x7FE00009: "DoubleFloatPixelData",
    0x7FE00010: "PixelData",
}
_IMAGE_KEYWORDS = frozenset(
    {
        "SegmentationStorage",
        "LabelMapSegmentationStorage",
        "HeightMapSegmentationStorage",
        "ParametricMapStorage",
        "EnhancedUSVolumeStorage",
        "OphthalmicThicknessMapStorage",
        "CornealTopographyMapStorage",
        "OphthalmicOpticalCoherenceTomographyBscanVolumeAnalysisStorage",
    }
)
"""Image classes (PS3.4 B.5) whose keywords do not say so."""


def is_image_class(sop_class_uid: str | None) -> bool:
    """Whether objects of this SOP Class must have pixels (an RT Dose need not: it may hold histograms alone)."""
    load_pydicom()
    from pydicom.uid import UID

    keyword = UID(sop_class_uid or "").keyword
    return "ImageStorage" in keyword or keyword in _IMAGE_KEYWORDS


def sop_class_name(sop_class_uid: str | None) -> str:
    """Name a SOP Class for a message: ``Enhanced SR Storage (1.2.840...)``."""
    load_pydicom()
    from pydicom.uid import UID

    if not sop_class_uid:
        return "no SOP Class UID"
    name = UID(sop_class_uid).name
    return sop_class_uid if name == sop_class_uid else f"{name} ({sop_class_uid})"


# ---------------------------------------------------------------------------- values of elements

_NUMBER = re.compile(r"[+-]?(\d+[.,]?\d*|[.,]\d+)([eEdD][+-]?\d+)?", re.ASCII)
_BINARY: Mapping[str, str] = {
    "US": "H",
    "SS": "h",
    "UL": "I",
    "SL": "i",
    "FL": "f",
    "FD": "d",
    "UV": "Q",
    "SV": "q",
}
_PADDING = " \0\t\r\n"


def parse_number(text: str) -> float | None:
    """Read one decimal number as hospitals write it: None is absent, NaN is there but unreadable."""
    text = text.strip(_PADDING)
    if not text:
        return None
    if not _NUMBER.fullmatch(text):
        return math.nan
    value = float(text.replace(",", ".").replace("d", "e").replace("D", "e"))
    return value if math.isfinite(value) else math.nan


def parse_numbers(raw: bytes, count: int) -> list[float | None]:
    r"""Read the first ``count`` values of a DS or IS element (PS3.5 6.2), tolerantly.

    Takes a decimal comma, NULs and spaces, more than 16 characters. ``nan``, ``inf`` and garbage are NaN (there but
    unreadable); what is empty or not there is None. Always returns ``count`` values.
    """
    values = [parse_number(part) for part in raw.decode("latin-1").split("\\", count)[:count]]
    return values + [None] * (count - len(values))


def parse_binary(raw: bytes, vr: str, little_endian: bool, count: int) -> list[float | None]:
    """Read the first ``count`` values of a binary number element; floats that are not finite are NaN."""
    code = _BINARY[vr]
    size = struct.calcsize("<" + code)
    there = min(count, len(raw) // size)
    numbers = struct.unpack(f"{'<' if little_endian else '>'}{there}{code}", raw[: there * size])
    values: list[float | None] = [float(n) if math.isfinite(n) else math.nan for n in numbers]
    return values + [None] * (count - there)


def parse_values(raw: bytes, vr: str, little_endian: bool, count: int) -> list[float | None]:
    """Read numbers of any VR: binary ones by ``vr``, all others as decimal text."""
    if vr in _BINARY:
        return parse_binary(raw, vr, little_endian, count)
    return parse_numbers(raw, count)


def to_int(value: float | None) -> int | None:
    """Return a whole number that fits int32, else None."""
    if value is None or not math.isfinite(value) or value != int(value) or abs(value) > 2**31 - 1:
        return None
    return int(value)


def finite(value: float | None) -> float | None:
    """Return the number, or None where it is unreadable: all float columns but slope and intercept."""
    return None if value is None or not math.isfinite(value) else value


_TIME = re.compile(r"(\d\d)(?::?(\d\d)(?::?(\d\d)(?:[.,](\d*))?)?)?", re.ASCII)
_DATE_TIME = re.compile(r"\d{8}([\d.]*)([+-]\d{4})?", re.ASCII)


def parse_time(text: str | None) -> float | None:
    """Return a TM value (PS3.5 6.2, and ACR-NEMA's colons) as seconds since midnight; None where unreadable."""
    match = _TIME.fullmatch((text or "").strip(_PADDING))
    if not match:
        return None
    hours, minutes, seconds, fraction = (part or "0" for part in match.groups())
    if int(hours) > 23 or int(minutes) > 59 or int(seconds) > 60:
        return None
    return int(hours) * 3600 + int(minutes) * 60 + float(f"{seconds}.{fraction}")


def parse_date_time(text: str | None) -> float | None:
    """Return the time of day of a DT value as seconds since midnight; None where it has none."""
    match = _DATE_TIME.fullmatch((text or "").strip(_PADDING))
    return parse_time(match[1]) if match else None


_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]+")


def clean_text(raw: bytes, charsets: Sequence[str] = ()) -> str | None:
    r"""Decode a text element; None where it is empty. The result always encodes as UTF-8.

    ``charsets`` are the values of Specific Character Set (0008,0005). Without one, bytes above 127 are taken as UTF-8
    if they are valid UTF-8, else as Latin 1. What the declared set cannot read is replaced. Control characters become
    a space, backslashes between values stay; the padding of each value goes.
    """
    try:
        text = raw.decode("ascii") if b"\x1b" not in raw else _decode(raw, charsets)
    except UnicodeDecodeError:
        text = _decode(raw, charsets)
    text = _CONTROL.sub(" ", text.strip(_PADDING)).strip()
    return "\\".join(value.strip(" ") for value in text.split("\\")) or None


PLAIN_CHARSETS: Mapping[str, str] = {
    "ISO_IR 13": "shift_jis",
    "ISO_IR 100": "latin_1",
    "ISO_IR 101": "iso8859_2",
    "ISO_IR 109": "iso8859_3",
    "ISO_IR 110": "iso8859_4",
    "ISO_IR 126": "iso8859_7",
    "ISO_IR 127": "iso8859_6",
    "ISO_IR 138": "iso8859_8",
    "ISO_IR 144": "iso8859_5",
    "ISO_IR 148": "iso8859_9",
    "ISO_IR 166": "tis_620",
    "ISO_IR 192": "utf_8",
    "GB18030": "gb18030",
    "GBK": "gbk",
}
"""Python's codec of the sets without code extensions (PS3.3 C.12.1.1.2), as in pydicom, but without loading it."""


def _decode(raw: bytes, charsets: Sequence[str]) -> str:
    """Decode bytes that are not plain ASCII."""
    names = [name.strip(_PADDING) for name in charsets]
    if not any(names):
        try:
            return raw.decode("utf-8")
        except UnicodeDecodeError:
            return raw.decode("latin-1")
    if len(names) == 1 and names[0] in PLAIN_CHARSETS and b"\x1b" not in raw:
        return raw.decode(PLAIN_CHARSETS[names[0]], "replace")
    load_pydicom()
    from pydicom import charset

    known = [charset.python_encoding[name] for name in names if name in charset.python_encoding]
    if not known:
        return raw.decode("utf-8", "replace")
    if len(known) == 1 and b"\x1b" not in raw:
        return raw.decode(known[0], "replace")
    return charset.decode_bytes(raw, known, set(b"\\^=\t\n\f\r"))


def raw_text(raw: bytes) -> str | None:
    """Return bytes as Latin 1 without padding, None where empty: UIDs and what is only ever compared."""
    return raw.decode("latin-1").strip(_PADDING) or None


# ---------------------------------------------------------------------------- spacing

_CROSS_SECTIONAL = frozenset({"CT", "MR", "PT", "NM", "RTDOSE"})


def _valid(pair: Pair | None) -> tuple[float, float] | None:
    """Return (dy, dx) if both are positive numbers."""
    if pair is None or len(pair) < 2:
        return None
    dy, dx = pair[0], pair[1]
    if dy is None or dx is None or not (0 < dy < math.inf and 0 < dx < math.inf):
        return None
    return dy, dx


def spacing_of(
    pixel_spacing: Pair | None,
    imager_spacing: Pair | None,
    nominal_spacing: Pair | None,
    calibration_type: str | None,
    modality: str | None,
) -> tuple[float | None, float | None, str | None]:
    """Choose the in-plane spacing and say what it measures (PS3.3 10.7.1.3).

    Parameters
    ----------
    pixel_spacing, imager_spacing, nominal_spacing
        (between rows, between columns) in mm: Pixel Spacing (0028,0030), Imager Pixel Spacing (0018,1164) or Image
        Plane Pixel Spacing (3002,0011), Nominal Scanned Pixel Spacing (0018,2010).
    calibration_type
        Pixel Spacing Calibration Type (0028,0A02).
    modality
        Decides whether Imager Pixel Spacing says anything about Pixel Spacing.

    Returns
    -------
    (dy, dx, kind)
        ``patient`` (in the patient), ``calibrated`` (a projection, corrected for magnification), ``detector``
        (in the plane of the detector, the digitised film or the RT Image), or (None, None, None). A spacing that is not
        two positive numbers is none.
    """
    pixel, imager, nominal = _valid(pixel_spacing), _valid(imager_spacing), _valid(nominal_spacing)
    if pixel is None:
        other = imager or nominal
        return (*other, "detector") if other else (None, None, None)
    if modality in _CROSS_SECTIONAL:
        return *pixel, "patient"
    if calibration_type:
        return *pixel, "calibrated"
    if imager is None:
        return *pixel, "patient"
    same = all(math.isclose(a, b, rel_tol=1e-4) for a, b in zip(pixel, imager, strict=True))
    return *pixel, "detector" if same else "calibrated"


class Raw(NamedTuple):
    """One element as it is in the file; ``vr`` is empty where the file does not say."""

    vr: str
    value: bytes
    little_endian: bool = True


Getter = Callable[[int], Raw | None]
"""Gives a top-level element by its tag; None where it is absent, empty or a sequence."""


def spacing_from(get: Getter, row: Row) -> tuple[float | None, float | None, str | None]:
    """Return ``spacing_of`` the top-level elements; ``row`` gives the modality.

    Image Plane Pixel Spacing of an RT Image is in its image plane, RT Image SID (3002,0026) from the source, and not in
    the patient (PS3.3 C.8.8.2): it counts as a detector's.
    """
    found = [get(tag) for tag in (0x00280030, 0x00181164, 0x00182010, 0x30020011)]
    pairs = [element and parse_numbers(element.value, 2) for element in found]
    calibration = get(0x00280A02)
    kind = clean_text(calibration.value) if calibration else None
    return spacing_of(pairs[0], pairs[1] or pairs[3], pairs[2], kind, _text(row, "modality"))


# ---------------------------------------------------------------------------- outcomes


def _int(row: Row, name: str) -> int | None:
    value = row[name]
    return value if isinstance(value, int) else None


def _text(row: Row, name: str) -> str | None:
    value = row[name]
    return value if isinstance(value, str) else None


def expected_pixel_bytes(row: Row) -> int | None:
    """Return how many bytes native pixels must have (PS3.5 8.1.1), without the padding byte.

    None for encapsulated pixels and where Rows, Columns or Bits Allocated are not known. One-bit (and 12-bit) pixels
    are contiguous across frames.
    """
    syntax = TRANSFER_SYNTAXES.get(_text(row, "transfer_syntax") or "")
    rows, columns, bits = _int(row, "rows"), _int(row, "columns"), _int(row, "bits_allocated")
    if (syntax and syntax.pixels != "native") or not rows or not columns or not bits:
        return None
    samples = float(_int(row, "samples") or 1)
    if samples == 3 and (photometric := _text(row, "photometric")):
        samples = {"YBR_FULL_422": 2.0, "YBR_PARTIAL_422": 2.0, "YBR_PARTIAL_420": 1.5}.get(photometric, 3.0)
    return math.ceil(rows * columns * samples * bits * max(_int(row, "n_frames") or 1, 1) / 8)


def decide_outcome(row: Row) -> Verdict | None:
    """Return the outcome that the header alone decides, or None: an image, to be grouped.

    Reads the columns of identity and pixel format, ``size`` and ``image_type`` of a DICOM file's instance row.
    """
    return _not_image(row) or _filtered(row) or _failed(row)


def _not_image(row: Row) -> Verdict | None:
    sop_class, syntax = _text(row, "sop_class_uid"), TRANSFER_SYNTAXES.get(_text(row, "transfer_syntax") or "")
    if sop_class == DICOMDIR_CLASS:
        return Outcome.NOT_IMAGE, Code.DICOMDIR, "a DICOMDIR: a list of files, it has no image itself"
    if syntax and syntax.pixels == "video":
        return Outcome.NOT_IMAGE, Code.VIDEO, f"video ({syntax.name}): not converted"
    if row["pixel_keyword"] is None and not is_image_class(sop_class):
        return Outcome.NOT_IMAGE, Code.SOP_CLASS, f"{sop_class_name(sop_class)}: no pixel data"
    if row["pixel_keyword"] is not None and not (
        _int(row, "rows") or _int(row, "columns") or is_image_class(sop_class)
    ):
        return Outcome.NOT_IMAGE, Code.SOP_CLASS, f"{sop_class_name(sop_class)}: no Rows and Columns"
    return None


def _filtered(row: Row) -> Verdict | None:
    kinds = (_text(row, "image_type") or "").upper().split("\\")
    if _text(row, "sop_class_uid") == SLIDE_CLASS and {"LABEL", "OVERVIEW"} & {kind.strip() for kind in kinds}:
        return Outcome.FILTERED, Code.WSI_LABEL, "label or overview of a slide: may show the patient's name"
    return None


def _failed(row: Row) -> Verdict | None:
    uid = _text(row, "transfer_syntax") or ""
    if _text(row, "sop_class_uid") == SLIDE_CLASS:
        return Outcome.FAILED, Code.UNSUPPORTED_WSI, "whole-slide images are not converted yet"
    syntax = TRANSFER_SYNTAXES.get(uid)
    if syntax and syntax.pixels == "elsewhere":
        return Outcome.FAILED, Code.UNSUPPORTED_SYNTAX, f"{syntax.name} ({uid}): the pixels are on a server"
    if syntax and syntax.pixels == "unknown":
        return Outcome.FAILED, Code.UNSUPPORTED_SYNTAX, f"{syntax.name} ({uid}): retired, and there is no decoder"
    if row["pixel_keyword"] is None:
        name = sop_class_name(_text(row, "sop_class_uid"))
        return Outcome.FAILED, Code.NO_PIXELS, f"{name}: an image class, but there is no pixel data element"
    for column, keyword in (("rows", "Rows"), ("columns", "Columns"), ("bits_allocated", "Bits Allocated")):
        value = _int(row, column)
        if value is None or value < 1:
            return Outcome.FAILED, Code.BAD_HEADER, f"{keyword} is {'missing' if value is None else value}"
    if uid not in TRANSFER_SYNTAXES:
        return Outcome.FAILED, Code.UNSUPPORTED_SYNTAX, f"transfer syntax {uid or '(none)'} is not known"
    return _truncated(row)


FRAMES_FREE = 1 << 16
FRAME_BYTES_MIN = 64
"""What frames beyond ``FRAMES_FREE`` must have at least: each one costs some hundred bytes of index and plan."""
DECODED_BYTES_FREE = 2**28
"""A frame of this many bytes may come from however few: blank JPEG-LS and JPEG 2000 images nearly vanish."""
DECODED_BYTES_PER_BYTE = 4096


def least_pixel_bytes(row: Row) -> int:
    """Return how many bytes the pixel value must have at least: of native pixels all, of encapsulated ones 8 a frame.

    A frame beyond ``DECODED_BYTES_FREE`` needs a byte for each ``DECODED_BYTES_PER_BYTE`` of its own.
    """
    expected = expected_pixel_bytes(row)
    if expected is not None:
        return expected
    n_frames = max(_int(row, "n_frames") or 1, 1)
    native = expected_pixel_bytes({**row, "transfer_syntax": EXPLICIT_LITTLE, "n_frames": 1}) or 0
    return max(8 * n_frames, native // DECODED_BYTES_PER_BYTE if native > DECODED_BYTES_FREE else 0)


def _truncated(row: Row) -> Verdict | None:
    """Compare the bytes that pixels need, or that are declared, with those that are in the file."""
    offset, length, size = _int(row, "pixel_offset"), _int(row, "pixel_length"), _int(row, "size")
    needed = least_pixel_bytes(row)
    there = math.inf if length is None or length < 0 else length
    if offset is not None and offset >= 0 and size is not None:
        there = min(there, max(size - offset, 0))
    n_frames = _int(row, "n_frames") or 1
    if there < needed:
        if expected_pixel_bytes(row) is None and there >= 8 * n_frames:
            size_text = f"{row['rows']} x {row['columns']} pixels"
            return Outcome.FAILED, Code.BAD_SIZE, f"{there:.0f} bytes cannot hold a frame of {size_text}"
        return Outcome.FAILED, Code.TRUNCATED, f"pixel data is cut short: {needed} bytes needed, {there:.0f} there"
    if n_frames > FRAMES_FREE and n_frames * FRAME_BYTES_MIN > there:
        return Outcome.FAILED, Code.BAD_SIZE, f"{n_frames} frames in {there:.0f} bytes: too many to be images"
    return None


# ---------------------------------------------------------------------------- columns

COLUMN_VR: Mapping[int, str] = {
    **dict.fromkeys((0x00280010, 0x00280011, 0x00280002, 0x00280006, 0x00280100, 0x00280101), "US"),
    **dict.fromkeys((0x00280102, 0x00280103, 0x00280120, 0x00280121, 0x00281101, 0x00209162), "US"),
    0x00209228: "UL",
    0x00209057: "UL",
    **dict.fromkeys((0x00189087, 0x00189089, 0x00209241), "FD"),
}
"""Dictionary VR of the number columns that are binary; the others are DS or IS."""

_UNPARSED = frozenset({"slope", "intercept"})
_TIMES = frozenset({"acquisition_time", "content_time"})
BINARY_VRS = frozenset(_BINARY)
NUMBER_VRS = BINARY_VRS | {"DS", "IS"}


def column_value(
    column: Column, vr: str, raw: bytes, little_endian: bool = True, charsets: Sequence[str] = (), signed: bool = False
) -> str | int | float | None:
    """Return what one element means in its column: the one conversion that every reader uses.

    Parameters
    ----------
    column
        A column with a tag.
    vr
        VR in the file; any other text (implicit: ``""``) or one that is no number's falls back on the dictionary's.
    raw
        The element's value.
    little_endian, charsets
        Of the file.
    signed
        Whether Pixel Representation (0028,0103) is 1: it and not the VR decides how paddings are read.
    """
    if column.kind in ("text", "string"):
        raw_only = column.name == "patient_id" or column.name.endswith(("_uid", "_syntax"))
        return raw_text(raw) if raw_only else clean_text(raw, charsets)
    if column.name in _TIMES:
        return parse_time(raw.decode("latin-1"))
    if column.name in ("padding", "padding_limit"):
        vr = "SS" if signed else "US"
    elif vr not in NUMBER_VRS:
        vr = COLUMN_VR.get(column.tag, "DS")
    value = parse_values(raw, vr, little_endian, column.part + 1)[column.part]
    if column.kind == "float":
        return value if column.name in _UNPARSED else finite(value)
    number = to_int(value)
    return max(number or 1, 1) if column.name == "n_frames" else number
