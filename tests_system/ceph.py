"""A Ceph of one monitor, one memory store and one S3 gateway on loopback. Needs root and Debian's packages."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

PACKAGES = ("radosgw", "ceph-mon", "ceph-osd", "ceph-common")
FSID = "a141797d-e355-4737-a1de-39a98aebe263"
MONITOR = "[v2:127.0.0.1:3300,v1:127.0.0.1:6789]"  # other ports than its usual ones it ignores
CONFIGURATION = f"""[global]
fsid = {FSID}
mon host = {MONITOR}
mon initial members = a
public addr = 127.0.0.1
cluster addr = 127.0.0.1
public bind addr = 127.0.0.1
auth cluster required = none
auth service required = none
auth client required = none
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 8
osd pool default pgp num = 8
osd crush chooseleaf type = 0
mon allow pool size one = true
mon warn on pool no redundancy = false
osd objectstore = memstore
memstore device bytes = 1073741824
osd memory target = 939524096
ms bind ipv6 = false
mon data avail warn = 1
mon data avail crit = 1
run dir = FOLDER/run
admin socket = FOLDER/run/$name.asok
pid file = FOLDER/run/$name.pid
log file = FOLDER/run/$name.log
mon data = FOLDER/mon
osd data = FOLDER/osd
[client.rgw]
ms mon client mode = crc
auth client required = none
rgw frontends = beast endpoint=127.0.0.1:PORT
rgw data = FOLDER/rgw
keyring = FOLDER/none
"""


@contextmanager
def running_ceph(folder: Path, port: int, key: str, secret: str) -> Iterator[None]:
    """Start the three daemons, with a user; the gateway answers on its port when it is up."""
    if any(shutil.which(name) is None for name in ("radosgw", "ceph-mon", "ceph-osd", "ceph", "monmaptool")):
        subprocess.run(["apt-get", "install", "-y", "--no-install-recommends", *PACKAGES], check=True, timeout=300)
    for name in ("run", "mon", "osd", "rgw"):
        (folder / name).mkdir(parents=True)
    configuration = folder / "ceph.conf"
    configuration.write_text(CONFIGURATION.replace("FOLDER", str(folder)).replace("PORT", str(port)))
    monitors = folder / "monitors"

    def run(*words: object) -> None:
        name, *rest = map(str, words)
        command = [name, *rest] if name == "monmaptool" else [name, "-c", str(configuration), *rest]
        nothing = subprocess.DEVNULL
        subprocess.run(command, stdin=nothing, stdout=nothing, stderr=nothing, check=True, timeout=120)

    with ExitStack() as stack:
        run("monmaptool", "--create", "--addv", "a", MONITOR, "--fsid", FSID, monitors)
        run("ceph-mon", "--mkfs", "-i", "a", "--monmap", monitors)
        stack.enter_context(_daemon(folder, "ceph-mon", "-f", "-i", "a"))
        run("ceph", "osd", "create")
        run("ceph-osd", "-i", 0, "--mkfs")
        stack.enter_context(_daemon(folder, "ceph-osd", "-f", "-i", 0))
        run("radosgw-admin", "-n", "client.rgw", "user", "create", "--uid=lab", "--display-name=lab",
            f"--access-key={key}", f"--secret-key={secret}")  # fmt: skip
        stack.enter_context(_daemon(folder, "radosgw", "-f", "-n", "client.rgw"))
        yield


@contextmanager
def _daemon(folder: Path, name: str, *words: object) -> Iterator[None]:
    command = [name, "-c", str(folder / "ceph.conf"), *map(str, words)]
    with open(folder / f"{name}.log", "ab") as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        time.sleep(0.5)
        assert process.poll() is None, (folder / f"{name}.log").read_text()[-2000:]
        yield
    finally:
        process.kill()
        process.wait(timeout=20)
