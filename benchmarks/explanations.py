"""Why a reference differs from fastdcm, by the standard: each entry covers known differences and no others."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import NamedTuple

from benchmarks.judged import Finding


class Explanation(NamedTuple):
    """What decides a difference."""

    reference: str
    files: tuple[str, ...]
    """Patterns of file names."""
    text: str
    """The difference in words: exact, with its numbers, or a pattern that another reference must bear out."""
    why: str

    def covers(self, finding: Finding) -> bool:
        """Tell whether this explains a difference."""
        if self.reference != finding.reference or not fnmatchcase(finding.text, self.text):
            return False
        return any(fnmatchcase(finding.file, pattern) for pattern in self.files)


MONOCHROME1 = ("*/77654033/CR?/*", "*/RG1_*", "*/RG3_*", "*/dx_image.dcm")
PALETTES = ("*/examples_palette.dcm", "*/OT-PAL-8-face.dcm", "*/OBXXXX1A*")
RLE_16 = ("*/SC_rgb_rle_16bit*", "*/SC_rgb_rle_32bit*")

EXPLANATIONS: tuple[Explanation, ...] = (
    Explanation(
        "SimpleITK",
        MONOCHROME1,
        "values*",
        "SimpleITK turns MONOCHROME1 over. It says how values are to be shown (PS3.3 C.7.6.3.1.2), not what they are.",
    ),
    Explanation(
        "SimpleITK",
        PALETTES,
        "values*",
        "SimpleITK gives 8 bits. These palettes have entries of 16 bits by their descriptor (PS3.3 C.7.6.3.1.5).",
    ),
    Explanation(
        "GDCM",
        RLE_16,
        "differs*",
        "GDCM mixes the segments: of a composite pixel code the most significant byte comes first, sample by "
        "sample (PS3.5 G.2). "
        "pydicom agrees with fastdcm.",
    ),
    Explanation("SimpleITK", RLE_16, "values*", "Reads by GDCM, see there."),
    Explanation(
        "GDCM",
        ("*/J2K_pixelrep_mismatch.dcm",),
        "differs*",
        "The codestream says unsigned, Pixel Representation signed. The header says what the bits mean (PS3.5 8.2.4, "
        "PS3.3 C.7.6.3.1); pydicom agrees with fastdcm.",
    ),
    Explanation("dcm2niix", ("*/J2K_pixelrep_mismatch.dcm",), "*", "As GDCM: it follows the codestream."),
    Explanation(
        "GDCM",
        ("*/rtdose_expb.dcm",),
        "differs*",
        "32-bit cells in big endian OW: GDCM swaps bytes within words of 16 bits, as PS3.5 6.2 says; this file has "
        "whole cells in it, as pydicom reads them. fastdcm reads both and lets the values tell: the doses of this "
        "file, and of those that dcmtk writes, are those of their little endian twin.",
    ),
    Explanation(
        "dcm2niix",
        ("*/rtdose.dcm", "*/rtdose_rle.dcm", "*/rtdose_expb.dcm"),
        "grids lie 14.000 mm apart",
        "dcm2niix has no rule for RT Dose: it gives the planes steps of 1 mm, the Grid Frame Offset Vector says 5 mm "
        "(PS3.3 C.8.8.3.2).",
    ),
    Explanation(
        "dcm2niix",
        ("*/rtdose*_1frame.dcm", "*/badVR.dcm"),
        "1 of 1 cells differ",
        "dcm2niix has no rule for RT Dose: values are stored x Dose Grid Scaling (PS3.3 C.8.8.3). pydicom or GDCM "
        "agrees with fastdcm.",
    ),
    Explanation(
        "SimpleITK",
        ("*/badVR.dcm",),
        "values up to 1.254e+06 apart",
        "SimpleITK does not apply Dose Grid Scaling (PS3.3 C.8.8.3) here. GDCM's stored values x it agree with "
        "fastdcm.",
    ),
    Explanation(
        "SimpleITK",
        ("*/mlut_18.dcm",),
        "values*",
        "SimpleITK ignores the Modality LUT Sequence (PS3.3 C.11.1). pydicom agrees with fastdcm.",
    ),
    *(
        Explanation(
            "SimpleITK",
            (files,),
            f"slices up to {apart_mm} mm apart",
            "The steps are uneven. SimpleITK gives all slices the mean step; fastdcm keeps each at its Image "
            f"Position (PS3.3 C.7.6.2.1.1), up to {apart_mm} mm from there, and has no affine.",
        )
        for files, apart_mm in (
            ("*/77654033/CT2/17106", "134"),
            ("*/2D_16Echo_qT2/TE_20_SlcPos_-33.707626341697.dcm", "5.25"),
            ("*/sliceincrement/001/*", "3.33"),
            ("*/sliceincrement/002/*", "0.832"),
        )
    ),
    Explanation(
        "SimpleITK",
        ("*/gantrytilting/*",),
        "slices up to 3.63 mm apart",
        "Tilted gantry. SimpleITK takes the normal as third direction; the positions (PS3.3 C.7.6.2.1.1) say "
        "otherwise.",
    ),
    Explanation(
        "dcm2niix",
        ("*/gantrytilting/*",),
        "grids lie 0.446 mm apart",
        "Tilted gantry. The affine of dcm2niix has the distance along the normal (4.85 mm) as step along z; the "
        "positions are "
        "5.00 mm apart (PS3.3 C.7.6.2.1.1). The image that it resamples in addition is not compared.",
    ),
    Explanation(
        "dcm2niix",
        ("*/jpeg2000-multiframe-multifragments.dcm",),
        "reaches*",
        "All 19 frames have one Plane Position (PS3.3 C.7.6.16.2.3): a series in time, not slices.",
    ),
    Explanation(
        "pydicom",
        ("*/sm_image*",),
        "failed / unsupported-wsi",
        "Whole-slide images are not converted yet, and said so file by file.",
    ),
    Explanation(
        "NIfTI",
        ("*/philips_enhanced/dti/*",),
        "voxels differ by up to 605.816, 99.64% of them",
        "The reference holds one direction, and empty volumes in place of the other repeats; the file has b=0 "
        "and three directions, "
        "all non-zero (PS3.3 C.8.13.5.9). dcm2niix and highdicom agree with fastdcm.",
    ),
    Explanation(
        "NIfTI",
        ("*/sliceincrement/002*",),
        "no affine: steps of 0.778 to 1.556 mm",
        "The reference is resampled to even steps; the positions are uneven (PS3.3 C.7.6.2.1.1).",
    ),
    Explanation(
        "NIfTI",
        ("*/orientation.nii.gz",),
        "reaches outside by 63 voxels: shape (32, 48, 64) against (32, 48, 64)",
        "The reference has its slices from z = 0 upwards, the files' positions run from -126 to 0 (PS3.3 C.7.6.2.1.1). "
        "SimpleITK and dcm2niix agree with fastdcm.",
    ),
)
