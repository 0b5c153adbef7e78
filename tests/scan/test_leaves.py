"""Leaves of headers: what is read by the layout of another header is what a walk of its own gives."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset

from fastdcm.scan.leaves import (
    Context,
    Element,
    context_of,
    json_leaf,
    leaf_order,
    leaves_of,
    read_elements,
    without_padding,
)
from tests.dicomgen import make_series


def item(**elements: str) -> Dataset:
    dataset = Dataset()
    for name, value in elements.items():
        setattr(dataset, name, value)
    return dataset


def edit(_: int, dataset: Dataset) -> None:
    dataset.RequestAttributesSequence = [item(RequestedProcedureID="R1"), item(RequestedProcedureID="R2")]
    dataset["RequestAttributesSequence"].is_undefined_length = True
    dataset.ReferencedStudySequence = [item(ReferencedSOPInstanceUID="1.2.3")]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_series(tmp_path_factory.mktemp("leaves"), n=1, edit=edit).paths[0]


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(400, 1500), st.integers(0, 255)), min_size=1, max_size=3))
def test_a_header_read_by_another_ones_layout_is_read_right(path: Path, changes: list[tuple[int, int]]) -> None:
    raw = bytearray(path.read_bytes())
    for place, value in changes:
        raw[place] = value
    other = path.with_suffix(".changed")
    other.write_bytes(raw)
    names = [os.fsencode(path), os.fsencode(other)]
    (_, beside), (alone,) = list(read_elements(names)), list(read_elements(names[1:]))
    assert beside == alone


def test_what_cannot_be_read_is_none(path: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "text").write_bytes(b"no DICOM" * 100)
    os.mkfifo(tmp_path / "pipe")
    names = [os.fsencode(tmp_path / name) for name in ("empty", "text", "pipe", "nosuch")]
    assert list(read_elements(names)) == [None] * 4


def test_sequences_are_equal_by_what_they_hold(path: Path) -> None:
    (found,) = read_elements([os.fsencode(path)])
    assert found is not None
    context = context_of(found, private=False)
    leaves = {where: leaf for where, _, leaf in leaves_of(found[0x00400275], context)}
    assert leaves[0x00400275,].raw == b"2"
    assert leaves[0x00400275, 1, 0x00401001].raw == b"R2"
    body = b"\x40\0\x01\x10\2\0\0\0"  # implicit, of defined length
    raw = b"".join(b"\xfe\xff\0\xe0\x0a\0\0\0" + body + name for name in (b"R1", b"R2"))
    same = list(leaves_of(Element(0x00400275, "", raw, implicit=True), context))
    assert same[-1][2].key == leaves[0x00400275,].key
    swapped = raw.replace(b"R1", b"R0")
    assert list(leaves_of(Element(0x00400275, "", swapped, implicit=True), context))[-1][2].key != same[-1][2].key


@pytest.mark.parametrize("raw", [b"\xfe\xff\0\xe0\xff\xff\0\0ab", b"garbage!", b"\xfe\xff\0\xe0" * 40])
def test_damaged_sequences_are_one_value(raw: bytes) -> None:
    leaves = list(leaves_of(Element(0x00400275, "SQ", raw), Context()))
    assert [where for where, _, _ in leaves] == [(0x00400275,)] or len(leaves) > 1
    assert leaves[-1][2].key


def test_sequences_nested_too_deep_end() -> None:
    raw = b""
    for _ in range(200):
        inner = b"\x40\0\x75\x02" + len(raw).to_bytes(4, "little") + raw
        raw = b"\xfe\xff\0\xe0" + len(inner).to_bytes(4, "little") + inner
    leaves = list(leaves_of(Element(0x00400275, "", raw, implicit=True), Context()))
    assert max(len(where) for where, _, _ in leaves) < 40


@given(st.binary(max_size=40), st.sampled_from(["CS", "LO", "DS", "UI", "LT"]))
def test_padding_goes_once_and_for_all(raw: bytes, vr: str) -> None:
    bare = without_padding(raw, vr)
    assert without_padding(bare, vr) == bare
    assert without_padding(bare + b" ", vr) == bare
    assert bare.replace(b" ", b"").replace(b"\0", b"") == raw.replace(b" ", b"").replace(b"\0", b"")


def test_byte_orders_and_signs() -> None:
    def leaf(element: Element, signed: bool = False) -> tuple[int, object]:
        found = next(leaves_of(element, Context(signed=signed)))[2]
        return found.key, leaf_order(found)

    little = leaf(Element(0x00189087, "FD", b"\0\0\0\0\0\0\xf8\x3f"))
    assert little == leaf(Element(0x00189087, "FD", b"\x3f\xf8\0\0\0\0\0\0", little_endian=False))
    assert little[1] == (1.5,)
    minus = Element(0x00280120, "", b"\xff\xff", implicit=True)
    assert (leaf(minus, signed=True)[1], leaf(minus)[1]) == ((-1,), (65535,))
    assert leaf(minus, signed=True)[0] != leaf(minus)[0]


def test_json_of_a_store_orders_by_number() -> None:
    assert leaf_order(json_leaf({"vr": "DS", "Value": [5.0, -1.25]})) == (5.0, -1.25)
    assert json_leaf({"vr": "PN", "Value": [{"Alphabetic": "A^B"}]}).raw == b"A^B"
    assert json_leaf({"vr": "CS"}).length == 0
