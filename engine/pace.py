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

    def take(self, now: float) -> bool:
        """Take one message's right; False when the window is full."""
        if not self.rate:
            return True
        if len(self._taken) == self._most and now - self._taken[0] < self._window:
            return False
        self._taken.append(now)
        return True

    def wait(self, now: float) -> float:
        """Seconds until `take` succeeds; 0 when it would now."""
        if not self.rate or len(self._taken) < self._most:
            return 0.0
        return max(0.0, self._taken[0] + self._window - now)
