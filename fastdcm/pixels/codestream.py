"""What a compressed frame says of itself: the codec, size, precision, sign and colour of its codestream's header.

Read before any decoder allocates anything, by the codestream's own bytes and not by the transfer syntax.
JPEG: ISO/IEC 10918-1; JPEG-LS: ISO/IEC 14495-1; JPEG 2000 and HTJ2K: ISO/IEC 15444-1 and -15; JPEG XL: ISO/IEC 18181.
"""

from __future__ import annotations

import struct
from typing import Literal, NamedTuple

Data = bytes | bytearray
Codec = Literal["jpeg", "jpegls", "jpeg2000", "htj2k", "jpegxl", "rle", "deflate", "native"]

SEGMENTS_MAX = 2**16
"""Marker segments, fill bytes or boxes that may come before what a header must say."""


class Codestream(NamedTuple):
    """The header of one codestream."""

    codec: Codec
    rows: int
    columns: int
    samples: int
    """0: not told."""
    bits: int
    """Precision of a sample; 0: not told."""
    signed: bool
    """JPEG and JPEG-LS cannot tell: False."""
    colour: Literal["RGB", "YBR"] | None
    """What the codestream itself says its decoded samples are (before a decoder's own conversion, which is undone
    only for JPEG 2000: its MCT is part of decoding, so there it says RGB); None: nothing, so the header decides."""
    lossless: bool
    """True for JPEG SOF3: the decoder cannot convert colour."""


def read_codestream(data: Data) -> Codestream | None:
    """Return the header of the codestream that ``data`` begin with, None if they begin with none of the known.

    Raises
    ------
    ValueError
        If it is one, but its header is damaged.
    """
    start = bytes(data[:12])
    try:
        if start[:3] == b"\xff\xd8\xff":
            return _read_jpeg(data)
        if start[:4] == b"\xff\x4f\xff\x51":
            return _read_jpeg2000(data, 0)
        if start[4:8] == b"jP  ":
            return _read_jpeg2000(data, _find_box(data, b"jp2c"))
        if start[:2] == b"\xff\x0a":
            return _read_jpegxl(data, 0)
        if start[4:8] == b"JXL ":
            return _read_jpegxl(data, _find_jpegxl(data))
    except (struct.error, IndexError):
        raise ValueError("the header of the codestream is damaged") from None
    return None


# ---------------------------------------------------------------------------- JPEG and JPEG-LS

FRAME_HEADERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC} | {0xF7}
"""SOF0 to SOF15 without DHT, JPG and DAC, which lie between; SOF55 is JPEG-LS."""


class _JpegMarkers(NamedTuple):
    jfif: bool
    adobe: int | None
    """The transform byte of Adobe's APP14: 0 none, 1 YCbCr, 2 YCCK."""
    hp_transform: bool
    """HP's colour transform of JPEG-LS (APP8 ``mrfx``), which CharLS inverts."""


def _read_jpeg(data: Data) -> Codestream:
    """Walk the marker segments up to the frame header."""
    markers = _JpegMarkers(False, None, False)
    offset = 2
    for _ in range(SEGMENTS_MAX):
        if data[offset] != 0xFF:
            raise ValueError(f"no JPEG marker at byte {offset}")
        marker = data[offset + 1]
        if marker == 0xFF:  # a fill byte
            offset += 1
            continue
        if marker == 0x01 or 0xD0 <= marker <= 0xD7:
            offset += 2
            continue
        if marker in (0xD8, 0xD9, 0xDA):
            raise ValueError("the JPEG stream has no frame header")
        (length,) = struct.unpack_from(">H", data, offset + 2)
        if marker in FRAME_HEADERS:
            return _read_jpeg_frame(data, offset, marker, markers)
        markers = _noted(markers, marker, bytes(data[offset + 4 : offset + 2 + min(length, 64)]))
        offset += 2 + length
    raise ValueError("the JPEG stream has no frame header where one must be")


def _noted(markers: _JpegMarkers, marker: int, content: bytes) -> _JpegMarkers:
    if marker == 0xE0 and content.startswith(b"JFIF\0"):
        return markers._replace(jfif=True)
    if marker == 0xEE and content.startswith(b"Adobe") and len(content) >= 12:
        return markers._replace(adobe=content[11])
    if marker == 0xE8 and content.startswith(b"mrfx"):
        return markers._replace(hp_transform=content[4:5] not in (b"", b"\0"))
    return markers


def _read_jpeg_frame(data: Data, offset: int, marker: int, markers: _JpegMarkers) -> Codestream:
    """Read SOFn or SOF55: precision, lines, columns, components."""
    bits, rows, columns, samples = struct.unpack_from(">BHHB", data, offset + 4)
    identifiers = bytes(data[offset + 10 : offset + 10 + 3 * samples : 3])
    codec: Codec = "jpegls" if marker == 0xF7 else "jpeg"
    colour = _jpeg_colour(markers, identifiers) if samples == 3 else None
    lossless = marker in (0xC3, 0xC7, 0xCB, 0xCF)
    return Codestream(codec, rows, columns, samples, bits, False, colour, lossless)


def _jpeg_colour(markers: _JpegMarkers, identifiers: bytes) -> Literal["RGB", "YBR"] | None:
    if markers.hp_transform:
        return "RGB"
    if markers.adobe is not None:
        return "RGB" if markers.adobe == 0 else "YBR"
    if identifiers in (b"RGB", b"rgb"):
        return "RGB"
    return "YBR" if markers.jfif else None


# ---------------------------------------------------------------------------- JPEG 2000


def _find_box(data: Data, kind: bytes) -> int:
    """Return the offset of the content of the first box of a kind (ISO/IEC 15444-1 Annex I)."""
    offset = 0
    for _ in range(SEGMENTS_MAX):
        if offset + 8 > len(data):
            break
        length, header = int.from_bytes(data[offset : offset + 4], "big"), 8
        if length == 1:
            length, header = int.from_bytes(data[offset + 8 : offset + 16], "big"), 16
        if bytes(data[offset + 4 : offset + 8]) == kind:
            return offset + header
        if length < header:
            break
        offset += length
    raise ValueError(f"the container has no {kind.decode()} box")


def _read_jpeg2000(data: Data, start: int) -> Codestream:
    """Read SIZ, whether CAP says high throughput, and the multiple component transform of COD."""
    if bytes(data[start : start + 4]) != b"\xff\x4f\xff\x51":
        raise ValueError("the JPEG 2000 codestream does not begin with SOC and SIZ")
    siz, x1, y1, x0, y0 = struct.unpack_from(">H2xIIII", data, start + 4)
    samples, depth, dx, dy = struct.unpack_from(">HBBB", data, start + 40)
    if not dx or not dy:
        raise ValueError("the JPEG 2000 codestream has a sampling of 0")
    codec: Codec = "jpeg2000"
    transformed = False
    offset = start + 4 + siz
    for _ in range(SEGMENTS_MAX):
        marker, length = struct.unpack_from(">HH", data, offset)
        if marker == 0xFF50:
            codec = "htj2k"
        if marker == 0xFF52:
            transformed = data[offset + 8] != 0
        if marker == 0xFF90 or marker < 0xFF30 or length < 2:
            break
        offset += 2 + length
    bits, signed = (depth & 0x7F) + 1, depth >= 0x80
    columns, rows = -(-x1 // dx) - -(-x0 // dx), -(-y1 // dy) - -(-y0 // dy)
    return Codestream(codec, rows, columns, samples, bits, signed, "RGB" if transformed else None, False)


# ---------------------------------------------------------------------------- JPEG XL


def _find_jpegxl(data: Data) -> int:
    """Return where the codestream begins in a container: one jxlc box, or the first jxlp after its number."""
    try:
        return _find_box(data, b"jxlc")
    except ValueError:
        return _find_box(data, b"jxlp") + 4


class _Bits:
    """Little endian bit reader over the first bytes of a codestream."""

    def __init__(self, data: bytes) -> None:
        self.value = int.from_bytes(data, "little")
        self.left = 8 * len(data)

    def take(self, count: int) -> int:
        if count > self.left:
            raise ValueError("the JPEG XL header is cut short")
        taken = self.value & ((1 << count) - 1)
        self.value >>= count
        self.left -= count
        return taken


def _read_jpegxl(data: Data, start: int) -> Codestream:
    """Read SizeHeader and the bit depth of ImageMetadata (ISO/IEC 18181-1 D.2, D.3)."""
    if bytes(data[start : start + 2]) != b"\xff\x0a":
        raise ValueError("the JPEG XL codestream does not begin with its signature")
    bits = _Bits(bytes(data[start + 2 : start + 34]))
    rows, columns = _jpegxl_size(bits)
    return Codestream("jpegxl", rows, columns, 0, _jpegxl_depth(bits), False, "RGB", False)


def _jpegxl_size(bits: _Bits) -> tuple[int, int]:
    small = bits.take(1)

    def side() -> int:
        return (bits.take(5) + 1) * 8 if small else 1 + bits.take((9, 13, 18, 30)[bits.take(2)])

    rows = side()
    ratio = bits.take(3)
    if ratio == 0:
        return rows, side()
    numerator, denominator = ((1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))[ratio - 1]
    return rows, rows * numerator // denominator


def _jpegxl_depth(bits: _Bits) -> int:
    """Return the bits of an integer sample; 0 for floats and where fields that DICOM has no use for come before."""
    if bits.take(1):
        return 8  # all fields have their default
    if bits.take(1):
        bits.take(3)  # orientation
        if bits.take(3):  # intrinsic size, preview, animation
            return 0
    if bits.take(1):
        return 0
    selector = bits.take(2)
    return (8, 10, 12)[selector] if selector < 3 else 1 + bits.take(6)
