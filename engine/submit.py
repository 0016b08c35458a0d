"""The way out: an order from a validated request to the bytes on the broker session. Read this, then `inbound.py`.

    place -> one commit (intent, and with the gate open its licence) -> permit check and write, adjacent -> answer
    gate shut -> QUEUED -> the gate opens, pace allows -> a second commit (the licence) -> permit check and write

A licence names epoch, session and broker order id, and dies with its session (R2). What was licensed once is never sent again by
itself (R1): only this process, and only while it knows that it wrote nothing, takes a licence back (R4).
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from loguru import logger

from engine import failpoint, intent, risk
from engine.book import Book
from engine.broker import Broker, Paced
from engine.cancel import Cancels
from engine.clock import Clock, boottime, utcnow
from engine.commit import Committer, Outcome
from engine.desk_settings import Asker, DeskSettings
from engine.errors import FieldError, Problem, invalid, unavailable, unknown_outcome
from engine.events import Draft, Event, Kind
from engine.modify import Changes
from engine.order import Order, State
from engine.pace import OrderPace
from engine.permit import Licence, Permit
from engine.reference import Reference, cluster_tag, order_id
from engine.request import ChangeRequest, OrderRequest, conflict

COMMIT_DEADLINE = 2.0
"""Seconds a client waits for the commit's answer before it gets 504."""

UNSENT = "cancelled before it was sent"
_LICENCES = frozenset({Kind.ORDER_ACCEPTED, Kind.ORDER_LICENSED})
_CANCELS = frozenset({Kind.CANCEL_REQUESTED, Kind.CANCEL_LICENSED})


class Desk:
    """Orders, cancels, and the queue behind the gate. One per process; a term gives it a committer and takes it away."""

    def __init__(
        self, book: Book, permit: Permit, broker: Broker, settings: DeskSettings, clock: Clock = boottime
    ) -> None:
        self.book, self.permit, self.settings = book, permit, settings
        self._broker, self._clock = broker, clock
        self.tag = cluster_tag(settings.cluster)
        self._pace = OrderPace(settings.order_rate, settings.order_rate_per_symbol)
        self._committer: Committer | None = None
        self._next_broker_id = 1
        self._in_flight: dict[str, asyncio.Future[Order | Problem]] = {}  # by order id: accepted, not yet answered
        self._licensing: set[str] = set()  # orders about which a decision of the desk's own is being committed
        self._unwritten: set[str] = set()  # orders whose licence is on its way to the log or to the wire
        self._sent_at: dict[str, datetime] = {}  # orders written by this process, until the ledger knows when
        self.cancels = Cancels(book, permit, broker, clock)
        self.changes = Changes(book, permit, broker, self.cancels, settings.limits, clock)
        self.unacknowledged: dict[str, float] = {}  # order id -> CLOCK_BOOTTIME of its write, on the present session
        self.first_write_at: float | None = None
        self.second_look: frozenset[tuple[str, str]] = (
            frozenset()
        )  # (account, symbol) about which a doubt is being decided
        book.observers.append(self._applied)

    # ---- a term

    def begin(self, committer: Committer) -> None:
        """A term begins: intents have a log to go to."""
        self._committer = committer
        self.first_write_at = None
        for waiting in [answer for answer in self._in_flight.values() if not answer.done()]:
            waiting.set_result(unknown_outcome("The term ended; retry with the same key, it is safe."))
        self._in_flight.clear()
        self._licensing.clear()
        self._unwritten.clear()
        self._sent_at.clear()
        self.second_look = frozenset()
        self.cancels.begin()

    def end(self) -> None:
        """The term is over; what waits for an answer is told by the committer."""
        self._committer = None
        self.session_lost()

    def session_opened(self, floor: int) -> None:
        """A session is up; ids on its wire start at `floor` and only rise (R4)."""
        self._next_broker_id = max(floor, self.book.order_id_floor)
        self.cancels.session_lost()

    def session_lost(self) -> None:
        """What was written and not acknowledged is a dead session's business now: reconciliation judges it (R1)."""
        self.unacknowledged.clear()
        self.cancels.session_lost()

    async def proves_now(self) -> bool:
        """Whether a fenced commit that begins now succeeds: then no younger epoch existed when it began."""
        if self._committer is None:
            return False
        try:
            outcome, _, _ = await asyncio.wait_for(self._committer.commit(()), COMMIT_DEADLINE)
        except TimeoutError:
            return False
        return outcome is Outcome.COMMITTED

    # ---- intents

    async def place(self, request: OrderRequest, asker: Asker) -> tuple[int, Order]:
        """Accept an order: (201, order) when it became durable now, (200, order) when the same key was accepted before.

        Raises Problem: 409 for another body under the key, 422 by a limit, 503 when nothing was written, 504 when unknown.
        """
        oid = order_id(self.settings.cluster, asker.subject, request.client_order_id)
        if (known := self.book.orders.get(oid)) is not None:
            return 200, self._same(known, request)
        if (waiting := self._in_flight.get(oid)) is not None:
            return 200, self._same(await self._answer(waiting), request)
        if (why := self.permit.refuses_intent(self._clock())) is not None or self._committer is None:
            raise unavailable(*(why or ("not-leader", "This replica holds no epoch.")))
        if request.valid_until is not None and request.valid_until <= self._database_now():  # R8: never sent late
            raise invalid(FieldError("valid_until", "has passed already"))
        risk.check(request, self.book, self.settings.limits)
        account = self._account(request)
        if (hold := self.book.holding(account, request.symbol)) is not None:
            raise unavailable(
                "held", f"{request.symbol} is held by break {hold.id} ({hold.kind}) until it is resolved."
            )
        failpoint.hit("submit.before_commit")
        answer: asyncio.Future[Order | Problem] = asyncio.get_running_loop().create_future()
        self._in_flight[oid] = answer
        self._submit(self._committer, [self._accept(oid, request, account, asker)], answer, oid)
        return 201, await self._answer(answer)

    def _account(self, request: OrderRequest) -> str:
        """The account that the order is for: named, or the gateway's first. A hold is found by it, so it is never left open."""
        accounts = self.book.accounts
        if not accounts:
            raise unavailable("no-account", "No gateway has named its accounts yet; the first session is being opened.")
        if request.account is not None and request.account not in accounts:
            raise invalid(FieldError("account", f"the gateway manages {', '.join(accounts)}"))
        return request.account or accounts[0]

    def _same(self, known: Order, request: OrderRequest) -> Order:
        if not intent.repeats(known, request):
            raise conflict(request.client_order_id)
        return known

    async def _answer(self, waiting: asyncio.Future[Order | Problem]) -> Order:
        try:
            answer = await asyncio.wait_for(asyncio.shield(waiting), COMMIT_DEADLINE)
        except TimeoutError:
            raise unknown_outcome(
                "The commit's answer did not come in time; retry with the same key, it is safe."
            ) from None
        if isinstance(answer, Problem):
            raise answer
        return answer

    def _accept(self, oid: str, request: OrderRequest, account: str, asker: Asker) -> Draft:
        payload = intent.accepted(request, account)
        if self._may_license(account, request.symbol):
            payload |= self._licence(oid)
        return Draft(Kind.ORDER_ACCEPTED, payload, utcnow(), oid, asker.subject, asker.correlation_id)

    def _submit(
        self, committer: Committer, drafts: Sequence[Draft], answer: asyncio.Future[Order | Problem], oid: str
    ) -> None:
        def done(outcome: Outcome, events: Sequence[Event], why: str) -> None:
            if self._in_flight.get(oid) is answer:
                del self._in_flight[oid]
            if outcome is Outcome.COMMITTED:
                self.carry_out(events)
                result: Order | Problem = self.book.orders[oid]
            elif outcome is Outcome.REFUSED:
                result = unavailable("not-written", f"Nothing was written: {why}.")
            else:
                result = unknown_outcome(f"The commit's answer was lost: {why}; retry with the same key, it is safe.")
            self._unwritten.discard(oid)
            self.cancels.decided(oid)
            if not answer.done():
                answer.set_result(result)

        committer.submit(drafts, done)

    # ---- licences and writes

    def _may_license(self, account: str, symbol: str) -> bool:
        """R2, R4: the gate is open, nothing older waits for its licence, and pace allows one message."""
        now = self._clock()
        return (
            self.permit.gate_open(now)
            and (account, symbol) not in self.second_look
            and not self._queued()
            and self._room(now)
            and self._pace.take(symbol, now)
        )

    def _room(self, now: float) -> bool:
        """Whether the door and the broker's answers leave room for one more order."""
        coming = len(self._unwritten)
        return (
            len(self.unacknowledged) + coming < self.settings.max_unacknowledged
            and self._pace.room(now)
            and self._broker.pace.order_may(now, coming)
        )

    def _queued(self) -> bool:
        """Whether something older is to be sent first; what its contract's hold keeps back holds nobody else up."""
        return bool(self._licensing) or any(not self._frozen(self.book.orders[oid]) for oid in self.book.queued)

    def _frozen(self, order: Order) -> bool:
        return order.contract_key in self.second_look or self.book.holding(*order.contract_key) is not None

    def _licence(self, oid: str) -> dict[str, int]:
        broker_id = max(self._next_broker_id, self.book.order_id_floor)
        self._next_broker_id = broker_id + 1
        assert self.permit.session is not None
        self._unwritten.add(oid)
        return {"session": self.permit.session, "broker_order_id": broker_id}

    def carry_out(self, events: Sequence[Event]) -> None:
        """Write what these committed events license, in their order (R9). Synchronous from the commit's answer to the bytes."""
        for event in events:
            if event.order_id is None or event.payload.get("session") is None:
                continue
            order = self.book.orders[event.order_id]
            if event.kind in _LICENCES and order.state is State.SENDING:
                self._write(order)
            elif event.kind == Kind.MODIFY_LICENSED:
                self.changes.write(event, self._reference(order), self._tell)
            elif event.kind == Kind.TWIN_CANCEL_LICENSED or (event.kind in _CANCELS and not order.final):
                self.cancels.write(event)

    def _write(self, order: Order) -> None:
        assert order.licence_epoch is not None
        assert order.session is not None
        assert order.broker_order_id is not None
        licence = Licence(order.licence_epoch, order.session, order.broker_order_id)
        outgoing = intent.outgoing(order, self._reference(order))
        failpoint.hit("submit.before_write")
        try:
            if (why := self.permit.refuses_write(licence, self._clock())) is None:  # R2: the check and the write,
                self._broker.place(outgoing)  # with no await between them
        except (ConnectionError, Paced) as error:
            why = str(error) or "there is no broker session"
        self._unwritten.discard(order.id)
        if why is not None:
            self._take_back(order, why)
            return
        now = self._clock()
        self.first_write_at = self.first_write_at or now
        self.unacknowledged[order.id] = now
        self._sent_at[order.id] = utcnow()
        failpoint.hit("submit.after_write")

    def _reference(self, order: Order) -> str:
        return str(Reference(self.tag, order.epoch, order.id))

    def _tell(self, draft: Draft) -> None:
        """Write down what this process knows; nobody waits for it."""
        if self._committer is not None:
            self._committer.submit([draft], lambda _outcome, _events, _why: None)

    def _take_back(self, order: Order, why: str) -> None:
        """R4: this process knows that it wrote nothing under the licence, so the order may have a new one; nothing overtakes it."""
        logger.warning("order {} was not written: {}; its licence is taken back", order.id, why)
        if self._committer is not None:
            self._follow_up(self._committer, Kind.ORDER_UNLICENSED, {"reason": why}, order)

    def sent_at(self, oid: str) -> datetime | None:
        """When this process wrote the order, None when it did not or the ledger knows it already."""
        return self._sent_at.get(oid)

    def acknowledged(self, oid: str) -> None:
        """The broker answered: it showed the order, or refused it."""
        self.unacknowledged.pop(oid, None)

    def shown(self, oid: str, broker_order_id: int, perm_id: int) -> None:
        """The present session showed the order live under this pair of ids of ours: it may be cancelled by it (R7)."""
        self.acknowledged(oid)
        if broker_order_id and perm_id:
            self.cancels.shown(oid, broker_order_id, perm_id)

    def _applied(self, event: Event) -> None:
        """Forget what the ledger knows by now."""
        order = self.book.orders.get(event.order_id or "")
        if order is None:
            return
        if order.state is not State.SENDING:
            self.unacknowledged.pop(order.id, None)
        if order.final:
            self.cancels.ended(order.id)
        if order.final or order.sent_at is not None:
            self._sent_at.pop(order.id, None)

    # ---- cancels

    async def cancel(self, oid: str, asker: Asker) -> Order:
        """Ask for a cancel; durable when this returns. Raises Problem 404, 409 (final, or not ours), 503, 504.

        An order that this session has not shown live yet is cancelled as soon as it does.
        """
        order = self._open_one(oid)
        if self._committer is None or self.permit.epoch is None or not self.permit.proven(self._clock()):
            raise unavailable("not-leader", "This replica cannot write now.")
        if order.state is State.QUEUED and oid not in self._licensing and not self._held():
            kind, payload = Kind.ORDER_CANCELLED, {"reason": UNSENT}
        elif (payload := self.cancels.licence(order)) or not order.cancel_requested:
            kind = Kind.CANCEL_REQUESTED
        else:
            return order  # asked for already, and licensed as soon as it can be
        if payload.get("session") is not None:
            self.cancels.coming(oid)
        answer: asyncio.Future[Order | Problem] = asyncio.get_running_loop().create_future()
        draft = Draft(kind, payload, utcnow(), oid, asker.subject, asker.correlation_id)
        self._submit(self._committer, [draft], answer, oid)
        return await self._answer(answer)

    def _open_one(self, oid: str) -> Order:
        """An order of ours that has not ended. Raises Problem 404 or 409."""
        order = self.book.orders.get(oid)
        if order is None:
            raise Problem(404, "no-such-order", "No such order", f"There is no order {oid}.")
        if order.external:
            detail = (
                f"Order {oid} was placed by somebody else; only the session that placed it can change or cancel it."
            )
            raise Problem(409, "order-external", "The order is not ours", detail)
        if order.final:
            raise Problem(409, "order-final", "The order has ended", f"Order {oid} is {order.state}.")
        return order

    async def modify(self, oid: str, request: ChangeRequest, asker: Asker) -> Order:
        """Ask for a change of a live order; its licence is durable when this returns, and its bytes are written.

        Raises Problem 404, 409, 412 (another revision), 422, 503 (nothing was written), 504. Hold and halt stop it (R29).
        """
        order = self._open_one(oid)
        if (why := self.permit.refuses_intent(self._clock())) is not None or self._committer is None:
            raise unavailable(*(why or ("not-leader", "This replica holds no epoch.")))
        if (hold := self.book.holding(*order.contract_key)) is not None:
            raise unavailable("held", f"{order.symbol} is held by break {hold.id} ({hold.kind}) until it is resolved.")
        payload = self.changes.licence(order, request)
        answer: asyncio.Future[Order | Problem] = asyncio.get_running_loop().create_future()
        draft = Draft(Kind.MODIFY_LICENSED, payload, utcnow(), oid, asker.subject, asker.correlation_id)
        self._submit(self._committer, [draft], answer, oid)
        return await self._answer(answer)

    def cancels_to_write(self) -> None:
        """License the cancels that were asked for before they could be written. Call it often."""
        self.cancels.tick(self._committer)

    # ---- the queue behind the gate

    def work_queue(self) -> None:
        """License what waits, in accept order, as far as gate and pace allow; end what is too old (R8). Call it often."""
        committer, now = self._committer, self._clock()
        if committer is None or not self.permit.proven(now) or not self.book.queued or self._held():
            return
        opened, at = self.permit.gate_open(now), self._database_now()
        for order in [self.book.orders[oid] for oid in self.book.queued if oid not in self._licensing]:
            if order.cancel_requested:  # while it was being licensed, and then it was not written
                self._follow_up(committer, Kind.ORDER_CANCELLED, {"reason": UNSENT}, order)
            elif (why := intent.too_old(order, at, self.settings.max_intent_age)) is not None:
                self._follow_up(committer, Kind.ORDER_EXPIRED, {"reason": why}, order)
            elif (
                opened and order.contract_key not in self.second_look and self.book.holding(*order.contract_key) is None
            ):
                opened = self._room(now)
                if opened and self._pace.take(order.symbol, now):
                    self._follow_up(committer, Kind.ORDER_LICENSED, self._licence(order.id), order)

    def _held(self) -> bool:
        """Whether everything is held: a database that went back may call QUEUED what was sent (R18), and nobody says it was not."""
        return "holding" in self.permit.shut

    def _follow_up(self, committer: Committer, kind: Kind, payload: dict[str, Any], order: Order) -> None:
        """Commit what the desk decided about an order; until that is known, the order is nobody else's to decide about."""

        def done(outcome: Outcome, events: Sequence[Event], _why: str) -> None:
            self._licensing.discard(order.id)
            if outcome is Outcome.COMMITTED:
                self.carry_out(events)
            self._unwritten.discard(order.id)

        self._licensing.add(order.id)
        committer.submit([intent.follow_up(kind, payload, order, utcnow())], done)

    def _database_now(self) -> datetime:
        offset = self._committer.database_offset if self._committer is not None else None
        return utcnow() + timedelta(seconds=offset or 0.0)
