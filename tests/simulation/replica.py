"""A replica: its host, its links, and one process after the other, each built by the product's own composition root."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import cache
from typing import Any

import ha.main
from ha.config import Settings, load_settings
from ha.node import Node
from ha.role import HAS_EPOCH, State
from tests.simulation.broker import SimBroker
from tests.simulation.connection import SimConnection
from tests.simulation.lease import SimLease
from tests.simulation.loop import Owner
from tests.simulation.server import SimServer, make_request
from tests.simulation.world import Link, World

URLS = {"a": "http://a:8080", "b": "http://b:8080"}
RECONCILE_EVERY = 2.0


@cache
def settings_of(name: str, orders_in_memory: int) -> Settings:
    """The settings of a replica: the defaults, except where a run would take long, or memory would never be full."""
    return load_settings(
        {
            "REPLICA_NAME": name, "ADVERTISE_URL": URLS[name], "DATABASE_URL": "postgresql://adapter@sim/adapter",
            "ETCD_ENDPOINTS": "e1:2379,e2:2379,e3:2379", "RECONCILE_EVERY": str(RECONCILE_EVERY), "MAX_INTENT_AGE_LMT": "6",
            "TWS_CLIENT_ID": "17", "ORDERS_IN_MEMORY": str(orders_in_memory),
        }
    )  # fmt: skip


class Process:
    """One life of a replica, from its start to its end."""

    def __init__(self, replica: Replica, life: int) -> None:
        self.replica, self.world, self.name, self.life = replica, replica.world, replica.name, life
        self.gateway_link = replica.gateway_link
        self.owner = Owner(f"{replica.name}{life}")
        self.thread = Owner(f"{replica.name}{life}.keeper")
        self.owner.skew = replica.skew
        self.connections: list[SimConnection] = []
        self.peer_ends: list[Any] = []
        self.broker: SimBroker | None = None
        self.lease: SimLease | None = None
        self.proved_at = float("-inf")  # when the last statement began that was committed under an epoch
        self.proofs = 0
        self.dialled_after = 0  # how many of those there were at the last attempt to connect
        self.on_end: list[Callable[[], None]] = []
        self._frozen: list[tuple[Owner, ...]] = []
        self._when_running: list[Callable[[], None]] = []
        self._parts: Any = None

    @property
    def node(self) -> Node:
        """Its node."""
        return self._parts.node  # type: ignore[no-any-return]

    @property
    def server(self) -> SimServer:
        """Its handlers."""
        return self._parts.server  # type: ignore[no-any-return]

    @property
    def state(self) -> State | None:
        """Where it stands, None when it is dead."""
        return None if self.owner.dead or self._parts is None else self.node.state

    @property
    def runs(self) -> bool:
        """Whether it is alive and not frozen."""
        return not self.owner.dead and not self.owner.frozen

    def start(self) -> None:
        """Build it and let it run."""
        self.world.say(self.name, f"starts (life {self.life})")
        self.world.loop.create_task(self._live(), context=self.owner.context.copy())

    async def _live(self) -> None:
        self.world.living[self.owner] = self
        self._parts = ha.main._build(settings_of(self.name, self.world.orders_in_memory[self.name]), single=False)
        self.world.judge.watch(self)
        await self.node.start()
        self._parts.watch.start()

    async def stop(self) -> None:
        """What the product does when it is told to stop."""
        await self._parts.watch.stop()
        await self.node.stop()

    def inside(self, call: Callable[[], Any]) -> Any:
        """Call something as this process."""
        return self.owner.context.run(call)

    def leads(self) -> bool:
        """Whether it would answer 200 on `/leader` now."""
        if not self.runs or self._parts is None:
            return False
        answer = self.server.handle(make_request("GET", "/leader"))
        try:
            self.inside(lambda: answer.send(None))  # type: ignore[attr-defined]
        except StopIteration as end:
            return bool(end.value.status == 200)
        raise AssertionError("/leader waits for something")

    # ---- what happens to it

    def freeze(self, seconds: float, why: str, *, whole: bool = True) -> None:
        """The process (or with `whole` False its event loop alone) stands still."""
        if self.owner.dead:
            return
        self.world.say(self.name, f"{'freezes' if whole else 'hangs'} for {seconds:.2f} s: {why}")
        owners = (self.owner, self.thread) if whole else (self.owner,)
        for owner in owners:
            owner.frozen += 1
        self._frozen.append(owners)
        self.world.after(seconds, self._thaw, owners)

    def thaw(self) -> None:
        """End all that makes it stand still."""
        for owners in list(self._frozen):
            self._thaw(owners)

    def _thaw(self, owners: tuple[Owner, ...]) -> None:
        if owners not in self._frozen or self.owner.dead:
            return
        self._frozen.remove(owners)
        self.world.say(self.name, "runs again")
        for owner in owners:
            self.world.loop.thaw(owner, self._order)
        if not self.owner.frozen:
            waiting, self._when_running = self._when_running, []
            for call in waiting:
                call()

    def _order(self, held: list[asyncio.Handle]) -> list[asyncio.Handle]:
        """What was ready when it froze, then what came over sockets, then timers; or all as it would have run."""
        if self.world.chance.random() < 0.5:
            return held
        return sorted(held, key=lambda handle: isinstance(handle, asyncio.TimerHandle))

    def when_running(self, call: Callable[[], None]) -> None:
        """Now, or when it thaws; never when it dies before."""
        if self.owner.frozen:
            self._when_running.append(call)
        elif not self.owner.dead:
            call()

    def end(self, *, host_gone: bool) -> None:
        """It dies, where it stands. With its host, nobody is told; else the kernel closes its sockets."""
        if self.owner.dead:
            return
        self.world.graveyard.update(asyncio.all_tasks(self.world.loop))
        self.owner.dead = self.thread.dead = True
        self._when_running.clear()
        if self.broker is not None and self.broker.socket is not None:
            self.broker.socket.close(silently=host_gone)
        for end in [*self.connections, *self.peer_ends] if not host_gone else []:
            end.close_now()
        for tell in self.on_end:
            tell()


class Replica:
    """A host with its links, its supervisor, and the process that runs there now."""

    def __init__(self, world: World, name: str) -> None:
        self.world, self.name = world, name
        self.etcd_link, self.database_link, self.gateway_link = Link(world), Link(world), Link(world)
        self.peer_link = Link(world)
        self.skew = 0.0
        self.host_is_gone = False
        self.process: Process | None = None
        self._lives = 0
        self._stopping = False

    @property
    def links(self) -> tuple[Link, ...]:
        """All its links."""
        return (self.etcd_link, self.database_link, self.gateway_link, self.peer_link)

    @property
    def running(self) -> Process | None:
        """The process, if it is alive."""
        return self.process if self.process is not None and not self.process.owner.dead else None

    @property
    def leads(self) -> bool:
        """Whether its process believes that it has an epoch."""
        return self.running is not None and self.running.state in HAS_EPOCH

    def start(self) -> None:
        """Start a process, unless one runs."""
        if self.running is None:
            self.host_is_gone = False
            self._lives += 1
            self.process = Process(self, self._lives)
            self.process.start()

    def kill(self, *, host_gone: bool, released: bool, down: float) -> None:
        """End the process; its supervisor gives its lease back if `released`, and starts a new one after `down` seconds."""
        process = self.running
        if process is None:
            return
        self.world.say(self.name, f"{'the host is gone' if host_gone else 'is killed'}; back in {down:.2f} s")
        process.end(host_gone=host_gone)
        self.host_is_gone = host_gone
        lease = process.lease
        if released and lease is not None and lease.holding is not None:
            self.world.after(self.world.chance.uniform(0.01, 0.2), self._release, lease.holding.lease_id)
        self.world.after(down, self.start)

    def _release(self, lease_id: int) -> None:
        etcd = self.world.etcd
        if lease_id in etcd.leases and not etcd.away and self.etcd_link.whole:
            self.world.say(self.name, "its supervisor gives its lease back")
            etcd.revoke(lease_id)

    def stop_gracefully(self, down: float) -> None:
        """SIGTERM, and a new process after `down` seconds; what does not end within 5 s is killed."""
        process = self.running
        if process is None or self._stopping:
            return
        self._stopping = True
        self.world.say(self.name, "is told to stop")
        task = self.world.loop.create_task(process.stop(), context=process.owner.context.copy())

        def over() -> None:
            if self._stopping:
                self._stopping = False
                process.end(host_gone=False)
                self.world.after(down, self.start)

        task.add_done_callback(lambda _: over(), context=self.world.context)
        process.on_end.append(over)
        self.world.after(5.0, over)
