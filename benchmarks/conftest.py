"""What the suites measure on."""

from __future__ import annotations

from pathlib import Path

import pytest

from scripts.make_export import write_ct


@pytest.fixture(scope="session")
def export(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tenth of ``ct-four``: 65 files."""
    folder = tmp_path_factory.mktemp("bench") / "export"
    write_ct(folder, "P1", 1, 0.1)
    return folder
