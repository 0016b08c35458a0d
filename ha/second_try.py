"""What a leader does by itself about orders that a gateway may have kept: R6's late ones, R1's doubtful ones under `same_id`.

The decisions are `engine.intent.too_old` and `engine.again.why_not`; here they are committed and carried out.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime, timedelta

from loguru import logger

from engine import again, intent
from engine.clock import utcnow
from engine.commit import Committer, Outcome
from engine.events import Draft, Event, Kind
from engine.family import is_exit
from engine.licences import PACE_IS_FULL
from engine.order import State
from engine.permit import Permit
from engine.submit import Desk

Answer = tuple[Outcome, str]
PROVEN = "complete snapshot"
REPEATING = "repeating"
"""Why the gate is shut while a repetition waits for the pace."""


def database_now(committer: Committer) -> datetime:
    """The time by the database's clock, as far as the last proof said (R8)."""
    return utcnow() + timedelta(seconds=committer.database_offset or 0.0)


def send(committer: Committer, desk: Desk, drafts: Sequence[Draft]) -> asyncio.Future[Answer]:
    """Commit what licenses an order and write it, with nothing between the commit's answer and the bytes (R2)."""
    answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()

    def done(outcome: Outcome, events: Sequence[Event], why: str) -> None:
        if outcome is Outcome.COMMITTED:
            desk.carry_out(events)
        if not answer.done():
            answer.set_result((outcome, why))

    committer.submit(drafts, done)
    return answer


class Repetition:
    """R1 under `same_id`: what each session owes once it is reconciled, and does as soon as it can be written; once.

    Where the gate is shut, the contract is looked at or the pace is full, nothing is spent, and `tick` tries again while the
    session lasts and what the repetition rests on holds. While nothing but the pace keeps it back the gate is shut for it: whoever
    were sent first would take a higher order id.
    """

    def __init__(self, desk: Desk, permit: Permit, *, wanted: bool) -> None:
        self._desk, self._permit, self._wanted = desk, permit, wanted
        self._session: int | None = None  # that owes it
        self._told: set[str] = set()

    @property
    def owed(self) -> bool:
        """Whether `tick` has something to try."""
        return self._session is not None

    def begin(self, committer: Committer | None) -> None:
        """The session is reconciled. Call it before anything else is licensed."""
        self._session = self._permit.session if self._wanted else None
        self._told.clear()
        self.tick(committer)

    def tick(self, committer: Committer | None) -> None:
        """Try again what could not be written. Call it when the gate may have opened, before anything else is licensed."""
        if self._session is None:
            return
        shut = self._permit.shut
        shut.pop(REPEATING, None)
        if committer is None or self._permit.session != self._session:
            self._session = None
            return
        waits = repeat_doubtful(committer, self._desk, self._permit, self._told)
        if waits is None:
            self._session = None
        elif self._permit.halted is None and not shut and waits == PACE_IS_FULL:
            shut[REPEATING] = "An order in doubt is repeated first, as soon as the gateway may be sent more."


def repeat_doubtful(committer: Committer, desk: Desk, permit: Permit, told: set[str]) -> str | None:
    """Repeat the order in doubt that may be repeated; at most one can be, the last that was licensed.

    Returns why that must wait, None when it is on its way or there is none. `told`: what was logged already; it is added to.
    """
    book, now, waits = desk.book, database_now(committer), None
    for found in list(book.open_breaks.values()):
        order = book.orders.get(found.order_id or "")
        if order is None or found.kind != "in_doubt" or order.state is not State.IN_DOUBT:
            continue
        why = (
            committer.may_write(Kind.ORDER_REPEATED)
            or again.why_not(book, order, now)
            or intent.too_old(order, now, desk.settings.max_intent_age)
        )
        if why is None and found.broker.get("snapshot") != PROVEN:
            why = "No complete snapshot showed that it is absent."
        if why is None:  # it has one repetition, which is spent by its commit
            why = waits = _halted(permit) or desk.why_not_now(order)
        if why is not None:
            if (said := f"{order.id} {why}") not in told:
                told.add(said)
                logger.warning("order {} stays in doubt, not repeated under its own order id: {}", order.id, why)
            continue
        logger.warning(
            "repeating order {} under its own order id {} (IN_DOUBT=same_id)", order.id, order.broker_order_id
        )
        word = {"resolution": "sent_again", "reason": "IN_DOUBT=same_id", "by": "adapter"}
        who = order.subject, order.correlation_id
        send(committer, desk, again.repeated(book, order, found, word, who, utcnow()))
        return None
    return waits


def _halted(permit: Permit) -> str | None:
    return None if permit.halted is None else f"New orders are halted: {permit.halted}."


def cancel_late(committer: Committer, desk: Desk) -> None:
    """R6: the link to IB is back: cancel what met the lost link unanswered and is past its age. Call it before the gate opens.

    Not what closes a position: a late bracket is cancelled by its parent, and what crossed that cancel keeps its exits.
    """
    marks, now = desk.cancels.unconfirmed, database_now(committer)
    for oid in marks.marked:
        order = desk.book.orders.get(oid)
        if order is None or order.final or order.cancel_requested or order.external:
            continue
        if is_exit(order, desk.book.orders):
            continue
        if (why := intent.too_old(order, now, desk.settings.max_intent_age)) is not None:
            logger.warning("cancelling order {}, which the gateway may have kept while its link was down: {}", oid, why)
            desk.cancels.ask(committer, order, f"kept by the gateway while its link to IB was down: {why}")
    marks.judged(marks.marked)


def judge_late(committer: Committer | None, desk: Desk, *, reconciled: bool = False) -> None:
    """R6 on a new session, before the gate opens: nobody says 1101 or 1102 to it when its gateway has its link again.

    What a dead session was sent and this one shows counts as kept: nobody knows since when IB has it. A gateway that has no link
    tells each new session so; then the marks wait for the link. `reconciled`: nothing more of the dead ones is expected.
    """
    marks, orders = desk.cancels.unconfirmed, desk.book.orders
    marks.surfaced(oid for oid in marks.unanswered if oid in orders and orders[oid].state is State.WORKING)
    if reconciled:
        marks.reconciled()
    if committer is not None and "link" not in desk.permit.shut:
        cancel_late(committer, desk)
