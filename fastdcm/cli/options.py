"""Options and their types, each defined once; a setting has the same name and default in Python."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from fastdcm.model import Tolerances

Command = TypeVar("Command", bound=Callable[..., Any])

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


TOLERANCES = {
    "orientation": 1e-3,
    "spacing_relative": 1e-4,
    "position_mm": 0.01,
    "uniform_mm": 0.02,
    "uniform_relative": 0.01,
    "jitter_mm": 0.1,
    "jitter_relative": 0.05,
    "gap_relative": 0.05,
    "table_jump_mm": 1.0,
}
"""Names and defaults of ``model.Tolerances`` (a test holds them equal): help loads no numpy to say them."""


class Tolerance(click.ParamType):  # type: ignore[type-arg]  # generic in newer versions only
    """One tolerance: position_mm=0.05."""

    name = "name=value"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, float]:
        """Return the name and the number; the unit is in the name."""
        if isinstance(value, tuple):
            return value
        name, _, text = value.partition("=")
        if name.strip() not in TOLERANCES:
            self.fail(f"there is no tolerance {name.strip()!r}; there are {', '.join(TOLERANCES)}", param, ctx)
        try:
            return name.strip(), float(text)
        except ValueError:
            self.fail(f"{value!r} has no number; write for example position_mm=0.05", param, ctx)


def _tolerances(_: click.Context, __: click.Parameter, given: tuple[tuple[str, float], ...]) -> Tolerances | None:
    """Return the tolerances that were given; None, which means the defaults, where none was."""
    from fastdcm.errors import UsageError

    if not given:
        return None
    from fastdcm.model import Tolerances
    from fastdcm.run.options import check_tolerances

    found = Tolerances(**dict(given))
    try:
        check_tolerances(found)
    except UsageError as error:
        raise click.BadParameter(str(error)) from None
    return found


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
cluster = click.option(
    "--cluster",
    type=click.Choice(["slurm"]),
    help="Workers are jobs of a batch system, --workers of them.",
)
task_timeout = click.option(
    "--task-timeout",
    type=click.FloatRange(0, min_open=True),
    metavar="SECONDS",
    help="Time of one compressed frame, before its decoder counts as hung. [default: 120 and 2 a MiB]",
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
tolerances = click.option(
    "--tolerance",
    "tolerances",
    multiple=True,
    type=Tolerance(),
    metavar="NAME=VALUE",
    callback=_tolerances,
    help="When two numbers of the headers are equal; may be repeated. "
    f"[{', '.join(f'{name}={value:g}' for name, value in TOLERANCES.items())}]",
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
sort = click.option("--sort", metavar="COLUMN", help="One flat table in the order of a column.")
group = click.option("--group", metavar="COLUMN", help="One block for each value of a column.")
private = click.option("--private", is_flag=True, help="Private tags too (odd group numbers).")


def example(line: str) -> str:
    """Return the end of a help text: a command line that is never broken, so that it can be copied."""
    return f"\b\nExample: {line}"


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
single_writer = click.option(
    "--single-writer", is_flag=True, help="DEST is on a server without exclusive create, and no other run works on it."
)
rerun = several(overwrite, no_resume, work)
