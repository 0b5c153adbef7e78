"""One filter for ``--where`` and ``Store.query``: an SQL expression over the catalogue's columns, and nothing more.

DuckDB parses the text as ONE expression (a pasted text could run a second statement), without files, network,
extensions, settings or Python variables. An expression that does not end is interrupted.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from fastdcm.errors import UsageError

if TYPE_CHECKING:
    import pyarrow as pa

MAX_CHARACTERS = 10_000
TIMEOUT_S = 30.0
_ROW = "fastdcm_row"
_CONFIG = {
    "enable_external_access": "false",
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "allow_community_extensions": "false",
    "python_enable_replacements": "false",
    "temp_directory": "",
    "threads": "1",
    "memory_limit": "512MB",
}


def filter_rows(table: pa.Table, where: str, timeout_s: float = TIMEOUT_S) -> list[int]:
    """Return the rows of a table for which an SQL expression is true, ascending.

    Parameters
    ----------
    table : pyarrow.Table
        Usually of ``model.CATALOG_COLUMNS``. Names are compared without case.
    where : str
        One boolean SQL expression, for example ``modality == 'CT' and slices > 30``. Null is not true.
    timeout_s : float
        After this many seconds the evaluation is interrupted.

    Returns
    -------
    list of int
        Row numbers, from 0.

    Raises
    ------
    UsageError
        The expression cannot be parsed or evaluated, or does not end; the message lists the columns.
    """
    import duckdb
    import numpy as np

    if not where.strip() or len(where) > MAX_CHARACTERS or "\0" in where:
        raise UsageError(f"the filter must be one expression of 1 to {MAX_CHARACTERS} characters; {_help(table)}")
    numbered = table.append_column(_ROW, [np.arange(table.num_rows, dtype=np.int64)])
    connection: Any = duckdb.connect(":memory:", config=dict(_CONFIG))
    timer = threading.Timer(timeout_s, connection.interrupt)
    timer.daemon = True
    try:
        relation = connection.from_arrow(numbered)
        connection.execute("SET lock_configuration=true")
        timer.start()
        found = relation.filter(where).project(_ROW).fetchall()
    except duckdb.InterruptException:
        raise UsageError(f"the filter {where!r} did not end within {timeout_s:g} s; make it simpler") from None
    except duckdb.Error as error:
        raise UsageError(f"the filter {where!r} is not usable: {_reason(error)}; {_help(table)}") from None
    finally:
        timer.cancel()
        connection.close()
    return sorted({int(row) for (row,) in found})


def _reason(error: Exception) -> str:
    """Return the first line of what DuckDB says: the others point into the text."""
    return (str(error).splitlines() or ["unknown error"])[0].strip()


def _help(table: pa.Table) -> str:
    names = ", ".join(table.column_names)
    return f"it may use the columns {names}, and texts stand in single quotes (modality == 'CT')"
