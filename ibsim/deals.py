"""Executions as they are made: their ids, and what a correction puts in their place. Pure."""

from decimal import Decimal

from ibsim.accounts import commission
from ibsim.orders import Execution, Order

_SERVER = "0000e0d5"
_FIRST = 0x6556A1B2


def first(order: Order, number: int, shares: Decimal, now: float, fee: Decimal, realized: Decimal | None) -> Execution:
    """The execution of this number, of an order whose figures have it in them already, at the order's last price."""
    return Execution(
        exec_id=f"{_SERVER}.{_FIRST + number:08x}.01.01",
        perm_id=order.perm_id,
        client_id=order.client_id,
        order_id=order.order_id,
        order_ref=order.order_ref,
        account=order.account,
        instrument=order.instrument,
        side=order.side,
        shares=shares,
        price=order.last_price,
        cumulative=order.filled,
        average=order.average,
        at=now,
        commission=fee,
        realized_pnl=realized,
    )


def corrected(order: Order, was: Execution, shares: Decimal, price: Decimal, now: float) -> Execution:
    """The same execution with other figures and the last part of its id raised."""
    root, _, revision = was.exec_id.rpartition(".")
    return was._replace(
        exec_id=f"{root}.{int(revision) + 1:02d}",
        shares=shares,
        price=price,
        cumulative=order.filled,
        average=order.average,
        at=now,
        commission=commission(was.instrument, shares, price),
    )
