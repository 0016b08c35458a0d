"""Try events against the book before they are committed, so that the log never holds one that the fold refuses. Pure.

There is one writer and its book stands at the head of the log, so what passes here folds everywhere. A group that does not
pass was decided on a state that has changed since: it is refused, and nothing is written. The trial is the fold itself, run on
copies of what a group touches; beside that it refuses what the fold would pass over (an execution that is booked already, a
break that is not open), because the database would refuse it or because its author was mistaken.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from engine.book import Book
from engine.digest import Entity
from engine.events import Draft, Kind, place
from engine.fold import contradiction
from engine.position import Break, Execution, execution_root


class Trial:
    """One statement's worth of groups, tried in order. `book` itself is never written."""

    def __init__(self, book: Book) -> None:
        self._base = [book]  # the book, and above it what the groups that passed have made of it

    def refuses(self, drafts: Sequence[Draft]) -> str | None:
        """Why this group would not fold now, or None; the trial then stands behind it."""
        layer = _Layer()
        try:
            for draft in drafts:
                self._try(layer, draft)
        except Exception as error:  # noqa: BLE001 - whatever the fold raises here it would raise after the commit
            return str(error) if isinstance(error, ValueError | _MOVE) else f"{type(error).__name__}: {error}"
        if drafts:
            self._stand_behind(layer)
        return None

    def _try(self, layer: _Layer, draft: Draft) -> None:
        oid, payload = draft.order_id, draft.payload
        if oid is not None:
            self._bring_order(layer, oid)
            if oid not in layer.orders and draft.kind not in _FIRST:
                raise ValueError(f"there is no order {oid}")
        if draft.kind is Kind.EXECUTION:
            self._try_execution(layer, draft)
        elif draft.kind is Kind.COMMISSION:
            self._bring_execution_of(layer, payload["exec_id"])
        elif draft.kind in (Kind.BREAK_OPENED, Kind.BREAK_RESOLVED):
            self._bring_break(layer, payload["id"])
            if draft.kind is Kind.BREAK_RESOLVED and payload["id"] not in layer.open_breaks:
                raise ValueError(f"break {payload['id']} is not open")
        elif draft.kind in _FIRST:
            self._bring_key(layer, (draft.subject or "", payload.get("client_order_id")))
        layer.apply(place(draft, layer.seq + 1, 0))

    def _try_execution(self, layer: _Layer, draft: Draft) -> None:
        payload = draft.payload
        root, revision = execution_root(payload["exec_id"])
        key = (payload["account"], root)
        old = self._bring_execution(layer, key)
        if old is None:
            return
        if old.revision >= revision:
            raise ValueError(f"execution {payload['exec_id']} is booked already")
        if old.order_id is not None:
            self._bring_order(layer, old.order_id)
        named = dataclasses.replace(old, exec_id=payload["exec_id"], con_id=payload["con_id"], side=payload["side"])
        if (why := contradiction(old, named)) is not None:
            raise ValueError(why)

    # ---- copies of what a draft touches

    def _bring_order(self, layer: _Layer, oid: str) -> None:
        if oid in layer.orders:
            return
        for book in reversed(self._base):
            if (order := book.orders.get(oid)) is not None:
                layer.orders[oid] = order.copy()
                return

    def _bring_key(self, layer: _Layer, key: tuple[str, str | None]) -> None:
        if key[1] is None:
            return
        for book in reversed(self._base):
            if (oid := book.keys.get((key[0], key[1]))) is not None:
                layer.keys[key[0], key[1]] = oid
                return

    def _bring_execution_of(self, layer: _Layer, exec_id: str) -> None:
        for book in (layer, *reversed(self._base)):
            if (key := book.exec_by_id.get(exec_id)) is not None:
                self._bring_execution(layer, key)
                layer.exec_by_id[exec_id] = key
                return

    def _bring_execution(self, layer: _Layer, key: tuple[str, str]) -> Execution | None:
        if key not in layer.executions:
            for book in reversed(self._base):
                if (execution := book.executions.get(key)) is not None:
                    layer.executions[key] = dataclasses.replace(execution)
                    break
        return layer.executions.get(key)

    def _bring_break(self, layer: _Layer, break_id: str) -> None:
        if break_id in layer.breaks:
            return
        for book in reversed(self._base):
            found: Break | None = book.breaks.get(break_id)
            if found is not None:
                layer.breaks[break_id] = dataclasses.replace(found)
                if break_id in book.open_breaks:
                    layer.open_breaks[break_id] = layer.breaks[break_id]
                return

    def _stand_behind(self, layer: _Layer) -> None:
        if len(self._base) == 1:
            self._base.append(layer)
            return
        passed = self._base[1]
        passed.orders.update(layer.orders)
        passed.keys.update(layer.keys)
        passed.executions.update(layer.executions)
        passed.exec_by_id.update(layer.exec_by_id)
        passed.breaks.update(layer.breaks)
        for break_id in layer.breaks:
            passed.open_breaks.pop(break_id, None)
        passed.open_breaks.update(layer.open_breaks)
