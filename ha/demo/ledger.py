"""The ledger's side of the evidence: its orders and its breaks, as the API reads them. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

FINAL = frozenset({"FILLED", "CANCELLED", "REJECTED", "EXPIRED"})


@dataclass(frozen=True, slots=True)
class Row:
    """One order of the ledger."""

    id: str
    client_order_id: str | None
    state: str
    seq: int
    symbol: str
    broker_order_id: int | None
    evidenced: bool
    """The ledger names broker evidence for it: a permId or an acknowledgement."""


@dataclass(frozen=True, slots=True)
class Hold:
    """A break that freezes its symbol from `opened_at` until `resolved_at` (None: still)."""

    break_id: str
    symbol: str
    order_id: str | None
    opened_at: datetime
    resolved_at: datetime | None

    def covers(self, symbol: str, at: datetime, on_its_way: timedelta) -> bool:
        """Whether nothing may reach the broker for this symbol at this time; what was licensed before takes so long at most."""
        opened = self.opened_at + on_its_way < at
        return symbol == self.symbol and opened and (self.resolved_at is None or at < self.resolved_at)


@dataclass(frozen=True, slots=True)
class Ledger:
    """Orders by id and by the client's key; breaks by the order that they name; what they hold."""

    by_id: Mapping[str, Row]
    by_key: Mapping[str, Row]
    breaks: Mapping[str, Sequence[Mapping[str, Any]]]
    holds: Sequence[Hold] = ()

    @classmethod
    def read(cls, orders: Sequence[Mapping[str, Any]], breaks: Sequence[Mapping[str, Any]]) -> Ledger:
        """Of an order that moved while the pages were read, the newest row counts."""
        by_id: dict[str, Row] = {}
        for entry in orders:
            row = Row(
                id=str(entry["id"]),
                client_order_id=entry.get("client_order_id"),
                state=str(entry["state"]),
                seq=int(entry.get("seq") or 0),
                symbol=str(entry.get("symbol")),
                broker_order_id=entry.get("broker_order_id"),
                evidenced=entry.get("perm_id") is not None or entry.get("acknowledged_at") is not None,
            )
            if row.id not in by_id or by_id[row.id].seq <= row.seq:
                by_id[row.id] = row
        naming: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
        for entry in breaks:
            if entry.get("order_id"):
                naming[str(entry["order_id"])].append(entry)
        by_key = {row.client_order_id: row for row in by_id.values() if row.client_order_id}
        return cls(by_id, by_key, naming, [hold for hold in map(_hold, breaks) if hold is not None])

    def open_breaks(self, order_id: str) -> tuple[str, ...]:
        """The ids of the breaks that name this order and are not resolved."""
        return tuple(str(entry["id"]) for entry in self.breaks.get(order_id, ()) if entry.get("resolved_at") is None)


def _hold(entry: Mapping[str, Any]) -> Hold | None:
    """The hold of a break, if it is one. A break that does not say so holds when it names an order."""
    if (
        not entry.get("holds", entry.get("order_id") is not None)
        or not entry.get("symbol")
        or not entry.get("opened_at")
    ):
        return None
    return Hold(
        break_id=str(entry["id"]),
        symbol=str(entry["symbol"]),
        order_id=entry.get("order_id"),
        opened_at=_time(entry["opened_at"]),
        resolved_at=_time(entry["resolved_at"]) if entry.get("resolved_at") else None,
    )


def _time(text: Any) -> datetime:
    return datetime.fromisoformat(str(text)).astimezone(UTC)
