"""Commissions: what a report adds to its execution, and those that came before it. Pure."""

from __future__ import annotations

from collections import OrderedDict
from datetime import datetime

from engine.book import Book
from engine.broker import CommissionFact
from engine.events import Draft, Kind

MAX_EARLY = 1024
"""Reports held for executions that are not booked yet; beyond it the oldest is dropped, the next list brings it again."""


class EarlyCommissions:
    """Reports whose execution the ledger does not have yet."""

    def __init__(self) -> None:
        self._held: OrderedDict[str, CommissionFact] = OrderedDict()
        self._due: list[CommissionFact] = []

    def hold(self, fact: CommissionFact) -> None:
        """Keep the newest report of its execution."""
        self._held[fact.exec_id] = fact
        self._held.move_to_end(fact.exec_id)
        if len(self._held) > MAX_EARLY:
            self._held.popitem(last=False)

    def booked(self, exec_id: str) -> None:
        """The execution is in the ledger, or on its way there."""
        if (fact := self._held.pop(exec_id, None)) is not None:
            self._due.append(fact)

    def take_due(self) -> list[CommissionFact]:
        """Reports whose execution came; each is given once."""
        due, self._due = self._due, []
        return due

    def clear(self) -> None:
        """Forget everything."""
        self._held.clear()
        self._due.clear()


def commission_draft(fact: CommissionFact, book: Book, at: datetime) -> Draft | None:
    """The event that notes `fact`, None when it adds nothing: known, or about a revision that was corrected since."""
    where = book.exec_by_id.get(fact.exec_id)
    if where is not None:
        known = book.executions[where]
        told = (known.commission, known.commission_currency, known.realized_pnl)
        if told == (fact.commission, fact.currency, fact.realized_pnl):
            return None
        if known.commission is not None and known.exec_id != fact.exec_id:
            return None
    payload = {
        "exec_id": fact.exec_id, "commission": str(fact.commission), "currency": fact.currency,
        "realized_pnl": None if fact.realized_pnl is None else str(fact.realized_pnl),
    }  # fmt: skip
    return Draft(Kind.COMMISSION, payload, at)
