"""What a run tells while it works: a callback gets frozen counts, and whoever shows them decides how."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple


class Progress(NamedTuple):
    """Where a run stands."""

    stage: Literal["scan", "group", "convert", "tables", "verify", "compare"]
    files: int = 0
    """Files whose headers are read."""
    volumes: int = 0
    """Volumes done."""
    volumes_total: int = 0
    bytes: int = 0
    """Bytes of voxels done, uncompressed."""
    bytes_total: int = 0


Callback = Callable[[Progress], None]


def silent(_: Progress) -> None:
    """Show nothing."""
