"""One order: its states, the one table of its transitions, and what is known of it. Pure.

States come from broker evidence or from a rule that needs none; a timer never ends an order (G6).
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from operator import attrgetter
from typing import Any

from engine.errors import IllegalTransition
from engine.events import Kind

ZERO = Decimal(0)


class State(StrEnum):
    """An order's states, by the names that the API uses."""

    QUEUED = "QUEUED"  # durable, never licensed
    SENDING = "SENDING"  # licensed for one session, no evidence yet
    WORKING = "WORKING"  # the broker has shown it
    FILLED = "FILLED"
    CANCELLED = "CANCELLED"
    REJECTED = "REJECTED"
    EXPIRED = "EXPIRED"  # never licensed, ended by rule
    IN_DOUBT = "IN_DOUBT"  # its session died and the broker does not show it; a break is open


OPERATOR_DEAD = "operator_dead"
"""The reason of an order that an operator called dead; late evidence still counts (R1)."""

FINAL = frozenset({State.FILLED, State.CANCELLED, State.REJECTED, State.EXPIRED})

_EVIDENCE = {
    Kind.ORDER_WORKING: State.WORKING,
    Kind.ORDER_CANCELLED: State.CANCELLED,
    Kind.ORDER_REJECTED: State.REJECTED,
    Kind.EXECUTION: State.WORKING,  # FILLED when the executions sum up to the quantity (R27), see `settle`
}

TRANSITIONS: dict[State, dict[Kind, State]] = {
    State.QUEUED: {
        Kind.ORDER_LICENSED: State.SENDING,
        Kind.ORDER_EXPIRED: State.EXPIRED,  # R8: reachable only from here
        **_EVIDENCE,  # a database that went back in time: the broker knows more than the ledger (R18)
    },
    State.SENDING: {
        Kind.ORDER_UNLICENSED: State.QUEUED,  # only by the process that knows that it wrote nothing (R4)
        Kind.ORDER_IN_DOUBT: State.IN_DOUBT,
        **_EVIDENCE,
    },
    State.WORKING: {
        Kind.ORDER_IN_DOUBT: State.IN_DOUBT,
        Kind.ORDER_CHANGED: State.WORKING,  # a person changed it at the broker (R28), or the change that was asked for is there
        Kind.MODIFY_LICENSED: State.WORKING,
        Kind.MODIFY_REFUSED: State.WORKING,  # an error on a change never ends an order
        Kind.ORDER_MERGED: State.CANCELLED,  # an external record: the broker's order is one of ours, an operator says
        **_EVIDENCE,
    },
    State.IN_DOUBT: {
        Kind.ORDER_REPEATED: State.SENDING,  # the same orderId once more, a new licence (R1): `engine.again` says when
        Kind.ORDER_ADOPTED: State.WORKING,  # an operator names the broker's order that it is
        **_EVIDENCE,  # it surfaced, or an operator called it dead
    },
    State.FILLED: {
        Kind.EXECUTION: State.FILLED,  # a correction
        Kind.ORDER_CHANGED: State.FILLED,  # made larger at the broker after it was filled: `settle` opens it again (R28)
        Kind.ORDER_MERGED: State.CANCELLED,  # an external record: its executions are those of one of ours
    },
    State.CANCELLED: {
        Kind.EXECUTION: State.CANCELLED,  # a fill that crossed the cancel
        Kind.ORDER_WORKING: State.WORKING,  # R1: late evidence reopens what an operator called dead
        Kind.ORDER_MERGED: State.CANCELLED,
    },
    State.REJECTED: {
        Kind.EXECUTION: State.REJECTED,
        Kind.ORDER_REJECTED: State.REJECTED,  # its permId came after the error
        Kind.ORDER_WORKING: State.WORKING,
    },
    State.EXPIRED: {**_EVIDENCE},  # only after the database went back in time (R18)
}


MOVES = frozenset(
    {
        Kind.ORDER_LICENSED, Kind.ORDER_UNLICENSED, Kind.ORDER_WORKING, Kind.ORDER_CANCELLED, Kind.ORDER_REJECTED,
        Kind.ORDER_EXPIRED, Kind.ORDER_IN_DOUBT, Kind.ORDER_CHANGED, Kind.MODIFY_LICENSED, Kind.MODIFY_REFUSED,
        Kind.ORDER_REPEATED, Kind.ORDER_ADOPTED, Kind.ORDER_MERGED,
    }
)  # fmt: skip
"""Kinds that move an order along the table and are about nothing else."""


def next_state(state: State, kind: str) -> State:
    """The state after `kind`. Raises IllegalTransition where the table has no row."""
    try:
        return TRANSITIONS[state][kind]  # type: ignore[index]  # a kind's text is as good as the kind
    except KeyError:
        raise IllegalTransition("order", state, kind) from None


@dataclass(slots=True)
class Order:
    """What the ledger knows of one order. Written only by the fold (`engine.book`)."""

    id: str
    subject: str
    client_order_id: str | None  # None: restored from broker evidence, or external (R19)
    body: dict[str, Any] | None  # the fields as the client sent them, parsed (R37)
    account: str
    symbol: str
    side: str
    quantity: Decimal
    order_type: str
    limit_price: Decimal | None
    stop_price: Decimal | None
    tif: str
    sec_type: str
    exchange: str
    currency: str
    con_id: int
    created_at: datetime
    updated_at: datetime
    epoch: int  # that of its acceptance; stands in its reference
    seq: int = 0  # of the last event that touched it
    accepted_seq: int = 0
    state: State = State.QUEUED
    reason: str | None = None
    filled: Decimal = ZERO  # the sum of its executions here, never a broker's word alone
    notional: Decimal = ZERO  # sum of quantity times price of its executions
    perm_id: int | None = None
    broker_order_id: int | None = None
    licence_epoch: int | None = None
    session: int | None = None
    kept: bool = (
        False  # written with transmit=False: the gateway keeps it until a later member of its family transmits it
    )
    gateway_only: bool = (
        False  # at the broker, and all that is known is what the gateway says by itself: not IB's word (R6)
    )
    repeats: int = 0  # how often a new licence repeated the one before, under the same broker order id (R1)
    cancel_requested: bool = False
    cancel_session: int | None = None  # the session for which the cancel was licensed
    revision: int = 1
    asked: dict[str, str] = field(
        default_factory=dict
    )  # figures that a change asked for and the broker has not shown yet
    asked_session: int | None = None  # the session on which that change was written
    correlation_id: str | None = None
    sent_at: datetime | None = None
    acknowledged_at: datetime | None = None
    valid_until: datetime | None = None
    external: bool = False  # placed by somebody else; recorded, never touched (R26)
    extra: dict[str, str] = field(default_factory=dict)
    constant: int = field(
        default=0, repr=False, compare=False
    )  # of `engine.digest`: hash of what never changes, 0 = not yet
    fingerprint: int = field(default=0, repr=False, compare=False)  # its share of the book's digest

    def copy(self) -> Order:
        """An order with the same fields, for trying what an event would do to it."""
        return Order(*_every_field(self))

    @property
    def final(self) -> bool:
        """Whether the order has ended."""
        return self.state in FINAL

    @property
    def remaining(self) -> Decimal:
        """What is not filled yet, never negative."""
        return max(self.quantity - self.filled, ZERO)

    @property
    def average_price(self) -> Decimal | None:
        """Mean price of the executions, None without any."""
        return self.notional / self.filled if self.filled else None

    @property
    def key(self) -> tuple[str, str] | None:
        """The client's idempotency key, unique for ever (R37)."""
        return None if self.client_order_id is None else (self.subject, self.client_order_id)

    @property
    def contract_key(self) -> tuple[str, str]:
        """What a hold freezes: account and contract."""
        return self.account, self.symbol


_every_field = attrgetter(*(item.name for item in fields(Order)))


def settle(order: Order) -> None:
    """Close the order when its executions sum up to its quantity (R27), whatever a status said or did not say."""
    if order.filled >= order.quantity > 0 and order.state not in (State.REJECTED, State.EXPIRED):
        order.state = State.FILLED
    elif order.state is State.FILLED:  # a correction took back a part
        order.state = State.WORKING
