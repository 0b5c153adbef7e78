"""``explain``: the sentence names the right tag, both values and the option, and every file is accounted for."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len

from fastdcm.errors import Code, Outcome, UsageError
from fastdcm.look.explain import Explanation, explain, explanation_lines
from fastdcm.look.reason_text import OUTCOMES, REASONS
from fastdcm.look.volume_text import gap_text, sentence_of
from fastdcm.run.convert import convert
from tests import dicomgen, referring

DOCS = Path(__file__).parents[2] / "docs" / "reasons.md"


def explained(folder: Path, **options: Any) -> Explanation:
    """Explain, and check that volumes and files left out are all the files of the series."""
    found = explain(folder, workers=1, **options)
    if found.series is not None:
        withheld = any(s.topic == "withheld" for volume in found.volumes for s in volume.sentences)
        inside = 0 if withheld else sum(volume.files for volume in found.volumes)
        assert inside + sum(one.files for one in found.left_out) == found.files
    json.dumps(found.as_json(), allow_nan=False)
    return found


def text_of(found: Explanation, volume: int = 0) -> str:
    return " ".join(f"{one.text} {one.change}" for one in found.volumes[volume].sentences)


def all_text(found: Explanation) -> str:
    gone = " ".join(f"{one.outcome}/{one.code} {one.reason} {one.change}" for one in found.left_out)
    return " ".join(text_of(found, place) for place in range(len(found.volumes))) + " " + gone


# ---------------------------------------------------------------------------- the thirteen hard cases

HARD: dict[str, tuple[Callable[[Path], Any], list[str]]] = {
    "gantry tilt": (dicomgen.gantry_tilt, ["20.0 degrees off their normal", "the affine is sheared"]),
    "missing slice": (
        dicomgen.missing_slice,
        ["z=4.0 is 2.0 mm after its neighbour", "the others are 1.0 mm apart", "--on-gap fill gives a regular grid"],
    ),
    "two at one position": (
        dicomgen.two_at_one_position,
        ["(1 to 2)", "at 1 of 5 positions", "the same SOP Instance UID", "`convert --dry-run` compares them"],
    ),
    "slope of every slice": (
        dicomgen.pet_slopes,
        ["Rescale Slope (0028,1053) differs by slice, from 0.5 to 1.5 (BQML)", "float32"],
    ),
    "two orientations": (
        dicomgen.two_orientations,
        [
            r"Image Orientation (0020,0037) is 1\0\0\0\1\0 (axial) here (4 slices), "
            r"0\1\0\0\0\-1 (sagittal) in volume 1 (2 slices)",
            "--tolerance orientation",
        ],
    ),
    "two phases": (dicomgen.two_phases, ["Axis t is Temporal Position (0020,0100), with 2 values: 1, 2."]),
    "monochrome1": (
        dicomgen.monochrome1,
        ["Photometric Interpretation (0028,0004) is MONOCHROME1", "--invert-monochrome1", "(0018,1164)"],
    ),
    "rows differ": (
        dicomgen.rows_differ,
        [
            "Rows x Columns (0028,0010 and 0028,0011) is 22 x 18 here (5 slices), 26 x 18 in volume 1 (1 slice)",
            '--where "rows == 26 and columns == 18"',
        ],
    ),
    "spacing differs": (
        dicomgen.spacing_differs,
        [
            r"Pixel Spacing (0028,0030) is 0.75\0.5 mm here (5 slices), 0.8\0.55 mm in volume 1 (1 slice)",
            "--tolerance spacing_relative",
        ],
    ),
    "signedness differs": (
        dicomgen.signedness_differs,
        [
            "Pixel Representation (0028,0103) differs (1 frame signed, 5 unsigned): int32 holds both",
            "-32768 to 65535",
            "written as int16, and again as int32",
        ],
    ),
    "no position": (
        dicomgen.no_position,
        ["Image Position (0020,0032) is absent or unreadable in 4 images", "Instance Number", "2.5 mm is Slice Thick"],
    ),
    "table jump": (
        dicomgen.table_jump,
        [
            "by 12.0 mm (limit 1 mm)",
            "(-12.0, 7.5, -428.0) is next to (0.0, 7.5, -427.0) of volume 1",
            "--tolerance table_jump_mm",
        ],
    ),
}


@pytest.mark.parametrize("case", HARD)
def test_hard_cases_are_explained_with_tag_numbers_and_option(case: str, tmp_path: Path) -> None:
    make, fragments = HARD[case]
    make(tmp_path)
    found = explained(tmp_path)
    said = all_text(found)
    assert [fragment for fragment in fragments if fragment not in said] == []
    assert all(volume.splits for volume in found.volumes) == (len(found.volumes) > 1)


def test_a_file_cut_short_withholds_its_volume(tmp_path: Path) -> None:
    broken, _, _ = dicomgen.cut_short(tmp_path)
    found = explained(tmp_path, series=broken.series_uid)
    said = all_text(found)
    assert "1 file of it cannot be used (truncated: pixel data is cut short: 792 bytes needed, 742 there)" in said
    assert "`--on-bad-frame drop` leaves such images out" in said
    assert [(one.code, one.files) for one in found.left_out] == [("truncated", 1), ("sibling-failed", 4)]
    dropped = explained(tmp_path, series=broken.series_uid, on_bad_frame="drop")
    assert [(one.code, one.files) for one in dropped.left_out] == [("truncated", 1)]
    assert "is 5.0 mm after its neighbour, the others are 2.5 mm apart" in text_of(dropped)


# ---------------------------------------------------------------------------- what splits


def test_kernels(tmp_path: Path) -> None:
    dicomgen.make_series(tmp_path, n=4)
    dicomgen.make_series(tmp_path, n=3, first=4, kernel="LUNG", seed=2)
    found = explained(tmp_path)
    (own,) = found.volumes[1].splits
    assert own.text == "Convolution Kernel (0018,1210) is LUNG here (3 slices), STANDARD in volume 0 (4 slices)."
    assert (own.code, own.change) == ("split-kernel", "`--where \"kernel == 'LUNG'\"` takes this one.")


def test_image_types_markers_and_localizers(tmp_path: Path) -> None:
    dicomgen.make_series(tmp_path, n=4)
    scout = ("ORIGINAL", "PRIMARY", "LOCALIZER")
    dicomgen.make_series(tmp_path, n=1, first=4, image_type=scout, orientation=dicomgen.SAGITTAL, rows=30)
    dicomgen.make_series(tmp_path, n=2, first=5, image_type=("DERIVED", "SECONDARY", "MPR"), seed=4)
    found = explained(tmp_path)
    assert (
        r"Image Type (0008,0008) is ORIGINAL\PRIMARY here (4 slices), DERIVED\SECONDARY\MPR in volume 1 (2 slices), "
        r"ORIGINAL\PRIMARY\LOCALIZER in volume 2 (1 slice)"
    ) in text_of(found)
    assert "--image-type ORIGINAL/PRIMARY" in text_of(found)
    assert r"Image Type (0008,0008) is ORIGINAL\PRIMARY\LOCALIZER; `--no-localizers`" in text_of(found, 2)
    assert {one.code for one in found.volumes[2].splits} == {"split-matrix", "split-image-type", "split-orientation"}


def test_localizer_by_geometry_and_name(tmp_path: Path) -> None:
    for first, orientation in ((0, dicomgen.AXIAL), (2, dicomgen.SAGITTAL)):
        dicomgen.make_series(tmp_path, n=2, first=first, orientation=orientation, series="3-plane scout", modality="MR")
    said = text_of(explained(tmp_path))
    assert "localizer by geometry: at most 3 slices" in said
    assert "'3-plane scout'" in said


def test_frames_of_reference(tmp_path: Path) -> None:
    dicomgen.make_series(tmp_path, n=4)
    dicomgen.make_series(tmp_path, n=3, first=4, frame_of_reference="other", seed=2)
    (split,) = explained(tmp_path).volumes[0].splits
    first, second = (dicomgen.uid("frame", "study", name)[-12:] for name in ("frame", "other"))
    assert f"Frame of Reference UID (0020,0052) is …{first} here (4 slices), …{second} in volume 1" in split.text


def test_frames_of_reference_of_their_own_are_ignored(tmp_path: Path) -> None:
    def own(k: int, dataset: Any) -> None:
        dataset.FrameOfReferenceUID = dicomgen.uid("own", k)

    dicomgen.make_series(tmp_path, n=4, edit=own)
    found = explained(tmp_path)
    assert not found.volumes[0].splits
    assert "all 4 images have a frame of reference uid of their own; it was ignored" in text_of(found).lower()


def test_images_without_position_beside_those_with(tmp_path: Path) -> None:
    def strip(_: int, dataset: Any) -> None:
        del dataset.ImagePositionPatient

    dicomgen.make_series(tmp_path, n=4)
    dicomgen.make_series(tmp_path, n=2, first=4, edit=strip, seed=3)
    (split,) = explained(tmp_path).volumes[1].splits
    assert split.text == (
        "Image Position (0020,0032) is absent or unreadable here (2 slices), usable in volume 0 (4 slices)."
    )


def test_colour_among_grey(tmp_path: Path) -> None:
    dicomgen.make_series(tmp_path, n=3)
    colour = dicomgen.make_pixels(3, 22, 18, bits=8)[..., None].repeat(3, axis=3)
    dicomgen.make_series(tmp_path, n=3, first=3, pixels=colour, photometric="RGB", bits_stored=8, slope=None)
    found = explained(tmp_path)
    codes = {one.code: one.text for one in found.volumes[0].splits}
    assert "Samples per Pixel (0028,0002) is" in codes["split-samples"]
    assert "Axis c is the 3 samples of a pixel (RGB)" in all_text(found)


def test_gaps_split_filled_and_refused(tmp_path: Path) -> None:
    dicomgen.missing_slice(tmp_path)
    split = explained(tmp_path, on_gap="split")
    assert [volume.splits[0].code for volume in split.volumes] == ["split-gap", "split-gap"]
    assert "z=4.0 is 2.0 mm after its neighbour, the others are 1.0 mm apart" in split.volumes[1].splits[0].text
    assert "--on-gap fill: the absent slices hold the fill value" in text_of(explained(tmp_path, on_gap="fill"))
    failed = explained(tmp_path, on_gap="fail")
    assert failed.volumes == ()
    assert [(one.code, one.files) for one in failed.left_out] == [("gap", 5)]
    assert "the others are 1.0 mm apart" in failed.left_out[0].reason


def test_the_part_that_stays_says_what_was_taken_out(tmp_path: Path) -> None:
    """An aborted second run: the complete steps and the rest have one key, so only repeats tell them apart."""
    dicomgen.two_phases(tmp_path)
    dicomgen.make_series(
        tmp_path, n=2, first=8, modality="MR", slope=None, intercept=None, image_type=("ORIGINAL", "PRIMARY", "M"),
        TemporalPositionIdentifier=3, seed=5,
    )  # fmt: skip
    found = explained(tmp_path)
    assert [volume.splits[0].code for volume in found.volumes] == ["ragged", "ragged"]
    assert "Volume 1 was taken out" in found.volumes[0].splits[0].text
    assert "(2 to 3); these 2 images at 2 of 4 positions" in found.volumes[0].splits[0].text


def test_two_dimensional_series_are_said_once(tmp_path: Path) -> None:
    for k in range(30):
        dicomgen.make_series(
            tmp_path, n=1, first=k, modality="DX", slope=None, intercept=None, thickness=None, seed=k,
            image_type=("ORIGINAL", "PRIMARY"), edit=dicomgen._detector_spacing,
        )  # fmt: skip
    found = explained(tmp_path)
    assert len(found.volumes) == 30
    lines = [line.plain for line in explanation_lines(found, 120)]
    assert len(lines) < 12
    assert lines[3].startswith("volumes 0 to 29")
    said = re.sub(r"\s+", " ", " ".join(lines))
    assert said.count("never stacked across files: 30 instances of the series are volumes of their own") == 1


def test_screenshot_in_a_series(tmp_path: Path) -> None:
    def strip(_: int, dataset: Any) -> None:
        del dataset.ImagePositionPatient, dataset.ImageOrientationPatient

    dicomgen.make_series(tmp_path, n=3)
    dicomgen.make_series(tmp_path, n=1, first=3, sop_class="1.2.840.10008.5.1.4.1.1.7", edit=strip)
    found = explained(tmp_path)
    assert "1 other volume of the series is 2-D" in text_of(found)
    assert "1 volume of slices is beside them" in text_of(found, 1)
    assert "burned-in-risk" in {one.code for one in found.volumes[1].sentences}


# ---------------------------------------------------------------------------- axes, spacing, values


def test_the_axis_of_trigger_times_is_their_rank(tmp_path: Path) -> None:
    def trigger(phase: int) -> Callable[[int, Any], None]:
        return lambda k, dataset: setattr(dataset, "TriggerTime", 10.0 * k + 100 * phase)

    for phase in range(3):
        dicomgen.make_series(tmp_path, n=4, first=4 * phase, modality="MR", edit=trigger(phase))
    said = text_of(explained(tmp_path))
    assert "Trigger Time (0018,1060), which separates the 3 images of each position" in said
    assert "(0, 100, 200 ms at the first), so the axis is their rank" in said


def test_an_inferred_axis_says_so(tmp_path: Path) -> None:
    for first in (0, 4):
        dicomgen.make_series(tmp_path, n=4, first=first, modality="MR", seed=first)
    said = text_of(explained(tmp_path))
    assert "2 steps by the order of Instance Number (0020,0013): inferred" in said
    assert "2 images at every position and no tag that separates them" in said


def test_spacing_against_thickness(tmp_path: Path) -> None:
    """S2: 7 mm spacing with 5 mm thickness leaves 2 mm unscanned."""
    dicomgen.make_series(tmp_path / "a", n=5, step=7.0, thickness=5.0, SpacingBetweenSlices=5.0)
    said = text_of(explained(tmp_path / "a"))
    assert "7 mm apart by Image Position (0020,0032) and 5 mm thick: a gap of 2 mm between slices is not imaged" in said
    assert "Spacing Between Slices (0018,0088) says 5 mm, the positions say 7 mm" in said
    dicomgen.make_series(tmp_path / "b", n=5, step=1.25, thickness=2.5)
    assert "they overlap by 1.25 mm" in text_of(explained(tmp_path / "b"))
    assert gap_text(1e-5) == "no gap and no overlap"


def test_uneven_spacing(tmp_path: Path) -> None:
    places = [(-12.0, 7.5, z) for z in (0, 2.5, 5, 7.5, 12.5, 17.5, 22.5)]
    dicomgen.make_series(tmp_path, n=7, positions=places)
    said = text_of(explained(tmp_path))
    assert "2.500 to 5.000 mm apart" in said
    assert "`nominal=True`" in said


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, "stored x 1 - 1024: 12 bits allow -1024 to 3071, so int16"),
        ({"slope": 0.5, "intercept": -3.0}, "stored x 0.5 - 3, which is no whole number: float32"),
        ({"slope": None, "intercept": None}, "as stored: 12 bits allow 0 to 4095, so uint16"),
        ({"bits_stored": 16}, "int16 does not hold -1024 to 64511"),
        ({"intercept": [0.0, -5.0, 3.0]}, "Rescale Intercept (0028,1052) differs by slice, from -5 to 3"),
        ({"slope": [1.0, 2.0, 1.0]}, "Rescale Slope (0028,1053) differs by slice, from 1 to 2: values are int16"),
        ({"PixelPaddingValue": 7}, "Pixel Padding Value (0028,0120) is 7 stored, -1017 in the volume"),
    ],
)
def test_values(options: dict[str, Any], expected: str, tmp_path: Path) -> None:
    dicomgen.make_series(tmp_path, n=3, **options)
    assert expected in text_of(explained(tmp_path))


def test_a_bad_slope(tmp_path: Path) -> None:
    def spoil(k: int, dataset: Any) -> None:
        dataset.RescaleSlope = "0" if k == 1 else "1"

    dicomgen.make_series(tmp_path, n=3, edit=spoil)
    said = text_of(explained(tmp_path))
    assert "1 of 3 frames is 0 or unreadable" in said
    assert "`--values stored`" in said


def test_cine_palette_and_mosaic(tmp_path: Path) -> None:
    dicomgen.make_cine(tmp_path / "cine")
    assert "a cine: 4 frames at one place" in text_of(explained(tmp_path / "cine"))
    assert "timed by Frame Time (0018,1063)" in text_of(explained(tmp_path / "cine"))
    dicomgen.make_palette(tmp_path / "palette")
    assert "PALETTE COLOR became RGB" in text_of(explained(tmp_path / "palette"))
    dicomgen.make_mosaic(tmp_path / "mosaic", csa=False)
    found = explained(tmp_path / "mosaic")
    assert "mosaic whose slices are not told" in all_text(found)


# ---------------------------------------------------------------------------- files, lists, arguments


def test_every_file_of_a_mixed_folder_is_told(tmp_path: Path) -> None:
    dicomgen.mixed_folder(tmp_path)
    listed = explain(tmp_path, workers=1)
    assert listed.series is None
    assert [one.files for one in listed.left_out if one.code == "no-dicom"] == [2]
    assert sum(one.files for one in listed.listed) + sum(one.files for one in listed.left_out) == listed.files == 21
    volumes = {one.description: one.volumes for one in listed.listed}
    assert volumes.items() >= {"good": 1, "nested": 1, "torn": 1, "": 0}.items()
    lines = [line.plain for line in explanation_lines(listed, 80)]
    assert max(map(cell_len, lines)) <= 80
    assert lines[-1].startswith("explain one of them with --series UID")
    for one in listed.listed:
        explained(tmp_path, series=one.series)


def test_the_count_of_many_files_stands_clear_of_what_became_of_them(tmp_path: Path) -> None:
    for name in ("a", "b"):
        dicomgen.make_series(tmp_path / name, n=1, series=name)
    for k in range(100):
        (tmp_path / f"{k}.txt").write_text("notes")
    lines = [line.plain for line in explanation_lines(explain(tmp_path, workers=1), 80)]
    assert any(line.startswith("  100 files not-dicom/no-dicom: ") for line in lines)


def test_a_series_without_images_says_what_it_is(tmp_path: Path) -> None:
    dicomgen.make_series(tmp_path, n=2)
    dicomgen.make_sr(tmp_path / "sr.dcm")
    uid = dicomgen.uid("series", "sr")
    for series in (uid, uid[-9:]):
        found = explained(tmp_path, series=series)
        assert found.volumes == ()
        (left,) = found.left_out
        assert (left.outcome, left.files) == ("not-image", 1)
        assert "Basic Text SR Storage" in left.reason
        assert left.sop_instance_uids == (dicomgen.uid("sr", "sr.dcm"),)


def test_one_series_needs_no_name_and_a_wrong_name_is_refused(tmp_path: Path) -> None:
    made = dicomgen.make_series(tmp_path, n=3)
    assert explained(tmp_path).series == made.series_uid
    assert explained(tmp_path, series="slices == 3").series == made.series_uid
    with pytest.raises(UsageError, match="no series fit"):
        explain(tmp_path, series="9.9.9", workers=1)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError):
        explain(tmp_path / "empty", workers=1)


def test_a_copy_that_is_not_compared_is_undecided(tmp_path: Path) -> None:
    made = dicomgen.make_series(tmp_path, n=4)
    dicomgen.save(made.datasets[1], tmp_path / "again.dcm")
    found = explained(tmp_path)
    (left,) = found.left_out
    assert (left.outcome, left.files, left.sop_instance_uids) == (
        "undecided",
        1,
        (made.datasets[1].SOPInstanceUID,),
    )
    assert "1 frame has another file with the same SOP Instance UID" in text_of(found)


@pytest.mark.parametrize("width", [40, 80, 160])
def test_lines_fit_and_cannot_act_on_a_terminal(width: int, tmp_path: Path) -> None:
    texts = {"SpecificCharacterSet": "ISO_IR 192", "SeriesDescription": "\x1b[2J胸部平扫" * 4}

    def describe(_: int, dataset: Any) -> None:
        for name, value in texts.items():
            setattr(dataset, name, value)

    dicomgen.make_series(tmp_path, n=3, edit=describe, kernel="B\x1b[31m")
    dicomgen.make_series(tmp_path, n=2, first=3, edit=describe, kernel="LUNG 'x'", seed=2)
    found = explained(tmp_path)
    lines = [line.plain for line in explanation_lines(found, width)]
    assert all(line.isprintable() for line in lines)
    if width > 40:  # a UID of 64 characters is a line of its own
        assert max(map(cell_len, lines)) <= width
    assert not any("x'" in one.change or "B" in one.change for volume in found.volumes for one in volume.splits)


def test_the_options_are_those_of_convert() -> None:
    known = inspect.signature(convert).parameters
    for name, parameter in inspect.signature(explain).parameters.items():
        if name != "series":
            assert parameter.default == known[name].default


# ---------------------------------------------------------------------------- the table of reasons


def test_every_code_and_outcome_has_a_sentence() -> None:
    assert list(REASONS) == list(Code)
    assert list(OUTCOMES) == list(Outcome)
    for text in REASONS.values():
        assert text.meaning.endswith(".")
        assert len(text.meaning) < 140


def test_the_docs_say_the_same() -> None:
    rows = re.findall(r"^\| `([a-z0-9-]+)` \| (.+?) \|(?: (.*?) ?\|)?$", DOCS.read_text(), re.MULTILINE)
    expected = [(outcome.value, text, "") for outcome, text in OUTCOMES.items()]
    expected += [(code.value, text.meaning, text.change) for code, text in REASONS.items()]
    assert [(code, meaning, change.strip()) for code, meaning, change in rows] == expected


def test_options_that_are_named_exist() -> None:
    from fastdcm.cli import entry

    flags = {flag for command in entry.commands.commands.values() for p in command.params for flag in p.opts}
    named = {flag for text in REASONS.values() for flag in re.findall(r"--[a-z0-9-]+", f"{text.meaning} {text.change}")}
    assert named - flags == set()


def test_an_option_is_not_named_twice() -> None:
    told = sentence_of("flag", Code.MISSING_SLICES, "kept; --on-gap fill gives a grid")
    assert told.text == "Kept; --on-gap fill gives a grid."
    assert told.change == ""
    assert "--on-gap" in sentence_of("flag", Code.MISSING_SLICES, "a slice is missing").change


# ---------------------------------------------------------------------------- what is about a series


def test_objects_about_a_series_are_counted(tmp_path: Path) -> None:
    """Once each, however many of its images they name; what is about another series is not."""
    series = dicomgen.make_series(tmp_path, n=3)
    other = dicomgen.make_series(tmp_path, n=3, series="other", frame_of_reference="other", seed=1)
    objects = referring.make_objects(tmp_path, series)
    about = sorted(one.name for one in objects if one.relation is not None)
    found = explained(tmp_path, series=series.series_uid)
    assert sorted(name for name, n in found.referred_by for _ in range(n)) == about
    lines = [line.plain for line in explanation_lines(found, 400)]
    assert any(line.strip().startswith("referred to by 1 ") and "RT Structure Set" in line for line in lines)
    assert explained(tmp_path, series=other.series_uid).referred_by == ()
