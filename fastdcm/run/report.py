"""What a run tells: totals that balance, warnings, failures by file, and the exit code (contract.md)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from fastdcm.errors import Code, Outcome
from fastdcm.model import Json


class Failure(NamedTuple):
    """One file that is not in the store and should be; for the terminal, never for the store."""

    path: str
    """Source and relative path, as text that can be printed."""
    outcome: Outcome
    code: Code
    message: str


@dataclass(frozen=True, slots=True)
class Report:
    """The summary of a conversion or of its dry run."""

    files: int
    """Input files found; the sum of ``outcomes``."""
    outcomes: Mapping[str, int]
    """Files by outcome, every outcome of ``Outcome`` named."""
    codes: Mapping[str, int]
    """Files by ``outcome/code``, those with a code."""
    volumes: Mapping[str, int]
    """written, unchanged (published before, same digest), failed, filtered, kept (published before, sources gone)."""
    objects: Mapping[str, int] = field(default_factory=dict)
    """Files by the name of their class: those without an image, and segmentations, doses and parametric maps."""
    bytes_read: int = 0
    bytes_written: int = 0
    seconds: float = 0.0
    warnings: tuple[str, ...] = ()
    failures: tuple[Failure, ...] = ()
    """Rows of outcome failed or conflict, in the order of files.parquet."""
    checks_failed: int = 0
    """Volumes whose written data did not hold what it should; they are not published."""
    plan: Json | None = field(default=None, repr=False)
    """The plan document of a dry run."""

    @property
    def exit_code(self) -> int:
        """4: a check of written data failed; 1: files failed, are in conflict, or refused (dry run); 0: all is well."""
        if self.checks_failed:
            return 4
        return 1 if self.outcomes[Outcome.FAILED] or self.outcomes[Outcome.CONFLICT] else 0

    def as_json(self) -> Json:
        """Return the summary without any path: what ``--json`` prints."""
        return {
            "files": self.files,
            "outcomes": dict(self.outcomes),
            "codes": dict(self.codes),
            "objects": dict(self.objects),
            "volumes": dict(self.volumes),
            "bytes_read": self.bytes_read,
            "bytes_written": self.bytes_written,
            "seconds": round(self.seconds, 3),
            "warnings": list(self.warnings),
            "exit_code": self.exit_code,
        }
