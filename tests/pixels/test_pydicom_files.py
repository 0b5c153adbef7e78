"""Every frame of every file that pydicom and pydicom-data install is what pydicom makes of it."""

from __future__ import annotations

from pathlib import Path

import data_store
import pydicom.data
import pytest

from fastdcm.errors import Code
from tests.pixels.reference import both, difference

FOLDERS = (Path(pydicom.data.__file__).parent / "test_files", Path(data_store.__file__).parent / "data")
FILES = sorted(path for folder in FOLDERS for path in folder.rglob("*") if path.is_file() and path.suffix != ".py")

UNREADABLE = {
    "MR_truncated.dcm": Code.TRUNCATED,
    "JPEG2000-embedded-sequence-delimiter.dcm": Code.DECODE,
    "no_meta_group_length.dcm": None,
}
"""Files that neither can decode, and why."""

BIG_ENDIAN_PALETTES = {"OBXXXX1A_expb.dcm", "OBXXXX1A_expb_2frame.dcm"}
"""pydicom 3.0 reads these palettes as little endian; the same image in little endian shows that they are not."""


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_frame_is_what_pydicom_decodes(path: Path) -> None:
    try:
        case = both(path)
    except ValueError:  # hand-made header without any transfer syntax
        case = None
    if case is None or path.name in BIG_ENDIAN_PALETTES:
        return
    if case.reference is None:
        assert case.read is not None or case.faults[0].code == UNREADABLE[path.name]
        return
    assert case.faults == ()
    assert difference(case) <= case.tolerance


@pytest.mark.parametrize(
    ("name", "same"), [("OBXXXX1A_expb.dcm", "OBXXXX1A.dcm"), ("OBXXXX1A_rle.dcm", "OBXXXX1A.dcm")]
)
def test_a_big_endian_palette_is_the_same_colours(name: str, same: str) -> None:
    cases = [both(path) for path in FILES if path.name in (name, same)]
    assert len(cases) == 2
    first, second = (case.read for case in cases if case is not None)
    assert first is not None
    assert second is not None
    assert (first == second).all()


def test_the_files_are_there() -> None:
    assert len(FILES) > 150
