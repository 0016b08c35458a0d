"""What the gateway says about orders, executions and accounts, as values for the message table. Pure."""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

from ibsim.accounts import Accounts, Position
from ibsim.contracts import Instrument
from ibsim.orders import Execution, Happening, Order
from ibsim.wire import plain

Values = dict[str, Any]

TIME_FORMS = ("zoned", "bare", "utc")
"""How an execution's time is written: with the zone's name, without one, or in UTC."""


def execution_time(at: float, zone: str, form: str) -> str:
    """`20250708 02:35:00 America/New_York`, `20250708  02:35:00` or `20250708-06:35:00`."""
    if form == "utc":
        return datetime.fromtimestamp(at, UTC).strftime("%Y%m%d-%H:%M:%S")
    local = datetime.fromtimestamp(at, ZoneInfo(zone))
    if form == "bare":
        return local.strftime("%Y%m%d  %H:%M:%S")
    return f"{local:%Y%m%d %H:%M:%S} {zone}"


def _price(value: Decimal | None) -> str:
    return "0.0" if value is None else plain(value)


def _order_values(order: Order) -> Values:
    return {
        **order.fields,
        **order.instrument.wire(),
        "right": "?",
        "action": order.side,
        "totalQuantity": plain(order.quantity),
        "orderType": order.order_type,
        "lmtPrice": _price(order.limit_price),
        "auxPrice": _price(order.aux_price),
        "tif": order.tif,
        "account": order.account,
        "orderRef": order.order_ref,
        "permId": str(order.perm_id),
    }


def open_order(order: Order, status: str) -> Values:
    """openOrder, with the order's status at that moment."""
    values = _order_values(order)
    values.update(orderId=str(order.order_id), clientId=str(order.client_id), status=status)
    return values


def completed_order(order: Order, at: float, zone: str) -> Values:
    """completedOrder: no ids but permId; a filled one has its amount in filledQuantity only."""
    filled = order.status == "Filled"
    values = _order_values(order)
    values.update(
        totalQuantity="0" if filled else plain(order.quantity),
        filledQuantity=plain(order.filled),
        status=order.status,
        completedTime=execution_time(at, zone, "zoned"),
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
    }


def execution_details(execution: Execution, instrument: Instrument, zone: str, form: str, request: int) -> Values:
    """execDetails; `request` -1 = as it happens."""
    return {
        **instrument.wire(instrument.primary_exchange),
        "reqId": str(request),
        "orderId": str(execution.order_id),
        "execId": execution.exec_id,
        "time": execution_time(execution.at, zone, form),
        "account": execution.account,
        "executionExchange": instrument.primary_exchange,
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
    values: Values = {"execId": execution.exec_id, "commission": plain(execution.commission)}
    if execution.realized_pnl is not None:
        values["realizedPNL"] = plain(execution.realized_pnl)
    return values


def position(held: Position, instrument: Instrument) -> Values:
    """position, and positionMulti but for its request id."""
    return {
        **instrument.wire(""),
        "account": held.account,
        "position": plain(held.quantity),
        "avgCost": plain(held.average_cost),
    }


def portfolio(held: Position, instrument: Instrument, price: Decimal) -> Values:
    """updatePortfolio at this market price."""
    value = held.quantity * price
    return {
        **instrument.wire(),
        "account": held.account,
        "position": plain(held.quantity),
        "marketPrice": plain(price),
        "marketValue": plain(value),
        "averageCost": plain(held.average_cost),
        "unrealizedPNL": plain(value - held.quantity * held.average_cost),
        "realizedPNL": plain(held.realized_pnl),
    }


def account_values(accounts: Accounts, account: str, prices: Mapping[str, Decimal]) -> Iterator[tuple[str, str, str]]:
    """Key, value and currency of what an account is worth at these prices."""
    held = accounts.positions(account)
    gross = sum((abs(one.quantity) * prices[one.symbol] for one in held), Decimal(0))
    cash = accounts.cash[account]
    net = cash + sum((one.quantity * prices[one.symbol] for one in held), Decimal(0))
    margin = gross / 4
    money = {
        "NetLiquidation": net,
        "TotalCashValue": cash,
        "SettledCash": cash,
        "EquityWithLoanValue": net,
        "GrossPositionValue": gross,
        "InitMarginReq": margin,
        "MaintMarginReq": margin,
        "AvailableFunds": net - margin,
        "ExcessLiquidity": net - margin,
        "BuyingPower": (net - margin) * 4,
        "RealizedPnL": sum((one.realized_pnl for one in held), Decimal(0)),
        "UnrealizedPnL": sum((one.quantity * (prices[one.symbol] - one.average_cost) for one in held), Decimal(0)),
    }
    yield "AccountType", "INDIVIDUAL", ""
    yield "AccountReady", "true", ""
    for key, value in money.items():
        yield key, plain(value.quantize(Decimal("0.01"))), "USD"
    for key in ("CashBalance", "TotalCashBalance"):
        yield key, plain(cash.quantize(Decimal("0.01"))), "BASE"


def contract_details(instrument: Instrument, request: str) -> Values:
    """contractDetails of a stock."""
    return {
        **instrument.wire(),
        "reqId": request,
        "marketName": instrument.trading_class,
        "minTick": "0.01",
        "orderTypes": "ACTIVETIM,ALERT,DAY,GTC,IOC,FOK,LMT,MKT,STP,STPLMT",
        "validExchanges": f"SMART,{instrument.primary_exchange}",
        "longName": instrument.name,
        "timeZoneId": "US/Eastern",
        "marketRuleIds": "26,26",
        "stockType": "ETF" if instrument.symbol == "SPY" else "COMMON",
    }


def symbol_samples(instruments: list[Instrument], request: str) -> Values:
    """symbolSamples for what a pattern matched."""
    contracts = [
        {
            "conId": str(one.con_id),
            "symbol": one.symbol,
            "secType": "STK",
            "primaryExchange": one.primary_exchange,
            "currency": "USD",
            "derivativeSecTypes": [{"type": "OPT"}],
            "description": one.name,
        }
        for one in instruments
    ]
    return {"reqId": request, "contracts": contracts}
