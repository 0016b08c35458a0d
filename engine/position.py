"""Executions and the positions that are their sum. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal

ZERO = Decimal(0)


def execution_root(exec_id: str) -> tuple[str, int]:
    """The stable part of an execId and its revision.

    A correction repeats the execution with the last dotted part raised (`.01` -> `.02`): the part before the last dot
    is the execution, the highest last part is its present form. An id without a number at its end is its own root.
    """
    root, dot, last = exec_id.rpartition(".")
    if dot and last.isascii() and last.isdigit():
        return root, int(last)
    return exec_id, 0


@dataclass(slots=True)
class Execution:
    """One execution in its newest revision. `at` is UTC, `raw_time` as received."""

    exec_id: str
    root: str
    revision: int
    order_id: str | None
    account: str
    con_id: int
    symbol: str
    side: str
    quantity: Decimal
    price: Decimal
    exchange: str
    perm_id: int
    at: datetime
    seq: int
    commission: Decimal | None = None
    commission_currency: str | None = None
    realized_pnl: Decimal | None = None
    fingerprint: int = field(default=0, repr=False, compare=False)  # its share of the book's digest

    @property
    def signed(self) -> Decimal:
        """Quantity with its side's sign."""
        return self.quantity if self.side == "BUY" else -self.quantity


@dataclass(slots=True)
class Position:
    """The sum of the executions of one contract in one account, and what the broker says of it."""

    account: str
    con_id: int
    symbol: str
    quantity: Decimal = ZERO
    average_cost: Decimal = ZERO
    base_quantity: Decimal = ZERO  # of the executions that have left memory
    base_cost: Decimal = ZERO
    fingerprint: int = field(default=0, repr=False, compare=False)  # its share of the book's digest

    def add(self, signed: Decimal, price: Decimal) -> None:
        """Book `signed` units at `price`. The average cost moves when the position grows and stays when it shrinks."""
        self.quantity, self.average_cost = _after(self.quantity, self.average_cost, signed, price)

    def rebuild(self, executions: Iterable[Execution]) -> None:
        """Book these executions, all that are in memory, in this order, upon what has left memory.

        The quantity is exact. The average cost is that of a trader who made the trades that left first, and all others after
        them; where one was corrected after it had left and come back, those that left meanwhile count at their average.
        """
        self.quantity, self.average_cost = self.base_quantity, self.base_cost
        for execution in executions:
            self.add(execution.signed, execution.price)

    def adjust(self, signed: Decimal) -> None:
        """Somebody else's trades moved the position by so much (R28); at what price nobody here knows: the average cost's."""
        self.base_quantity, self.base_cost = _after(
            self.base_quantity, self.base_cost, signed, self.base_cost or self.average_cost
        )
        self.quantity, self.average_cost = _after(self.quantity, self.average_cost, signed, self.average_cost)

    def let_go(self, signed: Decimal, price: Decimal) -> None:
        """An execution leaves memory: what it did is in the base from now on, the position is what it was."""
        self.base_quantity, self.base_cost = _after(self.base_quantity, self.base_cost, signed, price)

    def take_back(self, signed: Decimal, price: Decimal) -> None:
        """An execution that had left is in memory again; what it did to the base's average cost cannot be undone exactly."""
        self.let_go(-signed, price)


def _after(quantity: Decimal, cost: Decimal, signed: Decimal, price: Decimal) -> tuple[Decimal, Decimal]:
    """Quantity and average cost once `signed` units were booked at `price`."""
    after = quantity + signed
    if after == 0:
        cost = ZERO
    elif quantity == 0 or (quantity > 0) != (after > 0):
        cost = price
    elif abs(after) > abs(quantity):
        cost = (cost * abs(quantity) + price * abs(signed)) / abs(after)
    return after, cost


@dataclass(slots=True)
class Break:
    """A difference that a person must see: both sides' figures, and how it was resolved."""

    id: str
    kind: str
    symbol: str
    account: str
    order_id: str | None
    ours: dict[str, str | None]
    broker: dict[str, str | None]
    opened_at: datetime
    holds: bool  # whether it freezes (account, symbol) until it is resolved
    resolved_at: datetime | None = None
    resolution: str | None = None
    fingerprint: int = field(default=0, repr=False, compare=False)  # its share of the book's digest
