"""Which resting orders a price crosses, without looking at the others. Pure.

Four heaps per contract: limits to buy and to sell, stops to buy and to sell. An order that leaves before its price comes is
not searched for; its entry is void by its place number, and a heap that is mostly void is rebuilt.
"""

import heapq
from collections.abc import Iterator
from decimal import Decimal

from ibsim.orders import STOP_TYPES, ZERO, Order

_Entry = tuple[Decimal, int, Order]


class _Heap:
    """Orders by key, lowest first, older first among equals."""

    __slots__ = ("_entries", "_live")

    def __init__(self) -> None:
        self._entries: list[_Entry] = []
        self._live = 0

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, key: Decimal, order: Order) -> None:
        heapq.heappush(self._entries, (key, order.place, order))
        self._live += 1

    def left(self) -> None:
        """One entry became void."""
        self._live -= 1
        if len(self._entries) > 64 and self._live * 2 < len(self._entries):
            self._entries = [entry for entry in self._entries if entry[2].place == entry[1]]
            heapq.heapify(self._entries)

    def pop_through(self, bound: Decimal) -> Iterator[Order]:
        """Takes out every order whose key is at most `bound`."""
        entries = self._entries
        while entries and (entries[0][0] <= bound or entries[0][2].place != entries[0][1]):
            _, place, order = heapq.heappop(entries)
            if order.place == place:
                self._live -= 1
                order.place = 0
                yield order


class Resting:
    """The resting orders of one contract."""

    __slots__ = ("_limits", "_places", "_stops")

    def __init__(self) -> None:
        self._limits = {"BUY": _Heap(), "SELL": _Heap()}
        self._stops = {"BUY": _Heap(), "SELL": _Heap()}
        self._places = 0

    def add(self, order: Order) -> None:
        """Lets the order rest at its limit, or at its stop while that is not triggered. It must not rest already."""
        heap, key = self._home(order)
        self._places += 1
        order.place = self._places
        heap.add(key, order)

    def remove(self, order: Order) -> None:
        """Takes the order out; nothing happens if it does not rest."""
        if order.place:
            heap, _ = self._home(order)
            order.place = 0
            heap.left()

    def crossed(self, price: Decimal) -> list[Order]:
        """Takes out the orders that this price crosses: stops first, then limits, best price first."""
        return [
            *self._stops["BUY"].pop_through(price),
            *self._stops["SELL"].pop_through(-price),
            *self._limits["BUY"].pop_through(-price),
            *self._limits["SELL"].pop_through(price),
        ]

    def entries(self) -> int:
        """How many entries, void ones too, the heaps hold."""
        return sum(len(heap) for side in (self._limits, self._stops) for heap in side.values())

    def _home(self, order: Order) -> tuple[_Heap, Decimal]:
        if order.order_type in STOP_TYPES and not order.triggered:
            stop = order.aux_price or ZERO
            return self._stops[order.side], stop if order.side == "BUY" else -stop
        limit = order.limit_price or ZERO
        return self._limits[order.side], -limit if order.side == "BUY" else limit
