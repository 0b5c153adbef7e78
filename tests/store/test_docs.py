"""docs/store.md is the user's description of a store: nothing that a store holds is missing from it."""

from __future__ import annotations

import re
from pathlib import Path

from fastdcm.errors import Code, Outcome
from fastdcm.model import CATALOG_COLUMNS
from fastdcm.series.layout import DEFAULT_LEVEL
from fastdcm.series.values import slice_transforms
from fastdcm.store.attributes import VolumeFacts, fastdcm_attributes
from tests.series.made import make_plan

TEXT = (Path(__file__).parents[2] / "docs" / "store.md").read_text()


def test_every_code_and_outcome_is_explained_once() -> None:
    rows = re.findall(r"^\|(?: `[a-z-]+`| )?(?: ?\|)? `([a-z-]+)` \|", TEXT.partition("## Codes")[2], re.MULTILINE)
    codes = [row for row in rows if row not in set(Outcome)]
    assert sorted(codes) == sorted(code.value for code in Code)
    for outcome in Outcome:
        assert outcome is Outcome.CONVERTED or f"`{outcome.value}`" in TEXT


def test_every_column_attribute_and_codec_is_named() -> None:
    names = [name for name, _ in CATALOG_COLUMNS] + list(DEFAULT_LEVEL)
    plan, _ = make_plan(3, padding=3)
    facts = VolumeFacts(tags={"00080060": {"vr": "CS"}})
    attributes = fastdcm_attributes(plan, facts, slice_transforms(plan.frames, "modality"))
    names += list(attributes)
    for part in ("geometry", "intensity", "identity", "source", "slices"):
        names += list(attributes[part])
    assert [name for name in names if f"`{name}`" not in TEXT] == []
