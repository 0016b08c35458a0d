"""Cancels on their way out: licensed for the session that showed the order live, written once, never re-sent by recovery (R7).

A cancel that cannot be licensed yet (no evidence on this session, the pace is full) waits in the book as wanted, and `tick`
licenses it as soon as it can. Hold, halt and a shut gate never stop the cancel of a known live order (R29).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from loguru import logger

from engine.book import Book
from engine.broker import Broker
from engine.clock import Clock, utcnow
from engine.commit import Committer, Outcome
from engine.events import Event, Kind, Payload
from engine.intent import follow_up
from engine.order import Order, State
from engine.permit import Permit
from engine.unconfirmed import Unconfirmed


class Cancels:
    """The pairs (orderId, permId) that the present session showed live, and the cancels that use them."""

    def __init__(self, book: Book, permit: Permit, broker: Broker, clock: Clock) -> None:
        self._book, self._permit, self._broker, self._clock = book, permit, broker, clock
        self._live: dict[str, tuple[int, int]] = {}  # order id -> (orderId, permId)
        self._coming: set[str] = set()  # orders whose cancel is being licensed
        self.unconfirmed = Unconfirmed()
        self._written: dict[str, float] = {}  # order id -> when its cancel was written, until the order has ended
        book.observers.append(self._applied)

    def begin(self) -> None:
        """A term begins."""
        self._live.clear()
        self._coming.clear()
        self._written.clear()
        self.unconfirmed.begin()

    def session_lost(self) -> None:
        """What a dead session showed entitles to nothing, and what it was asked it will not answer."""
        self._live.clear()
        self._written.clear()

    def dialling(self) -> None:
        """Another session is dialled: what the link of the gateway was is not known, and what was sent may lie there (R6)."""
        self.unconfirmed.dialling(
            order.id for order in self._book.open_orders()
            if (order.state in (State.SENDING, State.IN_DOUBT) or order.gateway_only) and not order.external
        )  # fmt: skip

    def shown(self, oid: str, broker_order_id: int, perm_id: int) -> None:
        """The present session showed the order live under this pair."""
        self._live[oid] = broker_order_id, perm_id

    def pair(self, oid: str) -> tuple[int, int] | None:
        """The (orderId, permId) under which the present session showed the order live, None when it did not."""
        return self._live.get(oid)

    def ended(self, oid: str) -> None:
        """The order has ended."""
        self._live.pop(oid, None)
        self._written.pop(oid, None)
        self.unconfirmed.ended(oid)

    def _applied(self, _event: Event) -> None:
        """A status after the end shows the order once more: what was noted of it goes when it leaves memory."""
        for oid in self._book.left:
            self.ended(oid)

    def unanswered(self, seconds: float) -> bool:
        """Whether a cancel was written so long ago and its order has not ended: a reason to ask, once for each cancel."""
        late = [oid for oid, at in self._written.items() if self._clock() - at > seconds]
        for oid in late:
            del self._written[oid]
        return bool(late)

    def licence(self, order: Order) -> Payload:
        """The payload that licenses a cancel now, empty when it must wait."""
        pair = self._live.get(order.id)
        if self._permit.session is None or pair is None or order.state is not State.WORKING:
            return {}
        if order.external or not self._broker.pace.cancel_may(self._clock(), len(self._coming)):
            return {}
        return {"session": self._permit.session, "broker_order_id": pair[0], "perm_id": pair[1]}

    def must_be_asked(self, order: Order) -> bool:
        """Whether an ask changes anything: nobody asked yet, or what was licensed died with its session, written or not."""
        return not order.cancel_requested or order.cancel_session not in (None, self._permit.session)

    def coming(self, oid: str) -> None:
        """A licence for this order's cancel is on its way to the log: it counts for the pace until `decided`."""
        self._coming.add(oid)

    def decided(self, oid: str) -> None:
        """It is written, or never will be."""
        self._coming.discard(oid)

    def tick(self, committer: Committer | None) -> None:
        """License what was asked for before it could be."""
        if committer is None or self._permit.session is None:
            return
        for order in [self._book.orders[oid] for oid in self._book.cancels_wanted if oid not in self._coming]:
            if licence := self.licence(order):
                self._license(committer, order, licence)

    def _license(self, committer: Committer, order: Order, licence: dict[str, Any]) -> None:
        def done(outcome: Outcome, events: Sequence[Event], _why: str) -> None:
            if outcome is Outcome.COMMITTED:
                self.write(events[0])
            self.decided(order.id)

        self.coming(order.id)
        committer.submit([follow_up(Kind.CANCEL_LICENSED, licence, order, utcnow())], done)

    def ask(self, committer: Committer, order: Order, why: str) -> None:
        """Ask for a cancel without anybody's wish; licensed at once where it can be, else as soon as it can."""
        licence = self.licence(order)

        def done(outcome: Outcome, events: Sequence[Event], _why: str) -> None:
            if outcome is Outcome.COMMITTED and licence:
                self.write(events[0])
            self.decided(order.id)

        if licence:
            self.coming(order.id)
        committer.submit([follow_up(Kind.CANCEL_REQUESTED, {**licence, "reason": why}, order, utcnow())], done)

    def write(self, event: Event) -> None:
        """Write what this committed event licenses, unless its session or its epoch is over."""
        payload, permit = event.payload, self._permit
        if payload["session"] != permit.session or event.epoch != permit.epoch:
            return
        try:
            self._broker.cancel(payload["broker_order_id"])
        except ConnectionError:
            logger.warning("the cancel of order {} was not written: the session is gone", event.order_id)
        else:
            self._written[event.order_id or ""] = self._clock()
