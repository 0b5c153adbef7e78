"""A store as a catalogue of volumes, and a volume as an array with its place in the patient.

Everything is read when it is first asked for, so a store of a hundred thousand volumes opens at once. Lengths are mm in
the patient frame LPS (PS3.3 C.7.6.2.1.1). Arrays have the axes t, c, z, y, x; spacing, origin and direction x, y, z.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np
import numpy.typing as npt

from fastdcm.errors import GeometryError, UsageError
from fastdcm.load.catalog import inside, read_catalog, read_references
from fastdcm.load.zarrays import open_array
from fastdcm.model import Floats, Json
from fastdcm.places import Place, Url, folder_of, place_of

if TYPE_CHECKING:
    import dask.array as da
    import nibabel
    import pyarrow as pa
    import SimpleITK as sitk
    import xarray as xr
    import zarr

Roi = Sequence[slice | tuple[int, int]]
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


def open(path: str | Path | Url) -> Store | Volume:
    """Open a store, or one volume of it.

    Parameters
    ----------
    path : str or Path
        The root of a store, or the folder of a volume (``<study>/<series>/<n>.ome.zarr``); ``s3://bucket/store.zarr``
        and other URLs of object stores are read in place.

    Returns
    -------
    Store or Volume
        By what the folder holds.

    Raises
    ------
    UsageError
        The folder is neither.

    Examples
    --------
    >>> import fastdcm
    >>> store = fastdcm.open("out.zarr")
    >>> len(store), store[0].axes
    (5, 'zyx')
    """
    folder = place_of(path)
    attributes = _group_attributes(folder)
    ours = attributes.get("fastdcm")
    if isinstance(ours, dict) and "catalog" in ours:
        return Store(folder, read_catalog(folder, ours))
    if isinstance(ours, dict) and "ome" in attributes:
        return Volume(folder)
    raise UsageError(f"{folder} is a Zarr group, but neither a fastdcm store nor a volume of one")


@dataclass(frozen=True, eq=False, repr=False)
class Volume:
    """One volume of a store: a complete OME-Zarr image with its geometry."""

    place: Place
    """The folder ``<n>.ome.zarr``, or its URL."""

    @property
    def path(self) -> Path:
        """The folder. Raises UsageError where the store is at a URL (``place`` has it)."""
        return folder_of(self.place)

    @property
    def home(self) -> tuple[Place, str]:
        """Root of its store, and its path in that: ``<study>/<series>/<n>.ome.zarr``."""
        place = self.place.absolute()
        series, study = place.parent, place.parent.parent
        return study.parent, f"{study.name}/{series.name}/{place.name}"

    @cached_property
    def attributes(self) -> Json:
        """All attributes of the volume's group: ``ome`` and ``fastdcm`` (docs/store.md)."""
        attributes = _group_attributes(self.place)
        if "fastdcm" not in attributes:
            raise UsageError(f"{self.place} is not a fastdcm volume")
        return attributes

    @cached_property
    def array(self) -> zarr.Array[Any]:
        """The voxels as a read-only ``zarr.Array``, axes as in ``axes``."""
        return open_array(self.place / "0" / "image")

    @cached_property
    def axes(self) -> str:
        """The axes that the array has, of tczyx in this order."""
        return "".join(axis["name"] for axis in self.attributes["ome"]["multiscales"][0]["axes"])

    @cached_property
    def shape(self) -> tuple[int, ...]:
        """Length of each axis."""
        return tuple(int(n) for n in self.array.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of a voxel."""
        return np.dtype(self.array.dtype)

    @property
    def kind(self) -> str:
        """Localizer, segmentation, dose, cine, 4d, volume or 2d."""
        return str(self._part("identity").get("kind", ""))

    @property
    def modality(self) -> str:
        """Modality (0008,0060), empty when unknown."""
        return str(self._part("identity").get("modality", ""))

    @property
    def dims(self) -> Json:
        """What runs along t and c: ``{"c": {"role": "b_value", "unit": "s mm-2", "values": [...]}}``."""
        return self._part("dims")

    @property
    def slices(self) -> Json:
        """Columns by slice (position, instance number, ...): lists by [t][c][z] in C order, without colour."""
        return self._part("slices")

    @cached_property
    def references(self) -> pa.Table:
        """The rows of ``Store.references`` that are about this volume; none where it stands alone."""
        root, name = self.home
        return read_references(root, volume=name)

    @property
    def colour(self) -> bool:
        """True where the c axis is red, green, blue."""
        rgb = self._part("intensity").get("photometric_interpretation") == "RGB"
        return rgb and "c" in self.axes and self.shape[self.axes.index("c")] == 3

    @property
    def spacing(self) -> tuple[float, float, float]:
        """(dx, dy, dz), mm; 1.0 where unknown (``spacing_kind`` or ``spacing_z_source`` is then ``none``)."""
        dx, dy, dz = self._part("geometry").get("spacing") or (1.0, 1.0, 1.0)
        return float(dx), float(dy), float(dz)

    @property
    def origin(self) -> tuple[float, float, float]:
        """Centre of voxel (0, 0, 0), mm LPS. Raises GeometryError without a position."""
        x, y, z = self._known("origin")
        return float(x), float(y), float(z)

    @property
    def direction(self) -> Floats:
        """(3, 3), columns are the unit directions of x, y, z (oblique if sheared). Raises GeometryError if unknown."""
        return np.array(self._known("direction"), dtype=np.float64).reshape(3, 3)

    def affine(self, space: Literal["LPS", "RAS"] = "LPS", *, nominal: bool = False) -> Floats:
        """Return the matrix from voxel-centre index (x, y, z) to mm.

        Parameters
        ----------
        space : {"LPS", "RAS"}
            Patient frame: DICOM and ITK use LPS, NIfTI RAS.
        nominal : bool
            Where there is no exact affine, return the one of origin, direction and (most frequent) spacing; what is
            unknown is 0, the unit matrix and 1.

        Returns
        -------
        ndarray
            (4, 4) float64. For uniform volumes ``affine @ (0, 0, k, 1)`` is ImagePositionPatient of slice k
            (PS3.3 C.7.6.2.1.1).

        Raises
        ------
        GeometryError
            The stack is uneven or has no position, and ``nominal`` is False.

        Warns
        -----
        UserWarning
            The positions are in a frame of reference of their own (ultrasound volumes): lengths and angles are right,
            but where the patient's left, back and head are is not known.

        Examples
        --------
        >>> import fastdcm
        >>> volume = fastdcm.open("out.zarr").query("kernel == 'LUNG' and spacing_z < 2")[0]
        >>> (volume.affine() @ (0, 0, 1, 1)).tolist()  # ImagePositionPatient of the second slice
        [-194.2, -200.0, -151.0, 1.0]
        """
        if space not in ("LPS", "RAS"):
            raise UsageError(f"space is LPS or RAS, not {space!r}")
        exact = self._part("geometry").get("affine")
        if exact is None and not nominal:
            raise GeometryError(self._why_no_affine())
        if self._part("geometry").get("space", "LPS") != "LPS":
            warnings.warn("this volume has a frame of reference of its own, which is not the patient's", stacklevel=2)
        lps = self._nominal_affine() if exact is None else np.array(exact, dtype=np.float64).reshape(4, 4)
        return lps if space == "LPS" else LPS_TO_RAS @ lps

    def numpy(self, roi: Roi | None = None) -> npt.NDArray[Any]:
        """Read voxels.

        Parameters
        ----------
        roi : sequence of slice or (start, stop), optional
            One a axis, for the LAST axes: ``((0, 32), (100, 228), (100, 228))`` is z, y, x. Pairs must lie within the
            axis; slices are numpy's (step 1 or more).

        Returns
        -------
        ndarray
            Axes as in ``axes``.

        Examples
        --------
        >>> import fastdcm
        >>> volume = fastdcm.open("out.zarr").query("kernel == 'LUNG' and spacing_z < 2")[0]
        >>> volume.numpy(((0, 16), (200, 296), (200, 296))).shape
        (16, 96, 96)
        """
        return np.asarray(self.array[self._selection(roi)])

    def dask(self, chunks: Any = None) -> da.Array:
        """Return the voxels as a lazy ``dask.array``, one block a shard unless ``chunks`` says otherwise."""
        import dask.array

        array = self.array
        chunks = chunks or array.shards or array.chunks
        lazy: da.Array = dask.array.from_array(array, chunks=chunks, name=False)  # type: ignore[no-untyped-call]
        return lazy

    def to_sitk(self, *, t: int | None = None, c: int | None = None, nominal: bool = False) -> sitk.Image:
        """Return a SimpleITK image; see ``fastdcm.load.bridges.to_sitk``."""
        from fastdcm.load import bridges

        return bridges.to_sitk(self, t=t, c=c, nominal=nominal)

    def to_nibabel(self, *, t: int | None = None, c: int | None = None, nominal: bool = False) -> nibabel.Nifti1Image:
        """Return a NIfTI-1 image; see ``fastdcm.load.bridges.to_nibabel``."""
        from fastdcm.load import bridges

        return bridges.to_nibabel(self, t=t, c=c, nominal=nominal)

    def to_xarray(self) -> xr.DataArray:
        """Return a labelled, lazy array; see ``fastdcm.load.bridges.to_xarray``."""
        from fastdcm.load import bridges

        return bridges.to_xarray(self)

    def __repr__(self) -> str:
        """Say what it is in one line."""
        shape = "x".join(map(str, self.shape))
        spacing = " x ".join(f"{mm:g}" for mm in self.spacing)
        affine = "" if self._part("geometry").get("affine") else ", no affine"
        return f"<Volume {self.modality} {self.kind} {self.axes} {shape} {self.dtype}, {spacing} mm{affine}>"

    def _part(self, name: str) -> Json:
        part = self.attributes["fastdcm"].get(name)
        return part if isinstance(part, dict) else {}

    def _known(self, name: str) -> Any:
        value = self._part("geometry").get(name)
        if value is None:
            raise GeometryError(f"this volume has no {name}: {self._why_no_affine()}")
        return value

    def _why_no_affine(self) -> str:
        geometry = self._part("geometry")
        if geometry.get("origin") is None or not geometry.get("has_position", True):
            return (
                "its images have no (usable) ImagePositionPatient and ImageOrientationPatient, and none is made up; "
                "nominal=True takes origin 0 and the unit matrix for what is unknown"
            )
        return (
            f"its slices are uneven (up to {geometry.get('max_residual_mm', 0.0):.3f} mm off the best even grid, "
            f"{len(geometry.get('missing_slices') or ())} missing), so no single affine is right; the true positions "
            "are in slices['position'], nominal=True takes the most frequent step"
        )

    def _nominal_affine(self) -> Floats:
        geometry = self._part("geometry")
        direction = geometry.get("direction")
        affine = np.eye(4)
        affine[:3, :3] = (np.eye(3) if direction is None else self.direction) * np.array(self.spacing)
        affine[:3, 3] = geometry.get("origin") or (0.0, 0.0, 0.0)
        return affine

    def _selection(self, roi: Roi | None) -> tuple[slice, ...]:
        parts = tuple(roi or ())
        if len(parts) > len(self.shape):
            raise UsageError(f"the roi has {len(parts)} axes, the volume {len(self.shape)} ({self.axes})")
        first = len(self.shape) - len(parts)
        pairs = zip(self.axes[first:], self.shape[first:], parts, strict=True)
        return (slice(None),) * first + tuple(_one_selection(axis, length, part) for axis, length, part in pairs)


@dataclass(frozen=True, eq=False, repr=False)
class Store(Sequence[Volume]):
    """A catalogue of volumes: the whole store, or what a query left of it."""

    place: Place
    """Root of the store: a folder or a URL."""
    table: pa.Table
    """One row a volume, columns ``model.CATALOG_COLUMNS``."""

    @property
    def path(self) -> Path:
        """The root's folder. Raises UsageError where the store is at a URL (``place`` has it)."""
        return folder_of(self.place)

    @cached_property
    def attributes(self) -> Json:
        """All attributes of the root group: ``fastdcm`` has version, catalogue, generation and totals."""
        return _group_attributes(self.place)

    @cached_property
    def volumes(self) -> tuple[Volume, ...]:
        """The volumes, in the order of ``table``; each is opened when it is first used."""
        return tuple(Volume(self.place / inside(name)) for name in self.table.column("volume").to_pylist())

    @cached_property
    def references(self) -> pa.Table:
        """What reports, structure sets, segmentations and the like of the whole store are about (docs/store.md).

        One row for each object, series that it refers to, and volume of that series.
        """
        return read_references(self.place)

    def query(self, where: str) -> Store:
        """Return the volumes for which an SQL expression over the columns of ``table`` is true.

        For example ``modality == 'CT' and slices > 30 and spacing_z <= 1.25``; the language is that of ``--where``.
        Raises UsageError, with the columns, where the expression is not usable.

        Examples
        --------
        >>> import fastdcm
        >>> len(fastdcm.open("out.zarr").query("modality == 'CT' and slices > 20 and spacing_z <= 1.25"))
        2
        """
        from fastdcm.load.query import filter_rows

        rows = np.array(filter_rows(self.table, where), dtype=np.int64)  # typed also when there are none
        return Store(self.place, self.table.take(rows))

    def __len__(self) -> int:
        """Return the number of volumes."""
        return int(self.table.num_rows)

    def __iter__(self) -> Iterator[Volume]:
        """Go through the volumes."""
        return iter(self.volumes)

    @overload
    def __getitem__(self, key: int | str) -> Volume: ...
    @overload
    def __getitem__(self, key: slice) -> tuple[Volume, ...]: ...
    def __getitem__(self, key: int | str | slice) -> Volume | tuple[Volume, ...]:
        """Return a volume by number or by its path in the store, or several by a slice."""
        if not isinstance(key, str):
            return self.volumes[key]
        names: list[str] = self.table.column("volume").to_pylist()
        if key not in names:
            raise KeyError(key)
        return self.volumes[names.index(key)]

    def __repr__(self) -> str:
        """Say how much of what there is, and how to go on."""
        modalities = self.table.column("modality").to_pylist()
        counts = sorted((str(name or "?"), modalities.count(name)) for name in set(modalities))
        content = ", ".join(f"{count} {name}" for name, count in counts)
        hint = "; .table has the columns, .query(...) selects, [0] is the first volume" if len(self) else ""
        return f"<Store of {len(self)} volumes ({content}){hint}>"


def _one_selection(axis: str, length: int, part: slice | tuple[int, int]) -> slice:
    if isinstance(part, slice):
        return part
    start, stop = part
    if not 0 <= start < stop <= length:
        raise UsageError(f"the roi's {axis} range {start}..{stop} is not within 0..{length}")
    return slice(int(start), int(stop))


def _group_attributes(folder: Place) -> Json:
    """Return the attributes of a Zarr v3 group, read as the plain JSON that they are."""
    document = folder / "zarr.json"
    try:
        loaded = json.loads(document.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        raise UsageError(
            f"{folder} is no store and no volume (no zarr.json); "
            "a conversion that was stopped is finished by running it again"
        ) from None
    except (OSError, ValueError) as error:
        raise UsageError(f"{document} cannot be read: {error}") from None
    attributes = loaded.get("attributes") if isinstance(loaded, dict) else None
    return attributes if isinstance(attributes, dict) else {}
