"""The tables of a store and its report (store-format.md): all derived, all of one generation, the root last."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from fastdcm.model import Index, Ints, Json
from fastdcm.run.ledger import Claim
from fastdcm.run.records import StoredFrame
from fastdcm.store.commit import sync_path

if TYPE_CHECKING:
    import pyarrow as pa


class VolumeFrames(NamedTuple):
    """The frames of one volume and where they come from."""

    path: str
    frames: Sequence[StoredFrame]
    files: Ints | None
    """(n,) numbers in files.parquet; None where the sources are gone."""


def files_table(index: Index, claims: Sequence[Claim]) -> pa.Table:
    """Return files.parquet: one row an input file, numbered in the order (source, path bytes)."""
    import pyarrow as pa

    instances = index.instances
    n = instances.num_rows

    def plain(name: str, kind: pa.DataType) -> pa.Array:
        return instances[name].cast(kind).combine_chunks()

    return pa.table(
        {
            "file": pa.array(range(n), pa.int64()),
            "source": plain("source", pa.int32()),
            "path": plain("path", pa.string()),
            "size": plain("size", pa.int64()),
            "mtime": plain("mtime_ns", pa.int64()).cast(pa.timestamp("ns", "UTC")),
            "outcome": pa.array([str(claim.outcome) for claim in claims], pa.string()),
            "code": pa.array([claim.code and str(claim.code) for claim in claims], pa.string()),
            "message": pa.array([claim.message for claim in claims], pa.string()),
            "sop_class_uid": plain("sop_class_uid", pa.string()),
            "sop_instance_uid": plain("sop_instance_uid", pa.string()),
            "series_uid": plain("series_uid", pa.string()),
        }
    )


def frames_table(volumes: Iterable[VolumeFrames]) -> pa.Table:
    """Return frames.parquet: one row a stored frame, by volume path, t, c and z."""
    import pyarrow as pa

    paths: list[str] = []
    frames: list[StoredFrame] = []
    files: list[int | None] = []
    for volume in sorted(volumes, key=lambda item: item.path):
        paths += [volume.path] * len(volume.frames)
        frames += volume.frames
        files += [None] * len(volume.frames) if volume.files is None else volume.files.tolist()
    t, c, z, uids, numbers, tiles = zip(*frames, strict=True) if frames else [()] * len(StoredFrame._fields)
    return pa.table(
        {
            "volume": pa.array(paths, pa.string()),
            "t": pa.array(t, pa.int32()),
            "c": pa.array(c, pa.int32()),
            "z": pa.array(z, pa.int32()),
            "file": pa.array(files, pa.int64()),
            "frame": pa.array(numbers, pa.int32()),
            "tile": pa.array(tiles, pa.int32()),
            "sop_instance_uid": pa.array(uids, pa.string()),
        }
    )


def generation_of(tables: Mapping[str, pa.Table]) -> str:
    """Return the name of this content: equal tables have equal generations, and nothing need be written."""
    import pyarrow as pa

    digest = hashlib.sha256()
    for name, table in sorted(tables.items()):
        digest.update(name.encode())
        with _Hashing(digest) as sink, pa.ipc.new_stream(sink, table.schema) as stream:
            stream.write_table(table.combine_chunks())
    return digest.hexdigest()[:16]


class _Hashing:
    """A file that keeps the hash of what is written to it."""

    def __init__(self, digest: hashlib._Hash) -> None:
        self._digest = digest
        self.closed = False

    def write(self, data: bytes) -> int:
        """Take bytes."""
        self._digest.update(data)
        return len(data)

    def flush(self) -> None:
        """Do nothing: all is taken at once."""

    def close(self) -> None:
        """End."""
        self.closed = True

    def __enter__(self) -> _Hashing:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def write_tables(dest: Path, tables: Mapping[str, pa.Table], report: Json, root: bytes, generation: str) -> None:
    """Write ``<name>.parquet``, ``report.json`` and, last, the root ``zarr.json``: each complete or not at all.

    Raises
    ------
    OSError
        The target failed.
    """
    import pyarrow.parquet

    partials: list[tuple[Path, Path]] = []
    for name, table in tables.items():
        partial = dest / f".{name}.parquet.partial"
        marked = table.replace_schema_metadata({**(table.schema.metadata or {}), b"generation": generation.encode()})
        pyarrow.parquet.write_table(marked, partial, compression="zstd")
        partials.append((partial, dest / f"{name}.parquet"))
    text = json.dumps(report, ensure_ascii=False, allow_nan=False, indent=1) + "\n"
    for name, data in (("report.json", text.encode("utf-8", "replace")), ("zarr.json", root)):
        partial = dest / f".{name}.partial"
        partial.write_bytes(data)
        partials.append((partial, dest / name))
    for partial, _ in partials:
        sync_path(partial)
    for partial, final in partials[:-1]:
        partial.replace(final)
    sync_path(dest)
    partials[-1][0].replace(partials[-1][1])
    sync_path(dest)


def is_written(dest: Path, tables: Mapping[str, pa.Table], root: bytes) -> bool:
    """Tell whether the store holds these tables already: the root names their generation, and is written last."""
    try:
        same = (dest / "zarr.json").read_bytes() == root
    except OSError:
        return False
    return same and all((dest / f"{name}.parquet").is_file() for name in tables) and (dest / "report.json").is_file()
