"""What is to happen to orders at a later time. Pure: time is an argument."""

import heapq
from collections.abc import Callable

from ibsim.orders import Order

Action = Callable[[Order, float], None]


class Agenda:
    """Actions by due time, each about one order; what is due for an order that is over is dropped."""

    def __init__(self) -> None:
        self._entries: list[tuple[float, int, Order, Action]] = []
        self._number = 0
        self._kept = 0

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, at: float, order: Order, action: Action) -> None:
        """At this time the action is called with the order and the time."""
        self._number += 1
        heapq.heappush(self._entries, (at, self._number, order, action))
        if len(self._entries) > 2 * self._kept + 64:
            self._entries = [entry for entry in self._entries if not entry[2].done]
            heapq.heapify(self._entries)
            self._kept = len(self._entries)

    def run(self, now: float) -> float | None:
        """Calls what is due; returns the time of the next entry, None if there is none."""
        while self._entries and self._entries[0][0] <= now:
            _, _, order, action = heapq.heappop(self._entries)
            if not order.done:
                action(order, now)
        return self._entries[0][0] if self._entries else None
