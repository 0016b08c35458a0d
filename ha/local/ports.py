"""The seven ports of a pair on one machine, and who holds one that is busy."""

from __future__ import annotations

import os
import random
import re
import socket
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

_LISTEN = "0A"
_BELOW_CLIENTS = (
    10240,
    32000,
)  # under Linux's range for outgoing connections, which could take a port between two looks


@dataclass(frozen=True, slots=True)
class Ports:
    """Where each part listens, all on 127.0.0.1."""

    a: int = 8081
    b: int = 8082
    gateway: int = 4002
    control: int = 4080
    etcd: int = 2379
    etcd_peer: int = 2380
    postgres: int = 5433

    @classmethod
    def from_base(cls, base: int) -> Ports:
        """`--port-base`: a is base + 1, and so on to PostgreSQL, base + 7. Raises ValueError with a sentence."""
        if not 0 <= base <= 65528:
            raise ValueError(f"--port-base is {base}; it must be from 0 to 65528: the seven ports above it are used")
        return cls(*range(base + 1, base + 8))

    @classmethod
    def free(cls) -> Ports:
        """Seven ports that nobody used a moment ago, for tests and demonstrations beside a running pair."""
        found: list[int] = []
        with ExitStack() as held:
            while len(found) < 7:
                port = random.randint(*_BELOW_CLIENTS)
                sock = held.enter_context(socket.socket())
                with suppress(OSError):
                    sock.bind(("127.0.0.1", port))
                    found.append(port)
        return cls(*found)

    def named(self) -> dict[str, int]:
        """The ports by the names that people read."""
        words = {"a": "replica a", "b": "replica b", "control": "gateway control", "etcd_peer": "etcd peers"}
        return {words.get(name, name): port for name, port in asdict(self).items()}


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds a port; pid None = a process that this user may not look into, or none any more."""

    port: int
    pid: int | None
    command: str
    uid: int | None

    def __str__(self) -> str:
        if self.pid is not None:
            return f"pid {self.pid} ({self.command})"
        if self.uid is not None:
            return f"a process of user id {self.uid} that cannot be read from here"
        return "a process that cannot be seen from here"


def busy(ports: Mapping[str, int]) -> dict[str, Holder]:
    """Those of `ports` (name -> port) that cannot be listened on now, each with its holder."""
    return {name: holder(port) for name, port in ports.items() if not _can_listen(port)}


def _can_listen(port: int) -> bool:
    with socket.socket() as sock:
        # As every server here does, so that a port in TIME_WAIT is free.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind(("127.0.0.1", port))
            sock.listen(1)
        except OSError:
            return False
        return True


def holder(port: int) -> Holder:
    """Who holds `port`: the listener if there is one, else any socket bound to it."""
    entries = sorted(_sockets(port), key=lambda entry: entry[0] != _LISTEN)
    for _, inode, uid in entries:
        for pid in _owners(inode):
            return Holder(port, pid, _command(pid), uid)
    return Holder(port, None, "", entries[0][2] if entries else None)


def _sockets(port: int) -> Iterator[tuple[str, str, int]]:
    """(state, inode, uid) of each TCP socket with this local port."""
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with suppress(FileNotFoundError):
            for line in Path(table).read_text(encoding="ascii").splitlines()[1:]:
                field = line.split()
                if int(field[1].rpartition(":")[2], 16) == port:
                    yield field[3], field[9], int(field[7])


def _owners(inode: str) -> Iterator[int]:
    wanted = f"socket:[{inode}]"
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        with suppress(OSError):  # ended meanwhile, or another user's
            for fd in os.listdir(f"/proc/{entry}/fd"):
                if os.readlink(f"/proc/{entry}/fd/{fd}") == wanted:
                    yield int(entry)
                    break


def _command(pid: int) -> str:
    try:
        text = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        text = ""
    text = re.sub(r"[^\x20-\x7e]+", "?", text) or "unknown"
    return text if len(text) <= 120 else text[:119] + "…"
