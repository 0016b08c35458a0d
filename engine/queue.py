"""The queue behind the gate: orders that were accepted without a licence, in the order of their acceptance (R9).

gate shut -> QUEUED -> the gate opens, pace allows -> a second commit (the licence) -> permit check and write
                    -> too old by then (R8), or cancelled: ended, never sent
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any

from engine import intent
from engine.book import Book
from engine.clock import utcnow
from engine.commit import Committer, Outcome
from engine.desk_settings import DeskSettings
from engine.events import Event, Kind
from engine.licences import Licences
from engine.order import Order
from engine.permit import Permit

UNSENT = "cancelled before it was sent"


class Queue:
    """Licenses what waits, or ends it. `carry_out` writes what its commits license."""

    def __init__(
        self,
        book: Book,
        permit: Permit,
        settings: DeskSettings,
        licences: Licences,
        carry_out: Callable[[Sequence[Event]], None],
    ) -> None:
        self._book, self._permit, self._settings = book, permit, settings
        self._licences, self._carry_out = licences, carry_out

    def work(self, committer: Committer, now: float) -> None:
        """License what waits, in accept order, as far as gate and pace allow; end what is too old (R8)."""
        if not self._permit.proven(now) or not self._book.queued or self.held:
            return
        opened, at = self._permit.gate_open(now) and self._permit.halted is None, database_now(committer)
        for order in self._undecided():
            if order.cancel_requested:  # while it was being licensed, and then it was not written
                self.follow_up(committer, Kind.ORDER_CANCELLED, {"reason": UNSENT}, order)
            elif (why := intent.too_old(order, at, self._settings.max_intent_age)) is not None:
                self.follow_up(committer, Kind.ORDER_EXPIRED, {"reason": why}, order)
            elif opened and not self._licences.frozen(order):
                opened = self._licences.room(now)
                if opened and self._licences.take(order.symbol, now):
                    self.follow_up(committer, Kind.ORDER_LICENSED, self._licences.issue(order.id), order)

    def end(self, committer: Committer, reason: str) -> None:
        """End every order that waits, by rule: none of them is sent any more."""
        for order in self._undecided():
            self.follow_up(committer, Kind.ORDER_EXPIRED, {"reason": reason}, order)

    @property
    def held(self) -> bool:
        """Whether everything is held: a database that went back may call QUEUED what was sent (R18), and nobody says it was not."""
        return "holding" in self._permit.shut

    def follow_up(self, committer: Committer, kind: Kind, payload: dict[str, Any], order: Order) -> None:
        """Commit what the desk decided about an order; until that is known, the order is nobody else's to decide about."""

        def done(outcome: Outcome, events: Sequence[Event], _why: str) -> None:
            self._licences.deciding.discard(order.id)
            if outcome is Outcome.COMMITTED:
                self._carry_out(events)
            self._licences.unwritten.discard(order.id)

        self._licences.deciding.add(order.id)
        committer.submit([intent.follow_up(kind, payload, order, utcnow())], done)

    def _undecided(self) -> list[Order]:
        return [self._book.orders[oid] for oid in self._book.queued if oid not in self._licences.deciding]


def database_now(committer: Committer | None) -> datetime:
    """The time by the database's clock, as of the last proof (R8)."""
    offset = committer.database_offset if committer is not None else None
    return utcnow() + timedelta(seconds=offset or 0.0)
