"""One tool on one hard case: what it makes of the folder, as planes at their places.

    python -m benchmarks.hard_case_tools TOOL SOURCE OUT

Each tool is used as its documentation says, and runs in a process of its own; OUT is a .npz file.
"""

from __future__ import annotations

import importlib
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


class Made(NamedTuple):
    """An image that a tool made."""

    values: Array
    """(planes, y, x); repeats one after the other."""
    positions: Array | None
    """(planes, 3) LPS mm of the first voxel of each plane; None: it says that it does not know."""
    across: Array
    """(3, 2) steps along x and y, LPS mm."""


def by_simpleitk(source: Path) -> list[Made]:
    """Read every series that GDCM lists, as the manual's example does."""
    import SimpleITK as sitk

    made = []
    for uid in sitk.ImageSeriesReader.GetGDCMSeriesIDs(str(source)):
        reader: Any = sitk.ImageSeriesReader()
        reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(source), uid))
        image: Any = reader.Execute()
        affine = np.eye(4)
        affine[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
        affine[:3, 3] = image.GetOrigin()
        made.append(from_affine(sitk.GetArrayFromImage(image), affine))
    return made


def by_dcm2niix(source: Path) -> list[Made]:
    """Run the program; images that it resamples in addition are left aside."""
    program: Any = importlib.import_module("dcm2niix")
    out = source.with_name("nii")
    out.mkdir()
    done = subprocess.run(
        [program.bin, "-z", "n", "-b", "n", "-m", "n", "-f", "%s", "-o", str(out), str(source)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    print(done.stdout, done.stderr, sep="\n")
    return [of_nifti(path) for path in sorted(out.glob("*.nii")) if "_Eq" not in path.name and "_Tilt" not in path.name]


def by_dicom2nifti(source: Path) -> list[Made]:
    """Convert the folder in the orientation of the files."""
    from dicom2nifti import convert_directory

    out = source.with_name("nii")
    out.mkdir()
    convert_directory(str(source), str(out), compression=False, reorient=False)
    return [of_nifti(path) for path in sorted(out.glob("*.nii"))]


def by_highdicom(source: Path) -> list[Made]:
    """Make a volume of the files of each series."""
    import highdicom
    import pydicom

    series: dict[str, list[pydicom.Dataset]] = {}
    for path in sorted(source.glob("*.dcm")):
        dataset = pydicom.dcmread(path)
        series.setdefault(dataset.SeriesInstanceUID, []).append(dataset)
    made = []
    for datasets in series.values():
        volume = highdicom.get_volume_from_series(
            datasets, apply_voi_transform=False, apply_presentation_lut=False, apply_real_world_transform=False
        )
        made.append(from_affine(np.asarray(volume.array), np.asarray(volume.affine)[:, [2, 1, 0, 3]]))
    return made


def by_fastdcm(source: Path) -> list[Made]:
    """Convert the folder with defaults and read the store."""
    import fastdcm

    report = fastdcm.convert(str(source), str(source.with_name("out.zarr")), workers=1)
    for failure in report.failures:
        print("error:", failure.message)
    store = fastdcm.open(source.with_name("out.zarr"))
    assert isinstance(store, fastdcm.Store)
    return [of_volume(volume) for volume in store.volumes]


def of_volume(volume: Any) -> Made:
    """Return a volume of a store; its places are its positions, held against its affine where it has one."""
    attributes = volume.attributes["fastdcm"]
    values = volume.numpy().reshape(-1, *volume.shape[-2:])
    if not attributes["geometry"]["has_position"]:
        return Made(values, None, np.eye(3)[:, :2] * volume.spacing[:2])
    across = volume.direction[:, :2] * volume.spacing[:2]
    positions = np.array(attributes["slices"]["position"], np.float64)
    if attributes["geometry"].get("affine"):
        affine = volume.affine("LPS")
        k = np.arange(len(positions)) % volume.shape[-3]
        positions = affine[:3, 3] + k[:, None] * affine[:3, 2]
        across = affine[:3, :2]
    return Made(values, positions, across)


def of_nifti(path: Path) -> Made:
    """Return a NIfTI image; where neither form code is set it has no place."""
    import nibabel

    image: Any = nibabel.load(path)
    values = np.asarray(image.dataobj).T
    made = from_affine(values, RAS_TO_LPS @ image.affine)
    if not image.header["sform_code"] and not image.header["qform_code"]:
        return made._replace(positions=None)
    return made


def from_affine(values: Array, affine: Array) -> Made:
    """Return an image with (4, 4) affine to LPS; ``values`` are ([t,] z, y, x)."""
    n = values.shape[-3]
    planes = values.reshape(-1, *values.shape[-2:])
    k = np.arange(len(planes)) % n
    return Made(planes, affine[:3, 3] + k[:, None] * affine[:3, 2], affine[:3, :2])


TOOLS: Mapping[str, Callable[[Path], list[Made]]] = {
    "SimpleITK": by_simpleitk,
    "dcm2niix": by_dcm2niix,
    "dicom2nifti": by_dicom2nifti,
    "highdicom": by_highdicom,
    "fastdcm": by_fastdcm,
}


def main() -> int:
    """Run one tool."""
    tool, source, out = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    arrays: dict[str, Any] = {}
    for number, made in enumerate(TOOLS[tool](source)):
        arrays |= {f"{number}-values": made.values, f"{number}-across": made.across}
        arrays |= {} if made.positions is None else {f"{number}-positions": made.positions}
    np.savez(out, **arrays)
    return 0


def load(path: Path) -> list[Made]:
    """Return what ``main`` wrote."""
    with np.load(path) as arrays:
        n = sum(name.endswith("values") for name in arrays)
        return [
            Made(
                arrays[f"{k}-values"],
                arrays.get(f"{k}-positions"),
                arrays[f"{k}-across"],
            )
            for k in range(n)
        ]


if __name__ == "__main__":
    sys.exit(main())
