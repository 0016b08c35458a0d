"""One replica as a process of its own, with a test in the place of systemd: it hears what the replica tells, and may kill it."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.integration.etcd_fixture import free_ports
from tests.integration.pair_fixture import Answer, ask, until
from tests.integration.pg_fixture import IDENTITY, Urls

_KEPT = ("PATH", "HOME", "LANG", "TMPDIR", "PYTHONPATH", "VIRTUAL_ENV")
_DIE_WITH_PARENT = (
    "import ctypes,os,sys\n"
    "ctypes.CDLL(None).prctl(1, 9)\n"  # PR_SET_PDEATHSIG, SIGKILL
    "if os.getppid() != int(sys.argv[1]): sys.exit(1)\n"
    "os.execv(sys.argv[2], sys.argv[2:])\n"
)


@dataclass(frozen=True, slots=True)
class Told:
    """One datagram: when it came (monotonic seconds) and its lines."""

    at: float
    lines: tuple[str, ...]


class Systemd:
    """The receiving side of sd_notify: a real AF_UNIX datagram socket. `told` is everything that came, oldest first."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.told: list[Told] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind("\0" + address[1:] if address.startswith("@") else address)
        self._thread = threading.Thread(target=self._listen, name="systemd", daemon=True)
        self._thread.start()

    def _listen(self) -> None:
        while data := self._socket.recv(4096):
            self.told.append(Told(time.monotonic(), tuple(data.decode().splitlines())))

    def close(self) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as last:
            last.sendto(b"", self._socket.getsockname())
        self._thread.join(5)
        self._socket.close()

    def heard(self, line: str, since: float = 0.0) -> list[float]:
        """When this line came, of those that came after `since`."""
        return [told.at for told in self.told if line in told.lines and told.at > since]

    @property
    def status(self) -> str:
        """The last status told."""
        found = [line for told in self.told for line in told.lines if line.startswith("STATUS=")]
        return found[-1].removeprefix("STATUS=") if found else ""


class Replica:
    """`adapter run` as a child, in its own directory. It dies with the process that started it."""

    def __init__(self, directory: Path, settings: Mapping[str, str], *options: str) -> None:
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        env = {name: os.environ[name] for name in _KEPT if name in os.environ}
        env |= {"RUN_DIR": str(directory), "HTTP_HOST": "127.0.0.1", **settings}
        self.url = f"http://127.0.0.1:{env['HTTP_PORT']}"
        self.log = directory / "stderr"
        command = [sys.executable, "-m", "ha", "run", *options]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", _DIE_WITH_PARENT, str(os.getpid()), *command],
                stdout=log,
                stderr=log,
                env=env,
                cwd=directory,
            )

    def send(self, number: int) -> None:
        self.process.send_signal(number)

    def end(self, number: int = signal.SIGTERM, within: float = 20.0) -> int:
        """Send a signal and wait for the end; the exit code."""
        self.send(number)
        return self.process.wait(within)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()

    def said(self) -> str:
        """What it wrote to stderr."""
        return self.log.read_text(errors="replace")

    def get(self, path: str) -> Answer | None:
        """An answer, None while nobody listens."""
        with contextlib.suppress(OSError):
            return ask(self.url, "GET", path, timeout=3.0)
        return None

    def _is(self, path: str) -> bool:
        assert self.process.poll() is None, self.said()
        answer = self.get(path)
        return answer is not None and answer.status == 200

    def until_leads(self) -> Replica:
        """Return when its gate is open."""
        until(lambda: self._is("/leader") and self._is("/readyz"), "it leads", 30)
        return self


def settings_for(urls: Urls, gateway_port: int, name: str = "a", **more: str) -> dict[str, str]:
    """Settings of one replica of the tests' database before this gateway, on a port of its own."""
    return {
        "DATABASE_URL": urls.adapter,
        "REPLICA_NAME": name,
        "CLUSTER_NAME": IDENTITY.cluster,
        "TWS_GATEWAY_ID": IDENTITY.gateway_id,
        "TWS_CLIENT_ID": str(IDENTITY.client_id),
        "TWS_HOST": "127.0.0.1",
        "TWS_PORT": str(gateway_port),
        "HTTP_PORT": str(free_ports(1)[0]),
        **more,
    }


@contextlib.contextmanager
def systemd() -> Iterator[Systemd]:
    """A listening supervisor, at a path as systemd's is."""
    with tempfile.TemporaryDirectory(prefix="sd-", dir="/tmp") as place:
        listening = Systemd(f"{place}/notify")
        try:
            yield listening
        finally:
            listening.close()


@contextlib.contextmanager
def replica(directory: Path, settings: Mapping[str, str], *options: str) -> Iterator[Replica]:
    """A replica that has ended afterwards, whatever happened."""
    running = Replica(directory, settings, *options)
    try:
        yield running
    finally:
        running.close()
