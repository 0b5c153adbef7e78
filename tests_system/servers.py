"""Real servers of objects on loopback, for tests: started until they answer, ended by their own process number."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
BIN = Path(sys.executable).parent
IDENTITIES = (
    '{"identities":[{"name":"lab","credentials":[{"accessKey":"test","secretKey":"testsecret"}],'
    '"actions":["Admin","Read","Write","List","Tagging"]}]}'
)


def free_port() -> int:
    """Return a port that is free, as is the one 10000 above: SeaweedFS takes it for gRPC."""
    while True:
        with socket.socket() as one:
            one.bind(("127.0.0.1", 0))
            port = int(one.getsockname()[1])
        if port < 50000:
            return port


@contextmanager
def server(folder: Path, port: int, *command: object) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server until it answers on its port, and end it."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "log", "ab") as log:
        process = subprocess.Popen(list(map(str, command)), stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        until = time.monotonic() + 180
        while not answers(port):
            assert process.poll() is None, (folder / "log").read_text()[-2000:]
            assert time.monotonic() < until, "the server does not answer"
            time.sleep(0.2)
        yield process
    finally:
        process.kill()
        process.wait()


def answers(port: int) -> bool:
    try:
        urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=2).close()
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False
    return True


def seaweed(folder: Path, ports: dict[str, int]) -> Any:
    """Return a context of a SeaweedFS with its data in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "s3.json").write_text(IDENTITIES)
    flags = [f"-{name}.port={port}" for name, port in ports.items()]
    flags += [f"-{name}.port.grpc={port + 10000}" for name, port in ports.items()]
    return server(
        folder, ports["s3"], BIN / "weed", "server", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-dir={folder}",
        "-master.volumeSizeLimitMB=64", "-volume.max=50", "-filer", "-s3", "-s3.port.iceberg=0", "-s3.port.lance=0",
        f"-s3.config={folder}/s3.json", *flags,
    )  # fmt: skip
