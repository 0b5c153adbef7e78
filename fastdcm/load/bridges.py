"""A volume as an image of another library: same voxels, same physical space, nothing resampled.

SimpleITK takes LPS mm in the order x, y, z; NIfTI takes RAS mm; xarray keeps the store's own axes and coordinates.
The voxels are those of ``Volume.array``: modality values, or stored integers in a store made with ``--values stored``.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np
import numpy.typing as npt

from fastdcm.errors import FastdcmError, GeometryError, UsageError

if TYPE_CHECKING:
    import nibabel
    import SimpleITK as sitk
    import xarray as xr

    from fastdcm.load.volume import Volume

SECONDS = {"ms": 1e-3, "millisecond": 1e-3, "s": 1.0, "second": 1.0}
RGB24 = [("R", "u1"), ("G", "u1"), ("B", "u1")]
"""8-bit colour as NIfTI stores it."""
SHEAR = 2e-3
"""Cosine between two axes from which they are sheared: the sine of ``series.geometry``, which ``verify``, that reads
volumes too, must not depend on."""
SCANNER, ALIGNED = 1, 2  # NIfTI xform codes: exact geometry, and the nominal one of an uneven stack


class MissingPackageError(FastdcmError, ImportError):
    """An optional package is not installed."""


class _Voxels(NamedTuple):
    """What is left after choosing: at most one extra axis unless both were asked for."""

    values: npt.NDArray[Any]
    axes: str
    colour: bool


def to_sitk(volume: Volume, *, t: int | None = None, c: int | None = None, nominal: bool = False) -> sitk.Image:
    """Return a SimpleITK image.

    Colour is a vector image. An axis t (or a c that is not colour) that is not chosen by number becomes the fourth
    dimension; its spacing is the time step in seconds where there is an even one, else 1. A shear is carried by
    the direction.

    Parameters
    ----------
    volume : Volume
        What to convert; it is read whole, or the chosen part of it.
    t, c : int, optional
        Take this one index of the axis.
    nominal : bool
        As in ``Volume.affine``.

    Returns
    -------
    SimpleITK.Image
        3-D or 4-D; ``GetArrayFromImage`` gives the voxels back.

    Raises
    ------
    GeometryError
        There is no affine and ``nominal`` is False.
    UsageError
        Both t and c would have to be the fourth dimension.
    MissingPackageError
        SimpleITK is not installed.
    """
    simpleitk = optional_package("SimpleITK")
    affine = volume.affine("LPS", nominal=nominal)
    check_itk_axes(volume, choose_axes(volume, t, c)[0])
    voxels = _choose(volume, t, c)
    extra = voxels.values.ndim - 3 - voxels.colour
    image = simpleitk.GetImageFromArray(_colour_last(voxels), isVector=voxels.colour)
    direction = np.eye(3 + extra)
    direction[:3, :3] = affine[:3, :3] / np.array(volume.spacing)
    step = (time_step_s(volume) or 1.0,) if voxels.axes[0] == "t" else (1.0,)
    image.SetSpacing(volume.spacing + step[:extra])
    image.SetOrigin(tuple(affine[:3, 3].tolist()) + (0.0,) * extra)
    if not is_nominal(volume):
        direction[:3, :3] = volume.direction  # the stored numbers, without the rounding of a division
    image.SetDirection([float(value) for value in direction.ravel()])
    return cast("sitk.Image", image)


def to_nibabel(
    volume: Volume, *, t: int | None = None, c: int | None = None, nominal: bool = False
) -> nibabel.Nifti1Image:
    """Return a NIfTI-1 image: RAS affine, axes (x, y, z[, t][, c]).

    8-bit colour is the RGB24 type of NIfTI; other colour and channels beside t are its fifth axis. The sform is always
    set, the qform only where the stack is not sheared, because it cannot hold a shear. Both have the code of scanner
    coordinates, or of aligned ones if the geometry is only nominal.

    Parameters
    ----------
    volume : Volume
        What to convert; it is read whole, or the chosen part of it.
    t, c : int, optional
        Take this one index of the axis.
    nominal : bool
        As in ``Volume.affine``.

    Returns
    -------
    nibabel.Nifti1Image
        Header zooms in mm and seconds (0 for an unknown or uneven time step).

    Raises
    ------
    GeometryError
        There is no affine and ``nominal`` is False.
    MissingPackageError
        nibabel is not installed.
    """
    nib = optional_package("nibabel")
    affine = volume.affine("RAS", nominal=nominal)
    voxels = _choose(volume, t, c)
    values = _nifti_order(voxels)
    image = nib.Nifti1Image(values, affine)
    step_s = time_step_s(volume) if voxels.axes[0] == "t" else 0.0
    place_nifti(image.header, affine, step_s=step_s, nominal=is_nominal(volume))
    if voxels.colour and values.ndim == 5:
        image.header.set_intent("vector")
    return cast("nibabel.Nifti1Image", image)


def place_nifti(
    header: nibabel.Nifti1Header, affine: npt.NDArray[np.float64], *, step_s: float = 0.0, nominal: bool = False
) -> None:
    """Say in a NIfTI-1 header where its voxels are: sform, qform, zooms and units.

    The sform is always set, and exact. The qform holds a rotation and no shear: it is the nearest one where the stack
    is not sheared, and has code 0 where it is. (ITK takes an sform only if it is orthonormal to 1e-4, else the qform.)

    Parameters
    ----------
    header : nibabel.Nifti1Header
        Its shape must be set; it is changed.
    affine : ndarray
        (4, 4), voxel-centre index (x, y, z) to mm RAS.
    step_s : float
        Zoom of the fourth axis, s; 0 where it is unknown, uneven or no time.
    nominal : bool
        The codes are those of aligned coordinates instead of the scanner's.
    """
    code, orthogonal = ALIGNED if nominal else SCANNER, _orthogonal(affine)
    header.set_sform(affine, code)
    header.set_qform(affine if orthogonal else None, code if orthogonal else 0)
    zooms = (*np.linalg.norm(affine[:3, :3], axis=0).tolist(), step_s, 1.0)
    header.set_zooms(zooms[: len(header.get_data_shape())])
    header.set_xyzt_units("mm", "sec")


def to_xarray(volume: Volume) -> xr.DataArray:
    """Return a labelled array on top of ``Volume.dask()``.

    Parameters
    ----------
    volume : Volume
        Any volume; nothing but its coordinates is read.

    Returns
    -------
    xarray.DataArray
        Dims as in ``Volume.axes``; z, y, x in mm along the own axis, as in the store (true positions of z where the
        slices are uneven); t and c have the values of their tag where there is one value a step. ``attrs`` has
        modality, kind, units and geometry, as far as they are known.

    Raises
    ------
    MissingPackageError
        xarray is not installed.
    """
    xarray = optional_package("xarray")
    from fastdcm.load.zarrays import open_array

    folder = volume.place / "0"
    coords: dict[str, Any] = {
        axis: (axis, np.asarray(open_array(folder / axis)[:]), {"units": "mm"}) for axis in volume.axes if axis in "zyx"
    }
    for axis, dim in volume.dims.items():
        if axis in volume.axes and _one_value_a_step(dim, volume.shape[volume.axes.index(axis)]):
            unit = {"units": dim["unit"]} if dim.get("unit") else {}
            coords[axis] = (axis, np.asarray(dim["values"]), {"role": dim.get("role", ""), **unit})
    fastdcm = volume.attributes["fastdcm"]
    geometry = fastdcm.get("geometry") or {}
    attrs = {
        "modality": volume.modality,
        "kind": volume.kind,
        "units": (fastdcm.get("intensity") or {}).get("rescale_type"),
        **{name: geometry.get(name) for name in ("space", "spacing", "origin", "direction", "affine")},
    }
    known = {name: value for name, value in attrs.items() if value is not None}
    labelled = xarray.DataArray(volume.dask(), dims=tuple(volume.axes), coords=coords, name="image", attrs=known)
    return cast("xr.DataArray", labelled)


def is_nominal(volume: Volume) -> bool:
    """Tell whether a volume has no exact affine."""
    try:
        volume.affine()
    except GeometryError:
        return True
    return False


def choose_axes(volume: Volume, t: int | None, c: int | None) -> tuple[str, tuple[int | slice, ...]]:
    """Return the axes that are left when t or c are chosen by number, and the index of each axis of the array.

    Raises
    ------
    UsageError
        There is no such axis or index, or c is colour.
    """
    if volume.colour and c is not None:
        raise UsageError("c is red, green and blue here: a colour image is taken whole")
    for axis, chosen in (("t", t), ("c", c)):
        if chosen is not None and axis not in volume.axes:
            raise UsageError(f"the volume has no axis {axis} (its axes are {volume.axes})")
    index: list[int | slice] = []
    axes = ""
    for axis, length in zip(volume.axes, volume.shape, strict=True):
        chosen = {"t": t, "c": c}.get(axis)
        if chosen is None:
            axes += axis
            index.append(slice(None))
        elif -length <= chosen < length:
            index.append(chosen % length)
        else:
            raise UsageError(f"{axis}={chosen} is not within 0..{length - 1}")
    return axes, tuple(index)


def check_itk_axes(volume: Volume, axes: str) -> None:
    """Raise UsageError where more than four dimensions are left, colour not counted."""
    if len(axes) - volume.colour > 4:
        raise UsageError(
            f"the volume has the axes {volume.axes}: choose one with t= or c=, an ITK image has four at most"
        )


def _choose(volume: Volume, t: int | None, c: int | None) -> _Voxels:
    axes, index = choose_axes(volume, t, c)
    return _Voxels(np.asarray(volume.array[index]), axes, volume.colour)


def _colour_last(voxels: _Voxels) -> npt.NDArray[Any]:
    if not voxels.colour:
        return voxels.values
    return np.moveaxis(voxels.values, voxels.axes.index("c"), -1)


def _nifti_order(voxels: _Voxels) -> npt.NDArray[Any]:
    """Return (x, y, z[, t][, c]); 8-bit colour packed into one element."""
    if voxels.colour and voxels.values.dtype == np.uint8:
        packed = np.ascontiguousarray(_colour_last(voxels)).view(np.dtype(RGB24))[..., 0]
        return packed.transpose()
    values, axes = voxels.values, voxels.axes
    if voxels.colour and "t" not in axes:  # the fifth axis is NIfTI's place for vectors
        values, axes = values[np.newaxis], "t" + axes
    order = [axes.index(axis) for axis in "xyztc" if axis in axes]
    return values.transpose(order)


def _orthogonal(affine: npt.NDArray[np.float64]) -> bool:
    """Tell whether a rotation comes as close as an unsheared stack is to its own: what is more is a shear."""
    axes = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    return bool(np.abs(axes.T @ axes - np.eye(3)).max() <= SHEAR)


def _one_value_a_step(dim: dict[str, Any], length: int) -> bool:
    values = dim.get("values")
    return (
        isinstance(values, list) and len(values) == length and not any(v is None or isinstance(v, list) for v in values)
    )


def time_step_s(volume: Volume) -> float:
    """Return the even step of t in seconds, 0.0 if it is unknown or uneven."""
    dim = volume.dims.get("t") or {}
    scale = SECONDS.get(str(dim.get("unit")))
    if scale is None or not _one_value_a_step(dim, len(dim.get("values") or ())):
        return 0.0
    try:
        steps = np.diff(np.asarray(dim["values"], dtype=np.float64))
    except ValueError:
        return 0.0
    even = len(steps) > 0 and steps[0] > 0 and np.allclose(steps, steps.mean(), rtol=0.01)
    return float(steps.mean() * scale) if even else 0.0


def optional_package(name: str, extra: str = "peers") -> Any:
    """Import a package that an extra of fastdcm brings; MissingPackageError names both where it is absent."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        how = f"pip install fastdcm[{extra}]"
        raise MissingPackageError(f"this needs {name}, which is not installed: {how}") from error
