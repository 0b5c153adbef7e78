"""What the witness states: mismatches, and how much was compared."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from fastdcm.model import Json

Cell = tuple[int, int, int]
"""(t, c, z) of a slice; colour and samples are inside it."""


class Mismatch(NamedTuple):
    """One thing that is not as it should be."""

    volume: str
    """Path in the store; empty for the tables."""
    check: str
    """tables, attributes, shape, shard, read, hash, fill, frames; against the sources: pixels, position, direction,
    spacing, rescale, source, stale."""
    cell: Cell | None
    """(t, c, z) of the slice."""
    message: str


class Findings(NamedTuple):
    """What checking a volume, or a whole store, found."""

    hashed: int = 0
    """Slices whose recorded hash was compared."""
    decoded: int = 0
    """Slices compared with pixels that pydicom decoded from the source."""
    placed: int = 0
    """Slices whose position was compared with the source header."""
    absent: int = 0
    """Slices whose source file is not there."""
    undecodable: int = 0
    """Slices that no decoder of pydicom here can read: only their hash was compared."""
    touched: int = 0
    """Slices whose source has another date than when it was converted, and the same size."""
    mismatches: tuple[Mismatch, ...] = ()

    def __or__(self, other: Findings) -> Findings:
        """Add up."""
        return Findings(*(mine + theirs for mine, theirs in zip(self, other, strict=True)))  # type: ignore[operator]


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """The witness's statement."""

    volumes: int
    """In the catalogue."""
    findings: Findings
    seconds: float
    sources: bool
    """Sources were there to compare with."""
    slices: int = 0
    """In the catalogue."""
    sample: int | None = None
    """Slices that were asked for; None: all."""

    @property
    def mismatches(self) -> tuple[Mismatch, ...]:
        """Everything that is not as it should be, by volume and slice."""
        return self.findings.mismatches

    @property
    def exit_code(self) -> int:
        """4 where anything differs, else 0."""
        return 4 if self.mismatches else 0

    def as_json(self) -> Json:
        """Return the statement for machines."""
        counts = {name: value for name, value in self.findings._asdict().items() if name != "mismatches"}
        return {
            "volumes": self.volumes,
            "slices": self.slices,
            "sample": self.sample,
            **counts,
            "mismatches": [mismatch._asdict() for mismatch in self.mismatches],
            "seconds": round(self.seconds, 3),
            "exit_code": self.exit_code,
        }
