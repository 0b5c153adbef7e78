"""What a run tells: totals that balance, warnings, failures by file, and the exit code (contract.md)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
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


@dataclass(frozen=True, slots=True)
class ArrayPlan:
    """What ``plan`` decided; the plan itself is the folder ``path``."""

    path: Path
    dest: Path
    """The store that ``finish`` writes."""
    files: int
    """Input files found."""
    volumes: int
    """To be written."""
    unchanged: int
    """Volumes that the store holds already."""
    bytes: int
    """Of the voxels to be written, uncompressed."""
    seconds: float = 0.0
    warnings: tuple[str, ...] = ()

    @property
    def exit_code(self) -> int:
        """0: what cannot be converted is told by ``finish``."""
        return 0

    def as_json(self) -> Json:
        """Return what ``--json`` prints."""
        return {
            "plan": str(self.path),
            "dest": str(self.dest),
            "files": self.files,
            "volumes": self.volumes,
            "unchanged": self.unchanged,
            "bytes": self.bytes,
            "seconds": round(self.seconds, 3),
            "warnings": list(self.warnings),
            "exit_code": self.exit_code,
        }


@dataclass(frozen=True, slots=True)
class PartReport:
    """What one part of a plan did."""

    part: int
    parts: int
    volumes: Mapping[str, int]
    """written, ready (made before), failed."""
    bytes_read: int = 0
    bytes_written: int = 0
    seconds: float = 0.0
    warnings: tuple[str, ...] = ()
    checks_failed: int = 0
    """Volumes whose written data did not hold what it should; they are missing, and the part can be run again."""

    @property
    def exit_code(self) -> int:
        """4: a check of written data failed; else 0, so that ``finish`` runs: it tells which files failed."""
        return 4 if self.checks_failed else 0

    def as_json(self) -> Json:
        """Return what ``--json`` prints."""
        return {
            "part": self.part,
            "parts": self.parts,
            "volumes": dict(self.volumes),
            "bytes_read": self.bytes_read,
            "bytes_written": self.bytes_written,
            "seconds": round(self.seconds, 3),
            "warnings": list(self.warnings),
            "exit_code": self.exit_code,
        }
