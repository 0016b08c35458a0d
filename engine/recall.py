"""An order that left memory, as the database has it: folded from its own events. Pure.

The events are the truth about the order. Its executions come from the table of executions, because a commission names no order;
the table has them, as nothing leaves memory for good before it is written there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from engine.book import Book
from engine.events import Draft, Event, Kind
from engine.order import Order, State, settle
from engine.plain import plain
from engine.position import Execution

_FIRST = frozenset({Kind.ORDER_ACCEPTED, Kind.ORDER_EXTERNAL, Kind.ORDER_RESTORED})
_OTHERS = frozenset({Kind.BREAK_OPENED, Kind.BREAK_RESOLVED, Kind.ORDER_RECALLED, Kind.COMMISSION})
"""Kinds that may name the order and change nothing of it."""


@dataclass(frozen=True, slots=True)
class Recalled:
    """An order with its executions as they were booked; or, without an order, one execution that belongs to none."""

    order: Order | None
    executions: tuple[Execution, ...]

    def draft(self, at: datetime) -> Draft:
        """The event that takes it back into memory, on every replica."""
        order = self.order
        payload = {
            "order": None if order is None else plain(order),
            "executions": [plain(execution) for execution in self.executions],
        }
        if order is None:
            return Draft(Kind.ORDER_RECALLED, payload, at)
        return Draft(Kind.ORDER_RECALLED, payload, at, order.id, order.subject, order.correlation_id)


def recalled_orders(events: Iterable[Event], executions: Iterable[Execution]) -> dict[str, Recalled]:
    """By id, the orders that these events are about, with their executions. Events in order of `seq`."""
    scratch = Book()
    for event in events:
        begun = event.order_id in scratch.orders or event.kind in _FIRST  # else its beginning was cut off the log
        if event.kind not in _OTHERS and begun:
            scratch.seq = event.seq - 1
            scratch.apply(_alone(event))
    booked: dict[str, list[Execution]] = {}
    for execution in sorted(executions, key=lambda execution: execution.seq):
        booked.setdefault(execution.order_id or "", []).append(execution)
    found = {}
    for oid, order in scratch.orders.items():
        mine = booked.get(oid, [])
        _sum_up(order, mine)
        found[oid] = Recalled(order, tuple(mine))
    return found


def _alone(event: Event) -> Event:
    """The event without what it says of executions that other events booked: these are summed up in the end."""
    if event.kind == Kind.ORDER_ADOPTED:
        return replace(event, payload=event.payload | {"executions": []})
    return event


def from_tables(rows: Iterable[Mapping[str, Any]], executions: Iterable[Execution]) -> dict[str, Recalled]:
    """Orders whose events were archived, by id, from the table of orders: without the body as the client sent it."""
    booked: dict[str, list[Execution]] = {}
    for execution in sorted(executions, key=lambda execution: execution.seq):
        booked.setdefault(execution.order_id or "", []).append(execution)
    found = {}
    for row in rows:
        order = _order_of(row)
        mine = booked.get(order.id, [])
        _sum_up(order, mine)
        found[order.id] = Recalled(order, tuple(mine))
    return found


def _order_of(row: Mapping[str, Any]) -> Order:
    times: dict[str, Any] = {
        name: None if row[name] is None else row[name].astimezone(UTC)
        for name in ("created_at", "updated_at", "sent_at", "acknowledged_at", "valid_until")
    }
    same = (
        "id", "client_order_id", "reason", "symbol", "side", "quantity", "filled", "order_type", "limit_price", "stop_price",
        "perm_id", "broker_order_id", "session", "cancel_requested", "revision", "external", "epoch", "seq", "correlation_id",
    )  # fmt: skip
    texts: dict[str, Any] = {name: row[name] or "" for name in ("account", "sec_type", "exchange", "currency", "tif")}
    return Order(
        **{name: row[name] for name in same}, **texts, **times, subject=row["user_id"] or "", body=None,
        con_id=row["con_id"] or 0, state=State(row["state"]),
    )  # fmt: skip


def _sum_up(order: Order, executions: Sequence[Execution]) -> None:
    """Executions that were booked for nobody first are missing among the order's own events, and count in the table."""
    filled = sum((e.quantity for e in executions), Decimal(0))
    notional = sum((e.quantity * e.price for e in executions), Decimal(0))
    if (filled, notional) != (order.filled, order.notional):
        order.filled, order.notional = filled, notional
        if executions:
            order.con_id = order.con_id or executions[0].con_id
            settle(order)


def execution_of(row: Mapping[str, Any]) -> Execution:
    """A row of the table of executions."""
    return Execution(
        row["exec_id"], row["root"], row["revision"], row["order_id"], row["account"], row["con_id"], row["symbol"], row["side"],
        row["quantity"], row["price"], row["exchange"] or "", row["perm_id"] or 0, row["at"].astimezone(UTC), row["seq"],
        row["commission"], row["commission_currency"], row["realized_pnl"],
    )  # fmt: skip
