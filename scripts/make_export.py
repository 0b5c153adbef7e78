#!/usr/bin/env python3
"""Make a synthetic hospital export: seeded, with realistic headers and noise, written from byte templates.

::

    python scripts/make_export.py ct-four OUT                  # 645 files, 338 MB of pixels
    python scripts/make_export.py ct-four OUT --studies 8      # the same for eight patients, a folder each
    python scripts/make_export.py hospital OUT --scale 0.05    # everything, small

The last line on standard output is one JSON object: files, bytes, and how many files must get which outcome.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import struct
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import cache, partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Pixels = npt.NDArray[np.int16] | npt.NDArray[np.uint16]

EXPLICIT = "1.2.840.10008.1.2.1"
RLE = "1.2.840.10008.1.2.5"
JPEG_LOSSLESS = "1.2.840.10008.1.2.4.70"
JPEG_LS = "1.2.840.10008.1.2.4.80"
JPEG_2000 = "1.2.840.10008.1.2.4.90"
SOP_CLASS = {"CT": "1.2.840.10008.5.1.4.1.1.2", "MR": "1.2.840.10008.5.1.4.1.1.4", "CR": "1.2.840.10008.5.1.4.1.1.1"}
REPORT = "1.2.840.10008.5.1.4.1.1.88.11"
TINY_SLICES = 50
START_S = 16 * 3600 + 25 * 60
"""When the first image was made: series follow each other by half a minute."""
LONG = frozenset({"OB", "OW", "OF", "SQ", "UC", "UN", "UR", "UT"})
"""VRs with a 4-byte length (PS3.5 7.1.2)."""


# ---------------------------------------------------------------------------- headers as byte templates


class Slot(NamedTuple):
    """A value of fixed length that differs from file to file."""

    name: str
    length: int


class Element(NamedTuple):
    """One data element of a template."""

    tag: int
    vr: str
    value: bytes | str | Slot


class Template(NamedTuple):
    """The bytes of a file up to its pixels, and where the slots are in it."""

    header: bytes
    slots: tuple[tuple[str, int, int], ...]

    def fill(self, values: Mapping[str, str]) -> bytearray:
        """Return the header with each slot filled, padded with spaces (UIDs are made without padding)."""
        header = bytearray(self.header)
        for name, offset, length in self.slots:
            text = values[name].encode().ljust(length)
            if len(text) != length:
                raise ValueError(f"{name} does not fit {length} bytes: {values[name]}")
            header[offset : offset + length] = text
        return header


def build_template(elements: Iterable[Element], syntax: str, sop_class: str) -> Template:
    """Return the Part 10 header (PS3.10 7.1) of the elements, which are sorted here."""
    meta = [
        Element(0x00020001, "OB", b"\0\1"),
        Element(0x00020002, "UI", sop_class),
        Element(0x00020003, "UI", Slot("uid", 44)),
        Element(0x00020010, "UI", syntax),
        Element(0x00020012, "UI", "1.2.826.0.1.3680043.10.1466.1"),
    ]
    length = sum(len(_encode(element)[0]) for element in meta)
    everything = [Element(0x00020000, "UL", struct.pack("<I", length)), *meta, *sorted(elements)]
    header, slots = bytearray(128) + b"DICM", []
    for element in everything:
        data, value_offset = _encode(element)
        if isinstance(element.value, Slot):
            slots.append((element.value.name, len(header) + value_offset, element.value.length))
        header += data
    return Template(bytes(header), tuple(slots))


def _encode(element: Element) -> tuple[bytes, int]:
    """Return the element in explicit little endian, and where its value starts."""
    tag, vr, value = element
    data = b" " * value.length if isinstance(value, Slot) else value.encode() if isinstance(value, str) else value
    data += (b"\0" if vr in ("UI", "OB", "UN") else b" ") * (len(data) % 2)
    start = struct.pack("<HH2s", tag >> 16, tag & 0xFFFF, vr.encode())
    start += struct.pack("<HI", 0, len(data)) if vr in LONG else struct.pack("<H", len(data))
    return start + data, len(start)


def make_uid(*names: object) -> str:
    """Return a UID of 44 characters that follows from the names (PS3.5 B.2)."""
    digest = int.from_bytes(hashlib.sha256(repr(names).encode()).digest()[:16])
    return f"2.25.{10**38 + digest % (2 * 10**38)}"


def make_name(*names: object) -> str:
    """Return a file name as export tools make them, random to the eye."""
    text = hashlib.sha256(repr(("name", *names)).encode()).hexdigest()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:32]}.dcm"


# ---------------------------------------------------------------------------- what the series are


class Plan(NamedTuple):
    """One series to be written."""

    modality: str
    patient: str
    study: str
    series: str
    number: int
    kernel: str
    thickness: str
    image_type: str
    rows: int
    columns: int
    orientation: str
    spacing: str
    syntax: str
    private: bool

    @property
    def window(self) -> tuple[str, str]:
        """Centre and width."""
        return ("-700", "1500") if self.kernel == "LUNG" else ("40", "400")


def series_elements(plan: Plan) -> Iterator[Element]:
    """Yield the elements of a series: about 250 for a CT with private groups, 95 without."""
    texts: list[tuple[int, str, str | Slot]] = [
        (0x00080005, "CS", "ISO_IR 100"), (0x00080008, "CS", plan.image_type), (0x00080012, "DA", "20240102"),
        (0x00080013, "TM", Slot("time", 6)), (0x00080016, "UI", SOP_CLASS[plan.modality]),
        (0x00080018, "UI", Slot("uid", 44)), (0x00080020, "DA", "20240102"), (0x00080021, "DA", "20240102"),
        (0x00080022, "DA", "20240102"), (0x00080023, "DA", "20240102"), (0x00080030, "TM", "162349"),
        (0x00080031, "TM", "162444"), (0x00080032, "TM", Slot("acquired", 14)), (0x00080033, "TM", Slot("time", 6)),
        (0x00080050, "SH", "A" + plan.patient), (0x00080060, "CS", plan.modality),
        (0x00080070, "LO", "ACME MEDICAL SYSTEMS"), (0x00080080, "LO", "General Hospital"), (0x00080090, "PN", ""),
        (0x00081010, "SH", "st99"), (0x00081030, "LO", "Chest"), (0x0008103E, "LO", plan.series),
        (0x00081050, "PN", ""), (0x00081070, "PN", "Operator"), (0x00081090, "LO", "Discoverer"),
        (0x00100010, "PN", f"Synthetic^{plan.patient}"), (0x00100020, "LO", plan.patient),
        (0x00100030, "DA", "19700102"), (0x00100040, "CS", "F"), (0x00101010, "AS", "054Y"),
        (0x00101030, "DS", "61.5"), (0x001021B0, "LT", ""), (0x00180015, "CS", "CHEST"),
        (0x00180022, "CS", "HELICAL MODE"), (0x00180050, "DS", plan.thickness), (0x00180060, "DS", "120"),
        (0x00180090, "DS", "500.000000"), (0x00181020, "LO", "sles_hde.107"), (0x00181030, "LO", "5.1 ROUTINE"),
        (0x00181100, "DS", "400.000000"), (0x00181110, "DS", "949.147000"), (0x00181111, "DS", "541.000000"),
        (0x00181120, "DS", "0.000000"), (0x00181130, "DS", "155.000000"), (0x00181140, "CS", "CW"),
        (0x00181150, "IS", "562"), (0x00181151, "IS", Slot("current", 4)), (0x00181152, "IS", "25"),
        (0x00181160, "SH", "BODY FILTER"), (0x00181170, "IS", "40800"), (0x00181190, "DS", "0.700000"),
        (0x00185100, "CS", "FFS"), (0x00189305, "CS", "YES"), (0x0020000D, "UI", make_uid("study", plan.study)),
        (0x0020000E, "UI", make_uid("series", plan.study, plan.series)), (0x00200010, "SH", plan.study),
        (0x00200011, "IS", str(plan.number)), (0x00200012, "IS", "1"), (0x00200013, "IS", Slot("number", 6)),
        (0x00200032, "DS", Slot("position", 36)), (0x00200037, "DS", plan.orientation),
        (0x00200052, "UI", make_uid("frame", plan.study)), (0x00200060, "CS", ""),
        (0x00200100, "IS", Slot("phase", 4)), (0x00201002, "IS", "65"), (0x00201040, "LO", "SN"),
        (0x00201041, "DS", Slot("location", 12)), (0x00280004, "CS", "MONOCHROME2"), (0x00280030, "DS", plan.spacing),
        (0x00281050, "DS", plan.window[0]), (0x00281051, "DS", plan.window[1]), (0x00400244, "DA", "20240102"),
        (0x00400245, "TM", "162349"), (0x00400253, "SH", "PPS ID 1"), (0x00400254, "LO", "Chest"),
    ]  # fmt: skip
    if plan.modality == "CT":
        texts += [
            (0x00181210, "SH", plan.kernel), (0x00281052, "DS", "-1024"), (0x00281053, "DS", "1"),
            (0x00281054, "LO", "HU"),
        ]  # fmt: skip
    if plan.modality != "MR":
        texts = [text for text in texts if text[0] != 0x00200100]
    if plan.modality == "CR":
        texts = [text for text in texts if text[0] not in (0x00200032, 0x00200037, 0x00200052, 0x00201041)]
    yield from (Element(*text) for text in texts)
    signed = int(plan.modality == "CT")
    bits = 16 if signed else 12
    shorts = {
        0x00280002: 1, 0x00280010: plan.rows, 0x00280011: plan.columns, 0x00280100: 16, 0x00280101: bits,
        0x00280102: bits - 1, 0x00280103: signed,
    }  # fmt: skip
    yield from (Element(tag, "US", struct.pack("<H", value)) for tag, value in shorts.items())
    if signed:
        yield Element(0x00280120, "SS", struct.pack("<h", -2000))
    item = b"".join(_encode(Element(tag, "UI", make_uid("ref", plan.study)))[0] for tag in (0x00081150, 0x00081155))
    yield Element(0x00081140, "SQ", struct.pack("<HHI", 0xFFFE, 0xE000, len(item)) + item)
    if plan.private:
        yield from _private_elements(plan)


def _private_elements(plan: Plan) -> Iterator[Element]:
    """Yield 165 elements in private groups as scanners write them, one of them large."""
    kinds: tuple[tuple[str, bytes], ...] = (
        ("LO", b"PRIVATE TEXT"), ("SS", struct.pack("<h", -7)), ("DS", b"1.750000"), ("FL", struct.pack("<f", 0.625)),
        ("SL", struct.pack("<i", 123456)), ("UN", b"raw value "),
    )  # fmt: skip
    for group, count in (
        (0x0009, 12),
        (0x0019, 45),
        (0x0021, 20),
        (0x0023, 8),
        (0x0027, 25),
        (0x0043, 30),
        (0x0045, 25),
    ):
        yield Element(group << 16 | 0x10, "LO", f"ACME_{group:04X}_01")
        for k in range(count - 1):
            yield Element(group << 16 | 0x1000 + k, *kinds[(k + plan.number) % len(kinds)])
    yield Element(0x004510F0, "OB", bytes(range(256)) * 4)


# ---------------------------------------------------------------------------- pixels


class Noise:
    """Blurred normal noise of unit deviation, drawn once and read from changing places."""

    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)
        white = self.random.standard_normal((2048, 2048), np.float32)
        mixed = white + 0.6 * np.roll(white, 1, 0) + 0.6 * np.roll(white, 1, 1)
        self.pool = (mixed / mixed.std()).astype(np.float32)

    def draw(self, rows: int, columns: int) -> Floats:
        """Return (rows, columns) of the pool from a random corner."""
        y, x = self.random.integers(0, 2048 - rows), self.random.integers(0, 2048 - columns)
        drawn: Floats = self.pool[y : y + rows, x : x + columns]
        return drawn


@cache
def _axes(rows: int, columns: int) -> tuple[Floats, Floats]:
    """Return y and x from -1 to 1, as (rows, 1) and (1, columns)."""
    y = np.linspace(-1, 1, rows, dtype=np.float32)[:, None]
    return y, np.linspace(-1, 1, columns, dtype=np.float32)[None, :]


def ct_slice(noise: Noise, z: float, sigma: float, rows: int = 512, columns: int = 512) -> npt.NDArray[np.int16]:
    """Return one chest slice at z in [0, 1], stored values (HU + 1024), padding -2000 outside of the field of view."""
    y, x = _axes(rows, columns)

    def ellipse(cx: float, cy: float, rx: float, ry: float) -> npt.NDArray[np.bool_]:
        inside: npt.NDArray[np.bool_] = ((x - cx) / rx) ** 2 + ((y - cy) / ry) ** 2 < 1
        return inside

    swell = float(np.sin(np.pi * (0.15 + 0.7 * z)))
    hu = np.full((rows, columns), -1000, np.float32)
    hu[ellipse(0, 0, 0.86, 0.62)] = -95
    hu[ellipse(0, 0.01, 0.80, 0.56)] = 45
    hu[ellipse(-0.40, -0.04, 0.30 * swell, 0.42 * swell)] = -860
    hu[ellipse(0.42, -0.02, 0.28 * swell, 0.40 * swell)] = -850
    hu[ellipse(0.06, -0.10, 0.20 * swell, 0.18)] = 130 - 60 * z
    hu[ellipse(0, 0.40, 0.10, 0.11)] = 420
    hu[ellipse(0, 0.40, 0.05, 0.05)] = 180
    for k in range(7):
        angle = 0.9 * k + 5 * z
        hu[ellipse(-0.40 + 0.2 * np.cos(angle), 0.25 * np.sin(angle), 0.02, 0.015)] = 60
        hu[ellipse(0.42 + 0.2 * np.sin(angle), 0.25 * np.cos(angle), 0.015, 0.02)] = 40
    hu[((y > 0.70) & (y < 0.72))[:, 0]] = -300
    hu += 12 * np.sin(3 * x + 4 * z) + 9 * np.cos(5 * y)
    hu += sigma * noise.draw(rows, columns)
    stored = np.clip(hu, -1024, 3071).astype(np.int16) + np.int16(1024)
    stored[x**2 + y**2 > 1] = -2000
    return stored


def soft_slice(noise: Noise, z: float, rows: int, columns: int) -> npt.NDArray[np.uint16]:
    """Return one MR or CR image, stored 12-bit values."""
    y, x = _axes(rows, columns)
    inside = (x / 0.8) ** 2 + ((y - 0.05) / 0.9) ** 2 < 1
    signal = 900 + 500 * np.sin(4 * x + 9 * z) * np.cos(3 * y - 5 * z) + 300 * np.cos(9 * x * y + z)
    values = np.where(inside, signal, 0) + 25 * np.abs(noise.draw(rows, columns))
    stored: npt.NDArray[np.uint16] = np.clip(values, 0, 4095).astype(np.uint16)
    return stored


def encode_pixels(pixels: Pixels, syntax: str) -> bytes:
    """Return the PixelData element of one frame in the syntax (PS3.5 A.4)."""
    start = struct.pack("<HH2sH", 0x7FE0, 0x0010, b"OW" if syntax == EXPLICIT else b"OB", 0)
    if syntax == EXPLICIT:
        data = pixels.tobytes()
        return start + struct.pack("<I", len(data)) + data
    data = _encode_frame(pixels, syntax)
    data += b"\0" * (len(data) % 2)
    items = struct.pack("<HHIHHI", 0xFFFE, 0xE000, 0, 0xFFFE, 0xE000, len(data))
    return start + struct.pack("<I", 0xFFFFFFFF) + items + data + struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)


def _encode_frame(pixels: Pixels, syntax: str) -> bytes:
    if syntax == RLE:
        return _encode_rle(pixels)
    import imagecodecs

    if syntax == JPEG_2000:
        return bytes(imagecodecs.jpeg2k_encode(pixels, level=0, codecformat="j2k", reversible=True))
    unsigned = pixels.view(np.uint16)
    if syntax == JPEG_LS:
        return bytes(imagecodecs.jpegls_encode(unsigned))
    return bytes(imagecodecs.jpeg8_encode(unsigned, lossless=True, predictor=1, bitspersample=16))


def _encode_rle(pixels: Pixels) -> bytes:
    """Return DICOM RLE (PS3.5 G): high bytes then low bytes, each line packed by imagecodecs' PackBits."""
    import imagecodecs

    planes = pixels.astype("<u2").view(np.uint8).reshape(*pixels.shape, 2)
    segments = []
    for plane in (planes[..., 1], planes[..., 0]):
        data = b"".join(imagecodecs.packbits_encode(line.tobytes()) for line in plane)
        segments.append(data + b"\0" * (len(data) % 2))
    return struct.pack("<16I", 2, 64, 64 + len(segments[0]), *[0] * 13) + b"".join(segments)


# ---------------------------------------------------------------------------- workloads

PixelsAt = Callable[[int], Pixels]
Positions = Sequence[tuple[float, float, float]]
AXIAL = "1\\0\\0\\0\\1\\0"
LOCALIZER = "1\\0\\0\\0\\0\\-1"


def clock_text(seconds: int) -> str:
    """Return seconds since midnight as a DICOM time."""
    return f"{seconds // 3600 % 24:02d}{seconds // 60 % 60:02d}{seconds % 60:02d}"


def write_series(folder: Path, plan: Plan, positions: Positions, pixels: PixelsAt, phases: int = 1) -> list[Path]:
    """Write one file a position and phase; return their paths."""
    template = build_template(series_elements(plan), plan.syntax, SOP_CLASS[plan.modality])
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for k in range(len(positions) * phases):
        x, y, z = positions[k % len(positions)]
        values = {
            "uid": make_uid("instance", plan.study, plan.series, k),
            "time": clock_text(START_S + 30 * plan.number + k // 5),
            "acquired": f"162503.{k // len(positions):06d} ",
            "current": str(300 + k % 40),
            "number": str(k + 1),
            "phase": str(k // len(positions) + 1),
            "position": f"{x:.3f}\\{y:.3f}\\{z:.3f}",
            "location": f"{z:.3f}",
        }
        path = folder / make_name(plan.study, plan.series, k)
        with path.open("wb") as file:
            file.write(template.fill(values))
            file.write(encode_pixels(pixels(k), plan.syntax))
        paths.append(path)
    return paths


def write_ct(folder: Path, patient: str, seed: int, scale: float, syntaxes: Sequence[str] = (EXPLICIT,)) -> list[Path]:
    """Write the chest export of one patient into one flat folder: four reconstructions and a localizer.

    With other syntaxes only the 5 mm STANDARD series is written, once in each.
    """
    noise = Noise(seed)
    study = f"CT{patient}"
    thick, thin = max(2, round(65 * scale)), max(2, round(257 * scale))
    base = Plan("CT", patient, study, "", 0, "STANDARD", "5.000000", "ORIGINAL\\PRIMARY\\AXIAL", 512, 512, AXIAL,
                "0.781250\\0.750000", EXPLICIT, True)  # fmt: skip
    paths: list[Path] = []

    def stack(plan: Plan, n: int, step: float, sigma: float) -> None:
        positions = [(-194.2, -200.0, -121.0 - step * (n - 1 - k)) for k in range(n)]
        paths.extend(write_series(folder, plan, positions, lambda k: ct_slice(noise, k / n, sigma)))

    if tuple(syntaxes) != (EXPLICIT,):
        for number, syntax in enumerate(syntaxes, 2):
            stack(base._replace(series=f"5mm Stnd {syntax}", number=number, syntax=syntax), thick, 5.0, 14.0)
        return paths
    stack(base._replace(series="5mm Stnd", number=2), thick, 5.0, 14.0)
    stack(base._replace(series="5mm Lung", number=3, kernel="LUNG"), thick, 5.0, 36.0)
    thin_plan = base._replace(thickness="1.250000")
    stack(thin_plan._replace(series="1.25mm Stnd", number=4), thin, 1.25, 24.0)
    stack(thin_plan._replace(series="1.25mm Lung", number=5, kernel="LUNG"), thin, 1.25, 58.0)
    scout = base._replace(
        series="Scout", number=1, kernel="", image_type="ORIGINAL\\PRIMARY\\LOCALIZER", rows=944, columns=972,
        orientation=LOCALIZER, spacing="0.545455\\0.596847",
    )  # fmt: skip
    paths += write_series(folder, scout, [(-265.0, 0.0, 60.0)], lambda _: ct_slice(noise, 0.5, 8.0, 944, 972))
    return paths


def write_mr(folder: Path, seed: int, scale: float) -> list[Path]:
    """Write 4-D MR series of 20 positions in 15 phases, 256 x 256."""
    noise = Noise(seed)
    paths: list[Path] = []
    for number in range(1, max(1, round(4 * scale)) + 1):
        plan = Plan("MR", f"M{seed}", f"MR{seed}", f"Dynamic {number}", number, "", "4.000000",
                    "ORIGINAL\\PRIMARY\\M\\NORM", 256, 256, AXIAL, "0.937500\\0.898438", EXPLICIT, False)  # fmt: skip
        positions = [(-120.0, -115.0, -40.0 + 4.4 * k) for k in range(20)]
        paths += write_series(folder, plan, positions, lambda k: soft_slice(noise, k / 20, 256, 256), phases=15)
    return paths


def _one_film(noise: Noise, number: int, _: int) -> Pixels:
    return soft_slice(noise, number / 7, 128, 160)


def write_cr(folder: Path, seed: int, scale: float) -> list[Path]:
    """Write series of one 128 x 160 image each, four series a study."""
    noise = Noise(seed)
    paths: list[Path] = []
    for k in range(max(4, round(2000 * scale))):
        plan = Plan("CR", f"C{seed}-{k // 4}", f"CR{seed}-{k // 4}", f"View {k % 4}", k % 4 + 1, "", "1",
                    "ORIGINAL\\PRIMARY", 128, 160, AXIAL, "0.200000\\0.175000", EXPLICIT, False)  # fmt: skip
        paths += write_series(folder, plan, [(0.0, 0.0, 0.0)], partial(_one_film, noise, k))
    return paths


def write_tiny(folder: Path, first: int, last: int, seed: int) -> int:
    """Write CT series of 50 slices of 32 x 32, a folder each, numbered ``first`` to ``last``; return the files."""
    noise = Noise(seed)
    slices = [ct_slice(noise, k / TINY_SLICES, 14.0, 32, 32) for k in range(TINY_SLICES)]
    positions = [(-12.0, -11.0, -100.0 + 2.5 * k) for k in range(TINY_SLICES)]
    for number in range(first, last):
        plan = Plan("CT", f"T{number // 8}", f"TINY{seed}-{number // 4}", f"Tiny {number}", number % 4 + 1, "STANDARD",
                    "2.500000", "ORIGINAL\\PRIMARY\\AXIAL", 32, 32, AXIAL, "0.781250\\0.750000", EXPLICIT,
                    False)  # fmt: skip
        write_series(folder / f"{number // 1000:04d}" / f"{number:06d}", plan, positions, slices.__getitem__)
    return TINY_SLICES * (last - first)


def write_hospital(folder: Path, seed: int, scale: float) -> Counter[str]:
    """Write all of the above in nested folders, with what else lies on such disks; return the expected outcomes."""
    ct = write_ct(folder / "RADIOLOGY" / "CT0001" / "ST1", f"H{seed}", seed, scale)
    mr = write_mr(folder / "RADIOLOGY" / "MR0002", seed, scale)
    cr = write_cr(folder / "PLAIN FILMS", seed, scale)
    packed = write_ct(folder / "ARCHIVE" / "packed", f"Z{seed}", seed, scale, (JPEG_LOSSLESS, JPEG_LS, JPEG_2000, RLE))
    good = [*ct, *mr, *cr, *packed]
    outcomes = Counter({"converted": len(good)})
    for k, path in enumerate(good[:: max(1, len(good) // max(3, round(40 * scale)))]):
        outcomes["duplicate"] += 1
        _put(folder / "COPIES" / f"IM{k:05d}", path.read_bytes())
    broken = write_cr(folder / "BROKEN", seed + 1, 0.002)
    for path in broken:
        path.write_bytes(path.read_bytes()[:-101])
    outcomes["failed"] += len(broken)
    for k in range(max(2, round(30 * scale))):
        _put(folder / "REPORTS" / f"SR{k:04d}.dcm", _report_object(seed, k))
        outcomes["not-image"] += 1
    junk = {
        "README.TXT": b"Synthetic export, no patient in it.\n", "VIEWER/viewer.exe": b"MZ" + bytes(range(256)) * 64,
        "VIEWER/Thumbs.db": b"\xd0\xcf\x11\xe0" + bytes(4096), "letter.pdf": b"%PDF-1.7\n" + bytes(range(256)) * 16,
        "photo.jpg": b"\xff\xd8\xff\xe0\0\x10JFIF\0" + bytes(range(256)) * 8, "empty": b"",
        "RADIOLOGY/._CT0001": b"\0\5\x16\7" + bytes(120),
    }  # fmt: skip
    for name, data in junk.items():
        _put(folder / name, data)
    outcomes["not-dicom"] += len(junk)
    return outcomes


def _report_object(seed: int, k: int) -> bytes:
    """Return a structured report, which has no pixels."""
    elements = [
        Element(0x00080016, "UI", REPORT), Element(0x00080018, "UI", Slot("uid", 44)), Element(0x00080060, "CS", "SR"),
        Element(0x00100010, "PN", "Synthetic^Report"), Element(0x00100020, "LO", f"H{seed}"),
        Element(0x0020000D, "UI", make_uid("study", f"CTH{seed}")), Element(0x0020000E, "UI", make_uid("sr", seed)),
        Element(0x00200013, "IS", str(k + 1)),
    ]  # fmt: skip
    return bytes(build_template(elements, EXPLICIT, REPORT).fill({"uid": make_uid("report", seed, k)}))


def _put(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


INDEX_ROWS = 1_000_000
"""Rows of an instance index that are made at a time."""


def write_index(folder: Path, rows: int, series_length: int = 256) -> Counter[str]:
    """Write an instance index of so many CT slices as if they had been scanned; ``series_length`` slices a series."""
    from fastdcm.scan.compact import slim
    from fastdcm.scan.index import build_index, no_frames, save_index

    starts = range(0, rows, INDEX_ROWS)
    parts = (slim(_index_part(start, min(start + INDEX_ROWS, rows), series_length)) for start in starts)
    folder.mkdir(parents=True, exist_ok=True)
    save_index(build_index(("synthetic",), ((part, no_frames()) for part in parts)), str(folder))
    return Counter({"index rows": rows})


def _index_part(first: int, last: int, series_length: int) -> Any:
    """Return rows ``first`` up to ``last`` of the index."""
    import pyarrow as pa

    from fastdcm.model import COLUMNS
    from fastdcm.scan.index import index_schema

    k = np.arange(first, last)
    series = k // series_length
    constant: dict[str, Any] = {
        "source": 0, "mtime_ns": 1704190000000000000, "size": 534000, "transfer_syntax": EXPLICIT, "modality": "CT",
        "sop_class_uid": SOP_CLASS["CT"], "manufacturer": "ACME", "rows": 512, "columns": 512, "samples": 1,
        "photometric": "MONOCHROME2", "bits_allocated": 16, "bits_stored": 16, "high_bit": 15,
        "pixel_representation": 1, "n_frames": 1, "pixel_keyword": "PixelData", "pixel_offset": 9000,
        "pixel_length": 524288, "position_x": -194.2, "position_y": -200.0, "row_x": 1.0, "row_y": 0.0, "row_z": 0.0,
        "column_x": 0.0, "column_y": 1.0, "column_z": 0.0, "spacing_y": 0.78125, "spacing_x": 0.75,
        "spacing_kind": "patient", "thickness": 1.25, "slope": 1.0, "intercept": -1024.0, "kernel": "STANDARD",
        "image_type": "ORIGINAL\\PRIMARY\\AXIAL", "study_date": "20240102", "acquisition_number": 1,
    }  # fmt: skip
    varying: dict[str, Any] = {
        "path": [f"{one // 65536:04d}/{one:09d}.dcm" for one in k.tolist()],
        "sop_instance_uid": [f"2.25.{10**38 + one}" for one in k.tolist()],
        "series_uid": [f"2.25.{2 * 10**38 + one}" for one in series.tolist()],
        "study_uid": [f"2.25.{3 * 10**38 + one}" for one in (series // 4).tolist()],
        "patient_id": [f"P{one}" for one in (series // 8).tolist()],
        "frame_of_reference_uid": [f"2.25.{10**38 + one}" for one in (series // 4).tolist()],
        "position_z": -400.0 + 1.25 * (k % series_length),
        "instance_number": k % series_length + 1,
    }
    schema = index_schema()
    columns = []
    for column in COLUMNS:
        kind = schema.field(column.name).type
        plain = kind.value_type if pa.types.is_dictionary(kind) else kind
        if column.name in varying:
            columns.append(pa.array(varying.pop(column.name), plain).cast(kind))
        else:
            columns.append(pa.repeat(pa.scalar(constant.get(column.name), plain), len(k)).cast(kind))
    return pa.Table.from_arrays(columns, schema=schema)


def make(workload: str, folder: Path, scale: float, seed: int, studies: int, series_length: int = 256) -> Counter[str]:
    """Write a workload; return how many files must get which outcome."""
    if workload == "ct-four":
        if studies == 1:
            return Counter(converted=len(write_ct(folder, f"P{seed}", seed, scale)))
        jobs = [(folder / f"study-{k}", f"P{seed + k}", seed + k, scale) for k in range(studies)]
        with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
            return Counter(converted=sum(len(paths) for paths in pool.map(write_ct, *zip(*jobs, strict=True))))
    if workload == "mr-small":
        return Counter(converted=len(write_mr(folder, seed, scale)))
    if workload == "cr-singles":
        return Counter(converted=len(write_cr(folder, seed, scale)))
    if workload == "compressed":
        syntaxes = (JPEG_LOSSLESS, JPEG_LS, JPEG_2000, RLE)
        return Counter(converted=len(write_ct(folder, f"P{seed}", seed, scale, syntaxes)))
    if workload == "tiny":
        n = max(1, round(10_000 * scale) // TINY_SLICES)
        parts = [(folder, start, min(start + 500, n), seed) for start in range(0, n, 500)]
        with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
            return Counter(converted=sum(pool.map(write_tiny, *zip(*parts, strict=True))))
    if workload == "hospital":
        return write_hospital(folder, seed, scale)
    return write_index(folder, round(1_000_000 * scale), series_length)


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the command line, write, and print the summary."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    workloads = ("ct-four", "mr-small", "cr-singles", "compressed", "tiny", "hospital", "headers-1m")
    parser.add_argument("workload", choices=workloads)
    parser.add_argument("out", type=Path, help="folder that does not exist yet, or is empty")
    parser.add_argument("--scale", type=float, default=1.0, help="of the number of images (default 1)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--studies", type=int, default=1, help="ct-four: patients, a folder each (default 1, flat)")
    parser.add_argument("--series-length", type=int, default=256, help="headers-1m: images a series (default 256)")
    options = parser.parse_args(arguments)
    if options.out.exists() and any(options.out.iterdir()):
        parser.error(f"{options.out} is not empty")
    expected = make(options.workload, options.out, options.scale, options.seed, options.studies, options.series_length)
    files = [path for path in options.out.rglob("*") if path.is_file()]
    summary = {"files": len(files), "bytes": sum(path.stat().st_size for path in files), "expected": dict(expected)}
    print(json.dumps(summary))
    return 0


if __name__ == "__main__":
    sys.exit(main())
