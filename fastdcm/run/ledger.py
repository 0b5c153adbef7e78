"""Law 1: every input file has exactly one outcome. The account book of a run, file by file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fastdcm.errors import Code, Outcome
from fastdcm.model import Index

if TYPE_CHECKING:
    import pyarrow as pa


Files = npt.NDArray[np.integer[Any]]


class Outcomes(NamedTuple):
    """One outcome a file, in the order of ``Index.instances``: dictionary encoded texts, (n,) each."""

    outcome: pa.DictionaryArray
    code: pa.DictionaryArray
    message: pa.DictionaryArray

    def rows(self, *wanted: Outcome) -> list[int]:
        """Return the files that have one of some outcomes."""
        import pyarrow as pa
        import pyarrow.compute as pc

        mask = pc.is_in(self.outcome, value_set=pa.array(list(map(str, wanted)), pa.string()))
        found: list[int] = np.flatnonzero(mask.to_numpy(zero_copy_only=False)).tolist()
        return found


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
    that the order in which tasks finish decides nothing. A file costs five bytes, whatever is said about it; what is
    said of many files is held once.
    """

    def __init__(self, files: int) -> None:
        self._converted = np.zeros(files, np.bool_)
        self._claim = np.full(files, -1, np.int32)
        self._claims: list[Claim] = []
        self._numbers: dict[Claim, int] = {}
        self._remarks: dict[int, set[tuple[str, str]]] = {}

    def converted(self, files: Files) -> None:
        """Note that frames of these files are in the store."""
        self._converted[files] = True

    def claim(self, files: Sequence[int] | Files, outcome: Outcome, code: Code, message: str) -> None:
        """Note what became of frames of these files that are not in the store."""
        claim = Claim(outcome, code, message)
        number = self._number(claim)
        places = np.asarray(files, dtype=np.int64)
        held = self._claim[places]
        for known in set(held.tolist()):
            if known < 0 or _order(claim) < _order(self._claims[known]):
                self._claim[places[held == known]] = number

    def remark(self, file: int, code: str, message: str) -> None:
        """Note something worth saying about a file whatever its outcome."""
        self._remarks.setdefault(file, set()).add((code, message))

    def settle(self, index: Index) -> Outcomes:
        """Return the outcome of every file, in the order of ``Index.instances``."""
        import pyarrow.compute as pc

        final = np.where(self._converted, self._number(Claim(Outcome.CONVERTED, None, None)), self._claim)
        failed = [number for number, claim in enumerate(self._claims) if claim.outcome is Outcome.FAILED]
        told = self._converted & np.isin(self._claim, failed)
        for file in {*np.flatnonzero(told).tolist(), *(file for file in self._remarks if self._converted[file])}:
            final[file] = self._number(self._converted_claim(file))
        undecided = (final < 0) & pc.is_null(index.instances["outcome"]).to_numpy()
        final[undecided] = self._number(_UNDECIDED)
        return Outcomes(*(self._column(index, final, name) for name in Claim._fields))

    def _number(self, claim: Claim) -> int:
        """Return the number of a claim, of equal ones the same."""
        number = self._numbers.setdefault(claim, len(self._claims))
        if number == len(self._claims):
            self._claims.append(claim)
        return number

    def _column(self, index: Index, final: npt.NDArray[np.int32], name: str) -> pa.Array:
        """Return one column of the outcomes: what was claimed, else what the scan found."""
        import pyarrow as pa

        from fastdcm.scan.arrow import number_array

        places: dict[str | None, int] = {}
        said = [places.setdefault(_text(getattr(claim, name)), len(places)) for claim in self._claims]
        rows = np.flatnonzero(final < 0)
        found = pa.table({name: index.instances[name]}).take(number_array(rows))[name].cast(pa.string())
        found = found.combine_chunks().dictionary_encode()
        scanned = [places.setdefault(text, len(places)) for text in (*found.dictionary.to_pylist(), None)]
        codes = np.array([*said, 0], np.int32)[final]
        codes[rows] = np.array(scanned, np.int32)[found.indices.fill_null(len(scanned) - 1).to_numpy()]
        return pa.DictionaryArray.from_arrays(number_array(codes, codes == places[None]), pa.array(places, pa.string()))

    def _converted_claim(self, file: int) -> Claim:
        remarks = sorted(self._remarks.get(file, ()))
        claim = self._claims[self._claim[file]] if self._claim[file] >= 0 else None
        if claim is not None and claim.outcome is Outcome.FAILED:
            return Claim(Outcome.CONVERTED, Code.FRAMES_DROPPED, claim.message)
        if remarks:
            return Claim(Outcome.CONVERTED, Code(remarks[0][0]), "; ".join(text for _, text in remarks))
        return Claim(Outcome.CONVERTED, None, None)


_UNDECIDED = Claim(Outcome.FAILED, Code.INTERNAL, "no stage decided about this file: a fault of fastdcm, please report")


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def count_outcomes(outcomes: Outcomes) -> tuple[dict[str, int], dict[str, int]]:
    """Return files by outcome (all seven named), and by ``outcome/code`` where there is a code."""
    names, reasons = outcomes.outcome.dictionary.to_pylist(), [*outcomes.code.dictionary.to_pylist(), None]
    places = outcomes.code.indices.fill_null(len(reasons) - 1).to_numpy().astype(np.int64)
    both = outcomes.outcome.indices.to_numpy() * len(reasons) + places
    totals = dict.fromkeys(map(str, Outcome), 0)
    codes: dict[str, int] = {}
    for pair, files in zip(*(column.tolist() for column in np.unique(both, return_counts=True)), strict=True):
        outcome, code = names[pair // len(reasons)], reasons[pair % len(reasons)]
        totals[outcome] += files
        if code:
            codes[f"{outcome}/{code}"] = files
    return totals, dict(sorted(codes.items()))
