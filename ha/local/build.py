"""From a layout to supervised parts: for each, when it is ready and by which signals it ends."""

from __future__ import annotations

import json
import signal
from collections.abc import Coroutine
from dataclasses import replace

from ha.local import etcd
from ha.local.parts import Layout, Part, common_env, gateway_spec, release_spec, replica_spec
from ha.local.postgres import Server
from ha.local.probe import answers
from ha.local.process import Child, Spec
from ha.local.releaser import Releaser
from ha.local.watchdog import Watchdog

# A replica hands over and closes its session first; PostgreSQL's SIGINT is its fast shutdown, SIGQUIT its immediate one.
_REPLICA_STOP = ((signal.SIGTERM, 5.0),)
_STOP = ((signal.SIGTERM, 4.0),)
_POSTGRES_STOP = ((signal.SIGINT, 10.0), (signal.SIGQUIT, 5.0))


def etcd_part(layout: Layout, binary: etcd.Binary) -> Part:
    """etcd, ready when it says that it is healthy."""

    async def ready(_: Child) -> bool:
        return await etcd.ready(layout.ports)

    def spec() -> Spec:
        env = {**common_env(layout.env), **layout.part_env.get("etcd", {})}
        return etcd.spec(binary, layout.directory, layout.ports, env)

    return Part("etcd", spec, ready, _STOP)


def postgres_part(server: Server) -> Part:
    """PostgreSQL, ready by its own word."""

    async def ready(child: Child) -> bool:
        return await server.ready(child.pid)

    # Long, for it may have to recover from a crash first.
    return Part("postgres", server.spec, ready, _POSTGRES_STOP, ready_within=60.0)


def gateway_part(layout: Layout) -> Part:
    """The stand-in gateway, ready when it prints so: its control port may answer before the other one listens."""

    async def ready(child: Child) -> bool:
        return _says_ready(child)

    return Part("gateway", lambda: gateway_spec(layout), ready, _STOP)


def _says_ready(child: Child) -> bool:
    with child.spec.log.open("rb") as log:
        log.seek(child.log_start)
        for line in log:
            if line.startswith(b"{") and line.endswith(b"\n") and _is_ready(line):
                return True
    return False


def _is_ready(line: bytes) -> bool:
    try:
        return bool(json.loads(line).get("ready") is True)
    except ValueError:
        return False


def release_part(layout: Layout, releaser: Releaser) -> Part:
    """The process that gives leases back, ready when it has said so."""

    async def ready(_: Child) -> bool:
        return releaser.ready

    part = Part("release", lambda: release_spec(layout), ready, _STOP)
    part.on_start, part.on_end = releaser.attach, releaser.detach
    return part


def replica_part(layout: Layout, name: str, releaser: Releaser, watchdog: Watchdog | None = None) -> Part:
    """One replica, ready when its event loop answers; its role is not asked here. With `watchdog` it must give signs."""

    async def ready(_: Child) -> bool:
        return await answers(getattr(layout.ports, name), "/livez")

    def spec() -> Spec:
        plain = replica_spec(layout, name)
        return plain if watchdog is None else replace(plain, env={**plain.env, **watchdog.open(plain.env)})

    def ended() -> Coroutine[None, None, None]:
        asked = releaser.ask(layout.run_dir(name))  # asked now, awaited later
        if watchdog is not None:
            watchdog.close()
        return releaser.settled(asked)

    part = Part(name, spec, ready, _REPLICA_STOP)
    part.on_start = None if watchdog is None else watchdog.attach
    part.on_end = ended
    return part
