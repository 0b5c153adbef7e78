"""How text reaches a terminal: nothing from a header may act on it, and numbers read the same everywhere."""

from __future__ import annotations

import os
import shutil
import sys
import unicodedata
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

MICROSCOPIC_MM = 0.01
"""Pixels of slides are smaller, and three decimals would say nothing of them."""
PIPE_COLUMNS = 160
"""Width of what is not a terminal and has no ``COLUMNS``: a file is not cut as a screen is."""


def columns() -> int:
    """Return the width of standard output; rich is not loaded for it."""
    known = sys.stdout.isatty() or os.environ.get("COLUMNS")
    return shutil.get_terminal_size().columns if known else PIPE_COLUMNS


def console(*, stderr: bool = False) -> Console:
    """Return a console: colours only on a terminal, no markup or highlighting of what is printed."""
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() or os.environ.get("COLUMNS") else PIPE_COLUMNS
    return Console(stderr=stderr, width=width, markup=False, highlight=False, emoji=False, soft_wrap=True)


def clean(value: Any) -> str:
    r"""Return a value as text of one line that cannot act on a terminal.

    Control, bidirectional and other invisible characters are shown as escapes (``\x1b``), odd spaces as a space.
    """
    return "".join(map(_visible, str(value)))


def _visible(character: str) -> str:
    if character.isprintable():
        return character
    if unicodedata.category(character) == "Zs":
        return " "
    return character.encode("unicode_escape").decode("ascii")


def size_text(n_bytes: float) -> str:
    """Return bytes with a decimal unit: 338 MB."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if abs(n_bytes) < 999.5 or unit == "TB":
            break
        n_bytes /= 1000
    return f"{n_bytes:.0f} {unit}" if unit == "B" or abs(n_bytes) >= 99.5 else f"{n_bytes:.3g} {unit}"


def time_text(seconds: float) -> str:
    """Return a duration: 4.1 s, 12 min 05 s, 3 h 20 min."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def count_text(n: int, noun: str, plural: str | None = None) -> str:
    """Return a number with its noun: 1 volume, 2 volumes, 1 study, 2 studies."""
    return f"{n} {noun if n == 1 else plural or noun + 's'}"


def mm_text(value: float | None) -> str:
    """Return a length with as few digits as tell spacings apart, ``-`` where unknown."""
    if value is None:
        return "-"
    return f"{value:.2g}" if 0 < abs(value) < MICROSCOPIC_MM else f"{value:.3f}".rstrip("0").rstrip(".")
