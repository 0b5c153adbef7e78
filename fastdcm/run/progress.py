"""What a run tells while it works: a callback gets frozen counts, and whoever shows them decides how."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple


class Progress(NamedTuple):
    """Where a run stands."""

    stage: Literal["start", "scan", "group", "convert", "tables", "verify", "compare"]
    """``start`` has no counts: something about the workers, also in the middle of a run."""
    files: int = 0
    """Files whose headers are read."""
    volumes: int = 0
    """Volumes done."""
    volumes_total: int = 0
    bytes: int = 0
    """Bytes of voxels done, uncompressed."""
    bytes_total: int = 0
    dashboard: str = ""
    """Address of the workers' dashboard; of the stage ``start`` alone."""
    note: str = ""
    """A sentence on the workers, to be shown at once; of the stage ``start`` alone."""


Callback = Callable[[Progress], None]


def silent(_: Progress) -> None:
    """Show nothing."""
