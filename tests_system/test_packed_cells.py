"""Cells of any number of bits, one after the other (PS3.5 8.1.1), as dcmtk reads them.

Needs Debian's package: apt-get install -y --no-install-recommends dcmtk
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from pydicom.uid import SecondaryCaptureImageStorage

import fastdcm
from tests import dicomgen

ROWS, COLUMNS = 6, 7


def by_dcmtk(path: Path, bits: int) -> npt.NDArray[np.uint64]:
    """Return (rows, columns) as dcmtk writes them with all their bits, nothing windowed."""
    target = path.with_suffix(".pgm")
    command = ["dcmj2pnm", "+opn", str(bits), str(path), str(target)]
    subprocess.run(command, check=True, capture_output=True, timeout=60, stdin=subprocess.DEVNULL)
    words = [line for line in target.read_text().splitlines() if not line.startswith("#")]
    kind, columns, rows, top, *values = " ".join(words).split()
    assert (kind, int(top)) == ("P2", (1 << bits) - 1)
    return np.array(values, np.uint64).reshape(int(rows), int(columns))


@pytest.mark.parametrize(
    ("allocated", "stored", "high"),
    [
        (2, 2, 1),
        (4, 4, 3),
        (10, 10, 9),
        (12, 12, 11),
        (12, 9, 10),
        (20, 20, 19),
        (24, 24, 23),
        (24, 13, 20),
        (32, 32, 31),
        (40, 20, 30),
    ],
)
def test_packed_cells_are_dcmtks(allocated: int, stored: int, high: int, tmp_path: Path) -> None:
    if shutil.which("dcmj2pnm") is None:
        pytest.fail("dcmj2pnm not found: apt-get install -y --no-install-recommends dcmtk")
    random = np.random.default_rng(allocated)
    values = random.integers(0, 1 << stored, (ROWS, COLUMNS))
    values.ravel()[:2] = 0, (1 << stored) - 1  # dcmtk stretches nothing then
    low = high + 1 - stored
    stream = sum(int(value) << low << allocated * number for number, value in enumerate(values.ravel()))
    size = -(-ROWS * COLUMNS * allocated // 16) * 2
    module = dicomgen.pixel_module(values[None].astype(np.uint32), bits_stored=stored)
    module |= {"BitsAllocated": allocated, "HighBit": high, "Modality": "OT"}
    made = dicomgen.new_dataset(SecondaryCaptureImageStorage, dicomgen.uid("packed"), PatientID="P", **module)
    made.StudyInstanceUID, made.SeriesInstanceUID = dicomgen.uid("study"), dicomgen.uid("series")
    made.PixelData = stream.to_bytes(size, "little")
    made["PixelData"].VR = "OW"
    path = dicomgen.save(made, tmp_path / "in" / "a.dcm")
    fastdcm.convert(str(path), str(tmp_path / "out.zarr"), workers=1)
    store = fastdcm.open(tmp_path / "out.zarr")
    assert isinstance(store, fastdcm.Store)
    (volume,) = store.volumes
    assert np.array_equal(np.squeeze(volume.numpy()), values)
    assert np.array_equal(by_dcmtk(path, stored), values)
