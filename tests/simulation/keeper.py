"""The renewing thread over the simulated etcd: `ha.etcd_keeper`, each step awaited instead of blocked on.

It is an owner of its own, so that it can live on while the event loop hangs, as a thread does.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from ha.etcd_calls import Condition, Field, PutAnswer
from ha.etcd_members import EtcdError, Verdict
from ha.etcd_sight import Sight
from ha.lease import (
    Gone,
    Grant,
    Held,
    LeaderRecord,
    LeaderSeen,
    LeaseTiming,
    Lost,
    Outcome,
    Unknown,
    trust_until,
)
from tests.simulation.etcd_calls import Calls

Job = Callable[[], Awaitable[None]]


@dataclass(slots=True)
class Holding:
    """The lease that is ours, as in `ha.etcd_keeper`."""

    lease_id: int
    created: int
    ttl: int
    trusted_until: float
    ended: str | None = None
    reported: bool = False
    to_revoke: bool = False


class Keeper:
    """What is held, and the thread that renews it. `tell` reports an outcome, `stalled` asks how long the loop stood still."""

    def __init__(
        self, calls: Calls, sight: Sight, tell: Callable[[Outcome], None], stalled: Callable[[float], float]
    ) -> None:
        self.calls, self.sight, self._tell, self._stalled = calls, sight, tell, stalled
        self.holding: Holding | None = None
        self.answered_at = 0.0
        self._jobs: deque[Job] = deque()
        self._wake = asyncio.Event()
        self._due = 0.0
        self._stopping = False

    @property
    def timing(self) -> LeaseTiming:
        """The lease's times."""
        return self.calls.timing

    # ---- from the loop

    def submit(self, job: Job) -> None:
        """Have it done on the thread."""
        self._jobs.append(job)
        self._wake.set()

    def give_up(self, reason: str) -> None:
        """Never trust or renew what is held again."""
        if self.holding is not None and self.holding.ended is None:
            self.holding.ended = reason
            self.read_soon()

    def forsake(self) -> None:
        """A release was asked for."""
        if self.holding is not None:
            self.holding.reported = True
            self.holding.ended = self.holding.ended or "released"

    def read_soon(self) -> None:
        """The next beat is due."""

        async def beat_now() -> None:
            self._due = 0.0

        self.submit(beat_now)

    def held(self) -> Holding | None:
        """What is held and not over."""
        return self.holding if self.holding is not None and self.holding.ended is None else None

    # ---- the thread

    async def run(self) -> None:
        """Until `stop` was carried out."""
        while not self._stopping:
            if (now := self.calls.clock()) >= self._due:
                self._due = await self._beat(now)
            if not self._jobs:
                self._wake.clear()
                try:
                    async with asyncio.timeout(max(0.0, self._due - self.calls.clock())):
                        await self._wake.wait()
                except TimeoutError:
                    continue
            if self._jobs:
                await self._jobs.popleft()()

    async def stop(self) -> None:
        """The last job."""
        if self.holding is not None:
            await self.release(self.holding, self.timing.ttl)
        self._stopping = True

    def beat_now(self) -> None:
        """The next beat is due at once."""
        self._due = 0.0

    async def look(self, limit: float) -> LeaderSeen:
        """Read the key. Raises EtcdError."""
        known_before, began = self.sight.revision, self.calls.clock()
        etcd = self.calls.etcd
        state = await self.calls.call(limit, lambda: etcd.read(etcd.leader_key))
        self.answered_at = began
        self.sight.read(state, known_before=known_before)
        return state

    async def renew(self, holding: Holding) -> Outcome:
        """One attempt, and to see that the key carries the lease; reported."""
        now = self.calls.clock()
        stalled = self._stalled(now)
        if stalled > self.timing.loop_allowance and holding.ended is None:
            holding.ended = f"the event loop stood still for {stalled:.2f} s"
        outcome = await self._attempt(holding, now)
        if holding.ended is not None:  # given up by the loop meanwhile
            outcome = Gone(holding.ended)
        if not holding.reported:
            self._tell(outcome)
        if isinstance(outcome, Gone):
            holding.ended, holding.reported = outcome.reason, True
        return outcome

    async def release(self, holding: Holding, within: float) -> Gone | Unknown:
        """Revoke what is held; each beat tries again until that is confirmed."""
        holding.ended = holding.ended or "released"
        holding.reported = holding.to_revoke = True
        answer = await self.calls.revoke(holding.lease_id, within)
        if isinstance(answer, Gone) and self.holding is holding:
            self.holding = None
        return answer

    async def _beat(self, now: float) -> float:
        holding = self.holding
        if holding is not None and not holding.reported:
            every = self.timing.renew_every
            answered = isinstance(await self.renew(holding), Held | Gone)
        else:
            every = self.timing.poll_every
            answered = await self._poll(holding)
        return now + every if answered else self.calls.clock() + self.calls.rotation.pause()

    async def _poll(self, holding: Holding | None) -> bool:
        limit = self.timing.call_limit
        if holding is not None and holding.to_revoke and isinstance(await self.release(holding, limit), Unknown):
            return False
        try:
            await self.look(limit)
        except EtcdError:
            return False
        return True

    async def _attempt(self, holding: Holding, now: float) -> Outcome:
        if holding.ended is not None:
            return Gone(holding.ended)
        left, limit = holding.trusted_until - now, self.timing.call_limit
        if left > 0:
            limit = max(0.05, min(limit, left))
        try:
            ttl = await self.calls.call(limit, lambda: self.calls.etcd.renew(holding.lease_id))
            if ttl <= 0:
                return Gone("etcd does not know the lease any more")
            state = await self.look(limit - (self.calls.clock() - now))
        except EtcdError as error:
            return Unknown(error.reason)
        if (state.lease_id, state.create_revision) != (holding.lease_id, holding.created):
            return Gone("the leader key carries another lease" if state.taken else "the leader key is gone")
        holding.trusted_until = trust_until(now, ttl, self.timing.margin)
        return Held(holding.lease_id, ttl, holding.trusted_until)


class Claim:
    """`ha.etcd_claim.Claim`, awaited: how the key is won, and what is done when an answer is lost."""

    def __init__(self, calls: Calls, lease_id: int) -> None:
        self._calls, self._lease_id, self._timing = calls, lease_id, calls.timing

    async def win(self, record: LeaderRecord, conditions: Sequence[Condition]) -> Grant | Lost | Unknown:
        """One attempt under the conditions."""
        calls, etcd = self._calls, self._calls.etcd
        try:
            began, ttl = await self._grant()
        except EtcdError as error:
            return Unknown(f"no lease: {error.reason}")
        text = record.under(self._lease_id).to_text()
        try:
            answer: PutAnswer = await calls.call(
                self._timing.call_limit, lambda: etcd.put_if(conditions, etcd.leader_key, text, self._lease_id)
            )
        except EtcdError as error:
            return await self._resolve(began, ttl, error)
        if answer.found is None:
            created = next(one.number for one in conditions if one.field is Field.CREATED) or answer.revision
            trusted = trust_until(began, ttl, self._timing.margin)
            return Grant(self._lease_id, created, answer.cluster_id, ttl, trusted)
        await calls.revoke(self._lease_id, 2 * self._timing.call_limit)
        return Lost(answer.found)

    async def _grant(self) -> tuple[float, int]:
        began = self._calls.clock()

        async def grant(limit: float) -> tuple[float, int]:
            attempt, etcd = self._calls.clock(), self._calls.etcd
            try:
                return attempt, await self._calls.call(limit, lambda: etcd.grant(self._lease_id, self._timing.ttl))
            except EtcdError as error:
                if error.verdict is Verdict.EXISTS:
                    return began, self._timing.ttl
                raise

        return await self._calls.repeat(grant, began + self._timing.ttl)

    async def _resolve(self, began: float, ttl: int, lost: EtcdError) -> Grant | Lost | Unknown:
        calls, etcd = self._calls, self._calls.etcd
        trusted = trust_until(began, ttl, self._timing.margin)
        try:
            found = await calls.repeat(lambda limit: calls.call(limit, lambda: etcd.read(etcd.leader_key)), trusted)
        except EtcdError as error:
            await calls.revoke(self._lease_id, 2 * self._timing.call_limit)
            return Unknown(f"the answer was lost ({lost.reason}) and so was the reading after it ({error.reason})")
        if found.lease_id == self._lease_id and calls.clock() < trusted:
            return Grant(self._lease_id, found.create_revision, found.cluster_id, ttl, trusted)
        revoked = await calls.revoke(self._lease_id, 2 * self._timing.call_limit)
        if isinstance(revoked, Gone) and found.taken and found.lease_id != self._lease_id:
            return Lost(found)
        return Unknown(f"the answer was lost: {lost.reason}")
