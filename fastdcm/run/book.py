"""All series of a map. What the headers say gives the same entry every time, so hardly any entry is kept.

An entry is worked out when it is asked for: the frames from the index, the volumes by grouping, the plans by planning.
Kept are those that were asked for last, and those that cannot be worked out again: planned anew without bad frames.
A run that will ask for all of them once more has the others on disk.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, TypeVar, overload

import numpy as np
import numpy.typing as npt

from fastdcm.model import Answer, Frames, Index, Ints, Json, Options, Reason, VolumePlan
from fastdcm.run.across import flag_entry, flag_reused
from fastdcm.run.records import FrameNote
from fastdcm.run.series import Bad, Names, SeriesEntry, group_series, plan_series
from fastdcm.run.spool import Spool

if TYPE_CHECKING:
    import pyarrow as pa

    from fastdcm.series.frames import SeriesFrames

RECENT_IMAGES = 1 << 16
"""Images whose entries are kept: small exports are worked out once."""
ENTRY_IMAGES = 8
"""An entry weighs as much as so many images, beside its own."""

Member = TypeVar("Member")


class Lazy(Sequence[Member]):
    """A sequence whose members are made when they are asked for."""

    def __init__(self, size: int, make: Callable[[int], Member]) -> None:
        self._size, self._make = size, make

    def __len__(self) -> int:
        """Return the number of members."""
        return self._size

    @overload
    def __getitem__(self, place: int) -> Member: ...
    @overload
    def __getitem__(self, place: slice) -> list[Member]: ...
    def __getitem__(self, place: int | slice) -> Member | list[Member]:
        """Make a member, or several."""
        if isinstance(place, slice):
            return [self._make(one) for one in range(*place.indices(self._size))]
        if not -self._size <= place < self._size:
            raise IndexError(place)
        return self._make(place % self._size)


@dataclass(slots=True, eq=False)
class SeriesBook:
    """The entries of all series, by number."""

    frames: SeriesFrames
    faults: Mapping[int, FrameNote]
    """Images that their headers show to be bad, by file."""
    options: Options
    names: Names
    reused: frozenset[str]
    """SOP Instance UIDs that two series have."""
    index: Index
    told: dict[int, tuple[tuple[Answer, ...], Bad]] = field(default_factory=dict)
    """What comparing pixels found about a series."""
    flags: Mapping[int, Reason] = field(default_factory=dict)
    """A reason for all volumes of some series."""
    spool: Spool | None = None
    """Where entries go that are held no longer; None: they are worked out again."""
    _kept: dict[int, SeriesEntry] = field(default_factory=dict)
    _recent: dict[int, SeriesEntry] = field(default_factory=dict)
    _recent_images: int = 0

    def __len__(self) -> int:
        """Return the number of series."""
        return len(self.frames)

    def __getitem__(self, number: int) -> SeriesEntry:
        """Return one series, grouped and planned."""
        found = self._kept.get(number) or self._recent.get(number)
        if found is None:
            if self.spool is not None and number in self.spool:
                found = self.spool.get(number, self.frames[number])
            else:
                found = self.plan(self.group(number))
            found = flag_entry(found, self.flags.get(number))
            self.remember(number, found)
        return found

    def __setitem__(self, number: int, entry: SeriesEntry) -> None:
        """Keep an entry that came about otherwise."""
        self._kept[number] = entry

    def group(self, number: int) -> SeriesEntry:
        """Group a series by its headers and by the answers that there are."""
        frames = self.frames[number]
        answers, bad = self.told[number] if number in self.told else ((), self._bad_rows(frames))
        return group_series(frames, self.options, answers, bad)

    def plan(self, entry: SeriesEntry) -> SeriesEntry:
        """Plan the volumes of a grouped series."""
        return plan_series(flag_reused(entry, self.reused), self.options, self.names, self.index)

    def place_of(self, number: int) -> tuple[str, str]:
        """Return the key of the patient of a series, and its folder below the store."""
        from fastdcm.series.names import safe_uid

        patient, study, series = self.frames.identity(number)
        return self.names.patients[patient], f"{self.names.studies[patient, study]}/{safe_uid(series)}"

    def tell(self, number: int, entry: SeriesEntry) -> None:
        """Take over what comparing pixels found about a series."""
        self.told[number] = entry.answers, entry.bad

    def remember(self, number: int, entry: SeriesEntry) -> None:
        """Hold an entry for those who ask next."""
        self._recent[number] = entry
        self._recent_images += len(entry.frames) + ENTRY_IMAGES
        while self._recent_images > RECENT_IMAGES and len(self._recent) > 1:
            oldest = next(iter(self._recent))
            entry = self._recent.pop(oldest)
            self._recent_images -= len(entry.frames) + ENTRY_IMAGES
            if self.spool is not None and oldest not in self.flags:
                self.spool.put(oldest, entry)

    def flag(self, flags: Mapping[int, Reason]) -> None:
        """Add a reason to all volumes of some series, now and whenever they are worked out again."""
        self.flags = flags
        for held in (self._kept, self._recent):
            held.update({number: flag_entry(entry, flags.get(number)) for number, entry in held.items()})

    def _bad_rows(self, frames: Frames) -> Bad:
        if not self.faults:
            return {}
        return {row: self.faults[file] for row, file in enumerate(frames.instance.tolist()) if file in self.faults}


class VolumeFacts(NamedTuple):
    """What a run must know of every volume without planning it again, (n,) each, in the order of the catalogue."""

    series: npt.NDArray[np.int32]
    """Number of the series, ascending."""
    digests: npt.NDArray[np.uint8]
    """(n, 32)."""
    array_bytes: Ints
    task_bytes: Ints
    starts: Ints
    """(n + 1,) where the images of each volume begin in ``files``."""
    files: npt.NDArray[np.int32]
    """The file of each stored frame, in the order of t, c and z."""

    def place(self, row: int) -> int:
        """Return the place of a volume among those of its series."""
        return row - int(np.searchsorted(self.series, self.series[row]))

    def digest(self, row: int) -> str:
        """Return ``VolumePlan.digest``."""
        return bytes(self.digests[row]).hex()


def stored_files(plan: VolumePlan) -> Ints:
    """Return the file of each stored frame, in the order of t, c and z."""
    cells = plan.volume.cells
    return plan.frames.instance[cells[cells >= 0]]


@dataclass(slots=True, eq=False)
class Collector:
    """The catalogue and the facts of volumes as they are planned."""

    rows: list[Json] = field(default_factory=list)
    tables: list[pa.Table] = field(default_factory=list)
    series: list[npt.NDArray[np.int32]] = field(default_factory=list)
    digests: bytearray = field(default_factory=bytearray)
    sizes: list[tuple[int, int, int]] = field(default_factory=list)
    files: list[npt.NDArray[np.int32]] = field(default_factory=list)
    _parts: list[tuple[Ints, npt.NDArray[np.int32]]] = field(default_factory=list)

    def add(self, number: int, plans: Sequence[VolumePlan]) -> None:
        """Take the volumes of the next series."""
        from fastdcm.series.catalog import catalog_row
        from fastdcm.series.plan import array_bytes, task_bytes

        self.series.append(np.full(len(plans), number, np.int32))
        for plan in plans:
            self.rows.append(catalog_row(plan))
            self.digests += bytes.fromhex(plan.digest)
            files = stored_files(plan).astype(np.int32)
            self.files.append(files)
            self.sizes.append((array_bytes(plan.array), task_bytes(plan.array), len(files)))

    def settle(self) -> None:
        """Turn what was added into columns; between batches, so that few rows are Python objects."""
        from fastdcm.series.catalog import catalog_table

        self.tables.append(catalog_table(self.rows))
        self._parts.append((np.array(self.sizes, np.int64).reshape(-1, 3), _joined(self.files)))
        self.series = [_joined(self.series)]
        self.rows, self.sizes, self.files = [], [], []

    def table(self) -> pa.Table:
        """Return the catalogue."""
        import pyarrow as pa

        from fastdcm.series.catalog import catalog_table

        return pa.concat_tables([*self.tables, catalog_table([])]).combine_chunks()

    def facts(self) -> VolumeFacts:
        """Return the columns."""
        sizes = np.concatenate([np.zeros((0, 3), np.int64), *(sizes for sizes, _ in self._parts)])
        return VolumeFacts(
            series=_joined(self.series),
            digests=np.frombuffer(bytes(self.digests), np.uint8).reshape(-1, 32),
            array_bytes=sizes[:, 0],
            task_bytes=sizes[:, 1],
            starts=np.append(0, np.cumsum(sizes[:, 2])),
            files=_joined([files for _, files in self._parts]),
        )


def _joined(arrays: Sequence[npt.NDArray[np.int32]]) -> npt.NDArray[np.int32]:
    return np.concatenate([np.zeros(0, np.int32), *arrays])


def texts_of(table: pa.Table, name: str) -> Iterator[str]:
    """Yield a text column, a piece at a time."""
    for batch in table.select([name]).to_batches(max_chunksize=1 << 14):
        yield from batch.column(0).to_pylist()
