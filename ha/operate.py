"""What operators ask of the pair: hand over, pause, halt; and what they are told. Wishes lie in an unfenced table (R29, R34).

A hand-over is flushed before it happens: new orders are refused, what is licensed is answered, the log is written, and only then
the gate is shut, the session ended and the lease released. Refused with its reason where it would leave something open.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from loguru import logger

from engine.auth import Access
from engine.clock import Clock, boottime, utcnow
from engine.errors import FieldError, Problem, invalid, unavailable
from engine.http import Request, Response, Server
from engine.order import State as OrderState
from engine.store import StoreError
from ha.body import body_of, flag_of, reason_of
from ha.commands import Commands
from ha.link import FIT_EVERY
from ha.node import Node
from ha.role import HAS_EPOCH, State
from ha.watch import Watch

PREFIX = "/api/v1/cluster"
_SET, _UNSET = {"paused": "pause", "halted": "halt"}, {"paused": "resume", "halted": "unhalt"}
NEXT_WORD = 2 * FIT_EVERY
"""Seconds that a hand-over waits for a word of a replica that could not take over when it last spoke."""


@dataclass(frozen=True, slots=True)
class OperateRules:
    """Seconds."""

    flush: float = 1.0  # how long answers are waited for before a hand-over goes on without them
    stand_back: float = 5.0  # how long the old leader lets the other one go first
    between: float = 10.0  # least time between two voluntary hand-overs


class Operate:
    """The handlers; `register` hangs them on a server."""

    def __init__(
        self, node: Node, watch: Watch, access: Access, commands: Commands, rules: OperateRules, clock: Clock = boottime
    ) -> None:
        self._node, self._watch, self._access, self._commands = node, watch, access, commands
        self._rules, self._clock = rules, clock
        self._handing_over: asyncio.Task[None] | None = None

    def register(self, server: Server) -> None:
        """All paths of this room."""
        server.route("POST", f"{PREFIX}/switchover", self.switchover)
        server.route("POST", f"{PREFIX}/pause", self.pause)
        server.route("POST", f"{PREFIX}/resume", self.resume)
        server.route("POST", f"{PREFIX}/halt", self.halt)
        server.route("POST", f"{PREFIX}/unhalt", self.unhalt)

    # ---- hand-over

    async def switchover(self, request: Request) -> Response:
        """`POST /cluster/switchover`: 202 when it is under way, 412 with the reason when it is not safe, 409 when one is."""
        asker = self._access.asker(request, "operator")
        body = body_of(request, {"to", "force", "reason"})
        to, force, reason = body.get("to"), flag_of(body, "force"), reason_of(body) or "an operator asked for it"
        if to is not None and not isinstance(to, str):
            raise invalid(FieldError("to", "the name of a replica, or null"))
        if self._node.state not in HAS_EPOCH:
            raise unavailable("not-leader", "This replica does not lead; ask the leader for the hand-over.")
        if self._handing_over is not None and not self._handing_over.done():
            raise Problem(409, "handing-over", "A hand-over is under way", "Wait for its end.")
        if to == self._node.me.name:
            raise Problem(409, "leads-already", "Nothing to do", f"{to} leads already.")
        asked = self._clock()
        if reasons := self._hard_reasons(to):  # it may have become fit since it last said how it is
            await self._next_word(asked)
            reasons = self._hard_reasons(to)
        if reasons or (not force and (reasons := self._soft_reasons())):
            raise Problem(412, "not-safe-now", "Not handed over", " ".join(reasons))
        try:
            await self._commands.give("switchover", asker, reason, to=to, force=force)
        except Problem as problem:  # a leader without its database must be able to hand over
            logger.warning("the switchover that {} asked for is not in the audit: {}", asker.subject, problem.detail)
        self._handing_over = asyncio.create_task(self.hand_over(reason), name="hand over")
        return Response(202, {"from": self._node.me.name, "to": self._other_name(), "reason": reason})

    async def _next_word(self, asked: float) -> None:
        """Until the other replica has said how it is since `asked`, or says nothing."""
        while self._watch.link.heard.at < asked and self._clock() - asked < NEXT_WORD:  # noqa: ASYNC110 - a bounded condition
            await asyncio.sleep(0.01)

    def _other_name(self) -> str | None:
        name = self._watch.link.heard.words.get("name")
        return str(name) if name is not None else None

    def _hard_reasons(self, to: str | None) -> list[str]:
        """What not even `force` overrides: there must be somebody who can lead."""
        heard = self._watch.link.heard
        if not heard.fresh(self._clock()):
            return ["The other replica is not connected: nobody would lead."]
        found = []
        if to is not None and to != heard.words.get("name"):
            found.append(f"The other replica is {heard.words.get('name')}, not {to}.")
        if not heard.words.get("fit"):
            found.append(
                f"The other replica could not take over: {heard.words.get('why') or heard.words.get('state')}."
            )
        return found

    def _soft_reasons(self) -> list[str]:
        """What speaks against a hand-over now; `force` overrides it."""
        node, found = self._node, []
        if node.state is not State.LEADING:
            found.append(f"This leader is {node.state}, not LEADING.")
        doubt = [o.id for o in node.book.open_orders() if o.state is OrderState.IN_DOUBT]
        if doubt:
            found.append(f"{len(doubt)} orders are in doubt ({', '.join(doubt[:3])}); resolve them first.")
        since = self._clock() - node.led_since
        if since < self._rules.between:
            found.append(f"This replica leads for {since:.0f} s only; hand-overs are {self._rules.between:g} s apart.")
        if (calendar := node.tender.calendar.near(utcnow())) is not None:
            found.append(calendar)
        return found

    async def hand_over(self, reason: str) -> None:
        """Flush, say so to the other replica by name, and step down."""
        node = self._node
        heard = self._watch.link.heard.words
        node.permit.accepting = False
        node.permit.shut["handing over"] = "This leader hands over."
        await self._flush()
        with contextlib.suppress(ConnectionError):
            words = {
                "name": node.me.name,
                "instance": node.me.instance,
                "hand_over": reason,
                "to": heard.get("instance"),
            }
            await self._watch.link.tell(words)
        node.hand_over(f"handing over to {heard.get('name')}: {reason}", self._rules.stand_back)

    async def _flush(self) -> None:
        """Wait until what was licensed is written, answered and in the log, for a bounded time."""
        node, committer = self._node, self._node.takeover.committer
        deadline = self._clock() + self._rules.flush
        while node.desk.unacknowledged and self._clock() < deadline:  # noqa: ASYNC110 - a bounded condition
            await asyncio.sleep(0.005)
        if committer is not None:
            with contextlib.suppress(TimeoutError, StoreError):  # the hand-over goes on: there is nothing to go back to
                async with asyncio.timeout(max(0.05, deadline - self._clock())):
                    for _ in range(2):  # what was in flight may be taken back unwritten now, behind the first one
                        await committer.commit(())
                    await committer.prove_now()

    # ---- pause and halt

    async def pause(self, request: Request) -> Response:
        """`POST /cluster/pause`: no automatic failover until resumed."""
        self._access.asker(request, "operator")  # who may not ask is told that first
        return await self._wish(request, "paused", body_of(request, {"reason"}))

    async def resume(self, request: Request) -> Response:
        """`POST /cluster/resume`."""
        return await self._no_wish(request, "paused")

    async def halt(self, request: Request) -> Response:
        """`POST /cluster/halt`: no new orders. Answers when the sender has seen it, and names what is still out (R29)."""
        asker = self._access.asker(request, "operator")
        body = body_of(request, {"reason", "cancel_open"})
        cancel_open = flag_of(body, "cancel_open")
        response = await self._wish(request, "halted", body, cancel_open=cancel_open)
        if self._node.state not in HAS_EPOCH:
            return response
        await self._seen("halted", True)
        node = self._node
        if node.takeover.committer is not None:  # what was licensed before is written, or never will be, after this
            await node.takeover.committer.commit(())
        out = [o for o in node.book.open_orders() if not o.external]
        if cancel_open:
            for order in out:  # one by one: a global cancel would take other people's orders with it
                with contextlib.suppress(Problem):
                    await node.desk.cancel(order.id, asker)
        response.body |= {"seen_by": node.me.name, "still_out": [o.id for o in out if not o.final]}
        return response

    async def unhalt(self, request: Request) -> Response:
        """`POST /cluster/unhalt`."""
        response = await self._no_wish(request, "halted")
        if self._node.state in HAS_EPOCH:
            await self._seen("halted", False)
        return response

    async def _wish(self, request: Request, key: str, body: Mapping[str, Any], **details: object) -> Response:
        asker, reason = self._access.asker(request, "operator"), reason_of(body)
        value = {"reason": reason, "by": asker.subject}
        await self._commands.give(_SET[key], asker, reason, key, json.dumps(value), **details)
        logger.warning("{} by {}: {}", key, asker.subject, reason or "no reason given")
        return Response(202, {key: True, **value})

    async def _no_wish(self, request: Request, key: str) -> Response:
        asker = self._access.asker(request, "operator")
        reason = reason_of(body_of(request, {"reason"}))
        await self._commands.give(_UNSET[key], asker, reason, key)
        logger.warning("no longer {}, by {}", key, asker.subject)
        return Response(202, {key: False, "by": asker.subject})

    async def _seen(self, key: str, wanted: bool) -> None:
        """Until the sender has read the wish: its next proof reads it, so ask for one now."""
        committer = self._node.takeover.committer
        if committer is None:
            return
        try:
            await committer.prove_now()
        except StoreError as error:
            raise unavailable("database-away", f"Written down, but the sender has not seen it yet: {error}") from error
        self._node.tender.obey()
        if (key in committer.control) is not wanted:
            raise Problem(409, "changed-meanwhile", "Somebody else changed it", "Look again at the state and repeat.")
