"""What the gateway keeps of a bracket that is not out whole, in no market, and what may go on its way beside it. Pure."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence

from engine.family import AT_IB, parent_of
from engine.order import Order, State


def left_behind(order: Order, orders: Mapping[str, Order], children: Mapping[str, Sequence[str]]) -> bool:
    """Whether children of a QUEUED order went out under an order id that it lost (R4): a new licence would send
    it alone."""
    out = (*AT_IB, State.IN_DOUBT)
    return order.state is State.QUEUED and any(
        orders[c].state in out for c in children.get(order.id, ()) if c in orders
    )


def kin(order: Order, orders: Mapping[str, Order], children: Mapping[str, Sequence[str]]) -> list[Order]:
    """All orders that hang together with this one, itself too, each behind its parent."""
    top, seen = order, {order.id}
    while (parent := parent_of(top, orders)) is not None and parent.id not in seen:
        top = parent
        seen.add(top.id)
    found = [top]
    for member in found:  # grows while it is read
        found += [orders[oid] for oid in children.get(member.id, ()) if oid in orders]
    return found


def kept_back(order: Order, kin: Iterable[Order], unwritten: Container[str] = ()) -> bool:
    """Whether the gateway keeps the order in no market: nothing that transmits was written after it.

    `unwritten`: ids of orders that look licensed, and of which no byte is known to be written.
    """
    own = order.broker_order_id or 0
    return (
        order.kept
        and not order.filled
        and not any(
            m.session is not None and not m.kept and (m.broker_order_id or 0) > own and m.id not in unwritten
            for m in kin
        )
    )


def stranded(order: Order, kin: Sequence[Order]) -> bool:
    """Whether the gateway keeps the order and nothing of its family is left that would transmit it."""
    return order.state in AT_IB and kept_back(order, kin) and not any(m.state is State.QUEUED for m in kin)
