"""Which part of a complex image an MR image of GE is.

The standard's Complex Image Component (0008,9208) is not in classic MR images. Siemens and Philips say it in Image
Type; GE says it in Raw Data Type (0043,102F) alone, and magnitude, phase, real and imaginary images of one position
share a series.
"""

from __future__ import annotations

from fastdcm.scan import rules
from fastdcm.scan.private import BLOCKS, private_numbers
from fastdcm.scan.rules import Getter

MODALITY = 0x00080060
GROUP, CREATOR, ELEMENT = 0x0043, "GEMS_PARM_01", 0x2F
RAW_DATA_TYPES = tuple(GROUP << 16 | block << 8 | ELEMENT for block in BLOCKS)
ELEMENTS = (MODALITY, *(GROUP << 16 | block for block in BLOCKS), *RAW_DATA_TYPES)
"""What is read here."""
COMPONENTS = ("MAGNITUDE", "PHASE", "REAL", "IMAGINARY")
"""The standard's words (PS3.3 C.8.13.3.1.1), at GE's numbers."""


def read_component(get: Getter) -> str | None:
    """Return the part that GE's element names, in the words of Complex Image Component; None where it names none."""
    modality = get(MODALITY)
    if modality is None or rules.raw_text(modality.value) != "MR":
        return None
    numbers = private_numbers(get, GROUP, CREATOR, ELEMENT, "SS", 1)
    number = numbers[0] if numbers else None
    return COMPONENTS[int(number)] if number in range(len(COMPONENTS)) and number is not None else None
