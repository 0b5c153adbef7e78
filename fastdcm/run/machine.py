"""What this machine gives: cores and memory, also where a cgroup gives less."""

from __future__ import annotations

import os
from pathlib import Path

from fastdcm.model import Resources

MEMORY_SHARE = 0.6
_UNLIMITED = 1 << 62


def worker_count(resources: Resources) -> int:
    """Return the workers asked for, else one a core that this process may use (affinity, cgroup quota)."""
    if resources.workers is not None:
        return max(resources.workers, 1)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(min(cores, int(_cpu_quota())), 1)


def memory_limit(resources: Resources) -> int:
    """Return the bytes that all workers together may use: those asked for, else 60 % of the machine or cgroup."""
    if resources.memory_bytes is not None:
        return resources.memory_bytes
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limits = [machine, *(_number(path) for path in _cgroup_files("memory.max", "memory/memory.limit_in_bytes"))]
    return int(MEMORY_SHARE * min(limit for limit in limits if limit > 0))


def _cpu_quota() -> float:
    """Return the cores that the cgroup gives; a large number where it sets no limit."""
    quotas = [float(_UNLIMITED)]
    for path in _cgroup_files("cpu.max", "cpu/cpu.cfs_quota_us"):
        words = _text(path).split()
        if path.name == "cpu.cfs_quota_us":
            words = [*words, *_text(path.with_name("cpu.cfs_period_us")).split()]
        if len(words) == 2 and all(word.isdigit() for word in words) and int(words[1]):
            quotas.append(int(words[0]) / int(words[1]))
    return min(quotas)


def _cgroup_files(unified: str, legacy: str) -> list[Path]:
    """Return where this process's cgroup and its parents may state a limit (versions 2 and 1)."""
    root = "/sys/fs/cgroup"
    found = []
    for line in _text(Path("/proc/self/cgroup")).splitlines():
        _, controllers, group = line.split(":", 2)
        controller, name = legacy.split("/")
        if not controllers:
            base, file = root, unified
        elif controller in controllers.split(","):
            base, file = f"{root}/{controller}", name
        else:
            continue
        names = list(filter(None, group.split("/")))
        found += [Path(base, *names[:depth], file) for depth in range(len(names), -1, -1)]
    return found


def _number(path: Path) -> int:
    text = _text(path).strip()
    return int(text) if text.isdigit() else _UNLIMITED


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
