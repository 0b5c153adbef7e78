"""The nouns: frozen values that travel between the stages, and the schema of the instance index.

Nothing here reads, writes or decides; only ``errors`` and numpy are imported. Lengths are mm in the
patient frame (LPS, PS3.3 C.7.6.2.1.1), angles never occur, sizes are bytes. Arrays are in C order
and their axes are named in the order (t, c, z, y, x).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from fastdcm.errors import Code, Outcome

if TYPE_CHECKING:
    import pyarrow as pa

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Texts = npt.NDArray[np.object_]
Json = dict[str, Any]

FORMAT_VERSION = "1"


# ---------------------------------------------------------------------------- the instance index


class Column(NamedTuple):
    """One column of the index: its name, kind, level and the DICOM element that it comes from.

    ``kind`` is text (dictionary encoded), string (plain), bytes (dictionary encoded binary),
    int (int32), long (int64), float (float64); null means absent or unreadable.
    ``level`` is file (every file has it), instance (every DICOM image), or frame: it may vary by
    frame, so the frames table repeats it for multi-frame instances.
    """

    name: str
    kind: Literal["text", "string", "bytes", "int", "long", "float"]
    level: Literal["file", "instance", "frame"]
    tag: int = 0
    part: int = 0
    """Which component of a multi-valued element (0-based)."""


COLUMNS: tuple[Column, ...] = (
    # --- the file
    Column("source", "int", "file"),  # number of the source folder or file, from 0
    Column("path", "string", "file"),  # relative to its source, see scan/find.py for the encoding
    Column("size", "long", "file"),  # bytes
    Column("mtime_ns", "long", "file"),
    Column("outcome", "text", "file"),  # null: an image, still to be decided; else the final outcome
    Column("code", "text", "file"),
    Column("message", "string", "file"),
    # --- identity
    Column("transfer_syntax", "text", "instance", 0x00020010),
    Column("repaired", "text", "instance"),  # Code.REPAIRED_SYNTAX and the like, null when nothing was
    Column("sop_class_uid", "text", "instance", 0x00080016),
    Column("sop_instance_uid", "string", "instance", 0x00080018),
    Column("patient_id", "text", "instance", 0x00100020),  # raw bytes as latin-1: grouping never decodes
    Column("study_uid", "text", "instance", 0x0020000D),
    Column("series_uid", "text", "instance", 0x0020000E),
    Column("frame_of_reference_uid", "text", "instance", 0x00200052),
    Column("concatenation_uid", "text", "instance", 0x00209161),
    Column("frame_offset_number", "int", "instance", 0x00209228),  # ConcatenationFrameOffsetNumber
    Column("concatenation_number", "int", "instance", 0x00209162),  # InConcatenationNumber
    # --- selection
    Column("modality", "text", "instance", 0x00080060),
    Column("manufacturer", "text", "instance", 0x00080070),
    Column("model", "text", "instance", 0x00081090),
    Column("description", "text", "instance", 0x0008103E),
    Column("protocol", "text", "instance", 0x00181030),
    Column("body_part", "text", "instance", 0x00180015),
    Column("study_date", "text", "instance", 0x00080020),
    Column("series_number", "int", "instance", 0x00200011),
    Column("instance_date", "text", "instance", 0x00080012),  # InstanceCreationDate
    Column("creation_time", "text", "instance", 0x00080013),  # InstanceCreationTime
    Column("content_date", "text", "instance", 0x00080023),
    Column("content_clock", "text", "instance", 0x00080033),  # ContentTime as it is written
    Column("quadruped", "text", "instance", 0x00102210),  # AnatomicalOrientationType
    Column("burned_in", "text", "instance", 0x00280301),
    Column("lossy", "text", "instance", 0x00282110),
    # --- pixel format
    Column("rows", "int", "instance", 0x00280010),
    Column("columns", "int", "instance", 0x00280011),
    Column("samples", "int", "instance", 0x00280002),
    Column("planar", "int", "instance", 0x00280006),
    Column("photometric", "text", "instance", 0x00280004),
    Column("bits_allocated", "int", "instance", 0x00280100),
    Column("bits_stored", "int", "instance", 0x00280101),
    Column("high_bit", "int", "instance", 0x00280102),
    Column("pixel_representation", "int", "instance", 0x00280103),
    Column("n_frames", "int", "instance", 0x00280008),  # at least 1
    Column("palette_bits", "int", "instance", 0x00281101, 2),  # bits of a palette entry: 8 or 16; null: no palette
    Column("padding", "int", "instance", 0x00280120),  # by the sign of pixel_representation
    Column("padding_limit", "int", "instance", 0x00280121),
    Column("pixel_keyword", "text", "instance"),  # PixelData, FloatPixelData, DoubleFloatPixelData
    Column("pixel_offset", "long", "instance"),  # of the value's first byte in the file; -1: inflate first
    Column("pixel_length", "long", "instance"),  # bytes; -1: undefined length (encapsulated)
    Column("table_offset", "long", "instance"),  # of the Extended Offset Table's value (7FE0,0001)
    Column("table_length", "long", "instance"),
    Column("window_center", "text", "instance", 0x00281050),
    Column("window_width", "text", "instance", 0x00281051),
    Column("frame_time_ms", "float", "instance", 0x00181063),
    Column("mosaic_tiles", "int", "instance"),  # slices inside one Siemens mosaic or UIH grid; 0: of unknown count
    Column("mosaic_times", "string", "instance"),  # ms of each tile, joined by backslashes
    Column("normal_x", "float", "instance"),  # the mosaic's slice normal from the CSA header
    Column("normal_y", "float", "instance"),
    Column("normal_z", "float", "instance"),
    # --- geometry of a frame
    Column("position_x", "float", "frame", 0x00200032, 0),
    Column("position_y", "float", "frame", 0x00200032, 1),
    Column("position_z", "float", "frame", 0x00200032, 2),
    Column("row_x", "float", "frame", 0x00200037, 0),  # direction along a row: of increasing column index
    Column("row_y", "float", "frame", 0x00200037, 1),
    Column("row_z", "float", "frame", 0x00200037, 2),
    Column("column_x", "float", "frame", 0x00200037, 3),
    Column("column_y", "float", "frame", 0x00200037, 4),
    Column("column_z", "float", "frame", 0x00200037, 5),
    Column("space", "text", "frame"),  # volume: of an ultrasound volume's own frame of reference; null: LPS
    Column("spacing_y", "float", "frame", 0x00280030, 0),  # between rows
    Column("spacing_x", "float", "frame", 0x00280030, 1),  # between columns
    Column("spacing_kind", "text", "frame"),  # patient, calibrated, detector, region; null: none
    Column("thickness", "float", "frame", 0x00180050),
    Column("spacing_between", "float", "frame", 0x00180088),
    # --- values of a frame
    Column("slope", "float", "frame", 0x00281053),  # null: absent; NaN: there and unreadable
    Column("intercept", "float", "frame", 0x00281052),
    Column("rescale_type", "text", "frame", 0x00281054),  # or DoseUnits
    Column("units", "text", "frame", 0x00541001),
    Column("real_world_slope", "float", "frame"),  # of the frame's first Real World Value Mapping: recorded alone
    Column("real_world_intercept", "float", "frame"),
    Column("real_world_unit", "text", "frame"),
    Column("philips_scale_slope", "float", "frame"),  # (2005,100E) of enhanced objects
    Column("modality_lut", "bytes", "frame"),  # int32 LE first value mapped, then uint16 LE entries; null: none
    # --- what may separate repeats and volumes
    Column("image_type", "text", "frame", 0x00080008),  # FrameType where a functional group has it
    Column("kernel", "text", "frame", 0x00181210),
    Column("instance_number", "int", "instance", 0x00200013),
    Column("acquisition_number", "int", "frame", 0x00200012),
    Column("stack_id", "text", "frame", 0x00209056),
    Column("in_stack_position", "int", "frame", 0x00209057),
    Column("temporal_position", "int", "frame", 0x00200100),
    Column("echo_time", "float", "frame", 0x00180081),  # ms
    Column("echo_number", "int", "frame", 0x00180086),
    Column("b_value", "float", "frame", 0x00189087),  # s/mm2, from the standard or a vendor's tag
    Column("b_x", "float", "frame", 0x00189089, 0),
    Column("b_y", "float", "frame", 0x00189089, 1),
    Column("b_z", "float", "frame", 0x00189089, 2),
    Column("b_frame", "text", "frame"),  # image: the direction is along the image's own axes; null: LPS
    Column("trigger_time", "float", "frame", 0x00181060),  # ms
    Column("cardiac_phase", "float", "frame", 0x00209241),  # percent
    Column("frame_reference_time", "float", "frame", 0x00541300),  # ms
    Column("acquisition_time", "float", "frame", 0x00080032),  # s since midnight
    Column("content_time", "float", "frame", 0x00080033),  # s since midnight
    Column("complex_component", "text", "frame", 0x00089208),
    Column("asl_context", "text", "frame"),
    Column("dimension_name", "text", "frame"),  # what a Dimension Index points to that no other column has
    Column("dimension_value", "float", "frame"),
    Column("slice_time_ms", "float", "frame"),  # of a mosaic's tile after the start of its volume
    Column("kvp", "float", "frame", 0x00180060),
    Column("segment", "int", "frame"),  # ReferencedSegmentNumber
    Column("detector", "int", "frame"),  # NM DetectorVector
    Column("energy_window", "int", "frame"),  # NM EnergyWindowVector
    Column("angular_view", "int", "frame"),  # NM AngularViewVector
    Column("frame_offset_ms", "float", "frame"),  # from the first frame: FrameTimeVector, NM phases, a frame rate
)

COLUMN: Mapping[str, Column] = {column.name: column for column in COLUMNS}
FRAME_COLUMNS: tuple[Column, ...] = tuple(column for column in COLUMNS if column.level == "frame")


@dataclass(frozen=True, slots=True, eq=False)
class Index:
    """The instance index: every file found, and every frame of the multi-frame ones."""

    sources: tuple[str, ...]
    """The source arguments as given; ``instances.source`` numbers them."""
    instances: pa.Table
    """One row a file, in the order (source, path bytes); columns ``COLUMNS``. Any column of which values repeat may be
    dictionary encoded, with codes of any width: ``scan.compact.plain`` gives its values."""
    frames: pa.Table
    """One row a frame of each instance with n_frames > 1 or with functional groups: ``instance`` (int64, row in
    ``instances``), ``frame`` (int32, 0-based), then ``FRAME_COLUMNS``. Sorted by (instance, frame)."""


class Columns(Mapping[str, Any]):
    """Columns of a larger table, each cut to some of its rows when it is asked for: what nobody reads costs nothing."""

    __slots__ = ("_rows", "_whole")

    def __init__(self, whole: Mapping[str, npt.NDArray[Any]], rows: slice | Ints) -> None:
        self._whole, self._rows = whole, rows

    def __getitem__(self, name: str) -> npt.NDArray[Any]:
        """Return one column, (n,)."""
        return self._whole[name][self._rows]

    def __contains__(self, name: object) -> bool:
        """Tell whether there is a column, without cutting it."""
        return name in self._whole

    def __iter__(self) -> Iterator[str]:
        """Yield the names."""
        return iter(self._whole)

    def __len__(self) -> int:
        """Return the number of columns."""
        return len(self._whole)

    def take(self, rows: Ints) -> Columns:
        """Return some of these rows, in the given order."""
        return Columns(self._whole, rows + self._rows.start if isinstance(self._rows, slice) else self._rows[rows])

    def __reduce__(self) -> tuple[Any, ...]:
        """Travel as one block of these rows alone: of one type, as the columns of ``Frames`` are."""
        return _columns_of, (tuple(self._whole), np.stack([*self.values()]))


def _columns_of(names: Sequence[str], block: npt.NDArray[Any]) -> dict[str, npt.NDArray[Any]]:
    """Return the rows of a block by name."""
    return dict(zip(names, block, strict=True))


def _cut(columns: Mapping[str, npt.NDArray[Any]], rows: Ints) -> Columns:
    return columns.take(rows) if isinstance(columns, Columns) else Columns(columns, rows)


@dataclass(frozen=True, slots=True, eq=False)
class Frames:
    """The frames of one patient + study + series, by column; a classic instance is one frame.

    Rows are sorted by (SOP Instance UID, instance row, frame, tile), so nothing depends on file names.
    """

    instance: Ints
    """(n,) row of ``Index.instances``."""
    frame: Ints
    """(n,) 0-based frame number inside the instance."""
    tile: Ints
    """(n,) 0-based tile inside a mosaic frame; -1 where the frame is no mosaic."""
    numbers: Mapping[str, Floats]
    """Every int, long and float column, (n,) each, NaN for null; rows and columns are those of the tile."""
    texts: Mapping[str, Texts]
    """Every text, string and bytes column but path and message, (n,) each, None for null."""
    rescaled: npt.NDArray[np.bool_]
    """(n,) False where slope or intercept is present and unreadable or slope is 0 (Code.BAD_RESCALE)."""

    def __len__(self) -> int:
        """Return the number of frames."""
        return len(self.instance)

    def take(self, rows: Ints) -> Frames:
        """Return the given rows, in the given order."""
        return Frames(
            self.instance[rows],
            self.frame[rows],
            self.tile[rows],
            _cut(self.numbers, rows),
            _cut(self.texts, rows),
            self.rescaled[rows],
        )

    def copy(self) -> Frames:
        """Return the frames on their own, without what they were cut from."""
        texts = {name: np.array(values) for name, values in self.texts.items()}
        numbers = {name: np.array(values) for name, values in self.numbers.items()}
        places = (self.instance.copy(), self.frame.copy(), self.tile.copy())
        return Frames(*places, numbers, texts, self.rescaled.copy())

    def vectors(self, *names: str) -> Floats:
        """Return number columns side by side, shape (n, len(names))."""
        found = np.empty((len(self), len(names)))
        for place, name in enumerate(names):
            found[:, place] = self.numbers[name]
        return found


# ---------------------------------------------------------------------------- options


@dataclass(frozen=True, slots=True)
class Tolerances:
    """When two numbers of the headers mean the same; written to report.json."""

    orientation: float = 1e-3
    """Largest difference of one direction cosine within a volume; also of row . column from 0."""
    spacing_relative: float = 1e-4
    """Largest relative difference of PixelSpacing within a volume."""
    position_mm: float = 0.01
    """Two slices nearer than this are at one position."""
    uniform_mm: float = 0.02
    """A residual up to the larger of this and ``uniform_relative`` of the step is uniform."""
    uniform_relative: float = 0.01
    jitter_mm: float = 0.1
    """Scanners that write positions from encoders jitter: steps that differ from the mean by at most this
    are uniform too, if the residual of every slice also stays within it (see docs/geometry.md)."""
    jitter_relative: float = 0.05
    """... and by at most this share of the step."""
    gap_relative: float = 0.05
    """A step within this share of a whole multiple (2 or more) of the base step is a gap."""
    table_jump_mm: float = 1.0
    """A step that leaves the median step's line by more than this starts a new volume."""


@dataclass(frozen=True, slots=True)
class Options:
    """Everything that decides the bytes of the store."""

    where: str | None = None
    image_type: str | None = None
    localizers: bool = True
    derived: bool = True
    values: Literal["modality", "stored"] = "modality"
    codec: str = "zstd"
    """zstd, lz4, none, or blosc's NAME:LEVEL (series/plan.py lists them)."""
    chunks: tuple[int, ...] | None = None
    """(z, y, x); None is the rule of store-format."""
    shard_bytes: int = 64 * 2**20
    on_gap: Literal["irregular", "fill", "split", "fail"] = "irregular"
    on_bad_frame: Literal["fail", "drop", "fill"] = "fail"
    on_conflict: Literal["quarantine", "newest"] = "quarantine"
    metadata: Literal["technical", "full", "none"] = "technical"
    invert_monochrome1: bool = False
    tolerances: Tolerances = field(default_factory=Tolerances)


@dataclass(frozen=True, slots=True)
class Resources:
    """What a run may use. Changes its time, never its bytes."""

    workers: int | None = None
    """None: one a core that this process may use."""
    threads: int = 1
    """Threads of a worker."""
    memory_bytes: int | None = None
    """None: 60 % of what the machine or cgroup gives."""
    scheduler: str = "local"
    """local (threads), processes, or tcp://HOST:PORT."""
    cluster: str | None = None
    """slurm: workers are its jobs; None: what ``scheduler`` says."""
    task_timeout_s: float | None = None
    """Seconds that one compressed frame may take; None: by its size."""


# ---------------------------------------------------------------------------- series and volumes


class Reason(NamedTuple):
    """One decision about a volume: a stable code and a plain sentence."""

    code: Code
    message: str


@dataclass(frozen=True, slots=True)
class Axis:
    """What runs along t or c."""

    name: Literal["t", "c"]
    role: str
    """The tag in snake case that names the axis: echo_time, b_value, temporal_position, repeat, frame, segment ..."""
    unit: str | None
    values: tuple[Any, ...]
    """(n,) values, or (n, z) nested tuples where they differ between positions; never NaN (None instead)."""
    inferred: bool = False
    per_slice: bool = False
    """``values`` are (n, z): they differ between positions."""


@dataclass(frozen=True, slots=True, eq=False)
class Geometry:
    """Where the voxels of a volume are. All lengths mm, frame LPS, index order (i=x, j=y, k=z)."""

    spacing: tuple[float, float, float]
    """(dx, dy, dz); 1.0 where unknown (then spacing_kind or spacing_z_source says ``none``)."""
    spacing_kind: str
    """In-plane: patient, calibrated, detector, region, none."""
    spacing_z_source: Literal["positions", "tag", "thickness", "none"]
    spacing_z_nominal: bool
    """True where dz is the most frequent step of an uneven stack."""
    origin: tuple[float, float, float] | None
    """Centre of voxel (0, 0, 0): position of the first slice."""
    direction: Floats | None
    """(3, 3), columns are the unit directions of i, j, k; the third is the step's own (not orthogonal if sheared)."""
    affine: Floats | None
    """(4, 4), or None where not uniform or without positions."""
    uniform: bool
    sheared: bool
    max_residual_mm: float
    """Largest |affine(k) - position_k| (0.0 for one slice); against the straight uniform grid where not uniform."""
    missing_slices: tuple[int, ...]
    """Indices on the full grid that have no slice."""
    has_position: bool
    frame_of_reference_uid: str | None
    z_mm: Floats
    """(z,) coordinate of each slice along the own axis: translation + k * dz exactly where uniform."""


@dataclass(frozen=True, slots=True, eq=False)
class Volume:
    """Frames that form one grid, or one honest irregular stack, in slice order."""

    kind: str
    """localizer, segmentation, dose, slide, cine, 4d, volume, 2d (behaviour.md, Kinds)."""
    cells: Ints
    """(t, c, z) rows of the series' ``Frames``; -1 where there is no frame. t = 1 and c = 1 where absent."""
    axes: tuple[Axis, ...]
    """The t and c axes that the array has (colour is not among them)."""
    geometry: Geometry
    reasons: tuple[Reason, ...]


class Question(NamedTuple):
    """Two frames rows of the same SOP Instance UID whose pixels must be compared before grouping can go on."""

    first: int
    second: int


class Answer(NamedTuple):
    """What the comparison found for a question."""

    first: int
    second: int
    same_pixels: bool


class Decided(NamedTuple):
    """An outcome of one frame row that grouping decided."""

    row: int
    outcome: Outcome
    code: Code
    message: str


@dataclass(frozen=True, slots=True, eq=False)
class Grouping:
    """What one series became."""

    volumes: tuple[Volume, ...]
    """In the order of their numbers n."""
    decided: tuple[Decided, ...]
    """Rows that are in no volume (duplicate, conflict, failed)."""
    questions: tuple[Question, ...]
    """Unanswered questions; while there are any, the frames in them stand as ``undecided`` in the volumes."""


# ---------------------------------------------------------------------------- the plan


@dataclass(frozen=True, slots=True)
class ValueRule:
    """How stored values become the array's values (behaviour.md, Values and Type)."""

    values: Literal["modality", "stored"]
    dtype: str
    """numpy name of the planned type."""
    dtype_fallback: str | None
    """The type to rerun in if a value does not fit ``dtype``."""
    channels: int
    """Length of the colour (or sample) axis; 1: no such axis from samples."""
    photometric: str
    """Of the array: MONOCHROME1, MONOCHROME2, RGB."""
    source_photometric: str
    rescale_per_slice: bool
    padding_stored: int | None
    padding_limit_stored: int | None
    padding_value: float | None
    fill_value: float
    """What absent slices hold: NaN, else the rescaled padding, else the type's minimum (0 for a segmentation)."""
    invert: bool
    """MONOCHROME1 turned over: maximum of the declared range minus the value."""
    lossy: bool


@dataclass(frozen=True, slots=True)
class ArraySpec:
    """One Zarr array to be: 3 to 5 axes in the order (t, c, z, y, x)."""

    axes: str
    """For example zyx, tczyx."""
    shape: tuple[int, ...]
    dtype: str
    chunks: tuple[int, ...]
    shards: tuple[int, ...]
    codec: str
    fill_value: float


@dataclass(frozen=True, slots=True, eq=False)
class VolumePlan:
    """One volume to be written: everything that decides its bytes."""

    path: str
    """Below DEST: <study uid>/<series uid>/<n>.ome.zarr, made of safe names."""
    patient: str
    """Key of the patient: P and 10 base32 characters."""
    volume: Volume
    frames: Frames
    """The series' frames that ``volume.cells`` points into."""
    rule: ValueRule
    array: ArraySpec
    reasons: tuple[Reason, ...]
    """Those of the volume and those that planning adds."""
    digest: str
    """Of the sources (path-free: UIDs, sizes, mtimes), options and format version."""
    metadata: Literal["technical", "full", "none"] = "technical"
    """What of the headers enters the store."""


class PixelFormat(NamedTuple):
    """What the decoder must know of an instance (PS3.3 C.7.6.3); shared by its frames."""

    transfer_syntax: str
    rows: int
    columns: int
    samples: int
    planar: int
    photometric: str
    bits_allocated: int
    bits_stored: int
    high_bit: int
    signed: bool
    n_frames: int
    keyword: str
    """PixelData, FloatPixelData, DoubleFloatPixelData."""


class FrameSource(NamedTuple):
    """Where one slice comes from, and how its values are to be read."""

    path: str
    """As the operating system takes it (surrogateescape)."""
    size: int
    """Bytes the file had when it was scanned."""
    mtime_ns: int
    pixel_offset: int
    pixel_length: int
    table_offset: int
    """-1: no Extended Offset Table."""
    table_length: int
    frame: int
    tile: int
    """-1: the whole frame."""
    tiles: int
    """Tiles of the mosaic, 0: none."""
    format: PixelFormat
    slope: float
    intercept: float
    lut: bytes | None


@dataclass(frozen=True, slots=True, eq=False)
class ShardTask:
    """The unit of writing: whole shards of one array and all that is needed to fill them."""

    volume: str
    """``VolumePlan.path``."""
    target: str
    """Folder of the array that is being built: <partial>/0/image."""
    array: ArraySpec
    rule: ValueRule
    region: tuple[tuple[int, int], ...]
    """(start, stop) of each axis: a whole number of shards, or up to the array's end."""
    sources: tuple[FrameSource | None, ...]
    """One a (t, c, z) cell of the region in C order (without a colour axis); None: absent slice."""
    metadata: Literal["technical", "full", "none"]


class FrameFault(NamedTuple):
    """One frame that could not be read or decoded."""

    cell: int
    """Index into ``ShardTask.sources``."""
    code: Code
    message: str


@dataclass(frozen=True, slots=True, eq=False)
class ShardResult:
    """What a finished task tells."""

    volume: str
    region: tuple[tuple[int, int], ...]
    bytes_written: int
    bytes_read: int
    hashes: tuple[str, ...]
    """xxh3-128 hex of the output values of each cell, little-endian C order (colour included)."""
    faults: tuple[FrameFault, ...]
    """Not empty: nothing of the task may be published."""
    overflow: bool
    """A value did not fit ``array.dtype``: rerun in the fallback."""
    notes: tuple[tuple[int, Code, str], ...]
    """(cell, code, message) of what was repaired or is odd, but right."""
    tags: Any
    """``scan.tags.TagTable`` of the cells' headers, or None for metadata none."""


# ---------------------------------------------------------------------------- the catalogue

CATALOG_COLUMNS: tuple[tuple[str, str], ...] = (
    ("index", "int"),
    ("patient", "text"),
    ("study", "string"),
    ("series", "string"),
    ("volume", "string"),
    ("modality", "text"),
    ("kind", "text"),
    ("description", "text"),
    ("protocol", "text"),
    ("body_part", "text"),
    ("manufacturer", "text"),
    ("model", "text"),
    ("kernel", "text"),
    ("image_type", "text"),
    ("pixel_origin", "text"),
    ("exam_role", "text"),
    ("photometric", "text"),
    ("slices", "int"),
    ("rows", "int"),
    ("columns", "int"),
    ("channels", "int"),
    ("timepoints", "int"),
    ("spacing_x", "float"),
    ("spacing_y", "float"),
    ("spacing_z", "float"),
    ("thickness", "float"),
    ("gap", "float"),
    ("uniform", "bool"),
    ("sheared", "bool"),
    ("missing_slices", "int"),
    ("bits_stored", "int"),
    ("dtype", "text"),
    ("shape", "string"),
    ("transfer_syntax", "text"),
    ("study_date", "text"),
    ("creation_time", "text"),
    ("content_time", "text"),
    ("burned_in_risk", "bool"),
    ("reasons", "string"),
    ("files", "int"),
    ("frames", "int"),
    ("bytes", "long"),
)
"""One schema for ``scan``, ``map.parquet`` and ``catalog.parquet``; ``index`` is the volume's n, ``reasons`` its codes
joined by ``;``, ``shape`` is written 4x60x512x512. ``spacing_z`` is null where its source is ``none``."""
