"""What one fact of the broker says about one order, and the event that books an execution."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

from engine.broker import ExecutionFact, OpenOrder
from engine.clock import iso, utcnow
from engine.events import Draft, Kind
from engine.order import Order
from engine.position import execution_root


def changed(order: Order, fact: OpenOrder) -> dict[str, str]:
    """R28: figures that the broker has otherwise than the ledger, because a person changed the order there."""
    if order.external or fact.completed or not fact.quantity or order.order_type != fact.order_type:
        return {}
    figures = {"quantity": (order.quantity, fact.quantity)}
    if order.limit_price is not None and fact.limit_price is not None:
        figures["limit_price"] = order.limit_price, fact.limit_price
    if order.stop_price is not None and fact.stop_price is not None:
        figures["stop_price"] = order.stop_price, fact.stop_price
    return {name: str(theirs) for name, (ours, theirs) in figures.items() if ours != theirs}


def as_asked(order: Order, figures: dict[str, str]) -> bool:
    """Whether the broker's figures are those of the change that was asked for."""
    return all(name in order.asked and Decimal(order.asked[name]) == Decimal(text) for name, text in figures.items())


def news(order: Order, coming: Mapping[str, int], perm_id: int, own_id: int, con_id: int) -> bool:
    """Whether an id comes with it that the ledger does not have yet, and that is not on its way there (`coming`, by name)."""
    return bool(
        (perm_id and not (order.perm_id or "perm_id" in coming))
        or (con_id and not (order.con_id or "con_id" in coming))
        or (own_id and not (order.broker_order_id or "broker_order_id" in coming) and not order.external)
    )


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
