"""An operator says which of the broker's orders a doubtful one is: whether the snapshot bears it out, and what is written. Pure.

The broker's order must be shown, be of the same account, contract, side, type and quantity, and be nobody else's of ours. Where it
was recorded as somebody else's, that record ends and its executions are moved; positions stay what they are.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from engine.book import Book
from engine.broker import ExecutionFact, OpenOrder
from engine.events import Draft, Kind
from engine.evidence import execution_draft
from engine.order import ZERO, Order
from engine.unconfirmed import by_gateway
from reconcile.differences import Evidence
from reconcile.snapshot import COMPLETED_ORDERS, ENDED, EXECUTIONS, OPEN_ORDERS, Identity, Snapshot, unbooked


class CannotAdopt(Exception):
    """Why the broker's order is not taken as the doubtful one, a sentence."""


@dataclass(frozen=True, slots=True)
class Adoption:
    """One request: this order in doubt is the broker's order `perm_id`, says `subject`."""

    order: Order
    perm_id: int
    subject: str
    correlation_id: str
    at: datetime

    def draft(self, kind: Kind, payload: dict[str, Any], order_id: str | None = None) -> Draft:
        """An event of it, in the operator's name."""
        return Draft(kind, payload, self.at, order_id or self.order.id, self.subject, self.correlation_id)


def adoption(book: Book, snapshot: Snapshot, me: Identity, asked: Adoption) -> list[Draft]:
    """The events that carry it out, in an order that folds, without the end of the break. Raises CannotAdopt."""
    seen = _evidence(snapshot, asked.perm_id)
    _check_whole(snapshot, asked)
    if not seen.present:
        raise CannotAdopt(
            f"The snapshot shows no order, open or completed, and no execution with permId {asked.perm_id}."
        )
    external = _check_owner(book, me, asked, seen)
    for what in _all(seen):
        _check_fits(asked.order, what)
    booked = [
        e for e in book.executions.values()
        if e.perm_id == asked.perm_id and e.order_id in (None, external.id if external else None)
    ]  # fmt: skip
    coming = [fact for fact, known in unbooked(book, seen.executions) if known is None]
    traded = sum((e.quantity for e in booked), ZERO) + sum((f.quantity for f in coming), ZERO)
    _check_amount(asked.order, seen, traded)
    drafts = []
    if external is not None:
        merged = {"into": asked.order.id, "reason": f"it is order {asked.order.id}, says {asked.subject}"}
        drafts.append(asked.draft(Kind.ORDER_MERGED, merged, external.id))
    drafts.append(asked.draft(Kind.ORDER_ADOPTED, _taken(me, asked, seen) | {
        "from": external.id if external is not None else None, "executions": [[e.account, e.root] for e in booked],
    }))  # fmt: skip
    drafts += [asked.draft(Kind.EXECUTION, execution_draft(fact, asked.order).payload) for fact in coming]
    return [*drafts, *_end(asked, seen, traded)]


def _evidence(snapshot: Snapshot, perm_id: int) -> Evidence:
    def mine(facts: tuple[OpenOrder, ...]) -> tuple[OpenOrder, ...]:
        return tuple(fact for fact in facts if fact.perm_id == perm_id)

    traded = tuple(fact for fact in snapshot.executions if fact.perm_id == perm_id)
    return Evidence(mine(snapshot.open_orders), mine(snapshot.completed_orders), traded)


def _check_whole(snapshot: Snapshot, asked: Adoption) -> None:
    if not snapshot.came(OPEN_ORDERS, COMPLETED_ORDERS, EXECUTIONS):
        raise CannotAdopt(f"The snapshot is not complete, permId {asked.perm_id} cannot be judged by it: try again.")


def _check_owner(book: Book, me: Identity, asked: Adoption, seen: Evidence) -> Order | None:
    """The external record of it, None where there is none. Raises CannotAdopt where it is another order of ours."""
    owners = {book.by_perm_id.get(asked.perm_id)}
    owners |= {own.id for fact in _all(seen) if (own := me.own(fact.reference)) is not None}
    owners |= {e.order_id for e in book.executions.values() if e.perm_id == asked.perm_id}
    external = None
    for oid in sorted(owners - {None, asked.order.id}, key=str):
        found = book.orders.get(oid or "")
        if found is None or not found.external:
            raise CannotAdopt(f"PermId {asked.perm_id} belongs to order {oid}.")
        external = found
    return external


def _all(seen: Evidence) -> Iterator[OpenOrder | ExecutionFact]:
    yield from seen.open
    yield from seen.completed
    yield from seen.executions


def _check_fits(order: Order, fact: OpenOrder | ExecutionFact) -> None:
    contract, wrong = fact.contract, []
    for name, ours, theirs in (
        ("account", order.account, fact.account), ("side", order.side, fact.side), ("symbol", order.symbol, contract.symbol),
        ("sec_type", order.sec_type, contract.sec_type), ("currency", order.currency, contract.currency),
        ("con_id", order.con_id or contract.con_id, contract.con_id),
        ("order_type", order.order_type, fact.order_type if isinstance(fact, OpenOrder) else order.order_type),
    ):  # fmt: skip
        if ours != theirs:
            wrong.append(f"{name} {theirs}, not {ours}")
    if wrong:
        raise CannotAdopt(f"The broker's order {fact.perm_id} has another {'; another '.join(wrong)}.")


def _check_amount(order: Order, seen: Evidence, traded: Decimal) -> None:
    fact = seen.shown
    whole = fact.quantity if fact is not None and fact.quantity else seen.traded
    if whole is not None and whole != order.quantity:
        raise CannotAdopt(f"The broker's order is of {whole}, order {order.id} of {order.quantity}.")
    if traded > order.quantity:
        raise CannotAdopt(f"The broker's order traded {traded}, order {order.id} is of {order.quantity}.")


def _taken(me: Identity, asked: Adoption, seen: Evidence) -> dict[str, Any]:
    """Its ids; the orderId only where it is in our own number space: only then can we cancel it."""
    own = (f.broker_order_id for f in _all(seen) if f.client_id == me.client_id and f.broker_order_id)
    con_id = next((f.contract.con_id for f in _all(seen)), 0)
    status = seen.shown.status if seen.shown is not None else None
    return by_gateway(status) | {
        "perm_id": asked.perm_id, "broker_order_id": next(own, None), "con_id": con_id or None,
        "status": status,
        "reason": f"it is the broker's order {asked.perm_id}, says {asked.subject}",
    }  # fmt: skip


def _end(asked: Adoption, seen: Evidence, traded: Decimal) -> list[Draft]:
    """What ends it, where completed orders show that it ended before it was filled."""
    end = seen.end
    if end is None or end.status not in ENDED or traded >= asked.order.quantity:
        return []
    if end.status == "Inactive" and not traded:
        return [
            asked.draft(Kind.ORDER_REJECTED, {"perm_id": asked.perm_id, "reason": end.text or "inactive at the broker"})
        ]
    return [asked.draft(Kind.ORDER_CANCELLED, {"perm_id": asked.perm_id, "reason": "cancelled at the broker"})]
