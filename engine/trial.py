"""Try events against the book before they are committed, so that the log never holds one that the fold refuses. Pure.

There is one writer and its book stands at the head of the log, so what passes here folds everywhere. A group that does not
pass was decided on a state that has changed since: it is refused, and nothing is written. The trial is the fold itself, run on
copies of what a group touches; beside that it refuses what the fold would pass over (an execution that is booked already, a
break that is not open), because the database would refuse it or because its author was mistaken.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from itertools import islice
from typing import Any

from engine.book import Book
from engine.digest import Entity
from engine.errors import IllegalTransition
from engine.events import Draft, Kind, place
from engine.fold import contradiction
from engine.order import Order
from engine.position import Execution, execution_root

_FIRST = frozenset({Kind.ORDER_ACCEPTED, Kind.ORDER_EXTERNAL, Kind.ORDER_RESTORED})


class _Layer(Book):
    """Copies of what some groups touch. It keeps no digest and no order of ids: nobody reads them here. Of the indexes only the
    one by permId, and only of what the groups changed."""

    loose_added = 0  # executions of no order among them

    def count(self, entity: Entity) -> None:
        """Nothing: a trial has no digest."""

    def touch(self, kind: str, key: object) -> None:
        """Nothing: no table is written from a trial."""

    def _index(self, order: Order) -> None:
        if order.perm_id:
            self.by_perm_id[order.perm_id] = order.id

    def evict(self) -> tuple[str, ...]:
        """Nothing: a trial is small."""
        return ()

    def take_over(self, other: _Layer) -> None:
        """Stand where `other` stands, for all that it touched."""
        for mine, its in (
            (self.orders, other.orders), (self.keys, other.keys), (self.executions, other.executions),
            (self.exec_by_id, other.exec_by_id), (self.breaks, other.breaks), (self.by_perm_id, other.by_perm_id),
        ):  # fmt: skip
            mine.update(its)  # type: ignore[arg-type]
        for break_id in other.breaks:
            self.open_breaks.pop(break_id, None)
        self.open_breaks.update(other.open_breaks)
        self.order_id_floor = other.order_id_floor
        self.commands = other.commands
        self.keep_ended = other.keep_ended
        self.loose_added += other.loose_added


class Trial:
    """One statement's worth of groups, tried in order. The book itself is never written."""

    def __init__(self, book: Book) -> None:
        self._book = book
        self._passed: _Layer | None = None  # what the groups that passed have made of it

    def refuses(self, drafts: Sequence[Draft]) -> str | None:
        """Why this group would not fold now, or None; the trial then stands behind it."""
        layer = _Layer()
        layer.order_id_floor = (self._passed or self._book).order_id_floor
        layer.commands = (self._passed or self._book).commands
        layer.keep_ended = (self._passed or self._book).keep_ended
        try:
            for draft in drafts:
                self._bring(layer, draft)
                layer.apply(place(draft, layer.seq + 1, 0))
                layer.loose_added += draft.kind is Kind.EXECUTION and draft.order_id is None
        except (IllegalTransition, ValueError) as error:
            return str(error)
        except Exception as error:  # noqa: BLE001 - whatever the fold raises here it would raise after the commit
            return f"{draft.kind} cannot be folded: {type(error).__name__}: {error}"
        if self._passed is None:
            self._passed = layer
        else:
            self._passed.take_over(layer)
        return None

    # ---- copies of what a draft touches, and what the fold would pass over

    def _bring(self, layer: _Layer, draft: Draft) -> None:
        payload = draft.payload
        if draft.order_id is not None:
            self._bring_order(layer, draft.order_id)
            if draft.order_id not in layer.orders and draft.kind not in _FIRST | {Kind.ORDER_RECALLED}:
                raise ValueError(f"there is no order {draft.order_id}")
        if draft.kind in _FIRST:
            self._bring_key(layer, (draft.subject or "", payload.get("client_order_id")))
        elif draft.kind is Kind.ORDER_RECALLED:
            self._recalled(layer, draft)
        elif draft.kind is Kind.EXECUTION:
            self._execution(layer, draft)
        elif draft.kind is Kind.COMMISSION:
            if (key := self._known(layer, "exec_by_id", payload["exec_id"])) is not None:
                layer.exec_by_id[payload["exec_id"]] = key
                self._bring_execution(layer, key)
        elif draft.kind is Kind.ORDER_ADOPTED:
            self._adopted(layer, draft)
        elif draft.kind in (Kind.BREAK_OPENED, Kind.BREAK_RESOLVED):
            self._bring_break(layer, payload["id"])
            if draft.kind is Kind.BREAK_RESOLVED and payload["id"] not in layer.open_breaks:
                raise ValueError(f"break {payload['id']} is not open")

    def _recalled(self, layer: _Layer, draft: Draft) -> None:
        keys = [(values["account"], values["root"]) for values in draft.payload["executions"]]
        if draft.order_id in layer.orders or any(self._known(layer, "executions", key) for key in keys):
            raise ValueError(f"order {draft.order_id} is in memory")

    def _adopted(self, layer: _Layer, draft: Draft) -> None:
        perm_id = draft.payload["perm_id"]
        holder = self._known(layer, "orders", self._known(layer, "by_perm_id", perm_id))
        if holder is not None and not holder.external and holder.perm_id == perm_id and holder.id != draft.order_id:
            raise ValueError(f"permId {perm_id} belongs to order {holder.id}")
        for account, root in draft.payload["executions"]:
            execution = self._bring_execution(layer, (account, root))
            if execution is not None and execution.order_id is not None:
                self._bring_order(layer, execution.order_id)

    def _execution(self, layer: _Layer, draft: Draft) -> None:
        exec_id = draft.payload["exec_id"]
        root, revision = execution_root(exec_id)
        old = self._bring_execution(layer, (draft.payload["account"], root))
        if old is None:
            if (left := self._book.evicted.revision(draft.payload["account"], root)) is not None:
                raise ValueError(f"execution {exec_id} left memory in revision {left}: it must be recalled first")
            return
        if old.revision >= revision:
            raise ValueError(f"execution {exec_id} is booked already")
        if old.order_id is not None:
            self._bring_order(layer, old.order_id)
        new = dataclasses.replace(old, exec_id=exec_id, con_id=draft.payload["con_id"], side=draft.payload["side"])
        if (why := contradiction(old, new)) is not None:
            raise ValueError(why)

    def _known(self, layer: _Layer, what: str, key: Any) -> Any:
        """The newest of what `key` names: of this group, of the groups that passed, of the book."""
        for book in (layer, self._passed, self._book):
            if book is not None and (found := getattr(book, what).get(key)) is not None:
                return found
        return None

    # The book lets go of what ended while the events of this statement are folded, one by one: what a draft is about may have left
    # by then, and the log would hold an event that nobody can fold.

    def _must_stay(self, layer: _Layer, oid: str) -> None:
        """Raises ValueError when the drafts before this one may push that order out of memory."""
        book, passed = self._book, self._passed
        now = layer.orders.get(oid) or (passed.orders.get(oid) if passed is not None else None)
        if (now is not None and not now.final) or (layer.seq == 0 and passed is None):
            return  # it goes on, by a draft before this one
        if now is None and oid not in book.ended:
            return
        tried = (passed.orders if passed is not None else {}) | layer.orders
        breaks = (passed.breaks if passed is not None else {}) | layer.breaks
        ended = sum(o.final and o.id not in book.ended and o.id not in book.detained for o in tried.values())
        if ended or any(found.resolved_at is not None for found in breaks.values()):
            ended += len(book.detained)  # they may leave as if they had ended now
        over = len(book.ended) + ended - layer.keep_ended
        if oid in islice(book.ended, max(0, over)) or (oid not in book.ended and over > len(book.ended)):
            raise ValueError(f"order {oid} leaves memory with an event before this one: it must be recalled first")

    def _must_stay_loose(self, layer: _Layer, key: tuple[str, str]) -> None:
        """The same of an execution of no order."""
        loose, passed = self._book.loose, self._passed
        if key not in loose or (layer.seq == 0 and passed is None):
            return
        added = layer.loose_added + (passed.loose_added if passed is not None else 0)
        if key in islice(loose, max(0, len(loose) + added - layer.keep_ended)):
            raise ValueError(
                f"execution {key[1]} leaves memory with an event before this one: it must be recalled first"
            )

    def _bring_order(self, layer: _Layer, oid: str) -> None:
        self._must_stay(layer, oid)
        if oid not in layer.orders and (order := self._known(layer, "orders", oid)) is not None:
            layer.orders[oid] = order.copy()

    def _bring_key(self, layer: _Layer, key: tuple[str, str | None]) -> None:
        if (oid := self._known(layer, "keys", key)) is not None:
            layer.keys[key[0], key[1] or ""] = oid

    def _bring_execution(self, layer: _Layer, key: tuple[str, str]) -> Execution | None:
        self._must_stay_loose(layer, key)
        if key not in layer.executions and (execution := self._known(layer, "executions", key)) is not None:
            layer.executions[key] = dataclasses.replace(execution)
        return layer.executions.get(key)

    def _bring_break(self, layer: _Layer, break_id: str) -> None:
        if break_id not in layer.breaks and (found := self._known(layer, "breaks", break_id)) is not None:
            layer.breaks[break_id] = dataclasses.replace(found)
            if found.resolved_at is None:
                layer.open_breaks[break_id] = layer.breaks[break_id]
