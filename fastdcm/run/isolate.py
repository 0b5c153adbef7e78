"""Work that may end its process, done in another one: decoders are C libraries, and read what a file says.

A thread that has such work takes an idle child, or starts one: a fresh interpreter that imports what decoding needs.
The child tells by a few shared bytes which step it is at, so whoever loses it knows where, and a time limit is one of
standing still. It ends with its parent, however that ends, also where a decoder hangs and holds the interpreter: the
parent holds one end of a pipe, and the kernel sends SIGIO to the child when it closes.
"""

from __future__ import annotations

import atexit
import fcntl
import itertools
import mmap
import os
import pickle
import resource
import select
import signal
import struct
import sys
import time
from collections.abc import Callable
from typing import Any, TypeVar

from fastdcm.errors import Code

Argument = TypeVar("Argument")
Result = TypeVar("Result")

Mark = Callable[[int, int], None]
"""Told by the work which task and cell it begins; -1, -1: nothing that a decoder does."""

IDLE_S = 60.0
"""A child that is asked nothing for so long ends by itself."""
ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
"""Else each of a node's children would start a thread for each of its cores."""
_SLICE_S = 0.5
"""Time is counted in slices: of a night during which the machine sleeps one counts."""
_STEP = struct.Struct("=qqq")
"""Number of the step, task, cell."""
_BEGIN = (
    "import sys; sys.path[:] = sys.argv[4:]; from fastdcm.run.isolate import serve; serve(*map(int, sys.argv[1:4]))"
)


class Lost(Exception):
    """A child died or stood still.

    Parameters
    ----------
    code : Code
        DECODER_CRASH or DECODER_TIMEOUT.
    message : str
        A sentence for the outcome of a file.
    place : (task, cell) or None
        Where it was; None: not in a decoder.
    """

    def __init__(self, code: Code, message: str, place: tuple[int, int] | None) -> None:
        super().__init__(code, message, place)
        self.code, self.message, self.place = code, message, place


class Stopped(Exception):
    """The run was stopped while a child worked for it."""


_IDLE: list[_Child] = []
_BUSY: set[_Child] = set()
"""The children of this process: one for each thread that has such work at the same time."""


def call(function: Callable[[Argument, Mark], Result], argument: Argument, limit_s: float) -> Result:
    """Return ``function(argument, mark)``, done in a child.

    Parameters
    ----------
    function : callable
        Importable by name.
    argument
        Travels by pickle, as does the result.
    limit_s : float
        Seconds that one marked step may take. What is not marked may take any time.

    Raises
    ------
    Lost
        The child died, or one step took longer; it is killed then.
    Stopped
        ``end_children(busy=True)`` was called meanwhile.
    Exception
        What the function raised.
    """
    data = pickle.dumps((function, argument), protocol=5)
    answer = None
    while answer is None:  # None: the child had nothing to do for long, and ended just now
        child = _take()
        try:
            answer = child.ask(data, limit_s)
        finally:
            _BUSY.discard(child)
            if answer is None:  # also Ctrl-C: what it is at is no longer wanted
                child.end()
    _IDLE.append(child)
    good, result = pickle.loads(answer)  # noqa: S301 - from our own child
    if not good:
        raise result
    return result  # type: ignore[no-any-return]


def _take() -> _Child:
    try:
        child = _IDLE.pop()
    except IndexError:
        child = _Child()
    _BUSY.add(child)
    return child


def end_children(*, busy: bool = False) -> None:
    """End the children that have nothing to do; where a run is stopped those at work too."""
    for child in list(_BUSY) if busy else []:
        child.stop()
    while _IDLE:
        try:
            _IDLE.pop().end()
        except IndexError:  # another thread took it
            return


def _forget() -> None:
    _IDLE.clear()
    _BUSY.clear()


atexit.register(end_children)
os.register_at_fork(after_in_child=_forget)  # they are the children of the process that was copied


# ---------------------------------------------------------------------------- the parent's side


class _Child:
    """A child process and the ways to it."""

    def __init__(self) -> None:
        import socket
        import subprocess
        from multiprocessing.connection import Connection

        ours, theirs = socket.socketpair()
        alive, self._alive = os.pipe()
        marks = _shared_bytes()
        self._stopped = False
        try:
            given = (theirs.fileno(), alive, marks)
            self._process = subprocess.Popen(
                [sys.executable, "-c", _BEGIN, *map(str, given), *sys.path],
                pass_fds=given,
                env=os.environ | ONE_THREAD,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,  # decoders write there of what they mend, and the C library of what it ends
            )
            self._marks = mmap.mmap(marks, _STEP.size)
        except BaseException:
            os.close(self._alive)
            ours.close()
            raise
        finally:
            theirs.close()
            os.close(alive)
            os.close(marks)
        self._connection = Connection(ours.detach())

    def ask(self, data: bytes, limit_s: float) -> bytes | None:
        """Return the child's answer, None where it ended by itself before it was asked.

        Raises
        ------
        Lost
            It died, or one step took longer than ``limit_s``.
        """
        _STEP.pack_into(self._marks, 0, 0, -1, -1)
        try:
            self._connection.send_bytes(data)
            self._wait(limit_s)
            return self._connection.recv_bytes()
        except (EOFError, ConnectionError):
            code = self._process.wait()
        if self._stopped:
            raise Stopped
        if code == 0:
            return None
        raise Lost(Code.DECODER_CRASH, f"decoding it ended the process ({_ending(code)})", self._place())

    def _wait(self, limit_s: float) -> None:
        """Wait for an answer, or the end of the child."""
        step, waited_s, before = 0, 0.0, time.monotonic()
        while not self._connection.poll(_SLICE_S):
            now = time.monotonic()
            seen, task, _ = _STEP.unpack_from(self._marks)
            waited_s = waited_s + min(now - before, 2 * _SLICE_S) if seen == step and task >= 0 else 0.0
            step, before = seen, now
            if waited_s > limit_s:
                raise Lost(Code.DECODER_TIMEOUT, f"decoding it took more than {limit_s:g} s", self._place())

    def _place(self) -> tuple[int, int] | None:
        _, task, cell = _STEP.unpack_from(self._marks)
        return (task, cell) if task >= 0 else None

    def stop(self) -> None:
        """Kill the child under whoever waits for it."""
        self._stopped = True
        self._process.kill()

    def end(self) -> None:
        """End the child; one that the kernel holds (a dead network file system) is left to it."""
        from subprocess import TimeoutExpired

        self._process.kill()
        self._connection.close()
        os.close(self._alive)
        self._marks.close()
        try:
            self._process.wait(5)
        except TimeoutExpired:
            return


def _shared_bytes() -> int:
    """Return a file of a few bytes in memory, to be mapped by both."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("fastdcm")
    else:
        import tempfile

        with tempfile.TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
    os.truncate(descriptor, _STEP.size)
    return descriptor


def _ending(code: int) -> str:
    """Name what ended a process."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"


# ---------------------------------------------------------------------------- the child's side


def serve(connection: int, alive: int, marks: int) -> None:
    """Answer calls until nobody asks any more; the descriptors are those of the parent's ``_Child``."""
    from multiprocessing.connection import Connection

    _end_with_parent(alive)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends this process
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    place = mmap.mmap(marks, _STEP.size)
    steps = itertools.count(1)

    def mark(task: int, cell: int) -> None:
        _STEP.pack_into(place, 0, next(steps), task, cell)

    calls = Connection(connection)
    while calls.poll(IDLE_S):
        try:
            function, argument = pickle.loads(calls.recv_bytes())  # noqa: S301 - from our own parent
        except EOFError:
            return
        calls.send_bytes(_answer(function, argument, mark))


def _answer(function: Callable[[Any, Mark], Any], argument: object, mark: Mark) -> bytes:
    try:
        good, result = True, function(argument, mark)
    except Exception as error:  # noqa: BLE001 - raised again in the parent
        good, result = False, error
    mark(-1, -1)
    return pickle.dumps((good, result), protocol=5)


def _end_with_parent(alive: int) -> None:
    """Have the kernel end this process when the other end of a pipe closes, whatever it does then."""
    fcntl.fcntl(alive, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(alive, fcntl.F_SETFL, fcntl.fcntl(alive, fcntl.F_GETFL) | os.O_ASYNC)
    if select.select([alive], [], [], 0)[0]:  # it closed before that
        os._exit(1)
