"""From the differences that one snapshot shows to one group of events: each difference looked up in the table. Pure.

All that one snapshot asks for is one group, committed whole or not at all.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from engine.book import Book
from engine.breaks import hold_everything, lost_rows
from engine.events import Draft, Kind
from engine.risk import NO_LIMITS, Limits
from reconcile.differences import (
    ChangeLost,
    DeadTraded,
    Difference,
    ExecutionGone,
    FillsMissing,
    OrderDiffers,
    StrangerSeen,
    TwinSeen,
)
from reconcile.drafts import View
from reconcile.positions import PositionDiffers
from reconcile.snapshot import Identity, Snapshot
from reconcile.table import TABLE, Acts, Row, Verdict
from reconcile.told import sides

__all__ = ["TABLE", "Acts", "Plan", "Row", "Ruling", "Verdict", "make_plan", "row_for"]

_ORDER = {
    Kind.ORDER_RESTORED: 0, Kind.ORDER_EXTERNAL: 0, Kind.ORDER_WORKING: 1, Kind.ORDER_CHANGED: 2,
    Kind.MODIFY_REFUSED: 2, Kind.EXECUTION: 3,
    Kind.ORDER_CANCELLED: 4, Kind.ORDER_REJECTED: 4, Kind.ORDER_IN_DOUBT: 4, Kind.TWIN_CANCEL_LICENSED: 5,
    Kind.CANCEL_REQUESTED: 5, Kind.BREAK_RESOLVED: 6, Kind.BREAK_OPENED: 7,
}  # fmt: skip
"""An order is there before it trades, and has traded before it ends; otherwise its table would refuse the events."""


@dataclass(frozen=True, slots=True)
class Ruling:
    """One difference, its row, and what is written now (nothing while the row still waits to be sure)."""

    row: Row
    difference: Difference
    drafts: tuple[Draft, ...]
    waits: bool

    def __str__(self) -> str:
        return f"{self.row.name} ({'waits' if self.waits else self.row.verdict}): {self.difference.key}"

    def told(self) -> dict[str, Any]:
        """For a person: the row and its verdict, what it is about, both sides' figures, and the kinds of what it writes."""
        about, ours, broker = sides(self.difference)
        return {
            "row": self.row.name, "verdict": str(self.row.verdict), "about": about, "what": self.row.says, "ours": ours,
            "broker": broker, "writes": [str(draft.kind) for draft in self.drafts], "waits": self.waits,
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class Plan:
    """What one snapshot asks for. `drafts` are one group, in an order that folds."""

    rulings: tuple[Ruling, ...]
    drafts: tuple[Draft, ...]
    missing: tuple[str, ...] = ()  # parts of the snapshot that did not come

    @property
    def undecided(self) -> frozenset[str]:
        """Keys of the differences that wait for another collection."""
        return frozenset(ruling.difference.key for ruling in self.rulings if ruling.waits)

    @property
    def doubtful_contracts(self) -> frozenset[tuple[str, str]] | None:
        """Account and symbol of each difference that waits; None when one of them is about no single contract."""
        return contracts_of(ruling for ruling in self.rulings if ruling.waits)

    @property
    def in_order(self) -> list[Ruling]:
        """The rulings that write something, in an order in which each folds after the one before."""
        return sorted(
            (r for r in self.rulings if r.drafts), key=lambda r: min(_ORDER[draft.kind] for draft in r.drafts)
        )

    @property
    def only_orders(self) -> bool:
        """Whether all that waits or is held is about the state of single orders: an older part of the day says nothing of it."""
        return all(
            isinstance(r.difference, OrderDiffers) for r in self.rulings
            if r.waits or (r.drafts and r.row.verdict is Verdict.HOLD)
        )  # fmt: skip

    @property
    def repaired(self) -> int:
        """Differences that evidence decided."""
        return sum(1 for r in self.rulings if r.drafts and r.row.verdict in (Verdict.REPAIR, Verdict.ADOPT))

    @property
    def held(self) -> int:
        """Differences that freeze something from now on."""
        return sum(1 for r in self.rulings if r.drafts and r.row.verdict is Verdict.HOLD)

    @property
    def breaks(self) -> tuple[str, ...]:
        """Ids of the breaks that it opens."""
        return tuple(draft.payload["id"] for draft in self.drafts if draft.kind is Kind.BREAK_OPENED)

    @property
    def queued(self) -> tuple[str, ...]:
        """Ids of the orders that the desk sends when the gate opens; nothing is sent from here."""
        return tuple(r.difference.order.id for r in self.rulings
                     if r.row.name == "queued" and isinstance(r.difference, OrderDiffers))  # fmt: skip


def row_for(difference: Difference, view: View) -> Row:
    """The first row that fits. Raises LookupError where the table has a hole: a difference is never passed over."""
    for row in TABLE:
        if isinstance(difference, row.of) and row.when(difference, view):
            return row
    raise LookupError(f"no row of the table fits {difference!r}")


def make_plan(
    book: Book,
    snapshot: Snapshot,
    differences: Sequence[Difference],
    me: Identity,
    now: datetime,
    *,
    doubted: Collection[str] = (),
    last: bool = False,
    limits: Limits = NO_LIMITS,
    may_cancel: bool = False,
    day_began: datetime | None = None,
    epoch: int = 0,
) -> Plan:
    """Look each difference up. `doubted`: keys that an earlier collection left undecided; `last`: there will be no other one.

    `limits`, `may_cancel` and `day_began` as in View; `epoch` of the term that writes it.
    """
    lacks = tuple(snapshot.lacks(book)) if differences else ()
    about_positions = any(isinstance(difference, PositionDiffers) for difference in differences)
    never_traded = about_positions and _never_traded(book, snapshot, me)
    moved = frozenset((d.account, d.symbol) for d in differences if isinstance(d, PositionDiffers) and not d.agrees)
    view = View(book, snapshot, me, now, lacks, never_traded, limits, may_cancel, day_began, moved)
    rulings = []
    for difference in differences:
        row = row_for(difference, view)
        sure = last or row.acts is Acts.NOW or (row.acts is Acts.SEEN_TWICE and difference.key in doubted)
        rulings.append(Ruling(row, difference, tuple(row.write(difference, view)) if sure else (), not sure))
    rulings = _holding_everything(book, rulings, epoch, now)
    group = [draft for ruling in rulings for draft in ruling.drafts]
    group.sort(key=lambda draft: _ORDER[draft.kind])
    return Plan(tuple(rulings), tuple(group), snapshot.missing)


def _holding_everything(book: Book, rulings: list[Ruling], epoch: int, now: datetime) -> list[Ruling]:
    """R18: the row of an order that the database lost comes with the hold of everything, in one group: no crash parts them."""
    for place, ruling in enumerate(rulings):
        if ruling.drafts and isinstance(ruling.difference, StrangerSeen) and ruling.difference.own is not None:
            lost = max(r.difference.own.epoch for r in rulings
                       if r.drafts and isinstance(r.difference, StrangerSeen) and r.difference.own is not None)  # fmt: skip
            why = lost_rows(book, lost)
            if why is not None and book.holds_everything is None:
                hold = hold_everything(epoch, book.seq, why, now)
                rulings[place] = dataclasses.replace(ruling, drafts=(*ruling.drafts, hold))
            break
    return rulings


def _never_traded(book: Book, snapshot: Snapshot, me: Identity) -> bool:
    """Whether nothing at the broker can be this ledger's doing, also not that of a ledger that was lost (R18)."""
    licensed = book.evicted.any or any(
        order.broker_order_id is not None and not order.external for order in book.orders.values()
    )
    return not licensed and not snapshot.highest_epoch(me)


def contracts_of(rulings: Iterable[Ruling]) -> frozenset[tuple[str, str]] | None:
    """Account and symbol of each ruling's difference; None when one of them is about no single contract."""
    found = [_contract_of(ruling.difference) for ruling in rulings]
    return None if None in found else frozenset(contract for contract in found if contract is not None)


def _contract_of(difference: Difference) -> tuple[str, str] | None:
    match difference:
        case (
            ChangeLost(order=order)
            | OrderDiffers(order=order)
            | DeadTraded(order=order)
            | FillsMissing(order=order)
            | TwinSeen(order=order)
        ):
            return order.contract_key
        case ExecutionGone(known=known):
            return known.account, known.symbol
        case PositionDiffers(account=account, symbol=symbol):
            return account, symbol
        case _:
            return None
