"""The tables of a store and its report (store-format.md): all derived, all of one generation, the root last."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fastdcm.model import Index, Json
from fastdcm.objects import put_file
from fastdcm.places import Place, Url
from fastdcm.run.ledger import Outcomes
from fastdcm.run.records import Record, StoredColumns
from fastdcm.store.commit import sync_path

if TYPE_CHECKING:
    import pyarrow as pa


ROWS_AT_A_TIME = 1 << 16
"""Rows of a table that are turned into plain columns at once, to be written or hashed."""
RECORDS_AT_A_TIME = 1 << 10


class VolumeFrames(NamedTuple):
    """One published volume, and where its frames come from."""

    record: Record
    files: npt.NDArray[np.int32] | None
    """(n,) numbers in files.parquet; None where the sources are gone."""


def files_table(index: Index, outcomes: Outcomes) -> pa.Table:
    """Return files.parquet: one row an input file, numbered in the order (source, path bytes)."""
    import pyarrow as pa

    from fastdcm.scan.arrow import number_array

    instances = index.instances

    def numbers(name: str, kind: pa.DataType) -> pa.ChunkedArray:
        return instances[name].cast(kind)

    return pa.table(
        {
            "file": number_array(np.arange(instances.num_rows)),
            "source": numbers("source", pa.int32()),
            "path": instances["path"],
            "size": numbers("size", pa.int64()),
            "mtime": numbers("mtime_ns", pa.int64()).cast(pa.timestamp("ns", "UTC")),
            **outcomes._asdict(),
            **{name: instances[name] for name in ("sop_class_uid", "sop_instance_uid", "series_uid")},
        }
    )


def catalog_of(records: Sequence[Record]) -> pa.Table:
    """Return catalog.parquet: the rows of the records."""
    import pyarrow as pa

    from fastdcm.series.catalog import catalog_table

    parts = (records[start : start + RECORDS_AT_A_TIME] for start in range(0, len(records), RECORDS_AT_A_TIME))
    return pa.concat_tables([catalog_table([]), *(catalog_table([one.read()[0] for one in part]) for part in parts)])


def frames_table(volumes: Iterable[VolumeFrames]) -> pa.Table:
    """Return frames.parquet: one row a stored frame, by volume path, t, c and z."""
    import pyarrow as pa

    ordered = sorted(volumes, key=lambda item: item.record.path)
    starts = range(0, len(ordered), RECORDS_AT_A_TIME)
    parts = [_frames_part(ordered[start : start + RECORDS_AT_A_TIME], start) for start in starts]
    table = pa.concat_tables([_frames_part([], 0), *parts])
    paths = pa.array([volume.record.path for volume in ordered], pa.string())
    chunks = [pa.DictionaryArray.from_arrays(chunk, paths) for chunk in table["volume"].chunks]
    return table.set_column(0, "volume", pa.chunked_array(chunks, pa.dictionary(pa.int32(), pa.string())))


def _frames_part(volumes: Sequence[VolumeFrames], first: int) -> pa.Table:
    """Return the rows of some volumes; ``volume`` numbers them from ``first``."""
    import pyarrow as pa

    from fastdcm.scan.arrow import number_array

    columns: dict[str, list[Any]] = {name: [] for name in StoredColumns._fields}
    counts: list[int] = []
    files: list[int | None] = []
    for volume in volumes:
        frames = volume.record.read()[1]
        for name, values in frames._asdict().items():
            columns[name] += values
        counts.append(len(frames.t))
        files += [None] * len(frames.t) if volume.files is None else volume.files.tolist()
    numbers = np.repeat(np.arange(first, first + len(counts), dtype=np.int32), np.asarray(counts, np.int64))
    return pa.table(
        {
            "volume": number_array(numbers),
            "t": pa.array(columns["t"], pa.int32()),
            "c": pa.array(columns["c"], pa.int32()),
            "z": pa.array(columns["z"], pa.int32()),
            "file": pa.array(files, pa.int64()),
            "frame": pa.array(columns["frame"], pa.int32()),
            "tile": pa.array(columns["tile"], pa.int32()),
            "sop_instance_uid": pa.array(columns["sop_instance_uid"], pa.string()),
        }
    )


def _plain_schema(table: pa.Table) -> pa.Schema:
    """Return the schema as the store has it: texts, not codes of texts."""
    import pyarrow as pa

    plain = [pa.string() if pa.types.is_dictionary(field.type) else field.type for field in table.schema]
    return pa.schema(list(zip(table.schema.names, plain, strict=True)))


def _plain_parts(table: pa.Table) -> Iterator[pa.Table]:
    """Yield the rows as the store has them, so many at a time."""
    from fastdcm.scan.arrow import number_array

    schema = _plain_schema(table)
    for start in range(0, max(table.num_rows, 1), ROWS_AT_A_TIME):
        part = table.slice(start, ROWS_AT_A_TIME).cast(schema).combine_chunks()
        yield part.take(number_array(np.arange(part.num_rows)))  # fresh: what lies under nulls has no say


def volumes_hash(records: Iterable[Record]) -> str:
    """Return one hash of the paths and digests of all volumes: which volumes, made of what, the store holds."""
    digest = hashlib.sha256()
    for record in sorted(records, key=lambda record: record.path):
        digest.update(f"{record.path} {record.digest}\n".encode())
    return digest.hexdigest()[:32]


def generation_of(tables: Mapping[str, pa.Table], volumes: str = "") -> str:
    """Return the name of this content: equal tables (and ``volumes_hash``) have equal generations."""
    import pyarrow as pa

    digest = hashlib.sha256(volumes.encode())
    for name, table in sorted(tables.items()):
        digest.update(name.encode())
        with _Hashing(digest) as sink, pa.ipc.new_stream(sink, _plain_schema(table)) as stream:
            for part in _plain_parts(table):
                stream.write_table(part)
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


def write_tables(dest: Place, tables: Mapping[str, pa.Table], report: Json, root: bytes, generation: str) -> None:
    """Write ``<name>.parquet``, ``report.json`` and, last, the root ``zarr.json``: each complete or not at all.

    Raises
    ------
    OSError, TargetError
        The target failed.
    """
    if isinstance(dest, Url):
        import tempfile

        with tempfile.TemporaryDirectory(prefix="fastdcm-tables-") as folder:
            for partial, final in _write_partials(Path(folder), tables, report, root, generation):
                put_file(str(dest / final.name), partial)
        return
    partials = _write_partials(dest, tables, report, root, generation)
    for partial, _ in partials:
        sync_path(partial)
    for partial, final in partials[:-1]:
        partial.replace(final)
    sync_path(dest)
    partials[-1][0].replace(partials[-1][1])
    sync_path(dest)


def _write_partials(
    dest: Path, tables: Mapping[str, pa.Table], report: Json, root: bytes, generation: str
) -> list[tuple[Path, Path]]:
    """Write the files under temporary names; return these and the final ones, the root last."""
    import pyarrow.parquet

    partials: list[tuple[Path, Path]] = []
    for name, table in tables.items():
        partial = dest / f".{name}.parquet.partial"
        marked = _plain_schema(table).with_metadata({b"generation": generation.encode()})
        with pyarrow.parquet.ParquetWriter(partial, marked, compression="zstd") as writer:
            for part in _plain_parts(table):
                writer.write_table(part.replace_schema_metadata(marked.metadata), ROWS_AT_A_TIME)
        partials.append((partial, dest / f"{name}.parquet"))
    hashes = {name: _file_hash(partial) for name, (partial, _) in zip(tables, partials, strict=True)}
    report = {**report, "hashes": {**report.get("hashes", {}), **hashes}}
    text = json.dumps(report, ensure_ascii=False, allow_nan=False, indent=1) + "\n"
    for name, data in (("report.json", text.encode("utf-8", "replace")), ("zarr.json", root)):
        partial = dest / f".{name}.partial"
        partial.write_bytes(data)
        partials.append((partial, dest / name))
    return partials


def _file_hash(path: Path) -> str:
    """Return the xxh3-128 of a file's bytes: what ``verify`` compares."""
    from xxhash import xxh3_128

    digest = xxh3_128()
    with open(path, "rb") as file:
        while data := file.read(1 << 20):
            digest.update(data)
    return digest.hexdigest()


def is_written(dest: Place, tables: Mapping[str, pa.Table], root: bytes) -> bool:
    """Tell whether the store holds these tables already: the root names their generation, and is written last."""
    try:
        same = (dest / "zarr.json").read_bytes() == root
    except OSError:
        return False
    return same and all((dest / f"{name}.parquet").is_file() for name in tables) and (dest / "report.json").is_file()
