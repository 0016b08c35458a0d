"""One run: virtual time, one source of chance, the services, the two replicas, and what happened (the trace)."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine
from contextvars import Context
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from tests.simulation.loop import OWNER, START, VirtualLoop

if TYPE_CHECKING:
    from tests.simulation.database import Database
    from tests.simulation.etcd import Etcd
    from tests.simulation.gateway import Gateway
    from tests.simulation.judge import Judge
    from tests.simulation.loop import Owner
    from tests.simulation.replica import Process, Replica

DAY = datetime(2026, 3, 2, 14, 30, tzinfo=UTC)


class Violation(AssertionError):
    """A guarantee does not hold in this run; the text says which and how."""


@dataclass(slots=True)
class Slowness:
    """How long a message takes: about `usual` seconds, and now and then up to `most`."""

    usual: float
    often: float = 0.0  # probability of a long one
    most: float = 0.0

    def draw(self, chance: random.Random) -> float:
        """One message's seconds."""
        seconds = self.usual * (0.5 + chance.random())
        if self.often and chance.random() < self.often:
            seconds += self.most * chance.random()
        return seconds


@dataclass(slots=True)
class Fate:
    """What may happen by chance at any call, while there are faults. Drawn once for a run; `calm` ends it."""

    etcd: Slowness = field(default_factory=lambda: Slowness(0.002))
    database: Slowness = field(default_factory=lambda: Slowness(0.0008))
    commit: Slowness = field(default_factory=lambda: Slowness(0.0006))
    gateway: Slowness = field(default_factory=lambda: Slowness(0.002))
    market: Slowness = field(default_factory=lambda: Slowness(0.02, 0.5, 2.0))
    lost_request: float = 0.0
    lost_reply: float = 0.0
    hold_inside: float = 0.0
    drop_acks: float = 0.0
    repeat: float = 0.0  # the gateway says things twice, or in another order
    reject: float = 0.02
    unanswered: float = 0.0  # an End that never comes
    die_at_point: float = 0.0
    freeze_before_write: float = 0.0
    freeze_at_commit: float = 0.0

    def calm(self) -> None:
        """From now on nothing goes wrong by chance."""
        for slowness in (self.etcd, self.database, self.commit, self.gateway):
            slowness.often = 0.0
        self.market.most = min(self.market.most, 0.5)
        self.lost_request = self.lost_reply = self.hold_inside = self.drop_acks = self.repeat = 0.0
        self.unanswered = self.die_at_point = self.freeze_before_write = self.freeze_at_commit = 0.0


class Way:
    """One direction between a replica and a service. Cut, it keeps what was sent until it is mended, or loses it."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.cut = False
        self._kept: list[Callable[[], None]] = []

    def send(self, arrive: Callable[[], None], seconds: float, *, keep: bool = True) -> None:
        """Have `arrive` called after `seconds`, or when the way is mended; without `keep` a cut way loses it."""

        def there() -> None:
            if not self.cut:
                arrive()
            elif keep:
                self._kept.append(there)

        if not self.cut:
            self._world.after(seconds, there)
        elif keep:
            self._kept.append(there)

    def mend(self) -> None:
        """What was kept arrives now, in its order."""
        self.cut = False
        kept, self._kept = self._kept, []
        for there in kept:
            there()


class Link:
    """Both directions between a replica and a service."""

    def __init__(self, world: World) -> None:
        self.there, self.back = Way(world), Way(world)

    def cut(self, *, there: bool = True, back: bool = True) -> None:
        """Cut one direction or both."""
        self.there.cut |= there
        self.back.cut |= back

    def mend(self) -> None:
        """Both directions carry again."""
        self.there.mend()
        self.back.mend()

    @property
    def whole(self) -> bool:
        """Whether both directions carry."""
        return not self.there.cut and not self.back.cut


class World:
    """Everything of one run."""

    etcd: Etcd
    database: Database
    gateway: Gateway
    judge: Judge

    def __init__(self, seed: int, *, trace: bool) -> None:
        self.seed, self.chance = seed, random.Random(seed)
        few = seed % 3 == 0  # with three or five, most that ended has left memory, and each term names its own bound
        self.orders_in_memory = {"a": 3, "b": 5} if few else {"a": 20_000, "b": 20_000}
        self.loop = VirtualLoop()
        self.context = Context()
        self.fate = Fate()
        self.replicas: dict[str, Replica] = {}
        self.trace: list[str] | None = [] if trace else None
        self.living: dict[Owner, Process] = {}
        self.graveyard: set[asyncio.Task[Any]] = set()  # tasks of the dead, kept so that nobody collects them
        self.own_client_ids = False  # a mutation: each replica dials under an id of its own
        self.relay = True  # whether the fence agent can have the relay drop a session

    @property
    def now(self) -> float:
        """Virtual seconds since the beginning."""
        return self.loop.time() - START

    def wall(self) -> datetime:
        """The wall clock of whoever asks."""
        owner = OWNER.get(None)
        return DAY + timedelta(seconds=self.loop.time() - START + (owner.skew if owner is not None else 0.0))

    def after(self, seconds: float, call: Callable[..., object], *arguments: Any) -> asyncio.TimerHandle:
        """Call later, in nobody's process."""
        return self.loop.call_later(seconds, call, *arguments, context=self.context)

    def spawn(self, work: Coroutine[Any, Any, Any], name: str | None = None) -> asyncio.Task[Any]:
        """Run in nobody's process."""
        return self.loop.create_task(work, name=name, context=self.context.copy())

    def say(self, who: str, what: str) -> None:
        """One line of the trace."""
        if self.trace is not None:
            self.trace.append(f"{self.now:9.4f}  {who:<10} {what}")

    def maybe(self, probability: float) -> bool:
        """Whether something of this probability happens now."""
        return probability > 0 and self.chance.random() < probability
