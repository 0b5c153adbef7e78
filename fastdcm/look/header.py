"""One file: every tag, where its image is and what its values are, without reading a pixel."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np

from fastdcm.errors import Outcome, SourceError, UsageError
from fastdcm.look.element_text import Element, element_texts
from fastdcm.look.file_image import Tags, component_count, geometry_of, output_type, slice_measure, stored_type
from fastdcm.look.header_lines import header_lines as header_lines
from fastdcm.model import COLUMNS, Frames, Json, Options, Volume
from fastdcm.scan import rules
from fastdcm.scan.find import FoundFile
from fastdcm.scan.listing import Listing, list_elements
from fastdcm.scan.location import base_name, location_of
from fastdcm.scan.opened import is_plain, open_location, stat_location
from fastdcm.scan.reference import read_instance
from fastdcm.series.catalog import image_role
from fastdcm.series.geometry import Plane, flat_geometry
from fastdcm.series.values import value_rule

if TYPE_CHECKING:
    from fastdcm.scan.reference import Row

_SIGNATURES = (
    (0, b"%PDF", "a PDF"),
    (0, b"\x89PNG", "a PNG image"),
    (0, b"\xff\xd8\xff", "a JPEG image"),
    (0, b"GIF8", "a GIF image"),
    (0, b"II*\0", "a TIFF image"),
    (0, b"MM\0*", "a TIFF image"),
    (0, b"PK\3\4", "a ZIP archive"),
    (0, b"\x1f\x8b", "compressed with gzip"),
    (0, b"\x89HDF", "an HDF5 file"),
    (0, b"NRRD", "an NRRD image"),
    (0, b"ObjectType", "a MetaImage"),
    (0, b"\x7fELF", "a program"),
    (344, b"n+1\0", "a NIfTI image"),
    (344, b"ni1\0", "a NIfTI image"),
    (257, b"ustar", "a tar archive"),
)
_WORDS = {"int": "signed integer", "uint": "unsigned integer", "float": "float"}


@dataclass(frozen=True, slots=True)
class Image:
    """The image of one file as SimpleITK's reader gives it, from the header alone.

    Deliberately not as SimpleITK: the types are those of the header, where SimpleITK looks into a JPEG 2000 stream that
    says otherwise; frames that are not evenly spaced keep the spacing that the file says (SimpleITK: 1, 1, 1); frames
    in one place are not 0 mm apart; and what the file does not say is named in ``assumed``.

    One file's third spacing is Spacing Between Slices where it has it, else 1: only a series has positions to compare
    (``fastdcm.scan``). Of a clip it is the time between frames in ms, as for SimpleITK.
    """

    size: tuple[int, int, int]
    """Columns, rows, frames."""
    dimension: int
    """3, as for SimpleITK."""
    components: int
    """Values a voxel; a palette counts as RGB."""
    spacing: tuple[float, float, float]
    """x, y, z, mm; 1 where unknown. A negative z: frames go against the normal."""
    origin: tuple[float, float, float]
    """Centre of the first voxel of the first frame, mm, LPS (PS3.3 C.7.6.2.1.1); 0 where unknown."""
    direction: tuple[float, ...]
    """Nine numbers row by row; the columns are the unit directions of x, y, z."""
    assumed: tuple[str, ...]
    """Which of spacing_xy, spacing_z, origin, direction the file does not say."""
    stored_type: str
    """Of the values in the file: ``int16``."""
    output_type: str
    """Of the values that SimpleITK gives, slope and intercept applied: ``int32``."""
    store_type: str | None
    """Of the values in a store, without ``store_fallback``; None where the file would not be converted."""
    store_fallback: str | None
    """What a store takes where values turn out not to fit ``store_type``."""
    photometric: str | None
    """Photometric Interpretation (0028,0004)."""
    samples: int
    """Samples per Pixel (0028,0002)."""
    image_type: tuple[str, ...]
    """Values of Image Type (0008,0008)."""
    pixel_origin: str | None
    """ORIGINAL or DERIVED; None where Image Type is malformed (PS3.3 C.7.6.1.1.2)."""
    exam_role: str | None
    """PRIMARY or SECONDARY; None where Image Type is malformed."""
    thickness_mm: float | None
    """Slice Thickness (0018,0050), which is no spacing."""
    spacing_between_mm: float | None
    """Spacing Between Slices (0018,0088) as the file says."""

    @property
    def pixel_type(self) -> str:
        """Pixel type in SimpleITK's words: ``32-bit signed integer``."""
        kind = self.output_type.rstrip("0123456789")
        words = f"{self.output_type[len(kind) :]}-bit {_WORDS[kind]}"
        return f"vector of {words}" if self.components > 1 else words


@dataclass(frozen=True, slots=True)
class Header:
    """What ``header`` found in one file."""

    elements: tuple[Element, ...]
    """In the file's order: group 2, then the data set, items of sequences one deeper than their sequence."""
    image: Image | None
    """None where the file is no image: a report, a DICOMDIR."""
    transfer_syntax: str | None
    """UID that holds for the bytes."""
    sop_class: str
    """Name and UID."""
    private_elements: int
    """Private elements at the top level that were left out."""
    problem: str | None
    """Why the list of elements is not whole."""
    verdict: str | None
    """What ``convert`` would do with the file where it would not convert it: ``failed: ...``."""

    def as_json(self) -> Json:
        """Return the header as a JSON object."""
        document = asdict(self)
        if self.image is not None:
            document["image"]["pixel_type"] = self.image.pixel_type
        return document


def header(path: str | os.PathLike[str], *, private: bool = False) -> Header:
    """Read every tag of one file, and what they say of its image; pixels are not read.

    The tags are those that SimpleITK's ``ImageFileReader.ReadImageInformation`` lists, with the same values, and
    besides group 2, sequences and what is in them. Unlike SimpleITK's, values have no padding at their end, text is
    decoded by the file's character set, and floating point numbers have all digits. Of values longer than 256 kB, and
    of pixels, only the length is told.

    Parameters
    ----------
    path : path-like
        A file: DICOM with or without preamble, in any transfer syntax, whole or not; ``a.zip!/name`` is a member of an
        archive.
    private : bool
        Whether private elements (odd groups) are listed too.

    Returns
    -------
    Header

    Raises
    ------
    UsageError
        No such file, no permission, or not DICOM; the message says what it is.

    Examples
    --------
    >>> import fastdcm
    >>> from pydicom.data import get_testdata_file
    >>> found = fastdcm.header(get_testdata_file("CT_small.dcm", download=False))
    >>> [element.value for element in found.elements if element.keyword == "Modality"]
    ['CT']
    >>> found.image.size, found.image.spacing, found.image.output_type
    ((128, 128, 1), (0.661468, 0.661468, 5.0), 'int32')
    """
    name = os.fspath(path)
    location = location_of(name)
    try:
        listing = list_elements(location)
        size, mtime_ns = stat_location(location)
    except SourceError as error:
        raise UsageError(f"{name!r} {_what_it_is(location, error)}") from None
    except OSError as error:
        raise UsageError(f"{name!r} cannot be read: {os.strerror(error.errno or 5)}") from None
    row, frame_rows = read_instance(location, FoundFile(0, base_name(location), size, mtime_ns))
    if row["outcome"] == Outcome.NOT_DICOM:
        raise UsageError(f"{name!r} is not DICOM ({row['message']})")
    tags = Tags(listing.elements)
    elements = tuple(element_texts(listing, private=private))
    syntax = row["transfer_syntax"]
    return Header(
        elements=elements,
        image=_image(tags, row, frame_rows),
        transfer_syntax=syntax if isinstance(syntax, str) else listing.syntax,
        sop_class=rules.sop_class_name(tags.said_class()),
        private_elements=0 if private else _private_count(listing),
        problem=listing.problem,
        verdict=None if row["outcome"] is None else f"{row['outcome']}: {row['message']}",
    )


def _what_it_is(location: str, error: SourceError) -> str:
    """Say what a file is that is not DICOM."""
    if is_plain(location) and os.path.isdir(location):
        return "is a folder; header reads one file"
    try:
        with open_location(location) as reader:
            head = reader.read_at(0, 512)
    except SourceError:
        return f"cannot be read: {error.message}"
    except OSError:
        head = b""
    for offset, signature, words in _SIGNATURES:
        if head[offset:].startswith(signature):
            return f"is {words}, not DICOM"
    return f"cannot be read as DICOM: {error.message}"


def _private_count(listing: Listing) -> int:
    return sum(element.depth == 0 and bool(element.tag >> 16 & 1) for element in listing.elements)


def _image(tags: Tags, row: Row, frame_rows: list[Row]) -> Image | None:
    """Describe the image; None where there is none."""
    stored, output, geometry = stored_type(tags), output_type(tags), geometry_of(tags)
    pixels = bool(tags.top.keys() & rules.PIXEL_KEYWORDS.keys())
    if stored is None or output is None or geometry is None or not (pixels or rules.is_image_class(tags.said_class())):
        return None
    image_type = tags.text(0x00080008)
    origin, role = image_role(image_type)
    store, fallback = _store_types(row, frame_rows) if row["outcome"] is None else (None, None)
    return Image(
        size=geometry.size,
        dimension=3,
        components=component_count(tags),
        spacing=geometry.spacing,
        origin=geometry.origin,
        direction=geometry.direction,
        assumed=geometry.assumed,
        stored_type=stored,
        output_type=output,
        store_type=store,
        store_fallback=fallback,
        photometric=tags.text(0x00280004),
        samples=tags.whole(0x00280002) or 1,
        image_type=tuple(part.strip() for part in image_type.split("\\")) if image_type else (),
        pixel_origin=origin,
        exam_role=role,
        thickness_mm=slice_measure(tags, 0x00180050),
        spacing_between_mm=slice_measure(tags, 0x00180088),
    )


def _store_types(row: Row, frame_rows: list[Row]) -> tuple[str, str | None]:
    """Return the type that a store of this file alone would have, and the one to fall back to."""
    rows = [{**row, **frame} for frame in frame_rows] or [row]
    numbers = {
        column.name: np.array([row[column.name] for row in rows], dtype=np.float64)
        for column in COLUMNS
        if column.kind in ("int", "long", "float")
    }
    texts = {}
    for column in COLUMNS:
        if column.name not in numbers:
            texts[column.name] = np.full(len(rows), None, dtype=object)
            texts[column.name][:] = [row[column.name] for row in rows]
    unreadable = [
        any(row[name] is not None and row[name] != row[name] for name in ("slope", "intercept")) for row in rows
    ]
    rescaled = ~np.array(unreadable) & (numbers["slope"] != 0)
    places = np.arange(len(rows), dtype=np.int64)
    frames = Frames(np.zeros_like(places), places, np.full_like(places, -1), numbers, texts, rescaled)
    geometry = flat_geometry(len(rows), Plane(None, None, "none", np.nan, np.nan, None))
    rule = value_rule(frames, Volume("2d", places.reshape(1, 1, -1), (), geometry, ()), Options())[0]
    return rule.dtype, rule.dtype_fallback
