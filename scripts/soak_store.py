"""What a soak asks of a store: that all that is visible is whole, and that it is the one that was to be made."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np

from scripts.soak_runs import DONE, Round, finish, start


def visible_problems(dest: Path) -> list[str]:
    """Return what is wrong with the volumes that a reader sees now: read by zarr, compared by their hashes."""
    import zarr
    from xxhash import xxh3_128_hexdigest

    problems = []
    for volume in sorted(dest.glob("*/*/*.ome.zarr")):
        name = volume.relative_to(dest)
        try:
            attributes = json.loads((volume / "zarr.json").read_bytes())["attributes"]["fastdcm"]
            array: Any = zarr.open_array(volume / "0" / "image", mode="r")
            values = np.asarray(array[:])
        except (OSError, ValueError, KeyError) as error:
            problems.append(f"{name}: {type(error).__name__}: {error}")
            continue
        hashes = attributes["source"]["pixel_hash"]
        cells = values.reshape(-1, *values.shape[-2:])
        if len(cells) != len(hashes):  # colour: c, z, y, x with a hash for all samples of a slice
            cells = np.moveaxis(values, -4, -3).reshape(len(hashes), -1, *values.shape[-2:])
        for number, (cell, known) in enumerate(zip(cells, hashes, strict=True)):
            if known is not None and xxh3_128_hexdigest(np.ascontiguousarray(cell).data.cast("B")) != known:
                problems.append(f"{name}: slice {number} does not hold what was written")
    return problems


def contents(store: Path) -> dict[str, str]:
    """Return a hash of every file that must not depend on how a run was made."""
    files = [path for path in store.rglob("*") if path.is_file() and path.name != "report.json"]
    return {str(path.relative_to(store)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def differences(expected: Path, found: Path) -> list[str]:
    """Return the files in which two stores differ."""
    one, other = contents(expected), contents(found)
    names = sorted(name for name in one.keys() | other.keys() if one.get(name) != other.get(name))
    return [f"{name}: {'differs' if name in one and name in other else 'only in one store'}" for name in names]


def look(one: Round, dest: Path) -> None:
    """Note what is wrong with a store in the middle of its work."""
    one.problems += [f"visible after {one.faults[-1]}: {text}" for text in visible_problems(dest)]


def compare(one: Round, dest: Path) -> None:
    """Note where a store differs from one of the same export that was made in one go."""
    expected = one.folder / "expected.zarr"
    for path in (expected, expected.with_name("expected.zarr.work")):
        shutil.rmtree(path, ignore_errors=True)
    started = time.monotonic()
    finish(one, start(one, "--workers", "2", dest=expected), {DONE})
    one.usual_s = time.monotonic() - started
    one.problems += differences(expected, dest)
    if any((dest.with_name(f"{dest.name}.work") / name).exists() for name in ("partial", "trash")):
        one.problems.append("an unfinished volume is left in the working folder")
