"""Hostile files: good ones of every kind, and what can be done to them. The same seed gives the same files."""

from __future__ import annotations

import os
import random
import struct
import warnings
import zlib
from collections.abc import Callable, Iterator, Mapping
from io import BytesIO
from pathlib import Path

from pydicom import config, dcmread
from pydicom import uid as uids
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.tag import Tag

from tests import dicomgen

Mutation = Callable[[random.Random, bytes], bytes]

SYNTAXES = (
    uids.ImplicitVRLittleEndian,
    uids.ExplicitVRLittleEndian,
    uids.ExplicitVRBigEndian,
    uids.DeflatedExplicitVRLittleEndian,
    uids.RLELossless,
    uids.JPEGBaseline8Bit,
    uids.JPEGExtended12Bit,
    uids.JPEGLossless,
    uids.JPEGLosslessSV1,
    uids.JPEGLSLossless,
    uids.JPEGLSNearLossless,
    uids.JPEG2000Lossless,
    uids.JPEG2000,
    uids.HTJ2KLossless,
    dicomgen.JPEG_XL_LOSSLESS,
)
COUNTS = (0, 1, 2, 0xFE, 0xFFFE, 0xFFFFFFFE, 0xFFFFFFFF, 3 * 2**30, 2**31, 2**24)


def good_files(folder: Path) -> list[bytes]:
    """Return small valid files: one of every kind and every transfer syntax that the tests can write."""
    made: list[Path] = []
    for syntax in SYNTAXES:
        bits = 8 if syntax == uids.JPEGBaseline8Bit else 12
        made += dicomgen.make_series(folder, n=1, series=f"s{syntax}", syntax=syntax, bits_stored=bits).paths
    made += [*dicomgen.pet_slopes(folder, n=1).paths, *dicomgen.monochrome1(folder).paths[:1]]
    made += dicomgen.make_enhanced(folder).paths
    made += dicomgen.make_cine(folder).paths
    made += dicomgen.make_palette(folder).paths
    made += dicomgen.make_mosaic(folder).paths[:1]
    made += [dicomgen.make_sr(folder / "sr.dcm"), dicomgen.make_dicomdir(folder / "DICOMDIR")]
    return [path.read_bytes() for path in made]


def installed_files(largest_bytes: int = 200_000) -> list[bytes]:
    """Return the small test files that come with pydicom."""
    import pydicom

    folder = Path(pydicom.__file__).parent / "data" / "test_files"
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path.stat().st_size <= largest_bytes)
    return [path.read_bytes() for path in paths if path.suffix != ".py"]


# ---------------------------------------------------------------------------- bytes


def _place(chance: random.Random, data: bytes) -> int:
    """A byte of the file, rather one of its header."""
    most = len(data) if chance.random() < 0.4 else min(len(data), 2000)
    return chance.randrange(max(most, 1))


def flip(chance: random.Random, data: bytes) -> bytes:
    out = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 5, 20))):
        out[_place(chance, data)] = chance.randrange(256)
    return bytes(out)


def cut(chance: random.Random, data: bytes) -> bytes:
    return data[: chance.choice((_place(chance, data), chance.randrange(len(data)), len(data) - 1, 132, 140, 8, 1, 0))]


def lengths(chance: random.Random, data: bytes) -> bytes:
    """Overwrite what may be a length of 2 or 4 bytes: behind a VR where there is one."""
    out = bytearray(data)
    vrs = [at for vr in (b"SQ", b"UN", b"OW", b"OB", b"LO", b"UI", b"US", b"DS") if (at := data.find(vr, 200)) > 0]
    at = chance.choice(vrs) + chance.choice((2, 4)) if vrs and chance.random() < 0.5 else _place(chance, data)
    out[at : at + 4] = struct.pack("<I", chance.choice(COUNTS))
    return bytes(out)


def item_lengths(chance: random.Random, data: bytes) -> bytes:
    """Overwrite the length of an item, of a fragment or of the offset table."""
    places = [at for at in range(len(data) - 8) if data[at : at + 4] == b"\xfe\xff\x00\xe0"]
    if not places:
        return lengths(chance, data)
    out, at = bytearray(data), chance.choice(places)
    out[at + 4 : at + 8] = struct.pack("<I", chance.choice((*COUNTS, 4, 8, chance.randrange(2 * len(data)))))
    return bytes(out)


def splice(chance: random.Random, data: bytes) -> bytes:
    """Take a part out, put it in again or repeat it."""
    start, count = _place(chance, data), chance.randrange(1, 400)
    part = data[start : start + count]
    return chance.choice((data[:start] + data[start + count :], data[:start] + part * 3 + data[start + count :]))


def noise(chance: random.Random, data: bytes) -> bytes:
    at = _place(chance, data)
    return data[:at] + chance.choice((bytes(4096), b"\xff" * 4096, chance.randbytes(4096))) + data[at:]


def pixels_only(chance: random.Random, data: bytes) -> bytes:
    """Damage what is behind the pixel element's tag: offset table, RLE header, codestream."""
    at = max(data.rfind(b"\xe0\x7f\x10\x00"), 0)
    body = data[at:]
    return data[:at] + chance.choice((flip, flip, splice, lengths, item_lengths, cut))(chance, body)


# ---------------------------------------------------------------------------- elements


def _values(chance: random.Random) -> Mapping[int, tuple[str, bytes]]:
    """One wrong value for each element that decides how much is read, allocated or made a path of."""
    us = struct.pack("<H", chance.choice((0, 1, 3, 7, 9, 12, 31, 64, 255, 1000, 32768, 65535)))
    text = chance.choice(
        (b"../../../etc/passwd", b"/abs", b"", b"a\0b\x1b[31m\n", b"x" * 10000, b"\xff\xfe\x80", b"con", b".", b"..")
    )
    number = chance.choice(
        (b"nan", b"inf", b"1,5", b"-1e400", b"\0", b"1" * 500, b"\\\\\\", b"2000000000", b"-1", b"0")
    )
    frames = chance.choice((b"2000000000", b"-1", b"0", b"65536", b"1e9", b"2", b"300000"))
    return {
        **dict.fromkeys((0x00280002, 0x00280006, 0x00280010, 0x00280011, 0x00280100, 0x00280101), ("US", us)),
        **dict.fromkeys((0x00280102, 0x00280103, 0x00280120, 0x00280121), ("US", us)),
        0x00280008: ("IS", frames),
        **dict.fromkeys((0x00080018, 0x0020000D, 0x0020000E, 0x00200052, 0x00080016), ("UI", text)),
        **dict.fromkeys((0x00100010, 0x00100020, 0x0008103E, 0x00080005, 0x00080008, 0x00281054), ("LO", text)),
        **dict.fromkeys((0x00080060, 0x00280004, 0x00080070), ("CS", text)),
        **dict.fromkeys((0x00200032, 0x00200037, 0x00280030, 0x00281052, 0x00281053, 0x00180050), ("DS", number)),
        **dict.fromkeys((0x00200013, 0x00200100, 0x00181060, 0x00180081, 0x00189087), ("IS", number)),
        **dict.fromkeys((0x00281101, 0x00281102, 0x00281103), ("US", us * chance.randrange(5))),
        **dict.fromkeys((0x00281201, 0x00281203), ("OW", chance.randbytes(chance.randrange(600)))),
        **dict.fromkeys((0x7FE00001, 0x7FE00002), ("OV", chance.randbytes(8 * chance.randrange(4)))),
    }


def element(chance: random.Random, data: bytes) -> bytes:
    """Replace or remove a few elements and write the file again."""

    def edit(dataset: Dataset) -> None:
        values = _values(chance)
        for tag in chance.sample(sorted(values), chance.choice((1, 1, 2, 4))):
            if chance.random() < 0.2:
                dataset.pop(Tag(tag), None)
                continue
            vr, value = values[tag]
            value += b" " * (len(value) % 2)
            dataset[tag] = RawDataElement(Tag(tag), vr, len(value), value, 0, False, True)

    return _rewritten(data, edit)


def groups(chance: random.Random, data: bytes) -> bytes:
    """Give functional groups too few or too many items, a Modality LUT or palette that does not fit, deep nesting."""

    def edit(dataset: Dataset) -> None:
        per_frame = dataset.get("PerFrameFunctionalGroupsSequence")
        if per_frame:
            kept = list(per_frame)
            chance.shuffle(kept)
            dataset.PerFrameFunctionalGroupsSequence = (kept * 3)[: chance.randrange(3 * len(kept))]
        lut = Dataset()
        lut.add_new(
            0x00283002, "US", [chance.choice((0, 1, 255, 65535)), chance.randrange(65536), chance.choice((8, 16, 99))]
        )
        lut.add_new(0x00283006, "OW", chance.randbytes(2 * chance.randrange(300)))
        if chance.random() < 0.5:
            dataset.add_new(0x00283000, "SQ", [lut] * chance.randrange(3))
        nested = Dataset()
        for _ in range(chance.choice((1, 30, 120))):
            outer = Dataset()
            outer.add_new(chance.choice((0x00081140, 0x52009229, 0x00540016)), "SQ", Sequence([nested]))
            nested = outer
        dataset.update(nested)

    return _rewritten(data, edit)


def _rewritten(data: bytes, edit: Callable[[Dataset], None]) -> bytes:
    """Read, edit and write a file; where pydicom cannot, return it as it was."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            dataset = dcmread(BytesIO(data), force=True)
            edit(dataset)
            out = BytesIO()
            dataset.save_as(out, enforce_file_format=False)
    except Exception:  # noqa: BLE001 - what cannot be written is no loss
        return data
    return out.getvalue()


MUTATIONS: Mapping[str, Mutation] = {
    function.__name__: function
    for function in (flip, cut, lengths, item_lengths, splice, noise, pixels_only, element, groups)
}


def mutated(seeds: list[bytes], count: int, seed: int) -> Iterator[tuple[str, bytes]]:
    """Yield ``count`` (name of the mutation, file)."""
    config.settings.reading_validation_mode = config.settings.writing_validation_mode = config.IGNORE
    names = list(MUTATIONS)
    for number in range(count):
        chance = random.Random(f"{seed}-{number}")
        name = names[number % len(names)]
        data = renamed(chance.choice(seeds), number, apart=chance.random() < 0.7)
        yield name, MUTATIONS[name](chance, data)


def renamed(data: bytes, number: int, *, apart: bool) -> bytes:
    """Give an image a SOP Instance UID of its own, and a series if it is to stand ``apart``: else copies conflict."""
    for tag in (b"\x08\0\x18\0UI", b"\x20\0\x0e\0UI")[: 1 + apart]:
        at = data.find(tag)
        if at < 0:
            continue
        length = int.from_bytes(data[at + 6 : at + 8], "little")
        uid = data[at + 8 : at + 8 + length]
        if length > 12:
            data = data.replace(uid, uid[: length - 10] + b".1%06d\0\0" % number)
    return data


# ---------------------------------------------------------------------------- whole files by hand


def _head(syntax: str = uids.ExplicitVRLittleEndian) -> bytes:
    value = syntax.encode() + b"\0" * (len(syntax) % 2)
    meta = b"\x02\0\x10\0UI" + struct.pack("<H", len(value)) + value
    return bytes(128) + b"DICM\x02\0\0\0UL\x04\0" + struct.pack("<I", len(meta)) + meta


def monsters(good: bytes) -> dict[str, bytes]:
    """Files that are made to take time or memory; ``good`` is an explicit little endian image."""
    squeeze = zlib.compressobj(9, zlib.DEFLATED, -15)
    bomb = squeeze.compress(b"\x08\0\x05\0UN\0\0\xff\xff\xff\x3f") + b"".join(
        squeeze.compress(bytes(2**22)) for _ in range(300)
    )
    body = good[good.index(b"\x08\0", 132) :]
    nested = b"\x08\0\x40\x11SQ\0\0\xff\xff\xff\xff\xfe\xff\0\xe0\xff\xff\xff\xff" * 10_000
    empty_items = b"\0\x52\x30\x92SQ\0\0" + struct.pack("<I", 2**24) + b"\xfe\xff\0\xe0\0\0\0\0" * 2**21
    bare_items = b"\0\x52\x30\x92SQ\0\0\xff\xff\xff\xff" + b"\xfe\xff\0\xe0\0\0\0\0" * 2**20
    return {
        "bomb": _head(uids.DeflatedExplicitVRLittleEndian) + bomb + squeeze.flush(),
        "nested": _head() + nested,
        "nested-in-image": good.replace(b"\x08\0\x60\0CS", nested + b"\x08\0\x60\0CS", 1),
        "zeros": bytes(2**25),
        "dicom-zeros": _head() + bytes(2**25),
        "unknown-vr-zeros": _head() + b"\x08\0\x07\0ZZ\0\0" + bytes(2**25),
        "group-zeros": _head() + b"\0\x52\x29\x92SQ\0\0\0\0\0\x02" + bytes(2**25),
        "empty-items": _head() + body[: body.rindex(b"\xe0\x7f\x10\0")] + empty_items,
        "bare-items": _head() + bare_items,
        "ff": b"\xff" * 2**20,
        "meta-only": _head(),
        "dicm": bytes(128) + b"DICM",
    }


def awkward_files(folder: Path, good: bytes) -> None:
    """Make what is no plain file: pipe, link loops, dangling links, device, odd names, no permission, empty ones."""
    folder.mkdir(parents=True)
    (folder / "empty").touch()
    os.mkfifo(folder / "pipe")
    os.symlink("loop-b", folder / "loop-a")
    os.symlink("loop-a", folder / "loop-b")
    os.symlink(".", folder / "self")
    os.symlink("nowhere", folder / "dangling")
    os.symlink("/dev/zero", folder / "device")
    (folder / "secret").write_bytes(good)
    (folder / "secret").chmod(0)
    (folder / "locked").mkdir()
    (folder / "locked" / "inside").write_bytes(good)
    (folder / "locked").chmod(0)
    for name in (b"\xff\xfe.dcm", "ü%41\n\t.dcm".encode(), b"x" * 250, b" ", b"-rf", b"._mac.dcm"):
        Path(os.fsdecode(os.path.join(os.fsencode(folder), name))).write_bytes(good)
