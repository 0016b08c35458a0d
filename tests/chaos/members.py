"""Which member of etcd does what: who leads, and who is used by which replica."""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress
from ipaddress import IPv4Address
from pathlib import Path

from tests.chaos.cluster import Cluster
from tests.chaos.parts import MEMBERS, leads_etcd

_ESTABLISHED = "01"


async def etcd_leader(on: Cluster, within: float = 10.0) -> str:
    """The member that says that it leads etcd. Raises TimeoutError."""
    async with asyncio.timeout(within):
        while True:
            for member in on.wiring.members:
                if await leads_etcd(member):
                    return member.name
            await asyncio.sleep(0.05)


def used_members(on: Cluster, replica: str) -> list[str]:
    """The members of etcd that this replica's process has a connection to, by the kernel's word."""
    pid = on.child(replica).pid
    ours = set()
    for entry in os.scandir(f"/proc/{pid}/fd"):
        with suppress(FileNotFoundError):
            if (target := Path(entry.path).readlink().name).startswith("socket:["):
                ours.add(target[8:-1])
    net = Path(f"/proc/{pid}/net")  # of its own host; gRPC dials IPv4 by sockets of IPv6
    rows = [line.split() for name in ("tcp", "tcp6") for line in net.joinpath(name).read_text().splitlines()[1:]]
    open_to = {_ending(row[2]) for row in rows if row[3] == _ESTABLISHED and row[9] in ours}
    return [name for name in MEMBERS if _hex(on.wiring.endpoint(replica, name)) in open_to]


def _ending(address: str) -> str:
    """The IPv4 part of an address as the kernel writes it, with the port."""
    host, _, port = address.partition(":")
    return f"{host[-8:]}:{port}"


def _hex(endpoint: str) -> str:
    """HOST:PORT as the kernel writes it."""
    host, _, port = endpoint.rpartition(":")
    return f"{IPv4Address(host).packed[::-1].hex().upper()}:{int(port):04X}"
