"""What the book and a snapshot say differently: a list of typed differences, each with both sides' evidence. Pure.

Whose order a broker's fact is, is decided by our reference, then by permId, and by orderId only under our clientId and for
the session of the order's licence: orderIds roll back, permIds do not.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal

from engine.book import Book
from engine.broker import ExecutionFact, OpenOrder
from engine.order import Order, State
from engine.position import Break, Execution
from engine.reference import Reference
from reconcile.positions import PositionDiffers, position_differences
from reconcile.snapshot import ENDED, Identity, Snapshot, gain, unbooked

ZERO = Decimal(0)


@dataclass(frozen=True, slots=True)
class Evidence:
    """Everything that one snapshot shows of one order."""

    open: tuple[OpenOrder, ...] = ()
    completed: tuple[OpenOrder, ...] = ()
    executions: tuple[ExecutionFact, ...] = ()

    @property
    def present(self) -> bool:
        """Whether the broker shows it at all."""
        return bool(self.open or self.completed or self.executions)

    @property
    def perm_ids(self) -> tuple[int, ...]:
        """The permIds under which it is shown, sorted."""
        shown = {fact.perm_id for fact in (*self.open, *self.completed)} | {fact.perm_id for fact in self.executions}
        return tuple(sorted(shown - {0}))

    @property
    def end(self) -> OpenOrder | None:
        """The completed order that ended it, None while a permId of it is open (a twin's end is not the order's)."""
        done = {fact.perm_id for fact in self.completed}
        if not self.completed or any(fact.perm_id not in done for fact in self.open):
            return None
        return max(self.completed, key=lambda fact: (fact.status == "Filled", fact.filled or ZERO, fact.perm_id))

    @property
    def shown(self) -> OpenOrder | None:
        """The fullest picture of the order's fields, None when only executions tell of it."""
        return next(iter(self.open), None) or self.end or next(iter(self.completed), None)

    @property
    def traded(self) -> Decimal | None:
        """The filled quantity that completed orders report, None where none reports any."""
        done = {fact.perm_id: _amount(fact) for fact in self.completed}
        figures = [amount for amount in done.values() if amount is not None]
        return sum(figures, ZERO) if figures else None

    def figures(self) -> dict[str, str | None]:
        """The broker's side, for a person to read."""
        fact = self.shown
        return {
            "shown": ", ".join(self._parts()) or "nothing",
            "status": fact.status if fact is not None else None,
            "perm_id": ", ".join(map(str, self.perm_ids)) or None,
            "filled": None if self.traded is None else str(self.traded),
        }

    def _parts(self) -> Iterator[str]:
        for name, facts in (("open", self.open), ("completed", self.completed), ("executions", self.executions)):
            if facts:
                yield name


NOTHING = Evidence()


def _amount(fact: OpenOrder) -> Decimal | None:
    if fact.filled is not None:
        return fact.filled
    return fact.quantity if fact.status == "Filled" and fact.quantity else None


@dataclass(frozen=True, slots=True)
class OrderDiffers:
    """An order of the ledger whose state is not what the broker shows. `filled` is ours with the unbooked executions."""

    order: Order
    seen: Evidence
    filled: Decimal

    @property
    def key(self) -> str:
        """The same in each collection that shows this difference."""
        return f"order:{self.order.id}"

    def ours(self) -> dict[str, str | None]:
        """The ledger's side, for a person to read."""
        order = self.order
        return {
            "state": str(order.state), "quantity": str(order.quantity), "filled": str(order.filled),
            "session": _text(order.session), "broker_order_id": _text(order.broker_order_id),
            "perm_id": _text(order.perm_id),
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class StrangerSeen:
    """An order at the broker that the ledger has not. `own` is its reference when it carries our tag (R19)."""

    order_id: str
    own: Reference | None
    seen: Evidence

    @property
    def key(self) -> str:
        """The same in each collection that shows this difference."""
        return f"stranger:{self.order_id}"


@dataclass(frozen=True, slots=True)
class ExecutionDiffers:
    """An execution that the ledger has not, or has in a lower revision. `order_id` None: no order of the ledger's."""

    fact: ExecutionFact
    known: Execution | None
    order_id: str | None
    order: Order | None
    filled: Decimal  # the order's, with all its unbooked executions

    @property
    def key(self) -> str:
        """The same in each collection that shows this difference."""
        return f"execution:{self.fact.account}:{self.fact.exec_id}"


@dataclass(frozen=True, slots=True)
class FillsMissing:
    """The broker says that an order traded more than all known executions sum up to."""

    order: Order
    seen: Evidence
    ours: Decimal
    broker: Decimal

    @property
    def key(self) -> str:
        """The same in each collection that shows this difference."""
        return f"fills:{self.order.id}"


@dataclass(frozen=True, slots=True)
class TwinSeen:
    """Several permIds under one reference of ours."""

    order: Order
    seen: Evidence
    perm_ids: tuple[int, ...]

    @property
    def key(self) -> str:
        """The same in each collection that shows this difference."""
        return f"twin:{self.order.id}"


@dataclass(frozen=True, slots=True)
class BreakOutlived:
    """An open break whose question the evidence has answered."""

    found: Break
    order: Order

    @property
    def key(self) -> str:
        """The same in each collection that shows this difference."""
        return f"break:{self.found.id}"


Difference = OrderDiffers | StrangerSeen | ExecutionDiffers | FillsMissing | TwinSeen | BreakOutlived | PositionDiffers


def compare(book: Book, snapshot: Snapshot, me: Identity) -> list[Difference]:
    """Every difference between `book` and `snapshot`; cost grows with open orders and with the snapshot, not with the log."""
    return list(_Comparison(book, snapshot, me).differences())


class _Comparison:
    """The broker's facts, sorted by order, and what each order's filled quantity becomes."""

    def __init__(self, book: Book, snapshot: Snapshot, me: Identity) -> None:
        self.book, self.snapshot, self.me = book, snapshot, me
        self.references: dict[str, Reference] = {}
        self.evidence = self._gather()
        self.unbooked = unbooked(book, snapshot.executions)
        self.gains: dict[str, Decimal] = {}
        for fact, known in self.unbooked:
            if (oid := self._whose(fact)) is not None:
                self.gains[oid] = self.gains.get(oid, ZERO) + gain(fact, known)

    def _gather(self) -> dict[str, Evidence]:
        parts: dict[str, tuple[list[OpenOrder], list[OpenOrder], list[ExecutionFact]]] = {}
        for place, orders in enumerate((self.snapshot.open_orders, self.snapshot.completed_orders)):
            for order in orders:
                if (oid := self._whose(order)) is not None:
                    parts.setdefault(oid, ([], [], []))[place].append(order)  # type: ignore[arg-type]
        for fact in self.snapshot.executions:
            if (oid := self._whose(fact)) is not None:
                parts.setdefault(oid, ([], [], []))[2].append(fact)
        return {oid: Evidence(tuple(o), tuple(c), tuple(e)) for oid, (o, c, e) in parts.items()}

    def _whose(self, fact: OpenOrder | ExecutionFact) -> str | None:
        """The id of the fact's order, in the ledger or as it would be recorded; None where the fact names none."""
        if (own := self.me.own(fact.reference)) is not None:
            self.references[own.id] = own
            return own.id
        if fact.perm_id and (oid := self.book.by_perm_id.get(fact.perm_id)) is not None:
            return oid
        if fact.client_id == self.me.client_id and fact.broker_order_id:
            oid = self.book.by_broker_id.get(fact.broker_order_id)
            if oid is not None and self._of_its_licence(self.book.orders[oid], fact.perm_id):
                return oid
        return self.me.external_id(fact.perm_id) if fact.perm_id else None

    def _of_its_licence(self, order: Order, perm_id: int) -> bool:
        return order.session == self.snapshot.session and (not perm_id or order.perm_id in (None, perm_id))

    # ---- the differences

    def differences(self) -> Iterator[Difference]:
        yield from self._strangers()
        yield from self._orders()
        yield from self._executions()
        yield from self._trades()
        yield from self._answered()
        yield from position_differences(self.book, self.snapshot, self.unbooked)

    def _strangers(self) -> Iterator[StrangerSeen]:
        for oid, seen in self.evidence.items():
            if oid in self.book.orders:
                continue
            own = self.references.get(oid)
            if own is not None or seen.open:  # an ended order of somebody else's is only its executions to us
                yield StrangerSeen(oid, own, seen)

    def _orders(self) -> Iterator[OrderDiffers]:
        for order in self.book.open_orders():
            seen = self.evidence.get(order.id, NOTHING)
            filled = order.filled + self.gains.get(order.id, ZERO)
            if _state_differs(order, seen, filled):
                yield OrderDiffers(order, seen, filled)
        for oid, seen in self.evidence.items():
            known = self.book.orders.get(oid)
            if known is None or not known.final or known.state is State.FILLED or not _live(seen):
                continue
            if (filled := known.filled + self.gains.get(oid, ZERO)) < known.quantity:
                yield OrderDiffers(known, seen, filled)

    def _executions(self) -> Iterator[ExecutionDiffers]:
        for fact, known in self.unbooked:
            oid = self._whose(fact)
            order = self.book.orders.get(oid) if oid is not None else None
            if order is None and oid is not None and oid not in self.references and not self.evidence[oid].open:
                oid = None  # nobody records that order
            filled = (order.filled if order is not None else ZERO) + self.gains.get(oid or "", ZERO)
            yield ExecutionDiffers(fact, known, oid, order, filled)

    def _trades(self) -> Iterator[FillsMissing | TwinSeen]:
        for oid, seen in self.evidence.items():
            order = self.book.orders.get(oid)
            if order is None or order.external:
                continue
            filled = order.filled + self.gains.get(oid, ZERO)
            if seen.traded is not None and seen.traded > filled:
                yield FillsMissing(order, seen, filled, seen.traded)
            perm_ids = set(seen.perm_ids) | ({order.perm_id} if order.perm_id else set())
            if len(perm_ids) > 1:
                yield TwinSeen(order, seen, tuple(sorted(perm_ids)))

    def _answered(self) -> Iterator[BreakOutlived]:
        for found in self.book.open_breaks.values():
            order = self.book.orders.get(found.order_id or "")
            if order is not None and self._is_answered(found, order):
                yield BreakOutlived(found, order)

    def _is_answered(self, found: Break, order: Order) -> bool:
        seen = self.evidence.get(order.id, NOTHING)
        filled = order.filled + self.gains.get(order.id, ZERO)
        if found.kind == "in_doubt":
            return order.state is not State.IN_DOUBT or seen.present
        if found.kind == "vanished":
            return order.final or bool(seen.open or seen.completed) or filled >= order.quantity
        if found.kind == "missing_executions":
            return filled >= Decimal(found.broker["filled"] or 0)
        return False


def _state_differs(order: Order, seen: Evidence, filled: Decimal) -> bool:
    if order.state in (State.QUEUED, State.SENDING):
        return True
    if order.state is State.IN_DOUBT:
        return seen.present
    if filled >= order.quantity:
        return False  # its executions close it (R27)
    if (end := seen.end) is not None:
        return end.status in ENDED or order.external
    if not seen.open:
        return not seen.completed
    return order.perm_id is None and bool(seen.perm_ids)


_RESTING = frozenset({"ApiPending", "PendingSubmit", "PreSubmitted", "Submitted"})


def _live(seen: Evidence) -> bool:
    return seen.end is None and any(fact.status in _RESTING for fact in seen.open)


def _text(value: object) -> str | None:
    return None if value is None else str(value)
