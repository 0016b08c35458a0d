"""How many messages a client sends in a second. Pure: time is an argument."""

from collections import deque

VIOLATIONS = 3
"""With so many seconds above the limit the session ends."""


class Pace:
    """The messages of the last second of one session."""

    def __init__(self) -> None:
        self.violations = 0
        self._times: deque[float] = deque()
        self._counted_until = 0.0

    def wait(self, now: float, limit: int) -> float:
        """Counts a message if it is within the limit and returns 0; else returns the seconds until it would be."""
        times = self._times
        while times and now - times[0] >= 1:
            times.popleft()
        if len(times) >= limit:
            return max(times[0] + 1 - now, 0.001)
        times.append(now)
        return 0.0

    def violated(self, now: float) -> bool:
        """A message came above the limit; returns whether this is the first one in its second."""
        if now < self._counted_until:
            return False
        self._counted_until = now + 1
        self.violations += 1
        return True
