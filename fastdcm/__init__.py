"""Hospital DICOM exports to chunked Zarr stores.

``scan`` reads headers and tells what is there, ``convert`` writes a store, ``open`` gives its volumes, ``verify``
compares it with its sources. ``header``, ``tags``, ``diff``, ``compare`` and ``explain`` look inside, ``export`` writes
NIfTI, NRRD or MHA. Importing this package loads nothing heavy: each function loads what it needs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import fastdcm.scan  # noqa: F401 - bound before the function below takes the name: a later import leaves it alone
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
    from fastdcm.run.convert import convert as convert
    from fastdcm.run.report import Report as Report
    from fastdcm.run.survey import SeriesMap as SeriesMap
    from fastdcm.run.verify import VerifyReport as VerifyReport
    from fastdcm.run.verify import verify as verify

_HOMES = {
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
    "Options",
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
    "header",
    "open",
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
