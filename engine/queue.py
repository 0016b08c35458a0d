"""The queue behind the gate: orders that were accepted without a licence. Each token has its turn (`turns.py`), and in one contract
they go in the order of their acceptance (R9).

gate shut -> QUEUED -> the gate opens, pace allows -> a second commit (the licence) -> permit check and write
                    -> too old by then (R8), or cancelled: ended, never sent
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from engine import intent
from engine.book import Book
from engine.clock import utcnow
from engine.commit import Committer, Outcome
from engine.desk_settings import DeskSettings
from engine.events import Event, Kind
from engine.family import PARENT, TOGETHER, parent_of, units
from engine.licences import Licences
from engine.order import Order, State
from engine.permit import Permit
from engine.turns import in_turn

UNSENT = "cancelled before it was sent"
AT_ONCE = 500
"""Orders of a long queue that one look is about, so that the event loop is not kept busy by it."""
EACH = 100
"""Orders of one subject among which one look finds what may go: more than a look ever has room for at a pace that IB admits."""


class Queue:
    """Licenses what waits, or ends it. `carry_out` writes what its commits license."""

    def __init__(
        self,
        book: Book,
        permit: Permit,
        settings: DeskSettings,
        licences: Licences,
        carry_out: Callable[[Sequence[Event]], None],
    ) -> None:
        self._book, self._permit, self._settings = book, permit, settings
        self._licences, self._carry_out = licences, carry_out
        self._round: list[str] = []  # what has not been looked at yet in this round of a long queue, the next one last
        self._turns = 0
        self._served: dict[str, int] = {}  # subject -> the number of its last turn

    def work(self, committer: Committer, now: float) -> None:
        """License what waits, each token in its turn, as far as gate and pace allow; end what is too old (R8)."""
        if not self._permit.proven(now) or not self._book.queued or self.held:
            return
        at = database_now(committer)
        for family in self._looked_at():
            self._ended(committer, family, at)
        if self._permit.gate_open(now) and self._permit.halted is None and self._licences.room(now):
            self._license(committer, now, at)

    def _license(self, committer: Committer, now: float, at: datetime) -> None:
        """License what may go, until there is no room; a symbol whose pace is full keeps all that is behind in it (R9)."""
        full = set[str]()
        for family in in_turn(self._front(), self._served):
            symbol, count = family[0].symbol, len(family)
            if symbol in full or self._ended(committer, family, at):
                continue
            if not self._parents_sent(family) or any(self._licences.frozen(o) for o in family):
                continue
            if not self._licences.room(now, count):
                return
            if not self._licences.take(symbol, now, count):
                full.add(symbol)
                continue
            self._turns += 1
            self._served[family[0].subject] = self._turns
            self._decide(committer, Kind.ORDER_LICENSED, self._licences.issue([o.id for o in family]), family)

    def _ended(self, committer: Committer, family: Sequence[Order], at: datetime) -> bool:
        """Whether the family is not to be licensed: it is being decided, or is ended here, cancelled or too old (R8)."""
        if any(order.id in self._licences.deciding for order in family):
            return True
        if cancelled := [o for o in family if o.cancel_requested]:  # while being licensed, and then not written
            self._decide(committer, Kind.ORDER_CANCELLED, {o.id: {"reason": UNSENT} for o in cancelled}, cancelled)
            return True
        late = {o.id: why for o in family if (why := intent.too_old(o, at, self._settings.max_intent_age))}
        if not late:
            return False
        first = next(o for o in family if o.id in late)  # one member's age ends them all: half a family is none
        rest = f"its family waited with {first.client_order_id or first.id}: {late[first.id]}"
        reasons = {o.id: {"reason": late.get(o.id, rest)} for o in family}
        self._decide(committer, Kind.ORDER_EXPIRED, reasons, family)
        return True

    def _front(self) -> list[Order]:
        """The first EACH of each subject's, in order of acceptance, and nothing that stands behind what is left out, be it in its
        subject's line or in its contract's (R9).

        Left out at once is what is kept for its contract's sake: thousands of these behind one break are nobody's front.
        """
        done, behind, counts = dict[str, str | None](), set[tuple[str, str]](), dict[str, int]()
        held, kept, front = dict[tuple[str, str], str | None](), set[str](), list[Order]()
        orders = self._book.orders
        for oid in self._book.queued:
            order = orders[oid]
            subject, contract, family = order.subject, (order.account, order.symbol), order.extra.get(TOGETHER)
            if contract in behind or (subject in done and (family is None or family != done[subject])):
                done[subject] = None
                behind.add(contract)
                continue
            if contract not in held:
                held[contract] = self._held_by(contract)
            by, parent = held[contract], order.extra.get(PARENT)
            if by is not None and order.extra.get("break_id") != by and (parent is None or parent in kept):
                kept.add(oid)
                continue
            front.append(order)
            if parent is None or not self._licences.frozen(order):
                counts[subject] = counts.get(subject, 0) + 1
                if counts[subject] >= EACH:
                    done[subject] = family
        return front

    def _held_by(self, contract: tuple[str, str]) -> str | None:
        """The break that holds the contract, "" where a doubt about it is being decided, None where nothing does."""
        if contract in self._licences.second_look:
            return ""
        hold = self._book.holding(*contract)
        return None if hold is None else hold.id

    def _looked_at(self) -> list[list[Order]]:
        """Whose ages and cancels this tick looks at: all that waits, or of a long queue a part in turn.

        The event loop is not kept busy by a queue of many thousands. A family of which a part lies elsewhere waits for the tick
        that sees all of it.
        """
        queued = self._book.queued
        if len(queued) <= AT_ONCE:
            return units(self._book.orders[oid] for oid in queued)
        if not self._round:
            self._round = list(queued)[::-1]
        turn = [self._round.pop() for _ in range(min(AT_ONCE, len(self._round)))]
        while self._round and self._together(turn[-1], self._round[-1]):
            turn.append(self._round.pop())
        seen = units(self._book.orders[oid] for oid in turn if oid in queued)
        return [family for family in seen if self._whole(family)]

    def _together(self, one: str, other: str) -> bool:
        names = [o.extra.get(TOGETHER) for oid in (one, other) if (o := self._book.orders.get(oid)) is not None]
        return len(names) == 2 and names[0] is not None and names[0] == names[1]

    def _whole(self, family: Sequence[Order]) -> bool:
        members = {order.id for order in family}
        name = family[0].extra.get(TOGETHER)
        if name is None:
            return True
        near = {kin for oid in (name, *members) for kin in (oid, *self._book.children.get(oid, ()))}
        others = (self._book.orders[oid] for oid in near - members if oid in self._book.orders)
        return not any(o.state is State.QUEUED and o.extra.get(TOGETHER) == name for o in others)

    def _parents_sent(self, family: Sequence[Order]) -> bool:
        """Whether no parent of these waits for a licence of its own."""
        members = {order.id for order in family}
        parents = (parent_of(order, self._book.orders) for order in family)
        return not any(p is not None and p.state is State.QUEUED and p.id not in members for p in parents)

    def end(self, committer: Committer, reason: str) -> None:
        """End every order that waits, by rule: none of them is sent any more."""
        waiting = [self._book.orders[oid] for oid in self._book.queued if oid not in self._licences.deciding]
        for order in waiting:
            self.follow_up(committer, Kind.ORDER_EXPIRED, {"reason": reason}, order)

    @property
    def held(self) -> bool:
        """Whether everything is held: a database that went back may call QUEUED what was sent (R18), and nobody says it was not."""
        return "holding" in self._permit.shut

    def follow_up(self, committer: Committer, kind: Kind, payload: dict[str, Any], order: Order) -> None:
        """Commit what the desk decided about an order; until that is known, the order is nobody else's to decide about."""
        self._decide(committer, kind, {order.id: payload}, [order])

    def _decide(
        self, committer: Committer, kind: Kind, payloads: Mapping[str, dict[str, Any]], orders: Sequence[Order]
    ) -> None:
        """`follow_up` for orders that belong together: one commit, all or none."""

        def done(outcome: Outcome, events: Sequence[Event], _why: str) -> None:
            self._licences.deciding.difference_update(payloads)
            if outcome is Outcome.COMMITTED:
                self._carry_out(events)
            self._licences.unwritten.difference_update(payloads)

        self._licences.deciding.update(payloads)
        drafts = [intent.follow_up(kind, payloads[order.id], order, utcnow()) for order in orders]
        committer.submit(drafts, done)


def database_now(committer: Committer | None) -> datetime:
    """The time by the database's clock, as of the last proof (R8)."""
    offset = committer.database_offset if committer is not None else None
    return utcnow() + timedelta(seconds=offset or 0.0)
