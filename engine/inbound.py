"""The way in: from what the gateway said to the ledger. Read `submit.py` first.

    fact -> whose order? -> does it tell the ledger anything new? -> an event -> commit -> the book

Facts are repeated, skipped and reordered at will, so nothing here depends on their order: evidence only ever adds. An order is
FILLED by its executions, never by a status (R27).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from loguru import logger

from engine import codes, failpoint
from engine.book import Book
from engine.broker import BrokerError, CommissionFact, ExecutionFact, Fact, OpenOrder, OrderStatus, PositionFact
from engine.clock import iso, utcnow
from engine.commit import Committer, Outcome
from engine.events import Draft, Event, Kind
from engine.order import Order, State
from engine.position import execution_root
from engine.reference import Reference
from engine.submit import Desk

ENDED = frozenset({"Cancelled", "ApiCancelled"})
LIVE = frozenset({"ApiPending", "PendingSubmit", "PreSubmitted", "Submitted", "PendingCancel", "Filled", "Inactive"})


class Inbound:
    """Turns facts into events under the present term. `on_doubt(reason)` asks for a reconciliation."""

    def __init__(self, book: Book, desk: Desk, on_doubt: Callable[[str], None]) -> None:
        self._book, self._desk, self._on_doubt = book, desk, on_doubt
        self._committer: Committer | None = None
        self._pending: set[tuple[str, str]] = set()  # what is on its way to the log: (entity, what)
        self.client_id = 0
        self.broker_positions: dict[tuple[str, int], PositionFact] = {}
        self.losses = 0

    def begin(self, committer: Committer, client_id: int) -> None:
        """A term begins."""
        self._committer, self.client_id = committer, client_id
        self._pending.clear()

    def end(self) -> None:
        """The term is over: facts have no log to go to, reconciliation will find them."""
        self._committer = None
        self._pending.clear()

    def take(self, fact: Fact) -> None:
        """Take one fact. Never raises for what the gateway says."""
        match fact:
            case OpenOrder():
                self._order_seen(self.find(fact.reference, fact.perm_id, 0), fact.status, fact.perm_id, fact)
            case OrderStatus():
                self._order_seen(self._by_status(fact), fact.status, fact.perm_id, None)
            case ExecutionFact():
                self._execution(fact)
            case CommissionFact():
                self._commission(fact)
            case PositionFact():
                self.broker_positions[(fact.account, fact.con_id)] = fact
            case BrokerError():
                self._error(fact)
            case _:
                pass

    # ---- whose is it?

    def find(self, reference: str, perm_id: int, broker_order_id: int) -> Order | None:
        """The ledger's order for this evidence: by reference, else by permId, else by our session's order id."""
        parsed = Reference.parse(reference)
        if parsed is not None:
            return self._book.orders.get(parsed.id) if parsed.tag == self._desk.tag else None
        if perm_id and (oid := self._book.by_perm_id.get(perm_id)) is not None:
            return self._book.orders[oid]
        if broker_order_id and (oid := self._book.by_broker_id.get(broker_order_id)) is not None:
            return self._book.orders[oid]
        return None

    def _by_status(self, fact: OrderStatus) -> Order | None:
        ours = fact.client_id == self.client_id
        order = self.find("", fact.perm_id, fact.broker_order_id if ours else 0)
        if order is not None and order.perm_id and fact.perm_id and order.perm_id != fact.perm_id:
            return None  # an order id that IB gave to another order: the permId decides
        return order

    # ---- orders

    def _order_seen(self, order: Order | None, status: str, perm_id: int, fact: OpenOrder | None) -> None:
        if order is None:
            if fact is not None and (parsed := Reference.parse(fact.reference)) and parsed.tag == self._desk.tag:
                self._on_doubt(f"the broker shows {fact.reference}, which the ledger does not know")
            return
        if status in LIVE:
            self._desk.acknowledged(order.id)
        kind = self._tells(order, status)
        if kind is not None:
            self._write(order, kind, self._evidence(order, status, perm_id, fact))

    def _tells(self, order: Order, status: str) -> Kind | None:
        """The event that this status adds to what the ledger has, None when nothing."""
        if status in ENDED:
            return Kind.ORDER_CANCELLED if not order.final else None
        if status not in LIVE:
            logger.warning("order {} has the unknown status {!r} at the broker", order.id, status)
            return None
        if order.state in (State.SENDING, State.IN_DOUBT, State.QUEUED):
            return Kind.ORDER_WORKING
        if order.final and status not in ("Filled", "PendingCancel", "Inactive") and order.state is not State.FILLED:
            self._on_doubt(f"order {order.id} is {order.state} here and {status} at the broker")
        return None

    def _evidence(self, order: Order, status: str, perm_id: int, fact: OpenOrder | None) -> dict[str, Any]:
        payload: dict[str, Any] = {"status": status, "perm_id": perm_id or None}
        if fact is not None:
            payload |= {"broker_order_id": fact.broker_order_id or None, "con_id": fact.contract.con_id or None}
        if (sent := self._desk.sent_at(order.id)) is not None:
            payload["sent_at"] = iso(sent)
        if status in ENDED:
            payload["reason"] = "cancelled" if order.cancel_requested else "cancelled at the broker"
        return payload

    # ---- executions

    def _execution(self, fact: ExecutionFact) -> None:
        order = self.find(fact.reference, fact.perm_id, fact.broker_order_id if fact.client_id == self.client_id else 0)
        if order is not None:
            self._desk.acknowledged(order.id)
        draft = execution_draft(fact, order)
        root, revision = execution_root(fact.exec_id)
        known = self._book.executions.get((fact.account, root))
        if known is not None and known.revision >= revision:
            return  # G5: booked already
        self._submit((fact.exec_id, Kind.EXECUTION), draft)

    def _commission(self, fact: CommissionFact) -> None:
        where = self._book.exec_by_id.get(fact.exec_id)
        if where is not None and self._book.executions[where].commission is not None:
            return
        pnl = None if fact.realized_pnl is None else str(fact.realized_pnl)
        payload = {
            "exec_id": fact.exec_id,
            "commission": str(fact.commission),
            "currency": fact.currency,
            "realized_pnl": pnl,
        }
        self._submit((fact.exec_id, Kind.COMMISSION), Draft(Kind.COMMISSION, payload, utcnow()))

    # ---- errors

    def _error(self, fact: BrokerError) -> None:
        oid = self._book.by_broker_id.get(fact.request_id) if fact.request_id > 0 else None
        order = self._book.orders[oid] if oid is not None else None
        if order is None or order.state is not State.SENDING or order.session != self._desk.permit.session:
            return  # an error on a cancel or a modify never ends an order
        meaning = codes.for_new_order(fact.code)
        reason = f"{fact.code}: {fact.message}"
        if meaning is codes.Meaning.REJECTED:
            self._desk.acknowledged(order.id)
            self._write(order, Kind.ORDER_REJECTED, {"reason": reason, "code": fact.code})
        elif meaning is codes.Meaning.ID_USED:  # R4: nothing of it exists, a new licence under a new id
            self._desk.acknowledged(order.id)
            self._write(order, Kind.ORDER_UNLICENSED, {"reason": reason})

    # ---- to the log

    def _write(self, order: Order, kind: Kind, payload: dict[str, Any]) -> None:
        self._submit((order.id, kind), Draft(kind, payload, utcnow(), order.id, order.subject, order.correlation_id))

    def _submit(self, what: tuple[str, str], draft: Draft) -> None:
        if self._committer is None or what in self._pending:
            return
        self._pending.add(what)
        failpoint.hit("inbound.before_commit")

        def done(outcome: Outcome, _events: Sequence[Event], why: str) -> None:
            self._pending.discard(what)
            if outcome is Outcome.REFUSED:
                logger.debug("evidence {} was not written: {}", what, why)

        self._committer.submit([draft], done)


def execution_draft(fact: ExecutionFact, order: Order | None) -> Draft:
    """The event that books `fact`, on `order` where it is one of ours."""
    root, revision = execution_root(fact.exec_id)
    payload = {
        "exec_id": fact.exec_id, "root": root, "revision": revision, "account": fact.account, "con_id": fact.contract.con_id,
        "symbol": fact.contract.symbol, "side": fact.side, "quantity": str(fact.quantity), "price": str(fact.price),
        "exchange": fact.exchange, "perm_id": fact.perm_id, "at": iso(fact.at), "order_ref": fact.reference,
    }  # fmt: skip
    if order is None:
        return Draft(Kind.EXECUTION, payload, utcnow())
    return Draft(Kind.EXECUTION, payload, utcnow(), order.id, order.subject, order.correlation_id)
