"""The mixed export of a soak, and what happens to it between and during runs."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydicom import dcmread
from pydicom import uid as uids

from scripts import make_export
from tests import dicomgen
from tests.planted import CRASH, spoil

COMPRESSED = (
    uids.JPEGLosslessSV1,
    uids.JPEGLSLossless,
    uids.JPEG2000Lossless,
    uids.HTJ2KLossless,
    uids.RLELossless,
    uids.JPEGBaseline8Bit,
)
EDITED = "edited"
"""Folder of the series that change: plain ones of one volume each, whose place in the store does not depend on it."""


def write_export(folder: Path, seed: int) -> Path:
    """Write an export of every kind: plain and compressed, 4-D, enhanced, colour, broken, duplicate, no DICOM."""
    make_export.main(["hospital", str(folder / "hospital"), "--scale", "0.01", "--seed", str(seed)])
    make_export.main(["compressed", str(folder / "compressed"), "--scale", "0.05", "--seed", str(seed + 1)])
    dicomgen.mixed_folder(folder / "mixed").forbidden.chmod(0o644)
    for number, syntax in enumerate(COMPRESSED):
        bits = 8 if syntax == uids.JPEGBaseline8Bit else 12
        name = f"syntax-{number}"
        dicomgen.make_series(
            folder / name, series=name, n=6, rows=90, columns=70, seed=number, transfer_syntax=syntax, bits_stored=bits
        )
    crashing = dicomgen.make_series(folder / "crash", series="crash", n=4, transfer_syntax=uids.JPEG2000Lossless)
    spoil(crashing.paths[1], CRASH)
    dicomgen.two_phases(folder / "phases", phases=3, n=5, series="phases")
    dicomgen.make_enhanced(folder / "enhanced")
    dicomgen.make_cine(folder / "cine")
    dicomgen.make_palette(folder / "palette")
    dicomgen.make_mosaic(folder / "mosaic")
    dicomgen.pet_slopes(folder / "pet", series="pet")
    dicomgen.missing_slice(folder / "missing", series="missing")
    dicomgen.gantry_tilt(folder / "tilt")
    for number in range(6):
        syntax = uids.JPEG2000Lossless if number % 2 else uids.ExplicitVRLittleEndian
        name = f"{EDITED}-{number}"
        dicomgen.make_series(
            folder / EDITED / name, series=name, n=12, rows=128, columns=96, seed=number, transfer_syntax=syntax
        )
    return folder


def copy_export(base: Path, folder: Path) -> Path:
    """Return a copy whose files are links: to change one is to put another in its place."""
    shutil.copytree(base, folder, copy_function=os.link)
    return folder


def any_slice(export: Path, rng: random.Random) -> Path:
    """Return an inner slice of a series that may change."""
    folder = rng.choice(sorted((export / EDITED).iterdir()))
    return rng.choice(sorted(folder.iterdir())[2:-2])


def put(path: Path, data: bytes) -> None:
    """Put a file in the place of another, as a copying export does."""
    partial = path.with_name(f"{path.name}.tmp")
    partial.write_bytes(data)
    partial.replace(path)


def change_slice(export: Path, rng: random.Random) -> None:
    """Give a slice other pixels, for good."""
    path = any_slice(export, rng)
    dataset = dcmread(path)
    syntax = dataset.file_meta.TransferSyntaxUID
    pixels = dicomgen.make_pixels(1, dataset.Rows, dataset.Columns, seed=rng.randrange(10**6))
    dicomgen.set_pixels(dataset, pixels, syntax)
    partial = path.with_name(f"{path.name}.tmp")
    dataset.save_as(partial)
    partial.replace(path)


def take_slices(export: Path, rng: random.Random) -> dict[Path, Path]:
    """Take slices out that will come late; return where each is kept, by its place."""
    aside = export.parent / "late"
    aside.mkdir()
    places = {any_slice(export, rng) for _ in range(rng.randint(1, 3))}
    late = {path: aside / f"{path.parent.name}-{path.name}" for path in sorted(places)}
    for path, kept in late.items():
        path.rename(kept)
    return late


@contextmanager
def spoilt(export: Path, rng: random.Random) -> Iterator[str]:
    """Let a file be gone, short, long, a folder or a pipe until the block ends; give what it is."""
    path = any_slice(export, rng)
    kept = export.parent / "kept"
    data = path.read_bytes()
    what = rng.choice(("vanished", "short", "long", "folder", "pipe"))
    path.rename(kept)
    try:
        if what == "short":
            put(path, data[: rng.randrange(len(data))])
        elif what == "long":
            put(path, data + bytes(1000))
        elif what == "folder":
            path.mkdir()
        elif what == "pipe":
            os.mkfifo(path)
        yield what
    finally:
        if what == "folder":
            path.rmdir()
        else:
            path.unlink(missing_ok=True)
        kept.rename(path)
