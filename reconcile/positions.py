"""Positions: the sum of the executions here against the broker's figure. Pure.

A figure is explained, and no difference, when it is ours before, between or after the executions that came in while the snapshot
was taken (R24), or ours beside what the broker held before this ledger ever traded the contract.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal

from engine.book import Book
from engine.broker import ExecutionFact
from engine.position import Break, Execution
from reconcile.snapshot import EXECUTIONS, POSITIONS, Snapshot, contradicts

ZERO = Decimal(0)
AGREES_AGAIN = "agrees again"

Contract = tuple[str, int]  # account, con_id


@dataclass(frozen=True, slots=True)
class PositionDiffers:
    """One contract's position. `opened`: the break that is open for it; `agrees`: the figures are equal again."""

    account: str
    con_id: int
    symbol: str
    ours: Decimal
    broker: Decimal
    opened: Break | None
    agrees: bool = False

    @property
    def key(self) -> str:
        """The same in each collection that shows this difference."""
        return f"position:{self.account}:{self.con_id}"


def position_differences(
    book: Book, snapshot: Snapshot, new: list[tuple[ExecutionFact, Execution | None]]
) -> Iterator[PositionDiffers]:
    """Contracts whose position differs once the executions in `new` are booked, and open breaks that agree again.

    Yields nothing when the positions did not come; that they agree is only said when the executions came too.
    """
    if not snapshot.came(POSITIONS):
        return
    ours = {key: position.quantity for key, position in book.positions.items()}
    symbols = {key: position.symbol for key, position in book.positions.items()}
    for fact, known in new:
        if not contradicts(fact, known):
            key = (fact.account, fact.contract.con_id)
            signed = fact.quantity if fact.side == "BUY" else -fact.quantity
            ours[key] = ours.get(key, ZERO) + signed - (known.signed if known is not None else ZERO)
            symbols.setdefault(key, fact.contract.symbol)
    broker = {(fact.account, fact.con_id): fact.quantity for fact in snapshot.positions}
    symbols |= {(fact.account, fact.con_id): fact.symbol for fact in snapshot.positions}
    offsets, holds, bases = _offsets(book), _open(book, "position"), _open(book, "external_position")
    symbols |= {key: item.symbol for key, item in (bases | holds).items()}
    for key in sorted(symbols):
        here, there = ours.get(key, ZERO), broker.get(key, ZERO)
        expected = here + offsets.get(key, ZERO)
        hold, base = holds.get(key), bases.get(key)
        if hold is not None:
            agrees = there in (expected, here) and snapshot.came(EXECUTIONS)
            yield PositionDiffers(*key, symbols[key], here, there, hold, agrees)
        elif there == expected or _explained(book, snapshot, key, expected, there):
            continue
        elif there != here:
            yield PositionDiffers(*key, symbols[key], here, there, None)
        elif base is not None and snapshot.came(EXECUTIONS):
            yield PositionDiffers(*key, symbols[key], here, there, base, agrees=True)


def _open(book: Book, kind: str) -> dict[Contract, Break]:
    return {_contract(item): item for item in book.open_breaks.values() if item.kind == kind}


def _offsets(book: Book) -> dict[Contract, Decimal]:
    """What the broker held beside ours before this ledger traded, by contract: the figures of `external_position` breaks."""
    offsets: dict[Contract, Decimal] = {}
    for item in book.breaks.values():
        if item.kind == "external_position":
            beside = Decimal(item.broker["quantity"] or 0) - Decimal(item.ours["quantity"] or 0)
            offsets[_contract(item)] = ZERO if item.resolution == AGREES_AGAIN else beside
    return offsets


def _contract(item: Break) -> Contract:
    return item.account, int(item.ours["con_id"] or 0)


def _explained(book: Book, snapshot: Snapshot, key: Contract, ours: Decimal, broker: Decimal) -> bool:
    """Whether the broker's figure is ours before or between executions that were booked since the collection began."""
    live = [
        execution
        for (account, _), execution in book.executions.items()
        if execution.seq >= snapshot.first_unjudged_seq and (account, execution.con_id) == key
    ]
    figure = ours - sum((execution.signed for execution in live), ZERO)
    for execution in sorted(live, key=lambda execution: execution.seq):
        if figure == broker:
            return True
        figure += execution.signed
    return figure == broker
