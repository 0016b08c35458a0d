"""A difference with both sides' figures, for a person to read. Pure."""

from __future__ import annotations

from engine.broker import ExecutionFact
from engine.order import Order
from engine.position import Execution
from reconcile.differences import (
    BreakOutlived,
    ChangedThere,
    ChangeLost,
    DeadTraded,
    Difference,
    ExecutionDiffers,
    ExecutionGone,
    FillsMissing,
    OrderDiffers,
    StrangerSeen,
    TwinSeen,
)

Figures = dict[str, str | None]


def sides(difference: Difference) -> tuple[str, Figures, Figures]:  # noqa: PLR0911 - one answer for each kind
    """What it is about (an order's id, an execution's, a symbol), the ledger's side, and the broker's."""
    match difference:
        case OrderDiffers() | DeadTraded():
            return difference.order.id, difference.ours(), difference.seen.figures()
        case StrangerSeen():
            return difference.order_id, {}, difference.seen.figures()
        case ExecutionDiffers(fact=fact, known=known):
            return fact.exec_id, _execution(known), _execution(fact)
        case ExecutionGone(known=known):
            return known.exec_id, _execution(known), {}
        case FillsMissing():
            ours: Figures = {"filled": str(difference.ours)}
            return difference.order.id, ours, difference.seen.figures() | {"filled": str(difference.broker)}
        case TwinSeen():
            broker = difference.seen.figures() | {"perm_id": ", ".join(map(str, difference.perm_ids))}
            return difference.order.id, _order(difference.order), broker
        case ChangedThere():
            return difference.order.id, _order(difference.order), {**difference.figures}
        case ChangeLost():
            return difference.order.id, {**difference.order.asked}, _order(difference.order)
        case BreakOutlived(found=found):
            return found.order_id or found.symbol, {"break": found.id, "kind": found.kind, **found.ours}, found.broker
        case _:
            return difference.symbol, {"quantity": str(difference.ours)}, {"quantity": str(difference.broker)}


def _order(order: Order) -> Figures:
    price = order.limit_price if order.limit_price is not None else order.stop_price
    return {
        "state": str(order.state), "quantity": str(order.quantity), "price": None if price is None else str(price),
        "perm_id": None if order.perm_id is None else str(order.perm_id),
    }  # fmt: skip


def _execution(what: Execution | ExecutionFact | None) -> Figures:
    if what is None:
        return {}
    return {"exec_id": what.exec_id, "side": what.side, "quantity": str(what.quantity), "price": str(what.price)}
