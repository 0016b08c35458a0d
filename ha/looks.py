"""Fresh snapshots of the broker for operators' words. Words that come together share one: a proof of the link costs about a
second (R6), and whoever has forty orders in doubt has not the time for forty of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from engine.clock import Clock, boottime
from reconcile.snapshot import Snapshot

HOLDS_FOR = 5.0
"""Seconds after its end for which a look is fresh enough to decide on: its first part may be as old at its end. What its session
tells meanwhile stands in the book."""


@dataclass(frozen=True, slots=True)
class Look:
    """A snapshot, and when it was complete (CLOCK_BOOTTIME)."""

    snapshot: Snapshot
    at: float

    def holds(self, session: int | None, now: float) -> bool:
        """Whether to decide on it while `session` is the present one: a look is void once its session has ended (R3)."""
        return self.snapshot.session == session and now - self.at <= HOLDS_FOR


class Looks:
    """Takes one snapshot at a time, by `take`, for all who have asked before it began."""

    def __init__(self, take: Callable[[], Awaitable[Snapshot]], clock: Clock = boottime) -> None:
        self._take, self._clock = take, clock
        self._one_at_a_time = asyncio.Lock()
        self._next: asyncio.Task[Look] | None = None  # has not begun

    async def fresh(self) -> Look:
        """A look that began after this call. Raises what `take` raises; a caller that is cancelled takes it from nobody."""
        if self._next is None:
            self._next = asyncio.create_task(self._taken(), name="a look for operators")
            self._next.add_done_callback(_retrieved)
        return await asyncio.shield(self._next)

    async def _taken(self) -> Look:
        async with self._one_at_a_time:
            self._next = None  # whoever asks from here on gets a later one
            return Look(await self._take(), self._clock())


def _retrieved(done: asyncio.Task[Look]) -> None:
    """Nobody may be left to hear of an exception."""
    if not done.cancelled():
        done.exception()
