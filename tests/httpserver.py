"""A file server on loopback that knows ranges and ETags, which Python's own does not, and keeps account of requests."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from fastdcm.objects import forget_stores


@dataclass
class Seen:
    """What a server was asked."""

    wait_s: float
    """Of each request for a part of a file."""
    requests: list[tuple[str, str, str]] = field(default_factory=list)
    """(method, path, range)"""
    most_at_once: int = 0
    at_once: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)


class Ranges(SimpleHTTPRequestHandler):
    """Answers requests for files, or parts of them, and shows folders."""

    def __init__(self, *arguments: object, seen: Seen, **named: object) -> None:
        self.seen = seen
        super().__init__(*arguments, **named)  # type: ignore[arg-type]

    def log_message(self, *words: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self.seen.requests.append(("HEAD", self.path, ""))
        super().do_HEAD()

    def do_GET(self) -> None:
        path = Path(self.translate_path(self.path))
        wanted = self.headers.get("Range", "")
        self.seen.requests.append(("GET", self.path, wanted))
        if not path.is_file():
            super().do_GET()
            return
        with self.seen.lock:
            self.seen.at_once += 1
            self.seen.most_at_once = max(self.seen.most_at_once, self.seen.at_once)
        time.sleep(self.seen.wait_s)
        with self.seen.lock:
            self.seen.at_once -= 1
        self._send(path, wanted)

    def _send(self, path: Path, wanted: str) -> None:
        data = path.read_bytes()
        start, _, end = wanted.removeprefix("bytes=").partition("-")
        if wanted and int(start) >= len(data):
            self.send_error(416)
            return
        part = data[int(start) : int(end) + 1] if wanted else data
        self.send_response(206 if wanted else 200)
        if wanted:
            self.send_header("Content-Range", f"bytes {start}-{int(start) + len(part) - 1}/{len(data)}")
        self.send_header("Content-Length", str(len(part)))
        self.send_header("Last-Modified", self.date_time_string(path.stat().st_mtime))
        self.send_header("ETag", f'"{path.stat().st_mtime_ns}-{len(data)}"')
        self.end_headers()
        self.wfile.write(part)


class _Server(ThreadingHTTPServer):
    request_queue_size = 128
    """Else many connections at once are refused."""


@contextmanager
def http_server(folder: Path, wait_s: float = 0.0) -> Iterator[tuple[str, Seen]]:
    """Serve a folder on loopback; give its URL, and what is asked."""
    seen = Seen(wait_s)
    server = _Server(("127.0.0.1", 0), partial(Ranges, seen=seen, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", seen
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
        forget_stores()
