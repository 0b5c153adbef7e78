"""The fast scan equals the reference reader on the shared real data."""

from __future__ import annotations

import os

import pytest

from fastdcm.scan import walk
from tests.scan.compare import all_files, differences


@pytest.mark.parametrize("compiled", [True, False])
def test_equal_to_the_reference(compiled: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not compiled:
        monkeypatch.setattr(walk, "_compiled", None)
    sources = [os.environ["FASTDCM_DATA"]]
    files = all_files(sources)
    assert len(files) > 600
    assert differences(sources, files) == []
