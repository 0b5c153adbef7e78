"""What is in one volume, or in a store, in plain words."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from fastdcm.look.referrers import class_text, count_classes
from fastdcm.look.terminal import clean, count_text, mm_text, size_text
from fastdcm.model import Json

if TYPE_CHECKING:
    import pyarrow as pa

    from fastdcm.load.volume import Store, Volume

LABEL = 14
LISTED = 8
"""Values of an axis that are written out before the rest is counted."""
NOISE_MM = 1e-6
"""Residuals below come from arithmetic, not from the scanner."""


def volume_lines(volume: Volume, width: int) -> Iterator[str]:
    """Yield a description of a volume: what it is, where it is, what its values mean, and what was decided.

    Parameters
    ----------
    volume : Volume
        Of a store.
    width : int
        Columns of the terminal; only a longer word, a UID say, is wider.
    """
    yield from _wrapped(_volume(volume), width)


def store_lines(store: Store, width: int) -> Iterator[str]:
    """Yield what ``ls`` does not show of a store: where it is and what made it; in lines of ``width`` columns."""
    yield from _wrapped(_store(store), width)


def _wrapped(lines: Iterable[str], width: int) -> Iterator[str]:
    under = " " * LABEL
    for line in lines:
        yield from textwrap.wrap(
            line, max(width, 2 * LABEL), subsequent_indent=under, break_long_words=False, break_on_hyphens=False
        )


def _volume(volume: Volume) -> Iterator[str]:
    fastdcm = volume.attributes["fastdcm"]
    parts = {name: fastdcm.get(name) or {} for name in ("geometry", "intensity", "identity", "slices", "source")}
    yield from _identity(volume, parts["identity"], parts["source"])
    yield from _geometry(parts["geometry"], parts["slices"])
    yield from _intensity(parts["intensity"])
    for name, dim in volume.dims.items():
        yield _line(f"axis {name}", _axis(dim))
    if fastdcm.get("segments"):
        yield _line("segments", ", ".join(_segment(segment) for segment in fastdcm["segments"]))
    yield _line("storage", _storage(volume))
    columns = sorted(name for name, value in parts["slices"].items() if isinstance(value, list))
    if columns:
        yield _line("by slice", ", ".join(map(clean, columns)))
    if volume.attributes["fastdcm"].get("dicom"):
        constant, varying = len(fastdcm["dicom"]), len(fastdcm.get("dicom_per_slice") or ())
        yield _line("tags", f"{constant} constant, {varying} by slice")
    if volume.references.num_rows:
        yield _line("referred by", _objects(volume.references))
    for reason in fastdcm.get("reasons") or ():
        yield _line("reason", _reason(reason))


def _store(store: Store) -> Iterator[str]:
    ours = store.attributes.get("fastdcm") or {}
    yield _line("store", clean(store.place))
    yield _line("volumes", str(len(store)))
    if store.references.num_rows:
        yield _line("objects", _objects(store.references))
    for name, value in ours.items():
        if isinstance(value, str | int | float):
            yield _line(name, clean(value))


def _objects(references: pa.Table) -> str:
    """Return objects by class, each counted once."""
    return class_text(count_classes(zip(*(references[name].to_pylist() for name in ("file", "class")), strict=True)))


def _line(label: str, text: str) -> str:
    return f"{label:<{LABEL}}{text}".rstrip()


def _identity(volume: Volume, identity: Json, source: Json) -> Iterator[str]:
    shape = "x".join(map(str, volume.shape))
    yield _line("volume", f"{clean(volume.modality)} {clean(volume.kind)}, {volume.axes} {shape} {volume.dtype}")
    for label, name in (("description", "series_description"), ("study", "study_uid"), ("series", "series_uid")):
        if identity.get(name):
            yield _line(label, clean(identity[name]))
    if identity.get("image_type"):
        yield _line("image type", clean("\\".join(map(str, identity["image_type"]))).replace("\\\\", "\\"))
    if source:
        syntaxes = ", ".join(map(clean, source.get("transfer_syntax_uids") or ()))
        counts = (
            f"{count_text(source.get('n_instances', 0), 'instance')}, {count_text(source.get('n_frames', 0), 'frame')}"
        )
        yield _line("from", counts + (f", transfer syntax {syntaxes}" if syntaxes else ""))


def _geometry(geometry: Json, slices: Json) -> Iterator[str]:
    spacing = geometry.get("spacing")
    if spacing:
        plane, step = clean(geometry.get("spacing_kind", "none")), clean(geometry.get("spacing_z_source", "none"))
        xy = "x, y unknown" if plane == "none" else f"{mm_text(spacing[0])} x {mm_text(spacing[1])} mm (x, y; {plane})"
        z = "z unknown" if step == "none" else f"{mm_text(spacing[2])} mm (z; {step})"
        yield _line("spacing", f"{xy}, {z}")
    if geometry.get("origin") is None:
        yield _line("position", "unknown: no affine, and none is made up")
    else:
        yield _line("origin", f"{_vector(geometry['origin'])} mm LPS")
        columns = zip(*geometry.get("direction") or (), strict=True)
        yield _line("direction", ", ".join(f"{axis} {_vector(c)}" for axis, c in zip("xyz", columns, strict=False)))
        yield _line("grid", _grid(geometry))
    thickness = slices.get("thickness_mm")
    if isinstance(thickness, int | float):
        gap = slices.get("gap_mm")
        between = "" if not isinstance(gap, int | float) or abs(gap) < 5e-4 else f", {_gap(gap)}"
        yield _line("thickness", f"{mm_text(thickness)} mm{between}")


def _gap(gap_mm: float) -> str:
    return f"gap {mm_text(gap_mm)} mm (not imaged)" if gap_mm > 0 else f"overlap {mm_text(-gap_mm)} mm"


def _grid(geometry: Json) -> str:
    words = ["uniform" if geometry.get("uniform") else "not uniform: true positions by slice, no affine"]
    if geometry.get("sheared"):
        words.append("sheared (tilted gantry): the third direction is oblique")
    missing = geometry.get("missing_slices") or ()
    if missing:
        words.append(f"missing slices {_list(missing)} of the full grid")
    if (geometry.get("max_residual_mm") or 0) > NOISE_MM:
        words.append(f"largest residual {geometry['max_residual_mm']:.3g} mm")
    return "; ".join(words)


def _intensity(intensity: Json) -> Iterator[str]:
    if not intensity:
        return
    unit = f" {clean(intensity['rescale_type'])}" if intensity.get("rescale_type") else ""
    slope, intercept = intensity.get("rescale_slope"), intensity.get("rescale_intercept")
    transform = ""
    if intensity.get("rescale_per_slice"):
        transform = " (slope and intercept differ by slice)"
    elif slope is not None and intercept is not None:
        transform = f" (stored x {slope:g} {'+' if intercept >= 0 else '-'} {abs(intercept):g})"
    yield _line("values", f"{clean(intensity.get('values', '?'))}{unit}{transform}")
    photometric = clean(intensity.get("photometric_interpretation", "?"))
    source = clean(intensity.get("source_photometric_interpretation", photometric))
    bits = f", {intensity['bits_stored']} bits stored" if intensity.get("bits_stored") else ""
    lossy = ", lossy" if intensity.get("lossy") else ""
    yield _line("pixels", photometric + (f" (from {source})" if source != photometric else "") + bits + lossy)
    if intensity.get("padding_value") is not None:
        yield _line("padding", f"{intensity['padding_value']:g} (stored {intensity.get('padding_stored')})")
    center, width = intensity.get("window_center"), intensity.get("window_width")
    if center and width:
        yield _line("window", f"center {_list(center)}, width {_list(width)}")


def _axis(dim: Json) -> str:
    unit = f" in {clean(dim['unit'])}" if dim.get("unit") else ""
    values = dim.get("values") or ()
    nested = any(isinstance(value, list) for value in values)
    shown = f"{len(values)} steps, by slice" if nested else _list(values)
    inferred = " (inferred from the order of the images)" if dim.get("axis_inferred") or dim.get("inferred") else ""
    return f"{clean(dim.get('role', '?'))}{unit}: {shown}{inferred}"


def _segment(segment: Json) -> str:
    return clean(" ".join(str(segment[name]) for name in ("number", "label") if segment.get(name) is not None))


def _storage(volume: Volume) -> str:
    array = volume.array
    chunks = f"chunks {'x'.join(map(str, array.chunks))}"
    shards = f", shards {'x'.join(map(str, array.shards))}" if array.shards else ""
    return f"{size_text(array.nbytes)} of voxels, {size_text(array.nbytes_stored())} on disk, {chunks}{shards}"


def _reason(reason: Any) -> str:
    if isinstance(reason, dict):
        return f"{clean(reason.get('code', ''))}: {clean(reason.get('message', ''))}"
    return clean(reason)


def _vector(values: Sequence[float]) -> str:
    return "(" + ", ".join(f"{round(value, 6) + 0.0:.6g}" for value in values) + ")"


def _list(values: Sequence[Any]) -> str:
    text = ", ".join(f"{value:g}" if isinstance(value, float) else clean(value) for value in values[:LISTED])
    return text + (f" ... {len(values)} in all" if len(values) > LISTED else "")
