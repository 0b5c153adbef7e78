"""b-value and gradient direction of an MR image, from the standard or from a vendor's elements.

Directions are in the patient's frame (LPS, PS3.3 C.8.13.5.9.1). Siemens, Philips and UIH give them so. GE's are along
frequency, phase and slice of the image; they are turned where dcm2niix shows how: axial planes, head first supine. All
others, and those of Canon's comments, stay as they are, and ``b_frame`` says ``image``: they tell volumes apart.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from fastdcm.scan import rules
from fastdcm.scan.csa import csa_numbers, image_header, names_b_value, read_csa
from fastdcm.scan.private import BLOCKS, private_numbers
from fastdcm.scan.rules import Getter, Row

Direction = Sequence[float]
Found = tuple[float | None, Direction | None, str | None]
"""b-value (s/mm2), direction, and ``image`` where that is not in the patient's frame."""

COLUMNS = ("b_value", "b_x", "b_y", "b_z", "b_frame")
ORIENTATION, PATIENT_POSITION, PHASE_ENCODING, COMMENT = 0x00200037, 0x00185100, 0x00181312, 0x00204000
SEQUENCE_NAME = 0x00180024
GE_AXES = {"COL": ((-1, 0, 0), (0, -1, 0), (0, 0, 1)), "ROW": ((0, 1, 0), (-1, 0, 0), (0, 0, 1))}
"""GE's frequency, phase and slice, each in row, column and normal of the image, by phase encoding direction."""
_CANON = re.compile(rb"b=(\d+(?:\.\d+)?)(?:\(([-+.\d]+),([-+.\d]+),([-+.\d]+)\))?", re.ASCII)
_SIEMENS_NAME = re.compile(rb"\*?[a-z]+\d?_b(\d{1,5})(?:t|#\d+)?", re.ASCII)
"""``*ep_b1000#5`` (its fifth direction), ``ep_b50t`` (trace), ``*ep_b0``; not ``*ep_b0_1000``, a map of several."""


def read_diffusion(get: Getter, row: Row) -> Mapping[str, float | str | None]:
    """Return b_value (s/mm2), b_x, b_y, b_z and b_frame for the row of an MR image; nothing where there are none.

    The standard's own elements win; what they lack is taken from the first vendor that has it. An image at b = 0 has no
    direction.
    """
    known = row["b_value"]
    if row["modality"] != "MR" or (known is not None and (known == 0 or row["b_x"] is not None)):
        return {}
    for vendor in _VENDORS:
        if vendor is _siemens_csa and known is not None:
            continue
        value, direction, frame = vendor(get)
        if value is None and known is None:
            continue
        value = known if isinstance(known, float) else value
        if not value or direction is None or not all(math.isfinite(part) for part in direction):
            direction = None
        if direction is None and known is not None:
            continue
        x, y, z = direction or (None, None, None)
        return {"b_value": value, "b_x": x, "b_y": y, "b_z": z, "b_frame": frame if direction else None}
    return {}


# ---------------------------------------------------------------------------- the vendors


class _Private(NamedTuple):
    """A private element of numbers."""

    group: int
    creator: str
    element: int
    vr: str

    def read(self, get: Getter, count: int) -> list[float] | None:
        """Return its numbers, None where one is absent or unreadable."""
        found = private_numbers(get, *self, count) or ()
        known = [part for part in found if part is not None and math.isfinite(part)]
        return known if len(known) == count else None


_SIEMENS = _Private(0x0019, "SIEMENS MR HEADER", 0x0C, "IS"), _Private(0x0019, "SIEMENS MR HEADER", 0x0E, "FD")
_UIH = _Private(0x0065, "Image Private Header", 0x09, "FD"), _Private(0x0065, "Image Private Header", 0x37, "FD")
_GE = _Private(0x0043, "GEMS_PARM_01", 0x39, "IS")
_GE_PARTS = [_Private(0x0019, "GEMS_ACQU_01", element, "DS") for element in (0xBB, 0xBC, 0xBD)]
_PHILIPS = _Private(0x2001, "Philips Imaging DD 001", 0x03, "FL")
_PHILIPS_PARTS = [_Private(0x2005, "Philips MR Imaging DD 001", element, "FL") for element in (0xB0, 0xB1, 0xB2)]


def _first(numbers: Sequence[float] | None) -> float | None:
    return numbers[0] if numbers else None


def _parts(get: Getter, elements: Sequence[_Private]) -> list[float] | None:
    parts = [value for element in elements for value in element.read(get, 1) or ()]
    return parts if len(parts) == len(elements) else None


def _siemens(get: Getter) -> Found:
    value, direction = _SIEMENS
    return _first(value.read(get, 1)), direction.read(get, 3), None


def _siemens_csa(get: Getter) -> Found:
    header = image_header(get)
    if not names_b_value(header):
        return None, None, None
    csa = read_csa(header)
    return _first(csa_numbers(csa, "B_value", 1)), csa_numbers(csa, "DiffusionGradientDirection", 3), None


def _ge(get: Getter) -> Found:
    """GE adds 1e9 to b-values of some protocols."""
    value, parts = _first(_GE.read(get, 1)), _parts(get, _GE_PARTS)
    if value is not None and value >= 1e9:
        value -= 1e9
    turned = _ge_to_patient(get, parts) if parts else None
    return value, turned or parts, None if turned else "image"


def _ge_to_patient(get: Getter, parts: Sequence[float]) -> list[float] | None:
    """Turn frequency, phase and slice into LPS; None where it is not known how."""
    orientation, phase, position = get(ORIENTATION), get(PHASE_ENCODING), get(PATIENT_POSITION)
    if orientation is None or phase is None or position is None:
        return None
    axes = GE_AXES.get(rules.raw_text(phase.value) or "")
    cosines = np.array(rules.parse_numbers(orientation.value, 6), np.float64)  # None becomes NaN
    row, column = cosines[:3], cosines[3:]
    normal = np.cross(row, column)
    axial = bool(np.isfinite(cosines).all()) and int(np.abs(normal).argmax()) == 2
    if axes is None or not axial or rules.raw_text(position.value) != "HFS":
        return None
    turned: list[float] = (
        np.array(parts) @ np.array(axes, np.float64) @ np.stack([row, column, normal]) + 0.0
    ).tolist()
    return turned


def _philips(get: Getter) -> Found:
    return _first(_PHILIPS.read(get, 1)), _parts(get, _PHILIPS_PARTS), None


def _uih(get: Getter) -> Found:
    value, direction = _UIH
    return _first(value.read(get, 1)), direction.read(get, 3), None


def _canon(get: Getter) -> Found:
    """Canon and Toshiba write ``b=1000(0.445,0.000,0.895)`` as the image comment: only its numbers are read."""
    comment = get(COMMENT)
    match = _CANON.fullmatch(comment.value.strip(b" \0")) if comment else None
    if match is None:
        return None, None, None
    numbers = [rules.finite(rules.parse_number(part.decode("ascii"))) for part in match.groups(b"")]
    direction = [part for part in numbers[1:] if part is not None]
    return numbers[0], direction if len(direction) == 3 else None, "image"


def read_name(get: Getter) -> float | None:
    """Return the b-value in a Sequence Name of Siemens' form: what is left where private elements were taken out."""
    name = get(SEQUENCE_NAME)
    match = _SIEMENS_NAME.fullmatch(name.value.strip(b" \0")) if name else None
    return float(match[1]) if match else None


def _siemens_name(get: Getter) -> Found:
    return read_name(get), None, None


_VENDORS: tuple[Callable[[Getter], Found], ...] = (
    *(_siemens, _siemens_csa, _ge, _philips, _uih, _canon),
    _siemens_name,  # the last: others have directions too
)

_ELEMENTS = (*_SIEMENS, *_UIH, _GE, *_GE_PARTS, _PHILIPS, *_PHILIPS_PARTS)
ELEMENTS = (
    *(ORIENTATION, PATIENT_POSITION, PHASE_ENCODING, COMMENT),
    *sorted({element.group << 16 | block for element in _ELEMENTS for block in BLOCKS}),
    *sorted({element.group << 16 | block << 8 | element.element for element in _ELEMENTS for block in BLOCKS}),
)
"""What is read here but for the Sequence Name, the CSA header and the standard's b-value and direction."""
