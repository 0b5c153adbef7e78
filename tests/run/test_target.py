from __future__ import annotations

from pathlib import Path

from fastdcm.run.target import check_target, hold_target


def test_no_two_runs_build_in_one_folder(tmp_path: Path) -> None:
    """Workers of a cluster may still write for a run whose driver was killed, and also after the next one began."""
    killed, following = check_target(tmp_path / "s.zarr", None), check_target(tmp_path / "s.zarr", None)
    assert killed.partials != following.partials
    late = Path(killed.partials) / "0"
    late.mkdir(parents=True)
    with hold_target(following):
        assert not late.exists()
        late.mkdir(parents=True)
    assert not following.unfinished.exists()
