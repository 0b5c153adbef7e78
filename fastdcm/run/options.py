"""What a call may ask for, checked before anything is touched; the same for every function and command."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict
from math import inf

from fastdcm.errors import UsageError
from fastdcm.model import Options, Resources, Tolerances
from fastdcm.run.select import image_type_components

Source = str | os.PathLike[str]


def check_options(options: Options, resources: Resources) -> None:
    """Raise a UsageError for a value that no option has."""
    allowed = {
        "values": ("modality", "stored"),
        "on_gap": ("irregular", "fill", "split", "fail"),
        "on_bad_frame": ("fail", "drop", "fill"),
        "on_conflict": ("quarantine", "newest"),
        "metadata": ("technical", "full", "none"),
    }
    for name, known in allowed.items():
        if getattr(options, name) not in known:
            raise UsageError(f"{name} is {getattr(options, name)!r}, and must be one of {', '.join(known)}")
    if options.chunks is not None and (len(options.chunks) != 3 or min(options.chunks) < 1):
        raise UsageError("chunks are three lengths of at least 1: z, y, x")
    for name, value in (("shard", options.shard_bytes), ("memory", resources.memory_bytes)):
        if value is not None and value < 1:
            raise UsageError(f"{name} is {value} bytes, and must be at least 1")
    if (resources.workers is not None and resources.workers < 1) or resources.threads < 1:
        raise UsageError("workers and threads must be at least 1")
    if resources.cluster is not None:
        _check_cluster(resources)
    if resources.task_timeout_s is not None and not 0 < resources.task_timeout_s < inf:
        raise UsageError(f"the task timeout is {resources.task_timeout_s} s, and must be more than 0")
    check_tolerances(options.tolerances)
    if options.image_type is not None and not any(image_type_components(options.image_type)):
        raise UsageError("--image-type wants components, for example ORIGINAL/PRIMARY")


def _check_cluster(resources: Resources) -> None:
    if resources.cluster != "slurm":
        raise UsageError(f"cluster is {resources.cluster!r}, and must be slurm")
    if resources.scheduler != "local":
        raise UsageError("give --cluster or --scheduler, not both")
    if resources.workers is None:
        raise UsageError("--cluster wants --workers: how many jobs there shall be at the same time")


def check_tolerances(tolerances: Tolerances) -> None:
    """Raise a UsageError for a tolerance that is no amount: lengths are 0 or more, shares and cosines below 1 too."""
    for name, value in asdict(tolerances).items():
        most = inf if name.endswith("_mm") else 1
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < most:
            kind = "a length in mm of 0 or more" if most == inf else "a number from 0 to below 1"
            raise UsageError(f"the tolerance {name} is {value!r}, and must be {kind}")


def source_list(sources: Source | Sequence[Source]) -> list[str]:
    """Return one source or several as a list."""
    return [os.fspath(one) for one in ([sources] if isinstance(sources, str | os.PathLike) else sources)]
