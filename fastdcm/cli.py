"""The command line: arguments to one call to an exit code. Nothing heavy is imported before a command runs."""

from __future__ import annotations

import json
import os
import re
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import click

from fastdcm.errors import CheckError, FastdcmError, TargetError, UsageError

if TYPE_CHECKING:
    import pyarrow as pa

    from fastdcm.load.volume import Store

Command = TypeVar("Command", bound=Callable[..., Any])

EXIT_USAGE, EXIT_TARGET, EXIT_CHECK, EXIT_STOPPED = 2, 3, 4, 130
UNITS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}


class Bytes(click.ParamType):  # type: ignore[type-arg]  # generic in newer versions only
    """An amount of bytes: 4GB, 512MiB, 1000000."""

    name = "bytes"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return whole bytes; kB, MB, GB, TB are decimal, KiB, MiB, GiB, TiB binary."""
        if isinstance(value, int):
            return value
        match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmgt]?)(i?)b?", value.strip().lower())
        if match is None or (match[3] and not match[2]):
            self.fail(f"{value!r} is no amount of bytes; write for example 4GB or 512MiB", param, ctx)
        n_bytes = int(float(match[1]) * (1024 if match[3] else 1000) ** UNITS[match[2]])
        return n_bytes or self.fail("it must be more than nothing", param, ctx)


class Chunks(click.ParamType):  # type: ignore[type-arg]  # generic in newer versions only
    """The three lengths of a chunk: 32,128,128."""

    name = "z,y,x"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int, int]:
        """Return (z, y, x)."""
        if isinstance(value, tuple):
            return value
        parts = re.split(r"[,x]", value.strip())
        if len(parts) != 3 or not all(part.isascii() and part.isdigit() and int(part) for part in parts):
            self.fail(f"{value!r} is no chunk; write three lengths z,y,x, for example 32,128,128", param, ctx)
        return int(parts[0]), int(parts[1]), int(parts[2])


# ---------------------------------------------------------------------------- options, each defined once

sources_argument = click.argument("sources", metavar="SRC...", nargs=-1, required=True, type=click.Path())
where = click.option(
    "--where", metavar="EXPR", help="Only volumes for which this is true: SQL over the columns of scan."
)
image_type = click.option("--image-type", metavar="A/B", help="Only Image Types that begin so: ORIGINAL/PRIMARY.")
no_localizers = click.option("--no-localizers", is_flag=True, help="Leave out localizers (scouts).")
no_derived = click.option("--no-derived", is_flag=True, help="Leave out derived images.")
values = click.option(
    "--values",
    type=click.Choice(["modality", "stored"]),
    default="modality",
    show_default=True,
    help="Modality values (HU, Bq/ml), or stored integers with the transform beside them.",
)
codec = click.option("--codec", default="zstd", show_default=True, metavar="NAME", help="zstd, lz4 or none.")
chunks = click.option("--chunks", type=Chunks(), help="Chunk of the array, in voxels.")
shard = click.option("--shard", type=Bytes(), help="Uncompressed size of a shard. [default: 64MiB]")
workers = click.option("--workers", type=click.IntRange(1), help="Workers. [default: one a core]")
threads = click.option("--threads", type=click.IntRange(1), default=1, show_default=True, help="Threads of a worker.")
memory = click.option(
    "--memory", type=Bytes(), help="Memory to stay below: 4GB, 512MiB. [default: 60 % of what there is]"
)
scheduler = click.option(
    "--scheduler",
    default="local",
    show_default=True,
    metavar="local|processes|tcp://HOST:PORT",
    help="Where the work runs. Changes the time, never the bytes.",
)
on_gap = click.option(
    "--on-gap",
    type=click.Choice(["irregular", "fill", "split", "fail"]),
    default="irregular",
    show_default=True,
    help="What a stack with missing slices becomes.",
)
on_bad_frame = click.option(
    "--on-bad-frame",
    type=click.Choice(["fail", "drop", "fill"]),
    default="fail",
    show_default=True,
    help="What becomes of a volume with a frame that cannot be read.",
)
on_conflict = click.option(
    "--on-conflict",
    type=click.Choice(["quarantine", "newest"]),
    default="quarantine",
    show_default=True,
    help="What to do where one SOP Instance UID has two different images.",
)
metadata = click.option(
    "--metadata",
    type=click.Choice(["technical", "full", "none"]),
    default="technical",
    show_default=True,
    help="Which DICOM tags the store keeps; full includes names and dates of patients.",
)
overwrite = click.option("--overwrite", is_flag=True, help="Convert again what is there already.")
no_resume = click.option("--no-resume", is_flag=True, help="Do not build on what an earlier run left.")
dry_run = click.option("--dry-run", is_flag=True, help="Print the plan and write nothing.")
work = click.option("--work", metavar="DIR", type=click.Path(), help="Working folder. [default: DEST.work]")
invert_monochrome1 = click.option(
    "--invert-monochrome1", is_flag=True, help="Turn MONOCHROME1 over, so that bright is high."
)
as_json = click.option("--json", "as_json", is_flag=True, help="The last line on standard output is one JSON object.")


def several(*options: Callable[[Command], Command]) -> Callable[[Command], Command]:
    """Join options to one decorator, shown in this order."""

    def decorate(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


selection = several(where, image_type, no_localizers, no_derived)
storage = several(values, codec, chunks, shard, metadata, invert_monochrome1)
policies = several(on_gap, on_bad_frame, on_conflict)
resources = several(workers, threads, memory, scheduler)
rerun = several(overwrite, no_resume, work)


# ---------------------------------------------------------------------------- commands


def _show_version(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted:
        from importlib import import_module

        from fastdcm.version import __version__

        try:
            import_module("fastdcm.scan._walk")  # and not fastdcm.scan.walk, which loads numpy
            walk = "compiled"
        except ImportError:
            walk = "plain Python"
        click.echo(f"fastdcm {__version__} ({walk} header walk)")
        ctx.exit()


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_show_version, help="Show the version."
)
def commands() -> None:
    """Hospital DICOM exports to chunked Zarr stores: right, fast, accountable."""


@commands.command(epilog="Example: fastdcm convert export/ out.zarr --where \"modality == 'CT' and slices > 30\"")
@sources_argument
@click.argument("dest", metavar="DEST", type=click.Path())
@selection
@policies
@storage
@rerun
@resources
@several(dry_run, as_json)
def convert(sources: tuple[str, ...], dest: str, *, dry_run: bool, as_json: bool, **options: Any) -> int:
    """Convert DICOM files and folders SRC... to the store DEST."""
    import fastdcm
    from fastdcm.look.progress import shown_progress
    from fastdcm.look.summary import failure_lines, plan_lines, report_lines

    with shown_progress(plain=as_json) as progress:
        report = fastdcm.convert(sources, dest, dry_run=dry_run, progress=progress, **options)
    for warning in report.warnings:
        _warn(warning)
    if report.plan is not None:
        _say([*plan_lines(report.plan), *failure_lines(report, None)])
    else:
        _say(report_lines(report, dest))
    if as_json:
        _say_json(report.as_json() | ({"plan": report.plan} if report.plan is not None else {}))
    return int(report.exit_code)


@commands.command(epilog="Example: fastdcm scan export/ --sort spacing_z --out map.parquet")
@sources_argument
@selection
@several(on_gap, on_bad_frame)
@resources
@click.option("--out", metavar="FILE", type=click.Path(dir_okay=False), help="Keep the map as a Parquet file.")
@click.option("--sort", metavar="COLUMN", help="One flat table in the order of a column.")
@click.option("--group", metavar="COLUMN", help="One block for each value of a column.")
@as_json
def scan(
    sources: tuple[str, ...], *, out: str | None, sort: str | None, group: str | None, as_json: bool, **options: Any
) -> int:
    """Show what is in SRC...: patients, studies, series, volumes. Reads headers only."""
    import fastdcm
    from fastdcm.load.catalog import write_catalog
    from fastdcm.look.progress import shown_progress
    from fastdcm.look.series_table import file_counts, total_lines

    with shown_progress(plain=as_json) as progress:
        found = fastdcm.scan(sources, progress=progress, **options)
    for warning in found.warnings:
        _warn(warning)
    wanted = [row for row, path in enumerate(found.table["volume"].to_pylist()) if path not in found.left_out]
    table = found.table.take(wanted) if wanted else found.table.slice(0, 0)
    counts = file_counts(found.index)
    if out is not None:
        write_catalog(table, out)
    if as_json:
        _say_json({"volumes": table.to_pylist(), "files": counts})
        return 0
    _print_table(table, sort, group)
    _say(total_lines(table, counts))
    return 0


@commands.command(epilog="Example: fastdcm ls out.zarr --where \"kernel == 'LUNG'\"")
@click.argument("store", metavar="STORE", type=click.Path())
@where
@click.option("--sort", metavar="COLUMN", help="One flat table in the order of a column.")
@click.option("--group", metavar="COLUMN", help="One block for each value of a column.")
@as_json
def ls(store: str, *, where: str | None, sort: str | None, group: str | None, as_json: bool) -> int:
    """List the volumes of a store."""
    from fastdcm.look.series_table import total_lines

    opened = _open_store(store)
    chosen = opened.query(where) if where is not None else opened
    if as_json:
        _say_json({"store": str(chosen.path), "volumes": chosen.table.to_pylist()})
        return 0
    _print_table(chosen.table, sort, group)
    _say(total_lines(chosen.table))
    return 0


@commands.command(
    short_help="Describe a volume of a store, or a store.",
    epilog="Example: fastdcm info out.zarr/1.2.3/1.2.4/0.ome.zarr",
)
@click.argument("path", metavar="STORE[/VOLUME]", type=click.Path())
@as_json
def info(path: str, *, as_json: bool) -> int:
    """Describe a volume of a store (geometry, values, axes, reasons), or a store."""
    from fastdcm.load.volume import Volume
    from fastdcm.load.volume import open as open_path
    from fastdcm.look.info import store_lines, volume_lines
    from fastdcm.look.series_table import total_lines

    opened = open_path(path)
    if as_json:
        shape = {"shape": list(opened.shape), "dtype": str(opened.dtype)} if isinstance(opened, Volume) else {}
        _say_json(opened.attributes | shape)
    elif isinstance(opened, Volume):
        _say(volume_lines(opened))
    else:
        _say(store_lines(opened))
        _say(total_lines(opened.table))
    return 0


@commands.command(
    short_help="Compare a store with its sources.", epilog="Example: fastdcm verify out.zarr export/ --sample 1000"
)
@click.argument("store", metavar="STORE", type=click.Path())
@click.argument("sources", metavar="[SRC...]", nargs=-1, type=click.Path())
@click.option("--sample", type=click.IntRange(1), metavar="N", help="Check N slices only, spread over the store.")
@work
@resources
@as_json
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
    _say(verify_lines(report))
    if as_json:
        _say_json(report.as_json())
    return int(report.exit_code)


# ---------------------------------------------------------------------------- printing


def _open_store(path: str) -> Store:
    from fastdcm.load.volume import Volume
    from fastdcm.load.volume import open as open_path

    opened = open_path(path)
    if isinstance(opened, Volume):
        raise UsageError(f"{path} is a volume; ls takes a store, info describes a volume")
    return opened


def _print_table(table: pa.Table, sort: str | None, group: str | None) -> None:
    from fastdcm.look.series_table import series_lines
    from fastdcm.look.terminal import console

    screen = console()
    for line in series_lines(table, screen.width, sort=sort, group=group):
        screen.print(line, soft_wrap=True)


def _say(lines: Iterable[Any]) -> None:
    from fastdcm.look.terminal import console

    screen = console()
    for line in lines:
        screen.print(line, soft_wrap=True)


def _say_json(document: Mapping[str, Any]) -> None:
    click.echo(json.dumps(document, default=str, allow_nan=False))


def _warn(text: object) -> None:
    from fastdcm.look.terminal import clean

    click.echo(f"fastdcm: warning: {clean(text)}", err=True)


def _complain(text: object) -> None:
    from fastdcm.look.terminal import clean

    click.echo(f"fastdcm: {clean(text)}", err=True)


# ---------------------------------------------------------------------------- exit codes


def run(arguments: list[str] | None = None) -> int:
    """Run a command line and return its exit code (contract.md)."""
    try:
        with _warnings_as_lines():
            words = sys.argv[1:] if arguments is None else list(arguments)
            with commands.make_context("fastdcm", words) as context:  # main() would swallow what we turn into codes
                result = commands.invoke(context)
            sys.stdout.flush()
    except click.exceptions.Exit as error:
        return int(error.exit_code)
    except click.ClickException as error:
        error.show()
        return EXIT_USAGE
    except (click.Abort, KeyboardInterrupt):
        _complain("stopped; what is complete stays, and the same command does the rest")
        return EXIT_STOPPED
    except BrokenPipeError:  # the reader of a pipe has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except FastdcmError as error:
        _complain(error)
        return _exit_code(error)
    return int(result or 0)


def _exit_code(error: FastdcmError) -> int:
    if isinstance(error, TargetError):
        return EXIT_TARGET
    return EXIT_CHECK if isinstance(error, CheckError) else EXIT_USAGE


@contextmanager
def _warnings_as_lines() -> Iterator[None]:
    """Show our own warnings as one line, without the line of code that they came from."""

    def show(message: Warning | str, *_: Any, **__: Any) -> None:
        _warn(message)

    with warnings.catch_warnings():
        warnings.showwarning = show
        warnings.filterwarnings("ignore", module="pydicom")  # odd values are recorded as reasons, not shouted
        yield


class _WithoutPandas:
    """Keep pyarrow from importing pandas, where it is installed, just to ask whether a list is a Series: 0.3 s."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        """Refuse pandas alone; nothing of the command line uses it."""
        if name == "pandas":
            raise ModuleNotFoundError("the command line does without pandas", name=name)


def main() -> None:
    """Run as the console script."""
    sys.meta_path.insert(0, _WithoutPandas())  # a finder needs no more than this
    sys.exit(run())
