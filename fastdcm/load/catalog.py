"""The catalogue of a store, and of a scan, as a Parquet file."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from fastdcm.errors import TargetError, UsageError
from fastdcm.places import Place, table_file

if TYPE_CHECKING:
    import pyarrow as pa


REFERENCE_COLUMNS = (
    "file",
    "class",
    "modality",
    "study_uid",
    "series_uid",
    "sop_instance_uid",
    "relation",
    "referenced_study_uid",
    "referenced_series_uid",
    "referenced_frame_of_reference_uid",
    "referenced_instances",
    "volume",
)
"""Of references.parquet: an object, what it refers to, and the volume that holds it (docs/store.md)."""


def references_schema() -> pa.Schema:
    """Return the schema of references.parquet: texts, but for the number of a file and of instances."""
    import pyarrow as pa

    numbers = {"file": pa.int64(), "referenced_instances": pa.int32()}
    return pa.schema([(name, numbers.get(name, pa.string())) for name in REFERENCE_COLUMNS])


def read_catalog(folder: Place, ours: Mapping[str, Any]) -> pa.Table:
    """Read the catalogue, and say so when it is of another generation than the root."""
    import pyarrow.parquet

    path = folder / inside(str(ours["catalog"]))
    try:
        table = pyarrow.parquet.read_table(table_file(path), memory_map=False)
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} cannot be read: {error}; running the conversion again rebuilds it") from None
    generation = (table.schema.metadata or {}).get(b"generation")
    if "generation" in ours and generation is not None and generation.decode() != str(ours["generation"]):
        warnings.warn(
            f"{folder}: the catalogue is of generation {generation.decode()}, the root of {ours['generation']}: "
            "a conversion is being finished right now, or was stopped; run it again",
            stacklevel=4,
        )
    return table


def read_references(folder: Place, *, volume: str | None = None) -> pa.Table:
    """Read what objects refer to, or what refers to one volume; no rows where there is no table."""
    import pyarrow.parquet

    path = folder / "references.parquet"
    if not path.is_file():  # of a store before this table, or left out
        return references_schema().empty_table()
    try:
        chosen = None if volume is None else [("volume", "=", volume)]
        return pyarrow.parquet.read_table(table_file(path), memory_map=False, filters=chosen)
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} cannot be read: {error}; running the conversion again rebuilds it") from None


def write_catalog(table: pa.Table, path: str | Path) -> None:
    """Write a catalogue (``scan --out map.parquet``). Raises TargetError where the file cannot be written."""
    import pyarrow.parquet

    try:
        pyarrow.parquet.write_table(table, Path(path), compression="zstd")
    except OSError as error:
        raise TargetError(f"{path} cannot be written: {error}") from error


def inside(name: str) -> PurePosixPath:
    """Return a relative path from a store's own tables, refusing any that leads out of the store."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or not path.parts:
        raise UsageError(f"the store names {name!r}, which is not inside it")
    return path
