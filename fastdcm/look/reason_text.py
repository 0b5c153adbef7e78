"""What every code means, and which option changes it: one sentence each, for ``explain`` and ``docs/reasons.md``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from fastdcm.errors import Code, Outcome


class ReasonText(NamedTuple):
    """A code in plain words."""

    meaning: str
    """What it says of a file or volume; it reads on after the code."""
    change: str = ""
    """The option that changes it, or what to do; empty where nothing needs to be done."""


_ON_BAD_FRAME = "`--on-bad-frame drop` leaves such images out, `fill` keeps their place with the fill value."
_ON_CONFLICT = "`convert --on-conflict newest` takes the later file."
_NOMINAL = "`nominal=True` of the loader takes the most frequent step, `export --resample` a regular grid."

REASONS: Mapping[Code, ReasonText] = {
    # not-dicom
    Code.NO_DICOM: ReasonText("The file is no DICOM file."),
    Code.EMPTY: ReasonText("The file has no bytes."),
    Code.APPLE_DOUBLE: ReasonText("A `._` file that a Mac leaves beside the real one."),
    # not-image
    Code.SOP_CLASS: ReasonText("Another kind of object: a report, structure set, waveform, presentation state."),
    Code.DICOMDIR: ReasonText("The directory of a medium: a list of files."),
    Code.VIDEO: ReasonText("MPEG or HEVC video."),
    # filtered
    Code.WHERE: ReasonText("The volume is not what was asked for.", "`--where`"),
    Code.IMAGE_TYPE: ReasonText("Its Image Type begins otherwise.", "`--image-type`"),
    Code.LOCALIZER: ReasonText("It is a localizer.", "`--no-localizers`"),
    Code.DERIVED: ReasonText("It is derived from other images.", "`--no-derived`"),
    Code.WSI_LABEL: ReasonText(
        "Label or overview of a slide, which shows the patient's name.", "`--metadata full` keeps it."
    ),
    # duplicate, conflict
    Code.SAME_PIXELS: ReasonText("Another file has the same SOP Instance UID and the same pixels: that one is kept."),
    Code.LOSSY_COPY: ReasonText("Another file has the same SOP Instance UID and the image without loss."),
    Code.PIXELS_DIFFER: ReasonText(
        "Another file has the same SOP Instance UID and other pixels: the volume is withheld.", _ON_CONFLICT
    ),
    Code.OLDER_COPY: ReasonText(
        "Another file has the same SOP Instance UID, other pixels and a later date.", "`--on-conflict quarantine`"
    ),
    Code.SIBLING_CONFLICT: ReasonText("A good file of a volume that a conflict withholds.", _ON_CONFLICT),
    Code.REPLACED: ReasonText("A later member of the same archive has its name, as if it had been unpacked over it."),
    # failed
    Code.UNREADABLE: ReasonText("The file or folder cannot be read.", "Copy it again."),
    Code.PERMISSION: ReasonText("There is no right to read it.", "Give the right to read it, and convert again."),
    Code.CHANGED: ReasonText("It changed while it was being converted.", "Convert again when the export is complete."),
    Code.BAD_HEADER: ReasonText("The header cannot be read as far as the pixels."),
    Code.NO_PIXELS: ReasonText("The header is one of an image, but there is no pixel data."),
    Code.TRUNCATED: ReasonText("The file has fewer bytes than its header declares.", _ON_BAD_FRAME),
    Code.BAD_SIZE: ReasonText("Rows, columns, samples, bits or frames make no image."),
    Code.DECODE: ReasonText("The pixel data cannot be decoded.", _ON_BAD_FRAME),
    Code.UNSUPPORTED_SYNTAX: ReasonText("An unknown or private transfer syntax.", _ON_BAD_FRAME),
    Code.UNSUPPORTED_PIXELS: ReasonText("A pixel format that is not supported.", _ON_BAD_FRAME),
    Code.UNSUPPORTED_WSI: ReasonText("A whole-slide image: not converted yet."),
    Code.SIBLING_FAILED: ReasonText("A good file of a volume that another file withholds.", _ON_BAD_FRAME),
    Code.GAP: ReasonText(
        "A slice is missing, and `--on-gap fail` was asked for.",
        "`--on-gap irregular`, `fill` or `split` convert it.",
    ),
    Code.INCOMPLETE: ReasonText("The written volume did not pass its check.", "Convert again."),
    Code.BAD_ARCHIVE: ReasonText(
        "The archive, or this member of it, is damaged, cut short, or packed by a method that is not read.",
        "Copy it again, or unpack it and convert the folder.",
    ),
    Code.ENCRYPTED: ReasonText("The member of the archive is encrypted.", "Unpack it and convert the folder."),
    Code.ARCHIVE_BOUND: ReasonText(
        "The archive has more members, unpacks to more bytes, or lies deeper in others than is read.",
        "Unpack it and convert the folder.",
    ),
    Code.INTERNAL: ReasonText("A fault of fastdcm.", "Please report it."),
    Code.DECODER_CRASH: ReasonText("A decoder ended its process on it three times.", _ON_BAD_FRAME),
    Code.DECODER_TIMEOUT: ReasonText(
        "A decoder did not come to an end with it, three times.",
        f"`--task-timeout` gives it more time. {_ON_BAD_FRAME}",
    ),
    Code.WORKER_LOST: ReasonText(
        "Worker processes ended while they did it, several times: too little memory, or something killed them.",
        "More `--memory`, fewer `--workers` or a smaller `--shard`; then the same command again.",
    ),
    # why a series became several volumes
    Code.SPLIT_ORIENTATION: ReasonText(
        "Image Orientation (0020,0037) differs.",
        "`--tolerance orientation=...` says which direction cosines are equal (1e-3).",
    ),
    Code.SPLIT_MATRIX: ReasonText(
        "Rows or Columns (0028,0010 and 0028,0011) differ.", '`--where "rows == 512"` takes one of them.'
    ),
    Code.SPLIT_SPACING: ReasonText(
        "Pixel Spacing (0028,0030) differs.",
        "`--tolerance spacing_relative=...` says which spacings are equal (1e-4).",
    ),
    Code.SPLIT_FRAME_OF_REFERENCE: ReasonText(
        "Frame of Reference UID (0020,0052) differs: positions cannot be compared."
    ),
    Code.SPLIT_SAMPLES: ReasonText(
        "Samples per Pixel (0028,0002) differs, or one is a palette or MONOCHROME1.",
        '`--where "channels == 1"` leaves colour out.',
    ),
    Code.SPLIT_NUMBER_TYPE: ReasonText("Integer, float and double pixels."),
    Code.SPLIT_IMAGE_TYPE: ReasonText(
        "Image Type (0008,0008), values 1 and 2 or a LOCALIZER, MIP or MPR marker, differs.",
        "`--image-type ORIGINAL/PRIMARY`, `--no-derived` and `--no-localizers` choose.",
    ),
    Code.SPLIT_KERNEL: ReasonText(
        "Convolution Kernel (0018,1210) differs.", "`--where \"kernel == 'LUNG'\"` takes one of them."
    ),
    Code.SPLIT_TABLE_JUMP: ReasonText(
        "The positions leave the line of the others sideways: the table or the patient moved.",
        "`--tolerance table_jump_mm=...` says from how many mm on (1).",
    ),
    Code.SPLIT_GAP: ReasonText(
        "Slices are missing, and `--on-gap split` was asked for.",
        "`--on-gap irregular` keeps one volume, `fill` gives a regular grid.",
    ),
    Code.SPLIT_AXIS: ReasonText(
        "More tags repeat the positions than t and c can hold, or a tag names stacks that are no grid together."
    ),
    Code.SPLIT_INSTANCE: ReasonText("Objects of this kind are never stacked across files: one volume an instance."),
    Code.RAGGED: ReasonText(
        "Positions have unequally many images: these are left over from the complete steps (an aborted run)."
    ),
    # flags
    Code.MISSING_SLICES: ReasonText(
        "A step is a whole multiple of the others: slices are probably missing.",
        "`--on-gap fill` gives a regular grid, `split` a volume for each run, `fail` none.",
    ),
    Code.GAP_FILLED: ReasonText(
        "Missing slices hold the fill value; `slices.present` says which.", "`--on-gap irregular` adds none."
    ),
    Code.IRREGULAR: ReasonText("The steps are uneven: no affine, the true positions are kept.", _NOMINAL),
    Code.SHEARED: ReasonText("The slices follow each other along another line than their normal (gantry tilt)."),
    Code.NO_POSITION: ReasonText(
        "Image Position (0020,0032) is absent or unreadable: ordered by Instance Number (0020,0013), no affine."
    ),
    Code.BAD_ORIENTATION: ReasonText("Image Orientation (0020,0037) is not two orthogonal directions: no affine."),
    Code.BAD_SPACING: ReasonText("Pixel Spacing (0028,0030) is absent, unreadable or not positive: no affine."),
    Code.BAD_RESCALE: ReasonText(
        "Rescale Slope (0028,1053) is 0, or it or the intercept is unreadable: stored values kept there.",
        "`--values stored` keeps stored values everywhere.",
    ),
    Code.AXIS_INFERRED: ReasonText(
        "No tag separates the repeats, or tells the runs of an interrupted series apart: the order of the images does."
    ),
    Code.UID_REUSED: ReasonText("SOP Instance UIDs of the volume occur in another series too: both are converted."),
    Code.UNDECIDED: ReasonText(
        "Two files have one SOP Instance UID, and their pixels were not compared yet.",
        "`convert --dry-run` compares them.",
    ),
    Code.FRAME_OF_REFERENCE_PER_INSTANCE: ReasonText(
        "Every image has a Frame of Reference UID (0020,0052) of its own: ignored."
    ),
    Code.ONE_SLICE_SERIES: ReasonText(
        "Several series of one slice look like one series: reported, never merged.",
        "Ask for an export with its Series Instance UIDs (0020,000E) intact.",
    ),
    Code.MOSAIC_UNKNOWN: ReasonText("A mosaic (Siemens) or grid (UIH) that does not tell its slices: one image."),
    Code.LOCALIZER_SUSPECT: ReasonText(
        "Few slices of orthogonal orientations, as in a localizer, but nothing says so.",
        '`--no-localizers` keeps it; `--where "slices > 3"` leaves it out.',
    ),
    Code.REPAIRED_SYNTAX: ReasonText("Transfer Syntax UID (0002,0010) is not what the bytes are: detected from them."),
    Code.LONG_PIXEL_DATA: ReasonText(
        "There are more pixel bytes than rows, columns and frames need: the rest is unused."
    ),
    Code.MODALITY_LUT: ReasonText(
        "The Modality LUT Sequence (0028,3000) was applied.", "`--values stored` leaves it out."
    ),
    Code.LUT_NOT_APPLIED: ReasonText(
        "The Modality LUT Sequence (0028,3000) was not applied: in XA and RF it linearises the detector."
    ),
    Code.LOSSY: ReasonText(
        "The pixels went through a lossy compression.", "`--where \"reasons not like '%lossy%'\"` leaves it out."
    ),
    Code.DTYPE_FALLBACK: ReasonText("A value did not fit the planned type: the volume was written in the wider one."),
    Code.FRAMES_DROPPED: ReasonText(
        "Images that cannot be used were left out (`--on-bad-frame drop`).", "`--on-bad-frame fill` keeps their place."
    ),
    Code.FRAMES_FILLED: ReasonText(
        "The place of images that cannot be used holds the fill value (`--on-bad-frame fill`).",
        "`--on-bad-frame drop` leaves them out.",
    ),
    Code.FILES_LOST: ReasonText(
        "Files of the series end inside their header, before what says where they lie: an image may be missing.",
        "Copy them again.",
    ),
    Code.BURNED_IN_RISK: ReasonText(
        "Names may stand in the pixels: by Burned In Annotation (0028,0301), or by the kind of image.",
        '`--where "not burned_in_risk"` leaves it out.',
    ),
}
"""Every ``Code``."""

OUTCOMES: Mapping[Outcome, str] = {
    Outcome.CONVERTED: "At least one frame of the file is in the store.",
    Outcome.DUPLICATE: "Another file has the same image, and that one is kept.",
    Outcome.CONFLICT: "Two files contradict each other, and their volume is withheld.",
    Outcome.FILTERED: "It was not asked for.",
    Outcome.NOT_IMAGE: "It is DICOM without an image that can be converted.",
    Outcome.NOT_DICOM: "It is no DICOM file.",
    Outcome.FAILED: "It cannot be converted; the code says why.",
}
"""Every ``Outcome``."""
