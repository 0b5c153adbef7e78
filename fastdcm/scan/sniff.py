"""Whether a file may be DICOM, from its first bytes."""

from __future__ import annotations

from fastdcm.errors import Code, Outcome
from fastdcm.scan import rules

HEAD_BYTES = 264
NO_DICOM = "no DICOM prefix, and it does not start with a DICOM element"
_APPLE_MAGIC = b"\x00\x05\x16\x07"


def not_dicom(head: bytes, size: int, name: str) -> rules.Verdict | None:
    """Return the outcome of a file whose first ``HEAD_BYTES`` show that it is no DICOM, else None."""
    if size == 0:
        return Outcome.NOT_DICOM, Code.EMPTY, "the file is empty"
    if head[128:132] == b"DICM":
        return None
    if head.startswith(_APPLE_MAGIC) or name.startswith("._"):
        return Outcome.NOT_DICOM, Code.APPLE_DOUBLE, "a Mac's AppleDouble file"
    if _plausible_start(head, size):
        return None
    return Outcome.NOT_DICOM, Code.NO_DICOM, NO_DICOM


def _plausible_start(head: bytes, size: int) -> bool:
    """Whether a file without preamble starts like a data set: group 2 or 8, and a VR or a small length."""
    if len(head) < 8:
        return False
    group = min(int.from_bytes(head[:2], "little"), int.from_bytes(head[:2], "big"))
    if group not in (0x0002, 0x0008):
        return False
    return head[4:6] in rules.VRS or int.from_bytes(head[4:8], "little") <= min(size - 8, 1024)
