"""Where the product meets the world: for one run, each of its doors (clock, database, etcd, broker, HTTP, chance) leads into the
simulation. Nothing between the doors is replaced.
"""

from __future__ import annotations

import asyncio
import random
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

from loguru import logger

import engine.clock
import engine.failpoint
import engine.metrics
import engine.reference
import engine.store
import ha.from_settings
import ha.link
import ha.main
import ha.outage
import ha.tend
from engine.broker import Sink
from ha.config import Settings
from ha.fence import Dropped, NothingKnown, Outcome
from ha.gateway_probe import Answers, Silent
from ha.lease import LeaseTiming
from tests.simulation.broker import SimBroker
from tests.simulation.connection import SimConnection
from tests.simulation.lease import SimLease
from tests.simulation.loop import OWNER, Killed
from tests.simulation.peer import SimAiohttp
from tests.simulation.replica import Process
from tests.simulation.server import SimServer
from tests.simulation.world import World

WHOLE_EVERY = 6.0
"""Seconds between reconciliations that ask for the whole day: what only those find must be found before a run ends."""
ROOMS = ("engine.", "ha.", "reconcile.")


class SimFence:
    """The fence agent of one process: waits, or has the relay drop the holder of the id."""

    def __init__(self, world: World, process: Process) -> None:
        self._world, self._process = world, process

    async def drop_old_session(self, **_: Any) -> Outcome:
        """See FenceAgent."""
        world, process = self._world, self._process
        if world.relay and process.gateway_link.whole:
            done: asyncio.Future[None] = world.loop.create_future()

            def dropped() -> None:
                world.gateway.drop(client_id_of(process))
                world.after(0.002, lambda: done.done() or done.set_result(None))

            world.after(world.fate.gateway.draw(world.chance), dropped)
            await done
            return Dropped()
        await asyncio.sleep(0.1)
        return NothingKnown("it looks at nothing")


def client_id_of(process: Process) -> int:
    """The clientId under which a process dials."""
    return process.broker.client_id if process.broker is not None else 0


def _here(world: World) -> Process:
    owner = OWNER.get()
    assert owner is not None, "a door was opened in nobody's process"
    return world.living[owner]


@contextmanager
def doors(world: World) -> Iterator[None]:
    """Open all doors into this world; the loop's context variables say whose process is asking."""

    def connection(_url: str, name: str) -> SimConnection:
        process = _here(world)
        made = SimConnection(world, process, name)
        process.connections.append(made)
        return made

    def broker(_host: str, _port: int, client_id: int, sink: Sink, **_: Any) -> SimBroker:
        process = _here(world)
        own = ord(process.name) if world.own_client_ids else 0
        process.broker = SimBroker(world, process, client_id + own, sink)
        return process.broker

    def lease(settings: Settings, **_: Any) -> SimLease:
        process = _here(world)
        timing = LeaseTiming(
            settings.lease_ttl, settings.lease_margin, settings.lease_renew_every, settings.loop_allowance
        )
        process.lease = SimLease(world, process.replica.etcd_link, process.owner, process.thread, timing)
        return process.lease

    async def probe(_host: str, _port: int, deadline: float, **_: Any) -> Answers | Silent:
        process = _here(world)
        await asyncio.sleep(world.fate.gateway.draw(world.chance))
        if world.gateway.up and process.gateway_link.whole:
            return Answers(178)
        await asyncio.sleep(0.0 if process.gateway_link.whole else deadline)
        return Silent("no answer")

    def hit(point: str) -> None:
        if world.maybe(world.fate.die_at_point):
            process = _here(world)
            world.say(process.name, f"dies at {point}")
            process.replica.kill(
                host_gone=False, released=world.chance.random() < 0.5, down=world.chance.uniform(0.1, 2.0)
            )
            raise Killed(point)

    clock = SimpleNamespace(CLOCK_BOOTTIME=0, clock_gettime=lambda _: world.loop.time(), monotonic=world.loop.time)
    wall = SimpleNamespace(now=lambda _zone: world.wall(), fromisoformat=datetime.fromisoformat)
    names = SimpleNamespace(uuid4=lambda: uuid.UUID(int=world.chance.getrandbits(128)))
    dice = SimpleNamespace(urandom=lambda count: world.chance.getrandbits(8 * count).to_bytes(count, "big"))
    swaps: list[tuple[Any, str, Any]] = [
        (engine.clock, "time", clock),
        (engine.clock, "datetime", wall),
        (engine.reference, "os", dice),
        (engine.failpoint, "_hit", hit),
        (ha.main, "uuid", names),
        (ha.main, "version", lambda _: "simulated"),
        (ha.main, "IbBroker", broker),
        (ha.main, "Server", SimServer),
        (ha.from_settings, "fence_agent", lambda _settings: SimFence(world, _here(world))),
        (ha.from_settings, "lease", lease),
        (ha.outage, "probe", probe),
        (ha.tend, "WHOLE_EVERY", WHOLE_EVERY),
        (ha.tend, "WHOLE_SHARE", 1.0),
        (ha.link, "aiohttp", SimAiohttp(lambda: _here(world))),
        (engine.metrics, "ProcessCollector", _no_figures),
        (engine.metrics, "PlatformCollector", _no_figures),
    ]
    swaps += [(module, "Connection", connection) for module in _users_of("Connection", engine.store.Connection)]
    state = random.getstate()
    random.seed(world.seed)
    core: Any = logger._core  # type: ignore[attr-defined]
    listeners = core.handlers, core.min_level
    core.handlers, core.min_level = {}, float("inf")
    handle = logger.add(_listen(world), level="TRACE" if world.trace is not None else "ERROR", format="{message}")
    patches = [patch.object(module, name, new) for module, name, new in swaps]
    try:
        for one in patches:
            one.start()
        yield
    finally:
        for one in patches:
            one.stop()
        logger.remove(handle)
        core.handlers, core.min_level = listeners
        random.setstate(state)


def _no_figures(**_: Any) -> None:
    """Nobody asks a simulated process for its memory."""


def _users_of(name: str, value: object) -> list[Any]:
    modules = [module for at, module in sorted(sys.modules.items()) if at.startswith(ROOMS)]
    return [module for module in modules if getattr(module, name, None) is value and module is not engine.store]


def _listen(world: World) -> Callable[[Any], None]:
    def listen(message: Any) -> None:
        owner = OWNER.get(None)
        record = message.record
        name = owner.name if owner is not None else "-"
        world.say(name, f"{record['level'].name.lower()}: {record['message']}")
        if record["level"].no >= 40:
            world.judge.heard(name, record["message"], record["exception"])

    return listen
