"""Law 1: every input file has exactly one outcome. The account book of a run, file by file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from fastdcm.errors import Code, Outcome
from fastdcm.model import Index, Ints


class Claim(NamedTuple):
    """What one stage says about a file."""

    outcome: Outcome
    code: Code | None
    message: str | None


_RANK = {
    Outcome.FAILED: 0,
    Outcome.CONFLICT: 1,
    Outcome.DUPLICATE: 3,
    Outcome.FILTERED: 4,
}
_SIBLING = (Code.SIBLING_FAILED, Code.SIBLING_CONFLICT)


def _order(claim: Claim) -> tuple[int, str, str]:
    """By importance: a file's own fault, a conflict, a sibling's fault, a duplicate, a filter; then by text."""
    return 2 if claim.code in _SIBLING else _RANK[claim.outcome], str(claim.code), str(claim.message)


class Ledger:
    """Collects what the stages say; ``settle`` gives each file its one outcome.

    A file is converted if any frame of it is; else the most important claim holds, and of equals the first by text, so
    that the order in which tasks finish decides nothing.
    """

    def __init__(self, files: int) -> None:
        self._converted = np.zeros(files, np.bool_)
        self._claims: dict[int, Claim] = {}
        self._remarks: dict[int, set[tuple[str, str]]] = {}

    def converted(self, files: Ints) -> None:
        """Note that frames of these files are in the store."""
        self._converted[files] = True

    def claim(self, files: Iterable[int], outcome: Outcome, code: Code, message: str) -> None:
        """Note what became of frames of these files that are not in the store."""
        claim = Claim(outcome, code, message)
        for file in files:
            known = self._claims.get(int(file))
            if known is None or _order(claim) < _order(known):
                self._claims[int(file)] = claim

    def remark(self, file: int, code: str, message: str) -> None:
        """Note something worth saying about a file whatever its outcome."""
        self._remarks.setdefault(file, set()).add((code, message))

    def settle(self, index: Index) -> list[Claim]:
        """Return the outcome of every file, in the order of ``Index.instances``."""
        decided = zip(*(index.instances[name].to_pylist() for name in ("outcome", "code", "message")), strict=True)
        return [self._settle(file, outcome, code, message) for file, (outcome, code, message) in enumerate(decided)]

    def _settle(self, file: int, outcome: str | None, code: str | None, message: str | None) -> Claim:
        if self._converted[file]:
            return self._converted_claim(file)
        if file in self._claims:
            return self._claims[file]
        if outcome is not None:
            return Claim(Outcome(outcome), Code(code) if code else None, message)
        return Claim(
            Outcome.FAILED, Code.INTERNAL, "no stage decided about this file: a fault of fastdcm, please report"
        )

    def _converted_claim(self, file: int) -> Claim:
        remarks = sorted(self._remarks.get(file, ()))
        claim = self._claims.get(file)
        if claim is not None and claim.outcome is Outcome.FAILED:
            return Claim(Outcome.CONVERTED, Code.FRAMES_DROPPED, claim.message)
        if remarks:
            return Claim(Outcome.CONVERTED, Code(remarks[0][0]), "; ".join(text for _, text in remarks))
        return Claim(Outcome.CONVERTED, None, None)


def count_outcomes(claims: Iterable[Claim]) -> tuple[dict[str, int], dict[str, int]]:
    """Return files by outcome (all seven named), and by ``outcome/code`` where there is a code."""
    claims = list(claims)
    outcomes = Counter(str(claim.outcome) for claim in claims)
    codes = Counter(f"{claim.outcome}/{claim.code}" for claim in claims if claim.code)
    return {str(outcome): outcomes[outcome] for outcome in Outcome}, dict(sorted(codes.items()))
