"""A decoder that crashes or hangs, planted where a child process starts: the product has no switch for it."""

from __future__ import annotations

from pathlib import Path

from pydicom import dcmread
from pydicom.encaps import encapsulate, generate_frames

CRASH, HANG = b"planted crash", b"planted hang"

_SITECUSTOMIZE = """
import ctypes
import imagecodecs

real = imagecodecs.jpeg2k_decode

def jpeg2k_decode(data, *args, **kwargs):
    if b"planted crash" in bytes(data):
        ctypes.string_at(0)
    if b"planted hang" in bytes(data):
        ctypes.PyDLL(None).pause()
    return real(data, *args, **kwargs)

imagecodecs.jpeg2k_decode = jpeg2k_decode
"""


def plant_decoder(folder: Path) -> Path:
    """Write what makes the JPEG 2000 decoder of every Python that has the folder in PYTHONPATH end its process."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "sitecustomize.py").write_text(_SITECUSTOMIZE)
    return folder


def spoil(path: Path, what: bytes) -> None:
    """Let a JPEG 2000 file of one frame crash or hang the planted decoder; any other decodes it as before."""
    dataset = dcmread(path)
    (frame,) = generate_frames(dataset.PixelData, number_of_frames=1)
    dataset.PixelData = encapsulate([frame.rstrip(b"\0") + what])
    dataset.save_as(path)
