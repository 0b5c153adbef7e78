"""A proxy on loopback that lets every request wait: what a long line does, where the kernel has no ``tc netem``."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class _Side(asyncio.Protocol):
    """One side of a connection: what it gets goes to the other side, later."""

    def __init__(self, delay_s: float, other: _Side | None = None) -> None:
        self.delay_s, self.other = delay_s, other
        self.transport: asyncio.WriteTransport | None = None
        self.waiting: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)
        self.transport = transport
        for data in self.waiting:
            transport.write(data)

    def data_received(self, data: bytes) -> None:
        asyncio.get_running_loop().call_later(self.delay_s, self._pass_on, data)

    def _pass_on(self, data: bytes) -> None:
        assert self.other is not None
        if self.other.transport is None:
            self.other.waiting.append(data)
        elif not self.other.transport.is_closing():
            self.other.transport.write(data)

    def connection_lost(self, error: Exception | None) -> None:
        if self.other is not None and self.other.transport is not None:
            asyncio.get_running_loop().call_later(self.delay_s, self.other.transport.close)


@contextmanager
def delaying_proxy(port: int, delay_s: float) -> Iterator[int]:
    """Give a port of loopback that leads to another one; what is sent there arrives so much later, answers at once."""
    loop = asyncio.new_event_loop()

    def connect() -> _Side:
        near = _Side(delay_s)
        far = near.other = _Side(0.0, near)
        near_task = loop.create_connection(lambda: far, "127.0.0.1", port)
        tasks.append(loop.create_task(near_task))
        return near

    tasks: list[asyncio.Task[object]] = []
    server = loop.run_until_complete(loop.create_server(connect, "127.0.0.1", 0))
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        server.close()
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()
