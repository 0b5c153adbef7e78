"""Whether an explained difference is borne out: a pattern of files and words must not hide a value that is wrong.

A difference that has an explanation must also have one of

- its exact numbers in the explanation: another wrong value would differ by another number;
- the agreement of a reference that shares no code with the one that differs, on the same frame or volume. Values of
  a volume are also borne out by its frames, if every one of them is equal to another reference's; places are not.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from benchmarks.explanations import Explanation
from benchmarks.judged import Finding

READS_BY = {"highdicom": "pydicom", "SimpleITK": "GDCM"}
"""References that read pixels by another one: together they are one witness."""

VALUES = ("values", "voxels", "differs")
"""How differences begin that are of values alone, at places that agree."""
_CELLS = re.compile(r"\d+ of \d+ cells differ")
_MEASURED = re.compile(r"up to \d|\d mm|by \d")

Said = Mapping[tuple[str, object], Mapping[str, set[str]]]
"""Verdicts by reference, of a volume (cell None) or of a frame."""


def not_borne_out(explained: Mapping[Explanation, Sequence[Finding]], found: Iterable[Finding]) -> list[Finding]:
    """Return the explained differences that nothing but their explanation speaks for.

    Parameters
    ----------
    explained
        Differences by their explanation. Files that are left out have no value, and need no witness.
    found
        All that was found, by all references.
    """
    said: dict[tuple[str, object], dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    frames: dict[str, set[object]] = defaultdict(set)
    for finding in found:
        if finding.volume:
            said[finding.volume, finding.cell][witness(finding.reference)].add(finding.verdict)
            if finding.cell is not None:
                frames[finding.volume].add(finding.cell)
    return [
        finding
        for known, findings in explained.items()
        for finding in findings
        if finding.verdict == "differs"
        and not states_the_numbers(known)
        and not _has_witness(finding, said, frames.get(finding.volume, set()))
    ]


def witness(reference: str) -> str:
    """Return who reads the pixels of a reference.

    Examples
    --------
    >>> witness("SimpleITK"), witness("dcm2niix")
    ('GDCM', 'dcm2niix')
    """
    return READS_BY.get(reference, reference)


def states_the_numbers(known: Explanation) -> bool:
    """Tell whether an explanation covers one measured difference alone.

    Examples
    --------
    >>> one = Explanation("SimpleITK", ("*",), "slices up to 0.25 mm apart", "uneven")
    >>> states_the_numbers(one), states_the_numbers(one._replace(text="slices up to * mm apart"))
    (True, False)
    """
    return not set(known.text) & set("*?[") and _MEASURED.search(known.text) is not None


def is_of_values(text: str) -> bool:
    """Tell whether a difference is of values alone: where they are was agreed on.

    Examples
    --------
    >>> is_of_values("values up to 3 apart"), is_of_values("slices up to 3 mm apart; values up to 3 apart")
    (True, False)
    """
    return text.startswith(VALUES) or _CELLS.fullmatch(text) is not None


def _has_witness(finding: Finding, said: Said, frames: set[object]) -> bool:
    others = {name for key in said if key[0] == finding.volume for name in said[key]} - {witness(finding.reference)}
    if any(said[finding.volume, finding.cell].get(name) == {"equal"} for name in others):
        return True
    if finding.cell is not None or not is_of_values(finding.text):
        return False
    return any(
        bool(frames) and all(said[finding.volume, cell].get(name) == {"equal"} for cell in frames) for name in others
    )
