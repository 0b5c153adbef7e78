"""The command group, and how whatever happens becomes an exit code. Nothing heavy is imported before a command runs."""

from __future__ import annotations

import gc
import os
import signal
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click

from fastdcm.cli import array, inspection, jobs
from fastdcm.cli.printing import complain, warn
from fastdcm.errors import CheckError, FastdcmError, TargetError

YOUNG_OBJECTS = 50_000
"""New objects between two searches for cycles: with Python's 700, imports and headers are searched again and again."""

EXIT_USAGE, EXIT_TARGET, EXIT_CHECK, EXIT_STOPPED = 2, 3, 4, 130


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


class _InOrder(click.Group):
    """Lists its commands in the order in which one needs them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names as they were added."""
        return list(self.commands)


@click.group(cls=_InOrder, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_show_version, help="Show the version."
)
def commands() -> None:
    """Hospital DICOM exports to chunked Zarr stores: right, fast, accountable."""


for _command in (
    jobs.convert,
    jobs.scan,
    inspection.header,
    inspection.tags,
    inspection.diff,
    inspection.compare,
    inspection.explain,
    jobs.verify,
    inspection.ls,
    inspection.info,
    inspection.export,
    array.plan,
    array.run_part,
    array.finish,
):
    commands.add_command(_command)


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
        complain("stopped; what is complete stays, and the same command does the rest")
        return EXIT_STOPPED
    except BrokenPipeError:  # the reader of a pipe has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except FastdcmError as error:
        complain(error)
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
        warn(message)

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
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # numpy's idle threads would spin for 40 ms of the processor
    sys.meta_path.insert(0, _WithoutPandas())  # a finder needs no more than this
    gc.set_threshold(YOUNG_OBJECTS)
    code = run()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # all is said; Python's own end does not bear Ctrl-C in silence
    gc.freeze()  # else the interpreter, before it ends, looks for cycles among all that was ever imported
    sys.exit(code)
