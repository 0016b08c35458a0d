"""Orders and executions as JSON objects, for the journal and the spools, and back. Pure."""

from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from functools import lru_cache
from typing import Any

from ibsim.contracts import Instrument, Universe, instrument_of
from ibsim.orders import LIMIT_TYPES, Execution, Order
from ibsim.wire import plain

Record = dict[str, Any]


def moment(at: float) -> str:
    """Seconds since 1970 as ISO 8601 in UTC with microseconds."""
    second, rest = divmod(round(at * 1_000_000), 1_000_000)
    return f"{_second(second)}.{rest:06d}+00:00"


@lru_cache(maxsize=64)
def _second(second: int) -> str:
    return datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S")


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
    price = order.limit_price if order.order_type in LIMIT_TYPES else order.aux_price
    if price:
        record["price"] = plain(price)
    record["account"] = order.account
    record["con_id"] = order.instrument.con_id
    record["order_type"] = order.order_type
    record["limit_price"] = _text(order.limit_price)
    record["aux_price"] = _text(order.aux_price)
    record["tif"] = order.tif
    record["fields"] = order.fields
    if order.instrument.sec_type != "STK":
        record["contract"] = order.instrument.record()
    if not order.transmit:
        record["transmit"] = False
    if order.inactive:
        record["inactive"] = True
    if order.expires is not None:
        record["expires"] = order.expires
    if order.starts is not None:
        record["starts"] = order.starts
    return record


def done_record(order: Order, at: float) -> Record:
    """The order with its end."""
    record = order_record(order)
    record["session"] = order.session
    record["status"] = order.status
    record["filled"] = plain(order.filled)
    record["cost"] = plain(order.cost)
    record["done_at"] = at
    return record


def _instrument(record: Mapping[str, Any], universe: Universe) -> Instrument:
    """The instrument that a record is about; one that only an earlier run knew is made again."""
    found = universe.by_con_id.get(record["con_id"])
    if found is not None:
        return found
    price = Decimal(record.get("price", "100"))
    contract = record.get("contract")
    if contract is not None:
        return universe.add(instrument_of(contract, price))
    symbol = record["symbol"]
    return universe.add(Instrument(symbol, record["con_id"], symbol, "NYSE", symbol, price))


def order_of(record: Mapping[str, Any], universe: Universe) -> Order:
    """The order of an `order` entry or a done record. Raises KeyError if the record is neither."""
    return Order(
        perm_id=record["perm_id"],
        client_id=record["client_id"],
        order_id=record["order_id"],
        order_ref=record["order_ref"],
        account=record["account"],
        instrument=_instrument(record, universe),
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
        done="done_at" in record,
        transmit=record.get("transmit", True),
        inactive=record.get("inactive", False),
        expires=record.get("expires"),
        starts=record.get("starts"),
    )


def execution_record(execution: Execution) -> Record:
    """The execution as the journal tells it."""
    record: Record = {
        "client_id": execution.client_id,
        "order_id": execution.order_id,
        "perm_id": execution.perm_id,
        "order_ref": execution.order_ref,
        "symbol": execution.instrument.symbol,
        "side": execution.side,
        "quantity": plain(execution.shares),
        "price": plain(execution.price),
        "exec_id": execution.exec_id,
        "account": execution.account,
        "con_id": execution.instrument.con_id,
        "cumulative": plain(execution.cumulative),
        "average_price": plain(execution.average),
        "time": execution.at,
        "commission": plain(execution.commission),
        "realized_pnl": _text(execution.realized_pnl),
    }
    if execution.instrument.sec_type != "STK":
        record["contract"] = execution.instrument.record()
    return record


def correction_record(execution: Execution, was: Execution) -> Record:
    """The correction, with the figures that it replaces."""
    return execution_record(execution) | {
        "was": {
            "exec_id": was.exec_id,
            "quantity": plain(was.shares),
            "price": plain(was.price),
            "commission": plain(was.commission),
        }
    }


def execution_of(record: Mapping[str, Any], universe: Universe) -> Execution:
    """The execution of an `execution` or `correction` entry."""
    return Execution(
        exec_id=record["exec_id"],
        perm_id=record["perm_id"],
        client_id=record["client_id"],
        order_id=record["order_id"],
        order_ref=record["order_ref"],
        account=record["account"],
        instrument=_instrument(record, universe),
        side=record["side"],
        shares=Decimal(record["quantity"]),
        price=Decimal(record["price"]),
        cumulative=Decimal(record["cumulative"]),
        average=Decimal(record["average_price"]),
        at=record["time"],
        commission=Decimal(record["commission"]),
        realized_pnl=_decimal(record.get("realized_pnl")),
    )


def corrected_of(record: Mapping[str, Any], universe: Universe) -> tuple[Execution, Execution]:
    """A `correction` entry's execution, and the one that it replaces."""
    return execution_of(record, universe), execution_of({**record, **record["was"]}, universe)
