"""Where each part of a cluster listens, and by which way each replica and each client reaches it.

Two forms: `Loopback`, every link through Toxiproxy where that is installed; `Hosts`, replicas and members of etcd each on a
host of their own (namespaces.py), PostgreSQL, the gateway and its relay on this process's.
"""

from __future__ import annotations

import random
import secrets
import signal
import socket
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit, urlunsplit

from ha.cli_token import issue
from ha.local.parts import REPLICAS, Part
from ha.local.ports import Ports
from ha.local.postgres import Server
from ha.local.process import Spec
from tests.chaos.disk import ServerOnDisk
from tests.chaos.links import Links
from tests.chaos.namespaces import Network
from tests.chaos.parts import MEMBERS, Member, RelayPlace, haproxy, links_part, toxiproxy

LOOPBACK = "127.0.0.1"


class Wiring(Protocol):
    """What differs between the forms."""

    members: tuple[Member, ...]
    relay: RelayPlace | None
    token: str | None
    """A bearer token for the replicas' API, where they ask for one."""

    def url(self, replica: str) -> str:
        """Where an observer reaches it, whatever happens to the links."""

    def client_url(self, replica: str) -> str:
        """Where clients dial it."""

    def endpoint(self, replica: str, member: str) -> str:
        """HOST:PORT by which this replica reaches this member of etcd."""

    def settings(self, replica: str, database_url: str) -> dict[str, str]:
        """The settings by which this replica finds everything."""

    def first_parts(self, env: Mapping[str, str]) -> list[Part]:
        """What must be there before anything else."""

    def wire(self) -> None:
        """Called when the first parts are ready."""

    def on_its_host(self, part: str, spec: Spec) -> Spec:
        """How to start this part where it belongs."""

    def server(self, directory: Path, ports: Ports, env: Mapping[str, str]) -> Server | None:
        """A PostgreSQL that listens where the replicas are; None = the usual one will do."""


def _fence(relay: RelayPlace | None) -> dict[str, str]:
    """The agent, where there is a relay."""
    return {} if relay is None else {"FENCE_AGENT": "haproxy", "FENCE_HAPROXY_SOCKET": relay.master}


class Loopback:
    """All parts on 127.0.0.1. Without HAProxy the replicas dial the gateway, without Toxiproxy the parts themselves."""

    def __init__(self, directory: Path, ports: Ports) -> None:
        self._directory, self._ports = directory, ports
        found = iter(_free_ports(24))
        self.members = tuple(Member(name, LOOPBACK, next(found), next(found)) for name in MEMBERS)
        self.relay: RelayPlace | None = None
        if haproxy() is not None:
            a, b, master = (f"{LOOPBACK}:{next(found)}" for _ in range(3))
            self.relay = RelayPlace(a, b, master, f"{LOOPBACK}:{ports.gateway}")
        self.token: str | None = None
        self._api = next(found)
        self._ways = self._all_ways()
        proxied = toxiproxy() is not None
        self._proxies = {name: (f"{LOOPBACK}:{next(found)}", to) for name, to in self._ways.items()} if proxied else {}
        self.links = Links(self._api, self._proxies) if proxied else None

    def _all_ways(self) -> dict[str, str]:
        ways: dict[str, str] = {}
        for name in REPLICAS:
            own = f"{LOOPBACK}:{getattr(self._ports, name)}"
            gateway = f"{LOOPBACK}:{self._ports.gateway}" if self.relay is None else getattr(self.relay, name)
            ways |= {f"{name}-{member.name}": member.endpoint for member in self.members}
            ways |= {f"{name}-postgres": f"{LOOPBACK}:{self._ports.postgres}", f"{name}-gateway": gateway}
            ways |= {f"peer-{name}": own, f"client-{name}": own}
        return ways

    def way(self, link: str) -> str:
        """HOST:PORT to dial for what this link leads to."""
        return self._proxies[link][0] if self._proxies else self._ways[link]

    def url(self, replica: str) -> str:
        """See Wiring."""
        return f"http://{LOOPBACK}:{getattr(self._ports, replica)}"

    def client_url(self, replica: str) -> str:
        """See Wiring."""
        return f"http://{self.way(f'client-{replica}')}"

    def endpoint(self, replica: str, member: str) -> str:
        """See Wiring."""
        return self.way(f"{replica}-{member}")

    def settings(self, replica: str, database_url: str) -> dict[str, str]:
        """See Wiring."""
        gateway = self.way(f"{replica}-gateway").rpartition(":")
        return {
            "ETCD_ENDPOINTS": ",".join(self.endpoint(replica, member.name) for member in self.members),
            "DATABASE_URL": _moved(database_url, self.way(f"{replica}-postgres")),
            "TWS_HOST": gateway[0], "TWS_PORT": gateway[2], "ADVERTISE_URL": f"http://{self.way(f'peer-{replica}')}",
        } | _fence(self.relay)  # fmt: skip

    def first_parts(self, env: Mapping[str, str]) -> list[Part]:
        """See Wiring."""
        return [links_part(self._directory, env, self._api, self._proxies)] if self._proxies else []

    def wire(self) -> None:
        """See Wiring."""

    def on_its_host(self, part: str, spec: Spec) -> Spec:
        """See Wiring."""
        return spec

    def server(self, directory: Path, ports: Ports, env: Mapping[str, str]) -> Server | None:
        """See Wiring."""
        return ServerOnDisk(directory, ports, env)


class Hosts:
    """Each replica and each member of etcd on the host of its name; authenticated, as from host to host."""

    def __init__(self, directory: Path, ports: Ports) -> None:
        self._ports = ports
        self._hosts = (*REPLICAS, *MEMBERS)
        self.network = Network(directory, self._hosts)
        self.members = tuple(Member(name, self.network.address(name), 2379, 2380) for name in MEMBERS)
        here = self.network.here
        self.relay: RelayPlace | None = RelayPlace(
            f"{here}:4101", f"{here}:4102", f"{here}:4100", f"{LOOPBACK}:{ports.gateway}"
        )
        self._secret = secrets.token_hex(32)
        self.token: str | None = issue(self._secret, "chaos", "operator", "1h").token

    def url(self, replica: str) -> str:
        """See Wiring."""
        return f"http://{self.network.address(replica)}:{getattr(self._ports, replica)}"

    client_url = url

    def endpoint(self, replica: str, member: str) -> str:
        """See Wiring."""
        return next(one.endpoint for one in self.members if one.name == member)

    def dialled(self, replica: str) -> dict[str, list[tuple[str, int]]]:
        """Address and port of everything that this replica dials, by what it is."""
        assert self.relay is not None
        here, others = self.network.here, [name for name in REPLICAS if name != replica]
        return {
            "etcd": [(member.host, member.client) for member in self.members],
            "postgres": [(here, self._ports.postgres)],
            "gateway": [(here, int(getattr(self.relay, replica).rpartition(":")[2]))],
            "peer": [(self.network.address(other), getattr(self._ports, other)) for other in others],
        }

    def settings(self, replica: str, database_url: str) -> dict[str, str]:
        """See Wiring."""
        assert self.relay is not None
        return {
            "ONE_MACHINE": "false", "API_SECRET_KEY": self._secret, "HTTP_HOST": self.network.address(replica),
            "ADVERTISE_URL": self.url(replica), "ETCD_ENDPOINTS": ",".join(member.endpoint for member in self.members),
            "DATABASE_URL": _moved(database_url, f"{self.network.here}:{self._ports.postgres}"),
            "TWS_HOST": self.network.here, "TWS_PORT": getattr(self.relay, replica).rpartition(":")[2],
        } | _fence(self.relay)  # fmt: skip

    def first_parts(self, env: Mapping[str, str]) -> list[Part]:
        """See Wiring."""
        return self.network.holders(env)

    def wire(self) -> None:
        """See Wiring."""
        self.network.wire()

    def on_its_host(self, part: str, spec: Spec) -> Spec:
        """See Wiring."""
        return self.network.on(part, spec) if part in self._hosts else spec

    def server(self, directory: Path, ports: Ports, env: Mapping[str, str]) -> Server | None:
        """See Wiring."""
        return _OpenServer(directory, ports, env, self.network.here)


class _OpenServer(ServerOnDisk):
    """PostgreSQL that the hosts reach as well."""

    def __init__(self, directory: Path, ports: Ports, env: Mapping[str, str], here: str) -> None:
        super().__init__(directory, ports, env)
        self._here = here

    def _spec(self, command: tuple[str, ...], cwd: Path, death: signal.Signals, *, feeds: bool = False) -> Spec:
        more = () if feeds or command[0] != "postgres" else (f"-clisten_addresses={LOOPBACK},{self._here}",)
        if more:
            open_to = f"host all all {self._here}/24 scram-sha-256\n"
            hba = self.data / "pg_hba.conf"
            if open_to not in (said := hba.read_text(encoding="ascii")):
                hba.write_text(said + open_to, encoding="ascii")
        return super()._spec((*command, *more), cwd, death, feeds=feeds)


def _moved(url: str, to: str) -> str:
    """The same URL at another HOST:PORT."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=f"{parts.netloc.rpartition('@')[0]}@{to}"))


def _free_ports(count: int) -> list[int]:
    """Ports that nobody used a moment ago, below those that the kernel gives to clients."""
    found: list[int] = []
    with ExitStack() as held:
        while len(found) < count:
            port = random.randint(10240, 32000)
            sock = held.enter_context(socket.socket())
            with suppress(OSError):
                sock.bind((LOOPBACK, port))
                found.append(port)
    return found
