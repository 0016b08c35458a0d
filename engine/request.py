"""What a client may send, as models that validate: every wrong field is named, an unknown one is an error.

A request is parsed into decimals at once. `canonical` is what two requests under one key are compared by (R37): the fields as
the client sent them, parsed, so that `1.0` equals `1.00` and a default of a later version changes nothing.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictBool,
    StringConstraints,
    ValidationError,
    WithJsonSchema,
    model_validator,
)

from engine.clock import ib_utc
from engine.errors import FieldError, Problem, invalid

MAX_QUANTITY = Decimal("1e9")
MAX_PRICE = Decimal("1e9")
_NUMBER = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?")


def _decimal(value: object) -> object:
    """Accept decimal strings (and whole JSON numbers); refuse floats, whose digits are not what the client typed."""
    if isinstance(value, bool | float):  # ValueError, because pydantic turns only that into a field's error
        raise ValueError(  # noqa: TRY004
            'must be a decimal string such as "190.50"'
        )
    if isinstance(value, str) and len(value) > 32:
        raise ValueError("has too many digits")
    if isinstance(value, str) and not _NUMBER.fullmatch(value):  # Python also reads 1_000, full-width digits and spaces
        raise ValueError('must be a decimal string such as "190.50"')
    return value


def _moment(value: object) -> object:
    """Accept ISO 8601 text only; a bare number would be read as seconds since 1970."""
    if value is None or isinstance(value, datetime):
        return value
    try:
        moment = datetime.fromisoformat(value if isinstance(value, str) and "T" in value else "")
        return moment if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError("must be a time such as 2025-01-31T15:00:00Z") from None


_DESCRIBED = WithJsonSchema({
    "anyOf": [
        {"type": "string", "pattern": r"^[0-9]{1,9}(\.[0-9]{1,8})?$"},
        {"type": "integer", "minimum": 1, "maximum": int(MAX_QUANTITY)},
    ],
    "description": "A decimal above zero as text; a whole number may be one. Never a float.", "examples": ["190.50"],
})  # fmt: skip

Price = Annotated[
    Decimal, BeforeValidator(_decimal), Field(gt=0, le=MAX_PRICE, max_digits=20, decimal_places=8), _DESCRIBED
]
Quantity = Annotated[
    Decimal, BeforeValidator(_decimal), Field(gt=0, le=MAX_QUANTITY, max_digits=20, decimal_places=8), _DESCRIBED
]
Text = Annotated[str, StringConstraints(min_length=1, max_length=64, pattern=r"^[\x20-\x7e]+$")]
Key = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._:\-]{1,64}$")]
Upper = Annotated[str, StringConstraints(pattern=r"^[A-Z0-9 .]{1,32}$")]

EXTRA = (
    "local_symbol", "last_trade_date", "strike", "right", "multiplier", "trading_class", "primary_exchange", "oca_group",
    "break_id", "parent_client_order_id",
)  # fmt: skip
"""Fields that few orders have; the ledger keeps them beside the others."""


class OrderRequest(BaseModel):
    """The body of `POST /api/v1/orders`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    client_order_id: Key
    symbol: Upper | None = None
    con_id: Annotated[int, Field(strict=True, gt=0, lt=1 << 31)] | None = None
    side: Literal["BUY", "SELL"]
    quantity: Quantity
    order_type: Literal["MKT", "LMT", "STP", "STP LMT", "MOC", "LOC"]
    limit_price: Price | None = None
    stop_price: Price | None = None
    tif: Literal["DAY", "GTC", "IOC", "FOK", "GTD"] = "DAY"
    sec_type: Literal["STK", "FUT", "OPT", "CASH"] = "STK"
    exchange: Upper = "SMART"
    currency: Annotated[str, StringConstraints(pattern=r"^[A-Z]{3}$")] = "USD"
    account: Text | None = None
    valid_until: Annotated[datetime | None, BeforeValidator(_moment)] = None
    outside_rth: StrictBool = False
    good_till: Annotated[datetime | None, BeforeValidator(_moment)] = None
    local_symbol: Text | None = None
    last_trade_date: Annotated[str, StringConstraints(pattern=r"^[0-9]{6}([0-9]{2})?$")] | None = None
    strike: Price | None = None
    right: Literal["C", "P"] | None = None
    multiplier: Annotated[str, StringConstraints(pattern=r"^[0-9]{1,9}(\.[0-9]{1,6})?$")] | None = None
    trading_class: Text | None = None
    primary_exchange: Upper | None = None
    break_id: Text | None = None  # of the hold that this order may pass, because it only reduces the position
    oca_group: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._:\-]{1,32}$")] | None = None
    parent_client_order_id: Key | None = None  # works when that order is filled, and ends with it

    @model_validator(mode="before")
    @classmethod
    def _one_object(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            raise ValueError("the body is one JSON object")  # noqa: TRY004
        return data

    def wrongs(self) -> list[FieldError]:
        """What each field alone cannot tell."""
        found = []
        if "LMT" in self.order_type or self.order_type == "LOC":
            if self.limit_price is None:
                found.append(FieldError("limit_price", f"an order of type {self.order_type} needs one"))
        elif self.limit_price is not None:
            found.append(FieldError("limit_price", f"an order of type {self.order_type} has none; leave it out"))
        if self.order_type.startswith("STP"):
            if self.stop_price is None:
                found.append(FieldError("stop_price", f"an order of type {self.order_type} needs one"))
        elif self.stop_price is not None:
            found.append(FieldError("stop_price", f"an order of type {self.order_type} has none; leave it out"))
        if self.parent_client_order_id == self.client_order_id:
            found.append(FieldError("parent_client_order_id", "an order is not its own parent"))
        for name in ("valid_until", "good_till"):
            if (moment := getattr(self, name)) is not None and moment.tzinfo is None:
                found.append(FieldError(name, "name the time zone, such as 2025-01-31T15:00:00Z"))
        if self.tif == "GTD" and self.good_till is None:
            found.append(FieldError("good_till", "an order with tif GTD needs one"))
        if self.tif != "GTD" and self.good_till is not None:
            found.append(FieldError("good_till", f"an order with tif {self.tif} has none; use tif GTD, or valid_until"))
        if self.order_type in ("MOC", "LOC") and self.tif != "DAY":
            found.append(FieldError("tif", f"an order of type {self.order_type} is for the day; use DAY"))
        return found + self._contract_wrongs()

    def _contract_wrongs(self) -> list[FieldError]:
        """What the contract's fields must be to each other. Which contract it is, IB says."""
        found = []
        if self.symbol is None and self.con_id is None:
            found.append(FieldError("symbol", "name the symbol, or the con_id"))
        option = self.sec_type == "OPT"
        for name in ("strike", "right"):
            if getattr(self, name) is not None and not option:
                found.append(FieldError(name, f"only an option has one, this is {self.sec_type}"))
            elif getattr(self, name) is None and option and self.con_id is None and self.local_symbol is None:
                found.append(FieldError(name, "an option needs one, or its con_id or local_symbol"))
        dated = self.sec_type in ("FUT", "OPT")
        if dated and not (self.last_trade_date or self.con_id or self.local_symbol):
            found.append(FieldError("last_trade_date", f"{self.sec_type} needs one, or its con_id or local_symbol"))
        if self.last_trade_date is not None and not dated:
            found.append(FieldError("last_trade_date", f"{self.sec_type} has none; leave it out"))
        if "exchange" not in self.model_fields_set and self.sec_type in ("FUT", "CASH") and self.con_id is None:
            found.append(FieldError("exchange", f"{self.sec_type} is not routed by SMART: name its exchange"))
        return found

    def extra(self) -> dict[str, str]:
        """What few orders have, as text, for the ledger."""
        kept = {name: str(value) for name in EXTRA if (value := getattr(self, name)) is not None}
        if self.outside_rth:
            kept["outside_rth"] = "1"
        if self.good_till is not None:
            kept["good_till"] = ib_utc(self.good_till)
        return kept

    def canonical(self) -> dict[str, Any]:
        """The fields that the client sent and that say something, in one form each."""
        return {
            name: _canonical(value)
            for name, value in sorted(self.model_dump(exclude_unset=True).items())
            if value is not None
        }


MAX_BATCH = 50


def parse_batch(data: object) -> list[OrderRequest]:
    """The validated requests of `POST /orders/batch`. Raises Problem 422 with each wrong field of each; nothing was written."""
    orders = data.get("orders") if isinstance(data, dict) else None
    if not isinstance(data, dict) or set(data) != {"orders"} or not isinstance(orders, list):
        raise invalid(FieldError("body", 'one JSON object, {"orders": [...]}'))
    if not 1 <= len(orders) <= MAX_BATCH:
        raise invalid(FieldError("orders", f"1 to {MAX_BATCH} orders, these are {len(orders)}"))
    parsed: list[OrderRequest] = []
    wrong: list[FieldError] = []
    for place, one in enumerate(orders):
        try:
            parsed.append(parse_order(one))
        except Problem as problem:
            wrong += [FieldError(f"orders[{place}].{e.field}", e.message) for e in problem.errors]
    keys = [request.client_order_id for request in parsed]
    if not wrong and len(set(keys)) < len(keys):
        wrong.append(FieldError("orders", "two of them have the same client_order_id"))
    wrong = wrong or _family_wrongs(parsed)
    if wrong:
        raise invalid(*wrong)
    return parsed


MAX_FAMILY = 10
"""Orders that one bracket may have: they go out together or not at all."""


def _family_wrongs(orders: Sequence[OrderRequest]) -> list[FieldError]:
    """What the parents and children of one batch must be to each other."""
    found, root, size = [], dict[str, str](), dict[str, int]()
    later = {request.client_order_id for request in orders}
    for place, request in enumerate(orders):
        parent, field = request.parent_client_order_id, f"orders[{place}].parent_client_order_id"
        later.discard(request.client_order_id)
        if parent in later:
            found.append(FieldError(field, "names an order that stands behind this one; put the parent first"))
        root[request.client_order_id] = top = root.get(parent or "", parent or request.client_order_id)
        size[top] = size.get(top, 0) + 1
        if size[top] == MAX_FAMILY + 1:
            found.append(FieldError(field, f"a parent and all that hangs on it are at most {MAX_FAMILY} orders"))
    return found


class ChangeRequest(BaseModel):
    """The body of `PATCH /api/v1/orders/{id}`: the revision that it changes, and the figures that are to be."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    revision: Annotated[int, Field(strict=True, ge=1)]
    quantity: Quantity | None = None
    limit_price: Price | None = None
    stop_price: Price | None = None

    @property
    def changes(self) -> dict[str, Decimal]:
        """What is asked for, by the order's field."""
        figures = {"quantity": self.quantity, "limit_price": self.limit_price, "stop_price": self.stop_price}
        return {name: figure for name, figure in figures.items() if figure is not None}


def parse_change(data: object) -> ChangeRequest:
    """The validated change. Raises Problem 422 with each wrong field; nothing was written."""
    try:
        request = ChangeRequest.model_validate(data)
    except ValidationError as error:
        raise invalid(
            *(_field_error(item) for item in error.errors(include_url=False, include_context=False))
        ) from None
    if not request.changes:
        raise invalid(FieldError("body", "name at least one of quantity, limit_price, stop_price"))
    return request


def _canonical(value: object) -> object:
    if isinstance(value, Decimal):
        return format(value.normalize(), "f")
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    return value


def parse_order(data: object) -> OrderRequest:
    """The validated request. Raises Problem 422 with each wrong field; nothing was written."""
    try:
        request = OrderRequest.model_validate(data)
    except ValidationError as error:
        raise invalid(
            *(_field_error(item) for item in error.errors(include_url=False, include_context=False))
        ) from None
    if wrongs := request.wrongs():
        raise invalid(*wrongs)
    return request


def _field_error(item: Any) -> FieldError:
    name = ".".join(str(part) for part in item["loc"])
    message = str(item["msg"]).removeprefix("Value error, ")
    if not name and ": " in message:
        name, _, message = message.partition(": ")
    if item["type"] == "extra_forbidden":
        message = "unknown field; see the list of fields, an unknown one is never ignored"
    return FieldError(name or "body", message)


def same_order(stored: dict[str, Any] | None, request: OrderRequest) -> bool:
    """Whether `request` repeats the order that was accepted under its key (R37)."""
    return stored == request.canonical()


def conflict(client_order_id: str) -> Problem:
    """409: the key belongs to another order, for ever."""
    return Problem(
        409, "key-reused", "The key is in use", f"client_order_id {client_order_id!r} belongs to an order with another body.",
        [FieldError("client_order_id", "use a new one for a new order")],
    )  # fmt: skip
