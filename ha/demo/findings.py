"""The judge's checks on orders, one function each. Pure (G1, G3, G4)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta

from ha.demo.broker_record import OUR_PREFIX, BrokerRecord, Taken
from ha.demo.history import ClientOrder, History, Outcome
from ha.demo.ledger import Ledger, Row

ON_ITS_WAY = timedelta(seconds=0.5)
"""For so long after a break's time an order may reach the broker that was licensed before the break was in the log."""

# final states that explain why an accepted order never reached the broker
_EXPLAINED = frozenset({"EXPIRED", "REJECTED", "CANCELLED"})

# what the ledger may say about an order that the broker took, by the broker's last word on it
_AGREES = {
    "live": frozenset({"WORKING"}),
    "filled": frozenset({"FILLED"}),
    # an order that died with a part filled is dead to both; which word either uses is not an order lost
    "cancelled": frozenset({"CANCELLED", "REJECTED"}),
    "rejected": frozenset({"CANCELLED", "REJECTED"}),
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One order that is not as it should be, and why."""

    order_id: str | None
    client_order_id: str | None
    why: str


@dataclass(frozen=True, slots=True)
class InDoubt:
    """An order IN_DOUBT, with the open breaks that name it and what the broker's journal says."""

    order_id: str
    client_order_id: str | None
    symbol: str
    break_ids: tuple[str, ...]
    at_broker: str


@dataclass(frozen=True, slots=True)
class Twin:
    """An order that the broker doubled by itself: what became of it, and whether any break names it."""

    order_id: str
    perm_ids: tuple[int, ...]
    cancelled: bool
    reported: bool
    filled: bool = False
    """Both were: there was nothing left to cancel (R26)."""


@dataclass(frozen=True, slots=True)
class EpochFall:
    """An order taken under an older epoch than one before it."""

    order_ref: str
    epoch: int
    after: int


def losses(history: History, record: BrokerRecord, ledger: Ledger) -> list[Finding]:
    """Orders answered 2xx that the broker never took and that no state explains."""
    found = []
    for order in history.orders.values():
        if order.outcome is not Outcome.ANSWERED:
            continue
        row = _row_of(order, ledger)
        order_id = next(iter(order.ids), row.id if row else None)
        why = _why_lost(order_id, row, record, ledger)
        if why:
            found.append(Finding(order_id, order.client_order_id, why))
    return found


def unsent(history: History, record: BrokerRecord, ledger: Ledger) -> dict[str, int]:
    """How many orders answered 2xx the broker never took, by their state in the ledger (`missing` for no row)."""
    counts: Counter[str] = Counter()
    for order in history.orders.values():
        if order.outcome is Outcome.ANSWERED:
            row = _row_of(order, ledger)
            if not any(record.of_order(order_id) for order_id in order.ids | {row.id if row else ""}):
                counts[row.state if row else "missing"] += 1
    return dict(sorted(counts.items()))


def _why_lost(order_id: str | None, row: Row | None, record: BrokerRecord, ledger: Ledger) -> str | None:
    if row is None:
        return "the ledger has no such order"
    if order_id is not None and record.of_order(order_id):
        return None
    if row.state == "IN_DOUBT":
        return None if ledger.open_breaks(row.id) else "IN_DOUBT without an open break, and not at the broker"
    if row.state not in _EXPLAINED:
        return f"{row.state} in the ledger, never taken by the broker"
    if row.state == "REJECTED" and not record.refused & {row.id, row.broker_order_id}:
        return "REJECTED in the ledger, but the broker rejected no such order"
    if row.evidenced and row.state == "CANCELLED":
        return "CANCELLED in the ledger on evidence that the broker's journal does not have"
    return None


def duplicates(record: BrokerRecord, ledger: Ledger) -> list[Finding]:
    """Every second and further `order` entry under one id, twins of the broker's making left out."""
    seen: dict[str, Taken] = {}
    found = []
    for taken in record.taken:
        if taken.reference is None or taken.twin:
            continue
        first = seen.setdefault(taken.reference.id, taken)
        if first is not taken:
            row = ledger.by_id.get(taken.reference.id)
            why = f"permId {taken.perm_id} as {taken.order_ref} after permId {first.perm_id} as {first.order_ref}"
            found.append(Finding(taken.reference.id, row.client_order_id if row else None, why))
    return found


def phantoms(
    history: History, record: BrokerRecord, ledger: Ledger, ids: Mapping[str, str], since: int = 0
) -> list[Finding]:
    """Orders at the broker under our prefix that no client asked for, or whose client was told no."""
    asked = {order_id: order for order in history.orders.values() for order_id in order.ids}
    asked |= {ids[key]: order for key, order in history.orders.items() if key in ids}
    found = []
    for taken in record.taken:
        if taken.seq <= since or not taken.order_ref.startswith(OUR_PREFIX):
            continue
        if taken.reference is None:
            found.append(Finding(None, None, f"a reference of ours that cannot be read: {taken.order_ref}"))
            continue
        row = ledger.by_id.get(taken.reference.id)
        key = row.client_order_id if row else None
        order = asked.get(taken.reference.id) or history.orders.get(key or "")
        if order is None:
            found.append(Finding(taken.reference.id, key, f"{taken.order_ref}: no client asked for it"))
        elif _told_no(order):
            why = f"{taken.order_ref}: taken, but its client was told {order.outcome.value}"
            found.append(Finding(taken.reference.id, order.client_order_id, why))
    return found


def sent_while_held(record: BrokerRecord, ledger: Ledger) -> list[Finding]:
    """Orders of ours that the broker took for a symbol while a break held it; the doubtful order itself may surface.

    A break's time is that of its decision: what was licensed before its commit is still on its way then.
    """
    found = []
    for taken in record.taken:
        if taken.reference is None or taken.twin:
            continue
        for hold in ledger.holds:
            if hold.covers(taken.symbol, taken.at, ON_ITS_WAY) and hold.order_id != taken.reference.id:
                row = ledger.by_id.get(taken.reference.id)
                why = f"{taken.order_ref} taken for {taken.symbol}, which break {hold.break_id} holds"
                found.append(Finding(taken.reference.id, row.client_order_id if row else None, why))
    return found


def contradictions(history: History, record: BrokerRecord, ledger: Ledger) -> list[Finding]:
    """Where the ledger, or an answer, says something that the journal or another answer denies."""
    found = [
        Finding(None, order.client_order_id, f"answered under different ids: {', '.join(sorted(order.ids))}")
        for order in history.orders.values()
        if len(order.ids) > 1
    ]
    for order in history.orders.values():
        row = ledger.by_key.get(order.client_order_id)
        if row is not None and _told_no(order):
            why = f"{row.state} in the ledger, but its client was told that nothing was written"
            found.append(Finding(row.id, order.client_order_id, why))
    for row in ledger.by_id.values():
        found += [Finding(row.id, row.client_order_id, why) for why in _denials(row, record, ledger)]
    return found


def _denials(row: Row, record: BrokerRecord, ledger: Ledger) -> Iterator[str]:
    taken = record.of_order(row.id)
    if row.state == "IN_DOUBT":
        if taken and not ledger.open_breaks(row.id):
            yield "IN_DOUBT without an open break"
        return
    if len(taken) != 1:  # none: `losses` asks why; several: they are duplicates or twins already
        return
    there = record.state(taken[0].perm_id)
    if row.state not in _AGREES[there]:
        yield f"{row.state} in the ledger, {there} at the broker"


def doubts(record: BrokerRecord, ledger: Ledger) -> list[InDoubt]:
    """Every order IN_DOUBT."""
    return [
        InDoubt(
            row.id,
            row.client_order_id,
            row.symbol,
            ledger.open_breaks(row.id),
            ", ".join(record.state(taken.perm_id) for taken in record.of_order(row.id)) or "never taken",
        )
        for row in ledger.by_id.values()
        if row.state == "IN_DOUBT"
    ]


def twins(record: BrokerRecord, ledger: Ledger) -> list[Twin]:
    """Every order that the broker doubled: one of the two must be cancelled, unless both filled first, and a
    break must have named the order."""
    found = []
    for doubled in (taken for taken in record.taken if taken.twin and taken.reference is not None):
        assert doubled.reference is not None
        order_id = doubled.reference.id
        perm_ids = tuple(taken.perm_id for taken in record.of_order(order_id))
        cancelled = any(record.state(perm_id) == "cancelled" for perm_id in perm_ids)
        filled = all(record.state(perm_id) == "filled" for perm_id in perm_ids)
        found.append(Twin(order_id, perm_ids, cancelled, bool(ledger.breaks.get(order_id)), filled))
    return found


def epoch_falls(record: BrokerRecord) -> list[EpochFall]:
    """Orders taken under an older epoch than one taken before them; the broker should never see time run back."""
    highest = 0
    found = []
    for taken in record.taken:
        if taken.reference is None or taken.twin:
            continue
        if taken.reference.epoch < highest:
            found.append(EpochFall(taken.order_ref, taken.reference.epoch, highest))
        highest = max(highest, taken.reference.epoch)
    return found


def _told_no(order: ClientOrder) -> bool:
    """The client was told that nothing was written. 409 does not say so: the key was there before, with another body."""
    refused = order.outcome is Outcome.REFUSED and 409 not in order.refusals
    return refused or order.outcome is Outcome.NOT_ACCEPTED


def _row_of(order: ClientOrder, ledger: Ledger) -> Row | None:
    by_id = next((ledger.by_id[order_id] for order_id in order.ids if order_id in ledger.by_id), None)
    return by_id or ledger.by_key.get(order.client_order_id)
