"""The parts that the pair's own launcher does not start: members of etcd, the relay before the gateway, Toxiproxy.

A part whose program is missing is named together with the command that gets it: on a user's machine the test that needs
it is skipped with that sentence, in CI it fails.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import aiohttp
import pytest

from ha.local import etcd
from ha.local.parts import Part
from ha.local.process import Child, Spec
from tests.integration import haproxy_fixture
from tests.integration.haproxy_fixture import ALSO_LOOKED_IN, CONFIG

ROOT = Path(__file__).parents[2]
MEMBERS = ("e1", "e2", "e3")
NO_HAPROXY = haproxy_fixture.MISSING
NO_TOXIPROXY = "Toxiproxy is not installed; where Go is present, this gets it: make tools"
_STOP = ((signal.SIGTERM, 4.0),)
_KILL = ((signal.SIGKILL, 4.0),)  # members that all leave in order wait for each other, for data that is thrown away
_ANSWER = aiohttp.ClientTimeout(total=1.0)


def lacking(reason: str) -> NoReturn:
    """A part is missing: the test fails in CI and is skipped elsewhere, in both cases with this reason."""
    if os.environ.get("CI", "").lower() in ("true", "1"):
        pytest.fail(reason)
    pytest.skip(reason)


def haproxy() -> str | None:
    """HAProxy's path, None where it is not installed."""
    return shutil.which("haproxy", path=os.environ.get("PATH", os.defpath) + ALSO_LOOKED_IN)


def toxiproxy() -> str | None:
    """Toxiproxy's path: on PATH, or where this project's own tools lie. None where it is not installed."""
    return shutil.which("toxiproxy-server", path=f"{os.environ.get('PATH', os.defpath)}:{ROOT / '.tools'}")


def needed_parts() -> str | None:
    """What a cluster with every link under control lacks on this machine; None when all is here."""
    return None if haproxy() and toxiproxy() else "; ".join(
        sentence for found, sentence in ((haproxy(), NO_HAPROXY), (toxiproxy(), NO_TOXIPROXY)) if not found
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Member:
    """Where one member of etcd listens: `host` is its address, both ports are there."""

    name: str
    host: str
    client: int
    peer: int

    @property
    def endpoint(self) -> str:
        """HOST:PORT for its clients."""
        return f"{self.host}:{self.client}"


async def status(url: str) -> tuple[int, str] | None:
    """Status and text of a GET; None when no whole answer came within a second."""
    try:
        async with (
            aiohttp.ClientSession(timeout=_ANSWER, trust_env=False) as session,
            session.get(url, allow_redirects=False) as answer,
        ):
            return answer.status, await answer.text()
    except (aiohttp.ClientError, TimeoutError, OSError):
        return None


async def leads_etcd(member: Member) -> bool:
    """Whether this member says of itself that it is etcd's leader."""
    answer = await status(f"http://{member.endpoint}/metrics")
    return answer is not None and "\netcd_server_is_leader 1" in answer[1]


def etcd_part(binary: etcd.Binary, directory: Path, env: Mapping[str, str], me: Member, all_: Sequence[Member]) -> Part:
    """One member, with etcd's own defaults for its elections; ready when it has a leader and a quorum behind it."""
    client, peer = f"http://{me.endpoint}", f"http://{me.host}:{me.peer}"
    flags = {
        "name": me.name, "data-dir": str(directory / "etcd" / me.name), "log-level": "warn", "logger": "zap",
        "listen-client-urls": client, "advertise-client-urls": client,
        "listen-peer-urls": peer, "initial-advertise-peer-urls": peer,
        "initial-cluster": ",".join(f"{one.name}=http://{one.host}:{one.peer}" for one in all_),
        "initial-cluster-token": directory.name,
    }  # fmt: skip
    argv = (binary.path, *(f"--{name}={value}" for name, value in flags.items()))
    plain = {name: value for name, value in env.items() if not name.startswith(("ETCD_", "ETCDCTL_"))}

    async def ready(_: Child) -> bool:
        answer = await status(f"{client}/health")
        return answer is not None and answer[0] == 200 and json.loads(answer[1]).get("health") == "true"

    def spec() -> Spec:
        return Spec(me.name, argv, plain, directory / "etcd", directory / "log" / f"{me.name}.log")

    return Part(me.name, spec, ready, _KILL)


@dataclass(frozen=True, slots=True)
class RelayPlace:
    """Where the relay listens, HOST:PORT each: for replica a, for replica b, and its master's socket."""

    a: str
    b: str
    master: str
    gateway: str


def relay_part(directory: Path, env: Mapping[str, str], place: RelayPlace) -> Part:
    """HAProxy with deploy/haproxy/gateway-relay.cfg, ready when it has loaded it."""
    binary = haproxy()
    assert binary is not None, NO_HAPROXY
    log = directory / "log" / "relay.log"
    places = {"RELAY_BIND_A": place.a, "RELAY_BIND_B": place.b, "RELAY_GATEWAY": place.gateway}

    async def ready(child: Child) -> bool:
        with log.open("rb") as said:
            said.seek(child.log_start)
            return b"Loading success" in said.read()

    def spec() -> Spec:
        argv = (binary, "-W", "-S", place.master, "-f", str(CONFIG))
        return Spec("relay", argv, {**env, **places}, directory / "relay", log, signal.SIGTERM)

    return Part("relay", spec, ready, _STOP)


def links_part(directory: Path, env: Mapping[str, str], api: int, proxies: Mapping[str, tuple[str, str]]) -> Part:
    """Toxiproxy with these proxies, by name (where it listens, where it leads); ready when it has made them."""
    binary = toxiproxy()
    assert binary is not None, NO_TOXIPROXY
    config = directory / "links.json"
    rows = [
        {"name": name, "listen": here, "upstream": there, "enabled": True} for name, (here, there) in proxies.items()
    ]
    config.write_text(json.dumps(rows))

    async def ready(_: Child) -> bool:
        answer = await status(f"http://127.0.0.1:{api}/proxies")
        return answer is not None and answer[0] == 200 and len(json.loads(answer[1])) == len(proxies)

    def spec() -> Spec:
        argv = (binary, "-host", "127.0.0.1", "-port", str(api), "-config", str(config))
        return Spec("links", argv, {**env, "LOG_LEVEL": "error"}, directory, directory / "log" / "links.log")

    return Part("links", spec, ready, _STOP)
