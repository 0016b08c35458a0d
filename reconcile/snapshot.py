"""What the broker showed in one collection, and what it did not show. Pure.

A part that did not come is *missing*: unknown, never empty (G6). A verdict "absent" needs a snapshot in which nothing is missing
and which lacks nothing that cannot be gone (R23).

A *whole* snapshot asks for all that happened since the gateway's midnight, and its cost grows with the day. A *recent* one asks for
the executions since the last one that the ledger knows, and not for completed orders: enough where all is explained, and no
proof of any absence.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from engine.book import Book
from engine.broker import ExecutionFact, OpenOrder, PositionFact
from engine.order import Order, State
from engine.position import Break, Execution, execution_root
from engine.reference import Reference, cluster_tag, order_id

OPEN_ORDERS, COMPLETED_ORDERS, EXECUTIONS, POSITIONS = "open_orders", "completed_orders", "executions", "positions"
ROUND_TRIP = "round_trip"
DECODED = "decoded"
EVICTED = "evicted"
"""What is missing from a snapshot whose facts about what has left memory could not be looked up in the database."""
LINK = "link"
"""What is missing from a collection during which the gateway had no link to IB, or IB's own servers answered nothing: nothing is
proven absent by it (G6, R6)."""

ENDED = frozenset({"Cancelled", "ApiCancelled", "Inactive"})
"""Statuses of a completed order that ended without being filled."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Who we are at the broker: the cluster (its tag stands in our references) and our clientId."""

    cluster: str
    client_id: int
    tag: str

    @classmethod
    def of(cls, cluster: str, client_id: int) -> Identity:
        """The identity of `cluster` under `client_id`."""
        return cls(cluster, client_id, cluster_tag(cluster))

    def own(self, reference: str) -> Reference | None:
        """The reference in `reference` when it carries our tag, else None."""
        parsed = Reference.parse(reference)
        return parsed if parsed is not None and parsed.tag == self.tag else None

    def external_id(self, perm_id: int) -> str:
        """The id under which a stranger's order is recorded."""
        return order_id(self.cluster, "external", str(perm_id))


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One collection. `started_at` and `ended_at` are UTC.

    What was licensed at or after ledger seq `first_unjudged_seq`, or on `session` (the present one), is not judged by it (R3).
    `missing` names the parts that did not come; the part's tuple is then empty and means nothing. `recent`: completed orders were
    not asked for, and executions only since the last ones that the ledger knows. `linked`: IB's own servers were asked before and
    after it (R6); where nobody asked them it proves no absence, and lacks nothing else.
    """

    session: int
    first_unjudged_seq: int
    started_at: datetime
    ended_at: datetime
    open_orders: tuple[OpenOrder, ...] = ()
    completed_orders: tuple[OpenOrder, ...] = ()
    executions: tuple[ExecutionFact, ...] = ()
    positions: tuple[PositionFact, ...] = ()
    missing: tuple[str, ...] = ()
    recent: bool = False
    linked: bool = True
    executions_since: datetime | None = None  # the oldest execution shown, where those that left memory were taken out

    def __str__(self) -> str:
        """Its size and cost, for the log."""
        parts = {
            OPEN_ORDERS: self.open_orders, COMPLETED_ORDERS: self.completed_orders, EXECUTIONS: self.executions,
            POSITIONS: self.positions,
        }  # fmt: skip
        counts = ", ".join(f"{len(items)} {name.replace('_', ' ')}" for name, items in parts.items())
        took = (self.ended_at - self.started_at).total_seconds() * 1000
        kind = "recent" if self.recent else "whole"
        return f"{kind}, {counts}, in {took:.0f} ms" + (f", missing: {', '.join(self.missing)}" if self.missing else "")

    @property
    def complete(self) -> bool:
        """Whether every part came, and whole."""
        return not self.missing and not self.recent

    @property
    def silent(self) -> bool:
        """Whether nothing came at all, not even a round trip: there is no session to speak of."""
        return {ROUND_TRIP, OPEN_ORDERS, COMPLETED_ORDERS, EXECUTIONS, POSITIONS} <= set(self.missing)

    def came(self, *parts: str) -> bool:
        """Whether all of these parts came. What a recent snapshot did not ask for did not come."""
        not_asked = {*((COMPLETED_ORDERS,) if self.recent else ()), *(() if self.linked else (LINK,))}
        return not set(parts) & {*self.missing, *not_asked}

    def lacks(self, book: Book) -> list[str]:
        """R23: ids of own orders that the broker showed before, that cannot be gone, and that no part shows.

        Such a snapshot proves no absence. An order that is already held as vanished does not count again.
        """
        shown = (*self.open_orders, *self.completed_orders)
        references = {parsed.id for fact in shown if (parsed := Reference.parse(fact.reference)) is not None}
        perm_ids = {fact.perm_id for fact in shown}
        held = {b.order_id for b in book.breaks.values() if b.kind == "vanished" and looked_at(b, book)}
        gains = fill_gains(book, self.executions)
        return [
            order.id
            for order in book.open_orders()
            if order.state is State.WORKING and order.perm_id and not order.external and order.id not in held
            and not self.moved_on(order)
            and order.id not in references and order.perm_id not in perm_ids
            and order.filled + gains.get(order.perm_id, Decimal(0)) < order.quantity
        ]  # fmt: skip

    def _facts(self) -> Iterator[OpenOrder | ExecutionFact]:
        yield from self.open_orders
        yield from self.completed_orders
        yield from self.executions

    def moved_on(self, order: Order) -> bool:
        """Whether the ledger learned something of the order after the collection began: the snapshot may be older than that."""
        return order.seq >= self.first_unjudged_seq

    def judges(self, order: Order) -> bool:
        """R3: whether the order's absence here says anything; only that of a dead session's order does."""
        return order.session != self.session and not self.moved_on(order)

    def shows(self, me: Identity, oid: str) -> bool:
        """Whether anything here carries the reference of our order `oid`."""
        return any((own := me.own(fact.reference)) is not None and own.id == oid for fact in self._facts())

    def highest_epoch(self, me: Identity) -> int:
        """The highest epoch in a reference of ours, 0 without any (R18: a ledger that is behind it went back in time)."""
        return max((own.epoch for fact in self._facts() if (own := me.own(fact.reference)) is not None), default=0)


def looked_at(found: Break, book: Book) -> bool:
    """Whether a break about an order is open, or was resolved after the last that was heard of the order."""
    order = book.orders.get(found.order_id or "")
    return found.resolved_at is None or order is None or found.resolved_at >= order.updated_at


def unexplained(book: Book, snapshot: Snapshot) -> list[str]:
    """Ids of orders about whose end the open orders and executions of `snapshot` say nothing: completed orders must be asked for.

    An order that waits here (QUEUED) or was parked already (IN_DOUBT) is explained; so is one licensed on the present session and
    not acknowledged yet, whose absence says nothing (R3).
    """
    references = {own.id for fact in snapshot.open_orders if (own := Reference.parse(fact.reference)) is not None}
    perm_ids = {fact.perm_id for fact in snapshot.open_orders}
    gains = fill_gains(book, snapshot.executions)
    return [
        order.id
        for order in book.open_orders()
        if order.state is State.WORKING or (order.state is State.SENDING and snapshot.judges(order))
        if order.id not in references and order.perm_id not in perm_ids and not snapshot.moved_on(order)
        if order.filled + gains.get(order.perm_id or 0, Decimal(0)) + _by_reference(snapshot, order) < order.quantity
    ]


def _by_reference(snapshot: Snapshot, order: Order) -> Decimal:
    """What executions under the order's reference sum up to, for an order whose permId the ledger never learned."""
    if order.perm_id is not None:
        return Decimal(0)
    mine = (f for f in snapshot.executions if (own := Reference.parse(f.reference)) is not None and own.id == order.id)
    return sum((fact.quantity for fact in mine), Decimal(0))


def unbooked(book: Book, executions: Iterable[ExecutionFact]) -> list[tuple[ExecutionFact, Execution | None]]:
    """Executions that the ledger has not, or has in a lower revision (then with what it has); the highest revision only."""
    newest: dict[tuple[str, str], tuple[int, ExecutionFact]] = {}
    for fact in executions:
        root, revision = execution_root(fact.exec_id)
        key = (fact.account, root)
        if key not in newest or newest[key][0] < revision:
            newest[key] = (revision, fact)
    found = []
    for key, (revision, fact) in newest.items():
        known = book.executions.get(key)
        if known is None or known.revision < revision:
            found.append((fact, known))
    return found


def contradicts(fact: ExecutionFact, known: Execution | None) -> bool:
    """R27: the same root with another contract or side is no correction."""
    return known is not None and (known.con_id, known.side) != (fact.contract.con_id, fact.side)


def gain(fact: ExecutionFact, known: Execution | None) -> Decimal:
    """What booking `fact` adds to its order's filled quantity."""
    return fact.quantity - (known.quantity if known is not None else Decimal(0))


def fill_gains(book: Book, executions: Iterable[ExecutionFact]) -> dict[int, Decimal]:
    """By permId: what booking the unbooked of `executions` would add."""
    gains: dict[int, Decimal] = {}
    for fact, known in unbooked(book, executions):
        gains[fact.perm_id] = gains.get(fact.perm_id, Decimal(0)) + gain(fact, known)
    return gains
