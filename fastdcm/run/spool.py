"""Series on disk while a run needs them: worked out once, asked for again when they are written.

An entry without its frames, which come from the index, is 1 to 2 kB; reading it takes a thirtieth of grouping and
planning the series again. The file has no name and ends with the process: nobody else can write what is unpickled.
"""

from __future__ import annotations

import pickle
import tempfile
from array import array
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

from fastdcm.model import Frames
from fastdcm.run.series import SeriesEntry


class Spool:
    """Entries of series by number, in a file without a name that is opened when the first one comes."""

    def __init__(self, folder: Path) -> None:
        """Take the folder on whose disk the file will be."""
        self._folder = folder
        self._file: IO[bytes] | None = None
        self._starts = array("q")
        """Where the entry of each series begins; -1: nowhere."""

    def __enter__(self) -> Spool:
        """Return the spool."""
        return self

    def __exit__(self, *_: object) -> None:
        """Let go of the file."""
        if self._file is not None:
            self._file.close()

    def __contains__(self, number: int) -> bool:
        """Tell whether the entry of a series is there."""
        return number < len(self._starts) and self._starts[number] >= 0

    def put(self, number: int, entry: SeriesEntry) -> None:
        """Keep an entry, if it follows from the headers alone and is not there yet.

        Raises
        ------
        OSError
            The disk is full.
        """
        if number in self or entry.bad or entry.answers:
            return
        if self._file is None:
            self._file = tempfile.TemporaryFile(dir=self._folder)  # noqa: SIM115 - held until the end of the run
        nothing: Any = None
        plans = tuple(replace(plan, frames=nothing) for plan in entry.plans)
        self._starts.extend([-1] * (number + 1 - len(self._starts)))
        self._starts[number] = self._file.seek(0, 2)
        pickle.dump((entry.grouping, plans), self._file, pickle.HIGHEST_PROTOCOL)

    def get(self, number: int, frames: Frames) -> SeriesEntry:
        """Return the entry of a series, with its frames."""
        from fastdcm.series.plan import narrow

        if self._file is None:
            raise KeyError(number)
        self._file.seek(self._starts[number])
        grouping, plans = pickle.load(self._file)  # noqa: S301 - what this process wrote, see above
        pairs = zip(plans, grouping.volumes, strict=True)
        return SeriesEntry(
            frames, grouping, (), {}, tuple(replace(plan, frames=narrow(frames, volume)[0]) for plan, volume in pairs)
        )
