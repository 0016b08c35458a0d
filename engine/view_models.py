"""What the ledger's paths answer, as models: the description is made from them, and the tests hold every answer against them.

The answers themselves are made by `engine.views`, which costs a fraction of what a model would on the way of an order.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from engine.order import State

Number = Annotated[str, Field(pattern=r"^-?\d+(\.\d{1,8})?$", description="A decimal as text.")]
Moment = Annotated[
    str, Field(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$", json_schema_extra={"format": "date-time"})
]
Side = Literal["BUY", "SELL"]


class Strict(BaseModel):
    """An answer has these fields and no others."""

    model_config = ConfigDict(extra="forbid")


class OrderAnswer(Strict):
    """One order."""

    id: str
    client_order_id: str | None
    state: State
    reason: str | None
    symbol: str
    side: Side
    quantity: Number
    filled: Number
    remaining: Number
    average_price: Number | None
    order_type: str
    limit_price: Number | None
    stop_price: Number | None
    tif: str
    sec_type: str
    exchange: str
    currency: str
    con_id: int | None
    account: str | None
    perm_id: int | None
    broker_order_id: int | None
    cancel_requested: bool
    revision: Annotated[int, Field(description="What a PATCH names.")]
    asked: Annotated[
        dict[str, Number] | None, Field(description="The changes that the broker was asked for and has not shown.")
    ]
    parent_client_order_id: Annotated[
        str | None, Field(description="The order of the same client that it is a child of.")
    ]
    oca_group: str | None
    epoch: int
    seq: Annotated[int, Field(description="The last event of the log that changed it.")]
    subject: str
    correlation_id: str | None
    external: Annotated[bool, Field(description="Placed by somebody else; never touched.")]
    valid_until: Moment | None
    sent_at: Moment | None
    acknowledged_at: Moment | None
    created_at: Moment
    updated_at: Moment


class OrderList(Strict):
    """Some orders, answered together."""

    orders: list[OrderAnswer]


class OrderPage(OrderList):
    """Orders, oldest change first."""

    next: Annotated[int | None, Field(description="What to give as `after` for the next page; null on the last one.")]


class ExecutionAnswer(Strict):
    """One execution in its newest revision."""

    exec_id: str
    order_id: str | None
    client_order_id: str | None
    symbol: str
    side: Side
    quantity: Number
    price: Number
    account: str
    exchange: str
    perm_id: int
    commission: Number | None
    commission_currency: str | None
    realized_pnl: Number | None
    at: Moment
    revision: int
    seq: int


class ExecutionPage(Strict):
    """Executions in the order in which they were booked."""

    executions: list[ExecutionAnswer]
    next: int | None


class PositionAnswer(Strict):
    """One position, and what the broker says of it where this replica has a session."""

    account: str
    symbol: str
    con_id: int
    quantity: Number
    average_cost: Number
    broker_quantity: Number | None
    break_id: str | None


class Positions(Strict):
    """All positions that the ledger knows."""

    positions: list[PositionAnswer]


class BreakAnswer(Strict):
    """A difference between ledger and broker, with both sides' figures."""

    id: str
    kind: str
    symbol: str
    account: str | None
    order_id: str | None
    ours: dict[str, Any]
    broker: dict[str, Any]
    holds: bool
    opened_at: Moment
    resolved_at: Moment | None
    resolution: str | None


class Breaks(Strict):
    """All breaks, open ones first."""

    breaks: list[BreakAnswer]


class AuditRow(Strict):
    """One event, as somebody asked for it."""

    seq: int
    epoch: int
    at: Moment
    kind: str
    by: str | None
    from_: Annotated[str | None, Field(alias="from", serialization_alias="from", description="The remote address.")]
    order_id: str | None
    client_order_id: str | None
    correlation_id: str | None
    event_id: str
    payload: dict[str, Any]


class AuditPage(Strict):
    """Who asked for what, oldest first."""

    audit: list[AuditRow]
    next: int | None
    log_begins: Annotated[
        int, Field(description="The first event still in the log; what was asked for before it is archived.")
    ]


class AccountAnswer(Strict):
    """What the broker last said of one account; null = not known."""

    account: str
    net_liquidation: Number | None
    cash: Number | None
    buying_power: Number | None
    maintenance_margin: Number | None
    currency: str | None
    at: Annotated[Moment | None, Field(description="When the broker said so.")]


class AccountList(Strict):
    """All accounts that the gateway names."""

    accounts: list[AccountAnswer]
