"""The series table: the tree is right, every line fits, and what was asked about is shown."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pytest
from rich.cells import cell_len

from fastdcm.errors import UsageError
from fastdcm.look.series_table import clock_text, series_lines, total_lines
from tests.ministore import Small, catalogue

UID = "1.3.6.1.4.1.14519.5.2.1.7009.2403.3342406571319721368503433274"
AFFINE = np.diag([0.703125, 0.8, 1.25, 1.0])


def column(table: pa.Table, name: str, values: Sequence[object]) -> pa.Table:
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


def test_the_order_of_reconstruction_is_whole_at_80_columns() -> None:
    """S15: spacing, kernel and both times of each series, side by side, none of them cut."""
    table = chest()
    for name, clocks in (
        ("creation_time", ["162730", "162700.5", "1625"]),
        ("content_time", ["162731", "162701", None]),
    ):
        table = column(table, name, clocks)
    title, *lines = plain(table, 80, sort="creation_time")
    lines = [line for line in lines if line.startswith("  …")]
    assert [word for word in title.split() if word != "mm"][-4:] == ["spacing", "kernel", "created", "content"]
    assert [line.split()[-3:] for line in lines[1:]] == [
        ["STANDARD", "16:27:00", "16:27:01"],
        ["LUNG", "16:27:30", "16:27:31"],
    ]
    assert all("x0.8x" in line for line in lines)


def test_the_tree_at_80_columns() -> None:
    """S1: patient, study, series, volume, each with what it holds; S11: the localizer is called one."""
    table = column(column(chest(), "files", [257, 65, 2]), "frames", [257, 65, 2])
    lines = plain(table, 80)
    assert lines[1] == "patient PAAAAAAAAAA  1 study, 324 files"
    assert lines[2] == f" study 20010203 …{UID[-42:]}  3 series, 324 files"
    assert lines[3] == f"  series …{UID[-60:-2]}0  257 files"
    assert lines[4].split()[:3] == ["0", "CT", "volume"]
    assert "257 512x512 0.703x0.8x1.25" in lines[4]
    assert lines[5].strip() == "missing-slices, irregular"
    assert "944x972" in lines[9]
    assert " localizer " in lines[9]
    assert any(r"\x1b[2J" in line for line in plain(table, 120))


def test_the_end_of_a_uid_stays() -> None:
    """A UID that is shortened can still be given to --series: its end is enough."""
    for width in (60, 80, 100):
        assert all(UID[-12:-2] in line for line in plain(chest(), width) if line.startswith("  series "))
    assert f"  series {UID[:-2]}1  0 files" in plain(chest(), 100)


def test_files_of_frames() -> None:
    """A multi-frame file of one volume counts as one file; what may be in two volumes counts by frames."""
    table = column(column(chest(), "files", [1, 1, 2]), "frames", [60, 19, 2])
    assert plain(table, 100)[1].endswith("4 files")
    one = column(table, "series", [UID] * 3)
    assert plain(one, 100)[1].endswith("1 study, 81 frames")


def test_thickness_and_gap() -> None:
    """S2: 7 mm apart and 5 mm thick leaves +2 mm; 1.25 mm apart and 2.5 mm thick overlaps by -1.25 mm."""
    table = column(column(chest(), "spacing_z", [7.0, 1.25, 5.0]), "thickness", [5.0, 2.5, 5.0])
    table = column(column(table, "gap", [2.0, -1.25, 0.0]), "description", ["a", "b", "c"])
    for width, shown in ((80, ("gap",)), (100, ("thick", "gap")), (160, ("thick", "gap"))):
        lines = plain(table, width)
        assert f" mm {' '.join(shown)} kernel" in re.sub(r" +", " ", lines[0])
        rows = [line.split() for line in lines if " CT " in line]
        expected = [("5", "+2"), ("2.5", "-1.25"), ("5", "0")]
        assert [tuple(row[7 : 7 + len(shown)]) for row in rows] == [pair[-len(shown) :] for pair in expected]
        assert [row[6] for row in rows] == ["0.703x0.8x7", "0.703x0.8x1.25", "0.703x0.8x5"]


@pytest.mark.parametrize("width", [80, 160])
def test_the_order_of_reconstruction(width: int) -> None:
    """S15: spacing, kernel, creation and content time side by side, in the order of creation."""
    table = column(chest(), "creation_time", ["162606.400000", "162458", "162301"])
    table = column(column(table, "content_time", ["162507", "162431", None]), "gap", [None] * 3)
    table = column(table, "thickness", [None] * 3)
    heading, *rows = plain(table, width, sort="creation_time")
    assert heading.split()[-4:] == ["mm", "kernel", "created", "content"] or width == 160
    assert [re.findall(r"\d\d:\d\d:\d\d", row) for row in rows if "0.703" in row] == [
        ["16:23:01"],
        ["16:24:58", "16:24:31"],
        ["16:26:06", "16:25:07"],
    ]
    if width == 160:
        kernel = heading.index("kernel")
        assert heading.index("spacing mm") < kernel < heading.index("created") < heading.index("content")


def test_groups_of_a_time_are_readable() -> None:
    table = column(chest(), "creation_time", ["162606.4", "162606.4", None])
    headings = [line for line in plain(table, 80, group="creation_time") if line.startswith("creation_time ")]
    assert headings == ["creation_time 16:26:06: 2 volumes, 0 files", "creation_time -: 1 volume, 0 files"]


@pytest.mark.parametrize(
    ("time", "text"),
    [("162606.123000", "16:26:06"), ("1626", "16:26"), ("16", "16"), ("16:26:06", "16:26:06"), ("x\x1b", r"x\x1b")],
)
def test_times(time: str, text: str) -> None:
    assert clock_text(time) == text


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
    assert headings == [
        "kernel LUNG: 1 volume, 0 files",
        "kernel STANDARD: 1 volume, 0 files",
        "kernel -: 1 volume, 0 files",
    ]


def test_no_volumes_no_lines() -> None:
    assert plain(chest().slice(0, 0), 80) == []
    totals = [line.plain for line in total_lines(chest().slice(0, 0), 160)]
    assert totals[0].startswith("0 volumes, 0 series, 0 studies, 0 patients")


@pytest.mark.parametrize("how", [{"sort": "nosuch"}, {"group": "matrix"}])
def test_unknown_columns_are_refused(how: dict[str, str]) -> None:
    with pytest.raises(UsageError, match="spacing_z"):
        plain(chest(), 80, **how)


def test_totals() -> None:
    lines = [line.plain for line in total_lines(chest(), 160, {"image": 324, "not-image/sop-class": 2})]
    assert lines[0].startswith("3 volumes, 3 series, 1 study, 1 patient; 0 frames, 172 MB in files")
    assert lines[1:] == ["modality: 3 CT", "kind: 2 volume, 1 localizer", "326 files: 324 image, 2 not-image/sop-class"]
