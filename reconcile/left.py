"""What a snapshot shows of orders and executions that have left memory: mostly nothing new, and then it is taken out. Pure.

A day's lists bring each of them again every time. What left as it is shown is settled. What contradicts how it left, and what may
have left and is not known here, is looked up in the database first, and recalled into memory where it is there; until that is
done the fact is taken out too: it is neither booked a second time (G5) nor restored (R19) on a guess.

An order that is in memory has all its executions there, so an unknown one of such an order is new without any question; but for one
that was booked before its order was known, and left as one of no order.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from engine.archive import LookedUp, Wanted
from engine.book import Book
from engine.broker import ExecutionFact, OpenOrder
from engine.position import execution_root
from engine.recall import Recalled
from reconcile.snapshot import Identity, Snapshot


def sift(book: Book, snapshot: Snapshot, me: Identity, known: LookedUp) -> tuple[Snapshot, Wanted]:
    """The snapshot without the facts that are settled or must be looked up, and what to look up. `known`: what was, so far."""
    if not book.evicted.any:
        return snapshot, Wanted()
    sieve = _Sieve(book, me, known)
    sifted = replace(
        snapshot,
        open_orders=tuple(fact for fact in snapshot.open_orders if sieve.keeps_open(fact)),
        completed_orders=tuple(fact for fact in snapshot.completed_orders if sieve.keeps_completed(fact)),
        executions=tuple(fact for fact in snapshot.executions if sieve.keeps_execution(fact)),
        executions_since=min((fact.at for fact in snapshot.executions), default=None),
    )
    return sifted, sieve.wanted


def to_recall(book: Book, wanted: Wanted, known: LookedUp) -> Iterator[Recalled]:
    """What was wanted and found, and is to come back into memory."""
    ids = wanted.orders | {oid for number in wanted.perm_ids if (oid := known.perm_ids.get(number)) is not None}
    for oid in sorted(ids):
        if oid not in book.orders and (found := known.orders.get(oid)) is not None:
            yield found
    for key in sorted(wanted.loose):
        if key not in book.executions and (execution := known.executions.get(key)) is not None:
            yield Recalled(None, (execution,))


class _Sieve:
    def __init__(self, book: Book, me: Identity, known: LookedUp) -> None:
        self._book, self._me, self._known = book, me, known
        self.wanted = Wanted()

    def keeps_completed(self, fact: OpenOrder) -> bool:
        """Whether a completed order is to be compared: one that left memory had ended."""
        if fact.perm_id in self._book.by_perm_id:
            return True
        if fact.perm_id in self._book.evicted.perm_ids:
            return False
        own = self._me.own(fact.reference)
        return own is None or own.id in self._book.orders or self._is_absent(own.id)

    def keeps_open(self, fact: OpenOrder) -> bool:
        """Whether an open order is to be compared; where it left memory it had ended, and must come back first."""
        if self._is_here(fact):
            return True
        if (own := self._me.own(fact.reference)) is not None:
            return self._is_absent(own.id)
        perm_ids = self._book.evicted.perm_ids
        if fact.perm_id not in perm_ids and not perm_ids.forgotten:
            return True
        self.wanted.perm_ids.add(fact.perm_id)
        return fact.perm_id in self._known.perm_ids and self._known.perm_ids[fact.perm_id] is None

    def keeps_execution(self, fact: ExecutionFact) -> bool:
        """Whether an execution is to be compared."""
        root, revision = execution_root(fact.exec_id)
        key, evicted = (fact.account, root), self._book.evicted
        if key in self._book.executions:
            return True
        left = evicted.revision(fact.account, root)
        if left is not None and left >= revision:
            return False
        if left is None and self._is_here(fact):
            return True
        own = self._me.own(fact.reference)
        if left is not None or evicted.roots.forgotten:
            return self._looked_up(key, revision, own.id if own is not None else None)
        return own is None or self._is_absent(own.id)

    def _looked_up(self, key: tuple[str, str], revision: int, oid: str | None) -> bool:
        """Whether an execution that may have left is new, as the database says."""
        if key not in self._known.executions:
            self.wanted.executions.add(key)
            return False
        booked = self._known.executions[key]
        if booked is None:
            return oid is None or self._is_absent(oid)
        if booked.revision < revision and booked.order_id is not None:
            self.wanted.orders.add(booked.order_id)
        elif booked.revision < revision:
            self.wanted.loose.add(key)
        return False

    def _is_here(self, fact: OpenOrder | ExecutionFact) -> bool:
        own = self._me.own(fact.reference)
        if own is not None:
            return own.id in self._book.orders
        return fact.perm_id in self._book.by_perm_id

    def _is_absent(self, oid: str) -> bool:
        """Whether the database said that there is no such order; asks for it otherwise."""
        if oid in self._known.orders and self._known.orders[oid] is None:
            return True
        self.wanted.orders.add(oid)
        return False
