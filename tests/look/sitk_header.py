"""Hold ``header`` equal to SimpleITK's reader: keys, values, geometry, types. What may differ is named here."""

from __future__ import annotations

import base64
import struct
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from fastdcm.look.element_text import Element
from fastdcm.look.header import Header, Image, header

PIXELS = ("7fe0|0010", "7fe0|0008", "7fe0|0009")


def read(path: Path, *, private: bool) -> Any:
    """Return SimpleITK's reader after it has read the header, None where it cannot."""
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    reader.SetImageIO("GDCMImageIO")
    if private:
        reader.LoadPrivateTagsOn()
    try:
        reader.ReadImageInformation()
    except RuntimeError:
        return None
    return reader


def has_prefix(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM"


def comparable(found: Header) -> dict[str, Element]:
    """Return what SimpleITK lists too: top-level elements of the data set, without sequences and pixels."""
    elements: dict[str, Element] = {}
    for element in found.elements:
        if element.depth == 0 and element.vr != "SQ" and element.tag[:4] != "0002" and element.tag not in PIXELS:
            elements.setdefault(element.tag, element)
    return elements


def tag_differences(path: Path, *, private: bool) -> list[str]:
    """Return where keys or values differ; empty is right. SimpleITK must be able to read the file."""
    reader = read(path, private=private)
    ours = comparable(header(path, private=private))
    theirs = set(reader.GetMetaDataKeys())
    found = [f"{path.name} {key}: listed by one only" for key in ours.keys() ^ theirs]
    for key in ours.keys() & theirs:
        value = reader.GetMetaData(key)
        if not same_value(ours[key], value):
            found.append(f"{path.name} {key} {ours[key].vr}: {ours[key].value!r} instead of {value!r}")
    return found


def same_value(element: Element, theirs: str) -> bool:
    """Whether a value is SimpleITK's, but for padding at the end, digits it leaves out, and texts it does not decode.

    Of some elements its dictionary is too old: it gives their bytes in base64.
    """
    ours, theirs = element.value, theirs.rstrip(" \0")
    if ours == theirs:
        return True
    if element.vr in ("FL", "FD"):
        pairs = zip(ours.split("\\"), theirs.split("\\"), strict=True)
        return all(np.isclose(float(one), float(other), rtol=1e-5, atol=0) for one, other in pairs)
    if not ours.isascii():
        return ascii_of(ours) == ascii_of(theirs)
    return base64.b64encode(ours.encode("ascii") + b" " * (len(ours) % 2)).decode("ascii") == theirs


def ascii_of(text: str) -> str:
    return "".join(character for character in text if character.isascii())


def image_differences(path: Path) -> dict[str, tuple[object, object]]:
    """Return what of the image differs: ours and theirs."""
    reader, image = read(path, private=False), header(path).image
    assert image is not None, path
    pairs: dict[str, tuple[object, object]] = {
        "size": (image.size, reader.GetSize()),
        "dimension": (image.dimension, reader.GetDimension()),
        "components": (image.components, reader.GetNumberOfComponents()),
        "pixel_type": (image.pixel_type, sitk.GetPixelIDValueAsString(reader.GetPixelID())),
    }
    for name in ("spacing", "origin", "direction"):
        ours, theirs = getattr(image, name), getattr(reader, f"Get{name.title()}")()
        close = len(ours) == len(theirs) and np.allclose(ours, theirs, rtol=1e-9, atol=1e-9)
        pairs[name] = (ours, ours if close else theirs)
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def allowed(path: Path, image: Image, differs: dict[str, tuple[object, object]]) -> bool:
    """Whether differences are the deliberate ones (docstring of ``Image``)."""
    if differs.keys() == {"spacing"}:  # frames that are not evenly spaced: the plane's spacing stays
        return image.size[2] > 1 and differs["spacing"][1] == (1.0, 1.0, 1.0)
    return differs.keys() == {"pixel_type"} and jpeg_2000_says_otherwise(path, image)


def jpeg_2000_says_otherwise(path: Path, image: Image) -> bool:
    """Whether the codestream's own depth (SIZ marker, ISO 15444-1 A.5.1) is not the header's: SimpleITK looks there."""
    data = path.read_bytes()
    at = data.find(b"\xff\x4f\xff\x51")
    if at < 0:
        return False
    (depth,) = struct.unpack_from("B", data, at + 42)
    signed, bits = bool(depth & 0x80), (depth & 0x7F) + 1
    stored = next(e.value for e in header(path).elements if e.keyword == "BitsStored")
    return (bits, signed) != (int(stored), image.stored_type.startswith("int"))
