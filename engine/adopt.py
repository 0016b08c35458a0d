"""What an operator's adoption does to the book: an order in doubt takes a broker's order as its own (R1). Pure.

The executions that were booked for nobody, or on the record of somebody else's order, are moved: positions stay what they are.
Two events of one group: the external record ends (`order_merged`), the doubtful order takes over (`order_adopted`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.events import Event, Payload
from engine.order import ZERO, Order

if TYPE_CHECKING:
    from engine.book import Book


def merged(book: Book, event: Event, p: Payload) -> None:
    """The record of somebody else's order ends: the broker's order is `into`. Its permId and executions go there."""
    known = book.orders.get(event.order_id or "")
    if known is not None and not known.external:
        raise ValueError(f"order {known.id} is one of ours, no record of somebody else's")

    def write(order: Order) -> None:
        order.perm_id, order.filled, order.notional = None, ZERO, ZERO
        order.reason = p.get("reason")

    book.change(event, write)


def adopted(book: Book, event: Event, p: Payload) -> None:
    """The order is the broker's with this permId, and these executions (account, root) are its own."""
    keys = [(account, root) for account, root in p["executions"]]
    for key in keys:
        found = book.executions.get(key)
        if found is None:
            raise ValueError(f"there is no execution {key[1]} of {key[0]}")
        holder = book.orders.get(found.order_id or "")
        if found.perm_id != p["perm_id"] or (holder is not None and not holder.external):
            raise ValueError(f"execution {found.exec_id} belongs to order {found.order_id}")

    def write(order: Order) -> None:
        order.perm_id = p["perm_id"]
        order.broker_order_id = p.get("broker_order_id") or order.broker_order_id
        order.con_id = p.get("con_id") or order.con_id
        order.acknowledged_at = order.acknowledged_at or event.at
        order.reason = p.get("reason")

    order = book.change(event, write)
    book.raise_floor(p.get("broker_order_id"))
    for key in keys:
        book.give_execution(event, key, order.id)
