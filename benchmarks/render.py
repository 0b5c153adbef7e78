"""Stored figures to documents: the tables of docs/benchmarks.md and docs/scaling.md, between their marks.

The prose of both is written by hand; ``<!-- figures NAME -->`` and ``<!-- end -->`` enclose what is made here. Nothing
is measured: the same figures give the same text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks import flat
from benchmarks.plots import draw
from benchmarks.scaling_tables import SCALING_BLOCKS
from benchmarks.targets import targets

Figures = Mapping[str, Any]
CODECS = ("zstd", "lz4", "none")
_BLOCK = re.compile(r"<!-- figures (\S+) -->\n.*?<!-- end -->", re.DOTALL)


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Return a Markdown table."""
    lines = [f"| {' | '.join(row)} |" for row in (columns, *rows)]
    return [lines[0], "|" + "---|" * len(columns), *lines[1:]]


# ---------------------------------------------------------------------------- blocks: suites to lines


def machine_block(document: Figures) -> list[str]:
    """Return what the figures depend on."""
    here = document["machine"]
    versions = ", ".join(f"{name} {number}" for name, number in sorted(here["versions"].items(), key=_caseless))
    loads = [suite["load_before"] for suite in document["suites"].values()]
    seconds = sum(suite["seconds"] for suite in document["suites"].values())
    return [
        f"- {here['processor'] or 'processor unknown'}, {here['cores']} cores, {here['memory_bytes'] / 2**30:.0f} GiB; "
        f"{here['system']}; Python {here['python']}",
        f"- {versions}",
        f"- load average before a suite {min(loads)} to {max(loads)}; all suites together {seconds / 60:.0f} minutes",
    ]


def _caseless(item: tuple[str, str]) -> str:
    return item[0].lower()


def targets_block(document: Figures) -> list[str]:
    """Return every target that figures exist for, and whether it is met."""
    rows = [(one.what, one.wanted, one.measured, "yes" if one.met else "NO") for one in targets(document["suites"])]
    return table(("what", "target", "measured", "met"), rows)


def convert_block(document: Figures) -> list[str]:
    """Return the programs by codec on the large export."""
    lines = []
    for codec in CODECS:
        if f"convert-{codec}" in document["suites"]:
            lines += [*_programs(document["suites"][f"convert-{codec}"]["figures"]), ""]
    return lines[:-1]


def peers_block(document: Figures) -> list[str]:
    """Return all programs on one patient, and every difference."""
    return _programs(document["suites"]["peers"]["figures"])


def _programs(found: Figures) -> list[str]:
    title = f"`{found['workload']}`, {found['files']} files, {found['bytes'] / 1e6:.0f} MB, codec {found['codec']}, "
    rows = []
    notes: dict[str, list[str]] = {}
    for name, one in found["programs"].items():
        differences = one["differences"]
        verdict = "" if differences is None else "yes" if not differences else f"{len(differences)} differ"
        for text in differences or ():
            notes.setdefault(_without_uid(text), []).append(name)
        rows.append((
            name, str(one["runs"]), f"{one['median_s']:.2f}", f"{found['bytes'] / 1e6 / one['median_s']:.0f}",
            f"{one['ratio']:.2f}", f"{one['median_processor_s']:.2f}", f"{one['processor_ratio']:.2f}", verdict,
        ))  # fmt: skip
    columns = (
        "program",
        "runs",
        "median s",
        "MB/s",
        "ratio",
        "processor s",
        "ratio",
        "values and geometry as fastdcm's",
    )
    told = [f"- {', '.join(dict.fromkeys(names))}: {text}" for text, names in sorted(notes.items())]
    return [f"{title}{found['workers']} workers:", "", *table(columns, rows), *(["", *told] if told else [])]


def _without_uid(text: str) -> str:
    """Return a difference without the number of the series."""
    return re.sub(r"^[0-9.]+: ", "", text)


def storage_block(document: Figures) -> list[str]:
    """Return the bytes that each program wrote of one patient."""
    found = document["suites"]["peers"]["figures"]
    rows = [("DICOM", f"{found['bytes'] / 1e6:.0f}", "1.00")]
    for name, one in found["programs"].items():
        rows.append((name, f"{one['bytes_written'] / 1e6:.0f}", f"{found['bytes'] / one['bytes_written']:.2f}"))
    return table(("written by", "MB", "DICOM bytes over these"), rows)


def scan_block(document: Figures) -> list[str]:
    """Return the scan beside its floor and SimpleITK's listing."""
    rows = []
    for export, ways in document["suites"]["scan"]["figures"].items():
        floor = ways[0]["cpu_us"]
        for way in ways:
            times = [f"{way[name]:.1f}" for name in ("wall_us", "wall_least_us", "cpu_us", "cpu_least_us")]
            rows.append((export, way["name"], str(way["files"]), *times, f"{way['cpu_us'] / floor:.2f}"))
    columns = ("export", "", "files", "us a file", "least", "processor us", "least", "x floor")
    return table(columns, rows)


def small_block(document: Figures) -> list[str]:
    """Return one-image series and small 4-D images."""
    found = document["suites"]["small"]["figures"]
    lines = [line for name in ("cr-2500", "mr-small") for line in (*_programs(found[name]), "")]
    each = "; ".join(f"{name} {ms:.2f} ms" for name, ms in found["ms_an_image"].items())
    return [*lines, f"One more one-image series (2 500 against 500 of them): {each}."]


def workers_block(document: Figures) -> list[str]:
    """Return what a second worker brings."""
    rows = []
    for suite in document["suites"].values():
        found = suite["figures"]
        for one in found.values() if isinstance(found, dict) and "cr-2500" in found else [found]:
            if isinstance(one, dict) and "fastdcm, 1 worker" in one.get("programs", ()):
                both = [one["programs"][name]["median_s"] for name in ("fastdcm, 1 worker", "fastdcm")]
                rows.append((one["workload"], one["codec"], *(f"{s:.2f}" for s in both), f"{both[0] / both[1]:.2f}"))
    return table(("export", "codec", "1 worker s", "2 workers s", "speed-up"), rows)


def start_block(document: Figures) -> list[str]:
    """Return what a start costs."""
    found = document["suites"]["start"]["figures"]
    rows = [(name, str(one["runs"]), f"{one['median_s']:.2f}", f"{one['least_s']:.2f}") for name, one in found.items()]
    return table(("process", "runs", "median s", "least s"), rows)


def flat_block(document: Figures) -> list[str]:
    """Return what a file costs at each number of files."""
    found = document["suites"]["flat"]["figures"]
    return table(flat.COLUMNS, [flat.row_of(one, found[0]) for one in found])


def memory_block(document: Figures) -> list[str]:
    """Return the memory of long series."""
    rows = []
    for one in document["suites"]["memory"]["figures"]:
        series, base = one["series"], one["base"]
        kind = "one file" if one["one_file"] else "a file a slice"
        rows.append((
            f"{series['pixel_bytes'] / 1e9:.1f} GB, {kind}", one["codec"], str(one["workers"]),
            f"{series['seconds']:.1f}", f"{base['peak_bytes'] / 1e6:.0f}", f"{series['peak_bytes'] / 1e6:.0f}",
            f"{one['shards_a_worker']:.2f}",
        ))  # fmt: skip
    columns = ("series", "codec", "workers", "s", "MB for 3 slices", "MB at most", "shards a worker beyond that")
    return table(columns, rows)


def map_block(document: Figures) -> list[str]:
    """Return grouping and planning of synthetic indexes."""
    names = ("rows", "series_length", "processor_seconds", "microseconds_a_row", "microseconds_a_series",
             "index_bytes_a_row", "map_bytes_a_row", "peak_bytes_a_row", "peak_gigabytes")  # fmt: skip
    rows = [[str(one[name]) for name in names] for one in document["suites"]["map_scale"]["figures"]]
    columns = ("rows", "images a series", "processor s", "us a row", "us a series", "index B a row", "map B a row",
               "peak B a row", "peak GB")  # fmt: skip
    return table(columns, rows)


def reading_block(document: Figures) -> list[str]:
    """Return reading patches and slices."""
    found = document["suites"]["reading"]["figures"]
    shape = " x ".join(map(str, found["shape"]))
    rows = [(name, f"{ms:.1f}") for name, ms in found["median_ms"].items()]
    return [f"A volume of {shape}:", "", *table(("", "median ms"), rows)]


def decoders_block(document: Figures) -> list[str]:
    """Return compressed input."""
    (found,) = document["suites"]["decoders"]["figures"]
    return table(found["columns"], found["rows"])


def codecs_block(document: Figures) -> list[str]:
    """Return the codecs on each modality."""
    found = document["suites"]["codecs"]["figures"]
    lines = [f"Measured on {found['source']}.", ""]
    for one in found["tables"]:
        lines += [f"**{one['title']}**", "", *table(one["columns"], one["rows"]), ""]
    return lines[:-1]


BLOCKS: Mapping[str, Callable[[Figures], list[str]]] = {
    "machine": machine_block,
    "targets": targets_block,
    "convert": convert_block,
    "peers": peers_block,
    "storage": storage_block,
    "scan": scan_block,
    "small": small_block,
    "workers": workers_block,
    "start": start_block,
    "flat": flat_block,
    "memory": memory_block,
    "map": map_block,
    "reading": reading_block,
    "decoders": decoders_block,
    "codecs": codecs_block,
    **SCALING_BLOCKS,
}


def fill(text: str, document: Figures) -> str:
    """Return a document with its blocks made anew; a block whose suite was not run says so."""

    def block(found: re.Match[str]) -> str:
        name = found[1]
        try:
            lines = BLOCKS[name](document)
        except KeyError as missing:
            if missing.args[0] not in _suites_of(document):
                raise
            lines = [f"Not measured yet: the suite `{missing.args[0]}`."]
        return "\n".join([f"<!-- figures {name} -->", *lines, "<!-- end -->"])

    return _BLOCK.sub(block, text)


def _suites_of(document: Figures) -> set[str]:
    from benchmarks.suites import SUITES

    return set(SUITES) - set(document["suites"])


def write_documents(document: Figures, folder: Path) -> None:
    """Make the tables of both documents, and the plots beside them."""
    for name in ("benchmarks.md", "scaling.md"):
        path = folder / name
        path.write_text(fill(path.read_text(), document))
    draw(document["suites"], folder / "benchmarks")
