"""Real images in every transfer syntax that dcmtk and GDCM write: all of them must become the same store.

Needs Debian's packages dcmtk and libgdcm-tools. A lossless encoding must give the same pixel hashes and the same
geometry as
the original; a lossy one the same geometry, and the values that the encoder's own decoder gives.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pydicom

import fastdcm
from benchmarks.judged import syntax_name

PROGRAMS = ("dcmconv", "dcmcjpeg", "dcmdjpeg", "dcmcjpls", "dcmdjpls", "dcmcrle", "gdcmconv")
INSTALL = "apt-get install -y --no-install-recommends dcmtk libgdcm-tools dicom3tools"

INSTALLED = (
    "CT_small.dcm",
    "MR_small.dcm",
    "693_UNCI.dcm",
    "MR2_UNCI.dcm",
    "vlut_04.dcm",
    "OBXXXX1A.dcm",
    "gdcm-US-ALOKA-16.dcm",
    "SC_rgb_16bit_2frame.dcm",
    "color-px.dcm",
    "emri_small.dcm",
    "rtdose.dcm",
    "liver.dcm",
)
"""Of pydicom and pydicom-data: 1 to 32 bits, signed and not, RGB, palettes of 8 and 16 bits, multi-frame."""

SHARED = (
    "icometrix__dicom2nifti/tests/data/failing/gantrytilting/001",
    "icometrix__dicom2nifti/tests/data/hitachi/anatomical/001",
    "icometrix__dicom2nifti/tests/data/philips_enhanced/dti/001",
)
"""Series below FASTDCM_DATA: sheared, signed, enhanced 4-D."""


class Encoder(NamedTuple):
    """A command that writes one transfer syntax."""

    command: tuple[str, ...]
    syntax: str
    decoder: tuple[str, ...] = ()
    """Lossy only: the command that decodes it."""


ENCODERS = (
    Encoder(("dcmconv", "+te"), "1.2.840.10008.1.2.1"),
    Encoder(("dcmconv", "+te", "-e"), "1.2.840.10008.1.2.1"),
    Encoder(("dcmconv", "+te", "+g"), "1.2.840.10008.1.2.1"),
    Encoder(("dcmconv", "+ti"), "1.2.840.10008.1.2"),
    Encoder(("dcmconv", "+tb"), "1.2.840.10008.1.2.2"),
    Encoder(("dcmconv", "+td"), "1.2.840.10008.1.2.1.99"),
    Encoder(("dcmcrle",), "1.2.840.10008.1.2.5"),
    Encoder(("dcmcjpeg", "+e1"), "1.2.840.10008.1.2.4.70"),
    Encoder(("dcmcjpeg", "+el", "+sv", "1"), "1.2.840.10008.1.2.4.57"),
    Encoder(("dcmcjpeg", "+el", "+sv", "7"), "1.2.840.10008.1.2.4.57"),
    Encoder(("dcmcjpls",), "1.2.840.10008.1.2.4.80"),
    Encoder(("dcmcjpls", "+is"), "1.2.840.10008.1.2.4.80"),
    Encoder(("gdcmconv", "--raw", "--explicit"), "1.2.840.10008.1.2.1"),
    Encoder(("gdcmconv", "--deflated"), "1.2.840.10008.1.2.1.99"),
    Encoder(("gdcmconv", "--rle"), "1.2.840.10008.1.2.5"),
    Encoder(("gdcmconv", "--jpeg"), "1.2.840.10008.1.2.4.70"),
    Encoder(("gdcmconv", "--jpegls"), "1.2.840.10008.1.2.4.80"),
    Encoder(("gdcmconv", "--j2k"), "1.2.840.10008.1.2.4.90"),
    Encoder(("dcmcjpeg", "+eb", "+un"), "1.2.840.10008.1.2.4.50", ("dcmdjpeg", "+cl")),
    Encoder(("dcmcjpeg", "+ee", "+un"), "1.2.840.10008.1.2.4.51", ("dcmdjpeg", "+cl")),
    Encoder(("dcmcjpls", "+en", "+md", "2", "+un"), "1.2.840.10008.1.2.4.81", ("dcmdjpls",)),
    Encoder(("gdcmconv", "--j2k", "--lossy", "-q", "45"), "1.2.840.10008.1.2.4.91", ("gdcmconv", "--raw")),
)

NOT_32_BITS = {
    "1.2.840.10008.1.2.4.90": "GDCM writes streams that OpenJPEG, its own decoder, does not read",
    "1.2.840.10008.1.2.4.91": "as above",
}
"""Transfer syntaxes in which images of more than 16 bits are not encoded, and why."""

BOUNDS = {"grey": 1, "12-bit JPEG": 2, "colour": 2}
"""How far lossy values of two decoders may lie apart."""


class Result(NamedTuple):
    """What became of the images in one encoding."""

    encoder: Encoder
    images: int
    """Images that the encoder wrote in the transfer syntax."""
    equal: int
    """Volumes equal to those of the originals."""
    wrong: tuple[str, ...]
    """What differs, in words."""


def missing_programs() -> list[str]:
    """Return the programs that are not installed."""
    return [name for name in PROGRAMS if shutil.which(name) is None]


def images(data: Path | None) -> list[Path]:
    """Return the files to encode."""
    import data_store

    folders = [Path(pydicom.__file__).parent / "data/test_files", Path(data_store.__file__).parent / "data"]
    found = [next(folder / name for folder in folders if (folder / name).is_file()) for name in INSTALLED]
    for series in SHARED if data else ():
        assert data is not None
        found += sorted(path for path in (data / series).rglob("*.dcm"))
    return found


def check_encoder(encoder: Encoder, sources: Sequence[Path], work: Path) -> Result:
    """Encode all that the encoder takes, convert it, and compare it with the converted originals."""
    original, encoded, decoded = work / "original", work / "encoded", work / "decoded"
    for folder in (original, encoded, decoded):
        folder.mkdir(parents=True)
    for number, path in enumerate(sources):
        name = f"{number:03d}.dcm"
        if encoder.syntax in NOT_32_BITS and _bits_allocated(path) > 16:
            continue
        if not _run(encoder.command, path, encoded / name) or _syntax(encoded / name) != encoder.syntax:
            (encoded / name).unlink(missing_ok=True)
            continue
        if not encoder.decoder:
            (original / name).symlink_to(path)
        elif not _run(encoder.decoder, encoded / name, original / name):
            (encoded / name).unlink()
    if not any(encoded.iterdir()):
        return Result(encoder, 0, 0, ())
    found, wanted = _volumes(encoded, work / "encoded.zarr"), _volumes(original, work / "original.zarr")
    wrong = [f"{path}: there in one of the stores only" for path in sorted(found.keys() ^ wanted.keys())]
    both = {
        name: _difference(found[name], wanted[name], bool(encoder.decoder)) for name in found.keys() & wanted.keys()
    }
    wrong += [f"{wanted[name]!r}: {text}" for name, text in sorted(both.items()) if text]
    return Result(encoder, len(list(encoded.iterdir())), len(wanted) - len(wrong), tuple(wrong))


def _run(command: tuple[str, ...], source: Path, target: Path) -> bool:
    done = subprocess.run([*command, str(source), str(target)], capture_output=True, timeout=120, check=False)
    return done.returncode == 0 and target.is_file()


def _syntax(path: Path) -> str:
    return str(pydicom.filereader.read_file_meta_info(path).get("TransferSyntaxUID", ""))


def _bits_allocated(path: Path) -> int:
    return int(pydicom.dcmread(path, stop_before_pixels=True).BitsAllocated)


def _volumes(source: Path, store: Path) -> dict[str, fastdcm.Volume]:
    fastdcm.convert(str(source), str(store), workers=1)
    opened = fastdcm.open(store)
    assert isinstance(opened, fastdcm.Store)
    return {str(volume.path.relative_to(store)): volume for volume in opened.volumes}


def _difference(found: Any, wanted: Any, lossy: bool) -> str | None:
    ours, theirs = found.attributes["fastdcm"], wanted.attributes["fastdcm"]
    for name in ("geometry", "dims"):
        if ours.get(name) != theirs.get(name):
            return f"{name} differs"
    if ours["slices"].get("position") != theirs["slices"].get("position"):
        return "positions differ"
    if not lossy:
        return None if ours["source"]["pixel_hash"] == theirs["source"]["pixel_hash"] else "pixel hashes differ"
    apart = np.abs(found.numpy().astype(np.float64) - wanted.numpy().astype(np.float64)).max()
    slope = abs(float(theirs["intensity"].get("rescale_slope") or 1))
    twelve = "1.2.840.10008.1.2.4.51" in ours["source"]["transfer_syntax_uids"]
    bound = BOUNDS["colour" if found.colour else "12-bit JPEG" if twelve else "grey"] * slope
    return None if apart <= bound else f"values up to {apart:g} apart"


def check_all(data: Path | None) -> Iterator[Result]:
    """Yield the result of each encoder on all images."""
    sources = images(data)
    for encoder in ENCODERS:
        with tempfile.TemporaryDirectory() as work:
            yield check_encoder(encoder, sources, Path(work))


def encoders_section(data: Path) -> tuple[str, list[str]]:
    """Return the section of the document, and what differs; raises SystemExit where the programs are missing."""
    if missing := missing_programs():
        raise SystemExit(f"{', '.join(missing)} not found: {INSTALL}")
    lines = [
        "## Other encoders",
        "",
        f"{len(images(data))} real files (1 to 32 bits, signed and not, RGB, palettes, multi-frame, sheared,",
        f"enhanced 4-D) are written anew by {version_of('dcmconv')} and {version_of('gdcmconv')}, and converted.",
        "An encoder writes what its transfer syntax can hold. Lossless: pixel hashes and geometry are those of the",
        "original. Lossy: geometry is, and values are those of the encoder's own decoder within 1 (12-bit JPEG and",
        "colour 2). Images of 32 bits are left out of JPEG 2000: of them GDCM writes streams that no decoder reads.",
        "",
        "| command | transfer syntax | files written | volumes equal |",
        "| --- | --- | --- | --- |",
    ]
    faults: list[str] = []
    for result in check_all(data):
        wrong = f", **differs {len(result.wrong)}**" if result.wrong else ""
        command = " ".join(result.encoder.command)
        name = f"`{command}`"
        faults += [f"{command}: {text}" for text in result.wrong]
        lines.append(f"| {name} | {syntax_name(result.encoder.syntax)} | {result.images} | {result.equal}{wrong} |")
    return "\n".join(lines) + "\n", faults


def version_of(program: str) -> str:
    """Return name and version of a program's package."""
    said = subprocess.run([program, "--version"], capture_output=True, text=True, check=False).stdout
    words = said.replace("gdcmconv:", "").split()
    number = next((word for word in words if word.lstrip("v")[:1].isdigit()), "")
    return f"{'GDCM' if program.startswith('gdcm') else 'dcmtk'} {number.lstrip('v')}"
