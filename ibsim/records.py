"""Orders and executions as JSON objects, for the journal and the spools, and back. Pure."""

from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from ibsim.contracts import Universe
from ibsim.orders import Execution, Order
from ibsim.wire import plain

Record = dict[str, Any]


def moment(at: float) -> str:
    """Seconds since 1970 as ISO 8601 in UTC with microseconds."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="microseconds")


def _text(value: Decimal | None) -> str | None:
    return None if value is None else plain(value)


def _decimal(value: str | None) -> Decimal | None:
    return None if value is None else Decimal(value)


def key_record(order: Order) -> Record:
    """What every journal entry about an order says."""
    return {
        "client_id": order.client_id,
        "order_id": order.order_id,
        "perm_id": order.perm_id,
        "order_ref": order.order_ref,
        "symbol": order.instrument.symbol,
        "side": order.side,
        "quantity": plain(order.quantity),
    }


def order_record(order: Order) -> Record:
    """All that is needed to make the order again, as it was placed or changed."""
    record = key_record(order)
    price = order.limit_price if order.limit_price is not None else order.aux_price
    if price is not None:
        record["price"] = plain(price)
    record.update(
        account=order.account,
        con_id=order.instrument.con_id,
        order_type=order.order_type,
        limit_price=_text(order.limit_price),
        aux_price=_text(order.aux_price),
        tif=order.tif,
        fields=order.fields,
    )
    return record


def done_record(order: Order, at: float) -> Record:
    """The order with its end."""
    return order_record(order) | {
        "session": order.session,
        "status": order.status,
        "filled": plain(order.filled),
        "cost": plain(order.cost),
        "done_at": at,
    }


def order_of(record: Mapping[str, Any], universe: Universe) -> Order:
    """The order of an `order` entry or a done record. Raises KeyError if the record is neither."""
    return Order(
        perm_id=record["perm_id"],
        client_id=record["client_id"],
        order_id=record["order_id"],
        order_ref=record["order_ref"],
        account=record["account"],
        instrument=universe.made(record["symbol"], record["con_id"], Decimal(record.get("price", "100"))),
        side=record["side"],
        quantity=Decimal(record["quantity"]),
        order_type=record["order_type"],
        limit_price=_decimal(record.get("limit_price")),
        aux_price=_decimal(record.get("aux_price")),
        tif=record["tif"],
        session=record.get("session", 0),
        fields=dict(record["fields"]),
        status=record.get("status", "PendingSubmit"),
        filled=Decimal(record.get("filled", "0")),
        cost=Decimal(record.get("cost", "0")),
    )


def execution_record(execution: Execution) -> Record:
    """The execution as the journal tells it."""
    return {
        "client_id": execution.client_id,
        "order_id": execution.order_id,
        "perm_id": execution.perm_id,
        "order_ref": execution.order_ref,
        "symbol": execution.symbol,
        "side": execution.side,
        "quantity": plain(execution.shares),
        "price": plain(execution.price),
        "exec_id": execution.exec_id,
        "account": execution.account,
        "cumulative": plain(execution.cumulative),
        "average_price": plain(execution.average),
        "time": execution.at,
        "commission": plain(execution.commission),
        "realized_pnl": _text(execution.realized_pnl),
    }


def execution_of(record: Mapping[str, Any]) -> Execution:
    """The execution of an `execution` or `correction` entry."""
    return Execution(
        exec_id=record["exec_id"],
        perm_id=record["perm_id"],
        client_id=record["client_id"],
        order_id=record["order_id"],
        order_ref=record["order_ref"],
        account=record["account"],
        symbol=record["symbol"],
        side=record["side"],
        shares=Decimal(record["quantity"]),
        price=Decimal(record["price"]),
        cumulative=Decimal(record["cumulative"]),
        average=Decimal(record["average_price"]),
        at=record["time"],
        commission=Decimal(record["commission"]),
        realized_pnl=_decimal(record.get("realized_pnl")),
    )
