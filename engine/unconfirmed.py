"""R6: which orders IB itself has not acknowledged, as far as the gateway says. Pure.

A gateway that has lost IB keeps what it was sent and submits it when the link is back, perhaps ten minutes later. The statuses
that it gives an order by itself say nothing of IB; the others do.
"""

from __future__ import annotations

from collections.abc import Iterable

GATEWAY_ONLY = frozenset({"ApiPending", "PendingSubmit"})
"""Statuses that the gateway gives before IB has answered."""


def by_gateway(status: str | None) -> dict[str, bool]:
    """What an event says of an order that was shown so: that the gateway alone has answered."""
    return {"gateway_only": True} if status in GATEWAY_ONLY else {}


class Unconfirmed:
    """Orders without IB's own answer; those among them that met a lost link are marked, until somebody takes the marks."""

    def __init__(self) -> None:
        self._waiting: dict[str, None] = {}
        self._marked: dict[str, None] = {}
        self._unanswered: dict[str, None] = {}  # what dead sessions were sent and IB had not answered
        self._down = False

    def begin(self) -> None:
        """A term begins."""
        self._waiting.clear()
        self._marked.clear()
        self._unanswered.clear()
        self._down = False

    def seen(self, oid: str, status: str, *, unanswered: bool = False) -> bool:
        """The gateway showed the order with this status; whether that is IB's first answer.

        `unanswered`: the ledger has nothing but the gateway's own word on it.
        """
        if status not in GATEWAY_ONLY:
            unanswered = unanswered or oid in self._waiting
            self._waiting.pop(oid, None)
            return unanswered
        self._waiting[oid] = None
        if self._down:
            self._marked[oid] = None
        return False

    def ended(self, oid: str) -> None:
        """The order has ended."""
        self._waiting.pop(oid, None)
        self._marked.pop(oid, None)
        self._unanswered.pop(oid, None)

    def link_lost(self, unanswered: Iterable[str]) -> None:
        """1100: whatever IB has not answered may lie in the gateway; `unanswered` are those that nobody answered."""
        self._down = True
        self._marked |= self._waiting | dict.fromkeys(unanswered)

    def link_back(self) -> None:
        """1101 or 1102."""
        self._down = False

    def dialling(self, unanswered: Iterable[str]) -> None:
        """Another session is dialled: a gateway without a link tells it so. IB has not answered `unanswered`, of dead sessions."""
        self._down = False
        self._unanswered |= dict.fromkeys(unanswered)

    @property
    def unanswered(self) -> tuple[str, ...]:
        """Ids of the orders that IB had not answered when a session was dialled, until the session is reconciled."""
        return tuple(self._unanswered)

    def surfaced(self, oids: Iterable[str]) -> None:
        """These of the unanswered are at the broker after all, since when nobody knows: marked."""
        for oid in oids:
            self._unanswered.pop(oid, None)
            self._marked[oid] = None

    def reconciled(self) -> None:
        """The session is reconciled: what it has not shown is left to R1."""
        self._unanswered.clear()

    @property
    def marked(self) -> tuple[str, ...]:
        """Ids of the orders that met a lost link before IB had answered, in the order in which they were marked."""
        return tuple(self._marked)

    def judged(self, oids: Iterable[str]) -> None:
        """These were looked at with the link back: their marks are gone."""
        for oid in oids:
            self._marked.pop(oid, None)
