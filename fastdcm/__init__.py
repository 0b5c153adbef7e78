"""Hospital DICOM exports to chunked Zarr stores.

``scan`` reads headers and tells what is there, ``convert`` writes a store, ``open`` gives its volumes, ``verify``
compares it with its sources. ``header``, ``tags``, ``diff``, ``compare`` and ``explain`` look inside, ``export`` writes
NIfTI, NRRD or MHA. Importing this package loads nothing heavy: each function loads what it needs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import fastdcm.run  # both are bound before the functions below take the names: a later import leaves them alone
import fastdcm.scan  # noqa: F401
from fastdcm.version import __version__ as __version__

if TYPE_CHECKING:
    from fastdcm.load.export import export as export
    from fastdcm.load.volume import Store as Store
    from fastdcm.load.volume import Volume as Volume
    from fastdcm.load.volume import open as open
    from fastdcm.look.compare import compare as compare
    from fastdcm.look.diff import diff as diff
    from fastdcm.look.explain import explain as explain
    from fastdcm.look.header import header as header
    from fastdcm.look.tags import tags as tags
    from fastdcm.model import Options as Options
    from fastdcm.model import Resources as Resources
    from fastdcm.model import Tolerances as Tolerances
    from fastdcm.run.array_finish import finish as finish
    from fastdcm.run.array_plan import plan as plan
    from fastdcm.run.convert import convert as convert
    from fastdcm.run.report import ArrayPlan as ArrayPlan
    from fastdcm.run.report import PartReport as PartReport
    from fastdcm.run.report import Report as Report
    from fastdcm.run.survey import SeriesMap as SeriesMap
    from fastdcm.run.verify import VerifyReport as VerifyReport
    from fastdcm.run.verify import verify as verify

_HOMES = {
    "ArrayPlan": "fastdcm.run.report",
    "PartReport": "fastdcm.run.report",
    "finish": "fastdcm.run.array_finish",
    "plan": "fastdcm.run.array_plan",
    "compare": "fastdcm.look.compare",
    "convert": "fastdcm.run.convert",
    "diff": "fastdcm.look.diff",
    "explain": "fastdcm.look.explain",
    "export": "fastdcm.load.export",
    "header": "fastdcm.look.header",
    "open": "fastdcm.load.volume",
    "Options": "fastdcm.model",
    "Report": "fastdcm.run.report",
    "Resources": "fastdcm.model",
    "SeriesMap": "fastdcm.run.survey",
    "Store": "fastdcm.load.volume",
    "Tolerances": "fastdcm.model",
    "VerifyReport": "fastdcm.run.verify",
    "Volume": "fastdcm.load.volume",
    "tags": "fastdcm.look.tags",
    "verify": "fastdcm.run.verify",
}

__all__ = [
    "ArrayPlan",
    "Options",
    "PartReport",
    "Report",
    "Resources",
    "SeriesMap",
    "Store",
    "Tolerances",
    "VerifyReport",
    "Volume",
    "compare",
    "convert",
    "diff",
    "explain",
    "export",
    "finish",
    "header",
    "open",
    "plan",
    "run",
    "scan",
    "tags",
    "verify",
]


def scan(sources: Any, **options: Any) -> SeriesMap:
    """Read the headers of DICOM files, and tell what volumes they are; see ``fastdcm.run.survey.scan``.

    Examples
    --------
    >>> import fastdcm
    >>> found = fastdcm.scan("export", where="kernel == 'LUNG'")
    >>> found.table.num_rows, len(found.left_out)
    (5, 3)
    """
    from fastdcm.run.survey import scan as scan_sources

    return scan_sources(sources, **options)


def run(plan: Any, **options: Any) -> PartReport:
    """Write the volumes of one part of a plan; see ``fastdcm.run.array_run.run``.

    Examples
    --------
    >>> import fastdcm
    >>> planned = fastdcm.plan("export", out="parts", where="kernel == 'LUNG'")
    >>> fastdcm.run("parts", part="1/2").volumes["written"]
    1
    """
    from fastdcm.run.array_run import run as run_part

    return run_part(plan, **options)


def __getattr__(name: str) -> Any:
    """Load a public name from its module when it is first used (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module 'fastdcm' has no attribute {name!r}")
    from importlib import import_module

    found = getattr(import_module(_HOMES[name]), name)
    globals()[name] = found
    return found


def __dir__() -> Sequence[str]:
    """List the public names, loaded or not."""
    return __all__
