"""What can go wrong, sorted by what a caller would do about it. Imports nothing of fastdcm.

::

    FastdcmError
    ├── UsageError          the command is wrong: change it             exit 2
    ├── TargetError         the target failed: disk full, permission    exit 3
    ├── CheckError          written data is not what it should be       exit 4
    ├── SourceError         one input is unusable: recorded, go on
    └── GeometryError       a loader was asked for geometry there is none of

An expected failure inside a task is a value (an outcome row), never one of these escaping.
"""

from __future__ import annotations

import errno
from enum import StrEnum


class Outcome(StrEnum):
    """What became of one input file; each file has exactly one (``files.parquet``)."""

    CONVERTED = "converted"
    DUPLICATE = "duplicate"
    CONFLICT = "conflict"
    FILTERED = "filtered"
    NOT_IMAGE = "not-image"
    NOT_DICOM = "not-dicom"
    FAILED = "failed"


class Code(StrEnum):
    """Stable reason codes of outcomes, splits and flags. Append only; listed in docs/store.md."""

    # not-dicom
    NO_DICOM = "no-dicom"
    EMPTY = "empty"
    APPLE_DOUBLE = "apple-double"
    # not-image
    SOP_CLASS = "sop-class"
    DICOMDIR = "dicomdir"
    VIDEO = "video"
    # filtered
    WHERE = "where"
    IMAGE_TYPE = "image-type"
    LOCALIZER = "localizer"
    DERIVED = "derived"
    WSI_LABEL = "wsi-label"
    # duplicate, conflict
    SAME_PIXELS = "same-pixels"
    LOSSY_COPY = "lossy-copy"
    PIXELS_DIFFER = "pixels-differ"
    OLDER_COPY = "older-copy"
    SIBLING_CONFLICT = "sibling-conflict"
    REPLACED = "replaced"
    # failed
    UNREADABLE = "unreadable"
    PERMISSION = "permission"
    CHANGED = "changed"
    BAD_HEADER = "bad-header"
    NO_PIXELS = "no-pixels"
    TRUNCATED = "truncated"
    BAD_SIZE = "bad-size"
    DECODE = "decode"
    UNSUPPORTED_SYNTAX = "unsupported-syntax"
    UNSUPPORTED_PIXELS = "unsupported-pixels"
    UNSUPPORTED_WSI = "unsupported-wsi"
    SIBLING_FAILED = "sibling-failed"
    GAP = "gap"
    INCOMPLETE = "incomplete"
    BAD_ARCHIVE = "bad-archive"
    ENCRYPTED = "encrypted"
    ARCHIVE_BOUND = "archive-bound"
    INTERNAL = "internal"
    DECODER_CRASH = "decoder-crash"
    DECODER_TIMEOUT = "decoder-timeout"
    WORKER_LOST = "worker-lost"
    # why a series became several volumes
    SPLIT_ORIENTATION = "split-orientation"
    SPLIT_MATRIX = "split-matrix"
    SPLIT_SPACING = "split-spacing"
    SPLIT_FRAME_OF_REFERENCE = "split-frame-of-reference"
    SPLIT_SAMPLES = "split-samples"
    SPLIT_NUMBER_TYPE = "split-number-type"
    SPLIT_IMAGE_TYPE = "split-image-type"
    SPLIT_KERNEL = "split-kernel"
    SPLIT_TABLE_JUMP = "split-table-jump"
    SPLIT_GAP = "split-gap"
    SPLIT_AXIS = "split-axis"
    SPLIT_INSTANCE = "split-instance"
    RAGGED = "ragged"
    # what a volume is flagged with
    MISSING_SLICES = "missing-slices"
    GAP_FILLED = "gap-filled"
    IRREGULAR = "irregular"
    SHEARED = "sheared"
    NO_POSITION = "no-position"
    BAD_ORIENTATION = "bad-orientation"
    BAD_SPACING = "bad-spacing"
    BAD_RESCALE = "bad-rescale"
    AXIS_INFERRED = "axis-inferred"
    UID_REUSED = "uid-reused"
    UNDECIDED = "undecided"
    FRAME_OF_REFERENCE_PER_INSTANCE = "frame-of-reference-per-instance"
    ONE_SLICE_SERIES = "one-slice-series"
    MOSAIC_UNKNOWN = "mosaic-unknown"
    LOCALIZER_SUSPECT = "localizer-suspect"
    REPAIRED_SYNTAX = "repaired-syntax"
    LONG_PIXEL_DATA = "long-pixel-data"
    MODALITY_LUT = "modality-lut"
    LUT_NOT_APPLIED = "lut-not-applied"
    LOSSY = "lossy"
    DTYPE_FALLBACK = "dtype-fallback"
    FRAMES_DROPPED = "frames-dropped"
    FRAMES_FILLED = "frames-filled"
    FILES_LOST = "files-lost"
    BURNED_IN_RISK = "burned-in-risk"


class FastdcmError(Exception):
    """Base of every error that fastdcm raises on purpose."""


class UsageError(FastdcmError):
    """The call cannot work as given; nothing was written."""


class TargetError(FastdcmError):
    """The target failed (disk full, no permission); published volumes stay."""


class CheckError(FastdcmError):
    """Written data does not hold what it should."""


class GeometryError(FastdcmError):
    """A volume has no (or no single) affine, and none is made up."""


class SourceError(FastdcmError):
    """One input is unusable.

    Parameters
    ----------
    code : Code
        Stable reason code.
    message : str
        What, where, the two numbers, what to do. Never a path and never a name of a patient.
    """

    def __init__(self, code: Code, message: str) -> None:
        super().__init__(code, message)  # positional, so that it pickles
        self.code = code
        self.message = message

    def __str__(self) -> str:
        """Return the message alone."""
        return self.message


PAUSES_S = (0.1, 1.0)
"""Before something is read again where the system failed: a file server that moved, a cable, a busy disk."""
MAY_PASS = frozenset({errno.EIO, errno.ESTALE, errno.EAGAIN, errno.ETIMEDOUT, errno.EINTR, errno.ENOBUFS})
"""Errors of the system that the next try may not meet: EIO, a stale handle, a time limit."""


def may_pass(error: Exception) -> bool:
    """Tell whether the system failed in a way that the next try may not."""
    return isinstance(error, OSError) and error.errno in MAY_PASS
