"""What a finished command says: totals, problems by name, and where to find the rest."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from fastdcm.look.terminal import clean, count_text, size_text, time_text
from fastdcm.model import Json

if TYPE_CHECKING:
    from fastdcm.run.report import ArrayPlan, PartReport, Report
    from fastdcm.run.verify import VerifyReport

NAMED_FAILURES = 20
LABEL = 9
"""Width of what stands before a tally."""


def report_lines(report: Report, width: int, dest: str) -> Iterator[str]:
    """Yield the summary of a conversion, in lines of ``width`` columns; only a longer path is wider."""
    rate = report.bytes_read / max(report.seconds, 1e-3) / 1e6
    yield from _wrapped(
        f"{count_text(report.volumes.get('written', 0), 'volume')} written to {clean(dest)} in "
        f"{time_text(report.seconds)}: {size_text(report.bytes_read)} read, {size_text(report.bytes_written)} written, "
        f"{rate:.0f} MB/s",
        width,
    )
    tallies = {
        "volumes": _tally(report.volumes),
        "files": f"{report.files}: {_tally(report.outcomes)}",
        "codes": _tally(report.codes) if report.codes else "",
        "objects": _tally(report.objects) if report.objects else "",
    }
    for label, text in tallies.items():
        if text:
            yield from _wrapped(f"{label:<{LABEL}}{text}", width, LABEL)
    yield from failure_lines(report, width, f"{clean(dest)}/files.parquet (columns outcome, code, message)")


def failure_lines(report: Report, width: int, where: str | None) -> Iterator[str]:
    """Yield the first failures by name, and where the rest stands."""
    if not report.failures:
        return
    yield ""
    yield f"not converted ({count_text(len(report.failures), 'file')}):"
    for failure in report.failures[:NAMED_FAILURES]:
        text = f"{failure.outcome}/{failure.code}: {clean(failure.message)}"
        yield from _after(f"  {clean(failure.path)}:", text, width)
    rest = len(report.failures) - NAMED_FAILURES
    if rest > 0:
        more = f"  and {rest} more" + (f"; all are in {where}" if where else "; --json has their counts")
        yield from _wrapped(more, width, 4)


def plan_lines(plan: Json, width: int) -> Iterator[str]:
    """Yield the table of a dry run: each volume, what it would hold, and what is refused."""
    volumes: Sequence[Json] = plan["volumes"]
    cells = [
        (
            clean(volume["modality"] or ""),
            clean(volume["kind"]),
            f"{volume['axes']} {'x'.join(map(str, volume['shape']))}",
            clean(volume["dtype"]),
            size_text(volume["bytes"]),
        )
        for volume in volumes
    ]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for volume, row in zip(volumes, cells, strict=True):
        yield clean(volume["path"])
        yield "  " + "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip()
        for reason in volume.get("reasons", ()):
            yield from _wrapped(f"    {_reason(reason)}", width, 6)
    totals = plan["totals"]
    yield from _wrapped(
        f"would write {count_text(totals['volumes'], 'volume')}, {count_text(totals['frames'], 'frame')}, "
        f"{size_text(totals['bytes'])} before compression, {count_text(totals['output_files'], 'file')}; "
        "this was a dry run, nothing is written",
        width,
    )
    if plan["refusals"]:
        yield ""
        yield f"refused ({totals['refusals']}):"
    for refusal in plan["refusals"]:
        named = " ".join(f"{key} {clean(refusal[key])}" for key in ("series", "path", "volume") if refusal.get(key))
        files = f" ({count_text(refusal['files'], 'file')})" if refusal.get("files") else ""
        yield from _after(f"  {named or 'file'}:", f"{_reason(refusal)}{files}", width)


def array_plan_lines(plan: ArrayPlan, width: int) -> Iterator[str]:
    """Yield what a plan for array jobs holds, where its store will be, and what to do with it."""
    unchanged = f"; {count_text(plan.unchanged, 'volume')} there already" if plan.unchanged else ""
    yield from _wrapped(
        f"{count_text(plan.volumes, 'volume')} of {count_text(plan.files, 'file')} planned in "
        f"{time_text(plan.seconds)}, {size_text(plan.bytes)} before compression{unchanged}",
        width,
    )
    yield f"{'store':<{LABEL}}{clean(plan.dest)}"
    yield f"{'parts':<{LABEL}}fastdcm run {clean(plan.path)} --part I/N"
    yield f"{'then':<{LABEL}}fastdcm finish {clean(plan.path)}"


def part_lines(report: PartReport, width: int) -> Iterator[str]:
    """Yield what a part of a plan wrote."""
    yield from _wrapped(
        f"part {report.part}/{report.parts}: {count_text(report.volumes['written'], 'volume')} written in "
        f"{time_text(report.seconds)}, {size_text(report.bytes_read)} read, {size_text(report.bytes_written)} written",
        width,
    )
    if report.volumes["ready"]:
        yield f"{count_text(report.volumes['ready'], 'volume')} made before, left alone"
    if report.volumes["failed"]:
        failed = count_text(report.volumes["failed"], "volume")
        yield from _wrapped(f"{failed} cannot be converted as planned; finish tells of their files", width)


def verify_lines(report: VerifyReport, width: int) -> Iterator[str]:
    """Yield what the witness found: how much was compared with what, and every difference (the first ones)."""
    found = report.findings
    yield from _wrapped(
        f"{count_text(report.volumes, 'volume')} in {time_text(report.seconds)}; slices compared: {found.hashed} with "
        f"their hash, {found.decoded} with the pixels of their source, {found.placed} with its position",
        width,
    )
    if report.sample is not None:
        text = (
            f"a sample of {found.hashed} of {count_text(report.slices, 'slice')}: the tables are checked in full, "
            f"documents and shards of the sampled volumes alone; without --sample everything is checked"
        )
        yield from _wrapped(text, width)
    if not report.sources:
        text = "sources are not known: only hashes and tables were checked; name the sources after the store"
        yield from _wrapped(text, width)
    if found.absent:
        text = "the source is not there, or pydicom cannot open it; only the hash was checked"
        yield from _wrapped(f"{count_text(found.absent, 'slice')}: {text}", width)
    if found.touched:
        text = "the source has another date than when it was converted: a copy, or a rerun of convert is due"
        yield from _wrapped(f"{count_text(found.touched, 'slice')}: {text}", width)
    if found.undecodable:
        text = "pydicom cannot decode the source; only the hash was checked"
        yield from _wrapped(f"{count_text(found.undecodable, 'slice')}: {text}", width)
    for mismatch in report.mismatches[:NAMED_FAILURES]:
        where = "" if mismatch.cell is None else " slice t={} c={} z={}".format(*mismatch.cell)
        before = f"  {mismatch.check}: {clean(mismatch.volume or 'store')}{where}:"
        yield from _after(before, clean(mismatch.message), width)
    rest = len(report.mismatches) - NAMED_FAILURES
    if rest > 0:
        yield f"  and {rest} more; --json has them all"
    yield f"{count_text(len(report.mismatches), 'mismatch', 'mismatches')}" if report.mismatches else "all is right"


def _wrapped(text: str, width: int, indent: int = 2) -> Iterator[str]:
    """Break a text between words; paths, UIDs and codes stay whole."""
    under = " " * indent
    yield from textwrap.wrap(
        text, max(width, 40), subsequent_indent=under, break_long_words=False, break_on_hyphens=False
    )


def _after(before: str, text: str, width: int) -> Iterator[str]:
    """Yield a text behind what it is about, a path say, which is never broken; below it where it takes the line."""
    under = " " * 4
    if len(before) + 1 + len(text.partition(" ")[0]) > width:
        yield before
        before = under[1:]
    yield from textwrap.wrap(
        text,
        max(width, 40),
        initial_indent=f"{before} ",
        subsequent_indent=under,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _reason(reason: Json | str) -> str:
    if isinstance(reason, str):
        return clean(reason)
    return f"{clean(reason.get('code', ''))}: {clean(reason.get('message', ''))}"


def _tally(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items() if count) or "none"
