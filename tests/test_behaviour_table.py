"""Which test holds which behaviour: thirty traps of real exports, thirteen hard cases, kinds of images, pixel formats.

The tables name tests as ``file:function``; a name that is gone fails here, so no trap loses its test unseen.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import pytest

TESTS = Path(__file__).parent

TRAPS: Mapping[int, tuple[str, tuple[str, ...]]] = {
    1: ("scouts, reformats and screenshots inside a series", (
        "series/test_group.py:test_12_a_screenshot_in_a_ct_series_is_no_slice",
        "series/test_group.py:test_8_9_what_may_not_differ_splits_with_the_tag_and_both_values",
        "series/test_kinds.py:test_scouts_beside_a_stack_are_told_from_it")),
    2: ("gantry tilt", ("test_hard_cases.py:test_gantry_tilt_is_one_sheared_volume_with_the_exact_affine",)),
    3: ("uneven spacing by design", (
        "series/test_geometry.py:test_uneven_by_design_is_irregular_and_nothing_is_missing",
        "run/test_verify.py:test_uneven_stack_by_its_positions",
        "series/test_geometry.py:test_without_positions_the_step_comes_from_the_tags")),
    4: ("missing slices", (
        "test_hard_cases.py:test_missing_slice_keeps_the_data_as_found",
        "test_hard_cases.py:test_missing_slice_filled_gives_the_full_grid",
        "test_hard_cases.py:test_missing_slice_can_split_or_fail",
        "series/test_geometry.py:test_a_step_near_a_whole_multiple_is_a_gap")),
    5: ("acquisitions at near-equal positions", (
        "series/test_group.py:test_acquisitions_that_interleave_at_nearly_equal_positions_are_apart",
        "series/test_group.py:test_acquisitions_after_each_other_are_one_uneven_volume")),
    6: ("4-D and its tags", (
        "series/test_repeats.py:test_each_time_tag_separates",
        "series/test_repeats.py:test_each_channel_tag_separates",
        "series/test_repeats.py:test_a_nonsense_trigger_time_does_not_shatter_a_series",
        "scan/test_functional.py:test_b_values")),
    7: ("slope of every PET slice, units", (
        "test_hard_cases.py:test_slope_of_every_slice_counts",
        "store/test_metadata.py:test_slope_per_slice_is_kept")),
    8: ("16 bits stored with -1024, changing sign", (
        "run/test_convert.py:test_values_that_do_not_fit_are_written_in_the_fallback_type",
        "test_hard_cases.py:test_signed_and_unsigned_slices_are_one_volume_that_holds_both",
        "series/test_values.py:test_type_is_the_first_that_holds_the_declared_range")),
    9: ("padding", (
        "scan/test_header.py:test_padding_has_the_sign_of_the_pixels",
        "series/test_values.py:test_padding_is_rescaled_and_fills_if_it_fits")),
    10: ("Modality LUT", (
        "series/test_values.py:test_modality_lut_is_applied_and_its_entries_decide_the_type",
        "series/test_values.py:test_lut_that_linearises_is_not_applied_and_it_is_said",
        "pixels/test_values.py:test_a_modality_lut_maps_what_is_outside_to_its_ends")),
    11: ("real-world values, Philips' scale", (
        "scan/test_functional.py:test_what_makes_values_physical_is_recorded_by_frame",
        "scan/test_tags.py:test_the_mr_scale_of_philips_stays_if_it_is_a_number_of_philips")),
    12: ("MONOCHROME1", (
        "test_hard_cases.py:test_monochrome1_keeps_its_values",
        "store/test_metadata.py:test_monochrome1_is_said_to_be_inverted_and_turned_over_on_request")),
    13: ("garbage in the unused bits, overlays", (
        "pixels/test_native.py:test_any_layout_is_unpacked_bit_by_bit",
        "pixels/test_decode.py:test_overlay_bits_in_lossless_jpeg_vanish",
        "pixels/test_read.py:test_garbage_in_unused_bits_does_not_make_other_pixels",
        "scan/test_tags.py:test_no_text_leaks_whatever_attribute_it_is_in")),
    14: ("precision or sign of the codestream", (
        "pixels/test_decode.py:test_the_codestream_decides_the_bits_and_the_header_the_sign",
        "pixels/test_decode.py:test_jpeg_ls_takes_its_sign_from_the_header_and_its_bits_from_the_codestream",
        "series/test_values.py:test_lossy_by_header_or_by_syntax")),
    15: ("several transfer syntaxes in one series", (
        "test_properties.py:test_any_encoding_of_the_files_gives_the_same_store",
        "pixels/test_read.py:test_same_pixels_whatever_the_encoding")),
    16: ("a transfer syntax that lies, no group 2, no preamble", (
        "scan/test_reference.py:test_a_transfer_syntax_that_lies_is_repaired",
        "scan/test_reference.py:test_no_preamble_and_no_group_2",
        "scan/test_header.py:test_big_endian_behind_the_syntax_of_little_endian",
        "pixels/test_read.py:test_the_syntax_of_the_header_decides_nothing_that_the_bytes_do_not")),
    17: ("truncated, padded, many fragments, offset tables", (
        "test_hard_cases.py:test_a_file_cut_short_fails_its_volume_and_no_other",
        "pixels/test_read.py:test_long_pixel_data_are_noted_once_a_file",
        "pixels/test_locate.py:test_by_the_extended_offset_table",
        "pixels/test_locate.py:test_without_a_table",
        "pixels/test_boundaries.py:test_fragments_that_are_cut_anywhere",
        "pixels/test_boundaries.py:test_of_several_codestreams_in_one_frame_the_first_counts_and_the_others_are_noted")),
    18: ("an icon before the image", (
        "scan/test_reference.py:test_the_icon_is_not_the_image",
        "scan/test_walk.py:test_pixels_of_an_icon_are_not_the_images")),
    19: ("the same file twice, one UID with other pixels or in two series", (
        "test_hard_cases.py:test_two_slices_at_one_position",
        "series/test_group.py:test_other_pixels_under_one_uid_withhold_only_their_volume",
        "series/test_group.py:test_the_lossless_copy_wins_over_the_lossy_one",
        "run/test_convert.py:test_one_uid_under_two_series_converts_both")),
    20: ("UIDs broken by an anonymiser", (
        "run/test_convert.py:test_single_slice_series_that_look_like_one_are_reported_and_not_merged",)),
    21: ("enhanced multi-frame", (
        "scan/test_functional.py:test_per_frame_beats_shared",
        "test_end_to_end.py:test_enhanced_frames_are_ordered_by_geometry",
        "series/test_group.py:test_stacks_that_the_file_numbers_are_apart",
        "series/test_planar.py:test_parts_of_a_concatenation_follow_their_number_where_they_have_no_offset",
        "test_properties.py:test_a_known_affine_is_recovered_from_frames")),
    22: ("Siemens mosaic", (
        "test_end_to_end.py:test_mosaic_is_unpacked",
        "series/test_frames.py:test_tiles_of_a_mosaic_become_slices_at_the_corrected_position",
        "series/test_frames.py:test_a_normal_against_row_x_column_turns_the_slices_round",
        "series/test_frames.py:test_a_mosaic_of_unknown_tiles_stays_2d")),
    23: ("NM, dose, XA, US", (
        "scan/test_functional.py:test_dose_offsets_in_both_conventions",
        "scan/test_functional.py:test_reconstructed_tomo_steps_along_the_signed_normal",
        "scan/test_functional.py:test_ultrasound_regions",
        "scan/test_functional.py:test_what_a_spacing_measures",
        "series/test_group.py:test_nuclear_medicine_vectors_become_axes")),
    24: ("numbers as garbage", (
        "scan/test_rules.py:test_decimal_texts",
        "scan/test_rules.py:test_any_bytes_give_as_many_values_as_asked",
        "scan/test_reference.py:test_garbage_numbers",
        "series/test_group.py:test_bad_spacing_is_told")),
    25: ("PixelSpacing is [row, column]", (
        "series/test_geometry.py:test_geometry_equals_simpleitk_for_a_clean_stack",
        "load/test_volume.py:test_affine_is_the_law_for_a_generated_series")),
    26: ("character sets", (
        "scan/test_rules.py:test_any_text_is_valid_utf8",
        "scan/test_header.py:test_text_in_several_character_sets_in_one_batch",
        "store/test_metadata.py:test_json_is_strict_and_utf8_whatever_the_headers_hold")),
    27: ("objects that are no images, files that are no DICOM", (
        "test_image_classes.py:test_each_class_without_pixels_is_named",
        "run/test_references.py:test_the_report_counts_by_class",
        "scan/test_reference.py:test_dicomdir",
        "scan/test_reference.py:test_what_is_not_dicom",
        "scan/test_reference.py:test_video_and_unknown_syntaxes",
        "test_end_to_end.py:test_mixed_folder_converts_what_can_be_and_names_the_rest")),
    28: ("private data in texts, tags, overlays, paths", (
        "scan/test_tags.py:test_no_text_leaks_whatever_attribute_it_is_in",
        "run/test_convert.py:test_a_store_by_the_technical_policy_holds_no_text_and_no_path",
        "test_hard_cases.py:test_the_label_of_a_slide_is_an_image_with_full_metadata_alone")),
    29: ("an export in motion, EIO, links, names", (
        "scan/test_find.py:test_links_are_followed_and_loops_cut",
        "scan/test_find.py:test_an_unreadable_folder_is_a_row",
        "scan/test_find.py:test_a_path_comes_back_from_its_text",
        "scan/test_header.py:test_a_file_that_went_away_or_may_not_be_read",
        "pixels/test_read.py:test_what_fails_for_a_moment_is_read_again",
        "pixels/test_batch.py:test_a_file_that_grew_is_changed_though_its_time_is_the_same")),
    30: ("two frames of reference in one series", (
        "series/test_group.py:test_8_9_what_may_not_differ_splits_with_the_tag_and_both_values",
        "look/test_explain.py:test_frames_of_reference",
        "series/test_group.py:test_a_frame_of_reference_of_each_image_its_own_is_ignored_and_flagged")),
}  # fmt: skip
"""Trap number: what it is, and the tests that hold the behaviour."""

HARD_CASES: Mapping[str, tuple[str, ...]] = {
    "gantry tilt": ("test_gantry_tilt_is_one_sheared_volume_with_the_exact_affine",),
    "one slice missing": ("test_missing_slice_keeps_the_data_as_found", "test_missing_slice_filled_gives_the_full_grid",
                          "test_missing_slice_can_split_or_fail"),
    "two slices at one position": ("test_two_slices_at_one_position",),
    "slope differs per slice": ("test_slope_of_every_slice_counts",),
    "axial and sagittal": ("test_axial_and_sagittal_under_one_uid_are_two_volumes",),
    "two phases": ("test_two_phases_are_one_volume_with_a_named_axis",),
    "MONOCHROME1": ("test_monochrome1_keeps_its_values", "test_monochrome1_is_turned_over_on_request"),
    "rows differ": ("test_other_rows_are_another_volume",),
    "spacing differs": ("test_other_pixel_spacing_is_another_volume",),
    "signedness differs": ("test_signed_and_unsigned_slices_are_one_volume_that_holds_both",),
    "a file cut short": ("test_a_file_cut_short_fails_its_volume_and_no_other",
                         "test_a_file_cut_short_can_be_dropped_or_filled"),
    "no position": ("test_without_positions_there_is_a_stack_and_no_affine",),
    "a table that jumps": ("test_a_table_that_jumps_makes_two_volumes",),
}  # fmt: skip
"""The thirteen hard cases: tests of ``test_hard_cases.py``."""

KINDS: Mapping[str, tuple[str, ...]] = {
    "CT, MR, PT": ("test_end_to_end.py:test_classic_volumes_equal_simpleitk",),
    "all classes of images: CR, DX, MG, XA, US, SC, tomosynthesis, ophthalmic": (
        "test_image_classes.py:test_the_list_has_the_classes_that_hospitals_hold",
        "test_image_classes.py:test_each_class_of_images_converts"),
    "cine, colour": ("test_end_to_end.py:test_colour_cine_and_palette_become_rgb",
                     "series/test_group.py:test_a_cine_has_its_frames_along_t_with_times"),
    "enhanced": ("test_image_classes.py:test_frames_with_positions_are_a_volume",),
    "legacy-converted": ("scan/test_functional.py:test_legacy_converted_attributes",),
    "NM": ("series/test_group.py:test_nuclear_medicine_vectors_become_axes",),
    "RTDOSE": ("series/test_group.py:test_frames_of_a_dose_are_ordered_by_position",),
    "SEG": ("series/test_group.py:test_segments_are_channels_on_the_union_of_their_positions",
            "series/test_group.py:test_a_label_map_has_no_segment_axis"),
    "parametric maps": ("test_image_classes.py:test_parametric_maps_of_floats",),
    "RT Image, projections": ("test_image_classes.py:test_projections_and_photographs_have_no_place",
                              "scan/test_functional.py:test_what_a_spacing_measures"),
    "slides": ("test_image_classes.py:test_tiles_of_a_slide_are_no_slices",),
    "UIH grid": ("scan/test_grid.py:test_tiles_become_slices_where_their_items_say",),
    "radial": ("series/test_group.py:test_a_radial_series_is_one_volume_along_t",),
}  # fmt: skip

PIXEL_FORMATS: Mapping[str, tuple[str, ...]] = {
    "1 to 64 bits, any stored and high bit, packed": (
        "pixels/test_native.py:test_any_layout_is_unpacked_bit_by_bit",
        "pixels/test_native.py:test_packed_cells_of_twelve_bits_are_gdcms"),
    "float and double": ("pixels/test_native.py:test_every_native_syntax_and_type",),
    "1, 3, 4 and more samples, planar 0 and 1": (
        "pixels/test_native.py:test_samples_come_first_whatever_the_planar_configuration",),
    "YBR_FULL, YBR_FULL_422, YBR_PARTIAL": (
        "pixels/test_colour.py:test_every_full_range_colour_is_what_pydicom_makes_of_it",
        "pixels/test_colour.py:test_halved_chroma_belongs_to_both_pixels",
        "pixels/test_colour.py:test_partial_range_turns_back"),
    "YBR_ICT, YBR_RCT": (
        "pixels/test_decode.py:test_jpeg_2000_with_its_component_transform_is_rgb_whatever_the_header_says",),
    "PALETTE COLOR": ("pixels/test_colour.py:test_segmented_palettes",
                      "pixels/test_colour.py:test_a_palette_of_either_width_in_either_order"),
    "native syntaxes": ("scan/test_reference.py:test_all_native_encodings_give_the_same_row",),
    "compressed syntaxes": ("pixels/test_decode.py:test_lossless_grey_is_bit_equal",
                            "pixels/test_decode.py:test_lossy_grey_is_what_every_plugin_of_pydicom_decodes",
                            "pixels/test_rare_syntaxes.py:test_rle_of_three_and_five_bytes"),
    "every transfer syntax of the standard": (
        "scan/test_transfer_syntaxes.py:test_there_is_a_decision_for_each",
        "scan/test_transfer_syntaxes.py:test_an_unknown_syntax_is_named"),
    "deflated frames": ("scan/test_transfer_syntaxes.py:test_frames_without_compression_are_encapsulated",),
}  # fmt: skip

NAMED = (
    *((f"trap {number}", test) for number, (_, tests) in TRAPS.items() for test in tests),
    *((case, f"test_hard_cases.py:{test}") for case, tests in HARD_CASES.items() for test in tests),
    *((kind, test) for kind, tests in KINDS.items() for test in tests),
    *((pixels, test) for pixels, tests in PIXEL_FORMATS.items() for test in tests),
)


@cache
def functions_of(file: str) -> frozenset[str]:
    """Return the names of the test functions of a file."""
    path = TESTS / file
    if not path.is_file():
        return frozenset()
    return frozenset(node.name for node in ast.parse(path.read_text()).body if isinstance(node, ast.FunctionDef))


def test_every_trap_and_hard_case_has_a_test() -> None:
    assert list(TRAPS) == list(range(1, 31))
    assert len(HARD_CASES) == 13
    assert all(tests for _, tests in TRAPS.values())
    assert all((*HARD_CASES.values(), *KINDS.values(), *PIXEL_FORMATS.values()))


@pytest.mark.parametrize(("what", "test"), NAMED)
def test_the_named_test_is_there(what: str, test: str) -> None:
    file, _, name = test.partition(":")
    assert name.startswith("test_"), what
    assert name in functions_of(file), f"{what}: {test} is gone"


def test_a_test_that_is_gone_is_seen() -> None:
    assert "test_gantry" not in functions_of("test_hard_cases.py")
    assert not functions_of("test_no_such_file.py")
