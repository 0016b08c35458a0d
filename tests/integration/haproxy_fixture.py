"""A real HAProxy with the relay's real configuration, before a gateway; and clients that can be frozen while connected."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from ha.fence_haproxy import Haproxy, MasterCli
from ha.haproxy import RelayError, RelaySession, Worker, sessions, workers
from tests.integration.etcd_fixture import free_ports

CONFIG = Path(__file__).parents[2] / "deploy" / "haproxy" / "gateway-relay.cfg"
ALSO_LOOKED_IN = ":/usr/sbin:/usr/local/sbin"  # a plain user's PATH has no sbin
MISSING = "HAProxy is not installed; this gets it: sudo apt-get install -y --no-upgrade haproxy"

_DIE_WITH_PARENT = (
    "import ctypes,os,sys\n"
    "ctypes.CDLL(None).prctl(1, int(sys.argv[2]))\n"  # PR_SET_PDEATHSIG
    "if os.getppid() != int(sys.argv[1]): sys.exit(1)\n"
    "os.execv(sys.argv[3], sys.argv[3:])\n"
)

# A TWS client with nothing in it: handshake, startApi, then the first error or nextValidId on stdout; then it only reads.
_CLIENT = """
import socket, sys
host, port, client_id = sys.argv[1], int(sys.argv[2]), sys.argv[3]
gateway = socket.create_connection((host, port))
def send(payload): gateway.sendall(len(payload).to_bytes(4, "big") + payload)
def receive():
    def exactly(size):
        data = b""
        while len(data) < size:
            data += gateway.recv(size - len(data)) or sys.exit("the gateway closed")
        return data
    return exactly(int.from_bytes(exactly(4), "big")).decode().split(chr(0))
gateway.sendall(b"API" + bytes(1)); send(b"v157..178"); receive()
send(chr(0).join(["71", "2", client_id, "", ""]).encode())
while (fields := receive())[0] != "9" and fields[3:4] != ["326"]: pass
print(fields[0], *gateway.getsockname(), flush=True)
while gateway.recv(65536): pass
"""


def haproxy_binary() -> str:
    """HAProxy's path. Without one the test fails in CI and is skipped elsewhere, each with the command that gets it."""
    found = shutil.which("haproxy", path=os.environ.get("PATH", os.defpath) + ALSO_LOOKED_IN)
    if found is None and os.environ.get("CI", "").lower() in ("true", "1"):
        pytest.fail(MISSING)
    if found is None:
        pytest.skip(MISSING)
    return found


class Relay:
    """A running relay: where it listens and how its master is reached."""

    def __init__(self, process: asyncio.subprocess.Process, ports: list[int], directory: Path) -> None:
        self.process, self.directory = process, directory
        self.a, self.b, self.master_port = ports
        self.socket = str(directory / "master.sock")
        self.cli = MasterCli(self.socket, 3.0)

    def agent(self, replica: str, **kwargs: float | str) -> Haproxy:
        """The fence agent of one replica."""
        return Haproxy(self.socket, replica, **kwargs)  # type: ignore[arg-type]

    async def workers(self) -> list[Worker]:
        """HAProxy's workers, old ones too."""
        return workers(await self.cli.ask("show proc"))

    async def sessions(self) -> list[RelaySession]:
        """Every session through a replica's frontend, in all workers."""
        end = asyncio.get_running_loop().time() + 5
        while True:
            try:
                found = [one for worker in await self.workers() for one in await self._sessions(worker)]
            except RelayError:  # an old worker ends with its last session, and says nothing then
                if asyncio.get_running_loop().time() > end:
                    raise
                await asyncio.sleep(0.02)
            else:
                return [session for session in found if session.frontend.startswith("gateway_")]

    async def _sessions(self, worker: Worker) -> list[RelaySession]:
        return sessions(await self.cli.ask(f"@!{worker.pid} show sess"))

    async def reload(self) -> None:
        """Reload, and wait until the new worker is at work."""
        loaded = self.loaded()
        await self.cli.ask("reload")
        await self.until_loaded(loaded + 1)

    async def answers(self) -> bool:
        """Whether the master's socket is there."""
        try:
            return bool(await self.workers())
        except RelayError:
            return False

    def loaded(self) -> int:
        """How often the master has said that it loaded its configuration."""
        return (self.directory / "haproxy.log").read_text().count("Loading success")

    async def until_loaded(self, times: int) -> None:
        """Wait for that, and until the master answers: it starts itself anew after loading. Fails with HAProxy's words."""
        loop = asyncio.get_running_loop()
        end = loop.time() + 20
        while self.loaded() < times or not await self.answers():
            if self.process.returncode is not None or loop.time() > end:
                pytest.fail(f"HAProxy did not load: {(self.directory / 'haproxy.log').read_text()}")
            await asyncio.sleep(0.02)


@contextlib.asynccontextmanager
async def running_relay(
    gateway_port: int, extra: str = "", operator: str | None = None, **environment: str
) -> AsyncIterator[Relay]:
    """deploy/haproxy/gateway-relay.cfg before this gateway, on free ports; gone afterwards with all its workers.

    `extra` is more configuration, `environment` more of what the file reads from there. The path `operator`, if given,
    becomes one more master socket, without the level that the agent needs.
    """
    binary = haproxy_binary()
    ports = free_ports(3)
    directory = Path(tempfile.mkdtemp(prefix="relay-", dir="/tmp"))
    places = {"RELAY_BIND_A": ports[0], "RELAY_BIND_B": ports[1], "RELAY_GATEWAY": gateway_port}
    (directory / "extra.cfg").write_text(extra + "\n")
    log = (directory / "haproxy.log").open("wb")
    masters = [f"{directory}/master.sock,mode,600", f"127.0.0.1:{ports[2]}"]
    masters += [f"{operator},level,operator"] if operator else []
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-I", "-S", "-c", _DIE_WITH_PARENT, str(os.getpid()), str(int(signal.SIGTERM)),
        binary, "-W", *(word for master in masters for word in ("-S", master)), "-f", str(CONFIG),
        "-f", str(directory / "extra.cfg"),
        stdout=log, stderr=log,
        env={**os.environ, **{name: f"127.0.0.1:{port}" for name, port in places.items()}, **environment},
    )  # fmt: skip
    log.close()
    relay = Relay(process, ports, directory)
    try:
        await relay.until_loaded(1)
        yield relay
    finally:
        await _end(process)
        shutil.rmtree(directory)


async def _end(process: asyncio.subprocess.Process) -> None:
    """SIGTERM makes the master end every worker, old ones too, before itself."""
    if process.returncode is None:
        process.terminate()
    try:
        async with asyncio.timeout(5):
            await process.wait()
    except TimeoutError:
        process.kill()  # the workers notice and end
        await process.wait()


class RawClient:
    """A broker session in a process of its own, to be frozen with SIGSTOP: its host's kernel still keeps the socket open."""

    def __init__(self, process: asyncio.subprocess.Process, admitted: bool, address: str) -> None:
        self.process, self.admitted, self.address = process, admitted, address

    def freeze(self) -> None:
        self.process.send_signal(signal.SIGSTOP)


@contextlib.asynccontextmanager
async def raw_client(port: int, client_id: int) -> AsyncIterator[RawClient]:
    """Connected under this clientId, or refused; killed at the end."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-I", "-S", "-c", _DIE_WITH_PARENT, str(os.getpid()), str(int(signal.SIGKILL)),
        sys.executable, "-I", "-S", "-c", _CLIENT, "127.0.0.1", str(port), str(client_id),
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        words = (await asyncio.wait_for(process.stdout.readline(), 10)).decode().split()
        assert words, "the client got no answer"
        yield RawClient(process, words[0] == "9", f"{words[1]}:{words[2]}")
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
