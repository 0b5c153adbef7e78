"""What the segments of a segmentation are (Segment Sequence (0062,0002), PS3.3 C.8.20.4): number, label, codes, colour.

They are read from the tags that the metadata policy lets into the store. Where it leaves texts out, the label is what
the public vocabulary calls the code of the segment's type: never a text that somebody typed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from fastdcm.model import Json
from fastdcm.scan.pydicom_once import load_pydicom

SEQUENCE = "00620002"


def segments_of(tags: Mapping[str, Any]) -> list[Json]:
    """Return the segments that tags describe, by number.

    Parameters
    ----------
    tags : mapping
        PS3.18 JSON of a segmentation's tags, by ``GGGGEEEE``.

    Returns
    -------
    list of dict
        ``number``; ``label``, ``category``, ``type`` and ``anatomic_region`` (codes), ``color`` (RRGGBB) and
        ``algorithm_type`` where they are known.
    """
    items = (tags.get(SEQUENCE) or {}).get("Value") or ()
    found = [segment for item in items if isinstance(item, Mapping) and (segment := _segment(item))]
    return sorted(found, key=lambda segment: int(segment["number"]))


def _segment(item: Mapping[str, Any]) -> Json | None:
    number = _value(item, "00620004")
    if not isinstance(number, int):
        return None
    kind = _code(item, "0062000F")
    known = {
        "label": _value(item, "00620005") or (kind and (kind.get("meaning") or _vocabulary(kind))),
        "category": _code(item, "00620003"),
        "type": kind,
        "anatomic_region": _code(item, "00082218"),
        "color": _colour((item.get("0062000D") or {}).get("Value") or ()),
        "algorithm_type": _value(item, "00620008"),
    }
    return {"number": number} | {name: value for name, value in known.items() if value}


def _value(item: Mapping[str, Any], tag: str) -> Any:
    values = (item.get(tag) or {}).get("Value") or (None,)
    return values[0]


def _code(item: Mapping[str, Any], tag: str) -> Json | None:
    """Return the first code of a sequence: value, scheme, and its meaning if that may be told."""
    code = _value(item, tag)
    if not isinstance(code, Mapping):
        return None
    known = {
        "value": _value(code, "00080100"),
        "scheme": _value(code, "00080102"),
        "meaning": _value(code, "00080104"),
    }
    return {name: value for name, value in known.items() if value} if known["value"] else None


def _vocabulary(code: Json) -> str | None:
    return _public_name(str(code["value"]), str(code.get("scheme", "")))


@lru_cache(maxsize=1024)
def _public_name(value: str, scheme: str) -> str | None:
    """Return the shortest meaning that the vocabulary of DICOM (PS3.16) has for a code; SRT by what SNOMED CT has."""
    load_pydicom()
    from pydicom.sr.codedict import codes
    from pydicom.sr.coding import Code

    wanted = Code(value, scheme, "")
    vocabulary = getattr(codes, "SCT" if scheme in ("SCT", "SRT", "99SDM", "SNM3") else "DCM")
    concepts = (getattr(vocabulary, name) for name in vocabulary.dir())
    names = [concept.meaning for concept in concepts if concept == wanted]
    return min(names, key=lambda name: (len(name), name)) if names else None


def _colour(lab: Sequence[Any]) -> str | None:
    """Return a Recommended Display CIELab Value (PS3.3 C.10.7.1.1, white point D50) as RRGGBB of sRGB."""
    if len(lab) != 3 or not all(isinstance(part, int) and 0 <= part <= 65535 for part in lab):
        return None
    lightness, a, b = lab[0] / 65535 * 100, lab[1] / 65535 * 255 - 128, lab[2] / 65535 * 255 - 128
    y = (lightness + 16) / 116
    xyz = [white * _from_lab(part) for white, part in zip(_D50, (y + a / 500, y, y - b / 200), strict=True)]
    linear = [sum(weight * part for weight, part in zip(row, xyz, strict=True)) for row in _D50_TO_SRGB]
    return "".join(f"{round(255 * _gamma(min(max(part, 0.0), 1.0))):02X}" for part in linear)


_D50 = (0.96422, 1.0, 0.82521)
_D50_TO_SRGB = (
    (3.1338561, -1.6168667, -0.4906146),
    (-0.9787684, 1.9161415, 0.0334540),
    (0.0719453, -0.2289914, 1.4052427),
)
"""Bradford-adapted to D65."""


def _from_lab(part: float) -> float:
    return part**3 if part > 6 / 29 else 3 * (6 / 29) ** 2 * (part - 4 / 29)


def _gamma(part: float) -> float:
    return 12.92 * part if part <= 0.0031308 else 1.055 * math.pow(part, 1 / 2.4) - 0.055
