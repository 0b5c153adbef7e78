"""pydicom, loaded whole and once, by whoever needs it first.

Its modules import each other in circles, so two threads that enter the circle at different places may each get a half
of it (ImportError). So nobody here imports a part of pydicom before ``load_pydicom`` has returned. It costs as much as
the rest of a small conversion's imports together, and plain CT and MR never need it.
"""

from __future__ import annotations

import re
import threading
import warnings

_LOADING = threading.Lock()
_loaded = threading.Event()
_QUIET = ("ignore", None, UserWarning, re.compile("pydicom"), 0)
"""As ``warnings.filterwarnings`` keeps it."""


def load_pydicom() -> None:
    """Load every part of pydicom that is used here, and make it take values as they are, without warnings.

    Of values that break their VR (PS3.5 6.2) it then tells its logger alone, in all threads of the process. Cheap when
    pydicom is loaded; any thread may call it.
    """
    if not _loaded.is_set():
        with _LOADING:
            if not _loaded.is_set():
                _load()
                _loaded.set()
    if _QUIET not in warnings.filters:  # ``catch_warnings`` of a caller may have taken it away
        warnings.filterwarnings("ignore", category=UserWarning, module="pydicom")


def _load() -> None:
    import pydicom.charset
    import pydicom.datadict
    import pydicom.dataelem
    import pydicom.dataset
    import pydicom.encaps
    import pydicom.filebase
    import pydicom.filereader
    import pydicom.filewriter
    import pydicom.overlays
    import pydicom.pixels.decoders.base
    import pydicom.pixels.processing
    import pydicom.uid

    pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE
