"""The targets of speed, memory and start, each with what was measured; ratios are of medians of one run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

Suites = Mapping[str, Any]


class Target(NamedTuple):
    """One line of the table."""

    what: str
    wanted: str
    measured: str
    met: bool


def at_least(what: str, wanted: float, found: float, unit: str = " x") -> Target:
    """Return a target that is met from ``wanted`` on."""
    return Target(what, f"{wanted:g}{unit} or more", f"{found:.3g}{unit}", found >= wanted)


def at_most(what: str, wanted: float, found: float, unit: str = "") -> Target:
    """Return a target that is met up to ``wanted``."""
    return Target(what, f"{wanted:g}{unit} or less", f"{found:.3g}{unit}", found <= wanted)


def targets(suites: Suites) -> Iterator[Target]:
    """Yield the targets whose suites have figures."""
    for name, lines in LINES.items():
        if name in suites:
            yield from lines(suites[name]["figures"])


def _scan(found: Any) -> Iterator[Target]:
    for workload, measured in found.items():
        ways = {way["name"]: way for way in measured}
        floor, index, listing = (ways[name]["cpu_us"] for name in ("floor", "index, 1 worker", "SimpleITK listing"))
        what = f"scan of `{workload}`, one core: index against"
        yield at_most(f"{what} open + read 8 kB + close", 3, index / floor, " x")
        yield at_least(f"{what} SimpleITK's listing", 200, listing / index)


SIMPLEITK = {"zstd": (6, 4), "lz4": (10, 6), "none": (15, 8)}


def _convert(codec: str) -> Callable[[Any], Iterator[Target]]:
    def lines(found: Any) -> Iterator[Target]:
        ratios = {name: one["ratio"] for name, one in found["programs"].items()}
        what = f"convert `{found['workload']}`, {codec}"
        alone, pool = SIMPLEITK[codec]
        yield at_least(f"{what}: against SimpleITK + zarr", alone, ratios["simpleitk"])
        yield at_least(f"{what}: against SimpleITK in a pool", pool, ratios["simpleitk, pool"])
        yield at_least(f"{what}: share of the roofline", 85, 100 * ratios["roofline"], " %")
        if codec == "none":
            yield at_least(f"{what}: against dcm2niix -z n", 1, ratios["dcm2niix -z n"])
            yield at_most(f"{what}: against cp -r, whole process", 2, 1 / ratios["cp -r"], " x")

    return lines


def _small(found: Any) -> Iterator[Target]:
    each = found["ms_an_image"]
    yield at_most("one-image series: beyond the roofline", 2, each["fastdcm"] - each["roofline"], " ms")
    yield at_least(
        "`mr-small`: share of the roofline", 70, 100 * found["mr-small"]["programs"]["roofline"]["ratio"], " %"
    )


def _decoders(found: Any) -> Iterator[Target]:
    for name, *cells in found[0]["rows"]:
        share = float(cells[2].rstrip("%"))
        yield at_least(f"{name}: the decoder's share of reading a frame", 90, share, " %")


def _flat(found: Any) -> Iterator[Target]:
    many = [one for one in found if one["files"] >= 10_000]
    costs = [_whole_us(one) for one in many]
    spread = max(costs) / min(costs)
    yield at_most(
        f"cost a file, {many[0]['files']} to {many[-1]['files']} files: largest over least", 1.1, spread, " x"
    )


def _whole_us(found: Any) -> float:
    return float(found["threads"]["convert"]["whole"]["driver_s"] / found["files"])


def _memory(found: Any) -> Iterator[Target]:
    yield at_most("memory: shards a worker beyond a small run", 3, max(one["shards_a_worker"] for one in found))
    yield at_most("memory: a series of 10 GB, whole process", 1000, found[0]["series"]["peak_bytes"] / 1e6, " MB")


def _map(found: Any) -> Iterator[Target]:
    most = max((one for one in found if one["series_length"] > 1), key=lambda one: one["rows"])
    held = most["index_bytes_a_row"] + most["map_bytes_a_row"]
    yield at_most(f"driver: memory an instance, {most['rows']} rows", 400, held, " B")


def _start(found: Any) -> Iterator[Target]:
    names = ("import numpy, pyarrow", "fastdcm --help", "fastdcm convert, 10 slices")
    imports, usage, run = (found[name]["median_s"] for name in names)
    yield at_most("start: `--help`", 0.3, usage, " s")
    yield at_most("start: convert ten slices, against `import numpy, pyarrow`", 3, run / imports, " x")


def _reading(found: Any) -> Iterator[Target]:
    ms = found["median_ms"]
    yield at_least("reading a 96-cubed patch, against SimpleITK reading the series", 20,
                   ms["the series, SimpleITK"] / ms["patch, fastdcm"])  # fmt: skip
    ratio = ms["patch, fastdcm"] / ms["patch, zarr-python"]
    yield at_most("reading a 96-cubed patch, against zarr-python", 1.05, ratio, " x")


LINES: Mapping[str, Callable[[Any], Iterator[Target]]] = {
    "scan": _scan,
    "convert-zstd": _convert("zstd"),
    "convert-lz4": _convert("lz4"),
    "convert-none": _convert("none"),
    "small": _small,
    "decoders": _decoders,
    "flat": _flat,
    "memory": _memory,
    "map_scale": _map,
    "start": _start,
    "reading": _reading,
}
