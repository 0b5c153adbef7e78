"""Stored figures to plots: small SVG files, the same colours throughout."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from benchmarks.scaling_model import Cluster, costs_of, export_of, forecast

Suites = Mapping[str, Any]

COLOURS = {
    "fastdcm": "#0b6e4f", "fastdcm, 1 worker": "#6fb98f", "roofline": "#9a9a9a", "cp -r": "#c9c9c9",
    "dcm2niix -z n": "#d17b0f", "simpleitk": "#2b59c3", "simpleitk, pool": "#8da9e8",
}  # fmt: skip
SECOND = "#d17b0f"
SETTINGS: Any = {
    "svg.hashsalt": "fastdcm", "svg.fonttype": "none", "font.size": 9, "axes.spines.top": False,
    "axes.spines.right": False, "figure.constrained_layout.use": True,
}  # fmt: skip


def convert_plot(suites: Suites, axes: Any) -> None:
    """Draw the seconds of each program by codec, the bar's number beside it."""
    height, names = 0.8 / 3, list(COLOURS)
    for k, (codec, shade) in enumerate((("zstd", 1.0), ("lz4", 0.75), ("none", 0.5))):
        found = suites[f"convert-{codec}"]["figures"]["programs"]
        for row, name in enumerate(names):
            if name in found:
                seconds = found[name]["median_s"]
                place = row + (k - 1) * height
                axes.barh(place, seconds, height, color=COLOURS[name], alpha=shade)
                axes.text(seconds * 1.04, place, f"{codec} {seconds:.1f}", va="center", fontsize=7)
    axes.set(xscale="log", xlabel="seconds, ct-four for several patients", yticks=range(len(names)), yticklabels=names)
    axes.margins(x=0.15)
    axes.invert_yaxis()


def flat_plot(suites: Suites, axes: Any) -> None:
    """Draw processor microseconds a file over the number of files."""
    found = suites["flat"]["figures"]
    files = [one["files"] for one in found]
    scan = [1e6 * sum(one["threads"][part]["driver_s"] for part in ("index", "map")) / one["files"] for one in found]
    whole = [1e6 * one["threads"]["convert"]["whole"]["driver_s"] / one["files"] for one in found]
    for values, label, colour in ((scan, "scan", COLOURS["fastdcm"]), (whole, "convert", SECOND)):
        axes.plot(files, values, "o-", color=colour, label=label)
    axes.set(xscale="log", xlabel="files", ylabel="processor us a file")
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False)


def codecs_plot(suites: Suites, axes: Any) -> None:
    """Draw what each codec gains over what it costs, for the first modality."""
    rows = suites["codecs"]["figures"]["tables"][0]
    for name, ratio, encode, *_ in rows["rows"]:
        if name == "none":
            continue
        ours = name == "zstd:1 shuffle, one block"
        axes.plot(float(encode), float(ratio), "o", color=COLOURS["fastdcm"] if ours else COLOURS["roofline"])
        axes.annotate(name, (float(encode), float(ratio)), xytext=(4, 3), textcoords="offset points", fontsize=6)
    axes.set(xscale="log", xlabel="MB/s encoded, one thread", ylabel=f"ratio, {rows['title'].split(':')[0]}")
    axes.margins(x=0.3)


def scaling_plot(suites: Suites, axes: Any) -> None:
    """Draw the forecast of 100 million files over cores, by the number of runs side by side."""
    costs, work, cores = costs_of(suites), export_of(100_000_000), [2, 4, 8, 16, 32]
    for drivers, colour in ((1, SECOND), (4, COLOURS["simpleitk"]), (16, COLOURS["fastdcm"])):
        hours = [forecast(costs, work, Cluster(cores=n, drivers=drivers)).seconds / 3600 for n in cores]
        label = "1 run" if drivers == 1 else f"{drivers} runs side by side"
        axes.plot([64 * n for n in cores], hours, "o-", color=colour, label=label)
    axes.set(xscale="log", yscale="log", xlabel="cores of 64 nodes", ylabel="hours, 100 million files (model)")
    axes.legend(frameon=False)


PLOTS: Mapping[str, tuple[tuple[str, ...], Callable[[Suites, Any], None]]] = {
    "convert": (("convert-zstd", "convert-lz4", "convert-none"), convert_plot),
    "flat": (("flat",), flat_plot),
    "codecs": (("codecs",), codecs_plot),
    "scaling": (("stages", "map_scale"), scaling_plot),
}
"""Name of the file: the suites that it needs, and who draws it."""


def draw(suites: Suites, folder: Path) -> None:
    """Draw every plot that there are figures for; the same figures give the same bytes."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    folder.mkdir(parents=True, exist_ok=True)
    with mpl.rc_context(SETTINGS):
        for name, (needed, plot) in PLOTS.items():
            if any(suite not in suites for suite in needed):
                continue
            figure, axes = pyplot.subplots(figsize=(6.4, 4.6 if name == "convert" else 3.2))
            plot(suites, axes)
            figure.savefig(folder / f"{name}.svg", metadata={"Date": None})
            pyplot.close(figure)
