"""One volume against the files that it was made from: values, places and identity of each slice, by pydicom alone."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from fastdcm.load.volume import Volume
from fastdcm.run.check_volume import POSITION_MM, Layout
from fastdcm.run.findings import Findings, Mismatch
from fastdcm.run.witness import Slice, SourceFile, open_source

Array = npt.NDArray[Any]

COSINE = 1e-3
RESIDUAL_MM = 0.1
"""No volume may call itself uniform with a larger residual than this (or 2 % of its step)."""
SPACING_RELATIVE = 1e-3
RESCALE_RELATIVE = 1e-9


class SliceWitness:
    """Compares the slices of one volume; holds one source file, as slices of one file follow each other."""

    def __init__(self, volume: Volume, name: str, layout: Layout, *, own_sources: bool) -> None:
        self._volume, self._name, self._layout = volume, name, layout
        self._own_sources = own_sources
        self._path: str | None = None
        self._source: SourceFile | None = None

    def check(self, one: Slice, values: Array) -> Findings:
        """Compare one slice with its source."""
        if one.path != self._path:
            self._path, self._source = one.path, open_source(one.path)
        source = self._source
        if source is None:
            return Findings(absent=1)
        stale = self._check_date(one, source)
        place = self._check_place(one, source)
        found = [*self._check_identity(one, source), *self._check_rescale(one, source)]
        findings = stale | place | Findings(mismatches=tuple(self._mismatch(one, *item) for item in found))
        expected = source.values(one, values.shape, self._part("intensity"))
        if expected is None:
            return findings | Findings(undecodable=1)
        message = expected.difference(values)
        pixels = () if message is None else (self._mismatch(one, "pixels", message),)
        return findings | Findings(decoded=1, mismatches=pixels)

    def _mismatch(self, one: Slice, check: str, message: str) -> Mismatch:
        return Mismatch(self._name, check, one.cell, message)

    def _part(self, name: str) -> Mapping[str, Any]:
        part: Mapping[str, Any] = self._volume.attributes["fastdcm"].get(name) or {}
        return part

    def _of_slice(self, column: Any, one: Slice) -> Any:
        """Return what a column by slice says of one; a single value is that of all."""
        if not isinstance(column, list):
            return column
        number = self._layout.number(one.cell)
        return column[number] if number < len(column) else None

    # ------------------------------------------------------------------------ the file

    def _check_date(self, one: Slice, source: SourceFile) -> Findings:
        """Tell a file that was changed: of another size; of another date too, where it is no copy."""
        if one.size is not None and one.size != source.size:
            text = f"its source has {source.size} bytes, {one.size} when it was converted; run the conversion again"
            return Findings(mismatches=(self._mismatch(one, "stale", text),))
        if one.mtime_ns is None or one.mtime_ns == source.mtime_ns:
            return Findings()
        if not self._own_sources:
            return Findings(touched=1)  # may be a copy
        text = "its source was written to after the conversion; run the conversion again"
        return Findings(touched=1, mismatches=(self._mismatch(one, "stale", text),))

    def _check_identity(self, one: Slice, source: SourceFile) -> Iterator[tuple[str, str]]:
        """Check that the file is the one that the store names: UIDs, modality, instance number."""
        own, identity = source.identity(), self._part("identity")
        series = identity.get("series_uid")
        number = self._of_slice(self._volume.slices.get("instance_number"), one)
        pairs = [
            ("SOP Instance UID", one.sop_instance_uid, own.sop_instance_uid),
            ("modality", identity.get("modality"), own.modality),
            ("instance number", number, own.instance_number),
        ]
        if series is not None and not str(series).startswith("x-"):  # a name that stands for an illegal UID
            pairs.append(("Series Instance UID", series, own.series_uid))
        for what, stated, found in pairs:
            if stated is not None and found is not None and stated != found:
                yield "source", f"its {what} is {stated} in the store, {found} in the file"

    def _check_rescale(self, one: Slice, source: SourceFile) -> Iterator[tuple[str, str]]:
        """Compare the recorded slope and intercept with those of the header."""
        own = source.rescale(one.frame)
        slices, intensity = self._volume.slices, self._part("intensity")
        for name, value in zip(("rescale_slope", "rescale_intercept"), own or (), strict=False):
            stated = self._of_slice(slices[name] if name in slices else intensity.get(name), one)
            if stated is not None and not math.isclose(stated, value, rel_tol=RESCALE_RELATIVE, abs_tol=1e-12):
                yield "rescale", f"its {name} is {stated}, in the file {value}"

    # ------------------------------------------------------------------------ the place

    def _check_place(self, one: Slice, source: SourceFile) -> Findings:
        """Check the law affine(k) == ImagePositionPatient, and the position that is kept by slice."""
        geometry = self._part("geometry")
        place = source.place(one)
        if place is None or not geometry.get("has_position"):
            return Findings()
        found: list[tuple[str, str]] = []
        affine = geometry.get("affine")
        stated = self._of_slice(self._volume.slices.get("position") or [], one)
        kept = np.array(stated if stated is not None else [math.nan] * 3, dtype=np.float64)
        here, allowed = kept, 0.0
        if affine is not None:
            matrix = np.array(affine, dtype=np.float64)
            here, allowed = (matrix @ [0, 0, one.cell[2], 1])[:3], float(geometry.get("max_residual_mm", 0.0))
            if allowed > max(RESIDUAL_MM, 0.02 * float(np.linalg.norm(matrix[:3, 2]))):
                found.append(("position", f"the volume calls itself uniform with a residual of {allowed:.3f} mm"))
            axes = matrix[:3, :2] / np.linalg.norm(matrix[:3, :2], axis=0)
            found += _compare_axes(axes, place.axes)
            if stated is not None:
                found += _compare_positions("is recorded", kept, place.position, 0.0)
        found += _compare_positions("is", here, place.position, allowed)
        if affine is None and geometry.get("direction") is not None:
            found += _compare_axes(np.array(geometry["direction"], np.float64)[:, :2], place.axes)
        spacing = np.array(self._volume.spacing[:2])
        own = place.spacing if geometry.get("spacing_kind", "patient") == "patient" else None
        if own is not None and np.abs(spacing / own - 1).max() > SPACING_RELATIVE:
            found.append(("spacing", f"dx, dy are {spacing.tolist()}, in the file {own.tolist()}"))
        return Findings(placed=1, mismatches=tuple(self._mismatch(one, *item) for item in found))


def _compare_axes(axes: Array, own: Array | None) -> Iterator[tuple[str, str]]:
    if own is not None and np.abs(axes - own).max() > COSINE:
        yield "direction", f"rows and columns run along {axes.T.tolist()}, in the file {own.T.tolist()}"


def _compare_positions(verb: str, here: Array, own: Array, allowed_mm: float) -> Iterator[tuple[str, str]]:
    distance = float(np.linalg.norm(here - own))
    if not distance <= allowed_mm + POSITION_MM:
        yield "position", f"{verb} at {here.tolist()}, {distance:.3f} mm from {own.tolist()} in the file"
