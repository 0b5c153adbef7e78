"""Where the bytes of frames are: looked up together as one by one."""

from __future__ import annotations

import numpy as np

from fastdcm.model import Options
from fastdcm.series.frames import iter_series
from fastdcm.series.plan import plan_volume, shard_tasks
from fastdcm.series.sources import frame_sources, source_facts
from tests.series.made import make_index, make_volume, row


def test_files_of_many_volumes_are_the_same_together_as_alone() -> None:
    rows = [row(k, series_uid=f"1.2.{k}", size=9000 + k, mtime_ns=2**60 + k, high_bit=None) for k in range(5)]
    index = make_index(rows)
    together = source_facts(index, np.array([4, 0, 2, 1, 3]))
    assert [together[k].place[1:3] for k in range(5)] == [(9000 + k, 2**60 + k) for k in range(5)]
    assert len({id(facts.format) for facts in together.values()}) == 1
    for k, frames in enumerate(iter_series(index)):
        plan = plan_volume(frames, make_volume([0]), f"a/{k}/0.ome.zarr", "P", Options(), index)
        (alone,), (task,) = shard_tasks(plan, index, "p"), shard_tasks(plan, index, "p", together)
        assert alone.sources == task.sources
        assert frame_sources(plan.frames, plan.rule, together) == list(task.sources)
        assert task.sources[0] is not None
        assert task.sources[0].size == 9000 + k
        assert task.sources[0].format.high_bit == task.sources[0].format.bits_stored - 1
