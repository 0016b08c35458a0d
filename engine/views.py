"""The ledger as JSON, to the letter of the interface: decimal strings, UTC times, nulls where nothing is known. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any

from engine.broker import PositionFact
from engine.clock import iso
from engine.order import Order
from engine.position import Break, Execution, Position

Row = Mapping[str, Any]

_CENT = Decimal("0.00000001")


def number(value: Decimal | None) -> str | None:
    """A decimal as people write it: no exponent, no trailing zeros beyond what was given, at most eight places."""
    if value is None:
        return None
    if value.as_tuple().exponent < -8:  # type: ignore[operator]
        value = value.quantize(_CENT, ROUND_HALF_EVEN).normalize()
    return format(value, "f")


def order(o: Order) -> dict[str, Any]:
    """One order."""
    return {
        "id": o.id, "client_order_id": o.client_order_id, "state": o.state.value, "reason": o.reason, "symbol": o.symbol,
        "side": o.side, "quantity": number(o.quantity), "filled": number(o.filled), "remaining": number(o.remaining),
        "average_price": number(o.average_price), "order_type": o.order_type, "limit_price": number(o.limit_price),
        "stop_price": number(o.stop_price), "tif": o.tif, "sec_type": o.sec_type, "exchange": o.exchange,
        "currency": o.currency, "con_id": o.con_id or None, "account": o.account or None, "perm_id": o.perm_id,
        "broker_order_id": o.broker_order_id, "cancel_requested": o.cancel_requested, "revision": o.revision,
        "asked": dict(o.asked) or None, "parent_client_order_id": o.extra.get("parent_client_order_id"),
        "oca_group": o.extra.get("oca_group"),
        "epoch": o.epoch, "seq": o.seq, "subject": o.subject, "correlation_id": o.correlation_id, "external": o.external,
        "valid_until": iso(o.valid_until), "sent_at": iso(o.sent_at), "acknowledged_at": iso(o.acknowledged_at),
        "created_at": iso(o.created_at), "updated_at": iso(o.updated_at),
    }  # fmt: skip


def order_row(row: Row) -> dict[str, Any]:
    """One order that has ended and left memory, as its row in the tables has it: the same fields."""
    quantity, filled = row["quantity"], row["filled"]
    same = ("id", "client_order_id", "state", "reason", "symbol", "side", "order_type", "tif", "sec_type", "exchange", "currency",
            "perm_id", "broker_order_id", "cancel_requested", "revision", "epoch", "seq", "correlation_id", "external")  # fmt: skip
    numbers = ("quantity", "filled", "average_price", "limit_price", "stop_price")
    times = ("valid_until", "sent_at", "acknowledged_at", "created_at", "updated_at")
    return {
        **{name: row[name] for name in same},
        **{name: number(row[name]) for name in numbers},
        **{name: iso(row[name]) for name in times},
        "remaining": number(max(quantity - filled, Decimal(0))), "con_id": row["con_id"] or None,
        "account": row["account"] or None, "asked": None, "subject": row["user_id"],
        **{name: (row["extra"] or {}).get(name) for name in ("parent_client_order_id", "oca_group")},
    }  # fmt: skip


def execution(e: Execution, client_order_id: str | None) -> dict[str, Any]:
    """One execution in its newest revision."""
    return {
        "exec_id": e.exec_id, "order_id": e.order_id, "client_order_id": client_order_id, "symbol": e.symbol, "side": e.side,
        "quantity": number(e.quantity), "price": number(e.price), "account": e.account, "exchange": e.exchange,
        "perm_id": e.perm_id, "commission": number(e.commission), "commission_currency": e.commission_currency,
        "realized_pnl": number(e.realized_pnl), "at": iso(e.at), "revision": e.revision, "seq": e.seq,
    }  # fmt: skip


def position(p: Position, fact: PositionFact | None, break_id: str | None) -> dict[str, Any]:
    """One position, and what the broker says of it where this replica has a session."""
    return {
        "account": p.account, "symbol": p.symbol, "con_id": p.con_id, "quantity": number(p.quantity),
        "average_cost": number(p.average_cost), "broker_quantity": number(fact.quantity) if fact is not None else None,
        "break_id": break_id,
    }  # fmt: skip


def found_break(b: Break) -> dict[str, Any]:
    """One break with both sides' figures."""
    return {
        "id": b.id, "kind": b.kind, "symbol": b.symbol, "account": b.account or None, "order_id": b.order_id, "ours": b.ours,
        "broker": b.broker, "holds": b.holds, "opened_at": iso(b.opened_at), "resolved_at": iso(b.resolved_at),
        "resolution": b.resolution,
    }  # fmt: skip
