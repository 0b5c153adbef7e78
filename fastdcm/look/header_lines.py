"""A file's header as lines for a terminal: the elements as a table, then the image in words."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from typing import TYPE_CHECKING

from rich.cells import cell_len, set_cell_size
from rich.text import Text

from fastdcm.look.terminal import clean, count_text, mm_text, size_text
from fastdcm.scan import rules

if TYPE_CHECKING:
    from fastdcm.look.element_text import Element
    from fastdcm.look.header import Header, Image

LABEL = 14
INDENT_MAX = 8
"""Deeper elements are not indented further."""
_NAME_SHARE = 0.5
"""Of the width: tag, VR and name; the rest is the value."""
_LEFT_MAX = 64
_BINARY = frozenset({"OB", "OD", "OF", "OL", "OV", "OW", "UN"})
_AXES = ("x", "y", "z")
_MEANINGS = {
    "MONOCHROME1": "grey, larger values are darker (kept as they are)",
    "MONOCHROME2": "grey, larger values are brighter",
    "PALETTE COLOR": "one number a pixel, which a palette turns into colour; becomes RGB",
    "RGB": "colour: red, green, blue",
    "HSV": "colour: hue, saturation, value (retired)",
    "ARGB": "colour: alpha, red, green, blue (retired)",
    "CMYK": "colour: cyan, magenta, yellow, black (retired)",
    "XYB": "colour as JPEG XL keeps it; becomes RGB",
}
_ORIGINS = {"ORIGINAL": "made from the acquired data", "DERIVED": "computed from other images, not for measuring"}
_ROLES = {"PRIMARY": "a direct result of the examination", "SECONDARY": "made after the examination"}


def header_lines(header: Header, width: int) -> Iterator[Text]:
    """Yield a header as lines of at most ``width`` columns, of which nothing acts on the terminal.

    Parameters
    ----------
    header : Header
        Of one file.
    width : int
        Columns of the terminal; best from 80 on.
    """
    yield from _table(header, max(width, 40))
    yield Text("")
    labelled = [*_file(header), *(_image(header.image) if header.image else ())]
    for label, text in labelled:
        style = "yellow" if label in ("incomplete", "verdict") else ""
        yield from (Text(line, style) for line in _wrapped(label, text, max(width, 40)))


def _wrapped(label: str, text: str, width: int) -> list[str]:
    return textwrap.wrap(f"{label:<{LABEL}}{text}", width, subsequent_indent=" " * LABEL)


# ---------------------------------------------------------------------------- the elements


def _table(header: Header, width: int) -> Iterator[Text]:
    left_width = min(int(width * _NAME_SHARE), _LEFT_MAX)
    counts: dict[int, tuple[int, int]] = {}  # by depth of the items: how many, and which is next
    for element in header.elements:
        indent = "  " * min(element.depth, INDENT_MAX)
        if element.vr == "SQ":
            counts[element.depth + 1] = element.vm, 1
        if element.tag == "fffe|e000":
            many, number = counts.get(element.depth, (1, 1))
            counts[element.depth] = many, number + 1
            yield Text(_fit(f"{indent}item {number} of {many}", width), "dim")
            continue
        left = _fit(f"{indent}{element.tag}  {element.vr or '--'}  {_title(element)}", left_width - 2)
        right = _fit(_shown(element, width), width - left_width)
        line = Text(set_cell_size(left, left_width), "dim" if element.private else "")
        line.append(right, "" if element.private else "bold")
        line.rstrip()
        yield line


def _title(element: Element) -> str:
    return clean(element.name) or ("(private)" if element.private else "(not in the dictionary)")


def _shown(element: Element, width: int) -> str:
    """Return a value for the table, no longer than it needs to be to be cut."""
    text = clean(element.value[: 4 * width]).replace("\\\\", "\\")
    if element.vr in _BINARY and element.vm and element.n_bytes is not None and not element.value.startswith("("):
        return f"({size_text(element.n_bytes)}) {text}"
    if element.vr == "UI" and element.value.startswith("1.2.840.10008."):
        return f"{text} {_uid_name(element.value)}".rstrip()
    return text


def _uid_name(uid: str) -> str:
    """Return the name of a UID of the standard, empty where it has none."""
    named = rules.sop_class_name(uid)
    return "" if not uid or named == uid else named.removesuffix(f" ({uid})")


def _fit(text: str, width: int) -> str:
    """Cut a text to a number of columns, with an ellipsis where something goes."""
    if cell_len(text) <= width:
        return text
    return set_cell_size(text, width - 1).rstrip() + "…"


# ---------------------------------------------------------------------------- the image


def _file(header: Header) -> Iterator[tuple[str, str]]:
    syntax = header.transfer_syntax or ""
    yield "file", f"{clean(header.sop_class)}, {_uid_name(syntax) or clean(syntax) or 'no transfer syntax'}"
    if header.private_elements:
        yield "private", f"{count_text(header.private_elements, 'private element')} not shown (--private shows them)"
    if header.problem:
        yield "incomplete", clean(header.problem)
    if header.verdict:
        yield "verdict", clean(header.verdict)
    if header.image is None:
        yield "image", "none in this file"


def _image(image: Image) -> Iterator[tuple[str, str]]:
    size = " x ".join(map(str, image.size))
    yield "size", f"{size} (columns, rows, frames), {count_text(image.components, 'component')}"
    spacing = " x ".join(map(mm_text, image.spacing))
    yield "spacing", f"{spacing} mm (x, y, z){_made_up(image, 'spacing_xy', 'spacing_z')}"
    yield "origin", f"{_vector(image.origin)} mm LPS{_made_up(image, 'origin')}"
    columns = [image.direction[axis::3] for axis in range(3)]
    directions = ", ".join(f"{name} {_vector(column)}" for name, column in zip(_AXES, columns, strict=True))
    yield "direction", directions + _made_up(image, "direction")
    yield "stored as", image.stored_type
    yield "read as", f"{image.output_type} by SimpleITK ({image.pixel_type}){_stored_as(image)}"
    yield (
        "photometric",
        f"{clean(image.photometric or 'not said')}, {count_text(image.samples, 'sample')}: {_meaning(image)}",
    )
    yield "image type", _image_type(image)
    if image.thickness_mm is not None:
        yield "thickness", _thickness(image)


def _made_up(image: Image, *names: str) -> str:
    missing = {"spacing_xy": "x and y", "spacing_z": "z"}
    said = [missing.get(name, "") for name in names if name in image.assumed]
    if not said:
        return ""
    which = " and ".join(filter(None, said))
    return f" ({which + ': ' if which else ''}not in the file, SimpleITK's default)"


def _vector(values: tuple[float, ...]) -> str:
    return "(" + ", ".join(f"{round(value, 6) + 0.0:.6g}" for value in values) + ")"


def _stored_as(image: Image) -> str:
    if image.store_type is None:
        return ""
    fallback = f", {image.store_fallback} if needed" if image.store_fallback else ""
    return f"; {image.store_type}{fallback} in a fastdcm store"


def _meaning(image: Image) -> str:
    """Say what Photometric Interpretation and Samples per Pixel mean together (PS3.3 C.7.6.3.1.2)."""
    photometric = (image.photometric or "").upper()
    if photometric.startswith("YBR"):
        return "colour as brightness and two colour differences; becomes RGB"
    if photometric in _MEANINGS:
        return _MEANINGS[photometric]
    return "grey" if image.samples == 1 else f"{image.samples} channels"


def _image_type(image: Image) -> str:
    r"""Say what the values of Image Type mean; it is malformed without ORIGINAL or DERIVED and PRIMARY or SECONDARY."""
    if not image.image_type:
        return "not said"
    text = clean("\\".join(image.image_type)).replace("\\\\", "\\")
    words = [_ORIGINS.get(image.pixel_origin or ""), _ROLES.get(image.exam_role or "")]
    meaning = "; ".join(filter(None, words))
    malformed = "" if all(words) else "malformed, pixel origin or role in the examination is not said"
    return f"{text}: " + "; ".join(filter(None, (meaning, malformed)))


def _thickness(image: Image) -> str:
    """Say the thickness, and what it leaves out or images twice where the file says a spacing."""
    thickness, spacing = image.thickness_mm or 0.0, image.spacing_between_mm
    text = f"{mm_text(thickness)} mm"
    if spacing is None:
        return f"{text} (no spacing: that comes from the positions of a series)"
    gap = abs(spacing) - thickness
    between = (
        f"gap of {mm_text(gap)} mm" if gap > 5e-4 else f"overlap of {mm_text(-gap)} mm" if gap < -5e-4 else "no gap"
    )
    return f"{text}, spacing between slices {mm_text(spacing)} mm: {between}"
