"""What the book and a snapshot say differently: a list of typed differences, each with both sides' evidence. Pure.

Whose order a broker's fact is, is decided by our reference, then by permId, and by orderId only under our clientId and for
the session of the order's licence: orderIds roll back, permIds do not.
"""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal

from engine.book import Book
from engine.broker import ExecutionFact, OpenOrder
from engine.evidence import changed
from engine.order import OPERATOR_DEAD, ZERO, Order, State
from engine.position import Break, execution_root
from engine.reference import Reference
from reconcile.differences import (
    NOTHING,
    BreakOutlived,
    ChangedThere,
    ChangeLost,
    DeadTraded,
    Difference,
    Evidence,
    ExecutionDiffers,
    ExecutionGone,
    FillsMissing,
    OrderDiffers,
    StrangerSeen,
    TwinSeen,
)
from reconcile.positions import position_differences
from reconcile.snapshot import COMPLETED_ORDERS, ENDED, EXECUTIONS, OPEN_ORDERS, Identity, Snapshot, gain, unbooked


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
        # of the many orders that rest or ended, and of which both sides say so, nothing more is asked: the event loop waits
        self.disputed = {oid: seen for oid, seen in self.evidence.items() if not self._agreed(oid, seen)}

    def _agreed(self, oid: str, seen: Evidence) -> bool:
        """Whether both sides plainly say the same of the order: nothing below would find a difference by `seen`."""
        order = self.book.orders.get(oid)
        if order is None or oid in self.gains or any(fact.perm_id != order.perm_id for fact in seen.executions):
            return False
        if order.state is State.WORKING and len(seen.open) == 1 and not seen.completed:
            fact = seen.open[0]
            return fact.perm_id == order.perm_id and not order.asked and not changed(order, fact)
        if not order.final or seen.open or len(seen.completed) > 1 or order.reason == OPERATOR_DEAD:
            return False
        return not seen.completed or (
            seen.completed[0].perm_id == order.perm_id and (seen.traded or ZERO) <= order.filled
        )

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
        yield from self._changes()
        yield from self._executions()
        yield from self._gone()
        yield from self._trades()
        yield from self._answered()
        yield from position_differences(self.book, self.snapshot, self.unbooked)

    def _strangers(self) -> Iterator[StrangerSeen]:
        for oid, seen in self.disputed.items():
            if oid in self.book.orders:
                continue
            own = self.references.get(oid)
            if own is not None or seen.open:  # an ended order of somebody else's is only its executions to us
                yield StrangerSeen(oid, own, seen)

    def _orders(self) -> Iterator[OrderDiffers]:
        for order in self.book.open_orders():
            seen = self.evidence.get(order.id, NOTHING)
            if seen is not NOTHING and order.id not in self.disputed:
                continue
            filled = order.filled + self.gains.get(order.id, ZERO)
            if _state_differs(order, seen, filled):
                yield OrderDiffers(order, seen, filled)
        for oid, seen in self.disputed.items():
            known = self.book.orders.get(oid)
            if known is None or not known.final or not _live(seen):
                continue
            filled = known.filled + self.gains.get(oid, ZERO)
            if known.state is State.FILLED:
                if known.perm_id in seen.live and not any(changed(known, fact) for fact in seen.open):
                    yield OrderDiffers(known, seen, filled)
            elif filled < known.quantity:
                yield OrderDiffers(known, seen, filled)

    def _changes(self) -> Iterator[ChangedThere | ChangeLost]:
        """R28: the figures of orders that rest there under the permId that they have here; R7: changes that never came there."""
        for oid, seen in self.disputed.items():
            order = self.book.orders.get(oid)
            if order is None or order.state not in (State.WORKING, State.FILLED) or order.perm_id not in seen.live:
                continue
            fact = next(fact for fact in seen.open if fact.perm_id == order.perm_id)
            figures = changed(order, fact)
            over = order.asked_session not in (None, self.snapshot.session) and not self.snapshot.moved_on(order)
            if order.state is State.WORKING and order.asked and over and not figures:
                yield ChangeLost(order)
            if order.state is State.FILLED and fact.quantity <= order.filled:
                continue
            if figures:
                yield ChangedThere(order, fact, figures)

    def _executions(self) -> Iterator[ExecutionDiffers]:
        for fact, known in self.unbooked:
            oid = self._whose(fact)
            order = self.book.orders.get(oid) if oid is not None else None
            if order is None and oid is not None and oid not in self.references and not self.evidence[oid].open:
                oid = None  # nobody records that order
            filled = (order.filled if order is not None else ZERO) + self.gains.get(oid or "", ZERO)
            yield ExecutionDiffers(fact, known, oid, order, filled)

    def _gone(self) -> Iterator[ExecutionGone]:
        """Executions of the time that the list covers: since its oldest one, which is after the gateway's midnight (R23)."""
        facts = self.snapshot.executions
        since = self.snapshot.executions_since or min((fact.at for fact in facts), default=None)
        if since is None or not self.snapshot.came(EXECUTIONS):
            return
        shown = {(fact.account, execution_root(fact.exec_id)[0]) for fact in facts}
        for known in reversed(self.book.executions.values()):
            if known.at <= since:
                return  # they stand in the order in which they were booked
            if known.seq < self.snapshot.first_unjudged_seq and (known.account, known.root) not in shown:
                yield ExecutionGone(known)

    def _trades(self) -> Iterator[FillsMissing | TwinSeen | DeadTraded]:
        for oid, seen in self.disputed.items():
            order = self.book.orders.get(oid)
            if order is None or order.external:
                continue
            filled = order.filled + self.gains.get(oid, ZERO)
            if order.final and order.reason == OPERATOR_DEAD and filled and not _live(seen):
                yield DeadTraded(order, seen, filled)
            if seen.traded is not None and seen.traded > filled:
                yield FillsMissing(order, seen, filled, seen.traded)
            perm_ids = set(seen.perm_ids) | ({order.perm_id} if order.perm_id else set())
            if len(perm_ids) > 1:
                yield TwinSeen(order, seen, tuple(sorted(perm_ids)))

    def _answered(self) -> Iterator[BreakOutlived]:
        for found in self.book.open_breaks.values():
            order = self.book.orders.get(found.order_id or "")
            if found.kind == "bust":
                if self._is_shown(found):
                    yield BreakOutlived(found, order)
            elif order is not None and self._is_answered(found, order):
                yield BreakOutlived(found, order)

    def _is_shown(self, found: Break) -> bool:
        root = execution_root(found.ours["exec_id"] or "")[0]
        return any(
            (fact.account, execution_root(fact.exec_id)[0]) == (found.account, root)
            for fact in self.snapshot.executions
        )

    def _is_answered(self, found: Break, order: Order) -> bool:
        seen = self.evidence.get(order.id, NOTHING)
        filled = order.filled + self.gains.get(order.id, ZERO)
        if found.kind == "in_doubt":
            return order.state is not State.IN_DOUBT or seen.present
        if found.kind == "vanished":
            return order.final or bool(seen.open or seen.completed) or filled >= order.quantity
        if found.kind == "missing_executions":
            return filled >= Decimal(found.broker["filled"] or 0)
        whole = self.snapshot.came(OPEN_ORDERS, COMPLETED_ORDERS, EXECUTIONS)
        if found.kind == "filled_yet_open":
            return whole and order.perm_id not in seen.live
        if found.kind == "twin":  # one of them at most goes on, and they did not both trade (R26)
            return whole and len(seen.live) <= 1 and filled <= order.quantity and (order.final or seen.present)
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
    if order.perm_id is None:
        return bool(seen.perm_ids)
    return len(seen.live) == 1 and order.perm_id not in seen.live  # a twin outlived it


_RESTING = frozenset({"ApiPending", "PendingSubmit", "PreSubmitted", "Submitted"})


def _live(seen: Evidence) -> bool:
    return seen.end is None and any(fact.status in _RESTING for fact in seen.open)
