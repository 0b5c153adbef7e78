"""The commands that read whole exports: ``scan``, ``convert``, ``verify``. Arguments to one call to an exit code."""

from __future__ import annotations

from functools import partial
from typing import Any

import click

from fastdcm.cli import options as opt
from fastdcm.cli.printing import print_table, say_json, say_lines, warn


@click.command(epilog=opt.example("fastdcm convert export/ out.zarr --where \"modality == 'CT' and slices > 30\""))
@opt.sources_argument
@click.argument("dest", metavar="DEST", type=click.Path())
@opt.selection
@opt.policies
@opt.tolerances
@opt.storage
@opt.rerun
@opt.single_writer
@opt.resources
@opt.several(opt.cluster, opt.task_timeout, opt.dry_run, opt.as_json)
def convert(sources: tuple[str, ...], dest: str, *, dry_run: bool, as_json: bool, **options: Any) -> int:
    """Convert DICOM files and folders SRC... to the store DEST.

    SRC may also be a zip or tar archive, or a URL (s3://, gs://, az://, http://); nothing is unpacked.
    """
    import fastdcm
    from fastdcm.look.progress import shown_progress
    from fastdcm.look.summary import failure_lines, plan_lines, report_lines

    with shown_progress(plain=as_json) as progress:
        report = fastdcm.convert(sources, dest, dry_run=dry_run, progress=progress, **options)
    for warning in report.warnings:
        warn(warning)
    if report.plan is not None:
        say_lines(report.plan, plan_lines)
        say_lines(report, partial(failure_lines, where=None))
    else:
        say_lines(report, partial(report_lines, dest=dest))
    if as_json:
        say_json(report.as_json() | ({"plan": report.plan} if report.plan is not None else {}))
    return int(report.exit_code)


@click.command(epilog=opt.example("fastdcm scan export/ --sort spacing_z --out map.parquet"))
@opt.sources_argument
@opt.selection
@opt.several(opt.on_gap, opt.on_bad_frame)
@opt.tolerances
@opt.resources
@opt.cluster
@click.option("--out", metavar="FILE", type=click.Path(dir_okay=False), help="Keep the map as a Parquet file.")
@opt.sort
@opt.group
@opt.as_json
def scan(
    sources: tuple[str, ...], *, out: str | None, sort: str | None, group: str | None, as_json: bool, **options: Any
) -> int:
    """Show what is in SRC...: patients, studies, series, volumes. Reads headers only."""
    import fastdcm
    from fastdcm.load.catalog import write_catalog
    from fastdcm.look.progress import shown_progress
    from fastdcm.look.series_table import file_counts, sorted_table

    with shown_progress(plain=as_json) as progress:
        found = fastdcm.scan(sources, progress=progress, **options)
    for warning in found.warnings:
        warn(warning)
    wanted = [row for row, path in enumerate(found.table["volume"].to_pylist()) if path not in found.left_out]
    table = found.table.take(wanted) if wanted else found.table.slice(0, 0)
    table = sorted_table(table, sort) if sort else table
    counts = file_counts(found.index)
    objects = found.objects
    if out is not None:
        write_catalog(table, out)
    if as_json:
        say_json({"volumes": table.to_pylist(), "files": counts, "objects": objects})
        return 0
    print_table(table, sort, group, counts, objects)
    return 0


@click.command(
    short_help="Compare a store with its sources.", epilog=opt.example("fastdcm verify out.zarr export/ --sample 1000")
)
@click.argument("store", metavar="STORE", type=click.Path())
@click.argument("sources", metavar="[SRC...]", nargs=-1, type=click.Path())
@click.option("--sample", type=click.IntRange(1), metavar="N", help="Check N slices only, spread over the store.")
@opt.work
@opt.resources
@opt.as_json
def verify(store: str, sources: tuple[str, ...], *, as_json: bool, **options: Any) -> int:
    """Compare a store with its sources, slice by slice, by an independent decoder.

    SRC... are the sources in the order that convert got them; they are found by themselves while STORE.work is there.
    Without sources the recorded hashes are checked.
    """
    import fastdcm
    from fastdcm.look.progress import shown_progress
    from fastdcm.look.summary import verify_lines

    with shown_progress(plain=as_json) as progress:
        report = fastdcm.verify(store, sources or None, progress=progress, **options)
    say_lines(report, verify_lines)
    if as_json:
        say_json(report.as_json())
    return int(report.exit_code)
