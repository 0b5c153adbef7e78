"""Two volumes compared: from DICOM, from a store, and by SimpleITK from the same files."""

from __future__ import annotations

import doctest
import json
import math
import os
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import SimpleITK as sitk
import zarr
from pydicom.dataset import Dataset

import fastdcm
from fastdcm.errors import CheckError, SourceError, UsageError
from fastdcm.load.volume import Store, Volume
from fastdcm.look import compare as compare_module
from fastdcm.look.compare import Comparison, compare, comparison_lines
from fastdcm.run import survey
from fastdcm.run.progress import Progress
from scripts.make_export import make
from tests import dicomgen
from tests.converted import convert
from tests.ministore import Small, write_store

Array = npt.NDArray[Any]
STANDARD, LUNG = (f"kernel == '{kernel}' and spacing_z < 2" for kernel in ("STANDARD", "LUNG"))
AFFINE = np.array([[0.5, 0, 0, -12], [0, 0.75, 0, 7.5], [0, 0, 2.5, -431], [0, 0, 0, 1]])


@pytest.fixture(scope="module")
def chest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with ``export`` (the chest CT of the notebook, thinned out) and ``out.zarr`` made of it."""
    folder = tmp_path_factory.mktemp("chest")
    make("ct-four", folder / "export", 0.04, 1, 1)
    fastdcm.convert(folder / "export", folder / "out.zarr")
    return folder


def read_series(folder: Path, kernel: str) -> tuple[Array, sitk.Image]:
    """Return the thin series of a kernel as SimpleITK reads it."""
    for series in sitk.ImageSeriesReader.GetGDCMSeriesIDs(str(folder)):
        names = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder), series)
        if len(names) < 5:
            continue
        reader = sitk.ImageFileReader()
        reader.SetFileName(names[0])
        reader.ReadImageInformation()
        if reader.GetMetaData("0018|1210").strip() == kernel:
            image = sitk.ReadImage(names)
            return sitk.GetArrayFromImage(image), image
    raise AssertionError(f"no series of {kernel}")


def masked(a: Array, b: Array) -> sitk.LabelOverlapMeasuresImageFilter:
    found = sitk.LabelOverlapMeasuresImageFilter()
    found.Execute(*(sitk.GetImageFromArray(side) for side in (a, b)))
    return found


def pair(folder: Path, a: Array, b: Array, *, affine: Array | None = AFFINE, **more: Any) -> tuple[Volume, Volume]:
    """Return two volumes of one store with these values."""
    names = ("1.2/1.2.3/0.ome.zarr", "1.2/1.2.4/0.ome.zarr")
    smalls = (Small(side, affine=affine, path=name, **more) for side, name in zip((a, b), names, strict=True))
    with zarr.config.set({"array.write_empty_chunks": True}):  # as the stores of fastdcm do
        store = fastdcm.open(write_store(folder / "pair.zarr", *smalls))
    assert isinstance(store, Store)
    first, second = (store[name] for name in names)
    return first, second


def expect_difference(found: Comparison, a: Array, b: Array) -> None:
    """Assert what Python's own integers say."""
    far = [abs(x - y) for x, y in zip(a.ravel().tolist(), b.ravel().tolist(), strict=True)]
    assert found.shape == a.shape
    assert found.n_voxels == len(far)
    assert found.n_differing == sum(one != 0 for one in far)
    assert found.equal is (not any(far))
    assert found.share_differing == found.n_differing / len(far)
    assert found.max_abs_difference == max(far)
    assert found.mae == pytest.approx(sum(far) / len(far), rel=1e-15)
    assert found.mse == pytest.approx(sum(one * one for one in far) / len(far), rel=1e-15)
    if found.max_index is not None:
        assert abs(int(a[found.max_index]) - int(b[found.max_index])) == max(far)
        assert found.max_index == tuple(int(at) for at in np.unravel_index(far.index(max(far)), a.shape))


# ---------------------------------------------------------------------------- the two kernels of the notebook


@pytest.fixture(scope="module")
def kernels(chest: Path) -> Comparison:
    return compare(f"{chest}/export#{STANDARD}", f"{chest}/export#{LUNG}")


def test_two_kernels_differ_as_simpleitk_and_wide_integers_say(chest: Path, kernels: Comparison) -> None:
    (a, image), (b, _) = (read_series(chest / "export", kernel) for kernel in ("STANDARD", "LUNG"))
    far = a.astype(np.int64) - b
    assert kernels.shape == a.shape
    assert kernels.dtypes == ("int16", "int16")
    assert not kernels.equal
    assert kernels.n_differing == np.count_nonzero(a != b)
    assert kernels.share_differing == np.count_nonzero(a != b) / a.size
    assert kernels.max_abs_difference == np.abs(far).max()
    assert kernels.mae == pytest.approx(int(np.abs(far).sum()) / a.size, rel=1e-15)
    assert kernels.mse == pytest.approx(int((far * far).sum()) / a.size, rel=1e-15)
    assert kernels.max_index is not None
    first = np.unravel_index(int(np.abs(far).argmax()), a.shape)
    assert kernels.max_index == tuple(int(at) for at in first)
    place = image.TransformIndexToPhysicalPoint([int(at) for at in first[::-1]])
    assert kernels.max_mm == pytest.approx(place, abs=1e-6)


def test_their_masks_overlap_as_in_simpleitk(chest: Path, kernels: Comparison) -> None:
    (a, _), (b, _) = (read_series(chest / "export", kernel) for kernel in ("STANDARD", "LUNG"))
    bones = compare(f"{chest}/export#{STANDARD}", f"{chest}/export#{LUNG}", threshold=40)
    for found, inside in ((kernels, (a != 0, b != 0)), (bones, (a > 40, b > 40))):
        measured = masked(*(one.astype(np.uint8) for one in inside))
        assert (found.n_a, found.n_b) == tuple(int(one.sum()) for one in inside)
        assert found.dice == pytest.approx(measured.GetDiceCoefficient(), rel=1e-14)
        assert found.jaccard == pytest.approx(measured.GetJaccardCoefficient(), rel=1e-14)
        assert found.mean_overlap == pytest.approx(measured.GetMeanOverlap(), rel=1e-14)
        assert found.volume_similarity == pytest.approx(measured.GetVolumeSimilarity(), rel=1e-14)
        assert found.false_negative == pytest.approx(measured.GetFalseNegativeError(), rel=1e-14)
        assert found.false_positive == pytest.approx(measured.GetFalsePositiveError(1), rel=1e-14)
    notebook = masked(a, b)  # every value a label, as it was done there
    assert kernels.same_value.dice == pytest.approx(notebook.GetDiceCoefficient(), rel=1e-14)
    assert kernels.same_value.jaccard == pytest.approx(notebook.GetJaccardCoefficient(), rel=1e-14)
    assert kernels.same_value.volume_similarity == pytest.approx(notebook.GetVolumeSimilarity(), rel=1e-14)
    assert bones.same_value == kernels.same_value


def test_stores_and_files_give_the_same_result(chest: Path, kernels: Comparison) -> None:
    store = fastdcm.open(chest / "out.zarr")
    assert isinstance(store, Store)
    volumes = [store.query(where)[0] for where in (STANDARD, LUNG)]
    expected = kernels.as_json()
    assert compare(*volumes).as_json() == expected
    assert compare(f"{chest}/out.zarr#{STANDARD}", f"{chest}/export#{LUNG}").as_json() == expected
    assert compare(volumes[0].path, f"{volumes[1].path}").as_json() == expected
    assert compare(f"{chest}/export#{STANDARD}", volumes[1], workers=1, memory=2**22).as_json() == expected


def test_files_are_equal_to_the_store_that_was_made_of_them(chest: Path) -> None:
    store = fastdcm.open(chest / "out.zarr")
    assert isinstance(store, Store)
    for number, volume in enumerate(store.volumes):
        end = store.table["series"][number].as_py()[-12:]
        found = compare(f"{chest}/export#{end}/0", volume, ignore_geometry=False)
        assert found.equal
        assert (found.n_differing, found.max_abs_difference, found.max_index, found.mae) == (0, 0, None, 0.0)
        assert (found.dice, found.jaccard, found.volume_similarity) == (1.0, 1.0, 0.0)


def test_a_folder_that_is_named_twice_is_scanned_once(chest: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    scan = survey.survey_on

    def counted(engine: Any, sources: Any, *more: Any, **named: Any) -> Any:
        calls.append(sources)
        return scan(engine, sources, *more, **named)

    monkeypatch.setattr(survey, "survey_on", counted)
    monkeypatch.chdir(chest)
    stages = []
    compare(f"export#{STANDARD}", f"./export/#{LUNG}", progress=lambda progress: stages.append(progress.stage))
    assert len(calls) == 1
    assert "scan" in stages


def test_the_example_runs(chest: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(chest)
    found = doctest.DocTestFinder().find(compare, globs={"compare": compare})
    results = [doctest.DocTestRunner().run(example) for example in found]
    assert sum(result.attempted for result in results) >= 4
    assert sum(result.failed for result in results) == 0


# ---------------------------------------------------------------------------- what may not be compared


def test_other_shapes_are_refused_whatever_is_asked(chest: Path) -> None:
    a, b = f"{chest}/export#kernel == 'LUNG' and spacing_z > 2", f"{chest}/export#{LUNG}"
    for ignore in (False, True):
        with pytest.raises(UsageError, match=r"zyx 3x512x512 against zyx 10x512x512"):
            compare(a, b, ignore_geometry=ignore)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"origin": (-12.0, 7.6, -431.0)}, r"origin: \(-12, 7.5, -431\) against \(-12, 7.6, -431\) mm"),
        ({"step": 2.6}, r"spacing \(x, y, z\): \(0.5, 0.75, 2.5\) against \(0.5, 0.75, 2.6\) mm"),
        ({"spacing": (0.75, 0.51)}, r"spacing \(x, y, z\): \(0.5, 0.75, 2.5\) against \(0.51, 0.75, 2.5\) mm"),
        ({"orientation": (0.0, 1.0, 0.0, -1.0, 0.0, 0.0)}, r"direction: \(\(1, 0, 0\), .* against \(\(0, -1, 0\), "),
        ({"frame_of_reference": "other"}, r"frame of reference: 1\.2\S* against 1\.2"),
        ({"positions": [(-12.0, 7.5, -431 + z) for z in (0, 2.5, 5, 8.5, 11)]}, r"position of slice 3: \("),
    ],
)
def test_another_place_is_refused_with_both_numbers(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    here = dicomgen.make_series(tmp_path / "a", series="a")
    there = dicomgen.make_series(tmp_path / "b", series="b", **change)
    with pytest.raises(UsageError, match=said) as refused:
        compare(tmp_path / "a", tmp_path / "b")
    assert "--ignore-geometry" in str(refused.value)
    found = compare(tmp_path / "a", tmp_path / "b", ignore_geometry=True)
    expect_difference(found, here.values, there.values)
    assert found.geometry_differences
    lines = "\n".join(comparison_lines(found, 160))
    assert "geometry differs" in lines
    json.dumps(found.as_json(), allow_nan=False)


def test_rounding_of_decimal_strings_is_no_other_place(tmp_path: Path) -> None:
    dicomgen.make_series(tmp_path / "a", series="a")
    dicomgen.make_series(tmp_path / "b", series="b", origin=(-12.004, 7.5, -431.0), spacing=(0.75001, 0.5))
    assert compare(tmp_path / "a", tmp_path / "b").equal


def test_two_volumes_without_a_position_are_compared_index_by_index(tmp_path: Path) -> None:
    cine = dicomgen.make_cine(tmp_path / "us")
    convert(tmp_path / "us")
    for other in (tmp_path / "us", tmp_path / "out.zarr"):
        found = compare(tmp_path / "us", other)
        assert found.equal
        assert (found.axes, found.shape) == ("tczyx", cine.values.shape)
        assert found.notes == ("neither A nor B says where in the patient it is; compared index by index",)
        assert "compared index by index" in "\n".join(comparison_lines(found, 160))


def test_a_position_on_one_side_alone_is_another_place(tmp_path: Path) -> None:
    dicomgen.make_series(tmp_path / "a", n=1)
    dicomgen.make_series(tmp_path / "b", n=1, edit=lambda _, dataset: dataset.__delattr__("ImagePositionPatient"))
    with pytest.raises(UsageError, match=r"position in the patient: known against unknown"):
        compare(tmp_path / "a", tmp_path / "b")
    assert compare(tmp_path / "a", tmp_path / "b", ignore_geometry=True).notes == ()


def test_files_without_a_volume_are_said_to_have_none(tmp_path: Path) -> None:
    dicomgen.make_sr(tmp_path / "sr" / "report.dcm")
    (tmp_path / "sr" / "notes.txt").write_text("no DICOM")
    for path, said in (
        ("sr/report.dcm", r"report\.dcm is in no volume: "),
        ("sr", "there is no volume in the 2 files"),
    ):
        with pytest.raises(UsageError, match=said):
            compare(tmp_path / path, tmp_path / path)
        with pytest.raises(UsageError, match=said):
            compare(f"{tmp_path / path}#kernel == 'LUNG'", tmp_path / path)


def test_progress_tells_the_bytes_of_both(tmp_path: Path) -> None:
    made = dicomgen.make_series(tmp_path / "a", n=6)
    seen: list[Progress] = []
    assert compare(tmp_path / "a", tmp_path / "a", workers=1, progress=seen.append).equal
    blocks = [one for one in seen if one.stage == "compare"]
    assert [one.stage for one in seen[-len(blocks) :]] == ["compare"] * len(blocks)
    assert blocks[0].bytes == 0
    assert blocks[-1].bytes == blocks[-1].bytes_total == 2 * made.values.size * 2  # int16 and int16


def test_uneven_slices_at_the_same_positions_are_compared(tmp_path: Path) -> None:
    gapped = dicomgen.missing_slice(tmp_path / "export")
    convert(tmp_path / "export")
    found = compare(tmp_path / "export", f"{tmp_path}/out.zarr#modality == 'CT'")
    assert found.equal
    assert found.geometry_differences == ()
    changed = convert_changed(tmp_path / "changed", positions=gapped.positions.tolist(), at=(3, 4, 5))
    other = compare(tmp_path / "changed", tmp_path / "export")
    assert other.max_index == (3, 4, 5)
    assert other.max_mm == pytest.approx(changed + np.array([5 * 0.5, 4 * 0.75, 0]), abs=1e-9)


def convert_changed(folder: Path, *, positions: list[list[float]], at: tuple[int, int, int]) -> Array:
    """Write the series with one other voxel; return the position of that slice."""
    pixels = dicomgen.make_pixels(len(positions), 22, 18)
    pixels[at] += 1
    series = dicomgen.make_series(folder, n=len(positions), positions=positions, pixels=pixels)
    return np.asarray(series.positions[at[0]])


@pytest.mark.parametrize("which", ["", "#", "#kernel == 'NONE'", "#9.9.9"])
def test_an_address_means_exactly_one_volume(chest: Path, which: str) -> None:
    with pytest.raises(UsageError, match=r"(there are 5 volumes|no volume)"):
        compare(f"{chest}/export{which}", f"{chest}/export#{LUNG}")
    with pytest.raises(UsageError, match=r"(there are 5 volumes|no volume)"):
        compare(f"{chest}/out.zarr{which}", f"{chest}/export#{LUNG}")


@pytest.mark.parametrize("threshold", [math.nan, math.inf, -math.inf])
def test_a_threshold_is_a_number(chest: Path, threshold: float) -> None:
    with pytest.raises(UsageError, match="finite"):
        compare(f"{chest}/export#{LUNG}", f"{chest}/export#{LUNG}", threshold=threshold)


# ---------------------------------------------------------------------------- values


@pytest.mark.parametrize(
    ("low", "high"), [("int16", "int16"), ("uint8", "int8"), ("int32", "uint32"), ("int16", "uint16")]
)
def test_differences_that_narrow_integers_cannot_hold_are_exact(tmp_path: Path, low: str, high: str) -> None:
    draw = np.random.default_rng(2)
    ends = [np.iinfo(low), np.iinfo(high)]
    a, b = (draw.choice([end.min, end.max, 0], (3, 40, 50)).astype(end.dtype) for end in ends)
    expect_difference(compare(*pair(tmp_path, a, b)), a, b)


def test_types_may_differ_where_values_are_the_same(tmp_path: Path) -> None:
    a = dicomgen.make_pixels(3, 14, 18).astype(np.int16)
    found = compare(*pair(tmp_path, a, a.astype(np.float32)))
    assert found.equal
    assert found.dtypes == ("int16", "float32")
    assert found.max_abs_difference == 0
    assert any("int16 against float32" in line for line in comparison_lines(found, 80))


def test_floats_are_float64_and_nan_is_said(tmp_path: Path) -> None:
    draw = np.random.default_rng(3)
    a, b = (draw.normal(size=(4, 22, 18)).astype(np.float32) for _ in range(2))
    a[0, 0, :3] = np.nan
    b[0, 0, 1:5] = np.nan
    found = compare(*pair(tmp_path, a, b))
    far = np.abs(a.astype(np.float64) - b)
    numbers = far[np.isfinite(far)]
    assert (found.n_nan_both, found.n_nan_one, found.n_differing) == (2, 3, a.size - 2)
    assert found.max_abs_difference == numbers.max()
    assert found.mae == pytest.approx(numbers.mean(), rel=1e-14)
    assert found.mse == pytest.approx((numbers**2).mean(), rel=1e-14)
    assert "not a number         2 in both (equal), 3 in one (differing)" in "\n".join(comparison_lines(found, 160))
    only = compare(*pair(tmp_path / "nan", np.full_like(a, np.nan), b))
    assert (only.max_abs_difference, only.mae, only.equal) == (None, None, False)
    assert "largest difference   undefined" in list(comparison_lines(only, 80))
    infinite = compare(*pair(tmp_path / "inf", np.full_like(a, np.inf), np.zeros_like(a)))
    assert json.loads(json.dumps(infinite.as_json(), allow_nan=False))["mae"] == "inf"


def test_values_beyond_the_planned_type_are_compared_in_the_wider_one(tmp_path: Path) -> None:
    pixels = dicomgen.make_pixels(4, 22, 18).astype(np.uint16)
    dicomgen.make_series(tmp_path / "low", n=4, bits_stored=16, pixels=pixels, series="low")
    pixels[3, 5, 7] = 60_000
    high = dicomgen.make_series(tmp_path / "export", n=4, bits_stored=16, pixels=pixels)
    (volume,) = convert(tmp_path / "export").store.volumes
    assert volume.dtype == np.int32
    for a, b in ((tmp_path / "low", tmp_path / "export"), (tmp_path / "low", volume)):
        for found in (compare(a, b), compare(b, a)):
            assert (found.n_differing, found.max_index) == (1, (3, 5, 7))
            assert found.max_abs_difference == 60_000 - int(dicomgen.make_pixels(4, 22, 18)[3, 5, 7])
            assert sorted(found.dtypes) == ["int16", "int32"]
    assert compare(tmp_path / "export", volume).equal
    assert high.values.max() == 60_000 - 1024


def test_stored_values_beside_modality_values_are_said(tmp_path: Path) -> None:
    dicomgen.make_series(tmp_path / "export")
    (volume,) = convert(tmp_path / "export", values="stored").store.volumes
    found = compare(tmp_path / "export", volume)
    assert found.notes == ("A holds modality values, B stored values",)
    assert (found.n_differing, found.max_abs_difference) == (found.n_voxels, 1024)


@pytest.mark.parametrize(
    "maker", [dicomgen.make_cine, dicomgen.two_phases, dicomgen.make_palette, dicomgen.make_mosaic]
)
def test_colour_and_further_axes_are_compared(tmp_path: Path, maker: Any) -> None:
    maker(tmp_path / "export")
    (volume,) = convert(tmp_path / "export", shard=20_000).store.volumes
    found = compare(tmp_path / "export", volume, ignore_geometry=True, memory=20_000)
    assert found.equal
    assert found.shape == volume.shape


# ---------------------------------------------------------------------------- segmentations


def segments(folder: Path, a: Array, b: Array, values: tuple[int, ...]) -> tuple[Volume, Volume]:
    dims = {"c": {"role": "segment", "values": list(values)}}
    return pair(folder, a, b, axes="czyx", kind="segmentation", modality="SEG", dims=dims)


def test_each_segment_overlaps_as_in_simpleitk(tmp_path: Path) -> None:
    draw = np.random.default_rng(5)
    a, b = (draw.integers(0, 2, (3, 4, 22, 18)).astype(np.uint8) for _ in range(2))
    a[2] = b[2] = 0
    found = compare(*segments(tmp_path, a, b, (1, 4, 6)))
    assert list(found.labels) == [1, 4, 6]
    for c, label in ((0, 1), (1, 4)):
        measured = masked(a[c], b[c])
        assert found.labels[label].dice == pytest.approx(measured.GetDiceCoefficient(), rel=1e-14)
        assert found.labels[label].jaccard == pytest.approx(measured.GetJaccardCoefficient(), rel=1e-14)
        assert found.labels[label].false_positive == pytest.approx(measured.GetFalsePositiveError(1), rel=1e-14)
    assert found.labels[6].dice is None
    assert any(line.startswith("label 6              Dice undefined") for line in comparison_lines(found, 80))
    assert found.as_json()["labels"]["4"]["dice"] == found.labels[4].dice


def test_each_value_of_a_label_map_overlaps_as_in_simpleitk(tmp_path: Path) -> None:
    draw = np.random.default_rng(6)
    a, b = (draw.integers(0, 4, (4, 22, 18)).astype(np.uint8) for _ in range(2))
    found = compare(*pair(tmp_path, a, b, kind="segmentation", modality="SEG"))
    measured = masked(a, b)
    assert list(found.labels) == [1, 2, 3]
    for label, overlap in found.labels.items():
        assert overlap.dice == pytest.approx(measured.GetDiceCoefficient(label), rel=1e-14)
    assert found.same_value.dice == pytest.approx(measured.GetDiceCoefficient(), rel=1e-14)


def test_many_labels_are_counted_on_a_terminal(tmp_path: Path) -> None:
    values = np.arange(1, 4 * 22 * 18 + 1, dtype=np.uint16).reshape(4, 22, 18)
    found = compare(*pair(tmp_path, values, values, kind="segmentation"))
    assert len(found.labels) == 4 * 22 * 18
    lines = list(comparison_lines(found, 80))
    assert len(lines) < 40
    assert lines[-1] == "and 1564 labels more; --json has them all"


# ---------------------------------------------------------------------------- files and stores that are broken


def test_a_broken_file_stops_with_the_slice_and_no_path(tmp_path: Path) -> None:
    def cut_short(k: int, dataset: Dataset) -> None:
        if k == 3:
            dataset.PixelData = dataset.PixelData[:100]

    dicomgen.make_series(tmp_path / "a", edit=cut_short)
    dicomgen.make_series(tmp_path / "b", series="b")
    with pytest.raises(SourceError, match=r"^slice z=3: truncated: ") as error:
        compare(tmp_path / "a", tmp_path / "b")
    assert str(tmp_path) not in str(error.value)


def test_a_lost_or_damaged_shard_is_never_read_as_fill(tmp_path: Path) -> None:
    dicomgen.make_series(tmp_path / "export")
    (volume,) = convert(tmp_path / "export").store.volumes
    (shard,) = (path for path in (volume.path / "0" / "image" / "c").rglob("*") if path.is_file())
    raw = shard.read_bytes()
    shard.write_bytes(raw[:40] + bytes(40) + raw[80:])
    with pytest.raises(CheckError, match="cannot be read"):
        compare(volume, tmp_path / "export")
    shard.unlink()
    with pytest.raises(CheckError, match="cannot be read"):
        compare(volume, tmp_path / "export")


# ---------------------------------------------------------------------------- size


@pytest.fixture
def traced() -> Iterator[None]:
    tracemalloc.start()
    yield
    tracemalloc.stop()


def test_memory_is_bounded_whatever_the_size_of_the_volumes(tmp_path: Path, traced: None) -> None:
    folder, n = tmp_path / "export", 60
    pixels = np.broadcast_to(dicomgen.make_pixels(1, 310, 290).astype(np.uint16), (n, 310, 290))
    dicomgen.make_series(folder, n=n, rows=310, columns=290, pixels=pixels)
    (volume,) = convert(folder, chunks=(2, 128, 128)).store.volumes
    bound = 3 * 2 * 2 * (2 * 310 * 290)  # three of the smallest blocks: 2 slices of A and of B
    assert 2 * volume.array.nbytes > 9 * bound
    compare(folder, volume, memory=bound)  # imports and caches are no voxels
    tracemalloc.reset_peak()
    before = tracemalloc.get_traced_memory()[0]
    found = compare(folder, volume, memory=bound)
    peak = tracemalloc.get_traced_memory()[1] - before
    assert found.equal
    assert peak < 1.25 * bound  # with all headers, and the pieces that are worked on


def test_small_blocks_and_large_ones_give_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = (dicomgen.two_phases(tmp_path / name, n=7, series=name) for name in "ab")
    edited = a.paths[9]
    raw = bytearray(edited.read_bytes())
    raw[-22 * 18 * 2 + 10] ^= 3
    edited.write_bytes(bytes(raw))
    whole = compare(tmp_path / "a", tmp_path / "b")
    assert whole.n_differing == 1
    assert whole.max_index == (1, 2, 0, 5)
    assert b.values.shape == (2, 7, 22, 18)
    for block_bytes in (1, 22 * 18 * 4 * 3, 22 * 18 * 4 * 7):
        monkeypatch.setattr(compare_module, "BLOCK_BYTES", block_bytes)
        assert compare(tmp_path / "a", tmp_path / "b") == whole


# ---------------------------------------------------------------------------- for people


@pytest.mark.parametrize("width", [80, 160])
def test_no_line_is_wider_than_the_terminal(tmp_path: Path, kernels: Comparison, width: int) -> None:
    dicomgen.make_series(tmp_path / "a", series="a")
    dicomgen.make_series(tmp_path / "b", series="b", orientation=dicomgen.OBLIQUE, frame_of_reference="other")
    elsewhere = compare(tmp_path / "a", tmp_path / "b", ignore_geometry=True)
    for found in (kernels, elsewhere):
        lines = list(comparison_lines(found, width))
        assert max(map(len, lines)) <= width
        assert all(line == line.rstrip() and line.isprintable() for line in lines)


def test_what_a_person_reads(kernels: Comparison) -> None:
    text = "\n".join(comparison_lines(kernels, 160))
    for value in (kernels.n_differing, kernels.max_abs_difference, kernels.n_a, kernels.n_b):
        assert str(value) in text
    for value in (kernels.mae, kernels.mse, kernels.dice, kernels.jaccard, kernels.volume_similarity):
        assert f"{value:.6g}" in text
    assert "mm LPS" in text


def test_the_public_name(chest: Path) -> None:
    assert fastdcm.compare is compare
    assert os.fspath(chest) not in json.dumps(compare(f"{chest}/export#{LUNG}", f"{chest}/export#{LUNG}").as_json())
