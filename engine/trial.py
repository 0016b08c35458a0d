"""Try events against the book before they are committed, so that the log never holds one that the fold refuses. Pure.

There is one writer and its book stands at the head of the log, so what passes here folds everywhere. A group that does not
pass was decided on a state that has changed since: it is refused, and nothing is written.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from decimal import Decimal

from engine.book import Book
from engine.errors import IllegalTransition
from engine.events import Draft, Kind
from engine.order import Order, State, next_state, settle
from engine.position import execution_root

_NEW = frozenset({Kind.ORDER_ACCEPTED, Kind.ORDER_EXTERNAL, Kind.ORDER_RESTORED})
_MOVES = frozenset(
    {
        Kind.ORDER_LICENSED, Kind.ORDER_UNLICENSED, Kind.ORDER_WORKING, Kind.ORDER_CANCELLED, Kind.ORDER_REJECTED,
        Kind.ORDER_EXPIRED, Kind.ORDER_IN_DOUBT,
    }
)  # fmt: skip


class Trial:
    """One statement's worth of groups, tried in order on copies of the orders that they touch."""

    def __init__(self, book: Book) -> None:
        self._book = book
        self._orders: dict[str, Order | None] = {}  # None: new in this statement
        self._revisions: dict[tuple[str, str], int] = {}

    def refuses(self, drafts: Sequence[Draft]) -> str | None:
        """Why this group would not fold now, or None; the trial then stands behind it."""
        kept_orders, kept_revisions = dict(self._orders), dict(self._revisions)
        try:
            for draft in drafts:
                self._try(draft)
        except (IllegalTransition, ValueError) as error:
            self._orders, self._revisions = kept_orders, kept_revisions
            return str(error)
        return None

    def _try(self, draft: Draft) -> None:
        if draft.kind in _NEW:
            if draft.order_id in self._orders or draft.order_id in self._book.orders:
                raise ValueError(f"order {draft.order_id} is in the ledger already")
            self._orders[draft.order_id or ""] = None
        elif draft.kind is Kind.EXECUTION:
            self._execution(draft)
        elif draft.kind is Kind.BREAK_RESOLVED and draft.payload["id"] not in self._book.open_breaks:
            raise ValueError(f"break {draft.payload['id']} is not open")
        elif draft.kind in _MOVES:
            order = self._copy(draft)
            if order is not None:
                order.state = next_state(order.state, draft.kind)
                settle_after(order, draft.kind)

    def _execution(self, draft: Draft) -> None:
        root, revision = execution_root(draft.payload["exec_id"])
        key = (draft.payload["account"], root)
        old = self._book.executions.get(key)
        known = self._revisions.get(key, old.revision if old else -1)
        if known >= revision:
            raise ValueError(f"execution {draft.payload['exec_id']} is booked already")
        self._revisions[key] = revision
        order = self._copy(draft) if draft.order_id is not None else None
        if order is not None:
            order.state = next_state(order.state, Kind.EXECUTION)
            order.filled += Decimal(draft.payload["quantity"]) - (old.quantity if old else 0)
            settle(order)

    def _copy(self, draft: Draft) -> Order | None:
        oid = draft.order_id or ""
        if oid not in self._orders:
            if oid not in self._book.orders:
                raise ValueError(f"there is no order {oid}")
            self._orders[oid] = copy.copy(self._book.orders[oid])
        return self._orders[oid]


def settle_after(order: Order, kind: Kind) -> None:
    """The fold settles after evidence of work only."""
    if kind is Kind.ORDER_WORKING and order.state is not State.FILLED:
        settle(order)
