"""Every volume of a store against SimpleITK's stack, dcm2niix's NIfTI and highdicom's volume of the same files.

dcm2niix and highdicom are compared by physical point: their voxel grid is mapped into the volume's through both
affines, and the map must be a whole-voxel permutation with flips.
"""

from __future__ import annotations

import importlib
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import nibabel
import numpy as np
import numpy.typing as npt
import pydicom

import fastdcm
from benchmarks.child import Child, Refusal
from benchmarks.judged import Finding, Judged, Row
from benchmarks.reference_frames import LOSSY, SEGMENTATIONS

Array = npt.NDArray[Any]
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


class Placed(NamedTuple):
    """An image of another tool, as nibabel's are: what ``difference_in_space`` takes."""

    dataobj: Array
    """(x, y, z[, repeats])."""
    affine: Array
    """(4, 4) to RAS mm."""


class Stack(NamedTuple):
    """What SimpleITK makes of a list of files."""

    values: Array
    """(z, y, x[, samples])."""
    origin: Array
    spacing: Array
    direction: Array


def check_volumes(judged: Judged, child: Child) -> Iterator[Finding]:
    """Compare every volume with each reference that reads such volumes, in a child process."""
    store = fastdcm.open(judged.store)
    assert isinstance(store, fastdcm.Store)
    for volume in store.volumes:
        name = str(volume.path.relative_to(judged.store))
        rows = judged.members[name]
        paths = list(dict.fromkeys(str(judged.path(row["file"])) for row in rows))
        for reference, answer in _answers(child, volume, rows, paths, judged):
            verdict = "refused" if isinstance(answer, Refusal) else "differs" if answer else "equal"
            text = answer.text if isinstance(answer, Refusal) else answer or ""
            file = judged.name(rows[0]["file"])
            yield Finding(reference, judged.kind(name), judged.syntax(name), verdict, file, text, str(volume.path))


def _answers(
    child: Child, volume: Any, rows: list[Row], paths: list[str], judged: Judged
) -> Iterator[tuple[str, str | Refusal | None]]:
    first = pydicom.dcmread(paths[0], stop_before_pixels=True, force=True)
    has_groups = "PerFrameFunctionalGroupsSequence" in first
    if not has_groups and len(paths) == len(rows) and all(row["tile"] is None for row in rows):
        yield "SimpleITK", _against_simpleitk(child, volume, rows, judged)
    if not volume.attributes["fastdcm"]["geometry"].get("affine"):
        return
    is_segmentation = first.get("SOPClassUID") in SEGMENTATIONS
    if not is_segmentation:
        answers = [_against_images(volume, child.call(by_dcm2niix, paths, scaling)) for scaling in ("n", "y")]
        yield "dcm2niix", min(answers, key=lambda answer: (answer is not None, isinstance(answer, Refusal)))
    if has_groups and len(paths) == 1:
        answer = child.call(by_highdicom, paths[0])
        if isinstance(answer, Refusal) and not is_segmentation:  # several frames at one position
            yield "highdicom", _against_frames(volume, child.call(by_highdicom_frames, paths[0]), rows)
            return
        yield "highdicom", _against_images(volume, answer)
    elif len(paths) == len(rows) > 1 and volume.axes == "zyx" and first.get("Modality") in ("CT", "MR", "PT"):
        yield "highdicom", _against_images(volume, child.call(by_highdicom_series, paths))


# ------------------------------------------------------------------------------------ SimpleITK


def by_simpleitk(paths: Sequence[str]) -> Stack:
    """Return SimpleITK's reading of the files in this order."""
    import SimpleITK as sitk

    image: Any = sitk.ReadImage(list(paths))
    size = image.GetDimension()
    direction = np.reshape(image.GetDirection(), (size, size))[:3, :3]
    return Stack(
        sitk.GetArrayFromImage(image), np.array(image.GetOrigin()[:3]), np.array(image.GetSpacing()[:3]), direction
    )


def _against_simpleitk(child: Child, volume: Any, rows: list[Row], judged: Judged) -> str | Refusal | None:
    """Compare each cell of t and c, one stack of files in the order of its slices."""
    cells: dict[tuple[int, int], list[Row]] = {}
    for row in rows:
        cells.setdefault((row["t"] or 0, row["c"] or 0), []).append(row)
    values = volume.numpy()
    values = values if volume.colour else values.reshape(-1, *values.shape[-3:])
    for number, cell in enumerate(cells.values()):
        stack = child.call(by_simpleitk, [str(judged.path(row["file"])) for row in cell])
        if isinstance(stack, Refusal):
            return stack
        found = np.moveaxis(values, -4, -1) if volume.colour else values[number]
        found = found.reshape(-1, *found.shape[-3:])[number] if found.ndim > 4 else found
        wrong = _stack_differences(volume, stack, found)
        if wrong:
            return "; ".join(wrong)
    return None


def _stack_differences(volume: Any, stack: Stack, values: Array) -> list[str]:
    attributes = volume.attributes["fastdcm"]
    n = values.shape[0]
    wrong = []
    if attributes["geometry"]["has_position"]:
        places = stack.origin + np.arange(n)[:, None] * stack.direction[:, 2] * stack.spacing[2]
        ours = np.array(attributes["slices"]["position"], object)
        ours = np.array([place for place in ours if place is not None][:n], np.float64)
        apart = float(np.abs(places - ours).max())
        if apart > 0.1:
            wrong.append(f"slices up to {apart:.3g} mm apart")
        if not np.allclose(volume.direction[:, :2], stack.direction[:, :2], atol=1e-3):
            wrong.append("in-plane directions differ")
    if not np.allclose(volume.spacing[:2], stack.spacing[:2], rtol=1e-4):
        wrong.append(f"in-plane spacing {_numbers(volume.spacing[:2])}, SimpleITK {_numbers(stack.spacing[:2])}")
    if values.shape != stack.values.shape:
        return [*wrong, f"shape {values.shape}, SimpleITK {stack.values.shape}"]
    lossy = 2 if set(attributes["source"]["transfer_syntax_uids"]) & set(LOSSY) else 0
    largest = float(np.abs(values.astype(np.float64) - stack.values.astype(np.float64).astype(values.dtype)).max())
    return [*wrong, f"values up to {largest:.6g} apart"] if largest > lossy else wrong


def _numbers(values: Any) -> str:
    return " x ".join(f"{value:.5g}" for value in values)


# ------------------------------------------------------------------------------------ dcm2niix


def by_dcm2niix(paths: Sequence[str], philips_scaling: str = "y") -> list[Placed]:
    """Return the images that dcm2niix makes of the files, none of those that it resamples.

    ``philips_scaling`` is its option -p: y multiplies by Philips' private scale slope, n does not.
    """
    program: Any = importlib.import_module("dcm2niix")
    with tempfile.TemporaryDirectory() as folder:
        source, out = Path(folder, "in"), Path(folder, "out")
        source.mkdir()
        out.mkdir()
        for number, path in enumerate(paths):
            (source / f"{number:05d}.dcm").symlink_to(Path(path).resolve())
        command = [
            program.bin,
            "-z",
            "n",
            "-b",
            "n",
            "-m",
            "n",
            "-p",
            philips_scaling,
            "-f",
            "a",
            "-o",
            str(out),
            str(source),
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=50, check=False)
        found = [path for path in sorted(out.glob("*.nii")) if "_Eq" not in path.name and "_Tilt" not in path.name]
        if not found:
            said = [
                line for line in done.stdout.splitlines() if "rror" in line or "arning" in line or "No valid" in line
            ]
            raise ValueError(said[0] if said else "no image")
        return [placed(nibabel.load(path)) for path in found]


def placed(image: Any) -> Placed:
    """Return a nibabel image with its values in memory, colour as repeats."""
    values = np.asarray(image.dataobj)
    if values.dtype.fields:
        values = np.stack([values[name] for name in "RGB"], axis=-1)
    return Placed(values.reshape(*(*values.shape, 1, 1)[:3], -1), np.asarray(image.affine))


# ------------------------------------------------------------------------------------ highdicom

PLAIN: dict[str, Any] = {
    "apply_real_world_transform": False,
    "apply_voi_transform": False,
    "apply_presentation_lut": False,
    "apply_palette_color_lut": False,
    "apply_icc_profile": False,
}


def by_highdicom(path: str) -> list[Placed]:
    """Return highdicom's volume of a multi-frame object; repeats are the segments of a segmentation."""
    dataset = _with_frame_of_reference(path)
    if dataset.SOPClassUID not in SEGMENTATIONS:
        return [_of_highdicom(_image(dataset).get_volume(**PLAIN))]
    from highdicom.seg import Segmentation

    image = Segmentation.from_dataset(dataset, copy=False)
    is_labelmap = dataset.SegmentationType == "LABELMAP"
    return [_of_highdicom(image.get_volume(combine_segments=is_labelmap, rescale_fractional=False))]


def by_highdicom_frames(path: str) -> Array:
    """Return (frames, rows, columns) of a multi-frame image, by highdicom's pixel transforms."""
    return np.asarray(_image(_with_frame_of_reference(path)).get_frames(**PLAIN))


def by_highdicom_series(paths: Sequence[str]) -> list[Placed]:
    """Return highdicom's volume of a series of single-frame files."""
    import highdicom

    return [
        _of_highdicom(highdicom.get_volume_from_series([_with_frame_of_reference(path) for path in paths], **PLAIN))
    ]


def _image(dataset: pydicom.Dataset) -> Any:
    from highdicom.image import Image

    return Image.from_dataset(dataset, copy=False)


def _with_frame_of_reference(path: str) -> pydicom.Dataset:
    dataset = pydicom.dcmread(path)
    if not dataset.get("FrameOfReferenceUID"):  # highdicom has no volume without; anonymisers remove it
        dataset.FrameOfReferenceUID = "1.2.3"
    return dataset


def _of_highdicom(volume: Any) -> Placed:
    values = np.moveaxis(np.asarray(volume.array), (0, 1, 2), (2, 1, 0))  # (slice, row, column) to (x, y, z)
    affine = np.asarray(volume.affine)[:, [2, 1, 0, 3]]
    return Placed(values.reshape(*values.shape[:3], -1), LPS_TO_RAS @ affine)


# ------------------------------------------------------------------------------------ the same points


def _against_images(volume: Any, images: list[Placed] | Refusal) -> str | Refusal | None:
    """Return None where the images hold, point by point, every cell of the volume, and nothing else."""
    if isinstance(images, Refusal):
        return images
    cells = np.asarray(volume.numpy()).reshape(-1, *volume.shape[-3:])
    reached = np.zeros(cells.shape, bool)
    why = "no image"
    for image in images:
        grid = grid_in(volume, image)
        if isinstance(grid, str):
            why = grid
            continue
        for repeat in np.moveaxis(image.dataobj, 3, 0):
            _mark_cell_like(cells, reached, grid, repeat)
        why = ""
    missed = np.flatnonzero([bool((cell != 0)[~mask].any()) for cell, mask in zip(cells, reached, strict=True)])
    return why or (f"{len(missed)} of {len(cells)} cells differ" if len(missed) else None)


def _mark_cell_like(cells: Array, reached: Array, grid: Array, repeat: Array) -> None:
    """Mark in the first cell that is equal to the repeat, and not yet reached there, what the repeat reaches."""
    x, y, z = np.moveaxis(grid, -1, 0)
    for cell, mask in zip(cells, reached, strict=True):
        if not mask[z, y, x].any() and np.allclose(cell[z, y, x], repeat, rtol=1e-5, atol=1e-4, equal_nan=True):
            mask[z, y, x] = True
            return


def _against_frames(volume: Any, frames: Array | Refusal, rows: list[Row]) -> str | Refusal | None:
    if isinstance(frames, Refusal):
        return frames
    values = volume.numpy()
    for row in rows:
        index = tuple(slice(None) if axis in "yx" else row[axis] or 0 for axis in volume.axes)
        if not np.allclose(values[index], frames[row["frame"]], rtol=1e-6, atol=1e-4):
            return f"frame {row['frame'] + 1} differs"
    return None


def grid_in(volume: Any, image: Any, *, shift_mm: float = 1e-2) -> Array | str:
    """Return the index (x, y, z) in the volume of each voxel of an image, or why there is none.

    Parameters
    ----------
    volume
        With an affine.
    image
        With ``affine`` (RAS, mm) and ``dataobj`` (x, y, z, ...).
    shift_mm
        How far two voxel centres that are one point may lie apart.

    Returns
    -------
    ndarray or str
        (x, y, z, 3) int, or the difference in words.
    """
    shape = image.dataobj.shape[:3]
    to_ours = np.linalg.inv(volume.affine("RAS")) @ image.affine
    matrix, offset = np.round(to_ours[:3, :3]), to_ours[:3, 3]
    corners = np.stack(np.meshgrid(*[(0, n - 1) for n in shape], indexing="ij"), -1).reshape(-1, 3)
    exact = corners @ to_ours[:3, :3].T + offset
    whole = corners @ matrix.T + np.round(offset)
    apart_mm = np.abs((exact - whole) * np.asarray(volume.spacing)).max()
    if apart_mm > shift_mm:
        return f"grids lie {apart_mm:.3f} mm apart"
    grid = np.stack(np.meshgrid(*[np.arange(n) for n in shape], indexing="ij"), -1)
    index: Array = (grid @ matrix.T + np.round(offset)).astype(int)
    outside = max(int((-index).max()), int((index - volume.shape[:-4:-1]).max()) + 1)
    if outside > 0:
        return f"reaches outside by {outside} voxels: shape {shape} against {volume.shape[:-4:-1]}"
    return index


def same_in_space(volume: Any, reference: Any) -> str | None:
    """Return None where a nibabel image holds the same values at the same points, repeats in order, else why not."""
    image = placed(reference)
    grid = grid_in(volume, image)
    if isinstance(grid, str):
        return grid
    ours = np.asarray(volume.numpy()).reshape(-1, *volume.shape[-3:])
    theirs = np.moveaxis(image.dataobj, 3, 0)
    if len(ours) != len(theirs):
        return f"{len(theirs)} repeats against {len(ours)}"
    x, y, z = np.moveaxis(grid, -1, 0)
    picked = ours[:, z, y, x]
    if np.allclose(picked, theirs, rtol=1e-5, atol=1e-4, equal_nan=True):
        return None
    largest = np.nanmax(np.abs(picked.astype(np.float64) - theirs.astype(np.float64)))
    return f"voxels differ by up to {largest:g}, {np.mean(picked != theirs):.2%} of them"
