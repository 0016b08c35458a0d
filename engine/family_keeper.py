"""Carries out what the table of `family.py` says about brackets, once the session's reconciliation is over and while it goes on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime

from loguru import logger

from engine import intent
from engine.book import Book
from engine.breaks import break_id
from engine.cancel import Cancels
from engine.clock import Clock, utcnow
from engine.commit import Committer, Outcome
from engine.events import Draft, Event, Kind
from engine.family import CLOSED, DOUBTS, PARENT, SURFACED, Act, Family, Ruling, keys_of, names_of, rule
from engine.family_kept import kin, stranded
from engine.licences import Licences
from engine.order import Order
from engine.permit import Permit

NAKED = "naked"


class FamilyKeeper:
    """Looks at the families that something happened to. `carry_out` writes the cancels that its commits license."""

    def __init__(
        self,
        book: Book,
        permit: Permit,
        licences: Licences,
        cancels: Cancels,
        carry_out: Callable[[Sequence[Event]], None],
        clock: Clock,
    ) -> None:
        self._book, self._permit, self._licences, self._cancels = book, permit, licences, cancels
        self._carry_out, self._clock = carry_out, clock
        self._unsettled: dict[str, None] = {}  # ids of parents of whose family something is to be looked at
        self._committing: set[str] = set()  # parents about whose family something is on its way to the log
        book.observers.append(self._applied)

    def begin(self) -> None:
        """A term begins."""
        self._committing.clear()

    def session_opened(self) -> None:
        """What a dead session was asked to cancel may be asked for anew: look at every family with an open member."""
        for order in self._book.open_orders():
            self._touch(order)
        for found in self._book.open_breaks.values():
            if found.kind == NAKED and found.order_id is not None:
                self._unsettled[found.order_id] = None

    @property
    def unsettled(self) -> bool:
        """Whether there is a family to look at."""
        return bool(self._unsettled)

    def _applied(self, event: Event) -> None:
        order = self._book.orders.get(event.order_id or "")
        if order is not None and (PARENT in order.extra or order.id in self._book.children):
            self._touch(order)
            if order.final:
                self._forget_settled(order)

    def _touch(self, order: Order) -> None:
        if order.id in self._book.children:
            self._unsettled[order.id] = None
        if (parent := order.extra.get(PARENT)) is not None:
            self._unsettled[parent] = None

    def _forget_settled(self, order: Order) -> None:
        """A standby looks at no family: it forgets those of which everything has ended as it should."""
        for oid in (order.id, order.extra.get(PARENT, "")):
            family = self._family(oid, utcnow()) if oid in self._unsettled else None
            if family is None or family.is_naked or not all(o.final for o in (family.parent, *family.children)):
                continue
            if not rule(family):
                del self._unsettled[oid]

    def tick(self, committer: Committer) -> None:
        """Do what the table says now. Not before the session's reconciliation is over: until then the ledger is behind."""
        permit = self._permit
        if not self._unsettled or permit.session is None or not permit.proven(self._clock()):
            return
        if "reconciling" in permit.shut or "holding" in permit.shut:
            return
        now = utcnow()
        for oid in [oid for oid in self._unsettled if oid not in self._committing]:
            family = self._family(oid, now)
            rulings = rule(family) if family is not None else []
            if family is None or (not rulings and not family.is_naked):
                del self._unsettled[oid]
            elif rulings and family.parent.contract_key not in self._licences.second_look:
                self._do(committer, family, rulings)

    def _family(self, oid: str, now: datetime) -> Family | None:
        orders = self._book.orders
        parent = orders.get(oid)
        if parent is None:
            return None
        children = [orders[child] for child in self._book.children.get(oid, ()) if child in orders]
        held = self._book.positions.get((parent.account, parent.con_id))
        naked = [b for b in self._book.breaks.values() if b.kind == NAKED and b.order_id == oid]
        doubts = [
            b for b in self._book.breaks.values()
            if b.kind in DOUBTS and (b.order_id == oid or (b.kind == "position" and (b.account, b.symbol) == parent.contract_key))
        ]  # fmt: skip
        members = [parent, *children]
        all_of_it = kin(parent, orders, self._book.children) if any(o.kept for o in members) else []
        return Family(
            parent, children, naked, None if held is None else held.quantity, self._permit.session, now,
            frozenset(o.id for o in members if stranded(o, all_of_it)), doubts,
        )  # fmt: skip

    def _do(self, committer: Committer, family: Family, rulings: Sequence[Ruling]) -> None:
        drafts: list[Draft] = []
        ending: list[str] = []
        cancelling: list[str] = []
        for ruling in rulings:
            for order in ruling.orders:
                if ruling.row.act is Act.END and order.id not in self._licences.deciding:
                    ending.append(order.id)
                    drafts.append(_draft(Kind.ORDER_CANCELLED, {"reason": ended_because(family, ruling)}, order))
                elif ruling.row.act is Act.CANCEL:
                    licence = self._cancels.licence(order)
                    if licence:
                        cancelling.append(order.id)
                    if licence or self._cancels.must_be_asked(order):
                        drafts.append(_draft(Kind.CANCEL_REQUESTED, licence | {"reason": ruling.row.name}, order))
            drafts += self._about_break(family, ruling)
        if drafts:
            logger.warning(
                "order {}'s family: {}", family.parent.id,
                ", ".join(f"{r.row.name} ({' '.join(o.id for o in r.orders)})" for r in rulings),
            )  # fmt: skip
            self._commit(committer, family.parent.id, drafts, ending, cancelling)

    def _about_break(self, family: Family, ruling: Ruling) -> list[Draft]:
        parent = family.parent
        if ruling.row.act is Act.NAKED:
            payload = {
                "id": break_id(NAKED, parent.id, self._book.seq), "kind": NAKED, "symbol": parent.symbol,
                "account": parent.account, "holds": family.holds,
                "ours": {
                    "side": parent.side, "filled": str(parent.filled), "without_exit": str(family.exposed),
                    "missing": keys_of(family.unprotected), "why": names_of(family.unprotected),
                    "exits": names_of(o for o in family.exits if not o.final and o not in family.unprotected) or None,
                },
                "broker": {"position": None if family.position is None else str(family.position)},
            }  # fmt: skip
            return [_draft(Kind.BREAK_OPENED, payload, parent)]
        if ruling.row.act is Act.CLEAR:
            said = CLOSED if family.exposed <= 0 else SURFACED
            return [
                _draft(Kind.BREAK_RESOLVED, {"id": b.id, "resolution": said}, parent)
                for b in family.naked if b.resolved_at is None
            ]  # fmt: skip
        return []

    def _commit(
        self, committer: Committer, oid: str, drafts: list[Draft], ending: list[str], cancelling: list[str]
    ) -> None:
        def done(outcome: Outcome, events: Sequence[Event], _why: str) -> None:
            self._committing.discard(oid)
            self._licences.deciding.difference_update(ending)
            if outcome is Outcome.COMMITTED:
                self._carry_out(events)
            for one in cancelling:
                self._cancels.decided(one)

        self._committing.add(oid)
        self._licences.deciding.update(ending)
        for one in cancelling:
            self._cancels.coming(one)
        committer.submit(drafts, done)


def ended_because(family: Family, ruling: Ruling) -> str:
    """What an order that was never sent is told."""
    if ruling.row.name == "parent_over":
        parent = family.parent
        return f"never sent: its parent {parent.client_order_id or parent.id} is {parent.state}"
    return f"never sent: its family is not whole ({names_of(family.missing)})"


def _draft(kind: Kind, payload: dict[str, object], order: Order) -> Draft:
    return intent.follow_up(kind, payload, order, utcnow())
