"""The commands of array jobs: ``plan``, ``run``, ``finish``. Arguments to one call to an exit code."""

from __future__ import annotations

from functools import partial
from typing import Any

import click

from fastdcm.cli import options as opt
from fastdcm.cli.printing import say_json, say_lines, warn

plan_argument = click.argument("plan", metavar="PLAN", type=click.Path())


@click.command(
    short_help="Plan a conversion for array jobs.",
    epilog=opt.example("fastdcm plan export/ --out plan/ --no-localizers"),
)
@opt.sources_argument
@click.option("--out", metavar="DIR", type=click.Path(), required=True, help="The plan, a new folder.")
@click.option("--dest", metavar="DEST", type=click.Path(), help="The store. [default: DIR.zarr]")
@opt.selection
@opt.policies
@opt.tolerances
@opt.storage
@opt.rerun
@opt.resources
@opt.several(opt.cluster, opt.task_timeout)
@opt.as_json
def plan(sources: tuple[str, ...], *, as_json: bool, **options: Any) -> int:
    """Plan the conversion of SRC... whose volumes are written by array jobs: run, on any hosts, then finish.

    The plan decides every byte of the store. It must lie on the file system of DEST, where all hosts see it and SRC.
    """
    import fastdcm
    from fastdcm.look.progress import shown_progress
    from fastdcm.look.summary import array_plan_lines

    with shown_progress(plain=as_json) as progress:
        planned = fastdcm.plan(sources, progress=progress, **options)
    for warning in planned.warnings:
        warn(warning)
    say_lines(planned, array_plan_lines)
    if as_json:
        say_json(planned.as_json())
    return int(planned.exit_code)


@click.command(
    "run", short_help="Write the volumes of one part of a plan.", epilog=opt.example("fastdcm run plan/ --part 3/8")
)
@plan_argument
@click.option("--part", default="1/1", show_default=True, metavar="I/N", help="The I-th of N parts, from 1; N is free.")
@opt.resources
@opt.several(opt.cluster, opt.task_timeout)
@opt.as_json
def run_part(plan: str, *, as_json: bool, **options: Any) -> int:
    """Write the volumes of one part of PLAN, below it; those that are there are left alone.

    Parts may run twice, at the same time, in any order, on any host. What cannot be converted is told by finish.
    """
    import fastdcm
    from fastdcm.look.progress import shown_progress
    from fastdcm.look.summary import part_lines

    with shown_progress(plain=as_json) as progress:
        report = fastdcm.run(plan, progress=progress, **options)
    for warning in report.warnings:
        warn(warning)
    say_lines(report, part_lines)
    if as_json:
        say_json(report.as_json())
    return int(report.exit_code)


@click.command(short_help="Publish what the parts of a plan wrote.", epilog=opt.example("fastdcm finish plan/ --json"))
@plan_argument
@opt.resources
@opt.task_timeout
@opt.as_json
def finish(plan: str, *, as_json: bool, **options: Any) -> int:
    """Publish what the parts of PLAN wrote; the store is that of convert.

    Where a volume is missing nothing is published: it says which, and what makes them, with exit code 2.
    """
    import fastdcm
    from fastdcm.look.progress import shown_progress
    from fastdcm.look.summary import report_lines

    dest = read_target(plan)
    with shown_progress(plain=as_json) as progress:
        report = fastdcm.finish(plan, progress=progress, **options)
    for warning in report.warnings:
        warn(warning)
    say_lines(report, partial(report_lines, dest=dest))
    if as_json:
        say_json(report.as_json())
    return int(report.exit_code)


def read_target(plan: str) -> str:
    """Return the store of a plan."""
    from fastdcm.run.array_plan import read_plan

    return str(read_plan(plan).target.dest)
