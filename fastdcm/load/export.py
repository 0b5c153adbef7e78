"""A volume as a NIfTI, NRRD or MHA file: the same voxels in the same physical space.

All three are a short header and then the raw voxels, so they are written slab by slab: memory does not grow with the
volume, and a full disk is an error and not a short file. nibabel makes the header of NIfTI; the other two are text.
"""

from __future__ import annotations

import gzip
import itertools
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
import numpy.typing as npt

from fastdcm.errors import UsageError
from fastdcm.load.bids import sidecar
from fastdcm.load.bridges import (
    RGB24,
    check_itk_axes,
    choose_axes,
    optional_package,
    place_nifti,
    time_step_s,
)
from fastdcm.load.resample import Cell, Grid, own_grid, regular_grid
from fastdcm.load.volume import LPS_TO_RAS, Volume
from fastdcm.load.volume import open as open_path
from fastdcm.model import Floats
from fastdcm.store.commit import sync_path, writing
from fastdcm.version import __version__

SLAB_BYTES = 64 << 20
NIFTI_HEADER_BYTES = 352
NIFTI_LONGEST = 32767
"""Voxels along an axis: NIfTI-1 counts them in 16 bits."""
GZIP_LEVEL = 1
"""As nibabel: higher levels cost several times the time for a few per cent of the bytes."""
NRRD_TYPES = {
    "u1": "uint8", "i1": "int8", "u2": "uint16", "i2": "int16", "u4": "uint32", "i4": "int32", "u8": "uint64",
    "i8": "int64", "f4": "float", "f8": "double",
}  # fmt: skip
MHA_TYPES = {
    "u1": "MET_UCHAR", "i1": "MET_CHAR", "u2": "MET_USHORT", "i2": "MET_SHORT", "u4": "MET_UINT", "i4": "MET_INT",
    "u8": "MET_ULONG_LONG", "i8": "MET_LONG_LONG", "f4": "MET_FLOAT", "f8": "MET_DOUBLE",
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class _Image:
    """What is exported, after t and c were chosen."""

    grid: Grid
    dtype: np.dtype[Any]
    axes: str
    """Those that are left of tczyx."""
    index: Cell
    """Of the axes before z, y, x, in the order of the store."""
    lengths: tuple[int, ...]
    """Of the axes before z, y, x."""
    names: str
    """Of the axes before z, y, x."""
    colour: bool
    step_s: float
    """Even time step, s; 0 where there is none."""

    def length(self, axis: str) -> int:
        """Return the length of an axis before z, y, x."""
        return self.lengths[self.names.index(axis)]


def export(
    volume: Volume | str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    t: int | None = None,
    c: int | None = None,
    bids: bool = False,
    nominal: bool = False,
    resample: bool = False,
    overwrite: bool = False,
) -> tuple[Path, ...]:
    """Write a volume as one NIfTI, NRRD or MHA file.

    The voxels are those of ``Volume.array``, of the same type, each at the same physical point (PS3.3 C.7.6.2.1.1).
    What such a file keeps is size, spacing, origin, direction and time step; what it loses are the DICOM tags (who,
    when, how; ``bids`` keeps the technical ones of BIDS) and the positions of uneven slices. The store keeps them.

    - ``.nii``, ``.nii.gz``: axes (x, y, z[, t][, c]), RAS, mm and s. sform and qform have code 1 (scanner), with
      ``nominal`` 2 (aligned). 8-bit colour is RGB24, other colour the fifth axis with vector intent. A sheared stack
      has only an sform: nibabel, FSL and others use it, SimpleITK refuses such a file.
    - ``.nrrd``, ``.mha``: LPS, mm, uncompressed; at most four axes and colour as the components of a voxel. A shear
      is in the space directions (TransformMatrix), which SimpleITK reads exactly.

    Parameters
    ----------
    volume : Volume or path
        A volume, or its path ``STORE/<study>/<series>/<n>.ome.zarr``.
    out : path
        File to be written; its ending is the format.
    t, c : int, optional
        Only this index of the axis; negative ones count from the end.
    bids : bool
        With NIfTI: ``.json`` beside the file, with the names and units of BIDS; for diffusion also ``.bval`` and
        ``.bvec`` (see ``fastdcm.load.bids.sidecar``).
    nominal : bool
        Where there is no exact affine, write the nominal one (``Volume.affine``): in part invented.
    resample : bool
        Where there is no exact affine, or a shear, interpolate to a regular, orthogonal grid; see
        ``fastdcm.load.resample.regular_grid`` for steps, rounding and padding. Other volumes are written as they are.
    overwrite : bool
        Replace files that exist.

    Returns
    -------
    tuple of Path
        The files written, ``out`` first. Each is complete or not there.

    Raises
    ------
    UsageError
        The call cannot work, or a file exists.
    GeometryError
        There is no exact affine, and neither ``nominal`` nor ``resample`` is given; or it cannot be resampled.
    TargetError
        Writing failed: disk full, no permission.
    MissingPackageError
        NIfTI needs nibabel, the extra ``export``.

    Examples
    --------
    >>> import fastdcm
    >>> volume = fastdcm.open("out.zarr").query("kernel == 'LUNG' and spacing_z < 2")[0]
    >>> [path.name for path in fastdcm.export(volume, "chest.nii.gz", bids=True)]
    ['chest.nii.gz', 'chest.json']
    >>> import nibabel
    >>> nibabel.load("chest.nii.gz").shape == volume.shape[::-1]
    True
    """
    target = Path(out)
    ending = _ending(target)
    if bids and not ending.startswith(".nii"):
        raise UsageError(f"bids is for NIfTI: name a .nii or .nii.gz file instead of {target.name}")
    if nominal and resample:
        raise UsageError("nominal and resample exclude each other: take the nominal grid as it is, or a resampled one")
    source = _open_volume(volume)
    image = _image(source, t, c, regular_grid(source) if resample else own_grid(source, nominal=nominal))
    write = _writer(source, image, ending)
    beside = sidecar(source, image.grid, image.index) if bids else {}
    stem = target.name[: -len(ending)]
    companions = {target.with_name(stem + end): beside.get(end) for end in (".json", ".bval", ".bvec") if bids}
    _check_free([target, *companions], overwrite=overwrite)
    with writing(target.name):
        return _publish(target, write, companions)


# ---------------------------------------------------------------------------- what is asked for


def _ending(target: Path) -> str:
    for ending in (".nii.gz", ".nii", ".nrrd", ".mha"):
        if target.name.lower().endswith(ending) and len(target.name) > len(ending):
            return ending
    raise UsageError(f"the ending of {target.name!r} names no format: .nii, .nii.gz, .nrrd and .mha do")


def _open_volume(volume: Volume | str | os.PathLike[str]) -> Volume:
    if isinstance(volume, Volume):
        return volume
    opened = open_path(volume if isinstance(volume, str) else Path(volume))
    if isinstance(opened, Volume):
        return opened
    raise (
        UsageError(f"this is a store of {len(opened)} volumes: name one, STORE/{opened.table['volume'][0]}")
        if len(opened)
        else UsageError("this is a store without volumes")
    )


def _image(volume: Volume, t: int | None, c: int | None, grid: Grid) -> _Image:
    axes, index = choose_axes(volume, t, c)
    step_s = time_step_s(volume) if "t" in axes else 0.0
    return _Image(grid, volume.dtype, axes, index[:-3], volume.shape[:-3], volume.axes[:-3], volume.colour, step_s)


def _check_free(targets: list[Path], *, overwrite: bool) -> None:
    for target in targets:
        if target.is_dir():
            raise UsageError(f"{target} is a folder")
        if os.path.lexists(target) and not overwrite:
            raise UsageError(f"{target} exists; overwrite it with --overwrite (overwrite=True), or name another")


# ---------------------------------------------------------------------------- writing


def _publish(target: Path, write: Callable[[Path], None], companions: dict[Path, bytes | None]) -> tuple[Path, ...]:
    """Write every file aside, then rename all, the image last; what a replaced image had beside it goes."""
    token = secrets.token_hex(8)
    aside = {path: path.with_name(f".{token}.{n}.partial") for n, path in enumerate([target, *companions])}
    try:
        write(aside[target])
        for path, data in companions.items():
            if data is not None:
                aside[path].write_bytes(data)
        written = [path for path in aside if companions.get(path) is not None or path == target]
        for path in written:
            sync_path(aside[path])
        for path in companions.keys() - set(written):
            path.unlink(missing_ok=True)
        for path in reversed(written):
            os.replace(aside[path], path)
        return tuple(written)
    finally:
        for path in aside.values():
            with suppress(OSError):
                path.unlink(missing_ok=True)


def _writer(volume: Volume, image: _Image, ending: str) -> Callable[[Path], None]:
    """Return what writes the image to a path; all that can be refused is refused here."""
    if ending.startswith(".nii"):
        packed = image.colour and image.dtype == np.uint8
        header, order = _nifti_header(image, packed=packed), "ct"
    else:
        check_itk_axes(volume, image.axes)
        packed, order = image.colour, "tc"
        header = _nrrd_header(image) if ending == ".nrrd" else _mha_header(image)
    depth = _slab_depth(volume)

    def write(path: Path) -> None:
        with path.open("xb") as file:
            if ending == ".nii.gz":
                with gzip.GzipFile("", "wb", GZIP_LEVEL, file, mtime=0) as packer:
                    _write_voxels(cast("IO[bytes]", packer), header, _slabs(image, order, packed, depth))
            else:
                _write_voxels(file, header, _slabs(image, order, packed, depth))

    return write


def _write_voxels(file: IO[bytes], header: bytes, slabs: Iterator[npt.NDArray[Any]]) -> None:
    file.write(header)
    for slab in slabs:
        little = np.ascontiguousarray(slab, dtype=slab.dtype.newbyteorder("<"))
        file.write(little.reshape(-1).view(np.uint8).data)


def _slab_depth(volume: Volume) -> int:
    """Return how many slices are read at once: whole chunks, of about ``SLAB_BYTES``."""
    chunk = int(volume.array.chunks[-3])
    plane = int(np.prod(volume.shape[-2:])) * volume.dtype.itemsize * (3 if volume.colour else 1)
    return max(1, SLAB_BYTES // (chunk * plane)) * chunk


def _slabs(image: _Image, order: str, packed: bool, depth: int) -> Iterator[npt.NDArray[Any]]:
    """Yield the voxels in the order of the file; ``order`` has the axes before z, the slowest first."""
    names = [axis for axis in order if axis in image.axes and not (packed and axis == "c")]
    for steps in itertools.product(*(range(image.length(axis)) for axis in names)):
        chosen = dict(zip(names, steps, strict=True))
        cell = tuple(chosen.get(axis, at) for axis, at in zip(image.names, image.index, strict=True))
        for start in range(0, image.grid.shape[0], depth):
            slab = image.grid.read(cell, start, min(start + depth, image.grid.shape[0]))
            yield np.moveaxis(slab, 0, -1) if packed else slab


# ---------------------------------------------------------------------------- headers


def _nifti_header(image: _Image, *, packed: bool) -> bytes:
    header = optional_package("nibabel", "export").Nifti1Header(endianness="<")
    shape = image.grid.shape[::-1]
    lengths = [image.length(axis) for axis in "tc" if axis in image.axes and not (packed and axis == "c")]
    vector = image.colour and not packed
    if vector and "t" not in image.axes:
        lengths = [1, *lengths]  # the fifth axis is NIfTI's place for vectors
    if max(*shape, *lengths, 1) > NIFTI_LONGEST:
        raise UsageError(
            f"an axis has {max(*shape, *lengths)} voxels, NIfTI-1 holds {NIFTI_LONGEST}: take .nrrd or .mha"
        )
    header.set_data_dtype(np.dtype(RGB24) if packed else image.dtype)
    header.set_data_shape((*shape, *lengths))
    place_nifti(header, LPS_TO_RAS @ image.grid.affine, step_s=image.step_s, nominal=image.grid.nominal)
    if vector:
        header.set_intent("vector")
    header["descrip"] = f"fastdcm {__version__}".encode()
    header["vox_offset"] = NIFTI_HEADER_BYTES
    return bytes(header.binaryblock).ljust(NIFTI_HEADER_BYTES, b"\0")


def _itk_axes(image: _Image) -> tuple[tuple[int, ...], Floats]:
    """Return size in x, y, z[, t or c] order and the (d, d) vectors from voxel to voxel, one a row."""
    extra = [axis for axis in image.axes[:-3] if not (image.colour and axis == "c")]
    size = (*image.grid.shape[::-1], *(image.length(axis) for axis in extra))
    vectors = np.eye(3 + len(extra))
    vectors[:3, :3] = image.grid.affine[:3, :3].T
    if extra == ["t"]:
        vectors[3, 3] = image.step_s or 1.0
    return size, vectors


def _numbers(values: Any) -> list[str]:
    return [repr(float(value) + 0.0) for value in values]


def _nrrd_header(image: _Image) -> bytes:
    """Return the text header (teem.sourceforge.net/nrrd/format.html)."""
    size, vectors = _itk_axes(image)
    fourth, colour = len(size) == 4, image.colour
    kinds = ["space"] * 3 + (["time" if "t" in image.axes else "domain"] if fourth else [])
    units = ["mm"] * 3 + (["s" if image.step_s else ""] if fourth else [])
    directions = [f"({','.join(_numbers(row))})" for row in vectors]
    origin = ",".join(_numbers([*image.grid.affine[:3, 3], *[0.0] * fourth]))
    lines = [
        "NRRD0005",
        f"# written by fastdcm {__version__}",
        f"type: {NRRD_TYPES[image.dtype.str[1:]]}",
        f"dimension: {len(size) + colour}",
        f"space: left-posterior-superior{'-time' if fourth else ''}",
        f"sizes: {' '.join(map(str, ((3,) if colour else ()) + size))}",
        f"space directions: {' '.join(['none'] * colour + directions)}",
        f"kinds: {' '.join(['RGB-color'] * colour + kinds)}",
        "endian: little",
        "encoding: raw",
        "space units: " + " ".join(f'"{unit}"' for unit in units),
        f"space origin: ({origin})",
    ]
    return ("\n".join(lines) + "\n\n").encode()


def _mha_header(image: _Image) -> bytes:
    """Return the text header (itk.org/Wiki/ITK/MetaIO/Documentation)."""
    size, vectors = _itk_axes(image)
    spacing = np.linalg.norm(vectors, axis=1)
    origin = [*image.grid.affine[:3, 3], *[0.0] * (len(size) - 3)]
    lines = [
        "ObjectType = Image",
        f"NDims = {len(size)}",
        "BinaryData = True",
        "BinaryDataByteOrderMSB = False",
        "CompressedData = False",
        f"TransformMatrix = {' '.join(_numbers((vectors / spacing[:, None]).ravel()))}",
        f"Offset = {' '.join(_numbers(origin))}",
        f"CenterOfRotation = {' '.join(['0'] * len(size))}",
        f"ElementSpacing = {' '.join(_numbers(spacing))}",
        f"DimSize = {' '.join(map(str, size))}",
        *(["ElementNumberOfChannels = 3"] if image.colour else []),
        f"ElementType = {MHA_TYPES[image.dtype.str[1:]]}",
        "ElementDataFile = LOCAL",
    ]
    return ("\n".join(lines) + "\n").encode()
