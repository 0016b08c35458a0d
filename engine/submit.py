"""The way out: an order from a validated request to the bytes on the broker session. Read this, then `inbound.py`.

    place -> one commit (intent, and with the gate open its licence) -> permit check and write, adjacent -> answer
    gate shut -> QUEUED -> the gate opens, pace allows -> a second commit (the licence) -> permit check and write

A licence names epoch, session and broker order id, and dies with its session (R2). What was licensed once is never sent again by
itself (R1): only this process, and only while it knows that it wrote nothing, takes a licence back (R4).
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from loguru import logger

from engine import failpoint, risk
from engine.book import Book
from engine.broker import Broker, Outgoing
from engine.clock import Clock, boottime, iso, utcnow
from engine.commit import Committer, Done, Outcome
from engine.errors import FieldError, Problem, invalid, unavailable, unknown_outcome
from engine.events import Draft, Event, Kind
from engine.order import Order, State
from engine.pace import Pace
from engine.permit import Licence, Permit
from engine.reference import Reference, cluster_tag, order_id
from engine.request import OrderRequest, conflict, same_order

COMMIT_DEADLINE = 2.0
"""Seconds a client waits for the commit's answer before it gets 504."""


@dataclass(frozen=True, slots=True)
class DeskSettings:
    """What the way out needs to know of the settings. Ages in seconds by order type; "" = any other type."""

    cluster: str
    limits: risk.Limits
    max_intent_age: dict[str, float]
    order_rate: float = 40.0
    order_rate_per_symbol: float = 40.0
    max_unacknowledged: int = 200


@dataclass(frozen=True, slots=True)
class Asker:
    """Who asks: the token's subject and the request's correlation id."""

    subject: str
    correlation_id: str


class Desk:
    """Orders, cancels, and the queue behind the gate. One per process; a term gives it a committer and takes it away."""

    def __init__(
        self, book: Book, permit: Permit, broker: Broker, settings: DeskSettings, clock: Clock = boottime
    ) -> None:
        self.book, self.permit, self.settings = book, permit, settings
        self._broker, self._clock = broker, clock
        self.tag = cluster_tag(settings.cluster)
        self._pace = Pace(settings.order_rate)
        self._symbol_paces: dict[str, Pace] = {}
        self._committer: Committer | None = None
        self._next_broker_id = 1
        self._in_flight: dict[str, asyncio.Future[Order | Problem]] = {}  # by order id: accepted, not yet answered
        self._licensing: set[str] = set()  # QUEUED orders whose licence is being committed
        self._sent_at: dict[str, datetime] = {}  # orders written by this process and not yet acknowledged
        self.unacknowledged: dict[str, float] = {}  # order id -> CLOCK_BOOTTIME of its write, on the present session
        self.first_write_at: float | None = None

    # ---- a term

    def begin(self, committer: Committer) -> None:
        """A term begins: intents have a log to go to."""
        self._committer = committer
        self.first_write_at = None

    def end(self) -> None:
        """The term is over; what waits for an answer is told by the committer."""
        self._committer = None
        self.session_lost()

    def session_opened(self, floor: int) -> None:
        """A session is up; ids on its wire start at `floor` and only rise (R4)."""
        self._next_broker_id = max(floor, self.book.order_id_floor)

    def session_lost(self) -> None:
        """What was written and not acknowledged is a dead session's business now: reconciliation judges it (R1)."""
        self.unacknowledged.clear()
        self._sent_at.clear()

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
        if known.body is not None and not same_order(known.body, request):
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
        payload: dict[str, Any] = {
            "client_order_id": request.client_order_id, "body": request.canonical(), "account": account,
            "symbol": request.symbol, "side": request.side, "quantity": str(request.quantity),
            "order_type": request.order_type, "limit_price": _text(request.limit_price),
            "stop_price": _text(request.stop_price), "tif": request.tif, "sec_type": request.sec_type,
            "exchange": request.exchange, "currency": request.currency, "valid_until": iso(request.valid_until),
        }  # fmt: skip
        if request.outside_rth:
            payload["extra"] = {"outside_rth": "1"}
        if self._may_license(request.symbol):
            payload |= self._licence()
        return Draft(Kind.ORDER_ACCEPTED, payload, utcnow(), oid, asker.subject, asker.correlation_id)

    def _submit(
        self, committer: Committer, drafts: Sequence[Draft], answer: asyncio.Future[Order | Problem], oid: str
    ) -> None:
        def done(outcome: Outcome, events: Sequence[Event], why: str) -> None:
            self._in_flight.pop(oid, None)
            if outcome is Outcome.COMMITTED:
                self._write_licensed(events)
                result: Order | Problem = self.book.orders[oid]
            elif outcome is Outcome.REFUSED:
                result = unavailable("not-written", f"Nothing was written: {why}.")
            else:
                result = unknown_outcome(f"The commit's answer was lost: {why}; retry with the same key, it is safe.")
            if not answer.done():
                answer.set_result(result)

        committer.submit(drafts, done)

    # ---- licences and writes

    def _may_license(self, symbol: str) -> bool:
        """R2, R4: the gate is open, nothing older waits for its licence, and pace allows one message."""
        now = self._clock()
        return (
            self.permit.gate_open(now)
            and not self._queued()
            and len(self.unacknowledged) < self.settings.max_unacknowledged
            and self._take_pace(symbol, now)
        )

    def _take_pace(self, symbol: str, now: float) -> bool:
        """One message's right, of the symbol's pace and of the whole one's."""
        pace = self._symbol_paces.get(symbol)
        if pace is None:
            pace = self._symbol_paces[symbol] = Pace(self.settings.order_rate_per_symbol)
        return pace.wait(now) <= 0.0 and self._pace.take(now) and pace.take(now)

    def _queued(self) -> bool:
        return bool(self._licensing or self.book.queued)

    def _licence(self) -> dict[str, int]:
        broker_id = max(self._next_broker_id, self.book.order_id_floor)
        self._next_broker_id = broker_id + 1
        assert self.permit.session is not None
        return {"session": self.permit.session, "broker_order_id": broker_id}

    def _write_licensed(self, events: Sequence[Event]) -> None:
        """Write what these committed events license, in their order (R9). Synchronous from the commit's answer to the bytes."""
        for event in events:
            if event.order_id is None or event.payload.get("session") is None:
                continue
            order = self.book.orders[event.order_id]
            if event.kind in (Kind.ORDER_ACCEPTED, Kind.ORDER_LICENSED) and order.state is State.SENDING:
                self._write(order)
            elif event.kind == Kind.CANCEL_REQUESTED and not order.final:
                self._write_cancel(order, event.payload)

    def _write(self, order: Order) -> None:
        assert order.licence_epoch is not None
        assert order.session is not None
        assert order.broker_order_id is not None
        licence = Licence(order.licence_epoch, order.session, order.broker_order_id)
        outgoing = _outgoing(order, str(Reference(self.tag, order.epoch, order.id)))
        failpoint.hit("submit.before_write")
        try:
            if (why := self.permit.refuses_write(licence, self._clock())) is None:  # R2: the check and the write,
                self._broker.place(outgoing)  # with no await between them
        except ConnectionError as error:
            why = str(error) or "there is no broker session"
        if why is not None:
            self._take_back(order, why)
            return
        now = self._clock()
        self.first_write_at = self.first_write_at or now
        self.unacknowledged[order.id] = now
        self._sent_at[order.id] = utcnow()
        failpoint.hit("submit.after_write")

    def _take_back(self, order: Order, why: str) -> None:
        """R4: this process knows that it wrote nothing under the licence, so the order may have a new one."""
        logger.warning("order {} was not written: {}; its licence is taken back", order.id, why)
        if self._committer is not None:
            draft = Draft(
                Kind.ORDER_UNLICENSED, {"reason": why}, utcnow(), order.id, order.subject, order.correlation_id
            )
            self._committer.submit([draft], _nothing)

    def sent_at(self, oid: str) -> datetime | None:
        """When this process wrote the order, if it did so on the present session."""
        return self._sent_at.get(oid)

    def acknowledged(self, oid: str) -> None:
        """The broker showed the order."""
        self.unacknowledged.pop(oid, None)
        self._sent_at.pop(oid, None)

    # ---- cancels

    async def cancel(self, oid: str, asker: Asker) -> Order:
        """Ask for a cancel; durable when this returns. Raises Problem 404, 409 (final), 503, 504."""
        order = self.book.orders.get(oid)
        if order is None:
            raise Problem(404, "no-such-order", "No such order", f"There is no order {oid}.")
        if order.final:
            raise Problem(409, "order-final", "The order has ended", f"Order {oid} is {order.state}.")
        if self._committer is None or self.permit.epoch is None or not self.permit.proven(self._clock()):
            raise unavailable("not-leader", "This replica cannot write now.")
        if order.state is State.QUEUED and oid not in self._licensing:
            draft = Draft(Kind.ORDER_CANCELLED, {"reason": "cancelled before it was sent"}, utcnow(), oid, asker.subject,
                          asker.correlation_id)  # fmt: skip
        else:
            payload = self._cancel_licence(order)
            draft = Draft(Kind.CANCEL_REQUESTED, payload, utcnow(), oid, asker.subject, asker.correlation_id)
        answer: asyncio.Future[Order | Problem] = asyncio.get_running_loop().create_future()
        self._submit(self._committer, [draft], answer, oid)
        return await self._answer(answer)

    def _cancel_licence(self, order: Order) -> dict[str, Any]:
        """R7: a cancel uses the pair that this session showed live; hold and halt never stop it (R29)."""
        if self.permit.session is None or order.broker_order_id is None or order.state is not State.WORKING:
            return {}
        return {"session": self.permit.session, "broker_order_id": order.broker_order_id, "perm_id": order.perm_id}

    def _write_cancel(self, order: Order, payload: dict[str, Any]) -> None:
        if payload["session"] != self.permit.session or self.permit.epoch is None:
            return  # the session died first: a cancel is never re-sent by recovery (R7)
        try:
            self._broker.cancel(payload["broker_order_id"])
        except ConnectionError:
            logger.warning("the cancel of order {} was not written: the session is gone", order.id)

    def cancels_to_write(self) -> None:
        """Licence the cancels that were asked for before the order was live on this session."""
        if self._committer is None or self.permit.session is None:
            return
        for order in [self.book.orders[oid] for oid in self.book.cancels_wanted if oid not in self._licensing]:
            if order.state is State.WORKING:
                self._licensing.add(order.id)
                self._committer.submit(
                    [Draft(Kind.CANCEL_REQUESTED, self._cancel_licence(order), utcnow(), order.id, order.subject,
                           order.correlation_id)], self._licensed(order.id)
                )  # fmt: skip

    # ---- the queue behind the gate

    def work_queue(self) -> None:
        """License what waits, in accept order, as far as gate and pace allow; end what is too old (R8). Call it often."""
        committer, now = self._committer, self._clock()
        if committer is None or not self.permit.proven(now):
            return
        drafts: list[Draft] = []
        for order in [self.book.orders[oid] for oid in self.book.queued if oid not in self._licensing]:
            if (why := self._too_old(order)) is not None:
                drafts.append(self._follow_up(Kind.ORDER_EXPIRED, {"reason": why}, order))
            elif not self.permit.gate_open(now) or self.book.holding(*order.contract_key) is not None:
                continue
            elif (
                len(self.unacknowledged) + len(drafts) >= self.settings.max_unacknowledged or self._pace.wait(now) > 0.0
            ):
                break
            elif self._take_pace(order.symbol, now):
                drafts.append(self._follow_up(Kind.ORDER_LICENSED, self._licence(), order))
        for draft in drafts:
            assert draft.order_id is not None
            self._licensing.add(draft.order_id)
            committer.submit([draft], self._licensed(draft.order_id))

    def _licensed(self, oid: str) -> Done:
        def done(outcome: Outcome, events: Sequence[Event], _why: str) -> None:
            self._licensing.discard(oid)
            if outcome is Outcome.COMMITTED:
                self._write_licensed(events)

        return done

    def _follow_up(self, kind: Kind, payload: dict[str, Any], order: Order) -> Draft:
        return Draft(kind, payload, utcnow(), order.id, order.subject, order.correlation_id)

    def _database_now(self) -> datetime:
        offset = self._committer.database_offset if self._committer is not None else None
        return utcnow() + timedelta(seconds=offset or 0.0)

    def _too_old(self, order: Order) -> str | None:
        """R8: age is measured against the database's clock."""
        now = self._database_now()
        if order.valid_until is not None and now > order.valid_until:
            return "valid_until passed before it could be sent"
        ages = self.settings.max_intent_age
        limit = ages.get(order.order_type, ages.get("", 60.0))
        if (age := (now - order.created_at).total_seconds()) > limit:
            return f"it waited {age:.1f} s for the gate; max_intent_age for {order.order_type} is {limit:g} s"
        return None


def _text(value: Decimal | None) -> str | None:
    return None if value is None else str(value)


def _nothing(outcome: Outcome, events: Sequence[Event], why: str) -> None:
    """Nobody waits for this group: if it was not written, reconciliation finds the order as it stands."""


def _outgoing(order: Order, reference: str) -> Outgoing:
    assert order.broker_order_id is not None
    return Outgoing(
        order.broker_order_id, reference, order.account, order.symbol, order.sec_type, order.exchange, order.currency, order.con_id,
        order.side, order.quantity, order.order_type, order.limit_price, order.stop_price, order.tif, order.extra,
    )  # fmt: skip
