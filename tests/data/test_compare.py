"""Real segmentations and scans compared: counts against pydicom's pixels, ratios against SimpleITK's."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk

import fastdcm
from fastdcm.errors import UsageError
from fastdcm.load.volume import Store, Volume
from fastdcm.look.compare import Comparison, compare, comparison_lines

DATA = Path(os.environ["FASTDCM_DATA"])
HIGHDICOM = DATA / "ImagingDataCommons__highdicom/data/test_files"
DCMQI = DATA / "QIICR__dcmqi/data/segmentations"
SEGMENTATIONS = [
    HIGHDICOM / "seg_image_ct_binary.dcm",
    HIGHDICOM / "seg_image_ct_binary_overlap.dcm",
    HIGHDICOM / "seg_image_ct_true_fractional.dcm",
    DCMQI / "24x38x3/seg/label.seg",
    DCMQI / "liver.dcm",
    DCMQI / "partial_overlaps.dcm",
]
LABEL_MAPS = [DCMQI / "sparse-labelmap-noppv.dcm", DCMQI / "sparse-labelmap-ppv5.dcm"]
PAIRS = [
    (HIGHDICOM / "seg_image_ct_binary.dcm", HIGHDICOM / "seg_image_ct_true_fractional.dcm"),
    (HIGHDICOM / "seg_image_ct_true_fractional.dcm", HIGHDICOM / "seg_image_ct_binary_fractional.dcm"),
    (LABEL_MAPS[0], LABEL_MAPS[1]),
]


def stored(path: Path, folder: Path) -> Volume:
    fastdcm.convert(path, folder)
    store = fastdcm.open(folder)
    assert isinstance(store, Store)
    (volume,) = store.volumes
    return volume


def voxels_by_segment(path: Path) -> dict[int, int]:
    """Count what is not 0 in each segment, frame by frame."""
    dataset = pydicom.dcmread(path)
    frames = dataset.pixel_array.reshape(-1, dataset.Rows, dataset.Columns)
    shared = dataset.SharedFunctionalGroupsSequence[0]
    counts: dict[int, int] = {}
    for frame, group in zip(frames, dataset.PerFrameFunctionalGroupsSequence, strict=True):
        holder = group if "SegmentIdentificationSequence" in group else shared
        number = int(holder.SegmentIdentificationSequence[0].ReferencedSegmentNumber)
        counts[number] = counts.get(number, 0) + int(np.count_nonzero(frame))
    return counts


@pytest.mark.parametrize("path", SEGMENTATIONS, ids=lambda path: path.name)
def test_a_segmentation_and_its_store_overlap_wholly(path: Path, tmp_path: Path) -> None:
    found = compare(path, stored(path, tmp_path / "out.zarr"))
    counts = voxels_by_segment(path)
    assert found.equal
    assert {label: overlap.n_a for label, overlap in found.labels.items()} == counts
    assert {label: overlap.n_both for label, overlap in found.labels.items()} == counts
    assert found.n_a == found.n_b == sum(counts.values())
    assert found.dice == (1.0 if found.n_a else None)


@pytest.mark.parametrize("path", LABEL_MAPS, ids=lambda path: path.name)
def test_a_label_map_and_its_store_overlap_wholly(path: Path, tmp_path: Path) -> None:
    found = compare(path, stored(path, tmp_path / "out.zarr"))
    labels, counts = np.unique(pydicom.dcmread(path).pixel_array, return_counts=True)
    expected = {int(label): int(n) for label, n in zip(labels, counts, strict=True) if label}
    assert found.equal
    assert {label: overlap.n_both for label, overlap in found.labels.items()} == expected


@pytest.mark.parametrize(("a", "b"), PAIRS, ids=lambda path: path.name)
def test_two_segmentations_overlap_as_in_simpleitk(a: Path, b: Path, tmp_path: Path) -> None:
    found = compare(a, b, ignore_geometry=True)
    volumes = [stored(path, tmp_path / f"{name}.zarr") for name, path in (("a", a), ("b", b))]
    assert compare(*volumes, ignore_geometry=True) == found
    values = [volume.numpy() for volume in volumes]
    far = np.abs(values[0].astype(np.int64) - values[1])
    assert found.max_abs_difference == far.max()
    assert found.mae == pytest.approx(int(far.sum()) / far.size, rel=1e-15)
    assert found.n_differing == np.count_nonzero(far)
    check_mask(
        found, *(sitk.GetImageFromArray((one != 0).astype(np.uint8).reshape(-1, *one.shape[-2:])) for one in values)
    )
    assert max(map(len, comparison_lines(found, 80))) <= 80


def check_mask(found: Comparison, a: sitk.Image, b: sitk.Image) -> None:
    measured = sitk.LabelOverlapMeasuresImageFilter()
    measured.Execute(a, b)
    assert found.dice == pytest.approx(measured.GetDiceCoefficient(), rel=1e-14)
    assert found.jaccard == pytest.approx(measured.GetJaccardCoefficient(), rel=1e-14)
    assert found.volume_similarity == pytest.approx(measured.GetVolumeSimilarity(), rel=1e-14)
    assert found.false_negative == pytest.approx(measured.GetFalseNegativeError(), rel=1e-14)


def test_a_scan_is_what_simpleitk_reads(tmp_path: Path) -> None:
    folder = DCMQI / "ct-3slice"
    image = sitk.ReadImage(sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder)))
    values = sitk.GetArrayFromImage(image)
    found = compare(folder, stored(folder, tmp_path / "out.zarr"), threshold=150)
    assert found.equal
    assert found.shape == values.shape
    assert found.n_a == np.count_nonzero(values > 150)


def test_a_segmentation_is_not_compared_with_another_grid() -> None:
    with pytest.raises(UsageError, match="czyx 1x3x512x512 against czyx 5x3x512x512"):
        compare(DCMQI / "liver.dcm", DCMQI / "partial_overlaps.dcm")
