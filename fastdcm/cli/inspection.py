"""The commands that look inside: of one file, a series, a volume, a store. Arguments to one call to an exit code."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from fastdcm.cli import options as opt
from fastdcm.cli.printing import print_table, say, say_json, say_lines, show
from fastdcm.errors import UsageError

if TYPE_CHECKING:
    from fastdcm.load.volume import Store, Volume

DIFFERENT = 1
"""Exit code of ``diff`` and ``compare`` where A and B are not equal."""

series = click.option("--series", metavar="UID", help="The series, by its UID or the end of it, or by an expression.")


@click.command(epilog=opt.example("fastdcm header export/IM0001.dcm --private"))
@click.argument("file", metavar="FILE", type=click.Path())
@opt.private
@opt.as_json
def header(file: str, *, private: bool, as_json: bool) -> int:
    """Show the tags and the geometry of one file. No pixel is read."""
    import fastdcm
    from fastdcm.look.header import header_lines

    found = fastdcm.header(file, private=private)
    show(found, header_lines, as_json)
    return 0


@click.command(epilog=opt.example("fastdcm tags export/ --series 240.4"))
@opt.sources_argument
@series
@opt.private
@opt.workers
@opt.as_json
def tags(sources: tuple[str, ...], *, as_json: bool, **options: Any) -> int:
    """Show which tags of a series are constant and which vary. Reads headers only."""
    import fastdcm
    from fastdcm.look.progress import shown_progress
    from fastdcm.look.tags import tags_lines

    with shown_progress(plain=as_json) as progress:
        found = fastdcm.tags(sources, progress=progress, **options)
    show(found, tags_lines, as_json)
    return 0


@click.command(
    short_help="Show the tags that differ between two series or files.",
    epilog=opt.example("fastdcm diff export/#240.4 export/#240.5"),
)
@click.argument("a", metavar="A", type=click.Path())
@click.argument("b", metavar="B", type=click.Path())
@opt.private
@opt.workers
@opt.as_json
def diff(a: str, b: str, *, as_json: bool, **options: Any) -> int:
    """Show the tags that differ between two series or files, both values side by side; exit code 1 if any does.

    A and B are files, folders, FOLDER#WHICH, or volumes of a store. WHICH is the UID of a series, or the end of it, or
    an expression over the columns of scan.
    """
    import fastdcm
    from fastdcm.look.diff import diff_lines
    from fastdcm.look.progress import shown_progress

    with shown_progress(plain=as_json) as progress:
        found = fastdcm.diff(a, b, progress=progress, **options)
    show(found, diff_lines, as_json)
    return 0 if found.same else DIFFERENT


@click.command(
    short_help="Compare the voxels of two volumes.",
    epilog=opt.example("fastdcm compare export/#240.4 export/#240.5 --threshold -400"),
)
@click.argument("a", metavar="A", type=click.Path())
@click.argument("b", metavar="B", type=click.Path())
@click.option("--threshold", type=float, metavar="X", help="A mask is where a value is above X. [default: not zero]")
@click.option("--ignore-geometry", is_flag=True, help="Compare also where the volumes lie elsewhere in space.")
@opt.workers
@opt.memory
@opt.as_json
def compare(a: str, b: str, *, as_json: bool, **options: Any) -> int:
    """Compare the voxels of two volumes: their differences, and the overlap of their masks; exit code 1 if any differs.

    A and B are files, folders, FOLDER#WHICH, or volumes of a store. WHICH is the UID of a series, or the end of it, or
    an expression over the columns of scan.
    """
    import fastdcm
    from fastdcm.look.compare import comparison_lines
    from fastdcm.look.progress import shown_progress

    with shown_progress(plain=as_json) as progress:
        found = fastdcm.compare(a, b, progress=progress, **options)
    show(found, comparison_lines, as_json)
    return 0 if found.equal else DIFFERENT


@click.command(epilog=opt.example("fastdcm explain export/ --series 240.4"))
@opt.sources_argument
@series
@opt.on_gap
@opt.on_bad_frame
@opt.tolerances
@opt.workers
@opt.as_json
def explain(sources: tuple[str, ...], *, as_json: bool, **options: Any) -> int:
    """Say why a series became its volumes: what split it, what was dropped or flagged, which option changes it."""
    import fastdcm
    from fastdcm.look.explain import explanation_lines
    from fastdcm.look.progress import shown_progress

    with shown_progress(plain=as_json) as progress:
        found = fastdcm.explain(sources, progress=progress, **options)
    show(found, explanation_lines, as_json)
    return 0


@click.command(epilog=opt.example("fastdcm ls out.zarr --where \"kernel == 'LUNG'\""))
@click.argument("store", metavar="STORE", type=click.Path())
@opt.where
@opt.sort
@opt.group
@opt.as_json
def ls(store: str, *, where: str | None, sort: str | None, group: str | None, as_json: bool) -> int:
    """List the volumes of a store."""
    from fastdcm.look.series_table import sorted_table

    opened = _open_store(store)
    chosen = opened.query(where) if where is not None else opened
    table = sorted_table(chosen.table, sort) if sort else chosen.table
    if as_json:
        say_json({"store": str(chosen.place), "volumes": table.to_pylist()})
    else:
        print_table(table, sort, group)
    return 0


@click.command(
    short_help="Describe a volume of a store, or a store.",
    epilog=opt.example("fastdcm info out.zarr/1.2.3/1.2.4/0.ome.zarr"),
)
@click.argument("path", metavar="STORE[/VOLUME]", type=click.Path())
@opt.as_json
def info(path: str, *, as_json: bool) -> int:
    """Describe a volume of a store (geometry, values, axes, reasons), or a store."""
    from fastdcm.load.volume import Volume
    from fastdcm.look.info import store_lines, volume_lines
    from fastdcm.look.series_table import total_lines

    opened = _open(path)
    if as_json:
        shape = {"shape": list(opened.shape), "dtype": str(opened.dtype)} if isinstance(opened, Volume) else {}
        say_json(opened.attributes | shape)
    elif isinstance(opened, Volume):
        say_lines(opened, volume_lines)
    else:
        say_lines(opened, store_lines)
        say_lines(opened.table, total_lines)
    return 0


@click.command(
    short_help="Write a volume as NIfTI, NRRD or MHA.",
    epilog=opt.example("fastdcm export \"out.zarr#kernel == 'LUNG' and slices > 100\" lung.nii.gz --bids"),
)
@click.argument("volume", metavar="STORE/VOLUME", type=click.Path())
@click.argument("out", metavar="OUT", type=click.Path())
@click.option("--t", type=int, metavar="N", help="Only this index of the axis t.")
@click.option("--c", type=int, metavar="N", help="Only this index of the axis c.")
@click.option("--bids", is_flag=True, help="A JSON sidecar beside it, with the names of BIDS; b-values too.")
@click.option("--nominal", is_flag=True, help="Without an exact affine: write the nominal one.")
@click.option("--resample", is_flag=True, help="Without an exact affine or right angles: resample to a regular grid.")
@click.option("--overwrite", is_flag=True, help="Replace OUT.")
@opt.as_json
def export(volume: str, out: str, *, as_json: bool, **options: Any) -> int:
    """Write a volume of a store to OUT: the same voxels in the same physical space.

    The ending of OUT says how: .nii, .nii.gz, .nrrd or .mha. STORE#WHICH finds the volume by the UID of its series, or
    the end of it, or by an expression over the columns of ls.
    """
    import fastdcm
    from fastdcm.load.volume import Volume
    from fastdcm.look.address import choose_volume

    opened = _open(volume)
    if not isinstance(opened, Volume):  # fine where it has just one
        opened = opened[choose_volume(opened.table, None)]
    written = fastdcm.export(opened, out, **options)
    if as_json:
        say_json({"written": [str(path) for path in written]})
    else:
        say(f"wrote {path}" for path in written)
    return 0


def _open(path: str) -> Store | Volume:
    """Open a store, a volume, or the volume that ``STORE#WHICH`` means."""
    from fastdcm.load.volume import Store
    from fastdcm.load.volume import open as open_path
    from fastdcm.look.address import choose_volume, parse_address

    address = parse_address(path)
    opened = open_path(address.path)
    if address.which is None:
        return opened
    if not isinstance(opened, Store):
        raise UsageError(f"{address.path} is a volume already: nothing can follow the #")
    return opened[choose_volume(opened.table, address.which)]


def _open_store(path: str) -> Store:
    from fastdcm.load.volume import Volume
    from fastdcm.load.volume import open as open_path

    opened = open_path(path)
    if isinstance(opened, Volume):
        raise UsageError(f"{path} is a volume; ls takes a store, info describes a volume")
    return opened
