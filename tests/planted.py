"""A decoder that crashes or hangs, planted where a child process starts: the product has no switch for it."""

from __future__ import annotations

from pathlib import Path

from pydicom import dcmread
from pydicom.encaps import encapsulate, generate_frames

CRASH, HANG = b"planted crash", b"planted hang"

_SITECUSTOMIZE = """
import sys


class Planter:
    def find_spec(self, name, path=None, target=None):
        if name != "imagecodecs":
            return None
        from importlib.util import find_spec
        sys.meta_path.remove(self)
        spec = find_spec(name)
        load = spec.loader.exec_module
        spec.loader.exec_module = lambda module: (load(module), plant(module))
        return spec


def plant(imagecodecs):
    import ctypes
    real = imagecodecs.jpeg2k_decode

    def jpeg2k_decode(data, *args, **kwargs):
        if b"planted crash" in bytes(data):
            ctypes.string_at(0)
        if b"planted hang" in bytes(data):
            ctypes.PyDLL(None).pause()
        return real(data, *args, **kwargs)

    imagecodecs.jpeg2k_decode = jpeg2k_decode


sys.meta_path.insert(0, Planter())  # when it is asked for: most processes decode nothing
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
