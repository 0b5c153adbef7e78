"""The tables of a store against each other, against the volumes that are there, and against their hashes."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress

import numpy as np

from fastdcm.load.catalog import inside
from fastdcm.load.volume import Store
from fastdcm.model import Json
from fastdcm.places import Place, published_volumes, table_file
from fastdcm.run.findings import Mismatch
from fastdcm.run.manifest import ROWS_AT_A_TIME

TABLES = ("catalog", "files", "frames", "references")


def is_changed(store: Store) -> bool:
    """Tell whether the volumes are others than those of the last run; False where its report does not tell."""
    stated = (_report(store.place).get("hashes") or {}).get("volumes")
    return stated is not None and stated != _volumes_hash(store)


def _volumes_hash(store: Store) -> str:
    """Return one hash of the paths and digests of all volumes."""
    import pyarrow.compute as pc

    names = store.table["volume"]
    digest = hashlib.sha256()
    for name in names.take(pc.sort_indices(names)).to_pylist():
        try:
            document = json.loads((store.place / inside(name) / "zarr.json").read_bytes())
            own = document["attributes"]["fastdcm"]["source"]["digest"]
        except (OSError, ValueError, KeyError, TypeError):
            own = None
        digest.update(f"{name} {own}\n".encode())
    return digest.hexdigest()[:32]


def check_tables(store: Store, *, changed: bool) -> Iterator[Mismatch]:
    """Yield what is wrong with the tables, in bounded memory; a table that was left out is no fault.

    ``changed`` says that volumes are not those of the last run, and that nobody knows which.
    """
    report = _report(store.place)
    found = list(_check_volumes(store))
    if changed and not found:
        found.append(("", "a volume is not the one that the last run published: another was put in its place"))
    found += [
        *_check_generations(store, report),
        *_check_hashes(store.place, report),
        *_check_files(store.place, report),
    ]
    with suppress(OSError, ValueError, KeyError):  # it is not there, or cannot be read: said above
        found += _check_frames(store)
    yield from (Mismatch(volume, "tables", None, text) for volume, text in found)


def _report(place: Place) -> Json:
    try:
        document = json.loads((place / "report.json").read_bytes())
    except (OSError, ValueError):
        return {}
    return document if isinstance(document, dict) else {}


def _check_volumes(store: Store) -> Iterator[tuple[str, str]]:
    """Every row has its volume, and every volume its row."""
    listed = store.table["volume"].to_pylist()
    names, there = set(listed), set(published_volumes(store.place))
    yield from ((name, "is in the catalogue and not in the store") for name in sorted(names - there))
    yield from ((name, "is in the store and not in the catalogue") for name in sorted(there - names))
    yield from ((name, "is in the catalogue more than once") for name, count in Counter(listed).items() if count > 1)


def _check_generations(store: Store, report: Json) -> Iterator[tuple[str, str]]:
    """All tables are of the root's generation."""
    import pyarrow.parquet

    generation = (store.attributes.get("fastdcm") or {}).get("generation")
    for name in TABLES:
        path = store.place / f"{name}.parquet"
        if not path.exists():
            continue
        try:
            metadata = pyarrow.parquet.read_schema(table_file(path)).metadata or {}
        except (OSError, ValueError) as error:
            yield "", f"{name}.parquet cannot be read: {error}"
            continue
        own = metadata.get(b"generation", b"").decode()
        if own != str(generation):
            yield "", f"{name}.parquet is of generation {own}, the root of {generation}; run the conversion again"
    if "generation" in report and report["generation"] != generation:
        yield "", f"report.json is of generation {report['generation']}, the root of {generation}"


def _check_hashes(place: Place, report: Json) -> Iterator[tuple[str, str]]:
    """Every table has the bytes that were written; stores of earlier versions have no hashes."""
    hashes = report.get("hashes") or {}
    for name in TABLES:
        path = place / f"{name}.parquet"
        if name in hashes and path.exists() and (own := _hash_of(path)) != hashes[name]:
            yield "", f"{name}.parquet was changed after it was written: its hash is {own}, written was {hashes[name]}"


def _hash_of(path: Place) -> str:
    from xxhash import xxh3_128

    digest = xxh3_128()
    opened = table_file(path)
    with opened.open("rb") if not hasattr(opened, "read") else opened as file:
        while data := file.read(1 << 20):
            digest.update(data)
    return digest.hexdigest()


def _check_files(place: Place, report: Json) -> Iterator[tuple[str, str]]:
    """Law 1: files are numbered without a hole, and their outcomes are those of the report."""
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(table_file(place / "files.parquet")) as file:
            if not {"file", "outcome"} <= set(file.schema_arrow.names):
                return
            counts: Counter[str] = Counter()
            first, holes = 0, False
            for batch in file.iter_batches(ROWS_AT_A_TIME, columns=["file", "outcome"]):
                holes |= batch.column(0).to_pylist() != list(range(first, first + batch.num_rows))
                counts.update(batch.column(1).to_pylist())
                first += batch.num_rows
    except (OSError, ValueError):
        return  # said by the generations where it is there
    if holes:
        yield "", f"files.parquet has {first} rows that are not numbered from 0 to {first - 1}: a row is lost or moved"
    totals = report.get("totals") or {}
    stated = totals.get("outcomes") or {}
    for outcome in sorted({*stated, *counts} if stated else ()):
        if counts[outcome] != stated.get(outcome, 0):
            yield "", f"files.parquet has {counts[outcome]} files {outcome}, the report {stated.get(outcome, 0)}"
    if "files" in totals and totals["files"] != first:
        yield "", f"files.parquet has {first} rows, the report {totals['files']} files"


def _check_frames(store: Store) -> Iterator[tuple[str, str]]:
    """Check that a file is converted where frames come from it, and frames are of volumes that are there."""
    import pyarrow.parquet

    with pyarrow.parquet.ParquetFile(table_file(store.place / "files.parquet")) as file:
        rows = file.metadata.num_rows
        converted, used = np.zeros(rows, np.bool_), np.zeros(rows, np.bool_)
        for batch in file.iter_batches(ROWS_AT_A_TIME, columns=["file", "outcome"]):
            numbers = batch["file"].to_numpy(zero_copy_only=False)
            chosen = batch["outcome"].to_numpy(zero_copy_only=False) == "converted"
            converted[numbers[chosen & (numbers >= 0) & (numbers < rows)]] = True
    names: set[str] = set()
    beyond = 0
    with pyarrow.parquet.ParquetFile(table_file(store.place / "frames.parquet")) as file:
        for batch in file.iter_batches(ROWS_AT_A_TIME, columns=["volume", "file"]):
            names.update(batch["volume"].unique().to_pylist())
            numbers = batch["file"].drop_null().to_numpy(zero_copy_only=False)
            inside = (numbers >= 0) & (numbers < rows)
            used[numbers[inside]] = True
            beyond += int((~inside).sum())
    known = set(store.table["volume"].to_pylist())
    yield from ((name, "has rows in frames.parquet and is not in the catalogue") for name in sorted(names - known))
    yield from ((name, "is in the catalogue and has no row in frames.parquet") for name in sorted(known - names))
    for wrong, text in (
        (used & ~converted, "is not converted in files.parquet, and frames come from it"),
        (converted & ~used, "is converted in files.parquet, and no frame comes from it"),
    ):
        yield from (("", f"file {number} {text}") for number in np.flatnonzero(wrong).tolist())
    if beyond:
        yield "", f"{beyond} rows of frames.parquet name files that files.parquet does not have"
