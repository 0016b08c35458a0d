"""What `engine.api` serves, for the description."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from engine.openapi import AFTER, HOP, LIMIT, Operation, Operations, Parameter, Schema
from engine.order import State
from engine.request import MAX_BATCH, ChangeRequest, OrderRequest
from engine.view_models import (
    AccountList,
    AuditPage,
    Breaks,
    ExecutionPage,
    OrderAnswer,
    OrderList,
    OrderPage,
    Positions,
    Strict,
)

ORDERS, ORDER = "/api/v1/orders", "/api/v1/orders/{id}"


class Batch(Strict):
    """The body of `POST /orders/batch`: one commit, all or none."""

    orders: Annotated[list[OrderRequest], Field(min_length=1, max_length=MAX_BATCH)]


_WAIT = (
    Parameter("wait", "Answer after the broker's first evidence, or when the time is up.", {"const": "working"}),
    Parameter("timeout_ms", "The time for that.", {"type": "integer", "minimum": 1, "maximum": 30_000}),
)
_TIME: Schema = {"type": "string", "format": "date-time"}
_SYMBOL = Parameter("symbol", "Only orders of this symbol.")

OPERATIONS: Operations = {
    ("POST", ORDERS): Operation(
        "Place an order: 201 when it is durable, 200 when the same key brought the same order before.", "trader",
        {201: OrderAnswer, 200: OrderAnswer, 307: None}, (409, 422, 503, 504), OrderRequest, query=(*_WAIT, HOP),
    ),
    ("POST", f"{ORDERS}/batch"): Operation(
        "Place up to 50 orders in one commit, all or none; 201 when one of them is new.", "trader",
        {201: OrderList, 200: OrderList, 307: None}, (409, 422, 503, 504), Batch, query=(HOP,),
    ),
    ("GET", ORDERS): Operation(
        "Orders, oldest change first.", "viewer", {200: OrderPage, 307: None}, (422, 503),
        query=(
            Parameter("state", "Only orders in this state.", {"enum": [state.value for state in State]}), _SYMBOL,
            Parameter("client_order_id", "Only the order with this key."), AFTER, LIMIT, HOP,
        ),
    ),
    ("GET", ORDER): Operation("One order.", "viewer", {200: OrderAnswer, 307: None}, (404, 503), query=(HOP,)),
    ("DELETE", ORDERS): Operation(
        "Ask for the cancel of every open order of this subject in a symbol.", "trader", {202: OrderList, 307: None},
        (409, 422, 503, 504), query=(Parameter("symbol", "Whose orders; it must be named."), HOP),
    ),
    ("DELETE", ORDER): Operation(
        "Ask for the cancel of an order.", "trader", {202: OrderAnswer, 307: None}, (404, 409, 503, 504), query=(HOP,),
    ),
    ("PATCH", ORDER): Operation(
        "Ask for a change of an order; it is there when the order's figures are the new ones.", "trader",
        {202: OrderAnswer, 307: None}, (404, 409, 412, 422, 503, 504), ChangeRequest, query=(HOP,),
    ),
    ("GET", "/api/v1/executions"): Operation(
        "Executions in the order in which they were booked.", "viewer", {200: ExecutionPage}, (422,), query=(AFTER, LIMIT),
    ),
    ("GET", "/api/v1/positions"): Operation("Positions.", "viewer", {200: Positions}),
    ("GET", "/api/v1/account"): Operation(
        "What the broker last said of its accounts.", "viewer", {200: AccountList, 307: None}, (503,), query=(HOP,),
    ),
    ("GET", "/api/v1/events"): Operation(
        "The log as server-sent events; `id:` is timeline-epoch-seq, `event:` the kind. `reset` = the place named is not in "
        "this log: read the state anew, the stream goes on from the present.", "viewer", {200: None}, (400, 422, 503),
        query=(
            AFTER, Parameter("Last-Event-ID", "The last id that was received.", {"type": "string"}, "header"),
        ),
        media="text/event-stream",
    ),
    ("GET", "/api/v1/audit"): Operation(
        "Who asked for what, when and from where, oldest first: the newest rows, or with `after` the first behind that event.",
        "operator", {200: AuditPage}, (422, 503),
        query=(
            Parameter("subject", "Who asked."), Parameter("order_id", "About this order."),
            Parameter("client_order_id", "About the order of this key."),
            Parameter("kind", "Kinds of events, commas between; * = all. Left out: what somebody asked for."),
            Parameter("since", "From this time on.", _TIME), Parameter("until", "Before this time.", _TIME), AFTER, LIMIT,
        ),
    ),
    ("GET", "/api/v1/breaks"): Operation("Breaks, open ones first.", "viewer", {200: Breaks}),
}  # fmt: skip
