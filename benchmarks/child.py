"""A function in a process of its own: it may crash, hang or print, and the caller gets a value or a sentence."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from types import TracebackType
from typing import Any, NamedTuple


class Refusal(NamedTuple):
    """Why there is no value."""

    text: str


class Child:
    """One worker process, made anew after it crashed or hung.

    Parameters
    ----------
    limit_seconds
        How long one call may take.
    """

    def __init__(self, limit_seconds: float = 60.0) -> None:
        self._limit_seconds = limit_seconds
        self._pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> Child:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Return what ``function(*arguments)`` returns, or a ``Refusal``: it raised, crashed or ran too long."""
        if self._pool is None:
            self._pool = ProcessPoolExecutor(1, mp_context=get_context("spawn"), initializer=_be_silent)
        try:
            return self._pool.submit(function, *arguments).result(self._limit_seconds)
        except BrokenProcessPool:
            self._end()
            return Refusal("ended its process")
        except TimeoutError:
            self._end()
            return Refusal(f"no answer within {self._limit_seconds:g} s")
        except Exception as error:  # noqa: BLE001  whatever another's library raises: it has no answer then
            return Refusal(f"{type(error).__name__}: {error}")

    def _end(self) -> None:
        pool, self._pool = self._pool, None
        if pool is None:
            return
        for process in list((pool._processes or {}).values()):
            process.kill()
        pool.shutdown()


def _be_silent() -> None:
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
