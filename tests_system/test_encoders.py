"""Real images written by dcmtk and GDCM become the same store; what the tests write is valid DICOM.

Needs Debian's packages: apt-get install -y --no-install-recommends dcmtk libgdcm-tools dicom3tools
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydicom import uid as uids

from benchmarks import encoders
from tests import dicomgen

DATA = Path(os.environ["FASTDCM_DATA"]) if os.environ.get("FASTDCM_DATA") else None


@pytest.fixture(scope="module", autouse=True)
def programs() -> None:
    """Fail, and say what to install, where a program is missing."""
    missing = encoders.missing_programs() + [name for name in ("dciodvfy", "dcdump") if shutil.which(name) is None]
    if missing:
        pytest.fail(f"{', '.join(missing)} not found: {encoders.INSTALL}")


@pytest.mark.parametrize("encoder", encoders.ENCODERS, ids=lambda encoder: " ".join(encoder.command))
def test_every_encoding_becomes_the_same_store(encoder: encoders.Encoder, tmp_path: Path) -> None:
    result = encoders.check_encoder(encoder, encoders.images(DATA), tmp_path)
    assert result.wrong == ()
    assert result.images >= 4
    assert result.equal >= 4


KINDS: dict[str, Callable[[Path], Any]] = {
    "CT": lambda folder: dicomgen.make_series(folder, n=2),
    "tilted CT": dicomgen.gantry_tilt,
    "signed and unsigned CT": dicomgen.signedness_differs,
    "phases": dicomgen.two_phases,
    "PET": dicomgen.pet_slopes,
    "MONOCHROME1": dicomgen.monochrome1,
    "enhanced MR": dicomgen.make_enhanced,
    "cine": dicomgen.make_cine,
    "palette": lambda folder: dicomgen.make_palette(folder, bits=16),
    "mosaic": dicomgen.make_mosaic,
    **{
        syntax.name: lambda folder, syntax=syntax: dicomgen.make_series(folder, n=1, transfer_syntax=syntax)  # type: ignore[misc]
        for syntax in (
            uids.ImplicitVRLittleEndian, uids.ExplicitVRBigEndian, uids.RLELossless,
            uids.JPEGLosslessSV1, uids.JPEGLSLossless, uids.JPEG2000Lossless,
        )
    },
}  # fmt: skip
"""What the tests write to be valid; that tiny files leave out much (the patient's sex ...) is all dciodvfy may say."""


@pytest.mark.parametrize("kind", KINDS)
def test_what_dicomgen_writes_is_valid(kind: str, tmp_path: Path) -> None:
    KINDS[kind](tmp_path)
    paths = sorted(tmp_path.rglob("*.dcm"))
    assert paths
    for path in paths:
        judged = subprocess.run(["dciodvfy", str(path)], capture_output=True, text=True, check=False)
        said = [line for line in (judged.stdout + judged.stderr).splitlines() if line.startswith("Error")]
        assert [line for line in said if "Missing attribute" not in line] == []
        dump = subprocess.run(["dcdump", str(path)], capture_output=True, text=True, check=False)
        assert "Error" not in dump.stderr
