"""The two replicas watching each other: the standby the leader's signs of life, the leader the standby's fitness."""

from __future__ import annotations

import asyncio
from typing import Any

from loguru import logger

from engine.clock import Clock, boottime, utcnow
from ha.link import Link
from ha.node import Node
from ha.outage import Outage
from ha.role import HAS_EPOCH, State
from ha.shared_state import give_back_suspicion
from ha.suspicion import Silence

LOOK_EVERY = 0.2
"""Longest pause between two looks, in seconds; well below `Silence.blink`."""

LOOK_AGAIN = 0.05
"""Pause of a standby without a leader, or with one that is silent."""

STALL = 3.0
"""How many times the proof's greatest age a leader waits for PostgreSQL before it hands over: its gate is shut all the while, and a
hand-over in the middle of a commit that is only slow would leave that order in doubt."""


class Watch:
    """Runs beside the node for the replica's whole life."""

    def __init__(
        self,
        node: Node,
        secret: str | None,
        heartbeat_every: float,
        suspect_after: float,
        *,
        proof_max_age: float = 1.0,
        gateway: tuple[str, int] = ("127.0.0.1", 4002),
        clock: Clock = boottime,
    ) -> None:
        self.outage = Outage(*gateway, clock)
        self._node, self._proof_max_age, self._clock = node, proof_max_age, clock
        self.silence = Silence(suspect_after)
        self.link = Link(node.me.name, node.me.instance, secret, heartbeat_every, self._words, self._hear, clock)
        self._greeted: set[tuple[str, str]] = set()
        self._tasks: list[asyncio.Task[None]] = []
        node.listen(lambda: self.silence.heartbeat_at)

    def start(self) -> None:
        """Begin to look, to dial and to answer."""
        self.link.start()
        self._tasks = [asyncio.create_task(self._look_for_ever(), name="watch")]

    async def stop(self) -> None:
        """End it."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.link.stop()

    # ---- words

    def _words(self) -> dict[str, Any]:
        node, now = self._node, self._clock()
        return {
            "state": node.state.value, "epoch": node.permit.epoch or node.tail.epoch, "seq": node.book.seq,
            "digest": f"{node.book.digest:016x}", "fit": node.state is State.STANDBY and node.unfit() is None,
            "why": node.unfit() if node.state is State.STANDBY else None, "version": node.me.version,
            "gateway_away": node.takeover.gateway_away is not None, "gateway_answers": self.outage.word(),
            "leads": node.state in HAS_EPOCH and node.permit.proven(now), "sees_proof": self._sees_proof(now),
        }  # fmt: skip

    def _sees_proof(self, now: float) -> bool:
        """Whether this standby itself reads fresh proofs: what a leader without a proof of its own wants to know (R12)."""
        tail = self._node.tail
        return tail.reachable and now - tail.pulsed_at < 1.0

    def _hear(self, words: dict[str, Any]) -> None:
        instance, name = str(words.get("instance")), str(words.get("name"))
        if words.get("state") in HAS_EPOCH:
            self.silence.heartbeat(instance, self._clock())
            if words.get("leads") is True and isinstance(seq := words.get("seq"), int):
                self._node.tail.saw(seq)
        if words.get("gateway_away") is True and self._node.state is State.STANDBY:
            self.outage.probe_soon()
        if isinstance(reason := words.get("hand_over"), str) and words.get("to") == self._node.me.instance:
            self._node.handed_over(reason)
            self.outage.spent = words.get("outage") is True
        if self._node.state in HAS_EPOCH and (name, instance) not in self._greeted:
            self._greeted.add((name, instance))
            self._giving_back = asyncio.create_task(give_back_suspicion(self._node.lease, name, instance))
        if words.get("version") not in (None, self._node.me.version):
            logger.debug("the other replica runs version {}", words["version"])

    # ---- the standby's eye

    async def _look_for_ever(self) -> None:
        while True:
            self._look()
            await asyncio.sleep(self._pause())

    def _pause(self) -> float:
        """Until the leader can be silent for long enough, in several looks; short while nothing is known of a leader."""
        due = self.silence.due_in(self._clock())
        if due is not None and due > 0:
            return min(LOOK_EVERY, due)
        return LOOK_EVERY if self._node.state in HAS_EPOCH else LOOK_AGAIN

    def _look(self) -> None:
        node, now = self._node, self._clock()
        if node.state in HAS_EPOCH:
            self._look_as_leader(now)
        seen = node.seen
        record = seen.record if seen is not None else None
        if node.state is not State.STANDBY or seen is None or record is None or record.instance == node.me.instance:
            self.silence.unwatch()
            self.link.follow(None)
            return
        self.link.follow(record.url)
        self.silence.watch(seen.lease_id, record.instance, now)
        self.silence.proof(node.tail.beat_seen_at)
        if self.silence.suspects(now, database_seen_at=node.tail.pulsed_at):
            node.suspect(seen, self.silence.last_sign())

    # ---- the leader's ear

    def _look_as_leader(self, now: float) -> None:
        """R12: a leader that cannot prove its epoch hands over once the standby says that it reads the database."""
        node, heard = self._node, self.link.heard
        self._look_at_gateway(now)
        age = node.permit.proof_age(now)
        if age <= STALL * self._proof_max_age or not heard.fresh(now) or node.paused:
            return
        if heard.words.get("fit") and heard.words.get("sees_proof"):
            node.hand_over(
                f"the epoch was not proven for {age:.1f} s here, and the other replica reads the database", 5.0
            )

    def _look_at_gateway(self, now: float) -> None:
        """R17: hand over for the gateway's sake, once per outage, and never for its own restart."""
        node, heard, away = self._node, self.link.heard, self._node.takeover.gateway_away
        if node.state is State.LEADING:
            self.outage.spent = False
        if (
            away is None
            or node.state is not State.CONNECTING
            or node.paused
            or node.tender.calendar.away(utcnow()) is not None
        ):
            return
        self.outage.probe_soon()
        fit = heard.fresh(now) and heard.words.get("fit") is True
        if fit and self.outage.buys_hand_over(away, heard.words.get("gateway_answers")):
            self.outage.spent = True
            reason = "the gateway cannot be reached from here, the other replica can reach it"
            self._handing_over = asyncio.create_task(self._hand_over(reason, heard.words))

    async def _hand_over(self, reason: str, words: dict[str, Any]) -> None:
        me = self._node.me
        await self.link.tell(
            {"name": me.name, "instance": me.instance, "hand_over": reason, "to": words.get("instance"), "outage": True}
        )
        self._node.hand_over(reason, 5.0)
