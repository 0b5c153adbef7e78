"""Hold every frame and volume of real files against independent readers, and write docs/conformance.md.

    python -m scripts.conformance [--check]

The sources are pydicom's own test files, the package pydicom-data, and the folder that FASTDCM_DATA names. Each is
converted whole; files that share a SOP Instance UID with another one are converted again, one of each UID at a
time, so that
all of them are judged. Frames are compared with pydicom and GDCM, volumes with SimpleITK, dcm2niix and highdicom,
and with
the NIfTI files that lie beside the shared data; dcmtk and GDCM write the same images in other transfer syntaxes.
``--check`` writes nothing and fails where the document is not what would be written.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

import pydicom.config

import fastdcm
from benchmarks.bearing_out import not_borne_out
from benchmarks.child import Child
from benchmarks.explanations import EXPLANATIONS, Explanation
from benchmarks.judged import Finding, Judged
from benchmarks.reference_frames import check_frames, check_left_out
from benchmarks.reference_nifti import check_references
from benchmarks.reference_volumes import check_volumes

PAGE = Path(__file__).parent.parent / "docs" / "conformance.md"
REFERENCES = ("pydicom", "GDCM", "SimpleITK", "dcm2niix", "highdicom")
TOOLS = ("pydicom", "python-gdcm", "SimpleITK", "dcm2niix", "highdicom", "nibabel")

INTRODUCTION = """# Conformance

What fastdcm makes of real files, held against independent readers. Made by `python -m scripts.conformance`; no line is
written by hand.

- **frames** are compared with pydicom's and GDCM's decoding of the same frame: lossless ones bit by bit after the
  arithmetic
  of PS3.3 C.11.1 (rescale, Modality LUT), C.7.6.3.1.5 (palettes) and C.8.8.3 (dose), lossy grey within 1 (12-bit
  JPEG 2), lossy colour
  within 2.
- **volumes** are compared with SimpleITK's stack of the same files (slice positions within 0.1 mm, directions,
  spacings, values), and
  with dcm2niix and highdicom point by point in patient space.
- A cell is the number of frames or volumes that are equal; what the reference refuses to read, and what differs,
  is added.
  Every difference is in the last table, with the part of the standard that decides it.
- An explanation hides no wrong value: each difference that has one also has its exact numbers in it, or the agreement
  of a reference that shares no code with the one that differs (SimpleITK reads by GDCM, highdicom by pydicom).
- Files whose SOP Instance UID another file has too are judged in further conversions without that other file.
"""


def installed() -> dict[str, Path]:
    """Return the folders of real DICOM files that packages install, by name."""
    import data_store

    return {
        "pydicom's test files": Path(pydicom.__file__).parent / "data",
        "pydicom-data": Path(data_store.__file__).parent,
    }


def judge(source: Path, work: Path, child: Child) -> tuple[list[Finding], Counter[str]]:
    """Convert a source and compare it; return what was found, and how many files had each outcome."""
    whole = convert([source], work / "whole.zarr", source)
    outcomes = Counter(" / ".join(filter(None, (row["outcome"], row["code"]))) for row in whole.files.values())
    found = [finding for judged in (whole, *rounds(whole, work)) for finding in compare(judged, child)]
    seen = {finding.file for finding in found}
    found += [finding for finding in check_left_out(whole) if finding.file not in seen]
    return found, outcomes


def compare(judged: Judged, child: Child) -> Iterator[Finding]:
    """Compare all frames and volumes of a store with all references."""
    yield from check_frames(judged, child)
    yield from check_volumes(judged, child)


def convert(sources: Sequence[Path], store: Path, root: Path) -> Judged:
    """Convert sources into a store; files are named below the root."""
    fastdcm.convert([str(source) for source in sources], str(store), workers=1)
    return Judged(store, sources, root)


def rounds(whole: Judged, work: Path) -> Iterator[Judged]:
    """Convert the files that another of the same UID kept out, one file of each UID a round."""
    left: dict[str, list[Path]] = defaultdict(list)
    for number, row in whole.files.items():
        if row["outcome"] in ("conflict", "duplicate"):
            left[row["sop_instance_uid"]].append(whole.path(number))
    for k in range(max(map(len, left.values()), default=0)):
        paths = [paths[k] for paths in left.values() if k < len(paths)]
        yield convert(paths, work / f"round-{k}.zarr", whole.root)


# ------------------------------------------------------------------------------------ the document


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines) + "\n"


def cell(verdicts: Counter[str]) -> str:
    """Return what one reference says of one kind in one transfer syntax.

    Examples
    --------
    >>> cell(Counter(equal=12, refused=2)), cell(Counter())
    ('12, refuses 2', '')
    """
    words = [str(verdicts["equal"])] if verdicts["equal"] else []
    words += [f"refuses {verdicts['refused']}"] if verdicts["refused"] else []
    words += [f"**differs {verdicts['differs']}**"] if verdicts["differs"] else []
    return ", ".join(words)


def source_section(name: str, found: Sequence[Finding], outcomes: Counter[str]) -> str:
    """Return the section of one source: its files by outcome, its kinds by transfer syntax."""
    said: dict[tuple[str, str], dict[str, Counter[str]]] = defaultdict(lambda: defaultdict(Counter))
    files: dict[tuple[str, str], set[str]] = defaultdict(set)
    for finding in found:
        if finding.verdict == "left out":
            continue
        key = (finding.kind, finding.syntax)
        said[key][finding.reference][finding.verdict] += 1
        if finding.reference == "pydicom":
            files[key].add(finding.file)
    rows = [
        (*key, len(files[key]), sum(said[key]["pydicom"].values()), *(cell(said[key][name]) for name in REFERENCES))
        for key in sorted(said)
    ]
    total: dict[str, Counter[str]] = defaultdict(Counter)
    for finding in found:
        total[finding.reference][finding.verdict] += 1
    frames = sum(sum(said[key]["pydicom"].values()) for key in said)
    sums = (sum(map(len, files.values())), frames, *(cell(total[name]) for name in REFERENCES))
    head = ("kind", "transfer syntax", "files", "frames", "pydicom: frames", "GDCM: frames")
    counted = ", ".join(f"{count} {outcome}" for outcome, count in sorted(outcomes.items()))
    return f"## {name}\n\n{sum(outcomes.values())} files: {counted}.\n\n" + table(
        (*head, *(f"{name}: volumes" for name in REFERENCES[2:])), [*rows, ("all", "", *sums)]
    )


def nifti_section(found: Sequence[Finding]) -> str:
    """Return the section about reference NIfTI files."""
    folders: dict[str, Counter[str]] = defaultdict(Counter)
    for finding in found:
        folders[finding.file.split("/")[0]][finding.verdict] += 1
    rows = [(folder, sum(counts.values()), cell(counts)) for folder, counts in sorted(folders.items())]
    return "## NIfTI files beside the shared data\n\n" + table(
        ("made by", "NIfTI files", "equal, point by point"), rows
    )


def explain(found: Iterable[Finding]) -> tuple[dict[Explanation, list[Finding]], list[Finding]]:
    """Sort differences by their explanation; return them and those that have none."""
    explained: dict[Explanation, list[Finding]] = defaultdict(list)
    unexplained = []
    for finding in found:
        if finding.verdict not in ("differs", "left out"):
            continue
        known = next((one for one in EXPLANATIONS if one.covers(finding)), None)
        if known is None:
            unexplained.append(finding)
        else:
            explained[known].append(finding)
    return explained, unexplained


def differences_section(explained: Mapping[Explanation, Sequence[Finding]]) -> str:
    """Return the table of differences with their explanations."""
    rows = []
    for known in EXPLANATIONS:
        if findings := explained.get(known):
            files = sorted({finding.file.rsplit("/", 1)[-1] for finding in findings})
            names = ", ".join(f"`{name}`" for name in files[:4]) + (
                f" and {len(files) - 4} more" if len(files) > 4 else ""
            )
            rows.append((known.reference, f"{len(findings)}: {names}", known.why))
    return "## Differences, and what the standard says\n\n" + table(("reference", "what differs", "why"), rows)


def faults_of(found: Sequence[Finding]) -> list[str]:
    """Return, a line each, the differences that nothing explains and the explained ones that nothing bears out."""
    explained, unexplained = explain(found)
    lines = [f"not explained: {_line(finding)}" for finding in unexplained]
    return lines + [f"explained, but nothing bears it out: {_line(one)}" for one in not_borne_out(explained, found)]


def _line(finding: Finding) -> str:
    cell = "" if finding.cell is None else f" (t, c, z) {finding.cell}"
    return (
        f"{finding.reference} {finding.verdict}: {finding.kind}, {finding.syntax}, {finding.file}{cell}: {finding.text}"
    )


def page(data: Path) -> tuple[str, list[str]]:
    """Return the document, and what makes it no proof."""
    from benchmarks.encoders import encoders_section

    everything: list[Finding] = []
    sections = []
    with Child() as child:
        for name, source in (installed() | {"shared data": data}).items():
            with tempfile.TemporaryDirectory() as work:
                found, outcomes = judge(source, Path(work), child)
            sections.append(source_section(name, found, outcomes))
            everything += found
    references = list(check_references(data))
    everything += references
    versions = ", ".join(f"{tool} {version(tool)}" for tool in TOOLS)
    encoders, wrong = encoders_section(data)
    sections += [nifti_section(references), encoders, differences_section(explain(everything)[0])]
    return "\n".join([INTRODUCTION, f"Compared with: {versions}.\n", *sections]), [*faults_of(everything), *wrong]


def main() -> int:
    """Compare and write; 1 where a difference is not explained or not borne out, or the document is out of date."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--check", action="store_true", help="write nothing, fail where the document is out of date")
    options = parser.parse_args()
    if "FASTDCM_DATA" not in os.environ:
        parser.error("FASTDCM_DATA must name the folder of shared data")
    pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE
    text, faults = page(Path(os.environ["FASTDCM_DATA"]))
    for line in faults:
        print(line, file=sys.stderr)
    if options.check:
        print("up to date" if PAGE.read_text() == text else f"{PAGE} is out of date", file=sys.stderr)
        return int(bool(faults) or PAGE.read_text() != text)
    PAGE.write_text(text)
    return int(bool(faults))


if __name__ == "__main__":
    sys.exit(main())
