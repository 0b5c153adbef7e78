"""pydicom is loaded whole, once, quietly, and only by what needs it."""

import ast
import codecs
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pydicom.charset
import pytest
from pydicom import uid as uids

import fastdcm
from fastdcm.scan.pydicom_once import load_pydicom
from fastdcm.scan.rules import PLAIN_CHARSETS, clean_text
from tests import dicomgen

PACKAGE = Path(fastdcm.__file__).parent

CONVERT = """
import sys
from fastdcm.cli import run
code = run(["convert", *sys.argv[1:], "--workers", "2"])
assert "fastdcm.scan.tags" in sys.modules, "nothing was converted in this process"
print(code, "pydicom" in sys.modules)
"""

RACE = """
import sys, threading
from io import BytesIO
from fastdcm.run import witness
from fastdcm.scan import elements, reference, rules, tag_json, tags

ct, big_endian = (open(path, "rb").read() for path in sys.argv[1:])
entries = [
    lambda: rules.is_image_class("1.2.840.10008.5.1.4.1.1.2"),
    lambda: rules.clean_text(b"\\x1b$B;3ED\\x1b(B", ["", "ISO 2022 IR 87"]) == "\\u5c71\\u7530",
    lambda: tag_json.resolve_vr(0x00100010, "", False) == "PN",
    lambda: len(elements.read_items(b"\\xfe\\xff\\x00\\xe0\\0\\0\\0\\0", True, True)) == 1,
    lambda: reference.read_header(BytesIO(ct), len(ct)).pixel_tag == 0x7FE00010,
    lambda: 0x00080060 in tags.slice_tags(big_endian, "1.2.840.10008.1.2.2", "technical"),
    lambda: witness.open_source(sys.argv[1]) is not None,
    lambda: "CT Image Storage" in rules.sop_class_name("1.2.840.10008.5.1.4.1.1.2"),
]
assert "pydicom" not in sys.modules
sys.setswitchinterval(1e-6)
barrier, went_wrong = threading.Barrier(len(entries)), []

def enter(number):
    barrier.wait()
    try:
        if not entries[number]():
            went_wrong.append((number, "another result"))
    except BaseException as error:
        went_wrong.append((number, repr(error)))

threads = [threading.Thread(target=enter, args=(number,)) for number in range(len(entries))]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
print(went_wrong)
"""


def output_of(code: str, *words: Path) -> str:
    command = [sys.executable, "-c", code, *map(str, words)]
    done = subprocess.run(command, cwd=PACKAGE.parent, capture_output=True, text=True, check=True, timeout=120)
    return done.stdout.splitlines()[-1]


@pytest.mark.parametrize(
    ("modality", "syntax"),
    [("CT", uids.ExplicitVRLittleEndian), ("MR", uids.ImplicitVRLittleEndian), ("CR", uids.ExplicitVRLittleEndian)],
)
def test_a_plain_series_is_converted_without_it(tmp_path: Path, modality: str, syntax: uids.UID) -> None:
    names: dict[str, Any] = {"SpecificCharacterSet": "ISO_IR 100", "PatientName": "M\u00fcller^J\u00f6rg"}
    dicomgen.make_series(tmp_path / "in", modality=modality, n=3, transfer_syntax=syntax, **names)
    assert output_of(CONVERT, tmp_path / "in", tmp_path / "out.zarr") == "0 False"


@pytest.mark.parametrize("attempt", range(3))
def test_threads_that_enter_at_different_places_at_once_all_get_it_whole(tmp_path: Path, attempt: int) -> None:
    little = dicomgen.make_series(tmp_path / "little", n=1)
    big = dicomgen.make_series(tmp_path / "big", n=1, transfer_syntax=uids.ExplicitVRBigEndian)
    assert output_of(RACE, little.paths[0], big.paths[0]) == "[]"


def imports_pydicom(statement: ast.AST) -> bool:
    if isinstance(statement, ast.Import):
        return any(name.name.partition(".")[0] == "pydicom" for name in statement.names)
    return isinstance(statement, ast.ImportFrom) and (statement.module or "").partition(".")[0] == "pydicom"


def loads_it(statement: ast.AST) -> bool:
    return (
        isinstance(statement, ast.Expr)
        and isinstance(statement.value, ast.Call)
        and ast.unparse(statement.value) == "load_pydicom()"
    )


def test_every_function_that_imports_a_part_loads_the_whole_first() -> None:
    bare = []
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.FunctionDef) or node.name == "_load":
                continue
            statements = [s for s in ast.walk(node) if isinstance(s, ast.stmt)]
            first = next((s.lineno for s in statements if imports_pydicom(s)), None)
            calls = [s.lineno for s in statements if loads_it(s)]
            if first is not None and not any(line < first for line in calls):
                bare.append(f"{path.name}:{first}")
    assert bare == []


def test_no_module_imports_it_on_its_own_import() -> None:
    parsed = [(path, ast.parse(path.read_text())) for path in PACKAGE.rglob("*.py")]
    assert [path.name for path, module in parsed if any(imports_pydicom(s) for s in module.body)] == []


def test_odd_values_give_no_warning_even_after_a_caller_reset_the_filters() -> None:
    load_pydicom()
    with warnings.catch_warnings():
        warnings.resetwarnings()
        warnings.simplefilter("error")
        load_pydicom()
        filters = len(warnings.filters)
        load_pydicom()
        assert len(warnings.filters) == filters
        warnings.warn_explicit("odd", UserWarning, "valuerep.py", 1, module="pydicom.valuerep")
    assert pydicom.config.settings.reading_validation_mode == pydicom.config.IGNORE


@pytest.mark.parametrize("name", PLAIN_CHARSETS)
def test_plain_character_sets_are_those_of_pydicom(name: str) -> None:
    ours, theirs = PLAIN_CHARSETS[name], pydicom.charset.python_encoding[name]
    assert codecs.lookup(ours).name == codecs.lookup(theirs).name
    raw = bytes(range(0xA1, 0xFF))
    expected = raw.decode(theirs, "replace")
    assert clean_text(raw, [f"{name} "]) == clean_text(expected.encode(), ["ISO_IR 192"])
