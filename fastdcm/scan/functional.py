"""Frame rows of objects with several frames or with functional groups (PS3.3 C.7.6.16).

The value of a column in a frame is the last of these that there is: the instance's own (top level), the shared
converted attributes, the shared macro, the frame's converted attributes, the frame's macro. A frame without an item
in the Per-Frame Functional Groups keeps what is shared; items beyond Number of Frames are ignored.

Every image with more than one frame gets a row a frame, also where all rows are alike (a cine).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from fastdcm.model import FRAME_COLUMNS, Column
from fastdcm.scan import elements, real_world, rules, special
from fastdcm.scan.dimensions import name_frames

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

Row = dict[str, object]
Reader = Callable[["Dataset", Sequence[str]], Mapping[str, object]]
Seen = dict[tuple[int, ...], tuple[object, Row]]
"""What macros gave in the item before, by their tags: most frames repeat most of them byte by byte."""

_SHARED, _PER_FRAME = 0x52009229, 0x52009230
_CONVERTED_SHARED, _CONVERTED_PER_FRAME = 0x00209170, 0x00209171
_FRAME_TYPES = (
    0x00189226,  # MR
    0x00189329,  # CT
    0x00189751,  # PET
    0x00189504,  # X-ray 3D
    0x00189806,  # US Image Description
    0x00409092,  # Parametric Map
    0x00520025,  # Intravascular OCT
)


def frame_rows(dataset: Dataset, row: Row) -> list[Row]:
    """Return a row a frame, or none for a single frame without functional groups.

    Parameters
    ----------
    dataset
        The top-level elements of an image.
    row
        Its instance row, whose window is filled from the first frame's if it has none.

    Returns
    -------
    list of dict
        ``frame`` (0-based) and every name of ``FRAME_COLUMNS`` each.
    """
    n_frames = row["n_frames"]
    grouped = _SHARED in dataset or _PER_FRAME in dataset
    if not isinstance(n_frames, int) or (n_frames < 2 and not grouped):
        return []
    base: Row = {column.name: row[column.name] for column in FRAME_COLUMNS}
    if not grouped:
        rows = [{"frame": frame, **base} for frame in range(n_frames)]
    else:
        rows = _grouped_rows(dataset, row, base, n_frames)
    special.vary_by_frame(dataset, row, rows)
    return rows


def _grouped_rows(dataset: Dataset, row: Row, base: Row, n_frames: int) -> list[Row]:
    charsets = elements.charsets_of(dataset)
    modality = row["modality"] if isinstance(row["modality"], str) else None
    shared = elements.first_item(dataset, _SHARED)
    seen: Seen = {}
    base |= _acquisition_time(dataset, base)
    base |= read_groups(shared, _CONVERTED_SHARED, charsets, modality, {})
    rows: list[Row] = []
    per_frame = elements.items(dataset, _PER_FRAME, n_frames)
    for frame in range(n_frames):
        item = per_frame[frame] if frame < len(per_frame) else None
        rows.append({"frame": frame, **base, **read_groups(item, _CONVERTED_PER_FRAME, charsets, modality, seen)})
    _fill_window(row, shared, per_frame, charsets)
    if any(frame["space"] == "volume" for frame in rows):
        row["frame_of_reference_uid"] = elements.text(dataset, 0x00209312) or row["frame_of_reference_uid"]
    name_frames(dataset, shared, per_frame, rows)
    return rows


def _acquisition_time(dataset: Dataset, base: Row) -> Row:
    """Enhanced objects have Acquisition DateTime (0008,002A) in place of a time."""
    if base["acquisition_time"] is not None:
        return {}
    return {"acquisition_time": rules.parse_date_time(elements.text(dataset, 0x0008002A))}


def read_groups(item: Dataset | None, converted: int, charsets: Sequence[str], modality: str | None, seen: Seen) -> Row:
    """Return the columns that one item of the shared or per-frame functional groups gives."""
    values: Row = {}
    if item is None:
        return values
    there = frozenset(map(int, item.keys()))
    if converted in there:
        values |= _once(item, (converted,), seen, lambda: _legacy(item, converted, charsets, modality))
    for tag, read in _MACROS:
        if tag in there:
            values |= _once(item, (tag,), seen, partial(_macro, item, tag, read, charsets))
    if not there.isdisjoint(_SPACINGS):
        values |= _once(item, _SPACINGS, seen, lambda: _spacing(item, modality))
    philips = real_world.philips_sequence(item)
    if philips is not None:
        values |= _there({"philips_scale_slope": real_world.philips_scale_slope(item, philips)})
    return values


def _once(item: Dataset, tags: tuple[int, ...], seen: Seen, read: Callable[[], Row]) -> Row:
    """Return what ``read`` makes of elements, or made of the same bytes."""
    stored = [elements.stored_value(item, tag) for tag in tags]
    if seen.get(tags, (None,))[0] != stored or elements.PARSED in stored:
        seen[tags] = stored, read()
    return seen[tags][1]


def _legacy(item: Dataset, converted: int, charsets: Sequence[str], modality: str | None) -> Row:
    legacy = elements.first_item(item, converted)
    return {} if legacy is None else _there(_converted(legacy, charsets, modality))


def _macro(item: Dataset, tag: int, read: Reader, charsets: Sequence[str]) -> Row:
    macro = elements.first_item(item, tag)
    return {} if macro is None else _there(read(macro, charsets))


def _there(values: Mapping[str, object]) -> Row:
    return {name: value for name, value in values.items() if value is not None}


# ---------------------------------------------------------------------------- macros


def _element(item: Dataset, column: Column, tag: int, charsets: Sequence[str]) -> object:
    """Read a column's value from an element that may have another tag than the column's own."""
    found = elements.raw_element(item, tag)
    if found is None:
        return None
    vr = found.vr if found.vr in rules.NUMBER_VRS else _VR.get(tag, "")
    return rules.column_value(column, vr, found.value, found.little_endian, charsets)


_VR = {
    0x00189082: "FD",  # Effective Echo Time
    0x00209301: "FD",  # Image Position (Volume)
    0x00209302: "FD",  # Image Orientation (Volume)
    0x00209128: "UL",  # Temporal Position Index
    0x00209156: "US",  # Frame Acquisition Number
    0x00209153: "FD",  # Nominal Cardiac Trigger Delay Time
    0x00209252: "FD",  # Actual Cardiac Trigger Delay Time
    0x0062000B: "US",  # Referenced Segment Number
}


def _reader(**tags: int) -> Reader:
    """Make a reader of columns from the tags of a macro; a column with parts is named once for all of them."""
    wanted = [(column, tags[key]) for column in FRAME_COLUMNS if (key := _key(column)) in tags]

    def read(item: Dataset, charsets: Sequence[str]) -> Mapping[str, object]:
        return {column.name: _element(item, column, tag, charsets) for column, tag in wanted}

    return read


def _key(column: Column) -> str:
    """``position`` for position_x and so on; the column's own name for all others."""
    stem, _, last = column.name.rpartition("_")
    if stem in ("row", "column"):
        return "orientation"
    return stem if stem in ("position", "b") and last in ("x", "y", "z") else column.name


def _frame_content(item: Dataset, charsets: Sequence[str]) -> Mapping[str, object]:
    time = elements.text(item, 0x00189074) or elements.text(item, 0x00189151)
    return {
        **_CONTENT(item, charsets),
        "acquisition_time": rules.parse_date_time(time),
    }


def _cardiac(item: Dataset, charsets: Sequence[str]) -> Mapping[str, object]:
    return {**_ACTUAL_DELAY(item, charsets), **_there(_NOMINAL_DELAY(item, charsets))}


def _temporal_offset(item: Dataset, charsets: Sequence[str]) -> Mapping[str, object]:
    """Temporal Position Time Offset (0020,930D) in seconds."""
    seconds = elements.number(item, 0x0020930D, "FD")
    return {"frame_reference_time": None if seconds is None else seconds * 1000.0}


def _diffusion(item: Dataset, charsets: Sequence[str]) -> Mapping[str, object]:
    direction = elements.first_item(item, 0x00189076)
    return {**_B_VALUE(item, charsets), **(_DIRECTION(direction, charsets) if direction is not None else {})}


_CONTENT = _reader(
    stack_id=0x00209056,
    in_stack_position=0x00209057,
    temporal_position=0x00209128,
    acquisition_number=0x00209156,
    cardiac_phase=0x00209241,
    trigger_time=0x00209153,
)
_NOMINAL_DELAY = _reader(trigger_time=0x00209153, cardiac_phase=0x00209241)
_ACTUAL_DELAY = _reader(trigger_time=0x00209252)
_B_VALUE = _reader(b_value=0x00189087)
_DIRECTION = _reader(b=0x00189089)


def _in_volume(read: Reader) -> Reader:
    """Make a reader of an ultrasound volume's coordinates (PS3.3 C.7.6.16.2.21): nothing ties them to the patient."""
    return lambda item, charsets: {**read(item, charsets), "space": "volume"}


def _in_patient(read: Reader) -> Reader:
    return lambda item, charsets: {**read(item, charsets), "space": "patient"}


_MACROS: tuple[tuple[int, Reader], ...] = (
    (0x0020930E, _in_volume(_reader(position=0x00209301))),  # Plane Position (Volume)
    (0x0020930F, _in_volume(_reader(orientation=0x00209302))),  # Plane Orientation (Volume)
    (0x00209113, _in_patient(_reader(position=0x00200032))),  # Plane Position: it wins
    (0x00209116, _in_patient(_reader(orientation=0x00200037))),  # Plane Orientation
    (0x00289110, _reader(thickness=0x00180050, spacing_between=0x00180088)),  # Pixel Measures
    (0x00289145, _reader(slope=0x00281053, intercept=0x00281052, rescale_type=0x00281054)),
    (0x00209111, _frame_content),
    (0x00189118, _cardiac),  # Cardiac Synchronization
    (0x00209310, _temporal_offset),  # Temporal Position
    (0x00189114, _reader(echo_time=0x00189082)),  # MR Echo
    (0x00189117, _diffusion),  # MR Diffusion
    (0x00189251, _reader(asl_context=0x00189257)),  # MR Arterial Spin Labeling
    (real_world.MAPPING, real_world.read_mapping),
    *((tag, _reader(image_type=0x00089007, complex_component=0x00089208)) for tag in _FRAME_TYPES),
    (0x00189314, _reader(kernel=0x00181210)),  # CT Reconstruction
    (0x00189325, _reader(kvp=0x00180060)),  # CT X-Ray Details
    (0x0062000A, _reader(segment=0x0062000B)),  # Segment Identification
)


def _converted(item: Dataset, charsets: Sequence[str], modality: str | None) -> Row:
    """Columns out of the attributes that a legacy conversion kept as they were (PS3.3 C.7.6.16.2.25)."""
    values: Row = {
        column.name: _element(item, column, column.tag, charsets)
        for column in FRAME_COLUMNS
        if column.tag and not column.name.startswith("spacing_")
    }
    spacing = elements.numbers(item, 0x00280030, 2)
    if spacing is not None:
        dy, dx, kind = rules.spacing_of(spacing, None, None, None, modality)
        values.update(spacing_y=dy, spacing_x=dx, spacing_kind=kind)
    return values


_SPACINGS = (0x00289110, 0x00189401)


def _spacing(item: Dataset, modality: str | None) -> Row:
    """In-plane spacing of Pixel Measures, or of the detector (X-Ray Frame Pixel Data Properties)."""
    measures, properties = (elements.first_item(item, tag) for tag in _SPACINGS)
    pixel = elements.numbers(measures, 0x00280030, 2) if measures is not None else None
    imager = elements.numbers(properties, 0x00181164, 2) if properties is not None else None
    dy, dx, kind = rules.spacing_of(pixel, imager, None, None, modality)
    return {"spacing_y": dy, "spacing_x": dx, "spacing_kind": kind} if kind else {}


def _fill_window(row: Row, shared: Dataset | None, per_frame: Sequence[Dataset], charsets: Sequence[str]) -> None:
    """Give the instance the window of its Frame VOI LUT macro (0028,9132), the first frame's before the shared."""
    if row["window_center"] is not None:
        return
    for item in (*per_frame[:1], *([shared] if shared is not None else [])):
        window = elements.first_item(item, 0x00289132)
        if window is not None and (center := elements.text(window, 0x00281050, charsets)):
            row["window_center"], row["window_width"] = center, elements.text(window, 0x00281051, charsets)
            return
