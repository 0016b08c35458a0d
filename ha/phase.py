"""The bounds of a takeover's phases (R33): each ends in time, and a term that failed is not tried again at once.

CONNECTING has no deadline of its own: while the gateway is unreachable the leader stays there, accepts orders and dials on,
and a session that somebody else holds is bounded by `FENCE_DEADLINE`.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable

from ha.role import Act, On

BOUNDED = frozenset({Act.CAMPAIGN, Act.TAKE_OVER, Act.CLAIM, Act.RECONCILE})
"""What must end by itself, or the lease is held for nothing."""

FIRST_PAUSE = 0.5
LONGEST_PAUSE = 30.0


class TermOver(Exception):
    """This term cannot go on; the text is the reason. The shell steps down."""


async def bounded(act: Act, work: Awaitable[On | None], seconds: float) -> On | None:
    """What `work` returns. Raises TermOver when `act` is to be bounded and did not end within `seconds` (R33)."""
    if act not in BOUNDED:
        return await work
    limit = asyncio.timeout(seconds)
    try:
        async with limit:
            return await work
    except TimeoutError:
        if limit.expired():
            raise TermOver(f"the phase `{act}` did not end within {seconds:g} s (R33)") from None
        raise


class BackOff:
    """Pauses between terms that failed before they led: they double, with chance in them, so that two replicas fall out of step."""

    def __init__(self) -> None:
        self.failed = 0

    def pause(self) -> float:
        """Another term failed: seconds until the next may be tried."""
        longest = min(FIRST_PAUSE * 2**self.failed, LONGEST_PAUSE)
        self.failed = min(self.failed + 1, 16)
        return random.uniform(longest / 2, longest)

    def led(self) -> None:
        """A term led: the next failure is a first one again."""
        self.failed = 0
