"""The way in: from what the gateway said to the ledger. Read `submit.py` first.

    fact -> whose order? -> does it tell the ledger anything new? -> an event -> commit -> the book

Facts are repeated, skipped and reordered at will, so nothing here depends on their order: evidence only ever adds, and is judged by
what the ledger will say once everything on its way to the log is there. An order is FILLED by its executions, never by a status
(R27). What evidence does not decide is asked of the broker by a reconciliation (`on_doubt`), once for each session.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from loguru import logger

from engine import codes, failpoint, intent
from engine.book import Book
from engine.broker import BrokerError, CommissionFact, ExecutionFact, Fact, OpenOrder, OrderStatus, PositionFact
from engine.clock import iso, utcnow
from engine.commission import EarlyCommissions, commission_draft
from engine.commit import Committer, Outcome
from engine.events import Draft, Event, Kind
from engine.evidence import as_asked, changed, execution_draft, news
from engine.order import FINAL, Order, State
from engine.position import execution_root
from engine.reference import Reference
from engine.submit import Desk
from engine.unconfirmed import GATEWAY_ONLY, by_gateway

ENDED = frozenset({"Cancelled", "ApiCancelled"})
LIVE = frozenset({"ApiPending", "PendingSubmit", "PreSubmitted", "Submitted", "PendingCancel", "Filled", "Inactive"})
_RESTING = LIVE - {"Filled", "PendingCancel", "Inactive"}
_LEADS_TO = {
    Kind.ORDER_WORKING: State.WORKING, Kind.ORDER_CANCELLED: State.CANCELLED, Kind.ORDER_REJECTED: State.REJECTED,
    Kind.ORDER_UNLICENSED: State.QUEUED,
}  # fmt: skip


class Inbound:
    """Turns facts into events under the present term. `on_doubt(reason)` asks for a reconciliation."""

    def __init__(self, book: Book, desk: Desk, on_doubt: Callable[[str], None]) -> None:
        self._book, self._desk, self._on_doubt = book, desk, on_doubt
        self._committer: Committer | None = None
        self._pending: set[tuple[object, ...]] = set()  # evidence on its way to the log
        self._states: dict[str, list[State]] = {}  # order id -> the states on their way to the log, in order
        self._ids: dict[str, dict[str, int]] = {}  # order id -> the ids that are on their way to the log, by name
        self._only_inactive: set[str] = set()  # orders of which this process saw nothing but Inactive
        self._asked: set[tuple[object, ...]] = set()  # doubts that were told, with their session
        self._twinned: set[str] = set()  # orders of which a second permId was seen, until its break is resolved (R26)
        self._early = EarlyCommissions()
        self.client_id = 0
        self.broker_positions: dict[tuple[str, int], PositionFact] = {}
        self.losses = 0
        book.observers.append(self._applied)

    def begin(self, committer: Committer, client_id: int) -> None:
        """A term begins."""
        self._forget()
        self._committer, self.client_id = committer, client_id

    def end(self) -> None:
        """The term is over: facts have no log to go to, reconciliation will find them."""
        self._committer = None
        self._forget()

    def _forget(self) -> None:
        for kept in (
            self._pending,
            self._states,
            self._ids,
            self._only_inactive,
            self._asked,
            self._twinned,
            self._early,
        ):
            kept.clear()

    def take(self, fact: Fact) -> None:
        """Take one fact. Never raises for what the gateway says."""
        match fact:
            case OpenOrder():
                self._open_order(fact)
            case OrderStatus():
                self._status(fact)
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
        self._note_commissions()

    # ---- whose is it?

    def find(self, reference: str, perm_id: int, broker_order_id: int) -> Order | None:
        """The ledger's order for this evidence: by our reference, else by permId, else by our session's order id.

        The order id says nothing of an order that carries another cluster's reference.
        """
        parsed = Reference.parse(reference)
        if parsed is not None and parsed.tag == self._desk.tag:
            return self._book.orders.get(parsed.id)
        if perm_id and (oid := self._book.by_perm_id.get(perm_id)) is not None:
            return self._book.orders[oid]
        if parsed is None and broker_order_id and (oid := self._book.by_broker_id.get(broker_order_id)) is not None:
            return self._book.orders[oid]
        return None

    def _lost(self, reference: str) -> bool:
        """Whether it carries our tag and memory has no such order: a reconciliation recalls it, or restores it (R19)."""
        parsed = Reference.parse(reference)
        if parsed is None or parsed.tag != self._desk.tag or parsed.id in self._book.orders:
            return False
        self._doubt(("lost", parsed.id), f"the broker shows {reference}, which the ledger does not know")
        return True

    def _is_twin(self, order: Order, perm_id: int) -> bool:
        """R26: whether this is a second permId under the order's reference."""
        if not self._is_another(order, perm_id):
            return False
        self._twinned.add(order.id)
        self._doubt(("twin", order.id, perm_id), f"the broker has another permId, {perm_id}, for order {order.id}")
        return True

    def _is_another(self, order: Order, perm_id: int) -> bool:
        known = order.perm_id or self._ids.get(order.id, {}).get("perm_id")
        return bool(known and perm_id and known != perm_id)

    def _has_twin(self, order: Order) -> bool:
        return order.id in self._twinned or any(
            found.kind == "twin" and found.order_id == order.id for found in self._book.open_breaks.values()
        )

    # ---- orders

    def _open_order(self, fact: OpenOrder) -> None:
        order = self.find(fact.reference, fact.perm_id, 0)
        if order is None and fact.status not in _RESTING and fact.perm_id in self._book.evicted.perm_ids:
            return  # it has left memory as an order that ended: nothing new
        if order is None:
            self._lost(fact.reference)
        elif not self._is_twin(order, fact.perm_id):
            own_id = fact.broker_order_id if fact.client_id == self.client_id else 0
            self._seen(order, fact.status, fact.perm_id, own_id, fact.contract.con_id)
            figures = changed(order, fact)
            if figures and order.state is State.WORKING and as_asked(order, figures):
                self._change(order, figures)
            elif figures and order.state in (State.WORKING, State.FILLED):
                self._doubt(("changed", order.id, *figures.items()), f"order {order.id} was changed at the broker")

    def _change(self, order: Order, figures: dict[str, str]) -> None:
        """The change that was asked for is there."""
        draft = intent.follow_up(Kind.ORDER_CHANGED, figures, order, utcnow())
        self._submit((order.id, Kind.ORDER_CHANGED, *figures.items()), draft)

    def _status(self, fact: OrderStatus) -> None:
        own_id = fact.broker_order_id if fact.client_id == self.client_id else 0
        order = self.find("", fact.perm_id, own_id)
        if order is None or self._is_another(order, fact.perm_id):
            return  # nobody's, or an order id that IB gave to another order: the permId decides
        self._seen(order, fact.status, fact.perm_id, own_id, 0)

    def _seen(self, order: Order, status: str, perm_id: int, own_id: int, con_id: int) -> None:
        state, before = self._state(order), order.id in self._only_inactive
        marks = self._desk.cancels.unconfirmed
        confirmed = not order.external and marks.seen(order.id, status, unanswered=order.gateway_only)
        if status in ENDED and self._has_twin(
            order
        ):  # R26: both have one orderId, and IB chooses which one a cancel ends:
            self._doubt(("one ended", order.id, perm_id), f"one of the permIds of order {order.id} ended, {perm_id}")
            return  # whether the order has ended, the list of open orders says
        if status in LIVE:
            self._desk.shown(order.id, own_id, perm_id)
            self._only_inactive.discard(order.id)
        elif status in ENDED:
            self._desk.acknowledged(order.id)
        kind = self._tells(order, state, status)
        if kind is None and state is State.WORKING and status in LIVE:
            kind = (
                Kind.ORDER_WORKING
                if confirmed or news(order, self._ids.get(order.id, {}), perm_id, own_id, con_id)
                else None
            )
        if kind is None and state is State.REJECTED and status in LIVE and perm_id and not order.perm_id:
            kind = Kind.ORDER_REJECTED  # the error came first, now we know what it was about
        if status == "Inactive" and (before or (kind is Kind.ORDER_WORKING and state is not State.WORKING)):
            self._only_inactive.add(order.id)
        if kind is not None:
            self._write(order, kind, self._evidence(order, kind, status, perm_id, own_id, con_id))

    def _state(self, order: Order) -> State:
        """The order's state once everything on its way to the log is there."""
        coming = self._states.get(order.id)
        return coming[-1] if coming else order.state

    def _tells(self, order: Order, state: State, status: str) -> Kind | None:
        """The event that this status adds to `state`, None when nothing."""
        if status in ENDED:
            return None if state in FINAL else Kind.ORDER_CANCELLED
        if status not in LIVE:
            logger.warning("order {} has the unknown status {!r} at the broker", order.id, status)
            return None
        if state in (State.SENDING, State.IN_DOUBT, State.QUEUED):
            return Kind.ORDER_WORKING
        if status in _RESTING and state in FINAL and state is not State.FILLED:
            self._doubt(("ended", order.id), f"order {order.id} is {state} here and {status} at the broker")
        return None

    def _evidence(
        self, order: Order, kind: Kind, status: str, perm_id: int, own_id: int, con_id: int
    ) -> dict[str, Any]:
        payload: dict[str, Any] = {"status": status, "perm_id": perm_id or None}
        if kind is Kind.ORDER_WORKING:
            payload |= {"broker_order_id": own_id or None, "con_id": con_id or None} | by_gateway(status)
        elif kind is Kind.ORDER_CANCELLED:
            payload["reason"] = "cancelled" if order.cancel_requested else "cancelled at the broker"
        return payload  # the reason of a rejection is the error's, it stays

    # ---- executions

    def _execution(self, fact: ExecutionFact) -> None:
        order = self.find(fact.reference, fact.perm_id, fact.broker_order_id if fact.client_id == self.client_id else 0)
        if order is not None:
            self._desk.acknowledged(order.id)
            self._is_twin(order, fact.perm_id)  # booked all the same: positions are sums
        root, revision = execution_root(fact.exec_id)
        if order is None and self._left(fact, root, revision):
            return
        known = self._book.executions.get((fact.account, root))
        if known is not None and known.revision >= revision:
            return  # G5: booked already
        if known is not None and (known.con_id, known.side) != (fact.contract.con_id, fact.side):
            self._doubt(("execution", fact.exec_id), f"execution {fact.exec_id} contradicts {known.exec_id}")
            return  # R27: no correction; a reconciliation opens the break
        draft = execution_draft(fact, order)
        if order is not None and (sent := self._desk.sent_at(order.id)) is not None:
            draft.payload["sent_at"] = iso(sent)
        self._submit((fact.exec_id, Kind.EXECUTION), draft)
        self._early.booked(fact.exec_id)

    def _left(self, fact: ExecutionFact, root: str, revision: int) -> bool:
        """Whether this execution of no order in memory is not to be booked from here: it is booked already, or the order or the
        execution that it is about may have left memory, and a reconciliation looks it up (G5)."""
        evicted, is_here = self._book.evicted, (fact.account, root) in self._book.executions
        if (not is_here and evicted.has(fact.account, root, revision)) or self._lost(fact.reference):
            return True
        if is_here:
            return False
        if evicted.revision(fact.account, root) is None and not evicted.roots.forgotten:
            return False
        self._doubt(("left", fact.exec_id), f"execution {fact.exec_id} may be about one that has left memory")
        return True

    def _commission(self, fact: CommissionFact) -> None:
        if fact.exec_id in self._book.exec_by_id or (fact.exec_id, Kind.EXECUTION) in self._pending:
            if (draft := commission_draft(fact, self._book, utcnow())) is not None:
                self._submit((fact.exec_id, Kind.COMMISSION, fact.commission), draft)
            return
        root, revision = execution_root(fact.exec_id)
        if not any(self._book.evicted.has(account, root, revision) for account in self._book.accounts):
            self._early.hold(fact)  # of those that left memory each list of the day brings the reports again

    def _note_commissions(self) -> None:
        for fact in self._early.take_due():
            self._commission(fact)

    def _applied(self, event: Event) -> None:
        """What a reconciliation wrote: an execution that may be waited for, the answer to a twin. And what left needs no notes."""
        for kept in (self._only_inactive, self._twinned):
            kept.difference_update(self._book.left)
        if event.kind == Kind.EXECUTION:
            self._early.booked(event.payload["exec_id"])
        elif event.kind == Kind.BREAK_RESOLVED and event.order_id is not None:
            self._twinned.discard(event.order_id)

    # ---- errors

    def _error(self, fact: BrokerError) -> None:
        """An error about a *new* order may end it; one about a cancel or a modify never does, it is a reason to ask."""
        oid = self._book.by_broker_id.get(fact.request_id) if fact.request_id > 0 else None
        order = self._book.orders[oid] if oid is not None else None
        if order is None or order.broker_order_id != fact.request_id:
            return
        meaning, state, reason = codes.for_new_order(fact.code), self._state(order), f"{fact.code}: {fact.message}"
        session = self._desk.permit.session
        if order.asked_session == session and state is State.WORKING and fact.code in codes.MODIFY_REFUSED:
            refused = intent.follow_up(Kind.MODIFY_REFUSED, {"reason": reason}, order, utcnow())
            self._submit((order.id, Kind.MODIFY_REFUSED, order.revision), refused)
        if meaning is codes.Meaning.SAYS_NOTHING or order.session != session:
            return
        unheard = state is State.WORKING and order.id in self._only_inactive and not order.filled
        if order.repeats and state is State.SENDING:  # R1: an error about a repetition says nothing of the first one
            self._desk.acknowledged(order.id)
            self._desk.still_in_doubt(order, reason)
        elif meaning is codes.Meaning.REJECTED and (state is State.SENDING or unheard):
            self._desk.acknowledged(order.id)
            self._write(order, Kind.ORDER_REJECTED, {"reason": reason, "code": fact.code})
        elif meaning is codes.Meaning.ID_USED and state is State.SENDING:
            self._desk.acknowledged(order.id)  # R4: nothing of it exists, a new licence under a new id
            self._write(order, Kind.ORDER_UNLICENSED, {"reason": reason})
        elif state is State.WORKING:
            self._doubt(("error", order.id, fact.code), f"error {reason} about order {order.id}")

    # ---- to the log

    def _doubt(self, about: tuple[object, ...], reason: str) -> None:
        """Ask for a reconciliation, once for each session: what it did not settle, asking again at once does not either."""
        about = (self._desk.permit.session, *about)
        if about not in self._asked:
            self._asked.add(about)
            self._on_doubt(reason)

    def _write(self, order: Order, kind: Kind, payload: dict[str, Any]) -> None:
        if (sent := self._desk.sent_at(order.id)) is not None:
            payload["sent_at"] = iso(sent)
        what = (
            order.id,
            kind,
            *map(payload.get, ("perm_id", "broker_order_id", "con_id")),
            payload.get("status") in GATEWAY_ONLY,
        )
        if self._committer is None or what in self._pending:
            return
        self._states.setdefault(order.id, []).append(_LEADS_TO[kind])
        ids = {name: payload[name] for name in ("perm_id", "broker_order_id", "con_id") if payload.get(name)}
        self._ids[order.id] = ids | self._ids.get(order.id, {})
        self._submit(what, Draft(kind, payload, utcnow(), order.id, order.subject, order.correlation_id))

    def _submit(self, what: tuple[object, ...], draft: Draft) -> None:
        if self._committer is None or what in self._pending:
            return
        self._pending.add(what)
        failpoint.hit("inbound.before_commit")

        def done(outcome: Outcome, _events: Sequence[Event], why: str) -> None:
            self._pending.discard(what)
            if draft.kind in _LEADS_TO:
                self._arrived(draft.order_id or "", _LEADS_TO[draft.kind])
            if outcome is Outcome.REFUSED and self._committer is not None:
                self._refused(draft, why)
            self._note_commissions()

        self._committer.submit([draft], done)

    def _arrived(self, oid: str, state: State) -> None:
        """What was on its way for this order is in the log, or will never be."""
        coming = self._states.get(oid, [])
        if state in coming:
            coming.remove(state)
        if not coming:
            self._states.pop(oid, None)
            self._ids.pop(oid, None)

    def _refused(self, draft: Draft, why: str) -> None:
        """The state has moved on since the evidence was judged; unless that told the same, the broker is asked again."""
        logger.debug("evidence {} was not written: {}", draft.kind, why)
        if draft.kind is Kind.EXECUTION:
            known = self._book.executions.get((draft.payload["account"], draft.payload["root"]))
            if known is not None and known.revision >= draft.payload["revision"]:
                return
        if draft.kind is not Kind.COMMISSION:
            self._on_doubt(f"evidence was not written: {why}")
