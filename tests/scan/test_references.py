"""What objects refer to is read as it is written in them, whatever the encoding, and nothing else is read."""

from __future__ import annotations

import builtins
import os
import time
from pathlib import Path

import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import uid as uids

from fastdcm.scan import references
from fastdcm.scan.listing import list_elements
from fastdcm.scan.references import FRAME_OF_REFERENCE, Reference, class_name, read_references
from tests import dicomgen, referring
from tests.scan import rawdicom as raw

SYNTAXES = [
    uids.ExplicitVRLittleEndian,
    uids.ImplicitVRLittleEndian,
    uids.ExplicitVRBigEndian,
    uids.DeflatedExplicitVRLittleEndian,
]


@pytest.mark.parametrize("syntax", SYNTAXES)
@pytest.mark.parametrize("undefined", [False, True])
def test_references_are_those_that_were_written(tmp_path: Path, syntax: str, undefined: bool) -> None:
    series = dicomgen.make_series(tmp_path / "ct", n=3)
    uid_of = [one.SOPInstanceUID for one in series.datasets]
    for made in referring.make_objects(tmp_path, series, syntax):
        if undefined:
            dataset = pydicom.dcmread(made.path)
            for element in dataset:
                element.is_undefined_length = element.VR == "SQ"
            dataset.save_as(made.path)
        found = read_references(str(made.path))
        assert {one.relation for one in found} == ({made.relation} if made.relation else set())
        if made.relation == FRAME_OF_REFERENCE:
            assert [one[1:] for one in found] == [(None, None, series.datasets[0].FrameOfReferenceUID, None)]
            continue
        assert [one.sop_instance_uid for one in found] == uid_of[: made.instances]
        if made.name in ("RT Structure Set", "Basic Text SR", "Grayscale Softcopy Presentation State"):
            assert {one.series_uid for one in found} == {series.series_uid}
        if made.name in ("RT Structure Set", "Basic Text SR"):
            assert {one.study_uid for one in found} == {series.study_uid}


def test_a_series_without_images_is_named_by_itself(tmp_path: Path) -> None:
    series = dicomgen.make_series(tmp_path / "ct", n=1)
    path = referring.write(
        tmp_path, "a", uids.RawDataStorage, "MR", series, uids.ExplicitVRLittleEndian,
        ReferencedSeriesSequence=referring.sequence(SeriesInstanceUID="1.2.3"),
    )  # fmt: skip
    assert read_references(str(path)) == (Reference("ReferencedSeriesSequence", None, "1.2.3", None, None),)


@pytest.mark.parametrize("text", ["DOE^JANE", "1.2.x", "1" * 65, "../../etc", "1..2", ""])
def test_what_is_no_uid_is_no_reference(tmp_path: Path, text: str) -> None:
    item = raw.explicit(0x00081155, "UI", text) + raw.explicit(0x0020000E, "UI", text)
    data = raw.part10(
        raw.explicit(0x00080016, "UI", uids.RawDataStorage) + raw.explicit(0x00081140, "SQ", raw.item(item))
    )
    (tmp_path / "a.dcm").write_bytes(data)
    assert read_references(str(tmp_path / "a.dcm")) == ()


def test_contours_texts_and_frames_are_not_read(tmp_path: Path) -> None:
    series = dicomgen.make_series(tmp_path / "ct", n=1)
    contours = [referring.sequence(ContourData=[1.0] * 600)[0] for _ in range(40)]
    path = referring.write(
        tmp_path, "a", uids.RTStructureSetStorage, "RTSTRUCT", series, uids.ExplicitVRLittleEndian,
        ReferencedFrameOfReferenceSequence=referring.sequence(FrameOfReferenceUID="1.2"),
        ROIContourSequence=referring.sequence(ContourSequence=contours),
    )  # fmt: skip
    listed = list_elements(str(path), references._WANTED).elements
    assert {element.tag for element in listed if element.depth == 0 and element.tag >> 16 != 2} == {0x30060010}
    assert read_references(str(path)) == (Reference("ReferencedFrameOfReferenceSequence", None, None, "1.2", None),)


def test_deep_and_endless_nesting_ends(tmp_path: Path) -> None:
    head = (0x00081140).to_bytes(4, "little")
    head = head[2:] + head[:2] + b"SQ\0\0\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff"
    (tmp_path / "a.dcm").write_bytes(raw.part10(head * 200_000))
    begin = time.process_time()
    assert read_references(str(tmp_path / "a.dcm")) == ()
    assert time.process_time() - begin < 5


@given(st.data())
def test_any_bytes_give_no_error(data: st.DataObject) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.dcm"
        whole = bytearray(raw.part10(raw.explicit(0x00081140, "SQ", raw.item(raw.explicit(0x00081155, "UI", "1.2")))))
        for _ in range(data.draw(st.integers(1, 4))):
            whole[data.draw(st.integers(132, len(whole) - 1))] = data.draw(st.integers(0, 255))
        path.write_bytes(bytes(whole[: data.draw(st.integers(0, len(whole)))]))
        assert all(isinstance(one, Reference) for one in read_references(str(path)))


def test_what_cannot_be_opened_refers_to_nothing(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert read_references(str(tmp_path / "pipe")) == read_references(str(tmp_path / "none")) == ()


def test_names_of_classes() -> None:
    assert class_name("1.2.840.10008.5.1.4.1.1.481.3") == "RT Structure Set"
    assert class_name("1.2.3.4") == "1.2.3.4"
    assert class_name("DOE^JANE") == class_name(None) == "unknown class"


def test_plain_images_are_not_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from fastdcm.run.survey import scan

    dicomgen.make_series(tmp_path, n=3)
    found = scan(tmp_path, workers=1)

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError

    monkeypatch.setattr(builtins, "open", refuse)
    monkeypatch.setattr(os, "open", refuse)
    assert found.references.num_rows == 0
    assert found.objects == {}
