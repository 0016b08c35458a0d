"""From the objects of IB's API to our facts, field by field. Pure: it knows the objects' names, no client library."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from engine.broker import (
    CommissionFact,
    ContractDetail,
    ContractFact,
    ContractQuery,
    ExecutionFact,
    OpenOrder,
    Outgoing,
)
from engine.family import PARENT

UNSET = sys.float_info.max
"""How IB writes "no value" in a floating point field."""

OCA_CANCELS, OCA_REDUCES = 1, 2
"""What a fill does to the others of a group: a client's own group is of the first type, the children of a parent of the second."""

_EXECUTION_TIME = 15  # index of the time in execDetails at server versions 157..178
_COMPLETED_PERM_ID = 23  # index of the permId in completedOrder at server versions 157..178
_SIDES = {"BOT": "BUY", "SLD": "SELL", "BUY": "BUY", "SELL": "SELL", "SSHORT": "SELL"}


def completed_perm_id(fields: list[str]) -> int | None:
    """The permId of a completedOrder message that was not decoded, None where it has none that reads as one."""
    text = fields[_COMPLETED_PERM_ID] if len(fields) > _COMPLETED_PERM_ID else ""
    return int(text) if text.isascii() and text.isdigit() else None


def with_zone(fields: list[str]) -> list[str]:
    """The fields of an execDetails message; IB's form `20231116-12:15:35` is UTC, and would be read in the gateway's zone."""
    if len(fields) > _EXECUTION_TIME and len(fields[_EXECUTION_TIME]) == 17 and fields[_EXECUTION_TIME][8] == "-":
        fields = fields.copy()
        fields[_EXECUTION_TIME] = fields[_EXECUTION_TIME].replace("-", " ") + " UTC"
    return fields


def number(value: float | Decimal) -> Decimal:
    """A quantity or price, digit by digit, without a fraction of zeros."""
    exact = value if isinstance(value, Decimal) else Decimal(repr(value))
    return exact.quantize(Decimal(1)) if exact == exact.to_integral_value() else exact


def _price(value: float | Decimal | None) -> Decimal | None:
    return None if value is None or value in (UNSET, 0, 0.0) else number(value)


def _contract(contract: Any) -> ContractFact:
    return ContractFact(contract.conId, contract.symbol, contract.secType, contract.exchange, contract.currency)


def contract(query: ContractQuery) -> dict[str, Any]:
    """The fields of IB's Contract that say the same."""
    return {
        "conId": query.con_id, "symbol": query.symbol, "secType": query.sec_type, "exchange": query.exchange,
        "currency": query.currency, "localSymbol": query.local_symbol, "tradingClass": query.trading_class,
        "lastTradeDateOrContractMonth": query.last_trade_date, "strike": float(query.strike or 0), "right": query.right,
        "multiplier": query.multiplier, "primaryExchange": query.primary_exchange,
    }  # fmt: skip


def order(order: Outgoing) -> dict[str, Any]:
    """The fields of IB's Order that say the same."""
    said: dict[str, Any] = {
        "action": order.side, "orderType": order.order_type, "tif": order.tif, "account": order.account,
        "orderRef": order.reference, "outsideRth": order.extra.get("outside_rth") == "1",
        "goodTillDate": order.extra.get("good_till", ""), "totalQuantity": order.quantity,  # digit by digit, as it is
        "parentId": order.parent_id, "transmit": order.transmit,
    }  # fmt: skip
    ours = group_prefix(order.reference)
    if group := order.extra.get("oca_group"):
        said |= {
            "ocaGroup": f"{ours}{group}",
            "ocaType": OCA_CANCELS,
        }  # the rest is cancelled, with overfill protection
    elif parent := order.extra.get(PARENT):
        # IB groups children by itself, but not one that comes after its parent's fill. What one fills, the others have less
        said |= {"ocaGroup": f"{ours}{parent}", "ocaType": OCA_REDUCES}
    if order.limit_price is not None:
        said["lmtPrice"] = order.limit_price
    if order.stop_price is not None:
        said["auxPrice"] = order.stop_price
    return said


def group_prefix(reference: str) -> str:
    """What the name of a group begins with: it is the account's, and nobody else's may be the same."""
    return ".".join([*reference.split(".")[:2], ""])


def contract_detail(details: Any) -> ContractDetail:
    """contractDetails."""
    c = details.contract
    return ContractDetail(
        c.conId, c.symbol, c.localSymbol, c.secType, c.exchange, c.primaryExchange, c.currency, c.lastTradeDateOrContractMonth,
        number(details.minTick) if details.minTick else Decimal(0),
    )  # fmt: skip


def open_order(contract: Any, order: Any, state: Any, *, completed: bool) -> OpenOrder:
    """openOrder or completedOrder."""
    filled = None if order.filledQuantity == UNSET else number(order.filledQuantity)
    status = state.completedStatus if completed and state.completedStatus else state.status
    return OpenOrder(
        order.permId, order.clientId, order.orderId, order.orderRef, order.account, _contract(contract), order.action,
        number(order.totalQuantity), order.orderType, _price(order.lmtPrice), _price(order.auxPrice), order.tif, state.status,
        filled, completed, status, order.parentId, order.ocaGroup, order.ocaType,
    )  # fmt: skip


def execution(contract: Any, what: Any) -> ExecutionFact:
    """execDetails."""
    at: datetime = what.time
    return ExecutionFact(
        what.execId, what.permId, what.clientId, what.orderId, what.orderRef, what.acctNumber, _contract(contract),
        _SIDES.get(what.side, what.side), number(what.shares), number(what.price), what.exchange, at.astimezone(UTC),
    )  # fmt: skip


def commission(report: Any) -> CommissionFact:
    """commissionReport. A profit of zero is what IB says when there is none to speak of."""
    pnl = None if report.realizedPNL in (0.0, UNSET) else number(report.realizedPNL)
    return CommissionFact(report.execId, number(report.commission), report.currency, pnl)
