"""What objects refer to: reports, structure sets, presentation states and the like name the images that they are about.

Only files without an image, and the kinds of image that are made from others, are read; no pixel, no contour and no
text of a report is. References stand in a few sequences of the top level (PS3.3 C.17.2 for reports, C.8.8.5 for
structure sets, C.11.11 for presentation states ...); inside them the UIDs have the same tags everywhere.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from fastdcm.errors import Code, Outcome, SourceError
from fastdcm.model import Index
from fastdcm.scan.listing import Listed, Wanted, items_of, list_elements, top_level
from fastdcm.scan.rules import raw_text

if TYPE_CHECKING:
    import pyarrow as pa

RELATIONS = {
    0x00081115: "ReferencedSeriesSequence",
    0x00081140: "ReferencedImageSequence",
    0x0008114A: "ReferencedInstanceSequence",
    0x00081200: "StudiesContainingOtherReferencedInstancesSequence",
    0x00082112: "SourceImageSequence",
    0x00089092: "ReferencedImageEvidenceSequence",
    0x00089154: "SourceImageEvidenceSequence",
    0x0040A375: "CurrentRequestedProcedureEvidenceSequence",
    0x0040A385: "PertinentOtherEvidenceSequence",
    0x0040A525: "IdenticalDocumentsSequence",
    0x00420013: "SourceInstanceSequence",
    0x00700308: "RegistrationSequence",
    0x00700404: "BlendingSequence",
    0x30060010: "ReferencedFrameOfReferenceSequence",
    0x300C0002: "ReferencedRTPlanSequence",
    0x300C0060: "ReferencedStructureSetSequence",
    0x300C0080: "ReferencedDoseSequence",
}
"""Sequences of the top level that name what an object is about."""
FRAME_OF_REFERENCE = "FrameOfReferenceUID"
"""The relation of an object that names no image, only the space that it lies in."""
REFERRING_IMAGES = frozenset(
    {
        "1.2.840.10008.5.1.4.1.1.66.4",
        "1.2.840.10008.5.1.4.1.1.66.7",
        "1.2.840.10008.5.1.4.1.1.30",
        "1.2.840.10008.5.1.4.1.1.481.2",
    }
)
"""Segmentations, parametric maps and doses: images that are made from others."""
OBJECT_CODES = (Code.SOP_CLASS, Code.VIDEO)
"""Of what is no image; a DICOMDIR is no object of a patient."""

_STUDY, _SERIES, _INSTANCE = 0x0020000D, 0x0020000E, 0x00081155
_SPACES = (0x00200052, 0x30060024)
_RT_STUDIES = 0x30060012
_ENDS = frozenset({0x0040A730, 0x30060020, 0x30060039, 0x52009229, 0x52009230})
"""Text of a report, regions and contours of a structure set, frames: all references stand before them."""
_HEADS_MAX = 2**17
"""A structure set of ten thousand images has 40 000 elements and items."""
_WANTED = Wanted(frozenset({*RELATIONS, _SPACES[0]}), lambda tag: tag in _ENDS or tag > max(RELATIONS), _HEADS_MAX)
_UID = re.compile(r"[0-9]+(\.[0-9]+)*")
_DEPTH_MAX = 8
"""A structure set has four sequences in each other, from the space down to the image."""


class Reference(NamedTuple):
    """What an object refers to; None where it does not say."""

    relation: str
    """One of ``RELATIONS``, or ``FRAME_OF_REFERENCE``."""
    study_uid: str | None
    series_uid: str | None
    frame_of_reference_uid: str | None
    sop_instance_uid: str | None


def read_references(path: str) -> tuple[Reference, ...]:
    """Return what one file refers to, each once, in its order; nothing where it cannot be read."""
    try:
        elements = list_elements(path, _WANTED).elements
    except (SourceError, OSError):
        return ()
    found: dict[Reference, None] = {}
    places = top_level(elements)
    for tag, place in places.items():
        if tag in RELATIONS:
            empty = Reference(RELATIONS[tag], None, None, None, None)
            found.update(dict.fromkeys(_of_sequence(elements, place, empty, _DEPTH_MAX)))
    space = _uid(elements, places, _SPACES[0])
    if space and not any(one.series_uid or one.sop_instance_uid for one in found):
        found.setdefault(Reference(FRAME_OF_REFERENCE, None, None, space, None))
    return tuple(found)


def _of_sequence(elements: list[Listed], place: int, outer: Reference, depth: int) -> Iterator[Reference]:
    """Yield the references of a sequence: of an item those inside it, else its own."""
    for item in items_of(elements, place):
        study, series, instance = (_uid(elements, item, tag) for tag in (_STUDY, _SERIES, _INSTANCE))
        space = next(filter(None, (_uid(elements, item, tag) for tag in _SPACES)), None)
        if elements[place].tag == _RT_STUDIES:  # names the study as if it were an instance
            study, instance = instance, None
        said = Reference(
            outer.relation,
            study or outer.study_uid,
            series or outer.series_uid,
            space or outer.frame_of_reference_uid,
            None,
        )
        inside = [at for at in item.values() if elements[at].vr == "SQ"] if depth else []
        below = [one for at in inside for one in _of_sequence(elements, at, said, depth - 1)]
        if instance or (not below and (study or series or space)):
            yield said._replace(sop_instance_uid=instance)
        yield from below


def _uid(elements: list[Listed], places: dict[int, int], tag: int) -> str | None:
    """Return a UID; anything else that stands in its place may be a name, and is nothing."""
    value = elements[places[tag]].value if tag in places else None
    text = raw_text(value) if value else None
    return text if text and len(text) <= 64 and _UID.fullmatch(text) else None


# ---------------------------------------------------------------------------- which files


def referring_files(index: Index) -> pa.Table:
    """Return the files that may refer to others: what is no image, and the images that are made from others.

    Each with its ``row`` in ``Index.instances``, its outcome, and what tells whose it is.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    from fastdcm.scan.arrow import number_array

    files = index.instances
    no_image = pc.and_(
        pc.equal(files["outcome"], str(Outcome.NOT_IMAGE)),
        pc.is_in(files["code"], pa.array(list(map(str, OBJECT_CODES)))),
    ).fill_null(False)
    made = pc.is_in(files["sop_class_uid"], pa.array(sorted(REFERRING_IMAGES)))
    rows = np.flatnonzero(pc.or_(no_image, made).to_numpy())
    names = ["source", "path", "outcome", "sop_class_uid", "sop_instance_uid", "patient_id", "study_uid", "series_uid"]
    places = number_array(rows)
    return files.select([*names, "modality"]).take(places).append_column("row", places)


def count_objects(index: Index, *, images: bool = True) -> dict[str, int]:
    """Return files by the name of their class, the most frequent first: of what ``referring_files`` returns.

    Parameters
    ----------
    index : Index
        Of all files.
    images : bool
        Count the images among them too.
    """
    found = referring_files(index).select(["outcome", "sop_class_uid"]).to_pydict()
    pairs = zip(found["outcome"], found["sop_class_uid"], strict=True)
    classes = Counter(uid for outcome, uid in pairs if images or outcome == Outcome.NOT_IMAGE)
    counts: Counter[str] = Counter()
    for uid, files in classes.items():
        counts[class_name(uid)] += files
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def class_name(sop_class_uid: str | None) -> str:
    """Return the name of a SOP Class without the word Storage; of one that is not known its UID."""
    from fastdcm.scan.pydicom_once import load_pydicom

    load_pydicom()
    from pydicom.uid import UID

    uid = sop_class_uid or ""
    if len(uid) > 64 or not _UID.fullmatch(uid):
        return "unknown class"  # no UID: it may be a name
    return UID(uid).name.removesuffix(" Storage")


def file_path(index: Index, source: int, path: str) -> str:
    """Return where a file of the index is."""
    from fastdcm.scan.find import full_path

    return os.fspath(full_path(index.sources, source, path))
