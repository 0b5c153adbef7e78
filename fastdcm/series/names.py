"""Names that become folders: a UID is used as it is only if it is a legal one, anything else is hashed."""

from __future__ import annotations

import hashlib
import re

_LEGAL_UID = re.compile(r"[0-9]+(\.[0-9]+)*")
_UID_LENGTH = 64


def safe_uid(text: str | None) -> str:
    """Return a UID as a name of a folder.

    Parameters
    ----------
    text : str or None
        What a header holds: anything at all.

    Returns
    -------
    str
        The text itself where it is a UID by PS3.5 9.1 (leading zeros are tolerated), else ``x-`` and 16 hex digits
        of its SHA-256: never empty, absolute, reserved, longer than 64 characters, nor a step up.
    """
    if text and len(text) <= _UID_LENGTH and _LEGAL_UID.fullmatch(text):
        return text
    return "x-" + hashlib.sha256((text or "").encode("utf-8", "surrogatepass")).hexdigest()[:16]


def volume_path(study: str, series_uid: str | None, number: int) -> str:
    """Return the path of a volume below the store: ``<study>/<series uid>/<n>.ome.zarr``.

    Parameters
    ----------
    study : str
        Name of the study's folder, from ``catalog.study_names``.
    series_uid : str or None
        As in the header.
    number : int
        n of the volume in its series.
    """
    return f"{study}/{safe_uid(series_uid)}/{number}.ome.zarr"
