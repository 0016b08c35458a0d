"""The market: where prices stand, which orders rest, and what they trade. Pure: time is an argument."""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Protocol

from ibsim.agenda import Agenda
from ibsim.contracts import Instrument, Universe
from ibsim.match import Resting
from ibsim.orders import CLOSE_TYPES, STOP_TYPES, Order, Stage

MOST_PARTS = 100
"""One order is filled at one price in at most so many executions."""


@dataclass(frozen=True, slots=True)
class Rules:
    """How the stand-in's market behaves: seconds until a fill, the largest execution, the first order id."""

    fill_delay: float = 0.0
    fill_size: Decimal | None = None
    first_id: int = 1


class Floor(Protocol):
    """Who hears of what trades."""

    def executed(self, order: Order, shares: Decimal, price: Decimal, now: float) -> None:
        """So many shares were traded at this price."""

    def triggered(self, order: Order) -> None:
        """The price set off the order's stop."""

    def killed(self, order: Order) -> None:
        """What is left of the order cannot rest: IOC, FOK, or LOC beyond the closing price."""


class Market:
    """Prices by conId, and the orders that are in the market."""

    def __init__(self, universe: Universe, rules: Rules, agenda: Agenda, floor: Floor) -> None:
        self.rules = rules
        self.prices = {con_id: one.price for con_id, one in universe.by_con_id.items()}
        self._agenda = agenda
        self._floor = floor
        self._resting: dict[int, Resting] = {}
        self._at_close: dict[int, Order] = {}

    def price(self, instrument: Instrument) -> Decimal:
        """Where this instrument stands."""
        return self.prices.setdefault(instrument.con_id, instrument.price)

    def move(self, prices: Mapping[int, Decimal], now: float, sizes: Mapping[int, Decimal] | None = None) -> None:
        """Moves the market; resting orders that cross are filled, at most `sizes[conId]` shares in all."""
        self.prices.update(prices)
        for con_id, price in prices.items():
            resting = self._resting.get(con_id)
            if resting is None:
                continue
            left = (sizes or {}).get(con_id)
            for order in resting.crossed(price):
                if not order.done:
                    left = self._trade(order, price, left, now)

    def work(self, order: Order, now: float) -> None:
        """Lets an order trade if it can, else rest or end, by its type and time in force."""
        price = self.price(order.instrument)
        kind = order.order_type
        if kind in CLOSE_TYPES:
            self._at_close[order.perm_id] = order
        elif kind in STOP_TYPES and not order.triggered and not order.triggers(price):
            self._rest(order)
        elif kind in STOP_TYPES or order.marketable(price):
            self._schedule(order, now)
        elif order.tif in ("IOC", "FOK"):
            self._floor.killed(order)
        else:
            self._rest(order)

    def withdraw(self, order: Order) -> None:
        """Takes an order out of the market; nothing happens if it is not in it."""
        resting = self._resting.get(order.instrument.con_id)
        if resting is not None:
            resting.remove(order)
        if self._at_close:
            self._at_close.pop(order.perm_id, None)

    def close(self, now: float) -> None:
        """The closing auction: MOC orders trade, LOC orders trade or end."""
        waiting, self._at_close = self._at_close, {}
        for order in waiting.values():
            if order.done:
                continue
            if order.marketable(self.price(order.instrument)):
                self.fill(order, order.remaining, now)
            if not order.done:
                self._floor.killed(order)

    def fill(self, order: Order, shares: Decimal, now: float, price: Decimal | None = None) -> None:
        """Fills so many shares at the market's price, or at `price`."""
        part = shares
        if self.rules.fill_size is not None:
            part = max(self.rules.fill_size, shares / MOST_PARTS)
        at = self.price(order.instrument) if price is None else price
        while shares > 0 and not order.done:
            self._floor.executed(order, min(part, shares, order.remaining), at, now)
            shares -= part

    def _rest(self, order: Order) -> None:
        resting = self._resting.get(order.instrument.con_id)
        if resting is None:
            resting = self._resting[order.instrument.con_id] = Resting()
        resting.add(order)

    def _schedule(self, order: Order, now: float) -> None:
        if self.rules.fill_delay > 0:
            self._agenda.add(now + self.rules.fill_delay, order, self._due)
        else:
            self._trade(order, self.price(order.instrument), None, now)

    def _due(self, order: Order, now: float) -> None:
        if order.stage is Stage.WORKING and not order.place:
            self._trade(order, self.price(order.instrument), None, now)

    def _trade(self, order: Order, price: Decimal, left: Decimal | None, now: float) -> Decimal | None:
        """Fills what the price and the size on offer allow; what remains rests or ends. Returns the size left."""
        if order.order_type in STOP_TYPES and not order.triggered and order.triggers(price):
            self._floor.triggered(order)
        if order.marketable(price):
            shares = order.remaining if left is None else min(order.remaining, left)
            if order.tif == "FOK" and shares < order.remaining:
                shares = Decimal(0)
            if left is not None:
                left -= shares
            self.fill(order, shares, now, price)
        if order.done:
            return left
        if order.tif in ("IOC", "FOK"):
            self._floor.killed(order)
        elif order.order_type in ("MKT", "STP") and order.marketable(price):
            self._schedule(order, now)
        else:
            self._rest(order)
        return left
