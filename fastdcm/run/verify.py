"""The independent witness: what a store holds against the files that it was made from, slice by slice.

Nothing of the planning, decoding or writing is imported. Pixels are decoded by pydicom's own plugins, modality values
are computed here in float64 (PS3.3 C.11.1.1.2), positions come from the source headers by pydicom, and zarr-python
reads the store. ``frames.parquet`` and ``files.parquet`` are used only to find the file of a slice.
"""

from __future__ import annotations

import json
import math
import random
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fastdcm.errors import CheckError, UsageError
from fastdcm.load.catalog import inside
from fastdcm.load.volume import Store, Volume
from fastdcm.load.volume import open as open_path
from fastdcm.load.zarrays import lost_shards
from fastdcm.model import Json, Options, Resources
from fastdcm.places import Place, place_of, published_volumes, table_file, work_folder
from fastdcm.run.execute import map_tasks, start_engine
from fastdcm.run.options import Source, check_options, source_list
from fastdcm.run.progress import Callback, Progress, silent
from fastdcm.run.witness import Slice, SourceFile, open_source

Array = npt.NDArray[Any]
BLOCK_BYTES = 64 * 2**20
POSITION_MM = 1e-3
"""Headers hold decimal strings: a position is the same within this, beside the residual that the volume states."""
COSINE = 1e-3
RESIDUAL_MM = 0.1
"""No volume may call itself uniform with a larger residual than this (or 2 % of its step)."""
SPACING_RELATIVE = 1e-3


class Mismatch(NamedTuple):
    """One thing that is not as it should be."""

    volume: str
    """Path in the store; empty for the tables."""
    check: str
    """tables, shape, shard, read, hash, pixels, position, direction, spacing or fill."""
    cell: tuple[int, int, int] | None
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
    mismatches: tuple[Mismatch, ...] = ()

    def __or__(self, other: Findings) -> Findings:
        """Add up."""
        return Findings(*(mine + theirs for mine, theirs in zip(self, other, strict=True)))  # type: ignore[operator]


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """The witness's statement."""

    volumes: int
    findings: Findings
    seconds: float
    sources: bool
    """Sources were there to compare with."""

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
            **counts,
            "mismatches": [mismatch._asdict() for mismatch in self.mismatches],
            "seconds": round(self.seconds, 3),
            "exit_code": self.exit_code,
        }


class Task(NamedTuple):
    """One volume to be checked; picklable."""

    root: str
    volume: str
    row: Json
    """Its row of the catalogue."""
    slices: tuple[Slice, ...]
    """Its rows of ``frames.parquet``, each with its file; empty: hashes only."""
    wanted: frozenset[tuple[int, int, int]] | None
    """Cells to check; None: all."""


def verify(  # noqa: PLR0913 - one keyword an option of the command line
    store: str | Path,
    sources: Source | Sequence[Source] | None = None,
    *,
    sample: int | None = None,
    work: str | Path | None = None,
    workers: int | None = None,
    threads: int = 1,
    memory: int | None = None,
    scheduler: str = "local",
    progress: Callback | None = None,
) -> VerifyReport:
    """Compare a store with its sources, and with the hashes that were recorded when it was written.

    Parameters
    ----------
    store : path
        Root of the store.
    sources : path or sequence of path, optional
        The sources in the order that ``convert`` got them; ``sources.json`` in the working folder stands in for them.
        Without either only the recorded hashes are checked.
    sample : int, optional
        Check about this many slices only, spread evenly over the store (the same ones each time).
    work : path, optional
        Working folder of the conversion, ``STORE.work`` by default.
    workers, threads, memory, scheduler, progress
        As in ``fastdcm.convert``.

    Returns
    -------
    VerifyReport
        ``mismatches`` is empty and ``exit_code`` 0 where all is right.

    Raises
    ------
    UsageError
        ``store`` is no store, or none of the files is below the sources that were given.

    Examples
    --------
    >>> import fastdcm
    >>> found = fastdcm.verify("out.zarr", "export")
    >>> found.volumes, found.mismatches, found.exit_code
    (5, (), 0)
    """
    started = time.monotonic()
    opened = open_path(store)
    if not isinstance(opened, Store):
        raise UsageError(f"{store} is a volume; verify takes a store")
    resources = Resources(workers=workers, threads=threads, memory_bytes=memory, scheduler=scheduler)
    check_options(Options(), resources)
    given = None if sources is None else source_list(sources)
    roots = _source_roots(opened.place, given, work)
    tables = _manifest(opened.place) if roots else None
    findings = _check_tables(opened)
    tasks = list(_tasks(opened, tables, roots, sample))
    if given and tables is not None and not any(_is_there(one) for task in tasks for one in task.slices):
        raise UsageError("none of the store's files is below the given sources; give those of convert, in its order")
    show = progress or silent
    with start_engine(resources) as engine:
        for number, (task, result) in enumerate(map_tasks(_check_volume, tasks, engine), start=1):
            if isinstance(result, Exception):
                raise CheckError(f"volume {task.volume} could not be checked: {result!r}") from result
            findings |= result
            show(Progress("verify", volumes=number, volumes_total=len(tasks)))
    ordered = tuple(sorted(findings.mismatches, key=lambda one: (one.volume, one.cell or (-1, -1, -1), one.check)))
    return VerifyReport(
        len(opened), findings._replace(mismatches=ordered), time.monotonic() - started, tables is not None
    )


# ---------------------------------------------------------------------------- what there is to check


def _source_roots(store: Place, sources: Sequence[str] | None, work: str | Path | None) -> tuple[str, ...]:
    """Return the folders that paths in files.parquet are relative to, by number of the source."""
    if sources is None:
        try:
            sources = json.loads((work_folder(store.absolute(), work) / "sources.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return ()
    return tuple(str(path if Path(path).is_dir() else Path(path).parent) for path in sources)


def _manifest(store: Place) -> tuple[dict[int, Json], dict[str, list[Json]]] | None:
    """Return rows of files.parquet by number and of frames.parquet by volume; None where they were left out."""
    import pyarrow.parquet

    try:
        columns = ["file", "source", "path"]
        files = pyarrow.parquet.read_table(table_file(store / "files.parquet"), columns=columns).to_pylist()
        frames = pyarrow.parquet.read_table(table_file(store / "frames.parquet")).to_pylist()
    except OSError:
        return None
    by_volume: dict[str, list[Json]] = defaultdict(list)
    for row in frames:
        by_volume[row["volume"]].append(row)
    return {row["file"]: row for row in files}, by_volume


def _tasks(
    store: Store,
    tables: tuple[dict[int, Json], dict[str, list[Json]]] | None,
    roots: tuple[str, ...],
    sample: int | None,
) -> Iterator[Task]:
    rows = store.table.to_pylist()
    chosen = _sampled(rows, sample)
    for row in rows:
        name = row["volume"]
        wanted = None if chosen is None else chosen.get(name)
        if chosen is not None and wanted is None:
            continue
        frames = tables[1].get(name, []) if tables else []
        slices = tuple(_slice_of(frame, tables[0], roots) for frame in frames) if tables else ()
        yield Task(str(store.place), name, row, slices, wanted)


def _slice_of(frame: Json, files: Mapping[int, Json], roots: tuple[str, ...]) -> Slice:
    """Say where the bytes of a stored frame are; an empty path where nobody knows."""
    file = files.get(frame["file"])
    known = file is not None and 0 <= file["source"] < len(roots)
    path = _location(roots[file["source"]], file["path"]) if file is not None and known else ""
    tile = -1 if frame["tile"] is None else frame["tile"]
    cell = (frame["t"] or 0, frame["c"] or 0, frame["z"] or 0)
    return Slice(cell, path, frame["frame"] or 0, tile)


def _location(root: str, path: str) -> str:
    """Return where a file is; what is inside an archive is looked up there, and is no path."""
    from fastdcm.scan.location import decode_path

    file, mark, member = decode_path(path).partition("\0")
    return str(Path(root) / inside(file)) + mark + member


def _is_there(one: Slice) -> bool:
    from fastdcm.scan.location import place_of

    return bool(one.path) and Path(place_of(one.path).path).is_file()


def _sampled(rows: Sequence[Json], sample: int | None) -> dict[str, frozenset[tuple[int, int, int]]] | None:
    """Choose slices evenly over the whole store; the same ones for the same store."""
    counts = [(row["timepoints"] or 1) * (row["channels"] or 1) * (row["slices"] or 1) for row in rows]
    if sample is None or sample >= sum(counts):
        return None
    numbers = sorted(random.Random(0).sample(range(sum(counts)), sample))
    chosen: dict[str, set[tuple[int, int, int]]] = defaultdict(set)
    ends = np.cumsum(counts)
    for number in numbers:
        place = int(np.searchsorted(ends, number, side="right"))
        row = rows[place]
        shape = (row["timepoints"] or 1, row["channels"] or 1, row["slices"] or 1)
        t, c, z = np.unravel_index(number - int(ends[place]) + counts[place], shape)
        chosen[row["volume"]].add((int(t), int(c), int(z)))
    return {name: frozenset(cells) for name, cells in chosen.items()}


def _check_tables(store: Store) -> Findings:
    """Every row has its volume, every volume its row, and all tables are of the root's generation."""
    import pyarrow.parquet

    found = []
    names = set(store.table["volume"].to_pylist())
    there = set(published_volumes(store.place))
    found += [
        Mismatch(name, "tables", None, "is in the catalogue and not in the store") for name in sorted(names - there)
    ]
    found += [
        Mismatch(name, "tables", None, "is in the store and not in the catalogue") for name in sorted(there - names)
    ]
    generation = (store.attributes.get("fastdcm") or {}).get("generation")
    for name in ("catalog", "files", "frames", "references"):
        path = store.place / f"{name}.parquet"
        if not path.exists():
            continue
        try:
            metadata = pyarrow.parquet.read_schema(table_file(path)).metadata or {}
        except (OSError, ValueError) as error:
            found.append(Mismatch("", "tables", None, f"{name}.parquet cannot be read: {error}"))
            continue
        own = metadata.get(b"generation", b"").decode()
        if own != str(generation):
            found.append(
                Mismatch("", "tables", None, f"{name}.parquet is of generation {own}, the root of {generation}")
            )
    return Findings(mismatches=tuple(found))


# ---------------------------------------------------------------------------- one volume


class _Layout(NamedTuple):
    """How the array's axes are the cells (t, c, z): samples and colour are inside a cell."""

    shape: tuple[int, int, int]
    has_t: bool
    has_c: bool
    samples: bool


def _check_volume(task: Task) -> Findings:
    """Check one volume; anything that reading it throws is a finding."""
    folder = place_of(task.root) / inside(task.volume)
    if not (folder / "zarr.json").exists():
        return Findings()  # said by the tables already
    volume = Volume(folder)
    try:
        layout = _layout(volume)
        faults = [*_check_row(task, volume), *_check_shards(task, volume)]
    except Exception as error:  # noqa: BLE001 - whatever a broken document makes a reader raise is what we look for
        return Findings(mismatches=(Mismatch(task.volume, "read", None, f"cannot be opened: {error!r}"),))
    cells = frozenset(np.ndindex(layout.shape))
    if task.wanted is not None:  # the catalogue counts colour as channels, cells do not
        cells &= {(t, min(c, layout.shape[1] - 1), z) for t, c, z in task.wanted}
    found = Findings(mismatches=tuple(faults))
    sources = {one.cell: one for one in task.slices}
    for block in _blocks(volume, layout, cells):
        found |= _check_block(task, volume, layout, block, sources)
    return found


def _layout(volume: Volume) -> _Layout:
    size = dict(zip(volume.axes, volume.shape, strict=True))
    samples = (volume.dims.get("c") or {}).get("role") in ("colour", "sample")
    shape = (size.get("t", 1), 1 if samples else size.get("c", 1), size["z"])
    return _Layout(shape, "t" in size, "c" in size, samples)


def _blocks(
    volume: Volume, layout: _Layout, cells: frozenset[tuple[int, int, int]]
) -> Iterator[list[tuple[int, int, int]]]:
    """Yield cells that are read together: of one (t, c) and of whole z-chunks, as many as fit a block."""
    depth = volume.array.chunks[volume.axes.index("z")]
    cell_bytes = max(volume.array.nbytes // max(math.prod(layout.shape), 1), 1)
    run = depth * max(BLOCK_BYTES // (depth * cell_bytes), 1)
    groups: dict[tuple[int, int, int], list[tuple[int, int, int]]] = defaultdict(list)
    for t, c, z in sorted(cells):
        groups[t, c, z // run].append((t, c, z))
    yield from groups.values()


def _check_block(
    task: Task,
    volume: Volume,
    layout: _Layout,
    cells: Sequence[tuple[int, int, int]],
    sources: Mapping[tuple[int, int, int], Slice],
) -> Findings:
    first, last = cells[0][2], cells[-1][2] + 1
    t, c, _ = cells[0]
    index: list[slice | int] = [t] if layout.has_t else []
    if layout.has_c:
        index.append(slice(None) if layout.samples else c)
    try:
        block = np.asarray(volume.array[(*index, slice(first, last))])
    except Exception as error:  # noqa: BLE001 - a codec may raise anything for damaged bytes
        return Findings(mismatches=(Mismatch(task.volume, "read", cells[0], f"cannot be read: {error!r}"),))
    stack = np.moveaxis(block, 1, 0) if layout.samples else block  # z first, then samples, y, x
    found = Findings()
    files: dict[str, SourceFile | None] = {}
    for cell in cells:
        values = np.ascontiguousarray(stack[cell[2] - first])
        found |= _check_hash(task, volume, layout, cell, values)
        if cell in sources:
            found |= _check_source(task, volume, layout, sources[cell], values, files)
    return found


def _check_hash(task: Task, volume: Volume, layout: _Layout, cell: tuple[int, int, int], values: Array) -> Findings:
    import xxhash

    recorded = (volume.attributes["fastdcm"].get("source") or {}).get("pixel_hash") or ()
    number = int(np.ravel_multi_index(cell, layout.shape))
    if number >= len(recorded):
        return Findings(mismatches=(Mismatch(task.volume, "hash", cell, "no hash is recorded for it"),))
    if recorded[number] is None:  # an absent slice
        fill = np.asarray(volume.array.fill_value).astype(values.dtype)
        if np.array_equal(values, np.broadcast_to(fill, values.shape), equal_nan=values.dtype.kind == "f"):
            return Findings()
        return Findings(mismatches=(Mismatch(task.volume, "fill", cell, f"is absent and does not hold {fill}"),))
    found = xxhash.xxh3_128_hexdigest(values.astype(values.dtype.newbyteorder("<"), copy=False).data)
    if found == recorded[number]:
        return Findings(hashed=1)
    text = f"its values have the hash {found}, written was {recorded[number]}"
    return Findings(hashed=1, mismatches=(Mismatch(task.volume, "hash", cell, text),))


def _check_source(
    task: Task,
    volume: Volume,
    layout: _Layout,
    one: Slice,
    values: Array,
    files: dict[str, SourceFile | None],
) -> Findings:
    """Compare one slice with its source: values, and the law affine(k) == ImagePositionPatient."""
    if one.path not in files:
        files.clear()  # slices of one file follow each other, and a file may be large
        files[one.path] = open_source(one.path)
    source = files[one.path]
    if source is None:
        return Findings(absent=1)
    placed = _check_place(task, volume, layout, one, source)
    expected = source.values(one, values.shape, volume.attributes["fastdcm"].get("intensity") or {})
    if expected is None:
        return placed | Findings(undecodable=1)
    message = expected.difference(values)
    if message is None:
        return placed | Findings(decoded=1)
    return placed | Findings(decoded=1, mismatches=(Mismatch(task.volume, "pixels", one.cell, message),))


def _check_place(task: Task, volume: Volume, layout: _Layout, one: Slice, source: SourceFile) -> Findings:
    geometry = volume.attributes["fastdcm"].get("geometry") or {}
    place = source.place(one)
    if place is None or not geometry.get("has_position"):
        return Findings()
    found = []
    affine = geometry.get("affine")
    if affine is not None:
        matrix = np.array(affine, dtype=np.float64)
        here, allowed = (matrix @ [0, 0, one.cell[2], 1])[:3], float(geometry.get("max_residual_mm", 0.0))
        if allowed > max(RESIDUAL_MM, 0.02 * float(np.linalg.norm(matrix[:3, 2]))):
            found.append(("position", f"the volume calls itself uniform with a residual of {allowed:.3f} mm"))
        axes = matrix[:3, :2] / np.linalg.norm(matrix[:3, :2], axis=0)
        if place.axes is not None and np.abs(axes - place.axes).max() > COSINE:
            found.append(
                ("direction", f"rows and columns run along {axes.T.tolist()}, in the file {place.axes.T.tolist()}")
            )
    else:
        positions = volume.slices.get("position") or []
        number = int(np.ravel_multi_index(one.cell, layout.shape))
        stated = positions[number] if number < len(positions) else None
        here, allowed = np.array(stated if stated is not None else [math.nan] * 3, dtype=np.float64), 0.0
    distance = float(np.linalg.norm(here - place.position))
    if not distance <= allowed + POSITION_MM:
        found.append(
            ("position", f"is at {here.tolist()}, {distance:.3f} mm from {place.position.tolist()} in the file")
        )
    spacing = np.array(volume.spacing[:2])
    own = place.spacing if geometry.get("spacing_kind", "patient") == "patient" else None
    if own is not None and np.abs(spacing / own - 1).max() > SPACING_RELATIVE:
        found.append(("spacing", f"dx, dy are {spacing.tolist()}, in the file {own.tolist()}"))
    return Findings(placed=1, mismatches=tuple(Mismatch(task.volume, check, one.cell, text) for check, text in found))


def _check_row(task: Task, volume: Volume) -> Iterator[Mismatch]:
    """Compare the catalogue's row with the volume itself."""
    shape = "x".join(map(str, volume.shape))
    size = dict(zip(volume.axes, volume.shape, strict=True))
    spacing = volume.spacing
    pairs = {
        "dtype": str(volume.dtype),
        "shape": shape,
        "slices": size["z"],
        "rows": size["y"],
        "columns": size["x"],
        "timepoints": size.get("t", 1),
        "channels": size.get("c", 1),
        "spacing_x": spacing[0],
        "spacing_y": spacing[1],
        "spacing_z": spacing[2],
    }
    for name, value in pairs.items():
        stated = task.row.get(name)
        if stated is not None and stated != value:
            yield Mismatch(task.volume, "shape", None, f"its {name} is {value}, in the catalogue {stated}")
    if len(volume.axes) != len(volume.shape):
        yield Mismatch(task.volume, "shape", None, f"has the axes {volume.axes} and the shape {shape}")


def _check_shards(task: Task, volume: Volume) -> Iterator[Mismatch]:
    """Every shard must be there: one that is lost reads back as fill, without an error."""
    for place in lost_shards(volume):
        yield Mismatch(task.volume, "shard", None, f"the shard {place} is lost")
