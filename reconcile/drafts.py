"""The events that carry out a verdict of the table. Pure; each payload has the shape that the fold of `engine.book` reads."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from engine.book import Book
from engine.breaks import break_id
from engine.broker import OpenOrder
from engine.events import Draft, Kind
from engine.evidence import execution_draft
from engine.order import OPERATOR_DEAD, Order
from engine.risk import NO_LIMITS, Limits, excesses
from engine.unconfirmed import by_gateway
from reconcile.differences import (
    BreakOutlived,
    ChangedThere,
    ChangeLost,
    DeadTraded,
    Evidence,
    ExecutionDiffers,
    ExecutionGone,
    FillsMissing,
    OrderDiffers,
    StrangerSeen,
    TwinSeen,
)
from reconcile.positions import AGREES_AGAIN, PositionDiffers
from reconcile.restored import links
from reconcile.snapshot import Identity, Snapshot

Figures = dict[str, str | None]


@dataclass(frozen=True, slots=True)
class View:
    """What a row may look at beside the difference itself.

    `lacks`: ids that make the snapshot prove no absence (R23). `never_traded`: the ledger has never licensed an order and the
    broker shows none under our tag. `limits`: what an order that was changed at the broker is checked against (R28).
    `may_cancel`: somebody writes the cancels that a plan licenses (R26). `day_began`: the gateway shows what happened since
    then, None = not known. `moved`: contracts (account, symbol) whose position differs.
    """

    book: Book
    snapshot: Snapshot
    me: Identity
    now: datetime
    lacks: tuple[str, ...]
    never_traded: bool
    limits: Limits = NO_LIMITS
    may_cancel: bool = False
    day_began: datetime | None = None
    moved: frozenset[tuple[str, str]] = frozenset()

    @property
    def whole(self) -> bool:
        """Whether nothing of the gateway's day is missing (G6)."""
        return self.snapshot.complete and self.snapshot.linked and not self.lacks

    def proves_absence(self, order: Order) -> bool:
        """Whether this snapshot does not show our order because it is not there (R23)."""
        return self.whole and self._why_not_judged(order) is None

    def _why_not_judged(self, order: Order) -> str | None:
        """R23: it may have ended on a day that the gateway shows no more, or its contract's position says that it traded."""
        if self.day_began is not None and order.created_at < self.day_began:
            return "the order is older than the gateway's day"
        return "the contract's position differs" if order.contract_key in self.moved else None

    def worth(self, order: Order) -> str:
        """What to tell a person of the snapshot's worth for this order."""
        why = self._why_not_judged(order)
        return self.completeness if why is None else f"{self.completeness}, {why}"

    @property
    def completeness(self) -> str:
        """What to tell a person of the snapshot's worth."""
        unasked = () if self.snapshot.linked else ("IB was not asked",)
        wants = [*self.snapshot.missing, *unasked, *(f"order {oid}" for oid in self.lacks)]
        return f"incomplete snapshot: {', '.join(wants)}" if wants else "complete snapshot"


def nothing(_difference: object, _view: View) -> list[Draft]:
    """For rows that write nothing."""
    return []


# ---- orders


def working(d: OrderDiffers, view: View) -> list[Draft]:
    """The broker shows it: its ids and its state as shown."""
    fact = d.seen.shown
    payload: dict[str, Any] = {"status": fact.status if fact is not None else None, "perm_id": _perm_id(d)}
    if fact is not None:
        payload |= {"broker_order_id": _own_id(fact, view), "con_id": fact.contract.con_id or None} | by_gateway(
            fact.status
        )
    return [_of(d.order, Kind.ORDER_WORKING, payload, view)]


def reopened(d: OrderDiffers, view: View) -> list[Draft]:
    """R1: late evidence reopens it, and somebody who was told that it ended must hear of it.

    Called dead by an operator, or asked to be cancelled, it is cancelled as soon as a session shows it live (R7).
    """
    found = _break(view, "reopened", d.order, d.ours(), d.seen.figures())
    drafts = [*working(d, view), found]
    if d.order.cancel_requested or d.order.reason == OPERATOR_DEAD:
        drafts.append(_of(d.order, Kind.CANCEL_REQUESTED, {"reason": "it surfaced after it had ended here"}, view))
    return drafts


def dead_traded(d: DeadTraded, view: View) -> list[Draft]:
    """R1: it was alive after all; its executions are booked, and somebody was told otherwise."""
    return [_break(view, "reopened", d.order, d.ours(), d.seen.figures() | {"filled": str(d.filled)})]


def cancelled(d: OrderDiffers, view: View) -> list[Draft]:
    """It ended at the broker without being filled."""
    reason = "cancelled" if d.order.cancel_requested else "cancelled at the broker"
    return [_of(d.order, Kind.ORDER_CANCELLED, {"perm_id": _perm_id(d), "reason": reason}, view)]


def rejected(d: OrderDiffers, view: View) -> list[Draft]:
    """It ended at the broker as inactive, with nothing filled."""
    end = d.seen.end
    reason = (end.text if end is not None else "") or "inactive at the broker"
    return [_of(d.order, Kind.ORDER_REJECTED, {"perm_id": _perm_id(d), "reason": reason}, view)]


def external_over(d: OrderDiffers, view: View) -> list[Draft]:
    """Somebody else's order is no longer there; how it traded is in the executions and positions, as far as they are shown."""
    end = d.seen.end
    reason = (
        f"ended at the broker: {end.status}" if end is not None else "no longer at the broker, its end was not shown"
    )
    return [_of(d.order, Kind.ORDER_CANCELLED, {"perm_id": None, "reason": reason}, view)]


def in_doubt(d: OrderDiffers, view: View) -> list[Draft]:
    """R1: parked, with both sides' figures, and never sent again by itself."""
    worth = view.worth(d.order)
    reason = f"session {d.order.session} ended and the broker does not show the order ({worth})"
    broker = d.seen.figures() | {"snapshot": worth}
    return [
        _of(d.order, Kind.ORDER_IN_DOUBT, {"reason": reason}, view),
        _break(view, "in_doubt", d.order, d.ours(), broker),
    ]


def vanished(d: OrderDiffers, view: View) -> list[Draft]:
    """R25: seen and then gone; its state stays as last seen."""
    return [_break(view, "vanished", d.order, d.ours(), d.seen.figures())]


def change_lost(d: ChangeLost, view: View) -> list[Draft]:
    """The change did not come there; whoever asked for it may ask again."""
    return [
        _of(d.order, Kind.MODIFY_REFUSED, {"reason": "its session ended before the broker showed the change"}, view)
    ]


def missing_executions(d: FillsMissing, view: View) -> list[Draft]:
    """The fills are not invented: a person sees both figures."""
    broker = d.seen.figures() | {"filled": str(d.broker), "snapshot": view.completeness}
    return [_break(view, "missing_executions", d.order, {"filled": str(d.ours), "state": str(d.order.state)}, broker)]


def filled_yet_open(d: OrderDiffers, view: View) -> list[Draft]:
    """Its executions sum up to its quantity, and the broker would trade on."""
    return [_break(view, "filled_yet_open", d.order, d.ours(), d.seen.figures())]


def changed_there(d: ChangedThere, view: View) -> list[Draft]:
    """R28: the broker's figures are the order's now; a limit that they break is told to a person, nothing is reverted."""
    order, fact = d.order, d.fact
    drafts = [_of(order, Kind.ORDER_CHANGED, {"reason": "changed at the broker", **d.figures}, view)]
    if told := excesses(view.limits, fact.contract.symbol, fact.quantity, fact.limit_price or fact.stop_price):
        ours: Figures = {"quantity": str(order.quantity), "limit_price": _figure(order.limit_price)}
        broker: Figures = {**d.figures, "limits": "; ".join(told)}
        opened = _opened(view, "risk", order.account, order.symbol, order.id, ours, broker, order.id, holds=False)
        drafts.append(dataclasses.replace(opened, subject=order.subject, correlation_id=order.correlation_id))
    return drafts


def twin_to_cancel(d: TwinSeen) -> list[OpenOrder]:
    """The live orders beside the one that was there first, where all of them are ours to cancel."""
    first = d.order.perm_id or d.perm_ids[0]
    facts = {fact.perm_id: fact for fact in d.seen.open if fact.perm_id in d.seen.live and fact.perm_id != first}
    traded = {fact.perm_id for fact in d.seen.executions}
    first_counts = first in d.seen.live or first in traded or d.order.filled > 0
    return [facts[perm_id] for perm_id in sorted(facts)] if first_counts else []


def twin_cancelled(d: TwinSeen, view: View) -> list[Draft]:
    """R26: the break, and for the younger one a licence to cancel it, once: what comes of it the next collection shows."""
    licences = [
        _of(d.order, Kind.TWIN_CANCEL_LICENSED,
            {"session": view.snapshot.session, "broker_order_id": fact.broker_order_id, "perm_id": fact.perm_id}, view)
        for fact in twin_to_cancel(d)
    ]  # fmt: skip
    return [*licences, *twin(d, view)]


def twin(d: TwinSeen, view: View) -> list[Draft]:
    """R26: two permIds under one reference of ours."""
    ours: Figures = {"perm_id": str(d.order.perm_id) if d.order.perm_id else None, "quantity": str(d.order.quantity)}
    clients = sorted({fact.client_id for fact in d.seen.open} | {fact.client_id for fact in d.seen.executions})
    broker = d.seen.figures() | {"perm_id": permids(d), "client_id": ", ".join(map(str, clients)) or None}
    return [_break(view, "twin", d.order, ours, broker)]


def permids(d: TwinSeen) -> str:
    """A twin's permIds as its break names them."""
    return ", ".join(map(str, d.perm_ids))


# ---- strangers


def recorded(d: StrangerSeen, view: View) -> list[Draft]:
    """A row for an order that the ledger has not: restored when it carries our tag (R19), else external."""
    payload = _from_order(d.seen, view) if d.seen.shown is not None else _from_executions(d.seen)
    payload |= {"client_order_id": None, "body": None, "perm_id": next(iter(d.seen.perm_ids), None)}
    if d.own is not None:
        payload |= {"epoch": d.own.epoch, "reason": "restored from what the broker shows"}
        if d.seen.shown is not None:
            payload["extra"] = links(d.seen.shown, d.own, view.book, view.snapshot, view.me)
    kind = Kind.ORDER_RESTORED if d.own is not None else Kind.ORDER_EXTERNAL
    return [Draft(kind, payload, view.now, d.order_id)]


def _from_order(seen: Evidence, view: View) -> dict[str, Any]:
    fact = seen.shown
    assert fact is not None
    traded = sum((execution.quantity for execution in seen.executions), Decimal(0))
    quantity = fact.quantity or seen.traded or traded  # a filled completed order has 0 there and its amount elsewhere
    contract = fact.contract
    return {
        "account": fact.account, "symbol": contract.symbol, "side": fact.side, "quantity": str(quantity),
        "order_type": fact.order_type, "limit_price": _figure(fact.limit_price), "stop_price": _figure(fact.stop_price),
        "tif": fact.tif, "sec_type": contract.sec_type, "exchange": contract.exchange, "currency": contract.currency,
        "con_id": contract.con_id, "broker_order_id": _own_id(fact, view),
    }  # fmt: skip


def _from_executions(seen: Evidence) -> dict[str, Any]:
    """Only its executions are left: its quantity is at least their sum, and what else it said is not known."""
    first = seen.executions[0]
    contract = first.contract
    return {
        "account": first.account, "symbol": contract.symbol, "side": first.side,
        "quantity": str(sum((fact.quantity for fact in seen.executions), Decimal(0))), "order_type": "", "tif": "",
        "sec_type": contract.sec_type, "exchange": contract.exchange, "currency": contract.currency,
        "con_id": contract.con_id,
    }  # fmt: skip


# ---- executions, positions, breaks


def booked(d: ExecutionDiffers, view: View) -> list[Draft]:
    """The execution, on its order where it has one; a higher revision takes the lower one's place in the fold (G5)."""
    draft = execution_draft(d.fact, d.order)
    return [dataclasses.replace(draft, at=view.now, order_id=d.order_id)]


def contradicting(d: ExecutionDiffers, view: View) -> list[Draft]:
    """R27: the same root with another contract or side; booking it would move two positions."""
    known, fact = d.known, d.fact
    assert known is not None
    ours: Figures = {
        "exec_id": known.exec_id, "con_id": str(known.con_id), "side": known.side, "quantity": str(known.quantity),
    }  # fmt: skip
    broker: Figures = {
        "exec_id": fact.exec_id, "con_id": str(fact.contract.con_id), "side": fact.side, "quantity": str(fact.quantity),
    }  # fmt: skip
    return [_opened(view, "execution", fact.account, known.symbol, d.order_id, ours, broker, fact.exec_id)]


def bust(d: ExecutionGone, view: View) -> list[Draft]:
    """R25: the execution stays booked; a person sees that the broker does not show it any more."""
    known = d.known
    ours: Figures = {
        "exec_id": known.exec_id, "con_id": str(known.con_id), "side": known.side, "quantity": str(known.quantity),
        "price": str(known.price),
    }  # fmt: skip
    broker: Figures = {"shown": "nothing", "snapshot": view.completeness}
    return [_opened(view, "bust", known.account, known.symbol, known.order_id, ours, broker, known.exec_id)]


def position_break(d: PositionDiffers, view: View) -> list[Draft]:
    """Both figures; the contract is frozen until they agree or an operator decides (G5)."""
    return [_position_break("position", d, view, holds=True)]


def external_position(d: PositionDiffers, view: View) -> list[Draft]:
    """What the broker held before this ledger ever traded: named, not frozen, and counted beside ours from now on."""
    return [_position_break("external_position", d, view, holds=False)]


def _position_break(kind: str, d: PositionDiffers, view: View, *, holds: bool) -> Draft:
    ours: Figures = {"quantity": str(d.ours), "con_id": str(d.con_id)}
    broker: Figures = {"quantity": str(d.broker), "con_id": str(d.con_id), "snapshot": view.completeness}
    return _opened(view, kind, d.account, d.symbol, None, ours, broker, f"{d.account}:{d.con_id}", holds=holds)


def agrees_again(d: PositionDiffers, view: View) -> list[Draft]:
    """The figures are equal again."""
    assert d.opened is not None
    return [Draft(Kind.BREAK_RESOLVED, {"id": d.opened.id, "resolution": AGREES_AGAIN}, view.now, d.opened.order_id)]


def surfaced(d: BreakOutlived, view: View) -> list[Draft]:
    """The evidence answered what the break asked."""
    payload = {"id": d.found.id, "resolution": _ANSWERS.get(d.found.kind, "surfaced")}
    if d.order is None:
        return [Draft(Kind.BREAK_RESOLVED, payload, view.now)]
    return [Draft(Kind.BREAK_RESOLVED, payload, view.now, d.order.id, d.order.subject, d.order.correlation_id)]


_ANSWERS = {
    "missing_executions": AGREES_AGAIN, "bust": "shown again", "twin": "one of them ended",
    "filled_yet_open": "no longer open",
}  # fmt: skip


# ---- their parts


def _of(order: Order, kind: Kind, payload: dict[str, Any], view: View) -> Draft:
    return Draft(kind, payload, view.now, order.id, order.subject, order.correlation_id)


def _break(view: View, kind: str, order: Order, ours: Figures, broker: Figures) -> Draft:
    draft = _opened(view, kind, order.account, order.symbol, order.id, ours, broker, order.id)
    return dataclasses.replace(draft, subject=order.subject, correlation_id=order.correlation_id)


def _opened(
    view: View,
    kind: str,
    account: str,
    symbol: str,
    order_id: str | None,
    ours: Figures,
    broker: Figures,
    what: str,
    *,
    holds: bool = True,
) -> Draft:
    payload = {
        "id": break_id(kind, what, view.book.seq), "kind": kind, "symbol": symbol, "account": account, "ours": ours,
        "broker": broker, "holds": holds,
    }  # fmt: skip
    return Draft(Kind.BREAK_OPENED, payload, view.now, order_id)


def _perm_id(d: OrderDiffers) -> int | None:
    perm_ids, live, known = d.seen.perm_ids, d.seen.live, d.order.perm_id
    if len(live) == 1:
        return live[0]  # another one has ended where the ledger has that one's: the twin goes on
    return known if known in perm_ids or not perm_ids else perm_ids[0]


def _own_id(fact: OpenOrder, view: View) -> int | None:
    """The orderId where it is in our own number space."""
    return fact.broker_order_id or None if fact.client_id == view.me.client_id else None


def _figure(value: Decimal | None) -> str | None:
    return None if value is None else str(value)
