"""What goes to which stream: results to standard output, warnings and errors to standard error."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    import pyarrow as pa


def print_table(
    table: pa.Table,
    sort: str | None,
    group: str | None,
    outcomes: Mapping[str, int] | None = None,
    objects: Mapping[str, int] | None = None,
) -> None:
    """Print a catalogue as ``scan`` and ``ls`` show it, and the totals below it."""
    from fastdcm.look.series_table import series_lines, total_lines
    from fastdcm.look.terminal import console

    screen = console()
    say(series_lines(table, screen.width, sort=sort, group=group))
    say(total_lines(table, screen.width, outcomes, objects))


def say(lines: Iterable[Any]) -> None:
    """Print results line by line: str, or rich texts, which have colours on a terminal alone."""
    from fastdcm.look.terminal import console

    screen = None
    for line in lines:
        if isinstance(line, str):
            click.echo(line)
            continue
        screen = screen or console()
        if screen.is_terminal:
            screen.print(line, soft_wrap=True)
        else:
            click.echo(line.plain)


def say_lines(result: Any, lines_of: Callable[[Any, int], Iterable[Any]]) -> None:
    """Print a result as ``lines_of(result, width)`` shows it on a terminal of this width."""
    from fastdcm.look.terminal import columns

    say(lines_of(result, columns()))


def show(result: Any, lines_of: Callable[[Any, int], Iterable[Any]], as_json: bool) -> None:
    """Print a result as one JSON object, or as its lines."""
    if as_json:
        say_json(result.as_json())
    else:
        say_lines(result, lines_of)


def say_json(document: Mapping[str, Any]) -> None:
    """Print one JSON object as one line."""
    click.echo(json.dumps(document, default=str, allow_nan=False))


def warn(text: object) -> None:
    """Print a warning to standard error."""
    from fastdcm.look.terminal import clean

    click.echo(f"fastdcm: warning: {clean(text)}", err=True)


def complain(text: object) -> None:
    """Print an error to standard error; its lines stay lines."""
    from fastdcm.look.terminal import clean

    click.echo("fastdcm: " + "\n".join(map(clean, str(text).splitlines())), err=True)
