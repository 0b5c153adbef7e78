"""Raw values out of a pydicom dataset, without pydicom's conversions (which fail on, or hide, what hospitals write)."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from typing import TYPE_CHECKING, Any

from fastdcm.errors import Code, SourceError
from fastdcm.scan import rules
from fastdcm.scan.bounded import BoundedFile
from fastdcm.scan.pydicom_once import load_pydicom
from fastdcm.scan.rules import Raw

if TYPE_CHECKING:
    from pydicom.dataset import Dataset


def raw_element(dataset: Dataset, tag: int) -> Raw | None:
    """Return an element's bytes, None where it is absent, empty or a sequence."""
    load_pydicom()
    from pydicom.dataelem import RawDataElement

    if tag not in dataset:
        return None
    element: Any = dataset.get_item(tag)
    if not isinstance(element, RawDataElement):
        return None if element.VR == "SQ" else _from_value(element.value)
    if not isinstance(element.value, bytes) or not element.value:
        return None
    return Raw(element.VR or "", element.value, element.is_little_endian)


def _from_value(value: object) -> Raw | None:
    """Text bytes of an element that pydicom has converted already (Specific Character Set is)."""
    parts = value if isinstance(value, Sequence) and not isinstance(value, str | bytes) else [value]
    joined = "\\".join("" if part is None else str(part) for part in parts)
    return Raw("", joined.encode(), True) if joined else None


def numbers(dataset: Dataset, tag: int, count: int, vr: str = "DS") -> list[float | None] | None:
    """Return ``count`` numbers (None absent, NaN unreadable), or None where the element is absent or empty."""
    element = raw_element(dataset, tag)
    if element is None:
        return None
    known = element.vr if element.vr in rules.NUMBER_VRS else vr
    return rules.parse_values(element.value, known, element.little_endian, count)


def number(dataset: Dataset, tag: int, vr: str = "DS") -> float | None:
    """Return one finite number, else None."""
    values = numbers(dataset, tag, 1, vr)
    return rules.finite(values[0]) if values else None


def text(dataset: Dataset, tag: int, charsets: Sequence[str] = ()) -> str | None:
    """Return clean text, None where absent or empty."""
    element = raw_element(dataset, tag)
    return rules.clean_text(element.value, charsets) if element else None


def items(dataset: Dataset | None, tag: int, most: int | None = None) -> Sequence[Dataset]:
    """Return the items of a sequence, at most the first ``most``; none where it is absent, empty or not a sequence.

    Raises
    ------
    SourceError
        BAD_HEADER where the items are damaged or too many.
    """
    load_pydicom()
    from pydicom.dataelem import RawDataElement

    if dataset is None or tag not in dataset:
        return ()
    element: Any = dataset.get_item(tag)
    if not isinstance(element, RawDataElement):  # of undefined length: read already
        return element.value[:most] if element.VR == "SQ" else ()
    if element.VR not in ("SQ", "UN", None):
        return ()
    if element.value is None and element.length:
        raise SourceError(Code.BAD_HEADER, f"a sequence of {element.length} bytes is too long to be read")
    return read_items(element.value or b"", element.is_implicit_VR, element.is_little_endian, most)


def read_items(raw: bytes, implicit: bool, little_endian: bool, most: int | None = None) -> list[Dataset]:
    """Read the items of a sequence's value, at most the first ``most``; errors as of ``items``."""
    load_pydicom()
    from pydicom.filereader import read_sequence_item

    file: Any = BoundedFile(BytesIO(raw), len(raw))
    found: list[Dataset] = []
    try:
        while file.tell() < len(raw) and (most is None or len(found) < most):
            item = read_sequence_item(file, implicit, little_endian, "latin-1")
            if item is None:
                break
            found.append(item)
    except (OSError, EOFError):  # nothing is read here but memory
        raise SourceError(Code.BAD_HEADER, "the items of a sequence are damaged") from None
    return found


PARSED = object()
"""What an element that pydicom has parsed already has in place of its bytes."""


def stored_value(dataset: Dataset, tag: int) -> object:
    """Return what decides the meaning of an element that is there as its bytes; ``PARSED``, or None where it is not."""
    load_pydicom()
    from pydicom.dataelem import RawDataElement

    if tag not in dataset:
        return None
    element: Any = dataset.get_item(tag)
    if isinstance(element, RawDataElement):
        return element.VR, element.value, element.is_implicit_VR, element.is_little_endian
    return PARSED


def first_item(dataset: Dataset | None, tag: int) -> Dataset | None:
    """Return the first item of a sequence, else None; errors as of ``items``."""
    found = items(dataset, tag, 1)
    return found[0] if found else None


def charsets_of(dataset: Dataset) -> Sequence[str]:
    """Return the values of Specific Character Set (0008,0005)."""
    element = raw_element(dataset, 0x00080005)
    return element.value.decode("latin-1").split("\\") if element else ()
