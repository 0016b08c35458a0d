"""Calls on the simulated etcd: one attempt at a time, each bounded, each answered, refused or lost."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from ha.etcd_members import EtcdError, Rotation, Verdict
from ha.lease import Gone, LeaseTiming, Unknown
from tests.simulation.etcd import Etcd
from tests.simulation.world import Link, World

T = TypeVar("T")


class Calls:
    """What one replica's renewing thread does on etcd. `seen_at` is when it last came round."""

    def __init__(self, world: World, link: Link, timing: LeaseTiming) -> None:
        self._world, self._link, self.timing = world, link, timing
        self.etcd: Etcd = world.etcd
        self.rotation = Rotation(("e1", "e2", "e3"), timing.poll_every)
        self.problem: str | None = None
        self.seen_at = 0.0

    def clock(self) -> float:
        """The time; also the sign that the thread comes round."""
        self.seen_at = self._world.loop.time()
        return self.seen_at

    async def call(self, limit: float, work: Callable[[], T]) -> T:
        """One attempt at one member. Raises EtcdError."""
        world, answer = self._world, self._world.loop.create_future()

        def arrive() -> None:
            if self.etcd.away:
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
            async with asyncio.timeout(max(limit, 0.005)):
                result = await answer
        except TimeoutError:
            self.problem = f"{self.rotation.current}: no answer"
            self.rotation.leave()
            raise EtcdError(Verdict.LEAVE, self.problem) from None
        self.rotation.answered()
        if isinstance(result, EtcdError):
            raise result
        self.problem = None
        return result  # type: ignore[no-any-return]

    async def repeat(self, call: Callable[[float], Awaitable[T]], deadline: float) -> T:
        """`ha.etcd_calls.repeat`, awaited."""
        while True:
            try:
                return await call(min(self.timing.call_limit, deadline - self.clock()))
            except EtcdError as error:
                again = error.verdict in (Verdict.LEAVE, Verdict.TOKEN)
                if not again or self.rotation.pause() > 0 or self.clock() >= deadline:
                    raise

    async def revoke(self, lease_id: int, within: float) -> Gone | Unknown:
        """`ha.etcd_claim.revoke`, awaited."""
        try:
            await self.repeat(lambda limit: self.call(limit, lambda: self.etcd.revoke(lease_id)), self.clock() + within)
        except EtcdError as error:
            return Gone("there was no such lease") if error.verdict is Verdict.NO_LEASE else Unknown(error.reason)
        return Gone("released")
