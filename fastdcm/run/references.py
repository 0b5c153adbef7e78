"""The table of references: which objects are about which series and volumes (``references.parquet``)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fastdcm.load.catalog import references_schema
from fastdcm.model import Index, Json
from fastdcm.scan.references import Reference, class_name, file_path, read_references, referring_files
from fastdcm.series.names import safe_uid

if TYPE_CHECKING:
    import pyarrow as pa

    from fastdcm.run.execute import Engine

FILES_AT_A_TIME = 64
"""Objects of one task; a report takes about a millisecond."""
Holders = Callable[[Collection[str]], Mapping[str, Sequence[str]]]
"""Which volumes hold some SOP Instance UIDs: paths in the store."""


class _Place(NamedTuple):
    """Where an image of the export is."""

    study_uid: str | None
    series_uid: str | None
    frame_of_reference_uid: str | None


def references_table(index: Index, holders: Holders, engine: Engine | None = None) -> pa.Table:
    """Read what all objects of an export refer to, and find it.

    Parameters
    ----------
    index : Index
        Of all files: an object may refer to any of them.
    holders : callable
        Which volumes hold some images.
    engine : Engine, optional
        Reads the files in parallel; without it they are read one after the other.

    Returns
    -------
    pyarrow.Table
        One row for each object, series that it refers to, and volume of that series; a row without a series for an
        object that refers to nothing. Columns as in docs/store.md.
    """
    import pyarrow as pa

    objects = referring_files(index).to_pylist()
    found = _read_all(index, objects, engine)
    images = _images(index, found) if any(found) else {}
    links = [_links(one, said, images) for one, said in zip(objects, found, strict=True)]
    wanted = {uid for own in links for uids in own.values() for uid in uids}
    volumes = holders(wanted) if wanted else {}
    rows = [row for one, own in zip(objects, links, strict=True) for row in _rows(one, own, volumes)]
    return pa.Table.from_pylist(rows, references_schema())


# ---------------------------------------------------------------------------- reading


def _read_all(index: Index, objects: Sequence[Json], engine: Engine | None) -> list[tuple[Reference, ...]]:
    """Return what each object refers to; what crashed a worker refers to nothing."""
    from fastdcm.run.execute import map_tasks

    paths = [file_path(index, one["source"], one["path"]) for one in objects]
    if engine is None:
        return _read_some((0, paths))
    starts = range(0, len(paths), FILES_AT_A_TIME)
    tasks = ((start, paths[start : start + FILES_AT_A_TIME]) for start in starts)
    found: list[tuple[Reference, ...]] = [()] * len(paths)
    for (start, some), result in map_tasks(_read_some, tasks, engine):
        if not isinstance(result, Exception):
            found[start : start + len(some)] = result
    return found


def _read_some(task: tuple[int, list[str]]) -> list[tuple[Reference, ...]]:
    return [read_references(path) for path in task[1]]


# ---------------------------------------------------------------------------- finding


_SEARCHED = ("sop_instance_uid", "series_uid", "frame_of_reference_uid")
_IMAGE = ("patient_id", "study_uid", "series_uid", "frame_of_reference_uid", "sop_instance_uid")


def _images(index: Index, found: Sequence[Sequence[Reference]]) -> Mapping[tuple[str, str], list[Json]]:
    """Return the files that are referred to, by instance, by series or by the space they lie in: (column, UID)."""
    import pyarrow as pa
    import pyarrow.compute as pc

    keys = {_key(one) for own in found for one in own} - {None}
    files = index.instances
    images: dict[tuple[str, str], list[Json]] = defaultdict(list)
    for column in _SEARCHED:
        uids = sorted(uid for name, uid in filter(None, keys) if name == column)
        if not uids:
            continue
        rows = np.flatnonzero(pc.is_in(files[column], pa.array(uids, pa.string())).to_numpy())
        for image in files.select(_IMAGE).take(rows).to_pylist():
            images[column, image[column]].append(image)
    return images


def _key(said: Reference) -> tuple[str, str] | None:
    """Return the most exact that a reference says."""
    values = (said.sop_instance_uid, said.series_uid, said.frame_of_reference_uid)
    return next(((name, uid) for name, uid in zip(_SEARCHED, values, strict=True) if uid), None)


Links = Mapping[tuple[str, _Place], Mapping[str, None]]
"""By relation and referenced series: the SOP Instance UIDs."""


def _links(one: Json, said: Sequence[Reference], images: Mapping[tuple[str, str], list[Json]]) -> Links:
    """Return which images an object means, by series. What is not in the export stands as the object names it."""
    links: dict[tuple[str, _Place], dict[str, None]] = defaultdict(dict)
    for reference in said:
        key = _key(reference)
        by_space = key is not None and key[0] == "frame_of_reference_uid"
        known = [
            image
            for image in (images.get(key, ()) if key else ())
            if image["sop_instance_uid"] != one["sop_instance_uid"]
            and (not by_space or image["patient_id"] == one["patient_id"])
        ]
        for image in known:
            place = _Place(*(image[name] for name in _Place._fields))
            links[reference.relation, place][image["sop_instance_uid"]] = None
        if not known:
            place = _Place(reference.study_uid, reference.series_uid, reference.frame_of_reference_uid)
            links[reference.relation, place] |= {reference.sop_instance_uid: None} if reference.sop_instance_uid else {}
    return links


def _rows(one: Json, links: Links, volumes: Mapping[str, Sequence[str]]) -> Iterator[Json]:
    own = {
        "file": one["row"],
        "class": class_name(one["sop_class_uid"]),
        **{name: one[name] for name in ("modality", "sop_instance_uid")},
        **{name: _named(one[name]) for name in ("study_uid", "series_uid")},
    }
    if not links:
        yield own
    for (relation, place), uids in links.items():
        counts: dict[str | None, int] = defaultdict(int) if uids else {None: 0}
        for uid in uids:
            for volume in volumes.get(uid) or (None,):
                counts[volume] += 1
        said = {f"referenced_{name}": _named(value) for name, value in place._asdict().items()}
        for volume, images in sorted(counts.items(), key=lambda item: item[0] or ""):
            yield {**own, "relation": relation, **said, "referenced_instances": images, "volume": volume}


def _named(uid: str | None) -> str | None:
    """Return a UID as the catalogue has it."""
    return None if uid is None else safe_uid(uid)


# ---------------------------------------------------------------------------- volumes


def holders_in(frames: pa.Table) -> Holders:
    """Return what finds volumes by the columns ``volume`` and ``sop_instance_uid`` of frames.parquet."""

    def find(uids: Collection[str]) -> Mapping[str, Sequence[str]]:
        import pyarrow as pa
        import pyarrow.compute as pc

        mask = pc.is_in(frames["sop_instance_uid"], pa.array(sorted(uids), pa.string()))
        some = frames.select(["volume", "sop_instance_uid"]).filter(mask)
        return _by_uid(some["sop_instance_uid"].to_pylist(), some["volume"].to_pylist())

    return find


def planned_holders(index: Index, volumes: Any, starts: npt.NDArray[Any], files: npt.NDArray[Any]) -> Holders:
    """Return what finds planned volumes: ``files[starts[n]:starts[n + 1]]`` are those of ``volumes[n]``."""

    def find(uids: Collection[str]) -> Mapping[str, Sequence[str]]:
        import pyarrow as pa
        import pyarrow.compute as pc

        names = index.instances["sop_instance_uid"]
        rows = np.flatnonzero(pc.is_in(names, pa.array(sorted(uids), pa.string())).to_numpy())
        places = np.flatnonzero(np.isin(files, rows))
        numbers = np.searchsorted(starts, places, side="right") - 1
        return _by_uid(names.take(files[places]).to_pylist(), volumes.take(numbers).to_pylist())

    return find


def _by_uid(uids: Sequence[str], volumes: Sequence[str]) -> Mapping[str, Sequence[str]]:
    found: dict[str, dict[str, None]] = defaultdict(dict)
    for uid, volume in zip(uids, volumes, strict=True):
        found[uid][volume] = None
    return {uid: tuple(held) for uid, held in found.items()}
