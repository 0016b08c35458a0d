"""An intent as the log, the broker and a retry see it. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from engine.broker import Outgoing
from engine.clock import ib_utc, iso
from engine.contracts import Meant
from engine.events import Draft, Event, Kind, place
from engine.family import PARENT, TOGETHER
from engine.fold import new_order
from engine.order import Order, State
from engine.reference import Reference
from engine.request import OrderRequest, same_order

A_DAY_ENDS_WITHIN = timedelta(hours=12)


def accepted(
    request: OrderRequest, account: str, contract: Meant, parent: str | None = None, family: str | None = None
) -> dict[str, Any]:
    """The payload of the order's acceptance, without a licence. `parent`: its parent's id; `family`: what goes out together."""
    payload: dict[str, Any] = {
        "client_order_id": request.client_order_id, "body": request.canonical(), "account": account,
        "symbol": contract.symbol, "con_id": contract.con_id or request.con_id, "side": request.side,
        "quantity": str(request.quantity),
        "order_type": request.order_type, "limit_price": _text(request.limit_price),
        "stop_price": _text(request.stop_price), "tif": request.tif, "sec_type": request.sec_type,
        "exchange": request.exchange, "currency": request.currency, "valid_until": iso(request.valid_until),
    }  # fmt: skip
    named = {PARENT: parent, TOGETHER: family}
    if extra := request.extra() | {name: oid for name, oid in named.items() if oid is not None}:
        payload["extra"] = extra
    return payload


def follow_up(kind: Kind, payload: dict[str, Any], order: Order, at: datetime) -> Draft:
    """An event about an order that the desk writes of itself, in the name of the order's own subject."""
    return Draft(kind, payload, at, order.id, order.subject, order.correlation_id)


def outgoing(order: Order, reference: str, parent_id: int = 0, *, transmit: bool = True) -> Outgoing:
    """What the broker needs of an order that has its licence. `parent_id`: its parent's orderId while that one is open."""
    assert order.broker_order_id is not None
    tif, extra = good_till(order)
    return Outgoing(
        order.broker_order_id, reference, order.account, order.symbol, order.sec_type, order.exchange, order.currency, order.con_id,
        order.side, order.quantity, order.order_type, order.limit_price, order.stop_price, tif, extra,
        parent_id, transmit,
    )  # fmt: skip


def foreseen(draft: Draft, epoch: int | None, tag: str) -> Outgoing | None:
    """What the broker will need of this draft of an acceptance once it is committed, None where that is not known yet."""
    payload = draft.payload
    if epoch is None or payload.get("session") is None or PARENT in payload.get("extra", {}):
        return None
    order = new_order(place(draft, 0, epoch), payload, State.SENDING)
    return outgoing(order, str(Reference(tag, order.epoch, order.id)), transmit=payload.get("transmit", True))


def good_till(order: Order) -> tuple[str, dict[str, str]]:
    """The time in force that IB is told, with its date: `valid_until` goes along where the type allows it (R6).

    A gateway that keeps an order while its link is down submits it when the link is back, and only IB can refuse it then. A day
    order is given a date only when that comes before another day can begin; IB reads the form with a hyphen as UTC.
    """
    until = order.valid_until
    if until is None or order.order_type not in ("LMT", "STP", "STP LMT"):
        return order.tif, order.extra
    soon = until - order.created_at < A_DAY_ENDS_WITHIN
    if order.tif == "GTC" or (order.tif == "DAY" and soon):
        return "GTD", order.extra | {"good_till": ib_utc(until)}
    return order.tif, order.extra


def repeats(known: Order, request: OrderRequest) -> bool:
    """Whether `request` repeats the order that has its key (R37); one restored without a body is compared by evidence (R19)."""
    if known.body is not None:
        return same_order(known.body, request)
    symbol = request.symbol or known.symbol  # a conId alone: the ledger knows what it was
    if known.external or (known.symbol, known.side) != (symbol, request.side):
        return False
    group = known.extra.get("oca_group", request.oca_group)
    if group != request.oca_group or (PARENT in known.extra and request.parent_client_order_id is None):
        return False
    if not known.order_type:  # only its executions were shown: it was at least as large as their sum
        return request.quantity >= known.quantity
    changed = known.revision > 1  # at the broker, after it was sent (R28)
    return known.order_type == request.order_type and (
        changed
        or (known.quantity, known.limit_price, known.stop_price)
        == (request.quantity, request.limit_price, request.stop_price)
    )


def too_old(order: Order, now: datetime, max_age: Mapping[str, float], since: datetime | None = None) -> str | None:
    """R8: why an order that was never sent must not be sent any more, or None. `now` by the database's clock; `since`, None = as
    the log has it: when it was accepted, by that clock."""
    if order.valid_until is not None and now > order.valid_until:
        return "valid_until passed before it could be sent"
    limit = max_age.get(order.order_type, max_age.get("", 60.0))
    if (age := (now - (since or order.created_at)).total_seconds()) > limit:
        return f"it waited {age:.1f} s for the gate; max_intent_age for {order.order_type} is {limit:g} s"
    return None


def outlived(
    licences: Sequence[Event], orders: Mapping[str, Order], now: datetime, utc: datetime, max_age: Mapping[str, float]
) -> dict[str, str]:
    """R8, beside the permit: the families of these orders of which one grew too old while its licence was committed, and why.

    `now` by the database's clock, `utc` by the writer's. What was accepted with its licence is as old as its commit took by the
    writer's clock, however wrong that is. Repetitions are not looked at: an operator may ask for one at any age (R1).
    """
    found: dict[str, str] = {}
    for event in licences:
        order = orders.get(event.order_id or "")
        if order is None or event.kind not in (Kind.ORDER_ACCEPTED, Kind.ORDER_LICENSED):
            continue
        since = event.at + (now - utc) if event.kind == Kind.ORDER_ACCEPTED else None
        if (why := too_old(order, now, max_age, since)) is not None:
            found.setdefault(order.extra.get(TOGETHER, order.id), why)
    return found


def _text(value: Decimal | None) -> str | None:
    return None if value is None else str(value)
