"""The element walk: where the wanted top-level elements of a DICOM file are (PS3.5 7.1), for a batch of files.

``_walk.c`` does it without the GIL and without an object an element; ``walk_python.py`` is its equal, and its fallback
where it could not be built. Only little endian, explicit and implicit, is walked; everything else, and everything odd,
is left to pydicom (``Status.REFERENCE``).

The walk never believes a length: it is compared with the bytes there are before anything is read, nesting and the
number of elements are bounded, and each step goes forward. Sequences are skipped, so pixel data inside an icon is
never taken for the image's own.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from types import ModuleType

import numpy as np
import numpy.typing as npt

from fastdcm.errors import Code, SourceError
from fastdcm.model import Floats
from fastdcm.scan.opened import is_plain
from fastdcm.scan.walk_python import (
    Element,
    Fact,
    Fetch,
    Status,
    Syntax,
    Values,
    Walked,
    walk_elements_python,
    walk_files_python,
)

__all__ = [
    "COMPILED",
    "Element",
    "Fact",
    "Status",
    "Syntax",
    "Values",
    "Walked",
    "parse_decimals",
    "parse_times",
    "plain_texts",
    "walk_elements",
    "walk_elements_python",
    "walk_fetched",
    "walk_files",
    "walk_files_python",
]

_compiled: ModuleType | None
try:
    _compiled = importlib.import_module("fastdcm.scan._walk")
except ImportError:  # there was no compiler where fastdcm was installed
    _compiled = None

COMPILED = _compiled is not None
"""Whether the compiled walk is used."""


def walk_files(paths: Sequence[bytes], wanted: Sequence[int], stops: Sequence[int]) -> Walked:
    """Walk the headers of a batch of files; never raises for what is in them.

    Parameters
    ----------
    paths : sequence of bytes
        Files, as the system names them, or other locations.
    wanted : sequence of int
        Top-level tags, ascending, whose values are wanted.
    stops : sequence of int
        Top-level tags, ascending, that make a file one for pydicom.

    Returns
    -------
    Walked
    """
    if _compiled is None:
        return walk_files_python(paths, wanted, stops)
    joined = b"\0".join([*paths, b""])
    count = len(paths)
    if joined.count(b"\0") > count or b"://" in joined:
        return _walk_both(paths, wanted, stops)
    return _walked(count, wanted, *_compiled.walk_files(joined, count, *_packed(wanted, stops)))


def walk_fetched(paths: Sequence[bytes], wanted: Sequence[int], stops: Sequence[int]) -> Walked:
    """Walk the headers of any locations, each opened and read by Python as far as the walk asks; as ``walk_files``."""
    if _compiled is None:
        return walk_files_python(paths, wanted, stops)
    with Fetch(paths) as fetch:
        walked = _walked(len(paths), wanted, *_compiled.walk_fetched(fetch, len(paths), *_packed(wanted, stops)))
    if not fetch.failures:
        return walked
    facts = walked.facts.copy()
    for file, (status, number) in fetch.failures.items():
        facts[file, Fact.STATUS], facts[file, Fact.ERRNO] = status, number
    return walked._replace(facts=facts)


def _packed(*tags: Sequence[int]) -> tuple[bytes, ...]:
    return tuple(np.asarray(some, "<u4").tobytes() for some in tags)


def _walked(
    count: int, wanted: Sequence[int], facts: bytes, codes: bytes, data: bytes, places: Sequence[bytes]
) -> Walked:
    return Walked(
        np.frombuffer(facts, np.int64).reshape(count, len(Fact)),
        np.frombuffer(codes, np.int32).reshape(len(wanted), count),
        [Values(data, place) for place in places],
    )


def _walk_both(paths: Sequence[bytes], wanted: Sequence[int], stops: Sequence[int]) -> Walked:
    """Walk files of which some are no files of the system: those are opened by Python."""
    plain = np.array([is_plain(path) for path in paths], np.bool_)
    if plain.all():  # strange names
        plain[:] = False
    facts = np.zeros((len(paths), len(Fact)), np.int64)
    codes = np.full((len(wanted), len(paths)), -1, np.int32)
    values: list[Values] = [Values.of(())] * len(wanted)
    for walk, chosen in ((walk_files, plain), (walk_fetched, ~plain)):
        walked = walk([paths[row] for row in np.flatnonzero(chosen).tolist()], wanted, stops)
        known = np.array([len(one) for one in values], np.int32)[:, None]
        facts[chosen], codes[:, chosen] = walked.facts, np.where(walked.codes < 0, -1, walked.codes + known)
        values = [
            Values.of([*one, *other]) if len(one) else other for one, other in zip(values, walked.values, strict=True)
        ]
    return Walked(facts, codes, values)


def walk_elements(header: bytes, explicit: bool) -> list[Element]:
    """List the top-level elements of a data set, up to its pixel data or the end of the bytes.

    Parameters
    ----------
    header : bytes
        The data set, little endian, from its first element.
    explicit : bool
        Whether it has VRs.

    Raises
    ------
    SourceError
        Where there is garbage instead of elements.
    """
    if _compiled is not None:
        status, elements = _compiled.walk_elements(header, explicit)
        found = list(map(Element._make, elements))
    else:
        status, found = walk_elements_python(header, explicit)
    if status not in (Status.OK, Status.CUT):
        raise SourceError(Code.BAD_HEADER, "the header is not a list of elements; it cannot be read")
    return found


def parse_decimals(values: Values, count: int) -> tuple[Floats, npt.NDArray[np.bool_]]:
    r"""Read the plainest decimal texts: ``count`` or more numbers like ``-12.5e3`` between backslashes.

    Parameters
    ----------
    values : Values
        Of one element.
    count : int
        How many numbers of each.

    Returns
    -------
    (numbers, plain)
        (n, count) float64, NaN where not plain; (n,) whether a value was plain and not binary.
    """
    if _compiled is None:
        return np.full((len(values), count), np.nan), np.zeros(len(values), np.bool_)
    numbers, plain = _compiled.parse_decimals(values.data, values.places, count)
    return np.frombuffer(numbers, np.float64).reshape(-1, count).copy(), np.frombuffer(plain, np.bool_)


def parse_times(values: Values, count: int = 1) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """Read the plainest TM values, ``HHMMSS`` and a fraction, as seconds since midnight; shapes (n, 1) and (n,)."""
    if _compiled is None:
        return np.full((len(values), count), np.nan), np.zeros(len(values), np.bool_)
    numbers, plain = _compiled.parse_times(values.data, values.places, count)
    return np.frombuffer(numbers, np.float64).reshape(-1, count).copy(), np.frombuffer(plain, np.bool_)


def plain_texts(values: Values) -> tuple[bytes, bytes] | None:
    """Read texts without the blanks and NULs around them, if all of them are the plainest: printable ASCII.

    A text that is empty, or has a blank beside a backslash, is not plain.

    Parameters
    ----------
    values : Values
        Of one element.

    Returns
    -------
    (offsets, texts) or None
        As Arrow keeps strings: (n + 1) int32, and all texts one after the other; None where a value is not plain.
    """
    return None if _compiled is None else _compiled.plain_texts(values.data, values.places)
