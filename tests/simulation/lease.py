"""The lease port over the simulated etcd: the event loop's side, and what it may ask of the renewing thread (`keeper.py`)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

from ha.etcd_calls import Condition, Field
from ha.etcd_members import EtcdError
from ha.etcd_sight import Sight
from ha.lease import (
    EtcdContact,
    Gone,
    Grant,
    Held,
    LeaderRecord,
    LeaderSeen,
    LeaseTiming,
    Lost,
    OnChange,
    OnOutcome,
    OnStall,
    Outcome,
    Refused,
    StateSeen,
    Stored,
    Unknown,
)
from tests.simulation.etcd_calls import Calls
from tests.simulation.keeper import Claim, Holding, Keeper
from tests.simulation.loop import Owner
from tests.simulation.world import Link, World

T = TypeVar("T")
TICK = 0.1


class SimLease:
    """One replica's lease. `loop_owner` is its event loop, `thread` its renewing thread."""

    def __init__(self, world: World, link: Link, loop_owner: Owner, thread: Owner, timing: LeaseTiming) -> None:
        self.on_outcome: OnOutcome | None = None
        self.on_change: OnChange | None = None
        self.on_stall: OnStall | None = None
        self._world, self._link, self._owner, self._thread, self.timing = world, link, loop_owner, thread, timing
        self._etcd, self._key = world.etcd, world.etcd.leader_key
        self._calls = Calls(world, link, timing)
        sight = Sight(lambda state: self._on_loop(self._tell_change, state))
        self._keeper = Keeper(
            self._calls, sight, lambda outcome: self._on_loop(self._tell_outcome, outcome), self.loop_stalled_for
        )
        self._running = False
        self._ticked_at = 0.0
        self._ended: asyncio.Future[None] | None = None

    @property
    def holding(self) -> Holding | None:
        """What is held, for the supervisor that gives a dead process's lease back."""
        return self._keeper.holding

    # ---- the port

    async def start(self) -> None:
        """See LeasePort."""
        loop = self._world.loop
        self._running, self._ticked_at = True, loop.time()
        self._tick()
        self._etcd.watchers.append(self._watched)
        ended = self._ended = loop.create_future()

        async def keep() -> None:
            await self._keeper.run()
            self._on_loop(lambda: ended.done() or ended.set_result(None))

        self._keeping = loop.create_task(keep(), name="keeper", context=self._thread.context.copy())

    async def stop(self) -> None:
        """See LeasePort."""
        if not self._running or self._ended is None:
            return
        self._keeper.forsake()
        self._keeper.submit(self._keeper.stop)
        await self._ended
        self._running = False
        self._etcd.watchers.remove(self._watched)

    async def read(self) -> LeaderSeen | Unknown:
        """See LeasePort."""
        return await self._ask(lambda: self._asked(self._keeper.look))

    async def campaign(self, record: LeaderRecord) -> Grant | Lost | Unknown:
        """See LeasePort."""
        return await self._ask(lambda: self._win(record, [Condition(Field.CREATED, self._key, 0)], 0))

    async def take_over(self, expected: LeaderSeen, record: LeaderRecord) -> Grant | Lost | Unknown:
        """See LeasePort."""
        if not expected.taken:
            return Unknown("there is no key to take over; campaign for it")
        same = [
            Condition(Field.LEASE, self._key, expected.lease_id),
            Condition(Field.CREATED, self._key, expected.create_revision),
        ]
        return await self._ask(lambda: self._win(record, same, expected.lease_id))

    async def announce(self, record: LeaderRecord) -> Outcome:
        """See LeasePort."""
        return await self._ask(lambda: self._announce(record))

    async def verify(self) -> Outcome:
        """See LeasePort."""
        return await self._ask(self._verify)

    async def release(self) -> Gone | Unknown:
        """See LeasePort."""
        self._keeper.forsake()
        return await self._ask(self._release)

    async def get_state(self, key: str) -> StateSeen | Unknown:
        """See LeasePort."""
        return await self._ask(lambda: self._asked(lambda limit: self._calls.call(limit, lambda: self._etcd.get(key))))

    async def put_state(
        self, key: str, value: str, *, expect: int | None = None, fenced: bool = True
    ) -> Stored | Refused | Unknown:
        """See LeasePort."""
        return await self._ask(lambda: self._put_state(key, value, expect, fenced))

    def trust_left(self, now: float) -> float:
        """See LeasePort."""
        holding = self._keeper.held()
        return 0.0 if holding is None else max(0.0, holding.trusted_until - now)

    def loop_stalled_for(self, now: float) -> float:
        """See LeasePort."""
        return max(0.0, now - self._ticked_at)

    def contact(self) -> EtcdContact:
        """See LeasePort."""
        calls = self._calls
        return EtcdContact(3, calls.rotation.current, self._keeper.answered_at, calls.problem, calls.seen_at)

    # ---- the loop's side

    def _tick(self) -> None:
        now = self._world.loop.time()
        gap, self._ticked_at = now - self._ticked_at, now
        if gap > self.timing.loop_allowance:
            self._keeper.give_up(f"the event loop stood still for {gap:.2f} s")
            if self.on_stall is not None:
                self.on_stall(gap)
        if self._running:
            self._world.loop.call_later(TICK, self._tick, context=self._owner.context)

    def _on_loop(self, call: Callable[..., object], *arguments: Any) -> None:
        self._world.loop.call_soon(call, *arguments, context=self._owner.context)

    def _tell_outcome(self, outcome: Outcome) -> None:
        if self._running and self.on_outcome is not None:
            self.on_outcome(outcome)

    def _tell_change(self, state: LeaderSeen) -> None:
        if self._running and self.on_change is not None:
            self.on_change(state)

    def _watched(self, state: LeaderSeen) -> None:
        """A watch tells of a change, on the renewing thread; while the way is cut it does not."""

        def arrive() -> None:
            self._keeper.sight.event(state)
            holding = self._keeper.holding
            if holding is not None and state.lease_id != holding.lease_id:
                self._keeper.read_soon()

        if not self._etcd.away:
            seconds, loop = self._world.fate.etcd.draw(self._world.chance), self._world.loop
            self._link.back.send(lambda: loop.call_soon(arrive, context=self._thread.context), seconds, keep=False)

    async def _ask(self, command: Callable[[], Awaitable[T]]) -> T:
        future: asyncio.Future[T] = self._world.loop.create_future()

        async def run() -> None:
            if not future.cancelled():
                self._on_loop(deliver, await command())

        def deliver(result: T) -> None:
            if future.cancelled():
                self._give_back(result)
            else:
                future.set_result(result)

        self._keeper.submit(run)
        try:
            return await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled():
                self._give_back(future.result())
            raise

    def _give_back(self, result: object) -> None:
        """What was won for a caller that was cancelled meanwhile."""
        if not isinstance(result, Grant):
            return
        lease_id = result.lease_id

        async def release() -> None:
            holding = self._keeper.holding
            if holding is not None and holding.lease_id == lease_id:
                await self._keeper.release(holding, self.timing.ttl)

        self._keeper.submit(release)

    # ---- commands, on the renewing thread

    async def _asked(self, call: Callable[[float], Awaitable[T]]) -> T | Unknown:
        try:
            if self._keeper.held() is not None:
                return await call(self.timing.call_limit)
            return await self._calls.repeat(call, self._calls.clock() + self.timing.ttl)
        except EtcdError as error:
            return Unknown(error.reason)

    async def _win(self, record: LeaderRecord, conditions: Sequence[Condition], silent: int) -> Grant | Lost | Unknown:
        keeper = self._keeper
        if keeper.held() is not None:
            return Unknown("the lease is held already; release it first")
        if keeper.holding is not None:
            await keeper.release(keeper.holding, self.timing.call_limit)
        answer = await Claim(self._calls, self._world.chance.getrandbits(62) + 1).win(record, conditions)
        if isinstance(answer, Grant):
            if silent:
                await self._calls.revoke(silent, 2 * self.timing.call_limit)
            keeper.holding = Holding(answer.lease_id, answer.create_revision, answer.ttl, answer.trusted_until)
            keeper.beat_now()
        elif isinstance(answer, Lost):
            keeper.sight.event(answer.seen)
        return answer

    async def _verify(self) -> Outcome:
        holding, calls = self._keeper.held(), self._calls
        if holding is None:
            return Gone("nothing is held")
        deadline = max(holding.trusted_until, calls.clock() + self.timing.call_limit)
        while isinstance(outcome := await self._keeper.renew(holding), Unknown):
            if calls.rotation.pause() > 0 or calls.clock() >= deadline:
                break
        return outcome

    async def _release(self) -> Gone | Unknown:
        holding = self._keeper.holding
        return await self._keeper.release(holding, self.timing.ttl) if holding else Gone("nothing is held")

    async def _announce(self, record: LeaderRecord) -> Outcome:
        holding = self._keeper.held()
        if holding is None:
            return Gone("nothing is held")
        text, carries = record.under(holding.lease_id).to_text(), self._carries(holding)

        def put(limit: float) -> Any:
            return self._calls.call(limit, lambda: self._etcd.put_if(carries, self._key, text, holding.lease_id))

        answer = await self._asked(put)
        if isinstance(answer, Unknown):
            return answer
        self._keeper.beat_now()
        if answer.done:
            return Held(holding.lease_id, holding.ttl, holding.trusted_until)
        return Gone("the leader key does not carry our lease any more")

    async def _put_state(self, key: str, value: str, expect: int | None, fenced: bool) -> Stored | Refused | Unknown:
        conditions: list[Condition] = []
        if fenced:
            if (holding := self._keeper.held()) is None:
                return Refused("we do not hold the leader key")
            conditions += self._carries(holding)
        if expect is not None:
            conditions.append(Condition(Field.CHANGED, key, expect))
        try:
            answer = await self._calls.call(
                self.timing.call_limit, lambda: self._etcd.put_if(conditions, key, value, 0)
            )
        except EtcdError as error:
            return Unknown(error.reason)
        return Stored(answer.revision) if answer.done else Refused(f"{key} is at another revision, or we do not lead")

    def _carries(self, holding: Holding) -> list[Condition]:
        return [
            Condition(Field.LEASE, self._key, holding.lease_id),
            Condition(Field.CREATED, self._key, holding.created),
        ]
