"""A gateway that only one replica can reach: the leader hands over to the other one, once per outage (R17).

The standby probes only while the leader says that it finds no gateway, by a handshake that takes no clientId. A mute gateway
answers neither better than the other, and a pair that swapped for ever would help nobody, so each outage buys one hand-over.

That a dial of ours found no gateway stands in the log, so that whoever opens the next session knows it too (R1).
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from loguru import logger

from engine.book import Book
from engine.clock import Clock, boottime, utcnow
from engine.commit import Committer, Outcome
from engine.events import Draft, Kind
from ha.gateway_probe import Answers, probe

PROBE_EVERY = 1.0
PATIENCE = 1.0
"""Seconds that a leader dials in vain before it thinks of the other replica."""


@dataclass(slots=True)
class Outage:
    """What is known of the way to the gateway, here and there."""

    host: str
    port: int
    clock: Clock = boottime
    spent: bool = False  # this outage has had its hand-over
    answers: bool | None = None  # the last probe's word; None = not asked, or too long ago
    probed_at: float = float("-inf")
    probing: asyncio.Task[None] | None = None

    def probe_soon(self) -> None:
        """Start a probe unless one runs or was just made."""
        busy = self.probing is not None and not self.probing.done()
        if not busy and self.clock() - self.probed_at >= PROBE_EVERY:
            self.probing = asyncio.create_task(self._probe(), name="probe the gateway")

    async def _probe(self) -> None:
        found = await probe(self.host, self.port, PROBE_EVERY)
        self.answers, self.probed_at = isinstance(found, Answers), self.clock()

    def word(self) -> bool | None:
        """What the last probe found, None when it is not fresh: unknown is not "no"."""
        return self.answers if self.clock() - self.probed_at < 3 * PROBE_EVERY else None

    def buys_hand_over(self, away_since: float | None, theirs: object) -> bool:
        """Whether the leader should hand over: it dialled in vain, its own handshake fails too, and the other's works."""
        if away_since is None or self.spent or self.clock() - away_since < PATIENCE:
            return False
        return theirs is True and self.word() is False


async def note_away(committer: Committer, book: Book) -> None:
    """Write down that a dial found no gateway, once for each session; what is not written is tried again at the next dial."""
    if not book.session_open:
        return
    closed = Draft(Kind.SESSION_CLOSED, {"session": book.session, "away": True}, utcnow())
    outcome, _, why = await committer.commit([closed])
    if outcome is not Outcome.COMMITTED:
        logger.warning("that the gateway is away was not written down: {}", why)
