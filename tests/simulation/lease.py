"""The lease port over the simulated etcd. It keeps the rules of `ha.etcd_keeper`, `ha.etcd_commands` and `ha.etcd_claim`, each step
awaited instead of blocked on: the keeper is its own owner, so that it can live on while the event loop hangs, as a thread does.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from ha.etcd_calls import Condition, Field, PutAnswer
from ha.etcd_members import EtcdError, Rotation, Verdict
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
    trust_until,
)
from tests.simulation.etcd import Etcd
from tests.simulation.loop import Owner
from tests.simulation.world import Link, World

T = TypeVar("T")
TICK = 0.1


@dataclass(slots=True)
class _Holding:
    lease_id: int
    created: int
    ttl: int
    trusted_until: float
    ended: str | None = None
    reported: bool = False
    to_revoke: bool = False


class SimLease:
    """One replica's lease. `loop_owner` is its event loop, `thread` its renewing thread."""

    def __init__(self, world: World, link: Link, loop_owner: Owner, thread: Owner, timing: LeaseTiming) -> None:
        self.on_outcome: OnOutcome | None = None
        self.on_change: OnChange | None = None
        self.on_stall: OnStall | None = None
        self._world, self._link, self._owner, self._thread, self.timing = world, link, loop_owner, thread, timing
        self._etcd: Etcd = world.etcd
        self._key = world.etcd.leader_key
        self._rotation = Rotation(("e1", "e2", "e3"), timing.poll_every)
        self._sight = Sight(lambda state: self._on_loop(self._tell_change, state))
        self._jobs: deque[Callable[[], Awaitable[None]]] = deque()
        self._wake = asyncio.Event()
        self.holding: _Holding | None = None
        self._due = 0.0
        self._running = False
        self._stopping = False
        self._ticked_at = 0.0
        self._seen_at = self._answered_at = 0.0
        self._problem: str | None = None
        self._ended: asyncio.Future[None] | None = None

    # ---- the port

    async def start(self) -> None:
        """See LeasePort."""
        self._running, self._ticked_at = True, self._now()
        self._tick()
        self._etcd.watchers.append(self._watched)
        loop = self._world.loop
        self._ended = loop.create_future()
        self._keeping = loop.create_task(self._keep(), name="keeper", context=self._thread.context.copy())

    async def stop(self) -> None:
        """See LeasePort."""
        if not self._running or self._ended is None:
            return
        self._forsake()
        self._submit(self._stop)
        await self._ended
        self._running = False
        self._etcd.watchers.remove(self._watched)

    async def read(self) -> LeaderSeen | Unknown:
        """See LeasePort."""
        return await self._ask(lambda: self._asked(self._look))

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
        self._forsake()
        return await self._ask(self._release_held)

    async def get_state(self, key: str) -> StateSeen | Unknown:
        """See LeasePort."""
        return await self._ask(lambda: self._asked(lambda limit: self._call(limit, lambda: self._etcd.get(key))))

    async def put_state(
        self, key: str, value: str, *, expect: int | None = None, fenced: bool = True
    ) -> Stored | Refused | Unknown:
        """See LeasePort."""
        return await self._ask(lambda: self._put_state(key, value, expect, fenced))

    def trust_left(self, now: float) -> float:
        """See LeasePort."""
        holding = self.holding
        return 0.0 if holding is None or holding.ended is not None else max(0.0, holding.trusted_until - now)

    def loop_stalled_for(self, now: float) -> float:
        """See LeasePort."""
        return max(0.0, now - self._ticked_at)

    def contact(self) -> EtcdContact:
        """See LeasePort."""
        return EtcdContact(3, self._rotation.current, self._answered_at, self._problem, self._seen_at)

    # ---- the loop's side

    def _now(self) -> float:
        return self._world.loop.time()

    def _tick(self) -> None:
        now = self._now()
        gap, self._ticked_at = now - self._ticked_at, now
        if gap > self.timing.loop_allowance:
            self._give_up(f"the event loop stood still for {gap:.2f} s")
            if self.on_stall is not None:
                self.on_stall(gap)
        if self._running:
            self._world.loop.call_later(TICK, self._tick, context=self._owner.context)

    def _on_loop(self, call: Callable[..., None], *arguments: Any) -> None:
        self._world.loop.call_soon(call, *arguments, context=self._owner.context)

    def _tell_outcome(self, outcome: Outcome) -> None:
        if self._running and self.on_outcome is not None:
            self.on_outcome(outcome)

    def _tell_change(self, state: LeaderSeen) -> None:
        if self._running and self.on_change is not None:
            self.on_change(state)

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

        self._submit(run)
        try:
            return await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled():
                self._give_back(future.result())
            raise

    def _give_back(self, result: object) -> None:
        if isinstance(result, Grant):
            lease_id = result.lease_id
            self._submit(lambda: self._release_if(lease_id))

    async def _release_if(self, lease_id: int) -> None:
        if self.holding is not None and self.holding.lease_id == lease_id:
            await self._release(self.holding, self.timing.ttl)

    def _submit(self, job: Callable[[], Awaitable[None]]) -> None:
        self._jobs.append(job)
        self._wake.set()

    def _give_up(self, reason: str) -> None:
        if self.holding is not None and self.holding.ended is None:
            self.holding.ended = reason
            self._read_soon()

    def _forsake(self) -> None:
        if self.holding is not None:
            self.holding.reported = True
            self.holding.ended = self.holding.ended or "released"

    def _read_soon(self) -> None:
        async def beat_now() -> None:
            self._due = 0.0

        self._submit(beat_now)

    def _watched(self, state: LeaderSeen) -> None:
        """A watch tells of a change, on the keeper's thread; while the way is cut it does not."""

        def arrive() -> None:
            self._sight.event(state)
            if self.holding is not None and state.lease_id != self.holding.lease_id:
                self._read_soon()

        if self._etcd.away:
            return
        seconds = self._world.fate.etcd.draw(self._world.chance)
        loop = self._world.loop
        self._link.back.send(lambda: loop.call_soon(arrive, context=self._thread.context), seconds, keep=False)

    # ---- the thread's side

    def _clock(self) -> float:
        self._seen_at = self._now()
        return self._seen_at

    async def _keep(self) -> None:
        while not self._stopping:
            if (now := self._clock()) >= self._due:
                self._due = await self._beat(now)
            if not self._jobs:
                self._wake.clear()
                try:
                    async with asyncio.timeout(max(0.0, self._due - self._clock())):
                        await self._wake.wait()
                except TimeoutError:
                    continue
            if self._jobs:
                await self._jobs.popleft()()
        if self._ended is not None:
            self._on_loop(lambda ended: ended.done() or ended.set_result(None), self._ended)

    async def _beat(self, now: float) -> float:
        holding = self.holding
        if holding is not None and not holding.reported:
            every = self.timing.renew_every
            answered = isinstance(await self._renew(holding), Held | Gone)
        else:
            every = self.timing.poll_every
            answered = await self._poll(holding)
        return now + every if answered else self._clock() + self._rotation.pause()

    async def _poll(self, holding: _Holding | None) -> bool:
        limit = self.timing.call_limit
        if holding is not None and holding.to_revoke and isinstance(await self._release(holding, limit), Unknown):
            return False
        try:
            await self._look(limit)
        except EtcdError:
            return False
        return True

    async def _stop(self) -> None:
        if self.holding is not None:
            await self._release(self.holding, self.timing.ttl)
        self._stopping = True

    async def _renew(self, holding: _Holding) -> Outcome:
        now = self._clock()
        stalled = self.loop_stalled_for(now)
        if stalled > self.timing.loop_allowance and holding.ended is None:
            holding.ended = f"the event loop stood still for {stalled:.2f} s"
        outcome = await self._attempt(holding, now)
        if isinstance(outcome, Gone):
            holding.ended = holding.ended or outcome.reason
            holding.reported = True
        self._on_loop(self._tell_outcome, outcome)
        return outcome

    async def _attempt(self, holding: _Holding, now: float) -> Outcome:
        if holding.ended is not None:
            return Gone(holding.ended)
        left, limit = holding.trusted_until - now, self.timing.call_limit
        if left > 0:
            limit = max(0.05, min(limit, left))
        try:
            ttl = await self._call(limit, lambda: self._etcd.renew(holding.lease_id))
            if ttl <= 0:
                return Gone("etcd does not know the lease any more")
            state = await self._look(limit - (self._clock() - now))
        except EtcdError as error:
            return Unknown(error.reason)
        if (state.lease_id, state.create_revision) != (holding.lease_id, holding.created):
            return Gone("the leader key carries another lease" if state.taken else "the leader key is gone")
        holding.trusted_until = trust_until(now, ttl, self.timing.margin)
        return Held(holding.lease_id, ttl, holding.trusted_until)

    async def _verify(self) -> Outcome:
        holding = self._held()
        if holding is None:
            return Gone("nothing is held")
        deadline = max(holding.trusted_until, self._clock() + self.timing.call_limit)
        while isinstance(outcome := await self._renew(holding), Unknown):
            if self._rotation.pause() > 0 or self._clock() >= deadline:
                break
        return outcome

    async def _release_held(self) -> Gone | Unknown:
        return await self._release(self.holding, self.timing.ttl) if self.holding else Gone("nothing is held")

    async def _release(self, holding: _Holding, within: float) -> Gone | Unknown:
        holding.ended = holding.ended or "released"
        holding.reported = holding.to_revoke = True
        answer = await self._revoke(holding.lease_id, within)
        if isinstance(answer, Gone) and self.holding is holding:
            self.holding = None
        return answer

    async def _announce(self, record: LeaderRecord) -> Outcome:
        holding = self._held()
        if holding is None:
            return Gone("nothing is held")
        text = record.under(holding.lease_id).to_text()
        answer = await self._asked(
            lambda limit: self._call(
                limit, lambda: self._etcd.put_if(self._carries(holding), self._key, text, holding.lease_id)
            )
        )
        if isinstance(answer, Unknown):
            return answer
        self._due = 0.0
        if answer.done:
            return Held(holding.lease_id, holding.ttl, holding.trusted_until)
        return Gone("the leader key does not carry our lease any more")

    async def _put_state(self, key: str, value: str, expect: int | None, fenced: bool) -> Stored | Refused | Unknown:
        conditions: list[Condition] = []
        if fenced:
            if (holding := self._held()) is None:
                return Refused("we do not hold the leader key")
            conditions += self._carries(holding)
        if expect is not None:
            conditions.append(Condition(Field.CHANGED, key, expect))
        try:
            answer = await self._call(
                self.timing.call_limit, lambda: self._etcd.put_if(conditions or [], key, value, 0)
            )
        except EtcdError as error:
            return Unknown(error.reason)
        return Stored(answer.revision) if answer.done else Refused(f"{key} is at another revision, or we do not lead")

    # ---- how the key is won

    async def _win(self, record: LeaderRecord, conditions: Sequence[Condition], silent: int) -> Grant | Lost | Unknown:
        if self._held() is not None:
            return Unknown("the lease is held already; release it first")
        if self.holding is not None:
            await self._release(self.holding, self.timing.call_limit)
        lease_id = self._world.chance.getrandbits(62) + 1
        answer = await self._attempt_to_win(lease_id, record, conditions)
        if isinstance(answer, Grant):
            if silent:
                await self._revoke(silent, 2 * self.timing.call_limit)
            self.holding = _Holding(answer.lease_id, answer.create_revision, answer.ttl, answer.trusted_until)
            self._due = 0.0
        elif isinstance(answer, Lost):
            self._sight.event(answer.seen)
        return answer

    async def _attempt_to_win(
        self, lease_id: int, record: LeaderRecord, conditions: Sequence[Condition]
    ) -> Grant | Lost | Unknown:
        try:
            began, ttl = await self._grant(lease_id)
        except EtcdError as error:
            return Unknown(f"no lease: {error.reason}")
        text = record.under(lease_id).to_text()
        try:
            answer: PutAnswer = await self._call(
                self.timing.call_limit, lambda: self._etcd.put_if(conditions, self._key, text, lease_id)
            )
        except EtcdError as error:
            return await self._resolve(lease_id, began, ttl, error)
        if answer.found is None:
            created = next(one.number for one in conditions if one.field is Field.CREATED) or answer.revision
            return Grant(lease_id, created, answer.cluster_id, ttl, trust_until(began, ttl, self.timing.margin))
        await self._revoke(lease_id, 2 * self.timing.call_limit)
        return Lost(answer.found)

    async def _grant(self, lease_id: int) -> tuple[float, int]:
        began = self._clock()
        attempt = began

        async def grant(limit: float) -> tuple[float, int]:
            nonlocal attempt
            attempt = self._clock()
            try:
                return attempt, await self._call(limit, lambda: self._etcd.grant(lease_id, self.timing.ttl))
            except EtcdError as error:
                if error.verdict is Verdict.EXISTS:
                    return began, self.timing.ttl
                raise

        return await self._repeat(grant, began + self.timing.ttl)

    async def _resolve(self, lease_id: int, began: float, ttl: int, lost: EtcdError) -> Grant | Lost | Unknown:
        trusted = trust_until(began, ttl, self.timing.margin)
        try:
            found = await self._repeat(lambda limit: self._call(limit, lambda: self._etcd.read(self._key)), trusted)
        except EtcdError as error:
            await self._revoke(lease_id, 2 * self.timing.call_limit)
            return Unknown(f"the answer was lost ({lost.reason}) and so was the reading after it ({error.reason})")
        if found.lease_id == lease_id and self._clock() < trusted:
            return Grant(lease_id, found.create_revision, found.cluster_id, ttl, trusted)
        revoked = await self._revoke(lease_id, 2 * self.timing.call_limit)
        if isinstance(revoked, Gone) and found.taken and found.lease_id != lease_id:
            return Lost(found)
        return Unknown(f"the answer was lost: {lost.reason}")

    async def _revoke(self, lease_id: int, within: float) -> Gone | Unknown:
        try:
            await self._repeat(
                lambda limit: self._call(limit, lambda: self._etcd.revoke(lease_id)), self._clock() + within
            )
        except EtcdError as error:
            return Gone("there was no such lease") if error.verdict is Verdict.NO_LEASE else Unknown(error.reason)
        return Gone("released")

    # ---- calls

    def _held(self) -> _Holding | None:
        return self.holding if self.holding is not None and self.holding.ended is None else None

    def _carries(self, holding: _Holding) -> list[Condition]:
        return [
            Condition(Field.LEASE, self._key, holding.lease_id), Condition(Field.CREATED, self._key, holding.created)
        ]  # fmt: skip

    async def _look(self, limit: float) -> LeaderSeen:
        known_before, began = self._sight.revision, self._clock()
        state = await self._call(limit, lambda: self._etcd.read(self._key))
        self._answered_at = began
        self._sight.read(state, known_before=known_before)
        return state

    async def _asked(self, call: Callable[[float], Awaitable[T]]) -> T | Unknown:
        limit = self.timing.call_limit
        try:
            if self._held() is not None:
                return await call(limit)
            return await self._repeat(call, self._clock() + self.timing.ttl)
        except EtcdError as error:
            return Unknown(error.reason)

    async def _repeat(self, call: Callable[[float], Awaitable[T]], deadline: float) -> T:
        while True:
            try:
                return await call(min(self.timing.call_limit, deadline - self._clock()))
            except EtcdError as error:
                again = error.verdict in (Verdict.LEAVE, Verdict.TOKEN)
                if not again or self._rotation.pause() > 0 or self._clock() >= deadline:
                    raise

    async def _call(self, limit: float, work: Callable[[], T]) -> T:
        """One attempt at one member. Raises EtcdError."""
        world, answer = self._world, self._world.loop.create_future()

        def arrive() -> None:
            if self._etcd.away:
                return
            try:
                result: object = work()
            except EtcdError as error:
                result = error
            self._link.back.send(lambda: reply(result), world.fate.etcd.draw(world.chance), keep=False)

        def reply(result: object) -> None:
            if not answer.done() and not world.maybe(world.fate.lost_reply):
                answer.set_result(result)

        if not world.maybe(world.fate.lost_request):
            self._link.there.send(arrive, world.fate.etcd.draw(world.chance), keep=False)
        try:
            result = await asyncio.wait_for(answer, max(limit, 0.005))
        except TimeoutError:
            self._problem = f"{self._rotation.current}: no answer"
            self._rotation.leave()
            raise EtcdError(Verdict.LEAVE, self._problem) from None
        self._rotation.answered()
        if isinstance(result, EtcdError):
            raise result
        self._problem = None
        return result  # type: ignore[no-any-return]
