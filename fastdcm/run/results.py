"""What parts of a planned conversion made: one folder a volume, put in its place by one rename.

A folder holds ``result.json``, and beside it the finished ``volume`` where it came about. Parts that do the same work
at the same time build it twice; the first to finish is kept, and what is complete is never replaced.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import socket
import time
from dataclasses import dataclass
from pathlib import Path

from fastdcm.errors import Code
from fastdcm.model import FrameFault, Json
from fastdcm.run.task import VolumeResult
from fastdcm.run.write import Built

GROUP_VOLUMES = 256
GROUP_SECONDS = 10.0
"""Results are made durable together: one sync for all of a group."""
_RESULT, _VOLUME = "result.json", "volume"


@dataclass(frozen=True, slots=True)
class Made:
    """What became of one planned volume."""

    result: VolumeResult
    dtype: str
    """The type it was written in: the planned one, or its fallback."""
    volume: Path
    """The finished volume; gone once it is published."""


def find_result(folder: Path, key: str) -> Made | None:
    """Return what a part made of the work that ``key`` names; None where none did yet."""
    place = _place(folder, key)
    try:
        told = json.loads((place / _RESULT).read_bytes())
        result = VolumeResult(
            path=told["path"],
            bytes_read=told["bytes_read"],
            bytes_written=told["bytes_written"],
            faults=tuple(FrameFault(cell, Code(code), text) for cell, code, text in told["faults"]),
            notes=tuple((cell, Code(code), text) for cell, code, text in told["notes"]),
            overflow=False,
        )
        return Made(result, told["dtype"], place / _VOLUME)
    except (FileNotFoundError, NotADirectoryError):
        return None


def is_there(made: Made | None) -> bool:
    """Tell whether a volume was made and waits to be published."""
    return made is not None and made.result.ready and made.volume.is_dir()


def _place(folder: Path, key: str) -> Path:
    return folder / "built" / key[:2] / key


class Keeper:
    """Takes the results of one part: they are in their places after ``flush`` at the latest."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._own = folder / "partial" / f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
        self._group: list[tuple[Path, Path]] = []
        self._since = time.monotonic()
        self._count = 0
        (self._own / "building").mkdir(parents=True)

    @property
    def partials(self) -> Path:
        """Where volumes are built."""
        return self._own / "building"

    def keep(self, key: str, built: Built) -> None:
        """Take a volume for which all work is done, well or not."""
        stage = self._own / f"result-{self._count}"
        self._count += 1
        stage.mkdir()
        if built.result.ready:
            os.rename(built.partial, stage / _VOLUME)
        (stage / _RESULT).write_text(json.dumps(_told(built)), encoding="ascii")
        self._group.append((stage, _place(self._folder, key)))
        if len(self._group) >= GROUP_VOLUMES or time.monotonic() - self._since > GROUP_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Make what is waiting durable, and put it in its place."""
        from fastdcm.store.commit import sync, sync_path

        group, self._group, self._since = self._group, [], time.monotonic()
        if not group:
            return
        sync([str(stage) for stage, _ in group])
        for stage, place in group:
            place.parent.mkdir(parents=True, exist_ok=True)
            self._put(stage, place)
        for parent in {place.parent for _, place in group}:
            sync_path(parent)

    def _put(self, stage: Path, place: Path) -> None:
        """Rename into place, unless something as good is there: a part on another host may have been faster."""
        try:
            os.rename(stage, place)
        except OSError:
            before = find_result(self._folder, place.name)
            if before is None:
                raise
            if not is_there(before) and (stage / _VOLUME).exists():  # it failed then, and now it did not
                os.rename(place, self._own / f"old-{stage.name}")
                self._put(stage, place)
            shutil.rmtree(stage, ignore_errors=True)

    def close(self) -> None:
        """Remove what was not finished."""
        shutil.rmtree(self._own, ignore_errors=True)


def _told(built: Built) -> Json:
    result = built.result
    return {
        "path": result.path,
        "dtype": built.plan.array.dtype,
        "bytes_read": result.bytes_read,
        "bytes_written": result.bytes_written,
        "faults": [(fault.cell, str(fault.code), fault.message) for fault in result.faults],
        "notes": [(cell, str(code), text) for cell, code, text in result.notes],
    }
