"""What all tests share: which folders are collected, and how hypothesis behaves."""

from __future__ import annotations

import os

from hypothesis import settings

# Real data is an extra run: without it its tests are not even collected.
collect_ignore = [] if os.environ.get("FASTDCM_DATA") else ["data"]

# The same examples in every run, and no clock: the machine that runs the tests may be busy with other work.
settings.register_profile("fastdcm", derandomize=True, deadline=None)
settings.load_profile("fastdcm")
