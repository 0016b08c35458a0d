"""The pace of messages to the broker, kept below ib_async's throttle and IB's 50 a second. Pure."""

from __future__ import annotations

from collections import deque


class Pace:
    """At most `rate` messages in *any* second, all of them at once if need be. `rate` 0 = no limit. Time is an argument.

    A window over the last messages and not a bucket: a bucket that refills while it is emptied lets more than its rate
    through in its first second. A rate below one is one message in each 1/rate seconds. `span` is the length of the window in
    seconds where it is not one: `Pace(2.0, span=60)` lets 120 through in any minute.
    """

    def __init__(self, rate: float, span: float = 1.0) -> None:
        self.rate = rate
        self._most = max(1, int(rate * span))
        self._window = self._most / rate if rate else 0.0
        self._taken: deque[float] = deque(maxlen=self._most)

    def take(self, now: float, count: int = 1) -> bool:
        """Take the right of so many messages, all or none; False when the window has no room. More than it ever has go through
        an empty one: what belongs together is not cut."""
        if self.wait(now, count) > 0.0:
            return False
        if self.rate:
            self._taken.extend([now] * count)
        return True

    def wait(self, now: float, count: int = 1) -> float:
        """Seconds until `take` succeeds; 0 when it would now."""
        may_stay = max(0, self._most - count)
        if not self.rate or len(self._taken) <= may_stay:
            return 0.0
        return max(0.0, self._taken[len(self._taken) - may_stay - 1] + self._window - now)


MESSAGES = 45.0
"""Messages a second at one door to the broker, where nothing else is set: IB admits 50."""
RESERVED = 5
"""Messages a second that orders leave to requests and cancels."""
OVERTAKE = 4
"""Messages a second above the rate that cancels may take: they still stay below IB's 50."""


class OrderPace:
    """How fast orders may be licensed: all together, and each symbol's. Rates in orders a second, 0 = no limit."""

    def __init__(self, rate: float, per_symbol: float) -> None:
        self._all, self._per_symbol = Pace(rate), per_symbol
        self._symbols: dict[str, Pace] = {}

    def room(self, now: float, count: int = 1) -> bool:
        """Whether so many more orders may go, of whatever symbol."""
        return self._all.wait(now, count) <= 0.0

    def take(self, symbol: str, now: float, count: int = 1) -> bool:
        """So many orders' right, of the symbol's pace and of the whole one's; nothing is taken when it is refused."""
        pace = self._symbols.get(symbol)
        if pace is None:
            pace = self._symbols[symbol] = Pace(self._per_symbol)
        return pace.wait(now, count) <= 0.0 and self._all.take(now, count) and pace.take(now, count)


class DoorPace:
    """The pace of one door to the broker: at most `rate` messages in any second, whatever they are. 0 = no limit.

    Orders leave RESERVED of them free, so that a reconciliation's requests never wait for more than a second; requests wait for
    their turn; cancels overtake. Whoever writes says so (`wrote`), and what is licensed and not yet written is given as `coming`.
    """

    def __init__(self, rate: float = MESSAGES) -> None:
        self.rate = rate
        self._written: deque[float] = deque()

    def wrote(self, now: float) -> None:
        """One message was written."""
        if self.rate:
            self._written.append(now)

    def used(self, now: float) -> int:
        """Messages written in the last second."""
        written = self._written
        while written and now - written[0] >= 1.0:
            written.popleft()
        return len(written)

    def order_may(self, now: float, coming: int, count: int = 1) -> bool:
        """Whether so many more orders may be licensed together. Through an empty window as many as its rate."""
        if not self.rate:
            return True
        used = self.used(now) + coming
        return used + count - 1 < max(1.0, self.rate - RESERVED) or (used == 0 and count <= self.rate)

    def cancel_may(self, now: float, coming: int) -> bool:
        """Whether one more cancel may be licensed."""
        return not self.rate or self.used(now) + coming < self.rate + OVERTAKE

    def full(self, now: float) -> bool:
        """Whether an order or a request must not be written now, licensed or not."""
        return bool(self.rate) and self.used(now) >= self.rate

    def wait(self, now: float) -> float:
        """Seconds until `full` ends; 0 when it is not."""
        if not self.full(now):
            return 0.0
        return max(0.0, self._written[len(self._written) - int(self.rate)] + 1.0 - now)
