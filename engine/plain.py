"""Orders and executions as JSON with every field, and back: the state that an event carries when it carries all of it. Pure."""

from __future__ import annotations

from dataclasses import fields
from datetime import datetime
from decimal import Decimal
from enum import Enum
from typing import Any

from engine.clock import from_iso, iso
from engine.order import Order, State
from engine.position import Execution

_NOT_STATE = frozenset({"constant", "fingerprint"})  # what the digest derives
_DECIMALS = frozenset(
    {"quantity", "limit_price", "stop_price", "filled", "notional", "price", "commission", "realized_pnl"}
)
_TIMES = frozenset({"created_at", "updated_at", "sent_at", "acknowledged_at", "valid_until", "at"})


def plain(entity: Order | Execution) -> dict[str, Any]:
    """Every field that is state: decimals as strings, times as ISO 8601 in UTC."""
    return {f.name: _written(getattr(entity, f.name)) for f in fields(entity) if f.name not in _NOT_STATE}


def order_from(values: dict[str, Any]) -> Order:
    """The order whose `plain` this is. Fields that a later version may have added are left out; missing ones are as new."""
    read = _read(Order, values)
    read["state"] = State(read["state"])
    for name in ("body", "extra", "asked"):  # PostgreSQL keeps an order of keys of its own
        if read.get(name) is not None:
            read[name] = dict(sorted(read[name].items()))
    return Order(**read)


def execution_from(values: dict[str, Any]) -> Execution:
    """The execution whose `plain` this is."""
    return Execution(**_read(Execution, values))


def _written(value: Any) -> Any:
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, datetime):
        return iso(value)
    return value.value if isinstance(value, Enum) else value


def _read(kind: type[Order] | type[Execution], values: dict[str, Any]) -> dict[str, Any]:
    known = {f.name for f in fields(kind)} - _NOT_STATE
    return {name: _value(name, value) for name, value in values.items() if name in known}


def _value(name: str, value: Any) -> Any:
    if value is None:
        return None
    if name in _DECIMALS:
        return Decimal(value)
    return from_iso(value) if name in _TIMES else value
