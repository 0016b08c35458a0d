"""The parts of a pair: what each is started with, when it counts as ready, and how it is ended."""

from __future__ import annotations

import os
import re
import signal
import sys
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass
from pathlib import Path

from ha.local.database import Urls
from ha.local.ports import Ports
from ha.local.process import Child, Spec

REPLICAS = ("a", "b")
Stop = tuple[signal.Signals, float]

# Settings that say where a production replica finds its neighbours. Here the launcher says so, and a stray one would
# take the pair to somebody's real gateway, database or etcd, or make the two replicas fight for one port.
_REPLACED = re.compile(
    r"(TWS_HOST|TWS_PORT|TWS_GATEWAY_ID|TRADING_MODE|(MIGRATE_)?DATABASE_URL|POSTGRES_URL|ETCD_\w+|FENCE_\w+"
    r"|REPLICA_NAME|RUN_DIR|LOG_FILE|HTTP_HOST|HTTP_PORT|ADVERTISE_URL|METRICS_PORT|HEALTHCHECK_PORT"
    r"|NOTIFY_SOCKET|WATCHDOG_USEC|WATCHDOG_PID)(_FILE)?"  # the last three are of whoever supervises this launcher
)
_FOR_ONE = re.compile(r"([A-Z][A-Z0-9_]*)_([ab])")
CLUSTER = "local"
GATEWAY_ID = "stand-in"


@dataclass(frozen=True, slots=True)
class Commands:
    """The programs that a pair is made of; tests put small stand-ins in their place."""

    gateway: tuple[str, ...] = (sys.executable, "-m", "ibsim")
    migrate: tuple[str, ...] = (sys.executable, "-m", "ha", "migrate", "--post")  # no replica runs yet
    replica: tuple[str, ...] = (sys.executable, "-m", "ha", "run")
    release: tuple[str, ...] = (sys.executable, "-m", "ha.release", "--serve")


@dataclass(slots=True)
class Part:
    """One supervised part. `spec` is asked at every start, so that its environment may change in between."""

    name: str
    spec: Callable[[], Spec]
    ready: Callable[[Child], Awaitable[bool]]
    stop: tuple[Stop, ...]
    ready_within: float = 30.0
    on_start: Callable[[Child], None] | None = None
    # Called in the turn that sees the end; what it returns is awaited before a restart.
    on_end: Callable[[], Coroutine[None, None, None] | None] | None = None
    child: Child | None = None
    quick_ends: int = 0
    restarts: int = 0
    wanted: bool = False  # not yet while it is started for the first time, no longer once it is to end


@dataclass(frozen=True, slots=True)
class Layout:
    """Where everything of one pair is, and what it is made of."""

    directory: Path
    ports: Ports
    urls: Urls
    env: Mapping[str, str]  # the caller's, with the guardian's mark
    part_env: Mapping[str, Mapping[str, str]]  # by the name of a part, over everything else
    commands: Commands

    def run_dir(self, name: str) -> Path:
        """Small files of one replica, its lease among them."""
        return self.directory / "run" / name

    def url(self, name: str) -> str:
        """The address of one replica."""
        return f"http://127.0.0.1:{getattr(self.ports, name)}"


def notes(env: Mapping[str, str]) -> list[str]:
    """A sentence for each setting of the caller that a pair on one machine cannot honour."""
    return [
        f"{name} is not used here: two replicas on one machine cannot share a port"
        for name in ("METRICS_PORT", "HEALTHCHECK_PORT")
        if env.get(name)
    ]


def common_env(env: Mapping[str, str]) -> dict[str, str]:
    """The caller's environment for all children: without what the launcher itself decides, file names made absolute."""
    kept = {
        name: value for name, value in env.items() if not _REPLACED.fullmatch(name) and not _FOR_ONE.fullmatch(name)
    }
    for name, value in kept.items():
        if name.endswith("_FILE") and value:
            kept[name] = os.path.abspath(value)  # children work in directories of their own
    # gRPC would go to a proxy even for this machine's own etcd.
    direct = ",".join(filter(None, (env.get("no_proxy") or env.get("NO_PROXY"), "127.0.0.1,localhost")))
    return kept | {"no_proxy": direct, "NO_PROXY": direct}


def for_one(env: Mapping[str, str], replica: str) -> dict[str, str]:
    """Settings for one replica only: `FAILPOINTS_a=…` is `FAILPOINTS=…` for a."""
    found = ((_FOR_ONE.fullmatch(name), value) for name, value in env.items())
    return {match[1]: value for match, value in found if match and match[2] == replica}


def replica_env(layout: Layout, name: str) -> dict[str, str]:
    """The environment of `adapter run` for one replica."""
    directory = layout.directory
    decided = {
        "REPLICA_NAME": name,
        "HTTP_HOST": "127.0.0.1",
        "HTTP_PORT": str(getattr(layout.ports, name)),
        "ADVERTISE_URL": layout.url(name),
        "DATABASE_URL": layout.urls.adapter,
        "ETCD_ENDPOINTS": f"127.0.0.1:{layout.ports.etcd}",
        "TWS_HOST": "127.0.0.1",
        "TWS_PORT": str(layout.ports.gateway),
        "TWS_GATEWAY_ID": GATEWAY_ID,
        "TRADING_MODE": "paper",
        "RUN_DIR": str(layout.run_dir(name)),
        "LOG_FILE": str(directory / "log" / f"{name}.log"),
        "ONE_MACHINE": "true",
    }
    # stderr goes to NAME.out, beside the whole log: what a replica that cannot start says last is shown from there
    offered = {"CLUSTER_NAME": CLUSTER, "TWS_CLIENT_ID": "17", "LOG_LEVEL": "INFO", "LOG_STDERR": "WARNING"}
    own = {**for_one(layout.env, name), **layout.part_env.get(name, {})}
    return {**offered, **common_env(layout.env), **decided, **own}


def replica_spec(layout: Layout, name: str) -> Spec:
    """How to start one replica. It works in its run directory: a `.env` beside the caller is a production replica's."""
    env = replica_env(layout, name)
    return Spec(name, layout.commands.replica, env, layout.run_dir(name), layout.directory / "log" / f"{name}.out")


def migrate_spec(layout: Layout) -> Spec:
    """How to bring the database to the code's schema; knows the gateway's identity and both roles' URLs."""
    env = replica_env(layout, "a") | {"MIGRATE_DATABASE_URL": layout.urls.owner}
    env.pop("FAILPOINTS", None)
    env.pop("LOG_FILE")
    return Spec(
        "migrate", layout.commands.migrate, env, layout.directory / "run", layout.directory / "log" / "migrate.log"
    )


def release_spec(layout: Layout) -> Spec:
    """How to start the process that gives a dead replica's lease back."""
    env = replica_env(layout, "a")
    env.pop("FAILPOINTS", None)
    env.pop("LOG_FILE")
    env |= layout.part_env.get("release", {})
    log = layout.directory / "log" / "release.log"
    return Spec("release", layout.commands.release, env, layout.directory / "run", log, feeds=True, answers=True)


def gateway_spec(layout: Layout) -> Spec:
    """How to start the stand-in gateway."""
    place, ports = layout.directory / "gateway", layout.ports
    flags = {"--host": "127.0.0.1", "--port": str(ports.gateway), "--control-port": str(ports.control)}
    flags |= {"--journal": str(place / "journal.jsonl")}
    argv = (*layout.commands.gateway, *(word for flag in flags.items() for word in flag))
    env = {**common_env(layout.env), **layout.part_env.get("gateway", {})}
    return Spec("gateway", argv, env, place, layout.directory / "log" / "gateway.log")
