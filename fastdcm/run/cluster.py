"""Workers that a batch system starts as jobs: dask-jobqueue, with its own settings; a job that is lost is replaced.

Queue, walltime, account, network interface and the rest are those of dask-jobqueue, in its configuration files or
``DASK_JOBQUEUE__SLURM__QUEUE`` and the like; see docs/cluster.md.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from fastdcm.errors import UsageError
from fastdcm.model import Resources

CLUSTERS = ("slurm",)
JOB_WAIT_S = 3600
"""How long the first job may stand in the queue."""


@contextmanager
def start_jobs(resources: Resources) -> Iterator[Any]:
    """Ask the batch system for one job a worker, and give them back when the block ends.

    Parameters
    ----------
    resources : Resources
        ``cluster``; ``workers`` is the number of jobs, ``threads`` the cores of each, ``memory_bytes`` that of all jobs
        together, None for what the configuration of dask-jobqueue says of a job.

    Yields
    ------
    dask_jobqueue.SLURMCluster
        It keeps as many jobs as were asked for: one that is lost, or whose time is over, is replaced.

    Raises
    ------
    UsageError
        dask-jobqueue is not installed, or it lacks a setting.
    """
    try:
        import dask_jobqueue as jobqueue
    except ImportError as error:
        text = f"--cluster {resources.cluster} wants the package dask-jobqueue: pip install 'fastdcm[cluster]'"
        raise UsageError(text) from error
    dask_jobqueue: Any = jobqueue  # a library without types
    jobs = resources.workers or 1
    known: dict[str, Any] = {}
    if resources.memory_bytes is not None:
        known["memory"] = f"{resources.memory_bytes // jobs}B"
    try:
        cluster = dask_jobqueue.SLURMCluster(
            cores=max(resources.threads, 1),
            processes=1,
            python=sys.executable,
            scheduler_options={"dashboard_address": "127.0.0.1:0"},  # other users of the host have no business there
            **known,
        )
    except (ValueError, OSError, RuntimeError) as error:
        raise UsageError(f"--cluster {resources.cluster}: {error}") from error
    with cluster:
        cluster.adapt(minimum_jobs=jobs, maximum_jobs=jobs)
        yield cluster
