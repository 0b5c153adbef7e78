"""Every transfer syntax of PS3.6 Table A-1: what becomes of a file that declares it, decided and named."""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
import pytest
from pydicom._uid_dict import UID_dictionary

from fastdcm.pixels.decode import CODECS
from fastdcm.pixels.native import NATIVE_SYNTAXES
from fastdcm.scan.rules import TRANSFER_SYNTAXES
from tests.converted import convert
from tests.dicomgen import make_pixels
from tests.pixels.sources import basic_table, items
from tests.scan.rawdicom import explicit, image, part10

JPEG = "1.2.840.10008.1.2.4."
LISTED = sorted(uid for uid, entry in UID_dictionary.items() if entry[1] == "Transfer Syntax")
MULTI_FRAME = "1.2.840.10008.5.1.4.1.1.7.3"
NEWER = [JPEG + "110", JPEG + "111", JPEG + "112", "1.2.840.10008.1.2.8.1"]
"""Of the standard since pydicom's table was made."""
DECODED = {uid for uid, syntax in TRANSFER_SYNTAXES.items() if syntax.pixels in ("native", "encapsulated")}


def outcome(folder: Path, content: bytes) -> tuple[str, str | None, str | None]:
    import pyarrow.parquet as pq

    (folder / "in").mkdir()
    (folder / "in" / "a.dcm").write_bytes(content)
    converted = convert(folder / "in")
    row = pq.read_table(converted.path / "files.parquet").to_pylist()[0]
    return row["outcome"], row["code"], row["message"]


def test_there_is_a_decision_for_each() -> None:
    assert set(LISTED) | set(NEWER) <= set(TRANSFER_SYNTAXES)
    assert {uid for uid in DECODED if TRANSFER_SYNTAXES[uid].pixels == "encapsulated"} == set(CODECS)
    assert {uid for uid in DECODED if TRANSFER_SYNTAXES[uid].pixels == "native"} == NATIVE_SYNTAXES


@pytest.mark.parametrize("syntax", sorted(set(TRANSFER_SYNTAXES) - DECODED))
def test_what_is_not_decoded_is_named(syntax: str, tmp_path: Path) -> None:
    kind = TRANSFER_SYNTAXES[syntax]
    content = part10(image(), syntax)
    if kind.deflated:
        start = content[: len(part10(b"", syntax))]
        deflater = zlib.compressobj(wbits=-15)
        content = start + deflater.compress(image()) + deflater.flush()
    expected = {
        "video": ("not-image", "video"),
        "elsewhere": ("failed", "unsupported-syntax"),
        "unknown": ("failed", "unsupported-syntax"),
    }
    found = outcome(tmp_path, content)
    assert found[:2] == expected[kind.pixels]
    assert kind.name in str(found[2])


@pytest.mark.parametrize("deflated", [False, True])
def test_pixels_on_a_server_are_no_missing_element(deflated: bool, tmp_path: Path) -> None:
    """JPIP Referenced (PS3.5 A.6, A.7): Pixel Data Provider URL (0028,7FE0) stands for the pixels."""
    syntax = JPEG + ("95" if deflated else "94")
    data_set = image(pixels=b"")[: -len(explicit(0x7FE00010, "OW", b""))] + explicit(0x00287FE0, "UR", "http://a/b")
    if deflated:
        deflater = zlib.compressobj(wbits=-15)
        data_set = deflater.compress(data_set) + deflater.flush()
    assert outcome(tmp_path, part10(data_set, syntax)) == (
        "failed",
        "unsupported-syntax",
        f"{TRANSFER_SYNTAXES[syntax].name} ({syntax}): the pixels are on a server",
    )


def test_an_unknown_syntax_is_named(tmp_path: Path) -> None:
    found = outcome(tmp_path, part10(image(), "1.2.3.4.5"))
    assert found == ("failed", "unsupported-syntax", "transfer syntax 1.2.3.4.5 is not known")


@pytest.mark.parametrize("how", ["frames", "thirds", "one"])
def test_frames_without_compression_are_encapsulated(how: str, tmp_path: Path) -> None:
    """Encapsulated Uncompressed (PS3.5 A.4.11): native frames as fragments, by table or by their size."""
    frames = make_pixels(3, 14, 18)
    codes = [frame.tobytes() for frame in frames]
    fragments = {"frames": codes, "thirds": [code[k : k + 168] for code in codes for k in (0, 168, 336)]}
    fragments["one"] = [b"".join(codes)]
    head = image(explicit(0x00280008, "IS", "3"), 14, 18, b"", MULTI_FRAME)[: -len(explicit(0x7FE00010, "OW", b""))]
    table = basic_table(*([code] for code in codes)) if how == "frames" else b""
    value = explicit(0x7FE00010, "OB", items(*fragments[how], table=table), 0xFFFFFFFF)
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.dcm").write_bytes(part10(head + value, "1.2.840.10008.1.2.1.98", MULTI_FRAME))
    converted = convert(tmp_path / "in")
    (volume,) = converted.store.volumes
    assert np.array_equal(volume.numpy()[:, 0], frames)
    assert {reason["code"] for reason in volume.attributes["fastdcm"]["reasons"]} == {"burned-in-risk"}
