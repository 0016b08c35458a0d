"""What a leader tends to its term by, as `ha.from_settings` makes it from the settings. Pure."""

from __future__ import annotations

from dataclasses import dataclass

DOUBTS_APART = 0.5
"""Least pause between two reconciliations at a doubt: one is five requests, and the gateway takes 50 messages a second."""

SHUT_GATE, OPEN_GATE = 0.00025, 0.001
"""Seconds that an order in memory may add to the lists: the gateway shows what ended today, too, and what it traded."""

AT_MOST = 60.0
"""Seconds for one reconciliation behind an open gate."""

EXCUSE = 10.0
"""Seconds for which a list that is coming keeps a session whose acknowledgement is not there (R5)."""

PAUSE_EACH = 0.0003
"""Seconds that an open order adds to the pause after a doubt."""


@dataclass(frozen=True, slots=True)
class TendRules:
    """Seconds; `same_id`: whether an order in doubt is repeated under its own order id where it may be (R1)."""

    ack_timeout: float = 2.0
    ack_deadline: float = 5.0
    reconcile_deadline: float = 5.0
    reconcile_every: float = 30.0
    same_id: bool = False
    phase_deadline: float = 20.0

    def lists_take(self, orders: int, *, gate_open: bool) -> float:
        """Seconds that the broker's lists may take beyond a reconciliation's deadline, once the gateway has answered.

        They grow with the day; behind an open gate they share the leader's core with the orders that go on.
        """
        return orders * (OPEN_GATE if gate_open else SHUT_GATE)

    def at_most(self, *, gate_open: bool) -> float:
        """Seconds for one reconciliation, whatever is coming: with a shut gate it parks before its phase's deadline ends the term
        (R24, R33)."""
        return AT_MOST if gate_open else 0.7 * self.phase_deadline

    def pause(self, open_orders: int, *, doubts: bool) -> float:
        """Seconds between the end of one reconciliation and the next: whatever the gateway says waits behind its lists."""
        if doubts:
            return DOUBTS_APART + open_orders * PAUSE_EACH
        return max(self.reconcile_every, open_orders * PAUSE_EACH * 10)

    @staticmethod
    def owed(now: float, since: float, listing_at: float) -> float:
        """Seconds for which an acknowledgement is owed, for the end of the session. While a list is coming, for `EXCUSE` at most,
        it stands behind that; the gate shuts by its age alone."""
        return now - max(since, min(listing_at, since + EXCUSE))
