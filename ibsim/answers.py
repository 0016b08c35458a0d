"""What the gateway says about orders and executions, as values for the message table. Pure."""

from datetime import UTC, datetime
from decimal import Decimal
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo

from ibsim.accounts import Accounts
from ibsim.order_layout import UNSET_DOUBLE
from ibsim.orders import Execution, Happening, Order
from ibsim.wire import plain

Values = dict[str, Any]

TIME_FORMS = ("zoned", "bare", "utc")
"""How an execution's time is written: with the zone's name, without one, or in UTC."""
UNKNOWN_ZONE = "Nowhere/Atlantis"
"""A zone that no client knows."""
_CENT = Decimal("0.01")


@lru_cache(maxsize=256)
def execution_time(second: int, zone: str, form: str) -> str:
    """`20250708 02:35:00 America/New_York`, `20250708  02:35:00` or `20250708-06:35:00`; form `unknown` has a made-up
    zone's name.
    """
    if form == "utc":
        return datetime.fromtimestamp(second, UTC).strftime("%Y%m%d-%H:%M:%S")
    local = datetime.fromtimestamp(second, ZoneInfo(zone))
    if form == "bare":
        return local.strftime("%Y%m%d  %H:%M:%S")
    return f"{local:%Y%m%d %H:%M:%S} {UNKNOWN_ZONE if form == 'unknown' else zone}"


def _price(value: Decimal | None) -> str:
    return "0.0" if value is None else plain(value)


def _order_values(order: Order) -> Values:
    values: Values = {**order.instrument.values, **order.fields}
    if order.oca_group:
        values["ocaGroup"], values["ocaType"] = order.oca_group, str(order.oca_type or 3)
    values["right"] = order.instrument.right or "?"
    values["action"] = order.side
    values["totalQuantity"] = plain(order.quantity)
    values["orderType"] = order.order_type
    values["lmtPrice"] = _price(order.limit_price)
    values["auxPrice"] = _price(order.aux_price)
    values["tif"] = order.tif
    values["account"] = order.account
    values["orderRef"] = order.order_ref
    values["permId"] = str(order.perm_id)
    return values


def open_order(order: Order, status: str) -> Values:
    """openOrder, with the order's status at that moment."""
    values = _order_values(order)
    values["orderId"] = str(order.order_id)
    values["clientId"] = str(order.client_id)
    values["status"] = status
    return values


def what_if(order: Order, price: Decimal, fee: Decimal, accounts: Accounts) -> Values:
    """openOrder as it answers a what-if order: what margin and commission the order would mean."""
    cash = accounts.cash[order.account]
    change = order.quantity * price * order.instrument.multiplier / 4
    before = sum((abs(one.quantity) * one.average_cost / 4 for one in accounts.positions(order.account)), Decimal(0))
    figures = {"initMargin": (before, change), "maintMargin": (before, change), "equityWithLoan": (cash, -fee)}
    values = open_order(order, "PreSubmitted")
    for name, (was, more) in figures.items():
        for part, amount in (("Before", was), ("Change", more), ("After", was + more)):
            values[name + part] = plain(amount.quantize(_CENT))
    values.update(
        whatIf="1",
        permId="0",
        commission=plain(fee),
        minCommission=UNSET_DOUBLE,
        maxCommission=UNSET_DOUBLE,
        commissionCurrency=order.instrument.currency,
    )
    return values


def completed_order(order: Order, at: float, zone: str) -> Values:
    """completedOrder: no ids but permId; a filled one has its amount in filledQuantity only."""
    filled = order.status == "Filled"
    values = _order_values(order)
    values.update(
        totalQuantity="0" if filled else plain(order.quantity),
        filledQuantity=plain(order.filled),
        status=order.status,
        completedTime=execution_time(int(at), zone, "zoned"),
        completedStatus=f"Filled Size: {plain(order.filled)}" if filled else order.status,
    )
    return values


def order_status(order: Order, at: Happening) -> Values:
    """orderStatus with the figures of the moment."""
    return {
        "orderId": str(order.order_id),
        "status": at.status,
        "filled": plain(at.filled),
        "remaining": plain(order.quantity - at.filled),
        "avgFillPrice": plain(at.average),
        "permId": str(order.perm_id),
        "lastFillPrice": plain(at.last_price),
        "clientId": str(order.client_id),
        "parentId": str(order.fields.get("parentId", "0")),
        "whyHeld": order.why_held,
    }


def execution_details(execution: Execution, zone: str, form: str, request: int) -> Values:
    """execDetails; `request` -1 = as it happens."""
    exchange = execution.instrument.primary_exchange
    return {
        **execution.instrument.values,
        "exchange": exchange,
        "reqId": str(request),
        "orderId": str(execution.order_id),
        "execId": execution.exec_id,
        "time": execution_time(int(execution.at), zone, form),
        "account": execution.account,
        "executionExchange": exchange,
        "side": "BOT" if execution.side == "BUY" else "SLD",
        "shares": plain(execution.shares),
        "price": plain(execution.price),
        "permId": str(execution.perm_id),
        "clientId": str(execution.client_id),
        "cumQty": plain(execution.cumulative),
        "avgPrice": plain(execution.average),
        "orderRef": execution.order_ref,
    }


def commission_report(execution: Execution) -> Values:
    """commissionReport of one execution."""
    values: Values = {
        "execId": execution.exec_id,
        "commission": plain(execution.commission),
        "currency": execution.instrument.currency,
    }
    if execution.realized_pnl is not None:
        values["realizedPNL"] = plain(execution.realized_pnl)
    return values
