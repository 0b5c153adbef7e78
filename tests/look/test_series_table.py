"""The series table: the tree is right, every line fits, and what was asked about is shown."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from rich.cells import cell_len

from fastdcm.errors import UsageError
from fastdcm.look.series_table import series_lines, total_lines
from tests.ministore import Small, catalogue

UID = "1.3.6.1.4.1.14519.5.2.1.7009.2403.3342406571319721368503433274"
AFFINE = np.diag([0.703125, 0.8, 1.25, 1.0])


def column(table: pa.Table, name: str, values: list[object]) -> pa.Table:
    place = table.schema.get_field_index(name)
    kind = table.schema.field(place).type
    array = pa.array(values, pa.string()) if pa.types.is_dictionary(kind) else pa.array(values, kind)
    return table.set_column(place, table.schema.field(place), array.cast(kind))


def chest() -> pa.Table:
    """Two reconstructions and a localizer whose description would like to act on the terminal."""
    shapes = [(257, 512, 512), (65, 512, 512), (2, 972, 944)]
    texts = ["Chest routine lung, thin slices 1.25 mm", "5mm", "\x1b[2Jscout 胸部平扫"]
    smalls = [
        Small(
            np.broadcast_to(np.int16(0), shape),
            affine=AFFINE,
            path=f"{UID}/{UID[:-2]}{n}/0.ome.zarr",
            description=text,
            kind="localizer" if n == 2 else "volume",
        )
        for n, (shape, text) in enumerate(zip(shapes, texts, strict=True))
    ]
    table = catalogue(smalls)
    table = column(table, "kernel", ["LUNG", "STANDARD", None])
    table = column(table, "reasons", ["missing-slices;irregular", None, "split-orientation"])
    return column(table, "study_date", ["20010203"] * 3)


def plain(table: pa.Table, width: int, **how: str) -> list[str]:
    return [line.plain for line in series_lines(table, width, **how)]


@pytest.mark.parametrize("width", [60, 80, 81, 100, 120, 160, 240])
@pytest.mark.parametrize("how", [{}, {"sort": "creation_time"}, {"group": "kernel"}])
def test_every_line_fits_and_is_printable(width: int, how: dict[str, str]) -> None:
    lines = plain(chest(), width, **how)
    assert lines
    assert max(map(cell_len, lines)) <= width
    assert all(line.isprintable() for line in lines)


def test_the_tree_at_80_columns() -> None:
    lines = plain(chest(), 80)
    assert lines[1:4] == [
        "patient PAAAAAAAAAA",
        f" study 20010203 {UID}",
        f"  series {UID[:-2]}0",
    ]
    assert lines[4].split() == [
        "0",
        "CT",
        "volume",
        *lines[4].split()[3:-5],
        "257",
        "512x512",
        "0.703x0.8x1.25",
        "LUNG",
        "int16",
    ]
    assert lines[5].strip() == "missing-slices, irregular"
    assert "944x972" in lines[9]
    assert r"\x1b[2J" in lines[9]


def test_wide_terminals_show_more() -> None:
    lines = plain(chest(), 200)
    assert "flags" in lines[0]
    assert lines[4].endswith("missing-slices, irregular")
    assert "Chest routine lung, thin slices 1.25 mm" in lines[4]


def test_sorted_by_a_column_nulls_last() -> None:
    by_slices = plain(chest(), 120, sort="slices")
    rows = [line for line in by_slices if " CT " in line]
    assert ["944x972" in rows[0], " 65 " in rows[1], " 257 " in rows[2]] == [True] * 3
    rows = [line for line in plain(chest(), 120, sort="kernel") if " CT " in line]
    assert ["LUNG" in rows[0], "STANDARD" in rows[1], "localizer" in rows[2]] == [True] * 3


def test_a_column_that_is_asked_about_is_shown() -> None:
    table = column(chest(), "body_part", ["CHEST", "ABDOMEN", None])
    assert "body_part" not in plain(table, 120)[0]
    lines = plain(table, 120, sort="body_part")
    assert "body_part" in lines[0]
    assert "ABDOMEN" in lines[1]


def test_groups_have_headings() -> None:
    headings = [line for line in plain(chest(), 120, group="kernel") if line.startswith("kernel ")]
    assert headings == ["kernel LUNG: 1 volume", "kernel STANDARD: 1 volume", "kernel -: 1 volume"]


def test_no_volumes_no_lines() -> None:
    assert plain(chest().slice(0, 0), 80) == []
    totals = [line.plain for line in total_lines(chest().slice(0, 0))]
    assert totals[0].startswith("0 volumes, 0 series, 0 studies, 0 patients")


@pytest.mark.parametrize("how", [{"sort": "nosuch"}, {"group": "matrix"}])
def test_unknown_columns_are_refused(how: dict[str, str]) -> None:
    with pytest.raises(UsageError, match="spacing_z"):
        plain(chest(), 80, **how)


def test_totals() -> None:
    lines = [line.plain for line in total_lines(chest(), {"image": 324, "not-image/sop-class": 2})]
    assert lines[0].startswith("3 volumes, 3 series, 1 study, 1 patient; 0 frames, 172 MB")
    assert lines[1:] == ["modality: 3 CT", "kind: 2 volume, 1 localizer", "326 files: 324 image, 2 not-image/sop-class"]
