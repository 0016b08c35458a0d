"""What goes over the wire, typed: quantities and prices are Decimal, times are aware UTC.

Every record keeps the answer it was read from in `raw`, because the interface may gain fields at any time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any, Literal

from .errors import UnreadableAnswer

Side = Literal["BUY", "SELL"]
FINAL_STATES = frozenset({"FILLED", "CANCELLED", "REJECTED", "EXPIRED"})


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderRequest:
    """An order to place. `client_order_id` is its idempotency key; `place` makes one when it is None.

    Fields left None are not sent, so that the server's defaults hold.
    """

    side: Side
    quantity: Decimal
    order_type: str = "MKT"
    symbol: str | None = None
    client_order_id: str | None = None
    limit_price: Decimal | None = None
    stop_price: Decimal | None = None
    tif: str | None = None
    sec_type: str | None = None
    exchange: str | None = None
    currency: str | None = None
    account: str | None = None
    valid_until: datetime | None = None
    con_id: int | None = None
    local_symbol: str | None = None
    last_trade_date: str | None = None
    strike: Decimal | None = None
    right: str | None = None
    multiplier: str | None = None
    trading_class: str | None = None
    primary_exchange: str | None = None
    outside_rth: bool | None = None
    good_till: datetime | None = None
    oca_group: str | None = None
    parent_client_order_id: str | None = None

    def body(self) -> dict[str, Any]:
        """The JSON object to send."""
        values = ((spec.name, getattr(self, spec.name)) for spec in fields(self))
        return {name: _plain(value) for name, value in values if value is not None}


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """An order as the ledger has it. `client_order_id` is None while a restored order waits for its key."""

    id: str
    client_order_id: str | None
    state: str
    reason: str | None
    symbol: str
    side: str
    quantity: Decimal
    filled: Decimal
    remaining: Decimal | None
    average_price: Decimal | None
    order_type: str
    limit_price: Decimal | None
    stop_price: Decimal | None
    tif: str | None
    perm_id: int | None
    broker_order_id: int | None
    cancel_requested: bool
    revision: int
    epoch: int
    seq: int
    subject: str | None
    correlation_id: str | None
    sent_at: datetime | None
    acknowledged_at: datetime | None
    created_at: datetime | None
    updated_at: datetime | None
    raw: Mapping[str, Any] = field(repr=False, compare=False)

    @property
    def final(self) -> bool:
        """True when the state will not change any more."""
        return self.state in FINAL_STATES


@dataclass(frozen=True, slots=True, kw_only=True)
class Execution:
    """One booked execution; the commission is None until the broker reported it."""

    exec_id: str
    order_id: str | None
    client_order_id: str | None
    symbol: str
    side: str
    quantity: Decimal
    price: Decimal
    account: str | None
    perm_id: int | None
    commission: Decimal | None
    realized_pnl: Decimal | None
    revision: int | None
    at: datetime | None
    raw: Mapping[str, Any] = field(repr=False, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """What the ledger holds, beside what the broker said last."""

    account: str | None
    symbol: str
    quantity: Decimal
    average_cost: Decimal | None
    broker_quantity: Decimal | None
    break_id: str | None
    raw: Mapping[str, Any] = field(repr=False, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Break:
    """A difference between the two ledgers that waits for an operator; open while `resolved_at` is None."""

    id: str
    kind: str
    symbol: str | None
    order_id: str | None
    opened_at: datetime | None
    resolved_at: datetime | None
    resolution: str | None
    raw: Mapping[str, Any] = field(repr=False, compare=False)

    @property
    def open(self) -> bool:
        """True until an operator, or evidence, resolved it."""
        return self.resolved_at is None


def read_order(data: Mapping[str, Any]) -> Order:
    """Raises UnreadableAnswer when a field is missing or not of its kind."""
    with _Reading("order", data) as reading:
        return Order(
            id=reading.text("id"),
            client_order_id=reading.text_or_none("client_order_id"),
            state=reading.text("state"),
            reason=reading.text_or_none("reason"),
            symbol=reading.text("symbol"),
            side=reading.text("side"),
            quantity=reading.decimal("quantity"),
            filled=reading.decimal("filled"),
            remaining=reading.decimal_or_none("remaining"),
            average_price=reading.decimal_or_none("average_price"),
            order_type=reading.text("order_type"),
            limit_price=reading.decimal_or_none("limit_price"),
            stop_price=reading.decimal_or_none("stop_price"),
            tif=reading.text_or_none("tif"),
            perm_id=reading.whole_or_none("perm_id"),
            broker_order_id=reading.whole_or_none("broker_order_id"),
            cancel_requested=bool(data.get("cancel_requested", False)),
            revision=reading.whole("revision"),
            epoch=reading.whole("epoch"),
            seq=reading.whole("seq"),
            subject=reading.text_or_none("subject"),
            correlation_id=reading.text_or_none("correlation_id"),
            sent_at=reading.time_or_none("sent_at"),
            acknowledged_at=reading.time_or_none("acknowledged_at"),
            created_at=reading.time_or_none("created_at"),
            updated_at=reading.time_or_none("updated_at"),
            raw=data,
        )


def read_execution(data: Mapping[str, Any]) -> Execution:
    """Raises UnreadableAnswer when a field is missing or not of its kind."""
    with _Reading("execution", data) as reading:
        return Execution(
            exec_id=reading.text("exec_id"),
            order_id=reading.text_or_none("order_id"),
            client_order_id=reading.text_or_none("client_order_id"),
            symbol=reading.text("symbol"),
            side=reading.text("side"),
            quantity=reading.decimal("quantity"),
            price=reading.decimal("price"),
            account=reading.text_or_none("account"),
            perm_id=reading.whole_or_none("perm_id"),
            commission=reading.decimal_or_none("commission"),
            realized_pnl=reading.decimal_or_none("realized_pnl"),
            revision=reading.whole_or_none("revision"),
            at=reading.time_or_none("at"),
            raw=data,
        )


def read_position(data: Mapping[str, Any]) -> Position:
    """Raises UnreadableAnswer when a field is missing or not of its kind."""
    with _Reading("position", data) as reading:
        return Position(
            account=reading.text_or_none("account"),
            symbol=reading.text("symbol"),
            quantity=reading.decimal("quantity"),
            average_cost=reading.decimal_or_none("average_cost"),
            broker_quantity=reading.decimal_or_none("broker_quantity"),
            break_id=reading.text_or_none("break_id"),
            raw=data,
        )


def read_break(data: Mapping[str, Any]) -> Break:
    """Raises UnreadableAnswer when a field is missing or not of its kind."""
    with _Reading("break", data) as reading:
        return Break(
            id=reading.text("id"),
            kind=reading.text("kind"),
            symbol=reading.text_or_none("symbol"),
            order_id=reading.text_or_none("order_id"),
            opened_at=reading.time_or_none("opened_at"),
            resolved_at=reading.time_or_none("resolved_at"),
            resolution=reading.text_or_none("resolution"),
            raw=data,
        )


def _plain(value: Any) -> Any:
    """A field as it is sent: decimals as plain strings, times in UTC with microseconds."""
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise ValueError(f"a time without a zone cannot be sent: {value.isoformat()}")
        return value.astimezone(UTC).isoformat(timespec="microseconds")
    return value


class _Reading:
    """Takes fields out of one answer; whatever is wrong with it leaves as UnreadableAnswer, naming record and field."""

    def __init__(self, record: str, data: Mapping[str, Any]) -> None:
        self._record = record
        self._data = data
        self._field = ""

    def __enter__(self) -> _Reading:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, KeyError | TypeError | ValueError | InvalidOperation):
            value = self._data.get(self._field)
            raise UnreadableAnswer(f"{self._record}: field {self._field!r} cannot be {value!r}") from error

    def _take(self, name: str) -> Any:
        self._field = name
        return self._data.get(name)

    def text(self, name: str) -> str:
        value = self._take(name)
        if value is None:
            raise KeyError(name)
        return str(value)

    def text_or_none(self, name: str) -> str | None:
        value = self._take(name)
        return None if value is None else str(value)

    def whole(self, name: str) -> int:
        return int(self.text(name))

    def whole_or_none(self, name: str) -> int | None:
        value = self._take(name)
        return None if value is None else int(value)

    def decimal(self, name: str) -> Decimal:
        return Decimal(self.text(name))

    def decimal_or_none(self, name: str) -> Decimal | None:
        value = self._take(name)
        return None if value is None else Decimal(str(value))

    def time_or_none(self, name: str) -> datetime | None:
        value = self._take(name)
        return None if value is None else datetime.fromisoformat(str(value)).astimezone(UTC)
