"""What the gateway says about accounts and contracts, as values for the message table. Pure."""

from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

from ibsim.accounts import Accounts, Position
from ibsim.contracts import Instrument
from ibsim.orders import ZERO
from ibsim.wire import plain

Values = dict[str, Any]

_CENT = Decimal("0.01")
_ORDER_TYPES = "ACTIVETIM,ALERT,DAY,FOK,GTC,GTD,IOC,LMT,LOC,MKT,MOC,OCA,STP,STPLMT,WHATIF"
_UNDER = {"FUT": "IND", "OPT": "STK"}


def position(held: Position) -> Values:
    """position, and positionMulti but for its request id."""
    return {
        **held.instrument.wire(""),
        "account": held.account,
        "position": plain(held.quantity),
        "avgCost": plain(held.average_cost),
    }


def portfolio(held: Position, price: Decimal) -> Values:
    """updatePortfolio at this market price."""
    value = held.quantity * price * held.instrument.multiplier
    return {
        **held.instrument.values,
        "account": held.account,
        "position": plain(held.quantity),
        "marketPrice": plain(price),
        "marketValue": plain(value),
        "averageCost": plain(held.average_cost),
        "unrealizedPNL": plain(value - held.quantity * held.average_cost),
        "realizedPNL": plain(held.realized_pnl),
    }


def account_values(
    accounts: Accounts, account: str, price_of: Callable[[Instrument], Decimal]
) -> Iterator[tuple[str, str, str]]:
    """Key, value and currency of what an account is worth at these prices, as if all were in one currency."""
    held = accounts.positions(account)
    values = [one.quantity * price_of(one.instrument) * one.instrument.multiplier for one in held]
    gross = sum(map(abs, values), ZERO)
    cash = accounts.cash[account]
    net = cash + sum(values, ZERO)
    margin = gross / 4
    money = {
        "NetLiquidation": net,
        "TotalCashValue": cash,
        "SettledCash": cash,
        "EquityWithLoanValue": net,
        "GrossPositionValue": gross,
        "InitMarginReq": margin,
        "MaintMarginReq": margin,
        "FullInitMarginReq": margin,
        "FullMaintMarginReq": margin,
        "AvailableFunds": net - margin,
        "ExcessLiquidity": net - margin,
        "BuyingPower": (net - margin) * 4,
        "RealizedPnL": sum((one.realized_pnl for one in held), ZERO),
        "UnrealizedPnL": sum(values, ZERO) - sum((one.quantity * one.average_cost for one in held), ZERO),
    }
    yield "AccountType", "INDIVIDUAL", ""
    yield "AccountReady", "true", ""
    for key, value in money.items():
        yield key, plain(value.quantize(_CENT)), "USD"
    for key in ("CashBalance", "TotalCashBalance"):
        yield key, plain(cash.quantize(_CENT)), "BASE"


def contract_details(instrument: Instrument, request: str, hours: str, zone: str) -> Values:
    """contractDetails; `hours` are the trading hours of the next days."""
    stock = instrument.sec_type == "STK"
    under = _UNDER.get(instrument.sec_type, "")
    return {
        **instrument.values,
        "reqId": request,
        "marketName": instrument.trading_class,
        "minTick": plain(instrument.tick),
        "orderTypes": _ORDER_TYPES,
        "validExchanges": ",".join(instrument.exchanges),
        "longName": instrument.name,
        "contractMonth": instrument.expiry[:6],
        "realExpirationDate": instrument.expiry,
        "underSymbol": instrument.symbol if under else "",
        "underSecType": under,
        "timeZoneId": zone,
        "tradingHours": hours,
        "liquidHours": hours,
        "marketRuleIds": ",".join(["26"] * len(instrument.exchanges)),
        "stockType": ("ETF" if "ETF" in instrument.name else "COMMON") if stock else "",
        "minSize": "1",
        "sizeIncrement": "1",
        "suggestedSizeIncrement": "100" if stock else "1",
    }


def symbol_samples(instruments: list[Instrument], request: str) -> Values:
    """symbolSamples for what a pattern matched."""
    contracts = [
        {
            "conId": str(one.con_id),
            "symbol": one.symbol,
            "secType": "STK",
            "primaryExchange": one.primary_exchange,
            "currency": one.currency,
            "derivativeSecTypes": [{"type": "OPT"}],
            "description": one.name,
        }
        for one in instruments
    ]
    return {"reqId": request, "contracts": contracts}
