"""Compare a converted store with independent readers, frame by frame and volume by volume.

    python scripts/conformance.py SRC... [--nifti FOLDER] [--work DIR] [--json]

It converts SRC, then asks pydicom for every stored frame, SimpleITK for every classic volume that it reads
rightly, and the NIfTI files below FOLDER (made by other converters) for voxels at the same physical points.
Nothing of fastdcm decides here but ``convert`` itself and the tables of the store: frames are found by
``frames.parquet`` and ``files.parquet``, everything else is computed from the source files.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes

import numpy as np
import pyarrow.parquet as pq
import pydicom
import pydicom.config
import zarr
from pydicom.dataset import Dataset
from pydicom.pixels.processing import apply_color_lut, apply_modality_lut
from pydicom.pixels.utils import get_nr_frames, pixel_array

LOSSY = {  # transfer syntaxes whose decoders may differ, and by how much (grey, colour)
    "1.2.840.10008.1.2.4.50": (1, 2),
    "1.2.840.10008.1.2.4.51": (2, 2),
    "1.2.840.10008.1.2.4.81": (1, 2),
    "1.2.840.10008.1.2.4.91": (1, 2),
    "1.2.840.10008.1.2.4.93": (1, 2),
    "1.2.840.10008.1.2.4.203": (1, 2),
}


@dataclass
class Tally:
    """What a comparison counted, and every disagreement in words."""

    counts: Counter[str] = field(default_factory=Counter)
    disagreements: list[str] = field(default_factory=list)

    def differ(self, what: str) -> None:
        """Record a disagreement."""
        self.counts["different"] += 1
        self.disagreements.append(what)


def source_path(sources: Sequence[Path], source: int, relative: str) -> Path:
    """Return the file that a row of ``files.parquet`` names."""
    root = sources[source]
    return root if root.is_file() else root / Path(unquote_to_bytes(relative).decode("utf-8", "surrogateescape"))


# ------------------------------------------------------------------------------------ frames by pydicom


def stored_frames(store: Path, sources: Sequence[Path]) -> Iterator[tuple[Path, list[dict[str, Any]]]]:
    """Yield each converted file with its rows of ``frames.parquet``."""
    files = pq.read_table(store / "files.parquet").to_pylist()
    by_file: dict[int, list[dict[str, Any]]] = {}
    for row in pq.read_table(store / "frames.parquet").to_pylist():
        by_file.setdefault(row["file"], []).append(row)
    paths = {row["file"]: source_path(sources, row["source"], row["path"]) for row in files}
    for number, rows in by_file.items():
        yield paths[number], rows


def item(ds: Dataset, frame: int, keyword: str) -> Dataset | None:
    """Return the first item of a functional group macro of a frame, per frame over shared."""
    per_frame = ds.get("PerFrameFunctionalGroupsSequence")
    shared = ds.get("SharedFunctionalGroupsSequence")
    for groups in ((per_frame[frame] if per_frame and frame < len(per_frame) else None), shared[0] if shared else None):
        if groups is not None and groups.get(keyword):
            found = groups[keyword].value[0]
            assert isinstance(found, Dataset)
            return found
    return None


def modality_values(ds: Dataset, frame: int, stored: np.ndarray) -> np.ndarray:
    """Return float64 modality values of one frame, by pydicom's arithmetic or the functional group's numbers."""
    group = item(ds, frame, "PixelValueTransformationSequence")
    if group is not None:
        return stored.astype(np.float64) * float(group.RescaleSlope) + float(group.RescaleIntercept)
    if ds.get("DoseGridScaling") is not None:
        return stored.astype(np.float64) * float(ds.DoseGridScaling)
    if ds.get("ModalityLUTSequence") and ds.Modality in ("XA", "RF"):
        return stored.astype(np.float64)
    if not ds.get("ModalityLUTSequence"):
        slope, intercept = ds.get("RescaleSlope"), ds.get("RescaleIntercept")
        if slope == 0:  # unreadable by the standard: stored values
            return stored.astype(np.float64)
        return stored.astype(np.float64) * float(1 if slope is None else slope) + float(intercept or 0)
    return np.asarray(apply_modality_lut(stored, ds), np.float64)


def expected_frame(ds: Dataset, pixels: np.ndarray, row: dict[str, Any]) -> np.ndarray:
    """Return what the slice of a stored frame should hold: (rows, columns) or (channels, rows, columns)."""
    frame = pixels[row["frame"]]
    segments = ds.SOPClassUID in (
        "1.2.840.10008.5.1.4.1.1.66.4",
        "1.2.840.10008.5.1.4.1.1.66.7",
    )  # numbers, not colours
    if (
        not segments
        and ds.PhotometricInterpretation == "PALETTE COLOR"
        and ds.get("RedPaletteColorLookupTableDescriptor")
    ):
        return np.moveaxis(apply_color_lut(frame, ds), -1, 0)
    if ds.SamplesPerPixel > 1:
        return np.moveaxis(frame, -1, 0)
    if row["tile"] is not None:
        side_y, side_x = row["shape"]
        across = frame.shape[1] // side_x
        y, x = divmod(row["tile"], across)
        frame = frame[y * side_y : (y + 1) * side_y, x * side_x : (x + 1) * side_x]
    return modality_values(ds, row["frame"], frame)


def stored_slice(volumes: dict[str, tuple[np.ndarray, str]], store: Path, row: dict[str, Any]) -> np.ndarray:
    """Return the slice of the store that a row names, colour first."""
    if row["volume"] not in volumes:
        volumes.clear()
        array = zarr.open_array(store / row["volume"] / "0" / "image", mode="r")
        names = "".join(str(name) for name in array.metadata.dimension_names or ())  # type: ignore[union-attr]
        volumes[row["volume"]] = (np.asarray(array[...]), names)
    data, names = volumes[row["volume"]]
    index = tuple(
        slice(None) if name in "yx" or (name == "c" and row["c"] is None) else (row[name] or 0) for name in names
    )
    return np.asarray(data[index])


def compare_values(found: np.ndarray, expected: np.ndarray, syntax: str) -> str | None:
    """Return None where equal, else the difference in words; floats are compared after the same rounding."""
    if found.shape != expected.shape:
        return f"shape {found.shape} is not {expected.shape}"
    if found.dtype == np.float32:
        expected = expected.astype(np.float32)
    same = (found == expected) | (np.isnan(found.astype(np.float64)) & np.isnan(expected.astype(np.float64)))
    if same.all():
        return None
    largest = float(np.abs(found.astype(np.float64) - expected.astype(np.float64)).max())
    bound = LOSSY.get(syntax, (0, 0))[found.ndim > 2]
    return None if largest <= bound else f"largest difference {largest:g}, {np.mean(~same):.2%} of the voxels"


def check_frames(store: Path, sources: Sequence[Path]) -> Tally:
    """Compare every stored frame with pydicom's decoding of the same SOP instance and frame number."""
    tally = Tally()
    volumes: dict[str, tuple[np.ndarray, str]] = {}
    for path, rows in stored_frames(store, sources):
        ds = pydicom.dcmread(path, force=True)
        meta = ds.file_meta.get("TransferSyntaxUID") if hasattr(ds, "file_meta") else None
        syntax = str(meta or "1.2.840.10008.1.2")
        try:
            if meta is None:
                ds.file_meta.TransferSyntaxUID = pydicom.uid.ImplicitVRLittleEndian
            pixels = np.asarray(pixel_array(ds))
        except Exception as error:  # noqa: BLE001  whatever pydicom's plugins raise: it has no answer then
            tally.counts["pydicom cannot decode"] += len(rows)
            tally.counts[f"pydicom cannot decode: {syntax}"] += len(rows)
            tally.disagreements.append(f"{path}: fastdcm converts, pydicom says {type(error).__name__}: {error}"[:300])
            continue
        if get_nr_frames(ds, warn=False) == 1:
            pixels = pixels[None]
        for row in rows:
            found = stored_slice(volumes, store, row)
            row["shape"] = found.shape[-2:]
            if str(ds.get("SOPInstanceUID", "")) != (row["sop_instance_uid"] or ""):
                tally.differ(f"{path}: SOP Instance UID {ds.get('SOPInstanceUID')} is not {row['sop_instance_uid']}")
                continue
            wrong = compare_values(found, expected_frame(ds, pixels, row), syntax)
            if wrong is None:
                tally.counts["equal"] += 1
            else:
                tally.differ(f"{path} frame {row['frame']} tile {row['tile']}: {wrong}")
    return tally


def check_left_out(store: Path, sources: Sequence[Path]) -> Tally:
    """List the files that pydicom can decode and the store does not hold, by outcome and code."""
    tally = Tally()
    for row in pq.read_table(store / "files.parquet").to_pylist():
        tally.counts[f"{row['outcome']}/{row['code'] or ''}"] += 1
        if row["outcome"] not in ("failed", "not-dicom", "not-image", "conflict"):
            continue
        path = source_path(sources, row["source"], row["path"])
        try:
            pixels = np.asarray(pixel_array(pydicom.dcmread(path, force=True)))
        except Exception:  # noqa: BLE001  any refusal agrees with ours
            continue
        tally.disagreements.append(
            f"{path}: {row['outcome']}/{row['code']} ({row['message']}), but pydicom decodes {pixels.shape}"
        )
    return tally


# ------------------------------------------------------------------------------------ volumes by SimpleITK


def check_simpleitk(store: Path, sources: Sequence[Path]) -> Tally:
    """Compare every uniform, unsheared 3-D volume of single-frame files with SimpleITK's reading of the same files."""
    import SimpleITK as sitk

    import fastdcm

    tally = Tally()
    files = {row["file"]: row for row in pq.read_table(store / "files.parquet").to_pylist()}
    members: dict[str, list[dict[str, Any]]] = {}
    for row in pq.read_table(store / "frames.parquet").to_pylist():
        members.setdefault(row["volume"], []).append(row)
    opened = fastdcm.open(store)
    assert isinstance(opened, fastdcm.Store)
    for volume in opened.volumes:
        rows = members[str(Path(volume.path).relative_to(store))]
        attributes = volume.attributes["fastdcm"]
        geometry = attributes["geometry"]
        if any(row["t"] or row["frame"] or row["tile"] is not None or row["c"] for row in rows):
            tally.counts["not classic 3-D"] += 1
            continue
        if not geometry.get("affine") or geometry["sheared"] or len(rows) < 2:
            tally.counts["one slice, sheared or uneven"] += 1
            continue
        if attributes["intensity"]["source_photometric_interpretation"] == "MONOCHROME1":
            tally.counts["MONOCHROME1, which SimpleITK inverts"] += 1
            continue
        rows.sort(key=lambda row: row["z"])
        paths = [str(source_path(sources, files[row["file"]]["source"], files[row["file"]]["path"])) for row in rows]
        try:
            image = sitk.ReadImage(paths)
        except RuntimeError:
            tally.counts["SimpleITK cannot read"] += 1
            continue
        wrong = differences(volume, image, sitk.GetArrayFromImage(image), attributes)
        if wrong:
            tally.differ(f"{volume.path.name} ({paths[0]}): {'; '.join(wrong)}")
        else:
            tally.counts["equal"] += 1
    return tally


def differences(volume: Any, image: Any, values: np.ndarray, attributes: dict[str, Any]) -> list[str]:
    """Return in words what differs between a volume and SimpleITK's image of it."""
    wrong = []
    for name, ours, theirs in (
        ("origin", volume.origin, image.GetOrigin()),
        ("spacing", volume.spacing, image.GetSpacing()),
        ("direction", np.ravel(volume.direction), image.GetDirection()),
    ):
        if not np.allclose(ours, theirs, rtol=0, atol=1e-3 if name == "direction" else 1e-4):
            wrong.append(f"{name} {np.round(ours, 6).tolist()} is not {np.round(theirs, 6).tolist()}")
    found = volume.numpy()
    if values.ndim == 4 and found.ndim == 4:
        found = np.moveaxis(found, 0, -1)
    if attributes["intensity"].get("rescale_per_slice"):
        return wrong  # SimpleITK takes the first file's type for all
    syntaxes = set(attributes["source"]["transfer_syntax_uids"])
    lossy = 2 if attributes["intensity"].get("lossy") or syntaxes & set(LOSSY) else 0
    if found.shape != values.shape:
        wrong.append(f"shape {found.shape} is not {values.shape}")
    elif np.abs(found.astype(np.float64) - values.astype(np.float64).astype(found.dtype)).max() > lossy:
        wrong.append("voxels differ")
    return wrong


# ------------------------------------------------------------------------------------ NIfTI references


def same_in_space(volume: Any, reference: Any, *, shift_mm: float = 1e-2) -> str | None:
    """Compare a volume with a nibabel image voxel by voxel in physical space.

    The reference's voxel grid is mapped into the volume's through both affines; the map must be a whole-voxel
    permutation with flips. Repeats are compared in order, t over c. Returns None where equal, else why not.
    """
    theirs = np.asarray(reference.dataobj)
    if theirs.dtype.fields:
        theirs = np.stack([theirs[name] for name in "RGB"], axis=-1)
        theirs = theirs.reshape(*theirs.shape[:3], -1)
    theirs = theirs.reshape(*theirs.shape[:3], -1)
    ours = np.asarray(volume.numpy())
    ours = np.moveaxis(ours.reshape(-1, *ours.shape[-3:]), 0, -1).transpose(2, 1, 0, 3)  # (x, y, z, repeats)
    to_ours = np.linalg.inv(volume.affine("RAS")) @ reference.affine
    matrix, offset = np.round(to_ours[:3, :3]), to_ours[:3, 3]
    corners = np.stack(np.meshgrid(*[(0, n - 1) for n in theirs.shape[:3]], indexing="ij"), -1).reshape(-1, 3)
    exact = corners @ to_ours[:3, :3].T + offset
    whole = corners @ matrix.T + np.round(offset)
    off_mm = np.abs((exact - whole) * np.asarray(volume.spacing)).max()
    if off_mm > shift_mm:
        return f"grids lie {off_mm:.3f} mm apart"
    grid = np.stack(np.meshgrid(*[np.arange(n) for n in theirs.shape[:3]], indexing="ij"), -1)
    index = (grid @ matrix.T + np.round(offset)).astype(int)
    if (index < 0).any() or (index >= ours.shape[:3]).any():
        return f"the reference reaches outside: shape {theirs.shape} against {ours.shape}"
    if theirs.shape[3] != ours.shape[3]:
        return f"{theirs.shape[3]} repeats against {ours.shape[3]}"
    picked = ours[index[..., 0], index[..., 1], index[..., 2]]
    if np.allclose(picked, theirs, rtol=1e-5, atol=1e-4, equal_nan=True):
        return None
    order = [
        [k for k in range(theirs.shape[3]) if np.allclose(picked[..., n], theirs[..., k], rtol=1e-5, atol=1e-4)]
        for n in range(theirs.shape[3])
    ]
    if all(order):
        return f"same volumes in another order of repeats: {order}"
    largest = np.nanmax(np.abs(picked.astype(np.float64) - theirs.astype(np.float64)))
    return f"voxels differ by up to {largest:g}, {np.mean(picked != theirs):.2%} of them"


def report(name: str, tally: Tally) -> None:
    """Print one comparison."""
    print(f"\n== {name}")
    for what, count in sorted(tally.counts.items()):
        print(f"{count:8d}  {what}")
    for line in tally.disagreements:
        print(f"      - {line}")


def main() -> int:
    """Convert, compare, print; 1 where anything differs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("sources", nargs="+", type=Path)
    parser.add_argument("--store", type=Path, help="an existing store of these sources")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE
    import fastdcm

    with tempfile.TemporaryDirectory() as folder:
        store = options.store or Path(folder) / "store.zarr"
        if options.store is None:
            fastdcm.convert([str(source) for source in options.sources], str(store))
        tallies = {
            "outcomes; files that pydicom decodes and the store does not hold": check_left_out(store, options.sources),
            "stored frames against pydicom": check_frames(store, options.sources),
            "classic volumes against SimpleITK": check_simpleitk(store, options.sources),
        }
    for name, tally in tallies.items():
        report(name, tally)
    if options.json:
        print(json.dumps({name: dict(tally.counts) for name, tally in tallies.items()}))
    return int(any(tally.counts["different"] for tally in tallies.values()))


if __name__ == "__main__":
    sys.exit(main())
