"""One row a volume, the same for ``scan``, ``map.parquet`` and ``catalog.parquet``; and the keys of patients."""

from __future__ import annotations

import base64
import hashlib
import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from itertools import count
from typing import TYPE_CHECKING

import numpy as np

from fastdcm.model import CATALOG_COLUMNS, Floats, Frames, Index, Json, Texts, VolumePlan
from fastdcm.series.names import safe_uid

if TYPE_CHECKING:
    import pyarrow as pa

Study = tuple[str | None, str | None]
"""(patient_id as raw text, study_uid) of the index."""

PRIVATE_COLUMNS = ("description", "protocol", "study_date")
"""Free text and dates: in the store only with ``--metadata full``."""
CLOCK_COLUMNS = ("creation_time", "content_time")
"""Not with ``--metadata none``."""

PIXEL_ORIGINS = ("ORIGINAL", "DERIVED")
EXAM_ROLES = ("PRIMARY", "SECONDARY")

_TIME = re.compile(r"[0-9]{2}(?:[0-9]{2}(?:[0-9]{2}(?:\.[0-9]{1,6})?)?)?")

_CAPTURE_CLASSES = tuple(f"1.2.840.10008.5.1.4.1.1.7{suffix}" for suffix in ("", ".1", ".2", ".3", ".4"))
_ULTRASOUND_CLASSES = tuple(f"1.2.840.10008.5.1.4.1.1.{number}" for number in ("3", "3.1", "6", "6.1", "6.2"))
_RISKY_CLASSES = frozenset(_CAPTURE_CLASSES + _ULTRASOUND_CLASSES)
_RISKY_MODALITIES = frozenset({"SC", "US", "IVUS"})


def catalog_row(plan: VolumePlan) -> Json:
    """Return a volume's row.

    Parameters
    ----------
    plan : VolumePlan
        The volume.

    Returns
    -------
    dict
        All of ``model.CATALOG_COLUMNS``; None where unknown. Lengths are mm. ``files`` and ``bytes`` are the source
        files and their size; ``spacing_x`` and ``spacing_y`` are of ``geometry.spacing_kind``.
    """
    frames, geometry = plan.frames, plan.volume.geometry
    texts, numbers = frames.texts, frames.numbers
    size = dict(zip(plan.array.axes, plan.array.shape, strict=True))
    known_xy, known_z = geometry.spacing_kind != "none", geometry.spacing_z_source != "none"
    thickness = _common_number(numbers["thickness"])
    origin, role = image_role(_common(texts["image_type"]))
    first = np.unique(frames.instance, return_index=True)[1] if len(frames) > 1 else np.zeros(1, np.int64)
    return {
        "index": int(plan.path.rpartition("/")[2].partition(".")[0]),
        "patient": plan.patient,
        "study": safe_uid(texts["study_uid"][0]),
        "series": safe_uid(texts["series_uid"][0]),
        "volume": plan.path,
        **{name: _common(texts[name]) for name in _TEXT_COLUMNS},
        "kind": plan.volume.kind,
        "pixel_origin": origin,
        "exam_role": role,
        "photometric": plan.rule.photometric or None,
        "slices": size["z"],
        "rows": size["y"],
        "columns": size["x"],
        "channels": size.get("c", 1),
        "timepoints": size.get("t", 1),
        "spacing_x": geometry.spacing[0] if known_xy else None,
        "spacing_y": geometry.spacing[1] if known_xy else None,
        "spacing_z": geometry.spacing[2] if known_z else None,
        "thickness": thickness,
        "gap": slice_gap(plan, thickness),
        "uniform": geometry.uniform,
        "sheared": geometry.sheared,
        "missing_slices": len(geometry.missing_slices),
        "bits_stored": _largest_whole(numbers["bits_stored"]),
        "dtype": plan.array.dtype,
        "shape": "x".join(str(n) for n in plan.array.shape),
        "transfer_syntax": ";".join(sorted(filter(None, set(texts["transfer_syntax"].tolist())))) or None,
        "creation_time": earliest_time(texts["creation_time"]),
        "content_time": earliest_time(texts["content_clock"]),
        "burned_in_risk": burned_in_risk(frames),
        "reasons": ";".join(dict.fromkeys(reason.code.value for reason in plan.reasons)),
        "files": len(first),
        "frames": len(frames),
        "bytes": int(numbers["size"][first].sum()),
    }


_TEXT_COLUMNS = (
    "modality", "description", "protocol", "body_part", "manufacturer", "model", "kernel", "image_type", "study_date",
)  # fmt: skip


def redact(row: Json, metadata: str) -> Json:
    """Return the row as the store may hold it: free text and dates with ``full`` metadata, no time with ``none``."""
    if metadata == "full":
        return row
    return row | dict.fromkeys(PRIVATE_COLUMNS) | (dict.fromkeys(CLOCK_COLUMNS) if metadata == "none" else {})


def catalog_schema() -> pa.Schema:
    """Return the Arrow schema of ``model.CATALOG_COLUMNS``."""
    import pyarrow as pa

    kinds = {
        "int": pa.int32(), "long": pa.int64(), "float": pa.float64(), "bool": pa.bool_(),
        "text": pa.string(), "string": pa.string(),
    }  # fmt: skip
    return pa.schema([(name, kinds[kind]) for name, kind in CATALOG_COLUMNS])


def catalog_table(rows: Sequence[Json]) -> pa.Table:
    """Return rows as a table, in the given order."""
    import pyarrow as pa

    return pa.Table.from_pylist(list(rows), schema=catalog_schema())


# ---------------------------------------------------------------------------- what a column says


def image_role(image_type: str | None) -> tuple[str | None, str | None]:
    r"""Return pixel origin and exam role, values 1 and 2 of Image Type (PS3.3 C.7.6.1.1.2); None where malformed.

    >>> image_role("ORIGINAL\\PRIMARY\\AXIAL")
    ('ORIGINAL', 'PRIMARY')
    >>> image_role("SECONDARY CAPTURE")
    (None, None)
    """
    parts = [part.strip().upper() for part in (image_type or "").split("\\")]
    origin = parts[0] if parts[0] in PIXEL_ORIGINS else None
    role = parts[1] if len(parts) > 1 and parts[1] in EXAM_ROLES else None
    return origin, role


def slice_gap(plan: VolumePlan, thickness: float | None) -> float | None:
    """Return the step between slices less their thickness, mm; negative where they overlap. Needs positions."""
    if thickness is None or plan.volume.geometry.spacing_z_source != "positions":
        return None
    return round(plan.volume.geometry.spacing[2] - thickness, 6) + 0.0  # no -0.0


def burned_in_risk(frames: Frames) -> bool:
    """Tell whether names may stand in the pixels: (0028,0301) is YES, or a capture or ultrasound does not deny it."""
    said = {text.strip().upper() for text in set(frames.texts["burned_in"].tolist()) if text}
    if "YES" in said:
        return True
    risky = frames.texts["sop_class_uid"][0] in _RISKY_CLASSES or frames.texts["modality"][0] in _RISKY_MODALITIES
    return risky and said != {"NO"}


def earliest_time(column: Texts) -> str | None:
    """Return the earliest time of a column as its file has it (DICOM TM, PS3.5 6.2); what is no time is left out.

    >>> earliest_time(np.array(["134501.250000", None, "noon", "1346"], object))
    '134501.250000'
    """
    return min((text for text in set(column.tolist()) if text and _TIME.fullmatch(text)), default=None)


def _common(column: Texts) -> str | None:
    """Return the text of most frames, of equally many the first by name."""
    texts = column.tolist()
    if texts.count(texts[0]) == len(texts):
        return texts[0] or None
    counts = Counter(texts)
    counts.pop(None, None)
    counts.pop("", None)
    return min(counts, key=lambda text: (-counts[text], text), default=None)


def _common_number(column: Floats) -> float | None:
    """Return the number of most frames, of equally many the smallest."""
    first = float(column[0])
    if len(column) == 1 or (column == first).all():
        return first if first == first else None
    counts = Counter(column[~np.isnan(column)].tolist())
    return min(counts, key=lambda number: (-counts[number], number), default=None)


def _largest_whole(column: Floats) -> int | None:
    largest = float(np.fmax.reduce(column))
    return int(largest) if largest == largest else None


# ---------------------------------------------------------------------------- patients and studies


def patient_mark(patient_id: str | None) -> str:
    """Return what tells a patient from another in DEST.work, without the id itself."""
    return hashlib.sha256(b"" if patient_id is None else b"=" + patient_id.encode()).hexdigest()[:16]


def study_names(index: Index, owners: Mapping[str, str | None] | None = None) -> dict[Study, str]:
    """Return the folder of each study: its UID as a safe name.

    A second patient with the same study UID gets the suffix ``-2``, a third ``-3``, in the order of patient_id; a
    folder that is published stays with its patient, whoever comes later.

    Parameters
    ----------
    index : Index
        With every image found; the names do not depend on what is selected.
    owners : mapping, optional
        ``patient_mark`` by published folder; None where it is not known whose it is.
    """
    studies: dict[str, list[Study]] = {}
    for study in _studies(index):
        studies.setdefault(safe_uid(study[1]), []).append(study)
    published: dict[str, dict[int, str | None]] = {}
    for folder, owner in (owners or {}).items():
        name, number = _split_name(folder, studies)
        published.setdefault(name, {})[number] = owner
    return {
        study: name if number == 1 else f"{name}-{number}"
        for name, group in studies.items()
        for study, number in _number_patients(group, published.get(name, {})).items()
    }


def _split_name(folder: str, names: Collection[str]) -> tuple[str, int]:
    name, _, number = folder.rpartition("-")
    return (name, int(number)) if name in names and number.isascii() and number.isdigit() else (folder, 1)


def _number_patients(studies: Sequence[Study], owners: Mapping[int, str | None]) -> dict[Study, int]:
    """Give numbers to those who share a study UID: who has one keeps it, the others take what nobody has."""
    own = {owner: number for number, owner in owners.items() if owner is not None}
    numbers = {study: own.pop(mark) for study in studies if (mark := patient_mark(study[0])) in own}
    taken = {number for number, owner in owners.items() if owner is not None}
    free = (number for number in count(1) if number not in taken)
    return numbers | {study: next(free) for study in studies if study not in numbers}


def patient_keys(names: Mapping[Study, str], known: Mapping[str, str] | None = None) -> dict[str | None, str]:
    """Return the key of each patient: P and 10 base32 characters of a hash of the smallest Study Instance UID.

    Parameters
    ----------
    names : mapping
        From ``study_names``.
    known : mapping, optional
        Keys given at first publication, by the name of the study's folder: a patient keeps the key of its smallest
        study that has one.

    Returns
    -------
    dict
        By raw patient_id (None: no id at all). Patients that share a study UID have different keys.
    """
    by_patient: dict[str | None, list[str]] = {}
    for (patient, _), name in names.items():
        by_patient.setdefault(patient, []).append(name)
    keys = {}
    for patient, own in by_patient.items():
        given = [known[name] for name in sorted(own) if known and name in known]
        keys[patient] = given[0] if given else _patient_key(min(own))
    return keys


def _patient_key(study: str) -> str:
    return "P" + base64.b32encode(hashlib.sha256(study.encode()).digest()).decode()[:10]


def _studies(index: Index) -> list[Study]:
    """Return the distinct (patient_id, study_uid) of all DICOM files, sorted; absent ids come first."""
    import pyarrow.compute as pc

    from fastdcm.scan.arrow import number_array

    table = index.instances.select(["patient_id", "study_uid", "sop_instance_uid"]).unify_dictionaries()
    is_dicom = pc.or_(pc.is_valid(table["sop_instance_uid"]), pc.is_valid(table["study_uid"])).to_numpy()
    texts, codes = [], []
    for column in (table["patient_id"], table["study_uid"]):
        known = column.chunk(0).dictionary.to_pylist() if column.num_chunks else []
        found = [chunk.indices.fill_null(len(known)).to_numpy() for chunk in column.chunks]
        codes.append(np.concatenate([np.zeros(0, np.int64), *found])[is_dicom])
        texts.append([*known, None])
    patients, studies = texts
    both = pc.unique(number_array(codes[0] * len(studies) + codes[1])).to_pylist()  # not group_by: its import is slow
    pairs = [(patients[one // len(studies)], studies[one % len(studies)]) for one in both]
    return sorted(pairs, key=lambda pair: (pair[0] or "", pair[1] or "", pair[0] is not None))
